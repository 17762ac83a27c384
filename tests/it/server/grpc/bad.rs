//! Clients that are broken, greedy, mute or many: each hears what is wrong, and the others notice nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use walbrook::proto::v1::admin_client::AdminClient;
use walbrook::proto::v1::change_stream_client::ChangeStreamClient;
use walbrook::proto::v1::{self, Start, subscribe_request, subscribe_response};

use super::{Db, Sidecar, on_each};
use crate::source::{PATIENCE, Program, eventually};

const T: &str = "create table t (id int primary key, v text)";

/// What a sidecar may take at its most, in MiB: `memory` by default,
const MEMORY_MIB: u64 = 64;
/// what consumers that are caught up take beside it, `max_lanes` by default times 8 MiB,
const LANES_MIB: u64 = 4 * 8;
/// and what the code of a debug build takes beyond that of a release build: 35 MiB against 19 with a thousand connections.
const DEBUG_MIB: u64 = 16;

fn request(request: subscribe_request::Request) -> v1::SubscribeRequest {
    v1::SubscribeRequest { request: Some(request) }
}

/// A call with what is said in it first.
async fn call(
    channel: Channel,
    first: v1::SubscribeRequest,
) -> Result<(mpsc::Sender<v1::SubscribeRequest>, Streaming<v1::SubscribeResponse>), Status> {
    let (says, mut said) = mpsc::channel(8);
    says.try_send(first).expect("room");
    let requests = futures_util::stream::poll_fn(move |cx| said.poll_recv(cx));
    let answers = ChangeStreamClient::new(channel).subscribe(requests).await?;
    Ok((says, answers.into_inner()))
}

/// The status that ends a call.
async fn ended(answers: &mut Streaming<v1::SubscribeResponse>) -> Status {
    loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Status::ok(""),
            Err(status) => return status,
        }
    }
}

/// Somebody who reads as one should, to the end of the test.
fn witness(sidecar: &Sidecar) -> Program {
    let reader = sidecar.subscribe(&["--consumer", "witness", "--from", "latest"]);
    reader.wait_for_log("subscribed");
    reader
}

/// So many rows of so many bytes each, as transactions of ten.
fn write(db: &Db, first: u32, rows: u32, bytes: u32) {
    let insert = |start: u32| {
        let values: Vec<String> = (start..start + 10).map(|id| format!("({id}, repeat('x', {bytes}))")).collect();
        format!("insert into t values {};\n", values.join(", "))
    };
    db.sql(&(first..first + rows).step_by(10).map(insert).collect::<String>());
}

#[test]
fn garbage_is_answered_or_hung_up_on() {
    on_each("garbage", |db| {
        db.sql(T);
        let sidecar = Sidecar::start(db, &[]);
        let witness = witness(&sidecar);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let noise: Vec<u8> = (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let greeted = |rest: &[u8]| [&preface[..], &settings, rest].concat();
        let mut headers = vec![0, 255, 255, 1, 4, 0, 0, 0, 1];
        headers.extend(std::iter::repeat_n(0x40, 65_535));
        for garbage in [
            noise.clone(),
            [&preface[..], &noise].concat(),
            greeted(&noise),
            // A frame of 16 MiB; headers without an end; a call that is none; HTTP/1.1 that is none of gRPC-Web's.
            greeted(&[255, 255, 255, 0, 0, 0, 0, 0, 1]),
            greeted(&headers),
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            [&b"POST / HTTP/1.1\r\n"[..], &b"x: y\r\n".repeat(20_000)].concat(),
        ] {
            let mut socket = TcpStream::connect(sidecar.address()).expect("a connection");
            socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            // It may be hung up on meanwhile.
            let _ = socket.write_all(&garbage);
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            match socket.read_to_end(&mut answer) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
            }
        }
        write(db, 0, 10, 10);
        assert_eq!(witness.wait_for(10).len(), 10);
        witness.stop().ok();
        let ended = sidecar.program.stop();
        assert!(!ended.log.contains("panicked"), "{}", ended.log);
        ended.ok();
    });
}

