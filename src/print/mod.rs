//! What decoders and formats print alike: whole numbers, and text in JSON's quotes, appended to bytes.
//!
//! Invariants:
//! - What is short is written in pieces of a fixed size, longer than it is, and cut to its length: a copy whose length the
//!   compiler knows is a few instructions, any other is a call.
//! - What does not print (text that is not UTF-8) leaves the bytes as they were.

mod digits;
mod quoted;

pub use digits::{padded, signed, unsigned};
pub use quoted::{quoted, quoted_bytes};

/// `N` more bytes at the end of `out`, of any content: to be written to, and cut to what was written.
#[inline]
fn room<const N: usize>(out: &mut Vec<u8>) -> &mut [u8; N] {
    out.extend_from_slice(&[0; N]);
    out.last_chunk_mut().expect("it was just made longer by N")
}
