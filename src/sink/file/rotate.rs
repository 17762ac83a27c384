//! Rotated files: their names, and the thread that compresses them and removes old ones.
//!
//! Invariants:
//! - `changes.ndjson` rotates to `changes.ndjson.000007`, compressed to `changes.ndjson.000007.zst`. The number is the
//!   file's generation; it only grows, and a name that is taken is never taken again.
//! - A name that ends in `.zst` is a complete, synced file: it is written under `….zst.tmp` and renamed. The file it was
//!   made from goes afterwards, so at every moment one of them is whole.
//! - Compressing can be interrupted at any point and is taken up again when the sink opens.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use tracing::warn;

use super::{file_error, sync_folder};
use crate::error::Result;

/// Six digits sort by name as by number up to a million files.
const NUMBER_WIDTH: usize = 6;
const COMPRESSED: &str = ".zst";
const UNFINISHED: &str = ".zst.tmp";
/// zstd's default: about 250 MB/s on a core, a tenth to a twentieth of the size for JSON, 4 MiB of memory.
const COMPRESSION_LEVEL: i32 = 3;
/// What is compressed between two looks at whether to stop: a few milliseconds.
const COMPRESSION_STEP_BYTES: usize = 256 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rotated {
    pub(super) generation: u64,
    pub(super) compressed: bool,
    pub(super) path: PathBuf,
}

/// The folder a file is in.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The name of a rotated file that is not compressed.
pub(super) fn name(path: &Path, generation: u64) -> PathBuf {
    with_suffix(path, &format!(".{generation:0NUMBER_WIDTH$}"))
}

/// The names below the active file's own: what comes after it and a dot.
fn suffixes(path: &Path) -> Result<Vec<(PathBuf, String)>> {
    let reading = |error| file_error("reading the folder of", path, error);
    let Some(base) = path.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder(path)).map_err(reading)? {
        let entry = entry.map_err(reading)?;
        if let Some(suffix) = entry.file_name().to_str().and_then(|name| name.strip_prefix(base)?.strip_prefix('.')) {
            found.push((entry.path(), suffix.to_owned()));
        }
    }
    Ok(found)
}

