//! The type of a column, as information_schema.COLUMNS.COLUMN_TYPE prints it and in its parts.
//!
//! Invariants:
//! - `text` is what the server prints, to the byte; the other fields say the same in parts.
//! - A type of a plugin or of a later server is [`Kind::Other`], with its text: its table is known, the column cannot be
//!   decoded.
//! - Labels are UTF-8, as the server's catalog has them, unescaped.

use super::collation::canonical;

/// What stands before the parentheses, with the synonyms gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    TinyInt,
    SmallInt,
    MediumInt,
    Int,
    BigInt,
    Decimal,
    Float,
    Double,
    Bit,
    Year,
    Date,
    Time,
    DateTime,
    Timestamp,
    Char,
    Varchar,
    TinyText,
    Text,
    MediumText,
    LongText,
    Binary,
    Varbinary,
    TinyBlob,
    Blob,
    MediumBlob,
    LongBlob,
    Enum,
    Set,
    /// MySQL's binary JSON. MariaDB's is `LongText`, see [`super::ColumnDef::json`].
    Json,
    Geometry,
    Point,
    LineString,
    Polygon,
    MultiPoint,
    MultiLineString,
    MultiPolygon,
    GeometryCollection,
    Vector,
    Uuid,
    Inet4,
    Inet6,
    Other,
}

/// Shared between all columns of the type, in whatever table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ColumnType {
    /// As information_schema.COLUMNS.COLUMN_TYPE prints it: `int unsigned`, `enum('a','b')`, `varchar(20)`.
    pub text: Box<str>,
    pub kind: Kind,
    /// The number in parentheses. CHAR, VARCHAR: characters; BINARY, VARBINARY: bytes; BIT: bits; VECTOR: dimensions;
    /// DECIMAL: digits in all; integers, YEAR, FLOAT and DOUBLE: display width. 0 where none is printed.
    pub length: u32,
    /// DECIMAL, FLOAT and DOUBLE: digits behind the point; temporal types: digits of a second's fraction.
    pub scale: u8,
    pub unsigned: bool,
    pub zerofill: bool,
    /// MariaDB's column compression: the cells are of its own form.
    pub compressed: bool,
    /// TIME, DATETIME and TIMESTAMP in the binary form before MySQL 5.6 and MariaDB 10.1.
    pub old_temporal: bool,
    /// ENUM and SET: in their order.
    pub labels: Box<[Box<str>]>,
    /// As information_schema.COLUMNS.COLLATION_NAME of today's servers prints it (`utf8` is `utf8mb3`); none where the type has no character set.
    pub collation: Option<Box<str>>,
    /// MySQL's SRID attribute of a geometry.
    pub srid: Option<u32>,
}

/// Names of types as servers print them.
const NAMES: [(&str, Kind); 42] = [
    ("tinyint", Kind::TinyInt),
    ("smallint", Kind::SmallInt),
    ("mediumint", Kind::MediumInt),
    ("int", Kind::Int),
    ("bigint", Kind::BigInt),
    ("decimal", Kind::Decimal),
    ("float", Kind::Float),
    ("double", Kind::Double),
    ("bit", Kind::Bit),
    ("year", Kind::Year),
    ("date", Kind::Date),
    ("time", Kind::Time),
    ("datetime", Kind::DateTime),
    ("timestamp", Kind::Timestamp),
    ("char", Kind::Char),
    ("varchar", Kind::Varchar),
    ("tinytext", Kind::TinyText),
    ("text", Kind::Text),
    ("mediumtext", Kind::MediumText),
    ("longtext", Kind::LongText),
    ("binary", Kind::Binary),
    ("varbinary", Kind::Varbinary),
    ("tinyblob", Kind::TinyBlob),
    ("blob", Kind::Blob),
    ("mediumblob", Kind::MediumBlob),
    ("longblob", Kind::LongBlob),
    ("enum", Kind::Enum),
    ("set", Kind::Set),
    ("json", Kind::Json),
    ("geometry", Kind::Geometry),
    ("point", Kind::Point),
    ("linestring", Kind::LineString),
    ("polygon", Kind::Polygon),
    ("multipoint", Kind::MultiPoint),
    ("multilinestring", Kind::MultiLineString),
    ("multipolygon", Kind::MultiPolygon),
    ("geomcollection", Kind::GeometryCollection),
    ("geometrycollection", Kind::GeometryCollection),
    ("vector", Kind::Vector),
    ("uuid", Kind::Uuid),
    ("inet4", Kind::Inet4),
    ("inet6", Kind::Inet6),
];

impl Kind {
    /// By the name a server prints; `Other` for any it does not know.
    pub fn named(name: &str) -> Kind {
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or(Kind::Other, |(_, kind)| *kind)
    }

    /// The name servers print; of a geometry collection and of types we do not know there is no one name.
    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether its values are characters, so that a character set belongs to it.
    pub fn is_character(self) -> bool {
        matches!(
            self,
            Kind::Char
                | Kind::Varchar
                | Kind::TinyText
                | Kind::Text
                | Kind::MediumText
                | Kind::LongText
                | Kind::Enum
                | Kind::Set
        )
    }

