//! The messages of the `pgoutput` plugin, protocol versions 1 to 4 without streaming and two-phase.
//!
//! Invariants:
//! - A message borrows from its bytes. Reading a row's message costs its head; its cells are found by a scan that
//!   copies nothing, decodes nothing and allocates nothing beyond the caller's vector of cells.
//! - A scan either adds exactly the kept columns of each tuple, or it is an error and adds nothing.
//! - A tuple must have as many columns as its Relation message said.
//! - In the key-only old tuple (`K`) a column outside the replica identity is `MISSING`: its `n` does not mean NULL.
//! - Bytes left over, a tag we do not know and one we did not ask for are errors.
//!
//! The grammar is the manual's, "Logical Replication Message Formats".

mod row;

use super::replication::POSTGRES_EPOCH_UNIX_US;
use crate::record::{Cell, Identity};
use crate::wire::WireError;

pub use row::{Delete, Insert, OldTuple, TupleShape, Update};

#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    Begin(Begin),
    Commit(Commit),
    Origin(Origin<'a>),
    Relation(Relation<'a>),
    Type(Type<'a>),
    Insert(Insert<'a>),
    Update(Update<'a>),
    Delete(Delete<'a>),
    Truncate(Truncate<'a>),
    Logical(Logical<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Where the transaction's commit record begins: [`Commit::commit_lsn`] of its end.
    pub final_lsn: u64,
    pub commit_unix_micros: i64,
    pub xid: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Unused so far; always 0.
    pub flags: u8,
    pub commit_lsn: u64,
    /// Behind the commit record: where the stream resumes.
    pub end_lsn: u64,
    pub commit_unix_micros: i64,
}

/// The transaction came from another server by replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    pub commit_lsn: u64,
    pub name: &'a str,
}

/// A table's shape; valid for the rows that follow until the next one of the same `id`.
#[derive(Clone, Debug, PartialEq)]
pub struct Relation<'a> {
    pub id: u32,
    /// `pg_catalog` where the server sends the empty string for it.
    pub namespace: &'a str,
    pub name: &'a str,
    pub identity: Identity,
    pub columns: Vec<RelationColumn<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationColumn<'a> {
    /// Part of the replica identity; under FULL every column is.
    pub key: bool,
    pub name: &'a str,
    pub type_oid: u32,
    /// `atttypmod`; -1 for none.
    pub type_modifier: i32,
}

/// A type that is not built in, announced before the Relation message that uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type<'a> {
    pub oid: u32,
    /// `pg_catalog` where the server sends the empty string for it.
    pub namespace: &'a str,
    pub name: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncate<'a> {
    pub cascade: bool,
    pub restart_identity: bool,
    oids: &'a [u8],
}

impl Truncate<'_> {
    /// The truncated tables, in the server's order.
    pub fn relations(&self) -> impl ExactSizeIterator<Item = u32> {
        self.oids.chunks_exact(4).map(|oid| oid.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte)))
    }
}

/// What `pg_logical_emit_message` wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logical<'a> {
    pub transactional: bool,
    /// Where the message is in the log.
    pub lsn: u64,
    pub prefix: &'a str,
    pub content: &'a [u8],
    prefix_at: usize,
    content_at: usize,
}

impl Logical<'_> {
    /// Prefix and content as cells of a frame that has this message at `base`.
    pub fn cells(&self, base: usize) -> [Cell; 2] {
        [Cell::at(base + self.prefix_at, self.prefix.len()), Cell::at(base + self.content_at, self.content.len())]
    }
}

/// Reads one message: the whole data of one XLogData.
///
/// Of a row's message only the head is read here; [`Insert::scan`], [`Update::scan`] and [`Delete::scan`] read the rest.
///
/// # Errors
/// A truncated message, bytes left over, an unknown tag, text that is not UTF-8, and messages of streaming or two-phase
/// transactions, which we do not ask for.
#[inline]
pub fn parse(message: &[u8]) -> Result<Message<'_>, WireError> {
    match message.first() {
        Some(b'I') => row::insert(message).map(Message::Insert),
        Some(b'U') => row::update(message).map(Message::Update),
        Some(b'D') => row::delete(message).map(Message::Delete),
        _ => parse_other(message),
    }
}

