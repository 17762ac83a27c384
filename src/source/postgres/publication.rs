//! The publication: what the server sends us of which tables.
//!
//! Invariants:
//! - Ours or not is written in the publication's comment. Only a publication of ours is altered, only a temporary one of
//!   ours is dropped; any other is used as it is, and what it lacks is said together with the SQL that mends it.
//! - What we create names its tables: never `FOR ALL TABLES`, so that the server decodes nothing for us that is not
//!   wanted. Columns are not listed: a list would silently leave out columns that are added later.
//! - Row filters and column lists of somebody else's publication hold in the snapshot as in the stream: [`Published`] has
//!   them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Client;

use super::catalog::{Catalog, Kind, Table};
use super::error;
use super::quote::{ident, literal};
use crate::error::{Error, Finding, Level, Result};

/// A publication with what it publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    pub name: String,
    pub ownership: Ownership,
    pub all_tables: bool,
    pub inserts: bool,
    pub updates: bool,
    pub deletes: bool,
    pub truncates: bool,
    /// Whether changes of partitions come as changes of their root.
    pub via_root: bool,
    pub tables: Vec<Arc<Published>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Created by walbrook for good: tables that become wanted are added.
    Managed,
    /// Created by walbrook for the life of a slot.
    Temporary { slot: String },
    /// Somebody else's.
    Foreign,
}

/// What a publication publishes of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// In the table's order; `None`: all that are not generated (before 15 there are no lists).
    pub columns: Option<Vec<String>>,
    /// An SQL expression over the table's columns; only rows for which it is true are published.
    pub row_filter: Option<String>,
}

const MANAGED: &str = "Managed by walbrook: tables that its configuration wants are added.";
const TEMPORARY: &str = "Temporary, of walbrook's replication slot ";

impl Ownership {
    fn from_comment(comment: Option<&str>) -> Ownership {
        match comment {
            Some(MANAGED) => Ownership::Managed,
            Some(comment) => match comment.strip_prefix(TEMPORARY) {
                Some(slot) => Ownership::Temporary { slot: slot.to_owned() },
                None => Ownership::Foreign,
            },
            None => Ownership::Foreign,
        }
    }

    fn comment(&self) -> Option<String> {
        match self {
            Ownership::Managed => Some(MANAGED.to_owned()),
            Ownership::Temporary { slot } => Some(format!("{TEMPORARY}{slot}")),
            Ownership::Foreign => None,
        }
    }
}

