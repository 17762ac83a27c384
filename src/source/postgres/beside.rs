//! What goes on beside the stream: its heartbeat, the server's patience, and its end.

use std::time::Duration;

use super::connection::Connection;
use super::decoder::HEARTBEAT_PREFIX;
use super::sql::Sql;
use crate::error::{Error, Result};

/// How long the server may say nothing, though it is asked every second: twice as long as it would have patience with us,
/// because it may be busy with what it does not send.
const SILENT_TIMEOUTS: u32 = 2;

/// Of a server that has patience without end, or none to speak of.
const MIN_SILENCE: Duration = Duration::from_secs(10);
const DEFAULT_SENDER_TIMEOUT: Duration = Duration::from_secs(60);

/// How often it is looked whether the session beside the stream is there: what a shutdown of the server is held up by at most.
const SESSION_LOOK: Duration = Duration::from_secs(1);

/// How long the server may be silent: `wal_sender_timeout`, in milliseconds, 0 for never.
pub async fn silence(connection: &mut Connection) -> Result<Duration> {
    let sql = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'";
    let rows = connection.simple_query(sql).await?;
    let setting = rows.first().map(|rows| rows.text(0, "setting")).transpose()?.flatten();
    let timeout = match setting.and_then(|milliseconds| milliseconds.parse().ok()) {
        None | Some(0) => DEFAULT_SENDER_TIMEOUT,
        Some(milliseconds) => Duration::from_millis(milliseconds),
    };
    Ok((timeout * SILENT_TIMEOUTS).max(MIN_SILENCE))
}

/// Watches the server: one that is told to shut down ends every session but the senders of its log, and waits until these have
/// all of it confirmed, for ever where a sink or a consumer is behind. Returns only when that has happened.
pub async fn shutdown(sql: &Sql) -> Error {
    let mut next: Option<Sql> = None;
    loop {
        tokio::time::sleep(SESSION_LOOK).await;
        if !next.as_ref().unwrap_or(sql).is_closed() {
            continue;
        }
        match Sql::connect(sql.same_server()).await {
            // That session alone was ended.
            Ok(another) => next = Some(another),
            Err(error) => {
                return Error::transient("the server ends its sessions, and would wait for the stream").because(error);
            }
        }
    }
}

/// Writes a message into the log now and then, so that a quiet database's position follows a busy server's log. Returns
/// only with an error.
pub async fn heartbeat(sql: &Sql, interval: Option<Duration>) -> Error {
    let Some(interval) = interval else { return std::future::pending().await };
    let statement = format!("SELECT pg_catalog.pg_logical_emit_message(false, '{HEARTBEAT_PREFIX}', '')");
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        if let Err(error) = sql.execute(&statement, "writing a heartbeat").await {
            return error;
        }
    }
}
