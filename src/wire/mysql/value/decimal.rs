//! DECIMAL, packed.
//!
//! The grammar (MySQL source docs, "decimal.cc: decimal2bin"): nine digits are a big-endian number of 4 bytes; the digits
//! before the point are grouped from the point to the left, those behind it to the right, so that the outermost groups may
//! be shorter, in as few bytes as hold them. The first bit is inverted; in a negative number all other bits are too.

use super::number::wrong;
use crate::print::{padded, unsigned};
use crate::record::{Form, Value, ValueError};

/// Bytes of a group of so many digits.
const GROUP_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
/// Digits of a full group.
const GROUP: usize = 9;
/// The server's DECIMAL_MAX_PRECISION.
const MAX_PRECISION: usize = 65;

/// Precision and scale of a layout; None where no server has such a type.
#[inline]
fn digits(layout: u32) -> Option<(usize, usize)> {
    let (precision, scale) = ((layout >> 8) as usize, (layout & 0xFF) as usize);
    (precision <= MAX_PRECISION && scale <= precision).then(|| (precision - scale, scale))
}

/// How many bytes a DECIMAL takes; 0 for a precision and scale that no server has.
pub fn decimal_bytes(precision: u8, scale: u8) -> usize {
    digits(u32::from(precision) << 8 | u32::from(scale)).map_or(0, |(whole, fraction)| packed(whole) + packed(fraction))
}

#[inline]
fn packed(digits: usize) -> usize {
    digits / GROUP * 4 + GROUP_BYTES[digits % GROUP]
}

/// All digits behind the point, none too many before it: `-0.50`.
pub fn decimal<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let out = form.scratch.clear();
    match digits(form.layout).and_then(|(whole, fraction)| write(bytes, whole, fraction, out)) {
        Some(()) => Ok(Value::Decimal(std::str::from_utf8(out).map_err(|_| wrong("a packed DECIMAL", bytes))?)),
        None => Err(wrong("a packed DECIMAL", bytes)),
    }
}

/// A number with its precision and scale in front, as JSON has it.
pub(super) fn tagged(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let [precision, scale, packed @ ..] = bytes else { return None };
    let (whole, fraction) = digits(u32::from(*precision) << 8 | u32::from(*scale))?;
    write(packed, whole, fraction, out)
}

/// Appends the number; None where the bytes are not one.
#[inline]
fn write(bytes: &[u8], whole: usize, fraction: usize, out: &mut Vec<u8>) -> Option<()> {
    if bytes.is_empty() || bytes.len() != packed(whole) + packed(fraction) {
        return None;
    }
    let negative = bytes[0] & 0x80 == 0;
    if negative {
        out.push(b'-');
    }
    let mut groups = Groups { bytes, negative, first: true };
    // What two groups hold is one number.
    if whole <= 2 * GROUP {
        let mut number = 0;
        if !whole.is_multiple_of(GROUP) {
            number = groups.next(whole % GROUP)?.into();
        }
        for _ in 0..whole / GROUP {
            number = number * 1_000_000_000 + u64::from(groups.next(GROUP)?);
        }
        unsigned(number, out);
    } else {
        write_long(whole, &mut groups, out)?;
    }
    if fraction > 0 {
        out.push(b'.');
        for _ in 0..fraction / GROUP {
            padded(groups.next(GROUP)?, GROUP, out);
        }
        if !fraction.is_multiple_of(GROUP) {
            padded(groups.next(fraction % GROUP)?, fraction % GROUP, out);
        }
    }
    Some(())
}

/// Appends the digits before the point, none too many.
fn write_long(whole: usize, groups: &mut Groups<'_>, out: &mut Vec<u8>) -> Option<()> {
    let mut started = false;
    let mut group = |digits: usize| {
        let number = groups.next(digits)?;
        if started {
            padded(number, digits, out);
        } else if number != 0 {
            unsigned(number.into(), out);
            started = true;
        }
        Some(())
    };
    if !whole.is_multiple_of(GROUP) {
        group(whole % GROUP)?;
    }
    for _ in 0..whole / GROUP {
        group(GROUP)?;
    }
    if !started {
        out.push(b'0');
    }
    Some(())
}

struct Groups<'b> {
    /// Those not read yet.
    bytes: &'b [u8],
    /// Whether all bits are inverted.
    negative: bool,
    /// Whether the first bit, which is inverted besides, is still to come.
    first: bool,
}

impl Groups<'_> {
    /// The next group; None where it has more digits than it may.
    #[inline]
    fn next(&mut self, digits: usize) -> Option<u32> {
        const LIMITS: [u32; 10] =
            [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];
        let (group, rest) = self.bytes.split_at_checked(GROUP_BYTES[digits])?;
        self.bytes = rest;
        let (mut number, all_bits, first_bit) = match *group {
            [a] => (a.into(), 0xFF, 0x80),
            [a, b] => (u16::from_be_bytes([a, b]).into(), 0xFFFF, 0x8000),
            [a, b, c] => (u32::from_be_bytes([0, a, b, c]), 0xFF_FFFF, 0x80_0000),
            [a, b, c, d] => (u32::from_be_bytes([a, b, c, d]), u32::MAX, 1 << 31),
            _ => return None,
        };
        if self.negative {
            number ^= all_bits;
        }
        if self.first {
            number ^= first_bit;
            self.first = false;
        }
        (number < LIMITS[digits]).then_some(number)
    }
}
