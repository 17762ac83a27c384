//! Transactions of scripted events: what never ends, and what a rollback takes back.

use std::sync::Mutex;

use tokio::sync::{Notify, watch};

use super::super::relation::Relations;
use super::super::schema::{ColumnDef, ColumnType, Generated, Host, TableDef};
use super::super::server;
use super::*;
use crate::flow::{Budget, Deliver, Draft, Outlet};
use crate::record::{Batch, Change, Origin, Seq};
use crate::source::State;
use crate::source::mysql::catalog::{Catalog, Table};
use crate::source::tables::Selection;

#[derive(Default)]
struct Kept(Mutex<Vec<Batch>>, Notify);

impl Deliver for Kept {
    fn deliver(&self, draft: Draft) -> Seq {
        self.0.lock().unwrap().push(draft.number(Seq(1)));
        Seq(1)
    }
    fn stored(&self) -> watch::Receiver<Seq> {
        watch::channel(Seq(0)).1
    }
    fn is_idle(&self) -> bool {
        true
    }
    fn idle(&self) -> &Notify {
        &self.1
    }
}

/// A log of one table `d.t (a int)`, without GTIDs and checksums.
struct Log {
    decoder: Decoder,
    kept: Arc<Kept>,
    offset: u32,
}

impl Log {
    fn new(void: Option<Void>) -> Log {
        let mut log = Log::at("b.000001:4", None, void);
        log.rotate("b.000001");
        log.begin_file(true);
        log
    }

    /// Nothing of the dump has come yet.
    fn at(from: &str, skips_to: Option<u64>, void: Option<Void>) -> Log {
        let column = ColumnDef {
            name: "a".into(),
            column_type: Arc::new(ColumnType::parse("int", None, None)),
            nullable: true,
            generated: Generated::None,
            invisible: false,
            hidden: false,
            auto_increment: false,
            json: false,
        };
        let def = TableDef {
            database: "d".into(),
            name: "t".into(),
            columns: [column].into(),
            key: [].into(),
            unique: [].into(),
            plain: [].into(),
            collation: "utf8mb4_general_ci".into(),
            engine: "InnoDB".into(),
            system_versioned: false,
        };
        let table = Table { def: Arc::new(def), partitioned: false, rows: None, average_row_bytes: None, bytes: 0 };
        let catalog = Catalog { tables: vec![table], ..Catalog::default() };
        let host = Host { flavor: server::Flavor::MySql, version: (8, 4, 0), lower_case_table_names: 0 };
        let relations = Relations::of(Selection::default(), host, &catalog, &[]);
        let kept = Arc::new(Kept::default());
        let outlet = Outlet::new(Budget::new(1 << 20), kept.clone(), Arc::default());
        let from: BinlogPosition = from.parse().unwrap();
        let start = Start {
            flavor: Flavor::MySql,
            from: Arc::new(from),
            server: 7,
            until: None,
            voids: void.into_iter().collect(),
            search: None,
            skips_to,
        };
        let writer = BatchWriter::new(outlet, Origin::Stream);
        let xa = Xa::restore(&State::new(), 1000).unwrap();
        Log { decoder: Decoder::new(writer, relations, xa, start), kept, offset: 4 }
    }

    /// A header alone, of an event that nobody reads.
    fn long(&mut self, kind: EventType, size_bytes: u32) -> Header {
        self.offset = self.offset.wrapping_add(size_bytes);
        Header { unix_s: 9, kind, server_id: 1, size_bytes, next_position: self.offset, flags: Default::default() }
    }

    fn event(&mut self, kind: EventType, flags: u16, body: &[u8]) -> Step {
        let size = 19 + body.len() as u32;
        self.offset = self.offset.wrapping_add(if flags == 0 { size } else { 0 });
        let next = if flags == 0 { self.offset } else { 0 };
        let head = [&9u32.to_le_bytes()[..], &[kind.0], &1u32.to_le_bytes(), &size.to_le_bytes(), &next.to_le_bytes()];
        let bytes = [&head.concat()[..], &flags.to_le_bytes(), body].concat();
        self.decoder.event(&bytes, 0).unwrap()
    }

