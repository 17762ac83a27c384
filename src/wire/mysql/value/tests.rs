use proptest::prelude::*;

use super::*;
use crate::record::{ArrayEvent, DataType, Decode, Form, Scratch, Value};

/// The value as text: its variant and what it holds.
fn shown_as(data_type: &DataType, decode: Decode, layout: u32, bytes: &[u8]) -> Result<String, String> {
    let mut scratch = Scratch::default();
    let value = decode(bytes, Form { data_type, layout, scratch: &mut scratch }).map_err(|wrong| wrong.to_string())?;
    Ok(match value {
        Value::Date(date) => format!("Date {}-{}-{}", date.year, date.month, date.day),
        Value::Timestamp(t) | Value::TimestampTz(t) => {
            let zone = if matches!(value, Value::TimestampTz(_)) { "Z" } else { "" };
            let (d, c) = (t.date, t.time);
            format!("{}-{}-{}T{}:{}:{}.{:06}{zone}", d.year, d.month, d.day, c.hour, c.minute, c.second, c.micros)
        }
        Value::Array(array) => {
            let mut text = String::new();
            array
                .walk(&mut |event| {
                    match event {
                        ArrayEvent::Open => text.push('['),
                        ArrayEvent::Close => text.push(']'),
                        ArrayEvent::Element(element) => text.push_str(&format!("{element:?};")),
                    }
                    Ok(())
                })
                .unwrap();
            text
        }
        Value::Json(json) => format!("Json({})", String::from_utf8_lossy(json)),
        other => format!("{other:?}"),
    })
}

fn shown(decode: Decode, layout: u32, bytes: &[u8]) -> Result<String, String> {
    shown_as(&DataType::Text, decode, layout, bytes)
}

fn check(decode: Decode, layout: u32, cases: &[(&[u8], &str)]) {
    for (bytes, expected) in cases {
        assert_eq!(shown(decode, layout, bytes).unwrap(), *expected, "{bytes:02x?}");
    }
}

fn refuse(decode: Decode, layout: u32, cases: &[&[u8]]) {
    for bytes in cases {
        let wrong = shown(decode, layout, bytes);
        assert!(wrong.is_err(), "{bytes:02x?}: {wrong:?}");
    }
}

#[test]
fn integers() {
    check(int8, 0, &[(b"\x80", "Int(-128)"), (b"\x7f", "Int(127)")]);
    check(uint8, 0, &[(b"\xff", "UInt(255)")]);
    check(int16, 0, &[(b"\x00\x80", "Int(-32768)")]);
    check(uint16, 0, &[(b"\xff\xff", "UInt(65535)")]);
    check(
        int24,
        0,
        &[(b"\x00\x00\x80", "Int(-8388608)"), (b"\xff\xff\x7f", "Int(8388607)"), (b"\xff\xff\xff", "Int(-1)")],
    );
    check(uint24, 0, &[(b"\xff\xff\xff", "UInt(16777215)")]);
    check(int32, 0, &[(b"\x00\x00\x00\x80", "Int(-2147483648)")]);
    check(uint32, 0, &[(b"\xff\xff\xff\xff", "UInt(4294967295)")]);
    check(int64, 0, &[(b"\0\0\0\0\0\0\0\x80", "Int(-9223372036854775808)")]);
    check(uint64, 0, &[(&[0xff; 8], "UInt(18446744073709551615)")]);
    check(bit, 0, &[(b"\x01", "UInt(1)"), (b"\x01\x00", "UInt(256)"), (&[0xff; 8], "UInt(18446744073709551615)")]);
    check(year, 0, &[(b"\0", "UInt(0)"), (b"\x01", "UInt(1901)"), (b"\xff", "UInt(2155)")]);
    check(protocol::year, 0, &[(b"\0\0", "UInt(0)"), (b"\x6b\x08", "UInt(2155)")]);
    check(float, 0, &[(&0.1_f32.to_le_bytes(), "F32(0.1)"), (&(-0.0_f32).to_le_bytes(), "F32(-0.0)")]);
    check(double, 0, &[(&f64::MAX.to_le_bytes(), "F64(1.7976931348623157e308)")]);
    for decode in [int8, uint16, int24, uint32, int64, float, double, year, bit] as [Decode; 9] {
        refuse(decode, 0, &[b"", &[1; 9]]);
    }
    assert_eq!(shown(int32, 0, b"\x01\xff").unwrap_err(), "expected INT in 4 bytes, found \"0x01FF\"");
}

