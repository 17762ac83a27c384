//! From replication messages to records: the part of the stream without IO.
//!
//! Invariants:
//! - Transactions come whole and in commit order: between BEGIN and COMMIT there is nothing of another one.
//! - Every row, truncated table and message of a transaction takes one ordinal, wanted or not, so that an ordinal does not
//!   depend on the selection of tables.
//! - A position is minted at COMMIT (its end), at a message outside a transaction, and where a keepalive says that all
//!   before it was sent; never inside a transaction.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::flow::BatchWriter;
use crate::record::{Cell, Lsn, Position, Txn};
use crate::wire::WireError;
use crate::wire::pg::pgoutput::{self, Message, OldTuple, Update};

use super::relation::{Plan, Seen};
use super::reread::Rereads;

/// What the heartbeat writes into the log; such messages move the position and are not delivered.
pub const HEARTBEAT_PREFIX: &str = "walbrook.heartbeat";

/// What a message asks of the loop around the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Next,
    /// A Relation message. It was not consumed.
    Relation,
    /// A row of a relation whose announced shape is not complete: the catalog must be asked. It was not consumed.
    Unknown(u32),
    /// The transaction that begins here is behind the asked position. The message was not consumed.
    Reached,
}

pub struct Decoder {
    pub writer: BatchWriter,
    /// By relation; none for one outside the selection, whose rows are read over.
    tables: HashMap<u32, Option<Plan>>,
    /// Deliver only transactions whose commit is before this.
    until: Option<Lsn>,
    /// Rows of an interrupted snapshot that must be read again.
    pub rereads: Option<Rereads>,
    /// Of the open transaction, or of the last one.
    commit_lsn: Lsn,
    pub counts: Counts,
    in_transaction: bool,
    /// Up to here everything has been seen: the end of the last commit, or what a keepalive said.
    pub frontier: Lsn,
    pub last_commit_unix_micros: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Of the last record of the open transaction.
    ordinal: u64,
    /// Bytes of row messages since BEGIN.
    pub transaction_bytes: usize,
    pub events: u64,
}

impl Counts {
    #[inline]
    fn event(&mut self, bytes: usize) {
        self.ordinal += 1;
        self.events += 1;
        self.transaction_bytes += bytes;
    }
}

impl Decoder {
    pub fn new(writer: BatchWriter, from: Lsn, until: Option<Lsn>, rereads: Option<Rereads>) -> Self {
        Decoder {
            writer,
            tables: HashMap::new(),
            until,
            rereads,
            commit_lsn: Lsn(0),
            counts: Counts::default(),
            in_transaction: false,
            frontier: from,
            last_commit_unix_micros: None,
        }
    }

    pub fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Whether everything committed before the asked position has been seen.
    pub fn has_reached(&self) -> bool {
        !self.in_transaction && self.until.is_some_and(|until| self.frontier >= until)
    }

    /// A Relation message said something new: [`Step::Unknown`] comes before the relation's next row.
    pub fn forget(&mut self, id: u32) {
        self.tables.remove(&id);
    }

    /// What a Relation message said: from here on the relation's rows have this shape.
    pub fn relation(&mut self, id: u32, seen: Seen) -> Result<()> {
        let plan = match seen {
            Seen::Unwanted => None,
            Seen::Unchanged(plan) => Some(plan),
            Seen::First { plan, entry } => {
                self.writer.stage(entry);
                Some(plan)
            }
            Seen::Changed { previous, plan, entry } => {
                if !self.in_transaction {
                    return Err(Error::data(format!("a Relation message of {} outside a transaction", plan.schema)));
                }
                self.writer.stage(entry);
                let index = self.writer.batch().table(&plan.schema);
                self.writer.batch().schema_change(index, Some(previous), None, self.counts.ordinal + 1);
                Some(plan)
            }
        };
        self.tables.insert(id, plan);
        Ok(())
    }

    /// The server has sent everything before `wal_end`.
    pub fn keepalive(&mut self, wal_end: Lsn) {
        if !self.in_transaction && wal_end > self.frontier {
            self.frontier = wal_end;
        }
    }

