//! The command line as it is typed. What it means is [`super::plan`]'s business.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::subscribe::Begin;
use crate::config::{ByteSize, LogFormat, LostPolicy, SnapshotMode, Span};
use crate::error::Error;
use crate::record::Position;

const EXIT_CODES: &str = "\
Exit codes:
  0  done: the end that was asked for was reached, or a signal asked to stop
  1  failed: a connection, a sink, a value, or (check) an unmet prerequisite
  2  wrong usage or configuration: something here has to be changed
  3  the stored position is lost: the server no longer holds the log from there on,
     or it is another server
  130, 143  a second SIGINT or SIGTERM: stopped at once, without draining

Signals: the first SIGINT (Ctrl-C), SIGTERM or SIGHUP stops reading, delivers and stores
what was read, cleans up and exits 0, within the drain timeout. What is not delivered and
stored by then comes again at the next start.";

#[derive(Debug, Parser)]
#[command(
    name = "walbrook",
    version,
    about = "Streams every row and every change of a Postgres, MySQL or MariaDB database, in order, to files and pipes",
    long_about = "Streams every row and every change of a Postgres, MySQL or MariaDB database, in order, to files and pipes.\n\n\
                  `walbrook tail URL` shows a database's rows and then its changes on stdout and leaves nothing behind. \
                  `walbrook run` does it for good: positions are stored, and after any crash the stream goes on where it was.",
    after_help = EXIT_CODES,
    max_term_width = 100,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    pub log: LogArgs,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Logging (stderr)")]
pub struct LogArgs {
    /// How log lines look on stderr [default: text]
    #[arg(long, global = true, value_name = "FORMAT", env = "WALBROOK_LOG__FORMAT", hide_env_values = true)]
    pub log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or directives such as info,walbrook::source=debug
    /// [default: info]
    #[arg(long, global = true, value_name = "LEVEL", env = "WALBROOK_LOG__LEVEL", hide_env_values = true)]
    pub log_level: Option<String>,
    /// Logs more: -v debug, -vv trace
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Logs less: -q warnings and errors, -qq errors alone; no progress line either
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub quiet: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Snapshot plus changes of a database to stdout, without a configuration file
    #[command(after_long_help = TAIL_HELP)]
    Tail(Box<TailArgs>),
    /// The pipeline of a configuration file (or of the environment), as a long-running process
    #[command(after_long_help = RUN_HELP)]
    Run(ConfigArgs),
    /// The changes that a running walbrook streams by gRPC, to stdout: `tail` for a sidecar
    #[command(after_long_help = SUBSCRIBE_HELP)]
    Subscribe(Box<SubscribeArgs>),
    /// Proves every prerequisite of the source and the sinks, all at once, with what mends each
    #[command(after_long_help = CHECK_HELP)]
    Check(CheckArgs),
    /// Tables, columns, types, keys, row estimates and sizes, as JSON
    #[command(after_long_help = DISCOVER_HELP)]
    Discover(DiscoverArgs),
    /// Asks a running `walbrook run` how it is: exit code 0 well, 1 not, with the reason on stdout
    #[command(after_long_help = "Exit codes and signals: walbrook --help")]
    Health(HealthArgs),
    /// The JSON Schema of the configuration file
    #[command(after_long_help = SPEC_HELP)]
    Spec,
    /// What the offset store holds, and changes to it by hand
    #[command(subcommand, after_long_help = "Exit codes and signals: walbrook --help")]
    Offsets(OffsetsCommand),
}

const TAIL_HELP: &str = "\
What stays on the server:
  On MySQL and MariaDB nothing. With --state-dir positions are stored, and the next run goes
  on where this one ended, as long as the server keeps its binary logs (walbrook check).
  On Postgres, without --state-dir nothing: the slot is temporary and the publication is
  dropped at the end, also on Ctrl-C. (After a SIGKILL the publication stays; a slot never
  does.) With --state-dir slot and publication stay, both called walbrook unless named. A
  slot holds the server's log back: drop it when it is no longer wanted.
  --slot needs --state-dir: a permanent slot without stored positions would only fill the
  server's disk.
  --publication alone uses one that exists, for users who may not create one; it is not
  dropped.

