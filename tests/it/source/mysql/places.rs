//! Positions that a person gives: of a change, and beyond 4 GiB.

use std::fs;
use std::io::{Seek, SeekFrom, Write};

use serde_json::Value;

use super::{MySql, on_every_version};
use crate::source::Subject;
use crate::source::program::{Stream, brief};
use crate::support::mysql::{Server, Version};

on_every_version!(the_pos_of_a_change_is_where_its_transaction_comes_again);

const T: &str = "create table t (id int primary key)";

/// Puts the stream at a position.
fn set(stream: &Stream<'_>, position: &str) {
    let state = stream.state_dir();
    let arguments = ["offsets", "set", "--state-dir", state.to_str().unwrap(), "--sink", "output", position];
    let done = crate::support::walbrook().args(arguments).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn ids(records: &[Value]) -> Vec<u64> {
    records.iter().map(|record| record["after"]["id"].as_u64().expect("a row")).collect()
}

fn the_pos_of_a_change_is_where_its_transaction_comes_again(db: &MySql<'_>) {
    db.execute(T);
    let stream = Stream::new(db, &[]);
    db.execute("insert into t values (1), (2); insert into t values (3), (4); insert into t values (5), (6)");
    let all = stream.changes();
    assert_eq!(ids(&all), [1, 2, 3, 4, 5, 6]);
    for record in [&all[2], &all[3]] {
        let pos = record["pos"].as_str().unwrap();
        assert!(pos.contains('#'), "it has a GTID: {pos}");
        set(&stream, pos);
        let again = stream.changes();
        assert_eq!(ids(&again), [3, 4, 5, 6], "from {pos}");
        assert_eq!(again, all[2..]);
    }
    // Up to there is before it.
    set(&stream, all[0]["pos"].as_str().unwrap());
    let before = stream.run(&["--until", all[4]["pos"].as_str().unwrap()]).ok();
    assert_eq!(ids(&before), [1, 2, 3, 4]);
    assert_eq!(ids(&stream.changes()), [5, 6]);
}

/// What the log holds before the last transactions of a file: so many events of so many bytes, of which nothing is stored but
/// their headers (the file is sparse), and which are passed over by who does not know them.
const FILLERS: u64 = 18;
const FILLER_BYTES: u32 = 256 << 20;

/// A transaction that is longer than 4 GiB would take minutes: the file gets a hole of that size instead.
#[test]
#[ignore = "the server sends 4.5 GiB"]
fn a_file_of_more_than_4_gib_is_gone_on_in() {
    for (version, setting) in
        [(Version::MySql97, "source-verify-checksum=OFF"), (Version::MariaDb1011, "master-verify-checksum=OFF")]
    {
        let Some(server) = Server::own(version, &[setting, "binlog-checksum=NONE"]) else { continue };
        let db = MySql::new(server.database("far"));
        db.execute(&format!("{T}; insert into t values (1)"));
        let stream = Stream::new(&db, &[]);
        let name = db.query("show binary logs").lines().last().unwrap().split('|').next().unwrap().to_owned();
        let file = server.file("data").join(&name);
        let hole_at = fs::metadata(&file).unwrap().len();
        db.execute("insert into t values (2); insert into t values (3)");
        server.stop("fast");
        let log = fs::read(&file).unwrap();
        let far = put_hole(&file, &log, hole_at as usize);
        server.start();
        db.execute("insert into t values (4)");
        // The place of the first transaction behind the hole, and of the second.
        let size = |at: usize| u32::from_le_bytes(log[at + 9..at + 13].try_into().unwrap()) as usize;
        let mut second = hole_at as usize + size(hole_at as usize);
        while log[second + 4] != log[hole_at as usize + 4] {
            second += size(second);
        }
        for (offset, expected) in [(far, vec![2, 3, 4]), (far + second as u64 - hole_at, vec![3, 4])] {
            set(&stream, &format!("{name}:{offset}"));
            let records = stream.changes();
            assert_eq!(ids(&records), expected, "{} from {offset}: {}", version.name(), brief(&records).join("\n"));
            let pos = records[0]["pos"].as_str().unwrap();
            assert!(pos.starts_with(&format!("{name}:{offset}")), "{pos}");
        }
        // No event begins there.
        set(&stream, &format!("{name}:{}", far + 1));
        let log = stream.run(&["--until", "current"]).failed(2);
        assert!(log.contains("no event begins"), "{log}");
    }
}

/// Puts events of which nobody knows the type between the two parts of a log. Returns where they end.
fn put_hole(file: &std::path::Path, log: &[u8], at: usize) -> u64 {
    let far = at as u64 + FILLERS * u64::from(FILLER_BYTES);
    let mut out = fs::OpenOptions::new().write(true).open(file).unwrap();
    for number in 0..FILLERS {
        let start = at as u64 + number * u64::from(FILLER_BYTES);
        let end = start + u64::from(FILLER_BYTES);
        // Timestamp, type IGNORABLE, server, size, end in 32 bits, flag "may be passed over".
        let header = [
            &log[at..at + 4],
            &[28],
            &1u32.to_le_bytes(),
            &FILLER_BYTES.to_le_bytes(),
            &(end as u32).to_le_bytes(),
            &0x80u16.to_le_bytes(),
        ];
        out.seek(SeekFrom::Start(start)).unwrap();
        out.write_all(&header.concat()).unwrap();
        if number == 0 {
            // What stood there is written again behind the hole.
            let zeros = vec![0; log.len().saturating_sub(at + 19)];
            out.write_all(&zeros).unwrap();
        }
    }
    out.seek(SeekFrom::Start(far)).unwrap();
    let mut rest = &log[at..];
    while !rest.is_empty() {
        let size = u32::from_le_bytes(rest[9..13].try_into().unwrap()) as usize;
        let mut event = rest[..size].to_vec();
        let end = u32::from_le_bytes(event[13..17].try_into().unwrap());
        if end != 0 {
            event[13..17].copy_from_slice(&end.wrapping_add((far - at as u64) as u32).to_le_bytes());
        }
        out.write_all(&event).unwrap();
        rest = &rest[size..];
    }
    far
}
