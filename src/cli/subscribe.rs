//! `subscribe`: the lines of a sidecar's stream on stdout.
//!
//! Invariants:
//! - A batch is acknowledged when all of its lines are written and flushed, not before.
//! - A connection that breaks is made again with backoff, and the stream goes on behind what was written: of a durable
//!   consumer where the sidecar has stored it, else where the last batch with a position ended.
//! - What the sidecar says is wrong with the request ends it: asked again, it would say the same.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures_util::stream;
use http::Uri;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncWriteExt, Stdout};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tower_service::Service;

use super::signals;
use crate::error::{Class, Context, Error, Result};
use crate::pipeline::Backoff;
use crate::proto::v1::change_stream_client::ChangeStreamClient;
use crate::proto::v1::{self, Start, subscribe_request, subscribe_response};
use crate::record::Position;
use crate::sink::reader_went_away;
use crate::source::tls::{self, Names, Plan, Tls};

/// What is to be subscribed to, and how.
pub struct Subscription {
    pub address: Address,
    pub tls: Option<Plan>,
    pub token: Option<SecretString>,
    pub consumer: String,
    pub takeover: bool,
    pub from: Option<Begin>,
    /// Whether what is stored of the consumer is replaced by `from`.
    pub anew: bool,
    pub filter: v1::Filter,
    pub limit: Option<u64>,
    pub until: Option<Until>,
    /// Whether a sidecar that is not there at the start is waited for.
    pub wait: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    Snapshot,
    Earliest,
    Latest,
    At(Position),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    Current,
    At(Position),
}

/// Where a sidecar listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
    pub encrypted: bool,
}

impl Address {
    /// `HOST:PORT`, `http://HOST:PORT` or `https://HOST:PORT`; an IPv6 address stands in brackets. Errors: Config.
    pub fn new(text: &str) -> Result<Address> {
        let wrong = || {
            Error::config(format!("{text:?} is not the address of a sidecar"))
                .remedy("write HOST:PORT, or https://HOST:PORT where it has TLS")
        };
        let (encrypted, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => (false, text),
        };
        let authority: http::uri::Authority = rest.trim_end_matches('/').parse().map_err(|_| wrong())?;
        let host = authority.host();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let port = authority.port_u16().ok_or_else(wrong)?;
        Ok(Address { host: host.to_owned(), port, encrypted })
    }

