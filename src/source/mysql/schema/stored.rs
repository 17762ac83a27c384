//! How definitions and their history look in the store, format 2.
//!
//! Invariants:
//! - Every byte is read; bytes left over, numbers out of range and other formats are errors.
//! - A type stands once per table, as the server prints it: what is read back is parsed as it was from the catalog.
//!
//! ```text
//! history    = 2:u8 count:u8 {version}          oldest first
//! version    = optional(position) known         position: where the statement stood; none: from the beginning
//! known      = 0 | 1 id:u64 version:u32 table | 2 text     no table, a table, why it is not known
//! table      = text{4} flags:u8 types columns u16-list(key) unique plain   database, name, collation, engine; 1 versioned
//! types      = count:u16 {text optional(text) optional(srid:u32)}       type, collation
//! columns    = count:u16 {text type:u16 flags:u8}     1 nullable, 2 virtual, 4 stored, 8 invisible, 16 hidden, 32 auto, 64 json
//! unique     = count:u16 {text flags:u8 u16-list(columns) [prefix:u32 of each]}     1 prefixes, 2 expression, 4 hashed
//! plain      = count:u16 {text expression:u8 u16-list(columns)}
//! text       = length:u32 UTF-8     optional(x) = 0 | 1 x     u16-list = count:u16 {u16}     numbers big endian
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use super::column_type::ColumnType;
use super::def::{ColumnDef, Generated, PlainIndex, TableDef, UniqueIndex};
use super::history::{Known, Version};
use crate::error::{Error, Result};
use crate::record::Position;

const FORMAT: u8 = 2;

/// A table at one version of its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Our own number of the table: a name that is dropped and made again has another.
    pub id: u64,
    /// From 1.
    pub version: u32,
    pub table: Arc<TableDef>,
}

impl Definition {
    /// As `known` above with its mark 1.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        put_definition(&mut out, self);
        out
    }

    /// # Errors
    /// Config: another format, or bytes that are no definition.
    pub fn from_bytes(bytes: &[u8]) -> Result<Definition> {
        let mut reader = Reader { bytes };
        let mut read = || {
            (reader.u8()? == FORMAT).then_some(())?;
            let definition = reader.definition()?;
            reader.bytes.is_empty().then_some(definition)
        };
        read().ok_or_else(|| corrupt(bytes))
    }
}

fn corrupt(bytes: &[u8]) -> Error {
    match bytes.first() {
        Some(format) if *format > FORMAT => {
            Error::config(format!("reading a stored definition of a table: its format is {format}, not {FORMAT}"))
                .remedy("use the version of walbrook that wrote this state directory, or a newer one")
        }
        _ => Error::config("reading a stored definition of a table: its bytes are none"),
    }
}

pub(super) fn encode(versions: &[Version]) -> Vec<u8> {
    let mut out = vec![FORMAT, versions.len() as u8];
    for version in versions {
        match &version.at {
            None => out.push(0),
            Some(at) => {
                out.push(1);
                put_bytes(&mut out, &Position::MySql(at.clone()).to_bytes());
            }
        }
        match &version.known {
            Known::Gone => out.push(0),
            Known::Table(definition) => {
                out.push(1);
                put_definition(&mut out, definition);
            }
            Known::Doubtful(why) => {
                out.push(2);
                put_bytes(&mut out, why.as_bytes());
            }
        }
    }
    out
}

/// Errors: as [`Definition::from_bytes`].
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Version>> {
    let mut reader = Reader { bytes };
    let mut read = || {
        (reader.u8()? == FORMAT).then_some(())?;
        let count = reader.u8()?;
        let mut versions = Vec::with_capacity(count.into());
        for _ in 0..count {
            let at = match reader.u8()? {
                0 => None,
                1 => match Position::from_bytes(reader.sized()?)? {
                    Position::MySql(at) => Some(at),
                    _ => return None,
                },
                _ => return None,
            };
            let known = match reader.u8()? {
                0 => Known::Gone,
                1 => Known::Table(Arc::new(reader.definition()?)),
                2 => Known::Doubtful(reader.text()?.into()),
                _ => return None,
            };
            versions.push(Version { at, known });
        }
        (reader.bytes.is_empty() && !versions.is_empty()).then_some(versions)
    };
    read().ok_or_else(|| corrupt(bytes))
}

/// The first in the lowest bit.
fn bits(flags: &[bool]) -> u8 {
    flags.iter().enumerate().fold(0, |byte, (bit, set)| byte | u8::from(*set) << bit)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn put_u16(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&(number as u16).to_be_bytes());
}

fn put_list(out: &mut Vec<u8>, list: &[u16]) {
    put_u16(out, list.len());
    list.iter().for_each(|number| put_u16(out, usize::from(*number)));
}

