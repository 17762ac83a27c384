//! Which positions may be stored and confirmed, from what each sink says is durable.
//!
//! Invariants:
//! - All arithmetic is on [`Seq`]. A mark becomes storable when every sink of its audience is durable up to its batch,
//!   and marks become storable in order.
//! - A sink's own position moves as soon as that sink is durable up to it, and never back.
//! - What may be confirmed to the server is the earliest position of all sinks; none while one has none.

use std::collections::{BTreeMap, VecDeque};

use crate::offset::OffsetUpdate;
use crate::record::{Mark, Position, Seq, SinkOffset, StateEntry};

/// The sinks a batch goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    All,
    /// Those that take part in the snapshot.
    Participants,
}

pub struct Acks {
    sinks: Vec<SinkAcks>,
    /// Marks not yet storable, in order. Unmarked batches confirm nothing and are not kept.
    entries: VecDeque<Entry>,
    /// How many entries have left the queue.
    popped: u64,
    /// State that has become storable and was not taken yet.
    storable: Vec<StateEntry>,
}

struct SinkAcks {
    name: String,
    participant: bool,
    durable: Seq,
    offset: SinkOffset,
    moved: bool,
    /// The number (counting from the first ever) of the first entry this sink has not passed.
    next_entry: u64,
}

struct Entry {
    seq: Seq,
    audience: Audience,
    mark: Mark,
}

impl Acks {
    /// `sinks`: name, stored offset, and whether the sink takes part in the snapshot that comes first.
    pub fn new(sinks: impl IntoIterator<Item = (String, SinkOffset, bool)>) -> Self {
        let sinks = sinks
            .into_iter()
            .map(|(name, offset, participant)| SinkAcks {
                name,
                participant,
                durable: Seq(0),
                offset,
                moved: false,
                next_entry: 0,
            })
            .collect();
        Acks { sinks, entries: VecDeque::new(), popped: 0, storable: Vec::new() }
    }

    pub fn is_in(&self, sink: usize, audience: Audience) -> bool {
        audience == Audience::All || self.sinks[sink].participant
    }

    /// A batch went to its sinks. Called in the order of `seq`.
    pub fn sent(&mut self, seq: Seq, audience: Audience, mark: Mark) {
        debug_assert!(self.entries.back().is_none_or(|last| last.seq < seq));
        if !mark.is_empty() {
            self.entries.push_back(Entry { seq, audience, mark });
        }
    }

    /// A sink holds everything up to `seq` durably; `token` is its own mark as of its last marked batch up to there.
    pub fn durable(&mut self, sink: usize, seq: Seq, token: Option<Vec<u8>>) {
        let state = &mut self.sinks[sink];
        if seq <= state.durable {
            return;
        }
        state.durable = seq;
        let mut passed = false;
        while let Some(entry) = self.entries.get(state.next_entry.saturating_sub(self.popped) as usize) {
            if entry.seq > seq {
                break;
            }
            state.next_entry = state.next_entry.max(self.popped) + 1;
            if entry.audience == Audience::Participants && !state.participant {
                continue;
            }
            passed = true;
            if let Some(position) = &entry.mark.position {
                let back = state.offset.position.as_ref().is_some_and(|stored| stored.covers(position));
                if !back {
                    state.offset.position = Some(position.clone());
                }
            }
        }
        if passed {
            state.offset.token = token;
            state.moved = true;
        }
        self.pop();
    }

    /// A sink said at its opening what mark it begins at; stored before its first batch, that is what a crash goes back to.
    pub fn opened(&mut self, sink: usize, token: Option<Vec<u8>>) {
        let state = &mut self.sinks[sink];
        state.offset.token = token;
        state.moved = true;
    }

    /// A sink stopped inside a batch, with everything before `position` durable.
    pub fn reached(&mut self, sink: usize, position: Position, token: Option<Vec<u8>>) {
        let state = &mut self.sinks[sink];
        if state.offset.position.as_ref().is_some_and(|stored| position.covers(stored)) {
            state.offset = SinkOffset { position: Some(position), token };
            state.moved = true;
        }
    }

    fn pop(&mut self) {
        while let Some(entry) = self.entries.front() {
            let (seq, audience) = (entry.seq, entry.audience);
            let held =
                self.sinks.iter().any(|sink| (audience == Audience::All || sink.participant) && sink.durable < seq);
            if held {
                return;
            }
            if let Some(entry) = self.entries.pop_front() {
                self.popped += 1;
                self.storable.extend(entry.mark.state);
            }
        }
    }

    /// What has become storable since the last call.
    pub fn take(&mut self) -> OffsetUpdate {
        let mut sinks = BTreeMap::new();
        for sink in &mut self.sinks {
            if std::mem::take(&mut sink.moved) {
                sinks.insert(sink.name.clone(), sink.offset.clone());
            }
        }
        OffsetUpdate { sinks, state: std::mem::take(&mut self.storable) }
    }

