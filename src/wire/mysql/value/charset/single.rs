//! Sets of one byte a character.

use super::push;

/// What 128 bytes are; [`NOTHING`] where nothing.
pub(super) type Half = [u16; 128];

/// No character, in any text.
const NOTHING: char = '\u{fffe}';

/// A table from its characters, which are all below U+10000.
pub(super) const fn half(characters: &str) -> Half {
    let bytes = characters.as_bytes();
    let mut table = [0; 128];
    let (mut at, mut filled) = (0, 0);
    while at < bytes.len() {
        let lead = bytes[at];
        let (mut character, length) = match lead {
            0..0x80 => (lead as u16, 1),
            0x80..0xE0 => ((lead & 0x1F) as u16, 2),
            _ => ((lead & 0x0F) as u16, 3),
        };
        let mut next = 1;
        while next < length {
            character = character << 6 | (bytes[at + next] & 0x3F) as u16;
            next += 1;
        }
        table[filled] = character;
        filled += 1;
        at += length;
    }
    assert!(filled == 128);
    table
}

/// A text of ASCII and an upper half. Errors: where nothing stands for a byte.
pub(super) fn upper(bytes: &[u8], half: &Half, out: &mut Vec<u8>) -> Result<(), usize> {
    out.reserve(bytes.len() * 2);
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            0..0x80 => out.push(byte),
            _ => character(half, byte & 0x7F, out).ok_or(at)?,
        }
    }
    Ok(())
}

/// A text of a lower half alone. Errors: where nothing stands for a byte.
pub(super) fn lower(bytes: &[u8], half: &Half, out: &mut Vec<u8>) -> Result<(), usize> {
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x80 {
            return Err(at);
        }
        character(half, byte, out).ok_or(at)?;
    }
    Ok(())
}

#[inline]
fn character(half: &Half, index: u8, out: &mut Vec<u8>) -> Option<()> {
    let code = half[usize::from(index)];
    let character = char::from_u32(code.into()).filter(|character| *character != NOTHING)?;
    push(out, character);
    Some(())
}
