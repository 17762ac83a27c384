//! Private Postgres servers, by `tests/env/postgres` (which says what accounts, certificates and settings they have).
//!
//! - A shared server is started at the first [`Server::get`] of its version and lives as long as the test process.
//! - A [`Database`] drops its replication slots when it goes, so that many tests share the server's 60.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::instance::{Instance, Kind, answer, folder};
use super::skip;

const KIND: Kind = Kind { script: "tests/env/postgres", crash: "immediate" };

/// The versions the project is tested on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V15,
    V17,
    V18,
}

impl Version {
    pub const ALL: [Version; 3] = [Version::V15, Version::V17, Version::V18];

    pub fn number(self) -> u32 {
        match self {
            Version::V15 => 15,
            Version::V17 => 17,
            Version::V18 => 18,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Version::V15 => "15",
            Version::V17 => "17",
            Version::V18 => "18",
        }
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
        static SHARED: [OnceLock<Result<Server, String>>; 3] = [const { OnceLock::new() }; 3];
        let settings = ["max_replication_slots=60", "max_wal_senders=60", "max_connections=300"];
        let shared = SHARED[version as usize].get_or_init(|| Server::create(version, &settings));
        shared.as_ref().map_err(|reason| skip(reason)).ok()
    }

    /// The shared servers of all versions that can be had here.
    pub fn all() -> impl Iterator<Item = &'static Server> {
        Version::ALL.into_iter().filter_map(Server::get)
    }

    /// A server of the caller's own, to stop, break or configure (`name=value`).
    pub fn own(version: Version, settings: &[&str]) -> Option<Server> {
        Server::create(version, settings).map_err(|reason| skip(&reason)).ok()
    }

    /// `Err` where the version cannot be had; a version that can be had but does not start is a failed test.
    fn create(version: Version, settings: &[&str]) -> Result<Server, String> {
        Ok(Server { version, instance: Instance::create(KIND, version.name(), settings)? })
    }

    /// A standby of this server, which streams by a slot called `standby` and copies failover slots (17+).
    pub fn standby(&self) -> Server {
        self.psql("postgres", "select pg_create_physical_replication_slot('standby', true)");
        let dir = folder();
        let data = dir.join("data");
        let mut backup = self.program("pg_basebackup");
        backup.args(["-c", "fast", "-d", &self.url("postgres"), "-D"]).arg(&data);
        assert!(backup.status().expect("pg_basebackup runs").success());
        std::fs::write(data.join("standby.signal"), "").expect("a file in the standby's folder");
        let owner = Command::new("chown").arg("-R").arg("--reference").arg(self.file("data")).arg(&dir).status();
        assert!(owner.expect("chown runs").success());
        let primary = self.url("postgres");
        let settings = [
            &format!("primary_conninfo={primary}"),
            "primary_slot_name=standby",
            "hot_standby_feedback=on",
            "sync_replication_slots=on",
        ];
        Server { version: self.version, instance: self.instance.beside(dir, &settings) }
    }

    /// Starts a stopped server again, on the same port.
    pub fn start(&self) {
        self.instance.start();
    }

    /// Stops the server; `mode` is pg_ctl's: `fast` (sessions are ended, all is written), `immediate` (as in a crash).
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

    /// A file of the server's folder: `ca.crt`, `client.crt`, `client.key`, `server.log`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.instance.file(name)
    }

    /// One of the server's own programs: `pg_recvlogical`, `pg_basebackup`, `pgbench`.
    pub fn program(&self, name: &str) -> Command {
        self.instance.program(name)
    }

    /// The superuser's URL of a database.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", database)
    }

    pub fn url_as(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}:secret@127.0.0.1:{}/{database}", self.port())
    }

    /// A new, empty database whose name starts with `prefix`, for one test alone.
    pub fn database(&self, prefix: &str) -> Database<'_> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{prefix}_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        // template0: nobody can be connected to it, as somebody may be to template1 just now.
        self.psql("postgres", &format!(r#"create database "{name}" template template0"#));
        Database { server: self, name }
    }

    /// Runs SQL as the superuser in a database; gives rows as lines, columns separated by `|`. An error fails the test.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(&self.url(database), sql).unwrap_or_else(|error| panic!("{error}\nin: {sql}"))
    }

    /// Runs SQL by any connection string; `Err` is what psql said.
    pub fn try_psql(&self, connection: &str, sql: &str) -> Result<String, String> {
        let mut psql = self.program("psql");
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", connection]);
        answer(psql, sql)
    }
}

/// A database of one test's own.
pub struct Database<'s> {
    server: &'s Server,
    name: String,
}

impl Database<'_> {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn server(&self) -> &Server {
        self.server
    }

    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// See [`Server::psql`].
    pub fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.name, sql)
    }
}

impl Drop for Database<'_> {
    /// Its slots go; the database itself goes with the server. A server that a test left stopped has nothing to give back.
    fn drop(&mut self) {
        let slots = "from pg_replication_slots where database = current_database()";
        let sql = format!(
            "select pg_terminate_backend(active_pid, 5000) {slots} and active;
             select pg_drop_replication_slot(slot_name) {slots} and not active and not temporary"
        );
        let _ = self.server.try_psql(&self.url(), &sql);
    }
}
