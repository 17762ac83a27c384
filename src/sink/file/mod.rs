//! `file`: lines of JSON (NDJSON) in a file that is synced, rotated and compressed.
//!
//! **Guarantee**: durable means fdatasync has returned. Without rotation, *exactly once*: with every position the file's
//! length is stored, and on opening, what lies behind it is cut off, because it comes again. With rotation, *at least
//! once*: a rotated file is never touched again, so when the process dies (or the sink fails) after a rotation and before
//! the next offset is stored, the transactions between the stored offset and the rotation stand in the rotated file and come again in
//! the next one, whole and with the same order keys. Nothing else repeats, and no line and no transaction is left torn.
//! - *The file was taken, cut or replaced* (the length or the last 256 bytes are not what was stored): a warning, and the
//!   sink goes on at the end of what is there, or in a new file. Lines that went with the old file are not written again.
//! - *A torn last line* of a file about which nothing is stored is cut off, if it is one of ours.
//! - *The file was moved or deleted while in use* is noticed at the next flush: a new one is begun with everything since
//!   the last stored offset.
//!
//! **Rotation**: at `rotate` bytes or `rotate_every`, whichever comes first, between two transactions. A transaction is
//! split only when its own lines in the file reach `rotate`, so a file without such a transaction is at most as large as
//! `rotate` and one transaction below `rotate`. Snapshot rows belong together in no way: between any two of them. Time is
//! looked at when a record comes: a file without new lines stays. `changes.ndjson` becomes `changes.ndjson.000001`, with
//! `compress: zstd` `changes.ndjson.000001.zst` a moment later; with `keep`, only so many of them stay.
//!
//! **Batching**: a sync at 16 MiB, 100000 records or 200 ms; lines can be read at once, long before they are synced.
//!
//! **Configuration**: `type: file`, `path`, `rotate`, `rotate_every`, `compress`, `keep`, `transactions`, and the common
//! batching keys.
//!
//! **Errors**: no space left is `Transient`: what was written of the batch is cut off, and the sink goes on when there is
//! space. A folder that is missing or closed, a file that another process writes to: `Config`.

mod recover;
mod rotate;

use std::fs::{self, File};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use self::recover::{Active, Tail, Token};
use self::rotate::Housekeeper;
use super::config::batching_of;
use super::lines::{Encode, LineBuffer, blocking};
use super::{Accepted, Batching, Capabilities, Delivery, Durable, Guarantee, Sink};
use crate::error::{Error, Finding, Result};
use crate::quantity::{ByteSize, Span};
use crate::record::{CdcRecord, Change, Origin, Position, Seq, SinkOffset};

/// Lines of JSON in a file, synced and rotated.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The file that lines are appended to; its folder must exist.
    pub path: PathBuf,
    /// Begin a new file at this size (default: never).
    pub rotate: Option<ByteSize>,
    /// Begin a new file at this age (default: never).
    pub rotate_every: Option<Span>,
    /// How rotated files are compressed (default: not at all).
    pub compress: Option<Compression>,
    /// How many rotated files stay; older ones are removed (default: all).
    pub keep: Option<NonZeroUsize>,
    /// Whether transactions' begin and commit are lines too (default false).
    #[serde(default)]
    pub transactions: bool,
    /// Sync after this many records (default 100000).
    pub batch_records: Option<usize>,
    /// Sync after this many bytes of batches (default 16MiB).
    pub batch_bytes: Option<ByteSize>,
    /// The longest a record stays unsynced (default 200ms).
    pub batch_delay: Option<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Zstandard, into files that end in `.zst`.
    Zstd,
}

/// A sync takes 1 to 5 ms on an ordinary disk and 16 MiB are 60 ms of writing, so syncing takes a few percent; under a
/// trickle there are five a second.
const BATCHING: Batching =
    Batching { max_records: 100_000, max_bytes: 16 << 20, max_delay_ms: 200, flush_when_idle: false };

pub struct FileSink<E> {
    name: String,
    config: FileConfig,
    encoder: E,
    lines: LineBuffer,
    active: Option<Open>,
    housekeeper: Option<Housekeeper>,
    last: Seq,
}

/// The active file while it is open.
struct Open {
    file: File,
    generation: u64,
    /// What is written; the file is never longer when a call returns without an error.
    length: u64,
    tail: Tail,
    unsynced: bool,
    /// The file's age counts from here.
    born: SystemTime,
    /// The transaction of the last line, and where in the file it begins.
    transaction: Option<Position>,
    transaction_start: u64,
}