fn parse_other(message: &[u8]) -> Result<Message<'_>, WireError> {
    let Some(&tag) = message.first() else { return Err(WireError::new("pgoutput message", "empty", 0)) };
    match tag {
        b'B' => begin(message).map(Message::Begin),
        b'C' => commit(message).map(Message::Commit),
        b'O' => origin(message).map(Message::Origin),
        b'R' => relation(message).map(Message::Relation),
        b'Y' => type_name(message).map(Message::Type),
        b'T' => truncate(message).map(Message::Truncate),
        b'M' => logical(message).map(Message::Logical),
        // Stream Start, Stop, Commit, Abort.
        b'S' | b'E' | b'c' | b'A' => {
            Err(WireError::new("pgoutput message", "belongs to a streamed transaction, which was not asked for", 0)
                .found(tag))
        }
        // Begin Prepare, Prepare, Commit Prepared, Rollback Prepared, Stream Prepare.
        b'b' | b'P' | b'K' | b'r' | b'p' => {
            Err(WireError::new("pgoutput message", "belongs to a two-phase transaction, which was not asked for", 0)
                .found(tag))
        }
        _ => Err(WireError::new("pgoutput message", "unknown tag", 0).found(tag)),
    }
}

/// ```text
/// Begin: Byte1('B'), Int64 final LSN of the transaction, Int64 commit timestamp (µs since 2000-01-01), Int32 xid
/// ```
fn begin(message: &[u8]) -> Result<Begin, WireError> {
    let mut reader = Reader::new("Begin", message);
    let begin = Begin { final_lsn: reader.u64()?, commit_unix_micros: reader.unix_micros()?, xid: reader.u32()? };
    reader.end()?;
    Ok(begin)
}

/// ```text
/// Commit: Byte1('C'), Int8(0) flags, currently unused, Int64 LSN of the commit, Int64 end LSN of the transaction,
///         Int64 commit timestamp (µs since 2000-01-01)
/// ```
fn commit(message: &[u8]) -> Result<Commit, WireError> {
    let mut reader = Reader::new("Commit", message);
    let commit = Commit {
        flags: reader.u8()?,
        commit_lsn: reader.u64()?,
        end_lsn: reader.u64()?,
        commit_unix_micros: reader.unix_micros()?,
    };
    reader.end()?;
    Ok(commit)
}

/// ```text
/// Origin: Byte1('O'), Int64 LSN of the commit on the origin server, String name of the origin
/// ```
fn origin(message: &[u8]) -> Result<Origin<'_>, WireError> {
    let mut reader = Reader::new("Origin", message);
    let origin = Origin { commit_lsn: reader.u64()?, name: reader.string()? };
    reader.end()?;
    Ok(origin)
}

/// ```text
/// Relation: Byte1('R'), Int32 oid, String namespace (empty for pg_catalog), String name,
///           Int8 replica identity (pg_class.relreplident), Int16 number of columns, and for each column:
///           Int8 flags (1: part of the key), String name, Int32 type oid, Int32 atttypmod
/// ```
fn relation(message: &[u8]) -> Result<Relation<'_>, WireError> {
    let mut reader = Reader::new("Relation", message);
    let id = reader.u32()?;
    let namespace = reader.namespace()?;
    let name = reader.string()?;
    let identity = match reader.u8()? {
        b'd' => Identity::Default,
        b'i' => Identity::Index,
        b'f' => Identity::Full,
        b'n' => Identity::Nothing,
        other => return Err(reader.wrong_last("unknown replica identity", other)),
    };
    let count = usize::from(reader.u16()?);
    // A column takes 10 bytes at least, so that a lying count reserves no more than the message's own size allows.
    let mut columns = Vec::with_capacity(count.min(reader.left() / 10));
    for _ in 0..count {
        let flags = reader.u8()?;
        if flags > 1 {
            return Err(reader.wrong_last("unknown column flags", flags));
        }
        columns.push(RelationColumn {
            key: flags == 1,
            name: reader.string()?,
            type_oid: reader.u32()?,
            type_modifier: reader.u32()?.cast_signed(),
        });
    }
    reader.end()?;
    Ok(Relation { id, namespace, name, identity, columns })
}

