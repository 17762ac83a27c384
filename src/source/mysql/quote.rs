//! Names and texts as SQL has them.

/// `` `name` ``.
pub fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `` `database`.`table` ``.
pub fn qualified(database: &str, table: &str) -> String {
    format!("{}.{}", ident(database), ident(table))
}

/// `'text'`, whether or not the session takes backslashes as escapes: one that has any is written in hexadecimal.
pub fn literal(text: &str) -> String {
    if text.contains('\\') {
        let digits: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        return format!("_utf8mb4 x'{digits}'");
    }
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_stay_one_name() {
        assert_eq!(qualified("a`b", "c.d"), "`a``b`.`c.d`");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("\\'"), "_utf8mb4 x'5c27'");
    }
}
