//! Private Postgres servers, by `tests/env/postgres` (which says what accounts, certificates and settings they have).
//!
//! - A shared server is started at the first [`Server::get`] of its version and lives as long as the test process.
//! - A server never outlives the test process, however that ends: a watchdog holds the read end of a pipe whose only
//!   write end is ours, and stops the server when the pipe closes.
//! - A [`Database`] drops its replication slots when it goes, so that many tests share the server's 60.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use std::io::Write;
use std::os::unix::process::CommandExt;

use super::{project, skip, without_settings};

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
}

/// One running (or stopped) server; dropping it stops it and removes its folder.
pub struct Server {
    version: Version,
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    settings: Vec<String>,
    watchdog: Child,
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
        let number = version.number().to_string();
        let bin = script(&["bindir", &number])?;
        let dir = tempfile::Builder::new().prefix("walbrook-pg").tempdir().expect("a folder for a server").keep();
        Ok(Server::launch(version, bin.into(), dir, settings))
    }

    /// A standby of this server, which streams by a slot called `standby` and copies failover slots (17+).
    pub fn standby(&self) -> Server {
        self.psql("postgres", "select pg_create_physical_replication_slot('standby', true)");
        let dir = tempfile::Builder::new().prefix("walbrook-pg").tempdir().expect("a folder for a server").keep();
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
        Server::launch(self.version, self.bin.clone(), dir, &settings)
    }

    /// Starts what there is in the folder, or what is made there.
    fn launch(version: Version, bin: PathBuf, dir: PathBuf, settings: &[&str]) -> Server {
        let number = version.number().to_string();
        // In a process group of its own: Ctrl-C on a terminal ends the tests and must not end the watchdog.
        let watchdog = Command::new("bash")
            .args(["-c", r#"cat; "$0" stop "$1" "$2" immediate; rm -rf "$2""#])
            .args([project("tests/env/postgres").as_os_str(), number.as_ref(), dir.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("bash starts");
        let settings = settings.iter().map(|setting| setting.to_string()).collect();
        let mut server = Server { version, bin, dir, port: 0, settings, watchdog };
        // Whoever takes the port between our look and the server's start makes the start fail: look again.
        for attempt in 1.. {
            server.port = free_port();
            match server.try_start() {
                Ok(()) => break,
                Err(reason) if attempt == 5 => panic!("{reason}"),
                Err(_) => {}
            }
        }
        server
    }

    fn try_start(&self) -> Result<(), String> {
        let (number, port) = (self.version.number().to_string(), self.port.to_string());
        let mut arguments = vec!["start", &number, self.dir.to_str().expect("a plain path"), &port];
        arguments.extend(self.settings.iter().map(String::as_str));
        script(&arguments).map(drop)
    }

    /// Starts a stopped server again, on the same port.
    pub fn start(&self) {
        self.try_start().unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// Stops the server; `mode` is pg_ctl's: `fast` (sessions are ended, all is written), `immediate` (as in a crash).
    pub fn stop(&self, mode: &str) {
        let number = self.version.number().to_string();
        let stopped = script(&["stop", &number, self.dir.to_str().expect("a plain path"), mode]);
        stopped.unwrap_or_else(|reason| panic!("{reason}"));
    }

    pub fn restart(&self, mode: &str) {
        self.stop(mode);
        self.start();
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A file of the server's folder: `ca.crt`, `client.crt`, `client.key`, `server.log`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// One of the server's own programs: `pg_recvlogical`, `pg_basebackup`, `pgbench`.
    pub fn program(&self, name: &str) -> Command {
        without_settings(Command::new(self.bin.join(name)))
    }

    /// The superuser's URL of a database.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", database)
    }

    pub fn url_as(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}:secret@127.0.0.1:{}/{database}", self.port)
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
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = psql.spawn().expect("psql starts");
        let mut stdin = child.stdin.take().expect("psql's stdin");
        let output = std::thread::scope(|scope| {
            // Beside the reading, or a long script and a long answer wait for each other. psql may also end early.
            scope.spawn(move || stdin.write_all(sql.as_bytes()));
            child.wait_with_output().expect("psql ends")
        });
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim_end().to_string());
        }
        let mut text = String::from_utf8(output.stdout).expect("psql answers in UTF-8");
        text.truncate(text.trim_end_matches('\n').len());
        Ok(text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
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

/// Runs `tests/env/postgres`; gives its first line, or the one line that says why not.
fn script(arguments: &[&str]) -> Result<String, String> {
    let path: &Path = &project("tests/env/postgres");
    let output = Command::new(path).args(arguments).stdin(Stdio::null()).output().expect("tests/env/postgres runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A port nobody listens on, below the range (32768 and up) from which clients' ports are given.
fn free_port() -> u16 {
    loop {
        let port = rand::random_range(20_000..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
