//! What a TABLE_MAP event says of a table, compared with what is known of it.
//!
//! Invariants:
//! - Where the event names its columns (`binlog_row_metadata=FULL`) it is right: names, signs, character sets, labels and the
//!   primary key are its own, and what the history knows beyond (a longtext that is JSON, a UUID, a column that is
//!   generated) is kept of columns that agree in all of it.
//! - The key that it names is the table's; where the server took a unique index for a primary key, the event says no name
//!   of it, and it is PRIMARY where no known index can be it.
//! - Where it names none there is no PRIMARY KEY, and MySQL has no unique index that identifies a row. MariaDB looks at the
//!   first index alone: one behind it that identifies rows stays the key while all the rest is as known. Where the event
//!   shows that a statement was missed, that index may be gone, and the table has no key rather than a wrong one.
//! - Where it does not, number of columns, types, what belongs to them, NULL and all that is logged of signs and character
//!   sets must be what is known. Anything else is an error: no value comes under a name that might be another's.

use std::sync::Arc;

use super::collation::max_bytes_of;
use super::column_type::Kind;
use super::def::{ColumnDef, Generated, PlainIndex, TableDef, UniqueIndex};
use super::history::History;
use super::resolve::Setting;
use super::stored::Definition;
use crate::error::{Context, Error, Result};
use crate::record::BinlogPosition;
use crate::source::mysql::types;
use crate::wire::mysql::column::{ColumnType as Wire, Detail};
use crate::wire::mysql::event::{MapColumn, TableDescription, TableMap};
use crate::wire::mysql::value::Charset;
use crate::wire::mysql::value::charset::collation_name;

/// The definition that a TABLE_MAP's rows have.
#[derive(Clone, Debug)]
pub struct Reconciled {
    pub definition: Arc<Definition>,
    /// The one before, where the event made it another: its state is to be stored.
    pub previous: Option<Arc<Definition>>,
}

const PRIMARY: &str = "PRIMARY";

impl History {
    /// Finds the definition of a TABLE_MAP's table. `at`: its transaction.
    ///
    /// # Errors
    /// Data: the event is malformed; the table is not known, or known otherwise, and the event does not name its columns.
    pub fn reconcile(&mut self, map: &TableMap<'_>, at: &Arc<BinlogPosition>) -> Result<Reconciled> {
        let shown = || format!("{}.{}", map.database, map.table);
        let said = map.describe().data(|| format!("reading the TABLE_MAP of {}", shown()))?;
        let key = self.key(map.database, map.table);
        let known = self.known(&key).cloned();
        let agrees = match &known {
            Some(known) => disagreement(&known.table, &said, self.setting().mariadb),
            None => Some(match self.doubt(map.database, map.table) {
                Some(why) => format!("its columns are not known: {why}"),
                None => "no statement and no catalog tells of its columns".to_owned(),
            }),
        };
        let why = match (agrees, known.clone()) {
            (None, Some(definition)) => return Ok(Reconciled { definition, previous: None }),
            (Some(why), _) => why,
            (None, None) => String::new(),
        };
        if !said.is_full() {
            return Err(Error::data(format!(
                "the rows of {} in the log do not fit what is known of it: {why}",
                shown()
            ))
            .remedy(
                "SET GLOBAL binlog_row_metadata = FULL, so that the log names the columns from then on, and read the \
                     table anew",
            ));
        }
        let collation = self.database_collation(map.database).map(str::to_owned);
        let table = of_event(map, &said, known.as_deref().map(|known| &*known.table), &self.setting(), collation)
            .map_err(|error| error.context(format!("reading the columns of {} from the log", shown())))?;
        if let Some(definition) = known.clone().filter(|known| *known.table == table) {
            return Ok(Reconciled { definition, previous: None });
        }
        let definition = self.learn(key, table, Some(at));
        Ok(Reconciled { definition, previous: known })
    }
}

