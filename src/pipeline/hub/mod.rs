//! Consumers: readers of the stream that come and go while it runs.
//!
//! Invariants:
//! - Nobody waits for a consumer: one whose queue is full is taken off the live stream, and catches up on a lane of its own.
//! - A durable consumer goes on exactly behind its last acknowledgement: its position is either that of a member of the main
//!   pipeline, or stands in a namespace of the store with a copy of the source's state as of that position.
//! - What a durable consumer still needs is held: nothing beyond it is confirmed to the server, until it is detached.
//! - One client at a time has a durable consumer; what one of an older epoch says changes nothing.
//! - What changes a consumer in the store changes what is held for it under the store's lock.
//!
//! The way of a consumer: parked, waiting for its client and its turn, on a lane until it is where the main stream was a
//! second ago; then it joins that too, reads the lane to an end behind where it joined, and is live. Too slow for the live
//! stream it is parked, and begins again.

mod api;
mod attachment;
mod conductor;
mod feed;
mod lag;
mod lane;
mod place;
mod queue;
mod registry;

use std::sync::Arc;

pub use api::{Attach, ConsumerStatus, Ended, Event, From, HubOptions, Refused, State};
pub use attachment::{Attachment, Handle};
pub(super) use lane::{LaneEnd, Remote};
pub(super) use queue::{Appetite, Queue, QueueEnd};
pub(super) use registry::{Main, hold_all};

use registry::Registry;

/// All consumers of a main pipeline.
#[derive(Clone)]
pub struct Hub {
    registry: Arc<Registry>,
}
