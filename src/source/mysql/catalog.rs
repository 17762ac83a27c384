//! The tables as information_schema has them, read in a fixed number of queries however many there are, but for tables
//! with several unique keys on MySQL, whose order only SHOW INDEX says.
//!
//! Invariants:
//! - Views, sequences and temporary tables are not wanted by a pattern, and it is an error to name one outright. The
//!   server's own databases are not there.
//! - Columns stand in the order of the log's rows: the server's, then those it hides and logs nevertheless.
//! - What the account may not see is not there: information_schema shows a table only to who has a right on it.

use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::ask::{Ask, TextRow, number, text};
use super::quote::{literal, qualified};
use super::schema::{CatalogColumn, ColumnDef, ColumnType, Generated, PlainIndex, TableDef, UniqueIndex};
use super::server::{Flavor, Server};
use crate::error::{Error, Result};
use crate::record::owed::TableName;
use crate::source::tables::{Selection, settle};

/// The server's own databases.
pub const SYSTEM_DATABASES: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// The first version with generated invisible primary keys, and a setting that hides them.
const GIPK_SINCE: (u32, u32, u32) = (8, 0, 30);

/// All wanted tables of a server.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// By database and name.
    pub tables: Vec<Table>,
    /// What the operator should know: patterns that match nothing yet.
    pub warnings: Vec<String>,
    /// What a pattern matched and cannot be streamed.
    pub left_out: Vec<LeftOut>,
    /// `lower_case_table_names` is not 0: names of databases and tables are the same in any case.
    pub ignores_table_case: bool,
}

/// A wanted table.
#[derive(Clone, Debug)]
pub struct Table {
    pub def: Arc<TableDef>,
    pub partitioned: bool,
    /// The server's estimates; none where it says nothing.
    pub rows: Option<u64>,
    pub average_row_bytes: Option<u64>,
    /// Of rows and primary key.
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub database: String,
    pub name: String,
    /// `a view`, `a sequence`.
    pub why: &'static str,
}

impl Table {
    /// Quoted, with its database.
    pub fn sql_name(&self) -> String {
        qualified(&self.def.database, &self.def.name)
    }
}

/// A relation as the first query finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Relation {
    database: String,
    name: String,
    /// `TABLE_TYPE`: `BASE TABLE`, `VIEW`, `SYSTEM VERSIONED`, `SEQUENCE`, `TEMPORARY`.
    kind: String,
    engine: String,
    collation: String,
    partitioned: bool,
}

impl Relation {
    fn of(row: &TextRow) -> Relation {
        let column = |at| text(row, at).to_owned();
        Relation {
            database: column(0),
            name: column(1),
            kind: column(2),
            engine: column(3),
            collation: column(4),
            partitioned: text(row, 5).to_ascii_lowercase().contains("partitioned"),
        }
    }

    /// Why it cannot be streamed; `None` if it can.
    fn obstacle(&self) -> Option<&'static str> {
        match self.kind.as_str() {
            "BASE TABLE" | "SYSTEM VERSIONED" => None,
            "VIEW" | "SYSTEM VIEW" => Some("a view"),
            "SEQUENCE" => Some("a sequence"),
            "TEMPORARY" => Some("temporary"),
            _ => Some("no table with rows of its own"),
        }
    }
}

fn relations_sql() -> String {
    let system = SYSTEM_DATABASES.map(literal).join(", ");
    format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_COLLATION, CREATE_OPTIONS \
         FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT IN ({system})"
    )
}

/// In the order of each table's columns.
fn columns_sql(server: &Server, databases: &str) -> String {
    let srid = if server.flavor == Flavor::MySql { "SRS_ID" } else { "NULL" };
    format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, COLLATION_NAME, {srid}, IS_NULLABLE, EXTRA, \
         GENERATION_EXPRESSION, ORDINAL_POSITION FROM information_schema.COLUMNS WHERE TABLE_SCHEMA IN ({databases}) \
         ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
    )
}

/// In the server's order where nobody sorts them (MariaDB), which is why they are not sorted.
fn indexes_sql(databases: &str) -> String {
    format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX, COLUMN_NAME, SUB_PART, INDEX_TYPE, NON_UNIQUE \
         FROM information_schema.STATISTICS WHERE TABLE_SCHEMA IN ({databases})"
    )
}

/// The columns that MariaDB's JSON is.
fn json_checks_sql(databases: &str) -> String {
    format!(
        "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS \
         WHERE LEVEL = 'Column' AND CONSTRAINT_SCHEMA IN ({databases})"
    )
}

fn estimates_sql(databases: &str) -> String {
    format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_ROWS, AVG_ROW_LENGTH, DATA_LENGTH FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA IN ({databases})"
    )
}

