//! From a valid configuration to the workers: the one place that knows every database, sink and store by name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::args::Until;
use super::plan::Stream;
use crate::config::Database;
use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::flow::Progress;
use crate::offset::{MemoryStore, OffsetStore, RocksStore, Store};
use crate::pipeline::{self, Control, Hub, HubOptions, Options, Pipeline, SinkSpec};
use crate::server::grpc;
use crate::source::mysql::{self, MySqlSource};
use crate::source::postgres::conninfo::ConnInfo;
use crate::source::postgres::{self, PostgresSource, SlotKind};
use crate::source::tables::{Added, Names, Selection};
use crate::source::{Lanes, SnapshotSettings, Source};

/// Connects to nothing yet. Errors: `Config`.
pub fn source(config: &config::Source, added: &Added) -> Result<Box<dyn Source>> {
    let takes_snapshot = config.snapshot != config::SnapshotMode::Never;
    match &config.database {
        Database::Postgres(database) => {
            let slot = database.slot.clone().map_or(SlotKind::Temporary, SlotKind::Permanent);
            let settings = postgres_settings(config, added, database, slot, takes_snapshot, config.heartbeat)?;
            Ok(Box::new(PostgresSource::new(settings)?))
        }
        Database::MySql(database) => Ok(Box::new(MySqlSource::new(mysql_settings(
            config,
            added,
            database,
            database.server_id,
            takes_snapshot,
        )?)?)),
    }
}

/// Sources beside the main one, for consumers that are behind.
pub struct SourceLanes {
    config: config::Source,
    added: Added,
}

impl Lanes for SourceLanes {
    fn open(&self, takes_snapshot: bool) -> Result<Box<dyn Source>> {
        let config = &self.config;
        match &config.database {
            Database::Postgres(database) => {
                let name = database.slot.clone().ok_or_else(|| {
                    Error::config("a consumer that is behind needs a permanent replication slot").remedy("name a slot")
                })?;
                // The main source writes the heartbeats.
                let slot = SlotKind::CopyOf(name);
                let settings = postgres_settings(config, &self.added, database, slot, takes_snapshot, None)?;
                Ok(Box::new(PostgresSource::new(settings)?))
            }
            // The configured number is the main source's.
            Database::MySql(database) => {
                Ok(Box::new(MySqlSource::new(mysql_settings(config, &self.added, database, None, takes_snapshot)?)?))
            }
        }
    }

    fn added(&self) -> Added {
        self.added.clone()
    }
}

fn selection(config: &config::Source, names: &Names<'_>, added: &Added) -> Result<Selection> {
    let config::Source { tables, exclude_tables, columns, exclude_columns, .. } = config;
    Ok(Selection::new(names, tables, exclude_tables, columns, exclude_columns)?.beside(added.clone()))
}

/// A consumer that leaves within its snapshot is given its last chunks again: few rows, though each chunk is a query and an
/// entry of the store (some 25,000 of them for 100 GB).
const LANE_CHUNK_MAX_BYTES: u64 = 4 << 20;

fn snapshot_settings(config: &config::Source) -> SnapshotSettings {
    SnapshotSettings { workers: config.snapshot_workers, chunk_bytes: config.snapshot_chunk_bytes }
}

fn postgres_settings(
    config: &config::Source,
    added: &Added,
    database: &config::Postgres,
    slot: SlotKind,
    takes_snapshot: bool,
    heartbeat: Option<Duration>,
) -> Result<postgres::Settings> {
    Ok(postgres::Settings {
        conninfo: ConnInfo::from_process(config.url.expose())?,
        selection: selection(config, &postgres::NAMES, added)?,
        slot,
        publication: database.publication.clone(),
        failover: database.failover,
        heartbeat,
        takes_snapshot,
        snapshot: snapshot_settings(config),
    })
}

fn mysql_settings(
    config: &config::Source,
    added: &Added,
    database: &config::MySql,
    server_id: Option<u32>,
    takes_snapshot: bool,
) -> Result<mysql::Settings> {
    Ok(mysql::Settings {
        url: config.url.expose().into(),
        selection: selection(config, &mysql::NAMES, added)?,
        server_id,
        semi_sync: database.semi_sync,
        xa_limit_bytes: database.xa_limit_bytes,
        heartbeat: config.heartbeat.unwrap_or(mysql::DEFAULT_HEARTBEAT),
        takes_snapshot,
        snapshot: snapshot_settings(config),
    })
}

pub fn sinks(config: &Config) -> Result<Vec<SinkSpec>> {
    let build = |sink: &config::Sink| {
        let start = match sink.start {
            config::StartAt::Snapshot => pipeline::StartAt::Snapshot,
            config::StartAt::Now => pipeline::StartAt::Now,
        };
        Ok(SinkSpec { name: sink.name.clone(), sink: sink.kind.build(&sink.name)?, start })
    };
    config.sinks.iter().map(build).collect()
}

