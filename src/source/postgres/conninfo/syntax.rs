//! The two forms of a connection string, to pairs of key and value.
//!
//! ```text
//! postgres[ql]://[user[:password]@][host[:port][,…]][/dbname][?key=value[&…]]      percent-encoded
//! key = value …       value: no blanks, or in '…'; \' and \\ escape in both
//! ```

use crate::error::{Error, Result};
use crate::source::url::{Url, decode};

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
    let url = Url::read(rest)?;
    let (names, ports): (Vec<_>, Vec<_>) = url.hosts.into_iter().unzip();
    let lists = [("host", names), ("port", ports)].map(|(key, list)| {
        // A list of nothing is an absent one.
        (key, if list.iter().all(String::is_empty) { String::new() } else { list.join(",") })
    });
    let [host, port] = lists;
    let database = ("dbname", decode("dbname", url.path)?);
    let parts = [("user", url.user), ("password", url.password.unwrap_or_default()), host, port, database];
    // An empty part of a URL is an absent one.
    pairs.extend(parts.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| (key.to_owned(), value)));
    for (key, value) in url.options {
        let Some(value) = value else {
            return Err(Error::config("connection URL: a parameter behind the ? has no \"=\"").remedy(AMPERSAND));
        };
        match key.as_str() {
            // As libpq, for the sake of JDBC's URLs.
            "ssl" if value == "true" => pairs.push(("sslmode".into(), "require".into())),
            _ => pairs.push((key, value)),
        }
    }
    Ok(pairs)
}

const AMPERSAND: &str = "write an & within a value as %26, a ? within the password as %3F";

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
