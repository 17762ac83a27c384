//! A table that is being read, and the statements that read it.
//!
//! Invariants:
//! - Rows come in the order of the key, from its index and without a sort: the index is named, because the server would
//!   rather sort a whole table than walk an index it thinks too long.
//! - Columns are named, each of them: `*` leaves invisible ones out.
//! - A key whose order cannot be had from literals ([`Form`]), or from one direction of its index, is none: the table is read
//!   as a whole, by one worker, and again from its beginning after a crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::super::ask::{TextRow, number, text};
use super::super::quote;
use super::super::schema::{ColumnDef, TableDef};
use super::key::{Form, Key, Range};
use super::progress::{Begun, TableName};
use crate::record::TableSchema;

/// A table to be read, as it stands at the snapshot's point.
#[derive(Clone)]
pub struct Wanted {
    pub def: Arc<TableDef>,
    /// The version that the stream goes on with, but for how its cells are decoded: they are those of the binary protocol.
    pub schema: Arc<TableSchema>,
}

impl Wanted {
    pub fn name(&self) -> TableName {
        (self.def.database.clone(), self.def.name.clone())
    }
}

/// Rows of a chunk where the server says nothing of their size.
const CHUNK_ROWS: u64 = 10_000;
/// A chunk of fewer costs more in questions than in rows; of more, its rows would be less than 4 bytes of 16 MiB.
const MIN_CHUNK_ROWS: u64 = 16;
const MAX_CHUNK_ROWS: u64 = 4 << 20;

/// What the rows are ordered by.
pub struct KeyPlan {
    /// Quoted.
    columns: Vec<String>,
    forms: Vec<Form>,
    /// Where its columns stand in a row as it is selected.
    at: Vec<usize>,
    /// Quoted.
    index: String,
}

/// A table under way.
pub struct Job {
    pub table: TableName,
    pub schema: Arc<TableSchema>,
    pub begun: Begun,
    pub key: Option<KeyPlan>,
    /// Cells of a selected row: the schema's columns, then key columns that are not among them.
    pub width: usize,
    /// What `SELECT *` gives.
    pub visible: Vec<Box<str>>,
    select: String,
    from: String,
    /// Ranges not finished yet.
    pub open_ranges: AtomicUsize,
    next_number: AtomicU64,
    chunk_rows: AtomicU64,
}

/// What information_schema says of a table.
pub struct Facts {
    pub created: String,
    pub rows: u64,
    average_row_bytes: u64,
    /// `INDEX_NAME, COLUMN_NAME, COLLATION, SUB_PART` of unique indexes, in their order.
    indexes: Vec<TextRow>,
}

pub fn facts_sql((database, name): &TableName) -> [String; 2] {
    let of = format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", quote::literal(database), quote::literal(name));
    [
        format!("SELECT CREATE_TIME, TABLE_ROWS, AVG_ROW_LENGTH FROM information_schema.TABLES WHERE {of}"),
        format!(
            "SELECT INDEX_NAME, COLUMN_NAME, COLLATION, SUB_PART FROM information_schema.STATISTICS \
             WHERE {of} AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX"
        ),
    ]
}

impl Facts {
    /// None where there is no such table.
    pub fn from_rows(table: &[TextRow], indexes: Vec<TextRow>) -> Option<Facts> {
        let row = table.first()?;
        Some(Facts {
            created: text(row, 0).to_owned(),
            rows: number(row, 1).unwrap_or(0),
            average_row_bytes: number(row, 2).unwrap_or(0),
            indexes,
        })
    }

    /// The index over exactly these columns, whole and all in one direction.
    fn index(&self, columns: &[&ColumnDef]) -> Option<&str> {
        let mut of_one = self.indexes.chunk_by(|a, b| text(a, 0) == text(b, 0));
        let found = of_one.find(|index| {
            let whole = index.iter().all(|row| text(row, 3).is_empty());
            let one_way = index.iter().all(|row| !text(row, 2).is_empty() && text(row, 2) == text(&index[0], 2));
            let same = index.len() == columns.len()
                && index.iter().zip(columns).all(|(row, column)| text(row, 1).eq_ignore_ascii_case(&column.name));
            whole && one_way && same
        })?;
        Some(text(&found[0], 0))
    }
}

impl Job {
    pub fn new(wanted: &Wanted, facts: &Facts, chunk_bytes: u64) -> Job {
        let Wanted { def, schema } = wanted;
        let mut selected: Vec<&str> = schema.columns.iter().map(|column| &*column.name).collect();
        let key = plan_key(def, facts, &mut selected);
        let chunk_rows = match facts.average_row_bytes {
            0 => CHUNK_ROWS,
            bytes => chunk_bytes / bytes,
        };
        let described = |column: &ColumnDef| {
            let collation = column.column_type.collation.as_deref().unwrap_or_default();
            format!("{} {} {collation}", column.name, column.column_type.text)
        };
        let key_columns = key.iter().flat_map(|_| def.key.iter()).filter_map(|at| def.columns.get(usize::from(*at)));
        Job {
            table: wanted.name(),
            begun: Begun { key: key_columns.map(described).collect(), created: facts.created.clone(), done: false },
            width: selected.len(),
            visible: def.columns.iter().filter(|c| !c.invisible && !c.hidden).map(|c| c.name.clone()).collect(),
            select: selected.iter().map(|name| quote::ident(name)).collect::<Vec<_>>().join(", "),
            from: quote::qualified(&def.database, &def.name),
            schema: schema.clone(),
            key,
            open_ranges: AtomicUsize::new(0),
            next_number: AtomicU64::new(0),
            chunk_rows: AtomicU64::new(chunk_rows.clamp(MIN_CHUNK_ROWS, MAX_CHUNK_ROWS)),
        }
    }

