//! A socket and its two buffers: packets found in place in a stream of bytes.
//!
//! Invariants:
//! - Everything that reads is cancel-safe: it appends what one read gives, or nothing, and goes on from there.
//! - The read buffer holds [`READ_BUFFER_BYTES`] and never grows. What does not fit is long: it is joined into a buffer of
//!   its own ([`Transport::whole`]), read from the socket without another copy, or handed on in parts as it comes
//!   ([`Transport::part`]).
//! - Offsets of scanned packets count from the beginning of the frame that [`Transport::take_frame`] gives next.
//! - A write that the server does not take within [`WRITE_TIMEOUT`] is an error, never a standstill.

use std::ops::Range;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::source::socket::io_class;
use crate::source::tls::Stream;
use crate::wire::WireError;
use crate::wire::mysql::protocol::packet::{self, HEADER_BYTES, MAX_JOINED_BYTES};

/// One read: 256 KiB take what a fast server has sent since the last one (200 MB/s for a millisecond) and stay within a
/// core's second-level cache.
pub const READ_BUFFER_BYTES: usize = 256 << 10;

/// Below this much room a short rest is moved rather than read behind: a quarter of the buffer, so that at most one byte
/// in three is moved, and no read is small for want of room.
const MIN_READ_BYTES: usize = READ_BUFFER_BYTES / 4;

/// A packet of more than that does not fit into the read buffer.
const LONG_PAYLOAD_BYTES: usize = READ_BUFFER_BYTES - HEADER_BYTES;

/// So much of a long packet is there when it is announced: three bytes that may stand before an event (OK, semi-sync) and
/// an event's header of 19, rounded up.
const LONG_HEAD_BYTES: usize = 32;

/// A long payload is given room by and by: a server must send before memory is taken, and doubling copies each byte once.
const FIRST_LONG_ROOM_BYTES: usize = 1 << 20;

/// All we send but the largest GTID sets is smaller than a socket's send buffer (16 KiB at the least); a server that takes
/// no byte for so long is gone, or does not read while it waits for us, which the protocol does not do.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Transport {
    stream: Stream,
    input: BytesMut,
    /// What of `input` has been scanned and not yet taken.
    scanned: usize,
    output: BytesMut,
    /// The number that the next packet must have; None within a dump, where acknowledgements count their own way.
    sequence: Option<u8>,
    long: Option<Long>,
    /// All that was ever read.
    received_bytes: u64,
}

/// A payload that is taken in parts or joined.
struct Long {
    /// Of the packet at hand.
    left_bytes: usize,
    continues: bool,
    joined: BytesMut,
}

/// What a look at the buffer found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    /// A whole payload, at this place of [`Transport::input`].
    Payload(Range<usize>),
    /// Nothing complete is left.
    Dry,
    /// A payload too large for the buffer begins behind what was scanned: at this place is what there is of it.
    Long(Range<usize>),
}

impl Transport {
    pub fn new(stream: Stream, sequence: u8) -> Transport {
        Transport {
            stream,
            input: BytesMut::with_capacity(READ_BUFFER_BYTES),
            scanned: 0,
            output: BytesMut::new(),
            sequence: Some(sequence),
            long: None,
            received_bytes: 0,
        }
    }

    /// The socket back, for TLS to be put on it, and the number of the next packet.
    ///
    /// # Errors
    /// Transient: the server has said more than it was asked. Bytes before the encryption may be anybody's.
    pub fn into_stream(self) -> Result<(Stream, u8)> {
        if self.input.len() > self.scanned {
            return Err(Error::transient("the server speaks before TLS begins"));
        }
        Ok((self.stream, self.sequence.unwrap_or_default()))
    }

    pub fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    pub fn is_unix(&self) -> bool {
        matches!(self.stream, Stream::Unix(_))
    }

    pub fn peer_addr(&self) -> Option<std::net::IpAddr> {
        self.stream.peer_addr()
    }

    /// What was read and not yet taken.
    #[inline]
    pub fn input(&self) -> &[u8] {
        &self.input
    }

    /// Bytes read so far.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// From now on packets count as they like.
    pub fn ignore_sequence(&mut self) {
        self.sequence = None;
    }

