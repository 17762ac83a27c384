//! Sets of one to four bytes a character, East Asian.
//!
//! A table of all sequences is made when a set is first met: those of [`encoding_rs`], which knows the WHATWG's sets of the
//! same families, mended by [`runs`](super::runs) to what the servers have. The tables are 48 KB a set, 17 KB more for the
//! sequences of three bytes of the Japanese EUC sets.
//!
//! ```text
//! big5, gb2312, gbk, euckr   ASCII | lead trail
//! gb18030                    ASCII | lead trail | 81–FE 30–39 81–FE 30–39
//! sjis, cp932                ASCII | A1–DF (katakana, U+FF61 on) | lead trail
//! ujis, eucjpms              ASCII | 8E trail | lead trail | 8F A1–FE A1–FE
//! ```
//! where lead is 81 to FE and trail 40 to FE, as far as a set uses them.

use std::sync::OnceLock;

use encoding_rs::{BIG5, EUC_JP, EUC_KR, Encoding, GB18030, GBK, SHIFT_JIS};

use super::{Charset, push, runs};

/// Sequences from the first to the last number, the first's code point (the others follow it one by one), or 0: no character.
pub(super) type Run = (u32, u32, u16);

const LEADS: std::ops::RangeInclusive<u8> = 0x81..=0xFE;
const TRAILS: std::ops::RangeInclusive<u8> = 0x40..=0xFE;
const TRAIL_COUNT: usize = 0xFE - 0x40 + 1;
/// Both bytes behind 8F.
const THIRDS: std::ops::RangeInclusive<u8> = 0xA1..=0xFE;
const THIRD_COUNT: usize = 0xFE - 0xA1 + 1;

struct Table {
    /// By lead and trail; 0 where there is no character.
    two: Box<[u16]>,
    /// By the two bytes behind 8F; empty in a set without.
    three: Box<[u16]>,
    /// A1 to DF are katakana by themselves.
    katakana: bool,
    /// Has sequences of four bytes.
    four: bool,
}

impl Table {
    fn new(encoding: &'static Encoding, runs: &[Run]) -> Table {
        let mut table = Table {
            two: Box::default(),
            three: Box::default(),
            katakana: encoding == SHIFT_JIS,
            four: encoding == GB18030,
        };
        let mut runs = runs.iter().peekable();
        let mut mended = |sequence: u32, bytes: &[u8]| {
            while runs.next_if(|(_, last, _)| *last < sequence).is_some() {}
            match runs.peek() {
                Some(&&(first, _, code)) if first <= sequence => match code {
                    0 => 0,
                    // Within the Basic Multilingual Plane by how the runs are written.
                    code => code.wrapping_add((sequence - first) as u16),
                },
                _ => one_character(encoding, bytes).unwrap_or(0),
            }
        };
        let pairs = LEADS.flat_map(|lead| TRAILS.map(move |trail| [lead, trail]));
        table.two = pairs.map(|pair| mended(u16::from_be_bytes(pair).into(), &pair)).collect();
        if encoding == EUC_JP {
            let triples = THIRDS.flat_map(|second| THIRDS.map(move |third| [0x8F, second, third]));
            table.three = triples
                .map(|triple| mended(u32::from_be_bytes([0, triple[0], triple[1], triple[2]]), &triple))
                .collect();
        }
        table
    }

    #[inline]
    fn pair(&self, lead: u8, trail: u8) -> u16 {
        if !LEADS.contains(&lead) || !TRAILS.contains(&trail) {
            return 0;
        }
        self.two[usize::from(lead - 0x81) * TRAIL_COUNT + usize::from(trail - 0x40)]
    }

    #[inline]
    fn triple(&self, second: u8, third: u8) -> u16 {
        if self.three.is_empty() || !THIRDS.contains(&second) || !THIRDS.contains(&third) {
            return 0;
        }
        self.three[usize::from(second - 0xA1) * THIRD_COUNT + usize::from(third - 0xA1)]
    }

    /// The character at the start of `rest`, whose first byte is not ASCII, and its length.
    fn character(&self, rest: &[u8]) -> Option<(char, usize)> {
        let (code, length) = match *rest {
            [lead @ 0xA1..=0xDF, ..] if self.katakana => (0xFF61 + u16::from(lead - 0xA1), 1),
            [0x8F, second, third, ..] if !self.three.is_empty() => (self.triple(second, third), 3),
            [_, 0x30..=0x39, _, _, ..] if self.four => {
                let text = GB18030.decode_without_bom_handling_and_without_replacement(&rest[..4])?;
                return Some((text.chars().next()?, 4));
            }
            [lead, trail, ..] => (self.pair(lead, trail), 2),
            _ => return None,
        };
        char::from_u32(code.into()).filter(|character| *character != '\0').map(|character| (character, length))
    }
}

/// What the encoding has for a sequence, if that is one character below U+10000.
fn one_character(encoding: &'static Encoding, bytes: &[u8]) -> Option<u16> {
    let text = encoding.decode_without_bom_handling_and_without_replacement(bytes)?;
    let mut characters = text.chars();
    let character = characters.next()?;
    if characters.next().is_some() {
        return None;
    }
    u16::try_from(u32::from(character)).ok()
}

fn table(charset: Charset) -> Option<&'static Table> {
    static TABLES: [OnceLock<Table>; 9] = [const { OnceLock::new() }; 9];
    let (index, encoding, runs): (usize, &'static Encoding, &[Run]) = match charset {
        Charset::Gbk => (0, GBK, runs::GBK),
        Charset::Gb2312 => (1, GBK, runs::GB2312),
        Charset::Gb18030 => (2, GB18030, runs::GB18030),
        Charset::Big5 => (3, BIG5, runs::BIG5),
        Charset::Sjis => (4, SHIFT_JIS, runs::SJIS),
        Charset::Cp932 => (5, SHIFT_JIS, &[]),
        Charset::Ujis => (6, EUC_JP, runs::UJIS),
        Charset::Eucjpms => (7, EUC_JP, runs::EUCJPMS),
        Charset::Euckr => (8, EUC_KR, &[]),
        _ => return None,
    };
    Some(TABLES[index].get_or_init(|| Table::new(encoding, runs)))
}

/// A text of a multi-byte set. Errors: where a sequence is no character.
pub(super) fn decode(charset: Charset, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), usize> {
    let Some(table) = table(charset) else { return Err(0) };
    // Two bytes become three at most; what is ASCII stays.
    out.reserve(bytes.len() + bytes.len() / 2);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte.is_ascii() {
            out.push(byte);
            at += 1;
            continue;
        }
        let (character, length) = table.character(&bytes[at..]).ok_or(at)?;
        push(out, character);
        at += length;
    }
    Ok(())
}
