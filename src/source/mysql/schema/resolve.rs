//! From a column as it was written to the column as the server keeps it: synonyms, default lengths, character sets.
//!
//! Invariants:
//! - A type is made as the text that the server would print and read back, so that DDL and catalog give equal columns.
//! - A character set comes from the column, else the table, else the database, each completed by what the session made of
//!   its character sets.

use std::sync::Arc;

use super::collation::{canonical, default_of, in_charset, max_bytes_of};
use super::column_type::{ColumnType, Kind, charset_of};
use super::ddl::{Charset, ColumnSpec, TypeSpec};
use super::def::ColumnDef;

/// What the server is, and how the session that sent the statement was set.
#[derive(Clone, Debug, Default)]
pub(super) struct Setting {
    pub mariadb: bool,
    /// Major * 10,000 + minor * 100 + patch.
    pub version: u32,
    /// Character sets whose default collation is another one in this session: MySQL's utf8mb4, MariaDB's
    /// `character_set_collations`.
    pub collations: Vec<(String, String)>,
    /// A TIMESTAMP without NULL allows it all the same.
    pub explicit_timestamp: bool,
    /// `collation_server`.
    pub server_collation: Option<String>,
    /// The default database's, where the event says it.
    pub database_collation: Option<String>,
}

/// MySQL stopped to print the width of integers.
const NO_WIDTHS_SINCE: u32 = 8_00_19;
/// MariaDB prints its own mark of an executable comment.
const COMPRESSED_IS_MARIADBS_SINCE: u32 = 10_06_00;
/// What a VARCHAR can hold; a longer one becomes a TEXT where the sql_mode is not strict.
const VARCHAR_MAX_BYTES: u64 = 65_535;
const TINY_MAX_BYTES: u64 = 255;
const MEDIUM_MAX_BYTES: u64 = (1 << 24) - 1;
const LONG_MAX_BYTES: u64 = (1 << 32) - 1;
/// MySQL's VECTOR without a number.
const VECTOR_DIMENSIONS: u32 = 2048;

/// A column's type by its parts.
struct Parts<'a> {
    kind: Kind,
    first: Option<u32>,
    second: Option<u32>,
    unsigned: bool,
    zerofill: bool,
    compressed: bool,
    labels: &'a [String],
    /// Of types that have one.
    collation: &'a str,
    srid: Option<u32>,
    text: &'a str,
}

impl Setting {
    fn prints_widths(&self) -> bool {
        self.mariadb || self.version < NO_WIDTHS_SINCE
    }

    /// The collation that a character set alone means.
    pub fn default_collation(&self, charset: &str) -> Result<String, String> {
        let charset = canonical(charset);
        if let Some((_, collation)) = self.collations.iter().find(|(of, _)| *of == charset) {
            return Ok(collation.clone());
        }
        default_of(&charset, !self.mariadb)
            .map(Into::into)
            .ok_or_else(|| format!("the character set {charset:?} is not known"))
    }

    /// What CHARACTER SET, COLLATE and BINARY make of the collation from above.
    pub fn collation(&self, said: &Charset, inherited: &str) -> Result<String, String> {
        let charset = said.charset.as_deref().filter(|name| *name != "default").map(canonical);
        if let Some(collation) = said.collation.as_deref() {
            let charset = charset.unwrap_or_else(|| charset_of(inherited).to_owned());
            if collation == "default" {
                return self.default_collation(&charset);
            }
            return Ok(canonical(&in_charset(collation, &charset)));
        }
        match (charset, said.binary) {
            (Some(charset), true) if charset != "binary" => Ok(format!("{charset}_bin")),
            (Some(charset), _) => self.default_collation(&charset),
            (None, true) if charset_of(inherited) != "binary" => Ok(format!("{}_bin", charset_of(inherited))),
            (None, _) => Ok(inherited.to_owned()),
        }
    }

