//! Connecting to MySQL and MariaDB as their client does, and using the connection, on real servers and on those that lie.

mod dump;
mod hosts;
mod impostor;
mod login;
mod rows;
mod tls;

use walbrook::error::{Error, Result};
use walbrook::source::mysql::connection::Connection;
use walbrook::source::mysql::url::{ConnInfo, Environment};

use crate::support::mysql::Server;

/// No variables: nothing of the machine's counts.
struct Nothing;

impl Environment for Nothing {
    fn var(&self, _: &str) -> Option<String> {
        None
    }
    fn os_user(&self) -> Option<String> {
        None
    }
}

fn parse(text: &str) -> ConnInfo {
    ConnInfo::parse(text, &Nothing).unwrap()
}

/// As a user whose password is `secret`, with further options.
fn to(server: &Server, user: &str, options: &str) -> ConnInfo {
    parse(&format!("mysql://{user}:secret@127.0.0.1:{}/?{options}", server.port()))
}

async fn ask(connection: &mut Connection, sql: &str) -> String {
    let rows = connection.query(sql).await.unwrap();
    let name = rows.columns[0].name.clone();
    rows.text(0, &name).unwrap().unwrap_or("NULL").to_owned()
}

/// Who is in and how, as the server sees it: `user|encrypted`.
async fn who(info: &ConnInfo) -> Result<String> {
    let mut connection = Connection::connect(info).await?;
    let user = ask(&mut connection, "SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1)").await;
    let rows = connection.query("SHOW SESSION STATUS LIKE 'Ssl_cipher'").await.unwrap();
    let encrypted = rows.text(0, "Value").unwrap() != Some("");
    assert_eq!(encrypted, connection.is_encrypted());
    connection.close().await;
    Ok(format!("{user}|{encrypted}"))
}

/// The whole text of an error that had to come.
fn told(outcome: Result<impl Sized>) -> (Error, String) {
    let error = outcome.err().expect("an error");
    let text = format!("{error:?}");
    assert!(!text.contains("secret"), "{text}");
    (error, text)
}

#[tokio::test]
async fn settings_are_pinned_whatever_the_server_says() {
    for server in Server::all() {
        let mut connection = Connection::connect(&to(server, "cdc", "")).await.unwrap();
        for (variable, value) in [
            ("sql_mode", ""),
            ("time_zone", "+00:00"),
            ("character_set_client", "utf8mb4"),
            ("character_set_results", "utf8mb4"),
            ("autocommit", "1"),
            ("net_write_timeout", "3600"),
            ("sql_select_limit", "18446744073709551615"),
        ] {
            assert_eq!(ask(&mut connection, &format!("SELECT @@SESSION.{variable}")).await, value, "{variable}");
        }
        assert_eq!(ask(&mut connection, "SELECT CONNECTION_ID()").await, connection.thread_id().to_string());
        assert_eq!(connection.server().is_mariadb(), server.version().is_mariadb());
        let version = ask(&mut connection, "SELECT VERSION()").await;
        assert_eq!(connection.server().text, version);
        connection.ping().await.unwrap();
        connection.close().await;
    }
}
