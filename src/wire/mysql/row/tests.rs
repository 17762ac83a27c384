//! Random tables and rows, written by a model that knows nothing of plans, read by a scan.

use proptest::prelude::*;

use super::RowPlan;
use crate::record::Cell;
use crate::wire::mysql::event::{Body, Checksum, Event, Flavor, Format, TableMap};

const FORMAT: Format = Format { flavor: Flavor::MySql, checksum: Checksum::None };

/// A type: (code, details, bytes of a value's length, bytes of a value whose length is fixed).
type Kind = (u8, &'static [u8], usize, usize);

const KINDS: &[Kind] = &[
    (1, &[], 0, 1),
    (2, &[], 0, 2),
    (3, &[], 0, 4),
    (4, &[4], 0, 4),
    (5, &[8], 0, 8),
    (7, &[], 0, 4),
    (8, &[], 0, 8),
    (9, &[], 0, 3),
    (10, &[], 0, 3),
    (11, &[], 0, 3),
    (12, &[], 0, 8),
    (13, &[], 0, 1),
    (15, &[255, 0], 1, 0),
    (15, &[0, 1], 2, 0),
    (16, &[1, 0], 0, 1),
    (16, &[7, 1], 0, 2),
    (16, &[0, 8], 0, 8),
    (17, &[0], 0, 4),
    (17, &[6], 0, 7),
    (18, &[3], 0, 7),
    (18, &[0], 0, 5),
    (19, &[1], 0, 4),
    (19, &[5], 0, 6),
    (140, &[2], 2, 0),
    (141, &[0, 2], 2, 0),
    (242, &[4], 4, 0),
    (245, &[4], 4, 0),
    (246, &[14, 2], 0, 7),
    (246, &[10, 0], 0, 5),
    (246, &[65, 30], 0, 30),
    (246, &[4, 4], 0, 2),
    (252, &[1], 1, 0),
    (252, &[3], 3, 0),
    (252, &[4], 4, 0),
    (254, &[254, 255], 1, 0),
    // CHAR(255) of utf8mb4: 1020 bytes, bits 8 and 9 inverted in the type's.
    (254, &[0xce, 0xfc], 2, 0),
    (254, &[247, 1], 0, 1),
    (254, &[247, 2], 0, 2),
    (254, &[248, 8], 0, 8),
    (255, &[4], 4, 0),
];

fn packed(number: usize) -> Vec<u8> {
    match number {
        0..=250 => vec![number as u8],
        _ => [&[252][..], &(number as u16).to_le_bytes()].concat(),
    }
}

fn event(kind: u8, body: &[u8]) -> Vec<u8> {
    let size = (19 + body.len()) as u32;
    [&[0, 0, 0, 0, kind, 1, 0, 0, 0][..], &size.to_le_bytes(), &[0; 6], body].concat()
}

fn table_map(kinds: &[Kind]) -> Vec<u8> {
    let details: Vec<u8> = kinds.iter().flat_map(|kind| kind.1).copied().collect();
    let mut body = b"\x05\0\0\0\0\0\x01\0\x01d\0\x01t\0".to_vec();
    body.extend(packed(kinds.len()));
    body.extend(kinds.iter().map(|kind| kind.0));
    body.extend(packed(details.len()));
    body.extend(details);
    body.extend(vec![0xff; kinds.len().div_ceil(8)]);
    event(19, &body)
}

fn parse_map(bytes: &[u8]) -> TableMap<'_> {
    match Event::plain(bytes).expect("an event").parse(&FORMAT).expect("a body") {
        Body::TableMap(map) => map,
        other => panic!("{other:?}"),
    }
}

/// An image's values; none is NULL.
type Image = Vec<Option<Vec<u8>>>;

fn bitmap(bits: impl Iterator<Item = bool>) -> Vec<u8> {
    let bits: Vec<bool> = bits.collect();
    let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, &bit| byte << 1 | u8::from(bit));
    bits.chunks(8).map(byte).collect()
}

fn write_image(kinds: &[Kind], present: &[bool], image: &Image, out: &mut Vec<u8>) {
    let here = || kinds.iter().zip(image).zip(present).filter(|(_, present)| **present).map(|(pair, _)| pair);
    out.extend(bitmap(here().map(|(_, value)| value.is_none())));
    for ((_, _, prefix, _), value) in here() {
        if let Some(value) = value {
            out.extend(&value.len().to_le_bytes()[..*prefix]);
            out.extend(value);
        }
    }
}