Progress is shown on stderr when that is a terminal and the lines do not go to the same one.

Examples:
  walbrook tail postgres://app@localhost/shop
  walbrook tail \"$DATABASE_URL\" --tables 'public.orders,shop.*'
  walbrook tail \"$DATABASE_URL\" --exclude-columns 'public.users.password' --limit 100
  walbrook tail \"$DATABASE_URL\" --snapshot never --until current --output changes.ndjson
  walbrook tail \"$DATABASE_URL\" --state-dir ./state --slot audit --publication audit
  PGHOST=db PGUSER=app PGDATABASE=shop walbrook tail postgres://
  walbrook tail mysql://app:secret@localhost/ --tables 'shop.*'
  walbrook tail 'mariadb://app@db1,db2/?ssl-mode=VERIFY_IDENTITY' --state-dir ./state

Exit codes and signals: walbrook --help";

const RUN_HELP: &str = "\
The file is YAML; `walbrook spec` prints its JSON Schema. ${VAR} and ${VAR:-default} work
inside values, $$ is a dollar sign. An unknown key is an error.

Every key can come from the environment, which wins over the file: WALBROOK_ and the key in
capitals, levels joined by two underscores, lists with commas: WALBROOK_SOURCE__URL,
WALBROOK_SOURCE__TABLES, WALBROOK_MEMORY, WALBROOK_SINKS__0__TYPE.

Metrics and health are served meanwhile: http://127.0.0.1:9909/metrics, /livez, /readyz,
unless the key http says otherwise.

Without a file the short forms count too: SOURCE_<KEY>, SINK_<KEY> (of one sink), STATE_DIR.

Examples:
  walbrook run --config walbrook.yaml
  SOURCE_URL=postgres://app@db/shop SINK_TYPE=stdout walbrook run
  SOURCE_URL=postgres://app@db/shop STATE_DIR=/state \\
    SINK_TYPE=file SINK_PATH=/var/log/changes.ndjson walbrook run

Exit codes and signals: walbrook --help";

const SUBSCRIBE_HELP: &str = "\
The lines are those of `walbrook tail`. Without --consumer nothing is kept of this reader: it
begins with what is committed from now on, or where --from says, and a new run begins anew.
With --consumer the sidecar stores how far this reader is: what is written to stdout is
acknowledged, and the next run goes on behind it. The database keeps its log meanwhile,
within the sidecar's limits (grpc.max_lag_bytes, grpc.max_lag_time).

A connection that breaks is made again, with backoff from 100 ms to 10 s. What was written and
not acknowledged then comes again, with the same (pos, ord). With --limit the last batch is
written in part, is not acknowledged, and comes again to the same consumer.

Exit codes: 0 the end that was asked for was reached, a signal asked to stop, or the reader of
stdout went away; 1 the sidecar cannot be reached at the start, another client has taken the
consumer over, it is detached, or a value cannot be sent; 2 wrong usage, an unknown token, or
something the sidecar wants changed; 3 the position is lost: the database's log no longer
covers it.

Examples:
  walbrook subscribe 127.0.0.1:50051 --tables 'public.orders'
  walbrook subscribe 127.0.0.1:50051 --consumer audit --from snapshot >> audit.ndjson
  walbrook subscribe https://db1:50051 --ca ca.crt --token-file token --consumer audit
  walbrook subscribe 127.0.0.1:50051 --from earliest --until current

Signals: walbrook --help";

const CHECK_HELP: &str = "\
Changes nothing on the server or at the sinks. Exits 0 when every prerequisite holds
(warnings do not count), else 1.

Examples:
  walbrook check postgres://app@localhost/shop --tables 'public.*'
  walbrook check mysql://app@localhost/ --tables 'shop.*'
  walbrook check --config walbrook.yaml --json

Exit codes and signals: walbrook --help";

const DISCOVER_HELP: &str = "\
Examples:
  walbrook discover postgres://app@localhost/shop --tables 'public.*'
  walbrook discover --config walbrook.yaml

Exit codes and signals: walbrook --help";

const SPEC_HELP: &str = "\
Example, for an editor that checks YAML against a schema:
  walbrook spec > walbrook.schema.json
  # yaml-language-server: $schema=walbrook.schema.json

