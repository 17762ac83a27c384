//! A walk over a statement's words.

use super::TableName;
use super::lexer::{Broken, Dialect, Lexer, Token};

/// What cannot be read; the reason for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotRead(pub String);

pub(super) type Read<T> = Result<T, NotRead>;

/// A table has at most 4,096 columns of some twenty words, and an ENUM 65,535 labels: more words than this are no DDL of a
/// server's. At 32 bytes each they take 16 MiB.
const WORDS_MAX: usize = 1 << 19;

#[derive(Debug)]
pub(super) struct Cursor<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(sql: &'a str, dialect: Dialect) -> Read<Self> {
        let mut lexer = Lexer::new(sql, dialect);
        let mut tokens = Vec::new();
        loop {
            match lexer.next() {
                Ok(None) => break,
                Ok(Some(_)) if tokens.len() == WORDS_MAX => {
                    return Err(NotRead(format!("it has more than {WORDS_MAX} words")));
                }
                Ok(Some(token)) => tokens.push(token),
                Err(Broken) => return Err(NotRead("it ends inside a string, a quoted name or a comment".to_owned())),
            }
        }
        while tokens.last() == Some(&Token::Symbol(b';')) {
            tokens.pop();
        }
        Ok(Cursor { tokens, at: 0 })
    }

    pub fn peek(&self) -> Option<&Token<'a>> {
        self.tokens.get(self.at)
    }

    pub fn peek_at(&self, ahead: usize) -> Option<&Token<'a>> {
        self.tokens.get(self.at + ahead)
    }

    pub fn advance(&mut self) -> Option<Token<'a>> {
        let token = self.tokens.get(self.at).cloned();
        self.at += usize::from(token.is_some());
        token
    }

    pub fn is_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub fn place(&self) -> usize {
        self.at
    }

    pub fn go_to(&mut self, place: usize) {
        self.at = place;
    }

    /// Whether the words come next, in any case.
    pub fn sees(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(
            |(ahead, word)| matches!(self.peek_at(ahead), Some(Token::Word(found)) if found.eq_ignore_ascii_case(word)),
        )
    }

    pub fn sees_any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.sees(&[word]))
    }

    /// Takes the words if they come next.
    pub fn accept(&mut self, words: &[&str]) -> bool {
        let seen = self.sees(words);
        if seen {
            self.at += words.len();
        }
        seen
    }

    pub fn accept_any(&mut self, words: &[&str]) -> bool {
        let seen = self.sees_any(words);
        self.at += usize::from(seen);
        seen
    }

    pub fn sees_symbol(&self, symbol: u8) -> bool {
        self.peek() == Some(&Token::Symbol(symbol))
    }

    pub fn accept_symbol(&mut self, symbol: u8) -> bool {
        let seen = self.sees_symbol(symbol);
        self.at += usize::from(seen);
        seen
    }

    pub fn expect_symbol(&mut self, symbol: u8) -> Read<()> {
        if self.accept_symbol(symbol) { Ok(()) } else { Err(self.wrong(&format!("a {:?}", char::from(symbol)))) }
    }

    pub fn expect(&mut self, words: &[&str]) -> Read<()> {
        if self.accept(words) { Ok(()) } else { Err(self.wrong(&words.join(" "))) }
    }

    pub fn wrong(&self, expected: &str) -> NotRead {
        let found = match self.peek() {
            None => "its end".to_owned(),
            Some(Token::Word(word) | Token::Number(word)) => short(word),
            Some(Token::Name(name)) => format!("`{}`", short(name)),
            Some(Token::Text(text)) => format!("'{}'", short(text)),
            Some(Token::Bits(_)) => "a literal".to_owned(),
            Some(Token::Symbol(symbol)) => format!("{:?}", char::from(*symbol)),
        };
        NotRead(format!("{found} stands where {expected} was expected"))
    }

    /// A name, quoted or not; a word that is all digits may be one behind a point.
    pub fn name(&mut self) -> Read<String> {
        let name = match self.peek() {
            Some(Token::Word(word)) => (*word).to_owned(),
            Some(Token::Name(name)) => name.clone().into_owned(),
            _ => return Err(self.wrong("a name")),
        };
        self.at += 1;
        Ok(name)
    }

    /// `[database .] table`, where the event's database is the default.
    pub fn table_name(&mut self, database: &str) -> Read<TableName> {
        // MySQL takes `.table` for one without a database.
        let leading = self.accept_symbol(b'.');
        let first = self.name()?;
        if leading || !self.accept_symbol(b'.') {
            return Ok(TableName { database: database.to_owned(), name: first });
        }
        let name = match self.peek() {
            Some(Token::Number(digits)) => {
                let digits = (*digits).to_owned();
                self.at += 1;
                digits
            }
            _ => self.name()?,
        };
        Ok(TableName { database: first, name })
    }

    pub fn number(&mut self) -> Read<u32> {
        let Some(Token::Number(digits)) = self.peek() else { return Err(self.wrong("a number")) };
        let number = digits.parse().map_err(|_| self.wrong("a number below 4,294,967,296"))?;
        self.at += 1;
        Ok(number)
    }

    /// Everything from an opening parenthesis to behind the one that closes it.
    pub fn skip_group(&mut self) -> Read<()> {
        self.expect_symbol(b'(')?;
        let mut depth = 1u32;
        while depth > 0 {
            match self.advance() {
                None => return Err(self.wrong("a ')'")),
                Some(Token::Symbol(b'(')) => depth += 1,
                Some(Token::Symbol(b')')) => depth -= 1,
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Everything up to a comma or closing parenthesis outside of parentheses, or the end.
    pub fn skip_item(&mut self) -> Read<()> {
        while !self.is_end() && !self.sees_symbol(b',') && !self.sees_symbol(b')') {
            if self.sees_symbol(b'(') {
                self.skip_group()?;
            } else {
                self.at += 1;
            }
        }
        Ok(())
    }

    /// `[IF EXISTS]`, `[IF NOT EXISTS]`: whether it is there.
    pub fn if_exists(&mut self) -> bool {
        self.accept(&["if", "exists"])
    }

    pub fn if_not_exists(&mut self) -> bool {
        self.accept(&["if", "not", "exists"])
    }

    /// MariaDB's `WAIT n` and `NOWAIT`.
    pub fn lock_option(&mut self) -> Read<()> {
        if self.accept(&["wait"]) {
            self.advance();
            if self.accept_symbol(b'.') {
                self.advance();
            }
        } else {
            self.accept(&["nowait"]);
        }
        Ok(())
    }

    pub fn end(&self) -> Read<()> {
        if self.is_end() { Ok(()) } else { Err(self.wrong("its end")) }
    }
}

/// Names in messages have an end.
const SHOWN_CHARS: usize = 64;

fn short(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}