    /// One message, which stands at `base` of the frame that its cells will point into.
    #[inline]
    pub fn message(&mut self, message: &[u8], base: usize) -> Result<Step> {
        match pgoutput::parse(message).map_err(|error| self.malformed(error))? {
            Message::Insert(insert) => {
                let Some(table) = self.tables.get(&insert.relation) else {
                    return Ok(Step::Unknown(insert.relation));
                };
                self.counts.event(message.len());
                if let Some(table) = table {
                    let batch = self.writer.batch();
                    let (index, start) = (batch.table(&table.schema), batch.cells_start());
                    insert
                        .scan(base, &table.tuple, batch.cells_mut())
                        .map_err(|error| malformed(error, Some(table), self.commit_lsn))?;
                    // An update by which a row enters a row filter comes as an insert, unchanged columns left out.
                    if let Some(rereads) = &mut self.rereads {
                        rereads.note(insert.relation, table, &batch.cells_mut()[start..], message, base);
                    }
                    batch.insert(index, start, self.counts.ordinal);
                }
            }
            Message::Update(update) => {
                return self.update(&update, message, base);
            }
            Message::Delete(delete) => {
                let Some(table) = self.tables.get(&delete.relation) else {
                    return Ok(Step::Unknown(delete.relation));
                };
                self.counts.event(message.len());
                if let Some(table) = table {
                    let batch = self.writer.batch();
                    let (index, start) = (batch.table(&table.schema), batch.cells_start());
                    delete
                        .scan(base, &table.tuple, batch.cells_mut())
                        .map_err(|error| malformed(error, Some(table), self.commit_lsn))?;
                    batch.delete(index, start, delete.old == OldTuple::Key, self.counts.ordinal);
                }
            }
            Message::Begin(begin) => {
                let commit_lsn = Lsn(begin.final_lsn);
                if self.until.is_some_and(|until| commit_lsn >= until) {
                    return Ok(Step::Reached);
                }
                if self.in_transaction {
                    return Err(Error::data(format!(
                        "BEGIN inside the transaction that commits at {}",
                        self.commit_lsn
                    )));
                }
                (self.commit_lsn, self.counts.ordinal, self.in_transaction) = (commit_lsn, 0, true);
                self.counts.transaction_bytes = 0;
                self.writer.begin(Txn {
                    commit: Position::Postgres(commit_lsn),
                    id: Some(u64::from(begin.xid)),
                    commit_unix_micros: Some(begin.commit_unix_micros),
                });
            }
            Message::Commit(commit) => {
                if !self.in_transaction || Lsn(commit.commit_lsn) != self.commit_lsn {
                    return Err(Error::data(format!(
                        "COMMIT at {} of a transaction that was announced for {}",
                        Lsn(commit.commit_lsn),
                        self.commit_lsn
                    )));
                }
                self.in_transaction = false;
                self.frontier = self.frontier.max(Lsn(commit.end_lsn));
                self.last_commit_unix_micros = Some(commit.commit_unix_micros);
                self.writer.commit(self.counts.ordinal + 1, Position::Postgres(Lsn(commit.end_lsn)));
            }
            Message::Relation(_) => return Ok(Step::Relation),
            Message::Truncate(truncate) => {
                if let Some(id) = truncate.relations().find(|id| !self.tables.contains_key(id)) {
                    return Ok(Step::Unknown(id));
                }
                for id in truncate.relations() {
                    self.counts.event(0);
                    if let Some(Some(table)) = self.tables.get(&id) {
                        let batch = self.writer.batch();
                        let index = batch.table(&table.schema);
                        batch.truncate(index, truncate.cascade, truncate.restart_identity, self.counts.ordinal);
                    }
                }
            }
            Message::Logical(logical) => {
                let heartbeat = logical.prefix == HEARTBEAT_PREFIX;
                if logical.transactional {
                    self.counts.event(message.len());
                    if !heartbeat {
                        self.logical(logical.cells(base), true);
                    }
                } else {
                    let lsn = Lsn(logical.lsn);
                    if self.in_transaction {
                        return Err(Error::data(format!("a message at {lsn} inside the transaction around it")));
                    }
                    if !heartbeat {
                        self.counts.events += 1;
                        self.counts.ordinal = 1;
                        // The next commit record may begin where the message ends: its last byte is its own.
                        let commit = Position::Postgres(Lsn(lsn.0.saturating_sub(1)));
                        self.writer.open(Txn { commit, id: None, commit_unix_micros: None });
                        self.logical(logical.cells(base), false);
                    }
                    self.frontier = self.frontier.max(lsn);
                    self.writer.close(Position::Postgres(lsn));
                }
            }
            // Who wrote it elsewhere, and names of types: the catalog knows the latter better.
            Message::Origin(_) | Message::Type(_) => {}
        }
        Ok(Step::Next)
    }

