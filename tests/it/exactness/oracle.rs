//! What a value's JSON has to be, from what psql prints.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use crate::support::Database;

/// How a type is written in our JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Bool,
    Int,
    Float4,
    Float8,
    Numeric,
    Json,
    Bytea,
    Timestamp,
    TimestampTz,
    /// A string, psql's own text: every other type.
    Text,
    /// `text`, read as the hexadecimal digits of its bytes: psql leaves characters such as U+1FFFF away.
    Characters,
    Array(Box<Kind>),
}

pub fn array(element: Kind) -> Kind {
    Kind::Array(Box::new(element))
}

/// What a value has to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// This token, byte for byte.
    Token(String),
    /// A string with this content.
    Text(String),
    /// A number that reads back as these bits, with no more digits than psql prints.
    Float4(f32, usize),
    Float8(f64, usize),
    List(Vec<Expected>),
}

impl Expected {
    pub fn null() -> Expected {
        Expected::Token("null".into())
    }

    /// Whether the JSON value `raw` is this.
    pub fn is(&self, raw: &str) -> bool {
        let number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        match self {
            Expected::Token(token) => raw == token,
            Expected::Text(text) => serde_json::from_str::<String>(raw).is_ok_and(|found| found == *text),
            Expected::Float4(value, most) => {
                number && raw.parse::<f32>().is_ok_and(|v| v.to_bits() == value.to_bits()) && digits(raw) <= *most
            }
            Expected::Float8(value, most) => {
                number && raw.parse::<f64>().is_ok_and(|v| v.to_bits() == value.to_bits()) && digits(raw) <= *most
            }
            Expected::List(expected) => {
                let found: Result<Vec<Box<RawValue>>, _> = serde_json::from_str(raw);
                found.is_ok_and(|found| {
                    found.len() == expected.len() && expected.iter().zip(&found).all(|(e, f)| e.is(f.get()))
                })
            }
        }
    }
}

/// The significant digits of a printed number.
pub fn digits(number: &str) -> usize {
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    digits.trim_matches('0').len()
}

