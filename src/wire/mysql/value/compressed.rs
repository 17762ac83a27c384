//! MariaDB's COMPRESSED columns.
//!
//! The grammar (MariaDB, field_comp.cc); an empty value has no bytes at all:
//!
//! ```text
//! 0 bytes                       as they are
//! 0x80 | wrap | n, length:n     n of 1 to 4, the length big-endian; then zlib: deflate alone where wrap is 8, else with
//!                               zlib's head and checksum
//! ```

use flate2::{Decompress, FlushDecompress, Status};

use super::charset::Charset;
use super::number::wrong;
use crate::record::{Form, Value, ValueError};

const EXPECTED: &str = "a value of a COMPRESSED column";

/// VARBINARY and BLOB.
pub fn compressed_bytes<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    unpack(bytes, form.scratch.clear()).map(Value::Bytes)
}

/// VARCHAR and TEXT of any character set.
pub fn compressed_text<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let charset = Charset::of_layout(form.layout);
    let out = form.scratch.clear();
    if charset.is_utf8() {
        let text = unpack(bytes, out)?;
        return charset
            .decode(text, &mut Vec::new())
            .map(|_| ())
            .and_then(|()| std::str::from_utf8(text).map(Value::Text).map_err(|_| wrong(EXPECTED, bytes)));
    }
    if let [0, plain @ ..] = bytes {
        return charset.decode(plain, out).map(Value::Text);
    }
    // Two buffers: what is unpacked is not yet the text.
    let mut unpacked = Vec::new();
    let text = unpack(bytes, &mut unpacked)?;
    let mut converted = Vec::new();
    let text = charset.decode(text, &mut converted)?;
    out.extend_from_slice(text.as_bytes());
    std::str::from_utf8(out).map(Value::Text).map_err(|_| wrong(EXPECTED, bytes))
}

/// The value's bytes, in `out` where they had to be unpacked.
fn unpack<'b>(bytes: &'b [u8], out: &'b mut Vec<u8>) -> Result<&'b [u8], ValueError> {
    match bytes {
        [] => Ok(bytes),
        [0, plain @ ..] => Ok(plain),
        [head, rest @ ..] if head & 0x80 != 0 => {
            inflate(head & 8 == 0, usize::from(head & 7), rest, out).ok_or_else(|| wrong(EXPECTED, bytes))?;
            Ok(out)
        }
        _ => Err(wrong(EXPECTED, bytes)),
    }
}

/// Appends exactly as many bytes as the length says; None where there are fewer or more.
fn inflate(zlib: bool, length_bytes: usize, rest: &[u8], out: &mut Vec<u8>) -> Option<()> {
    /// What deflate makes of its input at most, 1032:1, so that a length is not believed before it can be true.
    const MAX_RATIO: usize = 1032;
    /// No value is larger than a packet, whose greatest `max_allowed_packet` is 1 GiB.
    const MAX_BYTES: usize = 1 << 30;
    if !(1..=4).contains(&length_bytes) {
        return None;
    }
    let (length, mut packed) = rest.split_at_checked(length_bytes)?;
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    if length > MAX_BYTES || length > packed.len().saturating_mul(MAX_RATIO) {
        return None;
    }
    // One byte more than it should become shows a length that lies.
    out.reserve_exact(length + 1);
    let mut inflater = Decompress::new(zlib);
    loop {
        let before = (inflater.total_in(), out.len());
        let status = inflater.decompress_vec(packed, out, FlushDecompress::Finish).ok()?;
        let read = usize::try_from(inflater.total_in() - before.0).ok()?;
        packed = packed.get(read..)?;
        match status {
            Status::StreamEnd => return (out.len() == length && packed.is_empty()).then_some(()),
            _ if out.len() > length || (read == 0 && out.len() == before.1) => return None,
            _ => {}
        }
    }
}
