//! What `/metrics` says of lag and latency, against what is measured outside.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::openmetrics::Page;
use super::running::{Server, Sidecar, servers};
use crate::source::eventually;
use crate::support::AtEnd;

const ROWS: usize = 4_000;
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

/// A page, as far as it says how much is durable; times in microseconds since 1970-01-01 UTC.
struct Look {
    /// When it was asked for, and when it was there.
    before: u64,
    after: u64,
    durable: usize,
}

fn look(sidecar: &Sidecar) -> Look {
    let before = unix_micros();
    let page = sidecar.metrics();
    let durable = page.value("walbrook_sink_commit_to_durable_seconds_count", &[("sink", "lines")]).unwrap_or(0.0);
    Look { before, after: unix_micros(), durable: durable as usize }
}

/// A row as the reader had it.
#[derive(Clone, Copy)]
struct Row {
    /// Before its commit.
    stamped: u64,
    received: u64,
}

/// The least and the most that each row's latency can be, by what was seen outside: its commit was behind its stamp, and before
/// the next one's and before it was read; it was durable behind a page that does not count it, and before a page that
/// does. The page before that one, for a page may be made while some are counted. What was committed while the process stood
/// still, from `stopped` to `continued`, became durable behind that.
fn bounds(rows: &[Row], looks: &[Look], stopped: u64, continued: u64) -> Vec<(u64, u64)> {
    let bound = |(index, row): (usize, &Row)| {
        let seen = looks.iter().position(|look| look.durable > index).expect("all is durable");
        let stood = if row.stamped > stopped { continued } else { 0 };
        let durable_from = looks[seen.saturating_sub(2)].before.max(stood);
        let committed_by = rows.get(index + 1).map_or(row.received, |next| next.stamped.min(row.received));
        (durable_from.saturating_sub(committed_by), looks[seen].after - row.stamped)
    };
    rows.iter().enumerate().map(bound).collect()
}

/// Returns when the process stands still.
fn stand_still(sidecar: &Sidecar) {
    sidecar.signal("STOP");
    let stat = format!("/proc/{}/stat", sidecar.id());
    let stands = || {
        std::fs::read_to_string(&stat).expect("a process").rsplit_once(')').is_some_and(|(_, of)| of.starts_with(" T"))
    };
    eventually("it stands still", stands);
}

