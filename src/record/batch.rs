//! The batch: the unit of memory, order, fan-out and acknowledgement.
//!
//! Invariants:
//! - Records stand in log order; those of one transaction are contiguous, also across batches.
//! - A batch that ends inside a transaction carries no position: it can be durable and confirms nothing.
//! - A row is wire bytes in one frame plus one [`Cell`] a column; nothing is decoded until a sink asks.
//! - What a batch took from the memory budget is given back when its last `Arc` is dropped, and at no other time.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;

use super::position::Position;
use super::schema::{Column, Form, Scratch, TableSchema};
use super::value::{Value, ValueError};

mod tally;

pub use tally::{ByOperation, Commits, Counted, Operation, Tally};

/// A batch's number within one run of the process, from 1. All acknowledgement arithmetic is on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Rows as they stood at the snapshot's point.
    Snapshot,
    /// Changes that bring a resumed snapshot's sinks up to the point of its remaining rows.
    CatchUp,
    Stream,
}

/// What becomes storable once everything up to and including its batch is durable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mark {
    /// Where the stream resumes once this batch is durable.
    pub position: Option<Position>,
    /// The source's own durable state, opaque to everyone else: chunk progress, schema versions.
    pub state: Vec<StateEntry>,
}

impl Mark {
    pub fn is_empty(&self) -> bool {
        self.position.is_none() && self.state.is_empty()
    }
}

/// One key of a source's durable state; no value removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateEntry {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// The transaction a record belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Txn {
    /// Orders transactions, the same on every replay: Postgres' commit LSN. Resuming there delivers this transaction
    /// again. For snapshot rows the snapshot's point.
    pub commit: Position,
    /// The source's own number of it; none for snapshot rows and messages outside a transaction.
    pub id: Option<u64>,
    /// Microseconds since 1970-01-01 UTC; none where the source does not say.
    pub commit_unix_micros: Option<i64>,
}

/// One change, borrowed from its batch.
pub struct CdcRecord<'b> {
    pub txn: &'b Txn,
    /// Numbers the records of a transaction, the same on every replay: its begin is 0. A schema change carries the
    /// ordinal of the record it stands before.
    pub ordinal: u64,
    pub change: Change<'b>,
}

pub enum Change<'b> {
    Begin,
    Commit,
    Insert {
        table: &'b Arc<TableSchema>,
        after: Row<'b>,
    },
    Update {
        table: &'b Arc<TableSchema>,
        before: Before<'b>,
        after: Row<'b>,
    },
    Delete {
        table: &'b Arc<TableSchema>,
        before: Before<'b>,
    },
    /// One record a table, so that every record has an order key of its own.
    Truncate {
        table: &'b Arc<TableSchema>,
        cascade: bool,
        restart_identity: bool,
    },
    SchemaChange {
        table: &'b Arc<TableSchema>,
        previous: Option<&'b Arc<TableSchema>>,
        ddl: Option<&'b str>,
    },
    Message {
        prefix: &'b [u8],
        content: &'b [u8],
        transactional: bool,
    },
}

/// What the server logged of a row's old version.
#[derive(Clone, Copy)]
pub enum Before<'b> {
    None,
    /// Only the replica identity's columns; the others are [`Value::Missing`].
    Key(Row<'b>),
    Full(Row<'b>),
}

/// A row in its wire form.
#[derive(Clone, Copy)]
pub struct Row<'b> {
    schema: &'b TableSchema,
    frame: &'b [u8],
    cells: &'b [Cell],
}