#[test]
fn a_wrong_request_is_told_what_is_wrong() {
    on_each("wrong", |db| {
        db.sql(T);
        let sidecar = Sidecar::start(db, &[]);
        let witness = witness(&sidecar);
        let (runtime, channel) = sidecar.connect();
        runtime.block_on(async {
            let open = |open: v1::Open| request(subscribe_request::Request::Open(open));
            let large = v1::Filter { tables: vec!["x".repeat(100_000)], ..v1::Filter::default() };
            let stored = v1::Open { start: Start::Stored.into(), ..v1::Open::default() };
            let token = Bytes::from_static(b"\x01nonsense");
            let nonsense = Some(v1::Position { token, text: String::new() });
            for (first, code, part) in [
                (open(v1::Open { filter: Some(large), ..v1::Open::default() }), Code::InvalidArgument, "large"),
                (open(stored), Code::InvalidArgument, "START_STORED"),
                (
                    open(v1::Open { consumer: "a/b".to_owned(), ..v1::Open::default() }),
                    Code::InvalidArgument,
                    "letters",
                ),
                (open(v1::Open { consumer: "nobody".to_owned(), ..v1::Open::default() }), Code::NotFound, "otherwise"),
                (
                    open(v1::Open { max_message_bytes: 7, ..v1::Open::default() }),
                    Code::InvalidArgument,
                    "max_message_bytes",
                ),
                (
                    open(v1::Open { format: v1::Format::DebeziumJson.into(), ..v1::Open::default() }),
                    Code::Unimplemented,
                    "FORMAT",
                ),
                (
                    open(v1::Open { start: Start::Position.into(), position: nonsense, ..v1::Open::default() }),
                    Code::InvalidArgument,
                    "token",
                ),
                (request(subscribe_request::Request::Ack(v1::Ack { number: 1 })), Code::InvalidArgument, "Open"),
                (v1::SubscribeRequest::default(), Code::InvalidArgument, "Open"),
            ] {
                let (_says, mut answers) = call(channel.clone(), first).await.expect("a call");
                let status = ended(&mut answers).await;
                assert!(status.code() == code && status.message().contains(part), "{part}: {status:?}");
            }
            let (says, mut answers) = call(channel.clone(), open(v1::Open::default())).await.expect("a call");
            says.send(request(subscribe_request::Request::Ack(v1::Ack { number: 1_000_000 }))).await.expect("room");
            assert_eq!(ended(&mut answers).await.code(), Code::InvalidArgument);
        });
        write(db, 0, 10, 10);
        assert_eq!(witness.wait_for(10).len(), 10);
    });
}

#[test]
fn who_asks_for_a_million_batches_and_acknowledges_none_gets_as_many_as_are_allowed() {
    on_each("million", |db| {
        db.sql(T);
        let sidecar = Sidecar::start(db, &["max_unacked_batches: 3"]);
        let witness = witness(&sidecar);
        let (runtime, channel) = sidecar.connect();
        runtime.block_on(async {
            let credit = Some(v1::Credit { bytes: u64::MAX, batches: u32::MAX });
            let open =
                v1::Open { consumer: "greedy".to_owned(), start: Start::Latest.into(), credit, ..v1::Open::default() };
            let (says, mut answers) =
                call(channel, request(subscribe_request::Request::Open(open))).await.expect("a call");
            let opened = answers.message().await.expect("an answer").expect("an answer");
            assert!(matches!(opened.response, Some(subscribe_response::Response::Opened(_))), "{opened:?}");
            let (mut batches, mut changes, mut acked) = (0, 0, 0);
            let mut number = 0;
            for round in 0..20 {
                write(db, round * 10, 10, 10);
                witness.wait_for(round as usize * 10 + 10);
                // What is sent is there soon; what is not sent never comes.
                while let Ok(answer) = tokio::time::timeout(Duration::from_millis(300), answers.message()).await {
                    if let Some(subscribe_response::Response::Batch(batch)) =
                        answer.expect("an answer").expect("no end").response
                    {
                        (batches, changes, number) = (batches + 1, changes + batch.changes, batch.number);
                    }
                    assert!(batches - acked <= 3, "{batches} of which {acked} are acknowledged");
                    if batches - acked == 3 {
                        break;
                    }
                }
                if round >= 5 && number > acked {
                    says.send(request(subscribe_request::Request::Ack(v1::Ack { number }))).await.expect("room");
                    acked = number;
                }
            }
            while changes < 200 {
                let answer = tokio::time::timeout(PATIENCE, answers.message()).await.expect("in time");
                if let Some(subscribe_response::Response::Batch(batch)) =
                    answer.expect("an answer").expect("no end").response
                {
                    changes += batch.changes;
                    says.send(request(subscribe_request::Request::Ack(v1::Ack { number: batch.number })))
                        .await
                        .expect("room");
                }
            }
            assert_eq!(changes, 200, "and nothing twice");
        });
    });
}

