//! From a column's definition to the functions that decode its cells.
//!
//! Invariants:
//! - A column has one data type and one name of its type, whether its cells come from the log or from a snapshot; only the
//!   functions differ, and they give equal values.
//! - What a TABLE_MAP says of a column is compared with its definition in every particular that the log has: a definition
//!   that is of another time is an error, not a wrong value.

use super::schema::{ColumnDef, ColumnType, Kind};
use crate::error::{Error, Result};
use crate::record::{Column, DataType, Decode};
use crate::wire::mysql::column::{ColumnType as Wire, Detail};
use crate::wire::mysql::value::{self, Charset, protocol};

/// How cells become values.
struct Decoding {
    data_type: DataType,
    decode: Decode,
    layout: u32,
    utf8: bool,
}

fn decoding(data_type: DataType, decode: Decode, layout: u32) -> Decoding {
    Decoding { data_type, decode, layout, utf8: false }
}

/// Characters that stand in a cell as they are.
fn utf8() -> Decoding {
    Decoding { utf8: true, ..decoding(DataType::Text, value::utf8, 0) }
}

/// The column as rows events have it. `wire`: what the TABLE_MAP says of it, see [`logged_as`].
///
/// # Errors
/// `Data`: the definition and the TABLE_MAP do not fit; a type or character set that is not known.
pub fn row_column(column: &ColumnDef, wire: (Wire, Detail)) -> Result<Column> {
    let wire = logged_as(column, wire);
    if !fits(&column.column_type, wire)? {
        return Err(Error::data(format!(
            "column {:?} is {} as far as is known, and the log has {:?} with {:?}",
            column.name, column.column_type.text, wire.0, wire.1
        )));
    }
    finish(column, true)
}

/// The column as rows events have it, where no TABLE_MAP was seen yet.
///
/// # Errors
/// `Data`: a type or character set that is not known.
pub fn logged_column(column: &ColumnDef) -> Result<Column> {
    finish(column, true)
}

/// The column as the binary protocol has it in a session with `character_set_results = NULL`, `time_zone = '+00:00'` and
/// no `PAD_CHAR_TO_FULL_LENGTH`.
///
/// # Errors
/// `Data`: a type or character set that is not known.
pub fn snapshot_column(column: &ColumnDef) -> Result<Column> {
    finish(column, false)
}

/// What the log has of a column: MariaDB's TIME, DATETIME and TIMESTAMP of the old format have digits of a fraction that
/// the TABLE_MAP does not tell, and with them another length.
pub fn logged_as(column: &ColumnDef, (wire, detail): (Wire, Detail)) -> (Wire, Detail) {
    let column_type = &*column.column_type;
    match wire {
        Wire::Time | Wire::Datetime | Wire::Timestamp if column_type.old_temporal && column_type.scale > 0 => {
            (wire, Detail::Fraction { digits: column_type.scale })
        }
        _ => (wire, detail),
    }
}

/// Labels of ENUM and SET as a TABLE_MAP has them, in UTF-8.
///
/// # Errors
/// `Data`: a collation that is not known; a label that is no text of its character set.
pub fn labels<'a>(raw: impl Iterator<Item = &'a [u8]>, collation_id: u32) -> Result<Box<[Box<str>]>> {
    let charset = Charset::of_collation_id(collation_id)
        .ok_or_else(|| Error::data(format!("collation {collation_id} is not known")))?;
    let charset = label_charset(charset);
    let mut buffer = Vec::new();
    raw.map(|label| {
        buffer.clear();
        charset.decode(label, &mut buffer).map(Into::into).map_err(|cause| Error::data("a label").because(cause))
    })
    .collect()
}

/// Labels without a character set are shown by the server as they are.
fn label_charset(charset: Charset) -> Charset {
    if charset == Charset::Binary { Charset::Utf8mb4 } else { charset }
}

fn finish(column: &ColumnDef, logged: bool) -> Result<Column> {
    let column_type = &*column.column_type;
    let mariadb_json = column.json && column_type.kind == Kind::LongText && !column_type.compressed;
    let Decoding { data_type, decode, layout, utf8 } = match logged {
        _ if mariadb_json => decoding(DataType::Json, value::json_text, charset(column_type)? as u32),
        true => of_row(column_type)?,
        false => of_protocol(column_type)?,
    };
    Ok(Column {
        name: column.name.clone(),
        data_type,
        source_type: column.column_type.text.clone(),
        nullable: column.nullable,
        decode,
        layout,
        utf8,
    })
}

