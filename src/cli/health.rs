//! `health`: asks a running process how it is, for those who supervise it and have no HTTP client.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::Request;
use http::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::report;
use crate::error::{Error, Result};

/// Its answer is made of what is in memory: one that takes longer than a container's health check waits is no answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// A line or two.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

pub struct Health {
    /// Where `http.listen` is.
    pub address: String,
    /// Whether the question is not if it lives but if it streams.
    pub ready: bool,
}

/// Prints the answer. Exit code 0 where it is well, 1 where not.
///
/// # Errors
/// Transient: nobody answers.
pub async fn run(health: Health) -> Result<u8> {
    let address = &health.address;
    let failed = |why: String| {
        Error::transient(format!("asking {address} how it is: {why}"))
            .remedy("name the address of http.listen; a process without `http` cannot be asked")
    };
    match tokio::time::timeout(TIMEOUT, ask(&health)).await {
        Ok(Ok((well, answer))) => {
            report::answer(&format!("{}\n", answer.trim_end()))?;
            Ok(u8::from(!well))
        }
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {TIMEOUT:?}"))),
    }
}

async fn ask(health: &Health) -> Result<(bool, String), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(&health.address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let path = if health.ready { "/readyz" } else { "/livez" };
    let request = Request::get(path).header(HOST, &health.address).body(Body::empty())?;
    let answered = async {
        let response = sender.send_request(request).await?;
        let well = response.status().is_success();
        let body = to_bytes(Body::new(response.into_body()), ANSWER_MAX_BYTES).await?;
        Ok((well, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::select! {
        answer = answered => answer,
        // It ends when the answer is there whole, or early.
        Err(error) = connection => Err(error.into()),
    }
}
