//! What TABLE_MAPs say of their columns.

use super::*;
use crate::wire::mysql::column::{ColumnType, Detail};

fn description<T>(name: &str, table: &str, check: impl Fn(&TableMap<'_>, &TableDescription<'_>) -> T) -> T {
    let mut found = None;
    walk(fixture(name), |_, _, body| {
        if let Body::TableMap(map) = body
            && (map.database, map.table) == ("shop", table)
        {
            found = Some(check(map, &map.describe().expect("metadata")));
        }
    });
    found.unwrap_or_else(|| panic!("{name}: no table {table}"))
}

/// Signs with a YEAR among them, character sets with labels among them, for every server.
#[test]
fn optional_metadata_goes_to_its_columns() {
    for (name, ..) in FIXTURES.iter().filter(|(name, ..)| !name.ends_with("/previous")) {
        let full = name.ends_with("/all");
        description(name, "mixed", |map, description| {
            assert_eq!((map.columns(), description.is_full()), (10, full), "{name}");
            let columns = &description.columns;
            let unsigned = [0, 2, 8].map(|index: usize| columns[index].unsigned);
            assert_eq!(unsigned, [Some(true), Some(false), Some(true)], "{name}");
            assert_eq!(columns[3].unsigned, None);
            assert_eq!(columns[4].collation, Some(8), "{name}: latin1");
            assert!(columns[7].collation.is_some_and(|id| [45, 255, 2304].contains(&id)), "{name}: utf8mb4");
            if !full {
                assert!(columns.iter().all(|column| column.name.is_none() && column.labels.is_none()));
                return;
            }
            let names: Vec<&str> = columns.iter().filter_map(|column| column.name).collect();
            assert_eq!(names, ["a", "y", "b", "e1", "v", "g", "s1", "t", "d", "e2"], "{name}");
            assert_eq!((columns[3].kind, columns[6].kind), (ColumnType::Enum, ColumnType::Set));
            assert_eq!((columns[3].collation, columns[5].geometry), (Some(8), Some(1)), "{name}");
            let labels = |index: usize| columns[index].labels.expect("labels").iter().collect::<Vec<_>>();
            assert_eq!((labels(3), labels(6)), (vec![&b"p"[..]], vec![&b"q"[..]]), "{name}");
            // In UCS-2, as the column is.
            assert_eq!(labels(9), [b"\0r", b"\0s"], "{name}");
            assert!(columns[9].collation.is_some_and(|id| [35, 2560].contains(&id)), "{name}");
        });
        description(name, "types", |map, description| {
            let columns = &description.columns;
            assert_eq!(map.columns(), 34, "{name}");
            assert!(!columns[0].nullable && columns[1..].iter().all(|column| column.nullable), "{name}");
            let signs: Vec<bool> =
                [0, 1, 2, 3, 4, 5, 7].iter().map(|&index| columns[index].unsigned.unwrap()).collect();
            assert_eq!(signs, [true, false, true, false, true, false, true], "{name}");
            assert_eq!(columns[10].detail, Detail::Decimal { precision: 30, scale: 10 });
            assert_eq!((columns[12].detail, columns[13].detail), (Detail::Bit { bits: 1 }, Detail::Bit { bits: 64 }));
            assert_eq!((columns[16].kind, columns[16].detail), (ColumnType::Time2, Detail::Fraction { digits: 6 }));
            assert_eq!(columns[22].detail, Detail::Length { bytes: 1020 }, "{name}: CHAR(255) of utf8mb4");
            assert_eq!(columns[25].collation, Some(63), "{name}: BINARY");
            let json = if name.starts_with("mysql") { ColumnType::Json } else { ColumnType::Blob };
            assert_eq!(columns[33].kind, json, "{name}");
        });
        description(name, "composite", |_, description| {
            let key: Vec<(usize, Option<u64>)> =
                description.key.iter().map(|column| (column.column, column.prefix)).collect();
            assert_eq!(key, if full { vec![(2, None), (1, Some(3))] } else { vec![] }, "{name}");
        });
        description(name, "bare", |_, description| assert!(description.key.is_empty(), "{name}"));
    }
    description("mysql-9.7/all", "special", |_, description| {
        let column = |index: usize| &description.columns[index];
        assert_eq!((column(0).visible, column(1).visible), (Some(true), Some(false)));
        assert_eq!((column(2).kind, column(2).dimensions), (ColumnType::Vector, Some(3)));
        assert_eq!((column(4).kind, column(4).dimensions), (ColumnType::Vector, Some(4)));
        let collations = [2, 3, 4, 5].map(|index| column(index).collation);
        assert_eq!(collations, [Some(63), Some(8), Some(63), None], "latin1 between two VECTORs");
    });
    description("mariadb-11.8/all", "special", |_, description| {
        let types: Vec<ColumnType> = description.columns[2..8].iter().map(|column| column.kind).collect();
        let string = ColumnType::String;
        // Its VECTOR is a VARBINARY to the log.
        assert_eq!(
            types,
            [string, string, string, ColumnType::Varchar, ColumnType::BlobCompressed, ColumnType::VarcharCompressed]
        );
        assert_eq!(description.columns[8].unsigned, Some(true));
    });
}

#[test]
fn types_that_cannot_be_are_refused() {
    let map = |code: u8, details: &[u8]| {
        let mut body = b"\x05\0\0\0\0\0\x01\0\x01d\0\x01t\0\x01".to_vec();
        body.push(code);
        body.push(details.len() as u8);
        body.extend(details);
        body.push(0);
        event(EventType::TABLE_MAP, 0, &body)
    };
    let types = |bytes: &[u8]| match parsed(bytes, MYSQL) {
        Body::TableMap(map) => map.types(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        types(&map(246, &[65, 30])).unwrap(),
        [(ColumnType::NewDecimal, Detail::Decimal { precision: 65, scale: 30 })]
    );
    for (code, details) in [
        (246, &[66, 30][..]),
        (246, &[5, 6]),
        (246, &[0, 0]),
        (16, &[0, 0]),
        (16, &[1, 8]),
        (4, &[8]),
        (17, &[7]),
        (252, &[5]),
        (252, &[0]),
        (254, &[247, 4]),
        (254, &[1, 1]),
        (0, &[]),
        (20, &[3]),
        (99, &[]),
        (3, &[1]),
        (15, &[1]),
    ] {
        let error = types(&map(code, details)).unwrap_err();
        assert!(error.offset > HEADER_BYTES, "{code}: {error}");
    }
    // Only what reads the types fails: whose table it is can be said all the same.
    let bytes = map(99, &[]);
    let Body::TableMap(unknown) = parsed(&bytes, MYSQL) else { panic!("no TABLE_MAP") };
    assert_eq!((unknown.database, unknown.table), ("d", "t"));
}
