//! Rows for tests: cells in a wire form of the tests' own, which can hold a value of every type.
//!
//! ```text
//! cell  = 'i' i64 | 'u' u64 | 'b' u8 | 'f' f32 | 'd' f64 | 'D' date | 'T' date time | 'Z' date time | '+' | '-'
//!       | ('n' | 't' | 'x' | 'h' | 'U' | 'j') bytes | '[' {'[' | ']' | 'e' u32 cell | 'N'}
//! date  = i32 u8 u8        time = u8 u8 u8 u32        all little endian
//! ```

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use crate::record::{
    Array, ArrayEvent, ArrayType, Batch, BatchBuilder, Cell, Column, DataType, Date, DateTime, Form, Identity, Lsn,
    Mark, Origin, Position, Scratch, Seq, TableSchema, Time, Txn, Value, ValueError,
};

pub(super) fn decode<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let wrong = || ValueError::new("a sample", bytes);
    let (kind, rest) = bytes.split_first().ok_or_else(wrong)?;
    let text = || std::str::from_utf8(rest).map_err(|_| wrong());
    Ok(match kind {
        b'i' => Value::Int(i64::from_le_bytes(rest.try_into().map_err(|_| wrong())?)),
        b'u' => Value::UInt(u64::from_le_bytes(rest.try_into().map_err(|_| wrong())?)),
        b'b' => Value::Bool(rest == [1]),
        b'f' => Value::F32(f32::from_le_bytes(rest.try_into().map_err(|_| wrong())?)),
        b'd' => Value::F64(f64::from_le_bytes(rest.try_into().map_err(|_| wrong())?)),
        b'D' => Value::Date(date(rest).ok_or_else(wrong)?),
        b'T' => Value::Timestamp(date_time(rest).ok_or_else(wrong)?),
        b'Z' => Value::TimestampTz(date_time(rest).ok_or_else(wrong)?),
        b'+' => Value::Infinity { negative: false },
        b'-' => Value::Infinity { negative: true },
        b'n' => Value::Decimal(text()?),
        b't' => Value::Text(text()?),
        b'x' => Value::Bytes(rest),
        b'h' => Value::Hex(rest),
        b'U' => Value::Uuid(text()?),
        b'j' => Value::Json(rest),
        b'[' => match form.data_type {
            DataType::Array(array_type) => Value::Array(Array { bytes, array_type }),
            _ => return Err(wrong()),
        },
        _ => return Err(wrong()),
    })
}

fn date(bytes: &[u8]) -> Option<Date> {
    let (year, &[month, day, ..]) = bytes.split_first_chunk()? else { return None };
    Some(Date { year: i32::from_le_bytes(*year), month, day })
}

fn date_time(bytes: &[u8]) -> Option<DateTime> {
    let &[hour, minute, second, a, b, c, d] = bytes.get(6..)? else { return None };
    Some(DateTime { date: date(bytes)?, time: Time { hour, minute, second, micros: u32::from_le_bytes([a, b, c, d]) } })
}

fn walk(
    bytes: &[u8],
    array_type: &ArrayType,
    visit: &mut dyn FnMut(ArrayEvent<'_>) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    let wrong = || ValueError::new("a sample of an array", bytes);
    let mut rest = bytes;
    let mut scratch = Scratch::default();
    while let Some((&event, behind)) = rest.split_first() {
        rest = behind;
        match event {
            b'[' => visit(ArrayEvent::Open)?,
            b']' => visit(ArrayEvent::Close)?,
            b'N' => visit(ArrayEvent::Element(Value::Null))?,
            b'e' => {
                let (length, behind) = rest.split_first_chunk().ok_or_else(wrong)?;
                let (cell, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(wrong)?;
                rest = behind;
                let form = Form::plain(&array_type.element, &mut scratch);
                visit(ArrayEvent::Element((array_type.decode)(cell, form)?))?;
            }
            _ => return Err(wrong()),
        }
    }
    Ok(())
}

/// A column whose values can be of any type; as an array its elements can.
pub(super) fn column(name: &str) -> Column {
    let array = ArrayType { element: DataType::Text, decode, walk, layout: 0, delimiter: b',' };
    Column::new(name, &format!("type of {name}"), (DataType::Array(Box::new(array)), decode))
}

pub(super) fn table(name: &str, version: u32, columns: &[&str], key: &[u16]) -> Arc<TableSchema> {
    Arc::new(TableSchema {
        id: 7,
        version,
        database: "shop".into(),
        namespace: "public".into(),
        name: name.into(),
        columns: columns.iter().map(|name| column(name)).collect(),
        key: key.into(),
        identity: Identity::Default,
    })
}

pub(super) fn txn(lsn: u64) -> Txn {
    Txn {
        commit: Position::Postgres(Lsn(lsn)),
        id: Some(lsn / 2),
        commit_unix_micros: Some(1_795_232_168_123_456 + lsn as i64),
    }
}

/// A cell of a row: bytes of a value, or one of the states.
pub(super) type Given<'a> = Result<&'a [u8], Cell>;

/// A batch under construction over one frame.
pub(super) struct Draft {
    pub(super) builder: BatchBuilder,
    pub(super) frame: Vec<u8>,
    pub(super) ordinal: u64,
}

impl Draft {
    pub(super) fn new(origin: Origin, txn: Txn) -> Self {
        let mut builder = BatchBuilder::new(origin);
        builder.txn(txn);
        Draft { builder, frame: Vec::new(), ordinal: 0 }
    }

    pub(super) fn cells(&mut self, values: &[Given<'_>]) -> usize {
        let start = self.builder.cells_start();
        for value in values {
            let cell = match value {
                Ok(bytes) => {
                    self.frame.extend_from_slice(bytes);
                    Cell::at(self.frame.len() - bytes.len(), bytes.len())
                }
                Err(cell) => *cell,
            };
            self.builder.cells_mut().push(cell);
        }
        start
    }

    pub(super) fn insert(&mut self, schema: &Arc<TableSchema>, values: &[Given<'_>]) {
        let index = self.builder.table(schema);
        let cells = self.cells(values);
        self.ordinal += 1;
        self.builder.insert(index, cells, self.ordinal);
    }

    /// `resume`: the position behind it.
    pub(super) fn build(mut self, resume: Option<u64>) -> Batch {
        self.builder.frame(Bytes::from(self.frame));
        let position = resume.map(|lsn| Position::Postgres(Lsn(lsn)));
        self.builder.build(Seq(1), Mark { position, state: Vec::new() }, None)
    }
}

fn tagged(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], bytes].concat()
}

fn any_date() -> impl Strategy<Value = Vec<u8>> {
    // The years of the databases, then any.
    (prop_oneof![4 => -4713..294_277_i32, 1 => any::<i32>()], 0..=12_u8, 0..=31_u8)
        .prop_map(|(year, month, day)| [&year.to_le_bytes()[..], &[month, day]].concat())
}

fn any_date_time() -> impl Strategy<Value = Vec<u8>> {
    (any_date(), 0..=24_u8, 0..60_u8, 0..60_u8, 0..1_000_000_u32).prop_map(|(date, hour, minute, second, micros)| {
        [&date[..], &[hour, minute, second], &micros.to_le_bytes()].concat()
    })
}

/// A text on both sides of every length that takes one more byte.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "\\PC{0,20}",
        1 => (110..140_usize).prop_map(|length| "x".repeat(length)),
        1 => (16_370..16_390_usize).prop_map(|length| "y".repeat(length)),
    ]
}

