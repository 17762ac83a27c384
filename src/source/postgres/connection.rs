//! Our own connection: simple queries, COPY OUT and logical replication, with the socket's bytes handed out as they are.
//!
//! Invariants:
//! - One task owns a connection; it is never shared.
//! - [`Connection::fill`] may be cancelled (`select!`) at any time: no byte is lost. Everything else, cancelled, leaves the
//!   connection unusable, and its next use says so.
//! - Every connection has the same settings pinned ([`super::session`]), text is UTF-8.
//! - What the server says besides (notices, parameters) is handled here; the caller sees CopyData and the end.
//!
//! The hot path reads without a copy:
//! ```text
//! loop {
//!     match frame::next(connection.buffer())? {
//!         Some(frame) if frame.tag == tag::COPY_DATA => … and take it off with split_to(frame.total_bytes)
//!         Some(_) => if connection.take_aside()? == Aside::CopyDone { break }
//!         None => { connection.fill().await?; }
//!     }
//! }
//! ```

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::auth::{self, Credentials};
use super::conninfo::{ConnInfo, Host};
use super::dial::{self, Dialled, ServerState, Session};
use super::error::PgError;
use super::session;
use super::transport::{Message, Transport, wire_error};
use crate::error::{Context, Error, Result};
use crate::wire::pg::backend::{column_names, command_tag, data_row, key_data, parameter_status};
use crate::wire::pg::frame::tag;
use crate::wire::pg::replication::{POSTGRES_EPOCH_UNIX_US, StatusUpdate};

pub use super::transport::READ_BUFFER_BYTES;

/// How long the server may take to end a stream that we ended: it first finishes decoding the transaction it is in. After
/// that closing the socket does the same, only later.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Ordinary SQL and COPY.
    Sql,
    /// A walsender for logical replication; it takes simple queries too.
    Replication,
}

/// What the connection is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// A command is under way; seen from outside only when its future was dropped.
    Busy,
    CopyOut,
    CopyBoth,
    /// The server reported an error; ReadyForQuery is still to come.
    Failed,
}

pub struct Connection {
    transport: Transport,
    phase: Phase,
    /// Where and how, with the one host and address that was reached.
    info: ConnInfo,
    role: Role,
    parameters: HashMap<String, String>,
    server_version: u32,
    pid: i32,
    secret: i32,
    behind_pooler: bool,
}

/// The result of one statement of a simple query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub columns: Vec<String>,
    /// Text format; None is NULL.
    pub rows: Vec<Vec<Option<Bytes>>>,
    /// `SELECT 3`, `CREATE_REPLICATION_SLOT`…
    pub tag: String,
}

impl Rows {
    /// A value by row and column name; None for NULL.
    ///
    /// # Errors
    /// Bug: no such row or column. Data: not UTF-8.
    pub fn text(&self, row: usize, column: &str) -> Result<Option<&str>> {
        let at = self.columns.iter().position(|name| name == column);
        let value = at.and_then(|at| self.rows.get(row)?.get(at));
        match value {
            None => Err(Error::bug(format!("row {row} of {} has no column {column}", self.tag))),
            Some(None) => Ok(None),
            Some(Some(bytes)) => {
                std::str::from_utf8(bytes).map(Some).data(|| format!("the server's column {column} is not UTF-8"))
            }
        }
    }
}

/// A message that is not CopyData, within COPY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// A notice or a parameter: dealt with.
    Handled,
    /// The server has sent all: [`Connection::finish_copy`] or [`Connection::stop_replication`] comes next.
    CopyDone,
}

impl Connection {
    /// Connects to the first host that suits, logs in, and pins the settings.
    ///
    /// # Errors
    /// Config: refused or misconfigured. Transient: no host was reached, or none is ready.
    pub async fn connect(info: &ConnInfo, role: Role) -> Result<Connection> {
        dial::connect(info, role).await
    }

