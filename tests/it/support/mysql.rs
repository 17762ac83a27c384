//! Private MySQL and MariaDB servers, by `tests/env/mysql` (which says what accounts, certificates and settings they have).
//!
//! - A shared server is started at the first [`Server::get`] of its version and lives as long as the test process.
//! - A log is of the whole server: a test on a shared one meets the events of all others. What is its own is told apart
//!   by its [`Database`], and its connections by that database's user.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::instance::{Instance, Kind, answer};
use super::skip;

const KIND: Kind = Kind { script: "tests/env/mysql", crash: "kill" };

/// The versions the project is tested on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    MySql97,
    MariaDb105,
    MariaDb1011,
    MariaDb118,
}

impl Version {
    pub const ALL: [Version; 4] = [Version::MySql97, Version::MariaDb105, Version::MariaDb1011, Version::MariaDb118];

    /// `tests/env/mysql`'s name of it.
    pub fn name(self) -> &'static str {
        match self {
            Version::MySql97 => "mysql-9.7",
            Version::MariaDb105 => "mariadb-10.5",
            Version::MariaDb1011 => "mariadb-10.11",
            Version::MariaDb118 => "mariadb-11.8",
        }
    }

    pub fn is_mariadb(self) -> bool {
        self != Version::MySql97
    }

    /// Of its URLs.
    fn scheme(self) -> &'static str {
        if self.is_mariadb() { "mariadb" } else { "mysql" }
    }
}

/// One running (or stopped) server; dropping it stops it and removes its folder.
pub struct Server {
    version: Version,
    instance: Instance,
}

impl Server {
    /// The shared server of this version; `None`, and a skip on record, where it cannot be had.
    pub fn get(version: Version) -> Option<&'static Server> {
        static SHARED: [OnceLock<Result<Server, String>>; 4] = [const { OnceLock::new() }; 4];
        let shared = SHARED[version as usize].get_or_init(|| Server::create(version, &[]));
        shared.as_ref().map_err(|reason| skip(reason)).ok()
    }

    /// The shared servers of all versions that can be had here.
    pub fn all() -> impl Iterator<Item = &'static Server> {
        Version::ALL.into_iter().filter_map(Server::get)
    }

    /// A server of the caller's own, to stop, break or configure (`name=value` of its configuration file).
    pub fn own(version: Version, settings: &[&str]) -> Option<Server> {
        Server::create(version, settings).map_err(|reason| skip(&reason)).ok()
    }

    fn create(version: Version, settings: &[&str]) -> Result<Server, String> {
        Ok(Server { version, instance: Instance::create(KIND, version.name(), settings)? })
    }

    /// A replica of this server, which has written nothing but its own accounts, and which logs what it is told.
    pub fn replica(&self) -> Server {
        let settings = ["server-id=2", "log-slave-updates=ON"];
        let (settings, port) = (&settings[..1 + usize::from(self.version.is_mariadb())], self.port());
        let replica = Server { version: self.version, instance: self.instance.another(settings) };
        let follow = if self.version.is_mariadb() {
            format!(
                "change master to master_host='127.0.0.1', master_port={port}, master_user='root', master_password='secret',
                 master_use_gtid=slave_pos, master_ssl=0, master_connect_retry=1; start slave"
            )
        } else {
            format!(
                "change replication source to source_host='127.0.0.1', source_port={port}, source_user='root',
                 source_password='secret', source_auto_position=1, get_source_public_key=1, source_connect_retry=1;
                 start replica"
            )
        };
        replica.sql("", &follow);
        replica
    }

    /// Starts a stopped server again, on the same port.
    pub fn start(&self) {
        self.instance.start();
    }

    /// `fast`: sessions are ended, all is written; `kill`: as in a crash.
    pub fn stop(&self, mode: &str) {
        self.instance.stop(mode);
    }

    pub fn restart(&self, mode: &str) {
        self.stop(mode);
        self.start();
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn port(&self) -> u16 {
        self.instance.port()
    }

    /// A file of the server's folder: `ca.crt`, `client.crt`, `client.key`, `server.log`, `mysql.sock`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.instance.file(name)
    }

    /// One of the server's own programs by its MySQL name: `mysql`, `mysqlbinlog`, `mysqldump`.
    pub fn program(&self, name: &str) -> Command {
        let name = match name.strip_prefix("mysql") {
            Some("") if self.version.is_mariadb() => "mariadb".to_owned(),
            Some(rest) if self.version.is_mariadb() => format!("mariadb-{rest}"),
            _ => name.to_owned(),
        };
        let mut program = self.instance.program(&name);
        program.arg("--no-defaults");
        program
    }

    /// A user's URL.
    pub fn url_as(&self, user: &str) -> String {
        format!("{}://{user}:secret@127.0.0.1:{}/", self.version.scheme(), self.port())
    }

    /// A new, empty database whose name starts with `prefix`, for one test alone.
    pub fn database(&self, prefix: &str) -> Database<'_> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Such a name has 64 characters at most, a user's has 32 in MySQL.
        let (name, user) = (format!("{}_{number}", &prefix[..prefix.len().min(50)]), format!("capture_{number}"));
        // To a grant, _ is any character.
        let pattern = name.replace('_', "\\_");
        self.sql(
            "",
            &format!(
                "create database `{name}`; create user {user} identified by 'secret';
                 grant select on `{pattern}`.* to {user};
                 grant reload, lock tables, show databases, process, replication slave, replication client on *.* to {user}"
            ),
        );
        if !self.version.is_mariadb() {
            self.sql("", &format!("grant xa_recover_admin on *.* to {user}"));
        }
        Database { server: self, name, user }
    }

    /// Runs SQL as root in a database, or in none; gives rows as lines, columns separated by `|`, NULL as `NULL`, tabs,
    /// ends of lines and backslashes in values as `\t`, `\n`, `\\`. An error fails the test.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let client = self.client("127.0.0.1", "root", database);
        self.try_sql(client, sql).unwrap_or_else(|error| panic!("{error}\nin: {sql}"))
    }

    /// Runs SQL by a [`Server::client`]; `Err` is what it said.
    pub fn try_sql(&self, client: Command, sql: &str) -> Result<String, String> {
        answer(client, sql).map(|rows| rows.replace('\t', "|"))
    }

    /// The server's own client, as a user whose password is `secret`; it takes SQL on its standard input.
    pub fn client(&self, host: &str, user: &str, database: &str) -> Command {
        let mut client = self.program("mysql");
        if self.version.is_mariadb() {
            let plugins = self.instance.bin().join("../lib/x86_64-linux-gnu/libmariadb3/plugin");
            client.arg(format!("--plugin-dir={}", plugins.display()));
        }
        client.args(["--protocol=tcp", "--batch", "--unbuffered", "--skip-column-names", "--comments"]);
        client.args(["--default-character-set=utf8mb4", "-h", host, "-P", &self.port().to_string(), "-u", user]);
        client.env("MYSQL_PWD", "secret");
        if !database.is_empty() {
            client.args(["-D", database]);
        }
        client
    }

    /// A connection of root's that stays open.
    pub fn session(&self, database: &str) -> Client {
        Client::start(self.client("127.0.0.1", "root", database))
    }
}

