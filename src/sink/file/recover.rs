//! Finding the place to go on at: the token, and what is done to the active file when the sink opens.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use tracing::{info, warn};

use super::rotate;
use super::{file_error, sync_folder};
use crate::error::{Error, Result};

/// How much of a file's end the token remembers: the last line's position, transaction, ordinal and time are in it, so
/// no other file has the same.
const TAIL_BYTES: usize = 256;

/// What the active file held at a stored offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) generation: u64,
    pub(super) length: u64,
    /// CRC-32 of the last 256 bytes before `length`, or of all where there are fewer.
    pub(super) tail_crc: u32,
}

impl Token {
    /// `"F" generation:u64 length:u64 tail_crc:u32`, big endian.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let Token { generation, length, tail_crc } = self;
        [&b"F"[..], &generation.to_be_bytes(), &length.to_be_bytes(), &tail_crc.to_be_bytes()].concat()
    }

    /// The reverse of [`Token::to_bytes`]; `None` when the bytes are not one.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (generation, rest) = bytes.strip_prefix(b"F")?.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        Some(Token {
            generation: u64::from_be_bytes(*generation),
            length: u64::from_be_bytes(*length),
            tail_crc: u32::from_be_bytes(rest.try_into().ok()?),
        })
    }
}

/// The last bytes of the active file.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    /// The tail of the file's first `length` bytes.
    fn read(file: &File, length: u64) -> io::Result<Self> {
        let size = length.min(TAIL_BYTES as u64);
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, length - size)?;
        Ok(Tail(bytes))
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        self.0.drain(..self.0.len().saturating_sub(TAIL_BYTES));
    }

    pub(super) fn crc(&self) -> u32 {
        crc32fast::hash(&self.0)
    }
}

/// The active file, ready to append to.
pub(super) struct Active {
    pub(super) file: File,
    pub(super) generation: u64,
    pub(super) length: u64,
    pub(super) tail: Tail,
}

/// What of the active file stays.
#[derive(Debug, PartialEq, Eq)]
enum Keep {
    /// All whole lines.
    Lines,
    /// What was there at the stored offset, or nothing.
    To(u64),
}

/// Opens or creates the active file at `path` and cuts off what will come again.
///
/// Errors: `Config` when it cannot be opened or another process writes to it; `Transient` without space.
pub(super) fn open(path: &Path, token: Option<Token>) -> Result<Active> {
    let folder = rotate::folder(path);
    let existing = match OpenOptions::new().read(true).append(true).open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(file_error("opening", path, error)),
    };
    let existed = existing.is_some();
    let file = match existing {
        Some(file) => file,
        None => create(path)?,
    };
    let doing = |doing: &'static str| move |error| file_error(doing, path, error);
    let metadata = file.metadata().map_err(doing("opening"))?;
    if !metadata.is_file() {
        return Err(Error::config(format!("{} is not a regular file", path.display()))
            .remedy("a pipe or a device is written to by the stdout sink"));
    }
    lock(&file, path)?;
    let found = metadata.len();
    let rotated: Vec<u64> = rotate::list(path)?.into_iter().map(|rotated| rotated.generation).collect();
    let (generation, keep) = match token {
        None => (rotated.last().map_or(1, |last| last + 1), Keep::Lines),
        Some(token) => place(path, token, existed.then_some(&file), found, &rotated)?,
    };
    let length = match keep {
        Keep::To(length) => length,
        Keep::Lines => whole_lines(&file, path, found)?,
    };
    if length < found {
        info!(file = %path.display(), from = found, to = length, "cutting off what was not confirmed");
        file.set_len(length).map_err(doing("cutting"))?;
    }
    file.sync_all().map_err(doing("syncing"))?;
    sync_folder(folder)?;
    let tail = Tail::read(&file, length).map_err(doing("reading"))?;
    Ok(Active { file, generation, length, tail })
}

/// Creates the active file of a new generation.
pub(super) fn create(path: &Path) -> Result<File> {
    let created = OpenOptions::new().read(true).append(true).create_new(true).open(path);
    created.map_err(|error| file_error("creating", path, error))
}

/// Keeps two processes, or two sinks, from mixing their lines.
pub(super) fn lock(file: &File, path: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::config(format!("another sink writes to {}", path.display()))
            .remedy("stop the other process, or give each sink a file of its own")),
        Err(TryLockError::Error(error)) => Err(file_error("locking", path, error)),
    }
}

