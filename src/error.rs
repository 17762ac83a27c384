//! The one error of the crate.
//!
//! Invariants:
//! - Every error has a [`Class`], and the class decides what happens next: who has to act, whether to reconnect, the
//!   exit code. Nothing above looks into the text.
//! - The message says what was being done and on which table, column or position; the remedy, where there is one, says
//!   what the operator can do; the cause chain keeps what the library below said.

use std::error::Error as StdError;
use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The user must change something: configuration, privileges, server settings.
    Config,
    /// The other side may be back in a moment: reconnect with backoff from the last position.
    Transient,
    /// This value or event cannot be represented.
    Data,
    /// The server no longer holds the log from the stored position on, or it is another server.
    Lost,
    /// A promise of our own code is broken.
    Bug,
}

impl Class {
    pub const ALL: [Class; 5] = [Class::Config, Class::Transient, Class::Data, Class::Lost, Class::Bug];

    pub fn name(self) -> &'static str {
        match self {
            Class::Config => "config",
            Class::Transient => "transient",
            Class::Data => "data",
            Class::Lost => "lost",
            Class::Bug => "bug",
        }
    }

    /// The process exit code this class ends in; documented in `--help`.
    pub fn exit_code(self) -> u8 {
        match self {
            Class::Config => 2,
            Class::Lost => 3,
            Class::Transient | Class::Data | Class::Bug => 1,
        }
    }
}

/// One box wide, so that `Result`s on hot paths stay small.
pub struct Error(Box<Inner>);

struct Inner {
    class: Class,
    message: String,
    remedy: Option<String>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { class, message: message.into(), remedy: None, cause: None }))
    }
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Class::Config, message)
    }
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(Class::Transient, message)
    }
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(Class::Data, message)
    }
    pub fn lost(message: impl Into<String>) -> Self {
        Self::new(Class::Lost, message)
    }
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Class::Bug, message)
    }

    /// What the operator can do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }
    /// The same error seen from one level up: the class and the remedy stay, `doing` comes first in the chain.
    pub fn context(self, doing: impl Into<String>) -> Self {
        let class = self.0.class;
        let remedy = self.0.remedy.clone();
        let mut outer = Self::new(class, doing).because(self);
        outer.0.remedy = remedy;
        outer
    }

    pub fn class(&self) -> Class {
        self.0.class
    }
    pub fn remedy_text(&self) -> Option<&str> {
        self.0.remedy.as_deref()
    }
    pub fn is_transient(&self) -> bool {
        self.0.class == Class::Transient
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    /// The whole chain and the remedy: what a failed test or `main` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.message)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        match &self.0.remedy {
            Some(remedy) => write!(f, "\n  remedy: {remedy}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}

/// Gives a foreign error its class and says what was being done.
pub trait Context<T> {
    fn config(self, doing: impl FnOnce() -> String) -> Result<T>;
    fn transient(self, doing: impl FnOnce() -> String) -> Result<T>;
    fn data(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn config(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error::config(doing()).because(cause))
    }
    fn transient(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error::transient(doing()).because(cause))
    }
    fn data(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error::data(doing()).because(cause))
    }
}

/// One line of `walbrook check`: a prerequisite, whether it holds, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    /// What was looked at: `wal_level`, `replica identity of public.orders`, `sink audit`.
    pub subject: String,
    pub message: String,
    /// The SQL statement or setting that mends it; always there for a [`Level::Problem`].
    pub remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    /// It works, with a limit the operator should know.
    Warning,
    /// It will not work.
    Problem,
}

impl Finding {
    pub fn ok(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Finding { level: Level::Ok, subject: subject.into(), message: message.into(), remedy: None }
    }
    pub fn warning(subject: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { level: Level::Warning, subject: subject.into(), message: message.into(), remedy: Some(remedy.into()) }
    }
    pub fn problem(subject: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { level: Level::Problem, subject: subject.into(), message: message.into(), remedy: Some(remedy.into()) }
    }
}
