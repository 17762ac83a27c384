//! What can happen between walbrook and a server: cuts at any byte, standstills, bytes one by one.

use std::collections::BTreeMap;

use serde_json::Value;

use super::program::{assert_in_order, brief, run};
use super::{Subject, on_every_server};
use crate::support::proxy::{Fault, Proxy, scattered};

on_every_server!(
    a_stream_is_cut_at_any_byte,
    a_snapshot_is_cut_at_any_byte,
    a_connection_that_stands_still_is_left,
    bytes_come_one_by_one,
);

const T: &str = "create table t (id int primary key, v varchar(1000))";

/// So that a run of this test is the same as the next one.
const SEED: u64 = 4_711;

/// One connection in four ends while it is made or has its first questions answered; the others get some way, so that the
/// pauses between attempts stay short.
fn cut(number: u64, longest: u64) -> Fault {
    let scattered = scattered(SEED, number);
    Fault::Cut(match scattered % 4 {
        0 => 1 + (scattered >> 8) % (8 << 10),
        _ => longest / 4 + (scattered >> 8) % longest,
    })
}

/// Has a stream begin, by the straight way: what comes later is delivered, whenever it is asked for.
fn begin(db: &dyn Subject, dir: &std::path::Path, more: &str) {
    db.execute(&format!("{T}; insert into t values (1000000, 'before')"));
    let program = run(db, &db.url(), dir, more, "");
    program.wait_for(1);
    db.execute("insert into t values (1000001, 'behind')");
    program.wait_for(2);
    let records = brief(&program.stop().ok());
    assert_eq!(records, [r#"r t {"id":1000000,"v":"before"}"#, r#"c t {"id":1000001,"v":"behind"}"#]);
}

fn ids(records: &[Value]) -> Vec<u64> {
    records.iter().map(|record| record["after"]["id"].as_u64().expect("a row")).collect()
}

fn insert(db: &dyn Subject, rows: std::ops::Range<u64>, bytes: usize) {
    let values: Vec<String> = rows.map(|id| format!("({id}, '{}')", "x".repeat(bytes))).collect();
    db.execute(&format!("insert into t values {}", values.join(",")));
}

fn a_stream_is_cut_at_any_byte(db: &dyn Subject) {
    let proxy = Proxy::new(db.port(), |number| cut(number, 96 << 10));
    let dir = tempfile::tempdir().unwrap();
    begin(db, dir.path(), "");
    let program = run(db, &proxy.url(&db.url()), dir.path(), "", "");
    let transactions = 150;
    for number in 0..transactions {
        // From one row, which is a packet, to some that take several reads.
        insert(db, number * 10..number * 10 + 1 + number % 10, 1 + 150 * (number as usize % 7));
    }
    let expected: Vec<u64> = (0..transactions).flat_map(|n| n * 10..n * 10 + 1 + n % 10).collect();
    let records = program.wait_for(expected.len());
    assert_eq!(ids(&records), expected, "{} cuts", proxy.cut());
    assert_in_order(&records);
    assert!(proxy.cut() > 8, "{} cuts of {} connections", proxy.cut(), proxy.connections());
    assert_eq!(program.stop().ok().len(), expected.len());
}

fn a_snapshot_is_cut_at_any_byte(db: &dyn Subject) {
    db.execute(T);
    for first in (0..4000).step_by(500) {
        insert(db, first..first + 500, 400);
    }
    db.execute("create table u (id int primary key, v varchar(9)); insert into u values (1, 'a')");
    // A snapshot of 2 MB needs connections that live for longer than a stream's, and one that is cut for ever need not end.
    let proxy = Proxy::new(db.port(), |number| if number < 40 { cut(number, 1 << 20) } else { Fault::None });
    let dir = tempfile::tempdir().unwrap();
    let program = run(db, &proxy.url(&db.url()), dir.path(), "snapshot_workers: 2, snapshot_chunk: 1MiB", "");
    program.wait_for_row(r#"r u {"id":1,"v":"a"}"#);
    insert(db, 5000..5003, 1);
    db.execute("delete from t where id = 7; update u set v = 'b'");
    let mut state: BTreeMap<u64, usize> = BTreeMap::new();
    let mut updated = false;
    program.wait_until_one("all of it", |record| {
        if record["table"] == "t" {
            let id = record["key"]["id"].as_u64().expect("a key");
            match record["after"]["v"].as_str() {
                Some(value) => state.insert(id, value.len()),
                None => state.remove(&id),
            };
        }
        updated |= record["table"] == "u" && record["after"]["v"] == "b";
        updated && state.len() == 4002 && !state.contains_key(&7)
    });
    assert!(state.iter().all(|(id, length)| *length == if *id < 4000 { 400 } else { 1 }));
    assert!(proxy.cut() > 3, "{} cuts of {} connections", proxy.cut(), proxy.connections());
    let changes: Vec<Value> = program.stop().ok().into_iter().filter(|record| record["op"] != "r").collect();
    let inserted: Vec<u64> = changes
        .iter()
        .filter(|record| record["op"] == "c")
        .map(|record| record["key"]["id"].as_u64().unwrap())
        .collect();
    assert_eq!(inserted, [5000, 5001, 5002]);
}

/// Its socket is open and says nothing: neither data, nor a heartbeat, nor an answer.
fn a_connection_that_stands_still_is_left(db: &dyn Subject) {
    let proxy = Proxy::new(db.port(), |_| Fault::None);
    let dir = tempfile::tempdir().unwrap();
    begin(db, dir.path(), "heartbeat: 1s");
    let url = format!("{}{}", proxy.url(&db.url()), db.dialect().impatient);
    let program = run(db, &url, dir.path(), "heartbeat: 1s", "");
    insert(db, 0..3, 10);
    program.wait_for(3);
    for round in 1..3 {
        proxy.stall();
        insert(db, round * 3..round * 3 + 3, 10);
        program.wait_for(3 + 3 * round as usize);
    }
    let log = program.log();
    assert!(log.contains("said nothing"), "{log}");
    let records = program.stop().ok();
    assert_eq!(ids(&records), (0..9).collect::<Vec<_>>());
    assert_in_order(&records);
}

fn bytes_come_one_by_one(db: &dyn Subject) {
    db.execute(T);
    insert(db, 0..20, 100);
    let proxy = Proxy::new(db.port(), |_| Fault::Drip);
    let dir = tempfile::tempdir().unwrap();
    let program = run(db, &proxy.url(&db.url()), dir.path(), "", "");
    let mut rows = ids(&program.wait_for(20));
    rows.sort_unstable();
    assert_eq!(rows, (0..20).collect::<Vec<_>>());
    insert(db, 100..150, 300);
    db.execute("update t set v = 'y' where id = 100; delete from t where id = 101");
    let records = program.wait_for(72);
    assert_eq!(ids(&records[20..70]), (100..150).collect::<Vec<_>>());
    assert_eq!(brief(&records[70..71])[0].split(' ').next(), Some("u"));
    assert_eq!(program.stop().ok().len(), 72);
}
