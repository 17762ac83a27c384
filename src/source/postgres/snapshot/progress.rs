//! What is stored of a snapshot under way, and which pages are left. Pure.
//!
//! State keys, values in brackets; of the rows of added tables they begin with `added/` in place of `snapshot/`:
//! - `snapshot/point` [LSN]: where the finished chunks stand. It moves while the next attempt catches up.
//! - `snapshot/chunk/OID/FILENODE/PAGE` [PAGE or empty]: finished pages of a table's storage, from and up to (exclusive);
//!   empty: to its end.
//! - `snapshot/done/OID` []: every page is finished.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use crate::error::{Error, Result};
use crate::flow::CaughtUp;
use crate::record::{Lsn, StateEntry};
use crate::source::{Rows, State};

#[derive(Debug, Default, PartialEq)]
pub struct Progress {
    pub point: Lsn,
    done: HashSet<u32>,
    /// By oid and filenode: finished pages.
    chunks: BTreeMap<(u32, u32), Vec<Range<u64>>>,
}

impl Progress {
    /// None where no snapshot is under way. Errors: `Data`, for entries that are not ours.
    pub fn from_state(rows: Rows, state: &State) -> Result<Option<Progress>> {
        let mut progress = Progress::default();
        let mut point = None;
        for (key, value) in state.iter().filter(|(key, _)| key.starts_with(rows.prefix().as_bytes())) {
            let parsed = (|| {
                let (key, value) = (std::str::from_utf8(key).ok()?, std::str::from_utf8(value).ok()?);
                let parts: Vec<&str> = key.split('/').skip(1).collect();
                match parts[..] {
                    ["point"] => point = Some(value.parse().ok()?),
                    ["done", oid] => {
                        progress.done.insert(oid.parse().ok()?);
                    }
                    ["chunk", oid, filenode, start] => {
                        let end = if value.is_empty() { u64::MAX } else { value.parse().ok()? };
                        let pages = start.parse().ok()?..end;
                        progress.chunks.entry((oid.parse().ok()?, filenode.parse().ok()?)).or_default().push(pages);
                    }
                    _ => return None,
                }
                Some(())
            })();
            parsed.ok_or_else(|| {
                Error::data(format!("reading the stored snapshot progress {:?}", String::from_utf8_lossy(key))).remedy(
                    "the state directory was written by another version or is damaged: `walbrook offsets reset`",
                )
            })?;
        }
        Ok(point.map(|point| Progress { point, ..progress }))
    }

    /// Every key of a snapshot, finished or not: what its end removes.
    pub fn keys(rows: Rows, state: &State) -> impl Iterator<Item = Vec<u8>> {
        state.keys().filter(move |key| key.starts_with(rows.prefix().as_bytes())).cloned()
    }

    /// The stored keys that say nothing any more: of a snapshot that starts over, or of storages that do.
    pub fn stale<'a>(&'a self, rows: Rows, state: &'a State) -> impl Iterator<Item = Vec<u8>> + 'a {
        Self::keys(rows, state).filter(|key| {
            let text = String::from_utf8_lossy(key);
            match text.split('/').skip(1).collect::<Vec<_>>()[..] {
                ["chunk", oid, filenode, _] => match (oid.parse(), filenode.parse()) {
                    (Ok(oid), Ok(filenode)) => !self.chunks.contains_key(&(oid, filenode)),
                    _ => true,
                },
                ["done", oid] => oid.parse().is_ok_and(|oid| !self.done.contains(&oid)),
                _ => false,
            }
        })
    }

    pub fn is_done(&self, oid: u32) -> bool {
        self.done.contains(&oid)
    }

    /// Whether some of its pages are finished and others not.
    pub fn is_partly_done(&self, oid: u32) -> bool {
        !self.is_done(oid) && self.chunks.keys().any(|(of, _)| *of == oid)
    }

    /// Forgets the finished pages of a storage that has to be read as a whole.
    pub fn forget(&mut self, oid: u32) {
        self.chunks.retain(|(of, _), _| *of != oid);
    }

    /// The pages still to be read of a storage, in chunks of at most `chunk_pages`; the last one is open-ended, because
    /// nothing that the snapshot sees lies behind the end and the end may be stale. A storage that was rewritten has
    /// another filenode, and none of its finished pages means anything.
    pub fn remaining(&self, oid: u32, filenode: u32, pages: u64, chunk_pages: u64) -> Vec<Range<u64>> {
        let mut finished = self.chunks.get(&(oid, filenode)).cloned().unwrap_or_default();
        finished.sort_by_key(|range| range.start);
        let mut gaps = Vec::new();
        let mut at = 0;
        for range in finished {
            if range.start > at {
                gaps.push(at..range.start);
            }
            at = at.max(range.end);
        }
        if at < u64::MAX {
            gaps.push(at..u64::MAX);
        }
        let mut chunks = Vec::new();
        for gap in gaps {
            let mut start = gap.start;
            // Only up to the size known now; what is behind it belongs to the last chunk.
            let known_end = gap.end.min(pages);
            while known_end.saturating_sub(start) > chunk_pages {
                chunks.push(start..start + chunk_pages);
                start += chunk_pages;
            }
            chunks.push(start..gap.end);
        }
        chunks
    }
}

