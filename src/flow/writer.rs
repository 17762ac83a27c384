//! Collects records into batches and hands them to the fan-out.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::budget::{Budget, Permit};
use super::progress::Progress;
use crate::record::{Batch, BatchBuilder, Mark, Origin, Position, Seq, StateEntry, Txn};

/// Where a batch goes. The fan-out implements it.
pub trait Deliver: Send + Sync {
    /// Numbers the batch and queues it for its sinks. Never waits.
    fn deliver(&self, draft: Draft) -> Seq;
    /// Up to here, what batches were marked with is in the offset store.
    fn stored(&self) -> watch::Receiver<Seq>;
    /// Whether some sink has nothing left to do: waiting for a fuller batch would only add latency.
    fn is_idle(&self) -> bool;
    /// Notified whenever a sink becomes idle.
    fn idle(&self) -> &Notify;
}

/// A batch that has everything but its number.
pub struct Draft {
    pub origin: Origin,
    pub mark: Mark,
    builder: BatchBuilder,
    permit: Permit,
}

impl Draft {
    pub fn number(self, seq: Seq) -> Batch {
        self.builder.build(seq, self.mark, Some(Box::new(self.permit)))
    }
}

/// The door between a source and the pipeline.
#[derive(Clone)]
pub struct Outlet {
    pub budget: Budget,
    pub progress: Arc<Progress>,
    deliver: Arc<dyn Deliver>,
}

impl Outlet {
    pub fn new(budget: Budget, deliver: Arc<dyn Deliver>, progress: Arc<Progress>) -> Self {
        Outlet { budget, progress, deliver }
    }

    /// Waits until the batch is durable in all its sinks and what it was marked with is in the offset store.
    pub async fn stored(&self, seq: Seq) {
        if self.deliver.stored().wait_for(|stored| *stored >= seq).await.is_err() {
            // Nobody stores any more: the pipeline is ending, and with it whoever waits here.
            std::future::pending().await
        }
    }
}

/// A full batch: large enough that its cost per row vanishes, small enough to stay in a core's cache between the
/// reader and the sink.
const BATCH_MAX_BYTES: usize = 256 * 1024;
/// From here on a commit ends the batch.
const BATCH_COMMIT_BYTES: usize = 64 * 1024;
/// A batch is at most this part of the budget, so that a small budget still holds several.
const BUDGET_BATCHES: usize = 8;

pub struct BatchWriter {
    outlet: Outlet,
    origin: Origin,
    builder: BatchBuilder,
    /// The transaction that is open; a new batch goes on with it.
    open: Option<Txn>,
    position: Option<Position>,
    /// State that becomes true at the next position.
    staged: Vec<StateEntry>,
    /// State that becomes true with this batch.
    progress: Vec<StateEntry>,
    max_bytes: usize,
}

impl BatchWriter {
    pub fn new(outlet: Outlet, origin: Origin) -> Self {
        let max_bytes = BATCH_MAX_BYTES.min(outlet.budget.total_bytes() / BUDGET_BATCHES);
        BatchWriter {
            outlet,
            origin,
            builder: BatchBuilder::new(origin),
            open: None,
            position: None,
            staged: Vec::new(),
            progress: Vec::new(),
            max_bytes,
        }
    }

    /// For the records of the open transaction.
    #[inline]
    pub fn batch(&mut self) -> &mut BatchBuilder {
        &mut self.builder
    }

    /// Opens a transaction without announcing it (snapshot rows, a message outside a transaction).
    pub fn open(&mut self, txn: Txn) {
        self.builder.txn(txn.clone());
        self.open = Some(txn);
    }

    pub fn begin(&mut self, txn: Txn) {
        self.open(txn);
        self.builder.begin();
    }

    /// `ordinal`: one more than that of the transaction's last record.
    pub fn commit(&mut self, ordinal: u64, resume: Position) {
        self.builder.commit(ordinal);
        self.close(resume);
    }

    /// Ends the open transaction, if any; the stream resumes at `resume` once all up to here is durable.
    pub fn close(&mut self, resume: Position) {
        self.open = None;
        self.position = Some(resume);
    }

    pub fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// State to store together with the next position: it is true only for a stream that resumes behind it.
    pub fn stage(&mut self, entry: StateEntry) {
        self.staged.push(entry);
    }

    /// State to store as soon as this batch is durable.
    pub fn progress(&mut self, entry: StateEntry) {
        self.progress.push(entry);
    }

    /// Whether the batch should be sent now. `unframed_bytes`: scanned bytes not yet handed over as a frame.
    #[inline]
    pub fn is_full(&self, unframed_bytes: usize) -> bool {
        let bytes = self.builder.bytes() + unframed_bytes;
        bytes >= self.max_bytes
            || (self.open.is_none() && self.position.is_some() && bytes >= BATCH_COMMIT_BYTES)
            || self.builder.tables_full()
    }

    /// Whether sending now would deliver something new: records, a position, or state.
    pub fn has_news(&self) -> bool {
        !self.builder.is_empty() || self.position.is_some() || !self.progress.is_empty()
    }

    /// Whether a complete transaction waits here: worth sending as soon as a sink is idle.
    pub fn has_commit(&self) -> bool {
        self.open.is_none() && self.position.is_some()
    }

    pub fn sinks_idle(&self) -> bool {
        self.outlet.deliver.is_idle()
    }

    /// Waits until some sink is idle. Cancel-safe.
    pub fn sink_idle(&self) -> impl Future<Output = ()> + use<> {
        let deliver = self.outlet.deliver.clone();
        async move {
            loop {
                let notified = deliver.idle().notified();
                let mut notified = std::pin::pin!(notified);
                notified.as_mut().enable();
                if deliver.is_idle() {
                    return;
                }
                notified.await;
            }
        }
    }

    /// Waits for the budget to hold the batch as it stands. Cancel-safe; nothing is sent yet.
    pub fn permit(&self) -> impl Future<Output = Permit> + use<> {
        let (budget, bytes) = (self.outlet.budget.clone(), self.builder.bytes());
        async move { budget.take(bytes).await }
    }

    /// Whether state still waits for a position.
    pub fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// The state that waits for a position, to be stored by somebody else who has one.
    pub fn take_staged(&mut self) -> Vec<StateEntry> {
        std::mem::take(&mut self.staged)
    }

    /// Sends the batch. Every scanned byte must have been handed over as a frame.
    pub fn send(&mut self, permit: Permit) -> Seq {
        let mut next = BatchBuilder::new(self.origin);
        let mut mark = Mark { position: None, state: std::mem::take(&mut self.progress) };
        match &self.open {
            Some(txn) => next.txn(txn.clone()),
            // Catching up is part of a snapshot: only its end is a place to resume from.
            None if self.origin == Origin::CatchUp => self.position = None,
            None => {
                mark.position = self.position.take();
                if mark.position.is_some() {
                    mark.state.append(&mut self.staged);
                }
            }
        }
        let builder = std::mem::replace(&mut self.builder, next);
        self.outlet.deliver.deliver(Draft { origin: self.origin, mark, builder, permit })
    }
}
