//! Names of collations by their numbers.
//!
//! Invariants:
//! - Numbers are the same on MySQL and MariaDB; both never use one for different orders of the same character set, so that
//!   MySQL's name of it serves for both (five Croatian ones differ).
//! - A name begins with its character set.

use std::borrow::Cow;

use super::collations::COLLATIONS;

/// MariaDB's UCA 14.0.0 collations are numbered: 2048, character set << 8, language << 3, NOPAD << 2, accents << 1, case.
const UCA1400_FIRST: u32 = 2048;
const UCA1400_CHARSETS: [&str; 5] = ["utf8mb3", "utf8mb4", "ucs2", "utf16", "utf32"];
#[rustfmt::skip]
const UCA1400_LANGUAGES: [&str; 25] = [
    "", "icelandic_", "latvian_", "romanian_", "slovenian_", "polish_", "estonian_", "spanish_", "swedish_", "turkish_",
    "czech_", "danish_", "lithuanian_", "slovak_", "spanish2_", "roman_", "persian_", "esperanto_", "hungarian_",
    "sinhala_", "german2_", "", "", "vietnamese_", "croatian_",
];

/// The name of a collation by its number, as TABLE_MAP and the protocol give it; `None` for one that we do not know.
pub fn collation_name(id: u32) -> Option<Cow<'static, str>> {
    if id >= UCA1400_FIRST {
        let number = id - UCA1400_FIRST;
        let charset = UCA1400_CHARSETS.get((number >> 8) as usize)?;
        let language = UCA1400_LANGUAGES.get((number >> 3 & 31) as usize)?;
        let pad = if number & 4 != 0 { "nopad_" } else { "" };
        let accents = if number & 2 != 0 { "as" } else { "ai" };
        let case = if number & 1 != 0 { "cs" } else { "ci" };
        return Some(format!("{charset}_uca1400_{language}{pad}{accents}_{case}").into());
    }
    let number = id.to_string();
    COLLATIONS
        .split_whitespace()
        .filter_map(|pair| pair.split_once(':'))
        .find(|pair| pair.0 == number)
        .map(|pair| pair.1.into())
}
