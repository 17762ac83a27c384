//! TABLE_MAP's optional metadata: names, signs, character sets, labels, keys.

use super::super::super::Reader;
use super::super::super::column::{ColumnType, Detail};
use super::super::Flavor;
use super::{NAME, TableMap};
use crate::wire::WireError;

/// All that a TABLE_MAP says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDescription<'a> {
    pub columns: Vec<MapColumn<'a>>,
    /// The primary key's columns in the key's order; none where the server does not log it or there is none.
    pub key: Vec<KeyColumn>,
}

impl TableDescription<'_> {
    /// Names, keys and labels were logged: `binlog_row_metadata=FULL`.
    pub fn is_full(&self) -> bool {
        self.columns.first().is_some_and(|column| column.name.is_some())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyColumn {
    /// Index of the table's column.
    pub column: usize,
    /// Characters or bytes of the column that are in the key; none: all of it.
    pub prefix: Option<u64>,
}

/// A column; what is optional is `None` where the server did not log it or the type has no such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapColumn<'a> {
    pub kind: ColumnType,
    pub detail: Detail,
    pub nullable: bool,
    /// Of numbers; a YEAR's means nothing. Logged with `binlog_row_metadata` MINIMAL too; MariaDB's NO_LOG leaves it out.
    pub unsigned: Option<bool>,
    /// Collation id of CHAR, VARCHAR, TEXT (63: BINARY, VARBINARY, BLOB); of ENUM and SET only with full metadata.
    pub collation: Option<u16>,
    pub name: Option<&'a str>,
    /// Of ENUM and SET, in the column's character set.
    pub labels: Option<Labels<'a>>,
    /// Of GEOMETRY: 0 geometry, 1 point, 2 linestring, 3 polygon, 4 to 6 multi…, 7 geometrycollection.
    pub geometry: Option<u8>,
    /// False for INVISIBLE columns; MySQL only.
    pub visible: Option<bool>,
    /// Of VECTOR.
    pub dimensions: Option<u32>,
}

/// The labels of an ENUM or SET, the first one's number being 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels<'a> {
    /// Checked.
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Labels<'a> {
    pub fn len(&self) -> usize {
        self.count
    }
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut reader = Reader::new(NAME, self.bytes, 0);
        // Read once before, so that none of them fails.
        (0..self.count).map_while(move |_| label(&mut reader).ok())
    }
}

fn label<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
    let length = reader.packed_length()?;
    reader.take(length)
}

/// Fields by their numbers.
mod field {
    pub(super) const SIGNEDNESS: u8 = 1;
    pub(super) const DEFAULT_CHARSET: u8 = 2;
    pub(super) const COLUMN_CHARSET: u8 = 3;
    pub(super) const COLUMN_NAME: u8 = 4;
    pub(super) const SET_LABELS: u8 = 5;
    pub(super) const ENUM_LABELS: u8 = 6;
    pub(super) const GEOMETRY_TYPE: u8 = 7;
    pub(super) const SIMPLE_PRIMARY_KEY: u8 = 8;
    pub(super) const PRIMARY_KEY_WITH_PREFIX: u8 = 9;
    pub(super) const LABEL_DEFAULT_CHARSET: u8 = 10;
    pub(super) const LABEL_COLUMN_CHARSET: u8 = 11;
    pub(super) const VISIBILITY: u8 = 12;
    pub(super) const DIMENSIONS: u8 = 13;
}

impl<'a> TableMap<'a> {
    /// Reads everything.
    ///
    /// ```text
    /// optional metadata: fields of Int1 type, Packed length, and by type, for the columns it is about in their order
    ///   1 signedness of numbers: bits, the highest first, 1 is unsigned
    ///   2, 10 character sets of texts, of ENUMs and SETs: Packed default, then (Packed index among them, Packed collation)
    ///   3, 11 the same: Packed collation of each
    ///   4 names of all columns: Packed length, Byten name | 5, 6 labels of SETs, of ENUMs: Packed count, each as a name
    ///   7 geometry types: Packed | 8 primary key: Packed index of each column | 9 the same with Packed prefix, 0 for none
    ///   12 visibility of all columns: bits, the highest first, 1 is visible | 13 dimensions of VECTORs: Packed
    ///   others are new and skipped
    /// ```
    ///
    /// # Errors
    /// As [`TableMap::types`]; a field about more or fewer columns than there are of its kind, a name that is not UTF-8.
    pub fn describe(&self) -> Result<TableDescription<'a>, WireError> {
        let columns = self.types()?.into_iter().enumerate().map(|(index, (kind, detail))| MapColumn {
            kind,
            detail,
            nullable: self.nullable.get(index),
            unsigned: None,
            collation: None,
            name: None,
            labels: None,
            geometry: None,
            visible: None,
            dimensions: None,
        });
        let mut description = TableDescription { columns: columns.collect(), key: Vec::new() };
        self.read_fields(&mut description)
            .map_err(|error| WireError { offset: error.offset + self.optional_at, ..error })?;
        Ok(description)
    }

    fn read_fields(&self, description: &mut TableDescription<'a>) -> Result<(), WireError> {
        let mut reader = Reader::new(NAME, self.optional, 0);
        let columns = &mut description.columns;
        let text = match self.flavor {
            Flavor::MySql => is_text_of_mysql,
            Flavor::MariaDb => is_text_of_mariadb,
        };
        while !reader.is_empty() {
            let field = reader.u8()?;
            let length = reader.packed_length()?;
            let mut value = Reader::new(NAME, &self.optional[..reader.at() + length], reader.at());
            reader.take(length)?;
            match field {
                field::SIGNEDNESS => {
                    let numbers = columns.iter_mut().filter(|column| is_number(column.kind));
                    bits(&mut value, numbers, |column, unsigned| column.unsigned = Some(unsigned))?;
                }
                field::DEFAULT_CHARSET => default_charset(&mut value, columns, text)?,
                field::COLUMN_CHARSET => column_charset(&mut value, columns, text)?,
                field::LABEL_DEFAULT_CHARSET => default_charset(&mut value, columns, is_labelled)?,
                field::LABEL_COLUMN_CHARSET => column_charset(&mut value, columns, is_labelled)?,
                field::COLUMN_NAME => {
                    for column in columns.iter_mut() {
                        let length = value.packed_length()?;
                        column.name = Some(value.text(length)?);
                    }
                }
                field::SET_LABELS => labels(&mut value, columns, ColumnType::Set)?,
                field::ENUM_LABELS => labels(&mut value, columns, ColumnType::Enum)?,
                field::GEOMETRY_TYPE => {
                    for column in columns.iter_mut().filter(|column| column.kind == ColumnType::Geometry) {
                        column.geometry = Some(narrow(&mut value)?);
                    }
                }
                field::SIMPLE_PRIMARY_KEY | field::PRIMARY_KEY_WITH_PREFIX => {
                    description.key = key(&mut value, field, columns.len())?;
                }
                field::VISIBILITY => {
                    bits(&mut value, columns.iter_mut(), |column, visible| column.visible = Some(visible))?;
                }
                field::DIMENSIONS => {
                    for column in columns.iter_mut().filter(|column| column.kind == ColumnType::Vector) {
                        column.dimensions = Some(narrow(&mut value)?);
                    }
                }
                _ => {
                    value.rest();
                }
            }
            value.end()?;
        }
        Ok(())
    }
}

