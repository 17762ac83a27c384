//! Collects records into batches and hands them to the fan-out.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::budget::{Budget, Permit};
use super::progress::Progress;
use crate::record::{Batch, BatchBuilder, Fill, Mark, Origin, Position, Seq, StateEntry, Txn};

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

/// A place within a transaction; of no use behind its end.
#[derive(Clone, Copy, Debug)]
pub struct Within {
    sent: u64,
    fill: Fill,
}

pub struct BatchWriter {
    outlet: Outlet,
    origin: Origin,
    builder: BatchBuilder,
    /// The transaction that is open; a new batch goes on with it.
    open: Option<Txn>,
    /// Where the open transaction's records begin in the builder; none once a batch took some of them.
    opened_at: Option<Fill>,
    position: Option<Position>,
    /// A transaction ended, and its position is to be made when the batch is sent.
    position_due: bool,
    /// Batches sent so far.
    sent: u64,
    /// State that becomes true at the next position.
    staged: Vec<StateEntry>,
    /// State that becomes true with this batch.
    progress: Vec<StateEntry>,
    /// Of catching up: what says how far that is.
    caught_up: Option<CaughtUp>,
    max_bytes: usize,
}

/// How it is stored that what an interrupted snapshot has finished stands at a position.
pub type CaughtUp = fn(&Position) -> Option<StateEntry>;

impl BatchWriter {
    pub fn new(outlet: Outlet, origin: Origin) -> Self {
        let max_bytes = BATCH_MAX_BYTES.min(outlet.budget.total_bytes() / BUDGET_BATCHES);
        BatchWriter {
            outlet,
            origin,
            builder: BatchBuilder::new(origin),
            open: None,
            opened_at: None,
            position: None,
            position_due: false,
            sent: 0,
            staged: Vec::new(),
            progress: Vec::new(),
            caught_up: None,
            max_bytes,
        }
    }

    /// For the changes that bring an interrupted snapshot up to its new point. `caught_up` is stored with every batch that ends
    /// with a transaction: whoever goes on from there need not be given the same again.
    pub fn catching_up(outlet: Outlet, caught_up: CaughtUp) -> Self {
        BatchWriter { caught_up: Some(caught_up), ..BatchWriter::new(outlet, Origin::CatchUp) }
    }

    /// From here on it is not stored how far catching up is: something was found that only its end can deal with.
    pub fn stay(&mut self) {
        self.caught_up = None;
    }

    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// For the records of the open transaction.
    #[inline]
    pub fn batch(&mut self) -> &mut BatchBuilder {
        &mut self.builder
    }

    /// Opens a transaction without announcing it (snapshot rows, a message outside a transaction).
    pub fn open(&mut self, txn: Txn) {
        self.opened_at = Some(self.builder.fill());
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
        self.position_due = false;
    }

    /// As [`Self::commit`], for a source whose positions are dear: it makes one when [`Self::wants_position`] asks.
    pub fn commit_unplaced(&mut self, ordinal: u64) {
        self.builder.commit(ordinal);
        self.close_unplaced();
    }

    /// As [`Self::close`], see [`Self::commit_unplaced`].
    pub fn close_unplaced(&mut self) {
        self.open = None;
        self.position_due = true;
    }

    /// Whether [`Self::close`] must come before [`Self::send`].
    pub fn wants_position(&self) -> bool {
        self.open.is_none() && self.position_due
    }

    /// The open transaction never came to an end: takes its records back. False where some of them have been sent.
    pub fn retract(&mut self) -> bool {
        if self.open.take().is_none() {
            return true;
        }
        match self.opened_at.take() {
            Some(fill) => {
                self.builder.cut(fill);
                true
            }
            None => false,
        }
    }

    /// Where the open transaction has come to, for [`Self::retract_to`].
    pub fn within(&self) -> Within {
        Within { sent: self.sent, fill: self.builder.fill() }
    }

