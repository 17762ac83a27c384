//! Durable consumers of a sidecar, all of them killed at random under a steady load; one stops reading, one joins late.
//!
//! The one that stopped is told so, and comes back: where the database still has its log it goes on exactly there.
//!
//! Every line of every consumer is checked when it comes ([`stamped::Seen`]): transactions whole, one behind the other
//! without a gap, and again only behind a break, from the beginning of a transaction. `tests/crash-consumers` runs the long form.

mod reader;
mod stamped;

use std::fs::{self, File};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use tonic::transport::Endpoint;
use walbrook::proto::v1::admin_client::AdminClient;
use walbrook::proto::v1::{GetStatusRequest, GetStatusResponse};

use super::target::Target;
use super::terminate;
use crate::source::PATIENCE;
use crate::support::{self, mysql, walbrook};
use reader::Reader;
use stamped::{Writer, check_table};

/// Transactions that the readers may be behind for each MiB of the limit: a transaction is up to 45 kB of log, so that they
/// stay within a quarter of it.
const MAX_AHEAD_PER_MIB: i64 = 6;

/// How much of it.
struct Form {
    kills: u32,
    changes_per_s: u32,
    /// What one that stops reading is detached at: about ten seconds of the load and more.
    max_lag_mib: u32,
    /// Whether the sidecar has a sink too, and what is durable waits for it as well.
    sink: bool,
    seed: u64,
}

/// A running `walbrook run` with a gRPC server, which is killed and started again on the same port.
struct Sidecar {
    dir: tempfile::TempDir,
    child: Child,
    port: u16,
    started: u32,
    kills: u32,
}

impl Sidecar {
    fn start(database: &dyn Target, form: &Form) -> Sidecar {
        // Not one of those that clients get: while nobody listens there, a client's own end could be there.
        let port = support::free_port();
        let dir = tempfile::tempdir().expect("a folder");
        let config = format!(
            "source:\n  {}\nstate_dir: {}\nhttp: {{ listen: off }}\n{}\
             grpc:\n  listen: 127.0.0.1:{port}\n  max_lag_bytes: {}MiB\n",
            database.source("consumers"),
            dir.path().join("state").display(),
            if form.sink { "sinks: [{ name: beside, type: 'null' }]\n" } else { "" },
            form.max_lag_mib,
        );
        fs::write(dir.path().join("walbrook.yaml"), config).expect("the configuration");
        let child = run(&dir, 1);
        Sidecar { dir, child, port, started: 1, kills: 0 }
    }

    fn kill(&mut self) {
        self.child.kill().expect("a kill");
        self.child.wait().expect("its end");
        self.kills += 1;
    }

