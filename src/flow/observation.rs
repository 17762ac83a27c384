//! What is seen of a server beside its stream: where its log ends, what it keeps of it, what is wrong.
//!
//! Invariants:
//! - The names of a database's own things come from its source, with their units and help; whoever shows them knows no
//!   database.

use crate::record::Position;

/// Lays a server's positions on one scale of bytes of log.
pub trait Extent: Send + Sync {
    /// Bytes of log before the position, from a beginning that is the same for as long as the process lives; none where
    /// that is not known.
    fn bytes(&self, position: &Position) -> Option<u64>;
}

/// The base unit of a measure, the last word of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Seconds,
}

/// A number that a source reads off its server.
#[derive(Debug, PartialEq, Eq)]
pub struct Measure {
    /// Without the unit: `slot_safe_wal_size`.
    pub name: &'static str,
    pub unit: Option<Unit>,
    /// A sentence without its full stop.
    pub help: &'static str,
    /// Where there are several numbers of it: the name of what tells them apart.
    pub label: Option<&'static str>,
}

/// One number of a measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub measure: &'static Measure,
    /// The label's value, where the measure has a label.
    pub label: &'static str,
    pub value: f64,
}

/// One look at the server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Where the log ends, on the scale of the source's [`Extent`].
    pub end_bytes: Option<u64>,
    pub readings: Vec<Reading>,
    /// Why the stream cannot go on, where that is seen already: the slot is gone, the log that is needed was removed.
    pub trouble: Option<String>,
}