pub fn point(rows: Rows, lsn: Lsn) -> StateEntry {
    StateEntry { key: format!("{}point", rows.prefix()).into_bytes(), value: Some(lsn.to_string().into_bytes()) }
}

/// As [`point`], of a position.
pub fn caught_up(rows: Rows) -> CaughtUp {
    match rows {
        Rows::All => |position| position.lsn().ok().map(|lsn| point(Rows::All, lsn)),
        Rows::Owed => |position| position.lsn().ok().map(|lsn| point(Rows::Owed, lsn)),
    }
}

pub fn finished(rows: Rows, oid: u32, filenode: u32, pages: &Range<u64>) -> StateEntry {
    let end = if pages.end == u64::MAX { String::new() } else { pages.end.to_string() };
    let key = format!("{}chunk/{oid}/{filenode}/{}", rows.prefix(), pages.start);
    StateEntry { key: key.into_bytes(), value: Some(end.into_bytes()) }
}

pub fn done(rows: Rows, oid: u32) -> StateEntry {
    StateEntry { key: format!("{}done/{oid}", rows.prefix()).into_bytes(), value: Some(Vec::new()) }
}

pub fn remove(key: Vec<u8>) -> StateEntry {
    StateEntry { key, value: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state(entries: impl IntoIterator<Item = StateEntry>) -> State {
        entries.into_iter().filter_map(|entry| Some((entry.key, entry.value?))).collect()
    }

    #[test]
    fn nothing_stored_is_no_snapshot() {
        assert_eq!(Progress::from_state(Rows::All, &State::new()).unwrap(), None);
        let relations = State::from([(b"relation/5".to_vec(), b"{}".to_vec())]);
        assert_eq!(Progress::from_state(Rows::All, &relations).unwrap(), None);
    }

    #[test]
    fn a_rewritten_table_is_read_as_a_whole() {
        let stored = state([
            point(Rows::All, Lsn(5)),
            finished(Rows::All, 1, 10, &(0..4)),
            finished(Rows::All, 2, 20, &(0..u64::MAX)),
            done(Rows::All, 2),
        ]);
        let progress = Progress::from_state(Rows::All, &stored).unwrap().unwrap();
        assert_eq!(progress.point, Lsn(5));
        assert_eq!(progress.remaining(1, 10, 6, 100), vec![Range { start: 4, end: u64::MAX }]);
        assert_eq!(progress.remaining(1, 11, 6, 100), vec![Range { start: 0, end: u64::MAX }]);
        assert!(progress.is_partly_done(1) && !progress.is_partly_done(2) && progress.is_done(2));
    }

    #[test]
    fn entries_of_others_are_an_error() {
        for key in ["snapshot/", "snapshot/chunk/1/2", "snapshot/chunk/x/1/2", "snapshot/new"] {
            assert!(Progress::from_state(Rows::All, &State::from([(key.into(), Vec::new())])).is_err(), "{key}");
        }
    }

    proptest! {
        /// Finished and remaining pages together are every page, each once.
        #[test]
        fn no_page_is_lost_or_read_twice(
            pages in 0u64..60,
            chunk_pages in 1u64..20,
            finish in proptest::collection::vec(any::<bool>(), 60),
        ) {
            let first = Progress::default().remaining(7, 1, pages, chunk_pages);
            let some: Vec<_> = first.iter().zip(&finish).filter(|(_, finish)| **finish).map(|(c, _)| c.clone()).collect();
            let stored = state(some.iter().map(|pages| finished(Rows::All, 7, 1, pages)).chain([point(Rows::All, Lsn(1))]));
            let rest = Progress::from_state(Rows::All, &stored).unwrap().unwrap().remaining(7, 1, pages + 5, chunk_pages);
            let mut all: Vec<_> = some.into_iter().chain(rest).collect();
            all.sort_by_key(|range| range.start);
            prop_assert_eq!(all.first().map(|range| range.start), Some(0));
            prop_assert_eq!(all.last().map(|range| range.end), Some(u64::MAX));
            prop_assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }
}
