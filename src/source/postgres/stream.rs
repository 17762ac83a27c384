//! The loop that owns the replication connection: read, scan, send, and stay alive to the server.
//!
//! Invariants:
//! - The server hears only confirmed positions, at least every [`STATUS_INTERVAL`], whatever the sinks do: while the
//!   budget is used up nothing is read, but statuses go out.
//! - Each status asks for an answer: a server that says nothing for long, its socket open, is left.
//! - Bytes are frozen once a scan, and every batch gets the frames its cells point into.
//! - A batch goes out when it is full, or when a transaction is complete and a sink has nothing to do: no timer delays a
//!   change, and busy sinks make batches grow.

use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::connection::{Aside, Connection};
use super::decoder::{Decoder, Step};
use super::relation::{RelationCache, Seen, Standing};
use super::sql::Sql;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::flow::{Permit, Progress};
use crate::record::{Lsn, Position};
use crate::source::StreamEnd;
use crate::source::pace::{Pace, REST};
use crate::wire::pg::frame::{self, tag};
use crate::wire::pg::pgoutput::{self, Message};
use crate::wire::pg::replication::{self, Payload};

/// The server drops a connection that says nothing for `wal_sender_timeout` (60 s by default, seldom below 10 s); each
/// status also asks it how far it is, which moves the position of an idle database.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// A read of at least this much means that the sender is ahead of us: no rest.
const FULL_READ_BYTES: usize = 128 * 1024;

/// A frame keeps the whole read buffer alive (256 KiB), whatever it holds of it: a smaller one than an eighth of that is
/// copied, so that what the budget counts is what memory holds.
const COPIED_FRAME_BYTES: usize = 32 * 1024;

/// How long a stop waits for the end of the transaction that is being read, so that sinks end with a whole one.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

pub struct Stream<'a> {
    pub connection: &'a mut Connection,
    /// How long the server may say nothing.
    pub silence: Duration,
    pub decoder: Decoder,
    pub relations: &'a mut RelationCache,
    /// For what a Relation message does not say.
    pub sql: &'a Sql,
    pub progress: &'a Progress,
    pub confirmed: watch::Receiver<Option<Position>>,
    pub stop: watch::Receiver<bool>,
}

/// What a scan of the buffer ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scanned {
    /// No complete message is left.
    Dry,
    /// The batch is full.
    Full,
    Relation,
    /// A row of a relation whose shape the catalog must complete.
    Unknown(u32),
    /// A message that is no data.
    Aside,
    Reached,
}