#[test]
fn who_reads_nothing_holds_up_nobody_and_costs_little() {
    on_each("mute", |db| {
        db.sql(T);
        let sidecar = Sidecar::start(db, &["buffer: 1MiB"]);
        let witness = witness(&sidecar);
        let (runtime, channel) = sidecar.connect();
        let mute = runtime.block_on(async {
            let mut calls = Vec::new();
            for (index, start) in
                [Start::Latest, Start::Snapshot, Start::Latest, Start::Earliest].into_iter().enumerate()
            {
                let consumer = if index % 2 == 0 { String::new() } else { format!("mute{index}") };
                let open = v1::Open { consumer, start: start.into(), ..v1::Open::default() };
                let (says, mut answers) =
                    call(channel.clone(), request(subscribe_request::Request::Open(open))).await.expect("a call");
                answers.message().await.expect("an answer");
                calls.push((says, answers));
            }
            calls
        });
        // 40 MB, while the runtime of the mute clients does not run.
        write(db, 0, 2000, 20_000);
        assert_eq!(witness.wait_for(2000).len(), 2000);
        let high = sidecar.program.peak_kib();
        assert!(high < (MEMORY_MIB + LANES_MIB + DEBUG_MIB) << 10, "{high} KiB");
        drop(mute);
        witness.stop().ok();
        sidecar.program.stop().ok();
    });
}

#[test]
fn who_is_too_far_behind_is_detached_and_told_so() {
    on_each("behind", |db| {
        db.sql(T);
        let sidecar = Sidecar::start(db, &["max_lag_bytes: 16MiB"]);
        let (runtime, channel) = sidecar.connect();
        let open = |start: Start| {
            let credit = Some(v1::Credit { bytes: 1, batches: 1 });
            let open = v1::Open { consumer: "stopped".to_owned(), start: start.into(), credit, ..v1::Open::default() };
            request(subscribe_request::Request::Open(open))
        };
        let (_says, mut answers) = runtime.block_on(async {
            let (says, mut answers) = call(channel.clone(), open(Start::Latest)).await.expect("a call");
            answers.message().await.expect("an answer");
            (says, answers)
        });
        // 24 MB of log, of text that no server can pack.
        let mut dice = 1u64;
        let mut letter = |_| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + (dice >> 33) as u8 % 26)
        };
        let noise: String = (0..20_000).map(&mut letter).collect();
        let rows: Vec<String> = (0..10).map(|id| format!("({id}, '{noise}')")).collect();
        db.sql(&format!("insert into t values {}", rows.join(", ")));
        let copies = (1..120).map(|tens| format!("insert into t select id + {tens}0, v from t where id < 10;"));
        db.sql(&copies.collect::<Vec<_>>().join("\n"));
        let status =
            runtime.block_on(async { tokio::time::timeout(PATIENCE, ended(&mut answers)).await.expect("an end") });
        assert!(status.code() == Code::ResourceExhausted && status.message().contains("max_lag_bytes"), "{status:?}");
        sidecar.program.stop().ok();
    });
}