    fn rotate(&mut self, file: &str) -> Step {
        self.offset = 4;
        self.event(EventType::ROTATE, 0x20, &[&4u64.to_le_bytes()[..], file.as_bytes()].concat())
    }

    fn begin_file(&mut self, started: bool) -> Step {
        let mut version = [0; 50];
        version[..5].copy_from_slice(b"8.4.0");
        let created = u32::from(started) * 9;
        let body = [&4u16.to_le_bytes()[..], &version, &created.to_le_bytes(), &[19], &[0; 40], &[0], &[0; 4]].concat();
        self.event(EventType::FORMAT_DESCRIPTION, 0, &body)
    }

    fn query(&mut self, sql: &str) -> Step {
        let head = [&[0; 8][..], &[1], &[0; 4], b"d\0", sql.as_bytes()].concat();
        self.event(EventType::QUERY, 0, &head)
    }

    fn begin(&mut self) {
        let body = [&[0][..], &[0; 16], &[0; 8], &[2], &[0; 16]].concat();
        self.event(EventType::ANONYMOUS_GTID, 0, &body);
        self.query("BEGIN");
    }

    fn insert(&mut self, a: i32) {
        let map = [&[5, 0, 0, 0, 0, 0, 1, 0, 1][..], b"d\0", &[1], b"t\0", &[1, 3, 0, 1]].concat();
        self.event(EventType::TABLE_MAP, 0, &map);
        let rows = [&[5, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1, 1, 0][..], &a.to_le_bytes()].concat();
        self.event(EventType::WRITE_ROWS, 0, &rows);
    }

    fn commit(&mut self) -> Step {
        self.event(EventType::XID, 0, &1u64.to_le_bytes())
    }

    async fn send(&mut self) {
        if self.decoder.writer.wants_position() {
            let position = self.decoder.position();
            self.decoder.writer.close(position);
        }
        self.decoder.writer.batch().frame(Bytes::new());
        let permit = self.decoder.writer.permit().await;
        self.decoder.writer.send(permit);
        self.decoder.sent();
    }

    /// Kinds of the delivered records, and the last position.
    fn delivered(&self) -> (String, String) {
        let batches = self.kept.0.lock().unwrap();
        let kind = |change: &Change<'_>| match change {
            Change::Begin => 'b',
            Change::Commit => 'e',
            Change::Insert { .. } => 'c',
            Change::SchemaChange { .. } => 's',
            Change::Truncate { .. } => 't',
            _ => '?',
        };
        let kinds =
            batches.iter().flat_map(|batch| batch.records().map(|record| kind(&record.change)).collect::<Vec<_>>());
        let position = batches.iter().rev().find_map(|batch| batch.mark.position.as_ref());
        (kinds.collect(), position.map(ToString::to_string).unwrap_or_default())
    }
}

#[tokio::test]
async fn a_transaction_that_a_crash_cut_off_is_dropped() {
    let mut log = Log::new(None);
    log.begin();
    log.insert(1);
    log.commit();
    log.begin();
    log.insert(2);
    log.rotate("b.000002");
    log.begin_file(true);
    log.begin();
    log.insert(3);
    log.insert(4);
    log.commit();
    log.send().await;
    let (kinds, position) = log.delivered();
    assert_eq!(kinds, "bcebcce", "the middle one is gone");
    assert_eq!(position, format!("b.000002:{}", log.offset));
}

#[tokio::test]
async fn what_was_sent_of_it_is_retracted_and_then_passed_over() {
    let mut log = Log::new(None);
    log.begin();
    log.insert(1);
    log.send().await;
    assert!(matches!(log.rotate("b.000002"), Step::Retracted));
    let void = log.decoder.voids.pop();
    assert!(void.is_some());
    let mut again = Log::new(void);
    again.begin();
    again.insert(1);
    assert!(matches!(again.rotate("b.000002"), Step::Next));
    again.begin_file(true);
    again.begin();
    again.insert(2);
    again.commit();
    again.send().await;
    assert_eq!(again.delivered().0, "bce");
}