#[test]
fn decimals() {
    let layout = |precision: u32, scale: u32| precision << 8 | scale;
    // DECIMAL(14,4), the example of the server's source.
    check(
        decimal,
        layout(14, 4),
        &[
            (b"\x81\x0d\xfb\x38\xd2\x04\xd2", "Decimal(\"1234567890.1234\")"),
            (b"\x7e\xf2\x04\xc7\x2d\xfb\x2d", "Decimal(\"-1234567890.1234\")"),
            (b"\x80\0\0\0\0\0\0", "Decimal(\"0.0000\")"),
            (b"\x80\0\0\0\x01\0\x05", "Decimal(\"1.0005\")"),
        ],
    );
    check(
        decimal,
        layout(2, 2),
        &[(b"\x80", "Decimal(\"0.00\")"), (b"\xe3", "Decimal(\"0.99\")"), (b"\x4d", "Decimal(\"-0.50\")")],
    );
    check(decimal, layout(1, 0), &[(b"\x89", "Decimal(\"9\")"), (b"\x76", "Decimal(\"-9\")")]);
    check(
        decimal,
        layout(10, 0),
        &[(b"\x80\x00\x00\x00\x05", "Decimal(\"5\")"), (b"\x81\0\0\0\x05", "Decimal(\"1000000005\")")],
    );
    assert_eq!((decimal_bytes(65, 30), decimal_bytes(14, 4), decimal_bytes(9, 9), decimal_bytes(70, 0)), (30, 7, 4, 0));
    // Too short; too long; a group of more digits than it has.
    refuse(decimal, layout(14, 4), &[b"", b"\x81\x0d\xfb\x38\xd2\x04", &[0x80; 8], b"\x81\xff\xff\xff\xff\x04\xd2"]);
    refuse(decimal, layout(2, 2), &[b"\xff"]);
    refuse(decimal, layout(66, 0), &[&[0x80; 30]]);
    refuse(decimal, layout(1, 2), &[&[0x80; 1]]);
    check(
        protocol::decimal,
        0,
        &[
            (b"-0.50", "Decimal(\"-0.50\")"),
            (b"000012.30", "Decimal(\"12.30\")"),
            (b"00000", "Decimal(\"0\")"),
            (b"000.10", "Decimal(\"0.10\")"),
            (b"7", "Decimal(\"7\")"),
        ],
    );
    refuse(protocol::decimal, 0, &[b"", b"-", b"1.", b".5", b"1e5", b"--1", b"1.2.3"]);
}

#[test]
fn dates() {
    check(
        date,
        0,
        &[
            (b"\x75\xd1\x0f", "Date 2024-11-21"),
            (b"\x9f\x1f\x4e", "Date 9999-12-31"),
            (b"\0\0\0", "Text(\"0000-00-00\")"),
            (b"\x0f\xd0\x0f", "Text(\"2024-00-15\")"),
            (b"\x60\xd0\x0f", "Text(\"2024-03-00\")"),
            (b"\x21\x00\x00", "Text(\"0000-01-01\")"),
            (b"\x5d\xd0\x0f", "Date 2024-2-29"),
            (b"\x5e\xd0\x0f", "Text(\"2024-02-30\")"),
            (b"\x5d\xce\x0f", "Text(\"2023-02-29\")"),
        ],
    );
    refuse(date, 0, &[b"", b"\0\0", b"\xff\xff\xff", b"\xa1\xd1\x0f"]);
    check(date4, 0, &[(&20_241_121_u32.to_le_bytes(), "Date 2024-11-21"), (&[0; 4], "Text(\"0000-00-00\")")]);
    check(
        protocol::date,
        0,
        &[
            (b"", "Text(\"0000-00-00\")"),
            (b"\xe8\x07\x00\x0f", "Text(\"2024-00-15\")"),
            (b"\xe8\x07\x0b\x15", "Date 2024-11-21"),
        ],
    );
    refuse(protocol::date, 0, &[b"\xe8\x07\x0b", b"\xe8\x07\x0b\x15\x01\0\0", b"\x10\x27\x01\x01"]);
}

