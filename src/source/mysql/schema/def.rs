//! Our model of a table: what its rows events do not say.
//!
//! Invariants:
//! - Columns stand in the order of the table, which is the order of the cells of its rows events: hidden ones of the
//!   server's own that are logged are there too ([`ColumnDef::hidden`]).
//! - `key` is what InnoDB clusters by: PRIMARY KEY, else the first unique index in the server's order whose columns are
//!   all NOT NULL, whole and not virtual; empty where there is neither. MariaDB clusters by such an index only
//!   where it is the first of all.
//! - A definition is never changed: another one takes its place.

use std::sync::Arc;

use super::collation::canonical;
use super::column_type::ColumnType;

/// A table as it stood at one position of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableDef {
    pub database: Box<str>,
    pub name: Box<str>,
    pub columns: Box<[ColumnDef]>,
    /// Indexes into `columns`, in the key's order.
    pub key: Box<[u16]>,
    /// PRIMARY first, then in the server's order (SHOW INDEX): a key may be lost and another take its place.
    pub unique: Box<[UniqueIndex]>,
    /// The indexes that let rows be equal, of whatever kind: an index that is not named gets a name they do not have.
    pub plain: Box<[PlainIndex]>,
    /// The collation of columns that name none, as information_schema.TABLES.TABLE_COLLATION prints it.
    pub collation: Box<str>,
    /// As information_schema.TABLES.ENGINE prints it: `InnoDB`.
    pub engine: Box<str>,
    /// MariaDB's WITH SYSTEM VERSIONING.
    pub system_versioned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ColumnDef {
    pub name: Box<str>,
    pub column_type: Arc<ColumnType>,
    pub nullable: bool,
    pub generated: Generated,
    /// Not part of `SELECT *`.
    pub invisible: bool,
    /// Logged, but not in information_schema.COLUMNS, nor to be selected by `*`: the row's start and end of MariaDB's
    /// system versioning where the table does not name them.
    pub hidden: bool,
    /// AUTO_INCREMENT.
    pub auto_increment: bool,
    /// MariaDB's JSON: a longtext with the check json_valid on itself.
    pub json: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Generated {
    #[default]
    None,
    Virtual,
    Stored,
}

/// An index that says nothing of rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlainIndex {
    pub name: Box<str>,
    /// Indexes into the table's columns: it goes with the last of them.
    pub columns: Box<[u16]>,
    /// An expression is among its parts.
    pub expression: bool,
}

/// An index that lets no two rows be equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UniqueIndex {
    /// `PRIMARY` for the primary key.
    pub name: Box<str>,
    /// Indexes into the table's columns, in the index's order.
    pub columns: Box<[u16]>,
    /// Beside `columns`, how many characters of each count (bytes, where it has bytes), 0 for all. Empty where all do of
    /// every column.
    pub prefixes: Box<[u32]>,
    /// An expression is among its parts, which has no column.
    pub expression: bool,
    /// MariaDB keeps it by a hidden column with a hash of the values.
    pub hashed: bool,
}

impl UniqueIndex {
    /// It identifies no row by its columns: it holds the start of a value, a hash, an expression.
    pub fn is_partial(&self) -> bool {
        !self.prefixes.is_empty() || self.expression || self.hashed
    }

    /// The servers may take it for a primary key where there is none: it is whole, and no column may be NULL.
    pub(super) fn may_be_key(&self, columns: &[ColumnDef]) -> bool {
        let not_null = |at: &u16| columns.get(usize::from(*at)).is_some_and(|column| !column.nullable);
        !self.is_partial() && self.columns.iter().all(not_null)
    }

    /// `prefixes` as they are kept.
    pub(in super::super) fn prefixes(all: Vec<u32>) -> Box<[u32]> {
        if all.iter().all(|prefix| *prefix == 0) { Box::default() } else { all.into() }
    }
}

/// A row of information_schema.COLUMNS.
#[derive(Clone, Copy, Debug)]
pub struct CatalogColumn<'a> {
    /// COLUMN_NAME.
    pub name: &'a str,
    /// COLUMN_TYPE.
    pub column_type: &'a str,
    /// COLLATION_NAME.
    pub collation: Option<&'a str>,
    /// SRS_ID, which MariaDB does not have.
    pub srid: Option<u32>,
    /// IS_NULLABLE.
    pub nullable: bool,
    /// EXTRA.
    pub extra: &'a str,
    /// MariaDB: information_schema.CHECK_CONSTRAINTS has a row of level `Column` for it, whose CHECK_CLAUSE is
    /// json_valid of the column itself.
    pub json_check: bool,
}

impl ColumnDef {
    /// The column that a row of the catalog describes. Never fails: a type nobody knows is [`super::Kind::Other`].
    pub fn from_information_schema(row: &CatalogColumn<'_>) -> ColumnDef {
        let extra = row.extra.to_ascii_uppercase();
        let generated = if extra.contains("VIRTUAL GENERATED") {
            Generated::Virtual
        } else if extra.contains("STORED GENERATED") || extra.contains("PERSISTENT") {
            Generated::Stored
        } else {
            Generated::None
        };
        ColumnDef {
            name: row.name.into(),
            column_type: Arc::new(ColumnType::parse(row.column_type, row.collation, row.srid)),
            nullable: row.nullable,
            generated,
            invisible: extra.contains("INVISIBLE"),
            hidden: false,
            auto_increment: extra.contains("AUTO_INCREMENT"),
            json: row.json_check,
        }
    }
}

impl TableDef {
    /// The key that `unique` leaves over these columns, as InnoDB chooses it.
    pub fn chosen_key(columns: &[ColumnDef], unique: &[UniqueIndex]) -> Box<[u16]> {
        let identifies = |index: &&UniqueIndex| {
            !index.is_partial()
                && index.columns.iter().all(|at| {
                    columns.get(usize::from(*at)).is_some_and(|c| !c.nullable && c.generated != Generated::Virtual)
                })
        };
        let primary = unique.iter().find(|index| &*index.name == "PRIMARY");
        let index = primary.or_else(|| unique.iter().find(identifies));
        // MariaDB adds a hidden end of the row to the keys of a versioned table: it is the same for all rows of now.
        let visible = |at: &&u16| columns.get(usize::from(**at)).is_none_or(|column| !column.hidden);
        index.map(|index| index.columns.iter().filter(visible).copied().collect()).unwrap_or_default()
    }

    /// As servers of today print it: `utf8` in a collation's name is `utf8mb3`, engines have their own case.
    pub fn canonical(mut self) -> TableDef {
        self.collation = canonical(&self.collation).into();
        self.engine = engine_name(&self.engine).into();
        self
    }

    /// Where a column stands; names compare without case, as the servers do.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name.to_lowercase() == name.to_lowercase())
    }
}

/// An engine as it calls itself; `heap` is MEMORY.
pub(super) fn engine_name(written: &str) -> &str {
    const NAMES: [&str; 11] = [
        "InnoDB",
        "MyISAM",
        "MEMORY",
        "Aria",
        "ARCHIVE",
        "BLACKHOLE",
        "CSV",
        "FEDERATED",
        "MRG_MyISAM",
        "ROCKSDB",
        "Spider",
    ];
    if written.eq_ignore_ascii_case("heap") {
        return "MEMORY";
    }
    NAMES.into_iter().find(|name| name.eq_ignore_ascii_case(written)).unwrap_or(written)
}

impl std::fmt::Display for TableDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.name)
    }
}
