//! From a [`ConnInfo`] to a session: hosts in order, addresses of each, encryption as the sslmode has it.
//!
//! Invariants:
//! - Exactly one byte is read in answer to SSLRequest; what a man in the middle puts behind it becomes part of the TLS
//!   handshake and breaks it (CVE-2021-23222).
//! - `allow` and `prefer` try the other way only after the server itself was reached and said no, as libpq does; every
//!   stronger mode never falls back.
//! - Once a server has refused the login as such (not: "starting up", "too many clients"), the other hosts are not
//!   asked, as in libpq: the same password would be tried on all of them.
//! - When no host will do, the error names every one and why.

use std::future::Future;
use std::net::SocketAddr;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rand::seq::SliceRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::conninfo::{ConnInfo, Endpoint, Host, SessionAttrs, SslMode};
use super::error::server_error;
use crate::error::{Class, Error, Result};
use crate::source::socket::{chain, io_class, lookup, tune};
use crate::source::tls::{Stream, Tls};

/// A socket with its encryption, ready for the startup message, and whom it leads to.
pub(super) struct Dialled<'a> {
    pub stream: Stream,
    pub info: &'a ConnInfo,
    pub endpoint: &'a Endpoint,
}

/// What is begun on a socket: our own connection or `tokio_postgres`'.
pub(super) trait Session: Sized {
    /// What else a session needs to know.
    type Kind: Copy;

