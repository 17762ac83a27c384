//! Postgres frontend/backend protocol 3, logical replication and COPY text.

mod array;
pub mod backend;
pub mod copy;
pub mod frame;
pub mod pgoutput;
pub mod replication;
pub mod text;
