//! What CREATE TABLE and ALTER TABLE make of a table.
//!
//! Invariants:
//! - An ALTER's actions are of one moment: columns and keys are dropped, changed and renamed in the table as it was, then
//!   what is new or moved takes its place in the order it was written in. MariaDB lets MODIFY and CHANGE take the place of
//!   a column that the same statement adds.
//! - Unique indexes stand in the order the server keeps them in: PRIMARY, those without a column that may be NULL, whole
//!   before partial, and what is older first. MariaDB sorts them so when it adds an index, whichever, and when
//!   the unique index that took the place of a primary key can no longer; any other ALTER leaves their order, whatever
//!   became of their columns.
//! - Indexes that let rows be equal are followed for their names alone; those that a server makes of foreign keys are not.
//! - An action that does not fit the table is an error: what was known of the table is not what the server had.

use std::sync::Arc;

use super::collation::max_bytes_of;
use super::column_type::{ColumnType, charset_of};
use super::ddl::{Action, Charset, ColumnSpec, KeySpec, Options, Place, TableName};
use super::def::{ColumnDef, Generated, PlainIndex, TableDef, UniqueIndex, engine_name};
use super::keys::{
    Draft, DraftPart, KEY_MAX_BYTES, KEY_PART_MAX_BYTES, Key, PRIMARY, Plain, Slot, has_length, key_bytes, rank,
    same_name,
};
use super::resolve::Setting;

/// A table between two shapes. Hidden columns are not in it: they come back at the end.
struct Work<'a> {
    setting: &'a Setting,
    columns: Vec<ColumnDef>,
    keys: Vec<Key>,
    /// They get the order of new ones.
    sorts_keys: bool,
    plain: Vec<Plain>,
    collation: String,
    /// What CONVERT TO CHARACTER SET made of all columns.
    converts_to: Option<String>,
    engine: String,
    system_versioned: bool,
    /// A column is named as the row's start.
    names_row_start: bool,
    /// Of MariaDB, by name, first and last column.
    periods: Vec<(String, String, String)>,
}

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
        sorts_keys: true,
        plain: Vec::new(),
        collation: setting.collation(&options.charset, database_collation)?,
        converts_to: None,
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
        work.add_key(&Draft::new(key))?;
    }
    work.into_def(&table.database, &table.name)
}

