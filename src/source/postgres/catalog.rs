//! The tables as the catalog has them, read in a fixed number of queries however many there are.
//!
//! Invariants:
//! - A table's partitions are part of it: only the topmost wanted table of a partition tree is a [`Table`], and its
//!   changes arrive under its name. (Before version 13 the server cannot do that: there each partition is a table.)
//! - What cannot be replicated is not wanted by a pattern (views, foreign, unlogged, temporary and system tables, tables
//!   of extensions), and it is an error to name it outright. An extension's table may be named.
//! - Columns stand in the server's order (`attnum`).

use std::collections::{HashMap, HashSet};

use tokio_postgres::{Client, Row};

use super::error;
use super::quote::qualified;

use super::types::{ColumnType, TypeCache};
use crate::error::{Error, Result};
use crate::record::Identity;
use crate::source::tables::{Selection, settle};

/// The first version that publishes a partitioned table's changes as its own.
const VIA_ROOT_SINCE: u32 = 130_000;

/// A wanted table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: Kind,
    pub columns: Vec<TableColumn>,
    pub keys: Keys,
    /// What holds its rows: the table itself, or the permanent leaf partitions of a partitioned one.
    pub storage: Vec<Storage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Partitioned,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    /// `attnum`.
    pub number: i16,
    pub name: String,
    pub type_oid: u32,
    /// `atttypmod`; -1 for none.
    pub typmod: i32,
    pub column_type: ColumnType,
    pub nullable: bool,
    pub generated: Generated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generated {
    No,
    Stored,
    Virtual,
}

/// What identifies a row, as names of columns in the index's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub identity: Identity,
    pub primary_key: Vec<String>,
    /// A deferrable primary key is none to replication.
    pub primary_key_deferrable: bool,
    /// Of the index chosen by `REPLICA IDENTITY USING INDEX`; empty where it is not valid or was dropped.
    pub identity_index: Vec<String>,
}

impl Keys {
    /// The columns the server logs of an old row; `None`: all of them. Empty: it refuses updates and deletes.
    pub fn logged(&self) -> Option<&[String]> {
        match self.identity {
            Identity::Default if self.primary_key_deferrable => Some(&[]),
            Identity::Default => Some(&self.primary_key),
            Identity::Index => Some(&self.identity_index),
            Identity::Full => None,
            Identity::Nothing => Some(&[]),
        }
    }

    /// The columns that are the key of our records: what the server logs; under FULL the primary key.
    pub fn key(&self) -> &[String] {
        self.logged().unwrap_or(&self.primary_key)
    }
}

/// A relation with rows of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// `relfilenode`: another number means that the table was rewritten and its ctids mean nothing any more. 0 where
    /// the server does not say (a mapped relation).
    pub filenode: u32,
    /// The size of the main fork now, in pages of `block_size`.
    pub pages: u64,
    /// The planner's estimate; `None` before the first VACUUM or ANALYZE.
    pub rows: Option<u64>,
    /// With TOAST and free space map, without indexes.
    pub bytes: u64,
    /// Rows can be hidden from us: row security is on, and neither owner's nor BYPASSRLS rights help.
    pub rows_hidden: bool,
    /// Other tables inherit from it, so it must be read by `FROM ONLY`.
    pub has_children: bool,
    pub identity: Identity,
    /// Whether the server can log old rows: a key of its own, or FULL.
    pub can_identify: bool,
}

/// All wanted tables of a database.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    /// By schema and name.
    pub tables: Vec<Table>,
    /// What the operator should know: patterns that match nothing yet, tables left out.
    pub warnings: Vec<String>,
    /// What a pattern matched and cannot be streamed, or is streamed only when it is named.
    pub left_out: Vec<LeftOut>,
    pub block_size: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub schema: String,
    pub name: String,
    /// `a view`, `unlogged: …`.
    pub why: &'static str,
}

impl Table {
    /// Quoted, with its schema.
    pub fn sql_name(&self) -> String {
        qualified(&self.schema, &self.name)
    }
    pub fn rows(&self) -> Option<u64> {
        self.storage.iter().map(|storage| storage.rows).sum()
    }
    pub fn bytes(&self) -> u64 {
        self.storage.iter().map(|storage| storage.bytes).sum()
    }
    pub fn pages(&self) -> u64 {
        self.storage.iter().map(|storage| storage.pages).sum()
    }
}

