//! Consumers: durable and ephemeral, their returns, their filters.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use super::{Db, Sidecar, on_each};
use crate::source::{brief, eventually};

const T: &str = "create table t (id int primary key, v varchar(40))";

fn ids(records: &[Value]) -> Vec<i64> {
    records.iter().map(|record| record["key"]["id"].as_i64().expect("an id")).collect()
}

fn insert(db: &Db, ids: std::ops::Range<i64>) {
    let rows: Vec<String> = ids.map(|id| format!("({id}, 'v{id}')")).collect();
    db.sql(&format!("insert into t values {}", rows.join(", ")));
}

#[test]
fn a_durable_consumer_has_a_snapshot_then_the_tail_and_goes_on_behind_its_last_ack() {
    on_each("durable", |db| {
        db.sql(T);
        insert(db, 1..4);
        let sidecar = Sidecar::mortal(db);
        let reader = sidecar.subscribe(&["--consumer", "audit", "--from", "snapshot"]);
        let mut rows = brief(&reader.wait_for(3));
        rows.sort();
        assert_eq!(rows[0], r#"r t {"id":1,"v":"v1"}"#);
        insert(db, 4..6);
        assert_eq!(ids(&reader.wait_for(5)[3..]), [4, 5]);
        reader.stop().ok();
        insert(db, 6..8);
        // While nobody reads, and the sidecar dies.
        let (port, dir) = sidecar.killed();
        insert(db, 8..9);
        let sidecar = Sidecar::start_at(db, &[], port, dir);
        let reader = sidecar.subscribe(&["--consumer", "audit", "--from", "snapshot"]);
        let came = ids(&reader.wait_for(3));
        // What was acknowledged and not yet stored when the sidecar was killed may come again.
        assert!(came.ends_with(&[6, 7, 8]) || reader.wait_for(5).len() >= 5, "{came:?}");
        reader.stop().ok();
        // What was acknowledged in the last moment may come once more; then nothing is left.
        eventually("nothing is left", || {
            sidecar.subscribe(&["--consumer", "audit", "--until", "current"]).end().ok().is_empty()
        });
        sidecar.program.stop().ok();
    });
}

#[test]
fn an_ephemeral_consumer_begins_with_what_is_committed_from_now_on() {
    on_each("ephemeral", |db| {
        db.sql(T);
        insert(db, 1..4);
        let sidecar = Sidecar::start(db, &[]);
        // It holds the log from here on.
        sidecar.subscribe(&["--consumer", "holder", "--until", "current"]).end().ok();
        let reader = sidecar.subscribe(&["--limit", "2"]);
        reader.wait_for_log("subscribed");
        insert(db, 4..7);
        assert_eq!(ids(&reader.end().ok()), [4, 5], "as many as were asked for");
        // Where one was, by its position: that transaction again, and what follows.
        let all = sidecar.subscribe(&["--from", "earliest", "--until", "current"]).end().ok();
        // A binary log has what was there before us, too.
        assert!(ids(&all).ends_with(&[4, 5, 6]), "{all:?}");
        // In MySQL's positions the transaction's own GTID is among those that were seen.
        if db.url.starts_with("postgres") {
            let at = all[all.len() - 3]["pos"].as_str().expect("a position").to_owned();
            let again = sidecar.subscribe(&["--from", &at, "--until", "current"]).end().ok();
            assert_eq!(ids(&again), [4, 5, 6]);
        }
    });
}

#[test]
fn what_is_not_wanted_is_not_sent() {
    on_each("filters", |db| {
        db.sql(&format!("{T}; create table other (id int primary key)"));
        let sidecar = Sidecar::start(db, &[]);
        let table = format!("{}.t", db.schema);
        let column = format!("{}.t.v", db.schema);
        let updates = sidecar.subscribe(&[
            "--tables",
            &table,
            "--operations",
            "update,delete",
            "--exclude-columns",
            &column,
            "--limit",
            "2",
        ]);
        let others = sidecar.subscribe(&["--exclude-tables", &table, "--limit", "1"]);
        let marks = sidecar.subscribe(&["--tables", "nobody.*", "--transactions", "--limit", "2"]);
        for reader in [&updates, &others, &marks] {
            reader.wait_for_log("subscribed");
        }
        db.sql("insert into t values (1, 'a'); insert into other values (7); update t set v = 'b' where id = 1; delete from t");
        let updates = updates.end().ok();
        assert_eq!(updates.iter().map(|record| record["op"].as_str().unwrap()).collect::<Vec<_>>(), ["u", "d"]);
        assert_eq!(updates[0]["after"], serde_json::json!({ "id": 1 }), "{:?}", updates[0]);
        assert_eq!(ids(&others.end().ok()), [7]);
        let marks = marks.end().ok();
        assert_eq!(marks.iter().map(|record| record["op"].as_str().unwrap()).collect::<Vec<_>>(), ["b", "e"]);
    });
}

#[test]
fn a_reader_of_stdout_that_goes_away_is_no_failure() {
    on_each("head", |db| {
        db.sql(T);
        insert(db, 1..2);
        let sidecar = Sidecar::start(db, &[]);
        let mut command = crate::support::walbrook();
        command.args(["subscribe", "--wait", &sidecar.address(), "--from", "snapshot"]);
        let mut reader = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        // The pipe is closed behind the first line.
        BufReader::new(reader.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
        assert!(line.contains("\"op\":\"r\""), "{line}");
        let (mut next, mut status) = (2, None);
        eventually("it ends", || {
            insert(db, next..next + 1);
            next += 1;
            status = reader.try_wait().expect("its status");
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.code()), Some(0));
    });
}

#[test]
fn one_client_at_a_time_has_a_consumer() {
    on_each("takeover", |db| {
        db.sql(T);
        let sidecar = Sidecar::start(db, &[]);
        let first = sidecar.subscribe(&["--consumer", "one"]);
        first.wait_for_log("subscribed");
        let address = sidecar.address();
        let mut second = crate::support::walbrook();
        second.args(["subscribe", &address, "--consumer", "one"]);
        let refused = crate::source::Program::start(second).end().failed(1);
        assert!(refused.contains("AlreadyExists") && refused.contains("takeover"), "{refused}");
        insert(db, 1..2);
        assert_eq!(ids(&first.wait_for(1)), [1], "the first one did not notice");
        let third = sidecar.subscribe(&["--consumer", "one", "--takeover"]);
        third.wait_for_log("subscribed");
        let ended = first.end().failed(1);
        assert!(ended.contains("Aborted"), "{ended}");
        insert(db, 2..3);
        // What the first one acknowledged in its last moment may come once more.
        third.wait_until_one("the next row", |record| record["key"]["id"] == 2);
    });
}

#[test]
fn a_reader_connects_again_and_misses_nothing() {
    on_each("again", |db| {
        db.sql(T);
        let mut sidecar = Sidecar::mortal(db);
        let durable = sidecar.subscribe(&["--consumer", "on", "--from", "latest"]);
        durable.wait_for_log("subscribed");
        for round in 0..3 {
            let first = round * 10;
            insert(db, first..first + 5);
            let (port, dir) = sidecar.killed();
            insert(db, first + 5..first + 10);
            sidecar = Sidecar::start_at(db, &[], port, dir);
            durable.wait_until_one("the round's last row", |record| record["key"]["id"] == first + 9);
        }
        let mut came = ids(&durable.stop().ok());
        came.sort_unstable();
        came.dedup();
        assert_eq!(came, (0..30).collect::<Vec<_>>());
    });
}

#[test]
fn a_position_that_is_gone_is_out_of_range() {
    on_each("gone", |db| {
        db.sql(T);
        insert(db, 1..2);
        let sidecar = Sidecar::start(db, &[]);
        sidecar.subscribe(&["--until", "current"]).end().ok();
        let gone = if db.url.starts_with("postgres") { "0/10" } else { "binlog.000000:4" };
        let lost = sidecar.subscribe(&["--from", gone]).end();
        assert_eq!(lost.code(), Some(3), "{}", lost.log);
        assert!(lost.log.contains("OutOfRange") && lost.log.contains("START_SNAPSHOT"), "{}", lost.log);
    });
}
