//! Every value of every type, as a consumer reads it.

use proptest::prelude::*;

use super::*;
use crate::encode::proto::sample::{any_cell, column, decode, given};
use crate::record::{ArrayEvent, Date, DateTime, Form, Row, Scratch, Value, ValueError, days_from_civil};

/// What the documentation in `types.proto` says of a value.
fn expected(value: &Value<'_>) -> v1::Value {
    let plain = |date: Date| date.month > 0 && date.day > 0;
    let micros = |at: DateTime| plain(at.date).then(|| at.to_unix_micros()).flatten();
    message_of(match *value {
        Value::Null => return special(Special::Null),
        Value::Unchanged => return special(Special::Unchanged),
        Value::Missing => return special(Special::Missing),
        Value::Infinity { negative: false } => return special(Special::Infinity),
        Value::Infinity { negative: true } => return special(Special::NegativeInfinity),
        Value::Bool(truth) => Kind::Boolean(truth),
        Value::Int(number) => Kind::Integer(number),
        Value::UInt(number) => Kind::Unsigned(number),
        Value::F32(number) => Kind::Float32(number),
        Value::F64(number) => Kind::Float64(number),
        Value::Decimal(text) => Kind::Decimal(text.into()),
        Value::Text(text) => Kind::Text(text.into()),
        Value::Bytes(bytes) => Kind::Bytes(Bytes::copy_from_slice(bytes)),
        Value::Hex(digits) => {
            let digits = std::str::from_utf8(digits).unwrap();
            let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            Kind::Bytes((0..digits.len()).step_by(2).map(byte).collect())
        }
        Value::Date(date) => match i32::try_from(days_from_civil(date)) {
            Ok(days) if plain(date) => Kind::Date(days),
            _ => Kind::Text(printed(date)),
        },
        Value::Timestamp(at) => match micros(at) {
            Some(micros) => Kind::Timestamp(micros),
            None => Kind::Text(printed_at(at, "")),
        },
        Value::TimestampTz(at) => match micros(at) {
            Some(micros) => Kind::Timestamptz(micros),
            None => Kind::Text(printed_at(at, "+00")),
        },
        Value::Uuid(text) => {
            let number = u128::from_str_radix(&text.replace('-', ""), 16).unwrap();
            Kind::Uuid(Bytes::copy_from_slice(&number.to_be_bytes()))
        }
        Value::Json(document) => Kind::Json(String::from_utf8(document.to_vec()).unwrap()),
        Value::Array(array) => {
            let mut open = vec![Vec::new()];
            array
                .walk(&mut |event| {
                    match event {
                        ArrayEvent::Open => open.push(Vec::new()),
                        ArrayEvent::Close => {
                            let elements = open.pop().unwrap();
                            open.last_mut().unwrap().push(message_of(Kind::Array(v1::Array { elements })));
                        }
                        ArrayEvent::Element(element) => open.last_mut().unwrap().push(expected(&element)),
                    }
                    Ok(())
                })
                .unwrap();
            return open.pop().unwrap().pop().unwrap();
        }
    })
}

fn bc(date: Date) -> &'static str {
    if date.year <= 0 && date.month > 0 && date.day > 0 { " BC" } else { "" }
}

fn date_alone(date: Date) -> String {
    let year = date.year.unsigned_abs() + u32::from(!bc(date).is_empty());
    format!("{year:04}-{:02}-{:02}", date.month, date.day)
}

fn printed(date: Date) -> String {
    date_alone(date) + bc(date)
}

fn printed_at(at: DateTime, zone: &str) -> String {
    let fraction = format!(".{:06}", at.time.micros);
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    let (date, time) = (date_alone(at.date), at.time);
    format!("{date} {:02}:{:02}:{:02}{fraction}{zone}{}", time.hour, time.minute, time.second, bc(at.date))
}

/// A row as it must read, without the missing values at its end.
fn expected_row(row: &Row<'_>) -> v1::Row {
    let mut scratch = Scratch::default();
    let mut values: Vec<_> =
        (0..row.schema().columns.len()).map(|column| expected(&row.value(column, &mut scratch).unwrap())).collect();
    while values.last() == Some(&special(Special::Missing)) {
        values.pop();
    }
    v1::Row { values }
}

