//! The configuration as it is written: what `walbrook spec` describes, key by key.
//!
//! Invariants:
//! - The documentation of a key is its doc comment here, and its default stands here once.
//! - An unknown key is an error.

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::grpc::RawGrpc;
use super::http::RawHttp;
use super::secret::ConnectionString;
use super::{ByteSize, Span};
use crate::sink::SinkConfig;

/// What is streamed, where to, and how.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Configuration of walbrook")]
pub struct RawConfig {
    /// The database.
    pub source: RawSource,
    /// The directory of the offset store: positions, snapshot progress, schemas. One process at a time uses it. Put it
    /// on a disk that survives the container.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// What to do when the server no longer holds the log from the stored position on, or is another server.
    #[serde(default)]
    pub on_lost_position: LostPolicy,
    /// What the process may take. Rows in flight between the source and the sinks get what is left of it after 40MiB, or
    /// three eighths where that is more; a row larger than that passes alone.
    #[serde(default = "default_memory")]
    pub memory: ByteSize,
    /// At most one synced write of positions in this time. What was delivered and not stored comes again after a crash.
    #[serde(default = "default_commit_interval")]
    pub commit_interval: Span,
    /// How long SIGTERM and SIGINT may take to deliver and store what was read. Below the 10 seconds after which
    /// `docker stop` kills.
    #[serde(default = "default_drain_timeout")]
    pub drain_timeout: Span,
    /// Where the records go. Each sink has its own position. At least one, unless there is `grpc`.
    #[serde(default)]
    #[schemars(schema_with = "sinks_schema")]
    pub sinks: Vec<RawSink>,
    /// A server that programs subscribe to. Without it, there is none.
    #[serde(default)]
    pub grpc: Option<RawGrpc>,
    /// Metrics and health by HTTP. Without it, `walbrook run` serves them at 127.0.0.1:9909 if that port is free.
    #[serde(default)]
    pub http: Option<RawHttp>,
    #[serde(default)]
    pub log: RawLog,
}

/// A database: its URL says of which kind.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Source")]
pub struct RawSource {
    /// The kind of database. The URL says it already; both must agree.
    #[serde(default, rename = "type")]
    pub kind: Option<SourceKind>,
    /// How to connect. Postgres: `postgres://user:pass@host:port/db?sslmode=…` or libpq's keywords; what is absent comes
    /// from the PG* variables and the password file. MySQL and MariaDB: `mysql://user:pass@host:port/?ssl-mode=…` or
    /// `mariadb://…`.
    #[schemars(extend("writeOnly" = true))]
    pub url: ConnectionString,
    /// Tables to stream: names or globs of `schema.table` (MySQL: `database.table`). Without any, every user table.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Tables not to stream, though `tables` names them.
    #[serde(default)]
    pub exclude_tables: Vec<String>,
    /// Columns to stream: names or globs of `schema.table.column` (MySQL: `database.table.column`). Of a table that none fits, every column.
    #[serde(default)]
    pub columns: Vec<String>,
    /// Columns not to stream.
    #[serde(default)]
    pub exclude_columns: Vec<String>,
    /// Postgres: the replication slot; created when absent. Lower-case letters, digits and underscores, at most 63.
    /// Without it, `walbrook`.
    #[serde(default)]
    #[schemars(regex(pattern = "^[a-z0-9_]{1,63}$"))]
    pub slot: Option<String>,
    /// Postgres: the publication; created when absent, with the wanted tables. Without it, `walbrook`.
    #[serde(default)]
    #[schemars(length(min = 1, max = 63))]
    pub publication: Option<String>,
    /// Whether to read the rows that are there already, before the changes.
    #[serde(default)]
    pub snapshot: SnapshotMode,
    /// Connections that read the snapshot side by side. Without it, one a core.
    #[serde(default)]
    #[schemars(range(min = 1, max = 64))]
    pub snapshot_workers: Option<u16>,
    /// How much of a table is read between two stored marks of progress: after a crash so much is read again.
    #[serde(default = "default_snapshot_chunk")]
    pub snapshot_chunk: ByteSize,
    /// Postgres: how often to write a logical message into the log, so that the slot moves on in a quiet database on a
    /// busy server; without it, never. MySQL: how often the server says in a quiet log that it is there; without it,
    /// every 10 seconds. A server that is silent three times as long is left for a new connection.
    #[serde(default)]
    pub heartbeat: Option<Span>,
    /// Postgres: whether the slot is created with FAILOVER, so that a standby can take over (17 and later). Without it,
    /// it is.
    #[serde(default)]
    pub failover: Option<bool>,
    /// MySQL: the number under which the log is asked for, as a replica would. No replica and no other reader of the
    /// server may have it. Without it, a random one that nobody has.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4294967295u32))]
    pub server_id: Option<u32>,
    /// MySQL: whether to acknowledge transactions as a semi-synchronous replica: the server's clients wait until what
    /// is wanted of a transaction is in every sink and its position is stored. Without it, not.
    #[serde(default)]
    pub semi_sync: Option<bool>,
    /// MySQL: how much of prepared XA transactions is kept in the store until they are committed or rolled back; more is
    /// an error. Without it, 64MiB.
    #[serde(default)]
    pub xa_limit: Option<ByteSize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    Postgres,
    MySql,
    MariaDb,
}

