//! What a column's type is to its decoder, and what the catalog calls it.
//!
//! Invariants:
//! - A [`Shape`] is complete: domains are resolved to their base and arrays to their elements, all the way down, so that
//!   a stored one still decodes when its type is gone from the catalog.
//! - Whatever has no fit of its own is text, Postgres' printed form: composites, ranges, every extension's type.
//! - A type's name does not depend on the session's `search_path`: outside `pg_catalog` it carries its schema.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::error;
use crate::error::Result;
use crate::record::{DataType, Decode};
use crate::wire::pg::text;

/// The first oid that is not Postgres' own (FirstNormalObjectId): below it an oid means the same type on every server.
const FIRST_USER_OID: u32 = 16_384;

/// Postgres' `text`.
const TEXT_OID: u32 = 25;

/// A type as its decoder sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Shape {
    /// A base type of Postgres itself, by its oid; 25 (`text`) for every type without a better fit.
    Scalar(u32),
    /// The labels in their order.
    Enum(Vec<String>),
    Array {
        element: Box<Shape>,
        delimiter: char,
    },
}

impl Shape {
    pub const TEXT: Shape = Shape::Scalar(TEXT_OID);

    /// The type of the values, and the function that makes them from the server's text form.
    pub fn decoder(&self) -> (DataType, Decode) {
        match self {
            Shape::Scalar(oid) => text::scalar(*oid),
            Shape::Enum(labels) => text::enum_of(labels.iter().map(|label| label.as_str().into()).collect()),
            Shape::Array { element, delimiter } => {
                let (element, decode) = element.decoder();
                // The server allows single bytes only (pg_type.typdelim is a "char").
                text::array_of(element, decode, u8::try_from(*delimiter).unwrap_or(b','))
            }
        }
    }
}

/// A column's type: how it decodes and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnType {
    pub shape: Shape,
    /// With its modifiers: `numeric(12,2)`, `public.mood[]`; `oid 12345` where the catalog no longer knows it.
    pub source_type: String,
}

/// The types that were asked for so far.
#[derive(Clone, Debug, Default)]
pub struct TypeCache {
    /// By oid and modifier; `None`: the catalog does not have it.
    types: HashMap<(u32, i32), Option<ColumnType>>,
}

/// Every type that a set of types is made of: array elements and domain bases, recursively. An array is what
/// `array_in` reads: `int2vector`, `point` and other types with elements print in a form of their own.
const SHAPES_SQL: &str = "
WITH RECURSIVE part(oid) AS (
    SELECT unnest($1::pg_catalog.oid[])
  UNION
    SELECT CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END
    FROM part JOIN pg_catalog.pg_type t ON t.oid = part.oid
    WHERE t.typtype = 'd' OR (t.typelem <> 0 AND t.typinput = 'pg_catalog.array_in'::pg_catalog.regproc)
)
SELECT t.oid, t.typtype::pg_catalog.text, t.typbasetype,
       CASE WHEN t.typinput = 'pg_catalog.array_in'::pg_catalog.regproc THEN t.typelem ELSE 0::pg_catalog.oid END,
       t.typdelim::pg_catalog.text,
       ARRAY(SELECT e.enumlabel::pg_catalog.text FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid
             ORDER BY e.enumsortorder)
FROM part JOIN pg_catalog.pg_type t ON t.oid = part.oid";

/// `format_type` leaves the schema away where `search_path` finds the type without it.
const NAMES_SQL: &str = "
SELECT w.oid, w.typmod,
       CASE WHEN n.nspname <> 'pg_catalog' AND pg_catalog.pg_type_is_visible(e.oid)
            THEN pg_catalog.quote_ident(n.nspname) || '.' ELSE '' END
       || pg_catalog.format_type(w.oid, w.typmod)
FROM unnest($1::pg_catalog.oid[], $2::pg_catalog.int4[]) AS w(oid, typmod)
JOIN pg_catalog.pg_type t ON t.oid = w.oid
JOIN pg_catalog.pg_type e ON e.oid = CASE
    WHEN t.typelem <> 0 AND t.typinput = 'pg_catalog.array_in'::pg_catalog.regproc THEN t.typelem ELSE t.oid END
JOIN pg_catalog.pg_namespace n ON n.oid = e.typnamespace";

