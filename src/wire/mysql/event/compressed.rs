//! MariaDB's compressed statements and rows (`log_bin_compress`).

use flate2::{Decompress, FlushDecompress, Status};

use super::header::{KIND_AT, SIZE_AT};
use super::{EVENT_MAX_BYTES, Event, EventType, RowsKind, query, rows};
use crate::wire::WireError;

const NAME: &str = "compressed event";

/// A QUERY or rows event whose statement or rows are deflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compressed<'a> {
    /// What it is once inflated.
    pub kind: EventType,
    /// Bytes of the whole event once inflated.
    pub inflated_bytes: usize,
    event: &'a [u8],
    /// Where the compressed part's own head begins.
    head_at: usize,
    /// Where the zlib stream begins.
    stream_at: usize,
}

/// Deflate's best case: one bit for a length of 258 bytes, and one for its distance.
const DEFLATE_MAX_RATIO: usize = 258 * 8 / 2;

impl Compressed<'_> {
    pub(super) fn holds(kind: EventType) -> bool {
        plain_kind(kind).is_some()
    }

    /// Writes the plain event over `out`, for [`Event::plain`].
    ///
    /// # Errors
    /// A stream that is damaged or inflates to another length than it says.
    pub fn inflate(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let wrong = |problem| WireError::new(NAME, problem, self.stream_at);
        let (head, stream) = (&self.event[..self.head_at], &self.event[self.stream_at..]);
        out.clear();
        out.reserve_exact(self.inflated_bytes + 1);
        out.extend_from_slice(head);
        // Below `EVENT_MAX_BYTES`, so that it fits.
        out[SIZE_AT..SIZE_AT + 4].copy_from_slice(&(self.inflated_bytes as u32).to_le_bytes());
        out[KIND_AT] = self.kind.0;
        let mut inflate = Decompress::new(true);
        // One byte of room more than it says shows whether it is longer.
        while out.len() <= self.inflated_bytes {
            let (taken, written) = (inflate.total_in(), inflate.total_out());
            let status = inflate
                .decompress_vec(stream.get(taken as usize..).unwrap_or_default(), out, FlushDecompress::Finish)
                .map_err(|_| wrong("a zlib stream that is damaged"))?;
            match status {
                Status::StreamEnd => break,
                _ if (taken, written) == (inflate.total_in(), inflate.total_out()) => {
                    return Err(wrong("a zlib stream that ends too early"));
                }
                _ => {}
            }
        }
        if out.len() != self.inflated_bytes {
            return Err(wrong("a zlib stream of another length than it says"));
        }
        if inflate.total_in() != stream.len() as u64 {
            return Err(wrong("bytes left over behind the zlib stream"));
        }
        Ok(())
    }
}

fn plain_kind(kind: EventType) -> Option<EventType> {
    Some(match kind {
        EventType::MARIADB_QUERY_COMPRESSED => EventType::QUERY,
        EventType::MARIADB_WRITE_ROWS_COMPRESSED_V1 => EventType::WRITE_ROWS_V1,
        EventType::MARIADB_UPDATE_ROWS_COMPRESSED_V1 => EventType::UPDATE_ROWS_V1,
        EventType::MARIADB_DELETE_ROWS_COMPRESSED_V1 => EventType::DELETE_ROWS_V1,
        EventType::MARIADB_WRITE_ROWS_COMPRESSED => EventType::WRITE_ROWS,
        EventType::MARIADB_UPDATE_ROWS_COMPRESSED => EventType::UPDATE_ROWS,
        EventType::MARIADB_DELETE_ROWS_COMPRESSED => EventType::DELETE_ROWS,
        _ => return None,
    })
}

/// ```text
/// the plain event up to its statement or its rows, then
/// Int1 with the highest bit set, the algorithm (0 zlib) in the three bits below it, in the lowest three the length of
/// Int1 to Int4 inflated length, its highest byte first, then a zlib stream
/// ```
pub(super) fn parse<'a>(event: &Event<'a>) -> Result<Compressed<'a>, WireError> {
    let Some(kind) = plain_kind(event.header.kind) else { return Err(WireError::new(NAME, "not one", KIND_AT)) };
    let mut plain = *event;
    plain.header.kind = kind;
    let head_at = match RowsKind::of(kind) {
        Some(rows_kind) => rows::parse(&plain, rows_kind)?.rows_at(),
        None => query::parse(&plain)?.statement_at(),
    };
    let mut reader = super::Reader::new(NAME, event.bytes(), head_at);
    let head = reader.u8()?;
    if head & 0xf0 != 0x80 {
        return Err(reader.wrong_last("an unknown compression", head));
    }
    let length_bytes = head & 0x07;
    if !(1..=4).contains(&length_bytes) {
        return Err(reader.wrong_last("an inflated length of no bytes or more than 4", head));
    }
    let length = reader.take(usize::from(length_bytes))?;
    let inflated = length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    if inflated > reader.left().saturating_mul(DEFLATE_MAX_RATIO)
        || inflated > EVENT_MAX_BYTES - head_at.min(EVENT_MAX_BYTES)
    {
        return Err(reader.wrong("an inflated length that its stream cannot have"));
    }
    Ok(Compressed { kind, inflated_bytes: head_at + inflated, event: event.bytes(), head_at, stream_at: reader.at() })
}
