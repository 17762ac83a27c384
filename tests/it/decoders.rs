//! What a real server sent, through the decoders and the encoder: captures in `tests/fixtures/pg`, the seeds of the fuzz
//! targets too.
//!
//! `pgoutput.ndjson` is what the captured messages are in our JSON, read line by line against `capture.sql` when it was
//! taken; after a change that is meant, `WALBROOK_BLESS=1` writes it anew.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::value::RawValue;
use walbrook::encode::{JsonEncoder, JsonOptions};
use walbrook::record::{
    Batch, BatchBuilder, Column, DataType, Decode, Form, Lsn, Mark, Origin, Position, Scratch, Seq, TableSchema, Txn,
};
use walbrook::wire::WireError;
use walbrook::wire::pg::pgoutput::{Message, OldTuple, Relation, TupleShape};
use walbrook::wire::pg::{copy, pgoutput, text};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pg").join(name)
}

/// The captured messages, in order.
fn captured() -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(fixture("pgoutput.hex")).unwrap();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.lines().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect()
}

/// How a column of this type is read. The server names the types that are not built in, a domain by its base.
fn type_of(oid: u32, named: &HashMap<u32, String>) -> (DataType, Decode) {
    let array = |element: u32, delimiter: u8| {
        let (element, decode) = text::scalar(element);
        text::array_of(element, decode, delimiter)
    };
    match (oid, named.get(&oid).map(String::as_str)) {
        (1000, _) => array(16, b','),
        (1001, _) => array(17, b','),
        (1007, _) => array(23, b','),
        (1009, _) | (_, Some("_mood")) => array(25, b','),
        (1020, _) => array(603, b';'),
        (1185, _) => array(1184, b','),
        (1231, _) => array(1700, b','),
        (3807, _) => array(3802, b','),
        (_, Some("numeric")) => text::scalar(1700),
        _ => text::scalar(oid),
    }
}

fn schema_of(relation: &Relation<'_>, version: u32, named: &HashMap<u32, String>) -> Arc<TableSchema> {
    let columns = relation.columns.iter().map(|column| {
        let source_type = named.get(&column.type_oid).cloned().unwrap_or_else(|| column.type_oid.to_string());
        let nullable = !column.key;
        Column { nullable, ..Column::new(column.name, &source_type, type_of(column.type_oid, named)) }
    });
    let key = relation.columns.iter().enumerate().filter(|(_, column)| column.key).map(|(index, _)| index as u16);
    Arc::new(TableSchema {
        id: relation.id.into(),
        version,
        database: "fix".into(),
        namespace: relation.namespace.into(),
        name: relation.name.into(),
        columns: columns.collect(),
        key: if relation.identity == walbrook::record::Identity::Full { [].into() } else { key.collect() },
        identity: relation.identity,
    })
}

/// A source without a socket: messages in, one batch out.
struct Replay {
    builder: BatchBuilder,
    frame: Vec<u8>,
    tables: HashMap<u32, (Arc<TableSchema>, TupleShape)>,
    named: HashMap<u32, String>,
    ordinal: u64,
}

impl Replay {
    fn new() -> Self {
        let mut builder = BatchBuilder::new(Origin::Stream);
        builder.txn(txn(0, 0, None));
        Replay { builder, frame: Vec::new(), tables: HashMap::new(), named: HashMap::new(), ordinal: 0 }
    }

