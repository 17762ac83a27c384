//! The gRPC server: `walbrook.v1.ChangeStream` and `Admin`, health and reflection, over HTTP/2 and gRPC-Web.
//!
//! Invariants:
//! - What is not configured does not listen; what cannot listen is said at the start.
//! - Every call passes [`route`]: who may call what is decided in one place.

mod admin;
mod auth;
mod health;
mod listener;
mod route;
mod status;
mod subscribe;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder;

use crate::error::{Error, Result};
use crate::flow::{Phase, Progress};
use crate::pipeline::{Control, Hub};
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::v1::admin_server::AdminServer;
use crate::server::http::readiness;
use crate::source::Lanes;
use crate::source::tables::Names;
use admin::Admin;
use health::{Health, States};
use listener::Listener;
use route::{REQUEST_MAX_BYTES, Router, Services};
use subscribe::Subscriptions;
use tls::Tls;

pub use admin::Stop;
pub use auth::{Role, Tokens};
pub use tls::TlsFiles;

/// Where it listens and what it allows.
pub struct Settings {
    /// At least one.
    pub listen: Vec<SocketAddr>,
    pub tls: Option<TlsFiles>,
    pub tokens: Tokens,
    /// Web pages that may call.
    pub web_origins: Vec<String>,
    pub max_connections: usize,
    /// After how long a silent peer is asked, and after how long without an answer it is left.
    pub keepalive: Duration,
    /// Subscriptions at once.
    pub max_consumers: usize,
    /// Of a durable consumer: batches that are sent and not acknowledged.
    pub max_unacked_batches: usize,
}

/// What it serves.
pub struct Served {
    pub hub: Hub,
    pub control: Control,
    pub progress: Arc<Progress>,
    pub lanes: Arc<dyn Lanes>,
    /// How the source's names are written.
    pub names: Names<'static>,
    /// The sinks' names, in the configuration's order.
    pub sinks: Vec<String>,
    pub stop: Stop,
}

/// A server that listens already and does not answer yet.
pub struct Server {
    listener: Listener,
    router: Router,
}

impl Server {
    /// Errors: Config, for an address that cannot be listened on, or files of TLS that cannot be used.
    pub async fn bind(settings: Settings, served: Served) -> Result<Server> {
        let Settings { listen, tls, tokens, web_origins, .. } = settings;
        let Settings { max_connections, keepalive, max_consumers, max_unacked_batches, .. } = settings;
        let tls = tls.map(Tls::new).transpose()?;
        if tokens.is_empty() && tls.as_ref().is_none_or(|tls| !tls.asks_clients()) {
            let here = listen.iter().all(|address| address.ip().is_loopback());
            if !here {
                tracing::warn!(
                    "everybody who reaches the gRPC server may read the stream and administer it: set grpc.tokens or \
                     grpc.tls.client_ca"
                );
            }
        }
        let listener = Listener::bind(&listen, tls, max_connections, keepalive).await?;
        for address in listener.addresses() {
            tracing::info!(%address, "listening for gRPC");
        }
        let (hub, progress) = (served.hub.clone(), served.progress.clone());
        let (asked, watched) = (progress.clone(), progress.clone());
        let subscriptions = Subscriptions::new(hub, progress, served.names, max_unacked_batches, max_consumers);
        let states = States {
            ready: Arc::new(move || readiness(&asked).yes),
            // While the log or the tables are read: not before, not while a lost connection is tried again, not at the end.
            serving: Arc::new(move || {
                matches!(watched.phase(), Phase::Snapshot | Phase::Stream) && watched.source.current().is_none()
            }),
        };
        let admin = Admin::new(served, subscriptions.peers());
        let mut services = Services::default();
        services.add(subscriptions);
        services.add(AdminServer::new(admin).max_decoding_message_size(REQUEST_MAX_BYTES));
        let health = HealthServer::new(Health(states));
        services.add(health.max_decoding_message_size(REQUEST_MAX_BYTES));
        let described = || {
            Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let broken = |cause| Error::bug("describing the gRPC services").because(cause);
        services.add(described().build_v1().map_err(broken)?.max_decoding_message_size(REQUEST_MAX_BYTES));
        services.add(described().build_v1alpha().map_err(broken)?.max_decoding_message_size(REQUEST_MAX_BYTES));
        Ok(Server { listener, router: Router::new(services, tokens, &web_origins)? })
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listener.addresses()
    }

    /// Until `stop`; calls that are open then have a moment to end.
    pub async fn serve(self, stop: watch::Receiver<bool>) {
        self.listener.serve(self.router, stop).await;
    }
}
