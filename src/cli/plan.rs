//! From what was typed to what is done: every argument checked, every file read, nothing connected yet.
//!
//! Invariants:
//! - Below here nobody looks at an argument, a file of configuration or an environment variable of ours again.
//! - What is wrong is an error of class `Config`, that is exit code 2.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::{
    CheckArgs, Cli, Command, ConfigArgs, DiscoverArgs, Format, HealthArgs, OffsetsCommand, Operation, Output,
    Selection, StoreArgs, SubscribeArgs, TailArgs, TargetArgs, Until,
};
use super::health::Health;
use super::logging;
use super::subscribe::{self, Address, Subscription};
use crate::config::{
    Config, ConnectionString, File, RawConfig, RawHttp, RawLog, RawSink, RawSource, SnapshotMode, Source, Variables,
    default_commit_interval, default_drain_timeout, default_memory, default_state_dir, split_list,
};
use crate::error::{Context, Error, Result};
use crate::proto::v1;
use crate::record::Position;
use crate::source::tls;

/// What is to be done, and how it is logged.
pub struct Plan {
    pub log: RawLog,
    pub work: Work,
}

pub enum Work {
    Stream(Box<Stream>),
    Check { config: Box<Config>, json: bool },
    Discover(Box<Config>),
    Health(Health),
    Spec,
    Offsets(Box<Offsets>),
    Subscribe(Box<Subscription>),
}

/// A pipeline and when it ends.
pub struct Stream {
    pub config: Config,
    pub until: Option<Until>,
    pub limit: Option<u64>,
    /// Whether a server that cannot be reached is waited for: a process that runs for good does.
    pub wait_for_server: bool,
    pub shows_progress: bool,
}

pub struct Offsets {
    pub state_dir: PathBuf,
    pub action: OffsetsAction,
}

pub enum OffsetsAction {
    /// `source`: none does not ask the server.
    Show {
        source: Option<ServerOf>,
        json: bool,
    },
    Set {
        sink: String,
        position: Position,
    },
    Reset,
}

/// How to reach the server that a store belongs to.
pub struct ServerOf {
    pub source: Source,
    /// Whether the slot is the one the store names, because nobody else does.
    pub slot_from_store: bool,
}

impl Plan {
    pub fn new(cli: Cli, variables: &Variables) -> Result<Plan> {
        let mut configured = None;
        let work = match cli.command {
            Command::Spec => Work::Spec,
            Command::Health(HealthArgs { address, ready }) => Work::Health(health(&address, ready)),
            Command::Tail(args) => Work::Stream(Box::new(tail(*args, cli.log.quiet)?)),
            Command::Run(args) => {
                let config = load(&args, variables)?;
                configured = Some(config.log.clone());
                let shows_progress = cli.log.quiet == 0;
                let stream = Stream { config, until: None, limit: None, wait_for_server: true, shows_progress };
                Work::Stream(Box::new(stream))
            }
            Command::Subscribe(args) => Work::Subscribe(Box::new(subscription(*args)?)),
            Command::Check(CheckArgs { target, selection, slot, publication, json }) => {
                let config = target_config(target, selection, slot, publication, variables)?;
                Work::Check { config: Box::new(config), json }
            }
            Command::Discover(DiscoverArgs { target, selection }) => {
                Work::Discover(Box::new(target_config(target, selection, None, None, variables)?))
            }
            Command::Offsets(command) => Work::Offsets(Box::new(offsets(command, variables)?)),
        };
        Ok(Plan { log: logging::choose(&cli.log, configured.as_ref()), work })
    }
}

/// One that listens everywhere is asked on this machine.
fn health(listen: &str, ready: bool) -> Health {
    let (host, port) = listen.rsplit_once(':').unwrap_or((listen, ""));
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    Health { address: format!("{host}:{port}"), ready }
}

