use std::process::Command;

use crate::source::eventually;
use crate::support::mysql::{Server, Version};
use crate::support::project;

#[test]
fn every_version_is_itself_and_logs_whole_rows_with_their_names() {
    for server in Server::all() {
        let (version, name) = (server.sql("", "select version()"), server.version().name());
        assert_eq!(version.contains("MariaDB"), server.version().is_mariadb(), "{version}");
        assert!(version.starts_with(&format!("{}.", name.split_once('-').unwrap().1)), "{name}: {version}");
        let settings = "select @@log_bin, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata,
             @@binlog_checksum, @@server_id, @@sync_binlog, @@time_zone";
        assert_eq!(server.sql("", settings), "1|ROW|FULL|FULL|CRC32|1|0|+00:00");
        if !server.version().is_mariadb() {
            assert_eq!(server.sql("", "select @@gtid_mode"), "ON");
        }
    }
}

#[test]
fn every_account_comes_in_by_its_own_method_and_by_no_other() {
    for server in Server::all() {
        let (mariadb, v118) = (server.version().is_mariadb(), server.version() == Version::MariaDb118);
        let connect = |user: &str, password: &str, tls: &[&str]| {
            let mut client = server.client("127.0.0.1", user, "");
            client.env("MYSQL_PWD", password).args(tls);
            server.try_sql(client, "select substring_index(user(), '@', 1); show status like 'ssl_version'")
        };
        let no_tls = if mariadb { ["--skip-ssl"] } else { ["--ssl-mode=DISABLED"] };
        // MySQL's default takes a password without TLS by its RSA key, if the client asks for that.
        let without: &[&str] = if mariadb { &no_tls } else { &[no_tls[0], "--get-server-public-key"] };
        let ca = format!("--ssl-ca={}", server.file("ca.crt").display());
        let with: &[&str] = if mariadb { &["--ssl", &ca] } else { &["--ssl-mode=REQUIRED"] };
        let (key, certificate) = (server.file("client.key"), server.file("client.crt"));
        let own = [format!("--ssl-key={}", key.display()), format!("--ssl-cert={}", certificate.display())];
        let certified: Vec<&str> = with.iter().copied().chain(own.iter().map(String::as_str)).collect();

        let mut users = vec!["root", "cdc", "bareuser"];
        users.extend(if mariadb { &["nativeuser", "eduser"][..] } else { &["sha2user"] });
        users.extend(v118.then_some("parsecuser"));
        for user in users {
            for tls in [without, with] {
                let (said, name) = (connect(user, "secret", tls), server.version().name());
                let said = said.unwrap_or_else(|error| panic!("{name}: {user} {tls:?}: {error}"));
                assert!(said.starts_with(user) && said.contains("|TLS") == (tls == with), "{said}");
                let refused = connect(user, "wrong", tls).expect_err(user);
                assert!(refused.contains("Access denied"), "{name}: {refused}");
            }
        }
        for (user, right) in [("ssluser", with), ("certuser", &certified)] {
            assert!(connect(user, "secret", right).is_ok_and(|said| said.contains("|TLS")), "{user}");
            assert!(connect(user, "secret", without).is_err_and(|error| error.contains("Access denied")), "{user}");
        }
        assert!(connect("certuser", "secret", with).is_err_and(|error| error.contains("Access denied")));
        assert!(connect("emptyuser", "", without).is_ok());
    }
}

#[test]
fn each_account_has_the_plugin_it_is_named_after() {
    for server in Server::all() {
        let plugins = server.sql("", "select user, plugin from mysql.user where user like '%user' order by user");
        let native = if server.version().is_mariadb() { "mysql_native_password" } else { "caching_sha2_password" };
        for (user, plugin) in plugins.lines().map(|line| line.split_once('|').unwrap()) {
            let expected = match user {
                "sha2user" => "caching_sha2_password",
                "eduser" => "ed25519",
                "parsecuser" => "parsec",
                // Of a test of logins.
                "sha256user" => "sha256_password",
                _ => native,
            };
            assert_eq!(plugin, expected, "{user} of {}", server.version().name());
        }
    }
}

#[test]
fn the_certificate_is_valid_for_its_names_and_its_authority_only() {
    for server in Server::all() {
        let connect = |host: &str, verified: &str, authority: &str| {
            let mut client = server.client(host, "root", "");
            client.arg(verified).arg(format!("--ssl-ca={}", server.file(authority).display()));
            server.try_sql(client, "select 1")
        };
        let full =
            if server.version().is_mariadb() { "--ssl-verify-server-cert" } else { "--ssl-mode=VERIFY_IDENTITY" };
        for host in ["localhost", "127.0.0.1"] {
            assert_eq!(connect(host, full, "ca.crt"), Ok("1".into()), "{}", server.version().name());
        }
        assert!(connect("localhost", full, "stranger.crt").is_err_and(|error| error.contains("certificate")));
        // MariaDB 10.5 listens on one address.
        if server.version() != Version::MariaDb105 {
            let other = connect("127.0.0.2", full, "ca.crt");
            assert!(other.is_err_and(|error| error.contains("TLS") || error.contains("SSL")));
        }
    }
}

