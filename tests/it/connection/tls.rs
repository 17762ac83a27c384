//! The six sslmodes, and certificates good and bad.

use std::path::Path;
use std::process::Command;

use walbrook::error::Class;

use super::{parse, to, told, who};
use crate::support::{Server, Version};

#[tokio::test]
async fn every_sslmode_against_a_server_with_tls() {
    for server in Server::all() {
        let ca = format!("sslrootcert={}", server.file("ca.crt").display());
        for (more, expected) in [
            ("sslmode=disable".to_owned(), "postgres|false"),
            ("sslmode=allow".to_owned(), "postgres|false"),
            ("sslmode=prefer".to_owned(), "postgres|true"),
            ("sslmode=require".to_owned(), "postgres|true"),
            (format!("sslmode=require {ca}"), "postgres|true"),
            (format!("sslmode=verify-ca {ca}"), "postgres|true"),
            (format!("sslmode=verify-full {ca}"), "postgres|true"),
            (format!("sslmode=verify-full host=localhost {ca}"), "postgres|true"),
            (format!("sslmode=verify-full host=localhost hostaddr=127.0.0.2 {ca}"), "postgres|true"),
            (format!("sslmode=verify-full ssl_min_protocol_version=TLSv1.3 sslsni=0 {ca}"), "postgres|true"),
            // The server wants it the other way round: these two give in.
            ("sslmode=allow user=ssluser".to_owned(), "ssluser|true"),
            ("sslmode=prefer user=plainuser".to_owned(), "plainuser|false"),
        ] {
            assert_eq!(who(&to(server, &more)).await.unwrap(), expected, "{more}");
        }
        let (error, _) = told(who(&to(server, "sslmode=require user=plainuser")).await);
        assert_eq!(error.class(), Class::Config);
    }
}

#[tokio::test]
async fn an_unknown_authority_or_another_name_is_refused() {
    for server in Server::all() {
        let (ca, stranger) = (server.file("ca.crt"), server.file("stranger.crt"));
        let (ca, stranger) = (ca.display(), stranger.display());
        // With a root certificate, `require` verifies as verify-ca does.
        for mode in ["require", "verify-ca", "verify-full"] {
            let (error, text) = told(who(&to(server, &format!("sslmode={mode} sslrootcert={stranger}"))).await);
            assert_eq!(error.class(), Class::Config, "{mode}");
            assert!(text.contains("UnknownIssuer") && text.contains("sslrootcert must hold"), "{mode}: {text}");
        }
        // libpq would go on in the clear here.
        assert_eq!(who(&to(server, &format!("sslmode=prefer sslrootcert={stranger}"))).await.unwrap(), "postgres|true");

        let elsewhere = format!("host=127.0.0.2 sslrootcert={ca}");
        let (error, text) = told(who(&to(server, &format!("sslmode=verify-full {elsewhere}"))).await);
        assert_eq!(error.class(), Class::Config);
        assert!(text.contains("not valid for name") && text.contains("verify-ca to leave the name out"), "{text}");
        assert_eq!(who(&to(server, &format!("sslmode=verify-ca {elsewhere}"))).await.unwrap(), "postgres|true");

        let (error, text) = told(who(&to(server, "sslmode=verify-full host=localhost sslrootcert=system")).await);
        assert_eq!(error.class(), Class::Config, "{text}");
        let (error, text) = told(who(&to(server, "sslmode=verify-ca sslrootcert=/nowhere/root.crt")).await);
        assert_eq!(error.class(), Class::Config);
        assert!(text.contains("/nowhere/root.crt"), "{text}");
    }
}

#[tokio::test]
async fn direct_tls() {
    for server in Server::all() {
        let outcome = who(&to(server, "sslmode=require sslnegotiation=direct channel_binding=require")).await;
        if server.version().number() >= 17 {
            assert_eq!(outcome.unwrap(), "postgres|true");
        } else {
            told(outcome);
        }
    }
}

