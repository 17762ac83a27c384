use proptest::prelude::*;

use super::*;
use crate::record::{DataType, Scratch};

fn printed(bytes: &[u8]) -> Result<String, ValueError> {
    let mut scratch = Scratch::default();
    match json(bytes, Form::plain(&DataType::Json, &mut scratch))? {
        Value::Json(text) => Ok(String::from_utf8(text.to_vec()).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Documents of rows events of MySQL 9.7, and what SELECT printed of the same rows.
fn recorded() -> Vec<(Vec<u8>, &'static str)> {
    let text = include_str!("../../../../../tests/fixtures/mysql/json.txt");
    text.lines().map(|line| line.split_once(' ').unwrap()).map(|(hex, printed)| (bytes(hex), printed)).collect()
}

#[test]
fn documents_of_a_server() {
    for (bytes, expected) in recorded() {
        assert_eq!(printed(&bytes).unwrap(), expected);
    }
    assert_eq!(printed(b"").unwrap(), "null");
}

/// A document and a path of many thousand levels, which no server makes: taken apart that deep, it would be let go of by a
/// recursion that the stack does not hold.
#[test]
fn a_difference_far_down_is_an_error() {
    const LEVELS: u32 = 200_000;
    const ENTRY_BYTES: u32 = 13;
    let mut cell = vec![PARTIAL_MARK];
    cell.extend((1 + LEVELS * ENTRY_BYTES + 8).to_le_bytes());
    cell.push(3);
    for level in 0..LEVELS {
        // One element; all that is left; a large array behind this entry.
        cell.extend(1_u32.to_le_bytes());
        cell.extend(((LEVELS - level) * ENTRY_BYTES + 8).to_le_bytes());
        cell.push(3);
        cell.extend(ENTRY_BYTES.to_le_bytes());
    }
    cell.extend([0, 0, 0, 0, 8, 0, 0, 0]);
    let path = format!("${}", "[0]".repeat(LEVELS as usize));
    cell.extend([2, 0xfd]);
    cell.extend(&(path.len() as u32).to_le_bytes()[..3]);
    cell.extend(path.as_bytes());
    assert!(printed(&cell).is_err());
}

#[test]
fn differences_of_a_server() {
    let document = |text: &str| build(&serde_json::from_str(text).unwrap());
    let cell = |before: &[u8], differences: &str| {
        let mut cell = vec![PARTIAL_MARK];
        cell.extend((before.len() as u32).to_le_bytes());
        cell.extend(before);
        cell.extend(bytes(differences));
        printed(&cell)
    };
    let start = document(r#"{"a":1,"d":{"k$":"y","é\"":"x"},"b c":[1,2,3],"long":"x"}"#);
    for (differences, expected) in [
        ("", r#"{"a": 1, "d": {"k$": "y", "é\"": "x"}, "b c": [1, 2, 3], "long": "x"}"#),
        ("0003242e6103050200", r#"{"a": 2, "d": {"k$": "y", "é\"": "x"}, "b c": [1, 2, 3], "long": "x"}"#),
        (
            "000a242e22622063225b315d070ff60402018305000a242e642e22c3a95c2222070c0568656c6c6f0105242e6e65770d0001000c000b0001\
             000501006b",
            r#"{"a": 1, "d": {"k$": "y", "é\"": "hello"}, "b c": [1, 3.5, 3], "new": {"k": 1}, "long": "x"}"#,
        ),
        ("020a242e22622063225b305d0203242e64", r#"{"a": 1, "b c": [2, 3], "long": "x"}"#),
        (
            "010b242e22622063225b31305d03050100",
            r#"{"a": 1, "d": {"k$": "y", "é\"": "x"}, "b c": [1, 2, 3, 1], "long": "x"}"#,
        ),
    ] {
        assert_eq!(cell(&start, &differences.replace(char::is_whitespace, "")).unwrap(), expected);
    }
    for wrong in [
        // No such member; an element of an object; a member that is there; an operation; a cut value; a cut path.
        "0003242e7a03050200",
        "0004245b305d03050200",
        "0103242e6103050200",
        "0303242e6103050200",
        "0003242e61030502",
        "0009242e61",
        "00022e6103050200",
        "020124",
    ] {
        assert!(cell(&start, wrong).is_err(), "{wrong}");
    }
}

/// A document in the binary form, small containers only.
fn build(value: &serde_json::Value) -> Vec<u8> {
    let (kind, payload) = encode(value);
    [vec![kind], payload].concat()
}

fn encode(value: &serde_json::Value) -> (u8, Vec<u8>) {
    use serde_json::Value as J;
    match value {
        J::Null => (4, vec![0]),
        J::Bool(yes) => (4, vec![if *yes { 1 } else { 2 }]),
        J::Number(number) => match number.as_i64() {
            Some(number) => (9, number.to_le_bytes().to_vec()),
            None => (11, number.as_f64().unwrap().to_le_bytes().to_vec()),
        },
        J::String(text) => {
            assert!(text.len() < 1 << 14);
            let length = match text.len() {
                short @ 0..128 => vec![short as u8],
                long => vec![long as u8 | 0x80, (long >> 7) as u8],
            };
            (12, [length, text.clone().into_bytes()].concat())
        }
        J::Array(elements) => (2, container(None, elements.iter().collect())),
        J::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| (key.len(), key.as_bytes()));
            let keys = members.iter().map(|(key, _)| key.as_str()).collect();
            (0, container(Some(keys), members.into_iter().map(|(_, value)| value).collect()))
        }
    }
}

fn container(keys: Option<Vec<&str>>, values: Vec<&serde_json::Value>) -> Vec<u8> {
    let keys = keys.unwrap_or_default();
    let mut out = vec![0; 4 + keys.len() * 4 + values.len() * 3];
    out[..2].copy_from_slice(&(values.len() as u16).to_le_bytes());
    for (index, key) in keys.iter().enumerate() {
        let (offset, length) = ((out.len() as u16).to_le_bytes(), (key.len() as u16).to_le_bytes());
        out[4 + index * 4..][..4].copy_from_slice(&[offset, length].concat());
        out.extend(key.as_bytes());
    }
    for (index, value) in values.into_iter().enumerate() {
        let (kind, payload) = encode(value);
        let at = 4 + keys.len() * 4 + index * 3;
        out[at] = kind;
        if kind == 4 {
            out[at + 1] = payload[0];
        } else {
            let offset = (out.len() as u16).to_le_bytes();
            out[at + 1..at + 3].copy_from_slice(&offset);
            out.extend(payload);
        }
    }
    let size = (out.len() as u16).to_le_bytes();
    out[2..4].copy_from_slice(&size);
    out
}

#[test]
fn a_document_that_lies_is_refused() {
    for (hex, what) in [
        ("0e", "an unknown type"),
        ("0c0578", "a string beyond the end"),
        ("0cffffffffff", "a length without an end"),
        ("0c02c328", "no UTF-8"),
        ("0403", "an unknown literal"),
        ("02ffff0400", "more elements than bytes"),
        ("0200000500", "a size beyond the end"),
        ("0201000700090500", "an offset beyond the end"),
        ("0b000000000000f07f", "an infinity"),
        ("0ff6020201", "a decimal cut short"),
        ("0f0c0801", "a date cut short"),
    ] {
        assert!(printed(&bytes(hex)).is_err(), "{what}");
    }
    // Forty levels of an array whose two elements are the same next one: 2^40 strings, were each printed.
    let mut document = vec![2];
    for _ in 0..40 {
        document.extend([2, 0, 0xFF, 0]);
        document.extend([2, 10, 0, 2, 10, 0]);
    }
    document.extend([0; 400]);
    assert!(printed(&document).is_err());
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize| {
        let mut value = serde_json::json!([]);
        for _ in 1..levels {
            value = serde_json::Value::Array(vec![value]);
        }
        build(&value)
    };
    assert_eq!(printed(&nested(100)).unwrap().len(), 200);
    assert!(printed(&nested(101)).is_err());
}

fn documents() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        // Numbers that the other parser reads without rounding.
        any::<i32>().prop_map(|number| (f64::from(number) / 8.0).into()),
        "\\PC{0,8}".prop_map(Into::into),
        any::<String>().prop_map(|text| text.chars().take(200).collect::<String>().into()),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::vec(("\\PC{0,4}", inner), 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_the_document(value in documents()) {
        let text = printed(&build(&value)).unwrap();
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn a_double_is_read_back(number in any::<f64>().prop_filter("finite", |number| number.is_finite())) {
        let mut text = Vec::new();
        number::print(number, &mut text);
        let text = String::from_utf8(text).unwrap();
        prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), number.to_bits(), "{}", text);
        prop_assert!(text.contains(['.', 'e']));
    }

    #[test]
    fn no_bytes_break_it(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0_u8..16) {
        let _ = printed(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        if let Ok(text) = printed(&bytes) {
            prop_assert!(serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok(), "{}", text);
        }
    }

    #[test]
    fn no_change_to_a_document_breaks_it(index in 0_usize..21, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (mut bytes, _) = recorded().swap_remove(index);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let length = bytes.len();
        if let Ok(text) = printed(&bytes) {
            // A byte becomes six at most (an escape); a slot of three an integer and a comma.
            prop_assert!(text.len() <= 40 + length * 12);
        }
    }

    #[test]
    fn no_difference_breaks_it(differences in prop::collection::vec(any::<u8>(), 0..60)) {
        let before = build(&serde_json::json!({"a": [1, {"b": 2}]}));
        let mut cell = vec![PARTIAL_MARK];
        cell.extend((before.len() as u32).to_le_bytes());
        cell.extend(before);
        cell.extend(differences);
        let _ = printed(&cell);
    }
}

#[test]
fn doubles() {
    for (number, expected) in [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        // Two are as near: the even one.
        (927_152_792_451_820.2, "927152792451820.2"),
        (1e15, "1e15"),
        (1_234_567_890_123_456.8, "1234567890123456.8"),
        (9_999_999_999_999_998.0, "9.999999999999998e15"),
        (1e-15, "0.000000000000001"),
        (1e-16, "1e-16"),
        (-123_456.75, "-123456.75"),
        (f64::MAX, "1.7976931348623157e308"),
        (5e-324, "5e-324"),
    ] {
        let mut text = Vec::new();
        number::print(number, &mut text);
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
