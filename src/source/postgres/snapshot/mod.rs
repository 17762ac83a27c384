//! Every row of the wanted tables, as of one point of the log.
//!
//! Invariants:
//! - All readers see the same snapshot, exported with a slot's consistent point: what is committed before the point is in
//!   it, what is committed after is in the stream from the point on, and nothing is in both.
//! - Ranges of pages mean something only while a table is not rewritten. Each table is locked (ACCESS SHARE: only DDL
//!   waits) before its pages are counted, and a table rewritten since the snapshot was taken asks for a new snapshot.
//! - A finished chunk is stored once it is durable. An interrupted snapshot goes on under a new one, at a later point:
//!   first the changes up to that point are delivered, so that the finished chunks stand there too, then the rows whose
//!   updates were not whole ([`super::reread`]), then the remaining pages. How far the changes are is stored with them, so
//!   that an attempt that is interrupted there delivers none twice, as long as no row has to be read again.
//! - No row is delivered under a point before the point is stored.
//! - Only the coordinator waits for a table's lock. A reader that waited for one, behind somebody who waits for the
//!   coordinator's, would wait for ever, unseen by the server: what it cannot have at once, the coordinator reads.
//! - The end removes all progress and carries the point as position, in one batch: it is the seam to the stream.

mod copy;
mod progress;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::catalog::{Storage, Table};
use super::connection::Connection;
use super::conninfo::ConnInfo;
use super::publication::Published;
use super::quote;
use super::relation::{Plan, RelationCache, Seen};
use super::reread::{Key, TableKeys};
use crate::error::{Error, Result};
use crate::fault;
use crate::flow::Outlet;
use crate::record::owed::{self, TableName};
use crate::record::{Lsn, Position, StateEntry};
use crate::source::{Rows, SnapshotSettings, State};

pub use copy::{Point, Reader};
pub use progress::{Progress, caught_up};

/// The server reads pages of a range without looking at the others from here on (TID range scans); before, a range costs a
/// scan of the whole table, so a table is one chunk.
const TID_RANGE_SINCE: u32 = 140_000;

/// Keys of one query: some kilobytes of SQL.
const REREAD_KEYS: usize = 200;

/// What a snapshot is made of.
pub struct Snapshot<'a> {
    pub rows: Rows,
    pub info: &'a ConnInfo,
    pub settings: &'a SnapshotSettings,
    /// Those to be read.
    pub tables: Vec<&'a Table>,
    pub block_size: u32,
    /// By table oid.
    pub published: &'a HashMap<u32, Arc<Published>>,
    pub relations: &'a mut RelationCache,
    pub outlet: &'a Outlet,
    pub point: Point,
    /// Finished pages of an interrupted snapshot.
    pub progress: Progress,
    /// Its state, to be removed at the end.
    pub state: &'a State,
    /// Tables whose rows are not owed any more then.
    pub owed: BTreeSet<TableName>,
    /// What catching up has found: state to store, and rows to read again by relation.
    pub staged: Vec<StateEntry>,
    pub rereads: HashMap<u32, TableKeys>,
    /// Keys of progress that this run has stored, for the end to remove.
    pub stored: Stored,
}

/// Chunks of tables that somebody waits to change, which only the coordinator has locked.
type Refused = Arc<std::sync::Mutex<Vec<Chunk>>>;

pub type Stored = Arc<std::sync::Mutex<Vec<Vec<u8>>>>;

/// Some pages of a table's storage.
struct Chunk {
    job: Arc<Job>,
    pages: Range<u64>,
}

/// A storage that is being read.
struct Job {
    rows: Rows,
    plan: Plan,
    /// Up to and including WHERE or its place.
    select: String,
    row_filter: Option<String>,
    oid: u32,
    filenode: u32,
    /// Its name in SQL.
    name: String,
    /// Chunks not finished yet.
    remaining: AtomicUsize,
    /// Storages of the table not finished yet.
    table_remaining: Arc<AtomicUsize>,
}

