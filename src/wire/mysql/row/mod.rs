//! Rows of rows events: where each value stands, found without decoding any.
//!
//! Invariants:
//! - A [`RowPlan`] is compiled once per TABLE_MAP; finding a value takes one load and two additions, whatever its type.
//! - A scan either adds exactly `outputs` cells for each image, or it is an error and adds nothing.
//! - A cell is the value's own bytes, without the length before them.
//! - Whatever the bytes are, no cell reaches beyond its event.

mod plan;
mod scan;

pub use plan::RowPlan;
pub use scan::RowScan;

#[cfg(test)]
mod tests;
