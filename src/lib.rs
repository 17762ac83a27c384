//! Walbrook streams the changes of a database to sinks.

pub mod cli;
pub mod config;
pub mod encode;
pub mod error;
pub mod fault;
pub mod flow;
pub mod offset;
pub mod pipeline;
pub mod print;
pub mod proto;
pub mod quantity;
pub mod record;
pub mod server;
pub mod sink;
pub mod source;
pub mod suggest;
pub mod wire;
