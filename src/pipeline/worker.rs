//! One task a sink: takes batches from its queue, writes, flushes, and says what is durable.
//!
//! Invariants:
//! - Everything accepted and not yet durable is kept, so that a sink that failed gets it again after `open`.
//! - A record reaches the sink once while the process lives, also when a reconnected source replays part of a
//!   transaction, and never when the sink's stored position covers it.
//! - Only a transient error is retried, with backoff; the others end the worker, which then acknowledges nothing more.
//! - While the sink is paused nothing is written to it: what waits in its queue holds the memory budget, as with a sink that
//!   is stuck, and the others wait once that is used up. At the end a paused sink is not waited for: what it does not hold
//!   comes again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::fanout::Fanout;
use crate::error::{Error, Result};
use crate::fault;
use crate::flow::{Member, Progress};
use crate::record::{Batch, Change, Origin, Position, Seq, SinkOffset};
use crate::sink::{Accepted, Batching, Delivery, Durable, Sink};

/// What a paused sink may still take to let go of what it has, when everything ends.
const PAUSED_END: Duration = Duration::from_secs(1);

/// A sink's place in the fan-out.
pub struct Lane {
    pub index: usize,
    pub name: String,
    pub queue: mpsc::Receiver<Arc<Batch>>,
    pub fanout: Arc<Fanout>,
    pub progress: Arc<Progress>,
    /// Where it is told how far the sink is.
    pub member: Arc<Member>,
    /// Whether an operator lets it take nothing.
    pub paused: watch::Receiver<bool>,
}

pub struct Worker {
    lane: Lane,
    sink: Box<dyn Sink>,
    batching: Batching,
    /// Where the sink stands durably, as it was last reported.
    offset: SinkOffset,
    /// The order key of the last record delivered by this process.
    delivered: Option<(Position, u64)>,
    /// Accepted, not yet durable; with the sink's mark after it, where the batch is marked.
    pending: VecDeque<(Delivery, Option<Vec<u8>>)>,
    pending_bytes: usize,
    pending_records: usize,
    /// The sink's mark as of its last marked batch.
    token: Option<Vec<u8>>,
    /// Changes still to deliver before the worker ends by itself.
    remaining: Option<u64>,
}

/// Why a worker ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    Closed,
    LimitReached,
}

impl Worker {
    pub fn new(lane: Lane, sink: Box<dyn Sink>, offset: SinkOffset, budget_bytes: usize, limit: Option<u64>) -> Self {
        let mut batching = sink.batching();
        // Unflushed batches hold the budget: a quarter of it leaves room for those queued and being read.
        batching.max_bytes = batching.max_bytes.min(budget_bytes / 4);
        Worker {
            lane,
            sink,
            batching,
            token: offset.token.clone(),
            offset,
            delivered: None,
            pending: VecDeque::new(),
            pending_bytes: 0,
            pending_records: 0,
            remaining: limit,
        }
    }

    /// Runs until its queue is closed and everything is durable, until its limit, or until an error that no retry mends.
    pub async fn run(mut self) -> (Box<dyn Sink>, Result<WorkerEnd>) {
        let result = self.work().await;
        (self.sink, result)
    }

    async fn work(&mut self) -> Result<WorkerEnd> {
        let (mut closed, mut paused) = (self.lane.fanout.closed(), self.lane.paused.clone());
        let abandoned = async {
            let _ = closed.wait_for(|closed| *closed).await;
            until_paused(&mut paused).await;
            tokio::time::sleep(PAUSED_END).await;
        };
        tokio::select! {
            biased;
            end = self.deliver_all() => end,
            // Paused, and it fails or hangs: it is opened again where it durably stands.
            () = abandoned => Ok(WorkerEnd::Closed),
        }
    }

