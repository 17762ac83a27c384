//! Where a range is parted.
//!
//! Between integers and between binary strings the middle is reckoned, and moved until the server's own estimates (a look at
//! two places of the index) call both parts similar: gaps of any size cost a few questions, not chunks. For other keys the
//! server walks over half of the rows it estimates: it does not send them, and does this only when a worker has nothing else
//! to do.

use super::super::ask::{number, text};
use super::key::{self, Key, Range};
use super::reader::Reader;
use super::table::{Job, Order};
use crate::error::Result;

/// A range of fewer chunks is not worth parting.
const MIN_CHUNKS: u64 = 2;

/// Both parts are to have at least this part of the rows.
const FAIR_SHARE: u64 = 4;

/// Halving 64 bits so often ends at one value.
const MAX_HALVINGS: u32 = 64;

/// The key behind which the second part begins; none where the range is read sooner than parted.
pub async fn middle(reader: &mut Reader, job: &Job, range: &Range) -> Result<Option<Key>> {
    let (Some(plan), Some(chunk_rows)) = (&job.key, job.chunk_rows()) else { return Ok(None) };
    let rows = estimate(reader, job, range).await?;
    if rows < MIN_CHUNKS * chunk_rows {
        return Ok(None);
    }
    let low = reader.key(job, plan, &job.key_sql(range, Order::Forward, 0)).await?;
    let high = reader.key(job, plan, &job.key_sql(range, Order::Backward, 0)).await?;
    let (Some(mut low), Some(mut high)) = (low, high) else { return Ok(None) };
    let mut found = None;
    for _ in 0..MAX_HALVINGS {
        let Some(middle) = key::between(&low, &high) else { break };
        let behind = Range { after: Some(middle.clone()), upto: range.upto.clone() };
        let behind_rows = estimate(reader, job, &behind).await?;
        if behind_rows < rows / FAIR_SHARE {
            high = middle.clone();
        } else if behind_rows > rows - rows / FAIR_SHARE {
            low = middle.clone();
        } else {
            return Ok(Some(middle));
        }
        found = Some(middle);
    }
    if found.is_some() {
        return Ok(found);
    }
    // An estimate may be several times too large.
    for skipped in [rows / 2, rows / 8] {
        let middle = reader.key(job, plan, &job.key_sql(range, Order::Forward, skipped)).await?;
        if middle.is_some() {
            return Ok(middle);
        }
    }
    Ok(None)
}

/// About how many rows a range has, as the server thinks.
async fn estimate(reader: &mut Reader, job: &Job, range: &Range) -> Result<u64> {
    let answer = reader.estimate(job, range).await?;
    // … key, key_len, ref, rows, [filtered,] Extra: MySQL has twelve columns, MariaDB ten.
    let Some(row) = answer.first() else { return Ok(0) };
    let rows = if row.len() >= 12 { 9 } else { 8 };
    Ok(if text(row, rows).is_empty() { 0 } else { number(row, rows).unwrap_or(0) })
}
