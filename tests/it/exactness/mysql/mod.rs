//! Every type of MySQL and MariaDB with its edge values, by every way a row can come.

mod charsets;
mod documents;
mod log;
mod printed;
mod rows;
mod tables;
mod types;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::lines::{Follower, Line, Object};
use super::oracle::{Expected, digits};
use crate::support::mysql::{Client, Database, Server, Version};
use types::{Entry, Kind};

/// Copied rows have the original's `id` and this much more.
const COPIES: usize = 1_000_000;

/// Zero and invalid dates, invalid labels, what is too long: all that the server can hold.
const SESSION: &str = "set sql_mode = 'ALLOW_INVALID_DATES'; set time_zone = '+00:00'; set names utf8mb4;\n";

#[test]
fn every_type_on_mysql_9_7() {
    every_type(Version::MySql97);
}

#[test]
fn every_type_on_mariadb_10_5() {
    every_type(Version::MariaDb105);
}

#[test]
fn every_type_on_mariadb_10_11() {
    every_type(Version::MariaDb1011);
}

#[test]
fn every_type_on_mariadb_11_8() {
    every_type(Version::MariaDb118);
}

/// Without names, keys, signs, character sets and labels in the log.
#[test]
fn every_type_by_the_schema_alone() {
    for version in [Version::MySql97, Version::MariaDb1011] {
        let Some(server) = Server::own(version, &["binlog-row-metadata=MINIMAL"]) else { continue };
        compare(&server, &types::entries(version));
    }
}

/// As tables of MySQL 5.5 and MariaDB 5.3 have them, and all that MariaDB makes with this setting.
#[test]
fn the_older_temporal_types_of_mariadb() {
    for version in [Version::MariaDb1011, Version::MariaDb118] {
        let Some(server) = Server::own(version, &["mysql56-temporal-format=OFF"]) else { continue };
        let mut entries = types::entries(version);
        entries.retain(|entry| matches!(entry.kind, Kind::DateTime | Kind::Timestamp | Kind::Time));
        compare(&server, &entries);
    }
}

/// Values come with whatever zones and character sets the server has as its own.
#[test]
fn the_servers_settings_do_not_matter() {
    for version in [Version::MySql97, Version::MariaDb118] {
        let settings = [
            "default-time-zone=-09:30",
            "character-set-server=latin1",
            "collation-server=latin1_german1_ci",
            "sql-mode=ANSI,PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES",
            "div-precision-increment=0",
        ];
        let Some(server) = Server::own(version, &settings) else { continue };
        let mut entries = types::entries(version);
        // The letters of all character sets are compared elsewhere.
        entries.retain(|entry| !entry.of_all_letters);
        compare(&server, &entries);
    }
}

/// The decoders by themselves, without a connection: also against what the server's `mysqlbinlog` prints.
#[test]
fn every_type_by_the_decoders() {
    for version in Version::ALL {
        // Its own: a log file is read from its beginning to its end.
        let Some(server) = Server::own(version, &[]) else { continue };
        of_file(&server, &types::entries(version), true);
    }
}

/// As [`the_older_temporal_types_of_mariadb`], by the decoders alone. How long a value with parts of seconds is stands in no
/// log: `mysqlbinlog` ends with an error there.
#[test]
fn the_older_temporal_types_by_the_decoders() {
    for version in [Version::MariaDb1011, Version::MariaDb118] {
        let Some(server) = Server::own(version, &["mysql56-temporal-format=OFF"]) else { continue };
        let mut entries = types::entries(version);
        entries.retain(|entry| matches!(entry.kind, Kind::DateTime | Kind::Timestamp | Kind::Time));
        let (whole, parts): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.name.ends_with("(0)"));
        of_file(&server, &whole, true);
        of_file(&server, &parts, false);
    }
}

/// `is_printed`: whether `mysqlbinlog` can print the types.
fn of_file(server: &Server, entries: &[Entry], is_printed: bool) {
    let db = server.database("log");
    db.sql(&setup(entries));
    let first = columns(&db, entries, 0);
    let stored = printed::stored(&db, entries);
    let mut wrong = wrong_rows(entries, &first, &by_table(rows::lines(&db)));
    let file = log::new_file(server);
    db.sql(&changes(entries));
    let second = columns(&db, entries, 1);
    db.sql(&deletes(entries));
    let events = log::lines(&db, &file);
    if is_printed {
        let mariadb = server.version().is_mariadb();
        wrong.extend(printed::wrong(entries, &stored, mariadb, &events, &printed::rows(&db, &file)));
    }
    wrong.extend(wrong_events(entries, &first, &second, &by_table(events)));
    report(server, wrong);
}

fn every_type(version: Version) {
    let Some(server) = Server::get(version) else { return };
    compare(server, &types::entries(version));
}

