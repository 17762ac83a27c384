use proptest::prelude::*;

use super::*;

/// A message: its tag, then its fields.
fn message(tag: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![tag];
    fields.iter().for_each(|field| bytes.extend_from_slice(field));
    bytes
}

/// A column of a tuple as it goes over the wire.
#[derive(Clone, Debug)]
enum Wire {
    Null,
    Unchanged,
    Text(Vec<u8>),
}

fn tuple(columns: &[Wire]) -> Vec<u8> {
    let mut bytes = (columns.len() as u16).to_be_bytes().to_vec();
    for column in columns {
        match column {
            Wire::Null => bytes.push(b'n'),
            Wire::Unchanged => bytes.push(b'u'),
            Wire::Text(text) => {
                bytes.push(b't');
                bytes.extend((text.len() as u32).to_be_bytes());
                bytes.extend(text);
            }
        }
    }
    bytes
}

/// The cells a scan gave, as the bytes they point to.
fn texts<'a>(frame: &'a [u8], cells: &[Cell]) -> Vec<Result<&'a [u8], Cell>> {
    // A cell tells its place only to a row; a row needs a batch. Here the place is found by comparing.
    cells.iter().map(|&cell| if cell.is_value() { Ok(find(frame, cell)) } else { Err(cell) }).collect()
}

fn find(frame: &[u8], cell: Cell) -> &[u8] {
    for start in 0..=frame.len() {
        for end in start..=frame.len() {
            if Cell::at(start, end - start) == cell {
                return &frame[start..end];
            }
        }
    }
    panic!("{cell:?} points outside its frame");
}

fn text(text: &str) -> Wire {
    Wire::Text(text.as_bytes().to_vec())
}

const REL: [u8; 4] = 16_500_u32.to_be_bytes();

fn all(keys: &[bool]) -> TupleShape {
    TupleShape::new(keys.iter().map(|&key| (key, true)))
}

#[test]
fn transaction_messages() {
    let begin = message(b'B', &[&7_u64.to_be_bytes(), &1_i64.to_be_bytes(), &731_u32.to_be_bytes()]);
    // 2000-01-01 is 946,684,800 s after 1970.
    let expected = Begin { final_lsn: 7, commit_unix_micros: 946_684_800_000_001, xid: 731 };
    assert_eq!(parse(&begin).unwrap(), Message::Begin(expected));

    let commit = message(b'C', &[&[0], &7_u64.to_be_bytes(), &9_u64.to_be_bytes(), &(-1_i64).to_be_bytes()]);
    let expected = Commit { flags: 0, commit_lsn: 7, end_lsn: 9, commit_unix_micros: 946_684_799_999_999 };
    assert_eq!(parse(&commit).unwrap(), Message::Commit(expected));

    let origin = message(b'O', &[&3_u64.to_be_bytes(), b"node_a\0"]);
    assert_eq!(parse(&origin).unwrap(), Message::Origin(Origin { commit_lsn: 3, name: "node_a" }));

    let late = message(b'B', &[&7_u64.to_be_bytes(), &i64::MAX.to_be_bytes(), &731_u32.to_be_bytes()]);
    assert_eq!(parse(&late).unwrap_err().problem, "the time is out of range");
}

#[test]
fn shapes_and_names() {
    let relation = message(
        b'R',
        &[
            &REL,
            b"\0",
            b"mood \xc3\xa9\0",
            b"i",
            &[0, 2],
            &[1],
            b"id\0",
            &20_u32.to_be_bytes(),
            &(-1_i32).to_be_bytes(),
        ],
    );
    let relation = [&relation[..], &[0], b"n\0", &1700_u32.to_be_bytes(), &786_438_i32.to_be_bytes()].concat();
    let expected = Relation {
        id: 16_500,
        namespace: "pg_catalog",
        name: "mood é",
        identity: Identity::Index,
        columns: vec![
            RelationColumn { key: true, name: "id", type_oid: 20, type_modifier: -1 },
            RelationColumn { key: false, name: "n", type_oid: 1700, type_modifier: 786_438 },
        ],
    };
    assert_eq!(parse(&relation).unwrap(), Message::Relation(expected));

    let named = message(b'Y', &[&REL, b"public\0", b"mood\0"]);
    assert_eq!(parse(&named).unwrap(), Message::Type(Type { oid: 16_500, namespace: "public", name: "mood" }));
}

