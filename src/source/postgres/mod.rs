//! Postgres: logical replication by pgoutput, and snapshots by COPY.

mod auth;
pub mod catalog;
pub mod check;
pub mod connection;
pub mod conninfo;
mod dial;
pub mod discover;
pub mod error;
pub mod publication;
pub mod quote;
pub mod relation;
pub mod retention;
mod session;
pub mod slot;
pub mod sql;
pub mod tables;
pub mod tls;
mod transport;
pub mod types;
