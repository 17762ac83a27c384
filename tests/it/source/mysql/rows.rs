//! Rows as the server logs them: parts of them, compressed, of every kind of table, prepared before they are committed.

use serde_json::Value;

use super::{MySql, numbers, on_every_version};
use crate::source::Subject;
use crate::source::program::{Stream, assert_in_order, brief};
use crate::support::mysql::{Server, Version};

on_every_version!(
    parts_of_rows,
    tables_without_transactions,
    prepared_transactions_come_when_they_are_committed,
    a_prepared_transaction_survives_a_restart_of_ours,
    cascades_as_the_server_logs_them,
    generated_and_hidden_columns,
    partitions,
    statements_that_are_logged_with_their_rows,
);

const T: &str = "create table t (id int primary key, v varchar(40), w int, b text)";

/// What was not logged is not said to be anything.
fn parts_of_rows(db: &MySql<'_>) {
    for image in ["MINIMAL", "NOBLOB"] {
        db.execute(&format!(
            "drop table if exists t; {T}; insert into t values (1, 'a', 1, 'long'), (2, 'b', 2, 'long')"
        ));
        let stream = Stream::new(db, &[]);
        db.execute(&format!(
            "set session binlog_row_image = {image}; update t set v = 'x' where id = 1; update t set id = 3 where id = 1;
             delete from t where id = 2; insert into t (id) values (4)"
        ));
        let records = stream.changes();
        assert_in_order(&records);
        let ops: String = records.iter().filter_map(|record| record["op"].as_str()).collect();
        assert_eq!(ops, "uudc", "{:?}", brief(&records));
        let keys: Vec<String> = records.iter().map(|record| record["key"].to_string()).collect();
        assert_eq!(keys, [r#"{"id":1}"#, r#"{"id":3}"#, r#"{"id":2}"#, r#"{"id":4}"#], "{image}");
        assert_eq!(records[0]["after"]["v"], "x");
        assert_eq!(records[1]["before"]["id"], 1);
        assert_eq!(records[3]["after"]["id"], 4);
        for update in &records[..2] {
            let unchanged: Vec<&str> =
                update["unchanged"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            assert!(unchanged.contains(&"b"), "{update}");
            assert!(unchanged.iter().all(|name| update["after"].get(name).is_none()), "{update}");
            assert_eq!(unchanged.contains(&"w"), image == "MINIMAL", "{update}");
        }
    }
}

fn tables_without_transactions(db: &MySql<'_>) {
    db.execute("create table m (id int primary key) engine=MyISAM; create table t (id int primary key)");
    let stream = Stream::new(db, &[]);
    // Each in a transaction of its own, whatever becomes of the one around it.
    db.execute("insert into m values (1), (2); begin; insert into m values (3); insert into t values (3); rollback");
    let ids = |records: &[Value]| -> Vec<u64> {
        records.iter().filter_map(|record| record["after"]["id"].as_u64()).collect()
    };
    let records = stream.changes();
    assert_in_order(&records);
    assert_eq!(ids(&records), [1, 2, 3]);
    assert!(records.iter().all(|record| record["table"] == "m"));
    db.execute("update m set id = 9 where id = 3; insert into t values (4)");
    assert_eq!(brief(&stream.changes()), [r#"u m {"id":3} -> {"id":9}"#, r#"c t {"id":4}"#]);
}

fn prepared_transactions_come_when_they_are_committed(db: &MySql<'_>) {
    db.execute("create table t (id int primary key)");
    let stream = Stream::new(db, &[]);
    let xa = |id: &str, row: u32| {
        let mut session = db.session();
        session.execute(&format!("xa start '{id}'; insert into t values ({row}); xa end '{id}'; xa prepare '{id}'"));
    };
    let unique = |id: &str| format!("{}_{id}", db.name());
    let [first, second, third] = ["one", "two", "three"].map(unique);
    xa(&first, 1);
    xa(&second, 2);
    xa(&third, 3);
    db.execute(&format!(
        "insert into t values (4); xa rollback '{second}'; xa commit '{third}'; insert into t values (5)"
    ));
    let records = stream.changes();
    assert_in_order(&records);
    assert_eq!(brief(&records), [r#"c t {"id":4}"#, r#"c t {"id":3}"#, r#"c t {"id":5}"#]);
    db.execute(&format!("xa commit '{first}'"));
    assert_eq!(brief(&stream.changes()), [r#"c t {"id":1}"#]);
    // In one phase there is no prepared state.
    db.execute(&format!(
        "xa start '{first}'; insert into t values (6); xa end '{first}'; xa commit '{first}' one phase"
    ));
    assert_eq!(brief(&stream.changes()), [r#"c t {"id":6}"#]);
}

fn a_prepared_transaction_survives_a_restart_of_ours(db: &MySql<'_>) {
    db.execute("create table t (id int primary key, v varchar(100))");
    let stream = Stream::new(db, &[]);
    let id = format!("{}_long", db.name());
    db.session().execute(&format!(
        "xa start '{id}'; insert into t select n, repeat('x', 100) from ({}) numbers order by n; xa end '{id}'; xa prepare '{id}'",
        numbers(1000)
    ));
    assert!(stream.changes().is_empty());
    db.execute("insert into t values (5000, '')");
    assert_eq!(stream.changes().len(), 1);
    db.execute(&format!("xa commit '{id}'"));
    let records = stream.changes();
    assert_in_order(&records);
    let ids: Vec<u64> = records.iter().filter_map(|record| record["after"]["id"].as_u64()).collect();
    assert_eq!(ids, (0..1000).collect::<Vec<_>>());
}

/// MySQL logs what a foreign key does to other tables from 9.6 on; MariaDB logs only what the statement itself did.
fn cascades_as_the_server_logs_them(db: &MySql<'_>) {
    db.execute(
        "create table parent (id int primary key);
         create table child (id int primary key, owner int, foreign key (owner) references parent (id) on delete cascade);
         insert into parent values (1), (2); insert into child values (10, 1), (11, 1), (20, 2)",
    );
    let stream = Stream::new(db, &[]);
    db.execute("delete from parent where id = 1");
    let mut found = brief(&stream.changes());
    found.sort();
    let children = [r#"d child {"id":10,"owner":1}"#, r#"d child {"id":11,"owner":1}"#];
    let mut expected = vec![r#"d parent {"id":1}"#];
    if !db.version().is_mariadb() {
        expected.extend(children);
    }
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// They are in the snapshot as in the log.
fn generated_and_hidden_columns(db: &MySql<'_>) {
    db.execute(
        "create table t (id int primary key, v int, s int generated always as (v * 2) stored, g int generated always as (v * 3) virtual,
           h int default 7 invisible)",
    );
    db.execute("insert into t (id, v) values (1, 5)");
    let stream = Stream::unstarted(db, &[]);
    let row = |id: u32, v: u32| format!(r#"{{"id":{id},"v":{v},"s":{},"g":{},"h":7}}"#, v * 2, v * 3);
    assert_eq!(brief(&stream.run(&["--until", "current"]).ok()), [format!("r t {}", row(1, 5))]);
    db.execute("insert into t (id, v) values (2, 6); update t set v = 8 where id = 1; delete from t where id = 2");
    let expected =
        [format!("c t {}", row(2, 6)), format!("u t {} -> {}", row(1, 5), row(1, 8)), format!("d t {}", row(2, 6))];
    assert_eq!(brief(&stream.changes()), expected);

    if !db.version().is_mariadb() {
        db.execute("set sql_generate_invisible_primary_key = on; create table k (v int); insert into k values (3)");
        let stream = Stream::unstarted(db, &["--tables", &format!("{}.k", db.name())]);
        assert_eq!(brief(&stream.run(&["--until", "current"]).ok()), [r#"r k {"my_row_id":1,"v":3}"#]);
        db.execute("insert into k values (4); delete from k where v = 3");
        let records = stream.changes();
        assert_eq!(brief(&records), [r#"c k {"my_row_id":2,"v":4}"#, r#"d k {"my_row_id":1,"v":3}"#]);
        assert_eq!(records[0]["key"].to_string(), r#"{"my_row_id":2}"#);
    }
}

fn partitions(db: &MySql<'_>) {
    db.execute(
        "create table t (id int primary key, v int) partition by hash (id) partitions 3; insert into t values (1, 1)",
    );
    let stream = Stream::unstarted(db, &[]);
    assert_eq!(brief(&stream.run(&["--until", "current"]).ok()), [r#"r t {"id":1,"v":1}"#]);
    db.execute(
        "insert into t values (2, 2); update t set id = 3 where id = 1; alter table t coalesce partition 1;
         insert into t values (4, 4); alter table t remove partitioning; delete from t where id = 2",
    );
    let rows: Vec<String> = brief(&stream.changes()).into_iter().filter(|record| !record.starts_with("s ")).collect();
    let expected = [
        r#"c t {"id":2,"v":2}"#,
        r#"u t {"id":1,"v":1} -> {"id":3,"v":1}"#,
        r#"c t {"id":4,"v":4}"#,
        r#"d t {"id":2,"v":2}"#,
    ];
    assert_eq!(rows, expected);
}

/// Events that say the statement do not hide the rows behind them.
fn statements_that_are_logged_with_their_rows(db: &MySql<'_>) {
    db.execute("create table t (id int primary key)");
    let stream = Stream::new(db, &[]);
    let setting = if db.version().is_mariadb() { "binlog_annotate_row_events" } else { "binlog_rows_query_log_events" };
    db.execute(&format!("set session {setting} = on; insert into t values (1); delete /* why */ from t where id = 1"));
    assert_eq!(brief(&stream.changes()), [r#"c t {"id":1}"#, r#"d t {"id":1}"#]);
}

/// A packet carries 16 MiB less a byte; more comes in several.
#[test]
fn large_rows() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &["max-allowed-packet=67108864"]) else { continue };
        let db = MySql::new(server.database("large_rows"));
        db.execute("create table t (id int primary key, v longblob)");
        let stream = Stream::unstarted(&db, &["--memory", "256MiB"]);
        assert!(stream.run(&["--until", "current"]).ok().is_empty());
        let sizes = [16_777_100, 16_777_215, 16_777_216];
        for (id, size) in sizes.iter().enumerate() {
            db.execute(&format!("insert into t values ({id}, repeat('x', {size}))"));
        }
        let records = stream.changes();
        let base64 = |size: usize| size.div_ceil(3) * 4;
        let found: Vec<usize> = records.iter().map(|record| record["after"]["v"].as_str().unwrap().len()).collect();
        assert_eq!(found, sizes.map(base64), "{}", version.name());
    }
}

#[test]
fn rows_come_out_of_compressed_events() {
    for version in Version::ALL {
        let setting = if version.is_mariadb() { "log-bin-compress=ON" } else { "binlog-transaction-compression=ON" };
        let Some(server) =
            Server::own(version, &[setting, "log-bin-compress-min-len=10"][..1 + usize::from(version.is_mariadb())])
        else {
            continue;
        };
        let db = MySql::new(server.database("compressed"));
        db.execute(T);
        let stream = Stream::new(&db, &[]);
        db.execute(&format!(
            "insert into t select n, concat('row ', n), n, repeat('b', 200) from ({}) numbers order by n; update t set w = w + 1;
             insert into t values (20000, 'small', 0, ''); alter table t add column note varchar(2000) default '{}';
             delete from t",
            numbers(10_000),
            "n".repeat(1000)
        ));
        let records = stream.changes();
        assert_in_order(&records);
        let ops = |op: &str| records.iter().filter(|record| record["op"] == op).count();
        assert_eq!((ops("c"), ops("u"), ops("s"), ops("d")), (10_001, 10_000, 1, 10_001), "{}", version.name());
        for (at, update) in records[10_000..20_000].iter().enumerate() {
            assert_eq!(
                (update["before"]["w"].as_u64(), update["after"]["w"].as_u64()),
                (Some(at as u64), Some(at as u64 + 1))
            );
        }
    }
}

#[test]
fn parts_of_documents_are_put_together() {
    let Some(server) = Server::get(Version::MySql97) else { return };
    let db = MySql::new(server.database("documents"));
    let long = "x".repeat(2000);
    db.execute(&format!(
        "create table t (id int primary key, j json, v int);
         insert into t values (1, '{{\"a\": 1, \"b\": [1, 2, {{\"c\": \"{long}\"}}], \"d\": \"abcdef\"}}', 1), (2, '[]', 2)"
    ));
    let stream = Stream::new(&db, &[]);
    db.execute(
        "set session binlog_row_value_options = PARTIAL_JSON;
         update t set j = json_set(j, '$.a', 2) where id = 1; update t set j = json_replace(j, '$.d', 'xy') where id = 1;
         update t set j = json_remove(j, '$.b[0]') where id = 1; update t set v = 5;
         update t set j = json_set(j, '$.b[0]', 'new', '$.e', 7) where id = 1; update t set j = null where id = 2",
    );
    let records = stream.changes();
    assert_eq!(records.len(), 7);
    let truth: Value = serde_json::from_str(&db.query("select j from t where id = 1").replace("\\\\", "\\")).unwrap();
    let last = records.iter().rev().find(|record| record["key"]["id"] == 1).unwrap();
    assert_eq!(last["after"]["j"], truth);
    let steps: Vec<&Value> = records.iter().filter(|record| record["key"]["id"] == 1).collect();
    assert_eq!(steps[0]["after"]["j"]["a"], 2);
    assert_eq!(steps[1]["after"]["j"]["d"], "xy");
    assert_eq!(steps[2]["after"]["j"]["b"][0], 2);
    for pair in steps.windows(2) {
        assert_eq!(pair[0]["after"], pair[1]["before"]);
    }
    assert!(records.last().unwrap()["after"]["j"].is_null());
}

/// Rows that MariaDB keeps of the past are rows of the log too; what a SELECT shows is the snapshot.
#[test]
fn system_versioned_tables_and_sequences() {
    for version in [Version::MariaDb1011, Version::MariaDb118] {
        let Some(server) = Server::get(version) else { continue };
        let db = MySql::new(server.database("versioned"));
        db.execute(
            "create table t (id int primary key, v int) with system versioning; insert into t values (1, 1); update t set v = 2;
             create sequence s; create table u (id int primary key)",
        );
        let stream = Stream::unstarted(&db, &[]);
        let rows = stream.run(&["--until", "current"]).ok();
        assert_eq!(brief(&rows), [r#"r t {"id":1,"v":2}"#], "a sequence is no table, the past is no row");
        db.execute("update t set v = 3; insert into t values (2, 1); delete from t where id = 1; insert into u values (nextval(s))");
        let records = stream.changes();
        assert_in_order(&records);
        let last = records.last().unwrap();
        assert_eq!((&last["table"], &last["after"]["id"]), (&"u".into(), &1.into()));
        let second = records.iter().find(|record| record["after"]["id"] == 2).unwrap();
        assert_eq!(second["after"]["v"], 1);
        assert!(!records.iter().any(|record| record["table"] == "s"), "{:?}", brief(&records));
    }
}
