//! Which tables and columns are wanted: patterns over names, and nothing else.
//!
//! Invariants:
//! - A name is compared as the server compares it, which [`Names`] says: as it is stored, or whatever its case.
//! - `*` stands for any run of characters and `?` for one, within one part of a name; inside quotes both, the dot and the
//!   comma are ordinary characters, and a quote written twice is a quote.
//! - An exclude wins over an include. A column pattern never selects a table.
//! - What is added while a process runs is one list for all its sources; each takes it over when it is ready to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::record::Position;

/// How a server's names are written and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names<'a> {
    /// Of a table that is named alone; none where there is no such schema.
    pub default_schema: Option<&'a str>,
    /// Each of them quotes a name.
    pub quotes: &'a [char],
    /// What a table's full name is called in messages.
    pub table_form: &'a str,
    /// Whether the names of columns are the same in any case. (Those of tables: [`Selection::ignore_table_case`].)
    pub ignores_column_case: bool,
}

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
    fn matches(&self, name: &str, ignores_case: bool) -> bool {
        let name: Vec<char> = name.chars().collect();
        let same = |a: char, b: char| a == b || (ignores_case && a.to_lowercase().eq(b.to_lowercase()));
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
                Some(Token::Char(c)) if same(*c, name[at]) => {}
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
    fn matches(&self, names: [&str; PARTS], case: Case) -> bool {
        let ignored = [case.ignored_in_tables, case.ignored_in_tables, case.ignored_in_columns];
        self.parts.iter().zip(names).zip(ignored).all(|((part, name), ignored)| part.matches(name, ignored))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Case {
    ignored_in_tables: bool,
    ignored_in_columns: bool,
}

/// By schema and name, as the server stores them, from where on a table is wanted; none: from any position.
pub type AddedTables = BTreeMap<(String, String), Option<Position>>;

/// Tables that are wanted beside those that the configuration names. Clones are of the same list.
#[derive(Clone, Debug, Default)]
pub struct Added(Arc<AddedList>);

#[derive(Debug, Default)]
struct AddedList {
    tables: Mutex<AddedTables>,
    generation: AtomicU64,
}

impl Added {
    fn tables(&self) -> MutexGuard<'_, AddedTables> {
        self.0.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, tables: &AddedTables) {
        let mut known = self.tables();
        if *known != *tables {
            known.clone_from(tables);
            self.0.generation.fetch_add(1, Ordering::Release);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.tables().is_empty()
    }

    /// Another number whenever the list is another one.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Where a stream that is at `at` has to take over the next table.
    pub fn next_behind(&self, at: &Position) -> Option<Position> {
        let tables = self.tables();
        let later = tables.values().flatten().filter(|from| !at.reaches(from));
        later.cloned().reduce(Position::earlier)
    }
}

/// Which tables and columns are wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    case: Case,
    added: Added,
    /// What was taken over of it.
    taken: BTreeSet<(String, String)>,
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
    /// - Tables: `schema.table`, `table` (in the default schema), `*` (all).
    /// - Columns: `schema.table.column`, `table.column` (in the default schema).
    ///
    /// # Errors
    /// Config: a quote without its end, text behind a quoted name, an empty name, too few or too many parts.
    pub fn new<S: AsRef<str>>(
        names: &Names<'_>,
        tables: &[S],
        exclude_tables: &[S],
        columns: &[S],
        exclude_columns: &[S],
    ) -> Result<Selection> {
        Ok(Selection {
            case: Case { ignored_in_tables: false, ignored_in_columns: names.ignores_column_case },
            added: Added::default(),
            taken: BTreeSet::new(),
            tables: read(names, "tables", tables)?,
            exclude_tables: read(names, "exclude_tables", exclude_tables)?,
            columns: read(names, "columns", columns)?,
            exclude_columns: read(names, "exclude_columns", exclude_columns)?,
        })
    }

    /// Wants these tables too, from the next [`Self::refresh`] on.
    pub fn beside(mut self, added: Added) -> Selection {
        self.added = added;
        self
    }

    /// Takes over what was added, as far as it is wanted at a position; none: all of it. Whether that changes anything.
    pub fn refresh(&mut self, at: Option<&Position>) -> bool {
        let added = self.added.tables();
        let wanted = |from: &Option<Position>| match (at, from) {
            (Some(at), Some(from)) => at.reaches(from),
            _ => true,
        };
        let names = added.iter().filter(|(_, from)| wanted(from)).map(|(name, _)| name.clone()).collect();
        let changed = names != self.taken;
        drop(added);
        self.taken = names;
        changed
    }

    /// This one alone is to want a table too.
    pub fn include(&mut self, schema: &str, table: &str) {
        self.taken.insert((schema.to_owned(), table.to_owned()));
    }

    /// The tables that were taken over.
    pub fn taken(&self) -> impl Iterator<Item = (&str, &str)> {
        self.taken.iter().map(|(schema, table)| (schema.as_str(), table.as_str()))
    }

    /// From now on the names of schemas and tables are the same in any case: what only the server can say.
    pub fn ignore_table_case(&mut self) {
        self.case.ignored_in_tables = true;
    }

    /// Whether the table is wanted as far as its name says.
    pub fn wants(&self, schema: &str, table: &str) -> bool {
        self.includes(schema, table) && !self.excludes(schema, table)
    }

    /// Whether `tables` names it by a pattern without `*` and `?`: then it is meant, whatever kind of relation it is.
    pub fn names(&self, schema: &str, table: &str) -> bool {
        self.tables.iter().any(|pattern| pattern.is_literal() && pattern.matches([schema, table], self.case))
    }

    pub fn excludes(&self, schema: &str, table: &str) -> bool {
        self.exclude_tables.iter().any(|pattern| pattern.matches([schema, table], self.case))
    }

    fn includes(&self, schema: &str, table: &str) -> bool {
        let same = |a: &str, b: &str| match self.case.ignored_in_tables {
            true => a.to_lowercase() == b.to_lowercase(),
            false => a == b,
        };
        self.tables.is_empty()
            || self.tables.iter().any(|pattern| pattern.matches([schema, table], self.case))
            || self.taken().any(|(of, name)| same(of, schema) && same(name, table))
    }

    /// Whether a wanted table's column is wanted.
    pub fn keeps(&self, schema: &str, table: &str, column: &str) -> bool {
        let mut named = false;
        let mut included = false;
        for pattern in &self.columns {
            let ignored = self.case.ignored_in_tables;
            if pattern.parts[0].matches(schema, ignored) && pattern.parts[1].matches(table, ignored) {
                named = true;
                included |= pattern.parts[2].matches(column, self.case.ignored_in_columns);
            }
        }
        (!named || included)
            && !self.exclude_columns.iter().any(|pattern| pattern.matches([schema, table, column], self.case))
    }

    /// Whether columns are selected at all.
    pub fn has_columns(&self) -> bool {
        !self.columns.is_empty() || !self.exclude_columns.is_empty()
    }

    /// The table patterns that match none of `tables` (schema, name).
    pub fn unmatched_tables<'a>(&self, tables: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Vec<Unmatched> {
        let check = |setting, patterns: &[Pattern<2>]| {
            unmatched(setting, patterns, |pattern| {
                tables.clone().any(|(schema, name)| pattern.matches([schema, name], self.case))
            })
        };
        [check("tables", &self.tables), check("exclude_tables", &self.exclude_tables)].concat()
    }

    /// The column patterns that match none of `columns` (schema, table, column) of the wanted tables.
    pub fn unmatched_columns<'a>(
        &self,
        columns: impl Iterator<Item = (&'a str, &'a str, &'a str)> + Clone,
    ) -> Vec<Unmatched> {
        let check = |setting, patterns: &[Pattern<3>]| {
            unmatched(setting, patterns, |pattern| {
                columns.clone().any(|(s, t, c)| pattern.matches([s, t, c], self.case))
            })
        };
        [check("columns", &self.columns), check("exclude_columns", &self.exclude_columns)].concat()
    }
}