    /// A number for a range, behind all that were `used`.
    pub fn number_after(&self, used: Option<u64>) {
        self.next_number.store(used.map_or(0, |used| used + 1), Ordering::Relaxed);
    }

    pub fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// How many rows one chunk is to have; none for a table that is read as a whole.
    pub fn chunk_rows(&self) -> Option<u64> {
        self.key.as_ref().map(|_| self.chunk_rows.load(Ordering::Relaxed))
    }

    /// A chunk of so many rows had so many bytes: the next one is to have `chunk_bytes`. One chunk of odd rows does not
    /// change all.
    pub fn measured(&self, rows: u64, bytes: u64, chunk_bytes: u64) {
        if rows == 0 {
            return;
        }
        let now = self.chunk_rows.load(Ordering::Relaxed);
        let fits = (u128::from(chunk_bytes) * u128::from(rows) / u128::from(bytes.max(1))) as u64;
        let next = fits.clamp(now / 4, now.saturating_mul(4)).clamp(MIN_CHUNK_ROWS, MAX_CHUNK_ROWS);
        self.chunk_rows.store(next, Ordering::Relaxed);
    }

    /// Holds the table as it is, to the end of the transaction or to a savepoint before, and says which columns it has.
    pub fn hold_sql(&self) -> String {
        format!("SELECT * FROM {} LIMIT 0", self.from)
    }

    /// The rows of a range in the key's order, from its beginning, at most `limit`.
    pub fn rows_sql(&self, range: &Range, limit: Option<u64>) -> String {
        self.sql(&self.select, range, Order::Forward, limit.map(|limit| (limit, 0)))
    }

    /// The key of the row that comes after `skipped` others; the columns are the key's.
    pub fn key_sql(&self, range: &Range, order: Order, skipped: u64) -> String {
        let columns = self.key.as_ref().map(|key| key.columns.join(", ")).unwrap_or_default();
        self.sql(&columns, range, order, Some((1, skipped)))
    }

    /// The server's estimate of a range's rows. Without the index's name: naming it makes MySQL not look.
    pub fn estimate_sql(&self, range: &Range) -> String {
        let columns = self.key.as_ref().map_or(&[][..], |key| &key.columns);
        let conditions = where_clause(&range.conditions(columns));
        format!("EXPLAIN FORMAT=TRADITIONAL SELECT 1 FROM {}{conditions}", self.from)
    }

    fn sql(&self, select: &str, range: &Range, order: Order, limit: Option<(u64, u64)>) -> String {
        let Some(key) = &self.key else { return format!("SELECT {select} FROM {}", self.from) };
        let conditions = where_clause(&range.conditions(&key.columns));
        let direction = if order == Order::Backward { " DESC" } else { "" };
        let by: Vec<String> = key.columns.iter().map(|column| format!("{column}{direction}")).collect();
        let limit = match limit {
            None => String::new(),
            Some((rows, 0)) => format!(" LIMIT {rows}"),
            Some((rows, skipped)) => format!(" LIMIT {rows} OFFSET {skipped}"),
        };
        format!(
            "SELECT {select} FROM {} FORCE INDEX ({}){conditions} ORDER BY {}{limit}",
            self.from,
            key.index,
            by.join(", ")
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Forward,
    Backward,
}

fn where_clause(conditions: &[String]) -> String {
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}

/// Appends to `selected` the key's columns that are not there.
fn plan_key<'a>(def: &'a TableDef, facts: &Facts, selected: &mut Vec<&'a str>) -> Option<KeyPlan> {
    let columns: Option<Vec<&ColumnDef>> = def.key.iter().map(|at| def.columns.get(usize::from(*at))).collect();
    let columns = columns.filter(|columns| !columns.is_empty())?;
    let index = facts.index(&columns)?;
    let form = |column: &&ColumnDef| {
        Form::of(column.column_type.kind, column.column_type.unsigned, column.column_type.collation.as_deref())
    };
    let forms: Vec<Form> = columns.iter().map(form).collect::<Option<_>>()?;
    let mut place = |column: &&'a ColumnDef| match selected.iter().position(|name| **name == *column.name) {
        Some(at) => at,
        None => {
            selected.push(&column.name);
            selected.len() - 1
        }
    };
    let at = columns.iter().map(&mut place).collect();
    let columns = columns.iter().map(|column| quote::ident(&column.name)).collect();
    Some(KeyPlan { columns, forms, at, index: quote::ident(index) })
}

impl KeyPlan {
    /// Where the key's columns stand in a row as it is selected, in the key's order.
    pub fn places(&self) -> &[usize] {
        &self.at
    }

    /// The key of cells in the key's order; `cell` gives the bytes of the nth, none for NULL. None for bytes that are no key.
    pub fn of_key<'r>(&self, cell: impl Fn(usize) -> Option<&'r [u8]>) -> Option<Key> {
        self.forms.iter().enumerate().map(|(at, form)| form.value(cell(at)?)).collect::<Option<_>>().map(Key)
    }
}
