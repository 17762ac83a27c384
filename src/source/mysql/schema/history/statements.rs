//! What the statements of a log do to the tables.

use std::sync::Arc;

use super::super::ddl::{self, Action, Body, Charset, Ddl, TableName};
use super::super::def::TableDef;
use super::super::resolve::Setting;
use super::super::stored::Definition;
use super::super::{apply, collation, column_type, keys};
use super::{Effect, History, Key, Known, Statement};
use crate::record::BinlogPosition;
use crate::wire::mysql::event::QueryVariables;
use crate::wire::mysql::value::charset::collation_name;

/// A statement, the session that sent it, and where it stands.
struct Applying<'a> {
    setting: Setting,
    database: &'a str,
    at: &'a Arc<BinlogPosition>,
    effects: Vec<Effect>,
}

/// MariaDB's ALTER in two phases, as GTID events say it: begun, and given up.
const ALTER_BEGUN: u8 = 2;
const ALTER_GIVEN_UP: u8 = 8;
/// MariaDB's `explicit_defaults_for_timestamp` among the flags of a statement, which is ON by default since 10.10.
const EXPLICIT_TIMESTAMP: u32 = 1 << 24;

impl History {
    /// What a statement does; at most tables that it names, or those of a database that it drops, change. `at`: its
    /// transaction. Never fails: see [`Effect::Unknown`].
    pub fn apply(&mut self, statement: &Statement<'_>, at: &Arc<BinlogPosition>) -> Vec<Effect> {
        let Statement { database, variables, .. } = statement;
        let ddl = self.read(statement);
        if ddl == Ddl::Nothing {
            return Vec::new();
        }
        let setting = self.setting_of(variables);
        let mut applying = Applying { setting, database, at, effects: Vec::new() };
        self.run(ddl, &mut applying);
        applying.effects
    }

    /// What a statement says.
    pub(in super::super) fn read(&self, statement: &Statement<'_>) -> Ddl {
        let Statement { database, sql, variables } = statement;
        if variables.gtid_flags3.is_some_and(|flags| flags & (ALTER_BEGUN | ALTER_GIVEN_UP) != 0) {
            return Ddl::Nothing;
        }
        let session = ddl::Session::new(
            self.host.is_mariadb(),
            self.host.version_number(),
            variables.sql_mode.unwrap_or(0),
            database,
        );
        ddl::parse(sql, &session)
    }

    fn setting_of(&self, variables: &QueryVariables<'_>) -> Setting {
        let name = |id: u16| collation_name(id.into()).map(|name| collation::canonical(&name));
        let mut setting = self.setting();
        if let Some(id) = variables.utf8mb4_collation {
            setting.collations.extend(name(id).map(|name| ("utf8mb4".to_owned(), name)));
        }
        for (of, to) in variables.charset_collations.pairs() {
            if let (Some(of), Some(to)) = (name(of), name(to)) {
                setting.collations.push((column_type::charset_of(&of).to_owned(), to));
            }
        }
        setting.explicit_timestamp = match (setting.mariadb, variables.flags2) {
            (true, Some(flags)) => flags & EXPLICIT_TIMESTAMP != 0,
            (true, None) => true,
            (false, _) => variables.explicit_timestamp_defaults.unwrap_or(true),
        };
        setting.server_collation = variables.charsets.and_then(|[_, _, server]| name(server));
        setting.database_collation = variables.database_collation.and_then(name);
        setting
    }

    /// The collation of a database's tables that name none.
    fn default_of(&self, database: &str, applying: &Applying<'_>) -> String {
        let of_event = || applying.setting.database_collation.clone().filter(|_| database == applying.database);
        let known = || self.database_collation(database).map(str::to_owned);
        let last = || {
            let of_server = applying.setting.server_collation.clone();
            of_server.or_else(|| applying.setting.default_collation("utf8mb4").ok()).unwrap_or_default()
        };
        // The event says it only where it is not the server's.
        of_event().or_else(known).unwrap_or_else(last)
    }

