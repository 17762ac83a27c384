//! Who gets in: TLS, certificates of clients, tokens; and what everybody may ask.

use std::io::{Read, Write};
use std::net::TcpStream;

use prost::Message as _;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use walbrook::proto::v1;

use super::{Db, Sidecar, certificates, on_each, subscribe};
use crate::source::{PATIENCE, eventually};
use crate::support::{Server, Version};

fn postgres(prefix: &str, test: impl Fn(&Db)) {
    // What is tested here is before any database.
    on_each(prefix, |db| {
        if db.url.starts_with("postgres") {
            db.sql("create table t (id int primary key)");
            test(db);
        }
    });
}

#[test]
fn tls_and_certificates_of_clients() {
    postgres("tls", |db| {
        let dir = tempfile::tempdir().expect("a folder");
        let at = certificates(dir.path());
        let file = |name: &str| at.join(name).to_str().expect("UTF-8").to_owned();
        let tls = format!(
            "tls: {{ certificate: {}, key: {}, client_ca: {} }}",
            file("server.crt"),
            file("server.key"),
            file("ca.crt")
        );
        let sidecar = Sidecar::start(db, &[&tls]);
        let address = format!("https://{}", sidecar.address());
        let (ca, cert, key, stranger) = (file("ca.crt"), file("client.crt"), file("client.key"), file("stranger.crt"));
        let whole = ["--ca", &ca, "--cert", &cert, "--key", &key, "--until", "current"];
        subscribe(&address, &whole).end().ok();
        let end = |arguments: &[&str]| {
            let mut command = crate::support::walbrook();
            command.args(["subscribe", &address, "--until", "current"]).args(arguments);
            let ended = crate::source::Program::start(command).end();
            assert_ne!(ended.code(), Some(0), "{arguments:?}");
            ended.log
        };
        let distrusted = end(&["--ca", &stranger, "--cert", &cert, "--key", &key]);
        assert!(distrusted.contains("certificate"), "{distrusted}");
        end(&["--ca", &ca]);
        let mut plain = crate::support::walbrook();
        plain.args(["subscribe", &sidecar.address(), "--until", "current"]);
        assert_eq!(crate::source::Program::start(plain).end().code(), Some(1));
        // Files that were renewed are taken; files that cannot be used leave the former ones.
        std::fs::write(at.join("server.crt"), "no certificate").expect("a file");
        subscribe(&address, &whole).end().ok();
        assert!(sidecar.program.log().contains("cannot be used"), "{}", sidecar.program.log());
    });
}

#[test]
fn tokens_have_roles_and_are_in_no_log() {
    postgres("tokens", |db| {
        let sidecar =
            Sidecar::start(db, &["tokens: [{ token: read-0123456789ab }, { token: rule-0123456789ab, role: admin }]"]);
        let code = |token: Option<&str>, wanted| {
            let mut command = crate::support::walbrook();
            command.args(["subscribe", &sidecar.address(), "--wait", "--until", "current"]);
            if let Some(token) = token {
                command.env("WALBROOK_TOKEN", token);
            }
            let ended = crate::source::Program::start(command).end();
            assert_eq!(ended.code(), Some(wanted), "{token:?}: {}", ended.log);
            ended.log
        };
        assert!(code(None, 2).contains("Unauthenticated"));
        assert!(code(Some("read-0123456789abc"), 2).contains("Unauthenticated"));
        code(Some("read-0123456789ab"), 0);
        code(Some("rule-0123456789ab"), 0);
        let (runtime, channel) = sidecar.connect();
        let mut admin = walbrook::proto::v1::admin_client::AdminClient::new(channel.clone());
        let mut shutdown = async |token: &str| {
            let mut request =
                tonic::Request::new(walbrook::proto::v1::ShutdownRequest { reason: "as\ntested".to_owned() });
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
            admin.shutdown(request).await.map(drop).map_err(|status| status.code())
        };
        assert_eq!(runtime.block_on(shutdown("read-0123456789ab")), Err(Code::PermissionDenied));
        // Health is everybody's.
        let mut health = HealthClient::new(channel);
        runtime.block_on(health.check(HealthCheckRequest::default())).expect("an answer");
        assert_eq!(runtime.block_on(shutdown("rule-0123456789ab")), Ok(()));
        let ended = sidecar.program.end();
        assert_eq!(ended.code(), Some(0), "{}", ended.log);
        assert!(!ended.log.contains("0123456789ab"), "{}", ended.log);
        assert!(ended.log.contains("astested"), "{}", ended.log);
    });
}