impl Storage {
    /// For `FROM`: quoted, with its schema, and `ONLY` where tables inherit from it.
    pub fn sql_from(&self) -> String {
        let only = if self.has_children { "ONLY " } else { "" };
        format!("{only}{}", qualified(&self.schema, &self.name))
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// Users' schemas cannot begin with `pg_`.
const RELATIONS_SQL: &str = "
SELECT c.oid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text,
       c.relpersistence::pg_catalog.text, i.inhparent, d.objid IS NOT NULL
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_inherits i ON c.relispartition AND i.inhrelid = c.oid
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
     AND d.objsubid = 0 AND d.deptype = 'e'
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY n.nspname, c.relname";

/// A relation as the first query finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Relation {
    oid: u32,
    schema: String,
    name: String,
    /// `relkind`: r, p, f, v, m.
    kind: char,
    /// `relpersistence`: p, u, t.
    persistence: char,
    /// The partitioned table it is a partition of.
    parent: Option<u32>,
    of_extension: bool,
}

impl Relation {
    /// Why it cannot be streamed; `None` if it can.
    fn obstacle(&self) -> Option<&'static str> {
        match (self.kind, self.persistence) {
            ('v', _) => Some("a view"),
            ('m', _) => Some("a materialized view"),
            ('f', _) => Some("a foreign table"),
            (_, 'u') => Some("unlogged: its changes are not in the log"),
            (_, 't') => Some("temporary"),
            _ => None,
        }
    }
}

fn letter(row: &Row, column: usize) -> char {
    row.get::<_, String>(column).chars().next().unwrap_or(' ')
}

fn identity(letter: char) -> Identity {
    match letter {
        'i' => Identity::Index,
        'f' => Identity::Full,
        'n' => Identity::Nothing,
        _ => Identity::Default,
    }
}

impl Catalog {
    /// Reads everything about the wanted tables, in six queries. `version`: the server's, as `server_version_num`.
    ///
    /// # Errors
    /// Config: a name that is not there or cannot be streamed, an exclude that names a partition of a wanted table,
    /// a column that is not there, no table at all. Those of a query.
    pub async fn load(client: &Client, version: u32, selection: &Selection, types: &mut TypeCache) -> Result<Catalog> {
        let catalog = Self::survey(client, version, selection, types).await?;
        if catalog.tables.is_empty() {
            return Err(Error::config("no table is selected that could be streamed")
                .remedy("look at `tables` and `exclude_tables`; `walbrook discover` lists what there is"));
        }
        Ok(catalog)
    }

    /// The same, where there may be none.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn survey(
        client: &Client,
        version: u32,
        selection: &Selection,
        types: &mut TypeCache,
    ) -> Result<Catalog> {
        let sql = |e| error::sql(e, "reading the tables from the catalog");
        let rows = client.query(RELATIONS_SQL, &[]).await.map_err(sql)?;
        let relations: Vec<Relation> = rows
            .into_iter()
            .map(|row| Relation {
                oid: row.get(0),
                schema: row.get(1),
                name: row.get(2),
                kind: letter(&row, 3),
                persistence: letter(&row, 4),
                parent: row.get(5),
                of_extension: row.get(6),
            })
            .collect();
        let Wanted { tables: wanted, mut warnings, left_out } = choose(&relations, selection, version)?;
        let leaves = leaves(&relations);
        let mut oids: Vec<u32> = wanted.iter().map(|&at| relations[at].oid).collect();
        let mut details = details(client, &oids, types).await?;
        oids.extend(wanted.iter().flat_map(|&at| leaves.get(&relations[at].oid).into_iter().flatten()));
        let (mut storage, block_size) = storage(client, &oids).await?;

        let mut tables = Vec::with_capacity(wanted.len());
        for at in wanted {
            let relation = &relations[at];
            // Dropped between the queries: as if it had never been there.
            let Some(Details { columns, keys }) = details.remove(&relation.oid) else { continue };
            let partitioned = relation.kind == 'p';
            let own = [relation.oid];
            let parts = if partitioned { leaves.get(&relation.oid).map_or(&[][..], Vec::as_slice) } else { &own };
            tables.push(Table {
                oid: relation.oid,
                schema: relation.schema.clone(),
                name: relation.name.clone(),
                kind: if partitioned { Kind::Partitioned } else { Kind::Plain },
                columns,
                keys,
                storage: parts.iter().filter_map(|oid| storage.remove(oid)).collect(),
            });
        }
        let columns = tables.iter().flat_map(|table| {
            table.columns.iter().map(|column| (table.schema.as_str(), table.name.as_str(), column.name.as_str()))
        });
        settle(selection.unmatched_columns(columns), &mut warnings)?;
        Ok(Catalog { tables, warnings, left_out, block_size })
    }
}

