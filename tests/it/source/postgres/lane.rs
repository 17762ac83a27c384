//! A source beside the main one: it reads the same stream from a copy of its slot, and leaves the slot alone.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use walbrook::error::Class;
use walbrook::flow::Progress;
use walbrook::offset::{MemoryStore, Store};
use walbrook::pipeline::{LostPolicy, Options, Outcome, Pipeline, SinkSpec, SnapshotMode, StartAt, Until};
use walbrook::sink::SinkConfig;
use walbrook::source::postgres::conninfo::ConnInfo;
use walbrook::source::postgres::{NAMES, PostgresSource, Settings, SlotKind};
use walbrook::source::tables::Selection;
use walbrook::source::{SnapshotSettings, Source};

use super::{Postgres, on_every_version};
use crate::source::Subject;
use crate::source::program::{Stream, brief};

on_every_version!(a_lane_reads_what_the_slot_holds_and_moves_nothing, a_lane_begins_with_the_rows);

const T: &str = "create table t (id int primary key); insert into t values (1)";

fn lane(db: &Postgres<'_>, takes_snapshot: bool) -> PostgresSource {
    let name = db.stream_name();
    let settings = Settings {
        conninfo: ConnInfo::from_process(&db.url()).unwrap(),
        selection: Selection::new::<String>(&NAMES, &[], &[], &[], &[]).unwrap(),
        slot: SlotKind::CopyOf(name.clone()),
        publication: Some(name),
        failover: false,
        heartbeat: None,
        takes_snapshot,
        snapshot: SnapshotSettings { workers: 2, chunk_bytes: 1 << 20 },
    };
    PostgresSource::new(settings).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// What the lane delivers until the server's present.
fn read(db: &Postgres<'_>, takes_snapshot: bool) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines");
    let file: SinkConfig = serde_json::from_value(json!({"type": "file", "path": path})).unwrap();
    let sink = SinkSpec { name: "lane".into(), sink: file.build("lane").unwrap(), start: StartAt::Snapshot };
    let snapshot = if takes_snapshot { SnapshotMode::Initial } else { SnapshotMode::Never };
    let options = Options {
        snapshot,
        on_lost_position: LostPolicy::Fail,
        budget_bytes: 8 << 20,
        until: Some(Until::Current),
        limit: None,
        commit_interval: Duration::from_millis(10),
        drain_timeout: Duration::from_secs(60),
        wait_for_server: false,
    };
    let (_never, stop) = watch::channel(false);
    let source = Box::new(lane(db, takes_snapshot));
    let store = Store::new(Box::new(MemoryStore::default()));
    let pipeline = Pipeline::new(source, store, vec![sink], options, Arc::new(Progress::default()), stop);
    assert_eq!(block_on(pipeline.run()).unwrap(), Outcome::Reached);
    let lines = std::fs::read_to_string(path).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn slots(db: &Postgres<'_>) -> String {
    db.query(
        "select slot_name, confirmed_flush_lsn from pg_replication_slots where database = current_database() order by 1",
    )
}

fn a_lane_reads_what_the_slot_holds_and_moves_nothing(db: &Postgres<'_>) {
    db.execute(T);
    let stream = Stream::unstarted(db, &[]);
    assert_eq!(brief(&stream.run(&["--until", "current"]).ok()), [r#"r t {"id":1}"#]);
    db.execute("insert into t values (2); begin; insert into t values (3), (4); commit");
    let before = slots(db);
    let changes = [r#"c t {"id":2}"#, r#"c t {"id":3}"#, r#"c t {"id":4}"#];
    for _ in 0..2 {
        assert_eq!(brief(&read(db, false)), changes);
        assert_eq!(slots(db), before, "the copy is gone, and the slot where it was");
    }
    // Beside the main stream, which is at work.
    let main = stream.start(&[]);
    assert_eq!(brief(&main.wait_for(3)), changes);
    db.execute("insert into t values (5)");
    assert_eq!(brief(&main.wait_for(4)[3..]), [r#"c t {"id":5}"#]);
    let lineage = block_on(async {
        let mut source = lane(db, false);
        (source.lineage().await.unwrap(), source.earliest().await.unwrap())
    });
    assert_eq!(lineage.0.stream, db.stream_name(), "positions are of the main stream");
    read(db, false);
    main.stop().ok();
}

fn a_lane_begins_with_the_rows(db: &Postgres<'_>) {
    db.execute(T);
    let lost = block_on(async { lane(db, false).earliest().await.unwrap_err() });
    assert_eq!(lost.class(), Class::Lost, "there is no slot yet: {lost:?}");
    let stream = Stream::new(db, &[]);
    db.execute("insert into t values (2)");
    let before = slots(db);
    let mut rows = brief(&read(db, true));
    rows.sort();
    assert_eq!(rows, [r#"r t {"id":1}"#, r#"r t {"id":2}"#]);
    assert_eq!(slots(db), before);
    assert_eq!(brief(&stream.changes()), [r#"c t {"id":2}"#]);
}
