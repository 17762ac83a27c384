//! What a database's own settings say does not reach the output.

use super::values::every_type;
use crate::support::Version;

/// Everything that changes how the server prints a value, reads a literal or finds a name.
const ODD: &[&str] = &[
    "datestyle = 'German, DMY'",
    "timezone = 'Asia/Kolkata'",
    "bytea_output = 'escape'",
    "intervalstyle = 'iso_8601'",
    "extra_float_digits = -15",
    "xmlbinary = 'hex'",
    "quote_all_identifiers = on",
    "search_path = 'pg_temp', 'x', 'nowhere', 'pg_catalog'",
    "standard_conforming_strings = off",
    "transform_null_equals = on",
    "array_nulls = off",
    "client_encoding = 'LATIN1'",
    "statement_timeout = '60s'",
    "default_transaction_isolation = 'serializable'",
    "lc_numeric = 'C.UTF-8'",
    "lc_monetary = 'C.UTF-8'",
    "lc_messages = 'C.UTF-8'",
];

#[test]
fn odd_settings_on_15() {
    every_type(Version::V15, ODD);
}

#[test]
fn odd_settings_on_17() {
    every_type(Version::V17, ODD);
}

#[test]
fn odd_settings_on_18() {
    every_type(Version::V18, ODD);
}
