//! A pipeline of one consumer, which brings it from where it stands to the live edge.
//!
//! Invariants:
//! - It has a source, a budget and a store of its own: the main stream does not notice it.
//! - Its reader is its only sink. Stopped, it ends when the client holds everything, or when its queue is dropped.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinHandle;

use super::feed::{Feed, Stage, Target};
use super::queue::{Appetite, Queue, QueueEnd};
use super::registry::Registry;
use crate::error::{Error, Result};
use crate::flow::{Phase, Progress};
use crate::offset::Store;
use crate::pipeline::fanout::Fanout;
use crate::pipeline::{Control, LostPolicy, Options, Pipeline, SnapshotMode};
use crate::record::Position;

/// What a lane's pipeline has in the place of sinks.
pub struct Remote {
    pub name: String,
    pub queue: Arc<Queue>,
    pub appetite: Arc<Appetite>,
    pub fanout: Arc<OnceLock<Arc<Fanout>>>,
    /// Whether the rows of added tables come first, where they are owed.
    pub takes_rows: bool,
}

/// Why a lane ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneEnd {
    /// As it was asked to, with all that was delivered durable, or given up.
    Stopped,
    /// What was delivered behind the stored position may not be part of the log.
    Rewound,
}

/// The longest a lane that is given up may take to say goodbye to its server: its source's own patience with the end of a
/// transaction (1 s), and two round trips.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// A client acknowledges in its own time; a lane that waits for it ends with the client.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a lane is for.
pub struct Errand {
    /// What the client holds.
    pub from: Option<Position>,
    /// Whether the rows of added tables come first, where they are owed.
    pub takes_rows: bool,
    /// Of the list of added tables: before it was asked what is owed.
    pub generation: u64,
}

pub struct Lane {
    pub queue: Arc<Queue>,
    pub errand: Errand,
    fanout: Arc<OnceLock<Arc<Fanout>>>,
    pub progress: Arc<Progress>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<LaneEnd>>,
    _turn: OwnedSemaphorePermit,
}

impl Lane {
    /// Starts one and gives it to the feed to read. `progress`: of the lane alone.
    pub fn start(
        registry: &Registry,
        name: &str,
        store: Store,
        errand: Errand,
        feed: &Feed,
        progress: Progress,
        turn: OwnedSemaphorePermit,
    ) -> Result<Lane> {
        let Errand { from, takes_rows, .. } = &errand;
        let source = registry.sources.open(from.is_none())?;
        let appetite = Arc::new(Appetite::default());
        // Its budget limits it.
        let queue = Queue::new(usize::MAX, feed.news.clone(), appetite.clone());
        let (fanout, progress) = (Arc::<OnceLock<Arc<Fanout>>>::default(), Arc::new(progress));
        let remote = Remote {
            name: name.to_owned(),
            queue: queue.clone(),
            appetite,
            fanout: fanout.clone(),
            takes_rows: *takes_rows,
        };
        let options = Options {
            snapshot: SnapshotMode::Initial,
            on_lost_position: LostPolicy::Fail,
            budget_bytes: registry.options.lane_budget_bytes,
            until: None,
            limit: None,
            commit_interval: registry.commit_interval(),
            drain_timeout: DRAIN_TIMEOUT,
            wait_for_server: true,
        };
        let (stop, stopped) = watch::channel(false);
        let pipeline = Pipeline::lane(source, store, remote, options, progress.clone(), stopped);
        let pipeline = pipeline.obeying(Control::new([], registry.sources.added()));
        feed.push(Stage { queue: queue.clone(), target: Target::Lane(fanout.clone()), from: from.clone() });
        Ok(Lane { queue, errand, fanout, progress, stop, task: tokio::spawn(pipeline.run_lane()), _turn: turn })
    }

    /// Where its stream stands; none before it has delivered a whole transaction.
    pub fn delivered(&self) -> Option<Position> {
        self.fanout.get().and_then(|fanout| fanout.edge())
    }

    /// Whether all rows have been delivered that come first.
    pub fn has_rows(&self) -> bool {
        self.progress.phase() == Phase::Stream
    }

    pub fn in_snapshot(&self) -> bool {
        self.progress.phase() == Phase::Snapshot
    }

    /// Asks it to end where the client has everything.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// How it ended. Cancel-safe; not to be asked again after an answer.
    pub async fn ended(&mut self) -> Result<LaneEnd> {
        match (&mut self.task).await {
            Ok(ended) => ended,
            Err(error) => Err(Error::bug("a lane panicked").because(error)),
        }
    }

    /// Ends it where it stands; what was not acknowledged comes again. Nothing of it is stored once this has returned. Whether
    /// everything it delivered was acknowledged, and is stored.
    pub async fn give_up(mut self) -> bool {
        self.queue.end(QueueEnd::Dropped);
        self.stop.send_replace(true);
        if !self.task.is_finished() && tokio::time::timeout(STOP_TIMEOUT, &mut self.task).await.is_err() {
            self.task.abort();
            if let Err(error) = (&mut self.task).await
                && error.is_panic()
            {
                tracing::error!(%error, "a lane panicked");
            }
        }
        self.fanout.get().is_some_and(|fanout| fanout.is_remote_done() && fanout.is_drained())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.queue.end(QueueEnd::Dropped);
        self.stop.send_replace(true);
        self.task.abort();
    }
}
