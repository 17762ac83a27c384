//! What CREATE TABLE and ALTER TABLE make of a table.
//!
//! Invariants:
//! - An ALTER's actions are of one moment: columns and keys are dropped, changed and renamed in the table as it was, then
//!   what is new or moved takes its place in the order it was written in.
//! - Unique indexes stand in the order the server keeps them in: PRIMARY, those without a column that may be NULL, whole
//!   before partial, and what is older first.
//! - An action that does not fit the table is an error: what was known of the table is not what the server had.

use std::sync::Arc;

use super::collation::max_bytes_of;
use super::column_type::{ColumnType, Kind};
use super::ddl::{Action, Charset, ColumnSpec, KeyPart, KeySpec, Options, Place, TableName};
use super::def::{ColumnDef, Generated, TableDef, UniqueIndex, engine_name};
use super::resolve::Setting;

/// A table between two shapes. Hidden columns are not in it: they come back at the end.
struct Work<'a> {
    setting: &'a Setting,
    columns: Vec<ColumnDef>,
    keys: Vec<Key>,
    collation: String,
    engine: String,
    system_versioned: bool,
    /// A column is named as the row's start.
    names_row_start: bool,
    /// Of MariaDB, by name, first and last column.
    periods: Vec<(String, String, String)>,
}

#[derive(Clone)]
struct Key {
    name: String,
    /// Names of columns; none for an expression.
    columns: Vec<Option<String>>,
    partial: bool,
    /// MariaDB keeps it by a hidden column with a hash.
    hashed: bool,
    /// Of nothing but expressions, which a definition does not have.
    expression: bool,
    /// A column may be NULL: as it was when the server came to this key, before a PRIMARY KEY behind it forbade that.
    nullable: bool,
}

const PRIMARY: &str = "PRIMARY";
/// Key lengths of InnoDB beyond which MariaDB keeps a unique key as a hash: of one column, of all.
const KEY_PART_MAX_BYTES: u64 = 3072;
const KEY_MAX_BYTES: u64 = 3500;
const HASH_COLUMN: &str = "DB_ROW_HASH_";

/// The table that CREATE TABLE makes.
///
/// # Errors
/// Why it cannot be known.
pub(super) fn create(
    setting: &Setting,
    table: &TableName,
    columns: &[ColumnSpec],
    keys: &[KeySpec],
    options: &Options,
    database_collation: &str,
) -> Result<TableDef, String> {
    let mut work = Work {
        setting,
        columns: Vec::with_capacity(columns.len()),
        keys: Vec::new(),
        collation: setting.collation(&options.charset, database_collation)?,
        engine: engine_name(options.engine.as_deref().unwrap_or("InnoDB")).to_owned(),
        system_versioned: options.system_versioning || columns.iter().any(|column| column.system_versioning),
        names_row_start: columns.iter().any(|column| column.row_time.is_some()),
        periods: options.periods.clone(),
    };
    for spec in columns {
        let column = setting.column(spec, &work.collation)?;
        if work.column(&column.name).is_some() {
            return Err(format!("column {:?} is there twice", column.name));
        }
        work.columns.push(column);
    }
    work.periods_are_not_null();
    for key in keys {
        work.add_key(key)?;
    }
    work.into_def(&table.database, &table.name)
}

/// The table after the actions that change its shape.
///
/// # Errors
/// As [`create`].
pub(super) fn alter(setting: &Setting, old: &TableDef, actions: &[Action]) -> Result<TableDef, String> {
    let mut work = Work::of(setting, old)?;
    for action in actions {
        match action {
            Action::Options(options) => {
                if options.charset.is_said() {
                    work.collation = setting.collation(&options.charset, &old.collation)?;
                }
                if let Some(engine) = &options.engine {
                    work.engine = engine_name(engine).to_owned();
                }
                work.system_versioned |= options.system_versioning;
                work.periods.extend(options.periods.iter().cloned());
            }
            Action::Convert(charset) => work.convert(charset)?,
            Action::DropVersioning => (work.system_versioned, work.names_row_start) = (false, false),
            _ => {}
        }
    }
    work.drop_keys(actions);
    work.change_columns(actions)?;
    work.periods_are_not_null();
    let nullable: Vec<bool> = work.keys.iter().map(|key| work.may_be_null(&key.columns)).collect();
    work.keys.iter_mut().zip(nullable).for_each(|(key, nullable)| key.nullable = nullable);
    for action in actions {
        match action {
            Action::AddKey(key) => work.add_key(key)?,
            Action::SetVisible { column, visible } => {
                let at = work.column(column).ok_or_else(|| unknown(column))?;
                work.columns[at].invisible = !visible;
            }
            _ => {}
        }
    }
    work.into_def(&old.database, &old.name)
}

