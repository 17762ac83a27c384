//! Columns: their types with all synonyms, and their attributes.

use super::super::column_type::Kind;
use super::super::def::Generated;
use super::Session;
use super::ast::{Charset, ColumnSpec, RowTime, TypeSpec};
use super::cursor::{Cursor, Read};
use super::lexer::Token;

/// `name type {attribute}`, up to a comma, a closing parenthesis, FIRST, AFTER or the end.
pub(super) fn column(cursor: &mut Cursor<'_>, session: &Session) -> Read<ColumnSpec> {
    let name = cursor.name()?;
    let mut spec = ColumnSpec {
        name,
        column_type: type_spec(Kind::Other),
        nullable: None,
        generated: Generated::None,
        invisible: false,
        auto_increment: false,
        primary: false,
        unique: false,
        json_check: None,
        row_time: None,
        system_versioning: false,
    };
    if cursor.accept(&["serial"]) {
        spec.column_type = type_spec(Kind::BigInt);
        spec.column_type.unsigned = true;
        (spec.nullable, spec.auto_increment, spec.unique) = (Some(false), true, true);
    } else {
        spec.column_type = column_type(cursor, session)?;
    }
    while !(cursor.is_end()
        || cursor.sees_symbol(b',')
        || cursor.sees_symbol(b')')
        || cursor.sees_any(&["first", "after"]))
    {
        attribute(cursor, &mut spec)?;
    }
    Ok(spec)
}

fn type_spec(kind: Kind) -> TypeSpec {
    TypeSpec {
        kind,
        text: String::new(),
        first: None,
        second: None,
        unsigned: false,
        zerofill: false,
        compressed: false,
        labels: Vec::new(),
        charset: Charset::default(),
        srid: None,
        json: false,
    }
}

fn column_type(cursor: &mut Cursor<'_>, session: &Session) -> Read<TypeSpec> {
    let Some(Token::Word(word)) = cursor.peek() else { return Err(cursor.wrong("a type")) };
    let word = word.to_ascii_lowercase();
    cursor.advance();
    let mariadb = session.dialect.mariadb;
    let mut national = false;
    let mut json = false;
    let kind = match word.as_str() {
        "int1" => Kind::TinyInt,
        "int2" => Kind::SmallInt,
        "int3" | "middleint" => Kind::MediumInt,
        "int4" | "integer" => Kind::Int,
        "int8" => Kind::BigInt,
        "bool" | "boolean" => {
            let spec = TypeSpec { first: Some(1), ..type_spec(Kind::TinyInt) };
            return Ok(spec);
        }
        "dec" | "numeric" | "fixed" => Kind::Decimal,
        "float4" => Kind::Float,
        "float8" => Kind::Double,
        "real" if session.real_as_float => Kind::Float,
        "real" => Kind::Double,
        "double" => {
            cursor.accept(&["precision"]);
            Kind::Double
        }
        "char" | "character" if cursor.accept(&["varying"]) => Kind::Varchar,
        "character" => Kind::Char,
        "varcharacter" => Kind::Varchar,
        "national" => {
            national = true;
            if cursor.accept_any(&["varchar", "varcharacter"]) {
                Kind::Varchar
            } else if cursor.accept_any(&["char", "character"]) {
                if cursor.accept(&["varying"]) { Kind::Varchar } else { Kind::Char }
            } else {
                return Err(cursor.wrong("CHAR or VARCHAR"));
            }
        }
        "nchar" => {
            national = true;
            if cursor.accept_any(&["varying", "varchar", "varcharacter"]) { Kind::Varchar } else { Kind::Char }
        }
        "nvarchar" => {
            national = true;
            Kind::Varchar
        }
        "long" => {
            if cursor.accept(&["varbinary"]) {
                Kind::MediumBlob
            } else {
                if !cursor.accept_any(&["varchar", "varcharacter"]) && cursor.accept_any(&["char", "character"]) {
                    cursor.expect(&["varying"])?;
                }
                Kind::MediumText
            }
        }
        "json" if mariadb => {
            json = true;
            Kind::LongText
        }
        "uuid" | "inet4" | "inet6" if !mariadb => Kind::Other,
        // MariaDB's mode for Oracle's names.
        "varchar2" if session.oracle => Kind::Varchar,
        "clob" if session.oracle => Kind::LongText,
        "raw" if session.oracle => Kind::Varbinary,
        "blob" if session.oracle => Kind::LongBlob,
        "date" if session.oracle => Kind::DateTime,
        "number" if session.oracle => {
            if cursor.sees_symbol(b'(') {
                Kind::Decimal
            } else {
                Kind::Double
            }
        }
        known => Kind::named(known),
    };
    let mut spec = TypeSpec { json, ..type_spec(kind) };
    if national {
        spec.charset.charset = Some("utf8mb3".to_owned());
    }
    match kind {
        Kind::Enum | Kind::Set => spec.labels = labels(cursor)?,
        Kind::Other => {
            spec.text = word;
            if cursor.sees_symbol(b'(') {
                cursor.skip_group()?;
            }
        }
        _ if cursor.accept_symbol(b'(') => {
            spec.first = Some(cursor.number()?);
            if cursor.accept_symbol(b',') {
                spec.second = Some(cursor.number()?);
            }
            // Oracle's units.
            cursor.accept_any(&["char", "byte"]);
            cursor.expect_symbol(b')')?;
        }
        _ => {}
    }
    Ok(spec)
}

