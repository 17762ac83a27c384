//! The offset store on disk: RocksDB in the folder `offsets` of the state directory.
//!
//! Invariants:
//! - Every change is one write batch, synced before the call returns; a crash leaves all of it or nothing.
//! - Nothing is opened for writing before it has been read and found to be a store of ours in a format we know; a folder
//!   that is anything else is left as it was found.
//! - A store comes into being whole: it is built beside its place and renamed into it.
//! - One process at a time writes (RocksDB's own LOCK file); `open_read_only` takes no lock and sees the moment it was
//!   opened at.
//! - A store of an older format is read as it is; the first write makes it one of ours, in the same batch.
//! - After a failed write the database is closed and opened again before the next one, so that what is on disk decides.
//!
//! Keys: `meta/format`, `meta/contents`, `meta/lineage`, `meta/base`, `meta/orders`, `sink/<name>`, `state/<key>`, and those of
//! [`consumers`]; values as in [`super::codec`].
//!
//! What a damaged file does: RocksDB's own checksums notice most of it. But an incomplete *last* record of its log or
//! manifest is what a crash leaves behind, so RocksDB drops it, and damage that looks just like it too: a table can
//! vanish that way. So every batch also writes `meta/contents`, the number of entries and the sum of their checksums: what
//! is read is a state that was once committed as a whole, or it is an error. That state may be an earlier one (the end
//! of the log is damaged); then the server, asked for a position that it was told is no longer needed, says so at the
//! warm start.

mod consumers;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rocksdb::{
    BlockBasedOptions, DB, DBCompressionType, DBRecoveryMode, ErrorKind, IteratorMode, LogLevel, Options, WriteBatch,
    WriteOptions,
};

use super::codec::{self, FORMAT_VERSION, corrupt, seal, unseal};
use super::consumer::{Consumer, ConsumerChange};
use super::{Checkpoint, Continuity, OffsetStore, OffsetUpdate, Orders, rules};
use crate::error::{Context, Error, Result};
use crate::record::{Lineage, Position, SinkOffset};

const FORMAT_KEY: &[u8] = b"meta/format";
const CONTENTS_KEY: &[u8] = b"meta/contents";
const LINEAGE_KEY: &[u8] = b"meta/lineage";
const BASE_KEY: &[u8] = b"meta/base";
const ORDERS_KEY: &[u8] = b"meta/orders";
const SINK_PREFIX: &[u8] = b"sink/";
const STATE_PREFIX: &[u8] = b"state/";

/// The store's folder within the state directory, so that the latter may be a mount point and hold other things.
const FOLDER: &str = "offsets";
/// Where a new store is built; whatever is there was left by a crash.
const NEW_FOLDER: &str = "offsets.new";

/// A commit is about 200 bytes, so one buffer takes 1,300 of them before it becomes a table of a few KiB (most of them
/// overwrite each other). Also the length of the write-ahead log that a start replays.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;
/// One that fills while one is flushed.
const WRITE_BUFFERS: i32 = 2;
/// RocksDB takes a quarter of them, at least one, for flushes, and one for compactions: two threads, asleep but for a
/// few milliseconds every 1,300 commits.
const BACKGROUND_JOBS: i32 = 1;
/// At most 4 tables wait for compaction into one; 10 are RocksDB's own reserve.
const OPEN_FILES: i32 = 32;
/// An entry of about 100 bytes a flush: a new manifest every 600 of them instead of one that grows to 1 GiB.
const MANIFEST_MAX_BYTES: usize = 64 * 1024;
/// RocksDB's own log, at warnings and up: at most two of these on disk.
const LOG_MAX_BYTES: usize = 64 * 1024;
const LOG_FILES: usize = 2;
/// Buffers of tables and log while they are written; 1 MiB each by default.
const FILE_BUFFER_BYTES: u64 = 64 * 1024;
/// A writer at work replaces its files while a reader opens them: a flush takes milliseconds and comes rarely, so a
/// few more attempts find them standing still.
const READ_ONLY_ATTEMPTS: u32 = 3;
const READ_ONLY_PAUSE: Duration = Duration::from_millis(20);

/// Offsets that survive a power cut.
pub struct RocksStore {
    folder: PathBuf,
    /// None after a failed write, until the next one.
    db: Option<DB>,
    read_only: bool,
    /// The format that is stored; the first write raises it.
    format: u32,
    /// What the rules compare with; the state stays on disk.
    lineage: Option<Lineage>,
    base: Option<Position>,
    sinks: BTreeMap<String, SinkOffset>,
    consumers: BTreeMap<String, Consumer>,
    entries: Entries,
}

