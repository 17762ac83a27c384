//! What the server says when it says no, and the class that follows from it.
//!
//! Invariants:
//! - An error that the server sent has a [`MySqlError`] in its cause chain; [`code`] finds its number. Nothing above looks
//!   into the (translatable) text, but for error 1236, which says everything by it.
//! - The class follows from the number alone.

use std::fmt;

use crate::error::{Class, Error};
use crate::wire::mysql::protocol::answer;

/// The numbers that somebody asks for by name ("Server Error Message Reference").
pub mod number {
    pub const ACCESS_DENIED: u16 = 1045;
    pub const BAD_DATABASE: u16 = 1049;
    pub const NO_SUCH_TABLE: u16 = 1146;
    pub const UNKNOWN_SYSTEM_VARIABLE: u16 = 1193;
    pub const LOCK_WAIT_TIMEOUT: u16 = 1205;
    pub const DEADLOCK: u16 = 1213;
    pub const SPECIFIC_ACCESS_DENIED: u16 = 1227;
    /// A dump cannot go on, or not begin; the text says why.
    pub const FATAL_ERROR_READING_BINLOG: u16 = 1236;
    pub const QUERY_INTERRUPTED: u16 = 1317;
}

/// A server's ERR packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MySqlError {
    pub code: u16,
    /// SQLSTATE; empty where the server does not say.
    pub state: String,
    pub message: String,
}

impl From<answer::Err<'_>> for MySqlError {
    fn from(err: answer::Err<'_>) -> Self {
        MySqlError {
            code: err.code,
            state: String::from_utf8_lossy(err.state).into_owned(),
            message: String::from_utf8_lossy(err.message).into_owned(),
        }
    }
}

impl MySqlError {
    pub fn class(&self) -> Class {
        match self.code {
            // Disk, memory, threads, sorting: the server's needs of the moment.
            1004 | 1021 | 1037 | 1038 | 1041 | 1135 => Class::Transient,
            // Too many connections, by all or by this user.
            1040 | 1203 | 1226 => Class::Transient,
            // It goes down, or is offline.
            1053 | 1077 | 1079 | 3032 => Class::Transient,
            // The connection was cut, from either side or by a KILL.
            1152 | 1158..=1161 | 1184 | 1317 | 1927 | 3058 | 3169 | 4031 => Class::Transient,
            // Locks, and statements that took too long.
            1205 | 1206 | 1213 | 1614 | 1969 | 3024 | 3572 => Class::Transient,
            // A table was changed while it was read.
            1412 => Class::Transient,
            number::FATAL_ERROR_READING_BINLOG => Class::Lost,
            1064 | 1149 => Class::Bug,
            1153 | 1301 | 1366 | 1406 => Class::Data,
            _ => Class::Config,
        }
    }

    fn remedy(&self) -> Option<String> {
        let remedy = match self.code {
            1045 | 1698 | 1862 | 1820 => {
                "check user and password (URL or MYSQL_PWD), and from where the user may connect"
            }
            1044 | 1142 | 1143 | 1370 | 1227 => return Some(self.grant()),
            1049 => "check the database's name in the URL",
            1130 => "create the user for this host: CREATE USER 'user'@'host' …",
            1129 => {
                "this host was blocked after many failed connections: TRUNCATE performance_schema.host_cache on MySQL, \
                     FLUSH HOSTS on MariaDB"
            }
            1040 => "raise max_connections, or close other connections",
            1203 | 1226 => "raise the user's limit (max_user_connections, or ALTER USER … WITH …)",
            3118 | 4151 => "ALTER USER … ACCOUNT UNLOCK",
            3159 => "the server or the user wants TLS: use ssl-mode=REQUIRED or stronger",
            1251 | 1524 => {
                "the server lacks the plugin that the user is to log in with: ALTER USER … IDENTIFIED WITH …"
            }
            1290 | 1836 => "the server is read-only or started with an option that forbids this: use another host",
            _ => return None,
        };
        Some(remedy.into())
    }

