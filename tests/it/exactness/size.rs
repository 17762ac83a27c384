//! Values of many megabytes arrive whole.

use std::io::Write as _;

use super::lines::Follower;
use crate::support::{Server, Version};

/// 8 MB in the ordinary run; the size for a long one is in `WALBROOK_TEST_VALUE_MB` (200 is what we promise).
fn value_bytes() -> usize {
    let megabytes = std::env::var("WALBROOK_TEST_VALUE_MB").ok().and_then(|text| text.parse().ok());
    megabytes.unwrap_or(8_usize) * 1_000_000
}

const PIECE: &str = "0123456789 abc\n\"é\"";

#[test]
fn a_value_of_many_megabytes() {
    let Some(server) = Server::get(Version::ALL[0]) else { return };
    let db = server.database("size");
    let pieces = value_bytes() / PIECE.len();
    let insert = |id: i32| {
        format!(
            "insert into big select {id}, repeat('{PIECE}', {pieces}), decode(repeat('00ff5c0a', {pieces} * 4), 'hex');"
        )
    };
    db.psql(&format!(
        "create table big (id int primary key, t text, b bytea); alter table big alter t set storage external;
         alter table big replica identity full; {}",
        insert(1)
    ));
    let follower = Follower::new(&db.url(), &[]);
    // Written from the rules, in one piece, so that the whole line is compared and nothing of it is parsed.
    let text = PIECE.replace('\n', "\\n").replace('"', "\\\"").repeat(pieces);
    let bytes = [0, 0xff, 0x5c, 0x0a].repeat(pieces * 4);
    let mut row = Vec::new();
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    write!(row, "\"t\":\"{text}\",\"b\":\"{base64}\"}}").expect("memory");
    let row = String::from_utf8(row).expect("UTF-8");
    let is = |line: &str, start: &str, end: &str| {
        let rest = line.strip_prefix(start).unwrap_or_else(|| panic!("{:.200} is not {start}", line));
        let rest = rest.strip_prefix(row.as_str()).expect("the whole row");
        assert!(rest.starts_with(end), "{rest:.300}");
    };
    let head = |op: &str| format!("{{\"op\":\"{op}\",\"db\":\"{}\",\"schema\":\"public\",\"table\":\"big\"", db.name());
    let snapshot = follower.text();
    is(
        snapshot.trim_end(),
        &format!("{},\"key\":{{\"id\":1}},\"before\":null,\"after\":{{\"id\":1,", head("r")),
        ",\"pos\":",
    );
    drop(snapshot);
    db.psql(&insert(2));
    db.psql("delete from big where id = 1");
    let stream = follower.text();
    let lines: Vec<&str> = stream.lines().collect();
    assert_eq!(lines.len(), 2);
    is(lines[0], &format!("{},\"key\":{{\"id\":2}},\"before\":null,\"after\":{{\"id\":2,", head("c")), ",\"pos\":");
    is(lines[1], &format!("{},\"key\":{{\"id\":1}},\"before\":{{\"id\":1,", head("d")), ",\"after\":null,\"pos\":");
}
