//! Consumers while something else goes wrong, or is changed under them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::script::{Fault, Script};
use super::*;
use walbrook::error::Class;
use walbrook::flow::Role;
use walbrook::offset::OffsetStore;
use walbrook::pipeline::{LostPolicy, SnapshotMode, StartAt};
use walbrook::record::SinkOffset;

/// One thread, and a disk that does not answer: who looks at the store meanwhile waits, and the stream does not.
#[test]
fn a_store_that_hangs_holds_up_no_delivery() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let bench = Bench::new();
        let running = bench.start();
        let mut client = Client::attach(&running.hub, durable("a", From::Latest), Held::default()).await.unwrap();
        bench.log.commit(1, 1, 10);
        client.until(1).await;
        state_is(&running, "a", State::Live).await;
        bench.store.hang(true);
        bench.log.commit(1, 1, 10);
        client.until(2).await;
        eventually("what it acknowledged is being stored", || bench.store.is_waited_for()).await;
        let (hub, looks) = (running.hub.clone(), Arc::new(AtomicBool::new(false)));
        let looking = looks.clone();
        let looked = tokio::spawn(async move {
            looking.store(true, Ordering::SeqCst);
            hub.consumers().len()
        });
        eventually("somebody looks", || looks.load(Ordering::SeqCst)).await;
        // A thread that is held up fires no timer either.
        let (store, (streamed, given_up)) = (bench.store.clone(), std::sync::mpsc::channel());
        let disk = std::thread::spawn(move || {
            let streamed = given_up.recv_timeout(PATIENCE).is_ok();
            store.hang(false);
            streamed
        });
        bench.log.commit(1, 1, 10);
        client.step(true).await.unwrap();
        // Nobody waits for it, where it is too late.
        let _ = streamed.send(());
        assert!(disk.join().unwrap(), "the stream waited for the disk");
        assert_eq!(looked.await.unwrap(), 1);
        client.until(3).await;
        assert_eq!(client.held.rows, bench.log.keys());
        running.stop().await;
    });
}

/// It leaves while its lane is still saying goodbye, with changes of the live stream acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_between_lane_and_live_stream_does_not_come_again() {
    let bench = Bench::without_versions();
    bench.log.commit(10, 1, 10);
    let running = bench.start();
    eventually("it is at the edge", || bench.store.base() == Some(101)).await;
    let mut client = Client::attach(&running.hub, durable("a", From::At(at(1))), Held::default()).await.unwrap();
    // The sources that were asked whether the position is covered are gone.
    let asked = bench.log.lanes_closing();
    bench.log.let_lanes_close(false);
    client.until(10).await;
    eventually("the lane has ended", || bench.log.lanes_closing() > asked).await;
    bench.log.commit(5, 1, 10);
    client.until(15).await;
    assert_eq!(running.status("a").state, State::Lane);
    let held = client.held.clone();
    drop(client);
    bench.log.let_lanes_close(true);
    eventually("it has left", || !running.status("a").attached).await;
    let client = Client::attach(&running.hub, durable("a", From::Stored), held).await.unwrap();
    assert_eq!(client.attachment.start(), Some(&at(151)));
    drop(client);
    running.stop().await;
}