    /// Logs in.
    async fn start(dialled: Dialled<'_>, kind: Self::Kind) -> Result<Self>;

    /// Asked only where `target_session_attrs` wants to know.
    async fn server_state(&mut self) -> Result<ServerState>;

    /// Pins the settings; the session is ready behind it.
    async fn prepare(&mut self) -> Result<()>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerState {
    pub in_recovery: bool,
    /// A new transaction may not write, in recovery or by `default_transaction_read_only`.
    pub read_only: bool,
}

/// Connects to the first host that is reached, lets us in and is of the wanted kind.
pub(super) async fn connect<S: Session>(info: &ConnInfo, kind: S::Kind) -> Result<S> {
    let tls = if wants_tls(info) { Some(Tls::new(&info.tls.plan())?) } else { None };
    let mut hosts: Vec<&Endpoint> = info.hosts.iter().collect();
    if info.load_balance {
        hosts.shuffle(&mut rand::rng());
    }
    let rounds = match info.session {
        // A second round for the standby that was not to be found.
        SessionAttrs::PreferStandby => vec![SessionAttrs::Standby, SessionAttrs::Any],
        wanted => vec![wanted],
    };
    let mut failures = Vec::new();
    for wanted in rounds {
        failures.clear();
        for endpoint in &hosts {
            let search = Search { info, endpoint, tls: tls.as_ref(), wanted };
            match search.host::<S>(kind, &mut failures).await {
                Verdict::Found(session) => return Ok(session),
                Verdict::NextHost => {}
                Verdict::Stop => return Err(none_will_do(info, failures)),
            }
        }
    }
    Err(none_will_do(info, failures))
}

/// Only a socket, to the server of `endpoint` and encrypted or not as it was: for a cancel request.
pub(super) async fn connect_bare(info: &ConnInfo, endpoint: &Endpoint, encrypted: bool) -> Result<Stream> {
    let tls = if encrypted { Some(Tls::new(&info.tls.plan())?) } else { None };
    let search = Search { info, endpoint, tls: tls.as_ref(), wanted: SessionAttrs::Any };
    let way = if encrypted { Way::Tls } else { Way::Plain };
    let mut last = Error::transient(format!("{endpoint} has no address"));
    for address in search.within_timeout(addresses(endpoint)).await? {
        let opening = async { search.open(address, way).await.map_err(|failure| failure.error) };
        match search.within_timeout(opening).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn wants_tls(info: &ConnInfo) -> bool {
    info.tls.mode > SslMode::Disable && info.hosts.iter().any(|endpoint| matches!(endpoint.host, Host::Tcp { .. }))
}

enum Verdict<S> {
    Found(S),
    NextHost,
    Stop,
}

/// How the bytes go over a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Tls,
    /// Plain after all where the server says that it has no TLS.
    TlsIfOffered,
}

#[derive(Clone, Copy)]
enum Address {
    Tcp(SocketAddr),
    Unix,
}

/// Why one attempt failed and what may still help.
struct Failure {
    error: Error,
    then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The server is there; plain instead of encrypted, or the reverse, may please it.
    OtherWay,
    /// The server has no TLS, so there is no other way.
    NoOtherWay,
    OtherAddress,
    OtherHost,
}

/// The way of one attempt, for the error of several.
struct Attempt {
    what: String,
    error: Error,
}

struct Search<'a> {
    info: &'a ConnInfo,
    endpoint: &'a Endpoint,
    tls: Option<&'a Tls>,
    wanted: SessionAttrs,
}

impl Search<'_> {
    /// One host: its addresses, and for each the ways that the mode allows.
    async fn host<S: Session>(&self, kind: S::Kind, failures: &mut Vec<Attempt>) -> Verdict<S> {
        let addresses = match self.within_timeout(addresses(self.endpoint)).await {
            Ok(addresses) => addresses,
            Err(error) => {
                failures.push(Attempt { what: self.endpoint.to_string(), error });
                return Verdict::NextHost;
            }
        };
        for address in addresses {
            let ways: &[Way] = match (address, self.info.tls.mode) {
                (Address::Unix, _) | (_, SslMode::Disable) => &[Way::Plain],
                (_, SslMode::Allow) => &[Way::Plain, Way::Tls],
                (_, SslMode::Prefer) => &[Way::TlsIfOffered, Way::Plain],
                _ => &[Way::Tls],
            };
            let mut refused = false;
            for (i, way) in ways.iter().enumerate() {
                let attempt = async { Ok(self.attempt::<S>(address, *way, kind).await) };
                let failure = match self.within_timeout(attempt).await {
                    Ok(Ok(session)) => return Verdict::Found(session),
                    Ok(Err(failure)) => failure,
                    Err(error) => Failure { error, then: Then::OtherAddress },
                };
                refused |= server_error(&failure.error).is_some() && failure.error.class() == Class::Config;
                let then = failure.then;
                let how = match way {
                    // One way only, or not come so far that it mattered.
                    _ if ways.len() == 1 || then == Then::OtherAddress => "",
                    Way::Plain => " without TLS",
                    Way::Tls | Way::TlsIfOffered => " with TLS",
                };
                let what = format!("{}{how}", self.endpoint);
                tracing::debug!(host = %what, error = ?failure.error, "connecting failed");
                // That there is no TLS either says less than why the plain attempt failed; and what both ways met is
                // told once.
                let told = i > 0
                    && (then == Then::NoOtherWay
                        || failures.last().is_some_and(|first: &Attempt| chain(&first.error) == chain(&failure.error)));
                if !told {
                    failures.push(Attempt { what, error: failure.error });
                }
                match then {
                    Then::OtherWay => {}
                    Then::NoOtherWay | Then::OtherAddress => break,
                    Then::OtherHost => return Verdict::NextHost,
                }
            }
            if refused {
                return Verdict::Stop;
            }
        }
        Verdict::NextHost
    }

    async fn within_timeout<T>(&self, doing: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(limit) = self.info.connect_timeout else { return doing.await };
        let late = || Error::transient(format!("no answer within {} s (connect_timeout)", limit.as_secs()));
        tokio::time::timeout(limit, doing).await.unwrap_or_else(|_| Err(late()))
    }

    async fn attempt<S: Session>(&self, address: Address, way: Way, kind: S::Kind) -> Result<S, Failure> {
        let stream = self.open(address, way).await?;
        let tls_refused_already = way == Way::TlsIfOffered && !stream.is_encrypted();
        let failed = |error: Error| {
            let then = match server_error(&error) {
                Some(_) if tls_refused_already => Then::NoOtherWay,
                Some(_) => Then::OtherWay,
                None => Then::OtherHost,
            };
            Failure { error, then }
        };
        let dialled = Dialled { stream, info: self.info, endpoint: self.endpoint };
        let mut session = S::start(dialled, kind).await.map_err(failed)?;
        if self.wanted != SessionAttrs::Any {
            let state = session.server_state().await.map_err(failed)?;
            if !suits(state, self.wanted) {
                let error = Error::transient(unsuitable(state, self.wanted))
                    .remedy("add the wanted server to the hosts in the URL, or change target_session_attrs");
                return Err(Failure { error, then: Then::OtherHost });
            }
        }
        session.prepare().await.map_err(|error| Failure { error, then: Then::OtherHost })?;
        Ok(session)
    }

    /// The socket, with TLS where it is to have it.
    async fn open(&self, address: Address, way: Way) -> Result<Stream, Failure> {
        let unreachable = |error: std::io::Error| {
            let error = Error::new(io_class(&error), "opening the socket").because(error);
            Failure { error, then: Then::OtherAddress }
        };
        let mut socket = match (address, self.endpoint.socket_path()) {
            (Address::Tcp(address), _) => {
                let socket = TcpStream::connect(address).await.map_err(unreachable)?;
                tune(&socket, &self.info.keepalive).map_err(unreachable)?;
                socket
            }
            (Address::Unix, path) => {
                let stream = UnixStream::connect(path.unwrap_or_default()).await.map_err(unreachable)?;
                return Ok(Stream::Unix(stream));
            }
        };
        let Some(tls) = self.tls.filter(|_| way != Way::Plain) else { return Ok(Stream::Tcp(socket)) };
        if !self.info.tls.direct {
            match request_tls(&mut socket).await.map_err(unreachable)? {
                b'S' => {}
                b'N' if way == Way::TlsIfOffered => return Ok(Stream::Tcp(socket)),
                b'N' => {
                    let error = Error::config("the server does not offer TLS")
                        .remedy("switch it on (ssl = on), or use sslmode=prefer or disable");
                    return Err(Failure { error, then: Then::NoOtherWay });
                }
                // An error's text would be unencrypted and from anybody: it is not shown (CVE-2024-10977).
                _ => {
                    let error = Error::transient("the server answered the request for TLS with an error");
                    return Err(Failure { error, then: Then::OtherWay });
                }
            }
        }
        let name = match &self.endpoint.host {
            Host::Tcp { name, .. } => name.as_str(),
            Host::Unix(_) => "",
        };
        tls.handshake(socket, name).await.map_err(|error| Failure { error, then: Then::OtherWay })
    }
}

/// SSLRequest, and the one byte that answers it: `S`, `N`, or `E` of an ErrorResponse.
async fn request_tls(socket: &mut TcpStream) -> std::io::Result<u8> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).await?;
    socket.read_u8().await
}

