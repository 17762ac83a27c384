//! Files of the log that end inside an event.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{MySql, numbers};
use crate::source::Subject;
use crate::source::program::{Program, Stream, assert_in_order};
use crate::support::mysql::{Server, Version};

const T: &str = "create table t (id int primary key, v text)";

/// So much of a transaction is in the log when the server crashes: a part of its first event's header, of that event, of its
/// rows, all but its last byte.
const CUTS: [Cut; 4] = [Cut::Bytes(10), Cut::Bytes(30), Cut::Bytes(170), Cut::AllButOne];

#[derive(Clone, Copy, Debug)]
enum Cut {
    Bytes(usize),
    AllButOne,
}

fn log_file(db: &MySql<'_>, name: &str) -> PathBuf {
    db.server().file("data").join(name)
}

/// The name of the log's last file.
fn last_log_file(db: &MySql<'_>) -> String {
    db.query("show binary logs").lines().last().unwrap().split('|').next().unwrap().to_owned()
}

/// Crashes the server as if it had been writing a transaction like the one that `sql` is.
fn crash_while_writing(db: &MySql<'_>, sql: &str, cut: Cut) {
    let file = log_file(db, &last_log_file(db));
    let before = fs::metadata(&file).unwrap().len() as usize;
    db.execute(sql);
    db.server().stop("kill");
    let mut log = fs::read(&file).unwrap();
    let end = log.len();
    let next = another(&log[before..], db.server().version().is_mariadb());
    log.extend_from_slice(match cut {
        Cut::Bytes(bytes) => &next[..bytes],
        Cut::AllButOne => &next[..next.len() - 1],
    });
    fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(&log[end..]).unwrap();
    db.server().start();
}

/// A transaction's events once more, behind it and with the next GTID.
fn another(events: &[u8], mariadb: bool) -> Vec<u8> {
    let mut next = Vec::with_capacity(events.len());
    let mut rest = events;
    while !rest.is_empty() {
        let size = u32::from_le_bytes(rest[9..13].try_into().unwrap()) as usize;
        let (event, behind) = rest.split_at(size);
        rest = behind;
        let mut event = event.to_vec();
        let end = u32::from_le_bytes(event[13..17].try_into().unwrap());
        // MariaDB 11.8 writes 0 inside transactions.
        if end != 0 {
            event[13..17].copy_from_slice(&(end + events.len() as u32).to_le_bytes());
        }
        // Behind the header: MariaDB's number; MySQL's flags and UUID, then its number.
        let number = match (event[4], mariadb) {
            (162, true) => Some(19),
            (33, false) => Some(19 + 1 + 16),
            _ => None,
        };
        if let Some(at) = number {
            let gtid = u64::from_le_bytes(event[at..at + 8].try_into().unwrap());
            event[at..at + 8].copy_from_slice(&(gtid + 1).to_le_bytes());
        }
        let (body, checksum) = event.split_at_mut(size - 4);
        checksum.copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        next.extend_from_slice(&event);
    }
    next
}

/// A transaction that a server had begun to write when it crashed: MySQL cuts it off, MariaDB leaves a file that ends inside
/// an event.
#[test]
fn a_file_that_a_crash_has_cut_is_passed() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &["binlog-checksum=CRC32"]) else { continue };
        let db = MySql::new(server.database("cut"));
        db.execute(T);
        let dir = tempfile::tempdir().unwrap();
        let [now, late] = ["now", "late"].map(|name| (Stream::new(&db, &["--memory", "1MiB"]), dir.path().join(name)));
        for (round, cut) in (1..).zip(CUTS) {
            // Some are so long that they are sent before their end is missed.
            let (first, rows) = (round * 10_000, if round % 2 == 0 { 5000 } else { 1 });
            let select = format!("select {first} + n, repeat('x', 500) from ({}) numbers order by n", numbers(rows));
            crash_while_writing(&db, &format!("insert into t {select}"), cut);
            // Also where nothing follows yet.
            if round == 3 {
                run(&db, &now);
            }
            db.execute(&format!("insert into t values ({first} + 9999, 'behind it')"));
            let log = run(&db, &now);
            let ids: Vec<u64> = records(&now.1).iter().map(|row| row["after"]["id"].as_u64().unwrap()).collect();
            let there = db.query("select id from t order by id");
            let there: Vec<u64> = there.lines().map(|id| id.parse().unwrap()).collect();
            assert!(ids == there, "{} {cut:?}: {} of {}: {log}", version.name(), ids.len(), there.len());
            assert_eq!(log.contains("cut inside an event"), version.is_mariadb() && round != 3, "{cut:?}: {log}");
        }
        run(&db, &late);
        assert_in_order(&records(&late.1));
        assert!(fs::read(&now.1).unwrap() == fs::read(&late.1).unwrap(), "{}: all at once", version.name());
    }
}

/// Delivers all there is into a file, and says what was logged.
fn run(db: &MySql<'_>, (stream, file): &(Stream<'_>, PathBuf)) -> String {
    let arguments = ["--until", "current", "--output", file.to_str().unwrap()];
    let ended = Program::start(stream.command(&db.url(), &arguments)).end();
    let log = ended.log.clone();
    ended.ok();
    log
}

fn records(file: &Path) -> Vec<Value> {
    fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the next file says was logged before it is more than what can be read.
#[test]
fn a_cut_file_that_lacks_something_is_lost() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &[]) else { continue };
        let db = MySql::new(server.database("lacks"));
        db.execute(T);
        let stream = Stream::new(&db, &[]);
        db.execute("insert into t values (1, 'a')");
        let cut = last_log_file(&db);
        let bytes = fs::metadata(log_file(&db, &cut)).unwrap().len();
        db.execute("insert into t values (2, 'b'); insert into t values (3, 'c'); flush binary logs");
        db.execute("insert into t values (4, 'd')");
        db.server().stop("fast");
        fs::OpenOptions::new().write(true).open(log_file(&db, &cut)).unwrap().set_len(bytes + 170).unwrap();
        db.server().start();
        for _ in 0..2 {
            let log = stream.run(&["--until", "current"]).failed(3);
            assert!(log.contains(&format!("{cut} ends inside the event at")), "{log}");
            assert!(log.contains("offsets set"), "the remedy: {log}");
        }
        let rows = stream.run(&["--until", "current", "--on-lost-position", "resnapshot"]).ok();
        assert_eq!(rows.len(), 4, "{}", version.name());
    }
}