    fn start_again(&mut self) {
        self.started += 1;
        self.child = run(&self.dir, self.started);
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join(format!("{}.log", self.started))).unwrap_or_default()
    }

    fn alive(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a status") {
            panic!("the sidecar ended by itself with {status}:\n{}", self.log());
        }
    }

    fn status(&self) -> Option<GetStatusResponse> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let endpoint = Endpoint::from_shared(format!("http://{}", self.address())).expect("an address");
            let mut admin = AdminClient::new(endpoint.connect().await.ok()?);
            Some(admin.get_status(GetStatusRequest {}).await.ok()?.into_inner())
        })
    }

    /// Everything before it is confirmed to the database.
    fn confirmed(&self) -> Option<String> {
        Some(self.status()?.source?.confirmed?.text)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let consumers = self.status().map(|status| status.consumers);
            eprintln!("the end of the sidecar's log:\n{}\n{consumers:#?}", tail(&self.log()));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Returns when it listens.
fn run(dir: &tempfile::TempDir, number: u32) -> Child {
    let log = dir.path().join(format!("{number}.log"));
    let mut command = walbrook();
    command.args(["run", "--config"]).arg(dir.path().join("walbrook.yaml")).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(File::create(&log).expect("a log"));
    let mut child = command.spawn().expect("walbrook starts");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = fs::read_to_string(&log).unwrap_or_default();
        if said.lines().any(|line| line.contains("listening for gRPC")) {
            return child;
        }
        let ended = child.try_wait().expect("a status");
        assert!(ended.is_none() && Instant::now() < deadline, "it does not listen:\n{said}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

struct Run<'t> {
    database: &'t dyn Target,
    sidecar: Sidecar,
    writer: Writer,
    readers: Vec<Reader>,
    rng: StdRng,
}

impl Run<'_> {
    /// Waits until it is so; what dies or is wrong meanwhile fails the test.
    fn wait_for(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            self.alive();
            let at: Vec<_> = self.readers.iter().map(|reader| (reader.name, reader.whole())).collect();
            assert!(Instant::now() < deadline, "waited in vain for {what}: {at:?} of {}", self.writer.last());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn alive(&mut self) {
        self.sidecar.alive();
        self.readers.iter_mut().for_each(Reader::alive);
    }

    fn reader(&mut self, name: &'static str, from: &'static str) {
        let reader = Reader::start(name, from, &self.sidecar.address(), self.sidecar.dir.path());
        self.add(reader);
    }

    fn add(&mut self, reader: Reader) {
        self.writer.wait_for(reader.whole.clone());
        self.readers.push(reader);
    }

    /// Everybody has what is committed now.
    fn all_at_present(&mut self) {
        let present = self.writer.last();
        self.wait_for("all readers", |run| run.readers.iter().all(|reader| reader.whole() >= present));
    }

    fn kill_at_random(&mut self, kills: u32) {
        for _ in 0..kills {
            std::thread::sleep(Duration::from_millis(self.rng.random_range(100..1500)));
            self.alive();
            let away = Duration::from_millis(self.rng.random_range(0..500));
            let whom = self.rng.random_range(0..self.readers.len() + 2);
            match self.readers.get_mut(whom) {
                Some(reader) => {
                    reader.kill();
                    std::thread::sleep(away);
                    reader.start_again();
                }
                None => {
                    self.sidecar.kill();
                    std::thread::sleep(away);
                    self.sidecar.start_again();
                }
            }
        }
    }

    /// One more consumer stops reading until it is detached; the others do not wait for it, and neither does the database.
    fn one_that_stops(&mut self) -> Reader {
        let mut stopped = Reader::start("stopped", "latest", &self.sidecar.address(), self.sidecar.dir.path());
        self.wait_for("the one that will stop", |_| stopped.whole() > 0);
        stopped.reads(false);
        self.wait_for("its detachment", |run| {
            run.sidecar.log().contains("a consumer is detached: consumer \"stopped\"")
        });
        // Far behind where it stands.
        let (detached_at, end) = (self.writer.last(), self.database.end_of_log());
        // It is still stopped: nobody waits for it.
        self.wait_for("changes after that", |run| run.writer.last() > detached_at);
        self.all_at_present();
        self.wait_for("the confirmed position to go on", |run| {
            let confirmed = run.sidecar.confirmed();
            confirmed.is_some_and(|at| run.database.place(&at).expect("a position") >= end)
                && run.database.released("consumers").is_none_or(|released| released >= end)
        });
        stopped.reads(true);
        let (status, log) = (stopped.ended(), stopped.log());
        assert!(
            !status.success() && log.contains("ResourceExhausted") && log.contains("max_lag_bytes"),
            "{status}: {log}"
        );
        stopped
    }
}

fn consumers(database: &dyn Target, form: &Form) {
    let since = Instant::now();
    Writer::prepare(database);
    let sidecar = Sidecar::start(database, form);
    let writer =
        Writer::start(&database.connect(), form.changes_per_s, i64::from(form.max_lag_mib) * MAX_AHEAD_PER_MIB);
    let rng = StdRng::seed_from_u64(form.seed);
    let mut run = Run { database, sidecar, writer, readers: Vec::new(), rng };
    for name in ["first", "second", "third"] {
        run.reader(name, "snapshot");
    }
    run.all_at_present();
    run.kill_at_random(form.kills / 2);
    run.all_at_present();

    let mut stopped = run.one_that_stops();
    stopped.start_again();
    if database.released("consumers").is_none() {
        // Its position is still covered: it goes on exactly there.
        run.add(stopped);
        run.all_at_present();
    } else {
        let (status, log) = (stopped.ended(), stopped.log());
        assert!(status.code() == Some(3) && log.contains("OutOfRange"), "{status}: {log}");
    }

    // The others are not disturbed by one that joins late, with a snapshot.
    run.reader("late", "snapshot");
    run.all_at_present();
    run.kill_at_random(form.kills - form.kills / 2);

    let Run { mut sidecar, writer, mut readers, .. } = run;
    let (last, changes_per_s) = writer.stop();
    let deadline = Instant::now() + PATIENCE;
    while readers.iter().any(|reader| reader.whole() < last) {
        sidecar.alive();
        readers.iter_mut().for_each(Reader::alive);
        let at: Vec<_> = readers.iter().map(|reader| (reader.name, reader.whole())).collect();
        assert!(Instant::now() < deadline, "not at {last}: {at:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    check_table(database, last);
    println!(
        "{}, {} sink: {} transactions, {changes_per_s:.0} changes/s, {:.0} s; the sidecar was killed {} times",
        database.version(),
        if form.sink { "a" } else { "no" },
        last,
        since.elapsed().as_secs_f64(),
        sidecar.kills,
    );
    for mut reader in readers {
        reader.alive();
        reader.seen(|seen| {
            seen.finish(last).unwrap_or_else(|error| panic!("{}: {error}", reader.name));
            println!(
                "  {}: killed {} times, {} rows, {} changes, {} breaks after which {} changes came again",
                reader.name, reader.kills, seen.snapshot_rows, seen.changes, seen.rewinds, seen.again
            );
            assert!(seen.rewinds <= reader.kills + sidecar.kills, "without a break nothing comes again");
        });
    }
    assert_eq!(terminate(&mut sidecar.child).code(), Some(0), "{}", sidecar.log());
    database.close("consumers");
}

fn on_postgres(form: &Form) {
    let Some(server) = support::Server::own(support::Version::V17, &["autovacuum_naptime=2s"]) else { return };
    consumers(&server.database("consumers"), form);
}

fn on_mysql(form: &Form) {
    let Some(server) = mysql::Server::own(mysql::Version::MySql97, &[]) else { return };
    consumers(&server.database("consumers"), form);
}

const SHORT: Form = Form { kills: 8, changes_per_s: 10_000, max_lag_mib: 16, sink: false, seed: 4 };

#[test]
fn consumers_are_killed_on_postgres() {
    on_postgres(&SHORT);
}

#[test]
fn consumers_are_killed_on_mysql() {
    on_mysql(&Form { sink: true, ..SHORT });
}

/// The long form, for `tests/crash-consumers`: `KILLS` on `SERVER`, beside a sink with `SINK=1`.
#[test]
#[ignore = "takes minutes: run it by tests/crash-consumers"]
fn consumers_are_killed_many_times() {
    let set = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let form = Form {
        kills: set("KILLS", 50),
        changes_per_s: set("RATE", 20_000),
        max_lag_mib: set("MAX_LAG_MIB", 32),
        sink: set("SINK", 0) == 1,
        seed: set("SEED", 4).into(),
    };
    if std::env::var("SERVER").is_ok_and(|server| server == mysql::Version::MySql97.name()) {
        on_mysql(&form);
    } else {
        on_postgres(&form);
    }
}
