//! What `/metrics` says of a durable consumer, against what is measured outside by a client of the gRPC stream.
//!
//! What is compared holds by construction, however slow the machine is: a row is stamped by the server before its commit, and
//! its commit is over when the next row is stamped or the client has the row; an acknowledgement is heard after it was
//! sent, and before a page shows it. The server and the test have the same clock.

use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use walbrook::proto::v1::change_stream_client::ChangeStreamClient;
use walbrook::proto::v1::{self, Start, subscribe_request, subscribe_response};

use super::measured::{client, log_end, looked, stamp, unix_micros};
use super::running::{Server, Sidecar, servers};
use crate::source::eventually;
use crate::support::AtEnd;

const ROWS: usize = 4_000;
/// For how long the client keeps an acknowledgement to itself, once.
const PAUSE: Duration = Duration::from_millis(1_500);
const NAME: &[(&str, &str)] = &[("consumer", "audit")];

/// A row as the client had it; times in microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug)]
struct Row {
    id: u64,
    /// Before its commit.
    stamped: u64,
    received: u64,
    /// Just before the acknowledgement was sent.
    acknowledged: u64,
}

/// The client of a durable consumer, which acknowledges what it gets at once. Dropped, it goes.
struct Consumer {
    rows: Arc<Mutex<Vec<Row>>>,
    reading: Option<watch::Sender<bool>>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    /// From now on; the first batch with this row or a later one is acknowledged late.
    fn start(sidecar: &Sidecar, late: Option<u64>) -> Consumer {
        let log = sidecar.log();
        let line = log.lines().find(|line| line.contains("listening for gRPC"));
        let address =
            line.and_then(|line| line.split("address=").nth(1)).unwrap_or_else(|| panic!("no address: {log}"));
        let address = format!("http://{}", address.trim());
        let rows = Arc::<Mutex<Vec<Row>>>::default();
        let (reading, is_reading) = watch::channel(true);
        let (opened, is_opened) = mpsc::channel();
        let taken = rows.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(consume(address, is_reading, &opened, &taken, late));
        });
        is_opened.recv().expect("the stream is opened");
        Consumer { rows, reading: Some(reading), thread: Some(thread) }
    }

    /// Whatever is committed from now on is not taken, or taken again.
    fn reads(&self, reads: bool) {
        self.reading.as_ref().expect("it runs").send(reads).expect("it runs");
    }

    fn rows(&self) -> Vec<Row> {
        self.rows.lock().expect("the client").clone()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        drop(self.reading.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) && !std::thread::panicking() {
            panic!("the client failed");
        }
    }
}

async fn consume(
    address: String,
    mut reading: watch::Receiver<bool>,
    opened: &mpsc::Sender<()>,
    rows: &Mutex<Vec<Row>>,
    mut late: Option<u64>,
) {
    let request = |request| v1::SubscribeRequest { request: Some(request) };
    let endpoint = tonic::transport::Endpoint::from_shared(address).expect("an address");
    let channel = endpoint.connect().await.expect("a connection");
    let (says, mut said) = tokio::sync::mpsc::channel(8);
    let open = v1::Open {
        consumer: "audit".to_owned(),
        start: Start::Latest.into(),
        format: v1::Format::Json.into(),
        ..v1::Open::default()
    };
    says.try_send(request(subscribe_request::Request::Open(open))).expect("room");
    let requests = futures_util::stream::poll_fn(move |cx| said.poll_recv(cx));
    let answers = ChangeStreamClient::new(channel).subscribe(requests).await.expect("an answer");
    let mut answers = answers.into_inner();
    loop {
        let answer = tokio::select! {
            biased;
            gone = async { reading.wait_for(|reading| !reading).await.is_err() } => {
                if gone || reading.wait_for(|reading| *reading).await.is_err() {
                    return;
                }
                continue;
            }
            answer = answers.message() => answer.expect("the stream goes on").expect("no end"),
        };
        let batch = match answer.response.expect("something") {
            subscribe_response::Response::Opened(_) => {
                let _ = opened.send(());
                continue;
            }
            subscribe_response::Response::Batch(batch) => batch,
            _ => continue,
        };
        let received = unix_micros();
        let mut came: Vec<Row> = Vec::new();
        for line in batch.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let record: serde_json::Value = serde_json::from_slice(line).expect("a line of JSON");
            let number = |column: &str| record["after"][column].as_u64();
            let (id, stamped) = (number("id").expect("an id"), number("sent_micros").unwrap_or_default());
            came.push(Row { id, stamped, received, acknowledged: 0 });
        }
        if late.zip(came.last()).is_some_and(|(late, last)| last.id >= late) {
            late = None;
            tokio::time::sleep(PAUSE).await;
        }
        let acknowledged = unix_micros();
        let ack = v1::Ack { number: batch.number };
        rows.lock().expect("the test").extend(came.iter().map(|row| Row { acknowledged, ..*row }));
        says.send(request(subscribe_request::Request::Ack(ack))).await.expect("the stream goes on");
    }
}

