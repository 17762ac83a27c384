//! What a statement says, before it meets the tables there are.

use super::super::column_type::Kind;
use super::super::def::Generated;

/// A table by its database and its name, as a statement writes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    pub database: String,
    pub name: String,
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Ddl {
    /// It changes no table: rows, views, routines, accounts, temporary tables, sequences.
    Nothing,
    CreateTable {
        table: TableName,
        replace: bool,
        if_not_exists: bool,
        body: Body,
    },
    AlterTable {
        table: TableName,
        actions: Vec<Action>,
    },
    /// One after the other.
    Rename(Vec<(TableName, TableName)>),
    Drop(Vec<TableName>),
    Truncate(TableName),
    CreateDatabase {
        name: String,
        replace: bool,
        if_not_exists: bool,
        charset: Charset,
    },
    AlterDatabase {
        /// None for the event's.
        name: Option<String>,
        charset: Charset,
    },
    DropDatabase(String),
    /// It concerns tables and was not understood.
    Unknown {
        tables: Vec<TableName>,
        why: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Body {
    Like(TableName),
    Items { columns: Vec<ColumnSpec>, keys: Vec<KeySpec>, options: Options },
}

/// CHARACTER SET, COLLATE and BINARY, where they are said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Charset {
    /// `default` for the database's.
    pub charset: Option<String>,
    pub collation: Option<String>,
    /// The character set's binary collation.
    pub binary: bool,
}

impl Charset {
    pub fn is_said(&self) -> bool {
        self.charset.is_some() || self.collation.is_some()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Options {
    pub charset: Charset,
    pub engine: Option<String>,
    pub system_versioning: bool,
    /// MariaDB keeps a sequence in a table made so.
    pub sequence: bool,
    /// MariaDB's application-time periods: name, first and last column.
    pub periods: Vec<(String, String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct TypeSpec {
    pub kind: Kind,
    /// Of a type we do not know: what was written.
    pub text: String,
    /// The numbers in parentheses.
    pub first: Option<u32>,
    pub second: Option<u32>,
    pub unsigned: bool,
    pub zerofill: bool,
    pub compressed: bool,
    pub labels: Vec<String>,
    pub charset: Charset,
    pub srid: Option<u32>,
    /// Declared as JSON where the server has no such type.
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum RowTime {
    Start,
    End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct ColumnSpec {
    pub name: String,
    pub column_type: TypeSpec,
    /// What NULL or NOT NULL said.
    pub nullable: Option<bool>,
    pub generated: Generated,
    pub invisible: bool,
    pub auto_increment: bool,
    pub primary: bool,
    pub unique: bool,
    /// It has a check of its own: whether that is that it is JSON.
    pub json_check: Option<bool>,
    /// Of MariaDB's system versioning.
    pub row_time: Option<RowTime>,
    pub system_versioning: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct KeySpec {
    pub primary: bool,
    /// The primary key is; an INDEX is not.
    pub unique: bool,
    pub name: Option<String>,
    pub parts: Vec<KeyPart>,
    /// USING HASH.
    pub hash: bool,
    pub if_not_exists: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct KeyPart {
    /// None for an expression.
    pub column: Option<String>,
    pub prefix: Option<u32>,
    /// MariaDB's WITHOUT OVERLAPS: the name is a period's.
    pub overlaps: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum Place {
    #[default]
    Last,
    First,
    After(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Action {
    AddColumn {
        column: ColumnSpec,
        place: Place,
        if_not_exists: bool,
    },
    AddKey(KeySpec),
    DropColumn(String),
    /// CHANGE, and MODIFY with the same name twice.
    Change {
        old: String,
        column: ColumnSpec,
        place: Place,
        /// MariaDB's IF EXISTS.
        if_exists: bool,
    },
    RenameColumn {
        old: String,
        new: String,
    },
    DropPrimary,
    /// Of whatever kind; a constraint too.
    DropIndex(String),
    RenameIndex {
        old: String,
        new: String,
    },
    SetVisible {
        column: String,
        visible: bool,
    },
    RenameTo(TableName),
    Convert(Charset),
    Options(Options),
    DropVersioning,
    /// Rows change places with another table's.
    Exchange(TableName),
    /// Rows come or go without events of their own.
    Rows(&'static str),
    /// MariaDB: a partition becomes a table.
    PartitionToTable(TableName),
    /// MariaDB: a table becomes a partition.
    TableToPartition(TableName),
}
