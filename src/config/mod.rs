//! The configuration: from a YAML file, the environment or the command line to values that are valid by construction.
//!
//! Invariants:
//! - One schema: [`spec`] prints what [`load`] checks. Every problem is reported at once, with its key, where it was
//!   written, and what would do.
//! - The environment wins over the file. Values of the file are expanded after that, so that a variable that is
//!   overridden need not be set.
//! - A [`Config`] is made by [`RawConfig::check`] alone and its values are never changed, only taken away. Nothing above
//!   checks them again.
//! - No password is in a message, nor in what `Debug` prints.

mod database;
mod environment;
mod expand;
mod grpc;
mod http;
mod raw;
mod secret;
mod shape;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::sink::SinkConfig;
use secret::redact;
use shape::{Format, Shape};
use tree::{Kind, Node, Place};

pub use crate::quantity::{ByteSize, Span};
pub use database::{Database, MySql, Postgres};
pub use grpc::{Grpc, RawGrpc, RawTls, Role, Token};
pub use http::{Http, RawHttp};
pub use raw::{
    LogFormat, LostPolicy, RawConfig, RawLog, RawSink, RawSource, SnapshotMode, StartAt, default_commit_interval,
    default_drain_timeout, default_memory, default_state_dir,
};
pub use secret::ConnectionString;
pub use shape::split_list;

/// The environment, by name.
pub type Variables = BTreeMap<String, String>;

/// What is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `sinks[1].path`.
    pub key: String,
    pub place: Place,
    pub message: String,
}

