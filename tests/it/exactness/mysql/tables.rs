//! The tables of character sets in `src/wire/mysql/value/charset` are what the servers say; `WALBROOK_BLESS=1` writes them
//! anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use encoding_rs::{BIG5, EUC_JP, EUC_KR, Encoding, GB18030, GBK, SHIFT_JIS};
use walbrook::wire::mysql::value::Charset;

use super::charsets::{collations, known};
use crate::support::mysql::{Server, Version};
use crate::support::project;

const WIDTH: usize = 120;

fn check(name: &str, made: &str) {
    let path = project("src/wire/mysql/value/charset").join(name);
    if std::env::var_os("WALBROOK_BLESS").is_some() {
        std::fs::write(&path, made).expect("the table is written");
    }
    assert!(std::fs::read_to_string(&path).expect("the table") == made, "{name} is not what the servers say");
}

/// Items one behind the other in lines as wide as they may be.
fn filled(indent: &str, items: impl Iterator<Item = String>, end: &str) -> String {
    let (mut text, mut line) = (String::new(), indent.to_owned());
    for item in items {
        if line.chars().count() + item.chars().count() + end.len() > WIDTH {
            writeln!(text, "{}{end}", line.trim_end()).expect("memory");
            line = indent.to_owned();
        }
        line.push_str(&item);
    }
    text + line.trim_end()
}

#[test]
fn the_collations() {
    let mut servers: Vec<_> = Server::all().collect();
    if servers.len() < Version::ALL.len() {
        return;
    }
    // The names of MySQL, then of the newest MariaDB.
    servers.rotate_left(1);
    let all = servers.into_iter().flat_map(collations).filter(|(id, ..)| *id < 2_048);
    let all: BTreeMap<u32, String> = all.map(|(id, _, name)| (id, name)).collect();
    let items = all.iter().map(|(id, name)| format!("{id}:{name} "));
    let made = format!(
        "//! The collations of MySQL and MariaDB, by their numbers below 2,048. Written by the exactness tests.\n\n\
         pub(super) const COLLATIONS: &str = \"\\\n{} \\\n\";\n",
        filled("    ", items, " \\")
    );
    check("collations.rs", &made);
}

#[test]
fn the_single_byte_sets() {
    let Some(server) = Server::get(Version::MySql97) else { return };
    let mut made = "//! The upper halves of the single-byte sets, as the servers convert them: byte 0x80 first. U+FFFE stands where a set\n\
                    //! has nothing. Written by the exactness tests.\n\nuse super::single::{Half, half};\n"
        .to_owned();
    for charset in Charset::ALL {
        if charset.max_bytes() > 1 || matches!(charset, Charset::Ascii | Charset::Binary) {
            continue;
        }
        let letters = known(server, charset);
        let lower = charset == Charset::Swe7;
        if lower {
            made.push_str("\n/// The lower half: a set of 7 bits with letters where ASCII has signs.");
        }
        let first = if lower { 0 } else { 0x80 };
        let letter = |byte: u8| {
            let letter = letters.get(&vec![byte]).and_then(|letter| std::str::from_utf8(letter).ok()?.chars().next());
            letter.filter(|letter| *letter != '?' || byte == b'?').unwrap_or('\u{fffe}')
        };
        let items = (first..first + 128).map(|byte: u16| shown(letter(byte as u8)));
        let text = filled("     ", items, "\\").replacen("     ", "    \"", 1);
        write!(made, "\npub(super) static {}: Half = half(\n{text}\",\n);\n", charset.name().to_uppercase())
            .expect("memory");
    }
    check("halves.rs", &made);
}

/// A character in a string of Rust, the letters of Europe as they are.
fn shown(character: char) -> String {
    match character {
        '"' | '\\' => format!("\\{character}"),
        '!'..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{2ff}' | '\u{370}'..='\u{482}' | '\u{48a}'..='\u{58f}' => {
            character.to_string()
        }
        '\u{10d0}'..='\u{10ff}' | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{2070}'..='\u{27bf}' => {
            character.to_string()
        }
        other => format!("\\u{{{:x}}}", u32::from(other)),
    }
}

#[test]
fn the_multi_byte_sets() {
    let Some(server) = Server::get(Version::MySql97) else { return };
    let mut made = "//! Where the servers' multi-byte sets differ from [`encoding_rs`]': runs of sequences, first and last as one number\n\
                    //! each, and the first's code point, the others following it one by one; 0 for sequences that the servers do not\n\
                    //! have. Written by the exactness tests.\n\nuse super::multi::Run;\n"
        .to_owned();
    let sets: [(Charset, &'static Encoding); 9] = [
        (Charset::Gbk, GBK),
        (Charset::Gb2312, GBK),
        (Charset::Gb18030, GB18030),
        (Charset::Big5, BIG5),
        (Charset::Sjis, SHIFT_JIS),
        (Charset::Cp932, SHIFT_JIS),
        (Charset::Ujis, EUC_JP),
        (Charset::Eucjpms, EUC_JP),
        (Charset::Euckr, EUC_KR),
    ];
    for (charset, encoding) in sets {
        let runs = differences(&known(server, charset), encoding);
        if !runs.is_empty() {
            let items = runs.iter().map(|(first, last, code)| format!("(0x{first:X}, 0x{last:X}, 0x{code:X}), "));
            let (name, text) = (charset.name().to_uppercase(), filled("    ", items, ""));
            write!(made, "\n#[rustfmt::skip]\npub(super) static {name}: &[Run] = &[\n{text}\n];\n").expect("memory");
        }
    }
    check("runs.rs", &made);
}

/// Runs of sequences that an encoding has otherwise than a server.
fn differences(known: &BTreeMap<Vec<u8>, Vec<u8>>, encoding: &'static Encoding) -> Vec<(u32, u32, u32)> {
    let pairs = (0x81..=0xFEu8).flat_map(|lead| (0x40..=0xFEu8).map(move |trail| vec![lead, trail]));
    let triples = (0xA1..=0xFEu8).flat_map(|second| (0xA1..=0xFEu8).map(move |third| vec![0x8F, second, third]));
    let mut runs: Vec<(u32, u32, u32)> = Vec::new();
    let mut open = false;
    for sequence in pairs.chain(triples.filter(|_| encoding == EUC_JP)) {
        let number = sequence.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        let one = |text: &str| {
            let mut characters = text.chars();
            characters.next().filter(|_| characters.next().is_none())
        };
        let ours = known.get(&sequence).and_then(|letter| one(std::str::from_utf8(letter).ok()?));
        let ours = ours.filter(|letter| *letter != '?');
        let theirs =
            encoding.decode_without_bom_handling_and_without_replacement(&sequence).and_then(|text| one(&text));
        if ours == theirs {
            // What neither has does not end a run of what the server has not.
            open = open && ours.is_none() && runs.last().is_some_and(|run| run.2 == 0);
            continue;
        }
        let code = ours.map_or(0, u32::from);
        match runs.last_mut() {
            Some((_, last, 0)) if open && code == 0 => *last = number,
            Some((first, last, start))
                if open && *start > 0 && *last + 1 == number && code == *start + number - *first =>
            {
                *last = number;
            }
            _ => runs.push((number, number, code)),
        }
        open = true;
    }
    runs
}