    /// Whether only this machine sees what is sent.
    pub fn is_local(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What errors call the flags.
pub const NAMES: Names = Names {
    root: "--ca",
    cert: "--cert",
    key: "--key",
    without_name: "a name that the certificate has",
    server_versions: "grpc.tls",
};

/// The longest message taken: a row that is larger ends the stream.
const MESSAGE_MAX_BYTES: usize = 256 << 20;
/// Acknowledgements on their way: each is some bytes, and replaces the one before it.
const REQUESTS: usize = 64;
const CONNECT: Duration = Duration::from_secs(10);
/// As the sidecar's own.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// What the sidecar may take to hear the last acknowledgement.
const GOODBYE: Duration = Duration::from_secs(5);

/// Until the end that was asked for, a signal, or an error that trying again does not mend.
pub async fn run(subscription: Subscription) -> Result<()> {
    let stop = signals::stop()?.subscribe();
    if subscription.token.is_some() && !subscription.address.encrypted && !subscription.address.is_local() {
        tracing::warn!("the token is sent to another machine without encryption: use https://");
    }
    let mut tail = Tail::new(&subscription)?;
    let (mut backoff, mut met) = (Backoff::default(), false);
    loop {
        let written = tail.lines;
        let mut stopped = stop.clone();
        let ended = tokio::select! {
            biased;
            ended = tail.follow(&stop, &mut met) => ended,
            _ = stopped.wait_for(|stop| *stop), if !met => return Ok(()),
        };
        let error = match ended {
            Ok(()) => return Ok(()),
            // `walbrook subscribe … | head` has what it wanted.
            Err(error) if reader_went_away(&error) => {
                tracing::info!(written = tail.lines, "the reader of stdout went away");
                return Ok(());
            }
            Err(error) if error.is_transient() && (met || subscription.wait) => error,
            Err(error) => return Err(error),
        };
        if tail.lines > written {
            backoff.reset();
        }
        let delay = backoff.next();
        tracing::warn!(?error, delay_ms = delay.as_millis() as u64, "the stream broke, connecting again");
        let mut stopped = stop.clone();
        if tokio::time::timeout(delay, stopped.wait_for(|stop| *stop)).await.is_ok() {
            return Ok(());
        }
    }
}

struct Tail<'s> {
    subscription: &'s Subscription,
    endpoint: Endpoint,
    token: Option<MetadataValue<Ascii>>,
    out: Stdout,
    /// Where the stream goes on: behind the last batch that was written and ended with a position.
    resume: Option<v1::Position>,
    until: Option<Position>,
    /// How many were written.
    lines: u64,
}

/// What a message came to.
enum Step {
    GoOn,
    Finished,
}

impl<'s> Tail<'s> {
    fn new(subscription: &'s Subscription) -> Result<Tail<'s>> {
        let Address { host, port, encrypted } = &subscription.address;
        let scheme = if *encrypted { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{host}:{port}"))
            .config(|| format!("the address {}", subscription.address))?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        let token = subscription.token.as_ref().map(|token| {
            let header: std::result::Result<MetadataValue<Ascii>, _> =
                format!("Bearer {}", token.expose_secret()).parse();
            let mut header = header.config(|| "the token has characters that no header may have".to_owned())?;
            header.set_sensitive(true);
            Ok::<_, Error>(header)
        });
        Ok(Tail {
            subscription,
            endpoint,
            token: token.transpose()?,
            out: tokio::io::stdout(),
            resume: None,
            until: None,
            lines: 0,
        })
    }

    /// One connection, from its beginning to its end.
    async fn follow(&mut self, stop: &watch::Receiver<bool>, met: &mut bool) -> Result<()> {
        let connector = Connector { address: self.subscription.address.clone(), tls: self.subscription.tls.clone() };
        let channel = self.endpoint.connect_with_connector(connector).await;
        let channel = channel.map_err(|error| unreachable(error, &self.subscription.address))?;
        if self.until.is_none() {
            self.until = match &self.subscription.until {
                None => None,
                Some(Until::At(position)) => Some(position.clone()),
                Some(Until::Current) => Some(self.present(channel.clone()).await?),
            };
        }
        let (requests, mut responses) = self.open(channel, self.opening()).await?;
        let mut stop = stop.clone();
        loop {
            let response = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                response = responses.message() => response.map_err(|status| failed(&status))?,
            };
            *met = true;
            let Some(response) = response else {
                return Err(Error::transient("the sidecar has ended the stream"));
            };
            if let Step::Finished = self.take(response, &requests).await? {
                break;
            }
        }
        // With our side closed the sidecar ends the call, when it has heard all that was said before.
        drop(requests);
        let _ = tokio::time::timeout(GOODBYE, async { while let Ok(Some(_)) = responses.message().await {} }).await;
        Ok(())
    }

    async fn open(
        &self,
        channel: Channel,
        open: v1::Open,
    ) -> Result<(mpsc::Sender<v1::SubscribeRequest>, Streaming<v1::SubscribeResponse>)> {
        let (requests, mut sent) = mpsc::channel(REQUESTS);
        // There is room: it is the first.
        let _ = requests.try_send(request(subscribe_request::Request::Open(open)));
        let mut call = Request::new(stream::poll_fn(move |cx| sent.poll_recv(cx)));
        if let Some(token) = &self.token {
            call.metadata_mut().insert("authorization", token.clone());
        }
        let mut client = ChangeStreamClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES);
        let responses = client.subscribe(call).await.map_err(|status| failed(&status))?;
        Ok((requests, responses.into_inner()))
    }