/// Compares the snapshot and the stream with what the server says of the same rows.
fn compare(server: &Server, entries: &[Entry]) {
    let db = server.database("exact");
    db.sql(&setup(entries));
    let tables = db.tables();
    let follower = Follower::new(&db.url(), &["--snapshot-workers", "2", &tables[0], &tables[1]]);
    let first = columns(&db, entries, 0);
    let snapshot = by_table(follower.lines());

    db.sql(&changes(entries));
    let second = columns(&db, entries, 1);
    db.sql(&deletes(entries));
    let stream = by_table(follower.lines());

    let mut wrong = wrong_rows(entries, &first, &snapshot);
    wrong.extend(wrong_events(entries, &first, &second, &stream));
    report(server, wrong);
}

/// Compares a snapshot with the server's rows.
fn wrong_rows(
    entries: &[Entry],
    first: &[BTreeMap<usize, Expected>],
    snapshot: &BTreeMap<String, Vec<Line>>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let table = format!("t{at}");
        let rows = snapshot.get(&table).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(rows.len(), first[at].len(), "snapshot rows of {}", entry.name);
        for line in rows {
            assert_eq!((line.op.as_str(), line.before.is_none()), ("r", true));
            wrong.extend(wrong_value(entry, "the snapshot", &first[at], &line.after));
        }
    }
    wrong
}

/// Compares the stream with the server's rows: before the last updates and after them.
fn wrong_events(
    entries: &[Entry],
    first: &[BTreeMap<usize, Expected>],
    second: &[BTreeMap<usize, Expected>],
    events: &BTreeMap<String, Vec<Line>>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let table = format!("t{at}");
        let mut check = |what, expected, object| wrong.extend(wrong_value(entry, what, expected, object));
        let count = first[at].len();
        let mut counts = BTreeMap::new();
        for line in events.get(&table).map(Vec::as_slice).unwrap_or_default() {
            assert!(line.unchanged.is_empty(), "{}: unchanged {:?}", entry.name, line.unchanged);
            let nth = counts.entry(line.op.as_str()).or_insert(0);
            *nth += 1;
            match line.op.as_str() {
                // The copies stay as they are; a server may not copy what it holds (MySQL, labels in ucs2).
                "c" => check("the insert", &second[at], &line.after),
                // The first round of updates leaves the value as it is.
                "u" if *nth <= count => {
                    check("the old row of an update", &first[at], &line.before);
                    check("the new row of an update without it", &first[at], &line.after);
                }
                "u" => {
                    check("the old row of its update", &first[at], &line.before);
                    check("the new row of its update", &second[at], &line.after);
                }
                "d" => check("the delete", &second[at], &line.before),
                op => panic!("{op} on {}", entry.name),
            }
        }
        let counts: Vec<_> = counts.into_iter().collect();
        assert_eq!(counts, [("c", count), ("d", 2 * count), ("u", 2 * count)], "events of {}", entry.name);
    }
    wrong
}

/// What is wrong with a row.
fn wrong_value(
    entry: &Entry,
    what: &str,
    expected: &BTreeMap<usize, Expected>,
    object: &Option<Object>,
) -> Option<String> {
    let object = object.as_ref().expect("a row");
    let id: usize = object.get("id").and_then(|id| id.parse().ok()).expect("an id");
    let expected = expected.get(&id).or(expected.get(&(id % COPIES))).expect("a row with this id");
    let raw = object.get("v").unwrap_or("(absent)");
    let shown = format!("{expected:?}");
    (!expected.is(raw)).then(|| format!("{} {what} of {id}: {raw:.300} is not {shown:.300}", entry.name))
}

fn report(server: &Server, mut wrong: Vec<String>) {
    let (version, count) = (server.version().name(), wrong.len());
    // One wrong table of letters is thousands of wrong values.
    wrong.truncate(200);
    assert!(wrong.is_empty(), "{count} wrong on {version}:\n{}", wrong.join("\n"));
}

fn by_table(lines: Vec<Line>) -> BTreeMap<String, Vec<Line>> {
    let mut tables: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for line in lines {
        tables.entry(line.table.clone()).or_default().push(line);
    }
    tables
}

/// A table a type, a row a value, and one row of NULL.
fn setup(entries: &[Entry]) -> String {
    let mut sql = SESSION.to_owned();
    for (at, entry) in entries.iter().enumerate() {
        let _ = writeln!(sql, "create table t{at} (id int primary key, v {} null, n int default 0);", entry.name);
        for (id, value) in (1..).zip(entry.values.iter().map(String::as_str).chain(["null"])) {
            let _ = writeln!(sql, "insert into t{at} (id, v) values ({id}, {value});");
        }
    }
    sql
}

/// Updates another column, inserts every row again, then gives each of the first ones the next one's value.
fn changes(entries: &[Entry]) -> String {
    let mut sql = format!("{SESSION}begin;\n");
    for (at, entry) in entries.iter().enumerate() {
        let rows = entry.values.len() + 1;
        let _ = writeln!(
            sql,
            "update t{at} set n = n + 1;
             insert into t{at} (id, v) select id + {COPIES}, v from t{at};
             update t{at} a join t{at} b on b.id = {COPIES} + a.id % {rows} + 1 set a.v = b.v, a.n = a.n + 1
             where a.id < {COPIES};"
        );
    }
    sql + "commit;\n"
}

