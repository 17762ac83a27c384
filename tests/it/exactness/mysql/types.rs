//! The types and their edge values.

use Kind::*;

use crate::support::mysql::Version;

/// How a type is written in our JSON.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Int,
    /// BIT, a number.
    Bit,
    /// Floats that the server rounds before it stores them.
    Float4,
    Float8,
    /// Floats that are stored as they are written in SQL.
    Single,
    Double,
    Decimal,
    Date,
    DateTime,
    Timestamp,
    Time,
    /// What the server prints.
    Text,
    /// Letters of a character set.
    Characters,
    Bytes,
    Json,
    /// A list of floats.
    Vector,
}

/// A type and the SQL of its values.
pub struct Entry {
    pub name: String,
    pub kind: Kind,
    pub values: Vec<String>,
    /// Whether the values are all letters of a character set: many.
    pub of_all_letters: bool,
}

fn entry(name: &str, kind: Kind, values: &[&str]) -> Entry {
    let values = values.iter().map(|value| value.to_string()).collect();
    Entry { name: name.to_owned(), kind, values, of_all_letters: false }
}

/// All types that a version has.
pub fn entries(version: Version) -> Vec<Entry> {
    let mut all = Vec::new();
    all.extend(numbers());
    if version == Version::MariaDb1011 {
        // It stores no negative zero, as the others do.
        all.iter_mut().for_each(|entry| entry.values.retain(|value| value != "-0e0"));
    }
    all.extend(temporal());
    all.extend(texts());
    all.extend(bytes());
    all.extend(labels());
    all.extend(geometry());
    all.extend(character_sets(version));
    if version.is_mariadb() {
        all.extend(of_mariadb(version));
    } else {
        all.push(json());
        let vectors = ["string_to_vector('[1,2.5,-3e10]')", "string_to_vector('[0,-0,1.1755e-38]')"];
        all.push(entry("vector(3)", Vector, &vectors));
        all.push(entry("vector(1)", Vector, &["string_to_vector('[3.4028235e38]')", "string_to_vector('[0.1]')"]));
    }
    all
}

fn numbers() -> Vec<Entry> {
    let mut all = Vec::new();
    for (name, bits) in [("tinyint", 8), ("smallint", 16), ("mediumint", 24), ("int", 32), ("bigint", 64)] {
        let (low, high) = (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1);
        let values: Vec<String> = [low, low + 1, -1, 0, 1, high].iter().map(i128::to_string).collect();
        all.push(Entry { name: name.into(), kind: Int, values, of_all_letters: false });
        let most = (1i128 << bits) - 1;
        let values: Vec<String> = [0, 1, high, high + 1, most].iter().map(i128::to_string).collect();
        for name in [format!("{name} unsigned"), format!("{name}(9) zerofill")] {
            all.push(Entry { name, kind: Int, values: values.clone(), of_all_letters: false });
        }
    }
    all.push(entry("bool", Int, &["true", "false", "-128"]));
    all.push(entry("year", Int, &["0", "1901", "1970", "2024", "2155"]));
    for bits in [1, 7, 8, 9, 31, 33, 63, 64] {
        let most = u64::MAX >> (64 - bits);
        let values = [0, 1, most, most / 3];
        let values = values.iter().map(u64::to_string).collect();
        all.push(Entry { name: format!("bit({bits})"), kind: Bit, values, of_all_letters: false });
    }
    let nines = "9".repeat(65);
    let (whole, parts) = nines.split_at(35);
    let (widest, lowest) = (format!("{whole}.{parts}"), format!("-0.{}1", "0".repeat(29)));
    all.push(entry(
        "decimal(65,30)",
        Decimal,
        &[&widest, &format!("-{widest}"), "0", &lowest, "1.5", "-12345678901234567890.5"],
    ));
    all.push(entry("decimal(65,0)", Decimal, &[&nines, &format!("-{nines}"), "0", "-1"]));
    all.push(entry("decimal(30,30)", Decimal, &[&format!("0.{}", "9".repeat(30)), &lowest, "0"]));
    // Every number of digits before and behind the point that has a size of its own.
    for (digits, scale) in
        [(1, 0), (1, 1), (2, 1), (9, 0), (9, 9), (10, 1), (11, 2), (18, 9), (19, 10), (20, 3), (27, 5), (40, 8)]
    {
        let nines = "9".repeat(digits);
        let (whole, parts) = nines.split_at(digits - scale);
        let (most, part) = (format!("{whole}.{parts}"), format!("0.{:0>scale$}", if scale > 0 { "1" } else { "" }));
        let values = [&most, &format!("-{most}"), "0", "1", "-1", &part, &format!("-{part}")];
        all.push(entry(&format!("decimal({digits},{scale})"), Decimal, &values));
    }
    all.push(entry("decimal(10,2) unsigned zerofill", Decimal, &["0", "1.05", "99999999.99"]));
    let singles = [
        "0",
        "-0e0",
        "0.1",
        "-1.5",
        "3.4028234e38",
        "-3.4028234e38",
        "1.17549435e-38",
        "1e-45",
        "16777217",
        "123456.789",
        "1e10",
    ];
    all.push(entry("float", Single, &singles));
    all.push(entry("float unsigned", Single, &["0", "0.1", "3.4028234e38"]));
    all.push(entry("float(7,2)", Float4, &["0", "1.005", "-99999.99", "12345.67"]));
    let doubles = [
        "0",
        "-0e0",
        "0.1",
        "-1.5",
        "1.7976931348623157e308",
        "-1.7976931348623157e308",
        "2.2250738585072014e-308",
        "5e-324",
        "9007199254740993",
        "123456789.123456789",
        "1e15",
        "1e16",
        "1e-5",
        "1e22",
        "1e23",
    ];
    all.push(entry("double", Double, &doubles));
    all.push(entry("double(10,3)", Float8, &["0", "1.0005", "-9999999.999"]));
    all
}

