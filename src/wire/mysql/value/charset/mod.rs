//! The servers' character sets: which set a collation belongs to, and a column's bytes as UTF-8.
//!
//! Invariants:
//! - A text is converted as the server's `CONVERT(… USING utf8mb4)` converts it, to the character.
//! - Bytes that are no character of the set are an error that shows them, where the server would print `?`. The
//!   replacement character is there only where the server's own table has it (seven characters of big5, bytes of tis620).
//! - A text that is UTF-8 as it stands (utf8mb4, utf8mb3, ascii, and what is ASCII in another set) is borrowed, not copied.

mod collations;
mod halves;
mod multi;
mod names;
mod runs;
mod single;
mod unicode;

use crate::record::ValueError;

pub use names::collation_name;

/// A character set that a column can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Charset {
    Armscii8,
    Ascii,
    Big5,
    Binary,
    Cp1250,
    Cp1251,
    Cp1256,
    Cp1257,
    Cp850,
    Cp852,
    Cp866,
    Cp932,
    Dec8,
    Eucjpms,
    Euckr,
    Gb18030,
    Gb2312,
    Gbk,
    Geostd8,
    Greek,
    Hebrew,
    Hp8,
    Keybcs2,
    Koi8r,
    Koi8u,
    Latin1,
    Latin2,
    Latin5,
    Latin7,
    Macce,
    Macroman,
    Sjis,
    Swe7,
    Tis620,
    Ucs2,
    Ujis,
    Utf16,
    Utf16le,
    Utf32,
    Utf8mb3,
    Utf8mb4,
}

use Charset::*;

impl Charset {
    /// Every set, in the order of the names.
    pub const ALL: [Charset; 41] = [
        Armscii8, Ascii, Big5, Binary, Cp1250, Cp1251, Cp1256, Cp1257, Cp850, Cp852, Cp866, Cp932, Dec8, Eucjpms,
        Euckr, Gb18030, Gb2312, Gbk, Geostd8, Greek, Hebrew, Hp8, Keybcs2, Koi8r, Koi8u, Latin1, Latin2, Latin5,
        Latin7, Macce, Macroman, Sjis, Swe7, Tis620, Ucs2, Ujis, Utf16, Utf16le, Utf32, Utf8mb3, Utf8mb4,
    ];

