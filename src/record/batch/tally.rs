//! What a batch holds, counted: one pass over its heads.

use super::{Batch, BatchBuilder, Cell, Head, Kind};
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

/// Records, and bytes of rows as the server sent them: from the first value's first byte to the last value's last, old
/// row and new row.
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
        for head in &self.heads {
            let (operation, rows) = match head.kind {
                Kind::Insert => (insert, 1),
                Kind::UpdateOnly => (Operation::Update, 1),
                Kind::UpdateKey | Kind::UpdateFull => (Operation::Update, 2),
                Kind::DeleteKey | Kind::DeleteFull => (Operation::Delete, 1),
                Kind::Begin => continue,
                Kind::Commit => {
                    tally.commits += 1;
                    continue;
                }
                Kind::Truncate { .. } => (Operation::Truncate, 0),
                Kind::SchemaChange => (Operation::SchemaChange, 0),
                Kind::Message { .. } => {
                    tally.messages.records += 1;
                    let cells = &self.cells[head.cells as usize..][..2];
                    tally.messages.bytes += span(cells);
                    continue;
                }
            };
            let counted = &mut tally.tables[usize::from(head.table)][operation as usize];
            counted.records += 1;
            counted.bytes += self.row_bytes(head, rows);
        }
    }

    #[inline]
    fn row_bytes(&self, head: &Head, rows: usize) -> u64 {
        let width = self.tables[usize::from(head.table)].columns.len();
        (0..rows).map(|row| span(&self.cells[head.cells as usize + row * width..][..width])).sum()
    }
}

/// The transactions whose commit is in a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commits {
    pub count: u64,
    /// The earliest, microseconds since 1970-01-01 UTC.
    pub first_unix_micros: i64,
}

impl Batch {
    /// How many transactions commit in it, and when the first did.
    pub fn commits(&self) -> Commits {
        let mut commits = self.commits_unix_micros();
        let first_unix_micros = commits.next();
        let count = commits.count() as u64 + u64::from(first_unix_micros.is_some());
        Commits { count, first_unix_micros: first_unix_micros.unwrap_or_default() }
    }

    /// When the transactions were committed whose commit is in this batch, as far as the source says: microseconds since
    /// 1970-01-01 UTC.
    pub fn commits_unix_micros(&self) -> impl Iterator<Item = i64> {
        let mut end = 0;
        self.txns.iter().enumerate().filter_map(move |(number, txn)| {
            // Records of a transaction are contiguous, and its commit is the last.
            let rest = &self.heads[end..];
            let records = rest.partition_point(|head| head.txn as usize <= number);
            end += records;
            let commits = records > 0 && rest[records - 1].kind == Kind::Commit;
            txn.commit_unix_micros.filter(|_| commits)
        })
    }
}

/// From the first value's first byte to the last one's last. A row's values stand in the order of its columns; where they
/// do not, their lengths are added.
#[inline]
fn span(cells: &[Cell]) -> u64 {
    let first = cells.iter().find_map(|cell| cell.range());
    let last = cells.iter().rev().find_map(|cell| cell.range());
    match (first, last) {
        (Some((start, _)), Some((offset, len))) if offset >= start => (offset + len - start) as u64,
        _ => cells.iter().filter_map(|cell| cell.range()).map(|(_, len)| len as u64).sum(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::record::{Column, DataType, Identity, Position, Txn, ValueError};

    fn table(name: &str, columns: usize) -> Arc<TableSchema> {
        let column = |n: usize| Column {
            name: format!("c{n}").into(),
            data_type: DataType::Text,
            source_type: "text".into(),
            nullable: true,
            decode: |_, _| Err(ValueError::new("nothing", b"")),
            layout: 0,
            utf8: false,
        };
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
        assert_eq!(of(0, Operation::Update), counted(1, 9));
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
        assert_eq!(batch.commits(), Commits { count: 2, first_unix_micros: 1 });
    }
}