/// A YEAR is among them, though the manual does not say so; what its bit says depends on the server.
fn is_number(kind: ColumnType) -> bool {
    use ColumnType as Type;
    matches!(
        kind,
        Type::Tiny
            | Type::Short
            | Type::Int24
            | Type::Long
            | Type::LongLong
            | Type::Year
            | Type::Float
            | Type::Double
            | Type::NewDecimal
    )
}

fn is_text(kind: ColumnType) -> bool {
    use ColumnType as Type;
    matches!(
        kind,
        Type::String
            | Type::VarString
            | Type::Varchar
            | Type::VarcharCompressed
            | Type::TinyBlob
            | Type::Blob
            | Type::MediumBlob
            | Type::LongBlob
            | Type::BlobCompressed
    )
}

/// Each server counts some of its own among the texts, as the binary strings they are to it: MySQL its VECTOR, MariaDB its
/// GEOMETRY.
fn is_text_of_mysql(kind: ColumnType) -> bool {
    is_text(kind) || kind == ColumnType::Vector
}

fn is_text_of_mariadb(kind: ColumnType) -> bool {
    is_text(kind) || kind == ColumnType::Geometry
}

fn is_labelled(kind: ColumnType) -> bool {
    matches!(kind, ColumnType::Enum | ColumnType::Set)
}

fn narrow<T: TryFrom<u64>>(reader: &mut Reader<'_>) -> Result<T, WireError> {
    T::try_from(reader.packed()?).map_err(|_| reader.wrong("a number too large for its field"))
}

fn bits<'c, 'a: 'c>(
    value: &mut Reader<'_>,
    columns: impl Iterator<Item = &'c mut MapColumn<'a>>,
    set: impl Fn(&mut MapColumn<'a>, bool),
) -> Result<(), WireError> {
    let mut byte = 0;
    for (index, column) in columns.enumerate() {
        if index % 8 == 0 {
            byte = value.u8()?;
        }
        set(column, byte << (index % 8) & 0x80 != 0);
    }
    Ok(())
}

fn default_charset(
    value: &mut Reader<'_>,
    columns: &mut [MapColumn<'_>],
    applies: fn(ColumnType) -> bool,
) -> Result<(), WireError> {
    let default = narrow(value)?;
    let mut columns: Vec<&mut MapColumn<'_>> = columns.iter_mut().filter(|column| applies(column.kind)).collect();
    for column in &mut columns {
        column.collation = Some(default);
    }
    while !value.is_empty() {
        let index: usize = narrow(value)?;
        let Some(column) = columns.get_mut(index) else { return Err(value.wrong("a column that the table has not")) };
        column.collation = Some(narrow(value)?);
    }
    Ok(())
}

fn column_charset(
    value: &mut Reader<'_>,
    columns: &mut [MapColumn<'_>],
    applies: fn(ColumnType) -> bool,
) -> Result<(), WireError> {
    for column in columns.iter_mut().filter(|column| applies(column.kind)) {
        column.collation = Some(narrow(value)?);
    }
    Ok(())
}

fn labels<'a>(value: &mut Reader<'a>, columns: &mut [MapColumn<'a>], kind: ColumnType) -> Result<(), WireError> {
    for column in columns.iter_mut().filter(|column| column.kind == kind) {
        let count = narrow(value)?;
        let start = value.clone();
        for _ in 0..count {
            label(value)?;
        }
        let bytes = start.clone().take(value.at() - start.at())?;
        column.labels = Some(Labels { bytes, count });
    }
    Ok(())
}

fn key(value: &mut Reader<'_>, field: u8, columns: usize) -> Result<Vec<KeyColumn>, WireError> {
    let mut key = Vec::new();
    while !value.is_empty() {
        let column = narrow(value)?;
        if column >= columns {
            return Err(value.wrong("a column that the table has not"));
        }
        let prefix = if field == field::PRIMARY_KEY_WITH_PREFIX { value.packed()? } else { 0 };
        key.push(KeyColumn { column, prefix: (prefix > 0).then_some(prefix) });
    }
    Ok(key)
}
