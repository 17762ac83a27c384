//! The shapes of tables: what Relation messages say, completed from the catalog, numbered and stored.
//!
//! Invariants:
//! - A shape is learnt once. While Relation messages agree with a stored one, the catalog is not asked: a replay after a
//!   restart meets the same schema, type names and enum labels included, even if the types are gone since.
//! - What is stored is the whole table as the server publishes it; which columns are wanted is applied when a schema is
//!   made, so that another selection needs no other state.
//! - The key is what identifies a row for the server: under identity DEFAULT the primary key, under INDEX that index's
//!   columns, under FULL the primary key if there is one, under NOTHING none. Its order is the index's where the catalog
//!   still agrees with the message, else the table's.
//!
//! Limits: a change that a Relation message does not show (NOT NULL, labels added to an enum, a primary key added under
//! FULL) is met at the next change that it does show.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::catalog::{self, Details, Table};
use super::types::{Shape, TypeCache};
use crate::error::{Context, Error, Result};
use crate::record::{Column, Identity, StateEntry, TableSchema};
use crate::source::State;
use crate::source::tables::Selection;
use crate::wire::pg::pgoutput::{self, TupleShape};
use crate::wire::pg::text::is_text;

/// The start of every key of stored shapes; the relation's oid in decimal follows.
pub const STATE_PREFIX: &[u8] = b"relation/";

/// The format of a stored shape.
const FORMAT: u32 = 1;

/// One version of a table's shape, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredRelation {
    format: u32,
    pub oid: u32,
    /// From 1.
    pub version: u32,
    pub namespace: String,
    pub name: String,
    #[serde(with = "identity_letter")]
    pub replica_identity: Identity,
    /// As published, in the order of the Relation message.
    pub columns: Vec<StoredColumn>,
    /// Indexes into `columns`, in the key's order.
    pub key: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredColumn {
    pub name: String,
    pub type_oid: u32,
    pub typmod: i32,
    /// The message's flag: part of the replica identity (under FULL every column is).
    pub identity: bool,
    pub source_type: String,
    pub nullable: bool,
    pub shape: Shape,
}

mod identity_letter {
    //! As `pg_class.relreplident` has it.
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::record::Identity;

    pub fn serialize<S: Serializer>(identity: &Identity, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_char(match identity {
            Identity::Default => 'd',
            Identity::Index => 'i',
            Identity::Full => 'f',
            Identity::Nothing => 'n',
        })
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Identity, D::Error> {
        match char::deserialize(deserializer)? {
            'd' => Ok(Identity::Default),
            'i' => Ok(Identity::Index),
            'f' => Ok(Identity::Full),
            'n' => Ok(Identity::Nothing),
            other => Err(D::Error::custom(format!("{other:?} is no replica identity"))),
        }
    }
}

/// A table's schema for sinks, and how its tuples become rows of it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub schema: Arc<TableSchema>,
    /// Which columns of a tuple are kept, and which are part of the replica identity.
    pub tuple: TupleShape,
}

impl StoredRelation {
    /// Under which key it is stored.
    pub fn state_key(oid: u32) -> Vec<u8> {
        [STATE_PREFIX, oid.to_string().as_bytes()].concat()
    }

