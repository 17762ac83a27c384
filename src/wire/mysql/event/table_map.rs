//! TABLE_MAP: what the rows events behind it call a number.

mod metadata;

use super::super::Reader;
use super::super::column::{ColumnType, Detail};
use super::{Bitmap, Event, Flavor};
use crate::wire::WireError;

pub use metadata::{KeyColumn, Labels, MapColumn, TableDescription};

const NAME: &str = "TABLE_MAP";

/// A table's columns as they are in the rows that follow.
///
/// Only the head is read; [`TableMap::types`] and [`TableMap::describe`] read the rest. Keep what is made of it as long as
/// [`Event::body`] stays the same: a busy table's map is sent again with every statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableMap<'a> {
    /// Changes whenever the server opens the table anew; [`super::DUMMY_TABLE_ID`] never is a table's.
    pub table_id: u64,
    pub flags: u16,
    pub database: &'a str,
    pub table: &'a str,
    /// Columns that may be NULL; as many bits as columns.
    pub nullable: Bitmap<'a>,
    flavor: Flavor,
    types: &'a [u8],
    details: &'a [u8],
    details_at: usize,
    optional: &'a [u8],
    optional_at: usize,
}

/// ```text
/// TABLE_MAP: Int6 table id, Int2 flags, Packed length of the database's name, the name, Byte1(0),
///   Packed length of the table's name, the name, Byte1(0), Packed number of columns, Int1 type of each,
///   Packed length of the types' details, those, a bitmap of the columns that may be NULL, optional metadata up to the end
/// ```
#[inline]
pub(super) fn parse<'a>(event: &Event<'a>, flavor: Flavor) -> Result<TableMap<'a>, WireError> {
    let mut reader = event.reader(NAME);
    let table_id = reader.u48()?;
    let flags = reader.u16()?;
    let database = name(&mut reader)?;
    let table = name(&mut reader)?;
    let columns = reader.packed_length()?;
    let types = reader.take(columns)?;
    let details_bytes = reader.packed_length()?;
    let details_at = reader.at();
    let details = reader.take(details_bytes)?;
    let nullable = Bitmap::new(reader.take(columns.div_ceil(8))?, columns);
    let optional_at = reader.at();
    let optional = reader.rest();
    Ok(TableMap {
        table_id,
        flags,
        database,
        table,
        nullable,
        flavor,
        types,
        details,
        details_at,
        optional,
        optional_at,
    })
}

fn name<'a>(reader: &mut Reader<'a>) -> Result<&'a str, WireError> {
    let length = reader.packed_length()?;
    let name = reader.text(length)?;
    match reader.u8()? {
        0 => Ok(name),
        other => Err(reader.wrong_last("no zero byte behind a name", other)),
    }
}

impl<'a> TableMap<'a> {
    /// How many columns the table has in the log.
    pub fn columns(&self) -> usize {
        self.types.len()
    }

    /// Each column's real type and what belongs to it, without the optional metadata.
    ///
    /// # Errors
    /// A type we do not know, details that are cut off or left over, or impossible: a DECIMAL(0,70).
    pub fn types(&self) -> Result<Vec<(ColumnType, Detail)>, WireError> {
        let mut reader = Reader::new(NAME, self.details, 0);
        let mut types = Vec::with_capacity(self.types.len());
        let shift = |error: WireError| WireError { offset: error.offset + self.details_at, ..error };
        for &code in self.types {
            types.push(detail(code, &mut reader).map_err(shift)?);
        }
        reader.end().map_err(shift)?;
        Ok(types)
    }
}