/// A table, the columns its old and new images have, and rows of an old and a new image.
#[derive(Clone, Debug)]
struct Case {
    kinds: Vec<Kind>,
    present: [Vec<bool>; 2],
    rows: Vec<[Image; 2]>,
    /// For each column its cell among as many, or none.
    outputs: Vec<Option<u16>>,
}

fn image(kinds: &[Kind]) -> impl Strategy<Value = Image> + use<> {
    let value = |&(_, _, prefix, fixed): &Kind| {
        let length = if prefix == 0 { fixed..=fixed } else { 0..=if prefix == 1 { 255 } else { 300 } };
        proptest::option::weighted(0.7, proptest::collection::vec(any::<u8>(), length))
    };
    kinds.iter().map(value).collect::<Vec<_>>()
}

fn cases() -> impl Strategy<Value = Case> {
    let kinds = proptest::collection::vec(proptest::sample::select(KINDS), 1..20);
    kinds.prop_flat_map(|kinds| {
        let width = kinds.len();
        let present = || {
            prop_oneof![
                1 => Just(vec![true; width]),
                1 => proptest::collection::vec(any::<bool>(), width).prop_map(|mut present| {
                    // A row of no bytes is a case of its own.
                    present[0] = true;
                    present
                })
            ]
        };
        let rows = proptest::collection::vec([image(&kinds), image(&kinds)], 0..5);
        // Wanted columns in any order.
        let outputs =
            (Just((0..width as u16).collect::<Vec<_>>()).prop_shuffle(), 0..=width).prop_map(|(order, wanted)| {
                order.into_iter().map(|output| (usize::from(output) < wanted).then_some(output)).collect::<Vec<_>>()
            });
        (Just(kinds), present(), present(), rows, outputs).prop_map(|(kinds, old, new, rows, outputs)| Case {
            kinds,
            present: [old, new],
            rows,
            outputs,
        })
    })
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Write,
    Update,
    Delete,
}

impl Form {
    /// The images of a row as they are logged: 0 the old one, 1 the new one.
    fn images(self) -> &'static [usize] {
        match self {
            Form::Write => &[1],
            Form::Update => &[0, 1],
            Form::Delete => &[0],
        }
    }
}

fn rows_event(case: &Case, form: Form, version_1: bool) -> Vec<u8> {
    let mut body = b"\x05\0\0\0\0\0\x01\0".to_vec();
    if !version_1 {
        body.extend([2, 0]);
    }
    body.extend(packed(case.kinds.len()));
    for &which in form.images() {
        body.extend(bitmap(case.present[which].iter().copied()));
    }
    for row in &case.rows {
        for &which in form.images() {
            write_image(&case.kinds, &case.present[which], &row[which], &mut body);
        }
    }
    let first = match form {
        Form::Write => 30,
        Form::Update => 31,
        Form::Delete => 32,
    };
    event(if version_1 { first - 7 } else { first }, &body)
}

/// What a cell says, with its bytes in place of where they are.
fn said(cell: Cell, frame: &[u8]) -> String {
    match cell.range() {
        Some((start, length)) => format!("{:?}", &frame[start..start + length]),
        None if cell.is_null() => "NULL".to_owned(),
        None if cell.is_unchanged() => "unchanged".to_owned(),
        None => "missing".to_owned(),
    }
}

