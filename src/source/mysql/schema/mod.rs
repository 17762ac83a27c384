//! What is known of tables beyond their rows events: from information_schema, then from the DDL in the log.

mod column_type;
mod def;

pub use column_type::{ColumnType, Kind};
pub use def::{CatalogColumn, ColumnDef, Generated, TableDef, UniqueIndex};
