//! Rows a second of one core, from a binlog file in the page cache to the place of every value, and to values: ours, mysql_cdc's
//! and mysql_common's, in turn.
//!
//! `decoders FILE [ROUNDS]`; `tests/bench/decoders/run` makes the file.

// The floors 0 to 2 of the crate as they are, without the database library above them.
#[allow(dead_code, unused_imports)]
#[path = "../../../../src/error.rs"]
mod error;
#[allow(dead_code, unused_imports)]
#[path = "../../../../src/record/mod.rs"]
mod record;
#[allow(dead_code, unused_imports)]
#[path = "../../../../src/wire/mod.rs"]
mod wire;

use std::collections::HashMap;
use std::fs::File;
use std::hint::black_box;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use mysql_cdc::binlog_reader::BinlogReader;
use mysql_cdc::events::binlog_event::BinlogEvent;
use mysql_common::binlog::BinlogFile;
use mysql_common::binlog::consts::BinlogVersion;
use mysql_common::binlog::events::{EventData, RowsEventData};
use record::{Cell, DataType, Decode, Form, Scratch};
use wire::mysql::column::{ColumnType, Detail};
use wire::mysql::event::{Body, Event, EventType, Flavor, Format, Header};
use wire::mysql::row::RowPlan;
use wire::mysql::value;

