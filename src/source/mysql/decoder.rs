//! From events of the log to records: the part of the stream without IO.
//!
//! Invariants:
//! - Transactions come whole and in the log's order: between what begins one and what ends it there is nothing of another.
//! - Every row, truncated table and table of another shape of a transaction takes one ordinal, wanted or not, so that an
//!   ordinal does not depend on the selection of tables.
//! - A transaction is announced with its first record: one of which nothing is wanted moves the position and nothing else.
//! - A position is minted where nothing is open: behind a transaction, and where the server says that all before it was
//!   read. Its GTIDs are those of ended transactions alone.
//! - What never ended is taken back: a transaction that the server crashed over is dropped where the next file shows it.
//!
//! How transactions look in the log:
//! ```text
//! MySQL    GTID, QUERY "BEGIN", (TABLE_MAP…, rows…)…, XID or QUERY "COMMIT" (non-transactional tables)
//!          GTID, QUERY DDL
//!          GTID, TRANSACTION_PAYLOAD with the former from BEGIN on
//!          GTID, QUERY "XA START …", …, QUERY "XA END …", XA_PREPARE; later GTID, QUERY "XA COMMIT …" or "XA ROLLBACK …"
//! MariaDB  GTID, …, XID or QUERY "COMMIT"
//!          GTID standalone, QUERY DDL
//!          GTID prepared_xa, …, XA_PREPARE; later GTID completed_xa, QUERY "XA COMMIT …" or "XA ROLLBACK …"
//! ```

mod apart;
mod replay;
mod rows;
mod search;
mod skip;
mod statements;
mod voids;

pub use search::Search;
pub use voids::Void;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use self::apart::is_apart;
use super::cut::Stalled;
use super::place::Place;
use super::relation::{Relations, Target};
use super::transaction::Group;
use super::xa::{Keep, Kept, Xa, XidKey};
use crate::error::{Error, Result};
use crate::flow::BatchWriter;
use crate::record::gtid::{Gtid, GtidSet, MariaDbGtid, MySqlGtid, Sid};
use crate::record::{BinlogPosition, Position, Seen, Txn, file_number};
use crate::wire::WireError;
use crate::wire::mysql::event::{Body, Checksum, Event, EventType, Flavor, Format, Header, MariaGtid};

/// What an event asks of the loop around the decoder.
#[derive(Debug)]
pub enum Step {
    Next,
    /// Everything before the asked position has been seen.
    Reached,
    /// The event cannot be delivered as it stands (it is compressed, or has differences in the place of values) and was not
    /// consumed: [`Decoder::apart`] takes it.
    Apart,
    /// The rows of a prepared transaction come now, each event by [`Decoder::replay`], then [`Decoder::replayed`].
    Kept(Bytes),
    /// A transaction never ended, and batches of it were sent.
    Retracted,
}

/// Where the stream begins and ends, and what it was given.
pub struct Start {
    pub flavor: Flavor,
    /// Where it resumes.
    pub from: Arc<BinlogPosition>,
    /// Stands for the server that is streamed from: [`BinlogPosition::server`].
    pub server: u64,
    pub until: Option<Arc<BinlogPosition>>,
    /// What earlier streams found to be no part of what happened.
    pub voids: Vec<Void>,
    /// Nothing is delivered, and this is looked for.
    pub search: Option<Search>,
    /// The dump begins with the file: what lies before this place of it is passed over.
    pub skips_to: Option<u64>,
}

pub struct Decoder {
    pub writer: BatchWriter,
    pub relations: Relations,
    xa: Xa,
    format: Format,
    place: Place,
    /// Where to resume behind what has ended.
    end: Place,
    /// Until the stream has come by where it resumes, what it reads is older: a dump by GTID begins with the file.
    floor: Option<Arc<BinlogPosition>>,
    skips_to: Option<u64>,
    executed: Option<Arc<GtidSet>>,
    until: Option<Arc<BinlogPosition>>,
    group: Option<Group>,
    pub voids: Vec<Void>,
    /// Inside a payload, whose end is to be verified first: how its transaction ends.
    payload: Option<Option<Ending>>,
    /// The transaction whose kept rows are coming.
    replaying: Option<Kept>,
    /// Nothing is delivered, and this is looked for.
    pub search: Option<Search>,
    /// The transaction whose XA COMMIT was an error because its rows were not read, and where that stands.
    pub unprepared: Option<(XidKey, Arc<BinlogPosition>)>,
    /// Tables with rows whose keys changed and that were not logged whole: what a resumed snapshot has of them may lack some.
    pub anew: BTreeSet<(Box<str>, Box<str>)>,
    /// The position moved by what is not delivered.
    moved: bool,
    /// Behind the last transaction of which something is delivered or kept: file and offset. None: the stream's beginning.
    delivered_end: Option<(Arc<str>, u64)>,
    from: Arc<BinlogPosition>,
    pub counts: Counts,
    pub last_commit_unix_micros: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Rows, truncations, schema changes, wanted or not.
    pub events: u64,
    /// Those that came between two transactions.
    pub heartbeats: u64,
}

