//! What is left to do, shared by the workers.
//!
//! Invariants:
//! - A task is one worker's until the worker says that it is done; only then can the pool be at its end, because a task may
//!   bring forth others.
//! - Ranges before tables: few tables are under way at a time, and few of their entries in the store.
//! - A worker that has nothing to do is counted as waiting, whatever becomes of it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// `T`: a table not yet begun. `R`: a range of one that is.
#[derive(Debug)]
pub enum Task<T, R> {
    Table(T),
    Range(R),
}

pub struct Pool<T, R> {
    state: Mutex<State<T, R>>,
    changed: Notify,
}

struct State<T, R> {
    tables: VecDeque<T>,
    ranges: VecDeque<R>,
    /// Tasks taken and not done.
    busy: usize,
    waiting: usize,
}

/// Counts a waiting worker, also one that is cancelled.
struct Waiting<'p, T, R>(&'p Pool<T, R>);

impl<T, R> Drop for Waiting<'_, T, R> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl<T, R> Pool<T, R> {
    pub fn new(tables: impl IntoIterator<Item = T>) -> Self {
        let state = State { tables: tables.into_iter().collect(), ranges: VecDeque::new(), busy: 0, waiting: 0 };
        Pool { state: Mutex::new(state), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next task; None once all are done. Cancel-safe.
    pub async fn take(&self) -> Option<Task<T, R>> {
        let mut waiting = None;
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.lock();
                let range = state.ranges.pop_front().map(Task::Range);
                let task = range.or_else(|| state.tables.pop_front().map(Task::Table));
                if task.is_some() {
                    state.busy += 1;
                }
                if task.is_some() || state.busy == 0 {
                    drop(state);
                    return task;
                }
                if waiting.is_none() {
                    state.waiting += 1;
                    waiting = Some(Waiting(self));
                }
            }
            changed.await;
        }
    }

    pub fn push(&self, ranges: impl IntoIterator<Item = R>) {
        self.lock().ranges.extend(ranges);
        self.changed.notify_waiters();
    }

    /// A task that was taken has been done, or failed: whoever waits for what it brings forth looks again.
    pub fn done(&self) {
        self.lock().busy -= 1;
        self.changed.notify_waiters();
    }

    /// Whether a worker waits that nothing is there for.
    pub fn hungers(&self) -> bool {
        let state = self.lock();
        state.waiting > 0 && state.ranges.is_empty() && state.tables.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn everything_that_comes_forth_is_done_before_the_end() {
        let pool: Arc<Pool<u32, u32>> = Arc::new(Pool::new([3, 4]));
        let sum = Arc::new(AtomicUsize::new(0));
        let worker = |pool: Arc<Pool<u32, u32>>, sum: Arc<AtomicUsize>| async move {
            while let Some(task) = pool.take().await {
                tokio::task::yield_now().await;
                match task {
                    Task::Table(ranges) => pool.push(0..ranges),
                    Task::Range(n) => drop(sum.fetch_add(n as usize + 1, Ordering::Relaxed)),
                }
                pool.done();
            }
        };
        let workers: Vec<_> = (0..5).map(|_| tokio::spawn(worker(pool.clone(), sum.clone()))).collect();
        for worker in workers {
            worker.await.unwrap();
        }
        assert_eq!(sum.load(Ordering::Relaxed), 6 + 10);
        assert!(pool.take().await.is_none());
    }

    #[tokio::test]
    async fn a_waiting_worker_asks_for_a_part_until_it_is_gone() {
        let pool: Pool<(), u32> = Pool::new([()]);
        assert!(matches!(pool.take().await, Some(Task::Table(()))));
        assert!(!pool.hungers());
        let mut other = Box::pin(pool.take());
        let early = tokio::time::timeout(std::time::Duration::from_millis(10), &mut other).await;
        assert!(early.is_err() && pool.hungers());
        pool.push([7]);
        assert!(!pool.hungers(), "there is something for it");
        assert!(matches!(other.await, Some(Task::Range(7))));
        let mut third = Box::pin(pool.take());
        let early = tokio::time::timeout(std::time::Duration::from_millis(10), &mut third).await;
        assert!(early.is_err() && pool.hungers());
        drop(third);
        assert!(!pool.hungers(), "it was cancelled");
    }
}
