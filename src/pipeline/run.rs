//! The life of a pipeline: verdict, snapshot, stream, drain.

mod drive;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::acks::Acks;
use super::backoff::Backoff;
use super::committer::Committer;
use super::control::{self, Control, NewTable, Order, What};
use super::fanout::Fanout;
use super::hub::{Hub, LaneEnd, Main, QueueEnd, Remote, hold_all};
use super::observer::Observing;
use super::warm_start::{Begin, LostPolicy, Plan, SnapshotMode, StartAt, plan};
use super::worker::{Lane, Worker, WorkerEnd};
use crate::error::{Class, Error, Result};
use crate::flow::{Budget, Outlet, Phase, Progress, Role};
use crate::offset::{Checkpoint, ConsumerChange, Continuity, NewPlace, OffsetUpdate, Standing, Store};
use crate::record::{Lineage, Position, SinkOffset, StateEntry, owed};
use crate::sink::Sink;
use crate::source::tables::Added;
use crate::source::{Rows, Source, Verdict};

pub struct SinkSpec {
    pub name: String,
    pub sink: Box<dyn Sink>,
    pub start: StartAt,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Until {
    /// The server's position when the pipeline starts.
    Current,
    At(Position),
}

#[derive(Clone, Debug)]
pub struct Options {
    pub snapshot: SnapshotMode,
    pub on_lost_position: LostPolicy,
    /// What all batches in flight may take.
    pub budget_bytes: usize,
    pub until: Option<Until>,
    /// Changes delivered to each sink before the pipeline ends.
    pub limit: Option<u64>,
    /// At most one synced write of offsets in this time.
    pub commit_interval: Duration,
    /// The longest a stop waits for the sinks.
    pub drain_timeout: Duration,
    /// Whether a server that cannot be reached at the start is waited for.
    pub wait_for_server: bool,
}

/// Why a pipeline ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything asked for is delivered.
    Reached,
    LimitReached,
    Stopped,
}

/// The longest the source may take to say goodbye: one round trip, and dropping what it made for itself.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a barrier looks whether everything delivered was stored.
const BARRIER_POLL: Duration = Duration::from_millis(10);

pub struct Pipeline {
    source: Box<dyn Source>,
    store: Store,
    sinks: Vec<SinkSpec>,
    options: Options,
    progress: Arc<Progress>,
    stop: watch::Receiver<bool>,
    /// Why everything starts anew from what is stored: what was delivered since may not be part of the log.
    anew: Option<&'static str>,
    /// Whose consumers it serves.
    hub: Option<Hub>,
    /// Of a lane: its reader, which takes the place of sinks.
    remote: Option<Remote>,
    control: Control,
    /// What is to be done before everything starts anew.
    ordered: Option<Order>,
}

/// What a start found and made.
struct Start {
    lineage: Lineage,
    plan: Plan,
    /// What each sink begins with.
    offsets: Vec<SinkOffset>,
    /// Whether it is kept what the state is of, and of what it is.
    keeps_base: bool,
    base: Option<Position>,
    until: Option<Position>,
    /// Whether the rows of added tables come first.
    owes: bool,
}

/// What runs.
struct Running {
    start: Start,
    fanout: Arc<Fanout>,
    outlet: Outlet,
    confirmed: watch::Receiver<Option<Position>>,
}

impl Pipeline {
    pub fn new(
        source: Box<dyn Source>,
        store: Store,
        sinks: Vec<SinkSpec>,
        options: Options,
        progress: Arc<Progress>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let control = Control::new(sinks.iter().map(|spec| spec.name.clone()), Added::default());
        let (anew, hub, remote, ordered) = (None, None, None, None);
        Pipeline { source, store, sinks, options, progress, stop, anew, hub, remote, control, ordered }
    }

    /// Does what an operator orders by a control of its sinks' names.
    pub fn obeying(mut self, control: Control) -> Self {
        self.control = control;
        self
    }

