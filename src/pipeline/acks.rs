//! Which positions may be stored and confirmed, from what each sink and consumer says is durable.
//!
//! Invariants:
//! - All arithmetic is on [`Seq`]. A mark becomes storable when every member of its audience is durable up to its batch,
//!   and marks become storable in order.
//! - A member's own position moves as soon as that member is durable up to it, and never back.
//! - Inside a snapshot and at its end, a sink's token and position move only together with the state they belong to: what
//!   is replayed after a crash, a sink that is cut back to its token does not have already.
//! - What may be confirmed to the server is the earliest position of all sinks and consumers, of what is held for consumers
//!   that are no members, and of the base; none while a sink has none.
//! - The base is what the storable state is of. Where members come and go it is kept, for their positions do not say it: one
//!   that only prepares to join holds the state back, and has no position here.
//! - A consumer that leaves takes a copy of the state with it, as of what it holds, in the step that lets the state go on.

use std::collections::{BTreeMap, VecDeque};

use crate::offset::{OffsetUpdate, Parked, Place};
use crate::record::{Mark, Position, Seq, SinkOffset, StateEntry};

/// The members a batch goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    All,
    /// The sinks that take part in the snapshot of all tables.
    Participants,
    /// All sinks, which get the rows of added tables. No consumer is a member meanwhile: what the state is of moves too.
    Sinks,
}

/// A consumer's number as a member; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberId(pub u64);

#[derive(Default)]
pub struct Acks {
    sinks: Vec<SinkAcks>,
    consumers: Vec<ConsumerAcks>,
    /// Marks not yet storable, in order. Unmarked batches confirm nothing and are not kept.
    entries: VecDeque<Entry>,
    /// How many entries have left the queue.
    popped: u64,
    /// State that has become storable and was not taken yet.
    storable: Vec<StateEntry>,
    keeps_base: bool,
    base: Option<Position>,
    base_moved: bool,
    /// What consumers need that are no members, by name.
    holds: BTreeMap<String, Position>,
}

struct SinkAcks {
    name: String,
    participant: bool,
    durable: Seq,
    offset: SinkOffset,
    moved: bool,
    /// The number (counting from the first ever) of the first entry this sink has not passed.
    next_entry: u64,
    /// Its token and position are of an entry before this one.
    settled: u64,
}

impl SinkAcks {
    fn is_in(&self, audience: Audience) -> bool {
        audience != Audience::Participants || self.participant
    }
}

struct ConsumerAcks {
    id: MemberId,
    name: String,
    durable: Seq,
    /// As for a sink.
    next_entry: u64,
    /// What the state is of behind the last entry it has passed.
    passed: Position,
    /// Where its client stands; none while it prepares to join: until then it is held where it was.
    position: Option<Position>,
    moved: bool,
    leaves: bool,
}

struct Entry {
    seq: Seq,
    audience: Audience,
    mark: Mark,
    /// By sink, tokens that move with the state.
    tokens: Vec<(usize, Option<Vec<u8>>)>,
}

