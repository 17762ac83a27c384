//! The values of a key: how they come out of a row, stand in a state entry, and go back into a query.
//!
//! Invariants:
//! - Values are compared by the server alone, in the column's own collation: here they are only carried. The exceptions
//!   are integers and binary strings, whose order is the same everywhere, and only to find something between two of them.
//! - A literal says its character set and carries its bytes in hexadecimal digits: no setting of the connection, no quote
//!   and no backslash can change what it means.
//! - What is read back from a state entry is checked: nothing but a literal can get into a query.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::super::schema::Kind;

/// How a key column's cells become literals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    Int {
        unsigned: bool,
    },
    Bit,
    Year,
    /// DECIMAL comes as its digits.
    Digits,
    Float,
    Double,
    Date,
    DateTime,
    Time,
    /// In this character set.
    Text(Box<str>),
    Binary,
    /// UUID and INET: printed, and compared as their type compares.
    Printed,
}

impl Form {
    /// None for a type whose order its literals do not follow: ENUM and SET are ordered by number and compared with a
    /// text as texts. `collation`: as information_schema prints it.
    pub fn of(kind: Kind, unsigned: bool, collation: Option<&str>) -> Option<Form> {
        Some(match kind {
            Kind::TinyInt | Kind::SmallInt | Kind::MediumInt | Kind::Int | Kind::BigInt => Form::Int { unsigned },
            Kind::Bit => Form::Bit,
            Kind::Year => Form::Year,
            Kind::Decimal => Form::Digits,
            Kind::Float => Form::Float,
            Kind::Double => Form::Double,
            Kind::Date => Form::Date,
            Kind::DateTime | Kind::Timestamp => Form::DateTime,
            Kind::Time => Form::Time,
            Kind::Char | Kind::Varchar | Kind::TinyText | Kind::Text | Kind::MediumText | Kind::LongText => {
                // A collation is named after its character set; `binary` is both.
                let charset = collation?.split('_').next()?;
                if !is_charset(charset) {
                    return None;
                }
                Form::Text(charset.into())
            }
            Kind::Binary | Kind::Varbinary | Kind::TinyBlob | Kind::Blob | Kind::MediumBlob | Kind::LongBlob => {
                Form::Binary
            }
            Kind::Uuid | Kind::Inet4 | Kind::Inet6 => Form::Printed,
            _ => return None,
        })
    }

    /// The value of a cell of the binary protocol. None for bytes that are not of the form.
    pub fn value(&self, cell: &[u8]) -> Option<KeyValue> {
        Some(match self {
            Form::Int { unsigned } => KeyValue::Number(int(cell, *unsigned)?.to_string()),
            Form::Bit => KeyValue::Number(uint_be(cell)?.to_string()),
            Form::Year => KeyValue::Printed(format!("{:04}", u16::from_le_bytes(cell.try_into().ok()?))),
            Form::Digits => KeyValue::Number(std::str::from_utf8(cell).ok()?.to_owned()),
            // The shortest digits that read back as the same double; FLOAT is compared as one.
            Form::Float => KeyValue::Number(format!("{:e}", f64::from(f32::from_le_bytes(cell.try_into().ok()?)))),
            Form::Double => KeyValue::Number(format!("{:e}", f64::from_le_bytes(cell.try_into().ok()?))),
            Form::Date => {
                let (year, month, day, _) = date(cell)?;
                KeyValue::Printed(format!("{year:04}-{month:02}-{day:02}"))
            }
            Form::DateTime => {
                let (year, month, day, rest) = date(cell)?;
                let (hours, minutes, seconds, micros) = clock(rest)?;
                KeyValue::Printed(format!(
                    "{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}.{micros:06}"
                ))
            }
            Form::Time => {
                let (negative, days, rest) = match cell {
                    [] => (0, 0, cell),
                    [negative, a, b, c, d, rest @ ..] => (*negative, u32::from_le_bytes([*a, *b, *c, *d]), rest),
                    _ => return None,
                };
                let (hours, minutes, seconds, micros) = clock(rest)?;
                let hours = u64::from(days) * 24 + u64::from(hours);
                let sign = if negative == 0 { "" } else { "-" };
                KeyValue::Printed(format!("{sign}{hours:02}:{minutes:02}:{seconds:02}.{micros:06}"))
            }
            Form::Text(charset) => KeyValue::Text { charset: charset.clone(), hex: hex(cell) },
            Form::Binary => KeyValue::Binary(hex(cell)),
            Form::Printed => KeyValue::Printed(std::str::from_utf8(cell).ok()?.to_owned()),
        })
        .filter(KeyValue::is_literal)
    }
}

