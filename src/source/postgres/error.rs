//! What the server says when it says no, and the class that follows from it.
//!
//! Invariants:
//! - An error that the server sent has a [`PgError`] in its cause chain, whichever connection it came over; [`code`]
//!   finds its SQLSTATE. Nothing above looks into the (translatable) text.
//! - The class follows from the SQLSTATE alone, but for poolers, which say everything under one code.

use std::fmt;

use crate::error::{Class, Error};
use crate::source::socket::io_class;
use crate::wire::WireError;

/// A server's ErrorResponse or NoticeResponse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PgError {
    /// Not translated where the server sends it so (9.6+): `ERROR`, `FATAL`, `PANIC`, `WARNING`, `NOTICE`…
    pub severity: String,
    /// SQLSTATE, five characters.
    pub code: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// 1-based, in characters of the command.
    pub position: Option<u32>,
    pub context: Option<String>,
    pub schema: Option<String>,
    pub table: Option<String>,
    pub column: Option<String>,
    pub constraint: Option<String>,
}

impl PgError {
    /// Reads the body of ErrorResponse or NoticeResponse: `(Byte1 field, String value)*, Byte1(0)`. Unknown fields are
    /// skipped, as the manual asks ("Error and Notice Message Fields").
    ///
    /// # Errors
    /// A field without an end, bytes behind the terminator.
    pub fn parse(body: &[u8]) -> Result<PgError, WireError> {
        let mut error = PgError::default();
        let mut localized = None;
        let mut at = 0;
        loop {
            let field = *body.get(at).ok_or(WireError::new("ErrorResponse", "no terminator", at))?;
            at += 1;
            if field == 0 {
                break;
            }
            let end =
                memchr::memchr(0, &body[at..]).ok_or(WireError::new("ErrorResponse", "a field has no end", at))?;
            // A server in another encoding may send this before client_encoding holds.
            let value = String::from_utf8_lossy(&body[at..at + end]).into_owned();
            at += end + 1;
            match field {
                b'S' => localized = Some(value),
                b'V' => error.severity = value,
                b'C' => error.code = value,
                b'M' => error.message = value,
                b'D' => error.detail = Some(value),
                b'H' => error.hint = Some(value),
                b'P' => error.position = value.parse().ok(),
                b'W' => error.context = Some(value),
                b's' => error.schema = Some(value),
                b't' => error.table = Some(value),
                b'c' => error.column = Some(value),
                b'n' => error.constraint = Some(value),
                _ => {}
            }
        }
        if at != body.len() {
            return Err(WireError::new("ErrorResponse", "bytes left over", at));
        }
        if error.severity.is_empty() {
            error.severity = localized.unwrap_or_default();
        }
        Ok(error)
    }

    pub fn class(&self) -> Class {
        if self.code == "08P01" && self.message.contains("startup parameter") {
            return Class::Config;
        }
        match self.code.as_str() {
            // Slots used up; the database is gone; an order to a standby.
            "53400" | "57P04" | "25006" => Class::Config,
            // The slot is still held by the sender of a connection just lost; locks; a cancelled statement.
            "55006" | "55P03" | "57014" => Class::Transient,
            "42601" => Class::Bug,
            code => match code.get(..2).unwrap_or("") {
                "08" | "40" | "53" | "57" | "58" | "XX" => Class::Transient,
                "22" | "54" => Class::Data,
                "23" => Class::Bug,
                _ => Class::Config,
            },
        }
    }

