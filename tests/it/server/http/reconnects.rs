//! Errors and reconnects by class, of a sidecar whose connection somebody breaks: as many as it says in its log.

use walbrook::error::Class;
use walbrook::proto::v1;
use walbrook::proto::v1::admin_client::AdminClient;

use super::running::{Server, Sidecar, servers};
use crate::source::eventually;

/// Ends the connection that the log is read by.
fn break_stream(server: &Server) {
    match server {
        Server::Postgres(server) => {
            let ended = server.psql("postgres", "select pg_terminate_backend(pid) from pg_stat_replication");
            assert_eq!(ended, "t");
        }
        Server::MySql(server) => {
            let id = server.sql("", "select id from information_schema.processlist where command like 'Binlog Dump%'");
            server.sql("", &format!("kill {id}"));
        }
    }
}

#[test]
fn a_broken_connection_is_one_error_and_one_reconnect() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for server in servers() {
        let dir = tempfile::tempdir().unwrap();
        server.table("wanted", 1);
        let variables = [("SINK_TYPE", "null"), ("SINK_NAME", "nothing"), ("WALBROOK_GRPC__LISTEN", "127.0.0.1:0")];
        let sidecar = Sidecar::start(&server, "wanted", dir.path(), &variables);
        sidecar.wait_ready(200, "all of the server's log is durable");
        let mut failed = 0;
        for broken in 1..=2 {
            break_stream(&server);
            eventually("it has noticed", || {
                let page = sidecar.metrics();
                page.value("walbrook_source_errors_total", &[("class", "transient")]) >= Some(f64::from(broken))
            });
            server.insert("wanted", 10 + broken, 1, 10);
            eventually("it reads on", || {
                let table = server.qualified("wanted");
                let inserted = [("operation", "insert"), ("table", &*table)];
                let page = sidecar.metrics();
                page.value("walbrook_events_total", &inserted) == Some(f64::from(broken))
                    && page.value("walbrook_source_connected", &[]) == Some(1.0)
            });
            let page = sidecar.metrics();
            // One, unless the server still held the slot when it was asked again.
            failed = sidecar.log().matches("the source failed, trying again").count() as u64;
            assert!(failed >= u64::from(broken), "{}", sidecar.log());
            for class in Class::ALL {
                let times = if class == Class::Transient { failed as f64 } else { 0.0 };
                for name in ["source_errors", "source_reconnects", "reconnects"] {
                    let found = page.value(&format!("walbrook_{name}_total"), &[("class", class.name())]);
                    assert_eq!(found, Some(times), "{name} {}\n{}", class.name(), sidecar.log());
                }
                for name in ["errors", "reconnects"] {
                    let labels = [("class", class.name()), ("sink", "nothing")];
                    assert_eq!(page.value(&format!("walbrook_sink_{name}_total"), &labels), Some(0.0));
                }
            }
        }
        let log = sidecar.log();
        let line = log.lines().find(|line| line.contains("listening for gRPC"));
        let address =
            line.and_then(|line| line.split("address=").nth(1)).unwrap_or_else(|| panic!("no address: {log}"));
        let status = runtime.block_on(async {
            let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", address.trim()));
            let channel = endpoint.expect("an address").connect().await.expect("a connection");
            AdminClient::new(channel).get_status(v1::GetStatusRequest {}).await.expect("a status").into_inner()
        });
        let source = status.source.expect("a source");
        assert_eq!((source.reconnects, source.state()), (failed, v1::SourceState::Streaming));
        assert!(!source.last_error.is_empty(), "though it is over");
    }
}
