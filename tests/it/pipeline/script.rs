//! A source and sinks that do what a test says: real ones, on a log and on stores in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, watch};

use walbrook::error::{Class, Error, Finding, Result};
use walbrook::flow::{BatchWriter, Outlet};
use walbrook::record::{
    Cell, Change, Column, DataType, Decode, Identity, Lineage, Lsn, Origin, Position, SinkOffset, StateEntry,
    TableSchema, Txn, Value,
};
use walbrook::sink::{Accepted, Batching, Capabilities, Delivery, Durable, Guarantee, Sink};
use walbrook::source::{Gap, Lanes, Ready, Rows, Source, State, Stored, StreamEnd, Verdict};

/// What happened, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A sink holds everything before this durably.
    Durable(String, u64),
    /// The store has synced these positions of sinks.
    Stored(BTreeMap<String, Option<u64>>),
    /// The source's server was told.
    Confirmed(u64),
}

#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<Event>>>);

impl Journal {
    pub fn add(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }
}

pub fn at(lsn: u64) -> Position {
    Position::Postgres(Lsn(lsn))
}

pub fn number(position: &Position) -> u64 {
    let lsn = position.lsn().unwrap();
    lsn.0
}

/// The order key of a row: its transaction's commit and its ordinal. Rows of a snapshot have the snapshot's point.
pub type Key = (u64, u64);

/// A database's log: transaction `n` commits at `10 n` and ends at `10 n + 1`.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    /// Of each transaction the sizes of its rows in bytes.
    transactions: Mutex<Vec<Vec<usize>>>,
    grown: Notify,
    snapshot_rows: AtomicU64,
    faults: Mutex<VecDeque<Fault>>,
    verdict: Mutex<Verdict>,
    loses_with_fault: AtomicBool,
    /// The transaction of which two rows are handed over and then taken back; 0 for none.
    retracts: AtomicU64,
    /// Behind the last transaction: what a keepalive says of an idle database.
    keepalive: AtomicU64,
    /// How often a row was handed to the pipeline, also again.
    rows_sent: AtomicU64,
    /// Positions the stream was asked to start at.
    starts: Mutex<Vec<u64>>,
    snapshots: AtomicU64,
    /// Whether every third transaction changes the source's state, and every start of a stream is held against it.
    versions: AtomicBool,
    /// Whether sources beside the main one may say goodbye, and how many want to.
    lanes_close: watch::Sender<bool>,
    lanes_closing: AtomicU64,
    journal: Journal,
}

/// The one key of the source's state: the last transaction that changed it.
const VERSION_KEY: &[u8] = b"version";

/// Where the stream breaks: behind this many rows of the transaction, which may have been sent.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub transaction: u64,
    pub rows: usize,
    pub class: Class,
}

impl Log {
    pub fn new(journal: Journal) -> Self {
        Log(Arc::new(Shared {
            transactions: Mutex::default(),
            grown: Notify::new(),
            snapshot_rows: AtomicU64::new(0),
            faults: Mutex::default(),
            verdict: Mutex::new(Verdict::Valid),
            loses_with_fault: AtomicBool::new(false),
            retracts: AtomicU64::new(0),
            keepalive: AtomicU64::new(0),
            rows_sent: AtomicU64::new(0),
            starts: Mutex::default(),
            snapshots: AtomicU64::new(0),
            versions: AtomicBool::new(false),
            lanes_close: watch::channel(true).0,
            lanes_closing: AtomicU64::new(0),
            journal,
        }))
    }

