//! Positions that the server no longer covers: said, and obeyed as the policy says.

use std::process::Command;

use super::{Postgres, on_every_version};
use crate::source::Subject;
use crate::source::program::{Program, Stream, brief, eventually, lsn};
use crate::support::{Server, Version};

on_every_version!(the_slot_was_dropped, the_slot_was_advanced_by_somebody_else);

const T: &str = "create table t (id int primary key); insert into t values (1)";
const RESNAPSHOT: [&str; 4] = ["--on-lost-position", "resnapshot", "--until", "current"];

/// A stream that has the table's row and one change.
fn streamed<'s>(db: &'s Postgres<'_>) -> Stream<'s> {
    db.execute(T);
    let stream = Stream::unstarted(db, &[]);
    assert_eq!(brief(&stream.run(&["--until", "current"]).ok()), [r#"r t {"id":1}"#]);
    db.execute("insert into t values (2)");
    assert_eq!(brief(&stream.changes()), [r#"c t {"id":2}"#]);
    stream
}

/// Fails with 3 and says why, and again so; then starts over when told to, and goes on.
fn lost(db: &Postgres<'_>, stream: &Stream<'_>, why: &[&str]) {
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

fn the_slot_was_dropped(db: &Postgres<'_>) {
    let stream = streamed(db);
    db.execute(&format!("insert into t values (3); select pg_drop_replication_slot('{}')", db.stream_name()));
    lost(db, &stream, &["dropped", "lost"]);
}

fn the_slot_was_advanced_by_somebody_else(db: &Postgres<'_>) {
    let stream = streamed(db);
    let advance = format!("select pg_replication_slot_advance('{}', pg_current_wal_lsn())", db.stream_name());
    db.execute(&format!("insert into t values (3); {advance}"));
    lost(db, &stream, &["confirmed up to", "bytes"]);
}

#[test]
fn the_log_was_removed_because_it_grew_too_large() {
    for version in Version::ALL {
        let Some(server) =
            Server::own(version, &["max_slot_wal_keep_size=1MB", "min_wal_size=32MB", "max_wal_size=32MB"])
        else {
            continue;
        };
        let db = Postgres::new(server.database("overrun"));
        let stream = streamed(&db);
        for _ in 0..4 {
            db.execute("insert into t values (3) on conflict do nothing; select pg_switch_wal(); checkpoint");
        }
        assert_eq!(db.query("select wal_status from pg_replication_slots"), "lost");
        lost(&db, &stream, &["slot"]);
    }
}

#[test]
fn another_server_is_not_streamed_from() {
    let (Some(one), Some(other)) = (Server::own(Version::V17, &[]), Server::get(Version::V17)) else { return };
    let name = "same_name_on_two_servers";
    for server in [&one, other] {
        server.psql("postgres", &format!("create database {name}"));
        server.psql(name, T);
    }
    let db = Postgres::new(one.database("unused"));
    let stream = Stream::unstarted(&db, &[]);
    let run = |server: &Server| Program::start(stream.command(&server.url(name), &["--until", "current"])).end();
    assert_eq!(brief(&run(&one).ok()), [r#"r t {"id":1}"#]);
    let log = run(other).failed(3);
    assert!(log.contains("another server"), "{log}");
    let slots = format!("select count(*) from pg_replication_slots where database = '{name}'");
    assert_eq!(other.psql("postgres", &slots), "0", "nothing was made there");
    one.psql(name, "insert into t values (2)");
    assert_eq!(brief(&run(&one).ok()), [r#"c t {"id":2}"#]);
}

fn copy(server: &Server, from: &str, to: &str) {
    let _ = std::fs::remove_dir_all(server.file(to));
    let copied = Command::new("cp").arg("-a").args([server.file(from), server.file(to)]).status().unwrap();
    assert!(copied.success());
}

/// A server that has run `before`, was saved, ran `behind`, and was put back to what was saved.
fn restored(server: &Server, behind: impl FnOnce()) {
    server.stop("fast");
    copy(server, "data", "saved");
    server.start();
    behind();
    server.stop("fast");
    copy(server, "saved", "data");
}

fn promoted(server: &Server, db: &Postgres<'_>) {
    std::fs::write(server.file("data/standby.signal"), "").unwrap();
    server.start();
    db.query("select pg_promote()");
    assert_eq!(db.query("checkpoint; select timeline_id from pg_control_checkpoint()"), "2");
}

#[test]
fn a_position_ahead_of_a_restored_server_is_lost() {
    let Some(server) = Server::own(Version::V18, &[]) else { return };
    let db = Postgres::new(server.database("ahead"));
    let stream = streamed(&db);
    restored(&server, || {
        db.execute("insert into t select generate_series(10, 20000)");
        assert_eq!(stream.changes().len(), 19_991);
    });
    server.start();
    lost(&db, &stream, &["ahead"]);
}

#[test]
fn a_promotion_that_kept_everything_is_valid() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &[]) else { continue };
        let db = Postgres::new(server.database("promoted"));
        let stream = streamed(&db);
        db.execute("insert into t values (3)");
        server.stop("fast");
        promoted(&server, &db);
        db.execute("insert into t values (4)");
        assert_eq!(brief(&stream.changes()), [r#"c t {"id":3}"#, r#"c t {"id":4}"#]);
        db.execute("insert into t values (5)");
        assert_eq!(brief(&stream.changes()), [r#"c t {"id":5}"#]);
    }
}

#[test]
fn a_promotion_that_lost_what_was_streamed_is_lost() {
    let Some(server) = Server::own(Version::V17, &[]) else { return };
    let db = Postgres::new(server.database("forked"));
    let stream = streamed(&db);
    let mut streamed_to = 0;
    restored(&server, || {
        db.execute("insert into t select generate_series(10, 2000)");
        streamed_to = lsn(&stream.changes()[0]["pos"]);
    });
    promoted(&server, &db);
    // The new history is longer than the position: only the timeline tells.
    db.execute("insert into t select generate_series(1000000, 1005000)");
    let now = lsn(&db.query("select pg_current_wal_lsn()").into());
    assert!(now > streamed_to);
    lost(&db, &stream, &["timeline 1 was left at"]);
}

/// A slot that the server copies to its standby survives the primary.
#[test]
fn a_promoted_standby_with_a_copied_slot_is_valid() {
    for version in [Version::V17, Version::V18] {
        let Some(primary) = Server::own(version, &[]) else { continue };
        let db = Postgres::new(primary.database("failed_over"));
        let stream = streamed(&db);
        let name = db.stream_name();
        assert_eq!(db.query("select failover from pg_replication_slots"), "t");
        let standby = primary.standby();
        let copied = format!("select synced and not temporary from pg_replication_slots where slot_name = '{name}'");
        // A copy begins where the standby is now: the slot has to get there first.
        let program = stream.start(&[]);
        eventually("the slot is copied", || {
            db.execute("select pg_log_standby_snapshot()");
            standby.psql("postgres", &copied) == "t"
        });
        assert!(program.stop().ok().is_empty());
        db.execute("insert into t values (3)");
        let end = db.query("select pg_current_wal_lsn()");
        let replayed = format!("select pg_last_wal_replay_lsn() >= '{end}'");
        eventually("it is replayed", || standby.psql("postgres", &replayed) == "t");
        primary.stop("immediate");
        standby.psql("postgres", "select pg_promote()");
        standby.psql(&name, "insert into t values (4)");
        let url = standby.url(&name);
        let run = || Program::start(stream.command(&url, &["--until", "current"])).end();
        assert_eq!(brief(&run().ok()), [r#"c t {"id":3}"#, r#"c t {"id":4}"#]);
        standby.psql(&name, "insert into t values (5)");
        assert_eq!(brief(&run().ok()), [r#"c t {"id":5}"#]);
    }
}
