//! Dumps of the log: by file and by GTIDs, with heartbeats, huge events, semi-synchronous replies, and their ends.

use std::time::Duration;

use walbrook::error::{Class, Result};
use walbrook::record::gtid::{GtidSet, MySqlGtids};
use walbrook::source::mysql::connection::Connection;
use walbrook::source::mysql::dump::{Dump, DumpFrom, DumpOptions, Next};
use walbrook::source::mysql::error::code;
use walbrook::source::mysql::replica::{Replica, SERVER_IDS};

use super::{to, told};
use crate::support::mysql::{Server, Version};

const OPTIONS: DumpOptions = DumpOptions { heartbeat: Duration::from_secs(1), semi_sync: false };

const HEARTBEAT: u8 = 27;
const HEARTBEAT_V2: u8 = 41;

async fn start(server: &Server, from: DumpFrom<'_>, options: &DumpOptions) -> Result<Dump> {
    let mut connection = Connection::connect(&to(server, "cdc", "")).await?;
    let replica = Replica::choose(&mut connection, None).await?;
    assert!(SERVER_IDS.contains(&replica.server_id));
    Dump::start(connection, &replica, from, options).await
}

/// Type and bytes of the events to come, until one is wanted.
async fn until(dump: &mut Dump, mut wanted: impl FnMut(u8, &[u8]) -> bool) -> Result<Vec<(u8, Vec<u8>)>> {
    let mut events = Vec::new();
    loop {
        let event = match dump.next()? {
            Next::Event(event) => event.bytes.to_vec(),
            Next::Dry => {
                dump.take_frame();
                dump.fill().await?;
                continue;
            }
            Next::Long(_) => {
                dump.take_frame();
                dump.whole_event().await?.to_vec()
            }
        };
        let length = u32::from_le_bytes(event[9..13].try_into().unwrap()) as usize;
        assert_eq!(event.len(), length, "an event's own length");
        let ends = wanted(event[4], &event);
        events.push((event[4], event));
        if ends {
            return Ok(events);
        }
    }
}

/// Not of what is longer than a page: of 20 MB that would take seconds.
fn holds(event: &[u8], text: &str) -> bool {
    event[..event.len().min(4096)].windows(text.len()).any(|window| window == text.as_bytes())
}

/// The last file of the log and its end.
fn tip(server: &Server) -> (String, u32) {
    let status = if server.version().is_mariadb() { "show master status" } else { "show binary log status" };
    let rows = server.sql("", status);
    let mut parts = rows.split('|');
    (parts.next().unwrap().to_owned(), parts.next().unwrap().parse().unwrap())
}

fn executed(server: &Server) -> GtidSet {
    if server.version().is_mariadb() {
        return server.sql("", "select @@gtid_binlog_pos").trim().parse().unwrap();
    }
    let text = server.sql("", "select @@gtid_executed").replace("\\n", "").replace('\n', "");
    text.parse().unwrap_or(GtidSet::MySql(MySqlGtids::default()))
}

#[tokio::test]
async fn by_file_and_by_gtids() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &["max-allowed-packet=64M"]) else { continue };
        server.sql("", "create database d; create table d.t (id int primary key, v longtext)");
        let ((file, offset), gtids) = (tip(&server), executed(&server));
        server.sql("", "insert into d.t values (1, 'first-row'); insert into d.t values (2, repeat('x', 20000000))");
        server.sql("", "insert into d.t values (3, 'last-row')");
        for from in
            [DumpFrom::File { file: &file, offset }, DumpFrom::Gtids(&gtids), DumpFrom::File { file: "", offset: 4 }]
        {
            let mut dump = start(&server, from, &OPTIONS).await.unwrap();
            let events = until(&mut dump, |_, event| holds(event, "last-row")).await.unwrap();
            let rows = events.iter().filter(|(_, event)| holds(event, "-row") || event.len() > 20_000_000);
            assert_eq!(rows.count(), 3, "{version:?} {from:?}");
            let created = events.iter().any(|(_, event)| holds(event, "create table d.t"));
            assert_eq!(created, matches!(from, DumpFrom::File { file: "", .. }));
            let heartbeat = until(&mut dump, |kind, _| [HEARTBEAT, HEARTBEAT_V2].contains(&kind)).await.unwrap();
            assert!(heartbeat.len() < 5, "{version:?} {heartbeat:?}");
            dump.close().await;
        }
    }
}

#[tokio::test]
async fn tagged_gtids() {
    let Some(server) = Server::own(Version::MySql97, &[]) else { return };
    server.sql("", "create database d; create table d.t (id int primary key, v text)");
    server.sql("d", "set gtid_next = 'automatic:blue'; insert into t values (1, 'blue-one-row')");
    server.sql("d", "insert into t values (2, 'untagged-two-row')");
    let gtids = executed(&server);
    assert!(gtids.to_string().contains("blue"), "{gtids}");
    server.sql("d", "set gtid_next = 'automatic:blue'; insert into t values (3, 'blue-three-row')");
    server.sql("d", "set gtid_next = 'automatic:red'; insert into t values (4, 'red-four-row')");
    let mut dump = start(&server, DumpFrom::Gtids(&gtids), &OPTIONS).await.unwrap();
    let events = until(&mut dump, |_, event| holds(event, "red-four-row")).await.unwrap();
    assert!(events.iter().any(|(_, event)| holds(event, "blue-three-row")));
    assert!(!events.iter().any(|(_, event)| holds(event, "blue-one-row") || holds(event, "two-row")));
}

