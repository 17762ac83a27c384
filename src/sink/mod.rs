//! What a destination must be able to do.
//!
//! Invariants:
//! - *Accepted* is not *durable*, and the types say which: [`Sink::write`] returns [`Accepted`], only [`Sink::flush`]
//!   returns [`Durable`].
//! - A sink sees the batches of its stream in order, each record once while the process lives. After a failure it is
//!   opened again at its last durable point, and everything after that point is written again.
//! - Dropping a batch is never an acknowledgement.

mod config;
mod file;
mod lines;
mod null;
mod stdout;

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Finding, Result};
use crate::record::{Batch, CdcRecord, Seq, SinkOffset};

pub use config::SinkConfig;
pub use file::{Compression, FileConfig, FileSink};
pub use lines::Encode;
pub use null::{NullConfig, NullSink};
pub use stdout::{StdoutConfig, StdoutSink, reader_went_away};

/// What a sink promises: said by `check` and at the start, not discovered in production.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    pub guarantee: Guarantee,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// After a crash some records come again, with the same order keys.
    AtLeastOnce,
    /// After a crash the sink is where its stored position says: nothing twice, nothing missing.
    ExactlyOnce,
}

impl std::fmt::Display for Guarantee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Guarantee::AtLeastOnce => "at least once",
            Guarantee::ExactlyOnce => "exactly once",
        })
    }
}

/// How a worker batches for its sink: it flushes at whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    pub max_records: usize,
    pub max_bytes: usize,
    /// The longest an accepted record stays unflushed.
    pub max_delay_ms: u64,
    /// Whether to flush whenever nothing more is queued (cheap flushes, low latency).
    pub flush_when_idle: bool,
}

/// The batch's records from `first` on up to `end`: what this sink has not had yet.
#[derive(Clone)]
pub struct Delivery {
    pub batch: Arc<Batch>,
    pub first: usize,
    pub end: usize,
}

impl Delivery {
    pub fn whole(batch: Arc<Batch>) -> Self {
        let end = batch.len();
        Delivery { batch, first: 0, end }
    }
    pub fn records(&self) -> impl Iterator<Item = CdcRecord<'_>> {
        self.batch.records_from(self.first).take(self.end.saturating_sub(self.first))
    }
}

/// Everything up to this batch is the sink's to keep, though a crash may still lose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Accepted(pub Seq);

/// Everything up to this batch survives a crash of this process and of its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Durable(pub Seq);

#[async_trait]
pub trait Sink: Send {
    fn capabilities(&self) -> Capabilities;
    fn batching(&self) -> Batching;

    /// Proves that the destination can be written to, without changing it.
    async fn check(&mut self) -> Vec<Finding>;

    /// Gets ready to go on behind `stored`: what the destination holds beyond it is taken back where the sink can, else
    /// it comes twice. A transactional destination may answer with its own, newer offset. Called again after a failure.
    async fn open(&mut self, stored: &SinkOffset) -> Result<Option<SinkOffset>>;

    /// Takes a batch. Errors: `Transient` is retried after another [`Sink::open`]; any other ends the sink.
    async fn write(&mut self, delivery: &Delivery) -> Result<Accepted>;

    /// The sink's own mark of everything accepted so far, to be stored once it is durable.
    fn token(&self) -> Option<Vec<u8>> {
        None
    }

    /// Makes everything accepted durable.
    async fn flush(&mut self) -> Result<Durable>;

    /// Flushes and lets go of the destination.
    async fn close(&mut self) -> Result<()>;
}
