//! Wire formats: bytes in, borrowed messages out.
//!
//! Invariants:
//! - No IO, no clock, no configuration, no allocation per message.
//! - Whatever the bytes are, the answer is a message, "not complete yet" or a [`WireError`]; nothing here panics on them.
//! - Bytes left over behind a message are an error: they mean that the grammar was misread.

pub mod mysql;
pub mod pg;

use std::fmt;

/// Bytes that the protocol does not allow at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireError {
    /// The message that was being read: `frame`, `XLogData`, `Relation`.
    pub message: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
    /// Where, in bytes from the start of the message.
    pub offset: usize,
    /// The byte that stands there, where it tells more than its place.
    pub found: Option<u8>,
}

impl WireError {
    pub fn new(message: &'static str, problem: &'static str, offset: usize) -> Self {
        WireError { message, problem, offset, found: None }
    }

    pub fn found(mut self, byte: u8) -> Self {
        self.found = Some(byte);
        self
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed {} at byte {}: {}", self.message, self.offset, self.problem)?;
        match self.found {
            Some(byte) => write!(f, ", found {:?}", char::from(byte)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for WireError {}
