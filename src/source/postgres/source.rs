//! The source as the pipeline sees it: connections, slot and publication, and the way from a start to a stream.
//!
//! Invariants:
//! - SQL and replication go to the same server, though the URL may name several.
//! - A temporary slot lives on its connection: once that breaks, the stream cannot go on, and says so.
//! - The position of the slot is checked after START_REPLICATION too: the server silently skips ahead of a request below
//!   its confirmed position.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::timeout;

use super::beside::{heartbeat, shutdown, silence};
use super::catalog::{Catalog, Table};
use super::check::{self, Wanted};
use super::connection::{CancelToken, Connection, Role};
use super::conninfo::ConnInfo;
use super::decoder::Decoder;
use super::discover;
use super::observer::SlotObserver;
use super::publication::{self, Ownership, Publication, Published};
use super::quote;
use super::relation::{RelationCache, StoredRelation};
use super::reread::Rereads;
use super::retention::{self, Observed};
use super::settings::{Settings, SlotKind};
use super::slot::{self, CreateSlot, Created, SlotState};
use super::snapshot::{self, Point, Progress, Snapshot};
use super::sql::Sql;
use super::stream::Stream;
use super::types::TypeCache;
use crate::error::{Error, Finding, Result};
use crate::fault;
use crate::flow::{BatchWriter, Outlet};
use crate::record::{Lineage, Lsn, Origin, Position, owed};
use crate::source::{Admission, Observer, Ready, Rows, Source, State, Stored, StreamEnd, Streamed, Verdict};

/// `messages` is an option of pgoutput since 14.
const MESSAGES_SINCE: u32 = 140_000;

/// A connection that was idle has this long to answer a ping. One that stands still, its socket open, would have us wait for
/// ever; a server that is only slow costs a new connection.
const PING_PATIENCE: Duration = Duration::from_secs(5);

pub struct PostgresSource {
    settings: Settings,
    slot: String,
    publication: String,
    sql: Option<Sql>,
    /// The way to the server that `sql` was last connected to; before that, the URL's.
    server: watch::Sender<ConnInfo>,
    replication: Option<Connection>,
    /// To end the making of a slot that is waiting for running transactions.
    creating: Option<CancelToken>,
    /// Whether a temporary publication of ours may be on the server.
    leaves_publication: bool,
    prepared: Option<Prepared>,
}

/// What [`Source::prepare`] leaves for the snapshot and the stream.
struct Prepared {
    catalog: Catalog,
    published: HashMap<u32, Arc<Published>>,
    relations: RelationCache,
    /// A snapshot exported with the slot; usable until the next command on the replication connection.
    exported: Option<(Lsn, String)>,
}

impl PostgresSource {
    pub fn new(settings: Settings) -> Result<Self> {
        let temporary = slot::temporary_name();
        settings.slot.name().map_or(Ok(()), slot::check_name)?;
        let slot = match &settings.slot {
            SlotKind::Permanent(name) => name.clone(),
            SlotKind::Temporary | SlotKind::CopyOf(_) => temporary.clone(),
        };
        let publication = settings.publication.clone().unwrap_or(temporary);
        Ok(PostgresSource {
            server: watch::Sender::new(settings.conninfo.clone()),
            settings,
            slot,
            publication,
            sql: None,
            replication: None,
            creating: None,
            leaves_publication: false,
            prepared: None,
        })
    }

    fn is_temporary(&self) -> bool {
        !matches!(self.settings.slot, SlotKind::Permanent(_))
    }

    /// The slot that positions are of.
    fn stream_name(&self) -> &str {
        self.settings.slot.name().unwrap_or(&self.slot)
    }

    async fn sql(&mut self) -> Result<&Sql> {
        let alive = match &self.sql {
            Some(sql) => {
                timeout(PING_PATIENCE, sql.execute("", "asking whether it is there")).await.is_ok_and(|r| r.is_ok())
            }
            None => false,
        };
        if !alive {
            let sql = Sql::connect(&self.settings.conninfo).await?;
            self.server.send_replace(sql.same_server().clone());
            self.sql = Some(sql);
        }
        self.sql.as_ref().ok_or_else(|| Error::bug("no SQL connection"))
    }