impl Problem {
    /// The message may quote a value, and a URL may stand where none belongs.
    fn at(key: &str, place: &Place, message: impl Into<String>) -> Self {
        Problem { key: key.to_owned(), place: place.clone(), message: redact(&message.into()) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = if self.key.is_empty() { "the whole" } else { &self.key };
        write!(f, "{key}{}: {}", self.place, self.message)
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A pipeline that can be built.
#[derive(Clone, Debug)]
pub struct Config {
    pub source: Source,
    /// None keeps nothing: the positions are forgotten with the process.
    pub state_dir: Option<PathBuf>,
    pub on_lost_position: LostPolicy,
    pub memory_bytes: usize,
    pub commit_interval: Duration,
    pub drain_timeout: Duration,
    /// At least one, or `grpc`; names are unique.
    pub sinks: Vec<Sink>,
    pub grpc: Option<Grpc>,
    /// None where it is off.
    pub http: Option<Http>,
    pub log: RawLog,
}

#[derive(Clone, Debug)]
pub struct Source {
    pub url: ConnectionString,
    pub tables: Vec<String>,
    pub exclude_tables: Vec<String>,
    pub columns: Vec<String>,
    pub exclude_columns: Vec<String>,
    pub snapshot: SnapshotMode,
    pub snapshot_workers: usize,
    pub snapshot_chunk_bytes: u64,
    pub heartbeat: Option<Duration>,
    pub database: Database,
}

#[derive(Clone, Debug)]
pub struct Sink {
    pub name: String,
    /// `stdout`, `file`…
    pub type_name: String,
    pub start: StartAt,
    pub kind: SinkConfig,
}

/// Everything that fits in less would spend its time waiting for its own batches.
const MEMORY_MIN_BYTES: u64 = 1 << 20;
/// A chunk of one page would be one query a page; this is 128 pages.
const SNAPSHOT_CHUNK_MIN_BYTES: u64 = 1 << 20;
/// A drain that takes longer than an hour is a hang.
const DRAIN_MAX_MS: u64 = 3_600_000;
/// What is not stored for a minute comes again after a crash; nobody wants more.
const COMMIT_MAX_MS: u64 = 60_000;
/// As in the schema: Postgres allows 100 connections unless told otherwise.
const SNAPSHOT_WORKERS_MAX: usize = 64;
/// More often than this the heartbeat would be the load.
const HEARTBEAT_MIN_MS: u64 = 100;

/// The texts that have a grammar, by the name of their type in the schema.
const FORMATS: &[(&str, Format)] = &[
    ("ByteSize", |text| text.parse::<ByteSize>().map(drop).map_err(|error| error.to_string())),
    ("Duration", |text| text.parse::<Span>().map(drop).map_err(|error| error.to_string())),
];

fn shape() -> Shape {
    let generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let mut root = generator.into_root_schema_for::<RawConfig>().to_value();
    unwrap_lines(&mut root);
    Shape::new(root, FORMATS)
}

/// Descriptions are doc comments: a line's end in one is none in the text.
fn unwrap_lines(schema: &mut Value) {
    match schema {
        Value::Object(words) => {
            for (word, value) in words {
                match value {
                    Value::String(text) if word == "description" => *text = text.replace('\n', " "),
                    value => unwrap_lines(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(unwrap_lines),
        _ => {}
    }
}

/// The JSON Schema (draft 2020-12) of the configuration file, before its variables are expanded.
pub fn spec() -> Value {
    shape().root().clone()
}

/// A configuration file: its name, for errors, and its text.
pub struct File<'a> {
    pub name: &'a str,
    pub yaml: &'a str,
}

/// Reads the configuration from a file and the environment, or from the environment alone. Errors: `Config`, with every
/// problem in its message.
pub fn load(file: Option<File<'_>>, variables: &Variables) -> Result<Config> {
    let shape = shape();
    let mut problems = Vec::new();
    let (mut tree, name) = match &file {
        Some(file) => (tree::from_yaml(file.name, file.yaml)?, format!("the configuration {}", file.name)),
        None => {
            let tree = environment::short_forms(variables, &shape, &mut problems);
            (tree, "the configuration from the environment".to_owned())
        }
    };
    if !matches!(tree.kind, Kind::Map(_)) && !matches!(tree.kind, Kind::Null { .. }) {
        problems.push(Problem::at("", &tree.place, "not a mapping of keys"));
        return Err(rejected(&name, &problems, file.is_some()));
    }
    environment::merge(&mut tree, variables, &mut problems);
    if tree.get("source").is_none() {
        tree.insert("source", Node::map(Place::Implied));
    }
    expand::expand(&mut tree, "", variables, &mut problems);
    if !has(&tree, "sinks") && !has(&tree, "grpc") {
        let place = tree.get("sinks").map_or(Place::Implied, |node| node.place.clone());
        let message = "is missing: the records must go somewhere, to a sink or to the clients of `grpc`";
        problems.push(Problem::at("sinks", &place, message));
    }
    let value = shape.read(&tree, &mut problems);
    if !problems.is_empty() {
        return Err(rejected(&name, &problems, file.is_some()));
    }
    let checked = match RawConfig::deserialize(value) {
        Ok(raw) => raw.check(),
        Err(error) => Err(vec![(String::new(), error.to_string())]),
    };
    checked.map_err(|wrong| {
        let place = |key: &str| find(&tree, key).map_or(Place::Implied, |node| node.place.clone());
        let problems: Vec<_> = wrong.iter().map(|(key, message)| Problem::at(key, &place(key), message)).collect();
        rejected(&name, &problems, file.is_some())
    })
}

/// Whether a key of the top says anything.
fn has(tree: &Node, key: &str) -> bool {
    tree.get(key).is_some_and(|node| match &node.kind {
        Kind::List(items) => !items.is_empty(),
        Kind::Null { .. } => false,
        _ => true,
    })
}

/// The node at a path such as `sinks[1].path`.
fn find<'t>(tree: &'t Node, path: &str) -> Option<&'t Node> {
    path.split(['.', '[']).filter(|part| !part.is_empty()).try_fold(tree, |node, part| match &node.kind {
        Kind::List(items) => items.get(part.trim_end_matches(']').parse::<usize>().ok()?),
        _ => node.get(part),
    })
}

fn rejected(name: &str, problems: &[Problem], is_file: bool) -> Error {
    let lines: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    let count = match problems.len() {
        1 => "a problem".to_owned(),
        many => format!("{many} problems"),
    };
    Error::config(format!("{name} has {count}:{}", lines.concat())).remedy(match is_file {
        true => "`walbrook spec` prints the schema of the file; `walbrook run --help` tells how the environment counts",
        false => "SOURCE_URL and SINK_TYPE are enough, or --config FILE; `walbrook run --help` tells more, `walbrook spec` every key",
    })
}

impl RawConfig {
    /// What the schema cannot say. Errors: every key that is wrong, with what is wrong about it.
    pub fn check(self) -> Result<Config, Vec<(String, String)>> {
        let mut wrong = Vec::new();
        let mut fail = |key: &str, message: String| wrong.push((key.to_owned(), message));
        if self.memory.bytes() < MEMORY_MIN_BYTES {
            fail("memory", format!("{} is less than 1MiB", self.memory));
        }
        if self.source.snapshot_chunk.bytes() < SNAPSHOT_CHUNK_MIN_BYTES {
            fail("source.snapshot_chunk", format!("{} is less than 1MiB", self.source.snapshot_chunk));
        }
        if self.drain_timeout.as_millis() > DRAIN_MAX_MS {
            fail("drain_timeout", format!("{} is more than 1h", self.drain_timeout));
        }
        if self.commit_interval.as_millis() > COMMIT_MAX_MS {
            fail("commit_interval", format!("{} is more than 1m", self.commit_interval));
        }
        if let Some(heartbeat) = self.source.heartbeat
            && heartbeat.as_millis() < HEARTBEAT_MIN_MS
        {
            fail("source.heartbeat", format!("{heartbeat} is less than 100ms; leave the key out for none"));
        }
        let database = Database::of(&self.source)
            .map_err(|problems| problems.into_iter().for_each(|(key, message)| fail(key, message)))
            .ok();
        let sinks = check_sinks(self.sinks, &mut fail);
        let grpc = self.grpc.and_then(|grpc| grpc.check(&mut fail));
        let http = http::check(self.http).map_err(|(key, message)| fail(&key, message)).ok().flatten();
        let Some(database) = database.filter(|_| wrong.is_empty()) else { return Err(wrong) };
        let source = self.source;
        Ok(Config {
            source: Source {
                url: source.url,
                tables: source.tables,
                exclude_tables: source.exclude_tables,
                columns: source.columns,
                exclude_columns: source.exclude_columns,
                snapshot: source.snapshot,
                snapshot_workers: source.snapshot_workers.map_or_else(cores, usize::from),
                snapshot_chunk_bytes: source.snapshot_chunk.bytes(),
                heartbeat: source.heartbeat.map(Span::duration),
                database,
            },
            state_dir: Some(self.state_dir),
            on_lost_position: self.on_lost_position,
            memory_bytes: usize::try_from(self.memory.bytes()).unwrap_or(usize::MAX),
            commit_interval: self.commit_interval.duration(),
            drain_timeout: self.drain_timeout.duration(),
            sinks,
            grpc,
            http,
            log: self.log,
        })
    }
}

impl Config {
    /// The same with nothing that outlives the process: no store, and of Postgres a temporary slot, and a publication that
    /// is dropped at the end unless one is named.
    pub fn temporary(mut self, names_publication: bool) -> Self {
        self.state_dir = None;
        if let Some(postgres) = self.source.database.postgres_mut() {
            postgres.slot = None;
            postgres.publication.take_if(|_| !names_publication);
        }
        self
    }
}

/// The cores this process may use, as far as they are worth a connection each.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(SNAPSHOT_WORKERS_MAX)
}

fn check_sinks(raw: Vec<RawSink>, fail: &mut impl FnMut(&str, String)) -> Vec<Sink> {
    let mut names = BTreeSet::new();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let mut sinks = Vec::with_capacity(raw.len());
    for (index, RawSink { name, start, kind, type_name }) in raw.into_iter().enumerate() {
        let given = name.is_some();
        let name = name.unwrap_or_else(|| type_name.clone());
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            let message = format!("{name:?} is no name for a sink: 1 to 64 letters, digits, `_`, `-` and `.`");
            fail(&format!("sinks[{index}].name"), message);
        } else if !names.insert(name.clone()) {
            let key = format!("sinks[{index}]{}", if given { ".name" } else { "" });
            fail(&key, format!("another sink is called {name:?} already; give each a `name` of its own"));
        }
        sinks.push(Sink { name, type_name, start, kind });
    }
    sinks
}

#[cfg(test)]
mod tests;
