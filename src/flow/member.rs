//! How far one reader of the stream is: a sink, or a consumer over the network.
//!
//! Invariants:
//! - Written once a batch or more rarely. Nothing decides by it but what is shown of the process's health.
//! - What is durable at the reader is told by [`Member::durable`], once for every batch, in order.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::clock;
use super::failures::Failures;
use super::histogram::{Histogram, LAG_BOUNDS_BYTES, LATENCY_BOUNDS_MICROS};
use super::progress::{Count, Progress};
use crate::record::{Batch, Commits, Position};

/// What reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The process is not ready while it stands still.
    Sink,
    /// A program over the network: what it does is its own affair.
    Consumer,
}

/// How many batches wait, asked when it is shown.
type Queue = Box<dyn Fn() -> usize + Send + Sync>;

pub struct Member {
    pub role: Role,
    pub name: String,
    /// Records it has been given.
    pub records: Count,
    /// What went wrong with it.
    pub failures: Arc<Failures>,
    /// Of each transaction: from its commit, by the server's clock, until it was durable, by ours.
    pub commit_to_durable_micros: Histogram,
    /// Of each report of durability: bytes of log behind it that the server had by then, as far as known.
    pub lag_bytes: Histogram,
    position: Mutex<Option<Position>>,
    queue: Mutex<Option<Queue>>,
    /// When something last became durable, by [`clock::now_ms`]; 0 before.
    advanced_ms: AtomicU64,
    /// Since when it is known to be behind the server's log; 0 when it is not.
    behind_ms: AtomicU64,
    /// The commit that became durable last, microseconds since 1970-01-01 UTC.
    last_commit_unix_micros: AtomicU64,
    paused: AtomicBool,
    held: AtomicBool,
}

impl Member {
    pub(super) fn new(role: Role, name: &str) -> Self {
        Member {
            role,
            name: name.to_owned(),
            records: Count::default(),
            failures: Arc::default(),
            commit_to_durable_micros: Histogram::new(LATENCY_BOUNDS_MICROS),
            lag_bytes: Histogram::new(LAG_BOUNDS_BYTES),
            position: Mutex::default(),
            queue: Mutex::default(),
            advanced_ms: AtomicU64::new(clock::now_ms()),
            behind_ms: AtomicU64::new(0),
            last_commit_unix_micros: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            held: AtomicBool::new(false),
        }
    }

    /// It begins, or begins anew, behind `position`.
    pub fn begins(&self, position: Option<Position>) {
        *lock(&self.position) = position;
        self.failures.recovered();
        self.advanced_ms.store(clock::now_ms(), Relaxed);
        self.behind_ms.store(0, Relaxed);
    }

    /// How its queue is asked for its batches.
    pub fn queue_is(&self, queue: impl Fn() -> usize + Send + Sync + 'static) {
        *lock(&self.queue) = Some(Box::new(queue));
    }

    /// It holds the batch durably, and all before it.
    pub fn durable(&self, batch: &Batch, progress: &Progress) {
        self.advanced_ms.store(clock::now_ms(), Relaxed);
        if !progress.is_watched() {
            return;
        }
        let now = unix_micros();
        for commit in batch.commits_unix_micros() {
            self.commit_to_durable_micros.observe(now.saturating_sub(commit).max(0) as u64);
            self.last_commit_unix_micros.store(commit.max(0) as u64, Relaxed);
        }
        self.reached(batch.mark.position.as_ref(), progress);
    }

    /// It has acknowledged a delivery of so many records, and all before it.
    pub fn acked(&self, records: usize, commits: &Commits, position: Option<&Position>, progress: &Progress) {
        self.advanced_ms.store(clock::now_ms(), Relaxed);
        self.records.add(records as u64);
        if !commits.groups.is_empty() {
            // Before they are counted: who sees them counted sees their last, too.
            self.last_commit_unix_micros.store(commits.last_unix_micros.max(0) as u64, Relaxed);
            let now = unix_micros();
            for group in &commits.groups {
                let age = now.saturating_sub(group.oldest_unix_micros).max(0) as u64;
                let sum = age.saturating_mul(group.count).saturating_sub(group.later_micros);
                self.commit_to_durable_micros.observe_many(age, group.count, sum);
            }
        }
        self.reached(position, progress);
    }

