//! Protobuf: records as messages of `walbrook.v1`, straight from the batch's bytes.
//!
//! Invariants:
//! - A finished message is one whole `SubscribeResponse` with a `Batch`, as any protobuf library reads it.
//! - It is at most as large as the client takes. It is larger than the target only when it holds a single record.
//! - A record is in one message whole or not at all; an error takes back what was written of it.
//! - A table's shape is sent with the first message that refers to it, and not again.
//! - Nothing is allocated per row; the row's values exist one at a time.
//!
//! The shape of the messages was chosen by measurement: see `Value` in `proto/walbrook/v1/types.proto`.

mod filter;
mod plan;
mod position;
mod row;
mod schema;
mod value;
mod wire;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use crate::encode::{JsonEncoder, JsonOptions};
use crate::error::{Error, Result};
use crate::proto::v1::{self, Operation};
use crate::record::{Batch, Before, CdcRecord, Change, Origin, TableSchema, Txn, ValueError};

pub use filter::{ColumnFilter, Filter, Operations, TableFilter};
pub use position::{position, read_token};
pub use schema::message as schema_message;

use filter::operation;
use plan::{Plans, Wanted};
use row::{Work, Wrong};
use wire::{FIXED64, Guess, LENGTH, Nest, VARINT, bytes_field, key, put_varint, varint, varint_field};

/// The form of a batch's changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Values as messages.
    Typed,
    /// The lines of [`JsonEncoder`].
    Json,
}

/// What one stream's messages are to be.
pub struct ProtoOptions {
    pub format: Format,
    pub filter: Filter,
    /// Whose log the positions are of, for their tokens.
    pub lineage: u64,
    /// A message is finished when it is about this large.
    pub target_bytes: usize,
    /// No message is larger.
    pub max_message_bytes: usize,
}

/// What a message aims at: some 1,500 rows of 170 bytes, so that what a message costs by itself is a small part, and few
/// enough bytes that a client's first row does not wait for the last.
pub const TARGET_BYTES: usize = 256 * 1024;

/// A message that is ready to be sent.
#[derive(Debug)]
pub struct Message {
    /// A `SubscribeResponse`.
    pub bytes: Bytes,
    /// `Batch.changes`.
    pub changes: u32,
}

/// Why a record is not sent.
#[derive(Debug)]
pub enum Unsendable {
    /// It is larger than the client takes. (`Config`)
    TooLarge(Error),
    /// A value cannot be represented. (`Data`)
    Wrong(Error),
}

// Numbers of fields: `SubscribeResponse`.
const RESPONSE_BATCH: u8 = 2;
// `Batch`.
const NUMBER: u8 = 1;
const RESUME: u8 = 2;
const ORIGIN: u8 = 3;
const TRANSACTIONS: u8 = 5;
const LINES: u8 = 6;
const CHANGES: u8 = 7;
// `Transaction`.
const ORDER: u8 = 1;
const TEXT: u8 = 2;
const ID: u8 = 3;
const COMMIT_UNIX_MICROS: u8 = 4;
const TXN_CHANGES: u8 = 5;
// `Change`.
const OPERATION: u8 = 1;
const BEFORE: u8 = 4;
const AFTER: u8 = 5;

/// In front of a message's content: two keys and two lengths, which are known at its end.
const HEAD_BYTES: usize = 16;
/// Behind it, besides the position: a key each and 10, 1 and 5 bytes of number, origin and changes; the lengths in front.
const FRAME_BYTES: usize = HEAD_BYTES + 11 + 2 + 6;
/// A buffer that one huge row has made larger is not kept.
const KEPT_BYTES: usize = 2 * TARGET_BYTES;

/// Encodes the records of one stream, one message at a time: [`ProtoEncoder::add`] what comes, [`ProtoEncoder::finish`]
/// when it is full or should leave.
pub struct ProtoEncoder {
    options: ProtoOptions,
    plans: Plans,
    json: JsonEncoder,
    work: Work,
    message: Open,
    transaction: Guess,
}

