//! The decoders alone, over the files of a server's log: what the stream would deliver of one database.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use walbrook::encode::{JsonEncoder, JsonOptions};
use walbrook::record::{BatchBuilder, Cell, Column, Identity, Lsn, Mark, Origin, Position, Seq, TableSchema, Txn};
use walbrook::source::mysql::schema::{CatalogColumn, ColumnDef};
use walbrook::source::mysql::types;
use walbrook::wire::mysql::column::{ColumnType, Detail};
use walbrook::wire::mysql::event::{Body, Flavor, Format, HEADER_BYTES, RowsKind};
use walbrook::wire::mysql::row::{RowPlan, RowScan};
use walbrook::wire::mysql::value::json::PARTIAL_MARK;

use super::super::lines::Line;
use super::hex;
use crate::support::mysql::{Database, Server};

/// The database's rows events of a log file, each row as a line. JSON that is logged as differences to the old value is
/// joined with it.
pub fn lines(db: &Database<'_>, file: &str) -> Vec<Line> {
    let columns = definitions(db);
    let log = std::fs::read(db.server().file(&format!("data/{file}"))).expect("a log file");
    let mut format = Format::unknown(if db.server().version().is_mariadb() { Flavor::MariaDb } else { Flavor::MySql });
    let mut maps: BTreeMap<u64, Option<(Arc<TableSchema>, RowPlan)>> = BTreeMap::new();
    let mut lines = Vec::new();
    let mut at = 4;
    while at < log.len() {
        let size = u32::from_le_bytes(log[at + 9..at + 13].try_into().expect("four bytes")) as usize;
        assert!(size >= HEADER_BYTES);
        let event = format.open(&log[at..at + size]).expect("an event");
        at += size;
        match event.parse(&format).expect("a body") {
            Body::FormatDescription(description) => format = description.format,
            Body::TableMap(map) => {
                let known = columns.get(map.table).filter(|_| map.database == db.name());
                maps.insert(map.table_id, known.map(|columns| plan(map.table, columns, &map.types().expect("types"))));
            }
            Body::Rows(rows) => {
                let Some((schema, plan)) = maps.get(&rows.table_id).expect("a map before its rows") else { continue };
                let frame = Bytes::copy_from_slice(event.bytes());
                let mut scan = rows.scan(plan, 0).expect("rows");
                let mut cells = Vec::new();
                while scan.next(&mut cells).expect("a row") {
                    let frame = match scan.has_differences() {
                        true => joined(&scan, &frame, &mut cells),
                        false => frame.clone(),
                    };
                    lines.push(line(Origin::Stream, rows.kind, schema, &frame, &cells));
                    cells.clear();
                }
            }
            Body::Compressed(_) | Body::TransactionPayload(_) => panic!("this reads logs that are not compressed"),
            _ => {}
        }
    }
    lines
}

/// The frame with the new values that are logged as differences behind it, each with the old one.
fn joined(scan: &RowScan<'_, '_>, frame: &[u8], cells: &mut [Cell]) -> Bytes {
    let mut frame = frame.to_vec();
    let width = cells.len() / 2;
    for column in (0..width).filter(|column| scan.is_difference(*column)) {
        let range = |cell: Cell| cell.range().map(|(at, length)| at..at + length).expect("a value");
        let (old, new) = (range(cells[width + column]), range(cells[column]));
        let at = frame.len();
        frame.push(PARTIAL_MARK);
        frame.extend((old.len() as u32).to_le_bytes());
        frame.extend_from_within(old);
        frame.extend_from_within(new);
        cells[column] = Cell::at(at, frame.len() - at);
    }
    frame.into()
}

fn plan(table: &str, columns: &[ColumnDef], wires: &[(ColumnType, Detail)]) -> (Arc<TableSchema>, RowPlan) {
    assert_eq!(columns.len(), wires.len());
    let wires: Vec<_> = columns.iter().zip(wires).map(|(column, wire)| types::logged_as(column, *wire)).collect();
    let made = columns.iter().zip(&wires).map(|(column, wire)| types::row_column(column, *wire));
    let outputs: Vec<_> = (0..wires.len() as u16).map(Some).collect();
    (schema(table, made), RowPlan::of_types(&wires, &outputs, wires.len() as u16))
}

pub fn schema(table: &str, columns: impl Iterator<Item = walbrook::error::Result<Column>>) -> Arc<TableSchema> {
    let columns = columns.map(|column| column.unwrap_or_else(|error| panic!("{error} in {table}")));
    Arc::new(TableSchema {
        id: 1,
        version: 1,
        database: "db".into(),
        namespace: "db".into(),
        name: table.into(),
        columns: columns.collect(),
        key: [0].into(),
        identity: Identity::Full,
    })
}

/// The line of one row, whose cells stand in the frame.
pub fn line(origin: Origin, kind: RowsKind, schema: &Arc<TableSchema>, frame: &Bytes, cells: &[Cell]) -> Line {
    let mut builder = BatchBuilder::new(origin);
    builder.txn(Txn { commit: Position::Postgres(Lsn(1)), id: None, commit_unix_micros: None });
    let table = builder.table(schema);
    let start = builder.cells_start();
    builder.cells_mut().extend_from_slice(cells);
    match kind {
        RowsKind::Write => builder.insert(table, start, 1),
        RowsKind::Delete => builder.delete(table, start, false, 1),
        _ => builder.update(table, start, Some(false), 1),
    }
    builder.frame(frame.clone());
    let batch = builder.build(Seq(1), Mark::default(), None);
    let mut encoder = JsonEncoder::new(JsonOptions { transactions: false });
    let mut out = Vec::new();
    for record in batch.records() {
        let encoded = encoder.encode(batch.origin, &record, &mut out);
        encoded.unwrap_or_else(|error| panic!("{error:?} in {}", schema.name));
    }
    Line::parse(std::str::from_utf8(&out).expect("UTF-8"))
}

/// What the catalog says of the database's columns, by table.
pub fn definitions(db: &Database<'_>) -> BTreeMap<String, Vec<ColumnDef>> {
    let text = |digits: &str| String::from_utf8(hex(digits)).expect("UTF-8");
    let rows = db.sql(
        "select hex(table_name), hex(column_name), hex(convert(column_type using utf8mb4)), collation_name, is_nullable
         from information_schema.columns where table_schema = database() order by table_name, ordinal_position",
    );
    let mut tables: BTreeMap<String, Vec<ColumnDef>> = BTreeMap::new();
    for row in rows.lines() {
        let [table, name, column_type, collation, nullable] = row.split('|').collect::<Vec<_>>()[..] else {
            panic!("five columns, not {row}")
        };
        let column = ColumnDef::from_information_schema(&CatalogColumn {
            name: &text(name),
            column_type: &text(column_type),
            collation: (collation != "NULL").then_some(collation),
            srid: None,
            nullable: nullable == "YES",
            extra: "",
            json_check: false,
        });
        tables.entry(text(table)).or_default().push(column);
    }
    tables
}

/// The file that a server writes from now on; the server is to be the test's own, or another test ends the file.
pub fn new_file(server: &Server) -> String {
    server.sql("", "flush binary logs");
    let files = server.sql("", "show binary logs");
    let last = files.lines().next_back().expect("a file");
    last.split('|').next().expect("a name").to_owned()
}