impl TypeCache {
    /// Learns the types (oid, modifier) it does not know yet, in two queries; Postgres' own common ones in none.
    ///
    /// # Errors
    /// Those of a query.
    pub async fn load(&mut self, client: &Client, wanted: impl IntoIterator<Item = (u32, i32)>) -> Result<()> {
        let mut missing: Vec<(u32, i32)> = Vec::new();
        for (oid, typmod) in wanted {
            if let std::collections::hash_map::Entry::Vacant(entry) = self.types.entry((oid, typmod)) {
                let known = builtin_name(oid, typmod);
                if known.is_none() {
                    missing.push((oid, typmod));
                }
                entry.insert(known.map(|source_type| ColumnType { shape: Shape::Scalar(oid), source_type }));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        match query(client, &missing).await {
            Ok(found) => {
                self.types.extend(found.into_iter().map(|(key, column_type)| (key, Some(column_type))));
                Ok(())
            }
            Err(error) => {
                for key in missing {
                    self.types.remove(&key);
                }
                Err(error)
            }
        }
    }

    /// Forgets the types that can change: an enum gets labels, a domain goes.
    pub fn forget_user_types(&mut self) {
        self.types.retain(|(oid, _), _| *oid < FIRST_USER_OID);
    }

    /// A type that was loaded before; text named `oid N` where the catalog does not have it.
    pub fn get(&self, oid: u32, typmod: i32) -> ColumnType {
        match self.types.get(&(oid, typmod)) {
            Some(Some(known)) => known.clone(),
            _ => ColumnType { shape: Shape::TEXT, source_type: format!("oid {oid}") },
        }
    }
}

async fn query(client: &Client, wanted: &[(u32, i32)]) -> Result<HashMap<(u32, i32), ColumnType>> {
    let oids: Vec<u32> = wanted.iter().map(|(oid, _)| *oid).collect();
    let typmods: Vec<i32> = wanted.iter().map(|(_, typmod)| *typmod).collect();
    let doing = "reading column types from the catalog";
    let rows = client.query(SHAPES_SQL, &[&oids]).await.map_err(|e| error::sql(e, doing))?;
    let mut catalog = HashMap::with_capacity(rows.len());
    for row in rows {
        let delimiter: String = row.get(4);
        catalog.insert(
            row.get(0),
            CatalogType {
                kind: row.get::<_, String>(1).chars().next().unwrap_or('b'),
                base: row.get(2),
                element: row.get(3),
                delimiter: delimiter.chars().next().unwrap_or(','),
                labels: row.get(5),
            },
        );
    }
    let rows = client.query(NAMES_SQL, &[&oids, &typmods]).await.map_err(|e| error::sql(e, doing))?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let (oid, typmod) = (row.get(0), row.get(1));
            ((oid, typmod), ColumnType { shape: shape(&catalog, oid, MAX_DEPTH), source_type: row.get(2) })
        })
        .collect())
}

/// Domains over domains over arrays of domains …: deeper than anyone builds, and a bound in case of a catalog that goes
/// in circles.
const MAX_DEPTH: usize = 32;

struct CatalogType {
    /// `pg_type.typtype`: b, c, d, e, p, r, m.
    kind: char,
    base: u32,
    /// Of a true array; else 0.
    element: u32,
    delimiter: char,
    labels: Vec<String>,
}

fn shape(catalog: &HashMap<u32, CatalogType>, oid: u32, depth: usize) -> Shape {
    let Some(found) = catalog.get(&oid).filter(|_| depth > 0) else { return Shape::TEXT };
    match found.kind {
        'd' => shape(catalog, found.base, depth - 1),
        'e' => Shape::Enum(found.labels.clone()),
        _ if found.element != 0 => Shape::Array {
            element: Box::new(shape(catalog, found.element, depth - 1)),
            // array_out takes the delimiter of the element's type.
            delimiter: catalog.get(&found.element).map_or(',', |element| element.delimiter),
        },
        'b' if oid < FIRST_USER_OID => Shape::Scalar(oid),
        _ => Shape::TEXT,
    }
}

/// What `format_type` prints for the base types that most columns have, so that they need no query.
fn builtin_name(oid: u32, typmod: i32) -> Option<String> {
    // bpchar, varchar and numeric add VARHDRSZ (4 bytes) to what was declared.
    let declared = typmod - 4;
    let name = match oid {
        16 => "boolean",
        17 => "bytea",
        20 => "bigint",
        21 => "smallint",
        23 => "integer",
        25 => "text",
        114 => "json",
        700 => "real",
        701 => "double precision",
        1043 if typmod >= 4 => return Some(format!("character varying({declared})")),
        1043 => "character varying",
        1042 if typmod >= 4 => return Some(format!("character({declared})")),
        1082 => "date",
        1083 => return Some(with_precision("time", typmod, " without time zone")),
        1114 => return Some(with_precision("timestamp", typmod, " without time zone")),
        1184 => return Some(with_precision("timestamp", typmod, " with time zone")),
        // Precision in the upper 16 bits; scale in the lower 11, with a sign since 15 (numeric.c).
        1700 if typmod >= 4 => {
            let scale = ((declared & 0x7FF) ^ 1024) - 1024;
            return Some(format!("numeric({},{scale})", (declared >> 16) & 0xFFFF));
        }
        1700 => "numeric",
        2950 => "uuid",
        3802 => "jsonb",
        _ => return None,
    };
    Some(name.to_owned())
}

