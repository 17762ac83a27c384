//! The loop that owns the dump connection: read, scan, send, and notice when the server falls silent.
//!
//! Invariants:
//! - Bytes are frozen once a scan, and every batch gets the frames its cells point into.
//! - A batch goes out when it is full, or when a transaction is complete and a sink has nothing to do: no timer delays a
//!   change, and busy sinks make batches grow.
//! - An event is held whole, a transaction never: what is compressed is unpacked as it arrives ([`super::payload`]), and
//!   the rows of a prepared transaction are delivered a batch at a time.
//! - A server that says nothing, not even that it has nothing to say, for [`SILENT_PERIODS`] heartbeats is left.
//! - An acknowledgement that the server waits for (semi-sync) is sent as soon as it is true: see [`super::replies`].

use std::ops::Range;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::decoder::{Decoder, Step};
use super::dump::{Dump, Next};
use super::extent::LogFiles;
use super::idle::Heard;
use super::payload::{Fed, PayloadReader};
use super::replies::Replies;
use crate::error::{Context, Error, Result};
use crate::flow::{Permit, Progress};
use crate::record::Position;
use crate::source::StreamEnd;
use crate::source::pace::{Pace, REST};
use crate::wire::WireError;
use crate::wire::mysql::event::{EventType, HEADER_BYTES, Header};

/// How often an idle stream's position is handed over, and silence is looked for.
const TICK: Duration = Duration::from_secs(1);

/// So many heartbeats may be missed: one may be late by itself, and each comes only that long after the last event.
pub const SILENT_PERIODS: u32 = 3;

/// A read of at least this much means that the sender is ahead of us: no rest. The server writes 16 KiB at a time
/// (`net_buffer_length`), which is one TLS record, and a read from TLS brings no more than one.
const FULL_READ_BYTES: usize = 12 * 1024;

/// A frame keeps the whole read buffer alive (256 KiB), whatever it holds of it: a smaller one than an eighth of that is
/// copied, so that what the budget counts is what memory holds.
const COPIED_FRAME_BYTES: usize = 32 * 1024;

/// How long a stop waits for the end of the transaction that is being read, so that sinks end with a whole one.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

pub struct Stream<'a> {
    pub dump: &'a mut Dump,
    pub decoder: Decoder,
    pub progress: &'a Progress,
    /// What positions are in bytes.
    pub files: &'a LogFiles,
    /// How often the server was asked to say that it is there.
    pub heartbeat: Duration,
    pub confirmed: watch::Receiver<Option<Position>>,
    pub stop: watch::Receiver<bool>,
    /// Told at every heartbeat.
    pub heard: watch::Sender<Heard>,
    /// Why the dump is to be left, from whoever listens to that.
    pub astray: oneshot::Receiver<Error>,
    /// What the server waits for.
    pub replies: Replies,
    /// The event that is being taken is one more of them.
    pub wants_ack: bool,
}

/// What the events come out of.
enum Feed {
    Socket,
    /// An event that is longer than the read buffer, being joined.
    Joined,
    /// A compressed transaction; `part` is what is not yet unpacked of it, and for a long one more of it comes.
    Payload {
        reader: Box<PayloadReader>,
        part: Bytes,
        long: bool,
    },
    /// The kept rows of a prepared transaction.
    Kept(Bytes),
    /// A long event that is passed over.
    Skipped(Header),
}

/// What a scan ended with.
#[derive(Debug)]
enum Scanned {
    /// More bytes are wanted.
    Dry,
    /// The batch is full.
    Full,
    /// There is more to scan.
    Again,
    Reached,
    Retracted,
}

/// Why the scan of packets stopped, where it was not the end of them.
enum Stop {
    Dry,
    Step(Step),
    Full,
    /// A compressed event, or a compressed transaction, is at this place of the frame.
    Packed(Range<usize>),
    /// A long event stands behind the frame.
    Long(Header),
    /// The dump ended.
    Ended(Error),
}

/// What a read brought.
enum Read {
    Filled(usize),
    Event(Bytes),
    Part(Option<Bytes>),
}

