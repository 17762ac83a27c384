//! Where the server's log ends, and which files it has.

use std::sync::Arc;

use super::ask::{Ask, TextRow, number, text};
use super::retention::{Gtids, LogFile};
use super::server::{Flavor, Server};
use crate::error::{Error, Result};
use crate::record::gtid::{GtidSet, MariaDbGtid, MariaDbGtids, MySqlGtids};
use crate::record::{BinlogPosition, Seen};

/// The version from which nothing is called `MASTER` any more.
const STATUS_SINCE: (u32, u32, u32) = (8, 2, 0);

/// The files of the log, oldest first.
///
/// # Errors
/// Config: the account may not see them (REPLICATION CLIENT, BINLOG MONITOR), there is no log.
pub async fn files(ask: &mut dyn Ask, _server: &Server) -> Result<Vec<LogFile>> {
    let rows = ask.rows("SHOW BINARY LOGS", "asking for the files of the log").await?;
    let file = |row| Some(LogFile { name: text(row, 0).to_owned(), bytes: number(row, 1)? });
    rows.iter().map(|row| file(row).ok_or_else(|| Error::bug("SHOW BINARY LOGS names no size"))).collect()
}

/// The end of the log: file, offset, and what has been executed up to there where GTIDs are on.
///
/// # Errors
/// As [`files`].
pub async fn tip(ask: &mut dyn Ask, server: &Server) -> Result<BinlogPosition> {
    let mysql = server.flavor == Flavor::MySql;
    let row = end_row(ask, server).await?;
    let (file, offset) = file_and_offset(&row)?;
    let file = file.as_str();
    let seen = if !server.uses_gtids() {
        Seen::Nothing
    } else if mysql {
        Seen::Executed(Arc::new(GtidSet::MySql(mysql_set(text(&row, 4))?)))
    } else {
        executed_at(ask, file, offset).await?
    };
    Ok(BinlogPosition { server: server.position_number(), file: file.into(), offset, file_created_unix_s: 0, seen })
}

/// MariaDB's set as of this very offset: transactions go on meanwhile.
pub async fn executed_at(ask: &mut dyn Ask, file: &str, offset: u64) -> Result<Seen> {
    let sql = format!("SELECT BINLOG_GTID_POS({}, {offset})", super::quote::literal(file));
    let rows = ask.rows(&sql, "asking for the GTIDs up to an offset of the log").await?;
    let position = rows.first().map(|row| text(row, 0)).unwrap_or_default();
    let set = position.parse().map_err(|_| Error::bug(format!("{sql} says {position:?}")))?;
    Ok(Seen::Executed(Arc::new(GtidSet::MariaDb(set))))
}

/// The first position that the log is there from. `files`: those it has.
///
/// # Errors
/// Config: the server writes no log; those of a query.
pub async fn beginning(ask: &mut dyn Ask, server: &Server, files: &[LogFile]) -> Result<BinlogPosition> {
    let oldest = files.first().ok_or_else(|| Error::config("the server has no binary log"))?;
    let offset = super::place::FIRST_EVENT;
    let seen = match (gtids(ask, server, files).await?, server.uses_gtids()) {
        (_, false) | (Gtids::Off, _) => Seen::Nothing,
        (Gtids::MySql { purged, .. }, _) => Seen::Executed(Arc::new(GtidSet::MySql(purged))),
        (Gtids::MariaDb { .. }, _) => executed_at(ask, &oldest.name, offset).await?,
    };
    let file = oldest.name.as_str().into();
    Ok(BinlogPosition { server: server.position_number(), file, offset, file_created_unix_s: 0, seen })
}

/// The end of the log alone: file and offset.
///
/// # Errors
/// As [`files`].
pub async fn end(ask: &mut dyn Ask, server: &Server) -> Result<(String, u64)> {
    file_and_offset(&end_row(ask, server).await?)
}