fn labels(cursor: &mut Cursor<'_>) -> Read<Vec<String>> {
    cursor.expect_symbol(b'(')?;
    let mut labels = Vec::new();
    loop {
        // A character set may be said of each; the text is the same.
        if matches!((cursor.peek(), cursor.peek_at(1)), (Some(Token::Word(word)), Some(Token::Text(_))) if word.starts_with('_'))
        {
            cursor.advance();
        }
        match cursor.peek() {
            Some(Token::Text(label)) => labels.push(label.clone().into_owned()),
            // In the column's character set: only ASCII is the same in all that an ENUM can have.
            Some(Token::Bits(Some(bytes))) if bytes.is_ascii() => {
                labels.push(bytes.iter().map(|byte| char::from(*byte)).collect());
            }
            _ => return Err(cursor.wrong("a label")),
        }
        cursor.advance();
        if cursor.accept_symbol(b')') {
            return Ok(labels);
        }
        cursor.expect_symbol(b',')?;
    }
}

fn attribute(cursor: &mut Cursor<'_>, spec: &mut ColumnSpec) -> Read<()> {
    let kind = &mut spec.column_type;
    if cursor.accept(&["unsigned"]) {
        kind.unsigned = true;
    } else if cursor.accept(&["zerofill"]) {
        kind.zerofill = true;
    } else if cursor.accept_any(&["signed", "visible", "enforced"]) || cursor.accept(&["not", "secondary"]) {
    } else if cursor.accept(&["binary"]) {
        kind.charset.binary = true;
    } else if cursor.accept(&["byte"]) {
        kind.charset.charset = Some("binary".to_owned());
    } else if cursor.accept(&["ascii"]) {
        kind.charset.charset = Some("latin1".to_owned());
    } else if cursor.accept(&["unicode"]) {
        kind.charset.charset = Some("ucs2".to_owned());
    } else if charset(cursor, &mut kind.charset)? {
    } else if cursor.accept(&["compressed"]) {
        kind.compressed = true;
        if cursor.accept_symbol(b'=') {
            cursor.advance();
        }
    } else if cursor.accept(&["srid"]) {
        kind.srid = Some(cursor.number()?);
    } else if cursor.accept(&["not", "null"]) {
        spec.nullable = Some(false);
    } else if cursor.accept(&["null"]) {
        spec.nullable = Some(true);
    } else if cursor.accept(&["serial", "default", "value"]) {
        (spec.nullable, spec.auto_increment, spec.unique) = (Some(false), true, true);
    } else if cursor.accept(&["default"]) || cursor.accept(&["on", "update"]) {
        operand(cursor)?;
    } else if cursor.accept(&["auto_increment"]) {
        spec.auto_increment = true;
    } else if cursor.accept(&["primary"]) {
        cursor.accept(&["key"]);
        spec.primary = true;
    } else if cursor.accept(&["unique"]) {
        cursor.accept(&["key"]);
        spec.unique = true;
    } else if cursor.accept(&["key"]) {
        spec.primary = true;
    } else if cursor.accept(&["clustering"]) {
        cursor.accept(&["key"]);
    } else if cursor.accept_any(&["column_format", "storage"]) {
        cursor.advance();
    } else if cursor.accept_any(&["comment", "engine_attribute", "secondary_engine_attribute"]) {
        cursor.accept_symbol(b'=');
        cursor.advance();
    } else if cursor.accept(&["generated"]) {
        if !cursor.accept(&["always"]) {
            cursor.expect(&["by", "default"])?;
        }
    } else if cursor.accept(&["as"]) {
        generation(cursor, spec)?;
    } else if cursor.accept(&["virtual"]) {
        spec.generated = Generated::Virtual;
    } else if cursor.accept_any(&["stored", "persistent"]) {
        spec.generated = Generated::Stored;
    } else if cursor.accept(&["invisible"]) {
        spec.invisible = true;
    } else if cursor.accept(&["with", "system", "versioning"]) {
        spec.system_versioning = true;
    } else if cursor.accept(&["without", "system", "versioning"]) || cursor.accept(&["not", "enforced"]) {
    } else if cursor.accept(&["references"]) {
        references(cursor)?;
    } else if cursor.accept(&["constraint"]) {
        if !cursor.sees(&["check"]) {
            cursor.name()?;
        }
    } else if cursor.accept(&["check"]) {
        spec.json_check = Some(checks_json(cursor, &spec.name));
        cursor.skip_group()?;
    } else if matches!(cursor.peek(), Some(Token::Word(_) | Token::Name(_)))
        && cursor.peek_at(1) == Some(&Token::Symbol(b'='))
    {
        // An engine's own, as REF_SYSTEM_ID=4326.
        cursor.advance();
        cursor.advance();
        cursor.advance();
    } else {
        return Err(cursor.wrong("an attribute of a column"));
    }
    Ok(())
}

