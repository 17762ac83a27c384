use super::*;
use crate::record::{Form, Scratch, Value};
use crate::source::mysql::schema::CatalogColumn;

fn defined(column_type: &str, collation: Option<&str>) -> ColumnDef {
    ColumnDef::from_information_schema(&CatalogColumn {
        name: "c",
        column_type,
        collation,
        srid: None,
        nullable: true,
        extra: "",
        json_check: false,
    })
}

/// The columns of a table map, as (type, collation, what the log has of it).
fn known() -> Vec<(&'static str, Option<&'static str>, (Wire, Detail))> {
    let none = Detail::None;
    let length = |bytes| Detail::Length { bytes };
    let prefix = |bytes| Detail::Prefix { bytes };
    let width = |bytes| Detail::Width { bytes };
    let fraction = |digits| Detail::Fraction { digits };
    let utf8 = Some("utf8mb4_0900_ai_ci");
    vec![
        ("tinyint", None, (Wire::Tiny, none)),
        ("tinyint(1) unsigned", None, (Wire::Tiny, none)),
        ("smallint unsigned", None, (Wire::Short, none)),
        ("mediumint", None, (Wire::Int24, none)),
        ("mediumint(8) unsigned zerofill", None, (Wire::Int24, none)),
        ("int", None, (Wire::Long, none)),
        ("bigint(20) unsigned", None, (Wire::LongLong, none)),
        ("decimal(65,30)", None, (Wire::NewDecimal, Detail::Decimal { precision: 65, scale: 30 })),
        ("float", None, (Wire::Float, none)),
        ("float(7,4)", None, (Wire::Float, none)),
        ("double", None, (Wire::Double, none)),
        ("bit(64)", None, (Wire::Bit, Detail::Bit { bits: 64 })),
        ("year", None, (Wire::Year, none)),
        ("date", None, (Wire::Date, none)),
        ("time(3)", None, (Wire::Time2, fraction(3))),
        ("datetime", None, (Wire::Datetime2, fraction(0))),
        ("timestamp(6)", None, (Wire::Timestamp2, fraction(6))),
        ("time(3) /* mariadb-5.3 */", None, (Wire::Time, none)),
        ("datetime /* mariadb-5.3 */", None, (Wire::Datetime, none)),
        ("timestamp(6) /* mariadb-5.3 */", None, (Wire::Timestamp, none)),
        ("char(255)", utf8, (Wire::String, length(1020))),
        ("char(10)", Some("latin1_swedish_ci"), (Wire::String, length(10))),
        ("varchar(20)", Some("utf8_general_ci"), (Wire::Varchar, length(60))),
        ("varchar(20)", Some("gbk_bin"), (Wire::Varchar, length(40))),
        ("tinytext", utf8, (Wire::Blob, prefix(1))),
        ("longtext", utf8, (Wire::Blob, prefix(4))),
        ("binary(16)", None, (Wire::String, length(16))),
        ("varbinary(300)", None, (Wire::Varchar, length(300))),
        ("mediumblob", None, (Wire::Blob, prefix(3))),
        (
            "varchar(2000) /*M!100301 COMPRESSED*/",
            Some("utf8mb4_uca1400_ai_ci"),
            (Wire::VarcharCompressed, length(8001)),
        ),
        ("blob /*M!100301 COMPRESSED*/", None, (Wire::BlobCompressed, prefix(2))),
        ("enum('a','ü')", utf8, (Wire::Enum, width(1))),
        ("enum('a')", None, (Wire::Enum, width(1))),
        ("set('a','b')", utf8, (Wire::Set, width(1))),
        ("json", None, (Wire::Json, prefix(4))),
        ("point", None, (Wire::Geometry, prefix(4))),
        ("vector(3)", None, (Wire::Vector, prefix(4))),
        ("vector(3)", None, (Wire::Varchar, length(12))),
        ("uuid", None, (Wire::String, length(16))),
        ("inet6", None, (Wire::String, length(16))),
        ("inet4", None, (Wire::String, length(4))),
    ]
}

#[test]
fn both_forms_have_one_type_and_name() {
    for (text, collation, wire) in known() {
        let column = defined(text, collation);
        let (row, snapshot) = (row_column(&column, wire).unwrap(), snapshot_column(&column).unwrap());
        assert_eq!((&*row.source_type, &*row.name, row.nullable), (text, "c", true));
        assert_eq!(row.data_type, snapshot.data_type, "{text}");
        assert_eq!(row.source_type, snapshot.source_type);
    }
}

#[test]
fn a_definition_fits_its_own_column_alone() {
    let known = known();
    for (text, collation, _) in &known {
        let column = defined(text, *collation);
        let fitting: Vec<_> = known.iter().filter(|(_, _, wire)| row_column(&column, *wire).is_ok()).collect();
        // Another column of the same wire type, signed or not, of one length, may not be told apart.
        assert!(fitting.iter().any(|(other, ..)| other == text));
        let wires: Vec<_> = fitting.iter().map(|(_, _, wire)| logged_as(&column, *wire)).collect();
        assert!(wires.windows(2).all(|pair| pair[0] == pair[1]) || text.starts_with("vector"), "{text}: {fitting:?}");
    }
    let wrong = row_column(&defined("int", None), (Wire::LongLong, Detail::None)).unwrap_err();
    assert_eq!(wrong.to_string(), "column \"c\" is int as far as is known, and the log has LongLong with None");
}

#[test]
fn what_is_not_known_is_named() {
    let wrong = snapshot_column(&defined("hyperloglog(3)", None)).unwrap_err();
    assert_eq!(wrong.to_string(), "the type hyperloglog(3) is not known");
    let wrong = snapshot_column(&defined("varchar(3)", Some("klingon_ci"))).unwrap_err();
    assert_eq!(wrong.to_string(), "the character set of collation klingon_ci of varchar(3) is not known");
}

#[test]
fn mariadb_json_is_json() {
    let mut column = defined("longtext", Some("utf8mb4_bin"));
    column.json = true;
    let column = row_column(&column, (Wire::Blob, Detail::Prefix { bytes: 4 })).unwrap();
    assert_eq!((column.data_type.clone(), &*column.source_type), (DataType::Json, "longtext"));
    let mut scratch = Scratch::default();
    let form = Form { data_type: &column.data_type, layout: column.layout, scratch: &mut scratch };
    assert!(matches!((column.decode)(b"{\"a\" : 1}", form), Ok(Value::Json(b"{\"a\" : 1}"))));
}

#[test]
fn labels_of_a_table_map() {
    assert_eq!(&*labels([b"\xe4".as_slice(), b"b"].into_iter(), 8).unwrap(), ["ä".into(), "b".into()]);
    assert_eq!(&*labels(["ä".as_bytes()].into_iter(), 63).unwrap(), ["ä".into()]);
    assert!(labels([b"\xe4".as_slice()].into_iter(), 255).is_err());
    assert!(labels([b"a".as_slice()].into_iter(), 9_999).is_err());
}