async fn end_row(ask: &mut dyn Ask, server: &Server) -> Result<TextRow> {
    let newer = server.flavor == Flavor::MySql && server.version >= STATUS_SINCE;
    let statement = if newer { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
    let rows = ask.rows(statement, "asking for the end of the log").await?;
    rows.into_iter().next().ok_or_else(|| {
        Error::config("the server writes no binary log").remedy("set log_bin = binlog below [mysqld], and restart it")
    })
}

fn file_and_offset(row: &TextRow) -> Result<(String, u64)> {
    let offset = number(row, 1).ok_or_else(|| Error::bug("the end of the server's log has no offset"))?;
    Ok((text(row, 0).to_owned(), offset))
}

/// What the server says in GTIDs of what it has and what it has no longer. `files`: those it has.
///
/// # Errors
/// Those of a query; Bug for an answer that is no GTID set.
pub async fn gtids(ask: &mut dyn Ask, server: &Server, files: &[LogFile]) -> Result<Gtids> {
    let doing = "asking for the server's GTIDs";
    if !server.uses_gtids() {
        return Ok(Gtids::Off);
    }
    if server.flavor == Flavor::MySql {
        let rows = ask.rows("SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged", doing).await?;
        let row = rows.first().ok_or_else(|| Error::bug("no gtid_executed"))?;
        return Ok(Gtids::MySql { executed: mysql_set(text(row, 0))?, purged: mysql_set(text(row, 1))? });
    }
    let rows = ask.rows("SELECT @@GLOBAL.gtid_binlog_state, @@GLOBAL.gtid_slave_pos", doing).await?;
    let row = rows.first().ok_or_else(|| Error::bug("no gtid_binlog_state"))?;
    let before_oldest = match files.first() {
        Some(oldest) => gtid_list(ask, &oldest.name).await?,
        None => Vec::new(),
    };
    Ok(Gtids::MariaDb { state: mariadb_list(text(row, 0))?, before_oldest, applied: mariadb_list(text(row, 1))? })
}

/// FORMAT_DESCRIPTION, perhaps START_ENCRYPTION, GTID_LIST: it is among the first events of every file.
const FIRST_EVENTS: u32 = 4;

/// What was logged before a file of MariaDB's: its GTID_LIST.
async fn gtid_list(ask: &mut dyn Ask, file: &str) -> Result<Vec<MariaDbGtid>> {
    // `[0-1-5,1-2-3]`; a file of a server before 10.0.2 has none.
    let list = first_event(ask, file, "Gtid_list").await?.unwrap_or_default();
    mariadb_list(list.trim_start_matches('[').trim_end_matches(']'))
}

/// What was logged before a file, as it says itself; none where it does not.
///
/// # Errors
/// Those of a query; Bug for an answer that is no GTID set.
pub async fn logged_before(ask: &mut dyn Ask, server: &Server, file: &str) -> Result<Option<GtidSet>> {
    let kind = if server.flavor == Flavor::MySql { "Previous_gtids" } else { "Gtid_list" };
    let Some(list) = first_event(ask, file, kind).await? else { return Ok(None) };
    if server.flavor == Flavor::MySql {
        return mysql_set(&list).map(|set| Some(GtidSet::MySql(set)));
    }
    let mut set = MariaDbGtids::default();
    mariadb_list(list.trim_start_matches('[').trim_end_matches(']'))?.into_iter().for_each(|gtid| set.insert(gtid));
    Ok(Some(GtidSet::MariaDb(set)))
}

/// What SHOW BINLOG EVENTS says of one of the events that a file begins with.
async fn first_event(ask: &mut dyn Ask, file: &str, kind: &str) -> Result<Option<String>> {
    let sql = format!("SHOW BINLOG EVENTS IN {} LIMIT {FIRST_EVENTS}", super::quote::literal(file));
    let rows = ask.rows(&sql, "reading what was logged before a file").await?;
    // Log_name, Pos, Event_type, Server_id, End_log_pos, Info.
    Ok(rows.iter().find(|row| text(row, 2) == kind).map(|row| text(row, 5).to_owned()))
}

fn mysql_set(text: &str) -> Result<MySqlGtids> {
    text.parse().map_err(|_| Error::bug(format!("the server's GTID set is {text:?}")))
}

fn mariadb_list(text: &str) -> Result<Vec<MariaDbGtid>> {
    let gtids = text.split(',').map(str::trim).filter(|gtid| !gtid.is_empty());
    gtids.map(|gtid| gtid.parse().map_err(|_| Error::bug(format!("the server's GTID list is {text:?}")))).collect()
}