    fn remedy(&self) -> Option<String> {
        if self.code == "08P01" && self.message.contains("startup parameter") {
            return Some(
                "a connection pooler is in the way: connect to the server itself, or list the parameter in \
                 PgBouncer's ignore_startup_parameters"
                    .into(),
            );
        }
        let ours = match self.code.as_str() {
            "28P01" => "check user and password (URL, PGPASSWORD or ~/.pgpass)",
            "28000" => {
                "check the user, its REPLICATION attribute, and the server's pg_hba.conf for this host, database and TLS"
            }
            "3D000" => "check the database's name in the URL",
            "53300" => "raise max_connections or max_wal_senders, or close other connections",
            "53400" => "drop a replication slot that is no longer used, or raise max_replication_slots",
            "25006" => {
                "the server is a standby or read-only: use target_session_attrs=read-write with all hosts in the URL"
            }
            _ => return self.hint.clone(),
        };
        match &self.hint {
            Some(hint) => Some(format!("{ours}; the server says: {hint}")),
            None => Some(ours.into()),
        }
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

impl fmt::Display for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.code, self.message)?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for PgError {}

/// The server's answer in an error's chain of causes, if a server's answer was the cause.
pub fn server_error(error: &Error) -> Option<&PgError> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<PgError>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The SQLSTATE in an error's chain of causes.
pub fn code(error: &Error) -> Option<&str> {
    server_error(error).map(|error| error.code.as_str())
}

/// An error of `tokio_postgres`, with the same class and cause as one of our own connection.
pub fn sql(error: tokio_postgres::Error, doing: impl Into<String>) -> Error {
    if let Some(db) = error.as_db_error() {
        return from_db(db).into_error(doing);
    }
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        if let Some(inner) = inner.downcast_ref::<std::io::Error>() {
            return Error::new(io_class(inner), doing).because(error);
        }
        cause = inner.source();
    }
    let class = if error.is_closed() { Class::Transient } else { Class::Bug };
    Error::new(class, doing).because(error)
}

fn from_db(db: &tokio_postgres::error::DbError) -> PgError {
    use tokio_postgres::error::ErrorPosition;
    let text = |value: Option<&str>| value.map(str::to_owned);
    PgError {
        severity: db.severity().into(),
        code: db.code().code().into(),
        message: db.message().into(),
        detail: text(db.detail()),
        hint: text(db.hint()),
        position: match db.position() {
            Some(ErrorPosition::Original(position)) => Some(*position),
            _ => None,
        },
        context: text(db.where_()),
        schema: text(db.schema()),
        table: text(db.table()),
        column: text(db.column()),
        constraint: text(db.constraint()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_fields() {
        let body = b"SFEHLER\0VERROR\0C55006\0Mslot is active\0Dfor PID 7\0Hwait\0P12\0Fslot.c\0L1\0\0";
        let error = PgError::parse(body).unwrap();
        assert_eq!((error.severity.as_str(), error.code.as_str()), ("ERROR", "55006"));
        assert_eq!((error.position, error.hint.as_deref()), (Some(12), Some("wait")));
        assert_eq!(error.to_string(), "ERROR 55006: slot is active (for PID 7)");
        assert_eq!(error.class(), Class::Transient);
    }

    #[test]
    fn refuses_torn_bodies() {
        assert!(PgError::parse(b"").is_err());
        assert!(PgError::parse(b"C55006").is_err());
        assert!(PgError::parse(b"C55006\0").is_err());
        assert!(PgError::parse(b"C55006\0\0x").is_err());
    }

    #[test]
    fn the_code_is_found_below_contexts() {
        let error = PgError { code: "28P01".into(), ..PgError::default() };
        let error = error.into_error("logging in").context("connecting to a:5432").context("starting the source");
        assert_eq!(code(&error), Some("28P01"));
        assert_eq!(error.class(), Class::Config);
        assert!(error.remedy_text().unwrap().contains("password"));
    }

    #[test]
    fn classes() {
        let class = |code: &str| PgError { code: code.into(), ..PgError::default() }.class();
        for code in ["08006", "57P01", "57P03", "53300", "55006", "40001", "58P01", "XX000"] {
            assert_eq!(class(code), Class::Transient, "{code}");
        }
        for code in ["28P01", "28000", "3D000", "42501", "42704", "42P01", "0A000", "55000", "53400", "25006", "", "é"]
        {
            assert_eq!(class(code), Class::Config, "{code}");
        }
        assert_eq!(class("22P05"), Class::Data);
        assert_eq!(class("42601"), Class::Bug);
    }

    proptest! {
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(error) = PgError::parse(&body) {
                error.class();
            }
        }
    }
}
