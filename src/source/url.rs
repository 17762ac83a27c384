//! A connection URL, to its parts, and what surrounds it: what the parts mean is each database's own.
//!
//! ```text
//! scheme://[user[:password]@][host[:port][,…]][/path][?option=value[&…]]      percent-encoded
//! ```
//!
//! Invariants:
//! - No error quotes the input: a password may be anywhere in it.
//! - Nothing here reads the process's environment by itself: it is a parameter, so that parsing is a function.

use percent_encoding::percent_decode_str;

use crate::error::{Error, Result};

/// What surrounds a URL.
pub trait Environment {
    /// A variable's value; an empty one counts as absent.
    fn var(&self, name: &str) -> Option<String>;
    /// The operating system's name of the user, the default of the database user.
    fn os_user(&self) -> Option<String>;
}

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }
    fn os_user(&self) -> Option<String> {
        whoami::username().ok()
    }
}

/// What is absent is empty.
pub struct Url<'t> {
    pub user: String,
    /// None without a colon behind the user.
    pub password: Option<String>,
    /// Name and port of each; an IPv6 address without its brackets.
    pub hosts: Vec<(String, String)>,
    /// Behind the first slash, to be [decoded](decode).
    pub path: &'t str,
    /// In the order they were given; a value of None without a `=`.
    pub options: Vec<(String, Option<String>)>,
}

impl<'t> Url<'t> {
    /// `rest`: what stands behind `scheme://`.
    ///
    /// # Errors
    /// Config: it is not such a URL.
    pub fn read(rest: &'t str) -> Result<Self> {
        let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
        // The credentials end at the first @ before any slash.
        let (credentials, behind) = match before_query.find(['@', '/']) {
            Some(at) if before_query.as_bytes()[at] == b'@' => (&before_query[..at], &before_query[at + 1..]),
            _ => ("", before_query),
        };
        let (user, password) = halves(credentials, ':');
        let (hosts, path) = behind.split_once('/').unwrap_or((behind, ""));
        let hosts = Some(hosts).filter(|hosts| !hosts.is_empty()).into_iter().flat_map(|hosts| hosts.split(','));
        let options = query.split('&').filter(|option| !option.is_empty()).map(|option| {
            let (name, value) = halves(option, '=');
            let value = value.map(|value| decode("an option", value)).transpose()?;
            Ok((decode("an option's name", name)?, value))
        });
        Ok(Url {
            user: decode("the user", user)?,
            password: password.map(|password| decode("the password", password)).transpose()?,
            hosts: hosts.map(host).collect::<Result<_>>()?,
            path,
            options: options.collect::<Result<_>>()?,
        })
    }
}

fn halves(text: &str, divider: char) -> (&str, Option<&str>) {
    text.split_once(divider).map_or((text, None), |(one, other)| (one, Some(other)))
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
    if text.contains('@') {
        return Err(Error::config("connection URL: more than one @").remedy("write an @ within the password as %40"));
    }
    Ok((decode("a host", name)?, decode("a port", port)?))
}

/// Decodes a part of a URL; `what` is its name for people.
///
/// # Errors
/// Config: a % that stands for nothing, what is not UTF-8, a zero byte.
pub fn decode(what: &str, encoded: &str) -> Result<String> {
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