    /// Serves the hub's consumers too; then there need be no sink.
    pub fn serving(mut self, hub: Hub) -> Self {
        hub.serve(self.store.clone(), self.options.commit_interval);
        // Consumers' limits are in bytes of log.
        self.progress.watch();
        self.hub = Some(hub);
        self
    }

    /// Of one consumer.
    pub(super) fn lane(
        source: Box<dyn Source>,
        store: Store,
        remote: Remote,
        options: Options,
        progress: Arc<Progress>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Pipeline { remote: Some(remote), ..Pipeline::new(source, store, Vec::new(), options, progress, stop) }
    }

    /// As [`Self::run`], once.
    pub(super) async fn run_lane(mut self) -> Result<LaneEnd> {
        self.attempt().await?;
        Ok(if self.anew.is_some() { LaneEnd::Rewound } else { LaneEnd::Stopped })
    }

    /// Runs until everything asked for is delivered, until `stop`, or until an error that no retry mends. Errors of
    /// class `Lost`: the server no longer holds the log from the stored position on, and the policy is `fail`.
    pub async fn run(mut self) -> Result<Outcome> {
        let hub = self.hub.clone();
        self.control.serve(self.store.clone(), self.progress.clone());
        // Also when this future is dropped, nobody is to wait for the stream.
        let serving = hub.as_ref().map(Hub::while_serving);
        let ended = self.run_on().await;
        drop(serving);
        if let Some(hub) = hub {
            hub.cleared().await;
        }
        ended
    }

    async fn run_on(&mut self) -> Result<Outcome> {
        let sinks = self.sinks.len();
        loop {
            let result = self.attempt().await;
            // A sink that hung is gone with its worker: starting over without it would forget it.
            let starts_over = self.options.on_lost_position == LostPolicy::Resnapshot && self.sinks.len() == sinks;
            let anew = self.anew.take().filter(|_| !*self.stop.borrow());
            match result {
                Err(lost) if lost.class() == Class::Lost && starts_over => {
                    self.progress.tries_again(&self.progress.source, &lost);
                    tracing::warn!(error = ?lost, "position lost, starting over with a snapshot as on_lost_position says");
                    self.forget()?;
                }
                result => match (result, anew) {
                    (Ok(Outcome::Stopped), Some(why)) => {
                        tracing::warn!("{why}: going on from what is stored");
                        self.all_here(sinks)?;
                        self.carry_out();
                    }
                    (result, _) => return result,
                },
            }
        }
    }

    /// Forgets everything but what operators have ordered, and that there are consumers: they are told what happened when they return.
    fn forget(&self) -> Result<()> {
        self.store.write(|store| {
            let (consumers, mut orders) = (store.consumers(), store.load()?.orders);
            // The log that they were added in is gone.
            orders.added.values_mut().for_each(|from| *from = None);
            store.reset()?;
            store.order(&orders)?;
            for (name, known) in consumers {
                let Some(position) = known.position else { continue };
                let begin = ConsumerChange::Begin { epoch: known.epoch + 1, place: NewPlace::At(position) };
                store.change_consumer(&name, &begin)?;
                let why = "the stream lost its position, and started over with a snapshot".to_owned();
                store.change_consumer(&name, &ConsumerChange::Stand(Standing::Detached(why)))?;
            }
            Ok(())
        })
    }

    /// Does what everything was stopped for.
    fn carry_out(&mut self) {
        let Some(order) = self.ordered.take().filter(Order::is_wanted) else { return };
        let done = match &order.what {
            What::Place(offset) => {
                let placed = self.store.write(|store| control::apply(store, offset));
                if placed.is_ok() {
                    self.progress.member(Role::Sink, &offset.sink).begins(offset.position.clone());
                }
                placed.map(|()| None)
            }
            What::Add(table) => self.add_with_rows(table),
            What::Remove(_) => Err(Error::bug("a table is taken back while the stream runs")),
        };
        order.tell(done);
    }