fn generation(digits: &str) -> Option<u64> {
    let plain = digits.len() >= NUMBER_WIDTH && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// The rotated files that are there, oldest first; of one that is there twice, the compressed one.
pub(super) fn list(path: &Path) -> Result<Vec<Rotated>> {
    let mut found: Vec<Rotated> = suffixes(path)?
        .into_iter()
        .filter_map(|(path, suffix)| {
            let (digits, compressed) = match suffix.strip_suffix(COMPRESSED) {
                Some(digits) => (digits, true),
                None => (&suffix[..], false),
            };
            Some(Rotated { generation: generation(digits)?, compressed, path })
        })
        .collect();
    found.sort();
    found.reverse();
    found.dedup_by_key(|rotated| rotated.generation);
    found.reverse();
    Ok(found)
}

/// Compresses and removes rotated files beside the sink.
pub(super) struct Housekeeper {
    wake: Option<SyncSender<()>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Housekeeper {
    /// Errors: `Transient` when there can be no more threads.
    pub(super) fn start(path: &Path, compress: bool, keep: Option<usize>) -> Result<Self> {
        // One wish is enough: whoever is at work looks at everything that is there.
        let (wake, wishes) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let (owned, stopped) = (path.to_owned(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("rotated files".into())
            .spawn(move || keep_house(&owned, compress, keep, &wishes, &stopped))
            .map_err(|error| file_error("starting the thread for rotated files of", path, error))?;
        Ok(Housekeeper { wake: Some(wake), stop, thread: Some(thread) })
    }

    /// Asks for a look at the rotated files; never waits.
    pub(super) fn wake(&self) {
        if let Some(wake) = &self.wake {
            // Full: a look is wished for already.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Housekeeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn keep_house(path: &Path, compress: bool, keep: Option<usize>, wishes: &Receiver<()>, stop: &AtomicBool) {
    while wishes.recv().is_ok() {
        // What cannot be done now is left as it is, whole, and tried again at the next rotation.
        if let Err(error) = tidy(path, compress, keep, stop) {
            warn!(file = %path.display(), "keeping the rotated files in order: {error:?}");
        }
    }
}

fn tidy(path: &Path, compress: bool, keep: Option<usize>, stop: &AtomicBool) -> Result<()> {
    for (leftover, suffix) in suffixes(path)? {
        if suffix.strip_suffix(UNFINISHED).and_then(generation).is_some() {
            remove(&leftover)?;
        }
        // The original of a file whose compression was complete.
        if generation(&suffix).is_some() && with_suffix(&leftover, COMPRESSED).exists() {
            remove(&leftover)?;
        }
    }
    if let Some(keep) = keep {
        let found = list(path)?;
        for old in &found[..found.len().saturating_sub(keep)] {
            remove(&old.path)?;
        }
    }
    if compress {
        for rotated in list(path)?.iter().filter(|rotated| !rotated.compressed) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            compress_file(&rotated.path, stop).map_err(|error| file_error("compressing", &rotated.path, error))?;
        }
    }
    sync_folder(folder(path))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("removing", path, error)),
        _ => Ok(()),
    }
}

/// Leaves either the original or the complete compressed file.
fn compress_file(original: &Path, stop: &AtomicBool) -> io::Result<()> {
    let unfinished = with_suffix(original, UNFINISHED);
    let complete = with_suffix(original, COMPRESSED);
    let written = (|| {
        let mut plain = File::open(original)?;
        let mut packed = zstd::Encoder::new(File::create(&unfinished)?, COMPRESSION_LEVEL)?;
        // A reader can tell a damaged file.
        packed.include_checksum(true)?;
        let mut step = vec![0; COMPRESSION_STEP_BYTES];
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            match plain.read(&mut step)? {
                0 => break,
                read => packed.write_all(&step[..read])?,
            }
        }
        packed.finish()?.sync_all()?;
        Ok(true)
    })();
    if !matches!(written, Ok(true)) {
        let _ = fs::remove_file(&unfinished);
        return written.map(drop);
    }
    fs::rename(&unfinished, &complete)?;
    File::open(folder(original))?.sync_all()?;
    fs::remove_file(original)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_rotated_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ndjson");
        for name in [
            "a.ndjson",
            "a.ndjson.000002",
            "a.ndjson.000001.zst",
            "a.ndjson.000001",
            "a.ndjson.1234567",
            "a.ndjson.00001",
            "a.ndjson.000003.zst.tmp",
            "a.ndjson.+00004",
            "b.ndjson.000009",
            "a.ndjson.000005.gz",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let found: Vec<_> =
            list(&path).unwrap().into_iter().map(|rotated| (rotated.generation, rotated.compressed)).collect();
        assert_eq!(found, [(1, true), (2, false), (1234567, false)]);
        assert_eq!(name(&path, 7), dir.path().join("a.ndjson.000007"));
    }

    #[test]
    fn tidying_takes_up_what_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let text = "{\"line\":1}\n".repeat(100_000);
        fs::write(name(&path, 1), "complete already").unwrap();
        fs::write(dir.path().join("a.000001.zst"), zstd::encode_all(&b"complete already"[..], 1).unwrap()).unwrap();
        fs::write(name(&path, 2), &text).unwrap();
        fs::write(dir.path().join("a.000002.zst.tmp"), "half").unwrap();
        tidy(&path, true, None, &AtomicBool::new(true)).unwrap();
        assert_eq!(fs::read_to_string(name(&path, 2)).unwrap(), text, "stopped: the original stays");
        tidy(&path, true, None, &AtomicBool::new(false)).unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a.000001.zst", "a.000002.zst"]);
        let unpacked = zstd::decode_all(File::open(dir.path().join("a.000002.zst")).unwrap()).unwrap();
        assert_eq!(unpacked, text.into_bytes());
        fs::write(name(&path, 3), "new").unwrap();
        tidy(&path, false, Some(2), &AtomicBool::new(false)).unwrap();
        assert_eq!(list(&path).unwrap().iter().map(|rotated| rotated.generation).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn an_interrupted_compression_leaves_the_original() {
        let dir = tempfile::tempdir().unwrap();
        let original = dir.path().join("a.000001");
        fs::write(&original, "text").unwrap();
        compress_file(&original, &AtomicBool::new(true)).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(&original).unwrap(), "text");
    }
}
