//! Rows of the binary protocol: where each value is, by a plan made once for a result.
//!
//! "Binary Protocol Resultset Row":
//! ```text
//! int<1> 0x00   NULL bitmap of (columns + 7 + 2) / 8 bytes, its first two bits unused   values of the columns not NULL
//! ```
//! A number takes its size; a temporal value is `int<1> length` and so many bytes (trailing zeros left out); all else is
//! `string<lenenc>`.
//!
//! Invariants:
//! - A cell holds the value alone, without its length. Nothing is copied or allocated.
//! - A row has all its columns and nothing behind them, or it is an error.

use super::column::ColumnDefinition;
use crate::record::Cell;
use crate::wire::WireError;
use crate::wire::mysql::column::ColumnType;

/// How a column's value is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Fixed(u8),
    /// One byte of length, at most 12: MYSQL_TIME.
    Temporal,
    Text,
}

/// How the rows of one result are read.
#[derive(Clone, Debug)]
pub struct RowPlan {
    columns: Box<[Layout]>,
    bitmap_bytes: usize,
}

/// The longest temporal value: a TIME with its fraction.
const MAX_TEMPORAL_BYTES: usize = 12;

const NAME: &str = "binary row";

impl RowPlan {
    /// # Errors
    /// A type that no result has: where its value ends cannot be told.
    pub fn new(columns: &[ColumnDefinition]) -> Result<RowPlan, WireError> {
        let layouts = columns.iter().map(|column| layout(column.column_type)).collect::<Result<Box<[_]>, _>>()?;
        Ok(RowPlan { bitmap_bytes: (layouts.len() + 7 + 2) / 8, columns: layouts })
    }

    pub fn columns(&self) -> usize {
        self.columns.len()
    }

    /// Appends a cell for each column, none in case of an error. `payload` is one row's packet, `base` its offset in the
    /// frame that the cells point into.
    ///
    /// # Errors
    /// A torn row, bytes left over.
    #[inline]
    pub fn scan(&self, payload: &[u8], base: usize, cells: &mut Vec<Cell>) -> Result<(), WireError> {
        let first = cells.len();
        let outcome = self.scan_into(payload, base, cells);
        if outcome.is_err() {
            cells.truncate(first);
        }
        outcome
    }

    #[inline]
    fn scan_into(&self, payload: &[u8], base: usize, cells: &mut Vec<Cell>) -> Result<(), WireError> {
        let ends = |at| WireError::new(NAME, "it ends too early", at);
        if payload.first() != Some(&0) {
            return Err(WireError::new(NAME, "it does not begin with 0", 0));
        }
        let bitmap = payload.get(1..1 + self.bitmap_bytes).ok_or_else(|| ends(1))?;
        let mut at = 1 + self.bitmap_bytes;
        cells.reserve(self.columns.len());
        for (i, layout) in self.columns.iter().enumerate() {
            let bit = i + 2;
            if bitmap[bit / 8] & (1 << (bit % 8)) != 0 {
                cells.push(Cell::NULL);
                continue;
            }
            let length = match *layout {
                Layout::Fixed(length) => usize::from(length),
                Layout::Temporal => {
                    let length = usize::from(*payload.get(at).ok_or_else(|| ends(at))?);
                    if length > MAX_TEMPORAL_BYTES {
                        return Err(WireError::new(NAME, "a date or time longer than 12 bytes", at));
                    }
                    at += 1;
                    length
                }
                Layout::Text => {
                    let (length, prefix_bytes) = text_length(&payload[at..]).ok_or_else(|| ends(at))?;
                    at += prefix_bytes;
                    length
                }
            };
            if length > payload.len() - at {
                return Err(ends(at));
            }
            cells.push(Cell::at(base + at, length));
            at += length;
        }
        if at == payload.len() { Ok(()) } else { Err(WireError::new(NAME, "bytes left over", at)) }
    }
}

/// An `int<lenenc>` and the bytes it takes.
#[inline]
fn text_length(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes {
        [length @ 0..=0xfa, ..] => Some((length.into(), 1)),
        [0xfc, a, b, ..] => Some((u16::from_le_bytes([a, b]).into(), 3)),
        [0xfd, a, b, c, ..] => Some((u32::from_le_bytes([a, b, c, 0]) as usize, 4)),
        [0xfe, a, b, c, d, e, f, g, h, ..] => {
            Some((usize::try_from(u64::from_le_bytes([a, b, c, d, e, f, g, h])).ok()?, 9))
        }
        _ => None,
    }
}

