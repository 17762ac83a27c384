//! The URL, to its parts.
//!
//! ```text
//! mysql://[user[:password]@][host[:port][,…]][/database][?option=value[&…]]      percent-encoded
//! ```

use percent_encoding::percent_decode_str;
use secrecy::SecretString;

use crate::error::{Error, Result};

#[derive(Default)]
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
    let (before_query, query) = match rest.split_once('?') {
        Some((before, query)) => (before, query),
        None => (rest, ""),
    };
    let mut parts = Parts::default();
    // The credentials end at the first @ before any slash.
    let hosts_and_path = match before_query.find(['@', '/']) {
        Some(at) if before_query.as_bytes()[at] == b'@' => {
            let (user, password) = match before_query[..at].split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (&before_query[..at], None),
            };
            parts.user = filled(decode("the user", user)?);
            parts.password = password.map(|text| decode("the password", text)).transpose()?.map(SecretString::from);
            &before_query[at + 1..]
        }
        _ => before_query,
    };
    let (hosts, database) = hosts_and_path.split_once('/').unwrap_or((hosts_and_path, ""));
    if !hosts.is_empty() {
        parts.hosts = hosts.split(',').map(host).collect::<Result<_>>()?;
    }
    if database.contains('/') {
        return Err(Error::config("connection URL: more than one / behind the hosts")
            .remedy("write a / within the password as %2F"));
    }
    parts.database = filled(decode("the database", database)?);
    for option in query.split('&').filter(|option| !option.is_empty()) {
        // The client has switches without a value.
        let (name, value) = option.split_once('=').unwrap_or((option, "1"));
        let name = decode("an option's name", name)?.to_ascii_lowercase().replace('_', "-");
        parts.options.push((name, decode("an option", value)?));
    }
    Ok(parts)
}

/// `host[:port]`; an IPv6 address stands in brackets.
fn host(text: &str) -> Result<(String, String)> {
    let (name, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, rest) = bracketed
                .split_once(']')
                .ok_or_else(|| Error::config("connection URL: an IPv6 address has no closing bracket"))?;
            match rest.strip_prefix(':') {
                Some(port) => (address, port),
                None if rest.is_empty() => (address, ""),
                None => return Err(Error::config("connection URL: text between an IPv6 address and its port")),
            }
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    if name.contains('@') || port.contains('@') {
        return Err(Error::config("connection URL: more than one @").remedy("write an @ within the password as %40"));
    }
    Ok((decode("a host", name)?, decode("a port", port)?))
}

fn filled(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn decode(what: &str, encoded: &str) -> Result<String> {
    let mut rest = encoded;
    while let Some((_, behind)) = rest.split_once('%') {
        if !behind.as_bytes().first_chunk::<2>().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(Error::config(format!("connection URL: {what} has a % without two hexadecimal digits"))
                .remedy("write a % as %25"));
        }
        rest = behind;
    }
    let decoded = percent_decode_str(encoded)
        .decode_utf8()
        .map_err(|_| Error::config(format!("connection URL: {what} is not UTF-8 when decoded")))?;
    if decoded.contains('\0') {
        return Err(Error::config(format!("connection URL: {what} has a zero byte")));
    }
    Ok(decoded.into_owned())
}
