//! What a snapshot waits for before it begins, and who waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Taker, block_on};
use crate::source::eventually;
use crate::support::AtEnd;
use crate::support::mysql::{Server, Version};

/// A question that runs for long keeps FLUSH TABLES WITH READ LOCK from its end, and everybody who writes behind it.
#[test]
fn a_long_query_does_not_make_writers_wait_for_long() {
    let Some(server) = Server::own(Version::MySql97, &[]) else { return };
    let db = server.database("long_query");
    db.sql("create table t (id int primary key); insert into t values (1), (2)");
    let (mut reader, mut writer) = (server.session(db.name()), server.session(db.name()));
    reader.send("select sleep(100) from t");
    eventually("the question is being answered", || {
        db.sql("select count(*) from information_schema.processlist where info like 'select sleep%'") == "1"
    });
    let stop = AtomicBool::new(false);
    let (longest, way) = std::thread::scope(|scope| {
        let write = || {
            let mut longest = Duration::ZERO;
            for id in 10.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let begun = std::time::Instant::now();
                writer.sql(&format!("insert into t values ({id})"));
                longest = longest.max(begun.elapsed());
            }
            longest
        };
        let writing = scope.spawn(write);
        let end = AtEnd(|| stop.store(true, Ordering::Relaxed));
        let begun = std::time::Instant::now();
        let taken = block_on(async { Taker::new(&db.url(), db.name(), 3, 3000).await.all().await });
        let way = (begun.elapsed(), taken.1["t"].len());
        drop(end);
        (writing.join().unwrap(), way)
    });
    assert!(longest.as_secs() < 60, "a writer waited for {longest:?}");
    assert!(way.0.as_secs() < 90 && way.1 >= 2, "{way:?}");
}

/// Rows of a prepared XA transaction are in the log before the point and not in the snapshot.
#[test]
fn prepared_transactions_are_waited_for() {
    for version in [Version::MySql97, Version::MariaDb1011] {
        let Some(server) = Server::own(version, &[]) else { continue };
        let db = server.database("prepared");
        db.sql("create table t (id int primary key)");
        if !version.is_mariadb() {
            db.sql(&format!("grant xa_recover_admin on *.* to {}", db.user()));
        }
        let mut session = server.session(db.name());
        session.sql("xa start 'x'; insert into t values (1); xa end 'x'; xa prepare 'x'");
        let commits = Arc::new(AtomicBool::new(false));
        let committing = commits.clone();
        let committed = std::thread::spawn(move || {
            // It is waited for during 2 s.
            std::thread::sleep(Duration::from_millis(700));
            committing.store(true, Ordering::Relaxed);
            session.sql("xa commit 'x'");
        });
        let (_, rows) = block_on(async { Taker::new(&db.url(), db.name(), 2, 3000).await.all().await });
        assert!(commits.load(Ordering::Relaxed), "{}: it was not waited for", version.name());
        assert_eq!(rows["t"].len(), 1);
        committed.join().unwrap();
    }
}
