//! Where a stream is, and whose stream it is.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::binlog::BinlogPosition;
use crate::error::Error;

/// A byte position in Postgres' write-ahead log, printed as the server prints `pg_lsn`: `16/B374D848`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = Error;

    /// Errors: `Config`, when the text is not two hexadecimal numbers of at most 32 bits around a slash.
    fn from_str(text: &str) -> Result<Self, Error> {
        let half = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(Lsn(u64::from(half(high)?) << 32 | u64::from(half(low)?))))
            .ok_or_else(|| {
                Error::config(format!("reading the LSN {text:?}"))
                    .remedy("write it as Postgres does, for example 16/B374D848")
            })
    }
}

/// A resume position: everything committed before it has been seen, everything from it on has not.
///
/// The positions of one stream form a line, whatever they are made of; [`Position::covers`] is its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// The end of a commit record, or a point between transactions (a keepalive, a slot's consistent point).
    Postgres(Lsn),
    /// The end of a transaction in a binary log; of a transaction its first event.
    MySql(Arc<BinlogPosition>),
}

impl Position {
    /// Whether a stream that resumes at `self` no longer needs what happened at `other`: a transaction's commit, or
    /// everything before another resume position.
    pub fn covers(&self, other: &Position) -> bool {
        match (self, other) {
            (Position::Postgres(here), Position::Postgres(other)) => other < here,
            (Position::MySql(here), Position::MySql(other)) => here.covers(other),
            // Of two kinds of server: no stream has both.
            (Position::Postgres(_), Position::MySql(_)) | (Position::MySql(_), Position::Postgres(_)) => false,
        }
    }

    /// Whether `self` is not before `other`: it is the same place, whatever else is known of it, or covers it.
    pub fn reaches(&self, other: &Position) -> bool {
        let is_there = match (self, other) {
            (Position::MySql(here), Position::MySql(other)) => here.is_at(other),
            _ => self == other,
        };
        is_there || self.covers(other)
    }

    /// Of a Postgres stream. Errors: `Config`, for a position of another kind of server, which only a person can have
    /// written.
    pub fn lsn(&self) -> Result<Lsn, Error> {
        match self {
            Position::Postgres(lsn) => Ok(*lsn),
            Position::MySql(_) => Err(self.of_another_kind("Postgres has LSNs such as 16/B374D848")),
        }
    }

    /// Of a MySQL or MariaDB stream. Errors: `Config`, as for [`Position::lsn`].
    pub fn binlog(&self) -> Result<&Arc<BinlogPosition>, Error> {
        match self {
            Position::MySql(position) => Ok(position),
            Position::Postgres(_) => {
                Err(self.of_another_kind("MySQL has FILE:OFFSET, FILE:OFFSET/GTIDS, FILE:OFFSET#GTID or GTIDS"))
            }
        }
    }

    fn of_another_kind(&self, remedy: &str) -> Error {
        Error::config(format!("the position {self} is of another kind of server")).remedy(remedy)
    }

    /// The earlier of two positions of one stream: whoever resumes there misses nothing of either. Where neither covers
    /// the other, it is what both have seen.
    pub fn earlier(self, other: Position) -> Position {
        match (&self, &other) {
            _ if self.covers(&other) => other,
            _ if other.covers(&self) => self,
            (Position::MySql(here), Position::MySql(there)) => Position::MySql(here.shared(there)),
            _ => self,
        }
    }

    /// Encodes for the offset store: one byte for the kind, then the kind's own form (Postgres: u64, big endian;
    /// MySQL: [`BinlogPosition::encode`]).
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Position::Postgres(lsn) => [&[b'P'][..], &lsn.0.to_be_bytes()].concat(),
            Position::MySql(position) => {
                let mut bytes = vec![b'M'];
                position.encode(&mut bytes);
                bytes
            }
        }
    }

    /// The reverse of [`Position::to_bytes`]; `None` when the bytes are not one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (b'P', lsn) => Some(Position::Postgres(Lsn(u64::from_be_bytes(lsn.try_into().ok()?)))),
            (b'M', position) => Some(Position::MySql(Arc::new(BinlogPosition::decode(position)?))),
            _ => None,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Postgres(lsn) => lsn.fmt(f),
            Position::MySql(position) => position.fmt(f),
        }
    }
}

impl FromStr for Position {
    type Err = Error;

    /// Reads a resume position as an operator writes it. Errors: `Config`.
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(lsn) = text.parse() {
            return Ok(Position::Postgres(lsn));
        }
        text.parse().map(|position| Position::MySql(Arc::new(position))).map_err(|_| {
            Error::config(format!("reading the position {text:?}")).remedy(
                "write 16/B374D848 for Postgres; for MySQL and MariaDB FILE:OFFSET, FILE:OFFSET/GTIDS, \
                 FILE:OFFSET#GTID (a change's pos) or GTIDS, for example binlog.000042:1234/3e11fa47-71ca-11e1-9e33-c80aa9429562:1-23",
            )
        })
    }
}

/// Whose log a position belongs to; stored beside every position and compared at every warm start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The kind of source, as it calls itself.
    pub kind: String,
    /// The server's identity: Postgres' system identifier, MySQL's `server_uuid`.
    pub system: String,
    /// The branch of its history: Postgres' timeline. Empty where there is no such thing.
    pub timeline: String,
    /// Empty where the log is of all databases.
    pub database: String,
    /// The stream within it: the replication slot. Empty where the server keeps nothing for a stream.
    pub stream: String,
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lineage { kind, system, timeline, database, stream } = self;
        write!(f, "{kind} system {system}")?;
        if !timeline.is_empty() {
            write!(f, ", timeline {timeline}")?;
        }
        if !database.is_empty() {
            write!(f, ", database {database:?}")?;
        }
        if !stream.is_empty() {
            write!(f, ", stream {stream:?}")?;
        }
        Ok(())
    }
}

/// Where a sink stands, as the offset store holds it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SinkOffset {
    /// None while its snapshot is not complete.
    pub position: Option<Position>,
    /// The sink's own mark of what it held at that point (a file and its length); opaque to everyone else.
    pub token: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_reads_what_it_prints() {
        for lsn in [Lsn(0), Lsn(1), Lsn(0x16_B374_D848), Lsn(u64::MAX)] {
            assert_eq!(lsn.to_string().parse::<Lsn>().unwrap(), lsn);
        }
        assert_eq!("16/B374D848".parse::<Lsn>().unwrap(), Lsn(0x16_B374_D848));
        for wrong in ["", "/", "0/", "1", "x/1", "1/2/3", "100000000/0", "+1/2", "0/-1", " 0/1"] {
            assert!(wrong.parse::<Lsn>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_position_covers_what_was_committed_before_it_and_not_itself() {
        let at = |lsn| Position::Postgres(Lsn(lsn));
        assert!(at(5).covers(&at(4)));
        assert!(!at(5).covers(&at(5)));
        assert!(!at(5).covers(&at(6)));
        assert_eq!(at(5).earlier(at(3)), at(3));
        assert_eq!(at(3).earlier(at(5)), at(3));
    }

    #[test]
    fn positions_survive_their_bytes() {
        let at = Position::Postgres(Lsn(0x0102_0304_0506_0708));
        assert_eq!(Position::from_bytes(&at.to_bytes()), Some(at));
        for wrong in [&b""[..], b"P", b"P1234567", b"P123456789", b"Q12345678"] {
            assert_eq!(Position::from_bytes(wrong), None);
        }
    }
}
