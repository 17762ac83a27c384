//! `/readyz` in each state, on Postgres and on MySQL: what it answers is what is so.

use std::process::Command;
use std::time::{Duration, Instant};

use super::running::{Server, Sidecar, servers};
use crate::child::small_disk;
use crate::source::eventually;
use crate::support::walbrook;

/// Longer than a sink may stand still while there is something to do, and the time to look.
const LONGER_THAN_A_STANDSTILL: Duration = Duration::from_secs(19);

fn file_sink(dir: &std::path::Path) -> [(&'static str, String); 2] {
    [("SINK_TYPE", "file".to_owned()), ("SINK_PATH", dir.join("out.ndjson").display().to_string())]
}

fn start(server: &Server, dir: &std::path::Path, more: &[(&str, &str)]) -> Sidecar {
    let sink = file_sink(dir);
    let mut variables: Vec<(&str, &str)> = sink.iter().map(|(name, value)| (*name, value.as_str())).collect();
    variables.extend(more);
    Sidecar::start(server, "wanted", dir, &variables)
}

/// Ready at every look, though nothing becomes durable; meanwhile something happens.
#[track_caller]
fn stays_ready(sidecar: &Sidecar, mut meanwhile: impl FnMut()) {
    let start = Instant::now();
    while start.elapsed() < LONGER_THAN_A_STANDSTILL {
        meanwhile();
        let (status, body) = sidecar.get("/readyz");
        assert_eq!(status, 200, "after {:?}: {body}{}", start.elapsed(), sidecar.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(sidecar.get("/livez"), (200, "alive\n".to_owned()));
}

#[test]
fn idle_then_idle_beside_others_then_without_a_server() {
    for server in servers() {
        let dir = tempfile::tempdir().unwrap();
        server.table("wanted", 10);
        server.table("others", 0);
        if let Server::Postgres(server) = &server {
            server.psql("postgres", "create table elsewhere (id bigint, body text)");
        }
        let sidecar = start(&server, dir.path(), &[]);
        sidecar.wait_ready(200, "all of the server's log is durable");
        stays_ready(&sidecar, || {});
        let page = sidecar.metrics();
        assert_eq!(page.value("walbrook_ready", &[]), Some(1.0));
        // The server writes for itself now and then.
        eventually("idle, nothing is missing", || {
            sidecar.metrics().value("walbrook_source_lag_bytes", &[]) == Some(0.0)
        });
        let read = [("table", server.qualified("wanted")), ("operation", "read".to_owned())];
        let read: Vec<_> = read.iter().map(|(key, value)| (*key, value.as_str())).collect();
        assert_eq!(page.value("walbrook_events_total", &read), Some(10.0));
        assert_eq!(page.value("walbrook_snapshot_tables_done", &[]), Some(1.0));
        server_figures(&server, &page);

        let mut first = 1;
        stays_ready(&sidecar, || {
            server.insert("others", first, 100, 100);
            if let Server::Postgres(server) = &server {
                server
                    .psql("postgres", "insert into elsewhere select 1, repeat('x', 1000) from generate_series(1, 100)");
            }
            first += 100;
        });
        sidecar.wait_ready(200, "all of the server's log is durable");

        server.stop();
        let reason = sidecar.wait_ready(503, "reconnecting to the source");
        assert!(!reason.trim_end().contains('\n'), "one line: {reason}");
        assert_eq!(sidecar.get("/livez").0, 200, "a restart would not mend it");
        let page = sidecar.metrics();
        assert_eq!(page.value("walbrook_source_connected", &[]), Some(0.0));
        eventually("errors by class", || {
            sidecar.metrics().value("walbrook_source_errors_total", &[("class", "transient")]) >= Some(1.0)
        });
        server.start();
        sidecar.wait_ready(200, "ready");
        assert!(sidecar.metrics().value("walbrook_reconnects_total", &[("class", "transient")]) >= Some(1.0));
    }
}

/// What only the source knows the meaning of.
fn server_figures(server: &Server, page: &super::openmetrics::Page) {
    let value = |name: &str, labels: &[(&str, &str)]| page.value(&format!("walbrook_source_{name}"), labels);
    if server.is_postgres() {
        assert_eq!(value("slot_active", &[]), Some(1.0));
        assert_eq!(value("slot_wal_status", &[("status", "reserved")]), Some(1.0));
        assert_eq!(value("slot_wal_status", &[("status", "lost")]), Some(0.0));
        assert_eq!(value("slot_safe_wal_size_bytes", &[]), None, "max_slot_wal_keep_size is not set");
        assert!(value("slot_restart_lsn_bytes", &[]) <= value("slot_confirmed_flush_lsn_bytes", &[]));
        assert!(value("slot_retained_bytes", &[]).is_some());
    } else {
        assert!(value("binlog_files", &[]) >= Some(1.0) && value("binlog_retained_bytes", &[]) > Some(100.0));
        let retention = server.sql("select @@global.binlog_expire_logs_seconds");
        assert_eq!(value("binlog_retention_seconds", &[]), Some(retention.parse::<f64>().unwrap()));
    }
}

#[test]
fn a_sink_that_stands_still_and_a_stop_that_waits_for_it() {
    for server in servers() {
        let dir = tempfile::tempdir().unwrap();
        let mut sidecar = Sidecar::with_pipe(&server, dir.path());
        // A pipe holds 64 KiB, and nobody reads it.
        server.insert("wanted", 1, 2_000, 1_000);
        let reason = sidecar.wait_ready(503, "sink pipe stands still: nothing became durable for");
        assert!(reason.contains("bytes of log behind"), "{reason}");
        assert_eq!(sidecar.get("/livez").0, 200, "the tasks turn");
        let page = sidecar.metrics();
        assert!(page.value("walbrook_sink_queue_batches", &[("sink", "pipe")]) >= Some(1.0));
        assert!(page.value("walbrook_budget_used_bytes", &[]) > Some(0.0));
        assert!(page.value("walbrook_sink_lag_bytes", &[("sink", "pipe")]) > Some(1_000_000.0));

        let mut stdout = sidecar.stdout();
        let (stop_reading, stopped) = std::sync::mpsc::channel::<()>();
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 65536];
            while stopped.try_recv().is_err() && std::io::Read::read(&mut stdout, &mut bytes).is_ok_and(|read| read > 0)
            {
            }
            stdout
        });
        sidecar.wait_ready(200, "all of the server's log is durable");
        stop_reading.send(()).unwrap();
        server.insert("wanted", 10_001, 1, 10); // what the reader waits for
        let _unread = reader.join().unwrap();
        server.insert("wanted", 20_001, 2_000, 1_000);
        eventually("batches that wait", || {
            sidecar.metrics().value("walbrook_sink_lag_bytes", &[("sink", "pipe")]) > Some(1_000_000.0)
        });
        sidecar.signal("TERM");
        sidecar.wait_ready(503, "draining");
        eventually("the end", || sidecar.ended().is_some());
    }
}