    /// A column as the server keeps it. `table`: the table's collation.
    pub fn column(&self, spec: &ColumnSpec, table: &str) -> Result<ColumnDef, String> {
        let written = &spec.column_type;
        // MariaDB's JSON is of this collation whatever the table's.
        let collation = match written.json {
            true if !written.charset.is_said() => "utf8mb4_bin".to_owned(),
            _ => self.collation(&written.charset, table)?,
        };
        let column_type = self.written_type(written, &collation);
        let implied_not_null = spec.primary
            || spec.auto_increment
            || column_type.kind == Kind::Timestamp
                && !self.explicit_timestamp
                && spec.generated == super::def::Generated::None;
        Ok(ColumnDef {
            name: spec.name.as_str().into(),
            nullable: spec.nullable.unwrap_or(!implied_not_null) && !spec.auto_increment && !spec.primary,
            generated: spec.generated,
            invisible: spec.invisible,
            hidden: false,
            auto_increment: spec.auto_increment,
            // A check that is written takes the place of JSON's own.
            json: spec.json_check.unwrap_or(written.json),
            column_type: Arc::new(column_type),
        })
    }

    fn written_type(&self, spec: &TypeSpec, collation: &str) -> ColumnType {
        let TypeSpec { kind, first, second, unsigned, zerofill, compressed, labels, srid, text, .. } = spec;
        self.column_type(&Parts {
            kind: *kind,
            first: *first,
            second: *second,
            unsigned: *unsigned || *zerofill,
            zerofill: *zerofill,
            compressed: *compressed,
            labels,
            collation,
            srid: *srid,
            text,
        })
    }

    /// The type after CONVERT TO CHARACTER SET: a TEXT grows so that it holds as many characters as before.
    pub fn converted(&self, old: &ColumnType, collation: &str) -> ColumnType {
        let Some(before) = old.collation.as_deref().filter(|before| charset_of(before) != "binary") else {
            return old.clone();
        };
        let labels: Vec<String> = old.labels.iter().map(|label| label.to_string()).collect();
        let kind = match text_capacity(old.kind) {
            Some(bytes) => {
                let bytes = bytes / u64::from(max_bytes_of(before)) * u64::from(max_bytes_of(collation));
                text_for(bytes.min(LONG_MAX_BYTES), false)
            }
            None => old.kind,
        };
        let parts = Parts {
            kind,
            first: Some(old.length).filter(|_| matches!(kind, Kind::Char | Kind::Varchar)),
            second: None,
            unsigned: false,
            zerofill: false,
            compressed: old.compressed,
            labels: &labels,
            collation,
            srid: None,
            text: "",
        };
        self.column_type(&parts)
    }

    /// A type by its parts, as an event has them. `numbers`: in parentheses.
    pub fn logged_type(
        &self,
        kind: Kind,
        numbers: (Option<u32>, Option<u32>),
        unsigned: bool,
        compressed: bool,
        labels: &[String],
        collation: &str,
    ) -> ColumnType {
        let (first, second) = numbers;
        let (zerofill, srid, text) = (false, None, "");
        self.column_type(&Parts { kind, first, second, unsigned, zerofill, compressed, labels, collation, srid, text })
    }

    fn column_type(&self, parts: &Parts<'_>) -> ColumnType {
        let &Parts { mut kind, first, second, unsigned, zerofill, compressed, labels, collation, srid, text } = parts;
        let binary = charset_of(collation) == "binary";
        let max_bytes = u64::from(max_bytes_of(collation));
        let bytes_of = |characters: u32, text: bool| u64::from(characters) * if text { max_bytes } else { 1 };
        match kind {
            Kind::Float if second.is_none() && first.is_some_and(|digits| digits > 24) => kind = Kind::Double,
            Kind::Text | Kind::Blob => {
                if let Some(characters) = first.filter(|characters| *characters > 0) {
                    kind = text_for(bytes_of(characters, kind == Kind::Text), kind == Kind::Blob);
                }
            }
            Kind::Varchar | Kind::Varbinary => {
                let bytes = bytes_of(first.unwrap_or(0), kind == Kind::Varchar && !binary);
                if bytes > VARCHAR_MAX_BYTES {
                    kind = text_for(bytes, kind == Kind::Varbinary);
                }
            }
            _ => {}
        }
        if binary {
            kind = as_bytes(kind);
        }
        let name = name(kind, self.mariadb, text);
        let number = |default| format!("({})", first.unwrap_or(default));
        let detail = match kind {
            Kind::TinyInt | Kind::SmallInt | Kind::MediumInt | Kind::Int | Kind::BigInt => {
                let is_bool = kind == Kind::TinyInt && first == Some(1) && !unsigned;
                if self.prints_widths() || zerofill || is_bool { number(width(kind, unsigned)) } else { String::new() }
            }
            Kind::Decimal => format!("({},{})", first.filter(|digits| *digits > 0).unwrap_or(10), second.unwrap_or(0)),
            Kind::Float | Kind::Double => match (first, second) {
                (Some(first), Some(second)) => format!("({first},{second})"),
                _ => String::new(),
            },
            Kind::Bit => format!("({})", first.filter(|bits| *bits > 0).unwrap_or(1)),
            Kind::Year if self.prints_widths() => {
                if first == Some(2) {
                    "(2)".to_owned()
                } else {
                    "(4)".to_owned()
                }
            }
            Kind::Char | Kind::Binary => number(1),
            Kind::Varchar | Kind::Varbinary => number(0),
            Kind::Time | Kind::DateTime | Kind::Timestamp => match first {
                Some(digits) if digits > 0 => format!("({digits})"),
                _ => String::new(),
            },
            Kind::Vector => number(VECTOR_DIMENSIONS),
            Kind::Enum | Kind::Set => printed_labels(labels, binary),
            _ => String::new(),
        };
        let sign = if unsigned && kind.is_numeric() { " unsigned" } else { "" };
        let fill = if zerofill && kind.is_numeric() { " zerofill" } else { "" };
        let compression = match compressed {
            true if self.version < COMPRESSED_IS_MARIADBS_SINCE => " /*!100301 COMPRESSED*/",
            true => " /*M!100301 COMPRESSED*/",
            false => "",
        };
        let text = format!("{name}{detail}{sign}{fill}{compression}");
        // MySQL says of an ENUM of bytes that it has no collation.
        let has_collation = kind.is_character() && (!binary || self.mariadb);
        ColumnType::parse(&text, has_collation.then_some(collation), srid)
    }
}

