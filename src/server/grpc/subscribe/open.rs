//! What a client asks for, checked before anything is done for it.

use std::sync::Arc;

use tonic::Status;

use super::place;
use crate::encode::proto::{Filter, Format, Operations, ProtoOptions, TARGET_BYTES};
use crate::offset;
use crate::pipeline::{Attach, From};
use crate::proto::v1::{self, Start};
use crate::record::{Column, Lineage, Position, TableSchema};
use crate::server::grpc::status::invalid;
use crate::source::tables::{Names, Selection};

/// As the proto says.
const MESSAGE_MIN_BYTES: u32 = 64 << 10;
const MESSAGE_MAX_BYTES: u32 = 1 << 30;
const MESSAGE_DEFAULT_BYTES: u32 = 4 << 20;
/// A pattern is tried once a version of a table's shape.
const PATTERNS_MAX: usize = 1000;

/// A checked `Open`.
#[derive(Debug)]
pub struct Opening {
    pub attach: Attach,
    /// Where to begin when nothing is stored.
    pub otherwise: Option<From>,
    pub format: Format,
    pub selection: Arc<Selection>,
    pub operations: Operations,
    pub max_message_bytes: usize,
    pub credit: Option<(u64, u32)>,
}

impl Opening {
    /// `lineage`: whose log the sidecar streams. Errors: INVALID_ARGUMENT; UNIMPLEMENTED for a format that is not there;
    /// OUT_OF_RANGE for a position of another server.
    pub fn new(open: v1::Open, names: &Names<'_>, lineage: &Lineage, by_web: bool) -> Result<Opening, Status> {
        let consumer = (!open.consumer.is_empty()).then_some(open.consumer);
        if let Some(name) = &consumer {
            check_name(name)?;
            if by_web {
                return Err(Status::invalid_argument(
                    "a durable consumer acknowledges what it has, and by gRPC-Web nothing can be said after Open: leave the \
                     name out, and keep Batch.resume where the page goes on later",
                ));
            }
        }
        let start = start(open.start, "start")?.unwrap_or(match consumer {
            Some(_) => Start::Stored,
            None => Start::Latest,
        });
        if start == Start::Stored && consumer.is_none() {
            return Err(Status::invalid_argument("START_STORED is of a durable consumer, and `consumer` is empty"));
        }
        let otherwise = start_otherwise(start, open.otherwise)?;
        let wants_position = start == Start::Position || otherwise == Some(Start::Position);
        let position = match &open.position {
            Some(position) if wants_position => Some(place::from_wire(position, lineage)?),
            Some(_) => return Err(Status::invalid_argument("`position` goes with START_POSITION, and there is none")),
            None if wants_position => return Err(Status::invalid_argument("START_POSITION wants a `position`")),
            None => None,
        };
        let max_message_bytes = match open.max_message_bytes {
            0 => MESSAGE_DEFAULT_BYTES,
            bytes if (MESSAGE_MIN_BYTES..=MESSAGE_MAX_BYTES).contains(&bytes) => bytes,
            bytes => {
                return Err(Status::invalid_argument(format!(
                    "max_message_bytes is {bytes}, and not 0 or within {MESSAGE_MIN_BYTES} to {MESSAGE_MAX_BYTES}"
                )));
            }
        };
        let format = match v1::Format::try_from(open.format) {
            Ok(v1::Format::Unspecified | v1::Format::Typed) => Format::Typed,
            Ok(v1::Format::Json) => Format::Json,
            Ok(v1::Format::DebeziumJson) => {
                return Err(Status::unimplemented(
                    "this server has no FORMAT_DEBEZIUM_JSON; it has FORMAT_TYPED and FORMAT_JSON",
                ));
            }
            Err(_) => return Err(Status::unimplemented(format!("this server knows no format {}", open.format))),
        };
        let filter = open.filter.unwrap_or_default();
        Ok(Opening {
            attach: Attach { consumer, from: begin(start, &position), takeover: open.takeover },
            otherwise: otherwise.map(|start| begin(start, &position)),
            format,
            selection: Arc::new(selection(&filter, names)?),
            operations: Operations::of_request(&filter).map_err(|error| invalid(&error))?,
            max_message_bytes: max_message_bytes as usize,
            credit: open.credit.map(|credit| (credit.bytes, credit.batches)),
        })
    }

    /// How its messages are made. `owner`: whose log the positions are of.
    pub fn options(&self, owner: u64) -> ProtoOptions {
        let (tables, columns) = (self.selection.clone(), self.selection.clone());
        let mut filter = Filter { operations: self.operations, ..Filter::default() };
        filter.table = Some(Box::new(move |table: &TableSchema| tables.wants(&table.namespace, &table.name)));
        if columns.has_columns() {
            let keeps =
                move |table: &TableSchema, column: &Column| columns.keeps(&table.namespace, &table.name, &column.name);
            filter.column = Some(Box::new(keeps));
        }
        ProtoOptions {
            format: self.format,
            filter,
            lineage: owner,
            target_bytes: TARGET_BYTES.min(self.max_message_bytes),
            max_message_bytes: self.max_message_bytes,
        }
    }
}

/// Errors: INVALID_ARGUMENT.
pub fn check_name(name: &str) -> Result<(), Status> {
    offset::check_name(name).map_err(|error| invalid(&error))
}

fn start(number: i32, field: &str) -> Result<Option<Start>, Status> {
    match Start::try_from(number) {
        Ok(Start::Unspecified) => Ok(None),
        Ok(start) => Ok(Some(start)),
        Err(_) => Err(Status::invalid_argument(format!("`{field}` is {number}, which is no Start"))),
    }
}

fn start_otherwise(start: Start, otherwise: i32) -> Result<Option<Start>, Status> {
    match self::start(otherwise, "otherwise")? {
        None => Ok(None),
        Some(Start::Stored) => Err(Status::invalid_argument("`otherwise` is where to begin when nothing is stored")),
        Some(_) if start != Start::Stored => {
            Err(Status::invalid_argument("`otherwise` goes with START_STORED, and `start` is another"))
        }
        some => Ok(some),
    }
}

fn begin(start: Start, position: &Option<Position>) -> From {
    match (start, position) {
        (Start::Position, Some(position)) => From::At(position.clone()),
        (Start::Snapshot, _) => From::Snapshot,
        (Start::Earliest, _) => From::Earliest,
        (Start::Latest, _) => From::Latest,
        _ => From::Stored,
    }
}

fn selection(filter: &v1::Filter, names: &Names<'_>) -> Result<Selection, Status> {
    let v1::Filter { tables, exclude_tables, columns, exclude_columns, .. } = filter;
    if [tables, exclude_tables, columns, exclude_columns].iter().map(|list| list.len()).sum::<usize>() > PATTERNS_MAX {
        return Err(Status::invalid_argument(format!("the filter has more than {PATTERNS_MAX} patterns")));
    }
    Selection::new(names, tables, exclude_tables, columns, exclude_columns).map_err(|error| invalid(&error))
}
