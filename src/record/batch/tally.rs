//! What a batch holds, counted: one pass over its heads.

use std::mem::discriminant;
use std::ops::Range;

use super::{Batch, BatchBuilder, Head, Kind};
use crate::record::{Origin, TableSchema};

/// What happened to a row, a table or the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A row of a snapshot.
    Read,
    Insert,
    Update,
    Delete,
    Truncate,
    SchemaChange,
    /// A logical message: it belongs to no table.
    Message,
}

impl Operation {
    pub const ALL: [Operation; 7] = [
        Operation::Read,
        Operation::Insert,
        Operation::Update,
        Operation::Delete,
        Operation::Truncate,
        Operation::SchemaChange,
        Operation::Message,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Operation::Read => "read",
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Truncate => "truncate",
            Operation::SchemaChange => "schema_change",
            Operation::Message => "message",
        }
    }
}

/// Records, and bytes of rows as they lie in the log: of each run of changes of one kind to one table, from the first byte
/// of its values to the last, old rows and new rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub records: u64,
    pub bytes: u64,
}

/// Of one table, by [`Operation`].
pub type ByOperation = [Counted; Operation::ALL.len()];

/// What was counted of one batch; kept from batch to batch, so that nothing is allocated.
#[derive(Debug, Default)]
pub struct Tally {
    /// In the order of the batch's tables.
    tables: Vec<ByOperation>,
    /// Of no table.
    messages: Counted,
    /// Transactions that end in the batch.
    commits: u64,
}

impl Tally {
    pub fn messages(&self) -> Counted {
        self.messages
    }
    pub fn commits(&self) -> u64 {
        self.commits
    }
    /// Each table that has records, with what was counted of it. `batch`: the one that was counted.
    pub fn tables<'t>(&'t self, batch: &'t BatchBuilder) -> impl Iterator<Item = (&'t TableSchema, &'t ByOperation)> {
        let touched = |counts: &&ByOperation| counts.iter().any(|counted| counted.records > 0);
        let tables = batch.tables.iter().map(|table| &**table);
        tables.zip(&self.tables).filter(move |(_, counts)| touched(counts))
    }
}

impl BatchBuilder {
    /// Counts what has been collected, in place of what `tally` held.
    pub fn tally(&self, tally: &mut Tally) {
        tally.tables.clear();
        tally.tables.resize(self.tables.len(), ByOperation::default());
        (tally.messages, tally.commits) = (Counted::default(), 0);
        let insert = if self.origin == Origin::Snapshot { Operation::Read } else { Operation::Insert };
        let mut rest = self.heads.as_slice();
        while let Some(head) = rest.first() {
            let kind = discriminant(&head.kind);
            let alike = |other: &&Head| {
                discriminant(&other.kind) == kind && other.table == head.table && other.frame == head.frame
            };
            let (run, behind) = rest.split_at(rest.iter().take_while(alike).count());
            rest = behind;
            let records = run.len() as u64;
            let (operation, rows) = match head.kind {
                Kind::Insert => (insert, 1),
                Kind::UpdateOnly => (Operation::Update, 1),
                Kind::UpdateKey | Kind::UpdateFull => (Operation::Update, 2),
                Kind::DeleteKey | Kind::DeleteFull => (Operation::Delete, 1),
                Kind::Truncate { .. } => (Operation::Truncate, 0),
                Kind::SchemaChange => (Operation::SchemaChange, 0),
                Kind::Begin => continue,
                Kind::Commit => {
                    tally.commits += records;
                    continue;
                }
                Kind::Message { .. } => {
                    tally.messages.records += records;
                    tally.messages.bytes += self.extent(run, 2);
                    continue;
                }
            };
            let cells = rows * self.tables[usize::from(head.table)].columns.len();
            let counted = &mut tally.tables[usize::from(head.table)][operation as usize];
            counted.records += records;
            counted.bytes += self.extent(run, cells);
        }
    }

    /// From the first byte of a run's values to the last: what lies between them, a few bytes a row, counts too. That
    /// costs nothing a row, which a look at every row does (5 % of what it takes to read a row of MySQL's log).
    fn extent(&self, run: &[Head], cells: usize) -> u64 {
        let of = |head: &Head| {
            let values = self.cells[head.cells as usize..][..cells].iter().filter_map(|cell| cell.range());
            // An update's rows do not lie in the order of their cells.
            values.fold(None, |extent: Option<(usize, usize)>, (offset, len)| {
                let (start, end) = extent.unwrap_or((offset, offset + len));
                Some((start.min(offset), end.max(offset + len)))
            })
        };
        if cells == 0 {
            return 0;
        }
        let first = run.iter().find_map(of);
        let last = run.iter().rev().find_map(of);
        first.zip(last).map_or(0, |((start, _), (_, end))| end.saturating_sub(start) as u64)
    }
}

/// The transactions whose commit is in a batch, or a part of one, in some hundred bytes: in groups that are the wider the
/// longer they were committed before the last, so that whoever takes a group's oldest for all of it finds none of them
/// more than twice as old as it is, or older by [`FINEST_MICROS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commits {
    /// Of the last in the log's order, microseconds since 1970-01-01 UTC; 0 where there is none.
    pub last_unix_micros: i64,
    pub groups: Box<[Group]>,
}

