//! How the offset store's values look on disk, format 2.
//!
//! Invariants:
//! - A value is sealed with its length and a checksum over its key and itself, so a value that is torn, changed or stored
//!   under another key is an error that names the key, never another position.
//! - Every byte of a payload is read; bytes left over are an error.
//!
//! ```text
//! value    = length:u32 payload crc32:u32      CRC-32 (IEEE) over key, then payload; all numbers big endian
//! lineage  = text{5}                           kind, system, timeline, database, stream
//! text     = length:u32 UTF-8
//! offset   = optional optional                 position (Position::to_bytes), token
//! optional = 0 | 1 length:u32 bytes
//! consumer = epoch:u64 standing:u8 text optional{3} bytes:u64 since:u64     text: why it is detached; position, base,
//!                                              what a snapshot needs; lag
//! orders   = ("paused" text | "added" text{2} optional)*     the sink; schema, table and position; the words are texts
//! contents = entries:u64 sum:u64               how many entries there are, and the sum of their crc32
//! format   = "WALBROOK" version:u32            not sealed: every later version must be able to read it
//! ```
//!
//! Format 1 had sinks, state and lineage only. Format 2 adds the base, consumers and orders, under keys that a program
//! that knows format 1 takes for damage; what was there before looks as it did. So a store of format 1 is read as it is, and
//! is of format 2 from the first write on.

use super::consumer::{Consumer, Lag, Standing};
use super::orders::Orders;
use crate::error::{Error, Result};
use crate::record::{Lineage, Position, SinkOffset};

/// The format this code writes, and the newest it reads. It rises with whatever the code before cannot read: also with a
/// key of a new kind.
pub(super) const FORMAT_VERSION: u32 = 2;
const MAGIC: &[u8; 8] = b"WALBROOK";

pub(super) fn encode_format() -> Vec<u8> {
    [&MAGIC[..], &FORMAT_VERSION.to_be_bytes()].concat()
}

/// The version of a format value; `None` when it is not ours.
pub(super) fn decode_format(value: &[u8]) -> Option<u32> {
    let version = value.strip_prefix(&MAGIC[..])?;
    Some(u32::from_be_bytes(version.try_into().ok()?))
}

pub(super) fn seal(key: &[u8], payload: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(payload.len())
        .map_err(|_| Error::bug(format!("storing {} bytes under {}", payload.len(), key.escape_ascii())))?;
    Ok([&length.to_be_bytes()[..], payload, &checksum(key, payload).to_be_bytes()].concat())
}

/// The payload of a sealed value. Errors: `Config`, naming the key.
pub(super) fn unseal<'v>(key: &[u8], value: &'v [u8]) -> Result<&'v [u8]> {
    let parts = || {
        let (length, rest) = value.split_first_chunk::<4>()?;
        let (payload, sum) = rest.split_last_chunk::<4>()?;
        let whole = payload.len() == u32::from_be_bytes(*length) as usize;
        (whole && checksum(key, payload) == u32::from_be_bytes(*sum)).then_some(payload)
    };
    parts().ok_or_else(|| corrupt(key, "its length or checksum is wrong"))
}

pub(super) fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(payload);
    hasher.finalize()
}

pub(super) fn corrupt(key: &[u8], why: &str) -> Error {
    Error::config(format!("the value stored under {} is corrupt: {why}", key.escape_ascii()))
}

pub(super) fn encode_contents(entries: u64, sum: u64) -> Vec<u8> {
    [entries.to_be_bytes(), sum.to_be_bytes()].concat()
}

pub(super) fn encode_lineage(lineage: &Lineage) -> Vec<u8> {
    let Lineage { kind, system, timeline, database, stream } = lineage;
    let mut out = Vec::new();
    for text in [kind, system, timeline, database, stream] {
        put(&mut out, text.as_bytes());
    }
    out
}

/// The reverse of [`encode_lineage`]; `None` when the bytes are not one.
pub(super) fn decode_lineage(mut bytes: &[u8]) -> Option<Lineage> {
    let mut text = || String::from_utf8(take(&mut bytes)?.to_vec()).ok();
    let lineage = Lineage { kind: text()?, system: text()?, timeline: text()?, database: text()?, stream: text()? };
    bytes.is_empty().then_some(lineage)
}

pub(super) fn encode_offset(offset: &SinkOffset) -> Vec<u8> {
    let mut out = Vec::new();
    for part in [offset.position.as_ref().map(Position::to_bytes).as_deref(), offset.token.as_deref()] {
        put_optional(&mut out, part);
    }
    out
}

/// The reverse of [`encode_offset`]; `None` when the bytes are not one.
pub(super) fn decode_offset(mut bytes: &[u8]) -> Option<SinkOffset> {
    let (position, token) = (take_optional(&mut bytes)?, take_optional(&mut bytes)?);
    let position = match position {
        None => None,
        Some(position) => Some(Position::from_bytes(position)?),
    };
    bytes.is_empty().then(|| SinkOffset { position, token: token.map(<[u8]>::to_vec) })
}

