//! What is stored of a snapshot under way, and which ranges are left. Pure.
//!
//! State keys, values in brackets; of the rows of added tables they begin with `added/` in place of `snapshot/`; `DB` and
//! `TABLE` are percent-encoded:
//! - `snapshot/point` [position]: where the finished ranges stand, as `Position::to_bytes` writes it. It
//!   moves while the next attempt catches up.
//! - `snapshot/table/DB/TABLE` [[`Begun`] as JSON]: its rows are being read, or all are finished.
//! - `snapshot/rest/DB/TABLE/N` [[`Range`] as JSON]: rows still to be read. What is in no such range is finished.
//!
//! Invariants:
//! - What is left is stored, not what is finished: rows that come into being later are in one or the other, whatever their
//!   keys are.
//! - A range is one worker's alone, and its key is never used again within a snapshot: a later mark of it is a later state.
//! - Ranges mean something only under the key they were made with, and for the table they were made of: both stand in
//!   [`Begun`], and a table for which one is different is read from its beginning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::key::Range;
use crate::error::{Error, Result};
use crate::flow::CaughtUp;
use crate::record::{Position, StateEntry};
use crate::source::{Rows, State};

/// Database and name.
pub type TableName = (Box<str>, Box<str>);

/// What a table's ranges depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The key's columns and their types: another key has another order.
    pub key: Vec<String>,
    /// When the server made the table, as it prints it: a rebuilt, truncated or renamed table has another one.
    pub created: String,
    pub done: bool,
}

impl Begun {
    fn is_of(&self, other: &Begun) -> bool {
        self.key == other.key && self.created == other.created
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    rows: Rows,
    pub point: Position,
    tables: BTreeMap<TableName, (Begun, BTreeMap<u64, Range>)>,
}

/// What is left of a table.
#[derive(Debug, PartialEq)]
pub enum Left {
    Nothing,
    /// By the numbers they are stored under; a table that was never begun has none.
    Ranges(BTreeMap<u64, Range>),
    /// Everything, and what is stored means nothing.
    Whole,
}

impl Progress {
    /// None where no snapshot is under way. Errors: `Data`, for entries that are not ours.
    pub fn from_state(rows: Rows, state: &State) -> Result<Option<Progress>> {
        let (mut point, mut tables) = (None, BTreeMap::<TableName, (Begun, BTreeMap<u64, Range>)>::new());
        // `snapshot/rest/…` comes before `snapshot/table/…`, and needs the length of the key.
        let mut rest = Vec::new();
        for (key, value) in state.iter().filter(|(key, _)| key.starts_with(rows.prefix().as_bytes())) {
            let parsed = (|| {
                match parts(key)?[..] {
                    ["point"] => point = Some(Position::from_bytes(value)?),
                    ["table", database, name] => {
                        let begun = serde_json::from_slice(value).ok()?;
                        tables.insert((decode(database)?, decode(name)?), (begun, BTreeMap::new()));
                    }
                    ["rest", database, name, number] => {
                        rest.push((key, (decode(database)?, decode(name)?), number.parse().ok()?, value));
                    }
                    _ => return None,
                }
                Some(())
            })();
            parsed.ok_or_else(|| foreign(key))?;
        }
        for (key, table, number, value) in rest {
            let found = tables.get_mut(&table).and_then(|(begun, ranges)| {
                let range = Range::from_bytes(value, begun.key.len())?;
                ranges.insert(number, range);
                Some(())
            });
            found.ok_or_else(|| foreign(key))?;
        }
        Ok(point.map(|point| Progress { rows, point, tables }))
    }

    /// Every key of a snapshot, finished or not: what its end removes.
    pub fn keys(rows: Rows, state: &State) -> impl Iterator<Item = Vec<u8>> {
        state.keys().filter(move |key| key.starts_with(rows.prefix().as_bytes())).cloned()
    }

    /// The tables of which some rows are finished and others not.
    pub fn partly_done(&self) -> impl Iterator<Item = &TableName> {
        self.tables.iter().filter(|(_, (begun, _))| !begun.done).map(|(name, _)| name)
    }

    /// What is left of a table as it is now.
    pub fn left(&self, table: &TableName, now: &Begun) -> Left {
        match self.tables.get(table) {
            None => Left::Whole,
            Some((begun, _)) if !begun.is_of(now) => Left::Whole,
            Some((begun, _)) if begun.done => Left::Nothing,
            Some((_, ranges)) => Left::Ranges(ranges.clone()),
        }
    }

    /// The numbers under which ranges of a table are stored, in their order.
    pub fn numbers(&self, table: &TableName) -> Vec<u64> {
        self.tables.get(table).map(|(_, ranges)| ranges.keys().copied().collect()).unwrap_or_default()
    }

