//! What is known of tables beyond their rows events: from information_schema, then from the DDL in the log.

mod about;
mod apply;
mod collation;
mod column_type;
mod ddl;
mod def;
mod history;
mod keys;
mod reconcile;
mod resolve;
mod stored;

pub use about::About;
pub use column_type::{ColumnType, Kind};
pub use ddl::TableName;
pub use def::{CatalogColumn, ColumnDef, Generated, PlainIndex, TableDef, UniqueIndex};
pub use history::{Effect, History, Host, STATE_PREFIX, Statement};
pub use reconcile::Reconciled;
pub use stored::Definition;