    /// Looks at what stands behind the packets scanned so far.
    ///
    /// # Errors
    /// Transient: a packet out of order.
    #[inline]
    pub fn scan(&mut self) -> Result<Scanned> {
        let rest = &self.input[self.scanned..];
        let Some(header) = packet::header(rest) else { return Ok(Scanned::Dry) };
        let start = self.scanned + HEADER_BYTES;
        if header.payload_bytes > LONG_PAYLOAD_BYTES {
            if rest.len() < HEADER_BYTES + LONG_HEAD_BYTES {
                return Ok(Scanned::Dry);
            }
            return Ok(Scanned::Long(start..self.input.len().min(start + header.payload_bytes)));
        }
        if rest.len() < header.total_bytes() {
            return Ok(Scanned::Dry);
        }
        self.follow(header.sequence)?;
        self.scanned = start + header.payload_bytes;
        Ok(Scanned::Payload(start..self.scanned))
    }

    #[inline]
    fn follow(&mut self, found: u8) -> Result<()> {
        if let Some(wanted) = &mut self.sequence {
            if found != *wanted {
                return Err(wire_error(WireError::new("packet", "it is out of order", 3).found(found)));
            }
            *wanted = found.wrapping_add(1);
        }
        Ok(())
    }

    /// All packets scanned since the last time, their headers included.
    #[inline]
    pub fn take_frame(&mut self) -> Bytes {
        self.input.split_to(std::mem::take(&mut self.scanned)).freeze()
    }

    /// One read. What was scanned must have been taken. Returns the bytes it gave, at least one.
    ///
    /// # Errors
    /// Transient: the socket broke or the server closed it.
    pub async fn fill(&mut self) -> Result<usize> {
        if self.scanned > 0 {
            return Err(Error::bug("a frame was not taken before the next read"));
        }
        self.make_room();
        let read = count(self.stream.read_buf(&mut self.input).await)?;
        self.received_bytes += read as u64;
        Ok(read)
    }

    fn make_room(&mut self) {
        let length = self.input.len();
        if self.input.capacity() - length >= MIN_READ_BYTES {
            return;
        }
        // In place once nobody holds a part of it any more; else a new one, and the old goes with its last reader.
        if !self.input.try_reclaim(READ_BUFFER_BYTES - length) {
            let mut fresh = BytesMut::with_capacity(READ_BUFFER_BYTES);
            fresh.extend_from_slice(&self.input);
            self.input = fresh;
        }
    }

    /// The next payload, joined where it came in several packets.
    ///
    /// # Errors
    /// As [`Self::fill`]; Data for one above the protocol's own limit.
    pub async fn payload(&mut self) -> Result<Bytes> {
        loop {
            if self.long.is_some() {
                return self.whole(0, 0).await;
            }
            match self.scan()? {
                Scanned::Payload(at) => return Ok(self.take_frame().slice(at)),
                Scanned::Long(_) => return self.whole(0, 0).await,
                Scanned::Dry => self.fill().await,
            }?;
        }
    }

    /// Joins the long payload that was announced, without its first `skipped` bytes. `expected_bytes` is how long it says
    /// to be, 0 for unknown; more or less may come. Asked again after it was cancelled, it goes on.
    ///
    /// # Errors
    /// As [`Self::payload`].
    pub async fn whole(&mut self, skipped: usize, expected_bytes: usize) -> Result<Bytes> {
        self.begin_long(skipped)?;
        loop {
            let Some(long) = &mut self.long else { return Err(Error::bug("no long packet was begun")) };
            if long.left_bytes > 0 {
                if long.joined.len() + long.left_bytes > MAX_JOINED_BYTES {
                    return Err(Error::data("a packet of more than 1 GiB + 1 MiB"));
                }
                if !self.input.is_empty() {
                    let part = self.input.split_to(self.input.len().min(long.left_bytes));
                    make_long_room(&mut long.joined, part.len(), expected_bytes);
                    long.joined.extend_from_slice(&part);
                    long.left_bytes -= part.len();
                } else {
                    make_long_room(&mut long.joined, 1, expected_bytes);
                    let read = (&mut self.stream).take(long.left_bytes as u64).read_buf(&mut long.joined).await;
                    let read = count(read)?;
                    long.left_bytes -= read;
                    self.received_bytes += read as u64;
                }
            } else if !self.next_of_long().await? {
                let long = self.long.take();
                return Ok(long.map(|long| long.joined.freeze()).unwrap_or_default());
            }
        }
    }

