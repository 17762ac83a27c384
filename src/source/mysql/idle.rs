//! A dump that says there is nothing to say, though there is.
//!
//! Invariants:
//! - MySQL does not wake the thread that waits at the end of a log which is reset (RESET BINARY LOGS AND GTIDS): it goes on
//!   saying that it is there, at the end of a file that is gone, whatever is written into the new one.
//! - So where a heartbeat finds the stream where the last one did, the log's end is asked for. A dump that is not there, twice
//!   in a row, is left: whoever asks for the log again gets the verdict.
//! - The question has a connection and a time limit of its own, and failing it costs the stream nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::connection::Connection;
use super::server::Server;
use super::status;
use super::url::ConnInfo;
use crate::error::{Error, Result};
use crate::record::BinlogPosition;

/// The place of the stream at each heartbeat between two transactions.
pub type Heard = Option<Arc<BinlogPosition>>;

/// A question that takes longer has no answer; the next heartbeat asks again.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// Version 1 of the heartbeat names offsets in 32 bits: beyond them nothing is known.
const KNOWN_OFFSETS: u64 = 1 << 32;

/// One heartbeat may cross what was written just now.
const ASTRAY_MAX: u32 = 2;

/// Waits until the dump is found astray, and says so. `connection`: to `server`, which `info` leads to; none where it broke.
pub async fn watch(
    connection: &mut Option<Connection>,
    server: &Server,
    info: &ConnInfo,
    mut heard: watch::Receiver<Heard>,
) -> Error {
    let mut before: Heard = None;
    let mut astray = 0;
    loop {
        if heard.changed().await.is_err() {
            return std::future::pending().await;
        }
        let here = heard.borrow_and_update().clone();
        let (Some(was), Some(is)) = (std::mem::replace(&mut before, here.clone()), &here) else { continue };
        if !same_place(&was, is) {
            astray = 0;
            continue;
        }
        match timeout(ANSWER_PATIENCE, end(connection, server, info)).await {
            Ok(Ok(end)) if same_place(is, &end) => astray = 0,
            Ok(Ok(end)) => {
                astray += 1;
                if astray == ASTRAY_MAX {
                    return Error::transient(format!(
                        "the server says at {}:{} that there is nothing more, and its log ends at {}:{}",
                        is.file, is.offset, end.file, end.offset
                    ));
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(?error, "asking whether the stream is at the end of the log");
                *connection = None;
            }
            Err(_) => *connection = None,
        }
    }
}

async fn end(connection: &mut Option<Connection>, server: &Server, info: &ConnInfo) -> Result<BinlogPosition> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(Connection::connect(info).await?),
    };
    status::tip(connection, server).await
}

fn same_place(one: &BinlogPosition, other: &BinlogPosition) -> bool {
    let unknown = one.offset.max(other.offset) >= KNOWN_OFFSETS;
    one.file == other.file && (one.offset == other.offset || unknown)
}
