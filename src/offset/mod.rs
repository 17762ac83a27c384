//! The offset store: what survives the process.
//!
//! Invariants:
//! - It stores and refuses, it does not decide: another lineage, a position that goes back, a newer format, a corrupt
//!   store are errors, and nothing is overwritten.
//! - One [`OffsetUpdate`] is one atomic, synced write: after [`OffsetStore::commit`] returns, it survives a power cut.

mod codec;
mod memory;
mod rocksdb;
mod rules;

use std::collections::BTreeMap;

use crate::error::Result;
use crate::record::{Lineage, SinkOffset, StateEntry};

pub use memory::MemoryStore;
pub use rocksdb::RocksStore;

/// Everything the store holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// None in a new store.
    pub lineage: Option<Lineage>,
    pub sinks: BTreeMap<String, SinkOffset>,
    /// The source's own state.
    pub state: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// One step forward.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetUpdate {
    /// Sinks whose position, token or both moved.
    pub sinks: BTreeMap<String, SinkOffset>,
    /// In order: a later entry of a key wins.
    pub state: Vec<StateEntry>,
}

impl OffsetUpdate {
    pub fn is_empty(&self) -> bool {
        self.sinks.is_empty() && self.state.is_empty()
    }
}

/// What is known of a server when a store is bound to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// Nothing: it must be the one the store knows.
    Unproven,
    /// The source has held the stored positions against it and found them covered: its log is the one they are of,
    /// whichever server it is. (Transactions with global identifiers are the same on every server of a topology.)
    Proven,
}

pub trait OffsetStore: Send {
    /// Errors: `Config`, naming the key, when a value is corrupt.
    fn load(&self) -> Result<Checkpoint>;

    /// Binds a new store to a lineage; on a bound one it must be the same but for the timeline, which a proven
    /// failover moves forward, and but for the server where continuity with it is proven. Errors: `Lost` when it is
    /// another server, database or stream.
    fn bind(&mut self, lineage: &Lineage, continuity: Continuity) -> Result<()>;

    /// Stores one step, synced. Errors: `Bug` when a position goes back or the store is not bound; `Transient` when it
    /// cannot be written now (no space). After an error nothing or all of the step is stored; the same step may be
    /// committed again.
    fn commit(&mut self, update: &OffsetUpdate) -> Result<()>;

    /// Forgets sinks that are no longer configured, so that they stop holding the position back.
    fn retain_sinks(&mut self, keep: &dyn Fn(&str) -> bool) -> Result<()>;

    /// Puts one sink where the operator says, backwards too. Errors: `Config` when the store is not bound.
    fn set(&mut self, sink: &str, offset: &SinkOffset) -> Result<()>;

    /// Forgets everything: lineage, positions and state.
    fn reset(&mut self) -> Result<()>;
}