/// The checksum of every entry but `meta/contents` and `meta/format`: what a change replaces is known without reading.
#[derive(Default)]
struct Entries {
    checksums: BTreeMap<Vec<u8>, u32>,
    sum: u64,
}

impl Entries {
    fn apply(&mut self, key: Vec<u8>, checksum: Option<u32>) {
        let replaced = match checksum {
            Some(checksum) => self.checksums.insert(key, checksum),
            None => self.checksums.remove(&key),
        };
        self.sum = self.sum + u64::from(checksum.unwrap_or(0)) - u64::from(replaced.unwrap_or(0));
    }

    fn encode(&self) -> Vec<u8> {
        codec::encode_contents(self.checksums.len() as u64, self.sum)
    }
}

/// One atomic step: RocksDB's batch and what it does to the entries.
#[derive(Default)]
struct Step {
    batch: WriteBatch,
    entries: Vec<(Vec<u8>, Option<u32>)>,
}

impl Step {
    fn put(&mut self, key: Vec<u8>, payload: &[u8]) -> Result<()> {
        self.batch.put(&key, seal(&key, payload)?);
        let sum = codec::checksum(&key, payload);
        self.entries.push((key, Some(sum)));
        Ok(())
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.batch.delete(&key);
        self.entries.push((key, None));
    }
}

impl RocksStore {
    /// Opens the store below the state directory `dir`, which is made when it is absent.
    ///
    /// Errors: `Config` when the folder cannot be written, is held by another process, is not ours, is of a newer format
    /// or corrupt; `Transient` when there is no space.
    pub fn open(dir: &Path) -> Result<Self> {
        let folder = dir.join(FOLDER);
        if !folder.exists() {
            create(dir, &folder)?;
        }
        prove_ours(&folder)?;
        let mut store = RocksStore {
            folder,
            db: None,
            read_only: false,
            format: FORMAT_VERSION,
            lineage: None,
            base: None,
            sinks: BTreeMap::new(),
            consumers: BTreeMap::new(),
            entries: Entries::default(),
        };
        store.reopen()?;
        Ok(store)
    }

    /// Opens what is stored at this moment, also while another process writes. Every change is refused.
    ///
    /// Errors: `Config` when there is no store, or as for [`RocksStore::open`].
    pub fn open_read_only(dir: &Path) -> Result<Self> {
        let folder = dir.join(FOLDER);
        if !folder.exists() {
            return Err(Error::config(format!("there is no offset store in {}", dir.display()))
                .remedy("name the state directory that the pipeline runs with"));
        }
        let db = attempt(|| open_existing(&folder))?;
        let format = format(&db, &folder)?;
        let (Checkpoint { lineage, base, sinks, consumers, .. }, entries) = read(&db, &folder)?;
        Ok(RocksStore { folder, db: Some(db), read_only: true, format, lineage, base, sinks, consumers, entries })
    }

    /// Opens the database again where a failed write has closed it.
    fn reopen(&mut self) -> Result<()> {
        if self.read_only {
            return Err(Error::bug(format!("writing to {}, opened for reading only", self.folder.display())));
        }
        if self.db.is_none() {
            let db = DB::open(&options(), &self.folder).map_err(|error| classify(error, "opening", &self.folder))?;
            self.format = format(&db, &self.folder)?;
            let (Checkpoint { lineage, base, sinks, consumers, .. }, entries) = read(&db, &self.folder)?;
            (self.lineage, self.base, self.sinks, self.consumers) = (lineage, base, sinks, consumers);
            (self.db, self.entries) = (Some(db), entries);
        }
        Ok(())
    }

    fn db(&self) -> Result<&DB> {
        self.db.as_ref().ok_or_else(|| {
            let folder = self.folder.display();
            Error::transient(format!("reading the offset store {folder}: it is closed since a write failed"))
        })
    }

