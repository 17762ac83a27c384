//! Postgres: logical replication by pgoutput, and snapshots by COPY.

mod auth;
pub mod catalog;
pub mod check;
pub mod connection;
pub mod conninfo;
mod decoder;
mod dial;
pub mod discover;
pub mod error;
pub mod publication;
pub mod quote;
pub mod relation;
mod reread;
pub mod retention;
mod session;
pub mod slot;
mod snapshot;
mod source;
pub mod sql;
mod stream;
pub mod tables;
pub mod tls;
mod transport;
pub mod types;

pub use snapshot::Settings as SnapshotSettings;
pub use source::{PostgresSource, Settings};
