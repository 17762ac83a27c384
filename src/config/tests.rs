use super::*;

fn variables(pairs: &[(&str, &str)]) -> Variables {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn file(yaml: &str, pairs: &[(&str, &str)]) -> Result<Config> {
    load(Some(File { name: "walbrook.yaml", yaml }), &variables(pairs))
}

fn slot(config: &Config) -> Option<&str> {
    match &config.source.database {
        Database::Postgres(postgres) => postgres.slot.as_deref(),
        Database::MySql(_) => None,
    }
}

/// The example of the README, line by line.
const EXAMPLE: &str = "
source:
  type: postgres
  url: ${DATABASE_URL}
  tables: [public.*]
  slot: walbrook
  publication: walbrook
  snapshot: initial
state_dir: /var/lib/walbrook
on_lost_position: fail        # or resnapshot
memory: 64MiB
sinks:
  - { name: audit, type: file, path: /var/log/changes.ndjson, rotate: 1GiB }
  - { name: eyes, type: stdout }
";

/// The examples of the README are valid as they stand there, once their variables are set.
#[test]
fn the_examples_of_the_readme_are_valid() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    // Absent from a packaged crate only.
    let Ok(readme) = std::fs::read_to_string(path) else { return };
    let blocks = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut configurations = 0;
    for block in blocks.filter(|block| block.contains("sinks:")) {
        file(block, &[URL]).unwrap_or_else(|error| panic!("{error:?}\n{block}"));
        configurations += 1;
    }
    assert!(configurations > 0, "the README shows no configuration");
    let grpc =
        readme.split("```yaml\n").find(|block| block.starts_with("grpc:")).expect("the README shows a gRPC server");
    let yaml = format!("source: {{ url: postgres://h/d }}\n{}", grpc.split("```").next().unwrap_or_default());
    let tokens = [("READ_TOKEN", "0123456789abcdef"), ("ADMIN_TOKEN", "fedcba9876543210")];
    let config = file(&yaml, &tokens).unwrap_or_else(|error| panic!("{error:?}\n{yaml}"));
    assert_eq!(config.grpc.expect("a gRPC server").tokens[1].role, Role::Admin);
}

const URL: (&str, &str) = ("DATABASE_URL", "postgres://app:s3cret@db/shop");

