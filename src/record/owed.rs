//! Tables whose present rows a reader of the stream is still to be given: they were added while it ran. Kept as entries of
//! that reader's state.
//!
//! State keys, values in brackets:
//! - `owed/NAMESPACE` NUL `NAME` []: the rows of this table. No name of a table holds a NUL.
//! - `added/…`: how far the reading of them is, in the source's own words.
//! - `snapshot/…`: how far the reading of all tables is, in the source's own words.
//!
//! Invariant: all of it is of one reader. Whoever gets a copy of another's state gets none of this.

use std::collections::{BTreeMap, BTreeSet};

use super::StateEntry;

/// Schema, or database, and name.
pub type TableName = (String, String);

type State = BTreeMap<Vec<u8>, Vec<u8>>;

const OWED: &[u8] = b"owed/";
/// Of the source's progress through the rows of added tables.
pub const ADDED: &str = "added/";
/// Of the source's progress through the rows of all tables.
pub const SNAPSHOT: &str = "snapshot/";

fn key((namespace, name): &TableName) -> Vec<u8> {
    [OWED, namespace.as_bytes(), b"\0", name.as_bytes()].concat()
}

fn table(key: &[u8]) -> Option<TableName> {
    let (namespace, name) = str::from_utf8(key.strip_prefix(OWED)?).ok()?.split_once('\0')?;
    Some((namespace.to_owned(), name.to_owned()))
}

fn remove(key: Vec<u8>) -> StateEntry {
    StateEntry { key, value: None }
}

/// Whether an entry is of the reader whose state it is in, and of no other.
pub fn is_readers_own(key: &[u8]) -> bool {
    [OWED, ADDED.as_bytes(), SNAPSHOT.as_bytes()].iter().any(|prefix| key.starts_with(prefix))
}

/// The tables whose rows are owed to the reader of a state.
pub fn owed(state: &State) -> BTreeSet<TableName> {
    state.keys().filter_map(|key| table(key)).collect()
}

/// Whether reading them has begun: until it has ended, the reader may not go on without.
pub fn is_begun(state: &State) -> bool {
    !owed(state).is_empty() && state.keys().any(|key| key.starts_with(ADDED.as_bytes()))
}

/// Owes the rows of one more table to the reader of a state.
pub fn owe(state: &State, table: &TableName) -> Vec<StateEntry> {
    let entry = StateEntry { key: key(table), value: Some(Vec::new()) };
    // Where nothing is owed, progress is of what nobody wanted in the end.
    let leftover = state.keys().filter(|key| owed(state).is_empty() && key.starts_with(ADDED.as_bytes()));
    leftover.cloned().map(remove).chain([entry]).collect()
}

/// Owes them no more.
pub fn settle(table: &TableName) -> StateEntry {
    remove(key(table))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(state: &mut State, entries: Vec<StateEntry>) {
        for StateEntry { key, value } in entries {
            match value {
                Some(value) => drop(state.insert(key, value)),
                None => drop(state.remove(&key)),
            }
        }
    }

    #[test]
    fn what_is_owed_is_read_back() {
        let mut state = State::from([(b"relation/5".to_vec(), vec![1])]);
        let tables = [("we/ird".to_owned(), "a.b\u{e9}".to_owned()), ("s".to_owned(), String::new())];
        for table in &tables {
            let entries = owe(&state, table);
            apply(&mut state, entries);
        }
        assert_eq!(owed(&state), BTreeSet::from(tables.clone()));
        apply(&mut state, tables.iter().map(settle).collect());
        assert_eq!(state, State::from([(b"relation/5".to_vec(), vec![1])]));
    }

    #[test]
    fn progress_is_kept_as_long_as_anything_is_owed() {
        let table = |name: &str| ("s".to_owned(), name.to_owned());
        let progress = (b"added/point".to_vec(), vec![7]);
        let mut state = State::from([progress.clone()]);
        let entries = owe(&state, &table("a"));
        apply(&mut state, entries);
        assert!(!state.contains_key(&progress.0), "of a table that was taken back");
        state.extend([progress.clone()]);
        let entries = owe(&state, &table("b"));
        apply(&mut state, entries);
        assert!(state.contains_key(&progress.0), "of the table that is being read");
    }

    #[test]
    fn only_what_is_read_for_one_reader_is_its_own() {
        for own in ["owed/s\0t", "added/point", "snapshot/done/5"] {
            assert!(is_readers_own(own.as_bytes()), "{own}");
        }
        assert!(!is_readers_own(b"relation/5") && !is_readers_own(b"schema/added"));
    }
}
