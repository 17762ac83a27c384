//! Places beyond 4 GiB of a file, for which the protocol has no bits.
//!
//! Invariants:
//! - Such a file has a transaction in it that is longer than `max_binlog_size`, and the server begins another file behind
//!   that: the place is at the file's end, mostly, and the stream goes on with the next one.
//! - That nothing but the event which leads there lies in between is proven by its length. Otherwise the file is read from its
//!   beginning, and passed over up to the place.

use super::ask::Ask;
use super::retention::LogFile;
use super::server::Server;
use super::status;
use crate::error::Result;
use crate::record::BinlogPosition;
use crate::wire::mysql::event::HEADER_BYTES;

/// How to come to such a place.
#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    /// It is the end of its file: this is the next one.
    Next(String),
    /// From the file's beginning.
    Skip,
}

/// How to come to a place of the server's log.
///
/// # Errors
/// Those of a query.
pub async fn way(ask: &mut dyn Ask, server: &Server, place: &BinlogPosition) -> Result<Way> {
    Ok(way_in(&status::files(ask, server).await?, place))
}

fn way_in(files: &[LogFile], place: &BinlogPosition) -> Way {
    let at = files.iter().position(|file| *file.name == *place.file);
    let Some([file, next, ..]) = at.map(|at| &files[at..]) else { return Way::Skip };
    // ROTATE: the next file's first offset in 8 bytes, its name, perhaps a checksum.
    let plain = (HEADER_BYTES + 8 + next.name.len()) as u64;
    let rest = file.bytes.checked_sub(place.offset);
    if [Some(0), Some(plain), Some(plain + 4)].contains(&rest) { Way::Next(next.name.clone()) } else { Way::Skip }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_rotate_fits() {
        let files = |bytes| {
            [("b.000001", bytes), ("b.000002", 9)].map(|(name, bytes)| LogFile { name: name.to_owned(), bytes })
        };
        let place: BinlogPosition = "b.000001:5000000000".parse().unwrap();
        for rest in [0, 35, 39] {
            assert_eq!(way_in(&files(5_000_000_000 + rest), &place), Way::Next("b.000002".to_owned()), "{rest}");
        }
        for rest in [1, 34, 36, 40, 200] {
            assert_eq!(way_in(&files(5_000_000_000 + rest), &place), Way::Skip, "{rest}");
        }
        assert_eq!(way_in(&files(4_999_999_999), &place), Way::Skip, "shorter than it was");
        assert_eq!(way_in(&files(5_000_000_035)[..1], &place), Way::Skip, "the last");
    }
}
