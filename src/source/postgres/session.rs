//! What every connection pins and asks first, whichever client drives it.
//!
//! Invariants:
//! - Both kinds of connection print a value the same way: snapshot and stream agree because the settings do.
//! - Pinned by `set_config` behind the login, not by startup parameters: a pooler refuses unknown startup parameters, and
//!   what a server does not know yet must not be sent to it. One statement, because a walsender before 15 takes no two.

use crate::error::{Error, Result};

/// Text as the server of any configuration prints it the same, and no statement cut off by somebody's defaults.
const PINNED: &[(&str, &str)] = &[
    ("datestyle", "ISO"),
    ("intervalstyle", "postgres"),
    // From 12 on every value above 0 means the shortest text that reads back exactly.
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("timezone", "UTC"),
    ("lc_monetary", "C"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    // Names in regclass values and in the catalog's functions come with their schema.
    ("search_path", ""),
    ("quote_all_identifiers", "off"),
    // A policy that hides rows from us is an error, not a snapshot that lacks them.
    ("row_security", "off"),
];

/// Settings of later servers: name, value, the first version that has it.
const PINNED_SINCE: &[(&str, &str, u32)] =
    &[("idle_session_timeout", "0", 140_000), ("transaction_timeout", "0", 170_000)];

/// `SELECT` of one row; its first column, `pid`, is the process that really serves us.
pub(super) fn pin_statement(server_version: u32) -> String {
    let since = PINNED_SINCE.iter().filter(|(_, _, since)| server_version >= *since);
    let all = PINNED.iter().copied().chain(since.map(|(name, value, _)| (*name, *value)));
    let mut sql = String::from("SELECT pg_catalog.pg_backend_pid() AS pid");
    for (name, value) in all {
        sql.push_str(&format!(", pg_catalog.set_config('{name}', '{value}', false)"));
    }
    sql
}

/// `SELECT` of one row, `t` or `f`: in recovery, read-only.
pub(super) const STATE_STATEMENT: &str = "SELECT pg_catalog.pg_is_in_recovery() AS in_recovery, \
     pg_catalog.current_setting('transaction_read_only') = 'on' AS read_only";

/// `150018` of `15.18 (Debian 15.18-1)`, `180000` of `18beta2`, as `server_version_num` has it.
///
/// # Errors
/// Config: not a version number.
pub(super) fn version_number(text: &str) -> Result<u32> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut parts = text[..digits].split('.');
    let major: Option<u32> = parts.next().and_then(|part| part.parse().ok());
    let minor: u32 = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    match major {
        Some(major @ 10..=9_999) => Ok(major * 10_000 + minor.min(9_999)),
        Some(_) => {
            Err(Error::config(format!("the server is PostgreSQL {text}")).remedy("12 is the oldest that is supported"))
        }
        None => Err(Error::config(format!("the server says that its version is \"{text}\""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, number) in
            [("15.18 (Debian 15.18-0+deb12u1)", 150_018), ("18beta2", 180_000), ("17", 170_000), ("14.5.0", 140_005)]
        {
            assert_eq!(version_number(text).unwrap(), number, "{text}");
        }
        for text in ["", "devel", "9.6.24", "99999999999999"] {
            assert!(version_number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn later_settings_only_where_they_are_known() {
        assert!(!pin_statement(130_000).contains("idle_session_timeout"));
        assert!(pin_statement(140_000).contains("'idle_session_timeout', '0'"));
        assert!(!pin_statement(160_004).contains("transaction_timeout"));
        assert!(
            pin_statement(120_000).starts_with("SELECT pg_catalog.pg_backend_pid() AS pid, pg_catalog.set_config(")
        );
    }
}
