//! What the crash tests ask of a database, whatever its kind.

use std::sync::Arc;

/// Cells as text, NULL as none.
pub type Cells = Vec<Option<String>>;

/// Why a statement failed.
#[derive(Debug)]
pub struct Failed {
    /// The server is away, went away in the middle, or took a transaction back that was in the way of another; anything else is
    /// a mistake of the test.
    pub passes: bool,
    pub message: String,
}

/// One connection, used from a thread.
pub trait Db {
    /// Statements separated by semicolons, in which no text has one.
    fn run(&mut self, sql: &str) -> Result<(), Failed>;
    fn rows(&mut self, sql: &str) -> Result<Vec<Cells>, Failed>;
}

pub type Connect = Arc<dyn Fn() -> Result<Box<dyn Db>, Failed> + Send + Sync>;

/// Where the load's SQL or its lines differ.
#[derive(Clone, Copy)]
pub struct Dialect {
    pub schema: &'static str,
    /// An update that moves a row to another partition is logged as a delete and an insert.
    pub partition_moves: bool,
    /// TRUNCATE is part of a transaction.
    pub truncates: bool,
    /// The type to which any column can be cast for its text.
    pub text: &'static str,
    /// Beside the load, on every table: what moves rows.
    pub tidy: Option<&'static str>,
}

/// A database that is written to, and captured by the process that is killed.
pub trait Target {
    fn name(&self) -> String;
    fn version(&self) -> String;
    fn dialect(&self) -> Dialect;
    /// The lines of `source:` in the configuration of a round of this name.
    fn source(&self, round: &str) -> String;
    fn connect(&self) -> Connect;
    /// After the first rows.
    fn filled(&self);
    /// Where the log ends, as [`Target::place`] gives it.
    fn end_of_log(&self) -> u64;
    /// The order of a `pos` or a stored position.
    fn place(&self, position: &str) -> Result<u64, String>;
    /// What the server takes as confirmed; none where it keeps its log whatever was confirmed.
    fn released(&self, round: &str) -> Option<u64>;
    /// Down as in a crash.
    fn crash(&self);
    fn start(&self);
    /// Gives back what the round had on the server.
    fn close(&self, round: &str);
}
