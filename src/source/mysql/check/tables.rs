//! The wanted tables: what can be read of them, and what their changes can say.

use std::collections::BTreeMap;

use super::super::catalog::{Catalog, Table};
use super::super::quote::qualified;
use super::super::schema::{Kind, TableDef};
use crate::error::Finding;
use crate::source::tables::Selection;

/// More names than these are no message.
const SHOWN: usize = 10;

/// Engines whose rows a consistent snapshot can see as of one point.
const TRANSACTIONAL: [&str; 4] = ["InnoDB", "ROCKSDB", "TokuDB", "ndbcluster"];
/// Engines that hold no rows of their own or lose them: their log and their rows differ.
const ELSEWHERE: [&str; 6] = ["BLACKHOLE", "FEDERATED", "CONNECT", "SPIDER", "MRG_MyISAM", "CSV"];

/// The query that proves the right to read a table's wanted columns, without reading a row.
pub(super) fn probe(table: &TableDef, selection: &Selection) -> Option<String> {
    let wanted = table
        .columns
        .iter()
        .filter(|column| !column.hidden && selection.keeps(&table.database, &table.name, &column.name))
        .map(|column| super::super::quote::ident(&column.name))
        .collect::<Vec<_>>();
    (!wanted.is_empty())
        .then(|| format!("SELECT {} FROM {} LIMIT 0", wanted.join(", "), qualified(&table.database, &table.name)))
}

/// `unreadable`: tables that cannot be read, with what the server said. `account`: as GRANT names it.
pub(super) fn findings(catalog: &Catalog, unreadable: &[(&Table, String)], account: &str) -> Vec<Finding> {
    let defs = || catalog.tables.iter().map(|table| &*table.def);
    let mut findings = vec![Finding::ok("tables", count(catalog.tables.len()))];
    for warning in &catalog.warnings {
        findings.push(Finding::warning("tables", warning, "correct the pattern, or wait for the table to be created"));
    }
    for (table, said) in unreadable.iter().take(SHOWN) {
        let remedy = format!("GRANT SELECT ON {} TO {account}", table.sql_name());
        findings.push(Finding::problem(format!("table {}", table.def), said, remedy));
    }
    if unreadable.len() > SHOWN {
        let more = unreadable.len() - SHOWN;
        findings.push(Finding::problem(
            "tables",
            format!("{more} more cannot be read"),
            format!("GRANT SELECT ON *.* TO {account}"),
        ));
    } else if unreadable.is_empty() && !catalog.tables.is_empty() {
        findings.push(Finding::ok("SELECT right", format!("on {}", count(catalog.tables.len()))));
    }
    let mut warn = |tables: Vec<&TableDef>, message: &str, remedy: &str| {
        if !tables.is_empty() {
            findings.push(Finding::warning("tables", format!("{}: {message}", listed(&tables)), remedy));
        }
    };
    warn(
        defs().filter(|def| def.key.is_empty()).collect(),
        "without a primary key, or a unique one that is NOT NULL: their records have no `key`, and each is read in one \
         piece by a snapshot",
        "ALTER TABLE … ADD PRIMARY KEY (…), or ADD COLUMN id BIGINT UNSIGNED AUTO_INCREMENT INVISIBLE PRIMARY KEY",
    );
    let mut engines: BTreeMap<&str, Vec<&TableDef>> = BTreeMap::new();
    for def in defs().filter(|def| !TRANSACTIONAL.iter().any(|engine| engine.eq_ignore_ascii_case(&def.engine))) {
        engines.entry(&def.engine).or_default().push(def);
    }
    for (engine, tables) in engines {
        let message = match ELSEWHERE.iter().any(|name| name.eq_ignore_ascii_case(engine)) {
            true => format!("of engine {engine}: what the log says and what a SELECT reads need not be the same"),
            false => format!(
                "of engine {engine}, which has no transactions: a snapshot reads them as they are at that moment, and changes \
                 made meanwhile come once more"
            ),
        };
        warn(tables, &message, "ALTER TABLE … ENGINE = InnoDB");
    }
    warn(
        defs().filter(|def| def.columns.iter().any(|column| column.column_type.kind == Kind::Other)).collect(),
        "with a column of a type that this walbrook does not know: such a table stops when a change of it comes",
        "leave the column out by `exclude_columns`, or the table by `exclude_tables`",
    );
    findings
}

fn count(tables: usize) -> String {
    if tables == 1 { "1 table".to_owned() } else { format!("{tables} tables") }
}

fn listed(tables: &[&TableDef]) -> String {
    let mut names: Vec<String> = tables.iter().take(SHOWN).map(ToString::to_string).collect();
    if tables.len() > SHOWN {
        names.push(format!("and {} more", tables.len() - SHOWN));
    }
    names.join(", ")
}