    fn run(&mut self, ddl: Ddl, applying: &mut Applying<'_>) {
        match ddl {
            Ddl::Nothing => {}
            Ddl::CreateTable { table, replace, if_not_exists, body } => {
                let key = self.key(&table.database, &table.name);
                if if_not_exists && self.known(&key).is_some() {
                    return;
                }
                if replace {
                    self.drop_table(&table, applying);
                }
                self.create(table, &body, applying);
            }
            Ddl::AlterTable { table, actions } => self.alter(&table, &actions, applying),
            Ddl::Rename(renames) => {
                for (from, to) in renames {
                    self.rename(&from, &to, applying);
                }
            }
            Ddl::Drop(tables) => tables.iter().for_each(|table| self.drop_table(table, applying)),
            Ddl::Truncate(name) => {
                let table = self.table(&name.database, &name.name).cloned();
                applying.effects.push(Effect::Truncated { name, table });
            }
            Ddl::CreateDatabase { name, if_not_exists: true, .. } if self.database_collation(&name).is_some() => {}
            Ddl::CreateDatabase { name, replace, charset, .. } => {
                if replace {
                    self.drop_database(&name, applying);
                }
                self.charset_of_database(&name, &charset, true, applying);
            }
            Ddl::AlterDatabase { name, charset } => {
                let name = name.unwrap_or_else(|| applying.database.to_owned());
                self.charset_of_database(&name, &charset, false, applying);
            }
            Ddl::DropDatabase(name) => self.drop_database(&name, applying),
            Ddl::Unknown { tables, why } => self.doubt_all(tables, why, applying),
        }
    }

    fn create(&mut self, table: TableName, body: &Body, applying: &mut Applying<'_>) {
        let stored = self.as_stored(&table);
        let made = match body {
            Body::Items { options, .. } if options.sequence => return,
            Body::Items { columns, keys, options } => {
                let default = self.default_of(&table.database, applying);
                apply::create(&applying.setting, &stored, columns, keys, options, &default)
            }
            Body::Like(like) => match self.table(&like.database, &like.name) {
                Some(like) => {
                    let made = TableDef {
                        database: stored.database.as_str().into(),
                        name: stored.name.as_str().into(),
                        ..TableDef::clone(&like.table)
                    };
                    Ok(if applying.setting.mariadb { keys::sorted(made) } else { made })
                }
                None => Err(format!("it is made LIKE {like}, which is not known")),
            },
        };
        let key = self.key(&table.database, &table.name);
        match made {
            Ok(def) => {
                // A name that is there already: what was known is of another table.
                if self.known(&key).is_some() {
                    self.drop_table(&table, applying);
                }
                let definition = self.learn(key, def, Some(applying.at));
                applying.effects.push(Effect::Created(definition));
            }
            Err(why) => self.doubt_all(vec![table], why, applying),
        }
    }

    fn alter(&mut self, table: &TableName, actions: &[Action], applying: &mut Applying<'_>) {
        let key = self.key(&table.database, &table.name);
        if let Some(old) = self.known(&key).cloned() {
            match apply::alter(&applying.setting, &old.table, actions) {
                Ok(def) if def == *old.table => {}
                // Nothing that anybody else is to know.
                Ok(def) if def == (TableDef { plain: def.plain.clone(), ..TableDef::clone(&old.table) }) => {
                    let definition = self.shared(Definition { table: Arc::new(def), ..Definition::clone(&old) });
                    self.set(key, Known::Table(definition), Some(applying.at));
                }
                Ok(def) => {
                    let new = self.learn(key, def, Some(applying.at));
                    applying.effects.push(Effect::Changed { old, new });
                }
                Err(why) => self.doubt_all(vec![table.clone()], why, applying),
            }
        }
        for action in actions {
            match action {
                Action::Rows(why) => applying.effects.push(Effect::RowsMoved { name: table.clone(), why }),
                Action::Exchange(other) => {
                    for name in [table, other] {
                        let why = "a partition was exchanged with a table";
                        applying.effects.push(Effect::RowsMoved { name: name.clone(), why });
                    }
                }
                Action::PartitionToTable(new) => {
                    let why = "a partition became a table";
                    applying.effects.push(Effect::RowsMoved { name: table.clone(), why });
                    self.create(new.clone(), &Body::Like(table.clone()), applying);
                    applying.effects.push(Effect::RowsMoved { name: new.clone(), why });
                }
                Action::TableToPartition(other) => {
                    self.drop_table(other, applying);
                    let why = "a table became a partition";
                    applying.effects.push(Effect::RowsMoved { name: table.clone(), why });
                }
                _ => {}
            }
        }
        for action in actions {
            if let Action::RenameTo(to) = action {
                self.rename(table, to, applying);
            }
        }
    }

