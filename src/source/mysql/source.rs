//! The source as the pipeline sees it: connections, the tables' history, and the way from a start to a stream.
//!
//! Invariants:
//! - SQL and the dump go to the same server, though the URL may name several.
//! - What is known of the tables is of one position of the log: it begins with the catalog at a moment between two readings
//!   that agree, and from there on changes only with what the log says.
//! - Nothing is left on the server.

mod behind;

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::ExposeSecret;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::ask::{Ask, TextRow, number, text};
use super::catalog::Catalog;
use super::connection::Connection;
use super::decoder::{Decoder, Search, Start, Void};
use super::dump::{Dump, DumpFrom, DumpOptions, Next};
use super::extent::LogFiles;
use super::observer::LogObserver;
use super::relation::Relations;
use super::replica::Replica;
use super::replies::Replies;
use super::retention::{self, Observed};
use super::schema::{Host, TableDef};
use super::server::{self, Server};
use super::snapshot::{Progress, Snapshot, Views, Wanted};
use super::stream::{self, Stream};
use super::url::ConnInfo;
use super::xa::{Xa, XidKey};
use super::{Settings, check, discover, idle, prepared, status};
use crate::error::{Context, Error, Finding, Result};
use crate::fault;
use crate::flow::{BatchWriter, Outlet};
use crate::record::{BinlogPosition, Lineage, Origin, Position, Seen};
use crate::source::tables::Selection;
use crate::source::{Observer, Ready, Source, State, Stored, StreamEnd, Verdict};
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

