//! Doubles as the server prints them.

use std::io::Write as _;

/// The fewest digits that are read back as the same number, as the server's `my_gcvt` sets them: without an exponent where
/// the point is not more than 15 places from the first digit, or within the digits, and there with `.0` behind a whole
/// number.
pub(super) fn print(number: f64, out: &mut Vec<u8>) {
    /// The server's MAX_DECPT_FOR_F_FORMAT.
    const PLAIN_PLACES: i32 = 15;
    // "-1.2345e-10": a digit, a point and digits where there are more, an exponent.
    let mut printed = [0_u8; 32];
    let mut left = &mut printed[..];
    let room = left.len();
    // A double takes 24 bytes at most: 17 digits, point, two signs, e and three digits.
    let _ = write!(left, "{number:e}");
    let length = room - left.len();
    let mut digits = [0_u8; 20];
    let (mut count, mut exponent, mut negative) = (0, 0, false);
    let mut bytes = printed[..length].iter();
    for &byte in bytes.by_ref() {
        match byte {
            b'-' => out.push(b'-'),
            b'0'..=b'9' => {
                digits[count] = byte;
                count += 1;
            }
            b'e' => break,
            _ => {}
        }
    }
    for &byte in bytes {
        match byte {
            b'-' => negative = true,
            digit => exponent = exponent * 10 + i32::from(digit - b'0'),
        }
    }
    if negative {
        exponent = -exponent;
    }
    let digits = &digits[..count];
    // How many digits stand before the point.
    let places = exponent + 1;
    if digits == b"0" {
        out.extend_from_slice(b"0.0");
    } else if places < 1 - PLAIN_PLACES || (places > PLAIN_PLACES && digits.len() <= places as usize) {
        out.push(digits[0]);
        if count > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        let _ = write!(out, "e{exponent}");
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