    /// The replication connection, idle. Errors: `Config`, where the slot was temporary and went with its connection.
    async fn replication(&mut self) -> Result<Connection> {
        if let Some(mut connection) = self.replication.take() {
            // A stream that was asked to stop is open for a last confirmation.
            if connection.is_streaming() {
                connection.stop_replication().await?;
            }
            return Ok(connection);
        }
        if let (SlotKind::CopyOf(of), true) = (&self.settings.slot, self.prepared.is_some()) {
            let of = of.clone();
            return self.copy_slot(&of).await;
        }
        if self.is_temporary() && self.prepared.is_some() {
            return Err(Error::new(
                crate::error::Class::Data,
                "the connection was lost, and the temporary replication slot with it: the stream cannot go on",
            )
            .remedy("use --state-dir: a permanent slot and stored offsets survive a broken connection"));
        }
        let info = self.sql().await?.same_server().clone();
        Connection::connect(&info, Role::Replication).await
    }

    /// A connection with a temporary copy of a slot: it begins where that one is confirmed, and its point need not be
    /// looked for. Under a name of its own, since a server may not have noticed that the last copy's connection is gone.
    async fn copy_slot(&mut self, of: &str) -> Result<Connection> {
        let info = self.sql().await?.same_server().clone();
        let mut connection = Connection::connect(&info, Role::Replication).await?;
        let copy = slot::temporary_name();
        let command = slot::copy_command(of, &copy);
        let copied = connection.simple_query(&command).await;
        copied
            .map_err(|error| error.context(format!("copying replication slot {of:?} for a consumer that is behind")))?;
        self.slot = copy;
        Ok(connection)
    }

    fn prepared(&mut self) -> Result<&mut Prepared> {
        self.prepared.as_mut().ok_or_else(|| Error::bug("the source was not prepared"))
    }

    async fn create_slot(&mut self, slot: &CreateSlot<'_>) -> Result<(Connection, Lsn, String)> {
        let mut connection = if slot.name == self.slot {
            self.replication().await?
        } else {
            let info = self.sql().await?.same_server().clone();
            Connection::connect(&info, Role::Replication).await?
        };
        let command = slot::create_command(connection.server_version_num(), slot);
        self.creating = Some(connection.cancel_token());
        tracing::info!(slot = slot.name, "creating the replication slot: it waits for the end of running transactions");
        let rows = connection
            .simple_query(&command)
            .await
            .map_err(|error| error.context(format!("creating replication slot {:?}", slot.name)));
        self.creating = None;
        let rows = rows?;
        let rows = rows.first().ok_or_else(|| Error::bug("CREATE_REPLICATION_SLOT answered nothing"))?;
        let created = Created::from_columns(rows.text(0, "consistent_point")?, rows.text(0, "snapshot_name")?)?;
        let snapshot = created.snapshot.ok_or_else(|| Error::bug("CREATE_REPLICATION_SLOT exported no snapshot"))?;
        Ok((connection, created.consistent_point, snapshot))
    }

