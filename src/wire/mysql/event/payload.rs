//! TRANSACTION_PAYLOAD: a transaction's events, one behind the other and compressed.

use super::super::Reader;
use super::{Event, HEADER_BYTES};
use crate::wire::WireError;

const NAME: &str = "TRANSACTION_PAYLOAD";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionPayload<'a> {
    pub header: PayloadHeader,
    /// Whole events without checksums behind one another, once decompressed; [`Event::plain`] opens each.
    pub payload: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadHeader {
    pub compression: PayloadCompression,
    /// Bytes of the payload as it stands in the event.
    pub payload_bytes: u64,
    /// Bytes once decompressed, where the server says.
    pub uncompressed_bytes: Option<u64>,
    /// Where in the event the payload begins.
    pub payload_at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadCompression {
    Zstd,
    None,
}

/// An event's header, the payload's three fields of at most 1 + 1 + 9 bytes and the end mark, and room for as many fields
/// of newer servers: where so many bytes of an event do not hold the whole head, it is malformed.
const HEAD_MAX_BYTES: usize = HEADER_BYTES + 128;

impl PayloadHeader {
    /// Reads the head from an event's first bytes, its header included; `None` when they do not hold it whole yet.
    ///
    /// ```text
    /// TRANSACTION_PAYLOAD: fields of Packed type, Packed length, Byten value, up to a type of 0:
    ///   1 Packed size of the payload | 2 Packed compression (0 zstd, 255 none) | 3 Packed uncompressed size
    ///   others are new and skipped; then the payload
    /// ```
    ///
    /// # Errors
    /// A field of another length than its value, no size, an unknown compression, no end within 147 bytes.
    pub fn parse_prefix(event: &[u8]) -> Result<Option<PayloadHeader>, WireError> {
        let mut reader = Reader::new(NAME, event, HEADER_BYTES);
        let (mut payload_bytes, mut compression, mut uncompressed_bytes) = (None, None, None);
        // Until the event's end is known, what is missing is only not here yet.
        macro_rules! or_incomplete {
            ($read:expr) => {
                match $read {
                    Ok(read) => read,
                    Err(error) if error.problem == TRUNCATED && event.len() < HEAD_MAX_BYTES => return Ok(None),
                    Err(error) => return Err(error),
                }
            };
        }
        loop {
            let kind = or_incomplete!(reader.packed());
            if kind == 0 {
                break;
            }
            let length = or_incomplete!(reader.packed_length());
            let mut value = Reader::new(NAME, &event[..reader.at() + length], reader.at());
            or_incomplete!(reader.take(length));
            match kind {
                1 => payload_bytes = Some(value.packed()?),
                2 => {
                    compression = Some(match value.packed()? {
                        0 => PayloadCompression::Zstd,
                        255 => PayloadCompression::None,
                        _ => return Err(value.wrong("an unknown compression")),
                    });
                }
                3 => uncompressed_bytes = Some(value.packed()?),
                _ => {
                    value.rest();
                }
            }
            value.end()?;
        }
        let Some(payload_bytes) = payload_bytes else { return Err(reader.wrong("no size of the payload")) };
        let Some(compression) = compression else { return Err(reader.wrong("no compression is named")) };
        Ok(Some(PayloadHeader { compression, payload_bytes, uncompressed_bytes, payload_at: reader.at() }))
    }
}

/// What [`Reader`] says of missing bytes.
const TRUNCATED: &str = super::super::reader::TRUNCATED;

pub(super) fn parse<'a>(event: &Event<'a>) -> Result<TransactionPayload<'a>, WireError> {
    let bytes = event.bytes();
    let truncated = || WireError::new(NAME, TRUNCATED, bytes.len());
    let header = PayloadHeader::parse_prefix(bytes)?.ok_or_else(truncated)?;
    let payload = bytes.get(header.payload_at..).ok_or_else(truncated)?;
    if payload.len() as u64 != header.payload_bytes {
        return Err(WireError::new(NAME, "another size of the payload than its head says", header.payload_at));
    }
    Ok(TransactionPayload { header, payload })
}