    /// Runs SQL or a replication command and reads all rows: for what is small.
    ///
    /// # Errors
    /// The server's, with its SQLSTATE ([`super::error::code`]); the connection stays usable after it.
    pub async fn simple_query(&mut self, sql: &str) -> Result<Vec<Rows>> {
        self.begin(sql).await?;
        let mut results = Vec::new();
        let mut current = Rows::default();
        loop {
            let message = self.transport.message().await?;
            match message.tag {
                tag::ROW_DESCRIPTION => current.columns = column_names(&message.body).map_err(wire_error)?,
                tag::DATA_ROW => current.rows.push(data_row(message.body).map_err(wire_error)?),
                tag::COMMAND_COMPLETE => {
                    current.tag = command_tag(&message.body).map_err(wire_error)?;
                    results.push(std::mem::take(&mut current));
                }
                tag::EMPTY_QUERY_RESPONSE => results.push(std::mem::take(&mut current)),
                tag::READY_FOR_QUERY => {
                    self.phase = Phase::Idle;
                    return Ok(results);
                }
                tag::ERROR_RESPONSE => {
                    let error = server_says(&message, sql)?;
                    self.phase = Phase::Failed;
                    return Err(error);
                }
                _ => self.besides(message)?,
            }
        }
    }

    /// Starts `COPY … TO STDOUT`; the rows are then read by [`Self::fill`] and [`Self::buffer`].
    ///
    /// # Errors
    /// The server's; Bug: the statement was no COPY to STDOUT.
    pub async fn copy_out(&mut self, sql: &str) -> Result<()> {
        self.enter(sql, tag::COPY_OUT_RESPONSE, Phase::CopyOut).await
    }

    /// After [`Aside::CopyDone`] of a COPY OUT: reads up to ReadyForQuery. Returns the number of rows.
    ///
    /// # Errors
    /// The server's, Transient when the socket broke.
    pub async fn finish_copy(&mut self) -> Result<u64> {
        let mut rows = None;
        loop {
            let message = self.transport.message().await?;
            match message.tag {
                tag::COMMAND_COMPLETE => {
                    let text = command_tag(&message.body).map_err(wire_error)?;
                    rows = text.strip_prefix("COPY ").and_then(|count| count.parse().ok());
                }
                tag::READY_FOR_QUERY => {
                    self.phase = Phase::Idle;
                    return rows.ok_or_else(|| Error::transient("COPY ended without a count of its rows"));
                }
                tag::ERROR_RESPONSE => {
                    self.phase = Phase::Failed;
                    return Err(server_says(&message, "COPY")?);
                }
                tag::COPY_DATA => return Err(Error::bug("COPY was finished before all its data was taken")),
                tag::COPY_DONE => {}
                _ => self.besides(message)?,
            }
        }
    }

    /// Sends START_REPLICATION and waits for the stream to begin.
    ///
    /// # Errors
    /// The server's: 55006 (Transient) while another connection holds the slot, 42704 for a slot that is not there, 55000
    /// for one that is lost.
    pub async fn start_replication(&mut self, sql: &str) -> Result<()> {
        if self.role != Role::Replication {
            return Err(Error::bug("START_REPLICATION on an ordinary connection"));
        }
        self.enter(sql, tag::COPY_BOTH_RESPONSE, Phase::CopyBoth).await
    }

    /// Tells the server what is received (`write`), durable (`flush`: the slot advances to it) and applied.
    ///
    /// # Errors
    /// Transient: the socket broke, or the server took nothing for ten seconds.
    pub async fn send_status(&mut self, write: u64, flush: u64, apply: u64, reply_requested: bool) -> Result<()> {
        if self.phase != Phase::CopyBoth {
            return Err(self.out_of_phase("a status update"));
        }
        let update = StatusUpdate {
            write_lsn: write,
            flush_lsn: flush,
            apply_lsn: apply,
            sent_us: postgres_now_us(),
            reply_requested,
        };
        self.transport.output().extend_from_slice(&update.encode());
        self.transport.flush().await
    }

    /// Ends the stream with CopyDone from both sides, so that the slot is free when this returns. Data on its way is
    /// thrown away; none of it was confirmed.
    ///
    /// # Errors
    /// Transient: the server did not end it within [`STOP_TIMEOUT`]; dropping the connection ends it too.
    pub async fn stop_replication(&mut self) -> Result<()> {
        if self.phase != Phase::CopyBoth {
            return Err(self.out_of_phase("the end of a stream"));
        }
        self.phase = Phase::Busy;
        frontend::copy_done(self.transport.output());
        let stop = async {
            self.transport.flush().await?;
            self.drain().await
        };
        match timeout(STOP_TIMEOUT, stop).await {
            Ok(Ok(())) => {
                self.phase = Phase::Idle;
                Ok(())
            }
            Ok(Err(error)) => Err(error.context("ending the replication stream")),
            Err(_) => {
                Err(Error::transient(format!("the server did not end the stream within {} s", STOP_TIMEOUT.as_secs())))
            }
        }
    }