/// A value that is no array, by psql's text of it.
fn scalar(kind: &Kind, text: &str) -> Expected {
    let quoted = |text: String| Expected::Text(text);
    match kind {
        Kind::Bool => Expected::Token(if text == "t" { "true" } else { "false" }.into()),
        Kind::Int => Expected::Token(text.into()),
        Kind::Float4 => match text {
            "NaN" | "Infinity" | "-Infinity" => quoted(text.into()),
            _ => Expected::Float4(text.parse().expect("a float"), digits(text)),
        },
        Kind::Float8 => match text {
            "NaN" | "Infinity" | "-Infinity" => quoted(text.into()),
            _ => Expected::Float8(text.parse().expect("a float"), digits(text)),
        },
        // A line break outside a string, the only place where JSON allows one, would end our line.
        // What is around the document is not part of the value as a JSON reader hands it out.
        Kind::Json => {
            let spaces = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r');
            Expected::Token(text.trim_matches(spaces).replace(['\n', '\r'], " "))
        }
        Kind::Bytea => quoted(STANDARD.encode(hex(text.strip_prefix("\\x").expect("hexadecimal output")))),
        Kind::Characters => quoted(String::from_utf8(hex(text)).expect("UTF-8")),
        Kind::Timestamp => quoted(timestamp(text, "")),
        Kind::TimestampTz => quoted(timestamp(text, "Z")),
        Kind::Numeric | Kind::Text => quoted(text.into()),
        Kind::Array(_) => unreachable!("an array is not read from its text"),
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a digit") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// `0044-03-15 12:00:00.5+00 BC` is `0044-03-15T12:00:00.500000Z BC`.
fn timestamp(text: &str, zone: &str) -> String {
    if text.ends_with("infinity") {
        return text.into();
    }
    let (rest, era) = text.strip_suffix(" BC").map_or((text, ""), |rest| (rest, " BC"));
    let rest = if zone.is_empty() { rest } else { rest.strip_suffix("+00").expect("UTC") };
    let (date, time) = rest.split_once(' ').expect("a date and a time");
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{date}T{seconds}.{fraction:0<6}{zone}{era}")
}

/// The settings that the values are printed under.
pub const PINS: &str = "set client_encoding to 'UTF8'; set quote_all_identifiers to off; set datestyle to 'ISO'; set intervalstyle to 'postgres';
    set timezone to 'UTC'; set extra_float_digits to 1; set bytea_output to 'hex'; set lc_monetary to 'C';
    set search_path to ''; set standard_conforming_strings to on; set xmloption to content;
    set statement_timeout to 0; set client_min_messages to warning;\n";

/// Printed for NULL; no value of the tests is this.
const NULL: &str = "<<NULL 7c1f>>";

/// Printed behind the rows of a query; no value of the tests is this.
const END: &str = "<<END 7c1f>>";

/// Rows of cells, None for NULL.
pub type Rows = Vec<Vec<Option<String>>>;

/// The rows of queries as psql prints them, with zero bytes between. Each query with the number of its columns. One client for
/// all of them: to start it takes longer than most queries.
pub fn rows(db: &Database<'_>, queries: &[(usize, String)]) -> Vec<Rows> {
    let mut script = format!("{PINS}\\pset null '{NULL}'\n\\pset fieldsep_zero on\n\\pset recordsep_zero on\n");
    for (_, query) in queries {
        let _ = writeln!(script, "{query};\nselect '{END}';");
    }
    let text = db.psql(&script);
    let mut fields = text.split('\0');
    let of_one = |(width, query): &(usize, String)| {
        let found: Vec<Option<String>> = fields
            .by_ref()
            .take_while(|field| *field != END)
            .map(|field| (field != NULL).then(|| field.into()))
            .collect();
        assert_eq!(found.len() % width, 0, "{query} gave {} fields", found.len());
        found.chunks(*width).map(<[_]>::to_vec).collect()
    };
    let all = queries.iter().map(of_one).collect();
    assert_eq!(fields.collect::<Vec<_>>(), [""], "the last record has an end");
    all
}

/// A column of a table: the table's name, its own, and what it holds.
pub type Column<'k> = (String, String, &'k Kind);

/// What each of the columns has to be in every row, by the row's `id`.
pub fn columns(db: &Database<'_>, columns: &[Column<'_>]) -> Vec<BTreeMap<i64, Expected>> {
    let mut queries = Vec::new();
    for (table, column, kind) in columns {
        match kind {
            // The server takes the arrays apart. (An empty one has no dimensions, and no element.)
            Kind::Array(_) => queries.extend([
                (2, format!("select id, pg_catalog.unnest({column}) from (select * from {table} order by id) t")),
                (3, format!("select id, {column}, pg_catalog.array_dims({column}) from {table}")),
            ]),
            Kind::Characters => queries.push((
                2,
                format!("select id, pg_catalog.encode(pg_catalog.convert_to({column}, 'UTF8'), 'hex') from {table}"),
            )),
            _ => queries.push((2, format!("select id, {column} from {table}"))),
        }
    }
    let mut answers = rows(db, &queries).into_iter();
    let id = |row: &[Option<String>]| row[0].as_ref().expect("an id").parse().expect("an id");
    let value =
        |kind: &Kind, text: &Option<String>| text.as_ref().map_or_else(Expected::null, |text| scalar(kind, text));
    let mut expected = |kind: &Kind| -> BTreeMap<i64, Expected> {
        let mut answer = || answers.next().expect("an answer for each query");
        let Kind::Array(element) = kind else {
            return answer().iter().map(|row| (id(row), value(kind, &row[1]))).collect();
        };
        let mut elements: BTreeMap<i64, Vec<Expected>> = BTreeMap::new();
        for row in answer() {
            elements.entry(id(&row)).or_default().push(value(element, &row[1]));
        }
        let whole = answer();
        let whole = whole.iter().map(|row| {
            let elements = elements.remove(&id(row)).unwrap_or_default();
            let expected = match (&row[1], &row[2]) {
                (None, _) => Expected::null(),
                (Some(_), None) => Expected::List(Vec::new()),
                (Some(text), Some(dims)) => match lengths(dims) {
                    Some(lengths) => nested(&lengths, &mut elements.into_iter()),
                    None => Expected::Text(text.clone()),
                },
            };
            (id(row), expected)
        });
        whole.collect()
    };
    columns.iter().map(|(_, _, kind)| expected(kind)).collect()
}

/// `[1:2][1:3]` is 2 and 3; none where an index does not begin with 1.
fn lengths(dims: &str) -> Option<Vec<usize>> {
    let dims = dims.trim_start_matches('[').trim_end_matches(']');
    dims.split("][").map(|dim| dim.strip_prefix("1:")?.parse().ok()).collect()
}

fn nested(lengths: &[usize], elements: &mut impl Iterator<Item = Expected>) -> Expected {
    match lengths {
        [] => elements.next().expect("as many elements as the dimensions say"),
        [length, inner @ ..] => Expected::List((0..*length).map(|_| nested(inner, elements)).collect()),
    }
}
