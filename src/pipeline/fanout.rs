//! Hands each batch to every sink of its audience and to every consumer at the live edge, and collects what they
//! acknowledge.
//!
//! Invariants:
//! - Numbering and queueing happen under one lock: every queue has the order of `Seq`.
//! - A consumer begins behind a batch that ends a transaction, never inside one.
//! - One that cannot take a batch is no member any more when `deliver` returns.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc, watch};

use super::acks::{Acks, Audience, MemberId};
use super::hub::{Appetite, Queue, QueueEnd};
use crate::flow::{Deliver, Draft};
use crate::offset::OffsetUpdate;
use crate::record::{Batch, Origin, Position, Seq};

pub struct Fanout {
    inner: Mutex<Inner>,
    /// Of each sink, the batches queued or being written.
    pending: Vec<AtomicUsize>,
    /// Of consumers. Its `changed` is notified too when a sink has nothing left to do.
    appetite: Arc<Appetite>,
    /// Notified when something may have become storable.
    acked: Notify,
    /// Takes that have been stored; none when nothing is stored any more.
    takes_stored: watch::Sender<Option<u64>>,
    /// What was marked up to here has been stored.
    stored: watch::Sender<Seq>,
    /// Whether nothing more will be delivered.
    closed: watch::Sender<bool>,
    /// Whether batches are for consumers alone, of which there may be none.
    without_sinks: bool,
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
    /// The one reader of a lane: the sink behind those with queues.
    remote: Option<Arc<Queue>>,
    members: Vec<Member>,
    last_member: u64,
    /// Where the stream stands; none until it has begun.
    edge: Option<Position>,
    /// Whether a part of a transaction was delivered behind the edge.
    inside: bool,
    closed: bool,
    /// Who gets the rows of a snapshot.
    rows: Audience,
}

/// A consumer at the live edge.
struct Member {
    id: MemberId,
    queue: Arc<Queue>,
    /// Its name, where it is durable.
    durable: Option<String>,
    /// Where it began; none while it waits for the end of a transaction.
    began: Option<Position>,
}