    /// Commits transactions of so many rows of so many bytes.
    pub fn commit(&self, transactions: usize, rows: usize, row_bytes: usize) {
        self.0.transactions.lock().unwrap().extend(std::iter::repeat_n(vec![row_bytes; rows], transactions));
        self.0.grown.notify_waiters();
    }
    pub fn keepalive(&self, lsn: u64) {
        self.0.keepalive.store(lsn, Ordering::SeqCst);
        self.0.grown.notify_waiters();
    }
    pub fn fail(&self, fault: Fault) {
        self.0.faults.lock().unwrap().push_back(fault);
    }
    pub fn lose(&self) {
        let gap = Gap { from: at(0), to: Some(at(5)), bytes: Some(5), why: "the test took it".into() };
        *self.0.verdict.lock().unwrap() = Verdict::Lost(gap);
    }
    /// Breaks behind so many rows of a transaction, and is lost by then.
    pub fn lose_at_reconnect(&self, transaction: u64, rows: usize) {
        self.fail(Fault { transaction, rows, class: Class::Transient });
        self.0.loses_with_fault.store(true, Ordering::SeqCst);
    }
    /// The main stream hands over two rows of a transaction, and then the server rolls that back. It comes whole behind that.
    pub fn retract(&self, transaction: u64) {
        self.0.retracts.store(transaction, Ordering::SeqCst);
    }
    /// Lets no source beside the main one say goodbye, or lets them.
    pub fn let_lanes_close(&self, close: bool) {
        self.0.lanes_close.send_replace(close);
    }
    /// How many of them have wanted to so far.
    pub fn lanes_closing(&self) -> u64 {
        self.0.lanes_closing.load(Ordering::SeqCst)
    }
    pub fn check_versions(&self) {
        self.0.versions.store(true, Ordering::SeqCst);
    }
    pub fn set_snapshot_rows(&self, rows: u64) {
        self.0.snapshot_rows.store(rows, Ordering::SeqCst);
    }
    pub fn rows_sent(&self) -> u64 {
        self.0.rows_sent.load(Ordering::SeqCst)
    }
    pub fn starts(&self) -> Vec<u64> {
        self.0.starts.lock().unwrap().clone()
    }
    /// What the server was told last.
    pub fn confirmed(&self) -> Option<u64> {
        let events = self.0.journal.events();
        events.into_iter().rev().find_map(|event| if let Event::Confirmed(lsn) = event { Some(lsn) } else { None })
    }
    pub fn snapshots(&self) -> u64 {
        self.0.snapshots.load(Ordering::SeqCst)
    }
    pub fn end(&self) -> u64 {
        self.0.transactions.lock().unwrap().len() as u64 * 10 + 1
    }

    /// The keys of all rows of transactions from number `first` on.
    pub fn keys_from(&self, first: u64) -> Vec<Key> {
        let transactions = self.0.transactions.lock().unwrap();
        let numbered = (1u64..).zip(transactions.iter()).filter(|(n, _)| *n >= first);
        numbered.flat_map(|(n, rows)| (1..=rows.len() as u64).map(move |ordinal| (n * 10, ordinal))).collect()
    }
    pub fn keys(&self) -> Vec<Key> {
        self.keys_from(1)
    }

    /// The first transaction a stream from here has not seen.
    fn next(&self, from: u64) -> Option<(u64, Vec<usize>)> {
        let transactions = self.0.transactions.lock().unwrap();
        let number = from.div_ceil(10).max(1);
        Some((number, transactions.get(number as usize - 1)?.clone()))
    }

    fn breaks(&self, transaction: u64, rows: usize) -> Option<Error> {
        let mut faults = self.0.faults.lock().unwrap();
        let due = faults.front().is_some_and(|fault| (fault.transaction, fault.rows) == (transaction, rows));
        let fault = if due { faults.pop_front() } else { None };
        if fault.is_some() && self.0.loses_with_fault.swap(false, Ordering::SeqCst) {
            self.lose();
        }
        fault.map(|fault| Error::new(fault.class, format!("the log broke in transaction {transaction}")))
    }
}

/// Sources beside the main one.
pub struct ScriptedLanes(pub Log);

impl Lanes for ScriptedLanes {
    fn open(&self, _: bool) -> Result<Box<dyn Source>> {
        Ok(Box::new(ScriptedSource { lane: true, ..ScriptedSource::new(&self.0) }))
    }
}

/// The state a stream from there has to know.
fn version_at(from: u64) -> Option<u64> {
    let done = from.div_ceil(10).max(1) - 1;
    Some(done / 3 * 3).filter(|version| *version > 0)
}

fn version_entry(version: u64) -> StateEntry {
    StateEntry { key: VERSION_KEY.to_vec(), value: Some(version.to_string().into_bytes()) }
}

pub struct ScriptedSource {
    log: Log,
    schema: Arc<TableSchema>,
    confirmed: u64,
    /// It tells the journal nothing.
    lane: bool,
    /// What was stored when it was prepared, until a stream has begun.
    state: Option<State>,
}

impl ScriptedSource {
    pub fn new(log: &Log) -> Self {
        let decode: Decode = |bytes, _| Ok(Value::Text(str::from_utf8(bytes).unwrap_or_default()));
        let column = Column::new("bytes", "bytea", (DataType::Bytes, decode));
        let schema = TableSchema {
            id: 1,
            version: 1,
            database: "script".into(),
            namespace: "public".into(),
            name: "rows".into(),
            columns: Box::new([column]),
            key: Box::new([]),
            identity: Identity::Default,
        };
        ScriptedSource { log: log.clone(), schema: Arc::new(schema), confirmed: 0, lane: false, state: None }
    }

