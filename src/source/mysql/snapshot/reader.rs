//! Rows by SELECT in the binary protocol, on a connection that sees the snapshot.
//!
//! Invariants:
//! - A cell borrows from what the socket gave: no value is copied, but those of a row too large for the read buffer.
//! - A table is held against DDL while rows of it are read, and no longer than one chunk: whoever wants to alter a table
//!   waits for so long, and everybody else behind him.
//! - Nothing of it is logged: MariaDB logs a SAVEPOINT, even one around reads alone, when its transaction is committed, so
//!   that these transactions are never committed. They end with their connections, which rolls them back.
//! - What is finished is marked with the rows it stands for, or after them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::super::ask::{Ask, TextRow};
use super::super::connection::Connection;
use super::super::error;
use super::super::rows::{RowStream, Step};
use super::key::{Key, Range};
use super::table::{Job, KeyPlan};
use crate::error::{Error, Result};
use crate::flow::{BatchWriter, Outlet};
use crate::record::{BinlogPosition, Cell, Origin, Position, Seq, StateEntry, Txn};

/// The point that all readers of a snapshot share.
#[derive(Clone)]
pub struct Point {
    /// From here on the stream goes on.
    pub position: Position,
    pub unix_micros: i64,
    /// Numbers the rows of the snapshot.
    pub ordinal: Arc<AtomicU64>,
}

impl Point {
    /// The rows' place in the order of transactions. The first transaction behind the point begins at the point itself; no
    /// transaction begins at the byte before it.
    fn of_rows(&self) -> Result<Position> {
        let point = BinlogPosition::clone(self.position.binlog()?);
        Ok(Position::MySql(Arc::new(BinlogPosition { offset: point.offset.saturating_sub(1), ..point })))
    }
}

/// One connection in a transaction that sees the snapshot, and the batches made from its rows.
pub struct Reader {
    pub connection: Connection,
    pub writer: BatchWriter,
    outlet: Outlet,
    ordinal: Arc<AtomicU64>,
}

/// What a chunk's reading came to.
#[derive(Debug, Default)]
pub struct Read {
    pub rows: u64,
    pub bytes: u64,
    /// Of the last row.
    pub last: Option<Key>,
}

/// To which a table's lock is given back.
const SAVEPOINT: &str = "SAVEPOINT chunk";
const RELEASE: &str = "ROLLBACK TO SAVEPOINT chunk";

/// The server's answers to a table that is not what it was at the snapshot's point: columns, indexes or the table itself are
/// gone (1054, 1146, 1176), its pages are of after the point (1412), it was exchanged or dropped with its storage (1932,
/// 1812, 1814).
const CHANGED: [u16; 7] = [1054, 1146, 1176, 1412, 1812, 1814, 1932];

/// A chunk while it is read.
struct Scan<'a> {
    job: &'a Job,
    read: Read,
    /// The key columns' cells of the last row since the last frame, in the row's selected columns.
    last: Vec<Cell>,
    framed_rows: u64,
    /// Where in the frame to come the last row's values end.
    end: usize,
}

impl Reader {
    /// `connection`: in a transaction that sees the snapshot.
    pub async fn new(mut connection: Connection, point: &Point, outlet: &Outlet) -> Result<Reader> {
        connection.execute(SAVEPOINT).await?;
        let mut writer = BatchWriter::new(outlet.clone(), Origin::Snapshot);
        writer.open(Txn { commit: point.of_rows()?, id: None, commit_unix_micros: Some(point.unix_micros) });
        Ok(Reader { connection, writer, outlet: outlet.clone(), ordinal: point.ordinal.clone() })
    }

    /// What information_schema says, which is as of now and not of the snapshot.
    ///
    /// # Errors
    /// The server's.
    pub async fn ask(&mut self, sql: &str, doing: &str) -> Result<Vec<TextRow>> {
        let rows = self.connection.rows(sql, doing).await?;
        self.connection.execute(RELEASE).await?;
        Ok(rows)
    }

