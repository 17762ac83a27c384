//! Unicode in units of 16 and 32 bits.

use super::push;

/// A text of big-endian units, each a character. Errors: a surrogate, half a unit.
pub(super) fn ucs2(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), usize> {
    let (units, odd) = bytes.as_chunks();
    out.reserve(units.len() * 3);
    for (index, unit) in units.iter().enumerate() {
        push(out, char::from_u32(u16::from_be_bytes(*unit).into()).ok_or(index * 2)?);
    }
    if odd.is_empty() { Ok(()) } else { Err(units.len() * 2) }
}

/// A text with pairs of surrogates. Errors: a surrogate alone, half a unit.
pub(super) fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16, out: &mut Vec<u8>) -> Result<(), usize> {
    let (units, odd) = bytes.as_chunks();
    out.reserve(units.len() * 3);
    let mut at = 0;
    for character in char::decode_utf16(units.iter().map(|bytes| unit(*bytes))) {
        let character = character.map_err(|_| at)?;
        at += character.len_utf16() * 2;
        push(out, character);
    }
    if odd.is_empty() { Ok(()) } else { Err(at) }
}

/// Big-endian. Errors: what is no code point, part of a unit.
pub(super) fn utf32(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), usize> {
    let (units, odd) = bytes.as_chunks();
    out.reserve(bytes.len());
    for (index, unit) in units.iter().enumerate() {
        push(out, char::from_u32(u32::from_be_bytes(*unit)).ok_or(index * 4)?);
    }
    if odd.is_empty() { Ok(()) } else { Err(units.len() * 4) }
}
