//! Hexadecimal digits.

/// The value of a hexadecimal digit, 255 for any other byte.
static NIBBLES: [u8; 256] = {
    let mut nibbles = [255; 256];
    let mut value = 0;
    while value < 16 {
        nibbles[b"0123456789abcdef"[value] as usize] = value as u8;
        nibbles[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    nibbles
};

/// Reads two digits for every byte of `bytes`. False where `digits` are not that many, or not digits; the bytes mean
/// nothing then.
#[inline]
pub(super) fn read(digits: &[u8], bytes: &mut [u8]) -> bool {
    let (pairs, odd) = digits.as_chunks::<2>();
    let mut valid = odd.is_empty() && pairs.len() == bytes.len();
    for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (NIBBLES[usize::from(high)], NIBBLES[usize::from(low)]);
        valid &= (high | low) < 16;
        *byte = high << 4 | low;
    }
    valid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_in_any_case_and_nothing_else() {
        let mut bytes = [0; 4];
        assert!(read(b"00fFA019", &mut bytes));
        assert_eq!(bytes, [0x00, 0xff, 0xa0, 0x19]);
        for wrong in [&b"00ffa0"[..], b"00ffa01", b"00ffa0190", b"00ffa01g", b"-0ffa019", b"\xff\xff000000"] {
            assert!(!read(wrong, &mut bytes), "{wrong:?}");
        }
    }
}
