//! A slot that holds, moves on, goes; a failover, proven and not.

use walbrook::record::{Lineage, Lsn, Position};
use walbrook::source::Verdict;
use walbrook::source::postgres::connection::{Connection, Role};
use walbrook::source::postgres::conninfo::ConnInfo;
use walbrook::source::postgres::retention::{Observed, verdict};
use walbrook::source::postgres::sql::Sql;

use crate::support::{Server, Version};

async fn observe(server: &Server) -> Observed {
    let info = ConnInfo::from_process(&server.url("postgres")).unwrap();
    let sql = Sql::connect(&info).await.unwrap();
    let mut replication = Connection::connect(&info, Role::Replication).await.unwrap();
    Observed::ask(&mut replication, &sql, "s").await.unwrap()
}

fn why(verdict: Verdict) -> String {
    verdict.to_string()
}

#[tokio::test]
async fn a_slot_that_holds_moves_on_and_goes() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &[]) else { continue };
        server.psql("postgres", "create table t (id int); select pg_create_logical_replication_slot('s', 'pgoutput')");
        let seen = observe(&server).await;
        let stored = Lineage {
            kind: "postgres".into(),
            system: seen.system.clone(),
            timeline: seen.timeline.to_string(),
            database: seen.database.clone(),
            stream: "s".into(),
        };
        assert_eq!((seen.timeline, seen.history.len()), (1, 0));
        let start = seen.slot.as_ref().unwrap().confirmed_flush_lsn.unwrap();
        assert_eq!(verdict(&stored, start, &seen), Verdict::Valid);
        let ahead = Lsn(seen.tip.0 + (1 << 30));
        assert!(why(verdict(&stored, ahead, &seen)).contains("ahead of the server"));

        // A failover: the standby's promotion leaves the timeline at its end.
        server.psql("postgres", "insert into t values (1)");
        server.stop("fast");
        std::fs::write(server.file("data/standby.signal"), "").unwrap();
        server.start();
        assert_eq!(server.psql("postgres", "select pg_promote(true, 60)"), "t");
        server.psql("postgres", "insert into t values (2)");
        let after = observe(&server).await;
        assert_eq!(after.timeline, 2);
        let [(1, switch)] = after.history[..] else { panic!("{:?}", after.history) };
        assert!(switch >= start && switch < after.tip);
        assert_eq!(verdict(&stored, start, &after), Verdict::Valid);
        assert_eq!(verdict(&stored, switch, &after), Verdict::Valid);
        let beyond = why(verdict(&stored, Lsn(switch.0 + 1), &after));
        assert!(beyond.contains("timeline 1 was left at"), "{beyond}");
        let moved = Lineage { timeline: "2".into(), ..stored.clone() };
        assert_eq!(verdict(&moved, after.tip, &after), Verdict::Valid);

        server.psql("postgres", "select pg_replication_slot_advance('s', pg_current_wal_lsn())");
        let advanced = observe(&server).await;
        let confirmed = advanced.slot.as_ref().unwrap().confirmed_flush_lsn.unwrap();
        let Verdict::Lost(gap) = verdict(&moved, start, &advanced) else { panic!("not lost") };
        assert_eq!(gap.to, Some(Position::Postgres(confirmed)));
        assert_eq!(gap.bytes, Some(confirmed.0 - start.0));

        server.psql("postgres", "select pg_drop_replication_slot('s')");
        assert!(why(verdict(&moved, start, &observe(&server).await)).contains("was dropped"));
    }
}
