//! Whether the process lives, and whether what it delivers is current: each with the reason.
//!
//! Invariants:
//! - *Ready* means: the log is streamed, nothing fails, and every sink either got something durable within
//!   [`STANDSTILL_MS`], or had all of the server's log when it was looked at last, within [`LOOK_VALID_MS`]. What cannot be
//!   proven is not ready.
//! - *Alive* means that the tasks turn. A server, a disk or a sink that refuses is no reason to kill the process: it
//!   tries again by itself.
//! - Consumers over the network do not count: one that stands still is no reason to send the others away. Without a sink
//!   it is the reading of the log that must advance.

use std::fmt::Write;

use crate::flow::{Member, Phase, Progress, Role};

/// Far longer than any sink's batch takes, far shorter than what anyone would call current.
pub const STANDSTILL_MS: u64 = 15_000;
/// Ten looks.
const LOOK_VALID_MS: u64 = 10_000;
/// The stream turns every second whatever the sinks do, and a write of the store takes milliseconds: a minute is a hang,
/// of a disk that does not answer, or of ours.
const TURN_MAX_MS: u64 = 60_000;

/// Yes or no, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub yes: bool,
    /// One line, for people.
    pub reason: String,
}

fn no(reason: impl Into<String>) -> Answer {
    Answer { yes: false, reason: reason.into() }
}

/// Whether the process's tasks turn.
pub fn liveness(progress: &Progress) -> Answer {
    let hangs = |silent: Option<u64>| silent.filter(|silent| *silent > TURN_MAX_MS).map(|silent| silent / 1000);
    if let Some(silent_s) = hangs(progress.reader.silent_ms()) {
        return no(format!("the task that reads the log has not turned for {silent_s} s"));
    }
    if let Some(silent_s) = hangs(progress.storing.silent_ms()) {
        return no(format!("a write of the offset store has not returned for {silent_s} s"));
    }
    Answer { yes: true, reason: "alive".to_owned() }
}

/// Whether positions advance, or there is provably nothing to advance over.
pub fn readiness(progress: &Progress) -> Answer {
    let trouble = progress.source.current();
    let with_trouble = |mut reason: String| {
        if let Some(trouble) = &trouble {
            let _ = write!(reason, "; last error: {trouble}");
        }
        no(one_line(&reason))
    };
    match progress.phase() {
        Phase::Starting => return with_trouble("starting: the source is being made ready".to_owned()),
        Phase::Draining => return with_trouble("draining: nothing more is read".to_owned()),
        Phase::Snapshot => return with_trouble(snapshot(progress)),
        Phase::Stream => {}
    }
    if let Some(trouble) = trouble {
        return no(one_line(&format!("reconnecting to the source: {trouble}")));
    }
    if let Some(trouble) = progress.store.current() {
        return no(one_line(&format!("the offset store cannot be written: {trouble}")));
    }
    if let Some(silent_ms) = progress.storing.silent_ms().filter(|silent| *silent > STANDSTILL_MS) {
        return no(format!("a write of the offset store has not returned for {} s", silent_ms / 1000));
    }
    let Some(seen) = progress.observation() else {
        return match progress.observer.current() {
            Some(error) => no(one_line(&format!("the server's log has not been looked at yet: {error}"))),
            None => no("starting: the server's log has not been looked at yet"),
        };
    };
    if let Some(trouble) = &seen.observation.trouble {
        return no(one_line(trouble));
    }
    let sinks: Vec<_> = progress.members().into_iter().filter(|member| member.role == Role::Sink).collect();
    if let Some(reason) = sinks.iter().find_map(|sink| stuck(sink, progress)) {
        return no(reason);
    }
    let unanswered = (seen.age_ms() > LOOK_VALID_MS)
        .then(|| progress.observer.current().unwrap_or_else(|| "it does not answer".to_owned()));
    let standing_ms = progress.reading_stands_ms();
    if sinks.is_empty() && standing_ms > STANDSTILL_MS {
        return no(reading_stands(standing_ms, progress.lag_bytes(), unanswered.as_deref()));
    }
    let quiet = sinks.iter().find(|sink| !sink.is_paused() && sink.quiet_ms() > STANDSTILL_MS);
    if let (Some(quiet), Some(error)) = (quiet, unanswered) {
        return no(one_line(&format!(
            "sink {} has got nothing for {} s, and the server cannot be asked whether there is anything: {error}",
            quiet.name,
            quiet.quiet_ms() / 1000
        )));
    }
    let idle = sinks.iter().all(|sink| sink.standing_ms().is_none());
    let reason = match idle {
        _ if sinks.is_empty() => "ready: the server's log is read",
        true => "ready: all of the server's log is durable",
        false => "ready: positions advance",
    };
    Answer { yes: true, reason: reason.to_owned() }
}

fn snapshot(progress: &Progress) -> String {
    format!(
        "snapshot in progress: {} of {} tables, {} rows",
        progress.snapshot_tables_done.get(),
        progress.snapshot_tables.get(),
        progress.snapshot_rows.get()
    )
}

