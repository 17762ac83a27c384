//! What a table version's lines have in common, compiled once.

use std::collections::HashMap;
use std::sync::Arc;

use super::escape::string;
use crate::record::TableSchema;

/// Where a line's op letter stands: `{"op":"?"`.
pub(super) const OP_AT: usize = 7;

pub(super) struct Plan {
    /// Held, so that its address stays that of this version.
    schema: Arc<TableSchema>,
    /// `{"op":"?","db":…,"schema":…,"table":…,"key":`.
    pub(super) head: Box<[u8]>,
    /// `,"name":` of every column, one behind the other.
    prefixes: Box<[u8]>,
    /// Where each column's prefix ends.
    ends: Box<[u32]>,
    pub(super) key: Box<[u16]>,
}

/// `{"op":"?","db":…,"schema":…,"table":…`.
pub(super) fn subject(schema: &TableSchema, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"op\":\"?\",\"db\":");
    string(schema.database.as_bytes(), out);
    out.extend_from_slice(b",\"schema\":");
    string(schema.namespace.as_bytes(), out);
    out.extend_from_slice(b",\"table\":");
    string(schema.name.as_bytes(), out);
}

impl Plan {
    fn new(schema: &Arc<TableSchema>) -> Self {
        let mut head = Vec::new();
        subject(schema, &mut head);
        head.extend_from_slice(b",\"key\":");
        let mut prefixes = Vec::new();
        let ends = schema.columns.iter().map(|column| {
            prefixes.push(b',');
            string(column.name.as_bytes(), &mut prefixes);
            prefixes.push(b':');
            prefixes.len() as u32
        });
        let ends = ends.collect();
        Plan { schema: schema.clone(), head: head.into(), prefixes: prefixes.into(), ends, key: schema.key.clone() }
    }

    #[inline]
    pub(super) fn width(&self) -> usize {
        self.ends.len()
    }

    /// `,"name":`.
    #[inline]
    pub(super) fn prefix(&self, column: usize) -> &[u8] {
        let start = if column == 0 { 0 } else { self.ends[column - 1] };
        &self.prefixes[start as usize..self.ends[column] as usize]
    }
}

/// A plan is about 30 bytes a column: 1,024 tables of 20 columns take 600 KB. A database with more changing tables at
/// once compiles some of them again.
const MAX_PLANS: usize = 1024;

#[derive(Default)]
pub(super) struct Plans {
    plans: Vec<Plan>,
    /// From the address of a version, which its plan keeps alive, to its plan.
    by_address: HashMap<usize, usize>,
    last: usize,
}

impl Plans {
    #[inline]
    pub(super) fn of(&mut self, schema: &Arc<TableSchema>) -> &Plan {
        if !self.plans.get(self.last).is_some_and(|plan| Arc::ptr_eq(&plan.schema, schema)) {
            self.last = self.find(schema);
        }
        &self.plans[self.last]
    }

    fn find(&mut self, schema: &Arc<TableSchema>) -> usize {
        let address = Arc::as_ptr(schema) as usize;
        if let Some(&index) = self.by_address.get(&address) {
            return index;
        }
        if self.plans.len() == MAX_PLANS {
            self.plans.clear();
            self.by_address.clear();
        }
        let index = self.plans.len();
        self.plans.push(Plan::new(schema));
        self.by_address.insert(address, index);
        index
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.plans.len()
    }
}