/// A table by its database and name.
type Name = (String, String);

fn name(row: &TextRow) -> Name {
    (text(row, 0).to_owned(), text(row, 1).to_owned())
}

impl Catalog {
    /// Whether a table is one of these; none: of any.
    pub fn is_among(&self, table: &Table, names: Option<&BTreeSet<TableName>>) -> bool {
        let same = |a: &str, b: &str| match self.ignores_table_case {
            true => a.to_lowercase() == b.to_lowercase(),
            false => a == b,
        };
        let is_it = |(database, name): &TableName| same(database, &table.def.database) && same(name, &table.def.name);
        names.is_none_or(|names| names.iter().any(is_it))
    }

    /// Adds the tables and all of their definitions to a hash.
    pub fn hash_tables(&self, hasher: &mut impl Hasher) {
        self.tables.iter().for_each(|table| table.def.hash(hasher));
    }

    /// What both have is kept once.
    pub fn share(&mut self, other: &Catalog) {
        for table in &mut self.tables {
            let name = |table: &Table| (table.def.database.clone(), table.def.name.clone());
            let found = other.tables.binary_search_by_key(&name(table), name);
            if let Some(same) = found.ok().map(|at| &other.tables[at].def).filter(|def| **def == table.def) {
                table.def = same.clone();
            }
        }
    }

    /// Reads everything about the wanted tables. The session sees generated invisible primary keys from then on.
    ///
    /// # Errors
    /// Config: a name that is not there or cannot be streamed, a column that is not there, no table at all. Those of a
    /// query.
    pub async fn load(ask: &mut dyn Ask, server: &Server, selection: &Selection) -> Result<Catalog> {
        let catalog = Self::survey(ask, server, selection).await?;
        if catalog.tables.is_empty() {
            return Err(Error::config("no table is selected that could be streamed").remedy(
                "look at `tables` and `exclude_tables`; `walbrook discover` lists what there is. A table that the account \
                 may not read is not to be seen: GRANT SELECT",
            ));
        }
        Ok(catalog)
    }

    /// The same, where there may be none.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn survey(ask: &mut dyn Ask, server: &Server, selection: &Selection) -> Result<Catalog> {
        let doing = "reading the tables from information_schema";
        if server.flavor == Flavor::MySql && server.version >= GIPK_SINCE {
            ask.rows("SET SESSION show_gipk_in_create_table_and_information_schema = ON", doing).await?;
        }
        let relations: Vec<Relation> = ask.rows(&relations_sql(), doing).await?.iter().map(Relation::of).collect();
        let ignores_table_case = server.variable("lower_case_table_names").is_some_and(|value| value != "0");
        let mut selection = selection.clone();
        if ignores_table_case {
            selection.ignore_table_case();
        }
        let Wanted { mut relations, mut warnings, left_out } = choose(relations, &selection)?;
        relations.sort_by(|a, b| (&a.database, &a.name).cmp(&(&b.database, &b.name)));
        let databases: BTreeSet<&str> = relations.iter().map(|relation| relation.database.as_str()).collect();
        if databases.is_empty() {
            return Ok(Catalog { warnings, left_out, ignores_table_case, ..Catalog::default() });
        }
        let databases = databases.into_iter().map(literal).collect::<Vec<_>>().join(", ");
        let mut details = Details::default();
        if server.flavor == Flavor::MariaDb {
            ask.each(&json_checks_sql(&databases), doing, &mut |row| details.json_check(row)).await?;
        }
        ask.each(&columns_sql(server, &databases), doing, &mut |row| details.column(row)).await?;
        ask.each(&indexes_sql(&databases), doing, &mut |row| details.index(row)).await?;
        // What MySQL says otherwise may be a day old.
        let fresh = server.flavor == Flavor::MySql;
        if fresh {
            ask.rows("SET SESSION information_schema_stats_expiry = 0", doing).await?;
        }
        let mut estimates: HashMap<Name, [Option<u64>; 3]> = HashMap::new();
        let mut estimate = |row: &TextRow| {
            estimates.insert(name(row), [number(row, 2), number(row, 3), number(row, 4)]);
        };
        ask.each(&estimates_sql(&databases), doing, &mut estimate).await?;
        if fresh {
            ask.rows("SET SESSION information_schema_stats_expiry = DEFAULT", doing).await?;
        }

