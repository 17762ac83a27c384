//! The hot path, one core: what a row costs from wire bytes to a line of JSON.
//!
//! `cargo bench --bench pipe` prints rows and bytes a second; bytes are those of the wire for the scans and of the
//! output for the encoder. The rows have the seven columns of the project's other figures.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use walbrook::encode::{JsonEncoder, JsonOptions};
use walbrook::record::{
    Batch, BatchBuilder, Cell, Column, Identity, Lsn, Mark, Origin, Position, Seq, TableSchema, Txn,
};
use walbrook::wire::pg::{copy, pgoutput, text};

/// Rows in a frame: about what one batch of 256 KiB holds.
const ROWS: usize = 1_000;

/// (name, type oid, type name)
const COLUMNS: [(&str, u32, &str); 7] = [
    ("id", 20, "bigint"),
    ("quantity", 23, "integer"),
    ("sku", 25, "text"),
    ("price", 1700, "numeric(12,2)"),
    ("note", 25, "text"),
    ("created_at", 1184, "timestamptz"),
    ("attributes", 3802, "jsonb"),
];

/// Ids as they are in the middle of a million rows.
fn row(index: usize) -> [String; 7] {
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

fn schema() -> Arc<TableSchema> {
    let columns = COLUMNS.iter().map(|&(name, oid, source_type)| {
        let (data_type, decode) = text::scalar(oid);
        Column { name: name.into(), data_type, source_type: source_type.into(), nullable: true, decode, layout: 0 }
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
fn inserts() -> (Bytes, Vec<(usize, usize)>) {
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

/// COPY rows one behind the other, and where each begins and ends.
fn copy_rows(escaped: bool) -> (Vec<u8>, Vec<(usize, usize)>) {
    let mut frame = String::new();
    let mut rows = Vec::new();
    for index in 0..ROWS {
        let start = frame.len();
        let mut row = row(index);
        if escaped {
            // A jsonb string with quotes: the server prints \" and COPY doubles the backslash.
            row[6] = row[6].replace("web", "the \\\\\"web\\\\\"");
        }
        writeln!(frame, "{}", row.join("\t")).unwrap();
        rows.push((start, frame.len()));
    }
    (frame.into_bytes(), rows)
}

fn shape() -> pgoutput::TupleShape {
    pgoutput::TupleShape::new(COLUMNS.iter().enumerate().map(|(index, _)| (index == 0, true)))
}

/// What a source does with a frame, without the socket.
fn scan(frame: &Bytes, messages: &[(usize, usize)], shape: &pgoutput::TupleShape, schema: &Arc<TableSchema>) -> Batch {
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

fn encode(encoder: &mut JsonEncoder, batch: &Batch, out: &mut Vec<u8>) {
    out.clear();
    for record in batch.records() {
        encoder.encode(batch.origin, &record, out).unwrap();
    }
}

/// The same work, told in rows and in bytes.
fn both(
    criterion: &mut Criterion,
    name: &str,
    bytes: usize,
    mut bench: impl FnMut(&mut BenchmarkGroup<'_, WallTime>, &str),
) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(ROWS as u64));
    bench(&mut group, "rows");
    group.throughput(Throughput::Bytes(bytes as u64));
    bench(&mut group, "bytes");
    group.finish();
}

fn pipe(criterion: &mut Criterion) {
    let (frame, messages) = inserts();
    let (schema, shape) = (schema(), shape());

    both(criterion, "pgoutput scan", frame.len(), |group, id| {
        let mut cells: Vec<Cell> = Vec::new();
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                cells.clear();
                for &(start, end) in &messages {
                    let Ok(pgoutput::Message::Insert(insert)) = pgoutput::parse(&frame[start..end]) else {
                        unreachable!()
                    };
                    insert.scan(start, &shape, &mut cells).unwrap();
                }
                black_box(&cells);
            });
        });
    });

    for (name, escaped) in [("copy scan", false), ("copy scan, escaped", true)] {
        let (rows, ends) = copy_rows(escaped);
        both(criterion, name, rows.len(), |group, id| {
            let mut cells: Vec<Cell> = Vec::new();
            group.bench_function(id, |bencher| {
                let scan = |rows: &mut Vec<u8>| {
                    cells.clear();
                    for &(start, end) in &ends {
                        copy::scan_row(&mut rows[start..end], start, COLUMNS.len(), &mut cells).unwrap();
                    }
                    black_box(&cells);
                };
                bencher.iter_batched_ref(|| rows.clone(), scan, BatchSize::SmallInput);
            });
        });
    }

    let batch = scan(&frame, &messages, &shape, &schema);
    let mut encoder = JsonEncoder::new(JsonOptions::default());
    let mut out = Vec::new();
    encode(&mut encoder, &batch, &mut out);
    let out_bytes = out.len();

    both(criterion, "json encode", out_bytes, |group, id| {
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                encode(&mut encoder, &batch, &mut out);
                black_box(&out);
            });
        });
    });

    both(criterion, "end of pipe", out_bytes, |group, id| {
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                let batch = scan(&frame, &messages, &shape, &schema);
                encode(&mut encoder, &batch, &mut out);
                black_box(&out);
            });
        });
    });
}

criterion_group! {
    name = benches;
    // Twice ten benchmarks in half a minute.
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    targets = pipe
}
criterion_main!(benches);
