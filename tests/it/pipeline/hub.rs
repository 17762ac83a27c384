//! Consumers of a pipeline with a scripted source: they stop, die, come back, take over, fall behind.

mod disturbed;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::script::{Journal, Key, Log, ScriptedLanes, ScriptedSource, at, number};
use super::store::SharedStore;
use super::{PATIENCE, options};
use walbrook::error::Result;
use walbrook::flow::Progress;
use walbrook::offset::Store;
use walbrook::pipeline::{
    Attach, Attachment, ConsumerStatus, Ended, Event, From, Handle, Hub, HubOptions, Options, Outcome, Pipeline,
    Refused, SinkSpec, State,
};
use walbrook::record::{Change, Origin, Seq};

struct Bench {
    log: Log,
    store: SharedStore,
    progress: Arc<Progress>,
}

struct Running {
    hub: Hub,
    stop: watch::Sender<bool>,
    ended: JoinHandle<Result<Outcome>>,
}

impl Bench {
    fn new() -> Self {
        let bench = Self::without_versions();
        bench.log.check_versions();
        bench
    }

    /// For consumers that begin before what is stored, with the state as it is: a source that needs that of earlier positions
    /// keeps it there.
    fn without_versions() -> Self {
        let journal = Journal::default();
        Bench { log: Log::new(journal.clone()), store: SharedStore::new(&journal), progress: Arc::default() }
    }

    fn start(&self) -> Running {
        self.start_with(HubOptions::default())
    }

    fn start_with(&self, hub_options: HubOptions) -> Running {
        self.start_as(options(), Vec::new(), hub_options)
    }

    fn start_as(&self, options: Options, sinks: Vec<SinkSpec>, hub_options: HubOptions) -> Running {
        let (stop, stopped) = watch::channel(false);
        let hub = Hub::new(hub_options, Arc::new(ScriptedLanes(self.log.clone())));
        let pipeline = Pipeline::new(
            Box::new(ScriptedSource::new(&self.log)),
            Store::new(Box::new(self.store.clone())),
            sinks,
            options,
            self.progress.clone(),
            stopped,
        );
        let pipeline = pipeline.serving(hub.clone());
        Running { hub, stop, ended: tokio::spawn(pipeline.run()) }
    }
}

impl Running {
    async fn stop(self) {
        self.stop.send_replace(true);
        let ended = tokio::time::timeout(PATIENCE, self.ended).await.expect("it ends in time").expect("no panic");
        assert_eq!(ended.unwrap(), Outcome::Stopped);
    }

    fn status(&self, name: &str) -> ConsumerStatus {
        self.hub.consumers().into_iter().find(|consumer| consumer.name == name).expect("a known consumer")
    }
}

fn durable(name: &str, from: From) -> Attach {
    Attach { consumer: Some(name.to_owned()), from, takeover: false }
}

fn ephemeral(from: From) -> Attach {
    Attach { consumer: None, from, takeover: false }
}

async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "not in {PATIENCE:?}: {what}");
}

/// What a client keeps: with every delivery that it acknowledges, all of it; a crash loses what it has not.
#[derive(Clone, Default)]
struct Held {
    rows: Vec<Key>,
    /// Rows of the snapshot it read last, by its point.
    snapshot: (u64, Vec<u64>),
    /// The last resume position it acknowledged.
    acked: u64,
}

impl Held {
    fn take(&mut self, batch: &walbrook::sink::Delivery) {
        for record in batch.records() {
            let commit = number(&record.txn.commit);
            if !matches!(record.change, Change::Insert { .. }) {
                continue;
            }
            if batch.batch.origin == Origin::Snapshot {
                if self.snapshot.0 != commit {
                    self.snapshot = (commit, Vec::new());
                }
                self.snapshot.1.push(record.ordinal);
            } else {
                let key = (commit, record.ordinal);
                assert!(self.rows.last().is_none_or(|last| *last < key), "{key:?} after {:?}", self.rows.last());
                self.rows.push(key);
            }
        }
    }

    fn go_back_to(&mut self, position: u64) {
        assert!(position >= self.acked, "{position} is before what was acknowledged, {}", self.acked);
        self.rows.retain(|(commit, _)| *commit < position);
    }
}

