//! The source as the pipeline sees it: connections, the tables' history, and the way from a start to a stream.
//!
//! Invariants:
//! - SQL and the dump go to the same server, though the URL may name several.
//! - What is known of the tables is of one position of the log: it begins with the catalog at a moment between two readings
//!   that agree, and from there on changes only with what the log says.
//! - Nothing is left on the server.

mod behind;
mod reading;

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tokio::time::timeout;

use self::reading::{Dumping, Run};
use super::ask::{Ask, text};
use super::catalog::Catalog;
use super::connection::Connection;
use super::decoder::{Decoder, Void};
use super::dump::{Dump, DumpFrom, DumpOptions, Next};
use super::extent::LogFiles;
use super::observer::LogObserver;
use super::relation::{Relations, schema_of};
use super::replica::Replica;
use super::retention::{self, Observed};
use super::schema::{Definition, Host, TableDef};
use super::server::{self, Server};
use super::snapshot::{self, Progress, Snapshot, Views, Wanted};
use super::url::ConnInfo;
use super::xa::{Xa, XidKey};
use super::{Settings, check, discover, prepared, refusal, status, stopped, types};
use crate::error::{Context, Error, Finding, Result};
use crate::fault;
use crate::flow::Outlet;
use crate::record::owed::{self, TableName};
use crate::record::{BinlogPosition, Lineage, Origin, Position};
use crate::source::tables::Selection;
use crate::source::{Admission, Observer, Ready, Rows, Source, State, Stored, StreamEnd, Streamed, Verdict};
use crate::wire::mysql::event::{Body, Flavor, Format};

/// How often the catalog is read until two readings agree: only DDL of the wanted tables in between makes them differ.
const CATALOG_TRIES: u32 = 10;
/// A connection that was idle has this long to answer a ping. One that stands still, its socket open, would have us wait for
/// ever; a server that is only slow costs a new connection.
const PING_PATIENCE: Duration = Duration::from_secs(5);
const ALTERED: &str = "the wanted tables are altered again and again: their definitions are of no one moment";

pub struct MySqlSource {
    settings: Settings,
    info: ConnInfo,
    sql: Option<Sql>,
    /// The way to the server that `sql` was last connected to; before that, the URL's.
    server: watch::Sender<ConnInfo>,
    /// Who we are to the server; the same for as long as the process lives.
    replica: Option<Replica>,
    prepared: Option<Prepared>,
    /// A transaction that never ended in the log.
    voids: Vec<Void>,
    /// The connection that reads the log: its thread would wait for the next change to notice that nobody listens.
    dumping: Option<Dumping>,
    /// What positions are in bytes.
    files: Arc<LogFiles>,
}

/// The connection for questions, and who answers.
struct Sql {
    connection: Connection,
    server: Server,
}

/// What [`Source::prepare`] leaves for the snapshot and the stream.
struct Prepared {
    selection: Selection,
    host: Host,
    /// What earlier runs stored, until a stream has taken it over.
    state: State,
    /// The tables as the catalog had them at the position that [`Source::prepare`] returned, and what was prepared there;
    /// none where there are stored ones.
    baseline: Option<(Relations, Xa)>,
    /// None while a decoder has them, and after a stream whose future was dropped.
    known: Option<(Relations, Xa)>,
    newest: Newest,
    /// Rows of prepared transactions that the stream met the end of and has not read.
    found: Option<Xa>,
}

/// The wanted tables as the catalog had them, and when.
struct Newest {
    wanted: Vec<Arc<TableDef>>,
    tip: Arc<BinlogPosition>,
}

/// What the catalog holds.
struct Everything {
    wanted: Catalog,
    /// Names pass from table to table: the history knows all of them.
    all: Catalog,
    /// Each database's default collation.
    databases: Vec<(String, String)>,
}

impl Everything {
    async fn load(connection: &mut Connection, server: &Server, selection: &Selection) -> Result<Everything> {
        let mut wanted = Catalog::load(connection, server, selection).await?;
        let all = Catalog::survey(connection, server, &Selection::default()).await?;
        wanted.share(&all);
        let sql = "SELECT SCHEMA_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA ORDER BY 1";
        let rows = connection.rows(sql, "reading the databases from information_schema").await?;
        let databases = rows.iter().map(|row| (text(row, 0).to_owned(), text(row, 1).to_owned())).collect();
        Ok(Everything { wanted, all, databases })
    }

