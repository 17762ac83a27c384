//! One call: changes out, acknowledgements and credits in.
//!
//! Invariants:
//! - What the client says is read whatever it reads itself; what it is sent waits for it, and nothing else does.
//! - Beyond what the client has credits for, at most the messages of one delivery wait here, encoded, and one message
//!   waits for the transport.
//! - A delivery is encoded at once and dropped: the memory that all consumers share is not held by a client that reads slowly.
//! - The hub is told when the client does not read, by its credits or by its socket: what is read for it alone is given up.
//! - The call ends when the attachment does, whether the client reads or not.

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::encoder::{Encoder, Finished, Kind, Outgoing};
use super::ledger::Ledger;
use super::refusal;
use crate::pipeline::{Attachment, Ended, Event, Handle};
use crate::proto::v1::{self, subscribe_request, subscribe_response};
use crate::record::{Position, Seq};

/// An idle stream says so often where it is: as the proto promises.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// And that it is still there, when it stands.
const IDLE_HEARTBEAT: Duration = Duration::from_secs(10);
/// A socket that takes nothing for so long belongs to a client that does not read.
const STALLED: Duration = Duration::from_secs(2);

/// Deliveries that are looked at before anything else is: most of them may hold nothing that is wanted.
const TOGETHER_MAX: usize = 64;

/// What a consumer's attachment is to a call.
pub trait Changes: Send {
    fn next(&mut self) -> impl Future<Output = Result<Event, Ended>> + Send;
    /// The end alone, for as long as no event is wanted. Cancel-safe.
    fn ended(&mut self) -> impl Future<Output = Ended> + Send;
    fn ack(&self, upto: Seq);
    fn reading(&self, reading: bool);
}

impl Changes for (Attachment, Handle) {
    async fn next(&mut self) -> Result<Event, Ended> {
        self.0.next().await
    }
    async fn ended(&mut self) -> Ended {
        self.0.ended().await
    }
    fn ack(&self, upto: Seq) {
        self.1.ack(upto);
    }
    fn reading(&self, reading: bool) {
        self.1.reading(reading);
    }
}

/// What a client says, as it comes.
pub trait Requests: Send {
    /// None when the client has closed its side. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Result<Option<v1::SubscribeRequest>, Status>> + Send;
}

impl Requests for tonic::Streaming<v1::SubscribeRequest> {
    async fn next(&mut self) -> Result<Option<v1::SubscribeRequest>, Status> {
        self.message().await.map_err(|status| match status.code() {
            // What tonic calls a message beyond the limit; here that code is of positions.
            Code::OutOfRange => Status::invalid_argument(format!("the request is too large: {}", status.message())),
            _ => status,
        })
    }
}

pub struct Session<C, R> {
    changes: C,
    requests: R,
    out: mpsc::Sender<Bytes>,
    encoder: Encoder,
    ledger: Ledger,
    /// Whether the client can say nothing more, though it goes on reading (gRPC-Web).
    hears_only: bool,
    /// What ends the call once everything before it is sent.
    failed: Option<Status>,
    /// Up to where everything was sent or is not wanted, as far as a position says it.
    place: Option<Position>,
    /// Whether the client was not told `place` yet.
    moved: bool,
    /// When the client was last told a position.
    told: Instant,
    is_reading: bool,
}

impl<C: Changes, R: Requests> Session<C, R> {
    /// `opened`: the first message, not yet sent, and the position in it.
    pub fn new(
        changes: C,
        requests: R,
        out: mpsc::Sender<Bytes>,
        mut encoder: Encoder,
        ledger: Ledger,
        (opened, start): (v1::Opened, Option<Position>),
        hears_only: bool,
    ) -> Self {
        encoder.say(subscribe_response::Response::Opened(opened));
        Session {
            changes,
            requests,
            out,
            encoder,
            ledger,
            hears_only,
            failed: None,
            place: start,
            moved: false,
            told: Instant::now(),
            is_reading: true,
        }
    }

    /// Until the end, and what that is.
    pub async fn run(mut self) -> Status {
        match self.serve().await {
            Ok(()) => Status::ok(""),
            Err(status) => status,
        }
    }