/// Where a definition and an event are not of the same table; `None` where they agree in all that the event says.
fn disagreement(table: &TableDef, said: &TableDescription<'_>, mariadb: bool) -> Option<String> {
    let (known, found) = (table.columns.len(), said.columns.len());
    if known != found {
        return Some(format!("{known} columns are known and {found} are logged"));
    }
    for (at, (column, said)) in table.columns.iter().zip(&said.columns).enumerate() {
        let name = &column.name;
        if let Some(logged) = said.name.filter(|logged| **logged != **name) {
            return Some(format!("column {} is known as {name:?} and logged as {logged:?}", at + 1));
        }
        if let Some(why) = column_disagreement(column, said) {
            return Some(why);
        }
    }
    if said.is_full() {
        let key: Vec<u16> = said.key.iter().map(|part| part.column as u16).collect();
        if !has_key(&table.columns, &table.unique, &key, mariadb) {
            let known = &table.key;
            return Some(format!("the key has columns {known:?} as far as is known, and {key:?} in the log"));
        }
    }
    None
}

/// Whether a table with these indexes is logged with this key: the primary key, else the first index that can take its
/// place, being whole and not NULL. MariaDB asks that of the first index alone, which one that may be NULL is where the
/// others became NOT NULL by a primary key that is gone.
fn has_key(columns: &[ColumnDef], unique: &[UniqueIndex], key: &[u16], mariadb: bool) -> bool {
    match unique.iter().find(|index| &*index.name == PRIMARY) {
        Some(primary) => *primary.columns == *key,
        None if key.is_empty() => {
            let asked = if mariadb { unique.len().min(1) } else { unique.len() };
            !unique[..asked].iter().any(|index| identifies(columns, index))
        }
        None => unique.iter().find(|index| index.may_be_key(columns)).is_some_and(|index| *index.columns == *key),
    }
}

fn identifies(columns: &[ColumnDef], index: &UniqueIndex) -> bool {
    !TableDef::chosen_key(columns, std::slice::from_ref(index)).is_empty()
}

fn column_disagreement(column: &ColumnDef, said: &MapColumn<'_>) -> Option<String> {
    let ColumnDef { name, column_type, .. } = column;
    if let Err(error) = types::row_column(column, (said.kind, said.detail)) {
        return Some(error.to_string());
    }
    if column.nullable != said.nullable {
        let (known, found) = if column.nullable { ("NULL", "NOT NULL") } else { ("NOT NULL", "NULL") };
        return Some(format!("column {name:?} is {known} as far as is known, and {found} in the log"));
    }
    if let Some(unsigned) =
        said.unsigned.filter(|_| column_type.kind.is_numeric()).filter(|u| *u != column_type.unsigned)
    {
        let sign = if unsigned { "unsigned" } else { "signed" };
        return Some(format!("column {name:?} is {} as far as is known, and {sign} in the log", column_type.text));
    }
    if let Some(id) = said.collation {
        // MariaDB says of a geometry that it is bytes.
        let known = match column_type.collation.as_deref() {
            Some(collation) => Charset::of_collation(collation),
            None => Some(Charset::Binary),
        };
        let logged = Charset::of_collation_id(id.into());
        if known != logged {
            let shown = |charset: Option<Charset>| charset.map_or("unknown", Charset::name);
            return Some(format!(
                "column {name:?} has the character set {} as far as is known, and {} (collation {id}) in the log",
                shown(known),
                shown(logged)
            ));
        }
    }
    if let (Some(raw), Some(id)) = (said.labels, said.collation) {
        match types::labels(raw.iter(), id.into()) {
            Ok(labels) if labels == column_type.labels => {}
            Ok(labels) => {
                return Some(format!(
                    "column {name:?} is {} as far as is known, and the log has {labels:?}",
                    column_type.text
                ));
            }
            Err(error) => return Some(format!("column {name:?}: {error}")),
        }
    }
    if let Some(number) = said.geometry.filter(|number| geometry(*number) != Some(column_type.kind)) {
        return Some(format!(
            "column {name:?} is {} as far as is known, and geometry type {number} in the log",
            column_type.text
        ));
    }
    if let Some(dimensions) = said.dimensions.filter(|dimensions| *dimensions != column_type.length) {
        return Some(format!(
            "column {name:?} is {} as far as is known, with {dimensions} dimensions in the log",
            column_type.text
        ));
    }
    if let Some(visible) = said.visible.filter(|visible| *visible == (column.invisible || column.hidden)) {
        let shown = if visible { "visible" } else { "invisible" };
        return Some(format!("column {name:?} is {shown} in the log and not as far as is known"));
    }
    None
}

