//! `offsets show|set|reset`: the offset store by hand.
//!
//! Invariants:
//! - `show` opens the store for reading only, so that it works beside a running walbrook; `set` and `reset` open it as
//!   its one writer, so that they are refused beside one.
//! - None of them makes a store where there is none.

use std::path::Path;

use serde_json::{Value, json};

use super::plan::{Offsets, OffsetsAction, ServerOf, listed};
use super::{build, report};
use crate::error::{Class, Error, Result};
use crate::offset::{Checkpoint, Consumer, OffsetStore, RocksStore, Standing};
use crate::record::{Position, SinkOffset};
use crate::source::tables::Added;
use crate::source::{Rows, Verdict};

/// What the server says about the stored positions.
enum Answer {
    NotAsked,
    /// Nothing is stored that it could cover.
    Cold,
    Told {
        needed: Position,
        verdict: Verdict,
    },
    Unknown(Error),
}

/// The exit code: 0; 3 for a lost position, 1 when the server could not be asked.
pub async fn run(offsets: Offsets) -> Result<u8> {
    let dir = offsets.state_dir.as_path();
    match offsets.action {
        OffsetsAction::Show { source, json } => show(dir, source, json).await,
        OffsetsAction::Set { sink, position } => set(dir, &sink, position).map(|()| 0),
        OffsetsAction::Reset => reset(dir).map(|()| 0),
    }
}

async fn show(dir: &Path, server: Option<ServerOf>, as_json: bool) -> Result<u8> {
    let checkpoint = RocksStore::open_read_only(dir)?.load()?;
    let (answer, interrupted) = match server {
        None => (Answer::NotAsked, None),
        Some(server) => ask(server, &checkpoint).await?,
    };
    if as_json {
        report::answer_json(&as_value(dir, &checkpoint, &answer, interrupted.as_ref()))?;
    } else {
        report::answer(&as_table(dir, &checkpoint, &answer, interrupted.as_ref()))?;
    }
    Ok(match answer {
        Answer::NotAsked | Answer::Cold | Answer::Told { verdict: Verdict::Valid, .. } => 0,
        Answer::Told { verdict: Verdict::Lost(_), .. } => Class::Lost.exit_code(),
        Answer::Unknown(error) => error.class().exit_code(),
    })
}

/// The verdict on the earliest position, and where an unfinished snapshot stands.
async fn ask(server: ServerOf, checkpoint: &Checkpoint) -> Result<(Answer, Option<Position>)> {
    let ServerOf { source: mut config, slot_from_store } = server;
    if let (true, Some(lineage), Some(postgres)) =
        (slot_from_store, &checkpoint.lineage, config.database.postgres_mut())
    {
        postgres.slot = Some(lineage.stream.clone());
    }
    let mut source = build::source(&config, &Added::default())?;
    let interrupted = source.interrupted(Rows::All, &checkpoint.state)?;
    let needed = needed(checkpoint, interrupted.clone());
    let answer = match (&checkpoint.lineage, needed) {
        (Some(lineage), Some(needed)) => {
            let verdict = async {
                source.lineage().await?;
                source.retention(lineage, &needed).await
            };
            match verdict.await {
                Ok(verdict) => Answer::Told { needed, verdict },
                Err(error) => return Ok((Answer::Unknown(error), interrupted)),
            }
        }
        _ => Answer::Cold,
    };
    if let Err(error) = source.close(None).await {
        tracing::debug!(?error, "leaving the source");
    }
    Ok((answer, interrupted))
}

/// The earliest position of the store: of sinks, of what is held for consumers, of an unfinished snapshot.
pub(super) fn needed(checkpoint: &Checkpoint, interrupted: Option<Position>) -> Option<Position> {
    let positions = checkpoint.sinks.values().filter_map(|offset| offset.position.clone());
    let held = checkpoint.consumers.values().filter_map(Consumer::hold);
    positions.chain(held).chain(checkpoint.base.clone()).chain(interrupted).reduce(Position::earlier)
}

