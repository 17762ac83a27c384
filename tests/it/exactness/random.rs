//! Random rows of random types, against psql.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::lines::{Follower, Line};
use super::oracle::{self, Kind, PINS};
use crate::support::Server;

const ROWS: i64 = 300;

/// A type and one random value of it as text.
type Generator = (&'static str, Kind, fn(&mut StdRng) -> String);

fn integer(rng: &mut StdRng) -> i64 {
    // As many digits small as large.
    rng.random::<i64>() >> rng.random_range(0..64)
}

fn character(rng: &mut StdRng) -> char {
    loop {
        let point = match rng.random_range(0..4) {
            0 => {
                return ['"', '\\', '{', '}', ',', ' ', '\n', '\t', '\'', 'N', '(', ')', ';', '\r', '\u{1}']
                    [rng.random_range(0..15)];
            }
            1 => rng.random_range(0x20..0x7f),
            2 => rng.random_range(1..0x3000),
            _ => rng.random_range(1..0x11_0000),
        };
        // psql does not print the last two characters of a plane.
        if let Some(c) = char::from_u32(point).filter(|_| point & 0xfffe != 0xfffe) {
            return c;
        }
    }
}

fn text(rng: &mut StdRng) -> String {
    let length = if rng.random_ratio(1, 40) { rng.random_range(0..5000) } else { rng.random_range(0..12) };
    (0..length).map(|_| character(rng)).collect()
}

fn digits(rng: &mut StdRng, most: usize) -> String {
    let length = rng.random_range(1..=most);
    (0..length).map(|_| char::from(b'0' + rng.random_range(0..10u8))).collect()
}

fn numeric(rng: &mut StdRng) -> String {
    let sign = if rng.random() { "-" } else { "" };
    let most = if rng.random_ratio(1, 20) { 2000 } else { 25 };
    if rng.random() {
        format!("{sign}{}.{}", digits(rng, most), digits(rng, most))
    } else {
        format!("{sign}{}", digits(rng, most))
    }
}

fn hex(rng: &mut StdRng) -> String {
    let length = if rng.random_ratio(1, 40) { rng.random_range(0..9000) } else { rng.random_range(0..20) };
    (0..length).fold("\\x".to_string(), |text, _| text + &format!("{:02x}", rng.random::<u8>()))
}

fn date(rng: &mut StdRng) -> String {
    let era = if rng.random_ratio(1, 4) { " BC" } else { "" };
    let year = if era.is_empty() { 9999 >> rng.random_range(0..10) } else { 4000 };
    format!("{:04}-{:02}-{:02}{era}", rng.random_range(1..=year), rng.random_range(1..=12), rng.random_range(1..=28))
}

fn timestamp(rng: &mut StdRng) -> String {
    let date = date(rng);
    let (day, era) = date.split_at(10);
    let micros = rng.random_range(0..1_000_000u32) / 10u32.pow(rng.random_range(0..7));
    let (hour, minute, second) = (rng.random_range(0..24), rng.random_range(0..60), rng.random_range(0..60));
    format!("{day} {hour:02}:{minute:02}:{second:02}.{micros:06}{era}")
}

fn interval(rng: &mut StdRng) -> String {
    let (months, days, micros) = (rng.random::<i32>() >> 2, rng.random::<i32>() >> 1, integer(rng) / 1_000);
    format!("{} mons {days} days {micros} microseconds", months / 1000)
}

fn json(rng: &mut StdRng, depth: usize) -> String {
    let space = [" ", "", "\n", "\t", ""][rng.random_range(0..5)];
    let value = match rng.random_range(0..if depth > 4 { 4 } else { 6 }) {
        0 => ["null", "true", "false"][rng.random_range(0..3)].into(),
        1 => format!("{}.{}e{}", integer(rng), digits(rng, 30), rng.random_range(-30..30)),
        2 => integer(rng).to_string(),
        3 => serde_json::to_string(&text(rng)).expect("a string"),
        4 => {
            let items: Vec<String> = (0..rng.random_range(0..4)).map(|_| json(rng, depth + 1)).collect();
            format!("[{}]", items.join(","))
        }
        _ => {
            let pair = |rng: &mut StdRng| {
                format!("{}:{}", serde_json::to_string(&text(rng)).expect("a string"), json(rng, depth + 1))
            };
            let pairs: Vec<String> = (0..rng.random_range(0..4)).map(|_| pair(rng)).collect();
            format!("{{{}}}", pairs.join(","))
        }
    };
    format!("{space}{value}{space}")
}

/// An array of one to three dimensions, every element quoted.
fn array_of(rng: &mut StdRng, delimiter: &str, element: fn(&mut StdRng) -> String) -> String {
    fn level(rng: &mut StdRng, lengths: &[usize], delimiter: &str, element: fn(&mut StdRng) -> String) -> String {
        let [length, inner @ ..] = lengths else {
            if rng.random_ratio(1, 5) {
                return "NULL".into();
            }
            return format!("\"{}\"", element(rng).replace('\\', "\\\\").replace('"', "\\\""));
        };
        let items: Vec<String> = (0..*length).map(|_| level(rng, inner, delimiter, element)).collect();
        format!("{{{}}}", items.join(delimiter))
    }
    let lengths: Vec<usize> = (0..rng.random_range(0..4)).map(|_| rng.random_range(1..4)).collect();
    if lengths.is_empty() { "{}".into() } else { level(rng, &lengths, delimiter, element) }
}

fn float8(rng: &mut StdRng) -> String {
    let value = f64::from_bits(rng.random());
    let value = if rng.random() { value } else { integer(rng) as f64 / 1e4 };
    // The server refuses what it would print as NaN only by its sign.
    if value.is_nan() { "NaN".into() } else { format!("{value:e}") }
}

fn float4(rng: &mut StdRng) -> String {
    let value = f32::from_bits(rng.random());
    if value.is_nan() { "NaN".into() } else { format!("{value:e}") }
}

fn generators() -> Vec<Generator> {
    use Kind::*;
    fn array(kind: Kind) -> Kind {
        oracle::array(kind)
    }
    vec![
        ("int8", Int, |rng| integer(rng).to_string()),
        ("int4", Int, |rng| (integer(rng) as i32).to_string()),
        ("int2", Int, |rng| (integer(rng) as i16).to_string()),
        ("text", Text, text),
        ("varchar", Text, text),
        ("char(5000)", Text, text),
        ("bool", Bool, |rng| rng.random::<bool>().to_string()),
        ("numeric", Numeric, numeric),
        ("float8", Float8, float8),
        ("float4", Float4, float4),
        ("bytea", Bytea, hex),
        ("date", Text, date),
        ("timestamp", Timestamp, timestamp),
        ("timestamptz", TimestampTz, timestamp),
        ("interval", Text, interval),
        ("uuid", Text, |rng| format!("{:032x}", rng.random::<u128>())),
        ("json", Json, |rng| json(rng, 0)),
        ("jsonb", Json, |rng| json(rng, 0)),
        ("int8[]", array(Int), |rng| array_of(rng, ",", |rng| integer(rng).to_string())),
        ("text[]", array(Text), |rng| array_of(rng, ",", text)),
        ("bytea[]", array(Bytea), |rng| array_of(rng, ",", hex)),
        ("float8[]", array(Float8), |rng| array_of(rng, ",", float8)),
        ("numeric[]", array(Numeric), |rng| array_of(rng, ",", numeric)),
        ("jsonb[]", array(Json), |rng| array_of(rng, ",", |rng| json(rng, 3))),
        ("timestamptz[]", array(TimestampTz), |rng| array_of(rng, ",", timestamp)),
        ("box[]", array(Text), |rng| {
            array_of(rng, ";", |rng| format!("({},{}),(0.1,{})", integer(rng), integer(rng), integer(rng)))
        }),
        ("numrange", Text, |rng| format!("[-{},{}]", digits(rng, 9), digits(rng, 20))),
        ("varbit", Text, |rng| format!("{:b}", integer(rng).unsigned_abs())),
    ]
}

#[test]
fn random_rows() {
    for server in Server::all() {
        let seed = u64::from(server.version().number());
        let mut rng = StdRng::seed_from_u64(seed);
        let db = server.database("random");
        let all = generators();
        // Every type once, then some of them again in another order.
        let mut columns: Vec<&Generator> = all.iter().collect();
        columns.extend((0..12).map(|_| &all[rng.random_range(0..all.len())]));
        let insert = |rng: &mut StdRng, id: i64| {
            let value = |rng: &mut StdRng, generator: &Generator| {
                if rng.random_ratio(1, 8) {
                    return "null".into();
                }
                format!("'{}'", generator.2(rng).replace('\'', "''"))
            };
            let values: Vec<String> = columns.iter().map(|column| value(rng, column)).collect();
            format!("insert into public.r values ({id}, 0, {});\n", values.join(", "))
        };
        let defined: Vec<String> =
            columns.iter().enumerate().map(|(at, column)| format!("c{at} {}", column.0)).collect();
        let mut sql = format!("{PINS} create table public.r (id int primary key, n int, {});", defined.join(", "));
        sql += "alter table public.r replica identity full;\n";
        (1..=ROWS).for_each(|id| sql += &insert(&mut rng, id));
        db.psql(&sql);
        let follower = Follower::new(&db.url(), &[]);
        let mut lines = follower.lines();
        let mut sql = PINS.to_string();
        (ROWS + 1..=2 * ROWS).for_each(|id| sql += &insert(&mut rng, id));
        db.psql(&(sql + "update public.r set n = 1;"));
        let asked: Vec<_> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| ("public.r".to_owned(), format!("c{at}"), &column.1))
            .collect();
        let expected = oracle::columns(&db, &asked);
        db.psql("delete from public.r");
        lines.extend(follower.lines());

        let rows = ROWS as usize;
        let count = |op: &str| lines.iter().filter(|line| line.op == op).count();
        assert_eq!([count("r"), count("c"), count("u"), count("d")], [rows, rows, 2 * rows, 2 * rows]);
        for (line, object) in lines.iter().flat_map(|line| sides(line).map(move |object| (line, object))) {
            let id: i64 = object.get("id").and_then(|id| id.parse().ok()).expect("an id");
            for (at, column) in columns.iter().enumerate() {
                let raw = object.get(&format!("c{at}")).expect("a column");
                let wanted = &expected[at][&id];
                assert!(
                    wanted.is(raw),
                    "seed {seed}, {} of {id} ({}): {raw:.500} is not {wanted:?}",
                    column.0,
                    line.op
                );
            }
        }
    }
}

fn sides(line: &Line) -> impl Iterator<Item = &super::lines::Object> {
    line.before.iter().chain(&line.after)
}
