//! Which tables and columns are wanted: patterns over names, and nothing else.
//!
//! Invariants:
//! - A name is compared as the server stores it: no case folding, whatever its characters.
//! - `*` stands for any run of characters and `?` for one, within one part of a name; inside double quotes both, the dot
//!   and the comma are ordinary characters, and `""` is a quote.
//! - An exclude wins over an include. A column pattern never selects a table.

use std::fmt;

use crate::error::{Error, Result};

/// One part of a pattern: `orders`, `shop_*`, `"we.ird"`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part(Vec<Token>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Any,
}

impl Part {
    fn any() -> Part {
        Part(vec![Token::Any])
    }

    fn is_literal(&self) -> bool {
        self.0.iter().all(|token| matches!(token, Token::Char(_)))
    }

    /// Linear but for stars: on a mismatch the last star takes one character more, earlier ones need not be tried again.
    fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut at, mut token) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while at < name.len() {
            match self.0.get(token) {
                Some(Token::Any) => {
                    star = Some((token, at));
                    token += 1;
                    continue;
                }
                Some(Token::One) => {}
                Some(Token::Char(c)) if *c == name[at] => {}
                _ => {
                    let Some((star_token, star_at)) = star else { return false };
                    star = Some((star_token, star_at + 1));
                    (token, at) = (star_token + 1, star_at + 1);
                    continue;
                }
            }
            token += 1;
            at += 1;
        }
        self.0[token..].iter().all(|token| *token == Token::Any)
    }
}

/// A pattern as it was written, and its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern<const PARTS: usize> {
    text: String,
    parts: [Part; PARTS],
}

impl<const PARTS: usize> Pattern<PARTS> {
    fn is_literal(&self) -> bool {
        self.parts.iter().all(Part::is_literal)
    }
    fn matches(&self, names: [&str; PARTS]) -> bool {
        self.parts.iter().zip(names).all(|(part, name)| part.matches(name))
    }
}

/// Which tables and columns are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    tables: Vec<Pattern<2>>,
    exclude_tables: Vec<Pattern<2>>,
    columns: Vec<Pattern<3>>,
    exclude_columns: Vec<Pattern<3>>,
}

/// A pattern that matched nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// `tables`, `exclude_tables`, `columns` or `exclude_columns`.
    pub setting: &'static str,
    pub pattern: String,
    /// Without `*` and `?`: a name that must be wrong, where a pattern may just wait for tables to come.
    pub literal: bool,
}

impl fmt::Display for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.setting.ends_with("tables") { "table" } else { "column of a wanted table" };
        write!(f, "{} {:?} matches no {what}", self.setting, self.pattern)
    }
}

impl Selection {
    /// Reads the four lists; each item may itself be a list separated by commas, as on the command line. No item in
    /// `tables` means every user table; a table that `columns` does not name keeps all its columns.
    ///
    /// - Tables: `schema.table`, `table` (in `public`), `*` (all).
    /// - Columns: `schema.table.column`, `table.column` (in `public`).
    ///
    /// # Errors
    /// Config: a quote without its end, text behind a quoted name, an empty name, too few or too many parts.
    pub fn new<S: AsRef<str>>(
        tables: &[S],
        exclude_tables: &[S],
        columns: &[S],
        exclude_columns: &[S],
    ) -> Result<Selection> {
        Ok(Selection {
            tables: read("tables", tables)?,
            exclude_tables: read("exclude_tables", exclude_tables)?,
            columns: read("columns", columns)?,
            exclude_columns: read("exclude_columns", exclude_columns)?,
        })
    }

    /// Whether the table is wanted as far as its name says.
    pub fn wants(&self, schema: &str, table: &str) -> bool {
        self.includes(schema, table) && !self.excludes(schema, table)
    }

    /// Whether `tables` names it by a pattern without `*` and `?`: then it is meant, whatever kind of relation it is.
    pub fn names(&self, schema: &str, table: &str) -> bool {
        self.tables.iter().any(|pattern| pattern.is_literal() && pattern.matches([schema, table]))
    }

    pub fn excludes(&self, schema: &str, table: &str) -> bool {
        self.exclude_tables.iter().any(|pattern| pattern.matches([schema, table]))
    }

    fn includes(&self, schema: &str, table: &str) -> bool {
        self.tables.is_empty() || self.tables.iter().any(|pattern| pattern.matches([schema, table]))
    }

