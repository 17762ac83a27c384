//! Tables of every build: no columns and 1,600 of them, without keys, with columns that come, go and are computed.

use super::lines::{Follower, Line, Object};
use crate::support::{Database, Server, Version};

fn start(db: &Database<'_>, sql: &str) -> (Follower, Vec<Line>) {
    db.psql(sql);
    let follower = Follower::new(&db.url(), &[]);
    let snapshot = follower.lines();
    (follower, snapshot)
}

fn text(object: &Option<Object>) -> String {
    let Some(object) = object else { return "null".into() };
    let pairs: Vec<String> = object.0.iter().map(|(name, value)| format!("{name}={}", value.get())).collect();
    pairs.join(" ")
}

/// `u t key | before | after`, in brief.
fn brief(line: &Line) -> String {
    let unchanged = if line.unchanged.is_empty() { String::new() } else { format!(" | {}", line.unchanged.join(",")) };
    let (key, before, after) = (text(&line.key), text(&line.before), text(&line.after));
    format!("{} {} {key} | {before} | {after}{unchanged}", line.op, line.table)
}

fn briefs(lines: &[Line]) -> Vec<String> {
    lines.iter().map(brief).collect()
}

#[test]
fn as_many_columns_as_there_can_be() {
    for server in Server::all() {
        let db = server.database("wide");
        let columns: Vec<String> = (1..=1600).map(|n| format!("c{n} smallint")).collect();
        let values: Vec<String> = (1..=1600).map(|n| if n % 7 == 0 { "null".into() } else { n.to_string() }).collect();
        let insert = format!("insert into wide values ({});", values.join(","));
        let sql =
            format!("create table wide ({}); alter table wide replica identity full; {insert}", columns.join(","));
        let (follower, mut lines) = start(&db, &sql);
        db.psql(&format!("{insert} update wide set c1600 = -1; delete from wide"));
        lines.extend(follower.lines());
        assert_eq!(lines.iter().map(|line| line.op.as_str()).collect::<String>(), "rcuudd");
        for line in &lines {
            for (new, object) in [(false, &line.before), (true, &line.after)] {
                let Some(object) = object else { continue };
                let changed = if line.op == "d" || (line.op == "u" && new) { "-1" } else { "1600" };
                let expected: Vec<(String, &str)> = (1..=1600)
                    .map(|n| (format!("c{n}"), if n == 1600 { changed } else { values[n - 1].as_str() }))
                    .collect();
                let found: Vec<(String, &str)> = object.0.iter().map(|(name, raw)| (name.clone(), raw.get())).collect();
                assert!(expected == found, "{}", brief(line));
            }
        }
    }
}

/// A table without columns has nothing to deliver and is left out.
#[test]
fn no_columns_no_rows_no_keys() {
    for server in Server::all() {
        let db = server.database("bare");
        let (follower, snapshot) = start(
            &db,
            "create table none (); alter table none replica identity full; insert into none default values;
             insert into none default values;
             create table empty (id int primary key, t text);
             create table keyless (a int, b text); insert into keyless values (1, 'x'), (1, 'x'), (null, null);
             create table silent (id int primary key, b text); alter table silent replica identity nothing;
             insert into silent values (1, 'x')",
        );
        let mut found = briefs(&snapshot);
        found.sort();
        assert_eq!(
            found,
            [
                "r keyless null | null | a=1 b=\"x\"",
                "r keyless null | null | a=1 b=\"x\"",
                "r keyless null | null | a=null b=null",
                "r silent null | null | id=1 b=\"x\"",
            ]
        );
        db.psql(
            "insert into none default values; insert into keyless values (2, 'y'); insert into silent values (2, null);
                 insert into empty values (1, ''); truncate none, keyless; insert into keyless default values;
                 alter table keyless replica identity full; update keyless set a = 3; delete from keyless",
        );
        let found = briefs_of_rows(&follower);
        assert_eq!(
            found,
            [
                "c keyless null | null | a=2 b=\"y\"",
                "c silent null | null | id=2 b=null",
                "c empty id=1 | null | id=1 t=\"\"",
                "c keyless null | null | a=null b=null",
                "u keyless null | a=null b=null | a=3 b=null",
                "d keyless null | a=3 b=null | null",
            ]
        );
    }
}

