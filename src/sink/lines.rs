//! What the sinks of lines share: encoding a delivery into one reused buffer, written in pieces.
//!
//! Invariants:
//! - A piece is whole lines.
//! - Between deliveries the buffer is empty and at most [`KEPT_BYTES`] large, whatever a record has needed.

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::encode::JsonEncoder;
use crate::error::Result;
use crate::record::{CdcRecord, Origin};

/// Turns records into lines; the formats of `encode` are these.
pub trait Encode: Send + 'static {
    /// Appends the record's lines to `out`, each complete with its `\n`; a record that the format leaves out appends
    /// nothing. On an error what was appended is discarded.
    fn encode(&mut self, origin: Origin, record: &CdcRecord<'_>, out: &mut Vec<u8>) -> Result<()>;
}

impl Encode for JsonEncoder {
    fn encode(&mut self, origin: Origin, record: &CdcRecord<'_>, out: &mut Vec<u8>) -> Result<()> {
        JsonEncoder::encode(self, origin, record, out)
    }
}

/// A piece is written as soon as it holds this much: twice a pipe's 64 KiB, so that a reader finds it full, and small
/// enough to be in the core's cache still when the kernel copies it.
const PIECE_BYTES: usize = 128 * 1024;
/// A record of ordinary size still fits behind an almost full piece without growing the buffer.
const KEPT_BYTES: usize = 2 * PIECE_BYTES;

#[derive(Default)]
pub(super) struct LineBuffer(Vec<u8>);

impl LineBuffer {
    /// Adds a record's lines; after an error those before it are as they were.
    #[inline]
    pub(super) fn add<E: Encode>(&mut self, encoder: &mut E, origin: Origin, record: &CdcRecord<'_>) -> Result<()> {
        let before = self.0.len();
        let added = encoder.encode(origin, record, &mut self.0);
        if added.is_err() {
            self.0.truncate(before);
        }
        added
    }

    /// Whether there is enough to be worth a write.
    #[inline]
    pub(super) fn is_piece(&self) -> bool {
        self.0.len() >= PIECE_BYTES
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
        self.0.shrink_to(KEPT_BYTES);
    }
}

/// Runs what may block this thread (a full pipe, a sync) without holding up the runtime's other tasks. On a current-thread
/// runtime there is no other thread, and it just runs.
pub(super) fn blocking<T>(run: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(run),
        _ => run(),
    }
}
