//! The tables that the stream delivers: how their rows are read, and which version of which schema they are.
//!
//! Invariants:
//! - One plan per (table id, bytes of its TABLE_MAP): a busy table's map comes with every statement and costs a comparison.
//! - A TABLE_MAP counts for the rest of its statement, no longer.
//! - A table's schema is the history's alone ([`super::schema`]); where a map does not fit it, that table stops: it is
//!   stored as stopped, said aloud now and at every start, and nothing of it is delivered until the operator has read it
//!   anew. Everything else goes on.
//! - What is not on its way to the store is undone before another connection replays it.

mod newcomers;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::catalog::{Catalog, SYSTEM_DATABASES};
use super::schema::{self, ColumnDef, Definition, History, Host, Statement, TableDef, TableName};
use super::statement::{RowsOf, rows_of};
use super::stopped::{self, Stopped};
use super::types;
use crate::error::{Class, Context, Error, Result};
use crate::record::{BinlogPosition, Cell, Column, Identity, StateEntry, TableSchema};
use crate::source::State;
use crate::source::tables::Selection;
use crate::wire::mysql::column::ColumnType;
use crate::wire::mysql::event::{Event, Query, QueryVariables, TableMap};
use crate::wire::mysql::row::{RowPlan, RowScan};
use crate::wire::mysql::value::Charset;
use crate::wire::mysql::value::json::PARTIAL_MARK;

pub use newcomers::Newcomer;

/// Plans kept: several times what a server keeps open (`table_open_cache`, 4000 by default) would never be needed at once;
/// a plan is a few hundred bytes to a few KiB. Beyond it all are made anew.
const PLANS_MAX: usize = 16 * 1024;

/// Of a statement in a message: enough to know it again.
const SHOWN_CHARS: usize = 120;

/// How the rows of a wanted table become records.
#[derive(Debug)]
pub struct Plan {
    pub schema: Arc<TableSchema>,
    pub rows: RowPlan,
    pub definition: Arc<Definition>,
    /// By column of the log, its cell.
    outputs: Box<[Option<u16>]>,
}

impl Plan {
    /// The last row of the scan has JSON columns of which only the differences to the old row's value were logged: makes
    /// cells of both, behind what the frame holds so far, which stands at 0.
    ///
    /// # Errors
    /// Data: the old row was not logged with that column.
    pub fn differences(&self, scan: &RowScan<'_, '_>, cells: &mut [Cell], frame: &mut Vec<u8>) -> Result<()> {
        let width = self.schema.columns.len();
        for (column, output) in self.outputs.iter().enumerate() {
            let Some(output) = output.map(usize::from).filter(|_| scan.is_difference(column)) else { continue };
            let (new, old) = (cells[output], cells[width + output]);
            let (Some((new_at, new_bytes)), Some((old_at, old_bytes))) = (new.range(), old.range()) else {
                return Err(Error::data(format!(
                    "column {:?} of {} was logged as differences to a value that was not logged",
                    self.schema.columns[output].name, self.schema
                ))
                .remedy(
                    "SET GLOBAL binlog_row_value_options = '' or binlog_row_image = FULL, and read the table anew",
                ));
            };
            let at = frame.len();
            frame.push(PARTIAL_MARK);
            frame.extend_from_slice(&(old_bytes as u32).to_le_bytes());
            frame.extend_from_within(old_at..old_at + old_bytes);
            frame.extend_from_within(new_at..new_at + new_bytes);
            cells[output] = Cell::at(at, frame.len() - at);
        }
        Ok(())
    }
}

#[derive(Debug)]
pub enum Target {
    Wanted(Plan),
    /// Its rows are counted, where they can be told apart.
    Unwanted(Option<RowPlan>),
}

/// The plan that only counts rows. None where the map does not tell their length: an unknown type, MariaDB's temporal types
/// of the old format, whose digits of a fraction only a definition knows.
fn counting(map: &TableMap<'_>) -> Option<RowPlan> {
    let types = map.types().ok()?;
    let old = |wire: &ColumnType| matches!(wire, ColumnType::Time | ColumnType::Datetime | ColumnType::Timestamp);
    (!types.iter().any(|(wire, _)| old(wire))).then(|| RowPlan::of_types(&types, &[], 0))
}

/// What a statement did to a wanted table.
#[derive(Clone, Debug)]
pub enum Effect {
    Changed { previous: Option<Arc<TableSchema>>, schema: Arc<TableSchema> },
    Truncated(Arc<TableSchema>),
}