    /// Takes up a table whose rows are owed to every reader there is. Nobody reads: each begins with what is stored here.
    fn add_with_rows(&self, table: &NewTable) -> Result<Option<Position>> {
        self.store.write(|store| control::owe(store, &table.called, !self.sinks.is_empty()))?;
        if let Some(hub) = &self.hub {
            hub.owe(&table.called);
        }
        // The last of it: before, a crash has added nothing.
        self.control.take_up(&self.store, table)?;
        Ok(Some(table.from.clone()))
    }

    /// The sinks by name, and where each begins when nothing is stored.
    fn names(&self) -> Vec<(String, StartAt)> {
        let sinks = self.sinks.iter().map(|spec| (spec.name.clone(), spec.start));
        sinks.chain(self.remote.iter().map(|remote| (remote.name.clone(), StartAt::Snapshot))).collect()
    }

    /// Starting over without a sink would forget it. Errors: `Transient`, for the next process has them all.
    fn all_here(&self, sinks: usize) -> Result<()> {
        if self.sinks.len() == sinks {
            return Ok(());
        }
        Err(Error::transient("a sink did not end within drain_timeout, so that nothing can start over in this process")
            .remedy("see to the sink, and run again"))
    }

    async fn attempt(&mut self) -> Result<Outcome> {
        self.progress.enter(Phase::Starting);
        let start = match self.start().await {
            Ok(Some(start)) => start,
            stopped_or_failed => {
                self.close_source(None).await;
                return stopped_or_failed.map(|_| Outcome::Stopped);
            }
        };
        let budget = Budget::new(self.options.budget_bytes);
        let participants = start.plan.begin.iter().map(|begin| matches!(begin, Begin::Snapshot(_)));
        let offsets = self.names().into_iter().map(|(name, _)| name).zip(start.offsets.clone()).zip(participants);
        let mut acks = Acks::new(offsets.map(|((name, offset), participant)| (name, offset, participant)));
        if start.keeps_base {
            acks = acks.keep_base(start.base.clone());
        }
        let remote = self.remote.as_ref().map(|remote| (remote.queue.clone(), remote.appetite.clone()));
        let (fanout, queues) = Fanout::new(acks, self.sinks.len(), budget.max_batches(), remote);
        if let Some(remote) = &self.remote {
            remote.fanout.get_or_init(|| fanout.clone());
        }
        if self.hub.is_some() {
            hold_all(&fanout, &self.store.read(|store| store.consumers()));
        }
        let outlet = Outlet::new(budget.clone(), fanout.clone(), self.progress.clone());

        let (confirmed_sender, confirmed) = watch::channel(fanout.confirmable());
        self.progress.begins(&start.lineage, budget.clone(), confirmed.clone());
        let _observing = Observing::start(&*self.source, &self.progress)?;

        let mut workers = JoinSet::new();
        for (index, (spec, queue)) in self.sinks.drain(..).zip(queues).enumerate() {
            let SinkSpec { name, sink, start: start_at } = spec;
            let offset = start.offsets[index].clone();
            let member = self.progress.member(Role::Sink, &name);
            member.begins(offset.position.clone());
            let queued = Arc::downgrade(&fanout);
            member.queue_is(move || queued.upgrade().map_or(0, |fanout| fanout.queued(index)));
            let (fanout, progress) = (fanout.clone(), self.progress.clone());
            let paused = self.control.paused(&name);
            let lane = Lane { index, name: name.clone(), queue, fanout, progress, member, paused };
            let worker = Worker::new(lane, sink, offset, budget.total_bytes(), self.options.limit);
            workers.spawn(async move {
                let (sink, result) = worker.run().await;
                (index, SinkSpec { name, sink, start: start_at }, result)
            });
        }
        let (stop_committer, committer_stop) = watch::channel(false);
        let committer = Committer {
            store: self.store.clone(),
            fanout: fanout.clone(),
            confirmed: confirmed_sender,
            interval: self.options.commit_interval,
            progress: self.progress.clone(),
        };
        let mut committer = tokio::spawn(committer.run(committer_stop));
        let up = self.hub.as_ref().map(|hub| {
            let (lineage, budget_bytes) = (start.lineage.clone(), budget.total_bytes());
            hub.up_with(Main { fanout: fanout.clone(), lineage, progress: self.progress.clone(), budget_bytes })
        });
        let running = Running { start, fanout, outlet, confirmed };

        let mut ended = Vec::new();
        let mut committed = None;
        let mut result = tokio::select! {
            biased;
            Some(joined) = workers.join_next() => worker_ended(joined, &mut ended),
            stored = &mut committer => {
                committed = Some(());
                Err(committer_ended(stored))
            }
            result = self.drive(&running) => result,
        };

        // What is queued becomes durable, is stored, and is confirmed, in that order.
        self.progress.enter(Phase::Draining);
        if let Some(hub) = self.hub.as_ref().filter(|_| *self.stop.borrow()) {
            hub.stopping();
        }
        drop(up);
        running.fanout.close();
        // Who has read everything asked for, or goes on from what is stored, waits for the sinks until they hold what was read,
        // or a stop is asked for.
        let mut asked = self.stop.clone();
        while self.remote.is_none()
            && match result {
                Ok(Outcome::Stopped) => self.anew.is_some(),
                Ok(Outcome::Reached | Outcome::LimitReached) => true,
                Err(_) => false,
            }
        {
            tokio::select! {
                biased;
                Ok(_) = asked.wait_for(|stop| *stop) => break,
                stored = &mut committer, if committed.is_none() => {
                    committed = Some(());
                    result = Err(committer_ended(stored));
                }
                joined = workers.join_next() => match joined {
                    Some(joined) => result = first_error(result, worker_ended(joined, &mut ended)),
                    None => break,
                },
            }
        }
        let drained = tokio::time::timeout(self.options.drain_timeout, async {
            while let Some(joined) = workers.join_next().await {
                result =
                    first_error(std::mem::replace(&mut result, Ok(Outcome::Stopped)), worker_ended(joined, &mut ended));
            }
            // The reader of a lane ends with its queue, or when it holds everything.
            if let Some(remote) = self.remote.as_ref().filter(|_| committed.is_none()) {
                let left = || remote.queue.is_ended() == Some(QueueEnd::Dropped);
                let holds_all = || running.fanout.is_remote_done() && running.fanout.is_drained();
                while !left() && !holds_all() {
                    tokio::time::sleep(BARRIER_POLL).await;
                }
            }
        });
        if drained.await.is_err() {
            let timeout_ms = self.options.drain_timeout.as_millis() as u64;
            tracing::warn!(timeout_ms, "a sink did not finish in time: what it does not hold durably comes again");
            workers.abort_all();
            result = result.map(|_| Outcome::Stopped);
        }
        if committed.is_none() {
            stop_committer.send_replace(true);
            let stored = committer.await.unwrap_or_else(|error| Err(panicked(error)));
            result = first_error(result, stored.map(|()| Outcome::Reached));
        }
        let last_confirmed = running.confirmed.borrow().clone();
        self.close_source(last_confirmed).await;
        ended.sort_by_key(|(index, _)| *index);
        self.sinks = ended.into_iter().map(|(_, spec)| spec).collect();
        result
    }

