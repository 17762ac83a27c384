//! Schema changes: a row has the names of its own time, whether the log says them or our history does.

use serde_json::Value;

use super::{MySql, on_every_version};
use crate::source::Subject;
use crate::source::program::{Stream, brief};
use crate::support::mysql::{Server, Version};

on_every_version!(
    columns_move,
    names_are_exchanged,
    tables_made_of_others,
    several_in_one_statement,
    statements_in_comments,
    ddl_while_nobody_streams,
    a_replay_meets_the_old_shape,
    labels_are_added,
    a_ghost_takes_the_tables_place,
    triggers_fill_a_copy,
    databases_come_and_go,
    ddl_between_transactions_of_others,
);

/// Without the names in the log there is our history alone.
#[test]
fn the_history_alone_knows_the_names() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &["binlog-row-metadata=MINIMAL"]) else { continue };
        type Case = (&'static str, fn(&MySql<'_>));
        let cases: [Case; 12] = [
            ("columns_move", columns_move),
            ("names_are_exchanged", names_are_exchanged),
            ("tables_made_of_others", tables_made_of_others),
            ("several_in_one_statement", several_in_one_statement),
            ("statements_in_comments", statements_in_comments),
            ("ddl_while_nobody_streams", ddl_while_nobody_streams),
            ("a_replay_meets_the_old_shape", a_replay_meets_the_old_shape),
            ("labels_are_added", labels_are_added),
            ("a_ghost_takes_the_tables_place", a_ghost_takes_the_tables_place),
            ("triggers_fill_a_copy", triggers_fill_a_copy),
            ("databases_come_and_go", databases_come_and_go),
            ("ddl_between_transactions_of_others", ddl_between_transactions_of_others),
        ];
        let mut failed = Vec::new();
        for (name, case) in cases {
            let db = MySql::new(server.database(name));
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&db))).is_err() {
                failed.push(name);
            }
        }
        assert!(failed.is_empty(), "{}: {failed:?}", version.name());
    }
}

const T: &str = "create table t (id int primary key, v varchar(40))";

/// The rows, without the schema changes between them.
#[track_caller]
fn rows(records: &[Value]) -> Vec<String> {
    brief(records).into_iter().filter(|record| !record.starts_with("s ")).collect()
}

fn changes(records: &[Value]) -> usize {
    records.iter().filter(|record| record["op"] == "s").count()
}

fn columns_move(db: &MySql<'_>) {
    db.execute(&format!("{T}; insert into t values (0, 'old')"));
    let stream = Stream::new(db, &[]);
    db.execute(
        "insert into t values (1, 'a');
         alter table t add column n int first; insert into t values (5, 2, 'b');
         alter table t add column m int after id, add index (m); insert into t values (6, 3, 7, 'c');
         alter table t modify column v varchar(50) first; insert into t values ('d', 8, 4, 9);
         alter table t change column n k bigint, drop column m; insert into t values ('e', 10, 5);
         alter table t add (x int, y int default 3), rename column k to l; insert into t values ('f', 11, 6, 1, 2);
         alter table t drop column x, drop y, add unique key (v); update t set v = 'g' where id = 6;
         alter table t comment = 'no column changes'; delete from t where id = 6",
    );
    let records = stream.changes();
    let expected = [
        r#"c t {"id":1,"v":"a"}"#,
        r#"c t {"n":5,"id":2,"v":"b"}"#,
        r#"c t {"n":6,"id":3,"m":7,"v":"c"}"#,
        r#"c t {"v":"d","n":8,"id":4,"m":9}"#,
        r#"c t {"v":"e","k":10,"id":5}"#,
        r#"c t {"v":"f","l":11,"id":6,"x":1,"y":2}"#,
        r#"u t {"v":"f","l":11,"id":6} -> {"v":"g","l":11,"id":6}"#,
        r#"d t {"v":"g","l":11,"id":6}"#,
    ];
    assert_eq!(rows(&records), expected);
    assert!(changes(&records) >= 6, "{:?}", brief(&records));
    assert!(records.iter().filter(|record| record["op"] != "s").all(|record| record["key"]["id"].is_number()));
}

fn names_are_exchanged(db: &MySql<'_>) {
    db.execute(
        "create table a (id int primary key, of_a int); create table b (id int primary key, of_b int, more int)",
    );
    let stream = Stream::new(db, &[]);
    db.execute(
        "insert into a values (1, 1); insert into b values (1, 1, 1);
         rename table a to x, b to a, x to b;
         insert into a values (2, 2, 2); insert into b values (2, 2);
         alter table a rename to c; insert into c values (3, 3, 3)",
    );
    let expected = [
        r#"c a {"id":1,"of_a":1}"#,
        r#"c b {"id":1,"of_b":1,"more":1}"#,
        r#"c a {"id":2,"of_b":2,"more":2}"#,
        r#"c b {"id":2,"of_a":2}"#,
        r#"c c {"id":3,"of_b":3,"more":3}"#,
    ];
    assert_eq!(rows(&stream.changes()), expected);
}

