//! What the fuzz targets share: the floors 0 to 2 of the crate as they are, without the database library above them, so
//! that a target builds in seconds; and a table of every kind of column.

#![allow(dead_code)]

#[path = "../../../src/encode/mod.rs"]
pub mod encode;
#[path = "../../../src/error.rs"]
pub mod error;
#[path = "../../../src/record/mod.rs"]
pub mod record;
#[path = "../../../src/wire/mod.rs"]
pub mod wire;

use std::sync::Arc;

use bytes::Bytes;
use encode::{JsonEncoder, JsonOptions};
use record::{
    Batch, BatchBuilder, Column, DataType, Decode, Identity, Lsn, Mark, Origin, Position, Seq, TableSchema, Txn,
};
use wire::mysql::value::{self, Charset, protocol};
use wire::pg::text;

/// Every type with a decoder of its own, and arrays of some.
fn types() -> Vec<(DataType, Decode)> {
    let scalars = [16, 17, 20, 21, 23, 25, 26, 114, 700, 701, 1082, 1114, 1184, 1700, 2950];
    let arrays = [(23, b','), (25, b','), (603, b';'), (17, b','), (1184, b',')];
    let array = |&(oid, delimiter): &(u32, u8)| {
        let (element, decode) = text::scalar(oid);
        text::array_of(element, decode, delimiter)
    };
    scalars.iter().map(|&oid| text::scalar(oid)).chain(arrays.iter().map(array)).collect()
}

/// How many columns [`table`] can have.
pub fn widest() -> usize {
    types().len()
}

/// A table of `width` columns of all types in turn, the first of them its key.
pub fn table(width: usize) -> Arc<TableSchema> {
    let column = |(index, decoded)| Column::new(&format!("c{index}"), "type", decoded);
    Arc::new(TableSchema {
        id: 1,
        version: 1,
        database: "d".into(),
        namespace: "s".into(),
        name: "t".into(),
        columns: types().into_iter().cycle().take(width).enumerate().map(column).collect(),
        key: if width == 0 { [].into() } else { [0].into() },
        identity: Identity::Default,
    })
}

/// A table with every type of MySQL and MariaDB in both forms, and a text of every character set.
pub fn mysql_table(layout: u32) -> Arc<TableSchema> {
    let plain: [Decode; 42] = [
        value::int8,
        value::int16,
        value::int24,
        value::int32,
        value::int64,
        value::uint8,
        value::uint16,
        value::uint24,
        value::uint32,
        value::uint64,
        value::float,
        value::double,
        value::decimal,
        value::bit,
        value::year,
        value::date,
        value::date4,
        value::time2,
        value::datetime2,
        value::timestamp2,
        value::old_time,
        value::old_datetime,
        value::old_timestamp,
        value::utf8,
        value::bytes,
        value::binary,
        value::json,
        value::json_text,
        value::uuid,
        value::inet4,
        value::inet6,
        value::compressed_bytes,
        value::compressed_text,
        protocol::year,
        protocol::decimal,
        protocol::date,
        protocol::datetime,
        protocol::timestamp,
        protocol::time,
        protocol::json,
        protocol::uuid,
        value::label,
    ];
    let labels: Box<[Box<str>]> = (0..40).map(|label| format!("label {label}").into()).collect();
    let mut columns: Vec<(DataType, Decode, u32)> =
        plain.into_iter().map(|decode| (DataType::Text, decode, layout)).collect();
    columns.push((DataType::Enum(labels.clone()), value::enumeration, layout));
    columns.push((DataType::Set(labels), value::set, layout));
    columns.push((value::vector_type(), value::vector, layout));
    columns.extend(Charset::ALL.into_iter().map(|charset| (DataType::Text, value::text as Decode, charset as u32)));
    let column = |(index, (data_type, decode, layout)): (usize, (DataType, Decode, u32))| Column {
        name: format!("c{index}").into(),
        data_type,
        source_type: "type".into(),
        nullable: true,
        decode,
        layout,
        utf8: false,
    };
    Arc::new(TableSchema {
        id: 1,
        version: 1,
        database: "d".into(),
        namespace: "d".into(),
        name: "t".into(),
        columns: columns.into_iter().enumerate().map(column).collect(),
        key: [].into(),
        identity: Identity::Full,
    })
}

/// A batch in the making with a transaction open.
pub fn draft() -> BatchBuilder {
    let mut builder = BatchBuilder::new(Origin::Stream);
    builder.txn(Txn { commit: Position::Postgres(Lsn(1)), id: Some(1), commit_unix_micros: Some(0) });
    builder
}

/// Encodes every record; a line must be whole, one line, and UTF-8, an error must leave nothing behind.
pub fn encode(builder: BatchBuilder, frame: &[u8]) {
    let mut builder = builder;
    builder.frame(Bytes::copy_from_slice(frame));
    let batch: Batch = builder.build(Seq(1), Mark::default(), None);
    let mut encoder = JsonEncoder::new(JsonOptions { transactions: true });
    let mut out = Vec::new();
    for record in batch.records() {
        out.clear();
        match encoder.encode(batch.origin, &record, &mut out) {
            Ok(()) => {
                assert_eq!(memchr::memchr(b'\n', &out), Some(out.len() - 1));
                std::str::from_utf8(&out).expect("a line in UTF-8");
            }
            Err(_) => assert!(out.is_empty()),
        }
    }
}