/// The message that is being written.
#[derive(Default)]
struct Open {
    /// [`HEAD_BYTES`] and the transactions, or the lines.
    out: Vec<u8>,
    /// The shapes that it is the first to need, as fields.
    schemas: Vec<u8>,
    /// The position at its end, as a field; empty where none is known.
    resume: Vec<u8>,
    /// That of the delivery at hand.
    next_resume: Vec<u8>,
    /// The transaction whose changes are being written.
    txn: Option<(Txn, Nest)>,
    origin: Option<Origin>,
    changes: u32,
}

impl Open {
    /// What the message would take; the length of an open transaction is counted as if it were closed.
    fn bytes(&self) -> usize {
        self.out.len() + self.schemas.len() + self.resume.len().max(self.next_resume.len()) + FRAME_BYTES
    }
}

impl ProtoEncoder {
    pub fn new(mut options: ProtoOptions) -> Self {
        options.target_bytes = options.target_bytes.min(options.max_message_bytes);
        let mut message = Open::default();
        message.out.resize(HEAD_BYTES, 0);
        ProtoEncoder {
            options,
            plans: Plans::default(),
            json: JsonEncoder::new(JsonOptions { transactions: true }),
            work: Work::default(),
            message,
            transaction: Guess::default(),
        }
    }

    /// Whether nothing waits for [`ProtoEncoder::finish`].
    pub fn is_empty(&self) -> bool {
        self.message.changes == 0
    }

    /// What waits for [`ProtoEncoder::finish`], about, in bytes.
    pub fn bytes(&self) -> usize {
        if self.is_empty() { 0 } else { self.message.bytes() }
    }

    /// Takes records of a batch into the message: of those in `range` (cut at the batch's end) as many as fit, and leaves
    /// out those that are not wanted. Returns the index behind the last one it dealt with: below the range's end where the
    /// message is full; finish it and add the rest. At least one record is dealt with when the message is empty.
    ///
    /// The position behind the batch, where it has one, is that of the message once its last record is dealt with.
    ///
    /// # Errors
    /// A record that cannot be sent, when it is the next one and the message is empty: everything before it can be sent.
    /// What follows it could be added, and the stream would have a hole.
    pub fn add(&mut self, batch: &Batch, range: Range<usize>) -> Result<usize, Unsendable> {
        let end = range.end.min(batch.len());
        if !self.is_empty() && self.message.origin != Some(batch.origin) {
            return Ok(range.start);
        }
        self.message.origin = Some(batch.origin);
        self.message.next_resume.clear();
        if let Some(resume) = batch.mark.position.as_ref().filter(|_| end == batch.len()) {
            let position = position(resume, self.options.lineage).encode_to_vec();
            bytes_field(RESUME, &position, &mut self.message.next_resume);
        }
        let mut current: Option<&Txn> = None;
        for (index, record) in (range.start..end).zip(batch.records_from(range.start)) {
            let operation = operation(&record.change, batch.origin);
            if !self.options.filter.operations.contains(operation) {
                continue;
            }
            if self.plans.is_full() {
                if !self.is_empty() {
                    return Ok(index);
                }
                self.plans.forget(0);
            }
            let same = current.is_some_and(|current| std::ptr::eq(current, record.txn));
            if !same {
                self.leave(record.txn);
            }
            let before = (self.message.out.len(), self.message.schemas.len(), self.plans.references());
            let written = match self.options.format {
                Format::Typed => self.typed(operation, &record, same),
                Format::Json => self.line(batch.origin, &record),
            };
            match written {
                Ok(false) => continue,
                Ok(true) => {}
                Err(wrong) => {
                    self.take_back(before);
                    if !self.is_empty() {
                        return Ok(index);
                    }
                    return Err(self.unsendable(wrong, &record));
                }
            }
            current = Some(record.txn);
            self.message.changes += 1;
            let bytes = self.message.bytes();
            if bytes < self.options.target_bytes {
                continue;
            }
            let alone = self.message.changes == 1;
            if !alone && bytes > self.options.target_bytes || bytes > self.options.max_message_bytes {
                self.message.changes -= 1;
                self.take_back(before);
                return if alone { Err(self.unsendable(Wrong::TooLarge, &record)) } else { Ok(index) };
            }
            if index + 1 < end {
                return Ok(index + 1);
            }
        }
        if !self.message.next_resume.is_empty() {
            std::mem::swap(&mut self.message.resume, &mut self.message.next_resume);
            self.message.next_resume.clear();
        }
        Ok(end.max(range.start))
    }

