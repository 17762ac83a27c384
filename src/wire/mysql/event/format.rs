//! FORMAT_DESCRIPTION: how the events of a file are laid out, and whether they carry a checksum.

use super::super::Reader;
use super::header::{EventFlags, EventType, FLAGS_AT, HEADER_BYTES, Header};
use super::{CHECKSUM_BYTES, Event};
use crate::wire::WireError;

const NAME: &str = "FORMAT_DESCRIPTION";

/// Whose grammar an event follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    MySql,
    MariaDb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    None,
    /// CRC-32 of the whole event before it, 4 bytes behind every event.
    Crc32,
    /// Not told yet: where an event ends with its own right CRC-32, that is taken for one.
    Unknown,
}

/// How the events of one file are read. A plain value: keep it from FORMAT_DESCRIPTION to FORMAT_DESCRIPTION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub flavor: Flavor,
    pub checksum: Checksum,
}

impl Format {
    /// Before the first FORMAT_DESCRIPTION, which a made-up ROTATE (and a heartbeat) may precede.
    pub fn unknown(flavor: Flavor) -> Format {
        Format { flavor, checksum: Checksum::Unknown }
    }

    /// Takes one whole event, as a file or a packet (without its status byte) has it, and verifies its checksum. What comes
    /// out has no checksum any more.
    ///
    /// # Errors
    /// Another number of bytes than the header says, a checksum that does not match.
    #[inline]
    pub fn open<'a>(&self, bytes: &'a [u8]) -> Result<Event<'a>, WireError> {
        let header = Header::parse(bytes)?;
        if bytes.len() != header.size_bytes as usize {
            return Err(WireError::new("event", "another size than its header says", bytes.len()));
        }
        let checksum = if header.kind == EventType::FORMAT_DESCRIPTION {
            // It says for itself what the others have, and always ends with 4 bytes for a checksum.
            return open_format_description(header, bytes);
        } else {
            self.checksum
        };
        let end = match checksum {
            Checksum::None => bytes.len(),
            Checksum::Crc32 => verified(bytes)?,
            Checksum::Unknown => verified(bytes).unwrap_or(bytes.len()),
        };
        Ok(Event { header, bytes: &bytes[..end] })
    }
}

/// Where the checksum begins.
fn verified(bytes: &[u8]) -> Result<usize, WireError> {
    let wrong = |problem| WireError::new("event", problem, bytes.len().saturating_sub(CHECKSUM_BYTES));
    let Some((event, &checksum)) = bytes.split_last_chunk().filter(|(event, _)| event.len() >= HEADER_BYTES) else {
        return Err(wrong("no room for its checksum"));
    };
    if crc32fast::hash(event) != u32::from_le_bytes(checksum) {
        return Err(wrong("the checksum does not match: the event was damaged"));
    }
    Ok(event.len())
}

fn open_format_description(header: Header, bytes: &[u8]) -> Result<Event<'_>, WireError> {
    let event = Event { header, bytes };
    let Some(end) = bytes.len().checked_sub(CHECKSUM_BYTES).filter(|&end| end > HEADER_BYTES) else {
        return Err(WireError::new(NAME, "truncated", bytes.len()));
    };
    if bytes[end - 1] == ALGORITHM_CRC32 {
        // The checksum was computed before the file was in use.
        let mut head = [0; HEADER_BYTES];
        head.copy_from_slice(&bytes[..HEADER_BYTES]);
        head[FLAGS_AT] &= !(EventFlags::IN_USE as u8);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&head);
        hasher.update(&bytes[HEADER_BYTES..end]);
        if bytes[end..] != hasher.finalize().to_le_bytes() {
            return Err(WireError::new(NAME, "the checksum does not match: the event was damaged", end));
        }
    }
    Ok(Event { bytes: &bytes[..end], ..event })
}

const ALGORITHM_OFF: u8 = 0;
const ALGORITHM_CRC32: u8 = 1;

