//! Replica identity, unchanged TOAST, keys, generated columns.

use super::{Postgres, on_every_version};
use crate::source::Subject;
use crate::source::program::{Stream, brief};

on_every_version!(
    identity_default_index_full_nothing,
    unchanged_toast_is_named_and_filled_only_under_full,
    a_table_without_a_key_and_identity_full,
    generated_columns,
    truncate_of_several_tables,
    messages_transactional_or_not,
);

fn identity_default_index_full_nothing(db: &Postgres<'_>) {
    db.execute(
        "create table def (id int primary key, u int not null unique, v text);
         create table idx (like def including all); alter table idx replica identity using index idx_u_key;
         create table ful (like def including all); alter table ful replica identity full;
         create table nth (like def including all); alter table nth replica identity nothing;",
    );
    let stream = Stream::new(db, &[]);
    for table in ["def", "idx", "ful"] {
        db.execute(&format!(
            "insert into {table} values (1, 10, 'a'); update {table} set v = 'b'; update {table} set id = 2;
             update {table} set u = 11; delete from {table}"
        ));
    }
    db.execute("insert into nth values (1, 10, 'a')");
    let records = stream.changes();
    let expected = [
        r#"c def {"id":1,"u":10,"v":"a"}"#,
        r#"u def {"id":1,"u":10,"v":"b"}"#,
        r#"u def {"id":1} -> {"id":2,"u":10,"v":"b"}"#,
        r#"u def {"id":2,"u":11,"v":"b"}"#,
        r#"d def {"id":2}"#,
        r#"c idx {"id":1,"u":10,"v":"a"}"#,
        r#"u idx {"id":1,"u":10,"v":"b"}"#,
        r#"u idx {"id":2,"u":10,"v":"b"}"#,
        r#"u idx {"u":10} -> {"id":2,"u":11,"v":"b"}"#,
        r#"d idx {"u":11}"#,
        r#"c ful {"id":1,"u":10,"v":"a"}"#,
        r#"u ful {"id":1,"u":10,"v":"a"} -> {"id":1,"u":10,"v":"b"}"#,
        r#"u ful {"id":1,"u":10,"v":"b"} -> {"id":2,"u":10,"v":"b"}"#,
        r#"u ful {"id":2,"u":10,"v":"b"} -> {"id":2,"u":11,"v":"b"}"#,
        r#"d ful {"id":2,"u":11,"v":"b"}"#,
        r#"c nth {"id":1,"u":10,"v":"a"}"#,
    ];
    assert_eq!(brief(&records), expected);
    let key = |index: usize| records[index]["key"].to_string();
    assert_eq!([key(2), key(8), key(12), key(15)], [r#"{"id":2}"#, r#"{"u":11}"#, r#"{"id":2}"#, "null"]);
}

fn unchanged_toast_is_named_and_filled_only_under_full(db: &Postgres<'_>) {
    db.execute(
        "create table def (id int primary key, v text, big text, huge text);
         alter table def alter big set storage external, alter huge set storage external;
         create table ful (like def including all); alter table ful replica identity full;
         insert into def values (1, 'a', repeat('x', 10000), repeat('y', 10000)); insert into ful select * from def",
    );
    let stream = Stream::new(db, &[]);
    db.execute(
        "update def set v = 'b'; update def set big = 'small'; update def set id = 2, huge = NULL;
         update ful set v = 'b'; update ful set big = 'small'",
    );
    let records = stream.changes();
    let after = |index: usize| records[index]["after"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(records[0]["unchanged"].to_string(), r#"["big","huge"]"#);
    assert_eq!(after(0), ["id", "v"]);
    assert_eq!(records[1]["unchanged"].to_string(), r#"["huge"]"#);
    assert_eq!(after(1), ["id", "v", "big"]);
    assert_eq!(records[2]["after"].to_string(), r#"{"id":2,"v":"b","big":"small","huge":null}"#);
    assert!(records[2].get("unchanged").is_none());
    let (big, huge) = ("x".repeat(10000), "y".repeat(10000));
    for record in &records[3..] {
        assert!(record.get("unchanged").is_none(), "{:?}", brief(std::slice::from_ref(record)));
        assert_eq!(record["before"]["big"], big.as_str());
        assert_eq!(record["after"]["huge"], huge.as_str());
    }
    assert_eq!(records[3]["after"]["big"], big.as_str());
    assert_eq!(records[4]["after"]["big"], "small");
}

fn a_table_without_a_key_and_identity_full(db: &Postgres<'_>) {
    db.execute("create table t (a int, b text); alter table t replica identity full");
    let stream = Stream::new(db, &[]);
    db.execute("insert into t values (1, NULL); update t set b = 'x'; delete from t");
    let records = stream.changes();
    let expected = [r#"c t {"a":1,"b":null}"#, r#"u t {"a":1,"b":null} -> {"a":1,"b":"x"}"#, r#"d t {"a":1,"b":"x"}"#];
    assert_eq!(brief(&records), expected);
    assert!(records.iter().all(|record| record["key"].is_null()));
}

fn generated_columns(db: &Postgres<'_>) {
    db.execute(
        "create table t (a int primary key, twice int generated always as (a * 2) stored, b text);
         insert into t (a, b) values (1, 'x')",
    );
    let stream = Stream::unstarted(db, &[]);
    // The publication sends none: the snapshot agrees.
    assert_eq!(brief(&stream.run(&["--until", "current"]).ok()), [r#"r t {"a":1,"b":"x"}"#]);
    db.execute("insert into t (a, b) values (2, 'y'); update t set b = 'z' where a = 1; delete from t where a = 1");
    let expected = [r#"c t {"a":2,"b":"y"}"#, r#"u t {"a":1,"b":"z"}"#, r#"d t {"a":1}"#];
    assert_eq!(brief(&stream.changes()), expected);
}

fn truncate_of_several_tables(db: &Postgres<'_>) {
    db.execute(
        "create table a (id serial primary key); create table b (id int primary key, a int references a);
         create table out_of_it (id int primary key)",
    );
    let stream = Stream::new(db, &["--exclude-tables", "public.out_of_it"]);
    db.execute("truncate a, b, out_of_it restart identity; truncate a cascade");
    let records = stream.changes();
    let mut first = brief(&records[..2]);
    first.sort();
    assert_eq!(first, ["t a", "t b"]);
    assert!(records[..2].iter().all(|record| record["restart_identity"] == true && record["cascade"] == false));
    assert!(records[2..].iter().all(|record| record["restart_identity"] == false && record["cascade"] == true));
    assert_eq!(records.len(), 4);
}

fn messages_transactional_or_not(db: &Postgres<'_>) {
    db.execute("create table t (id int primary key)");
    let stream = Stream::new(db, &[]);
    db.execute(
        "begin; insert into t values (1); select pg_logical_emit_message(true, 'in', 'kept');
           select pg_logical_emit_message(false, 'out', 'at once'); insert into t values (2); commit;
         begin; select pg_logical_emit_message(true, 'in', 'gone'); select pg_logical_emit_message(false, 'out', 'stays');
         rollback;
         insert into t values (3)",
    );
    let records = stream.changes();
    // base64
    let expected = [
        r#"m out "YXQgb25jZQ==" false"#,
        r#"c t {"id":1}"#,
        r#"m in "a2VwdA==" true"#,
        r#"c t {"id":2}"#,
        r#"m out "c3RheXM=" false"#,
        r#"c t {"id":3}"#,
    ];
    assert_eq!(brief(&records), expected);
    assert!(records[0]["tx"].is_null() && records[2]["tx"] == records[1]["tx"]);
}