    fn confirm(&mut self, confirmed: Option<&Position>) {
        if let Some(lsn) = confirmed.map(number).filter(|lsn| *lsn > self.confirmed) {
            self.confirmed = lsn;
            if self.lane {
                return;
            }
            self.log.0.journal.add(Event::Confirmed(lsn));
        }
    }

    fn push(&self, writer: &mut BatchWriter, bytes: usize, ordinal: u64) {
        let batch = writer.batch();
        let (table, cells) = (batch.table(&self.schema), batch.cells_start());
        batch.cells_mut().push(Cell::at(0, bytes));
        batch.insert(table, cells, ordinal);
        batch.frame(vec![b'x'; bytes].into());
        self.log.0.rows_sent.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits for the budget, still telling the server what is confirmed. False when asked to stop meanwhile.
    async fn send(
        &mut self,
        writer: &mut BatchWriter,
        confirmed: &mut watch::Receiver<Option<Position>>,
        stop: &mut watch::Receiver<bool>,
    ) -> bool {
        let mut permit = std::pin::pin!(writer.permit());
        loop {
            tokio::select! {
                biased;
                permit = &mut permit => {
                    writer.send(permit);
                    return true;
                }
                Ok(()) = confirmed.changed() => {
                    let position = confirmed.borrow_and_update().clone();
                    self.confirm(position.as_ref());
                }
                _ = stop.wait_for(|stop| *stop) => return false,
            }
        }
    }
}

#[async_trait]
impl Source for ScriptedSource {
    async fn lineage(&mut self) -> Result<Lineage> {
        let text = |text: &str| text.to_owned();
        Ok(Lineage {
            kind: text("script"),
            system: text("1"),
            timeline: text("1"),
            database: text("script"),
            stream: text("script"),
        })
    }

    async fn retention(&mut self, _: &Lineage, _: &Position) -> Result<Verdict> {
        Ok(self.log.0.verdict.lock().unwrap().clone())
    }

    async fn prepare(&mut self, state: &State) -> Result<Ready> {
        self.state = Some(state.clone());
        // Making a new slot mends a lost one.
        *self.log.0.verdict.lock().unwrap() = Verdict::Valid;
        Ok(Ready { position: at(1), state: Vec::new() })
    }

    async fn snapshot(&mut self, _: Rows, _: Option<Position>, _: &State, outlet: &Outlet) -> Result<Position> {
        self.log.0.snapshots.fetch_add(1, Ordering::SeqCst);
        let point = at(self.log.end());
        let mut writer = BatchWriter::new(outlet.clone(), Origin::Snapshot);
        writer.open(Txn { commit: point.clone(), id: None, commit_unix_micros: None });
        for ordinal in 1..=self.log.0.snapshot_rows.load(Ordering::SeqCst) {
            self.push(&mut writer, 100, ordinal);
            if ordinal % 10 == 0 {
                let permit = writer.permit().await;
                writer.send(permit);
            }
        }
        writer.close(point.clone());
        if self.log.0.versions.load(Ordering::SeqCst) {
            let version = version_at(number(&point)).map(version_entry);
            version.into_iter().for_each(|entry| writer.stage(entry));
            self.state = None;
        }
        let permit = writer.permit().await;
        writer.send(permit);
        Ok(point)
    }

    fn interrupted(&self, _: Rows, _: &State) -> Result<Option<Position>> {
        Ok(None)
    }

    async fn tip(&mut self) -> Result<Position> {
        Ok(at(self.log.end()))
    }

    async fn earliest(&mut self) -> Result<Position> {
        Ok(at(1))
    }