fn tail(args: TailArgs, quiet: u8) -> Result<Stream> {
    if args.snapshot == SnapshotMode::Only && args.until.is_some() {
        return Err(
            Error::config("--until with --snapshot only: the snapshot is the end").remedy("leave one of the two out")
        );
    }
    let keeps = args.state_dir.is_some();
    let mut source = RawSource::new(ConnectionString::new(args.url));
    select(&mut source, args.selection);
    source.snapshot = args.snapshot;
    source.snapshot_workers = args.snapshot_workers;
    source.slot = args.slot;
    let names_publication = args.publication.is_some();
    source.publication = args.publication;
    source.server_id = args.server_id;
    let raw = RawConfig {
        source,
        state_dir: args.state_dir.unwrap_or_else(default_state_dir),
        on_lost_position: args.on_lost_position,
        memory: args.memory.unwrap_or_else(default_memory),
        commit_interval: default_commit_interval(),
        drain_timeout: args.drain_timeout.unwrap_or_else(default_drain_timeout),
        sinks: vec![output_sink(&args.output, args.transactions)?],
        http: Some(args.http.map_or_else(RawHttp::off, |listen| RawHttp { listen })),
        grpc: None,
        log: RawLog::default(),
    };
    let config = check(raw)?;
    let config = if keeps { config } else { config.temporary(names_publication) };
    Ok(Stream { config, until: args.until, limit: args.limit, wait_for_server: false, shows_progress: quiet == 0 })
}

/// The sink of `tail`, under a name that stays when the output changes: positions are of the output, whatever it is.
fn output_sink(output: &Output, transactions: bool) -> Result<RawSink> {
    let kind: Value = match output {
        Output::Stdout => json!({ "name": "output", "type": "stdout", "transactions": transactions }),
        Output::Null => json!({ "name": "output", "type": "null" }),
        Output::File(path) => {
            json!({ "name": "output", "type": "file", "path": utf8(path)?, "transactions": transactions })
        }
    };
    serde_json::from_value(kind).map_err(|cause| Error::bug("making the sink of --output").because(cause))
}

fn subscription(args: SubscribeArgs) -> Result<Subscription> {
    let address = Address::new(&args.address)?;
    let Format::Json = args.format;
    let token = match (args.token, &args.token_file) {
        (Some(token), _) => Some(token),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).config(|| format!("reading the token in {}", path.display()))?;
            Some(text.trim().to_owned())
        }
        (None, None) => None,
    };
    if !address.encrypted && (args.ca.is_some() || args.cert.is_some()) {
        return Err(
            Error::config("--ca and --cert are of TLS, and the address has none").remedy("write https://HOST:PORT")
        );
    }
    let tls = address.encrypted.then(|| tls::Plan {
        verify: tls::Verify::ChainAndName,
        root: Some(args.ca.map_or(tls::RootCert::System, tls::RootCert::File)),
        client: args.cert.zip(args.key).map(|(cert, key)| tls::ClientCert { cert, key }),
        sni: true,
        only_tls13: false,
        protocol: Some("h2"),
        names: &subscribe::NAMES,
    });
    let operation = |operation: &Operation| match operation {
        Operation::Snapshot => v1::Operation::Snapshot.into(),
        Operation::Insert => v1::Operation::Insert.into(),
        Operation::Update => v1::Operation::Update.into(),
        Operation::Delete => v1::Operation::Delete.into(),
        Operation::Truncate => v1::Operation::Truncate.into(),
        Operation::Message => v1::Operation::Message.into(),
    };
    let list = |given: &[String]| given.iter().flat_map(|text| split_list(text)).map(str::to_owned).collect();
    Ok(Subscription {
        address,
        tls,
        token: token.map(Into::into),
        consumer: args.consumer.unwrap_or_default(),
        takeover: args.takeover,
        from: args.from,
        anew: args.anew,
        filter: v1::Filter {
            tables: list(&args.selection.tables),
            exclude_tables: list(&args.selection.exclude_tables),
            columns: list(&args.selection.columns),
            exclude_columns: list(&args.selection.exclude_columns),
            operations: args.operations.iter().map(operation).collect(),
            schema_changes: args.schema_changes,
            transactions: args.transactions,
        },
        limit: args.limit,
        until: args.until.map(|until| match until {
            Until::Current => subscribe::Until::Current,
            Until::At(position) => subscribe::Until::At(position),
        }),
        wait: args.wait,
    })
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::config(format!("the path {} is not UTF-8", path.display())))
}

