use proptest::prelude::*;

use super::*;
use crate::record::{Date, DateTime, Scratch, Time};

/// The value as its `Debug` form; None for an error.
fn read(type_oid: u32, text: impl AsRef<[u8]>) -> Option<String> {
    let (data_type, decode) = scalar(type_oid);
    decode(text.as_ref(), Form::plain(&data_type, &mut Scratch::default())).ok().map(|value| format!("{value:?}"))
}

fn is(type_oid: u32, text: &str, expected: &str) {
    assert_eq!(read(type_oid, text).as_deref(), Some(expected), "{text:?} as type {type_oid}");
}

fn wrong(type_oid: u32, texts: &[&str]) {
    for text in texts {
        assert_eq!(read(type_oid, text), None, "{text:?} as type {type_oid}");
    }
}

#[test]
fn booleans() {
    is(16, "t", "Bool(true)");
    is(16, "f", "Bool(false)");
    wrong(16, &["", "true", "T", "1"]);
}

#[test]
fn integers_of_each_width() {
    for (oid, least, most) in [
        (21, i64::from(i16::MIN), i64::from(i16::MAX)),
        (23, i64::from(i32::MIN), i64::from(i32::MAX)),
        (20, i64::MIN, i64::MAX),
    ] {
        is(oid, &least.to_string(), &format!("Int({least})"));
        is(oid, &most.to_string(), &format!("Int({most})"));
        is(oid, "0", "Int(0)");
        let below = (i128::from(least) - 1).to_string();
        let above = (i128::from(most) + 1).to_string();
        wrong(oid, &[&below, &above, "", "-", "+1", " 1", "1 ", "1.0", "1e3", "99999999999999999999", "--1"]);
    }
    is(26, "4294967295", "UInt(4294967295)");
    wrong(26, &["4294967296", "-1", ""]);
}

#[test]
fn floats_and_their_words() {
    is(701, "1.7976931348623157e+308", "F64(1.7976931348623157e308)");
    is(701, "5e-324", "F64(5e-324)");
    is(701, "-0", "F64(-0.0)");
    is(701, "0.1", "F64(0.1)");
    is(701, "NaN", "F64(NaN)");
    is(701, "Infinity", "F64(inf)");
    is(701, "-Infinity", "F64(-inf)");
    is(700, "3.4028235e+38", "F32(3.4028235e38)");
    is(700, "1e-45", "F32(1e-45)");
    is(700, "0.1", "F32(0.1)");
    is(700, "-Infinity", "F32(-inf)");
    for oid in [700, 701] {
        wrong(oid, &["", "inf", "nan", "+1", ".5", "1e400", "1_0", "-", "1x", "infinity"]);
    }
}

#[test]
fn numerics_keep_every_digit() {
    let long = "9".repeat(1000) + "." + &"0".repeat(999) + "1";
    for text in ["0", "-0.00", "12345678901234567890.12345678901234567890", "NaN", "Infinity", "-Infinity", &long] {
        is(1700, text, &format!("Decimal({text:?})"));
    }
    wrong(1700, &["", "-", ".", "1.", ".1", "1e5", "-NaN", "1Infinity", "+1", "1.2.3", "nan", "--1"]);
}

#[test]
fn dates_of_both_eras() {
    let date = |year, month, day| format!("{:?}", Value::Date(Date { year, month, day }));
    is(1082, "2026-11-21", &date(2026, 11, 21));
    is(1082, "0044-03-15 BC", &date(-43, 3, 15));
    is(1082, "0001-12-31 BC", &date(0, 12, 31));
    is(1082, "4714-11-24 BC", &date(-4713, 11, 24));
    is(1082, "5874897-12-31", &date(5_874_897, 12, 31));
    is(1082, "infinity", "Infinity { negative: false }");
    is(1082, "-infinity", "Infinity { negative: true }");
    wrong(
        1082,
        &["", "2026-11", "2026-13-01", "2026-00-01", "2026-01-00", "2026-01-32", "0000-01-01", "26-01-01", "20260101"],
    );
    wrong(
        1082,
        &["58748970-01-01", "2026-1-1", "2026-01-01 AD", "2026-01-01 ", " BC", "2026-01-01 00:00:00", "-infinit"],
    );
}

