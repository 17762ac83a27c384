//! Several connections that see the tables at one and the same point of the log, and that point.
//!
//! Invariants:
//! - What is committed before the point is seen by every connection, what is committed after it by none. It is proven, by one
//!   of the ways below, or there is no snapshot.
//! - Every lock is taken by one connection alone, for the opening of the views and one question after the position, with a
//!   limit on the wait for it (whoever waits for a lock makes others wait), and given back whatever happens: the server does
//!   it when the connection ends.
//! - XA transactions that are prepared at the point are told, where the account may know: their rows are in the log before
//!   it and in no view, and their end comes after. Waiting a little for none to be prepared spares looking for their rows.
//!
//! The ways, from the first that is tried. No lock is better than a lock, and a lock on few tables is better than one on all:
//! - MariaDB tells each connection the point of its view, exactly (`Binlog_snapshot_file`, `…_position`), without any lock:
//!   views are opened again until all have the same, a few times.
//! - MySQL with GTIDs, without any lock: a window in which nothing happened. In this order: the log's end and
//!   `gtid_executed`; `gtid_owned` is empty; the views; what is prepared; the log's end and `gtid_executed` as before; once
//!   more what is prepared (in the window nothing is logged, but what was logged just ahead of it may be listed a moment
//!   later). A transaction owns its GTID before the log's end moves, and until it is in `gtid_executed`, which is after its commit
//!   in InnoDB. So one logged before the window was committed before the views, and one that the views see was logged
//!   before the window. Without GTIDs nothing shows whether a transaction hangs between the log and InnoDB, and there is
//!   no such window.
//! - MariaDB: BACKUP STAGE BLOCK_COMMIT (RELOAD) makes commits wait for a moment, and nothing else.
//! - LOCK TABLES … READ on the wanted tables (LOCK TABLES). A transaction that has changed one of them holds it to the end
//!   of its commit, so for these tables there is nothing between the log and InnoDB; others do not matter.
//! - FLUSH TABLES WITH READ LOCK (RELOAD or FLUSH_TABLES). It waits for commits under way and lets none begin: a transaction
//!   that is in the log is in InnoDB too, and the reverse. (MySQL's LOCK INSTANCE FOR BACKUP lets commits pass.) It comes
//!   late because of what it does on MySQL where a long query runs: even when it gives up, whoever opens that query's
//!   tables afterwards waits until the query ends. So it is not tried where such a query is seen, which takes PROCESS.
//! - The first two ways again, for longer, and then with one view, which on MariaDB always has its point.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::super::ask::{Ask, TextRow, number, text};
use super::super::error::{self, server_error};
use super::super::prepared;
use super::super::quote;
use super::super::server::{Flavor, Server};
use super::super::xa::XidKey;
use super::progress::TableName;
use crate::error::{Error, Result};
use crate::record::gtid::GtidSet;
use crate::record::{BinlogPosition, Seen, file_number};

/// `lock_wait_timeout` of the connection that locks. FLUSH TABLES WITH READ LOCK waits up to three times so long, and all
/// who write wait behind it: a query that runs longer is not waited for.
const LOCK_WAIT_S: u32 = 2;

/// Tries without a lock before one is asked for: with the pauses between them less than half a second.
const TRIES_BEFORE_LOCK: u32 = 10;

/// Tries without a lock where there is none to be had: with the pauses between them about half a minute.
const TRIES_WITHOUT_LOCK: u32 = 300;

/// From the first pause between two tries, doubled up to the longest. A busy server commits every millisecond or less, and
/// its pauses are short: only trying often finds one.
const FIRST_PAUSE: Duration = Duration::from_millis(1 / SHORTER);
const LONGEST_PAUSE: Duration = Duration::from_millis(100 / SHORTER);

/// More tables are not locked one by one: the server has to open them all.
const MAX_LOCKED_TABLES: usize = 1000;

/// How often a point without prepared XA transactions is tried for, which with the pauses takes 2 s: their coordinators end
/// them at once, unless they are down or many.
const XA_TRIES: u32 = 10;
const XA_PAUSE: Duration = Duration::from_millis(200 / SHORTER);

/// Tests do not wait.
const SHORTER: u64 = if cfg!(test) { 1000 } else { 1 };

/// The first version of SHOW BINARY LOG STATUS; SHOW MASTER STATUS is gone since 8.4.
const LOG_STATUS_SINCE: (u32, u32, u32) = (8, 2, 0);

/// The first version of BACKUP STAGE.
const BACKUP_STAGE_SINCE: (u32, u32, u32) = (10, 4, 1);

const BLOCK_COMMIT: &str = "BACKUP STAGE BLOCK_COMMIT";
const LOCK_TABLES: &str = "LOCK TABLES";
const READ_LOCK: &str = "FLUSH TABLES WITH READ LOCK";

