//! Insert, Update and Delete: the messages that carry tuples.

use crate::record::Cell;
use crate::wire::WireError;

/// Which columns a table's tuples have on the wire, compiled once per Relation message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TupleShape {
    columns: usize,
    kept: usize,
    /// Which columns to keep; None: all of them.
    keep: Option<Box<[bool]>>,
    key: Box<[bool]>,
}

impl TupleShape {
    /// `columns`: for each column of the Relation message, whether it is part of the replica identity and whether it is
    /// kept. Kept columns keep their order.
    pub fn new(columns: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let (key, keep): (Vec<bool>, Vec<bool>) = columns.into_iter().unzip();
        let kept = keep.iter().filter(|&&kept| kept).count();
        TupleShape {
            columns: key.len(),
            kept,
            keep: (kept < keep.len()).then(|| keep.into_boxed_slice()),
            key: key.into_boxed_slice(),
        }
    }

    /// Cells a scanned tuple adds.
    pub fn kept(&self) -> usize {
        self.kept
    }
}

/// What a message holds of a row's old version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldTuple {
    None,
    /// Only the columns of the replica identity (`K`).
    Key,
    /// The whole row (`O`, REPLICA IDENTITY FULL).
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insert<'a> {
    pub relation: u32,
    message: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update<'a> {
    pub relation: u32,
    pub old: OldTuple,
    message: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delete<'a> {
    pub relation: u32,
    /// [`OldTuple::Key`] or [`OldTuple::Full`].
    pub old: OldTuple,
    message: &'a [u8],
}

/// Tag, relation and the byte that announces the first tuple.
const HEAD_BYTES: usize = 1 + 4 + 1;

#[inline]
fn head(name: &'static str, message: &[u8]) -> Result<(u32, u8), WireError> {
    match *message {
        [_, a, b, c, d, kind, ..] => Ok((u32::from_be_bytes([a, b, c, d]), kind)),
        _ => Err(WireError::new(name, "truncated", message.len())),
    }
}

#[cold]
fn wrong_tuple(name: &'static str, at: usize, found: u8) -> WireError {
    WireError::new(name, "no tuple of this kind belongs here", at).found(found)
}

/// ```text
/// Insert: Byte1('I'), Int32 oid of the relation, Byte1('N') new tuple, TupleData
/// ```
#[inline]
pub(super) fn insert(message: &[u8]) -> Result<Insert<'_>, WireError> {
    let (relation, kind) = head("Insert", message)?;
    match kind {
        b'N' => Ok(Insert { relation, message }),
        other => Err(wrong_tuple("Insert", HEAD_BYTES - 1, other)),
    }
}

/// ```text
/// Update: Byte1('U'), Int32 oid of the relation, optionally Byte1('K') key or Byte1('O') old tuple with TupleData,
///         Byte1('N') new tuple, TupleData
/// ```
#[inline]
pub(super) fn update(message: &[u8]) -> Result<Update<'_>, WireError> {
    let (relation, kind) = head("Update", message)?;
    let old = match kind {
        b'N' => OldTuple::None,
        b'K' => OldTuple::Key,
        b'O' => OldTuple::Full,
        other => return Err(wrong_tuple("Update", HEAD_BYTES - 1, other)),
    };
    Ok(Update { relation, old, message })
}

/// ```text
/// Delete: Byte1('D'), Int32 oid of the relation, Byte1('K') key or Byte1('O') old tuple, TupleData
/// ```
#[inline]
pub(super) fn delete(message: &[u8]) -> Result<Delete<'_>, WireError> {
    let (relation, kind) = head("Delete", message)?;
    let old = match kind {
        b'K' => OldTuple::Key,
        b'O' => OldTuple::Full,
        other => return Err(wrong_tuple("Delete", HEAD_BYTES - 1, other)),
    };
    Ok(Delete { relation, old, message })
}

impl Insert<'_> {
    /// Adds the new row's cells. `base`: where this message is in the frame that the cells are to point into.
    ///
    /// # Errors
    /// As [`Update::scan`].
    #[inline]
    pub fn scan(&self, base: usize, shape: &TupleShape, cells: &mut Vec<Cell>) -> Result<(), WireError> {
        let scan = Scan::new("Insert", self.message, base, shape)?;
        let start = cells.len();
        cells.resize(start + shape.kept, Cell::NULL);
        scan.tuple(HEAD_BYTES, &mut cells[start..]).and_then(|end| scan.end(end)).inspect_err(|_| cells.truncate(start))
    }
}

impl Update<'_> {
    /// Adds the new row's cells and then, unless `self.old` is `None`, the old row's.
    ///
    /// A column the server did not send because it is unchanged is taken from the old row where that has it: always
    /// under FULL, else for columns of the key.
    ///
    /// # Errors
    /// A truncated tuple, another number of columns than the shape's, a value in binary form, bytes left over. No cell
    /// is added then.
    #[inline]
    pub fn scan(&self, base: usize, shape: &TupleShape, cells: &mut Vec<Cell>) -> Result<(), WireError> {
        let scan = Scan::new("Update", self.message, base, shape)?;
        let start = cells.len();
        let tuples = if self.old == OldTuple::None { 1 } else { 2 };
        cells.resize(start + tuples * shape.kept, Cell::NULL);
        let (new, old) = cells[start..].split_at_mut(shape.kept);
        self.scan_into(&scan, new, old).inspect_err(|_| cells.truncate(start))
    }

    #[inline]
    fn scan_into(&self, scan: &Scan<'_>, new: &mut [Cell], old: &mut [Cell]) -> Result<(), WireError> {
        if self.old == OldTuple::None {
            return scan.tuple(HEAD_BYTES, new).and_then(|end| scan.end(end));
        }
        let at = scan.old_tuple(self.old, HEAD_BYTES, old)?;
        match self.message.get(at) {
            Some(b'N') => {}
            Some(&other) => return Err(wrong_tuple("Update", at, other)),
            None => return Err(scan.wrong("truncated", at)),
        }
        let end = scan.tuple(at + 1, new)?;
        fill_unchanged(new, old);
        scan.end(end)
    }
}

