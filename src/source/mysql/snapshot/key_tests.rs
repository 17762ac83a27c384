use super::*;
use proptest::prelude::*;

fn number(n: impl ToString) -> KeyValue {
    KeyValue::Number(n.to_string())
}

fn sql(value: &KeyValue) -> String {
    let mut sql = String::new();
    value.write_sql(&mut sql);
    sql
}

fn columns(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("`{name}`")).collect()
}

#[test]
fn cells_of_every_form() {
    let text = |charset: &str| Form::Text(charset.into());
    let cases: &[(Form, &[u8], &str)] = &[
        (Form::Int { unsigned: false }, &[0xff], "-1"),
        (Form::Int { unsigned: true }, &[0xff], "255"),
        (Form::Int { unsigned: false }, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "-1"),
        (Form::Int { unsigned: true }, &[0xff; 8], "18446744073709551615"),
        (Form::Int { unsigned: false }, &[0, 0, 0, 0, 0, 0, 0, 0x80], "-9223372036854775808"),
        (Form::Int { unsigned: true }, &[1, 2, 0, 0], "513"),
        (Form::Bit, &[1, 0], "256"),
        (Form::Bit, &[0xff; 8], "18446744073709551615"),
        (Form::Year, &[0, 0], "'0000'"),
        (Form::Year, &[0xcf, 7], "'1999'"),
        (Form::Digits, b"-12.50", "-12.50"),
        (Form::Float, &0.1f32.to_le_bytes(), "1.0000000149011612e-1"),
        (Form::Double, &(-0.0f64).to_le_bytes(), "-0e0"),
        (Form::Double, &f64::MAX.to_le_bytes(), "1.7976931348623157e308"),
        (Form::Date, &[], "'0000-00-00'"),
        (Form::Date, &[0xcf, 7, 12, 31], "'1999-12-31'"),
        (Form::DateTime, &[], "'0000-00-00 00:00:00.000000'"),
        (Form::DateTime, &[0xcf, 7, 12, 31], "'1999-12-31 00:00:00.000000'"),
        (Form::DateTime, &[0xcf, 7, 12, 31, 23, 59, 1], "'1999-12-31 23:59:01.000000'"),
        (Form::DateTime, &[0xcf, 7, 12, 31, 23, 59, 1, 63, 66, 15, 0], "'1999-12-31 23:59:01.999999'"),
        (Form::Time, &[], "'00:00:00.000000'"),
        (Form::Time, &[1, 34, 0, 0, 0, 22, 59, 59], "'-838:59:59.000000'"),
        (Form::Time, &[0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0], "'01:02:03.000004'"),
        (text("latin1"), b"a'\\", "_latin1 x'61275c'"),
        (text("utf8mb4"), b"", "_utf8mb4 x''"),
        (Form::Binary, &[0, 255], "x'00ff'"),
        (Form::Printed, b"1ca15d4e-1ea1-11ec-9621-0242ac130002", "'1ca15d4e-1ea1-11ec-9621-0242ac130002'"),
        (Form::Printed, b"::ffff:10.0.0.1", "'::ffff:10.0.0.1'"),
    ];
    for (form, cell, expected) in cases {
        let value = form.value(cell).unwrap_or_else(|| panic!("{form:?} {cell:?}"));
        assert_eq!(&sql(&value), expected, "{form:?}");
    }
}

#[test]
fn cells_that_are_not_of_the_form() {
    let int = Form::Int { unsigned: true };
    for (form, cell) in [
        (&int, &b""[..]),
        (&int, &[0; 9]),
        (&Form::Bit, &[0; 9]),
        (&Form::Year, &[1]),
        (&Form::Digits, b"1 OR 1"),
        (&Form::Digits, b""),
        (&Form::Digits, b"--1"),
        (&Form::Digits, b"1e"),
        (&Form::Double, &f64::NAN.to_le_bytes()),
        (&Form::Date, &[1, 2]),
        (&Form::DateTime, &[1, 2, 3, 4, 5]),
        (&Form::Time, &[1, 2]),
        (&Form::Printed, b"a' OR 'a'='a"),
        (&Form::Printed, b""),
    ] {
        assert_eq!(form.value(cell), None, "{form:?} {cell:?}");
    }
}

#[test]
fn forms_of_types() {
    assert_eq!(Form::of(Kind::Varchar, false, Some("utf8mb4_0900_ai_ci")), Some(Form::Text("utf8mb4".into())));
    assert_eq!(Form::of(Kind::Varchar, false, Some("binary")), Some(Form::Text("binary".into())));
    for collation in [None, Some(""), Some("x'y_ci"), Some("_ci")] {
        assert_eq!(Form::of(Kind::Varchar, false, collation), None, "{collation:?}");
    }
    assert_eq!(Form::of(Kind::Enum, false, Some("latin1_bin")), None);
    assert_eq!(Form::of(Kind::BigInt, true, None), Some(Form::Int { unsigned: true }));
}

