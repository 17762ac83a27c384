//! What only Postgres has.

mod breaks;
mod identity;
mod lane;
mod lost;
mod publications;
mod shapes;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use super::{Dialect, Session, Subject};
use crate::support::{Database, Server, Version};

/// Runs a test in a database of its own on the shared server of this version.
pub fn on(version: Version, name: &str, test: impl FnOnce(&Postgres<'_>)) {
    let Some(server) = Server::get(version) else { return };
    // Names of databases end at 63 bytes, and slots are named after them.
    test(&Postgres(server.database(&name[..name.len().min(40)])));
}

pub struct Postgres<'s>(Database<'s>);

impl<'s> Postgres<'s> {
    pub fn new(database: Database<'s>) -> Self {
        Postgres(database)
    }

    /// Rows as lines.
    pub fn query(&self, sql: &str) -> String {
        self.0.psql(sql)
    }

    pub fn server(&self) -> &Server {
        self.0.server()
    }

    /// The slot and the publication of [`Subject::stream_arguments`].
    pub fn stream_name(&self) -> String {
        self.0.name().to_owned()
    }
}

impl Subject for Postgres<'_> {
    fn url(&self) -> String {
        self.0.url()
    }
    fn port(&self) -> u16 {
        self.0.server().port()
    }
    fn execute(&self, sql: &str) {
        self.0.psql(sql);
    }
    fn session(&self) -> Box<dyn Session> {
        Box::new(Psql::start(self.server(), &self.url()))
    }
    fn namespace(&self) -> String {
        "public".to_owned()
    }
    fn all_tables(&self) -> Vec<String> {
        Vec::new()
    }
    fn stream_arguments(&self) -> Vec<String> {
        let name = self.stream_name();
        vec!["--slot".into(), name.clone(), "--publication".into(), name]
    }
    fn left_behind(&self) -> Vec<String> {
        let left = self.0.psql(
            "select 'slot ' || slot_name from pg_replication_slots where database = current_database()
             union all select 'publication ' || pubname from pg_publication",
        );
        left.lines().map(str::to_owned).collect()
    }
    fn dialect(&self) -> Dialect {
        Dialect {
            before_is_whole: false,
            numbers_transactions: true,
            impatient: "?options=-c%20wal_sender_timeout%3D5s",
            rarest_letter: '🦀',
            quote: |name| format!("\"{}\"", name.replace('"', "\"\"")),
            notices_within: Duration::ZERO,
            follows_new_tables: false,
        }
    }
}

/// A psql that stays connected.
pub struct Psql {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Psql {
    fn start(server: &Server, url: &str) -> Psql {
        let mut psql = server.program("psql");
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = psql.spawn().expect("psql starts");
        let (stdin, stdout) = (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
        Psql { child, stdin, stdout: BufReader::new(stdout) }
    }
}

impl Session for Psql {
    fn execute(&mut self, sql: &str) {
        writeln!(self.stdin, "{sql};\n\\echo executed").expect("psql listens");
        for line in self.stdout.by_ref().lines() {
            if line.expect("psql's answer") == "executed" {
                return;
            }
        }
        panic!("psql gave up at: {sql}");
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A test on each version: `on_every_version!(name)` runs `fn name(db: &Postgres)`.
macro_rules! on_every_version {
    ($($name:ident),+ $(,)?) => {
        $(
            mod $name {
                use crate::source::postgres::on;
                use crate::support::Version;
                #[test]
                fn v15() { on(Version::V15, stringify!($name), super::$name) }
                #[test]
                fn v17() { on(Version::V17, stringify!($name), super::$name) }
                #[test]
                fn v18() { on(Version::V18, stringify!($name), super::$name) }
            }
        )+
    };
}
use on_every_version;