/// A wrong name is an error; a pattern may wait for what it is to match.
///
/// # Errors
/// Config: every name that matches nothing.
pub fn settle(unmatched: Vec<Unmatched>, warnings: &mut Vec<String>) -> Result<()> {
    let (wrong, waiting): (Vec<_>, Vec<_>) = unmatched.into_iter().partition(|unmatched| unmatched.literal);
    warnings.extend(waiting.iter().map(Unmatched::to_string));
    if wrong.is_empty() {
        return Ok(());
    }
    let text = wrong.iter().map(Unmatched::to_string).collect::<Vec<_>>().join("; ");
    Err(Error::config(text).remedy(
        "names are compared as the server stores them, upper and lower case included where it tells them apart; \
         `walbrook discover` lists them",
    ))
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

fn read<S: AsRef<str>, const PARTS: usize>(
    names: &Names<'_>,
    setting: &str,
    items: &[S],
) -> Result<Vec<Pattern<PARTS>>> {
    let mut patterns = Vec::new();
    for item in items {
        for text in split(names, item.as_ref(), ',') {
            if !text.trim().is_empty() {
                patterns.push(pattern(names, setting, text.trim())?);
            }
        }
    }
    Ok(patterns)
}

fn pattern<const PARTS: usize>(names: &Names<'_>, setting: &str, text: &str) -> Result<Pattern<PARTS>> {
    let form = names.table_form;
    let shape = if PARTS == 2 { form.to_owned() } else { format!("{form}.column") };
    let error = |problem: String| {
        Error::config(format!("reading {setting} {text:?}: {problem}"))
            .remedy(format!("write it as {shape}, with * for any characters and double quotes around odd names"))
    };
    let parts = split(names, text, '.').into_iter().map(|text| part(names, text).map_err(error));
    let mut parts = parts.collect::<Result<Vec<_>>>()?;
    if PARTS == 2 && parts == [Part::any()] {
        parts.push(Part::any());
    } else if parts.len() + 1 == PARTS {
        let schema = names.default_schema.ok_or_else(|| error(format!("{} of {shape} is missing", first(form))))?;
        parts.insert(0, Part(schema.chars().map(Token::Char).collect()));
    }
    let count = parts.len();
    match parts.try_into() {
        Ok(parts) => Ok(Pattern { text: text.to_owned(), parts }),
        Err(_) => Err(error(format!("it has {count} parts, not {PARTS}"))),
    }
}

fn first(form: &str) -> &str {
    form.split('.').next().unwrap_or(form)
}

/// Splits at a character outside quotes.
fn split<'t>(names: &Names<'_>, text: &'t str, at: char) -> Vec<&'t str> {
    let mut quoted = None;
    text.split(|c: char| {
        match quoted {
            None if names.quotes.contains(&c) => quoted = Some(c),
            Some(quote) if quote == c => quoted = None,
            _ => {}
        }
        c == at && quoted.is_none()
    })
    .collect()
}

fn part(names: &Names<'_>, text: &str) -> Result<Part, String> {
    let quote = text.chars().next().filter(|c| names.quotes.contains(c));
    let tokens: Vec<Token> = match quote {
        None if text.contains(names.quotes) => return Err("a quote stands inside a name".into()),
        None => text
            .chars()
            .map(|c| match c {
                '*' => Token::Any,
                '?' => Token::One,
                c => Token::Char(c),
            })
            .collect(),
        Some(quote) => {
            let inner = &text[quote.len_utf8()..];
            let inner = inner.strip_suffix(quote).ok_or("a quote has no end")?;
            let name = inner.replace(&format!("{quote}{quote}"), "\u{0}");
            if name.contains(quote) {
                return Err("a quoted name ends before its part does".into());
            }
            name.chars().map(|c| Token::Char(if c == '\u{0}' { quote } else { c })).collect()
        }
    };
    if tokens.is_empty() { Err("a name is empty".into()) } else { Ok(Part(tokens)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAMES: Names<'static> = Names {
        default_schema: Some("public"),
        quotes: &['"'],
        table_form: "schema.table",
        ignores_column_case: false,
    };

    fn tables(include: &str, exclude: &str) -> Selection {
        Selection::new(&NAMES, &[include], &[exclude], &[], &[]).unwrap()
    }

    #[test]
    fn no_pattern_wants_everything() {
        let all = tables("", "");
        assert!(all.wants("public", "orders") && all.wants("Odd \"one\"", "."));
        assert!(all.tables.is_empty() && all.exclude_tables.is_empty());
    }

    #[test]
    fn a_table_is_added_where_its_stream_is_far_enough() {
        let at = |lsn| Position::Postgres(crate::record::Lsn(lsn));
        let name = |table: &str| ("shop".to_owned(), table.to_owned());
        let added = Added::default();
        let mut selection = tables("shop.a", "shop.secret").beside(added.clone());
        assert!(!selection.refresh(None));
        let before = added.generation();
        let list = [(name("b"), Some(at(5))), (name("c"), Some(at(9))), (name("secret"), None)].into();
        added.set(&list);
        added.set(&list);
        assert_eq!(added.generation(), before + 1);
        assert!(!selection.wants("shop", "b"), "nobody has taken it over");
        assert!(selection.refresh(Some(&at(4))));
        assert!(!selection.wants("shop", "b") && !selection.wants("shop", "secret"), "an exclude wins");
        assert_eq!(added.next_behind(&at(4)), Some(at(5)));
        assert!(selection.refresh(Some(&at(5))) && !selection.refresh(Some(&at(6))));
        assert!(selection.wants("shop", "b") && !selection.wants("shop", "c") && !selection.wants("shop", "B"));
        assert_eq!((added.next_behind(&at(5)), added.next_behind(&at(9))), (Some(at(9)), None));
        assert!(selection.refresh(None) && selection.wants("shop", "c"));
        assert!(selection.refresh(Some(&at(8))) && !selection.wants("shop", "c"), "a stream that goes back");
        selection.ignore_table_case();
        assert!(selection.wants("SHOP", "B"));
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
            let error = Selection::new(&NAMES, &[text], &[], &[], &[]).unwrap_err();
            assert_eq!(error.class(), crate::error::Class::Config);
            assert!(error.to_string().contains(problem), "{text}: {error}");
        }
        assert!(Selection::new(&NAMES, &[], &[], &["orders"], &[]).is_err());
    }

    #[test]
    fn columns() {
        let some =
            Selection::new(&NAMES, &[], &[], &["public.users.id,users.n*"], &["*.*.password", "public.users.nick"])
                .unwrap();
        let keeps = |table, column| some.keeps("public", table, column);
        assert!(keeps("users", "id") && keeps("users", "name"));
        assert!(!keeps("users", "nick") && !keeps("users", "email") && !keeps("users", "password"));
        assert!(keeps("orders", "anything") && !keeps("orders", "password"));
    }

    #[test]
    fn patterns_that_match_nothing_are_named() {
        let some = Selection::new(&NAMES, &["public.orders,shop.*"], &["public.old"], &["a.b.c"], &["*.*.pw"]).unwrap();
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

    #[test]
    fn a_server_says_what_case_and_quotes_mean() {
        let names = Names {
            default_schema: None,
            quotes: &['"', '`'],
            table_form: "database.table",
            ignores_column_case: true,
        };
        let mut some = Selection::new(&names, &["shop.`A.b`,\"x`\".*"], &[], &["shop.`A.b`.Id"], &[]).unwrap();
        assert!(some.wants("shop", "A.b") && !some.wants("SHOP", "a.B") && some.wants("x`", "y"));
        assert!(some.keeps("shop", "A.b", "iD") && !some.keeps("shop", "A.b", "x"));
        some.ignore_table_case();
        assert!(some.wants("SHOP", "a.B") && some.keeps("SHOP", "a.B", "id") && some.names("Shop", "a.b"));
        let error = Selection::new(&names, &["orders"], &[], &[], &[]).unwrap_err();
        assert!(error.to_string().contains("database of database.table is missing"), "{error}");
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
            prop_assert_eq!(part(&NAMES, &pattern).unwrap().matches(&name, false), model(&p, &n));
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
            let _ = Selection::new(&NAMES, &[&text], &[], &[&text], &[]);
        }
    }
}
