//! What looks at the server beside the stream goes where the stream goes.

use std::time::Duration;

use walbrook::flow::Observation;
use walbrook::source::mysql::{self, MySqlSource};
use walbrook::source::postgres::conninfo::ConnInfo;
use walbrook::source::postgres::{self, PostgresSource, SlotKind};
use walbrook::source::tables::Selection;
use walbrook::source::{SnapshotSettings, Source};

use crate::support::{self as pg, mysql as my};

const SNAPSHOT: SnapshotSettings = SnapshotSettings { workers: 1, chunk_bytes: 1 << 20 };

/// What is seen before the source goes to another server, and after the first one came back: nobody asks that any more.
async fn seen(source: &mut dyn Source, stop: impl FnOnce(), start: impl FnOnce()) -> [Observation; 2] {
    source.lineage().await.unwrap();
    let mut observer = source.observer().unwrap().expect("there is something to see");
    let before = observer.look().await.unwrap();
    stop();
    // What is found broken is an error once; whoever tries again comes to the other server.
    if let Err(error) = source.lineage().await {
        assert!(error.is_transient(), "{error:?}");
        source.lineage().await.unwrap();
    }
    start();
    let after = match observer.look().await {
        Ok(after) => after,
        // As whoever asks it does.
        Err(_) => {
            observer.disconnect();
            observer.look().await.unwrap()
        }
    };
    [before, after]
}

fn files(seen: &Observation) -> Option<f64> {
    let reading = seen.readings.iter().find(|reading| reading.measure.name == "binlog_files");
    reading.map(|reading| reading.value)
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_and_mariadb_are_looked_at_where_the_stream_is() {
    for version in [my::Version::MySql97, my::Version::MariaDb1011] {
        let (Some(one), Some(other)) = (my::Server::own(version, &[]), my::Server::own(version, &[])) else { continue };
        other.sql("", "flush binary logs; flush binary logs; flush binary logs; flush binary logs");
        let url = format!("{},127.0.0.1:{}/", one.url_as("cdc").trim_end_matches('/'), other.port());
        let settings = mysql::Settings {
            url: url.into(),
            selection: Selection::new::<String>(&mysql::NAMES, &[], &[], &[], &[]).unwrap(),
            server_id: None,
            semi_sync: false,
            xa_limit_bytes: 1 << 20,
            heartbeat: Duration::from_secs(10),
            takes_snapshot: false,
            snapshot: SNAPSHOT,
        };
        let mut source = MySqlSource::new(settings).unwrap();
        let [before, after] = seen(&mut source, || one.stop("kill"), || one.start()).await;
        let listed = |server: &my::Server| Some(server.sql("", "show binary logs").lines().count() as f64);
        // Its restart began another file.
        assert_eq!(files(&before), listed(&one).map(|count| count - 1.0), "{}", version.name());
        assert_eq!(files(&after), listed(&other), "{}", version.name());
        assert!(after.end_bytes >= before.end_bytes, "the scale of bytes goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_looked_at_where_the_stream_is() {
    let version = pg::Version::V17;
    let (Some(one), Some(other)) = (pg::Server::own(version, &[]), pg::Server::own(version, &[])) else { return };
    other.psql("postgres", "create table t as select repeat('x', 1000) from generate_series(1, 30000)");
    let settings = postgres::Settings {
        conninfo: ConnInfo::from_process(&format!(
            "host=127.0.0.1,127.0.0.1 port={},{} user=postgres password=secret dbname=postgres sslmode=disable",
            one.port(),
            other.port()
        ))
        .unwrap(),
        selection: Selection::new::<String>(&postgres::NAMES, &[], &[], &[], &[]).unwrap(),
        slot: SlotKind::Permanent("no_such_slot".to_owned()),
        publication: None,
        failover: false,
        heartbeat: None,
        takes_snapshot: false,
        snapshot: SNAPSHOT,
    };
    let mut source = PostgresSource::new(settings).unwrap();
    let [before, after] = seen(&mut source, || one.stop("immediate"), || one.start()).await;
    let lsn = |server: &pg::Server| {
        let bytes = server.psql("postgres", "select pg_current_wal_flush_lsn() - '0/0'::pg_lsn");
        bytes.trim().parse::<u64>().unwrap()
    };
    let (low, high) = (lsn(&one), lsn(&other));
    assert!(before.end_bytes.unwrap() <= low && low + 20_000_000 < high, "{before:?}");
    let seen = after.end_bytes.unwrap();
    assert!(seen > low && seen <= high, "{seen} of {low} and {high}");
}
