//! Killed at random while a load runs: nothing is lost, nothing is torn, and every row arrives whole.
//!
//! A round is a fresh slot, a fresh state directory and fresh files; the process is killed in it several times, in the
//! snapshot and after it, and the server now and then. At its end the load stops, the process catches up, and the files
//! are held against the tables. `tests/crash` runs the long form of the same.

mod consumers;
mod mysql;
mod postgres;
mod target;
mod verify;
mod writer;

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::support::mysql as mysql_server;
use crate::support::{Server, Version, walbrook};
use target::Target;
use verify::{Counts, verify};
use writer::{Load, WRITERS, Writer};

/// How a process ends before its time.
#[derive(Clone, Debug)]
enum End {
    /// SIGKILL after so long.
    Kill(Duration),
    /// SIGTERM after so long: exit 0, in time.
    Terminate(Duration),
    /// Abort at the n-th time that it comes to this point (`src/fault.rs`).
    At(&'static str, u32),
    /// SIGKILL when every sink has the whole snapshot.
    AfterSnapshot,
    /// The server goes down as in a crash and comes back; then SIGKILL.
    ServerCrash(Duration),
}

#[derive(Default)]
struct Figures {
    kills: u32,
    kills_in_snapshot: u32,
    terminations: u32,
    server_crashes: u32,
    rounds: u32,
    /// Transactions that the writers know to be committed.
    committed: u64,
    files: Counts,
    eyes: Counts,
}

/// The longest a stop may take here: `drain_timeout` and the goodbye.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);
/// The longest the rest may take when all is quiet, on a machine busy with other tests.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(180);

const SIGABRT: i32 = 6;
const SIGTERM: i32 = 15;

/// Two files, cut back after a crash so that no change is in them twice, and what a reader of stdout has seen.
const SINKS: [&str; 3] = ["one", "two", "eyes"];
const EYES: &str = "eyes";

struct Round<'s> {
    database: &'s dyn Target,
    dir: tempfile::TempDir,
    name: String,
    started: u32,
    seed: u64,
    rng: StdRng,
}

impl<'s> Round<'s> {
    fn new(database: &'s dyn Target, number: u32) -> Round<'s> {
        let dir = tempfile::tempdir().expect("a folder");
        let name = format!("crash_{}_{number}", database.name());
        let (one, two) = (dir.path().join("one.ndjson"), dir.path().join("two.ndjson"));
        let config = format!(
            "source:\n  {}\n  snapshot_workers: 2\n  snapshot_chunk: 1MiB\n\
             state_dir: {}\nmemory: 8MiB\nsinks:\n  - {{ name: one, type: file, path: {} }}\n  \
             - {{ name: two, type: file, path: {}, transactions: true, batch_records: 200, batch_delay: 20ms }}\n  \
             - {{ name: eyes, type: stdout }}\n",
            database.source(&name),
            dir.path().join("state").display(),
            one.display(),
            two.display(),
        );
        fs::write(dir.path().join("walbrook.yaml"), config).expect("the configuration");
        let seed = seed() + u64::from(number);
        Round { database, dir, name, started: 0, seed, rng: StdRng::seed_from_u64(seed) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&mut self, crash_at: Option<String>) -> Child {
        self.started += 1;
        let log = File::create(self.file(&format!("{}.log", self.started))).expect("a log");
        let eyes = File::options().create(true).append(true).open(self.file("eyes.ndjson")).expect("a file");
        // Half a line at the end of what a killed process has written is no line.
        let seen = fs::read(self.file("eyes.ndjson")).expect("the file");
        let whole = seen.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        eyes.set_len(whole as u64).expect("the end cut off");
        let mut command = walbrook();
        command.args(["run", "--config"]).arg(self.file("walbrook.yaml")).stdin(Stdio::null()).stdout(eyes);
        if let Some(point) = crash_at {
            command.env("CRASHTEST_AT", point);
        }
        command.stderr(log).spawn().expect("walbrook starts")
    }

    fn log(&self, number: u32) -> String {
        fs::read_to_string(self.file(&format!("{number}.log"))).unwrap_or_default()
    }

    /// The stored position of each sink.
    fn positions(&self) -> Option<Vec<Option<String>>> {
        let output = walbrook()
            .args(["offsets", "show", "--offline", "--json", "--state-dir"])
            .arg(self.file("state"))
            .output()
            .expect("walbrook runs");
        let shown: Value = serde_json::from_slice(&output.stdout).ok()?;
        Some(SINKS.iter().map(|sink| Some(shown["sinks"][sink]["position"].as_str()?.to_owned())).collect())
    }

    fn in_snapshot(&self) -> bool {
        self.positions().is_none_or(|positions| positions.iter().any(Option::is_none))
    }

    /// Panics where the process has ended by itself.
    fn alive(&self, child: &mut Child) {
        if let Some(status) = child.try_wait().expect("a status") {
            panic!("walbrook ended by itself with {status}:\n{}", self.log(self.started));
        }
    }

    fn random_ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(from..to))
    }

