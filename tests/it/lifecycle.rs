//! How the program starts, stops and leaves: signals, exit codes, what stays on the server, the store beside a running
//! process.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::source::PATIENCE;
use crate::support::{AtEnd, Database, Server, walbrook};

/// Waits until `done` says so.
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running walbrook with its output in files of a directory; killed by Drop.
struct Running<'d> {
    child: Child,
    dir: &'d Path,
}

impl<'d> Running<'d> {
    fn start(mut command: Command, dir: &'d Path) -> Self {
        let file = |name: &str| File::create(dir.join(name)).expect("a file for the output");
        let child = command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).spawn();
        Running { child: child.expect("walbrook starts"), dir }
    }
    fn text(&self, name: &str) -> String {
        let mut text = String::new();
        let read = File::open(self.dir.join(name)).and_then(|mut file| file.read_to_string(&mut text));
        read.expect("the output is UTF-8");
        text
    }
    fn lines(&self) -> usize {
        self.text("out").lines().count()
    }
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
    }
    fn end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the end of walbrook", || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        status.expect("an exit status")
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn slots(database: &Database<'_>) -> String {
    database.psql("select count(*) from pg_replication_slots where database = current_database()")
}
fn publications(database: &Database<'_>) -> String {
    database.psql("select count(*) from pg_publication")
}

fn orders(database: &Database<'_>) {
    database.psql(
        "create table orders (id int primary key, note text); insert into orders select g from generate_series(1, 3) g",
    );
}

#[test]
fn tail_stops_on_a_signal_with_0_and_leaves_nothing_behind() {
    for server in Server::all() {
        for signal in ["INT", "TERM", "HUP"] {
            let database = server.database("signal");
            orders(&database);
            let dir = tempfile::tempdir().expect("a directory");
            let mut command = walbrook();
            command.args(["tail", &database.url()]);
            let mut running = Running::start(command, dir.path());
            wait_for("the snapshot", || running.lines() == 3);
            assert_eq!((slots(&database).as_str(), publications(&database).as_str()), ("1", "1"));
            database.psql("insert into orders values (4)");
            wait_for("the insert", || running.lines() == 4);
            running.signal(signal);
            assert_eq!(running.end().code(), Some(0), "{signal}: {}", running.text("err"));
            wait_for("the slot to go", || slots(&database) == "0");
            assert_eq!(publications(&database), "0", "{signal}");
            let records: Vec<Value> = running.text("out").lines().map(|line| line.parse().expect("JSON")).collect();
            let ops: Vec<&str> = records.iter().filter_map(|record| record["op"].as_str()).collect();
            assert_eq!(ops, ["r", "r", "r", "c"]);
        }
    }
}

