//! What one client is given: batches of one stage after another, each record once, and what it acknowledges of them.
//!
//! Invariants:
//! - Deliveries are numbered from 1 without gaps. An acknowledgement of one is passed on to the stage that still waits for it:
//!   of a delivery whose stage is over, to the next stage, which brought the same records again.
//! - Between two stages no record is repeated and none is missing: what comes again is skipped by its order key. (Rows of a
//!   snapshot have none, and come again.)
//! - After the end, nothing is delivered and no acknowledgement counts.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use tokio::sync::{Notify, watch};

use super::api::{Ended, Event};
use super::queue::{Popped, Queue};
use crate::error::Error;
use crate::flow::{Member, Progress};
use crate::pipeline::acks::MemberId;
use crate::pipeline::fanout::Fanout;
use crate::record::owed::TableName;
use crate::record::{Batch, Commits, Origin, Position, Seq};
use crate::sink::Delivery;

/// Who waits for a client's acknowledgements.
pub enum Target {
    /// A member of the main stream; none where it is ephemeral.
    Live(Option<(Arc<Fanout>, MemberId)>),
    /// The reader of a lane.
    Lane(Arc<OnceLock<Arc<Fanout>>>),
}

impl Target {
    fn durable(&self, seq: Seq) {
        match self {
            Target::Live(Some((fanout, id))) => fanout.consumer_durable(*id, seq),
            Target::Live(None) => {}
            Target::Lane(fanout) => {
                if let Some(fanout) = fanout.get() {
                    fanout.durable(0, seq, None);
                }
            }
        }
    }
}

/// Where batches come from for a while.
pub struct Stage {
    pub queue: Arc<Queue>,
    pub target: Target,
    /// The client holds everything before it.
    pub from: Option<Position>,
}

enum Next {
    Stage(Arc<Stage>),
    Rewind(Option<Position>),
}

pub struct Feed {
    inner: Mutex<Inner>,
    /// Tells the client's side that there may be something.
    pub news: Arc<Notify>,
    /// Whether the client takes what it gets.
    pub reading: watch::Sender<bool>,
    /// Whether the client's side is over, or is to be.
    pub over: watch::Sender<bool>,
    durable: bool,
    max_unacked: usize,
    /// Where it is told how far a durable consumer is, of the main stream that is up.
    shown: Mutex<Option<(Arc<Member>, Arc<Progress>)>>,
}

struct Inner {
    next: VecDeque<Next>,
    ended: Option<Option<Ended>>,
    sent: u64,
    unacked: VecDeque<Unacked>,
    /// The order key of the last record delivered.
    delivered: Option<(Position, u64)>,
    from: Option<Position>,
    /// Behind the last whole transaction delivered.
    position: Option<Position>,
    /// Added tables whose rows an ephemeral one is to be given.
    owed: BTreeSet<TableName>,
}

struct Unacked {
    number: u64,
    stage: Arc<Stage>,
    seq: Seq,
    records: usize,
    commits: Commits,
    position: Option<Position>,
}

