//! What `/metrics` says of lag and latency, against what is measured outside.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::running::{Server, Sidecar, servers};
use crate::source::eventually;

const ROWS: u64 = 4_000;
/// How long the sidecar is made to stand still in the middle: what was committed meanwhile is late by up to that.
const PAUSE: Duration = Duration::from_secs(2);

pub fn unix_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// A client that executes what it is given, a statement a transaction.
pub fn client(server: &Server) -> Command {
    match server {
        Server::Postgres(server) => {
            let mut psql = server.program("psql");
            psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &server.url("shop")]);
            psql
        }
        Server::MySql(server) => server.client("127.0.0.1", "root", "shop"),
    }
}

/// The server's time in an SQL expression, microseconds since 1970-01-01 UTC.
pub fn stamp(server: &Server) -> &'static str {
    match server {
        Server::Postgres(_) => "(extract(epoch from clock_timestamp()) * 1000000)::bigint",
        Server::MySql(_) => "cast(unix_timestamp(sysdate(6)) * 1000000 as unsigned)",
    }
}

/// Each row carries when it was written, just before its commit; a reader looks when its line is there. As many
/// transactions must have been late by both.
#[test]
fn latency_agrees_with_stamped_rows_under_load() {
    for server in servers() {
        let dir = tempfile::tempdir().unwrap();
        server.sql("create table stamps (id bigint primary key, sent_micros bigint)");
        let sink = [("SINK_TYPE", "stdout"), ("SINK_NAME", "lines")];
        let mut sidecar = Sidecar::start(&server, "stamps", dir.path(), &sink);
        sidecar.wait_ready(200, "all of the server's log is durable");
        let stdout = sidecar.stdout();
        let reader = std::thread::spawn(move || {
            let mut latencies = Vec::new();
            for line in BufReader::new(stdout).lines() {
                let now = unix_micros();
                let record: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
                latencies.push(now.saturating_sub(record["after"]["sent_micros"].as_u64().unwrap()));
                if latencies.len() as u64 == ROWS {
                    break;
                }
            }
            latencies
        });
        let mut writer = client(&server).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut statements = writer.stdin.take().unwrap();
        let stamp = stamp(&server);
        let begun = Instant::now();
        for id in 0..ROWS {
            // A thousand a second, where the server is so fast.
            let due = begun + Duration::from_millis(id);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            writeln!(statements, "insert into stamps values ({id}, {stamp});").unwrap();
            if id == ROWS / 4 {
                sidecar.signal("STOP");
            }
            if id == ROWS / 4 + PAUSE.as_millis() as u64 {
                sidecar.signal("CONT");
            }
        }
        drop(statements);
        assert!(writer.wait().unwrap().success());
        let mut outside = reader.join().unwrap();
        outside.sort_unstable();
        let durable = || {
            let count = sidecar.metrics().value("walbrook_sink_commit_to_durable_seconds_count", &[("sink", "lines")]);
            count.expect("a count")
        };
        eventually("all of it to be durable", || durable() >= ROWS as f64);
        assert_eq!(durable(), ROWS as f64, "each transaction counts once");
        let page = sidecar.metrics();
        let of = |what: &str| {
            let name = format!("walbrook_sink_commit_to_durable_seconds_{what}");
            page.value(&name, &[("sink", "lines")]).unwrap()
        };
        // From being written to being seen is more than from commit to durable; both ends are milliseconds apart, on a
        // busy machine now and then more.
        let (mean_outside, mean) = (outside.iter().sum::<u64>() as f64 / 1e6 / ROWS as f64, of("sum") / ROWS as f64);
        let difference = (mean_outside - mean).abs();
        assert!(difference < 0.1 + 0.1 * mean_outside, "mean: {mean_outside} s outside, {mean} s by /metrics");
        for late_s in ["0.5", "1.0"] {
            let bound_micros = (late_s.parse::<f64>().unwrap() * 1e6) as u64;
            let outside = outside.iter().filter(|latency| **latency > bound_micros).count() as f64;
            let labels = [("sink", "lines"), ("le", late_s)];
            let within = page.value("walbrook_sink_commit_to_durable_seconds_bucket", &labels).unwrap();
            let late = ROWS as f64 - within;
            assert!(outside > 0.0, "the pause makes some later than {late_s} s");
            assert!(
                (outside - late).abs() < 0.1 * ROWS as f64,
                "later than {late_s} s: {outside} outside, {late} by /metrics"
            );
        }
        let events = [("operation", "insert")];
        assert_eq!(page.value("walbrook_events_total", &events), Some(ROWS as f64));
        assert_eq!(page.value("walbrook_transactions_total", &[]), Some(ROWS as f64));
    }
}

