//! The tables that the stream delivers: how their rows are read, and which version of which schema they are.
//!
//! Invariants:
//! - One plan per (table id, bytes of its TABLE_MAP): a busy table's map comes with every statement and costs a comparison.
//! - A TABLE_MAP counts for the rest of its statement, no longer.
//! - A table's schema is the history's alone ([`super::schema`]); where a map does not fit it, that table stops: it is
//!   stored as stopped, said aloud now and at every start, and nothing of it is delivered until the operator has read it
//!   anew. Everything else goes on.
//! - What is not on its way to the store is undone before another connection replays it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::catalog::Catalog;
use super::definition::Definition;
use super::schema::{ColumnDef, TableDef};
use super::types;
use crate::error::{Class, Context, Error, Result};
use crate::record::{Cell, Column, Identity, StateEntry, TableSchema};
use crate::source::State;
use crate::source::tables::Selection;
use crate::wire::mysql::event::{Event, Query, TableMap};
use crate::wire::mysql::row::{RowPlan, RowScan};
use crate::wire::mysql::value::json::PARTIAL_MARK;

/// Plans kept: several times what a server keeps open (`table_open_cache`, 4000 by default) would never be needed at once;
/// a plan is a few hundred bytes to a few KiB. Beyond it all are made anew.
const PLANS_MAX: usize = 16 * 1024;

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
                .remedy("SET GLOBAL binlog_row_value_options = '' or binlog_row_image = FULL, and read the table anew"));
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

/// What a statement did to a wanted table.
#[derive(Clone, Debug)]
pub enum Effect {
    Changed { previous: Arc<TableSchema>, schema: Arc<TableSchema> },
    Truncated(Arc<TableSchema>),
}

/// What a statement did.
#[derive(Debug, Default)]
pub struct Done {
    pub effects: Vec<Effect>,
    /// To be stored with the position behind it.
    pub entries: Vec<StateEntry>,
    /// The statement, in UTF-8.
    pub text: String,
    /// It changed rows that are not in the log: what it was.
    pub statement_based: Option<&'static str>,
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
    /// What stores the tables of the catalog, until it is on its way.
    baseline: Vec<StateEntry>,
    /// Before everything that is not on its way to the store.
    settled: Option<Box<Settled>>,
}

type Settled = (History, BTreeMap<Name, Box<str>>);

/// Database and name.
type Name = (Box<str>, Box<str>);

/// The tables that are known, by name.
#[derive(Clone, Default)]
struct History {
    tables: HashMap<Name, Arc<Definition>>,
    last_id: u64,
}

impl History {
    fn put(&mut self, definition: Definition) {
        self.last_id = self.last_id.max(definition.id);
        let name = (definition.table.database.clone(), definition.table.name.clone());
        self.tables.insert(name, Arc::new(definition));
    }
}

/// The start of every key of a stored definition; its id in decimal follows.
const TABLE_PREFIX: &[u8] = b"table/";

fn entry(definition: &Definition) -> Result<StateEntry> {
    let key = [TABLE_PREFIX, definition.id.to_string().as_bytes()].concat();
    Ok(StateEntry { key, value: Some(definition.to_bytes()?) })
}

impl Relations {
    fn new(selection: Selection) -> Self {
        Relations {
            selection,
            history: History::default(),
            plans: HashMap::new(),
            statement: Vec::new(),
            schemas: HashMap::new(),
            stopped: BTreeMap::new(),
            entries: Vec::new(),
            baseline: Vec::new(),
            settled: None,
        }
    }

    /// What an earlier run stored, and from the catalog what it did not.
    ///
    /// # Errors
    /// Config: what is stored cannot be read.
    pub fn restore(selection: Selection, state: &State, catalog: &Catalog) -> Result<Self> {
        let mut relations = Relations::new(selection);
        for (key, value) in state.range(STOPPED_PREFIX.as_bytes().to_vec()..) {
            let Some(name) = key.strip_prefix(STOPPED_PREFIX.as_bytes()) else { break };
            let doing = || format!("reading the stored state {}", key.escape_ascii());
            let (name, why) = (std::str::from_utf8(name).config(doing)?, std::str::from_utf8(value).config(doing)?);
            let (database, name) = name.split_once('\0').unwrap_or((name, ""));
            tracing::error!(table = %format_args!("{database}.{name}"), why, "a table that goes no further");
            relations.stopped.insert((database.into(), name.into()), why.into());
        }
        for (_, value) in state.range(TABLE_PREFIX.to_vec()..).take_while(|(key, _)| key.starts_with(TABLE_PREFIX)) {
            relations.history.put(Definition::from_bytes(value)?);
        }
        for table in &catalog.tables {
            relations.prime(table.def.clone())?;
        }
        Ok(relations)
    }

