//! The types and their edge values.

use super::oracle::Kind::{self, *};
use super::oracle::array;
use crate::support::Version;

/// A type and the SQL of its values.
pub struct Entry {
    pub name: String,
    pub kind: Kind,
    pub values: Vec<String>,
    pub not_null: bool,
}

impl Entry {
    /// Values as texts.
    fn new(name: &str, kind: Kind, texts: &[&str]) -> Entry {
        let values = texts.iter().map(|text| format!("'{}'", text.replace('\'', "''"))).collect();
        Entry { name: name.into(), kind, values, not_null: false }
    }

    /// Values as expressions.
    fn sql(mut self, expressions: &[&str]) -> Entry {
        self.values.extend(expressions.iter().map(|expression| expression.to_string()));
        self
    }

    fn texts<T: Into<String>>(mut self, texts: impl IntoIterator<Item = T>) -> Entry {
        self.values.extend(texts.into_iter().map(|text| format!("'{}'", text.into().replace('\'', "''"))));
        self
    }

    fn not_null(mut self) -> Entry {
        self.not_null = true;
        self
    }
}

/// The schema and the types that the entries name.
pub const SETUP: &str = r#"
create schema x;
create extension hstore schema x;
create extension citext schema x;
create type x.mood as enum ('sad', 'ok', 'Ha "quoted"', 'it''s', 'back\slash', 'a,b', '{}', '', 'NULL', 'ünï 😀', '  ');
create type x."Odd ""Type"".x" as enum ('a', 'b');
create type x.pair as (a int, b text);
create type x.nest as (p x.pair, l text[], "odd ""name" numeric, at timestamptz);
create domain x.posint as int check (value > 0);
create domain x.strict as text not null;
create domain x.moods as x.mood;
create domain x.ints as int[];
create domain x.pairs as x.pair;
create domain x.deep as x.posint;
create domain x.zip as char(5);
create domain x.doc as jsonb;
create domain x.bytes as bytea;
create domain x.at as timestamptz;
create type x.floats as range (subtype = float8);
create type x.texts as range (subtype = text);
create type x.nothing as ();
"#;

/// Text that breaks naive readers of the wire formats and naive writers of JSON.
fn nasty_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "NULL",
        "null",
        "\\N",
        "\\.",
        "\\",
        "\\\\",
        "\\x41",
        "\\101",
        "\\n",
        "a\tb\nc\r\nd",
        "\n",
        "\t",
        "quote \" and ' and `",
        "{\"a\":1}",
        "</script>&amp;",
        "{a,b}",
        "(a,b)",
        "a|b",
        "\u{7f}",
        "\u{80}\u{85}\u{a0}\u{ad}",
        "\u{2028}\u{2029}\u{feff}",
        "\u{d7ff}\u{e000}\u{fffd}\u{fffe}\u{ffff}",
        "e\u{301} ≠ é",
        "مرحبا \u{202e}abc",
        "👩‍👩‍👧‍👦🏳️‍🌈",
        "trailing space ",
        "trailing backslash\\",
        "trailing newline\n",
    ]
    .map(String::from)
    .into();
    // Every control character but zero, which Postgres does not take, each between letters.
    texts.push((1..32u8).map(|byte| format!("a{}b", char::from(byte))).collect());
    texts.extend((1..32u8).map(|byte| char::from(byte).to_string()));
    // The first, a middle and the last character of every plane.
    texts.extend((0..=16u32).map(|plane| {
        let points = [plane << 16 | 0x20, plane << 16 | 0x1f600 & 0xffff, plane << 16 | 0xffff];
        points.into_iter().filter_map(char::from_u32).collect::<String>()
    }));
    // Around the widths at which an encoder looks for characters to escape.
    texts.extend((0..40).map(|length| format!("{}\"{}", "x".repeat(length), "y".repeat(40 - length))));
    texts.extend((0..40).map(|length| format!("{}é\\", "x".repeat(length))));
    texts
}

