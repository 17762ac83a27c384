//! `walbrook check`, the source's part: every prerequisite proven or refuted, all at once.
//!
//! Invariants:
//! - It changes nothing on the server.
//! - A problem never hides another: what cannot be looked at because of one says so and the rest is still looked at.
//! - Every problem and warning comes with the SQL statement or the setting that mends it.

mod server;
mod tables;

use super::catalog::Catalog;
use super::connection::{Connection, Role};
use super::conninfo::ConnInfo;
use super::publication::Publication;
use super::slot::{self, SlotState};
use super::sql::Sql;
use super::types::TypeCache;
use super::{quote, retention};
use crate::error::{Error, Finding, Result};
use crate::source::tables::Selection;

/// What the configuration asks of the server.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub selection: &'a Selection,
    /// None for a temporary one.
    pub slot: Option<&'a str>,
    /// None for a temporary one.
    pub publication: Option<&'a str>,
    /// Whether a snapshot will be taken.
    pub snapshot: bool,
}

/// Looks at everything.
///
/// # Errors
/// Only where not even an SQL connection can be had or it breaks.
pub async fn check(info: &ConnInfo, wanted: &Wanted<'_>) -> Result<Vec<Finding>> {
    let sql = Sql::connect(info).await?;
    let version = sql.server_version_num();
    let mut findings = vec![Finding::ok("connection", format!("connected to {info}"))];

    // The same server for everything that follows. Before our own replication connection, which counts as a sender.
    let facts = server::Facts::read(sql.client()).await?;
    let slot_state = match wanted.slot {
        Some(name) => SlotState::read(sql.client(), version, name).await?,
        None => None,
    };
    findings.extend(server::findings(&facts, wanted, slot_state.is_some()));
    findings.extend(pooler(sql.same_server()).await);
    findings.push(replication(sql.same_server(), &facts).await);
    findings.extend(slot(wanted, slot_state.as_ref(), &facts.database));

    let publication = match wanted.publication {
        Some(name) => Publication::read(sql.client(), version, name).await?,
        None => None,
    };
    let catalog = match Catalog::load(sql.client(), version, wanted.selection, &mut TypeCache::default()).await {
        Ok(catalog) => catalog,
        Err(error) if error.is_transient() => return Err(error),
        Err(error) => {
            findings.push(problem("tables", &error, "look at tables and exclude_tables in the configuration"));
            return Ok(findings);
        }
    };
    findings.extend(tables::check(sql.client(), version, &facts, wanted, &catalog, publication.as_ref()).await?);
    Ok(findings)
}

/// The whole chain on one line; the error's own remedy comes before ours.
fn problem(subject: &str, error: &Error, remedy: &str) -> Finding {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        message.push_str(": ");
        message.push_str(&inner.to_string());
        cause = inner.source();
    }
    Finding::problem(subject, message, error.remedy_text().unwrap_or(remedy))
}

const POOLER_REMEDY: &str = "connect to the server itself, not to PgBouncer, Pgpool, pgcat or Supavisor before it \
     (Supabase: the direct connection, port 5432)";

/// A session's process as the login names it, and as the server itself does: a pooler gives away another one's.
async fn pooler(info: &ConnInfo) -> Option<Finding> {
    match Connection::connect(info, Role::Sql).await {
        Ok(connection) => {
            let behind = connection.is_behind_pooler();
            connection.close().await;
            let message = "the session is a pooler's, not the server's: replication does not go through it";
            behind.then(|| Finding::problem("pooler", message, POOLER_REMEDY))
        }
        Err(error) => Some(problem("pooler", &error, POOLER_REMEDY)),
    }
}

/// Whether a logical replication connection to this database can be had, and talks to the same server.
async fn replication(info: &ConnInfo, facts: &server::Facts) -> Finding {
    const SUBJECT: &str = "replication connection";
    let hba = format!(
        "give the role REPLICATION, and let pg_hba.conf accept it: host {} {} <address> scram-sha-256 \
         (for logical replication the database's own line counts)",
        facts.database, facts.role
    );
    let connected = async {
        let mut connection = Connection::connect(info, Role::Replication).await?;
        let behind = connection.is_behind_pooler();
        let answer = connection.simple_query("IDENTIFY_SYSTEM").await?;
        let system = answer.first().map(|rows| rows.text(0, "systemid")).transpose()?.flatten().map(str::to_owned);
        connection.close().await;
        Ok((behind, system))
    };
    match connected.await {
        Ok((true, _)) => Finding::problem(SUBJECT, "it goes through a pooler", POOLER_REMEDY),
        Ok((false, Some(system))) => Finding::ok(SUBJECT, format!("works; system identifier {system}")),
        Ok((false, None)) => {
            Finding::problem(SUBJECT, "the answer to IDENTIFY_SYSTEM is not a server's", POOLER_REMEDY)
        }
        Err(error) => problem(SUBJECT, &error, &hba),
    }
}

fn slot(wanted: &Wanted<'_>, state: Option<&SlotState>, database: &str) -> Vec<Finding> {
    let Some(name) = wanted.slot else {
        return vec![Finding::ok("slot", "a temporary one will be created, and is gone at the end")];
    };
    let subject = format!("slot {name}");
    let Some(state) = state else {
        return vec![match slot::check_name(name) {
            Ok(()) => Finding::ok(subject, "it does not exist and will be created"),
            Err(error) => problem(&subject, &error, "choose another name"),
        }];
    };
    if let Some(foreign) = state.foreign(database) {
        return vec![Finding::problem(subject, foreign, "choose another name by `slot`")];
    }
    if let Some(why) = state.invalidated() {
        let drop = format!(
            "SELECT pg_drop_replication_slot({}), then start over from a snapshot (on_lost_position: resnapshot)",
            quote::literal(name)
        );
        return vec![Finding::problem(subject, why, drop)];
    }
    let mut findings = Vec::new();
    if let Some(pid) = state.active_pid {
        findings.push(Finding::warning(
            &subject,
            format!("it is in use by the process {pid} of the server"),
            format!("stop the other walbrook, or SELECT pg_terminate_backend({pid}); until then walbrook waits"),
        ));
    }
    if let Some(warning) = retention::warning(state) {
        findings.push(Finding::warning(
            &subject,
            warning,
            "let walbrook run and catch up; raise max_slot_wal_keep_size",
        ));
    }
    if findings.is_empty() {
        let at = state.confirmed_flush_lsn.map(|lsn| format!(", confirmed up to {lsn}")).unwrap_or_default();
        findings.push(Finding::ok(subject, format!("it exists and is free{at}")));
    }
    findings
}