fn store(state_dir: Option<&Path>) -> Result<Box<dyn OffsetStore>> {
    Ok(match state_dir {
        Some(dir) => Box::new(RocksStore::open(dir)?),
        None => Box::new(MemoryStore::default()),
    })
}

/// What the process takes besides the batches: code and stacks 12 MiB, the store 3, read buffers and encoders of two
/// sinks and two snapshot readers 5, and what the allocator holds back, measured at up to 20.
const PROCESS_BYTES: usize = 40 << 20;

/// The batches' part of the memory limit: what the process leaves, but of a small limit three eighths.
fn budget_bytes(memory_bytes: usize) -> usize {
    memory_bytes.saturating_sub(PROCESS_BYTES).max(memory_bytes / 8 * 3)
}

/// The gRPC server where one is configured, listening already, the consumers it serves, and an operator's hand on the pipeline. Errors: `Config`.
pub async fn grpc(
    config: &Config,
    added: &Added,
    progress: Arc<Progress>,
    stop: watch::Sender<bool>,
) -> Result<Option<(Hub, Control, grpc::Server)>> {
    let Some(own) = &config.grpc else { return Ok(None) };
    let snapshot_chunk_bytes = config.source.snapshot_chunk_bytes.min(LANE_CHUNK_MAX_BYTES);
    let source = config::Source { snapshot_chunk_bytes, ..config.source.clone() };
    let lanes = Arc::new(SourceLanes { config: source, added: added.clone() });
    let hub = Hub::new(
        HubOptions {
            buffer_bytes: own.buffer_bytes,
            max_unacked_batches: own.max_unacked_batches,
            max_lanes: own.max_lanes,
            max_lag_bytes: own.max_lag_bytes,
            max_lag_time: own.max_lag_time,
            max_consumers: own.max_consumers,
            ..HubOptions::default()
        },
        lanes.clone(),
    );
    let role = |role| match role {
        config::Role::Read => grpc::Role::Read,
        config::Role::Admin => grpc::Role::Admin,
    };
    let settings = grpc::Settings {
        listen: own.listen.clone(),
        tls: own.tls.as_ref().map(|files| grpc::TlsFiles {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            client_ca: files.client_ca.clone(),
        }),
        tokens: grpc::Tokens::new(own.tokens.iter().map(|known| (known.token.expose(), role(known.role)))),
        web_origins: own.web_origins.clone(),
        max_connections: own.max_connections,
        keepalive: own.keepalive,
        max_consumers: own.max_consumers,
        max_unacked_batches: own.max_unacked_batches,
    };
    let sinks: Vec<String> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
    let control = Control::new(sinks.clone(), added.clone());
    let served = grpc::Served {
        hub: hub.clone(),
        control: control.clone(),
        progress,
        lanes,
        names: match &config.source.database {
            Database::Postgres(_) => postgres::NAMES,
            Database::MySql(_) => mysql::NAMES,
        },
        sinks,
        stop: Arc::new(move || {
            stop.send_replace(true);
        }),
    };
    Ok(Some((hub, control, grpc::Server::bind(settings, served).await?)))
}

/// Errors: `Config`; `Transient` when the disk of the store is full.
pub fn pipeline(
    stream: &Stream,
    added: &Added,
    progress: Arc<Progress>,
    stop: watch::Receiver<bool>,
) -> Result<Pipeline> {
    let config = &stream.config;
    let options = Options {
        snapshot: match config.source.snapshot {
            config::SnapshotMode::Initial => pipeline::SnapshotMode::Initial,
            config::SnapshotMode::Never => pipeline::SnapshotMode::Never,
            config::SnapshotMode::Only => pipeline::SnapshotMode::Only,
        },
        on_lost_position: match config.on_lost_position {
            config::LostPolicy::Fail => pipeline::LostPolicy::Fail,
            config::LostPolicy::Resnapshot => pipeline::LostPolicy::Resnapshot,
        },
        budget_bytes: budget_bytes(config.memory_bytes),
        until: stream.until.clone().map(|until| match until {
            Until::Current => pipeline::Until::Current,
            Until::At(position) => pipeline::Until::At(position),
        }),
        limit: stream.limit,
        commit_interval: config.commit_interval,
        drain_timeout: config.drain_timeout,
        wait_for_server: stream.wait_for_server,
    };
    // The store last: it is the only one that makes something.
    let (source, sinks) = (source(&config.source, added)?, sinks(config)?);
    let control = Control::new(sinks.iter().map(|spec| spec.name.clone()), added.clone());
    let store = store(config.state_dir.as_deref())?;
    Ok(Pipeline::new(source, Store::new(store), sinks, options, progress, stop).obeying(control))
}
