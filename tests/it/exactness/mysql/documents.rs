//! Random JSON documents and changes of them, as the server prints them.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::{hex, log, rows};
use crate::support::mysql::{Server, Version};

const DOCUMENTS: usize = 400;
const CHANGES: usize = 1_500;

/// Few, so that paths meet members; of equal and different lengths.
const NAMES: [&str; 10] = ["a", "b", "c", "aa", "ab", "", "ä", "long name", "q\"uote", "back\\slash"];

#[test]
fn documents_and_their_differences() {
    // Its own: a log file is read from its beginning to its end.
    let Some(server) = Server::own(Version::MySql97, &[]) else { return };
    let db = server.database("documents");
    let mut rng = StdRng::seed_from_u64(20_261_121);
    let mut sql = "create table t (id int primary key, v json, n int default 0);\n".to_owned();
    for id in 0..DOCUMENTS {
        sql.push_str(&format!(
            "insert into t (id, v) values ({id}, json_extract(json_array({}), '$[0]'));\n",
            value(&mut rng, 5)
        ));
    }
    db.sql(&sql);
    let printed = "hex(convert(cast(v as char) using utf8mb4))";
    let said: Vec<Vec<u8>> = db.sql(&format!("select {printed} from t order by id")).lines().map(hex).collect();
    assert_eq!(said.len(), DOCUMENTS);
    for (line, said) in rows::lines(&db).iter().zip(&said) {
        let after = line.after.as_ref().expect("a row");
        assert_eq!(after.get("v").map(str::as_bytes), Some(&**said), "{:?}", after.get("id"));
    }

    let file = log::new_file(&server);
    let mut sql = "set binlog_row_value_options = PARTIAL_JSON;\n".to_owned();
    let mut ids = Vec::new();
    for _ in 0..CHANGES {
        let id = rng.random_range(0..DOCUMENTS);
        let change = change(&mut rng);
        // One that the server refuses (a root removed, a path into nothing) changes nothing, and is not logged.
        sql.push_str(&format!(
            "update ignore t set n = n + 1, v = {change} where id = {id};
             select {id}, {printed} from t where id = {id};\n"
        ));
        ids.push(id);
    }
    let said = db.sql(&sql);
    let lines = log::lines(&db, &file);
    assert_eq!((lines.len(), said.lines().count()), (CHANGES, CHANGES));
    for (line, said) in lines.iter().zip(said.lines()) {
        let (id, digits) = said.split_once('|').expect("two columns");
        let after = line.after.as_ref().expect("a row");
        assert_eq!(after.get("id"), Some(id));
        let expected = String::from_utf8(hex(digits)).expect("UTF-8");
        let found = after.get("v").expect("a document");
        let same = found.bytes().zip(expected.bytes()).take_while(|(a, b)| a == b).count();
        let shown = |text: &str| {
            String::from_utf8_lossy(&text.as_bytes()[same.saturating_sub(60)..]).chars().take(300).collect::<String>()
        };
        assert!(found == expected, "of {id} is\n{}\nnot\n{}", shown(found), shown(&expected));
    }
    // Else the test would have met no difference at all.
    let log = std::fs::read(server.file(&format!("data/{file}"))).expect("a log file");
    assert!(partial_updates(&log) > CHANGES / 3, "{} partial updates", partial_updates(&log));
}

/// How many PARTIAL_UPDATE_ROWS a file has.
fn partial_updates(log: &[u8]) -> usize {
    const PARTIAL_UPDATE_ROWS: u8 = 39;
    let (mut at, mut count) = (4, 0);
    while at < log.len() {
        count += usize::from(log[at + 4] == PARTIAL_UPDATE_ROWS);
        at += u32::from_le_bytes(log[at + 9..at + 13].try_into().expect("four bytes")) as usize;
    }
    count
}

/// A text as a literal.
fn literal(text: &str) -> String {
    let digits: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("_utf8mb4 x'{digits}'")
}