    /// The next part of the long payload that was announced, without its first `skipped` bytes; None behind the last.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub async fn part(&mut self, skipped: usize) -> Result<Option<Bytes>> {
        self.begin_long(skipped)?;
        loop {
            let Some(long) = &mut self.long else { return Ok(None) };
            if long.left_bytes > 0 {
                if self.input.is_empty() {
                    self.fill().await?;
                    continue;
                }
                let part = self.input.split_to(self.input.len().min(long.left_bytes));
                long.left_bytes -= part.len();
                return Ok(Some(part.freeze()));
            }
            if !self.next_of_long().await? {
                self.long = None;
                return Ok(None);
            }
        }
    }

    /// Whether a long payload has been begun and not ended.
    pub fn in_long(&self) -> bool {
        self.long.is_some()
    }

    /// Takes the header off; what was scanned before must have been taken.
    fn begin_long(&mut self, skipped: usize) -> Result<()> {
        if self.long.is_some() {
            return Ok(());
        }
        let header = packet::header(&self.input).filter(|header| header.payload_bytes > LONG_PAYLOAD_BYTES);
        let Some(header) = header.filter(|_| self.scanned == 0 && skipped <= LONG_HEAD_BYTES) else {
            return Err(Error::bug("a frame was not taken before a long packet, or there is none"));
        };
        self.follow(header.sequence)?;
        self.input.advance(HEADER_BYTES + skipped);
        self.long = Some(Long {
            left_bytes: header.payload_bytes - skipped,
            continues: header.continues(),
            joined: BytesMut::new(),
        });
        Ok(())
    }

    /// Whether the long payload goes on in a further packet, whose header is taken off. Cancelled while it waits for the
    /// header, it has done nothing.
    async fn next_of_long(&mut self) -> Result<bool> {
        if !self.long.as_ref().is_some_and(|long| long.continues) {
            return Ok(false);
        }
        let header = loop {
            match packet::header(&self.input) {
                Some(header) => break header,
                None => self.fill().await?,
            };
        };
        self.follow(header.sequence)?;
        self.input.advance(HEADER_BYTES);
        if let Some(long) = &mut self.long {
            (long.left_bytes, long.continues) = (header.payload_bytes, header.continues());
        }
        Ok(true)
    }

    /// Sends a command, in the packets it needs.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub async fn command(&mut self, payload: &[u8]) -> Result<()> {
        let next = packet::write(payload, 0, &mut self.output);
        self.sequence = Some(next);
        self.flush().await
    }

    /// Sends an answer within an exchange.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub async fn answer(&mut self, payload: &[u8]) -> Result<()> {
        let next = packet::write(payload, self.sequence.unwrap_or_default(), &mut self.output);
        self.sequence = Some(next);
        self.flush().await
    }

    /// Sends a packet that is in no order with what the server sends.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub async fn aside(&mut self, payload: &[u8]) -> Result<()> {
        packet::write(payload, 0, &mut self.output);
        self.flush().await
    }

    /// Sends all that is in the output buffer; what a cancelled one left unsent goes out first with the next.
    ///
    /// # Errors
    /// Transient: the socket broke, or the server took nothing for [`WRITE_TIMEOUT`].
    async fn flush(&mut self) -> Result<()> {
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

fn count(read: std::io::Result<usize>) -> Result<usize> {
    match read {
        Ok(0) => Err(Error::transient("the server closed the connection")),
        Ok(count) => Ok(count),
        Err(error) => Err(Error::new(io_class(&error), "reading from the server").because(error)),
    }
}

/// Room for `needed_bytes` more, and at once for all that is expected once the first part of it has come.
fn make_long_room(joined: &mut BytesMut, needed_bytes: usize, expected_bytes: usize) {
    if joined.capacity() - joined.len() >= needed_bytes {
        return;
    }
    let wanted = match joined.len() {
        0 => FIRST_LONG_ROOM_BYTES,
        length if expected_bytes > length && expected_bytes <= MAX_JOINED_BYTES => expected_bytes - length,
        length => length,
    };
    joined.reserve(wanted.max(needed_bytes));
}

/// A torn stream can only be begun anew.
pub(super) fn wire_error(error: WireError) -> Error {
    Error::transient("the server's bytes are not MySQL's protocol").because(error)
}

#[cfg(test)]
#[path = "transport/tests.rs"]
mod tests;