fn deletes(entries: &[Entry]) -> String {
    (0..entries.len()).map(|at| format!("delete from t{at};\n")).collect()
}

/// What each row of each table has to be, by what the server says. `shift`: how often each has got the next one's value.
fn columns(db: &Database<'_>, entries: &[Entry], shift: usize) -> Vec<BTreeMap<usize, Expected>> {
    let mut session = db.server().session(db.name());
    session.sql(SESSION);
    entries.iter().enumerate().map(|(at, entry)| column(&mut session, at, entry, shift)).collect()
}

fn column(session: &mut Client, at: usize, entry: &Entry, shift: usize) -> BTreeMap<usize, Expected> {
    if matches!(entry.kind, Kind::Single | Kind::Double) {
        let float = |sql: &String| expected(entry, sql.clone().into_bytes());
        let values: Vec<_> = entry.values.iter().map(float).chain([Expected::null()]).collect();
        let of_id = |id: usize| values[(id - 1 + shift) % values.len()].clone();
        let copies = (1..=values.len()).map(|id| (COPIES + id, values[id - 1].clone()));
        return (1..=values.len()).map(|id| (id, of_id(id))).chain(copies.filter(|_| shift > 0)).collect();
    }
    // Digits of its text in UTF-8, or of its bytes: nothing on the way can change them.
    let text = |expression: &str| format!("hex(convert({expression} using utf8mb4))");
    let said = match entry.kind {
        Kind::Int => text("cast(v + 0 as char)"),
        Kind::Bit => text("cast(cast(v as unsigned) as char)"),
        // FLOAT is printed with 6 digits; as a double it keeps its bits.
        Kind::Float4 | Kind::Float8 => text("cast(v + 0e0 as char)"),
        // The server does not print all of a double's digits where that takes more than 22 characters.
        Kind::Single | Kind::Double => unreachable!("known by what was written"),
        Kind::Bytes | Kind::Vector => "hex(v)".to_owned(),
        Kind::Characters => text("v"),
        Kind::Decimal | Kind::Date | Kind::DateTime | Kind::Timestamp | Kind::Time | Kind::Text | Kind::Json => {
            text("cast(v as char)")
        }
    };
    let rows = session.sql(&format!("select id, {said} from t{at} order by id"));
    let row = |row: &String| {
        let (id, digits) = row.split_once('|').expect("two columns");
        let expected = match digits {
            "NULL" => Expected::null(),
            digits => expected(entry, hex(digits)),
        };
        (id.parse().expect("a number"), expected)
    };
    rows.iter().map(row).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a digit") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn expected(entry: &Entry, bytes: Vec<u8>) -> Expected {
    match entry.kind {
        Kind::Bytes => return Expected::Text(STANDARD.encode(bytes)),
        Kind::Vector => {
            let floats = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes")));
            return Expected::List(floats.map(|float| Expected::Float4(float, MOST_DIGITS_OF_FLOAT)).collect());
        }
        _ => {}
    }
    let text = String::from_utf8(bytes).expect("UTF-8");
    match entry.kind {
        Kind::Int | Kind::Bit | Kind::Json => Expected::Token(text),
        Kind::Float4 | Kind::Single => {
            Expected::Float4(text.parse::<f64>().expect("a double") as f32, MOST_DIGITS_OF_FLOAT)
        }
        Kind::Float8 | Kind::Double => {
            let double: f64 = text.parse().expect("a double");
            Expected::Float8(double, digits(&format!("{double:e}")))
        }
        // Without the zeros of ZEROFILL, which are not part of the number.
        Kind::Decimal if text.starts_with('0') => {
            let whole = text.find('.').unwrap_or(text.len());
            let zeros = text[..whole - 1].len() - text[..whole - 1].trim_start_matches('0').len();
            Expected::Text(text[zeros..].to_owned())
        }
        Kind::DateTime | Kind::Timestamp if !has_zero_part(&text) => {
            let (date, time) = text.split_once(' ').expect("a date and a time");
            let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
            let zone = if matches!(entry.kind, Kind::Timestamp) { "Z" } else { "" };
            Expected::Text(format!("{date}T{seconds}.{fraction:0<6}{zone}"))
        }
        _ => Expected::Text(text),
    }
}

/// The shortest form of an f32 has no more.
const MOST_DIGITS_OF_FLOAT: usize = 9;

/// Whether there is no such day: a part is zero, or the month is too short. Such a value is the server's text.
fn has_zero_part(text: &str) -> bool {
    let number = |range| text.get(range).and_then(|digits: &str| digits.parse::<u32>().ok()).expect("a number");
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        0 => 0,
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    year == 0 || day == 0 || day > days
}