    /// Of two readings that agree it is the same; those of thousands of tables are not kept to be compared.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.all.hash_tables(&mut hasher);
        self.databases.hash(&mut hasher);
        hasher.finish()
    }
}

impl MySqlSource {
    /// # Errors
    /// Config: the URL cannot be read.
    pub fn new(settings: Settings) -> Result<Self> {
        let info = ConnInfo::from_process(settings.url.expose_secret())?;
        Ok(MySqlSource {
            settings,
            server: watch::Sender::new(info.clone()),
            info,
            sql: None,
            replica: None,
            prepared: None,
            voids: Vec::new(),
            dumping: None,
            files: Arc::default(),
        })
    }

    /// A connection that answers, and what its server is.
    async fn sql(&mut self) -> Result<&mut Sql> {
        let alive = match &mut self.sql {
            Some(sql) => timeout(PING_PATIENCE, sql.connection.ping()).await.is_ok_and(|answer| answer.is_ok()),
            None => false,
        };
        if !alive {
            // Behind the first meeting always the same server: what is known is of its log.
            let mut connection = Connection::connect(&self.info).await?;
            let server = server(&mut connection).await?;
            self.server.send_replace(connection.same_server().clone());
            self.sql = Some(Sql { connection, server });
        }
        self.sql.as_mut().ok_or_else(|| Error::bug("no SQL connection"))
    }

    fn prepared(&mut self) -> Result<&mut Prepared> {
        self.prepared.as_mut().ok_or_else(|| Error::bug("the source was not prepared"))
    }

    /// When a file of the log was begun; none where the server does not have it.
    async fn file_created(&mut self, file: &str) -> Result<Option<u32>> {
        let heartbeat = self.settings.heartbeat;
        let sql = self.sql().await?;
        let (flavor, info) = (flavor(&sql.server), sql.connection.same_server().clone());
        let system = sql.server.system();
        let mut connection = Connection::connect(&info).await?;
        // A number of its own: the configured one is perhaps that of a running walbrook, whose store is being looked at.
        let replica = Replica::choose(&mut connection, None).await?;
        let from = DumpFrom::beginning(file);
        let mut dump = Dump::start(connection, &replica, from, &DumpOptions { heartbeat, semi_sync: false }).await?;
        self.dumping = Some(Dumping { system, id: dump.connection_id() });
        let format = Format::unknown(flavor);
        loop {
            match dump.next()? {
                Next::Dry => {
                    dump.take_frame();
                    dump.fill().await?;
                }
                Next::Long(_) => return Err(Error::data(format!("{file} begins with an event of 256 KiB"))),
                Next::Event(event) => {
                    let doing = || format!("reading the beginning of {file}");
                    let event = format.open(event.bytes).data(doing)?;
                    if matches!(event.parse(&format).data(doing)?, Body::FormatDescription(_)) {
                        let created = event.header.unix_s;
                        dump.close().await;
                        self.end_dump().await;
                        return Ok(Some(created));
                    }
                }
            }
        }
    }

    /// All tables as they stand at the log's end, which is said too, and the XA transactions that are prepared there.
    async fn baseline(&mut self) -> Result<(Everything, BinlogPosition, HashSet<XidKey>)> {
        let selection = self.settings.selection.clone();
        let Sql { connection, server } = self.sql().await?;
        let mut before = Everything::load(connection, server, &selection).await?.fingerprint();
        for _ in 0..CATALOG_TRIES {
            // Before the end is asked for, because one may be committed meanwhile, and behind it, because one may be listed a
            // moment after it was logged.
            let mut prepared = prepared::list(connection, server).await?;
            let tip = status::tip(connection, server).await?;
            prepared.extend(prepared::list(connection, server).await?);
            let after = Everything::load(connection, server, &selection).await?;
            let found = after.fingerprint();
            if found == std::mem::replace(&mut before, found) {
                return Ok((after, tip, prepared));
            }
        }
        Err(Error::transient(ALTERED))
    }

