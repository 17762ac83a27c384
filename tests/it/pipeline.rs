//! The pipeline with a scripted source and scripted sinks: backpressure, failures, acknowledgement, starts and stops.

mod hub;
mod script;
mod store;

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::source::PATIENCE;
use script::{Event, Fault, Journal, Key, Log, Script, ScriptedSource, at};
use store::SharedStore;
use walbrook::error::{Class, Error, Result};
use walbrook::flow::{Progress, Role};
use walbrook::offset::Store;
use walbrook::pipeline::{LostPolicy, Options, Outcome, Pipeline, SinkSpec, SnapshotMode, StartAt, Until};

/// A log, a store, and the pipelines run on them.
struct Bench {
    journal: Journal,
    log: Log,
    store: SharedStore,
    progress: Arc<Progress>,
}

fn options() -> Options {
    Options {
        snapshot: SnapshotMode::Never,
        on_lost_position: LostPolicy::Fail,
        budget_bytes: 1 << 20,
        until: None,
        limit: None,
        commit_interval: Duration::from_millis(1),
        drain_timeout: Duration::from_secs(10),
        wait_for_server: false,
    }
}

fn until_now() -> Options {
    Options { until: Some(Until::Current), ..options() }
}

struct Running {
    stop: watch::Sender<bool>,
    ended: JoinHandle<Result<Outcome>>,
}

impl Running {
    async fn end(self) -> Result<Outcome> {
        tokio::time::timeout(PATIENCE, self.ended).await.expect("it ends in time").expect("no panic")
    }
    async fn stop(self) -> Result<Outcome> {
        self.stop.send_replace(true);
        self.end().await
    }
}

impl Bench {
    fn new() -> Self {
        let journal = Journal::default();
        let progress = Arc::default();
        Bench { log: Log::new(journal.clone()), store: SharedStore::new(&journal), journal, progress }
    }

    fn sink(&self, name: &str) -> Script {
        Script::new(name, &self.journal)
    }

    fn start(&self, sinks: &[&Script], options: Options) -> Running {
        let with_start: Vec<_> = sinks.iter().map(|sink| (*sink, StartAt::Snapshot)).collect();
        self.start_at(&with_start, options)
    }

    fn start_at(&self, sinks: &[(&Script, StartAt)], options: Options) -> Running {
        let (stop, stopped) = watch::channel(false);
        let sinks =
            sinks.iter().map(|(sink, start)| SinkSpec { name: sink.name.clone(), sink: sink.sink(), start: *start });
        let pipeline = Pipeline::new(
            Box::new(ScriptedSource::new(&self.log)),
            Store::new(Box::new(self.store.clone())),
            sinks.collect(),
            options,
            self.progress.clone(),
            stopped,
        );
        Running { stop, ended: tokio::spawn(pipeline.run()) }
    }

    /// What was counted of this class in all runs: errors and reconnects of the source, of a sink, and reconnects of all.
    fn counted(&self, class: Class, sink: &Script) -> [u64; 5] {
        let (source, sink) = (&self.progress.source, self.progress.member(Role::Sink, &sink.name));
        let counts = [&source.errors, &source.reconnects, &sink.failures.errors, &sink.failures.reconnects];
        let [a, b, c, d] = counts.map(|counts| counts.of(class));
        [a, b, c, d, self.progress.reconnects.of(class)]
    }

    async fn run(&self, sinks: &[&Script], options: Options) -> Result<Outcome> {
        self.start(sinks, options).end().await
    }

    fn position(&self, sink: &Script) -> Option<u64> {
        self.store.positions()[&sink.name]
    }
}

async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "not in {PATIENCE:?}: {what}");
}

