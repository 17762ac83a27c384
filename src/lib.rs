//! Walbrook streams the changes of a database to sinks.

pub mod encode;
pub mod error;
pub mod flow;
pub mod offset;
pub mod pipeline;
pub mod record;
pub mod sink;
pub mod source;
pub mod wire;
