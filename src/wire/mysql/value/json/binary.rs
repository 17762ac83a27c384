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

use std::slice::ChunksExact;

use super::{TRUNCATED, Wrong};

/// Any value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'b> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    /// In UTF-8, which nobody has looked at yet.
    Text(&'b [u8]),
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
    pub(super) large: bool,
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
#[inline]
fn value_at<'b>(kind: u8, bytes: &'b [u8], budget: &mut Budget) -> Result<Item<'b>, Wrong> {
    #[inline]
    fn first<const N: usize>(bytes: &[u8], budget: &mut Budget) -> Result<[u8; N], Wrong> {
        budget.spend(N)?;
        bytes.first_chunk().copied().ok_or(TRUNCATED)
    }
    Ok(match kind {
        0..=3 => {
            let container = Container::of_kind(kind, bytes, budget)?;
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
        12 => Item::Text(counted(bytes, budget)?),
        15 => {
            let (&column_type, rest) = bytes.split_first().ok_or(TRUNCATED)?;
            budget.spend(1)?;
            Item::Opaque(column_type, counted(rest, budget)?)
        }
        _ => return Err(Wrong("a type of JSON value")),
    })
}

#[inline]
pub(super) fn int32(bytes: &[u8], budget: &mut Budget) -> Result<i32, Wrong> {
    budget.spend(4)?;
    bytes.first_chunk().map(|bytes| i32::from_le_bytes(*bytes)).ok_or(TRUNCATED)
}

#[inline]
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
#[inline]
pub(super) fn counted<'b>(bytes: &'b [u8], budget: &mut Budget) -> Result<&'b [u8], Wrong> {
    match bytes.split_first() {
        Some((&length, rest)) if length < 0x80 => {
            let counted = rest.get(..length.into()).ok_or(TRUNCATED)?;
            budget.spend(1 + counted.len())?;
            Ok(counted)
        }
        _ => counted_long(bytes, budget),
    }
}

fn counted_long<'b>(bytes: &'b [u8], budget: &mut Budget) -> Result<&'b [u8], Wrong> {
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
    /// By its type, 0 to 3.
    #[inline]
    pub(super) fn of_kind(kind: u8, bytes: &'b [u8], budget: &mut Budget) -> Result<Self, Wrong> {
        let (large, object) = (kind & 1 != 0, kind < 2);
        let mut container = Container { bytes, count: 0, large, object };
        let (count, size) = (container.number(0)?, container.number(container.width())?);
        container.bytes = bytes.get(..size).ok_or(TRUNCATED)?;
        container.count = count;
        // Both factors have 32 bits and are small.
        let entries = 2 * container.width() + count * (container.key_entry() + container.value_entry());
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

    #[inline]
    fn value_entry(&self) -> usize {
        1 + self.width()
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

    /// The entries, where the numbers have `WIDTH` bytes: 4 in a large container, 2 in a small one.
    #[inline]
    pub(super) fn entries<const WIDTH: usize>(&self) -> Result<Entries<'b, WIDTH>, Wrong> {
        debug_assert_eq!(WIDTH, self.width());
        let entries = self.bytes.get(2 * WIDTH..).ok_or(TRUNCATED)?;
        let (keys, rest) = entries.split_at_checked(self.count * self.key_entry()).ok_or(TRUNCATED)?;
        let values = rest.get(..self.count * self.value_entry()).ok_or(TRUNCATED)?;
        Ok(Entries { bytes: self.bytes, keys: keys.chunks_exact(WIDTH + 2), values: values.chunks_exact(WIDTH + 1) })
    }

    /// Its values in their order, an object's with their names.
    pub(super) fn each(
        self,
        budget: &mut Budget,
        mut each: impl FnMut(&'b str, Item<'b>) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        match self.large {
            false => self.entries::<2>()?.each(budget, &mut each),
            true => self.entries::<4>()?.each(budget, &mut each),
        }
    }
}

/// Entries of a container that are still to come.
pub(super) struct Entries<'b, const WIDTH: usize> {
    /// The container, from its count on.
    bytes: &'b [u8],
    /// None of an array.
    keys: ChunksExact<'b, u8>,
    values: ChunksExact<'b, u8>,
}

/// A value of a container.
pub(super) struct Entry<'b> {
    /// In UTF-8, which nobody has looked at yet; none in an array.
    pub(super) key: Option<&'b [u8]>,
    pub(super) kind: u8,
    /// The value itself or its offset.
    pub(super) slot: usize,
}

impl<'b, const WIDTH: usize> Entries<'b, WIDTH> {
    fn each(
        mut self,
        budget: &mut Budget,
        each: &mut impl FnMut(&'b str, Item<'b>) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        while let Some(Entry { key, kind, slot }) = self.next(budget)? {
            let item = self.item(kind, slot, budget)?;
            each(text(key.unwrap_or_default())?, item)?;
        }
        Ok(())
    }

    // In its one loop that is hot, this is where the time goes.
    #[inline(always)]
    pub(super) fn next(&mut self, budget: &mut Budget) -> Result<Option<Entry<'b>>, Wrong> {
        let Some(value) = self.values.next() else { return Ok(None) };
        let key = match self.keys.next() {
            None => None,
            Some(entry) => {
                let offset = Self::number(entry)?;
                let length = entry[WIDTH..].first_chunk().map(|length| usize::from(u16::from_le_bytes(*length)));
                let key = self.there(offset)?.get(..length.ok_or(TRUNCATED)?).ok_or(TRUNCATED)?;
                budget.spend(key.len())?;
                Some(key)
            }
        };
        Ok(Some(Entry { key, kind: value[0], slot: Self::number(&value[1..])? }))
    }

    #[inline]
    fn number(bytes: &[u8]) -> Result<usize, Wrong> {
        let number = match WIDTH {
            2 => bytes.first_chunk().map(|bytes| usize::from(u16::from_le_bytes(*bytes))),
            _ => bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize),
        };
        number.ok_or(TRUNCATED)
    }

    /// What begins with a value that does not stand in its slot.
    #[inline]
    pub(super) fn there(&self, slot: usize) -> Result<&'b [u8], Wrong> {
        self.bytes.get(slot..).ok_or(TRUNCATED)
    }

    #[inline]
    pub(super) fn item(&self, kind: u8, slot: usize, budget: &mut Budget) -> Result<Item<'b>, Wrong> {
        Ok(match kind {
            4 => literal(slot as u32)?,
            5 => Item::Int((slot as u16 as i16).into()),
            6 => Item::UInt((slot as u16).into()),
            7 if WIDTH == 4 => Item::Int((slot as u32 as i32).into()),
            8 if WIDTH == 4 => Item::UInt((slot as u32).into()),
            _ => value_at(kind, self.there(slot)?, budget)?,
        })
    }
}