        let mut tables = Vec::with_capacity(relations.len());
        for relation in relations {
            let key = (relation.database.clone(), relation.name.clone());
            // Dropped between the queries: as if it had never been there.
            let Some(mut parts) = details.tables.remove(&key) else { continue };
            if server.flavor == Flavor::MySql
                && parts.indexes.iter().filter(|index| index.unique && index.name != "PRIMARY").count() > 1
            {
                let sql = format!("SHOW INDEX FROM {}", qualified(&key.0, &key.1));
                // Dropped just now: what is known will do.
                if let Ok(rows) = ask.rows(&sql, doing).await {
                    parts.order_indexes(rows.iter().map(|row| text(row, 2)));
                }
            }
            let [rows, average_row_bytes, bytes] = estimates.get(&key).copied().unwrap_or_default();
            tables.push(Table {
                partitioned: relation.partitioned,
                rows,
                average_row_bytes: average_row_bytes.filter(|bytes| *bytes > 0),
                bytes: bytes.unwrap_or(0),
                def: Arc::new(parts.into_def(relation)),
            });
        }
        let columns = tables.iter().flat_map(|table| {
            let TableDef { database, name, columns, .. } = &*table.def;
            columns.iter().map(move |column| (&**database, &**name, &*column.name))
        });
        settle(selection.unmatched_columns(columns), &mut warnings)?;
        Ok(Catalog { tables, warnings, left_out, ignores_table_case })
    }
}

struct Wanted {
    relations: Vec<Relation>,
    warnings: Vec<String>,
    left_out: Vec<LeftOut>,
}

/// Which relations are tables of the stream, by name and kind.
fn choose(relations: Vec<Relation>, selection: &Selection) -> Result<Wanted> {
    let mut warnings = Vec::new();
    let names = relations.iter().map(|relation| (relation.database.as_str(), relation.name.as_str()));
    settle(selection.unmatched_tables(names), &mut warnings).map_err(|error| {
        let remedy = format!(
            "{}; a table that the account may not read is not to be seen: GRANT SELECT",
            error.remedy_text().unwrap_or("look at `tables`")
        );
        error.remedy(remedy)
    })?;
    let mut left_out = Vec::new();
    let mut wanted = Vec::new();
    for relation in relations {
        if !selection.wants(&relation.database, &relation.name) {
            continue;
        }
        match relation.obstacle() {
            None => wanted.push(relation),
            Some(obstacle) if selection.names(&relation.database, &relation.name) => {
                let full = format!("{}.{}", relation.database, relation.name);
                return Err(Error::config(format!("{full} cannot be streamed: it is {obstacle}"))
                    .remedy("take it out of `tables`"));
            }
            Some(why) => left_out.push(LeftOut { database: relation.database, name: relation.name, why }),
        }
    }
    left_out.sort_by(|a, b| (&a.database, &a.name).cmp(&(&b.database, &b.name)));
    Ok(Wanted { relations: wanted, warnings, left_out })
}

/// What the further queries say, by table.
#[derive(Default)]
struct Details {
    tables: HashMap<Name, Parts>,
    json_checks: BTreeSet<(String, String, String)>,
}

#[derive(Default)]
struct Parts {
    columns: Vec<ColumnDef>,
    indexes: Vec<Index>,
    /// A column is named as the row's start of a system-versioned table.
    names_row_start: bool,
}

struct Index {
    name: String,
    /// None for an expression.
    columns: Vec<Option<String>>,
    /// `SUB_PART`; 0 where all of a column counts.
    prefixes: Vec<u32>,
    unique: bool,
    /// `INDEX_TYPE`.
    kind: String,
}

impl Details {
    fn json_check(&mut self, row: &TextRow) {
        // As the server prints it. The check has the column's name as it was when the check was made.
        let clause = text(row, 3).to_ascii_lowercase();
        let of =
            clause.starts_with("json_valid(`").then(|| text(row, 3).get("json_valid(`".len()..)?.strip_suffix("`)"));
        if let Some(column) = of.flatten() {
            let (database, table) = name(row);
            self.json_checks.insert((database, table, column.replace("``", "`")));
        }
    }

    fn column(&mut self, row: &TextRow) {
        let (database, table) = name(row);
        let json_check = self.json_checks.contains(&(database.clone(), table.clone(), text(row, 2).to_owned()));
        let parts = self.tables.entry((database, table)).or_default();
        parts.names_row_start |= text(row, 8).eq_ignore_ascii_case("ROW START");
        parts.columns.push(ColumnDef::from_information_schema(&CatalogColumn {
            name: text(row, 2),
            column_type: text(row, 3),
            collation: row.get(4).and_then(Option::as_deref),
            srid: number(row, 5).and_then(|srid| u32::try_from(srid).ok()),
            nullable: text(row, 6) == "YES",
            extra: text(row, 7),
            json_check,
        }));
    }