/// A connection that reads the log, as the server knows it.
struct Dumping {
    /// [`Lineage::system`]: the number means something there alone.
    system: String,
    id: u32,
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
            self.sql = Some(Sql { connection, server });
        }
        self.sql.as_mut().ok_or_else(|| Error::bug("no SQL connection"))
    }

    fn prepared(&mut self) -> Result<&mut Prepared> {
        self.prepared.as_mut().ok_or_else(|| Error::bug("the source was not prepared"))
    }

    /// Asks the server for its log from there on.
    async fn dump(&mut self, from: &BinlogPosition) -> Result<(Dump, Flavor, u64)> {
        let (heartbeat, semi_sync, wanted) =
            (self.settings.heartbeat, self.settings.semi_sync, self.settings.server_id);
        let known = self.replica.take();
        let sql = self.sql().await?;
        let (flavor, number, system) = (flavor(&sql.server), sql.server.position_number(), sql.server.system());
        let by_gtid = sql.server.uses_gtids();
        let info = sql.connection.same_server().clone();
        let mut connection = Connection::connect(&info).await?;
        let replica = match known {
            Some(replica) => {
                replica.check(&mut connection).await?;
                replica
            }
            None => Replica::choose(&mut connection, wanted).await?,
        };
        let start = match &from.seen {
            Seen::Executed(set) if by_gtid => DumpFrom::Gtids(set),
            _ if from.file.is_empty() => {
                return Err(Error::config(format!(
                    "the position {from} is one of GTIDs, and the server has them switched off"
                ))
                .remedy("name a file and an offset, or SET GLOBAL gtid_mode = ON"));
            }
            _ => DumpFrom::File { file: &from.file, offset: from.offset },
        };
        let dump = Dump::start(connection, &replica, start, &DumpOptions { heartbeat, semi_sync })
            .await
            .map_err(|error| error.context(format!("asking for the log from {from} on")));
        self.replica = Some(replica);
        let dump = dump?;
        self.dumping = Some(Dumping { system, id: dump.connection_id() });
        Ok((dump, flavor, number))
    }

    /// Ends the server's half of a dump that is over. Behind a failover or a restart its number is somebody else's.
    async fn end_dump(&mut self) {
        let Some(Dumping { system, id }) = self.dumping.take() else { return };
        let Ok(sql) = self.sql().await else { return };
        if sql.server.system() != system {
            return;
        }
        // Id, User, Host, db, Command.
        let ended = match sql.connection.rows("SHOW PROCESSLIST", "looking for a dump that is over").await {
            Ok(rows) => {
                let user = sql.connection.same_server().user.as_str();
                let ours = |row: &TextRow| {
                    number(row, 0) == Some(id.into()) && text(row, 1) == user && text(row, 4).starts_with("Binlog Dump")
                };
                if !rows.iter().any(ours) {
                    return;
                }
                sql.connection.execute(&format!("KILL {id}")).await.map(drop)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            // It has gone by itself, mostly.
            tracing::debug!(?error, id, "ending the server's half of a dump");
        }
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
        let from = DumpFrom::File { file, offset: super::place::FIRST_EVENT };
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

    /// Views of the wanted tables at one point of the log, and the tables as they are defined there.
    async fn views(&mut self) -> Result<(Everything, Views)> {
        let selection = self.settings.selection.clone();
        let workers = self.settings.snapshot.workers;
        let Sql { connection, server } = self.sql().await?;
        let info = connection.same_server().clone();
        for _ in 0..CATALOG_TRIES {
            let everything = Everything::load(connection, server, &selection).await?;
            let before = everything.fingerprint();
            let names =
                everything.wanted.tables.iter().map(|table| (table.def.database.clone(), table.def.name.clone()));
            let names: Vec<_> = names.collect();
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
        from: &Arc<BinlogPosition>,
        point: Arc<BinlogPosition>,
        outlet: &Outlet,
    ) -> Result<Decoder> {
        match self.run(from, Run::alone(outlet, Origin::CatchUp, point)).await? {
            (StreamEnd::Reached, decoder) => Ok(decoder),
            // What never ended is passed over the next time.
            (end, _) => Err(Error::transient(format!("catching up ended before its point: {end:?}"))),
        }
    }

    /// Streams until the end that was asked for. What the decoder knows comes back whatever happens.
    async fn run(&mut self, from: &Arc<BinlogPosition>, run: Run<'_>) -> Result<(StreamEnd, Decoder)> {
        let limit_bytes = self.settings.xa_limit_bytes;
        let prepared = self.prepared()?;
        if prepared.known.is_none() && prepared.baseline.is_none() {
            let xa = Xa::restore(&prepared.state, limit_bytes)?;
            let relations = self.restored(from).await?;
            self.prepared()?.known = Some((relations, xa));
        }
        let log = self.dump(from).await?;
        run.outlet.progress.connected();
        let prepared = self.prepared()?;
        let baseline = prepared.baseline.take();
        let (relations, mut xa) =
            prepared.known.take().or(baseline).ok_or_else(|| Error::bug("nothing is known of the tables"))?;
        if let Some(found) = prepared.found.take() {
            // Not stored: their end is the next that is read of them, in this run or in the next.
            xa.adopt(found)?;
            xa.settle();
        }
        let (ended, mut decoder) = self.read(log, from, run, (relations, xa)).await;
        self.voids = std::mem::take(&mut decoder.voids);
        match ended {
            Ok(end) => Ok((end, decoder)),
            Err(error) => {
                let unprepared = decoder.unprepared.take();
                self.keep(decoder)?;
                match unprepared {
                    Some((xid, at)) => Err(self.find_ended(xid, &at, error).await?),
                    None => Err(error),
                }
            }
        }
    }

    /// Reads a log that was asked for, with what is known where it begins.
    async fn read(
        &mut self,
        (mut dump, flavor, server): (Dump, Flavor, u64),
        from: &Arc<BinlogPosition>,
        run: Run<'_>,
        (relations, xa): (Relations, Xa),
    ) -> (Result<StreamEnd>, Decoder) {
        let start = Start {
            flavor,
            from: from.clone(),
            server,
            until: run.until,
            voids: self.voids.clone(),
            search: run.search,
        };
        let writer = BatchWriter::new(run.outlet.clone(), run.origin);
        let decoder = Decoder::new(writer, relations, xa, start);
        let Some(Sql { connection, server: described }) = self.sql.take() else {
            return (Err(Error::bug("a dump without a connection for questions")), decoder);
        };
        let (info, files) = (connection.same_server().clone(), self.files.clone());
        let (heard, hears) = watch::channel(None);
        let (tell, astray) = oneshot::channel();
        let stream = Stream {
            dump: &mut dump,
            decoder,
            progress: &run.outlet.progress,
            files: &files,
            heartbeat: self.settings.heartbeat,
            confirmed: run.confirmed,
            stop: run.stop,
            heard,
            astray,
            replies: Replies::default(),
            wants_ack: false,
        };
        let mut connection = Some(connection);
        let watching = async {
            let error = idle::watch(&mut connection, &described, &info, hears).await;
            let _ = tell.send(error);
            std::future::pending().await
        };
        let (ended, decoder) = tokio::select! {
            ended = stream.run() => ended,
            never = watching => never,
        };
        self.sql = connection.map(|connection| Sql { connection, server: described });
        dump.close().await;
        if ended.is_ok() {
            self.end_dump().await;
        }
        (ended.map_err(|error| stream::explained(error, from)), decoder)
    }

    /// Takes back what a decoder knows, as far as it is on its way to the store.
    fn keep(&mut self, decoder: Decoder) -> Result<()> {
        let (mut relations, mut xa) = decoder.into_parts();
        relations.roll_back();
        xa.roll_back();
        self.prepared()?.known = Some((relations, xa));
        Ok(())
    }
}

/// How a stream is to run.
struct Run<'a> {
    outlet: &'a Outlet,
    origin: Origin,
    until: Option<Arc<BinlogPosition>>,
    confirmed: watch::Receiver<Option<Position>>,
    stop: watch::Receiver<bool>,
    /// Nothing is delivered, and this is looked for.
    search: Option<Search>,
}

impl<'a> Run<'a> {
    /// One that confirms nothing and is stopped by nobody but the end.
    fn alone(outlet: &'a Outlet, origin: Origin, until: Arc<BinlogPosition>) -> Self {
        Run {
            outlet,
            origin,
            until: Some(until),
            confirmed: watch::channel(None).1,
            stop: watch::channel(false).1,
            search: None,
        }
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
            true => self.file_created(&position.file).await.map_err(|error| stream::explained(error, &position))?,
            false => None,
        };
        let observed = Observed { kind: lineage.kind, system: lineage.system, tip, files, file_created_unix_s, gtids };
        Ok(retention::verdict(stored, &position, &observed))
    }

    async fn prepare(&mut self, state: &State) -> Result<Ready> {
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

    fn interrupted(&self, state: &State) -> Result<Option<Position>> {
        Ok(Progress::from_state(state)?.map(|progress| progress.point))
    }

    async fn snapshot(&mut self, from: Option<Position>, state: &State, outlet: &Outlet) -> Result<Position> {
        let (Everything { wanted, all, databases }, views) = self.views().await?;
        outlet.progress.connected();
        let Prepared { selection, host, .. } = self.prepared()?;
        let (selection, host) = (selection.clone(), host.clone());
        let mut snapshot = Snapshot {
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
                snapshot.progress = Progress::from_state(state)?;
                let from = from.binlog()?;
                let relations = self.restored(from).await?;
                self.prepared()?.known = Some((relations, xa));
                let point = views.point.position.binlog()?.clone();
                tracing::info!(%from, %point, "an interrupted snapshot goes on: first the changes since it stopped");
                let mut decoder = self.catch_up(from, point, outlet).await?;
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
        for table in &wanted.tables {
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
        let run = Run { outlet, origin: Origin::Stream, until, confirmed, stop, search: None };
        let (end, decoder) = self.run(&from, run).await?;
        let stopped = decoder.relations.stopped();
        self.keep(decoder)?;
        match stopped {
            Some(tables) if end == StreamEnd::Reached => Err(stream::stopped(&tables)),
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
        let (selection, server_id, snapshot) =
            (self.settings.selection.clone(), self.settings.server_id, self.settings.takes_snapshot);
        let Sql { connection, server } = self.sql().await?;
        let connected = format!("{} as connection {}", connection.server(), connection.thread_id());
        let wanted = check::Wanted { selection: &selection, server_id, snapshot };
        check::check(connection, &connected, server, &wanted, stored).await
    }

    async fn discover(&mut self) -> Result<serde_json::Value> {
        let selection = self.settings.selection.clone();
        let Sql { connection, server } = self.sql().await?;
        discover::discover(connection, server, &selection).await
    }

    fn observer(&self) -> Result<Option<Box<dyn Observer>>> {
        let info = self.sql.as_ref().map_or(&self.info, |sql| sql.connection.same_server());
        Ok(Some(Box::new(LogObserver::new(info.clone(), self.files.clone()))))
    }
}
