//! What a statement of the log is about, whatever is known of it.

use super::ddl::{Action, Ddl, TableName};
use super::history::{History, Statement};

/// What a statement gives another definition, or may give one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    Table(TableName),
    /// The table is made by it: what was there before is another one.
    Created(TableName),
    /// All tables of a database.
    Database(String),
}

impl History {
    /// What a statement is about; nothing for one that changes no definition.
    pub fn about(&self, statement: &Statement<'_>) -> Vec<About> {
        match self.read(statement) {
            Ddl::Nothing
            | Ddl::Truncate(_)
            | Ddl::CreateDatabase { replace: false, .. }
            | Ddl::AlterDatabase { .. } => Vec::new(),
            // One that is there already stays.
            Ddl::CreateTable { table, if_not_exists: true, .. } => vec![About::Table(table)],
            Ddl::CreateTable { table, .. } => vec![About::Created(table)],
            Ddl::AlterTable { table, actions } => {
                let others = actions.into_iter().filter_map(|action| match action {
                    Action::RenameTo(other)
                    | Action::Exchange(other)
                    | Action::PartitionToTable(other)
                    | Action::TableToPartition(other) => Some(other),
                    _ => None,
                });
                std::iter::once(table).chain(others).map(About::Table).collect()
            }
            Ddl::Rename(renames) => renames.into_iter().flat_map(|(from, to)| [from, to]).map(About::Table).collect(),
            Ddl::Drop(tables) | Ddl::Unknown { tables, .. } => tables.into_iter().map(About::Table).collect(),
            Ddl::CreateDatabase { name, .. } | Ddl::DropDatabase(name) => vec![About::Database(name)],
        }
    }
}
