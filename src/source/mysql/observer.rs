//! Looks at the end of the log and at its files, over a connection of its own, which goes where the source's goes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::Connection;
use super::extent::LogFiles;
use super::server::{Flavor, Server};
use super::source::server;
use super::status;
use super::url::ConnInfo;
use crate::error::{Error, Result};
use crate::flow::{Extent, Measure, Observation, Reading, Unit};
use crate::source::Observer;

pub static MEASURES: &[Measure] = &[FILES, RETAINED, RETENTION];

const FILES: Measure = Measure {
    name: "binlog_files",
    unit: None,
    help: "MySQL, MariaDB: files of the binary log that the server has",
    label: None,
};
const RETAINED: Measure = Measure {
    name: "binlog_retained",
    unit: Some(Unit::Bytes),
    help: "MySQL, MariaDB: binary log that the server has; once a sink is so far behind, the server may have purged what it needs",
    label: None,
};
const RETENTION: Measure = Measure {
    name: "binlog_retention",
    unit: Some(Unit::Seconds),
    help: "MySQL, MariaDB: how long the server keeps its binary log; absent where it keeps it for good",
    label: None,
};

/// The server opens every file to answer with their sizes, thousands on some: a new one is asked for at once, what was
/// purged is noticed within this.
const LIST_INTERVAL: Duration = Duration::from_secs(30);

pub struct LogObserver {
    /// The way to the server that the source is connected to.
    server: watch::Receiver<ConnInfo>,
    files: Arc<LogFiles>,
    connected: Option<Connected>,
    readings: Vec<Reading>,
    listed: Option<Instant>,
}

struct Connected {
    connection: Connection,
    server: Server,
}

impl LogObserver {
    /// Connects to nothing yet.
    pub fn new(server: watch::Receiver<ConnInfo>, files: Arc<LogFiles>) -> Self {
        LogObserver { server, files, connected: None, readings: Vec::new(), listed: None }
    }

    async fn connected(&mut self) -> Result<&mut Connected> {
        if self.connected.is_none() {
            let info = self.server.borrow_and_update().clone();
            let mut connection = Connection::connect(&info).await?;
            let server = server(&mut connection).await?;
            self.connected = Some(Connected { connection, server });
        }
        self.connected.as_mut().ok_or_else(|| Error::bug("no SQL connection"))
    }
}

#[async_trait]
impl Observer for LogObserver {
    fn extent(&self) -> Arc<dyn Extent> {
        self.files.clone()
    }

    async fn look(&mut self) -> Result<Observation> {
        if self.server.has_changed().unwrap_or(false) {
            // What was there on another server's disk says nothing of this one's.
            (self.connected, self.listed) = (None, None);
        }
        let files = self.files.clone();
        let stale = self.listed.is_none_or(|listed| listed.elapsed() >= LIST_INTERVAL);
        let Connected { connection, server } = self.connected().await?;
        let (file, offset) = status::end(connection, server).await?;
        if stale || !files.knows(&file) {
            let list = status::files(connection, server).await?;
            let mut readings = vec![
                Reading { measure: &FILES, label: "", value: list.len() as f64 },
                Reading {
                    measure: &RETAINED,
                    label: "",
                    value: list.iter().map(|file| file.bytes).sum::<u64>() as f64,
                },
            ];
            readings.extend(retention_s(server).map(|value| Reading { measure: &RETENTION, label: "", value }));
            files.listed(server.position_number(), &list);
            (self.readings, self.listed) = (readings, Some(Instant::now()));
        }
        let end_bytes = files.at(&file, offset);
        Ok(Observation { end_bytes, readings: self.readings.clone(), trouble: None })
    }

    fn disconnect(&mut self) {
        self.connected = None;
    }
}

/// How long the server keeps its log, as it was when we connected; none where for good.
fn retention_s(server: &Server) -> Option<f64> {
    const DAY_S: f64 = 86_400.0;
    let seconds = server.number("binlog_expire_logs_seconds").map(|seconds| seconds as f64);
    let days = || server.variable("expire_logs_days")?.parse::<f64>().ok().map(|days| days * DAY_S);
    let kept = match server.flavor {
        Flavor::MySql => seconds,
        Flavor::MariaDb => seconds.or_else(days),
    };
    kept.filter(|seconds| *seconds > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_good_has_no_retention() {
        let of = |variables: &[(&str, &str)]| {
            let pairs = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
            retention_s(&Server::from_rows(pairs).unwrap())
        };
        assert_eq!(of(&[("version", "9.7.4"), ("binlog_expire_logs_seconds", "2592000")]), Some(2_592_000.0));
        assert_eq!(of(&[("version", "9.7.4"), ("binlog_expire_logs_seconds", "0")]), None);
        assert_eq!(of(&[("version", "10.5.1-MariaDB"), ("expire_logs_days", "0.5")]), Some(43_200.0));
        assert_eq!(of(&[("version", "10.5.1-MariaDB"), ("expire_logs_days", "0")]), None);
    }
}
