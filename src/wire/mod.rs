//! Wire formats: bytes in, borrowed messages out. No IO, no clock, and never a panic on what a peer sends.

pub mod pg;