    /// Whether a wanted table's column is wanted.
    pub fn keeps(&self, schema: &str, table: &str, column: &str) -> bool {
        let mut named = false;
        let mut included = false;
        for pattern in &self.columns {
            if pattern.parts[0].matches(schema) && pattern.parts[1].matches(table) {
                named = true;
                included |= pattern.parts[2].matches(column);
            }
        }
        (!named || included) && !self.exclude_columns.iter().any(|pattern| pattern.matches([schema, table, column]))
    }

    /// Whether columns are selected at all.
    pub fn has_columns(&self) -> bool {
        !self.columns.is_empty() || !self.exclude_columns.is_empty()
    }

    /// The table patterns that match none of `tables` (schema, name).
    pub fn unmatched_tables<'a>(&self, tables: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Vec<Unmatched> {
        let check = |setting, patterns: &[Pattern<2>]| {
            unmatched(setting, patterns, |pattern| tables.clone().any(|(schema, name)| pattern.matches([schema, name])))
        };
        [check("tables", &self.tables), check("exclude_tables", &self.exclude_tables)].concat()
    }

    /// The column patterns that match none of `columns` (schema, table, column) of the wanted tables.
    pub fn unmatched_columns<'a>(
        &self,
        columns: impl Iterator<Item = (&'a str, &'a str, &'a str)> + Clone,
    ) -> Vec<Unmatched> {
        let check = |setting, patterns: &[Pattern<3>]| {
            unmatched(setting, patterns, |pattern| columns.clone().any(|(s, t, c)| pattern.matches([s, t, c])))
        };
        [check("columns", &self.columns), check("exclude_columns", &self.exclude_columns)].concat()
    }
}

fn unmatched<const PARTS: usize>(
    setting: &'static str,
    patterns: &[Pattern<PARTS>],
    matches: impl Fn(&Pattern<PARTS>) -> bool,
) -> Vec<Unmatched> {
    patterns
        .iter()
        .filter(|pattern| !matches(pattern))
        .map(|pattern| Unmatched { setting, pattern: pattern.text.clone(), literal: pattern.is_literal() })
        .collect()
}

fn read<S: AsRef<str>, const PARTS: usize>(setting: &str, items: &[S]) -> Result<Vec<Pattern<PARTS>>> {
    let mut patterns = Vec::new();
    for item in items {
        for text in split(item.as_ref(), ',') {
            if !text.trim().is_empty() {
                patterns.push(pattern(setting, text.trim())?);
            }
        }
    }
    Ok(patterns)
}

fn pattern<const PARTS: usize>(setting: &str, text: &str) -> Result<Pattern<PARTS>> {
    let shape = if PARTS == 2 { "schema.table" } else { "schema.table.column" };
    let error = |problem: String| {
        Error::config(format!("reading {setting} {text:?}: {problem}"))
            .remedy(format!("write it as {shape}, with * for any characters and double quotes around odd names"))
    };
    let mut parts = split(text, '.').into_iter().map(|text| part(text).map_err(error)).collect::<Result<Vec<_>>>()?;
    if PARTS == 2 && parts == [Part::any()] {
        parts.push(Part::any());
    } else if parts.len() + 1 == PARTS {
        parts.insert(0, Part("public".chars().map(Token::Char).collect()));
    }
    let count = parts.len();
    match parts.try_into() {
        Ok(parts) => Ok(Pattern { text: text.to_owned(), parts }),
        Err(_) => Err(error(format!("it has {count} parts, not {PARTS}"))),
    }
}

/// Splits at a character outside double quotes.
fn split(text: &str, at: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c: char| {
        quoted ^= c == '"';
        c == at && !quoted
    })
    .collect()
}

