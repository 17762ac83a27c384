//! What was read, by table and operation.
//!
//! Invariants:
//! - Counted once a batch: one pass over its heads, then one addition a table.
//! - No more than [`TABLES_MAX`] tables have counts of their own; what comes of others is counted together.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::record::{BatchBuilder, ByOperation, Counted, Tally};

/// Seven operations and two series each make 14,000 lines of at most 200 bytes: 3 MB, as much as a scrape should ever
/// take. Of more tables the first ones seen are told apart.
pub const TABLES_MAX: usize = 1_000;

/// The name under which all other tables are counted; no table can have it, for it has no namespace.
pub const OTHER_TABLES: &str = "(others)";

#[derive(Debug, Default)]
pub struct Traffic {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// By `namespace.name`.
    tables: HashMap<String, ByOperation>,
    others: ByOperation,
    has_others: bool,
    messages: Counted,
    transactions: u64,
    tally: Tally,
    name: String,
}

/// What had been read at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// By table, in the order of their names, [`OTHER_TABLES`] at the end.
    pub tables: Vec<(String, ByOperation)>,
    pub messages: Counted,
    pub transactions: u64,
}

impl Traffic {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn count(&self, batch: &BatchBuilder) {
        let mut counts = self.counts();
        let Counts { tables, others, has_others, messages, transactions, tally, name } = &mut *counts;
        batch.tally(tally);
        *transactions += tally.commits();
        add(messages, tally.messages());
        for (table, counted) in tally.tables(batch) {
            name.clear();
            name.push_str(&table.namespace);
            name.push('.');
            name.push_str(&table.name);
            if !tables.contains_key(name.as_str()) && tables.len() < TABLES_MAX {
                tables.insert(name.clone(), ByOperation::default());
            }
            let totals = tables.get_mut(name.as_str()).unwrap_or_else(|| {
                *has_others = true;
                &mut *others
            });
            totals.iter_mut().zip(counted).for_each(|(total, counted)| add(total, *counted));
        }
    }

    pub fn totals(&self) -> Totals {
        let counts = self.counts();
        let mut tables: Vec<_> = counts.tables.iter().map(|(name, counts)| (name.clone(), *counts)).collect();
        tables.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        tables.extend(counts.has_others.then(|| (OTHER_TABLES.to_owned(), counts.others)));
        Totals { tables, messages: counts.messages, transactions: counts.transactions }
    }
}

fn add(total: &mut Counted, more: Counted) {
    total.records += more.records;
    total.bytes += more.bytes;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::record::{Identity, Lsn, Operation, Origin, Position, TableSchema, Txn};

    fn truncated(table: usize) -> BatchBuilder {
        let schema = TableSchema {
            id: table as u64,
            version: 1,
            database: "d".into(),
            namespace: "n".into(),
            name: format!("t{table:05}").into(),
            columns: Box::default(),
            key: Box::default(),
            identity: Identity::Default,
        };
        let mut batch = BatchBuilder::new(Origin::Stream);
        batch.txn(Txn { commit: Position::Postgres(Lsn(1)), id: None, commit_unix_micros: None });
        let table = batch.table(&Arc::new(schema));
        batch.truncate(table, false, false, 1);
        batch.commit(2);
        batch
    }

    #[test]
    fn more_tables_than_there_is_room_for_are_counted_together() {
        let traffic = Traffic::default();
        for table in 0..TABLES_MAX + 5 {
            traffic.count(&truncated(table));
        }
        traffic.count(&truncated(3));
        let totals = traffic.totals();
        assert_eq!((totals.tables.len(), totals.transactions), (TABLES_MAX + 1, TABLES_MAX as u64 + 6));
        let truncates = |at: usize| (totals.tables[at].0.as_str(), totals.tables[at].1[Operation::Truncate as usize]);
        assert_eq!(truncates(3), ("n.t00003", Counted { records: 2, bytes: 0 }));
        assert_eq!(truncates(TABLES_MAX), (OTHER_TABLES, Counted { records: 5, bytes: 0 }));
    }
}
