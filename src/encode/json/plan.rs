//! What a table version's lines have in common, compiled once.

use crate::print::quoted;
use crate::record::TableSchema;

/// Where a line's op letter stands: `{"op":"?"`.
pub(super) const OP_AT: usize = 7;

pub(super) struct Plan {
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
    pub(super) fn new(schema: &TableSchema) -> Self {
        let mut head = Vec::new();
        subject(schema, &mut head);
        head.extend_from_slice(b",\"key\":");
        let names = schema.columns.iter().map(|column| Name::new(&column.name)).collect();
        Plan { head: head.into(), names, key: schema.key.clone() }
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