fn part(text: &str) -> Result<Part, String> {
    let tokens: Vec<Token> = match text.strip_prefix('"') {
        None if text.contains('"') => return Err("a quote stands inside a name".into()),
        None => text
            .chars()
            .map(|c| match c {
                '*' => Token::Any,
                '?' => Token::One,
                c => Token::Char(c),
            })
            .collect(),
        Some(inner) => {
            let inner = inner.strip_suffix('"').ok_or("a quote has no end")?;
            let name = inner.replace("\"\"", "\u{0}");
            if name.contains('"') {
                return Err("a quoted name ends before its part does".into());
            }
            name.chars().map(|c| Token::Char(if c == '\u{0}' { '"' } else { c })).collect()
        }
    };
    if tokens.is_empty() { Err("a name is empty".into()) } else { Ok(Part(tokens)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tables(include: &str, exclude: &str) -> Selection {
        Selection::new(&[include], &[exclude], &[], &[]).unwrap()
    }

    #[test]
    fn no_pattern_wants_everything() {
        let all = tables("", "");
        assert!(all.wants("public", "orders") && all.wants("Odd \"one\"", "."));
        assert_eq!(all, Selection::default());
    }

    #[test]
    fn globs_stay_within_a_part() {
        let some = tables("public.orders, shop.*,*.log_??", "shop.secret*");
        for (schema, table) in [("public", "orders"), ("shop", "a.b"), ("shop", "x"), ("any", "log_01")] {
            assert!(some.wants(schema, table), "{schema}.{table}");
        }
        for (schema, table) in [("public", "orders2"), ("public", "Orders"), ("shop", "secrets"), ("any", "log_1")] {
            assert!(!some.wants(schema, table), "{schema}.{table}");
        }
        assert!(tables("*", "").wants("a", "b"));
        assert!(tables("orders", "").wants("public", "orders"));
        assert!(!tables("orders", "").wants("shop", "orders"));
    }

    #[test]
    fn quotes_make_everything_ordinary() {
        let odd = tables(r#""we.ird".tbl,"a,b"."*",public."say ""hi""""#, "");
        assert!(odd.wants("we.ird", "tbl"));
        assert!(odd.wants("a,b", "*") && !odd.wants("a,b", "x"));
        assert!(odd.wants("public", "say \"hi\""));
        assert!(odd.names("we.ird", "tbl") && !tables("public.*", "").names("public", "x"));
    }

    #[test]
    fn wrong_patterns_say_what_is_wrong() {
        for (text, problem) in [
            ("a.b.c", "3 parts"),
            ("\"a.b", "no end"),
            ("\"a\"b.c", "no end"),
            ("\"a\"b\".c", "no end"),
            ("a\"b.c", "inside a name"),
            ("a.", "empty"),
            (".a", "empty"),
            ("\"\".a", "empty"),
        ] {
            let error = Selection::new(&[text], &[], &[], &[]).unwrap_err();
            assert_eq!(error.class(), crate::error::Class::Config);
            assert!(error.to_string().contains(problem), "{text}: {error}");
        }
        assert!(Selection::new(&[], &[], &["orders"], &[]).is_err());
    }

    #[test]
    fn columns() {
        let some =
            Selection::new(&[], &[], &["public.users.id,users.n*"], &["*.*.password", "public.users.nick"]).unwrap();
        let keeps = |table, column| some.keeps("public", table, column);
        assert!(keeps("users", "id") && keeps("users", "name"));
        assert!(!keeps("users", "nick") && !keeps("users", "email") && !keeps("users", "password"));
        assert!(keeps("orders", "anything") && !keeps("orders", "password"));
    }

    #[test]
    fn patterns_that_match_nothing_are_named() {
        let some = Selection::new(&["public.orders,shop.*"], &["public.old"], &["a.b.c"], &["*.*.pw"]).unwrap();
        let found = some.unmatched_tables([("public", "orders")].into_iter());
        assert_eq!(
            found.iter().map(|u| (u.setting, u.pattern.as_str(), u.literal)).collect::<Vec<_>>(),
            [("tables", "shop.*", false), ("exclude_tables", "public.old", true)]
        );
        assert_eq!(found[0].to_string(), "tables \"shop.*\" matches no table");
        let found = some.unmatched_columns([("a", "b", "c")].into_iter());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].pattern, "*.*.pw");
    }

    /// The obvious recursive matcher.
    fn model(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => model(rest, name) || (!name.is_empty() && model(pattern, &name[1..])),
            (Some(('?', rest)), Some((_, tail))) => model(rest, tail),
            (Some((c, rest)), Some((d, tail))) => c == d && model(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_obvious_matcher(pattern in "[ab*?]{1,8}", name in "[ab]{0,10}") {
            let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
            prop_assert_eq!(part(&pattern).unwrap().matches(&name), model(&p, &n));
        }

        #[test]
        fn a_quoted_name_matches_itself_alone(schema in "[^\0]{1,20}", name in "[^\0]{1,20}", other in "[^\0]{1,20}") {
            use crate::source::postgres::quote::qualified;
            let selection = tables(&qualified(&schema, &name), "");
            prop_assert!(selection.wants(&schema, &name));
            prop_assert_eq!(selection.wants(&schema, &other), other == name);
        }

        #[test]
        fn never_panics(text in ".*") {
            let _ = Selection::new(&[&text], &[], &[&text], &[]);
        }
    }
}
