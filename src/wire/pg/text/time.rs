//! Dates and timestamps as DateStyle ISO prints them.
//!
//! ```text
//! date         infinity | -infinity | Y-MM-DD [" BC"]                          Y: the year of its era, 4 digits or more
//! timestamp    infinity | -infinity | Y-MM-DD" "HH:MM:SS[.F] [" BC"]           F: 1 to 6 digits
//! timestamptz  infinity | -infinity | Y-MM-DD" "HH:MM:SS[.F]+00 [" BC"]        TimeZone UTC
//! ```

use crate::record::{Date, DateTime, Form, Time, Value, ValueError};

pub(super) fn date<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    if let Some(infinity) = infinity(bytes) {
        return Ok(infinity);
    }
    let (rest, bc) = era(bytes);
    match day(rest, bc) {
        Some((date, [])) => Ok(Value::Date(date)),
        _ => Err(ValueError::new("a date as DateStyle ISO prints it", bytes)),
    }
}

pub(super) fn timestamp<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    if let Some(infinity) = infinity(bytes) {
        return Ok(infinity);
    }
    match date_time(bytes) {
        Some((value, [])) => Ok(Value::Timestamp(value)),
        _ => Err(ValueError::new("a timestamp as DateStyle ISO prints it", bytes)),
    }
}

pub(super) fn timestamptz<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    if let Some(infinity) = infinity(bytes) {
        return Ok(infinity);
    }
    match date_time(bytes) {
        Some((value, b"+00")) => Ok(Value::TimestampTz(value)),
        _ => Err(ValueError::new("a timestamp in UTC as DateStyle ISO prints it", bytes)),
    }
}

#[inline]
fn infinity(bytes: &[u8]) -> Option<Value<'static>> {
    // Every other value ends with a digit or with BC.
    if bytes.last() != Some(&b'y') {
        return None;
    }
    match bytes {
        b"infinity" => Some(Value::Infinity { negative: false }),
        b"-infinity" => Some(Value::Infinity { negative: true }),
        _ => None,
    }
}

/// The value without its era, and whether that is BC.
#[inline]
fn era(bytes: &[u8]) -> (&[u8], bool) {
    match bytes.strip_suffix(b" BC") {
        Some(rest) => (rest, true),
        None => (bytes, false),
    }
}

#[inline]
fn date_time(bytes: &[u8]) -> Option<(DateTime, &[u8])> {
    let (rest, bc) = era(bytes);
    let (date, rest) = day(rest, bc)?;
    let &[b' ', h1, h2, b':', m1, m2, b':', s1, s2, ref rest @ ..] = rest else { return None };
    let (hour, minute, second) = (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (micros, rest) = fraction(rest)?;
    Some((DateTime { date, time: Time { hour, minute, second, micros } }, rest))
}

/// The microseconds of a fraction, 0 without one.
#[inline]
fn fraction(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let [b'.', digits @ ..] = bytes else { return Some((0, bytes)) };
    let mut micros = 0;
    let mut place = 100_000;
    let mut count = 0;
    while let Some(digit) = digits.get(count).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit <= 9) {
        micros += u32::from(digit) * place;
        place /= 10;
        count += 1;
    }
    (1..=6).contains(&count).then(|| (micros, &digits[count..]))
}

/// A date at the start of `bytes`, and what follows it.
#[inline]
fn day(bytes: &[u8], bc: bool) -> Option<(Date, &[u8])> {
    // 7 digits: the last date is in the year 5874897.
    let mut year = 0_i32;
    let mut count = 0;
    while let Some(digit) = bytes.get(count).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit <= 9) {
        if count == 7 {
            return None;
        }
        year = year * 10 + i32::from(digit);
        count += 1;
    }
    let &[b'-', m1, m2, b'-', d1, d2, ref rest @ ..] = bytes.get(count..)? else { return None };
    let (month, day) = (two(m1, m2)?, two(d1, d2)?);
    // Neither era has a year 0.
    if count < 4 || year == 0 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some((Date { year: if bc { 1 - year } else { year }, month, day }, rest))
}

#[inline]
fn two(tens: u8, ones: u8) -> Option<u8> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then(|| tens * 10 + ones)
}
