//! Queries, COPY and replication over our own connection.

use std::time::{Duration, Instant};

use walbrook::error::{Class, Result};
use walbrook::source::postgres::connection::{Aside, Connection, Role};
use walbrook::source::postgres::error::code;
use walbrook::source::postgres::sql::Sql;
use walbrook::wire::pg::frame::{self, tag};
use walbrook::wire::pg::replication::{self, Payload};

use super::{ask, parse, to, told};
use crate::source::PATIENCE;
use crate::support::{Server, Version};

/// All rows of a COPY OUT.
async fn copied(connection: &mut Connection, sql: &str) -> Result<(Vec<String>, u64)> {
    connection.copy_out(sql).await?;
    let mut rows = Vec::new();
    loop {
        match frame::next(connection.buffer()).unwrap() {
            Some(frame) if frame.tag == tag::COPY_DATA => {
                rows.push(String::from_utf8(frame.body.to_vec()).unwrap());
                let total_bytes = frame.total_bytes;
                let _ = connection.buffer().split_to(total_bytes);
            }
            Some(_) => {
                if connection.take_aside()? == Aside::CopyDone {
                    return Ok((rows, connection.finish_copy().await?));
                }
            }
            None => {
                connection.fill().await?;
            }
        }
    }
}

#[tokio::test]
async fn queries_and_their_errors() {
    for server in Server::all() {
        for role in [Role::Sql, Role::Replication] {
            let mut connection = Connection::connect(&to(server, ""), role).await.unwrap();
            let results =
                connection.simple_query("SELECT 1 AS a, NULL AS b, 'ü' AS \"c d\" UNION ALL SELECT 2, '', ''").await;
            let rows = &results.unwrap()[0];
            assert_eq!((rows.tag.as_str(), rows.rows.len()), ("SELECT 2", 2));
            assert_eq!((rows.text(0, "b").unwrap(), rows.text(0, "c d").unwrap()), (None, Some("ü")));
            assert_eq!(rows.text(1, "b").unwrap(), Some(""));

            // Errors leave it usable; a zero byte never reaches the server.
            for (sql, state, class) in [
                ("SELECT 1/0", "22012", Class::Data),
                ("SELECT FROM nowhere", "42P01", Class::Config),
                ("SELEC", "42601", Class::Bug),
            ] {
                let (error, text) = told(connection.simple_query(sql).await);
                assert_eq!((code(&error), error.class()), (Some(state), class), "{text}");
            }
            told(connection.simple_query("SELECT '\0'").await);
            assert_eq!(ask(&mut connection, "SELECT 7").await, "7");
            told(connection.send_status(1, 1, 1, false).await);
        }
        let mut connection = Connection::connect(&to(server, ""), Role::Sql).await.unwrap();
        let results = connection
            .simple_query(
                "SELECT 1 AS a; SELECT 2 AS b;; CREATE TEMP TABLE t (); DO $$ BEGIN RAISE WARNING 'x'; END $$",
            )
            .await
            .unwrap();
        let tags: Vec<&str> = results.iter().map(|rows| rows.tag.as_str()).collect();
        assert_eq!(tags, ["SELECT 1", "SELECT 1", "CREATE TABLE", "DO"]);
        assert!(connection.simple_query("").await.unwrap()[0].tag.is_empty());
    }
}

#[tokio::test]
async fn one_message_of_five_megabytes() {
    for (server, mode) in Server::all().flat_map(|server| [(server, "disable"), (server, "require")]) {
        let mut connection = Connection::connect(&to(server, &format!("sslmode={mode}")), Role::Sql).await.unwrap();
        let wide = ask(&mut connection, "SELECT repeat('walbrook', 655360)").await;
        assert_eq!(wide.len(), 5 << 20);
        assert!(wide.as_bytes().chunks(8).all(|chunk| chunk == b"walbrook"));
        let (rows, count) = copied(
            &mut connection,
            "COPY (SELECT g, repeat('x', CASE WHEN g % 100 = 7 THEN 5000000 ELSE g END) FROM generate_series(1, 300) g) TO STDOUT",
        )
        .await
        .unwrap();
        assert_eq!((rows.len(), count), (300, 300));
        for (row, g) in rows.iter().zip(1..) {
            let length = if g % 100 == 7 { 5_000_000 } else { g };
            assert_eq!(row.len(), format!("{g}\t\n").len() + length, "row {g}");
        }
        assert_eq!(ask(&mut connection, "SELECT 8").await, "8");
    }
}