    async fn deliver_all(&mut self) -> Result<WorkerEnd> {
        let guarantee = self.sink.capabilities().guarantee;
        tracing::debug!(sink = self.lane.name, %guarantee, "the sink delivers");
        if self.hold().await {
            return Ok(WorkerEnd::Closed);
        }
        self.reopen(None).await?;
        let mut paused = self.lane.paused.clone();
        let max_delay = Duration::from_millis(self.batching.max_delay_ms);
        let mut flush_at = Instant::now();
        loop {
            let batch = tokio::select! {
                biased;
                () = until_paused(&mut paused) => {
                    self.flush().await?;
                    if self.hold().await {
                        break;
                    }
                    continue;
                }
                batch = self.lane.queue.recv() => batch,
                () = tokio::time::sleep_until(flush_at), if !self.pending.is_empty() => {
                    self.flush().await?;
                    continue;
                }
            };
            let Some(batch) = batch else { break };
            if self.pending.is_empty() {
                flush_at = Instant::now() + max_delay;
            }
            // A snapshot's mark without rows: somebody waits for it to be stored.
            let is_barrier = batch.origin == Origin::Snapshot && batch.is_empty() && !batch.mark.is_empty();
            let limit_reached = self.deliver(batch).await?;
            let full = self.pending_bytes >= self.batching.max_bytes
                || self.pending_records >= self.batching.max_records
                || Instant::now() >= flush_at
                || ((self.batching.flush_when_idle || is_barrier) && self.lane.queue.is_empty());
            if full || limit_reached {
                self.flush().await?;
            }
            self.lane.fanout.written(self.lane.index);
            if limit_reached {
                self.stop_inside();
                self.sink.close().await?;
                return Ok(WorkerEnd::LimitReached);
            }
        }
        self.flush().await?;
        self.sink.close().await?;
        Ok(WorkerEnd::Closed)
    }

    /// Waits while the sink is paused. Whether everything ends meanwhile.
    async fn hold(&mut self) -> bool {
        let mut closed = self.lane.fanout.closed();
        tokio::select! {
            biased;
            () = self.resumed() => false,
            _ = closed.wait_for(|closed| *closed) => true,
        }
    }

    /// Waits while the sink is paused.
    async fn resumed(&mut self) {
        self.lane.member.holds();
        // Where nobody is left to pause it, it is not paused.
        let _ = self.lane.paused.wait_for(|paused| !*paused).await;
        self.lane.member.resumes();
    }

    /// Writes what the sink does not have yet of the batch. Whether the limit was reached.
    async fn deliver(&mut self, batch: Arc<Batch>) -> Result<bool> {
        let mut delivery = Delivery::whole(batch);
        if delivery.batch.origin != Origin::Snapshot {
            if let Some(stored) = &self.offset.position {
                delivery.first = delivery.batch.first_uncovered(stored);
            }
            if let Some((commit, ordinal)) = &self.delivered {
                delivery.first = delivery.first.max(delivery.batch.first_after(commit, *ordinal));
            }
        }
        let limit_reached = self.cut_at_limit(&mut delivery);
        let ordered = delivery.first < delivery.end && delivery.batch.origin != Origin::Snapshot;
        if let Some((commit, ordinal)) = delivery.batch.last_key(delivery.end).filter(|_| ordered) {
            self.delivered = Some((commit.clone(), ordinal));
        }
        self.lane.progress.delivered.add((delivery.end - delivery.first) as u64);
        self.lane.member.records.add((delivery.end - delivery.first) as u64);
        self.pending_bytes += delivery.batch.bytes();
        self.pending_records += delivery.end - delivery.first;
        self.pending.push_back((delivery, None));
        if let Err(error) = self.write(self.pending.len() - 1).await {
            self.reopen(Some(error)).await?; // writes all that is pending, this delivery with it
        }
        Ok(limit_reached)
    }

