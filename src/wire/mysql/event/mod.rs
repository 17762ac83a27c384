//! Events of the binary log, MySQL's and MariaDB's.
//!
//! Invariants:
//! - An event borrows from its bytes. A rows event costs its head; its rows are found by [`super::row::RowPlan`], which
//!   copies nothing and decodes nothing.
//! - A checksum is verified before anything else of an event is read, and is not part of it afterwards.
//! - Offsets, in errors and in cells, count from the event's first header byte.
//! - Bytes left over are an error, but where a server may add fields at the end: status variables, a GTID's fields,
//!   optional metadata. Flag bits we do not know are ignored.
//! - Nothing is skipped here: an event that we do not read is [`Body::Skippable`], [`Body::StatementBased`] or
//!   [`Body::Unknown`], and only the first of them may be passed over.
//!
//! The grammar is that of the MySQL source documentation, "Binlog event format", and of the MariaDB Knowledge Base,
//! "Replication protocol".

mod compressed;
mod control;
mod format;
mod gtid;
mod header;
mod mariadb;
mod payload;
mod query;
mod rows;
mod table_map;
mod tagged;

use super::Reader;
use crate::wire::WireError;

pub use compressed::Compressed;
pub use control::{Heartbeat, Incident, Rotate, XaPrepare, XaXid, Xid};
pub use format::{Checksum, Flavor, Format, FormatDescription};
pub use gtid::{Gtid, GtidFields, GtidIntervals, PreviousGtids};
pub use header::{EVENT_MAX_BYTES, EventFlags, EventType, HEADER_BYTES, Header};
pub use mariadb::{
    BinlogCheckpoint, MariaGtid, MariaGtidExtra, MariaGtidFlags, MariaGtidId, MariaGtidList, StartEncryption,
};
pub use payload::{PayloadCompression, PayloadHeader, TransactionPayload};
pub use query::{CharsetCollations, Query, QueryVariables, UpdatedDatabases};
pub use rows::{Bitmap, DUMMY_TABLE_ID, Rows, RowsFlags, RowsKind};
pub use table_map::{KeyColumn, Labels, MapColumn, TableDescription, TableMap};

const CHECKSUM_BYTES: usize = 4;

/// One whole event without its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pub header: Header,
    bytes: &'a [u8],
}

impl<'a> Event<'a> {
    /// An event that never had a checksum: one out of a transaction payload, or one that was inflated.
    ///
    /// # Errors
    /// Another number of bytes than the header says.
    pub fn plain(bytes: &'a [u8]) -> Result<Event<'a>, WireError> {
        let header = Header::parse(bytes)?;
        if bytes.len() != header.size_bytes as usize {
            return Err(WireError::new("event", "another size than its header says", bytes.len()));
        }
        Ok(Event { header, bytes })
    }

    /// Header and body.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
    /// What follows the header. Two TABLE_MAP events with equal bodies say the same.
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    fn reader(&self, name: &'static str) -> Reader<'a> {
        Reader::new(name, self.bytes, HEADER_BYTES)
    }

    /// Reads the body.
    ///
    /// # Errors
    /// A body that does not follow its type's grammar.
    #[inline]
    pub fn parse(&self, format: &Format) -> Result<Body<'a>, WireError> {
        if let Some(kind) = RowsKind::of(self.header.kind) {
            return rows::parse(self, kind).map(Body::Rows);
        }
        if self.header.kind == EventType::TABLE_MAP {
            return table_map::parse(self, format.flavor).map(Body::TableMap);
        }
        self.parse_other()
    }

    fn parse_other(&self) -> Result<Body<'a>, WireError> {
        Ok(match self.header.kind {
            EventType::FORMAT_DESCRIPTION => Body::FormatDescription(format::parse(self)?),
            EventType::ROTATE => Body::Rotate(control::rotate(self)?),
            EventType::STOP => {
                self.reader("STOP").end()?;
                Body::Stop
            }
            EventType::QUERY => Body::Query(query::parse(self)?),
            EventType::XID => Body::Xid(control::xid(self)?),
            EventType::XA_PREPARE => Body::XaPrepare(control::xa_prepare(self)?),
            EventType::GTID | EventType::ANONYMOUS_GTID => Body::Gtid(gtid::parse(self)?),
            EventType::GTID_TAGGED => Body::Gtid(tagged::parse(self)?),
            EventType::PREVIOUS_GTIDS => Body::PreviousGtids(gtid::previous(self)?),
            EventType::ROWS_QUERY => Body::Statement(control::rows_query(self)?),
            EventType::MARIADB_ANNOTATE_ROWS => Body::Statement(self.body()),
            EventType::HEARTBEAT => Body::Heartbeat(control::heartbeat(self)?),
            EventType::HEARTBEAT_V2 => Body::Heartbeat(control::heartbeat_v2(self)?),
            EventType::INCIDENT => Body::Incident(control::incident(self)?),
            EventType::TRANSACTION_PAYLOAD => Body::TransactionPayload(payload::parse(self)?),
            EventType::MARIADB_GTID => Body::MariaGtid(mariadb::gtid(self)?),
            EventType::MARIADB_GTID_LIST => Body::MariaGtidList(mariadb::gtid_list(self)?),
            EventType::MARIADB_BINLOG_CHECKPOINT => Body::BinlogCheckpoint(mariadb::binlog_checkpoint(self)?),
            EventType::MARIADB_START_ENCRYPTION => Body::StartEncryption(mariadb::start_encryption(self)?),
            // 165 to 171.
            kind if Compressed::holds(kind) => Body::Compressed(compressed::parse(self)?),
            // What group replication certifies by and tells of its members; no change is in them.
            EventType::IGNORABLE | EventType::TRANSACTION_CONTEXT | EventType::VIEW_CHANGE => Body::Skippable,
            kind if kind.name().is_some() => Body::StatementBased,
            _ if self.header.flags.ignorable() => Body::Skippable,
            _ => Body::Unknown,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body<'a> {
    FormatDescription(FormatDescription<'a>),
    Rotate(Rotate<'a>),
    Stop,
    Query(Query<'a>),
    Xid(Xid),
    XaPrepare(XaPrepare<'a>),
    /// GTID, ANONYMOUS_GTID and GTID_TAGGED: a transaction begins.
    Gtid(Gtid<'a>),
    PreviousGtids(PreviousGtids<'a>),
    TableMap(TableMap<'a>),
    Rows(Rows<'a>),
    TransactionPayload(TransactionPayload<'a>),
    /// ROWS_QUERY and ANNOTATE_ROWS: the statement that the rows behind it come from, in the client's character set.
    Statement(&'a [u8]),
    Heartbeat(Heartbeat<'a>),
    /// The server lost events: what follows is not all that happened.
    Incident(Incident<'a>),
    /// MariaDB: a transaction begins.
    MariaGtid(MariaGtid<'a>),
    MariaGtidList(MariaGtidList<'a>),
    BinlogCheckpoint(BinlogCheckpoint<'a>),
    StartEncryption(StartEncryption),
    /// MariaDB: a statement or rows to inflate, and then to read as what they are.
    Compressed(Compressed<'a>),
    /// Holds no change: IGNORABLE, group replication's own, and what we do not know but the server says may be skipped.
    Skippable,
    /// Part of a change logged as a statement (INTVAR, RAND, USER_VAR, LOAD DATA): its rows are not in the log.
    StatementBased,
    /// A type we do not know, and not one to skip.
    Unknown,
}

#[cfg(test)]
mod tests;