#[test]
fn the_example_is_valid_and_its_password_is_not_printed() {
    let config = file(EXAMPLE, &[URL]).unwrap();
    assert_eq!(config.source.url.expose(), URL.1);
    assert_eq!(config.source.tables, ["public.*"]);
    assert_eq!(config.memory_bytes, 64 << 20);
    assert_eq!(config.state_dir, Some("/var/lib/walbrook".into()));
    assert_eq!(config.sinks.iter().map(|sink| sink.name.as_str()).collect::<Vec<_>>(), ["audit", "eyes"]);
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn the_environment_wins_and_spares_the_variable_it_overrides() {
    let config =
        file(EXAMPLE, &[("WALBROOK_SOURCE__URL", "postgres://h/$x${y}"), ("WALBROOK_MEMORY", "8MiB")]).unwrap();
    assert_eq!(config.source.url.expose(), "postgres://h/$x${y}");
    assert_eq!(config.memory_bytes, 8 << 20);
    let config = file(EXAMPLE, &[URL, ("WALBROOK_SOURCE__TABLES", "a.b,c.*"), ("SOURCE_SLOT", "ignored")]).unwrap();
    assert_eq!(config.source.tables, ["a.b", "c.*"]);
    assert_eq!(slot(&config), Some("walbrook"));
}

#[test]
fn without_a_file_the_short_forms_are_enough() {
    let pairs = [("SOURCE_URL", "postgres://h/d"), ("SINK_TYPE", "stdout"), ("SOURCE_DATE_EPOCH", "1"), ("HOME", "/")];
    let config = load(None, &variables(&pairs)).unwrap();
    assert_eq!(config.sinks[0].name, "stdout");
    assert_eq!(slot(&config), Some("walbrook"));
    assert!(config.state_dir.is_some());
    let pairs = [
        ("SOURCE_URL", "postgres://h/d"),
        ("SOURCE_TYPE", "postgres"),
        ("SOURCE_TABLES", "public.*,shop.orders"),
        ("SINK_TYPE", "file"),
        ("SINK_PATH", "/tmp/x"),
        ("STATE_DIR", "/state"),
        ("WALBROOK_SOURCE__SLOT", "s"),
    ];
    let config = load(None, &variables(&pairs)).unwrap();
    assert_eq!(config.source.tables, ["public.*", "shop.orders"]);
    assert_eq!((slot(&config), &config.state_dir), (Some("s"), &Some("/state".into())));
    let error =
        load(None, &variables(&[("SOURCE_URL", "x"), ("SOURCE_TABELS", "y"), ("SINK_TYPE", "null")])).unwrap_err();
    assert!(error.to_string().contains("did you mean SOURCE_TABLES?"), "{error}");
    let error = load(None, &variables(&[])).unwrap_err();
    assert!(
        error.to_string().contains("source.url: is missing") && error.to_string().contains("sinks: is missing"),
        "{error}"
    );
    assert!(error.remedy_text().unwrap().contains("SOURCE_URL"));
}

#[test]
fn every_problem_at_once_with_key_line_and_suggestion_and_without_secrets() {
    let yaml = "
sorce: {}
source:
  url: ${NOT_SET}
  sllot: a
  snapshot: onyl
  snapshot_workers: 0
memory: 64 elephants
failovr: 1
sinks:
  - { type: file, pth: /x }
  - { type: stduot }
";
    let message = file(yaml, &[("WALBROOK_SOURCE__PASWORD", "s3cret")]).unwrap_err().to_string();
    for part in [
        "sorce (line 2): unknown key; did you mean source?",
        "source.url (line 4): the variable NOT_SET is not set",
        "source.sllot (line 5): unknown key; did you mean slot?",
        "source.snapshot (line 6): \"onyl\" is none of initial, never, only; did you mean only?",
        "source.snapshot_workers (line 7): 0 is not within 1 to 64",
        "memory (line 8):",
        "failovr (line 9): unknown key",
        "sinks[0].pth (line 11): unknown key; did you mean path?",
        "sinks[0].path (line 11): is missing",
        "sinks[1].type (line 12): \"stduot\" is none of",
        "did you mean stdout?",
        "source.pasword (from WALBROOK_SOURCE__PASWORD): unknown key",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    assert!(!message.contains("s3cret"), "{message}");
}

#[test]
fn what_the_schema_cannot_say_is_checked_with_its_place() {
    let yaml = "
source: { url: postgres://app:s3cret@h/d, slot: Big-Slot, snapshot_chunk: 1KiB, heartbeat: 1ms }
memory: 4KiB
drain_timeout: 2h
sinks:
  - { type: stdout }
  - { type: 'null', name: stdout }
  - { type: 'null', name: 'a b' }
";
    let message = file(yaml, &[]).unwrap_err().to_string();
    for part in [
        "source.slot (line 2): \"Big-Slot\" is no name for a slot",
        "source.snapshot_chunk (line 2):",
        "source.heartbeat (line 2):",
        "memory (line 3):",
        "drain_timeout (line 4):",
        "sinks[1].name (line 7): another sink is called \"stdout\"",
        "sinks[2].name (line 8): \"a b\" is no name for a sink",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    assert!(!message.contains("s3cret"), "{message}");
}

#[test]
fn clients_may_stand_for_the_sinks() {
    let config = file("source: { url: postgres://h/d }\ngrpc: { listen: '127.0.0.1:0' }\n", &[]).unwrap();
    assert!(config.sinks.is_empty() && config.grpc.is_some());
    let environment = [("SOURCE_URL", "postgres://h/d"), ("WALBROOK_GRPC__TOKENS__0__TOKEN", "0123456789abcdef")];
    let config = load(None, &variables(&environment)).unwrap();
    assert_eq!(config.grpc.unwrap().tokens[0].role, Role::Read);
    for neither in ["", "sinks: []\n", "grpc:\n"] {
        let error = file(&format!("source: {{ url: postgres://h/d }}\n{neither}"), &[]).unwrap_err().to_string();
        assert!(error.contains("sinks") && error.contains("is missing"), "{error}");
    }
    let yaml =
        "source: { url: postgres://h/d }\ngrpc:\n  listen: 0.0.0.0:1\n  tokens: [{ token: s3cret, role: raed }]\n";
    let message = file(yaml, &[]).unwrap_err().to_string();
    assert!(message.contains("grpc.tokens[0].role (line 4): \"raed\" is none of read, admin"), "{message}");
    let message = file(&yaml.replace("raed", "read"), &[]).unwrap_err().to_string();
    assert!(message.contains("grpc.listen (line 3): other machines reach 0.0.0.0:1"), "{message}");
    assert!(message.contains("grpc.tokens[0].token (line 4)") && !message.contains("s3cret"), "{message}");
}

#[test]
fn a_url_where_none_belongs_shows_no_password() {
    for name in [
        "WALBROOK_SOURCE",
        "WALBROOK_SINKS",
        "WALBROOK_MEMORY",
        "WALBROOK_SOURCE__SNAPSHOT",
        "WALBROOK_SOURCE__SLOT",
        "WALBROOK_SINKS__0__NAME",
        "WALBROOK_SINKS__0__TYPE",
    ] {
        let message = file(EXAMPLE, &[URL, (name, URL.1)]).unwrap_err().to_string();
        assert!(message.contains(name) && !message.contains("s3cret"), "{message}");
    }
}

#[test]
fn duplicates_and_what_is_no_mapping_are_errors() {
    assert!(file("memory: 1MiB\nmemory: 2MiB\n", &[]).is_err());
    assert!(file("- a\n", &[]).unwrap_err().to_string().contains("not a mapping"));
    assert!(file("", &[]).unwrap_err().to_string().contains("source.url"));
}

/// Every schema below a schema, with the keys that lead to it.
fn walk<'s>(schema: &'s Value, path: String, found: &mut Vec<(String, &'s Value)>) {
    found.push((path.clone(), schema));
    for group in ["properties", "$defs"] {
        for (key, child) in schema.get(group).and_then(Value::as_object).into_iter().flatten() {
            walk(child, join(&path, key), found);
        }
    }
    for group in ["oneOf", "anyOf"] {
        for child in schema.get(group).and_then(Value::as_array).into_iter().flatten() {
            walk(child, path.clone(), found);
        }
    }
    if let Some(items) = schema.get("items") {
        walk(items, format!("{path}[]"), found);
    }
}

#[test]
fn the_schema_uses_only_words_that_are_checked_or_explain() {
    let checked = [
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "const",
        "oneOf",
        "anyOf",
        "minimum",
        "maximum",
        "minItems",
        "$ref",
        "$defs",
        "format",
        "writeOnly",
    ];
    // Checked by `RawConfig::check`, which a test above proves, or by the type that reads the text.
    let explains = ["$schema", "title", "description", "default", "examples", "pattern", "minLength", "maxLength"];
    let spec = spec();
    let mut found = Vec::new();
    walk(&spec, String::new(), &mut found);
    assert!(found.len() > 30);
    for (path, schema) in found {
        for word in schema.as_object().unwrap_or_else(|| panic!("{path} is no object")).keys() {
            assert!(checked.contains(&word.as_str()) || explains.contains(&word.as_str()), "{word} at {path}");
        }
    }
}

#[test]
fn every_key_is_described_and_what_is_not_required_has_its_default() {
    let spec = spec();
    let mut found = Vec::new();
    walk(&spec, String::new(), &mut found);
    let objects = found.iter().filter(|(_, schema)| schema.get("properties").is_some());
    for (path, object) in objects {
        let required: Vec<&str> =
            object.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        assert_eq!(object.get("additionalProperties"), Some(&Value::Bool(false)), "{path} takes any key");
        for (key, schema) in object["properties"].as_object().unwrap() {
            let described = schema.get("description").is_some() || schema.get("const").is_some();
            assert!(described || schema.get("$ref").is_some(), "{path}.{key} has no description");
            // What may be null says in its description what leaving it out means.
            let nullable = schema.to_string().contains("\"null\"");
            if !required.contains(&key.as_str()) {
                assert!(schema.get("default").is_some() || nullable, "{path}.{key} has no default");
            }
        }
    }
}

/// Every default of the schema, written out, is what leaving the key out means.
#[test]
fn the_defaults_of_the_schema_are_the_defaults() {
    let spec = spec();
    let bare = "source: { url: postgres://h/d }\ngrpc: {}\n";
    let mut problems = Vec::new();
    let mut value = shape().read(&tree::from_yaml("x", bare).unwrap(), &mut problems);
    let without = format!("{:?}", RawConfig::deserialize(value.clone()).unwrap());
    let (source, grpc) = (&spec["$defs"]["Source"], &spec["$defs"]["Grpc"]);
    for (schema, target) in [(&spec, ""), (source, "/source"), (grpc, "/grpc")] {
        for (key, schema) in schema["properties"].as_object().unwrap() {
            if let Some(default) = schema.get("default").filter(|_| key != "grpc") {
                value.pointer_mut(target).unwrap()[key] = default.clone();
            }
        }
    }
    assert_eq!(problems, []);
    assert_eq!(format!("{:?}", RawConfig::deserialize(value).unwrap()), without);
}
