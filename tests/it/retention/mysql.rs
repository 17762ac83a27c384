//! MySQL and MariaDB: what we say of a position, against what the server says when the log is asked for from there.

use std::time::{Duration, Instant};

use walbrook::record::{BinlogPosition, Lineage, Seen};
use walbrook::source::Verdict;
use walbrook::source::mysql::ask::{Ask, text};
use walbrook::source::mysql::connection::Connection;
use walbrook::source::mysql::dump::{Dump, DumpFrom, DumpOptions, Next};
use walbrook::source::mysql::replica::Replica;
use walbrook::source::mysql::retention::{Observed, verdict};
use walbrook::source::mysql::server::Server as Facts;
use walbrook::source::mysql::status;
use walbrook::source::mysql::url::ConnInfo;

use crate::source::PATIENCE;
use crate::support::mysql::{Server, Version};

async fn connect(server: &Server) -> (Connection, Facts) {
    let info = ConnInfo::from_process(&server.url_as("cdc")).unwrap();
    let mut connection = Connection::connect(&info).await.unwrap();
    let rows = connection.rows(&Facts::variables_statement(), "asking").await.unwrap();
    let facts = Facts::from_rows(rows.iter().map(|row| (text(row, 0).into(), text(row, 1).into()))).unwrap();
    (connection, facts)
}

async fn observe(server: &Server) -> (Lineage, Observed) {
    let (mut connection, facts) = connect(server).await;
    let files = status::files(&mut connection, &facts).await.unwrap();
    let gtids = status::gtids(&mut connection, &facts, &files).await.unwrap();
    let tip = status::tip(&mut connection, &facts).await.unwrap();
    let lineage = facts.lineage();
    let observed = Observed {
        kind: lineage.kind.clone(),
        system: lineage.system.clone(),
        tip,
        files,
        file_created_unix_s: None,
        gtids,
    };
    (lineage, observed)
}

/// Whether the server sends its log from there on; the error is its refusal.
async fn asked(server: &Server, position: &BinlogPosition) -> Result<(), String> {
    let (mut connection, _) = connect(server).await;
    let replica = Replica::choose(&mut connection, None).await.unwrap();
    let from = match &position.seen {
        Seen::Executed(set) => DumpFrom::Gtids(set),
        _ => DumpFrom::File { file: &position.file, offset: position.offset.try_into().unwrap() },
    };
    let options = DumpOptions { heartbeat: Duration::from_millis(200), semi_sync: false };
    let mut dump = Dump::start(connection, &replica, from, &options).await.unwrap();
    // What it refuses it refuses at once; what it sends are at first the beginning of a file, then events or heartbeats.
    let mut events = 0;
    while events < 4 {
        match dump.next() {
            Ok(Next::Event(_)) => events += 1,
            Ok(_) => {
                dump.take_frame();
                if let Err(error) = dump.fill().await {
                    return Err(format!("{error:?}"));
                }
            }
            Err(error) => return Err(format!("{error:?}")),
        }
    }
    dump.close().await;
    Ok(())
}

/// A server that nobody here is.
const STRANGER: &str = "00000000-0000-0000-0000-00000000000b";

/// The same answer as the server's for every position; how many were lost. MySQL refuses nobody who has more than itself of
/// other servers, MariaDB nobody who has a domain that it has not, though such transactions never happened there: we do.
async fn agree(server: &Server, positions: &[String]) -> usize {
    let (lineage, observed) = observe(server).await;
    let mut lost = 0;
    for text in positions {
        let position: BinlogPosition = text.parse().unwrap();
        let verdict = verdict(&lineage, &position, &observed);
        let answer = asked(server, &position).await;
        let stricter = text.contains(STRANGER) || verdict.to_string().contains("never had that domain");
        assert_eq!(
            verdict == Verdict::Valid,
            answer.is_ok() && !stricter,
            "{:?} from {text}: {verdict}, but the server: {answer:?}; {:?}",
            server.version(),
            observed.gtids
        );
        lost += usize::from(verdict != Verdict::Valid);
    }
    lost
}

fn oldest_but(server: &Server, newer: usize) -> String {
    let files = server.sql("", "show binary logs");
    let names: Vec<&str> = files.lines().filter_map(|line| line.split('|').next()).collect();
    names[names.len() - 1 - newer].to_owned()
}

/// The first position that is there is one, by the verdict and by what the server does, and begins the oldest file.
async fn begins(server: &Server) {
    let (lineage, observed) = observe(server).await;
    let (mut connection, facts) = connect(server).await;
    let beginning = status::beginning(&mut connection, &facts, &observed.files).await.unwrap();
    assert_eq!(*beginning.file, *observed.files[0].name);
    assert_eq!(verdict(&lineage, &beginning, &observed), Verdict::Valid, "{beginning}");
    asked(server, &beginning).await.unwrap_or_else(|refusal| panic!("{beginning}: {refusal}"));
}

