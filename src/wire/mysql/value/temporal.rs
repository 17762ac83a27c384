//! DATE, TIME, DATETIME and TIMESTAMP as MySQL 5.6 and MariaDB 10.1 keep them.
//!
//! The grammar (MySQL source docs, "my_time.cc: my_time_packed_to_binary" and the like). All but DATE are big-endian, a
//! fraction of 1 or 2, 3 or 4, 5 or 6 digits behind the seconds in 1, 2, 3 bytes, as hundredths, ten-thousandths, millionths:
//!
//! ```text
//! DATE         3 bytes, little-endian: year << 9 | month << 5 | day
//! TIME2        3 bytes and fraction, as one number less 0x800000 << fraction bits: sign, hour << 12 | minute << 6 | second
//! DATETIME2    5 bytes and fraction, as one number less 0x8000000000 << fraction bits:
//!              (year * 13 + month) << 22 | day << 17 | hour << 12 | minute << 6 | second
//! TIMESTAMP2   4 bytes, seconds since 1970-01-01 UTC, and fraction; 0 is 0000-00-00 00:00:00
//! ```

use super::number::{fixed, wrong};
use crate::record::{Date, DateTime, Form, Scratch, Time, Value, ValueError};

pub(super) const DATE: &str = "a DATE";
pub(super) const TIME: &str = "a TIME";
pub(super) const DATETIME: &str = "a DATETIME";
pub(super) const TIMESTAMP: &str = "a TIMESTAMP";

/// DATE in 3 bytes.
pub fn date<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let [a, b, c] = fixed(bytes, "DATE in 3 bytes")?;
    let packed = u32::from_le_bytes([a, b, c, 0]);
    let date = Date { year: (packed >> 9) as i32, month: (packed >> 5 & 15) as u8, day: (packed & 31) as u8 };
    date_value(date, form.scratch).ok_or_else(|| wrong(DATE, bytes))
}

/// TIME as text, as the server prints it: `-838:59:59.000000`.
pub fn time2<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let wrong = || wrong(TIME, bytes);
    let (packed, fraction) = big_endian(bytes, 3).ok_or_else(wrong)?;
    // At most 48 bits, so that signed numbers hold them.
    let packed = packed as i64 - (0x80_0000 << fraction.bits);
    let magnitude = packed.unsigned_abs();
    let time = clock(magnitude >> fraction.bits, 0x3FF).ok_or_else(wrong)?;
    let micros = fraction.micros(magnitude).ok_or_else(wrong)?;
    if magnitude >> fraction.bits >> 22 != 0 {
        return Err(wrong());
    }
    let (hours, minute, second) = time;
    time_value(packed < 0, hours, minute, second, micros, form).ok_or_else(wrong)
}

/// DATETIME.
pub fn datetime2<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let wrong = || wrong(DATETIME, bytes);
    let (packed, fraction) = big_endian(bytes, 5).ok_or_else(wrong)?;
    let packed = packed.checked_sub(0x80_0000_0000 << fraction.bits).ok_or_else(wrong)?;
    let micros = fraction.micros(packed).ok_or_else(wrong)?;
    packed_datetime(packed >> fraction.bits, micros)
        .and_then(|datetime| datetime_value(datetime, form))
        .ok_or_else(wrong)
}

/// TIMESTAMP, in UTC.
pub fn timestamp2<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let wrong = || wrong(TIMESTAMP, bytes);
    let (packed, fraction) = big_endian(bytes, 4).ok_or_else(wrong)?;
    let micros = fraction.micros(packed).ok_or_else(wrong)?;
    timestamp_value(packed >> fraction.bits, micros, form).ok_or_else(wrong)
}

/// What stands behind the seconds.
struct Fraction {
    bits: u32,
}

impl Fraction {
    /// Microseconds, from the low bits of the whole number.
    #[inline]
    fn micros(&self, packed: u64) -> Option<u32> {
        let fraction = (packed & ((1 << self.bits) - 1)) as u32;
        let micros = match self.bits {
            0 => 0,
            8 => fraction * 10_000,
            16 => fraction * 100,
            _ => fraction,
        };
        (micros < 1_000_000).then_some(micros)
    }
}

/// A whole part of so many bytes, and a fraction of 0 to 3.
#[inline]
fn big_endian(bytes: &[u8], whole: usize) -> Option<(u64, Fraction)> {
    let fraction = bytes.len().checked_sub(whole).filter(|fraction| *fraction <= 3)?;
    let packed = match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        // Of 4 to 8 bytes two pieces that overlap by what they are too long.
        (Some(first), Some(last)) => {
            let (first, last) = (u64::from(u32::from_be_bytes(*first)), u64::from(u32::from_be_bytes(*last)));
            first << (8 * (bytes.len() - 4)) | last
        }
        _ => bytes.iter().fold(0, |packed, byte| packed << 8 | u64::from(*byte)),
    };
    Some((packed, Fraction { bits: fraction as u32 * 8 }))
}

/// Hours, minutes and seconds of `hour << 12 | minute << 6 | second`.
#[inline]
fn clock(packed: u64, hour_mask: u64) -> Option<(u32, u8, u8)> {
    let (hours, minute, second) = ((packed >> 12 & hour_mask) as u32, (packed >> 6 & 63) as u8, (packed & 63) as u8);
    (minute < 60 && second < 60).then_some((hours, minute, second))
}