    /// Forgets a table that has to be read from its beginning. Returns the removal of its entries.
    pub fn forget(&mut self, table: &TableName) -> Vec<StateEntry> {
        let Some((_, ranges)) = self.tables.remove(table) else { return Vec::new() };
        ranges
            .keys()
            .map(|number| rest(self.rows, table, *number, None))
            .chain([remove(table_key(self.rows, table))])
            .collect()
    }
}

fn foreign(key: &[u8]) -> Error {
    Error::data(format!("reading the stored snapshot progress {:?}", String::from_utf8_lossy(key)))
        .remedy("the state directory was written by another version or is damaged: `walbrook offsets reset`")
}

fn parts(key: &[u8]) -> Option<Vec<&str>> {
    Some(std::str::from_utf8(key).ok()?.split('/').skip(1).collect())
}

/// Only `/` and `%` mean something in a key.
fn encode(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

fn decode(part: &str) -> Option<Box<str>> {
    let mut pieces = part.split('%');
    let mut name = pieces.next()?.to_owned();
    for piece in pieces {
        let (character, rest) = match (piece.strip_prefix("25"), piece.strip_prefix("2F")) {
            (Some(rest), _) => ('%', rest),
            (_, Some(rest)) => ('/', rest),
            _ => return None,
        };
        name.push(character);
        name.push_str(rest);
    }
    Some(name.into())
}

fn table_key(rows: Rows, (database, name): &TableName) -> Vec<u8> {
    format!("{}table/{}/{}", rows.prefix(), encode(database), encode(name)).into_bytes()
}

fn rest_key(rows: Rows, (database, name): &TableName, number: u64) -> Vec<u8> {
    format!("{}rest/{}/{}/{number}", rows.prefix(), encode(database), encode(name)).into_bytes()
}

pub fn point(rows: Rows, position: &Position) -> StateEntry {
    StateEntry { key: format!("{}point", rows.prefix()).into_bytes(), value: Some(position.to_bytes()) }
}

/// As [`point`], of catching up.
pub fn caught_up(rows: Rows) -> CaughtUp {
    match rows {
        Rows::All => |position| Some(point(Rows::All, position)),
        Rows::Owed => |position| Some(point(Rows::Owed, position)),
    }
}

pub fn begun(rows: Rows, table: &TableName, begun: &Begun) -> StateEntry {
    // Strings and a bool: there is nothing in them that JSON could not say.
    StateEntry { key: table_key(rows, table), value: Some(serde_json::to_vec(begun).unwrap_or_default()) }
}

/// `left`: none once all rows of the range are finished.
pub fn rest(rows: Rows, table: &TableName, number: u64, left: Option<&Range>) -> StateEntry {
    StateEntry { key: rest_key(rows, table, number), value: left.map(Range::to_bytes) }
}

pub fn remove(key: Vec<u8>) -> StateEntry {
    StateEntry { key, value: None }
}

#[cfg(test)]
mod tests {
    use super::super::key::{Key, KeyValue};
    use super::*;
    use crate::record::Lsn;
    use proptest::prelude::*;

    fn state(entries: impl IntoIterator<Item = StateEntry>) -> State {
        let mut state = State::new();
        for StateEntry { key, value } in entries {
            match value {
                Some(value) => drop(state.insert(key, value)),
                None => drop(state.remove(&key)),
            }
        }
        state
    }

    fn at() -> StateEntry {
        point(Rows::All, &Position::Postgres(Lsn(5)))
    }

    fn table(name: &str) -> TableName {
        ("d".into(), name.into())
    }

    fn of(created: &str) -> Begun {
        Begun { key: vec!["id bigint".into()], created: created.into(), done: false }
    }

    fn key(n: u64) -> Key {
        Key(vec![KeyValue::Number(n.to_string())])
    }

    #[test]
    fn nothing_stored_is_no_snapshot() {
        assert_eq!(Progress::from_state(Rows::All, &State::new()).unwrap(), None);
        let tables = State::from([(b"table/5".to_vec(), b"{}".to_vec())]);
        assert_eq!(Progress::from_state(Rows::All, &tables).unwrap(), None);
    }

    #[test]
    fn another_key_or_another_table_of_the_name_is_read_from_its_beginning() {
        let range = Range { after: Some(key(5)), upto: None };
        let (t, done) = (table("t"), table("a/b%"));
        let stored = state([
            at(),
            begun(Rows::All, &t, &of("1")),
            rest(Rows::All, &t, 3, Some(&range)),
            begun(Rows::All, &done, &Begun { done: true, ..of("1") }),
        ]);
        let mut progress = Progress::from_state(Rows::All, &stored).unwrap().unwrap();
        assert_eq!(progress.left(&t, &of("1")), Left::Ranges(BTreeMap::from([(3, range)])));
        assert_eq!(progress.left(&t, &of("2")), Left::Whole);
        assert_eq!(progress.left(&t, &Begun { key: vec!["id int".into()], ..of("1") }), Left::Whole);
        assert_eq!(progress.left(&done, &of("1")), Left::Nothing);
        assert_eq!(progress.left(&table("b"), &of("1")), Left::Whole);
        assert_eq!(progress.partly_done().collect::<Vec<_>>(), [&t]);
        let removed = progress.forget(&t);
        assert_eq!(progress.left(&t, &of("1")), Left::Whole);
        let gone: Vec<_> = removed.into_iter().map(|entry| entry.key).collect();
        assert_eq!(gone, [b"snapshot/rest/d/t/3".to_vec(), b"snapshot/table/d/t".to_vec()]);
        assert!(progress.forget(&table("b")).is_empty());
    }

    #[test]
    fn entries_of_others_are_an_error() {
        let range = br#"{"after":[{"number":"1"}],"upto":null}"#.to_vec();
        let known = begun(Rows::All, &table("t"), &of("1"));
        for (name, value) in [
            ("snapshot/", Vec::new()),
            ("snapshot/point", b"X".to_vec()),
            ("snapshot/chunk/1/2/3", Vec::new()),
            ("snapshot/table/d", b"{}".to_vec()),
            ("snapshot/table/d/%zz", b"{}".to_vec()),
            ("snapshot/table/d/t", b"{}".to_vec()),
            ("snapshot/rest/d/other/1", range.clone()),
            ("snapshot/rest/d/t/x", range.clone()),
            ("snapshot/rest/d/t/1", br#"{"after":[{"number":"1 OR 1"}],"upto":null}"#.to_vec()),
            ("snapshot/rest/d/t/1", br#"{"after":[],"upto":null}"#.to_vec()),
            ("snapshot/rest/d/t/1", br#"{"after":[{"number":"1"},{"number":"1"}],"upto":null}"#.to_vec()),
        ] {
            let mut stored = state([known.clone()]);
            stored.insert(name.into(), value.clone());
            assert!(Progress::from_state(Rows::All, &stored).is_err(), "{name} {}", String::from_utf8_lossy(&value));
        }
        let mut stored = state([at(), known]);
        stored.insert(b"snapshot/rest/d/t/1".to_vec(), range);
        assert!(Progress::from_state(Rows::All, &stored).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn names_read_back(database in ".{0,8}", name in "[a%/25F]{0,12}") {
            let table: TableName = (database.into(), name.into());
            let stored = state([at(), begun(Rows::All, &table, &of("1")), rest(Rows::All, &table, 1, Some(&Range::default()))]);
            let progress = Progress::from_state(Rows::All, &stored).unwrap().unwrap();
            prop_assert_eq!(progress.left(&table, &of("1")), Left::Ranges(BTreeMap::from([(1, Range::default())])));
        }

        /// Workers read pieces, part what is left, and finish, in any order; after any number of steps what is stored and
        /// what was read are every row, each once.
        #[test]
        fn no_row_is_lost_or_read_twice(steps in prop::collection::vec((any::<u16>(), 0u8..3, 1u64..40), 0..60)) {
            const ROWS: u64 = 200;
            let t = table("t");
            let bounds = |range: &Range| {
                let number = |key: &Option<Key>, none: u64| key.as_ref().map_or(none, |key| match &key.0[0] {
                    KeyValue::Number(text) => text.parse().unwrap(),
                    other => panic!("{other:?}"),
                });
                (number(&range.after, 0), number(&range.upto, ROWS))
            };
            let mut stored = state([at(), begun(Rows::All, &t, &of("1")), rest(Rows::All, &t, 0, Some(&Range::default()))]);
            let mut read = Vec::new();
            let mut next = 1;
            for (pick, what, size) in steps {
                let progress = Progress::from_state(Rows::All, &stored).unwrap().unwrap();
                let Left::Ranges(ranges) = progress.left(&t, &of("1")) else { panic!("not begun") };
                if ranges.is_empty() { break }
                let (number, range) = ranges.iter().nth(usize::from(pick) % ranges.len()).unwrap();
                let (after, upto) = bounds(range);
                let entries = if what == 0 && upto - after > 1 {
                    let middle = key((after + size).min(upto - 1));
                    next += 1;
                    vec![
                        rest(Rows::All, &t, *number, Some(&Range { upto: Some(middle.clone()), ..range.clone() })),
                        rest(Rows::All, &t, next - 1, Some(&Range { after: Some(middle), ..range.clone() })),
                    ]
                } else {
                    let end = (after + size).min(upto);
                    read.extend(after + 1..=end);
                    let left = Range { after: Some(key(end)), ..range.clone() };
                    vec![rest(Rows::All, &t, *number, (end < upto).then_some(&left))]
                };
                for StateEntry { key, value } in entries {
                    match value {
                        Some(value) => drop(stored.insert(key, value)),
                        None => drop(stored.remove(&key)),
                    }
                }
            }
            let Left::Ranges(ranges) = Progress::from_state(Rows::All, &stored).unwrap().unwrap().left(&t, &of("1")) else {
                panic!("not begun")
            };
            let mut all = read;
            all.extend(ranges.values().flat_map(|range| { let (a, b) = bounds(range); a + 1..=b }));
            all.sort_unstable();
            prop_assert_eq!(all, (1..=ROWS).collect::<Vec<_>>());
        }
    }
}