fn temporal() -> Vec<Entry> {
    let dates = [
        "'1000-01-01'",
        "'9999-12-31'",
        "'1970-01-01'",
        "'2024-02-29'",
        "'1900-02-28'",
        "'0000-00-00'",
        "'2024-00-00'",
        "'2024-05-00'",
        "'0000-05-06'",
        "'0000-00-07'",
        "'0001-01-01'",
        "'2023-02-29'",
        "'2024-04-31'",
    ];
    let mut all = vec![entry("date", Date, &dates)];
    for digits in 0..=6 {
        let fraction = |text: &str| if digits == 0 { String::new() } else { format!(".{}", &text[..digits]) };
        let (nines, one, some) = (fraction("999999"), fraction(&format!("{:0>digits$}", 1)), fraction("123456"));
        let of = |name: &str, kind: Kind, values: &[String]| Entry {
            name: format!("{name}({digits})"),
            kind,
            values: values.iter().map(|value| format!("'{value}'")).collect(),
            of_all_letters: false,
        };
        let at = |date: &str, time: &str, fraction: &str| format!("{date} {time}{fraction}");
        let moments = [
            at("1000-01-01", "00:00:00", ""),
            at("9999-12-31", "23:59:59", &nines),
            at("2024-02-29", "12:34:56", &some),
            at("1969-12-31", "23:59:59", &one),
            at("0001-01-01", "00:00:00", &one),
            at("0000-00-00", "00:00:00", ""),
            at("2024-00-00", "00:00:00", ""),
            at("2024-05-00", "01:02:03", &some),
            at("0000-00-07", "01:02:03", &nines),
            at("0000-05-06", "01:02:03", &some),
            at("2023-02-30", "01:02:03", &some),
        ];
        all.push(of("datetime", DateTime, &moments));
        let stamps = [
            at("1970-01-01", "00:00:01", ""),
            at("2038-01-19", "03:14:07", &nines),
            at("2024-03-31", "02:30:00", &some),
            at("2024-10-27", "01:30:00", &one),
            at("0000-00-00", "00:00:00", ""),
        ];
        all.push(of("timestamp", Timestamp, &stamps));
        let times = [
            format!("-838:59:59{}", fraction("000000")),
            format!("838:59:59{}", fraction("000000")),
            format!("838:59:58{nines}"),
            format!("-838:59:58{nines}"),
            format!("-00:00:00{one}"),
            format!("00:00:00{one}"),
            "00:00:00".to_owned(),
            format!("-00:00:01{some}"),
            format!("-01:00:00{nines}"),
            format!("12:34:56{some}"),
            format!("100:00:00{one}"),
        ];
        all.push(of("time", Time, &times));
    }
    all
}

