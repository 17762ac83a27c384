//! From a [`ConnInfo`] to a session: hosts in order, addresses of each, encryption as the ssl-mode has it.
//!
//! Invariants:
//! - Nothing of the greeting but its capabilities counts before TLS, and nothing secret is sent before it.
//! - As with the client, PREFERRED is not encrypted only where the server says that it has no TLS; a handshake that fails
//!   is an error under every mode.
//! - Once a server has refused the login as such (not: "too many connections"), the other hosts are not asked: the same
//!   password would be tried on all of them.
//! - When no host will do, the error names every one and why.

use std::future::Future;
use std::net::SocketAddr;

use tokio::net::{TcpStream, UnixStream};

use super::auth::{Credentials, Opening, login};
use super::error::{MySqlError, server_error};
use super::transport::{Transport, wire_error};
use super::url::{ConnInfo, Endpoint, Host, SslMode};
use crate::error::{Class, Error, Result};
use crate::source::socket::{chain, io_class, lookup, tune};
use crate::source::tls::{Stream, Tls};
use crate::wire::mysql::protocol::handshake::{self, Greeting, Response, capability};

/// A connection that is logged in.
pub(super) struct Session {
    pub transport: Transport,
    pub thread_id: u32,
    /// As the greeting has it; a proxy may say what it likes.
    pub greeted_version: String,
    /// The one host and address that was reached.
    pub info: ConnInfo,
}

/// Connects to the first host that is reached and lets us in; `prepare` makes the session ready.
pub(super) async fn connect<C, F>(info: &ConnInfo, prepare: impl Fn(Session) -> F) -> Result<C>
where
    F: Future<Output = Result<C>>,
{
    let tcp = info.hosts.iter().any(|endpoint| matches!(endpoint.host, Host::Tcp { .. }));
    let tls = if tcp && info.tls.mode > SslMode::Disabled { Some(Tls::new(&info.tls.plan())?) } else { None };
    let mut failures: Vec<(String, Error)> = Vec::new();
    'hosts: for endpoint in &info.hosts {
        let attempt = Attempt { info, endpoint, tls: tls.as_ref() };
        let addresses = match attempt.within_timeout(addresses(endpoint)).await {
            Ok(addresses) => addresses,
            Err(error) => {
                failures.push((endpoint.to_string(), error));
                continue;
            }
        };
        for address in addresses {
            let whole = async { prepare(attempt.log_in(address).await?).await };
            match attempt.within_timeout(whole).await {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    tracing::debug!(host = %endpoint, ?error, "connecting failed");
                    let answered = server_error(&error).is_some();
                    let refused = answered && error.class() == Class::Config;
                    failures.push((endpoint.to_string(), error));
                    if refused {
                        break 'hosts;
                    }
                    // Another address is the same server, which has answered.
                    if answered {
                        continue 'hosts;
                    }
                }
            }
        }
    }
    Err(none_will_do(info, failures))
}

#[derive(Clone, Copy)]
enum Address {
    Tcp(SocketAddr),
    Unix,
}

struct Attempt<'a> {
    info: &'a ConnInfo,
    endpoint: &'a Endpoint,
    tls: Option<&'a Tls>,
}