/// A sink that takes nothing holds the stream up behind the server's end; who wants the latest gets what comes behind that,
/// all of it, when the stream is there.
#[tokio::test(flavor = "multi_thread")]
async fn latest_is_the_servers_end_where_the_stream_is_behind() {
    let bench = Bench::without_versions();
    let sink = Script::new("sink", &Journal::default());
    sink.stick();
    let spec = SinkSpec { name: "sink".to_owned(), sink: sink.sink(), start: StartAt::Now };
    let running = bench.start_as(options(), vec![spec], HubOptions::default());
    eventually("it has begun", || bench.store.base().is_some()).await;
    bench.log.commit(40, 1, 100_000);
    let read = super::super::settled(|| bench.log.rows_sent()).await;
    assert!((1..40).contains(&read), "the budget of 1 MiB is used after {read} rows");
    let hub = &running.hub;
    let mut named = Client::attach(hub, durable("named", From::Latest), Held::default()).await.unwrap();
    let mut nameless = Client::attach(hub, ephemeral(From::Latest), Held::default()).await.unwrap();
    for client in [&named, &nameless] {
        assert_eq!(client.attachment.start(), Some(&at(401)));
    }
    let gone = Client::attach(hub, durable("gone", From::Latest), Held::default()).await.unwrap();
    drop(gone);
    state_is(&running, "gone", State::Parked).await;
    bench.log.commit(2, 1, 10);
    sink.free();
    bench.log.commit(3, 1, 10);
    let mut back = Client::attach(hub, durable("gone", From::Stored), Held::default()).await.unwrap();
    assert_eq!(back.attachment.start(), Some(&at(401)));
    for client in [&mut named, &mut nameless, &mut back] {
        client.until(5).await;
        assert_eq!(client.held.rows, bench.log.keys_from(41), "nothing of what was before, and no gap");
    }
    eventually("nothing is held back", || bench.log.confirmed() == Some(451)).await;
    let late = Client::attach(hub, durable("late", From::Latest), Held::default()).await.unwrap();
    assert_eq!(late.attachment.start(), Some(&at(451)));
    drop((named, nameless, back, late));
    running.stop().await;
}

/// What a consumer's lane fails of is the consumer's failure, and none of the main stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_breaks_counts_for_its_consumer() {
    let bench = Bench::without_versions();
    bench.log.commit(20, 1, 10);
    let running = bench.start();
    eventually("it is at the edge", || bench.store.base() == Some(201)).await;
    let failures = || bench.progress.member(Role::Consumer, "a").failures.clone();
    let counted = |class: Class| {
        let failures = failures();
        [&failures.errors, &failures.reconnects, &*bench.progress.reconnects].map(|counts| counts.of(class))
    };
    bench.log.fail(Fault { transaction: 5, rows: 0, class: Class::Transient });
    let mut client = Client::attach(&running.hub, durable("a", From::At(at(1))), Held::default()).await.unwrap();
    client.until(20).await;
    assert_eq!(client.held.rows, bench.log.keys());
    state_is(&running, "a", State::Live).await;
    assert_eq!((counted(Class::Transient), failures().current()), ([1, 1, 1], None));
    drop(client);
    eventually("it has left", || !running.status("a").attached).await;

    bench.log.fail(Fault { transaction: 5, rows: 0, class: Class::Data });
    let mut client = Client::attach(&running.hub, durable("a", From::At(at(1))), Held::default()).await.unwrap();
    let ended = loop {
        if let Err(ended) = client.step(true).await {
            break ended;
        }
    };
    assert!(matches!(&ended, Ended::Failed(error) if error.class() == Class::Data), "{ended:?}");
    assert_eq!((counted(Class::Data), failures().current().is_some()), ([1, 0, 0], true));
    assert_eq!(bench.progress.source.errors.total(), 0);
    running.stop().await;
}

/// The stream starts over with a snapshot for its sinks: the consumers, there or not, are told that they lost their place, and
/// may begin anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_starts_over_detaches_its_consumers() {
    let bench = Bench::without_versions();
    let sink = Script::new("sink", &Journal::default());
    let options = Options { snapshot: SnapshotMode::Initial, on_lost_position: LostPolicy::Resnapshot, ..options() };
    let spec = SinkSpec { name: "sink".to_owned(), sink: sink.sink(), start: StartAt::Snapshot };
    let running = bench.start_as(options, vec![spec], HubOptions::default());
    let mut live = Client::attach(&running.hub, durable("live", From::Latest), Held::default()).await.unwrap();
    let mut gone = Client::attach(&running.hub, durable("gone", From::Latest), Held::default()).await.unwrap();
    bench.log.commit(3, 1, 10);
    live.until(3).await;
    gone.until(3).await;
    drop(gone);
    state_is(&running, "gone", State::Parked).await;
    state_is(&running, "live", State::Live).await;
    let snapshots = bench.log.snapshots();
    bench.log.lose_at_reconnect(4, 0);
    bench.log.commit(2, 1, 10);
    let ended = loop {
        if let Err(ended) = live.step(true).await {
            break ended;
        }
    };
    assert!(matches!(&ended, Ended::Detached(why) if why.contains("started over")), "{ended:?}");
    eventually("the snapshot is taken again", || bench.log.snapshots() > snapshots).await;
    for name in ["live", "gone"] {
        state_is(&running, name, State::Detached).await;
        let why = running.status(name).last_error.unwrap();
        assert!(why.contains("started over"), "{why}");
    }
    eventually("the stream goes on, and nothing is held for them", || bench.log.confirmed() == Some(51)).await;
    eventually("its client is cleared away", || !running.status("live").attached).await;
    bench.log.lose();
    let refused = Client::attach(&running.hub, durable("gone", From::Stored), Held::default()).await;
    assert!(matches!(refused, Err(Refused::OutOfRange(_))));
    let mut anew = Client::attach(&running.hub, durable("live", From::Latest), Held::default()).await.unwrap();
    bench.log.commit(2, 1, 10);
    anew.until(2).await;
    assert_eq!(anew.held.rows, bench.log.keys_from(6));
    running.stop().await;
}

