//! Any identifier, in every place where one stands.

use super::lines::{Follower, Object};
use super::oracle::PINS;
use crate::support::Server;

const LONGEST: &str = "sixty-three-bytes-of-name-with-a-dot.and-a-quote\"-and-a-blank x";

const NAMES: &[&str] = &[
    "id",
    "op",
    "db",
    "schema",
    "table",
    "key",
    "before",
    "after",
    "unchanged",
    "pos",
    "tx",
    "ord",
    "ts",
    "select",
    "user",
    "ctid2",
    "CamelCase",
    "with space",
    " around ",
    "dot.ted",
    "co,mma",
    "quo\"ted",
    "\"",
    "\"\"",
    "apo'strophe",
    "back\\slash",
    "\\N",
    "$1",
    "%s {} \u{1}\u{1f}\u{7f}",
    "new\nline",
    "tab\tand\rreturn",
    "*",
    "?",
    "(a)::text",
    "--comment",
    "/*",
    "ünïcödé",
    "é",
    "e\u{301}",
    "表",
    "😀",
    "\u{10ffff}",
    LONGEST,
];

fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn json(text: &str) -> String {
    serde_json::to_string(text).expect("a string")
}

#[test]
fn any_name_of_database_schema_table_column_and_type() {
    for server in Server::all() {
        let plain = server.database("names");
        for odd in ["back\\slash \"and\" 'quote'%20", "new\nline 😀"] {
            let name = format!("{} {odd}", plain.name());
            // In psql, a backslash within quotes is an ordinary character.
            server.psql("postgres", &format!("create database {} template template0 encoding 'UTF8'", ident(&name)));
            any_names(server, &name);
        }
        any_names(server, plain.name());
    }
}

/// The name within a URL.
fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn any_names(server: &Server, database: &str) {
    let url = server.url(&encoded(database));
    let columns: Vec<String> = NAMES.iter().map(|name| format!("{} text", ident(name))).collect();
    let mut sql = PINS.to_string();
    for (at, name) in NAMES.iter().enumerate() {
        // Every name is a schema, holds a table of that name, is a column, a type, a label and part of a key.
        let (schema, next) = (ident(name), ident(NAMES[(at + 1) % NAMES.len()]));
        sql += &format!(
            "create schema {schema};
             create type {schema}.{next} as enum ('{0}', 'other');
             create table {schema}.{schema} ({schema} text, {next} {schema}.{next}, primary key ({next}, {schema}));
             insert into {schema}.{schema} values ('{0}', '{0}');",
            name.replace('\'', "''")
        );
    }
    sql += &format!("create table public.wide ({});", columns.join(","));
    let values: Vec<String> = NAMES.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
    sql += &format!("insert into public.wide values ({});", values.join(","));
    let run = |sql: &str| server.try_psql(&url, sql).unwrap_or_else(|error| panic!("{error}\nin {sql}"));
    run(&sql);

    let follower = Follower::new(&url, &[]);
    let snapshot = follower.lines();
    assert_eq!(snapshot.len(), NAMES.len() + 1);
    let mut sql = PINS.to_string();
    for (at, name) in NAMES.iter().enumerate() {
        let (table, next) = (ident(name), ident(NAMES[(at + 1) % NAMES.len()]));
        sql += &format!("update {table}.{table} set {next} = 'other'; delete from {table}.{table};");
    }
    sql += &format!("insert into public.wide values ({});", values.join(","));
    run(&sql);
    let stream = follower.lines();
    assert_eq!(stream.len(), 2 * NAMES.len() + 1);

    let row = |name: &str, next: &str, label: &str| vec![(name.to_string(), json(name)), (next.into(), json(label))];
    let key = |name: &str, next: &str, label: &str| vec![(next.to_string(), json(label)), (name.into(), json(name))];
    let pairs = |object: &Option<Object>| -> Vec<(String, String)> {
        let object = object.as_ref().expect("an object");
        object.0.iter().map(|(name, value)| (name.clone(), normal(value.get()))).collect()
    };
    for line in snapshot.iter().chain(&stream) {
        assert_eq!(line.db, database);
    }
    for line in snapshot.iter().chain(&stream).filter(|line| line.table == "wide" && line.schema == "public") {
        let after = line.after.as_ref().expect("a row");
        assert_eq!(after.names(), NAMES);
        assert_eq!(pairs(&line.after), NAMES.iter().map(|n| (n.to_string(), json(n))).collect::<Vec<_>>());
    }
    for (at, name) in NAMES.iter().enumerate() {
        let next = NAMES[(at + 1) % NAMES.len()];
        let of = |op: &str| {
            let all = snapshot.iter().chain(&stream);
            let found: Vec<_> = all.filter(|l| l.op == op && l.schema == *name && l.table == *name).collect();
            assert_eq!(found.len(), 1, "{op} of {name:?}");
            found[0]
        };
        assert_eq!(pairs(&of("r").after), row(name, next, name));
        assert_eq!(pairs(&of("r").key), key(name, next, name));
        assert_eq!(pairs(&of("u").before), row(name, next, name));
        assert_eq!(pairs(&of("u").after), row(name, next, "other"));
        assert_eq!(pairs(&of("u").key), key(name, next, "other"));
        assert_eq!(pairs(&of("d").before), row(name, next, "other"));
        assert_eq!(pairs(&of("d").key), key(name, next, "other"));
    }
    let slots = "from pg_replication_slots where database = current_database()";
    run(&format!("select pg_drop_replication_slot(slot_name) {slots}"));
}

/// The same string always written the same way.
fn normal(raw: &str) -> String {
    json(&serde_json::from_str::<String>(raw).expect("a string"))
}

#[test]
fn selections_take_quoted_names() {
    let Some(server) = Server::all().last() else { return };
    let db = server.database("names");
    db.psql(
        "create schema \"a.b\"; create table \"a.b\".\"c,\"\"d*\" (id int, \"x.y\" int, z int);
             create table \"a.b\".\"c,\"\"dd\" (id int); insert into \"a.b\".\"c,\"\"d*\" values (1, 2, 3)",
    );
    let selection = ["--tables", r#""a.b"."c,""d*""#, "--exclude-columns", r#""a.b"."c,""d*"."x.y""#];
    let follower = Follower::new(&db.url(), &selection);
    let first = follower.lines();
    db.psql("insert into \"a.b\".\"c,\"\"d*\" values (1, 2, 3); insert into \"a.b\".\"c,\"\"dd\" values (1)");
    for line in first.iter().chain(&follower.lines()) {
        assert_eq!(line.table, "c,\"d*");
        assert_eq!(line.after.as_ref().map(|row| row.names()), Some(vec!["id", "z"]));
    }
    assert_eq!(first.len(), 1);
}
