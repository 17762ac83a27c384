//! Every way to log in, and every way to be refused.

use walbrook::error::Class;
use walbrook::source::postgres::connection::{Connection, Role};
use walbrook::source::postgres::error::code;

use super::{ask, to, told, who};
use crate::support::Server;

#[tokio::test]
async fn every_account_by_its_own_method() {
    for server in Server::all() {
        let cert =
            format!("sslcert={} sslkey={}", server.file("client.crt").display(), server.file("client.key").display());
        for (user, more, expected) in [
            ("postgres", "sslmode=disable", "postgres|false"),
            ("postgres", "sslmode=require", "postgres|true"),
            ("ssluser", "sslmode=require", "ssluser|true"),
            ("plainuser", "sslmode=disable", "plainuser|false"),
            ("md5user", "sslmode=disable", "md5user|false"),
            ("md5user", "sslmode=require", "md5user|true"),
            ("pwuser", "sslmode=disable", "pwuser|false"),
            ("pwuser", "sslmode=require", "pwuser|true"),
            ("certuser", &format!("password='' sslmode=require {cert}"), "certuser|true"),
        ] {
            let info = to(server, &format!("user={user} {more}"));
            assert_eq!(who(&info).await.unwrap(), expected, "{user} {more}");
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_the_users_to_mend() {
    let Some(server) = Server::all().next() else { return };
    for user in ["postgres", "md5user", "pwuser", "nobody_there"] {
        for mode in ["disable", "prefer", "require"] {
            let (error, text) = told(who(&to(server, &format!("user={user} password=wrong sslmode={mode}"))).await);
            assert_eq!((error.class(), code(&error)), (Class::Config, Some("28P01")), "{text}");
            assert!(text.contains(".pgpass") && !text.contains("wrong"), "{text}");
        }
    }
    let (error, text) = told(who(&to(server, "password=''")).await);
    assert_eq!(error.class(), Class::Config);
    assert!(text.contains("none is given") && text.contains("PGPASSWORD"), "{text}");

    let (error, _) = told(who(&to(server, "dbname=nowhere")).await);
    assert_eq!((error.class(), code(&error)), (Class::Config, Some("3D000")));
    // No line of pg_hba.conf for it.
    let (error, text) = told(who(&to(server, "user=ssluser sslmode=disable")).await);
    assert_eq!((error.class(), code(&error)), (Class::Config, Some("28000")));
    assert!(text.contains("pg_hba.conf"), "{text}");
}

#[tokio::test]
async fn a_login_is_bound_to_its_tls_connection() {
    for server in Server::all() {
        let bound = to(server, "sslmode=require channel_binding=require");
        assert_eq!(who(&bound).await.unwrap(), "postgres|true");
        assert_eq!(who(&to(server, "sslmode=require channel_binding=disable")).await.unwrap(), "postgres|true");
        // Neither of these methods can be bound; nor can anything without TLS.
        let unbound = [
            "user=md5user sslmode=require".to_owned(),
            "user=pwuser sslmode=require".to_owned(),
            format!("host={}", server.file("").display()),
        ];
        for more in unbound {
            let (error, text) = told(who(&to(server, &format!("{more} channel_binding=require"))).await);
            assert_eq!(error.class(), Class::Config, "{text}");
            assert!(text.contains("not bound"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_client_certificate_is_wanted() {
    let Some(server) = Server::all().next() else { return };
    let file = |name: &str| server.file(name).display().to_string();
    let with = |cert: &str, key: &str| {
        to(server, &format!("user=certuser password='' sslmode=require sslcert={cert} sslkey={key}"))
    };

    let (error, text) = told(who(&to(server, "user=certuser password='' sslmode=require")).await);
    assert_eq!((error.class(), code(&error)), (Class::Config, Some("28000")), "{text}");
    // One that the server's authority did not sign: the server says so by an alert, or just closes.
    let (_, text) = told(Connection::connect(&with(&file("stranger.crt"), &file("stranger.key")), Role::Sql).await);
    assert!(
        text.contains("UnknownCA") || text.contains("closed") || text.contains("reset") || text.contains("pipe"),
        "{text}"
    );

    let dir = tempfile::tempdir().unwrap();
    let own = |name: &str| dir.path().join(name).display().to_string();
    std::fs::copy(server.file("client.key"), own("open.key")).unwrap();
    std::fs::set_permissions(own("open.key"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(own("empty"), "").unwrap();
    for (cert, key, expected) in [
        (file("client.crt"), own("open.key"), "chmod 0600"),
        (file("client.crt"), own("missing"), "No such file"),
        (own("empty"), file("client.key"), "no certificate"),
        (file("client.crt"), file("stranger.key"), "belong together"),
    ] {
        let (error, text) = told(who(&with(&cert, &key)).await);
        assert_eq!(error.class(), Class::Config);
        assert!(text.contains(expected), "{text}");
    }
}

/// PKCS#8 is what the server's own script makes; PKCS#1 and SEC1 are what older tools make.
#[tokio::test]
async fn a_private_key_of_any_format() {
    let Some(server) = Server::all().next() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let openssl = |arguments: &str| {
        let output = std::process::Command::new("openssl").args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let (ca, ca_key) = (server.file("ca.crt"), server.file("ca.key"));
    openssl(&format!("ec -in {} -out {}", server.file("client.key").display(), path("sec1.key")));
    let (rsa, pkcs1, csr, crt) = (path("rsa.key"), path("pkcs1.key"), path("rsa.csr"), path("rsa.crt"));
    openssl(&format!("req -newkey rsa:2048 -nodes -subj /CN=certuser -keyout {rsa} -out {csr}"));
    openssl(&format!(
        "x509 -req -CA {} -CAkey {} -set_serial 7 -days 2 -in {csr} -out {crt}",
        ca.display(),
        ca_key.display()
    ));
    openssl(&format!("rsa -in {rsa} -traditional -out {pkcs1}"));
    openssl(&format!("pkcs8 -topk8 -in {rsa} -passout pass:x -out {}", path("locked.key")));
    let client = server.file("client.crt").display().to_string();
    for (cert, key, heading) in [
        (&client, path("sec1.key"), "EC PRIVATE KEY"),
        (&crt, pkcs1, "RSA PRIVATE KEY"),
        (&crt, rsa, "BEGIN PRIVATE KEY"),
    ] {
        assert!(std::fs::read_to_string(&key).unwrap().contains(heading), "{heading}");
        let info = to(server, &format!("user=certuser password='' sslmode=require sslcert={cert} sslkey={key}"));
        assert_eq!(who(&info).await.unwrap(), "certuser|true", "{heading}");
    }
    let locked = format!("sslmode=require sslcert={crt} sslkey={}", path("locked.key"));
    let (_, text) = told(who(&to(server, &locked)).await);
    assert!(text.contains("takes the passphrase off"), "{text}");
}

#[tokio::test]
async fn a_unix_socket() {
    for server in Server::all() {
        let info = to(server, &format!("host={} sslmode=require", server.file("").display()));
        // TLS does not apply to it, whatever the mode.
        assert_eq!(who(&info).await.unwrap(), "postgres|false");
        let mut connection = Connection::connect(&info, Role::Replication).await.unwrap();
        assert_eq!(ask(&mut connection, "SELECT pg_backend_pid()").await, connection.backend_pid().to_string());
        assert!(!connection.is_encrypted());
    }
    let (error, text) = told(who(&super::parse("host=/nowhere user=u")).await);
    assert!(error.is_transient() && text.contains("/nowhere/.s.PGSQL.5432"), "{text}");
}