impl Publication {
    /// Reads a publication; `None` where there is none of that name.
    ///
    /// # Errors
    /// Those of a query.
    pub async fn read(client: &Client, version: u32, name: &str) -> Result<Option<Publication>> {
        let sql = |e| error::sql(e, format!("reading publication {name:?}"));
        let via_root = if version >= 130_000 { "p.pubviaroot" } else { "false" };
        let text = format!(
            "SELECT p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, {via_root},
                    pg_catalog.obj_description(p.oid, 'pg_publication')
             FROM pg_catalog.pg_publication p WHERE p.pubname = $1"
        );
        let Some(row) = client.query_opt(&text, &[&name]).await.map_err(sql)? else { return Ok(None) };
        // Before 18 generated columns are listed though they are never sent.
        let lists = match version {
            180_000.. => "t.attnames::pg_catalog.text[], t.rowfilter",
            150_000.. => {
                "ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a
                       WHERE a.attrelid = c.oid AND a.attname = ANY(t.attnames) AND a.attgenerated = ''
                       ORDER BY a.attnum), t.rowfilter"
            }
            _ => "NULL::pg_catalog.text[], NULL::pg_catalog.text",
        };
        let text = format!(
            "SELECT c.oid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, {lists}
             FROM pg_catalog.pg_publication_tables t
             JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
             JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
             WHERE t.pubname = $1 ORDER BY 2, 3"
        );
        let tables = client.query(&text, &[&name]).await.map_err(sql)?;
        Ok(Some(Publication {
            name: name.to_owned(),
            ownership: Ownership::from_comment(row.get(6)),
            all_tables: row.get(0),
            inserts: row.get(1),
            updates: row.get(2),
            deletes: row.get(3),
            truncates: row.get(4),
            via_root: row.get(5),
            tables: tables
                .into_iter()
                .map(|row| {
                    Arc::new(Published {
                        oid: row.get(0),
                        schema: row.get(1),
                        name: row.get(2),
                        columns: row.get(3),
                        row_filter: row.get(4),
                    })
                })
                .collect(),
        }))
    }

    /// What it publishes, by the table's oid.
    pub fn by_oid(&self) -> HashMap<u32, Arc<Published>> {
        self.tables.iter().map(|table| (table.oid, table.clone())).collect()
    }

    /// The wanted tables it does not publish.
    pub fn missing<'a>(&self, tables: &'a [Table]) -> Vec<&'a Table> {
        let published = self.by_oid();
        tables.iter().filter(|table| !published.contains_key(&table.oid)).collect()
    }

    /// What is to be said of a publication against the wanted tables. Tables that walbrook will add itself are no problem.
    pub fn findings(&self, tables: &[Table]) -> Vec<Finding> {
        let subject = format!("publication {}", self.name);
        let mut findings = Vec::new();
        let partitioned = tables.iter().any(|table| table.kind == Kind::Partitioned);
        if partitioned && !self.via_root {
            findings.push(Finding::problem(
                &subject,
                "it sends changes of partitions under the partitions' names, not their table's",
                format!("ALTER PUBLICATION {} SET (publish_via_partition_root = true)", ident(&self.name)),
            ));
        }
        let missing = self.missing(tables);
        if !missing.is_empty() {
            let names = missing.iter().map(|table| table.to_string()).collect::<Vec<_>>();
            findings.push(if self.ownership == Ownership::Managed {
                Finding::ok(&subject, format!("{} will be added", listed(&names)))
            } else {
                // Where only the flag is missing, the table itself is there under its partitions' names.
                Finding::problem(&subject, format!("it lacks {}", listed(&names)), add_sql(&self.name, &missing))
            });
        }
        let flags = [
            (self.inserts, "insert"),
            (self.updates, "update"),
            (self.deletes, "delete"),
            (self.truncates, "truncate"),
        ];
        let absent: Vec<&str> = flags.iter().filter(|(on, _)| !on).map(|(_, name)| *name).collect();
        if !absent.is_empty() {
            findings.push(Finding::warning(
                &subject,
                format!("it does not publish every operation: {} will never arrive", absent.join(", ")),
                format!("ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate')", ident(&self.name)),
            ));
        }
        let filtered: Vec<String> = (self.tables.iter())
            .filter(|published| published.row_filter.is_some())
            .filter(|published| tables.iter().any(|table| table.oid == published.oid))
            .map(|published| format!("{}.{}", published.schema, published.name))
            .collect();
        if !filtered.is_empty() {
            findings.push(Finding::ok(&subject, format!("its row filters hold for {}", listed(&filtered))));
        }
        if findings.iter().all(|finding| finding.level == Level::Ok) {
            findings.push(Finding::ok(&subject, format!("it publishes the {} wanted tables", tables.len())));
        }
        findings
    }
}

/// At most so many names stand in a message.
const LISTED_MAX: usize = 10;

fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(LISTED_MAX)].join(", ");
    match names.len().saturating_sub(LISTED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Plain tables by `ONLY` where others inherit from them: each of those is a table of its own.
fn table_list<'a>(tables: impl IntoIterator<Item = &'a Table>) -> String {
    let names = tables.into_iter().map(|table| match (table.kind, table.storage.first()) {
        (Kind::Plain, Some(storage)) => storage.sql_from(),
        _ => table.sql_name(),
    });
    names.collect::<Vec<_>>().join(", ")
}

/// The statement that creates a publication of exactly these tables. `version`: the server's, as `server_version_num`.
pub fn create_sql(version: u32, name: &str, tables: &[Table]) -> String {
    let via_root = if version >= 130_000 { ", publish_via_partition_root = true" } else { "" };
    format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish = 'insert, update, delete, truncate'{via_root})",
        ident(name),
        table_list(tables)
    )
}

fn add_sql(name: &str, tables: &[&Table]) -> String {
    format!("ALTER PUBLICATION {} ADD TABLE {}", ident(name), table_list(tables.iter().copied()))
}

/// A publication that is ready for the stream.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub publication: Publication,
    pub created: bool,
    /// The oids of wanted tables that were added to it just now: their earlier changes are not in the stream.
    pub added: Vec<u32>,
}