/// The generation of the active file and what of it stays, given what was stored. `file` is none when it was absent.
fn place(path: &Path, token: Token, file: Option<&File>, found: u64, rotated: &[u64]) -> Result<(u64, Keep)> {
    let next = rotated.last().map_or(0, |last| last + 1).max(token.generation + 1);
    let since = rotated.iter().filter(|generation| **generation >= token.generation).count() as u64;
    if since > 0 {
        // Rotated since: what the active file holds came after the stored offset, so it comes again. When a file of the
        // chain is missing, that is not proven, and nothing but a torn line is cut.
        let whole = since == next - token.generation;
        return Ok((next, if whole { Keep::To(0) } else { Keep::Lines }));
    }
    let path = path.display();
    let Some(file) = file else {
        if token.length > 0 {
            warn!(file = %path, expected_bytes = token.length, "the file is gone: somebody took it; starting a new one");
        }
        return Ok((next, Keep::Lines));
    };
    if found < token.length {
        warn!(
            file = %path, bytes = found, expected_bytes = token.length,
            "the file is shorter than what was confirmed: somebody cut or replaced it; going on at its end"
        );
        return Ok((next, Keep::Lines));
    }
    let tail =
        Tail::read(file, token.length).map_err(|error| file_error("reading", path.to_string().as_ref(), error))?;
    if tail.crc() != token.tail_crc {
        warn!(file = %path, "the file does not hold what was confirmed: somebody replaced it; going on at its end");
        return Ok((next, Keep::Lines));
    }
    Ok((token.generation, Keep::To(token.length)))
}

/// The length of the file without a torn last line. Errors: `Config` when the last line is none of ours.
fn whole_lines(file: &File, path: &Path, length: u64) -> Result<u64> {
    // Large enough that a long line takes few reads, small enough to be nothing in the budget.
    let mut block = [0; 16 * 1024];
    let mut end = length;
    let read = |error| file_error("reading", path, error);
    let start = loop {
        let take = end.min(block.len() as u64) as usize;
        let at = end - take as u64;
        file.read_exact_at(&mut block[..take], at).map_err(read)?;
        match memchr::memrchr(b'\n', &block[..take]) {
            Some(newline) => break at + newline as u64 + 1,
            None if at == 0 => break 0,
            None => end = at,
        }
    };
    if start < length {
        let mut first = [0];
        file.read_exact_at(&mut first, start).map_err(read)?;
        // Every line of ours is an object; a file that ends otherwise is somebody's, and cutting it would be damage.
        if first != *b"{" {
            return Err(Error::config(format!("{} ends in a line that is not ours", path.display()))
                .remedy("write to a file of its own, or end that line"));
        }
    }
    Ok(start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_survive_their_bytes(generation: u64, length: u64, tail_crc: u32, other: Vec<u8>) {
            let token = Token { generation, length, tail_crc };
            prop_assert_eq!(Token::from_bytes(&token.to_bytes()), Some(token));
            prop_assert_eq!(Token::from_bytes(&token.to_bytes()[..20]), None);
            let _ = Token::from_bytes(&other);
        }

        /// However it was written, the tail is that of the file.
        #[test]
        fn the_tail_is_that_of_the_file(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..6)) {
            let file = tempfile::tempfile().unwrap();
            let mut tail = Tail::default();
            for piece in &pieces {
                tail.append(piece);
            }
            let all = pieces.concat();
            file.write_all_at(&all, 0).unwrap();
            prop_assert_eq!(Tail::read(&file, all.len() as u64).unwrap().crc(), tail.crc());
        }

        #[test]
        fn a_torn_line_is_found_wherever_it_begins(lines in 0usize..4, width in 1usize..40_000, torn in 0usize..40_000) {
            let file = tempfile::tempfile().unwrap();
            let line = format!("{{{}\n", "x".repeat(width));
            let mut text = line.repeat(lines);
            let whole = text.len() as u64;
            text.push_str(&format!("{{{}", "y".repeat(torn))[..torn]);
            file.write_all_at(text.as_bytes(), 0).unwrap();
            prop_assert_eq!(whole_lines(&file, Path::new("f"), text.len() as u64).unwrap(), whole);
        }
    }

    #[test]
    fn a_last_line_of_somebody_else_is_not_cut() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"{}\nnotes", 0).unwrap();
        assert_eq!(whole_lines(&file, Path::new("f"), 8).unwrap_err().class(), crate::error::Class::Config);
    }
}