    fn index(&mut self, row: &TextRow) {
        let parts = self.tables.entry(name(row)).or_default();
        let (index_name, column) = (text(row, 2), row.get(4).cloned().flatten());
        let prefix = number(row, 5).and_then(|prefix| u32::try_from(prefix).ok()).unwrap_or(0);
        let index = match parts.indexes.iter_mut().position(|index| index.name == index_name) {
            Some(at) => &mut parts.indexes[at],
            None => {
                let kind = text(row, 6).to_owned();
                let (columns, prefixes) = (Vec::new(), Vec::new());
                let unique = text(row, 7) != "1";
                parts.indexes.push(Index { name: index_name.to_owned(), columns, prefixes, unique, kind });
                let last = parts.indexes.len() - 1;
                &mut parts.indexes[last]
            }
        };
        let place = number(row, 3).map_or(index.columns.len(), |number| number.saturating_sub(1) as usize);
        // An index has 64 columns at most, whatever an answer says.
        if place < INDEX_COLUMNS_MAX {
            if index.columns.len() <= place {
                index.columns.resize(place + 1, None);
                index.prefixes.resize(place + 1, 0);
            }
            (index.columns[place], index.prefixes[place]) = (column, prefix);
        }
    }
}

/// MariaDB allows 64 parts of a key, MySQL 16.
const INDEX_COLUMNS_MAX: usize = 64;

impl Parts {
    fn order_indexes<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let mut order: HashMap<String, usize> = HashMap::new();
        for (at, name) in names.enumerate() {
            order.entry(name.to_owned()).or_insert(at);
        }
        self.indexes.sort_by_key(|index| order.get(&index.name).copied().unwrap_or(usize::MAX));
    }

    fn into_def(mut self, relation: Relation) -> TableDef {
        let system_versioned = relation.kind == "SYSTEM VERSIONED";
        // MariaDB enforces such a key by a column of its own that holds a hash of the values.
        let hashed =
            |index: &Index| index.unique && index.kind == "HASH" && !relation.engine.eq_ignore_ascii_case("MEMORY");
        let hidden = |name: String, column_type: &str, nullable| ColumnDef {
            name: name.into(),
            column_type: Arc::new(ColumnType::parse(column_type, None, None)),
            nullable,
            generated: Generated::None,
            invisible: true,
            hidden: true,
            auto_increment: false,
            json: false,
        };
        if system_versioned && !self.names_row_start {
            self.columns.push(hidden("row_start".to_owned(), "timestamp(6)", false));
            self.columns.push(hidden("row_end".to_owned(), "timestamp(6)", false));
        }
        let nullable = |name: &Option<String>| {
            self.columns.iter().any(|column| name.as_deref() == Some(&*column.name) && column.nullable)
        };
        let hashes: Vec<bool> =
            self.indexes.iter().filter(|index| hashed(index)).map(|index| index.columns.iter().any(nullable)).collect();
        for (at, nullable) in hashes.into_iter().enumerate() {
            self.columns.push(hidden(format!("DB_ROW_HASH_{}", at + 1), "bigint(21) unsigned", nullable));
        }
        // PRIMARY first, whatever order the rest stands in.
        self.indexes.sort_by_key(|index| index.name != "PRIMARY");
        let columns: Box<[ColumnDef]> = self.columns.into();
        let place = |name: &str| columns.iter().position(|column| &*column.name == name).map(|at| at as u16);
        let plain = self.indexes.iter().filter(|index| !index.unique).map(|index| {
            let columns: Box<[u16]> = index.columns.iter().filter_map(|name| place(name.as_deref()?)).collect();
            let expression = columns.len() != index.columns.len();
            PlainIndex { name: index.name.as_str().into(), columns, expression }
        });
        let plain = plain.collect();
        let unique: Box<[UniqueIndex]> = self
            .indexes
            .iter()
            .filter(|index| index.unique)
            .map(|index| {
                let parts = index.columns.iter().zip(&index.prefixes);
                let (places, prefixes): (Vec<u16>, Vec<u32>) =
                    parts.filter_map(|(name, prefix)| Some((place(name.as_deref()?)?, *prefix))).unzip();
                UniqueIndex {
                    name: index.name.as_str().into(),
                    expression: places.len() != index.columns.len(),
                    columns: places.into(),
                    prefixes: UniqueIndex::prefixes(prefixes),
                    hashed: hashed(index),
                }
            })
            .collect();
        TableDef {
            database: relation.database.into(),
            name: relation.name.into(),
            key: TableDef::chosen_key(&columns, &unique),
            columns,
            unique,
            plain,
            collation: relation.collation.into(),
            engine: relation.engine.into(),
            system_versioned,
        }
    }
}

#[cfg(test)]
mod tests;
