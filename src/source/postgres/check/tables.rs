//! The wanted tables: rights, row security, replica identity, and the publication that is to hold them.

use std::collections::HashMap;

use tokio_postgres::Client;

use super::Wanted;
use super::server::Facts;
use crate::error::{Finding, Level, Result};
use crate::record::Identity;
use crate::source::postgres::catalog::{Catalog, Generated, Kind, Table};
use crate::source::postgres::error;
use crate::source::postgres::publication::{self, Ownership, Publication};
use crate::source::postgres::quote::{ident, qualified};
use crate::source::postgres::relation::StoredRelation;

/// The rights of our role on a relation.
struct Rights {
    usage: bool,
    select: bool,
    owner: bool,
    owner_name: String,
    /// Columns it may not read; asked only where it may not read the table.
    denied: Vec<String>,
}

const RIGHTS_SQL: &str = "
SELECT c.oid, pg_catalog.has_schema_privilege(n.oid, 'USAGE'), pg_catalog.has_table_privilege(c.oid, 'SELECT'),
       pg_catalog.pg_has_role(c.relowner, 'USAGE'), pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text,
       CASE WHEN pg_catalog.has_table_privilege(c.oid, 'SELECT') THEN '{}'::pg_catalog.text[] ELSE
           ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                   AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')) END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY($1)";

pub(super) async fn check(
    client: &Client,
    version: u32,
    facts: &Facts,
    wanted: &Wanted<'_>,
    catalog: &Catalog,
    publication: Option<&Publication>,
) -> Result<Vec<Finding>> {
    let oids: Vec<u32> =
        catalog.tables.iter().flat_map(|t| std::iter::once(t.oid).chain(t.storage.iter().map(|s| s.oid))).collect();
    let rows = client.query(RIGHTS_SQL, &[&oids]).await.map_err(|e| error::sql(e, "reading the role's privileges"))?;
    let rights: HashMap<u32, Rights> = rows
        .into_iter()
        .map(|row| {
            let rights = Rights {
                usage: row.get(1),
                select: row.get(2),
                owner: row.get(3),
                owner_name: row.get(4),
                denied: row.get(5),
            };
            (row.get(0), rights)
        })
        .collect();

    let mut findings: Vec<Finding> =
        catalog.warnings.iter().map(|text| Finding::warning("tables", text, "look at the configuration")).collect();
    findings.extend(publications(version, facts, wanted, catalog, publication, &rights));
    if wanted.snapshot {
        findings.extend(all_or_each(
            "SELECT privilege",
            "may be read",
            catalog,
            reading(facts, wanted, catalog, &rights),
        ));
        findings.extend(all_or_each("row security", "hide no rows", catalog, row_security(facts, catalog)));
    }
    findings.extend(all_or_each("replica identity", "tell which row changed", catalog, identities(version, catalog)));
    if let Some(publication) = publication {
        findings.extend(column_lists(catalog, publication));
    }
    for table in &catalog.tables {
        if let Err(error) = selected_key(table, wanted) {
            findings.push(error);
        }
    }
    Ok(findings)
}

/// What is bad, table by table; or one line that all is well.
fn all_or_each(subject: &str, good: &str, catalog: &Catalog, bad: Vec<Finding>) -> Vec<Finding> {
    if bad.is_empty() {
        return vec![Finding::ok(subject, format!("all {} wanted tables {good}", catalog.tables.len()))];
    }
    bad
}

fn publications(
    version: u32,
    facts: &Facts,
    wanted: &Wanted<'_>,
    catalog: &Catalog,
    publication: Option<&Publication>,
    rights: &HashMap<u32, Rights>,
) -> Vec<Finding> {
    let name = wanted.publication.unwrap_or("walbrook");
    let subject = format!("publication {name}");
    let foreign = |tables: &[&Table]| -> Option<String> {
        let first = tables.iter().find_map(|t| rights.get(&t.oid).filter(|r| !r.owner).map(|r| (t, &r.owner_name)));
        first.map(|(table, owner)| format!("role {} does not own {table} (its owner is {owner})", facts.role))
    };
    if let Some(publication) = publication {
        let mut findings = publication.findings(&catalog.tables);
        let missing = publication.missing(&catalog.tables);
        if publication.ownership == Ownership::Managed
            && let Some(why) = foreign(&missing)
        {
            let names = missing.iter().map(|table| table.sql_name()).collect::<Vec<_>>().join(", ");
            let sql = format!("ALTER PUBLICATION {} ADD TABLE {names}", ident(name));
            findings.push(Finding::problem(subject, format!("tables cannot be added: {why}"), as_owner(&sql)));
        }
        return findings;
    }
    let create = publication::create_sql(version, name, &catalog.tables);
    let tables: Vec<&Table> = catalog.tables.iter().collect();
    let refused = if facts.in_recovery {
        Some("the server is a standby".to_owned())
    } else if !facts.may_create {
        Some(format!("role {} lacks CREATE on database {}", facts.role, facts.database))
    } else {
        foreign(&tables)
    };
    vec![match (refused, wanted.publication) {
        (None, Some(_)) => Finding::ok(subject, "it does not exist and will be created"),
        (None, None) => Finding::ok("publication", "a temporary one will be created and dropped at the end"),
        (Some(why), Some(_)) => {
            Finding::problem(subject, format!("it does not exist and cannot be created: {why}"), as_owner(&create))
        }
        (Some(why), None) => Finding::problem(
            "publication",
            format!("a temporary one cannot be created: {why}"),
            format!("{}; then name it by --publication with --state-dir", as_owner(&create)),
        ),
    }]
}

fn as_owner(sql: &str) -> String {
    format!("as the tables' owner or a superuser, on the primary: {sql}")
}