    /// Starts the stream at `from`, and makes sure that it does. Also says for how long the server may be silent.
    async fn start_replication(&mut self, from: Lsn) -> Result<(Connection, Duration)> {
        let mut connection = self.replication().await?;
        let silence = silence(&mut connection).await?;
        let messages = if connection.server_version_num() >= MESSAGES_SINCE { ", messages 'true'" } else { "" };
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {from} (proto_version '1', publication_names {}{messages})",
            quote::ident(&self.slot),
            quote::replication_literal(&quote::ident(&self.publication)),
        );
        connection
            .start_replication(&command)
            .await
            .map_err(|error| error.context(format!("streaming from slot {:?} at {from}", self.slot)))?;
        let slot = self.slot.clone();
        let sql = self.sql().await?;
        let state = SlotState::read(sql.client(), sql.server_version_num(), &slot).await?;
        let confirmed = state.and_then(|state| state.confirmed_flush_lsn);
        if let Some(confirmed) = confirmed.filter(|confirmed| *confirmed > from) {
            return Err(Error::lost(format!(
                "the server has moved slot {slot:?} to {confirmed} and would skip everything from {from} on ({} bytes)",
                confirmed.0 - from.0
            ))
            .remedy("somebody else consumes this slot; give every consumer a slot of its own"));
        }
        Ok((connection, silence))
    }

    /// Delivers what happened between the finished chunks of an interrupted snapshot and its new point.
    async fn catch_up(
        &mut self,
        rows: Rows,
        from: Lsn,
        point: Lsn,
        progress: &Progress,
        outlet: &Outlet,
    ) -> Result<Decoder> {
        let (mut connection, silence) = self.start_replication(from).await?;
        let prepared = self.prepared.as_mut().ok_or_else(|| Error::bug("the source was not prepared"))?;
        let sql = self.sql.as_ref().ok_or_else(|| Error::bug("no SQL connection"))?;
        let partly = prepared
            .catalog
            .tables
            .iter()
            .filter(|table| table.storage.iter().any(|storage| progress.is_partly_done(storage.oid)));
        let rereads = Rereads::new(partly.map(|table| table.oid));
        let writer = BatchWriter::catching_up(outlet.clone(), snapshot::caught_up(rows));
        let (_never_confirmed, confirmed) = watch::channel(None);
        let (_never_stopped, stop) = watch::channel(false);
        let stream = Stream {
            connection: &mut connection,
            silence,
            decoder: Decoder::new(writer, from, Some(point), Some(rereads)),
            relations: &mut prepared.relations,
            sql,
            progress: &outlet.progress,
            confirmed,
            stop,
        };
        let (_, decoder) = stream.run().await?;
        connection.stop_replication().await?;
        self.replication = Some(connection);
        Ok(decoder)
    }
}

#[async_trait]
impl Source for PostgresSource {
    async fn lineage(&mut self) -> Result<Lineage> {
        let mut connection = self.replication().await?;
        let rows = connection.simple_query("IDENTIFY_SYSTEM").await?;
        let rows = rows.first().ok_or_else(|| Error::bug("IDENTIFY_SYSTEM answered nothing"))?;
        let column = |name| Ok::<_, Error>(rows.text(0, name)?.unwrap_or_default().to_owned());
        let lineage = Lineage {
            kind: "postgres".to_owned(),
            system: column("systemid")?,
            timeline: column("timeline")?,
            database: column("dbname")?,
            // A temporary slot's name is another one each time, and nothing is stored under it.
            stream: self.stream_name().to_owned(),
        };
        self.replication = Some(connection);
        Ok(lineage)
    }

    async fn retention(&mut self, stored: &Lineage, position: &Position) -> Result<Verdict> {
        let lsn = position.lsn()?;
        let slot = self.stream_name().to_owned();
        self.sql().await?;
        let mut connection = self.replication().await?;
        let sql = self.sql.as_ref().ok_or_else(|| Error::bug("no SQL connection"))?;
        let mut observed = Observed::ask(&mut connection, sql, &slot).await?;
        self.replication = Some(connection);
        // A temporary slot of this name is our own: it lives on the connection that was asked.
        if let Some(slot) = observed.slot.as_mut().filter(|_| self.settings.slot == SlotKind::Temporary) {
            slot.temporary = false;
        }
        if let Some(warning) = observed.slot.as_ref().and_then(retention::warning) {
            tracing::warn!("{warning}");
        }
        Ok(retention::verdict(stored, lsn, &observed))
    }

