//! From records to bytes: one module a format.
//!
//! Invariants:
//! - An encoder knows neither source nor sink: a record in, bytes appended to a buffer.
//! - What depends on a table alone is compiled once per version of its shape and kept by the `Arc` of that version.
//! - A record is appended whole or not at all.

mod hex;
mod json;
pub mod proto;
mod versions;

pub use json::{JsonEncoder, JsonOptions};