#[test]
fn a_snapshot_then_the_loss_of_the_log_then_another_snapshot() {
    for server in servers() {
        let dir = tempfile::tempdir().unwrap();
        server.table("wanted", 200_000);
        let more = [("WALBROOK_ON_LOST_POSITION", "resnapshot"), ("SOURCE_SNAPSHOT_WORKERS", "1")];
        let sidecar = start(&server, dir.path(), &more);
        sidecar.wait_ready(503, "snapshot in progress: ");
        sidecar.wait_ready(200, "ready");
        lose_the_log(&server);
        // The server is another one to the stored position, whenever it is asked next.
        let reason = sidecar.wait_ready(503, "lost");
        assert!(!reason.trim_end().contains('\n'), "one line: {reason}");
        sidecar.wait_ready(200, "ready");
        let page = sidecar.metrics();
        assert!(page.value("walbrook_source_errors_total", &[("class", "lost")]) >= Some(1.0));
        let rows = if server.is_postgres() { 400_000.0 } else { 400_001.0 };
        assert_eq!(page.value("walbrook_snapshot_rows_total", &[]), Some(rows), "each twice, and what came between");
    }
}

/// Takes away, under a running stream, what it would go on from.
fn lose_the_log(server: &Server) {
    if server.is_postgres() {
        // Whoever is quicker: it comes back at once.
        let drop_slot = "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = 'walbrook' and active;
                         select pg_drop_replication_slot('walbrook') from pg_replication_slots where slot_name = 'walbrook' and not active;
                         select count(*) from pg_replication_slots where slot_name = 'walbrook'";
        let Server::Postgres(postgres) = server else { unreachable!("asked above") };
        eventually("a moment without its sender", || {
            postgres.try_psql(&postgres.url("shop"), drop_slot).is_ok_and(|answer| answer.lines().last() == Some("0"))
        });
        return;
    }
    server.sql("reset binary logs and gtids; insert into wanted values (1000001, 'x')");
    let dumps = "select id from information_schema.processlist where command like 'Binlog Dump%'";
    for id in server.sql(dumps).lines() {
        server.sql(&format!("kill {id}"));
    }
}

#[test]
fn a_full_disk_of_the_store() {
    let Some(wrapper) = small_disk() else { return };
    for server in servers() {
        let (dir, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        server.table("wanted", 10);
        let mut command = Command::new(wrapper[0]);
        let program = walbrook();
        // Almost full from the beginning, so that RocksDB cannot reserve what it would write into later.
        let prefilled =
            "head -c 1850k /dev/zero > \"$WALBROOK_TEST_DIR/prefilled\"; unset WALBROOK_TEST_DIR; exec \"$0\" \"$@\"";
        command.args(&wrapper[1..]).args(["sh", "-c", prefilled]).arg(program.get_program());
        for (name, _) in program.get_envs() {
            command.env_remove(name);
        }
        command.env("WALBROOK_TEST_DIR", disk.path());
        let state = disk.path().join("state").display().to_string();
        let sink = file_sink(dir.path());
        let variables = [
            ("STATE_DIR", state.as_str()),
            ("WALBROOK_COMMIT_INTERVAL", "1ms"),
            (sink[0].0, &sink[0].1),
            (sink[1].0, &sink[1].1),
        ];
        let sidecar = Sidecar::start_as(command, &server, "wanted", dir.path(), &variables);
        sidecar.wait_ready(200, "all of the server's log is durable");
        // Its file system is its own: seen by way of its root.
        let filler = format!("/proc/{}/root{}/filler", sidecar.id(), disk.path().display());
        let full = std::fs::write(&filler, vec![0; 4 << 20]);
        assert!(full.is_err(), "the disk of the store has 2 MiB");
        let mut first = 1_000;
        eventually("the store's error", || {
            // A page of the log of the store takes some positions.
            let insert = |id: u32| format!("insert into wanted values ({id}, 'x');");
            server.sql(&(first..first + 100).map(insert).collect::<String>());
            first += 100;
            sidecar.get("/readyz").1.contains("the offset store cannot be written")
        });
        let (status, reason) = sidecar.get("/readyz");
        assert!(status == 503 && !reason.trim_end().contains('\n'), "{status} {reason}");
        assert_eq!(sidecar.metrics().value("walbrook_store_failing", &[]), Some(1.0));
        assert_eq!(sidecar.get("/livez").0, 200);
        std::fs::remove_file(&filler).unwrap();
        sidecar.wait_ready(200, "all of the server's log is durable");
    }
}
