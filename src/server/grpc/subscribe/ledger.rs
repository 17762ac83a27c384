//! What one client may still be sent, and what it has acknowledged: numbers alone, no IO.
//!
//! Invariants:
//! - Batches are numbered from 1 in the order they are sent. A delivery of the hub is none, one or several of them, and is
//!   acknowledged when the last one is; one that is none is acknowledged with those before it.
//! - A batch is sent only while every credit is above zero and fewer than `max_unacked` are not acknowledged.
//! - What was sent before a rewind is void: its acknowledgements say nothing, and it does not count as unacknowledged.

use std::collections::VecDeque;

use tonic::Status;

use crate::record::Seq;

pub struct Ledger {
    sent: u64,
    acked: u64,
    /// None counts none.
    credit: Option<Credit>,
    /// By the last batch of a delivery, those that are not acknowledged. At most `max_unacked` and one.
    waiting: VecDeque<(u64, Seq)>,
    /// None: whatever is sent counts as acknowledged.
    max_unacked: Option<u64>,
}

/// What is left. Bytes may fall below zero: the last batch is sent whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Credit {
    bytes: i64,
    batches: u64,
}

impl Ledger {
    /// `max_unacked`: none for a client that need not acknowledge.
    pub fn new(max_unacked: Option<usize>, credit: Option<(u64, u32)>) -> Ledger {
        let mut ledger = Ledger {
            sent: 0,
            acked: 0,
            credit: credit.map(|_| Credit { bytes: 0, batches: 0 }),
            waiting: VecDeque::new(),
            max_unacked: max_unacked.map(|batches| batches as u64),
        };
        if let Some((bytes, batches)) = credit {
            ledger.add_credit(bytes, batches);
        }
        ledger
    }

    /// Whether the client has said that it takes more.
    pub fn has_credit(&self) -> bool {
        self.credit.is_none_or(|credit| credit.bytes > 0 && credit.batches > 0)
    }

    pub fn may_send(&self) -> bool {
        self.has_credit() && self.max_unacked.is_none_or(|most| self.sent - self.acked < most)
    }

    /// The number of the next batch.
    pub fn next_number(&self) -> u64 {
        self.sent + 1
    }