async fn addresses(endpoint: &Endpoint) -> Result<Vec<Address>> {
    let (name, port) = match &endpoint.host {
        Host::Unix(_) => return Ok(vec![Address::Unix]),
        Host::Tcp { addr: Some(addr), .. } => return Ok(vec![Address::Tcp(SocketAddr::new(*addr, endpoint.port))]),
        Host::Tcp { name, addr: None } => (name.as_str(), endpoint.port),
    };
    Ok(lookup(name, port).await?.into_iter().map(Address::Tcp).collect())
}

fn suits(state: ServerState, wanted: SessionAttrs) -> bool {
    match wanted {
        SessionAttrs::Any | SessionAttrs::PreferStandby => true,
        SessionAttrs::ReadWrite => !state.read_only,
        SessionAttrs::ReadOnly => state.read_only,
        SessionAttrs::Primary => !state.in_recovery,
        SessionAttrs::Standby => state.in_recovery,
    }
}

fn unsuitable(state: ServerState, wanted: SessionAttrs) -> String {
    let is = match state {
        ServerState { in_recovery: true, .. } => "a standby",
        ServerState { read_only: true, .. } => "read-only",
        ServerState { .. } => "a writable primary",
    };
    let name = match wanted {
        SessionAttrs::Any => "any",
        SessionAttrs::ReadWrite => "read-write",
        SessionAttrs::ReadOnly => "read-only",
        SessionAttrs::Primary => "primary",
        SessionAttrs::Standby => "standby",
        SessionAttrs::PreferStandby => "prefer-standby",
    };
    format!("the server is {is}, but target_session_attrs={name}")
}

/// One failure is told as it is; of several, the server's own answer (else the last) is the cause and all are named.
fn none_will_do(info: &ConnInfo, mut failures: Vec<Attempt>) -> Error {
    let doing = format!("connecting to {info}");
    let passing = failures.iter().any(|attempt| attempt.error.is_transient());
    let refused = failures.iter().rposition(|attempt| server_error(&attempt.error).is_some());
    let Some(main) = refused.or(failures.len().checked_sub(1)) else {
        return Error::bug(format!("{doing}: no host was tried"));
    };
    let main = failures.remove(main);
    if failures.is_empty() {
        return main.error.context(doing);
    }
    // A refused login ends it; of other failures one that may pass is enough to try again.
    let class = if refused.is_none() && passing { Class::Transient } else { main.error.class() };
    let others: String =
        failures.iter().map(|attempt| format!("{}: {}; ", attempt.what, chain(&attempt.error))).collect();
    let error = Error::new(class, format!("{doing}: no host will do: {others}{}", main.what));
    match main.error.remedy_text().map(str::to_owned) {
        Some(remedy) => error.remedy(remedy),
        None => error,
    }
    .because(main.error)
}
