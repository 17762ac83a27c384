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
    assert_eq!(acks.waiting(), None);
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

#[test]
fn inside_a_snapshot_a_token_moves_with_the_state_it_belongs_to() {
    let chunk = |n: u8| Mark { position: None, state: vec![StateEntry { key: vec![n], value: None }] };
    let mut acks = Acks::new(["fast", "slow"].map(|name| (name.to_owned(), SinkOffset::default(), true)));
    (1..=3).for_each(|n| acks.sent(Seq(n), Audience::Participants, chunk(n as u8)));
    (1..=3).for_each(|n| acks.durable(0, Seq(n), Some(vec![10 + n as u8])));
    assert!(acks.take().is_empty(), "the other sink has nothing yet");
    acks.durable(1, Seq(1), Some(vec![21]));
    let update = acks.take();
    assert_eq!(update.state.len(), 1);
    assert_eq!(update.sinks["fast"].token, Some(vec![11]), "not further than the state");
    assert_eq!(update.sinks["slow"].token, Some(vec![21]));
    // Behind the end of the snapshot a sink stands on its own.
    acks.sent(Seq(4), Audience::Participants, mark(90));
    acks.durable(0, Seq(4), Some(vec![14]));
    assert!(acks.take().is_empty(), "its end is the state's end too");
    acks.sent(Seq(5), Audience::All, mark(95));
    acks.durable(0, Seq(5), Some(vec![15]));
    assert_eq!(acks.take().sinks["fast"], SinkOffset { position: Some(at(95)), token: Some(vec![15]) });
    acks.durable(1, Seq(4), Some(vec![24]));
    let update = acks.take();
    assert!(!update.sinks.contains_key("fast"), "it does not go back");
    assert_eq!(update.sinks["slow"], SinkOffset { position: Some(at(90)), token: Some(vec![24]) });
}

