//! The rows of a log as the server's own `mysqlbinlog -vv --base64-output=decode-rows` prints them.
//!
//! ```text
//! ### UPDATE `exact_1`.`t0`
//! ### WHERE
//! ###   @1=1 /* INT meta=0 nullable=0 is_null=0 */
//! ###   @2=-1 (255) /* TINYINT meta=0 nullable=1 is_null=0 */
//! ### SET
//! ###   @1=1 /* …
//! ```
//!
//! Its notation says less than the log does, and this is what is compared of each type:
//! - Integers are printed signed, with the unsigned number in brackets where that is another one.
//! - FLOAT has 6 digits, DOUBLE 20. A YEAR of 0 is printed as 1900. TIMESTAMP is in seconds since 1970.
//! - Texts come in their own character set, labels as numbers: what these stand for is asked of the server. A JSON document
//!   that is only a string has no quotes of its own.
//! - MySQL's does not know GEOMETRY and VECTOR. MariaDB's prints a quote and a backslash in a text as they are, and what is
//!   in a compressed column as it is stored.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::lines::{Line, Object};
use super::hex;
use super::types::{Entry, Kind};
use crate::support::mysql::{Client, Database};

/// A row's event: `c`, `u` or `d`, its table, and the column `v` before and after.
#[derive(Debug)]
pub struct Printed {
    op: &'static str,
    table: String,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
}

/// All rows of the database in a file, in the log's order.
pub fn rows(db: &Database<'_>, file: &str) -> Vec<Printed> {
    let mut program = db.server().program("mysqlbinlog");
    let port = db.server().port().to_string();
    program.args(["-vv", "--base64-output=decode-rows", "--read-from-remote-server", "--protocol=tcp"]);
    program.args(["-h", "127.0.0.1", "-P", &port, "-u", "root", "-d", db.name(), file]).env("MYSQL_PWD", "secret");
    let output = program.output().expect("mysqlbinlog runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let own = format!("`{}`.`", db.name());
    let mut rows: Vec<Printed> = Vec::new();
    let mut after = true;
    for line in output.stdout.split(|&byte| byte == b'\n') {
        let Some(line) = line.strip_prefix(b"### ") else { continue };
        let text = String::from_utf8_lossy(line);
        let event = [("INSERT INTO ", "c"), ("UPDATE ", "u"), ("DELETE FROM ", "d")];
        let begins = event.iter().find_map(|(words, op)| Some((*op, text.strip_prefix(words)?.strip_prefix(&own)?)));
        if let Some((op, name)) = begins {
            rows.push(Printed { op, table: name.trim_end_matches('`').to_owned(), before: None, after: None });
        } else if let Some(value) = line.strip_prefix(b"  @2=") {
            let row = rows.last_mut().expect("a row before its columns");
            *(if after { &mut row.after } else { &mut row.before }) = Some(value.to_owned());
        } else if text == "WHERE" || text == "SET" {
            after = text == "SET";
        }
    }
    rows
}

/// What the values of a table are in the log, by their text: bytes, or the numbers of labels.
type Stored = BTreeMap<String, BTreeSet<Vec<u8>>>;

/// As long as the values are there, table by table.
pub fn stored(db: &Database<'_>, entries: &[Entry]) -> Vec<Stored> {
    let mut session = db.server().session(db.name());
    entries.iter().enumerate().map(|(at, entry)| stored_in(&mut session, at, entry)).collect()
}

fn stored_in(session: &mut Client, at: usize, entry: &Entry) -> Stored {
    let of_labels = entry.name.starts_with("enum") || entry.name.starts_with("set");
    let value = match entry.kind {
        Kind::Characters => "hex(v)".to_owned(),
        Kind::Text if of_labels => "hex(convert(cast(cast(v + 0 as unsigned) as char) using utf8mb4))".to_owned(),
        _ => return Stored::new(),
    };
    let sql = format!("select hex(convert(cast(v as char) using utf8mb4)), {value} from t{at} where v is not null");
    let mut stored = Stored::new();
    for row in session.sql(&sql) {
        let (text, value) = row.split_once('|').expect("two columns");
        let text = String::from_utf8(hex(text)).expect("UTF-8");
        stored.entry(text).or_default().insert(hex(value));
    }
    stored
}

