//! What travels inside CopyData on a replication connection ("Streaming Replication Protocol", START_REPLICATION).
//!
//! Invariants:
//! - All times are microseconds since 2000-01-01 00:00 UTC, the server's own epoch; all positions are plain `u64` LSNs.
//! - A payload shorter than its grammar, a keepalive longer than it, and an unknown first byte are errors.

use crate::wire::WireError;

/// 2000-01-01 00:00 UTC in microseconds since 1970: 10,957 days of 86,400 s.
pub const POSTGRES_EPOCH_UNIX_US: i64 = 10_957 * 86_400 * 1_000_000;

/// Bytes before an [`XLogData`]'s own data: the tag and three 64-bit numbers.
pub const XLOG_DATA_HEADER_BYTES: usize = 1 + 3 * 8;

/// A standby status update as it goes over the wire: CopyData's tag and length, `r`, four 64-bit numbers, a byte.
pub const STATUS_UPDATE_BYTES: usize = 5 + 1 + 4 * 8 + 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    XLogData(XLogData<'a>),
    Keepalive(Keepalive),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XLogData<'a> {
    /// Where the data begins in the log; 0 where the output plugin gives none.
    pub start_lsn: u64,
    /// The end of the log on the server when it sent this.
    pub end_lsn: u64,
    /// The server's clock, microseconds since 2000.
    pub sent_us: i64,
    pub data: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Up to here the server has nothing more for us.
    pub wal_end: u64,
    /// The server's clock, microseconds since 2000.
    pub sent_us: i64,
    /// The server wants a status update at once, or it closes the connection after `wal_sender_timeout`.
    pub reply_requested: bool,
}

/// Reads the body of one CopyData message.
///
/// ```text
/// XLogData (B)                    Primary keepalive message (B)
///   Byte1('w')                      Byte1('k')
///   Int64  start of the WAL data    Int64  current end of WAL on the server
///   Int64  current end of WAL       Int64  server's clock, µs since 2000
///   Int64  clock, µs since 2000     Byte1  1: reply as soon as possible
///   Byten  a section of the WAL stream
/// ```
///
/// # Errors
/// A truncated payload, a keepalive of another length, an unknown first byte.
#[inline]
pub fn parse(body: &[u8]) -> Result<Payload<'_>, WireError> {
    match body.first() {
        Some(b'w') => {
            let Some((header, data)) = body.split_first_chunk::<XLOG_DATA_HEADER_BYTES>() else {
                return Err(WireError::new("XLogData", "truncated", body.len()));
            };
            Ok(Payload::XLogData(XLogData {
                start_lsn: be64(header, 1),
                end_lsn: be64(header, 9),
                sent_us: be64(header, 17).cast_signed(),
                data,
            }))
        }
        Some(b'k') => {
            let body: &[u8; 18] =
                body.try_into().map_err(|_| WireError::new("keepalive", "not 18 bytes long", body.len()))?;
            Ok(Payload::Keepalive(Keepalive {
                wal_end: be64(body, 1),
                sent_us: be64(body, 9).cast_signed(),
                reply_requested: body[17] != 0,
            }))
        }
        Some(_) => Err(WireError::new("replication payload", "the first byte is neither w nor k", 0)),
        None => Err(WireError::new("replication payload", "empty", 0)),
    }
}

/// What the receiver holds; answers a keepalive and lets the slot advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Received up to here (exclusive: "the last WAL byte + 1").
    pub write_lsn: u64,
    /// Durable up to here: what becomes the slot's `confirmed_flush_lsn`.
    pub flush_lsn: u64,
    pub apply_lsn: u64,
    /// Our clock, microseconds since 2000.
    pub sent_us: i64,
    /// Ask the server for a keepalive at once.
    pub reply_requested: bool,
}

impl StatusUpdate {
    /// The complete CopyData message, ready for the socket.
    ///
    /// ```text
    /// Standby status update (F): Byte1('r'), Int64 written + 1, Int64 flushed + 1, Int64 applied + 1,
    ///                            Int64 clock µs since 2000, Byte1 1: reply at once
    /// ```
    pub fn encode(&self) -> [u8; STATUS_UPDATE_BYTES] {
        let mut out = [0; STATUS_UPDATE_BYTES];
        out[0] = b'd';
        out[1..5].copy_from_slice(&(STATUS_UPDATE_BYTES as u32 - 1).to_be_bytes());
        out[5] = b'r';
        out[6..14].copy_from_slice(&self.write_lsn.to_be_bytes());
        out[14..22].copy_from_slice(&self.flush_lsn.to_be_bytes());
        out[22..30].copy_from_slice(&self.apply_lsn.to_be_bytes());
        out[30..38].copy_from_slice(&self.sent_us.to_be_bytes());
        out[38] = u8::from(self.reply_requested);
        out
    }
}

#[inline]
fn be64<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pg::frame;
    use proptest::prelude::*;

    #[test]
    fn reads_xlog_data() {
        let mut body = vec![b'w'];
        body.extend(0x1_0000_0028_u64.to_be_bytes());
        body.extend(0x1_0000_0100_u64.to_be_bytes());
        body.extend((-7_i64).to_be_bytes());
        assert_eq!(
            parse(&body).unwrap(),
            Payload::XLogData(XLogData { start_lsn: 0x1_0000_0028, end_lsn: 0x1_0000_0100, sent_us: -7, data: b"" })
        );
        body.extend(b"B...");
        let Payload::XLogData(message) = parse(&body).unwrap() else { panic!("not XLogData") };
        assert_eq!(message.data, b"B...");
        for end in 1..XLOG_DATA_HEADER_BYTES {
            assert_eq!(parse(&body[..end]).unwrap_err().message, "XLogData", "{end} bytes");
        }
    }

    #[test]
    fn reads_a_keepalive_of_exactly_its_length() {
        let mut body = vec![b'k'];
        body.extend(0x16_B374_D848_u64.to_be_bytes());
        body.extend(800_000_000_000_000_i64.to_be_bytes());
        body.push(1);
        let keepalive = Keepalive { wal_end: 0x16_B374_D848, sent_us: 800_000_000_000_000, reply_requested: true };
        assert_eq!(parse(&body).unwrap(), Payload::Keepalive(keepalive));
        assert!(parse(&body[..17]).is_err());
        body.push(0);
        assert!(parse(&body).is_err());
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(parse(b"").is_err());
        assert!(parse(b"x").is_err());
    }

    #[test]
    fn a_status_update_is_one_copy_data_message() {
        let update =
            StatusUpdate { write_lsn: 3, flush_lsn: 2, apply_lsn: 1, sent_us: 0x0102_0304, reply_requested: true };
        let bytes = update.encode();
        let frame = frame::next(&bytes).unwrap().unwrap();
        assert_eq!((frame.tag, frame.total_bytes), (b'd', STATUS_UPDATE_BYTES));
        let mut body = vec![b'r'];
        for number in [3_u64, 2, 1, 0x0102_0304] {
            body.extend(number.to_be_bytes());
        }
        body.push(1);
        assert_eq!(frame.body, body);
    }

    proptest! {
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..64), tag in prop::sample::select(b"wkrx".to_vec())) {
            let mut tagged = vec![tag];
            tagged.extend(&body);
            let _ = parse(&body);
            let _ = parse(&tagged);
        }
    }
}