const JSON: &[&str] = &[
    "null",
    "true",
    "0",
    "-0",
    "1e400",
    "-1E-400",
    "1.0",
    "1.10",
    "12345678901234567890123456789012345678901234567890.12345678901234567890123456789",
    "\"\"",
    "\"NULL\"",
    r#""\u0001 \" \\ \/ \b \f \n \r \t \u00e9 \ud83d\ude00 é 😀""#,
    "[]",
    "{}",
    r#"{"a": 1, "a": 2, "A": 3, "": 4}"#,
    " { \"a\" :\t[ 1 ,2 , {\n\"b\": null\r\n} ] } ",
    "\n[1,\n2]\n",
    r#"{"op":"d","key":{"id":1},"after":null,"a\nb":"c\\nd"}"#,
    r#"[9223372036854775807, 18446744073709551616, 0.1, 1e2]"#,
];

const TIMESTAMPS: &[&str] = &[
    "infinity",
    "-infinity",
    "1970-01-01 00:00:00",
    "1969-12-31 23:59:59.999999",
    "2000-01-01 00:00:00",
    "1999-12-31 23:59:59.999999",
    "2026-11-21 03:36:08.1",
    "2026-11-21 03:36:08.12",
    "2026-11-21 03:36:08.000001",
    "2024-02-29 23:59:60",
    "0001-01-01 00:00:00",
    "0001-12-31 23:59:59.999999 BC",
    "0044-03-15 12:00:00 BC",
    "4714-11-24 00:00:00 BC",
    "9999-12-31 23:59:59.999999",
    "10000-01-01 00:00:00",
    "12345-06-07 08:09:10.000010",
    "294276-12-31 23:59:59.999999",
];