    /// As the servers print it in information_schema.
    pub fn name(self) -> &'static str {
        match self {
            Armscii8 => "armscii8",
            Ascii => "ascii",
            Big5 => "big5",
            Binary => "binary",
            Cp1250 => "cp1250",
            Cp1251 => "cp1251",
            Cp1256 => "cp1256",
            Cp1257 => "cp1257",
            Cp850 => "cp850",
            Cp852 => "cp852",
            Cp866 => "cp866",
            Cp932 => "cp932",
            Dec8 => "dec8",
            Eucjpms => "eucjpms",
            Euckr => "euckr",
            Gb18030 => "gb18030",
            Gb2312 => "gb2312",
            Gbk => "gbk",
            Geostd8 => "geostd8",
            Greek => "greek",
            Hebrew => "hebrew",
            Hp8 => "hp8",
            Keybcs2 => "keybcs2",
            Koi8r => "koi8r",
            Koi8u => "koi8u",
            Latin1 => "latin1",
            Latin2 => "latin2",
            Latin5 => "latin5",
            Latin7 => "latin7",
            Macce => "macce",
            Macroman => "macroman",
            Sjis => "sjis",
            Swe7 => "swe7",
            Tis620 => "tis620",
            Ucs2 => "ucs2",
            Ujis => "ujis",
            Utf16 => "utf16",
            Utf16le => "utf16le",
            Utf32 => "utf32",
            Utf8mb3 => "utf8mb3",
            Utf8mb4 => "utf8mb4",
        }
    }

    /// By a name as any version prints it: `utf8` is utf8mb3.
    pub fn named(name: &str) -> Option<Charset> {
        if name.eq_ignore_ascii_case("utf8") {
            return Some(Utf8mb3);
        }
        Self::ALL.into_iter().find(|charset| charset.name().eq_ignore_ascii_case(name))
    }

    /// By a collation's name: `latin1_swedish_ci`. None for MariaDB's that are of several sets (`uca1400_ai_ci`).
    pub fn of_collation(name: &str) -> Option<Charset> {
        Self::named(name.split_once('_').map_or(name, |(charset, _)| charset))
    }

    /// By a collation's number: [`collation_name`].
    pub fn of_collation_id(id: u32) -> Option<Charset> {
        Self::of_collation(&collation_name(id)?)
    }

    /// The set that a column's layout carries; binary where it is none.
    pub(super) fn of_layout(layout: u32) -> Charset {
        usize::try_from(layout).ok().and_then(|at| Self::ALL.get(at)).copied().unwrap_or(Binary)
    }

    /// Whether its texts are UTF-8 as they stand, if they are valid.
    pub fn is_utf8(self) -> bool {
        matches!(self, Ascii | Utf8mb3 | Utf8mb4)
    }

    /// Bytes of its longest character.
    pub fn max_bytes(self) -> u8 {
        match self {
            Utf8mb4 | Utf16 | Utf16le | Utf32 | Gb18030 => 4,
            Utf8mb3 | Ujis | Eucjpms => 3,
            Ucs2 | Big5 | Cp932 | Euckr | Gb2312 | Gbk | Sjis => 2,
            _ => 1,
        }
    }

    /// The text in UTF-8, borrowed where it stands there as it is, else written to `out`, which is empty.
    ///
    /// Errors: bytes that are no character of the set, shown in hexadecimal; any bytes of `binary`, which has none.
    pub fn decode<'b>(self, bytes: &'b [u8], out: &'b mut Vec<u8>) -> Result<&'b str, ValueError> {
        let at = match self {
            Utf8mb4 | Utf8mb3 => {
                return std::str::from_utf8(bytes).map_err(|cause| self.wrong(bytes, cause.valid_up_to()));
            }
            Ascii => match bytes.iter().position(|byte| !byte.is_ascii()) {
                None => return borrowed(bytes),
                Some(at) => return Err(self.wrong(bytes, at)),
            },
            Binary => return Err(ValueError::new("characters", &readable(bytes, 0))),
            Ucs2 => unicode::ucs2(bytes, out),
            Utf16 => unicode::utf16(bytes, u16::from_be_bytes, out),
            Utf16le => unicode::utf16(bytes, u16::from_le_bytes, out),
            Utf32 => unicode::utf32(bytes, out),
            Swe7 => single::lower(bytes, &halves::SWE7, out),
            // What is left has ASCII as its lower half.
            _ if bytes.is_ascii() => return borrowed(bytes),
            _ => match self.half() {
                Some(half) => single::upper(bytes, half, out),
                None => multi::decode(self, bytes, out),
            },
        };
        match at {
            Ok(()) => borrowed(out),
            Err(at) => Err(self.wrong(bytes, at)),
        }
    }

    /// The upper half of a single-byte set over ASCII.
    fn half(self) -> Option<&'static single::Half> {
        Some(match self {
            Armscii8 => &halves::ARMSCII8,
            Cp1250 => &halves::CP1250,
            Cp1251 => &halves::CP1251,
            Cp1256 => &halves::CP1256,
            Cp1257 => &halves::CP1257,
            Cp850 => &halves::CP850,
            Cp852 => &halves::CP852,
            Cp866 => &halves::CP866,
            Dec8 => &halves::DEC8,
            Geostd8 => &halves::GEOSTD8,
            Greek => &halves::GREEK,
            Hebrew => &halves::HEBREW,
            Hp8 => &halves::HP8,
            Keybcs2 => &halves::KEYBCS2,
            Koi8r => &halves::KOI8R,
            Koi8u => &halves::KOI8U,
            Latin1 => &halves::LATIN1,
            Latin2 => &halves::LATIN2,
            Latin5 => &halves::LATIN5,
            Latin7 => &halves::LATIN7,
            Macce => &halves::MACCE,
            Macroman => &halves::MACROMAN,
            Tis620 => &halves::TIS620,
            _ => return None,
        })
    }

    #[cold]
    fn wrong(self, bytes: &[u8], at: usize) -> ValueError {
        let expected = match self {
            Utf8mb4 | Utf8mb3 => "text in UTF-8",
            Ascii => "text in ascii",
            Ucs2 => "text in ucs2",
            Utf16 => "text in utf16",
            Utf16le => "text in utf16le",
            Utf32 => "text in utf32",
            _ => "text of the column's character set",
        };
        ValueError::new(expected, &readable(bytes, at))
    }
}

/// `0x81FF at byte 12`: a few bytes from where they are wrong; as text they would show nothing.
fn readable(bytes: &[u8], at: usize) -> Vec<u8> {
    // The longest character has 4 bytes; as many again show what it ran into.
    const SHOWN_BYTES: usize = 8;
    let wrong = &bytes[at.min(bytes.len())..];
    let hex: String = wrong.iter().take(SHOWN_BYTES).map(|byte| format!("{byte:02X}")).collect();
    format!("0x{hex} at byte {at} of {}", bytes.len()).into_bytes()
}

/// What is UTF-8 by how it was made or found.
fn borrowed(bytes: &[u8]) -> Result<&str, ValueError> {
    std::str::from_utf8(bytes).map_err(|_| ValueError::new("text in UTF-8", bytes))
}

/// Appends one character.
#[inline]
fn push(out: &mut Vec<u8>, character: char) {
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests;
