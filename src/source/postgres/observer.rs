//! Looks at the slot and at the end of the log, over an SQL connection of its own, which goes where the source's goes.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::conninfo::ConnInfo;
use super::slot::SlotState;
use super::sql::Sql;
use crate::error::{Error, Result};
use crate::flow::{Extent, Measure, Observation, Reading, Unit};
use crate::record::{Lsn, Position};
use crate::source::Observer;

pub static MEASURES: &[Measure] = &[ACTIVE, WAL_STATUS, SAFE_WAL_SIZE, RESTART_LSN, CONFIRMED_FLUSH_LSN, RETAINED];

const ACTIVE: Measure = Measure {
    name: "slot_active",
    unit: None,
    help: "Postgres: whether somebody streams from the replication slot (pg_replication_slots.active_pid)",
    label: None,
};
const WAL_STATUS: Measure = Measure {
    name: "slot_wal_status",
    unit: None,
    help: "Postgres: 1 for what the replication slot's wal_status is, 0 for the others",
    label: Some("status"),
};
const SAFE_WAL_SIZE: Measure = Measure {
    name: "slot_safe_wal_size",
    unit: Some(Unit::Bytes),
    help: "Postgres: how much can be written before the slot may be lost; absent without max_slot_wal_keep_size",
    label: None,
};
const RESTART_LSN: Measure = Measure {
    name: "slot_restart_lsn",
    unit: Some(Unit::Bytes),
    help: "Postgres: where the log begins that the slot holds, as a byte position of the log",
    label: None,
};
const CONFIRMED_FLUSH_LSN: Measure = Measure {
    name: "slot_confirmed_flush_lsn",
    unit: Some(Unit::Bytes),
    help: "Postgres: up to where the server has been told that everything is durable, as a byte position of the log",
    label: None,
};
const RETAINED: Measure = Measure {
    name: "slot_retained",
    unit: Some(Unit::Bytes),
    help: "Postgres: log that the slot keeps the server from removing",
    label: None,
};

/// As the manual lists them.
const STATUSES: [&str; 4] = ["reserved", "extended", "unreserved", "lost"];

pub struct SlotObserver {
    /// The way to the server that the source is connected to.
    server: watch::Receiver<ConnInfo>,
    slot: String,
    sql: Option<Sql>,
}

impl SlotObserver {
    /// Connects to nothing yet.
    pub fn new(server: watch::Receiver<ConnInfo>, slot: String) -> Self {
        SlotObserver { server, slot, sql: None }
    }

    async fn sql(&mut self) -> Result<&Sql> {
        let elsewhere = self.server.has_changed().unwrap_or(false);
        if elsewhere || self.sql.as_ref().is_none_or(Sql::is_closed) {
            self.sql = None;
            let info = self.server.borrow_and_update().clone();
            self.sql = Some(Sql::connect(&info).await?);
        }
        self.sql.as_ref().ok_or_else(|| Error::bug("no SQL connection"))
    }
}

/// What a walsender can send: what is on disk, on a standby what is replayed.
const END: &str = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
                   ELSE pg_catalog.pg_current_wal_flush_lsn() END::pg_catalog.text";

#[async_trait]
impl Observer for SlotObserver {
    fn extent(&self) -> Arc<dyn Extent> {
        Arc::new(Lsns)
    }

    async fn look(&mut self) -> Result<Observation> {
        let slot = self.slot.clone();
        let sql = self.sql().await?;
        let row = sql.query_one(END, &[], "asking for the end of the server's log").await?;
        let end: Lsn = row.get::<_, &str>(0).parse()?;
        let found = SlotState::read(sql.client(), sql.server_version_num(), &slot).await?;
        Ok(observation(&slot, end, found.as_ref()))
    }

    fn disconnect(&mut self) {
        self.sql = None;
    }
}

fn observation(name: &str, end: Lsn, slot: Option<&SlotState>) -> Observation {
    let mut observation = Observation { end_bytes: Some(end.0), ..Observation::default() };
    let Some(slot) = slot else {
        observation.trouble = Some(format!("replication slot {name:?} is gone"));
        return observation;
    };
    observation.trouble = slot.invalidated();
    let mut read = |measure, label, value: f64| observation.readings.push(Reading { measure, label, value });
    let flag = |is: bool| if is { 1.0 } else { 0.0 };
    read(&ACTIVE, "", flag(slot.active_pid.is_some()));
    if let Some(status) = &slot.wal_status {
        STATUSES.into_iter().for_each(|known| read(&WAL_STATUS, known, flag(known == status)));
    }
    if let Some(bytes) = slot.safe_wal_size_bytes {
        read(&SAFE_WAL_SIZE, "", bytes as f64);
    }
    if let Some(restart) = slot.restart_lsn {
        read(&RESTART_LSN, "", restart.0 as f64);
        read(&RETAINED, "", end.0.saturating_sub(restart.0) as f64);
    }
    if let Some(confirmed) = slot.confirmed_flush_lsn {
        read(&CONFIRMED_FLUSH_LSN, "", confirmed.0 as f64);
    }
    observation
}

/// An LSN is a byte position of the log.
struct Lsns;

impl Extent for Lsns {
    fn bytes(&self, position: &Position) -> Option<u64> {
        position.lsn().ok().map(|lsn| lsn.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(observation: &Observation, name: &str, label: &str) -> Option<f64> {
        let is_it = |reading: &&Reading| reading.measure.name == name && reading.label == label;
        observation.readings.iter().find(is_it).map(|reading| reading.value)
    }

    #[test]
    fn what_a_slot_says_and_what_it_does_not() {
        let slot = SlotState {
            slot_type: "logical".into(),
            active_pid: Some(7),
            restart_lsn: Some(Lsn(100)),
            confirmed_flush_lsn: Some(Lsn(150)),
            wal_status: Some("extended".into()),
            ..SlotState::default()
        };
        let seen = observation("s", Lsn(180), Some(&slot));
        assert_eq!((seen.end_bytes, &seen.trouble), (Some(180), &None));
        assert_eq!(value(&seen, "slot_retained", ""), Some(80.0));
        assert_eq!(value(&seen, "slot_wal_status", "extended"), Some(1.0));
        assert_eq!(value(&seen, "slot_wal_status", "lost"), Some(0.0));
        assert_eq!(value(&seen, "slot_safe_wal_size", ""), None, "without a limit there is none");
        assert!(seen.readings.iter().all(|reading| MEASURES.contains(reading.measure)));
        let lost = SlotState { wal_status: Some("lost".into()), safe_wal_size_bytes: Some(-5), ..slot };
        let seen = observation("s", Lsn(180), Some(&lost));
        assert!(seen.trouble.is_some_and(|trouble| trouble.contains("wal_status lost")));
        assert!(observation("s", Lsn(1), None).trouble.is_some_and(|trouble| trouble.contains("\"s\" is gone")));
    }
}