    /// Views of the wanted tables, or of some of them, at one point of the log, and all tables as they are defined there.
    async fn views(&mut self, only: Option<&BTreeSet<TableName>>) -> Result<(Everything, Views)> {
        let selection = self.settings.selection.clone();
        let workers = self.settings.snapshot.workers;
        let Sql { connection, server } = self.sql().await?;
        let info = connection.same_server().clone();
        for _ in 0..CATALOG_TRIES {
            let everything = Everything::load(connection, server, &selection).await?;
            let before = everything.fingerprint();
            let tables = everything.wanted.tables.iter().filter(|table| everything.wanted.is_among(table, only));
            let names: Vec<_> = tables.map(|table| (table.def.database.clone(), table.def.name.clone())).collect();
            drop(everything);
            let views = Views::open(&info, server, workers, &names).await?;
            let after = Everything::load(connection, server, &selection).await?;
            if after.fingerprint() == before {
                return Ok((after, views));
            }
        }
        Err(Error::transient(ALTERED))
    }

    /// Delivers what happened between the finished ranges of an interrupted snapshot and its new point.
    async fn catch_up(
        &mut self,
        rows: Rows,
        from: &Arc<BinlogPosition>,
        point: Arc<BinlogPosition>,
        outlet: &Outlet,
    ) -> Result<Decoder> {
        let caught_up = Some(snapshot::caught_up(rows));
        let run = Run { caught_up, ..Run::alone(outlet, Origin::CatchUp, point) };
        match self.run(from, run).await? {
            (StreamEnd::Reached, decoder) => Ok(decoder),
            // What never ended is passed over the next time.
            (end, _) => Err(Error::transient(format!("catching up ended before its point: {end:?}"))),
        }
    }

    /// Wants of the tables that were added those that are wanted at a position. False where one of them was never heard of.
    fn take_up_added(&mut self, at: &Position) -> Result<bool> {
        let prepared = self.prepared()?;
        if !prepared.selection.refresh(Some(at)) {
            return Ok(true);
        }
        let selection = &prepared.selection;
        let mut known = prepared.known.iter_mut().chain(&mut prepared.baseline);
        Ok(known.all(|(relations, _)| relations.select(selection)))
    }
}

pub(super) async fn server(connection: &mut Connection) -> Result<Server> {
    let rows = connection.rows(&Server::variables_statement(), "asking what the server is").await?;
    Server::from_rows(rows.iter().map(|row| (text(row, 0).to_owned(), text(row, 1).to_owned())))
}

fn selection(settings: &Settings, catalog: &Catalog) -> Selection {
    let mut selection = settings.selection.clone();
    if catalog.ignores_table_case {
        selection.ignore_table_case();
    }
    selection
}

fn flavor(server: &Server) -> Flavor {
    match server.flavor {
        server::Flavor::MySql => Flavor::MySql,
        server::Flavor::MariaDb => Flavor::MariaDb,
    }
}

#[async_trait]
impl Source for MySqlSource {
    async fn lineage(&mut self) -> Result<Lineage> {
        Ok(self.sql().await?.server.lineage())
    }

    async fn retention(&mut self, stored: &Lineage, position: &Position) -> Result<Verdict> {
        let position = position.binlog()?.clone();
        let Sql { connection, server } = self.sql().await?;
        let files = status::files(connection, server).await?;
        let gtids = status::gtids(connection, server, &files).await?;
        let tip = status::tip(connection, server).await?;
        let lineage = server.lineage();
        let ours = position.server == tip.server || position.server == 0;
        let listed = ours && files.iter().any(|file| *file.name == *position.file);
        let file_created_unix_s = match listed && position.file_created_unix_s != 0 {
            true => self.file_created(&position.file).await.map_err(|error| refusal::explained(error, &position))?,
            false => None,
        };
        let observed = Observed { kind: lineage.kind, system: lineage.system, tip, files, file_created_unix_s, gtids };
        Ok(retention::verdict(stored, &position, &observed))
    }