#[test]
fn databases_are_apart_and_their_users_may_capture_them() {
    for server in Server::all() {
        let (one, other) = (server.database("apart"), server.database("apart"));
        assert_ne!(one.name(), other.name());
        one.sql("create table t (a int, b varchar(9)); insert into t values (1, 'x\ty'), (2, null)");
        assert_eq!(one.sql("select * from t order by a"), "1|x\\ty\n2|NULL");
        assert_eq!(other.sql("show tables"), "");
        let of = |user: &str| server.client("127.0.0.1", user, one.name());
        assert_eq!(server.try_sql(of(one.user()), "select count(*) from t"), Ok("2".into()));
        assert!(server.try_sql(of(one.user()), "show binary logs").is_ok_and(|files| files.contains("binlog.000001|")));
        assert!(server.try_sql(of(other.user()), "select * from t").is_err_and(|error| error.contains("denied")));
    }
}

#[test]
fn a_session_stays_and_keeps_its_transaction() {
    for server in Server::all() {
        let db = server.database("session");
        db.sql("create table t (a int)");
        let mut session = server.session(db.name());
        assert_eq!(session.sql("begin; insert into t values (1)"), [""; 0]);
        assert_eq!(db.sql("select count(*) from t"), "0");
        assert_eq!(session.sql("commit; select a, a + 1 from t"), ["1|2"]);
        assert_eq!(db.sql("select count(*) from t"), "1");
    }
}

#[test]
fn an_own_server_survives_a_crash_and_goes_when_dropped() {
    let mut logs = Vec::new();
    for version in [Version::MySql97, Version::MariaDb1011] {
        let Some(server) = Server::own(version, &["max_allowed_packet=32M"]) else { return };
        server.sql("", "create database d; create table d.kept as select 7 as a");
        server.stop("kill");
        assert!(server.try_sql(server.client("127.0.0.1", "root", ""), "select 1").is_err());
        server.start();
        assert_eq!(server.sql("d", "select a, @@max_allowed_packet from kept"), "7|33554432");
        server.restart("fast");
        let identity = if version.is_mariadb() { "@@server_id" } else { "@@server_uuid" };
        logs.push(server.sql("", &format!("select {identity}; show binary logs")));
        assert!(logs.last().unwrap().contains("binlog.000003|"), "{logs:?}");

        let dir = server.file("");
        assert!(dir.exists());
        drop(server);
        assert!(!dir.exists());
    }
    let Some(other) = Server::get(Version::MySql97) else { return };
    assert!(!logs[0].starts_with(&other.sql("", "select @@server_uuid")), "two servers are not one");
}

#[test]
fn an_error_in_sql_fails() {
    for server in Server::all() {
        let client = server.client("127.0.0.1", "root", "");
        let error = server.try_sql(client, "select 1; select nothing; select 2").unwrap_err();
        assert!(error.contains("Unknown column"), "{error}");
    }
}

#[test]
fn a_version_that_cannot_be_had_is_one_clear_line() {
    let output = Command::new(project("tests/env/mysql")).args(["bindir", "mysql-5.1"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(said.starts_with("mysql-5.1: ") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_replica_has_what_its_server_has_in_files_of_its_own() {
    for version in Version::ALL {
        let Some(server) = Server::own(version, &[]) else { continue };
        server.sql("", "create database d; create table d.t (a int); insert into d.t values (1)");
        let replica = server.replica();
        server.sql("d", "insert into t values (2)");
        let sql = "select count(*) from information_schema.tables where table_schema = 'd'";
        eventually("the table is there", || replica.sql("", sql) == "1");
        eventually("its rows are there", || replica.sql("d", "select count(*) from t") == "2");
        let executed = if version.is_mariadb() { "@@gtid_binlog_pos" } else { "@@gtid_executed" };
        let executed = |server: &Server| server.sql("", &format!("select {executed}"));
        assert_eq!(executed(&replica), executed(&server));
        assert_eq!(replica.sql("", "select @@server_id"), "2");
        if !version.is_mariadb() {
            assert_ne!(replica.sql("", "select @@server_uuid"), server.sql("", "select @@server_uuid"));
        }
    }
}