#[test]
fn tail_ends_with_0_when_its_reader_goes_away() {
    for server in Server::all() {
        let database = server.database("reader");
        database.psql("create table wide as select g as id, repeat('x', 1000) as note from generate_series(1, 5000) g");
        let mut child = walbrook()
            .args(["tail", &database.url()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("walbrook starts");
        let mut some = [0; 100];
        child.stdout.take().expect("a pipe").read_exact(&mut some).expect("the first line");
        let output = child.wait_with_output().expect("the end");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(publications(&database), "0");
        wait_for("the slot to go", || slots(&database) == "0");
    }
}

#[test]
fn until_and_limit_end_with_0() {
    for server in Server::all() {
        let database = server.database("until");
        orders(&database);
        let lines = |args: &[&str]| {
            let output = walbrook().args(["tail", &database.url()]).args(args).output().expect("walbrook runs");
            assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
            output.stdout.iter().filter(|byte| **byte == b'\n').count()
        };
        assert_eq!(lines(&["--until", "current"]), 3);
        assert_eq!(lines(&["--snapshot", "only"]), 3);
        assert_eq!(lines(&["--snapshot", "never", "--until", "current"]), 0);
        assert_eq!(lines(&["--limit", "2"]), 2);
        assert_eq!(lines(&["--until", "current", "--output", "null"]), 0);
        assert_eq!((slots(&database).as_str(), publications(&database).as_str()), ("0", "0"));
    }
}

#[test]
fn run_goes_on_where_it_was_and_its_store_can_be_read_meanwhile() {
    for server in Server::all() {
        let database = server.database("run");
        orders(&database);
        let dir = tempfile::tempdir().expect("a directory");
        let (state, slot) = (dir.path().join("state"), format!("s_{}", database.name()));
        let command = || {
            let mut command = walbrook();
            command.args(["run", "--log-format", "json"]).env("SOURCE_URL", database.url()).env("SINK_TYPE", "stdout");
            command.env("SOURCE_SLOT", &slot).env("SOURCE_PUBLICATION", &slot).env("STATE_DIR", &state);
            command
        };
        let show = |more: &[&str]| {
            let state = state.to_str().expect("UTF-8");
            let output = walbrook().args(["offsets", "show", "--json", "--state-dir", state]).args(more).output();
            output.expect("walbrook runs")
        };
        let mut running = Running::start(command(), dir.path());
        wait_for("the snapshot", || running.lines() == 3);
        wait_for("a stored position", || {
            let shown = show(&["--offline"]);
            let value: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
            value["sinks"]["stdout"]["position"].is_string()
        });
        let second = command().output().expect("a second one");
        assert_eq!(second.status.code(), Some(2), "{}", String::from_utf8_lossy(&second.stderr));
        let set = walbrook()
            .args(["offsets", "set", "--sink", "stdout", "0/1", "--state-dir", state.to_str().expect("UTF-8")])
            .output()
            .expect("walbrook runs");
        assert_eq!(set.status.code(), Some(2), "set beside a running walbrook");
        running.signal("TERM");
        assert_eq!(running.end().code(), Some(0), "{}", running.text("err"));
        for line in running.text("err").lines() {
            let _: Value = line.parse().unwrap_or_else(|_| panic!("not JSON: {line}"));
        }

        let shown = show(&["--url", &database.url()]);
        assert_eq!(shown.status.code(), Some(0), "{}", String::from_utf8_lossy(&shown.stderr));
        let value: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
        assert_eq!(value["retention"]["verdict"], "valid");
        assert_eq!(value["lineage"]["stream"], slot.as_str());

        database.psql("insert into orders values (4)");
        let mut running = Running::start(command(), dir.path());
        wait_for("the insert", || running.lines() == 1);
        running.signal("INT");
        assert_eq!(running.end().code(), Some(0), "{}", running.text("err"));
        let record: Value = running.text("out").trim().parse().expect("one line of JSON");
        assert_eq!((record["op"].as_str(), &record["after"]["id"]), (Some("c"), &Value::from(4)));

        database.psql(&format!("select pg_drop_replication_slot('{slot}')"));
        let shown = show(&["--url", &database.url()]);
        assert_eq!(shown.status.code(), Some(3), "{}", String::from_utf8_lossy(&shown.stdout));
        let lost = command().output().expect("walbrook runs");
        assert_eq!(lost.status.code(), Some(3), "{}", String::from_utf8_lossy(&lost.stderr));
    }
}

/// A walbrook whose reader has stopped reading: the pipe is full, and nothing more is delivered.
fn stuck(database: &Database<'_>, more: &[&str]) -> Child {
    database.psql("create table wide as select g as id, repeat('x', 1000) as note from generate_series(1, 5000) g");
    let mut command = walbrook();
    command
        .args(["tail", &database.url()])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("walbrook starts");
    let mut some = [0; 100];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut some).expect("the first line");
    child
}

#[test]
fn a_stop_takes_no_longer_than_the_drain_timeout_and_a_second_signal_not_even_that() {
    for server in Server::all() {
        let send = |child: &Child, signal: &str| {
            let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().expect("kill");
            assert!(sent.success());
        };
        let database = server.database("drain");
        let mut child = stuck(&database, &["--drain-timeout", "500ms"]);
        let reader = child.stdout.take();
        let start = Instant::now();
        send(&child, "TERM");
        let status = child.wait().expect("the end");
        // Half a second, and at most five for the server to be told good-bye; the reader would be waited for for ever.
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
        assert_eq!((status.code(), publications(&database).as_str()), (Some(0), "0"));
        drop(reader);

        for (signal, code) in [("INT", 130), ("TERM", 143)] {
            let database = server.database("twice");
            let mut child = stuck(&database, &["--drain-timeout", "1h"]);
            let reader = child.stdout.take();
            send(&child, signal);
            // Two that come before the first is heard are one.
            let mut log = BufReader::new(child.stderr.take().expect("a pipe")).lines();
            let heard = log.by_ref().map_while(Result::ok).any(|line| line.contains("once more to stop at once"));
            assert!(heard && child.try_wait().expect("wait").is_none(), "the first {signal} ended it");
            send(&child, signal);
            assert_eq!(child.wait().expect("the end").code(), Some(code));
            drop(reader);
        }
    }
}

/// Runs SQL in a session of its own meanwhile; it may be ended by somebody else.
fn meanwhile<'s>(
    scope: &'s std::thread::Scope<'s, '_>,
    database: &'s Database<'_>,
    sql: &'static str,
) -> std::thread::ScopedJoinHandle<'s, Result<String, String>> {
    scope.spawn(move || database.server().try_psql(&database.url(), sql))
}

