//! `stdout`: lines into a pipe, a terminal or a file that somebody else opened.
//!
//! - **Guarantee**: at least once. Durable means written to the descriptor: what the reader does with it is the reader's
//!   affair. After a restart everything since the last stored position comes again, with the same order keys.
//! - **Batching**: a flush writes what is still being encoded on other threads, and happens whenever nothing more is
//!   queued. The keys only bound how rarely the position is stored.
//! - **Configuration**: `type: stdout`, `transactions`, and the common batching keys.
//! - **Errors**: a reader that went away ends the sink with an error that [`reader_went_away`] knows, so that the program
//!   can end quietly as `… | head` expects. Any other failed write is `Transient`: opened again, the sink repeats what
//!   was not confirmed, so a reader may see the start of a line and then that line again.
//!
//! A reader that does not read blocks the write, never another task: on a multi-thread runtime it happens in
//! [`tokio::task::block_in_place`]. (A current-thread runtime has no other thread to go on with.)

use std::error::Error as _;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::config::{DEFAULT_BATCHING, batching_of};
use super::lines::{Ahead, Encode, LineBuffer, blocking};
use super::{Accepted, Batching, Capabilities, Delivery, Durable, Guarantee, Sink};
use crate::error::{Class, Error, Finding, Result};
use crate::quantity::{ByteSize, Span};
use crate::record::{Seq, SinkOffset};

/// `/dev/null`'s number on Linux: major 1, minor 3.
const NULL_DEVICE: u64 = 1 << 8 | 3;

/// Lines of JSON on the standard output.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StdoutConfig {
    /// Whether transactions' begin and commit are lines too (default false).
    #[serde(default)]
    pub transactions: bool,
    /// Flush after this many records (default 100000).
    pub batch_records: Option<usize>,
    /// Flush after this many bytes of batches (default 4MiB).
    pub batch_bytes: Option<ByteSize>,
    /// The longest a record stays unflushed (default 200ms).
    pub batch_delay: Option<Span>,
}

pub struct StdoutSink<E> {
    name: String,
    batching: Batching,
    encoder: E,
    output: Output,
    /// Whether a write may wait for somebody: not for a file or for `/dev/null`.
    may_block: bool,
    lines: LineBuffer,
    /// Deliveries before `last` whose lines are not written yet.
    ahead: Ahead<E>,
    last: Seq,
}

impl<E: Encode> StdoutSink<E> {
    fn write_all(&mut self, delivery: &Delivery) -> Result<()> {
        let StdoutSink { name, encoder, output, lines, .. } = self;
        let file = output.file().map_err(|error| write_error(name, error))?;
        let mut write = |lines: &mut LineBuffer| {
            let written = file.write_all(lines.bytes()).map_err(|error| write_error(name, error));
            lines.clear();
            written
        };
        for record in delivery.records() {
            let added = lines.add(encoder, delivery.batch.origin, &record);
            // The lines before a failed one are good: they reach the reader before the error does.
            if lines.is_piece() || added.is_err() {
                write(lines)?;
            }
            added?;
        }
        write(lines)
    }

    /// Writes the oldest delivery that is being encoded ahead. Whether there was one.
    async fn write_next(&mut self) -> Result<bool> {
        let Some(encoded) = self.ahead.next().await else { return Ok(false) };
        let mut encoded = encoded?;
        let (name, output, lines) = (&self.name, &mut self.output, &encoded.lines);
        let mut write =
            || output.file().and_then(|file| file.write_all(lines)).map_err(|error| write_error(name, error));
        if self.may_block { blocking(write) } else { write() }?;
        let result = std::mem::replace(&mut encoded.result, Ok(()));
        self.ahead.done(encoded);
        result.map(|()| true)
    }
}

enum Output {
    /// Not opened yet.
    Standard,
    /// The descriptor itself, without the line buffer and the lock of `std::io::stdout`.
    Open(File),
}

impl<E: Encode> StdoutSink<E> {
    pub fn new(name: &str, config: &StdoutConfig, encoder: E) -> Self {
        Self::build(name, config, encoder, Output::Standard)
    }

    /// The same into a file, a device or a pipe that is already open.
    pub fn into_file(name: &str, config: &StdoutConfig, encoder: E, file: File) -> Self {
        Self::build(name, config, encoder, Output::Open(file))
    }

    fn build(name: &str, config: &StdoutConfig, encoder: E, output: Output) -> Self {
        let StdoutConfig { transactions: _, batch_records, batch_bytes, batch_delay } = config;
        StdoutSink {
            name: name.to_owned(),
            batching: batching_of(DEFAULT_BATCHING, *batch_records, *batch_bytes, *batch_delay),
            encoder,
            output,
            may_block: true,
            lines: LineBuffer::default(),
            ahead: Ahead::new(),
            last: Seq(0),
        }
    }
}

impl Output {
    fn file(&mut self) -> io::Result<&mut File> {
        if let Output::Standard = self {
            // A descriptor of our own: dropping the sink must not close the process's.
            *self = Output::Open(File::from(io::stdout().as_fd().try_clone_to_owned()?));
        }
        match self {
            Output::Open(file) => Ok(file),
            Output::Standard => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Whether an error says that whoever read our output no longer does.
pub fn reader_went_away(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn write_error(name: &str, error: io::Error) -> Error {
    let class = match error.kind() {
        // No retry brings the reader back.
        io::ErrorKind::BrokenPipe => Class::Config,
        _ => Class::Transient,
    };
    Error::new(class, format!("writing to the output of sink {name:?}")).because(error)
}

#[async_trait]
impl<E: Encode> Sink for StdoutSink<E> {
    fn capabilities(&self) -> Capabilities {
        Capabilities { guarantee: Guarantee::AtLeastOnce }
    }

    fn batching(&self) -> Batching {
        self.batching
    }

    async fn check(&mut self) -> Vec<Finding> {
        let subject = format!("sink {}", self.name);
        match self.output.file() {
            Ok(_) => vec![Finding::ok(subject, "the output is open")],
            Err(error) => {
                vec![Finding::problem(subject, format!("the output is not open: {error}"), "start it with an output")]
            }
        }
    }

    async fn open(&mut self, _stored: &SinkOffset) -> Result<Option<SinkOffset>> {
        self.lines.clear();
        self.ahead.clear();
        let kind = self.output.file().and_then(|file| file.metadata());
        let kind = kind.map_err(|error| write_error(&self.name, error))?;
        self.may_block = !(kind.is_file() || (kind.file_type().is_char_device() && kind.rdev() == NULL_DEVICE));
        Ok(None)
    }

    async fn write(&mut self, delivery: &Delivery) -> Result<Accepted> {
        if self.ahead.wants(delivery) {
            while self.ahead.is_full() {
                self.write_next().await?;
            }
            self.ahead.begin(&self.encoder, delivery);
        } else {
            while self.write_next().await? {}
            self.ahead.clear();
            if self.may_block { blocking(|| self.write_all(delivery)) } else { self.write_all(delivery) }?;
        }
        self.last = delivery.batch.seq;
        Ok(Accepted(self.last))
    }

    async fn flush(&mut self) -> Result<Durable> {
        while self.write_next().await? {}
        Ok(Durable(self.last))
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
