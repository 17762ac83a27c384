//! Schema changes: earlier rows keep the earlier shape, a change comes before the first row with the new one.

use serde_json::Value;

use super::{Postgres, on_every_version};
use crate::source::Subject;
use crate::source::program::{Stream, brief};

on_every_version!(
    ddl_between_the_rows_of_a_transaction,
    a_column_changes_its_type,
    a_table_is_renamed,
    ddl_while_nobody_streams,
    a_replay_meets_the_old_shape,
    an_enum_gets_a_label,
    another_replica_identity_is_another_shape,
    a_column_is_dropped_that_was_read_in_the_snapshot,
);

const T: &str = "create table t (id int primary key, v text)";

fn ddl_between_the_rows_of_a_transaction(db: &Postgres<'_>) {
    db.execute(T);
    let stream = Stream::new(db, &[]);
    db.execute(
        "begin; insert into t values (1, 'a'); alter table t add n int default 7; insert into t values (2, 'b');
           alter table t drop v; update t set n = 8 where id = 1; alter table t rename n to m;
           alter table t alter m type text using 'x' || m; insert into t values (3, 'y');
         commit; insert into t values (4, 'z')",
    );
    let records = stream.changes();
    let expected = [
        "s t v1 (id integer, v text)",
        r#"c t {"id":1,"v":"a"}"#,
        "s t v2 (id integer, v text, n integer)",
        r#"c t {"id":2,"v":"b","n":7}"#,
        "s t v3 (id integer, n integer)",
        r#"u t {"id":1,"n":8}"#,
        "s t v4 (id integer, m text)",
        r#"c t {"id":3,"m":"y"}"#,
        r#"c t {"id":4,"m":"z"}"#,
    ];
    let records = without_first_shape(records);
    assert_eq!(brief(&records), expected[1..]);
    assert_eq!(records[1]["ord"], records[2]["ord"], "a schema change has the ordinal of the row it stands before");
}

/// A stream that has not read a table before may begin with its shape.
fn without_first_shape(mut records: Vec<Value>) -> Vec<Value> {
    if records.first().is_some_and(|record| record["op"] == "s" && record["version"] == 1) {
        records.remove(0);
    }
    records
}

fn a_column_changes_its_type(db: &Postgres<'_>) {
    db.execute("create table t (id int primary key, v int, w varchar(10)); insert into t values (1, 1, 'a')");
    let stream = Stream::unstarted(db, &[]);
    stream.run(&["--until", "current"]).ok();
    db.execute(
        "insert into t values (2, 2, 'b'); alter table t alter v type numeric(10,3), alter w type varchar(20);
         insert into t values (3, 2.5, 'c')",
    );
    let expected = [
        r#"c t {"id":2,"v":2,"w":"b"}"#,
        "s t v2 (id integer, v numeric(10,3), w character varying(20))",
        r#"c t {"id":3,"v":"2.500","w":"c"}"#,
    ];
    assert_eq!(brief(&stream.changes()), expected);
}

fn a_table_is_renamed(db: &Postgres<'_>) {
    db.execute(&format!("{T}; create schema elsewhere; insert into t values (0, '')"));
    let stream = Stream::unstarted(db, &[]);
    stream.run(&["--until", "current"]).ok();
    db.execute(
        "insert into t values (1, 'a'); alter table t rename to u; insert into u values (2, 'b');
         alter table u set schema elsewhere; insert into elsewhere.u values (3, 'c')",
    );
    let records = stream.changes();
    let expected = [
        r#"c t {"id":1,"v":"a"}"#,
        "s u v2 (id integer, v text)",
        r#"c u {"id":2,"v":"b"}"#,
        "s u v3 (id integer, v text)",
        r#"c u {"id":3,"v":"c"}"#,
    ];
    assert_eq!(brief(&records), expected);
    assert_eq!((&records[2]["schema"], &records[4]["schema"]), (&"public".into(), &"elsewhere".into()));
}

