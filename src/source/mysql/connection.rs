//! Our own connection: statements, prepared statements with their rows as they come, and the beginning of a dump.
//!
//! Invariants:
//! - One task owns a connection; it is never shared.
//! - What reads rows may be cancelled (`select!`) at any time: no byte is lost. Everything else, cancelled, leaves the
//!   connection unusable, and its next use says so.
//! - Every connection has the same settings pinned ([`super::session`]).
//! - The server gets no file of ours, and one result a statement.

use async_trait::async_trait;
use bytes::Bytes;

use super::ask::{Ask, TextRow};
use super::dial::{self, Session};
use super::error::MySqlError;
use super::rows::{RowStream, Rows};
use super::session::{self, ServerVersion};
use super::transport::{Transport, wire_error};
use super::url::ConnInfo;
use crate::error::{Error, Result};
use crate::wire::mysql::protocol::answer::{self, Answer};
use crate::wire::mysql::protocol::binary_row::RowPlan;
use crate::wire::mysql::protocol::column::{self, ColumnDefinition};
use crate::wire::mysql::protocol::command::{self, Param};
use crate::wire::mysql::protocol::text_row;

/// What a small result may hold at most: the columns of 100,000 tables of 20 are 200 MB and asked for in parts; 64 MiB are
/// more than any single question of ours is answered with.
pub const RESULT_LIMIT_BYTES: usize = 64 << 20;

/// Four packets with room to spare; our statements are lists of names at the longest.
const MAX_COMMAND_BYTES: usize = 64 << 20;

/// A table has at most 4096 columns, and no statement of ours has more.
const MAX_COLUMNS: u64 = 1 << 16;

/// What the connection is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    /// A command is under way; seen from outside only when its future was dropped.
    Busy,
    Rows,
}

pub struct Connection {
    pub(super) transport: Transport,
    pub(super) phase: Phase,
    /// Where and how, with the one host and address that was reached.
    info: ConnInfo,
    server: ServerVersion,
    thread_id: u32,
}

/// A statement that the server has read and planned; it lives as long as its connection.
#[derive(Clone, Debug)]
pub struct Statement {
    id: u32,
    sql: String,
    params: usize,
    columns: Vec<ColumnDefinition>,
}

impl Statement {
    /// The result's columns; those of an execution may differ in what an ALTER TABLE in between changed.
    pub fn columns(&self) -> &[ColumnDefinition] {
        &self.columns
    }
}

impl Connection {
    /// Connects to the first host that is reached and lets us in, and pins the settings.
    ///
    /// # Errors
    /// Config: refused or misconfigured. Transient: no host was reached, or none is ready.
    pub async fn connect(info: &ConnInfo) -> Result<Connection> {
        dial::connect(info, Self::prepare_session).await
    }

    async fn prepare_session(session: Session) -> Result<Connection> {
        let Session { transport, thread_id, greeted_version, info } = session;
        let server = ServerVersion::parse(&greeted_version)?;
        let mut connection = Connection { transport, phase: Phase::Idle, info, server, thread_id };
        // Not what was greeted with: a proxy says there what it likes.
        let rows = connection.query("SELECT VERSION() AS version, CONNECTION_ID() AS thread_id").await?;
        connection.server = ServerVersion::parse(rows.text(0, "version")?.unwrap_or_default())?;
        connection.thread_id = rows.number(0, "thread_id")?.unwrap_or(thread_id);
        connection.execute(&session::pin_statement(&connection.server)).await?;
        Ok(connection)
    }

    /// What the server is.
    pub fn server(&self) -> &ServerVersion {
        &self.server
    }

    /// The server's number of this connection, for KILL.
    pub fn thread_id(&self) -> u32 {
        self.thread_id
    }

    /// The way to the same server, for further connections: one host, its address fixed.
    pub fn same_server(&self) -> &ConnInfo {
        &self.info
    }

    pub fn is_encrypted(&self) -> bool {
        self.transport.is_encrypted()
    }

    /// Runs a statement without rows (rows are thrown away). Returns how many it affected.
    ///
    /// # Errors
    /// The server's, with its number ([`super::error::code`]); the connection stays usable after it.
    pub async fn execute(&mut self, sql: &str) -> Result<u64> {
        self.begin(&command::query(sql)).await?;
        let payload = self.transport.payload().await?;
        let affected = match self.answer(&payload, sql)? {
            Some(columns) => {
                self.definitions(columns).await?;
                while !is_last(&self.row_payload(sql).await?)? {}
                0
            }
            None => answer::parse_ok(&payload).map_err(wire_error)?.affected_rows,
        };
        self.phase = Phase::Idle;
        Ok(affected)
    }

