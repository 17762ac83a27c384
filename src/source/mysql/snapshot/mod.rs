//! Every row of the wanted tables, as of one point of the log.
//!
//! Invariants:
//! - All readers see the tables at the same point, which is proven ([`open`]): what is committed before it is in the
//!   snapshot, what is committed after is in the stream from the point on, and nothing is in both. That holds for engines
//!   with transactions that keep old row versions (InnoDB, MyRocks). Tables of the others (MyISAM, Aria, MEMORY, CSV,
//!   ARCHIVE) are read as they are when their rows come, which is after the point: a change in between comes twice, once in
//!   the row and once from the stream, which ends in the same row. They are named in a warning.
//! - A chunk is the rows behind one key up to another, wherever their pages are. What is left of a table is stored, in
//!   ranges of its key: no matter what is inserted later, a row belongs to what is finished or to what is left.
//! - A finished chunk is stored once it is durable. An interrupted snapshot goes on under a new one, at a later point: first
//!   the changes up to that point are delivered, so that what is finished stands there too, then the ranges that are left.
//!   A change of a row that is left is delivered as well, and the row comes again as it then is; a row whose key moves it
//!   from what is left into what is finished comes whole with its change, or the table is read anew ([`Snapshot::anew`]).
//!   How far the changes are is stored with them, so that an attempt that is interrupted there delivers none twice, as long
//!   as no table is to be read anew.
//! - No row is delivered under a point before the point is stored.
//! - A table that was altered after the point cannot be read under it: that asks for a new point, and nothing else is lost.
//! - The end removes all progress and carries the point as position, in one batch: it is the seam to the stream.

mod key;
mod open;
mod pool;
mod progress;
mod reader;
mod split;
mod table;
mod worker;

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;

use super::connection::Connection;
use super::server::{Flavor, Server};
use super::url::ConnInfo;
use super::xa::XidKey;
use crate::error::{Error, Result};
use crate::fault;
use crate::flow::Outlet;
use crate::record::{Position, StateEntry, owed};
use crate::source::{Rows, SnapshotSettings, State};

pub use progress::{Progress, TableName, caught_up};
pub use reader::Point;
pub use table::Wanted;

use key::Range;
use open::Opened;
use pool::Pool;
use reader::Reader;
use table::Job;
use worker::Worker;

/// Engines whose tables are seen at the point, as information_schema.TABLES.ENGINE prints them.
const VERSIONED_ENGINES: [&str; 2] = ["InnoDB", "ROCKSDB"];

/// Seconds that a view may be idle: catching up on days of the log comes before its first row, and sinks may stand still.
const IDLE_S: u32 = 7 * 24 * 3600;

/// Connections that all see the tables at one point.
pub struct Views {
    pub point: Point,
    /// XA transactions that are prepared there, as far as the account may know.
    pub prepared: HashSet<XidKey>,
    connections: Vec<Connection>,
}

impl Views {
    /// Opens as many as there are to be workers; fewer where the server can prove the point of no more. `tables`: those to
    /// be read.
    ///
    /// Whether the tables' definitions are those of the point is for the caller to know: asked for before and after, they
    /// are, when they are equal.
    ///
    /// # Errors
    /// `Config` where the account may do nothing that proves a point, `Transient` where the server is too busy for it.
    pub async fn open(info: &ConnInfo, server: &Server, workers: usize, tables: &[TableName]) -> Result<Views> {
        let mut control = Connection::connect(info).await?;
        control.execute(&open::control_session()).await?;
        // All to the server that the first was let into, though the URL may name several.
        let info = control.same_server().clone();
        let mut connections = Vec::new();
        for _ in 0..workers.max(1) {
            connections.push(connect(&info, server).await?);
        }
        let opened = open::open(server, &mut control, &mut connections, tables).await?;
        let Opened { point: position, way, prepared } = opened;
        control.close().await;
        tracing::info!(point = %position, workers = connections.len(), by = way, "the snapshot's point");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        let position = Position::MySql(Arc::new(position));
        // The first record of a transaction is 1: its begin would be 0.
        let point = Point { position, unix_micros: now, ordinal: Arc::new(AtomicU64::new(1)) };
        Ok(Views { point, prepared, connections })
    }
}

/// A connection for rows as they are stored.
async fn connect(info: &ConnInfo, server: &Server) -> Result<Connection> {
    let mut connection = Connection::connect(info).await?;
    connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
    // Texts come as the column has them, which is how the log has them.
    let mut sql = format!("SET SESSION character_set_results = NULL, SESSION wait_timeout = {IDLE_S}");
    sql.push_str(&format!(", SESSION net_write_timeout = {IDLE_S}"));
    if server.flavor == Flavor::MariaDb {
        for name in ["idle_transaction_timeout", "idle_readonly_transaction_timeout"] {
            sql.push_str(&format!(", SESSION {name} = 0"));
        }
    }
    connection.execute(&sql).await?;
    Ok(connection)
}

