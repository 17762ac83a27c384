//! The shape of a table at one version, shared by `Arc` and never changed.

use super::value::{ArrayWalk, Value, ValueError};

/// A table at one version of its shape.
#[derive(Debug)]
pub struct TableSchema {
    /// The source's own identifier of the table: Postgres' relation oid.
    pub id: u64,
    /// Counts the shapes this stream has seen of the table, from 1.
    pub version: u32,
    pub database: Box<str>,
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub columns: Box<[Column]>,
    /// Indexes into `columns` of what identifies a row, in the key's order; empty when nothing does.
    pub key: Box<[u16]>,
    pub identity: Identity,
}

impl std::fmt::Display for TableSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.namespace, self.name)
    }
}

/// What the server logs of a row's old version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The primary key, when it changes or the row goes.
    Default,
    /// The columns of a chosen unique index.
    Index,
    /// The whole old row.
    Full,
    Nothing,
}

#[derive(Debug)]
pub struct Column {
    pub name: Box<str>,
    pub data_type: DataType,
    /// The type as the source names it, with its modifiers: `numeric(12,2)`, `public.mood`.
    pub source_type: Box<str>,
    pub nullable: bool,
    /// Turns the wire bytes of a cell into a value. It never sees NULL, unchanged or missing cells.
    pub decode: Decode,
    /// What `decode` has to know of the wire form and the bytes do not say (MySQL: precision, digits of a fraction,
    /// character set); its meaning is between the source and its decoder, 0 where there is nothing.
    pub layout: u32,
    /// Whether the value is `Text` and the wire bytes, where they are UTF-8, are that text as they stand. A format that
    /// looks at every byte anyway may then take them without `decode`; of other bytes `decode` says what is wrong. False
    /// is right for every column.
    pub utf8: bool,
}

impl Column {
    /// A column that may be NULL, of a type whose wire bytes say everything.
    pub fn new(name: &str, source_type: &str, (data_type, decode): (DataType, Decode)) -> Self {
        let (name, source_type) = (name.into(), source_type.into());
        Column { name, data_type, source_type, nullable: true, decode, layout: 0, utf8: false }
    }
}

/// Decodes the bytes of one cell.
pub type Decode = for<'b> fn(&'b [u8], Form<'b>) -> Result<Value<'b>, ValueError>;

/// What a [`Decode`] gets besides the bytes.
pub struct Form<'b> {
    pub data_type: &'b DataType,
    pub layout: u32,
    /// For a value that does not stand in the wire bytes as it is: a packed decimal's digits, a text of another
    /// character set.
    pub scratch: &'b mut Scratch,
}

impl<'b> Form<'b> {
    /// A type whose bytes say everything.
    pub fn plain(data_type: &'b DataType, scratch: &'b mut Scratch) -> Self {
        Form { data_type, layout: 0, scratch }
    }
}

/// Room for one value at a time, kept from value to value so that nothing is allocated per row.
#[derive(Debug, Default)]
pub struct Scratch(Vec<u8>);

/// What a scratch keeps at most: one huge value is not held for the rest of the stream.
const SCRATCH_KEPT_BYTES: usize = 1 << 20;

impl Scratch {
    /// The room, empty.
    #[inline]
    pub fn clear(&mut self) -> &mut Vec<u8> {
        self.0.clear();
        if self.0.capacity() > SCRATCH_KEPT_BYTES {
            self.0.shrink_to(SCRATCH_KEPT_BYTES);
        }
        &mut self.0
    }
}

/// What a column's values are, across sources. A source that has no better fit says `Text`: its own printed form.
#[derive(Clone, Debug, PartialEq)]
pub enum DataType {
    Bool,
    Int {
        bits: u8,
        unsigned: bool,
    },
    Float {
        bits: u8,
    },
    Decimal,
    Text,
    Bytes,
    Date,
    Timestamp,
    TimestampTz,
    Uuid,
    Json,
    /// The labels in their order.
    Enum(Box<[Box<str>]>),
    /// The labels in their order; a value is text, those it has with commas between.
    Set(Box<[Box<str>]>),
    Array(Box<ArrayType>),
}

/// An array's element and how to walk its wire form.
#[derive(Clone, Debug)]
pub struct ArrayType {
    pub element: DataType,
    pub decode: Decode,
    pub walk: ArrayWalk,
    pub layout: u32,
    /// The byte between elements in the source's printed form (Postgres: `,`, for `box` `;`).
    pub delimiter: u8,
}

impl PartialEq for ArrayType {
    fn eq(&self, other: &Self) -> bool {
        self.element == other.element && self.delimiter == other.delimiter
    }
}
