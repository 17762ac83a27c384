//! What only MySQL and MariaDB have.

use std::time::Duration;

use super::{Dialect, Session, Subject};
use crate::support::mysql::{Client, Database, Server, Version};

/// Runs a test in a database of its own on the shared server of this version.
pub fn on(version: Version, name: &str, test: impl FnOnce(&MySql<'_>)) {
    let Some(server) = Server::get(version) else { return };
    test(&MySql(server.database(name)));
}

pub struct MySql<'s>(Database<'s>);

impl Subject for MySql<'_> {
    fn url(&self) -> String {
        self.0.url()
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
            numbers_transactions: false,
            rarest_letter: '☃',
            quote: |name| format!("`{}`", name.replace('`', "``")),
            notices_within: Duration::from_secs(5),
            follows_new_tables: true,
        }
    }
}

impl Session for Client {
    fn execute(&mut self, sql: &str) {
        self.sql(sql);
    }
}
