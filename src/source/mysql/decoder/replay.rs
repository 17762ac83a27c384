//! The kept rows of a prepared transaction, delivered when it is committed.

use super::super::xa::{self, Kept};
use super::{Decoder, Ending, Step, is_apart};
use crate::error::{Error, Result};
use crate::wire::mysql::event::{Body, Event};

impl Decoder {
    pub(super) fn replay_begins(&mut self, kept: Kept) -> Result<Step> {
        let events = kept.events.clone();
        self.relations.unmap();
        self.replaying = Some(kept);
        Ok(Step::Kept(events))
    }

    /// One event of a prepared transaction that is committed now; it stands at `base` of its frame.
    pub fn replay(&mut self, bytes: &[u8], base: usize) -> Result<Step> {
        let event = Event::plain(bytes).map_err(|error| self.malformed(error))?;
        let body = event.parse(&self.format).map_err(|error| self.malformed(error))?;
        if is_apart(&body) {
            return Ok(Step::Apart);
        }
        match body {
            Body::TableMap(map) => {
                let Some(kept) = &self.replaying else { return Err(Error::bug("nothing is being replayed")) };
                self.relations.map_kept(&map, kept.table(&map))?;
            }
            Body::Rows(rows) => self.rows(&event, &rows, base, super::REPLAYED, None)?,
            Body::Skippable => {
                let (Some(group), Some(rows)) = (&mut self.group, xa::skipped(&event)) else {
                    return Err(Error::bug("rows to skip are not what was kept"));
                };
                group.ordinal += rows;
            }
            _ => {
                return Err(Error::data("a prepared transaction was stored with what is no row").remedy(
                    "the state directory was written by another version or is damaged: `walbrook offsets reset`",
                ));
            }
        }
        Ok(Step::Next)
    }

    /// All kept events have been replayed.
    pub fn replayed(&mut self) -> Result<Step> {
        self.replaying = None;
        self.ended(Ending::Commit)
    }
}
