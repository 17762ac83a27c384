//! What has a limit: prepared transactions in the store, tables and columns in memory.

use serde_json::Value;

use super::{MySql, numbers, on_every_version};
use crate::source::Subject;
use crate::source::program::{Stream, brief, eventually, run};
use crate::support::mysql::{Server, Version};

on_every_version!(
    prepared_transactions_beyond_the_limit_stop_it_and_are_not_lost,
    tables_may_have_thousands_of_columns
);

fn prepared_transactions_beyond_the_limit_stop_it_and_are_not_lost(db: &MySql<'_>) {
    db.execute("create table t (id int primary key, v varchar(100)); insert into t values (0, '')");
    let dir = tempfile::tempdir().unwrap();
    let start = |limit: &str| run(db, &db.url(), dir.path(), &format!("xa_limit: {limit}"), "");
    let program = start("100KiB");
    program.wait_for(1);
    program.stop().ok();
    let [small, large] = ["small", "large"].map(|name| format!("{}_{name}", db.name()));
    let prepare = |xid: &str, first: u32, rows: u32| {
        db.session().execute(&format!(
            "xa start '{xid}'; insert into t select {first} + n, repeat('x', 100) from ({}) numbers order by n;
             xa end '{xid}'; xa prepare '{xid}'",
            numbers(rows)
        ));
    };
    prepare(&small, 1_000, 100);
    db.execute("insert into t values (1, 'before')");
    prepare(&large, 10_000, 2_000);
    db.execute("insert into t values (2, 'behind')");
    let (before, behind) = (r#"c t {"id":1,"v":"before"}"#, r#"c t {"id":2,"v":"behind"}"#);
    let mut found = Vec::new();
    for _ in 0..2 {
        let ended = start("100KiB").end();
        found.extend(brief(&ended.records));
        let log = ended.failed(2);
        assert!(log.contains("xa_limit") && log.contains("XA RECOVER") && log.contains("102400"), "{log}");
    }
    assert_eq!(found, [before], "once, and then never again");
    let program = start("1MiB");
    program.wait_for_row(behind);
    db.execute(&format!("xa commit '{large}'; xa commit '{small}'"));
    let records = program.wait_for(1 + 2_000 + 100);
    assert_eq!(brief(&records[..1]), [behind]);
    let ids: Vec<u64> = records[1..].iter().map(|record| record["after"]["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (10_000..12_000).chain(1_000..1_100).collect::<Vec<_>>());
    assert_eq!(program.stop().ok().len(), 2_101);
}

/// Behind these 64 MiB each table may take 6 KiB: its definition in the history, its plan, its schema, what stores it.
const MANY_KIB: u64 = (64 << 10) + 6 * TABLES;
const TABLES: u64 = 5_000;

/// A definition, a plan and a schema of each table are kept, and nothing of what passes.
fn thousands_of_tables(version: Version) {
    let Some(server) = Server::own(version, &["innodb-file-per-table=OFF", "table-open-cache=400"]) else { return };
    let db = MySql::new(server.database("many"));
    let columns =
        "id int primary key, name varchar(50), amount decimal(10,2), at datetime(6), note text, kind enum('a','b')";
    std::thread::scope(|scope| {
        for part in 0..4 {
            let tables = (part..TABLES).step_by(4).map(|n| format!("create table t{n} ({columns});"));
            scope.spawn(|| db.server().sql(db.name(), &tables.collect::<String>()));
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let program = run(&db, &db.url(), dir.path(), "snapshot: never", "");
        eventually("it streams", || !db.connections(true).is_empty());
        program
    };
    let change = |sql: &dyn Fn(u64) -> String| db.execute(&(0..TABLES).map(sql).collect::<String>());
    let program = start();
    let mut found = 0;
    for round in 1..3 {
        change(&|n| format!("insert into t{n} (id, name, kind) values ({round}, 'number {n}', 'b');"));
        let records = program.wait_for(found + TABLES as usize);
        for (n, record) in records[found..].iter().enumerate() {
            let (table, id) = (record["table"].as_str(), record["after"]["id"].as_u64());
            assert_eq!((table, id), (Some(&*format!("t{n}")), Some(round)));
            assert_eq!(record["after"]["name"], format!("number {n}"));
        }
        found = records.len();
    }
    let peak = program.peak_kib();
    assert_eq!(program.stop().ok().len(), found);
    assert!(peak < MANY_KIB, "{}: {peak} KiB", version.name());
    // Another process knows them from the store.
    let program = start();
    change(&|n| format!("delete from t{n} where id = 1;"));
    let records = program.wait_for(TABLES as usize);
    assert!(records.iter().enumerate().all(|(n, record)| record["table"] == format!("t{n}") && record["op"] == "d"));
    let peak = program.peak_kib();
    assert_eq!(program.stop().ok().len(), TABLES as usize);
    assert!(peak < MANY_KIB, "{}: {peak} KiB at the second start", version.name());
}

#[test]
fn thousands_of_tables_fit_into_memory_mysql() {
    thousands_of_tables(Version::MySql97);
}

#[test]
fn thousands_of_tables_fit_into_memory_mariadb() {
    thousands_of_tables(Version::MariaDb118);
}

fn tables_may_have_thousands_of_columns(db: &MySql<'_>) {
    // The most that an engine takes: InnoDB, and one that takes what the server does.
    for (table, engine, columns) in [("narrower", "InnoDB", 1_016), ("wider", "MyISAM", 2_000)] {
        let list: Vec<String> =
            (0..columns).map(|n| format!("c{n} {}", ["tinyint", "char(3)", "bit(1)"][n % 3])).collect();
        db.execute(&format!("create table {table} (id int primary key, {}) engine = {engine}", list.join(",")));
    }
    let row = |id: usize, columns: usize| -> Vec<Option<usize>> {
        (0..columns).map(|n| (!(n + id).is_multiple_of(7)).then_some((n * id) % 2)).collect()
    };
    let sql = |row: &[Option<usize>]| {
        let value = |value: &Option<usize>| value.map_or("null".to_owned(), |value| value.to_string());
        row.iter().map(value).collect::<Vec<_>>().join(",")
    };
    let write = |id: usize| {
        for (table, columns) in [("narrower", 1_016), ("wider", 2_000)] {
            db.execute(&format!("insert into {table} values ({id}, {})", sql(&row(id, columns))));
        }
    };
    write(1);
    write(2);
    let stream = Stream::unstarted(db, &[]);
    let mut records = stream.run(&["--until", "current"]).ok();
    assert_eq!(records.len(), 4);
    write(3);
    write(4);
    db.execute("update narrower set c1015 = 5 where id = 4; update wider set c1999 = 5 where id = 4");
    records.extend(stream.changes());
    assert_eq!(records.len(), 10);
    for record in &records {
        let id = record["after"]["id"].as_u64().unwrap() as usize;
        let columns = if record["table"] == "narrower" { 1_016 } else { 2_000 };
        let mut expected = row(id, columns);
        if record["op"] == "u" {
            expected[columns - 1] = Some(5);
        }
        assert_eq!(record["after"].as_object().unwrap().len(), columns + 1);
        for (n, expected) in expected.iter().enumerate() {
            let value = &record["after"][format!("c{n}")];
            let found = match value {
                Value::String(text) => text.parse().ok(),
                Value::Bool(bit) => Some(u64::from(*bit)),
                value => value.as_u64(),
            };
            assert_eq!(found, expected.map(|value| value as u64), "c{n} of {record}: {value}");
        }
    }
}
