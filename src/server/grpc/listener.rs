//! The socket: who gets in, and what a connection may cost.
//!
//! Invariants:
//! - There are never more than `max_connections` connections and [`REFUSALS_MAX`] that are told so; further ones are closed
//!   as they come. The files this process may open are not used up by clients: its own limit is raised to what all of them
//!   need, and where it may not be so high there are fewer connections.
//! - A connection that does not finish its handshake, or that does not begin to speak HTTP, within [`HANDSHAKE`] is closed.
//! - A peer that is gone, or reads nothing at all, is found out by a ping after `keepalive` and closed after another one.
//! - What a connection may make us keep is the sum of the limits here: about 100 KiB of requests and one message a call.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;

use super::tls::Tls;
use crate::error::{Error, Result};

/// TLS' handshake takes two round trips and a signature; a client that needs ten seconds does something else.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A program has one or two streams and now and then a call beside them.
const CALLS_MAX: u32 = 32;
/// Before the first answer to a call: 64 KiB is more than one request of ours may have.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// Two calls at full speed; requests are small.
const CONNECTION_WINDOW_BYTES: u32 = 128 << 10;
/// HTTP/2's own smallest, and large enough: a frame that a client sends is held whole.
const FRAME_MAX_BYTES: u32 = 16 << 10;
/// A token, a trace and a name of the client; 16 KiB is what gRPC's own implementations allow.
const HEADERS_MAX_BYTES: u32 = 16 << 10;
/// Of HTTP/1.1, which only gRPC-Web speaks: headers of the same size, and some of the body.
const HTTP1_BUFFER_BYTES: usize = 32 << 10;
/// What waits in one call for the socket to take it: one message of the usual size.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// Calls that a client opened and reset at once, not yet seen by us; more, and the connection is closed.
const RESETS_MAX: usize = 16;
/// Connections beyond the limit that get an answer instead of silence.
const REFUSALS_MAX: usize = 16;
/// A refused client has asked and heard by then.
const REFUSAL: Duration = Duration::from_secs(2);
/// After an accept that failed for want of files or memory: what others free in that time lets it go on.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Of the files this process may open, those that are not for clients: the store's (up to some 64), sources, sinks, lanes.
const FILES_RESERVED: usize = 256;
/// A stop waits so long for calls to end, which are told at its beginning.
const DRAIN: Duration = Duration::from_secs(1);

/// Who calls: in the extensions of every request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// What answers: a call in, an answer out.
pub trait Answer: Clone + Send + 'static {
    fn answer(&self, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send;
    /// The same for a client that is one too many.
    fn refuse(&self) -> Response<Body>;
}

pub struct Listener {
    sockets: Vec<TcpListener>,
    tls: Option<Arc<Tls>>,
    max_connections: usize,
    keepalive: Duration,
}

impl Listener {
    /// `keepalive`: after how long a silent peer is asked, and after how long without an answer it is left. Errors: Config,
    /// for an address that is not ours or in use.
    pub async fn bind(
        addresses: &[SocketAddr],
        tls: Option<Tls>,
        max_connections: usize,
        keepalive: Duration,
    ) -> Result<Listener> {
        let mut sockets = Vec::new();
        for address in addresses {
            let socket = TcpListener::bind(address).await.map_err(|cause| {
                Error::config(format!("listening for gRPC on {address}"))
                    .because(cause)
                    .remedy("set grpc.listen to an address of this machine and a free port")
            })?;
            sockets.push(socket);
        }
        let open_files = open_files_max(max_connections.saturating_add(FILES_RESERVED));
        let possible = open_files.saturating_sub(FILES_RESERVED).max(1);
        if possible < max_connections {
            tracing::warn!(
                max_connections = possible,
                open_files,
                "fewer connections than grpc.max_connections says, because this process may not open more files: raise its \
                 hard limit (ulimit -Hn, LimitNOFILE) to {FILES_RESERVED} more than grpc.max_connections, or lower that"
            );
        }
        let max_connections = max_connections.min(possible);
        Ok(Listener { sockets, tls: tls.map(Arc::new), max_connections, keepalive })
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Serves until `stop`, then lets calls end for a moment.
    pub async fn serve(self, answer: impl Answer + Sync, stop: watch::Receiver<bool>) {
        let shared = Arc::new(Shared {
            tls: self.tls,
            http: http(self.keepalive),
            places: Arc::new(Semaphore::new(self.max_connections)),
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
        });
        let mut accepting = JoinSet::new();
        for socket in self.sockets {
            accepting.spawn(accept(socket, shared.clone(), answer.clone(), stop.clone()));
        }
        while accepting.join_next().await.is_some() {}
    }
}

struct Shared {
    tls: Option<Arc<Tls>>,
    http: auto::Builder<TokioExecutor>,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

fn http(keepalive: Duration) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE).max_buf_size(HTTP1_BUFFER_BYTES);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(keepalive)
        .keep_alive_timeout(keepalive)
        .max_concurrent_streams(CALLS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_MAX_BYTES)
        .max_header_list_size(HEADERS_MAX_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX);
    http
}

