//! Integers, BIT, YEAR, FLOAT and DOUBLE. Little-endian, BIT big-endian.

use crate::record::{Form, Value, ValueError};

/// The bytes of a number of fixed size.
#[inline]
pub(super) fn fixed<const N: usize>(bytes: &[u8], expected: &'static str) -> Result<[u8; N], ValueError> {
    bytes.try_into().map_err(|_| wrong(expected, bytes))
}

/// An error that shows the bytes in hexadecimal: as text they would show nothing.
#[cold]
pub(super) fn wrong(expected: &'static str, bytes: &[u8]) -> ValueError {
    // As much as an error shows, two digits a byte and the mark in front.
    const SHOWN_BYTES: usize = 31;
    let mut found = String::from("0x");
    bytes.iter().take(SHOWN_BYTES).for_each(|byte| found.push_str(&format!("{byte:02X}")));
    ValueError::new(expected, found.as_bytes())
}

macro_rules! integers {
    ($($name:ident $variant:ident $type:ty, $expected:literal;)*) => {$(
        #[doc = concat!("`", $expected, "`.")]
        pub fn $name<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
            Ok(Value::$variant(<$type>::from_le_bytes(fixed(bytes, $expected)?).into()))
        }
    )*};
}

integers! {
    int8 Int i8, "TINYINT in 1 byte";
    int16 Int i16, "SMALLINT in 2 bytes";
    int32 Int i32, "INT in 4 bytes";
    int64 Int i64, "BIGINT in 8 bytes";
    uint8 UInt u8, "TINYINT UNSIGNED in 1 byte";
    uint16 UInt u16, "SMALLINT UNSIGNED in 2 bytes";
    uint32 UInt u32, "INT UNSIGNED in 4 bytes";
    uint64 UInt u64, "BIGINT UNSIGNED in 8 bytes";
}

/// `MEDIUMINT in 3 bytes`.
pub fn int24<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    let [a, b, c] = fixed(bytes, "MEDIUMINT in 3 bytes")?;
    Ok(Value::Int((i32::from_le_bytes([0, a, b, c]) >> 8).into()))
}

/// `MEDIUMINT UNSIGNED in 3 bytes`.
pub fn uint24<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    let [a, b, c] = fixed(bytes, "MEDIUMINT UNSIGNED in 3 bytes")?;
    Ok(Value::UInt(u32::from_le_bytes([a, b, c, 0]).into()))
}

/// FLOAT as stored, whatever digits its declaration shows.
pub fn float<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    Ok(Value::F32(f32::from_le_bytes(fixed(bytes, "FLOAT in 4 bytes")?)))
}

/// DOUBLE as stored.
pub fn double<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    Ok(Value::F64(f64::from_le_bytes(fixed(bytes, "DOUBLE in 8 bytes")?)))
}

/// BIT(1) to BIT(64), 1 to 8 bytes.
pub fn bit<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    if bytes.is_empty() || bytes.len() > 8 {
        return Err(wrong("BIT in 1 to 8 bytes", bytes));
    }
    Ok(Value::UInt(bytes.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))))
}

/// YEAR: 0, or years since 1900 in 1 byte.
pub fn year<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    let [year] = fixed(bytes, "YEAR in 1 byte")?;
    Ok(Value::UInt(if year == 0 { 0 } else { 1900 + u64::from(year) }))
}
