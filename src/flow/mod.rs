//! From a source's scan to the fan-out: the memory budget and the batch writer.
//!
//! Invariants:
//! - Backpressure has one place: [`Budget`]. Its permit lives in the batch and is given back by Drop.
//! - [`Outlet::deliver`] never waits: what is delivered has already been paid for.
//! - A batch is cut at a commit where it can be, so that it carries a position; inside a transaction only at its limit.

mod budget;
mod progress;
mod writer;

pub use budget::{Budget, Permit};
pub use progress::{Count, Phase, Progress};
pub use writer::{BatchWriter, Deliver, Draft, Outlet, Within};
