//! A table that is added with its present rows: to sinks, to consumers that are there, behind, away or nameless, and again
//! behind each crash.

use std::collections::BTreeMap;

use serde_json::Value;
use tempfile::TempDir;
use tonic::Code;

use super::admin_tables::Operator;
use super::{Db, Sidecar, on_each};
use crate::source::{Program, eventually};
use crate::support::{free_port, walbrook};

const TABLES: &str =
    "create table t (id int primary key, v varchar(40)); create table u (id int primary key, v varchar(3000))";
const SINKS: [&str; 2] = ["a", "b"];

/// A sidecar that streams `t` alone, with two file sinks.
fn start(db: &Db, port: u16, dir: TempDir) -> Sidecar {
    let source = format!("  tables: ['{}.t']\n  snapshot_workers: 1\n  snapshot_chunk: 1MiB\n", db.schema);
    let path = |name: &str| dir.path().join(format!("{name}.ndjson"));
    let sink = |name| format!("  - {{ name: {name}, type: file, path: {:?} }}\n", path(name));
    let sinks = format!("sinks:\n{}{}", sink("a"), sink("b"));
    Sidecar::start_with(db, &source, &sinks, port, dir)
}

/// What a reader has been told.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    /// Ids of `t`, as they came.
    t: Vec<i64>,
    /// The rows of `u`, as applied.
    u: BTreeMap<i64, String>,
    /// How often each row of `u` came with the snapshot.
    rows: BTreeMap<i64, usize>,
}

impl Told {
    fn hear(&mut self, record: &Value) {
        let Some(id) = record["key"]["id"].as_i64() else { return };
        if record["table"] == "t" {
            self.t.push(id);
            return;
        }
        if record["op"] == "r" {
            *self.rows.entry(id).or_default() += 1;
        }
        match record["after"]["v"].as_str() {
            Some(value) => self.u.insert(id, value.to_owned()),
            None => self.u.remove(&id),
        };
    }

    fn of<'r>(records: impl IntoIterator<Item = &'r Value>) -> Told {
        let mut told = Told::default();
        records.into_iter().for_each(|record| told.hear(record));
        told
    }

    fn has_last(&self, t: i64) -> bool {
        self.t.last() == Some(&t)
    }

    fn is(&self, t: &[i64], u: &BTreeMap<i64, String>) -> bool {
        self.t == t && self.u == *u
    }
}

