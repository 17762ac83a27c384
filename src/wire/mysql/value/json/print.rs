//! A document as the server prints it (json_dom.cc, `Json_wrapper::to_string`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::binary::{self, Budget, Container, Entry, Item, counted};
use super::{MAX_DEPTH, Wrong, number};
use crate::print::{quoted_bytes, signed, unsigned};
use crate::wire::mysql::value::decimal;
use crate::wire::mysql::value::temporal::{
    packed_datetime, packed_time, print_date, print_datetime, print_fraction, print_time,
};

/// Appends a whole document.
pub(super) fn document(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong> {
    let mut budget = Budget::new(bytes.len());
    match bytes {
        [kind @ 0..=3, container @ ..] => stored_container(*kind, container, MAX_DEPTH, &mut budget, out),
        _ => print(&binary::document(bytes, &mut budget)?, MAX_DEPTH, &mut budget, out),
    }
}

#[inline]
fn stored_container(kind: u8, bytes: &[u8], depth: u32, budget: &mut Budget, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let container = Container::of_kind(kind, bytes, budget)?;
    let (opening, closing) = if kind < 2 { (b'{', b'}') } else { (b'[', b']') };
    out.push(opening);
    members(&container, deeper(depth)?, budget, out)?;
    out.push(closing);
    Ok(())
}

/// Appends a value with everything in it; `depth`: how many containers deep it may go. Recursion ends there.
pub(super) fn print(item: &Item<'_>, depth: u32, budget: &mut Budget, out: &mut Vec<u8>) -> Result<(), Wrong> {
    match *item {
        Item::Null => out.extend_from_slice(b"null"),
        Item::Bool(true) => out.extend_from_slice(b"true"),
        Item::Bool(false) => out.extend_from_slice(b"false"),
        Item::Int(number) => signed(number, out),
        Item::UInt(number) => unsigned(number, out),
        Item::Double(number) if number.is_finite() => number::print(number, out),
        Item::Double(_) => return Err(Wrong("a JSON number")),
        Item::Text(text) => string(text, out)?,
        Item::Opaque(column_type, bytes) => opaque(column_type, bytes, out)?,
        Item::Object(ref container) => {
            out.push(b'{');
            members(container, deeper(depth)?, budget, out)?;
            out.push(b'}');
        }
        Item::Array(ref container) => {
            out.push(b'[');
            members(container, deeper(depth)?, budget, out)?;
            out.push(b']');
        }
    }
    Ok(())
}

/// One container less.
pub(super) fn deeper(depth: u32) -> Result<u32, Wrong> {
    depth.checked_sub(1).ok_or(Wrong("a JSON document of at most 100 levels"))
}

/// What stands between the brackets.
fn members(container: &Container<'_>, depth: u32, budget: &mut Budget, out: &mut Vec<u8>) -> Result<(), Wrong> {
    match container.large {
        false => members_wide::<2>(container, depth, budget, out),
        true => members_wide::<4>(container, depth, budget, out),
    }
}

fn members_wide<const WIDTH: usize>(
    container: &Container<'_>,
    depth: u32,
    budget: &mut Budget,
    out: &mut Vec<u8>,
) -> Result<(), Wrong> {
    const SEPARATOR: &[u8; 2] = b", ";
    let mut entries = container.entries::<WIDTH>()?;
    while let Some(Entry { key, kind, slot }) = entries.next(budget)? {
        if let Some(key) = key {
            string(key, out)?;
            out.extend_from_slice(b": ");
        }
        match kind {
            // What is most frequent, without the way through an item.
            4 if slot == 1 => out.extend_from_slice(b"true"),
            4 if slot == 2 => out.extend_from_slice(b"false"),
            5 => signed((slot as u16 as i16).into(), out),
            7 if WIDTH == 2 => signed(binary::int32(entries.there(slot)?, budget)?.into(), out),
            12 => string(counted(entries.there(slot)?, budget)?, out)?,
            0..=3 => stored_container(kind, entries.there(slot)?, depth, budget, out)?,
            _ => print(&entries.item(kind, slot, budget)?, depth, budget, out)?,
        }
        out.extend_from_slice(SEPARATOR);
    }
    if container.count > 0 {
        out.truncate(out.len() - SEPARATOR.len());
    }
    Ok(())
}

#[inline]
fn string(text: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong> {
    if quoted_bytes(text, out) { Ok(()) } else { Err(Wrong("a JSON document in UTF-8")) }
}

/// A value of an SQL type: a decimal as a number, a date or time as a string with six digits of a fraction, any other in
/// base64 behind the type's number.
///
/// ```text
/// DECIMAL     precision:1 scale:1 and its digits packed as in a row
/// temporal    8 bytes, little-endian: the fields as in a row, whatever the type, << 24, and microseconds
/// ```
fn opaque(column_type: u8, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong> {
    const TIMESTAMP: u8 = 7;
    const DATE: u8 = 10;
    const TIME: u8 = 11;
    const DATETIME: u8 = 12;
    const NEWDECIMAL: u8 = 246;
    let packed = || bytes.try_into().map(i64::from_le_bytes);
    match column_type {
        NEWDECIMAL => return decimal::tagged(bytes, out).ok_or(Wrong("a DECIMAL in a JSON document")),
        DATE | DATETIME | TIMESTAMP => {
            let wrong = Wrong("a date in a JSON document");
            let Some(packed) = packed().ok().and_then(|packed| u64::try_from(packed).ok()) else { return Err(wrong) };
            let micros = (packed & 0xFF_FFFF) as u32;
            let datetime = packed_datetime(packed >> 24, micros)
                .filter(|datetime| datetime.date.year <= 9999 && datetime.time.hour < 24 && micros < 1_000_000);
            let Some(datetime) = datetime else { return Err(wrong) };
            out.push(b'"');
            if column_type == DATE {
                print_date(datetime.date, out);
            } else {
                print_datetime(datetime, out);
                print_fraction(micros, 6, out);
            }
        }
        TIME => {
            let Some((negative, hours, minute, second, micros)) = packed().ok().and_then(packed_time) else {
                return Err(Wrong("a time in a JSON document"));
            };
            out.push(b'"');
            print_time(negative, hours, minute, second, out);
            print_fraction(micros, 6, out);
        }
        _ => {
            // The server's base64 begins a new line behind 76 characters.
            const LINE_BYTES: usize = 76 / 4 * 3;
            out.extend_from_slice(b"\"base64:type");
            unsigned(column_type.into(), out);
            out.push(b':');
            for (index, line) in bytes.chunks(LINE_BYTES).enumerate() {
                if index > 0 {
                    out.extend_from_slice(b"\\n");
                }
                let mut encoded = [0; 76];
                let length =
                    STANDARD.encode_slice(line, &mut encoded).map_err(|_| Wrong("bytes of a JSON document"))?;
                out.extend_from_slice(&encoded[..length]);
            }
        }
    }
    out.push(b'"');
    Ok(())
}