impl Delete<'_> {
    /// Adds the old row's cells.
    ///
    /// # Errors
    /// As [`Update::scan`].
    #[inline]
    pub fn scan(&self, base: usize, shape: &TupleShape, cells: &mut Vec<Cell>) -> Result<(), WireError> {
        let scan = Scan::new("Delete", self.message, base, shape)?;
        let start = cells.len();
        cells.resize(start + shape.kept, Cell::NULL);
        scan.old_tuple(self.old, HEAD_BYTES, &mut cells[start..])
            .and_then(|end| scan.end(end))
            .inspect_err(|_| cells.truncate(start))
    }
}

/// Unchanged means that the old row has the same value; a value too long for its page is never NULL.
#[inline]
fn fill_unchanged(new: &mut [Cell], old: &[Cell]) {
    for (new, old) in new.iter_mut().zip(old) {
        if new.is_unchanged() && old.is_value() {
            *new = *old;
        }
    }
}

/// The scan of one message's tuples.
struct Scan<'a> {
    name: &'static str,
    message: &'a [u8],
    base: usize,
    shape: &'a TupleShape,
}

impl<'a> Scan<'a> {
    #[inline]
    fn new(name: &'static str, message: &'a [u8], base: usize, shape: &'a TupleShape) -> Result<Self, WireError> {
        // A cell's offset is 32 bits wide; checked here once, so that no cell needs a check. A message is at most
        // 1 GiB + 1 MiB, so its lengths stay below those that mean NULL, unchanged and missing.
        if base.checked_add(message.len()).is_none_or(|end| end >= CELL_MAX_OFFSET) {
            return Err(WireError::new(name, "ends beyond 4 GiB of its frame", message.len()));
        }
        Ok(Scan { name, message, base, shape })
    }

    #[cold]
    fn wrong(&self, problem: &'static str, at: usize) -> WireError {
        WireError::new(self.name, problem, at)
    }

    #[inline]
    fn end(&self, at: usize) -> Result<(), WireError> {
        if at == self.message.len() { Ok(()) } else { Err(self.wrong("bytes left over", at)) }
    }

    /// Scans an old tuple; in a key-only one the columns outside the key were not logged.
    #[inline]
    fn old_tuple(&self, old: OldTuple, at: usize, cells: &mut [Cell]) -> Result<usize, WireError> {
        let end = self.tuple(at, cells)?;
        if old == OldTuple::Key {
            let mut cells = cells.iter_mut();
            for (column, &key) in self.shape.key.iter().enumerate() {
                if self.shape.keep.as_ref().is_some_and(|keep| !keep[column]) {
                    continue;
                }
                if let Some(cell) = cells.next()
                    && !key
                {
                    *cell = Cell::MISSING;
                }
            }
        }
        Ok(end)
    }

    /// Writes the tuple's cells over `cells`, which are NULL and as many as the shape keeps; returns where it ends.
    ///
    /// ```text
    /// TupleData: Int16 number of columns, and for each column one of
    ///   Byte1('n') NULL | Byte1('u') unchanged TOASTed value, not sent
    ///   Byte1('t') text | Byte1('b') binary, each with Int32 length, Byten value
    /// ```
    #[inline]
    fn tuple(&self, at: usize, cells: &mut [Cell]) -> Result<usize, WireError> {
        let Some(count) = self.message.get(at..).and_then(<[u8]>::first_chunk) else {
            return Err(self.wrong("truncated", self.message.len()));
        };
        if usize::from(u16::from_be_bytes(*count)) != self.shape.columns {
            return Err(self.wrong("another number of columns than its Relation message has", at));
        }
        let mut at = at + 2;
        match &self.shape.keep {
            None => {
                for cell in cells {
                    at = self.column(at, cell)?;
                }
            }
            Some(keep) => {
                let mut cells = cells.iter_mut();
                for &kept in keep {
                    let mut dropped = Cell::NULL;
                    let cell = if kept { cells.next() } else { None };
                    at = self.column(at, cell.unwrap_or(&mut dropped))?;
                }
            }
        }
        Ok(at)
    }

    #[inline(always)]
    fn column(&self, at: usize, cell: &mut Cell) -> Result<usize, WireError> {
        let rest = self.message.get(at..).unwrap_or_default();
        match *rest {
            [b't', a, b, c, d, ref value @ ..] => {
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                if length > value.len() {
                    return Err(self.wrong("a value longer than the message", at));
                }
                *cell = Cell::at(self.base + at + 5, length);
                Ok(at + 5 + length)
            }
            [b'n', ..] => Ok(at + 1),
            [b'u', ..] => {
                *cell = Cell::UNCHANGED;
                Ok(at + 1)
            }
            // Its bytes would be taken for text.
            [b'b', ..] => Err(self.wrong("a value in binary form, which was not asked for", at)),
            [b't', ..] | [] => Err(self.wrong("truncated", at)),
            [other, ..] => Err(self.wrong("unknown kind of column", at).found(other)),
        }
    }
}

/// One more than a cell's largest offset.
const CELL_MAX_OFFSET: usize = u32::MAX as usize;