    async fn serve(&mut self) -> Result<(), Status> {
        let listens = !self.hears_only;
        let out = self.out.clone();
        // Since when the transport has not taken what may be sent.
        let mut stalled: Option<Instant> = None;
        loop {
            let may_send = self.ledger.may_send();
            let (waits, sends) = match self.encoder.front() {
                Some(next) => (true, !matches!(next.kind, Kind::Batch { .. }) || may_send),
                None => (false, false),
            };
            if !waits && let Some(failed) = self.failed.take() {
                return Err(failed);
            }
            if !waits && self.hears_only && !self.ledger.has_credit() {
                return Ok(());
            }
            // What waits is sent first, so that no more than one delivery ever does.
            let wants = !waits && may_send;
            stalled = if sends { stalled.or_else(|| Some(Instant::now())) } else { None };
            let is_stalled = stalled.is_some_and(|since| since.elapsed() >= STALLED);
            self.tell_reading(!is_stalled);
            let beats = !waits && self.place.is_some();
            let beat_at = self.told + if self.moved { HEARTBEAT } else { IDLE_HEARTBEAT };
            tokio::select! {
                biased;
                request = self.requests.next(), if listens => match request? {
                    Some(request) => self.request(request)?,
                    // The client has said all it wanted to; what it did not get, it does not want.
                    None => return Ok(()),
                },
                permit = out.reserve(), if sends => {
                    // The client is gone.
                    let Ok(permit) = permit else { return Ok(()) };
                    stalled = None;
                    let Some(Outgoing { bytes, kind }) = self.encoder.pop() else { continue };
                    let length = bytes.len();
                    permit.send(bytes);
                    match kind {
                        Kind::Batch { done } => {
                            self.ledger.sent(length);
                            self.finish(done);
                        }
                        Kind::Rewind => self.ledger.rewind(),
                        Kind::Other => {}
                    }
                }
                event = async { if wants { self.changes.next().await } else { Err(self.changes.ended().await) } } => {
                    self.events(event.map_err(refusal::ended)?)?;
                }
                () = tokio::time::sleep_until(beat_at), if beats => self.beat(),
                () = tokio::time::sleep(STALLED), if sends && !is_stalled => {}
                () = out.closed() => return Ok(()),
            }
        }
    }

    fn tell_reading(&mut self, takes: bool) {
        let reading = takes && self.ledger.has_credit();
        if std::mem::replace(&mut self.is_reading, reading) != reading {
            self.changes.reading(reading);
        }
    }

    /// All of a delivery is sent.
    fn finish(&mut self, done: Option<Seq>) {
        if let Some(upto) = done.and_then(|seq| self.ledger.delivered(seq)) {
            self.changes.ack(upto);
        }
    }

    fn request(&mut self, request: v1::SubscribeRequest) -> Result<(), Status> {
        use subscribe_request::Request;
        match request.request {
            Some(Request::Ack(v1::Ack { number })) => {
                if let Some(upto) = self.ledger.ack(number)? {
                    self.changes.ack(upto);
                }
                Ok(())
            }
            Some(Request::Credit(v1::Credit { bytes, batches })) if self.ledger.counts() => {
                self.ledger.add_credit(bytes, batches);
                Ok(())
            }
            Some(Request::Credit(_)) => {
                Err(Status::invalid_argument("this call counts no credits, for its Open had none: set `credit` there"))
            }
            Some(Request::Open(_)) => {
                Err(Status::invalid_argument("Open is the first message of a call, and only that"))
            }
            None => Err(Status::invalid_argument("a request that is neither Open, Ack nor Credit")),
        }
    }

    /// Takes an event, and with it what is there already, as far as one message holds it.
    fn events(&mut self, first: Event) -> Result<(), Status> {
        let mut next = Some(first);
        for _ in 0..TOGETHER_MAX {
            let Some(event) = next.take() else { break };
            let is_batch = matches!(event, Event::Batch { .. });
            self.event(event);
            if is_batch && self.failed.is_none() && self.encoder.has_room() {
                next = self.changes.next().now_or_never().transpose().map_err(refusal::ended)?;
            }
        }
        if let Some(event) = next {
            self.event(event);
        }
        self.end_message();
        Ok(())
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Batch { seq, delivery } => match self.encoder.add(seq, &delivery, self.ledger.next_number()) {
                Ok(()) => {
                    if let Some(position) = &delivery.batch.mark.position {
                        (self.place, self.moved) = (Some(position.clone()), true);
                    }
                }
                Err(failed) => self.failed = Some(failed),
            },
            Event::Position(position) => {
                self.end_message();
                self.moved |= self.place.as_ref() != Some(&position);
                self.place = Some(position);
            }
            Event::Rewind(position) => {
                self.end_message();
                let rewind = v1::Rewind {
                    position: position.as_ref().map(|position| self.encoder.position(position)),
                    reason: "the log of the database's server goes on from there otherwise than what was read"
                        .to_owned(),
                };
                self.encoder.say(subscribe_response::Response::Rewind(rewind));
                (self.place, self.moved) = (position, false);
            }
        }
    }

    /// What is encoded goes out as it is.
    fn end_message(&mut self) {
        match self.encoder.finish(self.ledger.next_number()) {
            // It tells its position by itself.
            Finished::Message => (self.moved, self.told) = (false, Instant::now()),
            Finished::Nothing(done) => self.finish(done),
        }
    }

    fn beat(&mut self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let heartbeat = v1::Heartbeat {
            position: self.place.as_ref().map(|position| self.encoder.position(position)),
            sent_unix_micros: i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        };
        self.encoder.say(subscribe_response::Response::Heartbeat(heartbeat));
        (self.moved, self.told) = (false, Instant::now());
    }
}

#[cfg(test)]
mod tests;
