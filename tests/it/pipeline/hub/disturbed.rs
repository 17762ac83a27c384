//! Consumers while something else goes wrong, or is changed under them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

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
