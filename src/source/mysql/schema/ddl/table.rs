//! CREATE TABLE and ALTER TABLE.

use super::Session;
use super::ast::{Action, Body, Charset, ColumnSpec, Ddl, KeyPart, KeySpec, Options, Place, TableName};
use super::column::{charset, column};
use super::cursor::{Cursor, Read};
use super::lexer::Token;

/// What an item between parentheses or behind ADD is.
enum Item {
    Column(ColumnSpec),
    Key(KeySpec),
    /// MariaDB's application-time period: its name and columns.
    Period(String, String, String),
    /// It says nothing of columns and unique keys.
    Other,
}

/// Behind `CREATE [OR REPLACE] TABLE [IF NOT EXISTS] name`.
pub(super) fn create(
    cursor: &mut Cursor<'_>,
    session: &Session,
    table: TableName,
    replace: bool,
    if_not_exists: bool,
) -> Read<Ddl> {
    let database = &session.database;
    let parenthesised = cursor.sees_symbol(b'(')
        && matches!(cursor.peek_at(1), Some(Token::Word(word)) if word.eq_ignore_ascii_case("like"));
    if parenthesised || cursor.sees(&["like"]) {
        cursor.accept_symbol(b'(');
        cursor.expect(&["like"])?;
        let like = cursor.table_name(database)?;
        if parenthesised {
            cursor.expect_symbol(b')')?;
        }
        cursor.end()?;
        return Ok(Ddl::CreateTable { table, replace, if_not_exists, body: Body::Like(like) });
    }
    cursor.expect_symbol(b'(')?;
    let (mut columns, mut keys) = (Vec::new(), Vec::new());
    let mut options = Options::default();
    loop {
        match item(cursor, session)? {
            Item::Column(column) => {
                keys.extend(keys_of(&column));
                columns.push(column);
            }
            Item::Key(key) => keys.push(key),
            Item::Period(name, start, end) => options.periods.push((name, start, end)),
            Item::Other => {}
        }
        if cursor.accept_symbol(b')') {
            break;
        }
        cursor.expect_symbol(b',')?;
    }
    while table_option(cursor, &mut options, true)? || cursor.accept_symbol(b',') {}
    if cursor.accept(&["partition", "by"]) {
        // Up to the end, or to a query, which a log of rows does not have.
        while !cursor.is_end() && !cursor.sees_any(&["select", "as", "with", "ignore", "replace"]) {
            if cursor.sees_symbol(b'(') { cursor.skip_group()? } else { drop(cursor.advance()) }
        }
    }
    cursor.end()?;
    Ok(Ddl::CreateTable { table, replace, if_not_exists, body: Body::Items { columns, keys, options } })
}

/// The keys that stand in a column's definition, in the order in which the server makes them.
fn keys_of(column: &ColumnSpec) -> impl Iterator<Item = KeySpec> + use<> {
    let key = |primary| KeySpec {
        primary,
        unique: true,
        name: None,
        parts: vec![KeyPart { column: Some(column.name.clone()), prefix: None, overlaps: false }],
        hash: false,
        if_not_exists: false,
    };
    let (primary, unique) = (column.primary.then(|| key(true)), column.unique.then(|| key(false)));
    primary.into_iter().chain(unique)
}

