//! Takes one client from where it stands to the live edge, and again whenever it falls off.
//!
//! Invariants:
//! - A client that takes nothing costs no lane: it waits, and only what it needs is held.
//! - From a lane to the live stream: it joins at a boundary D; the lane is stopped when it is at or behind D; when the client
//!   holds everything of the lane, up to X, one write makes it a member at X. Where anything goes wrong before that, it goes on
//!   from its namespace, on a lane.
//! - Rows of added tables that are owed to it come first: from a lane of their own, behind one that brings it near the live
//!   stream, so that what must not change meanwhile on the server is held for as short as can be. Once they have begun there
//!   is no other lane: what is stored of their progress is of a point that no stream has passed.
//! - Whatever ends it, everything of it is cleared away before its seat is free.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::api::{Ended, State};
use super::feed::{Feed, Stage, Target};
use super::lane::{Errand, Lane, LaneEnd};
use super::queue::{Queue, QueueEnd};
use super::registry::{Main, Registry};
use crate::error::{Error, Result};
use crate::flow::{Member, Role};
use crate::offset::{Checkpoint, Consumer, MemoryStore, Namespace, Standing, Store};
use crate::pipeline::acks::MemberId;
use crate::pipeline::backoff::Backoff;
use crate::record::{Position, SinkOffset, owed};

/// A lane that is where the main stream was so long ago can reach it while the queue holds what comes meanwhile: with the
/// default 8 MiB, 8 MB/s.
const BEHIND: Duration = Duration::from_secs(1);
/// How often a lane's place is looked at.
const LANE_POLL: Duration = Duration::from_millis(20);
/// A client that takes nothing for so long gives up its lane to others.
const LANE_IDLE: Duration = Duration::from_secs(10);
/// After a handover that failed: the main stream is faster than the lane right now.
const HANDOVER_PAUSE: Duration = Duration::from_secs(1);

/// A member of the main stream, or on the way to be one.
pub struct Membership {
    pub main: Arc<Main>,
    pub id: MemberId,
    pub queue: Arc<Queue>,
}

impl Membership {
    /// A queue for a client, and its place behind what the main stream has delivered. None when that has ended.
    pub fn new(registry: &Registry, main: &Arc<Main>, durable: Option<&str>, feed: &Feed) -> Option<Membership> {
        let queue = queue(registry, main, feed);
        let id = main.fanout.join(durable, &queue)?;
        Some(Membership { main: main.clone(), id, queue })
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.queue.end(QueueEnd::Dropped);
        self.main.fanout.goes(self.id);
    }
}

fn queue(registry: &Registry, main: &Main, feed: &Feed) -> Arc<Queue> {
    // A quarter of the budget: the queues all end at the live edge, so what all of them hold is what the longest does.
    let limit_bytes = registry.options.buffer_bytes.min(main.budget_bytes / 4);
    Queue::new(limit_bytes, feed.news.clone(), main.fanout.appetite())
}

pub struct Conductor {
    registry: Arc<Registry>,
    feed: Arc<Feed>,
    name: String,
    /// 0 for an ephemeral one.
    epoch: u64,
    state: watch::Sender<State>,
    /// Of an ephemeral one that has no position: the store of its snapshot.
    own: Option<Store>,
    lane: Option<Lane>,
    member: Option<Membership>,
    /// Whether rows of added tables are to come before it is live; where that changes, lanes begin anew.
    owed_rows: bool,
    /// Whether the next lane is to bring them.
    rows_next: bool,
    backoff: Backoff,
}

impl Conductor {
    pub fn new(
        registry: Arc<Registry>,
        feed: Arc<Feed>,
        name: String,
        epoch: u64,
        member: Option<Membership>,
        state: watch::Sender<State>,
    ) -> Self {
        let (own, lane, owed_rows, rows_next, backoff) = (None, None, false, false, Backoff::default());
        Conductor { registry, feed, name, epoch, state, own, lane, member, owed_rows, rows_next, backoff }
    }

    /// Until the client or the stream is gone. `_done` is dropped when everything is cleared away.
    pub async fn run(mut self, _done: watch::Sender<()>) {
        let mut over = self.feed.over.subscribe();
        let ended = tokio::select! {
            biased;
            _ = over.wait_for(|over| *over) => None,
            ended = self.conduct() => Some(ended),
        };
        if let Some(ended) = ended {
            if let Ended::Failed(error) = &ended {
                tracing::warn!(consumer = self.name, ?error, "a consumer's stream failed");
                self.registry.failed(&self.name, error);
            }
            self.feed.end(ended);
        }
        self.leave().await;
        self.registry.unseat(&self.name, &self.feed);
    }

