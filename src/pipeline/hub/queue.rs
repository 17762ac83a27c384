//! The batches that wait for one consumer.
//!
//! Invariants:
//! - A push never waits. Beyond its limit the queue ends, and lets go of what it holds.
//! - An end is for good; what ends a queue first decides how.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, watch};

use crate::record::Batch;

/// A batch takes at least a unit of the budget.
const BATCH_MIN_BYTES: usize = 1024;

/// How eager the readers of one fan-out are: whether waiting for a fuller batch would only add latency.
#[derive(Default)]
pub struct Appetite {
    /// Readers that have nothing to read.
    hungry: AtomicUsize,
    /// Those whose clients take what they get.
    readers: AtomicUsize,
    /// Notified when one becomes hungry, and when there are no readers any more.
    pub changed: Notify,
}

impl Appetite {
    pub fn is_hungry(&self) -> bool {
        self.hungry.load(Ordering::Acquire) > 0
    }
    pub fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueEnd {
    /// Everything is in it that was to come, and is read first.
    Finished,
    /// What was in it is gone: the reader was too slow, or left.
    Dropped,
    /// What was in it is gone, for its stream has ended.
    Closed,
}

pub enum Popped {
    Batch(Arc<Batch>),
    Empty,
    End,
}

pub struct Queue {
    inner: Mutex<Inner>,
    limit_bytes: usize,
    /// Tells the reader that there is something, or an end.
    news: Arc<Notify>,
    appetite: Arc<Appetite>,
    end: watch::Sender<Option<QueueEnd>>,
}

#[derive(Default)]
struct Inner {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    hungry: bool,
    reading: bool,
    end: Option<QueueEnd>,
}

impl Queue {
    pub fn new(limit_bytes: usize, news: Arc<Notify>, appetite: Arc<Appetite>) -> Arc<Self> {
        Arc::new(Queue { inner: Mutex::default(), limit_bytes, news, appetite, end: watch::channel(None).0 })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn counts(batch: &Batch) -> usize {
        batch.bytes().max(BATCH_MIN_BYTES)
    }

    /// False when the queue is over, or is now: the batch was more than it may hold.
    pub fn push(&self, batch: Arc<Batch>) -> bool {
        let mut inner = self.inner();
        if inner.end.is_some() {
            return false;
        }
        let bytes = Self::counts(&batch);
        // A batch larger than the limit passes alone.
        if !inner.batches.is_empty() && inner.bytes + bytes > self.limit_bytes {
            self.end_with(&mut inner, QueueEnd::Dropped);
            return false;
        }
        inner.bytes += bytes;
        inner.batches.push_back(batch);
        self.set_hungry(&mut inner, false);
        self.news.notify_one();
        true
    }

    pub fn pop(&self) -> Popped {
        let mut inner = self.inner();
        if let Some(batch) = inner.batches.pop_front() {
            inner.bytes -= Self::counts(&batch);
            return Popped::Batch(batch);
        }
        match inner.end {
            Some(_) => Popped::End,
            None => {
                self.set_hungry(&mut inner, true);
                Popped::Empty
            }
        }
    }

    /// Whether the reader takes what it gets.
    pub fn set_reading(&self, reading: bool) {
        let mut inner = self.inner();
        if inner.end.is_none() {
            self.set_reader(&mut inner, reading);
            if !reading {
                self.set_hungry(&mut inner, false);
            }
        }
    }

    pub fn end(&self, end: QueueEnd) {
        let mut inner = self.inner();
        if inner.end.is_none() {
            self.end_with(&mut inner, end);
        } else if end != QueueEnd::Finished {
            // What was left to read is not wanted any more.
            inner.batches.clear();
            inner.bytes = 0;
            inner.end = Some(end);
            self.end.send_replace(Some(end));
        }
    }

    fn end_with(&self, inner: &mut Inner, end: QueueEnd) {
        inner.end = Some(end);
        if end != QueueEnd::Finished {
            inner.batches.clear();
            inner.bytes = 0;
        }
        self.set_hungry(inner, false);
        self.set_reader(inner, false);
        self.news.notify_one();
        self.end.send_replace(Some(end));
    }

    fn set_hungry(&self, inner: &mut Inner, hungry: bool) {
        match (inner.hungry, hungry) {
            (false, true) => {
                self.appetite.hungry.fetch_add(1, Ordering::AcqRel);
                self.appetite.changed.notify_waiters();
            }
            (true, false) => drop(self.appetite.hungry.fetch_sub(1, Ordering::AcqRel)),
            _ => {}
        }
        inner.hungry = hungry;
    }

    fn set_reader(&self, inner: &mut Inner, reading: bool) {
        match (inner.reading, reading) {
            (false, true) => drop(self.appetite.readers.fetch_add(1, Ordering::AcqRel)),
            (true, false) => {
                let before = self.appetite.readers.fetch_sub(1, Ordering::AcqRel);
                if before == 1 {
                    self.appetite.changed.notify_waiters();
                }
            }
            _ => {}
        }
        inner.reading = reading;
    }

    /// Waits for an end and says which. Cancel-safe.
    pub async fn ended(&self) -> QueueEnd {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(|end| end.is_some()).await;
        ended.ok().and_then(|end| *end).unwrap_or(QueueEnd::Dropped)
    }

    pub fn is_ended(&self) -> Option<QueueEnd> {
        self.inner().end
    }

    pub fn bytes(&self) -> usize {
        self.inner().bytes
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.end(QueueEnd::Dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, Mark, Origin, Seq};

    fn batch(seq: u64) -> Arc<Batch> {
        Arc::new(BatchBuilder::new(Origin::Stream).build(Seq(seq), Mark::default(), None))
    }

    #[test]
    fn beyond_its_limit_a_queue_ends_and_is_empty() {
        let appetite = Arc::new(Appetite::default());
        let queue = Queue::new(3 * BATCH_MIN_BYTES, Arc::default(), appetite.clone());
        queue.set_reading(true);
        assert!(matches!(queue.pop(), Popped::Empty));
        assert!(appetite.is_hungry() && appetite.has_readers());
        let weak = Arc::downgrade(&{
            let first = batch(1);
            assert!(queue.push(first.clone()));
            first
        });
        assert!(!appetite.is_hungry());
        assert!(queue.push(batch(2)) && queue.push(batch(3)));
        assert_eq!(queue.bytes(), 3 * BATCH_MIN_BYTES);
        assert!(!queue.push(batch(4)));
        assert!(weak.upgrade().is_none(), "what it held is given back at once");
        assert!(matches!(queue.pop(), Popped::End) && queue.is_ended() == Some(QueueEnd::Dropped));
        assert!(!appetite.is_hungry() && !appetite.has_readers());
    }

    #[test]
    fn a_finished_queue_is_read_to_its_end() {
        let queue = Queue::new(1 << 20, Arc::default(), Arc::default());
        assert!(queue.push(batch(1)));
        queue.end(QueueEnd::Finished);
        assert!(!queue.push(batch(2)));
        assert!(matches!(queue.pop(), Popped::Batch(batch) if batch.seq == Seq(1)));
        assert!(matches!(queue.pop(), Popped::End) && queue.is_ended() == Some(QueueEnd::Finished));
    }
}