#[tokio::test]
async fn what_cannot_be_dumped() {
    for server in Server::all() {
        let from = DumpFrom::File { file: "binlog.999999", offset: 4 };
        let mut dump = start(server, from, &OPTIONS).await.unwrap();
        let (error, text) = told(until(&mut dump, |_, _| false).await);
        assert_eq!((error.class(), code(&error)), (Class::Lost, Some(1236)), "{text}");

        let connection = Connection::connect(&to(server, "bareuser", "")).await.unwrap();
        let replica = Replica { server_id: 1_600_000_000, uuid: "00000000-0000-4000-8000-000000000000".into() };
        let from = DumpFrom::beginning("binlog.000001");
        let refused = match Dump::start(connection, &replica, from, &OPTIONS).await {
            Ok(mut dump) => until(&mut dump, |_, _| false).await.err(),
            Err(error) => Some(error),
        };
        let (error, text) = told(refused.map_or(Ok(()), Err));
        assert!(error.class() == Class::Config && matches!(code(&error), Some(1045 | 1227)), "{text}");
        assert!(text.contains("remedy: GRANT REPLICATION"), "{text}");
    }
}

#[tokio::test]
async fn a_number_that_is_taken_and_a_killed_dump() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &[]) else { continue };
        let (file, offset) = tip(&server);
        let from = DumpFrom::File { file: &file, offset };
        let info = to(&server, "cdc", "");
        let mut connection = Connection::connect(&info).await.unwrap();
        let mut other = Connection::connect(&info).await.unwrap();
        assert_eq!(told(Replica::choose(&mut connection, Some(1)).await).0.class(), Class::Config);
        let replica = Replica::choose(&mut connection, Some(4711)).await.unwrap();
        let mut dump = Dump::start(connection, &replica, from, &OPTIONS).await.unwrap();
        until(&mut dump, |kind, _| [HEARTBEAT, HEARTBEAT_V2].contains(&kind)).await.unwrap();

        let mut root = Connection::connect(&to(&server, "root", "")).await.unwrap();
        let (error, text) = told(Replica::choose(&mut root, Some(4711)).await);
        assert!(error.class() == Class::Config && text.contains("4711 is taken by"), "{text}");
        // Who may not see the others on MariaDB can go on.
        assert_eq!(Replica::choose(&mut other, Some(4711)).await.is_ok(), version.is_mariadb());
        if version == Version::MySql97 {
            replica.check(&mut other).await.unwrap();
        }

        server.sql("", &format!("kill {}", dump.connection_id()));
        let (error, text) = told(until(&mut dump, |_, _| false).await);
        assert!(error.is_transient(), "{text}");

        let mut connection = Connection::connect(&info).await.unwrap();
        replica.check(&mut connection).await.unwrap();
        let mut dump = Dump::start(connection, &replica, from, &OPTIONS).await.unwrap();
        until(&mut dump, |kind, _| [HEARTBEAT, HEARTBEAT_V2].contains(&kind)).await.unwrap();
        server.stop("fast");
        let (error, text) = told(until(&mut dump, |_, _| false).await);
        assert!(error.is_transient(), "{text}");
    }
}

#[tokio::test]
async fn semi_synchronous_replies() {
    for version in Version::ALL {
        let mariadb = ["rpl-semi-sync-master-enabled=ON", "rpl-semi-sync-master-timeout=50000"];
        let mysql = [
            "plugin-load-add=semisync_source.so",
            "rpl-semi-sync-source-enabled=ON",
            "rpl-semi-sync-source-timeout=50000",
        ];
        let settings = if version.is_mariadb() { &mariadb[..] } else { &mysql[..] };
        let Some(server) = Server::own(version, settings) else { continue };
        let (file, offset) = tip(&server);
        let options = DumpOptions { semi_sync: true, ..OPTIONS };
        let mut dump = start(&server, DumpFrom::File { file: &file, offset }, &options).await.unwrap();
        assert!(dump.is_semi_sync());
        // The server waits for replies only once we have its end.
        until(&mut dump, |kind, _| [HEARTBEAT, HEARTBEAT_V2].contains(&kind)).await.unwrap();
        let mut writer = server.session("");
        writer.send(
            "create database semi; create table semi.t (id int); insert into semi.t values (1); select 'written'",
        );
        let mut replies = 0;
        let status = loop {
            match dump.next().unwrap() {
                Next::Event(event) => {
                    let end = u32::from_le_bytes(event.bytes[13..17].try_into().unwrap());
                    if event.wants_ack {
                        replies += 1;
                        dump.acknowledge(&file, end.into()).await.unwrap();
                    }
                }
                Next::Dry => {
                    dump.take_frame();
                    dump.fill().await.unwrap();
                }
                Next::Long(_) => panic!("a long event"),
            }
            if replies == 3 {
                break server.sql("", "show status like 'Rpl_semi_sync_%_tx'");
            }
        };
        tokio::time::sleep(Duration::from_millis(200)).await;
        let later = server.sql("", "show status like 'Rpl_semi_sync_%_no_tx'");
        assert!(later.trim().ends_with("_no_tx|0"), "{version:?} {later} {status}");
    }
}
