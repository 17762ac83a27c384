//! What the catalog says against what the stream then does: tables, types, keys, publications and slots on real servers.

mod publication;
mod shapes;

use walbrook::error::Result;
use walbrook::source::postgres::catalog::{Catalog, Table};
use walbrook::source::postgres::conninfo::ConnInfo;
use walbrook::source::postgres::publication::{Ownership, Prepared, prepare};
use walbrook::source::postgres::sql::Sql;
use walbrook::source::postgres::types::TypeCache;
use walbrook::source::tables::Selection;

use crate::support::Database;

async fn connect(url: &str) -> Sql {
    Sql::connect(&ConnInfo::from_process(url).unwrap()).await.unwrap()
}

async fn load(sql: &Sql, tables: &str) -> Result<Catalog> {
    let selection = Selection::new(&walbrook::source::postgres::NAMES, &[tables], &[], &[], &[]).unwrap();
    Catalog::load(sql.client(), sql.server_version_num(), &selection, &mut TypeCache::default()).await
}

async fn publish(sql: &Sql, name: &str, catalog: &Catalog) -> Result<Prepared> {
    prepare(sql.client(), sql.server_version_num(), name, &Ownership::Managed, catalog).await
}

fn table<'c>(catalog: &'c Catalog, name: &str) -> &'c Table {
    catalog.tables.iter().find(|table| table.name == name).unwrap_or_else(|| panic!("no table {name:?}"))
}

/// A slot to read what the plugin says by SQL; its name is the database's, so that tests do not meet.
fn slot(database: &Database<'_>) -> String {
    let sql = "select slot_name from pg_create_logical_replication_slot(current_database(), 'pgoutput')";
    database.psql(sql)
}

/// Every message of the plugin since the slot was made.
async fn messages(sql: &Sql, slot: &str, publication: &str) -> Vec<Vec<u8>> {
    let text = "SELECT data FROM pg_catalog.pg_logical_slot_get_binary_changes($1, NULL, NULL,
                'proto_version', '1', 'publication_names', pg_catalog.quote_ident($2))";
    sql.query(text, &[&slot, &publication], "reading the slot").await.unwrap().iter().map(|row| row.get(0)).collect()
}