struct Client {
    attachment: Attachment,
    handle: Handle,
    held: Held,
    sent: Option<(Seq, u64)>,
}

impl Client {
    async fn attach(hub: &Hub, attach: Attach, mut held: Held) -> Result<Client, Refused> {
        let attachment = hub.attach(attach).await?;
        if let Some(start) = attachment.start() {
            held.go_back_to(number(start));
        }
        Ok(Client { handle: attachment.handle(), attachment, held, sent: None })
    }

    /// Takes one event; acknowledges it where asked.
    async fn step(&mut self, acks: bool) -> Result<(), Ended> {
        match self.attachment.next().await? {
            Event::Batch { seq, delivery } => {
                let before = self.sent.map_or(0, |(Seq(seq), _)| seq);
                assert_eq!(seq.0, before + 1, "deliveries are numbered without gaps");
                self.held.take(&delivery);
                let position = delivery.batch.mark.position.as_ref().map(number);
                self.sent = Some((seq, position.unwrap_or(self.sent.map_or(0, |(_, at)| at))));
                if acks {
                    self.ack();
                }
            }
            Event::Position(_) => {}
            Event::Rewind(position) => {
                let position = position.as_ref().map_or(0, number);
                self.held.go_back_to(position);
            }
        }
        Ok(())
    }

    fn ack(&mut self) {
        if let Some((seq, position)) = self.sent {
            assert!(self.handle.ack(seq));
            self.held.acked = self.held.acked.max(position);
        }
    }

    /// Reads until it has this many rows.
    async fn until(&mut self, rows: usize) {
        while self.held.rows.len() < rows {
            let step = tokio::time::timeout(PATIENCE, self.step(true)).await;
            step.unwrap_or_else(|_| panic!("{} of {rows} rows", self.held.rows.len())).unwrap();
        }
    }
}

