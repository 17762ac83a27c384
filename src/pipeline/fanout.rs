//! Hands each batch to every sink of its audience, and collects what they acknowledge.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc, watch};

use super::acks::{Acks, Audience};
use crate::flow::{Deliver, Draft};
use crate::offset::OffsetUpdate;
use crate::record::{Batch, Origin, Position, Seq};

pub struct Fanout {
    inner: Mutex<Inner>,
    /// Of each sink, the batches queued or being written.
    pending: Vec<AtomicUsize>,
    /// Notified when a sink has nothing left to do.
    idle: Notify,
    /// Notified when something may have become storable.
    acked: Notify,
    /// Takes that have been stored; none when nothing is stored any more.
    takes_stored: watch::Sender<Option<u64>>,
    /// What was marked up to here has been stored.
    stored: watch::Sender<Seq>,
}

/// What has become storable.
pub struct Storable {
    pub update: OffsetUpdate,
    /// What may be confirmed once the update is stored.
    pub confirmable: Option<Position>,
    take: u64,
    upto: Seq,
}

struct Inner {
    last_seq: Seq,
    last_marked: Seq,
    takes: u64,
    acks: Acks,
    /// Where the stream would resume after everything delivered so far.
    delivered: Option<Position>,
    queues: Vec<Option<mpsc::Sender<Arc<Batch>>>>,
}

impl Fanout {
    /// One queue for each sink of `acks`, in its order. A queue of `capacity` batches never fills up: each batch holds
    /// at least one unit of a budget of so many.
    pub fn new(acks: Acks, sinks: usize, capacity: usize) -> (Arc<Self>, Vec<mpsc::Receiver<Arc<Batch>>>) {
        let (queues, receivers) = (0..sinks).map(|_| mpsc::channel(capacity)).map(|(tx, rx)| (Some(tx), rx)).unzip();
        let inner = Inner { last_seq: Seq(0), last_marked: Seq(0), takes: 0, acks, delivered: None, queues };
        let fanout = Fanout {
            inner: Mutex::new(inner),
            pending: (0..sinks).map(|_| AtomicUsize::new(0)).collect(),
            idle: Notify::new(),
            acked: Notify::new(),
            takes_stored: watch::channel(Some(0)).0,
            stored: watch::channel(Seq(0)).0,
        };
        (Arc::new(fanout), receivers)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lets the workers end once they have written what is queued.
    pub fn close(&self) {
        self.inner().queues.iter_mut().for_each(|queue| *queue = None);
    }

    /// Where the stream resumes after everything delivered, by this process, so far.
    pub fn delivered(&self) -> Option<Position> {
        self.inner().delivered.clone()
    }

    /// A sink has taken the batch (accepted, not durable).
    pub fn written(&self, sink: usize) {
        if self.pending[sink].fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }

    pub fn durable(&self, sink: usize, seq: Seq, token: Option<Vec<u8>>) {
        self.inner().acks.durable(sink, seq, token);
        self.acked.notify_one();
    }

    /// A sink was opened and stands at `token`. Returns when that is stored: only then may it be written to, or a crash soon
    /// after would leave records that nothing cuts off. False: nothing is stored any more.
    pub async fn opened(&self, sink: usize, token: Option<Vec<u8>>) -> bool {
        let take = {
            let mut inner = self.inner();
            inner.acks.opened(sink, token);
            inner.takes + 1
        };
        self.acked.notify_one();
        let mut stored = self.takes_stored.subscribe();
        let stored = stored.wait_for(|stored| stored.is_none_or(|stored| stored >= take)).await;
        stored.is_ok_and(|stored| stored.is_some())
    }

    pub fn reached(&self, sink: usize, position: Position, token: Option<Vec<u8>>) {
        self.inner().acks.reached(sink, position, token);
        self.acked.notify_one();
    }

    pub async fn acked(&self) {
        self.acked.notified().await;
    }

    /// What became storable since the last call.
    pub fn take(&self) -> Storable {
        let mut inner = self.inner();
        inner.takes += 1;
        let upto = inner.acks.waiting().map_or(inner.last_seq, |waiting| Seq(waiting.0 - 1));
        Storable { update: inner.acks.take(), confirmable: inner.acks.confirmable(), take: inner.takes, upto }
    }

    /// What was taken is in the store.
    pub fn stored(&self, storable: &Storable) {
        self.takes_stored.send_replace(Some(storable.take));
        self.stored.send_replace(storable.upto);
    }

    /// Nothing will be stored any more.
    pub fn store_failed(&self) {
        self.takes_stored.send_replace(None);
    }

    /// What may be confirmed at the start, when everything known comes from the store.
    pub fn confirmable(&self) -> Option<Position> {
        self.inner().acks.confirmable()
    }

    /// Whether every mark delivered so far has been stored.
    pub fn is_drained(&self) -> bool {
        *self.stored.borrow() >= self.inner().last_marked
    }
}

impl Deliver for Fanout {
    fn deliver(&self, draft: Draft) -> Seq {
        let audience = match draft.origin {
            Origin::Snapshot | Origin::CatchUp => Audience::Participants,
            Origin::Stream => Audience::All,
        };
        // Numbering and queueing under one lock: every queue has the order of Seq.
        let mut inner = self.inner();
        let seq = Seq(inner.last_seq.0 + 1);
        inner.last_seq = seq;
        let batch = Arc::new(draft.number(seq));
        inner.acks.sent(seq, audience, batch.mark.clone());
        if !batch.mark.is_empty() {
            inner.last_marked = seq;
        }
        if batch.mark.position.is_some() {
            inner.delivered = batch.mark.position.clone();
        }
        for (sink, pending) in self.pending.iter().enumerate() {
            if !inner.acks.is_in(sink, audience) {
                continue;
            }
            let Some(queue) = &inner.queues[sink] else { continue };
            pending.fetch_add(1, Ordering::AcqRel);
            if queue.try_send(batch.clone()).is_err() {
                // The worker is gone; the pipeline sees its error. Nothing is acknowledged for it.
                pending.fetch_sub(1, Ordering::AcqRel);
            }
        }
        seq
    }

    fn stored(&self) -> watch::Receiver<Seq> {
        self.stored.subscribe()
    }

    fn is_idle(&self) -> bool {
        self.pending.iter().any(|pending| pending.load(Ordering::Acquire) == 0)
    }

    fn idle(&self) -> &Notify {
        &self.idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{BatchWriter, Budget, Outlet};
    use crate::record::{SinkOffset, StateEntry};

    /// A snapshot that goes on reads the store: what is only about to be there would be missing from its progress.
    #[tokio::test]
    async fn drained_is_when_it_is_stored() {
        let acks = Acks::new([("a".to_owned(), SinkOffset::default(), true)]);
        let (fanout, _queues) = Fanout::new(acks, 1, 8);
        assert!(fanout.is_drained());
        let outlet = Outlet::new(Budget::new(1 << 20), fanout.clone(), Arc::default());
        let mut writer = BatchWriter::new(outlet, Origin::Snapshot);
        writer.progress(StateEntry { key: vec![1], value: None });
        let permit = writer.permit().await;
        writer.send(permit);
        assert!(!fanout.is_drained(), "not durable");
        fanout.durable(0, Seq(1), None);
        assert!(!fanout.is_drained(), "not taken");
        let storable = fanout.take();
        assert_eq!(storable.update.state.len(), 1);
        assert!(!fanout.is_drained(), "not stored");
        fanout.stored(&storable);
        assert!(fanout.is_drained());
    }
}