/// A database of one test's own, with a user who may capture it.
pub struct Database<'s> {
    server: &'s Server,
    name: String,
    user: String,
}

impl<'s> Database<'s> {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn server(&self) -> &'s Server {
        self.server
    }

    /// Who has what a capture needs, and no other connections than this test's.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// That user's URL. It is of the server: what is wanted of it is told by [`Database::tables`].
    pub fn url(&self) -> String {
        self.server.url_as(&self.user)
    }

    /// The arguments that select this database's tables.
    pub fn tables(&self) -> Vec<String> {
        vec!["--tables".to_owned(), format!("{}.*", self.name)]
    }

    /// As root; see [`Server::sql`].
    pub fn sql(&self, sql: &str) -> String {
        self.server.sql(&self.name, sql)
    }
}

/// A client that stays connected.
pub struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Client {
    fn start(mut client: Command) -> Client {
        let mut child = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the client starts");
        let (stdin, stdout) = (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
        Client { child, stdin, stdout: BufReader::new(stdout) }
    }

    /// Waits for no answer.
    pub fn send(&mut self, sql: &str) {
        writeln!(self.stdin, "{sql};").expect("the client listens");
    }

    /// Returns what the server answered, each row as a line.
    pub fn sql(&mut self, sql: &str) -> Vec<String> {
        const END: &str = "executed";
        self.send(&format!("{sql};\nselect '{END}'"));
        let mut rows = Vec::new();
        for line in (&mut self.stdout).lines() {
            match line.expect("the client's answer") {
                line if line == END => return rows,
                line => rows.push(line.replace('\t', "|")),
            }
        }
        panic!("the client gave up at: {sql}");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
