//! Every built-in type with its edge values, by every way a row can come.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::lines::{Follower, Line};
use super::oracle::{self, Expected, PINS};
use super::types::{self, Entry};
use crate::support::{Server, Version};

/// Copied rows have the original's `id` and this much more.
const COPIES: i64 = 1_000_000;

#[test]
fn every_type_on_15() {
    every_type(Version::V15, &[]);
}

#[test]
fn every_type_on_17() {
    every_type(Version::V17, &[]);
}

#[test]
fn every_type_on_18() {
    every_type(Version::V18, &[]);
}

/// Compares all types in a new database with these settings of its own (`name = value`).
pub fn every_type(version: Version, settings: &[&str]) {
    let Some(server) = Server::get(version) else { return };
    let db = server.database("exact");
    let entries = types::entries(version);
    db.psql(&setup(&entries));
    for setting in settings {
        db.psql(&format!(r#"alter database "{}" set {setting}"#, db.name()));
    }
    let follower = Follower::new(&db.url(), &["--snapshot-workers", "2"]);
    let columns: Vec<_> = entries.iter().enumerate().map(|(at, e)| (name(at), "v".to_owned(), &e.kind)).collect();
    let first = oracle::columns(&db, &columns);
    let snapshot = by_table(follower.lines());

    db.psql(&changes(&entries));
    let second = oracle::columns(&db, &columns);
    db.psql(&deletes(&entries));
    let stream = by_table(follower.lines());

    let mut wrong = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let table = format!("t{at}");
        let mut check = |what: &str, line: &Line, expected: &BTreeMap<i64, Expected>, object| {
            let raw = value(object, "v").unwrap_or("(absent)");
            let id: i64 = value(object, "id").and_then(|id| id.parse().ok()).expect("an id");
            let expected = expected.get(&id).or(expected.get(&(id % COPIES))).expect("a row with this id");
            if !expected.is(raw) {
                wrong.push(format!(
                    "{} {what} of {id}: {raw:.300} is not {:.300}",
                    entry.name,
                    format!("{expected:?}")
                ));
            }
            if !line.unchanged.is_empty() {
                wrong.push(format!("{} {what} of {id}: unchanged {:?}", entry.name, line.unchanged));
            }
        };
        let rows = snapshot.get(&table).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(rows.len(), first[at].len(), "snapshot rows of {}", entry.name);
        for line in rows {
            assert_eq!((line.op.as_str(), line.before.is_none()), ("r", true));
            check("the snapshot", line, &first[at], &line.after);
        }
        let count = first[at].len();
        let mut counts = BTreeMap::new();
        for line in stream.get(&table).map(Vec::as_slice).unwrap_or_default() {
            let nth = counts.entry(line.op.clone()).or_insert(0);
            *nth += 1;
            match line.op.as_str() {
                "c" => check("the insert", line, &first[at], &line.after),
                // The first round of updates leaves the value as it is.
                "u" if *nth <= count => {
                    check("the old row of an update", line, &first[at], &line.before);
                    check("the new row of an update without it", line, &first[at], &line.after);
                }
                "u" => {
                    check("the old row of its update", line, &first[at], &line.before);
                    check("the new row of its update", line, &second[at], &line.after);
                }
                "d" => check("the delete", line, &second[at], &line.before),
                op => panic!("{op} on {}", entry.name),
            }
        }
        let counts: Vec<_> = counts.into_iter().collect();
        let all = [("c".to_string(), count), ("d".to_string(), 2 * count), ("u".to_string(), 2 * count)];
        assert_eq!(counts, all, "events of {}", entry.name);
    }
    assert!(wrong.is_empty(), "{} wrong on {version:?} {settings:?}:\n{}", wrong.len(), wrong.join("\n"));
    drop(db);
}

fn value<'l>(object: &'l Option<super::lines::Object>, name: &str) -> Option<&'l str> {
    object.as_ref()?.get(name)
}

fn by_table(lines: Vec<Line>) -> BTreeMap<String, Vec<Line>> {
    let mut tables: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for line in lines {
        tables.entry(line.table.clone()).or_default().push(line);
    }
    tables
}

fn name(at: usize) -> String {
    format!("x.t{at}")
}

/// A table a type, a row a value, and one row of NULL where the type has it.
fn setup(entries: &[Entry]) -> String {
    let mut sql = format!("{PINS}{}", types::SETUP);
    for (at, entry) in entries.iter().enumerate() {
        let (table, ty) = (name(at), &entry.name);
        let _ = writeln!(sql, "create table {table} (id int primary key, v {ty}, n int default 0);");
        let _ = writeln!(sql, "alter table {table} replica identity full;");
        let nulls = (!entry.not_null).then(|| "null".to_string());
        for (id, value) in (1..).zip(entry.values.iter().cloned().chain(nulls)) {
            let _ = writeln!(sql, "insert into {table} values ({id}, ({value})::{ty});");
        }
    }
    sql
}

/// Inserts every row again, updates another column of the first ones, then gives each the next one's value.
fn changes(entries: &[Entry]) -> String {
    let mut sql = format!("{PINS}begin;\n");
    for at in 0..entries.len() {
        let table = name(at);
        let _ = writeln!(
            sql,
            "update {table} set n = n + 1;
             insert into {table} select id + {COPIES}, v from {table};
             update {table} a set v = b.v from {table} b, (select count(*) as rows from {table} where id < {COPIES}) c
             where a.id < {COPIES} and b.id = a.id % c.rows + 1;"
        );
    }
    sql + "commit;\n"
}

fn deletes(entries: &[Entry]) -> String {
    let deletes: Vec<String> = (0..entries.len()).map(|at| format!("delete from {};", name(at))).collect();
    deletes.join("\n")
}