    /// One read from the socket into [`Self::buffer`]. Returns the bytes it gave, at least one. Cancel-safe.
    ///
    /// # Errors
    /// Transient: the socket broke, or the server closed it.
    #[inline]
    pub async fn fill(&mut self) -> Result<usize> {
        self.transport.fill().await
    }

    /// What was read and not yet taken, from the beginning of a message on. Take whole messages only.
    #[inline]
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.transport.input()
    }

    /// Within COPY: takes the first message off the buffer, complete and not CopyData, and deals with it.
    ///
    /// # Errors
    /// The server's error if it is one. Transient: the server ended the stream (it is shutting down).
    pub fn take_aside(&mut self) -> Result<Aside> {
        let message = match self.transport.take()? {
            Some(message) if message.tag != tag::COPY_DATA => message,
            _ => return Err(Error::bug("there is no complete message besides the data")),
        };
        match message.tag {
            tag::COPY_DONE => return Ok(Aside::CopyDone),
            tag::ERROR_RESPONSE => {
                let what = if self.phase == Phase::CopyBoth { "streaming changes" } else { "copying rows" };
                self.phase = Phase::Failed;
                return Err(server_says(&message, what)?);
            }
            // A walsender ends with this when its server shuts down.
            tag::COMMAND_COMPLETE if self.phase == Phase::CopyBoth => {
                return Err(Error::transient("the server ended the stream: it is shutting down"));
            }
            _ => self.besides(message)?,
        }
        Ok(Aside::Handled)
    }

    /// Sends Terminate and closes the socket, so that the server does not log a broken connection.
    pub async fn close(mut self) {
        frontend::terminate(self.transport.output());
        let _ = self.transport.flush().await;
        self.transport.shutdown().await;
    }

    /// As `server_version_num`: 150018 is 15.18.
    pub fn server_version_num(&self) -> u32 {
        self.server_version
    }

    /// What the server last reported of a parameter (ParameterStatus), by its exact name: `TimeZone`, `server_version`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The process that serves this connection, as the login named it.
    pub fn backend_pid(&self) -> i32 {
        self.pid
    }

    /// The process that answers is not the one that the login named: a pooler is in between.
    pub fn is_behind_pooler(&self) -> bool {
        self.behind_pooler
    }

    pub fn is_encrypted(&self) -> bool {
        self.transport.is_encrypted()
    }

    /// In the middle of a replication stream.
    pub fn is_streaming(&self) -> bool {
        self.phase == Phase::CopyBoth
    }

    /// The way to the same server, for further connections: one host, its address fixed.
    pub fn same_server(&self) -> &ConnInfo {
        &self.info
    }

    pub fn cancel_token(&self) -> CancelToken {
        CancelToken { info: self.info.clone(), pid: self.pid, secret: self.secret, encrypted: self.is_encrypted() }
    }

    /// Sends a command, after what an earlier failed one still has to say.
    async fn begin(&mut self, sql: &str) -> Result<()> {
        match self.phase {
            Phase::Idle => {}
            Phase::Failed => {
                self.drain().await?;
                self.phase = Phase::Idle;
            }
            Phase::Busy | Phase::CopyOut | Phase::CopyBoth => return Err(self.out_of_phase("a command")),
        }
        if sql.contains('\0') {
            return Err(Error::config("a name or a text in the command holds a zero byte"));
        }
        self.phase = Phase::Busy;
        frontend::query(sql, self.transport.output()).config(|| "a command above 2 GiB".into())?;
        self.transport.flush().await
    }

    async fn enter(&mut self, sql: &str, wanted: u8, phase: Phase) -> Result<()> {
        self.begin(sql).await?;
        loop {
            let message = self.transport.message().await?;
            match message.tag {
                found if found == wanted => {
                    self.phase = phase;
                    return Ok(());
                }
                tag::ERROR_RESPONSE => {
                    self.phase = Phase::Failed;
                    return Err(server_says(&message, sql)?);
                }
                tag::ROW_DESCRIPTION | tag::COMMAND_COMPLETE | tag::READY_FOR_QUERY | tag::EMPTY_QUERY_RESPONSE => {
                    return Err(Error::bug(format!("the server does not copy in answer to: {sql}")));
                }
                _ => self.besides(message)?,
            }
        }
    }

    /// Throws away everything up to ReadyForQuery.
    async fn drain(&mut self) -> Result<()> {
        loop {
            let message = self.transport.message().await?;
            match message.tag {
                tag::READY_FOR_QUERY => return Ok(()),
                tag::ERROR_RESPONSE => {
                    let error = PgError::parse(&message.body).map_err(wire_error)?;
                    tracing::debug!(%error, "the server, while ending a command");
                }
                tag::NOTICE_RESPONSE | tag::PARAMETER_STATUS => self.besides(message)?,
                _ => {}
            }
        }
    }

    /// Messages that may come at any time ("Asynchronous Operations").
    fn besides(&mut self, message: Message) -> Result<()> {
        match message.tag {
            tag::NOTICE_RESPONSE => {
                let notice = PgError::parse(&message.body).map_err(wire_error)?;
                match notice.severity.as_str() {
                    "WARNING" => tracing::warn!(%notice, "the server"),
                    _ => tracing::debug!(%notice, "the server"),
                }
            }
            tag::PARAMETER_STATUS => {
                let (name, value) = parameter_status(&message.body).map_err(wire_error)?;
                self.parameters.insert(name, value);
            }
            tag::NOTIFICATION_RESPONSE | tag::NEGOTIATE_PROTOCOL_VERSION => {}
            other => {
                return Err(Error::transient(format!(
                    "the server sent a message of type {:?} out of turn",
                    other as char
                )));
            }
        }
        Ok(())
    }

    fn out_of_phase(&self, what: &str) -> Error {
        Error::bug(format!("{what} on a connection in phase {:?}", self.phase))
    }
}

