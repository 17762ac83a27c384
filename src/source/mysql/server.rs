//! What a server says of itself: its kind, its name, its settings.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::record::Lineage;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    MySql,
    MariaDb,
}

impl Flavor {
    /// The kind of a [`Lineage`].
    pub fn name(self) -> &'static str {
        match self {
            Flavor::MySql => "mysql",
            Flavor::MariaDb => "mariadb",
        }
    }
}

impl std::fmt::Display for Flavor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Flavor::MySql => "MySQL",
            Flavor::MariaDb => "MariaDB",
        })
    }
}

/// A server's variables, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub flavor: Flavor,
    /// Major, minor, patch.
    pub version: (u32, u32, u32),
    variables: HashMap<String, String>,
}

/// The variables that are asked for; which of them a server has depends on its kind and version.
const VARIABLES: &[&str] = &[
    "binlog_encryption",
    "binlog_expire_logs_seconds",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_metadata",
    "binlog_row_value_options",
    "binlog_transaction_compression",
    "encrypt_binlog",
    "enforce_gtid_consistency",
    "expire_logs_days",
    "gtid_mode",
    "gtid_strict_mode",
    "log_bin",
    "log_bin_compress",
    "log_replica_updates",
    "log_slave_updates",
    "lower_case_table_names",
    "max_allowed_packet",
    "max_binlog_total_size",
    "rpl_semi_sync_master_enabled",
    "rpl_semi_sync_source_enabled",
    "server_id",
    "server_uid",
    "server_uuid",
    "slave_connections_needed_for_purge",
    "sync_binlog",
    "version",
    "version_comment",
    "wait_timeout",
];

impl Server {
    /// The statement whose rows [`Server::from_rows`] reads.
    pub fn variables_statement() -> String {
        let names: Vec<String> = VARIABLES.iter().map(|name| format!("'{name}'")).collect();
        format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})", names.join(", "))
    }

    /// Errors: `Config` for a version that is none.
    pub fn from_rows(rows: impl IntoIterator<Item = (String, String)>) -> Result<Server> {
        let variables: HashMap<String, String> = rows.into_iter().collect();
        let text = variables.get("version").map(String::as_str).unwrap_or_default();
        let is_mariadb = |text: &str| text.to_ascii_lowercase().contains("mariadb");
        let named = variables.get("version_comment").is_some_and(|comment| is_mariadb(comment));
        let flavor = if is_mariadb(text) || named { Flavor::MariaDb } else { Flavor::MySql };
        let version = parse_version(text).ok_or_else(|| {
            Error::config(format!("reading the server's version {text:?}")).remedy("it is no MySQL and no MariaDB")
        })?;
        Ok(Server { flavor, version, variables })
    }

    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        // MariaDB 10.6 and later write days with a fraction.
        let text = self.variable(name)?;
        text.parse().ok().or_else(|| text.parse::<f64>().ok().filter(|n| *n >= 0.0).map(|n| n as u64))
    }

    pub fn is_on(&self, name: &str) -> bool {
        self.variable(name).is_some_and(|value| matches!(value, "ON" | "1" | "YES"))
    }

    /// The version as the server writes it.
    pub fn version_text(&self) -> &str {
        self.variable("version").unwrap_or_default()
    }

    /// Whether every transaction has a GTID: `gtid_mode` is ON; on MariaDB they always have one.
    pub fn uses_gtids(&self) -> bool {
        self.flavor == Flavor::MariaDb || self.variable("gtid_mode") == Some("ON")
    }

    /// What tells the server from all others: MySQL's `server_uuid`. MariaDB has no such thing: its `server_id`, which is
    /// another one on every server of a topology, and `server_uid`, a hash of its network card and port.
    pub fn system(&self) -> String {
        let id = self.variable("server_id").unwrap_or("0");
        match (self.variable("server_uuid"), self.variable("server_uid")) {
            (Some(uuid), _) if self.flavor == Flavor::MySql && !uuid.is_empty() => uuid.to_owned(),
            (_, Some(uid)) if !uid.is_empty() => format!("{id}/{uid}"),
            _ => id.to_owned(),
        }
    }

    pub fn lineage(&self) -> Lineage {
        Lineage {
            kind: self.flavor.name().to_owned(),
            system: self.system(),
            timeline: String::new(),
            database: String::new(),
            stream: String::new(),
        }
    }

    /// [`crate::record::BinlogPosition::server`] of this one.
    pub fn position_number(&self) -> u64 {
        identity_number(&self.system())
    }
}

/// A server's name as a number; never 0. It is stored in positions and must stay what it is: FNV-1a in 64 bits.
pub fn identity_number(system: &str) -> u64 {
    let hash = system
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash.max(1)
}

/// `9.7.4-2`, `10.11.18-MariaDB-0+deb12u1-log`, `5.5.5-10.4.1-MariaDB`.
fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let text = text.strip_prefix("5.5.5-").filter(|rest| rest.starts_with("1")).unwrap_or(text);
    let mut parts = text.split(['.', '-', '+', ' ']).map(str::parse);
    let mut part = || parts.next().and_then(std::result::Result::ok);
    let (major, minor) = (part()?, part()?);
    Some((major, minor, part().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(pairs: &[(&str, &str)]) -> Server {
        Server::from_rows(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string()))).unwrap()
    }

    #[test]
    fn a_server_says_what_it_is() {
        let mysql = server(&[("version", "9.7.4-2"), ("server_uuid", "u-1"), ("server_id", "1"), ("gtid_mode", "ON")]);
        assert_eq!((mysql.flavor, mysql.version, mysql.uses_gtids()), (Flavor::MySql, (9, 7, 4), true));
        assert_eq!(mysql.lineage().to_string(), "mysql system u-1");
        let permissive = server(&[("version", "8.0.40"), ("gtid_mode", "ON_PERMISSIVE")]);
        assert!(!permissive.uses_gtids(), "some transactions have none");
        let maria = server(&[("version", "10.11.18-MariaDB-0+deb12u1-log"), ("server_id", "7"), ("server_uid", "x=")]);
        assert_eq!((maria.flavor, maria.version, maria.uses_gtids()), (Flavor::MariaDb, (10, 11, 18), true));
        assert_eq!(maria.system(), "7/x=");
        let old =
            server(&[("version", "5.5.5-10.5.1-log"), ("version_comment", "mariadb.org binary"), ("server_id", "3")]);
        assert_eq!((old.flavor, old.version, old.system().as_str()), (Flavor::MariaDb, (10, 5, 1), "3"));
        assert!(Server::from_rows([("version".to_owned(), "x".to_owned())]).is_err());
    }

    #[test]
    fn numbers_may_have_fractions() {
        let server = server(&[("version", "11.8.6-MariaDB"), ("expire_logs_days", "10.500000"), ("log_bin", "ON")]);
        assert_eq!((server.number("expire_logs_days"), server.number("nothing")), (Some(10), None));
        assert!(server.is_on("log_bin") && !server.is_on("gtid_mode"));
    }

    /// It is stored: another function would make another server of each.
    #[test]
    fn the_number_of_a_server_is_fnv_1a() {
        assert_eq!(identity_number("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(identity_number(""), 0xcbf2_9ce4_8422_2325);
    }
}