/// Reads a file's events through a buffer, each with its checksum verified.
fn read_events(path: &Path, mut visit: impl FnMut(&Event<'_>, usize, &mut Format)) {
    let mut file = File::open(path).expect("a binlog file");
    let mut format = Format::unknown(Flavor::MySql);
    let mut buffer = vec![0; 1 << 20];
    let mut filled = file.read(&mut buffer).expect("a read");
    let mut at = 4;
    loop {
        while let Ok(header) = Header::parse(&buffer[at..filled]) {
            let size = header.size_bytes as usize;
            let Some(bytes) = buffer[at..filled].get(..size) else { break };
            visit(&format.open(bytes).expect("an event"), at, &mut format);
            at += size;
        }
        buffer.copy_within(at..filled, 0);
        (filled, at) = (filled - at, 0);
        let read = file.read(&mut buffer[filled..]).expect("a read");
        if read == 0 {
            assert_eq!(filled, 0, "the file ends within an event, or an event is larger than the buffer");
            return;
        }
        filled += read;
    }
}

/// Finds every value, and `make`s it. Returns rows and values.
fn walbrook(path: &Path, make: bool) -> (u64, u64) {
    let mut plans: HashMap<u64, (Vec<u8>, RowPlan, Vec<(DataType, Decode, u32)>)> = HashMap::new();
    let mut cells: Vec<Cell> = Vec::new();
    let mut scratch = Scratch::default();
    let (mut rows, mut values) = (0, 0);
    read_events(path, |event, at, format| match event.parse(format).expect("a body") {
        Body::FormatDescription(description) => *format = description.format,
        Body::TableMap(map) => {
            if plans.get(&map.table_id).is_none_or(|(known, ..)| known != event.body()) {
                let decoders = map.types().expect("types").into_iter().map(decoder).collect();
                plans.insert(map.table_id, (event.body().to_vec(), RowPlan::all(&map).expect("a plan"), decoders));
            }
        }
        Body::Rows(table_rows) => {
            let (_, plan, decoders) = &plans[&table_rows.table_id];
            let mut scan = table_rows.scan(plan, 0).expect("rows");
            cells.clear();
            while scan.next(&mut cells).expect("a row") {
                rows += 1;
            }
            values += cells.len() as u64;
            if make {
                for (cell, (data_type, decode, layout)) in cells.iter().zip(decoders.iter().cycle()) {
                    let Some((start, length)) = cell.range() else { continue };
                    let form = Form { data_type, layout: *layout, scratch: &mut scratch };
                    let _ = black_box(decode(&event.bytes()[start..start + length], form).expect("a value"));
                }
            }
            black_box((&cells, at));
        }
        _ => {}
    });
    (rows, values)
}

/// For the types of the benchmarks' table; its texts are in UTF-8.
fn decoder((kind, detail): (ColumnType, Detail)) -> (DataType, Decode, u32) {
    match (kind, detail) {
        (ColumnType::LongLong, _) => (DataType::Int { bits: 64, unsigned: false }, value::int64, 0),
        (ColumnType::Long, _) => (DataType::Int { bits: 32, unsigned: false }, value::int32, 0),
        (ColumnType::NewDecimal, Detail::Decimal { precision, scale }) => {
            (DataType::Decimal, value::decimal, u32::from(precision) << 8 | u32::from(scale))
        }
        (ColumnType::Timestamp2, Detail::Fraction { digits }) => {
            (DataType::TimestampTz, value::timestamp2, u32::from(digits))
        }
        (ColumnType::Json, _) => (DataType::Json, value::json, 0),
        (ColumnType::Varchar | ColumnType::Blob, _) => (DataType::Text, value::utf8, 0),
        other => panic!("not a column of the benchmarks' table: {other:?}"),
    }
}

/// Only opens the events.
fn open_only(path: &Path) -> (u64, u64) {
    let mut events = 0;
    read_events(path, |event, _, format| {
        if let EventType::FORMAT_DESCRIPTION = event.header.kind
            && let Ok(Body::FormatDescription(description)) = event.parse(format)
        {
            *format = description.format;
        }
        events += 1;
        black_box(event);
    });
    (events, 0)
}

fn mysql_cdc(path: &Path) -> (u64, u64) {
    let (mut rows, mut values) = (0, 0);
    let reader = BinlogReader::new(File::open(path).expect("a binlog file")).expect("a binlog file");
    for event in reader.read_events() {
        let (_, event) = event.expect("an event");
        match &event {
            BinlogEvent::WriteRowsEvent(event) => {
                rows += event.rows.len() as u64;
                values += event.rows.iter().map(|row| row.cells.len() as u64).sum::<u64>();
            }
            BinlogEvent::UpdateRowsEvent(event) => {
                rows += event.rows.len() as u64;
                let row = |row: &mysql_cdc::events::row_events::row_data::UpdateRowData| {
                    (row.before_update.cells.len() + row.after_update.cells.len()) as u64
                };
                values += event.rows.iter().map(row).sum::<u64>();
            }
            _ => {}
        }
        black_box(&event);
    }
    (rows, values)
}

fn mysql_common(path: &Path) -> (u64, u64) {
    let file = BufReader::with_capacity(1 << 20, File::open(path).expect("a binlog file"));
    let (mut rows, mut values) = (0, 0);
    let mut reader = BinlogFile::new(BinlogVersion::Version4, file).expect("a binlog file");
    while let Some(event) = reader.next() {
        let event = event.expect("an event");
        let Some(EventData::RowsEvent(data)) = event.read_data().expect("a body") else { continue };
        let map = reader.reader().get_tme(data.table_id()).expect("a table map");
        for row in data.rows(map) {
            let (before, after) = row.expect("a row");
            rows += 1;
            for mut row in [before, after].into_iter().flatten() {
                for index in 0..row.len() {
                    values += 1;
                    black_box(row.take(index));
                }
            }
        }
        black_box::<&RowsEventData<'_>>(&data);
    }
    (rows, values)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().expect("usage: decoders FILE [ROUNDS]"));
    let rounds: usize = arguments.next().map_or(5, |rounds| rounds.parse().expect("a number of rounds"));
    let decoders: [(&str, fn(&Path) -> (u64, u64)); 4] = [
        ("walbrook, values in place", |path| walbrook(path, false)),
        ("walbrook, values made", |path| walbrook(path, true)),
        ("mysql_cdc 0.2.1", mysql_cdc),
        ("mysql_common 0.37.3", mysql_common),
    ];
    let mut seconds = vec![Vec::new(); decoders.len()];
    let mut counted = None;
    for _ in 0..rounds {
        for ((name, decode), seconds) in decoders.iter().zip(&mut seconds) {
            let start = Instant::now();
            let count = decode(&path);
            seconds.push(start.elapsed().as_secs_f64());
            assert_eq!(*counted.get_or_insert(count), count, "{name} found another number of rows or values");
        }
    }
    let (rows, values) = counted.expect("a round");
    println!("{rows} rows, {values} values, {} MiB", path.metadata().expect("a file").len() >> 20);
    let start = Instant::now();
    open_only(&path);
    println!("{:<30} {:>6.3} s, part of walbrook's", "reads and checksums", start.elapsed().as_secs_f64());
    for ((name, _), mut seconds) in decoders.into_iter().zip(seconds) {
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        println!("{name:<30} {:>6.3} s median, {:>7.3} M rows/s", median, rows as f64 / median / 1e6);
    }
}
