//! Wanted tables of which the history has nothing: the account could not see them when it began.

use std::sync::Arc;

use super::{Relations, rows_of, text_of};
use crate::error::Result;
use crate::record::BinlogPosition;
use crate::source::mysql::schema::{About, Statement, TableDef};
use crate::wire::mysql::event::Query;

/// A table as the catalog has it now, and what the log says of it.
#[derive(Clone, Debug)]
pub struct Newcomer {
    pub table: Arc<TableDef>,
    fate: Option<Fate>,
}

/// What the first statement about a table does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is another one before.
    Altered,
    /// It begins there, and the history learns it as every new one.
    Created,
}

impl Relations {
    /// Those of the tables that were never heard of.
    pub fn newcomers(&self, wanted: &[Arc<TableDef>]) -> Vec<Newcomer> {
        let unheard = |table: &&Arc<TableDef>| {
            let name = (table.database.clone(), table.name.clone());
            !self.history.has_heard_of(&table.database, &table.name) && !self.stopped.contains_key(&name)
        };
        wanted.iter().filter(unheard).map(|table| Newcomer { table: table.clone(), fate: None }).collect()
    }

    /// Notes which of the tables a statement of the log is about.
    ///
    /// # Errors
    /// Data: it cannot be read.
    pub fn note(&self, query: &Query<'_>, newcomers: &mut [Newcomer]) -> Result<()> {
        let (text, variables) = text_of(query)?;
        if newcomers.is_empty() || rows_of(&text).is_some() {
            return Ok(());
        }
        for about in self.history.about(&Statement { database: query.database, sql: &text, variables }) {
            for newcomer in newcomers.iter_mut().filter(|newcomer| newcomer.fate.is_none()) {
                let TableDef { database, name, .. } = &*newcomer.table;
                let is = |table: &str| self.history.same(table, name);
                newcomer.fate = match &about {
                    About::Table(table) if self.history.same(&table.database, database) && is(&table.name) => {
                        Some(Fate::Altered)
                    }
                    About::Created(table) if self.history.same(&table.database, database) && is(&table.name) => {
                        Some(Fate::Created)
                    }
                    About::Database(of) if self.history.same(of, database) => Some(Fate::Altered),
                    _ => None,
                };
            }
        }
        Ok(())
    }

    /// Takes what is known of the tables from `at` on: `at` is where the noted part of the log begins, whose end is where
    /// the catalog had them so.
    pub fn meet(&mut self, newcomers: Vec<Newcomer>, at: &Arc<BinlogPosition>) {
        for Newcomer { table, fate } in newcomers {
            match fate {
                None => drop(self.history.define(&table, at)),
                Some(Fate::Altered) => {
                    tracing::warn!(
                        %table, from = %at,
                        "the table was not known before, and it was altered since: its rows until now can only be told \
                         where the log names their columns (binlog_row_metadata = FULL); else it stops at the first"
                    );
                    let why = "it was selected, or made visible to the account, after the log that is read now was \
                               written, and it was altered in between";
                    self.history.doubt_from(&table, why, at);
                }
                Some(Fate::Created) => {}
            }
        }
        let learnt = self.history.take_entries();
        self.baseline.extend(learnt);
    }

    /// Takes tables of the catalog as they stand at `at`, where the log has not told what they are.
    pub fn define<'t>(&mut self, tables: impl Iterator<Item = &'t TableDef>, at: &Arc<BinlogPosition>) {
        for table in tables {
            if self.history.table(&table.database, &table.name).is_none() {
                self.history.define(table, at);
            }
        }
        let learnt = self.history.take_entries();
        self.baseline.extend(learnt);
    }

    /// Another number when a reading of the log has taught something, or stopped a table.
    pub fn measure(&self) -> (usize, usize) {
        (self.baseline.len(), self.stopped.len())
    }
}