    async fn prepare(&mut self, state: &State) -> Result<Ready> {
        self.settings.selection.refresh(None);
        let (everything, tip, unseen) = self.baseline().await?;
        let (tip, Everything { wanted, all, databases }) = (Arc::new(tip), everything);
        wanted.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        for left_out in &wanted.left_out {
            tracing::warn!(table = %format_args!("{}.{}", left_out.database, left_out.name), why = left_out.why, "left out");
        }
        let selection = selection(&self.settings, &wanted);
        let host = Host::of(&self.sql().await?.server);
        let (mut entries, mut baseline) = (Vec::new(), None);
        if !Relations::is_in(state) {
            let mut relations = Relations::of(selection.clone(), host.clone(), &all, &databases);
            let mut xa = Xa::restore(state, self.settings.xa_limit_bytes)?;
            entries = relations.baseline();
            (relations, xa) = self.find_prepared(&tip, unseen, relations, xa, &mut entries).await?;
            xa.settle();
            baseline = Some((relations, xa));
        }
        let newest = Newest { wanted: wanted.tables.into_iter().map(|table| table.def).collect(), tip: tip.clone() };
        self.prepared =
            Some(Prepared { selection, host, state: state.clone(), baseline, known: None, newest, found: None });
        Ok(Ready { position: Position::MySql(tip), state: entries })
    }

    fn interrupted(&self, rows: Rows, state: &State) -> Result<Option<Position>> {
        Ok(Progress::from_state(rows, state)?.map(|progress| progress.point))
    }

    async fn snapshot(
        &mut self,
        rows: Rows,
        from: Option<Position>,
        state: &State,
        outlet: &Outlet,
    ) -> Result<Position> {
        let owed = (rows == Rows::Owed).then(|| owed::owed(state));
        let (Everything { wanted, all, databases }, views) = self.views(owed.as_ref()).await?;
        outlet.progress.connected();
        let prepared = self.prepared()?;
        // What an earlier attempt has stored of the tables.
        prepared.state = state.clone();
        let Prepared { selection, host, .. } = prepared;
        let (selection, host) = (selection.clone(), host.clone());
        let mut snapshot = Snapshot {
            rows,
            settings: &self.settings.snapshot.clone(),
            tables: Vec::new(),
            outlet,
            progress: None,
            state,
            staged: Vec::new(),
            anew: BTreeSet::new(),
        };
        // The history of the point: of a first snapshot the catalog's; of one that goes on, what the log says up to there.
        // Where other sinks go on from earlier positions, the history is of theirs, and the snapshot has one of its own.
        let mut xa = Xa::restore(state, self.settings.xa_limit_bytes)?;
        let others_resume = from.is_none() && Relations::is_in(state);
        let mut relations = match &from {
            Some(from) => {
                snapshot.progress = Progress::from_state(rows, state)?;
                let from = from.binlog()?;
                let relations = self.restored(from).await?;
                self.prepared()?.known = Some((relations, xa));
                let point = views.point.position.binlog()?.clone();
                tracing::info!(%from, %point, ?rows, "a snapshot goes on: first the changes since then");
                let mut decoder = self.catch_up(rows, from, point, outlet).await?;
                fault::point("after_catch_up");
                snapshot.staged = decoder.writer.take_staged();
                snapshot.anew = std::mem::take(&mut decoder.anew);
                let (relations, at_point) = decoder.into_parts();
                xa = at_point;
                relations
            }
            None => Relations::of(selection, host, &all, &databases),
        };
        let point = views.point.position.binlog()?.clone();
        if !others_resume {
            let unseen = views.prepared.clone();
            (relations, xa) = self.find_prepared(&point, unseen, relations, xa, &mut snapshot.staged).await?;
        }
        // Who selects a table later selects what it is now.
        relations.define(wanted.tables.iter().map(|table| &*table.def), &point);
        snapshot.staged.extend(relations.baseline());
        for table in wanted.tables.iter().filter(|table| wanted.is_among(table, owed.as_ref())) {
            if let Some(schema) = relations.snapshot_schema(&table.def)? {
                snapshot.tables.push(Wanted { def: table.def.clone(), schema: Arc::new(schema) });
            }
        }
        if others_resume {
            snapshot.staged.clear();
        } else {
            relations.settle();
            xa.settle();
            self.prepared()?.baseline = None;
            self.prepared()?.known = Some((relations, xa));
        }
        snapshot.run(views).await
    }

    async fn tip(&mut self) -> Result<Position> {
        let Sql { connection, server } = self.sql().await?;
        Ok(Position::MySql(Arc::new(status::tip(connection, server).await?)))
    }

    async fn earliest(&mut self) -> Result<Position> {
        let Sql { connection, server } = self.sql().await?;
        let files = status::files(connection, server).await?;
        Ok(Position::MySql(Arc::new(status::beginning(connection, server, &files).await?)))
    }