#[tokio::test]
async fn copies_that_fail() {
    let Some(server) = Server::get(Version::V15) else { return };
    let mut connection = Connection::connect(&to(server, ""), Role::Sql).await.unwrap();
    let (error, _) =
        told(copied(&mut connection, "COPY (SELECT 1/(5-g) FROM generate_series(1, 9) g) TO STDOUT").await);
    assert_eq!((code(&error), error.class()), (Some("22012"), Class::Data));
    assert_eq!(copied(&mut connection, "COPY (SELECT 1) TO STDOUT").await.unwrap(), (vec!["1\n".into()], 1));
    assert_eq!(copied(&mut connection, "COPY (SELECT 1 WHERE false) TO STDOUT").await.unwrap(), (vec![], 0));
    let (error, _) = told(connection.copy_out("COPY nowhere TO STDOUT").await);
    assert_eq!(code(&error), Some("42P01"));
    assert_eq!(ask(&mut connection, "SELECT 1").await, "1");
    // No COPY at all, and a future that was dropped half way: the connection says that it cannot go on.
    assert_eq!(told(connection.copy_out("SELECT 1").await).0.class(), Class::Bug);
    assert_eq!(told(connection.simple_query("SELECT 1").await).0.class(), Class::Bug);
    let mut connection = Connection::connect(&to(server, ""), Role::Sql).await.unwrap();
    let dropped = tokio::time::timeout(Duration::from_millis(50), connection.simple_query("SELECT pg_sleep(1)")).await;
    assert!(dropped.is_err());
    assert_eq!(told(connection.simple_query("SELECT 1").await).0.class(), Class::Bug);
}