/// MYSQL_TIME, a date: `int<2> year  int<1> month  int<1> day`, or nothing for the zero date.
fn date(cell: &[u8]) -> Option<(u16, u8, u8, &[u8])> {
    match cell {
        [] => Some((0, 0, 0, cell)),
        [a, b, month, day, rest @ ..] => Some((u16::from_le_bytes([*a, *b]), *month, *day, rest)),
        _ => None,
    }
}

/// MYSQL_TIME, the time of day: `int<1> hours, minutes, seconds  [int<4> microseconds]`, or nothing for midnight.
fn clock(rest: &[u8]) -> Option<(u8, u8, u8, u32)> {
    match *rest {
        [] => Some((0, 0, 0, 0)),
        [h, m, s] => Some((h, m, s, 0)),
        [h, m, s, a, b, c, d] => Some((h, m, s, u32::from_le_bytes([a, b, c, d]))),
        _ => None,
    }
}

fn int(cell: &[u8], unsigned: bool) -> Option<i128> {
    if cell.is_empty() || cell.len() > 8 {
        return None;
    }
    let bits = cell.iter().rev().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    let unused = 64 - 8 * cell.len() as u32;
    Some(if unsigned { i128::from(bits) } else { i128::from(((bits << unused) as i64) >> unused) })
}

fn uint_be(cell: &[u8]) -> Option<u64> {
    (cell.len() <= 8).then(|| cell.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

fn is_charset(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// One column's value, as SQL can say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyValue {
    Number(String),
    Text {
        charset: Box<str>,
        hex: String,
    },
    /// In hexadecimal digits.
    Binary(String),
    /// As the server prints it, between quotes.
    Printed(String),
}

impl KeyValue {
    /// Whether it is what it says it is, and nothing else.
    fn is_literal(&self) -> bool {
        let hexadecimal =
            |text: &str| text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match self {
            KeyValue::Number(text) => {
                text.bytes().any(|byte| byte.is_ascii_digit())
                    && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.e".contains(&byte))
                    && text.parse::<f64>().is_ok()
            }
            KeyValue::Text { charset, hex } => is_charset(charset) && hexadecimal(hex),
            KeyValue::Binary(hex) => hexadecimal(hex),
            KeyValue::Printed(text) => {
                !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit() || b"-:. ".contains(&byte))
            }
        }
    }

    fn write_sql(&self, sql: &mut String) {
        let _ = match self {
            KeyValue::Number(text) => write!(sql, "{text}"),
            KeyValue::Text { charset, hex } => write!(sql, "_{charset} x'{hex}'"),
            KeyValue::Binary(hex) => write!(sql, "x'{hex}'"),
            KeyValue::Printed(text) => write!(sql, "'{text}'"),
        };
    }

    /// A value that is not below `low` and is below `high`, about in the middle, where that can be told without the server:
    /// between integers and between binary strings.
    pub fn between(low: &KeyValue, high: &KeyValue) -> Option<KeyValue> {
        match (low, high) {
            (KeyValue::Number(low), KeyValue::Number(high)) => {
                let (low, high) = (low.parse::<i128>().ok()?, high.parse::<i128>().ok()?);
                (low < high).then(|| KeyValue::Number((low + (high - low) / 2).to_string()))
            }
            (KeyValue::Binary(low), KeyValue::Binary(high)) => {
                let (low, high) = (unhex(low)?, unhex(high)?);
                if low >= high {
                    return None;
                }
                // Behind what both begin with, 15 bytes decide.
                let same = low.iter().zip(&high).take_while(|(a, b)| a == b).count();
                let window = |bytes: &[u8]| {
                    (0..15).fold(0u128, |n, at| n << 8 | u128::from(bytes.get(same + at).copied().unwrap_or(0)))
                };
                let (from, to) = (window(&low), window(&high));
                let middle = from + to.saturating_sub(from) / 2;
                let mut bytes = high[..same].to_vec();
                bytes.extend_from_slice(&middle.to_be_bytes()[1..]);
                // Zeros at the end belong to no shorter value that is meant.
                let length = low.len().max(high.len()).min(bytes.len());
                bytes.truncate(length);
                if bytes < low {
                    bytes = low;
                }
                (bytes < high).then(|| KeyValue::Binary(hex(&bytes)))
            }
            _ => None,
        }
    }
}

/// A place in the key's order: a row's key, or the first columns of one, which stand for the last of all rows that have
/// them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub Vec<KeyValue>);

/// Rows behind one place up to and including another; none: from the beginning, to the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub after: Option<Key>,
    pub upto: Option<Key>,
}

