//! The sinks: one conformance suite for all of them, then what only one of them can suffer.

mod file;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::source::PATIENCE;
use walbrook::encode::{JsonEncoder, JsonOptions};
use walbrook::error::{Class, Level};
use walbrook::record::{
    Batch, BatchBuilder, Cell, Column, DataType, Form, Identity, Lsn, Mark, Origin, Position, Seq, SinkOffset,
    TableSchema, Txn, Value, ValueError,
};
use walbrook::sink::{
    Accepted, Delivery, Durable, Guarantee, NullConfig, NullSink, Sink, SinkConfig, StdoutConfig, StdoutSink,
    reader_went_away,
};

/// A line's order key: its transaction and its number in it.
type Key = (Lsn, u64);

fn schema() -> Arc<TableSchema> {
    fn text<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
        str::from_utf8(bytes).map(Value::Text).map_err(|_| ValueError::new("text", bytes))
    }
    let column = |name| Column::new(name, "text", (DataType::Text, text));
    Arc::new(TableSchema {
        id: 1,
        version: 1,
        database: "shop".into(),
        namespace: "public".into(),
        name: "notes".into(),
        columns: Box::new([column("body")]),
        key: Box::new([]),
        identity: Identity::Default,
    })
}

/// Makes batches whose transactions follow each other, a byte of log apart.
struct Batches {
    schema: Arc<TableSchema>,
    seq: u64,
    lsn: u64,
}

impl Batches {
    fn new() -> Self {
        Batches { schema: schema(), seq: 0, lsn: 0 }
    }

    /// A batch of whole transactions, each given by its rows.
    fn of(&mut self, transactions: &[&[&str]]) -> Arc<Batch> {
        fn bytes<'r>(rows: &&[&'r str]) -> Vec<&'r [u8]> {
            rows.iter().map(|row| row.as_bytes()).collect()
        }
        self.of_bytes(&transactions.iter().map(bytes).collect::<Vec<_>>())
    }

    fn of_bytes(&mut self, transactions: &[Vec<&[u8]>]) -> Arc<Batch> {
        let mut builder = BatchBuilder::new(Origin::Stream);
        let mut frame = Vec::new();
        for rows in transactions {
            self.lsn += 1;
            builder.txn(Txn {
                commit: Position::Postgres(Lsn(self.lsn)),
                id: Some(self.lsn),
                commit_unix_micros: Some(0),
            });
            builder.begin();
            let table = builder.table(&self.schema);
            for (ordinal, row) in rows.iter().enumerate() {
                let cells = builder.cells_start();
                builder.cells_mut().push(Cell::at(frame.len(), row.len()));
                frame.extend_from_slice(row);
                builder.insert(table, cells, ordinal as u64 + 1);
            }
            builder.commit(rows.len() as u64 + 1);
        }
        builder.frame(frame.into());
        self.seq += 1;
        let position = (!transactions.is_empty()).then_some(Position::Postgres(Lsn(self.lsn + 1)));
        Arc::new(builder.build(Seq(self.seq), Mark { position, state: Vec::new() }, None))
    }
}

/// The order keys of a batch's rows.
fn keys(batch: &Batch) -> Vec<Key> {
    let rows = batch.records().filter(|record| matches!(record.change, walbrook::record::Change::Insert { .. }));
    rows.map(|record| {
        let lsn = record.txn.commit.lsn().unwrap();
        (lsn, record.ordinal)
    })
    .collect()
}

/// The order keys of the lines of a text; every line must be whole.
fn keys_of_lines(text: &[u8]) -> Vec<Key> {
    assert!(text.is_empty() || text.ends_with(b"\n"), "a torn last line");
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let line: serde_json::Value = serde_json::from_slice(line)
                .unwrap_or_else(|error| panic!("{error} in {:.200}", String::from_utf8_lossy(line)));
            (line["pos"].as_str().unwrap().parse().unwrap(), line["ord"].as_u64().unwrap())
        })
        .collect()
}

fn json() -> JsonEncoder {
    JsonEncoder::new(JsonOptions { transactions: false })
}

fn file_sink(path: &Path, keys: serde_json::Value) -> Box<dyn Sink> {
    let mut config = serde_json::json!({ "type": "file", "path": path });
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    serde_json::from_value::<SinkConfig>(config).unwrap().build("under test").unwrap()
}

/// Opens the sink; the offset that a failure goes back to. No sink here knows a newer position than the store.
async fn open(sink: &mut Box<dyn Sink>, stored: &SinkOffset) -> SinkOffset {
    let own = sink.open(stored).await.unwrap().unwrap_or_else(|| stored.clone());
    assert_eq!(own.position, stored.position);
    own
}

