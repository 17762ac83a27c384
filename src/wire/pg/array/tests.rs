use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::wire::pg::text::{array_of, scalar};

const TEXT: u32 = 25;

/// The events as text: elements quoted, NULL bare.
fn events(bytes: &[u8], type_oid: u32, delimiter: u8) -> Result<String, ValueError> {
    let (element, decode) = scalar(type_oid);
    let (data_type, decode) = array_of(element, decode, delimiter);
    let mut out = String::new();
    match decode(bytes, Form::plain(&data_type, &mut Scratch::default()))? {
        Value::Text(text) => return Ok(format!("text {text}")),
        Value::Array(array) => array.walk(&mut |event| {
            match event {
                ArrayEvent::Open => out.push('['),
                ArrayEvent::Close => out.push(']'),
                ArrayEvent::Element(Value::Null) => out.push_str("null "),
                ArrayEvent::Element(Value::Text(text)) => write!(out, "{text:?} ").unwrap(),
                ArrayEvent::Element(Value::Int(number)) => write!(out, "{number} ").unwrap(),
                ArrayEvent::Element(other) => write!(out, "{other:?} ").unwrap(),
            }
            Ok(())
        })?,
        other => panic!("{other:?}"),
    }
    Ok(out)
}

fn text(bytes: &str) -> String {
    events(bytes.as_bytes(), TEXT, b',').unwrap()
}

#[test]
fn elements_nulls_and_quotes() {
    assert_eq!(text("{}"), "[]");
    assert_eq!(text("{a,NULL,\"NULL\",null}"), r#"["a" null "NULL" "null" ]"#);
    assert_eq!(text(r#"{"",", ","{}","a\"b","\\","\\\"\\"}"#), r#"["" ", " "{}" "a\"b" "\\" "\\\"\\" ]"#);
    assert_eq!(text("{{a,b},{NULL,c}}"), r#"[["a" "b" ][null "c" ]]"#);
    assert_eq!(events(b"{1,-2,NULL}", 20, b',').unwrap(), "[1 -2 null ]");
    assert_eq!(events(br#"{"\\x00ff"}"#, 17, b',').unwrap(), "[Hex([48, 48, 102, 102]) ]");
}

#[test]
fn a_delimiter_of_its_own() {
    assert_eq!(events(b"{(1,1),(0,0);(2,2),(1,1)}", 603, b';').unwrap(), r#"["(1,1),(0,0)" "(2,2),(1,1)" ]"#);
}

#[test]
fn bounds_keep_their_text() {
    assert_eq!(text("[0:1]={a,b}"), "text [0:1]={a,b}");
    assert_eq!(text("[-1:0][2:2]={{a},{NULL}}"), "text [-1:0][2:2]={{a},{NULL}}");
}

#[test]
fn six_dimensions_and_no_more() {
    assert_eq!(text("{{{{{{a}}}}}}"), r#"[[[[[["a" ]]]]]]"#);
    assert!(events(b"{{{{{{{a}}}}}}}", TEXT, b',').is_err());
}

#[test]
fn what_the_server_never_prints_is_an_error() {
    for wrong in [
        "",
        "a",
        "{",
        "{a",
        "{a,",
        "{a,}",
        "{,a}",
        "{a}b",
        "{}}",
        "{a\"b\"}",
        "{\"a}",
        "{\"a\\",
        "{\"a\\\"}",
        "{\"a\"b}",
        "{{a}b}",
        "{a{b}}",
        "{a\\b}",
        "{a},",
        "{a,,b}",
        "}",
        ",",
        "\"a\"",
    ] {
        assert!(events(wrong.as_bytes(), TEXT, b',').is_err(), "{wrong}");
    }
    assert!(events(b"{1,x}", 20, b',').is_err());
    assert!(events(b"{\xff}", TEXT, b',').is_err());
}

/// As `array_out` writes an element.
fn written(element: &Option<String>) -> String {
    match element {
        None => "NULL".into(),
        Some(text) => {
            let space = |c| " \t\n\x0b\x0c\r".contains(c);
            let quote = text.is_empty()
                || text.eq_ignore_ascii_case("null")
                || text.contains(|c| "\"\\{},".contains(c) || space(c));
            if quote { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) } else { text.clone() }
        }
    }
}

proptest! {
    #[test]
    fn never_panics(bytes in prop::collection::vec(prop::sample::select(b"{}{}\",;\\NULLa1[:]=\xc3".to_vec()), 0..30)) {
        let _ = events(&bytes, TEXT, b',');
        let _ = events(&bytes, 23, b';');
        let _ = events(&[b"{", &bytes[..], b"}"].concat(), TEXT, b',');
    }

    #[test]
    fn reads_what_a_server_writes(elements in prop::collection::vec(prop::option::of(prop_oneof!["[a-zN\"\\\\{},; é\n]{0,8}", Just("NULL".to_owned()), Just("null".to_owned())]), 0..8)) {
        let printed = format!("{{{}}}", elements.iter().map(written).collect::<Vec<_>>().join(","));
        let expected = elements.iter().fold("[".to_owned(), |out, element| match element {
            None => out + "null ",
            Some(text) => out + &format!("{text:?} "),
        }) + "]";
        prop_assert_eq!(events(printed.as_bytes(), TEXT, b',').unwrap(), expected);
    }
}
