//! Where a stream of MySQL's or MariaDB's binary log is.
//!
//! Invariants:
//! - On one server file and offset are the order. Files are ordered by the number behind their last dot: the server counts
//!   it up, past six digits too.
//! - Between two servers only GTIDs say what is where.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::gtid::{Gtid, GtidSet};
use crate::error::Error;

/// A point in the log: where to resume, or where a transaction stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinlogPosition {
    /// Stands for the server whose file and offset these are: a hash of what it calls itself. 0 where unknown.
    pub server: u64,
    /// The file's name without a folder: `binlog.000042`. Empty where only GTIDs are known.
    pub file: Arc<str>,
    /// Bytes from the file's beginning: of a resume position the end of what has been seen, of a transaction its first
    /// event. Counted in 64 bits; the log itself has 32.
    pub offset: u64,
    /// When the file was begun, in seconds since 1970-01-01 UTC, as its first event says; 0 where unknown. It tells a file
    /// from another of the same name after a RESET.
    pub file_created_unix_s: u32,
    pub seen: Seen,
}

/// What a [`BinlogPosition`] knows in GTIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// GTIDs are off, or the transaction has none.
    Nothing,
    /// A transaction's own.
    Transaction(Gtid),
    /// Everything up to a resume position. Shared: it changes with every transaction and is looked at rarely.
    Executed(Arc<GtidSet>),
}

impl BinlogPosition {
    /// See [`super::Position::covers`].
    pub fn covers(&self, other: &BinlogPosition) -> bool {
        if self.is_of_one_log(other) {
            return self.cmp_in_log(other) == Ordering::Greater;
        }
        match (&self.seen, &other.seen) {
            (Seen::Executed(here), Seen::Transaction(gtid)) => here.contains(gtid),
            (Seen::Executed(here), Seen::Executed(there)) => here != there && here.contains_all(there),
            _ => self.cmp_in_log(other) == Ordering::Greater,
        }
    }

    /// Whether both are the same place. When the file was made is known of one that the stream has read, and not of one that
    /// was asked for.
    pub(super) fn is_at(&self, other: &BinlogPosition) -> bool {
        if self.is_of_one_log(other) {
            return self.cmp_in_log(other) == Ordering::Equal;
        }
        match (&self.seen, &other.seen) {
            (Seen::Executed(here), Seen::Executed(there)) => here == there,
            (Seen::Nothing, Seen::Nothing) => self.cmp_in_log(other) == Ordering::Equal,
            _ => self == other,
        }
    }

    fn is_of_one_log(&self, other: &BinlogPosition) -> bool {
        let known = |position: &BinlogPosition| position.server != 0 && !position.file.is_empty();
        known(self) && known(other) && self.server == other.server
    }

    /// By file and offset, which is the order of one server's log.
    pub fn cmp_in_log(&self, other: &BinlogPosition) -> Ordering {
        file_number(&self.file).cmp(&file_number(&other.file)).then(self.offset.cmp(&other.offset))
    }

    /// Of two positions neither of which covers the other, what both have seen. After a failover to a server that logged
    /// the same transactions in another order, one stream's positions need not be a line.
    pub(super) fn shared(self: &Arc<Self>, other: &Arc<Self>) -> Arc<Self> {
        let both = match (self.executed(), other.executed()) {
            (Some(here), Some(there)) if here != there => here.shared(there),
            _ => return self.clone(),
        };
        let seen = Seen::Executed(Arc::new(both));
        Arc::new(BinlogPosition { server: 0, file: "".into(), offset: 0, file_created_unix_s: 0, seen })
    }

    /// `None` where the position knows none.
    pub fn executed(&self) -> Option<&GtidSet> {
        match &self.seen {
            Seen::Executed(set) => Some(set),
            Seen::Nothing | Seen::Transaction(_) => None,
        }
    }

    /// ```text
    /// position = server:u64 created:u32 offset:u64 file:u16 name seen     all numbers big endian
    /// seen     = "-" | "T" gtid | "E" set                                 the server's own text
    /// ```
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        // A file's name is below 512 bytes by the server's own limit.
        let name = &self.file.as_bytes()[..self.file.len().min(usize::from(u16::MAX))];
        out.extend_from_slice(&self.server.to_be_bytes());
        out.extend_from_slice(&self.file_created_unix_s.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(&(name.len() as u16).to_be_bytes());
        out.extend_from_slice(name);
        match &self.seen {
            Seen::Nothing => out.push(b'-'),
            Seen::Transaction(gtid) => out.extend_from_slice(format!("T{gtid}").as_bytes()),
            Seen::Executed(set) => {
                let kind = if matches!(**set, GtidSet::MySql(_)) { 'E' } else { 'e' };
                out.extend_from_slice(format!("{kind}{set}").as_bytes());
            }
        }
    }

