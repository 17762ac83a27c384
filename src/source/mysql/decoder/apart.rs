//! Events that do not stand in the log as they are delivered: compressed ones, differences, compressed transactions.

use super::{Decoder, REPLAYED, Step};
use crate::error::{Error, Result};
use crate::wire::mysql::event::{Body, Event, Header, RowsKind};

impl Decoder {
    /// One event that asked for it, as it came; `out` becomes the frame that its cells point into.
    pub fn apart(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step> {
        let format = self.format;
        let event = format.open(bytes).map_err(|error| self.malformed(error))?;
        let start = self.place.pass(&event.header);
        self.event_apart(&event, start, out)
    }

    /// As [`Decoder::apart`], for an event of a payload.
    pub fn unpacked_apart(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step> {
        let event = Event::plain(bytes).map_err(|error| self.malformed(error))?;
        let start = self.place.offset;
        self.event_apart(&event, start, out)
    }

    /// As [`Decoder::apart`], for a kept event.
    pub fn replay_apart(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let event = Event::plain(bytes).map_err(|error| self.malformed(error))?;
        self.event_apart(&event, REPLAYED, out).map(drop)
    }

    fn event_apart(&mut self, event: &Event<'_>, start: u64, out: &mut Vec<u8>) -> Result<Step> {
        match event.parse(&self.format).map_err(|error| self.malformed(error))? {
            body if self.passes_over(&body) => Ok(Step::Next),
            Body::Compressed(compressed) => {
                compressed.inflate(out).map_err(|error| self.malformed(error))?;
                let event = Event::plain(out).map_err(|error| self.malformed(error))?;
                let body = event.parse(&self.format).map_err(|error| self.malformed(error))?;
                self.body(&event, body, start, 0)
            }
            Body::Rows(rows) => {
                out.clear();
                out.extend_from_slice(event.bytes());
                self.rows(event, &rows, 0, start, Some(out))?;
                Ok(Step::Next)
            }
            _ => Err(Error::bug("an event was taken apart that stands for itself")),
        }
    }

    /// A TRANSACTION_PAYLOAD begins: [`Decoder::unpacked`] for each event of it, then [`Decoder::payload_ended`].
    pub fn payload_begins(&mut self) -> Result<()> {
        if self.group.is_none() || self.payload.is_some() {
            return Err(self.misplaced("a compressed transaction"));
        }
        self.payload = Some(None);
        Ok(())
    }

    /// One event of a payload.
    #[inline]
    pub fn unpacked(&mut self, bytes: &[u8], base: usize) -> Result<Step> {
        let event = Event::plain(bytes).map_err(|error| self.malformed(error))?;
        let body = event.parse(&self.format).map_err(|error| self.malformed(error))?;
        if is_apart(&body) {
            return Ok(Step::Apart);
        }
        let start = self.place.offset;
        self.body(&event, body, start, base)
    }

    /// All of the payload's events were taken, and the event around them is whole. `header` is its header.
    pub fn payload_ended(&mut self, header: &Header) -> Result<Step> {
        self.place.pass(header);
        match self.payload.take() {
            Some(Some(ending)) => self.ended(ending),
            _ => Err(self.misplaced("the end of a compressed transaction that has no commit")),
        }
    }
}

/// Whether an event's rows do not stand in it as cells.
pub(super) fn is_apart(body: &Body<'_>) -> bool {
    match body {
        Body::Compressed(_) => true,
        Body::Rows(rows) => rows.kind == RowsKind::PartialUpdate,
        _ => false,
    }
}