const VIEW: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";

/// What the connection that locks is told first.
pub fn control_session() -> String {
    format!("SET SESSION lock_wait_timeout = {LOCK_WAIT_S}")
}

/// The log's end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    file: String,
    offset: u64,
    /// MySQL's `gtid_executed`.
    executed: String,
}

/// How one way ended.
#[derive(Debug)]
enum Attempt {
    /// With the XA transactions that are prepared there.
    Opened(End, HashSet<XidKey>),
    /// Not to be had in this way, and why.
    Refused(String),
}

/// Where the views stand.
#[derive(Debug)]
pub struct Opened {
    pub point: BinlogPosition,
    /// In which way it was had.
    pub way: &'static str,
    /// XA transactions that are prepared there, as far as the account may know.
    pub prepared: HashSet<XidKey>,
}

/// Opens the views at one point. `views`: connections that are in no transaction; only the first is left where the server
/// can prove the point of no more. `tables`: those to be read.
///
/// # Errors
/// `Config` where the account may do nothing that proves a point; `Transient` where the server was too busy for it.
pub async fn open<C: Ask>(
    server: &Server,
    control: &mut C,
    views: &mut Vec<C>,
    tables: &[TableName],
) -> Result<Opened> {
    let mut tries = 0..XA_TRIES;
    let (end, prepared, way) = loop {
        let mut opening = Opening { server, control: &mut *control, tables, reasons: Vec::new(), waited: false };
        match opening.ways(views).await? {
            (Attempt::Opened(_, prepared), _) if !prepared.is_empty() && tries.next().is_some() => {
                tokio::time::sleep(XA_PAUSE).await;
            }
            (Attempt::Opened(end, prepared), way) => break (end, prepared, way),
            (Attempt::Refused(_), _) => return Err(opening.refusal()),
        }
    };
    let seen = seen(server, control, &end).await?;
    let point = BinlogPosition {
        server: server.position_number(),
        file: end.file.into(),
        offset: end.offset,
        file_created_unix_s: 0,
        seen,
    };
    Ok(Opened { point, way, prepared })
}

/// What GTIDs say of the point.
async fn seen<C: Ask>(server: &Server, control: &mut C, end: &End) -> Result<Seen> {
    let unreadable = |text: &str| Error::data(format!("reading the server's GTIDs {text:?}"));
    let executed = match server.flavor {
        Flavor::MySql if server.uses_gtids() => {
            GtidSet::MySql(end.executed.parse().map_err(|_| unreadable(&end.executed))?)
        }
        Flavor::MySql => return Ok(Seen::Nothing),
        Flavor::MariaDb => {
            // It reads the file from its beginning: not to be done under a lock.
            let sql = format!("SELECT BINLOG_GTID_POS({}, {})", quote::literal(&end.file), end.offset);
            let rows = control.rows(&sql, "asking for the GTIDs of the snapshot's point").await?;
            let Some(Some(list)) = rows.first().and_then(|row| row.first()) else {
                return Err(Error::transient(format!("the server knows no GTIDs of {}:{}", end.file, end.offset)));
            };
            GtidSet::MariaDb(list.parse().map_err(|_| unreadable(list))?)
        }
    };
    Ok(Seen::Executed(Arc::new(executed)))
}

struct Opening<'a, C> {
    server: &'a Server,
    control: &'a mut C,
    tables: &'a [TableName],
    /// Why the ways tried so far did not do.
    reasons: Vec<String>,
    /// One of them would have, had the server been less busy.
    waited: bool,
}