    /// None when asked to stop meanwhile: a slot may wait for the end of running transactions as long as they like.
    async fn start(&mut self) -> Result<Option<Start>> {
        let mut backoff = Backoff::default();
        let mut stop = self.stop.clone();
        loop {
            let started = tokio::select! {
                biased;
                started = self.meet() => started,
                Ok(_) = stop.wait_for(|stop| *stop) => return Ok(None),
            };
            match started {
                Err(error) if error.is_transient() && self.options.wait_for_server => {
                    self.progress.source.add(&error);
                    self.progress.tries_again(&self.progress.source, &error);
                    let delay = backoff.next();
                    let delay_ms = delay.as_millis() as u64;
                    tracing::warn!(?error, delay_ms, "the source cannot be made ready, trying again");
                    if drive::stopped_within(&self.stop, delay).await {
                        return Ok(None);
                    }
                }
                started => return started.map(Some).map_err(|error| self.given_up(error)),
            }
        }
    }

    /// The source failed, and is not tried again here. A lane's end is counted by whoever hears of it.
    fn given_up(&self, error: Error) -> Error {
        if self.remote.is_none() {
            self.progress.source.add(&error);
        }
        error
    }

    /// The verdict, and what follows from it on the server and in the store.
    async fn meet(&mut self) -> Result<Start> {
        let lineage = self.source.lineage().await?;
        let checkpoint = self.store.write(|store| {
            store.park_live()?;
            store.load()
        })?;
        if self.remote.is_none() {
            self.control.recall(&checkpoint.orders);
        }
        if self.hub.is_none() && self.remote.is_none() && !checkpoint.consumers.is_empty() {
            let consumers = checkpoint.consumers.len();
            tracing::warn!(consumers, "nothing serves the stored consumers: the log is not held for them");
        }
        let keeps_base = self.hub.is_some() || self.remote.is_some() || checkpoint.base.is_some();
        let plan = self.plan(&checkpoint, &lineage).await?;
        let ready = self.source.prepare(&checkpoint.state).await?;
        let base = plan.base.clone().filter(|_| keeps_base);
        let resumes = base.is_some() || plan.begin.iter().any(|begin| matches!(begin, Begin::Resume(_)));
        let base_is_now = self.hub.is_some() && base.is_none();
        let joins_now = resumes && plan.begin.contains(&Begin::Now);
        let until_tip = self.options.until == Some(Until::Current);
        let tip = if until_tip || joins_now { Some(self.source.tip().await?) } else { None };
        // The first sink to say "now" means what the slot holds; one that joins others means the present.
        let first = (base_is_now || plan.begin.contains(&Begin::Now)) && !resumes;
        let state = if first { ready.state } else { Vec::new() };
        let now = tip.clone().filter(|_| resumes).unwrap_or(ready.position);
        let offset = |begin: &Begin| match begin {
            Begin::Resume(offset) | Begin::Snapshot(offset) => offset.clone(),
            Begin::Now => SinkOffset { position: Some(now.clone()), token: None },
        };
        let offsets: Vec<SinkOffset> = plan.begin.iter().map(offset).collect();
        let base = if base_is_now { Some(now.clone()) } else { base };
        let stored_base = base.clone().filter(|_| keeps_base && base != checkpoint.base);
        self.bind(&lineage, &plan, &offsets, state, stored_base)?;
        let until = match &self.options.until {
            Some(Until::Current) => tip,
            Some(Until::At(position)) => Some(position.clone()),
            None => None,
        };
        let owes = self.owes(&checkpoint, &plan);
        Ok(Start { lineage, plan, offsets, keeps_base, base, until, owes })
    }