    fn rename(&mut self, from: &TableName, to: &TableName, applying: &mut Applying<'_>) {
        let (old_key, new_key) = (self.key(&from.database, &from.name), self.key(&to.database, &to.name));
        let stored = self.as_stored(to);
        let moved = self.tables.get(&old_key).and_then(|versions| versions.last()).map(|version| version.known.clone());
        if moved.is_some() {
            self.set(old_key, Known::Gone, Some(applying.at));
        }
        let (old, new) = match moved {
            Some(Known::Table(old)) => {
                let table = TableDef {
                    database: stored.database.into(),
                    name: stored.name.into(),
                    ..TableDef::clone(&old.table)
                };
                let version = old.version.saturating_add(1);
                let new = Arc::new(Definition { id: old.id, version, table: Arc::new(table) });
                self.set(new_key, Known::Table(new.clone()), Some(applying.at));
                (Some(old), Some(new))
            }
            Some(Known::Doubtful(why)) => {
                self.set(new_key, Known::Doubtful(why), Some(applying.at));
                (None, None)
            }
            Some(Known::Gone) | None => {
                if self.tables.contains_key(&new_key) {
                    let why = format!("it was {from} before, which is not known");
                    self.set(new_key, Known::Doubtful(why.into()), Some(applying.at));
                }
                (None, None)
            }
        };
        applying.effects.push(Effect::Renamed { from: from.clone(), to: to.clone(), old, new });
    }

    fn drop_table(&mut self, name: &TableName, applying: &mut Applying<'_>) {
        let key = self.key(&name.database, &name.name);
        let table = self.known(&key).cloned();
        if self.tables.get(&key).and_then(|versions| versions.last()).is_some_and(|last| last.known != Known::Gone) {
            self.set(key, Known::Gone, Some(applying.at));
            applying.effects.push(Effect::Dropped { name: name.clone(), table });
        }
    }

    fn drop_database(&mut self, name: &str, applying: &mut Applying<'_>) {
        let folded = self.fold(name);
        let mut keys: Vec<Key> = self.tables.keys().filter(|(database, _)| *database == folded).cloned().collect();
        keys.sort();
        for (database, name) in keys {
            self.drop_table(&TableName { database: database.into(), name: name.into() }, applying);
        }
        if self.databases.remove(&folded).is_some() {
            self.changed_databases.insert(folded);
        }
    }

    fn charset_of_database(&mut self, name: &str, charset: &Charset, new: bool, applying: &mut Applying<'_>) {
        let server = applying.setting.server_collation.clone();
        let inherited = if new { server } else { self.database_collation(name).map(str::to_owned).or(server) };
        if !charset.is_said() && !new {
            return;
        }
        if let Ok(collation) = applying.setting.collation(charset, &inherited.unwrap_or_default())
            && !collation.is_empty()
        {
            self.set_database(name, collation);
        }
    }

    fn doubt_all(&mut self, tables: Vec<TableName>, why: String, applying: &mut Applying<'_>) {
        for table in &tables {
            let key = self.key(&table.database, &table.name);
            self.set(key, Known::Doubtful(why.as_str().into()), Some(applying.at));
        }
        applying.effects.push(Effect::Unknown { tables, why });
    }

    /// A name as the server keeps it.
    fn as_stored(&self, table: &TableName) -> TableName {
        match self.host.lower_case_table_names {
            1 => TableName { database: table.database.to_lowercase(), name: table.name.to_lowercase() },
            _ => table.clone(),
        }
    }
}
