//! Publications and slots: made, used as they are, checked; partitions, row filters, column lists.

use super::{Postgres, on_every_version};
use crate::source::Subject;
use crate::source::program::{Stream, brief, tail};

on_every_version!(
    a_slot_and_a_publication_that_exist_are_used,
    a_publication_that_lacks_a_table_says_what_mends_it,
    slots_of_others_are_refused,
    row_filters_and_column_lists_hold_in_snapshot_and_stream,
    partitions_come_as_their_table,
    tables_made_later_are_added_at_the_next_start,
    a_table_dropped_from_the_publication_comes_back_into_ours,
    a_publication_of_somebody_else_is_never_changed,
    a_table_of_an_unwanted_schema_is_not_published,
);

fn a_slot_and_a_publication_that_exist_are_used(db: &Postgres<'_>) {
    let name = db.stream_name();
    db.execute(&format!(
        r#"create table t (id int primary key); create publication "{name}" for table t;
           select pg_create_logical_replication_slot('{name}', 'pgoutput'); insert into t values (1)"#
    ));
    let stream = Stream::unstarted(db, &["--snapshot", "never"]);
    assert_eq!(brief(&stream.changes()), [r#"c t {"id":1}"#], "from the slot's position on");
    db.execute("insert into t values (2)");
    assert_eq!(brief(&stream.changes()), [r#"c t {"id":2}"#]);
}

fn a_publication_that_lacks_a_table_says_what_mends_it(db: &Postgres<'_>) {
    db.execute(
        "create table t (id int primary key); create table u (id int primary key); create publication part for table t",
    );
    let log = tail(db, &["--publication", "part", "--until", "current"]).end().failed(2);
    assert!(log.contains("public.u") && log.contains("ALTER PUBLICATION"), "{log}");
    assert_eq!(db.left_behind(), ["publication part"]);
    db.execute("insert into t values (1)");
    let rows = tail(db, &["--publication", "part", "--until", "current", "--tables", "public.t"]).end().ok();
    assert_eq!(brief(&rows), [r#"r t {"id":1}"#]);
    assert_eq!(db.left_behind(), ["publication part"]);
    let log = tail(db, &["--publication", "absent", "--until", "current"]).end().failed(2);
    assert!(log.contains("absent") && log.contains("CREATE PUBLICATION"), "{log}");
    assert_eq!(db.left_behind(), ["publication part"]);
}

fn slots_of_others_are_refused(db: &Postgres<'_>) {
    let name = db.stream_name();
    db.execute("create table t (id int primary key)");
    db.execute(&format!("select pg_create_physical_replication_slot('{name}')"));
    let log = Stream::unstarted(db, &[]).run(&["--until", "current"]).failed(2);
    assert!(log.contains("physical"), "{log}");
    let other = Postgres::new(db.server().database("slot_owner"));
    db.execute(&format!("select pg_drop_replication_slot('{name}')"));
    other.execute(&format!("select pg_create_logical_replication_slot('{name}', 'pgoutput')"));
    let log = Stream::unstarted(db, &[]).run(&["--until", "current"]).failed(2);
    assert!(log.contains(&other.stream_name()), "{log}");
    assert_eq!(other.left_behind(), [format!("slot {name}")], "it was not touched");
}

fn row_filters_and_column_lists_hold_in_snapshot_and_stream(db: &Postgres<'_>) {
    let name = db.stream_name();
    db.execute(&format!(
        r#"create table t (id int primary key, state text, secret text, n int);
           insert into t values (1, 'open', 'x', 5), (2, 'closed', 'x', 5), (11, 'open', 'x', 5);
           alter table t replica identity full;
           create publication "{name}" for table t (id, state) where (state = 'open' and id < 10)"#
    ));
    // A list of columns and identity FULL exclude each other for updates: the key is enough for this filter.
    db.execute("alter table t replica identity default");
    db.execute(&format!(r#"alter publication "{name}" set table t (id, state) where (id < 10)"#));
    let stream = Stream::unstarted(db, &[]);
    let mut rows = brief(&stream.run(&["--until", "current"]).ok());
    rows.sort();
    assert_eq!(rows, [r#"r t {"id":1,"state":"open"}"#, r#"r t {"id":2,"state":"closed"}"#]);
    db.execute(
        "insert into t values (3, 'new', 'y', 1), (12, 'new', 'y', 1); update t set secret = 'z' where id = 1;
         update t set id = 13 where id = 2; update t set id = 4 where id = 12; delete from t where id in (3, 11)",
    );
    // Over the border of a filter an update becomes a delete, or an insert.
    let expected = [
        r#"c t {"id":3,"state":"new"}"#,
        r#"u t {"id":1,"state":"open"}"#,
        r#"d t {"id":2}"#,
        r#"c t {"id":4,"state":"new"}"#,
        r#"d t {"id":3}"#,
    ];
    let mut found = brief(&stream.changes());
    // The rows that one statement touches come in the table's order.
    found.retain(|record| !record.starts_with('s'));
    assert_eq!(found, expected);
}

fn partitions_come_as_their_table(db: &Postgres<'_>) {
    db.execute(
        "create table t (id int, day date, v text, primary key (id, day)) partition by range (day);
         create table t_25 partition of t for values from ('2025-01-01') to ('2026-01-01');
         create table t_26 (v text, day date not null, id int not null);
         insert into t values (1, '2025-05-05', 'a')",
    );
    let stream = Stream::unstarted(db, &[]);
    assert_eq!(brief(&stream.run(&["--until", "current"]).ok()), [r#"r t {"id":1,"day":"2025-05-05","v":"a"}"#]);
    db.execute(
        "insert into t_26 values ('before', '2026-01-01', 2);
         alter table t attach partition t_26 for values from ('2026-01-01') to ('2027-01-01');
         insert into t values (3, '2026-02-02', 'b'); insert into t_26 values ('c', '2026-03-03', 4);
         update t set day = '2026-05-05' where id = 1; update t set v = 'd' where id = 3; delete from t where id = 4;
         create table t_27 partition of t default; insert into t values (5, '2027-01-01', 'e');
         alter table t detach partition t_25; truncate t",
    );
    let records = stream.changes();
    // A row that moves to another partition is a delete and an insert.
    let expected = [
        r#"c t_26 {"v":"before","day":"2026-01-01","id":2}"#,
        r#"c t {"id":3,"day":"2026-02-02","v":"b"}"#,
        r#"c t {"id":4,"day":"2026-03-03","v":"c"}"#,
        r#"d t {"id":1,"day":"2025-05-05"}"#,
        r#"c t {"id":1,"day":"2026-05-05","v":"a"}"#,
        r#"u t {"id":3,"day":"2026-02-02","v":"d"}"#,
        r#"d t {"id":4,"day":"2026-03-03"}"#,
        r#"c t {"id":5,"day":"2027-01-01","v":"e"}"#,
        "t t",
    ];
    assert_eq!(brief(&records), expected);
}

fn tables_made_later_are_added_at_the_next_start(db: &Postgres<'_>) {
    db.execute("create table t (id int primary key)");
    let stream = Stream::new(db, &[]);
    db.execute("create table later (id int primary key); insert into later values (1); insert into t values (1)");
    assert_eq!(brief(&stream.changes()), [r#"c t {"id":1}"#]);
    db.execute("insert into later values (2)");
    assert_eq!(brief(&stream.changes()), [r#"c later {"id":2}"#]);
}

fn a_table_dropped_from_the_publication_comes_back_into_ours(db: &Postgres<'_>) {
    db.execute("create table t (id int primary key); create table u (id int primary key)");
    let (stream, name) = (Stream::new(db, &[]), db.stream_name());
    db.execute(&format!(
        r#"insert into t values (1); alter publication "{name}" drop table t; insert into t values (2);
           insert into u values (2)"#
    ));
    assert_eq!(brief(&stream.changes()), [r#"c t {"id":1}"#, r#"c u {"id":2}"#]);
    db.execute("insert into t values (3)");
    assert_eq!(brief(&stream.changes()), [r#"c t {"id":3}"#]);
}

fn a_publication_of_somebody_else_is_never_changed(db: &Postgres<'_>) {
    let name = db.stream_name();
    db.execute(&format!(r#"create table t (id int primary key); create publication "{name}" for all tables"#));
    let stream = Stream::new(db, &[]);
    db.execute("create table u (id int primary key); insert into u values (1); insert into t values (1)");
    assert_eq!(brief(&stream.changes()), [r#"c u {"id":1}"#, r#"c t {"id":1}"#], "a new table is wanted and published");
    assert_eq!(db.query("select puballtables from pg_publication"), "t");
}

fn a_table_of_an_unwanted_schema_is_not_published(db: &Postgres<'_>) {
    db.execute(
        "create schema a; create schema b; create table a.t (id int primary key); create table b.t (id int primary key);
         create unlogged table a.u (id int primary key); create temporary table tmp (id int)",
    );
    let stream = Stream::new(db, &["--tables", "a.*"]);
    db.execute("insert into a.t values (1); insert into b.t values (2); insert into a.u values (3)");
    let records = stream.changes();
    assert_eq!((brief(&records), &records[0]["schema"]), (vec![r#"c t {"id":1}"#.to_owned()], &"a".into()));
    assert_eq!(db.query("select schemaname || '.' || tablename from pg_publication_tables"), "a.t");
}
