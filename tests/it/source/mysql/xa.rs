//! XA transactions whose rows are in the log before the stream's beginning.

use super::{MySql, numbers, on_every_version};
use crate::source::Subject;
use crate::source::program::{Stream, assert_in_order, brief, eventually};
use crate::support::mysql::{Server, Version};

on_every_version!(prepared_before_the_beginning, prepared_before_a_snapshot);

const T: &str = "create table t (id int primary key); create table other (id int primary key)";

/// Prepares a row of each of its tables under a name.
fn prepare(db: &MySql<'_>, xid: &str, row: u32) {
    db.session().execute(&format!(
        "xa start {xid}; insert into t values ({row}); insert into other values ({row}); insert into t values (1{row});
         xa end {xid}; xa prepare {xid}"
    ));
}

/// Names of this test's own: printable, with a branch and a format; and what no text can be.
fn names(db: &MySql<'_>) -> [String; 3] {
    let name = db.name();
    [format!("'{name}','br',7"), format!("x'00ff{}'", hex(name)), format!("'{name} again'")]
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The server writes another file.
fn rotate(db: &MySql<'_>) {
    db.execute("flush binary logs");
}

fn prepared_before_the_beginning(db: &MySql<'_>) {
    db.execute(T);
    let [first, second, third] = names(db);
    // The name was used before, and so was the table's.
    prepare(db, &first, 90);
    db.execute(&format!("xa commit {first}; drop table t; create table t (id int primary key)"));
    rotate(db);
    prepare(db, &first, 1);
    rotate(db);
    prepare(db, &second, 2);
    prepare(db, &third, 3);
    // Rows that are looked past, whole or as differences.
    if !db.version().is_mariadb() {
        db.execute(
            "set session binlog_row_value_options = PARTIAL_JSON; create table documents (id int primary key, v json);
             insert into documents values (1, json_object('a', repeat('x', 1000), 'n', 1));
             update documents set v = json_set(v, '$.n', 2);
             set session binlog_transaction_compression = ON; update documents set v = json_set(v, '$.n', 3)",
        );
    }
    db.execute("insert into t values (80)");
    let only_t = format!("{}.t", db.name());
    let stream = Stream::new(db, &["--tables", &only_t]);
    // They are kept from now on: the log may go.
    db.execute(&format!("insert into t values (4); xa rollback {second}; xa commit {third}; xa commit {first}"));
    let records = stream.changes();
    assert_in_order(&records);
    let expected = [4, 3, 13, 1, 11].map(|id| format!(r#"c t {{"id":{id}}}"#));
    assert_eq!(brief(&records), expected);
    // The row of the table that nobody wants has an ordinal of its own.
    let ordinals: Vec<_> = records.iter().map(|record| record["ord"].as_u64().unwrap()).collect();
    assert_eq!(ordinals, [1, 1, 3, 1, 3]);
}

fn prepared_before_a_snapshot(db: &MySql<'_>) {
    db.execute(T);
    let [first, second, third] = names(db);
    prepare(db, &first, 1);
    rotate(db);
    prepare(db, &second, 2);
    db.execute("insert into t values (80)");
    let stream = Stream::unstarted(db, &[]);
    assert_eq!(brief(&stream.run(&["--until", "current"]).ok()), [r#"r t {"id":80}"#]);
    prepare(db, &third, 3);
    db.execute(&format!("xa commit {second}; insert into t values (5)"));
    let found = brief(&stream.changes());
    let rows = |row: u32| {
        [format!(r#"c t {{"id":{row}}}"#), format!(r#"c other {{"id":{row}}}"#), format!(r#"c t {{"id":1{row}}}"#)]
    };
    assert_eq!(found, [&rows(2)[..], &[r#"c t {"id":5}"#.to_owned()]].concat());
    db.execute(&format!("xa commit {third}; xa commit {first}"));
    assert_eq!(brief(&stream.changes()), [rows(3), rows(1)].concat());
}

/// A server whose account may not list them.
fn blind(setting: &[&str]) -> Option<Server> {
    Server::own(Version::MySql97, setting)
}

fn without_the_right<'s>(server: &'s Server, name: &str) -> MySql<'s> {
    let db = MySql::new(server.database(name));
    server.sql("", &format!("revoke xa_recover_admin on *.* from {}", db.user()));
    db
}

/// The rows are found when the end is met.
#[test]
fn an_account_that_may_not_list_them() {
    let Some(server) = blind(&[]) else { return };
    let db = without_the_right(&server, "blind");
    db.execute(T);
    let [first, second, third] = names(&db);
    prepare(&db, &first, 1);
    prepare(&db, &second, 2);
    db.session().execute(&format!(
        "xa start {third}; insert into t select 1000 + n from ({}) numbers order by n; xa end {third}; xa prepare {third}",
        numbers(2000)
    ));
    rotate(&db);
    let now = Stream::new(&db, &[]);
    let later = Stream::unstarted(&db, &[]);
    assert!(later.run(&["--until", "current"]).ok().is_empty());
    rotate(&db);
    db.execute(&format!("insert into t values (4); xa commit {second}; insert into t values (5); xa commit {third}"));
    for stream in [&now, &later] {
        let ended = stream.run(&["--until", "current"]);
        assert!(ended.log.contains("found in the log"), "{}", ended.log);
        let records = ended.ok();
        assert_in_order(&records);
        let ids: Vec<u64> = records
            .iter()
            .filter(|record| record["table"] == "t")
            .map(|record| record["after"]["id"].as_u64().unwrap())
            .collect();
        let expected: Vec<u64> = [4, 2, 12, 5].into_iter().chain(1000..3000).collect();
        assert_eq!(ids, expected);
        assert_eq!(records.len(), expected.len() + 1, "and the other table's");
    }
}

/// The files are gone, in which the rows are.
#[test]
fn rows_that_the_log_no_longer_has() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &[]) else { continue };
        let purge = |db: &MySql<'_>| {
            rotate(db);
            let files = db.query("show binary logs");
            let last = files.lines().last().unwrap().split('|').next().unwrap();
            eventually("the files are gone", || {
                db.execute(&format!("purge binary logs to '{last}'"));
                db.query("show binary logs").lines().count() == 1
            });
        };
        let db = MySql::new(server.database("gone"));
        db.execute(T);
        let [first, ..] = names(&db);
        prepare(&db, &first, 1);
        purge(&db);
        let stream = Stream::unstarted(&db, &["--until", "current"]);
        let name = format!("X'{}',X'6272',7", hex(db.name()));
        for snapshot in ["never", "initial"] {
            let log = stream.run(&["--snapshot", snapshot]).failed(2);
            assert!(log.contains(&name) && log.contains("XA ROLLBACK"), "{log}");
        }
        db.execute(&format!("xa commit {first}"));
        let rows = brief(&stream.run(&[]).ok());
        assert_eq!(rows.len(), 3, "{rows:?}");
        if version.is_mariadb() {
            continue;
        }
        // Who may not list them is told at the end, and may read everything anew.
        let db = without_the_right(&server, "unseen");
        db.execute(T);
        let [first, ..] = names(&db);
        prepare(&db, &first, 1);
        purge(&db);
        let stream = Stream::new(&db, &[]);
        db.execute(&format!("insert into t values (5); xa commit {first}"));
        for _ in 0..2 {
            let log = stream.run(&["--until", "current"]).failed(3);
            let name = format!("XA COMMIT X'{}',X'6272',7", hex(db.name()));
            assert!(log.contains(&name) && log.contains("XA_RECOVER_ADMIN"), "{log}");
        }
        let mut rows = brief(&stream.run(&["--on-lost-position", "resnapshot", "--until", "current"]).ok());
        rows.retain(|row| row.starts_with("r "));
        assert_eq!(rows.len(), 4, "{rows:?}");
    }
}