#[test]
fn timestamps_to_the_microsecond() {
    let value = |year, micros| DateTime {
        date: Date { year, month: 1, day: 2 },
        time: Time { hour: 23, minute: 59, second: 58, micros },
    };
    for (zone, oid) in [("", 1114), ("+00", 1184)] {
        let printed = |year, micros| {
            let value = value(year, micros);
            let value = if oid == 1114 { Value::Timestamp(value) } else { Value::TimestampTz(value) };
            format!("{value:?}")
        };
        is(oid, &format!("2026-01-02 23:59:58{zone}"), &printed(2026, 0));
        is(oid, &format!("2026-01-02 23:59:58.1{zone}"), &printed(2026, 100_000));
        is(oid, &format!("2026-01-02 23:59:58.000001{zone}"), &printed(2026, 1));
        is(oid, &format!("294276-01-02 23:59:58.123456{zone}"), &printed(294_276, 123_456));
        is(oid, &format!("4713-01-02 23:59:58{zone} BC"), &printed(-4712, 0));
        is(oid, "infinity", "Infinity { negative: false }");
        is(oid, "-infinity", "Infinity { negative: true }");
        for wrong_time in ["24:00:00", "23:60:00", "23:00:60", "23:00", "23:00:00.", "23:00:00.1234567", "230000", ""] {
            wrong(oid, &[&format!("2026-01-02 {wrong_time}{zone}")]);
        }
    }
    wrong(1114, &["2026-01-02 23:59:58+00", "2026-01-02T23:59:58"]);
    // Only a session that is not ours prints another zone.
    wrong(
        1184,
        &["2026-01-02 23:59:58", "2026-01-02 23:59:58+01", "2026-01-02 23:59:58-00", "2026-01-02 23:59:58+00:30"],
    );
}

#[test]
fn bytes_text_json_uuid() {
    is(17, "\\x", "Hex([])");
    is(17, "\\x00ff", "Hex([48, 48, 102, 102])");
    wrong(17, &["", "x00", "\\x0", "\\xzz", "\\000"]);
    let planes = "NULL é \u{10FFFF}\0";
    is(25, planes, &format!("Text({planes:?})"));
    assert_eq!(read(25, b"\xc3"), None);
    assert_eq!(read(25, b"\xed\xa0\x80"), None, "a surrogate");
    is(3802, "{\"a\": 1e999}", &format!("Json({:?})", b"{\"a\": 1e999}"));
    assert_eq!(read(114, b""), None);
    assert_eq!(read(114, b"\"\xff\""), None);
    is(2950, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "Uuid(\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\")");
    wrong(2950, &["", "a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g"]);
}

#[test]
fn everything_else_is_its_own_text() {
    for oid in [1083, 1186, 790, 1560, 600, 869, 142, 3614, 3904, 2278, 16_500] {
        assert_eq!(scalar(oid).0, DataType::Text);
        is(oid, "[1,2)", "Text(\"[1,2)\")");
    }
    let (data_type, decode) = enum_of(["sad".into(), "happy".into()].into());
    assert!(matches!(&data_type, DataType::Enum(labels) if labels.len() == 2));
    assert!(matches!(decode(b"happy", Form::plain(&data_type, &mut Scratch::default())), Ok(Value::Text("happy"))));
}

#[test]
fn an_error_shows_the_start_of_what_was_there() {
    let (data_type, decode) = scalar(23);
    let error = decode("x".repeat(1000).as_bytes(), Form::plain(&data_type, &mut Scratch::default())).unwrap_err();
    assert_eq!(error.to_string(), format!("expected an integer of 32 bits, found {:?}", "x".repeat(64)));
}

const OIDS: [u32; 16] = [16, 17, 20, 21, 23, 25, 26, 114, 700, 701, 1082, 1114, 1184, 1700, 2950, 600];

proptest! {
    #[test]
    fn never_panics(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(prop::sample::select(b"0123456789-:. +BCinfytNaI\\xe".to_vec()), 0..40),
        "[0-9]{3,8}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,7})?(\\+00)?)?( BC)?".prop_map(String::into_bytes),
    ]) {
        for oid in OIDS {
            read(oid, &bytes);
        }
    }

    #[test]
    fn integers_agree_with_the_standard_library(text in "-?[0-9]{0,20}", number: i64) {
        let expected = text.parse::<i64>().ok().filter(|_| text.len() <= 20);
        let digits = text.trim_start_matches('-').len();
        prop_assert_eq!(integer(text.as_bytes()), expected.filter(|_| digits <= 19));
        prop_assert_eq!(integer(number.to_string().as_bytes()), Some(number));
    }

    #[test]
    fn floats_survive(double: f64, single: f32) {
        let read = |oid, text: String| read(oid, text);
        if double.is_finite() {
            prop_assert_eq!(read(701, format!("{double:e}")), Some(format!("F64({double:?})")));
        }
        if single.is_finite() {
            prop_assert_eq!(read(700, format!("{single:e}")), Some(format!("F32({single:?})")));
        }
    }

    #[test]
    fn timestamps_survive(micros in -210_866_803_200_000_000_i64..i64::MAX) {
        let value = DateTime::from_unix_micros(micros);
        let DateTime { date, time } = value;
        let (year, era) = if date.year > 0 { (date.year, "") } else { (1 - date.year, " BC") };
        let Time { hour, minute, second, micros: fraction } = time;
        let (month, day) = (date.month, date.day);
        let text = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:06}{era}");
        prop_assert_eq!(read(1114, text), Some(format!("{:?}", Value::Timestamp(value))));
    }
}

/// A character below the digits where two digits belong: refused, without arithmetic on it.
#[test]
fn no_digits_are_no_number() {
    for text in ["2024-.0-00", "2024-0.-01", "-.0-00", "2024-01-01 /0:00:00"] {
        assert!([1082, 1114, 1184].iter().all(|oid| read(*oid, text).is_none()), "{text}");
    }
}
