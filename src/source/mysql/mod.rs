//! MySQL and MariaDB: row-based binary logs, and snapshots by SELECT.

pub mod ask;
mod auth;
pub mod catalog;
pub mod check;
pub mod connection;
mod dial;
pub mod discover;
pub mod dump;
pub mod error;
pub mod quote;
pub mod replica;
pub mod retention;
pub mod rows;
pub mod schema;
pub mod server;
pub mod session;
mod settings;
pub mod snapshot;
pub mod status;
mod transport;
pub mod types;
pub mod url;

use crate::source::tables::Names;

/// A table belongs to a database, and no database is the default one.
pub const NAMES: Names<'static> =
    Names { default_schema: None, quotes: &['"', '`'], table_form: "database.table", ignores_column_case: true };

pub use auth::ServerKey;
pub use settings::{DEFAULT_HEARTBEAT, Settings};