/// How a transaction ends.
#[derive(Clone, Debug)]
enum Ending {
    Commit,
    Rollback,
    Prepare { xid: XidKey, one_phase: bool },
}

impl Decoder {
    pub fn new(writer: BatchWriter, relations: Relations, xa: Xa, start: Start) -> Self {
        let Start { flavor, from, server, until, voids, search, skips_to } = start;
        let same_server = from.server == server || from.server == 0;
        let executed = match &from.seen {
            Seen::Executed(set) => Some(set.clone()),
            Seen::Nothing | Seen::Transaction(_) => None,
        };
        let place = Place { server, file: "".into(), offset: 0, file_created_unix_s: 0 };
        let end = match same_server {
            true => Place {
                server,
                file: from.file.clone(),
                offset: from.offset,
                file_created_unix_s: from.file_created_unix_s,
            },
            false => place.clone(),
        };
        let mut writer = writer;
        relations.baseline().into_iter().for_each(|entry| writer.stage(entry));
        Decoder {
            writer,
            relations,
            xa,
            format: Format::unknown(flavor),
            place,
            end,
            floor: (same_server && !from.file.is_empty()).then(|| from.clone()),
            skips_to,
            executed,
            until,
            group: None,
            voids,
            payload: None,
            replaying: None,
            search,
            unprepared: None,
            anew: BTreeSet::new(),
            moved: false,
            delivered_end: None,
            from,
            counts: Counts::default(),
            last_commit_unix_micros: None,
        }
    }

    pub fn in_transaction(&self) -> bool {
        self.group.is_some()
    }

    /// Bytes of the open transaction so far.
    pub fn transaction_bytes(&self) -> usize {
        self.group.as_ref().map_or(0, |group| group.bytes)
    }

    pub fn checksum(&self) -> Checksum {
        self.format.checksum
    }

    /// How far the log has been read: file and offset.
    pub fn read_end(&self) -> (&str, u64) {
        (&self.place.file, self.place.offset)
    }

    /// Where the stream is, for messages.
    pub fn here(&self) -> String {
        format!("{}:{}", self.place.file, self.place.offset)
    }

    /// What is known where a dump ends inside an event.
    pub fn stalled(&self) -> Stalled {
        Stalled {
            file: self.place.file.clone(),
            offset: self.place.offset,
            open: self.group.as_ref().map(|group| (group.start, group.gtid.clone())),
            executed: self.executed.clone(),
        }
    }

    /// How far the log has been read.
    pub fn read_position(&self) -> Position {
        self.place.position(self.place.offset, Seen::Nothing)
    }

    /// What has to be confirmed before the end of what has been read is held.
    pub fn held_with(&self) -> Position {
        match &self.delivered_end {
            _ if self.group.is_some() => self.read_position(),
            Some((file, offset)) => Place { file: file.clone(), ..self.end.clone() }.position(*offset, Seen::Nothing),
            None => Position::MySql(self.from.clone()),
        }
    }

    /// Where to resume behind everything that has ended.
    pub fn position(&self) -> Position {
        let seen = self.executed.clone().map_or(Seen::Nothing, Seen::Executed);
        self.end.position(self.end.offset, seen)
    }

    /// What the last batch carried is on its way to the store, with all that was staged.
    pub fn sent(&mut self) {
        if !self.writer.has_staged() && self.search.is_none() {
            self.relations.settle();
            self.xa.settle();
        }
    }