#[tokio::test]
async fn a_server_without_tls() {
    let Some(server) = Server::own(Version::V15, &["ssl=off"]) else { return };
    for mode in ["disable", "allow", "prefer"] {
        assert_eq!(who(&to(&server, &format!("sslmode={mode}"))).await.unwrap(), "postgres|false");
        // One attempt's error, not that of the TLS that is not there.
        let (error, text) = told(who(&to(&server, &format!("sslmode={mode} password=wrong"))).await);
        assert_eq!(error.class(), Class::Config);
        assert!(text.contains("28P01") && !text.contains("does not offer"), "{text}");
    }
    let (error, text) = told(who(&to(&server, "sslmode=require")).await);
    assert_eq!(error.class(), Class::Config);
    assert!(text.contains("does not offer TLS") && text.contains("ssl = on"), "{text}");
}

/// Certificates as people have them: other hashes for the channel binding, self-signed, without a name, expired.
#[tokio::test]
async fn certificates_of_every_kind() {
    let Some(server) = Server::own(Version::V15, &[]) else { return };
    let rsa = "rsa:2048";
    let pss = "-sigopt rsa_padding_mode:pss";
    // What `openssl req -x509` is told, and whether a channel binding is defined for it (RFC 5929).
    for (name, key, options, bindable) in [
        ("rsa-sha1", rsa, "-sha1", true),
        ("rsa-sha256", rsa, "-sha256", true),
        ("rsa-sha384", rsa, "-sha384", true),
        ("rsa-sha512", rsa, "-sha512", true),
        ("pss-sha256", rsa, &format!("-sha256 {pss}"), true),
        ("pss-sha512", rsa, &format!("-sha512 {pss}"), true),
        ("ec-sha384", "ec -pkeyopt ec_paramgen_curve:secp384r1", "-sha384", true),
        ("ed25519", "ed25519", "", false),
    ] {
        install(&server, key, options, "/CN=localhost", "subjectAltName=DNS:localhost");
        let root = server.file("data/server.crt");
        // Self-signed and in the root file: believed as it is.
        let more = format!("host=localhost sslmode=verify-full sslrootcert={}", root.display());
        assert_eq!(who(&to(&server, &more)).await.unwrap(), "postgres|true", "{name}");
        // Before 16 the server itself cannot bind to a PSS signature.
        if bindable && !name.starts_with("pss") {
            let bound = who(&to(&server, &format!("{more} channel_binding=require"))).await;
            assert_eq!(bound.unwrap(), "postgres|true", "{name}");
        }
    }

    let root = server.file("data/server.crt");
    let full = |host: &str| {
        to(&server, &format!("host={host} hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={}", root.display()))
    };
    // Only a common name: counts where there is no alternative name of the kind.
    install(&server, rsa, "", "/O=x/CN=*.shop.example", "basicConstraints=CA:FALSE");
    assert_eq!(who(&full("db.shop.example")).await.unwrap(), "postgres|true");
    told(who(&full("shop.example")).await);
    told(who(&full("a.db.shop.example")).await);
    install(&server, rsa, "", "/CN=db.shop.example", "subjectAltName=DNS:other.example");
    told(who(&full("db.shop.example")).await);
    assert_eq!(who(&full("other.example")).await.unwrap(), "postgres|true");

    // Signed again, so that it ended yesterday.
    let crt = server.file("data/server.crt");
    let old = std::fs::read(&crt).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-days", "-1", "-signkey"]).arg(server.file("data/server.key")).arg("-in").arg(&crt);
    let output = openssl.output().unwrap();
    assert!(output.status.success() && output.stdout != old, "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(&crt, output.stdout).unwrap();
    server.restart("fast");
    let (error, text) = told(who(&full("localhost")).await);
    assert_eq!(error.class(), Class::Config);
    assert!(text.contains("Expired") && text.contains("renew"), "{text}");
    assert_eq!(who(&to(&server, "sslmode=require")).await.unwrap(), "postgres|true");
}

/// As Postgres' manual makes them: the server's request signed by an authority, without extensions.
#[tokio::test]
async fn a_certificate_of_version_1() {
    let Some(server) = Server::own(Version::V15, &[]) else { return };
    let sign = |authority: &str, key: &str| {
        let file = |name: &str| server.file(name);
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-req", "-set_serial", "77", "-days", "2", "-in"]).arg(file("server.csr"));
        openssl.arg("-CA").arg(file(authority)).arg("-CAkey").arg(file(key));
        let output = openssl.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(file("data/server.crt"), output.stdout).unwrap();
        server.restart("fast");
    };
    let ca = format!("sslrootcert={}", server.file("ca.crt").display());
    sign("ca.crt", "ca.key");
    let version =
        Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(server.file("data/server.crt")).output();
    if !String::from_utf8_lossy(&version.unwrap().stdout).contains("Version: 1") {
        return crate::support::skip("this openssl makes no certificates of version 1");
    }
    for more in [
        "sslmode=require channel_binding=require".to_owned(),
        format!("sslmode=verify-ca channel_binding=require {ca}"),
        format!("sslmode=verify-full host=localhost {ca}"),
    ] {
        assert_eq!(who(&to(&server, &more)).await.unwrap(), "postgres|true", "{more}");
    }
    let (_, text) = told(who(&to(&server, &format!("sslmode=verify-full {ca}"))).await);
    assert!(text.contains("leave the name out"), "{text}");
    let stranger = server.file("stranger.crt");
    let (_, text) = told(who(&to(&server, &format!("sslmode=verify-ca sslrootcert={}", stranger.display()))).await);
    assert!(text.contains("UnknownIssuer"), "{text}");

    // The authority's name, but not its key.
    let forged = (server.file("forged.crt"), server.file("forged.key"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-days", "2", "-subj", "/CN=walbrook test CA", "-out"]).arg(&forged.0).arg("-keyout").arg(&forged.1);
    assert!(openssl.output().unwrap().status.success());
    sign("forged.crt", "forged.key");
    let (error, text) = told(who(&to(&server, &format!("sslmode=verify-ca {ca}"))).await);
    assert_eq!(error.class(), Class::Config);
    assert!(text.contains("BadSignature"), "{text}");
    // An end entity in the root file is no authority for others.
    std::fs::copy(server.file("client.key"), server.file("leaf.key")).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-key"]).arg(server.file("leaf.key")).args(["-days", "2", "-subj", "/CN=leaf"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-out"]).arg(server.file("leaf.crt"));
    assert!(openssl.output().unwrap().status.success());
    sign("leaf.crt", "leaf.key");
    let leaf = server.file("leaf.crt");
    let (_, text) = told(who(&to(&server, &format!("sslmode=verify-ca sslrootcert={}", leaf.display()))).await);
    assert!(text.contains("UnknownIssuer"), "{text}");
}

/// Gives the server a self-signed certificate of its own.
fn install(server: &Server, key: &str, options: &str, subject: &str, extension: &str) {
    let (crt, file) = (server.file("data/server.crt"), server.file("data/server.key"));
    let new = |path: &Path| format!("{}.new", path.display());
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-newkey"]).args(key.split(' '));
    openssl.args(options.split_whitespace());
    openssl.args(["-days", "2", "-subj", subject, "-addext", extension, "-keyout", &new(&file), "-out", &new(&crt)]);
    let output = openssl.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Into the files that are there, so that their owner and mode stay.
    for path in [&file, &crt] {
        std::fs::write(path, std::fs::read(new(path)).unwrap()).unwrap();
    }
    server.restart("fast");
}

#[tokio::test]
async fn nobody_listens() {
    let (error, text) = told(who(&parse("postgres://u:p@127.0.0.1:1/d?sslmode=require")).await);
    assert!(error.is_transient() && text.contains("127.0.0.1:1") && text.contains("refused"), "{text}");
    let (error, text) = told(who(&parse("postgres://u:p@nowhere.invalid/d")).await);
    assert!(error.is_transient() && text.contains("nowhere.invalid"), "{text}");
}