    /// The first time as it was asked for; then from where it broke.
    fn opening(&self) -> v1::Open {
        let Subscription { consumer, from, anew, takeover, filter, .. } = self.subscription;
        let mut open = v1::Open {
            consumer: consumer.clone(),
            takeover: *takeover,
            filter: Some(filter.clone()),
            format: v1::Format::Json.into(),
            max_message_bytes: MESSAGE_MAX_BYTES as u32,
            ..v1::Open::default()
        };
        let begin = start(from.as_ref());
        let replaces = *anew && self.lines == 0 && self.resume.is_none();
        if !consumer.is_empty() && !replaces {
            (open.start, open.otherwise) = (Start::Stored.into(), begin.into());
        } else if let Some(resume) = &self.resume {
            (open.start, open.position) = (Start::Position.into(), Some(resume.clone()));
            return open;
        } else {
            open.start = begin.into();
        }
        if let Some(Begin::At(position)) = from {
            open.position = Some(v1::Position { token: Default::default(), text: position.to_string() });
        }
        open
    }

    /// Where the stream is now: where one would begin that wants only what is to come.
    async fn present(&self, channel: Channel) -> Result<Position> {
        let open = v1::Open { start: Start::Latest.into(), ..v1::Open::default() };
        let (_requests, mut responses) = self.open(channel, open).await?;
        let first = responses.message().await.map_err(|status| failed(&status))?;
        match first.and_then(|first| first.response) {
            Some(subscribe_response::Response::Opened(v1::Opened { position: Some(position), .. })) => read(&position),
            _ => Err(Error::transient("the sidecar does not say where its stream is")),
        }
    }

    async fn take(
        &mut self,
        response: v1::SubscribeResponse,
        requests: &mpsc::Sender<v1::SubscribeRequest>,
    ) -> Result<Step> {
        match response.response {
            Some(subscribe_response::Response::Batch(batch)) => self.batch(batch, requests).await,
            Some(subscribe_response::Response::Opened(v1::Opened { position, epoch, .. })) => {
                let from = position.as_ref().map_or("a snapshot", |position| &position.text);
                tracing::info!(from, epoch, "subscribed");
                position.map_or(Ok(Step::GoOn), |position| self.passed(position))
            }
            Some(subscribe_response::Response::Heartbeat(v1::Heartbeat { position: Some(position), .. })) => {
                self.passed(position)
            }
            Some(subscribe_response::Response::Rewind(v1::Rewind { position, reason })) => {
                let from = position.as_ref().map_or("its beginning", |position| &position.text);
                tracing::warn!(from, reason, "what was written from there on is void: it comes again");
                self.resume = position;
                Ok(Step::GoOn)
            }
            _ => Ok(Step::GoOn),
        }
    }

    async fn batch(&mut self, batch: v1::Batch, requests: &mpsc::Sender<v1::SubscribeRequest>) -> Result<Step> {
        let left = self.subscription.limit.map(|limit| limit - self.lines.min(limit));
        let (mut lines, mut whole) = (&batch.lines[..], true);
        if let Some(left) = left
            && left < u64::from(batch.changes)
        {
            let (end, _) =
                lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(left as usize - 1).unwrap_or((0, &0));
            (lines, whole) = (&lines[..=end], false);
        }
        self.out.write_all(lines).await.map_err(unwritten)?;
        self.out.flush().await.map_err(unwritten)?;
        self.lines += left.unwrap_or(u64::MAX).min(batch.changes.into());
        // What is not written is not acknowledged: it comes again.
        if whole {
            let ack = request(subscribe_request::Request::Ack(v1::Ack { number: batch.number }));
            // Where nobody listens any more the call is over, and what is read next says why.
            let _ = requests.send(ack).await;
        }
        if self.subscription.limit == Some(self.lines) {
            return Ok(Step::Finished);
        }
        match batch.resume {
            Some(resume) => self.passed(resume),
            None => Ok(Step::GoOn),
        }
    }