#[test]
fn truncate_names_its_tables_and_options() {
    let bytes = message(b'T', &[&2_u32.to_be_bytes(), &[3], &REL, &1_u32.to_be_bytes()]);
    let Message::Truncate(truncate) = parse(&bytes).unwrap() else { panic!() };
    assert!(truncate.cascade && truncate.restart_identity);
    assert_eq!(truncate.relations().collect::<Vec<_>>(), [16_500, 1]);
    let lying = message(b'T', &[&u32::MAX.to_be_bytes(), &[0], &REL]);
    assert_eq!(parse(&lying).unwrap_err().problem, "truncated");
}

#[test]
fn logical_messages_point_to_their_parts() {
    let content = [0, 255, b'\n'];
    let bytes =
        message(b'M', &[&[1], &5_u64.to_be_bytes(), b"outbox\0", &(content.len() as u32).to_be_bytes(), &content]);
    let Message::Logical(logical) = parse(&bytes).unwrap() else { panic!() };
    assert_eq!((logical.transactional, logical.lsn, logical.prefix), (true, 5, "outbox"));
    assert_eq!(logical.content, content);
    let frame = [&b"....."[..], &bytes].concat();
    assert_eq!(texts(&frame, &logical.cells(5)), [Ok(&b"outbox"[..]), Ok(&content[..])]);
}

#[test]
fn an_insert_has_the_cells_of_its_frame() {
    let row = [text("1"), Wire::Null, text(""), Wire::Text("ü\0\n".into())];
    let bytes = message(b'I', &[&REL, b"N", &tuple(&row)]);
    let Message::Insert(insert) = parse(&bytes).unwrap() else { panic!() };
    assert_eq!(insert.relation, 16_500);
    let frame = [&b"before"[..], &bytes].concat();
    let mut cells = vec![Cell::MISSING];
    insert.scan(6, &all(&[true, false, false, false]), &mut cells).unwrap();
    assert_eq!(texts(&frame, &cells[1..]), [Ok(&b"1"[..]), Err(Cell::NULL), Ok(b""), Ok("ü\0\n".as_bytes())]);
}

#[test]
fn a_key_only_old_tuple_has_no_other_columns() {
    let old = tuple(&[text("1"), Wire::Null]);
    let new = tuple(&[text("2"), Wire::Unchanged]);
    let bytes = message(b'U', &[&REL, b"K", &old, b"N", &new]);
    let Message::Update(update) = parse(&bytes).unwrap() else { panic!() };
    assert_eq!(update.old, OldTuple::Key);
    let mut cells = Vec::new();
    update.scan(0, &all(&[true, false]), &mut cells).unwrap();
    assert_eq!(texts(&bytes, &cells), [Ok(&b"2"[..]), Err(Cell::UNCHANGED), Ok(b"1"), Err(Cell::MISSING)]);

    let bytes = message(b'D', &[&REL, b"K", &old]);
    let Message::Delete(delete) = parse(&bytes).unwrap() else { panic!() };
    let mut cells = Vec::new();
    delete.scan(0, &all(&[true, false]), &mut cells).unwrap();
    assert_eq!(texts(&bytes, &cells), [Ok(&b"1"[..]), Err(Cell::MISSING)]);
}

#[test]
fn unchanged_columns_come_from_a_full_old_row() {
    let old = tuple(&[text("1"), text("long"), Wire::Null]);
    let new = tuple(&[text("1"), Wire::Unchanged, text("x")]);
    let bytes = message(b'U', &[&REL, b"O", &old, b"N", &new]);
    let Message::Update(update) = parse(&bytes).unwrap() else { panic!() };
    assert_eq!(update.old, OldTuple::Full);
    let mut cells = Vec::new();
    update.scan(0, &all(&[true; 3]), &mut cells).unwrap();
    let row = |last: Result<_, _>| [Ok(&b"1"[..]), Ok(&b"long"[..]), last];
    assert_eq!(texts(&bytes, &cells), [row(Ok(b"x")), row(Err(Cell::NULL))].concat());
    assert_eq!(cells[1], cells[4]);
}

