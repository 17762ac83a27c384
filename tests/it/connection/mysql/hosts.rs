//! Several hosts, and which of them will do; connections that end.

use walbrook::error::Class;
use walbrook::source::mysql::connection::Connection;
use walbrook::source::mysql::error::code;

use super::{ask, parse, to, told, who};
use crate::source::PATIENCE;
use crate::support::mysql::{Server, Version};

#[tokio::test]
async fn the_first_that_lives() {
    let Some(server) = Server::get(Version::MariaDb1011) else { return };
    let port = server.port();
    let connection =
        Connection::connect(&parse(&format!("mysql://cdc:secret@127.0.0.1:1,localhost:{port}/"))).await.unwrap();
    let same = connection.same_server();
    assert_eq!((same.hosts.len(), same.hosts[0].port), (1, port));
    who(same).await.unwrap();

    let (error, text) = told(who(&parse("mysql://u:p@127.0.0.1:1,127.0.0.1:2/")).await);
    assert!(error.is_transient());
    assert!(text.contains("127.0.0.1:1: ") && text.contains("127.0.0.1:2"), "{text}");

    // A refused password ends it: the host behind is not asked.
    let (error, text) = told(who(&parse(&format!("mysql://cdc:wrong@127.0.0.1:{port},127.0.0.1:1/"))).await);
    assert_eq!((error.class(), code(&error)), (Class::Config, Some(1045)));
    assert!(!text.contains("no host will do"), "{text}");
    let (error, text) = told(who(&parse(&format!("mysql://cdc:wrong@127.0.0.1:1,127.0.0.1:{port}/"))).await);
    assert_eq!((error.class(), code(&error)), (Class::Config, Some(1045)));
    assert!(text.contains("no host will do: 127.0.0.1:1: "), "{text}");
}

#[tokio::test]
async fn a_killed_statement_and_a_killed_connection() {
    for server in Server::all() {
        let mut connection = Connection::connect(&to(server, "cdc", "")).await.unwrap();
        let handle = connection.kill_handle();
        // Not SLEEP(), which says 1 when it is ended.
        let slow = "SELECT COUNT(*) AS n FROM information_schema.COLUMNS a, information_schema.COLUMNS b, \
                    information_schema.COLUMNS c WHERE a.COLUMN_NAME < CONCAT(b.COLUMN_NAME, c.COLUMN_NAME)";
        let runs =
            "select count(*) from information_schema.processlist where info like '%b.COLUMN_NAME, c.COLUMN_NAME%'
                    and id <> connection_id()";
        let (outcome, ()) = tokio::join!(connection.query(slow), async {
            // What comes before the statement ends nothing, and the statement would take years.
            while server.sql("", runs) != "1" {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            handle.kill_query().await.unwrap();
        });
        let (error, _) = told(outcome);
        assert_eq!((error.class(), code(&error)), (Class::Transient, Some(1317)));
        assert_eq!(ask(&mut connection, "SELECT 1").await, "1");

        handle.kill_connection().await.unwrap();
        let deadline = std::time::Instant::now() + PATIENCE;
        let ended = loop {
            let answer = connection.query("SELECT 1").await;
            if answer.is_err() || std::time::Instant::now() > deadline {
                break answer;
            }
        };
        let (error, text) = told(ended);
        assert!(error.is_transient(), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back() {
    let Some(server) = Server::own(Version::MariaDb118, &["max-connections=10"]) else { return };
    let info = to(&server, "cdc", "");
    let mut connection = Connection::connect(&info).await.unwrap();
    server.restart("fast");
    assert!(told(connection.query("SELECT 1").await).0.is_transient());
    assert_eq!(who(&info).await.unwrap(), "cdc|true");

    let mut held = Vec::new();
    let error = loop {
        match Connection::connect(&info).await {
            Ok(connection) => held.push(connection),
            Err(error) => break error,
        }
        assert!(held.len() < 20);
    };
    assert_eq!((error.class(), code(&error)), (Class::Transient, Some(1040)), "{error:?}");
    assert!(error.remedy_text().unwrap().contains("max_connections"));
    server.stop("fast");
    assert!(told(who(&info).await).0.is_transient());
}
