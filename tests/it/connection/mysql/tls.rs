//! The ssl-modes, and certificates good and bad.

use walbrook::error::Class;
use walbrook::source::mysql::error::code;

use super::{parse, to, told, who};
use crate::support::mysql::{Server, Version};

#[tokio::test]
async fn an_unknown_authority_or_another_name_is_refused() {
    for server in Server::all() {
        let (ca, stranger) = (server.file("ca.crt"), server.file("stranger.crt"));
        for mode in ["REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"] {
            let info = to(server, "cdc", &format!("ssl-mode={mode}&ssl-ca={}", stranger.display()));
            let (error, text) = told(who(&info).await);
            assert_eq!(error.class(), Class::Config, "{mode}");
            assert!(text.contains("ssl-ca must hold the authority"), "{text}");
        }
        if server.version() == Version::MariaDb105 {
            continue; // it listens on one address
        }
        let other = |mode: &str| {
            let (port, ca) = (server.port(), ca.display());
            parse(&format!("mysql://cdc:secret@127.0.0.2:{port}/?ssl-mode={mode}&ssl-ca={ca}"))
        };
        let (error, text) = told(who(&other("VERIFY_IDENTITY")).await);
        assert_eq!(error.class(), Class::Config);
        assert!(text.contains("use ssl-mode=VERIFY_CA to leave the name out"), "{text}");
        assert_eq!(who(&other("VERIFY_CA")).await.unwrap(), "cdc|true");
    }
}

#[tokio::test]
async fn users_who_must_come_encrypted_or_with_a_certificate() {
    for server in Server::all() {
        let (error, _) = told(who(&to(server, "ssluser", "ssl-mode=DISABLED")).await);
        assert_eq!((error.class(), code(&error)), (Class::Config, Some(1045)));
        assert_eq!(who(&to(server, "ssluser", "")).await.unwrap(), "ssluser|true");

        let (error, _) = told(who(&to(server, "certuser", "ssl-mode=REQUIRED")).await);
        assert_eq!((error.class(), code(&error)), (Class::Config, Some(1045)));
        let files = tempfile::tempdir().unwrap();
        let key = files.path().join("client.key");
        std::fs::copy(server.file("client.key"), &key).unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let cert = server.file("client.crt");
        let with = |options: &str| format!("{options}&ssl-cert={}&ssl-key={}", cert.display(), key.display());
        let verified = format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={}", server.file("ca.crt").display());
        for options in ["ssl-mode=REQUIRED", "ssl-mode=PREFERRED", verified.as_str()] {
            assert_eq!(who(&to(server, "certuser", &with(options))).await.unwrap(), "certuser|true", "{options}");
        }
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let (error, text) = told(who(&to(server, "certuser", &with("ssl-mode=REQUIRED"))).await);
        assert!(error.class() == Class::Config && text.contains("may be read by others"), "{text}");
    }
}

#[tokio::test]
async fn a_server_without_tls() {
    let Some(server) = Server::own(Version::MariaDb1011, &["skip-ssl"]) else { return };
    assert_eq!(who(&to(&server, "cdc", "ssl-mode=PREFERRED")).await.unwrap(), "cdc|false");
    let (error, text) = told(who(&to(&server, "cdc", "ssl-mode=REQUIRED")).await);
    assert!(error.class() == Class::Config && text.contains("does not offer TLS"), "{text}");
}