/// Compares our events with those that are printed.
pub fn wrong(entries: &[Entry], stored: &[Stored], mariadb: bool, events: &[Line], printed: &[Printed]) -> Vec<String> {
    let number = |table: &str| table[1..].parse::<usize>().expect("a table's number");
    let known = |table: &str| {
        let entry = &entries[number(table)];
        if mariadb { !entry.name.contains(" compressed") } else { !is_unknown_to_mysql(entry) }
    };
    let events: Vec<&Line> = events.iter().filter(|line| known(&line.table)).collect();
    let printed: Vec<&Printed> = printed.iter().filter(|row| known(&row.table)).collect();
    assert_eq!(events.len(), printed.len(), "rows in the log");
    let mut wrong = Vec::new();
    for (line, row) in events.into_iter().zip(printed) {
        assert_eq!((line.op.as_str(), &line.table), (row.op, &row.table));
        let at = number(&line.table);
        for (what, ours, theirs) in [("before", &line.before, &row.before), ("after", &line.after, &row.after)] {
            assert_eq!(ours.is_some(), theirs.is_some(), "{} {what}", entries[at].name);
            let (Some(ours), Some(theirs)) = (ours, theirs) else { continue };
            let raw = value_of(ours);
            if !agrees(&entries[at], &stored[at], mariadb, raw, theirs) {
                let theirs = String::from_utf8_lossy(theirs);
                wrong.push(format!("{} {what} a {}: {raw:.300} is printed as {theirs:.300}", entries[at].name, row.op));
            }
        }
    }
    wrong
}

fn value_of(object: &Object) -> &str {
    object.get("v").expect("a value")
}

/// Whether a value of ours, as it stands in JSON, is what was printed.
fn agrees(entry: &Entry, stored: &Stored, mariadb: bool, raw: &str, printed: &[u8]) -> bool {
    let end = printed.windows(4).rposition(|part| part == b" /* ").expect("a comment with the type");
    let printed = printed[..end].trim_ascii_end();
    if printed == b"NULL" || (raw == "null" && entry.kind != Kind::Json) {
        return raw == "null" && printed == b"NULL";
    }
    let ours: Value = serde_json::from_str(raw).expect("JSON");
    let text = || ours.as_str().expect("a string").to_owned();
    let token = || std::str::from_utf8(printed).expect("ASCII");
    let quoted = || unquoted(printed, mariadb);
    let plain = || String::from_utf8(quoted()).expect("UTF-8");
    match entry.kind {
        Kind::Int if entry.name == "year" => token() == raw.replace("null", "") || (raw == "0" && token() == "1900"),
        Kind::Int => {
            let (signed, unsigned) = token().split_once(" (").unwrap_or((token(), token()));
            let of_sign = entry.name.contains("unsigned") || entry.name.contains("zerofill");
            raw == if of_sign { unsigned.trim_end_matches(')') } else { signed }
        }
        Kind::Bit => bits(token()).to_string() == raw,
        Kind::Float4 | Kind::Single if !entry.name.starts_with("double") => {
            let (ours, theirs): (f64, f64) = (raw.parse().expect("a float"), token().parse().expect("a float"));
            // Six digits of it.
            format!("{:.5e}", f64::from(ours as f32)) == format!("{theirs:.5e}")
        }
        Kind::Float4 | Kind::Single | Kind::Float8 | Kind::Double => {
            let (ours, theirs): (f64, f64) = (raw.parse().expect("a double"), token().parse().expect("a double"));
            ours == theirs
        }
        Kind::Decimal => text() == token(),
        Kind::Date => text().replace('-', ":") == plain().replace('-', ":"),
        Kind::DateTime => padded(&text().replace('T', " ")) == padded(&plain()),
        Kind::Timestamp => seconds(&text()) == padded(token()),
        Kind::Time => text() == plain(),
        // A document that is only a string has no quotes.
        Kind::Json if ours.is_string() => text() == plain(),
        Kind::Json => serde_json::from_slice::<Value>(&quoted()).is_ok_and(|theirs| theirs == ours),
        Kind::Characters => stored.get(&text()).is_some_and(|stored| stored.contains(&quoted())),
        Kind::Text if !stored.is_empty() => {
            let number = if entry.name.starts_with("set") { set(token()) } else { token().parse().expect("a number") };
            stored.get(&text()).is_some_and(|stored| stored.contains(number.to_string().as_bytes()))
        }
        Kind::Bytes => {
            // The zeros at the end of a BINARY are not logged.
            let (ours, theirs) = (STANDARD.decode(text()).expect("base64"), quoted());
            let fixed = entry.name.starts_with("binary");
            ours == theirs || (fixed && ours.starts_with(&theirs) && ours[theirs.len()..].iter().all(|byte| *byte == 0))
        }
        Kind::Vector => {
            let floats = ours.as_array().expect("a list").iter().map(|float| float.as_f64().expect("a float") as f32);
            floats.flat_map(f32::to_le_bytes).collect::<Vec<_>>() == quoted()
        }
        Kind::Text => network(entry, &text(), &quoted()),
    }
}

