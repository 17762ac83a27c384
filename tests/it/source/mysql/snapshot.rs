//! Snapshots in chunks, by keys of every kind, while rows change.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::{MySql, numbers, on_every_version};
use crate::source::Subject;
use crate::source::program::{assert_in_order, place, run, tail};
use crate::support::mysql::{Server, Version};

on_every_version!(every_kind_of_key, rows_that_change_meanwhile);

/// MariaDB logs the SAVEPOINT of a transaction that is committed, though it has read only.
#[test]
fn a_snapshot_leaves_nothing_in_the_log() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &[]) else { continue };
        let db = MySql::new(server.database("quiet"));
        db.execute("create table t (id int primary key); insert into t values (1), (2)");
        let statement = if version.is_mariadb() { "show master status" } else { "show binary log status" };
        let before = db.query(statement);
        let rows = tail(&db, &["--snapshot", "only"]).end().ok();
        assert_eq!(rows.len(), 2);
        assert_eq!(db.query(statement), before, "{version:?}");
    }
}

/// Rows of about 1 KiB: two or more chunks of the least size, 1 MiB.
const ROWS: u32 = 3000;

/// A table's columns and key, and the key's SQL from a number `n`.
pub(super) struct Keyed {
    pub(super) columns: &'static str,
    pub(super) key: &'static str,
    pub(super) values: &'static str,
}

const fn keyed(columns: &'static str, key: &'static str, values: &'static str) -> Keyed {
    Keyed { columns, key, values }
}

const KEYS: [Keyed; 24] = [
    keyed("k bigint", "primary key (k)", "n * 7 - 9000"),
    keyed("k bigint unsigned", "primary key (k)", "18446744073709551615 - n"),
    keyed("k mediumint", "primary key (k desc)", "n - 1500"),
    keyed("k decimal(30,5)", "primary key (k)", "(n - 1500) * 1.5"),
    keyed("k double", "primary key (k)", "(n - 1500) / 7e0"),
    keyed(
        "k varchar(40) character set utf8mb4 collate utf8mb4_general_ci",
        "primary key (k)",
        "concat(if(n % 2, 'k', 'K'), n)",
    ),
    keyed(
        "k varchar(40) character set utf8mb4 collate utf8mb4_bin",
        "primary key (k)",
        "concat(if(n % 2, 'ä', 'Z'), n)",
    ),
    keyed(
        "k char(20) character set latin1 collate latin1_german1_ci",
        "primary key (k)",
        "concat(if(n % 2, 'Ä', 'a'), n)",
    ),
    keyed("k varchar(40) character set gbk", "primary key (k)", "concat('中', n)"),
    keyed("k varchar(60)", "primary key (k)", "concat('\\'\"\\\\', char(0 using utf8mb4), '%_', n)"),
    keyed("k varchar(200)", "primary key (k(40))", "concat(n, repeat(' same', 20))"),
    keyed("k varbinary(20)", "primary key (k)", "unhex(substr(sha2(n, 256), 1, 40))"),
    keyed("k binary(16)", "primary key (k)", "unhex(substr(sha2(n, 256), 1, 32))"),
    keyed("k date", "primary key (k)", "'2000-01-01' + interval n day"),
    keyed("k datetime(6)", "primary key (k)", "'1999-12-31 23:59:59.999' + interval n * 17 microsecond"),
    keyed("k timestamp(6)", "primary key (k)", "'2024-03-31 00:00:00' + interval n * 3 second"),
    keyed("k time(3)", "primary key (k)", "sec_to_time((n - 1500) * 1.5)"),
    keyed("k bit(40)", "primary key (k)", "n * 1000003"),
    keyed("a enum('z', 'a', 'm'), k int", "primary key (a, k)", "elt(1 + n % 3, 'm', 'z', 'a'), n"),
    keyed("a set('z', 'a', 'm'), k int", "primary key (a, k)", "n % 8, n"),
    keyed(
        "a varchar(20), b date, k int",
        "primary key (b, a, k)",
        "concat('A', n % 7), '2024-01-01' + interval n % 11 day, n",
    ),
    keyed("k int not null, u varchar(20) not null", "unique (u), unique (k)", "n, concat('u', n)"),
    keyed("k int", "key (k)", "n % 100"),
    keyed("k int not null auto_increment", "primary key (k)", "n + 1"),
];