fn sidecar(server: &Server, dir: &std::path::Path) -> Sidecar {
    server.sql("create table stamps (id bigint primary key, sent_micros bigint, body text)");
    let sidecar = Sidecar::start(server, "stamps", dir, &[("WALBROOK_GRPC__LISTEN", "127.0.0.1:0")]);
    sidecar.wait_ready(200, "");
    sidecar
}

/// A page, as far as it says how much was acknowledged.
struct Look {
    /// When it was asked for, and when it was there.
    before_micros: u64,
    after_micros: u64,
    records: u64,
    transactions: u64,
    /// 0 before anything is acknowledged, too.
    lag_s: f64,
}

fn look(sidecar: &Sidecar) -> Look {
    let before_micros = unix_micros();
    let page = sidecar.metrics();
    let after_micros = unix_micros();
    let of = |name: &str| page.value(&format!("walbrook_consumer_{name}"), NAME).unwrap_or(0.0);
    let (records, transactions) = (of("records_total") as u64, of("commit_to_durable_seconds_count") as u64);
    Look { before_micros, after_micros, records, transactions, lag_s: of("lag_seconds") }
}

/// The least and the most that a row's latency can be, in microseconds, by what was seen outside.
fn bounds(rows: &[Row], looks: &[Look]) -> Vec<(u64, u64)> {
    let records_each = looks.last().map_or(0, |look| look.records) / ROWS as u64;
    assert!(records_each > 0 && looks.last().unwrap().records == records_each * ROWS as u64, "alike transactions");
    let committed_before = |index: usize| match rows.get(index + 1) {
        Some(next) => next.stamped.min(rows[index].received),
        None => rows[index].received,
    };
    let mut bounds = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let seen = looks.iter().find(|look| look.transactions > index as u64).expect("all is acknowledged");
        let least = row.acknowledged.saturating_sub(committed_before(index));
        bounds.push((least, seen.after_micros - row.stamped));
    }
    bounds
}

/// The age that each look gives is that of a commit that was acknowledged last at some moment between the looks before and
/// behind it. Gives how many looks say one.
fn check_ages(rows: &[Row], looks: &[Look]) -> usize {
    let records_each = looks.last().map_or(0, |look| look.records) / ROWS as u64;
    let mut checked = 0;
    for look in looks.windows(3) {
        let (first, last) = (look[0].transactions, look[2].records / records_each);
        if first == 0 || look[1].lag_s == 0.0 {
            continue;
        }
        let age = |now: u64, then: u64| now as f64 / 1e6 - then as f64 / 1e6;
        let least = age(look[1].before_micros, rows[last as usize - 1].received);
        let most = age(look[1].after_micros, rows[first as usize - 1].stamped);
        let lag_s = look[1].lag_s;
        assert!(least <= lag_s + 1e-3 && lag_s <= most + 1e-3, "{least} <= {lag_s} <= {most}: {first} to {last}");
        checked += 1;
    }
    checked
}

#[test]
fn latency_of_a_consumer_agrees_with_stamped_rows_under_load() {
    for server in servers() {
        let dir = tempfile::tempdir().unwrap();
        let sidecar = sidecar(&server, dir.path());
        let consumer = Consumer::start(&sidecar, Some(ROWS as u64 / 4));
        let mut writer = client(&server).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut statements = writer.stdin.take().unwrap();
        let stamp = stamp(&server);
        let mut looks = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let begun = Instant::now();
                for id in 0..ROWS {
                    // A thousand a second, where the server is so fast.
                    let due = begun + Duration::from_millis(id as u64);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    writeln!(statements, "insert into stamps values ({id}, {stamp}, 'x');").unwrap();
                }
            });
            // As often as it goes, for the looks bound what is compared.
            while writer.try_wait().unwrap().is_none() {
                looks.push(look(&sidecar));
            }
        });
        assert!(writer.wait().unwrap().success());
        eventually("all of it to be acknowledged", || {
            looks.push(look(&sidecar));
            looks.last().is_some_and(|look| look.transactions >= ROWS as u64)
        });
        looks.push(look(&sidecar));
        let rows = consumer.rows();
        assert!(rows.iter().enumerate().all(|(index, row)| row.id == index as u64), "each row once, in order");
        let bounds = bounds(&rows, &looks);
        let ages = check_ages(&rows, &looks);
        let page = sidecar.metrics();
        let of = |what: &str, labels: &[(&str, &str)]| {
            let name = format!("walbrook_consumer_commit_to_durable_seconds_{what}");
            page.value(&name, labels).unwrap_or_else(|| panic!("no {name} {labels:?}"))
        };
        assert_eq!(of("count", NAME), ROWS as f64, "each transaction counts once");
        let total = |of: fn(&(u64, u64)) -> u64| bounds.iter().map(of).sum::<u64>() as f64 / 1e6;
        let (least, sum, most) = (total(|bound| bound.0), of("sum", NAME), total(|bound| bound.1));
        println!("latency: {least:.3} <= {sum:.3} <= {most:.3} s in all, {} looks, {ages} with an age", looks.len());
        assert!(least <= sum + 1e-3 && sum <= most + 1e-3, "{least} <= {sum} <= {most}");
        for bound_s in ["0.01", "0.1", "0.5", "1.0", "2.5", "10.0"] {
            let bound_micros = (bound_s.parse::<f64>().unwrap() * 1e6) as u64;
            let late =
                |of: fn(&(u64, u64)) -> u64| bounds.iter().map(of).filter(|micros| *micros > bound_micros).count();
            let within = of("bucket", &[NAME[0], ("le", bound_s)]) as usize;
            // Where commits are apart, one counts as one of twice its latency at most.
            let (least, shown, most) = (late(|bound| bound.0), ROWS - within, late(|bound| 2 * bound.1 + 128));
            println!("later than {bound_s} s: {least} <= {shown} <= {most}");
            assert!(least <= shown && shown <= most, "later than {bound_s} s: {least} <= {shown} <= {most}");
            assert!(least > 0 || bound_s.parse::<f64>().unwrap() > 1.0, "the pause makes some later than {bound_s} s");
        }
    }
}

