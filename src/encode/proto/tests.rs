use super::sample::{Draft, table, txn};
use super::*;
use crate::proto::v1::value::Kind;
use crate::proto::v1::{Special, SubscribeResponse, subscribe_response::Response};
use crate::record::{Cell, Lsn, Position};

mod values;

const LINEAGE: u64 = 0x0102_0304_0506_0708;
const MAX: usize = 4 << 20;

fn options(format: Format, target_bytes: usize) -> ProtoOptions {
    ProtoOptions { format, filter: Filter::default(), lineage: LINEAGE, target_bytes, max_message_bytes: MAX }
}

fn all_operations() -> Operations {
    let filter = v1::Filter { schema_changes: true, transactions: true, ..v1::Filter::default() };
    Operations::of_request(&filter).unwrap()
}

fn read(message: &Message) -> v1::Batch {
    let response = SubscribeResponse::decode(message.bytes.clone()).unwrap();
    let Some(Response::Batch(batch)) = response.response else { panic!("{response:?}") };
    batch
}

/// Everything of a batch, in as many messages as it takes.
fn messages(encoder: &mut ProtoEncoder, batch: &Batch) -> Vec<v1::Batch> {
    let (mut read_messages, mut next) = (Vec::new(), 0);
    while next < batch.len() {
        let end = encoder.add(batch, next..batch.len()).unwrap();
        assert!(end > next || !encoder.is_empty());
        let number = read_messages.len() as u64 + 1;
        let Some(message) = encoder.finish(number) else {
            assert_eq!(end, batch.len());
            break;
        };
        let decoded = read(&message);
        assert_eq!(decoded.number, number);
        assert_eq!(decoded.changes, message.changes);
        read_messages.push(decoded);
        next = end;
    }
    read_messages
}

fn typed(batch: &Batch) -> v1::Batch {
    let mut options = options(Format::Typed, MAX);
    options.filter.operations = all_operations();
    let [message] = messages(&mut ProtoEncoder::new(options), batch).try_into().unwrap();
    message
}

fn message_of(kind: Kind) -> v1::Value {
    v1::Value { kind: Some(kind) }
}

fn special(special: Special) -> v1::Value {
    message_of(Kind::Special(special.into()))
}

fn int(number: i64) -> Vec<u8> {
    [&b"i"[..], &number.to_le_bytes()].concat()
}

fn text(text: &str) -> Vec<u8> {
    format!("t{text}").into_bytes()
}

fn row(values: &[Kind]) -> Option<v1::Row> {
    Some(v1::Row { values: values.iter().cloned().map(message_of).collect() })
}