fn of_row(column_type: &ColumnType) -> Result<Decoding> {
    let fraction = u32::from(column_type.scale);
    let old = column_type.old_temporal;
    let pick = |now: Decode, before: Decode| if old { before } else { now };
    Ok(match column_type.kind {
        Kind::MediumInt => {
            decoding(integer(24, column_type), if column_type.unsigned { value::uint24 } else { value::int24 }, 0)
        }
        Kind::Decimal => {
            decoding(DataType::Decimal, value::decimal, column_type.length << 8 | u32::from(column_type.scale))
        }
        Kind::Year => decoding(year(), value::year, 0),
        Kind::Date => decoding(DataType::Date, value::date, 0),
        Kind::Time => decoding(DataType::Text, pick(value::time2, value::old_time), fraction),
        Kind::DateTime => decoding(DataType::Timestamp, pick(value::datetime2, value::old_datetime), fraction),
        Kind::Timestamp => decoding(DataType::TimestampTz, pick(value::timestamp2, value::old_timestamp), fraction),
        Kind::Enum => decoding(DataType::Enum(column_type.labels.clone()), value::enumeration, 0),
        Kind::Set => decoding(DataType::Set(column_type.labels.clone()), value::set, 0),
        Kind::Json => decoding(DataType::Json, value::json, 0),
        Kind::Uuid => decoding(DataType::Uuid, value::uuid, 0),
        Kind::Inet4 => decoding(DataType::Text, value::inet4, 0),
        Kind::Inet6 => decoding(DataType::Text, value::inet6, 0),
        kind if column_type.compressed && kind.is_character() => {
            decoding(DataType::Text, value::compressed_text, charset(column_type)? as u32)
        }
        _ if column_type.compressed => decoding(DataType::Bytes, value::compressed_bytes, 0),
        _ => of_both(column_type)?,
    })
}

fn of_protocol(column_type: &ColumnType) -> Result<Decoding> {
    let fraction = u32::from(column_type.scale);
    Ok(match column_type.kind {
        // Sent as an INT.
        Kind::MediumInt => {
            decoding(integer(24, column_type), if column_type.unsigned { value::uint32 } else { value::int32 }, 0)
        }
        Kind::Decimal => decoding(DataType::Decimal, protocol::decimal, 0),
        Kind::Year => decoding(year(), protocol::year, 0),
        Kind::Date => decoding(DataType::Date, protocol::date, 0),
        Kind::Time => decoding(DataType::Text, protocol::time, fraction),
        Kind::DateTime => decoding(DataType::Timestamp, protocol::datetime, fraction),
        Kind::Timestamp => decoding(DataType::TimestampTz, protocol::timestamp, fraction),
        Kind::Enum | Kind::Set => {
            let labels = column_type.labels.clone();
            let set = column_type.kind == Kind::Set;
            let data_type = if set { DataType::Set(labels) } else { DataType::Enum(labels) };
            let charset = match column_type.collation {
                Some(_) => label_charset(charset(column_type)?),
                // MySQL shows no collation where the character set is binary.
                None => Charset::Utf8mb4,
            };
            decoding(data_type, value::label, charset as u32)
        }
        Kind::Json => decoding(DataType::Json, protocol::json, 0),
        Kind::Uuid => decoding(DataType::Uuid, protocol::uuid, 0),
        Kind::Inet4 | Kind::Inet6 => decoding(DataType::Text, value::text, Charset::Ascii as u32),
        _ => of_both(column_type)?,
    })
}

/// Types whose cells are the same in both forms.
fn of_both(column_type: &ColumnType) -> Result<Decoding> {
    let signed = |signed: Decode, unsigned: Decode| if column_type.unsigned { unsigned } else { signed };
    Ok(match column_type.kind {
        Kind::TinyInt => decoding(integer(8, column_type), signed(value::int8, value::uint8), 0),
        Kind::SmallInt => decoding(integer(16, column_type), signed(value::int16, value::uint16), 0),
        Kind::Int => decoding(integer(32, column_type), signed(value::int32, value::uint32), 0),
        Kind::BigInt => decoding(integer(64, column_type), signed(value::int64, value::uint64), 0),
        Kind::Float => decoding(DataType::Float { bits: 32 }, value::float, 0),
        Kind::Double => decoding(DataType::Float { bits: 64 }, value::double, 0),
        // Up to 64 bits.
        Kind::Bit => decoding(DataType::Int { bits: column_type.length as u8, unsigned: true }, value::bit, 0),
        Kind::Char | Kind::Varchar | Kind::TinyText | Kind::Text | Kind::MediumText | Kind::LongText => {
            match charset(column_type)? {
                Charset::Utf8mb4 | Charset::Utf8mb3 => utf8(),
                charset => decoding(DataType::Text, value::text, charset as u32),
            }
        }
        Kind::Binary => decoding(DataType::Bytes, value::binary, column_type.length),
        Kind::Vector => decoding(value::vector_type(), value::vector, 0),
        Kind::Varbinary | Kind::TinyBlob | Kind::Blob | Kind::MediumBlob | Kind::LongBlob => {
            decoding(DataType::Bytes, value::bytes, 0)
        }
        kind if kind.is_geometry() => decoding(DataType::Bytes, value::bytes, 0),
        _ => return Err(Error::data(format!("the type {} is not known", column_type.text))),
    })
}

