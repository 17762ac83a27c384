//! What every store refuses, whatever it is made of.

use std::collections::BTreeMap;

use super::{Continuity, OffsetUpdate};
use crate::error::{Error, Result};
use crate::record::{Lineage, Position, SinkOffset};

/// A bound store stays with its kind, database and stream, and with its server unless another one was proven to hold the
/// same log; its timeline only moves forward.
pub(super) fn may_bind(stored: Option<&Lineage>, offered: &Lineage, continuity: Continuity) -> Result<()> {
    let Some(stored) = stored else { return Ok(()) };
    let system = match continuity {
        Continuity::Unproven => &offered.system,
        Continuity::Proven => &stored.system,
    };
    let fields = [
        ("kind", &stored.kind, &offered.kind),
        ("system", &stored.system, system),
        ("database", &stored.database, &offered.database),
        ("stream", &stored.stream, &offered.stream),
    ];
    let mut differences: Vec<String> = fields
        .into_iter()
        .filter(|(_, stored, offered)| stored != offered)
        .map(|(field, stored, offered)| format!("{field} {stored:?} is stored, {offered:?} is there"))
        .collect();
    // Numbers where they are numbers (Postgres counts timelines); names have no order to go back in.
    if let (Ok(before), Ok(now)) = (stored.timeline.parse::<u64>(), offered.timeline.parse::<u64>())
        && now < before
    {
        differences.push(format!("timeline {before} is stored, the server is back on {now}"));
    }
    if differences.is_empty() {
        return Ok(());
    }
    let message = format!("the stored offsets belong to another stream: {}; stored: {stored}", differences.join("; "));
    Err(Error::lost(message).remedy(
        "point the source at the server the offsets are from, use another state directory, or forget them with \
         `walbrook offsets reset`",
    ))
}

pub(super) fn may_commit(
    lineage: Option<&Lineage>,
    stored: &BTreeMap<String, SinkOffset>,
    update: &OffsetUpdate,
) -> Result<()> {
    if lineage.is_none() {
        return Err(Error::bug("storing offsets in a store that is not bound to a lineage"));
    }
    for (name, new) in &update.sinks {
        may_move(name, stored.get(name).and_then(|offset| offset.position.as_ref()), new.position.as_ref())?;
    }
    Ok(())
}

/// A position does not go back.
pub(super) fn may_move(name: &str, old: Option<&Position>, new: Option<&Position>) -> Result<()> {
    let Some(old) = old else { return Ok(()) };
    let back = match new {
        None => Some("none".to_owned()),
        Some(new) => old.covers(new).then(|| new.to_string()),
    };
    match back {
        Some(back) => Err(Error::bug(format!("the position of {name:?} would go back from {old} to {back}"))),
        None => Ok(()),
    }
}

pub(super) fn may_set(lineage: Option<&Lineage>, sink: &str) -> Result<()> {
    match lineage {
        Some(_) => Ok(()),
        None => {
            Err(Error::config(format!("setting the offset of sink {sink:?}: the store has not met its source yet"))
                .remedy("a position means nothing without the server it is from: connect to the source first"))
        }
    }
}
