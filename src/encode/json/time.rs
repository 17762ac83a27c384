//! Dates and times as JSON strings, always six digits of a fraction.

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
        Some(micros) => timestamp(DateTime::from_unix_micros(micros), b"Z", out),
        None => out.extend_from_slice(b"null"),
    }
}

pub(super) fn date(date: Date, out: &mut Vec<u8>) {
    out.push(b'"');
    day(date, out);
    end(date, b"", out);
}

/// `zone`: `Z`, or nothing for a timestamp without one.
#[inline]
pub(super) fn timestamp(value: DateTime, zone: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    day(value.date, out);
    let Time { hour, minute, second, micros } = value.time;
    let [h1, h2] = pair(hour.into());
    let [m1, m2] = pair(minute.into());
    let [s1, s2] = pair(second.into());
    let [f1, f2] = pair(micros / 10_000);
    let [f3, f4] = pair(micros / 100);
    let [f5, f6] = pair(micros);
    out.extend_from_slice(&[b'T', h1, h2, b':', m1, m2, b':', s1, s2, b'.', f1, f2, f3, f4, f5, f6]);
    end(value.date, zone, out);
}

/// The date without its era: `2026-11-21`; a year has four digits or as many as it needs.
#[inline]
fn day(date: Date, out: &mut Vec<u8>) {
    // The year of the era: year 0 is 1 BC.
    let year = if date.year > 0 { date.year.unsigned_abs() } else { date.year.unsigned_abs() + 1 };
    if year > 9999 {
        super::value::unsigned((year / 10_000).into(), out);
    }
    let [y1, y2] = pair(year / 100);
    let [y3, y4] = pair(year);
    let [m1, m2] = pair(date.month.into());
    let [d1, d2] = pair(date.day.into());
    out.extend_from_slice(&[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2]);
}

#[inline]
fn end(date: Date, zone: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(zone);
    out.extend_from_slice(if date.year > 0 { b"\"" } else { b" BC\"" });
}
