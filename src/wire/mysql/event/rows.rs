//! WRITE_ROWS, UPDATE_ROWS, DELETE_ROWS, versions 1 and 2, and PARTIAL_UPDATE_ROWS: their heads.

use super::{Event, EventType};
use crate::wire::WireError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsKind {
    Write,
    Update,
    /// As [`RowsKind::Update`], but a JSON column's new value may be only what changed of it.
    PartialUpdate,
    Delete,
}

impl RowsKind {
    #[inline]
    pub(super) fn of(kind: EventType) -> Option<RowsKind> {
        Some(match kind {
            EventType::WRITE_ROWS | EventType::WRITE_ROWS_V1 => RowsKind::Write,
            EventType::UPDATE_ROWS | EventType::UPDATE_ROWS_V1 => RowsKind::Update,
            EventType::DELETE_ROWS | EventType::DELETE_ROWS_V1 => RowsKind::Delete,
            EventType::PARTIAL_UPDATE_ROWS => RowsKind::PartialUpdate,
            _ => return None,
        })
    }

    pub(in crate::wire::mysql) fn name(self) -> &'static str {
        match self {
            RowsKind::Write => "WRITE_ROWS",
            RowsKind::Update => "UPDATE_ROWS",
            RowsKind::PartialUpdate => "PARTIAL_UPDATE_ROWS",
            RowsKind::Delete => "DELETE_ROWS",
        }
    }
}

/// The table id of an event without rows that only ends a statement.
pub const DUMMY_TABLE_ID: u64 = 0xff_ffff;

/// Bits we do not know are ignored, as servers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsFlags(pub u16);

impl RowsFlags {
    /// The statement ends here; the TABLE_MAPs before it no longer count.
    pub fn statement_end(self) -> bool {
        self.0 & 0x1 != 0
    }
    pub fn no_foreign_key_checks(self) -> bool {
        self.0 & 0x2 != 0
    }
}

/// One bit a column; the first column is the lowest bit of the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bitmap<'a> {
    bytes: &'a [u8],
    bits: usize,
}

impl<'a> Bitmap<'a> {
    /// `bytes` holds at least `bits` bits.
    pub(in crate::wire::mysql) fn new(bytes: &'a [u8], bits: usize) -> Self {
        debug_assert!(bytes.len() * 8 >= bits);
        Bitmap { bytes, bits }
    }

    pub fn len(&self) -> usize {
        self.bits
    }
    pub fn is_empty(&self) -> bool {
        self.bits == 0
    }
    /// False beyond the end.
    #[inline]
    pub fn get(&self, bit: usize) -> bool {
        bit < self.bits && self.bytes.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }
    pub fn count(&self) -> usize {
        (0..self.bits).filter(|&bit| self.get(bit)).count()
    }
    /// Every bit is set. What stands behind the last one does not count.
    #[inline]
    pub fn is_full(&self) -> bool {
        let (whole, rest) = (self.bits / 8, self.bits % 8);
        let mask = (1_u8 << rest) - 1;
        self.bytes.iter().take(whole).all(|&byte| byte == 0xff)
            && (rest == 0 || self.bytes.get(whole).is_some_and(|byte| byte & mask == mask))
    }
}

/// Rows of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows<'a> {
    pub kind: RowsKind,
    pub table_id: u64,
    pub flags: RowsFlags,
    /// Columns of the table, as its TABLE_MAP has them.
    pub columns: usize,
    /// Columns that the images of old rows have; none of them for [`RowsKind::Write`].
    pub before: Option<Bitmap<'a>>,
    /// Columns that the images of new rows have; none of them for [`RowsKind::Delete`].
    pub after: Option<Bitmap<'a>>,
    /// The partition that the rows are in (of an update: the new rows), where the server says.
    pub partition: Option<u16>,
    /// Of an update, the partition that the old rows were in.
    pub source_partition: Option<u16>,
    event: &'a [u8],
    rows_at: usize,
}

impl<'a> Rows<'a> {
    /// The whole event: what offsets of rows count in.
    pub(in crate::wire::mysql) fn event(&self) -> &'a [u8] {
        self.event
    }
    /// Where in the event the first row begins.
    pub fn rows_at(&self) -> usize {
        self.rows_at
    }
}

/// ```text
/// Int6 table id, Int2 flags; version 2: Int2 length of extra data, these 2 bytes included, and as long as there is some
///     Int1 0: NDB's, Int1 length, this byte included, Int1 format, bytes
///     Int1 1: Int2 partition id, and for updates Int2 the old rows' partition id
/// Packed number of columns, a bitmap of the columns in the image; for updates a second one, for the new rows
/// then rows up to the end
/// ```
#[inline]
pub(super) fn parse<'a>(event: &Event<'a>, kind: RowsKind) -> Result<Rows<'a>, WireError> {
    let mut reader = event.reader(kind.name());
    let table_id = reader.u48()?;
    let flags = RowsFlags(reader.u16()?);
    let version_1 =
        matches!(event.header.kind, EventType::WRITE_ROWS_V1 | EventType::UPDATE_ROWS_V1 | EventType::DELETE_ROWS_V1);
    let update = matches!(kind, RowsKind::Update | RowsKind::PartialUpdate);
    let (mut partition, mut source_partition) = (None, None);
    if !version_1 {
        let Some(extra) = usize::from(reader.u16()?).checked_sub(2) else {
            return Err(reader.wrong("extra data shorter than its own length"));
        };
        let end = reader.at() + extra;
        while reader.at() < end {
            match reader.u8()? {
                0 => {
                    let Some(more) = usize::from(reader.u8()?).checked_sub(1) else {
                        return Err(reader.wrong("extra data shorter than its own length"));
                    };
                    reader.take(more)?;
                }
                1 => {
                    partition = Some(reader.u16()?);
                    source_partition = if update { Some(reader.u16()?) } else { None };
                }
                // Its length is not known, but the whole's is.
                _ => {
                    reader.take(end.saturating_sub(reader.at()))?;
                }
            }
        }
        if reader.at() != end {
            return Err(reader.wrong("extra data longer than it says"));
        }
    }
    let columns = reader.packed()?;
    let bitmap_bytes = usize::try_from(columns.div_ceil(8)).map_err(|_| reader.wrong("truncated"))?;
    let columns = columns as usize;
    let first = Bitmap::new(reader.take(bitmap_bytes)?, columns);
    let second = if update { Some(Bitmap::new(reader.take(bitmap_bytes)?, columns)) } else { None };
    let (before, after) = match kind {
        RowsKind::Write => (None, Some(first)),
        RowsKind::Delete => (Some(first), None),
        RowsKind::Update | RowsKind::PartialUpdate => (Some(first), second),
    };
    Ok(Rows {
        kind,
        table_id,
        flags,
        columns,
        before,
        after,
        partition,
        source_partition,
        event: event.bytes(),
        rows_at: reader.at(),
    })
}
