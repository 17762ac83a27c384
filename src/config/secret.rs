//! Connection strings without their passwords.
//!
//! Invariants:
//! - [`ConnectionString`] shows its text through [`ConnectionString::expose`] alone; `Debug` and `Display` are redacted.
//! - Where it is not clear how far a password reaches, more is hidden rather than less.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

const HIDDEN: &str = "***";

/// A URL or a list of keywords and values, as libpq reads them.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct ConnectionString(String);

impl ConnectionString {
    pub fn new(text: impl Into<String>) -> Self {
        ConnectionString(text.into())
    }
    /// The text with its password, for the one who connects.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&redact(&self.0), f)
    }
}

/// The text with `***` for every password in it.
pub(super) fn redact(text: &str) -> String {
    redact_keywords(&redact_userinfo(text))
}

/// `scheme://user:password@host`. An `@` belongs into a password as `%40`; where it does not, the last one counts.
fn redact_userinfo(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let Some(at) = rest.rfind('@') else { return text.to_owned() };
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:{HIDDEN}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

/// `password=…` and `sslpassword='…'`, among keywords or in a URL's query.
fn redact_keywords(text: &str) -> String {
    const KEY: &str = "password";
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(found) = rest.to_ascii_lowercase().find(KEY) {
        let (before, behind) = rest.split_at(found + KEY.len());
        shown.push_str(before);
        rest = behind;
        let Some(value) = behind.trim_start().strip_prefix('=') else { continue };
        let value = value.trim_start();
        shown.push('=');
        shown.push_str(HIDDEN);
        rest = match value.strip_prefix('\'') {
            Some(quoted) => &quoted[quoted_len(quoted)..],
            None => &value[bare_len(value)..],
        };
    }
    shown.push_str(rest);
    shown
}

/// Up to and including the quote that ends it; a backslash takes the next letter as it is.
fn quoted_len(text: &str) -> usize {
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            '\'' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn bare_len(text: &str) -> usize {
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            '&' => return at,
            letter if letter.is_whitespace() => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_and_the_rest_is_not() {
        for (text, shown) in [
            ("postgres://app:s3cret@db:5432/shop?sslmode=require", "postgres://app:***@db:5432/shop?sslmode=require"),
            ("postgres://app:s3/c@r?e:t@db/shop", "postgres://app:***@db/shop"),
            ("postgres://app:s3c?ret@db/shop", "postgres://app:***@db/shop"),
            ("postgres://app@db/shop", "postgres://app@db/shop"),
            ("postgres://h1:1,h2:2/shop", "postgres://h1:1,h2:2/shop"),
            ("postgres:///shop?user=a&password=s3cret&host=db", "postgres:///shop?user=a&password=***&host=db"),
            ("postgresql://h/d?sslpassword=s3cret", "postgresql://h/d?sslpassword=***"),
            ("host=db password=s3cret user=app", "host=db password=*** user=app"),
            ("host=db password = 's3 \\' cret' user=app", "host=db password=*** user=app"),
            ("PASSWORD=s3\\ cret dbname=x", "PASSWORD=*** dbname=x"),
            ("password='s3cret", "password=***"),
            ("password is not here", "password is not here"),
            ("", ""),
        ] {
            assert_eq!(redact(text), shown, "{text}");
        }
        let url = ConnectionString::new("postgres://app:s3cret@db/shop");
        assert!(!format!("{url} {url:?}").contains("s3cret"));
        assert!(url.expose().contains("s3cret"));
    }
}