    /// Runs a query and reads all its rows, as text: for what is small.
    ///
    /// # Errors
    /// The server's; Data where the rows take more than [`RESULT_LIMIT_BYTES`].
    pub async fn query(&mut self, sql: &str) -> Result<Rows> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let columns = self.query_each(sql, |payload, columns| {
            bytes += payload.len();
            if bytes > RESULT_LIMIT_BYTES {
                let limit = RESULT_LIMIT_BYTES >> 20;
                return Err(Error::data(format!("the answer has more than {limit} MiB: {}", shown(sql))));
            }
            rows.push(text_row::parse(payload, columns).map_err(wire_error)?);
            Ok(())
        });
        let columns = columns.await?;
        Ok(if columns.is_empty() { Rows::default() } else { Rows::new(columns, rows) })
    }

    /// Runs a query and hands over each row as it comes, with the number of its columns. Returns these; none where the
    /// statement has no rows.
    async fn query_each(
        &mut self,
        sql: &str,
        mut take: impl FnMut(&Bytes, usize) -> Result<()>,
    ) -> Result<Vec<ColumnDefinition>> {
        self.begin(&command::query(sql)).await?;
        let payload = self.transport.payload().await?;
        let Some(columns) = self.answer(&payload, sql)? else {
            self.phase = Phase::Idle;
            return Ok(Vec::new());
        };
        let columns = self.definitions(columns).await?;
        loop {
            let payload = self.row_payload(sql).await?;
            if is_last(&payload)? {
                self.phase = Phase::Idle;
                return Ok(columns);
            }
            take(&payload, columns.len())?;
        }
    }

    /// Has the server read a statement with `?` for its parameters.
    ///
    /// # Errors
    /// The server's.
    pub async fn prepare(&mut self, sql: &str) -> Result<Statement> {
        self.begin(&command::stmt_prepare(sql)).await?;
        let payload = self.transport.payload().await?;
        if payload.first() == Some(&answer::ERR) {
            self.answer(&payload, sql)?;
        }
        let prepared = command::parse_prepared(&payload).map_err(wire_error)?;
        self.definitions(prepared.params.into()).await?;
        let columns = self.definitions(prepared.columns.into()).await?;
        self.phase = Phase::Idle;
        Ok(Statement { id: prepared.statement, sql: sql.to_owned(), params: prepared.params.into(), columns })
    }

    /// Runs a prepared query; its rows are then read as they come, in the binary protocol.
    ///
    /// # Errors
    /// The server's. Bug: another number of parameters than the statement has, or no rows.
    pub async fn stream<'c>(&'c mut self, statement: &Statement, params: &[Param<'_>]) -> Result<RowStream<'c>> {
        let sql = &statement.sql;
        if params.len() != statement.params {
            return Err(Error::bug(format!("{} parameters for {}: {sql}", params.len(), statement.params)));
        }
        self.begin(&command::stmt_execute(statement.id, params)).await?;
        let payload = self.transport.payload().await?;
        let Some(columns) = self.answer(&payload, sql)? else {
            self.phase = Phase::Idle;
            return Err(Error::bug(format!("a statement without rows: {}", shown(sql))));
        };
        let columns = self.definitions(columns).await?;
        let plan = RowPlan::new(&columns).map_err(wire_error)?;
        self.phase = Phase::Rows;
        Ok(RowStream::new(self, columns, plan, shown(sql)))
    }

    /// Has the server forget a statement.
    ///
    /// # Errors
    /// Transient: the socket broke.
    pub async fn forget(&mut self, statement: Statement) -> Result<()> {
        self.begin(&command::stmt_close(statement.id)).await?;
        self.phase = Phase::Idle;
        Ok(())
    }

    /// Asks the server whether it is there, which also keeps the connection from being closed as idle.
    ///
    /// # Errors
    /// Transient: the socket broke.
    pub async fn ping(&mut self) -> Result<()> {
        self.begin(&command::ping()).await?;
        let payload = self.transport.payload().await?;
        self.answer(&payload, "COM_PING")?;
        self.phase = Phase::Idle;
        Ok(())
    }

    /// What ends a statement of this connection from outside.
    pub fn kill_handle(&self) -> KillHandle {
        KillHandle { info: self.info.clone(), thread_id: self.thread_id }
    }

    /// Says goodbye and closes the socket, so that the server does not count a broken connection.
    pub async fn close(mut self) {
        // In the middle of something the server would not read it.
        if self.phase == Phase::Idle {
            let _ = self.transport.command(&command::quit()).await;
        }
        self.transport.shutdown().await;
    }

    /// Sends a command.
    pub(super) async fn begin(&mut self, payload: &[u8]) -> Result<()> {
        if self.phase != Phase::Idle {
            return Err(Error::bug(format!("a command on a connection in phase {:?}", self.phase)));
        }
        if payload.len() > MAX_COMMAND_BYTES {
            return Err(Error::bug(format!("a command of {} bytes", payload.len())));
        }
        self.phase = Phase::Busy;
        self.transport.command(payload).await
    }

    /// How many columns follow; None for an OK.
    pub(super) fn answer(&mut self, payload: &[u8], sql: &str) -> Result<Option<u64>> {
        match answer::parse(payload).map_err(wire_error)? {
            Answer::Ok(_) => Ok(None),
            Answer::Columns(columns) if (1..=MAX_COLUMNS).contains(&columns) => Ok(Some(columns)),
            Answer::Err(err) => {
                self.phase = Phase::Idle;
                Err(MySqlError::from(err).into_error(shown(sql)))
            }
            Answer::LocalInfile => {
                Err(Error::config("the server asks for a file of this machine, which it cannot get")
                    .remedy("a server does that only in answer to LOAD DATA LOCAL: is this one to be trusted?"))
            }
            Answer::Eof(_) | Answer::Columns(_) => {
                Err(Error::transient(format!("the server's answer is out of turn: {}", shown(sql))))
            }
        }
    }

    /// The next packet of rows.
    async fn row_payload(&mut self, sql: &str) -> Result<Bytes> {
        let payload = self.transport.payload().await?;
        if payload.first() == Some(&answer::ERR) {
            self.answer(&payload, sql)?;
        }
        Ok(payload)
    }

    /// So many definitions and their EOF; nothing at all for none.
    async fn definitions(&mut self, count: u64) -> Result<Vec<ColumnDefinition>> {
        let mut columns = Vec::new();
        if count == 0 {
            return Ok(columns);
        }
        for _ in 0..count {
            columns.push(column::parse(&self.transport.payload().await?).map_err(wire_error)?);
        }
        if !is_last(&self.transport.payload().await?)? {
            return Err(Error::transient("the server's column definitions have no end"));
        }
        Ok(columns)
    }
}