    /// The relations and the prepared transactions, for the next stream.
    pub fn into_parts(self) -> (Relations, Xa) {
        (self.relations, self.xa)
    }

    /// Whether everything before the asked position has been seen.
    pub fn has_reached(&self) -> bool {
        let Some(until) = &self.until else { return false };
        if self.group.is_some() {
            return false;
        }
        if until.server == self.end.server && !until.file.is_empty() && !self.end.file.is_empty() {
            return match self.end.file == until.file {
                true => self.end.offset >= until.offset,
                false => file_number(&self.end.file) > file_number(&until.file),
            };
        }
        match (&self.executed, &until.seen) {
            (Some(here), Seen::Executed(there)) => here.contains_all(there),
            _ => {
                let here = (file_number(&self.end.file), self.end.offset);
                !until.file.is_empty() && here >= (file_number(&until.file), until.offset)
            }
        }
    }

    /// Hands over a position that only what is not delivered has moved. Where nothing did, nothing is to be sent.
    pub fn tell_position(&mut self) {
        if std::mem::take(&mut self.moved) && !self.writer.in_transaction() {
            self.writer.close_unplaced();
        }
    }

    /// One event as it came, which stands at `base` of the frame that its cells will point into.
    #[inline]
    pub fn event(&mut self, bytes: &[u8], base: usize) -> Result<Step> {
        if self.skips() {
            let header = Header::parse(bytes).map_err(|error| self.malformed(error))?;
            if self.skipped(&header)? {
                return Ok(Step::Next);
            }
        }
        let format = self.format;
        let event = format.open(bytes).map_err(|error| self.malformed(error))?;
        let body = event.parse(&format).map_err(|error| self.malformed(error))?;
        if is_apart(&body) {
            return Ok(Step::Apart);
        }
        let start = self.place.pass(&event.header);
        self.body(&event, body, start, base)
    }

    #[inline]
    fn body(&mut self, event: &Event<'_>, body: Body<'_>, start: u64, base: usize) -> Result<Step> {
        if let Some(group) = &mut self.group {
            group.bytes += event.bytes().len();
        }
        if self.passes_over(&body) {
            return Ok(Step::Next);
        }
        match body {
            Body::Rows(rows) => {
                self.rows(event, &rows, base, start, None)?;
                Ok(Step::Next)
            }
            Body::TableMap(map) => {
                let Some(group) = &mut self.group else { return Err(self.misplaced("a TABLE_MAP")) };
                if group.void {
                    return Ok(Step::Next);
                }
                let place = &self.place;
                let at = || place.transaction_position(group.start, group.gtid.clone());
                self.relations.map(event, &map, at).map_err(|error| {
                    error.context(format!("reading the TABLE_MAP before {}:{}", place.file, place.offset))
                })?;
                self.relations.take_entries().into_iter().for_each(|entry| self.writer.stage(entry));
                if let Some(keep) = &mut group.keep
                    && let Some(Target::Wanted(plan)) = self.relations.target(map.table_id).as_deref()
                {
                    keep.table(plan.definition.clone());
                    keep.event(event, &self.xa)?;
                }
                Ok(Step::Next)
            }
            Body::Xid(_) => self.ends(Ending::Commit),
            other => self.other(event, other, start),
        }
    }