/// ```text
/// Type: Byte1('Y'), Int32 oid, String namespace (empty for pg_catalog), String name
/// ```
fn type_name(message: &[u8]) -> Result<Type<'_>, WireError> {
    let mut reader = Reader::new("Type", message);
    let named = Type { oid: reader.u32()?, namespace: reader.namespace()?, name: reader.string()? };
    reader.end()?;
    Ok(named)
}

/// ```text
/// Truncate: Byte1('T'), Int32 number of relations, Int8 options (1: CASCADE, 2: RESTART IDENTITY), Int32 oid for each
/// ```
fn truncate(message: &[u8]) -> Result<Truncate<'_>, WireError> {
    let mut reader = Reader::new("Truncate", message);
    let count = reader.u32()? as usize;
    let options = reader.u8()?;
    if options > 3 {
        return Err(reader.wrong_last("unknown options", options));
    }
    let Some(bytes) = count.checked_mul(4) else { return Err(reader.wrong("truncated")) };
    let oids = reader.take(bytes)?;
    reader.end()?;
    Ok(Truncate { cascade: options & 1 != 0, restart_identity: options & 2 != 0, oids })
}

/// ```text
/// Message: Byte1('M'), Int8 flags (1: transactional), Int64 LSN of the message, String prefix,
///          Int32 length of the content, Byten content
/// ```
fn logical(message: &[u8]) -> Result<Logical<'_>, WireError> {
    let mut reader = Reader::new("Message", message);
    let flags = reader.u8()?;
    if flags > 1 {
        return Err(reader.wrong_last("unknown flags", flags));
    }
    let lsn = reader.u64()?;
    let prefix_at = reader.at;
    let prefix = reader.string()?;
    let length = reader.u32()? as usize;
    let content_at = reader.at;
    let content = reader.take(length)?;
    reader.end()?;
    Ok(Logical { transactional: flags == 1, lsn, prefix, content, prefix_at, content_at })
}

/// Reads fields in order; starts behind the tag.
struct Reader<'a> {
    name: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(name: &'static str, message: &'a [u8]) -> Self {
        Reader { name, bytes: message, at: 1 }
    }

    fn wrong(&self, problem: &'static str) -> WireError {
        WireError::new(self.name, problem, self.at)
    }
    /// An error about the byte just read.
    fn wrong_last(&self, problem: &'static str, byte: u8) -> WireError {
        WireError::new(self.name, problem, self.at - 1).found(byte)
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }
    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        if length > self.left() {
            return Err(self.wrong("truncated"));
        }
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let Some(&array) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) else {
            return Err(self.wrong("truncated"));
        };
        self.at += N;
        Ok(array)
    }
    fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }
    fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }
    fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }
    fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }
    fn unix_micros(&mut self) -> Result<i64, WireError> {
        let since_2000 = self.u64()?.cast_signed();
        since_2000.checked_add(POSTGRES_EPOCH_UNIX_US).ok_or_else(|| self.wrong("the time is out of range"))
    }
    /// A string ends with a zero byte.
    fn string(&mut self) -> Result<&'a str, WireError> {
        let rest = &self.bytes[self.at..];
        let end = memchr::memchr(0, rest).ok_or_else(|| self.wrong("a string without an end"))?;
        let string = std::str::from_utf8(&rest[..end]).map_err(|_| self.wrong("a string that is not UTF-8"))?;
        self.at += end + 1;
        Ok(string)
    }
    fn namespace(&mut self) -> Result<&'a str, WireError> {
        self.string().map(|name| if name.is_empty() { "pg_catalog" } else { name })
    }
    fn end(&self) -> Result<(), WireError> {
        if self.left() == 0 { Ok(()) } else { Err(self.wrong("bytes left over")) }
    }
}

#[cfg(test)]
mod tests;
