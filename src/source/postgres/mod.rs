//! Postgres: logical replication by pgoutput, and snapshots by COPY.

mod auth;
mod beside;
mod binding;
pub mod catalog;
pub mod check;
pub mod connection;
pub mod conninfo;
mod decoder;
mod dial;
pub mod discover;
pub mod error;
mod observer;
pub mod publication;
pub mod quote;
pub mod relation;
mod reread;
pub mod retention;
mod session;
mod settings;
pub mod slot;
mod snapshot;
mod source;
pub mod sql;
mod stream;
mod transport;
pub mod types;

use crate::source::tables::Names;

/// A table that is named alone is in `public`, as `search_path` has it.
pub const NAMES: Names<'static> =
    Names { default_schema: Some("public"), quotes: &['"'], table_form: "schema.table", ignores_column_case: false };

pub use observer::MEASURES;
pub use settings::{Settings, SlotKind};
pub use source::PostgresSource;
