//! What stands in the log and does not count.

use std::sync::Arc;

use super::{Decoder, Step};

/// Rows in the log that do not count: of a transaction that never ended or was rolled back, or what a transaction has
/// rolled back to a savepoint. Known when their end is read; what was sent of them by then is taken back by beginning anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Void {
    pub file: Arc<str>,
    /// Where the transaction, or the savepoint's event, begins.
    pub start: u64,
    /// Where what takes it back begins.
    pub end: u64,
}

/// Voids that are remembered: each costs a new beginning, after which the older ones are behind what is stored.
const VOIDS_MAX: usize = 256;

impl Decoder {
    /// The server went on without an end of the open transaction: it crashed over writing it.
    pub(super) fn never_ended(&mut self) -> Step {
        let Some(group) = &self.group else { return Step::Next };
        let (file, start) = (group.file.clone(), group.start);
        tracing::warn!(%file, start, "a transaction in the log never ended: the server crashed while it was written");
        self.payload = None;
        self.relations.unmap();
        let whole = self.take_back();
        self.group = None;
        if whole {
            return Step::Next;
        }
        // Nothing else is behind it in this file.
        self.remember(Void { file, start, end: u64::MAX });
        Step::Retracted
    }

    /// The file ends inside an event, and the next one is read from its beginning. `counts_cut`: the server counts the open
    /// transaction as logged, so that a dump that begins behind it begins in the next file.
    pub fn pass_cut(&mut self, counts_cut: bool) -> Step {
        let gtid = self.group.as_ref().and_then(|group| group.gtid.clone()).filter(|_| counts_cut);
        let step = self.never_ended();
        if let (Step::Next, Some(gtid), Some(executed)) = (&step, gtid, &mut self.executed) {
            Arc::make_mut(executed).insert(&gtid);
        }
        step
    }

    /// Takes back what was delivered of the open transaction. False where batches of it were sent.
    pub(super) fn take_back(&mut self) -> bool {
        match self.group.as_mut() {
            Some(group) if group.begun => {
                group.begun = false;
                self.writer.retract()
            }
            _ => true,
        }
    }

    pub(super) fn remember(&mut self, void: Void) {
        if self.voids.len() == VOIDS_MAX {
            self.voids.remove(0);
        }
        self.voids.push(void);
    }

    /// Whether rows of an event that begins there do not count.
    #[inline]
    pub(super) fn is_void(&self, start: u64) -> bool {
        let within = |void: &Void| void.start <= start && start < void.end && void.file == self.place.file;
        !self.voids.is_empty() && self.voids.iter().any(within)
    }
}
