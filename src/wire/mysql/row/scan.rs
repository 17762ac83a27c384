//! The scan of one event's rows.

use super::RowPlan;
use super::plan::Step;
use crate::record::Cell;
use crate::wire::WireError;
use crate::wire::mysql::event::{Bitmap, Rows, RowsKind};
use crate::wire::mysql::reader::Reader;

/// The rows of one event, one after the other.
///
/// ```text
/// row: for updates and deletes the old row's image; for updates and inserts the new row's
///   PARTIAL_UPDATE_ROWS has between them Packed options, and with option 1 a bitmap with a bit for each JSON column of the
///   table: its new value is a list of differences
/// image: a bitmap with a bit for each column it has: the value is NULL; then the values of the others
/// ```
#[derive(Clone, Debug)]
pub struct RowScan<'a, 'p> {
    plan: &'p RowPlan,
    event: &'a [u8],
    at: usize,
    /// Where the event is in the frame that the cells are to point into.
    base: usize,
    kind: RowsKind,
    before: Option<Columns<'a>>,
    after: Option<Columns<'a>>,
    /// One row without a column and so without a byte is still to come: MySQL logs `INSERT INTO t VALUES ()` so under a
    /// minimal image, and refuses to log several of them.
    bare: bool,
    /// The last row's bitmap of differences.
    differences: Bitmap<'a>,
}

/// Which columns an image has.
#[derive(Clone, Copy, Debug)]
struct Columns<'a> {
    present: Bitmap<'a>,
    full: bool,
    null_bytes: usize,
    /// What the cells of the others are.
    absent: Cell,
}

impl<'a> Columns<'a> {
    fn new(present: Bitmap<'a>, absent: Cell) -> Self {
        let full = present.is_full();
        let count = if full { present.len() } else { present.count() };
        Columns { present, full, null_bytes: count.div_ceil(8), absent }
    }
}

/// One more than a cell's largest offset.
const CELL_MAX_OFFSET: usize = u32::MAX as usize;

/// PARTIAL_JSON_UPDATES, the only value option.
const OPTION_PARTIAL_JSON: u64 = 1;

impl<'a> Rows<'a> {
    /// Begins to read the rows. `base`: where this event is in the frame that the cells are to point into.
    ///
    /// A cell whose column an image does not have is [`Cell::UNCHANGED`] in a new row of an update, [`Cell::MISSING`] in
    /// an old row; so is a cell that no column goes to, and in an inserted row both are [`Cell::MISSING`].
    ///
    /// # Errors
    /// Another number of columns than the plan's, a frame beyond 4 GiB.
    #[inline]
    pub fn scan<'p>(&self, plan: &'p RowPlan, base: usize) -> Result<RowScan<'a, 'p>, WireError> {
        let (event, at) = (self.event(), self.rows_at());
        // A cell's offset is 32 bits wide; checked here once, so that no cell needs a check.
        if base.checked_add(event.len()).is_none_or(|end| end >= CELL_MAX_OFFSET) {
            return Err(WireError::new(self.kind.name(), "ends beyond 4 GiB of its frame", event.len()));
        }
        if self.columns != plan.columns() {
            return Err(WireError::new(self.kind.name(), "another number of columns than its TABLE_MAP has", at));
        }
        let new_absent = if self.kind == RowsKind::Write { Cell::MISSING } else { Cell::UNCHANGED };
        let before = self.before.map(|present| Columns::new(present, Cell::MISSING));
        let after = self.after.map(|present| Columns::new(present, new_absent));
        let bare = at == event.len() && before.iter().chain(&after).all(|columns| columns.null_bytes == 0);
        Ok(RowScan { plan, event, at, base, kind: self.kind, before, after, bare, differences: Bitmap::new(&[], 0) })
    }
}

impl RowScan<'_, '_> {
    /// Adds the next row's cells: of an update the new row's, then the old row's; else the only one's. False: there are no
    /// more rows, and nothing was added.
    ///
    /// # Errors
    /// A value longer than the event, an image that is cut off. No cell is added then.
    #[inline]
    pub fn next(&mut self, cells: &mut Vec<Cell>) -> Result<bool, WireError> {
        if self.at == self.event.len() && !self.bare {
            return Ok(false);
        }
        let (start, at) = (cells.len(), self.at);
        self.row(cells).inspect_err(|_| cells.truncate(start))?;
        if self.at == at && !std::mem::take(&mut self.bare) {
            // Else there would be no end of them.
            cells.truncate(start);
            return Err(self.wrong("bytes left over behind rows without columns", at));
        }
        Ok(true)
    }