#[tokio::test]
async fn a_stream_is_started_answered_and_stopped() {
    for (server, mode) in Server::all().flat_map(|server| [(server, "disable"), (server, "require")]) {
        let db = server.database("stream");
        db.psql("CREATE TABLE t (a int)");
        let info = to(server, &format!("dbname={} sslmode={mode}", db.name()));
        let mut connection = Connection::connect(&info, Role::Replication).await.unwrap();
        let slot = format!("s_{}", db.name());
        let command = format!("START_REPLICATION SLOT \"{slot}\" LOGICAL 0/0");
        let (error, _) = told(connection.start_replication(&command).await);
        assert_eq!((code(&error), error.class()), (Some("42704"), Class::Config));

        let created =
            connection.simple_query(&format!("CREATE_REPLICATION_SLOT \"{slot}\" LOGICAL test_decoding")).await;
        assert_eq!(created.unwrap()[0].text(0, "slot_name").unwrap(), Some(slot.as_str()));
        connection.start_replication(&command).await.unwrap();
        assert_eq!(told(connection.simple_query("SELECT 1").await).0.class(), Class::Bug);

        // Held by us: another one has to wait.
        let mut other = Connection::connect(&info, Role::Replication).await.unwrap();
        let (error, _) = told(other.start_replication(&command).await);
        assert_eq!((code(&error), error.class()), (Some("55006"), Class::Transient));

        db.psql("INSERT INTO t SELECT generate_series(1, 500)");
        let mut changes = 0;
        let mut end = 0;
        while changes < 502 {
            match frame::next(connection.buffer()).unwrap() {
                None => {
                    connection.fill().await.unwrap();
                }
                Some(frame) if frame.tag == tag::COPY_DATA => {
                    if let Payload::XLogData(data) = replication::parse(frame.body).unwrap() {
                        changes += 1;
                        end = end.max(data.start_lsn);
                    }
                    let total_bytes = frame.total_bytes;
                    let _ = connection.buffer().split_to(total_bytes);
                }
                Some(_) => assert_eq!(connection.take_aside().unwrap(), Aside::Handled),
            }
        }
        // A reply that is asked for comes at once, and the slot has advanced.
        connection.send_status(end, end, end, true).await.unwrap();
        let asked = Instant::now();
        'reply: loop {
            while let Some(frame) = frame::next(connection.buffer()).unwrap() {
                let payload = replication::parse(frame.body).unwrap();
                let total_bytes = frame.total_bytes;
                let keepalive = matches!(payload, Payload::Keepalive(keepalive) if keepalive.wal_end >= end);
                let _ = connection.buffer().split_to(total_bytes);
                if keepalive {
                    break 'reply;
                }
            }
            connection.fill().await.unwrap();
        }
        // By itself the server says something every 30 s.
        assert!(asked.elapsed() < Duration::from_secs(25));

        // More on its way than is read; stopped all the same, and the slot is free at once.
        db.psql("INSERT INTO t SELECT generate_series(1, 20000)");
        connection.stop_replication().await.unwrap();
        let state = format!(
            "SELECT active || '|' || (confirmed_flush_lsn = '{:X}/{:X}') FROM pg_replication_slots WHERE slot_name = '{slot}'",
            end >> 32,
            end & 0xffff_ffff
        );
        assert_eq!(ask(&mut connection, &state).await, "false|true");
        other.start_replication(&command).await.unwrap();
        other.stop_replication().await.unwrap();
        connection.simple_query(&format!("DROP_REPLICATION_SLOT \"{slot}\"")).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_goes_away() {
    let Some(server) = Server::own(Version::V15, &[]) else { return };
    let mut streaming = Connection::connect(&to(&server, ""), Role::Replication).await.unwrap();
    streaming.simple_query("CREATE_REPLICATION_SLOT s LOGICAL test_decoding").await.unwrap();
    streaming.start_replication("START_REPLICATION SLOT s LOGICAL 0/0").await.unwrap();
    let mut idle = Connection::connect(&to(&server, ""), Role::Sql).await.unwrap();
    let sql = Sql::connect(&to(&server, "")).await.unwrap();
    server.psql("postgres", &format!("SELECT pg_terminate_backend({})", idle.backend_pid()));
    let (error, _) = told(idle.simple_query("SELECT 1").await);
    assert_eq!((code(&error), error.class()), (Some("57P01"), Class::Transient));

    server.stop("immediate");
    let ended = loop {
        match frame::next(streaming.buffer()).unwrap() {
            Some(frame) if frame.tag == tag::COPY_DATA => {
                let total_bytes = frame.total_bytes;
                let _ = streaming.buffer().split_to(total_bytes);
            }
            Some(_) => {
                if let Err(error) = streaming.take_aside() {
                    break error;
                }
            }
            None => {
                if let Err(error) = streaming.fill().await {
                    break error;
                }
            }
        }
    };
    assert!(ended.is_transient(), "{ended:?}");
    let (error, text) = told(sql.execute("SELECT 1", "asking").await);
    assert!(error.is_transient(), "{text}");
    let (error, text) = told(Connection::connect(&to(&server, ""), Role::Sql).await);
    assert!(error.is_transient(), "{text}");
    server.start();
    Connection::connect(&to(&server, ""), Role::Sql).await.unwrap();
}

#[tokio::test]
async fn a_command_is_cancelled_from_outside() {
    let Some(server) = Server::get(Version::V15) else { return };
    let socket = server.file("").display().to_string();
    for more in ["sslmode=disable".to_owned(), "sslmode=require".to_owned(), format!("host={socket}")] {
        let mut connection = Connection::connect(&to(server, &more), Role::Sql).await.unwrap();
        let token = connection.cancel_token();
        let started = Instant::now();
        let runs = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {} AND query LIKE '%pg_sleep%' AND state = 'active'",
            connection.backend_pid()
        );
        let sleeping = connection.simple_query("SELECT pg_sleep(3600)");
        // A request that comes before the query ends nothing.
        let cancelling = async {
            while server.psql("postgres", &runs) != "1" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            token.cancel().await
        };
        let (slept, cancelled) = tokio::join!(sleeping, cancelling);
        cancelled.unwrap();
        let (error, _) = told(slept);
        assert_eq!((code(&error), error.class()), (Some("57014"), Class::Transient));
        assert!(started.elapsed() < PATIENCE);
        assert_eq!(ask(&mut connection, "SELECT 1").await, "1");
    }
}

#[tokio::test]
async fn an_sql_session_ends_with_its_owner() {
    let Some(server) = Server::get(Version::V15) else { return };
    let db = server.database("owner");
    let info = parse(&format!("{}?application_name=owned", db.url()));
    let sql = Sql::connect(&info).await.unwrap();
    let count =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'owned' AND datname = current_database()";
    assert_eq!(db.psql(count), "1");
    let (error, _) = told(sql.query("SELECT FROM nowhere", &[], "looking").await);
    assert_eq!((code(&error), error.class()), (Some("42P01"), Class::Config));
    drop(sql);
    let gone = Instant::now();
    while db.psql(count) != "0" {
        assert!(gone.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
