//! Quoting, the only place where a name or a text becomes part of SQL or of a replication command.
//!
//! Invariants:
//! - A quoted identifier or literal is one token for every server setting, `standard_conforming_strings = off` included.
//! - No text holds a zero byte: the server would end the command there. Whoever has one gets an error from
//!   [`crate::source::postgres::connection::Connection`], which refuses such commands.

/// `"name"` with inner quotes doubled.
pub fn ident(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    out.push('"');
    for c in name.chars() {
        if c == '"' {
            out.push('"');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// `"schema"."name"`.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

/// `'text'`, or ` E'text'` where it holds a backslash, so that it means the same under either
/// `standard_conforming_strings`; the space keeps the E apart from whatever stands before it.
pub fn literal(text: &str) -> String {
    let escape = text.contains('\\');
    let mut out = String::with_capacity(text.len() + 4);
    out.push_str(if escape { " E'" } else { "'" });
    push_doubled(&mut out, text, escape);
    out.push('\'');
    out
}

/// A string literal of the replication grammar, which knows `'…'` with doubled quotes only: no `E''`, and a backslash is
/// an ordinary character (`src/backend/replication/repl_scanner.l`).
pub fn replication_literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    push_doubled(&mut out, text, false);
    out.push('\'');
    out
}

fn push_doubled(out: &mut String, text: &str, backslashes: bool) {
    for c in text.chars() {
        if c == '\'' || (backslashes && c == '\\') {
            out.push(c);
        }
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes() {
        assert_eq!(ident(r#"we"ird Näme"#), r#""we""ird Näme""#);
        assert_eq!(qualified("a.b", "c"), r#""a.b"."c""#);
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"c:\it's"), r" E'c:\\it''s'");
        assert_eq!(replication_literal(r"c:\it's"), r"'c:\it''s'");
    }

    proptest! {
        #[test]
        fn an_identifier_reads_back(name in ".*") {
            let quoted = ident(&name);
            let inner = quoted.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            prop_assert_eq!(inner.replace("\"\"", "\u{0}").matches('"').count(), 0);
            prop_assert_eq!(inner.replace("\"\"", "\""), name);
        }

        #[test]
        fn no_quote_of_a_literal_stands_alone(text in ".*") {
            let quoted = literal(&text);
            let inner = quoted.trim_start_matches(" E").strip_prefix('\'').unwrap().strip_suffix('\'').unwrap();
            prop_assert_eq!(inner.replace("''", "").matches('\'').count(), 0);
            if quoted.starts_with(" E") {
                prop_assert_eq!(inner.replace("\\\\", "").matches('\\').count(), 0);
            }
        }
    }
}
