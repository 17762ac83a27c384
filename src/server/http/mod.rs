//! `/metrics`, `/livez` and `/readyz`, over plain HTTP.
//!
//! Invariants:
//! - It only reads: nothing that a client sends changes anything, and nothing that is answered holds a secret: no URL, no
//!   configuration, no row.
//! - What all clients together take is limited: [`CONNECTIONS_MAX`] connections, each for [`CONNECTION_LIFE`] at most.
//! - It serves from before the first connection to the database until the process ends.

mod exposition;
mod families;
mod health;
mod process;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::error::{Context, Result};
use crate::flow::Progress;

pub use exposition::render;
pub use families::{Described, described};
pub use health::{Answer, liveness, readiness};

/// A scraper or two, a probe, and somebody who looks. Each may hold one answer, which with a thousand tables is 3 MB.
pub const CONNECTIONS_MAX: usize = 16;
/// A client that is silent so long, or takes so long to ask, is left. Scrapers come more often, mostly.
const REQUEST_PATIENCE: Duration = Duration::from_secs(65);
/// So that no client keeps the others out: one that does not read its answer has it cut.
const CONNECTION_LIFE: Duration = Duration::from_secs(600);
/// What a request's head may take; hyper's least. A body is not read.
const HEAD_MAX_BYTES: usize = 8 * 1024;
/// After an error of the listener itself (no file descriptor is free): others may close theirs meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What Prometheus calls the format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A server that listens; it ends by Drop.
pub struct Http {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Http {
    /// Listens at the first of the addresses that can be had, and answers from what `progress` says.
    ///
    /// # Errors
    /// Config: none can be had.
    pub async fn start(listen: &[SocketAddr], progress: Arc<Progress>) -> Result<Http> {
        let shown: Vec<String> = listen.iter().map(SocketAddr::to_string).collect();
        let doing = || format!("listening for HTTP at {}", shown.join(", "));
        let listener = TcpListener::bind(listen).await.config(doing).map_err(|error| {
            error.remedy("another process may have the port: set http.listen to another address, or to off")
        })?;
        let address = listener.local_addr().config(doing)?;
        progress.watch();
        tracing::info!(%address, "HTTP: /metrics, /livez, /readyz");
        Ok(Http { address, task: tokio::spawn(serve(listener, progress)) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, progress: Arc<Progress>) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(progress);
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        // Who waits here is in the listener's backlog, which is the kernel's.
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let socket = loop {
            match listener.accept().await {
                Ok((socket, _)) => break socket,
                Err(error) => {
                    tracing::debug!(%error, "accepting an HTTP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        while connections.try_join_next().is_some() {}
        let router = router.clone();
        connections.spawn(async move {
            let _permit = permit;
            if tokio::time::timeout(CONNECTION_LIFE, connection(socket, router)).await.is_err() {
                tracing::debug!("an HTTP connection was closed: it had its time");
            }
        });
    }
}

async fn connection(socket: TcpStream, router: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_PATIENCE)
        .max_buf_size(HEAD_MAX_BYTES)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

async fn metrics(State(progress): State<Arc<Progress>>) -> impl IntoResponse {
    match render(&progress) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n").into_response(),
    }
}

async fn livez(State(progress): State<Arc<Progress>>) -> impl IntoResponse {
    answer(liveness(&progress))
}

async fn readyz(State(progress): State<Arc<Progress>>) -> impl IntoResponse {
    answer(readiness(&progress))
}

/// 200 for yes, 503 for no; the reason is the body.
fn answer(answer: Answer) -> impl IntoResponse {
    let status = if answer.yes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], answer.reason + "\n")
}
