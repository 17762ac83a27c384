//! A TRANSACTION_PAYLOAD event taken apart as it arrives: never held whole, neither packed nor unpacked.
//!
//! Invariants:
//! - What is unpacked and not yet taken is at most [`UNPACKED_BYTES`], or one event that is larger.
//! - The checksum of the whole event is verified at its end, and [`PayloadReader::feed`] says [`Fed::End`] only then: the
//!   transaction's commit waits for it.
//! - A frame that does not end with the event is an error.

use bytes::{Buf, Bytes, BytesMut};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use crate::error::{Context, Result};
use crate::wire::WireError;
use crate::wire::mysql::event::{Checksum, Header, PayloadCompression, PayloadHeader};

/// As the read buffer: a batch's worth of events.
const UNPACKED_BYTES: usize = 256 * 1024;
/// The least room that is worth a call.
const LEAST_ROOM_BYTES: usize = 16 * 1024;
/// The greatest window a frame may ask for: 2^27 bytes is what the highest of the server's levels (22) needs; its default
/// (3) needs 2 MiB.
const WINDOW_LOG_MAX: u32 = 27;
/// A checksum is CRC-32, four bytes.
const CHECKSUM_BYTES: usize = 4;

/// How far [`PayloadReader::feed`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// There is no room: take events first.
    Full,
    /// More bytes of the event are wanted.
    Hungry,
    /// The event has ended, and its checksum is right. [`PayloadReader::unpacked`] has the last of it.
    End,
}

pub struct PayloadReader {
    pub header: Header,
    /// Of the event, checksum included, not yet fed.
    left_bytes: usize,
    /// None where events have none.
    hasher: Option<crc32fast::Hasher>,
    checksum: [u8; CHECKSUM_BYTES],
    /// The event's first bytes, until its head is read.
    prefix: Vec<u8>,
    body: Option<Body>,
    unpacked: BytesMut,
    ended: bool,
}

enum Body {
    Plain,
    Zstd { decoder: Decoder<'static>, frame_ended: bool },
}

impl PayloadReader {
    /// For the event that has this header, which is fed too.
    pub fn new(header: Header, checksum: Checksum) -> PayloadReader {
        PayloadReader {
            header,
            left_bytes: header.size_bytes as usize,
            // Before a FORMAT_DESCRIPTION, which tells of checksums, there is no transaction.
            hasher: (checksum == Checksum::Crc32).then(crc32fast::Hasher::new),
            checksum: [0; CHECKSUM_BYTES],
            prefix: Vec::new(),
            body: None,
            unpacked: BytesMut::with_capacity(UNPACKED_BYTES),
            ended: false,
        }
    }

    /// The unpacked events, from the beginning of one on.
    pub fn unpacked(&mut self) -> &mut BytesMut {
        &mut self.unpacked
    }

    /// Unpacks a part of the event, as far as there is room; what was used is taken off it.
    ///
    /// # Errors
    /// Data: the event, its frame or its checksum is not what it should be.
    pub fn feed(&mut self, part: &mut Bytes) -> Result<Fed> {
        self.take(part).data(|| "unpacking a compressed transaction".to_owned())
    }