fn geometry(number: u8) -> Option<Kind> {
    Some(match number {
        0 => Kind::Geometry,
        1 => Kind::Point,
        2 => Kind::LineString,
        3 => Kind::Polygon,
        4 => Kind::MultiPoint,
        5 => Kind::MultiLineString,
        6 => Kind::MultiPolygon,
        7 => Kind::GeometryCollection,
        _ => return None,
    })
}

/// The table as an event with full metadata has it, completed by what is known.
fn of_event(
    map: &TableMap<'_>,
    said: &TableDescription<'_>,
    known: Option<&TableDef>,
    setting: &Setting,
    database_collation: Option<String>,
) -> Result<TableDef> {
    let mut columns = Vec::with_capacity(said.columns.len());
    for column in &said.columns {
        let name = column.name.ok_or_else(|| Error::data("a column has no name in the log"))?;
        let before = known.and_then(|known| known.columns.iter().find(|before| *before.name == *name));
        columns.push(match before {
            Some(before) => {
                let adjusted = ColumnDef {
                    nullable: column.nullable,
                    invisible: column.visible.map_or(before.invisible, |visible| !visible && !before.hidden),
                    ..before.clone()
                };
                match column_disagreement(&adjusted, column) {
                    None => adjusted,
                    Some(_) => logged_column(name, column, setting)?,
                }
            }
            None => logged_column(name, column, setting)?,
        });
    }
    let place = |name: &str| columns.iter().position(|column| *column.name == *name).map(|at| at as u16);
    let key: Vec<u16> = said.key.iter().map(|part| part.column as u16).collect();
    let mut unique = Vec::new();
    for index in known.iter().flat_map(|known| &known.unique).filter(|index| &*index.name != PRIMARY) {
        let names = index.columns.iter().map(|at| known?.columns.get(usize::from(*at)));
        let places: Option<Box<[u16]>> = names.map(|column| place(&column?.name)).collect();
        unique.extend(places.map(|columns| UniqueIndex { columns, ..index.clone() }));
    }
    // What the log says is the key is the key: by its old name where an index is known that it can be.
    match unique.iter().position(|index| *index.columns == *key && index.may_be_key(&columns)) {
        Some(at) if !known.is_some_and(|known| known.unique.iter().any(|index| &*index.name == PRIMARY)) => {
            unique[..=at].rotate_right(1);
        }
        _ if key.is_empty() => unique.retain(|index| !identifies(&columns, index)),
        _ => unique.insert(
            0,
            UniqueIndex {
                name: PRIMARY.into(),
                columns: key.into(),
                prefixes: UniqueIndex::prefixes(
                    said.key
                        .iter()
                        .map(|part| part.prefix.map_or(0, |prefix| u32::try_from(prefix).unwrap_or(u32::MAX)))
                        .collect(),
                ),
                expression: false,
                hashed: false,
            },
        ),
    }
    let plain = known.iter().flat_map(|known| &known.plain).filter_map(|index| {
        let names = index.columns.iter().map(|at| known?.columns.get(usize::from(*at)));
        let columns: Option<Box<[u16]>> = names.map(|column| place(&column?.name)).collect();
        Some(PlainIndex { columns: columns?, ..index.clone() })
    });
    let plain = plain.collect();
    let of_text = || columns.iter().find_map(|column| column.column_type.collation.clone());
    let collation = match known {
        Some(known) => known.collation.clone(),
        None => database_collation.map(Into::into).or_else(of_text).unwrap_or_else(|| "utf8mb4_bin".into()),
    };
    let unique: Box<[UniqueIndex]> = unique.into();
    Ok(TableDef {
        database: known.map_or_else(|| map.database.into(), |known| known.database.clone()),
        name: known.map_or_else(|| map.table.into(), |known| known.name.clone()),
        key: TableDef::chosen_key(&columns, &unique),
        columns: columns.into(),
        unique,
        plain,
        collation,
        engine: known.map_or_else(|| "InnoDB".into(), |known| known.engine.clone()),
        system_versioned: known.is_some_and(|known| known.system_versioned),
    })
}

