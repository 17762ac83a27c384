//! A socket and its two buffers: whole messages out of a stream of bytes.
//!
//! Invariants:
//! - [`Transport::fill`] is cancel-safe: it appends what one read gives, or nothing. So is [`Transport::flush`]: what a
//!   cancelled flush left unsent goes out first with the next.
//! - The read buffer holds [`READ_BUFFER_BYTES`], more only for one message that is larger, and shrinks again behind it.
//! - A write that the server does not take within [`WRITE_TIMEOUT`] is an error, never a standstill.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::binding;
use crate::error::{Error, Result};
use crate::source::socket::io_class;
use crate::source::tls::Stream;
use crate::wire::WireError;
use crate::wire::pg::frame::{self, Frame};

/// One read: 256 KiB take what a fast server has sent since the last one (150,000 events/s of 120 bytes are 18 MB/s, so
/// 14 ms of it) and stay within a core's second-level cache.
pub const READ_BUFFER_BYTES: usize = 256 << 10;

/// Below this much room a short rest is moved rather than read behind: a quarter of the buffer, so that at most one byte
/// in three is moved, and no read is small for want of room.
const MIN_READ_BYTES: usize = READ_BUFFER_BYTES / 4;

/// All we send is smaller than a socket's send buffer (16 KiB at the least); a server that takes no byte for so long is
/// gone, or does not read while it waits for us, which the protocol does not do.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Transport {
    stream: Stream,
    input: BytesMut,
    output: BytesMut,
    /// The input buffer was made larger for one message.
    grown: bool,
}

/// One message, taken off the buffer.
#[derive(Debug)]
pub(super) struct Message {
    pub tag: u8,
    pub body: Bytes,
}

impl Transport {
    pub fn new(stream: Stream) -> Transport {
        Transport { stream, input: BytesMut::with_capacity(READ_BUFFER_BYTES), output: BytesMut::new(), grown: false }
    }

    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        binding::server_end_point(&self.stream)
    }

    pub fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    pub fn peer_addr(&self) -> Option<std::net::IpAddr> {
        self.stream.peer_addr()
    }

    /// What was read and not yet taken.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Where messages are put for the next [`Self::flush`].
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// One read. Returns the bytes it gave, at least one.
    ///
    /// # Errors
    /// Transient: the socket broke or the server closed it. A length that no message can have, as [`wire_error`].
    pub async fn fill(&mut self) -> Result<usize> {
        self.make_room()?;
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => Err(Error::transient("the server closed the connection")),
            Ok(count) => Ok(count),
            Err(error) => Err(Error::new(io_class(&error), "reading from the server").because(error)),
        }
    }

    fn make_room(&mut self) -> Result<()> {
        let length = self.input.len();
        // What is left begins with a message's header, which tells how much more has to fit.
        let whole = frame::header(&self.input).map_err(wire_error)?.map_or(0, |(_, total_bytes)| total_bytes);
        let missing = whole.saturating_sub(length);
        let room = self.input.capacity() - length;
        if room >= missing.max(1) && (room >= MIN_READ_BYTES || length >= MIN_READ_BYTES) {
            return Ok(());
        }
        let capacity = READ_BUFFER_BYTES.max(length + missing.max(MIN_READ_BYTES));
        // In place once nobody holds a part of it any more; else a new one, and the old goes with its last reader.
        if self.grown || !self.input.try_reclaim(capacity - length) {
            let mut fresh = BytesMut::with_capacity(capacity);
            fresh.extend_from_slice(&self.input);
            self.input = fresh;
        }
        self.grown = capacity > READ_BUFFER_BYTES;
        Ok(())
    }

    /// The next message, read as far as needed. Cancel-safe.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub async fn message(&mut self) -> Result<Message> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// The next message if it has been read completely.
    ///
    /// # Errors
    /// A length that no message can have.
    pub fn take(&mut self) -> Result<Option<Message>> {
        let Some(Frame { tag, total_bytes, .. }) = frame::next(&self.input).map_err(wire_error)? else {
            return Ok(None);
        };
        let mut body = self.input.split_to(total_bytes).freeze();
        body.advance(frame::HEADER_BYTES);
        Ok(Some(Message { tag, body }))
    }

    /// Sends all that is in the output buffer.
    ///
    /// # Errors
    /// Transient: the socket broke, or the server took nothing for [`WRITE_TIMEOUT`].
    pub async fn flush(&mut self) -> Result<()> {
        let send = async {
            while !self.output.is_empty() {
                self.stream.write_buf(&mut self.output).await?;
            }
            self.stream.flush().await
        };
        match timeout(WRITE_TIMEOUT, send).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::new(io_class(&error), "writing to the server").because(error)),
            Err(_) => Err(Error::transient(format!("the server took nothing for {} s", WRITE_TIMEOUT.as_secs()))),
        }
    }

    /// Ends both directions politely, as far as that goes.
    pub async fn shutdown(&mut self) {
        let _ = timeout(Duration::from_secs(1), self.stream.shutdown()).await;
    }
}

