//! Logs of real servers (`tests/fixtures/mysql`) against what the server's own mysqlbinlog says of them, and damaged.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::column::ColumnType;
use super::event::{Body, Checksum, Event, EventType, Flavor, Format, Header, MapColumn, Rows, RowsKind, TableMap};
use super::row::RowPlan;
use crate::record::Cell;

macro_rules! fixtures {
    ($($name:literal),* $(,)?) => {
        /// (name, the log's file, what mysqlbinlog says of it)
        pub(super) const FIXTURES: &[(&str, &[u8], &[u8])] = &[$((
            $name,
            include_bytes!(concat!("../../../tests/fixtures/mysql/", $name)),
            include_bytes!(concat!("../../../tests/fixtures/mysql/", $name, ".txt")),
        )),*];
    };
}

fixtures!(
    "mysql-9.7/all",
    "mysql-9.7/minimal",
    "mysql-9.7/previous",
    "mariadb-11.8/all",
    "mariadb-11.8/minimal",
    "mariadb-11.8/previous",
    "mariadb-10.11/all",
    "mariadb-10.11/minimal",
    "mariadb-10.11/previous",
    "mariadb-10.5/all",
    "mariadb-10.5/minimal",
    "mariadb-10.5/previous",
);

/// A fixture's log.
pub(super) fn fixture(name: &str) -> &'static [u8] {
    FIXTURES.iter().find(|(known, ..)| *known == name).expect("a fixture").1
}

/// The bytes of a file's events behind its magic number, and where each stands.
pub(super) fn raw_events(file: &[u8]) -> Vec<(usize, &[u8])> {
    assert_eq!(&file[..4], b"\xfebin");
    let mut events = Vec::new();
    let mut at = 4;
    while at < file.len() {
        let size = Header::parse(&file[at..]).expect("a header").size_bytes as usize;
        events.push((at, &file[at..at + size]));
        at += size;
    }
    events
}

/// An opened event as one that never had a checksum.
pub(super) fn plain(event: &Event<'_>) -> Vec<u8> {
    let mut bytes = event.bytes().to_vec();
    let size = bytes.len() as u32;
    bytes[9..13].copy_from_slice(&size.to_le_bytes());
    bytes
}

/// Visits a file's events in order, those within payloads and the inflated ones too.
pub(super) fn walk(file: &[u8], mut visit: impl FnMut(usize, &Event<'_>, &Body<'_>)) {
    let mut format = Format::unknown(Flavor::MySql);
    for (at, bytes) in raw_events(file) {
        let event = format.open(bytes).unwrap_or_else(|error| panic!("at {at}: {error}"));
        let body = event.parse(&format).unwrap_or_else(|error| panic!("at {at}, {}: {error}", event.header.kind));
        visit(at, &event, &body);
        match body {
            Body::FormatDescription(description) => format = description.format,
            Body::TransactionPayload(payload) => {
                let plain = zstd::decode_all(payload.payload).expect("a zstd stream");
                assert_eq!(Some(plain.len() as u64), payload.header.uncompressed_bytes);
                let mut rest = &plain[..];
                while !rest.is_empty() {
                    let (inner, behind) = rest.split_at(Header::parse(rest).expect("a header").size_bytes as usize);
                    let inner = Event::plain(inner).expect("an event");
                    visit(at, &inner, &inner.parse(&format).expect("a body"));
                    rest = behind;
                }
            }
            Body::Compressed(compressed) => {
                let mut plain = Vec::new();
                compressed.inflate(&mut plain).expect("a zlib stream");
                let inner = Event::plain(&plain).expect("an event");
                visit(at, &inner, &inner.parse(&format).expect("a body"));
            }
            _ => {}
        }
    }
}

/// Every fixture opens and is read whole, by checksums that it has, and events stand where mysqlbinlog says they do.
#[test]
fn events_stand_where_mysqlbinlog_says() {
    for (name, file, text) in FIXTURES {
        let mut ours = Vec::new();
        walk(file, |at, event, body| {
            assert!(
                !matches!(body, Body::Unknown | Body::StatementBased | Body::Skippable),
                "{name} at {at}: {}",
                event.header.kind
            );
            ours.push(at);
        });
        ours.dedup();
        let mut theirs: Vec<usize> = String::from_utf8_lossy(text)
            .lines()
            .filter_map(|line| line.strip_prefix("# at "))
            .map(|at| at.parse().expect("a position"))
            .collect();
        theirs.dedup();
        assert_eq!(ours, theirs, "{name}");
    }
}