impl<'b> Row<'b> {
    pub fn schema(&self) -> &'b TableSchema {
        self.schema
    }

    pub fn cell(&self, column: usize) -> Cell {
        self.cells[column]
    }

    /// The row with these columns only, in this order; `schema` is of them. `cells` is room for it.
    pub fn project<'p>(&self, schema: &'p TableSchema, columns: &[u16], cells: &'p mut Vec<Cell>) -> Row<'p>
    where
        'b: 'p,
    {
        cells.clear();
        cells.extend(columns.iter().map(|&column| self.cells[usize::from(column)]));
        Row { schema, frame: self.frame, cells }
    }

    /// The wire bytes of a cell; none for NULL, unchanged and missing ones.
    pub fn bytes(&self, column: usize) -> Option<&'b [u8]> {
        let cell = self.cells[column];
        cell.is_value().then(|| self.wire(cell))
    }

    /// The wire bytes of one of [`Row::cells`], which is a value.
    #[inline]
    pub fn wire(&self, cell: Cell) -> &'b [u8] {
        &self.frame[cell.offset as usize..][..cell.len as usize]
    }

    /// The value borrows from the row or, where the wire form is not printable as it is, from `scratch`.
    #[inline]
    pub fn value<'s>(&self, column: usize, scratch: &'s mut Scratch) -> Result<Value<'s>, ValueError>
    where
        'b: 's,
    {
        match self.schema.columns.get(column) {
            Some(of) => self.decode(self.cells[column], of, scratch),
            None => Err(ValueError::new("a column of the table", b"")),
        }
    }

    /// The row's cells and their columns, in order: what is quicker than asking for them one by one.
    #[inline]
    pub fn cells(&self) -> impl Iterator<Item = (Cell, &'b Column)> + use<'b> {
        self.cells.iter().copied().zip(&self.schema.columns)
    }

    /// The value of one of [`Row::cells`], see [`Row::value`].
    #[inline]
    pub fn decode<'s>(&self, cell: Cell, column: &'b Column, scratch: &'s mut Scratch) -> Result<Value<'s>, ValueError>
    where
        'b: 's,
    {
        match cell.len {
            Cell::NULL_LEN => Ok(Value::Null),
            Cell::UNCHANGED_LEN => Ok(Value::Unchanged),
            Cell::MISSING_LEN => Ok(Value::Missing),
            _ => {
                let form = Form { data_type: &column.data_type, layout: column.layout, scratch };
                (column.decode)(self.wire(cell), form)
            }
        }
    }
}

/// Where a cell's bytes are in its frame. Three lengths that no cell can have stand for its other states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    offset: u32,
    len: u32,
}

impl Cell {
    // A message is below 1 GiB by the protocol, so no cell comes near these lengths.
    const NULL_LEN: u32 = u32::MAX;
    const UNCHANGED_LEN: u32 = u32::MAX - 1;
    const MISSING_LEN: u32 = u32::MAX - 2;

    pub const NULL: Cell = Cell { offset: 0, len: Self::NULL_LEN };
    pub const UNCHANGED: Cell = Cell { offset: 0, len: Self::UNCHANGED_LEN };
    pub const MISSING: Cell = Cell { offset: 0, len: Self::MISSING_LEN };

    /// A value at `offset` of the frame, `len` bytes long.
    #[inline]
    pub fn at(offset: usize, len: usize) -> Cell {
        debug_assert!(len < Self::MISSING_LEN as usize && offset <= u32::MAX as usize);
        Cell { offset: offset as u32, len: len as u32 }
    }
    #[inline]
    pub fn is_value(self) -> bool {
        self.len < Self::MISSING_LEN
    }
    /// Offset and length; none for a cell without a value.
    pub fn range(self) -> Option<(usize, usize)> {
        self.is_value().then_some((self.offset as usize, self.len as usize))
    }
    pub fn is_null(self) -> bool {
        self == Cell::NULL
    }
    pub fn is_unchanged(self) -> bool {
        self == Cell::UNCHANGED
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Begin,
    Commit,
    Insert,
    UpdateOnly,
    UpdateKey,
    UpdateFull,
    DeleteKey,
    DeleteFull,
    Truncate { cascade: bool, restart_identity: bool },
    SchemaChange,
    Message { transactional: bool },
}

#[derive(Clone, Copy, Debug)]
struct Head {
    ordinal: u64,
    txn: u32,
    frame: u32,
    /// The first of the record's cells, after before before; for a schema change its index in `schema_changes`.
    cells: u32,
    table: u16,
    kind: Kind,
}

// Hot types: a row costs one head and a cell a column.
const _: () = assert!(size_of::<Head>() == 24 && size_of::<Cell>() == 8);

struct SchemaChange {
    previous: Option<Arc<TableSchema>>,
    ddl: Option<Box<str>>,
}

pub struct Batch {
    pub seq: Seq,
    pub origin: Origin,
    pub mark: Mark,
    frames: Vec<Bytes>,
    heads: Vec<Head>,
    cells: Vec<Cell>,
    tables: Vec<Arc<TableSchema>>,
    txns: Vec<Txn>,
    schema_changes: Vec<SchemaChange>,
    bytes: usize,
    /// What was taken from the memory budget.
    _permit: Option<Box<dyn Any + Send + Sync>>,
}

impl Batch {
    pub fn len(&self) -> usize {
        self.heads.len()
    }
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }
    /// What the batch holds in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// The row versions the batch refers to.
    pub fn tables(&self) -> &[Arc<TableSchema>] {
        &self.tables
    }