fn integer(bits: u8, column_type: &ColumnType) -> DataType {
    DataType::Int { bits, unsigned: column_type.unsigned }
}

fn year() -> DataType {
    DataType::Int { bits: 16, unsigned: true }
}

/// The character set of a type of characters.
fn charset(column_type: &ColumnType) -> Result<Charset> {
    let collation = column_type.collation.as_deref().unwrap_or("none");
    Charset::of_collation(collation).ok_or_else(|| {
        Error::data(format!("the character set of collation {collation} of {} is not known", column_type.text))
    })
}

/// Whether a column of this type is logged so.
fn fits(column_type: &ColumnType, (wire, detail): (Wire, Detail)) -> Result<bool> {
    let fraction = || detail == Detail::Fraction { digits: column_type.scale };
    let temporal = |now: Wire, before: Wire| match column_type.old_temporal {
        false => wire == now && fraction(),
        true => wire == before && (column_type.scale == 0 || fraction()),
    };
    let bytes = |bytes: u32| matches!(detail, Detail::Length { bytes: logged } if u32::from(logged) == bytes);
    let blob = |prefix: u8| {
        let plain = matches!(wire, Wire::Blob | Wire::TinyBlob | Wire::MediumBlob | Wire::LongBlob);
        (if column_type.compressed { wire == Wire::BlobCompressed } else { plain })
            && detail == Detail::Prefix { bytes: prefix }
    };
    let characters = || charset(column_type).map(|charset| column_type.length * u32::from(charset.max_bytes()));
    let varchar = |longest: u32| match column_type.compressed {
        false => wire == Wire::Varchar && bytes(longest),
        // A byte in front says how it is compressed.
        true => wire == Wire::VarcharCompressed && bytes(longest + 1),
    };
    let width = |width: usize| detail == Detail::Width { bytes: width as u8 };
    Ok(match column_type.kind {
        Kind::TinyInt => wire == Wire::Tiny,
        Kind::SmallInt => wire == Wire::Short,
        Kind::MediumInt => wire == Wire::Int24,
        Kind::Int => wire == Wire::Long,
        Kind::BigInt => wire == Wire::LongLong,
        Kind::Decimal => {
            let known = (column_type.length, column_type.scale);
            matches!(detail, Detail::Decimal { precision, scale } if (precision.into(), scale) == known)
        }
        Kind::Float => wire == Wire::Float,
        Kind::Double => wire == Wire::Double,
        Kind::Bit => matches!(detail, Detail::Bit { bits } if u32::from(bits) == column_type.length),
        Kind::Year => wire == Wire::Year,
        Kind::Date => matches!(wire, Wire::Date | Wire::NewDate),
        Kind::Time => temporal(Wire::Time2, Wire::Time),
        Kind::DateTime => temporal(Wire::Datetime2, Wire::Datetime),
        Kind::Timestamp => temporal(Wire::Timestamp2, Wire::Timestamp),
        Kind::Char => wire == Wire::String && bytes(characters()?),
        Kind::Binary => wire == Wire::String && bytes(column_type.length),
        Kind::Varchar => varchar(characters()?),
        Kind::Varbinary => varchar(column_type.length),
        Kind::TinyText | Kind::TinyBlob => blob(1),
        Kind::Text | Kind::Blob => blob(2),
        Kind::MediumText | Kind::MediumBlob => blob(3),
        Kind::LongText | Kind::LongBlob => blob(4),
        // 255 labels in a byte.
        Kind::Enum => wire == Wire::Enum && width(if column_type.labels.len() > 255 { 2 } else { 1 }),
        // Bytes of a bit a label; 5 to 7 bytes are 8.
        Kind::Set => {
            let bytes = column_type.labels.len().div_ceil(8);
            wire == Wire::Set && width(if bytes > 4 { 8 } else { bytes })
        }
        Kind::Json => wire == Wire::Json,
        // MariaDB has it as a VARBINARY.
        Kind::Vector => wire == Wire::Vector || wire == Wire::Varchar && bytes(column_type.length * 4),
        Kind::Uuid | Kind::Inet6 => wire == Wire::String && bytes(16),
        Kind::Inet4 => wire == Wire::String && bytes(4),
        kind if kind.is_geometry() => wire == Wire::Geometry,
        _ => return Err(Error::data(format!("the type {} is not known", column_type.text))),
    })
}

#[cfg(test)]
mod tests;
