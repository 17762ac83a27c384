//! Broken connections, restarts, files that end, slow readers, quiet databases.

use std::sync::mpsc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::{MySql, numbers, on_every_version};
use crate::source::program::{Program, Stream, assert_in_order, brief, eventually};
use crate::source::{Session, Subject};
use crate::support::mysql::{Server, Version};

on_every_version!(
    a_killed_dump_loses_and_repeats_nothing,
    killed_sql_sessions_are_opened_again,
    a_busy_neighbour_is_passed
);

const T: &str = "create table t (id int primary key, v text)";

fn ids(records: &[Value]) -> Vec<u64> {
    records.iter().map(|record| record["after"]["id"].as_u64().expect("a row")).collect()
}

/// Writes rows from `first` on in transactions of 3.
fn write(session: &mut dyn Session, first: u64, rows: u64, pause: Duration) {
    for first in (first..first + rows).step_by(3) {
        let values: Vec<String> = (first..first + 3).map(|id| format!("({id}, repeat('x', 500))")).collect();
        session.execute(&format!("insert into t values {}", values.join(",")));
        std::thread::sleep(pause);
    }
}

/// Ends connections; some may have ended by themselves.
fn kill(db: &MySql<'_>, connections: &[String]) {
    for connection in connections {
        let client = db.server().client("127.0.0.1", "root", "");
        let _ = db.server().try_sql(client, &format!("kill {connection}"));
    }
}

fn a_killed_dump_loses_and_repeats_nothing(db: &MySql<'_>) {
    db.execute(T);
    let stream = Stream::new(db, &[]);
    let (program, rows) = (stream.start(&[]), 1500);
    let mut session = db.session();
    eventually("it streams", || !db.connections(true).is_empty());
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || write(session.as_mut(), 0, rows, Duration::from_millis(3)));
        let mut random = StdRng::seed_from_u64(1);
        while !writer.is_finished() {
            std::thread::sleep(Duration::from_millis(random.random_range(100..600)));
            kill(db, &db.connections(true));
        }
    });
    let records = program.wait_for(rows as usize);
    let log = program.log();
    assert!(log.contains("trying again"), "it was killed: {log}");
    assert_in_order(&records);
    assert_eq!(ids(&program.stop().ok()), (0..rows).collect::<Vec<_>>());
    assert!(stream.changes().is_empty());
}

fn killed_sql_sessions_are_opened_again(db: &MySql<'_>) {
    db.execute(T);
    let stream = Stream::new(db, &[]);
    let program = stream.start(&[]);
    db.execute("insert into t values (0, 'a')");
    program.wait_for(1);
    for round in 1..4 {
        kill(db, &db.connections(false));
        db.execute(&format!("alter table t add c{round} int; insert into t (id) values ({round})"));
        program.wait_for(1 + 2 * round);
    }
    let records = program.stop().ok();
    assert_in_order(&records);
    let ops: String = records.iter().filter_map(|record| record["op"].as_str()).collect();
    assert_eq!(ops, "cscscsc");
}

fn a_busy_neighbour_is_passed(db: &MySql<'_>) {
    db.execute(T);
    let stream = Stream::new(db, &[]);
    let program = stream.start(&[]);
    let neighbour = MySql::new(db.server().database("neighbour"));
    neighbour.execute(&format!("create table n as {}; update n set n = n + 1", numbers(20_000)));
    db.execute("insert into t values (1, 'behind it')");
    assert_eq!(brief(&program.wait_for(1)), [r#"c t {"id":1,"v":"behind it"}"#]);
    assert_eq!(program.stop().ok().len(), 1);
    assert!(stream.changes().is_empty());
}

#[test]
fn a_restarted_server_is_found_again() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &[]) else { continue };
        let db = MySql::new(server.database("restarted"));
        db.execute(T);
        let stream = Stream::new(&db, &[]);
        let program = stream.start(&[]);
        eventually("it streams", || !db.connections(true).is_empty());
        let mut expected = Vec::new();
        for (round, mode) in [(0, "fast"), (1000, "kill"), (2000, "kill")] {
            write(db.session().as_mut(), round, 30, Duration::ZERO);
            // Rows that nobody may have seen when the server goes.
            server.restart(mode);
            db.execute(&format!("insert into t values ({}, 'after')", round + 100));
            expected.extend((round..round + 30).chain([round + 100]));
            program.wait_for(expected.len());
        }
        let records = program.stop().ok();
        assert_in_order(&records);
        assert_eq!(ids(&records), expected, "{}", version.name());
    }
}