    /// The message of everything added since the last one; none where nothing of it is wanted.
    pub fn finish(&mut self, number: u64) -> Option<Message> {
        let message = &mut self.message;
        let changes = std::mem::take(&mut message.changes);
        message.next_resume.clear();
        if changes == 0 {
            message.resume.clear();
            return None;
        }
        let out = &mut message.out;
        if let Some((_, nest)) = message.txn.take() {
            nest.close(&mut self.transaction, out);
        }
        let lines = out.len() - HEAD_BYTES;
        out.append(&mut message.schemas);
        out.append(&mut message.resume);
        varint_field(NUMBER, number, out);
        varint_field(ORIGIN, wire_origin(message.origin) as u64, out);
        varint_field(CHANGES, changes.into(), out);

        // What stands in front, from its end to its beginning.
        let mut start = HEAD_BYTES;
        let mut prepend = |head: u8, length: usize, out: &mut [u8]| {
            let mut room = [0; HEAD_BYTES];
            room[0] = key(head, LENGTH);
            let width = 1 + put_varint(length as u64, &mut room[1..]);
            start -= width;
            out[start..start + width].copy_from_slice(&room[..width]);
            start
        };
        let mut content = HEAD_BYTES;
        if self.options.format == Format::Json {
            content = prepend(LINES, lines, out);
        }
        let body = out.len() - content;
        let start = prepend(RESPONSE_BATCH, body, out);
        let bytes = self.take(start);
        Some(Message { bytes, changes })
    }

    /// The buffer from `start` on, and a new one: a small message is copied rather than to pin a large buffer.
    fn take(&mut self, start: usize) -> Bytes {
        let out = &mut self.message.out;
        let bytes = if out.len() < out.capacity() / 4 {
            let bytes = Bytes::copy_from_slice(&out[start..]);
            out.clear();
            bytes
        } else {
            // A message of the target's size is likely to be followed by another.
            let room = out.capacity().min(KEPT_BYTES);
            Bytes::from(std::mem::replace(out, Vec::with_capacity(room))).slice(start..)
        };
        out.shrink_to(KEPT_BYTES);
        out.resize(HEAD_BYTES, 0);
        bytes
    }

    /// Ends the open transaction if it is another.
    fn leave(&mut self, next: &Txn) {
        if let Some((_, nest)) = self.message.txn.take_if(|(open, _)| open != next) {
            nest.close(&mut self.transaction, &mut self.message.out);
        }
    }

    /// Takes back what was written since the message had so much of content, of shapes and of references; no transaction
    /// was ended since.
    #[cold]
    fn take_back(&mut self, (out, schemas, references): (usize, usize, usize)) {
        self.message.txn.take_if(|(_, nest)| nest.begins_behind(out));
        self.message.out.truncate(out);
        if self.message.schemas.len() > schemas {
            self.message.schemas.truncate(schemas);
            self.plans.forget(references);
        }
    }

    #[cold]
    fn unsendable(&mut self, wrong: Wrong, record: &CdcRecord<'_>) -> Unsendable {
        let table = match &record.change {
            Change::Insert { table, .. }
            | Change::Update { table, .. }
            | Change::Delete { table, .. }
            | Change::Truncate { table, .. }
            | Change::SchemaChange { table, .. } => Some(*table),
            Change::Begin | Change::Commit | Change::Message { .. } => None,
        };
        // Its columns as they are sent; the shape itself is not.
        let mut plans = Plans::default();
        let wanted = table.and_then(|table| wanted(&mut plans, &self.options.filter, table));
        let table = wanted.map(|wanted| &*wanted.shape.schema);
        wrong.at(record, table, self.options.max_message_bytes)
    }

