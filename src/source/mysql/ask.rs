//! Questions in SQL whose answers are text.

use async_trait::async_trait;

use crate::error::Result;

/// A row of an answer: its columns in their order, none for NULL.
pub type TextRow = Vec<Option<String>>;

#[async_trait]
pub trait Ask: Send {
    /// Errors: the server's, with its number and SQLSTATE; `doing` says what for.
    async fn rows(&mut self, sql: &str, doing: &str) -> Result<Vec<TextRow>>;

    /// The same, a row at a time: for answers that grow with the server.
    async fn each(&mut self, sql: &str, doing: &str, take: &mut (dyn for<'r> FnMut(&'r TextRow) + Send)) -> Result<()> {
        self.rows(sql, doing).await?.iter().for_each(take);
        Ok(())
    }
}

/// A column's text; empty for NULL and for a column that is not there.
pub fn text(row: &TextRow, column: usize) -> &str {
    row.get(column).and_then(Option::as_deref).unwrap_or_default()
}

/// A column's number; none for what is no number.
pub fn number(row: &TextRow, column: usize) -> Option<u64> {
    text(row, column).parse().ok()
}