/// Text that breaks naive readers of the wire formats and naive writers of JSON.
fn nasty_texts() -> Vec<String> {
    let texts = [
        "",
        " ",
        "  two  ",
        "NULL",
        "null",
        "\\N",
        "\\",
        "\\\\",
        "a\tb\nc\r\nd",
        "\n",
        "quote \" and ' and `",
        "\u{1}\u{1f}\u{7f}\u{80}\u{9f}",
        "</script>",
        "\u{2028}\u{2029}",
        "é e\u{301}",
        "ünï",
        "中文",
        "\u{feff}",
        "\u{ffff}",
        "a\u{0}b",
    ];
    texts.iter().map(|text| in_hex(text)).collect()
}

/// A text as a literal, whatever is in it.
fn in_hex(text: &str) -> String {
    let digits: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("_utf8mb4 x'{digits}'")
}

fn texts() -> Vec<Entry> {
    let mut all = Vec::new();
    let long = |count: usize| format!("repeat({}, {count})", in_hex("ä"));
    // The length is one byte up to 255 bytes of the column, else two.
    for name in [
        "char(20)",
        "varchar(63)",
        "varchar(64)",
        "varchar(300)",
        "char(255)",
        "tinytext",
        "text",
        "mediumtext",
        "longtext",
    ] {
        let mut values = nasty_texts();
        values.push(in_hex("😀 𝄞"));
        let most = match name {
            "char(20)" => 20,
            "varchar(63)" => 63,
            "varchar(64)" => 64,
            "tinytext" => 127,
            "char(255)" => 255,
            "varchar(300)" => 300,
            "text" => 30_000,
            _ => 100_000,
        };
        values.push(long(most));
        all.push(Entry { name: name.into(), kind: Characters, values, of_all_letters: false });
    }
    all.push(entry("varchar(0)", Characters, &["''"]));
    all.push(entry("char(0)", Characters, &["''"]));
    all
}

fn bytes() -> Vec<Entry> {
    let mut all = Vec::new();
    let every: String = (0..=255u8).map(|byte| format!("{byte:02x}")).collect();
    let every = format!("x'{every}'");
    for name in ["tinyblob", "blob", "mediumblob", "longblob", "varbinary(255)", "varbinary(256)", "varbinary(60000)"] {
        let mut values = vec!["''", "x'00'", "x'0000ff00'", "'  a '", "x'5c27220a'"];
        if !["tinyblob", "varbinary(255)"].contains(&name) {
            values.push(&every);
        }
        if ["mediumblob", "longblob"].contains(&name) {
            values.push("repeat(x'00ff', 70000)");
        }
        all.push(entry(name, Bytes, &values));
    }
    for name in ["binary(1)", "binary(4)", "binary(255)"] {
        all.push(entry(name, Bytes, &["''", "x'00'", "'a'", "x'20'"]));
    }
    all.push(entry("binary(4)", Bytes, &["'a '", "x'ff00'", "x'61626364'", "x'00000001'"]));
    all
}

fn labels() -> Vec<Entry> {
    let many = |count: usize| (1..=count).map(|n| format!("'label {n}'")).collect::<Vec<_>>().join(",");
    let odd = "'a','','b c','it''s','quote \"','back\\\\slash','ünï','中文','NULL'";
    let of_set = "'a','b c','it''s','quote \"','back\\\\slash','ünï','中文'";
    let last = "'label 64'";
    vec![
        // An invalid one is the empty text, as the empty label is.
        entry(
            &format!("enum({odd})"),
            Text,
            &[
                "'a'",
                "''",
                "'b c'",
                "'it''s'",
                "'quote \"'",
                "'back\\\\slash'",
                "'ünï'",
                "'中文'",
                "'bogus'",
                "'NULL'",
                "9",
            ],
        ),
        entry("enum('x') character set latin1", Text, &["'x'", "'y'"]),
        entry("enum('ä','ß') character set latin1", Text, &["'ä'", "'ß'", "2"]),
        entry("enum('あ','い') character set sjis", Text, &["'あ'", "'い'"]),
        entry("enum('a','ä') character set ucs2", Text, &["1", "2"]),
        entry(
            &format!("enum({})", many(300)),
            Text,
            &["'label 1'", "'label 255'", "'label 256'", "'label 300'", "'bogus'"],
        ),
        entry(
            &format!("set({of_set})"),
            Text,
            &["''", "'a'", "'a,中文'", "'中文,a'", "'it''s,quote \"'", "127", "'bogus,ünï'"],
        ),
        entry("set('ä','ß') character set latin1", Text, &["'ä'", "'ß,ä'", "''"]),
        entry(
            &format!("set({})", many(64)),
            Text,
            &["'label 1'", last, "18446744073709551615", "9223372036854775808", "0"],
        ),
        entry(&format!("set({})", many(9)), Text, &["511", "'label 9'"]),
        entry(&format!("set({})", many(17)), Text, &["131071", "'label 17'"]),
        entry(&format!("set({})", many(33)), Text, &["8589934591", "'label 33'"]),
    ]
}

