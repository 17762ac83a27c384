//! DDL of MySQL and MariaDB, as it stands in QUERY events.
//!
//! Invariants:
//! - What is understood is what the server did; what concerns a table and is not understood is [`Ddl::Unknown`], with the
//!   tables it names. Nothing is guessed.
//! - A statement is read once, from its first word to its last: words that nobody looked at are an error.
//! - No recursion; a statement has a limit of words ([`cursor`]).
//!
//! What a server logs is not always what was sent: `CREATE TABLE … SELECT` comes with its columns and without its query,
//! `DROP TABLE` with the tables that were there, `LIKE` a temporary table with its columns.

mod ast;
mod column;
mod cursor;
mod lexer;
mod table;

pub use ast::TableName;
pub(super) use ast::{Action, Body, Charset, ColumnSpec, Ddl, KeyPart, KeySpec, Options, Place, TypeSpec};

use cursor::{Cursor, NotRead, Read};
use lexer::{Dialect, Lexer, Token};

/// Bits of `sql_mode`; the same on both servers but for ORACLE, which is MariaDB's.
mod mode {
    pub(super) const REAL_AS_FLOAT: u64 = 1;
    pub(super) const ANSI_QUOTES: u64 = 1 << 2;
    pub(super) const ORACLE: u64 = 1 << 9;
    pub(super) const NO_BACKSLASH_ESCAPES: u64 = 1 << 20;
}

/// What the words of a statement depend on.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    dialect: Dialect,
    real_as_float: bool,
    /// MariaDB's `sql_mode=ORACLE`.
    oracle: bool,
    /// The default database.
    database: String,
}

impl Session {
    /// `version`: major * 10,000 + minor * 100 + patch.
    pub fn new(mariadb: bool, version: u32, sql_mode: u64, database: &str) -> Session {
        Session {
            dialect: Dialect {
                ansi_quotes: sql_mode & mode::ANSI_QUOTES != 0,
                no_backslash_escapes: sql_mode & mode::NO_BACKSLASH_ESCAPES != 0,
                mariadb,
                version,
            },
            real_as_float: sql_mode & mode::REAL_AS_FLOAT != 0,
            oracle: mariadb && sql_mode & mode::ORACLE != 0,
            database: database.to_owned(),
        }
    }
}

/// Reads a statement.
pub(super) fn parse(sql: &str, session: &Session) -> Ddl {
    if !may_concern_tables(sql, session) {
        return Ddl::Nothing;
    }
    let mut named = Vec::new();
    match Cursor::new(sql, session.dialect).and_then(|mut cursor| statement(&mut cursor, session, &mut named)) {
        Ok(ddl) => ddl,
        Err(NotRead(why)) => Ddl::Unknown { tables: named, why },
    }
}

/// By the first words alone: most statements of a log are BEGIN and the like, and one of rows may be of many megabytes.
fn may_concern_tables(sql: &str, session: &Session) -> bool {
    let mut lexer = Lexer::new(sql, session.dialect);
    match lexer.next() {
        Ok(Some(Token::Word(word))) => ["create", "alter", "drop", "rename", "truncate"]
            .iter()
            .chain(session.dialect.mariadb.then_some(&"set"))
            .any(|first| word.eq_ignore_ascii_case(first)),
        _ => false,
    }
}

/// Kinds of things that are no tables, behind CREATE, ALTER and DROP.
const NOT_OURS: [&str; 24] = [
    "view",
    "procedure",
    "function",
    "trigger",
    "event",
    "user",
    "role",
    "server",
    "sequence",
    "package",
    "tablespace",
    "undo",
    "logfile",
    "resource",
    "spatial",
    "instance",
    "aggregate",
    "definer",
    "algorithm",
    "sql",
    "library",
    "masking",
    "prepare",
    "catalog",
];

/// `named` gets the tables as they are met.
fn statement(cursor: &mut Cursor<'_>, session: &Session, named: &mut Vec<TableName>) -> Read<Ddl> {
    let database = session.database.as_str();
    if cursor.accept(&["set"]) {
        // MariaDB: SET STATEMENT variable = value, … FOR a statement, logged as it was sent.
        if !cursor.accept(&["statement"]) {
            return Ok(Ddl::Nothing);
        }
        while !cursor.accept(&["for"]) {
            if cursor.sees_symbol(b'(') {
                cursor.skip_group()?;
            } else if cursor.advance().is_none() {
                return Ok(Ddl::Nothing);
            }
        }
        if !cursor.sees_any(&["create", "alter", "drop", "rename", "truncate"]) {
            return Ok(Ddl::Nothing);
        }
    }
    if cursor.accept(&["create"]) {
        return create(cursor, session, named);
    }
    if cursor.accept(&["alter"]) {
        if cursor.accept_any(&["database", "schema"]) {
            return alter_database(cursor);
        }
        while cursor.accept_any(&["online", "offline", "ignore"]) {}
        if !cursor.accept(&["table"]) {
            return not_ours(cursor);
        }
        cursor.if_exists();
        let table = cursor.table_name(database)?;
        named.push(table.clone());
        return table::alter(cursor, session, table);
    }
    if cursor.accept(&["rename"]) {
        if !cursor.accept_any(&["table", "tables"]) {
            return Ok(Ddl::Nothing);
        }
        cursor.if_exists();
        let mut renames = Vec::new();
        loop {
            let old = cursor.table_name(database)?;
            named.push(old.clone());
            cursor.lock_option()?;
            cursor.expect(&["to"])?;
            let new = cursor.table_name(database)?;
            named.push(new.clone());
            renames.push((old, new));
            if !cursor.accept_symbol(b',') {
                break;
            }
        }
        cursor.lock_option()?;
        cursor.end()?;
        return Ok(Ddl::Rename(renames));
    }
    if cursor.accept(&["truncate"]) {
        cursor.accept(&["table"]);
        let table = cursor.table_name(database)?;
        named.push(table.clone());
        cursor.lock_option()?;
        // Oracle's.
        let _ = cursor.accept(&["drop", "storage"]) || cursor.accept(&["reuse", "storage"]);
        cursor.end()?;
        return Ok(Ddl::Truncate(table));
    }
    cursor.expect(&["drop"])?;
    drop_statement(cursor, session, named)
}

