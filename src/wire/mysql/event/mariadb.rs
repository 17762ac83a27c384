//! Events of MariaDB alone.

use super::Event;
use super::control::{XA_PART_MAX_BYTES, XaXid};
use crate::wire::WireError;

/// `0-1-23` is domain, server, number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MariaGtidId {
    pub domain: u32,
    pub server: u32,
    pub number: u64,
}

/// A transaction begins. There is no BEGIN behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MariaGtid<'a> {
    pub id: MariaGtidId,
    pub flags: MariaGtidFlags,
    /// Transactions of the same group commit have the same.
    pub commit_id: Option<u64>,
    /// Of a transaction that [`MariaGtidFlags::prepared_xa`] or [`MariaGtidFlags::completed_xa`].
    pub xid: Option<XaXid<'a>>,
    pub extra: MariaGtidExtra,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MariaGtidFlags(pub u8);

impl MariaGtidFlags {
    /// One event follows and is the whole of it, without an end of its own: DDL.
    pub fn standalone(self) -> bool {
        self.0 & 0x01 != 0
    }
    fn group_commit(self) -> bool {
        self.0 & 0x02 != 0
    }
    /// All of its changes can be rolled back.
    pub fn transactional(self) -> bool {
        self.0 & 0x04 != 0
    }
    pub fn ddl(self) -> bool {
        self.0 & 0x20 != 0
    }
    /// Ends with XA PREPARE.
    pub fn prepared_xa(self) -> bool {
        self.0 & 0x40 != 0
    }
    /// XA COMMIT or XA ROLLBACK of one prepared before.
    pub fn completed_xa(self) -> bool {
        self.0 & 0x80 != 0
    }
}

/// What newer servers tell: from 10.8 on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MariaGtidExtra {
    /// The first half of a two-phase ALTER; its outcome is to come.
    pub start_alter: bool,
    pub commit_alter: bool,
    pub rollback_alter: bool,
    /// The number of the GTID that began the ALTER that this one ends.
    pub alter_number: Option<u64>,
    pub thread_id: Option<u32>,
}

/// Without flags the event is filled up with zeros to this length of its body.
const GTID_BODY_BYTES: usize = 19;

/// ```text
/// GTID: Int8 number, Int4 domain, Int1 flags; the server is the header's
///   with flag 0x02: Int8 commit id
///   with flag 0x40 or 0x80: Int4 format id, Int1 length of the global part, Int1 of the branch, both parts' bytes
///   then, from 10.8 on, unless it ends: Int1 extra flags
///     with 0x01: Int1 number of further engines | with 0x04 or 0x08: Int8 number of the ALTER's beginning
///     with 0x10: Int4 thread id
///   zeros up to a body of 19 bytes
/// ```
pub(super) fn gtid<'a>(event: &Event<'a>) -> Result<MariaGtid<'a>, WireError> {
    let mut reader = event.reader("GTID");
    let number = reader.u64()?;
    let domain = reader.u32()?;
    let id = MariaGtidId { domain, server: event.header.server_id, number };
    let flags = MariaGtidFlags(reader.u8()?);
    let commit_id = if flags.group_commit() { Some(reader.u64()?) } else { None };
    let mut xid = None;
    if flags.prepared_xa() || flags.completed_xa() {
        let format_id = reader.u32()?.cast_signed();
        let (global_bytes, branch_bytes) = (usize::from(reader.u8()?), usize::from(reader.u8()?));
        if global_bytes > XA_PART_MAX_BYTES || branch_bytes > XA_PART_MAX_BYTES {
            return Err(reader.wrong("a transaction's name longer than 64 bytes"));
        }
        xid = Some(XaXid { format_id, global: reader.take(global_bytes)?, branch: reader.take(branch_bytes)? });
    }
    let mut extra = MariaGtidExtra::default();
    if !reader.is_empty() {
        let bits = reader.u8()?;
        extra.start_alter = bits & 0x02 != 0;
        extra.commit_alter = bits & 0x04 != 0;
        extra.rollback_alter = bits & 0x08 != 0;
        if bits & 0x01 != 0 {
            reader.u8()?;
        }
        if extra.commit_alter || extra.rollback_alter {
            extra.alter_number = Some(reader.u64()?);
        }
        if bits & 0x10 != 0 {
            extra.thread_id = Some(reader.u32()?);
        }
        // Behind a flag that we do not know comes what we do not know; else only the filling.
        let filled = event.body().len() <= GTID_BODY_BYTES;
        if bits & !0x1f == 0 && reader.rest().iter().any(|&byte| byte != 0 || !filled) {
            return Err(reader.wrong("bytes left over"));
        }
    }
    Ok(MariaGtid { id, flags, commit_id, xid, extra })
}

/// The last GTID of each domain and server before a file; a file's second event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MariaGtidList<'a> {
    ids: &'a [[u8; 16]],
}

impl MariaGtidList<'_> {
    /// Of one domain the last is the latest.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = MariaGtidId> {
        self.ids.iter().map(|id| {
            let number =
                |range: std::ops::Range<usize>| id[range].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
            MariaGtidId { domain: number(0..4) as u32, server: number(4..8) as u32, number: number(8..16) }
        })
    }
}

/// ```text
/// GTID_LIST: Int4 count in the lower 28 bits, flags above, then count of Int4 domain, Int4 server, Int8 number
/// ```
pub(super) fn gtid_list<'a>(event: &Event<'a>) -> Result<MariaGtidList<'a>, WireError> {
    let mut reader = event.reader("GTID_LIST");
    let count = (reader.u32()? & 0x0fff_ffff) as usize;
    let (ids, _) = reader.take(count * 16)?.as_chunks();
    // An empty list may be filled up to 6 bytes.
    if count == 0 && reader.left() <= 2 {
        reader.rest();
    }
    reader.end()?;
    Ok(MariaGtidList { ids })
}

/// The oldest file that crash recovery would still need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BinlogCheckpoint<'a> {
    pub file: &'a str,
}

/// ```text
/// BINLOG_CHECKPOINT: Int4 length of the file's name, the name
/// ```
pub(super) fn binlog_checkpoint<'a>(event: &Event<'a>) -> Result<BinlogCheckpoint<'a>, WireError> {
    let mut reader = event.reader("BINLOG_CHECKPOINT");
    let length = reader.u32()? as usize;
    let file = reader.text(length)?;
    reader.end()?;
    Ok(BinlogCheckpoint { file })
}

/// What follows in this file is encrypted on disk; a server sends it decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartEncryption {
    pub scheme: u8,
    pub key_version: u32,
    pub nonce: [u8; 12],
}

/// ```text
/// START_ENCRYPTION: Int1 scheme, Int4 key version, Byte12 nonce
/// ```
pub(super) fn start_encryption(event: &Event<'_>) -> Result<StartEncryption, WireError> {
    let mut reader = event.reader("START_ENCRYPTION");
    let start = StartEncryption { scheme: reader.u8()?, key_version: reader.u32()?, nonce: reader.array()? };
    reader.end()?;
    Ok(start)
}