fn item(cursor: &mut Cursor<'_>, session: &Session) -> Read<Item> {
    let mut constraint = None;
    if cursor.accept(&["constraint"]) && !cursor.sees_any(&["primary", "unique", "foreign", "check"]) {
        // IF NOT EXISTS of MariaDB.
        cursor.if_not_exists();
        constraint = Some(cursor.name()?);
    }
    if cursor.sees(&["primary", "key"]) || cursor.sees(&["unique"]) {
        return key(cursor, constraint).map(Item::Key);
    }
    let vector = cursor.sees(&["vector", "index"]) || cursor.sees(&["vector", "key"]);
    if vector || cursor.sees_any(&["fulltext", "spatial", "index", "key"]) {
        return key(cursor, None).map(Item::Key);
    }
    if cursor.accept_any(&["foreign", "check"]) {
        cursor.skip_item()?;
        return Ok(Item::Other);
    }
    if cursor.accept(&["period", "for"]) {
        let name = cursor.name()?;
        cursor.expect_symbol(b'(')?;
        let start = cursor.name()?;
        cursor.expect_symbol(b',')?;
        let end = cursor.name()?;
        cursor.expect_symbol(b')')?;
        // Whose columns say it themselves.
        let system = name.eq_ignore_ascii_case("system_time");
        return Ok(if system { Item::Other } else { Item::Period(name, start, end) });
    }
    if constraint.is_some() {
        return Err(cursor.wrong("a constraint"));
    }
    column(cursor, session).map(Item::Column)
}

/// `PRIMARY KEY …` or `[UNIQUE | FULLTEXT | SPATIAL | VECTOR] [INDEX | KEY] [name] …`
fn key(cursor: &mut Cursor<'_>, constraint: Option<String>) -> Read<KeySpec> {
    let primary = cursor.accept(&["primary", "key"]);
    let unique = primary || cursor.accept(&["unique"]);
    if !primary {
        let _ = unique || cursor.accept_any(&["fulltext", "spatial", "vector"]);
        cursor.accept_any(&["index", "key"]);
    }
    let if_not_exists = cursor.if_not_exists();
    let name = match cursor.peek() {
        Some(Token::Symbol(b'(')) => None,
        _ if cursor.sees_any(&["using", "type"]) => None,
        _ => Some(cursor.name()?),
    };
    let hash = index_method(cursor);
    let parts = key_parts(cursor)?;
    let hash = index_options(cursor)? || hash;
    let name = name.or(constraint).filter(|_| !primary);
    Ok(KeySpec { primary, unique, name, parts, hash, if_not_exists })
}

fn index_method(cursor: &mut Cursor<'_>) -> bool {
    let mut hash = false;
    while cursor.accept_any(&["using", "type"]) {
        hash = cursor.sees(&["hash"]);
        cursor.advance();
    }
    hash
}

/// What stands behind an index's columns, up to a comma or the end. Whether it is by hash.
fn index_options(cursor: &mut Cursor<'_>) -> Read<bool> {
    let mut hash = false;
    while !cursor.is_end() && !cursor.sees_symbol(b',') && !cursor.sees_symbol(b')') {
        if cursor.sees_any(&["using", "type"]) {
            hash = index_method(cursor);
        } else if cursor.sees_symbol(b'(') {
            cursor.skip_group()?;
        } else {
            cursor.advance();
        }
    }
    Ok(hash)
}

fn key_parts(cursor: &mut Cursor<'_>) -> Read<Vec<KeyPart>> {
    cursor.expect_symbol(b'(')?;
    let mut parts = Vec::new();
    loop {
        if cursor.sees_symbol(b'(') {
            cursor.skip_group()?;
            parts.push(KeyPart { column: None, prefix: None, overlaps: false });
        } else {
            let column = Some(cursor.name()?);
            let mut prefix = None;
            if cursor.accept_symbol(b'(') {
                prefix = Some(cursor.number()?);
                cursor.expect_symbol(b')')?;
            }
            let overlaps = cursor.accept(&["without", "overlaps"]);
            parts.push(KeyPart { column, prefix, overlaps });
        }
        cursor.accept_any(&["asc", "desc"]);
        if cursor.accept_symbol(b')') {
            return Ok(parts);
        }
        cursor.expect_symbol(b',')?;
    }
}

