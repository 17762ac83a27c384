//! From Postgres' text output to values, one function a type.
//!
//! Invariants:
//! - The session has pinned what the output depends on: DateStyle ISO, IntervalStyle postgres, TimeZone UTC,
//!   extra_float_digits 1, bytea_output hex, client_encoding UTF8.
//! - A value is exact or an error: no digit is rounded, nothing is guessed from a form the server does not print.
//! - Nothing is allocated.
//! - A type without an entry in [`scalar`] is `Text`, its own printed form: nothing needs to know it.

mod time;

use super::array;
use crate::record::{ArrayType, DataType, Decode, Form, Value, ValueError};

/// How a built-in type's values are read; any other type is `Text`. Arrays, enums and domains are the catalog's to
/// recognise: see [`array_of`] and [`enum_of`]; a domain is its base type.
///
/// The numbers are those of `pg_type.dat`, the same in every version.
pub fn scalar(type_oid: u32) -> (DataType, Decode) {
    const fn signed(bits: u8) -> DataType {
        DataType::Int { bits, unsigned: false }
    }
    match type_oid {
        16 => (DataType::Bool, boolean),
        17 => (DataType::Bytes, bytea),
        20 => (signed(64), int8),
        21 => (signed(16), int2),
        23 => (signed(32), int4),
        26 => (DataType::Int { bits: 32, unsigned: true }, oid),
        114 | 3802 => (DataType::Json, json),
        700 => (DataType::Float { bits: 32 }, float4),
        701 => (DataType::Float { bits: 64 }, float8),
        1082 => (DataType::Date, time::date),
        1114 => (DataType::Timestamp, time::timestamp),
        1184 => (DataType::TimestampTz, time::timestamptz),
        1700 => (DataType::Decimal, numeric),
        2950 => (DataType::Uuid, uuid),
        _ => (DataType::Text, text),
    }
}

/// Whether a column of this type, as [`scalar`] and [`enum_of`] have it, is text as the wire has it.
pub fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Text | DataType::Enum(_))
}

/// An enum with its labels in their order; a value is its label.
pub fn enum_of(labels: Box<[Box<str>]>) -> (DataType, Decode) {
    (DataType::Enum(labels), text)
}

/// An array of elements of any type, of any number of dimensions; `delimiter` is the element type's `typdelim`.
///
/// A value is an `Array`, or its printed form as `Text` where a lower bound is not 1 (`[0:1]={1,2}`): a list of elements
/// would lose the bounds.
pub fn array_of(element: DataType, decode: Decode, delimiter: u8) -> (DataType, Decode) {
    (DataType::Array(Box::new(ArrayType { element, decode, layout: 0, walk: array::walk, delimiter })), array::array)
}

fn boolean<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    match bytes {
        b"t" => Ok(Value::Bool(true)),
        b"f" => Ok(Value::Bool(false)),
        _ => Err(ValueError::new("t or f", bytes)),
    }
}

fn int2<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    match integer(bytes).and_then(|value| i16::try_from(value).ok()) {
        Some(value) => Ok(Value::Int(value.into())),
        None => Err(ValueError::new("an integer of 16 bits", bytes)),
    }
}

fn int4<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    match integer(bytes).and_then(|value| i32::try_from(value).ok()) {
        Some(value) => Ok(Value::Int(value.into())),
        None => Err(ValueError::new("an integer of 32 bits", bytes)),
    }
}

fn int8<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    match integer(bytes) {
        Some(value) => Ok(Value::Int(value)),
        None => Err(ValueError::new("an integer of 64 bits", bytes)),
    }
}

fn oid<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    match digits(bytes).and_then(|value| u32::try_from(value).ok()) {
        Some(value) => Ok(Value::UInt(value.into())),
        None => Err(ValueError::new("an unsigned integer of 32 bits", bytes)),
    }
}

#[inline]
fn integer(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [b'-', magnitude @ ..] => 0_i64.checked_sub_unsigned(digits(magnitude)?),
        magnitude => i64::try_from(digits(magnitude)?).ok(),
    }
}

/// An unsigned number of 1 to 19 digits: no such number overflows a `u64`, and no integer type prints more.
#[inline]
fn digits(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 19 {
        return None;
    }
    let mut value = 0_u64;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some(value)
}

fn float4<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    let value = match bytes {
        b"NaN" => Some(f32::NAN),
        b"Infinity" => Some(f32::INFINITY),
        b"-Infinity" => Some(f32::NEG_INFINITY),
        _ => finite_text(bytes).and_then(|text| text.parse().ok()).filter(|value: &f32| value.is_finite()),
    };
    value.map(Value::F32).ok_or_else(|| ValueError::new("a float of 32 bits", bytes))
}

fn float8<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    let value = match bytes {
        b"NaN" => Some(f64::NAN),
        b"Infinity" => Some(f64::INFINITY),
        b"-Infinity" => Some(f64::NEG_INFINITY),
        _ => finite_text(bytes).and_then(|text| text.parse().ok()).filter(|value: &f64| value.is_finite()),
    };
    value.map(Value::F64).ok_or_else(|| ValueError::new("a float of 64 bits", bytes))
}

/// The text of a number that begins as the server prints one: without a plus, a bare point or a word.
#[inline]
fn finite_text(bytes: &[u8]) -> Option<&str> {
    match bytes {
        [b'0'..=b'9', ..] | [b'-', b'0'..=b'9', ..] => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

fn numeric<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    let unsigned = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let whole = unsigned.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let valid = match &unsigned[whole..] {
        [] => whole > 0,
        [b'.', fraction @ ..] => whole > 0 && !fraction.is_empty() && fraction.iter().all(u8::is_ascii_digit),
        b"Infinity" => whole == 0,
        b"NaN" => whole == 0 && unsigned.len() == bytes.len(),
        _ => false,
    };
    match std::str::from_utf8(bytes) {
        Ok(text) if valid => Ok(Value::Decimal(text)),
        _ => Err(ValueError::new("a numeric", bytes)),
    }
}

pub(super) fn text<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Value::Text(text)),
        Err(_) => Err(ValueError::new("text in UTF-8", bytes)),
    }
}

/// The server has checked the document; what is checked here is what it takes to be part of UTF-8 output.
fn json<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    if bytes.is_empty() || std::str::from_utf8(bytes).is_err() {
        return Err(ValueError::new("a JSON document in UTF-8", bytes));
    }
    Ok(Value::Json(bytes))
}

fn bytea<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    match bytes {
        [b'\\', b'x', hex @ ..] if hex.len().is_multiple_of(2) && hex.iter().all(u8::is_ascii_hexdigit) => {
            Ok(Value::Hex(hex))
        }
        _ => Err(ValueError::new("\\x and pairs of hexadecimal digits", bytes)),
    }
}

fn uuid<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    let at = |at: usize, byte: u8| if matches!(at, 8 | 13 | 18 | 23) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    let valid = bytes.len() == 36 && bytes.iter().enumerate().all(|(index, &byte)| at(index, byte));
    match std::str::from_utf8(bytes) {
        Ok(text) if valid => Ok(Value::Uuid(text)),
        _ => Err(ValueError::new("a UUID", bytes)),
    }
}

#[cfg(test)]
mod tests;