    async fn prepare(&mut self, state: &State) -> Result<Ready> {
        // A fresh snapshot needs a slot whose making exports one; everything else begins where the main slot stands.
        let fresh = self.settings.takes_snapshot && Progress::from_state(Rows::All, state)?.is_none();
        if let (SlotKind::CopyOf(of), false) = (self.settings.slot.clone(), fresh) {
            self.replication = Some(self.copy_slot(&of).await?);
        }
        let (slot, publication_name) = (self.slot.clone(), self.publication.clone());
        let ownership = match self.settings.publication {
            // With a temporary slot nothing is to stay behind: a named publication is used as it is.
            Some(_) if self.is_temporary() => Ownership::Foreign,
            Some(_) => Ownership::Managed,
            None => Ownership::Temporary { slot: slot.clone() },
        };
        self.settings.selection.refresh(None);
        let selection = self.settings.selection.clone();
        let temporary_publication = self.settings.publication.is_none();
        self.leaves_publication = temporary_publication;
        let sql = self.sql().await?;
        let (client, version) = (sql.client(), sql.server_version_num());
        let database = sql.same_server().database.clone();
        let mut types = TypeCache::default();
        let catalog = Catalog::load(client, version, &selection, &mut types).await?;
        catalog.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        if temporary_publication {
            let dropped = publication::drop_abandoned(client).await?;
            dropped
                .iter()
                .for_each(|name| tracing::info!(name, "dropped a publication that a killed walbrook left behind"));
        }
        // The publication first: a slot older than its publication cannot stream it.
        let publication = publication::prepare(client, version, &publication_name, &ownership, &catalog).await?;
        if !publication.created && !publication.added.is_empty() {
            tracing::warn!(
                tables = publication.added.len(),
                "tables were added to the publication: their changes come from now on, their present rows do not"
            );
        }
        let mut relations = RelationCache::new(database.clone(), selection, types);
        relations.restore(state)?;
        let found = SlotState::read(client, version, &slot).await?;
        if let Some(reason) = found.as_ref().and_then(|found| found.foreign(&database)) {
            return Err(Error::config(format!("replication slot {slot:?} cannot be used: {reason}"))
                .remedy("choose another slot name"));
        }
        let mut found = found;
        if let Some(why) = found.as_ref().and_then(SlotState::invalidated) {
            // Nothing is stored that it could lose: with a stored position the verdict comes before this.
            tracing::warn!(slot, why, "dropping the lost replication slot to make a new one");
            let mut connection = self.replication().await?;
            connection.simple_query(&slot::drop_command(&slot)).await?;
            self.replication = Some(connection);
            found = None;
        }
        let (position, exported) = match found {
            Some(found) => {
                let confirmed = found.confirmed_flush_lsn.ok_or_else(|| {
                    Error::transient(format!("replication slot {slot:?} is still being created by another connection"))
                })?;
                (confirmed, None)
            }
            None => {
                let failover = self.settings.failover;
                let create =
                    CreateSlot { name: &slot, temporary: self.is_temporary(), export_snapshot: true, failover };
                let (connection, point, snapshot) = self.create_slot(&create).await?;
                self.replication = Some(connection);
                (point, Some((point, snapshot)))
            }
        };
        let published = publication.publication.by_oid();
        self.prepared = Some(Prepared { catalog, published, relations, exported });
        // What it needs of tables comes with the stream.
        Ok(Ready { position: Position::Postgres(position), state: Vec::new() })
    }

    fn interrupted(&self, rows: Rows, state: &State) -> Result<Option<Position>> {
        Ok(Progress::from_state(rows, state)?.map(|progress| Position::Postgres(progress.point)))
    }