fn geometry() -> Vec<Entry> {
    let of = |text: &str| format!("st_geomfromtext('{text}')");
    let shapes = [
        "POINT(1 2)",
        "POINT(-1.5 1e100)",
        "LINESTRING(0 0,1 1,2 2)",
        "POLYGON((0 0,4 0,4 4,0 4,0 0),(1 1,2 1,2 2,1 2,1 1))",
        "MULTIPOINT(1 1,2 2)",
        "MULTILINESTRING((0 0,1 1),(2 2,3 3))",
        "MULTIPOLYGON(((0 0,1 0,1 1,0 0)))",
        "GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))",
    ];
    let mut values: Vec<String> = shapes.iter().map(|shape| of(shape)).collect();
    values.push("st_geomfromtext('POINT(10 20)', 4326)".into());
    let all = Entry { name: "geometry".into(), kind: Bytes, values, of_all_letters: false };
    vec![all, entry("point", Bytes, &[&of("POINT(1 2)")]), entry("polygon", Bytes, &[&of(shapes[3])])]
}

/// Every letter of every character set: of one byte all that are letters, of more all of Unicode's first plane that it
/// has.
fn character_sets(version: Version) -> Vec<Entry> {
    let single = [
        "armscii8", "cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866", "dec8", "geostd8", "greek",
        "hebrew", "hp8", "keybcs2", "koi8r", "koi8u", "latin1", "latin2", "latin5", "latin7", "macce", "macroman",
        "swe7", "tis620",
    ];
    let several = [
        "big5", "cp932", "eucjpms", "euckr", "gb2312", "gbk", "sjis", "ucs2", "ujis", "utf16", "utf16le", "utf32",
        "utf8mb3", "utf8mb4", "gb18030",
    ];
    let mut all = Vec::new();
    for name in single {
        let values = (0..8u8).map(|row| {
            let digits: String = (0..32).map(|low| format!("{:02x}", row * 32 + low)).collect();
            // A byte that is no letter becomes a question mark.
            format!("convert(convert(_{name} x'{digits}' using utf8mb4) using {name})")
        });
        all.push(of_letters(name, values.collect()));
    }
    let ascii: String = (0..128).map(|byte| format!("{byte:02x}")).collect();
    all.push(of_letters("ascii", vec![format!("_ascii x'{ascii}'")]));
    for name in several {
        if name == "gb18030" && version.is_mariadb() {
            continue;
        }
        // What it has not becomes a question mark. Without the surrogates.
        let rows = (0..64u32).filter(|row| !(0x36..0x38).contains(row)).map(|row| {
            let digits: String = (0..1024).map(|low| format!("{:04x}", row * 1024 + low)).collect();
            format!("convert(convert(_utf16 x'{digits}' using utf8mb4) using {name})")
        });
        all.push(of_letters(name, rows.collect()));
    }
    let high: String = (0x1f600..0x1f650u32).map(|letter| format!("{letter:08x}")).collect();
    for name in ["utf16", "utf16le", "utf32", "utf8mb4", "gb18030"] {
        if let Some(entry) = all.iter_mut().find(|entry| entry.name.ends_with(&format!(" {name}"))) {
            entry.values.push(format!("convert(_utf32 x'{high}' using utf8mb4)"));
        }
    }
    // What has no letters is bytes.
    all.push(entry("varchar(20) character set binary", Bytes, &["'a'", "x'ff00'"]));
    all
}

fn of_letters(name: &str, values: Vec<String>) -> Entry {
    Entry { name: format!("mediumtext character set {name}"), kind: Characters, values, of_all_letters: true }
}

