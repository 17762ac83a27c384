//! Connecting to Postgres as libpq does, and using the connection, on real servers and on servers that lie.

mod hosts;
mod impostor;
mod login;
mod mysql;
mod stream;
mod tls;

use std::collections::HashMap;

use walbrook::error::{Error, Result};
use walbrook::source::postgres::connection::{Connection, Role};
use walbrook::source::postgres::conninfo::{ConnInfo, Environment};
use walbrook::source::postgres::sql::Sql;

use crate::support::Server;

/// No variables and no home: nothing of the machine's counts.
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

/// `host=127.0.0.1 port=… dbname=postgres` and what else is given; a later key wins.
fn to(server: &Server, more: &str) -> ConnInfo {
    parse(&format!("host=127.0.0.1 port={} dbname=postgres user=postgres password=secret {more}", server.port()))
}

/// Who and how, as the server sees it: `user|tls|protocol`.
const WHO: &str = "SELECT current_user || '|' || ssl AS who FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

async fn ask(connection: &mut Connection, sql: &str) -> String {
    let results = connection.simple_query(sql).await.unwrap();
    let last = results.last().unwrap();
    let column = last.columns[0].clone();
    last.text(0, &column).unwrap().unwrap_or("NULL").to_owned()
}

/// Connects in all three ways, which must end alike: who is told, or the error of our own connection.
async fn who(info: &ConnInfo) -> Result<String> {
    let mut outcomes = Vec::new();
    for role in [Role::Sql, Role::Replication] {
        outcomes.push(match Connection::connect(info, role).await {
            Ok(mut connection) => {
                let who = ask(&mut connection, WHO).await;
                assert_eq!(who.ends_with("|true"), connection.is_encrypted());
                assert!(!connection.is_behind_pooler());
                connection.close().await;
                Ok(who)
            }
            Err(error) => Err(error),
        });
    }
    outcomes.push(match Sql::connect(info).await {
        Ok(sql) => Ok(sql.query_one(WHO, &[], "asking who we are").await.unwrap().get("who")),
        Err(error) => Err(error),
    });
    let first = outcomes.remove(0);
    for other in outcomes {
        match (&first, other) {
            (Ok(first), Ok(other)) => assert_eq!(*first, other),
            (Err(first), Err(other)) => {
                assert_eq!(first.class(), other.class(), "{first:?}\n{other:?}");
                assert_eq!(first.remedy_text(), other.remedy_text(), "{first:?}\n{other:?}");
            }
            (first, other) => panic!("{first:?} but {other:?}"),
        }
    }
    first
}

/// The whole text of an error that had to come.
fn told(outcome: Result<impl Sized>) -> (Error, String) {
    let error = outcome.err().expect("an error");
    let text = format!("{error:?}");
    (error, text)
}

#[tokio::test]
async fn settings_are_pinned_whatever_the_database_says() {
    for server in Server::all() {
        let db = server.database("pinned");
        let name = db.name();
        for setting in [
            "datestyle = 'SQL, DMY'",
            "intervalstyle = 'sql_standard'",
            "extra_float_digits = -3",
            "bytea_output = 'escape'",
            "timezone = 'America/New_York'",
            "search_path = 'pg_temp'",
            "idle_in_transaction_session_timeout = '1s'",
            "client_encoding = 'LATIN1'",
        ] {
            db.psql(&format!("ALTER DATABASE \"{name}\" SET {setting}"));
        }
        let info =
            to(server, &format!("dbname={name} options='-c datestyle=German -c geqo=off -c statement_timeout=1h'"));
        let values = "SELECT concat_ws('|', '2026-11-21 04:05:06+00'::timestamptz, '1 day 2 hours'::interval, \
             0.1::float8 + 0.2::float8, '\\x00ff'::bytea, 7.5::money, 'pg_class'::regclass, current_setting('geqo'), \
             current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'), \
             current_setting('client_encoding'), current_setting('row_security'), current_setting('search_path')) AS v";
        let expected =
            "2026-11-21 04:05:06+00|1 day 02:00:00|0.30000000000000004|\\x00ff|$7.50|pg_class|off|0|0|UTF8|off|";
        for role in [Role::Sql, Role::Replication] {
            let mut connection = Connection::connect(&info, role).await.unwrap();
            assert_eq!(ask(&mut connection, values).await, expected, "{role:?}");
            assert_eq!(connection.parameter("TimeZone"), Some("UTC"));
            assert_eq!(connection.server_version_num() / 10_000, server.version().number());
        }
        let sql = Sql::connect(&info).await.unwrap();
        let row = sql.query_one(values, &[], "reading values").await.unwrap();
        assert_eq!(row.get::<_, &str>("v"), expected);
    }
}

#[tokio::test]
async fn further_connections_go_to_the_same_server() {
    let Some(server) = Server::all().next() else { return };
    let info = parse(&format!("postgres://postgres:secret@localhost:1,localhost:{}/postgres", server.port()));
    let connection = Connection::connect(&info, Role::Replication).await.unwrap();
    let same = connection.same_server();
    assert_eq!((same.hosts.len(), same.hosts[0].port), (1, server.port()));
    Sql::connect(same).await.unwrap();
}

#[test]
fn variables_and_password_file_are_enough() {
    use std::os::unix::fs::PermissionsExt;
    struct Variables(HashMap<&'static str, String>);
    impl Environment for Variables {
        fn var(&self, name: &str) -> Option<String> {
            self.0.get(name).cloned()
        }
        fn os_user(&self) -> Option<String> {
            Some("postgres".into())
        }
    }
    let Some(server) = Server::all().next() else { return };
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".pgpass");
    std::fs::write(&file, format!("127.0.0.1:{}:*:postgres:secret\n", server.port())).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let variables = Variables(HashMap::from([
        ("HOME", home.path().to_str().unwrap().to_owned()),
        ("PGHOST", "127.0.0.1".to_owned()),
        ("PGPORT", server.port().to_string()),
        ("PGSSLMODE", "require".to_owned()),
    ]));
    let info = ConnInfo::parse("", &variables).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(who(&info)).unwrap(), "postgres|true");
}
