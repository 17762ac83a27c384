//! Broken connections, restarts, slow readers, quiet databases.

use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::{Postgres, on_every_version};
use crate::source::program::{Program, Stream, assert_in_order, brief, eventually, tail};
use crate::source::{Session, Subject};
use crate::support::{Server, Version, walbrook};

on_every_version!(
    a_killed_sender_loses_and_repeats_nothing,
    a_killed_sql_session_is_opened_again,
    a_temporary_slot_ends_with_its_connection,
    a_slot_in_use_is_waited_for,
    the_position_follows_a_busy_neighbour,
    heartbeats_are_written_and_not_delivered,
);

fn ids(records: &[Value]) -> Vec<u64> {
    records.iter().map(|record| record["after"]["id"].as_u64().expect("a row")).collect()
}

/// Writes rows 0.. in transactions of 3, each with its number in the transaction's row.
fn write(session: &mut dyn Session, rows: u64, pause: Duration) {
    for first in (0..rows).step_by(3) {
        let values: Vec<String> = (first..first + 3).map(|id| format!("({id}, repeat('x', 500))")).collect();
        session.execute(&format!("insert into t values {}", values.join(",")));
        std::thread::sleep(pause);
    }
}

const T: &str = "create table t (id int primary key, v text)";

fn a_killed_sender_loses_and_repeats_nothing(db: &Postgres<'_>) {
    db.execute(T);
    let stream = Stream::new(db, &[]);
    let (program, rows) = (stream.start(&[]), 1500);
    let mut session = db.session();
    let active = format!("select active from pg_replication_slots where slot_name = '{}'", db.stream_name());
    eventually("it streams", || db.query(&active) == "t");
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || write(session.as_mut(), rows, Duration::from_millis(3)));
        let mut random = StdRng::seed_from_u64(1);
        while !writer.is_finished() {
            std::thread::sleep(Duration::from_millis(random.random_range(100..600)));
            let kill = "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name";
            db.query(&format!("{kill} = '{}' and active", db.stream_name()));
        }
    });
    let records = program.wait_for(rows as usize);
    let log = program.log();
    assert!(log.contains("trying again"), "it was killed: {log}");
    assert_in_order(&records);
    assert_eq!(ids(&program.stop().ok()), (0..rows).collect::<Vec<_>>());
    assert!(stream.changes().is_empty());
}

/// What a Relation message does not say is asked by SQL, on a connection that was idle for long.
fn a_killed_sql_session_is_opened_again(db: &Postgres<'_>) {
    db.execute(T);
    let stream = Stream::new(db, &[]);
    let program = stream.start(&[]);
    db.execute("insert into t values (1, 'a')");
    program.wait_for(1);
    for round in 0..3 {
        let killed = db.query(
            "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where datname = current_database()
             and pid <> pg_backend_pid() and backend_type = 'client backend'",
        );
        assert_ne!(killed, "0");
        db.execute(&format!("alter table t add c{round} int; insert into t (id) values ({})", round + 2));
        program.wait_for(1 + 2 * (round + 1));
    }
    let records = program.stop().ok();
    assert_in_order(&records);
    let ops: String = records.iter().filter_map(|record| record["op"].as_str()).collect();
    assert_eq!(ops, "cscscsc");
    let rows: Vec<Value> = records.into_iter().filter(|record| record["op"] == "c").collect();
    assert_eq!(ids(&rows), [1, 2, 3, 4]);
}

fn a_temporary_slot_ends_with_its_connection(db: &Postgres<'_>) {
    db.execute(&format!("{T}; insert into t values (1, 'a')"));
    let program = tail(db, &[]);
    program.wait_for(1);
    eventually("it streams", || {
        db.query(
            "select count(*) from pg_stat_replication where state = 'streaming' and \
        pid = (select active_pid from pg_replication_slots where database = current_database())",
        ) == "1"
    });
    db.query("select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database()");
    let ended = program.end();
    assert!(ended.log.contains("--state-dir"), "{}", ended.log);
    ended.failed(1);
    assert!(db.left_behind().is_empty(), "{:?}", db.left_behind());
}

