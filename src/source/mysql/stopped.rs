//! Tables that go no further because their rows in the log do not fit what is known of them: as the store holds them.
//!
//! ```text
//! key: stopped/DATABASE \0 TABLE        a dot may be part of a name, a zero byte may not
//! value: why, for people
//! ```

use crate::error::Error;
use crate::source::State;

const PREFIX: &str = "stopped/";

/// A table, and why it goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped<'a> {
    pub database: &'a str,
    pub table: &'a str,
    pub why: &'a str,
}

pub fn key(database: &str, table: &str) -> Vec<u8> {
    format!("{PREFIX}{database}\0{table}").into_bytes()
}

/// All of them; what is not UTF-8 is none of ours.
pub fn tables(state: &State) -> impl Iterator<Item = Stopped<'_>> {
    let stored = state.range(PREFIX.as_bytes().to_vec()..);
    stored.map_while(|(key, value)| Some((key.strip_prefix(PREFIX.as_bytes())?, value))).filter_map(|(name, why)| {
        let (database, table) = std::str::from_utf8(name).ok()?.split_once('\0')?;
        Some(Stopped { database, table, why: std::str::from_utf8(why).ok()? })
    })
}

/// Everything is delivered, but for these tables.
pub fn error(tables: &str) -> Error {
    Error::data(format!("tables that go no further, as what is known of them does not fit the log: {tables}")).remedy(
        "everything else was delivered; `walbrook check` says why, and a new start from a snapshot (`walbrook offsets \
         reset`) reads them anew",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_found_again() {
        let state: State = [
            (key("a.b", "c"), b"one".to_vec()),
            (key("x", "y"), b"two".to_vec()),
            (b"stoppee".to_vec(), Vec::new()),
            (b"table/x".to_vec(), b"z".to_vec()),
            (b"stopped/\xff\0x".to_vec(), b"z".to_vec()),
        ]
        .into();
        let found: Vec<_> = tables(&state).map(|stopped| (stopped.database, stopped.table, stopped.why)).collect();
        assert_eq!(found, [("a.b", "c", "one"), ("x", "y", "two")]);
    }
}
