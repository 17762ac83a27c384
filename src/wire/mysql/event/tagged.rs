//! GTID_TAGGED, in the serialization format that MySQL 8.3 brought.

use super::super::Reader;
use super::Event;
use super::gtid::{Gtid, GtidFields, known_version};
use crate::wire::WireError;

const NAME: &str = "GTID_TAGGED";

/// An integer of 1 to 9 bytes. From the server's source documentation, "MySQL Serialization Library":
///
/// ```text
/// the lowest byte's trailing ones, up to 8, tell how many bytes follow it; with fewer than 8 a zero bit comes behind
/// them, and the bits above it, little-endian, are the number; a signed one has its sign in the lowest bit:
/// x << 1, or (-(x + 1) << 1) | 1
/// ```
fn unsigned(reader: &mut Reader<'_>) -> Result<u64, WireError> {
    let first = reader.u8()?;
    let more = first.trailing_ones();
    if more == 8 {
        return reader.u64();
    }
    let mut number = u64::from(first);
    for (index, &byte) in reader.take(more as usize)?.iter().enumerate() {
        number |= u64::from(byte) << (8 * (index + 1));
    }
    Ok(number >> (more + 1))
}

/// A signed one that must not be negative.
fn natural(reader: &mut Reader<'_>) -> Result<u64, WireError> {
    let coded = unsigned(reader)?;
    if coded & 1 == 1 {
        return Err(reader.wrong("a negative number"));
    }
    Ok(coded >> 1)
}

fn narrow<T: TryFrom<u64>>(reader: &mut Reader<'_>) -> Result<T, WireError> {
    T::try_from(unsigned(reader)?).map_err(|_| reader.wrong("a number too large for its field"))
}

/// ```text
/// string: its length in bytes, the bytes
/// ```
pub(super) fn string<'a>(reader: &mut Reader<'a>) -> Result<&'a str, WireError> {
    let length = narrow(reader)?;
    reader.text(length)
}

/// Fields by their numbers, as the server's source declares them.
mod field {
    pub(super) const FLAGS: u64 = 0;
    pub(super) const UUID: u64 = 1;
    pub(super) const NUMBER: u64 = 2;
    pub(super) const TAG: u64 = 3;
    pub(super) const LAST_COMMITTED: u64 = 4;
    pub(super) const SEQUENCE_NUMBER: u64 = 5;
    pub(super) const IMMEDIATE_COMMIT: u64 = 6;
    pub(super) const ORIGINAL_COMMIT: u64 = 7;
    pub(super) const TRANSACTION_BYTES: u64 = 8;
    pub(super) const IMMEDIATE_VERSION: u64 = 9;
    pub(super) const ORIGINAL_VERSION: u64 = 10;
    pub(super) const COMMIT_GROUP_TICKET: u64 = 11;
    pub(super) const LAST: u64 = COMMIT_GROUP_TICKET;
}

/// ```text
/// GTID_TAGGED: Int1 version of the serialization (1), then as integers of 1 to 9 bytes the size of the whole, and one more
///   than the last field that must not be skipped; then fields in ascending order, each its number and
///   0 Int1 flags | 1 uuid: 16 integers | 2 number, signed | 3 tag: a string | 4, 5 last committed, sequence number, signed
///   6, 7 immediate and original commit time in µs | 8 length of the transaction | 9, 10 immediate and original version
///   11 commit group ticket; 7 and 10 only where they are not the same as the one before
/// ```
///
/// Field numbers above ours end the reading: their lengths are not known.
pub(super) fn parse<'a>(event: &Event<'a>) -> Result<Gtid<'a>, WireError> {
    let mut reader = event.reader(NAME);
    let start = reader.at();
    match unsigned(&mut reader)? {
        1 => {}
        _ => return Err(reader.wrong("an unknown version of the serialization")),
    }
    let size: usize = narrow(&mut reader)?;
    if size != event.bytes().len() - start {
        return Err(reader.wrong("another size than the event's"));
    }
    if unsigned(&mut reader)? > field::LAST + 1 {
        return Err(reader.wrong("a field that we do not know and must not skip"));
    }
    let mut gtid = Gtid { uuid: [0; 16], tag: "", number: 0, anonymous: false, fields: GtidFields::default() };
    let (mut next, mut seen) = (0, 0_u64);
    while !reader.is_empty() {
        let number = unsigned(&mut reader)?;
        if number < next {
            return Err(reader.wrong("fields that do not ascend"));
        }
        if number > field::LAST {
            break;
        }
        next = number + 1;
        seen |= 1 << number;
        read_field(&mut reader, number, &mut gtid)?;
    }
    if seen & NEEDED != NEEDED || gtid.number == 0 {
        return Err(reader.wrong("no uuid or no number"));
    }
    let fields = &mut gtid.fields;
    fields.original_commit_unix_micros = fields.original_commit_unix_micros.or(fields.immediate_commit_unix_micros);
    if seen >> field::ORIGINAL_VERSION & 1 == 0 {
        fields.original_server_version = fields.immediate_server_version;
    }
    Ok(gtid)
}

const NEEDED: u64 = 1 << field::UUID | 1 << field::NUMBER;

fn read_field<'a>(reader: &mut Reader<'a>, number: u64, gtid: &mut Gtid<'a>) -> Result<(), WireError> {
    let fields = &mut gtid.fields;
    match number {
        field::FLAGS => fields.may_have_statements = reader.u8()? & 1 != 0,
        field::UUID => {
            for byte in &mut gtid.uuid {
                *byte = narrow(reader)?;
            }
        }
        field::NUMBER => gtid.number = natural(reader)?,
        field::TAG => gtid.tag = string(reader)?,
        field::LAST_COMMITTED => fields.last_committed = natural(reader)?,
        field::SEQUENCE_NUMBER => fields.sequence_number = natural(reader)?,
        field::IMMEDIATE_COMMIT => fields.immediate_commit_unix_micros = Some(unsigned(reader)?),
        field::ORIGINAL_COMMIT => fields.original_commit_unix_micros = Some(unsigned(reader)?),
        field::TRANSACTION_BYTES => fields.transaction_bytes = Some(unsigned(reader)?),
        field::IMMEDIATE_VERSION => fields.immediate_server_version = known_version(narrow(reader)?),
        field::ORIGINAL_VERSION => fields.original_server_version = known_version(narrow(reader)?),
        _ => {
            unsigned(reader)?;
        }
    }
    Ok(())
}
