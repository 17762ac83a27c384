//! The rows of the benchmarks of one core: the seven columns of the project's other figures.

use std::sync::Arc;

use bytes::Bytes;
use walbrook::record::{Batch, BatchBuilder, Column, Identity, Lsn, Mark, Origin, Position, Seq, TableSchema, Txn};
use walbrook::wire::pg::{pgoutput, text};

/// Rows in a frame: about what one batch of 256 KiB holds.
pub const ROWS: usize = 1_000;

/// (name, type oid, type name)
pub const COLUMNS: [(&str, u32, &str); 7] = [
    ("id", 20, "bigint"),
    ("quantity", 23, "integer"),
    ("sku", 25, "text"),
    ("price", 1700, "numeric(12,2)"),
    ("note", 25, "text"),
    ("created_at", 1184, "timestamptz"),
    ("attributes", 3802, "jsonb"),
];

/// Ids as they are in the middle of a million rows.
pub fn row(index: usize) -> [String; 7] {
    let id = 500_000 + index;
    [
        id.to_string(),
        (index % 100).to_string(),
        format!("SKU-{:06}", index * 7919 % 1_000_000),
        format!("{}.{:02}", index * 37 % 1_000, index % 100),
        format!("order {id} of a customer who likes to write a line or two about it"),
        format!("2026-11-21 03:36:{:02}.{:06}+00", index % 60, index * 7919 % 1_000_000),
        format!("{{\"tags\": [\"a\", \"b\"], \"gift\": false, \"weight\": {index}, \"channel\": \"web\"}}"),
    ]
}

pub fn schema() -> Arc<TableSchema> {
    let columns = COLUMNS.iter().map(|&(name, oid, source_type)| {
        let scalar = text::scalar(oid);
        Column { utf8: text::is_text(&scalar.0), ..Column::new(name, source_type, scalar) }
    });
    Arc::new(TableSchema {
        id: 16_400,
        version: 1,
        database: "shop".into(),
        namespace: "public".into(),
        name: "orders".into(),
        columns: columns.collect(),
        key: [0].into(),
        identity: Identity::Default,
    })
}

/// Insert messages one behind the other, and where each begins and ends.
pub fn inserts() -> (Bytes, Vec<(usize, usize)>) {
    let mut frame = Vec::new();
    let mut messages = Vec::new();
    for index in 0..ROWS {
        let start = frame.len();
        frame.push(b'I');
        frame.extend(16_400_u32.to_be_bytes());
        frame.push(b'N');
        frame.extend((COLUMNS.len() as u16).to_be_bytes());
        for value in row(index) {
            frame.push(b't');
            frame.extend((value.len() as u32).to_be_bytes());
            frame.extend(value.as_bytes());
        }
        messages.push((start, frame.len()));
    }
    (frame.into(), messages)
}

pub fn shape() -> pgoutput::TupleShape {
    pgoutput::TupleShape::new(COLUMNS.iter().enumerate().map(|(index, _)| (index == 0, true)))
}

/// What a source does with a frame, without the socket.
pub fn scan(
    frame: &Bytes,
    messages: &[(usize, usize)],
    shape: &pgoutput::TupleShape,
    schema: &Arc<TableSchema>,
) -> Batch {
    let mut builder = BatchBuilder::new(Origin::Stream);
    builder.txn(Txn {
        commit: Position::Postgres(Lsn(0x16_B374_D848)),
        id: Some(731),
        commit_unix_micros: Some(1_795_232_168_123_456),
    });
    for (ordinal, &(start, end)) in messages.iter().enumerate() {
        let Ok(pgoutput::Message::Insert(insert)) = pgoutput::parse(&frame[start..end]) else { unreachable!() };
        let table = builder.table(schema);
        let cells = builder.cells_start();
        insert.scan(start, shape, builder.cells_mut()).unwrap();
        builder.insert(table, cells, ordinal as u64 + 1);
    }
    builder.frame(frame.clone());
    builder.build(Seq(1), Mark::default(), None)
}