/// Waits until a sink holds enough. Its file is read whole each time, and seldom, lest that is all the machine does.
#[track_caller]
fn holds(dir: &TempDir, sink: &str, enough: impl Fn(&Told) -> bool) {
    eventually("a sink has it", || {
        let enough = enough(&held(dir, sink));
        if !enough {
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        enough
    });
}

fn held(dir: &TempDir, sink: &str) -> Told {
    let text = std::fs::read_to_string(dir.path().join(format!("{sink}.ndjson"))).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let records: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    Told::of(&records)
}

/// Waits until a client has been told this, and nothing else of `t`; but for what it knows from the last time, which comes
/// again where only a part of the transaction had come to it.
#[track_caller]
fn hears(reader: &Program, t: &[i64], u: &BTreeMap<i64, String>) {
    let mut told = Told::default();
    reader.wait_until_one("what it is to hear", |record| {
        if record["table"] == "u" || record["key"]["id"].as_i64() >= t.first().copied() {
            told.hear(record);
        }
        told.is(t, u)
    });
}

fn insert(db: &Db, ids: std::ops::Range<i64>, v: &str) {
    let rows: Vec<String> = ids.map(|id| format!("({id}, '{v}')")).collect();
    db.sql(&format!("insert into u values {}", rows.join(", ")));
}

#[test]
fn everybody_gets_the_rows_of_an_added_table() {
    on_each("rows", |db| {
        db.sql(TABLES);
        insert(db, 1..41, "old");
        let sidecar = start(db, 0, tempfile::tempdir().expect("a folder"));
        let mut operator = Operator::of(&sidecar);
        let audit = sidecar.subscribe(&["--consumer", "audit"]);
        let nameless = sidecar.subscribe(&[]);
        let away = sidecar.subscribe(&["--consumer", "away"]);
        let all = [&audit, &nameless, &away];
        all.iter().for_each(|reader| reader.wait_for_log("subscribed"));
        db.sql("insert into t values (1, 'a')");
        all.iter().for_each(|reader| drop(reader.wait_for(1)));
        away.stop().ok();
        db.sql("insert into t values (2, 'b')");

        operator.pause("b", true).expect("to be paused");
        let refused = operator.add_with_rows(&db.schema, "u").unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert!(refused.message().contains(r#"sink "b" is paused"#), "{refused:?}");
        operator.pause("b", false).expect("to be resumed");
        assert_eq!(operator.owed(), BTreeMap::new());

        operator.add_with_rows(&db.schema, "u").expect("to be added");
        db.sql("update u set v = 'new' where id = 1; delete from u where id = 2; insert into t values (3, 'c')");
        insert(db, 41..43, "late");
        let mut u: BTreeMap<i64, String> = (3..41).map(|id| (id, "old".to_owned())).collect();
        u.extend([(1, "new".to_owned()), (41, "late".to_owned()), (42, "late".to_owned())]);
        for sink in SINKS {
            holds(&sidecar.dir, sink, |held| held.is(&[1, 2, 3], &u));
        }
        hears(&audit, &[1, 2, 3], &u);
        hears(&nameless, &[1, 2, 3], &u);
        let owed = |names: &[&str]| BTreeMap::from([("u".to_owned(), names.iter().map(|n| n.to_string()).collect())]);
        eventually("all that are there have them", || operator.owed() == owed(&["away"]));
        let away = sidecar.subscribe(&["--consumer", "away"]);
        hears(&away, &[2, 3], &u);
        eventually("nobody waits for them", || operator.owed() == owed(&[]));

        // Changes that follow are of everybody too, and nobody gets the rows once more.
        db.sql("delete from u where id = 1; insert into t values (4, 'd')");
        u.remove(&1);
        hears(&audit, &[1, 2, 3, 4], &u);
        hears(&away, &[2, 3, 4], &u);
        audit.stop().ok();
        away.stop().ok();
        nameless.stop().ok();
        let fresh = sidecar.subscribe(&["--consumer", "fresh", "--from", "latest"]);
        fresh.wait_for_log("subscribed");
        let audit = sidecar.subscribe(&["--consumer", "audit"]);
        audit.wait_for_log("subscribed");
        db.sql("insert into t values (5, 'e')");
        for reader in [&fresh, &audit] {
            hears(reader, &[5], &BTreeMap::new());
        }
        fresh.stop().ok();

        operator.remove(&db.schema, "u").expect("to be taken back");
        assert_eq!(operator.owed(), BTreeMap::new());
        for name in ["u", "t"] {
            let refused = operator.remove(&db.schema, name).unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        }
        db.sql("delete from u where id = 3; insert into t values (6, 'f')");
        hears(&audit, &[5, 6], &BTreeMap::new());
        for sink in SINKS {
            holds(&sidecar.dir, sink, |held| held.is(&[1, 2, 3, 4, 5, 6], &u));
        }
        // Again, with the rows that there are by now.
        operator.add_with_rows(&db.schema, "u").expect("to be added again");
        db.sql("insert into t values (7, 'g')");
        u.remove(&3);
        hears(&audit, &[5, 6, 7], &u);
        // That a row went while nobody looked, they cannot know.
        u.insert(3, "old".to_owned());
        for sink in SINKS {
            holds(&sidecar.dir, sink, |held| held.is(&[1, 2, 3, 4, 5, 6, 7], &u) && held.rows[&4] == 2);
        }
        audit.stop().ok();
        sidecar.program.stop().ok();
    });
}

const ROWS: i64 = 3_000;
const KILLS: i64 = 5;

/// The sidecar is killed within the rows, again and again, while they are changed.
#[test]
fn the_rows_of_an_added_table_survive_crashes() {
    on_each("rowcrash", |db| {
        db.sql(TABLES);
        let old = "o".repeat(1_200);
        for first in (0..ROWS).step_by(1_000) {
            insert(db, first..first + 1_000, &old);
        }
        let mut u: BTreeMap<i64, String> = (0..ROWS).map(|id| (id, old.clone())).collect();
        let mut sidecar = start(db, free_port(), tempfile::tempdir().expect("a folder"));
        // What it prints is not read at first: it cannot have acknowledged all of the rows when the first kill comes.
        let (read, gate) = std::sync::mpsc::channel();
        let mut command = walbrook();
        command.args(["subscribe", "--wait", &sidecar.address(), "--consumer", "audit"]);
        let mut audit = Program::start_unread(command, gate);
        audit.wait_for_log("subscribed");
        let mut told = Told::default();
        let mut operator = Operator::of(&sidecar);
        operator.add_with_rows(&db.schema, "u").expect("to be added");
        drop(operator);
        let mut changed = Vec::new();
        for round in 1..=KILLS {
            // Some way on from where it was.
            if round == 1 {
                holds(&sidecar.dir, "a", |held| held.rows.len() > 300);
                assert!(Operator::of(&sidecar).owed()["u"].iter().any(|name| name == "audit"));
                read.send(()).expect("it is to be read");
            } else if !told.has_last(round - 1) {
                let seen = told.rows.len();
                let mut new = 0;
                audit.wait_until_one("some rows, or what came before the last kill", |record| {
                    new += usize::from(record["op"] == "r");
                    (new >= 400 && seen + new < ROWS as usize)
                        || (record["table"] == "t" && record["key"]["id"] == round - 1)
                });
            }
            // Of those that came and of those that did not yet.
            for id in [round * 7, ROWS - round * 11] {
                db.sql(&format!("update u set v = 'new {round}' where id = {id}; delete from u where id = {}", id + 1));
                u.insert(id, format!("new {round}"));
                u.remove(&(id + 1));
                changed.extend([id, id + 1]);
            }
            db.sql(&format!("insert into t values ({round}, 'x')"));
            let (port, dir) = sidecar.killed();
            audit.signal("TERM");
            audit.end().records.iter().for_each(|record| told.hear(record));
            sidecar = start(db, port, dir);
            audit = sidecar.subscribe(&["--consumer", "audit"]);
        }
        let t: Vec<i64> = (1..=KILLS).collect();
        for sink in SINKS {
            holds(&sidecar.dir, sink, |held| held.is(&t, &u));
            let held = held(&sidecar.dir, sink);
            let twice = held.rows.iter().filter(|(id, times)| **times != 1 && !changed.contains(id));
            assert_eq!(
                twice.count(),
                0,
                "{sink}: rows came again that were finished: it is cut back to what is stored"
            );
        }
        let mut operator = Operator::of(&sidecar);
        eventually("the consumer has its rows", || operator.owed()["u"].is_empty());
        db.sql(&format!("insert into t values ({}, 'last')", KILLS + 1));
        audit.wait_until_one("the last change", |record| {
            told.hear(record);
            told.has_last(KILLS + 1)
        });
        let t: Vec<i64> = (1..=KILLS + 1).collect();
        let wrong = u.iter().find(|(id, value)| told.u.get(id) != Some(value));
        let more = told.u.keys().find(|id| !u.contains_key(id));
        assert_eq!((wrong, more), (None, None), "{changed:?}");
        let mut once = told.t.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once, t);
        audit.stop().ok();
        sidecar.program.stop().ok();
    });
}
