//! Tables: what there is, and what is added while the stream goes on.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Code, Status};
use walbrook::proto::v1;
use walbrook::proto::v1::admin_client::AdminClient;

use super::{Db, Sidecar, on_each};
use crate::source::{PATIENCE, eventually};
use crate::support::free_port;

/// An operator of a running sidecar.
pub(super) struct Operator {
    runtime: Runtime,
    admin: AdminClient<Channel>,
}

impl Operator {
    pub(super) fn of(sidecar: &Sidecar) -> Operator {
        let (runtime, channel) = sidecar.connect();
        Operator { runtime, admin: AdminClient::new(channel) }
    }

    fn add(&mut self, namespace: &str, name: &str) -> Result<v1::AddTableResponse, Status> {
        self.adds(namespace, name, false)
    }

    /// Its present rows come first.
    pub(super) fn add_with_rows(&mut self, namespace: &str, name: &str) -> Result<v1::AddTableResponse, Status> {
        self.adds(namespace, name, true)
    }

    fn adds(&mut self, namespace: &str, name: &str, snapshot: bool) -> Result<v1::AddTableResponse, Status> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let request = v1::AddTableRequest { namespace, name, snapshot };
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.runtime.block_on(self.admin.add_table(request.clone()));
            // The sidecar has less patience than we.
            if !answer.as_ref().is_err_and(|status| status.code() == Code::Unavailable)
                || std::time::Instant::now() > deadline
            {
                return answer.map(tonic::Response::into_inner);
            }
        }
    }

    pub(super) fn remove(&mut self, namespace: &str, name: &str) -> Result<(), Status> {
        let request = v1::RemoveTableRequest { namespace: namespace.to_owned(), name: name.to_owned() };
        self.runtime.block_on(self.admin.remove_table(request)).map(drop)
    }

    pub(super) fn pause(&mut self, sink: &str, paused: bool) -> Result<(), Status> {
        let member = Some(v1::Member { member: Some(v1::member::Member::Sink(sink.to_owned())) });
        match paused {
            true => self.runtime.block_on(self.admin.pause(v1::PauseRequest { member })).map(drop),
            false => self.runtime.block_on(self.admin.resume(v1::ResumeRequest { member })).map(drop),
        }
    }

    /// Who is still to be given rows of what tables.
    pub(super) fn owed(&mut self) -> BTreeMap<String, Vec<String>> {
        let status = self.runtime.block_on(self.admin.get_status(v1::GetStatusRequest {})).expect("a status");
        let added = status.into_inner().source.expect("a source").added_tables.into_iter();
        let name = |member: v1::Member| match member.member.expect("a member") {
            v1::member::Member::Sink(name) | v1::member::Member::Consumer(name) => name,
        };
        added.map(|table| (table.name, table.owed_to.into_iter().map(name).collect())).collect()
    }

    fn tables(&mut self) -> BTreeMap<String, v1::Table> {
        let listed = self.runtime.block_on(self.admin.list_tables(v1::ListTablesRequest::default())).expect("tables");
        let name = |table: &v1::Table| table.schema.as_ref().expect("a shape").name.clone();
        listed.into_inner().tables.into_iter().map(|table| (name(&table), table)).collect()
    }
}

/// A sidecar that streams `t` alone, with a file sink. `source`: further keys of that part, in lines of YAML.
fn start(db: &Db, source: &str, port: u16, dir: tempfile::TempDir) -> Sidecar {
    let source = format!("  tables: ['{}.t']\n{source}", db.schema);
    let sinks = format!("sinks:\n  - {{ name: a, type: file, path: {:?} }}\n", dir.path().join("a.ndjson"));
    Sidecar::start_with(db, &source, &sinks, port, dir)
}

/// Of the sink's file: table and id of each whole record of a row.
fn held(sidecar: &Sidecar) -> Vec<(String, i64)> {
    let text = std::fs::read_to_string(sidecar.dir.path().join("a.ndjson")).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(|line| row(&serde_json::from_str(line).expect("a record"))).collect()
}