#[test]
fn times() {
    check(
        time2,
        0,
        &[
            (b"\x80\x00\x00", "Text(\"00:00:00\")"),
            (b"\xb4\x6e\xfb", "Text(\"838:59:59\")"),
            (b"\x4b\x91\x05", "Text(\"-838:59:59\")"),
        ],
    );
    check(time2, 1, &[(b"\x7f\xff\xff\xce", "Text(\"-00:00:00.5\")"), (b"\x80\x10\x83\x46", "Text(\"01:02:03.7\")")]);
    check(
        time2,
        6,
        &[
            (b"\x80\0\0\x0f\x42\x3f", "Text(\"00:00:00.999999\")"),
            (b"\x7f\xff\xff\xff\xff\xff", "Text(\"-00:00:00.000001\")"),
            (b"\x4b\x91\x04\xf0\xbd\xc1", "Text(\"-838:59:59.999999\")"),
        ],
    );
    refuse(time2, 0, &[b"", b"\x80\0", b"\xff\xff\xff", b"\x80\x00\x3c", b"\0\0\0", b"\x80\0\0\0\0\0\0"]);
    // More digits than the column has.
    refuse(time2, 1, &[b"\x80\x00\x00\x01"]);
    check(
        protocol::time,
        2,
        &[
            (b"", "Text(\"00:00:00.00\")"),
            (b"\x01\x22\0\0\0\x16\x3b\x3b", "Text(\"-838:59:59.00\")"),
            (b"\0\0\0\0\0\x01\x02\x03\x60\x5b\x03\0", "Text(\"01:02:03.22\")"),
        ],
    );
    refuse(
        protocol::time,
        0,
        &[b"\x02\0\0\0\0\x01\x02\x03", b"\0\xff\xff\xff\xff\x01\x02\x03", b"\0\0\0\0\0\x01\x02\x03\x60\x5b\x03\0"],
    );
}

#[test]
fn datetimes_and_timestamps() {
    check(
        datetime2,
        0,
        &[
            (b"\x99\xb4\xea\xcb\x38", "2024-11-21T12:44:56.000000"),
            (b"\x80\0\0\0\0", "Text(\"0000-00-00 00:00:00\")"),
            (b"\xfe\xf3\xff\x7e\xfb", "9999-12-31T23:59:59.000000"),
        ],
    );
    check(
        datetime2,
        6,
        &[
            (b"\xfe\xf3\xff\x7e\xfb\x0f\x42\x3f", "9999-12-31T23:59:59.999999"),
            (b"\x80\0\0\0\0\0\0\0", "Text(\"0000-00-00 00:00:00.000000\")"),
        ],
    );
    refuse(datetime2, 0, &[b"", b"\x7f\xff\xff\xff\xff", b"\xff\xff\xff\xff\xff", b"\x99\xb4\xea\xff\xff"]);
    refuse(datetime2, 2, &[b"\x99\xb4\xea\xcb\x38\xff"]);
    check(
        timestamp2,
        0,
        &[
            (b"\0\0\0\0", "Text(\"0000-00-00 00:00:00\")"),
            (b"\0\0\0\x01", "1970-1-1T0:0:1.000000Z"),
            (b"\x7f\xff\xff\xff", "2038-1-19T3:14:7.000000Z"),
            (b"\xff\xff\xff\xff", "2106-2-7T6:28:15.000000Z"),
        ],
    );
    check(
        timestamp2,
        3,
        &[(b"\0\0\0\x01\x04\xd2", "1970-1-1T0:0:1.123400Z"), (&[0; 6], "Text(\"0000-00-00 00:00:00.000\")")],
    );
    refuse(timestamp2, 0, &[b"", b"\0\0\0", &[0; 8]]);
    check(
        protocol::datetime,
        3,
        &[
            (b"", "Text(\"0000-00-00 00:00:00.000\")"),
            (b"\xe8\x07\x0b\x15\x0c\x2c\x38\x40\xe2\x01\x00", "2024-11-21T12:44:56.123456"),
            (b"\xe8\x07\x0b\x15", "2024-11-21T0:0:0.000000"),
        ],
    );
    check(
        protocol::timestamp,
        0,
        &[(b"", "Text(\"0000-00-00 00:00:00\")"), (b"\xe8\x07\x0b\x15", "2024-11-21T0:0:0.000000Z")],
    );
    refuse(protocol::datetime, 0, &[b"\xe8\x07\x0d\x15", b"\xe8\x07\x0b\x15\x18\0\0", b"\xe8"]);
}