/// A torn stream can only be begun anew.
pub(super) fn wire_error(error: WireError) -> Error {
    Error::transient("the server's bytes are not Postgres' protocol").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::net::UnixStream;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn body(length: usize, seed: usize) -> Vec<u8> {
        (0..length).map(|i| (i * 31 + seed) as u8).collect()
    }

    /// Sends bodies of these lengths in pieces of these sizes and reads them back, keeping `kept` of every ten.
    async fn through(lengths: Vec<usize>, piece_bytes: usize, kept: usize) -> Transport {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut transport = Transport::new(Stream::Unix(near));
        let sent = lengths.clone();
        let writer = tokio::spawn(async move {
            for (i, length) in sent.into_iter().enumerate() {
                for piece in message(b'd', &body(length, i)).chunks(piece_bytes) {
                    far.write_all(piece).await.unwrap();
                }
            }
            far
        });
        let mut held = Vec::new();
        for (i, length) in lengths.iter().enumerate() {
            let read = transport.message().await.unwrap();
            assert_eq!((read.tag, read.body.len()), (b'd', *length));
            if i % 10 < kept {
                held.push((i, read.body));
            } else {
                assert_eq!(read.body, body(*length, i));
            }
        }
        // What was kept did not change under later reads.
        for (i, read) in held {
            assert_eq!(read, body(lengths[i], i));
        }
        drop(writer.await.unwrap());
        assert!(transport.fill().await.unwrap_err().is_transient(), "the end of the stream");
        transport
    }

    #[tokio::test]
    async fn a_large_message_grows_the_buffer_and_gives_it_back() {
        let mut transport = through(vec![10, 5_000_000, 10, 10], 1 << 20, 10).await;
        assert!(transport.input().capacity() <= READ_BUFFER_BYTES && !transport.grown);
        through(vec![READ_BUFFER_BYTES - 5, READ_BUFFER_BYTES, READ_BUFFER_BYTES - 4, 1], 1 << 20, 0).await;
    }

    #[tokio::test]
    async fn a_cancelled_read_loses_nothing() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut transport = Transport::new(Stream::Unix(near));
        let bytes = message(b'd', &body(100, 0));
        for half in bytes.chunks(60) {
            assert!(timeout(Duration::from_millis(5), transport.message()).await.is_err());
            far.write_all(half).await.unwrap();
        }
        assert_eq!(transport.message().await.unwrap().body, body(100, 0));
    }

    #[tokio::test]
    async fn a_lying_length_ends_it() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut transport = Transport::new(Stream::Unix(near));
        far.write_all(&[b'd', 0xff, 0xff, 0xff, 0xff]).await.unwrap();
        let error = transport.message().await.unwrap_err();
        assert!(error.is_transient() && format!("{error:?}").contains("length"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn every_byte_arrives(
            lengths in prop::collection::vec(prop_oneof![6 => 0usize..300, 2 => 0usize..70_000, 1 => 0usize..600_000], 1..60),
            piece_bytes in 1_000usize..400_000,
            kept in 0usize..=10,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(through(lengths, piece_bytes, kept));
        }
    }
}