Exit codes and signals: walbrook --help";

const SHOW_HELP: &str = "\
Exits 0; 3 when the server no longer covers what is stored; 1 when it could not be asked.

Examples:
  walbrook offsets show --config walbrook.yaml
  walbrook offsets show --state-dir ./state --url postgres://app@localhost/shop --json
  walbrook offsets show --state-dir ./state --offline";

const SET_HELP: &str = "\
Example:
  walbrook offsets set --state-dir ./state --sink audit 16/B374D848
  walbrook offsets set --state-dir ./state --sink audit binlog.000042:1234
  walbrook offsets set --state-dir ./state --sink audit 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-23

Exit codes and signals: walbrook --help";

const RESET_HELP: &str = "\
Example:
  walbrook offsets reset --state-dir ./state --yes

Exit codes and signals: walbrook --help";

/// How to reach the database and what to take of it.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "What to stream")]
pub struct Selection {
    /// Tables to stream: names or globs of schema.table (MySQL: database.table), with commas [default: every user table]
    #[arg(long, value_name = "GLOBS", action = ArgAction::Append)]
    pub tables: Vec<String>,
    /// Tables not to stream, though --tables names them
    #[arg(long, value_name = "GLOBS", action = ArgAction::Append)]
    pub exclude_tables: Vec<String>,
    /// Columns to stream: names or globs of schema.table.column; of a table that none fits, every column
    #[arg(long, value_name = "GLOBS", action = ArgAction::Append)]
    pub columns: Vec<String>,
    /// Columns not to stream: 'public.users.password'
    #[arg(long, value_name = "GLOBS", action = ArgAction::Append)]
    pub exclude_columns: Vec<String>,
}

#[derive(Debug, Args)]
pub struct TailArgs {
    /// The database: mysql://user:pass@host:port/?ssl-mode=…, mariadb://…, postgres://user:pass@host:port/db?sslmode=… or
    /// libpq's keywords 'host=… dbname=…'. What is absent of Postgres' comes from the PG* variables and the password file:
    /// `postgres://` alone takes everything from there
    #[arg(value_name = "URL", env = "WALBROOK_SOURCE__URL", hide_env_values = true)]
    pub url: String,
    #[command(flatten)]
    pub selection: Selection,

    /// Whether to read the rows that are there already, before the changes
    #[arg(long, value_name = "WHEN", default_value = "initial")]
    pub snapshot: SnapshotMode,
    /// Connections that read the snapshot side by side [default: the machine's cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub snapshot_workers: Option<u16>,
    /// Stop, with exit code 0, when everything committed up to the server's position at the start (current), or up to
    /// a position, is delivered: an LSN such as 16/B374D848; on MySQL FILE:OFFSET or a GTID set
    #[arg(long, value_name = "current|POSITION", value_parser = until)]
    pub until: Option<Until>,
    /// Stop, with exit code 0, after this many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Records for the beginning and the end of every transaction too
    #[arg(long)]
    pub transactions: bool,

    /// One JSON object a line
    #[arg(long, value_name = "FORMAT", default_value = "json", help_heading = "Output")]
    pub format: Format,
    /// Where the lines go: - for stdout, null for nowhere (to measure), or a file that is appended to
    #[arg(short, long, value_name = "-|FILE|null", default_value = "-", help_heading = "Output")]
    pub output: Output,

    /// Keeps positions here (Postgres: with a permanent slot and publication): run it again and it goes on
    #[arg(long, value_name = "DIR", help_heading = "To go on later")]
    pub state_dir: Option<PathBuf>,
    /// Postgres: the permanent replication slot [default: walbrook]
    #[arg(long, value_name = "NAME", requires = "state_dir", help_heading = "To go on later")]
    pub slot: Option<String>,
    /// Postgres: the publication: with --state-dir it is created when absent [default: walbrook], without it must exist
    /// [default: a temporary one]
    #[arg(long, value_name = "NAME", help_heading = "To go on later")]
    pub publication: Option<String>,
    /// MySQL: the number under which the log is asked for; nobody else of the server may have it [default: a free one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub server_id: Option<u32>,
    /// Serve /metrics, /livez and /readyz there meanwhile, for example at 127.0.0.1:9909 [default: not]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http: Option<String>,
    /// When the server no longer holds the log from the stored position on: stop with exit code 3, or start over
    #[arg(
        long,
        value_name = "POLICY",
        default_value = "fail",
        requires = "state_dir",
        help_heading = "To go on later"
    )]
    pub on_lost_position: LostPolicy,

    /// What the process may take; a row larger than the part for rows in flight passes alone [default: 64MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub memory: Option<ByteSize>,
    /// How long a stop may take to deliver and store what was read [default: 8s]
    #[arg(long, value_name = "DURATION", help_heading = "Limits")]
    pub drain_timeout: Option<Span>,
}

