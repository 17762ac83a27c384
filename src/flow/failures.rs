//! What went wrong, by class: how often, and how often it was tried again.
//!
//! Invariants:
//! - Every failure is counted once, by whoever decides what follows from it; one that is tried again is counted as a
//!   reconnect too, under the same class. So reconnects are never more than failures.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::progress::Count;
use crate::error::{Class, Error};

/// A count for each class of error.
#[derive(Debug, Default)]
pub struct ByClass([Count; Class::ALL.len()]);

impl ByClass {
    pub(super) fn add(&self, class: Class) {
        self.0[class as usize].add(1);
    }
    pub fn of(&self, class: Class) -> u64 {
        self.0[class as usize].get()
    }
    pub fn total(&self) -> u64 {
        self.0.iter().map(Count::get).sum()
    }
}

/// Of one source, sink or store: counts, and whether it fails now.
#[derive(Debug, Default)]
pub struct Failures {
    /// Those that were tried again, and those that ended everything.
    pub errors: ByClass,
    /// Those that were tried again; counted by [`super::Progress::tries_again`].
    pub reconnects: ByClass,
    last: Mutex<Option<Last>>,
}

#[derive(Debug)]
struct Last {
    /// The chain of causes.
    text: String,
    remedy: Option<String>,
    is_over: bool,
}

impl Failures {
    pub fn add(&self, error: &Error) {
        self.errors.add(error.class());
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        let remedy = error.remedy_text().map(str::to_owned);
        *self.lock() = Some(Last { text, remedy, is_over: false });
    }

    /// It works again.
    pub fn recovered(&self) {
        if let Some(last) = &mut *self.lock() {
            last.is_over = true;
        }
    }

    /// What is wrong now, in one line.
    pub fn current(&self) -> Option<String> {
        self.lock().as_ref().filter(|last| !last.is_over).map(|last| last.text.clone())
    }

    /// What went wrong last, with its remedy, also when it is over.
    pub fn last(&self) -> Option<String> {
        self.lock().as_ref().map(|last| match &last.remedy {
            Some(remedy) => format!("{}\n  remedy: {remedy}", last.text),
            None => last.text.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Progress, Role};

    #[test]
    fn failures_are_counted_by_class_and_end() {
        let failures = Failures::default();
        failures.add(&Error::transient("reading").because("reset by peer").remedy("wait"));
        assert_eq!(failures.current().as_deref(), Some("reading: reset by peer"));
        assert_eq!(failures.last().as_deref(), Some("reading: reset by peer\n  remedy: wait"));
        failures.add(&Error::data("a value"));
        let errors = &failures.errors;
        assert_eq!((errors.of(Class::Transient), errors.of(Class::Config), errors.total()), (1, 0, 2));
        failures.recovered();
        assert_eq!((failures.current(), failures.last().as_deref(), errors.total()), (None, Some("a value"), 2));
    }

    #[test]
    fn a_reconnect_is_counted_once_for_whom_it_is_and_once_in_all() {
        let progress = Progress::default();
        let (sink, consumer) = (progress.member(Role::Sink, "a"), progress.member(Role::Consumer, "a"));
        let (lane, nameless) = (progress.beside(Some(&consumer)), progress.beside(None));
        let (broken, lost) = (Error::transient("reading"), Error::lost("the log is gone"));
        progress.source.add(&broken);
        progress.tries_again(&progress.source, &broken);
        progress.source.add(&lost);
        progress.tries_again(&progress.source, &lost);
        progress.source.add(&lost);
        sink.failures.add(&broken);
        progress.tries_again(&sink.failures, &broken);
        lane.source.add(&broken);
        lane.tries_again(&lane.source, &broken);
        nameless.source.add(&broken);
        nameless.tries_again(&nameless.source, &broken);
        let of = |counts: &ByClass| (counts.of(Class::Transient), counts.of(Class::Lost), counts.total());
        assert_eq!((of(&progress.source.errors), of(&progress.source.reconnects)), ((1, 2, 3), (1, 1, 2)));
        assert_eq!((of(&sink.failures.reconnects), of(&consumer.failures.reconnects)), ((1, 0, 1), (1, 0, 1)));
        assert_eq!(of(&progress.reconnects), (4, 1, 5), "a consumer without a name counts here alone");
        lane.connected();
        assert_eq!((consumer.failures.current(), progress.source.current().is_some()), (None, true));
    }
}