#[test]
fn a_record_of_every_kind() {
    let schema = table("orders", 3, &["id", "name"], &[0]);
    let older = table("orders", 2, &["id"], &[0]);
    let mut draft = Draft::new(Origin::Stream, txn(0x16_B374_D848));
    let index = draft.builder.table(&schema);
    draft.builder.begin();
    draft.insert(&schema, &[Ok(&int(1)), Ok(&text("a"))]);
    let cells = draft.cells(&[Ok(&int(2)), Err(Cell::UNCHANGED)]);
    draft.builder.update(index, cells, None, 2);
    let cells = draft.cells(&[Ok(&int(3)), Err(Cell::NULL), Ok(&int(2)), Err(Cell::MISSING)]);
    draft.builder.update(index, cells, Some(true), 3);
    let cells = draft.cells(&[Ok(&int(3)), Err(Cell::MISSING)]);
    draft.builder.delete(index, cells, true, 4);
    let cells = draft.cells(&[Err(Cell::MISSING), Ok(&text(""))]);
    draft.builder.delete(index, cells, false, 5);
    draft.builder.truncate(index, true, false, 6);
    draft.builder.schema_change(index, Some(older), Some("ALTER TABLE"), 7);
    draft.builder.schema_change(index, None, None, 7);
    let cells = draft.cells(&[Ok(b"outbox"), Ok(b"\0\xff")]);
    draft.builder.message(cells, true, 7);
    draft.builder.commit(8);
    let message = typed(&draft.build(Some(0x16_B374_D900)));

    let shape = |version, columns: &[&str], reference| {
        let mut shape = schema_message(&table("orders", version, columns, &[0]));
        shape.reference = reference;
        shape
    };
    let id = |number| Kind::Integer(number);
    let change = |operation: Operation, ordinal| v1::Change {
        operation: operation.into(),
        schema: 1,
        ordinal,
        ..v1::Change::default()
    };
    let unchanged = Kind::Special(Special::Unchanged.into());
    let null = Kind::Special(Special::Null.into());
    let missing = Kind::Special(Special::Missing.into());
    let changes = vec![
        v1::Change { schema: 0, ..change(Operation::Begin, 0) },
        v1::Change { after: row(&[id(1), Kind::Text("a".into())]), ..change(Operation::Insert, 1) },
        v1::Change { after: row(&[id(2), unchanged]), ..change(Operation::Update, 2) },
        v1::Change { before: row(&[id(2)]), after: row(&[id(3), null]), ..change(Operation::Update, 3) },
        v1::Change { before: row(&[id(3)]), ..change(Operation::Delete, 4) },
        v1::Change { before: row(&[missing, Kind::Text("".into())]), ..change(Operation::Delete, 5) },
        v1::Change {
            truncate: Some(v1::Truncate { cascade: true, restart_identity: false }),
            ..change(Operation::Truncate, 6)
        },
        v1::Change {
            schema_change: Some(v1::SchemaChange { previous: 2, ddl: Some("ALTER TABLE".into()) }),
            ..change(Operation::SchemaChange, 7)
        },
        v1::Change {
            schema_change: Some(v1::SchemaChange { previous: 0, ddl: None }),
            ..change(Operation::SchemaChange, 7)
        },
        v1::Change {
            schema: 0,
            message: Some(v1::LogicalMessage {
                prefix: "outbox".into(),
                content: Bytes::from_static(b"\0\xff"),
                transactional: true,
            }),
            ..change(Operation::Message, 7)
        },
        v1::Change { schema: 0, ..change(Operation::Commit, 8) },
    ];
    let expected = v1::Batch {
        number: 1,
        resume: Some(position(&Position::Postgres(Lsn(0x16_B374_D900)), LINEAGE)),
        origin: v1::Origin::Stream.into(),
        schemas: vec![shape(3, &["id", "name"], 1), shape(2, &["id"], 2)],
        changes: changes.len() as u32,
        transactions: vec![v1::Transaction {
            order: Bytes::copy_from_slice(&0x16_B374_D848_u64.to_be_bytes()),
            position: "16/B374D848".into(),
            id: Some(0x16_B374_D848 / 2),
            commit_unix_micros: txn(0x16_B374_D848).commit_unix_micros,
            changes,
        }],
        lines: Bytes::new(),
    };
    assert_eq!(message, expected);
}

#[test]
fn transactions_go_on_over_batches_and_messages() {
    let schema = table("t", 1, &["id"], &[0]);
    let part = |lsn, ids: std::ops::Range<i64>, resume| {
        let mut draft = Draft::new(Origin::Stream, txn(lsn));
        draft.ordinal = ids.start as u64;
        ids.for_each(|id| draft.insert(&schema, &[Ok(&int(id))]));
        draft.build(resume)
    };
    let mut encoder = ProtoEncoder::new(options(Format::Typed, 1 << 20));
    let parts = [part(10, 0..2, Some(11)), part(20, 0..3, None), part(20, 3..5, Some(21)), part(30, 0..1, None)];
    for batch in &parts {
        assert_eq!(encoder.add(batch, 0..usize::MAX).unwrap(), batch.len());
    }
    let first = read(&encoder.finish(1).unwrap());
    // One transaction, though it came in two batches; and the last position that is known.
    let orders: Vec<_> = first.transactions.iter().map(|txn| (txn.position.as_str(), txn.changes.len())).collect();
    assert_eq!(orders, [("0/A", 2), ("0/14", 5), ("0/1E", 1)]);
    let ordinals: Vec<_> = first.transactions[1].changes.iter().map(|change| change.ordinal).collect();
    assert_eq!(ordinals, [1, 2, 3, 4, 5]);
    assert_eq!(first.resume.unwrap().text, "0/15");
    assert!(encoder.finish(2).is_none());
    // The rest of the transaction comes in a message of its own, which names it again and no shape.
    encoder.add(&part(30, 1..2, Some(31)), 0..1).unwrap();
    let second = read(&encoder.finish(2).unwrap());
    assert_eq!((second.number, second.transactions[0].position.as_str()), (2, "0/1E"));
    assert!(second.schemas.is_empty());
    // A range that ends before its batch has no position.
    encoder.add(&parts[0], 0..1).unwrap();
    assert_eq!(read(&encoder.finish(3).unwrap()).resume, None);
}

