//! The tables as they stood at the stream's position, and at the positions it may be taken back to.
//!
//! Invariants:
//! - What is known of a table comes from the catalog, from a statement that was understood whole, or from an event that says
//!   it itself. Where a statement was not understood its tables are doubtful: their rows have no meaning until the events
//!   say all of it, or the table is read anew.
//! - A table's versions are kept with the positions of the statements that made them, so that a stream that resumes earlier
//!   meets the shape of that time. Of each as many as [`VERSIONS_MAX`]; before the oldest one kept a table is doubtful.
//! - Every table counts, captured or not: RENAME, LIKE and EXCHANGE bring one into the place of another.
//! - A change is state to be stored with the position behind its statement ([`History::take_entries`]).
//!
//! Memory: about 100 bytes a column and 400 a table (measured: see the tests); types are shared by all tables.

mod statements;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::column_type::ColumnType;
use super::ddl::TableName;
use super::def::TableDef;
use super::resolve::Setting;
use super::stored::{self, Definition};
use crate::error::{Context, Error, Result};
use crate::record::{BinlogPosition, StateEntry};
use crate::source::State;
use crate::source::mysql::server::{Flavor, Server};
use crate::wire::mysql::event::QueryVariables;

/// The start of every key of a table's history; database, `/` and name follow, each with its `/` and `%` as `%2f`, `%25`.
pub const STATE_PREFIX: &[u8] = b"table/";
/// The start of every key of a database's default collation.
const DATABASE_PREFIX: &[u8] = b"database/";
/// A resume position is at most one outage of a sink behind the newest one: eight changes of one table in that time are
/// many. What is older than all of them has its first one.
const VERSIONS_MAX: usize = 8;
/// Tables that are gone, kept for a position before: tools that copy tables leave two behind each time.
const GONE_MAX: usize = 1024;

/// What the statements of a server depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub flavor: Flavor,
    /// Major, minor, patch.
    pub version: (u32, u32, u32),
    /// 0, 1 or 2.
    pub lower_case_table_names: u8,
}

impl Host {
    pub fn of(server: &Server) -> Host {
        let lower_case_table_names = server.number("lower_case_table_names").map_or(0, |mode| mode.min(2) as u8);
        Host { flavor: server.flavor, version: server.version, lower_case_table_names }
    }

    fn is_mariadb(&self) -> bool {
        self.flavor == Flavor::MariaDb
    }

    fn version_number(&self) -> u32 {
        let (major, minor, patch) = self.version;
        major * 10_000 + minor * 100 + patch
    }
}

/// A statement of the log.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// The default database; empty for none.
    pub database: &'a str,
    /// In UTF-8.
    pub sql: &'a str,
    pub variables: QueryVariables<'a>,
}

/// What a statement did to a table. Tables that were not known have no definition.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Created(Arc<Definition>),
    /// Another shape, key or name of a column. `new` is the next version of the same id.
    Changed {
        old: Arc<Definition>,
        new: Arc<Definition>,
    },
    /// The same shape under another name.
    Renamed {
        from: TableName,
        to: TableName,
        old: Option<Arc<Definition>>,
        new: Option<Arc<Definition>>,
    },
    Dropped {
        name: TableName,
        table: Option<Arc<Definition>>,
    },
    Truncated {
        name: TableName,
        table: Option<Arc<Definition>>,
    },
    /// Rows came or went without events: partitions that were dropped or exchanged.
    RowsMoved {
        name: TableName,
        why: &'static str,
    },
    /// It was not understood, or does not fit what is known; its tables are doubtful now.
    Unknown {
        tables: Vec<TableName>,
        why: String,
    },
}

