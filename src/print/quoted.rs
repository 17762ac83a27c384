//! JSON strings.
//!
//! Invariants:
//! - Only `"`, `\` and the control characters below 0x20 are escaped; every other byte of the UTF-8 text is copied.

use super::room;

/// Appends text as a JSON string.
#[inline]
pub fn quoted(text: &str, out: &mut Vec<u8>) {
    if !plain(text.as_bytes(), out) {
        escaping(text.as_bytes(), out);
    }
}

/// Appends bytes as a JSON string; false, and nothing appended, where they are not UTF-8.
#[inline]
#[must_use]
pub fn quoted_bytes(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    plain(bytes, out) || unproven(bytes, out)
}

/// Bytes that are not all plain.
#[inline(never)]
fn unproven(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let text = std::str::from_utf8(bytes);
    if text.is_ok() {
        escaping(bytes, out);
    }
    text.is_ok()
}

/// Most texts are at most this long: two pieces of 16 bytes, one from the start and one from the end, which overlap where
/// it is shorter.
const SHORT: usize = 32;

/// Appends bytes in quotes if all of them are ASCII and none needs an escape.
#[inline]
fn plain(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let length = bytes.len();
    if length > SHORT {
        return plain_long(bytes, out);
    }
    let at = out.len();
    if out.capacity() - at < SHORT + 2 {
        return plain_grown(bytes, out);
    }
    let room = room::<{ SHORT + 2 }>(out);
    let special = if let (Some(first), Some(last)) = (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) {
        room[1..17].copy_from_slice(first);
        room[length - 15..][..16].copy_from_slice(last);
        any_special(first) | any_special(last)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        room[1..9].copy_from_slice(first);
        room[length - 7..][..8].copy_from_slice(last);
        (special_word(u64::from_le_bytes(*first)) | special_word(u64::from_le_bytes(*last))) & HIGH != 0
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        room[1..5].copy_from_slice(first);
        room[length - 3..][..4].copy_from_slice(last);
        let both = u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32;
        special_word(both) & HIGH != 0
    } else {
        // Up to three, and spaces.
        const SPACE: u8 = b' ';
        let piece = match *bytes {
            [] => [SPACE, SPACE, SPACE],
            [a] => [a, SPACE, SPACE],
            [a, b] => [a, b, SPACE],
            [a, b, c, ..] => [a, b, c],
        };
        room[1..4].copy_from_slice(&piece);
        let [a, b, c] = piece;
        special_word(u64::from_le_bytes([a, b, c, SPACE, SPACE, SPACE, SPACE, SPACE])) & HIGH != 0
    };
    room[0] = b'"';
    room[length + 1] = b'"';
    out.truncate(if special { at } else { at + length + 2 });
    !special
}

/// [`plain`], once more with enough room.
#[cold]
#[inline(never)]
fn plain_grown(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    out.reserve(SHORT + 2);
    plain(bytes, out)
}

#[inline(never)]
fn plain_long(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let (pieces, _) = bytes.as_chunks::<SHORT>();
    let special = pieces.iter().any(any_special) || bytes.last_chunk::<SHORT>().is_some_and(any_special);
    if !special {
        out.reserve(bytes.len() + 2);
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
    }
    !special
}

/// Whether a byte needs an escape, or is beyond ASCII. Written so that the compiler makes a few vector instructions of it.
#[inline(always)]
fn any_special<const N: usize>(piece: &[u8; N]) -> bool {
    let mut any = 0;
    for &byte in piece {
        // Signed, what is beyond ASCII is below zero.
        any |= u8::from((byte as i8) < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
    }
    any != 0
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// A high bit is set if and only if one of eight bytes needs an escape or is beyond ASCII. (Which one it does not say: a
/// borrow, that only such a byte makes, sets others'.)
#[inline]
const fn special_word(word: u64) -> u64 {
    let control = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    word | control | quote | backslash
}

/// Appends UTF-8 in quotes, with escapes.
fn escaping(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text;
    loop {
        let plain = plain_prefix(rest);
        out.extend_from_slice(&rest[..plain]);
        let Some(&byte) = rest.get(plain) else { break };
        escaped(byte, out);
        rest = &rest[plain + 1..];
    }
    out.push(b'"');
}

/// Appends the escape of a byte that needs one.
fn escaped(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        8 => b'b',
        9 => b't',
        10 => b'n',
        12 => b'f',
        13 => b'r',
        _ => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            return out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

const fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// How many bytes at the start need no escape.
#[inline]
fn plain_prefix(text: &[u8]) -> usize {
    let mut at = 0;
    // 32 bytes are two registers of the oldest 64-bit machines; the compiler turns the fold into a few vector
    // instructions.
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<32>) {
        if chunk.iter().fold(false, |any, &byte| any | needs_escape(byte)) {
            break;
        }
        at += 32;
    }
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let found = escaped_bytes(u64::from_le_bytes(*chunk));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    text[at..].iter().position(|&byte| needs_escape(byte)).map_or(text.len(), |found| at + found)
}

/// The high bit of the lowest byte of a word that needs an escape is set; bits above that one may be set falsely, by a
/// borrow.
#[inline]
const fn escaped_bytes(word: u64) -> u64 {
    const fn below(word: u64, limit: u64) -> u64 {
        word.wrapping_sub(ONES * limit) & !word & HIGH
    }
    below(word, 0x20) | below(word ^ (ONES * b'"' as u64), 1) | below(word ^ (ONES * b'\\' as u64), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_byte_at_every_place_of_a_word() {
        for byte in 0..=0x7f_u8 {
            for length in 1..80 {
                for place in [0, length / 2, length - 1] {
                    let mut text = vec![b'~'; length];
                    text[place] = byte;
                    let expected = if needs_escape(byte) { place } else { length };
                    assert_eq!(plain_prefix(&text), expected, "{byte:#x} at {place} of {length}");
                }
            }
        }
    }

    #[test]
    fn every_byte_at_every_place_of_a_text() {
        for length in 1..80 {
            for place in 0..length {
                for byte in 0..=0x7f_u8 {
                    let mut text = vec![b'~'; length];
                    text[place] = byte;
                    let (mut one, mut other) = (b"before".to_vec(), b"before".to_vec());
                    quoted(std::str::from_utf8(&text).unwrap(), &mut one);
                    assert!(quoted_bytes(&text, &mut other));
                    assert_eq!(one, other);
                    assert_eq!(serde_json::from_slice::<String>(&one[6..]).unwrap().as_bytes(), text);
                }
                let mut text = vec![b'~'; length];
                text[place] = 0x80;
                let mut out = b"before".to_vec();
                assert!(!quoted_bytes(&text, &mut out));
                assert_eq!(out, b"before");
            }
        }
    }

    proptest! {
        #[test]
        fn reads_back(text in "\\PC*|[\\x00-\\x7f]{0,100}|([a-z]{0,40}[\"\\\\\n\u{1F600}\u{2028}])*") {
            let (mut out, mut other) = (b"before".to_vec(), b"before".to_vec());
            quoted(&text, &mut out);
            prop_assert!(quoted_bytes(text.as_bytes(), &mut other));
            prop_assert_eq!(&out, &other);
            prop_assert_eq!(serde_json::from_slice::<String>(&out[6..]).unwrap(), text);
        }

        #[test]
        fn bytes_are_text_or_refused(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x20..0x7f_u8], 0..80)) {
            let mut out = b"before".to_vec();
            prop_assert_eq!(quoted_bytes(&bytes, &mut out), std::str::from_utf8(&bytes).is_ok());
            prop_assert!(out.len() > 6 || out == b"before");
        }
    }
}