/// "!! Don't know how to handle column type", and it leaves out the rest of the event.
fn is_unknown_to_mysql(entry: &Entry) -> bool {
    entry.kind == Kind::Vector || ["geometry", "point", "polygon"].contains(&entry.name.as_str())
}

/// MariaDB's addresses and UUIDs are bytes of their digits, UUIDs of versions 1 and up perhaps in another order; zeros at
/// the end are not logged.
fn network(entry: &Entry, text: &str, bytes: &[u8]) -> bool {
    let mut ours: Vec<u8> = match entry.name.as_str() {
        "inet6" => text.parse::<std::net::Ipv6Addr>().expect("an address").octets().into(),
        "inet4" => text.parse::<std::net::Ipv4Addr>().expect("an address").octets().into(),
        "uuid" => hex(&text.replace('-', "").to_uppercase()),
        other => panic!("what is a {other}?"),
    };
    let mut theirs = bytes.to_vec();
    theirs.resize(ours.len(), 0);
    if entry.name == "uuid" && ours != theirs {
        // Node, clock, then time from its highest part down.
        ours = [&ours[10..], &ours[8..10], &ours[6..8], &ours[4..6], &ours[..4]].concat();
    }
    ours == theirs
}

/// `b'0101'`
fn bits(token: &str) -> u64 {
    u64::from_str_radix(token.trim_start_matches("b'").trim_end_matches('\''), 2).expect("bits")
}

/// The bits of a set, whose bytes are printed from the lowest on.
fn set(token: &str) -> u64 {
    let bytes = token.trim_start_matches("b'").trim_end_matches('\'').as_bytes().chunks(8);
    bytes.rev().fold(0, |number, byte| number << 8 | bits(std::str::from_utf8(byte).expect("ASCII")))
}

/// With the six digits of a fraction.
fn padded(text: &str) -> String {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}.{fraction:0<6}")
}

/// A moment of ours (or the zero moment) in seconds since 1970, with six digits.
fn seconds(text: &str) -> String {
    if text.starts_with("0000-00-00") {
        return "0.000000".to_owned();
    }
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().expect("a number");
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    // Days of the years before, counted from March on.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + number(11..13) * 3_600 + number(14..16) * 60 + number(17..19);
    format!("{seconds}.{}", &text[20..26])
}

/// The bytes between the quotes. MariaDB prints those below a blank as `\x1f`, and an `\x` of the text as it is.
fn unquoted(printed: &[u8], mariadb: bool) -> Vec<u8> {
    let inner = printed.strip_prefix(b"'").and_then(|rest| rest.strip_suffix(b"'"));
    let mut rest = inner.unwrap_or_else(|| panic!("no quotes around {}", String::from_utf8_lossy(printed)));
    let mut bytes = Vec::new();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        let escaped = rest.first().copied().filter(|_| byte == b'\\');
        let in_hex = rest.get(1..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        let (value, length) = match (escaped, in_hex) {
            (Some(b'x'), Some(value)) if value < b' ' || !mariadb => (value, 3),
            (Some(letter), _) if !mariadb => (
                match letter {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'0' => 0,
                    b'b' => 8,
                    b'f' => 12,
                    b'v' => 11,
                    b'a' => 7,
                    other => other,
                },
                1,
            ),
            _ => (byte, 0),
        };
        bytes.push(value);
        rest = &rest[length..];
    }
    bytes
}
