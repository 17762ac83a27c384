//! What is known of the pipeline, as messages.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::encode::proto::{position, schema_message};
use crate::flow::{Member, Phase, Progress, Role, Totals};
use crate::pipeline::{AddedTable, ConsumerStatus, State};
use crate::proto::v1;
use crate::record::Position;
use crate::server::grpc::subscribe::Peers;
use crate::source::Streamed;

/// How old a commit is, in milliseconds.
fn age_ms(commit_unix_micros: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
    now.saturating_sub(commit_unix_micros) / 1000
}

/// Bytes of log, and the age of the last commit that is not among them; nothing behind is no time.
fn lag(bytes: Option<u64>, last_commit_unix_micros: Option<u64>) -> v1::Lag {
    let time_ms = if bytes == Some(0) { Some(0) } else { last_commit_unix_micros.map(age_ms) };
    v1::Lag { bytes, time_ms }
}

/// `read`: how far the log has been read. `owner`: whose log positions are of.
pub fn source(progress: &Progress, read: Option<&Position>, owner: u64) -> v1::SourceStatus {
    let trouble = progress.source.current();
    let state = match progress.phase() {
        Phase::Starting => v1::SourceState::Starting,
        Phase::Draining => v1::SourceState::Draining,
        Phase::Snapshot | Phase::Stream if trouble.is_some() => v1::SourceState::Reconnecting,
        Phase::Snapshot => v1::SourceState::Snapshot,
        Phase::Stream => v1::SourceState::Streaming,
    };
    let snapshot = (progress.snapshot_tables.get() > 0).then(|| v1::SnapshotStatus {
        tables: progress.snapshot_tables.get(),
        tables_done: progress.snapshot_tables_done.get(),
        rows: progress.snapshot_rows.get(),
        rows_estimate: progress.snapshot_rows_estimate.get(),
    });
    // Both are 0 until somebody has told.
    let known = progress.read_end_bytes.get() > 0 && progress.server_end_bytes.get() > 0;
    let last_commit = progress.last_commit_unix_micros().and_then(|micros| u64::try_from(micros).ok());
    v1::SourceStatus {
        state: state.into(),
        read: read.map(|read| position(read, owner)),
        confirmed: progress.confirmed().map(|confirmed| position(&confirmed, owner)),
        lag: Some(lag(known.then(|| progress.lag_bytes()), last_commit)),
        events: progress.events.get(),
        bytes: progress.stream_bytes.get(),
        reconnects: progress.source.reconnects.total(),
        last_error: progress.source.last().unwrap_or_default(),
        snapshot,
        added_tables: Vec::new(),
    }
}

pub fn added(table: &AddedTable, owner: u64) -> v1::AddedTable {
    let (namespace, name) = table.called.clone();
    let owed_to = table.owed_to.iter().map(|(role, name)| v1::Member {
        member: Some(match role {
            Role::Sink => v1::member::Member::Sink(name.clone()),
            Role::Consumer => v1::member::Member::Consumer(name.clone()),
        }),
    });
    let from = table.from.as_ref().map(|from| position(from, owner));
    v1::AddedTable { namespace, name, from, owed_to: owed_to.collect() }
}

pub fn sink(member: &Member, progress: &Progress, owner: u64) -> v1::SinkStatus {
    let trouble = member.failures.current();
    let state = match trouble {
        _ if member.is_paused() => v1::SinkState::Paused,
        Some(_) => v1::SinkState::Retrying,
        None => v1::SinkState::Running,
    };
    v1::SinkStatus {
        name: member.name.clone(),
        state: state.into(),
        position: member.position().map(|at| position(&at, owner)),
        lag: Some(lag(member.lag(progress), member.last_commit_unix_micros())),
        last_error: member.failures.last().unwrap_or_default(),
    }
}

pub fn consumer(consumer: ConsumerStatus, peers: &Peers, owner: u64) -> v1::ConsumerStatus {
    let state = match consumer.state {
        State::Live => v1::ConsumerState::Live,
        State::Lane => v1::ConsumerState::CatchingUp,
        State::Snapshot => v1::ConsumerState::Snapshot,
        State::Waiting => v1::ConsumerState::Waiting,
        State::Parked => v1::ConsumerState::Parked,
        State::Detached => v1::ConsumerState::Detached,
        State::Paused => v1::ConsumerState::Paused,
    };
    let peer = peers.of(&consumer.name).filter(|_| consumer.durable && consumer.attached);
    v1::ConsumerStatus {
        name: consumer.name,
        durable: consumer.durable,
        state: state.into(),
        position: consumer.position.map(|at| position(&at, owner)),
        lag: Some(v1::Lag { bytes: Some(consumer.lag_bytes), time_ms: Some(consumer.lag_ms) }),
        queue_bytes: consumer.queue_bytes as u64,
        unacknowledged: consumer.unacked as u64,
        epoch: consumer.epoch,
        peer: peer.map(|peer| peer.to_string()).unwrap_or_default(),
        last_error: consumer.last_error.unwrap_or_default(),
    }
}

/// A table's shape, whichever version it is.
pub fn shape(table: &Streamed) -> v1::TableSchema {
    v1::TableSchema { table_id: 0, version: 0, ..schema_message(&table.schema) }
}

pub fn table(table: &Streamed, totals: &Totals) -> v1::Table {
    let full_name = format!("{}.{}", table.schema.namespace, table.schema.name);
    let counted = totals.tables.iter().find(|(known, _)| *known == full_name);
    v1::Table {
        schema: Some(shape(table)),
        events: counted.map_or(0, |(_, counts)| counts.iter().map(|counted| counted.records).sum()),
        stopped: table.stopped.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Lsn;

    #[test]
    fn a_source_that_lost_its_server_is_reconnecting() {
        let progress = Progress::default();
        progress.enter(Phase::Stream);
        assert_eq!(source(&progress, None, 0).state(), v1::SourceState::Streaming);
        let error = crate::error::Error::transient("reading the log").because("reset by peer").remedy("wait");
        progress.source.add(&error);
        progress.tries_again(&progress.source, &error);
        let status = source(&progress, None, 0);
        assert_eq!(
            (status.state(), status.last_error.as_str()),
            (v1::SourceState::Reconnecting, "reading the log: reset by peer\n  remedy: wait")
        );
        assert_eq!((status.reconnects, status.lag.unwrap().bytes), (1, None));
        progress.connected();
        let read = Position::Postgres(Lsn(0x16_B374_D848));
        let after = source(&progress, Some(&read), 0);
        assert_eq!((after.state(), after.last_error), (v1::SourceState::Streaming, status.last_error));
        assert_eq!(after.read.unwrap().text, "16/B374D848");
        // What ends everything is no reconnect.
        progress.source.add(&crate::error::Error::lost("the log is gone"));
        assert_eq!(source(&progress, None, 0).reconnects, 1);
    }

    #[test]
    fn lag_has_its_time() {
        let ago = |ms: u64| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64 - ms * 1000;
        assert_eq!(lag(Some(0), Some(ago(5000))).time_ms, Some(0), "nothing is missing");
        assert!(lag(Some(1), Some(ago(5000))).time_ms.unwrap() >= 5000);
        assert!(lag(None, Some(ago(5000))).time_ms.unwrap() >= 5000);
        assert_eq!(lag(Some(1), None).time_ms, None, "no commit is known");
    }
}
