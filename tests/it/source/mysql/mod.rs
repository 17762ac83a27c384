//! What only MySQL and MariaDB have.

mod breaks;
mod chunks;
mod cut;
mod failover;
mod history;
mod limits;
mod lost;
mod newcomers;
mod places;
mod retracted;
mod rows;
mod schema;
mod semi_sync;
mod snapshot;
mod xa;

use super::program::PATIENCE;
use super::{Dialect, Session, Subject};
use crate::support::mysql::{Client, Database, Server, Version};

/// Runs a test in a database of its own on the shared server of this version.
pub fn on(version: Version, name: &str, test: impl FnOnce(&MySql<'_>)) {
    let Some(server) = Server::get(version) else { return };
    test(&MySql(server.database(name)));
}

pub struct MySql<'s>(Database<'s>);

impl<'s> MySql<'s> {
    pub fn new(database: Database<'s>) -> Self {
        MySql(database)
    }

    /// Rows as lines.
    pub fn query(&self, sql: &str) -> String {
        self.0.sql(sql)
    }

    pub fn server(&self) -> &'s Server {
        self.0.server()
    }

    pub fn version(&self) -> Version {
        self.server().version()
    }

    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Who streams.
    pub fn user(&self) -> &str {
        self.0.user()
    }

    /// The numbers of this test's connections that read the log, or of the others.
    pub fn connections(&self, read_the_log: bool) -> Vec<String> {
        let (user, not) = (self.0.user(), if read_the_log { "" } else { "not" });
        let sql = "select id from information_schema.processlist where user";
        let found = self.query(&format!("{sql} = '{user}' and command {not} like 'Binlog Dump%'"));
        found.lines().map(str::to_owned).collect()
    }
}

/// `select n` of the numbers from 0, up to 100000 of them, without a table, in no order.
pub fn numbers(count: u32) -> String {
    const TEN: &str = "(select 0 n union all select 1 union all select 2 union all select 3 union all select 4
        union all select 5 union all select 6 union all select 7 union all select 8 union all select 9)";
    format!(
        "select n from (select a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n n
         from {TEN} a, {TEN} b, {TEN} c, {TEN} d, {TEN} e) numbers where n < {count}"
    )
}

impl Subject for MySql<'_> {
    fn url(&self) -> String {
        self.0.url()
    }
    fn port(&self) -> u16 {
        self.0.server().port()
    }
    fn execute(&self, sql: &str) {
        self.0.sql(sql);
    }
    fn session(&self) -> Box<dyn Session> {
        Box::new(self.0.server().session(self.0.name()))
    }
    fn namespace(&self) -> String {
        self.0.name().to_owned()
    }
    fn all_tables(&self) -> Vec<String> {
        self.0.tables()
    }
    fn stream_arguments(&self) -> Vec<String> {
        Vec::new()
    }
    /// Connections, which the server keeps until it notices that nobody is at the other end.
    fn left_behind(&self) -> Vec<String> {
        let user = self.0.user();
        let left = self.0.sql(&format!(
            "select concat(id, ' ', command, ' ', coalesce(state, '')) from information_schema.processlist where user = '{user}'"
        ));
        left.lines().map(str::to_owned).collect()
    }
    fn dialect(&self) -> Dialect {
        Dialect {
            before_is_whole: true,
            numbers_transactions: true,
            impatient: "",
            rarest_letter: '☃',
            quote: |name| format!("`{}`", name.replace('`', "``")),
            notices_within: PATIENCE,
            follows_new_tables: true,
        }
    }
}

/// The ids of a file's rows so far, in its order.
/// The id of a file's last record, where it can be read: what is being taken back may be there in part.
fn last_id_of(file: &std::path::Path) -> Option<u64> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let line = bytes.strip_suffix(b"\n")?.rsplit(|byte| *byte == b'\n').next()?;
    serde_json::from_slice::<serde_json::Value>(line).ok()?["after"]["id"].as_u64()
}

fn ids_of(file: &std::path::Path) -> Vec<u64> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["after"]["id"].as_u64().unwrap())
        .collect()
}

impl Session for Client {
    fn execute(&mut self, sql: &str) {
        self.sql(sql);
    }
}

/// A test on each version: `on_every_version!(name)` runs `fn name(db: &MySql)`.
macro_rules! on_every_version {
    ($($name:ident),+ $(,)?) => {
        $(
            mod $name {
                use crate::source::mysql::on;
                use crate::support::mysql::Version;
                #[test]
                fn mysql_9_7() { on(Version::MySql97, stringify!($name), super::$name) }
                #[test]
                fn mariadb_10_5() { on(Version::MariaDb105, stringify!($name), super::$name) }
                #[test]
                fn mariadb_10_11() { on(Version::MariaDb1011, stringify!($name), super::$name) }
                #[test]
                fn mariadb_11_8() { on(Version::MariaDb118, stringify!($name), super::$name) }
            }
        )+
    };
}
use on_every_version;
