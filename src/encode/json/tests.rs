use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::record::{
    ArrayEvent, ArrayType, Batch, BatchBuilder, Cell, Column, DataType, Date, DateTime, Decode, Form, Identity, Lsn,
    Mark, Seq, Time, Value,
};

fn text<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    std::str::from_utf8(bytes).map(Value::Text).map_err(|_| ValueError::new("text in UTF-8", bytes))
}

fn number<'b>(bytes: &'b [u8], _: Form<'b>) -> Result<Value<'b>, ValueError> {
    let text = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    text.map(Value::Int).ok_or_else(|| ValueError::new("an integer", bytes))
}

fn column(name: &str, decode: Decode) -> Column {
    Column::new(name, &format!("type of {name}"), (DataType::Text, decode))
}

fn table(version: u32, columns: Vec<Column>, key: &[u16]) -> Arc<TableSchema> {
    Arc::new(TableSchema {
        id: 1,
        version,
        database: "shop".into(),
        namespace: "public".into(),
        name: "or\"ders".into(),
        columns: columns.into(),
        key: key.into(),
        identity: Identity::Default,
    })
}

fn txn() -> Txn {
    // 2026-11-21 03:36:08.123456 UTC.
    Txn {
        commit: Position::Postgres(Lsn(0x16_B374_D848)),
        id: Some(731),
        commit_unix_micros: Some(1_795_232_168_123_456),
    }
}

/// A batch under construction over one frame.
struct Draft {
    builder: BatchBuilder,
    frame: Vec<u8>,
    ordinal: u64,
}

impl Draft {
    fn new(origin: Origin) -> Self {
        let mut builder = BatchBuilder::new(origin);
        builder.txn(txn());
        Draft { builder, frame: Vec::new(), ordinal: 0 }
    }

    fn cells(&mut self, values: &[Result<&str, Cell>]) -> usize {
        let start = self.builder.cells_start();
        for value in values {
            let cell = match value {
                Ok(text) => {
                    self.frame.extend_from_slice(text.as_bytes());
                    Cell::at(self.frame.len() - text.len(), text.len())
                }
                Err(cell) => *cell,
            };
            self.builder.cells_mut().push(cell);
        }
        start
    }

    fn insert(&mut self, schema: &Arc<TableSchema>, values: &[Result<&str, Cell>]) {
        let index = self.builder.table(schema);
        let cells = self.cells(values);
        self.ordinal += 1;
        self.builder.insert(index, cells, self.ordinal);
    }

    fn build(mut self) -> Batch {
        self.builder.frame(Bytes::from(self.frame));
        self.builder.build(Seq(1), Mark::default(), None)
    }
}

fn lines(batch: &Batch, options: JsonOptions) -> Vec<String> {
    let mut encoder = JsonEncoder::new(options);
    let mut out = Vec::new();
    for record in batch.records() {
        encoder.encode(batch.origin, &record, &mut out).unwrap();
    }
    let text = String::from_utf8(out).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(str::to_owned).collect()
}

const TAIL: &str = r#""ts":"2026-11-21T03:36:08.123456Z"}"#;

fn two_columns() -> Arc<TableSchema> {
    table(1, vec![column("id", number), column("na\"me", text)], &[0])
}