/// A sink's own mark as text where it is one, else its size.
fn token(offset: &SinkOffset) -> Option<String> {
    let token = offset.token.as_deref()?;
    match std::str::from_utf8(token) {
        Ok(text) if !text.chars().any(char::is_control) => Some(text.to_owned()),
        _ => Some(format!("{} bytes", token.len())),
    }
}

fn standing(consumer: &Consumer) -> &'static str {
    match consumer.standing {
        Standing::Live => "live",
        Standing::Parked => "parked",
        Standing::Paused => "paused",
        Standing::Detached(_) => "detached",
    }
}

fn state_bytes(checkpoint: &Checkpoint) -> usize {
    checkpoint.state.iter().map(|(key, value)| key.len() + value.len()).sum()
}

fn as_value(dir: &Path, checkpoint: &Checkpoint, answer: &Answer, interrupted: Option<&Position>) -> Value {
    let lineage = checkpoint.lineage.as_ref().map(|lineage| {
        json!({
            "kind": lineage.kind, "system": lineage.system, "timeline": lineage.timeline,
            "database": lineage.database, "stream": lineage.stream,
        })
    });
    let paused = &checkpoint.orders.paused;
    let sink = |name: &str, offset: &SinkOffset| {
        let position = offset.position.as_ref().map(ToString::to_string);
        json!({ "position": position, "token": token(offset), "paused": paused.contains(name) })
    };
    let added = checkpoint.orders.added.keys().map(|(schema, table)| json!({ "schema": schema, "table": table }));
    let sinks: serde_json::Map<String, Value> =
        checkpoint.sinks.iter().map(|(name, offset)| (name.clone(), sink(name, offset))).collect();
    let consumer = |consumer: &Consumer| {
        let detached = match &consumer.standing {
            Standing::Detached(why) => Some(why),
            _ => None,
        };
        json!({
            "position": consumer.position.as_ref().map(ToString::to_string),
            "holds": consumer.hold().as_ref().map(ToString::to_string),
            "state": standing(consumer), "detached": detached, "epoch": consumer.epoch,
        })
    };
    let consumers: serde_json::Map<String, Value> =
        checkpoint.consumers.iter().map(|(name, known)| (name.clone(), consumer(known))).collect();
    let retention = match answer {
        Answer::NotAsked => Value::Null,
        Answer::Cold => json!({ "verdict": "cold" }),
        Answer::Told { needed, verdict: Verdict::Valid } => {
            json!({ "verdict": "valid", "from": needed.to_string() })
        }
        Answer::Told { verdict: Verdict::Lost(gap), .. } => json!({
            "verdict": "lost", "why": gap.why, "from": gap.from.to_string(),
            "to": gap.to.as_ref().map(ToString::to_string), "bytes": gap.bytes,
        }),
        Answer::Unknown(error) => json!({ "verdict": "unknown", "error": format!("{error:?}") }),
    };
    json!({
        "state_dir": dir.display().to_string(),
        "lineage": lineage,
        "stream": checkpoint.base.as_ref().map(ToString::to_string),
        "sinks": sinks,
        "consumers": consumers,
        "added_tables": added.collect::<Vec<_>>(),
        "snapshot": { "interrupted_at": interrupted.map(ToString::to_string) },
        "state": { "entries": checkpoint.state.len(), "bytes": state_bytes(checkpoint) },
        "retention": retention,
    })
}