/// SQL of a JSON value, at most so many containers deep.
fn value(rng: &mut StdRng, depth: usize) -> String {
    let count =
        |rng: &mut StdRng| if rng.random_ratio(1, 30) { rng.random_range(50..300) } else { rng.random_range(0..6) };
    match rng.random_range(0..if depth == 0 { 10 } else { 20 }) {
        0 => "cast('null' as json)".to_owned(),
        1 => format!("cast('{}' as json)", rng.random::<bool>()),
        2 => (rng.random::<i64>() >> rng.random_range(0..64)).to_string(),
        3 => (rng.random::<u64>() >> rng.random_range(0..64)).to_string(),
        4 => double(rng),
        5 => {
            let scale = rng.random_range(0..=20);
            format!("cast({}.{} as decimal(60,{scale}))", rng.random::<i32>(), rng.random::<u64>())
        }
        6 => match rng.random_range(0..3) {
            0 => format!("cast('{}' as date)", date(rng)),
            1 => format!("cast('{} {}' as datetime(6))", date(rng), clock(rng, 24)),
            _ => format!("cast('-{}' as time(6))", clock(rng, 838)),
        },
        7 => {
            let bytes: String = (0..count(rng)).map(|_| format!("{:02x}", rng.random::<u8>())).collect();
            format!("x'{bytes}'")
        }
        8 | 9 => {
            let length = count(rng);
            let letter = |rng: &mut StdRng| match rng.random_range(0..4) {
                0 => *['"', '\\', '\n', '\u{1}', '/', '\u{7f}', 'é', '😀'].choose(rng).expect("a letter"),
                _ => char::from(rng.random_range(b' '..b'~')),
            };
            literal(&(0..length).map(|_| letter(rng)).collect::<String>())
        }
        10..15 => {
            let elements: Vec<String> = (0..count(rng)).map(|_| value(rng, depth - 1)).collect();
            format!("json_array({})", elements.join(","))
        }
        _ => {
            let many = rng.random_ratio(1, 30).then(|| rng.random_range(50..200));
            let names: Vec<String> = match many {
                Some(many) => (0..many).map(|n| format!("name {n}")).collect(),
                None => NAMES.iter().filter(|_| rng.random()).map(|name| name.to_string()).collect(),
            };
            let member = |name: &String| format!("{},{}", literal(name), value(rng, depth - 1));
            format!("json_object({})", names.iter().map(member).collect::<Vec<_>>().join(","))
        }
    }
}

/// Any double, or one near where the server begins to print exponents.
fn double(rng: &mut StdRng) -> String {
    let double = match rng.random_range(0..3) {
        0 => f64::from_bits(rng.random()),
        1 => rng.random::<f64>() * 10_f64.powi(rng.random_range(-20..20)),
        _ => f64::from(rng.random_range(-99..99)) * 10_f64.powi(rng.random_range(-17..18)),
    };
    if double.is_finite() { format!("{double:e}") } else { "0e0".to_owned() }
}

fn date(rng: &mut StdRng) -> String {
    format!("{:04}-{:02}-{:02}", rng.random_range(1..10_000), rng.random_range(1..13), rng.random_range(1..29))
}

fn clock(rng: &mut StdRng, hours: u32) -> String {
    let (hour, minute) = (rng.random_range(0..hours), rng.random_range(0..60));
    format!("{hour:02}:{minute:02}:{:02}.{:06}", rng.random_range(0..60), rng.random_range(0..1_000_000))
}

/// A change of some places of the column's document that the server can log as differences.
fn change(rng: &mut StdRng) -> String {
    let places = rng.random_range(1..4);
    match rng.random_range(0..4) {
        0 => {
            let paths: Vec<String> = (0..places).map(|_| path(rng)).collect();
            format!("json_remove(v, {})", paths.join(","))
        }
        other => {
            let function = if other == 1 { "json_replace" } else { "json_set" };
            let changes: Vec<String> = (0..places).map(|_| format!("{},{}", path(rng), value(rng, 2))).collect();
            format!("{function}(v, {})", changes.join(","))
        }
    }
}

/// A path of one to four legs; often one that is not in a document.
fn path(rng: &mut StdRng) -> String {
    let mut path = "$".to_owned();
    for _ in 0..rng.random_range(1..5) {
        match rng.random_range(0..3) {
            0 => path.push_str(&format!("[{}]", rng.random_range(0..6))),
            1 => path.push_str(&format!(".\"name {}\"", rng.random_range(0..60))),
            _ => {
                let name = NAMES.choose(rng).expect("a name");
                path.push_str(&format!(".{}", serde_json::to_string(name).expect("a name")));
            }
        }
    }
    literal(&path)
}
