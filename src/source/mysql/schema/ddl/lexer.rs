//! The words of a statement.
//!
//! Invariants:
//! - What the server runs is read and what it skips is skipped: comments, and executable ones of later versions.
//! - Nothing recurses, nothing panics: a text that ends inside a string, a quoted name or a comment is [`Broken`].
//! - Strings and quoted names are unescaped; everything else is as it stands.
//!
//! ```text
//! comment    = "#" … end of line | "--" (space | control | end) … end of line | "/*" … "*/", in which one level nests
//! executable = "/*!" [version 5 or 6 digits] code "*/" | "/*M!" [version] code "*/" (MariaDB)
//! string     = [N | _charset] "'" … "'" | '"' … '"' (a name under ANSI_QUOTES), quotes doubled or after a backslash
//! literal    = (x | b) "'" digits "'" | 0x… | 0b…
//! name       = "`" … "`" | letters, digits, "$", "_" and all beyond ASCII
//! ```

use std::borrow::Cow;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword or a name without quotes.
    Word(&'a str),
    /// A name in quotes.
    Name(Cow<'a, str>),
    Text(Cow<'a, str>),
    /// Digits alone.
    Number(&'a str),
    /// A hexadecimal or binary literal, as bytes: none where it is no whole number of them.
    Bits(Option<Vec<u8>>),
    Symbol(u8),
}

/// The text ends where it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// How the session that sent the statement read it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dialect {
    pub ansi_quotes: bool,
    pub no_backslash_escapes: bool,
    pub mariadb: bool,
    /// Major * 10,000 + minor * 100 + patch.
    pub version: u32,
}

/// MariaDB runs no executable comment for MySQL's versions that it does not follow.
const NOT_OF_MARIADB: std::ops::RangeInclusive<u32> = 50_700..=99_999;

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    dialect: Dialect,
    /// Executable comments that are open; servers allow no second, a count does not mind.
    open: u32,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str, dialect: Dialect) -> Self {
        Lexer { text, at: 0, dialect, open: 0 }
    }

    /// The next word; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Token<'a>>, Broken> {
        self.skip()?;
        let bytes = self.text.as_bytes();
        let Some(&first) = bytes.get(self.at) else {
            return if self.open == 0 { Ok(None) } else { Err(Broken) };
        };
        let next = bytes.get(self.at + 1).copied();
        match first {
            b'`' => self.quoted(b'`', false).map(|name| Some(Token::Name(name))),
            b'"' if self.dialect.ansi_quotes => self.quoted(b'"', false).map(|name| Some(Token::Name(name))),
            b'\'' | b'"' => self.string().map(Some),
            b'n' | b'N' if next == Some(b'\'') => {
                self.at += 1;
                self.string().map(Some)
            }
            b'x' | b'X' | b'b' | b'B' if next == Some(b'\'') => {
                self.at += 1;
                let digits = self.quoted(b'\'', false)?;
                let radix = if first.eq_ignore_ascii_case(&b'x') { 16 } else { 2 };
                Ok(Some(Token::Bits(bits(&digits, radix))))
            }
            _ if is_name(first) => Ok(Some(self.word())),
            symbol => {
                self.at += 1;
                Ok(Some(Token::Symbol(symbol)))
            }
        }
    }

    fn word(&mut self) -> Token<'a> {
        let rest = &self.text[self.at..];
        let length = rest.bytes().position(|byte| !is_name(byte)).unwrap_or(rest.len());
        let word = &rest[..length];
        self.at += length;
        if word.bytes().all(|byte| byte.is_ascii_digit()) {
            return Token::Number(word);
        }
        for (prefix, radix) in [("0x", 16), ("0b", 2)] {
            let digits = word.strip_prefix(prefix).filter(|digits| !digits.is_empty());
            if let Some(digits) = digits.filter(|digits| digits.chars().all(|digit| digit.is_digit(radix))) {
                return Token::Bits(bits(digits, radix));
            }
        }
        Token::Word(word)
    }

    fn string(&mut self) -> Result<Token<'a>, Broken> {
        let quote = self.text.as_bytes()[self.at];
        self.quoted(quote, !self.dialect.no_backslash_escapes).map(Token::Text)
    }

    /// From the opening quote to behind the closing one.
    fn quoted(&mut self, quote: u8, escapes: bool) -> Result<Cow<'a, str>, Broken> {
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let mut owned: Option<String> = None;
        let mut from = start;
        let mut at = start;
        loop {
            let stop = match bytes
                .get(at..)
                .and_then(|rest| rest.iter().position(|b| *b == quote || (escapes && *b == b'\\')))
            {
                Some(length) => at + length,
                None => return Err(Broken),
            };
            let piece = &self.text[from..stop];
            if bytes[stop] == quote && bytes.get(stop + 1) != Some(&quote) {
                self.at = stop + 1;
                return Ok(match owned {
                    None => Cow::Borrowed(piece),
                    Some(mut text) => {
                        text.push_str(piece);
                        Cow::Owned(text)
                    }
                });
            }
            let text = owned.get_or_insert_default();
            text.push_str(piece);
            if bytes[stop] == quote {
                text.push(quote.into());
                at = stop + 2;
            } else {
                let escaped = self.text[stop + 1..].chars().next().ok_or(Broken)?;
                match escaped {
                    '0' => text.push('\0'),
                    'b' => text.push('\u{8}'),
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    'Z' => text.push('\u{1a}'),
                    '%' | '_' => text.extend(['\\', escaped]),
                    other => text.push(other),
                }
                at = stop + 1 + escaped.len_utf8();
            }
            from = at;
        }
    }

    /// Whitespace and comments.
    fn skip(&mut self) -> Result<(), Broken> {
        let bytes = self.text.as_bytes();
        loop {
            let Some(&byte) = bytes.get(self.at) else { return Ok(()) };
            let rest = &bytes[self.at..];
            if byte.is_ascii_whitespace() || byte == 0x0b {
                self.at += 1;
            } else if byte == b'#' || rest.starts_with(b"--") && rest.get(2).is_none_or(|b| *b <= b' ' || *b == 0x7f) {
                self.at += memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
            } else if self.open > 0 && rest.starts_with(b"*/") {
                self.open -= 1;
                self.at += 2;
            } else if rest.starts_with(b"/*") {
                self.comment()?;
            } else {
                return Ok(());
            }
        }
    }

    fn comment(&mut self) -> Result<(), Broken> {
        let rest = &self.text.as_bytes()[self.at + 2..];
        let code = match rest {
            [b'!', ..] => Some(1),
            [b'M', b'!', ..] if self.dialect.mariadb => Some(2),
            _ => None,
        };
        if let Some(marks) = code {
            let digits = rest[marks..].iter().take(6).take_while(|byte| byte.is_ascii_digit()).count();
            // Fewer than five are no version but code.
            let digits = if digits < 5 { 0 } else { digits };
            let version = rest[marks..marks + digits].iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
            let foreign = self.dialect.mariadb && marks == 1 && NOT_OF_MARIADB.contains(&version);
            if version <= self.dialect.version && !foreign {
                self.open += 1;
                self.at += 2 + marks + digits;
                return Ok(());
            }
        }
        // Skipped whole; one comment may be inside.
        let mut at = self.at + 2;
        let bytes = self.text.as_bytes();
        let mut nested = false;
        loop {
            let step = bytes.get(at..).and_then(|rest| memchr::memchr2(b'*', b'/', rest)).ok_or(Broken)?;
            at += step;
            match &bytes[at..] {
                [b'*', b'/', ..] => {
                    at += 2;
                    if !nested {
                        self.at = at;
                        return Ok(());
                    }
                    nested = false;
                }
                [b'/', b'*', ..] if code.is_some() && !nested => {
                    at += 2;
                    nested = true;
                }
                _ => at += 1,
            }
        }
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

fn bits(digits: &str, radix: u32) -> Option<Vec<u8>> {
    let per_byte = if radix == 16 { 2 } else { 8 };
    if !digits.len().is_multiple_of(per_byte) {
        return None;
    }
    digits
        .as_bytes()
        .chunks(per_byte)
        .map(|chunk| u8::from_str_radix(std::str::from_utf8(chunk).ok()?, radix).ok())
        .collect()
}
