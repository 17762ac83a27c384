//! When a stream rests, so that the socket fills.

use std::time::Duration;

use tokio::time::Instant;

/// A server's sender wakes its reader for every row or commit. Where there are many, we let the socket fill for a moment
/// instead, which saves both sides a switch each: 1 ms of the fastest sender seen is half a read buffer.
pub const REST: Duration = Duration::from_millis(1);
/// In a transaction of this size nobody waits for its single rows.
const LARGE_TRANSACTION_BYTES: usize = 256 * 1024;
/// In one [`REST`]: from 20,000 changes a second on; below, every transaction is delivered at once.
const BUSY_EVENTS: u64 = 20;

/// Whether the sender is fast enough for rests to pay.
pub struct Pace {
    since: Instant,
    /// Changes seen by then.
    events: u64,
    busy: bool,
}

impl Pace {
    pub fn new() -> Self {
        Pace { since: Instant::now(), events: 0, busy: false }
    }

    /// `open_bytes`: of the transaction that is open, 0 where none is; `events`: all changes so far.
    pub fn is_busy(&mut self, open_bytes: usize, events: u64) -> bool {
        if open_bytes >= LARGE_TRANSACTION_BYTES {
            return true;
        }
        let elapsed = self.since.elapsed();
        if elapsed >= REST {
            let more = events - self.events;
            self.busy = u128::from(more) * REST.as_micros() >= u128::from(BUSY_EVENTS) * elapsed.as_micros();
            (self.since, self.events) = (Instant::now(), events);
        }
        self.busy
    }
}
