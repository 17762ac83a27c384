//! What a Postgres source is told.

use std::time::Duration;

use super::conninfo::ConnInfo;
use crate::source::SnapshotSettings;
use crate::source::tables::Selection;

pub struct Settings {
    pub conninfo: ConnInfo,
    pub selection: Selection,
    pub slot: SlotKind,
    /// None: one for the life of the process.
    pub publication: Option<String>,
    /// Whether a new permanent slot is copied to standbys (17+).
    pub failover: bool,
    /// How often a message is written into the log of an otherwise quiet database.
    pub heartbeat: Option<Duration>,
    /// Whether the rows that are there already are read.
    pub takes_snapshot: bool,
    pub snapshot: SnapshotSettings,
}

/// Which slot the stream comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// One that goes with its connection, and the stream with it.
    Temporary,
    /// One of this name, made where there is none.
    Permanent(String),
    /// A temporary one that begins where the permanent one of this name stands: positions are of the same stream.
    CopyOf(String),
}

impl SlotKind {
    /// Of a slot that outlives us.
    pub fn name(&self) -> Option<&str> {
        match self {
            SlotKind::Temporary => None,
            SlotKind::Permanent(name) | SlotKind::CopyOf(name) => Some(name),
        }
    }
}
