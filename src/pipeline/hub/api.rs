//! What the server sees of consumers.

use std::time::Duration;

use crate::error::Error;
use crate::record::{Position, Seq};
use crate::sink::Delivery;
use crate::source::Gap;

/// A client that wants to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Attach {
    /// The durable consumer it reads as; none: an ephemeral one, of which nothing is stored or held.
    pub consumer: Option<String>,
    pub from: From,
    /// Ends the client that has the consumer now, instead of being refused.
    pub takeover: bool,
}

/// Where a client begins. Anything but `Stored` replaces what is stored of a durable consumer.
#[derive(Clone, Debug, PartialEq)]
pub enum From {
    /// Behind the last acknowledgement of this durable consumer; in an unfinished snapshot where that stopped.
    Stored,
    At(Position),
    /// With the rows as they are, then their changes.
    Snapshot,
    /// With the oldest change that the server still holds.
    Earliest,
    /// With what is committed from now on, also where the stream is still reading what was committed before.
    Latest,
}

/// Why a client was not let in.
#[derive(Debug)]
pub enum Refused {
    /// Another client has this consumer.
    AlreadyAttached { epoch: u64 },
    /// Nothing is stored of this consumer.
    Unknown,
    /// The server no longer holds the log from there on.
    OutOfRange(Gap),
    /// It is paused by an operator.
    Paused,
    /// As many consumers as the limit says are there.
    TooMany { limit: usize },
    /// `Config`: the name or the request is wrong. `Transient`: the stream is not up, or its server not reachable.
    Failed(Error),
}

/// Why an attachment ended. None of it loses anything that was not acknowledged.
#[derive(Debug)]
pub enum Ended {
    /// Another client took the consumer over.
    TakenOver,
    /// It fell behind a limit and is detached: nothing is held for it any more. The text names the limit.
    Detached(String),
    /// An operator paused, reset or dropped it; the text says which.
    ByOperator(String),
    /// The process is stopping.
    Stopping,
    /// `Lost`: the log is gone from the server. Other classes: what went wrong.
    Failed(Error),
}

/// What a client is told next.
pub enum Event {
    /// `seq` counts the deliveries of this attachment from 1, without gaps. The batch's own number means nothing here. It must
    /// be encoded and dropped without waiting for the client: it is of the memory that all share.
    Batch { seq: Seq, delivery: Delivery },
    /// Nothing came up to here. Needs no acknowledgement.
    Position(Position),
    /// What came behind this position is void, acknowledgements of it too, and comes again; none: all of it. `seq` goes on.
    Rewind(Option<Position>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Durable, and no client is there.
    Parked,
    /// It is to read a lane and waits for its turn, for its client, or for the stream.
    Waiting,
    /// Reads the tables' rows.
    Snapshot,
    /// Catches up.
    Lane,
    Live,
    Paused,
    Detached,
}

#[derive(Clone, Debug)]
pub struct ConsumerStatus {
    /// Of an ephemeral consumer a number of this process, `~1`.
    pub name: String,
    pub durable: bool,
    pub attached: bool,
    pub state: State,
    /// Behind its last acknowledgement (of an ephemeral one: its last delivery); none while its snapshot is not complete.
    pub position: Option<Position>,
    /// Bytes of log that the main stream has read behind its position.
    pub lag_bytes: u64,
    /// How long ago the main stream passed its position; 0 where it has not.
    pub lag_ms: u64,
    /// What waits for it in memory.
    pub queue_bytes: usize,
    /// Deliveries that it has not acknowledged.
    pub unacked: usize,
    /// 0 for an ephemeral one.
    pub epoch: u64,
    /// Why it is detached, or what failed last.
    pub last_error: Option<String>,
}

/// What consumers may take.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// What the queue of a live consumer may hold in memory; at most a quarter of the budget counts.
    pub buffer_bytes: usize,
    pub max_unacked_batches: usize,
    /// How many lanes there are at once.
    pub max_lanes: usize,
    /// What the batches of one lane may take.
    pub lane_budget_bytes: usize,
    /// A durable consumer further behind is detached.
    pub max_lag_bytes: u64,
    pub max_lag_time: Duration,
    /// How many durable consumers there may be.
    pub max_consumers: usize,
}

impl Default for HubOptions {
    fn default() -> Self {
        HubOptions {
            // Two seconds of 20,000 changes of 200 bytes each.
            buffer_bytes: 8 << 20,
            // As many marks are kept for it: 100 to some 300 bytes each, by how far apart its commits are.
            max_unacked_batches: 4096,
            max_lanes: 4,
            lane_budget_bytes: 8 << 20,
            max_lag_bytes: 4 << 30,
            max_lag_time: Duration::from_secs(24 * 3600),
            max_consumers: 256,
        }
    }
}
