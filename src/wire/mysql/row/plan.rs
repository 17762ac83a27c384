//! What a table's images look like.

use super::super::column::{ColumnType, Detail};
use super::super::event::TableMap;
use super::super::value::{decimal_bytes, old_datetime_bytes, old_time_bytes, old_timestamp_bytes};
use crate::wire::WireError;

/// How the images of a table's rows are read, and which of its columns become cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowPlan {
    pub(super) steps: Box<[Step]>,
    /// Cells of an image.
    pub(super) outputs: usize,
    /// Indexes of the JSON columns, which PARTIAL_UPDATE_ROWS counts by themselves.
    pub(super) json: Box<[usize]>,
}

/// One column's value in an image: `prefix` bytes of a length, then as many bytes as that says and `fixed` more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Which bits of the next 4 bytes are its length: 0 for a value whose length is fixed.
    pub(super) mask: u32,
    pub(super) fixed: u16,
    /// The cell it goes to; [`RowPlan::outputs`], the one behind the last, when nobody wants it.
    pub(super) output: u16,
    pub(super) prefix: u8,
}

const _: () = assert!(size_of::<Step>() == 12);

impl RowPlan {
    /// `outputs`: for each column of the table the index of its cell among `count`, or none when it is not wanted. A
    /// column beyond its end is not wanted; a cell that no column goes to is what a scan's `absent` says.
    ///
    /// # Errors
    /// As [`TableMap::types`].
    ///
    /// # Panics
    /// An index that is not below `count`.
    pub fn new(map: &TableMap<'_>, outputs: &[Option<u16>], count: u16) -> Result<RowPlan, WireError> {
        Ok(RowPlan::of_types(&map.types()?, outputs, count))
    }

    /// As [`RowPlan::new`], where more is known of the columns than a TABLE_MAP tells: a `Detail::Fraction` of MariaDB's
    /// old TIME, DATETIME and TIMESTAMP.
    ///
    /// # Panics
    /// An index that is not below `count`.
    pub fn of_types(types: &[(ColumnType, Detail)], outputs: &[Option<u16>], count: u16) -> RowPlan {
        let mut steps = Vec::with_capacity(types.len());
        let mut json = Vec::new();
        for (index, &(kind, detail)) in types.iter().enumerate() {
            let output = outputs.get(index).copied().flatten();
            assert!(output.is_none_or(|output| output < count), "a cell beyond the row's");
            let (prefix, fixed) = layout(kind, detail);
            let mask = u32::MAX.checked_shr(32 - 8 * u32::from(prefix)).unwrap_or(0);
            steps.push(Step { mask, fixed, prefix, output: output.unwrap_or(count) });
            if kind == ColumnType::Json {
                json.push(index);
            }
        }
        RowPlan { steps: steps.into(), outputs: usize::from(count), json: json.into() }
    }

    /// A plan that has a cell for every column.
    ///
    /// # Errors
    /// As [`TableMap::types`]; more columns than any table can have (4096).
    pub fn all(map: &TableMap<'_>) -> Result<RowPlan, WireError> {
        let count = u16::try_from(map.columns())
            .map_err(|_| WireError::new("TABLE_MAP", "more columns than a table can have", 0))?;
        let outputs: Vec<Option<u16>> = (0..count).map(Some).collect();
        RowPlan::new(map, &outputs, count)
    }

    /// Columns of the table.
    pub fn columns(&self) -> usize {
        self.steps.len()
    }
    /// Cells of an image.
    pub fn outputs(&self) -> usize {
        self.outputs
    }
}

/// Bytes of a value's length, and bytes that every value has.
fn layout(kind: ColumnType, detail: Detail) -> (u8, u16) {
    use ColumnType as Type;
    match (kind, detail) {
        // 30 bytes at most.
        (_, Detail::Decimal { precision, scale }) => (0, decimal_bytes(precision, scale) as u16),
        (_, Detail::Bit { bits }) => (0, u16::from(bits.div_ceil(8))),
        // Up to 255 bytes their length is one byte.
        (_, Detail::Length { bytes: 0..=255 }) => (1, 0),
        (_, Detail::Length { .. }) => (2, 0),
        (_, Detail::Prefix { bytes }) => (bytes, 0),
        (_, Detail::Width { bytes }) => (0, u16::from(bytes)),
        (Type::Timestamp, Detail::Fraction { digits }) => (0, old_timestamp_bytes(digits)),
        (Type::Datetime, Detail::Fraction { digits }) => (0, old_datetime_bytes(digits)),
        (Type::Time, Detail::Fraction { digits }) => (0, old_time_bytes(digits)),
        (_, Detail::Fraction { digits }) => {
            let whole = match kind {
                Type::Timestamp2 => 4,
                Type::Datetime2 => 5,
                _ => 3,
            };
            (0, whole + u16::from(digits.div_ceil(2)))
        }
        (Type::Tiny | Type::Year, _) => (0, 1),
        (Type::Short, _) => (0, 2),
        (Type::Int24 | Type::Date | Type::NewDate | Type::Time, _) => (0, 3),
        (Type::Long | Type::Float | Type::Timestamp, _) => (0, 4),
        (Type::LongLong | Type::Double | Type::Datetime, _) => (0, 8),
        // NULL, a value without bytes; every other type has its detail.
        _ => (0, 0),
    }
}