    /// As JSON.
    ///
    /// # Errors
    /// Bug: JSON cannot hold it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|cause| {
            Error::bug(format!("encoding the shape of {}.{}", self.namespace, self.name)).because(cause)
        })
    }

    /// # Errors
    /// Config: a newer format, or bytes that are not a shape.
    pub fn from_bytes(bytes: &[u8]) -> Result<StoredRelation> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let doing = || "reading a stored table shape".to_owned();
        let head: Head = serde_json::from_slice(bytes).config(doing)?;
        if head.format != FORMAT {
            return Err(Error::config(format!("{}: its format is {}, not {FORMAT}", doing(), head.format))
                .remedy("use the version of walbrook that wrote this state directory, or a newer one"));
        }
        let stored: StoredRelation = serde_json::from_slice(bytes).config(doing)?;
        if stored.key.iter().any(|at| usize::from(*at) >= stored.columns.len()) {
            return Err(Error::config(format!("{}: a key column is not there", doing())));
        }
        Ok(stored)
    }

    /// Whether the message says of the table what was known: names, types, modifiers, identity.
    pub fn same_shape(&self, relation: &pgoutput::Relation<'_>) -> bool {
        self.namespace == relation.namespace
            && self.name == relation.name
            && self.replica_identity == relation.identity
            && self.columns.len() == relation.columns.len()
            && self.columns.iter().zip(&relation.columns).all(|(known, said)| {
                known.name == said.name
                    && known.type_oid == said.type_oid
                    && known.typmod == said.type_modifier
                    && known.identity == said.key
            })
    }

    /// The same shape, whatever version it was.
    fn same_as(&self, other: &StoredRelation) -> bool {
        let StoredRelation { format: _, oid, version: _, namespace, name, replica_identity, columns, key } = self;
        *oid == other.oid
            && *namespace == other.namespace
            && *name == other.name
            && *replica_identity == other.replica_identity
            && *columns == other.columns
            && *key == other.key
    }

    /// The shape a message tells, with what the catalog knows beyond it. `details`: none where the table is gone.
    fn complete(relation: &pgoutput::Relation<'_>, details: Option<&Details>, types: &TypeCache) -> StoredRelation {
        let columns: Vec<StoredColumn> = relation
            .columns
            .iter()
            .map(|said| {
                let known = types.get(said.type_oid, said.type_modifier);
                let now = details.and_then(|d| d.columns.iter().find(|column| column.name == said.name));
                StoredColumn {
                    name: said.name.to_owned(),
                    type_oid: said.type_oid,
                    typmod: said.type_modifier,
                    identity: said.key,
                    source_type: known.source_type,
                    nullable: now.is_none_or(|column| column.nullable),
                    shape: known.shape,
                }
            })
            .collect();
        let key = key(relation.identity, &columns, details);
        StoredRelation {
            format: FORMAT,
            oid: relation.id,
            version: 1,
            namespace: relation.namespace.to_owned(),
            name: relation.name.to_owned(),
            replica_identity: relation.identity,
            columns,
            key,
        }
    }

    /// The shape that Relation messages will tell of a table of the catalog. `published`: the columns of its
    /// publication; `None` for all that are not generated.
    pub fn from_catalog(table: &Table, published: Option<&[String]>) -> StoredRelation {
        let logged = table.keys.logged();
        let columns: Vec<StoredColumn> = table
            .columns
            .iter()
            .filter(|column| match published {
                Some(names) => names.contains(&column.name),
                None => column.generated == catalog::Generated::No,
            })
            .map(|column| StoredColumn {
                name: column.name.clone(),
                type_oid: column.type_oid,
                typmod: column.typmod,
                identity: logged.is_none_or(|names| names.contains(&column.name)),
                source_type: column.column_type.source_type.clone(),
                nullable: column.nullable,
                shape: column.column_type.shape.clone(),
            })
            .collect();
        let key = positions(&columns, table.keys.key()).unwrap_or_default();
        StoredRelation {
            format: FORMAT,
            oid: table.oid,
            version: 1,
            namespace: table.schema.clone(),
            name: table.name.clone(),
            replica_identity: table.keys.identity,
            columns,
            key,
        }
    }

    /// The schema of the wanted columns.
    ///
    /// # Errors
    /// Config: the selection leaves a key column out (but under FULL: there the table then has no key), or every column.
    pub fn plan(&self, database: &str, selection: &Selection) -> Result<Plan> {
        let kept: Vec<bool> =
            self.columns.iter().map(|c| selection.keeps(&self.namespace, &self.name, &c.name)).collect();
        let table = || format!("{}.{}", self.namespace, self.name);
        if !kept.contains(&true) && !self.columns.is_empty() {
            return Err(Error::config(format!("no column of {} is selected", table()))
                .remedy("leave the table out by exclude_tables instead"));
        }
        let lost = self.key.iter().map(|at| usize::from(*at)).find(|at| !kept[*at]);
        if let Some(at) = lost.filter(|_| self.replica_identity != Identity::Full) {
            let column = &self.columns[at].name;
            return Err(Error::config(format!(
                "column {column} of {} is left out, but it is part of its key",
                table()
            ))
            .remedy("select it, or leave the table out by exclude_tables"));
        }
        // Where a wire column stands among the kept ones.
        let place = |at: u16| kept[..usize::from(at)].iter().filter(|kept| **kept).count() as u16;
        let key = if lost.is_some() { Box::default() } else { self.key.iter().map(|at| place(*at)).collect() };
        let columns = self
            .columns
            .iter()
            .zip(&kept)
            .filter(|(_, kept)| **kept)
            .map(|(column, _)| {
                let (data_type, decode) = column.shape.decoder();
                Column {
                    name: column.name.as_str().into(),
                    utf8: is_text(&data_type),
                    data_type,
                    source_type: column.source_type.as_str().into(),
                    nullable: column.nullable,
                    decode,
                    layout: 0,
                }
            })
            .collect();
        let schema = TableSchema {
            id: u64::from(self.oid),
            version: self.version,
            database: database.into(),
            namespace: self.namespace.as_str().into(),
            name: self.name.as_str().into(),
            columns,
            key,
            identity: self.replica_identity,
        };
        let tuple = TupleShape::new(self.columns.iter().zip(&kept).map(|(column, kept)| (column.identity, *kept)));
        Ok(Plan { schema: Arc::new(schema), tuple })
    }
}

