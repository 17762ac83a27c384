//! Ordinary SQL by `tokio_postgres`, over sockets of our own: the same hosts, TLS, login and settings as [`Connection`].
//!
//! Invariants:
//! - A [`Sql`] owns the task that drives its socket: dropping it ends the task, and so the connection.
//!
//! [`Connection`]: super::connection::Connection

use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding as ClientBinding, SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row, SimpleQueryMessage};

use super::auth;
use super::binding;
use super::conninfo::{self, ConnInfo, Endpoint, Host};
use super::dial::{self, Dialled, ServerState, Session};
use super::error;
use super::session;
use crate::error::{Error, Result};
use crate::source::tls::Stream;

/// One SQL session.
pub struct Sql {
    client: Client,
    driver: JoinHandle<()>,
    info: ConnInfo,
    server_version: u32,
}

impl Sql {
    /// Connects to the first host that suits, logs in, and pins the settings.
    ///
    /// # Errors
    /// As [`super::connection::Connection::connect`].
    pub async fn connect(info: &ConnInfo) -> Result<Sql> {
        dial::connect(info, ()).await
    }

    /// For what the methods here do not offer; map its errors by [`error::sql`].
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// For transactions.
    pub fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// # Errors
    /// The server's, with its SQLSTATE; `doing` says what for.
    pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)], doing: &str) -> Result<Vec<Row>> {
        self.client.query(sql, params).await.map_err(|cause| error::sql(cause, doing))
    }

    /// Exactly one row.
    ///
    /// # Errors
    /// As [`Self::query`]; Bug for none or several.
    pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)], doing: &str) -> Result<Row> {
        let mut rows = self.query(sql, params, doing).await?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(Error::bug(format!("{doing}: not exactly one row"))),
        }
    }

    /// Statements without parameters or results.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub async fn execute(&self, sql: &str, doing: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(|cause| error::sql(cause, doing))
    }

    /// As `server_version_num`: 150018 is 15.18.
    pub fn server_version_num(&self) -> u32 {
        self.server_version
    }

    /// The way to the same server, for further connections: one host, its address fixed.
    pub fn same_server(&self) -> &ConnInfo {
        &self.info
    }

    /// The driver has ended: the server or the network closed the connection.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    async fn one_simple_row(&self, sql: &str, doing: &str) -> Result<tokio_postgres::SimpleQueryRow> {
        let messages = self.client.simple_query(sql).await.map_err(|cause| error::sql(cause, doing))?;
        let row = messages.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        row.ok_or_else(|| Error::transient(format!("{doing}: no row")))
    }
}

impl Drop for Sql {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session for Sql {
    type Kind = ();

    async fn start(dialled: Dialled<'_>, _: ()) -> Result<Sql> {
        let Dialled { stream, info, endpoint } = dialled;
        let mut config = Config::new();
        config.user(&info.user).dbname(&info.database).application_name(&info.application_name);
        if let Some(options) = &info.options {
            config.options(options);
        }
        if let Some(password) = &endpoint.password {
            config.password(password.expose_secret());
        }
        config.channel_binding(match info.channel_binding {
            conninfo::ChannelBinding::Disable => ClientBinding::Disable,
            conninfo::ChannelBinding::Prefer => ClientBinding::Prefer,
            conninfo::ChannelBinding::Require => ClientBinding::Require,
        });
        // The socket is encrypted already, or is not to be: "direct" makes the client take it without asking the server.
        if stream.is_encrypted() {
            config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        } else {
            config.ssl_mode(SslMode::Disable);
        }
        let mut reached = endpoint.clone();
        if let (Host::Tcp { addr, .. }, Some(peer)) = (&mut reached.host, stream.peer_addr()) {
            *addr = Some(peer);
        }
        let (client, connection) =
            config.connect_raw(stream, Encrypted).await.map_err(|cause| login_error(cause, info, endpoint))?;
        let version = session::version_number(connection.parameter("server_version").unwrap_or_default())?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an SQL connection ended");
            }
        });
        Ok(Sql { client, driver, info: info.at(&reached), server_version: version })
    }

    async fn server_state(&mut self) -> Result<ServerState> {
        let row = self.one_simple_row(session::STATE_STATEMENT, "asking whether the server is a standby").await?;
        let is = |column| row.get(column) == Some("t");
        Ok(ServerState { in_recovery: is("in_recovery"), read_only: is("read_only") })
    }

    async fn prepare(&mut self) -> Result<()> {
        self.one_simple_row(&session::pin_statement(self.server_version), "pinning the session's settings").await?;
        Ok(())
    }
}

/// `tokio_postgres` tells a login's troubles as text; without a server's answer they are the configuration's.
fn login_error(cause: tokio_postgres::Error, info: &ConnInfo, endpoint: &Endpoint) -> Error {
    let ours = cause.as_db_error().is_none() && !cause.is_closed();
    let io = std::error::Error::source(&cause).is_some_and(|inner| inner.is::<std::io::Error>());
    if !ours || io {
        return error::sql(cause, "logging in");
    }
    if endpoint.password.is_none() {
        return auth::no_password(&info.user);
    }
    if info.channel_binding == conninfo::ChannelBinding::Require {
        return auth::not_bound().because(cause);
    }
    Error::config("logging in").because(cause)
}

/// "Connects" TLS over a socket that has it already.
struct Encrypted;

impl TlsConnect<Stream> for Encrypted {
    type Stream = TlsSocket;
    type Error = std::convert::Infallible;
    type Future = Ready<std::result::Result<TlsSocket, Self::Error>>;

    fn connect(self, stream: Stream) -> Self::Future {
        ready(Ok(TlsSocket(stream)))
    }
}

/// [`Stream`] with its channel binding, as the client wants to see it.
struct TlsSocket(Stream);

impl TlsStream for TlsSocket {
    fn channel_binding(&self) -> ChannelBinding {
        binding::server_end_point(&self.0).map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl AsyncRead for TlsSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
