//! What every event begins with.

use std::fmt;

use super::super::Reader;
use crate::wire::WireError;

/// Bytes of every event's header since 5.0.
pub const HEADER_BYTES: usize = 19;

/// A single event's greatest size: the server refuses to log, and a replica to read, more than `max_allowed_packet`, whose
/// greatest value is 1 GiB, plus the event's own head (the server's MAX_LOG_EVENT_HEADER is below 64 KiB).
pub const EVENT_MAX_BYTES: usize = (1 << 30) + (64 << 10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// When the statement began, in seconds since 1970-01-01 UTC; 0 for events made for this connection alone.
    pub unix_s: u32,
    pub kind: EventType,
    /// The server that first logged it.
    pub server_id: u32,
    /// Of the whole event, with header and checksum.
    pub size_bytes: u32,
    /// Where the next event begins in the file, in 32 bits; 0 in events made for this connection alone, and in MariaDB's
    /// from 11.8 on also inside transactions.
    pub next_position: u32,
    pub flags: EventFlags,
}

impl Header {
    /// Reads the first [`HEADER_BYTES`] of an event; what follows them is not looked at.
    ///
    /// From the server's source documentation, "Binlog event header":
    ///
    /// ```text
    /// Int4 timestamp, Int1 event type, Int4 server id, Int4 event size, Int4 position of the next event, Int2 flags
    /// ```
    ///
    /// # Errors
    /// Fewer bytes, a size below the header's own or above [`EVENT_MAX_BYTES`].
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Header, WireError> {
        let mut reader = Reader::new("event header", bytes, 0);
        let header = Header {
            unix_s: reader.u32()?,
            kind: EventType(reader.u8()?),
            server_id: reader.u32()?,
            size_bytes: reader.u32()?,
            next_position: reader.u32()?,
            flags: EventFlags(reader.u16()?),
        };
        let size = header.size_bytes as usize;
        if size < HEADER_BYTES {
            return Err(WireError::new("event header", "a size below the header's own", SIZE_AT));
        }
        if size > EVENT_MAX_BYTES {
            return Err(WireError::new("event header", "a size above what a server can log", SIZE_AT));
        }
        Ok(header)
    }
}

/// Where the header's fields stand.
pub(super) const KIND_AT: usize = 4;
pub(super) const SIZE_AT: usize = 9;
pub(super) const FLAGS_AT: usize = 17;

/// Bits we do not know are ignored, as servers do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventFlags(pub u16);

impl EventFlags {
    /// In a file's first event: the file was not closed (yet).
    pub(super) const IN_USE: u16 = 0x1;

    /// In a FORMAT_DESCRIPTION: the file is being written, or the server died over it.
    pub fn in_use(self) -> bool {
        self.0 & Self::IN_USE != 0
    }
    /// Made for this connection, not in the file: it moves no position.
    pub fn artificial(self) -> bool {
        self.0 & 0x20 != 0
    }
    /// A reader who does not know the event may skip it.
    pub fn ignorable(self) -> bool {
        self.0 & 0x80 != 0
    }
}

/// An event's type as it is numbered in the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventType(pub u8);

macro_rules! event_types {
    ($($name:ident = $code:literal),* $(,)?) => {
        impl EventType {
            $(pub const $name: EventType = EventType($code);)*

            /// As the server's source names it, without `_EVENT`; none for a number we do not know.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

event_types! {
    START_V3 = 1,
    QUERY = 2,
    STOP = 3,
    ROTATE = 4,
    INTVAR = 5,
    LOAD = 6,
    SLAVE = 7,
    CREATE_FILE = 8,
    APPEND_BLOCK = 9,
    EXEC_LOAD = 10,
    DELETE_FILE = 11,
    NEW_LOAD = 12,
    RAND = 13,
    USER_VAR = 14,
    FORMAT_DESCRIPTION = 15,
    XID = 16,
    BEGIN_LOAD_QUERY = 17,
    EXECUTE_LOAD_QUERY = 18,
    TABLE_MAP = 19,
    WRITE_ROWS_V1 = 23,
    UPDATE_ROWS_V1 = 24,
    DELETE_ROWS_V1 = 25,
    INCIDENT = 26,
    HEARTBEAT = 27,
    IGNORABLE = 28,
    ROWS_QUERY = 29,
    WRITE_ROWS = 30,
    UPDATE_ROWS = 31,
    DELETE_ROWS = 32,
    GTID = 33,
    ANONYMOUS_GTID = 34,
    PREVIOUS_GTIDS = 35,
    TRANSACTION_CONTEXT = 36,
    VIEW_CHANGE = 37,
    XA_PREPARE = 38,
    PARTIAL_UPDATE_ROWS = 39,
    TRANSACTION_PAYLOAD = 40,
    HEARTBEAT_V2 = 41,
    GTID_TAGGED = 42,
    MARIADB_ANNOTATE_ROWS = 160,
    MARIADB_BINLOG_CHECKPOINT = 161,
    MARIADB_GTID = 162,
    MARIADB_GTID_LIST = 163,
    MARIADB_START_ENCRYPTION = 164,
    MARIADB_QUERY_COMPRESSED = 165,
    MARIADB_WRITE_ROWS_COMPRESSED_V1 = 166,
    MARIADB_UPDATE_ROWS_COMPRESSED_V1 = 167,
    MARIADB_DELETE_ROWS_COMPRESSED_V1 = 168,
    MARIADB_WRITE_ROWS_COMPRESSED = 169,
    MARIADB_UPDATE_ROWS_COMPRESSED = 170,
    MARIADB_DELETE_ROWS_COMPRESSED = 171,
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "event of type {}", self.0),
        }
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
