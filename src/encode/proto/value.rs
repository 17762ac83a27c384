//! A value as a `Value` of a `Row` or an `Array`: the field and its message at once.
//!
//! Invariants:
//! - A value is exact: what its type's form cannot hold is the text that the database prints.
//! - Text and JSON are UTF-8, as protobuf demands of strings.

use std::io::Write as _;

use super::wire::{FIXED32, FIXED64, Guess, LENGTH, Nest, VARINT, key, put_varint, varint, varint_bytes, zigzag};
use crate::encode::hex;
use crate::proto::v1::Special;
use crate::record::{Array, ArrayEvent, Cell, Date, DateTime, Time, Value, ValueError, days_from_civil};

/// `Row.values` and `Array.elements` have one number, so that one function writes both.
pub(super) const VALUE_KEY: u8 = key(1, LENGTH);

const SPECIAL: u8 = key(1, VARINT);
const BOOLEAN: u8 = key(2, VARINT);
const INTEGER: u8 = key(3, VARINT);
const UNSIGNED: u8 = key(4, VARINT);
const FLOAT32: u8 = key(5, FIXED32);
const FLOAT64: u8 = key(6, FIXED64);
const DECIMAL: u8 = key(7, LENGTH);
const TEXT: u8 = key(8, LENGTH);
const BYTES: u8 = key(9, LENGTH);
const DATE: u8 = key(10, VARINT);
const TIMESTAMP: u8 = key(11, FIXED64);
const TIMESTAMPTZ: u8 = key(12, FIXED64);
const UUID: u8 = key(13, LENGTH);
const JSON: u8 = key(14, LENGTH);
const ARRAY: u8 = key(15, LENGTH);

/// Why a value is not written.
#[derive(Debug)]
pub(super) enum Unwritten {
    Wrong(ValueError),
    /// It alone is larger than a message may be.
    TooLarge,
}

impl From<ValueError> for Unwritten {
    fn from(error: ValueError) -> Self {
        Unwritten::Wrong(error)
    }
}

/// A cell that holds no value.
#[inline]
pub(super) fn absent(cell: Cell, out: &mut Vec<u8>) {
    special(
        match cell {
            Cell::NULL => Special::Null,
            Cell::UNCHANGED => Special::Unchanged,
            _ => Special::Missing,
        },
        out,
    );
}

/// `limit`: bytes that no single value may exceed.
#[inline]
pub(super) fn value(value: &Value<'_>, limit: usize, out: &mut Vec<u8>) -> Result<(), Unwritten> {
    match *value {
        Value::Int(number) => small(INTEGER, zigzag(number), out),
        Value::UInt(number) => small(UNSIGNED, number, out),
        Value::Text(text) => return long(TEXT, text.as_bytes(), limit, out),
        Value::Decimal(text) => return long(DECIMAL, text.as_bytes(), limit, out),
        Value::Timestamp(timestamp) => return date_time(TIMESTAMP, timestamp, out),
        Value::TimestampTz(timestamp) => return date_time(TIMESTAMPTZ, timestamp, out),
        Value::Json(document) => {
            // Sources have checked it; a string that is not UTF-8 would make the whole message unreadable.
            if std::str::from_utf8(document).is_err() {
                return Err(ValueError::new("a JSON document in UTF-8", document).into());
            }
            return long(JSON, document, limit, out);
        }
        Value::Null => special(Special::Null, out),
        Value::Unchanged => special(Special::Unchanged, out),
        Value::Missing => special(Special::Missing, out),
        Value::Infinity { negative: false } => special(Special::Infinity, out),
        Value::Infinity { negative: true } => special(Special::NegativeInfinity, out),
        Value::Bool(truth) => out.extend_from_slice(&[VALUE_KEY, 2, BOOLEAN, truth.into()]),
        Value::F32(number) => {
            let [a, b, c, d] = number.to_le_bytes();
            out.extend_from_slice(&[VALUE_KEY, 5, FLOAT32, a, b, c, d]);
        }
        Value::F64(number) => fixed64(FLOAT64, number.to_le_bytes(), out),
        Value::Date(date) => match days(date) {
            Some(days) => small(DATE, zigzag(days.into()), out),
            None => return printed(date, None, "", out),
        },
        Value::Uuid(text) => {
            let mut bytes = [0; 16];
            if !uuid(text.as_bytes(), &mut bytes) {
                return Err(ValueError::new("a UUID", text.as_bytes()).into());
            }
            out.extend_from_slice(&[VALUE_KEY, 18, UUID, 16]);
            out.extend_from_slice(&bytes);
        }
        Value::Bytes(bytes) => return long(BYTES, bytes, limit, out),
        Value::Hex(digits) => return hexadecimal(digits, limit, out),
        Value::Array(elements) => return array(&elements, limit, out),
    }
    Ok(())
}

#[inline]
fn special(special: Special, out: &mut Vec<u8>) {
    out.extend_from_slice(&[VALUE_KEY, 2, SPECIAL, special as u8]);
}

/// A varint.
#[inline]
fn small(kind: u8, number: u64, out: &mut Vec<u8>) {
    // Copied whole and cut: a copy of a length that the compiler knows is two instructions.
    let mut room = [0; 16];
    let length = put_varint(number, &mut room[3..]);
    (room[0], room[1], room[2]) = (VALUE_KEY, 1 + length as u8, kind);
    let end = out.len() + 3 + length;
    out.extend_from_slice(&room);
    out.truncate(end);
}

#[inline]
fn fixed64(kind: u8, bytes: [u8; 8], out: &mut Vec<u8>) {
    let [a, b, c, d, e, f, g, h] = bytes;
    out.extend_from_slice(&[VALUE_KEY, 9, kind, a, b, c, d, e, f, g, h]);
}