    /// The next batch goes out, as so many bytes.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += 1;
        if let Some(credit) = &mut self.credit {
            credit.bytes = credit.bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
            credit.batches = credit.batches.saturating_sub(1);
        }
    }

    /// All batches of a delivery went out, however many they are. What is to be acknowledged to the hub at once.
    pub fn delivered(&mut self, seq: Seq) -> Option<Seq> {
        if self.max_unacked.is_none() || self.acked == self.sent {
            self.acked = self.sent;
            return Some(seq);
        }
        match self.waiting.back_mut() {
            Some((number, last)) if *number == self.sent => *last = seq,
            _ => self.waiting.push_back((self.sent, seq)),
        }
        None
    }

    /// The client has everything up to a batch. What is to be acknowledged to the hub. Errors: INVALID_ARGUMENT for a
    /// number that was not sent.
    pub fn ack(&mut self, number: u64) -> Result<Option<Seq>, Status> {
        if number > self.sent {
            return Err(Status::invalid_argument(format!(
                "batch {number} is acknowledged, and the last one that was sent is {}",
                self.sent
            )));
        }
        self.acked = self.acked.max(number);
        let mut upto = None;
        while let Some((last, seq)) = self.waiting.front()
            && *last <= number
        {
            upto = Some(*seq);
            self.waiting.pop_front();
        }
        Ok(upto)
    }

    /// More of both.
    pub fn add_credit(&mut self, bytes: u64, batches: u32) {
        if let Some(credit) = &mut self.credit {
            credit.bytes = credit.bytes.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
            credit.batches = credit.batches.saturating_add(batches.into());
        }
    }

    /// Whether this call counts credits.
    pub fn counts(&self) -> bool {
        self.credit.is_some()
    }

    /// What was sent is void.
    pub fn rewind(&mut self) {
        self.waiting.clear();
        self.acked = self.sent;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn credits_are_counted_and_the_last_batch_may_overdraw() {
        let mut ledger = Ledger::new(Some(10), Some((100, 3)));
        ledger.sent(60);
        assert!(ledger.may_send());
        ledger.sent(60);
        assert!(!ledger.may_send(), "20 bytes too many");
        ledger.add_credit(20, 0);
        assert!(!ledger.may_send(), "a balance of zero");
        ledger.add_credit(1, 0);
        assert!(ledger.may_send());
        ledger.sent(1);
        ledger.add_credit(u64::MAX, 0);
        assert!(!ledger.may_send(), "no batches left");
        ledger.add_credit(u64::MAX, u32::MAX);
        assert!(ledger.may_send());
        assert!(Ledger::new(Some(1), None).may_send());
        assert!(!Ledger::new(None, Some((0, 0))).may_send());
    }

    #[test]
    fn a_million_may_be_asked_for_and_the_limit_holds() {
        let mut ledger = Ledger::new(Some(2), Some((u64::MAX, u32::MAX)));
        ledger.sent(1);
        assert!(ledger.may_send());
        ledger.sent(1);
        assert!(!ledger.may_send());
        ledger.ack(1).unwrap();
        assert!(ledger.may_send());
    }

    #[test]
    fn a_delivery_is_acknowledged_with_its_last_batch() {
        let mut ledger = Ledger::new(Some(10), None);
        assert_eq!(ledger.delivered(Seq(1)), Some(Seq(1)), "nothing of it was wanted, and nothing is before it");
        ledger.sent(1);
        ledger.sent(1);
        assert_eq!(ledger.delivered(Seq(2)), None);
        assert_eq!(ledger.delivered(Seq(3)), None, "nothing of it was wanted: with those before it");
        ledger.sent(1);
        assert_eq!(ledger.delivered(Seq(4)), None);
        assert_eq!(ledger.ack(1).unwrap(), None);
        assert_eq!(ledger.ack(2).unwrap(), Some(Seq(3)));
        assert_eq!(ledger.ack(2).unwrap(), None, "once more changes nothing");
        assert_eq!(ledger.ack(4).unwrap_err().code(), tonic::Code::InvalidArgument);
        assert_eq!(ledger.ack(3).unwrap(), Some(Seq(4)));
        assert_eq!(ledger.delivered(Seq(5)), Some(Seq(5)));
    }

    #[test]
    fn what_a_rewind_made_void_says_nothing() {
        let mut ledger = Ledger::new(Some(2), None);
        (1..=2).for_each(|seq| {
            ledger.sent(1);
            ledger.delivered(Seq(seq));
        });
        assert!(!ledger.may_send());
        ledger.rewind();
        assert!(ledger.may_send());
        assert_eq!(ledger.ack(2).unwrap(), None);
        ledger.sent(1);
        ledger.delivered(Seq(3));
        assert_eq!(ledger.ack(3).unwrap(), Some(Seq(3)));
    }

    #[test]
    fn who_need_not_acknowledge_is_never_waited_for() {
        let mut ledger = Ledger::new(None, None);
        for seq in 1..100 {
            assert!(ledger.may_send());
            ledger.sent(1);
            assert_eq!(ledger.delivered(Seq(seq)), Some(Seq(seq)));
        }
        assert_eq!(ledger.ack(5).unwrap(), None);
    }

    proptest! {
        /// Against the model: a delivery is acknowledged exactly when every batch up to its last one is.
        #[test]
        fn agrees_with_a_simple_model(
            deliveries in proptest::collection::vec((0u64..4, 0u64..6), 1..60),
        ) {
            let mut ledger = Ledger::new(Some(usize::MAX), None);
            let (mut sent, mut acked, mut told) = (0u64, 0u64, 0u64);
            let mut last_batch = Vec::new();
            for (index, (batches, step)) in deliveries.into_iter().enumerate() {
                (0..batches).for_each(|_| ledger.sent(1));
                sent += batches;
                last_batch.push(sent);
                told = told.max(ledger.delivered(Seq(index as u64 + 1)).map_or(0, |seq| seq.0));
                acked = (acked + step).min(sent);
                told = told.max(ledger.ack(acked).unwrap().map_or(0, |seq| seq.0));
                let expected = last_batch.iter().filter(|last| **last <= acked).count() as u64;
                prop_assert_eq!(told, expected);
            }
        }
    }
}