#[test]
fn files_end_and_the_next_begins() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &["max-binlog-size=4096"]) else { continue };
        let db = MySql::new(server.database("rotated"));
        db.execute(T);
        let stream = Stream::new(&db, &[]);
        let program = stream.start(&[]);
        write(db.session().as_mut(), 0, 150, Duration::ZERO);
        program.wait_for(150);
        db.execute("flush binary logs; flush binary logs");
        write(db.session().as_mut(), 150, 150, Duration::ZERO);
        program.wait_for(300);
        let mut records = program.stop().ok();
        // From the end of a file, and over files that nobody has read yet.
        db.execute("flush binary logs; insert into t values (300, ''); flush binary logs");
        records.extend(stream.changes());
        db.execute("insert into t values (301, '')");
        records.extend(stream.changes());
        assert_in_order(&records);
        assert_eq!(ids(&records), (0..302).collect::<Vec<_>>(), "{}", version.name());
        assert!(db.query("show binary logs").lines().count() > 10);
    }
}

/// The server gives up a client that does not take what is sent for this long; ours tells it to have more patience.
#[test]
fn a_stuck_reader_does_not_cost_the_connection() {
    for version in [Version::MySql97, Version::MariaDb1011] {
        let Some(server) = Server::own(version, &["net-write-timeout=2"]) else { continue };
        let db = MySql::new(server.database("stuck"));
        db.execute(T);
        let stream = Stream::new(&db, &["--memory", "1MiB"]);
        let (read, gate) = mpsc::channel();
        let program = Program::start_unread(stream.command(&db.url(), &[]), gate);
        let rows = 20_000;
        db.execute(&format!("insert into t select n, repeat('x', 1000) from ({}) numbers order by n", numbers(rows)));
        db.execute("insert into t values (1000000, 'last')");
        eventually("it streams", || !db.connections(true).is_empty());
        let before = db.connections(true);
        std::thread::sleep(Duration::from_secs(10));
        assert_eq!(db.connections(true), before, "the same connection: {}", program.log());
        assert!(!program.log().contains("trying again"), "{}", program.log());
        read.send(()).unwrap();
        let rows = u64::from(rows);
        let records = program.wait_for(rows as usize + 1);
        assert_eq!(ids(&records), (0..rows).chain([1_000_000]).collect::<Vec<_>>());
        assert_eq!(program.stop().ok().len() as u64, rows + 1);
    }
}

/// Without GTIDs there are files and offsets.
#[test]
fn a_stream_without_gtids_goes_on() {
    let Some(server) = Server::own(Version::MySql97, &["gtid-mode=OFF", "enforce-gtid-consistency=OFF"]) else {
        return;
    };
    let db = MySql::new(server.database("no_gtids"));
    db.execute(T);
    let stream = Stream::new(&db, &[]);
    write(db.session().as_mut(), 0, 30, Duration::ZERO);
    let mut records = stream.changes();
    assert!(records.iter().all(|record| !record["pos"].as_str().unwrap().contains(['/', '#'])), "{}", records[0]);
    let program = stream.start(&[]);
    write(db.session().as_mut(), 30, 30, Duration::ZERO);
    program.wait_for(30);
    for (first, mode) in [(60, "fast"), (90, "kill")] {
        server.restart(mode);
        write(db.session().as_mut(), first, 30, Duration::ZERO);
        program.wait_for(first as usize);
    }
    records.extend(program.stop().ok());
    assert_in_order(&records);
    assert_eq!(ids(&records), (0..120).collect::<Vec<_>>());
}
