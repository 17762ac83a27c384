//! A table at one version of its shape, and how it is stored.
//!
//! Invariants:
//! - What is stored is what the catalog would say of the table: types as the server prints them, which are read again as
//!   they were read then.
//! - A newer format, and bytes that are none, are an error.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::schema::{ColumnDef, ColumnType, Generated, TableDef, UniqueIndex};
use crate::error::{Context, Error, Result};

/// The format of a stored definition.
const FORMAT: u32 = 1;

/// A table at one version of its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Ours: the same through all of its versions and names.
    pub id: u64,
    /// From 1.
    pub version: u32,
    pub table: Arc<TableDef>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    id: u64,
    version: u32,
    database: String,
    name: String,
    columns: Vec<StoredColumn>,
    key: Vec<u16>,
    unique: Vec<StoredIndex>,
    collation: String,
    engine: String,
    system_versioned: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredColumn {
    name: String,
    column_type: String,
    collation: Option<String>,
    srid: Option<u32>,
    nullable: bool,
    generated: Option<StoredGenerated>,
    invisible: bool,
    hidden: bool,
    auto_increment: bool,
    json: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredGenerated {
    Virtual,
    Stored,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredIndex {
    name: String,
    columns: Vec<u16>,
    partial: bool,
}

impl Definition {
    pub fn is_of(&self, database: &str, name: &str) -> bool {
        *self.table.database == *database && *self.table.name == *name
    }

    /// As JSON.
    ///
    /// # Errors
    /// Bug: JSON cannot hold it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let table = &*self.table;
        let column = |column: &ColumnDef| StoredColumn {
            name: column.name.to_string(),
            column_type: column.column_type.text.to_string(),
            collation: column.column_type.collation.as_deref().map(str::to_owned),
            srid: column.column_type.srid,
            nullable: column.nullable,
            generated: match column.generated {
                Generated::None => None,
                Generated::Virtual => Some(StoredGenerated::Virtual),
                Generated::Stored => Some(StoredGenerated::Stored),
            },
            invisible: column.invisible,
            hidden: column.hidden,
            auto_increment: column.auto_increment,
            json: column.json,
        };
        let index = |index: &UniqueIndex| StoredIndex {
            name: index.name.to_string(),
            columns: index.columns.to_vec(),
            partial: index.partial,
        };
        let stored = Stored {
            format: FORMAT,
            id: self.id,
            version: self.version,
            database: table.database.to_string(),
            name: table.name.to_string(),
            columns: table.columns.iter().map(column).collect(),
            key: table.key.to_vec(),
            unique: table.unique.iter().map(index).collect(),
            collation: table.collation.to_string(),
            engine: table.engine.to_string(),
            system_versioned: table.system_versioned,
        };
        serde_json::to_vec(&stored).map_err(|cause| Error::bug(format!("storing the shape of {table}")).because(cause))
    }

    /// # Errors
    /// Config: a newer format, or bytes that are no definition.
    pub fn from_bytes(bytes: &[u8]) -> Result<Definition> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let doing = || "reading a stored table shape".to_owned();
        let head: Head = serde_json::from_slice(bytes).config(doing)?;
        if head.format != FORMAT {
            return Err(Error::config(format!("{}: its format is {}, not {FORMAT}", doing(), head.format))
                .remedy("use the version of walbrook that wrote this state directory, or a newer one"));
        }
        let stored: Stored = serde_json::from_slice(bytes).config(doing)?;
        let columns = stored.columns.len();
        let beyond = |at: &u16| usize::from(*at) >= columns;
        if stored.key.iter().any(beyond) || stored.unique.iter().any(|index| index.columns.iter().any(beyond)) {
            return Err(Error::config(format!("{}: a key column is not there", doing())));
        }
        let column = |column: StoredColumn| {
            let StoredColumn { name, column_type, collation, srid, nullable, generated, .. } = column;
            ColumnDef {
                name: name.into(),
                column_type: Arc::new(ColumnType::parse(&column_type, collation.as_deref(), srid)),
                nullable,
                generated: match generated {
                    None => Generated::None,
                    Some(StoredGenerated::Virtual) => Generated::Virtual,
                    Some(StoredGenerated::Stored) => Generated::Stored,
                },
                invisible: column.invisible,
                hidden: column.hidden,
                auto_increment: column.auto_increment,
                json: column.json,
            }
        };
        let index = |index: StoredIndex| UniqueIndex {
            name: index.name.into(),
            columns: index.columns.into(),
            partial: index.partial,
        };
        let table = TableDef {
            database: stored.database.into(),
            name: stored.name.into(),
            columns: stored.columns.into_iter().map(column).collect(),
            key: stored.key.into(),
            unique: stored.unique.into_iter().map(index).collect(),
            collation: stored.collation.into(),
            engine: stored.engine.into(),
            system_versioned: stored.system_versioned,
        };
        Ok(Definition { id: stored.id, version: stored.version, table: Arc::new(table) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_back() {
        let column = |name: &str, text: &str, collation: Option<&str>, generated| ColumnDef {
            name: name.into(),
            column_type: Arc::new(ColumnType::parse(text, collation, None)),
            nullable: name == "b",
            generated,
            invisible: name == "c",
            hidden: false,
            auto_increment: name == "a",
            json: false,
        };
        let table = TableDef {
            database: "d.d".into(),
            name: "t'".into(),
            columns: [
                column("a", "bigint unsigned", None, Generated::None),
                column("b", "enum('x','y\'\'z')", Some("latin1_swedish_ci"), Generated::None),
                column("c", "decimal(65,30)", None, Generated::Stored),
            ]
            .into(),
            key: [0].into(),
            unique: [UniqueIndex { name: "PRIMARY".into(), columns: [0].into(), partial: false }].into(),
            collation: "utf8mb4_general_ci".into(),
            engine: "InnoDB".into(),
            system_versioned: true,
        };
        let definition = Definition { id: 7, version: 3, table: Arc::new(table) };
        let bytes = definition.to_bytes().unwrap();
        assert_eq!(Definition::from_bytes(&bytes).unwrap(), definition);
        let text = String::from_utf8(bytes).unwrap();
        for (from, to) in [("\"format\":1", "\"format\":2"), ("\"key\":[0]", "\"key\":[3]"), ("\"id\"", "\"od\""), ("}", "")] {
            assert!(Definition::from_bytes(text.replacen(from, to, 1).as_bytes()).is_err(), "{from}");
        }
    }
}