impl<E: Encode> FileSink<E> {
    /// Errors: `Config`, when the keys make no sense together.
    pub fn new(name: &str, config: &FileConfig, encoder: E) -> Result<Self> {
        let wrong = |what: &str, remedy: &str| Error::config(format!("sink {name:?}: {what}")).remedy(remedy);
        if config.path.file_name().and_then(|file| file.to_str()).is_none() {
            return Err(wrong("path names no file", "name a file whose name is UTF-8"));
        }
        if config.rotate == Some(ByteSize(0)) || config.rotate_every.is_some_and(|every| every.duration().is_zero()) {
            return Err(wrong("rotation at zero", "leave the key out for no rotation"));
        }
        let rotates = config.rotate.is_some() || config.rotate_every.is_some();
        if !rotates && (config.compress.is_some() || config.keep.is_some()) {
            return Err(wrong(
                "compress and keep are about rotated files, and nothing rotates",
                "add rotate: 1GiB or rotate_every: 24h",
            ));
        }
        Ok(FileSink {
            name: name.to_owned(),
            config: config.clone(),
            encoder,
            lines: LineBuffer::default(),
            active: None,
            housekeeper: None,
            last: Seq(0),
        })
    }

    fn rotates(&self) -> bool {
        self.config.rotate.is_some() || self.config.rotate_every.is_some()
    }

    fn open_file(&mut self, stored: &SinkOffset) -> Result<()> {
        // Lets go of the lock first.
        self.active = None;
        self.lines.clear();
        let token = match stored.token.as_deref() {
            None => None,
            Some(bytes) => Some(Token::from_bytes(bytes).ok_or_else(|| {
                Error::config(format!("sink {:?} has an offset stored that no file sink has made", self.name))
                    .remedy("give the sink another name, or forget its offset with `walbrook offsets reset`")
            })?),
        };
        let Active { file, generation, length, tail } = recover::open(&self.config.path, token)?;
        // Where the file system does not know a file's birth, its age counts from the start.
        let born = file.metadata().and_then(|metadata| metadata.created()).unwrap_or_else(|_| SystemTime::now());
        self.active = Some(Open {
            file,
            generation,
            length,
            tail,
            unsynced: false,
            born,
            transaction: None,
            transaction_start: length,
        });
        if self.rotates() && (self.config.compress.is_some() || self.config.keep.is_some()) {
            if self.housekeeper.is_none() {
                let keep = self.config.keep.map(NonZeroUsize::get);
                self.housekeeper = Some(Housekeeper::start(&self.config.path, self.config.compress.is_some(), keep)?);
            }
            self.wake_housekeeper();
        }
        Ok(())
    }

    fn wake_housekeeper(&self) {
        if let Some(housekeeper) = &self.housekeeper {
            housekeeper.wake();
        }
    }

    fn write_all(&mut self, delivery: &Delivery) -> Result<()> {
        let every = self.config.rotate_every.map_or(Duration::MAX, Span::duration);
        let limit = self.config.rotate.map_or(u64::MAX, ByteSize::bytes);
        // Once a delivery: a clock read for every record would cost more than it tells.
        let overdue = open(&mut self.active, &self.name)?.born.elapsed().is_ok_and(|age| age >= every);
        for record in delivery.records() {
            let Self { name, config, lines, active, .. } = self;
            let active = open(active, name)?;
            let at = active.length + lines.bytes().len() as u64;
            let boundary = active.begins(delivery.batch.origin, &record);
            let due = at >= limit || (overdue && active.born.elapsed().is_ok_and(|age| age >= every));
            if due && at > 0 && (boundary || at - active.transaction_start >= limit) {
                active.put(&config.path, lines)?;
                active.rotate(&config.path)?;
                self.wake_housekeeper();
            } else if boundary {
                active.transaction_start = at;
            }
            let Self { name, config, encoder, lines, active, .. } = self;
            let active = open(active, name)?;
            let added = lines.add(encoder, delivery.batch.origin, &record);
            if lines.is_piece() || added.is_err() {
                active.put(&config.path, lines)?;
            }
            added?;
        }
        open(&mut self.active, &self.name)?.put(&self.config.path, &mut self.lines)
    }
}

fn open<'s>(active: &'s mut Option<Open>, name: &str) -> Result<&'s mut Open> {
    active.as_mut().ok_or_else(|| Error::bug(format!("writing to sink {name:?} before it is open")))
}

impl Open {
    /// Whether this record may be the first of a file.
    fn begins(&mut self, origin: Origin, record: &CdcRecord<'_>) -> bool {
        let commit = &record.txn.commit;
        let begins = match (origin, &self.transaction) {
            (Origin::Snapshot, _) | (_, None) => true,
            (_, Some(last)) => last != commit || matches!(record.change, Change::Begin),
        };
        if begins {
            self.transaction = Some(commit.clone());
        }
        begins
    }

    /// Writes the lines and empties their buffer. After an error the file is as long as before.
    fn put(&mut self, path: &Path, lines: &mut LineBuffer) -> Result<()> {
        if lines.bytes().is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(lines.bytes());
        if written.is_ok() {
            self.length += lines.bytes().len() as u64;
            self.tail.append(lines.bytes());
            self.unsynced = true;
        } else {
            // Where even that fails, opening again cuts it.
            let _ = self.file.set_len(self.length);
        }
        lines.clear();
        written.map_err(|error| file_error("writing to", path, error))
    }

