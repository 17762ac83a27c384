//! The URL, to its parts.
//!
//! ```text
//! mysql://[user[:password]@][host[:port][,…]][/database][?option[=value][&…]]      percent-encoded
//! ```

use secrecy::SecretString;

use crate::error::{Error, Result};
use crate::source::url::{Url, decode};

pub(super) struct Parts {
    pub user: Option<String>,
    pub password: Option<SecretString>,
    /// A name and a port, either of which may be empty.
    pub hosts: Vec<(String, String)>,
    pub database: Option<String>,
    /// In the order they were given; a later one wins.
    pub options: Vec<(String, String)>,
}

const SCHEMES: [&str; 2] = ["mysql://", "mariadb://"];

pub(super) fn parse(text: &str) -> Result<Parts> {
    let text = text.trim();
    let rest = SCHEMES.iter().find_map(|scheme| {
        let (start, rest) = text.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let Some(rest) = rest else {
        return Err(Error::config("this is no connection URL of MySQL or MariaDB")
            .remedy("write mysql://user:password@host:3306/?option=value"));
    };
    let Url { user, password, hosts, path, options } = Url::read(rest)?;
    if path.contains('/') {
        return Err(Error::config("connection URL: more than one / behind the hosts")
            .remedy("write a / within the password as %2F"));
    }
    // The client has switches without a value.
    let option = |(name, value): (String, Option<String>)| {
        (name.to_ascii_lowercase().replace('_', "-"), value.unwrap_or_else(|| "1".to_owned()))
    };
    Ok(Parts {
        user: filled(user),
        password: password.map(SecretString::from),
        hosts,
        database: filled(decode("the database", path)?),
        options: options.into_iter().map(option).collect(),
    })
}

fn filled(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
