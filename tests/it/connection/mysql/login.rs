//! Every way to log in, over every kind of connection.

use walbrook::error::Class;
use walbrook::source::mysql::connection::Connection;
use walbrook::source::mysql::error::code;

use super::{parse, to, told, who};
use crate::support::mysql::{Server, Version};

/// The accounts of a version, one a plugin.
fn users(version: Version) -> &'static [&'static str] {
    match version {
        Version::MySql97 => &["cdc", "sha2user", "root"],
        Version::MariaDb105 | Version::MariaDb1011 => &["cdc", "nativeuser", "eduser"],
        Version::MariaDb118 => &["cdc", "nativeuser", "eduser", "parsecuser"],
    }
}

#[tokio::test]
async fn every_plugin_over_every_kind_of_connection() {
    for server in Server::all() {
        let ca = server.file("ca.crt").display().to_string();
        for user in users(server.version()) {
            for (options, encrypted) in [
                ("ssl-mode=DISABLED".to_owned(), false),
                ("ssl-mode=PREFERRED".to_owned(), true),
                ("ssl-mode=REQUIRED".to_owned(), true),
                (format!("ssl-mode=VERIFY_CA&ssl-ca={ca}"), true),
                (format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={ca}"), true),
                (format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={ca}&tls-version=TLSv1.3"), true),
            ] {
                let what = format!("{} {user} {options}", server.version().name());
                // Twice: the second time from the server's cache, where it has one.
                for _ in 0..2 {
                    let info = to(server, user, &options);
                    let found = who(&info).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                    assert_eq!(found, format!("{user}|{encrypted}"), "{what}");
                }
            }
            let (error, text) = told(who(&parse(&format!("mysql://{user}:wrong@127.0.0.1:{}/", server.port()))).await);
            assert_eq!((error.class(), code(&error)), (Class::Config, Some(1045)), "{text}");
            assert!(text.contains("remedy: check user and password"), "{text}");
            let (error, text) = told(who(&parse(&format!("mysql://{user}@127.0.0.1:{}/", server.port()))).await);
            assert_eq!((error.class(), code(&error)), (Class::Config, Some(1045)), "{text}");
            assert!(text.contains("without a password"), "{text}");
        }
    }
}

/// A nonce of the signing plugins may end in any byte, zero too: one in 256 does.
#[tokio::test]
async fn nonces_of_any_bytes() {
    let Some(server) = Server::get(Version::MariaDb118) else { return };
    let path = server.file("mysql.sock");
    for user in ["eduser", "parsecuser"] {
        for _ in 0..600 {
            let info = parse(&format!("mysql://{user}:secret@localhost/?socket={}", path.display()));
            Connection::connect(&info).await.unwrap().close().await;
        }
    }
}

#[tokio::test]
async fn over_a_socket() {
    for server in Server::all() {
        let path = server.file("mysql.sock");
        for user in users(server.version()) {
            let info = parse(&format!("mysql://{user}:secret@localhost/?socket={}", path.display()));
            assert_eq!(who(&info).await.unwrap(), format!("{user}|false"));
        }
    }
}

#[tokio::test]
async fn an_empty_password() {
    for server in Server::all() {
        for options in ["ssl-mode=DISABLED", "ssl-mode=REQUIRED"] {
            let info = parse(&format!("mysql://emptyuser@127.0.0.1:{}/?{options}", server.port()));
            assert!(who(&info).await.unwrap().starts_with("emptyuser|"));
            let (error, _) = told(who(&to(server, "emptyuser", options)).await);
            assert_eq!(code(&error), Some(1045));
        }
    }
}

/// The server knows the password only after somebody has told it: encrypted with its key, or over TLS.
#[tokio::test]
async fn the_servers_key_and_its_cache() {
    let Some(server) = Server::get(Version::MySql97) else { return };
    let long = "x".repeat(150);
    server.sql(
        "",
        &format!(
            "create user keyuser identified with caching_sha2_password by 'secret';
             create user longuser identified with caching_sha2_password by '{long}'"
        ),
    );
    let refuse = "ssl-mode=DISABLED&get-server-public-key=0";
    let (error, text) = told(who(&to(server, "keyuser", refuse)).await);
    assert_eq!(error.class(), Class::Config);
    assert!(text.contains("get-server-public-key=1"), "{text}");

    let stranger = format!("ssl-mode=DISABLED&server-public-key-path={}", server.file("ca.crt").display());
    let (error, text) = told(who(&to(server, "keyuser", &stranger)).await);
    assert!(error.class() == Class::Config && text.contains("no public key"), "{text}");

    let given = format!("ssl-mode=DISABLED&server-public-key-path={}", server.file("data/public_key.pem").display());
    assert_eq!(who(&to(server, "keyuser", &given)).await.unwrap(), "keyuser|false");
    assert_eq!(who(&to(server, "keyuser", refuse)).await.unwrap(), "keyuser|false", "now from the cache");

    let info = parse(&format!("mysql://longuser:{long}@127.0.0.1:{}/?ssl-mode=DISABLED", server.port()));
    assert_eq!(who(&info).await.unwrap(), "longuser|false");
}

#[tokio::test]
async fn the_older_sha256_password() {
    let Some(server) = Server::get(Version::MySql97) else { return };
    // 9.7 may have lost it.
    let root = server.client("127.0.0.1", "root", "");
    if server.try_sql(root, "create user sha256user identified with sha256_password by 'secret'").is_err() {
        return;
    }
    for options in ["ssl-mode=DISABLED", "ssl-mode=REQUIRED"] {
        assert!(who(&to(server, "sha256user", options)).await.unwrap().starts_with("sha256user|"));
    }
}

#[tokio::test]
async fn who_has_no_rights_is_told_what_to_grant() {
    for server in Server::all() {
        let (error, text) =
            told(who(&parse(&format!("mysql://bareuser:secret@127.0.0.1:{}/mysql", server.port()))).await);
        assert_eq!((error.class(), code(&error)), (Class::Config, Some(1044)), "{text}");
        let (error, text) = told(who(&parse(&format!("mysql://cdc:secret@127.0.0.1:{}/nowhere", server.port()))).await);
        assert_eq!((error.class(), code(&error)), (Class::Config, Some(1049)), "{text}");
        assert!(text.contains("database's name"), "{text}");
        let info = to(server, "bareuser", "");
        let mut connection = Connection::connect(&info).await.unwrap();
        let (error, text) = told(connection.query("SELECT * FROM mysql.user").await);
        assert_eq!((error.class(), code(&error)), (Class::Config, Some(1142)), "{text}");
        assert!(text.contains("remedy: GRANT SELECT ON") && text.contains("'bareuser'@'127.0.0.1'"), "{text}");
        // The connection is usable after an error.
        assert_eq!(super::ask(&mut connection, "SELECT 1").await, "1");
    }
}