    /// Whether the rows of added tables come first: to readers that all have a position. Where one begins with all rows, the
    /// others' come when that is done.
    fn owes(&self, checkpoint: &Checkpoint, plan: &Plan) -> bool {
        let resumed = plan.begin.iter().any(|begin| matches!(begin, Begin::Resume(_)));
        let takes_rows = self.remote.as_ref().is_none_or(|remote| remote.takes_rows);
        resumed && takes_rows && !owed::owed(&checkpoint.state).is_empty()
    }

    async fn plan(&mut self, checkpoint: &Checkpoint, lineage: &Lineage) -> Result<Plan> {
        let interrupted = self.source.interrupted(Rows::All, &checkpoint.state)?;
        let plan = plan(checkpoint, &self.names(), self.options.snapshot, interrupted);
        match (&plan.needed, &checkpoint.lineage) {
            (Some(position), Some(stored)) => {
                // Each, not the earliest alone: a later one may be ahead of a server that was restored meanwhile.
                let resumed = plan.begin.iter().filter_map(|begin| match begin {
                    Begin::Resume(offset) => offset.position.as_ref(),
                    Begin::Snapshot(_) | Begin::Now => None,
                });
                let mut verified: Vec<&Position> = Vec::new();
                for position in resumed.chain([position]) {
                    if !verified.contains(&position) {
                        self.verify(stored, position).await?;
                        verified.push(position);
                    }
                }
                tracing::info!(%position, %lineage, "stored position: valid");
            }
            _ => tracing::info!(%lineage, "stored position: cold, nothing is stored yet"),
        }
        Ok(plan)
    }

