//! A value as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::escape::string;
use super::time;
use crate::record::{Array, ArrayEvent, Value, ValueError};

#[inline]
pub(super) fn value(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), ValueError> {
    match *value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        Value::UInt(number) => unsigned(number, out),
        Value::F32(number) if number.is_finite() => {
            out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
        }
        Value::F64(number) if number.is_finite() => {
            out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
        }
        Value::F32(number) => not_finite(number.into(), out),
        Value::F64(number) => not_finite(number, out),
        // Digits, letters, signs and points: nothing to escape.
        Value::Decimal(text) | Value::Uuid(text) => quoted(text.as_bytes(), out),
        Value::Text(text) => string(text.as_bytes(), out),
        Value::Json(document) => json(document, out),
        Value::Date(date) => time::date(date, out),
        Value::Timestamp(timestamp) => time::timestamp(timestamp, b"", out),
        Value::TimestampTz(timestamp) => time::timestamp(timestamp, b"Z", out),
        Value::Infinity { negative } => quoted(if negative { b"-infinity" } else { b"infinity" }, out),
        Value::Bytes(bytes) => base64(bytes, out),
        Value::Hex(digits) => return hex(digits, out),
        Value::Array(elements) => return array(&elements, out),
        Value::Unchanged | Value::Missing => return Err(ValueError::new("a value that was sent", b"")),
    }
    Ok(())
}

#[inline]
pub(super) fn unsigned(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cold]
fn not_finite(number: f64, out: &mut Vec<u8>) {
    let text: &[u8] = match number {
        f64::INFINITY => b"Infinity",
        f64::NEG_INFINITY => b"-Infinity",
        _ => b"NaN",
    };
    quoted(text, out);
}

#[inline]
fn quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

/// Raw line breaks are legal only between tokens, where a space means the same.
#[inline]
fn json(document: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(document);
    for found in memchr::memchr2_iter(b'\n', b'\r', document) {
        out[start + found] = b' ';
    }
}

/// Input bytes encoded at a time: a multiple of 3, so that only the last part is padded; its output fits the stack.
const PART_BYTES: usize = 3 * 512;

pub(super) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(3) * 4 + 2);
    out.push(b'"');
    bytes.chunks(PART_BYTES).for_each(|part| base64_part(part, out));
    out.push(b'"');
}

fn hex(digits: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let wrong = || ValueError::new("pairs of hexadecimal digits", digits);
    out.reserve(digits.len().div_ceil(6) * 4 + 2);
    out.push(b'"');
    for part in digits.chunks(2 * PART_BYTES) {
        let mut bytes = [0; PART_BYTES];
        let (pairs, odd) = part.as_chunks::<2>();
        let mut invalid = !odd.is_empty();
        for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
            let (high, low) = (NIBBLES[usize::from(high)], NIBBLES[usize::from(low)]);
            invalid |= (high | low) > 15;
            *byte = high << 4 | low;
        }
        if invalid {
            return Err(wrong());
        }
        base64_part(&bytes[..pairs.len()], out);
    }
    out.push(b'"');
    Ok(())
}

/// The value of a hexadecimal digit, 255 for any other byte.
static NIBBLES: [u8; 256] = {
    let mut nibbles = [255; 256];
    let mut value = 0;
    while value < 16 {
        nibbles[b"0123456789abcdef"[value] as usize] = value as u8;
        nibbles[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    nibbles
};

fn base64_part(part: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    let room = part.len().div_ceil(3) * 4;
    out.resize(at + room, b'=');
    let written = STANDARD.encode_slice(part, &mut out[at..]);
    debug_assert_eq!(written.ok(), Some(room));
}

fn array(elements: &Array<'_>, out: &mut Vec<u8>) -> Result<(), ValueError> {
    // Behind an opening bracket nothing separates; behind anything else a comma does.
    let mut first = true;
    elements.walk(&mut |event| {
        if !first && !matches!(event, ArrayEvent::Close) {
            out.push(b',');
        }
        first = matches!(event, ArrayEvent::Open);
        match event {
            ArrayEvent::Open => out.push(b'['),
            ArrayEvent::Close => out.push(b']'),
            ArrayEvent::Element(element) => value(&element, out)?,
        }
        Ok(())
    })
}
