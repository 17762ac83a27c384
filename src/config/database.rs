//! What only one kind of database has: its keys, refused for the other.
//!
//! Invariants:
//! - The URL says the kind; `type` may repeat it, not contradict it.

use super::raw::{RawSource, SourceKind, default_failover, default_publication, default_slot, default_xa_limit};

/// The kind of database, and the keys of that kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    Postgres(Postgres),
    /// MariaDB too.
    MySql(MySql),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// None is a temporary one.
    pub slot: Option<String>,
    /// None is one that is dropped at the end.
    pub publication: Option<String>,
    pub failover: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MySql {
    /// None is one that nobody else uses, chosen at each connection.
    pub server_id: Option<u32>,
    pub semi_sync: bool,
    pub xa_limit_bytes: u64,
}

impl Database {
    /// Errors: every key that is wrong, with what is wrong about it.
    pub(super) fn of(source: &RawSource) -> Result<Database, Vec<(&'static str, String)>> {
        let kind = SourceKind::of_url(source.url.expose());
        let mut wrong = Vec::new();
        if let Some(named) = source.kind.filter(|named| named.is_mysql() != kind.is_mysql()) {
            wrong.push(("source.type", format!("it is {named}, but the URL is of {kind}; it may be left out")));
        }
        for (key, given) in foreign(source, kind) {
            if given {
                wrong.push((key, format!("there is no such thing in {kind}, which the URL is of: leave it out")));
            }
        }
        let database = if kind.is_mysql() {
            Database::MySql(MySql {
                server_id: source.server_id,
                semi_sync: source.semi_sync.unwrap_or(false),
                xa_limit_bytes: source.xa_limit.unwrap_or_else(default_xa_limit).bytes(),
            })
        } else {
            let slot = source.slot.clone().unwrap_or_else(default_slot);
            let publication = source.publication.clone().unwrap_or_else(default_publication);
            wrong.extend(check_names(&slot, &publication));
            let failover = source.failover.unwrap_or_else(default_failover);
            Database::Postgres(Postgres { slot: Some(slot), publication: Some(publication), failover })
        };
        if wrong.is_empty() { Ok(database) } else { Err(wrong) }
    }

    /// The keys of Postgres, where it is one.
    pub fn postgres_mut(&mut self) -> Option<&mut Postgres> {
        match self {
            Database::Postgres(postgres) => Some(postgres),
            Database::MySql(_) => None,
        }
    }
}

/// The keys of the other kind, and whether they are given.
fn foreign(source: &RawSource, kind: SourceKind) -> [(&'static str, bool); 3] {
    match kind.is_mysql() {
        true => [
            ("source.slot", source.slot.is_some()),
            ("source.publication", source.publication.is_some()),
            ("source.failover", source.failover.is_some()),
        ],
        false => [
            ("source.server_id", source.server_id.is_some()),
            ("source.semi_sync", source.semi_sync.is_some()),
            ("source.xa_limit", source.xa_limit.is_some()),
        ],
    }
}

/// What Postgres says of names: a slot's is a file name to it, a publication's an identifier of at most 63 bytes.
fn check_names(slot: &str, publication: &str) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if slot.is_empty() || slot.len() > 63 || !slot.bytes().all(plain) {
        let message = format!("{slot:?} is no name for a slot: 1 to 63 lower-case letters, digits and underscores");
        wrong.push(("source.slot", message));
    }
    if publication.is_empty() || publication.len() > 63 || publication.contains('\0') {
        wrong.push(("source.publication", format!("{publication:?} is no name for a publication: 1 to 63 bytes")));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::ConnectionString;
    use super::*;

    fn source(url: &str) -> RawSource {
        RawSource::new(ConnectionString::new(url))
    }

    #[test]
    fn the_url_says_the_kind() {
        for (url, mysql) in [
            ("mysql://h", true),
            ("MariaDB://u:p@h:3306/?ssl-mode=REQUIRED", true),
            ("postgres://h/d", false),
            ("postgresql://", false),
            ("host=h dbname=mysql://", false),
            ("", false),
        ] {
            assert_eq!(matches!(Database::of(&source(url)).unwrap(), Database::MySql(_)), mysql, "{url}");
        }
    }

    #[test]
    fn keys_of_the_other_kind_are_refused_by_name() {
        let keys = |source: &RawSource| {
            Database::of(source).unwrap_err().into_iter().map(|(key, message)| format!("{key}: {message}")).collect()
        };
        let mut mysql = source("mysql://h");
        (mysql.slot, mysql.failover, mysql.kind) = (Some("s".into()), Some(true), Some(SourceKind::Postgres));
        let wrong: Vec<String> = keys(&mysql);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[0].contains("source.type") && wrong[0].contains("of MySQL"), "{wrong:?}");
        assert!(wrong[1].contains("source.slot") && wrong[2].contains("source.failover"), "{wrong:?}");
        let mut postgres = source("postgres://h/d");
        (postgres.server_id, postgres.kind) = (Some(7), Some(SourceKind::MariaDb));
        let wrong: Vec<String> = keys(&postgres);
        assert!(wrong[0].contains("it is MariaDB") && wrong[1].contains("source.server_id"), "{wrong:?}");
        let mut either = source("mariadb://h");
        either.kind = Some(SourceKind::MySql);
        assert!(Database::of(&either).is_ok(), "who speaks to one speaks to the other");
    }
}
