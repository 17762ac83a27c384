//! Counts of values by size, cheap enough for every transaction.
//!
//! Invariants:
//! - Bounds are fixed and rise; a value is counted in the first bucket whose bound it does not exceed, the last bucket has
//!   none. Whoever adds them up may see a value in its bucket and not yet in the sum.
//! - The sum stays at its most once it is there: a commit whose time is 0 is 1.8e15 microseconds old, and a batch of ten
//!   thousand of them is as much as 64 bits hold.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// From what one hop within a machine takes to what nobody waits for: 0.5 ms to 6 h.
pub const LATENCY_BOUNDS_MICROS: &[u64] = &[
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
    21_600_000_000,
];

/// From one small transaction to what fills disks: 1 KiB to 64 GiB, by fours.
pub const LAG_BOUNDS_BYTES: &[u64] = &[
    1 << 10,
    1 << 12,
    1 << 14,
    1 << 16,
    1 << 18,
    1 << 20,
    1 << 22,
    1 << 24,
    1 << 26,
    1 << 28,
    1 << 30,
    1 << 32,
    1 << 34,
    1 << 36,
];

#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One more than there are bounds.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub fn new(bounds: &'static [u64]) -> Self {
        debug_assert!(bounds.is_sorted());
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, buckets, sum: AtomicU64::new(0) }
    }

    pub fn observe(&self, value: u64) {
        self.observe_many(value, 1, value);
    }

    /// So many values of about this size, which are `sum` together.
    pub fn observe_many(&self, value: u64, times: u64, sum: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(times, Relaxed);
        // Always stored, so never an error.
        let _ = self.sum.fetch_update(Relaxed, Relaxed, |before| Some(before.saturating_add(sum)));
    }

    /// Each bound with how many values its bucket holds; none for the bucket without a bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        bounds.zip(self.buckets.iter().map(|bucket| bucket.load(Relaxed)))
    }

    pub fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_in_its_own_bucket() {
        let histogram = Histogram::new(&[10, 20]);
        [0, 10, 11, 20, 21, 1000].into_iter().for_each(|value| histogram.observe(value));
        let buckets: Vec<_> = histogram.buckets().collect();
        assert_eq!((buckets, histogram.sum()), (vec![(Some(10), 2), (Some(20), 2), (None, 2)], 1062));
        histogram.observe_many(15, 3, 45);
        assert_eq!((histogram.buckets().nth(1), histogram.sum()), (Some((Some(20), 5)), 1107));
    }

    #[test]
    fn the_sum_stays_at_its_most() {
        let histogram = Histogram::new(&[10, 20]);
        histogram.observe(7);
        histogram.observe(u64::MAX - 3);
        histogram.observe(1);
        assert_eq!(histogram.sum(), u64::MAX);
        assert_eq!(histogram.buckets().map(|(_, count)| count).collect::<Vec<_>>(), [2, 0, 1]);
    }
}