/// Waits until a number stays the same for a while, and gives it.
async fn settled(mut number: impl FnMut() -> u64) -> u64 {
    let (mut last, mut same) = (number(), 0);
    while same < 10 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = number();
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

#[track_caller]
fn each_once_in_order(keys: &[Key]) {
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
}

/// Everything that is told to the server was stored, and everything stored was durable at its sink, at the time.
#[track_caller]
fn durable_then_stored_then_confirmed(events: &[Event], sinks: &[&Script], from: u64) {
    let mut durable: std::collections::BTreeMap<&str, u64> = sinks.iter().map(|sink| (&*sink.name, from)).collect();
    let mut stored = None;
    let mut confirmed = 0;
    for event in events {
        match event {
            Event::Durable(sink, position) => {
                let known = durable.get_mut(&**sink).expect("a sink of the test");
                *known = (*known).max(*position);
            }
            Event::Stored(positions) => {
                for (sink, position) in positions {
                    assert!(position.is_none_or(|position| position <= durable[&**sink]), "{event:?} of {durable:?}");
                }
                stored = positions.values().copied().min().flatten();
            }
            Event::Confirmed(position) => {
                assert!(*position >= confirmed, "{position} after {confirmed}");
                confirmed = *position;
                assert!(
                    stored.is_some_and(|stored| *position <= stored),
                    "{position} was confirmed, {stored:?} stored"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_sink_stops_the_source_when_the_budget_is_used_and_no_earlier() {
    let bench = Bench::new();
    let (free, stuck) = (bench.sink("free"), bench.sink("stuck"));
    stuck.stick();
    // One row a transaction, a batch each: 1024 bytes of overhead and a row of 6144 make 8 units of the budget's 1024
    // with what describes the row. A budget of 256 KiB holds 32 of them, whatever the sinks do.
    bench.log.commit(200, 1, 6144);
    let running = bench.start(&[&free, &stuck], Options { budget_bytes: 256 * 1024, ..options() });
    // The 33rd waits for the budget: it is scanned, and reaches nobody.
    let sent = settled(|| bench.log.rows_sent()).await;
    assert_eq!(sent, 33);
    assert_eq!(free.durable(), bench.log.keys()[..32], "the other sink went on until then");
    assert!(stuck.durable().is_empty());
    assert_eq!(bench.position(&free), Some(321));
    assert_eq!(bench.position(&stuck), Some(1));
    assert!(!bench.journal.events().iter().any(|event| matches!(event, Event::Confirmed(lsn) if *lsn > 1)));

    stuck.free();
    eventually("all is there", || stuck.durable().len() == 200 && free.durable().len() == 200).await;
    assert_eq!(running.stop().await.unwrap(), Outcome::Stopped);
    assert_eq!((free.durable(), stuck.durable()), (bench.log.keys(), bench.log.keys()));
    durable_then_stored_then_confirmed(&bench.journal.events(), &[&free, &stuck], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_larger_than_the_budget_passes_alone() {
    let bench = Bench::new();
    let sink = bench.sink("a");
    bench.log.commit(2, 2, 3 << 20);
    bench.log.commit(3, 1, 10);
    assert_eq!(bench.run(&[&sink], until_now()).await.unwrap(), Outcome::Reached);
    assert_eq!(sink.durable(), bench.log.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_of_different_speed_keep_their_own_offsets() {
    let bench = Bench::new();
    let (fast, slow) = (bench.sink("fast"), bench.sink("slow").slow(Duration::from_secs(1)));
    bench.log.commit(30, 2, 10);
    let running = bench.start(&[&fast, &slow], Options { drain_timeout: Duration::from_millis(50), ..options() });
    eventually("the fast one is through", || fast.durable().len() == 60).await;
    eventually("its position is stored", || bench.position(&fast) == Some(301)).await;
    let behind = bench.position(&slow).unwrap();
    assert!(behind < 301, "{behind}");
    running.stop().await.unwrap();
    let (fast_rows, slow_rows) = (fast.written().len(), slow.durable().len());
    assert!(slow_rows < 60, "the drain timeout cut it short");

    // The next run starts where the slow one stands, and gives the fast one nothing twice.
    let quick = slow.clone().slow(Duration::ZERO);
    assert_eq!(bench.run(&[&fast, &quick], until_now()).await.unwrap(), Outcome::Reached);
    assert_eq!(fast.written().len(), fast_rows);
    assert_eq!((fast.durable(), quick.durable()), (bench.log.keys(), bench.log.keys()));
    assert_eq!(bench.store.positions().values().collect::<Vec<_>>(), [&Some(301), &Some(301)]);
    durable_then_stored_then_confirmed(&bench.journal.events(), &[&fast, &slow], 1);
}

/// The drain timeout is for a stop: what was asked for is there when the pipeline ends by itself.
#[tokio::test(flavor = "multi_thread")]
async fn up_to_its_end_a_slow_sink_is_waited_for() {
    let bench = Bench::new();
    let slow = bench.sink("slow").slow(Duration::from_millis(30));
    bench.log.commit(10, 2, 10);
    let short = Options { drain_timeout: Duration::from_millis(20), ..until_now() };
    assert_eq!(bench.run(&[&slow], short).await.unwrap(), Outcome::Reached);
    assert_eq!((slow.durable(), bench.position(&slow)), (bench.log.keys(), Some(101)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_fails_gets_everything_behind_its_durable_point_again() {
    let bench = Bench::new();
    // Flushed every 4 records: a transaction of 3 rows has 5.
    let (failing, other) = (bench.sink("failing").batching(4, 1000), bench.sink("other"));
    bench.log.commit(40, 3, 10);
    for calls in [1, 2, 7, 1, 5, 3] {
        failing.fail(calls, Class::Transient);
    }
    assert_eq!(bench.run(&[&failing, &other], until_now()).await.unwrap(), Outcome::Reached);
    assert_eq!(failing.opens(), 1 + 6);
    assert_eq!((failing.durable(), other.durable()), (bench.log.keys(), bench.log.keys()));
    assert_eq!(other.written().len(), 120, "the other one gets nothing twice");
    assert_eq!(other.opens(), 1);
    assert_eq!(bench.counted(Class::Transient, &failing), [0, 0, 6, 6, 6]);
    assert_eq!(bench.counted(Class::Transient, &other), [0, 0, 0, 0, 6]);
    let again = failing.written().len() - 120;
    assert!((1..=6 * 6).contains(&again), "only what was not durable, {again} rows, came again");
    durable_then_stored_then_confirmed(&bench.journal.events(), &[&failing, &other], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_inside_a_large_transaction_keeps_what_was_flushed_of_it() {
    let bench = Bench::new();
    let sink = bench.sink("a");
    // 1 MiB of budget makes batches of 128 KiB: some 40 of them, each flushed.
    bench.log.commit(1, 5000, 1000);
    bench.log.commit(2, 1, 10);
    for calls in [5, 6, 7, 8] {
        sink.fail(calls, Class::Transient);
    }
    assert_eq!(bench.run(&[&sink], until_now()).await.unwrap(), Outcome::Reached);
    assert_eq!(sink.durable(), bench.log.keys());
    assert!(sink.written().len() < 2 * 5002, "not all of it came again");
    durable_then_stored_then_confirmed(&bench.journal.events(), &[&sink], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_fails_for_good_ends_the_pipeline_and_the_others_are_drained() {
    let bench = Bench::new();
    let (failing, other) = (bench.sink("failing"), bench.sink("other").slow(Duration::from_millis(5)));
    bench.log.commit(20, 1, 10);
    failing.fail(21, Class::Data);
    let error = bench.run(&[&failing, &other], options()).await.unwrap_err();
    assert_eq!(error.class(), Class::Data);
    assert!(format!("{error:?}").contains("sink failing"), "{error:?}");
    assert_eq!(bench.counted(Class::Data, &failing), [0, 0, 1, 0, 0], "it was not tried again");
    // What had been delivered when it failed is durable and stored at the other one.
    let drained = other.durable();
    assert!(drained.len() >= 10, "{drained:?}");
    assert_eq!(drained, bench.log.keys()[..drained.len()]);
    assert_eq!(bench.position(&other), Some(drained.len() as u64 * 10 + 1));
    assert_eq!(bench.position(&failing), Some(101), "ten writes and flushes, the eleventh write failed");
    durable_then_stored_then_confirmed(&bench.journal.events(), &[&failing, &other], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_breaks_inside_a_transaction_repeats_nothing_at_the_sinks() {
    let bench = Bench::new();
    let (one, two) = (bench.sink("one"), bench.sink("two").slow(Duration::from_millis(1)));
    bench.log.commit(10, 6, 10);
    for (transaction, rows) in [(1, 0), (2, 3), (2, 5), (5, 1), (9, 5)] {
        bench.log.fail(Fault { transaction, rows, class: Class::Transient });
    }
    assert_eq!(bench.run(&[&one, &two], until_now()).await.unwrap(), Outcome::Reached);
    assert_eq!(bench.log.starts(), [1, 1, 11, 11, 41, 81], "each time from the last whole transaction");
    assert!(bench.log.rows_sent() > 60, "the source did send rows again");
    assert_eq!(bench.counted(Class::Transient, &one), [5, 5, 0, 0, 5]);
    for sink in [&one, &two] {
        assert_eq!(sink.written(), bench.log.keys());
        assert_eq!(sink.ends(), (1..=10).map(|n| n * 10).collect::<Vec<u64>>(), "every transaction ends once");
    }
    durable_then_stored_then_confirmed(&bench.journal.events(), &[&one, &two], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_for_good_ends_the_pipeline_behind_what_it_has_delivered() {
    let bench = Bench::new();
    let sink = bench.sink("a").slow(Duration::from_millis(2));
    bench.log.commit(10, 2, 10);
    bench.log.fail(Fault { transaction: 6, rows: 1, class: Class::Data });
    let error = bench.run(&[&sink], options()).await.unwrap_err();
    assert_eq!(error.class(), Class::Data);
    assert_eq!(bench.position(&sink), Some(51));
    assert_eq!(sink.durable(), bench.log.keys()[..11], "with the row in front of the break");
    assert_eq!(bench.counted(Class::Data, &sink), [1, 0, 0, 0, 0]);
    // Going on delivers the torn transaction as a whole, and the sink takes back its part of it.
    assert_eq!(bench.run(&[&sink], until_now()).await.unwrap(), Outcome::Reached);
    assert_eq!(sink.durable(), bench.log.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_added_later_starts_as_configured_and_one_removed_holds_nothing_back() {
    let bench = Bench::new();
    let (first, from_now, from_snapshot) = (bench.sink("first"), bench.sink("from_now"), bench.sink("from_snapshot"));
    bench.log.set_snapshot_rows(25);
    bench.log.commit(4, 1, 10);
    let initial = || Options { snapshot: SnapshotMode::Initial, ..until_now() };
    bench.run(&[&first], initial()).await.unwrap();
    let snapshot: Vec<Key> = (1..=25).map(|ordinal| (41, ordinal)).collect();
    assert_eq!(first.durable(), snapshot);
    bench.log.commit(2, 1, 10);

    let sinks = [(&first, StartAt::Snapshot), (&from_now, StartAt::Now), (&from_snapshot, StartAt::Snapshot)];
    bench.start_at(&sinks, initial()).end().await.unwrap();
    bench.log.commit(3, 1, 10);
    bench.start_at(&sinks, initial()).end().await.unwrap();
    assert_eq!(bench.log.snapshots(), 2);
    assert_eq!(first.durable(), [snapshot, bench.log.keys_from(5)].concat(), "no row of the second snapshot");
    assert_eq!(from_now.durable(), bench.log.keys_from(7));
    let later: Vec<Key> = (1..=25).map(|ordinal| (61, ordinal)).collect();
    assert_eq!(from_snapshot.durable(), [later, bench.log.keys_from(7)].concat());
    assert!(bench.store.positions().values().all(|position| *position == Some(91)));

    // One is stuck and holds the confirmed position back, until it is removed.
    from_now.stick();
    bench.log.commit(1, 1, 10);
    let short = Options { drain_timeout: Duration::from_millis(50), ..initial() };
    let running = bench.start_at(&sinks, short);
    eventually("it is stored", || [&first, &from_snapshot].iter().all(|sink| bench.position(sink) == Some(101))).await;
    running.stop().await.unwrap();
    let confirmed = |bench: &Bench| {
        let all = bench.journal.events().into_iter().rev();
        all.filter_map(|event| if let Event::Confirmed(lsn) = event { Some(lsn) } else { None }).next()
    };
    assert_eq!(confirmed(&bench), Some(91));
    bench.run(&[&first, &from_snapshot], initial()).await.unwrap();
    assert_eq!(confirmed(&bench), Some(101));
    assert!(!bench.store.positions().contains_key("from_now"));
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_and_until_are_exact() {
    let bench = Bench::new();
    let (one, two) = (bench.sink("one"), bench.sink("two"));
    bench.log.commit(10, 3, 10);
    let limited = |limit| Options { limit: Some(limit), ..options() };
    assert_eq!(bench.run(&[&one, &two], limited(6)).await.unwrap(), Outcome::LimitReached);
    let keys = bench.log.keys();
    assert!(one.durable() == keys[..6] || two.durable() == keys[..6]);
    for sink in [&one, &two] {
        assert!(sink.durable().len() <= 6);
    }
    let until = |lsn| Options { until: Some(Until::At(at(lsn))), ..options() };
    // Transactions that are committed before the position: at 20, 30, 40.
    assert_eq!(bench.run(&[&one, &two], until(50)).await.unwrap(), Outcome::Reached);
    assert_eq!((one.durable(), two.durable()), (keys[..12].to_vec(), keys[..12].to_vec()));
    assert_eq!(bench.run(&[&one, &two], until(51)).await.unwrap(), Outcome::Reached);
    assert_eq!(one.durable(), keys[..15]);
    assert_eq!(bench.run(&[&one, &two], until_now()).await.unwrap(), Outcome::Reached);
    assert_eq!((one.durable(), two.durable()), (keys.clone(), keys));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_inside_a_transaction_stores_its_beginning() {
    let bench = Bench::new();
    let sink = bench.sink("a");
    bench.log.commit(3, 4, 10);
    let limited = Options { limit: Some(6), ..options() };
    assert_eq!(bench.run(&[&sink], limited).await.unwrap(), Outcome::LimitReached);
    assert_eq!(sink.written(), bench.log.keys()[..6]);
    assert_eq!(bench.position(&sink), Some(20), "resuming there delivers the second transaction again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_drains_in_the_snapshot_and_in_the_stream() {
    let bench = Bench::new();
    let sink = bench.sink("a");
    bench.log.set_snapshot_rows(10_000);
    sink.stick();
    let initial = Options { snapshot: SnapshotMode::Initial, budget_bytes: 64 * 1024, ..options() };
    let running = bench.start(&[&sink], initial.clone());
    settled(|| bench.log.rows_sent()).await;
    running.stop.send_replace(true);
    sink.free();
    assert_eq!(running.end().await.unwrap(), Outcome::Stopped);
    assert_eq!(bench.position(&sink), None, "an unfinished snapshot is no position");
    let delivered = sink.durable().len();
    assert!(delivered > 0 && delivered < 10_000, "{delivered}");

    // It starts over (this source keeps no progress), and a stop of the stream leaves nothing undelivered.
    bench.log.commit(3, 1, 10);
    let again = bench.sink("b");
    let running = bench.start(&[&again], initial);
    eventually("the snapshot is through", || again.durable().len() == 10_000).await;
    bench.log.commit(5, 1, 10);
    eventually("the stream goes on", || again.durable().len() > 10_000).await;
    assert_eq!(running.stop().await.unwrap(), Outcome::Stopped);
    let streamed = again.durable()[10_000..].to_vec();
    assert_eq!(streamed, bench.log.keys_from(4)[..streamed.len()]);
    assert_eq!(bench.position(&again), Some(31 + 10 * streamed.len() as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_a_stuck_sink_no_longer_than_the_drain_timeout() {
    let bench = Bench::new();
    let (stuck, other) = (bench.sink("stuck"), bench.sink("other"));
    stuck.stick();
    bench.log.commit(500, 1, 6000);
    let short = Options { budget_bytes: 256 * 1024, drain_timeout: Duration::from_millis(200), ..options() };
    let running = bench.start(&[&stuck, &other], short);
    settled(|| bench.log.rows_sent() + other.durable().len() as u64).await;
    let is_stored = || bench.position(&other) == Some(other.durable().len() as u64 * 10 + 1);
    eventually("what the other has is stored", is_stored).await;
    let since = std::time::Instant::now();
    assert_eq!(running.stop().await.unwrap(), Outcome::Stopped);
    assert!(since.elapsed() < PATIENCE, "{:?}", since.elapsed());
    assert_eq!(bench.position(&stuck), Some(1));
    assert_eq!(bench.position(&other), Some(other.durable().len() as u64 * 10 + 1));
    stuck.free();
    assert_eq!(bench.run(&[&stuck, &other], until_now()).await.unwrap(), Outcome::Reached);
    assert_eq!((stuck.durable(), other.durable()), (bench.log.keys(), bench.log.keys()));
    assert_eq!(other.written().len(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_position_fails_or_starts_over_as_the_policy_says() {
    let bench = Bench::new();
    let sink = bench.sink("a");
    bench.log.set_snapshot_rows(5);
    bench.log.commit(3, 1, 10);
    let initial = Options { snapshot: SnapshotMode::Initial, ..until_now() };
    bench.run(&[&sink], initial.clone()).await.unwrap();
    let stored = bench.store.positions();
    bench.log.commit(1, 1, 10);

    bench.log.lose();
    let error: Error = bench.run(&[&sink], initial.clone()).await.unwrap_err();
    assert_eq!((error.class(), error.class().exit_code()), (Class::Lost, 3));
    let text = format!("{error:?}");
    assert!(text.contains("the test took it") && text.contains("5 bytes"), "{text}");
    assert_eq!(bench.store.positions(), stored, "nothing was overwritten");
    assert_eq!(bench.log.snapshots(), 1);
    assert_eq!(bench.counted(Class::Lost, &sink), [1, 0, 0, 0, 0]);

    let over = Options { on_lost_position: LostPolicy::Resnapshot, ..initial };
    let fresh = sink.clone();
    assert_eq!(bench.run(&[&fresh], over.clone()).await.unwrap(), Outcome::Reached);
    assert_eq!(bench.log.snapshots(), 2);
    let rows = fresh.durable();
    assert_eq!(rows[rows.len() - 5..], [(41, 1), (41, 2), (41, 3), (41, 4), (41, 5)]);
    assert_eq!(bench.position(&fresh), Some(41));

    // Lost while the stream is broken: the same, without a restart.
    bench.log.commit(2, 2, 10);
    bench.log.lose_at_reconnect(6, 1);
    assert_eq!(bench.run(&[&fresh], over).await.unwrap(), Outcome::Reached);
    assert_eq!(bench.log.snapshots(), 3);
    assert_eq!(bench.position(&fresh), Some(61));
    assert_eq!(bench.counted(Class::Lost, &sink), [3, 2, 0, 0, 2], "the first of the three ended its run");
    assert_eq!(bench.counted(Class::Transient, &sink), [1, 1, 0, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_over_does_not_forget_a_stuck_sink() {
    let bench = Bench::new();
    let (stuck, other) = (bench.sink("stuck"), bench.sink("other"));
    bench.log.set_snapshot_rows(2);
    let initial = Options { snapshot: SnapshotMode::Initial, ..until_now() };
    bench.run(&[&stuck, &other], initial.clone()).await.unwrap();
    stuck.stick();
    bench.log.commit(2, 1, 10);
    bench.log.lose_at_reconnect(2, 0);
    let over = Options {
        on_lost_position: LostPolicy::Resnapshot,
        drain_timeout: Duration::from_millis(100),
        ..initial.clone()
    };
    let error = bench.run(&[&stuck, &other], over.clone()).await.unwrap_err();
    assert_eq!(error.class(), Class::Lost);
    assert_eq!(bench.store.positions()["stuck"], Some(1), "it is still known");
    stuck.free();
    bench.log.lose();
    assert_eq!(bench.run(&[&stuck, &other], over).await.unwrap(), Outcome::Reached);
    for sink in [&stuck, &other] {
        assert_eq!(sink.durable()[sink.durable().len() - 2..], [(21, 1), (21, 2)]);
        assert_eq!(bench.position(sink), Some(21));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_of_an_idle_database_take_the_same_path() {
    let bench = Bench::new();
    let (one, two) = (bench.sink("one"), bench.sink("two"));
    bench.log.commit(2, 1, 10);
    let running = bench.start(&[&one, &two], options());
    eventually("the rows are stored", || bench.store.positions().values().all(|at| *at == Some(21))).await;
    for position in [25, 28, 1000] {
        bench.log.keepalive(position);
        eventually("it follows", || bench.store.positions().values().all(|at| *at == Some(position))).await;
        eventually("it is confirmed", || bench.journal.events().contains(&Event::Confirmed(position))).await;
    }
    // With a stuck sink nothing moves, though there is nothing to write but a position.
    two.stick();
    bench.log.keepalive(2000);
    eventually("the free one follows", || bench.position(&one) == Some(2000)).await;
    settled(|| bench.journal.events().len() as u64).await;
    assert_eq!(bench.position(&two), Some(1000));
    assert!(!bench.journal.events().contains(&Event::Confirmed(2000)));
    two.free();
    eventually("it is confirmed", || bench.journal.events().contains(&Event::Confirmed(2000))).await;
    running.stop().await.unwrap();
    let events: Vec<Event> = bench.journal.events();
    let stored =
        events.iter().position(|event| matches!(event, Event::Stored(all) if all.values().all(|at| *at == Some(2000))));
    let confirmed = events.iter().position(|event| *event == Event::Confirmed(2000));
    assert!(stored.unwrap() < confirmed.unwrap());
}

/// What happens to a pipeline at random.
#[derive(Clone, Debug)]
struct Schedule {
    transactions: Vec<(usize, usize)>,
    breaks: Vec<(u64, usize)>,
    /// Of each sink: records a flush, milliseconds a write, failures.
    sinks: Vec<(usize, u64, Vec<u32>)>,
    budget_kib: usize,
    /// How each run but the last ends, and after how many milliseconds.
    ends: Vec<(u64, End)>,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Stop {
        drain_ms: u64,
    },
    /// Everything stops where it is, as by SIGKILL.
    Kill,
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let transactions = proptest::collection::vec((0usize..12, 1usize..3000), 1..30);
    let breaks = proptest::collection::vec((1u64..30, 0usize..12), 0..6);
    let sink = (1usize..20, 0u64..3, proptest::collection::vec(1u32..15, 0..3));
    let sinks = proptest::collection::vec(sink, 1..4);
    let end = prop_oneof![(0u64..40).prop_map(|drain_ms| End::Stop { drain_ms }), Just(End::Kill)];
    let ends = proptest::collection::vec((0u64..40, end), 0..5);
    (transactions, breaks, sinks, 8usize..200, ends).prop_map(|(transactions, mut breaks, sinks, budget_kib, ends)| {
        breaks.sort();
        Schedule { transactions, breaks, sinks, budget_kib, ends }
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn play(schedule: Schedule) {
    let bench = Bench::new();
    let mut sinks = Vec::new();
    for (number, (records, delay_ms, _)) in schedule.sinks.iter().enumerate() {
        let sink = bench.sink(&format!("s{number}")).batching(*records, 2).slow(Duration::from_millis(*delay_ms));
        sinks.push(sink);
    }
    let sinks: Vec<&Script> = sinks.iter().collect();
    // The first run stores where the sinks begin; what a sink holds before that nobody knows.
    runtime().block_on(bench.run(&sinks, until_now())).unwrap();
    for (rows, bytes) in &schedule.transactions {
        bench.log.commit(1, *rows, *bytes);
    }
    for (transaction, rows) in schedule.breaks {
        bench.log.fail(Fault { transaction, rows, class: Class::Transient });
    }
    for (sink, (_, _, failures)) in sinks.iter().zip(schedule.sinks) {
        failures.into_iter().for_each(|calls| sink.fail(calls, Class::Transient));
    }
    let budget = Options { budget_bytes: schedule.budget_kib * 1024, ..options() };
    for (after_ms, end) in schedule.ends {
        let drain_ms = if let End::Stop { drain_ms } = end { drain_ms } else { 0 };
        let options = Options { drain_timeout: Duration::from_millis(drain_ms), ..budget.clone() };
        let runtime = runtime();
        let running = runtime.block_on(async {
            let running = bench.start(&sinks, options);
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            running
        });
        if let End::Stop { .. } = end {
            runtime.block_on(running.stop()).unwrap();
        }
        runtime.shutdown_timeout(PATIENCE);
    }
    let whole = Options { until: Some(Until::Current), ..budget };
    assert_eq!(runtime().block_on(bench.run(&sinks, whole)).unwrap(), Outcome::Reached);
    for sink in &sinks {
        assert_eq!(sink.durable(), bench.log.keys(), "sink {}", sink.name);
        each_once_in_order(&sink.durable());
        assert_eq!(bench.position(sink), Some(bench.log.end()), "sink {}", sink.name);
    }
    durable_then_stored_then_confirmed(&bench.journal.events(), &sinks, 1);
}

/// Each case runs for a tenth of a second or two.
const CASES: u32 = 60;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Whatever breaks, stops and is killed: every sink ends with everything once and in order, and the server never
    /// hears of a position that not every sink has.
    #[test]
    fn nothing_is_lost_whatever_happens(schedule in schedule()) {
        play(schedule);
    }
}