#[test]
fn known_values() {
    let read = |bytes: &[u8]| {
        let mut draft = Draft::new(Origin::Stream, txn(1));
        draft.insert(&table("t", 1, &["v"], &[]), &[Ok(bytes)]);
        typed(&draft.build(None)).transactions[0].changes[0].after.clone().unwrap().values[0].kind.clone().unwrap()
    };
    let date = |year: i32, month, day| [&b"D"[..], &year.to_le_bytes(), &[month, day]].concat();
    let at = |kind: u8, year: i32, micros: u32| {
        [&[kind][..], &year.to_le_bytes(), &[12, 31, 23, 59, 59], &micros.to_le_bytes()].concat()
    };
    let text = |text: &str| Kind::Text(text.into());
    assert_eq!(read(&date(1970, 1, 2)), Kind::Date(1));
    assert_eq!(read(&date(-43, 3, 15)), Kind::Date(-735_160));
    assert_eq!(read(&date(5_874_897, 12, 31)), Kind::Date(2_145_042_905));
    assert_eq!(read(&date(0, 0, 0)), text("0000-00-00"));
    assert_eq!(read(&date(2026, 2, 0)), text("2026-02-00"));
    assert_eq!(read(&at(b'T', 1969, 999_999)), Kind::Timestamp(-1));
    assert_eq!(read(&at(b'Z', 1969, 0)), Kind::Timestamptz(-1_000_000));
    // Postgres' last ones, which 64 bits of microseconds since 1970 do not hold.
    assert_eq!(read(&at(b'T', 294_276, 0)), text("294276-12-31 23:59:59"));
    assert_eq!(read(&at(b'Z', 294_276, 999_990)), text("294276-12-31 23:59:59.99999+00"));
    assert_eq!(read(b"+"), Kind::Special(Special::Infinity.into()));
    assert_eq!(read(b"-"), Kind::Special(Special::NegativeInfinity.into()));
    assert_eq!(read(b"n-0.10"), Kind::Decimal("-0.10".into()));
    assert_eq!(
        read(b"U00112233-4455-6677-8899-aabbccddeeff"),
        Kind::Uuid(Bytes::from_static(b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Rows of any values, split at any size, read as what `Row::value` says of them.
    #[test]
    fn rows_read_as_their_values(
        rows in prop::collection::vec((0..4_u8, prop::collection::vec(any_cell(), 10)), 1..30),
        target in prop_oneof![1..200_usize, 200..40_000_usize],
    ) {
        let schema = table("t", 1, &["a", "b", "c", "d", "e"], &[0]);
        let mut draft = Draft::new(Origin::Stream, txn(100));
        let index = draft.builder.table(&schema);
        for (number, (kind, cells)) in rows.iter().enumerate() {
            if number % 7 == 6 {
                draft.builder.txn(txn(100 + number as u64));
            }
            let cells = given(cells);
            let ordinal = number as u64 * 100 + 1;
            match kind {
                0 => {
                    let start = draft.cells(&cells[..5]);
                    draft.builder.insert(index, start, ordinal);
                }
                1 | 2 => {
                    let start = draft.cells(&cells);
                    draft.builder.update(index, start, Some(*kind == 1), ordinal);
                }
                _ => {
                    let start = draft.cells(&cells[..5]);
                    draft.builder.delete(index, start, true, ordinal);
                }
            }
        }
        let batch = draft.build(Some(1000));
        let mut encoder = ProtoEncoder::new(options(Format::Typed, target));
        let (mut next, mut number) = (0, 0);
        let mut found = Vec::new();
        while next < batch.len() {
            next = encoder.add(&batch, next..batch.len()).unwrap();
            number += 1;
            let message = encoder.finish(number).unwrap();
            prop_assert!(message.bytes.len() <= target || message.changes == 1);
            let decoded = read(&message);
            // As short as prost's own.
            let response = SubscribeResponse { response: Some(Response::Batch(decoded.clone())) };
            prop_assert_eq!(response.encoded_len(), message.bytes.len());
            prop_assert_eq!(decoded.schemas.len(), usize::from(number == 1));
            prop_assert_eq!(decoded.resume.is_some(), next == batch.len());
            for transaction in decoded.transactions {
                let order = transaction.order;
                found.extend(transaction.changes.into_iter().map(|change| (order.clone(), change)));
            }
        }
        prop_assert_eq!(found.len(), batch.len());
        for (record, (order, change)) in batch.records().zip(found) {
            let mut expected_order = Vec::new();
            position::order(&record.txn.commit, &mut expected_order);
            prop_assert_eq!(order, expected_order);
            prop_assert_eq!((change.ordinal, change.schema), (record.ordinal, 1));
            let (operation, before, after) = match record.change {
                Change::Insert { after, .. } => (Operation::Insert, None, Some(expected_row(&after))),
                Change::Update { before: Before::Key(old) | Before::Full(old), after, .. } => {
                    (Operation::Update, Some(expected_row(&old)), Some(expected_row(&after)))
                }
                Change::Delete { before: Before::Key(old), .. } => (Operation::Delete, Some(expected_row(&old)), None),
                _ => unreachable!(),
            };
            prop_assert_eq!(change.operation(), operation);
            // By their printed form: NaN is equal to no NaN.
            prop_assert_eq!(format!("{:?}", change.before), format!("{before:?}"));
            prop_assert_eq!(format!("{:?}", change.after), format!("{after:?}"));
        }
    }

    /// Whatever the cells hold, there is an error or a message that can be read.
    #[test]
    fn no_bytes_make_a_message_that_cannot_be_read(
        cells in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                ("[iubfdDTZntxhUj\\[]", prop::collection::vec(any::<u8>(), 0..40))
                    .prop_map(|(kind, bytes)| [kind.as_bytes(), &bytes].concat()),
                "\\[[\\[\\]N]{0,10}".prop_map(String::into_bytes),
            ],
            1..8,
        ),
        max_message_bytes in 50..2000_usize,
    ) {
        let schema = table("t", 1, &["a"], &[0]);
        let mut draft = Draft::new(Origin::Stream, txn(1));
        cells.iter().for_each(|cell| draft.insert(&schema, &[Ok(cell)]));
        let batch = draft.build(None);
        let mut encoder = ProtoEncoder::new(ProtoOptions { max_message_bytes, ..options(Format::Typed, 400) });
        let mut next = 0;
        while next < batch.len() {
            match encoder.add(&batch, next..batch.len()) {
                Ok(end) => next = end,
                Err(_) => next += 1,
            }
            if let Some(message) = encoder.finish(1) {
                prop_assert!(message.bytes.len() <= max_message_bytes);
                prop_assert!(read(&message).changes > 0);
            }
        }
    }
}

/// The samples' own decoder refuses what is none.
#[test]
fn samples_can_be_wrong() {
    let mut scratch = Scratch::default();
    let column = column("c");
    for wrong in [&b""[..], b"?", b"i123", b"D1", b"U\xff"] {
        let decoded: Result<Value<'_>, ValueError> = decode(wrong, Form::plain(&column.data_type, &mut scratch));
        assert!(decoded.is_err(), "{wrong:?}");
    }
}