    fn write(&mut self, step: Step) -> Result<()> {
        let Step { mut batch, entries } = step;
        // Should the write fail, they are read again with everything else.
        entries.into_iter().for_each(|(key, checksum)| self.entries.apply(key, checksum));
        batch.put(CONTENTS_KEY, seal(CONTENTS_KEY, &self.entries.encode())?);
        if self.format < FORMAT_VERSION {
            batch.put(FORMAT_KEY, codec::encode_format());
        }
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        self.db()?.write_opt(batch, &synced).map_err(|error| {
            self.db = None;
            classify(error, "writing to", &self.folder)
        })?;
        self.format = FORMAT_VERSION;
        Ok(())
    }
}

impl OffsetStore for RocksStore {
    fn load(&self) -> Result<Checkpoint> {
        Ok(read(self.db()?, &self.folder)?.0)
    }

    fn bind(&mut self, lineage: &Lineage, continuity: Continuity) -> Result<()> {
        self.reopen()?;
        rules::may_bind(self.lineage.as_ref(), lineage, continuity)?;
        if self.lineage.as_ref() == Some(lineage) {
            return Ok(());
        }
        let mut step = Step::default();
        step.put(LINEAGE_KEY.to_vec(), &codec::encode_lineage(lineage))?;
        self.write(step)?;
        self.lineage = Some(lineage.clone());
        Ok(())
    }

    fn commit(&mut self, update: &OffsetUpdate) -> Result<()> {
        self.reopen()?;
        rules::may_commit(self.lineage.as_ref(), &self.sinks, update)?;
        if update.is_empty() {
            return Ok(());
        }
        let mut step = Step::default();
        let placed = self.place(&mut step, update)?;
        for (name, offset) in &update.sinks {
            put_sink(&mut step, name, offset)?;
        }
        if let Some(base) = &update.base {
            step.put(BASE_KEY.to_vec(), &base.to_bytes())?;
        }
        for entry in &update.state {
            let key = [STATE_PREFIX, &entry.key].concat();
            match &entry.value {
                Some(value) => step.put(key, value)?,
                None => step.delete(key),
            }
        }
        self.write(step)?;
        for (name, offset) in &update.sinks {
            self.sinks.insert(name.clone(), offset.clone());
        }
        self.base = update.base.clone().or(self.base.take());
        self.consumers.extend(placed);
        Ok(())
    }

    fn retain_sinks(&mut self, keep: &dyn Fn(&str) -> bool) -> Result<()> {
        self.reopen()?;
        let mut step = Step::default();
        for name in self.sinks.keys().filter(|name| !keep(name)) {
            step.delete(sink_key(name));
        }
        if step.entries.is_empty() {
            return Ok(());
        }
        self.write(step)?;
        self.sinks.retain(|name, _| keep(name));
        Ok(())
    }

    fn set(&mut self, sink: &str, offset: &SinkOffset) -> Result<()> {
        self.reopen()?;
        rules::may_set(self.lineage.as_ref(), sink)?;
        let mut step = Step::default();
        put_sink(&mut step, sink, offset)?;
        self.write(step)?;
        self.sinks.insert(sink.to_owned(), offset.clone());
        Ok(())
    }

    fn order(&mut self, orders: &Orders) -> Result<()> {
        self.reopen()?;
        let mut step = Step::default();
        if orders.is_empty() {
            step.delete(ORDERS_KEY.to_vec());
        } else {
            step.put(ORDERS_KEY.to_vec(), &codec::encode_orders(orders))?;
        }
        self.write(step)
    }

    fn reset(&mut self) -> Result<()> {
        self.reopen()?;
        let mut step = Step::default();
        for key in self.entries.checksums.keys() {
            step.delete(key.clone());
        }
        self.write(step)?;
        (self.lineage, self.base, self.sinks, self.consumers) = (None, None, BTreeMap::new(), BTreeMap::new());
        Ok(())
    }

    fn park_live(&mut self) -> Result<()> {
        self.reopen()?;
        self.park_all_live()
    }

    fn consumers(&self) -> BTreeMap<String, Consumer> {
        self.consumers.clone()
    }

    fn consumer(&self, name: &str) -> Result<Checkpoint> {
        self.namespace(name)
    }

    fn change_consumer(&mut self, name: &str, change: &ConsumerChange) -> Result<()> {
        self.reopen()?;
        self.change(name, change)
    }

    fn commit_consumer(&mut self, name: &str, epoch: u64, update: &OffsetUpdate) -> Result<()> {
        self.reopen()?;
        self.step_consumer(name, epoch, update)
    }
}

fn sink_key(name: &str) -> Vec<u8> {
    [SINK_PREFIX, name.as_bytes()].concat()
}

