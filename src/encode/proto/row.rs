//! A row as a `Row`, and what is said where that cannot be.

use super::Unsendable;
use super::value::{self, Unwritten};
use super::wire::{Guess, LENGTH, Nest, key};
use crate::error::Error;
use crate::record::{Before, CdcRecord, Cell, Change, Row, Scratch, TableSchema, ValueError};

/// What encoding a row needs and the next row needs again.
#[derive(Default)]
pub(super) struct Work {
    pub(super) scratch: Scratch,
    /// Cells of the columns that the filter keeps.
    pub(super) cells: Vec<Cell>,
    pub(super) old_cells: Vec<Cell>,
}

/// Why a record is not written.
#[derive(Debug)]
pub(super) enum Wrong {
    TooLarge,
    Value {
        column: usize,
        cause: ValueError,
    },
    /// A message's prefix.
    Prefix(ValueError),
    /// Says all.
    Json(Error),
}

impl Wrong {
    /// Says where. `table`: of the columns as they are sent.
    #[cold]
    pub(super) fn at(
        self,
        record: &CdcRecord<'_>,
        table: Option<&TableSchema>,
        max_message_bytes: usize,
    ) -> Unsendable {
        let position = &record.txn.commit;
        let subject = || table.map_or_else(|| "a logical message".to_owned(), ToString::to_string);
        match self {
            Wrong::TooLarge => Unsendable::TooLarge(
                Error::config(format!(
                    "sending a change of {} at {position}: it is larger than the {max_message_bytes} bytes that the client \
                     takes in one message",
                    subject()
                ))
                .remedy(
                    "open the stream with a larger max_message_bytes, and let the client's library receive as much; or \
                     leave large columns out by the filter's exclude_columns",
                ),
            ),
            Wrong::Value { column, cause } => {
                let column = table.and_then(|table| table.columns.get(column));
                let (name, source_type) = column.map_or(("?", "?"), |column| (&*column.name, &*column.source_type));
                let table = subject();
                Unsendable::Wrong(
                    Error::data(format!("encoding column {name:?} ({source_type}) of {table} at {position}"))
                        .because(cause)
                        .remedy(format!(
                            "leave the column out by the filter's exclude_columns '{table}.{name}', or correct the value"
                        )),
                )
            }
            Wrong::Prefix(cause) => Unsendable::Wrong(
                Error::data(format!("encoding the prefix of a logical message at {position}"))
                    .because(cause)
                    .remedy("have the writer of the message use a prefix in UTF-8"),
            ),
            Wrong::Json(error) => Unsendable::Wrong(error),
        }
    }
}

/// Writes a row as the field `number`. `limit`: bytes that it may not exceed.
#[inline]
pub(super) fn put(
    number: u8,
    row: &Row<'_>,
    guess: &mut Guess,
    limit: usize,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Result<(), Wrong> {
    let nest = Nest::open(key(number, LENGTH), *guess, out);
    let longest = out.len().saturating_add(limit);
    let mut width = row.schema().columns.len();
    while width > 0 && row.cell(width - 1) == Cell::MISSING {
        width -= 1;
    }
    for column in 0..width {
        let cell = row.cell(column);
        if !cell.is_value() {
            value::absent(cell, out);
            continue;
        }
        let value = row.value(column, scratch).map_err(|cause| Wrong::Value { column, cause })?;
        match value::value(&value, limit, out) {
            Ok(()) if out.len() <= longest => {}
            Ok(()) | Err(Unwritten::TooLarge) => return Err(Wrong::TooLarge),
            Err(Unwritten::Wrong(cause)) => return Err(Wrong::Value { column, cause }),
        }
    }
    nest.close(guess, out);
    Ok(())
}

/// A line of JSON takes no less than this part of the bytes that the values take on the wire: the most that one gets
/// shorter by is a MySQL document of small numbers, which has 13 bytes of one double and prints `0,`.
const LINE_TO_WIRE: usize = 8;

/// Whether a row's line can fit, before it is made: a huge one is not built only to be refused.
pub(super) fn fits_as_json(change: &Change<'_>, limit: usize) -> Result<(), Wrong> {
    let wire =
        |row: &Row<'_>| (0..row.schema().columns.len()).filter_map(|at| Some(row.bytes(at)?.len())).sum::<usize>();
    let old = |before: &Before<'_>| match before {
        Before::None => 0,
        Before::Key(row) | Before::Full(row) => wire(row),
    };
    let bytes = match change {
        Change::Insert { after, .. } => wire(after),
        Change::Update { before, after, .. } => old(before) + wire(after),
        Change::Delete { before, .. } => old(before),
        Change::Message { content, .. } => content.len(),
        _ => 0,
    };
    if bytes / LINE_TO_WIRE > limit { Err(Wrong::TooLarge) } else { Ok(()) }
}