fn expected(case: &Case, form: Form, row: &[Image; 2], count: usize) -> Vec<String> {
    let mut all = Vec::new();
    // In a batch the new row comes first.
    for &which in form.images().iter().rev() {
        let absent = if form == Form::Update && which == 1 { "unchanged" } else { "missing" };
        let mut cells = vec![absent.to_owned(); count];
        for (column, output) in case.outputs.iter().enumerate() {
            let Some(output) = output.filter(|_| case.present[which][column]) else { continue };
            cells[usize::from(output)] =
                row[which][column].as_ref().map_or("NULL".to_owned(), |value| format!("{value:?}"));
        }
        all.extend(cells);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_scan_finds_what_was_written(
        case in cases(),
        form in prop_oneof![Just(Form::Write), Just(Form::Update), Just(Form::Delete)],
        version_1 in any::<bool>(),
        base in 0..100_usize,
    ) {
        let map = table_map(&case.kinds);
        let count = case.outputs.iter().flatten().count();
        let plan = RowPlan::new(&parse_map(&map), &case.outputs, count as u16).expect("a plan");
        let bytes = rows_event(&case, form, version_1);
        let frame = [vec![0; base], bytes.clone()].concat();
        let Ok(Body::Rows(rows)) = Event::plain(&bytes).expect("an event").parse(&FORMAT) else { panic!("no rows") };
        let mut scan = rows.scan(&plan, base).expect("rows");
        let mut cells = vec![Cell::NULL; 3];
        for row in &case.rows {
            let start = cells.len();
            prop_assert!(scan.next(&mut cells).expect("a row"));
            let ours: Vec<String> = cells[start..].iter().map(|&cell| said(cell, &frame)).collect();
            prop_assert_eq!(ours, expected(&case, form, row, count));
        }
        let end = cells.len();
        prop_assert!(!scan.next(&mut cells).expect("the end"));
        prop_assert_eq!(cells.len(), end);
        prop_assert_eq!(scan.at(), bytes.len());
    }

    /// What is cut off is an error that adds nothing, or it ends behind a whole row.
    #[test]
    fn a_cut_row_adds_nothing(case in cases(), cut in any::<prop::sample::Index>()) {
        let map = table_map(&case.kinds);
        let plan = RowPlan::all(&parse_map(&map)).expect("a plan");
        let whole = rows_event(&case, Form::Update, false);
        let rows_at = {
            let Ok(Body::Rows(rows)) = Event::plain(&whole).expect("an event").parse(&FORMAT) else { panic!("no rows") };
            rows.rows_at()
        };
        let length = rows_at + cut.index(whole.len() - rows_at + 1);
        let cut = event(31, &whole[19..length]);
        let Ok(Body::Rows(rows)) = Event::plain(&cut).expect("an event").parse(&FORMAT) else { panic!("no rows") };
        let mut scan = rows.scan(&plan, 0).expect("rows");
        let mut cells = Vec::new();
        let mut read = 0;
        while let Ok(true) = scan.next(&mut cells) {
            read += 1;
        }
        prop_assert_eq!(cells.len(), read * 2 * plan.outputs());
        prop_assert!(read <= case.rows.len());
    }
}

fn case(kinds: &[Kind], rows: Vec<[Image; 2]>) -> Case {
    let width = kinds.len();
    Case {
        kinds: kinds.to_vec(),
        present: [vec![true; width], vec![true; width]],
        rows,
        outputs: (0..width as u16).map(Some).collect(),
    }
}

#[test]
fn a_plan_is_of_its_own_table_alone() {
    let (one, two) = (table_map(&KINDS[..1]), table_map(&KINDS[..2]));
    let bytes = rows_event(&case(&KINDS[..1], vec![]), Form::Write, false);
    let Ok(Body::Rows(rows)) = Event::plain(&bytes).unwrap().parse(&FORMAT) else { panic!("no rows") };
    assert!(rows.scan(&RowPlan::all(&parse_map(&one)).unwrap(), 0).is_ok());
    assert!(rows.scan(&RowPlan::all(&parse_map(&two)).unwrap(), 0).is_err());
    assert!(rows.scan(&RowPlan::all(&parse_map(&one)).unwrap(), u32::MAX as usize).is_err());
}

/// A length of 4 GiB in the row is no place in the frame.
#[test]
fn a_length_that_lies_is_an_error() {
    let map = table_map(&[(252, &[4], 4, 0), (1, &[], 0, 1)]);
    let plan = RowPlan::all(&parse_map(&map)).unwrap();
    for (length, good) in [(1_u32, true), (2, false), (u32::MAX, false), (u32::MAX - 2, false)] {
        let body = [&b"\x05\0\0\0\0\0\x01\0\x02\0\x02\x03\0"[..], &length.to_le_bytes(), b"xy"].concat();
        let bytes = event(30, &body);
        let Ok(Body::Rows(rows)) = Event::plain(&bytes).unwrap().parse(&FORMAT) else { panic!("no rows") };
        let mut cells = vec![Cell::NULL];
        let read = rows.scan(&plan, 0).unwrap().next(&mut cells);
        assert_eq!(read.is_ok(), good, "{length}");
        assert_eq!(cells.len(), if good { 3 } else { 1 });
    }
}