    fn reached(&self, position: Option<&Position>, progress: &Progress) {
        let Some(position) = position else { return };
        if let Some(bytes) = progress.bytes_of(position) {
            self.lag_bytes.observe(progress.end_bytes().saturating_sub(bytes));
        }
        *lock(&self.position) = Some(position.clone());
    }

    /// Where it stands, of one that is not there to say so.
    pub fn stands_at(&self, position: Position) {
        *lock(&self.position) = Some(position);
    }

    /// An operator lets it take nothing, or go on.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
    }

    /// Paused, it takes nothing from here on, and its position stands.
    pub fn holds(&self) {
        self.held.store(true, Relaxed);
    }

    pub fn is_held(&self) -> bool {
        self.held.load(Relaxed)
    }

    /// It goes on: it did not stand still until now.
    pub fn resumes(&self) {
        self.advanced_ms.store(clock::now_ms(), Relaxed);
        self.held.store(false, Relaxed);
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Relaxed)
    }

    pub fn position(&self) -> Option<Position> {
        lock(&self.position).clone()
    }

    /// Batches given and not yet written.
    pub fn queued(&self) -> usize {
        lock(&self.queue).as_ref().map_or(0, |queue| queue())
    }

    /// Bytes of log behind its position that the server has; none where positions are not known in bytes.
    pub fn lag(&self, progress: &Progress) -> Option<u64> {
        let position = self.position()?;
        Some(progress.end_bytes().saturating_sub(progress.bytes_of(&position)?))
    }

    /// Microseconds since 1970-01-01 UTC of the commit that became durable last; none before the first.
    pub fn last_commit_unix_micros(&self) -> Option<u64> {
        Some(self.last_commit_unix_micros.load(Relaxed)).filter(|micros| *micros != 0)
    }

    /// The server's log was looked at: whether this one has all of it.
    pub fn compared(&self, behind: bool) {
        match (behind, self.behind_ms.load(Relaxed)) {
            (true, 0) => self.behind_ms.store(clock::now_ms().max(1), Relaxed),
            (true, _) => {}
            (false, _) => self.behind_ms.store(0, Relaxed),
        }
    }

    /// Milliseconds since something last became durable, or since it began.
    pub fn quiet_ms(&self) -> u64 {
        clock::now_ms().saturating_sub(self.advanced_ms.load(Relaxed))
    }

    /// For how long it has been behind without anything becoming durable, in milliseconds; none where it was not behind
    /// when the log was looked at last.
    pub fn standing_ms(&self) -> Option<u64> {
        let since = self.behind_ms.load(Relaxed);
        let stands_since = since.max(self.advanced_ms.load(Relaxed));
        (since != 0).then(|| clock::now_ms().saturating_sub(stands_since))
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.role, self.name)
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_as_late_as_each_of_its_commits_and_as_far_as_its_last() {
        let (progress, now) = (Progress::default(), unix_micros());
        let consumer = progress.member(Role::Consumer, "a");
        assert_eq!(consumer.last_commit_unix_micros(), None);
        // 2,000 s, 400 s, twice 35 s, and 31.
        let ages_s = [2_000, 400, 35, 35, 31];
        let last_unix_micros = now - 31_000_000;
        consumer.acked(5, &Commits::new(ages_s.iter().map(|age_s| now - age_s * 1_000_000)), None, &progress);
        assert_eq!(consumer.last_commit_unix_micros(), Some(last_unix_micros as u64));
        assert_eq!(consumer.records.get(), 5);
        let latency = &consumer.commit_to_durable_micros;
        let within = |most_s: u64| latency.buckets().find(|(bound, _)| *bound == Some(most_s * 1_000_000)).unwrap().1;
        assert_eq!((within(60), within(300), within(1_800), within(21_600)), (3, 0, 1, 1));
        assert!((2_501_000_000..2_501_000_000 + 5 * 60_000_000).contains(&latency.sum()), "{}", latency.sum());
        // Records without a commit: the end of a transaction is yet to come.
        consumer.acked(1, &Commits::default(), None, &progress);
        assert_eq!((consumer.last_commit_unix_micros(), consumer.records.get()), (Some(last_unix_micros as u64), 6));
    }
}
