//! A binary document's parts.
//!
//! The grammar (MySQL source docs, "json_binary.h"), little-endian, w being 2 in a small container and 4 in a large one:
//!
//! ```text
//! document  type value
//! object    count:w size:w (key-offset:w key-length:2)* (type:1 slot:w)* key* value*
//! array     count:w size:w (type:1 slot:w)* value*
//! type      0 small object | 1 large object | 2 small array | 3 large array | 4 literal | 5 int16 | 6 uint16 | 7 int32
//!           | 8 uint32 | 9 int64 | 10 uint64 | 11 double | 12 string | 15 opaque
//! slot      the value itself: literal, 16 bits, and in a large container 32 bits; else its offset
//! literal   0 null | 1 true | 2 false
//! string    length, 7 bits a byte, the lowest first, the eighth bit set where more follow; UTF-8
//! opaque    column type:1 length as of a string; bytes
//! ```
//! Offsets count from the container's count.

use super::{TRUNCATED, Wrong};

/// Any value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'b> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    Text(&'b str),
    /// A value of an SQL type that JSON does not have, by the column type's number.
    Opaque(u8, &'b [u8]),
    Object(Container<'b>),
    Array(Container<'b>),
}

/// An array or object, whose entries are all there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Container<'b> {
    /// From the count on.
    bytes: &'b [u8],
    pub(super) count: usize,
    large: bool,
    object: bool,
}

/// What may still be read, in bytes.
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new(bytes: usize) -> Budget {
        Budget(bytes)
    }

    #[inline]
    fn spend(&mut self, bytes: usize) -> Result<(), Wrong> {
        match self.0.checked_sub(bytes) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err(Wrong("a JSON document whose parts do not overlap")),
        }
    }
}

/// A whole document.
pub(super) fn document<'b>(bytes: &'b [u8], budget: &mut Budget) -> Result<Item<'b>, Wrong> {
    let (&kind, value) = bytes.split_first().ok_or(TRUNCATED)?;
    value_at(kind, value, budget)
}

/// A value that stands at the start of `bytes`.
fn value_at<'b>(kind: u8, bytes: &'b [u8], budget: &mut Budget) -> Result<Item<'b>, Wrong> {
    fn first<const N: usize>(bytes: &[u8], budget: &mut Budget) -> Result<[u8; N], Wrong> {
        budget.spend(N)?;
        bytes.first_chunk().copied().ok_or(TRUNCATED)
    }
    Ok(match kind {
        0..=3 => {
            let container = Container::new(bytes, kind & 1 != 0, kind < 2, budget)?;
            if container.object { Item::Object(container) } else { Item::Array(container) }
        }
        4 => literal(first::<1>(bytes, budget)?[0].into())?,
        5 => Item::Int(i16::from_le_bytes(first(bytes, budget)?).into()),
        6 => Item::UInt(u16::from_le_bytes(first(bytes, budget)?).into()),
        7 => Item::Int(i32::from_le_bytes(first(bytes, budget)?).into()),
        8 => Item::UInt(u32::from_le_bytes(first(bytes, budget)?).into()),
        9 => Item::Int(i64::from_le_bytes(first(bytes, budget)?)),
        10 => Item::UInt(u64::from_le_bytes(first(bytes, budget)?)),
        11 => Item::Double(f64::from_le_bytes(first(bytes, budget)?)),
        12 => Item::Text(text(counted(bytes, budget)?)?),
        15 => {
            let (&column_type, rest) = bytes.split_first().ok_or(TRUNCATED)?;
            budget.spend(1)?;
            Item::Opaque(column_type, counted(rest, budget)?)
        }
        _ => return Err(Wrong("a type of JSON value")),
    })
}

fn literal(number: u32) -> Result<Item<'static>, Wrong> {
    Ok(match number {
        0 => Item::Null,
        1 => Item::Bool(true),
        2 => Item::Bool(false),
        _ => return Err(Wrong("a JSON literal")),
    })
}

fn text(bytes: &[u8]) -> Result<&str, Wrong> {
    std::str::from_utf8(bytes).map_err(|_| Wrong("a JSON document in UTF-8"))
}

/// Bytes behind their length.
fn counted<'b>(bytes: &'b [u8], budget: &mut Budget) -> Result<&'b [u8], Wrong> {
    let mut length = 0;
    // Five times 7 bits hold any length of 32 bits.
    for (at, &byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            let counted = bytes[at + 1..].get(..length).ok_or(TRUNCATED)?;
            budget.spend(at + 1 + length)?;
            return Ok(counted);
        }
    }
    Err(TRUNCATED)
}

impl<'b> Container<'b> {
    fn new(bytes: &'b [u8], large: bool, object: bool, budget: &mut Budget) -> Result<Self, Wrong> {
        let mut container = Container { bytes, count: 0, large, object };
        let (count, size) = (container.number(0)?, container.number(container.width())?);
        container.bytes = bytes.get(..size).ok_or(TRUNCATED)?;
        container.count = count;
        // Both factors have 32 bits and are small.
        let entries = 2 * container.width() + count * (container.key_entry() + 1 + container.width());
        if entries > size {
            return Err(TRUNCATED);
        }
        budget.spend(entries)?;
        Ok(container)
    }

    #[inline]
    fn width(&self) -> usize {
        if self.large { 4 } else { 2 }
    }

    #[inline]
    fn key_entry(&self) -> usize {
        if self.object { self.width() + 2 } else { 0 }
    }

    /// The number of the container's width at an offset.
    #[inline]
    fn number(&self, at: usize) -> Result<usize, Wrong> {
        let bytes = self.bytes.get(at..).ok_or(TRUNCATED)?;
        let number = match self.large {
            true => bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize),
            false => bytes.first_chunk().map(|bytes| usize::from(u16::from_le_bytes(*bytes))),
        };
        number.ok_or(TRUNCATED)
    }

    pub(super) fn is_object(&self) -> bool {
        self.object
    }

    /// The name of an object's member, below `count`.
    pub(super) fn key(&self, index: usize, budget: &mut Budget) -> Result<&'b str, Wrong> {
        let at = 2 * self.width() + index * self.key_entry();
        let offset = self.number(at)?;
        let length = self.bytes.get(at + self.width()..).and_then(<[u8]>::first_chunk).ok_or(TRUNCATED)?;
        let length = usize::from(u16::from_le_bytes(*length));
        budget.spend(length)?;
        text(self.bytes.get(offset..).and_then(|bytes| bytes.get(..length)).ok_or(TRUNCATED)?)
    }

    /// An element or a member's value, below `count`.
    pub(super) fn item(&self, index: usize, budget: &mut Budget) -> Result<Item<'b>, Wrong> {
        let at = 2 * self.width() + self.count * self.key_entry() + index * (1 + self.width());
        let &kind = self.bytes.get(at).ok_or(TRUNCATED)?;
        let slot = self.number(at + 1)?;
        Ok(match kind {
            4 => literal(slot as u32)?,
            5 => Item::Int((slot as u16 as i16).into()),
            6 => Item::UInt((slot as u16).into()),
            7 if self.large => Item::Int((slot as u32 as i32).into()),
            8 if self.large => Item::UInt((slot as u32).into()),
            _ => return value_at(kind, self.bytes.get(slot..).ok_or(TRUNCATED)?, budget),
        })
    }
}