/// Inserts, updates and deletes that are new.
fn briefs_of_rows(follower: &Follower) -> Vec<String> {
    let text = follower.text();
    let rows =
        text.lines().filter(|line| ["c", "u", "d"].iter().any(|op| line.starts_with(&format!("{{\"op\":\"{op}\""))));
    rows.map(|line| brief(&Line::parse(line))).collect()
}

#[test]
fn columns_that_are_computed_dropped_added_and_numbered() {
    for server in Server::all() {
        let db = server.database("columns");
        let generated = if server.version() == Version::V18 {
            "g1 int generated always as (id * 2) stored, g2 int generated always as (id * 3) virtual"
        } else {
            "g1 int generated always as (id * 2) stored"
        };
        let (follower, snapshot) = start(
            &db,
            &format!(
                "create table t (gone1 text default 'g', id int generated always as identity primary key, {generated},
                                 gone2 int, name text, serial bigserial);
                 alter table t replica identity full;
                 insert into t (name) values ('one'), ('two');
                 alter table t drop column gone1, drop column gone2;
                 alter table t add column added text default 'é default', add column later timestamptz default '2026-11-21 00:00Z';
                 insert into t (name, added) values ('three', null);"
            ),
        );
        let row = |id: i32, name: &str, added: &str| {
            format!("id={id} name=\"{name}\" serial={id} added={added} later=\"2026-11-21T00:00:00.000000Z\"")
        };
        let default = "\"é default\"";
        let mut found = briefs(&snapshot);
        found.sort();
        assert_eq!(
            found,
            [
                format!("r t id=1 | null | {}", row(1, "one", default)),
                format!("r t id=2 | null | {}", row(2, "two", default)),
                format!("r t id=3 | null | {}", row(3, "three", "null")),
            ]
        );
        // From 18 on the server refuses updates under FULL where a generated column is not published (`check` warns).
        let full = server.version() != Version::V18;
        if !full {
            db.psql("alter table t replica identity default");
        }
        db.psql(
            "insert into t (name) values ('four'); update t set name = 'uno' where id = 1; delete from t where id = 2;
                 alter table t alter column added set default 'other', drop column serial, add column n int default 5;
                 update t set name = 'dos' where id = 1; insert into t (name) values ('five')",
        );
        let before = |row: String| if full { row } else { "null".to_owned() };
        let new = |id: i32, name: &str, added: &str| {
            format!("id={id} name=\"{name}\" added={added} later=\"2026-11-21T00:00:00.000000Z\" n=5")
        };
        assert_eq!(
            briefs_of_rows(&follower),
            [
                format!("c t id=4 | null | {}", row(4, "four", default)),
                format!("u t id=1 | {} | {}", before(row(1, "one", default)), row(1, "uno", default)),
                format!("d t id=2 | {} | null", if full { row(2, "two", default) } else { "id=2".to_owned() }),
                format!("u t id=1 | {} | {}", before(new(1, "uno", default)), new(1, "dos", default)),
                format!("c t id=5 | null | {}", new(5, "five", "\"other\"")),
            ]
        );
    }
}