fn select(source: &mut RawSource, selection: Selection) {
    let list = |given: Vec<String>| given.iter().flat_map(|text| split_list(text)).map(str::to_owned).collect();
    source.tables = list(selection.tables);
    source.exclude_tables = list(selection.exclude_tables);
    source.columns = list(selection.columns);
    source.exclude_columns = list(selection.exclude_columns);
}

/// What the command line gives by hand, checked as a file would be; the keys are called by their flags.
fn check(raw: RawConfig) -> Result<Config> {
    raw.check().map_err(|wrong| {
        let flag = |key: &str| match key {
            "http.listen" => "--http".to_owned(),
            key => format!("--{}", key.rsplit('.').next().unwrap_or(key).replace('_', "-")),
        };
        let lines: Vec<String> = wrong.iter().map(|(key, message)| format!("{}: {message}", flag(key))).collect();
        Error::config(lines.join("\n  ")).remedy("`walbrook help tail` lists the flags")
    })
}

/// The configuration of a file, or of the environment alone.
fn load(args: &ConfigArgs, variables: &Variables) -> Result<Config> {
    let path = args.config.clone().or_else(|| config_variable(variables));
    match path {
        None => crate::config::load(None, variables),
        Some(path) => {
            let name = path.display().to_string();
            let yaml = std::fs::read_to_string(&path).config(|| format!("reading the configuration {name}"))?;
            crate::config::load(Some(File { name: &name, yaml: &yaml }), variables)
        }
    }
}