/// The positions of the named columns; `None` where one is not there.
fn positions(columns: &[StoredColumn], names: &[String]) -> Option<Vec<u16>> {
    names.iter().map(|name| columns.iter().position(|c| c.name == *name).map(|at| at as u16)).collect()
}

fn key(identity: Identity, columns: &[StoredColumn], details: Option<&Details>) -> Vec<u16> {
    let flagged: Vec<u16> = (0u16..).zip(columns).filter(|(_, column)| column.identity).map(|(at, _)| at).collect();
    let of_catalog = |names: &Vec<String>| positions(columns, names).filter(|key| !key.is_empty());
    let in_order = |names: &Vec<String>| {
        of_catalog(names).filter(|key| key.len() == flagged.len() && key.iter().all(|at| flagged.contains(at)))
    };
    match (identity, details.map(|details| &details.keys)) {
        (Identity::Nothing, _) | (Identity::Full, None) => Vec::new(),
        (Identity::Full, Some(keys)) => of_catalog(&keys.primary_key).unwrap_or_default(),
        (Identity::Default, Some(keys)) => in_order(&keys.primary_key).unwrap_or(flagged),
        (Identity::Index, Some(keys)) => in_order(&keys.identity_index).unwrap_or(flagged),
        (Identity::Default | Identity::Index, None) => flagged,
    }
}

/// What a Relation message, or the catalog before a snapshot, says compared with what was known.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Not wanted: its rows are to be skipped.
    Unwanted,
    Unchanged(Plan),
    /// Seen for the first time; `entry` is to be stored.
    First {
        plan: Plan,
        entry: StateEntry,
    },
    /// Another shape than before: a schema change comes before its first row; `entry` is to be stored.
    Changed {
        previous: Arc<TableSchema>,
        plan: Plan,
        entry: StateEntry,
    },
}

impl Seen {
    /// `None` where the table is not wanted.
    pub fn plan(&self) -> Option<&Plan> {
        match self {
            Seen::Unwanted => None,
            Seen::Unchanged(plan) | Seen::First { plan, .. } | Seen::Changed { plan, .. } => Some(plan),
        }
    }
}

/// The shapes this stream knows.
pub struct RelationCache {
    database: String,
    selection: Selection,
    known: HashMap<u32, Known>,
    /// Stored, and not wanted until now.
    unwanted: Vec<StoredRelation>,
    /// What Relation messages said that is not `known`.
    announced: HashMap<u32, Announced>,
    /// What was known before each new shape that is not yet on its way to the store, oldest first.
    unsettled: Vec<(u32, Option<Known>)>,
    types: TypeCache,
}

enum Announced {
    Unwanted,
    /// The message.
    New(Box<[u8]>),
}

/// What stands for a relation's next row.
#[derive(Clone, Copy, Debug)]
pub enum Standing<'a> {
    Unwanted,
    Known(&'a Plan),
    /// [`RelationCache::learn`] comes first.
    Unknown,
}

struct Known {
    stored: StoredRelation,
    plan: Plan,
}

impl RelationCache {
    pub fn new(database: impl Into<String>, selection: Selection, types: TypeCache) -> Self {
        let (known, announced) = (HashMap::new(), HashMap::new());
        let (unwanted, unsettled) = (Vec::new(), Vec::new());
        RelationCache { database: database.into(), selection, known, unwanted, announced, unsettled, types }
    }

    /// Wants other tables from now on; what is announced is announced again.
    ///
    /// # Errors
    /// As for [`Self::restore`].
    pub fn select(&mut self, selection: Selection) -> Result<()> {
        self.selection = selection;
        self.announced.clear();
        for stored in std::mem::take(&mut self.unwanted) {
            self.adopt(stored)?;
        }
        Ok(())
    }

    /// Takes over a stored shape.
    fn adopt(&mut self, stored: StoredRelation) -> Result<()> {
        // A table that is no longer wanted may lack selected columns: it is skipped by name, not by its columns.
        if self.selection.wants(&stored.namespace, &stored.name) {
            let plan = stored.plan(&self.database, &self.selection)?;
            self.known.insert(stored.oid, Known { stored, plan });
        } else {
            self.unwanted.push(stored);
        }
        Ok(())
    }

    /// Every new shape so far is on its way to the store.
    pub fn settle(&mut self) {
        self.unsettled.clear();
    }