#[test]
fn origins_do_not_share_a_message() {
    let schema = table("t", 1, &["id"], &[0]);
    let batch = |origin| {
        let mut draft = Draft::new(origin, txn(1));
        draft.insert(&schema, &[Ok(&int(1))]);
        draft.build(None)
    };
    let mut encoder = ProtoEncoder::new(options(Format::Typed, 1 << 20));
    let origins = [
        (Origin::Snapshot, v1::Origin::Snapshot, Operation::Snapshot),
        (Origin::CatchUp, v1::Origin::CatchUp, Operation::Insert),
        (Origin::Stream, v1::Origin::Stream, Operation::Insert),
    ];
    for (origin, _, _) in &origins[1..] {
        encoder.add(&batch(Origin::Snapshot), 0..1).unwrap();
        assert_eq!(encoder.add(&batch(*origin), 0..1).unwrap(), 0);
        encoder.finish(1).unwrap();
    }
    for (origin, on_the_wire, operation) in origins {
        encoder.add(&batch(origin), 0..1).unwrap();
        let message = read(&encoder.finish(1).unwrap());
        assert_eq!(message.origin(), on_the_wire);
        assert_eq!(message.transactions[0].changes[0].operation(), operation);
    }
}

#[test]
fn a_large_row_is_alone_in_its_message() {
    let schema = table("t", 1, &["id", "text"], &[0]);
    let mut draft = Draft::new(Origin::Stream, txn(1));
    let large = text(&"x".repeat(100_000));
    for (id, value) in [(1, &text("a")), (2, &text("b")), (3, &large), (4, &text("c")), (5, &large)] {
        draft.insert(&schema, &[Ok(&int(id)), Ok(value)]);
    }
    let batch = draft.build(Some(2));
    for (format, least) in [(Format::Typed, 100_000), (Format::Json, 100_000)] {
        let mut encoder = ProtoEncoder::new(options(format, 1000));
        let found = messages(&mut encoder, &batch);
        assert_eq!(found.iter().map(|message| message.changes).collect::<Vec<_>>(), [2, 1, 1, 1], "{format:?}");
        assert!(found[1].encoded_len() > least && found[2].encoded_len() < 1000);
        assert_eq!(found.iter().filter(|message| message.resume.is_some()).count(), 1);
        assert!(found[3].resume.is_some());
    }
}