/// Commits of about the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub count: u64,
    /// Microseconds since 1970-01-01 UTC.
    pub oldest_unix_micros: i64,
    /// How much later than that they were, all together.
    pub later_micros: u64,
}

/// A quarter of the shortest latency that is told from others.
const FINEST_MICROS: u64 = 128;
/// Each is twice as wide as the one before: the last begins more than a day before the last commit.
const GROUPS_MAX: usize = 32;

impl Commits {
    pub fn count(&self) -> u64 {
        self.groups.iter().map(|group| group.count).sum()
    }

    /// Of commits in the log's order, whose times need not rise.
    pub fn new(unix_micros: impl Iterator<Item = i64> + Clone) -> Commits {
        let Some(last_unix_micros) = unix_micros.clone().last() else { return Commits::default() };
        let mut groups = [Group::default(); GROUPS_MAX];
        for micros in unix_micros {
            let before = last_unix_micros.saturating_sub(micros).max(0) as u64 / FINEST_MICROS;
            let at = (u64::BITS - before.leading_zeros()) as usize;
            groups[at.min(GROUPS_MAX - 1)].add(micros);
        }
        Commits { last_unix_micros, groups: groups.into_iter().filter(|group| group.count > 0).collect() }
    }
}

impl Group {
    fn add(&mut self, unix_micros: i64) {
        if self.count == 0 {
            self.oldest_unix_micros = unix_micros;
        }
        let apart = unix_micros.abs_diff(self.oldest_unix_micros);
        let later = if unix_micros < self.oldest_unix_micros { apart.saturating_mul(self.count) } else { apart };
        self.later_micros = self.later_micros.saturating_add(later);
        self.oldest_unix_micros = self.oldest_unix_micros.min(unix_micros);
        self.count += 1;
    }
}

impl Batch {
    /// The transactions that commit among these of its records: two passes over its transactions.
    pub fn commits(&self, records: Range<usize>) -> Commits {
        let commits = self.commit_records().filter(|(record, _)| records.contains(record));
        Commits::new(commits.map(|(_, micros)| micros))
    }

    /// When the transactions were committed whose commit is in this batch, as far as the source says: microseconds since
    /// 1970-01-01 UTC.
    pub fn commits_unix_micros(&self) -> impl Iterator<Item = i64> {
        self.commit_records().map(|(_, micros)| micros)
    }