async fn accept(socket: TcpListener, shared: Arc<Shared>, answer: impl Answer + Sync, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut full = false;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            // Ended ones are taken out, or the set would grow.
            Some(_) = connections.join_next() => continue,
            accepted = socket.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a gRPC client could not be let in");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // A message goes out when it is complete, not when a packet is full.
        let _ = stream.set_nodelay(true);
        let (shared, answer, stop) = (shared.clone(), answer.clone(), stop.clone());
        if let Ok(place) = shared.places.clone().try_acquire_owned() {
            full = false;
            connections.spawn(async move {
                connection(stream, &shared, stop, move |request| {
                    let answer = answer.clone();
                    async move { answer.answer(request).await }
                })
                .await;
                drop(place);
            });
        } else if let Ok(place) = shared.refusals.clone().try_acquire_owned() {
            if !std::mem::replace(&mut full, true) {
                tracing::warn!("there are as many gRPC connections as grpc.max_connections allows; more are refused");
            }
            connections.spawn(async move {
                let refusing = connection(stream, &shared, stop, move |_| {
                    let refusal = answer.refuse();
                    async move { refusal }
                });
                let _ = tokio::time::timeout(REFUSAL, refusing).await;
                drop(place);
            });
        }
    }
    drop(socket);
    let ended = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} });
    // What is left is aborted by Drop.
    let _ = ended.await;
}

/// One connection from its handshake to its end.
async fn connection<F, A>(stream: TcpStream, shared: &Shared, mut stop: watch::Receiver<bool>, answer: F)
where
    F: Fn(Request<Body>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    // One that is gone already ends at its first byte.
    let Ok(peer) = stream.peer_addr() else { return };
    let greeted = tokio::time::timeout(HANDSHAKE, async {
        let mut socket: Box<dyn Socket> = match &shared.tls {
            Some(tls) => Box::new(TlsAcceptor::from(tls.config()).accept(stream).await?),
            None => Box::new(stream),
        };
        let mut head = Vec::with_capacity(GREETING.len());
        // Whatever does not begin as HTTP/2 does is HTTP/1.1, or becomes an error at its first line.
        while head.len() < GREETING.len() && GREETING.starts_with(&head) {
            let mut more = [0; GREETING.len()];
            let left = GREETING.len() - head.len();
            match socket.read(&mut more[..left]).await? {
                0 => break,
                read => head.extend_from_slice(&more[..read]),
            }
        }
        Ok::<_, io::Error>(Greeted { socket, head: head.into() })
    });
    let greeted = match greeted.await {
        Ok(Ok(greeted)) if !greeted.head.is_empty() => greeted,
        Ok(Ok(_)) => return,
        Ok(Err(error)) => return tracing::debug!(%error, "a gRPC client's handshake failed"),
        Err(_) => return tracing::debug!("a gRPC client did not finish its handshake in time"),
    };
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let answering = answer(request.map(Body::new));
        async move { Ok::<_, std::convert::Infallible>(answering.await) }
    });
    let mut serving = std::pin::pin!(shared.http.serve_connection(TokioIo::new(greeted), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a gRPC connection broke");
    }
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// With which every client of HTTP/2 begins.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A socket of which the first bytes were read already: until they are there nothing is made for a connection.
struct Greeted {
    socket: Box<dyn Socket>,
    head: Bytes,
}

impl AsyncRead for Greeted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            return Pin::new(&mut *self.socket).poll_read(cx, buf);
        }
        let taken = self.head.len().min(buf.remaining());
        buf.put_slice(&self.head[..taken]);
        self.head.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.socket).poll_write(cx, bytes)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.socket).poll_write_vectored(cx, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.socket).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.socket).poll_shutdown(cx)
    }
}

/// How many files this process may have open, once its own limit (the soft one, often 1024) is raised to `needed`, as far as
/// the hard one lets it.
fn open_files_max(needed: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let unlimited = u64::MAX;
    let (mut soft, hard) = (current.unwrap_or(unlimited), maximum.unwrap_or(unlimited));
    let raised = hard.min(needed as u64);
    if soft < raised {
        match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
            Ok(()) => soft = raised,
            Err(error) => tracing::debug!(%error, "the limit of open files cannot be raised"),
        }
    }
    usize::try_from(soft).unwrap_or(usize::MAX)
}
