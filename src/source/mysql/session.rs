//! What every connection pins and asks first.
//!
//! Invariants:
//! - What the server prints and how it reads our statements does not depend on anybody's configuration.
//! - Text comes in UTF-8; the snapshot lifts that for its rows by itself.

use super::server::Flavor;
use crate::error::{Error, Result};

/// What the server says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerVersion {
    pub flavor: Flavor,
    /// `(8, 4, 6)`
    pub number: (u32, u32, u32),
    /// `8.4.6`, `11.8.3-MariaDB-log`.
    pub text: String,
}

impl ServerVersion {
    /// Reads what `SELECT VERSION()` says.
    ///
    /// # Errors
    /// Config: not a version number.
    pub fn parse(text: &str) -> Result<ServerVersion> {
        let flavor = if text.to_ascii_lowercase().contains("mariadb") { Flavor::MariaDb } else { Flavor::MySql };
        // What MariaDB puts before its own for the sake of old replicas.
        let digits = text.strip_prefix("5.5.5-").filter(|_| flavor == Flavor::MariaDb).unwrap_or(text);
        let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
        let mut parts = digits[..end].split('.').map(|part| part.parse().ok());
        match (parts.next().flatten(), parts.next().flatten()) {
            (Some(major), Some(minor)) => {
                let patch = parts.next().flatten().unwrap_or(0);
                Ok(ServerVersion { flavor, number: (major, minor, patch), text: text.to_owned() })
            }
            _ => Err(Error::config(format!("the server says that its version is \"{text}\""))),
        }
    }

    pub fn is_mariadb(&self) -> bool {
        self.flavor == Flavor::MariaDb
    }

    /// Whether it is MySQL of this version or later.
    pub fn is_mysql_since(&self, number: (u32, u32, u32)) -> bool {
        self.flavor == Flavor::MySql && self.number >= number
    }

    /// Whether it is MariaDB of this version or later.
    pub fn is_mariadb_since(&self, number: (u32, u32, u32)) -> bool {
        self.flavor == Flavor::MariaDb && self.number >= number
    }
}

impl std::fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.flavor, self.text)
    }
}

/// Seconds. A reader that is held up by its sinks stops reading; the server's default of 60 s would end the connection
/// under it. An hour outlasts what is worth waiting for.
const PATIENCE_S: u32 = 3600;

/// Settings of every server, with the values as SQL has them.
const PINNED: &[(&str, &str)] = &[
    // Plain rules of quoting, CHAR without its padding, and no notes as errors.
    ("sql_mode", "''"),
    ("time_zone", "'+00:00'"),
    ("autocommit", "1"),
    // No statement cut off by somebody's defaults.
    ("sql_select_limit", "18446744073709551615"),
    ("sql_big_selects", "1"),
    ("sql_safe_updates", "0"),
    ("sql_quote_show_create", "1"),
    // Lists of columns and partitions in one value.
    ("group_concat_max_len", "1048576"),
    ("foreign_key_checks", "1"),
];

/// What pins the settings of a server of this version: one statement.
pub(super) fn pin_statement(version: &ServerVersion) -> String {
    let mut sql = String::from("SET NAMES utf8mb4");
    let mut set = |name: &str, value: &str| sql.push_str(&format!(", SESSION {name} = {value}"));
    for (name, value) in PINNED {
        set(name, value);
    }
    let patience = PATIENCE_S.to_string();
    for name in ["net_write_timeout", "net_read_timeout"] {
        set(name, &patience);
    }
    // A connection that waits for its turn (a lock to be given back, a chunk to be asked for) is not idle.
    set("wait_timeout", "28800");
    match version.flavor {
        Flavor::MySql => {
            set("max_execution_time", "0");
            if version.number >= (8, 0, 30) {
                // The log has generated invisible primary keys whatever this says: so must the catalog.
                set("show_gipk_in_create_table_and_information_schema", "1");
            }
        }
        Flavor::MariaDb => {
            set("max_statement_time", "0");
            // As of now, whatever a default says; elsewhere old rows would be delivered.
            set("system_versioning_asof", "DEFAULT");
        }
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, flavor, number) in [
            ("9.7.0", Flavor::MySql, (9, 7, 0)),
            ("8.0.36-28", Flavor::MySql, (8, 0, 36)),
            ("8.4.6-commercial", Flavor::MySql, (8, 4, 6)),
            ("11.8.3-MariaDB-0+deb13u1-log", Flavor::MariaDb, (11, 8, 3)),
            ("5.5.5-10.11.6-MariaDB-1:10.11.6+maria~deb12", Flavor::MariaDb, (10, 11, 6)),
            ("10.5", Flavor::MySql, (10, 5, 0)),
        ] {
            let version = ServerVersion::parse(text).unwrap();
            assert_eq!((version.flavor, version.number), (flavor, number), "{text}");
        }
        for text in ["", "devel", "8", "99999999999.1.1"] {
            assert!(ServerVersion::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn later_settings_only_where_they_are_known() {
        let pins = |text| pin_statement(&ServerVersion::parse(text).unwrap());
        assert!(!pins("8.0.29").contains("show_gipk"));
        assert!(pins("8.0.30").contains("show_gipk") && pins("9.7.0").contains("max_execution_time = 0"));
        assert!(pins("10.5.1-MariaDB").contains("max_statement_time = 0"));
        assert!(!pins("10.5.1-MariaDB").contains("max_execution_time"));
    }
}
