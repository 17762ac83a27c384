//! Events of a binary log one behind the other, read whole: table maps with what they say, rows by the maps before them.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use walbrook_fuzz::record::Cell;
use walbrook_fuzz::wire::mysql::event::{Body, Checksum, Event, Flavor, Format, HEADER_BYTES, Header, PayloadHeader, Rows};
use walbrook_fuzz::wire::mysql::row::RowPlan;

/// The last bytes of an event in a file, which a fuzzer would not guess.
const CHECKSUM_BYTES: usize = 4;

/// Some of the table's columns, in another order than the table's.
fn outputs(columns: usize) -> (Vec<Option<u16>>, u16) {
    let count = columns.div_ceil(2) as u16;
    let output = |column: usize| (column % 2 == 0).then(|| count - 1 - (column / 2) as u16);
    ((0..columns).map(output).collect(), count)
}

fn scan(rows: &Rows<'_>, plan: &RowPlan, event: &[u8]) {
    let Ok(mut scan) = rows.scan(plan, 1) else { return };
    let mut cells: Vec<Cell> = Vec::new();
    loop {
        let start = cells.len();
        match scan.next(&mut cells) {
            Ok(true) => {
                let images = usize::from(rows.before.is_some()) + usize::from(rows.after.is_some());
                assert_eq!(cells.len(), start + images * plan.outputs());
                assert!(scan.has_differences() || !(0..plan.columns()).any(|column| scan.is_difference(column)));
                for (offset, length) in cells.drain(..).filter_map(Cell::range) {
                    assert!(offset > HEADER_BYTES && offset + length <= event.len() + 1, "a cell outside its event");
                }
            }
            Ok(false) => return assert_eq!(scan.at(), event.len()),
            Err(_) => return assert_eq!(cells.len(), start, "an error adds no cell"),
        }
    }
}

fn read(event: &Event<'_>, format: &mut Format, plans: &mut HashMap<u64, [RowPlan; 2]>) {
    let Ok(body) = event.parse(format) else { return };
    match body {
        Body::FormatDescription(description) => format.flavor = description.format.flavor,
        Body::Query(query) => {
            assert!(event.bytes().ends_with(query.statement));
            if let Ok(variables) = query.variables() {
                variables.updated_databases.names().for_each(drop);
                variables.charset_collations.pairs().for_each(drop);
            }
        }
        Body::PreviousGtids(previous) => {
            for set in previous.sets() {
                let ends: Vec<u64> = set.intervals().flat_map(|interval| [*interval.start(), *interval.end()]).collect();
                assert!(ends.is_sorted());
            }
        }
        Body::MariaGtidList(list) => list.ids().for_each(drop),
        Body::TransactionPayload(payload) => {
            assert_eq!(PayloadHeader::parse_prefix(event.bytes()), Ok(Some(payload.header)));
        }
        Body::TableMap(map) => {
            if let Ok(description) = map.describe() {
                assert_eq!(description.columns.len(), map.columns());
                for labels in description.columns.iter().filter_map(|column| column.labels) {
                    assert_eq!(labels.iter().count(), labels.len());
                }
            }
            let (outputs, count) = outputs(map.columns());
            if let Ok(some) = RowPlan::new(&map, &outputs, count)
                && let Ok(all) = RowPlan::all(&map)
            {
                plans.insert(map.table_id, [some, all]);
            }
        }
        Body::Rows(rows) => {
            for plan in plans.get(&rows.table_id).into_iter().flatten() {
                scan(&rows, plan, event.bytes());
            }
        }
        Body::Compressed(compressed) => {
            let mut plain = Vec::new();
            if compressed.inflate(&mut plain).is_ok() {
                let inner = Event::plain(&plain).expect("a whole event");
                read(&inner, format, plans);
            }
        }
        _ => {}
    }
}

fuzz_target!(|bytes: &[u8]| {
    // The first byte is whose log it is.
    let Some((&flavor, mut rest)) = bytes.split_first() else { return };
    let flavor = if flavor & 1 == 0 { Flavor::MySql } else { Flavor::MariaDb };
    let mut format = Format { flavor, checksum: Checksum::None };
    let mut plans = HashMap::new();
    while let Ok(header) = Header::parse(rest) {
        let size = (header.size_bytes as usize).min(rest.len());
        let (event, behind) = rest.split_at(size);
        let _ = Format::unknown(flavor).open(event);
        let mut event = event[..size.saturating_sub(CHECKSUM_BYTES)].to_vec();
        if event.len() >= HEADER_BYTES {
            let size = event.len() as u32;
            event[9..13].copy_from_slice(&size.to_le_bytes());
            read(&Event::plain(&event).expect("a whole event"), &mut format, &mut plans);
        }
        rest = behind;
    }
});