    /// One line of JSON. False where the table is not wanted.
    fn line(&mut self, origin: Origin, record: &CdcRecord<'_>) -> Result<bool, Wrong> {
        let Self { plans, options, work, json, message, .. } = self;
        let Work { cells, old_cells, .. } = work;
        let mut previous_shape = None;
        let change = match record.change {
            Change::Begin => Change::Begin,
            Change::Commit => Change::Commit,
            Change::Message { prefix, content, transactional } => Change::Message { prefix, content, transactional },
            Change::SchemaChange { table, previous, ddl } => {
                if let Some(previous) = previous {
                    let wanted = wanted(plans, &options.filter, previous);
                    previous_shape = wanted.map(|wanted| wanted.shape.schema.clone());
                }
                let Some(Wanted { shape, .. }) = wanted(plans, &options.filter, table) else { return Ok(false) };
                Change::SchemaChange { table: &shape.schema, previous: previous_shape.as_ref(), ddl }
            }
            Change::Insert { table, after } => {
                let Some(Wanted { shape, .. }) = wanted(plans, &options.filter, table) else { return Ok(false) };
                Change::Insert { table: &shape.schema, after: shape.row(after, cells) }
            }
            Change::Update { table, before, after } => {
                let Some(Wanted { shape, .. }) = wanted(plans, &options.filter, table) else { return Ok(false) };
                let before = shape.before(before, old_cells);
                Change::Update { table: &shape.schema, before, after: shape.row(after, cells) }
            }
            Change::Delete { table, before } => {
                let Some(Wanted { shape, .. }) = wanted(plans, &options.filter, table) else { return Ok(false) };
                Change::Delete { table: &shape.schema, before: shape.before(before, old_cells) }
            }
            Change::Truncate { table, cascade, restart_identity } => {
                let Some(Wanted { shape, .. }) = wanted(plans, &options.filter, table) else { return Ok(false) };
                Change::Truncate { table: &shape.schema, cascade, restart_identity }
            }
        };
        row::fits_as_json(&change, options.max_message_bytes)?;
        let record = CdcRecord { txn: record.txn, ordinal: record.ordinal, change };
        json.encode(origin, &record, &mut message.out).map(|()| true).map_err(Wrong::Json)
    }

    /// One `Change`; `same`: whether the transaction is that of the change before. False where the table is not wanted.
    #[inline]
    fn typed(&mut self, operation: Operation, record: &CdcRecord<'_>, same: bool) -> Result<bool, Wrong> {
        let limit = self.options.max_message_bytes;
        let table = match &record.change {
            Change::Insert { table, .. } | Change::Update { table, .. } | Change::Delete { table, .. } => *table,
            _ => return self.rare(operation, record, same),
        };
        let schemas = &mut self.message.schemas;
        let Some(wanted) = self.plans.of(table, &self.options.filter, true, schemas) else {
            return Ok(false);
        };
        if !same {
            enter(&mut self.message, self.transaction, record.txn);
        }
        let out = &mut self.message.out;
        let Work { scratch, cells, old_cells } = &mut self.work;
        let Wanted { shape, head, guesses, .. } = wanted;
        let (old, new) = match record.change {
            Change::Insert { after, .. } => (Before::None, Some(after)),
            Change::Update { before, after, .. } => (before, Some(after)),
            Change::Delete { before, .. } => (before, None),
            _ => (Before::None, None),
        };
        let change = Nest::open(key(TXN_CHANGES, LENGTH), guesses.change, out);
        out.extend_from_slice(&[key(OPERATION, VARINT), operation as u8]);
        out.extend_from_slice(head);
        varint(record.ordinal, out);
        match shape.before(old, old_cells) {
            Before::None => {}
            Before::Key(row) | Before::Full(row) => row::put(BEFORE, &row, &mut guesses.old_row, limit, scratch, out)?,
        }
        if let Some(row) = new {
            row::put(AFTER, &shape.row(row, cells), &mut guesses.row, limit, scratch, out)?;
        }
        change.close(&mut guesses.change, out);
        Ok(true)
    }