fn json() -> Entry {
    let mut values: Vec<String> = [
        "{}",
        "[]",
        "null",
        "true",
        "false",
        "0",
        "-1",
        "32767",
        "32768",
        "-32769",
        "2147483648",
        "-2147483649",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "12345678901234567890123",
        "1.5",
        "-0.0",
        "0.1",
        "1.0",
        "1e100",
        "1e15",
        "1e16",
        "1e17",
        "123456789012345680000",
        "1e-7",
        "1.7976931348623157e308",
        "5e-324",
        "2.2250738585072014e-308",
        "100000.0",
        "1234567.125",
        r#""""#,
        r#""x""#,
        r#""\"\\/\b\f\n\r\t\u0001\u001f\u007f\u2028""#,
        r#""😀 中文 \ud83d\ude00""#,
        r#"{"b": 1, "aa": 2, "a": 3, "": 4, "ä": 5, "B": 6}"#,
        r#"{"a": {"b": [1, 2, {"c": null}]}, "d": [[], {}, ""]}"#,
        r#"{"a\"b": "c\\d"}"#,
        r#"{"a": 1, "a": 2}"#,
        "[1,   2 ,3]",
        r#"[true, false, null, 1, -1, 70000, 1.5, "s"]"#,
    ]
    .iter()
    .map(|document| in_hex(document))
    .collect();
    let nested = format!("{}{}", "[".repeat(99), "]".repeat(99));
    values.push(format!("'{nested}'"));
    // Values that JSON itself does not have.
    values.extend(
        [
            "json_array(cast('12.340' as decimal(10,3)), cast('-0.5' as decimal(65,30)), cast('99999999999999999999' as decimal(65)))",
            "json_array(cast('2024-02-29' as date), cast('2024-02-29 12:34:56.789012' as datetime(6)), cast('2024-02-29 00:00:00' as datetime))",
            "json_array(cast('-838:59:59' as time), cast('12:34:56.000001' as time(6)), cast('00:00:00' as time))",
            "json_object('bytes', x'00ff10', 'bit', b'101', 'blob', cast('abc' as binary))",
            "json_array(cast(2024 as year), 18446744073709551615, -1)",
            "json_array(3e0, 1/3, cast(0.1 as float), cast(1e20 as double), 1e300)",
            "json_object('point', st_geomfromtext('POINT(1 2)'))",
            "cast('12.50' as json)",
            "cast(cast('12.50' as decimal(10,2)) as json)",
            "cast(cast('2024-02-29 01:02:03' as datetime) as json)",
            "cast(x'c3a4' as json)",
            // Lengths of one, two and three bytes.
            "json_array(repeat('a', 127), repeat('b', 128), repeat('c', 16383), repeat('d', 16384))",
            // Larger than 64 KiB: offsets of four bytes.
            "json_object('long', repeat('x', 70000), 'n', 1, 'm', 100000, 't', true)",
            "json_array(repeat('y', 65536), null, 5, json_object('z', repeat('w', 70000)))",
        ]
        .map(str::to_owned),
    );
    let members: Vec<String> = (0..300).map(|n| format!("\"key {n}\": {n}")).collect();
    values.push(in_hex(&format!("{{{}}}", members.join(","))));
    Entry { name: "json".into(), kind: Json, values, of_all_letters: false }
}

fn of_mariadb(version: Version) -> Vec<Entry> {
    let mut all = vec![
        entry(
            "inet6",
            Text,
            &[
                "'::'",
                "'2001:db8::ff00:42:8329'",
                "'::ffff:192.0.2.128'",
                "'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'",
                "'::1'",
                "'1::'",
            ],
        ),
        entry("varchar(200) compressed", Characters, &["''", "'short'", "repeat('long ', 40)", "'ünï'"]),
        entry("varchar(2000) compressed character set latin1", Characters, &["''", "'ä'", "repeat('ä', 2000)"]),
        entry("text compressed", Characters, &["''", "'short'", "repeat('long ', 10000)"]),
        entry("mediumblob compressed", Bytes, &["''", "x'00'", "repeat(x'00ff', 50000)"]),
        entry("varbinary(500) compressed", Bytes, &["''", "x'00'", "repeat(x'00ff', 250)"]),
    ];
    if version != Version::MariaDb105 {
        all.push(entry("inet4", Text, &["'0.0.0.0'", "'192.0.2.1'", "'255.255.255.255'"]));
        let uuids = [
            "uuid()",
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
            "'123e4567-e89b-12d3-a456-426655440000'",
            "'123e4567-e89b-42d3-a456-426655440000'",
            "'01890a5d-ac96-774b-bcce-b302099a8057'",
        ];
        all.push(entry("uuid", Text, &uuids));
    }
    if version == Version::MariaDb118 {
        all.push(entry("vector(3)", Vector, &["vec_fromtext('[1,2.5,-3e10]')", "vec_fromtext('[0,-0,0.1]')"]));
        let stamps = ["'2038-01-19 03:14:08'", "'2106-02-07 06:28:15.999999'"];
        all.push(entry("timestamp(6)", Timestamp, &stamps));
    }
    all
}