#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Where it listens (http.listen): HOST:PORT, or :PORT on this machine
    #[arg(
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9909",
        env = "WALBROOK_HTTP__LISTEN",
        hide_env_values = true
    )]
    pub address: String,
    /// Asks whether it streams (/readyz) and not only whether it lives (/livez)
    #[arg(long)]
    pub ready: bool,
}

#[derive(Debug, Args)]
pub struct SubscribeArgs {
    /// Where the sidecar listens (grpc.listen): HOST:PORT, or https://HOST:PORT where it has TLS
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// The durable consumer to be: its position is stored by the sidecar [default: none, nothing is stored]
    #[arg(long, value_name = "NAME")]
    pub consumer: Option<String>,
    /// Where to begin: snapshot (the rows that are there, then their changes), earliest (the oldest change the log has),
    /// latest, or a position. A consumer of which something is stored goes on there instead [default: latest]
    #[arg(long, value_name = "snapshot|earliest|latest|POSITION", value_parser = begin)]
    pub from: Option<Begin>,
    /// Forgets what is stored of the consumer, and begins as --from says
    #[arg(long, requires = "consumer", requires = "from")]
    pub anew: bool,
    /// Ends another client that has this consumer's name, instead of being refused
    #[arg(long, requires = "consumer")]
    pub takeover: bool,
    #[command(flatten)]
    pub selection: Selection,
    /// Operations to stream, with commas: snapshot, insert, update, delete, truncate, message [default: all of these]
    #[arg(long, value_name = "OPERATIONS", value_delimiter = ',', help_heading = "What to stream")]
    pub operations: Vec<Operation>,
    /// Changes of tables' shapes too
    #[arg(long, help_heading = "What to stream")]
    pub schema_changes: bool,
    /// Records for the beginning and the end of every transaction too
    #[arg(long, help_heading = "What to stream")]
    pub transactions: bool,
    /// One JSON object a line
    #[arg(long, value_name = "FORMAT", default_value = "json", help_heading = "Output")]
    pub format: Format,
    /// Stop, with exit code 0, after this many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Stop, with exit code 0, when everything up to where the stream is at the start (current), or up to a position, is
    /// written
    #[arg(long, value_name = "current|POSITION", value_parser = until)]
    pub until: Option<Until>,
    /// Waits for a sidecar that cannot be reached yet
    #[arg(long)]
    pub wait: bool,
    /// Whose certificate the sidecar must show, in PEM; with https:// [default: the system's roots]
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub ca: Option<PathBuf>,
    /// The client's certificate, in PEM, where the sidecar asks for one
    #[arg(long, value_name = "FILE", requires = "key", help_heading = "Connection")]
    pub cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = "Connection")]
    pub key: Option<PathBuf>,
    /// The token (grpc.tokens); others see it in the list of processes
    #[arg(long, value_name = "TOKEN", env = "WALBROOK_TOKEN", hide_env_values = true, help_heading = "Connection")]
    pub token: Option<String>,
    /// The file that holds the token
    #[arg(long, value_name = "FILE", conflicts_with = "token", help_heading = "Connection")]
    pub token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Operation {
    Snapshot,
    Insert,
    Update,
    Delete,
    Truncate,
    Message,
}