/// What is known of a table from one position on.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Known {
    Gone,
    Table(Arc<Definition>),
    /// There may be one; why its shape is not known.
    Doubtful(Box<str>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Version {
    /// Of the statement's transaction; none: from the beginning.
    pub at: Option<Arc<BinlogPosition>>,
    pub known: Known,
}

/// Database and name, as they compare.
type Key = (Box<str>, Box<str>);

#[derive(Clone)]
pub struct History {
    host: Host,
    /// Never empty; the last version is what holds now.
    tables: HashMap<Key, Vec<Version>>,
    /// Default collations.
    databases: HashMap<Box<str>, Box<str>>,
    types: HashSet<Arc<ColumnType>>,
    last_id: u64,
    changed: BTreeSet<Key>,
    changed_databases: BTreeSet<Box<str>>,
}

impl History {
    pub fn new(host: Host) -> History {
        History {
            host,
            tables: HashMap::new(),
            databases: HashMap::new(),
            types: HashSet::new(),
            last_id: 0,
            changed: BTreeSet::new(),
            changed_databases: BTreeSet::new(),
        }
    }

    /// What an earlier run stored, as it stood at `from`: changes behind it are forgotten, they come again.
    ///
    /// # Errors
    /// Config: bytes that are no history, or of a newer version's format.
    pub fn load(host: Host, state: &State, from: &BinlogPosition) -> Result<History> {
        let mut history = History::new(host);
        for (key, value) in state.range(STATE_PREFIX.to_vec()..).take_while(|(key, _)| key.starts_with(STATE_PREFIX)) {
            let doing = || format!("reading what is stored under {}", key.escape_ascii());
            let name = unescape(&key[STATE_PREFIX.len()..]).ok_or_else(|| Error::config(doing()))?;
            let mut versions = stored::decode(value).map_err(|error| error.context(doing()))?;
            for version in &versions {
                if let Known::Table(definition) = &version.known {
                    history.last_id = history.last_id.max(definition.id);
                }
            }
            let before = versions.iter().take_while(|version| version.at.as_ref().is_none_or(|at| from.covers(at)));
            let before = before.count();
            if before == 0 {
                let why = "the stream resumes before the oldest shape that is kept of it";
                versions.truncate(0);
                versions.push(Version { at: None, known: Known::Doubtful(why.into()) });
            } else if before < versions.len() {
                versions.truncate(before);
            }
            for version in &mut versions {
                if let Known::Table(definition) = &mut version.known {
                    *definition = history.shared(Definition::clone(definition));
                }
            }
            history.tables.insert(name, versions);
        }
        for (key, value) in
            state.range(DATABASE_PREFIX.to_vec()..).take_while(|(key, _)| key.starts_with(DATABASE_PREFIX))
        {
            let doing = || format!("reading what is stored under {}", key.escape_ascii());
            let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(Box::from).config(doing);
            history.databases.insert(text(&key[DATABASE_PREFIX.len()..])?, text(value)?);
        }
        Ok(history)
    }

    /// Takes a table of the catalog as it stands at the stream's position; a stored one that is the same stays as it is.
    pub fn prime(&mut self, table: &TableDef) -> Arc<Definition> {
        let table = table.clone().canonical();
        let key = self.key(&table.database, &table.name);
        if let Some(known) = self.known(&key).filter(|known| *known.table == table) {
            return known.clone();
        }
        self.learn(key, table, None)
    }

    /// Takes a database's default collation from information_schema.SCHEMATA.
    pub fn prime_database(&mut self, name: &str, collation: &str) {
        self.set_database(name, collation.to_owned());
    }

    /// Takes a table of the catalog as it stands from a position on.
    pub fn define(&mut self, table: &TableDef, at: &Arc<BinlogPosition>) -> Arc<Definition> {
        let key = self.key(&table.database, &table.name);
        self.learn(key, table.clone().canonical(), Some(at))
    }

    /// What a table is from a position on is not known.
    pub fn doubt_from(&mut self, table: &TableDef, why: &str, at: &Arc<BinlogPosition>) {
        let key = self.key(&table.database, &table.name);
        self.set(key, Known::Doubtful(why.into()), Some(at));
    }

    /// Whether the catalog or the log has told of a table by this name, whatever they told.
    pub fn has_heard_of(&self, database: &str, name: &str) -> bool {
        self.tables.contains_key(&self.key(database, name))
    }

    /// Whether two names of databases or of tables are the same.
    pub fn same(&self, one: &str, other: &str) -> bool {
        self.fold(one) == self.fold(other)
    }

    /// A table as it stands now; `None` where it is not known.
    pub fn table(&self, database: &str, name: &str) -> Option<&Arc<Definition>> {
        self.known(&self.key(database, name))
    }

    /// All that are known.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.tables.values().filter_map(|versions| match versions.last() {
            Some(Version { known: Known::Table(definition), .. }) => Some(definition),
            _ => None,
        })
    }

    /// Why a table's shape is not known, where that is said.
    pub fn doubt(&self, database: &str, name: &str) -> Option<&str> {
        match self.tables.get(&self.key(database, name))?.last() {
            Some(Version { known: Known::Doubtful(why), .. }) => Some(why),
            _ => None,
        }
    }

    /// State that changed since the last time: it becomes true with the position behind the statements.
    pub fn take_entries(&mut self) -> Vec<StateEntry> {
        let tables = std::mem::take(&mut self.changed).into_iter().map(|key| StateEntry {
            key: state_key(&key),
            value: self.tables.get(&key).map(|versions| stored::encode(versions)),
        });
        let mut entries: Vec<StateEntry> = tables.collect();
        for name in std::mem::take(&mut self.changed_databases) {
            let value = self.databases.get(&name).map(|collation| collation.as_bytes().to_vec());
            entries.push(StateEntry { key: [DATABASE_PREFIX, name.as_bytes()].concat(), value });
        }
        entries
    }

    pub(super) fn setting(&self) -> Setting {
        Setting {
            mariadb: self.host.is_mariadb(),
            version: self.host.version_number(),
            explicit_timestamp: true,
            ..Setting::default()
        }
    }

    pub(super) fn database_collation(&self, name: &str) -> Option<&str> {
        self.databases.get(&*self.fold(name)).map(|collation| &**collation)
    }

    /// A definition whose types are those of all others that are equal.
    fn shared(&mut self, definition: Definition) -> Arc<Definition> {
        let mut table = TableDef::clone(&definition.table);
        for column in &mut table.columns {
            match self.types.get(&column.column_type) {
                Some(known) => column.column_type = known.clone(),
                None => drop(self.types.insert(column.column_type.clone())),
            }
        }
        Arc::new(Definition { table: Arc::new(table), ..definition })
    }

    /// A table's next version, or its first.
    pub(super) fn learn(&mut self, key: Key, table: TableDef, at: Option<&Arc<BinlogPosition>>) -> Arc<Definition> {
        let (id, version) = match self.known(&key) {
            Some(known) => (known.id, known.version.saturating_add(1)),
            None => (self.last_id + 1, 1),
        };
        self.last_id = self.last_id.max(id);
        let definition = self.shared(Definition { id, version, table: Arc::new(table) });
        self.set(key, Known::Table(definition.clone()), at);
        definition
    }

    fn set(&mut self, key: Key, known: Known, at: Option<&Arc<BinlogPosition>>) {
        self.changed.insert(key.clone());
        let gone = known == Known::Gone;
        let versions = self.tables.entry(key).or_default();
        match at {
            None => versions.clear(),
            // What one statement did to a table is one version.
            Some(at) => versions.retain(|version| version.at.as_ref() != Some(at)),
        }
        if versions.len() == VERSIONS_MAX {
            versions.remove(0);
        }
        versions.push(Version { at: at.cloned(), known });
        if gone {
            self.forget_gone();
        }
    }

    fn forget_gone(&mut self) {
        let is_gone = |versions: &Vec<Version>| versions.last().is_some_and(|version| version.known == Known::Gone);
        if self.tables.values().filter(|versions| is_gone(versions)).count() <= GONE_MAX {
            return;
        }
        let age = |versions: &Vec<Version>| {
            let ids = versions.iter().map(|version| match &version.known {
                Known::Table(definition) => definition.id,
                _ => 0,
            });
            ids.max().unwrap_or(0)
        };
        let oldest = self.tables.iter().filter(|(_, versions)| is_gone(versions)).min_by_key(|(_, v)| age(v));
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.tables.remove(&key);
            self.changed.insert(key);
        }
    }

    pub(super) fn key(&self, database: &str, name: &str) -> Key {
        (self.fold(database), self.fold(name))
    }

    fn fold(&self, name: &str) -> Box<str> {
        if self.host.lower_case_table_names == 0 { name.into() } else { name.to_lowercase().into() }
    }

    pub(super) fn known(&self, key: &Key) -> Option<&Arc<Definition>> {
        match self.tables.get(key)?.last() {
            Some(Version { known: Known::Table(definition), .. }) => Some(definition),
            _ => None,
        }
    }

    fn set_database(&mut self, name: &str, collation: String) {
        let name = self.fold(name);
        if self.databases.get(&name).is_none_or(|known| **known != *collation) {
            self.changed_databases.insert(name.clone());
            self.databases.insert(name, collation.into());
        }
    }
}

fn state_key((database, name): &Key) -> Vec<u8> {
    let escape = |name: &str| name.replace('%', "%25").replace('/', "%2f");
    [STATE_PREFIX, escape(database).as_bytes(), b"/", escape(name).as_bytes()].concat()
}

fn unescape(key: &[u8]) -> Option<Key> {
    let (database, name) = std::str::from_utf8(key).ok()?.split_once('/')?;
    let plain = |name: &str| name.replace("%2f", "/").replace("%25", "%").into();
    Some((plain(database), plain(name)))
}

#[cfg(test)]
mod tests;
