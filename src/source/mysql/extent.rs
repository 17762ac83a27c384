//! The files of a log, laid one behind another on one scale of bytes.
//!
//! Invariants:
//! - A file's beginning does not move while the process lives, also when files before it are purged.
//! - What is behind the files that are known is at their end: at least so far.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::retention::LogFile;
use crate::flow::Extent;
use crate::record::{Position, file_number};

/// Some MiB of names; the server's default is one file a GiB.
const FILES_MAX: usize = 20_000;

#[derive(Debug, Default)]
pub struct LogFiles(Mutex<Files>);

#[derive(Debug, Default)]
struct Files {
    /// See [`crate::record::BinlogPosition::server`].
    server: u64,
    /// Where each begins, by the number the server counts it by.
    begins: BTreeMap<u64, u64>,
    /// Where the last one ended when they were listed.
    end: u64,
}

impl LogFiles {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn knows(&self, file: &str) -> bool {
        self.files().begins.contains_key(&file_number(file))
    }

    /// The server has these files, oldest first.
    pub fn listed(&self, server: u64, list: &[LogFile]) {
        let mut files = self.files();
        let reset = list.first().zip(files.begins.keys().next_back());
        // Another server, or a log that was reset: its files lie behind all that were there.
        let anew = files.server != server || reset.is_some_and(|(first, last)| file_number(&first.name) > *last + 1);
        let shrunk = list.last().zip(files.begins.keys().next_back()).is_some_and(|(a, b)| file_number(&a.name) < *b);
        if anew || shrunk {
            files.begins.clear();
        }
        files.server = server;
        let mut next = files.end;
        for file in list {
            let number = file_number(&file.name);
            let begin = *files.begins.entry(number).or_insert(next);
            next = begin + file.bytes;
        }
        files.end = next;
        while files.begins.len() > FILES_MAX {
            files.begins.pop_first();
        }
    }

    /// Bytes of log before an offset of a file of the server that was listed.
    pub fn at(&self, file: &str, offset: u64) -> Option<u64> {
        let files = self.files();
        let number = file_number(file);
        let (last, oldest) = (files.begins.keys().next_back()?, files.begins.first_key_value()?);
        match files.begins.get(&number) {
            Some(begin) => Some(begin + offset),
            None if number > *last => Some(files.end),
            None => Some(*oldest.1),
        }
    }
}

impl Extent for LogFiles {
    fn bytes(&self, position: &Position) -> Option<u64> {
        let position = position.binlog().ok()?;
        let ours = position.server == 0 || position.server == self.files().server;
        if !ours || position.file.is_empty() {
            return None;
        }
        self.at(&position.file, position.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(files: &[(&str, u64)]) -> Vec<LogFile> {
        files.iter().map(|(name, bytes)| LogFile { name: name.to_string(), bytes: *bytes }).collect()
    }

    #[test]
    fn files_lie_one_behind_another_and_stay() {
        let files = LogFiles::default();
        assert_eq!((files.at("b.000001", 4), files.knows("b.000001")), (None, false));
        files.listed(1, &list(&[("b.000001", 100), ("b.000002", 50)]));
        assert_eq!((files.at("b.000001", 4), files.at("b.000002", 30)), (Some(4), Some(130)));
        assert_eq!(files.at("b.000003", 4), Some(150), "at least at the end");
        // The first is purged, the second went on, a third came.
        files.listed(1, &list(&[("b.000002", 80), ("b.000003", 10)]));
        assert_eq!((files.at("b.000002", 30), files.at("b.000003", 4)), (Some(130), Some(184)));
        assert_eq!(files.at("b.000001", 50), Some(50), "what was there is remembered");
    }

    #[test]
    fn another_log_begins_behind_the_one_before() {
        let files = LogFiles::default();
        files.listed(1, &list(&[("b.000007", 100), ("b.000008", 100)]));
        files.listed(1, &list(&[("b.000001", 20)]));
        assert_eq!(files.at("b.000001", 4), Some(204), "it was reset");
        files.listed(2, &list(&[("b.000001", 10), ("b.000002", 10)]));
        assert_eq!(files.at("b.000002", 4), Some(234), "another server");
        let position = |text: &str, server| {
            let position: crate::record::BinlogPosition = text.parse().unwrap();
            Position::MySql(crate::record::BinlogPosition { server, ..position }.into())
        };
        assert_eq!(files.bytes(&position("b.000002:4", 2)), Some(234));
        assert_eq!(files.bytes(&position("b.000002:4", 1)), None, "of a server that is not there any more");
        assert_eq!(files.bytes(&position("0-1-5", 2)), None, "GTIDs alone are no place");
    }
}
