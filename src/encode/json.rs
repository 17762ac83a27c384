//! Our JSON: one object a line.
//!
//! Invariants:
//! - A line ends with the only raw line break in it.
//! - The keys stand in this order: `op`, `db`, `schema`, `table`, `key`, `before`, `after`, `unchanged`, `pos`, `tx`,
//!   `ord`, `ts`. A row's line always has `key`, `before` and `after`, null where there is none; `unchanged` is there only
//!   when a column was not sent, and such a column is not in `after`.
//! - `key` holds the key columns after the event, for a delete before it; it is null where the table has no key or the
//!   server did not log all of it.
//! - A key-only `before` has only the columns that were logged.
//! - An error leaves the buffer as it was.
//! - Nothing is allocated per row: the plan of a table version and the text of a transaction are kept.
//!
//! Values:
//!
//! | value | JSON |
//! |---|---|
//! | integers, to all 64 bits | number |
//! | numeric | string with every digit; `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | floats | shortest number that reads back the same; `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | json, jsonb | the document byte for byte, but a raw line break between its tokens is a space |
//! | bytea | string, base64 with padding |
//! | date | `"2026-11-21"`, `"0044-03-15 BC"` |
//! | timestamp | `"2026-11-21T03:36:08.123456"`, `"0044-03-15T12:00:00.000000 BC"` |
//! | timestamptz | `"2026-11-21T03:36:08.123456Z"`, `"0044-03-15T12:00:00.000000Z BC"` |
//! | dates and times without end | `"infinity"`, `"-infinity"` |
//! | array | array, nested as its dimensions; with lower bounds other than 1 a string, the source's own text |
//! | everything else | string |

mod plan;
mod time;
mod value;

use std::io::Write as _;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::print::{quoted, quoted_bytes, unsigned};
use crate::record::{
    Before, CdcRecord, Cell, Change, Column, Origin, Position, Row, Scratch, TableSchema, Txn, ValueError,
};

use super::versions::Versions;
use plan::Plan;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonOptions {
    /// Whether begin and commit get a line (`b`, `e`).
    pub transactions: bool,
}

pub struct JsonEncoder {
    options: JsonOptions,
    plans: Versions<Plan>,
    tail: Tail,
    work: Work,
}

/// What encoding a row needs and the next row needs again.
#[derive(Default)]
struct Work {
    /// Columns of the row at hand that were not sent.
    unchanged: Vec<u16>,
    /// Where each column of an update's old row was printed, empty where it was not.
    printed: Vec<Range<usize>>,
    scratch: Scratch,
}

/// What ends every line of a transaction: `,"pos":…,"tx":…,"ord":`, the ordinal, `,"ts":…}`.
#[derive(Default)]
struct Tail {
    txn: Option<Txn>,
    before_ordinal: Vec<u8>,
    after_ordinal: Vec<u8>,
}

impl Tail {
    fn set(&mut self, txn: &Txn) {
        self.txn = Some(txn.clone());
        self.before_ordinal.clear();
        self.after_ordinal.clear();
        let out = &mut self.before_ordinal;
        out.extend_from_slice(b",\"pos\":\"");
        // Writing to a vector cannot fail.
        let _ = write!(out, "{}\",\"tx\":", txn.commit);
        match txn.id {
            Some(id) => unsigned(id, out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"ord\":");
        let out = &mut self.after_ordinal;
        out.extend_from_slice(b",\"ts\":");
        time::unix_micros(txn.commit_unix_micros, out);
        out.extend_from_slice(b"}\n");
    }
}

impl JsonEncoder {
    pub fn new(options: JsonOptions) -> Self {
        JsonEncoder { options, plans: Versions::default(), tail: Tail::default(), work: Work::default() }
    }

    /// One more with the same options.
    pub fn another(&self) -> Self {
        JsonEncoder::new(self.options)
    }