    async fn stream(
        &mut self,
        from: Position,
        until: Option<Position>,
        outlet: &Outlet,
        mut confirmed: watch::Receiver<Option<Position>>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<StreamEnd> {
        let mut at_lsn = number(&from);
        let until = until.as_ref().map(number);
        self.log.0.starts.lock().unwrap().push(at_lsn);
        let versions = self.log.0.versions.load(Ordering::SeqCst);
        if let Some(state) = self.state.take().filter(|_| versions) {
            let known = state.get(VERSION_KEY).map(|value| str::from_utf8(value).unwrap().parse().unwrap());
            assert_eq!(known, version_at(at_lsn), "the state of a stream from {at_lsn}, lane: {}", self.lane);
        }
        let mut writer = BatchWriter::new(outlet.clone(), Origin::Stream);
        loop {
            if *stop.borrow() {
                return Ok(StreamEnd::Stopped);
            }
            let log = self.log.clone();
            let grown = log.0.grown.notified();
            let next = self.log.next(at_lsn).filter(|(n, _)| until.is_none_or(|until| n * 10 < until));
            let Some((transaction, rows)) = next else {
                if until.is_some_and(|until| self.log.end().max(at_lsn) >= until) {
                    return Ok(StreamEnd::Reached);
                }
                let keepalive = self.log.0.keepalive.load(Ordering::SeqCst);
                if keepalive > at_lsn {
                    at_lsn = keepalive;
                    writer.close(at(keepalive));
                    self.send(&mut writer, &mut confirmed, &mut stop).await;
                    continue;
                }
                tokio::select! {
                    biased;
                    Ok(()) = confirmed.changed() => {
                        let position = confirmed.borrow_and_update().clone();
                        self.confirm(position.as_ref());
                    }
                    () = grown => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                    // A notification between the look and the wait is not missed for long.
                    () = tokio::time::sleep(Duration::from_millis(20)) => {}
                }
                continue;
            };
            let commit = transaction * 10;
            writer.begin(Txn { commit: at(commit), id: Some(transaction), commit_unix_micros: Some(0) });
            for (index, bytes) in rows.iter().enumerate() {
                if let Some(error) = self.log.breaks(transaction, index) {
                    // What was scanned reaches the sinks: a torn transaction, whose end comes after the next start.
                    let permit = writer.permit().await;
                    writer.send(permit);
                    return Err(error);
                }
                if index == 2 && !self.lane && self.log.0.retracts.load(Ordering::SeqCst) == transaction {
                    self.log.0.retracts.store(0, Ordering::SeqCst);
                    let permit = writer.permit().await;
                    writer.send(permit);
                    return Ok(StreamEnd::Retracted);
                }
                self.push(&mut writer, *bytes, index as u64 + 1);
                if writer.is_full(0) && !self.send(&mut writer, &mut confirmed, &mut stop).await {
                    return Ok(StreamEnd::Stopped);
                }
            }
            writer.commit(rows.len() as u64 + 1, at(commit + 1));
            if versions && transaction % 3 == 0 {
                writer.stage(version_entry(transaction));
            }
            if !self.send(&mut writer, &mut confirmed, &mut stop).await {
                return Ok(StreamEnd::Stopped);
            }
            at_lsn = commit + 1;
        }
    }

    async fn close(&mut self, confirmed: Option<Position>) -> Result<()> {
        self.confirm(confirmed.as_ref());
        if self.lane {
            self.log.0.lanes_closing.fetch_add(1, Ordering::SeqCst);
            let mut close = self.log.0.lanes_close.subscribe();
            close.wait_for(|close| *close).await.map_err(|_| Error::bug("the script is gone"))?;
        }
        Ok(())
    }

    async fn check(&mut self, _: Option<Stored<'_>>) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn discover(&mut self) -> Result<serde_json::Value> {
        Ok(serde_json::Value::Null)
    }
}

/// What a sink holds and what it does next; the test's handle on it.
#[derive(Clone)]
pub struct Script {
    pub name: String,
    inner: Arc<Mutex<Held>>,
    open: watch::Sender<bool>,
    journal: Journal,
    batching: Batching,
}

#[derive(Default)]
struct Held {
    durable: Vec<Key>,
    accepted: Vec<Key>,
    /// Of every transaction whose end was seen.
    ends: Vec<u64>,
    /// Every row ever written, also what was taken back.
    written: Vec<Key>,
    opens: u32,
    /// Calls of write and flush until the next failure, and its class.
    faults: VecDeque<(u32, Class)>,
    calls: u32,
    /// How long each write takes.
    delay: Duration,
    last: Option<walbrook::record::Seq>,
    /// The end of the last whole transaction accepted.
    position: u64,
}

impl Script {
    pub fn new(name: &str, journal: &Journal) -> Self {
        let batching = Batching { max_records: 1, max_bytes: 1, max_delay_ms: 5, flush_when_idle: true };
        let (open, _) = watch::channel(true);
        Script { name: name.into(), inner: Arc::default(), open, journal: journal.clone(), batching }
    }
    pub fn batching(mut self, max_records: usize, max_delay_ms: u64) -> Self {
        self.batching = Batching { max_records, max_bytes: usize::MAX, max_delay_ms, flush_when_idle: false };
        self
    }
    pub fn slow(self, delay: Duration) -> Self {
        self.inner.lock().unwrap().delay = delay;
        self
    }
    /// From now on writes wait.
    pub fn stick(&self) {
        self.open.send_replace(false);
    }
    pub fn free(&self) {
        self.open.send_replace(true);
    }
    /// Fails at the `calls`-th next write or flush behind the fault before.
    pub fn fail(&self, calls: u32, class: Class) {
        self.inner.lock().unwrap().faults.push_back((calls, class));
    }
    pub fn durable(&self) -> Vec<Key> {
        self.inner.lock().unwrap().durable.clone()
    }
    pub fn written(&self) -> Vec<Key> {
        self.inner.lock().unwrap().written.clone()
    }
    pub fn ends(&self) -> Vec<u64> {
        self.inner.lock().unwrap().ends.clone()
    }
    pub fn opens(&self) -> u32 {
        self.inner.lock().unwrap().opens
    }
    pub fn sink(&self) -> Box<dyn Sink> {
        Box::new(ScriptedSink { script: self.clone(), free: self.open.subscribe() })
    }

