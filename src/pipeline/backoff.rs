//! How long to wait before the next attempt.

use std::time::Duration;

/// Doubling delays with jitter, so that many sidecars do not come back at the same moment.
pub struct Backoff {
    next_ms: u64,
}

/// Short enough that a restarted peer is met quickly.
const FIRST_MS: u64 = 100;
/// Long enough to be no load, short enough that an operator who mended something sees it work.
const LONGEST_MS: u64 = 10_000;

impl Default for Backoff {
    fn default() -> Self {
        Backoff { next_ms: FIRST_MS }
    }
}

impl Backoff {
    /// Between half and all of the current delay, which then doubles.
    pub fn next(&mut self) -> Duration {
        let delay_ms = rand::random_range(self.next_ms / 2..=self.next_ms);
        self.next_ms = (self.next_ms * 2).min(LONGEST_MS);
        Duration::from_millis(delay_ms)
    }

    pub fn reset(&mut self) {
        *self = Backoff::default();
    }
}
