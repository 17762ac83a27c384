//! Dates and times as JSON strings, always six digits of a fraction.

use crate::print::unsigned;
use crate::record::{Date, DateTime, Time};

/// `00` to `99`.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// The last two decimal digits of a number.
#[inline]
fn pair(number: u32) -> [u8; 2] {
    PAIRS[(number % 100) as usize]
}

/// The commit time of a transaction, null where it is unknown.
pub(super) fn unix_micros(micros: Option<i64>, out: &mut Vec<u8>) {
    match micros {
        Some(micros) => timestamp(DateTime::from_unix_micros(micros), true, out),
        None => out.extend_from_slice(b"null"),
    }
}

pub(super) fn date(date: Date, out: &mut Vec<u8>) {
    open(out, date, b"0000-00-00");
    end(date, out);
}

/// With `Z` where it is of the zone UTC.
#[inline]
pub(super) fn timestamp(value: DateTime, utc: bool, out: &mut Vec<u8>) {
    let text = open(out, value.date, b"0000-00-00T00:00:00.000000");
    let Time { hour, minute, second, micros } = value.time;
    text[11..13].copy_from_slice(&pair(hour.into()));
    text[14..16].copy_from_slice(&pair(minute.into()));
    text[17..19].copy_from_slice(&pair(second.into()));
    text[20..22].copy_from_slice(&pair(micros / 10_000));
    text[22..24].copy_from_slice(&pair(micros / 100));
    text[24..26].copy_from_slice(&pair(micros));
    if utc {
        out.push(b'Z');
    }
    end(value.date, out);
}

/// Appends a quote, digits of a year beyond four, and `text` with the date's digits in its first ten bytes.
#[inline]
fn open<'o, const N: usize>(out: &'o mut Vec<u8>, date: Date, text: &[u8; N]) -> &'o mut [u8; N] {
    // The year of the era: year 0 is 1 BC.
    let year = if date.year > 0 { date.year.unsigned_abs() } else { date.year.unsigned_abs() + 1 };
    out.push(b'"');
    if year > 9999 {
        unsigned((year / 10_000).into(), out);
    }
    out.extend_from_slice(text);
    let text = out.last_chunk_mut::<N>().expect("it was just appended");
    text[..2].copy_from_slice(&pair(year / 100));
    text[2..4].copy_from_slice(&pair(year));
    text[5..7].copy_from_slice(&pair(date.month.into()));
    text[8..10].copy_from_slice(&pair(date.day.into()));
    text
}

#[inline]
fn end(date: Date, out: &mut Vec<u8>) {
    if date.year <= 0 {
        out.extend_from_slice(b" BC");
    }
    out.push(b'"');
}
