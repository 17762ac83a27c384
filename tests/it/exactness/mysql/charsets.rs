//! Every sequence of bytes of every character set, and every collation, against the servers.

use std::collections::BTreeMap;

use walbrook::wire::mysql::value::Charset;

use super::hex;
use crate::support::mysql::{Server, Version};

/// 0 to 65,535.
const NUMBERS: &str = "with recursive digit as (select 0 d union all select d + 1 from digit where d < 255)
    select a.d * 256 + b.d i from digit a, digit b";

/// The sequences that a set may have, as a query with a column `b`.
fn sequences(charset: Charset) -> String {
    let mut all = vec!["select unhex(lpad(hex(i), 2, '0')) b from n where i < 256".to_owned()];
    if matches!(charset, Charset::Ucs2 | Charset::Utf16 | Charset::Utf16le) {
        return "select unhex(lpad(hex(i), 4, '0')) b from n".to_owned();
    }
    if charset.max_bytes() >= 2 {
        all.push("select unhex(lpad(hex(i), 4, '0')) from n".to_owned());
    }
    match charset {
        Charset::Ujis | Charset::Eucjpms => all.push("select concat(x'8f', unhex(lpad(hex(i), 4, '0'))) from n".into()),
        // All of four bytes: the first two by their numbers, the others too.
        Charset::Gb18030 => all.push(
            "select concat(char(129 + x.i div 10), char(48 + x.i % 10), char(129 + y.i div 10), char(48 + y.i % 10))
             from n x, n y where x.i < 1260 and y.i < 1260"
                .into(),
        ),
        _ => {}
    }
    all.join(" union all ")
}

/// What the server makes of each sequence that is one character to it. Empty: nothing, or a question mark.
pub fn known(server: &Server, charset: Charset) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let db = server.database("letters");
    db.sql(&format!("create table n (i int primary key); insert into n {NUMBERS}"));
    let name = charset.name();
    let rows = db.sql(&format!(
        "select hex(b), hex(convert(convert(b using {name}) using utf8mb4)) from ({}) s
         where char_length(convert(b using {name})) = 1",
        sequences(charset)
    ));
    let rows = rows.lines().map(|row| row.split_once('|').expect("two columns"));
    rows.map(|(sequence, letter)| (hex(sequence), if letter == "NULL" { Vec::new() } else { hex(letter) })).collect()
}

#[test]
fn every_sequence_on_mysql() {
    every_sequence(Version::MySql97);
}

#[test]
fn every_sequence_on_mariadb() {
    every_sequence(Version::MariaDb118);
}

fn every_sequence(version: Version) {
    let Some(server) = Server::get(version) else { return };
    for charset in Charset::ALL {
        // UTF-32 is compared in `all_of_unicode`, as is what has more than two bytes in the other Unicode sets.
        let absent = charset == Charset::Gb18030 && version.is_mariadb();
        if absent || matches!(charset, Charset::Binary | Charset::Utf32) {
            continue;
        }
        let known = known(server, charset);
        let (mut compared, mut wrong) = (0, Vec::new());
        for (sequence, letter) in &known {
            let mut out = Vec::new();
            let decoded = charset.decode(sequence, &mut out).ok();
            // A sequence that the server has no letter for prints as a question mark.
            let question = matches!(&letter[..], b"" | b"?") && !is_its_own(charset, sequence);
            let expected = if question { None } else { std::str::from_utf8(letter).ok() };
            compared += usize::from(expected.is_some());
            if decoded != expected {
                wrong.push(format!("{sequence:02x?} is {expected:?}, not {decoded:?}"));
            }
        }
        for pair in (0..=u16::MAX).map(u16::to_be_bytes).filter(|pair| !known.contains_key(pair.as_slice())) {
            // To the server these are two characters, or nothing.
            let mut out = Vec::new();
            if let Ok(text) = charset.decode(&pair, &mut out)
                && text.chars().count() == 1
            {
                wrong.push(format!("{pair:02x?} is {text:?}"));
            }
        }
        let (count, name) = (wrong.len(), charset.name());
        wrong.truncate(20);
        assert!(wrong.is_empty(), "{count} wrong in {name}:\n{}", wrong.join("\n"));
        assert!(compared >= 127, "{compared} letters of {name}");
        eprintln!("{name}: {compared} sequences");
    }
}

/// Whether a sequence is the question mark itself.
fn is_its_own(charset: Charset, sequence: &[u8]) -> bool {
    match charset {
        Charset::Ucs2 | Charset::Utf16 => sequence == b"\0?",
        Charset::Utf16le => sequence == b"?\0",
        _ => sequence == b"?",
    }
}

/// The other direction: all of Unicode, in the sets that have it.
#[test]
fn all_of_unicode() {
    for server in Server::all() {
        let db = server.database("unicode");
        db.sql(&format!("create table n (i int primary key); insert into n {NUMBERS}"));
        for charset in [Charset::Utf8mb4, Charset::Utf16, Charset::Utf16le, Charset::Utf32, Charset::Gb18030] {
            if charset == Charset::Gb18030 && server.version().is_mariadb() {
                continue;
            }
            let name = charset.name();
            for plane in 0..17_u32 {
                let rows = db.sql(&format!(
                    "select i, hex(convert(convert(unhex(lpad(hex(i + {plane} * 65536), 8, '0')) using utf32) using {name}))
                     from n where {plane} > 0 or i not between 55296 and 57343 order by i"
                ));
                let mut count = 0;
                for row in rows.lines() {
                    let (low, digits) = row.split_once('|').expect("two columns");
                    let code = plane << 16 | low.parse::<u32>().expect("a number");
                    let character = char::from_u32(code).expect("a character");
                    let (bytes, mut out) = (hex(digits), Vec::new());
                    let decoded =
                        charset.decode(&bytes, &mut out).unwrap_or_else(|error| panic!("{name} {code:x}: {error}"));
                    assert_eq!(decoded, character.to_string(), "{name} U+{code:04X}");
                    count += 1;
                }
                assert_eq!(count, if plane == 0 { 65_536 - 2_048 } else { 65_536 });
            }
        }
    }
}

/// A server's collations: number, character set and name.
pub fn collations(server: &Server) -> Vec<(u32, Charset, String)> {
    // MariaDB's of several sets have a number for each.
    let sql = if server.version().is_mariadb() && server.version() != Version::MariaDb105 {
        "select id, character_set_name, full_collation_name
         from information_schema.collation_character_set_applicability"
    } else {
        "select id, character_set_name, collation_name from information_schema.collations"
    };
    let rows = server.sql("", sql);
    let of_row = |row: &str| {
        let [id, charset, collation] = row.split('|').collect::<Vec<_>>()[..] else { panic!("three columns: {row}") };
        let charset = Charset::named(charset).unwrap_or_else(|| panic!("{charset}"));
        (id.parse().expect("a number"), charset, collation.to_owned())
    };
    rows.lines().map(of_row).collect()
}

#[test]
fn every_collation() {
    for server in Server::all() {
        let version = server.version().name();
        let all = collations(server);
        assert!(all.len() > 250, "{} collations of {version}", all.len());
        for (id, charset, name) in all {
            assert_eq!(Charset::of_collation_id(id), Some(charset), "{id} {name} of {version}");
            assert_eq!(Charset::of_collation(&name), Some(charset), "{id} {name} of {version}");
        }
        let lengths = server.sql("", "select character_set_name, maxlen from information_schema.character_sets");
        for row in lengths.lines() {
            let (name, bytes) = row.split_once('|').expect("two columns");
            let charset = Charset::named(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(charset.max_bytes().to_string(), bytes, "{name} of {version}");
        }
    }
}