fn unknown(column: &str) -> String {
    format!("column {column:?} is not known")
}

/// As the servers compare names of columns and indexes.
pub(super) fn same_name(one: &str, other: &str) -> bool {
    one == other || one.to_lowercase() == other.to_lowercase()
}

impl<'a> Work<'a> {
    fn of(setting: &'a Setting, old: &TableDef) -> Result<Work<'a>, String> {
        let hashes = old.columns.iter().filter(|c| c.hidden && c.name.starts_with(HASH_COLUMN)).count();
        let partial = old.unique.iter().filter(|index| index.partial).count();
        if hashes != 0 && hashes != partial {
            return Err("which of its unique keys are kept by a hash is not known".to_owned());
        }
        let keys = old.unique.iter().map(|index| Key {
            name: index.name.to_string(),
            columns: index
                .columns
                .iter()
                .map(|at| old.columns.get(usize::from(*at)).map(|column| column.name.to_string()))
                .collect(),
            partial: index.partial,
            hashed: index.partial && hashes > 0,
            expression: index.columns.is_empty(),
            nullable: false,
        });
        let row_start = old.columns.iter().any(|column| column.hidden && !column.name.starts_with(HASH_COLUMN));
        Ok(Work {
            setting,
            columns: old.columns.iter().filter(|column| !column.hidden).cloned().collect(),
            keys: keys.collect(),
            collation: old.collation.to_string(),
            engine: old.engine.to_string(),
            system_versioned: old.system_versioned,
            names_row_start: old.system_versioned && !row_start,
            periods: Vec::new(),
        })
    }

    fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| same_name(&column.name, name))
    }

    fn periods_are_not_null(&mut self) {
        let periods = &self.periods;
        for column in &mut self.columns {
            let bounds =
                |(_, start, end): &(String, String, String)| [start, end].iter().any(|b| same_name(b, &column.name));
            column.nullable &= !periods.iter().any(bounds);
        }
    }

    fn convert(&mut self, charset: &Charset) -> Result<(), String> {
        self.collation = self.setting.collation(charset, &self.collation)?;
        for column in self.columns.iter_mut().filter(|column| column.column_type.kind.is_character()) {
            column.column_type = Arc::new(self.setting.converted(&column.column_type, &self.collation));
        }
        Ok(())
    }

    fn drop_keys(&mut self, actions: &[Action]) {
        self.keys.retain(|key| {
            !actions.iter().any(|action| match action {
                Action::DropPrimary => key.name == PRIMARY,
                Action::DropIndex(name) => same_name(&key.name, name),
                _ => false,
            })
        });
        for action in actions {
            if let Action::RenameIndex { old, new } = action {
                // Two may change names: by what it was before.
                if let Some(key) = self.keys.iter_mut().find(|key| same_name(&key.name, old)) {
                    key.name = new.clone();
                }
            }
        }
    }

    fn change_columns(&mut self, actions: &[Action]) -> Result<(), String> {
        let mut kept: Vec<ColumnDef> = Vec::with_capacity(self.columns.len() + actions.len());
        let mut placed: Vec<(ColumnDef, &Place)> = Vec::new();
        let old = std::mem::take(&mut self.columns);
        let mut renamed: Vec<(String, String)> = Vec::new();
        let mut dropped: Vec<String> = Vec::new();
        for column in &old {
            let about = |action: &&Action| match action {
                Action::DropColumn(name)
                | Action::Change { old: name, .. }
                | Action::RenameColumn { old: name, .. } => same_name(name, &column.name),
                _ => false,
            };
            match actions.iter().find(about) {
                Some(Action::DropColumn(_)) => dropped.push(column.name.to_string()),
                Some(Action::Change { column: spec, .. }) => {
                    renamed.push((column.name.to_string(), spec.name.clone()));
                    kept.push(self.changed(spec, column)?);
                }
                Some(Action::RenameColumn { new, .. }) => {
                    renamed.push((column.name.to_string(), new.clone()));
                    kept.push(ColumnDef { name: new.as_str().into(), ..column.clone() });
                }
                _ => kept.push(column.clone()),
            }
        }
        let there = |name: &str| old.iter().find(|column| same_name(&column.name, name));
        for action in actions {
            match action {
                Action::AddColumn { column, place, if_not_exists } => {
                    if *if_not_exists && there(&column.name).is_some() {
                        continue;
                    }
                    self.names_row_start |= column.row_time.is_some();
                    self.system_versioned |= column.system_versioning;
                    placed.push((self.setting.column(column, &self.collation)?, place));
                }
                Action::Change { old, column, place } => match there(old) {
                    Some(_) if *place == Place::Last => {}
                    // It is moved when its turn comes, and others may be put behind it before.
                    Some(before) => placed.push((self.changed(column, before)?, place)),
                    // IF EXISTS, of MariaDB.
                    None if self.setting.mariadb => {}
                    None => return Err(unknown(old)),
                },
                Action::DropColumn(name) | Action::RenameColumn { old: name, .. }
                    if !self.setting.mariadb && there(name).is_none() =>
                {
                    return Err(unknown(name));
                }
                _ => {}
            }
        }
        for (column, place) in placed {
            kept.retain(|other| *other != column);
            let at = match place {
                Place::Last => kept.len(),
                Place::First => 0,
                Place::After(name) => {
                    1 + kept.iter().position(|other| same_name(&other.name, name)).ok_or_else(|| unknown(name))?
                }
            };
            kept.insert(at, column);
        }
        for (at, column) in kept.iter().enumerate() {
            if kept[..at].iter().any(|before| same_name(&before.name, &column.name)) {
                return Err(format!("column {:?} would be there twice", column.name));
            }
        }
        self.columns = kept;
        for key in &mut self.keys {
            let is = |part: &Option<String>, name: &str| part.as_deref().is_some_and(|part| same_name(part, name));
            key.columns.retain(|part| !dropped.iter().any(|name| is(part, name)));
            for part in &mut key.columns {
                if let Some((_, new)) = renamed.iter().find(|(before, _)| is(part, before)) {
                    *part = Some(new.clone());
                }
            }
        }
        self.keys.retain(|key| !key.columns.is_empty() || key.expression);
        Ok(())
    }

    /// A column's new definition; a column of the primary key stays NOT NULL.
    fn changed(&self, spec: &ColumnSpec, before: &ColumnDef) -> Result<ColumnDef, String> {
        let mut column = self.setting.column(spec, &self.collation)?;
        let primary = self.keys.iter().filter(|key| key.name == PRIMARY);
        let in_primary = |key: &Key| {
            key.columns.iter().any(|part| part.as_deref().is_some_and(|part| same_name(part, &before.name)))
        };
        if primary.into_iter().any(in_primary) {
            column.nullable = false;
        }
        Ok(column)
    }

    fn add_key(&mut self, spec: &KeySpec) -> Result<(), String> {
        let name = match (&spec.name, spec.primary) {
            (_, true) => PRIMARY.to_owned(),
            (Some(name), false) => name.clone(),
            (None, false) => self.unused_name(spec),
        };
        if self.keys.iter().any(|key| same_name(&key.name, &name)) {
            if spec.if_not_exists {
                return Ok(());
            }
            return Err(format!("the key {name:?} is known already"));
        }
        let mut partial = false;
        let mut bytes = 0;
        let mut hashed = spec.hash && self.setting.mariadb && !self.engine.eq_ignore_ascii_case("MEMORY");
        let mut columns = Vec::with_capacity(spec.parts.len());
        for KeyPart { column, prefix, overlaps } in &spec.parts {
            let Some(name) = column else {
                partial = true;
                columns.push(None);
                continue;
            };
            if let Some((_, start, end)) = self.periods.iter().find(|(period, ..)| *overlaps && same_name(period, name))
            {
                columns.extend([Some(end.clone()), Some(start.clone())]);
                continue;
            }
            if *overlaps {
                return Err(format!("the period {name:?} is not known"));
            }
            let at = self.column(name).ok_or_else(|| unknown(name))?;
            let column = &mut self.columns[at];
            if spec.primary {
                column.nullable = false;
            }
            let column_type = &column.column_type;
            let all = key_bytes(column_type);
            match prefix {
                Some(prefix) if *prefix != column_type.length || !has_length(column_type.kind) => {
                    partial = true;
                    let width = column_type.collation.as_deref().map_or(1, max_bytes_of);
                    bytes += u64::from(*prefix) * u64::from(width);
                }
                _ => {
                    hashed |= self.setting.mariadb && all.is_none_or(|bytes| bytes > KEY_PART_MAX_BYTES);
                    bytes += all.unwrap_or(0);
                }
            }
            columns.push(Some(column.name.to_string()));
        }
        hashed |= self.setting.mariadb && bytes > KEY_MAX_BYTES;
        hashed &= !spec.primary;
        let nullable = self.may_be_null(&columns);
        self.keys.push(Key { name, columns, partial: partial || hashed, hashed, expression: false, nullable });
        Ok(())
    }

    fn may_be_null(&self, key: &[Option<String>]) -> bool {
        let at = |name: &Option<String>| self.column(name.as_deref()?);
        key.iter().filter_map(at).any(|at| self.columns[at].nullable)
    }

    /// The name that the server gives: the first column's, and a number where that is taken.
    fn unused_name(&self, spec: &KeySpec) -> String {
        let first = spec.parts.first().and_then(|part| part.column.as_deref());
        let base = match first {
            // As the table has it, not as the key wrote it.
            Some(name) => self.column(name).map_or(name, |at| &*self.columns[at].name),
            None => "functional_index",
        };
        let taken = |name: &str| self.keys.iter().any(|key| same_name(&key.name, name));
        if !taken(base) && !same_name(base, PRIMARY) {
            return base.to_owned();
        }
        // Fewer keys than numbers.
        (2..).map(|number| format!("{base}_{number}")).find(|name| !taken(name)).unwrap_or_default()
    }

    fn into_def(mut self, database: &str, name: &str) -> Result<TableDef, String> {
        let columns = &self.columns;
        let hashes: Vec<bool> = {
            let hashed = self.keys.iter().filter(|key| key.hashed);
            hashed.map(|key| key.nullable).collect()
        };
        // By the hash's own column, which comes last.
        self.keys.sort_by_key(|key| (key.hashed || key.nullable, key.name != PRIMARY, key.partial));
        let place = |part: &Option<String>| {
            let at =
                columns.iter().position(|column| part.as_deref().is_some_and(|part| same_name(part, &column.name)));
            at.and_then(|at| u16::try_from(at).ok())
        };
        let unique: Box<[UniqueIndex]> = self
            .keys
            .iter()
            .map(|key| {
                let places: Box<[u16]> = key.columns.iter().filter_map(place).collect();
                let partial = key.partial || places.len() != key.columns.len();
                UniqueIndex { name: key.name.as_str().into(), columns: places, partial }
            })
            .collect();
        if self.system_versioned && !self.names_row_start {
            self.columns.push(hidden("row_start", "timestamp(6)", false));
            self.columns.push(hidden("row_end", "timestamp(6)", false));
        }
        for (at, nullable) in hashes.into_iter().enumerate() {
            self.columns.push(hidden(&format!("{HASH_COLUMN}{}", at + 1), "bigint(21) unsigned", nullable));
        }
        if self.columns.len() > usize::from(u16::MAX) {
            return Err("it has more columns than a server allows".to_owned());
        }
        Ok(TableDef {
            database: database.into(),
            name: name.into(),
            key: TableDef::chosen_key(&self.columns, &unique),
            columns: self.columns.into(),
            unique,
            collation: self.collation.into(),
            engine: self.engine.into(),
            system_versioned: self.system_versioned,
        })
    }
}

fn hidden(name: &str, column_type: &str, nullable: bool) -> ColumnDef {
    ColumnDef {
        name: name.into(),
        column_type: Arc::new(ColumnType::parse(column_type, None, None)),
        nullable,
        generated: Generated::None,
        invisible: true,
        hidden: true,
        auto_increment: false,
        json: false,
    }
}

fn has_length(kind: Kind) -> bool {
    matches!(kind, Kind::Char | Kind::Varchar | Kind::Binary | Kind::Varbinary)
}

/// The bytes of a whole column in a key; none for what has no end.
fn key_bytes(column_type: &ColumnType) -> Option<u64> {
    let length = u64::from(column_type.length);
    match column_type.kind {
        Kind::Char | Kind::Varchar => {
            Some(length * u64::from(column_type.collation.as_deref().map_or(1, max_bytes_of)))
        }
        Kind::Binary | Kind::Varbinary => Some(length),
        Kind::TinyText
        | Kind::Text
        | Kind::MediumText
        | Kind::LongText
        | Kind::TinyBlob
        | Kind::Blob
        | Kind::MediumBlob
        | Kind::LongBlob => None,
        _ => Some(8),
    }
}