    fn take(&mut self, part: &mut Bytes) -> Result<Fed, WireError> {
        let tail = if self.hasher.is_some() { CHECKSUM_BYTES } else { 0 };
        while !self.ended {
            if self.left_bytes <= tail && !self.flush()? {
                return Ok(Fed::Full);
            }
            if self.left_bytes == 0 {
                self.end()?;
                break;
            }
            if part.is_empty() {
                return Ok(Fed::Hungry);
            }
            if self.left_bytes <= tail {
                // The checksum's bytes, in however many pieces.
                self.checksum[CHECKSUM_BYTES - self.left_bytes] = part[0];
                self.took(part, 1);
                continue;
            }
            let content = &part[..part.len().min(self.left_bytes - tail)];
            let taken = match &mut self.body {
                None => {
                    let before = self.prefix.len();
                    self.prefix.extend_from_slice(content);
                    match PayloadHeader::parse_prefix(&self.prefix)? {
                        None => content.len(),
                        Some(head) => {
                            let rest = self.header.size_bytes as u64 - tail as u64;
                            if head.payload_at as u64 + head.payload_bytes != rest {
                                return Err(wrong("another size of the payload than its head says"));
                            }
                            self.body = Some(match head.compression {
                                PayloadCompression::None => Body::Plain,
                                PayloadCompression::Zstd => Body::Zstd { decoder: decoder()?, frame_ended: false },
                            });
                            head.payload_at - before
                        }
                    }
                }
                Some(_) if is_full(&self.unpacked)? => return Ok(Fed::Full),
                Some(body) => unpack(body, content, &mut self.unpacked)?,
            };
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&part[..taken]);
            }
            self.took(part, taken);
        }
        match part.is_empty() {
            true => Ok(Fed::End),
            false => Err(wrong("bytes behind its end")),
        }
    }

    fn took(&mut self, part: &mut Bytes, bytes: usize) {
        part.advance(bytes);
        self.left_bytes -= bytes;
    }

    /// All of the payload is here; the decoder may still hold what there was no room for. False: there is none now.
    fn flush(&mut self) -> Result<bool, WireError> {
        let Some(body) = &mut self.body else { return Err(wrong("no payload")) };
        while matches!(body, Body::Zstd { frame_ended: false, .. }) {
            if is_full(&self.unpacked)? {
                return Ok(false);
            }
            let before = self.unpacked.len();
            unpack(body, &[], &mut self.unpacked)?;
            if self.unpacked.len() == before && matches!(body, Body::Zstd { frame_ended: false, .. }) {
                return Err(wrong("a frame that does not end"));
            }
        }
        Ok(true)
    }

    fn end(&mut self) -> Result<(), WireError> {
        if let Some(hasher) = self.hasher.take()
            && hasher.finalize() != u32::from_le_bytes(self.checksum)
        {
            return Err(wrong("the checksum does not match: the event was damaged"));
        }
        self.ended = true;
        Ok(())
    }
}

fn wrong(problem: &'static str) -> WireError {
    WireError::new("TRANSACTION_PAYLOAD", problem, 0)
}

fn decoder() -> Result<Decoder<'static>, WireError> {
    let mut decoder = Decoder::new().map_err(|_| wrong("no decoder for it can be made"))?;
    decoder
        .set_parameter(zstd::zstd_safe::DParameter::WindowLogMax(WINDOW_LOG_MAX))
        .map_err(|_| wrong("no decoder for it can be made"))?;
    Ok(decoder)
}

/// Appends to `out` what a piece of the payload holds. Returns how much of it was used: all, unless there was no room.
fn unpack(body: &mut Body, input: &[u8], out: &mut BytesMut) -> Result<usize, WireError> {
    let room = match UNPACKED_BYTES.saturating_sub(out.len()) {
        room if room >= LEAST_ROOM_BYTES => room,
        // Only an event that is larger goes beyond.
        _ => UNPACKED_BYTES,
    };
    let Body::Zstd { decoder, frame_ended } = body else {
        let used = room.min(input.len());
        out.extend_from_slice(&input[..used]);
        return Ok(used);
    };
    let filled = out.len();
    // Zeros that are written over at once: a part of what unpacking costs that does not show.
    out.resize(filled + room, 0);
    let mut source = InBuffer::around(input);
    let mut target = OutBuffer::around(&mut out[filled..]);
    let hint = decoder.run(&mut source, &mut target).map_err(|_| wrong("a frame that is damaged"))?;
    let (used, written) = (source.pos(), target.pos());
    out.truncate(filled + written);
    *frame_ended = hint == 0;
    Ok(used)
}