impl Feed {
    pub fn new(durable: bool, max_unacked: usize) -> Arc<Self> {
        Arc::new(Feed {
            inner: Mutex::new(Inner {
                next: VecDeque::new(),
                ended: None,
                sent: 0,
                unacked: VecDeque::new(),
                delivered: None,
                from: None,
                position: None,
                owed: BTreeSet::new(),
            }),
            news: Arc::default(),
            reading: watch::channel(true).0,
            over: watch::channel(false).0,
            durable,
            max_unacked,
            shown: Mutex::default(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The client holds everything before it.
    pub fn begins_at(&self, position: Option<Position>) {
        self.inner().position = position;
    }

    /// The rows of a table that was added are to come, to an ephemeral one that has a position.
    pub fn owe(&self, table: &TableName) {
        let mut inner = self.inner();
        if !self.durable && inner.position.is_some() {
            inner.owed.insert(table.clone());
        }
    }

    /// What [`Self::owe`] has said.
    pub fn owed(&self) -> BTreeSet<TableName> {
        self.inner().owed.clone()
    }

    /// It has been given them.
    pub fn has_rows(&self) {
        self.inner().owed.clear();
    }

    /// What the client acknowledges is told there.
    pub fn shown_as(&self, member: Arc<Member>, progress: &Arc<Progress>) {
        *self.shown.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some((member, progress.clone()));
    }

    fn show(&self, acked: &Unacked) {
        if let Some((member, progress)) = &*self.shown.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            member.acked(acked.records, &acked.commits, acked.position.as_ref(), progress);
        }
    }

    /// Appends a stage: it is read when those before it have ended.
    pub fn push(&self, stage: Stage) {
        stage.queue.set_reading(*self.reading.borrow());
        self.inner().next.push_back(Next::Stage(Arc::new(stage)));
        self.news.notify_one();
    }

    /// What was delivered behind the position is void.
    pub fn rewind(&self, position: Option<Position>) {
        let mut inner = self.inner();
        inner.next.retain(|next| matches!(next, Next::Rewind(_)));
        inner.next.push_back(Next::Rewind(position));
        drop(inner);
        self.news.notify_one();
    }

    /// Ends the client's side, unless it has ended.
    pub fn end(&self, ended: Ended) {
        let mut inner = self.inner();
        if inner.ended.is_none() {
            inner.ended = Some(Some(ended));
            inner.next.clear();
            inner.unacked.clear();
        }
        drop(inner);
        self.over.send_replace(true);
        self.news.notify_one();
    }

    pub fn set_reading(&self, reading: bool) {
        let inner = self.inner();
        self.reading.send_replace(reading);
        for next in &inner.next {
            if let Next::Stage(stage) = next {
                stage.queue.set_reading(reading);
            }
        }
    }

    /// Behind the last whole transaction delivered; where it began before that.
    pub fn position(&self) -> Option<Position> {
        self.inner().position.clone()
    }

    pub fn unacked(&self) -> usize {
        self.inner().unacked.len()
    }

    pub fn queue_bytes(&self) -> usize {
        let inner = self.inner();
        let stages = inner.next.iter().filter_map(|next| match next {
            Next::Stage(stage) => Some(stage.queue.bytes()),
            Next::Rewind(_) => None,
        });
        stages.sum()
    }

    /// False for a delivery that was not made yet.
    pub fn ack(&self, Seq(upto): Seq) -> bool {
        let mut inner = self.inner();
        if upto > inner.sent {
            return false;
        }
        let was_full = inner.unacked.len() >= self.max_unacked;
        let mut last: Option<Unacked> = None;
        while inner.unacked.front().is_some_and(|unacked| unacked.number <= upto) {
            let Some(next) = inner.unacked.pop_front() else { break };
            self.show(&next);
            if let Some(before) = last.replace(next)
                && last.as_ref().is_some_and(|next| !Arc::ptr_eq(&before.stage, &next.stage))
            {
                before.stage.target.durable(before.seq);
            }
        }
        let Some(last) = last else { return true };
        last.stage.target.durable(last.seq);
        drop(inner);
        if was_full {
            self.news.notify_one();
        }
        true
    }

    /// The end, if it has come.
    pub fn ended(&self) -> Option<Ended> {
        self.inner().ended()
    }

    /// The next event, if there is one now.
    pub fn poll(&self) -> Option<Result<Event, Ended>> {
        let mut inner = self.inner();
        loop {
            if let Some(ended) = inner.ended() {
                return Some(Err(ended));
            }
            let stage = match inner.next.front() {
                None => return None,
                Some(Next::Stage(stage)) => stage.clone(),
                Some(Next::Rewind(_)) => {
                    let Some(Next::Rewind(position)) = inner.next.pop_front() else { continue };
                    inner.unacked.clear();
                    inner.delivered = None;
                    inner.from.clone_from(&position);
                    inner.position.clone_from(&position);
                    return Some(Ok(Event::Rewind(position)));
                }
            };
            if inner.unacked.len() >= self.max_unacked {
                return None;
            }
            match stage.queue.pop() {
                Popped::Empty => return None,
                Popped::End => drop(inner.next.pop_front()),
                Popped::Batch(batch) => {
                    if let Some(event) = inner.take(batch, &stage, self.durable) {
                        return Some(Ok(event));
                    }
                }
            }
        }
    }
}

impl Inner {
    fn ended(&mut self) -> Option<Ended> {
        let again = || Ended::Failed(Error::bug("an attachment was asked again after its end"));
        self.ended.as_mut().map(|ended| ended.take().unwrap_or_else(again))
    }

    /// What the client does not have yet of a batch; none where that is nothing to speak of.
    fn take(&mut self, batch: Arc<Batch>, stage: &Arc<Stage>, durable: bool) -> Option<Event> {
        if stage.from.is_some() {
            self.from.clone_from(&stage.from);
        }
        let ordered = batch.origin != Origin::Snapshot;
        let mut delivery = Delivery::whole(batch);
        if ordered {
            if let Some(from) = &self.from {
                delivery.first = delivery.batch.first_uncovered(from);
            }
            if let Some((commit, ordinal)) = &self.delivered {
                delivery.first = delivery.first.max(delivery.batch.first_after(commit, *ordinal));
            }
        }
        let seq = delivery.batch.seq;
        let news = delivery.first < delivery.end;
        if news
            && ordered
            && let Some((commit, ordinal)) = delivery.batch.last_key(delivery.end)
        {
            self.delivered = Some((commit.clone(), ordinal));
        }
        let reached = delivery.batch.mark.position.clone().filter(|position| self.is_news(position));
        if reached.is_some() {
            self.position.clone_from(&reached);
        }
        if news {
            self.sent += 1;
            let number = self.sent;
            if durable {
                let (records, commits) =
                    (delivery.end - delivery.first, delivery.batch.commits(delivery.first..delivery.end));
                let position = delivery.batch.mark.position.clone();
                self.unacked.push_back(Unacked { number, stage: stage.clone(), seq, records, commits, position });
            } else {
                stage.target.durable(seq);
            }
            return Some(Event::Batch { seq: Seq(number), delivery });
        }
        // The client has nothing to say about it: it is durable with what came before it.
        match self.unacked.back_mut() {
            Some(last) if Arc::ptr_eq(&last.stage, stage) => last.seq = seq,
            // The stage before still waits for its own.
            Some(Unacked { number, .. }) => {
                let (number, stage, commits) = (*number, stage.clone(), Commits::default());
                self.unacked.push_back(Unacked { number, stage, seq, records: 0, commits, position: None });
            }
            None => stage.target.durable(seq),
        }
        reached.map(Event::Position)
    }

    /// Whether a boundary is not before what the client has been given.
    fn is_news(&self, position: &Position) -> bool {
        let behind = self.delivered.as_ref().is_none_or(|(commit, _)| position.covers(commit));
        let from = self.from.as_ref().is_none_or(|from| !from.covers(position));
        let forward = self.position.as_ref().is_none_or(|known| position.covers(known));
        behind && from && forward
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::hub::queue::Appetite;
    use crate::record::{BatchBuilder, Mark};

    /// What a lane delivered last is acknowledged to the lane, also where the live stream has brought the same meanwhile: the
    /// lane ends when it has heard of everything.
    #[test]
    fn each_stage_hears_of_what_it_delivered() {
        let stage = || {
            let queue = Queue::new(1 << 20, Arc::default(), Arc::<Appetite>::default());
            Arc::new(Stage { queue, target: Target::Live(None), from: None })
        };
        let nothing_new = |seq| Arc::new(BatchBuilder::new(Origin::Stream).build(Seq(seq), Mark::default(), None));
        let (lane, live, feed) = (stage(), stage(), Feed::new(true, 10));
        let mut inner = feed.inner();
        inner.sent = 7;
        let (commits, position) = (Commits::default(), None);
        inner.unacked.push_back(Unacked {
            number: 7,
            stage: lane.clone(),
            seq: Seq(70),
            records: 1,
            commits,
            position,
        });
        assert!(inner.take(nothing_new(71), &lane, true).is_none());
        assert!(inner.take(nothing_new(3), &live, true).is_none());
        assert!(inner.take(nothing_new(4), &live, true).is_none());
        let waiting: Vec<_> = inner.unacked.iter().map(|unacked| (unacked.number, unacked.seq)).collect();
        assert_eq!(waiting, [(7, Seq(71)), (7, Seq(4))]);
        assert!(Arc::ptr_eq(&inner.unacked[0].stage, &lane) && Arc::ptr_eq(&inner.unacked[1].stage, &live));
        drop(inner);
        assert!(feed.ack(Seq(7)));
        assert_eq!(feed.unacked(), 0);
    }
}