fn any_scalar() -> impl Strategy<Value = Vec<u8>> {
    let bits = 0..64_u32;
    prop_oneof![
        (any::<i64>(), bits.clone()).prop_map(|(number, bits)| tagged(b'i', &(number >> bits).to_le_bytes())),
        (any::<u64>(), bits).prop_map(|(number, bits)| tagged(b'u', &(number >> bits).to_le_bytes())),
        any::<bool>().prop_map(|truth| tagged(b'b', &[truth.into()])),
        any::<f32>().prop_map(|number| tagged(b'f', &number.to_le_bytes())),
        any::<f64>().prop_map(|number| tagged(b'd', &number.to_le_bytes())),
        any_date().prop_map(|date| tagged(b'D', &date)),
        any_date_time().prop_map(|timestamp| tagged(b'T', &timestamp)),
        any_date_time().prop_map(|timestamp| tagged(b'Z', &timestamp)),
        prop_oneof![Just(b"+".to_vec()), Just(b"-".to_vec())],
        "-?[0-9]{1,40}(\\.[0-9]{1,40})?|NaN|Infinity|-Infinity".prop_map(|text| tagged(b'n', text.as_bytes())),
        any_text().prop_map(|text| tagged(b't', text.as_bytes())),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| tagged(b'x', &bytes)),
        "([0-9a-fA-F]{2}){0,150}".prop_map(|digits| tagged(b'h', digits.as_bytes())),
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}".prop_map(|uuid| tagged(b'U', uuid.as_bytes())),
        any_text().prop_map(|text| tagged(b'j', format!("[{text:?}]").as_bytes())),
    ]
}

/// A list of items, each an element, a NULL or (as its own brackets) a list.
fn list(items: Vec<Vec<u8>>) -> Vec<u8> {
    [&b"["[..], &items.concat(), b"]"].concat()
}

fn any_array() -> impl Strategy<Value = Vec<u8>> {
    let element = any_scalar().prop_map(|cell| [&b"e"[..], &(cell.len() as u32).to_le_bytes(), &cell].concat());
    let item = prop_oneof![4 => element, 1 => Just(b"N".to_vec())];
    item.prop_recursive(3, 24, 6, |item| prop::collection::vec(item, 0..6).prop_map(list))
        .prop_flat_map(|item| prop::collection::vec(Just(item), 0..4))
        .prop_map(list)
}

/// The bytes of a value of any type.
pub(super) fn any_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => any_scalar(), 1 => any_array()]
}

pub(super) fn any_cell() -> impl Strategy<Value = Result<Vec<u8>, Cell>> {
    prop_oneof![
        8 => any_value().prop_map(Ok),
        1 => prop_oneof![Just(Cell::NULL), Just(Cell::UNCHANGED), Just(Cell::MISSING)].prop_map(Err),
    ]
}

pub(super) fn given(row: &[Result<Vec<u8>, Cell>]) -> Vec<Given<'_>> {
    row.iter().map(|cell| cell.as_deref().map_err(|cell| *cell)).collect()
}
