//! Rows by COPY, on a connection that sees the snapshot.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::connection::{Aside, Connection, Role};
use super::super::conninfo::ConnInfo;
use super::super::error::code;
use super::super::quote;
use crate::error::{Context, Result};
use crate::flow::{BatchWriter, Outlet};
use crate::record::{Lsn, Origin, Position, Seq, StateEntry, TableSchema, Txn};
use crate::wire::pg::copy;
use crate::wire::pg::frame::{self, tag};

/// The point that all readers of a snapshot share.
#[derive(Clone)]
pub struct Point {
    pub lsn: Lsn,
    /// As `pg_export_snapshot` names it.
    pub snapshot: String,
    pub unix_micros: i64,
    /// Numbers the rows of the snapshot.
    pub ordinal: Arc<AtomicU64>,
}

/// One connection in a transaction that sees the snapshot, and the batches made from its rows.
pub struct Reader {
    pub connection: Connection,
    pub writer: BatchWriter,
    outlet: Outlet,
    ordinal: Arc<AtomicU64>,
    /// Tables locked by this connection.
    locked: HashSet<u32>,
}

/// `lock_not_available`.
const LOCK_NOT_AVAILABLE: &str = "55P03";

impl Reader {
    pub async fn open(info: &ConnInfo, point: &Point, outlet: &Outlet) -> Result<Reader> {
        let mut connection = Connection::connect(info, Role::Sql).await?;
        connection.simple_query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        let import = format!("SET TRANSACTION SNAPSHOT {}", quote::literal(&point.snapshot));
        connection.simple_query(&import).await?;
        let mut writer = BatchWriter::new(outlet.clone(), Origin::Snapshot);
        writer.open(Txn {
            commit: Position::Postgres(point.lsn),
            id: None,
            commit_unix_micros: Some(point.unix_micros),
        });
        Ok(Reader {
            connection,
            writer,
            outlet: outlet.clone(),
            ordinal: point.ordinal.clone(),
            locked: HashSet::new(),
        })
    }

    /// Delivers the rows of a query whose columns are the schema's. Sends full batches; the rest stays in the writer.
    pub async fn copy(&mut self, query: &str, schema: &Arc<TableSchema>) -> Result<()> {
        let doing = || format!("reading rows of {schema}");
        self.connection.copy_out(&format!("COPY ({query}) TO STDOUT")).await.map_err(|e| e.context(doing()))?;
        loop {
            match self.scan(schema).map_err(|e| e.context(doing()))? {
                Scanned::Full => drop(self.send().await),
                Scanned::Dry => {
                    self.connection.fill().await.map_err(|e| e.context(doing()))?;
                }
                Scanned::Aside => {
                    if self.connection.take_aside().map_err(|e| e.context(doing()))? == Aside::CopyDone {
                        break;
                    }
                }
            }
        }
        self.connection.finish_copy().await.map_err(|e| e.context(doing()))?;
        Ok(())
    }

    /// Locks a table for reading to the end of the snapshot, unless that means waiting. `name`: as in SQL.
    pub async fn lock_at_once(&mut self, oid: u32, name: &str) -> Result<bool> {
        if self.locked.contains(&oid) {
            return Ok(true);
        }
        let lock = format!("SAVEPOINT l; LOCK TABLE ONLY {name} IN ACCESS SHARE MODE NOWAIT; RELEASE SAVEPOINT l");
        match self.connection.simple_query(&lock).await {
            Ok(_) => {
                self.locked.insert(oid);
                Ok(true)
            }
            Err(error) if code(&error) == Some(LOCK_NOT_AVAILABLE) => {
                self.connection.simple_query("ROLLBACK TO SAVEPOINT l").await?;
                Ok(false)
            }
            Err(error) => Err(error.context(format!("locking {name} for its snapshot"))),
        }
    }

    pub async fn send(&mut self) -> Seq {
        let permit = self.writer.permit().await;
        self.writer.send(permit)
    }

    /// Sends what there is, with state that becomes true once it is durable.
    pub async fn finish(&mut self, progress: impl IntoIterator<Item = StateEntry>) -> Seq {
        progress.into_iter().for_each(|entry| self.writer.progress(entry));
        self.send().await
    }

    fn scan(&mut self, schema: &Arc<TableSchema>) -> Result<Scanned> {
        let Reader { connection, writer, outlet, ordinal, .. } = self;
        let buffer = connection.buffer();
        let mut at = 0;
        let mut rows = 0;
        let scanned = loop {
            let header = frame::header(&buffer[at..]).data(|| "reading COPY data".to_owned())?;
            let Some((message, total_bytes)) = header.filter(|(_, total_bytes)| *total_bytes <= buffer.len() - at)
            else {
                break Scanned::Dry;
            };
            if message != tag::COPY_DATA {
                break Scanned::Aside;
            }
            let base = at + frame::HEADER_BYTES;
            let batch = writer.batch();
            let (index, start) = (batch.table(schema), batch.cells_start());
            let row = &mut buffer[base..at + total_bytes];
            copy::scan_row(row, base, schema.columns.len(), batch.cells_mut())
                .data(|| "reading COPY data".to_owned())?;
            batch.insert(index, start, ordinal.fetch_add(1, Ordering::Relaxed));
            rows += 1;
            at += total_bytes;
            if writer.is_full(at) {
                break Scanned::Full;
            }
        };
        if rows > 0 {
            let bytes = buffer.split_to(at).freeze();
            outlet.progress.snapshot_rows.add(rows);
            outlet.progress.snapshot_bytes.add(bytes.len() as u64);
            writer.batch().frame(bytes);
        }
        Ok(scanned)
    }
}

enum Scanned {
    Dry,
    Full,
    Aside,
}
