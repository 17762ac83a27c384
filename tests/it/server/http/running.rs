//! A walbrook with its HTTP server, and a database server of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::openmetrics::Page;
use crate::source::PATIENCE;
use crate::support::{self, mysql, walbrook};

/// A server of one test's own, with the database `shop`.
pub enum Server {
    Postgres(support::Server),
    MySql(mysql::Server),
}

/// Each kind that can be had here: one of Postgres, one of MySQL.
pub fn servers() -> impl Iterator<Item = Server> {
    let postgres = support::Server::own(support::Version::V17, &[]).map(|server| {
        server.psql("postgres", "create database shop");
        Server::Postgres(server)
    });
    let mysql = mysql::Server::own(mysql::Version::MySql97, &[]).map(|server| {
        server.sql("", "create database shop");
        Server::MySql(server)
    });
    postgres.into_iter().chain(mysql)
}

impl Server {
    pub fn url(&self) -> String {
        match self {
            Server::Postgres(server) => server.url("shop"),
            Server::MySql(server) => server.url_as("root"),
        }
    }

    /// `table`, as it is selected.
    pub fn qualified(&self, table: &str) -> String {
        match self {
            Server::Postgres(_) => format!("public.{table}"),
            Server::MySql(_) => format!("shop.{table}"),
        }
    }

    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        match self {
            Server::Postgres(server) => server.psql("shop", sql),
            Server::MySql(server) => server.sql("shop", sql),
        }
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self, Server::Postgres(_))
    }

    /// A table of an id and a text, with so many rows.
    pub fn table(&self, name: &str, rows: u32) {
        self.sql(&format!("create table {name} (id bigint primary key, body text)"));
        self.insert(name, 1, rows, 100);
    }

    /// As one transaction.
    pub fn insert(&self, name: &str, first: u32, rows: u32, body_bytes: u32) {
        if rows == 0 {
            return;
        }
        let last = first + rows - 1;
        match self {
            Server::Postgres(_) => self.sql(&format!(
                "insert into {name} select n, repeat('x', {body_bytes}) from generate_series({first}, {last}) n"
            )),
            Server::MySql(_) => self.sql(&format!(
                "set cte_max_recursion_depth = 10000000;
                 insert into {name} with recursive n (n) as (select {first} union all select n + 1 from n where n < {last})
                 select n, repeat('x', {body_bytes}) from n"
            )),
        };
    }

    pub fn stop(&self) {
        match self {
            Server::Postgres(server) => server.stop("fast"),
            Server::MySql(server) => server.stop("fast"),
        }
    }

    pub fn start(&self) {
        match self {
            Server::Postgres(server) => server.start(),
            Server::MySql(server) => server.start(),
        }
    }
}

/// A running `walbrook run`; killed by Drop.
pub struct Sidecar {
    child: Child,
    log: std::path::PathBuf,
    address: String,
}

impl Sidecar {
    /// Of the table, with its state in `dir/state` and these variables; what it logs is in `dir/log`.
    pub fn start(server: &Server, table: &str, dir: &Path, variables: &[(&str, &str)]) -> Sidecar {
        Self::start_as(walbrook(), server, table, dir, variables)
    }

    /// Of an empty table `wanted`, ready, with a pipe that nobody reads as its sink `pipe`.
    pub fn with_pipe(server: &Server, dir: &Path) -> Sidecar {
        server.table("wanted", 0);
        let sidecar = Self::start(server, "wanted", dir, &[("SINK_TYPE", "stdout"), ("SINK_NAME", "pipe")]);
        sidecar.wait_ready(200, "all of the server's log is durable");
        sidecar
    }

    pub fn start_as(
        mut command: Command,
        server: &Server,
        table: &str,
        dir: &Path,
        variables: &[(&str, &str)],
    ) -> Sidecar {
        let log = dir.join("log");
        command.arg("run").env("SOURCE_URL", server.url()).env("SOURCE_TABLES", server.qualified(table));
        command.env("STATE_DIR", dir.join("state")).env("WALBROOK_HTTP__LISTEN", "127.0.0.1:0");
        command.envs(variables.iter().copied()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(File::create(&log).expect("a file for the log"));
        let child = command.spawn().expect("walbrook starts");
        let mut sidecar = Sidecar { child, log, address: String::new() };
        let start = Instant::now();
        while sidecar.address.is_empty() {
            assert!(start.elapsed() < PATIENCE, "it does not say where it listens: {}", sidecar.log());
            std::thread::sleep(Duration::from_millis(5));
            let log = sidecar.log();
            let address =
                log.lines().find(|line| line.contains("/readyz")).and_then(|line| line.split("address=").nth(1));
            sidecar.address = address.unwrap_or_default().trim().to_owned();
        }
        sidecar
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log")
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.id().to_string()]).status().expect("kill");
        assert!(sent.success());
    }

    /// What it writes to stdout.
    pub fn stdout(&mut self) -> std::process::ChildStdout {
        self.child.stdout.take().expect("its stdout, once")
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    /// Status and body; none where nobody listens any more. A password in an answer fails the test.
    pub fn try_get(&self, path: &str) -> Option<(u16, String)> {
        let mut socket = TcpStream::connect(&self.address).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        write!(socket, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        assert!(!answer.contains("secret"), "the password of the URL is in {path}: {answer}");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Some((status, body.to_owned()))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> (u16, String) {
        self.try_get(path).unwrap_or_else(|| panic!("no answer to {path}: {}", self.log()))
    }

    /// Waits until `/readyz` answers so.
    #[track_caller]
    pub fn wait_ready(&self, status: u16, reason: &str) -> String {
        let start = Instant::now();
        loop {
            let (found, body) = self.get("/readyz");
            if found == status && body.contains(reason) {
                return body;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "waited in vain for {status} {reason:?}; it is {found} {body:?}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    pub fn metrics(&self) -> Page {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200);
        Page::read(&text).unwrap_or_else(|why| panic!("{why}\n{text}"))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