const OF_MARIADB: [Keyed; 2] =
    [keyed("k inet6", "primary key (k)", "concat('2001:db8::', hex(n))"), keyed("k uuid", "primary key (k)", "uuid()")];

pub(super) fn keys(version: Version) -> impl Iterator<Item = &'static Keyed> {
    let own = match version {
        Version::MySql97 => 0,
        Version::MariaDb105 => 1,
        Version::MariaDb1011 | Version::MariaDb118 => 2,
    };
    KEYS.iter().chain(&OF_MARIADB[..own])
}

fn every_kind_of_key(db: &MySql<'_>) {
    let mut tables = 0;
    let padding = "repeat('x', 1000)";
    for (at, Keyed { columns, key, values }) in keys(db.version()).enumerate() {
        db.execute(&format!(
            "set sql_mode = ''; create table t{at} ({columns}, n int, padding varchar(1000), {key});
             insert into t{at} select {values}, n, {padding} from ({}) numbers",
            numbers(ROWS)
        ));
        tables += 1;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = run(db, &db.url(), dir.path(), "snapshot_workers: 2, snapshot_chunk: 1MiB", "");
    let rows = tables * ROWS as usize;
    program.wait_for(rows);
    let records = program.stop().ok();
    assert_eq!(records.len(), rows);
    let mut found: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for record in &records {
        assert_eq!(record["op"], "r");
        found.entry(record["table"].as_str().unwrap()).or_default().push(record["after"]["n"].as_u64().unwrap());
    }
    let mut wrong = Vec::new();
    for (at, Keyed { columns, .. }) in keys(db.version()).enumerate() {
        let numbers = found.get_mut(format!("t{at}").as_str()).map(std::mem::take).unwrap_or_default();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        if sorted != (0..u64::from(ROWS)).collect::<Vec<_>>() {
            wrong.push(format!("{columns}: {} rows", numbers.len()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What the snapshot and the changes behind it make of a table is what is in it.
fn rows_that_change_meanwhile(db: &MySql<'_>) {
    db.execute(&format!(
        "create table t (id int primary key, v int, padding varchar(1000));
         insert into t select n, 0, repeat('x', 1000) from ({}) numbers",
        numbers(20_000)
    ));
    let dir = tempfile::tempdir().unwrap();
    let mut session = db.session();
    let records = std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut random = StdRng::seed_from_u64(1);
            for round in 0..400 {
                let id = random.random_range(0..20_000);
                session.execute(&format!(
                    "update t set v = v + 1 where id between {id} and {id} + 5; delete from t where id = {id} + 7;
                     insert into t values (20000 + {round}, {round}, '')"
                ));
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        let program = run(db, &db.url(), dir.path(), "snapshot_workers: 2, snapshot_chunk: 1MiB", "");
        writer.join().unwrap();
        db.execute("insert into t values (1000000, 0, 'last')");
        program.wait_until_one("the last row", |record| record["after"]["id"] == 1_000_000);
        program.stop().ok()
    });
    // Rows of a snapshot come as its workers read them, before everything of the log.
    let rows = records.iter().take_while(|record| record["op"] == "r").count();
    let changes = &records[rows - 1..];
    assert!(changes.len() > 1 && changes[1..].iter().all(|record| record["op"] != "r"));
    assert!(place(&changes[0]["pos"]) < place(&changes[1]["pos"]));
    assert_in_order(&changes[1..]);
    let mut table: BTreeMap<u64, u64> = BTreeMap::new();
    let number = |row: &Value, name: &str| row[name].as_u64().unwrap();
    for record in &records {
        let id = number(&record["key"], "id");
        let was = match record["op"].as_str().unwrap() {
            "r" | "c" => table.insert(id, number(&record["after"], "v")).is_none(),
            "u" => table.insert(id, number(&record["after"], "v")) == record["before"]["v"].as_u64(),
            "d" => table.remove(&id) == record["before"]["v"].as_u64(),
            _ => true,
        };
        assert!(was, "not what the row was before: {record}");
    }
    let there = db.query("select id, v from t order by id");
    let found: Vec<String> = table.iter().map(|(id, v)| format!("{id}|{v}")).collect();
    assert!(there == found.join("\n"), "{} rows, {} found", there.lines().count(), found.len());
    assert!(records.iter().any(|record| record["op"] == "r") && records.iter().any(|record| record["op"] == "u"));
}