    /// EXPLAIN of a range's rows.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub async fn estimate(&mut self, job: &Job, range: &Range) -> Result<Vec<TextRow>> {
        let answer = self.ask(&job.estimate_sql(range), "asking for the size of a range").await;
        answer.map_err(|error| explain(job, error))
    }

    /// Delivers a range's rows, at most `limit`; `mark` makes the state that is true once the rows up to a key are durable,
    /// and is asked for it about each `mark_bytes`. Sends full batches; the rest stays in the writer.
    ///
    /// # Errors
    /// `Transient` where the table was altered since the point. After an error the reader can only be dropped.
    pub async fn read(
        &mut self,
        job: &Job,
        range: &Range,
        limit: Option<u64>,
        mark_bytes: u64,
        mark: impl Fn(Key) -> StateEntry + Send,
    ) -> Result<Read> {
        let outcome = self.read_held(job, range, limit, mark_bytes, mark).await;
        outcome.map_err(|error| explain(job, error))
    }

    async fn read_held(
        &mut self,
        job: &Job,
        range: &Range,
        limit: Option<u64>,
        mark_bytes: u64,
        mark: impl Fn(Key) -> StateEntry + Send,
    ) -> Result<Read> {
        let Reader { connection, writer, outlet, ordinal } = self;
        let held = connection.query(&job.hold_sql()).await?;
        if !held.columns.iter().map(|column| &column.name).eq(job.visible.iter()) {
            return Err(Error::transient("its columns are other ones now"));
        }
        let statement = connection.prepare(&job.rows_sql(range, limit)).await?;
        let mut rows = connection.stream(&statement, &[]).await?;
        if rows.columns().len() != job.width {
            return Err(Error::bug(format!("{} columns in place of {}", rows.columns().len(), job.width)));
        }
        let mut scan = Scan { job, read: Read::default(), last: Vec::new(), framed_rows: 0, end: 0 };
        let mut marked_bytes = 0;
        loop {
            let step = scan.some(&mut rows, writer, ordinal)?;
            scan.frame(rows.take_frame(), writer, outlet)?;
            let step = match step {
                Some(Step::Long) => {
                    let start = writer.batch().cells_start();
                    let frame = rows.long_row(writer.batch().cells_mut()).await?;
                    scan.row(start, writer, ordinal);
                    scan.frame(frame, writer, outlet)?;
                    None
                }
                step => step,
            };
            match step {
                Some(Step::End) => break,
                Some(Step::Dry) => rows.fill().await?,
                // Full, or one large row.
                _ if writer.is_full(0) => {
                    if scan.read.bytes - marked_bytes >= mark_bytes
                        && let Some(last) = &scan.read.last
                    {
                        marked_bytes = scan.read.bytes;
                        writer.progress(mark(last.clone()));
                    }
                    let permit = writer.permit().await;
                    writer.send(permit);
                }
                _ => {}
            }
        }
        connection.forget(statement).await?;
        connection.execute(RELEASE).await?;
        Ok(scan.read)
    }

    /// The key of the one row that a query selects ([`Job::key_sql`]); none where it selects none.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub async fn key(&mut self, job: &Job, key: &KeyPlan, sql: &str) -> Result<Option<Key>> {
        self.key_held(key, sql).await.map_err(|error| explain(job, error))
    }

    async fn key_held(&mut self, key: &KeyPlan, sql: &str) -> Result<Option<Key>> {
        let connection = &mut self.connection;
        let statement = connection.prepare(sql).await?;
        let mut rows = connection.stream(&statement, &[]).await?;
        let (mut found, mut cells) = (None, Vec::new());
        loop {
            let step = rows.next(&mut cells)?;
            let frame = match step {
                Step::Row => continue,
                Step::Dry | Step::End => rows.take_frame(),
                Step::Long => {
                    rows.take_frame();
                    rows.long_row(&mut cells).await?
                }
            };
            if !cells.is_empty() {
                let of = key.of_key(|at| bytes(&cells, at, &frame));
                found = Some(of.ok_or_else(|| Error::bug("a key that cannot be read"))?);
                cells.clear();
            }
            match step {
                Step::End => break,
                Step::Dry => rows.fill().await?,
                Step::Row | Step::Long => {}
            }
        }
        connection.forget(statement).await?;
        connection.execute(RELEASE).await?;
        Ok(found)
    }

    /// Sends what there is, with state that becomes true once it is durable.
    pub async fn finish(&mut self, progress: impl IntoIterator<Item = StateEntry>) -> Seq {
        progress.into_iter().for_each(|entry| self.writer.progress(entry));
        let permit = self.writer.permit().await;
        self.writer.send(permit)
    }
}

impl Scan<'_> {
    /// The rows that are there as a whole. None where the batch is full before they end.
    #[inline]
    fn some(
        &mut self,
        rows: &mut RowStream<'_>,
        writer: &mut BatchWriter,
        ordinal: &AtomicU64,
    ) -> Result<Option<Step>> {
        loop {
            let start = writer.batch().cells_start();
            match rows.next(writer.batch().cells_mut())? {
                Step::Row => self.row(start, writer, ordinal),
                step => return Ok(Some(step)),
            }
            if writer.is_full(self.end) {
                return Ok(None);
            }
        }
    }

    /// Takes the row whose cells begin at `start`.
    #[inline]
    fn row(&mut self, start: usize, writer: &mut BatchWriter, ordinal: &AtomicU64) {
        let batch = writer.batch();
        let cells = batch.cells_mut();
        if let Some(key) = &self.job.key {
            self.last.clear();
            self.last.extend(key.places().iter().map(|at| cells[start + at]));
        }
        self.end = cells[start..].iter().rev().find_map(|cell| cell.range()).map_or(self.end, |(at, len)| at + len);
        cells.truncate(start + self.job.schema.columns.len());
        let table = batch.table(&self.job.schema);
        batch.insert(table, start, ordinal.fetch_add(1, Ordering::Relaxed));
        self.read.rows += 1;
    }

    /// Hands over what the rows since the last frame point into.
    fn frame(&mut self, frame: Bytes, writer: &mut BatchWriter, outlet: &Outlet) -> Result<()> {
        let rows = self.read.rows - self.framed_rows;
        if rows == 0 {
            return Ok(());
        }
        (self.framed_rows, self.end) = (self.read.rows, 0);
        if let Some(key) = &self.job.key {
            let last = key.of_key(|at| bytes(&self.last, at, &frame));
            self.read.last = Some(last.ok_or_else(|| Error::bug("a row whose key cannot be read"))?);
        }
        self.read.bytes += frame.len() as u64;
        outlet.progress.snapshot_rows.add(rows);
        outlet.progress.snapshot_bytes.add(frame.len() as u64);
        writer.batch().frame(frame);
        Ok(())
    }
}

fn bytes<'f>(cells: &[Cell], at: usize, frame: &'f Bytes) -> Option<&'f [u8]> {
    let (offset, len) = cells.get(at)?.range()?;
    frame.get(offset..)?.get(..len)
}

/// An answer that says that the table is another one than at the point asks for a new point.
fn explain(job: &Job, error: Error) -> Error {
    let doing = format!("reading rows of {}", job.schema);
    match error::code(&error) {
        Some(code) if CHANGED.contains(&code) => Error::transient(format!(
            "{doing}: the table was altered or replaced after the snapshot's point: taking a new one"
        ))
        .because(error),
        _ => error.context(doing),
    }
}
