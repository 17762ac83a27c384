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
