//! Where a pipeline stands, as numbers that its source and its workers write and anyone reads.
//!
//! Invariants:
//! - Counts only: nothing decides by them. Every access is relaxed, so two numbers may be of different moments.
//! - Written once a batch or more rarely, never once a row.
//! - Counters of one run of the process: they start at 0 and only grow. Gauges say so.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};

/// A number that is added to or set.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connecting, checking, making slot and publication.
    Starting,
    Snapshot,
    Stream,
    /// No more is read; what was read is being flushed and stored.
    Draining,
}

/// Shared by `Arc` between the source, the pipeline and whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,

    /// Tables to snapshot in this run. Gauge: tables may be added. Written by the source.
    pub snapshot_tables: Count,
    /// Tables whose last chunk has been read. Written by the source.
    pub snapshot_tables_done: Count,
    /// Rows that the wanted tables hold, by the server's own statistics: an estimate, 0 where there are none. Gauge.
    pub snapshot_rows_estimate: Count,
    /// Rows read. Written by the source.
    pub snapshot_rows: Count,
    /// Bytes of COPY data read. Written by the source.
    pub snapshot_bytes: Count,

    /// Changes read from the log: inserts, updates, deletes, truncates, messages. Written by the source.
    pub events: Count,
    /// Bytes of log messages read. Written by the source.
    pub stream_bytes: Count,
    /// Where the server's log ends, as far as it has told. Gauge, a byte position. Written by the source.
    pub server_end_bytes: Count,
    /// How far the log has been read. Gauge, a byte position. Written by the source.
    pub read_end_bytes: Count,
    /// Up to where every sink is durable and the offset is stored. Gauge, a byte position. Written by the pipeline.
    pub confirmed_bytes: Count,
    /// When the transaction read last was committed, by the server's clock: microseconds since 1970-01-01 UTC, 0 before
    /// the first. Gauge.
    last_commit_unix_micros: AtomicI64,

    /// Records all sinks together have taken. Written by the pipeline.
    pub delivered: Count,
    /// How often a connection to the source or to a sink was lost and tried again. Written by the pipeline.
    pub retries: Count,
}

impl Progress {
    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Snapshot,
            2 => Phase::Stream,
            _ => Phase::Draining,
        }
    }
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    pub fn committed(&self, unix_micros: i64) {
        self.last_commit_unix_micros.store(unix_micros, Relaxed);
    }
    /// Microseconds since 1970-01-01 UTC; none before the first transaction.
    pub fn last_commit_unix_micros(&self) -> Option<i64> {
        Some(self.last_commit_unix_micros.load(Relaxed)).filter(|micros| *micros != 0)
    }

    /// Bytes of log that the server has and that have not been read.
    pub fn lag_bytes(&self) -> u64 {
        self.server_end_bytes.get().saturating_sub(self.read_end_bytes.get())
    }
    /// Bytes of log that have been read and are not yet confirmed.
    pub fn unconfirmed_bytes(&self) -> u64 {
        self.read_end_bytes.get().saturating_sub(self.confirmed_bytes.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_survive_their_number() {
        let progress = Progress::default();
        assert_eq!(progress.phase(), Phase::Starting);
        for phase in [Phase::Snapshot, Phase::Stream, Phase::Draining, Phase::Starting] {
            progress.enter(phase);
            assert_eq!(progress.phase(), phase);
        }
    }

    #[test]
    fn lag_is_never_negative() {
        let progress = Progress::default();
        progress.server_end_bytes.set(100);
        progress.read_end_bytes.set(70);
        assert_eq!((progress.lag_bytes(), progress.unconfirmed_bytes()), (30, 70));
        progress.read_end_bytes.set(170);
        progress.confirmed_bytes.set(200);
        assert_eq!((progress.lag_bytes(), progress.unconfirmed_bytes()), (0, 0));
        assert_eq!(progress.last_commit_unix_micros(), None);
        progress.committed(-1);
        assert_eq!(progress.last_commit_unix_micros(), Some(-1));
    }
}
