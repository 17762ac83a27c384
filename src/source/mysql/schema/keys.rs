//! Unique indexes while a table gets another shape.
//!
//! Invariants:
//! - An ALTER takes up all indexes: first those there were, in their order, of the columns that stand where theirs stood,
//!   then those it adds. What an index is (whole, of a prefix, kept by a hash) follows from its columns' new types.
//! - A column that takes the name of one that is dropped takes its place in an index, with the length that one had there.

use super::collation::max_bytes_of;
use super::column_type::{ColumnType, Kind};
use super::ddl::KeySpec;
use super::def::{ColumnDef, PlainIndex, TableDef, UniqueIndex};

pub(super) const PRIMARY: &str = "PRIMARY";
/// Key lengths of InnoDB beyond which MariaDB keeps a unique key as a hash: of one column, of all.
pub(super) const KEY_PART_MAX_BYTES: u64 = 3072;
pub(super) const KEY_MAX_BYTES: u64 = 3500;

/// An index that is to be made once the columns are settled.
#[derive(Clone)]
pub(super) struct Draft {
    /// None: the server gives it.
    pub name: Option<String>,
    pub primary: bool,
    pub unique: bool,
    pub parts: Vec<DraftPart>,
    /// Said with USING; of an index there was, the server asks again.
    pub hash: bool,
    pub if_not_exists: bool,
}

#[derive(Clone)]
pub(super) enum DraftPart {
    Expression,
    /// `prefix`: characters, or bytes of what has bytes; none for the whole column.
    Column {
        name: String,
        prefix: Option<u32>,
    },
    Period(String),
}

/// An index as it was made.
#[derive(Clone)]
pub(super) struct Key {
    pub name: String,
    pub parts: Vec<(String, u32)>,
    pub expression: bool,
    pub hashed: bool,
    /// A column may be NULL: as it was when the server came to this key, before a PRIMARY KEY behind it forbade that.
    pub nullable: bool,
    pub rank: Rank,
}

/// By what the server sorts indexes: a column that may be NULL, not the primary key, a prefix.
pub(super) type Rank = (bool, bool, bool);

/// Of an index that is new. MariaDB's hash is a hidden column, which comes last.
pub(super) fn rank(name: &str, nullable: bool, prefix: bool, hashed: bool) -> Rank {
    (hashed || nullable, name != PRIMARY, hashed || prefix)
}

/// A table whose unique indexes the server made anew, as they are: of MariaDB's LIKE.
pub(super) fn sorted(mut table: TableDef) -> TableDef {
    let TableDef { columns, unique, .. } = &mut table;
    let nullable =
        |index: &UniqueIndex| index.columns.iter().any(|at| columns.get(usize::from(*at)).is_some_and(|c| c.nullable));
    unique.sort_by_key(|index| rank(&index.name, nullable(index), !index.prefixes.is_empty(), index.hashed));
    table.key = TableDef::chosen_key(&table.columns, &table.unique);
    table
}

/// A column of the new shape, and what it was.
#[derive(Clone)]
pub(super) struct Slot {
    pub column: ColumnDef,
    /// Where it stood in the old table; none for a new one.
    pub from: Option<usize>,
    /// The name by which CHANGE, MODIFY and RENAME called it.
    pub called: Option<String>,
}

impl Slot {
    /// Whether an index takes it for its column of that name.
    fn is(&self, name: &str) -> bool {
        same_name(self.called.as_deref().unwrap_or(&self.column.name), name)
    }
}

impl Draft {
    pub fn new(spec: &KeySpec) -> Draft {
        let part = |part: &super::ddl::KeyPart| match &part.column {
            None => DraftPart::Expression,
            Some(name) if part.overlaps => DraftPart::Period(name.clone()),
            Some(name) => DraftPart::Column { name: name.clone(), prefix: part.prefix },
        };
        Draft {
            name: spec.name.clone(),
            primary: spec.primary,
            unique: spec.unique,
            parts: spec.parts.iter().map(part).collect(),
            hash: spec.hash,
            if_not_exists: spec.if_not_exists,
        }
    }

    /// An index of the old table, of the columns there are now; none where nothing of it is left. `old`: the table's
    /// columns.
    pub fn carried(index: &UniqueIndex, old: &TableDef, slots: &[Slot]) -> Option<Draft> {
        let mut parts = Vec::new();
        for (nth, at) in index.columns.iter().enumerate() {
            let Some(before) = old.columns.get(usize::from(*at)).filter(|column| !column.hidden) else { continue };
            let Some(slot) = slots.iter().find(|slot| slot.is(&before.name)) else { continue };
            let prefix = index.prefixes.get(nth).copied().unwrap_or(0);
            let prefix = carried_prefix(prefix, &before.column_type, &slot.column.column_type, slot.from.is_some());
            let prefix = (prefix > 0).then_some(prefix);
            parts.push(DraftPart::Column { name: slot.column.name.to_string(), prefix });
        }
        if index.expression {
            parts.push(DraftPart::Expression);
        }
        (!parts.is_empty()).then(|| Draft {
            name: Some(index.name.to_string()),
            primary: &*index.name == PRIMARY,
            unique: true,
            parts,
            hash: false,
            if_not_exists: false,
        })
    }
}

