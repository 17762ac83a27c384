//! DECIMAL, packed.
//!
//! The grammar (MySQL source docs, "decimal.cc: decimal2bin"): nine digits are a big-endian number of 4 bytes; the digits
//! before the point are grouped from the point to the left, those behind it to the right, so that the outermost groups may
//! be shorter, in as few bytes as hold them. The first bit is inverted; in a negative number all other bits are too.

use super::number::wrong;
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
    let mut groups = Groups { bytes, at: 0, mask: if negative { 0xFF } else { 0 } };
    let mut started = false;
    let mut whole_group = |digits: usize, groups: &mut Groups<'_>, out: &mut Vec<u8>| {
        let number = groups.next(digits)?;
        if started {
            padded(number, digits, out);
        } else if number != 0 {
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            started = true;
        }
        Some(())
    };
    if !whole.is_multiple_of(GROUP) {
        whole_group(whole % GROUP, &mut groups, out)?;
    }
    for _ in 0..whole / GROUP {
        whole_group(GROUP, &mut groups, out)?;
    }
    if !started {
        out.push(b'0');
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

struct Groups<'b> {
    bytes: &'b [u8],
    at: usize,
    mask: u8,
}

impl Groups<'_> {
    /// The next group; None where it has more digits than it may.
    #[inline]
    fn next(&mut self, digits: usize) -> Option<u32> {
        const LIMITS: [u32; 10] =
            [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];
        let mut number = 0;
        for &byte in self.bytes.get(self.at..self.at + GROUP_BYTES[digits])? {
            let sign = if self.at == 0 { 0x80 } else { 0 };
            number = number << 8 | u32::from(byte ^ self.mask ^ sign);
            self.at += 1;
        }
        (number < LIMITS[digits]).then_some(number)
    }
}

#[inline]
fn padded(mut number: u32, digits: usize, out: &mut Vec<u8>) {
    let mut text = [b'0'; GROUP];
    for digit in text[..digits].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&text[..digits]);
}