/// ```text
/// details, by type
///   FLOAT, DOUBLE: Int1 4 or 8 | VARCHAR: Int2 most bytes | BIT: Int1 bits above whole bytes, Int1 whole bytes
///   DECIMAL: Int1 precision, Int1 scale | TIMESTAMP2, DATETIME2, TIME2: Int1 digits of the fraction
///   BLOB, JSON, GEOMETRY, VECTOR: Int1 bytes of a value's length
///   STRING: for ENUM and SET Int1 their type, Int1 bytes of a value; else
///     Int1 254, its bits 4 and 5 inverted and in them bits 8 and 9 of, Int1 lower bits of: most bytes
///   others: nothing
/// ```
fn detail(code: u8, reader: &mut Reader<'_>) -> Result<(ColumnType, Detail), WireError> {
    use ColumnType as Type;
    let Some(kind) = ColumnType::from_code(code) else {
        return Err(reader.wrong("a column of an unknown type").found(code));
    };
    let detail = match kind {
        Type::Float | Type::Double => {
            let bytes = reader.u8()?;
            if bytes != if kind == Type::Float { 4 } else { 8 } {
                return Err(reader.wrong_last("a FLOAT or DOUBLE of another length than 4 or 8", bytes));
            }
            Detail::None
        }
        Type::Varchar | Type::VarcharCompressed => Detail::Length { bytes: reader.u16()? },
        Type::Bit => {
            let (rest, whole) = (reader.u8()?, reader.u8()?);
            let bits = u16::from(whole) * 8 + u16::from(rest);
            match u8::try_from(bits) {
                Ok(bits @ 1..=64) if rest < 8 => Detail::Bit { bits },
                _ => return Err(reader.wrong_last("a BIT of none or more than 64 bits", whole)),
            }
        }
        Type::NewDecimal => {
            let (precision, scale) = (reader.u8()?, reader.u8()?);
            if precision == 0 || precision > DECIMAL_MAX_PRECISION || scale > precision {
                return Err(reader.wrong_last("an impossible DECIMAL", scale));
            }
            Detail::Decimal { precision, scale }
        }
        Type::Timestamp2 | Type::Datetime2 | Type::Time2 => match reader.u8()? {
            digits @ 0..=6 => Detail::Fraction { digits },
            other => return Err(reader.wrong_last("a fraction of more than 6 digits", other)),
        },
        Type::TinyBlob
        | Type::Blob
        | Type::MediumBlob
        | Type::LongBlob
        | Type::BlobCompressed
        | Type::Json
        | Type::Geometry
        | Type::Vector => match reader.u8()? {
            bytes @ 1..=4 => Detail::Prefix { bytes },
            other => return Err(reader.wrong_last("a length of no bytes or more than 4", other)),
        },
        Type::String | Type::VarString | Type::Enum | Type::Set => return string(reader),
        // Their rows' layout is nowhere described; no server logs such a column.
        Type::TypedArray | Type::Decimal => {
            return Err(reader.wrong("a column of a type that is not logged").found(code));
        }
        _ => Detail::None,
    };
    Ok((kind, detail))
}

/// DECIMAL(65,30), the largest; MariaDB's scale goes to 38.
const DECIMAL_MAX_PRECISION: u8 = 65;

fn string(reader: &mut Reader<'_>) -> Result<(ColumnType, Detail), WireError> {
    let (first, second) = (reader.u8()?, reader.u8()?);
    let (enumeration, set) = (ColumnType::Enum.code(), ColumnType::Set.code());
    if first == enumeration || first == set {
        let kind = if first == enumeration { ColumnType::Enum } else { ColumnType::Set };
        return match (kind, second) {
            (_, 1 | 2) | (ColumnType::Set, 3 | 4 | 8) => Ok((kind, Detail::Width { bytes: second })),
            _ => Err(reader.wrong_last("an ENUM or SET of an impossible width", second)),
        };
    }
    if first | 0x30 != ColumnType::String.code() && first | 0x30 != ColumnType::VarString.code() {
        return Err(reader.wrong("a string of an unknown real type").found(first));
    }
    let bytes = u16::from(!first & 0x30) << 4 | u16::from(second);
    Ok((ColumnType::String, Detail::Length { bytes }))
}