    /// The record that is a transaction's commit, and when that was.
    fn commit_records(&self) -> impl Iterator<Item = (usize, i64)> + Clone {
        let mut end = 0;
        self.txns.iter().enumerate().filter_map(move |(number, txn)| {
            // Records of a transaction are contiguous, and its commit is the last.
            let rest = &self.heads[end..];
            let records = rest.partition_point(|head| head.txn as usize <= number);
            end += records;
            let commits = records > 0 && rest[records - 1].kind == Kind::Commit;
            txn.commit_unix_micros.filter(|_| commits).map(|micros| (end - 1, micros))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::record::{Cell, Column, DataType, Identity, Position, Txn, ValueError};

    fn table(name: &str, columns: usize) -> Arc<TableSchema> {
        let column =
            |n| Column::new(&format!("c{n}"), "text", (DataType::Text, |_, _| Err(ValueError::new("nothing", b""))));
        Arc::new(TableSchema {
            id: 1,
            version: 1,
            database: "d".into(),
            namespace: "n".into(),
            name: name.into(),
            columns: (0..columns).map(column).collect(),
            key: Box::default(),
            identity: Identity::Default,
        })
    }

    fn push(batch: &mut BatchBuilder, cells: &[Cell]) -> usize {
        let start = batch.cells_start();
        batch.cells_mut().extend_from_slice(cells);
        start
    }

    #[test]
    fn every_kind_is_counted_once_with_the_bytes_of_its_rows() {
        let mut batch = BatchBuilder::new(Origin::Stream);
        let commit = Position::Postgres(crate::record::Lsn(9));
        batch.txn(Txn { commit, id: None, commit_unix_micros: None });
        let (two, none) = (table("two", 2), table("none", 1));
        let (a, b) = (batch.table(&two), batch.table(&none));
        batch.begin();
        let cells = push(&mut batch, &[Cell::at(10, 5), Cell::at(20, 3)]);
        batch.insert(a, cells, 1);
        let cells = push(&mut batch, &[Cell::NULL, Cell::at(40, 7), Cell::at(30, 2), Cell::UNCHANGED]);
        batch.update(a, cells, Some(true), 2);
        let cells = push(&mut batch, &[Cell::at(60, 1), Cell::MISSING]);
        batch.delete(a, cells, true, 3);
        batch.truncate(b, false, false, 4);
        let cells = push(&mut batch, &[Cell::at(70, 2), Cell::at(80, 10)]);
        batch.message(cells, true, 5);
        batch.commit(6);
        let mut tally = Tally::default();
        batch.tally(&mut tally);
        let counted = |records, bytes| Counted { records, bytes };
        let tables: Vec<_> = tally.tables(&batch).map(|(table, counts)| (&*table.name, *counts)).collect();
        let of = |table: usize, operation: Operation| tables[table].1[operation as usize];
        assert_eq!((tables.len(), tables[0].0, tables[1].0), (2, "two", "none"));
        assert_eq!(of(0, Operation::Insert), counted(1, 13));
        assert_eq!(of(0, Operation::Update), counted(1, 17));
        assert_eq!(of(0, Operation::Delete), counted(1, 1));
        assert_eq!(of(1, Operation::Truncate), counted(1, 0));
        assert_eq!((tally.messages(), tally.commits()), (counted(1, 20), 1));
        // Another batch: nothing is left of the first.
        let mut rows = BatchBuilder::new(Origin::Snapshot);
        rows.txn(Txn { commit: Position::Postgres(crate::record::Lsn(9)), id: None, commit_unix_micros: None });
        let a = rows.table(&two);
        let cells = push(&mut rows, &[Cell::at(9, 4), Cell::at(5, 4)]);
        rows.insert(a, cells, 1);
        rows.tally(&mut tally);
        let tables: Vec<_> = tally.tables(&rows).map(|(_, counts)| *counts).collect();
        assert_eq!(tables[0][Operation::Read as usize], counted(1, 8), "values in another order than the columns");
        // A run counts from its first value to its last; one that ends with a frame goes on in the next.
        let cells = push(&mut rows, &[Cell::at(13, 1), Cell::NULL]);
        rows.insert(a, cells, 2);
        rows.frame(vec![0; 14].into());
        let cells = push(&mut rows, &[Cell::NULL, Cell::at(0, 3)]);
        rows.insert(a, cells, 3);
        rows.frame(vec![0; 3].into());
        rows.tally(&mut tally);
        let tables: Vec<_> = tally.tables(&rows).map(|(_, counts)| *counts).collect();
        assert_eq!(tables[0][Operation::Read as usize], counted(3, 9 + 3));
        assert_eq!((tables.len(), tally.messages(), tally.commits()), (1, counted(0, 0), 0));
    }

    #[test]
    fn a_transaction_commits_in_the_batch_that_holds_its_commit() {
        let mut batch = BatchBuilder::new(Origin::Stream);
        for micros in 1..=4 {
            let commit = Position::Postgres(crate::record::Lsn(micros as u64));
            batch.txn(Txn { commit, id: None, commit_unix_micros: Some(micros) });
            match micros {
                1 => batch.commit(7), // the end of one that began before
                2 => {}               // nothing of it was wanted
                3 => {
                    batch.begin();
                    batch.commit(1);
                }
                _ => batch.begin(), // goes on in the next batch
            }
        }
        let batch = batch.build(crate::record::Seq(1), crate::record::Mark::default(), None);
        assert_eq!(batch.commits_unix_micros().collect::<Vec<_>>(), [1, 3]);
        let commits = |records| {
            let commits = batch.commits(records);
            (
                commits.count(),
                commits.groups.first().map_or(0, |group| group.oldest_unix_micros),
                commits.last_unix_micros,
            )
        };
        assert_eq!(commits(0..batch.len()), (2, 1, 3));
        assert_eq!((commits(1..batch.len()), commits(0..1), commits(1..2)), ((1, 3, 3), (1, 1, 1), (0, 0, 0)));
        let none = BatchBuilder::new(Origin::Stream).build(crate::record::Seq(2), crate::record::Mark::default(), None);
        assert_eq!(none.commits(0..none.len()), Commits::default());
    }

    proptest::proptest! {
        /// Nothing is missing, the sum is exact, and nothing is taken for more than twice as old as it is.
        #[test]
        fn groups_hold_every_commit(times in proptest::collection::vec(0i64..20_000_000_000, 1..300), later in 0i64..1_000_000) {
            let commits = Commits::new(times.iter().copied());
            let (last, now) = (*times.last().unwrap(), times.iter().max().unwrap() + later);
            proptest::prop_assert_eq!((commits.count(), commits.last_unix_micros), (times.len() as u64, last));
            let sum: i64 = commits.groups.iter().map(|group| group.oldest_unix_micros * group.count as i64 + group.later_micros as i64).sum();
            proptest::prop_assert_eq!(sum, times.iter().sum::<i64>());
            let mut taken_for: Vec<i64> = Vec::new();
            for group in &commits.groups {
                taken_for.extend(std::iter::repeat_n(now - group.oldest_unix_micros, group.count as usize));
            }
            let mut ages: Vec<i64> = times.iter().map(|micros| now - micros).collect();
            taken_for.sort_unstable();
            ages.sort_unstable();
            // A commit that is later than the last in the log's order is with those of its time.
            let slack = FINEST_MICROS as i64 + times.iter().max().unwrap() - last;
            for (age, taken) in ages.iter().zip(&taken_for) {
                proptest::prop_assert!(taken >= age && *taken <= 2 * age + slack, "{} taken for {}", age, taken);
            }
        }
    }
}