    /// Gives up lane and membership; a durable member is parked when this returns, if the stream lasts so long.
    async fn leave(&mut self) {
        let lane_is_done = match self.lane.take() {
            Some(lane) => lane.give_up().await,
            None => false,
        };
        if let Some(member) = self.member.take() {
            member.queue.end(QueueEnd::Dropped);
            // Between the two: what it has acknowledged of the live stream counts, as it holds all of the lane.
            if lane_is_done && let Ok(Some(position)) = self.position() {
                self.enter(&member, &position);
            }
            member.main.fanout.leave(member.id).await;
        }
    }

    /// A durable member stands on its own from here on, if its lane has brought it to where it joined.
    fn enter(&self, member: &Membership, position: &Position) {
        let began = self.durable().and_then(|_| member.main.fanout.began(member.id));
        if began.is_some_and(|began| position.reaches(&began)) {
            member.main.fanout.enter(member.id, position);
        }
    }

    fn durable(&self) -> Option<&str> {
        (self.epoch > 0).then_some(self.name.as_str())
    }

    /// Ephemeral ones are not shown.
    fn shown(&self, main: &Main) -> Option<Arc<Member>> {
        self.durable().map(|name| main.progress.member(Role::Consumer, name))
    }

    fn stored(&self) -> Result<Consumer, Ended> {
        let known = self.registry.known(&self.name).map_err(Ended::Failed)?;
        let known = known.ok_or_else(|| Ended::ByOperator(format!("consumer {:?} is forgotten", self.name)))?;
        match known.standing {
            Standing::Detached(why) => Err(Ended::Detached(why)),
            _ => Ok(known),
        }
    }

    /// What the client holds durably; of an ephemeral one what it was given.
    fn position(&self) -> Result<Option<Position>, Ended> {
        match self.durable() {
            Some(_) => Ok(self.stored()?.position),
            None => Ok(self.feed.position()),
        }
    }

    async fn conduct(&mut self) -> Ended {
        loop {
            self.state.send_replace(State::Waiting);
            let Some(main) = self.registry.main().await else { return Ended::Stopping };
            if let Some(member) = self.shown(&main) {
                self.feed.shown_as(member, &main.progress);
            }
            let stepped = match &self.member {
                Some(_) => self.begin_live().await,
                None => self.catch_up(&main).await,
            };
            if let Err(ended) = stepped {
                return ended;
            }
        }
    }

    fn read_live(&mut self, main: &Arc<Main>, id: MemberId, queue: &Arc<Queue>, from: Position) {
        let target = Target::Live(self.durable().map(|_| (main.fanout.clone(), id)));
        self.feed.push(Stage { queue: queue.clone(), target, from: Some(from) });
    }

    /// It was let in with a place in the live stream.
    async fn begin_live(&mut self) -> Result<(), Ended> {
        let Some(Membership { main, id, queue }) = &self.member else { return Ok(()) };
        let (main, id, queue) = (main.clone(), *id, queue.clone());
        let Some(began) = main.fanout.began(id) else {
            self.leave().await;
            return Ok(());
        };
        // Where it begins ahead of the stream, all up to there is passed over.
        let from = self.position()?.filter(|from| from.covers(&began)).unwrap_or(began);
        main.fanout.enter(id, &from);
        self.read_live(&main, id, &queue, from);
        self.live(&main, &queue).await
    }

    async fn catch_up(&mut self, main: &Arc<Main>) -> Result<(), Ended> {
        self.ask_for_owed();
        if let Some(position) = self.position()?.filter(|_| !self.owed_rows) {
            let queue = queue(&self.registry, main, &self.feed);
            if let Some(id) = main.fanout.join_at(self.durable(), &queue, &position) {
                self.member = Some(Membership { main: main.clone(), id, queue: queue.clone() });
                self.read_live(main, id, &queue, position);
                return self.live(main, &queue).await;
            }
        }
        let mut reading = self.feed.reading.subscribe();
        if reading.wait_for(|reading| *reading).await.is_err() {
            return Err(Ended::Stopping);
        }
        let turn = self.registry.lanes.clone().acquire_owned().await;
        let turn = turn.map_err(|_| Ended::Failed(Error::bug("nobody closes the lanes")))?;
        if !*self.feed.reading.borrow() {
            return Ok(());
        }
        // It may be at the edge by now, and owed more: by whoever adds tables, before the generation is another one.
        let generation = self.registry.sources.added().generation();
        self.ask_for_owed();
        let position = self.position()?;
        let store = self.lane_store(main, position.as_ref()).map_err(Ended::Failed)?;
        let takes_rows = std::mem::take(&mut self.rows_next);
        let errand = Errand { from: position, takes_rows, generation };
        let progress = main.progress.beside(self.shown(main).as_deref());
        let lane = Lane::start(&self.registry, &self.name, store, errand, &self.feed, progress, turn);
        self.lane = Some(lane.map_err(Ended::Failed)?);
        self.lane().await
    }

