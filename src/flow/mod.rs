//! From a source's scan to the fan-out: the memory budget and the batch writer.
//!
//! Invariants:
//! - Backpressure has one place: [`Budget`]. Its permit lives in the batch and is given back by Drop.
//! - [`Outlet::deliver`] never waits: what is delivered has already been paid for.
//! - A batch is cut at a commit where it can be, so that it carries a position; inside a transaction only at its limit.

mod budget;
mod clock;
mod failures;
mod histogram;
mod member;
mod observation;
mod progress;
mod traffic;
mod writer;

pub use budget::{Budget, Permit};
pub use failures::{ByClass, Failures};
pub use histogram::Histogram;
pub use member::{Member, Role};
pub use observation::{Extent, Measure, Observation, Reading, Unit};
pub use progress::{Beat, Count, Observed, Phase, Progress};
pub use traffic::{OTHER_TABLES, TABLES_MAX, Totals, Traffic};
pub use writer::{BatchWriter, CaughtUp, Deliver, Draft, Outlet, Within};