/// Where the log ends, in bytes from the beginning of its first file.
pub fn log_end(server: &Server) -> u64 {
    match server {
        Server::Postgres(_) => {
            server.sql("select pg_current_wal_flush_lsn() - '0/0'").parse().expect("an LSN in bytes")
        }
        Server::MySql(_) => {
            let files = server.sql("show binary logs");
            files.lines().map(|line| line.split('|').nth(1).and_then(|bytes| bytes.parse::<u64>().ok()).unwrap()).sum()
        }
    }
}

/// While nobody reads its output, everything written since is the lag, over several files of the log too; under load it
/// is never more than what was written.
#[test]
fn lag_in_bytes_is_what_the_server_has_written_since() {
    for server in servers() {
        let dir = tempfile::tempdir().unwrap();
        let mut sidecar = Sidecar::with_pipe(&server, dir.path());
        let idle = log_end(&server);
        let lag = |sidecar: &Sidecar, name: &str| {
            let labels: &[(&str, &str)] = if name.contains("sink") { &[("sink", "pipe")] } else { &[] };
            sidecar.metrics().value(name, labels).unwrap_or_else(|| panic!("no {name}"))
        };
        // One transaction, larger than the pipe: none of it moves the position.
        server.insert("wanted", 1, 4_000, 1_000);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut first = 100_000;
                while !stop.load(Ordering::Relaxed) {
                    server.insert("wanted", first, 500, 1_000);
                    first += 500;
                    if !server.is_postgres() && first % 5_000 == 0 {
                        server.sql("flush binary logs");
                    }
                }
            });
            for _ in 0..10 {
                std::thread::sleep(Duration::from_millis(500));
                let (before, since) = (log_end(&server), Instant::now());
                let mut shown = 0.0;
                eventually("a look at the log", || {
                    let elapsed = since.elapsed();
                    let page = sidecar.metrics();
                    let value = |name, labels| page.value(name, labels).unwrap_or_else(|| panic!("no {name}"));
                    shown = value("walbrook_sink_lag_bytes", &[("sink", "pipe")]);
                    value("walbrook_source_look_age_seconds", &[]) < elapsed.as_secs_f64()
                });
                let after = log_end(&server);
                let (least, most) = (before.saturating_sub(idle) as f64, (after - idle) as f64);
                assert!(shown >= least * 0.99 && shown <= most * 1.01, "{least} <= {shown} <= {most}");
            }
            stop.store(true, Ordering::Relaxed);
        });
        // The server may still write for itself (vacuum): what is compared is of one moment, within some looks.
        let close = |a: f64, b: f64| (a - b).abs() < 20_000.0;
        eventually("the lag that was measured", || {
            let written = (log_end(&server) - idle) as f64;
            assert!(written > 5e6, "{written}");
            close(lag(&sidecar, "walbrook_sink_lag_bytes"), written)
                && close(lag(&sidecar, "walbrook_source_lag_bytes"), written)
        });
        if server.is_postgres() {
            eventually("the lag that the server sees", || {
                let behind = "select pg_current_wal_flush_lsn() - confirmed_flush_lsn from pg_replication_slots";
                close(lag(&sidecar, "walbrook_source_lag_bytes"), server.sql(behind).parse().unwrap())
            });
        }
        let mut stdout = sidecar.stdout();
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        sidecar.wait_ready(200, "all of the server's log is durable");
        assert_eq!(lag(&sidecar, "walbrook_source_lag_bytes"), 0.0);
        assert_eq!(lag(&sidecar, "walbrook_sink_lag_seconds"), 0.0);
    }
}
