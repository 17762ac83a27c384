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
}

/// Decodes the bytes of one cell of a column of this type.
pub type Decode = for<'b> fn(&'b [u8], &'b DataType) -> Result<Value<'b>, ValueError>;

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
    Array(Box<ArrayType>),
}

/// An array's element and how to walk its wire form.
#[derive(Clone, Debug)]
pub struct ArrayType {
    pub element: DataType,
    pub decode: Decode,
    pub walk: ArrayWalk,
    /// The byte between elements in the source's printed form (Postgres: `,`, for `box` `;`).
    pub delimiter: u8,
}

impl PartialEq for ArrayType {
    fn eq(&self, other: &Self) -> bool {
        self.element == other.element && self.delimiter == other.delimiter
    }
}
