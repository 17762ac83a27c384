//! MySQL's GTID events: a transaction's own, and the set of those before a file.

use std::ops::RangeInclusive;

use super::super::Reader;
use super::{Event, EventType, tagged};
use crate::wire::WireError;

/// A transaction begins: GTID, ANONYMOUS_GTID or GTID_TAGGED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gtid<'a> {
    /// The server that committed it first; zeros when anonymous.
    pub uuid: [u8; 16],
    /// In lower case; empty for none.
    pub tag: &'a str,
    /// From 1; 0 when anonymous.
    pub number: u64,
    /// GTIDs were off when it was committed.
    pub anonymous: bool,
    pub fields: GtidFields,
}

/// What else such an event says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GtidFields {
    /// It may hold a change logged as a statement; DDL always does.
    pub may_have_statements: bool,
    pub last_committed: u64,
    pub sequence_number: u64,
    /// When it was committed on the server that sends it, in microseconds since 1970-01-01 UTC; from 8.0 on.
    pub immediate_commit_unix_micros: Option<u64>,
    /// The same on the server where it began.
    pub original_commit_unix_micros: Option<u64>,
    /// Bytes of the whole transaction in the log, this event included.
    pub transaction_bytes: Option<u64>,
    /// 80_403 for 8.4.3; none where the server does not know.
    pub immediate_server_version: Option<u32>,
    pub original_server_version: Option<u32>,
}

/// What `logical_timestamp_typecode` says when the two numbers follow.
const LOGICAL_TIMESTAMPS: u8 = 2;
/// In a time: another time follows. In a version: another version follows.
const MORE_TIME: u64 = 1 << 55;
const MORE_VERSION: u32 = 1 << 31;

/// ```text
/// GTID, ANONYMOUS_GTID: Int1 flags (1: may have statements), Byte16 uuid, Int8 number, and from 5.7 on
///   Int1 (2) with Int8 last committed, Int8 sequence number; from 8.0 on
///   Int7 immediate commit time in µs, with the highest bit set when Int7 original commit time follows,
///   Packed length of the transaction,
///   Int4 immediate server version, with the highest bit set when Int4 original server version follows;
///   newer servers add fields behind them (commit group ticket)
/// ```
pub(super) fn parse<'a>(event: &Event<'a>) -> Result<Gtid<'a>, WireError> {
    let anonymous = event.header.kind == EventType::ANONYMOUS_GTID;
    let mut reader = event.reader(if anonymous { "ANONYMOUS_GTID" } else { "GTID" });
    let mut fields = GtidFields { may_have_statements: reader.u8()? & 1 != 0, ..GtidFields::default() };
    let uuid = reader.array()?;
    let number = reader.u64()?;
    if anonymous != (number == 0) || number > i64::MAX as u64 {
        return Err(reader.wrong("a number that no such transaction has"));
    }
    read_fields(&mut reader, &mut fields)?;
    Ok(Gtid { uuid, tag: "", number, anonymous, fields })
}

fn read_fields(reader: &mut Reader<'_>, fields: &mut GtidFields) -> Result<(), WireError> {
    if reader.is_empty() {
        return Ok(());
    }
    match reader.u8()? {
        LOGICAL_TIMESTAMPS => {}
        other => return Err(reader.wrong_last("unknown logical timestamps", other)),
    }
    fields.last_committed = reader.u64()?;
    fields.sequence_number = reader.u64()?;
    if reader.is_empty() {
        return Ok(());
    }
    let immediate = reader.u56()?;
    let original = if immediate & MORE_TIME != 0 { reader.u56()? } else { immediate };
    fields.immediate_commit_unix_micros = Some(immediate & !MORE_TIME);
    fields.original_commit_unix_micros = Some(original);
    if reader.is_empty() {
        return Ok(());
    }
    fields.transaction_bytes = Some(reader.packed()?);
    if reader.is_empty() {
        return Ok(());
    }
    let immediate = reader.u32()?;
    let original = if immediate & MORE_VERSION != 0 { reader.u32()? } else { immediate };
    fields.immediate_server_version = known_version(immediate & !MORE_VERSION);
    fields.original_server_version = known_version(original);
    Ok(())
}