fn generation(cursor: &mut Cursor<'_>, spec: &mut ColumnSpec) -> Read<()> {
    if cursor.accept(&["row"]) {
        spec.row_time = Some(if cursor.accept(&["start"]) { RowTime::Start } else { RowTime::End });
        if spec.row_time == Some(RowTime::End) {
            cursor.expect(&["end"])?;
        }
        (spec.generated, spec.nullable) = (Generated::Stored, Some(false));
        return Ok(());
    }
    if spec.generated == Generated::None {
        spec.generated = Generated::Virtual;
    }
    cursor.skip_group()
}

/// Whether the group that comes is `json_valid(the column)`.
fn checks_json(cursor: &Cursor<'_>, column: &str) -> bool {
    let word = |at, text: &str| match cursor.peek_at(at) {
        Some(Token::Word(word)) => word.eq_ignore_ascii_case(text),
        Some(Token::Name(name)) => name.to_lowercase() == text.to_lowercase(),
        _ => false,
    };
    let symbol = |at, symbol| cursor.peek_at(at) == Some(&Token::Symbol(symbol));
    symbol(0, b'(') && word(1, "json_valid") && symbol(2, b'(') && word(3, column) && symbol(4, b')') && symbol(5, b')')
}

/// `CHARACTER SET [=] name`, `COLLATE [=] name`: whether there was one.
pub(super) fn charset(cursor: &mut Cursor<'_>, charset: &mut Charset) -> Read<bool> {
    let place = cursor.place();
    cursor.accept(&["default"]);
    if cursor.accept(&["character", "set"]) || cursor.accept(&["char", "set"]) || cursor.accept(&["charset"]) {
        cursor.accept_symbol(b'=');
        charset.charset = Some(charset_name(cursor)?);
    } else if cursor.accept(&["collate"]) {
        cursor.accept_symbol(b'=');
        charset.collation = Some(charset_name(cursor)?);
    } else {
        cursor.go_to(place);
        return Ok(false);
    }
    Ok(true)
}

fn charset_name(cursor: &mut Cursor<'_>) -> Read<String> {
    match cursor.peek() {
        Some(Token::Text(text)) => {
            let name = text.to_ascii_lowercase();
            cursor.advance();
            Ok(name)
        }
        _ => Ok(cursor.name()?.to_ascii_lowercase()),
    }
}