#[test]
fn who_reads_nothing_for_too_long_is_detached_and_told_so() {
    on_each("late", |db| {
        db.sql(T);
        let sidecar = Sidecar::start(db, &["max_lag_time: 10s", "keepalive: 2s"]);
        let witness = witness(&sidecar);
        let runtime = busy_runtime();
        let mut admin = AdminClient::new(runtime.block_on(connected(&sidecar)));
        // Its connection lives, and nobody takes what comes by it.
        let (_says, mut answers) = runtime.block_on(async {
            let channel = connected(&sidecar).await;
            let open = v1::Open { consumer: "late".to_owned(), start: Start::Latest.into(), ..v1::Open::default() };
            let (says, mut answers) =
                call(channel, request(subscribe_request::Request::Open(open))).await.expect("a call");
            answers.message().await.expect("an answer");
            (says, answers)
        });
        write(db, 0, 400, 20_000);
        assert_eq!(witness.wait_for(400).len(), 400);
        eventually("it is detached", || {
            let state = runtime.block_on(state_of(&mut admin, "late"));
            state.expect("a consumer") == v1::ConsumerState::Detached
        });
        let status = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(60), ended(&mut answers)).await.expect("an end")
        });
        assert!(status.code() == Code::ResourceExhausted && status.message().contains("max_lag_time"), "{status:?}");
        let high = sidecar.program.peak_kib();
        assert!(high < (MEMORY_MIB + LANES_MIB + DEBUG_MIB) << 10, "{high} KiB");
        write(db, 400, 10, 10);
        assert_eq!(witness.wait_for(410).len(), 410);
        witness.stop().ok();
        sidecar.program.stop().ok();
    });
}

#[test]
fn who_does_not_even_answer_is_left_and_loses_nothing() {
    on_each("silent", |db| {
        db.sql(T);
        let sidecar = Sidecar::start(db, &["keepalive: 3s"]);
        let witness = witness(&sidecar);
        let asks = busy_runtime();
        let mut admin = AdminClient::new(asks.block_on(connected(&sidecar)));
        let open = |consumer: &str, start: Start| {
            let open = v1::Open { consumer: consumer.to_owned(), start: start.into(), ..v1::Open::default() };
            request(subscribe_request::Request::Open(open))
        };
        let (runtime, channel) = sidecar.connect();
        let mut silent = runtime.block_on(async {
            let mut calls = Vec::new();
            for consumer in ["silent", ""] {
                let (says, mut answers) = call(channel.clone(), open(consumer, Start::Latest)).await.expect("a call");
                answers.message().await.expect("an answer");
                calls.push((says, answers));
            }
            calls
        });
        // From here on its connection stands still.
        write(db, 0, 400, 20_000);
        assert_eq!(witness.wait_for(400).len(), 400);
        eventually("both are left", || {
            let status = asks.block_on(admin.get_status(v1::GetStatusRequest {})).expect("a status").into_inner();
            let left = |consumer: &v1::ConsumerStatus| consumer.state() == v1::ConsumerState::Parked;
            status.consumers.iter().filter(|consumer| consumer.name != "witness").all(left)
        });
        for (_, answers) in &mut silent {
            assert_ne!(runtime.block_on(ended(answers)).code(), Code::Ok, "the connection broke");
        }
        let (runtime, channel) = sidecar.connect();
        runtime.block_on(async {
            let (says, mut answers) = call(channel, open("silent", Start::Stored)).await.expect("a call");
            let mut changes = 0;
            while changes < 400 {
                let answer = tokio::time::timeout(Duration::from_secs(60), answers.message()).await.expect("in time");
                if let Some(subscribe_response::Response::Batch(batch)) =
                    answer.expect("an answer").expect("no end").response
                {
                    changes += batch.changes;
                    let ack = subscribe_request::Request::Ack(v1::Ack { number: batch.number });
                    says.send(request(ack)).await.expect("room");
                }
            }
            assert_eq!(changes, 400, "all it had not acknowledged, once");
        });
        let high = sidecar.program.peak_kib();
        assert!(high < (MEMORY_MIB + LANES_MIB + DEBUG_MIB) << 10, "{high} KiB");
        witness.stop().ok();
        sidecar.program.stop().ok();
    });
}

/// A runtime whose connections answer pings while nobody waits for anything.
fn busy_runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// A connection of its own.
async fn connected(sidecar: &Sidecar) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", sidecar.address())).expect("an address");
    endpoint.connect().await.expect("a connection")
}