impl<C: Ask> Opening<'_, C> {
    async fn ways(&mut self, views: &mut Vec<C>) -> Result<(Attempt, &'static str)> {
        let mariadb = self.server.flavor == Flavor::MariaDb;
        let free = |tries| if mariadb { Way::Agreement { tries } } else { Way::Window { tries } };
        let mut tries = vec![free(TRIES_BEFORE_LOCK)];
        if mariadb && self.server.version >= BACKUP_STAGE_SINCE {
            let lock = vec!["BACKUP STAGE START".into(), "BACKUP STAGE BLOCK_COMMIT".into()];
            tries.push(Way::Locks { name: BLOCK_COMMIT, lock, unlock: "BACKUP STAGE END" });
        }
        if (1..=MAX_LOCKED_TABLES).contains(&self.tables.len()) {
            let read = |(database, name): &TableName| format!("{} READ", quote::qualified(database, name));
            let lock = vec![format!("LOCK TABLES {}", self.tables.iter().map(read).collect::<Vec<_>>().join(", "))];
            tries.push(Way::Locks { name: LOCK_TABLES, lock, unlock: "UNLOCK TABLES" });
        }
        tries.push(Way::Locks { name: READ_LOCK, lock: vec![READ_LOCK.into()], unlock: "UNLOCK TABLES" });
        tries.extend([free(TRIES_WITHOUT_LOCK), Way::Alone, free(TRIES_WITHOUT_LOCK)]);
        for way in tries {
            let name = way.name();
            let attempt = match way {
                Way::Alone if views.len() == 1 => break,
                Way::Alone => {
                    tracing::warn!(
                        reasons = self.reasons.join("; "),
                        "one connection reads the snapshot: several have no provable point in common"
                    );
                    views.truncate(1);
                    continue;
                }
                Way::Locks { name: READ_LOCK, .. } if self.long_query().await? => {
                    Attempt::Refused("a query runs for long, and writers would wait for its end".to_owned())
                }
                Way::Locks { lock, unlock, .. } => self.locked(&lock, unlock, views).await?,
                Way::Agreement { tries } => self.agreement(tries, views).await?,
                Way::Window { tries } => self.window(tries, views).await?,
            };
            match attempt {
                Attempt::Refused(reason) => {
                    tracing::debug!(way = name, reason, "no snapshot in this way");
                    self.reasons.push(format!("{name}: {reason}"));
                }
                attempt => return Ok((attempt, name)),
            }
        }
        Ok((Attempt::Refused(String::new()), ""))
    }

    fn refusal(&self) -> Error {
        let message = format!("no point of the log can be proven for the snapshot: {}", self.reasons.join("; "));
        let error = if self.waited { Error::transient(message) } else { Error::config(message) };
        error.remedy(
            "GRANT RELOAD ON *.* or GRANT LOCK TABLES on the databases to this user, or let the server have GTIDs",
        )
    }

    /// Under a lock that lets nothing be committed.
    async fn locked(&mut self, lock: &[String], unlock: &str, views: &mut [C]) -> Result<Attempt> {
        let mut taken = Ok(());
        for statement in lock {
            taken = self.control.rows(statement, "locking for the opening of the snapshot").await.map(drop);
            if taken.is_err() {
                break;
            }
        }
        let opened = match &taken {
            Ok(()) => self.under_lock(views).await,
            Err(_) => Ok(Attempt::Refused(String::new())),
        };
        // BACKUP STAGE may be half way; and nobody is to wait for what this connection does next.
        let unlocked = self.control.rows(unlock, "unlocking after the opening of the snapshot").await;
        match taken {
            Err(error) => self.refused(error),
            Ok(()) => {
                unlocked?;
                opened
            }
        }
    }

    /// A server's no is a reason to try another way; all else is an error.
    fn refused(&mut self, error: Error) -> Result<Attempt> {
        match server_error(&error) {
            Some(answer) => {
                self.waited |= answer.code == error::number::LOCK_WAIT_TIMEOUT;
                Ok(Attempt::Refused(answer.to_string()))
            }
            None => Err(error),
        }
    }

    async fn under_lock(&mut self, views: &mut [C]) -> Result<Attempt> {
        let prepared = self.prepared().await?;
        open_views(views).await?;
        match self.server.flavor {
            Flavor::MySql => Ok(Attempt::Opened(self.end().await?, prepared)),
            // Where only some tables are locked the log goes on, with nothing of theirs: from the first of the points on
            // there is nothing that a later view has seen of them.
            Flavor::MariaDb => {
                match points(views).await?.into_iter().min_by_key(|end| (file_number(&end.file), end.offset)) {
                    Some(end) => Ok(Attempt::Opened(end, prepared)),
                    None => Err(Error::bug("a snapshot without a view")),
                }
            }
        }
    }

    /// MariaDB, without a lock: until all views say the same. The log's end before that is the same too, so that what is
    /// prepared there is what was listed in between.
    async fn agreement(&mut self, tries: u32, views: &mut [C]) -> Result<Attempt> {
        let mut pause = FIRST_PAUSE;
        for _ in 0..tries {
            let before = self.end().await?;
            let mut prepared = self.prepared().await?;
            open_views(views).await?;
            if let Some(end) = common(points(views).await?) {
                if end == before {
                    return Ok(Attempt::Opened(end, prepared));
                }
                // One view has its point whatever happens beside it.
                if views.len() == 1 {
                    prepared.extend(self.prepared().await?);
                    return Ok(Attempt::Opened(end, prepared));
                }
            }
            rest(&mut pause).await;
        }
        self.waited = true;
        Ok(Attempt::Refused(format!("no moment without a commit in {tries} tries")))
    }

    /// MySQL, without a lock.
    async fn window(&mut self, tries: u32, views: &mut [C]) -> Result<Attempt> {
        if !self.server.uses_gtids() {
            return Ok(Attempt::Refused("gtid_mode is not ON".to_owned()));
        }
        let mut pause = FIRST_PAUSE;
        for _ in 0..tries {
            let before = self.end().await?;
            let owned = self.control.rows("SELECT @@GLOBAL.gtid_owned", "asking for transactions under way").await?;
            if owned.first().is_some_and(|row| text(row, 0).is_empty()) {
                open_views(views).await?;
                let mut prepared = self.prepared().await?;
                if self.end().await? == before {
                    prepared.extend(self.prepared().await?);
                    return Ok(Attempt::Opened(before, prepared));
                }
            }
            rest(&mut pause).await;
        }
        self.waited = true;
        Ok(Attempt::Refused(format!("no moment without a commit in {tries} tries")))
    }

    /// Whether a query is seen that has run for longer than a lock would be waited for.
    async fn long_query(&mut self) -> Result<bool> {
        let rows = self.control.rows("SHOW PROCESSLIST", "asking for long queries").await?;
        // Id, User, Host, db, Command, Time, State, Info
        let mut found = rows.iter().filter(|row| {
            matches!(text(row, 4), "Query" | "Execute") && number(row, 5).is_some_and(|s| s >= LOCK_WAIT_S.into())
        });
        let long = found.next().is_some();
        self.waited |= long;
        Ok(long)
    }

    async fn end(&mut self) -> Result<End> {
        let new = self.server.flavor == Flavor::MySql && self.server.version >= LOG_STATUS_SINCE;
        let sql = if new { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
        let rows = self.control.rows(sql, "asking for the log's end").await?;
        end(&rows).ok_or_else(|| Error::config("the server writes no binary log").remedy("start it with log_bin"))
    }

    async fn prepared(&mut self) -> Result<HashSet<XidKey>> {
        prepared::list(self.control, self.server).await
    }
}