    /// Changes that are no rows.
    fn rare(&mut self, operation: Operation, record: &CdcRecord<'_>, same: bool) -> Result<bool, Wrong> {
        let (plans, filter) = (&mut self.plans, &self.options.filter);
        let mut reference =
            |table, schemas: &mut Vec<u8>| plans.of(table, filter, true, schemas).map(|wanted| wanted.reference);
        let schemas = &mut self.message.schemas;
        let mut change = v1::Change { operation: operation.into(), ordinal: record.ordinal, ..v1::Change::default() };
        match record.change {
            Change::Truncate { table, cascade, restart_identity } => {
                let Some(reference) = reference(table, schemas) else { return Ok(false) };
                change.schema = reference;
                change.truncate = Some(v1::Truncate { cascade, restart_identity });
            }
            Change::SchemaChange { table, previous, ddl } => {
                let Some(new) = reference(table, schemas) else { return Ok(false) };
                let previous = previous.and_then(|previous| reference(previous, schemas)).unwrap_or(0);
                change.schema = new;
                change.schema_change = Some(v1::SchemaChange { previous, ddl: ddl.map(str::to_owned) });
            }
            Change::Message { prefix, content, transactional } => {
                if content.len() > self.options.max_message_bytes {
                    return Err(Wrong::TooLarge);
                }
                let utf8 = std::str::from_utf8(prefix);
                let prefix = utf8.map_err(|_| Wrong::Prefix(ValueError::new("text in UTF-8", prefix)))?.to_owned();
                let content = Bytes::copy_from_slice(content);
                change.message = Some(v1::LogicalMessage { prefix, content, transactional });
            }
            _ => {}
        }
        if !same {
            enter(&mut self.message, self.transaction, record.txn);
        }
        bytes_field(TXN_CHANGES, &change.encode_to_vec(), &mut self.message.out);
        Ok(true)
    }
}

/// What is wanted of a table, without a shape to send.
fn wanted<'p>(plans: &'p mut Plans, filter: &Filter, table: &Arc<TableSchema>) -> Option<&'p Wanted> {
    plans.of(table, filter, false, &mut Vec::new()).map(|wanted| &*wanted)
}

/// Changes of this transaction follow; no other one is open.
#[inline]
fn enter(message: &mut Open, guess: Guess, txn: &Txn) {
    if message.txn.is_some() {
        return;
    }
    let out = &mut message.out;
    let nest = Nest::open(key(TRANSACTIONS, LENGTH), guess, out);
    // Both are shorter than 128 bytes but for a file of a very long name.
    let mut none = Guess::default();
    let order = Nest::open(key(ORDER, LENGTH), none, out);
    position::order(&txn.commit, out);
    order.close(&mut none, out);
    let text = Nest::open(key(TEXT, LENGTH), none, out);
    position::print(&txn.commit, out);
    text.close(&mut none, out);
    if let Some(id) = txn.id {
        varint_field(ID, id, out);
    }
    if let Some(micros) = txn.commit_unix_micros {
        out.push(key(COMMIT_UNIX_MICROS, FIXED64));
        out.extend_from_slice(&micros.to_le_bytes());
    }
    message.txn = Some((txn.clone(), nest));
}

fn wire_origin(origin: Option<Origin>) -> v1::Origin {
    match origin {
        Some(Origin::Snapshot) => v1::Origin::Snapshot,
        Some(Origin::CatchUp) => v1::Origin::CatchUp,
        Some(Origin::Stream) => v1::Origin::Stream,
        None => v1::Origin::Unspecified,
    }
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
