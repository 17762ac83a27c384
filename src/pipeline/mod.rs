//! One source, its sinks, and the one path by which anything is acknowledged.
//!
//! Invariants:
//! - The order of durability is fixed: sinks durable, then the offset store synced, then the server told. Heartbeats,
//!   the end of a snapshot and shutdown take the same path.
//! - Only the committer writes positions while the pipeline runs; only the source talks to the server.
//! - A worker that ends with an error acknowledges nothing more, and the pipeline ends with that error.

mod acks;
mod backoff;
mod committer;
mod control;
mod fanout;
mod hub;
mod observer;
mod run;
mod warm_start;
mod worker;

pub(crate) use backoff::Backoff;
pub use control::{AddedTable, Control, NewOffset, NewTable};
pub use hub::{Attach, Attachment, ConsumerStatus, Ended, Event, From, Handle, Hub, HubOptions, Refused, State};
pub use run::{Options, Outcome, Pipeline, SinkSpec, Until};
pub use warm_start::{LostPolicy, SnapshotMode, StartAt};
