//! The log: asked for, read to the end that was asked for, left.
//!
//! Invariants:
//! - What the decoder knows comes back whatever happens, and is that of the last batch on its way to the store.
//! - A dump that ends at a cut file goes on at the next one, with the same decoder, where that is proven ([`cut`]).

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::super::ask::{Ask, TextRow, number, text};
use super::super::connection::Connection;
use super::super::cut::{self, Passage};
use super::super::decoder::{Decoder, Search, Start, Step};
use super::super::dump::{Dump, DumpFrom, DumpOptions};
use super::super::far::{self, Way};
use super::super::idle;
use super::super::refusal;
use super::super::relation::Relations;
use super::super::replica::Replica;
use super::super::replies::Replies;
use super::super::stream::Stream;
use super::super::xa::Xa;
use super::{MySqlSource, Sql, flavor};
use crate::error::{Error, Result};
use crate::flow::{BatchWriter, CaughtUp, Outlet};
use crate::record::{BinlogPosition, Origin, Position, Seen};
use crate::source::StreamEnd;
use crate::wire::mysql::event::Flavor;

/// A connection that reads the log, as the server knows it.
pub(super) struct Dumping {
    /// [`Lineage::system`]: the number means something there alone.
    pub(super) system: String,
    pub(super) id: u32,
}

/// A log that was asked for.
pub(super) struct Log {
    dump: Dump,
    flavor: Flavor,
    /// See [`BinlogPosition::server`].
    server: u64,
    /// See [`Start::skips_to`].
    skips_to: Option<u64>,
}

/// How a stream is to run.
pub(super) struct Run<'a> {
    pub(super) outlet: &'a Outlet,
    pub(super) origin: Origin,
    pub(super) until: Option<Arc<BinlogPosition>>,
    pub(super) confirmed: watch::Receiver<Option<Position>>,
    pub(super) stop: watch::Receiver<bool>,
    /// Nothing is delivered, and this is looked for.
    pub(super) search: Option<Search>,
    /// It brings a snapshot up to its point, and how far it is is stored.
    pub(super) caught_up: Option<CaughtUp>,
}

impl<'a> Run<'a> {
    /// One that confirms nothing and is stopped by nobody but the end.
    pub(super) fn alone(outlet: &'a Outlet, origin: Origin, until: Arc<BinlogPosition>) -> Self {
        Run {
            outlet,
            origin,
            until: Some(until),
            confirmed: watch::channel(None).1,
            stop: watch::channel(false).1,
            search: None,
            caught_up: None,
        }
    }
}

impl MySqlSource {
    /// Asks the server for its log from there on.
    pub(super) async fn dump(&mut self, from: &BinlogPosition) -> Result<Log> {
        let described = &self.sql().await?.server;
        let (flavor, server, by_gtid) = (flavor(described), described.position_number(), described.uses_gtids());
        let (next, mut skips_to);
        skips_to = None;
        let start = match &from.seen {
            Seen::Executed(set) if by_gtid => DumpFrom::Gtids(set),
            _ if from.file.is_empty() => {
                return Err(Error::config(format!(
                    "the position {from} is one of GTIDs, and the server has them switched off"
                ))
                .remedy("name a file and an offset, or SET GLOBAL gtid_mode = ON"));
            }
            _ => match u32::try_from(from.offset) {
                Ok(offset) => DumpFrom::File { file: &from.file, offset },
                Err(_) => {
                    let Sql { connection, server } = self.sql().await?;
                    match far::way(connection, server, from).await? {
                        Way::Next(file) => {
                            next = file;
                            DumpFrom::beginning(&next)
                        }
                        Way::Skip => {
                            skips_to = Some(from.offset);
                            DumpFrom::beginning(&from.file)
                        }
                    }
                }
            },
        };
        match self.dump_from(start).await {
            Ok(dump) => Ok(Log { dump, flavor, server, skips_to }),
            Err(error) => Err(error.context(format!("asking for the log from {from} on"))),
        }
    }

