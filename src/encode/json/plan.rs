//! What a table version's lines have in common, compiled once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::print::quoted;
use crate::record::TableSchema;

/// Where a line's op letter stands: `{"op":"?"`.
pub(super) const OP_AT: usize = 7;

pub(super) struct Plan {
    /// Held, so that its address stays that of this version.
    schema: Arc<TableSchema>,
    /// `{"op":"?","db":…,"schema":…,"table":…,"key":`.
    pub(super) head: Box<[u8]>,
    pub(super) names: Box<[Name]>,
    pub(super) key: Box<[u16]>,
}

/// `{"op":"?","db":…,"schema":…,"table":…`.
pub(super) fn subject(schema: &TableSchema, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"op\":\"?\",\"db\":");
    quoted(&schema.database, out);
    out.extend_from_slice(b",\"schema\":");
    quoted(&schema.namespace, out);
    out.extend_from_slice(b",\"table\":");
    quoted(&schema.name, out);
}

impl Plan {
    fn new(schema: &Arc<TableSchema>) -> Self {
        let mut head = Vec::new();
        subject(schema, &mut head);
        head.extend_from_slice(b",\"key\":");
        let names = schema.columns.iter().map(|column| Name::new(&column.name)).collect();
        Plan { schema: schema.clone(), head: head.into(), names, key: schema.key.clone() }
    }
}

/// Names of up to 20 bytes are most.
const SHORT_NAME: usize = 24;

/// `,"name":`.
pub(super) enum Name {
    /// Written whole, then cut: a copy of a size that the compiler knows.
    Short {
        text: [u8; SHORT_NAME],
        len: u8,
    },
    Long(Box<[u8]>),
}

// One a column of every table that changes.
const _: () = assert!(size_of::<Name>() <= 32);

impl Name {
    fn new(name: &str) -> Self {
        let mut prefix = vec![b','];
        quoted(name, &mut prefix);
        prefix.push(b':');
        match prefix.len() {
            len @ ..=SHORT_NAME => {
                prefix.resize(SHORT_NAME, b' ');
                Name::Short { text: prefix.try_into().unwrap_or([b' '; SHORT_NAME]), len: len as u8 }
            }
            _ => Name::Long(prefix.into()),
        }
    }

    /// Appends `,"name":`.
    #[inline]
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Name::Short { text, len } => {
                let at = out.len();
                out.extend_from_slice(text);
                out.truncate(at + usize::from(*len));
            }
            Name::Long(text) => out.extend_from_slice(text),
        }
    }
}

/// A plan is 32 bytes a column and the table's names: 1,024 tables of 20 columns take 900 KB. A database with more changing tables at
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