/// What a statement did.
#[derive(Debug, Default)]
pub struct Done {
    pub effects: Vec<Effect>,
    /// The statement, in UTF-8.
    pub text: String,
    /// It changed rows of a wanted table that are not in the log: what it was.
    pub statement_based: Option<String>,
}

struct Mapped {
    body: Box<[u8]>,
    target: Arc<Target>,
}

pub struct Relations {
    selection: Selection,
    history: History,
    plans: HashMap<u64, Mapped>,
    /// The TABLE_MAPs of the statement at hand.
    statement: Vec<(u64, Arc<Target>)>,
    /// Schemas by the table's id: the same one while its version is.
    schemas: HashMap<u64, Arc<TableSchema>>,
    /// Tables that go no further, and why.
    stopped: BTreeMap<Name, Box<str>>,
    entries: Vec<StateEntry>,
    /// What stores what the catalog and TABLE_MAPs told, until it is on its way.
    baseline: Vec<StateEntry>,
    /// Before everything that is not on its way to the store.
    settled: Option<Box<Settled>>,
}

type Settled = (History, BTreeMap<Name, Box<str>>);

/// Database and name.
type Name = (Box<str>, Box<str>);

impl Relations {
    /// What an earlier run stored, as it stood at `from`.
    ///
    /// # Errors
    /// Config: what is stored cannot be read.
    pub fn restore(selection: Selection, host: Host, state: &State, from: &BinlogPosition) -> Result<Self> {
        let mut relations = Self::with(selection, History::load(host, state, from)?);
        for Stopped { database, table, why } in stopped::tables(state) {
            tracing::error!(table = %format_args!("{database}.{table}"), why, "a table that goes no further");
            relations.stopped.insert((database.into(), table.into()), why.into());
        }
        Ok(relations)
    }

    /// The tables of the catalog: all there are, wanted or not, since a name may pass to another.
    pub fn of(selection: Selection, host: Host, catalog: &Catalog, databases: &[(String, String)]) -> Self {
        let mut history = History::new(host);
        for (name, collation) in databases {
            history.prime_database(name, collation);
        }
        for table in &catalog.tables {
            history.prime(&table.def);
        }
        let baseline = history.take_entries();
        Relations { baseline, ..Self::with(selection, history) }
    }

    fn with(selection: Selection, history: History) -> Self {
        Relations {
            selection,
            history,
            plans: HashMap::new(),
            statement: Vec::new(),
            schemas: HashMap::new(),
            stopped: BTreeMap::new(),
            entries: Vec::new(),
            baseline: Vec::new(),
            settled: None,
        }
    }

    /// Wants other tables from now on. False, and nothing is changed: one of them was never heard of.
    pub fn select(&mut self, selection: &Selection) -> bool {
        if !selection.taken().all(|(database, name)| self.history.has_heard_of(database, name)) {
            return false;
        }
        self.selection = selection.clone();
        self.forget_maps();
        true
    }

    /// Whether an earlier run has stored tables.
    pub fn is_in(state: &State) -> bool {
        state.keys().any(|key| key.starts_with(schema::STATE_PREFIX))
    }

    /// The schema of a table's rows as a snapshot reads them; none for one that goes no further.
    ///
    /// # Errors
    /// As [`schema_of`].
    pub fn snapshot_schema(&self, table: &TableDef) -> Result<Option<TableSchema>> {
        let name = (table.database.clone(), table.name.clone());
        let definition = self.history.table(&table.database, &table.name);
        let definition = definition.filter(|_| !self.stopped.contains_key(&name));
        definition.map(|definition| schema_of(definition, &self.selection, types::snapshot_column)).transpose()
    }

    /// What stores the tables that the catalog or a TABLE_MAP told of, where that was not done yet.
    pub fn baseline(&self) -> Vec<StateEntry> {
        self.baseline.clone()
    }

    /// State that what was read since the last time made; it becomes true with the next position.
    pub fn take_entries(&mut self) -> Vec<StateEntry> {
        let mut entries = self.history.take_entries();
        entries.append(&mut self.entries);
        entries
    }

