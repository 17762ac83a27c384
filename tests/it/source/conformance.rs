//! What every source promises, whatever its database.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::program::{Stream, assert_in_order, brief, eventually, place, tail};
use super::{Subject, on_every_server};

on_every_server!(
    rows_of_several_tables_come_in_log_order,
    a_snapshot_then_changes,
    snapshot_never_only_initial,
    transactions_come_whole_and_in_commit_order,
    what_was_rolled_back_never_appears,
    a_changed_key_brings_the_old_one,
    a_table_without_a_key,
    begin_and_end_on_request,
    tables_and_columns_are_selected,
    the_limit_is_exact_and_the_rest_comes_next_time,
    until_current_ends_at_once_on_an_idle_database,
    until_does_not_wait_for_an_open_transaction,
    output_to_a_file_or_nowhere,
    nothing_is_left_behind,
    columns_come_and_go,
    a_table_is_made_while_streaming,
    stopped_at_any_moment_it_goes_on,
    strange_names,
);

const T: &str = "create table t (id int primary key, v varchar(40))";

fn rows_of_several_tables_come_in_log_order(db: &dyn Subject) {
    db.execute(&format!("{T}; create table other (id bigint primary key, n numeric(10,2))"));
    let stream = Stream::new(db, &[]);
    db.execute(
        "insert into t values (1, 'a'), (2, NULL); insert into other values (9, 1.50);
         update t set v = 'b' where id = 1; delete from other; delete from t where id = 2",
    );
    let records = stream.changes();
    let old = |whole: &str, key: &str| if db.dialect().before_is_whole { whole } else { key }.to_owned();
    let expected = [
        r#"c t {"id":1,"v":"a"}"#.to_owned(),
        r#"c t {"id":2,"v":null}"#.to_owned(),
        r#"c other {"id":9,"n":"1.50"}"#.to_owned(),
        old(r#"u t {"id":1,"v":"a"} -> {"id":1,"v":"b"}"#, r#"u t {"id":1,"v":"b"}"#),
        format!("d other {}", old(r#"{"id":9,"n":"1.50"}"#, r#"{"id":9}"#)),
        format!("d t {}", old(r#"{"id":2,"v":null}"#, r#"{"id":2}"#)),
    ];
    assert_eq!(brief(&records), expected);
    for record in &records {
        assert_eq!(record["schema"], db.namespace());
        assert!(record["key"].is_object(), "{record}");
        assert_eq!(record["tx"].is_number(), db.dialect().numbers_transactions, "{record}");
        let time = record["ts"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.len() == "2026-11-21T04:59:32.207311Z".len(), "{time}");
    }
    assert!(stream.changes().is_empty(), "all of it was delivered");
}

fn a_snapshot_then_changes(db: &dyn Subject) {
    db.execute(&format!("{T}; insert into t values (1, 'a'), (2, 'b'); create table bare (id int primary key)"));
    let program = tail(db, &[]);
    let mut rows = brief(&program.wait_for(2));
    rows.sort();
    assert_eq!(rows, [r#"r t {"id":1,"v":"a"}"#, r#"r t {"id":2,"v":"b"}"#]);
    db.execute("insert into t values (3, 'c'); insert into bare values (1)");
    assert_eq!(brief(&program.wait_for(4)[2..]), [r#"c t {"id":3,"v":"c"}"#, r#"c bare {"id":1}"#]);
    let records = program.stop().ok();
    assert_eq!(records.len(), 4);
    assert_in_order(&records);
}

fn snapshot_never_only_initial(db: &dyn Subject) {
    db.execute(&format!("{T}; insert into t values (1, 'a')"));
    assert!(tail(db, &["--snapshot", "never", "--until", "current"]).end().ok().is_empty());
    assert_eq!(brief(&tail(db, &["--snapshot", "only"]).end().ok()), [r#"r t {"id":1,"v":"a"}"#]);
    let stream = Stream::unstarted(db, &[]);
    assert_eq!(brief(&stream.run(&["--until", "current"]).ok()), [r#"r t {"id":1,"v":"a"}"#]);
    db.execute("insert into t values (2, 'b')");
    assert_eq!(brief(&stream.changes()), [r#"c t {"id":2,"v":"b"}"#], "the snapshot is not read again");
    let only = stream.run(&["--snapshot", "only"]).ok();
    assert!(only.is_empty(), "the snapshot is complete: {only:#?}");
}

fn transactions_come_whole_and_in_commit_order(db: &dyn Subject) {
    db.execute(T);
    let stream = Stream::new(db, &[]);
    let mut sessions: Vec<_> = (0..3).map(|_| db.session()).collect();
    for session in &mut sessions {
        session.execute("begin");
    }
    for row in 0..4 {
        for (number, session) in sessions.iter_mut().enumerate() {
            session.execute(&format!("insert into t values ({}, 's{number}')", number * 10 + row));
        }
    }
    for number in [1, 2, 0] {
        sessions[number].execute("commit");
    }
    let records = stream.changes();
    let ids: Vec<u64> = records.iter().map(|record| record["after"]["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [10, 11, 12, 13, 20, 21, 22, 23, 0, 1, 2, 3]);
    for transaction in records.chunks(4) {
        assert!(transaction.iter().all(|record| record["tx"] == transaction[0]["tx"]));
        assert!(transaction.iter().all(|record| record["pos"] == transaction[0]["pos"]));
    }
    assert!(place(&records[0]["pos"]) < place(&records[4]["pos"]));
}

fn what_was_rolled_back_never_appears(db: &dyn Subject) {
    db.execute(T);
    let stream = Stream::new(db, &[]);
    db.execute(
        "begin; insert into t values (1, 'no'); rollback;
         begin; insert into t values (2, 'yes'); savepoint a; insert into t values (3, 'no'); savepoint b;
           update t set v = 'no'; rollback to savepoint a; insert into t values (4, 'yes'); release savepoint a;
         commit;
         begin; savepoint a; insert into t values (5, 'no'); rollback to savepoint a; commit;",
    );
    let records = stream.changes();
    assert_eq!(brief(&records), [r#"c t {"id":2,"v":"yes"}"#, r#"c t {"id":4,"v":"yes"}"#]);
    assert_eq!((&records[0]["tx"], &records[0]["pos"]), (&records[1]["tx"], &records[1]["pos"]));
}

fn a_changed_key_brings_the_old_one(db: &dyn Subject) {
    db.execute("create table t (a int, b varchar(9), v int, primary key (b, a)); insert into t values (1, 'x', 7)");
    let stream = Stream::new(db, &[]);
    db.execute("update t set b = 'y'; update t set v = 8; delete from t");
    let records = stream.changes();
    assert_eq!(records[0]["before"]["a"], 1);
    assert_eq!(records[0]["before"]["b"], "x");
    assert_eq!(records[0]["key"].to_string(), r#"{"b":"y","a":1}"#, "in the key's order");
    assert_eq!(records[0]["after"].to_string(), r#"{"a":1,"b":"y","v":7}"#);
    assert_eq!(records[1]["key"].to_string(), r#"{"b":"y","a":1}"#);
    assert_eq!(records[2]["key"].to_string(), r#"{"b":"y","a":1}"#);
    assert!(records[2]["after"].is_null());
}

fn a_table_without_a_key(db: &dyn Subject) {
    db.execute("create table t (a int, b varchar(9)); insert into t values (1, 'x'), (1, 'x')");
    let stream = Stream::unstarted(db, &[]);
    let rows = stream.run(&["--until", "current"]).ok();
    assert_eq!(brief(&rows), [r#"r t {"a":1,"b":"x"}"#; 2]);
    db.execute("insert into t values (1, 'x')");
    let records = stream.changes();
    assert_eq!(brief(&records), [r#"c t {"a":1,"b":"x"}"#]);
    assert!(records.iter().chain(&rows).all(|record| record["key"].is_null()));
}

fn begin_and_end_on_request(db: &dyn Subject) {
    db.execute(T);
    let stream = Stream::new(db, &["--transactions"]);
    db.execute(
        "begin; insert into t values (1, 'a'); insert into t values (2, 'b'); commit; delete from t where id = 1",
    );
    let records = stream.changes();
    let ops: Vec<&str> = records.iter().map(|record| record["op"].as_str().unwrap()).collect();
    assert_eq!(ops, ["b", "c", "c", "e", "b", "d", "e"]);
    let ordinals: Vec<u64> = records.iter().map(|record| record["ord"].as_u64().unwrap()).collect();
    assert_eq!(ordinals, [0, 1, 2, 3, 0, 1, 2]);
    assert!(records[..4].iter().all(|record| record["tx"] == records[0]["tx"] && record["ts"] == records[0]["ts"]));
}

fn tables_and_columns_are_selected(db: &dyn Subject) {
    db.execute(
        "create table users (id int primary key, name varchar(9), password varchar(9));
         create table user_log (id int primary key, what varchar(9)); create table other (id int primary key);
         insert into users values (1, 'ann', 'x'); insert into user_log values (1, 'in'); insert into other values (1)",
    );
    let (schema, insert) = (
        db.namespace(),
        "insert into users values (2, 'bob', 'y'); insert into user_log values (2, 'out');
         insert into other values (2); update users set password = 'z' where id = 2; delete from users where id = 2",
    );
    let (tables, excluded) = (format!("{schema}.user*"), format!("{schema}.*_log"));
    let column = format!("{schema}.users.password");
    let stream = Stream::unstarted(
        db,
        &["--tables", &tables, "--exclude-tables", &excluded, "--exclude-columns", &column, "--until", "current"],
    );
    assert_eq!(brief(&stream.run(&[]).ok()), [r#"r users {"id":1,"name":"ann"}"#]);
    db.execute(insert);
    let records = stream.run(&[]).ok();
    let after = |record: &Value| record["after"].to_string();
    assert_eq!(brief(&records[..1]), [r#"c users {"id":2,"name":"bob"}"#]);
    assert_eq!(after(&records[1]), r#"{"id":2,"name":"bob"}"#);
    assert_eq!(records.len(), 3);
    assert_eq!(records[1]["ord"], 1);
    assert!(!records.iter().any(|record| record.to_string().contains("password")));

    let columns = format!("{schema}.users.id,{schema}.users.password");
    let some = tail(db, &["--columns", &columns, "--tables", &format!("{schema}.users"), "--snapshot", "only"]);
    assert_eq!(brief(&some.end().ok()), [r#"r users {"id":1,"password":"x"}"#]);
    let keyless = tail(db, &["--exclude-columns", &format!("{schema}.users.id"), "--snapshot", "only"]).end();
    assert!(keyless.failed(2).contains("key"));
}

fn the_limit_is_exact_and_the_rest_comes_next_time(db: &dyn Subject) {
    db.execute(T);
    let stream = Stream::new(db, &[]);
    db.execute(
        "begin; insert into t values (1, 'a'); insert into t values (2, 'b'); commit;
         begin; insert into t values (3, 'c'); insert into t values (4, 'd'); commit",
    );
    let ids = |records: Vec<Value>| -> Vec<u64> {
        records.iter().map(|record| record["after"]["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(stream.run(&["--limit", "3"]).ok()), [1, 2, 3]);
    assert_eq!(ids(stream.run(&["--limit", "1"]).ok()), [3], "a transaction that was cut comes again as a whole");
    assert_eq!(ids(stream.run(&["--limit", "2"]).ok()), [3, 4]);
    assert!(stream.changes().is_empty());
}

fn until_current_ends_at_once_on_an_idle_database(db: &dyn Subject) {
    db.execute(T);
    let stream = Stream::new(db, &[]);
    for _ in 0..3 {
        assert!(stream.changes().is_empty());
    }
    assert!(tail(db, &["--until", "current"]).end().ok().is_empty());
}

fn until_does_not_wait_for_an_open_transaction(db: &dyn Subject) {
    db.execute(T);
    let stream = Stream::new(db, &[]);
    let mut open = db.session();
    open.execute("begin; insert into t values (1, 'open')");
    db.execute("insert into t values (2, 'before')");
    assert_eq!(brief(&stream.changes()), [r#"c t {"id":2,"v":"before"}"#]);
    open.execute("insert into t values (3, 'open'); commit");
    assert_eq!(brief(&stream.changes()), [r#"c t {"id":1,"v":"open"}"#, r#"c t {"id":3,"v":"open"}"#]);
}

fn output_to_a_file_or_nowhere(db: &dyn Subject) {
    db.execute(&format!("{T}; insert into t values (1, 'a')"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.ndjson");
    let ended = tail(db, &["--until", "current", "--output", path.to_str().unwrap()]).end();
    assert!(ended.ok().is_empty());
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written.lines().count(), 1);
    let record: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(brief(&[record]), [r#"r t {"id":1,"v":"a"}"#]);
    let nowhere = tail(db, &["--until", "current", "--output", "null"]).end();
    assert!(nowhere.log.contains("delivered=1"), "{}", nowhere.log);
    assert!(nowhere.ok().is_empty());
}

fn nothing_is_left_behind(db: &dyn Subject) {
    let nothing_after = |what: &str| {
        let since = Instant::now();
        while !db.left_behind().is_empty() {
            let late = since.elapsed() > db.dialect().notices_within;
            assert!(!late, "after {what}: {:?}", db.left_behind());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    db.execute(&format!("{T}; insert into t values (1, 'a')"));
    assert!(db.left_behind().is_empty());
    tail(db, &["--until", "current"]).end().ok();
    nothing_after("an end");
    for name in ["INT", "TERM"] {
        let program = tail(db, &[]);
        program.wait_for(1);
        eventually("it holds something on the server", || !db.left_behind().is_empty());
        program.signal(name);
        assert_eq!(program.end().ok().len(), 1);
        nothing_after(name);
    }
    let failed = tail(db, &["--output", "/does/not/exist/file"]).end();
    assert_ne!(failed.code(), Some(0));
    nothing_after("an error");
}

fn columns_come_and_go(db: &dyn Subject) {
    db.execute(&format!("{T}; insert into t values (0, 'old')"));
    let stream = Stream::new(db, &[]);
    db.execute(
        "insert into t values (1, 'a'); alter table t add column n int; insert into t values (2, 'b', 5);
         alter table t drop column v; insert into t values (3, 6); alter table t rename column n to m;
         insert into t values (4, 7)",
    );
    let records = stream.changes();
    let shapes: Vec<String> = records.iter().map(|record| record["op"].as_str().unwrap().to_owned()).collect();
    assert_eq!(shapes.join(""), "cscscsc");
    let rows: Vec<String> =
        records.iter().filter(|record| record["op"] == "c").map(|record| record["after"].to_string()).collect();
    assert_eq!(rows, [r#"{"id":1,"v":"a"}"#, r#"{"id":2,"v":"b","n":5}"#, r#"{"id":3,"n":6}"#, r#"{"id":4,"m":7}"#]);
    // The next run knows the last shape, and meets it without another change.
    db.execute("insert into t values (5, 8)");
    assert_eq!(brief(&stream.changes()), [r#"c t {"id":5,"m":8}"#]);
}

fn a_table_is_made_while_streaming(db: &dyn Subject) {
    db.execute(&format!("{T}; insert into t values (1, 'a')"));
    let program = tail(db, &[]);
    program.wait_for(1);
    db.execute(
        "insert into t values (2, 'b'); drop table t; create table t (id int primary key, w int);
         insert into t values (3, 4)",
    );
    let mut rows = vec![r#"r t {"id":1,"v":"a"}"#, r#"c t {"id":2,"v":"b"}"#];
    if db.dialect().follows_new_tables {
        rows.push(r#"c t {"id":3,"w":4}"#);
    }
    program.wait_for_row(rows.last().unwrap());
    let records = program.stop().ok();
    let (changes, found): (Vec<Value>, Vec<Value>) = records.into_iter().partition(|record| record["op"] == "s");
    assert_eq!(brief(&found), rows);
    assert_eq!(!changes.is_empty(), db.dialect().follows_new_tables, "{:?}", brief(&changes));
}

fn stopped_at_any_moment_it_goes_on(db: &dyn Subject) {
    db.execute(T);
    let stream = Stream::new(db, &[]);
    let mut session = db.session();
    let total = 3000;
    let mut records: Vec<Value> = Vec::new();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for first in (0..total).step_by(5) {
                let rows: Vec<String> = (first..first + 5).map(|id| format!("({id}, 'x')")).collect();
                session.execute(&format!("insert into t values {}", rows.join(",")));
                std::thread::sleep(Duration::from_millis(4));
            }
        });
        let mut random = StdRng::seed_from_u64(1);
        while !writer.is_finished() {
            let program = stream.start(&[]);
            std::thread::sleep(Duration::from_millis(random.random_range(50..700)));
            records.extend(program.stop().ok());
        }
        writer.join().unwrap();
    });
    records.extend(stream.changes());
    assert_in_order(&records);
    let ids: Vec<u64> = records.iter().map(|record| record["after"]["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (0..total).collect::<Vec<u64>>(), "once each, in order: a stop that drains repeats nothing");
}

fn strange_names(db: &dyn Subject) {
    let quote = db.dialect().quote;
    let (table, column) = ("Täble 'x', \"y\" `z` %s.*", format!("Col.\"umn\" \\ {},", db.dialect().rarest_letter));
    db.execute(&format!(
        "create table {t} ({c} int primary key); insert into {t} values (1)",
        t = quote(table),
        c = quote(&column)
    ));
    let stream = Stream::unstarted(db, &[]);
    let mut records = stream.run(&["--until", "current"]).ok();
    db.execute(&format!("insert into {} values (2)", quote(table)));
    records.extend(stream.changes());
    assert_eq!(records.len(), 2);
    for (record, value) in records.iter().zip([1, 2]) {
        assert_eq!(record["table"], table);
        assert_eq!(record["after"][&column], value);
    }
}