fn ddl_while_nobody_streams(db: &Postgres<'_>) {
    db.execute(&format!("{T}; insert into t values (0, 'old')"));
    let stream = Stream::unstarted(db, &[]);
    assert_eq!(brief(&stream.run(&["--until", "current"]).ok()), [r#"r t {"id":0,"v":"old"}"#]);
    db.execute(
        "insert into t values (1, 'a'); alter table t drop v; alter table t add w int; insert into t values (2, 5);
         alter table t add x int; alter table t drop w",
    );
    // The catalog has long moved on: the log still tells rows of two shapes.
    let expected = [r#"c t {"id":1,"v":"a"}"#, "s t v2 (id integer, w integer)", r#"c t {"id":2,"w":5}"#];
    assert_eq!(brief(&stream.changes()), expected);
    db.execute("insert into t values (3, 6)");
    assert_eq!(brief(&stream.changes()), ["s t v3 (id integer, x integer)", r#"c t {"id":3,"x":6}"#]);
}

/// Two streams from the same point: one is stopped between the shapes, and both see the same.
fn a_replay_meets_the_old_shape(db: &Postgres<'_>) {
    db.execute(&format!("{T}; insert into t values (0, 'old')"));
    let stream = Stream::unstarted(db, &[]);
    stream.run(&["--until", "current"]).ok();
    db.execute(
        "begin; insert into t values (1, 'a'); alter table t add n int; insert into t values (2, 'b', 1);
           insert into t values (3, 'c', 2); commit; insert into t values (4, 'd', 3)",
    );
    // Cut inside the transaction, behind the new shape: nothing of it was stored, all of it comes again.
    let cut = stream.run(&["--limit", "2"]).ok();
    let whole = stream.changes();
    let expected = [
        r#"c t {"id":1,"v":"a"}"#,
        "s t v2 (id integer, v text, n integer)",
        r#"c t {"id":2,"v":"b","n":1}"#,
        r#"c t {"id":3,"v":"c","n":2}"#,
        r#"c t {"id":4,"v":"d","n":3}"#,
    ];
    assert_eq!(brief(&whole), expected);
    assert_eq!(cut, whole[..3], "the same records with the same order keys");
}

fn an_enum_gets_a_label(db: &Postgres<'_>) {
    db.execute(
        "create type mood as enum ('sad', 'ok'); create domain age as int check (value > 0);
         create table t (id int primary key, m mood, ms mood[], a age); insert into t values (1, 'sad', '{ok}', 3)",
    );
    let stream = Stream::unstarted(db, &[]);
    assert_eq!(brief(&stream.run(&["--until", "current"]).ok()), [r#"r t {"id":1,"m":"sad","ms":["ok"],"a":3}"#]);
    db.execute(
        "insert into t values (2, 'ok', NULL, 4); alter type mood add value 'happy';
         insert into t values (3, 'happy', '{happy,sad}', 5)",
    );
    let rows: Vec<Value> = stream.changes().into_iter().filter(|record| record["op"] == "c").collect();
    let expected =
        [r#"c t {"id":2,"m":"ok","ms":null,"a":4}"#, r#"c t {"id":3,"m":"happy","ms":["happy","sad"],"a":5}"#];
    assert_eq!(brief(&rows), expected);
}

fn another_replica_identity_is_another_shape(db: &Postgres<'_>) {
    db.execute(&format!("{T}; insert into t values (1, 'a')"));
    let stream = Stream::unstarted(db, &[]);
    stream.run(&["--until", "current"]).ok();
    db.execute("update t set v = 'b'; alter table t replica identity full; update t set v = 'c'; delete from t");
    let records = stream.changes();
    let rows: Vec<Value> = records.into_iter().filter(|record| record["op"] != "s").collect();
    let expected =
        [r#"u t {"id":1,"v":"b"}"#, r#"u t {"id":1,"v":"b"} -> {"id":1,"v":"c"}"#, r#"d t {"id":1,"v":"c"}"#];
    assert_eq!(brief(&rows), expected);
}

fn a_column_is_dropped_that_was_read_in_the_snapshot(db: &Postgres<'_>) {
    db.execute(
        "create table t (gone int, id int primary key, v text); alter table t drop gone; insert into t values (1, 'a')",
    );
    let stream = Stream::unstarted(db, &[]);
    assert_eq!(brief(&stream.run(&["--until", "current"]).ok()), [r#"r t {"id":1,"v":"a"}"#]);
    db.execute("insert into t values (2, 'b'); alter table t drop v; insert into t values (3)");
    let expected = [r#"c t {"id":2,"v":"b"}"#, "s t v2 (id integer)", r#"c t {"id":3}"#];
    assert_eq!(brief(&stream.changes()), expected);
}
