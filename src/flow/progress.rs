//! Where a pipeline stands, as numbers that its source and its workers write and anyone reads.
//!
//! Invariants:
//! - Nothing of the stream decides by them: they are shown, and the process's health is read off them. Every access to a
//!   number is relaxed, so two numbers may be of different moments.
//! - Written once a batch or more rarely, never once a row. What costs more than an addition is written only where
//!   somebody looks: [`Progress::watch`].
//! - Counters of one run of the process: they start at 0 and only grow. Gauges say so.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::budget::Budget;
use super::clock;
use super::failures::{ByClass, Failures};
use super::member::{Member, Role};
use super::observation::{Extent, Observation};
use super::traffic::Traffic;
use crate::error::Error;
use crate::record::{Lineage, Position};

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
    /// Sets it, unless it is larger.
    pub fn raise(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A task's sign that it turns.
#[derive(Debug, Default)]
pub struct Beat {
    /// By [`clock::now_ms`], one more; 0 while nothing is expected of the task.
    last_ms: AtomicU64,
}

impl Beat {
    pub fn turn(&self) {
        self.last_ms.store(clock::now_ms() + 1, Relaxed);
    }
    /// Nothing is to be heard of it until the next turn.
    pub fn rest(&self) {
        self.last_ms.store(0, Relaxed);
    }
    /// Milliseconds since the last turn; none while it rests.
    pub fn silent_ms(&self) -> Option<u64> {
        let last = self.last_ms.load(Relaxed);
        (last != 0).then(|| (clock::now_ms() + 1).saturating_sub(last))
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

impl Phase {
    pub const ALL: [Phase; 4] = [Phase::Starting, Phase::Snapshot, Phase::Stream, Phase::Draining];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Snapshot => "snapshot",
            Phase::Stream => "stream",
            Phase::Draining => "draining",
        }
    }
}

/// Shared by `Arc` between the source, the pipeline and whoever shows it.
#[derive(Default)]
pub struct Progress {
    watched: AtomicBool,
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
    /// Where the server's log ends, as far as it has told, on the scale of the source's [`Extent`]. Gauge. Written by the
    /// source and whoever observes the server.
    pub server_end_bytes: Count,
    /// How far the log has been read, on the same scale; 0 while that is not known. Gauge. Written by the source.
    pub read_end_bytes: Count,
    /// When the transaction read last was committed, by the server's clock: microseconds since 1970-01-01 UTC, 0 before
    /// the first. Gauge.
    last_commit_unix_micros: AtomicI64,
    /// By table and operation. Written where somebody looks.
    pub traffic: Traffic,

    /// Records all sinks together have taken. Written by the pipeline.
    pub delivered: Count,
    /// How often the source, a sink or what catches a consumer up failed and was tried again, all together.
    pub reconnects: Arc<ByClass>,
    /// What went wrong with the source; cured by [`Progress::connected`].
    pub source: Arc<Failures>,
    /// What went wrong with looking at the server beside the stream.
    pub observer: Failures,
    /// What went wrong with the offset store.
    pub store: Failures,
    /// The task that reads the stream.
    pub reader: Beat,
    /// A write of the offset store that has not returned.
    pub storing: Beat,

    /// How far the log had been read at the last look at which that was further, or all of it.
    read_at_look: Count,
    /// When that was, by [`clock::now_ms`].
    read_advanced_ms: Count,

    lineage: Mutex<Option<Lineage>>,
    extent: Mutex<Option<Arc<dyn Extent>>>,
    observed: Mutex<Option<Observed>>,
    members: Mutex<Vec<Arc<Member>>>,
    confirmed: Mutex<Option<watch::Receiver<Option<Position>>>>,
    budget: Mutex<Option<Budget>>,
}

/// What was seen of the server last.
#[derive(Clone, Debug)]
pub struct Observed {
    at_ms: u64,
    pub observation: Observation,
}

impl Observed {
    pub fn age_ms(&self) -> u64 {
        clock::now_ms().saturating_sub(self.at_ms)
    }
}

impl Progress {
    /// From now on somebody looks at what costs something to know.
    pub fn watch(&self) {
        self.watched.store(true, Relaxed);
    }
    pub fn is_watched(&self) -> bool {
        self.watched.load(Relaxed)
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Snapshot,
            2 => Phase::Stream,
            _ => Phase::Draining,
        }
    }
    pub fn enter(&self, phase: Phase) {
        if phase == Phase::Stream {
            // Before, there was nothing to read.
            self.read_advanced_ms.set(clock::now_ms());
        }
        self.phase.store(phase as u8, Relaxed);
    }

    /// A pipeline begins to run: its batches' budget, and what it confirms to the server.
    pub fn begins(&self, lineage: &Lineage, budget: Budget, confirmed: watch::Receiver<Option<Position>>) {
        *lock(&self.lineage) = Some(lineage.clone());
        *lock(&self.budget) = Some(budget);
        *lock(&self.confirmed) = Some(confirmed);
        *lock(&self.observed) = None;
        // Another server may be behind the one before.
        self.server_end_bytes.set(0);
        self.read_end_bytes.set(0);
        self.read_advanced_ms.set(clock::now_ms());
    }

    /// Of a stream beside this one, for one consumer: what its source fails of is the consumer's failure.
    pub fn beside(&self, consumer: Option<&Member>) -> Progress {
        let source = consumer.map(|consumer| consumer.failures.clone()).unwrap_or_default();
        Progress { source, reconnects: self.reconnects.clone(), ..Progress::default() }
    }

    /// After a failure, which was counted: it is tried again. `of`: whose it is.
    pub fn tries_again(&self, of: &Failures, error: &Error) {
        of.reconnects.add(error.class());
        self.reconnects.add(error.class());
    }

    /// The source reads: its rows, or its log.
    pub fn connected(&self) {
        self.source.recovered();
    }

    /// How positions of the source are laid on one scale of bytes.
    pub fn extent_is(&self, extent: Arc<dyn Extent>) {
        *lock(&self.extent) = Some(extent);
    }

    /// Bytes of log before a position; none where that is not known.
    pub fn bytes_of(&self, position: &Position) -> Option<u64> {
        let extent = lock(&self.extent).clone();
        extent?.bytes(position)
    }

    /// The server was looked at.
    pub fn observed(&self, observation: Observation) {
        self.observer.recovered();
        if let Some(end) = observation.end_bytes {
            self.server_end_bytes.raise(end);
            let read = self.read_end_bytes.get();
            if read >= end || self.read_at_look.get() != read {
                self.read_at_look.set(read);
                self.read_advanced_ms.set(clock::now_ms());
            }
            for member in self.members() {
                let position = member.position();
                // What is not known to be at the end is behind it; what has no position reads a snapshot.
                let behind = position.is_some_and(|position| self.bytes_of(&position).is_none_or(|bytes| bytes < end));
                member.compared(behind);
            }
        }
        *lock(&self.observed) = Some(Observed { at_ms: clock::now_ms(), observation });
    }

    /// Milliseconds since a look at the server found that reading had advanced, or that all was read.
    pub fn reading_stands_ms(&self) -> u64 {
        clock::now_ms().saturating_sub(self.read_advanced_ms.get())
    }

    /// The last look at the server; none before the first.
    pub fn observation(&self) -> Option<Observed> {
        lock(&self.observed).clone()
    }

    pub fn lineage(&self) -> Option<Lineage> {
        lock(&self.lineage).clone()
    }

    /// None before the pipeline runs.
    pub fn budget(&self) -> Option<Budget> {
        lock(&self.budget).clone()
    }

    /// Up to where every sink is durable and the offset is stored; none where some have nothing yet.
    pub fn confirmed(&self) -> Option<Position> {
        lock(&self.confirmed).as_ref().and_then(|confirmed| confirmed.borrow().clone())
    }

    /// The reader of that name; made where it is not known yet.
    pub fn member(&self, role: Role, name: &str) -> Arc<Member> {
        let mut members = lock(&self.members);
        if let Some(known) = members.iter().find(|member| member.role == role && member.name == name) {
            return known.clone();
        }
        let member = Arc::new(Member::new(role, name));
        members.push(member.clone());
        member
    }

    /// It is not shown any more.
    pub fn leaves(&self, member: &Member) {
        lock(&self.members).retain(|known| !(known.role == member.role && known.name == member.name));
    }

    pub fn members(&self) -> Vec<Arc<Member>> {
        lock(&self.members).clone()
    }

    pub fn committed(&self, unix_micros: i64) {
        self.last_commit_unix_micros.store(unix_micros, Relaxed);
    }
    /// Microseconds since 1970-01-01 UTC; none before the first transaction.
    pub fn last_commit_unix_micros(&self) -> Option<i64> {
        Some(self.last_commit_unix_micros.load(Relaxed)).filter(|micros| *micros != 0)
    }

    /// Where the log ends, as far as anybody has told.
    pub fn end_bytes(&self) -> u64 {
        self.server_end_bytes.get().max(self.read_end_bytes.get())
    }
    /// Bytes of log that the server has and that have not been read; 0 where it is not known how far it was read.
    pub fn lag_bytes(&self) -> u64 {
        match self.read_end_bytes.get() {
            0 => 0,
            read => self.server_end_bytes.get().saturating_sub(read),
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("phase", &self.phase()).finish_non_exhaustive()
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Lsn;

    #[test]
    fn phases_survive_their_number() {
        let progress = Progress::default();
        assert_eq!(progress.phase(), Phase::Starting);
        for phase in Phase::ALL.into_iter().chain([Phase::Starting]) {
            progress.enter(phase);
            assert_eq!(progress.phase(), phase);
        }
    }

    #[test]
    fn lag_is_never_negative() {
        let progress = Progress::default();
        progress.server_end_bytes.set(100);
        assert_eq!(progress.lag_bytes(), 0, "nobody knows how far it was read");
        progress.read_end_bytes.set(70);
        assert_eq!((progress.lag_bytes(), progress.end_bytes()), (30, 100));
        progress.read_end_bytes.set(170);
        assert_eq!((progress.lag_bytes(), progress.end_bytes()), (0, 170));
        assert_eq!(progress.last_commit_unix_micros(), None);
        progress.committed(-1);
        assert_eq!(progress.last_commit_unix_micros(), Some(-1));
    }

    struct Lsns;

    impl Extent for Lsns {
        fn bytes(&self, position: &Position) -> Option<u64> {
            position.lsn().ok().map(|lsn| lsn.0)
        }
    }

    #[test]
    fn a_member_stands_only_while_it_is_behind() {
        let progress = Progress::default();
        let at = |lsn| Some(Position::Postgres(Lsn(lsn)));
        let seen = |end| progress.observed(Observation { end_bytes: Some(end), ..Observation::default() });
        let sink = progress.member(Role::Sink, "a");
        sink.begins(at(50));
        seen(60);
        assert_eq!(
            (sink.standing_ms().is_some(), sink.lag(&progress)),
            (true, None),
            "positions are not known in bytes"
        );
        progress.extent_is(Arc::new(Lsns));
        seen(60);
        assert!(sink.standing_ms().is_some());
        assert_eq!(sink.lag(&progress), Some(10));
        sink.begins(at(60));
        seen(60);
        assert_eq!((sink.standing_ms(), sink.lag(&progress)), (None, Some(0)));
        assert!(Arc::ptr_eq(&progress.member(Role::Sink, "a"), &sink));
        progress.member(Role::Consumer, "a");
        progress.leaves(&sink);
        assert_eq!(progress.members().iter().map(|member| member.role).collect::<Vec<_>>(), [Role::Consumer]);
    }

    #[test]
    fn a_beat_is_silent_only_while_it_is_expected() {
        let beat = Beat::default();
        assert_eq!(beat.silent_ms(), None);
        beat.turn();
        assert!(beat.silent_ms().is_some_and(|silent| silent < 60_000));
        beat.rest();
        assert_eq!(beat.silent_ms(), None);
    }
}
