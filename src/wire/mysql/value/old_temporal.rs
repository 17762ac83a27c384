//! Temporal types as they were before MySQL 5.6, and as MariaDB keeps them with `mysql56_temporal_format=OFF`.
//!
//! The grammar (MariaDB, field.cc). Without a fraction, little-endian:
//!
//! ```text
//! DATE        4 bytes: year * 10000 + month * 100 + day
//! TIME        3 bytes, signed: hour * 10000 + minute * 100 + second
//! DATETIME    8 bytes: the digits YYYYMMDDhhmmss
//! TIMESTAMP   4 bytes: seconds since 1970-01-01 UTC; 0 is 0000-00-00 00:00:00
//! ```
//!
//! With one of n digits (MariaDB alone), big-endian:
//!
//! ```text
//! TIME        seconds with their fraction in units of 10^-n, more by 3,020,400 seconds (838:59:59 and one)
//! DATETIME    ((((year * 13 + month) * 32 + day) * 24 + hour) * 60 + minute) * 60 + second with its fraction, in 10^-n
//! TIMESTAMP   4 bytes of seconds and 1, 1, 2, 2, 3, 3 bytes of the fraction in 10^-n
//! ```

use super::number::{fixed, wrong};
use super::temporal::{DATE, DATETIME, TIME, TIMESTAMP, date_value, datetime_value, time_value, timestamp_value};
use crate::record::{Date, DateTime, Form, Time, Value, ValueError};

/// Bytes by the digits of the fraction.
const TIME_BYTES: [usize; 7] = [3, 4, 4, 5, 5, 5, 6];
const DATETIME_BYTES: [usize; 7] = [8, 6, 6, 7, 7, 7, 8];
const TIMESTAMP_BYTES: [usize; 7] = [4, 5, 5, 6, 6, 7, 7];

/// 838:59:59 and one second.
const TIME_ZERO_SECONDS: i64 = 3_020_400;

/// Bytes of a TIME with so many digits of a fraction, 0 to 6.
pub fn old_time_bytes(digits: u8) -> u16 {
    TIME_BYTES[usize::from(digits.min(6))] as u16
}

/// Bytes of a DATETIME with so many digits of a fraction, 0 to 6.
pub fn old_datetime_bytes(digits: u8) -> u16 {
    DATETIME_BYTES[usize::from(digits.min(6))] as u16
}

/// Bytes of a TIMESTAMP with so many digits of a fraction, 0 to 6.
pub fn old_timestamp_bytes(digits: u8) -> u16 {
    TIMESTAMP_BYTES[usize::from(digits.min(6))] as u16
}

/// DATE in 4 bytes.
pub fn date4<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let digits = u32::from_le_bytes(fixed(bytes, "DATE in 4 bytes")?);
    let date = Date { year: (digits / 10_000) as i32, month: (digits / 100 % 100) as u8, day: (digits % 100) as u8 };
    date_value(date, form.scratch).ok_or_else(|| wrong(DATE, bytes))
}

/// TIME as text, as the server prints it.
pub fn old_time<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let wrong = || wrong(TIME, bytes);
    if form.layout == 0 {
        let [a, b, c] = fixed(bytes, "TIME in 3 bytes")?;
        let digits = i32::from_le_bytes([0, a, b, c]) >> 8;
        let clock = digits.unsigned_abs();
        let (minute, second) = ((clock / 100 % 100) as u8, (clock % 100) as u8);
        return time_value(digits < 0, clock / 10_000, minute, second, 0, form).ok_or_else(wrong);
    }
    let (units, second_units) = units(bytes, form.layout, &TIME_BYTES).ok_or_else(wrong)?;
    // At most 6 bytes, and 3,020,400,000,000.
    let units = units as i64 - TIME_ZERO_SECONDS * second_units as i64;
    let (seconds, micros) = split(units.unsigned_abs(), second_units);
    let (minute, second) = ((seconds / 60 % 60) as u8, (seconds % 60) as u8);
    let hours = u32::try_from(seconds / 3_600).map_err(|_| wrong())?;
    time_value(units < 0, hours, minute, second, micros, form).ok_or_else(wrong)
}

/// DATETIME.
pub fn old_datetime<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let wrong = || wrong(DATETIME, bytes);
    let datetime = if form.layout == 0 {
        let digits = u64::from_le_bytes(fixed(bytes, "DATETIME in 8 bytes")?);
        let pair = |unit: u64| (digits / unit % 100) as u8;
        let year = i32::try_from(digits / 10_000_000_000).map_err(|_| wrong())?;
        DateTime {
            date: Date { year, month: pair(100_000_000), day: pair(1_000_000) },
            time: Time { hour: pair(10_000), minute: pair(100), second: pair(1), micros: 0 },
        }
    } else {
        let (units, second_units) = units(bytes, form.layout, &DATETIME_BYTES).ok_or_else(wrong)?;
        let (mut left, micros) = split(units, second_units);
        let mut field = |unit: u64| {
            let value = (left % unit) as u8;
            left /= unit;
            value
        };
        let (second, minute, hour, day, month) = (field(60), field(60), field(24), field(32), field(13));
        let year = i32::try_from(left).map_err(|_| wrong())?;
        DateTime { date: Date { year, month, day }, time: Time { hour, minute, second, micros } }
    };
    datetime_value(datetime, form).ok_or_else(wrong)
}

/// TIMESTAMP, in UTC.
pub fn old_timestamp<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let wrong = || wrong(TIMESTAMP, bytes);
    if form.layout == 0 {
        let seconds = u32::from_le_bytes(fixed(bytes, "TIMESTAMP in 4 bytes")?);
        return timestamp_value(seconds.into(), 0, form).ok_or_else(wrong);
    }
    let (units, second_units) = units(bytes, form.layout, &TIMESTAMP_BYTES).ok_or_else(wrong)?;
    let fraction_bits = (bytes.len() as u32 - 4) * 8;
    let fraction = units & ((1 << fraction_bits) - 1);
    if fraction >= second_units {
        return Err(wrong());
    }
    let micros = (fraction * (1_000_000 / second_units)) as u32;
    timestamp_value(units >> fraction_bits, micros, form).ok_or_else(wrong)
}

/// A big-endian number of as many bytes as a fraction of so many digits asks for, and its units in a second.
fn units(bytes: &[u8], digits: u32, lengths: &[usize; 7]) -> Option<(u64, u64)> {
    let length = lengths.get(usize::try_from(digits).ok()?)?;
    let units = bytes.iter().fold(0, |units, byte| units << 8 | u64::from(*byte));
    (bytes.len() == *length).then_some((units, 10_u64.pow(digits)))
}

/// Whole seconds and microseconds.
fn split(units: u64, second_units: u64) -> (u64, u32) {
    (units / second_units, (units % second_units * (1_000_000 / second_units)) as u32)
}