impl Attempt<'_> {
    async fn within_timeout<T>(&self, doing: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(limit) = self.info.connect_timeout else { return doing.await };
        let late = || Error::transient(format!("no answer within {} s (connect-timeout)", limit.as_secs()));
        tokio::time::timeout(limit, doing).await.unwrap_or_else(|_| Err(late()))
    }

    async fn log_in(&self, address: Address) -> Result<Session> {
        let mut transport = Transport::new(self.open(address).await?, 0);
        let greeting = transport.payload().await?;
        let greeting = match handshake::parse(&greeting) {
            Ok(Greeting::Handshake(greeting)) => greeting,
            Ok(Greeting::Err(err)) => return Err(MySqlError::from(err).into_error("connecting")),
            Err(error) => {
                return Err(wire_error(error).remedy("check host and port: this may be no MySQL or MariaDB server"));
            }
        };
        let info = self.info;
        let encrypts = match (&self.endpoint.host, info.tls.mode) {
            (Host::Unix(_), _) | (_, SslMode::Disabled) => false,
            _ if greeting.capabilities & capability::SSL != 0 => true,
            (_, SslMode::Preferred) => false,
            _ => {
                return Err(Error::config("the server does not offer TLS")
                    .remedy("give it a certificate (ssl_cert, ssl_key), or use ssl-mode=PREFERRED or DISABLED"));
            }
        };
        let capabilities = handshake::capabilities(greeting.capabilities, encrypts, info.database.is_some());
        if encrypts {
            transport.answer(&handshake::ssl_request(capabilities)).await?;
            transport = self.encrypt(transport).await?;
        }
        let credentials = Credentials {
            user: &info.user,
            password: info.password.as_ref(),
            server_key: &info.server_key,
            allow_clear: info.allow_clear,
        };
        let opening = Opening::new(greeting.plugin, greeting.nonce, &credentials);
        let response = Response {
            capabilities,
            user: &info.user,
            auth_response: &opening.proof,
            database: info.database.as_deref(),
            plugin: opening.name,
            attributes: &[("program_name", "walbrook"), ("_client_version", env!("CARGO_PKG_VERSION"))],
        };
        transport.answer(&response.encode()).await?;
        login(&mut transport, opening, &credentials).await?;

        let mut reached = self.endpoint.clone();
        if let (Host::Tcp { addr, .. }, Some(peer)) = (&mut reached.host, transport.peer_addr()) {
            *addr = Some(peer);
        }
        Ok(Session {
            transport,
            thread_id: greeting.thread_id,
            greeted_version: String::from_utf8_lossy(greeting.server_version).into_owned(),
            info: info.at(&reached),
        })
    }

    async fn open(&self, address: Address) -> Result<Stream> {
        let unreachable = |error: std::io::Error| Error::new(io_class(&error), "opening the socket").because(error);
        match (address, &self.endpoint.host) {
            (Address::Tcp(address), _) => {
                let socket = TcpStream::connect(address).await.map_err(unreachable)?;
                tune(&socket, &self.info.keepalive).map_err(unreachable)?;
                Ok(Stream::Tcp(socket))
            }
            (Address::Unix, Host::Unix(path)) => UnixStream::connect(path).await.map(Stream::Unix).map_err(unreachable),
            (Address::Unix, Host::Tcp { .. }) => Err(Error::bug("a host's name instead of a socket")),
        }
    }

    async fn encrypt(&self, transport: Transport) -> Result<Transport> {
        let (stream, sequence) = transport.into_stream()?;
        match (stream, self.tls, &self.endpoint.host) {
            (Stream::Tcp(socket), Some(tls), Host::Tcp { name, .. }) => {
                Ok(Transport::new(tls.handshake(socket, name).await?, sequence))
            }
            _ => Err(Error::bug("TLS on something else than a TCP socket")),
        }
    }
}

async fn addresses(endpoint: &Endpoint) -> Result<Vec<Address>> {
    match &endpoint.host {
        Host::Unix(_) => Ok(vec![Address::Unix]),
        Host::Tcp { addr: Some(addr), .. } => Ok(vec![Address::Tcp(SocketAddr::new(*addr, endpoint.port))]),
        Host::Tcp { name, addr: None } => {
            Ok(lookup(name, endpoint.port).await?.into_iter().map(Address::Tcp).collect())
        }
    }
}

/// One failure is told as it is; of several, the server's own answer (else the last) is the cause and all are named.
fn none_will_do(info: &ConnInfo, mut failures: Vec<(String, Error)>) -> Error {
    let doing = format!("connecting to {info}");
    let passing = failures.iter().any(|(_, error)| error.is_transient());
    let refused = failures.iter().rposition(|(_, error)| server_error(error).is_some());
    let Some(main) = refused.or(failures.len().checked_sub(1)) else {
        return Error::bug(format!("{doing}: no host was tried"));
    };
    let (host, main) = failures.remove(main);
    if failures.is_empty() {
        return main.context(doing);
    }
    // A refused login ends it; of other failures one that may pass is enough to try again.
    let class = if refused.is_none() && passing { Class::Transient } else { main.class() };
    let others: String = failures.iter().map(|(host, error)| format!("{host}: {}; ", chain(error))).collect();
    let error = Error::new(class, format!("{doing}: no host will do: {others}{host}"));
    match main.remedy_text().map(str::to_owned) {
        Some(remedy) => error.remedy(remedy),
        None => error,
    }
    .because(main)
}