fn put_definition(out: &mut Vec<u8>, definition: &Definition) {
    let Definition { id, version, table } = definition;
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&version.to_be_bytes());
    let TableDef { database, name, columns, key, unique, plain, collation, engine, system_versioned } = &**table;
    for text in [database, name, collation, engine] {
        put_bytes(out, text.as_bytes());
    }
    out.push((*system_versioned).into());
    let mut types: Vec<&ColumnType> = Vec::new();
    let mut places: HashMap<&ColumnType, usize> = HashMap::new();
    for column in columns {
        places.entry(&column.column_type).or_insert_with(|| {
            types.push(&column.column_type);
            types.len() - 1
        });
    }
    put_u16(out, types.len());
    for column_type in types {
        put_bytes(out, column_type.text.as_bytes());
        out.push(column_type.collation.is_some().into());
        column_type.collation.iter().for_each(|collation| put_bytes(out, collation.as_bytes()));
        out.push(column_type.srid.is_some().into());
        column_type.srid.iter().for_each(|srid| out.extend_from_slice(&srid.to_be_bytes()));
    }
    put_u16(out, columns.len());
    for column in columns {
        put_bytes(out, column.name.as_bytes());
        put_u16(out, places[&*column.column_type]);
        let flags = [
            column.nullable,
            column.generated == Generated::Virtual,
            column.generated == Generated::Stored,
            column.invisible,
            column.hidden,
            column.auto_increment,
            column.json,
        ];
        out.push(bits(&flags));
    }
    put_list(out, key);
    put_u16(out, unique.len());
    for index in unique {
        put_bytes(out, index.name.as_bytes());
        let flags = [!index.prefixes.is_empty(), index.expression, index.hashed];
        out.push(bits(&flags));
        put_list(out, &index.columns);
        index.prefixes.iter().for_each(|prefix| out.extend_from_slice(&prefix.to_be_bytes()));
    }
    put_u16(out, plain.len());
    for index in plain {
        put_bytes(out, index.name.as_bytes());
        out.push(index.expression.into());
        put_list(out, &index.columns);
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
}

impl<'b> Reader<'b> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*head)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }
    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }
    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }
    fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
    fn sized(&mut self) -> Option<&'b [u8]> {
        let length = self.u32()? as usize;
        let (head, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(head)
    }
    fn text(&mut self) -> Option<&'b str> {
        std::str::from_utf8(self.sized()?).ok()
    }
    fn list(&mut self, below: usize) -> Option<Box<[u16]>> {
        let count = self.u16()?;
        (0..count).map(|_| self.u16().filter(|at| usize::from(*at) < below)).collect()
    }

    fn definition(&mut self) -> Option<Definition> {
        let id = u64::from_be_bytes(self.take()?);
        let version = self.u32()?;
        let (database, name, collation, engine) =
            (self.text()?.into(), self.text()?.into(), self.text()?.into(), self.text()?.into());
        let system_versioned = self.bool()?;
        let types: Vec<Arc<ColumnType>> = (0..self.u16()?)
            .map(|_| {
                let text = self.text()?;
                let collation = if self.bool()? { Some(self.text()?) } else { None };
                let srid = if self.bool()? { Some(self.u32()?) } else { None };
                Some(Arc::new(ColumnType::parse(text, collation, srid)))
            })
            .collect::<Option<_>>()?;
        let columns: Box<[ColumnDef]> = (0..self.u16()?)
            .map(|_| {
                let name = self.text()?.into();
                let column_type = types.get(usize::from(self.u16()?))?.clone();
                let flags = self.u8()?;
                let is = |bit: u8| flags & bit != 0;
                let generated = match (is(2), is(4)) {
                    (false, false) => Generated::None,
                    (true, false) => Generated::Virtual,
                    (false, true) => Generated::Stored,
                    (true, true) => return None,
                };
                (flags & 128 == 0).then_some(ColumnDef {
                    name,
                    column_type,
                    nullable: is(1),
                    generated,
                    invisible: is(8),
                    hidden: is(16),
                    auto_increment: is(32),
                    json: is(64),
                })
            })
            .collect::<Option<_>>()?;
        let key = self.list(columns.len())?;
        let unique = (0..self.u16()?)
            .map(|_| {
                let name = self.text()?.into();
                let flags = self.u8().filter(|flags| *flags < 8)?;
                let columns = self.list(columns.len())?;
                let prefixes: Box<[u32]> = match flags & 1 {
                    0 => Box::default(),
                    _ => columns.iter().map(|_| self.u32()).collect::<Option<_>>()?,
                };
                Some(UniqueIndex { name, columns, prefixes, expression: flags & 2 != 0, hashed: flags & 4 != 0 })
            })
            .collect::<Option<_>>()?;
        let plain = (0..self.u16()?)
            .map(|_| {
                let (name, expression) = (self.text()?.into(), self.bool()?);
                Some(PlainIndex { name, expression, columns: self.list(columns.len())? })
            })
            .collect::<Option<_>>()?;
        let table = TableDef { database, name, columns, key, unique, plain, collation, engine, system_versioned };
        Some(Definition { id, version, table: Arc::new(table) })
    }
}
