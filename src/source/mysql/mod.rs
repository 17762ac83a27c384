//! MySQL and MariaDB: row-based binary logs, and snapshots by SELECT.

pub mod retention;
pub mod schema;
pub mod server;
mod settings;

use crate::source::tables::Names;

/// A table belongs to a database, and no database is the default one.
pub const NAMES: Names<'static> =
    Names { default_schema: None, quotes: &['"', '`'], table_form: "database.table", ignores_column_case: true };

pub use settings::{DEFAULT_HEARTBEAT, Settings};