    fn run_until(&mut self, end: &End, figures: &mut Figures) {
        let point = match end {
            End::At(point, n) => Some(format!("{point}:{n}")),
            _ => None,
        };
        let mut child = self.start(point);
        match end {
            End::Kill(after) => {
                std::thread::sleep(*after);
                self.alive(&mut child);
                child.kill().expect("a kill");
                child.wait().expect("its end");
            }
            End::ServerCrash(after) => {
                std::thread::sleep(*after);
                self.database.crash();
                std::thread::sleep(self.random_ms(0, 300));
                self.database.start();
                figures.server_crashes += 1;
                std::thread::sleep(self.random_ms(0, 3000));
                self.alive(&mut child);
                child.kill().expect("a kill");
                child.wait().expect("its end");
            }
            End::Terminate(after) => {
                std::thread::sleep(*after);
                self.alive(&mut child);
                let status = terminate(&mut child);
                let log = self.log(self.started);
                // A signal before the handler is there ends it as any process; nothing has begun then.
                let early = status.signal() == Some(SIGTERM);
                assert!(status.code() == Some(0) || early, "SIGTERM ended it with {status}:\n{log}");
                for sink in SINKS {
                    let bytes = fs::read(self.file(&format!("{sink}.ndjson"))).unwrap_or_default();
                    assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "{sink}: a torn line after SIGTERM");
                }
                let bytes = fs::read(self.file("two.ndjson")).unwrap_or_default();
                let last = bytes.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
                let whole =
                    last.is_empty() || [&b"{\"op\":\"r\""[..], b"{\"op\":\"e\""].iter().any(|op| last.starts_with(op));
                assert!(self.in_snapshot() || whole, "a torn transaction after SIGTERM:\n{log}");
                figures.terminations += 1;
                return;
            }
            End::At(..) => {
                let status = ended_within(&mut child, CATCH_UP_TIMEOUT);
                let aborted = status.is_some_and(|status| status.signal() == Some(SIGABRT));
                if !aborted {
                    let _ = child.kill();
                    panic!("{end:?} was not met, its end: {status:?}\n{}", self.log(self.started));
                }
            }
            End::AfterSnapshot => {
                let deadline = Instant::now() + CATCH_UP_TIMEOUT;
                while self.in_snapshot() {
                    self.alive(&mut child);
                    assert!(Instant::now() < deadline, "the snapshot does not end\n{}", self.log(self.started));
                    std::thread::sleep(Duration::from_millis(100));
                }
                child.kill().expect("a kill");
                child.wait().expect("its end");
            }
        }
        figures.kills += 1;
        figures.kills_in_snapshot += u32::from(self.in_snapshot());
    }

    /// With the load stopped: runs to the end of the log and ends well.
    fn catch_up(&mut self) {
        let end = self.database.end_of_log();
        let mut child = self.start(None);
        let deadline = Instant::now() + CATCH_UP_TIMEOUT;
        let database = self.database;
        let covered = |position: &Option<String>| {
            position.as_ref().is_some_and(|at| database.place(at).expect("a position") >= end)
        };
        while !self.positions().is_some_and(|positions| positions.iter().all(covered)) {
            self.alive(&mut child);
            assert!(Instant::now() < deadline, "not at {end}: {:?}\n{}", self.positions(), self.log(self.started));
            std::thread::sleep(Duration::from_millis(300));
        }
        let status = terminate(&mut child);
        assert_eq!(status.code(), Some(0), "{}", self.log(self.started));
    }

    fn close(self) {
        self.database.close(&self.name);
    }
}