    fn cut_at_limit(&mut self, delivery: &mut Delivery) -> bool {
        let Some(remaining) = &mut self.remaining else { return false };
        let mut end = delivery.first;
        for record in delivery.batch.records_from(delivery.first) {
            // The end of a transaction goes with its last change, or the transaction would come again.
            if *remaining == 0 && !matches!(record.change, Change::Commit) {
                break;
            }
            end += 1;
            if !matches!(record.change, Change::Begin | Change::Commit | Change::SchemaChange { .. }) {
                *remaining -= 1;
            }
        }
        delivery.end = end;
        *remaining == 0
    }

    async fn write(&mut self, pending: usize) -> Result<()> {
        let (delivery, token) = &mut self.pending[pending];
        let Accepted(seq) = self.sink.write(delivery).await?;
        debug_assert_eq!(seq, delivery.batch.seq);
        if !delivery.batch.mark.is_empty() {
            self.token = self.sink.token();
            token.clone_from(&self.token);
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let durable = loop {
            match self.sink.flush().await {
                Ok(Durable(seq)) => break seq,
                Err(error) => self.reopen(Some(error)).await?,
            }
        };
        fault::point("after_sink_flush");
        let mut reported = None;
        while let Some((delivery, token)) = self.pending.front() {
            if delivery.batch.seq > durable {
                break;
            }
            if delivery.end < delivery.batch.len() {
                break; // cut at the limit: not the whole batch is durable
            }
            if let Some(position) = &delivery.batch.mark.position {
                let back = self.offset.position.as_ref().is_some_and(|stored| stored.covers(position));
                if !back {
                    self.offset.position = Some(position.clone());
                }
            }
            let Seq(seq) = delivery.batch.seq;
            self.lane.member.durable(&delivery.batch, &self.lane.progress);
            if delivery.batch.origin != Origin::Stream && !delivery.batch.mark.is_empty() {
                self.lane.fanout.durable(self.lane.index, Seq(seq), token.clone());
            }
            reported = Some(Seq(seq));
            self.pending.pop_front();
        }
        if self.pending.is_empty() {
            self.pending_bytes = 0;
            self.pending_records = 0;
        }
        // A failure goes back to what is durable now, since nothing before it is kept for a replay; stored is the mark
        // that belongs to a position.
        if self.pending.is_empty() {
            self.offset.token = self.sink.token();
        }
        if let Some(Seq(seq)) = reported {
            self.lane.fanout.durable(self.lane.index, Seq(seq), self.token.clone());
        }
        Ok(())
    }

    /// After the limit cut a batch: the first transaction with something undelivered is where the stream resumes.
    fn stop_inside(&self) {
        let Some((delivery, _)) = self.pending.front() else { return };
        if delivery.batch.origin != Origin::Stream {
            return;
        }
        if let Some(record) = delivery.batch.records_from(delivery.end).next() {
            self.lane.fanout.reached(self.lane.index, record.txn.commit.clone(), self.sink.token());
        }
    }

    /// Opens the sink where it durably stands and writes everything pending again; `failed`: what made it necessary.
    async fn reopen(&mut self, failed: Option<Error>) -> Result<()> {
        let mut backoff = Backoff::default();
        let mut failed = failed;
        loop {
            if let Some(error) = failed.take() {
                let error = error.context(format!("writing to sink {}", self.lane.name));
                self.lane.member.failures.add(&error);
                if !error.is_transient() {
                    return Err(error);
                }
                let delay = backoff.next();
                self.lane.progress.tries_again(&self.lane.member.failures, &error);
                tracing::warn!(
                    sink = self.lane.name,
                    ?error,
                    delay_ms = delay.as_millis() as u64,
                    "sink failed, trying again"
                );
                // Paused meanwhile, it is opened again when it goes on.
                if tokio::time::timeout(delay, until_paused(&mut self.lane.paused)).await.is_ok() {
                    self.resumed().await;
                }
            }
            match self.open_and_replay().await {
                Ok(()) => {
                    self.lane.member.failures.recovered();
                    return Ok(());
                }
                Err(error) => failed = Some(error),
            }
        }
    }

    async fn open_and_replay(&mut self) -> Result<()> {
        if let Some(own) = self.sink.open(&self.offset).await? {
            if !self.lane.fanout.opened(self.lane.index, own.token.clone()).await {
                return Err(Error::bug("a sink was opened when offsets could not be stored any more"));
            }
            self.offset = own;
        }
        self.token = self.offset.token.clone();
        for index in 0..self.pending.len() {
            self.write(index).await?;
        }
        Ok(())
    }
}

/// Returns when an operator pauses the sink: perhaps never.
async fn until_paused(paused: &mut watch::Receiver<bool>) {
    if paused.wait_for(|paused| *paused).await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::super::acks::Acks;
    use super::*;
    use crate::error::Finding;
    use crate::record::{BatchBuilder, Mark};
    use crate::sink::{Capabilities, Guarantee};

    /// Holds batch numbers; opened at a token, it forgets what came after it. Its third write fails once.
    struct Forgetful {
        held: Arc<Mutex<Vec<u64>>>,
        writes: u32,
    }

    #[async_trait]
    impl Sink for Forgetful {
        fn capabilities(&self) -> Capabilities {
            Capabilities { guarantee: Guarantee::ExactlyOnce }
        }
        fn batching(&self) -> Batching {
            Batching { max_records: 1, max_bytes: 1, max_delay_ms: 1, flush_when_idle: true }
        }
        async fn check(&mut self) -> Vec<Finding> {
            Vec::new()
        }
        async fn open(&mut self, stored: &SinkOffset) -> Result<Option<SinkOffset>> {
            let length = stored.token.as_ref().map_or(0, |token| usize::from(token[0]));
            self.held.lock().unwrap().truncate(length);
            Ok(None)
        }
        async fn write(&mut self, delivery: &Delivery) -> Result<Accepted> {
            self.writes += 1;
            if self.writes == 3 {
                return Err(Error::transient("the third write"));
            }
            self.held.lock().unwrap().push(delivery.batch.seq.0);
            Ok(Accepted(delivery.batch.seq))
        }
        fn token(&self) -> Option<Vec<u8>> {
            Some(vec![self.held.lock().unwrap().len() as u8])
        }
        async fn flush(&mut self) -> Result<Durable> {
            Ok(Durable(Seq(self.held.lock().unwrap().last().copied().unwrap_or(0))))
        }
        async fn close(&mut self) -> Result<()> {
            Ok(())
        }
    }

    /// Batches 2 and 3 are inside a transaction: durable, without a mark of their own.
    #[tokio::test]
    async fn a_failure_inside_a_transaction_loses_nothing_that_was_flushed() {
        let held = Arc::new(Mutex::new(Vec::new()));
        let sink = Box::new(Forgetful { held: held.clone(), writes: 0 });
        let (queue, receiver) = mpsc::channel(8);
        let acks = Acks::new([("a".to_owned(), SinkOffset::default(), false)].into_iter());
        let (fanout, _) = Fanout::new(acks, 1, 8, None);
        for seq in 1..=4 {
            let position = (seq == 1).then_some(Position::Postgres(crate::record::Lsn(seq)));
            let mark = Mark { position, state: Vec::new() };
            queue.send(Arc::new(BatchBuilder::new(Origin::Stream).build(Seq(seq), mark, None))).await.unwrap();
        }
        drop(queue);
        let progress = Arc::new(Progress::default());
        let member = progress.member(crate::flow::Role::Sink, "a");
        let lane = Lane {
            index: 0,
            name: "a".to_owned(),
            queue: receiver,
            fanout,
            progress,
            member,
            paused: watch::channel(false).1,
        };
        let (_, end) = Worker::new(lane, sink, SinkOffset::default(), 1 << 20, None).run().await;
        assert_eq!(end.unwrap(), WorkerEnd::Closed);
        assert_eq!(*held.lock().unwrap(), [1, 2, 3, 4]);
    }
}