/// A column by the event alone.
fn logged_column(name: &str, said: &MapColumn<'_>, setting: &Setting) -> Result<ColumnDef> {
    let is_text = said.collation.is_some_and(|id| Charset::of_collation_id(id.into()) != Some(Charset::Binary));
    let by_charset = |text: Kind, bytes: Kind| if is_text { text } else { bytes };
    let collation = match said.collation {
        Some(id) => collation_name(id.into())
            .ok_or_else(|| Error::data(format!("column {name:?}: the collation {id} is not known")))?
            .into_owned(),
        None => "binary".to_owned(),
    };
    let mut labels = Vec::new();
    let mut numbers = (None, None);
    match said.detail {
        Detail::Decimal { precision, scale } => numbers = (Some(precision.into()), Some(scale.into())),
        Detail::Fraction { digits } => numbers.0 = Some(digits.into()),
        Detail::Bit { bits } => numbers.0 = Some(bits.into()),
        Detail::Length { bytes } => {
            let width = if is_text { max_bytes_of(&collation) } else { 1 };
            numbers.0 = Some(u32::from(bytes) / width);
        }
        Detail::None | Detail::Prefix { .. } | Detail::Width { .. } => {}
    }
    let blob = || match said.detail {
        Detail::Prefix { bytes: 1 } => by_charset(Kind::TinyText, Kind::TinyBlob),
        Detail::Prefix { bytes: 2 } => by_charset(Kind::Text, Kind::Blob),
        Detail::Prefix { bytes: 3 } => by_charset(Kind::MediumText, Kind::MediumBlob),
        _ => by_charset(Kind::LongText, Kind::LongBlob),
    };
    let kind = match said.kind {
        Wire::Tiny => Kind::TinyInt,
        Wire::Short => Kind::SmallInt,
        Wire::Int24 => Kind::MediumInt,
        Wire::Long => Kind::Int,
        Wire::LongLong => Kind::BigInt,
        Wire::Float => Kind::Float,
        Wire::Double => Kind::Double,
        Wire::NewDecimal => Kind::Decimal,
        Wire::Bit => Kind::Bit,
        Wire::Year => Kind::Year,
        Wire::Date | Wire::NewDate => Kind::Date,
        Wire::Time2 => Kind::Time,
        Wire::Datetime2 => Kind::DateTime,
        Wire::Timestamp2 => Kind::Timestamp,
        Wire::Varchar | Wire::VarcharCompressed => by_charset(Kind::Varchar, Kind::Varbinary),
        Wire::String | Wire::VarString => by_charset(Kind::Char, Kind::Binary),
        Wire::TinyBlob | Wire::Blob | Wire::MediumBlob | Wire::LongBlob | Wire::BlobCompressed => blob(),
        Wire::Json => Kind::Json,
        Wire::Geometry => said.geometry.and_then(geometry).unwrap_or(Kind::Geometry),
        Wire::Vector => {
            numbers.0 = said.dimensions;
            Kind::Vector
        }
        Wire::Enum | Wire::Set => {
            let raw = said.labels.ok_or_else(|| Error::data(format!("column {name:?}: its labels are not logged")))?;
            let charset = u32::from(said.collation.unwrap_or(u16::MAX));
            labels.extend(types::labels(raw.iter(), charset)?.iter().map(ToString::to_string));
            if said.kind == Wire::Enum { Kind::Enum } else { Kind::Set }
        }
        // Of the old format, whose digits the log does not tell; and what is in no row.
        other => {
            return Err(Error::data(format!("column {name:?}: what {other:?} is cannot be told from the log alone")));
        }
    };
    let compressed = matches!(said.kind, Wire::VarcharCompressed | Wire::BlobCompressed);
    let column_type =
        setting.logged_type(kind, numbers, said.unsigned.unwrap_or(false), compressed, &labels, &collation);
    Ok(ColumnDef {
        name: name.into(),
        column_type: Arc::new(column_type),
        nullable: said.nullable,
        generated: Generated::None,
        invisible: said.visible == Some(false),
        // MariaDB's own, for a unique key that is kept by a hash.
        hidden: setting.mariadb && name.starts_with("DB_ROW_HASH_"),
        auto_increment: false,
        json: false,
    })
}