    #[inline]
    fn update(&mut self, update: &Update<'_>, message: &[u8], base: usize) -> Result<Step> {
        let Some(table) = self.tables.get(&update.relation) else { return Ok(Step::Unknown(update.relation)) };
        self.counts.event(message.len());
        let Some(table) = table else { return Ok(Step::Next) };
        let batch = self.writer.batch();
        let (index, start) = (batch.table(&table.schema), batch.cells_start());
        update
            .scan(base, &table.tuple, batch.cells_mut())
            .map_err(|error| malformed(error, Some(table), self.commit_lsn))?;
        if let Some(rereads) = &mut self.rereads {
            rereads.note(update.relation, table, &batch.cells_mut()[start..], message, base);
        }
        let key_only = match update.old {
            OldTuple::None => None,
            OldTuple::Key => Some(true),
            OldTuple::Full => Some(false),
        };
        batch.update(index, start, key_only, self.counts.ordinal);
        Ok(Step::Next)
    }

    fn logical(&mut self, cells: [Cell; 2], transactional: bool) {
        let ordinal = self.counts.ordinal;
        let batch = self.writer.batch();
        let start = batch.cells_start();
        batch.cells_mut().extend(cells);
        batch.message(start, transactional, ordinal);
    }

    fn malformed(&self, error: WireError) -> Error {
        malformed(error, None, self.commit_lsn)
    }
}

fn malformed(error: WireError, table: Option<&Plan>, commit: Lsn) -> Error {
    let of = table.map(|table| format!(" of {}", table.schema)).unwrap_or_default();
    Error::data(format!("reading a change{of} in the transaction that commits at {commit}")).because(error).remedy(
        "this is a bug of Walbrook or of a server patched to speak differently: report it with the server's version",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::flow::{Budget, Deliver, Draft, Outlet};
    use crate::record::{Column, Identity, Origin, Seq, TableSchema};
    use crate::source::postgres::reread::TableKeys;
    use crate::source::postgres::types::Shape;
    use crate::wire::pg::pgoutput::TupleShape;

    struct Nowhere(tokio::sync::Notify);

    impl Deliver for Nowhere {
        fn deliver(&self, _: Draft) -> Seq {
            Seq(0)
        }
        fn stored(&self) -> tokio::sync::watch::Receiver<Seq> {
            tokio::sync::watch::channel(Seq(0)).1
        }
        fn is_idle(&self) -> bool {
            true
        }
        fn idle(&self) -> &tokio::sync::Notify {
            &self.0
        }
    }

    /// An update of a key by which the row enters a row filter: the server sends an insert without what did not change.
    #[test]
    fn a_row_that_enters_a_filter_is_read_again() {
        let column = |name: &str| {
            let (data_type, decode) = Shape::TEXT.decoder();
            Column {
                name: name.into(),
                data_type,
                source_type: "text".into(),
                nullable: true,
                decode,
                layout: 0,
                utf8: true,
            }
        };
        let schema = TableSchema {
            id: 7,
            version: 1,
            database: "d".into(),
            namespace: "public".into(),
            name: "t".into(),
            columns: ["k", "wide"].map(column).into(),
            key: [0].into(),
            identity: Identity::Default,
        };
        let tuple = TupleShape::new([(true, true), (false, true)]);
        let outlet = Outlet::new(Budget::new(1 << 20), Arc::new(Nowhere(Default::default())), Arc::default());
        let writer = BatchWriter::new(outlet, Origin::CatchUp);
        let mut decoder = Decoder::new(writer, Lsn(1), None, Some(Rereads::new([7])));
        decoder.relation(7, Seen::Unchanged(Plan { schema: Arc::new(schema), tuple })).unwrap();
        let begin = [&b"B"[..], &20u64.to_be_bytes(), &0u64.to_be_bytes(), &1u32.to_be_bytes()].concat();
        assert_eq!(decoder.message(&begin, 0).unwrap(), Step::Next);
        let insert = [&b"I"[..], &7u32.to_be_bytes(), b"N", &2u16.to_be_bytes(), b"t", &2u32.to_be_bytes(), b"42u"];
        assert_eq!(decoder.message(&insert.concat(), 0).unwrap(), Step::Next);
        let tables = decoder.rereads.take().unwrap().into_tables();
        let TableKeys::Keys(keys) = &tables[&7] else { panic!("keys") };
        assert_eq!(keys.iter().collect::<Vec<_>>(), [&vec![Box::from("42")]]);
    }
}
