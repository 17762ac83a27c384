//! Several hosts, and which of them will do.

use std::process::Command;

use walbrook::error::Class;
use walbrook::source::postgres::connection::{Connection, Role};
use walbrook::source::postgres::conninfo::ConnInfo;
use walbrook::source::postgres::error::code;
use walbrook::source::postgres::sql::Sql;

use super::{parse, told};
use crate::support::{Server, Version, free_port, project};

/// The port of the server that was chosen, by both clients.
async fn chosen(info: &ConnInfo) -> u16 {
    let connection = Connection::connect(info, Role::Sql).await.unwrap();
    let sql = Sql::connect(info).await.unwrap();
    assert_eq!(connection.same_server().hosts[0].port, sql.same_server().hosts[0].port);
    connection.same_server().hosts[0].port
}

#[tokio::test]
async fn the_first_that_lives() {
    let Some(server) = Server::get(Version::V15) else { return };
    let port = server.port();
    assert_eq!(
        chosen(&parse(&format!("postgres://postgres:secret@127.0.0.1:1,127.0.0.1:{port}/postgres"))).await,
        port
    );
    assert_eq!(
        chosen(&parse(&format!("host=/nowhere,127.0.0.1 port=5432,{port} user=postgres password=secret"))).await,
        port
    );
    let random = format!("postgres://postgres:secret@127.0.0.1:1,127.0.0.1:{port}/postgres?load_balance_hosts=random");
    assert_eq!(chosen(&parse(&random)).await, port);

    let (error, text) = told(Connection::connect(&parse("postgres://u:p@127.0.0.1:1,127.0.0.1:2/d"), Role::Sql).await);
    assert!(error.is_transient());
    assert!(text.contains("127.0.0.1:1: ") && text.contains("127.0.0.1:2: "), "{text}");

    // A refused password ends it: the host behind is not asked.
    let info = parse(&format!("postgres://postgres:wrong@127.0.0.1:{port},127.0.0.1:1/postgres"));
    let (error, text) = told(Connection::connect(&info, Role::Sql).await);
    assert_eq!((error.class(), code(&error)), (Class::Config, Some("28P01")));
    assert!(!text.contains("127.0.0.1:1:"), "{text}");
    let info = parse(&format!("postgres://postgres:wrong@127.0.0.1:1,127.0.0.1:{port}/postgres"));
    let (error, text) = told(Connection::connect(&info, Role::Sql).await);
    assert_eq!((error.class(), code(&error)), (Class::Config, Some("28P01")));
    assert!(text.contains("127.0.0.1:1:"), "{text}");
}

#[tokio::test]
async fn the_kind_that_is_wanted() {
    for version in [Version::V15, Version::V18] {
        let Some(primary) = Server::own(version, &[]) else { continue };
        let standby = Standby::of(&primary);
        let (p, s) = (primary.port(), standby.port);
        let wanting = |ports: [u16; 2], attrs: &str| {
            let [a, b] = ports;
            parse(&format!(
                "postgres://postgres:secret@127.0.0.1:{a},127.0.0.1:{b}/postgres?target_session_attrs={attrs}"
            ))
        };
        for (attrs, expected) in
            [("any", s), ("read-write", p), ("primary", p), ("read-only", s), ("standby", s), ("prefer-standby", s)]
        {
            assert_eq!(chosen(&wanting([s, p], attrs)).await, expected, "{attrs}");
        }
        assert_eq!(chosen(&wanting([p, s], "standby")).await, s);
        assert_eq!(chosen(&wanting([p, s], "prefer-standby")).await, s);
        assert_eq!(chosen(&wanting([1, p], "prefer-standby")).await, p);
        let (error, text) = told(Sql::connect(&wanting([s, s], "primary")).await);
        assert!(
            error.is_transient() && text.contains("is a standby") && text.contains("target_session_attrs"),
            "{text}"
        );

        primary.psql("postgres", "ALTER SYSTEM SET default_transaction_read_only = on");
        primary.restart("fast");
        let (_, text) = told(Connection::connect(&wanting([s, p], "read-write"), Role::Replication).await);
        assert!(text.contains("read-only") && text.contains("standby"), "{text}");
        assert_eq!(chosen(&wanting([1, p], "read-only")).await, p);
        assert_eq!(chosen(&wanting([1, p], "primary")).await, p);
    }
}

/// A physical standby beside a server, in a folder below the server's own, so that it goes with it.
struct Standby {
    port: u16,
    version: String,
    dir: String,
}

impl Standby {
    fn of(primary: &Server) -> Standby {
        let dir = primary.file("standby");
        let data = dir.join("data");
        std::fs::create_dir(&dir).unwrap();
        let url = primary.url("");
        let output = primary
            .program("pg_basebackup")
            .args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", &url, "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Whoever runs the primary must own it.
        let owner = format!("--reference={}", primary.file("data").display());
        assert!(Command::new("chown").args(["-R", &owner]).arg(&data).status().unwrap().success());
        let port = free_port();
        let (version, dir) = (primary.version().number().to_string(), dir.display().to_string());
        let standby = Standby { port, version, dir };
        let socket = format!("unix_socket_directories={}", standby.dir);
        standby.script(&["start", &standby.version, &standby.dir, &port.to_string(), "hot_standby=on", &socket]);
        standby
    }

    fn script(&self, arguments: &[&str]) {
        let output = Command::new(project("tests/env/postgres")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        self.script(&["stop", &self.version, &self.dir, "immediate"]);
    }
}
