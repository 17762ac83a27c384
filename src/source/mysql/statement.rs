//! Changes of rows that are logged as statements: a session's `binlog_format` is not ROW, and the rows are not in the log.

/// Which table's rows a statement changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowsOf {
    /// No database: the session's.
    Table { database: Option<String>, name: String },
    /// DELETE FROM without a condition, as servers log it for a MEMORY table that a restart has emptied.
    All { database: Option<String>, name: String },
    /// It cannot be told.
    Some,
}

/// Words between the verb and the table.
const BETWEEN: [&str; 9] =
    ["low_priority", "delayed", "high_priority", "quick", "ignore", "into", "from", "only", "concurrent"];

/// Whose rows a statement changes; none for one that changes no rows (DDL, accounts, BEGIN).
pub fn rows_of(sql: &str) -> Option<RowsOf> {
    let mut rest = skip(sql);
    let verb = word(&mut rest).to_ascii_lowercase();
    match &*verb {
        "insert" | "replace" | "update" | "delete" => {}
        "load" | "with" | "select" | "do" | "call" => return Some(RowsOf::Some),
        _ => return None,
    }
    loop {
        let mut next = rest;
        let between = word(&mut next).to_ascii_lowercase();
        if !BETWEEN.contains(&&*between) {
            break;
        }
        rest = next;
    }
    let Some(first) = identifier(&mut rest) else { return Some(RowsOf::Some) };
    let (database, name) = match rest.strip_prefix('.') {
        Some(behind) => {
            rest = behind;
            match identifier(&mut rest) {
                Some(name) => (Some(first), name),
                None => return Some(RowsOf::Some),
            }
        }
        None => (None, first),
    };
    let rest = skip(rest);
    Some(match &*verb {
        "delete" if rest.is_empty() => RowsOf::All { database, name },
        // Several tables.
        "update" | "delete" if rest.starts_with([',', '.']) => RowsOf::Some,
        _ => RowsOf::Table { database, name },
    })
}

/// Without the blanks and comments that stand first. `/*! … */` is read by the server, and so here.
fn skip(mut sql: &str) -> &str {
    loop {
        sql = sql.trim_start();
        // The end of one that is read.
        if let Some(behind) = sql.strip_prefix("*/") {
            sql = behind;
            continue;
        }
        let Some(comment) = sql.strip_prefix("/*") else { return sql };
        if let Some(executed) = comment.strip_prefix('!') {
            sql = executed.trim_start_matches(|c: char| c.is_ascii_digit());
            continue;
        }
        match comment.split_once("*/") {
            Some((_, behind)) => sql = behind,
            None => return "",
        }
    }
}

fn word<'a>(sql: &mut &'a str) -> &'a str {
    let rest = skip(sql);
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (word, behind) = rest.split_at(end);
    *sql = behind;
    word
}

fn identifier(sql: &mut &str) -> Option<String> {
    let mut rest = skip(sql);
    let Some(quote) = rest.chars().next().filter(|c| matches!(c, '`' | '"')) else {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        *sql = behind;
        return (!name.is_empty()).then(|| name.to_owned());
    };
    rest = &rest[1..];
    let mut name = String::new();
    loop {
        let (part, behind) = rest.split_once(quote)?;
        name.push_str(part);
        match behind.strip_prefix(quote) {
            Some(more) => {
                name.push(quote);
                rest = more;
            }
            None => {
                *sql = behind;
                return Some(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_rows_a_statement_changes() {
        let table = |database: Option<&str>, name: &str| RowsOf::Table {
            database: database.map(str::to_owned),
            name: name.to_owned(),
        };
        for (sql, rows_of) in [
            ("insert into t values (1)", table(None, "t")),
            ("INSERT IGNORE `a b`.`c``d` select 1", table(Some("a b"), "c`d")),
            (
                "/* x */ replace /*!40000 delayed */ into percona.checksums (a) select 1",
                table(Some("percona"), "checksums"),
            ),
            ("update low_priority t set a = 1", table(None, "t")),
            ("update t, u set t.a = u.a", RowsOf::Some),
            ("delete from t where a = 1", table(None, "t")),
            ("DELETE FROM `d`.`m`", RowsOf::All { database: Some("d".into()), name: "m".into() }),
            ("load data infile 'x' into table t", RowsOf::Some),
            ("with x as (select 1) delete from t", RowsOf::Some),
            ("insert into `unclosed", RowsOf::Some),
            ("delete", RowsOf::Some),
        ] {
            assert_eq!(super::rows_of(sql), Some(rows_of), "{sql}");
        }
        for sql in
            ["create table t (a int)", "GRANT SELECT ON *.* TO u", "", "/* unclosed", "flush logs", "analyze table t"]
        {
            assert_eq!(super::rows_of(sql), None, "{sql}");
        }
    }
}