fn as_table(dir: &Path, checkpoint: &Checkpoint, answer: &Answer, interrupted: Option<&Position>) -> String {
    let mut lines = vec![("store".to_owned(), dir.display().to_string())];
    let lineage = checkpoint.lineage.as_ref().map_or("none: nothing is stored yet".to_owned(), ToString::to_string);
    lines.push(("lineage".to_owned(), lineage));
    for (name, offset) in &checkpoint.sinks {
        let position = offset.position.as_ref().map_or("its snapshot is not complete".to_owned(), ToString::to_string);
        let token = token(offset).map(|token| format!("  ({token})")).unwrap_or_default();
        let paused = if checkpoint.orders.paused.contains(name) { "  (paused)" } else { "" };
        lines.push((format!("sink {name}"), position + &token + paused));
    }
    for (schema, table) in checkpoint.orders.added.keys() {
        lines.push(("added table".to_owned(), format!("{schema}.{table}")));
    }
    if let Some(base) = &checkpoint.base {
        lines.push(("stream".to_owned(), base.to_string()));
    }
    for (name, consumer) in &checkpoint.consumers {
        let position =
            consumer.position.as_ref().map_or("its snapshot is not complete".to_owned(), ToString::to_string);
        let why = match &consumer.standing {
            Standing::Detached(why) => format!(": {why}"),
            _ => String::new(),
        };
        lines.push((format!("consumer {name}"), format!("{position}  ({}{why})", standing(consumer))));
    }
    if let Some(position) = interrupted {
        lines.push(("snapshot".to_owned(), format!("interrupted; its finished chunks stand at {position}")));
    }
    let entries = checkpoint.state.len();
    lines.push(("state".to_owned(), format!("{entries} entries, {} bytes", state_bytes(checkpoint))));
    let verdict = match answer {
        Answer::NotAsked => "not asked".to_owned(),
        Answer::Cold => "cold: no position is stored".to_owned(),
        Answer::Told { needed, verdict: Verdict::Valid } => format!("valid: the server covers {needed}"),
        Answer::Told { verdict: lost, .. } => lost.to_string(),
        Answer::Unknown(error) => format!("unknown: {}", report::explain(error).trim_start_matches("error: ")),
    };
    lines.push(("retention".to_owned(), verdict));
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    lines.iter().map(|(name, text)| format!("{name:<width$}  {text}\n")).collect()
}

/// The store as its one writer, and what it holds. Errors: `Config` when there is none, or when it is in use.
fn open_existing(dir: &Path) -> Result<(RocksStore, Checkpoint)> {
    drop(RocksStore::open_read_only(dir)?);
    let store = RocksStore::open(dir)?;
    let checkpoint = store.load()?;
    Ok((store, checkpoint))
}

fn set(dir: &Path, sink: &str, position: Position) -> Result<()> {
    let (mut store, checkpoint) = open_existing(dir)?;
    let Some(offset) = checkpoint.sinks.get(sink) else {
        return Err(Error::config(format!("the store in {} knows no sink {sink:?}", dir.display()))
            .remedy(format!("the sinks it knows: {}", listed(checkpoint.sinks.keys()))));
    };
    let before = offset.position.as_ref().map_or("no position".to_owned(), ToString::to_string);
    // The sink's own mark belongs to the old position.
    store.set(sink, &SinkOffset { position: Some(position.clone()), token: None })?;
    report::answer(&format!(
        "sink {sink}: {before} -> {position}\nThe next start proves that the server still covers it.\n"
    ))
}

