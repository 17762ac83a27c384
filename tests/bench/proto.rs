//! What a row costs on the gRPC stream, in one thread's CPU time: to encode, to read with prost; and in bytes.
//!
//! `cargo bench --bench proto` compares the typed form with two others: cells as bytes of an encoding of their own, which
//! every consumer would have to decode by hand, and JSON. With `WALBROOK_BENCH_DIR` set the messages are written there,
//! for `tests/bench/proto-python`.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use rustix::time::{ClockId, clock_gettime};
use walbrook::encode::proto::{Filter, Format, ProtoEncoder, ProtoOptions};
use walbrook::proto::FILE_DESCRIPTOR_SET;
use walbrook::proto::v1::{SubscribeResponse, subscribe_response::Response, value::Kind};
use walbrook::record::{Batch, Change, Scratch, Value};

use rows::{ROWS, inserts, scan, schema, shape};

mod rows;

/// What the thread has run: the forms compare on a busy machine too.
struct CpuTime;

impl CpuTime {
    fn now() -> Duration {
        clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
    }
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;
    fn start(&self) -> Duration {
        Self::now()
    }
    fn end(&self, start: Duration) -> Duration {
        Self::now() - start
    }
    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }
    fn zero(&self) -> Duration {
        Duration::ZERO
    }
    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn encoder(format: Format) -> ProtoEncoder {
    ProtoEncoder::new(ProtoOptions {
        format,
        filter: Filter::default(),
        lineage: 1,
        target_bytes: 1 << 20,
        max_message_bytes: 4 << 20,
    })
}

fn encode(encoder: &mut ProtoEncoder, batch: &Batch) -> Bytes {
    assert_eq!(encoder.add(batch, 0..batch.len()).unwrap(), batch.len());
    encoder.finish(1).unwrap().bytes
}

/// Every value of a message, read once.
fn read_typed(message: &Bytes) -> u64 {
    let response = SubscribeResponse::decode(message.clone()).unwrap();
    let Some(Response::Batch(batch)) = response.response else { unreachable!() };
    let mut sum = 0;
    for change in batch.transactions.iter().flat_map(|transaction| &transaction.changes) {
        for value in change.after.iter().flat_map(|row| &row.values) {
            sum += match value.kind.as_ref().unwrap() {
                Kind::Integer(number) => *number as u64,
                Kind::Text(text) | Kind::Decimal(text) | Kind::Json(text) => text.len() as u64,
                Kind::Timestamptz(micros) => *micros as u64,
                _ => unreachable!(),
            };
        }
    }
    sum
}