    fn other(&mut self, event: &Event<'_>, body: Body<'_>, start: u64) -> Result<Step> {
        match body {
            Body::Gtid(gtid) => {
                self.nothing_open()?;
                let start = self.begins_at(start);
                let place = self.place.transaction_number(start);
                let mut group = Group::new(&self.place, start, if gtid.anonymous { place } else { gtid.number });
                let tag = (!gtid.tag.is_empty()).then(|| gtid.tag.into());
                let sid = Sid { uuid: gtid.uuid, tag };
                group.gtid = (!gtid.anonymous).then_some(Gtid::MySql(MySqlGtid { sid, number: gtid.number }));
                let micros = gtid.fields.immediate_commit_unix_micros.filter(|micros| *micros > 0);
                group.commit_unix_micros = micros
                    .and_then(|micros| micros.try_into().ok())
                    .or(Some(i64::from(event.header.unix_s) * 1_000_000));
                self.begin(group);
                Ok(Step::Next)
            }
            Body::MariaGtid(gtid) => self.maria_gtid(&gtid, &event.header, start),
            Body::Query(query) => self.query(&query, &event.header, start),
            Body::XaPrepare(prepare) => {
                self.ends(Ending::Prepare { xid: XidKey::new(&prepare.xid), one_phase: prepare.one_phase })
            }
            Body::FormatDescription(description) => {
                // A server says when it began the first file it writes; 0 in those that follow.
                let lost = if description.created_unix_s != 0 { self.never_ended() } else { Step::Next };
                self.format = description.format;
                if event.header.unix_s != 0 {
                    self.place.file_created_unix_s = event.header.unix_s;
                }
                if !matches!(lost, Step::Next) {
                    return Ok(lost);
                }
                self.between()
            }
            Body::Rotate(rotate) => {
                let before = self.place.file.clone();
                let other = self.place.rotate(&rotate)?;
                if other {
                    self.skipped_file(&before)?;
                    // Numbers of tables are a server process's own.
                    self.relations.forget_maps();
                    let lost = self.never_ended();
                    if !matches!(lost, Step::Next) {
                        return Ok(lost);
                    }
                }
                self.between()
            }
            Body::Heartbeat(heartbeat) => {
                if self.group.is_none() {
                    self.place.heartbeat(&heartbeat);
                    self.counts.heartbeats += 1;
                }
                self.between()
            }
            Body::Incident(incident) => {
                let message = String::from_utf8_lossy(incident.message).into_owned();
                Err(Error::data(format!(
                    "at {} the server says that it lost changes (incident {}: {message})",
                    self.here(),
                    incident.number
                ))
                .remedy(
                    "what is missing cannot be told: read the tables anew (on_lost_position: resnapshot, or `walbrook \
                     offsets reset` and a start)",
                ))
            }
            Body::TransactionPayload(_) => Err(Error::bug("a compressed transaction was not taken apart")),
            Body::Compressed(_) => Err(self.misplaced("a compressed event inside a compressed transaction")),
            Body::Unknown => Err(Error::data(format!(
                "at {} an event of type {} that this version does not know and that is not to be skipped",
                self.here(),
                event.header.kind
            ))
            .remedy("use a version of walbrook that knows the server's version")),
            Body::StatementBased => match event.header.kind {
                EventType::BEGIN_LOAD_QUERY | EventType::EXECUTE_LOAD_QUERY | EventType::APPEND_BLOCK => {
                    Err(self.statement_based("LOAD DATA"))
                }
                // Values for the statement that follows, which says whom it changes.
                _ => Ok(Step::Next),
            },
            Body::Stop
            | Body::PreviousGtids(_)
            | Body::MariaGtidList(_)
            | Body::BinlogCheckpoint(_)
            | Body::StartEncryption(_)
            | Body::Statement(_)
            | Body::Skippable => self.between(),
            Body::Rows(_) | Body::TableMap(_) | Body::Xid(_) => Err(Error::bug("an event was read twice")),
        }
    }

    /// Behind an event that belongs to no transaction: where none is open, the stream resumes behind it.
    fn between(&mut self) -> Result<Step> {
        if self.group.is_some() {
            return Ok(Step::Next);
        }
        self.advance();
        Ok(if self.has_reached() { Step::Reached } else { Step::Next })
    }

    /// The stream resumes behind what was read so far.
    fn advance(&mut self) {
        if let Some(floor) = &self.floor {
            let here = (file_number(&self.place.file), self.place.offset);
            if here < (file_number(&floor.file), floor.offset) {
                return;
            }
            self.floor = None;
        }
        if !Arc::ptr_eq(&self.end.file, &self.place.file) {
            self.end.file = self.place.file.clone();
        }
        self.moved |= self.end.offset != self.place.offset;
        self.end.offset = self.place.offset;
        self.end.file_created_unix_s = self.place.file_created_unix_s;
    }

    fn begin(&mut self, mut group: Group) {
        group.void = self.voids.iter().any(|void| void.start == group.start && void.file == self.place.file);
        self.group = Some(group);
    }

    fn nothing_open(&self) -> Result<()> {
        match &self.group {
            None => Ok(()),
            Some(_) => Err(self.misplaced("a transaction that begins inside another one")),
        }
    }

