//! Whole numbers in decimal digits.

/// One more than eight digits hold.
const EIGHT_DIGITS: u64 = 100_000_000;

/// `'0'` in every byte.
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// The eight digits of a number below [`EIGHT_DIGITS`], as bytes of 0 to 9, the first digit in the lowest byte.
///
/// Halves, then quarters, then digits, all of one step at once in lanes of one word; a division by 100 or 10 is a
/// multiplication by its inverse, exact for numbers that small.
#[inline]
fn eight(number: u32) -> u64 {
    const LOW_7_OF_32: u64 = 0x0000_007F_0000_007F;
    const LOW_4_OF_16: u64 = 0x000F_000F_000F_000F;
    let halves = u64::from(number / 10_000) | u64::from(number % 10_000) << 32;
    let hundreds = (halves * 10_486) >> 20 & LOW_7_OF_32;
    let quarters = hundreds | (halves - 100 * hundreds) << 16;
    let tens = (quarters * 103) >> 10 & LOW_4_OF_16;
    tens | (quarters - 10 * tens) << 8
}

/// Appends a number.
#[inline]
pub fn unsigned(number: u64, out: &mut Vec<u8>) {
    if number >= EIGHT_DIGITS {
        return long(number, out);
    }
    let digits = eight(number as u32);
    // Of eight zeros one is printed.
    let zeros = (digits.trailing_zeros() / 8).min(7);
    let at = out.len();
    out.extend_from_slice(&((digits | ZEROS) >> (8 * zeros)).to_le_bytes());
    out.truncate(at + 8 - zeros as usize);
}

fn long(number: u64, out: &mut Vec<u8>) {
    // At most 12 digits, which are once more too many for eight.
    unsigned(number / EIGHT_DIGITS, out);
    out.extend_from_slice(&(eight((number % EIGHT_DIGITS) as u32) | ZEROS).to_le_bytes());
}

/// Appends a number, with a minus where it is negative.
#[inline]
pub fn signed(number: i64, out: &mut Vec<u8>) {
    if number < 0 {
        out.push(b'-');
    }
    unsigned(number.unsigned_abs(), out);
}

/// Appends exactly `digits` digits, 1 to 9, of a number that has no more of them.
#[inline]
pub fn padded(mut number: u32, digits: usize, out: &mut Vec<u8>) {
    debug_assert!((1..=9).contains(&digits) && u64::from(number) < 10_u64.pow(digits as u32));
    let mut digits = digits;
    if digits > 8 {
        out.push(b'0' + (u64::from(number) / EIGHT_DIGITS) as u8);
        number = (u64::from(number) % EIGHT_DIGITS) as u32;
        digits = 8;
    }
    let at = out.len();
    out.extend_from_slice(&((eight(number) | ZEROS) >> (8 * (8 - digits))).to_le_bytes());
    out.truncate(at + digits);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(print: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"x".to_vec();
        print(&mut out);
        String::from_utf8(out.split_off(1)).unwrap()
    }

    #[test]
    fn around_every_power_of_ten() {
        let powers = (0..20).map(|power| 10_u64.pow(power));
        for number in powers.flat_map(|power| [power - 1, power, power + 1]).chain([u64::MAX - 1, u64::MAX]) {
            assert_eq!(text(|out| unsigned(number, out)), number.to_string());
        }
        for number in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX] {
            assert_eq!(text(|out| signed(number, out)), number.to_string());
        }
    }

    #[test]
    fn every_group_of_four_digits() {
        for number in 0..10_000_u32 {
            assert_eq!(text(|out| padded(number, 4, out)), format!("{number:04}"));
            assert_eq!(text(|out| unsigned(u64::from(number) * 10_000, out)), (u64::from(number) * 10_000).to_string());
        }
    }

    proptest! {
        #[test]
        fn as_the_standard_library_prints(number in any::<i64>(), bits in 0..64_u32) {
            let number = number >> bits;
            prop_assert_eq!(text(|out| signed(number, out)), number.to_string());
            prop_assert_eq!(text(|out| unsigned(number as u64, out)), (number as u64).to_string());
        }

        #[test]
        fn padded_to_its_digits(number in any::<u32>(), digits in 1..=9_usize) {
            let number = number % 10_u32.pow(digits as u32);
            prop_assert_eq!(text(|out| padded(number, digits, out)), format!("{number:0digits$}"));
        }
    }
}
