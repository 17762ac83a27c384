//! MySQL and MariaDB: row-based binary logs, and snapshots by SELECT.

pub mod ask;
pub mod catalog;
pub mod check;
pub mod discover;
pub mod quote;
pub mod retention;
pub mod schema;
pub mod server;
mod settings;
pub mod types;
pub mod status;

use crate::source::tables::Names;

/// A table belongs to a database, and no database is the default one.
pub const NAMES: Names<'static> =
    Names { default_schema: None, quotes: &['"', '`'], table_form: "database.table", ignores_column_case: true };

pub use settings::{DEFAULT_HEARTBEAT, Settings};