    pub fn is_geometry(self) -> bool {
        matches!(
            self,
            Kind::Geometry
                | Kind::Point
                | Kind::LineString
                | Kind::Polygon
                | Kind::MultiPoint
                | Kind::MultiLineString
                | Kind::MultiPolygon
                | Kind::GeometryCollection
        )
    }

    /// Integers and the other numbers that may be UNSIGNED and ZEROFILL.
    pub fn is_numeric(self) -> bool {
        matches!(
            self,
            Kind::TinyInt
                | Kind::SmallInt
                | Kind::MediumInt
                | Kind::Int
                | Kind::BigInt
                | Kind::Decimal
                | Kind::Float
                | Kind::Double
        )
    }

    /// TIME, DATETIME, TIMESTAMP: those with digits of a second's fraction.
    pub fn has_fraction(self) -> bool {
        matches!(self, Kind::Time | Kind::DateTime | Kind::Timestamp)
    }
}

impl ColumnType {
    /// From information_schema.COLUMNS: COLUMN_TYPE, COLLATION_NAME and SRS_ID. What does not read as a type is
    /// [`Kind::Other`].
    ///
    /// ```text
    /// name [ "(" number ["," number] ")" | "(" 'label' {"," 'label'} ")" ] [" unsigned"] [" zerofill"] {" /*…*/"}
    /// ```
    pub fn parse(column_type: &str, collation: Option<&str>, srid: Option<u32>) -> ColumnType {
        let mut parsed = ColumnType {
            text: column_type.into(),
            kind: Kind::Other,
            length: 0,
            scale: 0,
            unsigned: false,
            zerofill: false,
            compressed: false,
            old_temporal: false,
            labels: Box::default(),
            collation: collation.map(|name| canonical(name).into()),
            srid,
        };
        if parsed.read(column_type).is_none() {
            parsed = ColumnType {
                text: column_type.into(),
                kind: Kind::Other,
                collation: collation.map(|name| canonical(name).into()),
                srid,
                length: 0,
                scale: 0,
                unsigned: false,
                zerofill: false,
                compressed: false,
                old_temporal: false,
                labels: Box::default(),
            };
        }
        parsed
    }

    fn read(&mut self, text: &str) -> Option<()> {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        let (name, mut rest) = text.split_at(end);
        self.kind = Kind::named(name);
        if self.kind == Kind::Other {
            return None;
        }
        if let Some(inside) = rest.strip_prefix('(') {
            if matches!(self.kind, Kind::Enum | Kind::Set) {
                let (labels, behind) = read_labels(inside)?;
                (self.labels, rest) = (labels, behind);
            } else {
                let (numbers, behind) = inside.split_once(')')?;
                rest = behind;
                let (first, second) = match numbers.split_once(',') {
                    Some((first, second)) => (first, Some(second)),
                    None => (numbers, None),
                };
                if self.kind.has_fraction() {
                    self.scale = first.parse().ok()?;
                } else {
                    self.length = first.parse().ok()?;
                }
                if let Some(second) = second {
                    self.scale = second.parse().ok()?;
                }
            }
        }
        while !rest.is_empty() {
            rest = rest.trim_start();
            if let Some(behind) = rest.strip_prefix("unsigned") {
                (self.unsigned, rest) = (true, behind);
            } else if let Some(behind) = rest.strip_prefix("zerofill") {
                (self.zerofill, rest) = (true, behind);
            } else {
                let (comment, behind) = rest.strip_prefix("/*")?.split_once("*/")?;
                rest = behind;
                if comment.ends_with("COMPRESSED") {
                    self.compressed = true;
                } else if comment.contains("mariadb-5.3") || comment.contains("5.5 binary format") {
                    self.old_temporal = true;
                }
            }
        }
        Some(())
    }

    /// The character set's name, as the collation tells it: `utf8mb4`, `latin1`, `binary`; `utf8` is `utf8mb3`.
    pub fn charset(&self) -> Option<&str> {
        self.collation.as_deref().map(charset_of)
    }
}

/// The character set of a collation: what its name starts with.
pub(super) fn charset_of(collation: &str) -> &str {
    match collation.split_once('_').map_or(collation, |(charset, _)| charset) {
        "utf8" => "utf8mb3",
        charset => charset,
    }
}

/// Labels up to the closing parenthesis, and what stands behind it. Servers print a quote doubled, and escape a
/// backslash, NUL, newline and carriage return.
fn read_labels(mut rest: &str) -> Option<(Box<[Box<str>]>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.strip_prefix('\'')?;
        let mut label = String::new();
        loop {
            let stop = rest.find(['\'', '\\'])?;
            label.push_str(&rest[..stop]);
            let escape = rest.as_bytes()[stop];
            rest = &rest[stop + 1..];
            if escape == b'\\' {
                let escaped = rest.chars().next()?;
                label.push(match escaped {
                    '0' => '\0',
                    'n' => '\n',
                    'r' => '\r',
                    other => other,
                });
                rest = &rest[escaped.len_utf8()..];
            } else if let Some(behind) = rest.strip_prefix('\'') {
                label.push('\'');
                rest = behind;
            } else {
                break;
            }
        }
        labels.push(label.into());
        if let Some(behind) = rest.strip_prefix(')') {
            return Some((labels.into(), behind));
        }
        rest = rest.strip_prefix(',')?;
    }
}