    /// Finds out whether rows of added tables are to come before it is live, and whether the next lane is to bring them.
    fn ask_for_owed(&mut self) {
        match self.durable() {
            // What is stored is read only where there may be something.
            Some(_) if self.registry.sources.added().is_empty() => self.owed_rows = false,
            Some(name) => {
                let state = self.registry.store().and_then(|store| store.read(|store| store.consumer(name)));
                let state = state.map(|namespace| namespace.state).unwrap_or_default();
                self.owed_rows = !owed::owed(&state).is_empty();
                self.rows_next |= owed::is_begun(&state);
            }
            None => self.owed_rows = !self.feed.owed().is_empty(),
        }
        self.rows_next &= self.owed_rows;
    }

    /// What the lane's pipeline resumes from.
    fn lane_store(&mut self, main: &Main, position: Option<&Position>) -> Result<Store> {
        let store = self.registry.store()?;
        if self.epoch > 0 {
            let (store, name) = (store.clone(), self.name.clone());
            let namespace = Namespace { store, name, epoch: self.epoch };
            return Ok(Store::new(Box::new(namespace)));
        }
        let Some(position) = position else {
            // Its snapshot goes on in a store of its own, as long as the client is there.
            return Ok(self.own.get_or_insert_with(|| Store::new(Box::new(MemoryStore::default()))).clone());
        };
        let Checkpoint { base, mut state, .. } = store.read(|store| store.load())?;
        state.retain(|key, _| !owed::is_readers_own(key));
        for table in self.feed.owed() {
            let entries = owed::owe(&state, &table);
            state.extend(entries.into_iter().filter_map(|entry| Some((entry.key, entry.value?))));
        }
        let base = base.map_or(position.clone(), |base| base.earlier(position.clone()));
        let offset = SinkOffset { position: Some(position.clone()), token: None };
        let store = MemoryStore::holding(Checkpoint {
            lineage: Some(main.lineage.clone()),
            base: Some(base),
            sinks: [(self.name.clone(), offset)].into(),
            state,
            ..Checkpoint::default()
        });
        Ok(Store::new(Box::new(store)))
    }

    /// Reads the lane until the client is live, or until the lane is over.
    async fn lane(&mut self) -> Result<(), Ended> {
        let mut idle = std::pin::pin!(idle(self.feed.clone()));
        let mut handover_after = Instant::now();
        loop {
            let Some(lane) = &mut self.lane else { return Ok(()) };
            self.state.send_if_modified(|state| {
                let now = if lane.in_snapshot() { State::Snapshot } else { State::Lane };
                let changed = *state != now;
                *state = now;
                changed
            });
            tokio::select! {
                biased;
                ended = lane.ended() => return self.lane_ended(ended).await,
                () = &mut idle => {
                    self.leave().await;
                    return Ok(());
                }
                () = tokio::time::sleep(LANE_POLL) => {}
            }
            if self.registry.is_over() {
                return Err(Ended::Stopping);
            }
            if lane.errand.generation != self.registry.sources.added().generation() {
                // Tables were added: of another lane.
                self.leave().await;
                self.feed.rewind(self.position()?);
                return Ok(());
            }
            let Some(main) = self.registry.main_now() else { continue };
            let near = lane.delivered().zip(self.registry.edge_before(BEHIND));
            let near = near.is_some_and(|(lane, edge)| lane.reaches(&edge));
            if lane.errand.takes_rows && lane.has_rows() {
                self.feed.has_rows();
            }
            if near && self.owed_rows && !lane.errand.takes_rows {
                self.rows_next = true;
                self.leave().await;
                return Ok(());
            }
            let near = near && lane.has_rows();
            if near && Instant::now() >= handover_after {
                match self.hand_over(&main).await? {
                    Handover::Live(queue) => return self.live(&main, &queue).await,
                    Handover::Over => return Ok(()),
                    Handover::TooEarly => handover_after = Instant::now() + HANDOVER_PAUSE,
                }
            }
        }
    }