    fn sync(&mut self, path: &Path) -> Result<()> {
        if self.unsynced {
            self.file.sync_data().map_err(|error| file_error("syncing", path, error))?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Moves the file, synced, to its rotated name and begins the next. A crash in between leaves no active file, which
    /// opening again mends.
    fn rotate(&mut self, path: &Path) -> Result<()> {
        self.sync(path)?;
        self.prove_at(path)?;
        // Somebody's file may have the name: no rename over it.
        let generation = rotate::list(path)?.last().map_or(0, |last| last.generation + 1).max(self.generation);
        let name = rotate::name(path, generation);
        fs::rename(path, &name).map_err(|error| file_error("rotating", path, error))?;
        let file = recover::create(path)?;
        recover::lock(&file, path)?;
        sync_folder(rotate::folder(path))?;
        *self = Open {
            file,
            generation: generation + 1,
            length: 0,
            tail: Tail::default(),
            unsynced: false,
            born: SystemTime::now(),
            transaction: self.transaction.take(),
            transaction_start: 0,
        };
        Ok(())
    }

    /// Errors: `Transient`, when the path no longer names the file that is open; opening again begins a new one.
    fn prove_at(&self, path: &Path) -> Result<()> {
        let looking = |error| file_error("looking at", path, error);
        let here = self.file.metadata().map_err(looking)?;
        match fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (here.dev(), here.ino()) => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(looking(error)),
            _ => Err(Error::transient(format!("{} was moved or deleted while in use", path.display()))
                .remedy("let the sink rotate its file itself: rotate, rotate_every")),
        }
    }
}

#[async_trait]
impl<E: Encode> Sink for FileSink<E> {
    fn capabilities(&self) -> Capabilities {
        Capabilities { guarantee: if self.rotates() { Guarantee::AtLeastOnce } else { Guarantee::ExactlyOnce } }
    }

    fn batching(&self) -> Batching {
        let FileConfig { batch_records, batch_bytes, batch_delay, .. } = &self.config;
        batching_of(BATCHING, *batch_records, *batch_bytes, *batch_delay)
    }

    async fn check(&mut self) -> Vec<Finding> {
        let subject = format!("sink {}", self.name);
        vec![match blocking(|| check(&self.config.path)) {
            Ok(()) => Finding::ok(subject, format!("{} can be written", self.config.path.display())),
            Err(error) => {
                let remedy = error.remedy_text().unwrap_or("name a file that can be written").to_owned();
                Finding::problem(subject, format!("{error:?}").lines().next().unwrap_or_default(), remedy)
            }
        }]
    }

    async fn open(&mut self, stored: &SinkOffset) -> Result<Option<SinkOffset>> {
        blocking(|| self.open_file(stored))?;
        // Where nothing was known of the file, its end is now what a failure is cut back to.
        let token = self.token();
        Ok((token != stored.token).then(|| SinkOffset { position: stored.position.clone(), token }))
    }

    async fn write(&mut self, delivery: &Delivery) -> Result<Accepted> {
        blocking(|| self.write_all(delivery))?;
        self.last = delivery.batch.seq;
        Ok(Accepted(self.last))
    }

    fn token(&self) -> Option<Vec<u8>> {
        let Open { generation, length, tail, .. } = self.active.as_ref()?;
        Some(Token { generation: *generation, length: *length, tail_crc: tail.crc() }.to_bytes())
    }

    async fn flush(&mut self) -> Result<Durable> {
        let path = &self.config.path;
        if let Some(active) = &mut self.active {
            blocking(|| {
                active.sync(path)?;
                active.prove_at(path)
            })?;
        }
        Ok(Durable(self.last))
    }

    async fn close(&mut self) -> Result<()> {
        let _ = self.flush().await?;
        (self.active, self.housekeeper) = (None, None);
        Ok(())
    }
}

/// Whether the sink could write, without leaving anything behind.
fn check(path: &Path) -> Result<()> {
    match fs::OpenOptions::new().append(true).open(path) {
        Ok(file) => {
            if !file.metadata().map_err(|error| file_error("opening", path, error))?.is_file() {
                return Err(Error::config(format!("{} is not a regular file", path.display()))
                    .remedy("a pipe or a device is written to by the stdout sink"));
            }
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_error("opening", path, error)),
        Err(_) => {}
    }
    // Rotation makes files too, so the folder has to be open in any case.
    let mut probe = path.as_os_str().to_owned();
    probe.push(format!(".check-{}", std::process::id()));
    let probe = PathBuf::from(probe);
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe)
        .and_then(|_| fs::remove_file(&probe))
        .map_err(|error| file_error("making a file beside", path, error))
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| file_error("syncing", folder, error))
}

/// An error about a file: what the user must mend, or what may pass.
fn file_error(doing: &str, path: &Path, error: io::Error) -> Error {
    use io::ErrorKind::*;
    let what = format!("{doing} {}", path.display());
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => Error::transient(format!("{what}: no space left"))
            .remedy("free space there, or set rotate, compress and keep; the sink goes on by itself"),
        NotFound => Error::config(what).remedy("make its folder first"),
        PermissionDenied | ReadOnlyFilesystem => {
            Error::config(what).remedy("make the file and its folder writable for this user")
        }
        IsADirectory | NotADirectory | InvalidFilename => Error::config(what).remedy("name a file in a folder"),
        _ => Error::transient(what),
    }
    .because(error)
}
