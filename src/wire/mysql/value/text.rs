//! Characters, bytes, ENUM, SET, and JSON that is text.

use serde::de::IgnoredAny;

use super::charset::Charset;
use super::number::wrong;
use crate::record::{DataType, Form, Value, ValueError};

/// CHAR, VARCHAR and TEXT of utf8mb4 and utf8mb3.
pub fn utf8<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Value::Text(text)),
        Err(_) => Charset::Utf8mb4.decode(bytes, &mut Vec::new()).map(|_| Value::Null),
    }
}

/// CHAR, VARCHAR and TEXT of any character set.
pub fn text<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    Charset::of_layout(form.layout).decode(bytes, form.scratch.clear()).map(Value::Text)
}

/// VARBINARY, BLOB; GEOMETRY as it is stored, SRID in 4 little-endian bytes and WKB.
pub fn bytes<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    Ok(Value::Bytes(bytes))
}

/// BINARY, padded with zeros to its length: a rows event leaves out zeros at the end.
pub fn binary<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let length = form.layout as usize;
    match bytes.len() {
        found if found == length => Ok(Value::Bytes(bytes)),
        found if found < length => {
            let out = form.scratch.clear();
            out.extend_from_slice(bytes);
            // A BINARY has up to 255 bytes; layouts are of our own making.
            out.resize(length, 0);
            Ok(Value::Bytes(out))
        }
        _ => Err(wrong("BINARY of the column's length", bytes)),
    }
}

/// ENUM: the number of a label, little-endian; 0 is the empty text of a value that was none of the labels.
pub fn enumeration<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let index = match *bytes {
        [index] => usize::from(index),
        [low, high] => usize::from(u16::from_le_bytes([low, high])),
        _ => return Err(wrong("ENUM in 1 or 2 bytes", bytes)),
    };
    let DataType::Enum(labels) = form.data_type else { return Err(wrong("a column with labels", bytes)) };
    match index.checked_sub(1).map(|index| labels.get(index)) {
        None => Ok(Value::Text("")),
        Some(Some(label)) => Ok(Value::Text(label)),
        Some(None) => Err(wrong("a number of one of the ENUM's labels", bytes)),
    }
}

/// SET: a bit a label, little-endian; the labels in their order with commas between.
pub fn set<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    if bytes.is_empty() || bytes.len() > 8 {
        return Err(wrong("SET in 1 to 8 bytes", bytes));
    }
    let DataType::Set(labels) = form.data_type else { return Err(wrong("a column with labels", bytes)) };
    let mut bits = bytes.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    if labels.len() < 64 && bits >> labels.len() != 0 {
        return Err(wrong("bits of the SET's labels", bytes));
    }
    if bits == 0 {
        return Ok(Value::Text(""));
    }
    if bits.is_power_of_two()
        && let Some(label) = labels.get(bits.trailing_zeros() as usize)
    {
        return Ok(Value::Text(label));
    }
    let out = form.scratch.clear();
    while bits != 0 {
        let Some(label) = labels.get(bits.trailing_zeros() as usize) else {
            return Err(wrong("bits of the SET's labels", bytes));
        };
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(label.as_bytes());
        bits &= bits - 1;
    }
    std::str::from_utf8(out).map(Value::Text).map_err(|_| wrong("labels in UTF-8", bytes))
}

/// A label of ENUM, or labels of SET, as text.
pub fn label<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    text(bytes, form)
}

/// MariaDB's JSON, a LONGTEXT with a check: the document as it was written. What the check let through and is no JSON by
/// RFC 8259 (it can be switched off) is `Text`.
pub fn json_text<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let document = Charset::of_layout(form.layout).decode(bytes, form.scratch.clear())?;
    match serde_json::from_str::<IgnoredAny>(document) {
        Ok(_) => Ok(Value::Json(document.as_bytes())),
        Err(_) => Ok(Value::Text(document)),
    }
}