struct Wanted {
    /// Indexes into the relations.
    tables: Vec<usize>,
    warnings: Vec<String>,
    left_out: Vec<LeftOut>,
}

/// Which relations are tables of the stream, by name, kind and place in a partition tree.
fn choose(relations: &[Relation], selection: &Selection, version: u32) -> Result<Wanted> {
    let by_oid: HashMap<u32, &Relation> = relations.iter().map(|relation| (relation.oid, relation)).collect();
    let mut warnings = Vec::new();
    settle(selection.unmatched_tables(relations.iter().map(|r| (r.schema.as_str(), r.name.as_str()))), &mut warnings)?;

    let mut matched = HashSet::new();
    let mut left_out = Vec::new();
    for relation in relations {
        if !selection.wants(&relation.schema, &relation.name) {
            continue;
        }
        let named = selection.names(&relation.schema, &relation.name);
        let why = match relation.obstacle() {
            Some(obstacle) if named => {
                return Err(Error::config(format!("{} cannot be streamed: it is {obstacle}", full_name(relation)))
                    .remedy("take it out of `tables`"));
            }
            Some(obstacle) => obstacle,
            None if relation.of_extension && !named => "an extension's own table: name it to have it streamed",
            None => {
                matched.insert(relation.oid);
                continue;
            }
        };
        if relation.persistence == 'u' {
            warnings.push(format!("{} is left out: it is {why}", full_name(relation)));
        }
        left_out.push(LeftOut { schema: relation.schema.clone(), name: relation.name.clone(), why });
    }

    let mut tables = Vec::new();
    for (at, relation) in relations.iter().enumerate() {
        let above = ancestors(&by_oid, relation).find(|oid| matched.contains(oid)).and_then(|oid| by_oid.get(&oid));
        let wanted = if version >= VIA_ROOT_SINCE {
            matched.contains(&relation.oid) && above.is_none()
        } else {
            let replicable = relation.kind == 'r' && relation.obstacle().is_none();
            let excluded = selection.excludes(&relation.schema, &relation.name);
            replicable && (matched.contains(&relation.oid) || (above.is_some() && !excluded))
        };
        if wanted {
            tables.push(at);
        } else if let Some(root) = above
            && version >= VIA_ROOT_SINCE
            && selection.excludes(&relation.schema, &relation.name)
        {
            return Err(Error::config(format!(
                "{} is excluded, but it is a partition of {}, which is wanted whole",
                full_name(relation),
                full_name(root)
            ))
            .remedy(format!("exclude {} too, or neither", full_name(root))));
        }
    }
    Ok(Wanted { tables, warnings, left_out })
}

fn full_name(relation: &Relation) -> String {
    format!("{}.{}", relation.schema, relation.name)
}

/// From the parent up to the root.
fn ancestors<'a>(
    by_oid: &'a HashMap<u32, &'a Relation>,
    relation: &'a Relation,
) -> impl Iterator<Item = u32> + use<'a> {
    // A tree of partitions is not deeper than there are relations, whatever the catalog says.
    std::iter::successors(relation.parent, |oid| by_oid.get(oid)?.parent).take(by_oid.len())
}

/// For every partitioned table the leaves below it that hold logged rows, by schema and name.
fn leaves(relations: &[Relation]) -> HashMap<u32, Vec<u32>> {
    let by_oid: HashMap<u32, &Relation> = relations.iter().map(|relation| (relation.oid, relation)).collect();
    let mut leaves: HashMap<u32, Vec<u32>> = HashMap::new();
    for leaf in relations.iter().filter(|r| r.kind == 'r' && r.obstacle().is_none()) {
        for ancestor in ancestors(&by_oid, leaf) {
            leaves.entry(ancestor).or_default().push(leaf.oid);
        }
    }
    leaves
}

/// What a relation's columns and indexes say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Details {
    pub columns: Vec<TableColumn>,
    pub keys: Keys,
}

const COLUMNS_SQL: &str = "
SELECT a.attrelid, a.attnum, a.attname::pg_catalog.text, a.atttypid, a.atttypmod, a.attnotnull,
       a.attgenerated::pg_catalog.text, c.relreplident::pg_catalog.text
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum";

