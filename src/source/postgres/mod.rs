//! Postgres: logical replication by pgoutput, and snapshots by COPY.

pub mod conninfo;
pub mod error;
pub mod quote;