    /// Everything before it is written.
    fn passed(&mut self, position: v1::Position) -> Result<Step> {
        let reached = match &self.until {
            None => false,
            Some(until) => {
                let here = read(&position)?;
                here.reaches(until)
            }
        };
        self.resume = Some(position);
        Ok(if reached { Step::Finished } else { Step::GoOn })
    }
}

fn start(begin: Option<&Begin>) -> Start {
    match begin {
        None | Some(Begin::Latest) => Start::Latest,
        Some(Begin::Snapshot) => Start::Snapshot,
        Some(Begin::Earliest) => Start::Earliest,
        Some(Begin::At(_)) => Start::Position,
    }
}

fn request(request: subscribe_request::Request) -> v1::SubscribeRequest {
    v1::SubscribeRequest { request: Some(request) }
}

fn read(position: &v1::Position) -> Result<Position> {
    position.text.parse().map_err(|error: Error| error.context("reading a position of the sidecar"))
}

fn unwritten(error: io::Error) -> Error {
    Error::data("writing to stdout").because(error)
}

/// What the sidecar says, as one of our errors: the text has the remedy.
fn failed(status: &Status) -> Error {
    let class = match status.code() {
        Code::OutOfRange => Class::Lost,
        Code::InvalidArgument
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::NotFound
        | Code::Unimplemented
        | Code::FailedPrecondition => Class::Config,
        // Our own connection that broke may not be known to be gone.
        Code::AlreadyExists | Code::Unavailable | Code::Cancelled | Code::Unknown | Code::DeadlineExceeded => {
            Class::Transient
        }
        _ => Class::Data,
    };
    // A connection that broke is told as any code, with what broke it.
    let broke = std::error::Error::source(status).is_some();
    let class = if broke { Class::Transient } else { class };
    let message = match status.message() {
        "" => format!("{:?}", status.code()),
        message => format!("{:?}: {message}", status.code()),
    };
    let error = Error::new(class, "subscribing").because(message);
    // What answers there speaks HTTP, and no gRPC.
    let foreign = matches!(status.code(), Code::Unknown | Code::Internal)
        && broke
        && !status.metadata().contains_key("grpc-status");
    if foreign {
        error.remedy("is this the address of grpc.listen? /metrics and /readyz have another one")
    } else {
        error
    }
}

fn unreachable(error: tonic::transport::Error, address: &Address) -> Error {
    // What the connector says is below what the library says.
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut class = Class::Transient;
    let mut said = String::new();
    while let Some(inner) = cause {
        if let Some(own) = inner.downcast_ref::<Error>() {
            class = own.class();
            said = format!("{own:?}");
            break;
        }
        said = inner.to_string();
        cause = inner.source();
    }
    Error::new(class, format!("connecting to the sidecar at {address}")).because(said)
}

/// Connects, and encrypts where that is wanted.
#[derive(Clone)]
struct Connector {
    address: Address,
    tls: Option<Plan>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<tls::Stream>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Connector { address, tls } = self.clone();
        Box::pin(async move {
            let host = address.host.trim_start_matches('[').trim_end_matches(']');
            let socket =
                TcpStream::connect((host, address.port)).await.transient(|| format!("connecting to {address}"))?;
            socket.set_nodelay(true).transient(|| "setting up the socket".to_owned())?;
            let stream = match &tls {
                None => tls::Stream::Tcp(socket),
                Some(plan) => Tls::new(plan)?.handshake(socket, host).await?,
            };
            Ok(TokioIo::new(stream))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        let of = |text: &str| Address::new(text).map(|a| (a.host.clone(), a.port, a.encrypted, a.is_local())).ok();
        assert_eq!(of("127.0.0.1:50051"), Some(("127.0.0.1".into(), 50051, false, true)));
        assert_eq!(of("https://db.example.org:1"), Some(("db.example.org".into(), 1, true, false)));
        assert_eq!(of("http://[::1]:50051/"), Some(("[::1]".into(), 50051, false, true)));
        for wrong in ["", "host", ":1", "https://", "a:b", "a:99999", "token@host:1", "ftp://host:1"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_request_is_not_tried_again() {
        let class = |code| failed(&Status::new(code, "text")).class();
        assert_eq!(class(Code::OutOfRange), Class::Lost);
        assert_eq!(class(Code::Unauthenticated), Class::Config);
        assert_eq!(class(Code::Unavailable), Class::Transient);
        assert_eq!(class(Code::AlreadyExists), Class::Transient);
        assert_eq!(class(Code::Aborted), Class::Data, "who was taken over does not come back by itself");
        assert_eq!(class(Code::ResourceExhausted), Class::Data);
    }
}
