//! Sizes and durations as people write them in a config: `64MiB`, `200ms`.
//!
//! Invariants:
//! - What is printed reads back as the same quantity.
//! - A size may be a plain number of bytes; a duration always names its unit.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// A length of time, to the millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantityError {
    found: String,
    expected: &'static str,
}

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not {}", self.found, self.expected)
    }
}

impl std::error::Error for QuantityError {}

const SIZE: &str = "a size such as 64MiB, 1GB or 4096";
const SPAN: &str = "a duration such as 200ms, 30s, 5m, 24h or 7d";

/// The larger unit first; the first that divides a size is the one it is printed in.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

const SPAN_UNITS_MS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a decimal number with an optional fraction and one of the units, whatever the case of its letters. The result
/// is whole: `1.5KiB` is 1536, `0.3B` is an error.
fn parse(text: &str, units: &[(&str, u64)], unit_needed: bool, expected: &'static str) -> Result<u64, QuantityError> {
    let wrong = || QuantityError { found: text.to_owned(), expected };
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim_start();
    let factor = match units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() && !unit_needed => 1,
        None => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) {
        return Err(wrong());
    }
    let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(factor)).ok_or_else(wrong)?;
    // At most 18 digits, so that digits x factor fits 128 bits with room.
    let part = match fraction {
        "" => 0,
        digits if digits.len() > 18 => return Err(wrong()),
        digits => {
            let scale = 10u128.pow(digits.len() as u32);
            let scaled = digits.parse::<u128>().map_err(|_| wrong())? * u128::from(factor);
            if !scaled.is_multiple_of(scale) {
                return Err(wrong());
            }
            (scaled / scale) as u64
        }
    };
    whole.checked_add(part).ok_or_else(wrong)
}

fn print(f: &mut fmt::Formatter<'_>, quantity: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fits = units.iter().find(|(_, factor)| quantity != 0 && quantity.is_multiple_of(*factor));
    let (unit, factor) = fits.copied().unwrap_or(units[units.len() - 1]);
    write!(f, "{}{unit}", quantity / factor)
}

impl ByteSize {
    pub const fn kib(count: u64) -> Self {
        ByteSize(count << 10)
    }
    pub const fn mib(count: u64) -> Self {
        ByteSize(count << 20)
    }
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse(text, &SIZE_UNITS, false, SIZE).map(ByteSize)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.0, &SIZE_UNITS)
    }
}

impl Span {
    pub const fn from_millis(ms: u64) -> Self {
        Span(Duration::from_millis(ms))
    }
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse(text, &SPAN_UNITS_MS, true, SPAN).map(Span::from_millis)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.as_millis(), &SPAN_UNITS_MS)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = ByteSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SIZE)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }
        }
        deserializer.deserialize_any(Size)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SPAN)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A size: a number of bytes, or a number with KiB, MiB, GiB, TiB, KB, MB, GB or TB.",
            "type": ["string", "integer"],
            "minimum": 0,
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtT][iI]?)?[bB]?\s*$",
            "examples": ["64MiB", "1GB", 4096],
        })
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration: a number with ms, s, m, h or d.",
            "type": "string",
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([mM][sS]|[sSmMhHdD])\s*$",
            "examples": ["200ms", "30s", "24h"],
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            (" 1GiB ", 1 << 30),
            ("1.5KiB", 1536),
            ("0.5GB", 500_000_000),
            ("10KB", 10_000),
            ("7B", 7),
            ("2TB", 2_000_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for wrong in
            ["", "MiB", "-1", "1M", "1.MiB", ".5MiB", "1.2.3KB", "0.3B", "1e3", "99999999999999999999", "20000000TiB"]
        {
            assert!(wrong.parse::<ByteSize>().is_err(), "{wrong}");
        }
        assert_eq!(ByteSize::mib(64).to_string(), "64MiB");
        assert_eq!(ByteSize(1_500_000).to_string(), "1500KB");
        assert_eq!(ByteSize(0).to_string(), "0B");
    }

    #[test]
    fn durations_as_people_write_them() {
        for (text, ms) in
            [("200ms", 200), ("1s", 1000), ("1.5s", 1500), ("5m", 300_000), ("24h", 86_400_000), ("7 d", 604_800_000)]
        {
            assert_eq!(text.parse(), Ok(Span::from_millis(ms)), "{text}");
        }
        for wrong in ["", "5", "5 parsecs", "-1s", "0.5ms", "1h30m"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
        assert_eq!("24h".parse::<Span>().unwrap().to_string(), "1d");
        assert_eq!("fortnight".parse::<Span>().unwrap_err().to_string(), format!("\"fortnight\" is not {SPAN}"));
    }

    #[test]
    fn serde_takes_numbers_for_sizes_only() {
        assert_eq!(serde_json::from_str::<ByteSize>("4096").unwrap(), ByteSize(4096));
        assert_eq!(serde_json::from_str::<ByteSize>("\"1KiB\"").unwrap(), ByteSize(1024));
        assert!(serde_json::from_str::<ByteSize>("-1").is_err());
        assert!(serde_json::from_str::<Span>("5").is_err());
        assert_eq!(serde_json::to_string(&Span::from_millis(200)).unwrap(), "\"200ms\"");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(quantity: u64) {
            prop_assert_eq!(ByteSize(quantity).to_string().parse(), Ok(ByteSize(quantity)));
            prop_assert_eq!(Span::from_millis(quantity).to_string().parse(), Ok(Span::from_millis(quantity)));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = (text.parse::<ByteSize>(), text.parse::<Span>());
        }
    }
}