/// A plain index while the table gets another shape.
pub(super) struct Plain {
    pub name: String,
    pub columns: Vec<String>,
    pub expression: bool,
}

impl Plain {
    /// As [`Draft::carried`].
    pub fn carried(index: &PlainIndex, old: &TableDef, slots: &[Slot]) -> Option<Plain> {
        let names = index.columns.iter().filter_map(|at| {
            let before = old.columns.get(usize::from(*at))?;
            slots.iter().find(|slot| slot.is(&before.name)).map(|slot| slot.column.name.to_string())
        });
        let columns: Vec<String> = names.collect();
        let left = !columns.is_empty() || index.expression;
        left.then(|| Plain { name: index.name.to_string(), columns, expression: index.expression })
    }
}

/// How much of a column counts in an index after a change of its type; 0 for all. `same`: it is the same column.
fn carried_prefix(prefix: u32, old: &ColumnType, new: &ColumnType, same: bool) -> u32 {
    if !may_have_prefix(new.kind) {
        return 0;
    }
    match (prefix, same) {
        (0, true) => 0,
        (0, false) => length_in_key(old),
        (_, true) if !may_have_prefix(old.kind) || capacity(new) < u64::from(prefix) => 0,
        _ => prefix,
    }
}

/// As the servers compare names of columns and indexes.
pub(super) fn same_name(one: &str, other: &str) -> bool {
    one == other || one.to_lowercase() == other.to_lowercase()
}

pub(super) fn may_have_prefix(kind: Kind) -> bool {
    has_length(kind) || has_no_end(kind)
}

pub(super) fn has_length(kind: Kind) -> bool {
    matches!(kind, Kind::Char | Kind::Varchar | Kind::Binary | Kind::Varbinary)
}

fn has_no_end(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::TinyText
            | Kind::Text
            | Kind::MediumText
            | Kind::LongText
            | Kind::TinyBlob
            | Kind::Blob
            | Kind::MediumBlob
            | Kind::LongBlob
    )
}

fn capacity(column_type: &ColumnType) -> u64 {
    match column_type.kind {
        Kind::TinyText | Kind::TinyBlob => 255,
        Kind::Text | Kind::Blob => 65_535,
        Kind::MediumText | Kind::MediumBlob => (1 << 24) - 1,
        Kind::LongText | Kind::LongBlob => (1 << 32) - 1,
        _ => column_type.length.into(),
    }
}

/// The bytes of a whole column in a key; none for what has no end.
pub(super) fn key_bytes(column_type: &ColumnType) -> Option<u64> {
    let length = u64::from(column_type.length);
    let width = column_type.collation.as_deref().map_or(1, max_bytes_of);
    match column_type.kind {
        Kind::Char | Kind::Varchar => Some(length * u64::from(width)),
        Kind::Binary | Kind::Varbinary => Some(length),
        kind if has_no_end(kind) => None,
        _ => Some(8),
    }
}

/// The length of a whole column in a key as the servers write it down: the bytes of its row divided by the widest character
/// of its character set; 0 where that says nothing.
fn length_in_key(column_type: &ColumnType) -> u32 {
    let fraction = u32::from(column_type.scale).div_ceil(2);
    let labels = column_type.labels.len();
    let bytes = match column_type.kind {
        Kind::TinyInt | Kind::Year => 1,
        Kind::SmallInt => 2,
        Kind::MediumInt | Kind::Date => 3,
        Kind::Int | Kind::Float | Kind::Inet4 => 4,
        Kind::BigInt | Kind::Double => 8,
        Kind::Uuid | Kind::Inet6 => 16,
        Kind::Time => 3 + fraction,
        Kind::Timestamp => 4 + fraction,
        Kind::DateTime => 5 + fraction,
        Kind::Bit => column_type.length.div_ceil(8),
        Kind::Decimal => {
            let scale = u32::from(column_type.scale);
            decimal_bytes(column_type.length.saturating_sub(scale)) + decimal_bytes(scale)
        }
        Kind::Enum => 1 + u32::from(labels > 255),
        Kind::Set => match (labels as u32).div_ceil(8) {
            bytes if bytes > 4 => 8,
            bytes => bytes,
        },
        kind if has_length(kind) => return column_type.length,
        _ => 0,
    };
    bytes / column_type.collation.as_deref().map_or(1, max_bytes_of)
}

/// Nine digits are four bytes; what is left takes as many as it needs.
fn decimal_bytes(digits: u32) -> u32 {
    const REST: [u32; 9] = [0, 1, 1, 2, 2, 3, 3, 4, 4];
    digits / 9 * 4 + REST[(digits % 9) as usize]
}