/// The table after the actions that change its shape.
///
/// # Errors
/// As [`create`].
pub(super) fn alter(setting: &Setting, old: &TableDef, actions: &[Action]) -> Result<TableDef, String> {
    let mut work = Work::of(setting, old);
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
            Action::Convert(charset) => work.convert(charset, actions)?,
            Action::DropVersioning => (work.system_versioned, work.names_row_start) = (false, false),
            _ => {}
        }
    }
    let slots = work.change_columns(actions)?;
    let carried = old.unique.iter().filter_map(|index| {
        let name = name_after(&index.name, actions)?;
        Draft::carried(&UniqueIndex { name, ..index.clone() }, old, &slots)
    });
    let carried: Vec<Draft> = carried.collect();
    // The server's primary key that is none by name, where it is not dropped: as it was, and what is left of it.
    let promoted = old.unique.first().filter(|index| {
        &*index.name != PRIMARY && index.may_be_key(&old.columns) && name_after(&index.name, actions).is_some()
    });
    let promoted = promoted.map(|index| (index.columns.len(), Draft::carried(index, old, &slots)));
    let plain = old.plain.iter().filter_map(|index| {
        let name = name_after(&index.name, actions)?;
        Plain::carried(&PlainIndex { name, ..index.clone() }, old, &slots)
    });
    work.plain = plain.collect();
    work.columns = slots.into_iter().map(|slot| slot.column).collect();
    work.periods_are_not_null();
    for draft in &carried {
        work.add_key(draft)?;
    }
    let is_lost = |(parts, draft): &(usize, Option<Draft>)| {
        draft.as_ref().is_none_or(|draft| draft.parts.len() < *parts || work.may_be_null(draft))
    };
    work.sorts_keys = !setting.mariadb || promoted.as_ref().is_some_and(is_lost);
    for action in actions {
        match action {
            Action::AddKey(key) => work.add_key(&Draft::new(key))?,
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

/// The name of an index after the actions; none where it is dropped.
fn name_after(name: &str, actions: &[Action]) -> Option<Box<str>> {
    let is_dropped = actions.iter().any(|action| match action {
        Action::DropPrimary => name == PRIMARY,
        Action::DropIndex(dropped) => same_name(name, dropped),
        _ => false,
    });
    // Two may change names: by what it was before.
    let renamed = actions.iter().find_map(|action| match action {
        Action::RenameIndex { old, new } if same_name(name, old) => Some(new.as_str().into()),
        _ => None,
    });
    (!is_dropped).then(|| renamed.unwrap_or_else(|| name.into()))
}

impl<'a> Work<'a> {
    /// Without its indexes, which are made anew.
    fn of(setting: &'a Setting, old: &TableDef) -> Work<'a> {
        let row_start = old.columns.iter().any(|column| column.hidden && !column.name.starts_with(HASH_COLUMN));
        Work {
            setting,
            columns: old.columns.iter().filter(|column| !column.hidden).cloned().collect(),
            keys: Vec::new(),
            sorts_keys: true,
            plain: Vec::new(),
            collation: old.collation.to_string(),
            converts_to: None,
            engine: old.engine.to_string(),
            system_versioned: old.system_versioned,
            names_row_start: old.system_versioned && !row_start,
            periods: Vec::new(),
        }
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

    fn convert(&mut self, charset: &Charset, actions: &[Action]) -> Result<(), String> {
        let to = self.setting.collation(charset, &self.collation)?;
        for column in self.columns.iter_mut().filter(|column| column.column_type.kind.is_character()) {
            column.column_type = Arc::new(self.setting.converted(&column.column_type, &to));
        }
        // MariaDB allows DEFAULT CHARACTER SET beside it, which is then the table's alone.
        if !actions.iter().any(|action| matches!(action, Action::Options(options) if options.charset.is_said())) {
            self.collation = to.clone();
        }
        self.converts_to = Some(to);
        Ok(())
    }

    /// A column that a statement writes: whatever character set it names, CONVERT TO is said of it too.
    fn written(&self, spec: &ColumnSpec) -> Result<ColumnDef, String> {
        let column = self.setting.column(spec, &self.collation)?;
        let Some(to) = &self.converts_to else { return Ok(column) };
        if column.column_type.collation.as_deref().is_none_or(|collation| charset_of(collation) == "binary") {
            return Ok(column);
        }
        let mut spec = spec.clone();
        spec.column_type.charset = Charset { collation: Some(to.clone()), ..Charset::default() };
        self.setting.column(&spec, to)
    }

    fn change_columns(&mut self, actions: &[Action]) -> Result<Vec<Slot>, String> {
        let mut kept: Vec<Slot> = Vec::with_capacity(self.columns.len() + actions.len());
        let mut placed: Vec<(Slot, &Place)> = Vec::new();
        let old = std::mem::take(&mut self.columns);
        for (from, column) in old.iter().enumerate() {
            let about = |action: &&Action| match action {
                Action::DropColumn(name)
                | Action::Change { old: name, .. }
                | Action::RenameColumn { old: name, .. } => same_name(name, &column.name),
                _ => false,
            };
            let is_drop = |action: &&Action| matches!(action, Action::DropColumn(_));
            let mut about_it = actions.iter().filter(about);
            let (column, called) = match about_it.clone().find(is_drop).or_else(|| about_it.next()) {
                Some(Action::DropColumn(_)) => continue,
                Some(Action::Change { old, column: spec, .. }) => (self.written(spec)?, Some(old.clone())),
                Some(Action::RenameColumn { old, new }) => {
                    (ColumnDef { name: new.as_str().into(), ..column.clone() }, Some(old.clone()))
                }
                _ => (column.clone(), None),
            };
            kept.push(Slot { column, from: Some(from), called });
        }
        let there = |name: &str| old.iter().position(|column| same_name(&column.name, name));
        // Dropped by the statement, or what another of its actions, before this one, has changed.
        let gone = |name: &str, action: &Action| {
            let mut about = actions.iter().filter(|other| match other {
                Action::DropColumn(dropped) => same_name(dropped, name),
                Action::Change { old, .. } => same_name(old, name),
                _ => false,
            });
            about.clone().any(|other| matches!(other, Action::DropColumn(_)))
                || about.next().is_some_and(|first| !std::ptr::eq(first, action))
        };
        for action in actions {
            match action {
                Action::AddColumn { column, place, if_not_exists } => {
                    if *if_not_exists && there(&column.name).is_some() {
                        continue;
                    }
                    self.names_row_start |= column.row_time.is_some();
                    self.system_versioned |= column.system_versioning;
                    let column = self.written(column)?;
                    placed.push((Slot { column, from: None, called: None }, place));
                }
                Action::Change { old, column, place, if_exists } => match there(old).filter(|_| !gone(old, action)) {
                    Some(_) if *place == Place::Last => {}
                    // It is moved when its turn comes, and others may be put behind it before.
                    Some(from) => {
                        let column = self.written(column)?;
                        placed.push((Slot { column, from: Some(from), called: Some(old.clone()) }, place));
                    }
                    None if *if_exists => {}
                    None if self.setting.mariadb => {
                        let column = self.written(column)?;
                        placed.push((Slot { column, from: None, called: Some(old.clone()) }, place));
                    }
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
        for (slot, place) in placed {
            match (slot.from, &slot.called) {
                (Some(from), _) => kept.retain(|other| other.from != Some(from)),
                // MariaDB's change of what the statement itself has added.
                (None, Some(called)) => {
                    let is_it = |other: &Slot| other.from.is_none() && same_name(&other.column.name, &slot.column.name);
                    let at = kept.iter().position(is_it).ok_or_else(|| unknown(called))?;
                    kept.remove(at);
                }
                (None, None) => {}
            }
            let at = match place {
                Place::Last => kept.len(),
                Place::First => 0,
                Place::After(name) => {
                    let is_it = |other: &Slot| same_name(&other.column.name, name);
                    1 + kept.iter().position(is_it).ok_or_else(|| unknown(name))?
                }
            };
            kept.insert(at, slot);
        }
        for (at, slot) in kept.iter().enumerate() {
            if kept[..at].iter().any(|before| same_name(&before.column.name, &slot.column.name)) {
                return Err(format!("column {:?} would be there twice", slot.column.name));
            }
        }
        Ok(kept)
    }

    fn add_key(&mut self, draft: &Draft) -> Result<(), String> {
        let name = match (&draft.name, draft.primary) {
            (_, true) => PRIMARY.to_owned(),
            (Some(name), false) => name.clone(),
            (None, false) => self.unused_name(draft),
        };
        let taken = self.is_taken(&name);
        self.sorts_keys |= !(taken && draft.if_not_exists);
        if taken {
            if draft.if_not_exists || !draft.unique {
                return Ok(());
            }
            return Err(format!("the key {name:?} is known already"));
        }
        if !draft.unique {
            let parts = draft.parts.iter().filter_map(|part| match part {
                DraftPart::Column { name, .. } => Some(name.clone()),
                DraftPart::Expression | DraftPart::Period(_) => None,
            });
            let columns: Vec<String> = parts.collect();
            let expression = columns.len() != draft.parts.len();
            self.plain.push(Plain { name, columns, expression });
            return Ok(());
        }
        let mut bytes = 0;
        let mut expression = false;
        let mut hashed = draft.hash && self.setting.mariadb && !self.engine.eq_ignore_ascii_case("MEMORY");
        let mut parts = Vec::with_capacity(draft.parts.len());
        for part in &draft.parts {
            let (name, prefix) = match part {
                DraftPart::Expression => {
                    expression = true;
                    continue;
                }
                DraftPart::Period(name) => {
                    let period = self.periods.iter().find(|(period, ..)| same_name(period, name));
                    let (_, start, end) = period.ok_or_else(|| format!("the period {name:?} is not known"))?;
                    parts.extend([(end.clone(), 0), (start.clone(), 0)]);
                    continue;
                }
                DraftPart::Column { name, prefix } => (name, prefix),
            };
            let at = self.column(name).ok_or_else(|| unknown(name))?;
            let column = &mut self.columns[at];
            if draft.primary {
                column.nullable = false;
            }
            let column_type = &column.column_type;
            let all = key_bytes(column_type);
            let prefix = match prefix {
                Some(prefix) if *prefix != column_type.length || !has_length(column_type.kind) => {
                    let width = column_type.collation.as_deref().map_or(1, max_bytes_of);
                    bytes += u64::from(*prefix) * u64::from(width);
                    *prefix
                }
                _ => {
                    hashed |= self.setting.mariadb && all.is_none_or(|bytes| bytes > KEY_PART_MAX_BYTES);
                    bytes += all.unwrap_or(0);
                    0
                }
            };
            parts.push((column.name.to_string(), prefix));
        }
        hashed |= self.setting.mariadb && bytes > KEY_MAX_BYTES;
        hashed &= !draft.primary;
        let nullable = parts.iter().filter_map(|(name, _)| self.column(name)).any(|at| self.columns[at].nullable);
        let prefix = parts.iter().any(|(_, prefix)| *prefix > 0);
        let rank = rank(&name, nullable, prefix, hashed);
        self.keys.push(Key { name, parts, expression, hashed, nullable, rank });
        Ok(())
    }

    fn may_be_null(&self, draft: &Draft) -> bool {
        draft.parts.iter().any(|part| match part {
            DraftPart::Column { name, .. } => self.column(name).is_some_and(|at| self.columns[at].nullable),
            DraftPart::Expression | DraftPart::Period(_) => false,
        })
    }

    fn is_taken(&self, name: &str) -> bool {
        let mut names = self.keys.iter().map(|key| &key.name).chain(self.plain.iter().map(|index| &index.name));
        names.any(|taken| same_name(taken, name))
    }

    /// The name that the server gives: the first column's, and a number where that is taken.
    fn unused_name(&self, draft: &Draft) -> String {
        let first = draft.parts.first().and_then(|part| match part {
            DraftPart::Column { name, .. } | DraftPart::Period(name) => Some(name.as_str()),
            DraftPart::Expression => None,
        });
        let base = match first {
            // As the table has it, not as the key wrote it.
            Some(name) => self.column(name).map_or(name, |at| &*self.columns[at].name),
            None => "functional_index",
        };
        let taken = |name: &str| self.is_taken(name);
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
        if self.sorts_keys {
            self.keys.sort_by_key(|key| key.rank);
        }
        let place = |name: &str| {
            let at = columns.iter().position(|column| same_name(name, &column.name));
            at.and_then(|at| u16::try_from(at).ok())
        };
        let unique: Box<[UniqueIndex]> = self
            .keys
            .iter()
            .map(|key| {
                let (places, prefixes): (Vec<u16>, Vec<u32>) =
                    key.parts.iter().filter_map(|(name, prefix)| Some((place(name)?, *prefix))).unzip();
                UniqueIndex {
                    name: key.name.as_str().into(),
                    columns: places.into(),
                    prefixes: UniqueIndex::prefixes(prefixes),
                    expression: key.expression,
                    hashed: key.hashed,
                }
            })
            .collect();
        let plain = self.plain.iter().map(|index| PlainIndex {
            name: index.name.as_str().into(),
            columns: index.columns.iter().filter_map(|name| place(name)).collect(),
            expression: index.expression,
        });
        let plain = plain.collect();
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
            plain,
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
