//! MySQL and MariaDB: row-based binary logs, and snapshots by SELECT.

pub mod ask;
mod auth;
pub mod catalog;
pub mod check;
pub mod connection;
mod cut;
mod decoder;
mod dial;
pub mod discover;
pub mod dump;
pub mod error;
mod extent;
mod far;
mod idle;
mod observer;
mod payload;
mod place;
mod prepared;
pub mod quote;
mod refusal;
mod relation;
pub mod replica;
mod replies;
pub mod retention;
pub mod rows;
pub mod schema;
pub mod server;
pub mod session;
mod settings;
pub mod snapshot;
mod source;
mod statement;
pub mod status;
mod stopped;
mod stream;
mod transaction;
mod transport;
pub mod types;
pub mod url;
mod xa;

use crate::source::tables::Names;

/// A table belongs to a database, and no database is the default one.
pub const NAMES: Names<'static> =
    Names { default_schema: None, quotes: &['"', '`'], table_form: "database.table", ignores_column_case: true };

pub use auth::ServerKey;
pub use observer::MEASURES;
pub use settings::{DEFAULT_HEARTBEAT, Settings};
pub use source::MySqlSource;
