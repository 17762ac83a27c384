//! What of the stream a consumer wants.

use crate::error::{Error, Result};
use crate::proto::v1::{self, Operation};
use crate::record::{Change, Column, Origin, TableSchema};

/// Which table a consumer wants, asked once a version of its shape.
pub type TableFilter = Box<dyn Fn(&TableSchema) -> bool + Send + Sync>;
/// Which column of a wanted table, asked once a version; the key's are not asked for.
pub type ColumnFilter = Box<dyn Fn(&TableSchema, &Column) -> bool + Send + Sync>;

/// What passes. The default: every row, truncate and message, with all columns.
#[derive(Default)]
pub struct Filter {
    /// None: every table.
    pub table: Option<TableFilter>,
    /// None: every column.
    pub column: Option<ColumnFilter>,
    pub operations: Operations,
}

/// A set of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operations(u16);

impl Operations {
    /// What a filter may name.
    const NAMED: [Operation; 6] = [
        Operation::Snapshot,
        Operation::Insert,
        Operation::Update,
        Operation::Delete,
        Operation::Truncate,
        Operation::Message,
    ];

    /// What a request asks for. Errors: `Config`, where it names an operation that is not to be named.
    pub fn of_request(filter: &v1::Filter) -> Result<Self> {
        let mut set = Operations(0);
        for &number in &filter.operations {
            let named = Self::NAMED.into_iter().find(|named| *named as i32 == number);
            let operation = named.ok_or_else(|| {
                let name = Operation::try_from(number).map_or("?", |known| known.as_str_name());
                Error::config(format!("the filter's operations have {number} ({name})")).remedy(
                    "name OPERATION_SNAPSHOT, _INSERT, _UPDATE, _DELETE, _TRUNCATE or _MESSAGE; schema changes and \
                     transaction marks have fields of their own",
                )
            })?;
            set.insert(operation);
        }
        if filter.operations.is_empty() {
            set = Self::default();
        }
        if filter.schema_changes {
            set.insert(Operation::SchemaChange);
        }
        if filter.transactions {
            set.insert(Operation::Begin);
            set.insert(Operation::Commit);
        }
        Ok(set)
    }

    fn insert(&mut self, operation: Operation) {
        self.0 |= 1 << operation as u16;
    }

    #[inline]
    pub(super) fn contains(self, operation: Operation) -> bool {
        self.0 & 1 << operation as u16 != 0
    }
}

impl Default for Operations {
    fn default() -> Self {
        let mut set = Operations(0);
        Self::NAMED.into_iter().for_each(|operation| set.insert(operation));
        set
    }
}

#[inline]
pub(super) fn operation(change: &Change<'_>, origin: Origin) -> Operation {
    match change {
        Change::Insert { .. } if origin == Origin::Snapshot => Operation::Snapshot,
        Change::Insert { .. } => Operation::Insert,
        Change::Update { .. } => Operation::Update,
        Change::Delete { .. } => Operation::Delete,
        Change::Truncate { .. } => Operation::Truncate,
        Change::Message { .. } => Operation::Message,
        Change::SchemaChange { .. } => Operation::SchemaChange,
        Change::Begin => Operation::Begin,
        Change::Commit => Operation::Commit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(operations: &[Operation], schema_changes: bool, transactions: bool) -> v1::Filter {
        let operations = operations.iter().map(|&operation| operation.into()).collect();
        v1::Filter { operations, schema_changes, transactions, ..v1::Filter::default() }
    }

    #[test]
    fn a_request_names_rows_and_messages_only() {
        use Operation::{Begin, Commit, Delete, Insert, Message, SchemaChange, Snapshot, Truncate, Update};
        let all = [Snapshot, Insert, Update, Delete, Truncate, Message];
        let set = |operations, schema_changes, transactions| {
            Operations::of_request(&request(operations, schema_changes, transactions)).unwrap()
        };
        assert_eq!(set(&[], false, false), Operations::default());
        assert_eq!(set(&all, false, false), Operations::default());
        assert!(all.iter().all(|&operation| set(&[], true, true).contains(operation)));
        let deletes = set(&[Delete], true, false);
        assert!(deletes.contains(Delete) && deletes.contains(SchemaChange));
        assert!(![Insert, Begin, Commit, Message].iter().any(|&operation| deletes.contains(operation)));
        assert!(set(&[], false, true).contains(Begin) && set(&[], false, true).contains(Commit));
        for wrong in [Operation::Unspecified, SchemaChange, Begin, Commit] {
            let error = Operations::of_request(&request(&[Insert, wrong], false, false)).unwrap_err();
            assert!(error.to_string().contains(wrong.as_str_name()), "{error}");
        }
        let unknown = v1::Filter { operations: vec![77], ..v1::Filter::default() };
        assert!(Operations::of_request(&unknown).is_err());
    }
}
