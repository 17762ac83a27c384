//! What a dump sends of a file before the place where the stream begins.
//!
//! Invariants:
//! - The protocol asks for an offset in 32 bits. Beyond them a file is asked for from its beginning, and what lies before the
//!   place is passed by its headers alone: nothing of it is verified, joined or kept.
//! - The place is where an event begins, or there is an error: nothing is delivered before that is known.

use super::Decoder;
use crate::error::{Error, Result};
use crate::wire::mysql::event::{EventType, Header};

impl Decoder {
    /// Whether what comes next is passed over.
    pub fn skips(&self) -> bool {
        self.skips_to.is_some()
    }

    /// Takes an event of which only the header counts; false where it counts whole.
    pub(super) fn skipped(&mut self, header: &Header) -> Result<bool> {
        let stays =
            matches!(header.kind, EventType::FORMAT_DESCRIPTION | EventType::HEARTBEAT | EventType::HEARTBEAT_V2);
        if stays || header.flags.artificial() {
            return Ok(false);
        }
        self.skip(header)?;
        Ok(true)
    }

    /// Passes over an event by its header.
    ///
    /// # Errors
    /// Lost: the file ends before the place. Config: the place is inside an event.
    pub fn skip(&mut self, header: &Header) -> Result<()> {
        let Some(wanted) = self.skips_to else { return Err(Error::bug("an event is passed over for no reason")) };
        self.place.pass(header);
        let here = self.place.offset;
        if here == wanted {
            self.skips_to = None;
        } else if here > wanted {
            return Err(Error::config(format!(
                "in {} no event begins at {wanted}: one ends at {here}",
                self.place.file
            ))
            .remedy("give the place of a transaction, such as the pos of a change"));
        } else if matches!(header.kind, EventType::ROTATE | EventType::STOP) {
            return Err(too_short(&self.place.file, wanted));
        }
        Ok(())
    }

    /// Where a transaction begins whose GTID event was read. What a dump by GTID leaves out may be so long that 32 bits do not
    /// tell: what it sends begins behind the place where the stream resumes.
    pub(super) fn begins_at(&mut self, start: u64) -> u64 {
        const WRAP: u64 = 1 << 32;
        match &self.floor {
            Some(floor) if floor.offset >= WRAP && floor.file == self.place.file && start < floor.offset => {
                let left_out = (floor.offset - start).next_multiple_of(WRAP);
                self.place.offset += left_out;
                start + left_out
            }
            _ => start,
        }
    }

    /// The log went on in another file. Errors: as of [`Self::skip`].
    pub(super) fn skipped_file(&self, ended: &str) -> Result<()> {
        match self.skips_to {
            Some(wanted) if !ended.is_empty() => Err(too_short(ended, wanted)),
            _ => Ok(()),
        }
    }
}

fn too_short(file: &str, wanted: u64) -> Error {
    Error::lost(format!("{file} ends before {wanted}: the server was restored, or lost the end of its log in a crash"))
}