async fn state_is(running: &Running, name: &str, state: State) {
    eventually(&format!("{name} is {state:?}"), || running.status(name).state == state).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_sinks_and_consumers_the_stream_goes_on_and_is_confirmed() {
    let bench = Bench::new();
    let running = bench.start();
    bench.log.commit(20, 2, 10);
    eventually("it is stored", || bench.store.base() == Some(201)).await;
    eventually("it is confirmed", || bench.log.confirmed() == Some(201)).await;
    running.stop().await;
    bench.log.commit(5, 2, 10);
    let running = bench.start();
    eventually("it goes on", || bench.store.base() == Some(251)).await;
    running.stop().await;
    assert_eq!(bench.log.starts(), [1, 201]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_consumer_goes_on_behind_its_last_acknowledgement() {
    let bench = Bench::new();
    let running = bench.start();
    let mut client = Client::attach(&running.hub, durable("a", From::Latest), Held::default()).await.unwrap();
    assert_eq!(client.attachment.epoch(), 1);
    bench.log.commit(10, 2, 10);
    client.until(20).await;
    state_is(&running, "a", State::Live).await;
    // Read and not acknowledged: it comes again.
    bench.log.commit(5, 2, 10);
    while client.held.rows.len() < 30 {
        client.step(false).await.unwrap();
    }
    let held = client.held.clone();
    drop(client);
    state_is(&running, "a", State::Parked).await;
    bench.log.commit(5, 2, 10);
    eventually("the main stream goes on", || bench.store.base() == Some(201)).await;
    assert_eq!(bench.store.durable_consumer("a").unwrap().hold(), Some(at(101)));
    assert_eq!(bench.log.confirmed(), Some(101), "what it needs is held");

    let mut client = Client::attach(&running.hub, durable("a", From::Stored), held).await.unwrap();
    assert_eq!(client.attachment.start(), Some(&at(101)));
    assert_eq!(client.attachment.epoch(), 2);
    client.until(40).await;
    state_is(&running, "a", State::Live).await;
    bench.log.commit(5, 2, 10);
    client.until(50).await;
    assert_eq!(client.held.rows, bench.log.keys());
    eventually("nothing is held back", || bench.log.confirmed() == Some(251)).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_at_a_time_unless_it_takes_over() {
    let bench = Bench::without_versions();
    let running = bench.start();
    bench.log.commit(3, 1, 10);
    let unknown = Client::attach(&running.hub, durable("a", From::Stored), Held::default()).await;
    assert!(matches!(unknown, Err(Refused::Unknown)));
    let mut first = Client::attach(&running.hub, durable("a", From::At(at(1))), Held::default()).await.unwrap();
    first.until(2).await;
    let second = Client::attach(&running.hub, durable("a", From::Stored), Held::default()).await;
    assert!(matches!(second, Err(Refused::AlreadyAttached { epoch: 1 })));
    let over = Attach { takeover: true, ..durable("a", From::Stored) };
    let mut second = Client::attach(&running.hub, over, first.held.clone()).await.unwrap();
    assert_eq!(second.attachment.epoch(), 2);
    let ended = loop {
        if let Err(ended) = first.step(false).await {
            break ended;
        }
    };
    assert!(matches!(ended, Ended::TakenOver), "{ended:?}");
    // What the first one says now changes nothing.
    first.handle.ack(Seq(1));
    bench.log.commit(3, 1, 10);
    second.until(6).await;
    assert_eq!(second.held.rows, bench.log.keys());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_stops_reading_is_taken_off_and_nobody_waits() {
    let bench = Bench::without_versions();
    let running = bench.start_with(HubOptions { buffer_bytes: 64 << 10, ..HubOptions::default() });
    let mut slow = Client::attach(&running.hub, durable("slow", From::Latest), Held::default()).await.unwrap();
    let mut quick = Client::attach(&running.hub, durable("quick", From::Latest), Held::default()).await.unwrap();
    let mut other = Client::attach(&running.hub, ephemeral(From::Latest), Held::default()).await.unwrap();
    state_is(&running, "slow", State::Live).await;
    bench.log.commit(1, 1, 10);
    slow.until(1).await;
    slow.handle.reading(false);
    bench.log.commit(300, 1, 1000);
    quick.until(301).await;
    other.until(301).await;
    state_is(&running, "slow", State::Waiting).await;
    assert_eq!(running.status("slow").position, Some(at(11)));
    assert_eq!(running.status("slow").queue_bytes, 0, "what it did not read is gone");
    slow.handle.reading(true);
    slow.until(301).await;
    state_is(&running, "slow", State::Live).await;
    bench.log.commit(1, 1, 10);
    for client in [&mut slow, &mut quick, &mut other] {
        client.until(302).await;
        assert_eq!(client.held.rows, bench.log.keys());
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_consumer_gets_its_snapshot_while_others_stream_on() {
    let bench = Bench::new();
    bench.log.set_snapshot_rows(500);
    bench.log.commit(4, 1, 10);
    let running = bench.start();
    eventually("it is at the edge", || bench.store.base() == Some(41)).await;
    let mut first = Client::attach(&running.hub, durable("first", From::Latest), Held::default()).await.unwrap();
    for attach in [durable("late", From::Snapshot), ephemeral(From::Snapshot)] {
        let mut late = Client::attach(&running.hub, attach, Held::default()).await.unwrap();
        assert_eq!(late.attachment.start(), None);
        while late.held.snapshot.1.len() < 100 {
            late.step(true).await.unwrap();
        }
        bench.log.commit(3, 1, 10);
        let all = bench.log.keys();
        let seen = first.held.rows.len();
        first.until(seen + 3).await;
        while late.held.rows.last() != all.last() {
            late.step(true).await.unwrap();
        }
        let (point, rows) = late.held.snapshot.clone();
        assert_eq!(rows, (1..=500).collect::<Vec<u64>>());
        let later: Vec<Key> = all.into_iter().filter(|(commit, _)| *commit > point).collect();
        assert_eq!(late.held.rows, later);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_limit_a_consumer_is_detached_and_proven_when_it_returns() {
    let bench = Bench::new();
    let limits = HubOptions { max_lag_time: Duration::from_secs(5), ..HubOptions::default() };
    let running = bench.start_with(limits);
    let client = Client::attach(&running.hub, durable("a", From::Latest), Held::default()).await.unwrap();
    let mut client = client;
    bench.log.commit(2, 1, 10);
    client.until(2).await;
    let mut stuck = client;
    stuck.handle.reading(false);
    bench.log.commit(20, 1, 10);
    state_is(&running, "a", State::Detached).await;
    let ended = loop {
        if let Err(ended) = stuck.step(false).await {
            break ended;
        }
    };
    assert!(matches!(&ended, Ended::Detached(why) if why.contains("max_lag_time")), "{ended:?}");
    eventually("nothing is held for it", || bench.log.confirmed() == Some(221)).await;
    assert!(running.status("a").last_error.is_some());
    // The server still has it.
    let held = Held { acked: 0, ..stuck.held.clone() };
    let mut again = Client::attach(&running.hub, durable("a", From::Stored), held).await.unwrap();
    again.until(22).await;
    assert_eq!(again.held.rows, bench.log.keys());
    drop(again);
    running.hub.detach("a").await.unwrap();
    bench.log.lose();
    let lost = Client::attach(&running.hub, durable("a", From::Stored), Held::default()).await;
    assert!(matches!(lost, Err(Refused::OutOfRange(_))));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_pauses_moves_and_drops() {
    let bench = Bench::without_versions();
    bench.log.commit(10, 1, 10);
    let running = bench.start();
    let mut client = Client::attach(&running.hub, durable("a", From::At(at(1))), Held::default()).await.unwrap();
    client.until(10).await;
    running.hub.pause("a").await.unwrap();
    assert!(matches!(client.step(false).await, Err(Ended::ByOperator(_))));
    let refused = Client::attach(&running.hub, durable("a", From::Stored), Held::default()).await;
    assert!(matches!(refused, Err(Refused::Paused)));
    running.hub.resume("a").await.unwrap();
    running.hub.set("a", at(51)).await.unwrap();
    let mut client = Client::attach(&running.hub, durable("a", From::Stored), Held::default()).await.unwrap();
    assert_eq!(client.attachment.start(), Some(&at(51)));
    client.until(5).await;
    assert_eq!(client.held.rows, bench.log.keys_from(6));
    running.hub.drop_consumer("a").await.unwrap();
    assert!(running.hub.consumers().is_empty());
    assert!(running.hub.pause("a").await.is_err());
    running.stop().await;
}

/// Numbers that are the same on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A client that reads, sleeps, dies with what it has not acknowledged, and comes back, until it has everything.
async fn unreliable(hub: Hub, name: &'static str, held: Arc<Mutex<Held>>, log: Log, mut dice: Dice, rows: usize) {
    loop {
        let known = held.lock().unwrap().clone();
        let attach = Attach { takeover: dice.below(2) == 0, ..durable(name, From::Stored) };
        let mut client = match Client::attach(&hub, attach, known).await {
            Ok(client) => client,
            Err(Refused::AlreadyAttached { .. } | Refused::Failed(_)) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            Err(refused) => panic!("{refused:?}"),
        };
        let steps = dice.below(120);
        for _ in 0..steps {
            let acks = dice.below(3) > 0;
            match dice.below(40) {
                0 => {
                    client.handle.reading(false);
                    tokio::time::sleep(Duration::from_millis(dice.below(60))).await;
                    client.handle.reading(true);
                }
                1 => tokio::time::sleep(Duration::from_millis(dice.below(20))).await,
                _ => {}
            }
            match tokio::time::timeout(Duration::from_millis(100), client.step(acks)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => break,
                Err(_) => client.ack(),
            }
            if client.held.rows.len() == rows && client.held.acked >= log.end() {
                *held.lock().unwrap() = client.held.clone();
                return;
            }
            // What it acknowledged it holds, whatever happens next.
            let mut kept = held.lock().unwrap();
            if client.held.acked > kept.acked {
                *kept = client.held.clone();
            }
        }
    }
}

/// Clients die and return, the log breaks, the process is killed and starts again: each sees all of it in order.
#[test]
fn every_consumer_sees_everything_in_order() {
    for seed in 1..=6 {
        let mut dice = Dice(seed * 0x0E37_79B9_7F4A_7C15);
        let bench = Bench::new();
        let names = ["a", "b", "c"];
        let held: BTreeMap<&str, Arc<Mutex<Held>>> = names.iter().map(|name| (*name, Arc::default())).collect();
        for round in 0..4 {
            let runtime = runtime();
            let (log, last) = (bench.log.clone(), round == 3);
            runtime.block_on(async {
                let options = HubOptions { buffer_bytes: 32 << 10, max_lanes: 2, ..HubOptions::default() };
                let running = bench.start_with(options);
                for name in names.into_iter().filter(|_| round == 0) {
                    drop(Client::attach(&running.hub, durable(name, From::Latest), Held::default()).await.unwrap());
                }
                for _ in 0..30 {
                    log.commit(5, 1 + dice.below(4) as usize, 100 + dice.below(900) as usize);
                }
                let rows = log.keys().len();
                let clients: Vec<_> = names
                    .iter()
                    .map(|name| {
                        let dice = Dice(dice.below(u64::MAX) | 1);
                        tokio::spawn(unreliable(running.hub.clone(), name, held[name].clone(), log.clone(), dice, rows))
                    })
                    .collect();
                if last {
                    for client in clients {
                        tokio::time::timeout(PATIENCE, client).await.expect("it gets there").unwrap();
                    }
                    running.stop().await;
                } else {
                    tokio::time::sleep(Duration::from_millis(dice.below(400))).await;
                }
            });
            // Everything stops where it is, as by SIGKILL.
            runtime.shutdown_timeout(PATIENCE);
            // Acknowledged is not yet stored: it may come again.
            held.values().for_each(|held| held.lock().unwrap().acked = 0);
        }
        for (name, held) in held {
            assert_eq!(held.lock().unwrap().rows, bench.log.keys(), "consumer {name}, seed {seed}");
        }
    }
}

/// It begins, goes, and comes back from behind: a lane, and its handover. Then more while it is live; it goes and returns.
async fn comes_and_goes(bench: &Bench, running: &Running, held: &Mutex<Held>) {
    for (rows, from) in [(40, From::Latest), (80, From::Stored), (120, From::Stored), (120, From::Stored)] {
        let known = held.lock().unwrap().clone();
        let attached = loop {
            match Client::attach(&running.hub, durable("a", from.clone()), known.clone()).await {
                // The one before is still being cleared away.
                Err(Refused::AlreadyAttached { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
                attached => break attached,
            }
        };
        // Behind a crash nothing goes on.
        let Ok(mut client) = attached else { return std::future::pending().await };
        if bench.log.keys().len() < rows {
            bench.log.commit(20, 2, 200);
        }
        while client.held.rows.len() < rows || running.status("a").state != State::Live {
            match tokio::time::timeout(Duration::from_millis(20), client.step(true)).await {
                Ok(Ok(())) => held.lock().unwrap().clone_from(&client.held),
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) => {}
            }
        }
    }
}

/// The process ends at each write in turn that changes where a consumer is, before it and behind it: whatever step that was of
/// coming, joining and parking, everything is there and goes on.
#[test]
fn a_crash_at_every_step_loses_nothing() {
    for nth in 1.. {
        let mut crashed = false;
        for applied in [false, true] {
            let bench = Bench::new();
            let held = Mutex::new(Held::default());
            bench.store.crash_at(nth, applied);
            let crashing = runtime();
            crashing.block_on(async {
                let running = bench.start();
                let done = tokio::time::timeout(PATIENCE, async {
                    tokio::select! {
                        () = comes_and_goes(&bench, &running, &held) => {}
                        () = bench.store.crashed() => {}
                    }
                });
                done.await.unwrap_or_else(|_| panic!("neither a crash nor all of it: {nth}, applied: {applied}"));
            });
            crashing.shutdown_timeout(PATIENCE);
            crashed |= bench.store.revive();
            runtime().block_on(async {
                let running = bench.start();
                // Without a trace of it nothing had been committed yet.
                let from = if bench.store.durable_consumer("a").is_some() { From::Stored } else { From::Latest };
                // Acknowledged is not yet stored: it may come again, and is not skipped.
                let held = Held { acked: 0, ..held.lock().unwrap().clone() };
                let mut client = Client::attach(&running.hub, durable("a", from), held).await.unwrap();
                bench.log.commit(1, 2, 200);
                client.until(bench.log.keys().len()).await;
                assert_eq!(client.held.rows, bench.log.keys(), "crash at {nth}, applied: {applied}");
                running.stop().await;
            });
        }
        if !crashed {
            assert!(nth > 6, "attaching three times, joining and parking are more writes than {nth}");
            return;
        }
    }
}
