//! A cell's value, decoded on demand and borrowed from its batch.

use std::fmt;

use super::schema::ArrayType;
use super::time::{Date, DateTime};

/// One value, exactly as the source holds it.
#[derive(Clone, Copy, Debug)]
pub enum Value<'b> {
    Null,
    /// The server did not send it because it did not change (unchanged TOAST). Not NULL.
    Unchanged,
    /// Not part of what was logged: a column outside the key of a key-only old row. Not NULL.
    Missing,
    Bool(bool),
    Int(i64),
    UInt(u64),
    F32(f32),
    F64(f64),
    /// Every digit, or `NaN`, `Infinity`, `-Infinity`.
    Decimal(&'b str),
    /// Text, or any type without a better fit in the source's own printed form.
    Text(&'b str),
    Bytes(&'b [u8]),
    /// Bytes as the wire has them: hexadecimal digits, an even number.
    Hex(&'b [u8]),
    Date(Date),
    Timestamp(DateTime),
    /// In UTC.
    TimestampTz(DateTime),
    /// The dates and timestamps after and before all others.
    Infinity {
        negative: bool,
    },
    Uuid(&'b str),
    /// A JSON document as the source prints it; valid JSON.
    Json(&'b [u8]),
    Array(Array<'b>),
}

/// An array in its wire form.
#[derive(Clone, Copy)]
pub struct Array<'b> {
    pub bytes: &'b [u8],
    pub array_type: &'b ArrayType,
}

impl Array<'_> {
    /// Visits the array in order, nested arrays as `Open` … `Close` within it.
    pub fn walk(&self, visit: &mut dyn FnMut(ArrayEvent<'_>) -> Result<(), ValueError>) -> Result<(), ValueError> {
        (self.array_type.walk)(self.bytes, self.array_type, visit)
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Array({:?})", String::from_utf8_lossy(self.bytes))
    }
}

pub enum ArrayEvent<'a> {
    Open,
    Close,
    Element(Value<'a>),
}

pub type ArrayWalk =
    fn(&[u8], &ArrayType, &mut dyn FnMut(ArrayEvent<'_>) -> Result<(), ValueError>) -> Result<(), ValueError>;

/// Why bytes are not a value of their column's type. Table, column and position are added by who knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    pub expected: &'static str,
    /// The start of what was there, readable.
    pub found: String,
}

impl ValueError {
    pub fn new(expected: &'static str, found: &[u8]) -> Self {
        // 64 bytes show what is wrong without putting a whole value into a log.
        let start = &found[..found.len().min(64)];
        ValueError { expected, found: String::from_utf8_lossy(start).into_owned() }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found {:?}", self.expected, self.found)
    }
}

impl std::error::Error for ValueError {}
