//! The store on disk against the one in memory, which is its model, with consumers that come, go and are moved.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::record::Lsn;

fn at(lsn: u64) -> Position {
    Position::Postgres(Lsn(lsn))
}

fn lineage() -> Lineage {
    let text = |text: &str| text.to_owned();
    Lineage { kind: text("k"), system: text("s"), timeline: text("1"), database: text("d"), stream: text("slot") }
}

#[derive(Clone, Debug)]
enum Step {
    /// Base and state, and what happens to consumers.
    Commit(u64, Vec<StateEntry>, Vec<(String, Place)>),
    Own(String, u64, OffsetUpdate),
    Change(String, ConsumerChange),
    Order(Orders),
    ParkLive,
    Reopen,
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // One is the beginning of another's name.
    let name = || prop_oneof![Just("a".to_owned()), Just("a.b".to_owned()), Just("b".to_owned())];
    let entry = (prop::collection::vec(prop_oneof![Just(b'/'), Just(b'm')], 0..3), any::<Option<u8>>())
        .prop_map(|(key, value)| StateEntry { key, value: value.map(|value| vec![value]) });
    let entries = prop::collection::vec(entry, 0..4).boxed();
    let place = (0u64..20, 0u64..20, entries.clone(), any::<bool>()).prop_map(|(position, base, entries, lives)| {
        let parked = Parked { position: at(position), base: at(base), entries };
        if lives { Place::Live(at(position)) } else { Place::Parked(parked) }
    });
    let commit = (0u64..20, entries.clone(), prop::collection::vec((name(), place), 0..3))
        .prop_map(|(base, entries, places)| Step::Commit(base, entries, places));
    let own = (name(), 0u64..4, 0u64..20, entries).prop_map(|(name, epoch, position, state)| {
        let sinks = [(name.clone(), SinkOffset { position: Some(at(position)), token: None })].into();
        Step::Own(name, epoch, OffsetUpdate { sinks, state, base: Some(at(position)), ..OffsetUpdate::default() })
    });
    let change = prop_oneof![
        (0u64..6).prop_map(|epoch| ConsumerChange::Attach { epoch }),
        (0u64..6, 0u64..20).prop_map(|(epoch, lsn)| ConsumerChange::Begin { epoch, place: NewPlace::At(at(lsn)) }),
        (0u64..6).prop_map(|epoch| ConsumerChange::Begin { epoch, place: NewPlace::Snapshot }),
        Just(ConsumerChange::Stand(Standing::Paused)),
        Just(ConsumerChange::Stand(Standing::Detached("late".to_owned()))),
        (0u64..9).prop_map(|bytes| ConsumerChange::Lag(Lag { bytes, since_unix_ms: bytes })),
        Just(ConsumerChange::Bind(Lineage { timeline: "2".to_owned(), ..lineage() })),
        Just(ConsumerChange::Drop),
    ];
    let step = prop_oneof![
        6 => commit,
        3 => own,
        8 => (name(), change).prop_map(|(name, change)| Step::Change(name, change)),
        1 => name().prop_map(|name| Step::Order(Orders { paused: [name].into(), ..Orders::default() })),
        1 => Just(Step::Order(Orders::default())),
        1 => Just(Step::ParkLive),
        2 => Just(Step::Reopen),
        1 => Just(Step::Reset),
    ];
    prop::collection::vec(step, 1..40)
}

fn play(store: &mut dyn OffsetStore, step: &Step) -> bool {
    match step {
        Step::Commit(base, state, places) => {
            let (base, consumers) = (Some(at(*base)), places.iter().cloned().collect());
            store.commit(&OffsetUpdate { state: state.clone(), base, consumers, ..OffsetUpdate::default() }).is_ok()
        }
        Step::Own(name, epoch, update) => store.commit_consumer(name, *epoch, update).is_ok(),
        Step::Change(name, change) => store.change_consumer(name, change).is_ok(),
        Step::Order(orders) => store.order(orders).is_ok(),
        Step::ParkLive => store.park_live().is_ok(),
        Step::Reopen => true,
        Step::Reset => store.reset().is_ok() && store.bind(&lineage(), Continuity::Unproven).is_ok(),
    }
}

fn bound(dir: &Path) -> RocksStore {
    let mut store = RocksStore::open(dir).unwrap();
    store.bind(&lineage(), Continuity::Unproven).unwrap();
    store
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn both_stores_do_the_same(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, mut model) = (bound(dir.path()), MemoryStore::default());
        model.bind(&lineage(), Continuity::Unproven).unwrap();
        for step in steps {
            prop_assert_eq!(play(&mut store, &step), play(&mut model, &step), "{:?}", step);
            if matches!(step, Step::Reopen) {
                drop(store);
                store = RocksStore::open(dir.path()).unwrap();
            }
            prop_assert_eq!(store.load().unwrap(), model.load().unwrap(), "{:?}", step);
            prop_assert_eq!(store.consumers(), model.consumers());
            for name in ["a", "a.b", "b"] {
                prop_assert_eq!(store.consumer(name).ok(), model.consumer(name).ok(), "{} after {:?}", name, step);
            }
        }
    }
}

#[test]
fn a_consumer_that_parks_takes_the_state_of_its_place_with_it() {
    let mut store = MemoryStore::default();
    store.bind(&lineage(), Continuity::Unproven).unwrap();
    let entry = |value: u8| StateEntry { key: b"table".to_vec(), value: Some(vec![value]) };
    let step = |base, state, place| OffsetUpdate {
        state,
        base: Some(at(base)),
        consumers: [("a".to_owned(), place)].into(),
        ..OffsetUpdate::default()
    };
    store.change_consumer("a", &ConsumerChange::Begin { epoch: 1, place: NewPlace::At(at(5)) }).unwrap();
    store.commit(&step(5, vec![entry(1)], Place::Live(at(5)))).unwrap();
    assert!(store.consumer("a").is_err(), "live: no namespace");
    // In the step that parks it the others go on to a newer state.
    let parked = Parked { position: at(9), base: at(9), entries: vec![entry(2)] };
    store.commit(&step(20, vec![entry(2), entry(3)], Place::Parked(parked))).unwrap();
    let own = store.consumer("a").unwrap();
    assert_eq!(own.state[&b"table"[..]], [2]);
    assert_eq!((own.base, own.sinks["a"].position.clone()), (Some(at(9)), Some(at(9))));
    assert_eq!(store.load().unwrap().state[&b"table"[..]], [3]);
    // An older epoch stores nothing.
    let late = OffsetUpdate { base: Some(at(10)), ..OffsetUpdate::default() };
    assert!(store.commit_consumer("a", 0, &late).is_err());
    store.commit_consumer("a", 1, &late).unwrap();
    assert_eq!(store.consumers()["a"].hold(), Some(at(9)), "its position");
}
