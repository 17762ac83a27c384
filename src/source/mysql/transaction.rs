//! What is known of the transaction that is being read.

use std::sync::Arc;

use super::place::Place;
use super::xa::Keep;
use crate::flow::Within;
use crate::record::gtid::Gtid;

/// A transaction in the log: from its GTID event, or its BEGIN, to what ends it.
pub struct Group {
    pub file: Arc<str>,
    /// Where its first event begins.
    pub start: u64,
    pub gtid: Option<Gtid>,
    pub commit_unix_micros: Option<i64>,
    /// The source's own number of it.
    pub number: u64,
    /// Statements and rows follow until something ends it; else the next statement is all of it.
    pub open: bool,
    /// Its begin was written: something of it is delivered.
    pub begun: bool,
    /// Known never to have ended: nothing of it is delivered.
    pub void: bool,
    /// Its statement is not carried out (yet): the first half of a two-phase ALTER, or one that was rolled back.
    pub postponed: bool,
    /// Of the last record, wanted or not.
    pub ordinal: u64,
    /// Bytes of its events.
    pub bytes: usize,
    /// Its rows are kept, because their outcome is to come.
    pub keep: Option<Keep>,
    pub savepoints: Vec<Savepoint>,
}

/// Where a part of a transaction begins that may be taken back.
pub struct Savepoint {
    /// In lower case: names are compared so.
    pub name: Box<str>,
    /// Where its event begins.
    pub start: u64,
    pub ordinal: u64,
    /// None: nothing of the transaction was delivered by then.
    pub within: Option<Within>,
    /// Bytes that were kept by then.
    pub kept: usize,
}

impl Group {
    pub fn new(place: &Place, start: u64, number: u64) -> Self {
        Group {
            file: place.file.clone(),
            start,
            gtid: None,
            commit_unix_micros: None,
            number,
            open: false,
            begun: false,
            void: false,
            postponed: false,
            ordinal: 0,
            bytes: 0,
            keep: None,
            savepoints: Vec::new(),
        }
    }
}
