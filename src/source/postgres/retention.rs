//! Whether the server still covers a stored position: proven, or said what is missing.
//!
//! Invariants:
//! - [`verdict`] is pure. *Valid* means: this server's log holds exactly what the stored position has seen before it, and
//!   its slot will send everything from there on. Whatever cannot be proven is *lost*.
//! - A slot whose confirmed position lies beyond the stored one is lost: the server would go on from its own, silently.
//! - Another timeline is a failover only if the server's own history says that the stored timeline is an ancestor, and
//!   that it was left at or behind the stored position.

use super::connection::Connection;
use super::slot::SlotState;
use super::sql::Sql;
use crate::error::{Error, Result};
use crate::record::{Lineage, Lsn, Position};
use crate::source::{Gap, Verdict};

/// What the server says of itself and of the slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The system identifier.
    pub system: String,
    pub timeline: u32,
    /// The timelines before this one, each with the point at which it was left.
    pub history: Vec<(u32, Lsn)>,
    pub database: String,
    /// None where there is no slot of that name.
    pub slot: Option<SlotState>,
    /// The end of the log.
    pub tip: Lsn,
}

impl Observed {
    /// Asks the server: its identity and history over a replication connection, the slot by SQL.
    ///
    /// # Errors
    /// Those of a query; Bug where an answer is not what the manual says.
    pub async fn ask(replication: &mut Connection, sql: &Sql, slot: &str) -> Result<Observed> {
        let answer = replication.simple_query("IDENTIFY_SYSTEM").await?;
        let answer = answer.first().ok_or_else(|| Error::bug("IDENTIFY_SYSTEM has no answer"))?;
        let column = |name: &str| -> Result<String> {
            let value = answer.text(0, name)?;
            Ok(value.ok_or_else(|| Error::bug(format!("IDENTIFY_SYSTEM says no {name}")))?.to_owned())
        };
        let (system, tip, database) = (column("systemid")?, column("xlogpos")?.parse()?, column("dbname")?);
        let timeline = column("timeline")?;
        let timeline: u32 =
            timeline.parse().map_err(|e| Error::bug(format!("reading the timeline {timeline:?}")).because(e))?;
        // The first timeline has no ancestors, and no history file.
        let history = if timeline > 1 {
            let answer = replication.simple_query(&format!("TIMELINE_HISTORY {timeline}")).await?;
            let answer = answer.first().ok_or_else(|| Error::bug("TIMELINE_HISTORY has no answer"))?;
            parse_history(answer.text(0, "content")?.unwrap_or_default())?
        } else {
            Vec::new()
        };
        let slot = SlotState::read(sql.client(), sql.server_version_num(), slot).await?;
        Ok(Observed { system, timeline, history, database, slot, tip })
    }
}

/// Reads a timeline history file: one ancestor a line, oldest first.
///
/// ```text
/// parent timeline, switch point, reason: separated by white space; # begins a comment
/// 1       0/3000148       no recovery target specified
/// ```
///
/// # Errors
/// Bug: a line that is not of this form, timelines that do not ascend.
pub fn parse_history(text: &str) -> Result<Vec<(u32, Lsn)>> {
    let mut history: Vec<(u32, Lsn)> = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let error = || Error::bug(format!("reading the server's timeline history: {line:?}"));
        let mut fields = line.split_whitespace();
        let timeline: u32 = fields.next().and_then(|field| field.parse().ok()).ok_or_else(error)?;
        let switch: Lsn = fields.next().and_then(|field| field.parse().ok()).ok_or_else(error)?;
        if history.last().is_some_and(|(last, _)| *last >= timeline) {
            return Err(error().because("timelines do not ascend"));
        }
        history.push((timeline, switch));
    }
    Ok(history)
}

