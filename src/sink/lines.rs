//! What the sinks of lines share: encoding a delivery into one reused buffer, written in pieces; or ahead of its writing,
//! on other threads.
//!
//! Invariants:
//! - A piece is whole lines.
//! - Between deliveries the buffer is empty and at most [`KEPT_BYTES`] large, whatever a record has needed.
//! - Lines come out in the order of their deliveries, whichever was encoded first; those before a record that cannot be
//!   encoded come before its error.
//! - At most [`ENCODERS_MAX`] deliveries are encoded ahead, each of a batch of at most [`AHEAD_MAX_BYTES`]; a stream that
//!   has little to do holds nothing of it.

use std::collections::VecDeque;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;

use super::Delivery;
use crate::encode::JsonEncoder;
use crate::error::{Error, Result};
use crate::record::{CdcRecord, Origin};

/// Turns records into lines; the formats of `encode` are these.
pub trait Encode: Send + 'static {
    /// Appends the record's lines to `out`, each complete with its `\n`; a record that the format leaves out appends
    /// nothing. On an error what was appended is discarded.
    fn encode(&mut self, origin: Origin, record: &CdcRecord<'_>, out: &mut Vec<u8>) -> Result<()>;

    /// One more that gives the same lines, for another thread.
    fn another(&self) -> Self;
}

impl Encode for JsonEncoder {
    fn encode(&mut self, origin: Origin, record: &CdcRecord<'_>, out: &mut Vec<u8>) -> Result<()> {
        JsonEncoder::encode(self, origin, record, out)
    }

    fn another(&self) -> Self {
        JsonEncoder::another(self)
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

/// Two keep the lines coming on a machine of two cores, where the server and the reader want one of them; on a larger one
/// four are more than a reader can feed.
const ENCODERS_MAX: usize = 4;
/// The batches of a stream that is behind have 64 to 256 KiB. Below 32 the way to another thread and back, some 10 µs, is
/// more than a tenth of the work.
const AHEAD_MIN_BYTES: usize = 32 * 1024;
/// Four batches at most, so that what is encoded ahead of a sink is some 2 MiB, lines being longer than rows. A batch is
/// larger only by a single large row, which is written in pieces rather than held twice.
const AHEAD_MAX_BYTES: usize = 512 * 1024;

/// Encodes deliveries on other threads while those before them are written.
pub(super) struct Ahead<E> {
    /// In the order of the deliveries.
    running: VecDeque<JoinHandle<Encoded<E>>>,
    /// Encoders and buffers between two deliveries.
    spare: Vec<(E, Vec<u8>)>,
    encoders: usize,
}

/// The lines of a delivery, up to the first record that could not be encoded.
pub(super) struct Encoded<E> {
    encoder: E,
    pub(super) lines: Vec<u8>,
    pub(super) result: Result<()>,
}

impl<E: Encode> Ahead<E> {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // On one core there is nobody to do it meanwhile.
        let encoders = if cores == 1 { 0 } else { cores.min(ENCODERS_MAX) };
        Ahead { running: VecDeque::new(), spare: Vec::new(), encoders }
    }

    /// Whether it is worth another thread, and not too large to be held.
    pub(super) fn wants(&self, delivery: &Delivery) -> bool {
        self.encoders > 0 && (AHEAD_MIN_BYTES..=AHEAD_MAX_BYTES).contains(&delivery.batch.bytes())
    }

    /// Whether one has to be [taken](Ahead::next) before another is begun.
    pub(super) fn is_full(&self) -> bool {
        self.running.len() >= self.encoders
    }

    /// Begins with a delivery.
    pub(super) fn begin(&mut self, encoder: &E, delivery: &Delivery) {
        let (mut encoder, mut lines) = self.spare.pop().unwrap_or_else(|| (encoder.another(), Vec::new()));
        let delivery = delivery.clone();
        self.running.push_back(tokio::task::spawn_blocking(move || {
            let mut encode = |record| encoder.encode(delivery.batch.origin, &record, &mut lines);
            let result = delivery.records().try_for_each(&mut encode);
            Encoded { encoder, lines, result }
        }));
    }

    /// Waits for the first that was begun; none when there is none. To be [given back](Ahead::done).
    pub(super) async fn next(&mut self) -> Option<Result<Encoded<E>>> {
        let first = self.running.front_mut()?;
        let encoded = first.await.map_err(|error| Error::bug("encoding on another thread").because(error));
        self.running.pop_front();
        Some(encoded)
    }

    pub(super) fn done(&mut self, encoded: Encoded<E>) {
        let Encoded { encoder, mut lines, .. } = encoded;
        lines.clear();
        self.spare.push((encoder, lines));
    }

    /// Lets go of everything: what was begun is not wanted any more, or the stream has little to do.
    pub(super) fn clear(&mut self) {
        self.running.clear();
        self.spare.clear();
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