pub fn entries(version: Version) -> Vec<Entry> {
    let e = Entry::new;
    let mut all = numbers();
    all.extend(texts());
    all.extend(times(version));
    all.extend(system());
    all.extend(geometry());
    all.extend(composed());
    all.extend(ranges());
    all.extend(arrays());
    all.extend([
        e("bool", Bool, &["t", "f"]),
        e("uuid", Text, &["00000000-0000-0000-0000-000000000000", "FFFFFFFF-ffff-ffff-ffff-ffffffffffff"]).sql(&[
            "'{a0eebc999c0b4ef8bb6d6bb9bd380a11}'",
        ]),
        e("bytea", Bytea, &["", "\\x", "\\x00", "\\xff", "\\x0001", "\\x000102", "\\x5c5c", "\\x0a0d09"])
            .sql(&["(select string_agg(decode(lpad(to_hex(i), 2, '0'), 'hex'), '') from generate_series(0, 255) i)"])
            .sql(&["(select string_agg(decode(lpad(to_hex(i % 251), 2, '0'), 'hex'), '') from generate_series(0, 99999) i)"]),
        e("json", Json, JSON)
            .sql(&["repeat('[', 1000) || repeat(']', 1000)", "'[\"' || repeat('x', 100000) || '\"]'"])
            .sql(&["repeat('{\"a\":', 500) || '1' || repeat('}', 500)", "'\"\\u0000\"'", "'{\"a\":1e131071}'"]),
        e("jsonb", Json, JSON.iter().copied().filter(|text| !text.contains("e400")).collect::<Vec<_>>().as_slice())
            .sql(&["repeat('[', 1000) || repeat(']', 1000)", "'{\"a\":1e400}'", "'1e10000'", "'-1.5e-1000'"])
            .sql(&["(select jsonb_object_agg('k' || i, i) from generate_series(1, 5000) i)"]),
        e("xml", Text, &["", "<a/>", "<a b=\"c\">\n\t<![CDATA[<]]> &amp; é 😀</a>", "text only", "<a/><b/>", "<!-- c -->"])
            .sql(&[r#"xmlparse(document '<?xml version="1.0" encoding="utf-8"?><a>é</a>')"#]),
        e("tsvector", Text, &["", "a b", "'a:1' 'it''s':2A,3 'x\\\\y' 'sp ace':1,16383", "é 😀"]),
        e("tsquery", Text, &["", "a & b | !c", "a <-> b <3> c", "'sp ace':*AB", "!!a"]),
        e("jsonpath", Text, &["$", "strict $.\"a b\"[*] ? (@.x > 1.5 && @ like_regex \"^\\\\d+$\" flag \"i\").size()"]),
        e("x.hstore", Text, &["", "a=>1", "a=>NULL, b=>\"NULL\"", "\"q\\\"uote\"=>\"back\\\\slash\", \"é\"=>\"\n\""]),
        e("x.citext", Text, &["", "MiXed Case", "ÄÖ\n\"\\"]),
    ]);
    all
}

fn numbers() -> Vec<Entry> {
    let e = Entry::new;
    vec![
        e("int2", Int, &["-32768", "-1", "0", "1", "32767"]),
        e("int4", Int, &["-2147483648", "-1", "0", "2147483647"]),
        e(
            "int8",
            Int,
            &["-9223372036854775808", "-9007199254740993", "-1", "0", "9007199254740993", "9223372036854775807"],
        ),
        e("oid", Int, &["0", "2147483648", "4294967295"]),
        e(
            "float4",
            Float4,
            &["0", "-0", "1", "-1", "0.1", "0.3", "1e-45", "1.17549435e-38", "1.1754942e-38", "3.4028235e38"],
        )
        .texts([
            "-3.4028235e38",
            "16777217",
            "123456.79",
            "1e15",
            "1e16",
            "1e-5",
            "0.0001",
            "NaN",
            "Infinity",
            "-Infinity",
        ])
        .texts(["8388609", "9.999999e-5", "1000000", "999999.9", "0.33333334"]),
        e(
            "float8",
            Float8,
            &["0", "-0", "1", "-1", "0.1", "0.30000000000000004", "5e-324", "-5e-324", "4.9406564584124654e-324"],
        )
        .texts([
            "2.2250738585072014e-308",
            "2.2250738585072011e-308",
            "1.7976931348623157e308",
            "-1.7976931348623157e308",
            "1e308",
        ])
        .texts([
            "9007199254740993",
            "1e15",
            "1e16",
            "1e21",
            "1e22",
            "1e23",
            "123456789012345680",
            "1e-5",
            "1e-7",
            "0.00001234",
        ])
        .texts([
            "NaN",
            "Infinity",
            "-Infinity",
            "3.141592653589793",
            "2.5e-8",
            "100",
            "1e100",
            "5e-5",
            "0.0001",
        ]),
        e(
            "numeric",
            Numeric,
            &["0", "-0", "0.0", "0.000", "1", "-1", "1.0", "1.10", "NaN", "Infinity", "-Infinity", "1e-20", "1e20"],
        )
        .texts(["0.1", "123456789012345678901234567890.123456789012345678901234567890", "-0.00000000000000000001"])
        .sql(&["repeat('9', 1000)", "'0.' || repeat('1', 1000)", "repeat('7', 1000) || '.' || repeat('3', 1000)"])
        .sql(&[
            "repeat('8', 131072)",
            "'-' || repeat('8', 131072) || '.' || repeat('5', 16383)",
            "'0.' || repeat('0', 16382) || '1'",
        ])
        .sql(&["'1e131071'"]),
        e("numeric(12,2)", Numeric, &["0", "9999999999.99", "-9999999999.99", "1.5", "NaN"]),
        e("numeric(5,0)", Numeric, &["99999", "-99999", "0.4"]),
        e("numeric(3,-2)", Numeric, &["99900", "-12345"]),
        e("numeric(3,5)", Numeric, &["0.00999", "-0.00001"]),
        e("money", Text, &["0", "-0.01", "92233720368547758.07", "-92233720368547758.08", "1234567.89"]),
        e("bit(1)", Text, &["0", "1"]),
        e("bit(70)", Text, &[&"10".repeat(35)]),
        e("varbit", Text, &["", "0", "1", "0110"]).sql(&["repeat('01', 5000)"]),
        e("bit varying(5)", Text, &["", "11111", "101"]),
    ]
}

fn texts() -> Vec<Entry> {
    let e = Entry::new;
    vec![
        e("text", Characters, &[]).texts(nasty_texts()).sql(&[
            "repeat('x', 8191)",
            "repeat('é\"\\', 100000)",
            "repeat(chr(1114111), 300000)",
            "(select string_agg(md5(i::text), e'\\n') from generate_series(1, 5000) i)",
        ]),
        e("varchar", Text, &["", "abc ", "\\N"]),
        e("varchar(3)", Text, &["", "é😀\n", "a  "]),
        e("char(8)", Text, &["", "a", "é", "12345678", "\\N", "  x", "😀"]),
        e("bpchar", Text, &["", "a  ", "NULL"]),
        e("\"char\"", Text, &["", "a", "\\", " ", "\\200", "\\377", "\t"]),
        e("name", Text, &["", "pg_class", "Odd \"Name\".x", "  "]).sql(&["repeat('n', 63)", "repeat('é', 31)"]),
        e("character(1)", Text, &["", "x"]),
    ]
}

fn times(version: Version) -> Vec<Entry> {
    let e = Entry::new;
    let zones = ["2026-11-21 03:36:08+05:30", "2026-11-21 03:36:08.5-15:59:59", "1890-01-01 00:00:00+00:53:28"];
    let mut intervals = vec![
        "0",
        "1 microsecond",
        "-1 microsecond",
        "1 year -2 mons +3 days -04:05:06.789",
        "-178000000 years",
        "178000000 years",
        "2147483647 days",
        "-2147483648 days",
        "2562047788 hours",
        "1 day -1 second",
        "P1Y2M3DT4H5M6.7S",
        "1 mon",
    ];
    if version != Version::V15 {
        intervals.extend(["infinity", "-infinity"]);
    }
    vec![
        e(
            "date",
            Text,
            &["infinity", "-infinity", "1970-01-01", "2024-02-29", "0001-01-01", "0001-12-31 BC", "0044-03-15 BC"],
        )
        .texts(["4714-11-24 BC", "9999-12-31", "10000-01-01", "5874897-12-31"]),
        e("timestamp", Timestamp, TIMESTAMPS),
        e("timestamp(0)", Timestamp, &["2026-11-21 03:36:08.5", "infinity"]),
        e("timestamp(3)", Timestamp, &["2026-11-21 03:36:08.1239"]),
        e("timestamptz", TimestampTz, TIMESTAMPS).texts(zones),
        e("timestamptz(2)", TimestampTz, &["2026-11-21 03:36:08.126+01"]),
        e("time", Text, &["00:00:00", "23:59:59.999999", "24:00:00", "12:30", "00:00:00.000001"]),
        e("time(1)", Text, &["12:30:00.26"]),
        e(
            "timetz",
            Text,
            &["00:00:00+00", "24:00:00-15:59:59", "24:00:00+15:59:59", "12:00:00.5+05:30", "23:59:59.999999-00:00:01"],
        ),
        e("interval", Text, &intervals),
        e("interval year to month", Text, &["1 year 2 months"]),
        e("interval second(2)", Text, &["1.239"]),
    ]
}

fn system() -> Vec<Entry> {
    let e = Entry::new;
    vec![
        e("xid", Text, &["0", "4294967295"]),
        e("cid", Text, &["0", "4294967295"]),
        e("tid", Text, &["(0,0)", "(4294967295,65535)"]),
        e("xid8", Text, &["0", "18446744073709551615"]),
        e("pg_lsn", Text, &["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"]),
        e("txid_snapshot", Text, &["10:20:10,14,15", "1:1:"]),
        e("pg_snapshot", Text, &["10:20:10,14,15", "9223372036854775807:9223372036854775807:"]),
        e("regclass", Text, &["pg_class", "-", "99999"]).sql(&["'x.t0'"]),
        e("regproc", Text, &["now", "-"]),
        e("regprocedure", Text, &["abs(integer)", "pg_catalog.\"position\"(text,text)"]),
        e("regoper", Text, &["pg_catalog.||/", "0"]),
        e("regoperator", Text, &["+(integer,integer)", "-(none,integer)"]),
        e("regtype", Text, &["integer", "timestamp with time zone", "character varying[]"])
            .sql(&["'x.mood'", "'x.\"Odd \"\"Type\"\".x\"'"]),
        e("regnamespace", Text, &["x", "pg_catalog"]),
        e("regrole", Text, &["postgres"]),
        e("regconfig", Text, &["english", "simple"]),
        e("regdictionary", Text, &["simple"]),
        e("regcollation", Text, &["\"C\"", "\"POSIX\""]),
        e("int2vector", Text, &["", "1 2 3", "-32768 32767"]),
        e("oidvector", Text, &["", "1 4294967295"]),
        e(
            "inet",
            Text,
            &["0.0.0.0", "192.168.1.5/24", "255.255.255.255/32", "::", "::1/128", "2001:db8::ff00:42:8329/64"],
        )
        .texts(["::ffff:1.2.3.4", "10.1.2.3/0"]),
        e("cidr", Text, &["0.0.0.0/0", "192.168.1.0/24", "10", "::/0", "2001:db8::/32", "1.2.3.4/32"]),
        e("macaddr", Text, &["00:00:00:00:00:00", "ff-ff-ff-ff-ff-ff", "08002b010203"]),
        e("macaddr8", Text, &["00:00:00:00:00:00:00:00", "ffff.ffff.ffff.ffff", "08:00:2b:01:02:03"]),
        e("refcursor", Text, &["", "unnamed portal 1"]),
        e("aclitem", Text, &["=r/postgres", "postgres=arwdDxt/postgres"]),
    ]
}

fn geometry() -> Vec<Entry> {
    let e = Entry::new;
    vec![
        e("point", Text, &["(0,0)", "(-0,1e308)", "(NaN,Infinity)", "(0.1,5e-324)", "(1e15,1e16)"]),
        e("line", Text, &["{1,-1,0}", "{0,1,0.30000000000000004}", "[(0,0),(1,3)]"]),
        e("lseg", Text, &["[(0,0),(1.5,-1e-7)]"]),
        e("box", Text, &["(0,0),(1,1)", "(1e308,-1e308),(0.1,0.2)"]),
        e("path", Text, &["[(0,0)]", "((0,0),(1,1),(2,0))", "[(0.1,0.2),(3,4)]"]),
        e("polygon", Text, &["((0,0))", "((0,0),(1,1),(2,0.1))"]),
        e("circle", Text, &["<(0,0),0>", "<(-1.5,2.5),1e10>"]),
    ]
}

fn composed() -> Vec<Entry> {
    let e = Entry::new;
    let moods = ["sad", "ok", "Ha \"quoted\"", "it's", "back\\slash", "a,b", "{}", "", "NULL", "ünï 😀", "  "];
    vec![
        e("x.mood", Text, &moods),
        e("x.\"Odd \"\"Type\"\".x\"", Text, &["a", "b"]),
        e("x.moods", Text, &moods),
        e("x.posint", Int, &["1", "2147483647"]),
        e("x.deep", Int, &["7"]),
        e("x.strict", Text, &["", "NULL", "\\N\n"]).not_null(),
        e("x.zip", Text, &["", "123", "12345"]),
        e("x.doc", Json, &["{\"a\": [1, 2.50]}", "null"]),
        e("x.bytes", Bytea, &["", "\\x00ff"]),
        e("x.at", TimestampTz, &["infinity", "2026-11-21 03:36:08.5+05:30"]),
        e("x.ints", array(Int), &["{}", "{1,NULL,-3}", "{{1,2},{3,4}}", "[0:1]={1,2}"]),
        e("x.pair", Text, &["(,)", "(1,)", "(1,\"\")", "(1,NULL)", "(-5,\"a,b\"\"c\\\\d()\")", "(0,\"\n\t\")"]),
        e("x.pairs", Text, &["(,)", "(1,\"x y\")"]),
        e("x.nest", Text, &["(,,,)", "(\"(1,\"\"a\"\"\"\"b\"\")\",\"{a,NULL,\"\"x,y\"\"}\",1.50,infinity)"])
            .sql(&["row(row(1, 'é \"'), array['\\', null, ''], 'NaN', '0044-03-15 12:00 BC')"]),
        e("x.nothing", Text, &["()"]),
    ]
}

fn ranges() -> Vec<Entry> {
    let e = Entry::new;
    vec![
        e("int4range", Text, &["empty", "(,)", "[1,5)", "[1,)", "(,5]", "(1,1]"]),
        e("int8range", Text, &["empty", "[-9223372036854775808,9223372036854775807)", "(,)"]),
        e("numrange", Text, &["empty", "(1.50,2.5]", "[NaN,)", "(,)", "[-Infinity,Infinity]"]),
        e(
            "tsrange",
            Text,
            &["empty", "[2026-01-01 00:00:00.5,2027-01-01)", "[-infinity,infinity]", "(,\"0044-03-15 12:00:00 BC\"]"],
        ),
        e("tstzrange", Text, &["empty", "[2026-01-01 00:00+05:30,infinity)", "(,)"]),
        e("daterange", Text, &["empty", "[2026-01-01,2026-12-31]", "[-infinity,infinity]", "(,)"]),
        e("x.floats", Text, &["empty", "[0.1,0.30000000000000004)", "(-Infinity,NaN]"]),
        e("x.texts", Text, &["empty", "[\"a,b\",\"c\\\"d\"]", "(,)", "[\"\",é)"]),
        e("int4multirange", Text, &["{}", "{[1,5),[7,9)}", "{(,)}", "{(,1),[5,)}"]),
        e("int8multirange", Text, &["{}", "{[-9223372036854775808,0)}"]),
        e("nummultirange", Text, &["{}", "{[1.0,2.50],(3,4)}"]),
        e("tsmultirange", Text, &["{}", "{[2026-01-01,2026-01-02),[2027-01-01,infinity)}"]),
        e("tstzmultirange", Text, &["{}", "{[2026-01-01 00:00+05:30,2026-01-02)}"]),
        e("datemultirange", Text, &["{}", "{[2026-01-01,2026-02-01),[2027-01-01,)}"]),
        e("x.texts_multirange", Text, &["{}", "{[a,b),[\"c,\",d]}"]),
    ]
}

fn arrays() -> Vec<Entry> {
    let e = Entry::new;
    let quoting = "{\"\",\" \",NULL,\"NULL\",null,\"a,b\",\"{}\",\"q\\\"q\",\"b\\\\b\",\"\n\t\",é😀,x}";
    vec![
        e("int2[]", array(Int), &["{}", "{-32768,NULL,32767}", "{{1},{2}}"]),
        e(
            "int4[]",
            array(Int),
            &["{}", "{1}", "{NULL}", "{{1,2},{NULL,4}}", "{{{{{{1,2}}}}}}", "[0:1]={1,2}", "[-3:-3][2:3]={{1,2}}"],
        )
        .sql(&["(select array_agg(i) from generate_series(1, 20000) i)"]),
        e("int8[]", array(Int), &["{9223372036854775807,-9223372036854775808}"]),
        e("oid[]", array(Int), &["{4294967295}"]),
        e("bool[]", array(Bool), &["{t,f,NULL}", "{{t},{f}}"]),
        e("float4[]", array(Float4), &["{0.1,-0,NaN,Infinity,NULL,1e-45}"]),
        e("float8[]", array(Float8), &["{0.1,-0,NaN,-Infinity,NULL,5e-324,1e22}"]),
        e("numeric[]", array(Numeric), &["{1.10,NaN,Infinity,NULL,-0.00}"]).sql(&["array[repeat('9', 2000)::numeric]"]),
        e("money[]", array(Text), &["{1234.50,NULL}"]),
        e("text[]", array(Text), &["{}", quoting, "{{a,b},{\"c,d\",NULL}}", "[5:6]={\"a b\",c}", "{\"[1:2]={x}\"}"])
            .sql(&["array[repeat('x\\\"', 50000), null, '']", "array[e'\\x01\\x1f', '\\', '\"', '''']"]),
        e("varchar(4)[]", array(Text), &["{abcd,NULL,\"\"}"]),
        e("char(4)[]", array(Text), &["{a,\"\",NULL,abcd,\"  b\"}"]),
        e("\"char\"[]", array(Text), &["{a,\"\",NULL,\"\\\\\",\",\"}"]),
        e("name[]", array(Text), &["{a,NULL,\"x y\"}"]),
        e("bytea[]", array(Bytea), &["{}", "{\"\\\\x00ff\",NULL,\"\\\\x\"}"]),
        e("date[]", array(Text), &["{infinity,2026-11-21,NULL,\"0044-03-15 BC\"}"]),
        e("time[]", array(Text), &["{24:00:00,NULL}"]),
        e("timestamp[]", array(Timestamp), &["{infinity,\"2026-11-21 03:36:08.5\",NULL,\"0044-03-15 12:00 BC\"}"]),
        e(
            "timestamptz[]",
            array(TimestampTz),
            &["{-infinity,\"2026-11-21 03:36:08.5+05:30\",NULL,\"0044-03-15 12:00+00 BC\"}"],
        ),
        e("interval[]", array(Text), &["{\"1 year -2 days\",NULL,0}"]),
        e("uuid[]", array(Text), &["{00000000-0000-0000-0000-000000000000,NULL}"]),
        e("json[]", array(Json), &[]).sql(&["array['{\"a\" : \"b\\\"c\\\\d\"}', ' [1,\n2] ', 'null', null]::json[]"]),
        e("jsonb[]", array(Json), &[]).sql(&[
            "array['{\"a\": \"b\\\"c,}\"}', '1e30', 'null', null, '\"\"']::jsonb[]",
            "array[array['1'], array['[]']]::jsonb[]",
        ]),
        e(
            "box[]",
            array(Text),
            &["{(0,0),(1,1);(2,2),(3,3)}", "{NULL;(1,1),(0.1,0)}", "{{(0,0),(1,1)};{(2,2),(3,3)}}", "{}"],
        ),
        e("point[]", array(Text), &["{\"(1,2)\",NULL,\"(NaN,-0)\"}"]),
        e("polygon[]", array(Text), &["{\"((0,0),(1,1))\",NULL}"]),
        e("inet[]", array(Text), &["{::1,10.0.0.0/8,NULL}"]),
        e("int4range[]", array(Text), &["{\"[1,5)\",empty,NULL,\"(,)\"}"]),
        e("int4multirange[]", array(Text), &["{\"{[1,5),[7,9)}\",\"{}\",NULL}"]),
        e("tsvector[]", array(Text), &["{\"'a':1 'it''s'\",NULL}"]),
        e("xml[]", array(Text), &["{\"<a b=\\\"c\\\"/>\",NULL}"]),
        e("varbit[]", array(Text), &["{101,\"\",NULL}"]),
        e("int2vector[]", array(Text), &["{\"1 2\",\"\",NULL}"]),
        e("regclass[]", array(Text), &["{pg_class,NULL,-}"]),
        e("xid8[]", array(Text), &["{18446744073709551615,NULL}"]),
        e(
            "x.mood[]",
            array(Text),
            &["{}", "{sad,NULL,\"NULL\",\"\",\"Ha \\\"quoted\\\"\",\"a,b\",\"back\\\\slash\",\"  \"}"],
        ),
        e("x.posint[]", array(Int), &["{1,NULL}"]),
        e("x.moods[]", array(Text), &["{ok,NULL}"]),
        e("x.zip[]", array(Text), &["{1,NULL}"]),
        e("x.doc[]", array(Json), &[]).sql(&["array['{\"a\": 1}']::x.doc[]"]),
        e("x.at[]", array(TimestampTz), &["{2026-11-21 03:36:08+00}"]),
        e("x.pair[]", array(Text), &["{\"(1,a)\",\"(,)\",NULL,\"(2,\\\"x\\\"\\\"y\\\\\\\\\\\")\"}"]),
        e("x.nest[]", array(Text), &["{\"(,,,)\"}"]),
        e("x.pairs[]", array(Text), &["{\"(1,a)\",NULL}"]),
        e("x.hstore[]", array(Text), &["{\"a=>1\",NULL,\"\\\"a b\\\"=>NULL\"}"]),
        e("x.citext[]", array(Text), &["{A,a,NULL}"]),
        e("x.floats[]", array(Text), &["{\"[0.1,1)\",empty}"]),
    ]
}