#[test]
fn a_stop_does_not_wait_for_a_slot_that_waits_for_a_transaction() {
    for server in Server::all() {
        let database = server.database("stop_slot");
        orders(&database);
        let dir = tempfile::tempdir().expect("a directory");
        for slot in [None, Some("kept")] {
            std::thread::scope(|scope| {
                // It lasts until it is cancelled.
                let sql = "begin; select txid_current(); select pg_sleep(3600)";
                let running_transaction = meanwhile(scope, &database, sql);
                let its = "from pg_stat_activity where datname = current_database() and backend_xid is not null
                           and query like '%pg_sleep%' and pid <> pg_backend_pid()";
                wait_for("the transaction", || database.psql(&format!("select count(*) {its}")) == "1");
                let _end = AtEnd(|| drop(database.psql(&format!("select pg_terminate_backend(pid) {its}"))));
                let mut command = walbrook();
                command.args(["tail", &database.url()]);
                if let Some(slot) = slot {
                    command.args(["--slot", slot, "--publication", slot, "--state-dir"]).arg(dir.path().join("state"));
                }
                let mut running = Running::start(command, dir.path());
                wait_for("the slot to be made", || slots(&database) == "1");
                running.signal("INT");
                assert_eq!(running.end().code(), Some(0), "{}", running.text("err"));
                assert!(!running_transaction.is_finished(), "the transaction was to outlive the stop");
                wait_for("the slot to go", || slots(&database) == "0");
                assert!(!running_transaction.is_finished(), "the slot was to go before the transaction");
                if slot.is_none() {
                    assert_eq!(publications(&database), "0");
                }
            });
        }
    }
}

/// The reader stands still while tables that come first fill the budget, and meanwhile a later one is truncated.
#[test]
fn tail_survives_a_table_rewritten_after_the_snapshot_was_taken() {
    for server in Server::all() {
        let database = server.database("rewritten");
        let first: String = (0..40)
            .map(|n| {
                format!(
                    "create table a{n} as select g as id, repeat('x', 2000) as note from generate_series(1, 1000) g;"
                )
            })
            .collect();
        database.psql(&first);
        database.psql("create table z (id int primary key); insert into z values (1)");
        let mut child = walbrook()
            .args(["tail", &database.url(), "--until", "current"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("walbrook starts");
        let mut stdout = child.stdout.take().expect("a pipe");
        let mut begun = [0; 1];
        stdout.read_exact(&mut begun).expect("the first line begins");
        database.psql("truncate z; insert into z values (9)");
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("UTF-8");
            text
        });
        let output = child.wait_with_output().expect("the end");
        let (out, err) = (reader.join().expect("the reader"), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{err}");
        assert!(err.contains("was rewritten"), "{err}");
        let of_z: Vec<&str> = out.lines().filter(|line| line.contains("\"table\":\"z\"")).collect();
        assert!(of_z.last().is_some_and(|line| line.contains("\"id\":9")), "{of_z:?}");
    }
}