    fn call(&self) -> Result<()> {
        let mut held = self.inner.lock().unwrap();
        held.calls += 1;
        let calls = held.calls;
        match held.faults.front() {
            Some((at, class)) if calls >= *at => {
                let class = *class;
                held.faults.pop_front();
                held.calls = 0;
                Err(Error::new(class, format!("sink {} fails as it was told", self.name)))
            }
            _ => Ok(()),
        }
    }
}

/// Opened behind its durable rows: what was accepted and not flushed is taken back, as a file is cut to its stored length.
struct ScriptedSink {
    script: Script,
    free: watch::Receiver<bool>,
}

#[async_trait]
impl Sink for ScriptedSink {
    fn capabilities(&self) -> Capabilities {
        Capabilities { guarantee: Guarantee::ExactlyOnce }
    }
    fn batching(&self) -> Batching {
        self.script.batching
    }
    async fn check(&mut self) -> Vec<Finding> {
        Vec::new()
    }

    async fn open(&mut self, stored: &SinkOffset) -> Result<Option<SinkOffset>> {
        let mut held = self.script.inner.lock().unwrap();
        held.opens += 1;
        held.accepted.clear();
        let length = stored.token.as_ref().map(|token| u64::from_be_bytes(token[..8].try_into().unwrap()) as usize);
        let Some(length) = length else {
            // From here on it is known what a failure is to be cut back to.
            let token = (held.durable.len() as u64).to_be_bytes().to_vec();
            return Ok(Some(SinkOffset { position: stored.position.clone(), token: Some(token) }));
        };
        assert!(length <= held.durable.len(), "a token of rows that were never durable");
        held.durable.truncate(length);
        Ok(None)
    }

    async fn write(&mut self, delivery: &Delivery) -> Result<Accepted> {
        // Stuck, or slow, before it does anything.
        self.free.wait_for(|free| *free).await.map_err(|_| Error::bug("the script is gone"))?;
        let delay = self.script.inner.lock().unwrap().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut held = self.script.inner.lock().unwrap();
        let mut rows = Vec::new();
        for record in delivery.records() {
            let commit = number(&record.txn.commit);
            match record.change {
                Change::Insert { .. } => rows.push((commit, record.ordinal)),
                Change::Commit => {
                    held.ends.push(commit);
                    held.position = commit + 1;
                }
                _ => {}
            }
        }
        held.written.extend(&rows);
        held.accepted.extend(&rows);
        held.last = Some(delivery.batch.seq);
        drop(held);
        self.script.call()?;
        Ok(Accepted(delivery.batch.seq))
    }

    fn token(&self) -> Option<Vec<u8>> {
        let held = self.script.inner.lock().unwrap();
        Some(((held.durable.len() + held.accepted.len()) as u64).to_be_bytes().to_vec())
    }

    async fn flush(&mut self) -> Result<Durable> {
        self.script.call()?;
        let mut held = self.script.inner.lock().unwrap();
        let mut accepted = std::mem::take(&mut held.accepted);
        held.durable.append(&mut accepted);
        let seq = held.last.ok_or_else(|| Error::bug("a flush before any write"))?;
        self.script.journal.add(Event::Durable(self.script.name.clone(), held.position));
        Ok(Durable(seq))
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