/// A row of MariaDB with `mysql56_temporal_format=OFF`, cell by cell.
#[test]
fn old_temporal_types() {
    check(old_time, 0, &[(b"\x59\x0a\x80", "Text(\"-838:59:59\")")]);
    check(old_time, 1, &[(b"\x03\x99\xc0\xbf", "Text(\"838:59:59.9\")")]);
    check(old_time, 2, &[(b"\x11\xfb\x15\x47", "Text(\"-01:02:03.45\")")]);
    check(old_time, 3, &[(b"\x00\xb4\x07\xa5\x81", "Text(\"00:00:00.001\")")]);
    check(old_time, 4, &[(b"\x07\x08\x4c\x76\xff", "Text(\"-00:00:00.0001\")")]);
    check(old_time, 5, &[(b"\x46\x69\x2d\xaf\x19", "Text(\"01:02:03.12345\")")]);
    check(old_time, 6, &[(b"\0\0\0\0\0\x01", "Text(\"-838:59:59.999999\")")]);
    check(
        old_datetime,
        0,
        &[(b"\x45\x7c\x17\x84\x68\x12\0\0", "2024-1-2T3:4:5.000000"), (&[0; 8], "Text(\"0000-00-00 00:00:00\")")],
    );
    check(old_datetime, 1, &[(b"\x00\xa9\x62\x98\xed\x78", "2024-1-2T3:4:5.600000")]);
    check(old_datetime, 3, &[(b"\x00\x42\x2a\x83\xbc\xc3\x2e", "2024-1-2T3:4:5.678000")]);
    check(old_datetime, 6, &[(b"\x04\xfc\xee\x39\x43\xbf\xff\xff", "9999-12-31T23:59:59.999999")]);
    check(
        old_timestamp,
        0,
        &[(b"\x25\x7d\x93\x65", "2024-1-2T3:4:5.000000Z"), (&[0; 4], "Text(\"0000-00-00 00:00:00\")")],
    );
    check(old_timestamp, 1, &[(b"\x65\x93\x7d\x25\x06", "2024-1-2T3:4:5.600000Z")]);
    check(old_timestamp, 3, &[(b"\x65\x93\x7d\x25\x02\xa6", "2024-1-2T3:4:5.678000Z")]);
    check(old_timestamp, 6, &[(b"\x65\x93\x7d\x25\x0a\x5b\xf5", "2024-1-2T3:4:5.678901Z")]);
    refuse(old_time, 1, &[b"", &[0xff; 4], &[0; 5]]);
    refuse(old_time, 7, &[&[0; 6]]);
    refuse(old_datetime, 6, &[&[0xff; 8]]);
    refuse(old_datetime, 0, &[&[0xff; 8]]);
    refuse(old_timestamp, 1, &[b"\x65\x93\x7d\x25\x0a", &[0; 4]]);
}

#[test]
fn characters_and_bytes() {
    check(utf8, 0, &[("é😀".as_bytes(), "Text(\"é😀\")"), (b"", "Text(\"\")")]);
    refuse(utf8, 0, &[b"\xe9"]);
    assert_eq!(shown(utf8, 0, b"a\xe9").unwrap_err(), "expected text in UTF-8, found \"0xE9 at byte 1 of 2\"");
    check(text, Charset::Latin1 as u32, &[(b"\xe9\x80", "Text(\"é€\")")]);
    check(
        binary,
        4,
        &[(b"ab", "Bytes([97, 98, 0, 0])"), (b"abcd", "Bytes([97, 98, 99, 100])"), (b"", "Bytes([0, 0, 0, 0])")],
    );
    refuse(binary, 4, &[b"abcde"]);
    check(bytes, 0, &[(b"\0\xff", "Bytes([0, 255])")]);
}

