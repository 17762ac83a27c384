use proptest::prelude::*;

use super::*;

fn decoded(charset: Charset, bytes: &[u8]) -> Result<String, ValueError> {
    charset.decode(bytes, &mut Vec::new()).map(str::to_owned)
}

#[test]
fn names_and_numbers() {
    for (index, charset) in Charset::ALL.into_iter().enumerate() {
        assert_eq!(charset as usize, index);
        assert_eq!(Charset::named(charset.name()), Some(charset));
        assert_eq!(Charset::of_layout(index as u32), charset);
        assert_eq!(Charset::of_collation(&format!("{}_bin", charset.name())), Some(charset));
    }
    assert_eq!(Charset::named("utf8"), Some(Utf8mb3));
    assert_eq!(Charset::of_collation("binary"), Some(Binary));
    assert_eq!(Charset::of_collation("uca1400_ai_ci"), None);
    let known =
        [(8, Latin1), (33, Utf8mb3), (45, Utf8mb4), (63, Binary), (255, Utf8mb4), (249, Gb18030), (2304, Utf8mb4)];
    for (id, charset) in known {
        assert_eq!(Charset::of_collation_id(id), Some(charset), "{id}");
    }
    for unknown in [0, 17, 3272, u32::MAX] {
        assert_eq!(Charset::of_collation_id(unknown), None, "{unknown}");
    }
    assert_eq!(collation_name(2304).as_deref(), Some("utf8mb4_uca1400_ai_ci"));
    assert_eq!(collation_name(2311).as_deref(), Some("utf8mb4_uca1400_nopad_as_cs"));
}

#[test]
fn one_text_in_every_kind_of_set() {
    for (charset, bytes, text) in [
        (Utf8mb4, "a😀".as_bytes(), "a😀"),
        (Utf8mb3, "a€".as_bytes(), "a€"),
        (Ascii, b"a~", "a~"),
        // Windows' set with controls in its five holes.
        (Latin1, b"\x80\x81\x8d\xe4", "€\u{81}\u{8d}ä"),
        (Latin2, b"\xa1\x80", "Ą\u{80}"),
        (Koi8r, b"\xf4\xc5\xd3\xd4", "Тест"),
        (Swe7, b"A@[\\]~", "AÉÄÖÅü"),
        (Ucs2, b"\0a\x20\xac", "a€"),
        (Utf16, b"\0a\xd8\x3d\xde\0", "a😀"),
        (Utf16le, b"a\0\x3d\xd8\0\xde", "a😀"),
        (Utf32, b"\0\0\0a\0\x01\xf6\0", "a😀"),
        (Gbk, b"a\x81\x40b", "a丂b"),
        (Gb2312, b"\xa1\xa4", "・"),
        (Gb18030, b"\x81\x30\x81\x30\x90\x30\x81\x30\xa3\xa0", "\u{80}\u{10000}\u{e5e5}"),
        (Big5, b"\xa1\x45\xa4\xa4", "•中"),
        (Sjis, b"\x81\x5f\xb1\x88\x9f", "\\ｱ亜"),
        (Cp932, b"\x81\x5f\x87\x40", "＼①"),
        (Ujis, b"\xa1\xc0\x8e\xb1\xf5\xa1\x8f\xb0\xa1", "\\ｱ\u{e000}丂"),
        (Eucjpms, b"\xa1\xc0\xad\xa1\x8f\xf4\xcc", "＼①淲"),
        (Euckr, b"\xb0\xa1", "가"),
        // The servers have them so.
        (Tis620, b"\xa1\xff", "ก\u{fffd}"),
        (Big5, b"\xa1\x5a", "\u{fffd}"),
    ] {
        assert_eq!(decoded(charset, bytes).unwrap(), text, "{charset:?}");
        assert_eq!(decoded(charset, b"").unwrap(), "");
    }
}

#[test]
fn what_is_no_character_is_named() {
    for (charset, bytes, found) in [
        (Utf8mb4, b"a\xff\xfe".as_slice(), "0xFFFE at byte 1 of 3"),
        (Ascii, b"a\x80", "0x80 at byte 1 of 2"),
        (Cp1250, b"ab\x81", "0x81 at byte 2 of 3"),
        (Cp1257, b"\xa1", "0xA1 at byte 0 of 1"),
        (Swe7, b"\x7f", "0x7F at byte 0 of 1"),
        (Ucs2, b"\0a\xd8\0", "0xD800 at byte 2 of 4"),
        (Ucs2, b"\0a\0", "0x00 at byte 2 of 3"),
        (Utf16, b"\xdc\0\0a", "0xDC000061 at byte 0 of 4"),
        (Utf32, b"\0\x11\0\0", "0x00110000 at byte 0 of 4"),
        (Gbk, b"a\x81", "0x81 at byte 1 of 2"),
        (Gbk, b"\xfe\x55", "0xFE55 at byte 0 of 2"),
        (Gb18030, b"\xff\x30\x81\x30", "0xFF308130 at byte 0 of 4"),
        (Sjis, b"\xa0", "0xA0 at byte 0 of 1"),
        (Binary, b"abc", "0x616263 at byte 0 of 3"),
    ] {
        assert_eq!(decoded(charset, bytes).unwrap_err().found, found, "{charset:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        for charset in Charset::ALL {
            if let Ok(text) = decoded(charset, &bytes) {
                // One character a byte at most.
                prop_assert!(text.chars().count() <= bytes.len());
            }
        }
    }

    #[test]
    fn unicode_comes_back(text in any::<String>()) {
        let units: Vec<u16> = text.encode_utf16().collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let wide: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
        prop_assert_eq!(decoded(Utf16, &big).unwrap(), &*text);
        prop_assert_eq!(decoded(Utf16le, &little).unwrap(), &*text);
        prop_assert_eq!(decoded(Utf32, &wide).unwrap(), &*text);
    }
}