/// The other form: `Row` is one field of bytes, a cell is a byte of its kind (the numbers of `Value`) and its content, with
/// a varint length where that is not fixed.
mod cells {
    use super::*;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Row {
        #[prost(bytes = "bytes", tag = "1")]
        pub cells: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Change {
        #[prost(uint32, tag = "1")]
        pub operation: u32,
        #[prost(uint32, tag = "2")]
        pub schema: u32,
        #[prost(uint64, tag = "3")]
        pub ordinal: u64,
        #[prost(message, optional, tag = "5")]
        pub after: Option<Row>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Batch {
        #[prost(message, repeated, tag = "5")]
        pub changes: Vec<Change>,
    }

    fn varint(mut number: u64, out: &mut Vec<u8>) {
        while number >= 0x80 {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    }

    fn counted(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
        out.push(kind);
        varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }

    pub fn encode(batch: &super::Batch, scratch: &mut Scratch, row: &mut Vec<u8>, out: &mut Vec<u8>) {
        out.clear();
        for record in batch.records() {
            let super::Change::Insert { after, .. } = record.change else { unreachable!() };
            row.clear();
            for column in 0..after.schema().columns.len() {
                match after.value(column, scratch).unwrap() {
                    Value::Int(number) => {
                        row.push(3);
                        varint((number << 1 ^ number >> 63) as u64, row);
                    }
                    Value::Decimal(text) => counted(7, text.as_bytes(), row),
                    Value::Text(text) => counted(8, text.as_bytes(), row),
                    Value::TimestampTz(timestamp) => {
                        row.push(12);
                        row.extend_from_slice(&timestamp.to_unix_micros().unwrap().to_le_bytes());
                    }
                    Value::Json(document) => counted(14, document, row),
                    _ => unreachable!(),
                }
            }
            // A row of 128 bytes to 16 KiB: each length has two bytes.
            let [low, high] = [row.len() as u8 | 0x80, (row.len() >> 7) as u8];
            let cells = [0x0a, low, high];
            let after = row.len() + 3;
            let mut head = vec![0x08, 2, 0x10, 1, 0x18];
            varint(record.ordinal, &mut head);
            head.extend([0x2a, after as u8 | 0x80, (after >> 7) as u8]);
            let change = head.len() + after;
            out.extend([0x2a, change as u8 | 0x80, (change >> 7) as u8]);
            out.extend_from_slice(&head);
            out.extend_from_slice(&cells);
            out.extend_from_slice(row);
        }
    }

    pub fn read(message: &Bytes) -> u64 {
        let batch = Batch::decode(message.clone()).unwrap();
        let mut sum = 0;
        for row in batch.changes.iter().filter_map(|change| change.after.as_ref()) {
            let mut rest = &row.cells[..];
            while let Some((kind, content)) = rest.split_first() {
                rest = content;
                let mut varint = || prost::encoding::decode_varint(&mut rest).unwrap();
                match kind {
                    3 => {
                        let coded = varint();
                        sum += (coded >> 1 ^ (coded & 1).wrapping_neg()) as i64 as u64;
                    }
                    7 | 8 | 14 => {
                        let length = varint() as usize;
                        let (text, behind) = rest.split_at(length);
                        // As prost does, so that both give the consumer a string.
                        let text = String::from_utf8(text.to_vec()).unwrap();
                        sum += black_box(&text).len() as u64;
                        rest = behind;
                    }
                    12 => {
                        let (micros, behind) = rest.split_first_chunk().unwrap();
                        sum += i64::from_le_bytes(*micros) as u64;
                        rest = behind;
                    }
                    _ => unreachable!(),
                }
            }
        }
        sum
    }
}

fn proto(criterion: &mut Criterion<CpuTime>) {
    let (frame, messages) = inserts();
    let batch = scan(&frame, &messages, &shape(), &schema());
    let mut group = criterion.benchmark_group("row");
    group.throughput(Throughput::Elements(ROWS as u64));

    let mut typed = encoder(Format::Typed);
    let mut lines = encoder(Format::Json);
    encode(&mut typed, &batch); // the shape goes with the first message
    let (mut scratch, mut row, mut cells) = (Scratch::default(), Vec::new(), Vec::new());
    let (typed_message, json_message) = (encode(&mut typed, &batch), encode(&mut lines, &batch));
    cells::encode(&batch, &mut scratch, &mut row, &mut cells);
    let cells_message = Bytes::from(cells.clone());
    assert_eq!(read_typed(&typed_message), cells::read(&cells_message));
    for (name, message) in [("typed", &typed_message), ("cells", &cells_message), ("json", &json_message)] {
        println!("{name}: {:.1} bytes a row", message.len() as f64 / ROWS as f64);
        if let Some(dir) = std::env::var_os("WALBROOK_BENCH_DIR") {
            let dir = std::path::PathBuf::from(dir);
            std::fs::write(dir.join(name), message).unwrap();
            std::fs::write(dir.join("descriptors.bin"), FILE_DESCRIPTOR_SET).unwrap();
        }
    }

    group.bench_function("encode typed", |bencher| bencher.iter(|| black_box(encode(&mut typed, &batch))));
    group.bench_function("encode cells", |bencher| {
        bencher.iter(|| cells::encode(&batch, &mut scratch, &mut row, black_box(&mut cells)));
    });
    group.bench_function("encode json", |bencher| bencher.iter(|| black_box(encode(&mut lines, &batch))));
    group.bench_function("read typed", |bencher| bencher.iter(|| black_box(read_typed(&typed_message))));
    group.bench_function("read cells", |bencher| bencher.iter(|| black_box(cells::read(&cells_message))));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = proto
}
criterion_main!(benches);
