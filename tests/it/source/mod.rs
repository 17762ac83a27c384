//! Sources, on real servers, through the real program.
//!
//! - [`conformance`] is one suite for every kind of database: it speaks to a [`Subject`], which hides what differs. So does
//!   [`network`], with what can happen between walbrook and a server.
//! - What only one kind of database has is tested beside it.

mod conformance;
mod mysql;
mod network;
mod observer;
mod postgres;
mod program;

use std::time::Duration;

/// A database under test, empty and of one test alone.
pub trait Subject {
    fn url(&self) -> String;
    /// Where its server listens on this machine.
    fn port(&self) -> u16;
    /// Runs a script, each statement by itself unless the script has transactions. An error fails the test.
    fn execute(&self, sql: &str);
    /// A connection that stays open, for transactions that run side by side.
    fn session(&self) -> Box<dyn Session>;
    /// The namespace in which a table of a plain name is made.
    fn namespace(&self) -> String;
    /// The arguments that select all tables of the database, where its URL does not.
    fn all_tables(&self) -> Vec<String>;
    /// The arguments that give a stream of this test alone a name on the server.
    fn stream_arguments(&self) -> Vec<String>;
    /// What walbrook has made and left on the server: slots, publications.
    fn left_behind(&self) -> Vec<String>;
    fn dialect(&self) -> Dialect;
}

pub trait Session: Send {
    /// Returns when the server has answered.
    fn execute(&mut self, sql: &str);
}

/// Where the suite's SQL or its answers differ.
#[derive(Clone, Copy)]
pub struct Dialect {
    /// Behind an UPDATE: whether all columns of the old row come, or the key alone when it changes.
    pub before_is_whole: bool,
    /// Whether `tx` is a number of the server's; where it has none there is the position.
    pub numbers_transactions: bool,
    /// What behind the URL makes a server's silence be noticed within seconds.
    pub impatient: &'static str,
    /// The last letter of Unicode's that a name can have, or nearly.
    pub rarest_letter: char,
    /// A name in quotes, whatever is in it.
    pub quote: fn(&str) -> String,
    /// How long the server takes to notice that a stream's connection is gone.
    pub notices_within: Duration,
    /// Whether a table that is dropped and made again is captured again, and both said as schema changes.
    pub follows_new_tables: bool,
}

/// A test on every server there is: `on_every_server!(name)` runs `fn name(subject: &dyn Subject)`.
macro_rules! on_every_server {
    ($($(#[$attribute:meta])* $name:ident),+ $(,)?) => {
        mod postgres {
            use crate::source::postgres::on;
            use crate::support::Version;
            $(
                mod $name {
                    use super::*;
                    #[test]
                    fn v15() { on(Version::V15, stringify!($name), |db| super::super::$name(db)) }
                    #[test]
                    fn v17() { on(Version::V17, stringify!($name), |db| super::super::$name(db)) }
                    #[test]
                    fn v18() { on(Version::V18, stringify!($name), |db| super::super::$name(db)) }
                }
            )+
        }
        mod mysql {
            use crate::source::mysql::on;
            use crate::support::mysql::Version;
            $(
                mod $name {
                    use super::*;
                    #[test]
                    fn mysql_9_7() { on(Version::MySql97, stringify!($name), |db| super::super::$name(db)) }
                    #[test]
                    fn mariadb_10_5() { on(Version::MariaDb105, stringify!($name), |db| super::super::$name(db)) }
                    #[test]
                    fn mariadb_10_11() { on(Version::MariaDb1011, stringify!($name), |db| super::super::$name(db)) }
                    #[test]
                    fn mariadb_11_8() { on(Version::MariaDb118, stringify!($name), |db| super::super::$name(db)) }
                }
            )+
        }
    };
}
use on_every_server;
pub use program::{PATIENCE, Program, brief, eventually};