/// The last of [`held`].
fn last_held(sidecar: &Sidecar) -> Option<(String, i64)> {
    let text = std::fs::read_to_string(sidecar.dir.path().join("a.ndjson")).unwrap_or_default();
    let (whole, _) = text.rsplit_once('\n')?;
    whole.lines().rev().find_map(|line| row(&serde_json::from_str(line).expect("a record")))
}

fn row(record: &Value) -> Option<(String, i64)> {
    Some((record["table"].as_str()?.to_owned(), record["key"]["id"].as_i64()?))
}

fn rows(of: &[(&str, i64)]) -> Vec<(String, i64)> {
    of.iter().map(|(table, id)| ((*table).to_owned(), *id)).collect()
}

const TABLES: &str =
    "create table t (id int primary key, v varchar(40)); create table u (id bigint primary key, at date)";

#[test]
fn a_table_is_added_and_the_others_do_not_notice() {
    on_each("adds", |db| {
        db.sql(TABLES);
        db.sql("create view w as select * from u; insert into t values (1, 'a'); insert into u values (1, null)");
        let sidecar = start(db, "", free_port(), tempfile::tempdir().expect("a folder"));
        let mut operator = Operator::of(&sidecar);
        let reader = sidecar.subscribe(&["--consumer", "audit"]);
        reader.wait_for_log("subscribed");
        db.sql("insert into u values (2, null); insert into t values (2, 'b')");
        reader.wait_for(1);
        let before = operator.tables();
        assert_eq!(before.keys().collect::<Vec<_>>(), ["t"]);
        let columns = &before["t"].schema.as_ref().expect("a shape").columns;
        let kind = |at: usize| columns[at].r#type.as_ref().expect("a type");
        assert_eq!((kind(0).kind(), kind(0).bits, kind(1).kind()), (v1::TypeKind::Integer, 32, v1::TypeKind::Text));

        for (name, code) in [("none", Code::NotFound), ("t", Code::FailedPrecondition), ("w", Code::FailedPrecondition)]
        {
            let refused = operator.add(&db.schema, name).unwrap_err();
            assert_eq!(refused.code(), code, "{name}: {refused:?}");
        }
        let added = operator.add(&db.schema, "u").expect("to be added");
        let schema = added.schema.expect("a shape");
        assert_eq!((schema.name.as_str(), schema.columns.len(), schema.key), ("u", 2, vec![0]));
        assert!(added.from.is_some());
        db.sql("insert into u values (3, '2026-01-02'); insert into t values (3, 'c')");
        let came: Vec<_> = reader.wait_for(3).iter().filter_map(row).collect();
        assert_eq!(came, rows(&[("t", 2), ("u", 3), ("t", 3)]));
        let expected = rows(&[("t", 1), ("t", 2), ("u", 3), ("t", 3)]);
        eventually("the sink has it", || held(&sidecar) == expected);
        let after = operator.tables();
        assert_eq!(after.keys().collect::<Vec<_>>(), ["t", "u"]);
        assert_eq!(after["u"].events, 1);
        assert_eq!(operator.add(&db.schema, "u").unwrap_err().code(), Code::FailedPrecondition);

        // Its present rows are for whoever begins with them.
        let pattern = format!("{}.u", db.schema);
        let reading = ["--from", "snapshot", "--tables", &pattern, "--until", "current"];
        let mut present: Vec<_> = sidecar.subscribe(&reading).end().ok().iter().filter_map(row).collect();
        present.sort();
        assert_eq!(present, rows(&[("u", 1), ("u", 2), ("u", 3)]));

        // Behind a crash too, with the same configuration.
        drop(operator);
        let (port, dir) = sidecar.killed();
        drop(reader);
        db.sql("insert into u values (4, null)");
        let sidecar = start(db, "", port, dir);
        eventually("it goes on", || held(&sidecar).ends_with(&rows(&[("u", 4)])));
        let mut all = held(&sidecar);
        all.dedup();
        assert_eq!(all, [expected, rows(&[("u", 4)])].concat());
        let reader = sidecar.subscribe(&["--consumer", "audit"]);
        reader.wait_until_one("what was behind the crash", |record| row(record) == Some(("u".into(), 4)));
        reader.stop().ok();
        sidecar.program.stop().ok();
    });
}

