//! `walbrook check`, the source's part: every prerequisite proven or refuted, all at once.
//!
//! Invariants:
//! - It changes nothing on the server.
//! - A problem never hides another: what cannot be looked at because of one says so and the rest is still looked at.
//! - Every problem and warning comes with the SQL statement or the setting that mends it.

mod rights;
mod server;
mod tables;

use std::time::{SystemTime, UNIX_EPOCH};

use super::ask::{Ask, number, text};
use super::catalog::Catalog;
use super::server::{Flavor, Server};
use super::stopped;
use crate::error::{Error, Finding, Result};
use crate::record::{BinlogPosition, Position};
use crate::source::Stored;
use crate::source::tables::Selection;

/// What the configuration asks of the server.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub selection: &'a Selection,
    pub server_id: Option<u32>,
    /// Whether a snapshot will be taken.
    pub snapshot: bool,
}

/// Looks at everything. `connected`: to whom, for people.
///
/// # Errors
/// Only where the connection breaks.
pub async fn check(
    ask: &mut dyn Ask,
    connected: &str,
    server: &Server,
    wanted: &Wanted<'_>,
    stored: Option<Stored<'_>>,
) -> Result<Vec<Finding>> {
    let mut findings = vec![Finding::ok("connection", format!("connected to {connected}"))];
    let rights = rights(ask).await?;
    let log = log(ask, server).await?;
    findings.extend(server::findings(server, &log, wanted.server_id));
    findings.extend(rights::findings(&rights, server, wanted.snapshot));
    if let Some(Position::MySql(position)) = stored.and_then(|stored| stored.needed) {
        let files = super::status::files(ask, server).await;
        match files {
            Ok(files) => findings.extend(lag(server, position, &files)),
            Err(error) if error.is_transient() => return Err(error),
            Err(_) => {} // the right that is missing is named above
        }
    }

    for stopped in stored.iter().flat_map(|stored| stopped::tables(stored.state)) {
        findings.push(Finding::problem(
            format!("table {}.{}", stopped.database, stopped.table),
            format!("it goes no further, as its rows in the log do not fit what is known of it: {}", stopped.why),
            "leave it out by `exclude_tables`, or read everything anew: `walbrook offsets reset`, then run",
        ));
    }

    let catalog = match Catalog::load(ask, server, wanted.selection).await {
        Ok(catalog) => catalog,
        Err(error) if error.is_transient() => return Err(error),
        Err(error) => {
            findings.push(problem("tables", &error, "look at tables and exclude_tables in the configuration"));
            return Ok(findings);
        }
    };
    let mut selection = wanted.selection.clone();
    if catalog.ignores_table_case {
        selection.ignore_table_case();
    }
    let mut unreadable = Vec::new();
    for table in &catalog.tables {
        let Some(probe) = tables::probe(&table.def, &selection) else { continue };
        match ask.rows(&probe, "proving the right to read a table").await {
            Ok(_) => {}
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => unreadable.push((table, chain(&error))),
        }
    }
    findings.extend(tables::findings(&catalog, &unreadable, rights.account()));
    Ok(findings)
}

/// The whole chain on one line.
fn chain(error: &Error) -> String {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        message.push_str(": ");
        message.push_str(&inner.to_string());
        cause = inner.source();
    }
    message
}

/// The error's own remedy comes before ours.
fn problem(subject: &str, error: &Error, remedy: &str) -> Finding {
    Finding::problem(subject, chain(error), error.remedy_text().unwrap_or(remedy))
}

/// Of the account and the roles that are active.
async fn rights(ask: &mut dyn Ask) -> Result<rights::Rights> {
    let doing = "asking for the account's rights";
    let who = ask.rows("SELECT CURRENT_USER(), CURRENT_ROLE()", doing).await?;
    let first = who.first().cloned().unwrap_or_default();
    let mut statements = vec!["SHOW GRANTS FOR CURRENT_USER()".to_owned()];
    match text(&first, 1) {
        "" | "NONE" => {}
        // MySQL prints them quoted, and may have several; MariaDB has one.
        roles if roles.contains('`') => statements = vec![format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}")],
        _ => statements.push("SHOW GRANTS FOR CURRENT_ROLE()".to_owned()),
    }
    let mut lines = Vec::new();
    for statement in statements {
        match ask.rows(&statement, doing).await {
            Ok(rows) => lines.extend(rows.iter().map(|row| text(row, 0).to_owned())),
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => tracing::debug!(?error, "rights that are not shown"),
        }
    }
    Ok(rights::Rights::read(text(&first, 0), lines.iter().map(String::as_str)))
}

/// What else there is to know of the log; what the account may not ask is left as it is when all is well, because the
/// right that is missing is a problem of its own.
async fn log(ask: &mut dyn Ask, server: &Server) -> Result<server::Log> {
    let mut log = server::Log::default();
    let mysql = server.flavor == Flavor::MySql;
    // Each by its name since, or by the one before.
    let status = if mysql && server.version >= (8, 2, 0) { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
    let replicas = if mysql && server.version >= (8, 0, 22) { "SHOW REPLICAS" } else { "SHOW SLAVE HOSTS" };
    let replication = match mysql {
        true if server.version >= (8, 0, 22) => "SHOW REPLICA STATUS",
        true => "SHOW SLAVE STATUS",
        false => "SHOW ALL SLAVES STATUS",
    };
    for statement in [status, replicas, replication] {
        let rows = match ask.rows(statement, "asking for the log's state").await {
            Ok(rows) => rows,
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                tracing::debug!(?error, statement, "the server does not say");
                continue;
            }
        };
        if statement == status {
            let row = rows.first().cloned().unwrap_or_default();
            (log.do_db, log.ignore_db) = (text(&row, 2).to_owned(), text(&row, 3).to_owned());
        } else if statement == replicas {
            log.replicas = rows.iter().filter_map(|row| number(row, 0)).collect();
        } else {
            log.is_replica = !rows.is_empty();
        }
    }
    Ok(log)
}

/// How far the stored position is from the end of the log, and how long the server keeps that.
fn lag(server: &Server, position: &BinlogPosition, files: &[super::retention::LogFile]) -> Option<Finding> {
    let subject = "lag";
    let at = files.iter().position(|file| *file.name == *position.file)?;
    let all: u64 = files[at..].iter().map(|file| file.bytes).sum();
    let bytes = all.saturating_sub(position.offset);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let age_s = now.saturating_sub(position.file_created_unix_s.into());
    let behind = format!("{bytes} bytes of log are still to be read, from {position} on");
    let (Some(keeps), true) = (server::keeps_s(server), position.file_created_unix_s != 0) else {
        return Some(Finding::ok(subject, behind));
    };
    let (age, kept) = (server::span(age_s), server::span(keeps));
    let message = format!("{behind}, in a file begun {age} ago; the server removes files after {kept}");
    // The last file is never removed.
    if at + 1 < files.len() && age_s > keeps / 2 {
        let remedy = "let walbrook run and catch up, or raise binlog_expire_logs_seconds (SET PERSIST, SET GLOBAL)";
        return Some(Finding::warning(subject, message, remedy));
    }
    Some(Finding::ok(subject, message))
}
