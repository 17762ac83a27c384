//! What a start does, from what is stored, what is configured and what the server still holds. Pure.
//!
//! Invariants:
//! - A stored position is used only after the server was proven to cover it.
//! - A lost position is never stepped over: the policy says `fail`, or everything starts over.

use std::collections::BTreeMap;

use crate::offset::Checkpoint;
use crate::record::{Position, SinkOffset};

/// Whether the tables' rows are read before their changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotMode {
    /// When nothing is stored yet.
    Initial,
    Never,
    /// As `Initial`, and then end.
    Only,
}

/// Where a sink without a stored position begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    Snapshot,
    Now,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostPolicy {
    Fail,
    Resnapshot,
}

/// What each sink does first.
#[derive(Clone, Debug, PartialEq)]
pub enum Begin {
    /// Go on from its stored position.
    Resume(SinkOffset),
    /// Take part in a snapshot. The offset is what an interrupted one left: no position, perhaps a token.
    Snapshot(SinkOffset),
    /// From the present on.
    Now,
}

#[derive(Debug, PartialEq)]
pub struct Plan {
    /// One for each configured sink, in its order.
    pub begin: Vec<Begin>,
    /// The snapshot goes on from here instead of starting over.
    pub resume_snapshot: Option<Position>,
    /// What the stored state is of, where that is known: the stream begins no later.
    pub base: Option<Position>,
    /// The earliest position that the server must still cover; none on a cold start.
    pub needed: Option<Position>,
}

/// `sinks`: name and where it starts when nothing is stored. `interrupted`: where the finished chunks of an unfinished
/// snapshot stand, if the source's state holds one.
pub fn plan(
    checkpoint: &Checkpoint,
    sinks: &[(String, StartAt)],
    mode: SnapshotMode,
    interrupted: Option<Position>,
) -> Plan {
    let stored: &BTreeMap<String, SinkOffset> = &checkpoint.sinks;
    let begin: Vec<Begin> = sinks
        .iter()
        .map(|(name, start)| match (stored.get(name), mode, start) {
            (Some(offset), _, _) if offset.position.is_some() => Begin::Resume(offset.clone()),
            (_, SnapshotMode::Never, _) | (None, _, StartAt::Now) => Begin::Now,
            (Some(offset), _, _) => Begin::Snapshot(offset.clone()),
            (None, _, StartAt::Snapshot) => Begin::Snapshot(SinkOffset::default()),
        })
        .collect();
    // A snapshot's finished chunks are in the sinks that took part: a sink that did not needs all of them.
    let all_took_part = sinks
        .iter()
        .zip(&begin)
        .filter(|(_, begin)| matches!(begin, Begin::Snapshot(_)))
        .all(|((name, _), _)| stored.contains_key(name));
    let takes_snapshot = begin.iter().any(|begin| matches!(begin, Begin::Snapshot(_)));
    let resume_snapshot = interrupted.filter(|_| takes_snapshot && all_took_part);
    let positions = begin.iter().filter_map(|begin| match begin {
        Begin::Resume(offset) => offset.position.clone(),
        Begin::Snapshot(_) | Begin::Now => None,
    });
    // A store in which no base was kept has the state of its earliest sink.
    let earliest = positions.reduce(Position::earlier);
    let base = checkpoint.base.clone().or_else(|| earliest.clone());
    let needed = earliest.into_iter().chain(resume_snapshot.clone()).chain(checkpoint.base.clone());
    let needed = needed.reduce(Position::earlier);
    Plan { begin, resume_snapshot, base, needed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Lsn;

    fn at(lsn: u64) -> Position {
        Position::Postgres(Lsn(lsn))
    }
    fn stored(sinks: &[(&str, Option<u64>)]) -> Checkpoint {
        let sinks =
            sinks.iter().map(|(name, lsn)| (name.to_string(), SinkOffset { position: lsn.map(at), token: None }));
        Checkpoint { sinks: sinks.collect(), ..Checkpoint::default() }
    }
    fn sinks(names: &[&str]) -> Vec<(String, StartAt)> {
        names.iter().map(|name| (name.to_string(), StartAt::Snapshot)).collect()
    }

    #[test]
    fn a_cold_start_needs_nothing_of_the_server() {
        let plan = plan(&stored(&[]), &sinks(&["a", "b"]), SnapshotMode::Initial, None);
        assert_eq!(plan.begin, [Begin::Snapshot(SinkOffset::default()), Begin::Snapshot(SinkOffset::default())]);
        assert_eq!((plan.needed, plan.resume_snapshot), (None, None));
    }

    #[test]
    fn the_earliest_sink_says_what_is_needed() {
        let plan = plan(
            &stored(&[("a", Some(9)), ("b", Some(4)), ("gone", Some(1))]),
            &sinks(&["a", "b"]),
            SnapshotMode::Initial,
            None,
        );
        assert_eq!(plan.needed, Some(at(4)), "a sink that was removed holds nothing back");
    }

    #[test]
    fn an_interrupted_snapshot_goes_on_only_for_those_who_took_part() {
        let interrupted = Some(at(7));
        let same = plan(
            &stored(&[("a", None), ("b", Some(9))]),
            &sinks(&["a", "b"]),
            SnapshotMode::Initial,
            interrupted.clone(),
        );
        assert_eq!((same.resume_snapshot, same.needed), (Some(at(7)), Some(at(7))));
        let joined = plan(&stored(&[("a", None)]), &sinks(&["a", "c"]), SnapshotMode::Initial, interrupted);
        assert_eq!((joined.resume_snapshot, joined.needed), (None, None));
    }

    #[test]
    fn a_sink_added_later_starts_as_configured() {
        let mut configured = sinks(&["a", "new"]);
        configured[1].1 = StartAt::Now;
        let plan = plan(&stored(&[("a", Some(9))]), &configured, SnapshotMode::Initial, None);
        assert_eq!(plan.begin[1], Begin::Now);
    }
}