/// Of a client that stops reading, everything written since is the lag, over several files of the log too, and it grows as
/// old as what was acknowledged last; once it reads again both are 0.
#[test]
fn lag_of_a_consumer_that_stops_reading_is_what_the_server_has_written_since() {
    for server in servers() {
        let dir = tempfile::tempdir().unwrap();
        let sidecar = sidecar(&server, dir.path());
        let consumer = Consumer::start(&sidecar, None);
        let stamp = stamp(&server);
        let insert = |id: u32| server.sql(&format!("insert into stamps values ({id}, {stamp}, 'x')"));
        let before_last = {
            (1..20).for_each(|id| drop(insert(id)));
            let end = log_end(&server);
            insert(20);
            end
        };
        eventually("all to be acknowledged", || look(&sidecar).transactions == 20);
        consumer.reads(false);
        let last = *consumer.rows().last().expect("rows");
        assert_eq!(last.id, 20);
        // Where it stands is not behind what it has not taken.
        insert(21);
        let behind_next = log_end(&server);
        let heavy = |first: u32| {
            let values: Vec<String> =
                (first..first + 250).map(|id| format!("({id}, {stamp}, repeat('x', 2000))")).collect();
            server.sql(&format!("insert into stamps values {}", values.join(", ")));
        };
        heavy(1_000);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut first = 100_000;
                // At most 25 MB: far from what a consumer may be behind.
                while !stop.load(Ordering::Relaxed) && first < 112_500 {
                    heavy(first);
                    first += 250;
                    if !server.is_postgres() && first % 2_500 == 0 {
                        server.sql("flush binary logs");
                    }
                }
            });
            let _end = AtEnd(|| stop.store(true, Ordering::Relaxed));
            for _ in 0..5 {
                std::thread::sleep(Duration::from_millis(300));
                let end_before = log_end(&server);
                let (asked, page) = looked(&sidecar);
                let times = (asked, unix_micros());
                let value = |name| page.value(name, NAME).unwrap_or_else(|| panic!("no {name}"));
                let (lag_bytes, lag_s) = (value("walbrook_consumer_lag_bytes"), value("walbrook_consumer_lag_seconds"));
                let end_after = log_end(&server);
                let (least, most) = ((end_before - behind_next) as f64, (end_after - before_last) as f64);
                println!("lag: {least} <= {lag_bytes} <= {most} bytes");
                assert!(least > 0.0, "something was written since");
                assert!(least <= lag_bytes && lag_bytes <= most, "{least} <= {lag_bytes} <= {most}");
                // Its commit was after its stamp, and before the client had it.
                let (least, most) = ((times.0 - last.received) as f64 / 1e6, (times.1 - last.stamped) as f64 / 1e6);
                println!("lag: {least} <= {lag_s} <= {most} s");
                assert!(least <= lag_s + 1e-3 && lag_s <= most + 1e-3, "{least} <= {lag_s} <= {most}");
            }
        });
        consumer.reads(true);
        let rows: usize = server.sql("select count(*) from stamps").parse().expect("a count");
        eventually("all to come", || consumer.rows().len() >= rows);
        eventually("nothing to be left", || {
            let page = sidecar.metrics();
            let of = |unit| page.value(&format!("walbrook_consumer_lag_{unit}"), NAME);
            (of("bytes"), of("seconds")) == (Some(0.0), Some(0.0))
        });
        let ids: Vec<u64> = consumer.rows().iter().map(|row| row.id).collect();
        assert!(ids.len() == rows && ids.is_sorted_by(|a, b| a < b), "each row once, in order");
    }
}