#[test]
fn excluded_columns_are_skipped_in_every_tuple() {
    let shape = TupleShape::new([(false, false), (true, true), (true, false), (false, true)]);
    assert_eq!(shape.kept(), 2);
    let old = tuple(&[Wire::Null, text("k"), text("l"), Wire::Null]);
    let new = tuple(&[text("a"), text("b"), text("c"), text("d")]);
    let bytes = message(b'U', &[&REL, b"K", &old, b"N", &new]);
    let Message::Update(update) = parse(&bytes).unwrap() else { panic!() };
    let mut cells = Vec::new();
    update.scan(0, &shape, &mut cells).unwrap();
    assert_eq!(texts(&bytes, &cells), [Ok(&b"b"[..]), Ok(b"d"), Ok(b"k"), Err(Cell::MISSING)]);
}

#[test]
fn what_is_wrong_is_said_and_no_cell_is_added() {
    let shape = all(&[true, false]);
    let scan = |bytes: &[u8]| {
        let mut cells = vec![Cell::NULL];
        let result = match parse(bytes)? {
            Message::Insert(insert) => insert.scan(0, &shape, &mut cells),
            Message::Update(update) => update.scan(0, &shape, &mut cells),
            Message::Delete(delete) => delete.scan(0, &shape, &mut cells),
            other => panic!("{other:?}"),
        };
        assert_eq!(cells.len(), 1);
        result
    };
    let problem = |bytes: &[u8]| scan(bytes).unwrap_err().problem;
    let row = tuple(&[text("1"), text("2")]);

    assert_eq!(problem(&message(b'I', &[&REL, b"N", &row, b"!"])), "bytes left over");
    assert_eq!(problem(&message(b'U', &[&REL, b"N", &row, b"N"])), "bytes left over");
    assert_eq!(problem(&message(b'U', &[&REL, b"O", &row])), "truncated");
    assert_eq!(problem(&message(b'D', &[&REL, b"N", &row])), "no tuple of this kind belongs here");
    assert_eq!(
        problem(&message(b'I', &[&REL, b"N", &tuple(&[text("1")])])),
        "another number of columns than its Relation message has"
    );
    assert_eq!(
        problem(&message(b'I', &[&REL, b"N", &[0, 2], b"b", &1_u32.to_be_bytes(), b"1n"])),
        "a value in binary form, which was not asked for"
    );
    assert_eq!(
        problem(&message(b'I', &[&REL, b"N", &[0, 2], b"t", &u32::MAX.to_be_bytes(), b"1n"])),
        "a value longer than the message"
    );
    assert_eq!(problem(&message(b'I', &[&REL, b"N", &[0, 2], b"xn"])), "unknown kind of column");
}

#[test]
fn every_truncation_is_an_error() {
    let row = tuple(&[text("1"), Wire::Null]);
    let shape = all(&[true, false]);
    let messages = [
        message(b'B', &[&[0; 20]]),
        message(b'C', &[&[0; 25]]),
        message(b'O', &[&[0; 8], b"node\0"]),
        message(b'R', &[&REL, b"s\0t\0d", &[0, 1, 1], b"id\0", &[0; 8]]),
        message(b'Y', &[&REL, b"s\0t\0"]),
        message(b'T', &[&1_u32.to_be_bytes(), &[0], &REL]),
        message(b'M', &[&[1], &[0; 8], b"p\0", &2_u32.to_be_bytes(), b"ab"]),
        message(b'I', &[&REL, b"N", &row]),
        message(b'U', &[&REL, b"K", &row, b"N", &row]),
        message(b'D', &[&REL, b"O", &row]),
    ];
    for bytes in messages {
        assert!(read_all(&bytes, &shape).is_ok(), "{:?}", char::from(bytes[0]));
        for end in 0..bytes.len() {
            assert!(read_all(&bytes[..end], &shape).is_err(), "{:?} cut at {end}", char::from(bytes[0]));
        }
        assert!(read_all(&[&bytes[..], &[0]].concat(), &shape).is_err(), "{:?} with a byte more", char::from(bytes[0]));
    }
}