fn ended_within(child: &mut Child, time: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("a status") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

fn terminate(child: &mut Child) -> ExitStatus {
    let sent = Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
    ended_within(child, STOP_TIMEOUT).unwrap_or_else(|| {
        let _ = child.kill();
        panic!("SIGTERM did not end it in {STOP_TIMEOUT:?}");
    })
}

fn keep_on_failure(round: Round<'_>) -> String {
    let kept = round.dir.keep();
    format!("the files of the round: {}", kept.display())
}

/// Runs the round to its end and verifies what each sink has.
fn finish(mut round: Round<'_>, load: Load, figures: &mut Figures) {
    figures.committed += load.stop();
    round.catch_up();
    for sink in SINKS {
        match verify(&round.file(&format!("{sink}.ndjson")), round.database, sink != EYES) {
            Ok(counts) => {
                eprintln!("round {} {sink}: {counts}", figures.rounds);
                *(if sink == EYES { &mut figures.eyes } else { &mut figures.files }) += counts;
            }
            Err(error) => panic!("{error}\n{}", keep_on_failure(round)),
        }
    }
    figures.rounds += 1;
    round.close();
}

fn prepare(database: &dyn Target) {
    let mut db = database.connect()().expect("a connection");
    let dialect = database.dialect();
    db.run(dialect.schema).expect("the schema");
    (0..WRITERS).for_each(|id| Writer::new(id, dialect, seed()).fill(db.as_mut()));
    database.filled();
}

fn load(round: &Round<'_>) -> Load {
    Load::start(&round.database.connect(), round.database.dialect(), 12, round.seed)
}

/// What all that is random begins with: each run does the same, as far as clocks allow. Another one by `SEED`.
fn seed() -> u64 {
    std::env::var("SEED").map_or(4, |seed| seed.parse().expect("SEED is a number"))
}

fn print(database: &dyn Target, figures: &Figures, since: Instant) {
    let Figures { kills, kills_in_snapshot, terminations, server_crashes, rounds, committed, files, eyes } = figures;
    println!(
        "{}: {kills} kills ({kills_in_snapshot} of them in a snapshot), {terminations} SIGTERM, {server_crashes} server crashes, \
         {rounds} rounds in {:.0} s, {committed} transactions\n\
         two files in all: {files}\na reader of stdout: {eyes}",
        database.version(),
        since.elapsed().as_secs_f64()
    );
}

/// `kills` at random times in rounds of at most `of_round`.
fn at_random(database: &dyn Target, kills: u32, of_round: u32, server_crashes: bool) {
    let since = Instant::now();
    prepare(database);
    let mut figures = Figures::default();
    while figures.kills < kills {
        let mut round = Round::new(database, figures.rounds);
        let load = load(&round);
        // However fast the machine is: one inside the snapshot.
        let chunks = round.rng.random_range(1..5);
        round.run_until(&End::At("after_chunk", chunks), &mut figures);
        let crash_at = server_crashes.then(|| round.rng.random_range(0..of_round));
        for n in 0..of_round.min(kills - figures.kills) {
            // A snapshot may take less than a second: so that as many kills hit one.
            let longest_ms = if round.in_snapshot() { 700 } else { 2000 };
            let after = round.random_ms(10, longest_ms);
            let end = if crash_at == Some(n) { End::ServerCrash(after) } else { End::Kill(after) };
            round.run_until(&end, &mut figures);
            if n == of_round / 2 {
                round.run_until(&End::AfterSnapshot, &mut figures);
            }
            if round.rng.random_bool(0.2) {
                let after = round.random_ms(10, 2000);
                round.run_until(&End::Terminate(after), &mut figures);
            }
        }
        finish(round, load, &mut figures);
    }
    print(database, &figures, since);
    assert!(figures.kills_in_snapshot >= figures.rounds, "each round has one in its snapshot");
}

fn on_postgres(version: Version, kills: u32, of_round: u32) {
    let Some(server) = Server::own(version, &["fsync=on", "autovacuum_naptime=2s"]) else { return };
    at_random(&server.database("crash"), kills, of_round, true);
}

#[test]
fn killed_at_random_nothing_is_lost_and_nothing_torn() {
    on_postgres(Version::V17, 12, 4);
}

fn on_mysql(version: mysql_server::Version, kills: u32, of_round: u32) {
    let Some(server) = mysql_server::Server::own(version, &["innodb_flush_log_at_trx_commit=1", "sync_binlog=1"])
    else {
        return;
    };
    at_random(&server.database("crash"), kills, of_round, true);
}

#[test]
fn killed_at_random_on_mysql() {
    on_mysql(mysql_server::Version::MySql97, 12, 4);
}

#[test]
fn killed_at_random_on_mariadb() {
    on_mysql(mysql_server::Version::MariaDb1011, 12, 4);
}

/// Between the steps: the sinks are durable, the store is synced, the server is told.
#[test]
fn aborted_between_the_steps_of_durability_nothing_is_lost() {
    let Some(server) = Server::own(Version::V15, &[]) else { return };
    let since = Instant::now();
    let database = server.database("steps");
    prepare(&database);
    let mut figures = Figures::default();
    let mut round = Round::new(&database, 0);
    let load = load(&round);
    let in_snapshot = [
        End::At("after_chunk", 1),
        End::At("after_sink_flush", 1),
        End::At("before_store_commit", 1),
        End::At("after_store_commit", 1),
        End::At("after_snapshot_point", 1),
        End::At("after_chunk", 1),
        End::At("after_chunk", 4),
        End::At("after_catch_up", 1),
        End::At("after_sink_flush", 3),
        End::At("before_store_commit", 3),
        End::At("after_store_commit", 3),
    ];
    let in_stream = [
        End::AfterSnapshot,
        End::At("after_sink_flush", 1),
        End::At("before_store_commit", 2),
        End::At("after_store_commit", 2),
        End::At("after_confirmation", 2),
        End::At("after_sink_flush", 20),
        End::At("before_store_commit", 7),
        End::At("after_store_commit", 7),
    ];
    for end in in_snapshot.iter().chain(&in_stream) {
        round.run_until(end, &mut figures);
    }
    finish(round, load, &mut figures);
    print(&database, &figures, since);
}

/// Somebody waits to change a table while it is being read: nobody waits for ever.
#[test]
fn a_table_that_somebody_waits_to_truncate_is_read() {
    let Some(server) = Server::get(Version::V17) else { return };
    let database = server.database("waits");
    database.psql(
        "create table a_large (id int primary key, note text);
         insert into a_large select i, repeat(md5(i::text), 20) from generate_series(1, 20000) i;
         create table b_small (id int primary key);
         insert into b_small values (1), (2), (3)",
    );
    let mut round = Round::new(&database, 0);
    let mut child = round.start(None);
    let locked = "select count(*) from pg_locks where relation = 'b_small'::regclass and mode = 'AccessShareLock'";
    let deadline = Instant::now() + CATCH_UP_TIMEOUT;
    while database.psql(locked) == "0" {
        round.alive(&mut child);
        assert!(Instant::now() < deadline, "{}", round.log(1));
    }
    database.psql("set statement_timeout = '60s'; truncate b_small");
    let end = database.end_of_log();
    let covered =
        |position: &Option<String>| position.as_ref().is_some_and(|at| database.place(at).expect("a position") >= end);
    while !round.positions().is_some_and(|positions| positions.iter().all(covered)) {
        round.alive(&mut child);
        assert!(Instant::now() < deadline, "not at {end}: {:?}\n{}", round.positions(), round.log(1));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(terminate(&mut child).code(), Some(0), "{}", round.log(1));
    let text = fs::read_to_string(round.file("one.ndjson")).expect("the file");
    let of = |op: &str, table: &str| {
        let start = format!("{{\"op\":\"{op}\"");
        text.lines().filter(|line| line.starts_with(&start) && line.contains(&format!("\"table\":\"{table}\""))).count()
    };
    assert_eq!((of("r", "a_large"), of("r", "b_small"), of("t", "b_small")), (20_000, 3, 1));
    round.close();
}

/// The long form, for `tests/crash`: `KILLS` on `SERVER`.
#[test]
#[ignore = "takes many minutes: run it by tests/crash"]
fn killed_many_times_at_random() {
    let kills = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(100);
    let server = std::env::var("SERVER").unwrap_or_default();
    if let Some(version) = mysql_server::Version::ALL.into_iter().find(|version| version.name() == server) {
        return on_mysql(version, kills, 8);
    }
    let version = match server.as_str() {
        "15" => Version::V15,
        "18" => Version::V18,
        _ => Version::V17,
    };
    on_postgres(version, kills, 8);
}