/// Whether everything from `position` on, stored under `stored`, will still come from the server as observed.
pub fn verdict(stored: &Lineage, position: Lsn, observed: &Observed) -> Verdict {
    let lost = |to: Option<Lsn>, bytes: Option<u64>, why: String| {
        Verdict::Lost(Gap { from: Position::Postgres(position), to: to.map(Position::Postgres), bytes, why })
    };
    if stored.system != observed.system {
        let why = format!("another server: system identifier {} instead of {}", observed.system, stored.system);
        return lost(None, None, why);
    }
    if stored.database != observed.database {
        return lost(None, None, format!("another database: {:?} instead of {:?}", observed.database, stored.database));
    }
    if stored.timeline.parse() != Ok(observed.timeline) {
        let ancestor = observed.history.iter().find(|(timeline, _)| stored.timeline.parse() == Ok(*timeline));
        match ancestor {
            Some((_, switch)) if position <= *switch => {}
            Some((timeline, switch)) => {
                let why = format!(
                    "timeline {timeline} was left at {switch} for timeline {}: what was streamed behind that point never \
                     happened on this server",
                    observed.timeline
                );
                return lost(Some(*switch), None, why);
            }
            None => {
                let why = format!(
                    "another timeline: {}, whose history does not include timeline {}",
                    observed.timeline, stored.timeline
                );
                return lost(None, None, why);
            }
        }
    }
    if position > observed.tip {
        let why = "the position is ahead of the server, which was restored from an older state".to_owned();
        return lost(Some(observed.tip), None, why);
    }
    let name = &stored.stream;
    let Some(slot) = &observed.slot else {
        return lost(None, None, format!("replication slot {name:?} does not exist: it was dropped"));
    };
    if let Some(foreign) = slot.foreign(&observed.database) {
        return lost(None, None, format!("replication slot {name:?} is another one: {foreign}"));
    }
    if slot.temporary && !slot.synced {
        return lost(None, None, format!("replication slot {name:?} is another one: it is temporary"));
    }
    if let Some(why) = slot.invalidated() {
        // What it would have sent is all behind its last confirmed position; how much of that is gone nobody can say.
        return lost(None, None, format!("replication slot {name:?}: {why}"));
    }
    match slot.confirmed_flush_lsn {
        None => lost(None, None, format!("replication slot {name:?} has no confirmed position")),
        Some(confirmed) if confirmed > position => {
            let why = format!("replication slot {name:?} is confirmed up to {confirmed} already and cannot go back");
            lost(Some(confirmed), Some(confirmed.0 - position.0), why)
        }
        Some(_) => Verdict::Valid,
    }
}