#[tokio::test]
async fn rollback_and_ddl() {
    let mut log = Log::new(None);
    log.begin();
    log.insert(1);
    log.query("ROLLBACK");
    log.query("ALTER TABLE t ADD COLUMN b INT FIRST");
    log.query("TRUNCATE TABLE t");
    log.query("CREATE USER u");
    log.send().await;
    assert_eq!(log.delivered().0, "bsebte");
}

#[tokio::test]
async fn rows_out_of_place_and_lost_changes_are_errors() {
    let mut log = Log::new(None);
    let rows = [&[5, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1, 1, 0][..], &1i32.to_le_bytes()].concat();
    let size = 19 + rows.len() as u32;
    let event = |kind: EventType, body: &[u8]| {
        let size = 19 + body.len() as u32;
        [&9u32.to_le_bytes()[..], &[kind.0], &1u32.to_le_bytes(), &size.to_le_bytes(), &[0; 6], body].concat()
    };
    assert_eq!(event(EventType::WRITE_ROWS, &rows).len() as u32, size);
    assert!(log.decoder.event(&event(EventType::WRITE_ROWS, &rows), 0).is_err(), "outside a transaction");
    log.begin();
    assert!(log.decoder.event(&event(EventType::WRITE_ROWS, &rows), 0).is_err(), "without a TABLE_MAP");
    let lost = log.decoder.event(&event(EventType::INCIDENT, &[1, 0, 0]), 0).unwrap_err();
    assert!(lost.remedy_text().is_some(), "{lost}");
    assert!(log.decoder.event(&event(EventType(99), &[]), 0).is_err(), "an unknown event");
}

/// Where the first event of [`Log`]'s files ends.
const BEHIND_FIRST: u64 = 125;
const GIB: u32 = 1 << 30;

/// A file whose place is behind 4 GiB, passed over up to there; what the last event said.
fn far(place: u64) -> (Log, Result<()>) {
    let mut log = Log::at(&format!("b.000001:{place}"), Some(place), None);
    log.rotate("b.000001");
    log.begin_file(true);
    assert_eq!(u64::from(log.offset), BEHIND_FIRST);
    let mut last = Ok(());
    for _ in 0..4 {
        assert!(log.decoder.skips() && last.is_ok());
        let header = log.long(EventType::WRITE_ROWS, GIB);
        last = log.decoder.skip(&header);
    }
    (log, last)
}

#[tokio::test]
async fn what_lies_before_a_far_place_is_passed_over() {
    let place = BEHIND_FIRST + 4 * u64::from(GIB);
    let (mut log, last) = far(place);
    last.unwrap();
    assert_eq!(log.decoder.read_end(), ("b.000001", place));
    log.begin();
    log.insert(1);
    log.commit();
    log.send().await;
    let (kinds, position) = log.delivered();
    assert_eq!(kinds, "bce");
    assert_eq!(position, format!("b.000001:{}", (4u64 << 30) + u64::from(log.offset)));
    let inside = far(place - 1).1.unwrap_err();
    assert!(inside.to_string().contains("no event begins at"), "{inside}");
    let (mut short, _) = far(place + 100);
    let body = [&4u64.to_le_bytes()[..], b"b.000002"].concat();
    let size = 19 + body.len() as u32;
    let header = short.long(EventType::ROTATE, size);
    assert_eq!(short.decoder.skip(&header).unwrap_err().class(), crate::error::Class::Lost);
}

/// A dump by GTID begins with the file's head, and its next event may be behind 4 GiB and more.
#[tokio::test]
async fn what_a_dump_by_gtid_leaves_out_may_be_of_any_length() {
    let place = 9 * u64::from(GIB) + 77;
    let mut log = Log::at(&format!("b.000001:{place}"), None, None);
    log.rotate("b.000001");
    log.begin_file(true);
    log.offset = place as u32;
    log.begin();
    log.insert(1);
    log.commit();
    log.send().await;
    let behind = u64::from(log.offset.wrapping_sub(place as u32));
    assert_eq!(log.delivered(), ("bce".to_owned(), format!("b.000001:{}", place + behind)));
}
