//! Positions that the server no longer covers: said, and obeyed as the policy says. And those that another one covers.

use std::process::Command;
use std::time::Duration;

use super::MySql;
use crate::source::Subject;
use crate::source::program::{Program, Stream, brief, eventually, run};
use crate::support::mysql::{Server, Version};

const T: &str = "create table t (id int primary key); insert into t values (1)";
const RESNAPSHOT: [&str; 4] = ["--on-lost-position", "resnapshot", "--until", "current"];

/// A stream that has the table's row and one change.
fn streamed<'s>(db: &'s MySql<'_>) -> Stream<'s> {
    db.execute(T);
    let stream = Stream::unstarted(db, &[]);
    assert_eq!(brief(&stream.run(&["--until", "current"]).ok()), [r#"r t {"id":1}"#]);
    db.execute("insert into t values (2)");
    assert_eq!(brief(&stream.changes()), [r#"c t {"id":2}"#]);
    stream
}

/// Fails with 3 and says why, and again so; then starts over when told to, and goes on.
fn lost(db: &MySql<'_>, stream: &Stream<'_>, why: &[&str]) {
    for _ in 0..2 {
        let log = stream.run(&["--until", "current"]).failed(3);
        for part in why {
            assert!(log.contains(part), "{part:?} is not in: {log}");
        }
    }
    let mut rows = brief(&stream.run(&RESNAPSHOT).ok());
    rows.sort();
    let mut expected: Vec<String> =
        db.query("select id from t").lines().map(|id| format!(r#"r t {{"id":{id}}}"#)).collect();
    expected.sort();
    assert_eq!(rows, expected);
    db.execute("insert into t values (99)");
    assert_eq!(brief(&stream.changes()), [r#"c t {"id":99}"#]);
}

#[test]
fn the_log_was_purged() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &[]) else { continue };
        let db = MySql::new(server.database("purged"));
        let stream = streamed(&db);
        db.execute("insert into t values (3); flush binary logs; insert into t values (4); flush binary logs");
        let last = db.query("show binary logs").lines().last().unwrap().split('|').next().unwrap().to_owned();
        // A file is kept as long as somebody reads it, and MariaDB ends who was killed when it has something to send.
        eventually("the files are gone", || {
            db.execute(&format!("purge binary logs to '{last}'"));
            db.query("show binary logs").lines().count() == 1
        });
        lost(&db, &stream, &["purged"]);
    }
}

#[test]
fn what_was_purged_had_been_read() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &[]) else { continue };
        let db = MySql::new(server.database("purged_behind"));
        let stream = streamed(&db);
        db.execute("flush binary logs; insert into t values (3)");
        assert_eq!(brief(&stream.changes()), [r#"c t {"id":3}"#]);
        let last = db.query("show binary logs").lines().last().unwrap().split('|').next().unwrap().to_owned();
        db.execute(&format!("purge binary logs to '{last}'; insert into t values (4)"));
        assert_eq!(brief(&stream.changes()), [r#"c t {"id":4}"#]);
    }
}

#[test]
fn the_log_was_reset() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &[]) else { continue };
        let db = MySql::new(server.database("was_reset"));
        let stream = streamed(&db);
        let reset = if version.is_mariadb() { "reset master" } else { "reset binary logs and gtids" };
        db.execute(&format!("insert into t values (3); {reset}; insert into t values (4)"));
        lost(&db, &stream, &[]);
    }
}

/// MySQL does not tell whoever reads the log; MariaDB ends its connection.
#[test]
fn the_log_is_reset_while_it_is_streamed() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &[]) else { continue };
        let db = MySql::new(server.database("reset_under_way"));
        let reset = if version.is_mariadb() { "reset master" } else { "reset binary logs and gtids" };
        db.execute(T);
        let dir = tempfile::tempdir().unwrap();
        let start =
            |policy: &str| run(&db, &db.url(), dir.path(), "heartbeat: 1s", &format!("on_lost_position: {policy}"));
        let rows_there = |program: &Program, first: usize| {
            let count = db.query("select id from t").lines().count();
            let mut rows = brief(&program.wait_for(first + count)[first..]);
            rows.sort();
            let mut expected: Vec<String> =
                db.query("select id from t").lines().map(|id| format!(r#"r t {{"id":{id}}}"#)).collect();
            expected.sort();
            assert_eq!(rows, expected, "{}: {}", version.name(), program.log());
            first + count
        };
        let mut policy = "fail";
        // From a later file of the log, and from the very first, which is then there again under the same name.
        for (first, flush) in [(10, "flush binary logs;"), (20, "")] {
            let program = start(policy);
            let found = rows_there(&program, 0);
            db.execute(&format!("{flush} insert into t values ({first})"));
            program.wait_for(found + 1);
            // A file's age is known to the second.
            std::thread::sleep(Duration::from_millis(1100));
            if policy == "fail" {
                db.execute(&format!("{reset}; insert into t values ({})", first + 1));
                let ended = program.end();
                assert_eq!(ended.records.len(), found + 1, "{}: {:?}", version.name(), brief(&ended.records));
                ended.failed(3);
                let log = start(policy).end().failed(3);
                assert!(log.contains("is lost"), "{log}");
                policy = "resnapshot";
                continue;
            }
            // Quiet for a while, the stream is not left.
            std::thread::sleep(Duration::from_secs(5));
            assert!(!program.log().contains("trying again"), "{}", program.log());
            db.execute(&format!("{reset}; insert into t values ({})", first + 1));
            let found = rows_there(&program, found + 1);
            db.execute("insert into t values (99)");
            let records = program.wait_for(found + 1);
            assert_eq!(brief(&records[found..]), [r#"c t {"id":99}"#]);
            assert_eq!(program.stop().ok().len(), found + 1);
        }
    }
}

fn copy(server: &Server, from: &str, to: &str) {
    let _ = std::fs::remove_dir_all(server.file(to));
    let copied = Command::new("cp").arg("-a").args([server.file(from), server.file(to)]).status().unwrap();
    assert!(copied.success());
}

/// A server that was saved, ran `behind`, and was put back to what was saved.
fn restored(server: &Server, behind: impl FnOnce()) {
    server.stop("fast");
    copy(server, "data", "saved");
    server.start();
    behind();
    server.stop("fast");
    copy(server, "saved", "data");
    // A file's age is known to the second.
    std::thread::sleep(Duration::from_millis(1100));
    server.start();
}

#[test]
fn a_position_ahead_of_a_restored_server_is_lost() {
    for version in [Version::MySql97, Version::MariaDb118] {
        let Some(server) = Server::own(version, &[]) else { continue };
        let db = MySql::new(server.database("ahead"));
        let stream = streamed(&db);
        restored(&server, || {
            for id in 10..30 {
                db.execute(&format!("insert into t values ({id})"));
            }
            assert_eq!(stream.changes().len(), 20);
        });
        lost(&db, &stream, &["ahead"]);
    }
}

/// The same numbers for other transactions: only the file's age tells.
#[test]
fn a_restored_server_that_has_overtaken_is_lost() {
    for version in [Version::MySql97, Version::MariaDb118] {
        let Some(server) = Server::own(version, &[]) else { continue };
        let db = MySql::new(server.database("overtaken"));
        let stream = streamed(&db);
        restored(&server, || {
            for id in 10..15 {
                db.execute(&format!("insert into t values ({id})"));
            }
            assert_eq!(stream.changes().len(), 5);
        });
        for id in 20..40 {
            db.execute(&format!("insert into t values ({id})"));
        }
        lost(&db, &stream, &[]);
    }
}

#[test]
fn another_server_is_not_streamed_from() {
    for (version, settings) in [
        (Version::MySql97, &[][..]),
        (Version::MySql97, &["gtid-mode=OFF", "enforce-gtid-consistency=OFF"]),
        (Version::MariaDb1011, &[]),
    ] {
        let (Some(one), Some(other)) = (Server::own(version, settings), Server::own(version, settings)) else {
            continue;
        };
        let db = MySql::new(one.database("one"));
        for number in 0..10 {
            db.execute(&format!("create table t{number} (id int)"));
        }
        let stream = streamed(&db);
        other.sql("", &format!("create database {}", db.name()));
        other.sql(db.name(), T);
        let log = Program::start(stream.command(&other.url_as("root"), &["--until", "current"])).end().failed(3);
        assert!(!log.is_empty());
        db.execute("insert into t values (3)");
        assert_eq!(brief(&stream.changes()), [r#"c t {"id":3}"#]);
    }
}

/// Its log has other files and other offsets; the GTIDs are the same.
#[test]
fn a_replica_that_has_become_the_server_goes_on() {
    for version in Version::ALL {
        let Some(primary) = Server::own(version, &[]) else { continue };
        let db = MySql::new(primary.database("failed_over"));
        let stream = streamed(&db);
        // So that the files differ.
        db.execute("flush binary logs; create table filler (id int primary key); flush binary logs");
        stream.changes();
        let replica = primary.replica();
        db.execute("insert into t values (3)");
        let arrived = || {
            replica.sql(
                "",
                &format!("select count(*) from information_schema.tables where table_schema = '{}'", db.name()),
            )
        };
        eventually("the tables are there", || arrived() == "2");
        eventually("the row is there", || replica.sql(db.name(), "select max(id) from t") == "3");
        primary.stop("kill");
        replica.sql("", if version.is_mariadb() { "stop slave" } else { "stop replica" });
        replica.sql(db.name(), "insert into t values (4)");
        let run = || Program::start(stream.command(&replica.url_as("root"), &["--until", "current"])).end();
        assert_eq!(brief(&run().ok()), [r#"c t {"id":3}"#, r#"c t {"id":4}"#], "{}", version.name());
        replica.sql(db.name(), "insert into t values (5)");
        assert_eq!(brief(&run().ok()), [r#"c t {"id":5}"#]);
    }
}
