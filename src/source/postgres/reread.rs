//! Rows that an interrupted snapshot must read again.
//!
//! A finished chunk is a range of ctids that was read at an older point than the rest will be. A row of the rest that was
//! updated in between may have moved into that range, and then no chunk contains it any more; and its update does not carry
//! the values that did not change (unchanged TOAST). So the keys of such updates are kept while catching up, and the rows
//! are read by key under the new snapshot.
//!
//! Invariants:
//! - Only new rows with an unchanged column (an update, or the insert that it becomes where it enters a row filter), of
//!   tables with some but not all chunks finished, are kept.
//! - The keys are bounded: a table with more of them gives up its finished chunks instead and is read as a whole.

use std::collections::{HashMap, HashSet};

use crate::record::Cell;

use super::relation::Plan;

/// Keys of all tables together. 4 MiB are about 50,000 keys of a bigint; more of them cost more than reading again.
const MAX_KEY_BYTES: usize = 4 << 20;
/// What a kept key costs besides its text: set entry, boxes.
const KEY_OVERHEAD_BYTES: usize = 64;

/// The text of each key column.
pub type Key = Vec<Box<str>>;

#[derive(Debug, Default)]
pub struct Rereads {
    tables: HashMap<u32, TableKeys>,
    bytes: usize,
}

#[derive(Debug)]
pub enum TableKeys {
    Keys(HashSet<Key>),
    /// Too many, or a row without a usable key: read the table as a whole.
    Whole,
}

impl Rereads {
    /// `partly_read`: the relations (as the stream names them) with some but not all chunks finished.
    pub fn new(partly_read: impl IntoIterator<Item = u32>) -> Self {
        let tables = partly_read.into_iter().map(|id| (id, TableKeys::Keys(HashSet::new()))).collect();
        Rereads { tables, bytes: 0 }
    }

    /// Looks at an updated row: `cells` begin with the new row's and point into a frame in which `message` is at `base`.
    pub fn note(&mut self, relation: u32, table: &Plan, cells: &[Cell], message: &[u8], base: usize) {
        let Some(TableKeys::Keys(keys)) = self.tables.get_mut(&relation) else { return };
        let width = table.schema.columns.len();
        if !cells[..width].iter().any(|cell| cell.is_unchanged()) {
            return;
        }
        let text = |column: &u16| {
            let (offset, len) = cells[usize::from(*column)].range()?;
            let bytes = message.get(offset.checked_sub(base)?..)?.get(..len)?;
            std::str::from_utf8(bytes).ok().map(Box::from)
        };
        let key: Option<Key> = table.schema.key.iter().map(text).collect();
        match key.filter(|key| !key.is_empty()) {
            Some(key) => {
                let bytes = KEY_OVERHEAD_BYTES + key.iter().map(|part| part.len() + 16).sum::<usize>();
                if keys.insert(key) {
                    self.bytes += bytes;
                }
                if self.bytes > MAX_KEY_BYTES {
                    self.give_up_largest();
                }
            }
            None => {
                self.tables.insert(relation, TableKeys::Whole);
            }
        }
    }

    fn give_up_largest(&mut self) {
        let size = |keys: &TableKeys| match keys {
            TableKeys::Keys(keys) => keys.len(),
            TableKeys::Whole => 0,
        };
        if let Some(largest) = self.tables.values_mut().max_by_key(|keys| size(keys)) {
            *largest = TableKeys::Whole;
        }
        let cost = |key: &Key| KEY_OVERHEAD_BYTES + key.iter().map(|part| part.len() + 16).sum::<usize>();
        self.bytes = self
            .tables
            .values()
            .map(|keys| match keys {
                TableKeys::Keys(keys) => keys.iter().map(cost).sum(),
                TableKeys::Whole => 0,
            })
            .sum();
    }

    /// Whether there is nothing to be read again.
    pub fn is_empty(&self) -> bool {
        self.tables.values().all(|keys| matches!(keys, TableKeys::Keys(keys) if keys.is_empty()))
    }

    pub fn into_tables(self) -> HashMap<u32, TableKeys> {
        self.tables
    }
}
