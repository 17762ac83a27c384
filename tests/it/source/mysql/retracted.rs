//! Transactions that are in the log and did not happen: delivered in part before that is known, and taken back.

use std::path::Path;

use super::{MySql, ids_of, last_id_of, numbers};
use crate::source::Subject;
use crate::source::program::{Program, Stream, eventually};
use crate::support::mysql::{Server, Version};

const T: &str = "create table t (id int primary key, v varchar(200))";

/// Far more than a batch: what is known of the end comes after most of it is written.
const ROWS: u32 = 20_000;

fn to_file(db: &MySql<'_>, stream: &Stream<'_>, file: &Path, more: &[&str]) -> Program {
    Program::start(stream.command(&db.url(), &[&["--output", file.to_str().unwrap()], more].concat()))
}

/// Rows that are logged as rows whatever the format of the log is: UUID() is another one on a replica.
fn rows(first: u32) -> String {
    format!(
        "insert into t select {first} + n, concat(uuid(), repeat('x', 100)) from ({}) numbers order by n",
        numbers(ROWS)
    )
}

/// A temporary table that is made in the midst of a transaction and logged as a statement has MariaDB log the rollback too,
/// instead of nothing.
#[test]
fn what_is_rolled_back_in_the_log_is_in_no_file() {
    for version in [Version::MariaDb105, Version::MariaDb1011, Version::MariaDb118] {
        let Some(server) = Server::own(version, &[]) else { continue };
        let db = MySql::new(server.database("rolled_back"));
        db.execute(T);
        let stream = Stream::new(&db, &[]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out.ndjson");
        let program = to_file(&db, &stream, &file, &[]);
        let (mixed, row) = ("set session binlog_format = MIXED; begin", "set session binlog_format = ROW");
        db.execute(&format!(
            "insert into t values (1, '');
             {mixed}; {}; create temporary table one (id int); rollback; {row};
             insert into t values (2, '');
             {mixed}; insert into t values (3, uuid()); savepoint s; {};
             create temporary table two (id int); rollback to savepoint s; insert into t values (4, uuid()); commit; {row};
             insert into t values (5, '')",
            rows(100_000),
            rows(200_000)
        ));
        eventually("the last row is there", || last_id_of(&file) == Some(5));
        assert_eq!(ids_of(&file), [1, 2, 3, 4, 5], "{}: {}", version.name(), program.log());
        let log = program.log();
        assert!(log.contains("rolled back"), "it was delivered in part and taken back: {log}");
        program.stop().ok();
        assert_eq!(ids_of(&file), [1, 2, 3, 4, 5]);
    }
}

/// The end of the event in which a byte of a log stands. Each has its length in bytes 9 to 12.
fn event_end(log: &[u8], byte: usize) -> usize {
    let mut end = 4;
    while end <= byte {
        end += u32::from_le_bytes(log[end + 9..end + 13].try_into().unwrap()) as usize;
    }
    end
}

/// A server that dies over writing a transaction leaves the beginning of it; MariaDB leaves it where it is.
#[test]
fn what_a_crash_has_cut_off_is_in_no_file() {
    for version in [Version::MariaDb105, Version::MariaDb1011, Version::MariaDb118] {
        let Some(server) = Server::own(version, &[]) else { continue };
        let db = MySql::new(server.database("cut_off"));
        db.execute(T);
        let stream = Stream::new(&db, &[]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out.ndjson");
        db.execute("insert into t values (1, '')");
        let name = db.query("show binary logs").lines().last().unwrap().split('|').next().unwrap().to_owned();
        db.execute(&rows(100_000));
        server.stop("kill");
        let log = server.file(&format!("data/{name}"));
        let bytes = std::fs::read(&log).unwrap();
        let end = event_end(&bytes, bytes.len() * 9 / 10);
        std::fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(end as u64).unwrap();
        server.start();
        db.execute("insert into t values (2, '')");
        for last in [2, 3] {
            let program = to_file(&db, &stream, &file, &["--until", "current"]);
            let ended = program.end();
            assert_eq!(ids_of(&file), (1..=last).collect::<Vec<_>>(), "{}: {}", version.name(), ended.log);
            assert_eq!(ended.log.contains("never ended"), last == 2, "{}", ended.log);
            ended.ok();
            db.execute(&format!("insert into t values ({}, '')", last + 1));
        }
    }
}
