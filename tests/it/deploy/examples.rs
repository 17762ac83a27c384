//! The example consumers, each against a real sidecar: rows, then changes, then on behind the last acknowledgement.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{has, passes, python};
use crate::server::grpc::{Db, Sidecar, on_each};
use crate::support::{project, skip};

const ROWS: &str = "create table t (id int primary key, name varchar(20), total decimal(10,2), noted timestamp null)";

/// What a consumer printed, a line a change.
fn lines(consumer: &mut Command) -> Vec<Value> {
    let output = consumer.output().unwrap_or_else(|error| panic!("{consumer:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{consumer:?}: {said}");
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// `consumer`: the program with the arguments that come before the address.
fn consumes(db: &Db, consumer: &dyn Fn() -> Command) {
    let table = format!("{}.t", db.schema);
    db.sql(&format!("{}; insert into {table} values (1, 'a', 1.50, null)", ROWS.replace(" t ", &format!(" {table} "))));
    let sidecar = Sidecar::start(db, &[]);
    let run = |limit: &str| {
        let mut command = consumer();
        command.arg(sidecar.address()).args(["--consumer", "example", "--snapshot", "--limit", limit]);
        lines(&mut command)
    };
    let row = |id: i32, name: Value| json!({ "id": id, "name": name, "total": "1.50", "noted": null });
    assert_eq!(run("1"), [json!({ "op": "snapshot", "table": table, "after": row(1, json!("a")) })]);
    db.sql(&format!("insert into {table} values (2, null, 1.50, null), (3, 'c', 1.50, null)"));
    let inserted = |id: i32, name: Value| json!({ "op": "insert", "table": table, "after": row(id, name) });
    assert_eq!(run("2"), [inserted(2, Value::Null), inserted(3, json!("c"))]);
    // On from there. Who left before the end of its snapshot was stored gets what came meanwhile once more.
    db.sql(&format!("delete from {table} where id = 2; insert into {table} values (4, 'd', 1.50, null)"));
    let mut printed = Vec::new();
    while printed.last() != Some(&inserted(4, json!("d"))) {
        printed.extend(run("1"));
        assert!(printed.len() < 20, "{printed:#?}");
    }
    let deleted = printed.iter().rev().nth(1).expect("what came before");
    assert_eq!((&deleted["op"], &deleted["before"]["id"]), (&json!("delete"), &json!(2)), "{printed:#?}");
    assert!(printed.iter().all(|line| line["op"] != "snapshot"), "{printed:#?}");
}

#[test]
fn in_python() {
    let Some(programs) = python("deploy/examples/python/requirements.txt", "the example in Python") else { return };
    let generated = tempfile::tempdir().unwrap();
    let mut protoc = Command::new(programs.join("python"));
    protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(project("proto"));
    for option in ["--python_out=", "--grpc_python_out="] {
        protoc.arg(format!("{option}{}", generated.path().display()));
    }
    passes(protoc.args(["types", "stream"].map(|file| project(&format!("proto/walbrook/v1/{file}.proto")))));
    on_each("example_python", |db| {
        consumes(db, &|| {
            let mut command = Command::new(programs.join("python"));
            command.arg(project("deploy/examples/python/consume.py")).env("PYTHONPATH", generated.path());
            command
        })
    });
}

#[test]
fn in_typescript() {
    const WHAT: &str = "the example in TypeScript";
    if !has("npm", WHAT) || !has("node", WHAT) {
        return;
    }
    // Where it stands in a clone, so that it finds the files of proto/.
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("deploy/examples/typescript");
    std::fs::create_dir_all(&place).unwrap();
    std::os::unix::fs::symlink(project("proto"), dir.path().join("proto")).unwrap();
    for file in ["package.json", "tsconfig.json", "consume.ts"] {
        std::fs::copy(project("deploy/examples/typescript").join(file), place.join(file)).unwrap();
    }
    let mut install = Command::new("npm");
    install.args(["install", "--silent", "--no-audit", "--no-fund"]).current_dir(&place);
    if !install.status().is_ok_and(|status| status.success()) {
        return skip(&format!("{WHAT}: npm cannot install its packages"));
    }
    passes(Command::new(place.join("node_modules/.bin/tsc")).current_dir(&place));
    on_each("example_typescript", |db| consumes(db, &|| node(&place)));
}

fn node(place: &Path) -> Command {
    let mut command = Command::new("node");
    command.arg(place.join("consume.js"));
    command
}

#[test]
fn in_rust() {
    // Cargo builds the examples together with the tests.
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples/consume");
    assert!(program.exists(), "{} is not built", program.display());
    on_each("example_rust", |db| consumes(db, &|| Command::new(&program)));
}