/// What a snapshot is made of.
pub struct Snapshot<'a> {
    pub rows: Rows,
    pub settings: &'a SnapshotSettings,
    /// As they stand at the point.
    pub tables: Vec<Wanted>,
    pub outlet: &'a Outlet,
    /// What is finished of an interrupted snapshot.
    pub progress: Option<Progress>,
    /// Its state, to be removed at the end.
    pub state: &'a State,
    /// What catching up has found, to be stored with the point.
    pub staged: Vec<StateEntry>,
    /// Tables of which nothing that is finished can be kept: catching up met a row whose key changed and that was not
    /// logged whole (`binlog_row_image` is not FULL), so that it may have moved into what is finished without its other
    /// columns.
    pub anew: BTreeSet<TableName>,
}

/// What all workers share.
struct Shared {
    rows: Rows,
    pool: Pool<Wanted, Piece>,
    progress: Option<Progress>,
    outlet: Outlet,
    chunk_bytes: u64,
    /// Keys of the state that this run has stored, for the end to remove.
    stored: Mutex<BTreeSet<Vec<u8>>>,
}

/// A range of a table that is to be read, and the number it is stored under.
struct Piece {
    job: Arc<Job>,
    number: u64,
    range: Range,
}

impl Snapshot<'_> {
    /// Delivers it all. Returns the point.
    ///
    /// # Errors
    /// `Transient` asks to be called again, with new views and the state that is stored by then.
    pub async fn run(mut self, views: Views) -> Result<Position> {
        let Views { point, connections, .. } = views;
        self.warn_of_engines();
        let mut readers = Vec::new();
        for connection in connections {
            readers.push(Reader::new(connection, &point, self.outlet).await?);
        }
        let Some(mut first) = readers.pop() else { return Err(Error::bug("a snapshot without a view")) };
        let mut entries = std::mem::take(&mut self.staged);
        if let Some(progress) = &mut self.progress {
            entries.extend(std::mem::take(&mut self.anew).iter().flat_map(|table| progress.forget(table)));
        }
        entries.push(progress::point(self.rows, &point.position));
        let stored = first.finish(entries).await;
        // A row that is delivered before its point is stored would stand there for ever, when a crash follows, the row is
        // deleted, and the snapshot starts over behind that.
        self.outlet.stored(stored).await;
        fault::point("after_snapshot_point");
        let outlet = self.outlet;
        outlet.progress.snapshot_tables.set(self.tables.len() as u64);
        outlet.progress.snapshot_tables_done.set(0);
        outlet.progress.snapshot_rows_estimate.set(0);
        let shared = Arc::new(Shared {
            rows: self.rows,
            pool: Pool::new(self.tables),
            progress: self.progress,
            outlet: outlet.clone(),
            chunk_bytes: self.settings.chunk_bytes,
            stored: Mutex::default(),
        });
        let mut workers = JoinSet::new();
        for reader in std::iter::once(first).chain(readers) {
            workers.spawn(Worker { reader, shared: shared.clone() }.run());
        }
        let mut ended = Vec::new();
        while let Some(joined) = workers.join_next().await {
            // The first error ends the others: what they have begun is begun again anyway.
            ended.push(
                joined.unwrap_or_else(|panicked| Err(Error::bug("a snapshot reader panicked").because(panicked)))?,
            );
        }
        let Some(last) = ended.pop() else { return Err(Error::bug("a snapshot without a reader")) };
        for reader in ended {
            reader.connection.close().await;
        }
        Self::seam(self.state, last, &point, &shared).await
    }

    /// The end: the stream goes on from the point, and nothing is left of the snapshot's own state.
    async fn seam(state: &State, mut reader: Reader, point: &Point, shared: &Shared) -> Result<Position> {
        let own = std::mem::take(&mut *shared.stored.lock().unwrap_or_else(PoisonError::into_inner));
        let keys: BTreeSet<Vec<u8>> = Progress::keys(shared.rows, state)
            .chain(own)
            .chain([progress::point(shared.rows, &point.position).key])
            .collect();
        let owed = if shared.rows == Rows::Owed { owed::owed(state) } else { BTreeSet::new() };
        owed.iter().for_each(|table| reader.writer.stage(owed::settle(table)));
        for key in keys {
            reader.writer.stage(progress::remove(key));
        }
        reader.writer.close(point.position.clone());
        reader.finish([]).await;
        reader.connection.close().await;
        Ok(point.position.clone())
    }

    fn warn_of_engines(&self) {
        let others = self
            .tables
            .iter()
            .filter(|wanted| !VERSIONED_ENGINES.iter().any(|engine| engine.eq_ignore_ascii_case(&wanted.def.engine)));
        let names: Vec<String> = others.map(|wanted| format!("{} ({})", wanted.def, wanted.def.engine)).collect();
        if !names.is_empty() {
            tracing::warn!(
                tables = names.join(", "),
                "these tables keep no old row versions: a row that changes during the snapshot may come in its new form, \
                 and its change again from the log"
            );
        }
    }
}