fn begin(text: &str) -> Result<Begin, String> {
    match text.to_ascii_lowercase().as_str() {
        "snapshot" => Ok(Begin::Snapshot),
        "earliest" => Ok(Begin::Earliest),
        "latest" => Ok(Begin::Latest),
        _ => position(text)
            .map(Begin::At)
            .map_err(|error| format!("neither snapshot, earliest, latest nor a position: {error}")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Stdout,
    Null,
    File(PathBuf),
}

impl From<&str> for Output {
    fn from(text: &str) -> Self {
        match text {
            "-" => Output::Stdout,
            "null" => Output::Null,
            path => Output::File(path.into()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    Current,
    At(Position),
}

fn until(text: &str) -> Result<Until, String> {
    if text.eq_ignore_ascii_case("current") {
        return Ok(Until::Current);
    }
    position(text).map(Until::At).map_err(|error| format!("neither `current` nor a position: {error}"))
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration file; without it everything comes from the environment [env: WALBROOK_CONFIG]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// A pipeline by its configuration, or a database by its URL.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// The database, instead of a configuration
    #[arg(value_name = "URL", conflicts_with = "config")]
    pub url: Option<String>,
    #[command(flatten)]
    pub config: ConfigArgs,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub selection: Selection,
    /// Postgres: the slot that is going to be used, with a URL
    #[arg(long, value_name = "NAME", requires = "url")]
    pub slot: Option<String>,
    /// Postgres: the publication that is going to be used, with a URL
    #[arg(long, value_name = "NAME", requires = "url")]
    pub publication: Option<String>,
    /// One JSON document instead of lines
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DiscoverArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub selection: Selection,
}

#[derive(Debug, Subcommand)]
pub enum OffsetsCommand {
    /// Lineage, position per sink, snapshot progress, and whether the server still covers them; also while walbrook runs
    #[command(after_long_help = SHOW_HELP)]
    Show {
        #[command(flatten)]
        store: StoreArgs,
        /// One JSON document instead of a table
        #[arg(long)]
        json: bool,
        /// Does not ask the server for the retention verdict
        #[arg(long)]
        offline: bool,
    },
    /// Puts one sink at a position, backwards too; refused while walbrook runs on the store
    ///
    /// Going back delivers again what the server still holds. Going forward skips what lies between: it is lost to
    /// this sink.
    #[command(after_long_help = SET_HELP)]
    Set {
        #[command(flatten)]
        store: StoreArgs,
        /// The sink, as `offsets show` names it
        #[arg(long, value_name = "NAME")]
        sink: String,
        /// The position to resume at: an LSN such as 16/B374D848; on MySQL FILE:OFFSET, FILE:OFFSET/GTIDS or
        /// GTIDS. The pos of a change is one too: its transaction comes again, whole
        #[arg(value_name = "POSITION", value_parser = position)]
        position: Position,
    },
    /// Forgets everything: the next start is a cold one, with a snapshot; refused while walbrook runs on the store
    ///
    /// What is on the server (Postgres: slot and publication) stays as it is.
    #[command(after_long_help = RESET_HELP)]
    Reset {
        #[command(flatten)]
        store: StoreArgs,
        /// Yes, forget
        #[arg(long, required = true)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The directory of the offset store, instead of a configuration
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub state_dir: Option<PathBuf>,
    /// The database, for the retention verdict, together with --state-dir [env: WALBROOK_SOURCE__URL]
    #[arg(long, value_name = "URL", requires = "state_dir")]
    pub url: Option<String>,
    #[command(flatten)]
    pub config: ConfigArgs,
}

fn position(text: &str) -> Result<Position, String> {
    text.parse().map_err(|error: Error| error.remedy_text().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn slot_needs_a_state_dir_and_publication_does_not() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["walbrook", "tail", "postgres://"], args].concat());
        assert!(parse(&["--slot", "a"]).is_err());
        assert!(parse(&["--slot", "a", "--state-dir", "d"]).is_ok());
        assert!(parse(&["--publication", "a"]).is_ok());
        assert!(parse(&["--until", "soon"]).is_err());
        for position in ["0/10", "binlog.000042:4", "0-1-5", "b.1:4/3e11fa47-71ca-11e1-9e33-c80aa9429562:1-23"] {
            assert!(parse(&["--until", position]).is_ok());
        }
        assert!(parse(&["--snapshot-workers", "0"]).is_err());
    }
}