async fn state_of(admin: &mut AdminClient<Channel>, name: &str) -> Option<v1::ConsumerState> {
    let status = admin.get_status(v1::GetStatusRequest {}).await.expect("a status").into_inner();
    status.consumers.into_iter().find(|consumer| consumer.name == name).map(|consumer| consumer.state())
}

/// A connection of its own, and what a first call by it heard.
async fn stranger(sidecar: &Sidecar) -> Result<(HealthClient<Channel>, Result<(), Status>), tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{}", sidecar.address())).expect("an address");
    let mut client = HealthClient::new(endpoint.connect().await?);
    let heard = client.check(HealthCheckRequest::default()).await.map(drop);
    Ok((client, heard))
}

/// Clients with a connection each, who stay, until one is not let in.
fn crowd(runtime: &Runtime, sidecar: &Sidecar) -> Vec<HealthClient<Channel>> {
    let crowd = runtime.block_on(async {
        let mut crowd = Vec::new();
        while let Ok((client, Ok(()))) = stranger(sidecar).await {
            crowd.push(client);
            assert!(crowd.len() <= 1000, "more than max_connections are let in");
        }
        crowd
    });
    // It takes part in no more than sixteen at once, for two seconds each.
    eventually("one too many is told why", || match runtime.block_on(stranger(sidecar)) {
        Ok((_, Err(status))) => {
            status.code() == Code::ResourceExhausted && status.message().contains("max_connections")
        }
        Ok((_, Ok(()))) => panic!("there was no room, and now there is"),
        Err(_) => false,
    });
    crowd
}

/// This process may open so many files, if it may have them at all.
fn may_open(files: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < files) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(files), ..limit }).expect("files enough for the test");
    }
}

#[test]
fn a_thousand_connections_are_served_and_more_are_refused() {
    may_open(4096);
    on_each("many", |db| {
        db.sql(T);
        // As a process mostly begins: its own limit is too low for a thousand, and may be raised.
        let sidecar = Sidecar::start_limited(db, 1024, 4096);
        let witness = witness(&sidecar);
        let runtime = busy_runtime();
        let mut crowd = crowd(&runtime, &sidecar);
        assert_eq!(crowd.len(), 999, "and the witness");
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", sidecar.program.id())).expect("the limits");
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("the limit");
        assert_eq!(files.split_whitespace().take(2).collect::<Vec<_>>(), ["1256", "4096"]);
        let over: Vec<_> = runtime.block_on(async {
            let mut over = Vec::new();
            for _ in 0..100 {
                over.push(stranger(&sidecar).await);
            }
            over
        });
        assert!(over.iter().all(|heard| !matches!(heard, Ok((_, Ok(()))))), "one of them was let in");
        write(db, 0, 100, 100);
        assert_eq!(witness.wait_for(100).len(), 100);
        runtime.block_on(async {
            for client in &mut crowd {
                client.check(HealthCheckRequest::default()).await.expect("an answer, still");
            }
        });
        let high = sidecar.program.peak_kib();
        println!("a thousand connections: {high} KiB");
        assert!(high < (MEMORY_MIB + DEBUG_MIB) << 10, "{high} KiB");
        drop((crowd, over));
        eventually("there is room again", || matches!(runtime.block_on(stranger(&sidecar)), Ok((_, Ok(())))));
        witness.stop().ok();
        let ended = sidecar.program.stop();
        assert!(ended.log.contains("as many gRPC connections") && !ended.log.contains("panicked"), "{}", ended.log);
        ended.ok();
    });
}

#[test]
fn where_few_files_may_be_open_there_are_fewer_connections() {
    on_each("files", |db| {
        db.sql(T);
        let sidecar = Sidecar::start_limited(db, 300, 320);
        assert!(sidecar.program.log().contains("may not open more files"), "{}", sidecar.program.log());
        let witness = witness(&sidecar);
        let runtime = busy_runtime();
        let crowd = crowd(&runtime, &sidecar);
        assert_eq!(crowd.len(), 320 - 256 - 1);
        write(db, 0, 100, 100);
        assert_eq!(witness.wait_for(100).len(), 100);
        drop(crowd);
        witness.stop().ok();
        sidecar.program.stop().ok();
    });
}