    pub fn records(&self) -> impl Iterator<Item = CdcRecord<'_>> {
        self.records_from(0)
    }

    pub fn records_from(&self, first: usize) -> impl Iterator<Item = CdcRecord<'_>> {
        self.heads[first.min(self.heads.len())..].iter().map(|head| self.record(head))
    }

    /// Index of the first record that a stream resuming at `position` still needs. Those behind it may include covered
    /// ones: two servers of one topology need not have logged their transactions in the same order, so that what is
    /// covered need not be a prefix, and is not searched as one.
    pub fn first_uncovered(&self, position: &Position) -> usize {
        let txn = self.txns.iter().position(|txn| !position.covers(&txn.commit)).unwrap_or(self.txns.len());
        self.heads.partition_point(|head| (head.txn as usize) < txn)
    }

    /// Index of the first record after the one with this order key.
    pub fn first_after(&self, commit: &Position, ordinal: u64) -> usize {
        let first = self.first_uncovered(commit);
        let same = self.heads[first..]
            .iter()
            .take_while(|head| self.txns[head.txn as usize].commit == *commit && head.ordinal <= ordinal);
        first + same.count()
    }

    /// The order key of the last record before index `end`; schema changes have none of their own.
    pub fn last_key(&self, end: usize) -> Option<(&Position, u64)> {
        let head = self.heads[..end].iter().rev().find(|head| head.kind != Kind::SchemaChange)?;
        Some((&self.txns[head.txn as usize].commit, head.ordinal))
    }

    fn record<'b>(&'b self, head: &Head) -> CdcRecord<'b> {
        let table = || &self.tables[head.table as usize];
        let row = |nth: usize| {
            let schema: &TableSchema = table();
            let width = schema.columns.len();
            Row {
                schema,
                frame: &self.frames[head.frame as usize],
                cells: &self.cells[head.cells as usize + nth * width..][..width],
            }
        };
        let change = match head.kind {
            Kind::Begin => Change::Begin,
            Kind::Commit => Change::Commit,
            Kind::Insert => Change::Insert { table: table(), after: row(0) },
            Kind::UpdateOnly => Change::Update { table: table(), before: Before::None, after: row(0) },
            Kind::UpdateKey => Change::Update { table: table(), before: Before::Key(row(1)), after: row(0) },
            Kind::UpdateFull => Change::Update { table: table(), before: Before::Full(row(1)), after: row(0) },
            Kind::DeleteKey => Change::Delete { table: table(), before: Before::Key(row(0)) },
            Kind::DeleteFull => Change::Delete { table: table(), before: Before::Full(row(0)) },
            Kind::Truncate { cascade, restart_identity } => {
                Change::Truncate { table: table(), cascade, restart_identity }
            }
            Kind::SchemaChange => {
                let change = &self.schema_changes[head.cells as usize];
                Change::SchemaChange { table: table(), previous: change.previous.as_ref(), ddl: change.ddl.as_deref() }
            }
            Kind::Message { transactional } => {
                let frame = &self.frames[head.frame as usize];
                let part = |cell: Cell| &frame[cell.offset as usize..][..cell.len as usize];
                let cells = &self.cells[head.cells as usize..][..2];
                Change::Message { prefix: part(cells[0]), content: part(cells[1]), transactional }
            }
        };
        CdcRecord { txn: &self.txns[head.txn as usize], ordinal: head.ordinal, change }
    }
}

/// Builds one batch. Cells are pushed first, then the record that owns them; the frame they point into follows with
/// [`BatchBuilder::frame`] once its messages are complete.
pub struct BatchBuilder {
    origin: Origin,
    frames: Vec<Bytes>,
    heads: Vec<Head>,
    cells: Vec<Cell>,
    tables: Vec<Arc<TableSchema>>,
    txns: Vec<Txn>,
    schema_changes: Vec<SchemaChange>,
    frame_bytes: usize,
}

/// How far a [`BatchBuilder`] was filled.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    heads: usize,
    cells: usize,
    txns: usize,
    schema_changes: usize,
}

/// The batch itself, its queue slots and its mark; more than it is, so that a queue of empty batches is bounded too.
const BATCH_OVERHEAD_BYTES: usize = 1024;

impl BatchBuilder {
    pub fn new(origin: Origin) -> Self {
        BatchBuilder {
            origin,
            frames: Vec::new(),
            heads: Vec::new(),
            cells: Vec::new(),
            tables: Vec::new(),
            txns: Vec::new(),
            schema_changes: Vec::new(),
            frame_bytes: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.heads.len()
    }
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }
    /// Whether there are records whose frame is still to come.
    pub fn wants_frame(&self) -> bool {
        self.heads.last().is_some_and(|head| head.frame as usize == self.frames.len())
    }
    /// What the batch will hold in memory; bytes of a frame not yet handed over do not count.
    pub fn bytes(&self) -> usize {
        BATCH_OVERHEAD_BYTES
            + self.frame_bytes
            + self.cells.len() * size_of::<Cell>()
            + self.heads.len() * size_of::<Head>()
            + self.txns.len() * size_of::<Txn>()
    }

