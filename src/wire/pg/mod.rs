//! Postgres frontend/backend protocol 3, logical replication and COPY text.

pub mod backend;
pub mod frame;
pub mod replication;
