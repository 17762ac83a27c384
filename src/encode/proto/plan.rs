//! What the rows of one table version have in common, compiled once.
//!
//! Invariants:
//! - A reference stands for one shape while its encoder lives or until [`Plans::forget`]: two versions of one content (a
//!   stream that is read twice) have one reference.
//! - A shape is sent before or with the first message that refers to it.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message as _;

use super::wire::{Guess, VARINT, bytes_field, key, varint};
use super::{ColumnFilter, Filter, schema};
use crate::encode::versions::Versions;
use crate::record::{Before, Cell, Column, Row, TableSchema};

/// Field of `Batch`.
const SCHEMAS: u8 = 4;

/// A table that the filter wants.
pub(super) struct Wanted {
    pub(super) shape: Shape,
    pub(super) reference: u32,
    /// `schema` and the key of `ordinal`, fields 2 and 3 of a `Change`.
    pub(super) head: Box<[u8]>,
    pub(super) guesses: Guesses,
}

/// How long the lengths of the last change and of its rows were.
#[derive(Default)]
pub(super) struct Guesses {
    pub(super) change: Guess,
    pub(super) row: Guess,
    pub(super) old_row: Guess,
}

/// A table as it is sent.
pub(super) struct Shape {
    /// The source's, or of the columns that the filter keeps.
    pub(super) schema: Arc<TableSchema>,
    /// The columns of the source's version that are kept; none where all are.
    columns: Option<Box<[u16]>>,
}

impl Shape {
    #[inline]
    pub(super) fn row<'r>(&'r self, row: Row<'r>, cells: &'r mut Vec<Cell>) -> Row<'r> {
        match &self.columns {
            None => row,
            Some(columns) => row.project(&self.schema, columns, cells),
        }
    }

    #[inline]
    pub(super) fn before<'r>(&'r self, before: Before<'r>, cells: &'r mut Vec<Cell>) -> Before<'r> {
        match before {
            Before::None => Before::None,
            Before::Key(row) => Before::Key(self.row(row, cells)),
            Before::Full(row) => Before::Full(self.row(row, cells)),
        }
    }
}

/// The number that `TableSchema.reference` promises.
const MAX_REFERENCES: usize = 1024;

#[derive(Default)]
pub(super) struct Plans {
    /// None where the filter does not want the table.
    plans: Versions<Option<Wanted>>,
    /// From a shape's message, without its reference, to its reference.
    references: HashMap<Box<[u8]>, u32>,
}

impl Plans {
    /// The plan of a version; none where the filter does not want the table. A shape that was not sent yet is appended to
    /// `schemas` as a field of a `Batch`.
    #[inline]
    pub(super) fn of(
        &mut self,
        source: &Arc<TableSchema>,
        filter: &Filter,
        typed: bool,
        schemas: &mut Vec<u8>,
    ) -> Option<&mut Wanted> {
        let Plans { plans, references } = self;
        plans.of(source, || compile(source, filter, typed.then_some(references), schemas)).as_mut()
    }

    /// Whether one record more could need more references than there are: its own shape and one before it.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.references.len() + 2 > MAX_REFERENCES
    }

    /// How many references are given out.
    pub(super) fn references(&self) -> usize {
        self.references.len()
    }

    /// Takes back the references given out since there were `kept`: what carried their shapes is not sent.
    #[cold]
    pub(super) fn forget(&mut self, kept: usize) {
        self.references.retain(|_, reference| *reference as usize <= kept);
        self.plans.clear();
    }
}

/// `references`: none where shapes are not sent.
fn compile(
    source: &Arc<TableSchema>,
    filter: &Filter,
    references: Option<&mut HashMap<Box<[u8]>, u32>>,
    schemas: &mut Vec<u8>,
) -> Option<Wanted> {
    if filter.table.as_ref().is_some_and(|wants| !wants(source)) {
        return None;
    }
    let shape = match &filter.column {
        None => Shape { schema: source.clone(), columns: None },
        Some(keeps) => project(source, keeps),
    };
    let reference = references.map_or(0, |references| refer(references, &shape.schema, schemas));
    let mut head = vec![key(2, VARINT)];
    varint(reference.into(), &mut head);
    head.push(key(3, VARINT));
    Some(Wanted { shape, reference, head: head.into(), guesses: Guesses::default() })
}

fn refer(references: &mut HashMap<Box<[u8]>, u32>, shape: &TableSchema, schemas: &mut Vec<u8>) -> u32 {
    let mut message = schema::message(shape);
    let content = message.encode_to_vec();
    let next = references.len() as u32 + 1;
    *references.entry(content.into()).or_insert_with(|| {
        message.reference = next;
        bytes_field(SCHEMAS, &message.encode_to_vec(), schemas);
        next
    })
}

/// The shape of the columns that are kept, and which they are; the key's stay. None where all are kept.
fn project(source: &Arc<TableSchema>, keeps: &ColumnFilter) -> Shape {
    let is_kept = |&index: &u16| source.key.contains(&index) || keeps(source, &source.columns[usize::from(index)]);
    let kept: Box<[u16]> = (0..source.columns.len() as u16).filter(is_kept).collect();
    if kept.len() == source.columns.len() {
        return Shape { schema: source.clone(), columns: None };
    }
    let columns = kept.iter().map(|&index| {
        let Column { name, data_type, source_type, nullable, decode, layout, utf8 } =
            &source.columns[usize::from(index)];
        Column {
            name: name.clone(),
            data_type: data_type.clone(),
            source_type: source_type.clone(),
            nullable: *nullable,
            decode: *decode,
            layout: *layout,
            utf8: *utf8,
        }
    });
    let place = |column: &u16| kept.binary_search(column).ok().map(|place| place as u16);
    let schema = TableSchema {
        id: source.id,
        version: source.version,
        database: source.database.clone(),
        namespace: source.namespace.clone(),
        name: source.name.clone(),
        columns: columns.collect(),
        key: source.key.iter().filter_map(place).collect(),
        identity: source.identity,
    };
    Shape { schema: Arc::new(schema), columns: Some(kept) }
}