    /// The statement that gives what the message says is missing.
    fn grant(&self) -> String {
        let user = self.user();
        if let Some(wanted) = between(&self.message, "at least one of) the ", " privilege") {
            // "SUPER, REPLICATION CLIENT": any of them will do, the last is the most specific.
            let privilege = wanted.rsplit(", ").next().unwrap_or(wanted);
            return format!("GRANT {privilege} ON *.* TO {user}");
        }
        match (self.message.split(' ').next(), between(&self.message, "table ", "\0")) {
            (Some(privilege), Some(table)) if matches!(self.code, 1142 | 1143) => {
                format!("GRANT {privilege} ON {} TO {user}", table.replace('\'', "`"))
            }
            _ => format!("GRANT the privilege to {user}"),
        }
    }

    /// Whom the message names: `'cdc'@'%'`.
    pub(super) fn user(&self) -> &str {
        between(&self.message, "user ", " ").filter(|user| user.contains('@')).unwrap_or("'user'@'host'")
    }

    /// The crate's error for this answer of the server; `doing` says to what.
    pub fn into_error(self, doing: impl Into<String>) -> Error {
        let error = Error::new(self.class(), doing);
        let error = match self.remedy() {
            Some(remedy) => error.remedy(remedy),
            None => error,
        };
        error.because(self)
    }
}

/// What stands between two marks, or to the end where the second is not there.
fn between<'a>(text: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(behind).map_or(rest, |(found, _)| found))
}

impl fmt::Display for MySqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERROR {}", self.code)?;
        if !self.state.is_empty() {
            write!(f, " ({})", self.state)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for MySqlError {}

/// The server's answer in an error's chain of causes, if a server's answer was the cause.
pub fn server_error(error: &Error) -> Option<&MySqlError> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<MySqlError>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The server's number in an error's chain of causes.
pub fn code(error: &Error) -> Option<u16> {
    server_error(error).map(|error| error.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: u16, message: &str) -> MySqlError {
        MySqlError { code, state: "42000".into(), message: message.into() }
    }

    #[test]
    fn the_code_is_found_below_contexts() {
        let error = error(1045, "Access denied for user 'a'@'b'").into_error("logging in").context("connecting");
        assert_eq!((code(&error), error.class()), (Some(1045), Class::Config));
        assert!(error.remedy_text().unwrap().contains("password"));
        assert!(format!("{error:?}").contains("logging in: ERROR 1045 (42000): Access denied for user 'a'@'b'"));
        assert_eq!(code(&Error::config("something else")), None);
    }

    #[test]
    fn what_is_missing_is_granted() {
        for (code, message, grant) in [
            (
                1227,
                "Access denied; you need (at least one of) the SUPER, REPLICATION CLIENT privilege(s) for this operation",
                "GRANT REPLICATION CLIENT ON *.* TO 'user'@'host'",
            ),
            (
                1227,
                "Access denied; you need (at least one of) the RELOAD privilege(s) for this operation",
                "GRANT RELOAD ON *.* TO 'user'@'host'",
            ),
            (
                1142,
                "SELECT command denied to user 'cdc'@'localhost' for table 'orders'",
                "GRANT SELECT ON `orders` TO 'cdc'@'localhost'",
            ),
            (
                1142,
                "SELECT command denied to user 'cdc'@'localhost' for table `shop`.`orders`",
                "GRANT SELECT ON `shop`.`orders` TO 'cdc'@'localhost'",
            ),
            (1044, "Access denied for user 'cdc'@'%' to database 'shop'", "GRANT the privilege to 'cdc'@'%'"),
        ] {
            assert_eq!(error(code, message).remedy().as_deref(), Some(grant));
        }
    }

    #[test]
    fn classes() {
        for code in [1040, 1053, 1158, 1205, 1213, 1317, 1927, 3024, 4031] {
            assert_eq!(error(code, "").class(), Class::Transient, "{code}");
        }
        for code in [1044, 1045, 1049, 1130, 1142, 1146, 1193, 1227, 3159, 0] {
            assert_eq!(error(code, "").class(), Class::Config, "{code}");
        }
        assert_eq!(error(1064, "").class(), Class::Bug);
        assert_eq!(error(1236, "").class(), Class::Lost);
    }
}
