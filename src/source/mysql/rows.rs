//! Results: small ones as text, large ones as frames of rows as they come.

use std::str::FromStr;

use bytes::Bytes;

use super::connection::{Connection, Phase};
use super::error::MySqlError;
use super::transport::{Scanned, wire_error};
use crate::error::{Context, Error, Result};
use crate::record::Cell;
use crate::wire::mysql::protocol::answer;
use crate::wire::mysql::protocol::binary_row::RowPlan;
use crate::wire::mysql::protocol::column::ColumnDefinition;

/// A small result, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub columns: Vec<ColumnDefinition>,
    /// None is NULL.
    pub rows: Vec<Vec<Option<Bytes>>>,
}

impl Rows {
    pub(super) fn new(columns: Vec<ColumnDefinition>, rows: Vec<Vec<Option<Bytes>>>) -> Self {
        Rows { columns, rows }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn has_column(&self, column: &str) -> bool {
        self.position(column).is_some()
    }

    /// Servers differ in how they write the names of SHOW's columns.
    fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|found| found.name.eq_ignore_ascii_case(column))
    }

    /// A value's bytes by row and column name, in any case of letters; None for NULL.
    ///
    /// # Errors
    /// Bug: no such row or column.
    pub fn bytes(&self, row: usize, column: &str) -> Result<Option<&Bytes>> {
        match self.position(column).and_then(|at| self.rows.get(row)?.get(at)) {
            None => Err(Error::bug(format!("row {row} of {} has no column {column}", self.len()))),
            Some(value) => Ok(value.as_ref()),
        }
    }

    /// A value by row and column name; None for NULL.
    ///
    /// # Errors
    /// Bug: no such row or column. Data: not UTF-8.
    pub fn text(&self, row: usize, column: &str) -> Result<Option<&str>> {
        let Some(bytes) = self.bytes(row, column)? else { return Ok(None) };
        std::str::from_utf8(bytes).map(Some).data(|| format!("the server's column {column} is not UTF-8"))
    }

    /// The same as a number.
    ///
    /// # Errors
    /// As [`Self::text`]; Data: no number of this kind.
    pub fn number<T: FromStr>(&self, row: usize, column: &str) -> Result<Option<T>> {
        let Some(text) = self.text(row, column)? else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Error::data(format!("the server's column {column} is no number: {text:?}"))),
        }
    }
}

/// The rows of a prepared query, in the binary protocol.
///
/// ```text
/// loop {
///     match rows.next(cells)? {
///         Step::Row => …                                          the cells of one row, into the frame to come
///         Step::Dry => { … rows.take_frame(); rows.fill().await?; }
///         Step::Long => { … rows.take_frame(); let frame = rows.long_row(cells).await?; … }
///         Step::End => { … rows.take_frame(); break }
///     }
/// }
/// ```
/// Given up before its end, the connection can only be dropped.
pub struct RowStream<'c> {
    connection: &'c mut Connection,
    columns: Vec<ColumnDefinition>,
    plan: RowPlan,
    doing: String,
}

/// What came next of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A row's cells were appended.
    Row,
    /// Nothing complete is left: take the frame, then fill.
    Dry,
    /// A row that does not fit the read buffer: take the frame, then ask for the long row.
    Long,
    /// There are no more rows, and the connection is free again.
    End,
}