impl SourceKind {
    /// By the URL's scheme; libpq's keywords have none.
    pub(super) fn of_url(url: &str) -> SourceKind {
        let scheme = url.trim_start().split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("mysql") => SourceKind::MySql,
            Some("mariadb") => SourceKind::MariaDb,
            _ => SourceKind::Postgres,
        }
    }

    /// MariaDB speaks MySQL's protocol, and is told apart by the server's own word.
    pub(super) fn is_mysql(self) -> bool {
        matches!(self, SourceKind::MySql | SourceKind::MariaDb)
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SourceKind::Postgres => "Postgres",
            SourceKind::MySql => "MySQL",
            SourceKind::MariaDb => "MariaDB",
        })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotMode {
    /// Once, before the changes.
    #[default]
    Initial,
    /// Not at all: changes from now on.
    Never,
    /// And then stop.
    Only,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LostPolicy {
    /// Stop with exit code 3.
    #[default]
    Fail,
    /// Start over with a snapshot.
    Resnapshot,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where a sink begins that the offset store does not know, while others are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StartAt {
    /// With the rows that are there already.
    #[default]
    Snapshot,
    /// With the next change.
    Now,
}

/// What is logged, on stderr.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Log")]
pub struct RawLog {
    /// How lines look.
    pub format: LogFormat,
    /// error, warn, info, debug, trace, or directives such as `info,walbrook::source=debug`.
    pub level: String,
}

impl Default for RawLog {
    fn default() -> Self {
        RawLog { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// What every sink has, and what its type adds.
#[derive(Clone, Debug)]
pub struct RawSink {
    pub name: Option<String>,
    pub start: StartAt,
    pub kind: SinkConfig,
    /// As it is written; the name of a sink that has none.
    pub type_name: String,
}

/// The keys every sink has.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SinkCommon {
    /// The name under which its position is stored: letters, digits, `_`, `-` and `.`, at most 64. A sink with another
    /// name is another sink. Without one, its type.
    #[serde(default)]
    #[schemars(regex(pattern = "^[A-Za-z0-9_.-]{1,64}$"))]
    name: Option<String>,
    /// Where it begins when it is added to a pipeline that has run already.
    #[serde(default)]
    start: StartAt,
}

const SINK_COMMON: [&str; 2] = ["name", "start"];

impl<'de> Deserialize<'de> for RawSink {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut own = Map::<String, Value>::deserialize(deserializer)?;
        let common: Map<String, Value> =
            SINK_COMMON.into_iter().filter_map(|key| own.remove(key).map(|value| (key.to_owned(), value))).collect();
        let SinkCommon { name, start } = serde_json::from_value(common.into()).map_err(D::Error::custom)?;
        let type_name = own.get("type").and_then(Value::as_str).unwrap_or("null").to_owned();
        let kind = serde_json::from_value(own.into()).map_err(D::Error::custom)?;
        Ok(RawSink { name, start, kind, type_name })
    }
}

/// The schema of each type of sink with the common keys in front of its own.
fn sinks_schema(generator: &mut SchemaGenerator) -> Schema {
    let common = SinkCommon::json_schema(generator).to_value();
    let mut kinds = SinkConfig::json_schema(generator).to_value();
    for kind in kinds.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(properties) = kind.get_mut("properties").and_then(Value::as_object_mut) {
            for key in SINK_COMMON {
                properties.insert(key.to_owned(), common["properties"][key].clone());
            }
        }
    }
    let schema = json!({ "type": "array", "default": [], "items": kinds });
    schema.try_into().unwrap_or_default()
}

/// In the working directory: it needs no privilege, and a container says better.
pub fn default_state_dir() -> PathBuf {
    "walbrook-state".into()
}
/// 64 MiB of rows: some 250 full batches of 256 KiB, enough for every sink to be busy while the reader reads on.
pub fn default_memory() -> ByteSize {
    ByteSize::mib(64)
}
/// A synced write takes some tenths of a millisecond: once in 200 ms costs nothing and repeats little.
pub fn default_commit_interval() -> Span {
    Span::from_millis(200)
}
pub fn default_drain_timeout() -> Span {
    Span::from_millis(8_000)
}
pub(super) fn default_slot() -> String {
    "walbrook".to_owned()
}
pub(super) fn default_publication() -> String {
    "walbrook".to_owned()
}
/// Read in about a second at the speed of one COPY.
pub fn default_snapshot_chunk() -> ByteSize {
    ByteSize::mib(64)
}
pub(super) fn default_failover() -> bool {
    true
}
/// What one would rather not have in a store of positions, and yet enough for a hundred thousand small rows.
pub(super) fn default_xa_limit() -> ByteSize {
    ByteSize::mib(64)
}

impl RawSource {
    pub fn new(url: ConnectionString) -> Self {
        RawSource {
            kind: None,
            url,
            tables: Vec::new(),
            exclude_tables: Vec::new(),
            columns: Vec::new(),
            exclude_columns: Vec::new(),
            slot: None,
            publication: None,
            snapshot: SnapshotMode::default(),
            snapshot_workers: None,
            snapshot_chunk: default_snapshot_chunk(),
            heartbeat: None,
            failover: None,
            server_id: None,
            semi_sync: None,
            xa_limit: None,
        }
    }
}