fn a_slot_in_use_is_waited_for(db: &Postgres<'_>) {
    db.execute(T);
    let (stream, name) = (Stream::new(db, &[]), db.stream_name());
    let mut holder = db.server().program("pg_recvlogical");
    holder.args(["-d", &db.url(), "-S", &name, "--start", "-f", "/dev/null", "-s", "0", "-o", "proto_version=1"]);
    holder.args(["-o", &format!("publication_names=\"{name}\"")]).stderr(Stdio::null());
    let mut holder = holder.spawn().unwrap();
    let active = format!("select active from pg_replication_slots where slot_name = '{name}'");
    eventually("somebody holds the slot", || db.query(&active) == "t");
    db.execute("insert into t values (1, 'a')");
    let program = stream.start(&["--until", "current"]);
    program.wait_for_log("active");
    assert!(program.wait_for(0).is_empty());
    // Killed, so that it confirms nothing.
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(brief(&program.end().ok()), [r#"c t {"id":1,"v":"a"}"#]);
}

fn the_position_follows_a_busy_neighbour(db: &Postgres<'_>) {
    db.execute(T);
    let (stream, name) = (Stream::new(db, &[]), db.stream_name());
    let program = stream.start(&[]);
    let neighbour = Postgres::new(db.server().database("neighbour"));
    neighbour.execute("create table n as select generate_series(1, 20000) a; update n set a = a + 1");
    let end = neighbour.query("select pg_current_wal_lsn()");
    let behind = format!("select confirmed_flush_lsn >= '{end}' from pg_replication_slots where slot_name = '{name}'");
    eventually("our slot has followed", || db.query(&behind) == "t");
    assert!(program.stop().ok().is_empty());
    assert!(stream.changes().is_empty());
}

fn heartbeats_are_written_and_not_delivered(db: &Postgres<'_>) {
    db.execute(&format!("{T}; insert into t values (1, 'a')"));
    let name = db.stream_name();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("walbrook.yaml");
    let yaml = format!(
        "source: {{ type: postgres, url: '{}', slot: {name}, publication: {name}, heartbeat: 100ms }}\n\
         state_dir: {}\nsinks: [ {{ name: out, type: stdout, transactions: true }} ]\n",
        db.url(),
        dir.path().join("state").display()
    );
    std::fs::write(&config, yaml).unwrap();
    db.execute(&format!("select pg_create_logical_replication_slot('{name}_w', 'pgoutput')"));
    let mut command = walbrook();
    command.args(["run", "--config", config.to_str().unwrap()]);
    let program = Program::start(command);
    program.wait_for(1);
    let messages = format!(
        "select count(*) from pg_logical_slot_peek_binary_changes('{name}_w', NULL, NULL, 'proto_version', '1',
         'publication_names', '{name}', 'messages', 'true') where position('walbrook.heartbeat' in \
         encode(data, 'escape')) > 0"
    );
    eventually("heartbeats are in the log", || {
        db.execute("insert into t values (2, 'b') on conflict do nothing");
        db.query(&messages).parse::<u32>().unwrap() >= 3
    });
    program.wait_for(4);
    let records = program.stop().ok();
    assert_eq!(brief(&records), [r#"r t {"id":1,"v":"a"}"#, "b", r#"c t {"id":2,"v":"b"}"#, "e"]);
}

#[test]
fn a_restarted_server_is_found_again() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &["fsync=on"]) else { continue };
        let db = Postgres::new(server.database("restarted"));
        db.execute(T);
        let stream = Stream::new(&db, &[]);
        let program = stream.start(&[]);
        // A server that is not there at the start is not waited for by `tail`.
        eventually("it streams", || db.query("select count(*) from pg_replication_slots where active") == "1");
        let mut written = 0;
        for mode in ["fast", "immediate"] {
            write(db.session().as_mut(), 30, Duration::ZERO);
            // Rows that nobody may have seen when the server goes.
            server.restart(mode);
            db.execute("insert into t values (100, 'after')");
            written += 31;
            program.wait_for(written);
            db.execute("truncate t");
            written += 1;
            program.wait_for(written);
        }
        let records = program.stop().ok();
        assert_in_order(&records);
        assert_eq!(records.len(), written);
        let round: Vec<u64> = (0..30).chain([100]).collect();
        let rows: Vec<Value> = records.into_iter().filter(|record| record["op"] == "c").collect();
        assert_eq!(ids(&rows), [round.clone(), round].concat());
    }
}