#[test]
fn the_rows_of_an_added_table_end_for_all_sinks_at_once() {
    let mut acks = acks(2).keep_base(Some(at(10)));
    acks.sent(Seq(1), Audience::Sinks, Mark { position: None, state: vec![StateEntry { key: vec![1], value: None }] });
    acks.sent(Seq(2), Audience::Sinks, mark(90));
    acks.durable(0, Seq(2), Some(vec![12]));
    assert!(acks.take().is_empty(), "the other sink has nothing yet");
    acks.durable(1, Seq(1), Some(vec![21]));
    let update = acks.take();
    assert_eq!((update.state.len(), update.base), (1, None));
    assert_eq!(update.sinks["s1"], SinkOffset { position: Some(at(0)), token: Some(vec![21]) });
    assert_eq!(acks.confirmable(), Some(at(0)));
    acks.durable(1, Seq(2), Some(vec![22]));
    let update = acks.take();
    assert_eq!(update.base, Some(at(90)), "the state is of there");
    for (name, token) in [("s0", 12), ("s1", 22)] {
        assert_eq!(update.sinks[name], SinkOffset { position: Some(at(90)), token: Some(vec![token]) });
    }
    assert_eq!(acks.confirmable(), Some(at(90)));
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

/// A consumer of the model: where it joined and what it holds.
#[derive(Clone, Debug)]
struct Reader {
    id: MemberId,
    durable: u64,
    entered: bool,
}

fn version(lsn: u64) -> StateEntry {
    StateEntry { key: b"v".to_vec(), value: Some(lsn.to_be_bytes().to_vec()) }
}

fn version_of(state: &BTreeMap<Vec<u8>, Vec<u8>>) -> u64 {
    state.get(&b"v"[..]).map_or(0, |value| u64::from_be_bytes(value[..].try_into().unwrap()))
}

fn apply(state: &mut BTreeMap<Vec<u8>, Vec<u8>>, entries: &[StateEntry]) {
    for entry in entries {
        state.insert(entry.key.clone(), entry.value.clone().unwrap());
    }
}

proptest! {
    /// Sinks and consumers at random, each step stored or left for the next. After every take: the stored state is that of
    /// the base; nobody stands before the base; what a parked consumer took along is exactly of its base, at what it holds;
    /// and the server hears nothing beyond what anybody needs, and never goes back by itself.
    #[test]
    fn the_state_is_of_the_base_whoever_comes_and_goes(
        sinks in 0usize..3,
        marked in proptest::collection::vec(any::<bool>(), 60),
        steps in proptest::collection::vec((0u8..8, 0usize..4, 1u64..6), 0..200),
    ) {
        let stored = |n: usize| (format!("s{n}"), SinkOffset { position: Some(at(0)), token: None }, false);
        let mut acks = Acks::new((0..sinks).map(stored)).keep_base(Some(at(0)));
        let (mut sent, mut edge, mut next_id) = (0u64, 0u64, 0u64);
        let mut sinks_durable = vec![0u64; sinks];
        let mut readers: BTreeMap<usize, Reader> = BTreeMap::new();
        let mut held: BTreeMap<String, Position> = BTreeMap::new();
        let (mut state, mut base) = (BTreeMap::new(), at(0));
        let last_marked = |upto: u64| (1..=upto).rev().find(|n| marked[*n as usize - 1]).unwrap_or(0);
        for (what, who, by) in steps {
            let name = format!("c{who}");
            match what {
                0..=2 if (sent as usize) < marked.len() => {
                    sent += 1;
                    let is_marked = marked[sent as usize - 1];
                    let mark = Mark { position: Some(at(sent)), state: vec![version(sent)] };
                    acks.sent(Seq(sent), Audience::All, if is_marked { mark } else { Mark::default() });
                    edge = if is_marked { sent } else { edge };
                }
                3 if who < sinks => {
                    sinks_durable[who] = (sinks_durable[who] + by).min(sent);
                    acks.durable(who, Seq(sinks_durable[who]), None);
                }
                4 if edge == sent && !readers.contains_key(&who) => {
                    next_id += 1;
                    acks.join(MemberId(next_id), &name, Seq(sent), at(edge));
                    acks.hold(&name, Some(held.get(&name).cloned().unwrap_or(at(edge))));
                    readers.insert(who, Reader { id: MemberId(next_id), durable: sent, entered: false });
                }
                5 => if let Some(reader) = readers.get_mut(&who) {
                    reader.durable = (reader.durable + by).min(sent);
                    acks.consumer_durable(reader.id, Seq(reader.durable));
                }
                6 => if let Some(reader) = readers.get_mut(&who) {
                    reader.entered = true;
                    acks.enter(reader.id, &at(0));
                }
                7 => if let Some(reader) = readers.remove(&who) {
                    prop_assert_eq!(acks.leave(reader.id), reader.entered);
                    if !reader.entered {
                        acks.hold(&name, held.get(&name).cloned());
                    }
                }
                _ => {}
            }
            if by > 3 {
                continue; // taken with the next step
            }
            let before: BTreeMap<_, _> = state.clone();
            let update = acks.take();
            for (name, place) in &update.consumers {
                match place {
                    Place::Live(position) => {
                        let reader = &readers[&name[1..].parse::<usize>().unwrap()];
                        prop_assert_eq!(position, &at(last_marked(reader.durable)));
                        held.remove(name);
                    }
                    Place::Parked(parked) => {
                        let mut own = before.clone();
                        apply(&mut own, &parked.entries);
                        prop_assert_eq!(at(version_of(&own)), parked.base.clone());
                        prop_assert_eq!(&parked.base, &parked.position);
                        held.insert(name.clone(), parked.base.clone());
                    }
                }
            }
            apply(&mut state, &update.state);
            base = update.base.clone().unwrap_or(base);
            prop_assert_eq!(at(version_of(&state)), base.clone());
            for position in sinks_durable.iter().chain(readers.values().map(|reader| &reader.durable)) {
                prop_assert!(!base.covers(&at(last_marked(*position))));
            }
            let confirmable = acks.confirmable().unwrap();
            prop_assert!(!confirmable.covers(&base));
            for position in held.values() {
                prop_assert!(!confirmable.covers(position), "{:?} is held", position);
            }
        }
    }
}

#[test]
fn a_consumer_on_its_way_holds_the_state_and_nothing_of_its_own() {
    let mut acks = Acks::default().keep_base(Some(at(10)));
    acks.hold("a", Some(at(4)));
    acks.join(MemberId(1), "a", Seq(0), at(10));
    acks.sent(Seq(1), Audience::All, mark(20));
    assert!(acks.take().is_empty(), "the state waits for it");
    assert_eq!(acks.confirmable(), Some(at(4)), "what its lane still needs");
    acks.enter(MemberId(1), &at(15));
    assert_eq!(acks.take().consumers["a"], Place::Live(at(15)));
    assert_eq!(acks.confirmable(), Some(at(10)));
    acks.consumer_durable(MemberId(1), Seq(1));
    let update = acks.take();
    assert_eq!((update.base, update.state.len()), (Some(at(20)), 1));
    assert_eq!(update.consumers["a"], Place::Live(at(20)));
    assert_eq!(acks.confirmable(), Some(at(20)));
}

#[test]
fn one_that_is_ahead_of_the_stream_is_not_taken_back() {
    let mut acks = Acks::default().keep_base(Some(at(10)));
    acks.join(MemberId(1), "a", Seq(0), at(10));
    acks.enter(MemberId(1), &at(30));
    acks.sent(Seq(1), Audience::All, mark(20));
    acks.consumer_durable(MemberId(1), Seq(1));
    assert!(acks.leave(MemberId(1)));
    let update = acks.take();
    let Place::Parked(parked) = &update.consumers["a"] else { panic!("{update:?}") };
    assert_eq!((&parked.position, &parked.base), (&at(30), &at(20)), "its state is of the stream's place");
    assert_eq!(acks.confirmable(), Some(at(20)));
}
