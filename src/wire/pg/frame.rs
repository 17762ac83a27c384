//! Message framing: where one backend message ends and the next begins.
//!
//! Invariants:
//! - A frame borrows from the read buffer; nothing is copied and nothing is allocated.
//! - A length below 4 or above [`MAX_MESSAGE_BYTES`] is an error as soon as the five bytes of the header are there: a
//!   lying length never makes the reader wait for, or reserve, more than that.

use crate::wire::WireError;

/// Tag and length. From the manual, "Message Formats": *Byte1* identifies the message, *Int32* is the "length of message
/// contents in bytes, including self".
pub const HEADER_BYTES: usize = 5;

/// The largest message we take: the server builds every message in a StringInfo, which holds at most `MaxAllocSize` =
/// 1 GiB - 1 bytes; 1 MiB more leaves room for headers around such a value and for a server that changes its mind a little.
pub const MAX_MESSAGE_BYTES: usize = (1 << 30) + (1 << 20);

/// The tags a backend sends ("Message Formats").
pub mod tag {
    pub const AUTHENTICATION: u8 = b'R';
    pub const BACKEND_KEY_DATA: u8 = b'K';
    pub const COMMAND_COMPLETE: u8 = b'C';
    pub const COPY_BOTH_RESPONSE: u8 = b'W';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_IN_RESPONSE: u8 = b'G';
    pub const COPY_OUT_RESPONSE: u8 = b'H';
    pub const DATA_ROW: u8 = b'D';
    pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
    pub const ERROR_RESPONSE: u8 = b'E';
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    pub const NOTICE_RESPONSE: u8 = b'N';
    pub const NOTIFICATION_RESPONSE: u8 = b'A';
    pub const PARAMETER_STATUS: u8 = b'S';
    pub const READY_FOR_QUERY: u8 = b'Z';
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// One complete backend message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub tag: u8,
    /// What follows the length.
    pub body: &'a [u8],
    /// Bytes of the whole message, header included: what to take off the buffer.
    pub total_bytes: usize,
}

/// The first message in `bytes`, or None while it is not complete.
///
/// # Errors
/// A length that no message can have.
#[inline]
pub fn next(bytes: &[u8]) -> Result<Option<Frame<'_>>, WireError> {
    match header(bytes)? {
        Some((tag, total_bytes)) if total_bytes <= bytes.len() => {
            Ok(Some(Frame { tag, body: &bytes[HEADER_BYTES..total_bytes], total_bytes }))
        }
        _ => Ok(None),
    }
}

/// Tag and total bytes of the first message, which need not be complete; None below five bytes.
///
/// # Errors
/// A length that no message can have.
#[inline]
pub fn header(bytes: &[u8]) -> Result<Option<(u8, usize)>, WireError> {
    let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    // One comparison for both ends: a length below 4 wraps around to a huge number.
    if length.wrapping_sub(4) > MAX_MESSAGE_BYTES - 4 {
        return Err(WireError::new("frame", "the length is below 4 or above the limit of 1 GiB + 1 MiB", 1));
    }
    Ok(Some((tag, length + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn takes_one_message_and_leaves_the_rest() {
        let mut bytes = message(b'd', b"hello");
        bytes.extend(message(b'c', b""));
        let first = next(&bytes).unwrap().unwrap();
        assert_eq!(first, Frame { tag: b'd', body: b"hello", total_bytes: 10 });
        let second = next(&bytes[first.total_bytes..]).unwrap().unwrap();
        assert_eq!(second, Frame { tag: b'c', body: b"", total_bytes: 5 });
    }

    #[test]
    fn a_truncated_message_is_not_complete() {
        let bytes = message(b'd', b"hello");
        for end in 0..bytes.len() {
            assert_eq!(next(&bytes[..end]).unwrap(), None, "{end} bytes");
        }
        assert_eq!(header(&bytes[..5]).unwrap(), Some((b'd', 10)));
    }

    #[test]
    fn a_lying_length_is_an_error() {
        let limit = u32::try_from(MAX_MESSAGE_BYTES).unwrap();
        for length in [0u32, 1, 2, 3, limit + 1, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            let mut bytes = vec![b'd'];
            bytes.extend(length.to_be_bytes());
            assert!(next(&bytes).is_err(), "{length}");
        }
        let mut bytes = vec![b'd'];
        bytes.extend(limit.to_be_bytes());
        assert_eq!(next(&bytes).unwrap(), None);
        assert_eq!(header(&bytes).unwrap(), Some((b'd', MAX_MESSAGE_BYTES + 1)));
    }

    proptest! {
        #[test]
        fn never_panics_and_never_reads_beyond(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some(frame)) = next(&bytes) {
                prop_assert!(frame.total_bytes <= bytes.len());
                prop_assert_eq!(frame.body.len() + HEADER_BYTES, frame.total_bytes);
            }
        }

        #[test]
        fn reads_back_what_was_framed(tag: u8, body in prop::collection::vec(any::<u8>(), 0..300), tail in prop::collection::vec(any::<u8>(), 0..20)) {
            let mut bytes = message(tag, &body);
            bytes.extend(tail);
            let frame = next(&bytes).unwrap().unwrap();
            prop_assert_eq!((frame.tag, frame.body), (tag, &body[..]));
        }
    }
}