fn config_variable(variables: &Variables) -> Option<PathBuf> {
    variables.get("WALBROOK_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The source of a URL, with no sink, or all of a configuration.
fn target_config(
    target: TargetArgs,
    selection: Selection,
    slot: Option<String>,
    publication: Option<String>,
    variables: &Variables,
) -> Result<Config> {
    let Some(url) = target.url else {
        let given = [&selection.tables, &selection.exclude_tables, &selection.columns, &selection.exclude_columns];
        if given.iter().any(|list| !list.is_empty()) {
            return Err(Error::config("--tables, --columns and their --exclude forms go with a URL")
                .remedy("give the URL, or write them into the configuration"));
        }
        return load(&target.config, variables);
    };
    let mut source = RawSource::new(ConnectionString::new(url));
    select(&mut source, selection);
    let names_publication = publication.is_some();
    source.slot = slot.clone();
    source.publication = publication;
    let mut config = check(without_sinks(source))?.temporary(names_publication);
    if let Some(postgres) = config.source.database.postgres_mut() {
        postgres.slot = slot;
    }
    Ok(config)
}

fn without_sinks(source: RawSource) -> RawConfig {
    RawConfig {
        source,
        state_dir: default_state_dir(),
        on_lost_position: Default::default(),
        memory: default_memory(),
        commit_interval: default_commit_interval(),
        drain_timeout: default_drain_timeout(),
        sinks: Vec::new(),
        http: Some(RawHttp::off()),
        grpc: None,
        log: RawLog::default(),
    }
}

fn offsets(command: OffsetsCommand, variables: &Variables) -> Result<Offsets> {
    Ok(match command {
        OffsetsCommand::Show { store, json, offline } => {
            let (state_dir, source) = store_of(store, variables)?;
            if source.is_none() && !offline {
                return Err(Error::config("no database to ask for the retention verdict")
                    .remedy("add --url URL, or --offline for what is stored alone"));
            }
            Offsets { state_dir, action: OffsetsAction::Show { source: source.filter(|_| !offline), json } }
        }
        OffsetsCommand::Set { store, sink, position } => {
            Offsets { state_dir: store_of(store, variables)?.0, action: OffsetsAction::Set { sink, position } }
        }
        OffsetsCommand::Reset { store, yes: _ } => {
            Offsets { state_dir: store_of(store, variables)?.0, action: OffsetsAction::Reset }
        }
    })
}

/// Where the store is, and how to reach its server where that is known.
fn store_of(args: StoreArgs, variables: &Variables) -> Result<(PathBuf, Option<ServerOf>)> {
    if let Some(state_dir) = args.state_dir {
        let url = args.url.or_else(|| variables.get("WALBROOK_SOURCE__URL").cloned());
        let source = url.map(|url| check(without_sinks(RawSource::new(ConnectionString::new(url))))).transpose()?;
        let server = source.map(|config| ServerOf { source: config.source, slot_from_store: true });
        return Ok((state_dir, server));
    }
    let config = load(&args.config, variables)?;
    let state_dir = config.state_dir.ok_or_else(|| Error::bug("a loaded configuration without a state directory"))?;
    Ok((state_dir, Some(ServerOf { source: config.source, slot_from_store: false })))
}

/// The names of the sinks, for a message.
pub fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: BTreeSet<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.into_iter().collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn plan(args: &[&str], variables: &[(&str, &str)]) -> Result<Work> {
        let cli = Cli::try_parse_from([&["walbrook"], args].concat()).expect("arguments that parse");
        let variables = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Plan::new(cli, &variables).map(|plan| plan.work)
    }

    fn tail(args: &[&str]) -> Result<Stream> {
        match plan(&[&["tail", "postgres://h/d"], args].concat(), &[])? {
            Work::Stream(stream) => Ok(*stream),
            _ => panic!("tail is a stream"),
        }
    }

    #[test]
    fn tail_keeps_nothing_unless_it_has_a_state_dir() {
        let names = |config: &mut Config| {
            let postgres = config.source.database.postgres_mut().expect("Postgres");
            (postgres.slot.clone(), postgres.publication.clone())
        };
        let Stream { mut config, .. } = tail(&["--tables", "a.b,c.*", "--tables", "d.e"]).unwrap();
        assert_eq!((names(&mut config), &config.state_dir), ((None, None), &None));
        assert_eq!(config.source.tables, ["a.b", "c.*", "d.e"]);
        let Stream { mut config, .. } = tail(&["--publication", "p"]).unwrap();
        assert_eq!(names(&mut config), (None, Some("p".into())));
        let Stream { mut config, .. } = tail(&["--state-dir", "s"]).unwrap();
        assert_eq!(names(&mut config), (Some("walbrook".into()), Some("walbrook".into())));
        assert_eq!(config.state_dir, Some("s".into()));
        assert_eq!(config.sinks[0].name, "output");
    }

    #[test]
    fn what_is_wrong_is_called_by_its_flag() {
        let wrong = |args: &[&str]| tail(args).err().expect("an error").to_string();
        assert!(wrong(&["--slot", "Big", "--state-dir", "s"]).contains("--slot: \"Big\""));
        assert!(wrong(&["--memory", "1KiB"]).contains("--memory: 1KiB is less than 1MiB"));
        assert!(wrong(&["--snapshot", "only", "--until", "current"]).contains("--until"));
    }

    #[test]
    fn show_wants_a_server_or_offline() {
        assert!(plan(&["offsets", "show", "--state-dir", "s"], &[]).is_err());
        assert!(plan(&["offsets", "show", "--state-dir", "s", "--offline"], &[]).is_ok());
        let with =
            plan(&["offsets", "show", "--state-dir", "s"], &[("WALBROOK_SOURCE__URL", "postgres://h/d")]).unwrap();
        let Work::Offsets(offsets) = with else { panic!("offsets") };
        let OffsetsAction::Show { source: Some(server), .. } = offsets.action else { panic!("with a server") };
        assert!(server.slot_from_store);
    }

    #[test]
    fn selections_go_with_a_url() {
        let environment = [("SOURCE_URL", "postgres://h/d"), ("SINK_TYPE", "null")];
        assert!(plan(&["check"], &environment).is_ok());
        assert!(plan(&["check", "--tables", "a.b"], &environment).is_err());
        assert!(plan(&["check", "postgres://h/d", "--tables", "a.b"], &[]).is_ok());
    }
}
