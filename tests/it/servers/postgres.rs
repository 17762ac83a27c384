use std::process::Command;

use crate::support::{Database, Server, Version, project};

#[test]
fn every_version_is_itself_and_has_logical_replication() {
    for server in Server::all() {
        let number = server.psql("postgres", "select current_setting('server_version_num')::int / 10000");
        assert_eq!(number, server.version().number().to_string());
        let settings = server.psql(
            "postgres",
            "select current_setting('wal_level'), current_setting('max_replication_slots'), current_setting('fsync')",
        );
        assert_eq!(settings, "logical|60|off");
    }
}

#[test]
fn every_account_comes_in_by_its_own_method_and_by_no_other() {
    for server in Server::all() {
        let connect = |user: &str, mode: &str, more: &str| {
            let port = server.port();
            let connection = format!("host=127.0.0.1 port={port} dbname=postgres user={user} sslmode={mode} {more}");
            let sql = "select current_user, ssl from pg_stat_ssl where pid = pg_backend_pid()";
            server.try_psql(&connection, sql)
        };
        let allowed = |user: &str, mode: &str, more: &str| {
            let tls = if mode == "disable" { "f" } else { "t" };
            assert_eq!(connect(user, mode, more), Ok(format!("{user}|{tls}")));
        };
        let refused = |user: &str, mode: &str, more: &str, because: &str| {
            let error = connect(user, mode, more).expect_err(user);
            assert!(error.contains(because), "{user}: {error}");
        };
        let right = "password=secret";
        let (key, certificate) = (server.file("client.key"), server.file("client.crt"));
        let own = format!("sslkey={} sslcert={}", key.display(), certificate.display());

        for user in ["postgres", "md5user", "pwuser"] {
            for mode in ["disable", "require"] {
                allowed(user, mode, right);
                refused(user, mode, "password=wrong", "password authentication failed");
            }
        }
        allowed("postgres", "require", "password=secret channel_binding=require");
        refused("md5user", "require", "password=secret channel_binding=require", "channel binding");
        allowed("ssluser", "require", right);
        refused("ssluser", "disable", right, "pg_hba.conf rejects");
        allowed("plainuser", "disable", right);
        refused("plainuser", "require", right, "pg_hba.conf rejects");
        allowed("certuser", "require", &own);
        refused("certuser", "require", "sslkey=none sslcert=none", "requires a valid client certificate");
    }
}

#[test]
fn the_certificate_is_valid_for_its_names_and_its_authority_only() {
    for server in Server::all() {
        let connect = |host: &str, mode: &str, authority: &str| {
            let authority = server.file(authority);
            let (port, authority) = (server.port(), authority.display());
            let connection = format!(
                "host={host} port={port} dbname=postgres user=postgres password=secret sslmode={mode} sslrootcert={authority}"
            );
            server.try_psql(&connection, "select 1")
        };
        for host in ["localhost", "127.0.0.1"] {
            assert_eq!(connect(host, "verify-full", "ca.crt"), Ok("1".into()));
        }
        assert_eq!(connect("127.0.0.2", "verify-ca", "ca.crt"), Ok("1".into()));
        assert!(connect("127.0.0.2", "verify-full", "ca.crt").is_err_and(|error| error.contains("does not match")));
        assert!(connect("localhost", "verify-ca", "stranger.crt").is_err_and(|error| error.contains("verify failed")));
    }
}

#[test]
fn databases_are_apart_and_give_their_slots_back() {
    for server in Server::all() {
        let (one, other) = (server.database("apart"), server.database("apart"));
        assert_ne!(one.name(), other.name());
        one.psql("create table t (a int); insert into t values (1), (2)");
        assert_eq!(one.psql("select a from t order by a"), "1\n2");
        assert!(server.try_psql(&other.url(), "table t").is_err());

        let name = one.name().to_string();
        one.psql("select pg_create_logical_replication_slot('of_' || current_database(), 'pgoutput')");
        let slots = format!("select count(*) from pg_replication_slots where database = '{name}'");
        assert_eq!(one.server().psql("postgres", &slots), "1");
        drop(one);
        assert_eq!(server.psql("postgres", &slots), "0");
    }
}

#[test]
fn contrib_types_are_there() {
    for server in Server::all() {
        let db: Database = server.database("contrib");
        db.psql("create extension hstore; create extension citext");
        assert_eq!(db.psql("select 'a=>1'::hstore -> 'a', 'X'::citext = 'x'"), "1|t");
    }
}

#[test]
fn an_own_server_survives_a_crash_and_goes_when_dropped() {
    let Some(server) = Server::own(Version::V15, &["max_slot_wal_keep_size=64MB", "fsync=on"]) else { return };
    assert_eq!(server.psql("postgres", "show max_slot_wal_keep_size; show fsync"), "64MB\non");
    server.psql("postgres", "create table kept as select 7 as a");
    server.stop("immediate");
    assert!(server.try_psql(&server.url("postgres"), "select 1").is_err());
    server.start();
    assert_eq!(server.psql("postgres", "table kept; show max_slot_wal_keep_size"), "7\n64MB");
    server.restart("fast");
    assert!(server.program("pg_isready").args(["-q", "-d", &server.url("postgres")]).status().unwrap().success());

    let dir = server.file("");
    assert!(dir.exists());
    drop(server);
    assert!(!dir.exists());
}

#[test]
fn an_error_in_sql_fails() {
    let Some(server) = Server::get(Version::V15) else { return };
    let error = server.try_psql(&server.url("postgres"), "select 1; select 1/0; select 2").unwrap_err();
    assert!(error.contains("division by zero"), "{error}");
    let wrong_role = server.try_psql(&server.url_as("nobody_there", "postgres"), "select 1");
    assert!(wrong_role.is_err());
}

#[test]
fn a_version_that_cannot_be_had_is_one_clear_line() {
    let output = Command::new(project("tests/env/postgres")).args(["bindir", "9"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(said.starts_with("postgres 9: ") && said.lines().count() == 1, "{said}");
}
