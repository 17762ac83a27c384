//! Doubles as the server prints them.

use crate::print::signed;

/// The server's MAX_DECPT_FOR_F_FORMAT.
const PLAIN_PLACES: i32 = 15;

/// The fewest digits that are read back as the same number, of those the nearest, of two as near the even one, set as the
/// server's `my_gcvt` sets them: without an exponent where the point is not more than 15 places from the first digit, or
/// within the digits, and there with `.0` behind a whole number.
pub(super) fn print(number: f64, out: &mut Vec<u8>) {
    if number.is_sign_negative() {
        out.push(b'-');
    }
    let mut buffer = zmij::Buffer::new();
    let (digits, count, places) = digits(buffer.format_finite(number.abs()));
    let digits = &digits[..count];
    if digits.is_empty() {
        out.extend_from_slice(b"0.0");
    } else if places < 1 - PLAIN_PLACES || (places > PLAIN_PLACES && count <= places as usize) {
        out.push(digits[0]);
        if count > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.push(b'e');
        signed((places - 1).into(), out);
    } else if places <= 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + places.unsigned_abs() as usize, b'0');
        out.extend_from_slice(digits);
    } else {
        let places = places as usize;
        let whole = places.min(count);
        out.extend_from_slice(&digits[..whole]);
        out.resize(out.len() + places - whole, b'0');
        out.push(b'.');
        out.extend_from_slice(if count > whole { &digits[whole..] } else { b"0" });
    }
}

/// The significant digits of a printed number without a sign, how many they are, and how many stand before the point:
/// `0.0012` has two, -2 of them before the point.
fn digits(printed: &str) -> ([u8; 20], usize, i32) {
    let (mantissa, exponent) = printed.split_once(['e', 'E']).unwrap_or((printed, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.trim_start_matches('0');
    // A double has 17 significant digits at most; what is more are the zeros of a whole number.
    let mut digits = [b'0'; 20];
    let (mut count, mut last, mut skipped) = (0, 0, 0);
    for byte in whole.bytes().chain(fraction.bytes()) {
        if byte == b'0' && count == 0 {
            skipped += 1;
            continue;
        }
        if let Some(digit) = digits.get_mut(count) {
            *digit = byte;
        }
        count += 1;
        if byte != b'0' {
            last = count.min(20);
        }
    }
    let exponent = exponent.strip_prefix('+').unwrap_or(exponent).parse::<i32>().unwrap_or(0);
    (digits, last, whole.len() as i32 - skipped + exponent)
}