#[tokio::test]
async fn gtids_of_mysql() {
    let Some(server) = Server::own(Version::MySql97, &[]) else { return };
    server.sql("", "create database x; create table x.t (id int primary key auto_increment)");
    let insert = "insert into x.t values ();";
    server.sql("", &format!("{insert} {insert} flush binary logs; {insert} {insert} flush binary logs; {insert}"));
    server
        .sql("", &format!("set gtid_next = 'automatic:tag'; {insert} {insert} set gtid_next = 'automatic'; {insert}"));
    let uuid = server.sql("", "select @@server_uuid").trim().to_owned();
    let mut positions: Vec<String> = (1..=9).map(|last| format!("{uuid}:1-{last}")).collect();
    positions.extend([
        format!("{uuid}:1-8:tag:1-2"),
        format!("{uuid}:1-8:tag:1-3"),
        format!("{uuid}:1-2:4-8"),
        format!("{uuid}:1-5,{STRANGER}:1"),
        format!("{STRANGER}:1-3"),
        format!("{uuid}:2-8"),
    ]);
    assert_eq!(agree(&server, &positions).await, 4, "those that the server never had");
    begins(&server).await;
    server.sql("", &format!("purge binary logs to '{}'", oldest_but(&server, 1)));
    let lost = agree(&server, &positions).await;
    assert!((7..positions.len()).contains(&lost), "{lost} of {}", positions.len());
    begins(&server).await;
    server.sql("", "reset binary logs and gtids");
    server.sql("", insert);
    // The log begins anew: only what is within its one transaction is still a position of it.
    assert_eq!(agree(&server, &positions).await, positions.len() - 1);
}

#[tokio::test]
async fn gtids_of_mariadb() {
    for version in [Version::MariaDb1011, Version::MariaDb118] {
        // 11.8 purges nothing that no replica has read, unless told to.
        let settings: &[&str] =
            if version == Version::MariaDb118 { &["slave-connections-needed-for-purge=0"] } else { &[] };
        let Some(server) = Server::own(version, settings) else { continue };
        let write = |domain: u32, id: u32| {
            server.sql("", &format!("set gtid_domain_id = {domain}, server_id = {id}; insert into x.t values (null)"))
        };
        server.sql("", "create database x; create table x.t (id int primary key auto_increment)");
        write(0, 1);
        write(1, 2);
        server.sql("", "flush logs");
        write(0, 1);
        // Another server took over the domain for a while.
        write(0, 3);
        write(1, 2);
        server.sql("", "flush logs");
        write(0, 1);
        write(7, 1);
        write(1, 2);
        let state = server.sql("", "select @@gtid_binlog_state");
        assert_eq!(state.trim(), "0-3-5,0-1-6,1-2-3,7-1-1", "{version:?}");
        let mut positions = Vec::new();
        for zero in ["0-1-1", "0-1-2", "0-1-3", "0-1-4", "0-3-5", "0-1-6", "0-1-7", "0-3-4", "0-9-3"] {
            for one in ["", ",1-2-1", ",1-2-2", ",1-2-3", ",1-2-4"] {
                for seven in ["", ",7-1-1"] {
                    positions.push(format!("{zero}{one}{seven}"));
                }
            }
        }
        positions.push("9-1-1".to_owned());
        let before = agree(&server, &positions).await;
        for newer in [1, 0] {
            let oldest = oldest_but(&server, newer);
            // A file is kept as long as a dump of it has not noticed its end.
            let deadline = Instant::now() + PATIENCE;
            loop {
                server.sql("", &format!("purge binary logs to '{oldest}'"));
                if server.sql("", "show binary logs").starts_with(&oldest) {
                    break;
                }
                assert!(Instant::now() < deadline, "{version:?} keeps files older than {oldest}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            assert!(agree(&server, &positions).await > before);
            begins(&server).await;
        }
        server.sql("", "reset master");
        write(0, 1);
        assert!(agree(&server, &positions).await > positions.len() / 2);
    }
}

#[tokio::test]
async fn files_and_offsets() {
    for (version, setting) in [(Version::MySql97, "gtid-mode=OFF"), (Version::MySql97, "gtid-mode=OFF_PERMISSIVE")] {
        let Some(server) = Server::own(version, &[setting]) else { continue };
        server.sql("", "create database x; create table x.t (id int primary key)");
        for id in 1..=4 {
            server.sql("", &format!("insert into x.t values ({id}); flush binary logs"));
        }
        server.sql("", &format!("purge binary logs to '{}'", oldest_but(&server, 2)));
        let (_, observed) = observe(&server).await;
        assert_eq!(observed.files.len(), 3, "{:?}", observed.files);
        let mut positions: Vec<String> = (1..=7).map(|number| format!("binlog.{number:06}:4")).collect();
        let last = observed.files.last().unwrap();
        positions.push(format!("{}:{}", last.name, last.bytes));
        positions.push(format!("{}:{}", last.name, last.bytes + 1));
        assert_eq!(agree(&server, &positions).await, positions.len() - 4);
    }
}