    /// Joins the live stream beside the lane, and lets the lane run to where it joined.
    async fn hand_over(&mut self, main: &Arc<Main>) -> Result<Handover, Ended> {
        let mut idle = std::pin::pin!(idle(self.feed.clone()));
        let queue = queue(&self.registry, main, &self.feed);
        let Some(id) = main.fanout.join(self.durable(), &queue) else { return Ok(Handover::TooEarly) };
        self.member = Some(Membership { main: main.clone(), id, queue: queue.clone() });
        let reached = loop {
            let Some(lane) = &mut self.lane else { return Ok(Handover::Over) };
            if let (Some(began), Some(delivered)) = (main.fanout.began(id), lane.delivered())
                && delivered.reaches(&began)
            {
                break delivered;
            }
            tokio::select! {
                biased;
                ended = lane.ended() => {
                    self.lane_ended(ended).await?;
                    return Ok(Handover::Over);
                }
                _ = queue.ended() => {
                    // The lane goes on as if nothing had been.
                    if let Some(member) = self.member.take() {
                        member.main.fanout.leave(member.id).await;
                    }
                    return Ok(Handover::TooEarly);
                }
                () = &mut idle => {
                    self.leave().await;
                    return Ok(Handover::Over);
                }
                () = tokio::time::sleep(LANE_POLL) => {}
            }
        };
        let Some(lane) = &mut self.lane else { return Ok(Handover::Over) };
        lane.stop();
        // What the lane still delivers comes twice, and once to the client.
        let target = Target::Live((self.epoch > 0).then(|| (main.fanout.clone(), id)));
        self.feed.push(Stage { queue: queue.clone(), target, from: Some(reached) });
        let ended = tokio::select! {
            biased;
            ended = lane.ended() => ended,
            _ = queue.ended() => {
                self.leave().await;
                return Ok(Handover::Over);
            }
            () = idle => {
                self.leave().await;
                return Ok(Handover::Over);
            }
        };
        match ended {
            Ok(LaneEnd::Stopped) => {}
            ended => {
                self.lane_ended(ended).await?;
                return Ok(Handover::Over);
            }
        }
        self.lane = None;
        self.own = None;
        if let (Some(member), Some(position)) = (&self.member, self.position()?) {
            self.enter(member, &position);
        }
        Ok(Handover::Live(queue))
    }

    /// A lane has ended that was not to end, or with an error.
    async fn lane_ended(&mut self, ended: Result<LaneEnd>) -> Result<(), Ended> {
        let progress = self.lane.as_ref().map(|lane| lane.progress.clone());
        self.leave().await;
        if let (Some(progress), Err(error)) = (&progress, &ended) {
            progress.source.add(error);
            if error.is_transient() {
                progress.tries_again(&progress.source, error);
            }
        }
        match ended {
            Ok(LaneEnd::Stopped) => Ok(()),
            Ok(LaneEnd::Rewound) => {
                self.feed.rewind(self.position()?);
                Ok(())
            }
            Err(error) if error.is_transient() => {
                let delay = self.backoff.next();
                tracing::warn!(consumer = self.name, ?error, delay_ms = delay.as_millis() as u64, "a lane failed");
                self.registry.failed(&self.name, &error);
                tokio::time::sleep(delay).await;
                Ok(())
            }
            Err(error) => Err(Ended::Failed(error)),
        }
    }

    /// Reads the live stream until the client is taken off it.
    async fn live(&mut self, main: &Arc<Main>, queue: &Arc<Queue>) -> Result<(), Ended> {
        self.state.send_replace(State::Live);
        self.backoff.reset();
        if let Some(member) = self.shown(main) {
            member.failures.recovered();
        }
        match queue.ended().await {
            // Too slow, or gone.
            QueueEnd::Dropped | QueueEnd::Finished => {
                self.leave().await;
                Ok(())
            }
            // The stream ends, or begins anew from what is stored; this consumer is parked then.
            QueueEnd::Closed => {
                self.member = None;
                let again = loop {
                    match self.registry.main().await {
                        None => return Err(Ended::Stopping),
                        Some(again) if !Arc::ptr_eq(&again, main) => break again,
                        Some(_) => tokio::time::sleep(LANE_POLL).await,
                    }
                };
                let position = match self.durable() {
                    Some(_) => self.position()?,
                    None => {
                        let store = self.registry.store().map_err(Ended::Failed)?;
                        let base = store.read(|store| store.load()).map_err(Ended::Failed)?.base;
                        let given = self.feed.position().or_else(|| again.fanout.edge());
                        given.map(|given| base.map_or(given.clone(), |base| base.earlier(given)))
                    }
                };
                self.feed.rewind(position);
                Ok(())
            }
        }
    }
}

enum Handover {
    Live(Arc<Queue>),
    /// The lane goes on; to be tried again.
    TooEarly,
    /// Neither is left.
    Over,
}

/// Returns when the client has taken nothing for a while.
async fn idle(feed: Arc<Feed>) {
    let mut reading = feed.reading.subscribe();
    loop {
        if reading.wait_for(|reading| !*reading).await.is_err() {
            return std::future::pending().await;
        }
        if tokio::time::timeout(LANE_IDLE, reading.wait_for(|reading| *reading)).await.is_err() {
            return;
        }
    }
}
