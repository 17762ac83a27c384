//! Rows events: each row a record, wanted or not an ordinal.

use super::super::place::Place;
use super::super::relation::Target;
use super::Decoder;
use crate::error::{Error, Result};
use crate::record::{Cell, Origin, TableSchema};
use crate::wire::WireError;
use crate::wire::mysql::event::{DUMMY_TABLE_ID, Event, Rows, RowsKind};

impl Decoder {
    #[inline]
    pub(super) fn rows(
        &mut self,
        event: &Event<'_>,
        rows: &Rows<'_>,
        base: usize,
        event_start: u64,
        mut apart: Option<&mut Vec<u8>>,
    ) -> Result<()> {
        let void = self.is_void(event_start);
        let Some(group) = &mut self.group else { return Err(self.misplaced("rows")) };
        if group.void {
            return Ok(());
        }
        if rows.table_id == DUMMY_TABLE_ID {
            self.relations.unmap();
            return Ok(());
        }
        let Some(target) = self.relations.target(rows.table_id) else {
            return Err(self.misplaced("rows of a table that no TABLE_MAP of the statement names"));
        };
        let before = group.ordinal;
        match &*target {
            Target::Wanted(_) if group.keep.is_some() => {
                if let Some(keep) = &mut group.keep {
                    keep.event(event, &self.xa)?;
                }
            }
            Target::Wanted(plan) if void => match count(rows, &plan.rows) {
                Ok(rows) => group.ordinal += rows,
                Err(error) => return Err(self.malformed(error)),
            },
            Target::Wanted(plan) => {
                if !group.begun {
                    self.announce();
                }
                let Some(group) = &mut self.group else { return Err(Error::bug("rows outside a transaction")) };
                let catching_up = self.writer.origin() == Origin::CatchUp;
                let batch = self.writer.batch();
                let index = batch.table(&plan.schema);
                let width = plan.schema.columns.len();
                let whole_before = rows.before.is_none_or(|columns| columns.is_full());
                let whole_after = rows.after.is_none_or(|columns| columns.is_full());
                let mut scan =
                    rows.scan(&plan.rows, base).map_err(|error| wrong_row(error, &plan.schema, &self.place))?;
                loop {
                    let start = batch.cells_start();
                    let more = scan.next(batch.cells_mut());
                    if !more.map_err(|error| wrong_row(error, &plan.schema, &self.place))? {
                        break;
                    }
                    group.ordinal += 1;
                    match rows.kind {
                        RowsKind::Write => batch.insert(index, start, group.ordinal),
                        RowsKind::Delete => batch.delete(index, start, !whole_before, group.ordinal),
                        RowsKind::Update | RowsKind::PartialUpdate => {
                            if !whole_after {
                                let cells = &batch.cells_mut()[start..];
                                let moved = |at: &u16| !cells[usize::from(*at)].is_unchanged();
                                if catching_up && plan.schema.key.iter().any(moved) {
                                    self.anew.insert((plan.schema.database.clone(), plan.schema.name.clone()));
                                }
                                complete_key(&mut batch.cells_mut()[start..], &plan.schema.key, width);
                            }
                            if let Some(frame) = apart.as_deref_mut().filter(|_| scan.has_differences()) {
                                let cells = &mut batch.cells_mut()[start..];
                                let at =
                                    || format!("reading the event before {}:{}", self.place.file, self.place.offset);
                                plan.differences(&scan, cells, frame).map_err(|error| error.context(at()))?;
                            }
                            batch.update(index, start, Some(!whole_before), group.ordinal);
                        }
                    }
                }
            }
            Target::Unwanted(Some(plan)) => {
                // Read over, because each row takes an ordinal.
                let mut none = Vec::new();
                let counted = rows.scan(plan, 0).and_then(|mut scan| {
                    while scan.next(&mut none)? {
                        group.ordinal += 1;
                    }
                    Ok(())
                });
                counted.map_err(|error| self.malformed(error))?;
            }
            // Its columns cannot be told apart: one ordinal for all its rows, as on every replay.
            Target::Unwanted(None) => group.ordinal += 1,
        }
        if let Some(group) = &mut self.group {
            self.counts.events += group.ordinal - before;
            if let Some(keep) = group.keep.as_mut().filter(|_| group.ordinal > before) {
                // Its rows come later, and these among them.
                keep.skip(group.ordinal - before);
                group.ordinal = before;
            }
        }
        if rows.flags.statement_end() {
            self.relations.unmap();
        }
        Ok(())
    }
}

fn wrong_row(error: WireError, schema: &TableSchema, place: &Place) -> Error {
    Error::data(format!("reading rows of {schema} in the event that ends at {}:{}", place.file, place.offset))
        .because(error)
}

/// A new row without its whole image has its key where the old one has it.
fn complete_key(cells: &mut [Cell], key: &[u16], width: usize) {
    for &column in key {
        let column = usize::from(column);
        if cells[column].is_unchanged() && cells[width + column] != Cell::MISSING {
            cells[column] = cells[width + column];
        }
    }
}

/// How many rows an event has.
fn count(rows: &Rows<'_>, plan: &crate::wire::mysql::row::RowPlan) -> Result<u64, WireError> {
    let (mut cells, mut count) = (Vec::new(), 0);
    let mut scan = rows.scan(plan, 0)?;
    while scan.next(&mut cells)? {
        cells.clear();
        count += 1;
    }
    Ok(count)
}
