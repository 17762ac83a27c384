//! Packets: where one ends and the next begins.
//!
//! "MySQL Packets", `Protocol::Packet`:
//! ```text
//! int<3>  payload_length   0 to 2^24 - 1
//! int<1>  sequence_id      0 at a command, one more for each packet of either side, wraps around
//! payload
//! ```
//! "If the payload is larger than or equal to 2^24 - 1 bytes the length is set to 2^24 - 1 (ff ff ff) and additional
//! packets are sent with the rest of the payload until the payload of a packet is less than 2^24 - 1 bytes."
//!
//! Invariants:
//! - A frame borrows from the read buffer; nothing is copied and nothing is allocated.
//! - The header cannot lie beyond 16 MiB: more is only believed as it comes.

/// Length and sequence number.
pub const HEADER_BYTES: usize = 4;

/// A payload of this length goes on in the next packet.
pub const MAX_PAYLOAD_BYTES: usize = 0xff_ffff;

/// The largest payload we take, joined: `max_allowed_packet` is 1 GiB at the most, and a dump sends events of that size
/// with their header; 1 MiB more leaves room for both.
pub const MAX_JOINED_BYTES: usize = (1 << 30) + (1 << 20);

/// The header of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub payload_bytes: usize,
    pub sequence: u8,
}

impl Header {
    /// The payload goes on in the next packet.
    #[inline]
    pub fn continues(self) -> bool {
        self.payload_bytes == MAX_PAYLOAD_BYTES
    }

    #[inline]
    pub fn total_bytes(self) -> usize {
        HEADER_BYTES + self.payload_bytes
    }
}

/// The header that stands first in `bytes`; None below four bytes.
#[inline]
pub fn header(bytes: &[u8]) -> Option<Header> {
    let &[a, b, c, sequence] = bytes.first_chunk::<HEADER_BYTES>()?;
    Some(Header { payload_bytes: u32::from_le_bytes([a, b, c, 0]) as usize, sequence })
}

/// Appends `payload` in as many packets as it needs, the first with this sequence number. Returns the number after the
/// last.
pub fn write(payload: &[u8], mut sequence: u8, out: &mut impl Extend<u8>) -> u8 {
    let mut rest = payload;
    loop {
        let (part, behind) = rest.split_at(rest.len().min(MAX_PAYLOAD_BYTES));
        let [a, b, c, _] = (part.len() as u32).to_le_bytes();
        out.extend([a, b, c, sequence]);
        out.extend(part.iter().copied());
        sequence = sequence.wrapping_add(1);
        if part.len() < MAX_PAYLOAD_BYTES {
            return sequence;
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads back what was written, by the grammar alone.
    fn join(mut bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut payload, mut sequences) = (Vec::new(), Vec::new());
        loop {
            let header = header(bytes).unwrap();
            payload.extend_from_slice(&bytes[HEADER_BYTES..header.total_bytes()]);
            sequences.push(header.sequence);
            bytes = &bytes[header.total_bytes()..];
            if !header.continues() {
                assert!(bytes.is_empty());
                return (payload, sequences);
            }
        }
    }

    #[test]
    fn a_payload_of_the_limit_has_an_empty_end() {
        for (length, packets) in [
            (0, 1),
            (1, 1),
            (MAX_PAYLOAD_BYTES - 1, 1),
            (MAX_PAYLOAD_BYTES, 2),
            (MAX_PAYLOAD_BYTES + 1, 2),
            (2 * MAX_PAYLOAD_BYTES, 3),
        ] {
            let payload: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let mut bytes = Vec::new();
            let next = write(&payload, 254, &mut bytes);
            let (read, sequences) = join(&bytes);
            assert!(read == payload, "{length} bytes");
            assert_eq!(sequences, [254u8, 255, 0][..packets]);
            assert_eq!(next, 254u8.wrapping_add(packets as u8));
        }
    }

    #[test]
    fn a_torn_header_is_not_there_yet() {
        assert_eq!(header(&[1, 0, 0]), None);
        assert_eq!(header(&[1, 2, 0, 7, 9]), Some(Header { payload_bytes: 0x201, sequence: 7 }));
    }

    proptest! {
        #[test]
        fn reads_back_what_was_written(payload in prop::collection::vec(any::<u8>(), 0..300), sequence: u8) {
            let mut bytes = Vec::new();
            write(&payload, sequence, &mut bytes);
            prop_assert_eq!(join(&bytes), (payload, vec![sequence]));
        }
    }
}