#[inline]
fn long(kind: u8, bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Unwritten> {
    head(kind, bytes.len(), limit, out)?;
    out.extend_from_slice(bytes);
    Ok(())
}

/// What stands before the bytes of a string or of bytes.
#[inline]
fn head(kind: u8, length: usize, limit: usize, out: &mut Vec<u8>) -> Result<(), Unwritten> {
    // Both lengths fit one byte.
    if length <= 125 {
        out.reserve(4 + length);
        out.extend_from_slice(&[VALUE_KEY, length as u8 + 2, kind, length as u8]);
        return Ok(());
    }
    if length > limit {
        return Err(Unwritten::TooLarge);
    }
    // Two keys and two lengths of at most 5 bytes.
    out.reserve(12 + length);
    out.push(VALUE_KEY);
    varint((1 + varint_bytes(length as u64) + length) as u64, out);
    out.push(kind);
    varint(length as u64, out);
    Ok(())
}

fn hexadecimal(digits: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Unwritten> {
    let length = digits.len() / 2;
    head(BYTES, length, limit, out)?;
    let start = out.len();
    out.resize(start + length, 0);
    if !hex::read(digits, &mut out[start..]) {
        return Err(ValueError::new("pairs of hexadecimal digits", digits).into());
    }
    Ok(())
}

fn uuid(text: &[u8], bytes: &mut [u8; 16]) -> bool {
    // 8-4-4-4-12 digits.
    if text.len() != 36 || [8, 13, 18, 23].iter().any(|&dash| text[dash] != b'-') {
        return false;
    }
    let mut digits = [0; 32];
    digits[..8].copy_from_slice(&text[..8]);
    digits[8..12].copy_from_slice(&text[9..13]);
    digits[12..16].copy_from_slice(&text[14..18]);
    digits[16..20].copy_from_slice(&text[19..23]);
    digits[20..].copy_from_slice(&text[24..]);
    hex::read(&digits, bytes)
}

/// Days since 1970-01-01; none for what is no date of the calendar or further away than 32 bits of days.
fn days(date: Date) -> Option<i32> {
    if date.month == 0 || date.day == 0 {
        return None;
    }
    days_from_civil(date).try_into().ok()
}

#[inline]
fn date_time(kind: u8, value: DateTime, out: &mut Vec<u8>) -> Result<(), Unwritten> {
    let DateTime { date, time } = value;
    let micros = if date.month == 0 || date.day == 0 { None } else { value.to_unix_micros() };
    match micros {
        Some(micros) => fixed64(kind, micros.to_le_bytes(), out),
        None => return printed(date, Some(time), if kind == TIMESTAMPTZ { "+00" } else { "" }, out),
    }
    Ok(())
}

/// Dates and timestamps that no number holds, as the databases print them: `294276-12-31 23:59:59.5+00`.
#[cold]
fn printed(date: Date, time: Option<Time>, zone: &str, out: &mut Vec<u8>) -> Result<(), Unwritten> {
    // The longest: year of 10 digits, 6 of a fraction, zone and era.
    let mut text = Vec::with_capacity(48);
    let Date { year, month, day } = date;
    // Year 0 is 1 BC; a partial date has its year as it stands.
    let partial = month == 0 || day == 0;
    let bc = year <= 0 && !partial;
    let of_era = if bc { year.unsigned_abs() + 1 } else { year.unsigned_abs() };
    // Writing to a vector cannot fail.
    let _ = write!(text, "{of_era:04}-{month:02}-{day:02}");
    if let Some(Time { hour, minute, second, micros }) = time {
        let _ = write!(text, " {hour:02}:{minute:02}:{second:02}");
        if micros != 0 {
            let _ = write!(text, ".{micros:06}");
            text.truncate(text.len() - text.iter().rev().take_while(|&&byte| byte == b'0').count());
        }
        text.extend_from_slice(zone.as_bytes());
    }
    if bc {
        text.extend_from_slice(b" BC");
    }
    long(TEXT, &text, usize::MAX, out)
}

/// Arrays nest as deep as the source's walk allows.
fn array(elements: &Array<'_>, limit: usize, out: &mut Vec<u8>) -> Result<(), Unwritten> {
    // The value around each open array, and the array in it.
    let mut open: Vec<(Nest, Nest)> = Vec::new();
    let (mut outer, mut inner) = (Guess::default(), Guess::default());
    let (start, mut too_large) = (out.len(), false);
    let unbalanced = || ValueError::new("an array of balanced brackets", elements.bytes);
    let mut ended = false;
    let walked = elements.walk(&mut |event| {
        if ended || open.is_empty() && !matches!(event, ArrayEvent::Open) {
            return Err(unbalanced());
        }
        match event {
            ArrayEvent::Open => {
                let around = Nest::open(VALUE_KEY, outer, out);
                open.push((around, Nest::open(ARRAY, inner, out)));
            }
            ArrayEvent::Close => {
                let (around, array) = open.pop().ok_or_else(unbalanced)?;
                array.close(&mut inner, out);
                around.close(&mut outer, out);
                ended = open.is_empty();
            }
            ArrayEvent::Element(element) => match value(&element, limit, out) {
                Ok(()) if out.len() - start <= limit => {}
                Ok(()) | Err(Unwritten::TooLarge) => {
                    too_large = true;
                    return Err(ValueError::new("an array that fits a message", b""));
                }
                Err(Unwritten::Wrong(wrong)) => return Err(wrong),
            },
        }
        Ok(())
    });
    if too_large {
        return Err(Unwritten::TooLarge);
    }
    walked?;
    if ended { Ok(()) } else { Err(unbalanced().into()) }
}
