//! Where in the server's log the stream is: file and offset, counted in 64 bits.
//!
//! Invariants:
//! - An event's end is its beginning and its size. Where the header names the end too, in 32 bits, both agree, or the
//!   server has left events out (those of transactions that it was told we have): then the header is right, and it only
//!   ever leads forward.
//! - What was made for this connection alone moves nothing but by what it says: a ROTATE, a heartbeat.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::record::gtid::Gtid;
use crate::record::{BinlogPosition, Position, Seen, file_number};
use crate::wire::mysql::event::{EventType, Header, Heartbeat, Rotate};

/// What the first event of a file stands behind: the file's magic number.
pub const FIRST_EVENT: u64 = 4;

#[derive(Clone, Debug)]
pub struct Place {
    /// See [`BinlogPosition::server`].
    pub server: u64,
    pub file: Arc<str>,
    /// The end of what has been read.
    pub offset: u64,
    pub file_created_unix_s: u32,
}

impl Place {
    /// Where an event begins; the place moves to its end. An event that is not in the file begins where the place is.
    #[inline]
    pub fn pass(&mut self, header: &Header) -> u64 {
        let heartbeat = matches!(header.kind, EventType::HEARTBEAT | EventType::HEARTBEAT_V2);
        // Sent again at the start of a dump that begins in the middle of its file.
        let again = header.kind == EventType::FORMAT_DESCRIPTION && header.next_position == 0;
        let in_file = !(header.flags.artificial() || heartbeat || again);
        if !in_file {
            return self.offset;
        }
        if header.kind == EventType::FORMAT_DESCRIPTION {
            self.offset = FIRST_EVENT;
        }
        let size = u64::from(header.size_bytes);
        let mut end = self.offset + size;
        if header.next_position != 0 {
            end += u64::from(header.next_position.wrapping_sub(end as u32));
        }
        self.offset = end;
        end - size
    }

    /// The log goes on elsewhere. Whether that is another file.
    ///
    /// # Errors
    /// Lost: it goes on in an earlier file: it was reset.
    pub fn rotate(&mut self, rotate: &Rotate<'_>) -> Result<bool> {
        let other = *rotate.file != *self.file;
        if other {
            if !self.file.is_empty() && file_number(rotate.file) <= file_number(&self.file) {
                return Err(Error::lost(format!(
                    "the server's log went from {} back to {}: it was reset while it was streamed",
                    self.file, rotate.file
                )));
            }
            self.file = rotate.file.into();
            self.file_created_unix_s = 0;
        }
        self.offset = rotate.position.max(FIRST_EVENT);
        Ok(other)
    }

    /// The server has read its log up to there and found nothing for us. Only between transactions.
    pub fn heartbeat(&mut self, heartbeat: &Heartbeat<'_>) {
        if *heartbeat.file != *self.file {
            if file_number(heartbeat.file) <= file_number(&self.file) {
                return;
            }
            self.file = heartbeat.file.into();
            self.file_created_unix_s = 0;
            self.offset = FIRST_EVENT;
        }
        // Version 1 says it in 32 bits: behind 4 GiB it says nothing.
        self.offset = self.offset.max(heartbeat.position);
    }

    /// A transaction that begins at `offset` of this file.
    pub fn transaction(&self, offset: u64, gtid: Option<Gtid>) -> Position {
        Position::MySql(self.transaction_position(offset, gtid))
    }

    pub fn transaction_position(&self, offset: u64, gtid: Option<Gtid>) -> Arc<BinlogPosition> {
        self.binlog_position(offset, gtid.map_or(Seen::Nothing, Seen::Transaction))
    }

    /// A number for a transaction without a GTID: the file's number in the upper half, the offset in the lower one.
    pub fn transaction_number(&self, offset: u64) -> u64 {
        file_number(&self.file) << 32 | offset & 0xffff_ffff
    }

    pub fn position(&self, offset: u64, seen: Seen) -> Position {
        Position::MySql(self.binlog_position(offset, seen))
    }

    fn binlog_position(&self, offset: u64, seen: Seen) -> Arc<BinlogPosition> {
        Arc::new(BinlogPosition {
            server: self.server,
            file: self.file.clone(),
            offset,
            file_created_unix_s: self.file_created_unix_s,
            seen,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mysql::event::EventFlags;

    fn place(file: &str, offset: u64) -> Place {
        Place { server: 1, file: file.into(), offset, file_created_unix_s: 7 }
    }

    fn header(kind: EventType, size_bytes: u32, next_position: u32, flags: u16) -> Header {
        Header { unix_s: 1, kind, server_id: 1, size_bytes, next_position, flags: EventFlags(flags) }
    }

    #[test]
    fn offsets_are_counted_beyond_32_bits() {
        let mut place = place("b.1", u64::from(u32::MAX) - 10);
        assert_eq!(place.pass(&header(EventType::XID, 31, 20, 0)), u64::from(u32::MAX) - 10);
        assert_eq!(place.offset, (1 << 32) + 20);
    }

    #[test]
    fn what_the_header_does_not_say_is_counted() {
        let mut place = place("b.1", 100);
        assert_eq!(place.pass(&header(EventType::TABLE_MAP, 50, 0, 0)), 100);
        assert_eq!(place.pass(&header(EventType::WRITE_ROWS, 60, 0, 0)), 150);
        assert_eq!(place.pass(&header(EventType::XID, 31, 241, 0)), 210);
        assert_eq!(place.offset, 241);
    }

    #[test]
    fn left_out_transactions_are_stepped_over() {
        let mut place = place("b.1", 4);
        assert_eq!(place.pass(&header(EventType::FORMAT_DESCRIPTION, 122, 126, 0)), 4);
        assert_eq!(place.pass(&header(EventType::GTID, 79, 5079, 0)), 5000);
        assert_eq!(place.offset, 5079);
    }

    #[test]
    fn what_is_not_in_the_file_moves_nothing() {
        let mut place = place("b.1", 5000);
        assert_eq!(place.pass(&header(EventType::FORMAT_DESCRIPTION, 122, 0, 0)), 5000);
        assert_eq!(place.pass(&header(EventType::ROTATE, 40, 0, 0x20)), 5000);
        assert_eq!(place.pass(&header(EventType::HEARTBEAT, 40, 6000, 0)), 5000);
        assert_eq!(place.offset, 5000);
        place.heartbeat(&Heartbeat { file: "b.1", position: 6000 });
        assert_eq!(place.offset, 6000);
        place.heartbeat(&Heartbeat { file: "b.1", position: 10 });
        assert_eq!(place.offset, 6000);
        place.heartbeat(&Heartbeat { file: "b.2", position: 157 });
        assert_eq!((&*place.file, place.offset), ("b.2", 157));
    }

    #[test]
    fn the_log_only_goes_forward() {
        let mut place = place("b.000009", 5000);
        assert!(place.rotate(&Rotate { position: 4, file: "b.000010" }).unwrap());
        assert_eq!((&*place.file, place.offset), ("b.000010", 4));
        assert!(!place.rotate(&Rotate { position: 4, file: "b.000010" }).unwrap());
        let reset = place.rotate(&Rotate { position: 4, file: "b.000001" }).unwrap_err();
        assert_eq!(reset.class(), crate::error::Class::Lost);
    }
}