/// The server gives up a client that is silent for 6 s, which a process on a busy machine may well be for one or two; a reader that does not read for longer must not make us silent.
#[test]
fn a_stuck_reader_does_not_cost_the_connection() {
    let Some(server) = Server::own(Version::V17, &["wal_sender_timeout=6s"]) else { return };
    let db = Postgres::new(server.database("stuck"));
    db.execute(T);
    let stream = Stream::new(&db, &["--memory", "1MiB"]);
    let (read, gate) = mpsc::channel();
    let program = Program::start_unread(stream.command(&db.url(), &[]), gate);
    let rows = 20_000;
    db.execute(&format!("insert into t select g, repeat('x', 1000) from generate_series(0, {rows} - 1) g"));
    db.execute("insert into t values (1000000, 'last')");
    let sender = "select active_pid from pg_replication_slots";
    eventually("it streams", || !db.query(sender).is_empty());
    let before = db.query(sender);
    std::thread::sleep(Duration::from_secs(15));
    assert_eq!(db.query(sender), before, "the same connection: {}", program.log());
    assert!(!program.log().contains("trying again"), "{}", program.log());
    read.send(()).unwrap();
    let records = program.wait_for(rows + 1);
    assert_eq!(ids(&records), (0..rows as u64).chain([1_000_000]).collect::<Vec<_>>());
    assert_eq!(program.stop().ok().len(), rows + 1);
}

/// At its end a server waits until the senders of its log have all of it confirmed.
#[test]
fn a_server_that_shuts_down_does_not_wait_for_who_is_behind() {
    let Some(server) = Server::own(Version::V17, &[]) else { return };
    let db = Postgres::new(server.database("leaving"));
    db.execute(T);
    let stream = Stream::new(&db, &["--memory", "1MiB"]);
    let (read, gate) = mpsc::channel();
    let program = Program::start_unread(stream.command(&db.url(), &[]), gate);
    eventually("it streams", || db.query("select count(*) from pg_replication_slots where active") == "1");
    let rows = 20_000;
    db.execute(&format!("insert into t select g, repeat('x', 1000) from generate_series(0, {rows} - 1) g"));
    let behind = "select pg_current_wal_lsn() - confirmed_flush_lsn > 10000000 from pg_replication_slots";
    assert_eq!(db.query(behind), "t", "nobody reads");
    // Fails where it takes longer than a minute.
    server.restart("fast");
    db.execute("insert into t values (1000000, 'last')");
    read.send(()).unwrap();
    eventually("the last row", || ids(&program.wait_for(rows + 1)).contains(&1_000_000));
    let mut came = ids(&program.stop().ok());
    came.sort_unstable();
    came.dedup();
    assert_eq!(came, (0..rows as u64).chain([1_000_000]).collect::<Vec<_>>());
}

#[test]
fn until_current_does_not_wait_for_a_big_open_transaction() {
    let Some(server) = Server::get(Version::V17) else { return };
    let db = Postgres::new(server.database("big_open"));
    db.execute(T);
    let stream = Stream::new(&db, &[]);
    let mut open = db.session();
    open.execute("begin; insert into t select g, repeat('x', 500) from generate_series(1, 30000) g");
    db.execute("insert into t values (100000, 'before')");
    let position: String = db.query("select pg_current_wal_lsn()");
    assert_eq!(brief(&stream.run(&["--until", &position]).ok()), [r#"c t {"id":100000,"v":"before"}"#]);
    open.execute("commit");
    assert_eq!(stream.run(&["--until", &position]).ok().len(), 0, "it was committed behind that position");
    assert_eq!(stream.changes().len(), 30_000);
}