    /// Errors: `Lost`, with what is missing.
    async fn verify(&mut self, stored: &Lineage, position: &Position) -> Result<()> {
        match self.source.retention(stored, position).await? {
            Verdict::Valid => Ok(()),
            Verdict::Lost(gap) => Err(Error::lost(format!("the stored position {position} is lost: {gap}")).remedy(
                "on_lost_position: resnapshot starts over with a snapshot; or bring the log back and run again",
            )),
        }
    }

    /// `state`: of the point where the first sinks begin.
    fn bind(
        &self,
        lineage: &Lineage,
        plan: &Plan,
        offsets: &[SinkOffset],
        state: Vec<StateEntry>,
        base: Option<Position>,
    ) -> Result<()> {
        let begins = self.names().into_iter().zip(&plan.begin).zip(offsets);
        let begins = begins.filter(|((_, begin), _)| !matches!(begin, Begin::Resume(_)));
        let sinks = begins.map(|(((name, _), _), offset)| (name, offset.clone())).collect();
        let update = OffsetUpdate { sinks, state, base, ..OffsetUpdate::default() };
        // What is needed of the server was proven before; where nothing is, nothing was.
        let continuity = if plan.needed.is_some() { Continuity::Proven } else { Continuity::Unproven };
        self.store.write(|store| {
            store.bind(lineage, continuity)?;
            store.retain_sinks(&|name| self.sinks.iter().any(|spec| spec.name == name))?;
            store.commit(&update)
        })
    }

    async fn close_source(&mut self, confirmed: Option<Position>) {
        match tokio::time::timeout(CLOSE_TIMEOUT, self.source.close(confirmed)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(?error, "leaving the source"),
            Err(_) => tracing::warn!("leaving the source took longer than {CLOSE_TIMEOUT:?}"),
        }
    }
}

type Ended = (usize, SinkSpec, Result<WorkerEnd>);

fn worker_ended(joined: Result<Ended, JoinError>, ended: &mut Vec<(usize, SinkSpec)>) -> Result<Outcome> {
    let (index, spec, result) = joined.map_err(panicked)?;
    ended.push((index, spec));
    result.map(|end| match end {
        WorkerEnd::Closed => Outcome::Stopped,
        WorkerEnd::LimitReached => Outcome::LimitReached,
    })
}

/// Why, where it was not told to.
fn committer_ended(stored: Result<Result<()>, JoinError>) -> Error {
    let result = stored.unwrap_or_else(|error| Err(panicked(error)));
    result.err().unwrap_or_else(|| Error::bug("the committer ended before it was told to"))
}

/// The first error stays; without one the first outcome does.
fn first_error(first: Result<Outcome>, then: Result<Outcome>) -> Result<Outcome> {
    match (first, then) {
        (Err(first), _) => Err(first),
        (Ok(_), Err(then)) => Err(then),
        (Ok(first), Ok(_)) => Ok(first),
    }
}

fn panicked(error: JoinError) -> Error {
    Error::bug("a task of the pipeline panicked").because(error)
}

#[cfg(test)]
mod tests;