impl Stream<'_> {
    /// Runs until the asked position is reached, until `stop`, or until an error.
    pub async fn run(mut self) -> Result<(StreamEnd, Decoder)> {
        let mut ticks = tokio::time::interval(STATUS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_read_bytes = 0;
        let mut pace = Pace::new();
        let mut stopping: Option<Instant> = None;
        // Whether the next keepalive may move the position of an idle stream; once a status, so that a server that sends
        // one after every transaction does not double the number of batches.
        let mut heartbeat_due = true;
        let mut heard = Instant::now();
        loop {
            let (scanned, replies_wanted) = self.scan(&mut heartbeat_due)?;
            if replies_wanted {
                self.send_status(false).await?;
            }
            match scanned {
                Scanned::Full => {
                    self.send(&mut ticks).await?;
                    heard = Instant::now();
                }
                Scanned::Relation => self.relation()?,
                Scanned::Unknown(relation) => {
                    let seen = self.relations.learn(self.sql.client(), relation).await?;
                    self.decoder.relation(relation, seen)?;
                }
                Scanned::Aside => {
                    if self.connection.take_aside()? == Aside::CopyDone {
                        return Err(Error::transient("the server ended the stream"));
                    }
                }
                Scanned::Reached => return self.finish(StreamEnd::Reached, &mut ticks).await,
                Scanned::Dry if self.decoder.has_reached() => return self.finish(StreamEnd::Reached, &mut ticks).await,
                Scanned::Dry => {}
            }
            if *self.stop.borrow() {
                let since = *stopping.get_or_insert_with(Instant::now);
                if !self.decoder.in_transaction() || since.elapsed() > STOP_PATIENCE {
                    return self.finish(StreamEnd::Stopped, &mut ticks).await;
                }
            }
            if scanned != Scanned::Dry {
                continue;
            }
            let sendable = self.decoder.writer.has_commit() && self.decoder.writer.has_news();
            if sendable && self.decoder.writer.sinks_idle() {
                self.send(&mut ticks).await?;
                heard = Instant::now();
            }
            let waits_for_sink = self.decoder.writer.has_commit() && self.decoder.writer.has_news();
            let idle = self.decoder.writer.sink_idle();
            let open_bytes = if self.decoder.in_transaction() { self.decoder.counts.transaction_bytes } else { 0 };
            if pace.is_busy(open_bytes, self.decoder.counts.events) && last_read_bytes < FULL_READ_BYTES {
                tokio::time::sleep(REST).await;
            }
            tokio::select! {
                biased;
                // Statuses first: they are rare, and the server's patience depends on them.
                _ = ticks.tick() => {
                    if heard.elapsed() > self.silence {
                        return Err(Error::transient(format!(
                            "the server has said nothing for {} s, though it was asked every second (wal_sender_timeout is \
                             its own patience)",
                            self.silence.as_secs()
                        )));
                    }
                    self.send_status(true).await?;
                    heartbeat_due = true;
                }
                () = idle, if waits_for_sink => {
                    self.send(&mut ticks).await?;
                    heard = Instant::now();
                }
                read = self.connection.fill() => {
                    last_read_bytes = read?;
                    heard = Instant::now();
                }
                () = asked(&mut self.stop), if stopping.is_none() => {}
            }
        }
    }

    /// Takes every complete message of the buffer, up to a full batch. Also says whether the server wants an answer.
    fn scan(&mut self, heartbeat_due: &mut bool) -> Result<(Scanned, bool)> {
        let Stream { connection, decoder, progress, .. } = self;
        let buffer = connection.buffer();
        let cells_before = (decoder.writer.batch().cells_start(), decoder.writer.batch().len());
        let events_before = decoder.counts.events;
        let mut replies_wanted = false;
        let mut at = 0;
        let scanned = loop {
            let Some(frame) = frame::next(&buffer[at..]).data(|| "reading the replication stream".to_owned())? else {
                break Scanned::Dry;
            };
            if frame.tag != tag::COPY_DATA {
                break Scanned::Aside;
            }
            let payload = replication::parse(frame.body).data(|| "reading the replication stream".to_owned())?;
            let step = match payload {
                Payload::XLogData(xlog) => {
                    let base = at + frame.total_bytes - xlog.data.len();
                    decoder.message(xlog.data, base)?
                }
                Payload::Keepalive(keepalive) => {
                    replies_wanted |= keepalive.reply_requested;
                    progress.server_end_bytes.raise(keepalive.wal_end);
                    decoder.keepalive(Lsn(keepalive.wal_end));
                    if !decoder.in_transaction() && (*heartbeat_due || decoder.has_reached()) {
                        *heartbeat_due = false;
                        decoder.writer.close(Position::Postgres(decoder.frontier));
                    }
                    Step::Next
                }
            };
            match step {
                Step::Next => at += frame.total_bytes,
                Step::Relation => break Scanned::Relation,
                Step::Unknown(relation) => break Scanned::Unknown(relation),
                Step::Reached => break Scanned::Reached,
            }
            if decoder.writer.is_full(at) {
                break Scanned::Full;
            }
        };
        if at > 0 {
            progress.stream_bytes.add(at as u64);
            if (decoder.writer.batch().cells_start(), decoder.writer.batch().len()) == cells_before {
                buffer.advance(at);
            } else if at < COPIED_FRAME_BYTES {
                decoder.writer.batch().frame(Bytes::copy_from_slice(&buffer[..at]));
                buffer.advance(at);
            } else {
                decoder.writer.batch().frame(buffer.split_to(at).freeze());
            }
            progress.events.add(decoder.counts.events - events_before);
            progress.read_end_bytes.set(decoder.frontier.0);
            if let Some(micros) = decoder.last_commit_unix_micros {
                progress.committed(micros);
            }
        }
        Ok((scanned, replies_wanted))
    }

    /// Takes the Relation message that stands first in the buffer.
    fn relation(&mut self) -> Result<()> {
        let doing = || "reading a Relation message".to_owned();
        let buffer = self.connection.buffer();
        let Some(frame) = frame::next(buffer).data(doing)? else { return Ok(()) };
        let message = buffer.split_to(frame.total_bytes).freeze();
        let Some(frame) = frame::next(&message).data(doing)? else { return Ok(()) };
        if let Payload::XLogData(xlog) = replication::parse(frame.body).data(doing)?
            && let Message::Relation(relation) = pgoutput::parse(xlog.data).data(doing)?
        {
            match self.relations.announce(xlog.data, &relation) {
                Standing::Unwanted => self.decoder.relation(relation.id, Seen::Unwanted)?,
                Standing::Known(plan) => {
                    let seen = Seen::Unchanged(plan.clone());
                    self.decoder.relation(relation.id, seen)?;
                }
                Standing::Unknown => self.decoder.forget(relation.id),
            }
        }
        Ok(())
    }

    /// Sends the batch as it stands, as soon as the budget has room; meanwhile the server hears from us.
    async fn send(&mut self, ticks: &mut Interval) -> Result<()> {
        let mut permit = std::pin::pin!(self.decoder.writer.permit());
        let permit: Permit = loop {
            tokio::select! {
                biased;
                permit = &mut permit => break permit,
                _ = ticks.tick() => self.send_status(true).await?,
                // A sink that is stuck must not keep us from stopping: what is not sent comes again.
                () = asked(&mut self.stop) => {
                    match tokio::time::timeout(STOP_PATIENCE, &mut permit).await {
                        Ok(permit) => break permit,
                        Err(_) => return Ok(()),
                    }
                }
            }
        };
        if self.decoder.rereads.as_ref().is_some_and(|rereads| !rereads.is_empty()) {
            self.decoder.writer.stay();
        }
        self.decoder.writer.send(permit);
        if !self.decoder.writer.has_staged() {
            self.relations.settle();
        }
        Ok(())
    }

    async fn finish(mut self, end: StreamEnd, ticks: &mut Interval) -> Result<(StreamEnd, Decoder)> {
        if end == StreamEnd::Reached {
            self.decoder.writer.close(Position::Postgres(self.decoder.frontier));
        }
        if self.decoder.writer.has_news() {
            self.send(ticks).await?;
        }
        Ok((end, self.decoder))
    }

    async fn send_status(&mut self, reply_requested: bool) -> Result<()> {
        let confirmed = match &*self.confirmed.borrow() {
            Some(Position::Postgres(lsn)) => *lsn,
            // Zero is "invalid" to the server: the slot stays where it is.
            _ => Lsn(0),
        };
        self.progress.reader.turn();
        let received = self.decoder.frontier.max(confirmed);
        self.connection.send_status(received.0, confirmed.0, confirmed.0, reply_requested).await?;
        if confirmed > Lsn(0) {
            fault::point("after_confirmation");
        }
        Ok(())
    }
}

/// Waits to be asked to stop; for ever, when nobody is left to ask.
async fn asked(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}
