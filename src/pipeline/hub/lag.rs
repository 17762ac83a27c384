//! How far behind the main stream a position is, in bytes of log and in time. Pure.
//!
//! Invariants:
//! - The samples are of boundaries of the stream, in its order; between two of them nothing is known, and the answer is the
//!   larger one: a limit is met early by at most one interval, never late.
//! - Their number is bounded: when it is reached, every second one of the older half goes.

use std::collections::VecDeque;

use crate::offset::Lag;
use crate::record::Position;

/// One a second while the stream moves: three quarters of an hour in full, and days in ever larger steps. A sample is some
/// 50 bytes where positions are numbers, and shares its set where they are sets.
const SAMPLES_MAX: usize = 4096;

pub struct Ring {
    samples: VecDeque<Sample>,
    /// Bytes of log read so far in this run of the process.
    read_bytes: u64,
    /// The last reading of the byte position.
    last_reading: Option<u64>,
}

struct Sample {
    position: Position,
    /// Bytes that had been read by then.
    read_bytes: u64,
    unix_ms: u64,
}

impl Ring {
    pub fn new() -> Self {
        Ring { samples: VecDeque::new(), read_bytes: 0, last_reading: None }
    }

    /// The stream stands at `edge`, and has read its log up to a byte position, 0 where that is not known. Only its growth
    /// counts: where it is lower than before, it is of another server or another set of files, and growth begins anew.
    pub fn sample(&mut self, edge: &Position, reading: u64, unix_ms: u64) {
        if reading > 0 {
            self.read_bytes += self.last_reading.map_or(0, |last| reading.saturating_sub(last));
            self.last_reading = Some(reading);
        }
        if self.samples.back().is_some_and(|last| !edge.covers(&last.position)) {
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            let mut at = 0;
            self.samples.retain(|_| {
                at += 1;
                at > SAMPLES_MAX / 2 || at % 2 == 1
            });
        }
        self.samples.push_back(Sample { position: edge.clone(), read_bytes: self.read_bytes, unix_ms });
    }

    /// What the stream has read behind a position, and since when. `stored`: what was known of it when the process started.
    pub fn lag(&self, position: &Position, stored: Lag) -> Lag {
        let passed = self.samples.partition_point(|sample| !sample.position.covers(position));
        let Some(first_behind) = self.samples.get(passed) else { return Lag::default() };
        match passed.checked_sub(1).and_then(|at| self.samples.get(at)) {
            Some(before) => Lag { bytes: self.read_bytes - before.read_bytes, since_unix_ms: first_behind.unix_ms },
            // From before this run.
            None => Lag {
                bytes: stored.bytes + self.read_bytes,
                since_unix_ms: if stored.since_unix_ms > 0 { stored.since_unix_ms } else { first_behind.unix_ms },
            },
        }
    }

    /// Where the stream stood at the latest by then; its first sample where there is none that old.
    pub fn position_at(&self, unix_ms: u64) -> Option<&Position> {
        let after = self.samples.partition_point(|sample| sample.unix_ms <= unix_ms);
        self.samples.get(after.saturating_sub(1)).map(|sample| &sample.position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::Lsn;

    fn at(lsn: u64) -> Position {
        Position::Postgres(Lsn(lsn))
    }

    #[test]
    fn what_is_up_to_date_has_no_lag() {
        let mut ring = Ring::new();
        assert_eq!(ring.lag(&at(5), Lag { bytes: 7, since_unix_ms: 9 }), Lag::default(), "nothing was read");
        ring.sample(&at(100), 1000, 1);
        ring.sample(&at(110), 1500, 2);
        assert_eq!(ring.lag(&at(110), Lag::default()), Lag::default());
        assert_eq!(ring.lag(&at(100), Lag::default()), Lag { bytes: 500, since_unix_ms: 2 });
        assert_eq!(ring.lag(&at(105), Lag::default()), Lag { bytes: 500, since_unix_ms: 2 }, "rather too much");
        let before = Lag { bytes: 70, since_unix_ms: 0 };
        assert_eq!(ring.lag(&at(50), before), Lag { bytes: 570, since_unix_ms: 1 });
        assert_eq!(ring.lag(&at(50), Lag { since_unix_ms: 1, ..before }).since_unix_ms, 1);
    }

    #[test]
    fn only_what_was_read_counts() {
        let of = |readings: &[u64]| {
            let mut ring = Ring::new();
            for (lsn, reading) in (1..).zip(readings) {
                ring.sample(&at(lsn), *reading, lsn);
            }
            ring.lag(&at(1), Lag::default()).bytes
        };
        assert_eq!(of(&[0, 1 << 40, (1 << 40) + 5]), 5, "where reading begins nothing was read");
        assert_eq!(of(&[900, 1000, 0, 0, 1070]), 170, "a connection that is made again");
        assert_eq!(of(&[900, 1000, 50, 70]), 120, "a server that is behind the one before");
    }

    proptest! {
        /// Against all samples: never less than the truth, and no more than the steps between samples allow.
        #[test]
        fn agrees_with_every_sample(steps in proptest::collection::vec((0u64..4, 1u64..50), 1..9000), asked in 0u64..20_000) {
            let (mut ring, mut all, mut lsn, mut bytes) = (Ring::new(), vec![], 1, 0);
            for (second, (forward, more)) in steps.into_iter().enumerate() {
                (lsn, bytes) = (lsn + forward, bytes + more);
                ring.sample(&at(lsn), bytes, second as u64);
                all.push((lsn, bytes, second as u64));
            }
            prop_assert!(ring.samples.len() <= SAMPLES_MAX);
            let lag = ring.lag(&at(asked), Lag::default());
            let read = bytes - all[0].1;
            match all.iter().position(|(lsn, ..)| *lsn > asked) {
                None => prop_assert_eq!(lag, Lag::default()),
                Some(first) => {
                    let truth = if first == 0 { read } else { bytes - all[first].1 };
                    prop_assert!(lag.bytes >= truth && lag.bytes <= read);
                    prop_assert!(lag.since_unix_ms >= all[first].2);
                }
            }
        }
    }
}
