//! The command line: help, wrong usage, wrong configuration, the schema. No server is needed.

use std::process::Output;

use serde_json::Value;

use crate::support;

fn walbrook(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = support::walbrook();
    command.env_remove("STATE_DIR").args(args).envs(variables.iter().copied()).output().expect("walbrook starts")
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}
fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}
fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[test]
fn help_documents_exit_codes_and_every_flag_of_tail() {
    let help = walbrook(&["--help"], &[]);
    assert_eq!(code(&help), Some(0));
    for part in ["Exit codes", "0  done", "1  failed", "2  wrong usage", "3  the stored position is lost", "SIGTERM"] {
        assert!(stdout(&help).contains(part), "{part}");
    }
    let tail = stdout(&walbrook(&["tail", "--help"], &[]));
    for flag in [
        "--tables",
        "--exclude-tables",
        "--columns",
        "--exclude-columns",
        "--snapshot",
        "--until",
        "--limit",
        "--format",
        "--output",
        "--state-dir",
        "--slot",
        "--publication",
        "--transactions",
        "--memory",
        "--snapshot-workers",
        "--log-format",
        "--log-level",
        "--drain-timeout",
        "--on-lost-position",
    ] {
        assert!(tail.contains(flag), "{flag}");
    }
    for command in ["run", "check", "discover", "spec", "offsets"] {
        let help = walbrook(&[command, "--help"], &[]);
        assert_eq!(code(&help), Some(0), "{command}");
        assert!(stdout(&help).to_lowercase().contains("exit"), "{command} does not tell how it ends");
    }
}

#[test]
fn wrong_usage_exits_2() {
    for args in [
        &["tail", "postgres://h/d", "--tabels", "x"][..],
        &["tail"],
        &["tali", "postgres://h/d"],
        &["tail", "postgres://h/d", "--slot", "s"],
        &["tail", "postgres://h/d", "--until", "tomorrow"],
        &["tail", "postgres://h/d", "--limit", "0"],
        &["tail", "postgres://h/d", "--memory", "lots"],
        &["tail", "postgres://h/d", "--memory", "1KiB"],
        &["tail", "postgres://h/d", "--snapshot", "only", "--until", "current"],
        &["tail", "postgres://h:port/d"],
        &["tail", "oracle://h/d"],
        &["tail", "postgres://h/d", "--tables", "a.b.c.d"],
        &["tail", "postgres://h/d", "--exclude-columns", "\"users.password"],
        &["offsets", "reset", "--state-dir", "x"],
        &["check", "--tables", "x"],
        &["spec", "--log-level", "info=loud"],
        &[],
    ] {
        let output = walbrook(args, &[]);
        assert_eq!(code(&output), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty(), "{args:?} prints to stdout");
        assert!(!stderr(&output).is_empty(), "{args:?} says nothing");
    }
    assert!(stderr(&walbrook(&["tail", "postgres://h/d", "--tabels", "x"], &[])).contains("--tables"));
}

#[test]
fn a_wrong_configuration_exits_2_with_every_problem_and_no_secret() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("walbrook.yaml");
    let yaml = "source:\n  url: postgres://app:s3cret@db/shop\n  sllot: a\nsinks:\n  - { type: file, pth: /x }\n";
    std::fs::write(&path, yaml).expect("the file");
    let path = path.to_str().expect("UTF-8");
    for command in ["run", "check", "discover"] {
        let output = walbrook(&[command, "--config", path], &[]);
        assert_eq!(code(&output), Some(2), "{command}");
        let message = stderr(&output);
        for part in
            ["source.sllot (line 3)", "did you mean slot?", "sinks[0].pth (line 5)", "did you mean path?", "remedy:"]
        {
            assert!(message.contains(part), "{command}: {part:?} is not in {message}");
        }
        assert!(!message.contains("s3cret"), "{message}");
    }
    let json = walbrook(&["run", "--config", path, "--log-format", "json"], &[]);
    let line: Value = serde_json::from_str(stderr(&json).trim()).expect("one line of JSON");
    assert_eq!((line["class"].as_str(), line["level"].as_str()), (Some("config"), Some("ERROR")));
    let absent = walbrook(&["run", "--config", "/does/not/exist.yaml"], &[]);
    assert_eq!(code(&absent), Some(2));
    assert!(stderr(&absent).contains("/does/not/exist.yaml"));
    let nothing = walbrook(&["run"], &[]);
    assert_eq!(code(&nothing), Some(2));
    assert!(stderr(&nothing).contains("SOURCE_URL"));
    let variable = walbrook(&["run", "--config", path], &[("WALBROOK_SOURCE__SLTO", "x")]);
    assert!(stderr(&variable).contains("WALBROOK_SOURCE__SLTO"));
}

#[test]
fn spec_is_a_json_schema_of_every_key() {
    let output = walbrook(&["spec"], &[]);
    assert_eq!((code(&output), stderr(&output).as_str()), (Some(0), ""));
    let schema: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["type"], "object");
    assert_eq!(schema["additionalProperties"], false);
    for key in ["source", "state_dir", "on_lost_position", "memory", "commit_interval", "drain_timeout", "sinks", "log"]
    {
        assert!(schema["properties"].get(key).is_some(), "{key}");
    }
    for key in [
        "type",
        "url",
        "tables",
        "exclude_tables",
        "columns",
        "exclude_columns",
        "slot",
        "publication",
        "snapshot",
        "snapshot_workers",
        "snapshot_chunk",
        "heartbeat",
        "failover",
    ] {
        assert!(schema["$defs"]["Source"]["properties"].get(key).is_some(), "source.{key}");
    }
    let sinks = schema["properties"]["sinks"]["items"]["oneOf"].as_array().expect("a choice of sinks");
    let types: Vec<&str> = sinks.iter().filter_map(|sink| sink["properties"]["type"]["const"].as_str()).collect();
    for kind in ["stdout", "file", "null"] {
        assert!(types.contains(&kind), "{kind}");
    }
    assert!(sinks.iter().all(|sink| sink["properties"].get("name").is_some()));
}

#[test]
fn the_offset_store_is_not_made_by_looking_at_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("UTF-8");
    for args in [
        &["offsets", "show", "--offline", "--state-dir", path][..],
        &["offsets", "set", "--state-dir", path, "--sink", "a", "0/10"],
        &["offsets", "reset", "--yes", "--state-dir", path],
    ] {
        let output = walbrook(args, &[]);
        assert_eq!(code(&output), Some(2), "{args:?}: {}", stderr(&output));
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("the directory").count(), 0);
}

#[test]
fn a_server_that_is_not_there_exits_1_at_once() {
    // Port 1 of this machine: nobody listens there.
    let output = walbrook(&["tail", "postgres://app:s3cret@127.0.0.1:1/shop"], &[]);
    assert_eq!(code(&output), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("127.0.0.1"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("s3cret"), "{}", stderr(&output));
}