pub(super) fn encode_consumer(consumer: &Consumer) -> Vec<u8> {
    let Consumer { epoch, standing, position, base, snapshot_hold, lag } = consumer;
    let (standing, why) = match standing {
        Standing::Live => (0, ""),
        Standing::Parked => (1, ""),
        Standing::Paused => (2, ""),
        Standing::Detached(why) => (3, why.as_str()),
    };
    let mut out = epoch.to_be_bytes().to_vec();
    out.push(standing);
    put(&mut out, why.as_bytes());
    for position in [position, base, snapshot_hold] {
        put_optional(&mut out, position.as_ref().map(Position::to_bytes).as_deref());
    }
    out.extend_from_slice(&lag.bytes.to_be_bytes());
    out.extend_from_slice(&lag.since_unix_ms.to_be_bytes());
    out
}

/// The reverse of [`encode_consumer`]; `None` when the bytes are not one.
pub(super) fn decode_consumer(bytes: &[u8]) -> Option<Consumer> {
    let (epoch, bytes) = bytes.split_first_chunk()?;
    let (&standing, mut bytes) = bytes.split_first()?;
    let why = String::from_utf8(take(&mut bytes)?.to_vec()).ok()?;
    let mut position = || match take_optional(&mut bytes)? {
        None => Some(None),
        Some(position) => Position::from_bytes(position).map(Some),
    };
    let (position, base, snapshot_hold) = (position()?, position()?, position()?);
    let (lag_bytes, bytes) = bytes.split_first_chunk()?;
    let (since, bytes) = bytes.split_first_chunk()?;
    let standing = match standing {
        0 => Standing::Live,
        1 => Standing::Parked,
        2 => Standing::Paused,
        3 => Standing::Detached(why),
        _ => return None,
    };
    let lag = Lag { bytes: u64::from_be_bytes(*lag_bytes), since_unix_ms: u64::from_be_bytes(*since) };
    let consumer = Consumer { epoch: u64::from_be_bytes(*epoch), standing, position, base, snapshot_hold, lag };
    bytes.is_empty().then_some(consumer)
}

const PAUSED: &str = "paused";
const ADDED: &str = "added";

pub(super) fn encode_orders(orders: &Orders) -> Vec<u8> {
    let Orders { paused, added } = orders;
    let mut out = Vec::new();
    for sink in paused {
        [PAUSED, sink].iter().for_each(|text| put(&mut out, text.as_bytes()));
    }
    for ((schema, table), from) in added {
        [ADDED, schema, table].iter().for_each(|text| put(&mut out, text.as_bytes()));
        put_optional(&mut out, from.as_ref().map(Position::to_bytes).as_deref());
    }
    out
}

/// The reverse of [`encode_orders`]; `None` when the bytes are none.
pub(super) fn decode_orders(mut bytes: &[u8]) -> Option<Orders> {
    fn text(bytes: &mut &[u8]) -> Option<String> {
        String::from_utf8(take(bytes)?.to_vec()).ok()
    }
    let mut orders = Orders::default();
    while !bytes.is_empty() {
        match text(&mut bytes)?.as_str() {
            PAUSED => drop(orders.paused.insert(text(&mut bytes)?)),
            ADDED => {
                let name = (text(&mut bytes)?, text(&mut bytes)?);
                let from = match take_optional(&mut bytes)? {
                    None => None,
                    Some(from) => Some(Position::from_bytes(from)?),
                };
                orders.added.insert(name, from);
            }
            _ => return None,
        }
    }
    Some(orders)
}

fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.push(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        put(out, bytes);
    }
}

fn take_optional<'b>(bytes: &mut &'b [u8]) -> Option<Option<&'b [u8]>> {
    let (&present, rest) = bytes.split_first()?;
    *bytes = rest;
    match present {
        0 => Some(None),
        1 => take(bytes).map(Some),
        _ => None,
    }
}

