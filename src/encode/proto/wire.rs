//! The protobuf wire format, as far as it is written here.
//!
//! ```text
//! field   = key payload          key = varint(number << 3 | type)
//! payload = varint               type 0: bool, enum, uint; zigzag for sint
//!         | 8 bytes              type 1: double, sfixed64, little endian
//!         | varint(length) bytes type 2: string, bytes, message
//!         | 4 bytes              type 5: float, little endian
//! varint  = 7 bits a byte, the lowest first, the top bit set on all but the last
//! ```
//!
//! Invariants:
//! - Every varint is as short as it can be.
//! - What is written inside an open [`Nest`] stays where it is until that nest is closed.

/// The key of a field in one byte: numbers up to 15.
pub(super) const fn key(number: u8, wire_type: u8) -> u8 {
    assert!(number <= 15);
    number << 3 | wire_type
}

pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const LENGTH: u8 = 2;
pub(super) const FIXED32: u8 = 5;

/// The longest varint.
const VARINT_BYTES: usize = 10;

#[inline]
pub(super) const fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

/// How many bytes a varint takes: one for every 7 bits begun.
#[inline]
pub(super) const fn varint_bytes(number: u64) -> usize {
    // 9/64 is 1/7 closely enough for all numbers of bits up to 64.
    (64 - (number | 1).leading_zeros() as usize) * 9 / 64 + 1
}

/// Writes a varint to the start of `room`; its length.
#[inline]
pub(super) fn put_varint(mut number: u64, room: &mut [u8]) -> usize {
    let mut at = 0;
    while number >= 0x80 {
        room[at] = number as u8 | 0x80;
        number >>= 7;
        at += 1;
    }
    room[at] = number as u8;
    at + 1
}

#[inline]
pub(super) fn varint(number: u64, out: &mut Vec<u8>) {
    if number < 0x80 {
        return out.push(number as u8);
    }
    let mut room = [0; VARINT_BYTES];
    let length = put_varint(number, &mut room);
    out.extend_from_slice(&room[..length]);
}

#[inline]
pub(super) fn varint_field(number: u8, value: u64, out: &mut Vec<u8>) {
    out.push(key(number, VARINT));
    varint(value, out);
}

/// A string, bytes, or a message already encoded.
pub(super) fn bytes_field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(key(number, LENGTH));
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// A message inside a message, whose length is known only at its end. Room for the length is left by a guess: what the
/// last one of its kind took. Where that was wrong the message is moved by the difference.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(super) struct Nest {
    /// Where the length's room begins.
    at: usize,
    width: usize,
}

/// How many bytes the last length took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guess(u8);

impl Default for Guess {
    fn default() -> Self {
        Guess(1)
    }
}

impl Nest {
    #[inline]
    pub(super) fn open(key: u8, guess: Guess, out: &mut Vec<u8>) -> Nest {
        let width = usize::from(guess.0);
        let at = out.len() + 1;
        let room = [key, 0, 0, 0, 0, 0, 0, 0];
        out.extend_from_slice(&room);
        out.truncate(at + width);
        Nest { at, width }
    }

    /// Whether all of it, its key too, stands at `at` or behind.
    pub(super) fn begins_behind(self, at: usize) -> bool {
        self.at > at
    }

    #[inline]
    pub(super) fn close(self, guess: &mut Guess, out: &mut Vec<u8>) {
        let start = self.at + self.width;
        let length = out.len() - start;
        let needed = varint_bytes(length as u64);
        if needed != self.width {
            self.shift(needed, out);
            guess.0 = needed as u8;
        }
        put_varint(length as u64, &mut out[self.at..]);
    }

    #[cold]
    fn shift(self, needed: usize, out: &mut Vec<u8>) {
        let (start, end) = (self.at + self.width, out.len());
        if needed > self.width {
            out.resize(end + needed - self.width, 0);
        }
        out.copy_within(start..end, self.at + needed);
        out.truncate(self.at + needed + end - start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_length_of_a_nest_from_every_guess() {
        for length in [0, 1, 127, 128, 300, 16_383, 16_384, 2_097_151, 2_097_152] {
            for width in 1..=5 {
                let content: Vec<u8> = (0..length).map(|index| index as u8).collect();
                let mut out = b"before".to_vec();
                let mut guess = Guess(width);
                let nest = Nest::open(0x2a, guess, &mut out);
                out.extend_from_slice(&content);
                nest.close(&mut guess, &mut out);
                let mut expected = b"before\x2a".to_vec();
                prost::encoding::encode_varint(length as u64, &mut expected);
                assert_eq!(usize::from(guess.0), expected.len() - 7);
                expected.extend_from_slice(&content);
                assert!(out == expected, "{length} from {width}");
            }
        }
    }

    proptest! {
        #[test]
        fn varints_are_the_shortest(number: u64, bits in 0..64_u32) {
            let number = number >> bits;
            let (mut out, mut expected) = (Vec::new(), Vec::new());
            varint(number, &mut out);
            prost::encoding::encode_varint(number, &mut expected);
            prop_assert_eq!(varint_bytes(number), expected.len());
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn zigzag_goes_back(number: i64) {
            let coded = zigzag(number);
            prop_assert_eq!((coded >> 1) as i64 ^ -((coded & 1) as i64), number);
        }
    }
}