/// The later of two, where they compare.
fn later(known: Position, new: &Position) -> Position {
    if known.covers(new) { known } else { new.clone() }
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
                settled: 0,
            })
            .collect();
        Acks { sinks, ..Acks::default() }
    }

    /// Says from now on what the state is of: at first of `base`; none while the first snapshot is not complete.
    pub fn keep_base(mut self, base: Option<Position>) -> Self {
        (self.keeps_base, self.base) = (true, base);
        self
    }

    pub fn is_in(&self, sink: usize, audience: Audience) -> bool {
        self.sinks[sink].is_in(audience)
    }

    /// A batch went to its members. Called in the order of `seq`.
    pub fn sent(&mut self, seq: Seq, audience: Audience, mark: Mark) {
        debug_assert!(self.entries.back().is_none_or(|last| last.seq < seq));
        if !mark.is_empty() {
            self.entries.push_back(Entry { seq, audience, mark, tokens: Vec::new() });
            // With consumers alone there may be nobody to wait for.
            if self.sinks.is_empty() {
                self.pop();
            }
        }
    }

    /// A sink holds everything up to `seq` durably; `token` is its own mark as of its last marked batch up to there. To be
    /// called for every marked batch of a snapshot.
    pub fn durable(&mut self, sink: usize, seq: Seq, token: Option<Vec<u8>>) {
        let state = &mut self.sinks[sink];
        if seq <= state.durable {
            return;
        }
        state.durable = seq;
        let mut passed = false;
        while let Some(entry) = self.entries.get_mut(state.next_entry.saturating_sub(self.popped) as usize) {
            if entry.seq > seq {
                break;
            }
            state.next_entry = state.next_entry.max(self.popped) + 1;
            if !state.is_in(entry.audience) {
                continue;
            }
            if entry.audience != Audience::All {
                entry.tokens.push((sink, token.clone()));
                continue;
            }
            (passed, state.settled) = (true, state.next_entry);
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

    /// A consumer gets everything behind `seq`, where the stream stands at `edge`. It holds the state back from here on; what
    /// else is held for it stays until it has entered.
    pub fn join(&mut self, id: MemberId, name: &str, seq: Seq, edge: Position) {
        debug_assert!(self.consumers.iter().all(|consumer| consumer.id != id));
        self.consumers.push(ConsumerAcks {
            id,
            name: name.to_owned(),
            durable: seq,
            next_entry: self.popped + self.entries.len() as u64,
            passed: edge,
            position: None,
            moved: false,
            leaves: false,
        });
    }

    /// A consumer that joined holds everything before `position`, which is not before the edge it joined at: it is a member
    /// in full with the next take.
    pub fn enter(&mut self, id: MemberId, position: &Position) {
        if let Some(consumer) = self.consumers.iter_mut().find(|consumer| consumer.id == id) {
            consumer.position = Some(later(consumer.passed.clone(), position));
            consumer.moved = true;
        }
    }

    /// A consumer holds everything up to `seq` durably.
    pub fn consumer_durable(&mut self, id: MemberId, seq: Seq) {
        let Some(consumer) = self.consumers.iter_mut().find(|consumer| consumer.id == id) else { return };
        if seq <= consumer.durable {
            return;
        }
        consumer.durable = seq;
        while let Some(entry) = self.entries.get(consumer.next_entry.saturating_sub(self.popped) as usize) {
            if entry.seq > seq {
                break;
            }
            consumer.next_entry = consumer.next_entry.max(self.popped) + 1;
            if let (Audience::All, Some(position)) = (entry.audience, &entry.mark.position) {
                consumer.passed = position.clone();
                if let Some(known) = consumer.position.take() {
                    consumer.position = Some(later(known, position));
                    consumer.moved = true;
                }
            }
        }
        self.pop();
    }

    /// A consumer goes. One that has entered is parked with the next take, at what it holds by then; false for one that was
    /// only preparing, which is gone at once.
    pub fn leave(&mut self, id: MemberId) -> bool {
        let Some(at) = self.consumers.iter().position(|consumer| consumer.id == id) else { return false };
        if self.consumers[at].position.is_some() {
            self.consumers[at].leaves = true;
            return true;
        }
        self.consumers.remove(at);
        self.pop();
        false
    }

    /// Where a consumer stands, once it has entered.
    pub fn position_of(&self, name: &str) -> Option<Position> {
        self.consumers.iter().find(|consumer| consumer.name == name).and_then(|consumer| consumer.position.clone())
    }

    /// What a consumer that is no member needs from now on; none: nothing.
    pub fn hold(&mut self, name: &str, position: Option<Position>) {
        match position {
            Some(position) => self.holds.insert(name.to_owned(), position),
            None => self.holds.remove(name),
        };
    }

    /// Moves what is held of a consumer forward, if anything is.
    pub fn advance_hold(&mut self, name: &str, position: Position) {
        if let Some(held) = self.holds.get_mut(name).filter(|held| position.covers(held)) {
            *held = position;
        }
    }

    fn pop(&mut self) {
        while let Some(entry) = self.entries.front() {
            let (seq, audience) = (entry.seq, entry.audience);
            let all = audience == Audience::All;
            let held = self.sinks.iter().any(|sink| sink.is_in(audience) && sink.durable < seq)
                || (all && self.consumers.iter().any(|consumer| consumer.durable < seq));
            if held {
                return;
            }
            if let Some(entry) = self.entries.pop_front() {
                self.popped += 1;
                self.storable.extend(entry.mark.state);
                for (sink, token) in entry.tokens {
                    let state = &mut self.sinks[sink];
                    // One that has passed the end of the snapshot meanwhile stands behind this.
                    if state.settled < self.popped {
                        state.offset.token = token;
                        state.moved = true;
                        if let Some(position) = &entry.mark.position {
                            let known = state.offset.position.take();
                            state.offset.position =
                                Some(known.map_or(position.clone(), |known| later(known, position)));
                        }
                    }
                }
                let moves = audience != Audience::Participants && self.keeps_base;
                if let Some(position) = entry.mark.position.filter(|_| moves) {
                    let moved = self.base.as_ref().is_none_or(|base| position.covers(base));
                    if moved {
                        (self.base, self.base_moved) = (Some(position), true);
                    }
                }
            }
        }
    }

    /// What has become storable since the last call.
    pub fn take(&mut self) -> OffsetUpdate {
        let mut consumers = BTreeMap::new();
        // The state a leaving one takes along is of before it lets the others go on.
        for consumer in self.consumers.iter_mut() {
            let Some(position) = consumer.position.clone() else { continue };
            if consumer.leaves {
                let passed = consumer.next_entry.saturating_sub(self.popped) as usize;
                let waiting = self.entries.iter().take(passed).filter(|entry| entry.audience == Audience::All);
                let waiting = waiting.flat_map(|entry| entry.mark.state.iter().cloned());
                let entries = self.storable.iter().cloned().chain(waiting).collect();
                let base = consumer.passed.clone();
                self.holds.insert(consumer.name.clone(), base.clone().earlier(position.clone()));
                consumers.insert(consumer.name.clone(), Place::Parked(Parked { position, base, entries }));
            } else if std::mem::take(&mut consumer.moved) {
                self.holds.remove(&consumer.name);
                consumers.insert(consumer.name.clone(), Place::Live(position));
            }
        }
        self.consumers.retain(|consumer| !consumer.leaves);
        self.pop();
        let mut sinks = BTreeMap::new();
        for sink in &mut self.sinks {
            if std::mem::take(&mut sink.moved) {
                sinks.insert(sink.name.clone(), sink.offset.clone());
            }
        }
        let base = self.base.clone().filter(|_| std::mem::take(&mut self.base_moved));
        OffsetUpdate { sinks, state: std::mem::take(&mut self.storable), base, consumers }
    }

    /// The earliest position of all that need one. To be confirmed only after the update that holds it was stored.
    pub fn confirmable(&self) -> Option<Position> {
        let sinks = self.sinks.iter().map(|sink| sink.offset.position.clone());
        let consumers = self.consumers.iter().filter_map(|consumer| consumer.position.clone());
        let others = consumers.chain(self.base.clone()).chain(self.holds.values().cloned());
        let mut positions = sinks.chain(others.map(Some));
        let first = positions.next()??;
        positions.try_fold(first, |earliest, position| Some(earliest.earlier(position?)))
    }

    /// Everything marked before this has become storable; none: everything at all.
    pub fn waiting(&self) -> Option<Seq> {
        self.entries.front().map(|entry| entry.seq)
    }

    /// Whether a sink is durable up to there.
    pub fn is_durable(&self, sink: usize, seq: Seq) -> bool {
        self.sinks[sink].durable >= seq
    }
}

#[cfg(test)]
mod tests;