fn put_sink(step: &mut Step, name: &str, offset: &SinkOffset) -> Result<()> {
    step.put(sink_key(name), &codec::encode_offset(offset))
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(false);
    options.set_paranoid_checks(true);
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(WRITE_BUFFERS);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_max_open_files(OPEN_FILES);
    options.set_max_file_opening_threads(1);
    options.set_max_manifest_file_size(MANIFEST_MAX_BYTES);
    options.set_writable_file_max_buffer_size(FILE_BUFFER_BYTES);
    options.set_compression_type(DBCompressionType::None);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(LOG_MAX_BYTES);
    options.set_keep_log_file_num(LOG_FILES);
    // No thread that writes statistics to the log, or keeps them in memory.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    // Read once, at the start: a block cache would hold what nobody asks for again.
    let mut table = BlockBasedOptions::default();
    table.disable_cache();
    options.set_block_based_table_factory(&table);
    options
}

/// Builds an empty store and moves it into place, with the state directory locked against another process that does the
/// same.
fn create(dir: &Path, folder: &Path) -> Result<()> {
    let io_error = |error, doing: &str| classify_io(error, doing, dir);
    fs::create_dir_all(dir).map_err(|error| io_error(error, "making the state directory"))?;
    let held = File::open(dir).map_err(|error| io_error(error, "opening the state directory"))?;
    held.lock().map_err(|error| io_error(error, "locking the state directory"))?;
    if folder.exists() {
        return Ok(());
    }
    if dir.join("CURRENT").exists() {
        return Err(not_ours(dir, "it holds a database of another program"));
    }
    let new = dir.join(NEW_FOLDER);
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(classify_io(error, "removing the half-made store", &new));
        }
        _ => {}
    }
    let mut fresh = options();
    fresh.create_if_missing(true);
    let db = DB::open(&fresh, &new).map_err(|error| classify(error, "creating", &new))?;
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    db.put_opt(FORMAT_KEY, codec::encode_format(), &synced).map_err(|error| classify(error, "writing to", &new))?;
    drop(db);
    fs::rename(&new, folder).map_err(|error| classify_io(error, "moving the new store into", folder))?;
    held.sync_all().map_err(|error| io_error(error, "syncing the state directory"))
}

/// Reads everything before anything is opened for writing: opening for writing already changes files.
fn prove_ours(folder: &Path) -> Result<()> {
    attempt(|| open_existing(folder).and_then(|db| read(&db, folder))).map(drop)
}

/// Opens for reading only and checks the format.
fn open_existing(folder: &Path) -> Result<DB> {
    if !folder.is_dir() {
        return Err(not_ours(folder, "it is not a folder"));
    }
    if !folder.join("CURRENT").exists() {
        return Err(not_ours(folder, "it holds no RocksDB database (no file CURRENT)"));
    }
    let db = DB::open_for_read_only(&options(), folder, false).map_err(|error| classify(error, "opening", folder))?;
    format(&db, folder).map(|_| db)
}

/// Which format is stored; one that this code knows.
fn format(db: &DB, folder: &Path) -> Result<u32> {
    let format = db.get(FORMAT_KEY).map_err(|error| classify(error, "reading", folder))?;
    match format.as_deref().and_then(codec::decode_format) {
        None => Err(not_ours(folder, "it is a RocksDB database of another program")),
        Some(version) if version > FORMAT_VERSION => Err(Error::config(format!(
            "the offset store {} is of format {version}; this program reads up to format {FORMAT_VERSION}",
            folder.display()
        ))
        .remedy("run the newer version of walbrook that wrote it, or use another state directory")),
        Some(version) => Ok(version),
    }
}

/// Another process may be writing: its files come and go.
fn attempt<T>(open: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 1..READ_ONLY_ATTEMPTS {
        if let Ok(opened) = open() {
            return Ok(opened);
        }
        std::thread::sleep(READ_ONLY_PAUSE);
    }
    open()
}