    /// The tables that go no further, where there are any.
    pub fn stopped(&self) -> Option<String> {
        let names: Vec<String> = self.stopped.keys().map(|(database, name)| format!("{database}.{name}")).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// Everything so far is on its way to the store.
    pub fn settle(&mut self) {
        self.baseline.clear();
        self.settled = None;
    }

    /// Undoes what is not: as after a restart.
    pub fn roll_back(&mut self) {
        self.forget_maps();
        self.entries.clear();
        if let Some(settled) = self.settled.take() {
            (self.history, self.stopped) = *settled;
        }
    }

    /// Before a change that [`Relations::roll_back`] may have to undo.
    fn unsettle(&mut self) {
        self.settled.get_or_insert_with(|| Box::new((self.history.clone(), self.stopped.clone())));
    }

    /// What a statement that is logged as text does. `at`: its transaction.
    ///
    /// # Errors
    /// Data: it cannot be read. Config: the selection leaves out what a table's new key is of.
    pub fn statement(&mut self, query: &Query<'_>, at: &Arc<BinlogPosition>) -> Result<Done> {
        let (text, variables) = text_of(query)?;
        let text = &*text;
        let mut done = Done::default();
        if let Some(rows_of) = rows_of(text) {
            self.rows_changed(rows_of, query.database, text, &mut done)?;
            done.text = text.to_owned();
            return Ok(done);
        }
        self.unsettle();
        let effects = self.history.apply(&Statement { database: query.database, sql: text, variables }, at);
        if !effects.is_empty() {
            self.plans.clear();
        }
        let mut renamed = HashMap::new();
        for effect in effects {
            self.effect(effect, &mut renamed, &mut done)?;
        }
        done.text = text.to_owned();
        Ok(done)
    }

    /// Rows were changed that are not in the log.
    fn rows_changed(&mut self, rows_of: RowsOf, default: &str, text: &str, done: &mut Done) -> Result<()> {
        let wanted = match &rows_of {
            RowsOf::Table { database, name } | RowsOf::All { database, name } => {
                self.wants(database.as_deref().unwrap_or(default), name)
            }
            RowsOf::Some => true,
        };
        match rows_of {
            RowsOf::All { database, name } if wanted => {
                let table = self.history.table(database.as_deref().unwrap_or(default), &name).cloned();
                if let Some(table) = table.filter(|table| self.delivers(&table.table)) {
                    done.effects.push(Effect::Truncated(self.schema(&table)?));
                }
            }
            _ if wanted => done.statement_based = Some(text.chars().take(SHOWN_CHARS).collect()),
            _ => {}
        }
        Ok(())
    }

    /// `renamed`: by the name it had, what the statement took away from there.
    fn effect(
        &mut self,
        effect: schema::Effect,
        renamed: &mut HashMap<TableName, Arc<Definition>>,
        done: &mut Done,
    ) -> Result<()> {
        match effect {
            schema::Effect::Changed { old, new } => {
                if self.delivers(&new.table) {
                    let previous = Some(self.schema(&old)?);
                    done.effects.push(Effect::Changed { previous, schema: self.schema(&new)? });
                }
            }
            schema::Effect::Renamed { from, to, old, new } => {
                if let Some(new) = new.filter(|new| self.delivers(&new.table)) {
                    // What had the name until now, where another table was known by it: a swap.
                    let before = renamed.get(&to).or(old.as_ref());
                    let before = before.filter(|before| self.delivers(&before.table)).cloned();
                    let previous = before.map(|before| self.schema(&before)).transpose()?;
                    done.effects.push(Effect::Changed { previous, schema: self.schema(&new)? });
                }
                if let Some(old) = old {
                    renamed.insert(from, old);
                }
            }
            schema::Effect::Truncated { name, table } => match table {
                Some(table) if self.delivers(&table.table) => {
                    let schema = self.schema(&table)?;
                    done.effects.push(Effect::Truncated(schema));
                }
                None if self.wants(&name.database, &name.name) => {
                    tracing::warn!(table = %name, "a table that is not known was truncated");
                }
                _ => {}
            },
            schema::Effect::RowsMoved { name, why } if self.wants(&name.database, &name.name) => {
                tracing::error!(
                    table = %name,
                    why,
                    "rows of the table came or went without events of their own: what was delivered of it is no longer \
                     what the table holds; read it anew"
                );
            }
            schema::Effect::Unknown { tables, why } => {
                for name in tables.iter().filter(|name| self.wants(&name.database, &name.name)) {
                    tracing::warn!(table = %name, why, "a statement about the table was not understood");
                }
            }
            schema::Effect::Created(new) => {
                if self.delivers(&new.table) {
                    done.effects.push(Effect::Changed { previous: None, schema: self.schema(&new)? });
                }
            }
            schema::Effect::Dropped { .. } | schema::Effect::RowsMoved { .. } => {}
        }
        Ok(())
    }

    fn wants(&self, database: &str, name: &str) -> bool {
        !SYSTEM_DATABASES.iter().any(|system| system.eq_ignore_ascii_case(database))
            && self.selection.wants(database, name)
    }

    /// Wanted, and not stopped.
    fn delivers(&self, table: &TableDef) -> bool {
        self.wants(&table.database, &table.name)
            && !self.stopped.contains_key(&(table.database.clone(), table.name.clone()))
    }

    /// This table goes no further: it is said, and stored.
    fn stop(&mut self, map: &TableMap<'_>, why: &Error) {
        self.unsettle();
        let name: Name = (map.database.into(), map.table.into());
        tracing::error!(
            table = %format_args!("{}.{}", map.database, map.table),
            ?why,
            "the table's rows in the log do not fit what is known of it: none of it is delivered from here on; everything \
             else goes on"
        );
        let key = stopped::key(map.database, map.table);
        self.entries.push(StateEntry { key, value: Some(format!("{why:?}").into_bytes()) });
        self.stopped.insert(name, format!("{why:?}").into());
    }
    /// Takes a TABLE_MAP event: until the statement ends, its number stands for the table.
    ///
    /// # Errors
    /// Data: the event is malformed.
    #[inline]
    pub fn map(
        &mut self,
        event: &Event<'_>,
        map: &TableMap<'_>,
        at: impl FnOnce() -> Arc<BinlogPosition>,
    ) -> Result<()> {
        let known = self.plans.get(&map.table_id).filter(|mapped| *mapped.body == *event.body());
        let target = match known {
            Some(mapped) => mapped.target.clone(),
            None => self.plan(event, map, &at())?,
        };
        self.statement.push((map.table_id, target));
        Ok(())
    }

    /// The table of a number; none where no TABLE_MAP of the statement names it.
    #[inline]
    pub fn target(&self, table_id: u64) -> Option<Arc<Target>> {
        let last = self.statement.iter().rev().find(|(id, _)| *id == table_id);
        last.map(|(_, target)| target.clone())
    }

    /// The statement has ended.
    #[inline]
    pub fn unmap(&mut self) {
        self.statement.clear();
    }

    /// Numbers of tables mean something else from here on.
    pub fn forget_maps(&mut self) {
        self.statement.clear();
        self.plans.clear();
    }

    /// As [`Relations::map`], for rows that were kept: the table is what it was then.
    ///
    /// # Errors
    /// Data: the event is malformed, the table does not fit it.
    pub fn map_kept(&mut self, map: &TableMap<'_>, definition: Option<&Arc<Definition>>) -> Result<()> {
        let target = match definition {
            None => Target::Unwanted(counting(map)),
            Some(definition) => Target::Wanted(self.wanted(map, definition.clone())?),
        };
        self.statement.push((map.table_id, Arc::new(target)));
        Ok(())
    }

    #[cold]
    fn plan(&mut self, event: &Event<'_>, map: &TableMap<'_>, at: &Arc<BinlogPosition>) -> Result<Arc<Target>> {
        let wanted = match self.definition(map, at) {
            Ok(None) => None,
            Ok(Some(definition)) => self.wanted(map, definition).map(Some).or_else(|error| self.refuse(map, error))?,
            Err(error) => self.refuse(map, error)?,
        };
        let target = Arc::new(wanted.map_or_else(|| Target::Unwanted(counting(map)), Target::Wanted));
        if self.plans.len() >= PLANS_MAX {
            self.plans.clear();
        }
        self.plans.insert(map.table_id, Mapped { body: event.body().into(), target: target.clone() });
        Ok(target)
    }

    /// What does not fit stops the table; what the operator has asked for wrongly stops the stream.
    fn refuse(&mut self, map: &TableMap<'_>, error: Error) -> Result<Option<Plan>> {
        if error.class() != Class::Data {
            return Err(error);
        }
        self.stop(map, &error);
        Ok(None)
    }

    fn wanted(&mut self, map: &TableMap<'_>, definition: Arc<Definition>) -> Result<Plan> {
        let table = &*definition.table;
        let doing = || format!("reading the TABLE_MAP of {table}");
        let wires = map.types().data(doing)?;
        if wires.len() != table.columns.len() {
            return Err(Error::data(format!(
                "{table} has {} columns in the log and {} as far as is known",
                wires.len(),
                table.columns.len()
            )));
        }
        let wires: Vec<_> =
            table.columns.iter().zip(wires).map(|(column, wire)| types::logged_as(column, wire)).collect();
        for (column, wire) in table.columns.iter().zip(&wires) {
            types::row_column(column, *wire)
                .map_err(|error| error.context(format!("comparing {table} with the log")))?;
        }
        let schema = self.schema(&definition)?;
        let kept = kept(&definition.table, &self.selection);
        let mut next = 0;
        let outputs: Vec<Option<u16>> = kept
            .iter()
            .map(|kept| {
                kept.then(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let rows = RowPlan::of_types(&wires, &outputs, next);
        Ok(Plan { schema, rows, definition, outputs: outputs.into() })
    }

    /// What a map's table is in the history; none where it is not wanted.
    fn definition(&mut self, map: &TableMap<'_>, at: &Arc<BinlogPosition>) -> Result<Option<Arc<Definition>>> {
        if !self.wants(map.database, map.table) || self.stopped.contains_key(&(map.database.into(), map.table.into())) {
            return Ok(None);
        }
        if self.history.table(map.database, map.table).is_none() && is_sequence(map) {
            return Ok(None);
        }
        let definition = self.history.reconcile(map, at)?.definition;
        // What the event told is told again by its replay, and not undone; it must be stored all the same.
        let learnt = self.history.take_entries();
        self.baseline.extend(learnt.iter().cloned());
        self.entries.extend(learnt);
        Ok(Some(definition))
    }

    /// The schema that sinks see of a table.
    ///
    /// # Errors
    /// Config: as [`schema_of`].
    pub fn schema(&mut self, definition: &Definition) -> Result<Arc<TableSchema>> {
        if let Some(schema) = self.schemas.get(&definition.id).filter(|schema| schema.version == definition.version) {
            return Ok(schema.clone());
        }
        let schema = Arc::new(schema_of(definition, &self.selection, types::logged_column)?);
        self.schemas.insert(definition.id, schema.clone());
        Ok(schema)
    }
}

/// A statement in UTF-8, and the session it is of.
fn text_of<'a>(query: &Query<'a>) -> Result<(Cow<'a, str>, QueryVariables<'a>)> {
    let doing = || "reading a statement of the log".to_owned();
    let variables = query.variables().data(doing)?;
    let text = match variables.client_charset().and_then(|id| Charset::of_collation_id(id.into())) {
        Some(charset) => Cow::Owned(charset.decode(query.statement, &mut Vec::new()).data(doing)?.to_owned()),
        None => String::from_utf8_lossy(query.statement),
    };
    Ok((text, variables))
}

/// Which of a table's columns sinks see.
pub fn kept(table: &TableDef, selection: &Selection) -> Vec<bool> {
    let keeps = |name: &str| selection.keeps(&table.database, &table.name, name);
    table.columns.iter().map(|column| !column.hidden && keeps(&column.name)).collect()
}

/// The schema that sinks see of a table.
///
/// # Errors
/// Config: the selection leaves a key column out, or every column.
///
/// `decoder` makes a column: of the log's rows, or of a snapshot's.
pub fn schema_of(
    definition: &Definition,
    selection: &Selection,
    decoder: fn(&ColumnDef) -> Result<Column>,
) -> Result<TableSchema> {
    let table = &*definition.table;
    let kept = kept(table, selection);
    if !kept.contains(&true) {
        return Err(Error::config(format!("no column of {table} is selected"))
            .remedy("leave the table out by exclude_tables instead"));
    }
    if let Some(lost) = table.key.iter().find(|at| !kept[usize::from(**at)]) {
        let column = &table.columns[usize::from(*lost)].name;
        return Err(Error::config(format!("column {column} of {table} is left out, but it is part of its key"))
            .remedy("select it, or leave the table out by exclude_tables"));
    }
    // Where a logged column stands among the kept ones.
    let place = |at: &u16| kept[..usize::from(*at)].iter().filter(|kept| **kept).count() as u16;
    let columns = table.columns.iter().zip(&kept).filter(|(_, kept)| **kept);
    let columns = columns.map(|(column, _)| decoder(column)).collect::<Result<_>>()?;
    Ok(TableSchema {
        id: definition.id,
        version: definition.version,
        database: table.database.clone(),
        namespace: table.database.clone(),
        name: table.name.clone(),
        columns,
        key: table.key.iter().map(place).collect(),
        identity: Identity::Full,
    })
}

/// Whether a table that is not known looks like what MariaDB keeps a sequence in: eight columns of these types.
fn is_sequence(map: &TableMap<'_>) -> bool {
    use crate::wire::mysql::column::ColumnType::{LongLong, Tiny};
    let sequence = [LongLong, LongLong, LongLong, LongLong, LongLong, LongLong, Tiny, LongLong];
    map.types().is_ok_and(|types| types.iter().map(|(wire, _)| *wire).eq(sequence))
}