fn reading(facts: &Facts, wanted: &Wanted<'_>, catalog: &Catalog, rights: &HashMap<u32, Rights>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let role = ident(&facts.role);
    for table in &catalog.tables {
        for part in table.storage.iter() {
            let Some(rights) = rights.get(&part.oid) else { continue };
            let subject = format!("SELECT privilege on {}.{}", part.schema, part.name);
            let name = qualified(&part.schema, &part.name);
            let usage = format!("GRANT USAGE ON SCHEMA {} TO {role}", ident(&part.schema));
            let select = format!("GRANT SELECT ON {name} TO {role}");
            let denied = !rights.select
                && (table.columns.is_empty()
                    || table.columns.iter().any(|column| {
                        rights.denied.contains(&column.name)
                            && wanted.selection.keeps(&table.schema, &table.name, &column.name)
                    }));
            let (message, remedy) = match (rights.usage, denied) {
                (true, false) => continue,
                (false, false) => (format!("role {} lacks USAGE on its schema", facts.role), usage),
                (true, true) => (format!("role {} may not read it", facts.role), select),
                (false, true) => (
                    format!("role {} may neither use its schema nor read it", facts.role),
                    format!("{usage}; {select}"),
                ),
            };
            findings.push(Finding::problem(subject, message, remedy));
        }
    }
    findings
}

fn row_security(facts: &Facts, catalog: &Catalog) -> Vec<Finding> {
    let parts = catalog.tables.iter().flat_map(|table| &table.storage).filter(|part| part.rows_hidden);
    parts
        .map(|part| {
            Finding::problem(
                format!("row security of {}.{}", part.schema, part.name),
                format!("its policies would hide rows from role {}; the snapshot refuses to read it so", facts.role),
                format!("ALTER ROLE {} BYPASSRLS", ident(&facts.role)),
            )
        })
        .collect()
}

/// From here on the server refuses updates whose old rows hold generated columns that are not published.
const GENERATED_REFUSED_SINCE: u32 = 180_000;

fn identities(version: u32, catalog: &Catalog) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in &catalog.tables {
        for part in table.storage.iter().filter(|part| !part.can_identify) {
            let why = match part.identity {
                Identity::Nothing => "its replica identity is NOTHING",
                Identity::Index => "the index of its replica identity was dropped or is not valid",
                _ if table.keys.primary_key_deferrable => "its primary key is deferrable, which is none to replication",
                _ => "it has no primary key",
            };
            let name = qualified(&part.schema, &part.name);
            findings.push(Finding::warning(
                format!("replica identity of {}.{}", part.schema, part.name),
                format!("{why}: once it is published, the server refuses every UPDATE and DELETE on it"),
                match part.identity {
                    Identity::Nothing if !table.keys.primary_key.is_empty() => {
                        format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT")
                    }
                    _ => format!(
                        "ALTER TABLE {name} REPLICA IDENTITY FULL, or give it a primary key (better: less log, and \
                         records have a key)"
                    ),
                },
            ));
        }
        let generated = table.columns.iter().any(|column| column.generated != Generated::No);
        if version >= GENERATED_REFUSED_SINCE && generated && table.keys.identity == Identity::Full {
            findings.push(Finding::warning(
                format!("replica identity of {table}"),
                "it is FULL and the table has generated columns, which are not published: the server refuses every UPDATE \
                 and DELETE on it once it is published",
                format!("ALTER TABLE {} REPLICA IDENTITY DEFAULT, with a primary key", table.sql_name()),
            ));
        }
        // The identity in Relation messages is the root's; what is logged follows the partition's.
        let mixed = table.storage.iter().any(|part| part.identity != table.keys.identity);
        if table.kind == Kind::Partitioned && mixed && table.storage.iter().all(|part| part.can_identify) {
            findings.push(Finding::warning(
                format!("replica identity of {table}"),
                "its partitions have others than the table itself: old rows come as each partition logs them",
                format!("ALTER TABLE … REPLICA IDENTITY … on every partition of {} alike", table.sql_name()),
            ));
        }
    }
    findings
}

/// A column list that does not hold the replica identity makes the server refuse updates and deletes.
fn column_lists(catalog: &Catalog, publication: &Publication) -> Vec<Finding> {
    let published = publication.by_oid();
    let mut findings = Vec::new();
    for table in &catalog.tables {
        let Some(columns) = published.get(&table.oid).and_then(|published| published.columns.as_ref()) else {
            continue;
        };
        let all: Vec<String> = table.columns.iter().map(|column| column.name.clone()).collect();
        let plain = |name: &&String| table.columns.iter().any(|c| c.name == **name && c.generated == Generated::No);
        let logged = table.keys.logged().unwrap_or(&all);
        let outside: Vec<&str> =
            logged.iter().filter(plain).filter(|n| !columns.contains(n)).map(|n| n.as_str()).collect();
        if !outside.is_empty() {
            findings.push(Finding::warning(
                format!("publication {}", publication.name),
                format!(
                    "its column list for {table} lacks {} of the replica identity: the server refuses UPDATE and DELETE",
                    outside.join(", ")
                ),
                format!("add the columns to the list: ALTER PUBLICATION {} SET TABLE …", ident(&publication.name)),
            ));
        }
    }
    findings
}

/// What a stream over this selection would refuse at its start.
fn selected_key(table: &Table, wanted: &Wanted<'_>) -> std::result::Result<(), Finding> {
    match StoredRelation::from_catalog(table, None).plan("", wanted.selection) {
        Ok(_) => Ok(()),
        Err(error) => Err(Finding {
            level: Level::Problem,
            subject: format!("columns of {table}"),
            message: error.to_string(),
            remedy: Some(error.remedy_text().unwrap_or("select it").to_owned()),
        }),
    }
}