/// Everything that is stored, and the checksum of each entry.
fn read(db: &DB, folder: &Path) -> Result<(Checkpoint, Entries)> {
    let wrong = |error: Error| {
        error.context(format!("reading the offset store {}", folder.display())).remedy(corrupt_remedy(folder))
    };
    let (mut checkpoint, mut entries) = (Checkpoint::default(), Entries::default());
    let mut contents = entries.encode();
    for item in db.iterator(IteratorMode::Start) {
        let (key, value) = item.map_err(|error| classify(error, "reading", folder))?;
        if *key == *FORMAT_KEY {
            continue;
        }
        let payload = unseal(&key, &value).map_err(wrong)?;
        if *key == *CONTENTS_KEY {
            contents = payload.to_vec();
            continue;
        }
        read_entry(&mut checkpoint, &key, payload).map_err(wrong)?;
        entries.apply(key.to_vec(), Some(codec::checksum(&key, payload)));
    }
    if contents != entries.encode() {
        return Err(wrong(corrupt(CONTENTS_KEY, "other entries are there than were stored together")));
    }
    Ok((checkpoint, entries))
}

fn read_entry(checkpoint: &mut Checkpoint, key: &[u8], payload: &[u8]) -> Result<()> {
    if key == LINEAGE_KEY {
        let lineage = codec::decode_lineage(payload).ok_or_else(|| corrupt(key, "it is not a lineage"))?;
        checkpoint.lineage = Some(lineage);
    } else if key == BASE_KEY {
        let base = Position::from_bytes(payload).ok_or_else(|| corrupt(key, "it is not a position"))?;
        checkpoint.base = Some(base);
    } else if key == ORDERS_KEY {
        checkpoint.orders = codec::decode_orders(payload).ok_or_else(|| corrupt(key, "it holds no orders"))?;
    } else if let Some(rest) = key.strip_prefix(consumers::PREFIX) {
        consumers::read_entry(checkpoint, key, rest, payload)?;
    } else if let Some(name) = key.strip_prefix(SINK_PREFIX) {
        let name = str::from_utf8(name).ok().ok_or_else(|| corrupt(key, "the sink's name is not UTF-8"))?;
        let offset = codec::decode_offset(payload).ok_or_else(|| corrupt(key, "it is not an offset"))?;
        checkpoint.sinks.insert(name.to_owned(), offset);
    } else if let Some(state) = key.strip_prefix(STATE_PREFIX) {
        checkpoint.state.insert(state.to_vec(), payload.to_vec());
    } else {
        return Err(corrupt(key, "no such key belongs to an offset store"));
    }
    Ok(())
}

fn not_ours(folder: &Path, why: &str) -> Error {
    Error::config(format!("{} is not an offset store: {why}", folder.display()))
        .remedy("use another state directory; nothing was changed here")
}

fn corrupt_remedy(folder: &Path) -> String {
    format!(
        "nothing was changed; restore {0} from a copy, or move it away to start over with a new snapshot",
        folder.display()
    )
}

/// RocksDB says with words what happened; the classes come from them.
fn classify(error: rocksdb::Error, doing: &str, folder: &Path) -> Error {
    let text = error.to_string();
    let has = |words: &str| text.contains(words);
    let store = format!("{doing} the offset store {}", folder.display());
    if has("lock file") || has("lock hold by current process") {
        let lock = folder.join("LOCK");
        return Error::config(format!("{store}: another process holds {}", lock.display()))
            .remedy("stop the other walbrook, or give this one a state directory of its own")
            .because(error);
    }
    if has("No space left") || has("Disk quota") || has("File too large") {
        return Error::transient(format!("{store}: no space left")).remedy("free space there").because(error);
    }
    if has("Permission denied") || has("Read-only file system") {
        return Error::config(format!("{store}: it cannot be written"))
            .remedy("make the folder and its files writable for this user")
            .because(error);
    }
    match error.kind() {
        // A file that the manifest names and that is not there is damage too.
        ErrorKind::Corruption | ErrorKind::NotFound => {}
        ErrorKind::IOError if has("No such file") => {}
        ErrorKind::InvalidArgument | ErrorKind::NotSupported => {
            return not_ours(folder, "RocksDB cannot open it as one").because(error);
        }
        _ => return Error::transient(store).because(error),
    }
    Error::config(format!("{store}: it is corrupt")).remedy(corrupt_remedy(folder)).because(error)
}

fn classify_io(error: io::Error, doing: &str, path: &Path) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            return Error::transient(format!("{doing} {}: no space left", path.display()))
                .remedy("free space there")
                .because(error);
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "make the folder writable for this user, or use another state directory"
        }
        _ => "use a state directory on a local file system",
    };
    Err::<(), _>(error).config(|| format!("{doing} {}", path.display())).unwrap_err().remedy(remedy)
}