impl Job {
    fn query(&self, pages: &Range<u64>) -> String {
        let mut conditions = Vec::new();
        if pages.start > 0 {
            conditions.push(format!("ctid >= '({},0)'::pg_catalog.tid", pages.start));
        }
        if pages.end < u64::MAX {
            conditions.push(format!("ctid < '({},0)'::pg_catalog.tid", pages.end));
        }
        conditions.extend(self.row_filter.iter().map(|filter| format!("({filter})")));
        let clause = if conditions.is_empty() { "" } else { " WHERE " };
        format!("{}{clause}{}", self.select, conditions.join(" AND "))
    }
}

impl Snapshot<'_> {
    /// Delivers it all. Returns the point. `coordinator` holds the snapshot and the tables' locks to the end.
    pub async fn run(mut self, mut coordinator: Reader) -> Result<Position> {
        let plans = self.announce(&mut coordinator).await?;
        for (oid, keys) in std::mem::take(&mut self.rereads) {
            match keys {
                TableKeys::Keys(keys) => self.reread(&mut coordinator, &plans, oid, keys.into_iter().collect()).await?,
                TableKeys::Whole => {
                    let table = self.tables.iter().find(|table| table.oid == oid);
                    table.iter().flat_map(|t| &t.storage).for_each(|storage| self.progress.forget(storage.oid));
                }
            }
        }
        // The rows read again are in their sinks before the point moves: by the order of batches.
        let mut entries: Vec<StateEntry> = self.progress.stale(self.rows, self.state).map(progress::remove).collect();
        entries.push(progress::point(self.rows, self.point.lsn));
        entries.append(&mut self.staged);
        let point = coordinator.finish(entries).await;
        // A row that is delivered before its point is stored would stand there for ever, when a crash follows, the row is
        // deleted, and the snapshot starts over behind that.
        self.outlet.stored(point).await;
        fault::point("after_snapshot_point");
        self.relations.settle();
        self.read(&mut coordinator, &plans).await?;
        self.seam(coordinator).await
    }

    /// The tables' shapes, and changes of shape that no row has shown yet.
    async fn announce(&mut self, coordinator: &mut Reader) -> Result<HashMap<u32, Plan>> {
        let mut plans = HashMap::new();
        for table in &self.tables {
            let columns = self.published.get(&table.oid).and_then(|published| published.columns.as_deref());
            let seen = self.relations.prime(table, columns)?;
            if let Some(plan) = seen.plan() {
                plans.insert(table.oid, plan.clone());
            }
            match seen {
                Seen::Unwanted | Seen::Unchanged(_) => {}
                Seen::First { entry, .. } => self.staged.push(entry),
                Seen::Changed { previous, plan, entry } => {
                    self.staged.push(entry);
                    let batch = coordinator.writer.batch();
                    let index = batch.table(&plan.schema);
                    batch.schema_change(index, Some(previous), None, self.point.ordinal.load(Ordering::Relaxed));
                }
            }
        }
        Ok(plans)
    }

    /// Rows by key, as the snapshot sees them.
    async fn reread(
        &self,
        coordinator: &mut Reader,
        plans: &HashMap<u32, Plan>,
        oid: u32,
        keys: Vec<Key>,
    ) -> Result<()> {
        let table = self.tables.iter().find(|table| table.oid == oid);
        let (Some(table), Some(plan)) = (table, plans.get(&oid)) else { return Ok(()) };
        let columns: Vec<String> =
            plan.schema.key.iter().map(|at| quote::ident(&plan.schema.columns[usize::from(*at)].name)).collect();
        let filter = self.published.get(&oid).and_then(|published| published.row_filter.as_ref());
        let filter = filter.map(|filter| format!(" AND ({filter})")).unwrap_or_default();
        // A partitioned table by its name, rows of all partitions; a plain one without those that inherit from it.
        let from = match &table.storage[..] {
            [storage] if storage.oid == table.oid => storage.sql_from(),
            _ => table.sql_name(),
        };
        for keys in keys.chunks(REREAD_KEYS) {
            let tuples: Vec<String> = keys
                .iter()
                .map(|key| format!("({})", key.iter().map(|v| quote::literal(v)).collect::<Vec<_>>().join(",")))
                .collect();
            let query = format!(
                "SELECT {} FROM {from} WHERE ({}) IN ({}){filter}",
                select_list(plan),
                columns.join(","),
                tuples.join(",")
            );
            coordinator.copy(&query, &plan.schema).await?;
        }
        Ok(())
    }

    /// All remaining pages, by the workers.
    async fn read(&mut self, coordinator: &mut Reader, plans: &HashMap<u32, Plan>) -> Result<()> {
        let progress = &self.outlet.progress;
        progress.snapshot_tables.set(self.tables.len() as u64);
        progress.snapshot_tables_done.set(0);
        progress.snapshot_rows_estimate.set(self.tables.iter().filter_map(|table| table.rows()).sum());
        let workers = self.settings.workers.max(1);
        // Few ranges are planned ahead: planning a table must not wait for planning all.
        let (chunks, queue) = mpsc::channel::<Chunk>(2 * workers);
        let queue = Arc::new(Mutex::new(queue));
        let refused = Refused::default();
        let mut readers = JoinSet::new();
        for _ in 0..workers {
            let reader = Reader::open(self.info, &self.point, self.outlet).await?;
            readers.spawn(work(reader, queue.clone(), self.outlet.clone(), self.stored.clone(), refused.clone()));
        }
        drop(queue);
        let planned = async {
            for table in &self.tables {
                let Some(plan) = plans.get(&table.oid) else { continue };
                self.plan_table(&mut coordinator.connection, table, plan, &chunks).await?;
            }
            Ok(())
        };
        let planned: Result<()> = planned.await;
        drop(chunks);
        let mut first_error = None;
        while let Some(joined) = readers.join_next().await {
            let result = joined.unwrap_or_else(|e| Err(Error::bug("a snapshot reader panicked").because(e)));
            first_error = first_error.or(result.err());
        }
        // A reader's error explains why nobody takes chunks any more.
        first_error.map_or(planned, Err)?;
        let refused = std::mem::take(&mut *refused.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        for chunk in refused {
            read_chunk(coordinator, &chunk, self.outlet, &self.stored).await?;
        }
        Ok(())
    }

    async fn plan_table(
        &self,
        connection: &mut Connection,
        table: &Table,
        plan: &Plan,
        chunks: &mpsc::Sender<Chunk>,
    ) -> Result<()> {
        let filter = self.published.get(&table.oid).and_then(|published| published.row_filter.clone());
        let table_remaining = Arc::new(AtomicUsize::new(table.storage.len()));
        if table.storage.is_empty() {
            self.outlet.progress.snapshot_tables_done.add(1);
        }
        for storage in &table.storage {
            if self.progress.is_done(storage.oid) {
                storage_finished(&table_remaining, self.outlet);
                continue;
            }
            let pages = lock(connection, storage).await?;
            let chunk_pages = if connection.server_version_num() >= TID_RANGE_SINCE {
                (self.settings.chunk_bytes / u64::from(self.block_size.max(1))).max(1)
            } else {
                u64::MAX
            };
            let ranges = self.progress.remaining(storage.oid, pages.filenode, pages.count, chunk_pages);
            if ranges.is_empty() {
                storage_finished(&table_remaining, self.outlet);
                continue;
            }
            let job = Arc::new(Job {
                rows: self.rows,
                plan: plan.clone(),
                select: format!("SELECT {} FROM {}", select_list(plan), storage.sql_from()),
                row_filter: filter.clone(),
                oid: storage.oid,
                filenode: pages.filenode,
                name: quote::qualified(&storage.schema, &storage.name),
                remaining: AtomicUsize::new(ranges.len()),
                table_remaining: table_remaining.clone(),
            });
            for pages in ranges {
                if chunks.send(Chunk { job: job.clone(), pages }).await.is_err() {
                    return Err(Error::transient("every snapshot reader has ended"));
                }
            }
        }
        Ok(())
    }

    /// The end: the stream goes on from the point, and nothing is left of the snapshot's own state.
    async fn seam(self, mut coordinator: Reader) -> Result<Position> {
        let point = Position::Postgres(self.point.lsn);
        let own = std::mem::take(&mut *self.stored.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        for table in self.owed {
            coordinator.writer.stage(owed::settle(&table));
        }
        for key in
            Progress::keys(self.rows, self.state).chain(own).chain([progress::point(self.rows, self.point.lsn).key])
        {
            coordinator.writer.stage(progress::remove(key));
        }
        coordinator.writer.close(point.clone());
        coordinator.send().await;
        coordinator.connection.close().await;
        Ok(point)
    }
}

fn select_list(plan: &Plan) -> String {
    plan.schema.columns.iter().map(|column| quote::ident(&column.name)).collect::<Vec<_>>().join(", ")
}

struct Pages {
    count: u64,
    filenode: u32,
}

/// Locks a storage against rewrites and counts its pages. Errors: `Transient`, where it was rewritten since the snapshot
/// was taken: its ctids are other ones, and after some rewrites the snapshot sees no rows at all.
async fn lock(connection: &mut Connection, storage: &Storage) -> Result<Pages> {
    let name = quote::qualified(&storage.schema, &storage.name);
    let doing = || format!("locking {name} for its snapshot");
    let lock = format!("LOCK TABLE ONLY {name} IN ACCESS SHARE MODE");
    connection.simple_query(&lock).await.map_err(|e| e.context(doing()))?;
    // pg_class as the snapshot sees it, against the file that is there now.
    let query = format!(
        "SELECT c.relfilenode AS seen, pg_catalog.pg_relation_filenode(c.oid) AS now, \
         pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::pg_catalog.int8 AS pages \
         FROM pg_catalog.pg_class c WHERE c.oid = {}",
        storage.oid
    );
    let rows = connection.simple_query(&query).await.map_err(|e| e.context(doing()))?;
    let rows = rows.first().ok_or_else(|| Error::bug(doing()))?;
    if rows.rows.is_empty() {
        return Err(Error::transient(format!("{name} was created after the snapshot was taken")));
    }
    let number = |column: &str| -> Result<u64> {
        let text = rows.text(0, column)?.unwrap_or("0");
        text.parse().map_err(|_| Error::data(format!("{}: {column} is {text:?}", doing())))
    };
    let (seen, now) = (number("seen")?, number("now")?);
    if seen != now {
        return Err(Error::transient(format!(
            "{name} was rewritten (TRUNCATE, VACUUM FULL, CLUSTER, ALTER TABLE) after the snapshot was taken: taking a new one"
        )));
    }
    Ok(Pages { count: number("pages")?, filenode: now as u32 })
}

/// One reader: chunk after chunk until there are no more.
async fn work(
    mut reader: Reader,
    queue: Arc<Mutex<mpsc::Receiver<Chunk>>>,
    outlet: Outlet,
    stored: Stored,
    refused: Refused,
) -> Result<()> {
    loop {
        let chunk = queue.lock().await.recv().await;
        let Some(chunk) = chunk else { break };
        if reader.lock_at_once(chunk.job.oid, &chunk.job.name).await? {
            read_chunk(&mut reader, &chunk, &outlet, &stored).await?;
        } else {
            refused.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(chunk);
        }
    }
    reader.connection.close().await;
    Ok(())
}

async fn read_chunk(reader: &mut Reader, chunk: &Chunk, outlet: &Outlet, stored: &Stored) -> Result<()> {
    let Chunk { job, pages } = chunk;
    reader.copy(&job.query(pages), &job.plan.schema).await?;
    let finished = progress::finished(job.rows, job.oid, job.filenode, pages);
    remember(stored, &finished);
    reader.finish([finished]).await;
    fault::point("after_chunk");
    // The last to get here knows that the other chunks' ends were sent before.
    if job.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
        let done = progress::done(job.rows, job.oid);
        remember(stored, &done);
        reader.finish([done]).await;
        storage_finished(&job.table_remaining, outlet);
    }
    Ok(())
}

fn remember(stored: &Stored, entry: &StateEntry) {
    stored.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(entry.key.clone());
}

fn storage_finished(table_remaining: &AtomicUsize, outlet: &Outlet) {
    if table_remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
        outlet.progress.snapshot_tables_done.add(1);
    }
}

impl Point {
    pub fn new(lsn: Lsn, snapshot: String, unix_micros: i64) -> Self {
        Point { lsn, snapshot, unix_micros, ordinal: Arc::new(AtomicU64::new(1)) }
    }
}