/// Table options whose value may stand without `=`, and which say nothing of columns.
const OPTIONS: [&str; 33] = [
    "auto_increment",
    "autoextend_size",
    "avg_row_length",
    "checksum",
    "comment",
    "compression",
    "connection",
    "delay_key_write",
    "encrypted",
    "encryption",
    "encryption_key_id",
    "engine_attribute",
    "ietf_quotes",
    "insert_method",
    "key_block_size",
    "max_rows",
    "min_rows",
    "pack_keys",
    "page_checksum",
    "page_compressed",
    "page_compression_level",
    "password",
    "row_format",
    "secondary_engine",
    "secondary_engine_attribute",
    "stats_auto_recalc",
    "stats_persistent",
    "stats_sample_pages",
    "table_checksum",
    "tablespace",
    "storage",
    "transactional",
    "raid_type",
];

/// One option of a table: whether there was one.
fn table_option(cursor: &mut Cursor<'_>, options: &mut Options, of_create: bool) -> Read<bool> {
    if charset(cursor, &mut options.charset)? {
        return Ok(true);
    }
    if of_create && (cursor.accept(&["start", "transaction"])) {
        return Ok(true);
    }
    if cursor.accept(&["with", "system", "versioning"]) {
        options.system_versioning = true;
    } else if cursor.accept_any(&["engine", "type"]) {
        cursor.accept_symbol(b'=');
        options.engine = match cursor.advance() {
            Some(Token::Word(name)) => Some(name.to_owned()),
            Some(Token::Name(name) | Token::Text(name)) => Some(name.into_owned()),
            _ => return Err(cursor.wrong("an engine")),
        };
    } else if cursor.accept(&["sequence"]) {
        cursor.accept_symbol(b'=');
        options.sequence = cursor.number()? != 0;
    } else if cursor.accept(&["union"]) {
        cursor.accept_symbol(b'=');
        cursor.skip_group()?;
    } else if cursor.accept_any(&["data", "index"]) {
        cursor.expect(&["directory"])?;
        cursor.accept_symbol(b'=');
        cursor.advance();
    } else if cursor.accept_any(&OPTIONS) || {
        let is_pair = matches!(cursor.peek(), Some(Token::Word(_) | Token::Name(_)))
            && cursor.peek_at(1) == Some(&Token::Symbol(b'='));
        if is_pair {
            cursor.advance();
        }
        is_pair
    } {
        cursor.accept_symbol(b'=');
        cursor.accept_symbol(b'-');
        cursor.advance();
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// Behind `ALTER [ONLINE] [IGNORE] TABLE [IF EXISTS] name`.
pub(super) fn alter(cursor: &mut Cursor<'_>, session: &Session, table: TableName) -> Read<Ddl> {
    cursor.lock_option()?;
    let mut actions = Vec::new();
    while !cursor.is_end() {
        if cursor.accept_symbol(b',') {
            continue;
        }
        action(cursor, session, &mut actions)?;
    }
    Ok(Ddl::AlterTable { table, actions })
}

fn action(cursor: &mut Cursor<'_>, session: &Session, actions: &mut Vec<Action>) -> Read<()> {
    let database = &session.database;
    let mut options = Options::default();
    if cursor.accept(&["add"]) {
        return add(cursor, session, actions);
    } else if cursor.accept(&["drop"]) {
        return dropped(cursor, actions);
    } else if cursor.accept(&["modify"]) {
        cursor.accept(&["column"]);
        let if_exists = cursor.if_exists();
        let column = column(cursor, session)?;
        let old = column.name.clone();
        changed(cursor, old, column, if_exists, actions)?;
    } else if cursor.accept(&["change"]) {
        cursor.accept(&["column"]);
        let if_exists = cursor.if_exists();
        let old = cursor.name()?;
        let column = column(cursor, session)?;
        changed(cursor, old, column, if_exists, actions)?;
    } else if cursor.accept(&["rename"]) {
        if cursor.accept(&["column"]) {
            cursor.if_exists();
            let old = cursor.name()?;
            cursor.expect(&["to"])?;
            actions.push(Action::RenameColumn { old, new: cursor.name()? });
        } else if cursor.accept_any(&["index", "key"]) {
            cursor.if_exists();
            let old = cursor.name()?;
            cursor.expect(&["to"])?;
            actions.push(Action::RenameIndex { old, new: cursor.name()? });
        } else {
            if !cursor.accept_any(&["to", "as"]) {
                cursor.accept_symbol(b'=');
            }
            actions.push(Action::RenameTo(cursor.table_name(database)?));
        }
    } else if cursor.accept(&["alter"]) {
        if cursor.accept_any(&["index", "key", "check", "constraint"]) {
            return cursor.skip_item();
        }
        cursor.accept(&["column"]);
        cursor.if_exists();
        let column = cursor.name()?;
        if cursor.accept(&["set", "visible"]) {
            actions.push(Action::SetVisible { column, visible: true });
        } else if cursor.accept(&["set", "invisible"]) {
            actions.push(Action::SetVisible { column, visible: false });
        } else if cursor.sees(&["set", "default"]) || cursor.sees(&["drop", "default"]) {
            return cursor.skip_item();
        } else {
            return Err(cursor.wrong("SET or DROP"));
        }
    } else if cursor.accept(&["convert", "to"]) {
        let mut to = Charset::default();
        while charset(cursor, &mut to)? {}
        actions.push(Action::Convert(to));
    } else if cursor.accept(&["convert", "partition"]) {
        cursor.name()?;
        cursor.expect(&["to", "table"])?;
        actions.push(Action::PartitionToTable(cursor.table_name(database)?));
        cursor.skip_item()?;
    } else if cursor.accept(&["convert", "table"]) {
        actions.push(Action::TableToPartition(cursor.table_name(database)?));
        cursor.skip_item()?;
    } else if cursor.accept(&["exchange", "partition"]) {
        cursor.name()?;
        cursor.expect(&["with", "table"])?;
        actions.push(Action::Exchange(cursor.table_name(database)?));
        cursor.skip_item()?;
    } else if cursor.accept(&["truncate", "partition"]) {
        actions.push(Action::Rows("partitions were emptied"));
        to_the_end(cursor);
    } else if cursor.accept(&["import"]) {
        actions.push(Action::Rows("a tablespace was imported"));
        to_the_end(cursor);
    } else if cursor.accept(&["discard"]) {
        actions.push(Action::Rows("a tablespace was discarded"));
        to_the_end(cursor);
    } else if cursor.sees_any(&[
        "coalesce",
        "reorganize",
        "rebuild",
        "optimize",
        "analyze",
        "check",
        "repair",
        "partition",
        "order",
        "upgrade",
    ]) || cursor.sees(&["remove", "partitioning"])
    {
        to_the_end(cursor);
    } else if cursor.accept_any(&["algorithm", "lock"]) {
        cursor.accept_symbol(b'=');
        cursor.advance();
    } else if cursor.accept_any(&["force", "nowait", "secondary_load", "secondary_unload", "online", "offline"])
        || cursor.accept(&["enable", "keys"])
        || cursor.accept(&["disable", "keys"])
        || cursor.accept(&["with", "validation"])
        || cursor.accept(&["without", "validation"])
    {
    } else if table_option(cursor, &mut options, false)? {
        while table_option(cursor, &mut options, false)? {}
        actions.push(Action::Options(options));
    } else {
        return Err(cursor.wrong("a change of a table"));
    }
    Ok(())
}

/// Partitioning stands last and names what it likes.
fn to_the_end(cursor: &mut Cursor<'_>) {
    while cursor.advance().is_some() {}
}

fn changed(
    cursor: &mut Cursor<'_>,
    old: String,
    column: ColumnSpec,
    if_exists: bool,
    actions: &mut Vec<Action>,
) -> Read<()> {
    let keys: Vec<_> = keys_of(&column).collect();
    let place = place(cursor)?;
    actions.push(Action::Change { old, column, place, if_exists });
    actions.extend(keys.into_iter().map(Action::AddKey));
    Ok(())
}

fn place(cursor: &mut Cursor<'_>) -> Read<Place> {
    Ok(if cursor.accept(&["first"]) {
        Place::First
    } else if cursor.accept(&["after"]) {
        Place::After(cursor.name()?)
    } else {
        Place::Last
    })
}

fn add(cursor: &mut Cursor<'_>, session: &Session, actions: &mut Vec<Action>) -> Read<()> {
    if cursor.accept(&["partition"]) {
        to_the_end(cursor);
        return Ok(());
    }
    if cursor.accept(&["system", "versioning"]) {
        actions.push(Action::Options(Options { system_versioning: true, ..Options::default() }));
        return Ok(());
    }
    let named = cursor.accept(&["column"]);
    let if_not_exists = cursor.if_not_exists();
    if !cursor.accept_symbol(b'(') {
        let added = if named { column(cursor, session).map(Item::Column)? } else { item(cursor, session)? };
        let place = place(cursor)?;
        push(added, place, if_not_exists, actions);
        return Ok(());
    }
    loop {
        let added = item(cursor, session)?;
        push(added, Place::Last, if_not_exists, actions);
        if cursor.accept_symbol(b')') {
            return Ok(());
        }
        cursor.expect_symbol(b',')?;
    }
}

fn push(item: Item, place: Place, if_not_exists: bool, actions: &mut Vec<Action>) {
    match item {
        Item::Column(column) => {
            let keys: Vec<_> = keys_of(&column).collect();
            actions.push(Action::AddColumn { column, place, if_not_exists });
            actions.extend(keys.into_iter().map(|key| Action::AddKey(KeySpec { if_not_exists, ..key })));
        }
        Item::Key(key) => actions.push(Action::AddKey(key)),
        Item::Period(name, start, end) => {
            actions.push(Action::Options(Options { periods: vec![(name, start, end)], ..Options::default() }));
        }
        Item::Other => {}
    }
}

fn dropped(cursor: &mut Cursor<'_>, actions: &mut Vec<Action>) -> Read<()> {
    if cursor.accept(&["primary", "key"]) {
        actions.push(Action::DropPrimary);
    } else if cursor.accept_any(&["index", "key", "constraint"]) {
        cursor.if_exists();
        actions.push(Action::DropIndex(cursor.name()?));
    } else if cursor.accept(&["foreign", "key"]) || cursor.accept(&["check"]) || cursor.accept(&["period", "for"]) {
        cursor.skip_item()?;
    } else if cursor.accept(&["partition"]) {
        actions.push(Action::Rows("partitions were dropped"));
        to_the_end(cursor);
    } else if cursor.accept(&["system", "versioning"]) {
        actions.push(Action::DropVersioning);
    } else {
        cursor.accept(&["column"]);
        cursor.if_exists();
        actions.push(Action::DropColumn(cursor.name()?));
        cursor.accept_any(&["restrict", "cascade"]);
    }
    Ok(())
}

/// Behind `CREATE … INDEX [IF NOT EXISTS] name [USING x] ON table`.
pub(super) fn index(
    cursor: &mut Cursor<'_>,
    table: TableName,
    name: String,
    unique: bool,
    hash: bool,
    if_not_exists: bool,
    replace: bool,
) -> Read<Ddl> {
    cursor.lock_option()?;
    let parts = key_parts(cursor)?;
    let hash = index_options(cursor)? || hash;
    let mut actions = Vec::new();
    if replace {
        actions.push(Action::DropIndex(name.clone()));
    }
    actions.push(Action::AddKey(KeySpec { primary: false, unique, name: Some(name), parts, hash, if_not_exists }));
    Ok(Ddl::AlterTable { table, actions })
}

/// `[USING x]` before ON.
pub(super) fn method(cursor: &mut Cursor<'_>) -> bool {
    index_method(cursor)
}
