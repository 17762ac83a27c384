//! The retention verdict on real servers.

mod mysql;
mod postgres;