/// Servers write this for a transaction from one that is too old to say.
const UNDEFINED_VERSION: u32 = 999_999;

pub(super) fn known_version(version: u32) -> Option<u32> {
    (version != UNDEFINED_VERSION).then_some(version)
}

/// The transactions in all files before this one; a file's second event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreviousGtids<'a> {
    /// The sets, checked.
    bytes: &'a [u8],
    count: u64,
    tagged: bool,
}

/// What of one server, under one tag, was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GtidIntervals<'a> {
    pub uuid: [u8; 16],
    /// Empty for none.
    pub tag: &'a str,
    intervals: &'a [[u8; INTERVAL_BYTES]],
}

impl GtidIntervals<'_> {
    /// Numbers from first to last, ascending and apart from each other.
    pub fn intervals(&self) -> impl ExactSizeIterator<Item = RangeInclusive<u64>> {
        self.intervals.iter().map(|interval| {
            let [start, end] = ends(interval);
            start..=end.saturating_sub(1)
        })
    }
}

const INTERVAL_BYTES: usize = 16;

/// First number and the one behind the last.
fn ends(interval: &[u8; INTERVAL_BYTES]) -> [u64; 2] {
    let number = |at: usize| interval[at..].iter().take(8).rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    [number(0), number(8)]
}

const PREVIOUS: &str = "PREVIOUS_GTIDS";

/// ```text
/// PREVIOUS_GTIDS: Int8 head, then sets
///   head, without tags: the number of sets, in its lower 7 bytes; highest byte 0
///   head, with tags: Int1 (1), Int6 number of sets, Int1 (1)
///   set: Byte16 uuid, with tags: Varlen length of the tag and the tag; Int8 number of intervals,
///        each Int8 first number, Int8 the one behind the last
/// ```
pub(super) fn previous<'a>(event: &Event<'a>) -> Result<PreviousGtids<'a>, WireError> {
    let mut reader = event.reader(PREVIOUS);
    let head = reader.u64()?;
    let (tagged, count) = match head >> 56 {
        0 => (false, head),
        1 if head & 0xff == 1 => (true, head >> 8 & 0xffff_ffff_ffff),
        _ => return Err(reader.wrong("an unknown format")),
    };
    let start = reader.clone();
    for _ in 0..count {
        next_set(&mut reader, tagged)?;
    }
    reader.end()?;
    Ok(PreviousGtids { bytes: start.clone().rest(), count, tagged })
}

fn next_set<'a>(reader: &mut Reader<'a>, tagged: bool) -> Result<GtidIntervals<'a>, WireError> {
    let uuid = reader.array()?;
    let tag = if tagged { tagged::string(reader)? } else { "" };
    let count = reader.u64()?;
    let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(INTERVAL_BYTES));
    let bytes = bytes.ok_or_else(|| reader.wrong("truncated"))?;
    let (intervals, _) = reader.take(bytes)?.as_chunks();
    let mut above = 0;
    for [start, end] in intervals.iter().map(ends) {
        if start <= above || end <= start || end > i64::MAX as u64 {
            return Err(reader.wrong("intervals that do not ascend"));
        }
        above = end;
    }
    Ok(GtidIntervals { uuid, tag, intervals })
}

impl<'a> PreviousGtids<'a> {
    pub fn sets(&self) -> impl Iterator<Item = GtidIntervals<'a>> + use<'a> {
        let (mut reader, tagged) = (Reader::new(PREVIOUS, self.bytes, 0), self.tagged);
        // Read once before, so that none of them fails.
        (0..self.count).map_while(move |_| next_set(&mut reader, tagged).ok())
    }
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}