enum Way {
    Locks {
        name: &'static str,
        lock: Vec<String>,
        unlock: &'static str,
    },
    Agreement {
        tries: u32,
    },
    Window {
        tries: u32,
    },
    /// From here on with one connection.
    Alone,
}

impl Way {
    fn name(&self) -> &'static str {
        match self {
            Way::Locks { name, .. } => name,
            Way::Agreement { .. } => "views of one point",
            Way::Window { .. } => "a window without commits",
            Way::Alone => "one connection",
        }
    }
}

async fn rest(pause: &mut Duration) {
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}

/// A view that is open already is closed by this.
async fn open_views<C: Ask>(views: &mut [C]) -> Result<()> {
    try_join_all(views.iter_mut().map(|view| view.rows(VIEW, "opening the snapshot"))).await.map(drop)
}

/// MariaDB: the point of each view.
///
/// The server keeps what these two variables show in one place for all connections, from the start of the statement to its
/// end: asked at the same time, one connection is told another one's point. So they are asked one after the other, and each
/// until it says the same twice, because somebody else may ask too.
async fn points<C: Ask>(views: &mut [C]) -> Result<Vec<End>> {
    let sql = "SHOW STATUS WHERE Variable_name IN ('Binlog_snapshot_file', 'Binlog_snapshot_position')";
    let mut points = Vec::with_capacity(views.len());
    for view in views {
        let mut said = None;
        loop {
            let rows = view.rows(sql, "asking for the snapshot's point").await?;
            let point = point(&rows).ok_or_else(|| Error::bug("a snapshot without a point"))?;
            if said.as_ref() == Some(&point) {
                points.push(point);
                break;
            }
            said = Some(point);
        }
    }
    Ok(points)
}

/// ```text
/// Binlog_snapshot_file      binlog.000001
/// Binlog_snapshot_position  1119
/// ```
fn point(rows: &[TextRow]) -> Option<End> {
    let of = |name: &str| rows.iter().find(|row| text(row, 0).eq_ignore_ascii_case(name));
    let file = text(of("Binlog_snapshot_file")?, 1);
    let offset = number(of("Binlog_snapshot_position")?, 1)?;
    (!file.is_empty()).then(|| End { file: file.to_owned(), offset, executed: String::new() })
}

/// ```text
/// File  Position  Binlog_Do_DB  Binlog_Ignore_DB  [Executed_Gtid_Set]
/// ```
fn end(rows: &[TextRow]) -> Option<End> {
    let row = rows.first()?;
    let executed = text(row, 4).split_whitespace().collect();
    Some(End { file: text(row, 0).to_owned(), offset: number(row, 1)?, executed })
}

/// What all have in common; None where they differ.
fn common(mut points: Vec<End>) -> Option<End> {
    let first = points.pop()?;
    points.iter().all(|point| *point == first).then_some(first)
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