    async fn snapshot(
        &mut self,
        rows: Rows,
        from: Option<Position>,
        state: &State,
        outlet: &Outlet,
    ) -> Result<Position> {
        self.prepared()?.relations.roll_back();
        let exported = self.prepared()?.exported.take().filter(|_| from.is_none());
        let mut holder = None;
        let (lsn, snapshot) = match exported {
            Some(exported) => exported,
            None => {
                // A slot that exists exports no snapshot: a temporary one beside it does.
                let name = slot::temporary_name();
                let create = CreateSlot { name: &name, temporary: true, export_snapshot: true, failover: false };
                let (connection, lsn, snapshot) = self.create_slot(&create).await?;
                holder = Some(connection);
                (lsn, snapshot)
            }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        let point = Point::new(lsn, snapshot, now);
        // The snapshot lives as long as somebody is in it: a reader of our own, whatever happens to the slot's connection.
        let info = self.sql().await?.same_server().clone();
        let coordinator = snapshot::Reader::open(&info, &point, outlet).await?;
        outlet.progress.connected();
        let mut progress = Progress::default();
        let (mut staged, mut rereads) = (Vec::new(), HashMap::new());
        if let Some(Position::Postgres(from)) = from {
            progress = Progress::from_state(rows, state)?.unwrap_or_default();
            tracing::info!(%from, point = %lsn, ?rows, "a snapshot goes on: first the changes since then");
            let mut decoder = self.catch_up(rows, from, lsn, &progress, outlet).await?;
            fault::point("after_catch_up");
            staged = decoder.writer.take_staged();
            rereads = decoder.rereads.take().map(Rereads::into_tables).unwrap_or_default();
        }
        let settings = &self.settings.snapshot;
        let prepared = self.prepared.as_mut().ok_or_else(|| Error::bug("the source was not prepared"))?;
        let owed = if rows == Rows::Owed { owed::owed(state) } else { BTreeSet::new() };
        let is_read = |table: &&Table| rows == Rows::All || owed.contains(&(table.schema.clone(), table.name.clone()));
        let run = Snapshot {
            rows,
            info: &info,
            settings,
            tables: prepared.catalog.tables.iter().filter(is_read).collect(),
            block_size: prepared.catalog.block_size,
            published: &prepared.published,
            relations: &mut prepared.relations,
            outlet,
            point,
            progress,
            state,
            owed,
            staged,
            rereads,
            stored: snapshot::Stored::default(),
        };
        let position = run.run(coordinator).await?;
        drop(holder);
        Ok(position)
    }

    async fn tip(&mut self) -> Result<Position> {
        let sql = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
                   ELSE pg_catalog.pg_current_wal_lsn() END::pg_catalog.text";
        let row = self.sql().await?.query_one(sql, &[], "asking for the server's position").await?;
        Ok(Position::Postgres(row.get::<_, &str>(0).parse()?))
    }

    async fn earliest(&mut self) -> Result<Position> {
        let slot = self.stream_name().to_owned();
        let sql = self.sql().await?;
        let state = SlotState::read(sql.client(), sql.server_version_num(), &slot).await?;
        let confirmed = state.and_then(|state| state.confirmed_flush_lsn);
        confirmed.map(Position::Postgres).ok_or_else(|| {
            Error::lost(format!("replication slot {slot:?} holds no log")).remedy("begin with a snapshot")
        })
    }

    async fn stream(
        &mut self,
        from: Position,
        until: Option<Position>,
        outlet: &Outlet,
        confirmed: watch::Receiver<Option<Position>>,
        stop: watch::Receiver<bool>,
    ) -> Result<StreamEnd> {
        let from = from.lsn()?;
        let until = until.map(|until| until.lsn()).transpose()?;
        if until.is_some_and(|until| from >= until) {
            return Ok(StreamEnd::Reached);
        }
        if self.settings.selection.refresh(Some(&Position::Postgres(from))) {
            let selection = self.settings.selection.clone();
            self.prepared()?.relations.select(selection)?;
        }
        let (mut connection, silence) = self.start_replication(from).await?;
        outlet.progress.connected();
        let prepared = self.prepared.as_mut().ok_or_else(|| Error::bug("the source was not prepared"))?;
        prepared.relations.roll_back();
        let sql = self.sql.as_ref().ok_or_else(|| Error::bug("no SQL connection"))?;
        let writer = BatchWriter::new(outlet.clone(), Origin::Stream);
        let stream = Stream {
            connection: &mut connection,
            silence,
            decoder: Decoder::new(writer, from, until, None),
            relations: &mut prepared.relations,
            sql,
            progress: &outlet.progress,
            confirmed,
            stop,
        };
        let (end, _) = tokio::select! {
            ended = stream.run() => ended?,
            error = heartbeat(sql, self.settings.heartbeat) => return Err(error),
            error = shutdown(sql), if self.settings.slot != SlotKind::Temporary => return Err(error),
        };
        self.replication = Some(connection);
        Ok(end)
    }

    async fn close(&mut self, confirmed: Option<Position>) -> Result<()> {
        // Its connection is gone, but a server that waits does not look: it would make the slot later, for nobody.
        if let Some(creating) = self.creating.take() {
            creating.cancel().await?;
        }
        if let Some(mut connection) = self.replication.take() {
            if connection.is_streaming() {
                if let Some(Position::Postgres(lsn)) = confirmed {
                    connection.send_status(lsn.0, lsn.0, lsn.0, false).await?;
                }
                connection.stop_replication().await?;
            }
            if self.is_temporary() && self.prepared.is_some() {
                connection.simple_query(&slot::drop_command(&self.slot)).await?;
            }
            connection.close().await;
        }
        self.prepared = None;
        if std::mem::take(&mut self.leaves_publication) {
            let publication = self.publication.clone();
            let sql = self.sql().await?;
            publication::drop_temporary(sql.client(), sql.server_version_num(), &publication).await?;
        }
        self.sql = None;
        Ok(())
    }

    async fn check(&mut self, _stored: Option<Stored<'_>>) -> Result<Vec<Finding>> {
        self.settings.selection.refresh(None);
        let Settings { conninfo, selection, slot, publication, takes_snapshot, .. } = &self.settings;
        let (slot, publication) = (slot.name(), publication.as_deref());
        check::check(conninfo, &Wanted { selection, slot, publication, snapshot: *takes_snapshot }).await
    }

    async fn tables(&mut self, _state: &State) -> Result<Vec<Streamed>> {
        self.settings.selection.refresh(None);
        let (selection, publication) = (self.settings.selection.clone(), self.settings.publication.clone());
        let sql = self.sql().await?;
        let (client, version) = (sql.client(), sql.server_version_num());
        let database = sql.same_server().database.clone();
        let catalog = Catalog::survey(client, version, &selection, &mut TypeCache::default()).await?;
        let published = match publication {
            Some(name) => Publication::read(client, version, &name).await?.map(|found| found.by_oid()),
            None => None,
        };
        let tables = catalog.tables.iter().map(|table| {
            let published = published.as_ref().and_then(|published| published.get(&table.oid));
            let shape =
                StoredRelation::from_catalog(table, published.and_then(|published| published.columns.as_deref()));
            Ok(Streamed { schema: shape.plan(&database, &selection)?.schema, stopped: None })
        });
        tables.collect()
    }

    async fn admit(&mut self, namespace: &str, name: &str) -> Result<Admission> {
        self.settings.selection.refresh(None);
        let mut selection = self.settings.selection.clone();
        let is_selected = selection.wants(namespace, name);
        selection.include(namespace, name);
        let publication_name = self.settings.publication.clone().ok_or_else(|| {
            Error::config("the publication is a temporary one, of exactly the tables of the start")
                .remedy("name one by source.publication, or add the table to source.tables and start again")
        })?;
        let sql = self.sql().await?;
        let (client, version) = (sql.client(), sql.server_version_num());
        let Catalog { tables, left_out, block_size, .. } =
            Catalog::survey(client, version, &selection, &mut TypeCache::default()).await?;
        let left_out = left_out.iter().find(|left_out| left_out.schema == namespace && left_out.name == name);
        if let Some(left_out) = left_out {
            return Err(Error::config(format!("{namespace}.{name} cannot be streamed: it is {}", left_out.why)));
        }
        let Some(table) = tables.into_iter().find(|table| table.schema == namespace && table.name == name) else {
            return Ok(Admission::Unknown);
        };
        // What cannot be a record is said before anything is changed.
        StoredRelation::from_catalog(&table, None).plan("", &selection)?;
        let published = Publication::read(client, version, &publication_name).await?;
        if is_selected && published.is_some_and(|published| published.by_oid().contains_key(&table.oid)) {
            return Ok(Admission::Streamed);
        }
        let wanted = Catalog { tables: vec![table], block_size, ..Catalog::default() };
        publication::prepare(client, version, &publication_name, &Ownership::Managed, &wanted).await?;
        // Who writes the table has begun when the server did not send it yet: from here on nobody has. The slot goes with its
        // connection.
        let name = slot::temporary_name();
        let create = CreateSlot { name: &name, temporary: true, export_snapshot: true, failover: false };
        let (connection, point, _) = self.create_slot(&create).await?;
        connection.close().await;
        Ok(Admission::Admitted(Position::Postgres(point)))
    }

    async fn discover(&mut self) -> Result<serde_json::Value> {
        self.settings.selection.refresh(None);
        let selection = self.settings.selection.clone();
        let sql = self.sql().await?;
        discover::discover(sql, &selection).await
    }

    fn observer(&self) -> Result<Option<Box<dyn Observer>>> {
        Ok(Some(Box::new(SlotObserver::new(self.server.subscribe(), self.slot.clone()))))
    }
}