fn reset(dir: &Path) -> Result<()> {
    let (mut store, checkpoint) = open_existing(dir)?;
    store.reset()?;
    let stream = checkpoint.lineage.map(|lineage| {
        let slot = if lineage.stream.is_empty() { "" } else { " Its slot stays on the server." };
        format!("\nForgotten: {lineage}.{slot}")
    });
    report::answer(&format!(
        "{} is empty: {} sinks, {} consumers and {} entries of state are forgotten; the next start is a cold one.{}\n",
        dir.display(),
        checkpoint.sinks.len(),
        checkpoint.consumers.len(),
        checkpoint.state.len(),
        stream.unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offset::{Continuity, Orders};
    use crate::record::{Lineage, Lsn};
    use crate::source::Gap;

    fn at(lsn: u64) -> Position {
        Position::Postgres(Lsn(lsn))
    }

    fn lineage() -> Lineage {
        Lineage {
            kind: "postgres".into(),
            system: "7".into(),
            timeline: "1".into(),
            database: "shop".into(),
            stream: "walbrook".into(),
        }
    }

    fn checkpoint() -> Checkpoint {
        let offset = |lsn, token: Option<&[u8]>| SinkOffset { position: lsn, token: token.map(<[u8]>::to_vec) };
        Checkpoint {
            lineage: Some(lineage()),
            sinks: [
                ("audit".to_owned(), offset(Some(at(16)), Some(b"changes.ndjson 10"))),
                ("eyes".to_owned(), offset(None, Some(&[0, 1]))),
            ]
            .into(),
            state: [(b"k".to_vec(), b"value".to_vec())].into(),
            base: Some(at(18)),
            consumers: [
                ("bill".to_owned(), Consumer { epoch: 2, position: Some(at(17)), ..Consumer::default() }),
                (
                    "late".to_owned(),
                    Consumer {
                        position: Some(at(1)),
                        standing: Standing::Detached("24 h behind".into()),
                        ..Consumer::default()
                    },
                ),
            ]
            .into(),
            orders: Orders {
                paused: ["audit".to_owned()].into(),
                added: [(("public".to_owned(), "late".to_owned()), None)].into(),
            },
        }
    }

    #[test]
    fn a_table_and_a_document_of_the_same() {
        let gap = Gap { from: at(16), to: Some(at(32)), bytes: Some(16), why: "slot dropped".into() };
        let answer = Answer::Told { needed: at(16), verdict: Verdict::Lost(gap) };
        let table = as_table(Path::new("/state"), &checkpoint(), &answer, None);
        let expected = "\
store          /state
lineage        postgres system 7, timeline 1, database \"shop\", stream \"walbrook\"
sink audit     0/10  (changes.ndjson 10)  (paused)
sink eyes      its snapshot is not complete  (2 bytes)
added table    public.late
stream         0/12
consumer bill  0/11  (parked)
consumer late  0/1  (detached: 24 h behind)
state          1 entries, 6 bytes
retention      lost: slot dropped; missing from 0/10 to 0/20 (16 bytes)
";
        assert_eq!(table, expected);
        assert_eq!(needed(&checkpoint(), None), Some(at(16)), "nothing is held for one that is detached");
        let value = as_value(Path::new("/state"), &checkpoint(), &answer, Some(&at(8)));
        assert_eq!(
            value["sinks"]["audit"],
            json!({ "position": "0/10", "token": "changes.ndjson 10", "paused": true })
        );
        let bill = json!({ "position": "0/11", "holds": "0/11", "state": "parked", "detached": null, "epoch": 2 });
        assert_eq!(value["consumers"]["bill"], bill);
        assert_eq!(value["retention"]["verdict"], "lost");
        assert_eq!(value["snapshot"]["interrupted_at"], "0/8");
    }

    #[test]
    fn set_and_reset_change_only_what_they_say() {
        let dir = tempfile::tempdir().unwrap();
        assert!(set(dir.path(), "audit", at(1)).is_err());
        assert!(!dir.path().join("offsets").exists(), "a store was made");
        let mut store = RocksStore::open(dir.path()).unwrap();
        store.bind(&lineage(), Continuity::Unproven).unwrap();
        store.set("audit", &SinkOffset { position: Some(at(16)), token: Some(b"t".to_vec()) }).unwrap();
        assert!(set(dir.path(), "audit", at(1)).is_err(), "while another holds it");
        drop(store);
        let unknown = set(dir.path(), "adit", at(1)).unwrap_err();
        assert!(unknown.remedy_text().unwrap().contains("audit"));
        set(dir.path(), "audit", at(1)).unwrap();
        let stored = RocksStore::open_read_only(dir.path()).unwrap().load().unwrap();
        assert_eq!(stored.sinks["audit"], SinkOffset { position: Some(at(1)), token: None });
        reset(dir.path()).unwrap();
        let stored = RocksStore::open_read_only(dir.path()).unwrap().load().unwrap();
        assert_eq!(stored, Checkpoint::default());
    }
}