#[test]
fn keys_by_index_and_by_change() {
    for server in Server::all() {
        let db = server.database("keys");
        let (follower, snapshot) = start(
            &db,
            "create table i (id int primary key, a int not null, v text, b text not null);
             create unique index by on i (b, a); alter table i replica identity using index by;
             insert into i values (1, 1, 'v', 'b');
             create table d (z text, a int, b int, primary key (b, a)); insert into d values ('z', 1, 2);",
        );
        let mut found = briefs(&snapshot);
        found.sort();
        assert_eq!(
            found,
            ["r d b=2 a=1 | null | z=\"z\" a=1 b=2", "r i b=\"b\" a=1 | null | id=1 a=1 v=\"v\" b=\"b\""]
        );
        db.psql(
            "update i set v = 'w'; update i set id = 2; update i set b = 'c'; delete from i;
                 update d set z = 'y'; update d set a = 5; delete from d",
        );
        assert_eq!(
            briefs_of_rows(&follower),
            [
                "u i b=\"b\" a=1 | null | id=1 a=1 v=\"w\" b=\"b\"",
                "u i b=\"b\" a=1 | null | id=2 a=1 v=\"w\" b=\"b\"",
                "u i b=\"c\" a=1 | a=1 b=\"b\" | id=2 a=1 v=\"w\" b=\"c\"",
                "d i b=\"c\" a=1 | a=1 b=\"c\" | null",
                "u d b=2 a=1 | null | z=\"y\" a=1 b=2",
                "u d b=2 a=5 | a=1 b=2 | z=\"y\" a=5 b=2",
                "d d b=2 a=5 | a=5 b=2 | null",
            ]
        );
    }
}

/// Values that are stored aside and not sent again when they did not change.
#[test]
fn unchanged_toast_is_named_or_filled_from_the_old_row() {
    for server in Server::all() {
        let db = server.database("toast");
        let columns = "id int primary key, n int, t text, b bytea, j jsonb, a text[], x numeric";
        let storage = "alter table T alter t set storage external, alter b set storage external;";
        let wide = "select 1, 0, repeat('é', 20000), decode(repeat('00ff', 20000), 'hex'),
                    (select jsonb_agg(md5(i::text)) from generate_series(1, 2000) i),
                    (select array_agg(md5(i::text)) from generate_series(1, 2000) i),
                    (select string_agg(i::text, '') from generate_series(1, 10000) i)::numeric";
        let make = |table: &str| {
            let storage = storage.replace('T', table);
            format!("create table {table} ({columns}); {storage} insert into {table} {wide};")
        };
        let sql = format!("{} {} alter table whole replica identity full;", make("plain"), make("whole"));
        let (follower, snapshot) = start(&db, &sql);
        assert_eq!(snapshot.len(), 2);
        let toasted = ["t", "b", "j", "a", "x"];
        let of = |object: &Option<Object>, name: &str| {
            object.as_ref().and_then(|row| row.get(name)).map(str::to_owned).unwrap_or_default()
        };
        let whole = |name: &str| of(&snapshot[0].after, name);
        for name in toasted {
            assert!(whole(name).len() > 20_000 && whole(name) == of(&snapshot[1].after, name), "{name}");
        }
        db.psql(
            "update plain set n = 1; update plain set t = 'short', n = 2; update plain set id = 2;
                 update whole set n = 1; update whole set t = 'short'; delete from plain; delete from whole",
        );
        let lines = follower.lines();
        let found: Vec<String> =
            lines.iter().map(|line| format!("{}{} {}", line.op, line.table, line.unchanged.join(","))).collect();
        assert_eq!(
            found,
            ["uplain t,b,j,a,x", "uplain b,j,a,x", "uplain b,j,a,x", "uwhole ", "uwhole ", "dplain ", "dwhole "]
        );
        assert_eq!(text(&lines[0].after), "id=1 n=1");
        assert_eq!(text(&lines[1].after), "id=1 n=2 t=\"short\"");
        assert_eq!(brief(&lines[2]), "u plain id=2 | id=1 | id=2 n=2 t=\"short\" | b,j,a,x");
        for name in toasted {
            assert!(of(&lines[3].before, name) == whole(name) && of(&lines[3].after, name) == whole(name), "{name}");
            assert!(of(&lines[4].before, name) == whole(name), "{name}");
        }
        assert_eq!(of(&lines[4].after, "t"), "\"short\"");
        for name in &toasted[1..] {
            assert!(of(&lines[4].after, name) == whole(name) && of(&lines[6].before, name) == whole(name), "{name}");
        }
    }
}