#[test]
fn conditions_of_one_and_of_several_columns() {
    let range = |after: &[i32], upto: &[i32]| {
        let key = |values: &[i32]| (!values.is_empty()).then(|| Key(values.iter().map(number).collect()));
        Range { after: key(after), upto: key(upto) }
    };
    assert!(range(&[], &[]).conditions(&columns(&["a"])).is_empty());
    assert_eq!(range(&[1], &[9]).conditions(&columns(&["a"])), ["`a` > 1", "`a` <= 9"]);
    assert_eq!(
        range(&[1, 2, 3], &[]).conditions(&columns(&["a", "b", "c"])),
        ["`a` >= 1", "(`a` > 1 OR (`a` = 1 AND (`b` > 2 OR (`b` = 2 AND `c` > 3))))"]
    );
    assert_eq!(
        range(&[], &[1, 2]).conditions(&columns(&["a", "b"])),
        ["`a` <= 1", "(`a` < 1 OR (`a` = 1 AND `b` <= 2))"]
    );
    // The first columns of a key stand for the last of all rows that have them.
    assert_eq!(range(&[1], &[4]).conditions(&columns(&["a", "b"])), ["`a` > 1", "`a` <= 4"]);
}

#[test]
fn a_middle_parts_what_there_is() {
    let key = |values: &[i64]| Key(values.iter().map(number).collect());
    assert_eq!(between(&key(&[1]), &key(&[i64::MAX])), Some(key(&[1 << 62])));
    assert_eq!(between(&key(&[i64::MIN]), &key(&[i64::MAX])), Some(key(&[-1])));
    assert_eq!(between(&key(&[7, 1, 5]), &key(&[7, 9, 5])), Some(key(&[7, 5])));
    assert_eq!(between(&key(&[7]), &key(&[7])), None);
    let text = |t: &str| Key(vec![KeyValue::Text { charset: "latin1".into(), hex: t.into() }]);
    assert_eq!(between(&text("61"), &text("7a")), None, "only the server knows the order of texts");
    let mixed = |t: &str, n: i64| Key(vec![text(t).0.remove(0), number(n)]);
    assert_eq!(between(&mixed("61", 1), &mixed("61", 10)), Some(mixed("61", 5)));
    assert_eq!(between(&mixed("61", 1), &mixed("62", 10)), None);
}

proptest! {
    #[test]
    fn binary_middles_are_between(low in prop::collection::vec(any::<u8>(), 0..24), high in prop::collection::vec(any::<u8>(), 0..24)) {
        let value = |bytes: &[u8]| KeyValue::Binary(hex(bytes));
        match KeyValue::between(&value(&low), &value(&high)) {
            Some(KeyValue::Binary(middle)) => {
                let middle = unhex(&middle).unwrap();
                prop_assert!(low <= middle && middle < high, "{low:?} {middle:?} {high:?}");
            }
            Some(other) => prop_assert!(false, "{other:?}"),
            None => prop_assert!(low >= high || high.len() > 15 || low.iter().zip(&high).all(|(a, b)| a == b), "{low:?} {high:?}"),
        }
    }

    /// The conditions, read as SQL reads them, select what is behind one place up to the other.
    #[test]
    fn conditions_follow_the_order_of_keys(
        after in prop::option::of(prop::collection::vec(0u8..4, 1..=3)),
        upto in prop::option::of(prop::collection::vec(0u8..4, 1..=3)),
        row in prop::collection::vec(0u8..4, 3),
    ) {
        let key = |values: &Option<Vec<u8>>| values.as_ref().map(|values| Key(values.iter().map(number).collect()));
        let range = Range { after: key(&after), upto: key(&upto) };
        let names: Vec<String> = row.iter().map(|value| value.to_string()).collect();
        let selected = range.conditions(&names).iter().all(|condition| Eval { text: condition }.or());
        let behind = after.is_none_or(|after| row[..after.len()] > after[..]);
        let within = upto.is_none_or(|upto| row[..upto.len()] <= upto[..]);
        prop_assert_eq!(selected, behind && within, "{:?}", range.conditions(&names));
    }

    #[test]
    fn ranges_read_back(bytes in prop::collection::vec(any::<u8>(), 0..20), n: i64) {
        let value = Form::Text("gbk".into()).value(&bytes).unwrap();
        let range = Range { after: Some(Key(vec![value, number(n)])), upto: None };
        prop_assert_eq!(Range::from_bytes(&range.to_bytes(), 2), Some(range.clone()));
        prop_assert_eq!(Range::from_bytes(&range.to_bytes(), 1), None);
        prop_assert_eq!(Range::from_bytes(&bytes, 2), None);
    }
}

/// As much of SQL as a condition is written in: OR, AND, parentheses, comparisons of numbers.
struct Eval<'a> {
    text: &'a str,
}

impl Eval<'_> {
    fn or(&mut self) -> bool {
        let mut value = self.and();
        while self.eat(" OR ") {
            let right = self.and();
            value |= right;
        }
        value
    }

    fn and(&mut self) -> bool {
        let mut value = self.comparison();
        while self.eat(" AND ") {
            let right = self.comparison();
            value &= right;
        }
        value
    }

    fn comparison(&mut self) -> bool {
        if self.eat("(") {
            let value = self.or();
            assert!(self.eat(")"), "{}", self.text);
            return value;
        }
        let left = self.number();
        let operator = [" >= ", " <= ", " > ", " < ", " = "].into_iter().find(|operator| self.eat(operator));
        let right = self.number();
        match operator {
            Some(" >= ") => left >= right,
            Some(" <= ") => left <= right,
            Some(" > ") => left > right,
            Some(" < ") => left < right,
            Some(" = ") => left == right,
            _ => panic!("{}", self.text),
        }
    }

    fn number(&mut self) -> u32 {
        let end = self.text.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.text.len());
        let (digits, rest) = self.text.split_at(end);
        self.text = rest;
        digits.parse().unwrap()
    }

    fn eat(&mut self, token: &str) -> bool {
        match self.text.strip_prefix(token) {
            Some(rest) => {
                self.text = rest;
                true
            }
            None => false,
        }
    }
}
