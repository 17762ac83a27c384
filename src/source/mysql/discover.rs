//! `walbrook discover`, the source's part: what there is to stream.
//!
//! The answer is one JSON object:
//!
//! ```text
//! { "source": "mysql" | "mariadb", "server_version": text,
//!   "tables": [                       by database and name
//!     { "schema": text, "table": text, "kind": "table" | "partitioned" | "system versioned", "engine": text,
//!       "key": [column, …],           what our records' key is made of, in its order; may be empty
//!       "rows_estimate": number | null,
//!       "bytes": number,              of rows and primary key
//!       "columns": [ { "name": text, "type": text, "nullable": bool, "generated": null | "stored" | "virtual",
//!                      "invisible": bool }, … ] }, … ],
//!   "left_out": [ { "schema": text, "table": text, "why": text }, … ] }   views, sequences
//! ```

use serde_json::{Value, json};

use super::ask::Ask;
use super::catalog::{Catalog, Table};
use super::schema::Generated;
use super::server::Server;
use crate::error::Result;
use crate::source::tables::Selection;

/// Lists what the selection matches; columns are listed whether they are selected or not.
///
/// # Errors
/// Config: a selected name that is not there. Those of a query.
pub async fn discover(ask: &mut dyn Ask, server: &Server, selection: &Selection) -> Result<Value> {
    let catalog = Catalog::survey(ask, server, selection).await?;
    let left_out = catalog.left_out.iter().map(|l| json!({ "schema": l.database, "table": l.name, "why": l.why }));
    Ok(json!({
        "source": server.flavor.name(),
        "server_version": server.version_text(),
        "tables": catalog.tables.iter().map(table).collect::<Vec<_>>(),
        "left_out": left_out.collect::<Vec<_>>(),
    }))
}

fn table(table: &Table) -> Value {
    let def = &table.def;
    let columns = def.columns.iter().filter(|column| !column.hidden).map(|column| {
        json!({
            "name": column.name,
            "type": column.column_type.text,
            "nullable": column.nullable,
            "generated": match column.generated {
                Generated::None => None,
                Generated::Stored => Some("stored"),
                Generated::Virtual => Some("virtual"),
            },
            "invisible": column.invisible,
        })
    });
    let key = def.key.iter().filter_map(|at| def.columns.get(usize::from(*at))).map(|column| &column.name);
    json!({
        "schema": def.database,
        "table": def.name,
        "kind": match (def.system_versioned, table.partitioned) {
            (true, _) => "system versioned",
            (false, true) => "partitioned",
            (false, false) => "table",
        },
        "engine": def.engine,
        "key": key.collect::<Vec<_>>(),
        "rows_estimate": table.rows,
        "bytes": table.bytes,
        "columns": columns.collect::<Vec<_>>(),
    })
}