    async fn dump_from(&mut self, from: DumpFrom<'_>) -> Result<Dump> {
        let (heartbeat, semi_sync, wanted) =
            (self.settings.heartbeat, self.settings.semi_sync, self.settings.server_id);
        let known = self.replica.take();
        let sql = self.sql().await?;
        let (info, system) = (sql.connection.same_server().clone(), sql.server.system());
        let mut connection = Connection::connect(&info).await?;
        let replica = match known {
            Some(replica) => {
                replica.check(&mut connection).await?;
                replica
            }
            None => Replica::choose(&mut connection, wanted).await?,
        };
        let dump = Dump::start(connection, &replica, from, &DumpOptions { heartbeat, semi_sync }).await;
        self.replica = Some(replica);
        let dump = dump?;
        self.dumping = Some(Dumping { system, id: dump.connection_id() });
        Ok(dump)
    }

    /// Ends the server's half of a dump that is over. Behind a failover or a restart its number is somebody else's.
    pub(super) async fn end_dump(&mut self) {
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

    /// Streams until the end that was asked for. What the decoder knows comes back whatever happens.
    pub(super) async fn run(&mut self, from: &Arc<BinlogPosition>, run: Run<'_>) -> Result<(StreamEnd, Decoder)> {
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
    pub(super) async fn read(
        &mut self,
        Log { mut dump, flavor, server, skips_to }: Log,
        from: &Arc<BinlogPosition>,
        mut run: Run<'_>,
        (relations, xa): (Relations, Xa),
    ) -> (Result<StreamEnd>, Decoder) {
        let start = Start {
            flavor,
            server,
            from: from.clone(),
            until: run.until.take(),
            voids: self.voids.clone(),
            search: run.search.take(),
            skips_to,
        };
        let writer = match run.caught_up {
            Some(caught_up) => BatchWriter::catching_up(run.outlet.clone(), caught_up),
            None => BatchWriter::new(run.outlet.clone(), run.origin),
        };
        let mut decoder = Decoder::new(writer, relations, xa, start);
        let ended = loop {
            let ended;
            (ended, decoder) = self.read_on(dump, decoder, &run).await;
            match ended {
                Err(error) if refusal::is_cut(&error) => match self.pass_cut(&mut decoder).await {
                    Ok(Some(behind)) => dump = behind,
                    Ok(None) => break Ok(StreamEnd::Retracted),
                    Err(unproven) => {
                        tracing::debug!(?error, "the dump ended");
                        break Err(unproven);
                    }
                },
                ended => break ended.map_err(|error| refusal::explained(error, from)),
            }
        };
        (ended, decoder)
    }

    /// Reads one dump.
    async fn read_on(&mut self, mut dump: Dump, decoder: Decoder, run: &Run<'_>) -> (Result<StreamEnd>, Decoder) {
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
            confirmed: run.confirmed.clone(),
            stop: run.stop.clone(),
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
        (ended, decoder)
    }

    /// Goes on behind a file that is cut, where nothing is missed by that: the dump of what follows. None: what was sent of
    /// the cut transaction is to be taken back first.
    async fn pass_cut(&mut self, decoder: &mut Decoder) -> Result<Option<Dump>> {
        let stalled = decoder.stalled();
        let Sql { connection, server } = self.sql().await?;
        let passage = cut::passage(connection, server, &stalled).await?;
        let Passage { file, counts_cut } = &passage;
        tracing::warn!(
            cut = %stalled.file, offset = stalled.offset, next = %file,
            "a file of the log is cut inside an event, by a crash of the server: going on with the next one, which says that \
             nothing is missing"
        );
        match decoder.pass_cut(*counts_cut) {
            Step::Retracted => Ok(None),
            _ => self.dump_from(DumpFrom::beginning(file)).await.map(Some),
        }
    }

    /// Takes back what a decoder knows, as far as it is on its way to the store.
    pub(super) fn keep(&mut self, decoder: Decoder) -> Result<()> {
        let (mut relations, mut xa) = decoder.into_parts();
        relations.roll_back();
        xa.roll_back();
        self.prepared()?.known = Some((relations, xa));
        Ok(())
    }
}