impl Session for Connection {
    type Kind = Role;

    async fn start(dialled: Dialled<'_>, role: Role) -> Result<Connection> {
        let Dialled { stream, info, endpoint } = dialled;
        let mut transport = Transport::new(stream);
        let mut parameters = vec![
            ("user", info.user.as_str()),
            ("database", info.database.as_str()),
            ("application_name", info.application_name.as_str()),
            ("client_encoding", "UTF8"),
        ];
        parameters.extend(info.options.as_deref().map(|options| ("options", options)));
        if role == Role::Replication {
            parameters.push(("replication", "database"));
        }
        frontend::startup_message(parameters, transport.output())
            .config(|| "a zero byte in user, database, application_name or options".into())?;
        transport.flush().await?;
        let password = endpoint.password.as_ref();
        let credentials = Credentials { user: &info.user, password, channel_binding: info.channel_binding };
        auth::login(&mut transport, &credentials).await?;

        let mut reached = endpoint.clone();
        if let (Host::Tcp { addr, .. }, Some(peer)) = (&mut reached.host, transport.peer_addr()) {
            *addr = Some(peer);
        }
        let mut connection = Connection {
            transport,
            phase: Phase::Busy,
            info: info.at(&reached),
            role,
            parameters: HashMap::new(),
            server_version: 0,
            pid: 0,
            secret: 0,
            behind_pooler: false,
        };
        connection.read_greeting().await?;
        Ok(connection)
    }

    async fn server_state(&mut self) -> Result<ServerState> {
        // Reported without being asked from 14 on.
        if let (Some(standby), Some(read_only)) =
            (self.parameter("in_hot_standby"), self.parameter("default_transaction_read_only"))
        {
            let in_recovery = standby == "on";
            return Ok(ServerState { in_recovery, read_only: in_recovery || read_only == "on" });
        }
        let results = self.simple_query(session::STATE_STATEMENT).await?;
        let rows = results.first().ok_or_else(|| Error::transient("no answer to whether the server is a standby"))?;
        let is = |column| Ok::<_, Error>(rows.text(0, column)? == Some("t"));
        Ok(ServerState { in_recovery: is("in_recovery")?, read_only: is("read_only")? })
    }

