//! Who gets in: TLS, certificates of clients, tokens; and what everybody may ask.

use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Db, Sidecar, certificates, on_each, subscribe};
use crate::source::eventually;
use crate::support::{Server, Version};

fn postgres(prefix: &str, test: impl Fn(&Db)) {
    // What is tested here is before any database.
    on_each(prefix, |db| {
        if db.url.starts_with("postgres") {
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
