//! `null`: counts and forgets.
//!
//! For measuring everything before the sink, and for draining a slot on purpose.
//!
//! - **Guarantee**: none is needed; a record counts as durable as soon as it is taken. Nothing is encoded.
//! - **Batching**: flushing costs nothing, so it happens whenever nothing more is queued.
//! - **Configuration**: `type: null`, and the common batching keys.
//! - **Errors**: none.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::config::{DEFAULT_BATCHING, batching_of};
use super::{Accepted, Batching, Capabilities, Delivery, Durable, Guarantee, Sink};
use crate::error::{Finding, Result};
use crate::quantity::{ByteSize, Span};
use crate::record::{Seq, SinkOffset};

/// Counts the records and forgets them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NullConfig {
    /// Flush after this many records (default 100000).
    pub batch_records: Option<usize>,
    /// Flush after this many bytes of batches (default 4MiB).
    pub batch_bytes: Option<ByteSize>,
    /// The longest a record stays unflushed (default 200ms).
    pub batch_delay: Option<Span>,
}

pub struct NullSink {
    batching: Batching,
    last: Seq,
    records: u64,
}

impl NullSink {
    pub fn new(config: &NullConfig) -> Self {
        let NullConfig { batch_records, batch_bytes, batch_delay } = config;
        let batching = batching_of(DEFAULT_BATCHING, *batch_records, *batch_bytes, *batch_delay);
        NullSink { batching, last: Seq(0), records: 0 }
    }

    /// How many records were taken since the process started.
    pub fn records(&self) -> u64 {
        self.records
    }
}

#[async_trait]
impl Sink for NullSink {
    fn capabilities(&self) -> Capabilities {
        Capabilities { guarantee: Guarantee::AtLeastOnce }
    }
    fn batching(&self) -> Batching {
        self.batching
    }
    async fn check(&mut self) -> Vec<Finding> {
        Vec::new()
    }
    async fn open(&mut self, _stored: &SinkOffset) -> Result<Option<SinkOffset>> {
        Ok(None)
    }
    async fn write(&mut self, delivery: &Delivery) -> Result<Accepted> {
        self.records += delivery.end.saturating_sub(delivery.first) as u64;
        self.last = delivery.batch.seq;
        Ok(Accepted(self.last))
    }
    async fn flush(&mut self) -> Result<Durable> {
        Ok(Durable(self.last))
    }
    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