/// Creates the publication where it is absent, adds what is missing where it is ours, and holds any other against the
/// wanted tables. `ownership`: of a new one; with `Foreign` none is created, and whichever exists is used as it is.
///
/// # Errors
/// Config: it does not exist and is not to be created, no privilege to create or alter it, a publication of somebody else that lacks tables, or sends partitions
/// under their own names. Those of a query.
pub async fn prepare(
    client: &Client,
    version: u32,
    name: &str,
    ownership: &Ownership,
    catalog: &Catalog,
) -> Result<Prepared> {
    let tables = &catalog.tables;
    let mut created = false;
    let mut added = Vec::new();
    let mut found = Publication::read(client, version, name).await?;
    if *ownership == Ownership::Foreign {
        let Some(found) = &mut found else {
            return Err(Error::config(format!("publication {name:?} does not exist")).remedy(format!(
                "{}; or leave --publication out for a temporary one",
                create_sql(version, name, tables)
            )));
        };
        found.ownership = Ownership::Foreign;
    }
    if found.is_none() {
        created = create(client, version, name, ownership, tables).await?;
        found = Publication::read(client, version, name).await?;
    }
    let missing = found.as_ref().filter(|p| p.ownership == Ownership::Managed).map(|p| p.missing(tables));
    if let Some(missing) = missing.filter(|missing| !missing.is_empty()) {
        let text = add_sql(name, &missing);
        client.batch_execute(&text).await.map_err(|e| {
            let error = error::sql(e, format!("adding tables to publication {name:?}"));
            remedy_of_privileges(error, &text)
        })?;
        added = missing.iter().map(|table| table.oid).collect();
        found = Publication::read(client, version, name).await?;
    }
    let publication =
        found.ok_or_else(|| Error::transient(format!("publication {name:?} was dropped while it was being read")))?;
    let problems: Vec<Finding> =
        publication.findings(tables).into_iter().filter(|finding| finding.level == Level::Problem).collect();
    if problems.is_empty() {
        return Ok(Prepared { publication, created, added });
    }
    let said = problems.iter().map(|finding| finding.message.as_str()).collect::<Vec<_>>().join("; ");
    let remedies = problems.into_iter().filter_map(|finding| finding.remedy).collect::<Vec<_>>().join("; ");
    Err(Error::config(format!("publication {name:?} does not fit the wanted tables: {said}")).remedy(remedies))
}

/// Whether it was us who created it; somebody else may have been faster.
async fn create(client: &Client, version: u32, name: &str, ownership: &Ownership, tables: &[Table]) -> Result<bool> {
    let create = create_sql(version, name, tables);
    let comment = ownership
        .comment()
        .map(|comment| format!("; COMMENT ON PUBLICATION {} IS {}", ident(name), literal(&comment)))
        .unwrap_or_default();
    if let Ownership::Temporary { .. } = ownership {
        hold(client, name).await?;
    }
    // One simple query of two statements is one transaction: there is no moment without the comment.
    match client.batch_execute(&format!("{create}{comment}")).await {
        Ok(()) => Ok(true),
        Err(cause) => {
            let error = error::sql(cause, format!("creating publication {name:?}"));
            match error::code(&error) {
                Some("42710") => Ok(false),
                _ => Err(remedy_of_privileges(error, &create)),
            }
        }
    }
}

fn remedy_of_privileges(error: Error, statement: &str) -> Error {
    if error::code(&error) != Some("42501") {
        return error;
    }
    error.remedy(format!(
        "a publication takes CREATE on the database and ownership of its tables; let their owner or a superuser run: \
         {statement}"
    ))
}

/// `WALB` in ASCII: the class of our advisory locks.
const LOCK_CLASS: i32 = 0x5741_4C42;

/// Says that a temporary publication's process lives, until this session ends.
async fn hold(client: &Client, name: &str) -> Result<()> {
    let text = "SELECT pg_catalog.pg_advisory_lock($1, pg_catalog.hashtext($2))";
    client.execute(text, &[&LOCK_CLASS, &name]).await.map_err(|e| error::sql(e, "locking a temporary publication"))?;
    Ok(())
}

/// Drops a temporary publication of ours; any other is left alone.
///
/// # Errors
/// Those of a query.
pub async fn drop_temporary(client: &Client, version: u32, name: &str) -> Result<()> {
    match Publication::read(client, version, name).await? {
        Some(Publication { ownership: Ownership::Temporary { .. }, .. }) => drop_named(client, name).await,
        _ => Ok(()),
    }
}

async fn drop_named(client: &Client, name: &str) -> Result<()> {
    client
        .batch_execute(&format!("DROP PUBLICATION IF EXISTS {}", ident(name)))
        .await
        .map_err(|e| error::sql(e, format!("dropping publication {name:?}")))
}