impl<'c> RowStream<'c> {
    pub(super) fn new(
        connection: &'c mut Connection,
        columns: Vec<ColumnDefinition>,
        plan: RowPlan,
        doing: String,
    ) -> RowStream<'c> {
        RowStream { connection, columns, plan, doing }
    }

    pub fn columns(&self) -> &[ColumnDefinition] {
        &self.columns
    }

    /// Appends the next row's cells; their offsets count from the beginning of the frame that is taken next.
    ///
    /// # Errors
    /// The server's: the query was killed, a lock was not had in time. Transient: torn packets.
    #[inline]
    pub fn next(&mut self, cells: &mut Vec<Cell>) -> Result<Step> {
        if self.connection.phase != Phase::Rows {
            return Ok(Step::End);
        }
        let transport = &mut self.connection.transport;
        if transport.in_long() {
            return Ok(Step::Long);
        }
        match transport.scan()? {
            Scanned::Dry => Ok(Step::Dry),
            Scanned::Long(_) => Ok(Step::Long),
            Scanned::Payload(at) => {
                let payload = &transport.input()[at.clone()];
                match payload.first() {
                    Some(0) => {
                        self.plan.scan(payload, at.start, cells).map_err(wire_error)?;
                        Ok(Step::Row)
                    }
                    _ => {
                        let payload = Bytes::copy_from_slice(payload);
                        self.last(payload)
                    }
                }
            }
        }
    }

    /// The packet behind the rows, or an error among them.
    #[cold]
    fn last(&mut self, payload: Bytes) -> Result<Step> {
        if answer::is_eof(&payload) {
            self.connection.phase = Phase::Idle;
            return Ok(Step::End);
        }
        match payload.first() {
            Some(&answer::ERR) => {
                self.connection.phase = Phase::Idle;
                // The packets before it have no owner any more.
                self.connection.transport.take_frame();
                let err = answer::parse_err(&payload).map_err(wire_error)?;
                Err(MySqlError::from(err).into_error(self.doing.clone()))
            }
            _ => Err(Error::transient(format!("among the rows is a packet that is none: {}", self.doing))),
        }
    }

    /// What the cells since the last frame point into.
    #[inline]
    pub fn take_frame(&mut self) -> Bytes {
        self.connection.transport.take_frame()
    }

    /// One read from the socket. Cancel-safe.
    ///
    /// # Errors
    /// Transient: the socket broke. Bug: a frame was not taken.
    pub async fn fill(&mut self) -> Result<()> {
        self.connection.transport.fill().await.map(drop)
    }

    /// After [`Step::Long`]: the row's cells, and its own frame. Cancel-safe.
    ///
    /// # Errors
    /// As [`Self::fill`]; Data: above 1 GiB.
    pub async fn long_row(&mut self, cells: &mut Vec<Cell>) -> Result<Bytes> {
        let payload = self.connection.transport.whole(0, 0).await?;
        self.plan.scan(&payload, 0, cells).map_err(wire_error)?;
        Ok(payload)
    }

    /// Throws away the rows that are left, so that the connection is free again.
    ///
    /// # Errors
    /// As [`Self::next`] and [`Self::fill`].
    pub async fn drain(mut self) -> Result<()> {
        let mut cells = Vec::new();
        loop {
            cells.clear();
            match self.next(&mut cells)? {
                Step::Row => {}
                Step::Dry => {
                    self.take_frame();
                    self.fill().await?;
                }
                Step::Long => {
                    self.take_frame();
                    while self.connection.transport.part(0).await?.is_some() {}
                }
                Step::End => {
                    self.take_frame();
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mysql::column::ColumnType;

    #[test]
    fn values_are_found_by_name() {
        let column = |name: &str| ColumnDefinition {
            name: name.into(),
            collation: 45,
            length: 0,
            column_type: ColumnType::VarString,
            flags: 0,
            decimals: 0,
        };
        let row = vec![Some(Bytes::from_static(b"12")), None, Some(Bytes::from_static(b"\xff"))];
        let rows = Rows::new(vec![column("Server_Id"), column("Host"), column("bytes")], vec![row]);
        assert_eq!(rows.text(0, "server_id").unwrap(), Some("12"));
        assert_eq!(rows.number::<u32>(0, "Server_id").unwrap(), Some(12));
        assert_eq!(rows.number::<u32>(0, "host").unwrap(), None);
        assert!(rows.text(1, "host").is_err() && rows.text(0, "x").is_err() && rows.text(0, "bytes").is_err());
    }
}
