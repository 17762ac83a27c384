//! A value as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::time;
use crate::encode::hex;
use crate::print::{quoted, signed, unsigned};
use crate::record::{Array, ArrayEvent, Value, ValueError};

#[inline]
pub(super) fn value(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), Box<ValueError>> {
    // The most frequent ones stand where the value is read.
    match *value {
        Value::Int(number) => signed(number, out),
        Value::UInt(number) => unsigned(number, out),
        Value::Decimal(text) | Value::Uuid(text) | Value::Text(text) => quoted(text, out),
        Value::Json(document) => json(document, out),
        Value::Timestamp(timestamp) => time::timestamp(timestamp, false, out),
        Value::TimestampTz(timestamp) => time::timestamp(timestamp, true, out),
        _ => return other(value, out),
    }
    Ok(())
}

fn other(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), Box<ValueError>> {
    match *value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::F32(number) if number.is_finite() => {
            out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
        }
        Value::F64(number) if number.is_finite() => {
            out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
        }
        Value::F32(number) => not_finite(number.into(), out),
        Value::F64(number) => not_finite(number, out),
        Value::Date(date) => time::date(date, out),
        Value::Infinity { negative } => quoted(if negative { "-infinity" } else { "infinity" }, out),
        Value::Bytes(bytes) => base64(bytes, out),
        Value::Hex(digits) => return hexadecimal(digits, out),
        Value::Array(elements) => return array(&elements, out),
        Value::Unchanged | Value::Missing => return Err(Box::new(ValueError::new("a value that was sent", b""))),
        Value::Int(_)
        | Value::UInt(_)
        | Value::Decimal(_)
        | Value::Uuid(_)
        | Value::Text(_)
        | Value::Json(_)
        | Value::Timestamp(_)
        | Value::TimestampTz(_) => return self::value(value, out),
    }
    Ok(())
}

#[cold]
fn not_finite(number: f64, out: &mut Vec<u8>) {
    let text = match number {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    };
    quoted(text, out);
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

fn hexadecimal(digits: &[u8], out: &mut Vec<u8>) -> Result<(), Box<ValueError>> {
    let wrong = || Box::new(ValueError::new("pairs of hexadecimal digits", digits));
    out.reserve(digits.len().div_ceil(6) * 4 + 2);
    out.push(b'"');
    for part in digits.chunks(2 * PART_BYTES) {
        let mut bytes = [0; PART_BYTES];
        let bytes = &mut bytes[..part.len() / 2];
        if !hex::read(part, bytes) {
            return Err(wrong());
        }
        base64_part(bytes, out);
    }
    out.push(b'"');
    Ok(())
}

fn base64_part(part: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    let room = part.len().div_ceil(3) * 4;
    out.resize(at + room, b'=');
    let written = STANDARD.encode_slice(part, &mut out[at..]);
    debug_assert_eq!(written.ok(), Some(room));
}

fn array(elements: &Array<'_>, out: &mut Vec<u8>) -> Result<(), Box<ValueError>> {
    // Behind an opening bracket nothing separates; behind anything else a comma does.
    let mut first = true;
    let walked = elements.walk(&mut |event| {
        if !first && !matches!(event, ArrayEvent::Close) {
            out.push(b',');
        }
        first = matches!(event, ArrayEvent::Open);
        match event {
            ArrayEvent::Open => out.push(b'['),
            ArrayEvent::Close => out.push(b']'),
            ArrayEvent::Element(element) => value(&element, out).map_err(|cause| *cause)?,
        }
        Ok(())
    });
    walked.map_err(Box::new)
}