/// Drops the temporary publications of processes that could not do it themselves: their slot is gone and nobody holds
/// their lock. Returns the names.
///
/// # Errors
/// Those of a query; that it may not drop one is none.
pub async fn drop_abandoned(client: &Client) -> Result<Vec<String>> {
    let sql = |e| error::sql(e, "looking for publications left behind");
    let text = "
        SELECT p.pubname::pg_catalog.text FROM pg_catalog.pg_publication p
        WHERE pg_catalog.starts_with(pg_catalog.obj_description(p.oid, 'pg_publication'), $1)
          AND pg_catalog.pg_has_role(p.pubowner, 'USAGE')
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s
                          WHERE s.slot_name = pg_catalog.substr(
                              pg_catalog.obj_description(p.oid, 'pg_publication'), pg_catalog.length($1) + 1))";
    let mut dropped = Vec::new();
    for row in client.query(text, &[&TEMPORARY]).await.map_err(sql)? {
        let name: String = row.get(0);
        let lock = "SELECT pg_catalog.pg_try_advisory_lock($1, pg_catalog.hashtext($2))";
        if !client.query_one(lock, &[&LOCK_CLASS, &name]).await.map_err(sql)?.get::<_, bool>(0) {
            continue;
        }
        match drop_named(client, &name).await {
            Ok(()) => dropped.push(name.clone()),
            Err(error) => tracing::debug!(?error, publication = name, "a publication left behind stays"),
        }
        let unlock = "SELECT pg_catalog.pg_advisory_unlock($1, pg_catalog.hashtext($2))";
        client.query_one(unlock, &[&LOCK_CLASS, &name]).await.map_err(sql)?;
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Identity;
    use crate::source::postgres::catalog::{Keys, Storage};

    fn table(oid: u32, name: &str, kind: Kind, has_children: bool) -> Table {
        let storage = Storage {
            oid,
            schema: "shop".into(),
            name: name.into(),
            filenode: oid,
            pages: 0,
            rows: None,
            bytes: 0,
            rows_hidden: false,
            has_children,
            identity: Identity::Default,
            can_identify: true,
        };
        let keys = Keys {
            identity: Identity::Default,
            primary_key: vec![],
            primary_key_deferrable: false,
            identity_index: vec![],
        };
        Table { oid, schema: "shop".into(), name: name.into(), kind, columns: vec![], keys, storage: vec![storage] }
    }

    fn publication(ownership: Ownership, tables: &[u32]) -> Publication {
        let published = |oid: &u32| {
            Arc::new(Published { oid: *oid, schema: "shop".into(), name: "x".into(), columns: None, row_filter: None })
        };
        Publication {
            name: "p".into(),
            ownership,
            all_tables: false,
            inserts: true,
            updates: true,
            deletes: true,
            truncates: true,
            via_root: false,
            tables: tables.iter().map(published).collect(),
        }
    }

    #[test]
    fn statements_are_quoted() {
        let tables = [table(1, "or\"ders", Kind::Plain, false), table(2, "base", Kind::Plain, true)];
        assert_eq!(
            create_sql(150_000, "wal.brook", &tables),
            r#"CREATE PUBLICATION "wal.brook" FOR TABLE "shop"."or""ders", ONLY "shop"."base" WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"#
        );
        assert!(!create_sql(120_000, "p", &tables).contains("via_partition_root"));
    }

    #[test]
    fn what_is_lacking_comes_with_its_remedy() {
        let tables = [table(1, "a", Kind::Plain, false), table(2, "b", Kind::Partitioned, false)];
        let levels = |p: &Publication| p.findings(&tables).into_iter().map(|f| f.level).collect::<Vec<_>>();
        let foreign = publication(Ownership::Foreign, &[1]);
        let findings = foreign.findings(&tables);
        assert_eq!(levels(&foreign), [Level::Problem, Level::Problem]);
        assert!(findings[0].remedy.as_deref().unwrap().contains("publish_via_partition_root = true"));
        assert_eq!(findings[1].remedy.as_deref(), Some(r#"ALTER PUBLICATION "p" ADD TABLE "shop"."b""#));

        let managed = Publication { via_root: true, ..publication(Ownership::Managed, &[1]) };
        assert_eq!(levels(&managed), [Level::Ok, Level::Ok]);
        let partial = Publication { via_root: true, deletes: false, ..publication(Ownership::Foreign, &[1, 2]) };
        assert_eq!(levels(&partial), [Level::Warning]);
        let fine = Publication { via_root: true, ..publication(Ownership::Foreign, &[2, 1, 9]) };
        assert_eq!(levels(&fine), [Level::Ok]);
    }

    #[test]
    fn the_comment_says_whose_it_is() {
        for ownership in [Ownership::Managed, Ownership::Temporary { slot: "walbrook_1".into() }] {
            assert_eq!(Ownership::from_comment(ownership.comment().as_deref()), ownership);
        }
        for comment in [None, Some(""), Some("ours")] {
            assert_eq!(Ownership::from_comment(comment), Ownership::Foreign);
        }
    }
}
