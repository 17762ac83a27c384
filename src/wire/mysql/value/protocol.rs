//! Cells of the binary protocol where they differ from those of a rows event; the session has `character_set_results = NULL`
//! and `time_zone = '+00:00'`.
//!
//! Integers but MEDIUMINT (4 bytes, as INT) and YEAR, FLOAT, DOUBLE, BIT, characters, bytes, GEOMETRY and VECTOR have one
//! form. ENUM and SET come as their labels: [`super::label`].
//!
//! The grammar (manual, "Binary Protocol Value"), little-endian, without the length in front:
//!
//! ```text
//! DATE, DATETIME, TIMESTAMP   nothing: all zeros | year:2 month:1 day:1 [hour:1 minute:1 second:1 [micros:4]]
//! TIME                        nothing: zero | negative:1 days:4 hour:1 minute:1 second:1 [micros:4]
//! YEAR                        2 bytes
//! DECIMAL, JSON, UUID, INET4, INET6   as printed
//! ```

use super::number::{fixed, wrong};
use super::temporal::{DATE, DATETIME, TIME, TIMESTAMP, date_value, datetime_value, time_value};
use crate::record::{Date, DateTime, Form, Time, Value, ValueError};

/// YEAR.
pub fn year<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    Ok(Value::UInt(u16::from_le_bytes(fixed(bytes, "YEAR in 2 bytes")?).into()))
}

/// DECIMAL; without the zeros in front that ZEROFILL prints.
pub fn decimal<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    let wrong = || ValueError::new("a DECIMAL as printed", bytes);
    let text = std::str::from_utf8(bytes).map_err(|_| wrong())?;
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = unsigned.split_once('.').map_or((unsigned, None), |(whole, rest)| (whole, Some(rest)));
    if !digits(whole) || !fraction.is_none_or(digits) {
        return Err(wrong());
    }
    if whole.len() > 1 && whole.starts_with('0') && unsigned.len() == text.len() {
        // ZEROFILL is unsigned.
        let zeros = whole.len() - whole.trim_start_matches('0').len();
        return Ok(Value::Decimal(&text[zeros.min(whole.len() - 1)..]));
    }
    Ok(Value::Decimal(text))
}

/// DATE.
pub fn date<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    match fields(bytes) {
        Some((date, Time { hour: 0, minute: 0, second: 0, micros: 0 })) => date_value(date, form.scratch),
        _ => None,
    }
    .ok_or_else(|| wrong(DATE, bytes))
}

/// DATETIME.
pub fn datetime<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    fields(bytes)
        .and_then(|(date, time)| datetime_value(DateTime { date, time }, form))
        .ok_or_else(|| wrong(DATETIME, bytes))
}

/// TIMESTAMP.
pub fn timestamp<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    match datetime(bytes, form) {
        Ok(Value::Timestamp(datetime)) => Ok(Value::TimestampTz(datetime)),
        other => other.map_err(|_| wrong(TIMESTAMP, bytes)),
    }
}

/// TIME as text, as the server prints it.
pub fn time<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let wrong = || wrong(TIME, bytes);
    if bytes.is_empty() {
        return time_value(false, 0, 0, 0, 0, form).ok_or_else(wrong);
    }
    let Some(([negative @ (0 | 1), days @ .., hour, minute, second], rest)) = bytes.split_first_chunk::<8>() else {
        return Err(wrong());
    };
    let micros = micros(rest).ok_or_else(wrong)?;
    let hours = u32::from_le_bytes(*days).checked_mul(24).and_then(|hours| hours.checked_add((*hour).into()));
    time_value(*negative == 1, hours.ok_or_else(wrong)?, *minute, *second, micros, form).ok_or_else(wrong)
}

/// JSON as printed.
pub fn json<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    match std::str::from_utf8(bytes) {
        Ok(document) if !document.is_empty() => Ok(Value::Json(bytes)),
        _ => Err(ValueError::new("a JSON document in UTF-8", bytes)),
    }
}

/// MariaDB's UUID as printed.
pub fn uuid<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    let at = |at: usize, byte: u8| if matches!(at, 8 | 13 | 18 | 23) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    let valid = bytes.len() == 36 && bytes.iter().enumerate().all(|(index, &byte)| at(index, byte));
    match std::str::from_utf8(bytes) {
        Ok(text) if valid => Ok(Value::Uuid(text)),
        _ => Err(ValueError::new("a UUID", bytes)),
    }
}

/// Date and time of a DATE, DATETIME or TIMESTAMP.
fn fields(bytes: &[u8]) -> Option<(Date, Time)> {
    let midnight = Time { hour: 0, minute: 0, second: 0, micros: 0 };
    if bytes.is_empty() {
        return Some((Date { year: 0, month: 0, day: 0 }, midnight));
    }
    let (&[year_low, year_high, month, day], rest) = bytes.split_first_chunk()?;
    let date = Date { year: u16::from_le_bytes([year_low, year_high]).into(), month, day };
    if rest.is_empty() {
        return Some((date, midnight));
    }
    let (&[hour, minute, second], rest) = rest.split_first_chunk()?;
    Some((date, Time { hour, minute, second, micros: micros(rest)? }))
}

/// Microseconds, where there are any.
fn micros(bytes: &[u8]) -> Option<u32> {
    match bytes {
        [] => Some(0),
        _ => bytes.try_into().ok().map(u32::from_le_bytes).filter(|micros| *micros < 1_000_000),
    }
}
