//! From cells to values, one function a type: cells of a rows event (their payload, without a length in front), and where
//! those differ, in [`protocol`], of a row of the binary protocol.
//!
//! Invariants:
//! - Both forms of a row give equal values, those that `SELECT` shows: FLOAT and DOUBLE by their stored bits, characters in
//!   UTF-8, JSON as the server prints it.
//! - A value is exact or an error; a length that does not fit the type is an error.
//! - What is no date of a calendar (zero dates, `2024-00-00`, `2024-02-31`, the year 0) is text as the server prints it.
//! - Nothing is allocated for integers, floats, dates, and texts and bytes as they stand; other values are written to the
//!   form's scratch.
//! - [`Form::layout`] is, by function: `decimal` precision << 8 | scale; `time2`, `datetime2`, `timestamp2`, `old_time`,
//!   `old_datetime`, `old_timestamp` and those of [`protocol`] of the same types the digits of a fraction; `text`, `label`,
//!   `json_text`, `compressed_text` a [`Charset`]; `binary` the bytes of a value. Elsewhere it is not looked at.

pub mod charset;
mod compressed;
mod decimal;
pub mod json;
mod network;
mod number;
mod old_temporal;
pub mod protocol;
mod temporal;
mod text;
mod vector;

pub use charset::Charset;
pub use compressed::{compressed_bytes, compressed_text};
pub use decimal::{decimal, decimal_bytes};
pub use json::json;
pub use network::{inet4, inet6, uuid};
pub use number::{bit, double, float, int8, int16, int24, int32, int64, uint8, uint16, uint24, uint32, uint64, year};
pub use old_temporal::{
    date4, old_datetime, old_datetime_bytes, old_time, old_time_bytes, old_timestamp, old_timestamp_bytes,
};
pub use temporal::{date, datetime2, time2, timestamp2};
pub use text::{binary, bytes, enumeration, json_text, label, set, text, utf8};
pub use vector::{vector, vector_type};

#[cfg(test)]
mod tests;