impl Fanout {
    /// One queue for each of the first `sinks` sinks of `acks`, in its order. A queue of `capacity` batches never fills up: each
    /// batch holds at least one unit of a budget of so many. `remote`: reads what one more sink is to get.
    pub fn new(
        acks: Acks,
        sinks: usize,
        capacity: usize,
        remote: Option<(Arc<Queue>, Arc<Appetite>)>,
    ) -> (Arc<Self>, Vec<mpsc::Receiver<Arc<Batch>>>) {
        let (queues, receivers) = (0..sinks).map(|_| mpsc::channel(capacity)).map(|(tx, rx)| (Some(tx), rx)).unzip();
        let (remote, appetite) = remote.unzip();
        let without_sinks = sinks == 0 && remote.is_none();
        let inner = Inner {
            last_seq: Seq(0),
            last_marked: Seq(0),
            takes: 0,
            acks,
            delivered: None,
            queues,
            remote,
            members: Vec::new(),
            last_member: 0,
            edge: None,
            inside: false,
            closed: false,
            rows: Audience::Participants,
        };
        let fanout = Fanout {
            inner: Mutex::new(inner),
            pending: (0..sinks).map(|_| AtomicUsize::new(0)).collect(),
            appetite: appetite.unwrap_or_default(),
            acked: Notify::new(),
            takes_stored: watch::channel(Some(0)).0,
            stored: watch::channel(Seq(0)).0,
            closed: watch::channel(false).0,
            without_sinks,
        };
        (Arc::new(fanout), receivers)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lets the workers end once they have written what is queued. Consumers are ended; a lane's reader reads on.
    pub fn close(&self) {
        let mut inner = self.inner();
        inner.closed = true;
        inner.queues.iter_mut().for_each(|queue| *queue = None);
        inner.members.drain(..).for_each(|member| member.queue.end(QueueEnd::Closed));
        if let Some(remote) = inner.remote.take() {
            remote.end(QueueEnd::Finished);
        }
        self.closed.send_replace(true);
    }

    /// Whether it was closed.
    pub fn closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// Where the stream resumes after everything delivered, by this process, so far.
    pub fn delivered(&self) -> Option<Position> {
        self.inner().delivered.clone()
    }

    /// The snapshot that comes next is of added tables, and for every sink.
    pub fn rows_for_all_sinks(&self) {
        self.inner().rows = Audience::Sinks;
    }

    /// The stream begins there; or it goes on there, after a break.
    pub fn begins_at(&self, from: &Position) {
        let mut inner = self.inner();
        if inner.edge.is_none() {
            inner.edge = Some(from.clone());
            self.begin_members(&mut inner);
        }
    }

    /// Where the stream stands: behind the last whole transaction delivered. None until it has begun.
    pub fn edge(&self) -> Option<Position> {
        self.inner().edge.clone()
    }

    /// Of queues for [`Self::join`].
    pub fn appetite(&self) -> Arc<Appetite> {
        self.appetite.clone()
    }

    /// Makes a consumer a member from the next boundary on; `durable`: its name, where it is. None when the stream has ended.
    pub fn join(&self, durable: Option<&str>, queue: &Arc<Queue>) -> Option<MemberId> {
        let mut inner = self.inner();
        if inner.closed {
            return None;
        }
        inner.last_member += 1;
        let id = MemberId(inner.last_member);
        let durable = durable.map(str::to_owned);
        inner.members.push(Member { id, queue: queue.clone(), durable, began: None });
        if !inner.inside && inner.edge.is_some() {
            self.begin_members(&mut inner);
        }
        Some(id)
    }

    /// As [`Self::join`], at once, for a consumer that holds everything before `position`: none unless that is all there is.
    pub fn join_at(&self, durable: Option<&str>, queue: &Arc<Queue>, position: &Position) -> Option<MemberId> {
        let mut inner = self.inner();
        let up_to_date = inner.edge.as_ref().is_some_and(|edge| position.reaches(edge));
        if !up_to_date || inner.inside || inner.closed {
            return None;
        }
        inner.last_member += 1;
        let id = MemberId(inner.last_member);
        let durable = durable.map(str::to_owned);
        inner.members.push(Member { id, queue: queue.clone(), durable, began: None });
        self.begin_members(&mut inner);
        inner.acks.enter(id, position);
        drop(inner);
        self.acked.notify_one();
        Some(id)
    }

    /// Here is a boundary: those who wait for one begin.
    fn begin_members(&self, inner: &mut Inner) {
        let Some(edge) = inner.edge.clone() else { return };
        let seq = inner.last_seq;
        for member in inner.members.iter_mut().filter(|member| member.began.is_none()) {
            member.began = Some(edge.clone());
            if let Some(name) = &member.durable {
                inner.acks.join(member.id, name, seq, edge.clone());
            }
        }
    }

    /// Where a member began; none while it waits for that, and when it is no member.
    pub fn began(&self, id: MemberId) -> Option<Position> {
        let inner = self.inner();
        inner.members.iter().find(|member| member.id == id).and_then(|member| member.began.clone())
    }

    /// A durable member holds everything before `position`, and stands on its own from now on.
    pub fn enter(&self, id: MemberId, position: &Position) {
        self.inner().acks.enter(id, position);
        self.acked.notify_one();
    }

    /// A consumer goes; returns when what it leaves behind is stored. False: nothing is stored any more.
    pub async fn leave(&self, id: MemberId) -> bool {
        let take = self.goes(id);
        self.taken(take).await
    }

    /// As [`Self::leave`], without waiting: says which take stores it.
    pub fn goes(&self, id: MemberId) -> u64 {
        let take = {
            let mut inner = self.inner();
            inner.members.retain(|member| {
                if member.id == id {
                    member.queue.end(QueueEnd::Dropped);
                }
                member.id != id
            });
            inner.acks.leave(id);
            inner.takes + 1
        };
        self.acked.notify_one();
        take
    }

    /// Returns when a take has been stored that includes everything up to now. False: nothing is stored any more.
    async fn taken(&self, take: u64) -> bool {
        let mut stored = self.takes_stored.subscribe();
        let stored = stored.wait_for(|stored| stored.is_none_or(|stored| stored >= take)).await;
        stored.is_ok_and(|stored| stored.is_some())
    }

    /// A consumer holds everything up to `seq` durably.
    pub fn consumer_durable(&self, id: MemberId, seq: Seq) {
        self.inner().acks.consumer_durable(id, seq);
        self.acked.notify_one();
    }

    /// Where a live durable consumer stands.
    pub fn position_of(&self, name: &str) -> Option<Position> {
        self.inner().acks.position_of(name)
    }

    /// See [`Acks::hold`].
    pub fn hold(&self, name: &str, position: Option<Position>) {
        self.inner().acks.hold(name, position);
        self.acked.notify_one();
    }

    /// See [`Acks::advance_hold`].
    pub fn advance_hold(&self, name: &str, position: Position) {
        self.inner().acks.advance_hold(name, position);
        self.acked.notify_one();
    }

    /// Whether the reader of a lane holds everything that it was given.
    pub fn is_remote_done(&self) -> bool {
        let inner = self.inner();
        inner.acks.is_durable(self.pending.len(), inner.last_seq)
    }

    /// A sink has taken the batch (accepted, not durable).
    pub fn written(&self, sink: usize) {
        if self.pending[sink].fetch_sub(1, Ordering::AcqRel) == 1 {
            self.appetite.changed.notify_waiters();
        }
    }

    /// How many batches a sink has been given and has not written.
    pub fn queued(&self, sink: usize) -> usize {
        self.pending[sink].load(Ordering::Acquire)
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
        self.taken(take).await
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

    fn deliver_to_members(&self, inner: &mut Inner, batch: &Arc<Batch>) {
        let acks = &mut inner.acks;
        let mut left = false;
        inner.members.retain(|member| {
            let stays = member.began.is_none() || member.queue.push(batch.clone());
            if !stays && member.durable.is_some() {
                left = true;
                acks.leave(member.id);
            }
            stays
        });
        if left {
            self.acked.notify_one();
        }
        match &batch.mark.position {
            Some(position) => {
                (inner.edge, inner.inside) = (Some(position.clone()), false);
                self.begin_members(inner);
            }
            None => inner.inside = true,
        }
    }
}

impl Deliver for Fanout {
    fn deliver(&self, draft: Draft) -> Seq {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let audience = match draft.origin {
            Origin::Snapshot | Origin::CatchUp => inner.rows,
            Origin::Stream => Audience::All,
        };
        let seq = Seq(inner.last_seq.0 + 1);
        inner.last_seq = seq;
        let batch = Arc::new(draft.number(seq));
        inner.acks.sent(seq, audience, batch.mark.clone());
        if !batch.mark.is_empty() {
            inner.last_marked = seq;
        }
        let boundary = batch.mark.position.as_ref();
        if boundary.is_some() {
            inner.delivered = boundary.cloned();
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
        if let Some(remote) = &inner.remote
            && inner.acks.is_in(self.pending.len(), audience)
        {
            remote.push(batch.clone());
        }
        if audience == Audience::All {
            self.deliver_to_members(inner, &batch);
        }
        if self.without_sinks {
            self.acked.notify_one();
        }
        seq
    }

    fn stored(&self) -> watch::Receiver<Seq> {
        self.stored.subscribe()
    }

    fn is_idle(&self) -> bool {
        self.pending.iter().any(|pending| pending.load(Ordering::Acquire) == 0)
            || self.appetite.is_hungry()
            || (self.without_sinks && !self.appetite.has_readers())
    }

    fn idle(&self) -> &Notify {
        &self.appetite.changed
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
        let (fanout, _queues) = Fanout::new(acks, 1, 8, None);
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