fn layout(column_type: ColumnType) -> Result<Layout, WireError> {
    use ColumnType as T;
    Ok(match column_type {
        T::Null => Layout::Fixed(0),
        T::Tiny => Layout::Fixed(1),
        T::Short | T::Year => Layout::Fixed(2),
        T::Long | T::Int24 | T::Float => Layout::Fixed(4),
        T::LongLong | T::Double => Layout::Fixed(8),
        T::Date | T::Datetime | T::Timestamp | T::Time => Layout::Temporal,
        T::Decimal
        | T::NewDecimal
        | T::Varchar
        | T::Bit
        | T::Vector
        | T::Json
        | T::Enum
        | T::Set
        | T::TinyBlob
        | T::MediumBlob
        | T::LongBlob
        | T::Blob
        | T::VarString
        | T::String
        | T::Geometry => Layout::Text,
        // Types of the log alone.
        T::NewDate
        | T::Timestamp2
        | T::Datetime2
        | T::Time2
        | T::TypedArray
        | T::BlobCompressed
        | T::VarcharCompressed => {
            let problem = "a type that no result has";
            return Err(WireError::new("column definition", problem, 0).found(column_type.code()));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::read::write_length;
    use super::*;
    use proptest::prelude::*;

    fn plan(kinds: &[ColumnType]) -> RowPlan {
        let column = |&column_type| ColumnDefinition {
            name: "c".into(),
            collation: 63,
            length: 0,
            column_type,
            flags: 0,
            decimals: 0,
        };
        RowPlan::new(&kinds.iter().map(column).collect::<Vec<_>>()).unwrap()
    }

    const KINDS: [ColumnType; 6] = [
        ColumnType::Tiny,
        ColumnType::LongLong,
        ColumnType::Datetime,
        ColumnType::Blob,
        ColumnType::Long,
        ColumnType::NewDecimal,
    ];

    fn wanted_bytes(kind: ColumnType) -> Option<usize> {
        match kind {
            ColumnType::Tiny => Some(1),
            ColumnType::Long => Some(4),
            ColumnType::LongLong => Some(8),
            _ => None,
        }
    }

    /// Writes a row by the manual's words.
    fn encode(row: &[(ColumnType, Option<Vec<u8>>)]) -> Vec<u8> {
        let mut bitmap = vec![0u8; (row.len() + 9) / 8];
        let mut values = Vec::new();
        for (i, (kind, value)) in row.iter().enumerate() {
            let Some(value) = value else {
                bitmap[(i + 2) / 8] |= 1 << ((i + 2) % 8);
                continue;
            };
            if wanted_bytes(*kind).is_none() {
                write_length(value.len() as u64, &mut values);
            }
            values.extend_from_slice(value);
        }
        [vec![0], bitmap, values].concat()
    }

    fn row() -> impl Strategy<Value = Vec<(ColumnType, Option<Vec<u8>>)>> {
        let column = (0..KINDS.len()).prop_flat_map(|i| {
            let kind = KINDS[i];
            let length = match wanted_bytes(kind) {
                Some(bytes) => bytes..bytes + 1,
                None if kind == ColumnType::Datetime => 0..12,
                None => 0..400,
            };
            (Just(kind), prop::option::of(prop::collection::vec(any::<u8>(), length)))
        });
        prop::collection::vec(column, 0..20)
    }

    #[test]
    fn a_type_of_the_log_is_refused() {
        assert!(layout(ColumnType::Timestamp2).is_err());
    }

    proptest! {
        #[test]
        fn every_value_is_found(row in row(), base in 0usize..100) {
            let payload = encode(&row);
            let plan = plan(&row.iter().map(|(kind, _)| *kind).collect::<Vec<_>>());
            let mut cells = Vec::new();
            plan.scan(&payload, base, &mut cells).unwrap();
            prop_assert_eq!(cells.len(), row.len());
            for (cell, (_, value)) in cells.iter().zip(&row) {
                let found = cell.range().map(|(offset, len)| payload[offset - base..][..len].to_vec());
                prop_assert_eq!(found, value.clone());
            }
            for end in 0..payload.len() {
                prop_assert!(plan.scan(&payload[..end], base, &mut cells).is_err());
            }
            prop_assert!(plan.scan(&[payload, vec![0]].concat(), base, &mut cells).is_err());
            prop_assert_eq!(cells.len(), row.len());
        }

        #[test]
        fn never_panics(payload in prop::collection::vec(any::<u8>(), 0..60), kinds in prop::collection::vec(0usize..6, 0..8)) {
            let plan = plan(&kinds.into_iter().map(|i| KINDS[i]).collect::<Vec<_>>());
            let mut cells = Vec::new();
            let mut payload = payload;
            let _ = plan.scan(&payload, 0, &mut cells);
            payload.insert(0, 0);
            let _ = plan.scan(&payload, 0, &mut cells);
        }
    }
}