#[test]
fn enums_and_sets() {
    let labels = |count: usize| (0..count).map(|at| format!("l{at}é").into()).collect::<Box<[Box<str>]>>();
    let few = DataType::Enum(labels(2));
    assert_eq!(shown_as(&few, enumeration, 0, b"\0").unwrap(), "Text(\"\")");
    assert_eq!(shown_as(&few, enumeration, 0, b"\x02").unwrap(), "Text(\"l1é\")");
    assert!(shown_as(&few, enumeration, 0, b"\x03").is_err() && shown_as(&few, enumeration, 0, b"").is_err());
    let many = DataType::Enum(labels(300));
    assert_eq!(shown_as(&many, enumeration, 0, b"\x2c\x01").unwrap(), "Text(\"l299é\")");
    assert!(shown_as(&DataType::Text, enumeration, 0, b"\x01").is_err());
    let few = DataType::Set(labels(3));
    for (bytes, text) in [(b"\0", ""), (b"\x02", "l1é"), (b"\x07", "l0é,l1é,l2é"), (b"\x05", "l0é,l2é")] {
        assert_eq!(shown_as(&few, set, 0, bytes).unwrap(), format!("Text({text:?})"));
    }
    assert!(shown_as(&few, set, 0, b"\x08").is_err() && shown_as(&few, set, 0, b"").is_err());
    let full = DataType::Set(labels(64));
    assert!(shown_as(&full, set, 0, &[0xff; 8]).unwrap().ends_with(",l63é\")"));
    assert_eq!(shown_as(&full, set, 0, b"\0\0\0\0\0\0\0\x80").unwrap(), "Text(\"l63é\")");
}

#[test]
fn json_that_is_text() {
    let utf8mb4 = Charset::Utf8mb4 as u32;
    check(
        json_text,
        utf8mb4,
        &[
            (b"{\"a\" :1}", "Json({\"a\" :1})"),
            (b"", "Text(\"\")"),
            (b"{a:1}", "Text(\"{a:1}\")"),
            (b"\"a\nb\"", "Text(\"\\\"a\\nb\\\"\")"),
            (b"1 2", "Text(\"1 2\")"),
        ],
    );
    refuse(json_text, utf8mb4, &[b"\"\xff\""]);
    refuse(protocol::json, 0, &[b"", b"\xff"]);
}

#[test]
fn vectors() {
    let floats = [1.5_f32, -0.0, f32::MAX].map(f32::to_le_bytes).concat();
    assert_eq!(shown_as(&vector_type(), vector, 0, &floats).unwrap(), "[F32(1.5);F32(-0.0);F32(3.4028235e38);]");
    assert!(shown_as(&vector_type(), vector, 0, &floats[1..]).is_err());
}

#[test]
fn addresses() {
    check(
        uuid,
        0,
        &[
            (
                b"\x11\x11\x22\x22\x33\x33\x14\x44\x85\x55\x66\x66\x77\x77\x88",
                "Uuid(\"11112222-3333-1444-8555-666677778800\")",
            ),
            (b"", "Uuid(\"00000000-0000-0000-0000-000000000000\")"),
        ],
    );
    refuse(uuid, 0, &[&[1; 17]]);
    refuse(protocol::uuid, 0, &[b"", b"11112222-3333-1444-8555-66667777880g"]);
    check(inet4, 0, &[(b"\x7f\0\0\x01", "Text(\"127.0.0.1\")"), (b"\x0a", "Text(\"10.0.0.0\")")]);
    let six = |groups: [u16; 8]| shown(inet6, 0, &groups.map(u16::to_be_bytes).concat()).unwrap();
    // As MariaDB 11.8 prints them.
    for (groups, text) in [
        ([0; 8], "::"),
        ([0, 0, 0, 0, 0, 0, 0, 1], "::1"),
        ([1, 0, 0, 0, 0, 0, 0, 0], "1::"),
        ([1, 0, 1, 1, 1, 1, 1, 1], "1::1:1:1:1:1:1"),
        ([1, 0, 0, 1, 0, 0, 1, 1], "1::1:0:0:1:1"),
        ([0, 0, 0, 0, 0, 0xffff, 0x102, 0x304], "::ffff:1.2.3.4"),
        ([0, 0, 0, 0, 0, 0, 0x102, 0x304], "::1.2.3.4"),
        ([0, 0, 0, 0, 0, 0, 1, 2], "::0.1.0.2"),
        ([0, 1, 0, 1, 0, 1, 0, 1], "::1:0:1:0:1:0:1"),
        ([0, 0, 0, 0, 0, 0xffff, 0, 1], "::ffff:0.0.0.1"),
        ([1, 1, 1, 1, 1, 1, 1, 0], "1:1:1:1:1:1:1::"),
        ([0, 0, 0, 5, 0, 0, 0, 0], "0:0:0:5::"),
        ([0, 0, 0, 0, 1, 2, 3, 4], "::1:2:3:4"),
    ] {
        assert_eq!(six(groups), format!("Text({text:?})"));
    }
}