    async fn stream(
        &mut self,
        from: Position,
        until: Option<Position>,
        outlet: &Outlet,
        confirmed: watch::Receiver<Option<Position>>,
        stop: watch::Receiver<bool>,
    ) -> Result<StreamEnd> {
        let from = from.binlog()?.clone();
        let until = until.map(|until| until.binlog().cloned()).transpose()?;
        if !self.take_up_added(&Position::MySql(from.clone()))? {
            return Ok(StreamEnd::Unprepared);
        }
        let run = Run { outlet, origin: Origin::Stream, until, confirmed, stop, search: None, caught_up: None };
        let (end, decoder) = self.run(&from, run).await?;
        let tables = decoder.relations.stopped();
        self.keep(decoder)?;
        match tables {
            Some(tables) if end == StreamEnd::Reached => Err(stopped::error(&tables)),
            _ => Ok(end),
        }
    }

    async fn close(&mut self, _confirmed: Option<Position>) -> Result<()> {
        self.prepared = None;
        self.end_dump().await;
        if let Some(sql) = self.sql.take() {
            sql.connection.close().await;
        }
        Ok(())
    }

    async fn check(&mut self, stored: Option<Stored<'_>>) -> Result<Vec<Finding>> {
        self.settings.selection.refresh(None);
        let (selection, server_id, snapshot) =
            (self.settings.selection.clone(), self.settings.server_id, self.settings.takes_snapshot);
        let Sql { connection, server } = self.sql().await?;
        let connected = format!("{} as connection {}", connection.server(), connection.thread_id());
        let wanted = check::Wanted { selection: &selection, server_id, snapshot };
        check::check(connection, &connected, server, &wanted, stored).await
    }

    async fn tables(&mut self, state: &State) -> Result<Vec<Streamed>> {
        self.settings.selection.refresh(None);
        let mut selection = self.settings.selection.clone();
        let Sql { connection, server } = self.sql().await?;
        let catalog = Catalog::survey(connection, server, &selection).await?;
        if catalog.ignores_table_case {
            selection.ignore_table_case();
        }
        let tables = catalog.tables.into_iter().map(|table| {
            let stopped = stopped::tables(state)
                .find(|stopped| *stopped.database == *table.def.database && *stopped.table == *table.def.name);
            let definition = Definition { id: 0, version: 0, table: table.def };
            let schema = Arc::new(schema_of(&definition, &selection, types::logged_column)?);
            Ok(Streamed { schema, stopped: stopped.map(|stopped| stopped.why.to_owned()) })
        });
        tables.collect()
    }

    async fn admit(&mut self, namespace: &str, name: &str) -> Result<Admission> {
        self.settings.selection.refresh(None);
        let mut selection = self.settings.selection.clone();
        let mut wider = selection.clone();
        wider.include(namespace, name);
        let Sql { connection, server } = self.sql().await?;
        let Catalog { tables, left_out, ignores_table_case, .. } = Catalog::survey(connection, server, &wider).await?;
        if ignores_table_case {
            selection.ignore_table_case();
            wider.ignore_table_case();
        }
        let same = |database: &str, table: &str| match ignores_table_case {
            true => database.to_lowercase() == namespace.to_lowercase() && table.to_lowercase() == name.to_lowercase(),
            false => database == namespace && table == name,
        };
        if let Some(left_out) = left_out.iter().find(|left_out| same(&left_out.database, &left_out.name)) {
            return Err(Error::config(format!("{namespace}.{name} cannot be streamed: it is {}", left_out.why)));
        }
        let Some(table) = tables.into_iter().find(|table| same(&table.def.database, &table.def.name)) else {
            return Ok(Admission::Unknown);
        };
        let definition = Definition { id: 0, version: 0, table: table.def };
        // What cannot be a record is said before anything is changed.
        schema_of(&definition, &wider, types::logged_column)?;
        if selection.wants(namespace, name) {
            return Ok(Admission::Streamed);
        }
        Ok(Admission::Admitted(self.tip().await?))
    }

    async fn discover(&mut self) -> Result<serde_json::Value> {
        self.settings.selection.refresh(None);
        let selection = self.settings.selection.clone();
        let Sql { connection, server } = self.sql().await?;
        discover::discover(connection, server, &selection).await
    }

    fn observer(&self) -> Result<Option<Box<dyn Observer>>> {
        Ok(Some(Box::new(LogObserver::new(self.server.subscribe(), self.files.clone()))))
    }
}