fn tables_made_of_others(db: &MySql<'_>) {
    db.execute(&format!("{T}; insert into t values (1, 'a')"));
    let stream = Stream::new(db, &[]);
    db.execute(
        "create table l like t; insert into l values (2, 'b');
         create table s (extra int default 4) select id, v as w from t; insert into s (id, w) values (3, 'c');
         create table if not exists t (other int); insert into t values (4, 'd');
         create temporary table gone (id int); insert into gone values (1); drop temporary table gone",
    );
    let expected = [
        r#"c l {"id":2,"v":"b"}"#,
        r#"c s {"extra":4,"id":1,"w":"a"}"#,
        r#"c s {"extra":4,"id":3,"w":"c"}"#,
        r#"c t {"id":4,"v":"d"}"#,
    ];
    assert_eq!(rows(&stream.changes()), expected);
}

fn several_in_one_statement(db: &MySql<'_>) {
    db.execute(&format!("{T}; create table a (id int primary key); create table b (id int primary key)"));
    let stream = Stream::new(db, &[]);
    db.execute(
        "insert into a values (1); drop table if exists a, missing, b;
         create table a (name varchar(9) primary key, id int); insert into a values ('x', 2); truncate table t;
         insert into t values (1, 'a')",
    );
    let expected = [r#"c a {"id":1}"#, r#"c a {"name":"x","id":2}"#, "t t", r#"c t {"id":1,"v":"a"}"#];
    assert_eq!(rows(&stream.changes()), expected);
}

fn statements_in_comments(db: &MySql<'_>) {
    db.execute(T);
    let stream = Stream::new(db, &[]);
    db.execute(
        "alter /* one */ table -- two
           t # three
           add column /*!50000 n int default 1, add column */ m int;
         insert into t values (1, 'a', 2, 3);
         create table `o``dd` (`a b` int, `c,d` int default (1 + (2)), /* e int, */ `key` varchar(9) default ');--' comment 'it''s, (f int)',
           primary key (`a b`), constraint `x` check (`c,d` > 0));
         insert into `o``dd` values (1, 2, 'x')",
    );
    let expected = [r#"c t {"id":1,"v":"a","n":2,"m":3}"#, r#"c o`dd {"a b":1,"c,d":2,"key":"x"}"#];
    let records = stream.changes();
    assert_eq!(rows(&records), expected);
    assert_eq!(records.last().unwrap()["key"].to_string(), r#"{"a b":1}"#);
}

fn ddl_while_nobody_streams(db: &MySql<'_>) {
    db.execute(T);
    let stream = Stream::new(db, &[]);
    db.execute("alter table t add column n int; insert into t values (1, 'a', 1)");
    assert_eq!(rows(&stream.changes()), [r#"c t {"id":1,"v":"a","n":1}"#]);
    db.execute("alter table t drop column v");
    stream.changes();
    db.execute("insert into t values (2, 2); alter table t add column w int first; insert into t values (9, 3, 3)");
    assert_eq!(rows(&stream.changes()), [r#"c t {"id":2,"n":2}"#, r#"c t {"w":9,"id":3,"n":3}"#]);
}

/// A position behind which the table has changed meets the table as it was.
fn a_replay_meets_the_old_shape(db: &MySql<'_>) {
    db.execute(T);
    let stream = Stream::new(db, &[]);
    db.execute(
        "insert into t values (1, 'a'); insert into t values (2, 'b'); alter table t drop column v, add column n int first;
         insert into t values (3, 3)",
    );
    let ids = |records: Vec<Value>| {
        records.iter().filter(|r| r["op"] == "c").map(|r| r["after"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(stream.run(&["--limit", "1"]).ok()), [r#"{"id":1,"v":"a"}"#]);
    db.execute("alter table t add column late int; drop table t; create table t (only_now int)");
    let found = ids(stream.changes());
    assert_eq!(found, [r#"{"id":2,"v":"b"}"#, r#"{"n":3,"id":3}"#]);
}

fn labels_are_added(db: &MySql<'_>) {
    db.execute("create table t (id int primary key, e enum('a', 'b'), s set('x', 'y'))");
    let stream = Stream::new(db, &[]);
    db.execute(
        "insert into t values (1, 'b', 'x,y'); alter table t modify e enum('new', 'a', 'b');
         insert into t values (2, 'b', 'y'); alter table t modify s set('y', 'x', 'z') character set latin1;
         insert into t values (3, 'new', 'z,y')",
    );
    let expected =
        [r#"c t {"id":1,"e":"b","s":"x,y"}"#, r#"c t {"id":2,"e":"b","s":"y"}"#, r#"c t {"id":3,"e":"new","s":"y,z"}"#];
    assert_eq!(rows(&stream.changes()), expected);
}

/// As gh-ost changes a table.
fn a_ghost_takes_the_tables_place(db: &MySql<'_>) {
    db.execute(&format!("{T}; insert into t values (1, 'a')"));
    let stream = Stream::new(db, &[]);
    db.execute(
        "create /* gh-ost */ table _t_ghc (id bigint auto_increment, hint varchar(64) not null, primary key (id), unique key hint_uidx (hint)) auto_increment=256;
         create /* gh-ost */ table _t_gho like t; alter /* gh-ost */ table _t_gho add column n int default 7 after id;
         insert /* gh-ost */ ignore into _t_gho (id, v) select id, v from t force index (primary) lock in share mode;
         insert into t values (2, 'b'); replace /* gh-ost */ into _t_gho (id, v) values (2, 'b');
         create table _t_del (id int auto_increment primary key) comment='ghost-cut-over-sentry';
         drop table _t_del; rename /* gh-ost */ table t to _t_del, _t_gho to t;
         insert into t values (3, 8, 'c'); drop table _t_ghc, _t_del",
    );
    let expected = [
        r#"c _t_gho {"id":1,"n":7,"v":"a"}"#,
        r#"c t {"id":2,"v":"b"}"#,
        r#"c _t_gho {"id":2,"n":7,"v":"b"}"#,
        r#"c t {"id":3,"n":8,"v":"c"}"#,
    ];
    assert_eq!(rows(&stream.changes()), expected);
}

/// As pt-online-schema-change does.
fn triggers_fill_a_copy(db: &MySql<'_>) {
    db.execute(&format!("{T}; insert into t values (1, 'a')"));
    let stream = Stream::new(db, &[]);
    db.execute(
        "create table _t_new (id int not null, v varchar(40) default null, primary key (id)) engine=InnoDB;
         alter table _t_new add column n int first;
         create trigger pt_osc_ins after insert on t for each row replace into _t_new (id, v) values (new.id, new.v);
         insert low_priority ignore into _t_new (id, v) select id, v from t;
         insert into t values (2, 'b');
         rename table t to _t_old, _t_new to t; drop table if exists _t_old; insert into t values (9, 3, 'c')",
    );
    let expected = [
        r#"c _t_new {"n":null,"id":1,"v":"a"}"#,
        r#"c t {"id":2,"v":"b"}"#,
        r#"c _t_new {"n":null,"id":2,"v":"b"}"#,
        r#"c t {"n":9,"id":3,"v":"c"}"#,
    ];
    assert_eq!(rows(&stream.changes()), expected);
}

fn databases_come_and_go(db: &MySql<'_>) {
    let other = format!("{}_other", db.name());
    db.execute(&format!("{T}; create database {other}; create table {other}.t (id int primary key, of_other int)"));
    let tables = format!("{}.*,{other}.*", db.name());
    db.execute(&format!("grant select on *.* to {}", db.user()));
    let stream = Stream::new(db, &["--tables", &tables]);
    db.execute(&format!(
        "insert into {other}.t values (1, 2); drop database {other}; create database {other};
         create table {other}.t (name varchar(9), id int); insert into {other}.t values ('x', 3);
         rename table t to {other}.moved; insert into {other}.moved values (4, 'y');
         use {other}; create table u (a int); insert into u values (1)"
    ));
    let records = stream.changes();
    let expected =
        [r#"c t {"id":1,"of_other":2}"#, r#"c t {"name":"x","id":3}"#, r#"c moved {"id":4,"v":"y"}"#, r#"c u {"a":1}"#];
    assert_eq!(rows(&records), expected);
    assert!(records.iter().all(|record| record["schema"] == other.as_str()), "{:?}", brief(&records));
}

/// A table is changed while another transaction, begun before, has not written to it yet.
fn ddl_between_transactions_of_others(db: &MySql<'_>) {
    db.execute(&format!("{T}; create table u (id int primary key)"));
    let stream = Stream::new(db, &[]);
    let mut open = db.session();
    open.execute("begin; insert into u values (1)");
    db.execute("insert into t values (1, 'a'); alter table t add column n int first");
    open.execute("insert into t values (5, 2, 'b'); commit");
    let expected = [r#"c t {"id":1,"v":"a"}"#, r#"c u {"id":1}"#, r#"c t {"n":5,"id":2,"v":"b"}"#];
    assert_eq!(rows(&stream.changes()), expected);
}