/// Cells of MariaDB 11.8.
#[test]
fn compressed_columns() {
    let utf8mb4 = Charset::Utf8mb4 as u32;
    let deflated = b"\x8a\x01\x2c\x4b\x4c\x1c\x05\xc4\x02\x00";
    let with_head = b"\x82\x01\x2c\x78\x9c\x4b\x4c\x1c\x05\xc4\x02\x00\xd8\xa8\x71\xad";
    let text = format!("Text({:?})", "a".repeat(300));
    check(
        compressed_text,
        utf8mb4,
        &[
            (deflated, &*text),
            (with_head, &*text),
            (b"\0short", "Text(\"short\")"),
            (b"", "Text(\"\")"),
            (b"\0", "Text(\"\")"),
        ],
    );
    let latin1 = format!("Text({:?})", "ä".repeat(200));
    check(
        compressed_text,
        Charset::Latin1 as u32,
        &[
            (b"\x89\xc8\x7b\xf2\x64\x78\0\0", &*latin1),
            (b"\x81\xc8\x78\x9c\x7b\xf2\x64\x78\0\0\xf2\x63\xb2\x21", &*latin1),
            (b"\0\xe4", "Text(\"ä\")"),
        ],
    );
    assert_eq!(shown(compressed_bytes, 0, b"\x89\x64\x4b\x4a\xa2\x3d\0\0").unwrap().matches("98").count(), 100);
    // A length that lies either way, one that cannot be, none, more bytes behind the end, another method.
    refuse(
        compressed_bytes,
        0,
        &[
            b"\x8a\x01\x2b\x4b\x4c\x1c\x05\xc4\x02\x00",
            b"\x8a\x01\x2d\x4b\x4c\x1c\x05\xc4\x02\x00",
            b"\x8c\xff\xff\xff\xff\x4b\x4c\x1c\x05\xc4\x02\x00",
            b"\x88\x4b",
            b"\x8a\x01\x2c\x4b\x4c\x1c\x05\xc4\x02\x00\x00",
            b"\x10ab",
            b"\x8a",
        ],
    );
}

fn every() -> Vec<(Decode, DataType)> {
    let labels: Box<[Box<str>]> = ["a".into(), "b".into()].into();
    let plain: &[Decode] = &[
        int8,
        int16,
        int24,
        int32,
        int64,
        uint8,
        uint16,
        uint24,
        uint32,
        uint64,
        float,
        double,
        decimal,
        bit,
        year,
        date,
        date4,
        time2,
        datetime2,
        timestamp2,
        old_time,
        old_datetime,
        old_timestamp,
        text,
        utf8,
        bytes,
        binary,
        json,
        json_text,
        uuid,
        inet4,
        inet6,
        compressed_bytes,
        compressed_text,
        protocol::year,
        protocol::decimal,
        protocol::date,
        protocol::datetime,
        protocol::timestamp,
        protocol::time,
        protocol::json,
        protocol::uuid,
    ];
    let mut all: Vec<(Decode, DataType)> = plain.iter().map(|decode| (*decode, DataType::Text)).collect();
    all.push((enumeration, DataType::Enum(labels.clone())));
    all.push((set, DataType::Set(labels)));
    all.push((vector, vector_type()));
    all
}