/// Writes the batches and flushes; the offset to store.
async fn deliver(sink: &mut Box<dyn Sink>, batches: &[Arc<Batch>]) -> SinkOffset {
    let mut position = None;
    let mut last = Seq(0);
    for batch in batches {
        assert_eq!(sink.write(&Delivery::whole(batch.clone())).await.unwrap(), Accepted(batch.seq));
        (position, last) = (batch.mark.position.clone().or(position), batch.seq);
    }
    let token = sink.token();
    let durable = sink.flush().await.unwrap();
    assert!(batches.is_empty() || durable == Durable(last));
    SinkOffset { position, token }
}

/// Reads the order keys of what the sink in a folder holds.
type Lines<'l> = &'l dyn Fn(&Path) -> Vec<Key>;

/// What every sink must do. `make` makes it as a new process would; `lines` reads what it holds, where it keeps any.
async fn conforms(make: &dyn Fn(&Path) -> Box<dyn Sink>, lines: Option<Lines<'_>>) {
    let dir = tempfile::tempdir().unwrap();
    let mut batches = Batches::new();
    let mut expected = Vec::new();
    let holds = |expected: &[Key], what: &str| {
        if let Some(lines) = lines {
            assert_eq!(lines(dir.path()), expected, "{what}");
        }
    };
    let mut sink = make(dir.path());
    let findings = sink.check().await;
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
    let batching = sink.batching();
    assert!(batching.max_records > 0 && batching.max_bytes > 0 && batching.max_delay_ms > 0);

    open(&mut sink, &SinkOffset::default()).await;
    assert_eq!(sink.flush().await.unwrap(), Durable(Seq(0)), "nothing was accepted");
    let first = [batches.of(&[&["a", "b"], &["c"]]), batches.of(&[&["d"], &[], &["e", "f", "g"]])];
    deliver(&mut sink, &first).await;
    expected.extend(first.iter().flat_map(|batch| keys(batch)));
    holds(&expected, "in order");

    // Batches without records, deliveries of none, and of a part.
    let nothing = batches.of(&[]);
    let parts = batches.of(&[&["h", "i", "j"]]);
    deliver(&mut sink, &[nothing]).await;
    for (first, end) in [(0, 0), (0, 2), (2, 2), (2, 4), (4, 5), (5, 5)] {
        let delivery = Delivery { batch: parts.clone(), first, end };
        assert_eq!(sink.write(&delivery).await.unwrap(), Accepted(parts.seq));
    }
    let stored = deliver(&mut sink, &[]).await.token;
    let stored = SinkOffset { position: parts.mark.position.clone(), token: stored };
    expected.extend(keys(&parts));
    holds(&expected, "in parts");

    // A failure: what was accepted after the stored offset is delivered again, to the same sink and to a new process's.
    let again = batches.of(&[&["k"], &["l", "m"]]);
    let again_keys = keys(&again);
    for round in 0..2 {
        assert_eq!(sink.write(&Delivery::whole(again.clone())).await.unwrap(), Accepted(again.seq));
        if round == 1 {
            drop(sink);
            sink = make(dir.path());
        }
        open(&mut sink, &stored).await;
        if sink.capabilities().guarantee == Guarantee::AtLeastOnce && lines.is_some_and(|l| l(dir.path()) != expected) {
            expected.extend(&again_keys);
        }
        holds(&expected, "opened at the stored offset");
    }
    deliver(&mut sink, &[again]).await;
    expected.extend(&again_keys);
    holds(&expected, "replayed");

    // Larger than every buffer; the lines around it are whole.
    let body = "0123456789abcdef".repeat(256 * 1024);
    let huge = batches.of(&[&["before", &body, "after"]]);
    deliver(&mut sink, std::slice::from_ref(&huge)).await;
    expected.extend(keys(&huge));
    holds(&expected, "a record of 4 MiB");
    sink.close().await.unwrap();
    holds(&expected, "closed");
}

/// Every sink, by the suite's own hand: a fifth is one line more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sink_conforms() {
    let null = |_: &Path| -> Box<dyn Sink> { Box::new(NullSink::new(&NullConfig::default())) };
    conforms(&null, None).await;
    let stdout = |dir: &Path| -> Box<dyn Sink> {
        let file = OpenOptions::new().create(true).append(true).open(dir.join("out")).unwrap();
        Box::new(StdoutSink::into_file("out", &StdoutConfig::default(), json(), file))
    };
    conforms(&stdout, Some(&|dir| keys_of_lines(&fs::read(dir.join("out")).unwrap()))).await;
    let file = |dir: &Path| file_sink(&dir.join("a"), serde_json::json!({}));
    conforms(&file, Some(&|dir| file::keys_in(&dir.join("a")))).await;
    let large = |dir: &Path| file_sink(&dir.join("a"), serde_json::json!({ "rotate": "1GiB", "rotate_every": "1h" }));
    conforms(&large, Some(&|dir| file::keys_in(&dir.join("a")))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn begin_and_commit_are_lines_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let mut sink = file_sink(&path, serde_json::json!({ "transactions": true }));
    open(&mut sink, &SinkOffset::default()).await;
    deliver(&mut sink, &[Batches::new().of(&[&["a"]])]).await;
    let text = fs::read_to_string(&path).unwrap();
    let ops: Vec<_> =
        text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["op"].clone()).collect();
    assert_eq!(ops, ["b", "c", "e"]);
}