    /// Appends the record's line; nothing for a begin or a commit that was not asked for.
    ///
    /// # Errors
    /// `Data`, when a value or a message's prefix is not what its type says, naming table, column, type and position;
    /// `out` is as it was then.
    pub fn encode(&mut self, origin: Origin, record: &CdcRecord<'_>, out: &mut Vec<u8>) -> Result<()> {
        if self.tail.txn.as_ref() != Some(record.txn) {
            self.tail.set(record.txn);
        }
        let start = out.len();
        let op = match (&record.change, origin) {
            (Change::Insert { .. }, Origin::Snapshot) => b'r',
            (Change::Insert { .. }, _) => b'c',
            (Change::Update { .. }, _) => b'u',
            (Change::Delete { .. }, _) => b'd',
            (Change::Truncate { .. }, _) => b't',
            (Change::SchemaChange { .. }, _) => b's',
            (Change::Message { .. }, _) => b'm',
            (Change::Begin, _) if self.options.transactions => b'b',
            (Change::Commit, _) if self.options.transactions => b'e',
            (Change::Begin | Change::Commit, _) => return Ok(()),
        };
        match &record.change {
            Change::Begin | Change::Commit => out.extend_from_slice(b"{\"op\":\"?\""),
            Change::Insert { table, after } => {
                let plan = self.plans.of(table, || Plan::new(table));
                out.extend_from_slice(&plan.head);
                let encoded = key(plan, after, &mut self.work.scratch, out).and_then(|()| {
                    out.extend_from_slice(b",\"before\":null,\"after\":");
                    row(plan, after, &mut self.work, out)
                });
                encoded.map_err(|wrong| wrong.at(table, &record.txn.commit, out, start))?;
                unchanged(plan, &mut self.work, out);
            }
            Change::Update { table, before, after } => {
                let plan = self.plans.of(table, || Plan::new(table));
                out.extend_from_slice(&plan.head);
                let encoded = key(plan, after, &mut self.work.scratch, out)
                    .and_then(|()| rows(plan, before, after, &mut self.work, out));
                encoded.map_err(|wrong| wrong.at(table, &record.txn.commit, out, start))?;
                unchanged(plan, &mut self.work, out);
            }
            Change::Delete { table, before } => {
                let plan = self.plans.of(table, || Plan::new(table));
                out.extend_from_slice(&plan.head);
                let old_key = match before {
                    Before::None => {
                        out.extend_from_slice(b"null");
                        Ok(())
                    }
                    Before::Key(row) | Before::Full(row) => key(plan, row, &mut self.work.scratch, out),
                };
                let encoded = old_key.and_then(|()| old_row(plan, before, &mut self.work, out));
                encoded.map_err(|wrong| wrong.at(table, &record.txn.commit, out, start))?;
                out.extend_from_slice(b",\"after\":null");
            }
            Change::Truncate { table, cascade, restart_identity } => {
                plan::subject(table, out);
                flag(b",\"cascade\":", *cascade, out);
                flag(b",\"restart_identity\":", *restart_identity, out);
            }
            Change::SchemaChange { table, previous, ddl } => {
                plan::subject(table, out);
                out.extend_from_slice(b",\"version\":");
                unsigned(table.version.into(), out);
                out.extend_from_slice(b",\"columns\":");
                columns(table, out);
                out.extend_from_slice(b",\"previous\":");
                match previous {
                    Some(previous) => columns(previous, out),
                    None => out.extend_from_slice(b"null"),
                }
                out.extend_from_slice(b",\"ddl\":");
                match ddl {
                    Some(ddl) => quoted(ddl, out),
                    None => out.extend_from_slice(b"null"),
                }
            }
            Change::Message { prefix, content, transactional } => {
                out.extend_from_slice(b"{\"op\":\"?\",\"prefix\":");
                if !quoted_bytes(prefix, out) {
                    out.truncate(start);
                    let position = &record.txn.commit;
                    return Err(Error::data(format!(
                        "encoding a logical message at {position} as JSON: its prefix is not UTF-8"
                    ))
                    .remedy("have the writer of the message use a prefix in UTF-8"));
                }
                out.extend_from_slice(b",\"content\":");
                value::base64(content, out);
                flag(b",\"transactional\":", *transactional, out);
            }
        }
        out[start + plan::OP_AT] = op;
        out.extend_from_slice(&self.tail.before_ordinal);
        unsigned(record.ordinal, out);
        out.extend_from_slice(&self.tail.after_ordinal);
        Ok(())
    }
}

/// A value that could not be encoded, before it is known where. Boxed, since what every cell returns should be small.
struct Wrong {
    column: usize,
    cause: Box<ValueError>,
}

impl Wrong {
    /// Takes the part of the line that was written back, and says where the value stands.
    #[cold]
    fn at(self, table: &TableSchema, position: &Position, out: &mut Vec<u8>, start: usize) -> Error {
        out.truncate(start);
        let (name, source_type) =
            table.columns.get(self.column).map_or(("?", "?"), |column| (&*column.name, &*column.source_type));
        Error::data(format!("encoding column {name:?} ({source_type}) of {table} at {position} as JSON"))
            .because(*self.cause)
            .remedy(format!("exclude the column with --exclude-columns '{table}.{name}', or correct the value"))
    }
}

/// The key's columns as an object, null without a complete key.
#[inline]
fn key(plan: &Plan, row: &Row<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) -> Result<(), Box<Wrong>> {
    let complete = |&column: &u16| {
        let cell = row.cell(column.into());
        cell.is_value() || cell.is_null()
    };
    if plan.key.is_empty() || !plan.key.iter().all(complete) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    let object = Object::begin(out);
    for &index in &plan.key {
        let index = usize::from(index);
        plan.names[index].write(out);
        let printed = print(row, row.cell(index), &row.schema().columns[index], scratch, out);
        printed.map_err(|cause| Box::new(Wrong { column: index, cause }))?;
    }
    object.end(out);
    Ok(())
}

/// The row's columns that were sent, as an object; notes those that are unchanged.
#[inline]
fn row(plan: &Plan, row: &Row<'_>, work: &mut Work, out: &mut Vec<u8>) -> Result<(), Box<Wrong>> {
    work.unchanged.clear();
    let object = Object::begin(out);
    for (index, (name, (sent, column))) in plan.names.iter().zip(row.cells()).enumerate() {
        if sent.is_value() || sent.is_null() {
            name.write(out);
            let printed = print(row, sent, column, &mut work.scratch, out);
            printed.map_err(|cause| Box::new(Wrong { column: index, cause }))?;
        } else if sent.is_unchanged() {
            work.unchanged.push(index as u16);
        }
    }
    object.end(out);
    Ok(())
}

/// The old row of an update and the new one. A cell that is what it was is printed once and copied: most cells of most
/// updates are, where the server logs all of the old row.
#[inline]
fn rows(plan: &Plan, before: &Before<'_>, new: &Row<'_>, work: &mut Work, out: &mut Vec<u8>) -> Result<(), Box<Wrong>> {
    let (Before::Key(old) | Before::Full(old)) = before else {
        out.extend_from_slice(b",\"before\":null,\"after\":");
        return row(plan, new, work, out);
    };
    out.extend_from_slice(b",\"before\":");
    work.printed.clear();
    let object = Object::begin(out);
    for (index, (name, (sent, column))) in plan.names.iter().zip(old.cells()).enumerate() {
        let start = out.len();
        if sent.is_value() || sent.is_null() {
            name.write(out);
            let printed = print(old, sent, column, &mut work.scratch, out);
            printed.map_err(|cause| Box::new(Wrong { column: index, cause }))?;
        }
        work.printed.push(start..out.len());
    }
    object.end(out);

    out.extend_from_slice(b",\"after\":");
    work.unchanged.clear();
    let object = Object::begin(out);
    // Cells that stand one behind the other in the old row are copied at once.
    let mut same = 0..0;
    for (index, ((name, printed), (sent, column))) in plan.names.iter().zip(&work.printed).zip(new.cells()).enumerate()
    {
        if sent.is_value() && old.bytes(index) == new.bytes(index) {
            if same.end != printed.start {
                copy(&mut same, out);
                same.start = printed.start;
            }
            same.end = printed.end;
        } else if sent.is_value() || sent.is_null() {
            copy(&mut same, out);
            name.write(out);
            let printed = print(new, sent, column, &mut work.scratch, out);
            printed.map_err(|cause| Box::new(Wrong { column: index, cause }))?;
        } else if sent.is_unchanged() {
            work.unchanged.push(index as u16);
        }
    }
    copy(&mut same, out);
    object.end(out);
    Ok(())
}

/// Appends what stands at `same`, members that were printed before, and makes it empty.
#[inline]
fn copy(same: &mut Range<usize>, out: &mut Vec<u8>) {
    if same.start < same.end {
        let at = out.len();
        out.extend_from_within(same.clone());
        // It may have been the first member there.
        out[at] = b',';
    }
    *same = 0..0;
}

fn old_row(plan: &Plan, before: &Before<'_>, work: &mut Work, out: &mut Vec<u8>) -> Result<(), Box<Wrong>> {
    out.extend_from_slice(b",\"before\":");
    match before {
        Before::None => {
            out.extend_from_slice(b"null");
            Ok(())
        }
        Before::Key(old) | Before::Full(old) => row(plan, old, work, out),
    }
}

/// An object whose members are all written as `,"name":value`.
struct Object {
    start: usize,
}

impl Object {
    #[inline]
    fn begin(out: &[u8]) -> Self {
        Object { start: out.len() }
    }