    /// Before another connection replays what an earlier one began: new shapes whose entries went with that are not
    /// known, as after a restart, and nothing is announced.
    pub fn roll_back(&mut self) {
        self.announced.clear();
        while let Some((oid, before)) = self.unsettled.pop() {
            match before {
                Some(before) => self.known.insert(oid, before),
                None => self.known.remove(&oid),
            };
        }
    }

    /// Takes over the shapes that an earlier run stored.
    ///
    /// # Errors
    /// Config: as [`StoredRelation::from_bytes`] and [`StoredRelation::plan`].
    pub fn restore(&mut self, state: &State) -> Result<()> {
        for (_, value) in state.range(STATE_PREFIX.to_vec()..).take_while(|(key, _)| key.starts_with(STATE_PREFIX)) {
            self.adopt(StoredRelation::from_bytes(value)?)?;
        }
        Ok(())
    }

    /// What stands for a relation's next row.
    pub fn standing(&self, oid: u32) -> Standing<'_> {
        match (self.announced.get(&oid), self.known.get(&oid)) {
            (Some(Announced::Unwanted), _) => Standing::Unwanted,
            (Some(Announced::New(_)), _) | (None, None) => Standing::Unknown,
            (None, Some(known)) => Standing::Known(&known.plan),
        }
    }

    /// Takes a Relation message; `message` is all of it. A shape that is not known is learnt when a row needs it
    /// ([`Self::learn`]): of a partition that is published as its root the server announces the shape too, and no row
    /// ever comes.
    pub fn announce(&mut self, message: &[u8], relation: &pgoutput::Relation<'_>) -> Standing<'_> {
        if !self.selection.wants(relation.namespace, relation.name) {
            self.announced.insert(relation.id, Announced::Unwanted);
        } else if self.known.get(&relation.id).is_some_and(|known| known.stored.same_shape(relation)) {
            self.announced.remove(&relation.id);
        } else {
            self.announced.insert(relation.id, Announced::New(message.into()));
        }
        self.standing(relation.id)
    }

    /// Completes an announced shape from the catalog, where that is needed.
    ///
    /// # Errors
    /// Config: as [`StoredRelation::plan`]. Data: a row of a relation that was never announced. Those of a query; after
    /// one the shape is still announced.
    pub async fn learn(&mut self, client: &Client, oid: u32) -> Result<Seen> {
        let message = match (self.announced.get(&oid), self.known.get(&oid)) {
            (Some(Announced::Unwanted), _) => return Ok(Seen::Unwanted),
            (None, Some(known)) => return Ok(Seen::Unchanged(known.plan.clone())),
            (None, None) => {
                return Err(Error::data(format!("a row of relation {oid} came before its Relation message")));
            }
            (Some(Announced::New(message)), _) => message.clone(),
        };
        let relation = match pgoutput::parse(&message) {
            Ok(pgoutput::Message::Relation(relation)) => relation,
            Ok(_) => return Err(Error::bug(format!("relation {oid} was announced by another message"))),
            Err(cause) => return Err(Error::bug(format!("reading the announcement of relation {oid}")).because(cause)),
        };
        self.types.forget_user_types();
        let details = catalog::details(client, &[oid], &mut self.types).await?;
        self.types.load(client, relation.columns.iter().map(|c| (c.type_oid, c.type_modifier))).await?;
        let seen = self.offer(StoredRelation::complete(&relation, details.get(&oid), &self.types))?;
        self.announced.remove(&oid);
        Ok(seen)
    }

    /// Takes a table of the catalog, before a snapshot. Not for a stream that resumes: its log may be older than the
    /// catalog.
    ///
    /// # Errors
    /// Config: as [`StoredRelation::plan`].
    pub fn prime(&mut self, table: &Table, published: Option<&[String]>) -> Result<Seen> {
        self.offer(StoredRelation::from_catalog(table, published))
    }

    fn offer(&mut self, mut candidate: StoredRelation) -> Result<Seen> {
        let known = self.known.get(&candidate.oid);
        if let Some(known) = known {
            if known.stored.same_as(&candidate) {
                return Ok(Seen::Unchanged(known.plan.clone()));
            }
            candidate.version = known.stored.version.saturating_add(1);
        }
        let plan = candidate.plan(&self.database, &self.selection)?;
        let previous = known.map(|known| known.plan.schema.clone());
        let entry = StateEntry { key: StoredRelation::state_key(candidate.oid), value: Some(candidate.to_bytes()?) };
        let oid = candidate.oid;
        let before = self.known.insert(oid, Known { stored: candidate, plan: plan.clone() });
        self.unsettled.push((oid, before));
        Ok(match previous {
            Some(previous) => Seen::Changed { previous, plan, entry },
            None => Seen::First { plan, entry },
        })
    }
}

#[cfg(test)]
mod tests;