    /// The reverse of [`BinlogPosition::encode`].
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (server, bytes) = bytes.split_first_chunk()?;
        let (created, bytes) = bytes.split_first_chunk()?;
        let (offset, bytes) = bytes.split_first_chunk()?;
        let (length, bytes) = bytes.split_first_chunk()?;
        let (name, bytes) = bytes.split_at_checked(u16::from_be_bytes(*length).into())?;
        let (kind, text) = bytes.split_first()?;
        let text = std::str::from_utf8(text).ok()?;
        Some(BinlogPosition {
            server: u64::from_be_bytes(*server),
            file: std::str::from_utf8(name).ok()?.into(),
            offset: u64::from_be_bytes(*offset),
            file_created_unix_s: u32::from_be_bytes(*created),
            seen: match kind {
                b'-' if text.is_empty() => Seen::Nothing,
                b'T' => Seen::Transaction(text.parse().ok()?),
                b'E' => Seen::Executed(Arc::new(GtidSet::MySql(text.parse().ok()?))),
                b'e' => Seen::Executed(Arc::new(GtidSet::MariaDb(text.parse().ok()?))),
                _ => return None,
            },
        })
    }
}

/// The number the server counts its files by.
pub fn file_number(file: &str) -> u64 {
    file.rsplit_once('.').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

impl fmt::Display for BinlogPosition {
    /// `binlog.000042:1234`, `binlog.000042:1234/uuid:1-23`, or a GTID set alone; a transaction's own place
    /// `binlog.000042:1234#uuid:23`. What was seen stands behind a slash, what stands there behind `#`: on MariaDB the GTIDs
    /// alone could be either.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:{}", self.file, self.offset)?;
        }
        match &self.seen {
            Seen::Transaction(gtid) => write!(f, "#{gtid}"),
            Seen::Executed(set) if set.is_empty() => Ok(()),
            Seen::Executed(set) if self.file.is_empty() => set.fmt(f),
            Seen::Executed(set) => write!(f, "/{set}"),
            Seen::Nothing => Ok(()),
        }
    }
}

impl FromStr for BinlogPosition {
    type Err = Error;

    /// Reads a resume position; of a transaction's own place it is where that begins. Errors: `Config`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let executed = |text: &str| text.parse().map(|set| Seen::Executed(Arc::new(set)));
        let of = |file: &str, offset, seen| BinlogPosition {
            server: 0,
            file: file.into(),
            offset,
            file_created_unix_s: 0,
            seen,
        };
        let transaction = text.rsplit_once('#').and_then(|(place, gtid)| Some((place, gtid.parse().ok()?)));
        let (place, gtids) = match (text.split_once('/'), &transaction) {
            (_, Some((place, _))) => (*place, None),
            (Some((place, gtids)), None) => (place, Some(gtids)),
            (None, None) => (text, None),
        };
        // A file's number is digits behind a dot; no GTID has a dot.
        let file = place.rsplit_once(':').filter(|(file, _)| {
            file.rsplit_once('.').is_some_and(|(base, number)| !base.is_empty() && number.parse::<u64>().is_ok())
        });
        let Some((file, offset)) = file else {
            return match (gtids, transaction) {
                (None, None) => Ok(of("", 0, executed(text)?)),
                _ => Err(wrong(text)),
            };
        };
        let digits = offset.bytes().all(|byte| byte.is_ascii_digit());
        let offset = offset.parse().ok().filter(|_| digits).ok_or_else(|| wrong(text))?;
        let seen = match (gtids, transaction) {
            (_, Some((_, gtid))) => Seen::Transaction(gtid),
            (Some(gtids), None) => executed(gtids)?,
            (None, None) => Seen::Nothing,
        };
        Ok(of(file, offset, seen))
    }
}