impl Stream<'_> {
    /// Runs until the asked position is reached, until `stop`, or until an error. The decoder comes back whatever happened:
    /// what it has learnt goes on in the next stream.
    pub async fn run(mut self) -> (Result<StreamEnd>, Decoder) {
        let ended = self.work().await;
        (ended, self.decoder)
    }

    async fn work(&mut self) -> Result<StreamEnd> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_read_bytes = 0;
        let mut heard = Instant::now();
        let mut received_bytes = 0;
        let mut pace = Pace::new();
        let mut stopping: Option<Instant> = None;
        let mut feed = Feed::Socket;
        let mut waiting = None;
        loop {
            let scanned = match waiting.take() {
                Some(scanned) => scanned,
                None => self.scan(&mut feed)?,
            };
            match &scanned {
                Scanned::Full => {
                    self.send(&mut ticks).await?;
                    heard = Instant::now();
                }
                Scanned::Reached => return self.finish(StreamEnd::Reached, &mut ticks).await,
                Scanned::Retracted => return Ok(StreamEnd::Retracted),
                _ => {}
            }
            let dry = matches!(scanned, Scanned::Dry);
            if *self.stop.borrow() {
                let since = *stopping.get_or_insert_with(Instant::now);
                if !self.decoder.in_transaction() || since.elapsed() > STOP_PATIENCE {
                    return self.finish(StreamEnd::Stopped, &mut ticks).await;
                }
            }
            if !dry {
                continue;
            }
            let sendable = self.decoder.writer.has_commit() && self.decoder.writer.has_news();
            if sendable && self.decoder.writer.sinks_idle() {
                self.send(&mut ticks).await?;
                heard = Instant::now();
            }
            if !self.replies.is_empty() {
                self.acknowledge().await?;
            }
            let waits_for_sink = self.decoder.writer.has_commit() && self.decoder.writer.has_news();
            let idle = self.decoder.writer.sink_idle();
            let open_bytes = self.decoder.transaction_bytes();
            if pace.is_busy(open_bytes, self.decoder.counts.events) && last_read_bytes < FULL_READ_BYTES {
                tokio::time::sleep(REST).await;
            }
            tokio::select! {
                biased;
                _ = ticks.tick() => {
                    self.progress.reader.turn();
                    self.decoder.tell_position();
                    // A long event is one read to us and may take the server many heartbeats.
                    if received_bytes != self.dump.received_bytes() {
                        received_bytes = self.dump.received_bytes();
                        heard = Instant::now();
                    }
                    let patience = self.heartbeat * SILENT_PERIODS;
                    if heard.elapsed() > patience {
                        return Err(Error::transient(format!(
                            "the server has said nothing for {} s, though it was asked to say every {} s that it is there \
                             (at {})",
                            patience.as_secs_f32(), self.heartbeat.as_secs_f32(), self.decoder.here()
                        )));
                    }
                }
                Ok(astray) = &mut self.astray => return Err(astray),
                Ok(()) = self.confirmed.changed(), if !self.replies.is_empty() => self.acknowledge().await?,
                () = idle, if waits_for_sink => {
                    self.send(&mut ticks).await?;
                    heard = Instant::now();
                }
                read = read(self.dump, &feed) => {
                    heard = Instant::now();
                    match read.map_err(|error| error.context(format!("streaming at {}", self.decoder.here())))? {
                        Read::Filled(bytes) => last_read_bytes = bytes,
                        Read::Event(event) => {
                            last_read_bytes = event.len();
                            waiting = Some(self.joined(event, &mut feed)?);
                        }
                        Read::Part(more) => {
                            if let Feed::Skipped(header) = &feed {
                                self.progress.stream_bytes.add(more.as_ref().map_or(0, Bytes::len) as u64);
                                if more.is_none() {
                                    self.decoder.skip(header)?;
                                    feed = Feed::Socket;
                                }
                            } else if let Feed::Payload { part, long, .. } = &mut feed {
                                *long = more.is_some();
                                *part = more.unwrap_or_default();
                                last_read_bytes = part.len();
                                self.progress.stream_bytes.add(part.len() as u64);
                            }
                        }
                    }
                }
                () = asked(&mut self.stop), if stopping.is_none() => {}
            }
        }
    }

    fn scan(&mut self, feed: &mut Feed) -> Result<Scanned> {
        let (events_before, heartbeats_before) = (self.decoder.counts.events, self.decoder.counts.heartbeats);
        let scanned = match feed {
            Feed::Socket => self.scan_events(feed)?,
            Feed::Joined | Feed::Skipped(_) => Scanned::Dry,
            Feed::Payload { .. } => self.scan_payload(feed)?,
            Feed::Kept(_) => self.scan_kept(feed)?,
        };
        self.progress.events.add(self.decoder.counts.events - events_before);
        if self.progress.is_watched() {
            let (file, offset) = self.decoder.read_end();
            self.progress.read_end_bytes.raise(self.files.at(file, offset).unwrap_or(0));
        }
        if self.decoder.counts.heartbeats > heartbeats_before
            && let Position::MySql(place) = self.decoder.read_position()
        {
            self.heard.send_replace(Some(place));
        }
        if let Some(micros) = self.decoder.last_commit_unix_micros {
            self.progress.committed(micros);
        }
        Ok(scanned)
    }

    /// Takes every complete event of the buffer, up to a full batch.
    fn scan_events(&mut self, feed: &mut Feed) -> Result<Scanned> {
        let Stream { dump, decoder, replies, wants_ack, .. } = self;
        let stopped = loop {
            match dump.next() {
                // What was taken before stands in the frame.
                Err(error) => break Stop::Ended(error),
                Ok(Next::Dry) => break Stop::Dry,
                Ok(Next::Long(long)) => {
                    *wants_ack = long.wants_ack;
                    let header = Header::parse(long.head);
                    break Stop::Long(header.data(|| format!("reading a long event at {}", decoder.here()))?);
                }
                Ok(Next::Event(event)) => {
                    let (at, end) = (event.offset, event.offset + event.bytes.len());
                    // The fifth byte of an event is its type.
                    if event.bytes.get(4) == Some(&EventType::TRANSACTION_PAYLOAD.0) && !decoder.skips() {
                        *wants_ack = event.wants_ack;
                        break Stop::Packed(at..end);
                    }
                    let step = decoder.event(event.bytes, at)?;
                    if event.wants_ack && matches!(step, Step::Apart) {
                        *wants_ack = true;
                    } else if event.wants_ack {
                        replies.owe(decoder.read_position(), decoder.held_with());
                    }
                    match step {
                        Step::Next => {}
                        Step::Apart => break Stop::Packed(at..end),
                        step => break Stop::Step(step),
                    }
                    if decoder.writer.is_full(end) {
                        break Stop::Full;
                    }
                }
            }
        };
        let frame = dump.take_frame();
        self.progress.stream_bytes.add(frame.len() as u64);
        if decoder.writer.batch().wants_frame() {
            decoder.writer.batch().frame(if frame.len() < COPIED_FRAME_BYTES {
                Bytes::copy_from_slice(&frame)
            } else {
                frame.clone()
            });
        }
        match stopped {
            Stop::Dry => Ok(Scanned::Dry),
            Stop::Full => Ok(Scanned::Full),
            Stop::Ended(error) => Err(error),
            Stop::Step(step) => Ok(self.stepped(step, feed)),
            Stop::Packed(at) => self.packed(frame.slice(at), feed),
            Stop::Long(header) => {
                *feed = match header.kind {
                    _ if decoder.skips() => Feed::Skipped(header),
                    EventType::TRANSACTION_PAYLOAD => {
                        decoder.payload_begins()?;
                        let reader = Box::new(PayloadReader::new(header, decoder.checksum()));
                        Feed::Payload { reader, part: Bytes::new(), long: true }
                    }
                    _ => Feed::Joined,
                };
                Ok(Scanned::Dry)
            }
        }
    }

    /// Takes an event that is compressed or whose transaction is.
    fn packed(&mut self, event: Bytes, feed: &mut Feed) -> Result<Scanned> {
        let decoder = &mut self.decoder;
        let header = Header::parse(&event).data(|| format!("reading a compressed event at {}", decoder.here()))?;
        if header.kind == EventType::TRANSACTION_PAYLOAD {
            decoder.payload_begins()?;
            let reader = Box::new(PayloadReader::new(header, decoder.checksum()));
            *feed = Feed::Payload { reader, part: event, long: false };
            return Ok(Scanned::Again);
        }
        let mut plain = Vec::new();
        let step = decoder.apart(&event, &mut plain)?;
        if decoder.writer.batch().wants_frame() {
            decoder.writer.batch().frame(plain.into());
        }
        Ok(self.stepped(step, feed))
    }

    /// Takes an event that was joined.
    fn joined(&mut self, event: Bytes, feed: &mut Feed) -> Result<Scanned> {
        *feed = Feed::Socket;
        self.progress.stream_bytes.add(event.len() as u64);
        let decoder = &mut self.decoder;
        let step = decoder.event(&event, 0)?;
        if matches!(step, Step::Apart) {
            return self.packed(event, feed);
        }
        if decoder.writer.batch().wants_frame() {
            decoder.writer.batch().frame(event);
        }
        Ok(self.stepped(step, feed))
    }

    /// What follows on a step outside a scan, or at its end.
    fn stepped(&mut self, step: Step, feed: &mut Feed) -> Scanned {
        if std::mem::take(&mut self.wants_ack) {
            self.replies.owe(self.decoder.read_position(), self.decoder.held_with());
        }
        match step {
            Step::Next | Step::Apart if self.decoder.writer.is_full(0) => Scanned::Full,
            Step::Next | Step::Apart => Scanned::Again,
            Step::Reached => Scanned::Reached,
            Step::Retracted => Scanned::Retracted,
            Step::Kept(events) => {
                *feed = Feed::Kept(events);
                Scanned::Again
            }
        }
    }

    /// Takes every complete event that is unpacked, up to a full batch.
    fn scan_payload(&mut self, feed: &mut Feed) -> Result<Scanned> {
        let Feed::Payload { reader, part, long } = feed else { return Err(Error::bug("no compressed transaction")) };
        let decoder = &mut self.decoder;
        let fed = reader.feed(part)?;
        let unpacked = reader.unpacked();
        let (mut at, mut full, mut apart) = (0, false, 0);
        while !full && let Some(event) = whole_event(&unpacked[at..])? {
            match decoder.unpacked(event, at)? {
                Step::Next => {}
                Step::Apart => {
                    apart = event.len();
                    break;
                }
                step => return Err(Error::bug(format!("{step:?} inside a compressed transaction"))),
            }
            at += event.len();
            full = decoder.writer.is_full(at);
        }
        let rest = unpacked.len() - at;
        if !decoder.writer.batch().wants_frame() {
            unpacked.advance(at);
        } else if at < COPIED_FRAME_BYTES {
            decoder.writer.batch().frame(Bytes::copy_from_slice(&unpacked[..at]));
            unpacked.advance(at);
        } else {
            decoder.writer.batch().frame(unpacked.split_to(at).freeze());
        }
        if apart > 0 {
            let event = unpacked.split_to(apart);
            let mut frame = Vec::new();
            decoder.unpacked_apart(&event, &mut frame)?;
            decoder.writer.batch().frame(frame.into());
            full = decoder.writer.is_full(0);
        }
        if full {
            return Ok(Scanned::Full);
        }
        if apart > 0 {
            return Ok(Scanned::Again);
        }
        match fed {
            // The end of its packets is read too.
            Fed::Hungry | Fed::End if *long => Ok(Scanned::Dry),
            Fed::Full => Ok(Scanned::Again),
            Fed::Hungry => Err(WireError::new("TRANSACTION_PAYLOAD", "truncated", 0))
                .data(|| format!("unpacking the compressed transaction behind {}", decoder.here())),
            Fed::End if rest > 0 => {
                Err(WireError::new("TRANSACTION_PAYLOAD", "an event that is cut off by the end", rest))
                    .data(|| format!("unpacking the compressed transaction behind {}", decoder.here()))
            }
            Fed::End => {
                let step = decoder.payload_ended(&reader.header)?;
                *feed = Feed::Socket;
                Ok(self.stepped(step, feed))
            }
        }
    }

    /// Delivers kept events, up to a full batch.
    fn scan_kept(&mut self, feed: &mut Feed) -> Result<Scanned> {
        let Feed::Kept(events) = feed else { return Err(Error::bug("no prepared transaction")) };
        let decoder = &mut self.decoder;
        let (mut at, mut full, mut apart) = (0, false, 0);
        while !full && let Some(event) = whole_event(&events[at..])? {
            if matches!(decoder.replay(event, at)?, Step::Apart) {
                apart = event.len();
                break;
            }
            at += event.len();
            full = decoder.writer.is_full(at);
        }
        let taken = events.split_to(at);
        if decoder.writer.batch().wants_frame() {
            decoder.writer.batch().frame(taken);
        }
        if apart > 0 {
            let mut frame = Vec::new();
            decoder.replay_apart(&events.split_to(apart), &mut frame)?;
            decoder.writer.batch().frame(frame.into());
            return Ok(if decoder.writer.is_full(0) { Scanned::Full } else { Scanned::Again });
        }
        if full && !events.is_empty() {
            return Ok(Scanned::Full);
        }
        let step = decoder.replayed()?;
        *feed = Feed::Socket;
        Ok(self.stepped(step, feed))
    }

    /// Sends the batch as it stands, as soon as the budget has room.
    async fn send(&mut self, ticks: &mut Interval) -> Result<()> {
        let mut permit = std::pin::pin!(self.decoder.writer.permit());
        let permit: Permit = loop {
            tokio::select! {
                biased;
                permit = &mut permit => break permit,
                _ = ticks.tick() => self.progress.reader.turn(),
                // A sink that is stuck must not keep us from stopping: what is not sent comes again.
                () = asked(&mut self.stop) => {
                    match tokio::time::timeout(STOP_PATIENCE, &mut permit).await {
                        Ok(permit) => break permit,
                        Err(_) => return Ok(()),
                    }
                }
            }
        };
        if self.decoder.writer.wants_position() {
            let position = self.decoder.position();
            self.decoder.writer.close(position);
        }
        if !self.decoder.anew.is_empty() {
            self.decoder.writer.stay();
        }
        self.decoder.writer.send(permit);
        self.decoder.sent();
        Ok(())
    }

    /// Tells a server that waits for it how far everything is held, where there is something new to tell.
    async fn acknowledge(&mut self) -> Result<()> {
        let due = self.replies.due(self.confirmed.borrow_and_update().as_ref());
        match due {
            Some(Position::MySql(end)) => self.dump.acknowledge(&end.file, end.offset).await,
            _ => Ok(()),
        }
    }

    async fn finish(&mut self, end: StreamEnd, ticks: &mut Interval) -> Result<StreamEnd> {
        self.decoder.tell_position();
        if self.decoder.writer.has_news() {
            self.send(ticks).await?;
        }
        Ok(end)
    }
}

/// Reads what the feed wants. Cancel-safe.
async fn read(dump: &mut Dump, feed: &Feed) -> Result<Read> {
    match feed {
        Feed::Joined => dump.whole_event().await.map(Read::Event),
        Feed::Payload { long: true, .. } | Feed::Skipped(_) => dump.event_part().await.map(Read::Part),
        Feed::Socket | Feed::Payload { .. } | Feed::Kept(_) => dump.fill().await.map(Read::Filled),
    }
}

/// The event that stands first, of those behind one another; none where it is not whole.
fn whole_event(events: &[u8]) -> Result<Option<&[u8]>> {
    if events.len() < HEADER_BYTES {
        return Ok(None);
    }
    let header = Header::parse(events).data(|| "reading an unpacked event".to_owned())?;
    Ok(events.get(..header.size_bytes as usize))
}

/// Waits to be asked to stop; for ever, when nobody is left to ask.
async fn asked(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}