/// What stands behind DEFAULT and ON UPDATE: a literal, a function's call, an expression in parentheses.
pub(super) fn operand(cursor: &mut Cursor<'_>) -> Read<()> {
    while cursor.accept_symbol(b'-') || cursor.accept_symbol(b'+') {}
    if cursor.sees_symbol(b'(') {
        return cursor.skip_group();
    }
    if cursor.accept(&["next", "value", "for"]) || cursor.accept(&["previous", "value", "for"]) {
        cursor.table_name("")?;
        return Ok(());
    }
    if cursor.accept_symbol(b'{') {
        while !cursor.accept_symbol(b'}') {
            if cursor.advance().is_none() {
                return Err(cursor.wrong("a '}'"));
            }
        }
        return Ok(());
    }
    match cursor.advance() {
        Some(Token::Number(_)) => {
            if cursor.accept_symbol(b'.') {
                fraction(cursor);
            } else {
                exponent(cursor, false);
            }
        }
        Some(Token::Symbol(b'.')) => fraction(cursor),
        Some(Token::Bits(_)) => {}
        Some(Token::Text(_)) => texts(cursor),
        Some(Token::Word(word)) => {
            let of_time = ["date", "time", "timestamp"].iter().any(|kind| word.eq_ignore_ascii_case(kind));
            if word.starts_with('_') || of_time {
                texts(cursor);
                if matches!(cursor.peek(), Some(Token::Bits(_))) {
                    cursor.advance();
                }
            }
            if ends_in_e(word) {
                exponent(cursor, true);
            }
            call(cursor)?;
        }
        Some(Token::Name(_)) => call(cursor)?,
        _ => return Err(cursor.wrong("a default value")),
    }
    if cursor.accept(&["collate"]) {
        charset_name(cursor)?;
    }
    Ok(())
}

/// Digits behind the point; `1.5e-3` is read as `1`, `.`, `5e`, `-`, `3`.
fn fraction(cursor: &mut Cursor<'_>) {
    match cursor.peek() {
        Some(Token::Number(_)) => {
            cursor.advance();
        }
        Some(Token::Word(word)) if word.starts_with(|c: char| c.is_ascii_digit()) => {
            let signed = ends_in_e(word);
            cursor.advance();
            exponent(cursor, signed);
        }
        // `1.e5` and `1.`.
        Some(Token::Word(word)) if word.starts_with(['e', 'E']) && word[1..].bytes().all(|b| b.is_ascii_digit()) => {
            let signed = word.len() == 1;
            cursor.advance();
            exponent(cursor, signed);
        }
        _ => {}
    }
}

fn ends_in_e(word: &str) -> bool {
    word.strip_suffix(['e', 'E']).is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// A sign and digits behind an `e`.
fn exponent(cursor: &mut Cursor<'_>, behind_e: bool) {
    if behind_e && (cursor.accept_symbol(b'-') || cursor.accept_symbol(b'+')) {
        cursor.advance();
    }
}

fn texts(cursor: &mut Cursor<'_>) {
    while matches!(cursor.peek(), Some(Token::Text(_))) {
        cursor.advance();
    }
}

fn call(cursor: &mut Cursor<'_>) -> Read<()> {
    while cursor.accept_symbol(b'.') {
        cursor.name()?;
    }
    if cursor.sees_symbol(b'(') { cursor.skip_group() } else { Ok(()) }
}

/// What stands behind REFERENCES.
pub(super) fn references(cursor: &mut Cursor<'_>) -> Read<()> {
    cursor.table_name("")?;
    if cursor.sees_symbol(b'(') {
        cursor.skip_group()?;
    }
    loop {
        if cursor.accept(&["match"]) {
            cursor.advance();
        } else if cursor.sees(&["on", "delete"]) || cursor.sees(&["on", "update"]) {
            cursor.accept(&["on"]);
            cursor.advance();
            if cursor.accept_any(&["restrict", "cascade"])
                || cursor.accept(&["set", "null"])
                || cursor.accept(&["set", "default"])
                || cursor.accept(&["no", "action"])
            {
                continue;
            }
            // ON UPDATE of the column itself.
            operand(cursor)?;
        } else {
            return Ok(());
        }
    }
}