    /// Where in the event the next row begins.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether any cell of the last row is a list of differences; see [`RowScan::is_difference`].
    pub fn has_differences(&self) -> bool {
        !self.differences.is_empty()
    }
    /// Whether in the last row the new value of a JSON column (its index in the table) is not the value but a list of
    /// differences to the old one.
    pub fn is_difference(&self, column: usize) -> bool {
        self.plan.json.binary_search(&column).is_ok_and(|nth| self.differences.get(nth))
    }

    #[cold]
    fn wrong(&self, problem: &'static str, at: usize) -> WireError {
        WireError::new(self.kind.name(), problem, at)
    }

    #[inline]
    fn row(&mut self, cells: &mut Vec<Cell>) -> Result<(), WireError> {
        let (start, outputs) = (cells.len(), self.plan.outputs);
        match (self.before, self.after) {
            (None, Some(columns)) | (Some(columns), None) => {
                // One more: the cell of what nobody wants.
                cells.resize(start + outputs + 1, columns.absent);
                self.at = self.image(&columns, self.at, &mut cells[start..])?;
                cells.truncate(start + outputs);
            }
            (Some(before), Some(after)) => {
                cells.resize(start + outputs, after.absent);
                cells.resize(start + 2 * outputs + 1, before.absent);
                // The old row comes first in the log. Each image's unwanted values go to the cell behind it, and the old
                // row's cells are written first, so its first cell has to be kept aside from the new row's.
                let mut at = self.image(&before, self.at, &mut cells[start + outputs..])?;
                let first_old = cells[start + outputs];
                if self.kind == RowsKind::PartialUpdate {
                    at = self.shared_image(at)?;
                }
                self.at = self.image(&after, at, &mut cells[start..start + outputs + 1])?;
                cells[start + outputs] = first_old;
                cells.truncate(start + 2 * outputs);
            }
            (None, None) => return Err(self.wrong("neither old nor new rows", self.at)),
        }
        Ok(())
    }

    fn shared_image(&mut self, at: usize) -> Result<usize, WireError> {
        let mut reader = Reader::new(self.kind.name(), self.event, at);
        self.differences = match reader.packed()? {
            0 => Bitmap::new(&[], 0),
            OPTION_PARTIAL_JSON => {
                let bits = self.plan.json.len();
                Bitmap::new(reader.take(bits.div_ceil(8))?, bits)
            }
            _ => return Err(reader.wrong("unknown value options")),
        };
        Ok(reader.at())
    }

    /// Writes the image's cells over `cells`, which are `absent` and one more than the outputs; returns where it ends.
    #[inline]
    fn image(&self, columns: &Columns<'_>, at: usize, cells: &mut [Cell]) -> Result<usize, WireError> {
        let values = at + columns.null_bytes;
        let Some(nulls) = self.event.get(at..values) else { return Err(self.wrong("truncated", at)) };
        if !columns.full {
            return self.partial_image(columns, nulls, values, cells);
        }
        let mut at = values;
        let mut null_bits = 0;
        for (index, step) in self.plan.steps.iter().enumerate() {
            if index % 8 == 0 {
                null_bits = u32::from(nulls[index / 8]);
            }
            let cell = if null_bits & 1 == 1 { Cell::NULL } else { self.value(step, &mut at)? };
            null_bits >>= 1;
            cells[usize::from(step.output)] = cell;
        }
        Ok(at)
    }

    /// An image without all columns (`binlog_row_image` MINIMAL or NOBLOB).
    fn partial_image(
        &self,
        columns: &Columns<'_>,
        nulls: &[u8],
        mut at: usize,
        cells: &mut [Cell],
    ) -> Result<usize, WireError> {
        let nulls = Bitmap::new(nulls, nulls.len() * 8);
        let mut nth = 0;
        for (index, step) in self.plan.steps.iter().enumerate() {
            if !columns.present.get(index) {
                continue;
            }
            cells[usize::from(step.output)] = if nulls.get(nth) { Cell::NULL } else { self.value(step, &mut at)? };
            nth += 1;
        }
        Ok(at)
    }

    #[inline(always)]
    fn value(&self, step: &Step, at: &mut usize) -> Result<Cell, WireError> {
        let word = match self.event.get(*at..).and_then(<[u8]>::first_chunk) {
            Some(&word) => u32::from_le_bytes(word),
            None => self.last_word(*at),
        };
        let start = *at + usize::from(step.prefix);
        let length = (word & step.mask) as usize + usize::from(step.fixed);
        let end = start + length;
        if end > self.event.len() {
            return Err(self.wrong("a value longer than the event", *at));
        }
        *at = end;
        Ok(Cell::at(self.base + start, length))
    }

    /// The last bytes of the event, with zeros behind them.
    #[cold]
    fn last_word(&self, at: usize) -> u32 {
        self.event.get(at..).unwrap_or_default().iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
    }
}