#[test]
fn tags_we_do_not_take_are_named() {
    let error = parse(b"S....").unwrap_err();
    assert_eq!(
        error.to_string(),
        "malformed pgoutput message at byte 0: belongs to a streamed transaction, which was not asked for, found 'S'"
    );
    assert!(parse(b"P").unwrap_err().problem.contains("two-phase"));
    assert_eq!(parse(b"?").unwrap_err().to_string(), "malformed pgoutput message at byte 0: unknown tag, found '?'");
    assert_eq!(parse(b"").unwrap_err().problem, "empty");
}

#[test]
fn a_frame_beyond_4_gib_is_refused() {
    let bytes = message(b'I', &[&REL, b"N", &tuple(&[text("1")])]);
    let Message::Insert(insert) = parse(&bytes).unwrap() else { panic!() };
    let mut cells = Vec::new();
    for base in [u32::MAX as usize, usize::MAX] {
        assert!(insert.scan(base, &all(&[true]), &mut cells).is_err());
    }
    assert!(cells.is_empty());
}

/// Reads a message and, of a row's, its cells.
fn read_all(bytes: &[u8], shape: &TupleShape) -> Result<Vec<Cell>, WireError> {
    let mut cells = Vec::new();
    match parse(bytes)? {
        Message::Insert(insert) => insert.scan(0, shape, &mut cells)?,
        Message::Update(update) => update.scan(0, shape, &mut cells)?,
        Message::Delete(delete) => delete.scan(0, shape, &mut cells)?,
        _ => {}
    }
    Ok(cells)
}

fn column() -> impl Strategy<Value = Wire> {
    prop_oneof![Just(Wire::Null), Just(Wire::Unchanged), prop::collection::vec(any::<u8>(), 0..12).prop_map(Wire::Text)]
}

proptest! {
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), tag in prop::sample::select(b"BCORYIUDTMSEcAbPKrp".to_vec()), kind in prop::sample::select(b"NKO".to_vec())) {
        let shape = all(&[true, false]);
        let _ = read_all(&bytes, &shape);
        let _ = read_all(&message(tag, &[&bytes]), &shape);
        let _ = read_all(&message(tag, &[&REL, &[kind, 0, 2], &bytes]), &shape);
    }

    /// Any tuples, any projection: the cells are those of a plain model.
    #[test]
    fn scans_what_was_written(
        columns in prop::collection::vec((column(), column(), any::<bool>(), any::<bool>()), 0..9),
        old in prop::sample::select(vec![OldTuple::None, OldTuple::Key, OldTuple::Full]),
    ) {
        let shape = TupleShape::new(columns.iter().map(|(_, _, key, keep)| (*key, *keep)));
        let new_tuple = tuple(&columns.iter().map(|(new, ..)| new.clone()).collect::<Vec<_>>());
        let old_tuple = tuple(&columns.iter().map(|(_, old, ..)| old.clone()).collect::<Vec<_>>());
        let bytes = match old {
            OldTuple::None => message(b'U', &[&REL, b"N", &new_tuple]),
            OldTuple::Key => message(b'U', &[&REL, b"K", &old_tuple, b"N", &new_tuple]),
            OldTuple::Full => message(b'U', &[&REL, b"O", &old_tuple, b"N", &new_tuple]),
        };
        fn plain(wire: &Wire) -> Result<&[u8], Cell> {
            match wire {
                Wire::Null => Err(Cell::NULL),
                Wire::Unchanged => Err(Cell::UNCHANGED),
                Wire::Text(text) => Ok(text),
            }
        }
        let kept: Vec<_> = columns.iter().filter(|column| column.3).collect();
        let before = |column: &&'_ (Wire, Wire, bool, bool)| {
            if old == OldTuple::Key && !column.2 { Err(Cell::MISSING) } else { Ok(()) }
        };
        let mut expected: Vec<_> = kept.iter().map(|column| match (plain(&column.0), plain(&column.1)) {
            (Err(Cell::UNCHANGED), Ok(value)) if old != OldTuple::None && before(column).is_ok() => Ok(value),
            (new, _) => new,
        }).collect();
        if old != OldTuple::None {
            expected.extend(kept.iter().map(|column| before(column).and_then(|()| plain(&column.1))));
        }
        let frame = [&b"base"[..], &bytes].concat();
        let Message::Update(update) = parse(&bytes).unwrap() else { panic!() };
        let mut cells = Vec::new();
        update.scan(4, &shape, &mut cells).unwrap();
        prop_assert_eq!(texts(&frame, &cells), expected);
    }
}
