//! What the log has as text: the beginning and the end of transactions, XA, DDL.

use super::super::relation::Effect;
use super::super::transaction::{Group, Savepoint};
use super::super::xa::{Keep, XidKey};
use super::{Decoder, Ending, Step};
use crate::error::{Error, Result};
use crate::wire::mysql::event::{Header, Query};

impl Decoder {
    pub(super) fn query(&mut self, query: &Query<'_>, header: &Header, start: u64) -> Result<Step> {
        let statement = query.statement.trim_ascii();
        if self.group.is_none() {
            // A server without GTID events, of before 5.7.
            let mut group = Group::new(&self.place, start, self.place.transaction_number(start));
            group.commit_unix_micros = Some(i64::from(header.unix_s) * 1_000_000);
            self.begin(group);
        }
        let Some(group) = &mut self.group else { return Err(Error::bug("no transaction was begun")) };
        match statement {
            b"BEGIN" => {
                group.open = true;
                return Ok(Step::Next);
            }
            b"COMMIT" => return self.ends(Ending::Commit),
            b"ROLLBACK" => return self.ends(Ending::Rollback),
            _ => {}
        }
        let mut words = statement.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let mut word = || words.next().unwrap_or_default().to_ascii_uppercase();
        match (&word()[..], &word()[..]) {
            (b"XA", b"START" | b"BEGIN") => {
                group.open = true;
                let keeps = self.keeps(XidKey::read(statement));
                self.group.iter_mut().for_each(|group| group.keep = keeps.then(Keep::default));
                Ok(Step::Next)
            }
            (b"XA", b"END") => Ok(Step::Next),
            // MariaDB says so in its XA_PREPARE event too.
            (b"XA", b"PREPARE") => Ok(Step::Next),
            (b"XA", b"COMMIT") => self.xa_commit(statement),
            (b"XA", b"ROLLBACK") => {
                let xid = XidKey::read(statement).ok_or_else(|| self.unread(statement))?;
                if !self.searched_end(&xid)
                    && let Some(entry) = self.xa.forget(&xid)
                {
                    self.writer.stage(entry);
                }
                self.ends(Ending::Commit)
            }
            (b"SAVEPOINT", _) => {
                let name = savepoint_name(&statement[b"SAVEPOINT".len()..]);
                group.savepoints.retain(|savepoint| savepoint.name != name);
                group.savepoints.push(Savepoint {
                    name,
                    start,
                    ordinal: group.ordinal,
                    within: group.begun.then(|| self.writer.within()),
                    kept: group.keep.as_ref().map_or(0, Keep::len),
                });
                Ok(Step::Next)
            }
            (b"RELEASE", b"SAVEPOINT") => Ok(Step::Next),
            (b"ROLLBACK", b"TO") => self.back_to(statement, start),
            _ => self.statement(query),
        }
    }

    /// A part of the transaction is rolled back, as servers log it where tables of engines without transactions changed
    /// too; else they cut their cache. Its rows keep their ordinals, so that those of the others are the same whenever
    /// this is read.
    fn back_to(&mut self, statement: &[u8], end: u64) -> Result<Step> {
        let name = statement.get(b"ROLLBACK TO".len()..).unwrap_or_default().trim_ascii_start();
        let name = savepoint_name(name.strip_prefix(b"SAVEPOINT ").unwrap_or(name));
        let Some(group) = &mut self.group else { return Err(Error::bug("no transaction was begun")) };
        let Some(at) = group.savepoints.iter().rposition(|savepoint| savepoint.name == name) else {
            return Err(self.misplaced("a rollback to a savepoint that was not set"));
        };
        group.savepoints.truncate(at + 1);
        let Savepoint { start, ordinal, within, kept, .. } = group.savepoints[at];
        if let Some(keep) = &mut group.keep {
            keep.back_to(kept);
            return Ok(Step::Next);
        }
        let void = super::Void { file: group.file.clone(), start, end };
        if group.void || group.ordinal == ordinal || self.voids.contains(&void) {
            return Ok(Step::Next);
        }
        let whole = match within {
            Some(within) => self.writer.retract_to(within),
            None => self.take_back(),
        };
        if whole {
            return Ok(Step::Next);
        }
        self.take_back();
        self.remember(void);
        Ok(Step::Retracted)
    }

