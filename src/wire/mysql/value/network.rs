//! MariaDB's UUID, INET4 and INET6: bytes in the order they are printed, without zeros at the end.
//!
//! A UUID has another order in a table's file, which the log does not show (sql_type_uuid.h, `pack`).

use std::io::Write as _;

use super::number::wrong;
use crate::record::{Form, Value, ValueError};

/// The bytes with the zeros that a rows event leaves out.
fn padded<const N: usize>(bytes: &[u8], expected: &'static str) -> Result<[u8; N], ValueError> {
    let mut padded = [0; N];
    padded.get_mut(..bytes.len()).ok_or_else(|| wrong(expected, bytes))?.copy_from_slice(bytes);
    Ok(padded)
}

/// UUID.
pub fn uuid<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let out = form.scratch.clear();
    for (index, byte) in padded::<16>(bytes, "UUID in 16 bytes")?.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    std::str::from_utf8(out).map(Value::Uuid).map_err(|_| wrong("UUID in 16 bytes", bytes))
}

/// INET4 as the server prints it: `192.0.2.1`.
pub fn inet4<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let out = form.scratch.clear();
    print4(padded(bytes, "INET4 in 4 bytes")?, out);
    std::str::from_utf8(out).map(Value::Text).map_err(|_| wrong("INET4 in 4 bytes", bytes))
}

/// INET6 as the server prints it (sql_type_inet.cc, `Inet6::to_string`): the first of the longest runs of zero groups, be
/// it one group, is `::`; an address of IPv4 within it ends with that.
pub fn inet6<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let address: [u8; 16] = padded(bytes, "INET6 in 16 bytes")?;
    let mut groups = [0_u16; 8];
    for (group, pair) in groups.iter_mut().zip(address.as_chunks().0) {
        *group = u16::from_be_bytes(*pair);
    }
    let (mut gap, mut gap_length) = (groups.len(), 0);
    let mut start = 0;
    for (index, group) in groups.iter().enumerate() {
        if *group != 0 {
            start = index + 1;
        } else if index + 1 - start > gap_length {
            (gap, gap_length) = (start, index + 1 - start);
        }
    }
    let out = form.scratch.clear();
    let mut index = 0;
    while index < groups.len() {
        if index == gap {
            if index == 0 {
                out.push(b':');
            }
            out.push(b':');
            index += gap_length;
        } else if index == 6 && gap == 0 && (gap_length == 6 || gap_length == 5 && groups[5] == 0xFFFF) {
            print4([address[12], address[13], address[14], address[15]], out);
            break;
        } else {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{:x}", groups[index]);
            index += 1;
            if index < groups.len() {
                out.push(b':');
            }
        }
    }
    std::str::from_utf8(out).map(Value::Text).map_err(|_| wrong("INET6 in 16 bytes", bytes))
}

fn print4([a, b, c, d]: [u8; 4], out: &mut Vec<u8>) {
    let _ = write!(out, "{a}.{b}.{c}.{d}");
}