/// What a row's images say, a line for each value, as mysqlbinlog writes them; of values only those whose printed form is
/// their own bytes or an integer, others as `?`.
fn describe_rows(rows: &Rows<'_>, map: &TableMap<'_>, out: &mut String) {
    let (verb, ends) = match rows.kind {
        RowsKind::Write => ("INSERT INTO", ["SET", ""]),
        RowsKind::Update | RowsKind::PartialUpdate => ("UPDATE", ["SET", "WHERE"]),
        RowsKind::Delete => ("DELETE FROM", ["WHERE", ""]),
    };
    match (rows.partition, rows.source_partition) {
        (Some(new), Some(old)) => {
            writeln!(out, "Extra row info for partitioning: source_partition: {old} target_partition: {new}").unwrap();
        }
        (Some(partition), None) => writeln!(out, "Extra row info for partitioning: partition: {partition}").unwrap(),
        _ => {}
    }
    let columns = map.describe().expect("a table map").columns;
    let plan = RowPlan::all(map).expect("a plan");
    let event = rows.event();
    let mut scan = rows.scan(&plan, 0).expect("rows");
    let mut cells = Vec::new();
    while scan.next(&mut cells).expect("a row") {
        write!(out, "{verb} `{}`.`{}`", map.database, map.table).unwrap();
        if rows.rows_at() == event.len() {
            out.push_str(" VALUES ()\n");
            assert_eq!(cells, [Cell::MISSING]);
            cells.clear();
            continue;
        }
        out.push('\n');
        let images: Vec<&[Cell]> = cells.chunks(columns.len()).collect();
        assert_eq!(images.len(), if ends[1].is_empty() { 1 } else { 2 });
        // The old row comes first in the text.
        for (nth, image) in images.iter().enumerate().rev() {
            writeln!(out, "{}", ends[nth]).unwrap();
            for (index, (cell, column)) in image.iter().zip(&columns).enumerate() {
                if *cell == Cell::UNCHANGED || *cell == Cell::MISSING {
                    continue;
                }
                let value = match cell.range() {
                    None => "NULL".to_owned(),
                    Some(_) if nth == 0 && scan.is_difference(index) => "JSON_".to_owned(),
                    Some((start, length)) => printed(&event[start..start + length], column),
                };
                writeln!(out, "  @{}={value}", index + 1).unwrap();
            }
        }
        cells.clear();
    }
}

fn printed(bytes: &[u8], column: &MapColumn<'_>) -> String {
    use ColumnType as Type;
    match column.kind {
        Type::Tiny | Type::Short | Type::Int24 | Type::Long | Type::LongLong => {
            let unsigned = bytes.iter().rev().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte));
            let shift = 64 - 8 * bytes.len();
            ((unsigned << shift).cast_signed() >> shift).to_string()
        }
        Type::String | Type::Varchar | Type::Blob
            if bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b' ') =>
        {
            format!("'{}'", String::from_utf8_lossy(bytes))
        }
        _ => "?".to_owned(),
    }
}

/// Each row, each of its images, which columns they have, which are NULL, integers and texts: as mysqlbinlog prints them.
#[test]
fn rows_are_those_of_mysqlbinlog() {
    for (name, file, text) in FIXTURES {
        // A text an event.
        let mut ours = Vec::new();
        let mut maps: HashMap<u64, (Vec<u8>, Flavor)> = HashMap::new();
        let mut flavor = Flavor::MySql;
        walk(file, |_, event, body| match body {
            Body::FormatDescription(description) => flavor = description.format.flavor,
            Body::TableMap(map) => {
                maps.insert(map.table_id, (plain(event), flavor));
            }
            Body::Rows(rows) => {
                let (bytes, flavor) = &maps[&rows.table_id];
                let map = Event::plain(bytes).unwrap().parse(&Format { flavor: *flavor, checksum: Checksum::None });
                let Ok(Body::TableMap(map)) = map else { panic!("no table map") };
                ours.push(String::new());
                describe_rows(rows, &map, ours.last_mut().expect("just pushed"));
            }
            _ => {}
        });
        let theirs = String::from_utf8_lossy(text);
        let mut theirs = theirs.lines().filter_map(|line| line.strip_prefix("### "));
        let mut values = 0;
        'events: for event in &ours {
            for line in event.lines() {
                let expected =
                    theirs.next().unwrap_or_else(|| panic!("{name}: more rows than mysqlbinlog has, {line}"));
                if expected.contains("Don't know how to handle column type=255") {
                    // MySQL's tool gives the rest of the event up.
                    continue 'events;
                }
                if let Some(column) = line.strip_suffix('?') {
                    assert!(expected.starts_with(column) && !expected.ends_with("=NULL"), "{name}: {line}, {expected}");
                } else if let Some(column) = line.strip_suffix("=JSON_") {
                    // A list without differences is the old value.
                    let same = format!("{column}={}", column.trim());
                    assert!(expected.starts_with(line) || expected == same, "{name}: {line}, {expected}");
                } else {
                    // A negative number has the unsigned one behind it.
                    let expected =
                        expected.split_once(" (").filter(|_| line.contains('=')).map_or(expected, |(signed, _)| signed);
                    assert_eq!(line, expected, "{name}");
                    values += usize::from(line.contains('='));
                }
            }
        }
        assert_eq!(theirs.next(), None, "{name}: fewer rows than mysqlbinlog has");
        assert!(values > 0, "{name}: no value was compared");
    }
}