proptest! {
    #[test]
    fn no_bytes_break_a_decoder(bytes in prop::collection::vec(any::<u8>(), 0..24), layout in 0_u32..70, wide in any::<u16>()) {
        for (decode, data_type) in every() {
            for layout in [layout, wide.into()] {
                let _ = shown_as(&data_type, decode, layout, &bytes);
            }
        }
    }

    #[test]
    fn both_forms_of_a_datetime_are_equal(
        year in 0_u16..=9999, month in 0_u8..=12, day in 0_u8..=31, hour in 0_u8..24, minute in 0_u8..60, second in 0_u8..60,
        micros in 0_u32..1_000_000,
    ) {
        let months = u64::from(year) * 13 + u64::from(month);
        let clock = u64::from(hour) << 12 | u64::from(minute) << 6 | u64::from(second);
        let packed = 0x80_0000_0000 + (months << 22 | u64::from(day) << 17 | clock);
        let mut row = packed.to_be_bytes()[3..].to_vec();
        row.extend(&micros.to_be_bytes()[1..]);
        let mut cell = year.to_le_bytes().to_vec();
        cell.extend([month, day, hour, minute, second]);
        cell.extend(micros.to_le_bytes());
        prop_assert_eq!(shown(datetime2, 6, &row), shown(protocol::datetime, 6, &cell));
    }

    #[test]
    fn both_forms_of_a_time_are_equal(negative: bool, seconds in 0_u32..=3_020_399, micros in 0_u32..1_000_000) {
        let (hours, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        let magnitude = (i64::from(hours << 12 | minute << 6 | second) << 24) + i64::from(micros);
        let negative = negative && magnitude > 0;
        let packed = 0x8000_0000_0000 + if negative { -magnitude } else { magnitude };
        let mut cell = vec![u8::from(negative)];
        cell.extend((hours / 24).to_le_bytes());
        cell.extend([(hours % 24) as u8, minute as u8, second as u8]);
        cell.extend(micros.to_le_bytes());
        let row = shown(time2, 6, &packed.to_be_bytes()[2..]).unwrap();
        prop_assert_eq!(&row, &shown(protocol::time, 6, &cell).unwrap());
        let units = 3_020_400 * 1_000_000 + (i64::from(seconds) * 1_000_000 + i64::from(micros)) * if negative { -1 } else { 1 };
        prop_assert_eq!(row, shown(old_time, 6, &units.to_be_bytes()[2..]).unwrap());
    }

    #[test]
    fn decimals_come_back(digits in prop::collection::vec(0_u8..10, 1..=65), scale in 0_usize..=30, negative: bool) {
        let scale = scale.min(digits.len());
        let whole = digits.len() - scale;
        // The server's own packing, by its description.
        let mut packed = Vec::new();
        let mut group = |digits: &[u8]| {
            let bytes = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4][digits.len()];
            let number = digits.iter().fold(0_u32, |number, digit| number * 10 + u32::from(*digit));
            packed.extend_from_slice(&number.to_be_bytes()[4 - bytes..]);
        };
        group(&digits[..whole % 9]);
        digits[whole % 9..whole].chunks(9).for_each(&mut group);
        digits[whole..].chunks(9).for_each(&mut group);
        packed[0] ^= 0x80;
        if negative {
            packed.iter_mut().for_each(|byte| *byte = !*byte);
        }
        let text = |digits: &[u8]| digits.iter().map(|digit| char::from(b'0' + digit)).collect::<String>();
        let whole_text = text(&digits[..whole]);
        let whole_text = if whole_text.trim_start_matches('0').is_empty() { "0" } else { whole_text.trim_start_matches('0') };
        let mut expected = format!("{}{whole_text}", if negative { "-" } else { "" });
        if scale > 0 {
            expected.push('.');
            expected.push_str(&text(&digits[whole..]));
        }
        let layout = (digits.len() as u32) << 8 | scale as u32;
        prop_assert_eq!(shown(decimal, layout, &packed).unwrap(), format!("Decimal({expected:?})"));
    }
}