#[test]
fn a_row_of_every_kind() {
    let schema = two_columns();
    let mut draft = Draft::new(Origin::Stream);
    draft.builder.begin();
    draft.insert(&schema, &[Ok("1"), Ok("a\"\n")]);
    let index = draft.builder.table(&schema);
    let cells = draft.cells(&[Ok("2"), Err(Cell::UNCHANGED)]);
    draft.builder.update(index, cells, None, 2);
    let cells = draft.cells(&[Ok("3"), Err(Cell::NULL), Ok("2"), Err(Cell::MISSING)]);
    draft.builder.update(index, cells, Some(true), 3);
    let cells = draft.cells(&[Ok("3"), Ok("b"), Ok("3"), Err(Cell::NULL)]);
    draft.builder.update(index, cells, Some(false), 4);
    let cells = draft.cells(&[Ok("3"), Err(Cell::MISSING)]);
    draft.builder.delete(index, cells, true, 5);
    let cells = draft.cells(&[Ok("4"), Ok("")]);
    draft.builder.delete(index, cells, false, 6);
    draft.builder.truncate(index, true, false, 7);
    let cells = draft.cells(&[Ok("outbox"), Ok("hi!!")]);
    draft.builder.message(cells, true, 8);
    draft.builder.commit(9);
    let batch = draft.build();

    let at = r#""db":"shop","schema":"public","table":"or\"ders""#;
    let pos = |ord: u64| format!(r#""pos":"16/B374D848","tx":731,"ord":{ord},{TAIL}"#);
    let rows = [
        format!(r#"{{"op":"c",{at},"key":{{"id":1}},"before":null,"after":{{"id":1,"na\"me":"a\"\n"}},{}"#, pos(1)),
        format!(
            r#"{{"op":"u",{at},"key":{{"id":2}},"before":null,"after":{{"id":2}},"unchanged":["na\"me"],{}"#,
            pos(2)
        ),
        format!(r#"{{"op":"u",{at},"key":{{"id":3}},"before":{{"id":2}},"after":{{"id":3,"na\"me":null}},{}"#, pos(3)),
        format!(
            r#"{{"op":"u",{at},"key":{{"id":3}},"before":{{"id":3,"na\"me":null}},"after":{{"id":3,"na\"me":"b"}},{}"#,
            pos(4)
        ),
        format!(r#"{{"op":"d",{at},"key":{{"id":3}},"before":{{"id":3}},"after":null,{}"#, pos(5)),
        format!(r#"{{"op":"d",{at},"key":{{"id":4}},"before":{{"id":4,"na\"me":""}},"after":null,{}"#, pos(6)),
        format!(r#"{{"op":"t",{at},"cascade":true,"restart_identity":false,{}"#, pos(7)),
        format!(r#"{{"op":"m","prefix":"outbox","content":"aGkhIQ==","transactional":true,{}"#, pos(8)),
    ];
    assert_eq!(lines(&batch, JsonOptions::default()), rows);
    let with_transactions = lines(&batch, JsonOptions { transactions: true });
    assert_eq!(with_transactions[0], format!(r#"{{"op":"b",{}"#, pos(0)));
    assert_eq!(with_transactions[1..9], rows);
    assert_eq!(with_transactions[9], format!(r#"{{"op":"e",{}"#, pos(9)));
}

#[test]
fn a_key_that_was_not_logged_is_null() {
    let schema = table(1, vec![column("a", text), column("b", text)], &[1, 0]);
    let mut draft = Draft::new(Origin::Snapshot);
    draft.insert(&schema, &[Ok("1"), Ok("2")]);
    draft.insert(&schema, &[Err(Cell::UNCHANGED), Ok("2")]);
    let index = draft.builder.table(&schema);
    let cells = draft.cells(&[Err(Cell::MISSING), Ok("2")]);
    draft.builder.delete(index, cells, true, 3);
    draft.insert(&table(1, vec![column("a", text)], &[]), &[Ok("1")]);
    draft.insert(&table(2, vec![], &[]), &[]);
    let lines = lines(&draft.build(), JsonOptions::default());
    let part = |line: &str, from: &str| line[line.find(from).unwrap()..line.find(",\"pos\"").unwrap()].to_owned();
    assert!(lines[0].starts_with(r#"{"op":"r","#));
    // In the key's order.
    assert_eq!(part(&lines[0], "\"key\""), r#""key":{"b":"2","a":"1"},"before":null,"after":{"a":"1","b":"2"}"#);
    assert_eq!(part(&lines[1], "\"key\""), r#""key":null,"before":null,"after":{"b":"2"},"unchanged":["a"]"#);
    assert_eq!(part(&lines[2], "\"key\""), r#""key":null,"before":{"b":"2"},"after":null"#);
    assert_eq!(part(&lines[3], "\"key\""), r#""key":null,"before":null,"after":{"a":"1"}"#);
    assert_eq!(part(&lines[4], "\"key\""), r#""key":null,"before":null,"after":{}"#);
}

#[test]
fn a_schema_change_has_both_shapes() {
    let old = table(1, vec![column("id", number)], &[0]);
    let new = two_columns();
    let mut draft = Draft::new(Origin::Stream);
    let index = draft.builder.table(&new);
    draft.builder.schema_change(index, None, None, 1);
    draft.builder.schema_change(index, Some(old), Some("ALTER \"x\""), 2);
    let lines = lines(&draft.build(), JsonOptions::default());
    let id = r#"{"name":"id","type":"type of id","nullable":true,"key":true}"#;
    let name = r#"{"name":"na\"me","type":"type of na\"me","nullable":true,"key":false}"#;
    let head = r#"{"op":"s","db":"shop","schema":"public","table":"or\"ders","version":1"#;
    let pos = r#""pos":"16/B374D848","tx":731"#;
    assert_eq!(lines[0], format!(r#"{head},"columns":[{id},{name}],"previous":null,"ddl":null,{pos},"ord":1,{TAIL}"#));
    assert_eq!(
        lines[1],
        format!(r#"{head},"columns":[{id},{name}],"previous":[{id}],"ddl":"ALTER \"x\"",{pos},"ord":2,{TAIL}"#)
    );
}

#[test]
fn what_a_source_does_not_say_is_null() {
    let mut draft = Draft::new(Origin::Stream);
    draft.builder.txn(Txn { commit: Position::Postgres(Lsn(1)), id: None, commit_unix_micros: None });
    let cells = draft.cells(&[Ok(""), Ok("")]);
    draft.builder.message(cells, false, 0);
    let expected =
        r#"{"op":"m","prefix":"","content":"","transactional":false,"pos":"0/1","tx":null,"ord":0,"ts":null}"#;
    assert_eq!(lines(&draft.build(), JsonOptions::default()), [expected]);
}

#[test]
fn an_error_says_where_and_leaves_no_half_line() {
    let schema = two_columns();
    let mut draft = Draft::new(Origin::Stream);
    draft.insert(&schema, &[Ok("1"), Ok("fine")]);
    draft.insert(&schema, &[Ok("one"), Ok("x")]);
    draft.insert(&schema, &[Ok("2"), Ok("fine")]);
    let batch = draft.build();
    let mut encoder = JsonEncoder::new(JsonOptions::default());
    let mut out = Vec::new();
    let results: Vec<_> = batch.records().map(|record| encoder.encode(Origin::Stream, &record, &mut out)).collect();
    assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 2);
    let error = format!("{:?}", results[1].as_ref().unwrap_err());
    assert_eq!(
        error,
        "encoding column \"id\" (type of id) of public.or\"ders at 16/B374D848 as JSON: expected an integer, found \
         \"one\"\n  remedy: exclude the column with --exclude-columns 'public.or\"ders.id', or correct the value"
    );
    for line in String::from_utf8(out).unwrap().lines() {
        serde_json::from_str::<Json>(line).unwrap();
    }
}

#[test]
fn a_message_whose_prefix_is_not_utf_8_is_an_error() {
    let mut draft = Draft::new(Origin::Stream);
    draft.frame.push(0xff);
    draft.builder.cells_mut().extend([Cell::at(0, 1), Cell::at(0, 0)]);
    draft.builder.message(0, true, 1);
    let batch = draft.build();
    let mut out = Vec::new();
    let mut encoder = JsonEncoder::new(JsonOptions::default());
    let record = batch.records().next().unwrap();
    assert!(encoder.encode(Origin::Stream, &record, &mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn plans_follow_the_version_and_stay_few() {
    let mut encoder = JsonEncoder::new(JsonOptions::default());
    for round in 0..3000 {
        let schema = table(1, vec![column(&format!("c{}", round % 7), text)], &[]);
        let mut draft = Draft::new(Origin::Stream);
        draft.insert(&schema, &[Ok("x")]);
        draft.insert(&two_columns(), &[Ok("1"), Ok("y")]);
        draft.insert(&schema, &[Ok("z")]);
        let batch = draft.build();
        let mut out = Vec::new();
        batch.records().for_each(|record| encoder.encode(Origin::Stream, &record, &mut out).unwrap());
        let text = String::from_utf8(out).unwrap();
        let after: Vec<_> =
            text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()["after"].clone()).collect();
        let name = format!("c{}", round % 7);
        assert_eq!(after, [json!({ &name: "x" }), json!({"id": 1, "na\"me": "y"}), json!({ &name: "z" })]);
        assert!(encoder.plans.len() <= 1024);
    }
}

/// A value as it is written.
fn written(value: Value<'_>) -> String {
    let mut out = Vec::new();
    value::value(&value, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn numbers() {
    assert_eq!(written(Value::Int(i64::MIN)), "-9223372036854775808");
    assert_eq!(written(Value::UInt(u64::MAX)), "18446744073709551615");
    assert_eq!(written(Value::Decimal("-0.10")), "\"-0.10\"");
    assert_eq!(written(Value::Decimal("NaN")), "\"NaN\"");
    assert_eq!(written(Value::F32(0.1)), "0.1");
    assert_eq!(written(Value::F64(0.1_f32.into())), "0.10000000149011612");
    assert_eq!(written(Value::F64(-0.0)), "-0.0");
    assert_eq!(written(Value::F64(f64::NAN)), "\"NaN\"");
    assert_eq!(written(Value::F64(f64::INFINITY)), "\"Infinity\"");
    assert_eq!(written(Value::F32(f32::NEG_INFINITY)), "\"-Infinity\"");
    assert_eq!(written(Value::Bool(true)) + &written(Value::Bool(false)) + &written(Value::Null), "truefalsenull");
}

#[test]
fn dates_and_times() {
    let date = |year| Date { year, month: 3, day: 15 };
    let time = Time { hour: 12, minute: 0, second: 7, micros: 9 };
    assert_eq!(written(Value::Date(date(2026))), "\"2026-03-15\"");
    assert_eq!(written(Value::Date(date(-43))), "\"0044-03-15 BC\"");
    assert_eq!(written(Value::Date(date(0))), "\"0001-03-15 BC\"");
    assert_eq!(written(Value::Date(date(5_874_897))), "\"5874897-03-15\"");
    assert_eq!(written(Value::Date(date(10_001))), "\"10001-03-15\"");
    let at = |year| DateTime { date: date(year), time };
    assert_eq!(written(Value::Timestamp(at(1))), "\"0001-03-15T12:00:07.000009\"");
    assert_eq!(written(Value::Timestamp(at(-43))), "\"0044-03-15T12:00:07.000009 BC\"");
    assert_eq!(written(Value::TimestampTz(at(294_276))), "\"294276-03-15T12:00:07.000009Z\"");
    assert_eq!(written(Value::TimestampTz(at(-43))), "\"0044-03-15T12:00:07.000009Z BC\"");
    assert_eq!(written(Value::Infinity { negative: false }), "\"infinity\"");
    assert_eq!(written(Value::Infinity { negative: true }), "\"-infinity\"");
}

#[test]
fn json_stays_as_it_is_but_on_one_line() {
    let document = "{\"a\" :\r\n [1.0e+999, \"\\n\\u0000\", 12345678901234567890.10]\n}";
    assert_eq!(
        written(Value::Json(document.as_bytes())),
        "{\"a\" :   [1.0e+999, \"\\n\\u0000\", 12345678901234567890.10] }"
    );
}

#[test]
fn bytes_of_any_length() {
    let bytes: Vec<u8> = (0..=255_u8).cycle().take(5000).collect();
    for length in (0..20).chain([1535, 1536, 1537, 3071, 3072, 3073, 5000]) {
        let bytes = &bytes[..length];
        let expected = {
            use base64::Engine as _;
            format!("\"{}\"", base64::engine::general_purpose::STANDARD.encode(bytes))
        };
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(written(Value::Bytes(bytes)), expected);
        assert_eq!(written(Value::Hex(hex.as_bytes())), expected);
        assert_eq!(written(Value::Hex(hex.to_uppercase().as_bytes())), expected);
    }
    for wrong in [&b"0"[..], b"0g", b"\xff\xff"] {
        assert!(value::value(&Value::Hex(wrong), &mut Vec::new()).is_err());
    }
}

#[test]
fn arrays_nest() {
    use crate::record::Array;
    let array_type = ArrayType {
        element: DataType::Text,
        decode: text,
        layout: 0,
        walk: |_, _, visit| {
            visit(ArrayEvent::Open)?;
            for _ in 0..2 {
                visit(ArrayEvent::Open)?;
                visit(ArrayEvent::Element(Value::Null))?;
                visit(ArrayEvent::Element(Value::Text("NULL")))?;
                visit(ArrayEvent::Close)?;
            }
            visit(ArrayEvent::Open)?;
            visit(ArrayEvent::Close)?;
            visit(ArrayEvent::Close)
        },
        delimiter: b',',
    };
    let array = Value::Array(Array { bytes: b"", array_type: &array_type });
    assert_eq!(written(array), r#"[[null,"NULL"],[null,"NULL"],[]]"#);
}

proptest! {
    /// Whatever the texts, a line parses and holds them.
    #[test]
    fn lines_hold_their_values(
        rows in prop::collection::vec((any::<i64>(), prop::option::of("\\PC{0,30}|[\\x00-\\x7f]{0,60}")), 1..20),
        name in "[\\x00-\\x7fé😀]{1,20}",
    ) {
        let schema = table(1, vec![column("id", number), column(&name, text)], &[0]);
        let mut draft = Draft::new(Origin::Stream);
        for (id, text) in &rows {
            draft.insert(&schema, &[Ok(&id.to_string()), text.as_deref().ok_or(Cell::NULL)]);
        }
        let lines = lines(&draft.build(), JsonOptions::default());
        prop_assert_eq!(lines.len(), rows.len());
        for (line, (id, text)) in lines.iter().zip(&rows) {
            let line: Json = serde_json::from_str(line).unwrap();
            prop_assert_eq!(&line["key"], &json!({ "id": id }));
            prop_assert_eq!(&line["after"]["id"], &json!(id));
            let expected = if name == "id" { json!(id) } else { json!(text) };
            prop_assert_eq!(&line["after"][&name], &expected);
        }
    }

    #[test]
    fn floats_read_back(double: f64, single: f32) {
        if double.is_finite() {
            prop_assert_eq!(written(Value::F64(double)).parse::<f64>().unwrap().to_bits(), double.to_bits());
            serde_json::from_str::<Json>(&written(Value::F64(double))).unwrap();
        }
        if single.is_finite() {
            prop_assert_eq!(written(Value::F32(single)).parse::<f32>().unwrap().to_bits(), single.to_bits());
        }
    }
}

/// A value of an old or a new row: few different ones, so that many are the same.
fn any_cell() -> impl Strategy<Value = Result<&'static str, Cell>> {
    prop_oneof![
        4 => prop::sample::select(vec!["", "a", "b\"", "a text longer than any piece that is copied at once", "\u{e9}"])
            .prop_map(Ok),
        1 => Just(Err(Cell::NULL)),
    ]
}

proptest! {
    /// What did not change is copied from the old row's text; it reads as if each row were printed by itself.
    #[test]
    fn an_update_prints_its_rows_as_an_insert_and_a_delete_do(
        cells in prop::collection::vec((any_cell(), any_cell(), any::<bool>(), 0..8), 1..8),
    ) {
        let mut columns: Vec<_> = (0..cells.len()).map(|index| column(&format!("column {index}"), text)).collect();
        columns.iter_mut().zip(&cells).for_each(|(column, cell)| column.utf8 = cell.2);
        let key: Vec<u16> = (0..cells.len() as u16).filter(|index| index % 3 == 1).collect();
        let schema = table(1, columns, &key);
        // Of eight, one old cell is missing and one new cell unchanged.
        let old: Vec<_> = cells.iter().map(|cell| if cell.3 == 0 { Err(Cell::MISSING) } else { cell.0 }).collect();
        let new: Vec<_> = cells.iter().map(|cell| if cell.3 == 1 { Err(Cell::UNCHANGED) } else { cell.1 }).collect();
        let mut draft = Draft::new(Origin::Stream);
        let index = draft.builder.table(&schema);
        let at = draft.cells(&[new.clone(), old.clone()].concat());
        draft.builder.update(index, at, Some(false), 1);
        draft.insert(&schema, &new);
        let at = draft.cells(&old);
        draft.builder.delete(index, at, false, 3);
        let lines = lines(&draft.build(), JsonOptions::default());
        let part = |line: usize, from: &str, to: &str| {
            let (_, rest) = lines[line].split_once(from).unwrap();
            rest.split_once(to).unwrap().0.to_owned()
        };
        prop_assert_eq!(part(0, "\"before\":", ",\"after\""), part(2, "\"before\":", ",\"after\""));
        prop_assert_eq!(part(0, "\"after\":", ",\"pos\""), part(1, "\"after\":", ",\"pos\""));
        for line in &lines {
            prop_assert!(serde_json::from_str::<Json>(line).is_ok(), "{}", line);
        }
    }
}

#[test]
fn text_that_is_taken_as_it_stands_is_still_checked() {
    let mut column = column("note", text);
    column.utf8 = true;
    let schema = table(1, vec![column], &[]);
    let mut draft = Draft::new(Origin::Stream);
    let index = draft.builder.table(&schema);
    draft.frame.extend(b"\xffx");
    draft.builder.cells_mut().push(Cell::at(0, 2));
    draft.builder.insert(index, 0, 1);
    let batch = draft.build();
    let mut out = b"kept".to_vec();
    let mut encoder = JsonEncoder::new(JsonOptions::default());
    let record = batch.records().next().unwrap();
    let error = encoder.encode(batch.origin, &record, &mut out).unwrap_err();
    assert!(error.to_string().contains("\"note\" (type of note)"), "{error}");
    assert_eq!(out, b"kept");
}
