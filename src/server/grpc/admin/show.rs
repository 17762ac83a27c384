//! What is known of the pipeline, as messages.

use serde_json::Value;

use crate::encode::proto::position;
use crate::flow::{Member, Phase, Progress, Totals};
use crate::pipeline::{ConsumerStatus, State};
use crate::proto::v1;
use crate::server::grpc::subscribe::Peers;
use crate::source::tables::Selection;

/// `owner`: whose log positions are of.
pub fn source(progress: &Progress, owner: u64) -> v1::SourceStatus {
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
    v1::SourceStatus {
        state: state.into(),
        read: None,
        confirmed: progress.confirmed().map(|confirmed| position(&confirmed, owner)),
        lag: Some(v1::Lag { bytes: known.then(|| progress.lag_bytes()), time_ms: None }),
        events: progress.events.get(),
        bytes: progress.stream_bytes.get(),
        reconnects: progress.source.total(),
        last_error: trouble.unwrap_or_default(),
        snapshot,
    }
}

pub fn sink(member: &Member, progress: &Progress, owner: u64) -> v1::SinkStatus {
    let trouble = member.failures.current();
    let state = if trouble.is_some() { v1::SinkState::Retrying } else { v1::SinkState::Running };
    v1::SinkStatus {
        name: member.name.clone(),
        state: state.into(),
        position: member.position().map(|at| position(&at, owner)),
        lag: Some(v1::Lag { bytes: member.lag(progress), time_ms: None }),
        last_error: trouble.unwrap_or_default(),
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

/// From what the source has found (`walbrook discover`): the shapes as the database has them now, types by their source's
/// name alone.
pub fn tables(found: &Value, wanted: &Selection, totals: &Totals) -> Vec<v1::Table> {
    let database = found["database"].as_str().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut tables = Vec::new();
    for table in list(&found["tables"]) {
        let (namespace, name) = (text(&table["schema"]), text(&table["table"]));
        if !wanted.wants(&namespace, &name) {
            continue;
        }
        let columns: Vec<v1::Column> = list(&table["columns"])
            .iter()
            .map(|column| v1::Column {
                name: text(&column["name"]),
                r#type: None,
                source_type: text(&column["type"]),
                nullable: column["nullable"].as_bool().unwrap_or(true),
            })
            .collect();
        let place = |key: &Value| columns.iter().position(|column| Some(column.name.as_str()) == key.as_str());
        let key = list(&table["key"]).iter().filter_map(place).map(|at| at as u32).collect();
        let identity = match table["replica_identity"].as_str() {
            Some("default") => v1::ReplicaIdentity::Default,
            Some("index") => v1::ReplicaIdentity::Index,
            Some("full") => v1::ReplicaIdentity::Full,
            Some("nothing") => v1::ReplicaIdentity::Nothing,
            _ => v1::ReplicaIdentity::Unspecified,
        };
        let full_name = format!("{namespace}.{name}");
        let counted = totals.tables.iter().find(|(known, _)| *known == full_name);
        tables.push(v1::Table {
            schema: Some(v1::TableSchema {
                database: database.to_owned(),
                namespace,
                name,
                columns,
                key,
                identity: identity.into(),
                ..v1::TableSchema::default()
            }),
            events: counted.map_or(0, |(_, counts)| counts.iter().map(|counted| counted.records).sum()),
            stopped: String::new(),
        });
    }
    tables
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::source::postgres::NAMES;

    #[test]
    fn tables_are_those_that_were_found_and_are_asked_for() {
        let found = json!({ "database": "shop", "tables": [
            { "schema": "public", "table": "orders", "key": ["id", "at"], "replica_identity": "full", "columns": [
                { "name": "at", "type": "date", "nullable": false }, { "name": "id", "type": "integer", "nullable": false },
                { "name": "note", "type": "text", "nullable": true }] },
            { "schema": "audit", "table": "log", "key": [], "replica_identity": "nothing", "columns": [] } ] });
        let none: &[&str] = &[];
        let wanted = |tables: &[&str]| Selection::new(&NAMES, tables, none, none, none).unwrap();
        assert_eq!(tables(&found, &wanted(&[]), &Totals::default()).len(), 2);
        let orders = tables(&found, &wanted(&["public.*"]), &Totals::default()).remove(0).schema.unwrap();
        assert_eq!((orders.database.as_str(), orders.name.as_str(), orders.key), ("shop", "orders", vec![1, 0]));
        assert_eq!(orders.identity, v1::ReplicaIdentity::Full as i32);
        assert_eq!((orders.columns[2].source_type.as_str(), orders.columns[2].nullable), ("text", true));
    }

    #[test]
    fn a_source_that_lost_its_server_is_reconnecting() {
        let progress = Progress::default();
        progress.enter(Phase::Stream);
        assert_eq!(source(&progress, 0).state(), v1::SourceState::Streaming);
        progress.source.add(&crate::error::Error::transient("reading the log").because("reset by peer"));
        let status = source(&progress, 0);
        assert_eq!(
            (status.state(), status.last_error.as_str()),
            (v1::SourceState::Reconnecting, "reading the log: reset by peer")
        );
        assert_eq!((status.reconnects, status.lag.unwrap().bytes), (1, None));
        progress.connected();
        assert_eq!(source(&progress, 0).state(), v1::SourceState::Streaming);
    }
}
