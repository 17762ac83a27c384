//! What a database must be able to do to be streamed from.
//!
//! Invariants:
//! - A source delivers through its [`Outlet`] alone: it does not know who consumes, nor when a position is stored.
//! - It tells the server only positions that come back on `confirmed`.
//! - Its durable state (chunk progress, schema versions) is its own bytes: it hands them out with batches and gets them
//!   back at the start.

pub mod mysql;
mod pace;
pub mod postgres;
mod retention;
mod socket;
pub mod tables;
pub mod tls;
mod url;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::error::{Error, Finding, Result};
use crate::flow::{Extent, Measure, Observation, Outlet};
use crate::record::{Lineage, Position, StateEntry, TableSchema, owed};
use tables::Added;

pub use retention::{Gap, Verdict};

/// A source's durable state, as the offset store holds it.
pub type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the offset store holds of earlier runs.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    pub lineage: &'a Lineage,
    /// The earliest position; none while the first snapshot is not complete and has no progress.
    pub needed: Option<&'a Position>,
    pub state: &'a State,
}

/// From where on the server holds the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    pub position: Position,
    /// What a stream from there has to know and cannot ask for later (the tables as they are defined at that point): it is
    /// stored together with the position by whoever begins there.
    pub state: Vec<StateEntry>,
}

/// Why a stream ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// Everything up to the asked position has been delivered.
    Reached,
    /// It was asked to stop; the connection is still open for the last confirmation.
    Stopped,
    /// A transaction of which batches were delivered never ended in the log: the server crashed over writing it. Sinks must
    /// go back to where they are stored; asked again, the source passes over it.
    Retracted,
    /// Nothing was delivered: tables were added of which it has to learn first, by [`Source::prepare`].
    Unprepared,
}

/// What a source says of a table that is to be streamed too.
#[derive(Clone, Debug, PartialEq)]
pub enum Admission {
    /// There is none of the name.
    Unknown,
    /// It is streamed already.
    Streamed,
    /// The server sends all changes of transactions from there on.
    Admitted(Position),
}

/// A table of the stream.
#[derive(Clone, Debug)]
pub struct Streamed {
    /// As its records would have it now; its id and version mean nothing.
    pub schema: Arc<TableSchema>,
    /// Why it goes no further while the others do.
    pub stopped: Option<String>,
}

/// How rows that are there already are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// Connections that read side by side.
    pub workers: usize,
    /// About as much of a table as one chunk reads: what is read again after a crash, at most, by each worker.
    pub chunk_bytes: u64,
}

/// Which rows a snapshot reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Of all wanted tables.
    All,
    /// Of the tables that were added while the stream ran, as far as the state owes them ([`owed`]).
    Owed,
}

impl Rows {
    /// What the keys of its progress begin with.
    const fn prefix(self) -> &'static str {
        match self {
            Rows::All => owed::SNAPSHOT,
            Rows::Owed => owed::ADDED,
        }
    }
}

/// Opens sources beside the main one: over the same tables of the same stream, for those who are behind it.
pub trait Lanes: Send + Sync {
    /// Connects to nothing yet. The main source must have been prepared once: what it made on the server is used. What
    /// the lane makes is gone with it. `takes_snapshot`: the rows that are there already are wanted first.
    fn open(&self, takes_snapshot: bool) -> Result<Box<dyn Source>>;

    /// What the sources want beside what is configured.
    fn added(&self) -> Added {
        Added::default()
    }
}

#[async_trait]
pub trait Source: Send {
    /// Connects and says whose log this is. Errors: `Config` or `Transient`.
    async fn lineage(&mut self) -> Result<Lineage>;

    /// Whether the server still holds everything from `position` on, which was stored under `stored`.
    async fn retention(&mut self, stored: &Lineage, position: &Position) -> Result<Verdict>;

    /// Makes what the stream needs on the server where it is absent and permitted (slot, publication), and says from
    /// where on the server holds the log. `state` is what the store holds from earlier runs.
    async fn prepare(&mut self, state: &State) -> Result<Ready>;

    /// Delivers rows, and returns the point they stand at: the stream goes on from there.
    ///
    /// `from`: none for a fresh snapshot of all tables. Otherwise `state` holds the progress of one that was interrupted,
    /// whose finished chunks stand at `from`; or it owes the rows of tables that were added, of which nothing was read yet,
    /// and is itself of `from`. The changes of all tables since then are delivered first, as
    /// [`crate::record::Origin::CatchUp`], then the remaining rows. The last batch carries the point as its position, removes
    /// the progress, and owes nothing of it any more. A `Transient` error asks to be called again with the state that has
    /// been stored by then. Cancel-safe.
    async fn snapshot(
        &mut self,
        rows: Rows,
        from: Option<Position>,
        state: &State,
        outlet: &Outlet,
    ) -> Result<Position>;

    /// Where the finished chunks of an interrupted snapshot stand, if the state holds one. Errors: `Data` for state that
    /// is not this source's.
    fn interrupted(&self, rows: Rows, state: &State) -> Result<Option<Position>>;

    /// Where the log ends now, for `--until current`.
    async fn tip(&mut self) -> Result<Position>;

    /// The first position that the server would still send everything from.
    async fn earliest(&mut self) -> Result<Position>;

    /// Delivers every change from `from` on, of the tables that are wanted there ([`tables::Added`]), until `until` where one is given, else until `stop` or an error. A
    /// `Transient` error asks to be called again from the last position delivered.
    async fn stream(
        &mut self,
        from: Position,
        until: Option<Position>,
        outlet: &Outlet,
        confirmed: watch::Receiver<Option<Position>>,
        stop: watch::Receiver<bool>,
    ) -> Result<StreamEnd>;

    /// Tells the server the last confirmed position and gives back what is not to outlive the process.
    async fn close(&mut self, confirmed: Option<Position>) -> Result<()>;

    /// Every prerequisite, all at once. `stored`: what earlier runs have left, if anything. An error only where not even a
    /// connection can be had.
    async fn check(&mut self, stored: Option<Stored<'_>>) -> Result<Vec<Finding>>;

    /// The tables and columns there are, as JSON.
    async fn discover(&mut self) -> Result<serde_json::Value>;

    /// The tables that are streamed, as the server has them now. `state`: what the store holds.
    async fn tables(&mut self, _state: &State) -> Result<Vec<Streamed>> {
        Ok(Vec::new())
    }

    /// Sees to it that the server sends the changes of one more table, for this source and the others of its stream; they take
    /// it up when it is selected. Errors: `Config`, where it cannot be streamed, with what has to be done first.
    async fn admit(&mut self, namespace: &str, name: &str) -> Result<Admission> {
        Err(Error::config(format!("{namespace}.{name}: this source takes up no more tables")))
    }

    /// Looks at the server that the source is connected to, beside the stream and wherever that goes; none where there is
    /// nothing to see.
    fn observer(&self) -> Result<Option<Box<dyn Observer>>> {
        Ok(None)
    }
}

/// A second pair of eyes, with a connection of its own.
#[async_trait]
pub trait Observer: Send {
    /// What positions are in bytes.
    fn extent(&self) -> Arc<dyn Extent>;

    /// Connects where it is not connected, and looks. Errors: those of a connection and of a query.
    async fn look(&mut self) -> Result<Observation>;

    /// The connection is of no use any more.
    fn disconnect(&mut self);
}

/// What observers of every source can read off their servers.
pub fn measures() -> impl Iterator<Item = &'static Measure> {
    postgres::MEASURES.iter().chain(mysql::MEASURES)
}