/// Lengths fit: [`seal`] refuses what is longer than a u32 can say.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn take<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (head, tail) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *bytes = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::Lsn;

    fn lineages() -> impl Strategy<Value = Lineage> {
        (".*", ".*", ".*", ".*", ".*").prop_map(|(kind, system, timeline, database, stream)| Lineage {
            kind,
            system,
            timeline,
            database,
            stream,
        })
    }

    fn offsets() -> impl Strategy<Value = SinkOffset> {
        (any::<Option<u64>>(), any::<Option<Vec<u8>>>())
            .prop_map(|(lsn, token)| SinkOffset { position: lsn.map(|lsn| Position::Postgres(Lsn(lsn))), token })
    }

    fn consumers() -> impl Strategy<Value = Consumer> {
        let standing = prop_oneof![
            Just(Standing::Live),
            Just(Standing::Parked),
            Just(Standing::Paused),
            ".*".prop_map(Standing::Detached)
        ];
        let at = |lsn: Option<u64>| lsn.map(|lsn| Position::Postgres(Lsn(lsn)));
        (any::<[u64; 3]>(), standing, any::<[Option<u64>; 3]>()).prop_map(move |(numbers, standing, positions)| {
            let [epoch, bytes, since_unix_ms] = numbers;
            let [position, base, snapshot_hold] = positions.map(at);
            Consumer { epoch, standing, position, base, snapshot_hold, lag: Lag { bytes, since_unix_ms } }
        })
    }

    fn orders() -> impl Strategy<Value = Orders> {
        use prop::collection::{btree_map, btree_set};
        let from = any::<Option<u64>>().prop_map(|lsn| lsn.map(|lsn| Position::Postgres(Lsn(lsn))));
        (btree_set(".*", 0..3), btree_map((".*", ".*"), from, 0..3))
            .prop_map(|(paused, added)| Orders { paused, added })
    }

    proptest! {
        #[test]
        fn orders_that_are_written_are_read(orders in orders(), noise: Vec<u8>, extra: u8, cut in 1usize..4) {
            let bytes = encode_orders(&orders);
            prop_assert!(bytes.is_empty() || decode_orders(&bytes[..bytes.len() - cut]).is_none());
            prop_assert!(decode_orders(&[&bytes[..], &[extra]].concat()).is_none());
            prop_assert_eq!(decode_orders(&bytes), Some(orders));
            let _ = decode_orders(&noise);
        }

        #[test]
        fn a_consumer_that_is_written_is_read_and_nothing_else(
            consumer in consumers(), noise: Vec<u8>, extra: u8, cut in 1usize..9
        ) {
            let bytes = encode_consumer(&consumer);
            prop_assert!(decode_consumer(&bytes[..bytes.len() - cut]).is_none());
            prop_assert!(decode_consumer(&[&bytes[..], &[extra]].concat()).is_none());
            prop_assert_eq!(decode_consumer(&bytes), Some(consumer));
            let _ = decode_consumer(&noise);
        }

        #[test]
        fn what_is_written_is_read(lineage in lineages(), offset in offsets(), key: Vec<u8>, payload: Vec<u8>) {
            prop_assert_eq!(decode_lineage(&encode_lineage(&lineage)), Some(lineage));
            prop_assert_eq!(decode_offset(&encode_offset(&offset)), Some(offset));
            let sealed = seal(&key, &payload).unwrap();
            prop_assert_eq!(unseal(&key, &sealed).unwrap(), &payload[..]);
        }

        #[test]
        fn nothing_else_is_read(lineage in lineages(), offset in offsets(), extra in any::<u8>(), cut in 1usize..8) {
            for (bytes, reads) in [
                (encode_lineage(&lineage), (|bytes| decode_lineage(bytes).is_some()) as fn(&[u8]) -> bool),
                (encode_offset(&offset), |bytes| decode_offset(bytes).is_some()),
            ] {
                prop_assert!(!reads(&bytes[..bytes.len().saturating_sub(cut)]));
                prop_assert!(!reads(&[&bytes[..], &[extra]].concat()));
            }
        }

        #[test]
        fn bytes_from_outside_never_panic(bytes: Vec<u8>) {
            let _ = (decode_format(&bytes), decode_lineage(&bytes), decode_offset(&bytes), unseal(b"key", &bytes));
        }

        #[test]
        fn a_changed_bit_or_another_key_is_an_error(payload: Vec<u8>, bit in any::<prop::sample::Index>()) {
            let mut sealed = seal(b"sink/a", &payload).unwrap();
            prop_assert!(unseal(b"sink/b", &sealed).is_err());
            let bit = bit.index(sealed.len() * 8);
            sealed[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(unseal(b"sink/a", &sealed).is_err());
        }
    }

    #[test]
    fn the_format_names_its_version() {
        assert_eq!(decode_format(&encode_format()), Some(FORMAT_VERSION));
        assert_eq!(decode_format(b"WALBROOK\0\0\0\x07"), Some(7));
        for wrong in [&b""[..], b"WALBROOK", b"WALBROOK\0\0\0", b"WALBROOK\0\0\0\x01\0", b"walbrook\0\0\0\x01"] {
            assert_eq!(decode_format(wrong), None);
        }
    }

    #[test]
    fn a_corrupt_value_names_its_key() {
        let error = unseal(b"sink/audit", b"\0\0\0\x01x\0\0\0\0").unwrap_err();
        assert!(error.to_string().contains("sink/audit"), "{error}");
    }
}