#[test]
fn a_row_that_the_client_does_not_take_is_refused_when_all_before_it_was_sent() {
    let schema = table("t", 1, &["id", "text"], &[0]);
    for format in [Format::Typed, Format::Json] {
        for value in
            [text(&"x".repeat(70_000)), [&b"x"[..], &[0; 70_000]].concat(), [&b"h"[..], &[b'0'; 140_000]].concat()]
        {
            let mut draft = Draft::new(Origin::Stream, txn(1));
            draft.insert(&schema, &[Ok(&int(1)), Ok(&text("a"))]);
            draft.insert(&schema, &[Ok(&int(2)), Ok(&value)]);
            let batch = draft.build(None);
            let mut encoder = ProtoEncoder::new(ProtoOptions { max_message_bytes: 65_536, ..options(format, 65_536) });
            assert_eq!(encoder.add(&batch, 0..2).unwrap(), 1);
            assert_eq!(read(&encoder.finish(1).unwrap()).changes, 1);
            let Err(Unsendable::TooLarge(error)) = encoder.add(&batch, 1..2) else { panic!("{format:?}") };
            let text = format!("{error:?}");
            assert!(text.contains("public.t at 0/1") && text.contains("65536 bytes"), "{text}");
            assert!(text.contains("max_message_bytes") && text.contains("exclude_columns"), "{text}");
            assert!(encoder.is_empty() && encoder.finish(2).is_none());
        }
    }
    // Many values that are small each.
    let names: Vec<String> = (0..20).map(|index| format!("c{index}")).collect();
    let wide = table("wide", 1, &names.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    let part = text(&"y".repeat(5_000));
    let mut draft = Draft::new(Origin::Stream, txn(1));
    draft.insert(&wide, &vec![Ok(&part[..]); 20]);
    let batch = draft.build(None);
    let mut encoder = ProtoEncoder::new(ProtoOptions { max_message_bytes: 65_536, ..options(Format::Typed, 65_536) });
    assert!(matches!(encoder.add(&batch, 0..1), Err(Unsendable::TooLarge(_))));
}

#[test]
fn a_wrong_value_is_an_error_of_its_own_record_only() {
    let schema = table("t", 1, &["id", "va\"lue"], &[0]);
    let mut draft = Draft::new(Origin::Stream, txn(1));
    draft.insert(&schema, &[Ok(&int(1)), Ok(&text("a"))]);
    draft.builder.txn(txn(5));
    draft.insert(&schema, &[Ok(&int(2)), Ok(b"j\xff")]);
    draft.insert(&schema, &[Ok(&int(3)), Ok(b"U1234")]);
    draft.insert(&schema, &[Ok(&int(4)), Ok(b"h0g")]);
    draft.insert(&schema, &[Ok(&int(5)), Ok(b"?")]);
    let batch = draft.build(None);
    let mut encoder = ProtoEncoder::new(options(Format::Typed, MAX));
    assert_eq!(encoder.add(&batch, 0..5).unwrap(), 1);
    assert_eq!(encoder.finish(1).unwrap().changes, 1);
    for index in 1..5 {
        let Err(Unsendable::Wrong(error)) = encoder.add(&batch, index..5) else { panic!("{index}") };
        let text = format!("{error:?}");
        let expected = "encoding column \"va\\\"lue\" (type of va\"lue) of public.t at 0/5: expected";
        assert!(text.starts_with(expected) && text.contains("exclude_columns"), "{text}");
        assert!(encoder.finish(2).is_none());
    }
}

#[test]
fn a_message_whose_prefix_is_not_utf_8_is_an_error() {
    let mut draft = Draft::new(Origin::Stream, txn(1));
    let cells = draft.cells(&[Ok(b"\xff"), Ok(b"")]);
    draft.builder.message(cells, true, 1);
    let batch = draft.build(None);
    for format in [Format::Typed, Format::Json] {
        let mut encoder = ProtoEncoder::new(options(format, MAX));
        assert!(matches!(encoder.add(&batch, 0..1), Err(Unsendable::Wrong(_))), "{format:?}");
    }
}

#[test]
fn json_lines_are_those_of_the_json_encoder() {
    let schema = table("t", 1, &["id", "text"], &[0]);
    let mut draft = Draft::new(Origin::Stream, txn(1));
    draft.builder.begin();
    for id in 1..500 {
        if id == 100 {
            draft.builder.txn(txn(9));
        }
        draft.insert(&schema, &[Ok(&int(id)), Ok(&text(&"z".repeat(id as usize)))]);
    }
    let index = draft.builder.table(&schema);
    draft.builder.schema_change(index, Some(table("t", 0, &["id"], &[0])), None, 500);
    draft.builder.truncate(index, false, true, 500);
    draft.builder.commit(501);
    let batch = draft.build(Some(10));
    let mut all = Vec::new();
    let mut encoder = JsonEncoder::new(JsonOptions { transactions: true });
    batch.records().for_each(|record| encoder.encode(batch.origin, &record, &mut all).unwrap());
    for target in [1, 1000, 20_000, MAX] {
        let mut options = options(Format::Json, target);
        options.filter.operations = all_operations();
        let found = messages(&mut ProtoEncoder::new(options), &batch);
        let lines: Vec<u8> = found.iter().flat_map(|message| message.lines.clone()).collect();
        assert!(lines == all, "{target}");
        assert!(found.iter().all(|message| message.transactions.is_empty() && message.schemas.is_empty()));
        assert!(
            found.iter().all(|message| message.lines.iter().filter(|&&b| b == b'\n').count() as u32 == message.changes)
        );
        assert_eq!(found.last().unwrap().resume.as_ref().unwrap().text, "0/A");
    }
}

#[test]
fn filters_leave_out_tables_columns_and_operations() {
    let orders = table("orders", 1, &["id", "note", "secret", "line"], &[3, 0]);
    let hidden = table("hidden", 1, &["id"], &[0]);
    let mut draft = Draft::new(Origin::Stream, txn(1));
    draft.builder.begin();
    let values = [int(1), text("n"), text("s"), int(7)];
    let values: Vec<_> = values.iter().map(|value| Ok(&value[..])).collect();
    draft.insert(&orders, &values);
    draft.insert(&hidden, &[Ok(&int(1))]);
    let index = draft.builder.table(&orders);
    let cells =
        draft.cells(&[&values[..], &[Ok(&int(0)), Err(Cell::MISSING), Err(Cell::MISSING), Ok(&int(6))]].concat());
    draft.builder.update(index, cells, Some(true), 3);
    let cells = draft.cells(&values);
    draft.builder.delete(index, cells, false, 4);
    let none = draft.builder.table(&hidden);
    draft.builder.truncate(none, false, false, 5);
    draft.builder.schema_change(none, None, None, 6);
    draft.builder.schema_change(index, Some(hidden), None, 6);
    draft.builder.commit(6);
    let batch = draft.build(None);

    let filter = || Filter {
        table: Some(Box::new(|table| &*table.name == "orders")),
        column: Some(Box::new(|_, column| &*column.name == "note")),
        operations: Operations::of_request(&v1::Filter {
            operations: vec![Operation::Insert.into(), Operation::Update.into()],
            schema_changes: true,
            ..v1::Filter::default()
        })
        .unwrap(),
    };
    let mut encoder = ProtoEncoder::new(ProtoOptions { filter: filter(), ..options(Format::Typed, MAX) });
    let [message] = messages(&mut encoder, &batch).try_into().unwrap();
    // The key's columns stay, in the key's order.
    let [schema] = &message.schemas[..] else { panic!("{:?}", message.schemas) };
    assert_eq!(schema.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["id", "note", "line"]);
    assert_eq!(schema.key, [2, 0]);
    let changes = &message.transactions[0].changes;
    let whole = row(&[Kind::Integer(1), Kind::Text("n".into()), Kind::Integer(7)]);
    assert_eq!(changes.len(), 3);
    assert_eq!((changes[0].ordinal, &changes[0].after), (1, &whole));
    let missing = Kind::Special(Special::Missing.into());
    assert_eq!((changes[1].ordinal, &changes[1].after), (3, &whole));
    assert_eq!(changes[1].before, row(&[Kind::Integer(0), missing, Kind::Integer(6)]));
    assert_eq!(changes[2].schema_change, Some(v1::SchemaChange { previous: 0, ddl: None }));

    let mut encoder = ProtoEncoder::new(ProtoOptions { filter: filter(), ..options(Format::Json, MAX) });
    let [message] = messages(&mut encoder, &batch).try_into().unwrap();
    let lines: Vec<serde_json::Value> =
        message.lines.split_inclusive(|&b| b == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    let line = serde_json::json!({ "id": 1, "note": "n", "line": 7 });
    assert_eq!((&lines[0]["after"], &lines[0]["key"]), (&line, &serde_json::json!({ "line": 7, "id": 1 })));
    assert_eq!((&lines[1]["after"], &lines[1]["before"]), (&line, &serde_json::json!({ "id": 0, "line": 6 })));
    assert_eq!(lines[2]["columns"].as_array().unwrap().len(), 3);
    assert_eq!(lines[2]["previous"], serde_json::Value::Null);

    // Nothing is wanted: no message, whatever the position.
    let nothing = Filter { table: Some(Box::new(|_| false)), ..Filter::default() };
    let mut encoder = ProtoEncoder::new(ProtoOptions { filter: nothing, ..options(Format::Typed, MAX) });
    assert_eq!(encoder.add(&batch, 0..batch.len()).unwrap(), batch.len());
    assert!(encoder.is_empty() && encoder.finish(1).is_none());
}

/// A client that keeps shapes by their reference, as the documentation tells it to, always finds the right one.
#[test]
fn references_stay_few_and_right() {
    let mut encoder = ProtoEncoder::new(options(Format::Typed, 10_000));
    let mut known = std::collections::HashMap::new();
    let mut sent = 0;
    for round in 0..2 {
        let shapes: Vec<_> = (0..2500).map(|index| table(&format!("t{index}"), 1, &["id"], &[0])).collect();
        for some in shapes.chunks(100) {
            let mut draft = Draft::new(Origin::Stream, txn(1));
            for shape in some {
                draft.insert(shape, &[Ok(&text(&shape.name))]);
                draft.insert(&shapes[0], &[Ok(&text("t0"))]);
            }
            for message in messages(&mut encoder, &draft.build(None)) {
                for shape in message.schemas {
                    assert!((1..=1024).contains(&shape.reference));
                    sent += 1;
                    known.insert(shape.reference, shape.name);
                }
                for change in &message.transactions[0].changes {
                    let name = known[&change.schema].clone();
                    assert_eq!(change.after, row(&[Kind::Text(name)]), "round {round}");
                }
            }
        }
    }
    // Each shape once a round, and t0 after every time the references began anew: at most every 1,023 shapes.
    assert!((5_000..=5_000 + 2 * 5).contains(&sent), "{sent} shapes");
}

#[test]
fn one_content_has_one_reference() {
    let mut encoder = ProtoEncoder::new(options(Format::Typed, MAX));
    for (version, schemas) in [(1, 1), (1, 0), (2, 1), (1, 0)] {
        // Another allocation each time, as from a stream that is read a second time.
        let mut draft = Draft::new(Origin::Stream, txn(1));
        draft.insert(&table("t", version, &["id"], &[]), &[Err(Cell::NULL)]);
        let [message] = messages(&mut encoder, &draft.build(None)).try_into().unwrap();
        assert_eq!(message.schemas.len(), schemas);
        assert_eq!(message.transactions[0].changes[0].schema, version);
    }
}

#[test]
fn a_shape_whose_record_went_to_the_next_message_goes_with_it() {
    let small = table("small", 1, &["id"], &[]);
    let large = table("large", 1, &["id"], &[]);
    let mut draft = Draft::new(Origin::Stream, txn(1));
    draft.insert(&small, &[Ok(&int(1))]);
    draft.insert(&large, &[Ok(&text(&"x".repeat(1000)))]);
    draft.insert(&small, &[Ok(&int(2))]);
    let found = messages(&mut ProtoEncoder::new(options(Format::Typed, 500)), &draft.build(None));
    let names = |message: &v1::Batch| message.schemas.iter().map(|schema| schema.name.clone()).collect::<Vec<_>>();
    assert_eq!(found.iter().map(names).collect::<Vec<_>>(), [vec!["small"], vec!["large"], vec![]]);
    let references: Vec<_> = found.iter().map(|message| message.transactions[0].changes[0].schema).collect();
    assert_eq!(references, [1, 2, 1]);
}

#[test]
fn tokens_are_read_back_and_nothing_else_is() {
    for at in ["16/B374D848", "binlog.000042:1234/3e11fa47-71ca-11e1-9e33-c80aa9429562:1-23"] {
        let at: Position = at.parse().unwrap();
        let message = position(&at, LINEAGE);
        assert_eq!(message.text, at.to_string());
        assert_eq!(read_token(&message.token), Some((LINEAGE, at.clone())));
        for end in 0..message.token.len() {
            assert!(read_token(&message.token[..end]).is_none_or(|(_, position)| position != at), "{end}");
        }
    }
    assert_eq!(read_token(b"\x02\0\0\0\0\0\0\0\0P12345678"), None);
}

#[test]
fn transactions_of_a_binary_log_are_ordered_by_their_bytes() {
    let order = |at: &str| {
        let mut out = Vec::new();
        position::order(&at.parse().unwrap(), &mut out);
        out
    };
    let places = ["binlog.999999:4", "binlog.999999:200", "binlog.999999:70000", "binlog.1000000:4"];
    assert!(places.windows(2).all(|pair| order(pair[0]) < order(pair[1])));
    assert!(order("0/FFFFFFFF") < order("1/0"));
}
