//! JSON strings.
//!
//! Invariants:
//! - Only `"`, `\` and the control characters below 0x20 are escaped; every other byte of the UTF-8 text is copied.

/// Appends `text`, which is UTF-8, as a JSON string.
#[inline]
pub(super) fn string(text: &[u8], out: &mut Vec<u8>) {
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

const fn special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// How many bytes at the start need no escape.
#[inline]
fn plain_prefix(text: &[u8]) -> usize {
    let mut at = 0;
    // 32 bytes are two registers of the oldest 64-bit machines; the compiler turns the fold into a few vector
    // instructions.
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<32>) {
        if chunk.iter().fold(false, |any, &byte| any | special(byte)) {
            break;
        }
        at += 32;
    }
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let found = special_bytes(u64::from_le_bytes(*chunk));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    text[at..].iter().position(|&byte| special(byte)).map_or(text.len(), |found| at + found)
}

/// The high bit of the lowest special byte of a word is set; bits above that one may be set falsely, by a borrow.
#[inline]
const fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
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
                    let expected = if special(byte) { place } else { length };
                    assert_eq!(plain_prefix(&text), expected, "{byte:#x} at {place} of {length}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn reads_back(text in "\\PC*|[\\x00-\\x7f]{0,100}|([a-z]{0,40}[\"\\\\\n\u{1F600}\u{2028}])*") {
            let mut out = b"before".to_vec();
            string(text.as_bytes(), &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out[6..]).unwrap(), text);
        }
    }
}