    async fn prepare(&mut self) -> Result<()> {
        let results = self.simple_query(&session::pin_statement(self.server_version)).await?;
        let rows = results.first().ok_or_else(|| Error::transient("no answer to the settings"))?;
        let pid = rows.text(0, "pid")?.unwrap_or_default();
        self.behind_pooler = pid != self.pid.to_string();
        match self.parameter("client_encoding") {
            // Such a database does not know what its bytes mean, and the server's own error would name no column: the
            // decoders check each value instead.
            Some("UTF8") if self.parameter("server_encoding") == Some("SQL_ASCII") => {
                self.simple_query("SET client_encoding TO SQL_ASCII").await.map(drop)
            }
            Some("UTF8") => Ok(()),
            other => Err(Error::config(format!("client_encoding is {} and not UTF8", other.unwrap_or("not told")))
                .remedy("connect to the server itself, not through a pooler that changes it")),
        }
    }
}

impl Connection {
    /// From AuthenticationOk to the first ReadyForQuery: parameters and the cancel key.
    async fn read_greeting(&mut self) -> Result<()> {
        loop {
            let message = self.transport.message().await?;
            match message.tag {
                tag::BACKEND_KEY_DATA => (self.pid, self.secret) = key_data(&message.body).map_err(wire_error)?,
                tag::READY_FOR_QUERY => break,
                tag::ERROR_RESPONSE => return Err(server_says(&message, "logging in")?),
                _ => self.besides(message)?,
            }
        }
        self.phase = Phase::Idle;
        let version = self.parameter("server_version").unwrap_or_default();
        self.server_version = session::version_number(version)?;
        Ok(())
    }
}

/// Cancels what a connection is doing, from outside. Not `Debug`: the secret is one.
#[derive(Clone)]
pub struct CancelToken {
    info: ConnInfo,
    pid: i32,
    secret: i32,
    encrypted: bool,
}

impl CancelToken {
    /// Sends CancelRequest over a socket of its own, encrypted as the connection is. Whether it comes in time is not
    /// told; the cancelled command fails with 57014.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn cancel(&self) -> Result<()> {
        let doing = || format!("cancelling a command of process {}", self.pid);
        let [endpoint] = self.info.hosts.as_slice() else { return Err(Error::bug("a cancel token of several hosts")) };
        let mut stream =
            dial::connect_bare(&self.info, endpoint, self.encrypted).await.map_err(|error| error.context(doing()))?;
        let mut request = BytesMut::new();
        frontend::cancel_request(self.pid, self.secret, &mut request);
        stream.write_all(&request).await.transient(doing)?;
        stream.flush().await.transient(doing)?;
        // The server closes without an answer once the signal is sent.
        let _ = timeout(Duration::from_secs(5), stream.read_u8()).await;
        Ok(())
    }
}

/// Microseconds since 2000, the server's epoch.
pub fn postgres_now_us() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX) - POSTGRES_EPOCH_UNIX_US
}

/// The server's error in answer to `sql`, of which no more than a line is shown.
fn server_says(message: &Message, sql: &str) -> Result<Error> {
    /// Enough to know the command again.
    const SHOWN_CHARS: usize = 120;
    let mut shown: String = sql.chars().take(SHOWN_CHARS).collect();
    if shown.len() < sql.len() {
        shown.push('…');
    }
    Ok(PgError::parse(&message.body).map_err(wire_error)?.into_error(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a task may hold across its awaits.
    #[test]
    fn everything_can_be_spawned() {
        fn is_send<T: Send>(_: impl Fn(&'static mut Connection, &'static ConnInfo) -> T) {}
        is_send(|_, info| Connection::connect(info, Role::Replication));
        is_send(|_, info| super::super::sql::Sql::connect(info));
        is_send(|connection, _| connection.simple_query(""));
        is_send(|connection, _| connection.copy_out(""));
        is_send(|connection, _| connection.fill());
        is_send(|connection, _| connection.send_status(0, 0, 0, false));
        is_send(|connection, _| connection.stop_replication());
    }

    #[test]
    fn values_are_found_by_name() {
        let row = vec![Some(Bytes::from_static(b"ab")), None, Some(Bytes::from_static(b"\xff"))];
        let columns = vec!["slot_name".into(), "plugin".into(), "bytes".into()];
        let rows = Rows { columns, rows: vec![row], tag: "SELECT 1".into() };
        assert_eq!(rows.text(0, "slot_name").unwrap(), Some("ab"));
        assert_eq!(rows.text(0, "plugin").unwrap(), None);
        assert!(rows.text(1, "plugin").is_err() && rows.text(0, "x").is_err() && rows.text(0, "bytes").is_err());
    }
}
