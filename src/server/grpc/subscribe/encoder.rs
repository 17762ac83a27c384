//! From deliveries to messages that wait to be sent.
//!
//! Invariants:
//! - What is encoded into a message that is not finished is finished before anything else is put behind it.
//! - A delivery is done with the message that has its last wanted record, or, without one, with the message before it.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use tonic::Status;

use crate::encode::proto::{ProtoEncoder, ProtoOptions, Unsendable, position};
use crate::proto::v1::{self, subscribe_response};
use crate::record::{Position, Seq};
use crate::server::grpc::status::{status, text};
use crate::sink::Delivery;

/// A message on its way.
pub struct Outgoing {
    pub bytes: Bytes,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It counts, and is acknowledged. `done`: the last delivery that ends in it.
    Batch { done: Option<Seq> },
    /// What was sent before it is void.
    Rewind,
    /// Opened, Heartbeat.
    Other,
}

/// What ending a message came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Finished {
    /// It waits.
    Message,
    /// There was none; perhaps a delivery that is done without any.
    Nothing(Option<Seq>),
}

pub struct Encoder {
    inner: ProtoEncoder,
    owner: u64,
    target_bytes: usize,
    /// The last delivery of which all is encoded, and not in a finished message.
    done: Option<Seq>,
    waiting: VecDeque<Outgoing>,
    /// How many of those are batches.
    batches: u64,
}

impl Encoder {
    pub fn new(options: ProtoOptions) -> Encoder {
        let (owner, target_bytes) = (options.lineage, options.target_bytes);
        let inner = ProtoEncoder::new(options);
        Encoder { inner, owner, target_bytes, done: None, waiting: VecDeque::new(), batches: 0 }
    }

    /// Whether more of what is there already should go into the same message. Half of one is left for it: who acknowledges a
    /// message that ends inside a delivery gets all of that delivery again, should it leave there.
    pub fn has_room(&self) -> bool {
        self.waiting.is_empty() && self.inner.bytes() < self.target_bytes / 2
    }

    pub fn front(&self) -> Option<&Outgoing> {
        self.waiting.front()
    }

    pub fn pop(&mut self) -> Option<Outgoing> {
        let next = self.waiting.pop_front();
        self.batches -= u64::from(next.as_ref().is_some_and(|next| matches!(next.kind, Kind::Batch { .. })));
        next
    }

    /// Encodes all of a delivery; `number`: of the batch that is sent next. Errors: RESOURCE_EXHAUSTED for a row that is
    /// larger than the client takes, DATA_LOSS for a value that cannot be represented. What came before can be sent.
    pub fn add(&mut self, seq: Seq, delivery: &Delivery, number: u64) -> Result<(), Status> {
        let mut first = delivery.first;
        loop {
            first = match self.inner.add(&delivery.batch, first..delivery.end) {
                Ok(next) => next,
                Err(Unsendable::TooLarge(error)) => return Err(Status::resource_exhausted(text(&error))),
                Err(Unsendable::Wrong(error)) => return Err(status(&error)),
            };
            if first >= delivery.end {
                self.done = Some(seq);
                return Ok(());
            }
            self.finish(number);
        }
    }

    /// Ends the message at hand; `number`: of the batch that is sent next.
    pub fn finish(&mut self, number: u64) -> Finished {
        let done = self.done.take();
        if let Some(message) = self.inner.finish(number + self.batches) {
            self.waiting.push_back(Outgoing { bytes: message.bytes, kind: Kind::Batch { done } });
            self.batches += 1;
            return Finished::Message;
        }
        match (self.waiting.back_mut(), done) {
            (Some(Outgoing { kind: Kind::Batch { done: last }, .. }), Some(done)) => {
                *last = Some(done);
                Finished::Nothing(None)
            }
            (_, done) => Finished::Nothing(done),
        }
    }

    pub fn say(&mut self, response: subscribe_response::Response) {
        let kind = match &response {
            subscribe_response::Response::Rewind(_) => Kind::Rewind,
            _ => Kind::Other,
        };
        let bytes = v1::SubscribeResponse { response: Some(response) }.encode_to_vec().into();
        self.waiting.push_back(Outgoing { bytes, kind });
    }

    pub fn position(&self, at: &Position) -> v1::Position {
        position(at, self.owner)
    }
}
