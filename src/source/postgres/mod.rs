//! Postgres: logical replication by pgoutput, and snapshots by COPY.

mod auth;
pub mod connection;
pub mod conninfo;
mod dial;
pub mod error;
pub mod quote;
mod session;
pub mod sql;
pub mod tls;
mod transport;