fn name(kind: Kind, mariadb: bool, text: &str) -> &str {
    match kind {
        Kind::GeometryCollection if mariadb => "geometrycollection",
        Kind::GeometryCollection => "geomcollection",
        Kind::Other => text,
        kind => kind.name(),
    }
}

/// The width an integer has where none is said.
fn width(kind: Kind, unsigned: bool) -> u32 {
    match (kind, unsigned) {
        (Kind::TinyInt, true) => 3,
        (Kind::TinyInt, false) => 4,
        (Kind::SmallInt, true) => 5,
        (Kind::SmallInt, false) => 6,
        (Kind::MediumInt, true) => 8,
        (Kind::MediumInt, false) => 9,
        (Kind::Int, true) => 10,
        (Kind::Int, false) => 11,
        _ => 20,
    }
}

fn text_capacity(kind: Kind) -> Option<u64> {
    Some(match kind {
        Kind::TinyText => TINY_MAX_BYTES,
        Kind::Text => VARCHAR_MAX_BYTES,
        Kind::MediumText => MEDIUM_MAX_BYTES,
        Kind::LongText => LONG_MAX_BYTES,
        _ => return None,
    })
}

/// The smallest TEXT, or BLOB, that holds so many bytes.
fn text_for(bytes: u64, blob: bool) -> Kind {
    let kind = if bytes <= TINY_MAX_BYTES {
        Kind::TinyText
    } else if bytes <= VARCHAR_MAX_BYTES {
        Kind::Text
    } else if bytes <= MEDIUM_MAX_BYTES {
        Kind::MediumText
    } else {
        Kind::LongText
    };
    if blob { as_bytes(kind) } else { kind }
}

/// What a type of characters is where its character set is `binary`.
fn as_bytes(kind: Kind) -> Kind {
    match kind {
        Kind::Char => Kind::Binary,
        Kind::Varchar => Kind::Varbinary,
        Kind::TinyText => Kind::TinyBlob,
        Kind::Text => Kind::Blob,
        Kind::MediumText => Kind::MediumBlob,
        Kind::LongText => Kind::LongBlob,
        other => other,
    }
}

/// Spaces at the end of a label are not kept, but where they are bytes.
fn printed_labels(labels: &[String], binary: bool) -> String {
    let mut text = String::from("(");
    for (at, label) in labels.iter().enumerate() {
        text.push_str(if at == 0 { "'" } else { ",'" });
        let label = if binary { label } else { label.trim_end_matches(' ') };
        for character in label.chars() {
            match character {
                '\'' => text.push_str("''"),
                '\\' => text.push_str("\\\\"),
                '\0' => text.push_str("\\0"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                other => text.push(other),
            }
        }
        text.push('\'');
    }
    text.push(')');
    text
}