fn wrong(text: &str) -> Error {
    Error::config(format!("reading the binlog position {text:?}")).remedy(
        "write it as FILE:OFFSET, FILE:OFFSET/GTIDS, GTIDS or FILE:OFFSET#GTID (a change's pos), for example \
         binlog.000042:1234/3e11fa47-71ca-11e1-9e33-c80aa9429562:1-23",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn at(server: u64, text: &str) -> BinlogPosition {
        BinlogPosition { server, ..text.parse().unwrap() }
    }

    fn transaction(server: u64, place: &str, gtid: &str) -> BinlogPosition {
        BinlogPosition { seen: Seen::Transaction(gtid.parse().unwrap()), ..at(server, place) }
    }

    #[test]
    fn a_place_is_reached_whatever_is_known_of_its_file() {
        let place = at(7, "b.2:40/0-1-5");
        let read = BinlogPosition { file_created_unix_s: 99, ..place.clone() };
        assert!(place != read && place.is_at(&read) && read.is_at(&place) && !read.covers(&place));
        assert!(!place.is_at(&at(7, "b.2:41/0-1-5")));
        // Of two servers the GTIDs count.
        assert!(place.is_at(&at(8, "b.9:4/0-1-5")) && !place.is_at(&at(8, "b.2:40/0-1-6")));
    }

    #[test]
    fn reads_what_it_prints() {
        for text in
            ["binlog.000042:1234", "my.log-bin.1:4/0-1-5,1-2-3", &format!("b.9:18446744073709551615/{A}:1-5:t:2")]
        {
            assert_eq!(text.parse::<BinlogPosition>().unwrap().to_string(), text);
        }
        for gtids in [&format!("{A}:1-5"), "0-1-5"] {
            let position: BinlogPosition = gtids.parse().unwrap();
            assert_eq!((position.file.is_empty(), position.to_string().as_str()), (true, gtids));
        }
        for (text, gtid) in [
            (format!("b.9:18446744073709551615#{A}:t:5"), format!("{A}:t:5")),
            ("a#b/c.1:4#0-1-5".into(), "0-1-5".into()),
        ] {
            let position: BinlogPosition = text.parse().unwrap();
            assert_eq!((position.seen.clone(), position.to_string()), (Seen::Transaction(gtid.parse().unwrap()), text));
        }
        for wrong in [
            "",
            "#0-1-5",
            "b.1#0-1-5",
            "b.1:4#",
            "b.1:4#0-1",
            "b.1:4/0-1-5#0-1-6",
            "binlog.000042",
            "binlog.000042:",
            "binlog:4",
            "b.1:-4",
            "b.1:4/",
            "b.1:4/x",
            "16/B374D848",
            ":4",
        ] {
            assert!(wrong.parse::<BinlogPosition>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn on_one_server_file_and_offset_are_the_order() {
        let here = at(1, "binlog.1000000:100");
        assert!(here.covers(&at(1, "binlog.999999:200")) && here.covers(&at(1, "binlog.1000000:99")));
        assert!(!here.covers(&at(1, "binlog.1000000:100")) && !here.covers(&at(1, "binlog.1000001:4")));
        // Also where a domain's numbers go back.
        let later = at(1, "binlog.2:100/0-2-3");
        assert!(later.covers(&at(1, "binlog.2:50/0-1-9")) && later.covers(&transaction(1, "binlog.2:50", "0-1-9")));
    }

    #[test]
    fn between_servers_gtids_decide() {
        let stored = at(1, &format!("binlog.000007:900/{A}:1-10"));
        assert!(stored.covers(&transaction(2, "binlog.000099:4", &format!("{A}:10"))));
        assert!(!stored.covers(&transaction(2, "binlog.000001:4", &format!("{A}:11"))));
        assert!(stored.covers(&at(2, &format!("binlog.000099:4/{A}:1-9"))));
        assert!(!stored.covers(&at(2, &format!("binlog.000001:4/{A}:1-10"))));
        // What an operator typed has no server.
        assert!(at(0, &format!("{A}:1-10")).covers(&transaction(2, "binlog.000099:4", &format!("{A}:3"))));
        assert!(at(0, "binlog.000002:50").covers(&transaction(2, "binlog.000002:49", &format!("{A}:3"))));
    }

    #[test]
    fn what_two_servers_ordered_differently_is_resumed_before_both() {
        use crate::record::Position;
        let position = |at: BinlogPosition| Position::MySql(Arc::new(at));
        let here = at(1, &format!("binlog.000007:900/{A}:1-10"));
        let there = at(2, &format!("binlog.000001:900/{A}:1-8:10-12"));
        for (a, b) in [(&here, &there), (&there, &here)] {
            let shared = position(a.clone()).earlier(position(b.clone()));
            assert_eq!(shared.to_string(), format!("{A}:1-8:10"));
        }
        let shared = position(at(1, "b.1:9/0-1-5,1-1-3")).earlier(position(at(2, "b.1:9/0-2-4,1-1-7,2-2-1")));
        assert_eq!(shared.to_string(), "0-2-4,1-1-3");
        // The same set on two servers is the same place.
        let same = position(at(2, &format!("b.3:4/{A}:1-10")));
        assert_eq!(same.clone().earlier(position(here)), same);
    }

    #[test]
    fn survives_its_bytes() {
        let empty =
            BinlogPosition { seen: Seen::Executed(Arc::new(GtidSet::MySql(Default::default()))), ..at(9, "b.1:4") };
        let resume = at(u64::MAX, &format!("b.2:5/{A}:1-10"));
        for position in [empty, resume, at(3, "b.2:6/0-1-5"), at(0, "b.3:7"), transaction(1, "b.4:8", "0-1-5")] {
            let mut bytes = Vec::new();
            position.encode(&mut bytes);
            assert_eq!(BinlogPosition::decode(&bytes), Some(position));
            for end in 0..23 {
                assert_eq!(BinlogPosition::decode(&bytes[..end]), None);
            }
        }
    }
}