/// The fields of `(year * 13 + month) << 22 | day << 17 | hour << 12 | minute << 6 | second`.
#[inline]
pub(super) fn packed_datetime(packed: u64, micros: u32) -> Option<DateTime> {
    let (hour, minute, second) = clock(packed, 31)?;
    let months = i32::try_from(packed >> 22).ok()?;
    let date = Date { year: months / 13, month: (months % 13) as u8, day: (packed >> 17 & 31) as u8 };
    Some(DateTime { date, time: Time { hour: hour as u8, minute, second, micros } })
}

/// TIME in the packed form of JSON: sign, `hour << 12 | minute << 6 | second` and 24 bits of microseconds.
pub(super) fn packed_time(packed: i64) -> Option<(bool, u32, u8, u8, u32)> {
    let magnitude = packed.unsigned_abs();
    let (hours, minute, second) = clock(magnitude >> 24, 0x3FF)?;
    let micros = (magnitude & 0xFF_FFFF) as u32;
    (micros < 1_000_000 && magnitude >> 46 == 0).then_some((packed < 0, hours, minute, second, micros))
}

/// None where the server has no such date.
#[inline]
pub(super) fn date_value<'b>(date: Date, scratch: &'b mut Scratch) -> Option<Value<'b>> {
    match calendar(date)? {
        true => Some(Value::Date(date)),
        false => {
            let out = scratch.clear();
            print_date(date, out);
            std::str::from_utf8(out).ok().map(Value::Text)
        }
    }
}

/// None where the server has no such time.
#[inline]
pub(super) fn datetime_value<'b>(datetime: DateTime, form: Form<'b>) -> Option<Value<'b>> {
    let Time { hour, minute, second, micros } = datetime.time;
    if hour > 23 || minute > 59 || second > 59 || micros > 999_999 {
        return None;
    }
    match calendar(datetime.date)? {
        true => Some(Value::Timestamp(datetime)),
        false => datetime_text(datetime, form),
    }
}

/// From seconds since 1970-01-01 UTC. None where a fraction is none.
#[inline]
pub(super) fn timestamp_value<'b>(unix_seconds: u64, micros: u32, form: Form<'b>) -> Option<Value<'b>> {
    if unix_seconds == 0 && micros == 0 {
        let zero = Date { year: 0, month: 0, day: 0 };
        return datetime_text(DateTime { date: zero, time: Time { hour: 0, minute: 0, second: 0, micros: 0 } }, form);
    }
    Some(Value::TimestampTz(DateTime::from_unix_seconds(i64::try_from(unix_seconds).ok()?, micros)))
}

/// TIME as text, with the digits of a fraction that the form's layout says. None where it has more of them or the server
/// has no such time.
#[inline]
pub(super) fn time_value<'b>(
    negative: bool,
    hours: u32,
    minute: u8,
    second: u8,
    micros: u32,
    form: Form<'b>,
) -> Option<Value<'b>> {
    // The server's TIME_MAX_HOUR.
    if hours > 838 || minute > 59 || second > 59 {
        return None;
    }
    let out = form.scratch.clear();
    print_time(negative, hours, minute, second, out);
    print_fraction(micros, form.layout, out)?;
    std::str::from_utf8(out).ok().map(Value::Text)
}

#[cold]
fn datetime_text<'b>(datetime: DateTime, form: Form<'b>) -> Option<Value<'b>> {
    let out = form.scratch.clear();
    print_datetime(datetime, out);
    print_fraction(datetime.time.micros, form.layout, out)?;
    std::str::from_utf8(out).ok().map(Value::Text)
}

/// Whether a date is one of the calendar; false for zeros in it and days that its month does not have. None where the
/// server has no such date at all.
#[inline]
fn calendar(date: Date) -> Option<bool> {
    let Date { year, month, day } = date;
    if !(0..=9999).contains(&year) || month > 12 || day > 31 {
        return None;
    }
    if year == 0 || month == 0 || day == 0 {
        return Some(false);
    }
    Some(day <= 28 || day <= month_days(year, month))
}

#[cold]
fn month_days(year: i32, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Two digits.
#[inline]
fn two(number: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + number / 10 % 10, b'0' + number % 10]);
}

/// `2026-11-21`.
pub(super) fn print_date(date: Date, out: &mut Vec<u8>) {
    let year = date.year.unsigned_abs();
    two((year / 100) as u8, out);
    two((year % 100) as u8, out);
    out.push(b'-');
    two(date.month, out);
    out.push(b'-');
    two(date.day, out);
}

/// `2026-11-21 12:34:56`.
pub(super) fn print_datetime(datetime: DateTime, out: &mut Vec<u8>) {
    print_date(datetime.date, out);
    out.push(b' ');
    let Time { hour, minute, second, .. } = datetime.time;
    print_time(false, hour.into(), minute, second, out);
}

/// `-12:34:56`; an hour has two digits or as many as it needs.
pub(super) fn print_time(negative: bool, hours: u32, minute: u8, second: u8, out: &mut Vec<u8>) {
    if negative {
        out.push(b'-');
    }
    if hours > 99 {
        out.push(b'0' + (hours / 100 % 10) as u8);
    }
    two((hours % 100) as u8, out);
    out.push(b':');
    two(minute, out);
    out.push(b':');
    two(second, out);
}

/// `.123` for three digits, nothing for none. None where digits would be lost.
pub(super) fn print_fraction(micros: u32, digits: u32, out: &mut Vec<u8>) -> Option<()> {
    let unit = 10_u32.pow(6_u32.checked_sub(digits)?);
    if !micros.is_multiple_of(unit) {
        return None;
    }
    if digits > 0 {
        out.push(b'.');
        let mut unit = 100_000;
        for _ in 0..digits {
            out.push(b'0' + (micros / unit % 10) as u8);
            unit /= 10;
        }
    }
    Some(())
}