#[test]
fn health_tells_the_truth() {
    let Some(server) = Server::own(Version::V17, &[]) else { return };
    server.psql("postgres", "create database shop");
    server.psql("shop", "create table t (id int primary key)");
    let db = Db {
        url: server.url("shop"),
        schema: "public".to_owned(),
        tables: "public.*".to_owned(),
        name: "health".to_owned(),
        sql: Box::new(|_| {}),
    };
    let sidecar = Sidecar::start(&db, &[]);
    let (runtime, channel) = sidecar.connect();
    let health = HealthClient::new(channel);
    let is = |wanted: ServingStatus| {
        eventually(&format!("{wanted:?}"), || {
            let check = async { health.clone().check(HealthCheckRequest::default()).await };
            runtime.block_on(check).expect("an answer").into_inner().status() == wanted
        });
    };
    is(ServingStatus::Serving);
    server.stop("fast");
    is(ServingStatus::NotServing);
    server.start();
    is(ServingStatus::Serving);
}

/// By HTTP/1.1, as a browser would: status, body.
fn by_web(sidecar: &Sidecar, path: &str, message: &[u8], headers: &str) -> (String, Vec<u8>) {
    let mut socket = TcpStream::connect(sidecar.address()).expect("a connection");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let framed = [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc-web+proto\r\nconnection: close\r\n{headers}\
         content-length: {}\r\n\r\n",
        framed.len()
    );
    socket.write_all(&[head.as_bytes(), &framed].concat()).expect("somebody who listens");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("an answer");
    let at = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let body = answer.split_off(at);
    (String::from_utf8(answer).expect("a head of text").lines().next().expect("a line").to_owned(), body)
}

#[test]
fn a_page_reads_by_grpc_web_where_it_is_allowed_to() {
    postgres("web", |db| {
        db.sql("insert into t select g from generate_series(1, 100) g");
        let sidecar = Sidecar::start(db, &["web_origins: ['https://console.example.org']"]);
        let _streams = sidecar.connect();
        let has = |body: &[u8], part: &[u8]| body.windows(part.len()).any(|bytes| bytes == part);
        let name = b"\x0a\x11walbrook.v1.Admin";
        let (status, body) =
            by_web(&sidecar, "/grpc.health.v1.Health/Check", name, "origin: https://console.example.org\r\n");
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(
            has(&body, b"\0\0\0\0\x02\x08\x01") && has(&body, b"grpc-status:0"),
            "{}",
            String::from_utf8_lossy(&body)
        );
        assert_eq!(
            by_web(&sidecar, "/grpc.health.v1.Health/Check", name, "origin: https://evil.example\r\n").0,
            "HTTP/1.1 403 Forbidden"
        );
        // A stream of as much as is asked for at its beginning.
        let open = v1::Open {
            start: v1::Start::Snapshot.into(),
            format: v1::Format::Json.into(),
            credit: Some(v1::Credit { bytes: 1, batches: 1 }),
            ..v1::Open::default()
        };
        let open = v1::SubscribeRequest { request: Some(v1::subscribe_request::Request::Open(open)) };
        let (status, body) = by_web(&sidecar, "/walbrook.v1.ChangeStream/Subscribe", &open.encode_to_vec(), "");
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(has(&body, b"\"op\":\"r\"") && has(&body, b"grpc-status:0"), "{}", String::from_utf8_lossy(&body));
    });
}