/// Why a sink does not get on.
fn stuck(sink: &Member, progress: &Progress) -> Option<String> {
    if sink.is_paused() {
        // One that has everything is no trouble yet.
        let behind = sink.standing_ms().is_some();
        return behind.then(|| format!("sink {} is paused by an operator, and there is more for it", sink.name));
    }
    if let Some(error) = sink.failures.current() {
        return Some(one_line(&format!("sink {} fails: {error}", sink.name)));
    }
    let standing_ms = sink.standing_ms().filter(|standing| *standing > STANDSTILL_MS)?;
    let behind = match sink.lag(progress) {
        Some(bytes) => format!("it is {bytes} bytes of log behind"),
        None => "how far it is behind is not known".to_owned(),
    };
    Some(format!("sink {} stands still: nothing became durable for {} s, {behind}", sink.name, standing_ms / 1000))
}

/// Without a sink. `unanswered`: why the server cannot be asked for the end of its log, if so.
fn reading_stands(standing_ms: u64, behind_bytes: u64, unanswered: Option<&str>) -> String {
    let standing_s = standing_ms / 1000;
    match unanswered {
        Some(error) => one_line(&format!(
            "nothing was read for {standing_s} s, and the server cannot be asked whether there is anything: {error}"
        )),
        None => format!("reading stands still: for {standing_s} s, {behind_bytes} bytes of log behind"),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::Error;
    use crate::flow::{Extent, Observation};
    use crate::record::{Lsn, Position};

    struct Lsns;

    impl Extent for Lsns {
        fn bytes(&self, position: &Position) -> Option<u64> {
            position.lsn().ok().map(|lsn| lsn.0)
        }
    }

    fn streaming() -> Progress {
        let progress = Progress::default();
        progress.extent_is(Arc::new(Lsns));
        progress.member(Role::Sink, "a").begins(Some(Position::Postgres(Lsn(100))));
        progress.enter(Phase::Stream);
        progress
    }

    fn look(end: u64, trouble: Option<&str>) -> Observation {
        Observation { end_bytes: Some(end), trouble: trouble.map(str::to_owned), ..Observation::default() }
    }

    #[test]
    fn nothing_is_ready_before_the_log_was_looked_at() {
        let progress = streaming();
        assert!(!readiness(&progress).yes);
        progress.observer.add(&Error::transient("connecting").because("refused"));
        assert!(readiness(&progress).reason.ends_with("connecting: refused"));
        progress.observed(look(100, None));
        assert_eq!(
            readiness(&progress),
            Answer { yes: true, reason: "ready: all of the server's log is durable".into() }
        );
        progress.observed(look(101, None));
        assert_eq!(readiness(&progress).reason, "ready: positions advance", "it got something a moment ago");
        // A consumer that stands is not asked.
        progress.member(Role::Consumer, "c").failures.add(&Error::transient("slow"));
        assert!(readiness(&progress).yes);
    }

    #[test]
    fn whatever_fails_is_the_reason() {
        let progress = streaming();
        progress.observed(look(100, None));
        let reason = |wanted: &str| {
            let answer = readiness(&progress);
            assert!(!answer.yes && answer.reason.contains(wanted) && !answer.reason.contains('\n'), "{answer:?}");
        };
        let sink = progress.member(Role::Sink, "a");
        sink.failures.add(&Error::transient("writing\nlines").because("no space"));
        reason("sink a fails: writing lines: no space");
        progress.observed(look(100, Some("replication slot \"s\" is gone")));
        reason("slot \"s\" is gone");
        progress.store.add(&Error::transient("storing offsets").because("disk full"));
        reason("offset store cannot be written: storing offsets: disk full");
        progress.source.add(&Error::lost("the log is gone"));
        reason("reconnecting to the source: the log is gone");
        for (phase, wanted) in
            [(Phase::Snapshot, "snapshot in progress"), (Phase::Draining, "draining"), (Phase::Starting, "starting")]
        {
            progress.enter(phase);
            reason(wanted);
            reason("last error: the log is gone");
        }
        progress.enter(Phase::Stream);
        progress.connected();
        progress.store.recovered();
        sink.failures.recovered();
        progress.observed(look(100, None));
        assert!(readiness(&progress).yes);
        sink.pause(true);
        assert!(readiness(&progress).yes, "it has everything");
        progress.observed(look(101, None));
        reason("sink a is paused by an operator");
        sink.pause(false);
        assert!(readiness(&progress).yes);
    }

    #[test]
    fn without_a_sink_the_reading_is_what_counts() {
        let progress = Progress::default();
        progress.enter(Phase::Stream);
        progress.observed(look(100, None));
        assert_eq!(readiness(&progress).reason, "ready: the server's log is read");
        assert_eq!(reading_stands(72_900, 10, None), "reading stands still: for 72 s, 10 bytes of log behind");
        let unanswered = reading_stands(72_900, 0, Some("connecting:\nit is shutting down"));
        assert!(unanswered.ends_with("cannot be asked whether there is anything: connecting: it is shutting down"));
    }

    #[test]
    fn alive_is_whatever_is_not_expected_to_turn() {
        let progress = streaming();
        assert!(liveness(&progress).yes);
        progress.reader.turn();
        progress.storing.turn();
        assert!(liveness(&progress).yes);
    }
}
