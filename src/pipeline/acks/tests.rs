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
    // The end of the snapshot is a position: from there on a sink stands on its own.
    acks.sent(Seq(4), Audience::Participants, mark(90));
    acks.durable(0, Seq(4), Some(vec![14]));
    assert_eq!(acks.take().sinks["fast"], SinkOffset { position: Some(at(90)), token: Some(vec![14]) });
    acks.durable(1, Seq(2), Some(vec![22]));
    assert!(!acks.take().sinks.contains_key("fast"), "it does not go back");
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