#[async_trait]
impl Ask for Connection {
    async fn rows(&mut self, sql: &str, doing: &str) -> Result<Vec<TextRow>> {
        let rows = self.query(sql).await.map_err(|error| error.context(doing))?;
        Ok(rows.rows.into_iter().map(text_of).collect())
    }

    async fn each(&mut self, sql: &str, doing: &str, take: &mut (dyn for<'r> FnMut(&'r TextRow) + Send)) -> Result<()> {
        let each = self.query_each(sql, |payload, columns| {
            take(&text_of(text_row::parse(payload, columns).map_err(wire_error)?));
            Ok(())
        });
        each.await.map(drop).map_err(|error| error.context(doing))
    }
}

fn text_of(row: Vec<Option<Bytes>>) -> TextRow {
    row.into_iter().map(|value| value.map(|value| String::from_utf8_lossy(&value).into_owned())).collect()
}

/// Whether a packet ends the rows or definitions.
fn is_last(payload: &[u8]) -> Result<bool> {
    if !answer::is_eof(payload) {
        return Ok(false);
    }
    let eof = answer::parse_eof(payload).map_err(wire_error)?;
    if eof.status & answer::status::MORE_RESULTS != 0 {
        return Err(Error::bug("the server has more than one result, which it was not asked for"));
    }
    Ok(true)
}

/// Ends what a connection is doing, from outside.
#[derive(Clone)]
pub struct KillHandle {
    info: ConnInfo,
    thread_id: u32,
}

impl KillHandle {
    /// Ends the statement that runs; it fails with 1317. One's own statements may be killed without a privilege.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn kill_query(&self) -> Result<()> {
        self.kill("QUERY").await
    }

    /// Ends the connection.
    ///
    /// # Errors
    /// As [`Self::kill_query`].
    pub async fn kill_connection(&self) -> Result<()> {
        self.kill("CONNECTION").await
    }

    async fn kill(&self, what: &str) -> Result<()> {
        let doing = |error: Error| error.context(format!("ending what connection {} does", self.thread_id));
        let mut connection = Connection::connect(&self.info).await.map_err(doing)?;
        connection.execute(&format!("KILL {what} {}", self.thread_id)).await.map_err(doing)?;
        connection.close().await;
        Ok(())
    }
}

/// A statement's beginning, enough to know it again.
fn shown(sql: &str) -> String {
    const SHOWN_CHARS: usize = 120;
    let mut shown: String = sql.chars().take(SHOWN_CHARS).collect();
    if shown.len() < sql.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a task may hold across its awaits.
    #[test]
    fn everything_can_be_spawned() {
        fn is_send<T: Send>(_: impl Fn(&'static mut Connection, &'static Statement) -> T) {}
        is_send(|connection, _| Connection::connect(connection.same_server()));
        is_send(|connection, _| connection.query(""));
        is_send(|connection, _| connection.execute(""));
        is_send(|connection, statement| connection.stream(statement, &[]));
    }
}