    /// What follows belongs to this transaction.
    pub fn txn(&mut self, txn: Txn) {
        self.txns.push(txn);
    }

    /// The index of a table version in this batch.
    #[inline]
    pub fn table(&mut self, schema: &Arc<TableSchema>) -> u16 {
        // Few tables change in one batch, and mostly the last one again.
        if let Some(index) = self.tables.iter().rposition(|known| Arc::ptr_eq(known, schema)) {
            return index as u16;
        }
        self.tables.push(schema.clone());
        (self.tables.len() - 1) as u16
    }

    /// Whether one more table version would not fit the index.
    pub fn tables_full(&self) -> bool {
        self.tables.len() >= usize::from(u16::MAX)
    }

    /// The cells of the record about to be pushed; it owns those added since `cells_start`.
    #[inline]
    pub fn cells_mut(&mut self) -> &mut Vec<Cell> {
        &mut self.cells
    }
    pub fn cells_start(&self) -> usize {
        self.cells.len()
    }

    pub fn begin(&mut self) {
        self.push(Kind::Begin, 0, 0, 0);
    }
    pub fn commit(&mut self, ordinal: u64) {
        self.push(Kind::Commit, 0, 0, ordinal);
    }
    #[inline]
    pub fn insert(&mut self, table: u16, cells: usize, ordinal: u64) {
        self.push(Kind::Insert, table, cells, ordinal);
    }
    /// `key_only`: none without an old row, whose cells follow the new one's.
    #[inline]
    pub fn update(&mut self, table: u16, cells: usize, key_only: Option<bool>, ordinal: u64) {
        let kind = match key_only {
            None => Kind::UpdateOnly,
            Some(true) => Kind::UpdateKey,
            Some(false) => Kind::UpdateFull,
        };
        self.push(kind, table, cells, ordinal);
    }
    #[inline]
    pub fn delete(&mut self, table: u16, cells: usize, key_only: bool, ordinal: u64) {
        self.push(if key_only { Kind::DeleteKey } else { Kind::DeleteFull }, table, cells, ordinal);
    }
    pub fn truncate(&mut self, table: u16, cascade: bool, restart_identity: bool, ordinal: u64) {
        self.push(Kind::Truncate { cascade, restart_identity }, table, 0, ordinal);
    }
    pub fn schema_change(&mut self, table: u16, previous: Option<Arc<TableSchema>>, ddl: Option<&str>, ordinal: u64) {
        self.schema_changes.push(SchemaChange { previous, ddl: ddl.map(Into::into) });
        self.push(Kind::SchemaChange, table, self.schema_changes.len() - 1, ordinal);
    }
    /// Its two cells are the prefix and the content.
    pub fn message(&mut self, cells: usize, transactional: bool, ordinal: u64) {
        self.push(Kind::Message { transactional }, 0, cells, ordinal);
    }

    #[inline]
    fn push(&mut self, kind: Kind, table: u16, cells: usize, ordinal: u64) {
        debug_assert!(!self.txns.is_empty(), "a record outside a transaction");
        let txn = self.txns.len().saturating_sub(1) as u32;
        self.heads.push(Head { ordinal, txn, frame: self.frames.len() as u32, cells: cells as u32, table, kind });
    }

    /// How far it is filled, for [`BatchBuilder::cut`].
    pub fn fill(&self) -> Fill {
        Fill {
            heads: self.heads.len(),
            cells: self.cells.len(),
            txns: self.txns.len(),
            schema_changes: self.schema_changes.len(),
        }
    }

    /// Takes back every record since `fill`; frames and tables stay.
    pub fn cut(&mut self, fill: Fill) {
        self.heads.truncate(fill.heads);
        self.cells.truncate(fill.cells);
        self.txns.truncate(fill.txns);
        self.schema_changes.truncate(fill.schema_changes);
    }

    /// Hands over the bytes that all cells pushed since the last frame point into.
    pub fn frame(&mut self, bytes: Bytes) {
        self.frame_bytes += bytes.len();
        self.frames.push(bytes);
    }

    /// `permit` is kept until the batch's last reference is gone.
    pub fn build(self, seq: Seq, mark: Mark, permit: Option<Box<dyn Any + Send + Sync>>) -> Batch {
        let bytes = self.bytes();
        let BatchBuilder { origin, frames, heads, cells, tables, txns, schema_changes, .. } = self;
        Batch { seq, origin, mark, frames, heads, cells, tables, txns, schema_changes, bytes, _permit: permit }
    }
}
