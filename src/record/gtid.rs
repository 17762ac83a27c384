//! Global transaction identifiers and sets of them.
//!
//! Invariants:
//! - A MySQL set holds per source and tag a sorted list of intervals that neither touch nor overlap, and no empty list.
//! - A MariaDB set is a position: per domain the last transaction of it. Everything of that domain with a sequence number
//!   up to it is in the set, as the server itself reasons (`gtid_slave_pos`).
//! - The text of a set is the server's own: what is printed can be given to `SET GLOBAL gtid_purged` or
//!   `gtid_slave_pos`, and what the server prints can be read.

mod mariadb;
mod mysql;

use std::fmt;
use std::str::FromStr;

pub use mariadb::{MariaDbGtid, MariaDbGtids};
pub use mysql::{Interval, MySqlGtid, MySqlGtids, Sid};

use crate::error::Error;

/// One transaction's identifier.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Gtid {
    MySql(MySqlGtid),
    MariaDb(MariaDbGtid),
}

impl FromStr for Gtid {
    type Err = NotAGtid;

    fn from_str(text: &str) -> Result<Self, NotAGtid> {
        match text.contains(':') {
            true => text.parse().map(Gtid::MySql),
            false => text.parse().map(Gtid::MariaDb),
        }
    }
}

/// What has been executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GtidSet {
    MySql(MySqlGtids),
    MariaDb(MariaDbGtids),
}

impl GtidSet {
    /// False for an identifier of the other kind.
    pub fn contains(&self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (GtidSet::MySql(set), Gtid::MySql(gtid)) => set.contains(gtid),
            (GtidSet::MariaDb(set), Gtid::MariaDb(gtid)) => set.contains(gtid),
            _ => false,
        }
    }

    /// Whether `other` is a subset; false for a set of the other kind.
    pub fn contains_all(&self, other: &GtidSet) -> bool {
        match (self, other) {
            (GtidSet::MySql(set), GtidSet::MySql(other)) => set.contains_all(other),
            (GtidSet::MariaDb(set), GtidSet::MariaDb(other)) => set.contains_all(other),
            _ => false,
        }
    }

    /// What is in both; of sets of two kinds nothing.
    pub fn shared(&self, other: &GtidSet) -> GtidSet {
        match (self, other) {
            (GtidSet::MySql(set), GtidSet::MySql(other)) => GtidSet::MySql(set.without(&set.without(other))),
            (GtidSet::MariaDb(set), GtidSet::MariaDb(other)) => GtidSet::MariaDb(set.shared(other)),
            (GtidSet::MySql(_), _) => GtidSet::MySql(MySqlGtids::default()),
            (GtidSet::MariaDb(_), _) => GtidSet::MariaDb(MariaDbGtids::default()),
        }
    }

    /// Adds a transaction. One of the other kind is not added: a server has one kind.
    pub fn insert(&mut self, gtid: &Gtid) {
        match (self, gtid) {
            (GtidSet::MySql(set), Gtid::MySql(gtid)) => set.insert(gtid),
            (GtidSet::MariaDb(set), Gtid::MariaDb(gtid)) => set.insert(*gtid),
            _ => debug_assert!(false, "GTIDs of two kinds in one stream"),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            GtidSet::MySql(set) => set.is_empty(),
            GtidSet::MariaDb(set) => set.is_empty(),
        }
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gtid::MySql(gtid) => gtid.fmt(f),
            Gtid::MariaDb(gtid) => gtid.fmt(f),
        }
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GtidSet::MySql(set) => set.fmt(f),
            GtidSet::MariaDb(set) => set.fmt(f),
        }
    }
}

impl FromStr for GtidSet {
    type Err = Error;

    /// Reads either kind; an empty text says no kind and is an error. Errors: `Config`.
    fn from_str(text: &str) -> Result<Self, Error> {
        // MySQL writes a colon behind each source, MariaDB none at all.
        let set = match text.contains(':') {
            true => text.parse().map(GtidSet::MySql),
            false => text.parse().map(GtidSet::MariaDb),
        };
        set.ok().filter(|set| !set.is_empty()).ok_or_else(|| {
            Error::config(format!("reading the GTID set {text:?}")).remedy(
                "write it as the server does: 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-23 on MySQL, 0-1-23 on MariaDB",
            )
        })
    }
}

/// Why a text is not a GTID or a set of them; who knows what was being read says so.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAGtid;

/// A number from 1 on, as both servers count transactions.
fn number(text: &str) -> Result<u64, NotAGtid> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or(NotAGtid)
}