    fn message(&mut self, message: &[u8]) -> Result<(), WireError> {
        let base = self.frame.len();
        self.frame.extend_from_slice(message);
        let ordinal = self.ordinal + 1;
        let start = self.builder.cells_start();
        let known = |id: u32, tables: &HashMap<u32, (Arc<TableSchema>, TupleShape)>| tables.get(&id).cloned();
        match pgoutput::parse(message)? {
            Message::Begin(begin) => {
                self.builder.txn(txn(begin.final_lsn, begin.commit_unix_micros, Some(begin.xid.into())));
                self.builder.begin();
                self.ordinal = 0;
                return Ok(());
            }
            Message::Commit(_) => self.builder.commit(ordinal),
            Message::Origin(_) => return Ok(()),
            Message::Type(named) => {
                self.named.insert(named.oid, named.name.to_owned());
                return Ok(());
            }
            Message::Relation(relation) => {
                let previous = self.tables.get(&relation.id).map(|(schema, _)| schema.clone());
                let version = previous.as_ref().map_or(1, |previous| previous.version + 1);
                let schema = schema_of(&relation, version, &self.named);
                let shape = TupleShape::new(relation.columns.iter().map(|column| (column.key, true)));
                let table = self.builder.table(&schema);
                self.builder.schema_change(table, previous, None, ordinal);
                self.tables.insert(relation.id, (schema, shape));
                return Ok(());
            }
            Message::Insert(insert) => {
                let Some((schema, shape)) = known(insert.relation, &self.tables) else { return Ok(()) };
                insert.scan(base, &shape, self.builder.cells_mut())?;
                let table = self.builder.table(&schema);
                self.builder.insert(table, start, ordinal);
            }
            Message::Update(update) => {
                let Some((schema, shape)) = known(update.relation, &self.tables) else { return Ok(()) };
                update.scan(base, &shape, self.builder.cells_mut())?;
                let table = self.builder.table(&schema);
                let key_only = (update.old != OldTuple::None).then_some(update.old == OldTuple::Key);
                self.builder.update(table, start, key_only, ordinal);
            }
            Message::Delete(delete) => {
                let Some((schema, shape)) = known(delete.relation, &self.tables) else { return Ok(()) };
                delete.scan(base, &shape, self.builder.cells_mut())?;
                let table = self.builder.table(&schema);
                self.builder.delete(table, start, delete.old == OldTuple::Key, ordinal);
            }
            Message::Truncate(truncate) => {
                for id in truncate.relations() {
                    let Some((schema, _)) = known(id, &self.tables) else { continue };
                    let table = self.builder.table(&schema);
                    self.ordinal += 1;
                    self.builder.truncate(table, truncate.cascade, truncate.restart_identity, self.ordinal);
                }
                return Ok(());
            }
            Message::Logical(logical) => {
                self.builder.cells_mut().extend(logical.cells(base));
                self.builder.message(start, logical.transactional, ordinal);
            }
        }
        self.ordinal = ordinal;
        Ok(())
    }

    fn batch(mut self) -> Batch {
        self.builder.frame(Bytes::from(self.frame));
        self.builder.build(Seq(1), Mark::default(), None)
    }
}

fn txn(lsn: u64, commit_unix_micros: i64, id: Option<u64>) -> Txn {
    Txn { commit: Position::Postgres(Lsn(lsn)), id, commit_unix_micros: Some(commit_unix_micros) }
}

/// One line a record that can be encoded.
fn encoded(batch: &Batch) -> Vec<String> {
    let mut encoder = JsonEncoder::new(JsonOptions { transactions: true });
    let mut lines = Vec::new();
    for record in batch.records() {
        let mut out = Vec::new();
        match encoder.encode(batch.origin, &record, &mut out) {
            Ok(()) => {
                assert_eq!(out.pop(), Some(b'\n'));
                assert!(!out.contains(&b'\n'), "a record is one line");
                lines.push(String::from_utf8(out).unwrap());
            }
            Err(_) => assert!(out.is_empty(), "an error leaves nothing behind"),
        }
    }
    lines
}

/// A row's line, its objects as they stand: an embedded document may hold numbers no `f64` does.
#[derive(serde::Deserialize)]
struct Line<'a> {
    op: &'a str,
    #[serde(borrow)]
    table: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
}

/// Key and `after` of a COPY row in our JSON.
fn copied(schema: &Arc<TableSchema>, mut row: Vec<u8>) -> (String, String) {
    let mut builder = BatchBuilder::new(Origin::Snapshot);
    builder.txn(txn(0, 0, None));
    copy::scan_row(&mut row, 0, schema.columns.len(), builder.cells_mut()).unwrap();
    let table = builder.table(schema);
    builder.insert(table, 0, 1);
    builder.frame(Bytes::from(row));
    let batch = builder.build(Seq(1), Mark::default(), None);
    let lines = encoded(&batch);
    let line: Line<'_> = serde_json::from_str(&lines[0]).unwrap();
    (line.key.unwrap().get().to_owned(), line.after.unwrap().get().to_owned())
}

#[test]
fn every_captured_message_becomes_its_line() {
    let mut replay = Replay::new();
    let messages = captured();
    for message in &messages {
        replay.message(message).unwrap();
    }
    let tags: std::collections::BTreeSet<u8> = messages.iter().map(|message| message[0]).collect();
    assert_eq!(tags.into_iter().map(char::from).collect::<String>(), "BCDIMORTUY", "the capture has every kind");

    let batch = replay.batch();
    let lines = encoded(&batch);
    assert_eq!(lines.len(), batch.len(), "every record could be encoded");
    for line in &lines {
        serde_json::from_str::<&RawValue>(line).unwrap();
    }
    let text = lines.join("\n") + "\n";
    if std::env::var_os("WALBROOK_BLESS").is_some() {
        std::fs::write(fixture("pgoutput.ndjson"), &text).unwrap();
    }
    let expected = std::fs::read_to_string(fixture("pgoutput.ndjson")).unwrap();
    for (number, (line, expected)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(line, expected, "line {}", number + 1);
    }
    assert_eq!(text, expected);
}