/// Each row carries when it was written, just before its commit; a page shows when it was durable.
///
/// What is compared holds by construction, however slow the machine is. The server and the test have the same clock.
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
            let lines = BufReader::new(stdout).lines().take(ROWS);
            lines.map(|line| (unix_micros(), line.expect("a line"))).collect::<Vec<_>>()
        });
        let mut writer = client(&server).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut statements = writer.stdin.take().unwrap();
        let (stamp, sidecar) = (stamp(&server), &sidecar);
        let mut looks = Vec::new();
        let (stopped, continued) = std::thread::scope(|scope| {
            let pause = scope.spawn(move || {
                let begun = Instant::now();
                let (mut stopped, mut continued) = (0, 0);
                for id in 0..ROWS {
                    // A thousand a second, where the server is so fast.
                    let due = begun + Duration::from_millis(id as u64);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    writeln!(statements, "insert into stamps values ({id}, {stamp});").unwrap();
                    if id == ROWS / 4 {
                        stand_still(sidecar);
                        stopped = unix_micros();
                    }
                    if id == ROWS / 4 + PAUSE.as_millis() as usize {
                        // However slow the server is.
                        let due =
                            Duration::from_micros((stopped + PAUSE.as_micros() as u64).saturating_sub(unix_micros()));
                        std::thread::sleep(due);
                        continued = unix_micros();
                        sidecar.signal("CONT");
                    }
                }
                (stopped, continued)
            });
            // As often as it goes, for the looks bound what is compared.
            while writer.try_wait().unwrap().is_none() {
                looks.push(look(sidecar));
            }
            pause.join().unwrap()
        });
        assert!(writer.wait().unwrap().success());
        eventually("all of it to be durable", || {
            looks.push(look(sidecar));
            looks.last().is_some_and(|look| look.durable >= ROWS)
        });
        let row = |(received, line): (u64, String)| {
            let record: serde_json::Value = serde_json::from_str(&line).unwrap();
            Row { stamped: record["after"]["sent_micros"].as_u64().unwrap(), received }
        };
        let rows: Vec<Row> = reader.join().unwrap().into_iter().map(row).collect();
        let bounds = bounds(&rows, &looks, stopped, continued);
        let page = sidecar.metrics();
        let of = |what: &str, labels: &[(&str, &str)]| {
            let name = format!("walbrook_sink_commit_to_durable_seconds_{what}");
            page.value(&name, labels).unwrap_or_else(|| panic!("no {name} {labels:?}"))
        };
        let name = ("sink", "lines");
        assert_eq!(of("count", &[name]), ROWS as f64, "each transaction counts once");
        let total = |of: fn(&(u64, u64)) -> u64| bounds.iter().map(of).sum::<u64>() as f64 / 1e6;
        let (least, sum, most) = (total(|bound| bound.0), of("sum", &[name]), total(|bound| bound.1));
        println!("latency: {least:.3} <= {sum:.3} <= {most:.3} s in all, {} looks", looks.len());
        assert!(least <= sum + 1e-3 && sum <= most + 1e-3, "{least} <= {sum} <= {most}");
        for bound_s in ["0.01", "0.1", "0.5", "1.0", "2.5", "10.0"] {
            let bound_micros = (bound_s.parse::<f64>().unwrap() * 1e6) as u64;
            let late =
                |of: fn(&(u64, u64)) -> u64| bounds.iter().map(of).filter(|micros| *micros > bound_micros).count();
            let within = of("bucket", &[name, ("le", bound_s)]) as usize;
            let (least, shown, most) = (late(|bound| bound.0), ROWS - within, late(|bound| bound.1));
            println!("later than {bound_s} s: {least} <= {shown} <= {most}");
            assert!(least <= shown && shown <= most, "later than {bound_s} s: {least} <= {shown} <= {most}");
            assert!(least > 0 || bound_s.parse::<f64>().unwrap() > 1.0, "the pause makes some later than {bound_s} s");
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

/// The first page behind a look at the log that began from now on, and when it was asked for, microseconds since 1970-01-01 UTC.
pub fn looked(sidecar: &Sidecar) -> (u64, Page) {
    let mut found = None;
    // One look follows another: what ends first may have begun before.
    for what in ["the end of a look at the log", "a whole look at the log"] {
        let since = Instant::now();
        eventually(what, || {
            let (elapsed, asked) = (since.elapsed(), unix_micros());
            let page = sidecar.metrics();
            let age_s = page.value("walbrook_source_look_age_seconds", &[]).expect("the age of the last look");
            found = Some((asked, page));
            age_s < elapsed.as_secs_f64()
        });
    }
    found.expect("a page")
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
            let _end = AtEnd(|| stop.store(true, Ordering::Relaxed));
            for _ in 0..10 {
                std::thread::sleep(Duration::from_millis(500));
                let before = log_end(&server);
                let (_, page) = looked(&sidecar);
                let shown = page.value("walbrook_sink_lag_bytes", &[("sink", "pipe")]).expect("the lag");
                let after = log_end(&server);
                let (least, most) = (before.saturating_sub(idle) as f64, (after - idle) as f64);
                assert!(shown >= least * 0.99 && shown <= most * 1.01, "{least} <= {shown} <= {most}");
            }
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
        eventually("no lag to be left", || {
            let left = ["walbrook_source_lag_bytes", "walbrook_sink_lag_seconds"].map(|name| lag(&sidecar, name));
            if left != [0.0; 2] {
                println!("left: {left:?}");
            }
            left == [0.0; 2]
        });
    }
}
