//! One worker: table after table, range after range, chunk after chunk.
//!
//! Invariants:
//! - A range's entry in the store is written before its rows are read, and changed by the worker that has it alone.
//! - A range is parted only between chunks, and only when another worker has nothing to do: both parts are stored in one
//!   batch, before anybody reads the new one.
//! - A table's last range to end marks the table: what the other ranges have sent was sent before.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::key::{Key, Range};
use super::pool::Task;
use super::progress::{self, Begun, Left};
use super::reader::Reader;
use super::split;
use super::table::{Facts, Job, Wanted, facts_sql};
use super::{Piece, Shared};
use crate::error::{Error, Result};
use crate::fault;
use crate::record::StateEntry;

pub struct Worker {
    pub reader: Reader,
    pub shared: Arc<Shared>,
}

impl Worker {
    /// Works until nothing is left to do. Returns the reader, its batch empty.
    pub async fn run(mut self) -> Result<Reader> {
        while let Some(task) = self.shared.pool.take().await {
            match task {
                Task::Table(wanted) => self.begin(&wanted).await?,
                Task::Range(piece) => self.read(piece).await?,
            }
            self.shared.pool.done();
        }
        Ok(self.reader)
    }

    /// Finds out what is left of a table.
    async fn begin(&mut self, wanted: &Wanted) -> Result<()> {
        let table = wanted.name();
        let doing = "asking for a table's keys and size";
        let [of_table, of_indexes] = facts_sql(&table);
        let rows = self.reader.ask(&of_table, doing).await?;
        let indexes = self.reader.ask(&of_indexes, doing).await?;
        let facts = Facts::from_rows(&rows, indexes).ok_or_else(|| {
            Error::transient(format!("{} was dropped or renamed after the snapshot's point", wanted.schema))
        })?;
        let job = Arc::new(Job::new(wanted, &facts, self.shared.chunk_bytes));
        if job.key.is_none() && !wanted.def.key.is_empty() {
            tracing::debug!(table = %wanted.schema, "its key gives no order for chunks: it is read as a whole");
        }
        let progress = self.shared.progress.as_ref();
        let left = progress.map_or(Left::Whole, |progress| progress.left(&table, &job.begun));
        let stale = progress.map(|progress| progress.numbers(&table)).unwrap_or_default();
        job.number_after(stale.last().copied());
        let (ranges, mut entries) = match left {
            Left::Nothing => {
                self.shared.outlet.progress.snapshot_tables_done.add(1);
                return Ok(());
            }
            Left::Ranges(ranges) => (ranges, Vec::new()),
            Left::Whole => {
                let number = job.number();
                let removed = stale.iter().map(|number| progress::rest(self.shared.rows, &table, *number, None));
                let entries = removed
                    .chain([
                        progress::begun(self.shared.rows, &table, &job.begun),
                        progress::rest(self.shared.rows, &table, number, Some(&Range::default())),
                    ])
                    .collect();
                (BTreeMap::from([(number, Range::default())]), entries)
            }
        };
        self.shared.outlet.progress.snapshot_rows_estimate.add(facts.rows);
        if ranges.is_empty() {
            entries.push(self.end(&job));
        }
        if !entries.is_empty() {
            self.finish(entries).await;
        }
        job.open_ranges.store(ranges.len(), Ordering::Release);
        self.shared.pool.push(ranges.into_iter().map(|(number, range)| Piece { job: job.clone(), number, range }));
        Ok(())
    }

    /// What says that all of a table is finished.
    fn end(&self, job: &Job) -> StateEntry {
        self.shared.outlet.progress.snapshot_tables_done.add(1);
        progress::begun(self.shared.rows, &job.table, &Begun { done: true, ..job.begun.clone() })
    }

    async fn read(&mut self, mut piece: Piece) -> Result<()> {
        let job = piece.job.clone();
        loop {
            if self.shared.pool.hungers() {
                self.part(&mut piece).await?;
            }
            let limit = job.chunk_rows();
            let mark = |last: Key| {
                let left = Range { after: Some(last), upto: piece.range.upto.clone() };
                progress::rest(self.shared.rows, &job.table, piece.number, Some(&left))
            };
            let chunk_bytes = self.shared.chunk_bytes;
            let read = self.reader.read(&job, &piece.range, limit, chunk_bytes, mark).await?;
            job.measured(read.rows, read.bytes, chunk_bytes);
            match read.last.filter(|_| limit.is_some_and(|limit| read.rows >= limit)) {
                Some(last) => {
                    piece.range.after = Some(last);
                    self.finish(vec![progress::rest(self.shared.rows, &job.table, piece.number, Some(&piece.range))])
                        .await;
                    fault::point("after_chunk");
                }
                None => break,
            }
        }
        self.finish(vec![progress::rest(self.shared.rows, &job.table, piece.number, None)]).await;
        fault::point("after_chunk");
        // The last to get here knows that the other ranges' ends were sent before.
        if job.open_ranges.fetch_sub(1, Ordering::AcqRel) == 1 {
            let end = self.end(&job);
            self.finish(vec![end]).await;
        }
        Ok(())
    }

    /// Gives a part of what is left of a range to those who have nothing to do, where it is worth it.
    async fn part(&mut self, piece: &mut Piece) -> Result<()> {
        let job = piece.job.clone();
        let Some(middle) = split::middle(&mut self.reader, &job, &piece.range).await? else { return Ok(()) };
        let behind = Range { after: Some(middle.clone()), upto: piece.range.upto.take() };
        piece.range.upto = Some(middle);
        let number = job.number();
        job.open_ranges.fetch_add(1, Ordering::AcqRel);
        self.finish(vec![
            progress::rest(self.shared.rows, &job.table, piece.number, Some(&piece.range)),
            progress::rest(self.shared.rows, &job.table, number, Some(&behind)),
        ])
        .await;
        self.shared.pool.push([Piece { job, number, range: behind }]);
        Ok(())
    }

    /// Sends what was read, with the state that is true once it is durable.
    async fn finish(&mut self, entries: Vec<StateEntry>) {
        {
            let mut stored = self.shared.stored.lock().unwrap_or_else(PoisonError::into_inner);
            stored.extend(entries.iter().map(|entry| entry.key.clone()));
        }
        self.reader.finish(entries).await;
    }
}