    /// Takes back what the open transaction has added since. False, and nothing is taken back, where some of it may have
    /// been sent.
    pub fn retract_to(&mut self, within: Within) -> bool {
        let here = within.sent == self.sent;
        if here {
            self.builder.cut(within.fill);
        }
        here
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
        bytes >= self.max_bytes || (self.has_commit() && bytes >= BATCH_COMMIT_BYTES) || self.builder.tables_full()
    }

    /// Whether sending now would deliver something new: records, a position, or state.
    pub fn has_news(&self) -> bool {
        !self.builder.is_empty() || self.position.is_some() || self.position_due || !self.progress.is_empty()
    }

    /// Whether a complete transaction waits here: worth sending as soon as a sink is idle.
    pub fn has_commit(&self) -> bool {
        self.open.is_none() && (self.position.is_some() || self.position_due)
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
        debug_assert!(!self.wants_position(), "a batch is sent that ends with a transaction and has no position");
        let mut next = BatchBuilder::new(self.origin);
        let mut mark = Mark { position: None, state: std::mem::take(&mut self.progress) };
        match &self.open {
            Some(txn) => {
                next.txn(txn.clone());
                self.opened_at = None;
            }
            // Catching up is part of a snapshot: only its end is a place to resume a stream from.
            None if self.origin == Origin::CatchUp => {
                let position = self.position.take();
                let caught_up = self.caught_up.zip(position).and_then(|(entry, position)| entry(&position));
                if let Some(entry) = caught_up {
                    mark.state.append(&mut self.staged);
                    mark.state.push(entry);
                }
            }
            None => {
                mark.position = self.position.take();
                if mark.position.is_some() {
                    mark.state.append(&mut self.staged);
                }
            }
        }
        self.sent += 1;
        let builder = std::mem::replace(&mut self.builder, next);
        if self.outlet.progress.is_watched() {
            self.outlet.progress.traffic.count(&builder);
        }
        self.outlet.deliver.deliver(Draft { origin: self.origin, mark, builder, permit })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::record::Lsn;

    /// Keeps the batches it gets.
    #[derive(Default)]
    struct Kept {
        batches: Mutex<Vec<Batch>>,
        idle: Notify,
    }

    impl Deliver for Kept {
        fn deliver(&self, draft: Draft) -> Seq {
            self.batches.lock().unwrap().push(draft.number(Seq(1)));
            Seq(1)
        }
        fn stored(&self) -> watch::Receiver<Seq> {
            watch::channel(Seq(0)).1
        }
        fn is_idle(&self) -> bool {
            true
        }
        fn idle(&self) -> &Notify {
            &self.idle
        }
    }

    fn at(lsn: u64) -> Position {
        Position::Postgres(Lsn(lsn))
    }

    fn begin(writer: &mut BatchWriter, commit: u64) {
        writer.begin(Txn { commit: at(commit), id: None, commit_unix_micros: None });
        let start = writer.batch().cells_start();
        writer.batch().cells_mut().extend([crate::record::Cell::at(0, 0); 2]);
        writer.batch().message(start, true, 1);
    }

    async fn send(writer: &mut BatchWriter) {
        let permit = writer.permit().await;
        writer.send(permit);
    }

    fn writer() -> (BatchWriter, Arc<Kept>) {
        let kept = Arc::new(Kept::default());
        (BatchWriter::new(Outlet::new(Budget::new(1 << 20), kept.clone(), Arc::default()), Origin::Stream), kept)
    }

    #[tokio::test]
    async fn what_never_ended_is_taken_back_unless_it_was_sent() {
        let (mut writer, kept) = writer();
        begin(&mut writer, 10);
        writer.commit(2, at(11));
        begin(&mut writer, 20);
        assert!(writer.retract());
        begin(&mut writer, 30);
        writer.batch().frame(bytes::Bytes::new());
        send(&mut writer).await;
        assert!(!writer.retract(), "it is out");
        let batches = kept.batches.lock().unwrap();
        let commits: Vec<String> = batches[0].records().map(|record| record.txn.commit.to_string()).collect();
        assert_eq!(commits, ["0/A", "0/A", "0/A", "0/1E", "0/1E"]);
        assert!(batches[0].mark.position.is_none(), "it ends inside a transaction");
    }

    fn caught_up(position: &Position) -> Option<StateEntry> {
        Some(StateEntry { key: b"point".to_vec(), value: Some(position.to_string().into_bytes()) })
    }

    #[tokio::test]
    async fn how_far_catching_up_is_stands_with_what_it_delivered() {
        let kept = Arc::new(Kept::default());
        let outlet = Outlet::new(Budget::new(1 << 20), kept.clone(), Arc::default());
        let mut writer = BatchWriter::catching_up(outlet, caught_up);
        let commit = |writer: &mut BatchWriter, at_lsn| {
            begin(writer, at_lsn);
            writer.batch().frame(bytes::Bytes::new());
            writer.commit(2, at(at_lsn + 1));
        };
        let shape = StateEntry { key: b"shape".to_vec(), value: Some(Vec::new()) };
        writer.stage(shape.clone());
        commit(&mut writer, 0x10);
        send(&mut writer).await;
        commit(&mut writer, 0x20);
        begin(&mut writer, 0x30);
        writer.batch().frame(bytes::Bytes::new());
        send(&mut writer).await;
        writer.commit(2, at(0x31));
        send(&mut writer).await;
        // A row is to be read again, which only the end does.
        writer.stay();
        writer.stage(shape.clone());
        commit(&mut writer, 0x40);
        send(&mut writer).await;
        let batches = kept.batches.lock().unwrap();
        let marks: Vec<_> = batches.iter().map(|batch| batch.mark.clone()).collect();
        let stands = |state| Mark { position: None, state };
        let point = |lsn| caught_up(&at(lsn)).unwrap();
        let none = Vec::new;
        assert_eq!(
            marks,
            [stands(vec![shape.clone(), point(0x11)]), stands(none()), stands(vec![point(0x31)]), stands(none()),]
        );
        assert_eq!(writer.take_staged(), [shape], "the end has it");
    }

    #[tokio::test]
    async fn a_part_is_taken_back_unless_it_was_sent() {
        let (mut writer, kept) = writer();
        let message = |writer: &mut BatchWriter, ordinal| {
            let start = writer.batch().cells_start();
            writer.batch().cells_mut().extend([crate::record::Cell::at(0, 0); 2]);
            writer.batch().message(start, true, ordinal);
        };
        begin(&mut writer, 10);
        let savepoint = writer.within();
        writer.batch().frame(bytes::Bytes::new());
        message(&mut writer, 2);
        assert!(writer.batch().wants_frame());
        writer.batch().frame(bytes::Bytes::new());
        assert!(writer.retract_to(savepoint));
        // As many as were taken back: they point into a frame of their own all the same.
        message(&mut writer, 3);
        assert!(writer.batch().wants_frame());
        writer.batch().frame(bytes::Bytes::new());
        assert!(!writer.batch().wants_frame());
        send(&mut writer).await;
        assert!(!writer.retract_to(savepoint), "it is out");
        let batches = kept.batches.lock().unwrap();
        assert_eq!(batches[0].records().map(|record| record.ordinal).collect::<Vec<_>>(), [0, 1, 3]);
    }

    #[tokio::test]
    async fn a_position_is_made_once_a_batch() {
        let (mut writer, kept) = writer();
        for commit in [10, 20] {
            begin(&mut writer, commit);
            writer.batch().frame(bytes::Bytes::new());
            assert!(!writer.wants_position());
            writer.commit_unplaced(2);
            assert!(writer.wants_position() && writer.has_commit() && writer.has_news());
        }
        writer.close(at(21));
        assert!(!writer.wants_position());
        send(&mut writer).await;
        assert!(!writer.has_news());
        assert_eq!(kept.batches.lock().unwrap()[0].mark.position, Some(at(21)));
    }
}
