//! `walbrook discover`, the source's part: what there is to stream.
//!
//! The answer is one JSON object:
//!
//! ```text
//! { "source": "postgres", "database": text, "server_version": text,
//!   "tables": [                       by schema and name; a partitioned table stands for its partitions
//!     { "schema": text, "table": text, "kind": "table" | "partitioned",
//!       "key": [column, …],           what our records' key is made of, in its order; may be empty
//!       "replica_identity": "default" | "index" | "full" | "nothing",
//!       "updates": bool,              false: once published, the server refuses UPDATE and DELETE on it
//!       "rows_estimate": number | null,   null: never analyzed
//!       "bytes": number,              with TOAST, without indexes
//!       "columns": [ { "name": text, "type": text, "nullable": bool, "generated": null | "stored" | "virtual" }, … ],
//!       "partitions": [ { "schema": text, "table": text, "rows_estimate": number | null, "bytes": number }, … ] },
//!     … ],
//!   "left_out": [ { "schema": text, "table": text, "why": text }, … ] }   views, unlogged tables, extensions' tables
//! ```

use serde_json::{Value, json};

use super::catalog::{Catalog, Generated, Kind, Table};
use super::sql::Sql;
use super::types::TypeCache;
use crate::error::Result;
use crate::record::Identity;
use crate::source::tables::Selection;

/// Lists what the selection matches; columns are listed whether they are selected or not.
///
/// # Errors
/// Config: a selected name that is not there. Those of a query.
pub async fn discover(sql: &Sql, selection: &Selection) -> Result<Value> {
    let version = sql.server_version_num();
    let catalog = Catalog::survey(sql.client(), version, selection, &mut TypeCache::default()).await?;
    let doing = "asking for the database and the server's version";
    let text = "SELECT pg_catalog.current_database()::pg_catalog.text, pg_catalog.current_setting('server_version')";
    let row = sql.query_one(text, &[], doing).await?;
    let left_out = catalog.left_out.iter().map(|l| json!({ "schema": l.schema, "table": l.name, "why": l.why }));
    Ok(json!({
        "source": "postgres",
        "database": row.get::<_, String>(0),
        "server_version": row.get::<_, String>(1),
        "tables": catalog.tables.iter().map(table).collect::<Vec<_>>(),
        "left_out": left_out.collect::<Vec<_>>(),
    }))
}

fn table(table: &Table) -> Value {
    let columns = table.columns.iter().map(|column| {
        json!({
            "name": column.name,
            "type": column.column_type.source_type,
            "nullable": column.nullable,
            "generated": match column.generated {
                Generated::No => None,
                Generated::Stored => Some("stored"),
                Generated::Virtual => Some("virtual"),
            },
        })
    });
    let partitions: Vec<Value> = match table.kind {
        Kind::Plain => Vec::new(),
        Kind::Partitioned => (table.storage.iter())
            .map(|part| {
                json!({
                    "schema": part.schema,
                    "table": part.name,
                    "rows_estimate": part.rows,
                    "bytes": part.bytes,
                })
            })
            .collect(),
    };
    json!({
        "schema": table.schema,
        "table": table.name,
        "kind": match table.kind {
            Kind::Plain => "table",
            Kind::Partitioned => "partitioned",
        },
        "key": table.keys.key(),
        "replica_identity": match table.keys.identity {
            Identity::Default => "default",
            Identity::Index => "index",
            Identity::Full => "full",
            Identity::Nothing => "nothing",
        },
        "updates": table.storage.iter().all(|part| part.can_identify),
        "rows_estimate": table.rows(),
        "bytes": table.bytes(),
        "columns": columns.collect::<Vec<_>>(),
        "partitions": partitions,
    })
}