impl Range {
    /// None for bytes that are not a range over a key of so many columns.
    pub fn from_bytes(bytes: &[u8], columns: usize) -> Option<Range> {
        let range: Range = serde_json::from_slice(bytes).ok()?;
        let sound = |key: &Option<Key>| {
            key.as_ref()
                .is_none_or(|key| (1..=columns).contains(&key.0.len()) && key.0.iter().all(KeyValue::is_literal))
        };
        (sound(&range.after) && sound(&range.upto)).then_some(range)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings and lists of strings: there is nothing in them that JSON could not say.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The conditions that select the range's rows; none for all. `columns`: quoted, in the key's order.
    ///
    /// The servers read no range of an index out of `(a, b) > (x, y)`, so it is written out, and the first column's bound
    /// is said once more by itself.
    pub fn conditions(&self, columns: &[String]) -> Vec<String> {
        let mut conditions = Vec::new();
        for (key, beyond, to) in [(&self.after, '>', ">"), (&self.upto, '<', "<=")] {
            let Some(key) = key else { continue };
            if key.0.len() > 1 {
                let mut sql = format!("{} {beyond}= ", columns[0]);
                key.0[0].write_sql(&mut sql);
                conditions.push(sql);
            }
            conditions.push(side(columns, &key.0, beyond, to));
        }
        conditions
    }
}

/// `(a > x OR (a = x AND b > y))`; `last` compares the last column.
fn side(columns: &[String], values: &[KeyValue], beyond: char, last: &str) -> String {
    let mut sql = String::new();
    match values {
        [] => sql.push_str("TRUE"),
        [value] => {
            let _ = write!(sql, "{} {last} ", columns[0]);
            value.write_sql(&mut sql);
        }
        [value, rest @ ..] => {
            let _ = write!(sql, "({} {beyond} ", columns[0]);
            value.write_sql(&mut sql);
            let _ = write!(sql, " OR ({} = ", columns[0]);
            value.write_sql(&mut sql);
            let _ = write!(sql, " AND {}))", side(&columns[1..], rest, beyond, last));
        }
    }
    sql
}

/// A place that parts the rows from `low` to `high`, both of which there are, into two ranges that are not empty: `low` is
/// not behind it, `high` is. None where only the server can tell one.
pub fn between(low: &Key, high: &Key) -> Option<Key> {
    let same = low.0.iter().zip(&high.0).take_while(|(a, b)| a == b).count();
    let middle = KeyValue::between(low.0.get(same)?, high.0.get(same)?)?;
    Some(Key(low.0[..same].iter().cloned().chain([middle]).collect()))
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
