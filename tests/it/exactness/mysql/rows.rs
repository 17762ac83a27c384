//! The decoders alone, over rows of the binary protocol: what a snapshot would deliver of one database.

use std::sync::Arc;

use bytes::Bytes;
use walbrook::record::{Cell, Origin, TableSchema};
use walbrook::source::mysql::connection::Connection;
use walbrook::source::mysql::rows::Step;
use walbrook::source::mysql::types;
use walbrook::source::mysql::url::ConnInfo;
use walbrook::wire::mysql::event::RowsKind;

use super::super::lines::Line;
use super::log::{definitions, line, schema};
use crate::support::mysql::Database;

/// The database's rows, each as a line.
pub fn lines(db: &Database<'_>) -> Vec<Line> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(select(db))
}

async fn select(db: &Database<'_>) -> Vec<Line> {
    let info = ConnInfo::from_process(&db.url()).expect("a URL");
    let mut connection = Connection::connect(&info).await.expect("a connection");
    connection.execute("set character_set_results = NULL").await.expect("raw characters");
    let mut lines = Vec::new();
    for (table, columns) in definitions(db) {
        let schema = schema(&table, columns.iter().map(types::snapshot_column));
        let statement = connection.prepare(&format!("select * from `{}`.`{table}`", db.name())).await.expect("a plan");
        let mut rows = connection.stream(&statement, &[]).await.expect("rows");
        let mut cells = Vec::new();
        loop {
            match rows.next(&mut cells).expect("a row") {
                Step::Row => {}
                Step::Dry => {
                    lines.extend(taken(&schema, &rows.take_frame(), &mut cells));
                    rows.fill().await.expect("bytes");
                }
                Step::Long => {
                    lines.extend(taken(&schema, &rows.take_frame(), &mut cells));
                    let frame = rows.long_row(&mut cells).await.expect("a long row");
                    lines.extend(taken(&schema, &frame, &mut cells));
                }
                Step::End => {
                    lines.extend(taken(&schema, &rows.take_frame(), &mut cells));
                    break;
                }
            }
        }
    }
    lines
}

fn taken(schema: &Arc<TableSchema>, frame: &Bytes, cells: &mut Vec<Cell>) -> Vec<Line> {
    let of_row = |cells: &[Cell]| line(Origin::Snapshot, RowsKind::Write, schema, frame, cells);
    let lines = cells.chunks(schema.columns.len()).map(of_row).collect();
    cells.clear();
    lines
}