    fn maria_gtid(&mut self, gtid: &MariaGtid<'_>, header: &Header, start: u64) -> Result<Step> {
        self.nothing_open()?;
        if header.flags.artificial() {
            return Ok(Step::Next);
        }
        let start = self.begins_at(start);
        let mut group = Group::new(&self.place, start, gtid.id.number);
        group.gtid = Some(Gtid::MariaDb(MariaDbGtid {
            domain: gtid.id.domain,
            server: gtid.id.server,
            sequence: gtid.id.number,
        }));
        group.commit_unix_micros = Some(i64::from(header.unix_s) * 1_000_000);
        group.open = !gtid.flags.standalone() && !gtid.flags.completed_xa();
        group.postponed = gtid.extra.start_alter || gtid.extra.rollback_alter;
        if gtid.flags.prepared_xa() && self.keeps(gtid.xid.as_ref().map(XidKey::new)) {
            group.keep = Some(Keep::default());
        }
        self.begin(group);
        Ok(Step::Next)
    }

    /// Writes the transaction's begin, if that was not done.
    fn announce(&mut self) {
        let Some(group) = self.group.as_mut().filter(|group| !group.begun) else { return };
        group.begun = true;
        let commit = self.place.transaction(group.start, group.gtid.clone());
        self.writer.begin(Txn { commit, id: Some(group.number), commit_unix_micros: group.commit_unix_micros });
    }

    /// The event that ends a transaction. Inside a payload the end waits until that is verified.
    #[inline]
    fn ends(&mut self, ending: Ending) -> Result<Step> {
        if self.group.is_none() {
            return Err(self.misplaced("the end of a transaction"));
        }
        match &mut self.payload {
            Some(waiting @ None) => {
                *waiting = Some(ending);
                Ok(Step::Next)
            }
            Some(Some(_)) => Err(self.misplaced("a second end of a compressed transaction")),
            None => self.ended(ending),
        }
    }

    fn ended(&mut self, ending: Ending) -> Result<Step> {
        self.relations.unmap();
        match ending {
            Ending::Commit => {}
            Ending::Rollback => {
                if !self.take_back() {
                    if let Some(group) = self.group.take() {
                        self.remember(Void { file: group.file, start: group.start, end: self.place.offset });
                    }
                    return Ok(Step::Retracted);
                }
            }
            // Its rows were passed over.
            Ending::Prepare { xid, one_phase }
                if self.search.is_some() && (one_phase || !self.keeps(Some(xid.clone()))) =>
            {
                self.group.iter_mut().for_each(|group| group.keep = None);
            }
            Ending::Prepare { xid, one_phase } => {
                let keep = self.group.as_mut().and_then(|group| group.keep.take()).unwrap_or_default();
                if one_phase {
                    return self.replay_begins(keep.finish());
                }
                if let Some(search) = &mut self.search {
                    search.ended.remove(&xid);
                }
                let entry = self.xa.prepare(xid, keep.finish());
                self.writer.stage(entry);
            }
        }
        let Some(group) = self.group.take() else { return Err(self.misplaced("the end of a transaction")) };
        if let (Some(executed), Some(gtid)) = (&mut self.executed, &group.gtid) {
            Arc::make_mut(executed).insert(gtid);
        }
        self.advance();
        if group.begun || self.writer.has_staged() {
            self.delivered_end = Some((self.end.file.clone(), self.end.offset));
        }
        if group.begun {
            self.last_commit_unix_micros = group.commit_unix_micros;
            self.moved = false;
            self.writer.commit_unplaced(group.ordinal + 1);
        } else {
            self.moved = true;
            if self.writer.has_staged() {
                self.tell_position();
            }
        }
        Ok(if self.has_reached() { Step::Reached } else { Step::Next })
    }

    #[cold]
    fn malformed(&self, error: WireError) -> Error {
        Error::data(format!("reading the event behind {}", self.here())).because(error).remedy(
            "check the file on the server with mysqlbinlog --verify-binlog-checksum; if it is sound, report it with the \
             server's version",
        )
    }

    #[cold]
    fn misplaced(&self, what: &str) -> Error {
        Error::data(format!("at {}: {what}", self.here())).remedy(
            "this is a bug of Walbrook or of a server that writes its log differently: report it with the server's version",
        )
    }
}

/// Where kept events begin: behind everything that does not count.
const REPLAYED: u64 = u64::MAX;

#[cfg(test)]
mod tests;