/// Whether events are to be taken before more is unpacked.
fn is_full(unpacked: &[u8]) -> Result<bool, WireError> {
    if unpacked.len() + LEAST_ROOM_BYTES <= UNPACKED_BYTES {
        return Ok(false);
    }
    // What is no event has no end to unpack up to, and a small damaged payload may hold gigabytes of it.
    Ok(unpacked.len() >= Header::parse(unpacked)?.size_bytes as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mysql::event::{EventType, HEADER_BYTES};

    fn event(kind: EventType, body: &[u8]) -> Vec<u8> {
        let size = (HEADER_BYTES + body.len()) as u32;
        [&[1, 0, 0, 0, kind.0, 1, 0, 0, 0][..], &size.to_le_bytes(), &[0; 6], body].concat()
    }

    fn packed(number: u64) -> Vec<u8> {
        [&[254][..], &number.to_le_bytes()].concat()
    }

    /// A payload event with its checksum.
    fn payload(events: &[u8], compression: Option<i32>) -> Vec<u8> {
        let bytes = match compression {
            Some(level) => zstd::encode_all(events, level).unwrap(),
            None => events.to_vec(),
        };
        let kind = if compression.is_some() { 0 } else { 255 };
        let kind = if kind == 255 { vec![252, 255, 0] } else { vec![kind] };
        let mut body = vec![1, 9];
        body.extend(packed(bytes.len() as u64));
        body.extend([2, kind.len() as u8]);
        body.extend(kind);
        body.extend([3, 9]);
        body.extend(packed(events.len() as u64));
        body.push(0);
        body.extend(&bytes);
        body.extend([0; 4]);
        let mut event = event(EventType::TRANSACTION_PAYLOAD, &body);
        let end = event.len() - 4;
        let sum = crc32fast::hash(&event[..end]);
        event[end..].copy_from_slice(&sum.to_le_bytes());
        event
    }

    /// Everything that comes out, fed in pieces of this size; events are taken whenever it is full.
    fn unpack_all(event: &[u8], piece: usize) -> Result<(Vec<u8>, usize)> {
        let mut reader = PayloadReader::new(Header::parse(event).unwrap(), Checksum::Crc32);
        let (mut out, mut most) = (Vec::new(), 0);
        let mut pieces = event.chunks(piece).map(Bytes::copy_from_slice);
        let mut part = Bytes::new();
        loop {
            let fed = reader.feed(&mut part)?;
            most = most.max(reader.unpacked().len());
            match fed {
                Fed::Hungry => {
                    let Some(next) = pieces.next() else { return Err(crate::error::Error::data("cut off")) };
                    part = next;
                }
                Fed::Full => {
                    let unpacked = reader.unpacked();
                    while let Ok(header) = Header::parse(unpacked)
                        && unpacked.len() >= header.size_bytes as usize
                    {
                        out.extend(unpacked.split_to(header.size_bytes as usize).iter());
                    }
                }
                Fed::End => {
                    out.extend(reader.unpacked().split().iter());
                    return Ok((out, most));
                }
            }
        }
    }

    fn events() -> Vec<u8> {
        let rows: Vec<u8> = (0..3000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
        (0..200).flat_map(|i| event(EventType::WRITE_ROWS, &rows[i..4000 + i * 40])).collect()
    }

    #[test]
    fn what_was_packed_comes_out_however_it_is_cut() {
        let events = events();
        for compression in [Some(1), Some(3), Some(19), None] {
            let event = payload(&events, compression);
            for piece in [usize::MAX, 100_000, 4096, 97, 1] {
                if piece == 1 && compression.is_none() {
                    continue;
                }
                let (out, most) = unpack_all(&event, piece.min(event.len())).unwrap();
                assert!(out == events, "{compression:?} {piece}");
                assert!(most <= UNPACKED_BYTES + LEAST_ROOM_BYTES, "{most} bytes held");
            }
        }
    }

    #[test]
    fn an_event_larger_than_the_buffer_is_held_whole() {
        let large = event(EventType::WRITE_ROWS, &vec![7; 3 * UNPACKED_BYTES]);
        let (out, _) = unpack_all(&payload(&large, Some(3)), 100).unwrap();
        assert!(out == large);
    }

    #[test]
    fn what_holds_no_events_is_not_unpacked_to_its_end() {
        assert!(unpack_all(&payload(&vec![0; 64 << 20], Some(3)), 1000).is_err());
    }

    #[test]
    fn a_damaged_one_never_ends() {
        let event = payload(&events(), Some(3));
        for at in (19..event.len()).step_by(event.len() / 97) {
            let mut wrong = event.clone();
            wrong[at] ^= 0x10;
            assert!(unpack_all(&wrong, 1000).is_err(), "{at}");
        }
        for end in [40, event.len() / 2, event.len() - 1] {
            assert!(unpack_all(&event[..end], 1000).is_err());
        }
    }
}
