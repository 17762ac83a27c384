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

mod escape;
mod plan;
mod time;
mod value;

use std::io::Write as _;

use crate::error::{Error, Result};
use crate::record::{Before, CdcRecord, Change, Origin, Position, Row, Scratch, TableSchema, Txn, ValueError};

use escape::string;
use plan::{Plan, Plans};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonOptions {
    /// Whether begin and commit get a line (`b`, `e`).
    pub transactions: bool,
}

pub struct JsonEncoder {
    options: JsonOptions,
    plans: Plans,
    tail: Tail,
    work: Work,
}

/// What encoding a row needs and the next row needs again.
#[derive(Default)]
struct Work {
    /// Columns of the row at hand that were not sent.
    unchanged: Vec<u16>,
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
            Some(id) => value::unsigned(id, out),
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
        JsonEncoder { options, plans: Plans::default(), tail: Tail::default(), work: Work::default() }
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
                let plan = self.plans.of(table);
                out.extend_from_slice(&plan.head);
                let encoded = key(plan, after, &mut self.work.scratch, out).and_then(|()| {
                    out.extend_from_slice(b",\"before\":null,\"after\":");
                    row(plan, after, &mut self.work, out)
                });
                encoded.map_err(|wrong| wrong.at(table, &record.txn.commit, out, start))?;
                unchanged(plan, &mut self.work, out);
            }
            Change::Update { table, before, after } => {
                let plan = self.plans.of(table);
                out.extend_from_slice(&plan.head);
                let encoded = key(plan, after, &mut self.work.scratch, out).and_then(|()| {
                    old_row(plan, before, &mut self.work, out)?;
                    out.extend_from_slice(b",\"after\":");
                    row(plan, after, &mut self.work, out)
                });
                encoded.map_err(|wrong| wrong.at(table, &record.txn.commit, out, start))?;
                unchanged(plan, &mut self.work, out);
            }
            Change::Delete { table, before } => {
                let plan = self.plans.of(table);
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
                value::unsigned(table.version.into(), out);
                out.extend_from_slice(b",\"columns\":");
                columns(table, out);
                out.extend_from_slice(b",\"previous\":");
                match previous {
                    Some(previous) => columns(previous, out),
                    None => out.extend_from_slice(b"null"),
                }
                out.extend_from_slice(b",\"ddl\":");
                match ddl {
                    Some(ddl) => string(ddl.as_bytes(), out),
                    None => out.extend_from_slice(b"null"),
                }
            }
            Change::Message { prefix, content, transactional } => {
                if std::str::from_utf8(prefix).is_err() {
                    let position = &record.txn.commit;
                    return Err(Error::data(format!(
                        "encoding a logical message at {position} as JSON: its prefix is not UTF-8"
                    ))
                    .remedy("have the writer of the message use a prefix in UTF-8"));
                }
                out.extend_from_slice(b"{\"op\":\"?\",\"prefix\":");
                string(prefix, out);
                out.extend_from_slice(b",\"content\":");
                value::base64(content, out);
                flag(b",\"transactional\":", *transactional, out);
            }
        }
        out[start + plan::OP_AT] = op;
        out.extend_from_slice(&self.tail.before_ordinal);
        value::unsigned(record.ordinal, out);
        out.extend_from_slice(&self.tail.after_ordinal);
        Ok(())
    }
}

/// A value that could not be encoded, before it is known where.
struct Wrong {
    column: usize,
    cause: ValueError,
}

impl Wrong {
    /// Takes the part of the line that was written back, and says where the value stands.
    #[cold]
    fn at(self, table: &TableSchema, position: &Position, out: &mut Vec<u8>, start: usize) -> Error {
        out.truncate(start);
        let (name, source_type) =
            table.columns.get(self.column).map_or(("?", "?"), |column| (&*column.name, &*column.source_type));
        Error::data(format!("encoding column {name:?} ({source_type}) of {table} at {position} as JSON"))
            .because(self.cause)
            .remedy(format!("exclude the column with --exclude-columns '{table}.{name}', or correct the value"))
    }
}

/// The key's columns as an object, null without a complete key.
#[inline]
fn key(plan: &Plan, row: &Row<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let complete = |&column: &u16| {
        let cell = row.cell(column.into());
        cell.is_value() || cell.is_null()
    };
    if plan.key.is_empty() || !plan.key.iter().all(complete) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    let mut opening = b'{';
    for &column in &plan.key {
        cell(plan, row, column.into(), opening, scratch, out)?;
        opening = b',';
    }
    out.push(b'}');
    Ok(())
}

/// The row's columns that were sent, as an object; notes those that are unchanged.
#[inline]
fn row(plan: &Plan, row: &Row<'_>, work: &mut Work, out: &mut Vec<u8>) -> Result<(), Wrong> {
    work.unchanged.clear();
    let mut opening = b'{';
    for column in 0..plan.width() {
        let sent = row.cell(column);
        if sent.is_value() || sent.is_null() {
            cell(plan, row, column, opening, &mut work.scratch, out)?;
            opening = b',';
        } else if sent.is_unchanged() {
            work.unchanged.push(column as u16);
        }
    }
    out.extend_from_slice(if opening == b'{' { b"{}" } else { b"}" });
    Ok(())
}

fn old_row(plan: &Plan, before: &Before<'_>, work: &mut Work, out: &mut Vec<u8>) -> Result<(), Wrong> {
    out.extend_from_slice(b",\"before\":");
    match before {
        Before::None => {
            out.extend_from_slice(b"null");
            Ok(())
        }
        Before::Key(old) | Before::Full(old) => row(plan, old, work, out),
    }
}

/// `{"name":value` or `,"name":value`.
#[inline]
fn cell(
    plan: &Plan,
    row: &Row<'_>,
    column: usize,
    opening: u8,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Result<(), Wrong> {
    let at = out.len();
    out.extend_from_slice(plan.prefix(column));
    out[at] = opening;
    row.value(column, scratch).and_then(|value| value::value(&value, out)).map_err(|cause| Wrong { column, cause })
}

#[inline]
fn unchanged(plan: &Plan, work: &mut Work, out: &mut Vec<u8>) {
    let columns = &mut work.unchanged;
    if columns.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"unchanged\":");
    let mut opening = b'[';
    for column in columns.drain(..) {
        let at = out.len();
        // The prefix is `,"name":`.
        let prefix = plan.prefix(column.into());
        out.extend_from_slice(&prefix[..prefix.len() - 1]);
        out[at] = opening;
        opening = b',';
    }
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
        string(column.name.as_bytes(), out);
        out.extend_from_slice(b",\"type\":");
        string(column.source_type.as_bytes(), out);
        flag(b",\"nullable\":", column.nullable, out);
        flag(b",\"key\":", table.key.iter().any(|&key| usize::from(key) == index), out);
        out.push(b'}');
    }
    out.push(b']');
}

#[cfg(test)]
mod tests;
