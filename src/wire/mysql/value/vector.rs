//! VECTOR: floats of 32 bits, little-endian, one behind the other.

use super::number::{float, wrong};
use crate::record::{Array, ArrayEvent, ArrayType, DataType, Form, Value, ValueError};

/// VECTOR of MySQL and MariaDB.
pub fn vector<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    match form.data_type {
        DataType::Array(array_type) if bytes.len().is_multiple_of(4) => Ok(Value::Array(Array { bytes, array_type })),
        _ => Err(wrong("VECTOR of floats of 4 bytes", bytes)),
    }
}

/// What [`vector`] makes.
pub fn vector_type() -> DataType {
    DataType::Array(Box::new(ArrayType {
        element: DataType::Float { bits: 32 },
        decode: float,
        walk,
        layout: 0,
        delimiter: b',',
    }))
}

fn walk(
    bytes: &[u8],
    _: &ArrayType,
    visit: &mut dyn FnMut(ArrayEvent<'_>) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    visit(ArrayEvent::Open)?;
    let (floats, left) = bytes.as_chunks();
    for &float in floats {
        visit(ArrayEvent::Element(Value::F32(f32::from_le_bytes(float))))?;
    }
    if !left.is_empty() {
        return Err(wrong("VECTOR of floats of 4 bytes", bytes));
    }
    visit(ArrayEvent::Close)
}
