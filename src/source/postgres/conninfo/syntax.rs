//! The two forms of a connection string, to pairs of key and value.
//!
//! ```text
//! postgres[ql]://[user[:password]@][host[:port][,…]][/dbname][?key=value[&…]]      percent-encoded
//! key = value …       value: no blanks, or in '…'; \' and \\ escape in both
//! ```

use percent_encoding::percent_decode_str;

use crate::error::{Error, Result};

/// In the order they were given; a later key wins.
pub(super) type Pairs = Vec<(String, String)>;

pub(super) fn parse(text: &str) -> Result<Pairs> {
    let text = text.trim();
    let lower = text.get(..13).unwrap_or(text).to_ascii_lowercase();
    for scheme in ["postgres://", "postgresql://"] {
        if lower.starts_with(scheme) {
            return url(&text[scheme.len()..]);
        }
    }
    if let Some((scheme, _)) = text.split_once("://")
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    {
        return Err(Error::config(format!("connection string: unknown scheme \"{scheme}\"")).remedy("use postgres://"));
    }
    keywords(text)
}

fn url(rest: &str) -> Result<Pairs> {
    let mut pairs = Pairs::new();
    let (before_query, query) = match rest.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (rest, None),
    };
    // As libpq: credentials end at the first @ before any slash. A ? in the password must be encoded.
    let (credentials, hosts_and_path) = match before_query.find(['@', '/']) {
        Some(at) if before_query.as_bytes()[at] == b'@' => (Some(&before_query[..at]), &before_query[at + 1..]),
        _ => (None, before_query),
    };
    if let Some(credentials) = credentials {
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        push(&mut pairs, "user", decode("user", user)?);
        push(&mut pairs, "password", decode("password", password.unwrap_or_default())?);
    }
    let (hosts, path) = match hosts_and_path.split_once('/') {
        Some((hosts, path)) => (hosts, path),
        None => (hosts_and_path, ""),
    };
    authority(hosts, &mut pairs)?;
    push(&mut pairs, "dbname", decode("dbname", path)?);
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Error::config("connection URL: a parameter behind the ? has no \"=\"").remedy(AMPERSAND));
        };
        let (key, value) = (decode("a parameter's name", key)?, decode("a parameter", value)?);
        match key.as_str() {
            // As libpq, for the sake of JDBC's URLs.
            "ssl" if value == "true" => pairs.push(("sslmode".into(), "require".into())),
            _ => pairs.push((key, value)),
        }
    }
    Ok(pairs)
}

const AMPERSAND: &str = "write an & within a value as %26, a ? within the password as %3F";

/// `host[:port],…`; an IPv6 address stands in brackets.
fn authority(hosts: &str, pairs: &mut Pairs) -> Result<()> {
    if hosts.is_empty() {
        return Ok(());
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = match host.strip_prefix('[') {
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
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(decode("host", name)?);
        ports.push(decode("port", port)?);
    }
    if names.iter().any(|name| !name.is_empty()) {
        pairs.push(("host".into(), names.join(",")));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        pairs.push(("port".into(), ports.join(",")));
    }
    Ok(())
}

/// An empty part of a URL is an absent one.
fn push(pairs: &mut Pairs, key: &str, value: String) {
    if !value.is_empty() {
        pairs.push((key.into(), value));
    }
}

fn decode(what: &str, encoded: &str) -> Result<String> {
    let bytes = encoded.as_bytes();
    for (at, _) in encoded.match_indices('%') {
        if !bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
            return Err(Error::config(format!("connection URL: {what} has a % without two hexadecimal digits"))
                .remedy("write a % itself as %25"));
        }
    }
    let decoded = percent_decode_str(encoded)
        .decode_utf8()
        .map_err(|_| Error::config(format!("connection URL: {what} is not UTF-8 when decoded")))?;
    if decoded.contains('\0') {
        return Err(Error::config(format!("connection URL: {what} has a zero byte")));
    }
    Ok(decoded.into_owned())
}

fn keywords(text: &str) -> Result<Pairs> {
    let mut pairs = Pairs::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((key, value)) = rest.split_once('=') else {
            return Err(Error::config("connection string: missing \"=\" behind a keyword")
                .remedy("write a URL (postgres://user@host/db) or pairs of keyword=value"));
        };
        let key = key.trim_end();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(Error::config("connection string: missing \"=\" behind a keyword")
                .remedy("put a value with blanks in single quotes"));
        }
        let (value, behind) = keyword_value(key, value.trim_start())?;
        if value.contains('\0') {
            return Err(Error::config(format!("connection string: the value of {key} has a zero byte")));
        }
        pairs.push((key.to_owned(), value));
        rest = behind.trim_start();
    }
    Ok(pairs)
}

/// One value and what stands behind it.
fn keyword_value<'a>(key: &str, text: &'a str) -> Result<(String, &'a str)> {
    let (quoted, text) = match text.strip_prefix('\'') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            c if !quoted && c.is_whitespace() => return Ok((value, &text[at..])),
            c => value.push(c),
        }
    }
    if quoted {
        return Err(Error::config(format!("connection string: the quoted value of {key} has no end")));
    }
    Ok((value, ""))
}
