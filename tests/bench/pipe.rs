//! The hot path, one core: what a row costs from wire bytes to a line of JSON.
//!
//! `cargo bench --bench pipe` prints rows and bytes a second; bytes are those of the wire for the scans and of the
//! output for the encoder. The rows have the seven columns of the project's other figures.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use walbrook::encode::{JsonEncoder, JsonOptions};
use walbrook::record::{
    Batch, BatchBuilder, BinlogPosition, Cell, Column, DataType, Decode, Identity, Mark, Origin, Position, Seen, Seq,
    TableSchema, Txn,
};
use walbrook::wire::mysql::value;
use walbrook::wire::pg::{copy, pgoutput};

use rows::{COLUMNS, ROWS, inserts, row, scan, schema, shape};

mod rows;

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

/// A row of the benchmarks on MySQL, as a rows event has it; `changed` is what their updates change.
fn mysql_row(index: usize, changed: bool) -> [Vec<u8>; 7] {
    let id = 500_000 + index;
    let kind = (id % 100 + usize::from(changed)) as i32;
    let cents = id * 137 + if changed { 100 } else { 0 };
    // DECIMAL(14,2): 3 and 9 digits before the point, 2 behind it, the first bit inverted.
    let mut amount = [0; 7];
    amount[..2].copy_from_slice(&((cents / 100 / 1_000_000_000) as u16 | 0x8000).to_be_bytes());
    amount[2..6].copy_from_slice(&((cents / 100 % 1_000_000_000) as u32).to_be_bytes());
    amount[6] = (cents % 100) as u8;
    let mut at = (1_767_225_600 + id as u32).to_be_bytes().to_vec();
    at.extend(&123_456_u32.to_be_bytes()[1..]);
    [
        (id as i64).to_le_bytes().into(),
        kind.to_le_bytes().into(),
        format!("name {id}").into(),
        amount.into(),
        ("note ".repeat(1 + id % 7) + if changed { "!" } else { "" }).into(),
        at,
        mysql_document(id as i32, id.is_multiple_of(2)),
    ]
}

/// `{"n": …, "ok": …, "tags": ["a", "b"]}` in the binary form.
fn mysql_document(n: i32, ok: bool) -> Vec<u8> {
    let mut array = vec![2, 0, 14, 0, 12, 10, 0, 12, 12, 0];
    array.extend(b"\x01a\x01b");
    let keys_at = 4 + 3 * 4 + 3 * 3;
    let values_at = keys_at + b"noktags".len();
    let size = values_at + 4 + array.len();
    let mut out = vec![0, 3, 0, size as u8, 0];
    out.extend([keys_at as u8, 0, 1, 0, keys_at as u8 + 1, 0, 2, 0, keys_at as u8 + 3, 0, 4, 0]);
    out.extend([7, values_at as u8, 0, 4, if ok { 1 } else { 2 }, 0, 2, values_at as u8 + 4, 0]);
    out.extend(b"noktags");
    out.extend(n.to_le_bytes());
    out.extend(array);
    out
}

/// A batch as the source of MySQL makes it: inserts, or updates with full images.
fn mysql_batch(updates: bool) -> Batch {
    let column = |name: &str, data_type: DataType, decode: Decode, layout: u32| Column {
        name: name.into(),
        source_type: name.into(),
        nullable: true,
        utf8: data_type == DataType::Text,
        data_type,
        decode,
        layout,
    };
    let signed = |bits| DataType::Int { bits, unsigned: false };
    let schema = Arc::new(TableSchema {
        id: 90,
        version: 1,
        database: "bench".into(),
        namespace: "bench".into(),
        name: "events".into(),
        columns: [
            column("id", signed(64), value::int64, 0),
            column("kind", signed(32), value::int32, 0),
            column("name", DataType::Text, value::utf8, 0),
            column("amount", DataType::Decimal, value::decimal, 14 << 8 | 2),
            column("note", DataType::Text, value::utf8, 0),
            column("at", DataType::TimestampTz, value::timestamp2, 6),
            column("data", DataType::Json, value::json, 0),
        ]
        .into(),
        key: [0].into(),
        identity: Identity::Full,
    });
    let mut builder = BatchBuilder::new(Origin::Stream);
    let gtid = "dde2e863-e591-11f1-8642-02fc00000001:81".parse().unwrap();
    builder.txn(Txn {
        commit: Position::MySql(Arc::new(BinlogPosition {
            server: 1,
            file: "binlog.000002".into(),
            offset: 113_711_531,
            file_created_unix_s: 1,
            seen: Seen::Transaction(gtid),
        })),
        id: Some(81),
        commit_unix_micros: Some(1_795_232_168_123_456),
    });
    let mut frame = Vec::new();
    let table = builder.table(&schema);
    for index in 0..ROWS {
        let start = builder.cells_start();
        let images = if updates { &[true, false][..] } else { &[false] };
        for cell in images.iter().flat_map(|&changed| mysql_row(index, changed)) {
            builder.cells_mut().push(Cell::at(frame.len(), cell.len()));
            frame.extend(cell);
        }
        let ordinal = index as u64 + 1;
        if updates {
            builder.update(table, start, Some(false), ordinal);
        } else {
            builder.insert(table, start, ordinal);
        }
    }
    builder.frame(frame.into());
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

    let mut encoder = JsonEncoder::new(JsonOptions::default());
    let mut out = Vec::new();
    let mut out_bytes = 0;
    for (name, batch) in [
        ("json encode, mysql inserts", mysql_batch(false)),
        ("json encode, mysql updates", mysql_batch(true)),
        ("json encode", scan(&frame, &messages, &shape, &schema)),
    ] {
        encode(&mut encoder, &batch, &mut out);
        out_bytes = out.len();
        both(criterion, name, out_bytes, |group, id| {
            group.bench_function(id, |bencher| {
                bencher.iter(|| {
                    encode(&mut encoder, &batch, &mut out);
                    black_box(&out);
                });
            });
        });
    }

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