/// A file's first event; the server also sends it first when a dump begins in the middle of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatDescription<'a> {
    /// `8.4.3`, `11.8.6-MariaDB-log`.
    pub server_version: &'a str,
    /// When the file was begun, in seconds since 1970-01-01 UTC; 0 where the dump does not begin at its beginning.
    pub created_unix_s: u32,
    pub format: Format,
}

/// ```text
/// Int2 binlog version (4), Byte50 server version, padded with zeros, Int4 time of the file's creation,
/// Int1 length of an event's header (19), Byten length of each type's post-header, from type 1 on,
/// Int1 checksum algorithm (0 none, 1 CRC-32), Int4 checksum, there whatever the algorithm says
/// ```
pub(super) fn parse<'a>(event: &Event<'a>) -> Result<FormatDescription<'a>, WireError> {
    let mut reader = event.reader(NAME);
    if reader.u16()? != 4 {
        return Err(reader.wrong("a binlog version other than 4: a log of before 5.0"));
    }
    let version = reader.array_ref::<50>()?;
    let end = memchr::memchr(0, version).unwrap_or(version.len());
    let server_version =
        std::str::from_utf8(&version[..end]).map_err(|_| reader.wrong("a version that is not UTF-8"))?;
    let created_unix_s = reader.u32()?;
    let header_bytes = reader.u8()?;
    if usize::from(header_bytes) != HEADER_BYTES {
        return Err(reader.wrong_last("an event header of another length than 19", header_bytes));
    }
    let lengths_at = reader.at();
    let Some((&algorithm, lengths)) = reader.rest().split_last() else { return Err(reader.wrong("truncated")) };
    check_lengths(&reader, lengths).map_err(|error| WireError { offset: lengths_at, ..error })?;
    let checksum = match algorithm {
        ALGORITHM_OFF => Checksum::None,
        ALGORITHM_CRC32 => Checksum::Crc32,
        other => return Err(reader.wrong_last("an unknown checksum algorithm", other)),
    };
    // MariaDB's own types begin at 160, where MySQL has none.
    let flavor =
        if lengths.len() >= usize::from(EventType::MARIADB_ANNOTATE_ROWS.0) { Flavor::MariaDb } else { Flavor::MySql };
    Ok(FormatDescription { server_version, created_unix_s, format: Format { flavor, checksum } })
}

/// (type, length of its post-header) as every server since 5.6 (MariaDB 10.0) writes them and this decoder reads them.
const POST_HEADERS: [(EventType, u8); 14] = [
    (EventType::QUERY, 13),
    (EventType::ROTATE, 8),
    (EventType::TABLE_MAP, 8),
    (EventType::WRITE_ROWS_V1, 8),
    (EventType::UPDATE_ROWS_V1, 8),
    (EventType::DELETE_ROWS_V1, 8),
    (EventType::INCIDENT, 2),
    (EventType::WRITE_ROWS, 10),
    (EventType::UPDATE_ROWS, 10),
    (EventType::DELETE_ROWS, 10),
    (EventType::PARTIAL_UPDATE_ROWS, 10),
    (EventType::MARIADB_GTID, 19),
    (EventType::MARIADB_GTID_LIST, 4),
    (EventType::MARIADB_QUERY_COMPRESSED, 13),
];

/// The lengths are not followed but demanded: a server with others has a grammar that is not ours.
fn check_lengths(reader: &Reader<'_>, lengths: &[u8]) -> Result<(), WireError> {
    for (kind, expected) in POST_HEADERS {
        // MariaDB's list has zeros where MySQL's types stand that it never writes.
        match lengths.get(usize::from(kind.0) - 1) {
            None | Some(0) => {}
            Some(&length) if length == expected => {}
            Some(_) => return Err(reader.wrong("an event type has a post-header of another length than we read")),
        }
    }
    Ok(())
}