/// What the operator should know of a slot that still covers its position.
pub fn warning(slot: &SlotState) -> Option<String> {
    let name = &slot.name;
    match slot.wal_status.as_deref() {
        Some("unreserved") => Some(format!(
            "replication slot {name:?} is behind max_slot_wal_keep_size (wal_status unreserved): \
             it is lost at the next checkpoint unless it catches up before"
        )),
        Some("extended") => slot.safe_wal_size_bytes.map(|bytes| {
            format!("replication slot {name:?} holds more log than max_wal_size; it is lost {bytes} bytes from now")
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(timeline: u32) -> Lineage {
        Lineage {
            kind: "postgres".into(),
            system: "7".into(),
            timeline: timeline.to_string(),
            database: "shop".into(),
            stream: "walbrook".into(),
        }
    }

    fn slot(confirmed: u64) -> SlotState {
        SlotState {
            name: "walbrook".into(),
            plugin: Some("pgoutput".into()),
            slot_type: "logical".into(),
            database: Some("shop".into()),
            restart_lsn: Some(Lsn(confirmed)),
            confirmed_flush_lsn: Some(Lsn(confirmed)),
            wal_status: Some("reserved".into()),
            ..SlotState::default()
        }
    }

    fn observed() -> Observed {
        Observed {
            system: "7".into(),
            timeline: 3,
            history: vec![(1, Lsn(100)), (2, Lsn(200))],
            database: "shop".into(),
            slot: Some(slot(50)),
            tip: Lsn(300),
        }
    }

    fn why(stored: &Lineage, position: u64, observed: &Observed) -> String {
        match verdict(stored, Lsn(position), observed) {
            Verdict::Valid => "valid".into(),
            lost => lost.to_string(),
        }
    }

    #[test]
    fn every_reason_is_told() {
        let now = observed;
        assert_eq!(why(&stored(3), 50, &now()), "valid");
        assert_eq!(why(&stored(3), 300, &now()), "valid");
        assert_eq!(why(&stored(1), 100, &now()), "valid", "a failover at exactly the stored position");
        let with = |change: fn(&mut SlotState)| {
            let mut observed = now();
            change(observed.slot.as_mut().unwrap());
            why(&stored(3), 60, &observed)
        };
        assert_eq!(with(|s| s.wal_status = Some("unreserved".into())), "valid");
        assert_eq!(with(|s| s.wal_status = Some("extended".into())), "valid");
        for (found, expected) in [
            (why(&stored(3), 50, &Observed { system: "8".into(), ..now() }), "another server: system identifier 8"),
            (why(&stored(3), 50, &Observed { database: "other".into(), ..now() }), "another database: \"other\""),
            (why(&stored(1), 101, &now()), "timeline 1 was left at 0/64"),
            (why(&stored(4), 50, &now()), "history does not include timeline 4"),
            (why(&stored(3), 301, &now()), "ahead of the server"),
            (why(&stored(3), 50, &Observed { slot: None, ..now() }), "was dropped"),
            (why(&stored(3), 49, &now()), "cannot go back; missing from 0/31 to 0/32 (1 bytes)"),
            (with(|s| s.plugin = Some("wal2json".into())), "its plugin is wal2json"),
            (with(|s| s.database = Some("x".into())), "belongs to database x"),
            (with(|s| s.slot_type = "physical".into()), "physical slot"),
            (with(|s| s.temporary = true), "temporary"),
            (with(|s| s.wal_status = Some("lost".into())), "wal_status lost"),
            (with(|s| s.conflicting = true), "conflict with recovery"),
            (with(|s| s.invalidation_reason = Some("wal_removed".into())), "max_slot_wal_keep_size"),
            (with(|s| s.invalidation_reason = Some("rows_removed".into())), "rows_removed"),
            (with(|s| s.invalidation_reason = Some("wal_level_insufficient".into())), "wal_level was lowered"),
            (with(|s| s.invalidation_reason = Some("idle_timeout".into())), "idle_replication_slot_timeout"),
            (with(|s| s.invalidation_reason = Some("new_reason".into())), "new_reason"),
            (with(|s| s.restart_lsn = None), "holds no log"),
            (with(|s| s.confirmed_flush_lsn = None), "no confirmed position"),
        ] {
            assert!(found.starts_with("lost: ") && found.contains(expected), "{expected}: {found}");
        }
    }

    #[test]
    fn an_endangered_slot_is_told() {
        assert_eq!(warning(&slot(1)), None);
        assert!(warning(&SlotState { wal_status: Some("unreserved".into()), ..slot(1) }).is_some());
        let extended = SlotState { wal_status: Some("extended".into()), safe_wal_size_bytes: Some(7), ..slot(1) };
        assert!(warning(&extended).unwrap().contains("7 bytes"));
    }

    #[test]
    fn history_files() {
        let text = "1\t0/3000148\tno recovery target specified\n\n# comment\n  2\t16/B374D848\tbefore 2000-01-01\n";
        assert_eq!(parse_history(text).unwrap(), [(1, Lsn(0x300_0148)), (2, Lsn(0x16_B374_D848))]);
        assert_eq!(parse_history("").unwrap(), []);
        for wrong in ["1", "x\t0/1", "1\t0", "2\t0/1\tx\n1\t0/2\tx", "1 0/1\n1 0/1"] {
            assert!(parse_history(wrong).is_err(), "{wrong:?}");
        }
    }

    /// A branch of history in the model: every byte ever written has a number of its own, and a branch is the list of its
    /// bytes. A fork copies its parent's up to a point.
    #[derive(Clone, Debug)]
    struct Branch {
        bytes: Vec<u64>,
        history: Vec<(u32, Lsn)>,
    }

    fn branches(forks: &[(usize, usize, usize)]) -> Vec<Branch> {
        let mut next = 0;
        let mut write = |bytes: &mut Vec<u64>, count: usize| {
            bytes.extend(next..next + count as u64);
            next += count as u64;
        };
        let mut first = Branch { bytes: vec![], history: vec![] };
        write(&mut first.bytes, 20);
        let mut all = vec![first];
        for (parent, at, count) in forks {
            let parent = parent % all.len();
            let at = at % (all[parent].bytes.len() + 1);
            let mut history = all[parent].history.clone();
            history.retain(|(_, switch)| switch.0 <= at as u64);
            // A fork below an ancestor's own switch point would be that ancestor's fork: the server names it so.
            if history.len() == all[parent].history.len() {
                history.push((parent as u32 + 1, Lsn(at as u64)));
                let mut bytes = all[parent].bytes[..at].to_vec();
                write(&mut bytes, *count);
                all.push(Branch { bytes, history });
            }
        }
        all
    }

    proptest! {
        #[test]
        fn valid_is_exactly_when_nothing_is_missing_or_different(
            forks in prop::collection::vec((0usize..5, 0usize..40, 0usize..20), 0..5),
            (seen_on, now_on) in (0usize..6, 0usize..6),
            (position, confirmed) in (0usize..45, 0usize..45),
            has_slot in prop::bool::weighted(0.9),
        ) {
            let all = branches(&forks);
            let (seen_on, now_on) = (seen_on % all.len(), now_on % all.len());
            let (seen, now) = (&all[seen_on], &all[now_on]);
            let position = position % (seen.bytes.len() + 1);
            let observed = Observed {
                timeline: now_on as u32 + 1,
                history: now.history.clone(),
                slot: has_slot.then(|| slot(confirmed as u64)),
                tip: Lsn(now.bytes.len() as u64),
                ..observed()
            };
            let verdict = verdict(&stored(seen_on as u32 + 1), Lsn(position as u64), &observed);

            // What the consumer ends up with: what it has seen, then what the slot sends.
            let start = confirmed.max(position);
            let whole = has_slot
                && start <= now.bytes.len()
                && [&seen.bytes[..position], &now.bytes[start..]].concat() == now.bytes;
            let ancestor = seen_on == now_on || now.history.iter().any(|(t, _)| *t == seen_on as u32 + 1);
            if verdict == Verdict::Valid {
                prop_assert!(whole && ancestor);
            } else {
                prop_assert!(!(whole && ancestor), "{verdict}");
            }
        }

        #[test]
        fn history_never_panics(text in ".*") {
            let _ = parse_history(&text);
        }
    }
}