fn not_ours(cursor: &Cursor<'_>) -> Read<Ddl> {
    if cursor.sees_any(&NOT_OURS) { Ok(Ddl::Nothing) } else { Err(cursor.wrong("TABLE")) }
}

fn create(cursor: &mut Cursor<'_>, session: &Session, named: &mut Vec<TableName>) -> Read<Ddl> {
    let database = session.database.as_str();
    let replace = cursor.accept(&["or", "replace"]);
    if cursor.accept_any(&["database", "schema"]) {
        let if_not_exists = cursor.if_not_exists();
        let name = cursor.name()?;
        let charset = database_options(cursor)?;
        return Ok(Ddl::CreateDatabase { name, replace, if_not_exists, charset });
    }
    if cursor.accept(&["temporary"]) {
        return Ok(Ddl::Nothing);
    }
    if cursor.accept(&["table"]) {
        let if_not_exists = cursor.if_not_exists();
        let table = cursor.table_name(database)?;
        named.push(table.clone());
        return table::create(cursor, session, table, replace, if_not_exists);
    }
    while cursor.accept_any(&["online", "offline"]) {}
    let unique = cursor.accept(&["unique"]);
    if unique || cursor.sees_any(&["index", "fulltext", "spatial", "vector"]) {
        let spatial_system = cursor.sees(&["spatial", "reference"]);
        if spatial_system {
            return Ok(Ddl::Nothing);
        }
        cursor.accept_any(&["fulltext", "spatial", "vector"]);
        cursor.expect(&["index"])?;
        let if_not_exists = cursor.if_not_exists();
        let name = cursor.name()?;
        let hash = table::method(cursor);
        cursor.expect(&["on"])?;
        let table = cursor.table_name(database)?;
        named.push(table.clone());
        return table::index(cursor, table, name, unique, hash, if_not_exists, replace);
    }
    not_ours(cursor)
}

/// `[DEFAULT] CHARACTER SET`, `COLLATE`; others skipped: COMMENT, ENCRYPTION, READ ONLY.
fn database_options(cursor: &mut Cursor<'_>) -> Read<Charset> {
    let mut charset = Charset::default();
    while !cursor.is_end() {
        if !column::charset(cursor, &mut charset)? {
            cursor.advance();
        }
    }
    Ok(charset)
}

fn alter_database(cursor: &mut Cursor<'_>) -> Read<Ddl> {
    let options = ["default", "character", "charset", "collate", "encryption", "read", "comment", "upgrade"];
    let name = if cursor.sees_any(&options) { None } else { Some(cursor.name()?) };
    let charset = database_options(cursor)?;
    Ok(Ddl::AlterDatabase { name, charset })
}

fn drop_statement(cursor: &mut Cursor<'_>, session: &Session, named: &mut Vec<TableName>) -> Read<Ddl> {
    let database = session.database.as_str();
    if cursor.accept_any(&["database", "schema"]) {
        cursor.if_exists();
        let name = cursor.name()?;
        cursor.end()?;
        return Ok(Ddl::DropDatabase(name));
    }
    if cursor.accept(&["temporary"]) {
        return Ok(Ddl::Nothing);
    }
    while cursor.accept_any(&["online", "offline"]) {}
    if cursor.accept(&["index"]) {
        cursor.if_exists();
        let name = cursor.name()?;
        cursor.expect(&["on"])?;
        let table = cursor.table_name(database)?;
        named.push(table.clone());
        // LOCK, ALGORITHM, WAIT: nothing of ours.
        let action = if name.eq_ignore_ascii_case("primary") { Action::DropPrimary } else { Action::DropIndex(name) };
        return Ok(Ddl::AlterTable { table, actions: vec![action] });
    }
    if !cursor.accept_any(&["table", "tables"]) {
        return not_ours(cursor);
    }
    cursor.if_exists();
    loop {
        named.push(cursor.table_name(database)?);
        if !cursor.accept_symbol(b',') {
            break;
        }
    }
    cursor.lock_option()?;
    cursor.accept_any(&["restrict", "cascade"]);
    cursor.end()?;
    Ok(Ddl::Drop(named.clone()))
}

#[cfg(test)]
mod tests;
