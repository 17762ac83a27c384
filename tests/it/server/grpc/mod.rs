//! The gRPC server of a real process on real databases, through `walbrook subscribe`, generated clients and generic ones.

mod access;
mod added_rows;
mod admin;
mod admin_sinks;
mod admin_tables;
mod bad;
mod reflection;
mod returns;
mod stream;

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::source::{Program, eventually};
use crate::support::{self, mysql, walbrook};

/// A database of one test's own.
pub struct Db {
    url: String,
    /// What its tables' names begin with.
    pub schema: String,
    /// Where it is wanted of a stream, the tables of this test alone.
    tables: String,
    /// A name on the server of this test alone.
    name: String,
    sql: Box<dyn Fn(&str)>,
}

impl Db {
    pub fn sql(&self, sql: &str) {
        (self.sql)(sql);
    }

    fn is_mysql(&self) -> bool {
        !self.url.starts_with("postgres")
    }
}

/// Runs a test on each kind of database that can be had here.
pub fn on_each(prefix: &str, test: impl Fn(&Db)) {
    if let Some(server) = support::Server::get(support::Version::V17) {
        let database = server.database(prefix);
        let (url, name) = (database.url(), database.name().to_owned());
        let database = std::rc::Rc::new(database);
        let kept = database.clone();
        // The database outlives the sidecars of the test, or it could not drop their slots.
        test(&Db {
            url,
            schema: "public".to_owned(),
            tables: "public.*".to_owned(),
            name,
            sql: Box::new(move |sql| drop(kept.psql(sql))),
        });
        drop(database);
    }
    for version in [mysql::Version::MySql97, mysql::Version::MariaDb118] {
        let Some(server) = mysql::Server::get(version) else { continue };
        let database = server.database(prefix);
        let (url, name) = (database.url(), database.name().to_owned());
        test(&Db {
            url,
            schema: name.clone(),
            tables: format!("{name}.*"),
            name,
            sql: Box::new(move |sql| drop(database.sql(sql))),
        });
    }
}

/// A running `walbrook run` with a gRPC server, mostly without sinks.
pub struct Sidecar {
    program: Program,
    port: u16,
    dir: TempDir,
}

impl Sidecar {
    /// `grpc`: keys of that part, each a line of YAML.
    pub fn start(db: &Db, grpc: &[&str]) -> Sidecar {
        Self::start_at(db, grpc, 0, tempfile::tempdir().expect("a folder"))
    }

    /// One that may be [`Sidecar::killed`]: not on a port of those that clients get, or somebody's end could be there when it
    /// comes back.
    fn mortal(db: &Db) -> Sidecar {
        Self::start_at(db, &[], support::free_port(), tempfile::tempdir().expect("a folder"))
    }

    fn start_at(db: &Db, grpc: &[&str], port: u16, dir: TempDir) -> Sidecar {
        let keys: String = grpc.iter().map(|key| format!("  {key}\n")).collect();
        Self::start_with(db, &format!("  tables: ['{}']\n", db.tables), &format!("grpc:\n{keys}"), port, dir)
    }

    /// As [`Self::start`], where it may have so many files open: by its own limit, and at the most.
    fn start_limited(db: &Db, soft: usize, hard: usize) -> Sidecar {
        let program = walbrook();
        let mut command = Command::new("bash");
        let limited = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        command.args(["-c", &limited]).arg(program.get_program());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let tables = format!("  tables: ['{}']\n", db.tables);
        Self::start_by(command, db, &tables, "", 0, tempfile::tempdir().expect("a folder"))
    }

    /// In lines of YAML: keys of `source`, and of the top beside it, which may end inside `grpc`.
    fn start_with(db: &Db, source: &str, top: &str, port: u16, dir: TempDir) -> Sidecar {
        Self::start_by(walbrook(), db, source, top, port, dir)
    }

    fn start_by(mut command: Command, db: &Db, source: &str, top: &str, port: u16, dir: TempDir) -> Sidecar {
        let slot = if db.is_mysql() { String::new() } else { format!("  slot: {}\n", db.name) };
        let grpc = if top.contains("grpc:\n") { "" } else { "grpc:\n" };
        let yaml = format!(
            "source:\n  url: {:?}\n{source}{slot}state_dir: {:?}\nhttp: {{ listen: 'off' }}\n{top}{grpc}  listen: 127.0.0.1:{port}\n",
            db.url,
            dir.path().join("state"),
        );
        let file = dir.path().join("walbrook.yaml");
        std::fs::write(&file, yaml).expect("a file");
        command.arg("run").arg("--config").arg(file);
        let program = Program::start(command);
        program.wait_for_log("listening for gRPC");
        let log = program.log();
        let line = log.lines().find(|line| line.contains("listening for gRPC"));
        let port = line.and_then(|line| line.split_once("address=127.0.0.1:")?.1.trim().parse().ok());
        let port = port.unwrap_or_else(|| panic!("no port: {log}"));
        Sidecar { program, port, dir }
    }

    /// As in a crash; what is stored stays, and so does the port.
    fn killed(self) -> (u16, TempDir) {
        let Sidecar { program, port, dir } = self;
        program.signal("KILL");
        let _ = program.end();
        (port, dir)
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn subscribe(&self, arguments: &[&str]) -> Program {
        subscribe(&self.address(), arguments)
    }

    /// A client without TLS, and the runtime it lives in, once changes are streamed.
    fn connect(&self) -> (tokio::runtime::Runtime, Channel) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let endpoint =
            tonic::transport::Endpoint::from_shared(format!("http://{}", self.address())).expect("an address");
        let channel = runtime.block_on(endpoint.connect()).expect("a connection");
        let mut health = HealthClient::new(channel.clone());
        eventually("it streams", || {
            let answer = runtime
                .block_on(health.check(HealthCheckRequest { service: "walbrook.v1.ChangeStream".to_owned() }))
                .expect("an answer");
            answer.into_inner().status() == ServingStatus::Serving
        });
        (runtime, channel)
    }
}

/// Waits until the sidecar is there, and streams.
fn subscribe(address: &str, arguments: &[&str]) -> Program {
    let mut command = walbrook();
    command.args(["subscribe", "--wait", address]).args(arguments);
    Program::start(command)
}

/// Certificates of this test alone, by openssl: `ca.crt`, `server.crt` and `.key` for 127.0.0.1, `client.crt` and `.key`,
/// `stranger.crt`, which signed nothing.
fn certificates(dir: &Path) -> PathBuf {
    let script = "
        request() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=$1 -keyout $1.key \"${@:2}\"; }
        sign() { openssl x509 -req -in $1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out $1.crt -extfile $1.ext; }
        request ca -x509 -days 3650 -out ca.crt
        request stranger -x509 -days 3650 -out stranger.crt
        echo subjectAltName=IP:127.0.0.1 > server.ext
        echo extendedKeyUsage=clientAuth > client.ext
        for name in server client; do request $name -out $name.csr; sign $name; done
        chmod 600 *.key";
    let mut bash = Command::new("bash");
    let made = bash.args(["-ec", script]).current_dir(dir).output().expect("bash runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    dir.to_owned()
}