fn into_pipe() -> (std::io::PipeReader, Box<dyn Sink>) {
    let (reader, writer) = std::io::pipe().unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(writer));
    (reader, Box::new(StdoutSink::into_file("eyes", &StdoutConfig::default(), json(), file)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_went_away_is_told_from_other_errors() {
    let (reader, mut sink) = into_pipe();
    open(&mut sink, &SinkOffset::default()).await;
    drop(reader);
    let error = sink.write(&Delivery::whole(Batches::new().of(&[&["a"]]))).await.unwrap_err();
    assert!(reader_went_away(&error) && !error.is_transient(), "{error:?}");
    assert!(reader_went_away(&error.context("stopping")));

    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut sink: Box<dyn Sink> = Box::new(StdoutSink::into_file("eyes", &StdoutConfig::default(), json(), full));
    open(&mut sink, &SinkOffset::default()).await;
    let error = sink.write(&Delivery::whole(Batches::new().of(&[&["a"]]))).await.unwrap_err();
    assert!(!reader_went_away(&error) && error.class() == Class::Transient, "{error:?}");
}

/// Deliveries large enough to be encoded on other threads, some smaller ones between them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_encoded_ahead_comes_in_order_and_so_does_its_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let file = File::create(&path).unwrap();
    let mut sink: Box<dyn Sink> = Box::new(StdoutSink::into_file("out", &StdoutConfig::default(), json(), file));
    open(&mut sink, &SinkOffset::default()).await;
    let (mut batches, body) = (Batches::new(), "x".repeat(1000));
    let mut rows = |count: usize, wrong: Option<usize>| {
        let row = |index| if Some(index) == wrong { &b"\xff"[..] } else { body.as_bytes() };
        batches.of_bytes(&[(0..count).map(row).collect()])
    };
    let good: Vec<_> = [400, 1, 40, 300, 2, 50, 40, 450, 3, 40].into_iter().map(|count| rows(count, None)).collect();
    deliver(&mut sink, &good).await;
    let mut expected: Vec<_> = good.iter().flat_map(|batch| keys(batch)).collect();
    assert_eq!(keys_of_lines(&fs::read(&path).unwrap()), expected);

    let bad = [rows(300, None), rows(100, Some(50)), rows(40, None), rows(40, None)];
    let mut error = None;
    for batch in &bad {
        match sink.write(&Delivery::whole(batch.clone())).await {
            Ok(accepted) => assert_eq!(accepted, Accepted(batch.seq)),
            Err(failed) => {
                error = Some(failed);
                break;
            }
        }
    }
    let error = match error {
        Some(error) => error,
        None => sink.flush().await.unwrap_err(),
    };
    assert_eq!(error.class(), Class::Data);
    assert!(format!("{error}").contains("\"body\" (text) of public.notes"), "{error}");
    expected.extend(bad[..2].iter().flat_map(|batch| keys(batch)).take(300 + 50));
    assert_eq!(keys_of_lines(&fs::read(&path).unwrap()), expected);

    // Opened again it goes on, and nothing of what failed comes.
    open(&mut sink, &SinkOffset::default()).await;
    deliver(&mut sink, &bad[2..3]).await;
    expected.extend(keys(&bad[2]));
    assert_eq!(keys_of_lines(&fs::read(&path).unwrap()), expected);
}

/// One worker thread: a write that blocked it would stop everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reader_that_does_not_read_blocks_its_sink_only() {
    let (mut reader, mut sink) = into_pipe();
    open(&mut sink, &SinkOffset::default()).await;
    let body = "x".repeat(1 << 20);
    let batch = Batches::new().of(&[&[&body]]);
    let written = tokio::spawn(async move {
        let _ = sink.write(&Delivery::whole(batch)).await.unwrap();
        sink.close().await.unwrap();
    });
    let ticks = Arc::new(AtomicU32::new(0));
    let counted = ticks.clone();
    let others = tokio::spawn(async move {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    tokio::time::timeout(PATIENCE, others).await.expect("the other task stands still").unwrap();
    assert_eq!(ticks.load(Ordering::Relaxed), 20);
    assert!(!written.is_finished(), "a pipe holds 64 KiB of the 1 MiB");
    let text = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).map(|_| text)
    });
    written.await.unwrap();
    assert_eq!(keys_of_lines(&text.await.unwrap().unwrap()), [(Lsn(1), 1)]);
}

/// The distinct keys, in order of their first line.
fn distinct(keys: &[Key]) -> Vec<Key> {
    let mut seen = BTreeSet::new();
    keys.iter().copied().filter(|key| seen.insert(*key)).collect()
}