    /// Makes the first comma a brace, and closes it.
    #[inline]
    fn end(self, out: &mut Vec<u8>) {
        match out.get_mut(self.start) {
            Some(first) => {
                *first = b'{';
                out.push(b'}');
            }
            None => out.extend_from_slice(b"{}"),
        }
    }
}

/// A value, or null.
#[inline(always)]
fn print<'b>(
    row: &Row<'b>,
    cell: Cell,
    column: &'b Column,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Result<(), Box<ValueError>> {
    if column.utf8 && cell.is_value() && quoted_bytes(row.wire(cell), out) {
        return Ok(());
    }
    // By reference: a value is not moved once more on its way.
    match &row.decode(cell, column, scratch) {
        Ok(value) => value::value(value, out),
        Err(cause) => Err(Box::new(cause.clone())),
    }
}

#[inline]
fn unchanged(plan: &Plan, work: &mut Work, out: &mut Vec<u8>) {
    let columns = &mut work.unchanged;
    if columns.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"unchanged\":");
    let start = out.len();
    for column in columns.drain(..) {
        plan.names[usize::from(column)].write(out);
        // Without the colon.
        out.pop();
    }
    out[start] = b'[';
    out.push(b']');
}

fn flag(key: &[u8], value: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn columns(table: &TableSchema, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, column) in table.columns.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"name\":" } else { b",{\"name\":" });
        quoted(&column.name, out);
        out.extend_from_slice(b",\"type\":");
        quoted(&column.source_type, out);
        flag(b",\"nullable\":", column.nullable, out);
        flag(b",\"key\":", table.key.iter().any(|&key| usize::from(key) == index), out);
        out.push(b'}');
    }
    out.push(b']');
}

#[cfg(test)]
mod tests;
