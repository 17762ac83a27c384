//! The offset store: what survives the process.
//!
//! Invariants:
//! - It stores and refuses, it does not decide: another lineage, a position that goes back, a newer format, a corrupt
//!   store are errors, and nothing is overwritten.
//! - One [`OffsetUpdate`] is one atomic, synced write: after [`OffsetStore::commit`] returns, it survives a power cut.
//! - A durable consumer is live, and then the main state is not ahead of it; or it has a namespace of its own, with a copy of
//!   the source's state. It goes from one to the other in one write.

mod codec;
mod consumer;
mod memory;
mod orders;
mod rocksdb;
mod rules;
mod shared;

use std::collections::BTreeMap;

use crate::error::Result;
use crate::record::{Lineage, Position, SinkOffset, StateEntry};

pub use consumer::{Consumer, ConsumerChange, Lag, Namespace, NewPlace, Parked, Place, Standing, check_name};
pub use memory::MemoryStore;
pub use orders::Orders;
pub use rocksdb::RocksStore;
pub use shared::Store;

/// Everything the store holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// None in a new store.
    pub lineage: Option<Lineage>,
    /// What the state is of, where that is kept: a stream has to begin there, however far the sinks are.
    pub base: Option<Position>,
    pub sinks: BTreeMap<String, SinkOffset>,
    /// The source's own state.
    pub state: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Durable consumers, by name.
    pub consumers: BTreeMap<String, Consumer>,
    pub orders: Orders,
}

/// One step forward.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetUpdate {
    /// Sinks whose position, token or both moved.
    pub sinks: BTreeMap<String, SinkOffset>,
    /// In order: a later entry of a key wins.
    pub state: Vec<StateEntry>,
    /// What the state is of from now on.
    pub base: Option<Position>,
    /// Durable consumers that moved, joined or left. Unknown ones are left unknown.
    pub consumers: BTreeMap<String, Place>,
}

impl OffsetUpdate {
    pub fn is_empty(&self) -> bool {
        self.sinks.is_empty() && self.state.is_empty() && self.base.is_none() && self.consumers.is_empty()
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

    /// Gives every live consumer a namespace of its own, with the state as it is: what a process that was killed left live.
    fn park_live(&mut self) -> Result<()>;

    /// All consumers, as [`Self::load`] has them, without reading anything.
    fn consumers(&self) -> BTreeMap<String, Consumer>;

    /// What a consumer's own pipeline resumes from: its namespace. Errors: `Config` where it has none.
    fn consumer(&self, name: &str) -> Result<Checkpoint>;

    /// Errors: `Config` where there is no such consumer, unless the change makes it.
    fn change_consumer(&mut self, name: &str, change: &ConsumerChange) -> Result<()>;

    /// As [`Self::commit`], into a consumer's namespace: its own offset, base and state. Errors: also `Config`, where the
    /// epoch is over or the consumer has no namespace.
    fn commit_consumer(&mut self, name: &str, epoch: u64, update: &OffsetUpdate) -> Result<()>;

    /// Puts one sink where the operator says, backwards too. Errors: `Config` when the store is not bound.
    fn set(&mut self, sink: &str, offset: &SinkOffset) -> Result<()>;

    /// Replaces what operators have ordered. Errors: as for [`Self::commit`].
    fn order(&mut self, orders: &Orders) -> Result<()>;

    /// Forgets everything: lineage, positions, state and orders.
    fn reset(&mut self) -> Result<()>;
}

#[cfg(test)]
mod tests;