/// Rows of `u` in each transaction, which also has one of `t`.
const ROWS: i64 = 3;
const TRANSACTIONS: i64 = 400;
/// So many of them are one script.
const SCRIPT: usize = 20;

#[test]
fn a_table_that_is_added_under_load_begins_with_a_whole_transaction() {
    on_each("loaded", |db| {
        db.sql(TABLES);
        let sidecar = start(db, "", 0, tempfile::tempdir().expect("a folder"));
        let mut operator = Operator::of(&sidecar);
        let reader = sidecar.subscribe(&["--consumer", "audit"]);
        reader.wait_for_log("subscribed");
        let (go, begin) = std::sync::mpsc::channel();
        let schema = db.schema.clone();
        let adding = std::thread::spawn(move || {
            begin.recv().expect("the word");
            operator.add(&schema, "u").expect("to be added")
        });
        let transaction = |n: i64| {
            let us: Vec<String> = (0..ROWS).map(|row| format!("({}, null)", n * ROWS + row)).collect();
            format!("begin; insert into t values ({n}, 'x'); insert into u values {}; commit;\n", us.join(", "))
        };
        // To start a client takes longer than many transactions.
        for first in (1..=TRANSACTIONS).step_by(SCRIPT) {
            db.sql(&(first..first + SCRIPT as i64).map(transaction).collect::<String>());
            if first < TRANSACTIONS / 4 && first + SCRIPT as i64 > TRANSACTIONS / 4 {
                go.send(()).expect("somebody waits");
            }
        }
        adding.join().expect("it is added");
        // One transaction that has the table for sure.
        let last = TRANSACTIONS + 1;
        db.sql(&transaction(last));
        let whole = |what: &str, all: Vec<(String, i64)>| {
            let of =
                |table: &str| -> Vec<i64> { all.iter().filter(|(of, _)| of == table).map(|(_, id)| *id).collect() };
            assert_eq!(of("t"), (1..=last).collect::<Vec<_>>(), "{what}");
            let us = of("u");
            let first = us.first().copied().expect("rows");
            assert_eq!(first % ROWS, 0, "{what}: a transaction came in part");
            assert_eq!(us, (first..(last + 1) * ROWS).collect::<Vec<_>>(), "{what}");
        };
        let end = ("u".to_owned(), last * ROWS + ROWS - 1);
        eventually("the sink has all", || last_held(&sidecar).as_ref() == Some(&end));
        whole("sink", held(&sidecar));
        reader.wait_until_one("the last row", |record| row(record).as_ref() == Some(&end));
        whole("consumer", reader.wait_for(1).iter().filter_map(row).collect());
        reader.stop().ok();
        sidecar.program.stop().ok();
    });
}

#[test]
fn a_publication_of_somebody_else_is_not_altered() {
    on_each("foreign", |db| {
        if db.is_mysql() {
            return;
        }
        db.sql(TABLES);
        db.sql("create publication theirs for table t");
        let sidecar = start(db, "  publication: theirs\n", 0, tempfile::tempdir().expect("a folder"));
        let mut operator = Operator::of(&sidecar);
        let refused = operator.add(&db.schema, "u").unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let remedy = r#"ALTER PUBLICATION "theirs" ADD TABLE "public"."u""#;
        assert!(refused.message().contains(remedy), "{refused:?}");
        // As it says.
        db.sql(remedy);
        operator.add(&db.schema, "u").expect("to be added");
        db.sql("insert into u values (7, null)");
        eventually("it comes", || held(&sidecar) == rows(&[("u", 7)]));
        sidecar.program.stop().ok();
    });
}