/// What was handed over of a transaction is rolled back by the server: who is live is told so, and gets what comes instead.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_is_void_for_live_consumers() {
    // For one that nothing is held for, the state is what it is by then.
    let kept = (Bench::new(), durable("kept", From::Latest));
    for (bench, attach) in [kept, (Bench::without_versions(), ephemeral(From::Latest))] {
        let running = bench.start();
        let mut client = Client::attach(&running.hub, attach, Held::default()).await.unwrap();
        bench.log.commit(3, 1, 10);
        client.until(3).await;
        eventually("it is live", || running.hub.consumers()[0].state == State::Live).await;
        eventually("it is stored", || bench.store.base() == Some(31)).await;
        bench.log.retract(4);
        bench.log.commit(3, 4, 10);
        client.until(15).await;
        assert_eq!(client.held.rows, bench.log.keys());
        assert!(bench.log.starts().len() > 1, "{:?}", bench.log.starts());
        eventually("all of it is acknowledged", || bench.log.confirmed() == Some(61)).await;
        running.stop().await;
    }
}

/// An operator puts a consumer back while its client reads, and a sink while the process is down: the one gets it again, and the
/// others nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_back_is_read_again_and_nobody_else_notices() {
    let bench = Bench::without_versions();
    let sink = Script::new("sink", &Journal::default());
    let spec = || vec![SinkSpec { name: "sink".to_owned(), sink: sink.sink(), start: StartAt::Now }];
    let running = bench.start_as(options(), spec(), HubOptions::default());
    let mut back = Client::attach(&running.hub, durable("back", From::Latest), Held::default()).await.unwrap();
    let mut other = Client::attach(&running.hub, durable("other", From::Latest), Held::default()).await.unwrap();
    bench.log.commit(10, 1, 10);
    back.until(10).await;
    other.until(10).await;
    state_is(&running, "back", State::Live).await;
    running.hub.set("back", at(41)).await.unwrap();
    assert!(matches!(back.step(false).await, Err(Ended::ByOperator(_))));
    let mut back = Client::attach(&running.hub, durable("back", From::Stored), Held::default()).await.unwrap();
    assert_eq!(back.attachment.start(), Some(&at(41)));
    bench.log.commit(1, 1, 10);
    back.until(7).await;
    other.until(11).await;
    assert_eq!((&back.held.rows, &other.held.rows), (&bench.log.keys_from(5), &bench.log.keys()));
    eventually("the sink has it", || bench.store.positions()["sink"] == Some(111)).await;
    let held = other.held.clone();
    drop((back, other));
    eventually("they have left", || running.hub.consumers().iter().all(|consumer| !consumer.attached)).await;
    running.stop().await;

    bench.store.clone().set("sink", &SinkOffset { position: Some(at(21)), token: None }).unwrap();
    let written = sink.written().len();
    let running = bench.start_as(options(), spec(), HubOptions::default());
    let mut other = Client::attach(&running.hub, durable("other", From::Stored), held).await.unwrap();
    bench.log.commit(2, 1, 10);
    other.until(13).await;
    assert_eq!(other.held.rows, bench.log.keys());
    eventually("the sink has all behind it again", || sink.written().len() == written + 11).await;
    assert_eq!(sink.written()[written..], bench.log.keys_from(3)[..]);
    running.stop().await;
}