/// An index's key columns come first in `indkey`, then those it only includes.
const INDEXES_SQL: &str = "
SELECT i.indrelid, i.indisprimary, i.indisreplident, i.indisvalid, i.indimmediate,
       ARRAY(SELECT a.attname::pg_catalog.text
             FROM unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k(attnum, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
             WHERE k.place <= i.indnkeyatts ORDER BY k.place)
FROM pg_catalog.pg_index i
WHERE i.indrelid = ANY($1) AND (i.indisprimary OR i.indisreplident)";

/// The columns and keys of the relations that are still there; at most four queries.
pub(super) async fn details(client: &Client, oids: &[u32], types: &mut TypeCache) -> Result<HashMap<u32, Details>> {
    let sql = |e| error::sql(e, "reading columns and keys from the catalog");
    let columns = client.query(COLUMNS_SQL, &[&oids]).await.map_err(sql)?;
    let indexes = client.query(INDEXES_SQL, &[&oids]).await.map_err(sql)?;
    types.load(client, columns.iter().map(|row| (row.get(3), row.get(4)))).await?;

    let mut details: HashMap<u32, Details> = HashMap::with_capacity(oids.len());
    for row in columns {
        let (type_oid, typmod) = (row.get(3), row.get(4));
        let column = TableColumn {
            number: row.get(1),
            name: row.get(2),
            type_oid,
            typmod,
            column_type: types.get(type_oid, typmod),
            nullable: !row.get::<_, bool>(5),
            generated: match letter(&row, 6) {
                's' => Generated::Stored,
                'v' => Generated::Virtual,
                _ => Generated::No,
            },
        };
        let of_table = details.entry(row.get(0)).or_insert_with(|| Details {
            columns: Vec::new(),
            keys: Keys {
                identity: identity(letter(&row, 7)),
                primary_key: Vec::new(),
                primary_key_deferrable: false,
                identity_index: Vec::new(),
            },
        });
        of_table.columns.push(column);
    }
    for row in indexes {
        let Some(of_table) = details.get_mut(&row.get(0)) else { continue };
        let (primary, chosen, valid, immediate): (bool, bool, bool, bool) =
            (row.get(1), row.get(2), row.get(3), row.get(4));
        let names: Vec<String> = row.get(5);
        if chosen && valid && immediate {
            of_table.keys.identity_index.clone_from(&names);
        }
        if primary {
            of_table.keys.primary_key = names;
            of_table.keys.primary_key_deferrable = !immediate;
        }
    }
    Ok(details)
}

/// A table that is locked (ALTER TABLE, TRUNCATE) makes this wait: its size is asked for, and that takes a lock.
const STORAGE_SQL: &str = "
SELECT c.oid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, COALESCE(pg_catalog.pg_relation_filenode(c.oid), 0),
       COALESCE(pg_catalog.pg_relation_size(c.oid), 0), c.reltuples::pg_catalog.float8,
       COALESCE(pg_catalog.pg_table_size(c.oid), 0), pg_catalog.row_security_active(c.oid),
       c.relhassubclass AND c.relkind = 'r', c.relreplident::pg_catalog.text,
       c.relreplident = 'f' OR EXISTS (
           SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
           AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END),
       pg_catalog.current_setting('block_size')::pg_catalog.int4
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY($1) AND c.relkind = 'r'";

/// Postgres' default page.
const DEFAULT_BLOCK_BYTES: u32 = 8_192;

/// Sizes and places of the relations with rows of their own, and the size of a page in bytes.
async fn storage(client: &Client, oids: &[u32]) -> Result<(HashMap<u32, Storage>, u32)> {
    let doing = "reading the tables' sizes";
    let rows = client.query(STORAGE_SQL, &[&oids]).await.map_err(|e| error::sql(e, doing))?;
    let mut block_size = DEFAULT_BLOCK_BYTES;
    let mut storage = HashMap::with_capacity(rows.len());
    for row in rows {
        block_size = u32::try_from(row.get::<_, i32>(11)).unwrap_or(DEFAULT_BLOCK_BYTES).max(1);
        let bytes = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
        let tuples: f64 = row.get(5);
        let part = Storage {
            oid: row.get(0),
            schema: row.get(1),
            name: row.get(2),
            filenode: row.get(3),
            pages: bytes(4).div_ceil(u64::from(block_size)),
            // Before 14 a table that was never analyzed says 0 rather than -1.
            rows: (tuples > 0.0 || (tuples == 0.0 && bytes(4) == 0)).then_some(tuples as u64),
            bytes: bytes(6),
            rows_hidden: row.get(7),
            has_children: row.get(8),
            identity: identity(letter(&row, 9)),
            can_identify: row.get(10),
        };
        storage.insert(part.oid, part);
    }
    Ok((storage, block_size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(oid: u32, name: &str, kind: char, parent: Option<u32>) -> Relation {
        Relation {
            oid,
            schema: "public".into(),
            name: name.into(),
            kind,
            persistence: 'p',
            parent,
            of_extension: false,
        }
    }

    fn chosen(relations: &[Relation], tables: &str, exclude: &str, version: u32) -> Result<Vec<String>> {
        let selection = Selection::new(&crate::source::postgres::NAMES, &[tables], &[exclude], &[], &[]).unwrap();
        let wanted = choose(relations, &selection, version)?;
        Ok(wanted.tables.into_iter().map(|at| relations[at].name.clone()).collect())
    }

    fn tree() -> Vec<Relation> {
        vec![
            relation(1, "events", 'p', None),
            relation(2, "events_a", 'p', Some(1)),
            relation(3, "events_a1", 'r', Some(2)),
            relation(4, "events_b", 'r', Some(1)),
            relation(5, "plain", 'r', None),
            relation(6, "v", 'v', None),
        ]
    }

    #[test]
    fn a_partition_tree_is_its_topmost_wanted_table() {
        let tree = tree();
        let chosen = |tables, exclude| chosen(&tree, tables, exclude, 150_000).unwrap();
        assert_eq!(chosen("", ""), ["events", "plain"]);
        assert_eq!(chosen("public.events_*", ""), ["events_a", "events_b"]);
        assert_eq!(chosen("public.events_a1", ""), ["events_a1"]);
        assert_eq!(chosen("*", "public.events*"), ["plain"]);
        assert_eq!(leaves(&tree)[&1], [3, 4]);
        assert_eq!(leaves(&tree)[&2], [3]);
    }

    #[test]
    fn before_13_every_leaf_is_a_table() {
        let tree = tree();
        assert_eq!(chosen(&tree, "public.events", "", 120_000).unwrap(), ["events_a1", "events_b"]);
        assert_eq!(chosen(&tree, "*", "public.events_b", 120_000).unwrap(), ["events_a1", "plain"]);
    }

    #[test]
    fn what_cannot_be_streamed_is_an_error_only_when_named() {
        let mut tree = tree();
        tree[4].persistence = 'u';
        assert_eq!(chosen(&tree, "*", "", 150_000).unwrap(), ["events"]);
        let left_out = choose(&tree, &Selection::default(), 150_000).unwrap().left_out;
        assert_eq!(left_out.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["plain", "v"]);
        for (tables, exclude, message) in [
            ("public.v", "", "a view"),
            ("public.plain", "", "unlogged"),
            ("public.nope", "", "matches no table"),
            ("*", "public.events_b", "partition of public.events"),
            ("*", "public.nope", "matches no table"),
        ] {
            let error = chosen(&tree, tables, exclude, 150_000).unwrap_err();
            assert!(error.to_string().contains(message), "{tables} {exclude}: {error}");
        }
    }

    #[test]
    fn tables_of_extensions_must_be_named() {
        let mut tree = tree();
        tree[4].of_extension = true;
        assert_eq!(chosen(&tree, "*", "", 150_000).unwrap(), ["events"]);
        assert_eq!(chosen(&tree, "public.plain", "", 150_000).unwrap(), ["plain"]);
    }

    #[test]
    fn the_key_is_what_the_server_logs() {
        let keys = |identity, deferrable| Keys {
            identity,
            primary_key: vec!["id".into()],
            primary_key_deferrable: deferrable,
            identity_index: vec!["b".into(), "a".into()],
        };
        assert_eq!(keys(Identity::Default, false).key(), ["id"]);
        assert_eq!(keys(Identity::Default, true).key(), [""; 0]);
        assert_eq!(keys(Identity::Index, false).key(), ["b", "a"]);
        assert_eq!(keys(Identity::Full, false).key(), ["id"]);
        assert_eq!(keys(Identity::Full, false).logged(), None);
        assert_eq!(keys(Identity::Nothing, false).key(), [""; 0]);
    }
}