/// Reads all that an event has, whatever it is; what it finds must lie within the event.
fn read_all(event: &Event<'_>, format: &Format, map: Option<&TableMap<'_>>) {
    let Ok(body) = event.parse(format) else { return };
    match body {
        Body::Query(query) => {
            if let Ok(variables) = query.variables() {
                variables.updated_databases.names().for_each(drop);
                variables.charset_collations.pairs().for_each(drop);
            }
        }
        Body::PreviousGtids(previous) => previous.sets().for_each(|set| set.intervals().for_each(drop)),
        Body::MariaGtidList(list) => list.ids().for_each(drop),
        Body::TableMap(map) => {
            if let Ok(description) = map.describe() {
                assert_eq!(description.columns.len(), map.columns());
                description.columns.iter().filter_map(|column| column.labels).for_each(|labels| {
                    assert_eq!(labels.iter().count(), labels.len());
                });
            }
            if let Ok(plan) = RowPlan::all(&map) {
                assert_eq!(plan.columns(), map.columns());
            }
        }
        Body::Compressed(compressed) => {
            let mut out = Vec::new();
            if compressed.inflate(&mut out).is_ok() {
                read_all(&Event::plain(&out).expect("an event"), format, map);
            }
        }
        Body::Rows(rows) => {
            let Some(plan) = map.and_then(|map| RowPlan::all(map).ok()) else { return };
            let Ok(mut scan) = rows.scan(&plan, 0) else { return };
            let mut cells = Vec::new();
            while let Ok(true) = scan.next(&mut cells) {
                for range in cells.drain(..).filter_map(Cell::range) {
                    assert!(range.0 + range.1 <= event.bytes().len());
                }
            }
            assert!(cells.is_empty(), "an error adds no cell");
        }
        _ => {}
    }
}

/// Each event cut off at each of its bytes, and with each of its bits turned: read or refused, never a panic.
#[test]
fn damaged_events_are_read_or_refused() {
    for (_, file, _) in FIXTURES {
        let mut format = Format::unknown(Flavor::MySql);
        let mut maps: HashMap<u64, Vec<u8>> = HashMap::new();
        for (_, bytes) in raw_events(file) {
            let event = format.open(bytes).expect("an event");
            let map_bytes = match event.parse(&format) {
                Ok(Body::FormatDescription(description)) => {
                    format = description.format;
                    None
                }
                Ok(Body::TableMap(map)) => {
                    maps.insert(map.table_id, plain(&event));
                    None
                }
                Ok(Body::Rows(rows)) => maps.get(&rows.table_id),
                // The compressed rows' table is in the same place.
                _ if (166..=171).contains(&event.header.kind.0) => maps.get(&u64::from(event.body()[0])),
                _ => None,
            };
            let map = map_bytes.and_then(|bytes| match Event::plain(bytes).ok()?.parse(&format).ok()? {
                Body::TableMap(map) => Some(map),
                _ => None,
            });
            damage(&plain(&event), |damaged| {
                if let Ok(event) = Event::plain(damaged) {
                    read_all(&event, &format, map.as_ref());
                }
                if event.header.kind == EventType::FORMAT_DESCRIPTION {
                    let _ = Format::unknown(Flavor::MySql).open(damaged).map(|event| event.parse(&format));
                }
            });
        }
    }
}

fn damage(event: &[u8], mut check: impl FnMut(&[u8])) {
    let mut bytes = event.to_vec();
    for length in 0..event.len() {
        if length >= 13 {
            bytes[9..13].copy_from_slice(&(length as u32).to_le_bytes());
        }
        check(&bytes[..length]);
    }
    bytes.copy_from_slice(event);
    for bit in 0..event.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        check(&bytes);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// One turned bit is always found where there are checksums.
#[test]
fn a_checksum_finds_every_turned_bit() {
    for name in ["mysql-9.7/all", "mariadb-11.8/all"] {
        let file = fixture(name);
        let crc = Format { flavor: Flavor::MySql, checksum: Checksum::Crc32 };
        for (at, bytes) in raw_events(file).into_iter().take(12) {
            assert!(crc.open(bytes).is_ok(), "{name} at {at}");
            let mut bytes = bytes.to_vec();
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                let in_use = Header::parse(&bytes).is_ok_and(|header| header.flags.in_use());
                let opened = crc.open(&bytes);
                // The type of a FORMAT_DESCRIPTION tells how its checksum is computed; so does its own algorithm byte.
                let algorithm = bytes.len() - 5;
                let excused = at == 4 && (bit / 8 == algorithm || (in_use && bit / 8 == 17 && bit % 8 == 0));
                assert!(opened.is_err() || excused, "{name} at {at}, bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}
