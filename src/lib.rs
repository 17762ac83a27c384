//! Walbrook streams the changes of a database to sinks.

pub mod error;
pub mod record;
