//! A set of MySQL GTIDs in the form that COM_BINLOG_DUMP_GTID takes, which is that of PREVIOUS_GTIDS events.
//!
//! ```text
//! without tags: int<8> sources         (16 bytes UUID, int<8> intervals, (int<8> first, int<8> last + 1)*)*
//! with tags:    int<1> 1, int<6> sources, int<1> 1
//!               (16 bytes UUID, int<1> 2 * length of the tag, tag, int<8> intervals, (int<8> first, int<8> last + 1)*)*
//! ```
//! A source with two tags counts as two. Only servers from 8.3 on read the form with tags, and only they have tags.

use crate::record::gtid::MySqlGtids;

/// Marks the form with tags, in the highest and the lowest byte around the number of sources.
const TAGGED: u64 = 1 << 56 | 1;

pub fn encode(set: &MySqlGtids) -> Vec<u8> {
    let tagged = set.iter().any(|(sid, _)| sid.tag.is_some());
    let sources = set.iter().count() as u64;
    let mut out = Vec::new();
    out.extend((if tagged { TAGGED | sources << 8 } else { sources }).to_le_bytes());
    for (sid, intervals) in set.iter() {
        out.extend(sid.uuid);
        if tagged {
            let tag = sid.tag.as_deref().unwrap_or_default();
            // A tag has at most 32 bytes.
            out.push((tag.len() as u8) << 1);
            out.extend_from_slice(tag.as_bytes());
        }
        out.extend((intervals.len() as u64).to_le_bytes());
        for interval in intervals {
            out.extend(interval.first.to_le_bytes());
            out.extend((interval.last + 1).to_le_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SID: &str = "00010203-0405-0607-0809-0a0b0c0d0e0f";
    const UUID: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    fn numbers(numbers: &[u64]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    #[test]
    fn both_forms() {
        let encoded = |text: &str| encode(&text.parse().unwrap());
        assert_eq!(encode(&MySqlGtids::default()), numbers(&[0]));
        let plain = [numbers(&[1]), UUID.to_vec(), numbers(&[2, 1, 4, 7, 8])].concat();
        assert_eq!(encoded(&format!("{SID}:1-3:7")), plain);
        let tagged = [
            vec![1, 2, 0, 0, 0, 0, 0, 1],
            UUID.to_vec(),
            vec![0],
            numbers(&[1, 5, 6]),
            UUID.to_vec(),
            b"\x06abc".to_vec(),
            numbers(&[1, 1, 3]),
        ]
        .concat();
        assert_eq!(encoded(&format!("{SID}:5:abc:1-2")), tagged);
    }
}