    /// The tables of the catalog, and what stores them.
    ///
    /// # Errors
    /// Bug: a definition cannot be stored.
    pub fn of(selection: Selection, catalog: &Catalog) -> Result<Self> {
        Self::restore(selection, &State::new(), catalog)
    }

    /// Whether an earlier run has stored tables.
    pub fn is_in(state: &State) -> bool {
        state.keys().any(|key| key.starts_with(TABLE_PREFIX))
    }

    /// The schema of a table's rows as a snapshot reads them; none for one that goes no further.
    ///
    /// # Errors
    /// As [`schema_of`].
    pub fn snapshot_schema(&self, table: &TableDef) -> Result<Option<TableSchema>> {
        let name = (table.database.clone(), table.name.clone());
        let definition = self.history.tables.get(&name).filter(|_| !self.stopped.contains_key(&name));
        definition.map(|definition| schema_of(definition, &self.selection, types::snapshot_column)).transpose()
    }

    /// Takes a table of the catalog that the history does not know.
    fn prime(&mut self, table: Arc<TableDef>) -> Result<()> {
        if self.history.tables.contains_key(&(table.database.clone(), table.name.clone())) {
            return Ok(());
        }
        let definition = Definition { id: self.history.last_id + 1, version: 1, table };
        self.baseline.push(entry(&definition)?);
        self.history.put(definition);
        Ok(())
    }

    /// What stores the tables that the catalog alone knew, where that was not done yet; it is true of any position that the
    /// stream began at or came to.
    pub fn baseline(&self) -> Vec<StateEntry> {
        self.baseline.clone()
    }

    /// State that what was read since the last time made; it becomes true with the next position.
    pub fn take_entries(&mut self) -> Vec<StateEntry> {
        std::mem::take(&mut self.entries)
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

    /// What a statement that is logged as text does.
    ///
    /// # Errors
    /// Data: it cannot be read.
    pub fn statement(&mut self, _query: &Query<'_>) -> Result<Done> {
        Ok(Done::default())
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
        let key = stopped_key(&name);
        self.entries.push(StateEntry { key, value: Some(format!("{why:?}").into_bytes()) });
        self.stopped.insert(name, format!("{why:?}").into());
    }
    /// Takes a TABLE_MAP event: until the statement ends, its number stands for the table.
    ///
    /// # Errors
    /// Data: the event is malformed.
    #[inline]
    pub fn map(&mut self, event: &Event<'_>, map: &TableMap<'_>) -> Result<()> {
        let known = self.plans.get(&map.table_id).filter(|mapped| *mapped.body == *event.body());
        let target = match known {
            Some(mapped) => mapped.target.clone(),
            None => self.plan(event, map)?,
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
            None => Target::Unwanted(RowPlan::new(map, &[], 0).ok()),
            Some(definition) => Target::Wanted(self.wanted(map, definition.clone())?),
        };
        self.statement.push((map.table_id, Arc::new(target)));
        Ok(())
    }

    #[cold]
    fn plan(&mut self, event: &Event<'_>, map: &TableMap<'_>) -> Result<Arc<Target>> {
        let wanted = match self.definition(map) {
            Ok(None) => None,
            Ok(Some(definition)) => self.wanted(map, definition).map(Some).or_else(|error| self.refuse(map, error))?,
            Err(error) => self.refuse(map, error)?,
        };
        let target = Arc::new(wanted.map_or_else(|| Target::Unwanted(RowPlan::new(map, &[], 0).ok()), Target::Wanted));
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
        for (column, wire) in table.columns.iter().zip(wires) {
            types::row_column(column, wire).map_err(|error| error.context(format!("comparing {table} with the log")))?;
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
        let rows = RowPlan::new(map, &outputs, next).data(|| format!("reading the TABLE_MAP of {}", definition.table))?;
        Ok(Plan { schema, rows, definition, outputs: outputs.into() })
    }

    /// What a map's table is in the history; none where it is not wanted.
    fn definition(&mut self, map: &TableMap<'_>) -> Result<Option<Arc<Definition>>> {
        if !self.selection.wants(map.database, map.table) {
            return Ok(None);
        }
        let name = (Box::from(map.database), Box::from(map.table));
        if self.stopped.contains_key(&name) {
            return Ok(None);
        }
        match self.history.tables.get(&name) {
            Some(definition) => Ok(Some(definition.clone())),
            None => Err(Error::data(format!("{}.{} is not known", map.database, map.table))),
        }
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

/// The start of every key of a table that goes no further.
const STOPPED_PREFIX: &str = "stopped/";

fn stopped_key((database, name): &Name) -> Vec<u8> {
    // A dot may be part of a name, a zero byte may not.
    format!("{STOPPED_PREFIX}{database}\0{name}").into_bytes()
}