    /// DDL, and everything else that is logged as text.
    pub(super) fn statement(&mut self, query: &Query<'_>) -> Result<Step> {
        let Some(group) = &self.group else { return Err(Error::bug("a statement outside a transaction")) };
        if self.search.is_some() {
            self.searched(query)?;
        } else if !group.postponed && !group.void {
            let at = self.place.transaction_position(group.start, group.gtid.clone());
            let done = self.relations.statement(query, &at);
            let done = done.map_err(|error| error.context(format!("reading the statement before {}", self.here())))?;
            if let Some(what) = done.statement_based {
                return Err(self.statement_based(&what));
            }
            self.relations.take_entries().into_iter().for_each(|entry| self.writer.stage(entry));
            for effect in done.effects {
                self.effect(&effect, &done.text)?;
            }
        }
        match &self.group {
            Some(group) if !group.open => self.ends(Ending::Commit),
            _ => Ok(Step::Next),
        }
    }

    pub(super) fn effect(&mut self, effect: &Effect, text: &str) -> Result<()> {
        self.announce();
        let Some(group) = &mut self.group else { return Err(Error::bug("a change outside a transaction")) };
        let batch = self.writer.batch();
        self.counts.events += 1;
        match effect {
            Effect::Changed { previous, schema } => {
                let index = batch.table(schema);
                batch.schema_change(index, previous.clone(), Some(text), group.ordinal + 1);
            }
            Effect::Truncated(schema) => {
                group.ordinal += 1;
                let index = batch.table(schema);
                batch.truncate(index, false, true, group.ordinal);
            }
        }
        Ok(())
    }

    pub(super) fn xa_commit(&mut self, statement: &[u8]) -> Result<Step> {
        let xid = XidKey::read(statement).ok_or_else(|| self.unread(statement))?;
        if self.searched_end(&xid) {
            return self.ends(Ending::Commit);
        }
        let Some((kept, entry)) = self.xa.take(&xid) else { return Err(self.not_read(xid)) };
        self.writer.stage(entry);
        self.replay_begins(kept)
    }

    #[cold]
    pub(super) fn unread(&self, statement: &[u8]) -> Error {
        Error::data(format!("at {}: {:?} cannot be read", self.here(), String::from_utf8_lossy(statement)))
    }

    #[cold]
    pub(super) fn statement_based(&self, what: &str) -> Error {
        Error::data(format!(
            "at {} a change is logged as a statement ({what}), not as rows: what it changed is not in the log",
            self.here()
        ))
        .remedy(
            "SET GLOBAL binlog_format = ROW, see that no session sets another, and read the tables anew \
             (`walbrook offsets reset`)",
        )
    }
}

impl Decoder {
    /// Its rows are in the log before the stream's beginning: nobody could ask for it then, or an operator has set the
    /// position. Where the log still has them they are found ([`Decoder::unprepared`]).
    #[cold]
    fn not_read(&mut self, xid: XidKey) -> Error {
        let start = self.group.as_ref().map_or(self.place.offset, |group| group.start);
        let error = Error::lost(format!(
            "at {}:{start} XA COMMIT {xid} ends a transaction that was prepared before the stream began, and its rows are \
             in no file of the server's log any more",
            self.place.file
        ))
        .remedy(
            "read the tables anew (on_lost_position: resnapshot, or `walbrook offsets reset` and a start), or, where none \
             of its tables is wanted, set a position behind it (`walbrook offsets set`). On MySQL, GRANT XA_RECOVER_ADMIN \
             ON *.* to the account: then such rows are kept from the start on",
        );
        self.unprepared = Some((xid, self.place.transaction_position(start, None)));
        error
    }
}

/// A savepoint's name as it is compared.
fn savepoint_name(name: &[u8]) -> Box<str> {
    String::from_utf8_lossy(name.trim_ascii()).to_lowercase().into()
}
