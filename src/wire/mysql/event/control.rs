//! Events about the log itself and about transactions' ends.

use super::Event;
use crate::wire::WireError;

/// The log goes on in another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotate<'a> {
    /// Where in that file; 4, behind its magic number, unless the event was made for a dump from a later place.
    pub position: u64,
    /// Without a folder.
    pub file: &'a str,
}

/// ```text
/// ROTATE: Int8 position, then the file's name up to the end
/// ```
pub(super) fn rotate<'a>(event: &Event<'a>) -> Result<Rotate<'a>, WireError> {
    let mut reader = event.reader("ROTATE");
    let position = reader.u64()?;
    if reader.is_empty() {
        return Err(reader.wrong("no file name"));
    }
    Ok(Rotate { position, file: reader.text(reader.left())? })
}

/// A transaction's commit, by a transactional engine's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xid(pub u64);

/// ```text
/// XID: Int8 number
/// ```
pub(super) fn xid(event: &Event<'_>) -> Result<Xid, WireError> {
    let mut reader = event.reader("XID");
    let xid = Xid(reader.u64()?);
    reader.end()?;
    Ok(xid)
}

/// XA PREPARE: the rows before it stand, their outcome is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XaPrepare<'a> {
    /// XA COMMIT … ONE PHASE: this is the outcome.
    pub one_phase: bool,
    pub xid: XaXid<'a>,
}

/// An XA transaction's name, as XA START has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct XaXid<'a> {
    pub format_id: i32,
    /// 0 to 64 bytes.
    pub global: &'a [u8],
    /// 0 to 64 bytes.
    pub branch: &'a [u8],
}

/// The X/Open standard's MAXGTRIDSIZE and MAXBQUALSIZE.
pub(super) const XA_PART_MAX_BYTES: usize = 64;

/// ```text
/// XA_PREPARE: Int1 one phase, Int4 format id, Int4 length of the global part, Int4 of the branch, both parts' bytes
/// ```
pub(super) fn xa_prepare<'a>(event: &Event<'a>) -> Result<XaPrepare<'a>, WireError> {
    let mut reader = event.reader("XA_PREPARE");
    let one_phase = reader.u8()? != 0;
    let format_id = reader.u32()?.cast_signed();
    let global_bytes = reader.u32()? as usize;
    let branch_bytes = reader.u32()? as usize;
    if global_bytes > XA_PART_MAX_BYTES || branch_bytes > XA_PART_MAX_BYTES {
        return Err(reader.wrong("a transaction's name longer than 64 bytes"));
    }
    let xid = XaXid { format_id, global: reader.take(global_bytes)?, branch: reader.take(branch_bytes)? };
    reader.end()?;
    Ok(XaPrepare { one_phase, xid })
}

/// The statement of a ROWS_QUERY event.
///
/// ```text
/// ROWS_QUERY: Int1 length, cut to 8 bits and not to be relied on, then the statement up to the end
/// ```
pub(super) fn rows_query<'a>(event: &Event<'a>) -> Result<&'a [u8], WireError> {
    let mut reader = event.reader("ROWS_QUERY");
    reader.u8()?;
    Ok(reader.rest())
}

/// The connection lives, and the log has been read up to here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat<'a> {
    pub file: &'a str,
    /// In 64 bits in version 2; else the header's, in 32.
    pub position: u64,
}

/// ```text
/// HEARTBEAT: the file's name up to the end; the position is the header's
/// ```
pub(super) fn heartbeat<'a>(event: &Event<'a>) -> Result<Heartbeat<'a>, WireError> {
    let mut reader = event.reader("HEARTBEAT");
    Ok(Heartbeat { file: reader.text(reader.left())?, position: u64::from(event.header.next_position) })
}

/// ```text
/// HEARTBEAT_V2: fields of Packed type, Packed length, Byten value, up to a type of 0:
///   1 the file's name | 2 Packed position; others are new and skipped
/// ```
pub(super) fn heartbeat_v2<'a>(event: &Event<'a>) -> Result<Heartbeat<'a>, WireError> {
    let mut reader = event.reader("HEARTBEAT_V2");
    let (mut file, mut position) = (None, None);
    while !reader.is_empty() {
        let kind = reader.packed()?;
        if kind == 0 {
            break;
        }
        let length = reader.packed_length()?;
        let end = reader.at() + length;
        match kind {
            1 => file = Some(reader.text(length)?),
            2 => {
                position = Some(reader.packed()?);
                if reader.at() != end {
                    return Err(reader.wrong("a position of another length than its field"));
                }
            }
            _ => {
                reader.take(length)?;
            }
        }
    }
    reader.end()?;
    match (file, position) {
        (Some(file), Some(position)) => Ok(Heartbeat { file, position }),
        _ => Err(reader.wrong("no file name or no position")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incident<'a> {
    /// 1: LOST_EVENTS.
    pub number: u16,
    pub message: &'a [u8],
}

/// ```text
/// INCIDENT: Int2 number, Int1 length of the message, the message
/// ```
///
/// What may be left over is not looked at: MySQL 9.7 was seen to put a second checksum there, and no reader goes on behind
/// this event.
pub(super) fn incident<'a>(event: &Event<'a>) -> Result<Incident<'a>, WireError> {
    let mut reader = event.reader("INCIDENT");
    let number = reader.u16()?;
    let length = usize::from(reader.u8()?);
    let message = reader.take(length)?;
    Ok(Incident { number, message })
}