    /// The earliest position of all sinks. To be confirmed only after the update that holds it was stored.
    pub fn confirmable(&self) -> Option<Position> {
        let mut positions = self.sinks.iter().map(|sink| sink.offset.position.clone());
        let first = positions.next()??;
        positions.try_fold(first, |earliest, position| Some(earliest.earlier(position?)))
    }

    /// Whether a mark still waits for a sink, or to be taken.
    pub fn is_waiting(&self) -> bool {
        !self.entries.is_empty() || !self.storable.is_empty() || self.sinks.iter().any(|sink| sink.moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Lsn;
    use proptest::prelude::*;

    fn at(lsn: u64) -> Position {
        Position::Postgres(Lsn(lsn))
    }
    fn mark(lsn: u64) -> Mark {
        Mark { position: Some(at(lsn)), state: vec![StateEntry { key: vec![lsn as u8], value: None }] }
    }
    fn acks(sinks: usize) -> Acks {
        Acks::new((0..sinks).map(|n| (format!("s{n}"), SinkOffset { position: Some(at(0)), token: None }, false)))
    }

    #[test]
    fn the_slowest_sink_holds_the_state_and_the_server_back() {
        let mut acks = acks(2);
        acks.sent(Seq(1), Audience::All, mark(10));
        acks.durable(0, Seq(1), Some(vec![7]));
        let update = acks.take();
        assert_eq!(update.sinks["s0"], SinkOffset { position: Some(at(10)), token: Some(vec![7]) });
        assert!(update.state.is_empty(), "the other sink does not have it yet");
        assert_eq!(acks.confirmable(), Some(at(0)));
        acks.durable(1, Seq(1), None);
        assert_eq!(acks.take().state.len(), 1);
        assert_eq!(acks.confirmable(), Some(at(10)));
        assert!(!acks.is_waiting());
    }

    #[test]
    fn a_batch_without_a_position_confirms_nothing() {
        let mut acks = acks(1);
        acks.sent(Seq(1), Audience::All, Mark::default());
        acks.durable(0, Seq(1), Some(vec![1]));
        assert!(acks.take().is_empty());
        assert_eq!(acks.confirmable(), Some(at(0)));
    }

    #[test]
    fn a_snapshot_moves_its_participants_only() {
        let unfinished = SinkOffset::default();
        let ahead = SinkOffset { position: Some(at(50)), token: None };
        let mut acks = Acks::new([("new".into(), unfinished, true), ("old".into(), ahead, false)]);
        acks.sent(Seq(1), Audience::Participants, mark(90));
        assert_eq!(acks.confirmable(), None, "a sink without a position");
        acks.durable(0, Seq(1), None);
        assert_eq!(acks.confirmable(), Some(at(50)));
        acks.sent(Seq(2), Audience::All, mark(60));
        acks.durable(0, Seq(2), None);
        assert_eq!(acks.take().sinks["new"].position, Some(at(90)), "replayed positions do not move it back");
        acks.durable(1, Seq(2), None);
        assert_eq!(acks.confirmable(), Some(at(60)));
    }

    proptest! {
        /// Against the model: for every prefix of events, a sink's position is that of its last durable marked batch,
        /// the state is that of the batches all sinks have, in order, and the server hears the minimum.
        #[test]
        fn agrees_with_a_simple_model(
            marked in proptest::collection::vec(any::<bool>(), 1..40),
            steps in proptest::collection::vec((0usize..3, 0u64..6), 0..120),
        ) {
            let mut acks = acks(3);
            let mut durable = [0u64; 3];
            let mut sent = 0u64;
            let mut stored = [0u64; 3];
            let mut state = Vec::new();
            for (sink, step) in steps {
                if step == 0 && (sent as usize) < marked.len() {
                    sent += 1;
                    let mark = if marked[sent as usize - 1] { mark(sent) } else { Mark::default() };
                    acks.sent(Seq(sent), Audience::All, mark);
                } else {
                    durable[sink] = (durable[sink] + step).min(sent);
                    acks.durable(sink, Seq(durable[sink]), Some(durable[sink].to_be_bytes().to_vec()));
                }
                let update = acks.take();
                for (name, offset) in update.sinks {
                    if let Some(Position::Postgres(lsn)) = offset.position {
                        stored[name[1..].parse::<usize>().unwrap()] = lsn.0;
                    }
                }
                state.extend(update.state.into_iter().map(|entry| u64::from(entry.key[0])));
                let last_marked = |upto: u64| (1..=upto).rev().find(|n| marked[*n as usize - 1]).unwrap_or(0);
                for sink in 0..3 {
                    prop_assert_eq!(stored[sink], last_marked(durable[sink]));
                }
                let slowest = *durable.iter().min().unwrap();
                let expected: Vec<u64> = (1..=slowest).filter(|n| marked[*n as usize - 1]).collect();
                prop_assert_eq!(&state, &expected);
                prop_assert_eq!(acks.confirmable(), Some(at(last_marked(slowest))));
            }
        }
    }
}
