//! The currency of the house: records, rows, values, schemas, positions and the batch that carries them.
//!
//! Invariants:
//! - Nothing here knows a database's wire format, a task, or a serialized format. A column carries the function that
//!   decodes it; a row is bytes and offsets until somebody asks for a value.
//! - A [`CdcRecord`] borrows from its [`Batch`]; only `Arc<Batch>` crosses a task.
//! - A [`Position`] is opaque above the source, and it is minted only at a transaction boundary.

mod batch;
mod binlog;
pub mod gtid;
pub mod owed;
mod position;
mod schema;
mod time;
mod value;

pub use batch::{
    Batch, BatchBuilder, Before, ByOperation, CdcRecord, Cell, Change, Commits, Counted, Fill, Mark, Operation, Origin,
    Row, Seq, StateEntry, Tally, Txn,
};
pub use binlog::{BinlogPosition, Seen, file_number};
pub use position::{Lineage, Lsn, Position, SinkOffset};
pub use schema::{ArrayType, Column, DataType, Decode, Form, Identity, Scratch, TableSchema};
pub use time::{Date, DateTime, Time, days_from_civil};
pub use value::{Array, ArrayEvent, ArrayWalk, Value, ValueError};