fn with_precision(name: &str, typmod: i32, zone: &str) -> String {
    if typmod >= 0 { format!("{name}({typmod}){zone}") } else { format!("{name}{zone}") }
}

/// The types whose names need no query, with modifiers at their edges; a test compares them with the server's.
#[doc(hidden)]
pub fn builtin_names() -> Vec<(u32, i32, String)> {
    let numeric = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7FF)) + 4;
    let mut pairs: Vec<(u32, i32)> =
        [16, 17, 20, 21, 23, 25, 114, 700, 701, 1043, 1082, 1083, 1114, 1184, 1700, 2950, 3802].map(|o| (o, -1)).into();
    pairs.extend([(1043, 5), (1043, 10_485_764), (1042, 5), (1042, 104), (1083, 0), (1114, 3), (1184, 6)]);
    pairs.extend([
        (1700, numeric(12, 2)),
        (1700, numeric(1000, 0)),
        (1700, numeric(1000, 1000)),
        (1700, numeric(1, 0)),
    ]);
    pairs.into_iter().filter_map(|(oid, typmod)| Some((oid, typmod, builtin_name(oid, typmod)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog_type(kind: char, base: u32, element: u32, delimiter: char, labels: &[&str]) -> CatalogType {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        CatalogType { kind, base, element, delimiter, labels }
    }

    #[test]
    fn shapes_are_resolved_all_the_way_down() {
        let user = FIRST_USER_OID;
        let catalog = HashMap::from([
            (23, catalog_type('b', 0, 0, ',', &[])),
            (603, catalog_type('b', 0, 0, ';', &[])),
            (1020, catalog_type('b', 0, 603, ',', &[])),
            (1007, catalog_type('b', 0, 23, ',', &[])),
            (user, catalog_type('e', 0, 0, ',', &["sad", "ok"])),
            (user + 1, catalog_type('b', 0, user, ',', &[])),
            (user + 2, catalog_type('d', 1007, 0, ',', &[])),
            (user + 3, catalog_type('b', 0, user + 2, ',', &[])),
            (user + 4, catalog_type('c', 0, 0, ',', &[])),
            (user + 5, catalog_type('d', user + 5, 0, ',', &[])),
            (user + 6, catalog_type('b', 0, 0, ',', &[])),
        ]);
        let shape = |oid| shape(&catalog, oid, MAX_DEPTH);
        let array = |element, delimiter| Shape::Array { element: Box::new(element), delimiter };
        let mood = Shape::Enum(vec!["sad".into(), "ok".into()]);
        assert_eq!(shape(23), Shape::Scalar(23));
        assert_eq!(shape(1020), array(Shape::Scalar(603), ';'));
        assert_eq!(shape(user + 1), array(mood, ','));
        assert_eq!(shape(user + 2), array(Shape::Scalar(23), ','));
        assert_eq!(shape(user + 3), array(array(Shape::Scalar(23), ','), ','));
        for text in [user + 4, user + 5, user + 6, 99_999] {
            assert_eq!(shape(text), Shape::TEXT, "{text}");
        }
    }

    #[test]
    fn common_names() {
        let name = |oid, typmod| builtin_name(oid, typmod).unwrap();
        assert_eq!(name(1700, ((12 << 16) | 2) + 4), "numeric(12,2)");
        assert_eq!(name(1700, ((3 << 16) | (-2 & 0x7FF)) + 4), "numeric(3,-2)");
        assert_eq!(name(1184, 3), "timestamp(3) with time zone");
        assert_eq!(builtin_name(1042, -1), None);
        assert_eq!(builtin_name(FIRST_USER_OID, -1), None);
    }

    #[test]
    fn a_shape_survives_its_json() {
        let shape = Shape::Array { element: Box::new(Shape::Enum(vec!["a\"b".into()])), delimiter: ';' };
        let json = serde_json::to_string(&shape).unwrap();
        assert_eq!(json, r#"{"array":{"element":{"enum":["a\"b"]},"delimiter":";"}}"#);
        assert_eq!(serde_json::from_str::<Shape>(&json).unwrap(), shape);
    }

    #[test]
    fn a_type_that_is_gone_is_text() {
        let gone = ColumnType { shape: Shape::TEXT, source_type: "oid 12345".into() };
        assert_eq!(TypeCache::default().get(12_345, -1), gone);
    }
}