/// The table of all types as the snapshot reads it is what its inserts and updates said.
#[test]
fn copy_and_stream_agree() {
    let mut replay = Replay::new();
    captured().iter().for_each(|message| replay.message(message).unwrap());
    let is_types = |schema: &&Arc<TableSchema>| &*schema.name == "types";
    let schema = replay.tables.values().map(|(schema, _)| schema).find(is_types).unwrap().clone();

    let mut rows: HashMap<String, String> = HashMap::new();
    for line in encoded(&replay.batch()) {
        let line: Line<'_> = serde_json::from_str(&line).unwrap();
        if line.table.as_deref() != Some("types") {
            continue;
        }
        let text = |part: Option<&RawValue>| part.map(|part| part.get().to_owned()).unwrap();
        match line.op {
            "u" => {
                // A key-only old row is there when the key changed, and looks like a key.
                line.before.map(|before| rows.remove(before.get()));
                rows.insert(text(line.key), text(line.after));
            }
            "c" => drop(rows.insert(text(line.key), text(line.after))),
            "d" => drop(rows.remove(line.key.unwrap().get())),
            _ => {}
        }
    }
    let copy = std::fs::read(fixture("types.copy")).unwrap();
    let copy: Vec<_> = copy.split_inclusive(|&byte| byte == b'\n').collect();
    assert_eq!(copy.len(), rows.len());
    for row in copy {
        // The stream leaves generated columns out; COPY was asked for them, as the last column.
        let end = row.iter().rposition(|&byte| byte == b'\t').unwrap();
        let row = [&row[..end], b"\n"].concat();
        let (key, after) = copied(&schema, row);
        assert_eq!(rows[&key], after);
    }
}

#[test]
fn captured_arrays_are_json_arrays() {
    let (element, decode) = text::scalar(25);
    let (data_type, decode) = text::array_of(element, decode, b',');
    let arrays = std::fs::read_to_string(fixture("arrays.txt")).unwrap();
    for line in arrays.lines() {
        match decode(line.as_bytes(), Form::plain(&data_type, &mut Scratch::default())).unwrap() {
            walbrook::record::Value::Array(array) => {
                let mut depth = 0;
                array
                    .walk(&mut |event| {
                        match event {
                            walbrook::record::ArrayEvent::Open => depth += 1,
                            walbrook::record::ArrayEvent::Close => depth -= 1,
                            walbrook::record::ArrayEvent::Element(_) => assert!(depth > 0),
                        }
                        Ok(())
                    })
                    .unwrap();
                assert_eq!(depth, 0, "{line}");
            }
            walbrook::record::Value::Text(text) => assert!(text.starts_with('['), "{line}"),
            other => panic!("{other:?}"),
        }
    }
}

/// A change to some bytes: overwritten, removed, or doubled.
fn mutated(mut bytes: Vec<u8>, changes: &[(usize, u8, u8)]) -> Vec<u8> {
    for &(place, kind, byte) in changes {
        if bytes.is_empty() {
            break;
        }
        let place = place % bytes.len();
        match kind % 4 {
            0 => bytes[place] = byte,
            1 => drop(bytes.remove(place)),
            2 => bytes.insert(place, byte),
            _ => bytes.truncate(place),
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Damaged captures are errors or other values, never a panic, and never a line that is not JSON.
    #[test]
    fn damaged_messages_never_panic(
        changes in prop::collection::vec((any::<usize>(), prop::collection::vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..4)), 1..40)
    ) {
        let mut messages = captured();
        for (index, changes) in changes {
            let index = index % messages.len();
            messages[index] = mutated(std::mem::take(&mut messages[index]), &changes);
        }
        let mut replay = Replay::new();
        for message in &messages {
            let _ = replay.message(message);
        }
        for line in encoded(&replay.batch()) {
            prop_assert!(std::str::from_utf8(line.as_bytes()).is_ok());
        }
    }

    #[test]
    fn damaged_rows_never_panic(
        row in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<usize>(), any::<u8>(), prop_oneof![any::<u8>(), prop::sample::select(b"\\\t\nN{},\"".to_vec())]), 1..6)
    ) {
        let copy = std::fs::read(fixture("types.copy")).unwrap();
        let rows: Vec<_> = copy.split_inclusive(|&byte| byte == b'\n').collect();
        let mut row = mutated(row.get(&rows).to_vec(), &changes);
        let _ = copy::scan_row(&mut row, 0, 51, &mut Vec::new());
    }
}
