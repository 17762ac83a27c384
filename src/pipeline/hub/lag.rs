//! How far behind the main stream a position is, in bytes of log and in time. Pure.
//!
//! Invariants:
//! - Bytes are those between two places on the source's scale: exact, whenever anybody began to look. Only of a position whose
//!   place is not known (of another server's log) they are those behind the last sample before it.
//! - The samples are of boundaries of the stream, in its order; between two of them nothing is known of the time, and the
//!   answer is the longer one: a limit is met early by at most one interval, never late.
//! - Their number is bounded: when it is reached, every second one of the older half goes.

use std::collections::VecDeque;

use crate::offset::Lag;
use crate::record::Position;

/// Four a second while the stream moves: a quarter of an hour in full, and days in ever larger steps. A sample is some
/// 60 bytes where positions are numbers, and shares its set where they are sets.
const SAMPLES_MAX: usize = 4096;

pub struct Ring {
    samples: VecDeque<Sample>,
    /// Up to where the log was read, on the source's scale; none before that is known.
    read_bytes: Option<u64>,
    /// What that was first: what lies before it was not seen by this process.
    first_read_bytes: Option<u64>,
}

struct Sample {
    position: Position,
    /// Where it is on the source's scale, if that is known.
    at_bytes: Option<u64>,
    unix_ms: u64,
}

impl Ring {
    pub fn new() -> Self {
        Ring { samples: VecDeque::new(), read_bytes: None, first_read_bytes: None }
    }

    /// The stream stands at `edge`, and has read its log up to `read_bytes`.
    pub fn sample(&mut self, edge: &Position, at_bytes: Option<u64>, read_bytes: Option<u64>, unix_ms: u64) {
        self.read_bytes = read_bytes.max(at_bytes).or(self.read_bytes);
        self.first_read_bytes = self.first_read_bytes.or(at_bytes).or(self.read_bytes);
        if let Some(last) = self.samples.back_mut() {
            if *edge == last.position {
                last.at_bytes = at_bytes.or(last.at_bytes);
                return;
            }
            if !edge.covers(&last.position) {
                return;
            }
        }
        if self.samples.len() == SAMPLES_MAX {
            let mut at = 0;
            self.samples.retain(|_| {
                at += 1;
                at > SAMPLES_MAX / 2 || at % 2 == 1
            });
        }
        self.samples.push_back(Sample { position: edge.clone(), at_bytes, unix_ms });
    }

    /// What the stream has read behind a position, which is at `at_bytes`, and since when. `stored`: what was known of it when
    /// the process started.
    pub fn lag(&self, position: &Position, at_bytes: Option<u64>, stored: Lag) -> Lag {
        let passed = self.samples.partition_point(|sample| !sample.position.covers(position));
        let Some(first_behind) = self.samples.get(passed) else { return Lag::default() };
        let before = passed.checked_sub(1).and_then(|at| self.samples.get(at));
        let read_since = |at: Option<u64>| at.zip(self.read_bytes).map(|(at, read)| read.saturating_sub(at));
        let known = read_since(at_bytes.or(before.and_then(|before| before.at_bytes)));
        // From before this run.
        let unknown = || stored.bytes + read_since(self.first_read_bytes).unwrap_or(0);
        Lag {
            bytes: known.unwrap_or_else(unknown),
            since_unix_ms: match before {
                None if stored.since_unix_ms > 0 => stored.since_unix_ms,
                _ => first_behind.unix_ms,
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
        assert_eq!(ring.lag(&at(5), Some(5), Lag { bytes: 7, since_unix_ms: 9 }), Lag::default(), "nothing was read");
        ring.sample(&at(100), Some(1000), Some(1000), 1);
        ring.sample(&at(110), Some(1500), Some(1500), 2);
        assert_eq!(ring.lag(&at(110), Some(1500), Lag::default()), Lag::default());
        assert_eq!(ring.lag(&at(105), Some(1200), Lag::default()), Lag { bytes: 300, since_unix_ms: 2 });
        let before = Lag { bytes: 70, since_unix_ms: 0 };
        assert_eq!(ring.lag(&at(50), Some(800), before), Lag { bytes: 700, since_unix_ms: 1 }, "from before this run");
        assert_eq!(ring.lag(&at(50), None, Lag { since_unix_ms: 1, ..before }).since_unix_ms, 1);
    }

    #[test]
    fn a_burst_before_the_first_reading_counts() {
        let mut ring = Ring::new();
        ring.sample(&at(100), None, None, 1);
        ring.sample(&at(900), Some(9000), Some(9100), 2);
        assert_eq!(ring.lag(&at(100), Some(1000), Lag::default()), Lag { bytes: 8100, since_unix_ms: 2 });
    }

    #[test]
    fn of_an_unknown_place_what_was_read_since_the_sample_before_it_counts() {
        let mut ring = Ring::new();
        ring.sample(&at(100), Some(1000), Some(1000), 1);
        ring.sample(&at(110), Some(1500), Some(1600), 2);
        assert_eq!(ring.lag(&at(105), None, Lag::default()).bytes, 600, "rather too much");
        assert_eq!(ring.lag(&at(50), None, Lag { bytes: 70, since_unix_ms: 0 }).bytes, 670);
        // Between two connections nothing is known of how far it was read.
        ring.sample(&at(110), None, None, 3);
        assert_eq!(ring.lag(&at(105), None, Lag::default()).bytes, 600);
    }

    proptest! {
        /// Against all samples: bytes exactly, time never less than the truth.
        #[test]
        fn agrees_with_every_sample(steps in proptest::collection::vec((0u64..4, 1u64..50), 1..9000), asked in 0u64..20_000) {
            let (mut ring, mut all, mut lsn, mut read) = (Ring::new(), vec![], 1, 0);
            for (second, (forward, more)) in steps.into_iter().enumerate() {
                lsn += forward;
                read = lsn * 7 + more;
                ring.sample(&at(lsn), Some(lsn * 7), Some(read), second as u64);
                all.push((lsn, second as u64));
            }
            prop_assert!(ring.samples.len() <= SAMPLES_MAX);
            let lag = ring.lag(&at(asked), Some(asked * 7), Lag::default());
            match all.iter().find(|(lsn, _)| *lsn > asked) {
                None => prop_assert_eq!(lag, Lag::default()),
                Some((_, since)) => {
                    prop_assert_eq!(lag.bytes, read - asked * 7);
                    prop_assert!(lag.since_unix_ms >= *since);
                    let unknown = ring.lag(&at(asked), None, Lag::default());
                    prop_assert!(unknown.bytes >= lag.bytes || asked < all[0].0);
                }
            }
        }
    }
}
