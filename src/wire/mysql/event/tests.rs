//! Events that no server of the fixtures logs, by hand; and what the fixtures' say beside their rows.

mod gtids;
mod table_maps;

use super::*;
use crate::wire::mysql::tests::{FIXTURES, fixture, plain, raw_events, walk};

const MYSQL: Format = Format { flavor: Flavor::MySql, checksum: Checksum::None };
const MARIADB: Format = Format { flavor: Flavor::MariaDb, checksum: Checksum::None };

fn event(kind: EventType, flags: u16, body: &[u8]) -> Vec<u8> {
    let size = (HEADER_BYTES + body.len()) as u32;
    let mut bytes = vec![0x10, 0x20, 0x30, 0x40, kind.0, 7, 0, 0, 0];
    bytes.extend(size.to_le_bytes());
    bytes.extend(1234_u32.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(body);
    bytes
}

fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let size = (bytes.len() + CHECKSUM_BYTES) as u32;
    bytes[9..13].copy_from_slice(&size.to_le_bytes());
    let checksum = crc32fast::hash(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

#[track_caller]
fn parsed(bytes: &[u8], format: Format) -> Body<'_> {
    Event::plain(bytes).expect("an event").parse(&format).expect("a body")
}

#[track_caller]
fn refused(bytes: &[u8], format: Format) -> WireError {
    Event::plain(bytes).expect("an event").parse(&format).expect_err("no body")
}

#[test]
fn header() {
    let bytes = event(EventType::XID, 0x20 | 0x8000, &9_u64.to_le_bytes());
    let header = Header::parse(&bytes).unwrap();
    assert_eq!(header.unix_s, 0x4030_2010);
    assert_eq!((header.kind, header.server_id, header.size_bytes), (EventType::XID, 7, 27));
    assert_eq!(header.next_position, 1234);
    assert!(header.flags.artificial() && !header.flags.ignorable() && !header.flags.in_use());
    assert_eq!(parsed(&bytes, MYSQL), Body::Xid(Xid(9)));
    assert_eq!(format!("{} {}", EventType::GTID_TAGGED, EventType(99)), "GTID_TAGGED event of type 99");
    for (size, problem) in [(18_u32, "below"), (u32::MAX, "above")] {
        let mut bytes = bytes.clone();
        bytes[9..13].copy_from_slice(&size.to_le_bytes());
        assert!(Header::parse(&bytes).unwrap_err().problem.contains(problem));
    }
    assert!(Event::plain(&bytes[..26]).unwrap_err().problem.contains("another size"));
}

#[test]
fn what_is_behind_a_body_is_an_error() {
    for (kind, body) in [
        (EventType::XID, &[0; 9][..]),
        (EventType::STOP, &[0]),
        (EventType::XA_PREPARE, b"\x00\x01\0\0\0\x01\0\0\0\x01\0\0\0abX"),
        (EventType::MARIADB_BINLOG_CHECKPOINT, b"\x01\0\0\0ab"),
    ] {
        assert_eq!(refused(&event(kind, 0, body), MYSQL).problem, "bytes left over", "{kind}");
    }
}

#[test]
fn rotate_with_and_without_a_checksum() {
    let made_up = event(EventType::ROTATE, 0x20, b"\x04\0\0\0\0\0\0\0binlog.000007");
    let rotate = Body::Rotate(Rotate { position: 4, file: "binlog.000007" });
    assert_eq!(parsed(&made_up, MYSQL), rotate);
    // Before a FORMAT_DESCRIPTION nobody has said whether there is one.
    let summed = with_checksum(made_up.clone());
    for bytes in [&made_up, &summed] {
        let unknown = Format::unknown(Flavor::MariaDb);
        assert_eq!(unknown.open(bytes).unwrap().parse(&unknown), Ok(rotate.clone()));
    }
    let crc = Format { checksum: Checksum::Crc32, ..MYSQL };
    assert_eq!(crc.open(&summed).unwrap().parse(&crc), Ok(rotate));
    assert!(crc.open(&made_up).is_err());
    assert!(crc.open(&event(EventType::STOP, 0, b"")).is_err(), "no room for a checksum");
}

#[test]
fn format_description_says_for_itself() {
    let description = |name: &str| {
        let (_, bytes) = raw_events(fixture(name))[0];
        let format = Format::unknown(Flavor::MySql);
        match format.open(bytes).unwrap().parse(&format) {
            Ok(Body::FormatDescription(description)) => description,
            other => panic!("{other:?}"),
        }
    };
    let mysql = description("mysql-9.7/all");
    assert!(mysql.server_version.starts_with("9.7."), "{}", mysql.server_version);
    assert_eq!(mysql.format, Format { flavor: Flavor::MySql, checksum: Checksum::Crc32 });
    assert_ne!(mysql.created_unix_s, 0);
    let mariadb = description("mariadb-11.8/all");
    assert!(mariadb.server_version.contains("-MariaDB"), "{}", mariadb.server_version);
    assert_eq!(mariadb.format, Format { flavor: Flavor::MariaDb, checksum: Checksum::Crc32 });
    for name in ["mysql-9.7/previous", "mariadb-10.5/previous"] {
        assert_eq!(description(name).format.checksum, Checksum::None, "{name}");
        // The file is the one that was being written when the server was killed.
        assert!(Header::parse(raw_events(fixture(name))[0].1).unwrap().flags.in_use(), "{name}");
    }
}

#[test]
fn format_descriptions_of_other_grammars_are_refused() {
    let (_, bytes) = raw_events(fixture("mysql-9.7/all"))[0];
    let opened = Format::unknown(Flavor::MySql).open(bytes).unwrap();
    let good = plain(&opened);
    assert!(matches!(parsed(&good, MYSQL), Body::FormatDescription(_)));
    let lengths = HEADER_BYTES + 2 + 50 + 4 + 1;
    for (at, to) in [
        (HEADER_BYTES, 3),
        (lengths - 1, 20),
        (lengths + usize::from(EventType::TABLE_MAP.0) - 1, 6),
        (good.len() - 1, 2),
    ] {
        let mut bytes = good.clone();
        bytes[at] = to;
        refused(&bytes, MYSQL);
    }
}

#[test]
fn heartbeats() {
    let first = event(EventType::HEARTBEAT, 0, b"binlog.000042");
    assert_eq!(parsed(&first, MYSQL), Body::Heartbeat(Heartbeat { file: "binlog.000042", position: 1234 }));
    // Name, position above 4 GiB, a field of a newer server, the end.
    let second = event(EventType::HEARTBEAT_V2, 0, b"\x01\x03b.1\x02\x09\xfe\0\0\0\0\x02\0\0\0\x07\x02xy\0");
    assert_eq!(parsed(&second, MYSQL), Body::Heartbeat(Heartbeat { file: "b.1", position: 2 << 32 }));
    refused(&event(EventType::HEARTBEAT_V2, 0, b"\x01\x03b.1\0"), MYSQL);
    refused(&event(EventType::HEARTBEAT_V2, 0, b"\x01\x03b.1\x02\x02\x05\x05\0"), MYSQL);
    refused(&event(EventType::HEARTBEAT_V2, 0, b"\x01\x09b.1"), MYSQL);
}

#[test]
fn what_may_be_skipped() {
    assert_eq!(parsed(&event(EventType::IGNORABLE, 0x80, b"anything"), MYSQL), Body::Skippable);
    assert_eq!(parsed(&event(EventType::VIEW_CHANGE, 0, b"anything"), MYSQL), Body::Skippable);
    assert_eq!(parsed(&event(EventType(77), 0x80, b"new"), MYSQL), Body::Skippable);
    assert_eq!(parsed(&event(EventType(77), 0x40, b"new"), MYSQL), Body::Unknown);
    assert_eq!(parsed(&event(EventType::RAND, 0, &[0; 16]), MYSQL), Body::StatementBased);
    // Even when it may be: a change is in it.
    assert_eq!(parsed(&event(EventType::USER_VAR, 0x80, b"x"), MYSQL), Body::StatementBased);
}

#[test]
fn incident_by_hand_and_by_a_server() {
    let bytes = event(EventType::INCIDENT, 0, b"\x01\0\x04lost");
    assert_eq!(parsed(&bytes, MYSQL), Body::Incident(Incident { number: 1, message: b"lost" }));
    let mut seen = 0;
    walk(fixture("mysql-9.7/all"), |_, _, body| {
        if let Body::Incident(incident) = body {
            assert_eq!(incident.number, 1);
            assert_eq!(incident.message, b"Non-transactional changes were not written to the binlog.");
            seen += 1;
        }
    });
    assert_eq!(seen, 1);
}

#[test]
fn payload_head_from_a_prefix() {
    let mut seen = 0;
    walk(fixture("mysql-9.7/all"), |_, event, body| {
        let Body::TransactionPayload(whole) = body else { return };
        let bytes = event.bytes();
        assert_eq!(whole.header.compression, PayloadCompression::Zstd);
        assert_eq!(whole.header.payload_bytes, (bytes.len() - whole.header.payload_at) as u64);
        for length in 0..bytes.len() {
            let expected = (length >= whole.header.payload_at).then_some(whole.header);
            assert_eq!(PayloadHeader::parse_prefix(&bytes[..length]), Ok(expected), "{length} bytes");
        }
        seen += 1;
    });
    assert_eq!(seen, 1);
    let head = |fields: &[u8]| PayloadHeader::parse_prefix(&event(EventType::TRANSACTION_PAYLOAD, 0, fields));
    // An unknown field is skipped.
    let header = head(b"\x09\x02xx\x02\x03\xfc\xff\x00\x01\x01\x02\x00ab").unwrap().unwrap();
    assert_eq!((header.compression, header.payload_bytes), (PayloadCompression::None, 2));
    assert_eq!(header.uncompressed_bytes, None);
    for fields in
        [&b"\x02\x01\x00\x00"[..], b"\x01\x01\x02\x00", b"\x02\x01\x07\x01\x01\x02\x00", b"\x01\x02\x02\x02\0"]
    {
        head(fields).unwrap_err();
    }
    // It does not go on for ever.
    assert_eq!(head(&[9, 250]), Ok(None));
    head(&[&[9, 250][..], &[0; 200]].concat()).unwrap_err();
}

#[test]
fn start_encryption() {
    let bytes = event(EventType::MARIADB_START_ENCRYPTION, 0, b"\x01\x02\0\0\0nonce of 12.");
    let expected = StartEncryption { scheme: 1, key_version: 2, nonce: *b"nonce of 12." };
    assert_eq!(parsed(&bytes, MARIADB), Body::StartEncryption(expected));
}

#[test]
fn xa_prepare() {
    for (name, ..) in FIXTURES.iter().filter(|(name, ..)| name.ends_with("/all")) {
        let mut prepared = Vec::new();
        walk(fixture(name), |_, _, body| {
            if let Body::XaPrepare(prepare) = body {
                let xid = prepare.xid;
                prepared.push((prepare.one_phase, xid.format_id, xid.global.to_vec(), xid.branch.to_vec()));
            }
        });
        let expected =
            |one_phase, format_id, global: &str, branch: &str| (one_phase, format_id, global.into(), branch.into());
        assert_eq!(prepared[0], expected(false, 7, "global", "branch"), "{name}");
        assert_eq!(prepared[1], expected(false, 1, "undone", ""), "{name}");
        // MariaDB logs the third as an ordinary transaction.
        let one = name.starts_with("mysql").then(|| expected(true, 1, "one", ""));
        assert_eq!(prepared.get(2), one.as_ref(), "{name}");
    }
}

/// The statements of a log in their order, with their database and variables.
fn queries(name: &str) -> Vec<(String, String, String)> {
    let mut queries = Vec::new();
    walk(fixture(name), |_, _, body| {
        if let Body::Query(query) = body {
            let variables = format!("{:?}", query.variables().expect("variables"));
            queries.push((query.database.to_owned(), String::from_utf8_lossy(query.statement).into_owned(), variables));
        }
    });
    queries
}

#[test]
fn statements_and_their_session() {
    for (name, ..) in FIXTURES.iter().filter(|(name, ..)| name.ends_with("/all")) {
        let queries = queries(name);
        let of = |start: &str| {
            let found = queries.iter().find(|(_, statement, _)| statement.starts_with(start));
            found.unwrap_or_else(|| panic!("{name}: no {start}"))
        };
        assert_eq!(of("CREATE TABLE bare").0, "shop");
        let (_, _, truncate) = of("TRUNCATE TABLE bare");
        assert!(truncate.contains("sql_mode: Some(4)"), "{name}: ANSI_QUOTES alone: {truncate}");
        // Both log it only where the statement asked for it.
        let (_, _, after) = of("CREATE TABLE \"after\"");
        assert!(after.contains("charsets: Some([8, 8,"), "{name}: latin1: {after}");
        if name.starts_with("mysql") {
            assert!(after.contains("utf8mb4_collation: Some(255)"), "{name}: {after}");
            // Where the statement has a TIMESTAMP column.
            let (_, _, types) = of("CREATE TABLE types");
            assert!(types.contains("explicit_timestamp_defaults: Some(true)"), "{name}: {types}");
            assert!(after.contains("ddl_xid: Some("), "{name}: {after}");
        } else if !name.contains("10.5") {
            assert!(of("CREATE TABLE special").2.contains("ddl_xid: Some("), "{name}");
        }
    }
    // What MariaDB compressed comes out as it was.
    let compressed =
        queries("mariadb-11.8/all").into_iter().filter(|(_, sql, _)| sql.starts_with("CREATE TABLE compressed"));
    assert_eq!(compressed.count(), 1);
}

#[test]
fn query_variables_by_hand() {
    let variables = b"\x00\0\0\0\x04\x01\x04\0\0\0\0\0\0\0\x06\x03std\x03\x01\0\x02\0\x05\x06+02:00\x07\x01\0\x08\x21\0\x09\
        \x01\0\0\0\0\0\0\0\x0a\x01\0\0\0\x0b\x01u\x01h\x0c\x02one\0two\0\x0d\x40\xe2\x01\x10\x01\x11\x07\0\0\0\0\0\0\0\x12\xff\0\
        \x13\x01\x14\x00\x80\x01\0\0\x82\x02\x83\x01\x21\0\x00\x08\xf0\x01\x02";
    let mut body = vec![5, 0, 0, 0, 1, 0, 0, 0, 2, 0xea, 0x03];
    body.extend((variables.len() as u16).to_le_bytes());
    body.extend(variables);
    body.extend(b"db\0SELECT 1");
    let bytes = event(EventType::QUERY, 0, &body);
    let Body::Query(query) = parsed(&bytes, MYSQL) else { panic!("no QUERY") };
    assert_eq!((query.thread_id, query.duration_s, query.error_code), (5, 1, 1002));
    assert_eq!((query.database, query.statement), ("db", &b"SELECT 1"[..]));
    assert_eq!(&bytes[query.statement_at()..], b"SELECT 1");
    let read = query.variables().unwrap();
    assert_eq!((read.flags2, read.sql_mode, read.time_zone), (Some(0x400_0000), Some(4), Some("+02:00")));
    assert_eq!((read.database_collation, read.utf8mb4_collation), (Some(33), Some(255)));
    assert_eq!(read.updated_databases.names().collect::<Vec<_>>(), [&b"one"[..], b"two"]);
    assert_eq!((read.microseconds, read.ddl_xid, read.explicit_timestamp_defaults), (Some(1), Some(7), Some(true)));
    assert_eq!(read.gtid_flags3, Some(2));
    assert_eq!(read.charset_collations.pairs().collect::<Vec<_>>(), [(33, 0x0800)]);
    // Cut off anywhere, it is an error or one variable less, never more.
    for length in 0..variables.len() {
        let mut cut = vec![5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0];
        cut.extend((length as u16).to_le_bytes());
        cut.extend(&variables[..length]);
        cut.extend(b"db\0");
        let cut = event(EventType::QUERY, 0, &cut);
        let Body::Query(query) = parsed(&cut, MYSQL) else { panic!("no QUERY") };
        if let Err(error) = query.variables() {
            assert!((HEADER_BYTES + 13..=HEADER_BYTES + 13 + length).contains(&error.offset));
        }
    }
}

#[test]
fn rows_heads() {
    // Extra data: NDB's, then a partition, then what we do not know.
    let body = b"\x05\0\0\0\0\0\x13\0\x0d\0\x00\x04\x00xy\x01\x07\0\x09zz\x02\x03\x00";
    let bytes = event(EventType::WRITE_ROWS, 0, &body[..]);
    let Body::Rows(rows) = parsed(&bytes, MYSQL) else { panic!("no rows") };
    assert_eq!((rows.kind, rows.table_id, rows.columns), (RowsKind::Write, 5, 2));
    assert!(rows.flags.statement_end() && rows.flags.no_foreign_key_checks());
    assert_eq!((rows.partition, rows.source_partition), (Some(7), None));
    assert!(rows.after.is_some_and(|columns| columns.is_full() && columns.count() == 2) && rows.before.is_none());
    assert_eq!(rows.rows_at(), bytes.len() - 1);
    for extra in [0_u8, 1, 3, 200] {
        let mut body = body.to_vec();
        body[8] = extra;
        refused(&event(EventType::WRITE_ROWS, 0, &body), MYSQL);
    }
    // More columns than the event has bits for.
    refused(
        &event(EventType::WRITE_ROWS_V1, 0, b"\x05\0\0\0\0\0\x01\0\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x03"),
        MYSQL,
    );
    // It only ends a statement.
    let dummy = event(EventType::DELETE_ROWS_V1, 0, b"\xff\xff\xff\0\0\0\x01\0\x00");
    let Body::Rows(rows) = parsed(&dummy, MYSQL) else { panic!("no rows") };
    assert_eq!((rows.table_id, rows.columns), (DUMMY_TABLE_ID, 0));
}

#[test]
fn compressed_parts_that_lie() {
    let mut seen = 0;
    walk(fixture("mariadb-11.8/all"), |_, event, body| {
        let Body::Compressed(compressed) = body else { return };
        seen += 1;
        let good = plain(event);
        let head = good.windows(2).rposition(|pair| pair == [0x78, 0x9c]).expect("a zlib stream");
        let mut out = Vec::new();
        compressed.inflate(&mut out).expect("a stream");
        assert_eq!(out.len(), compressed.inflated_bytes);
        // The inflated length: one less, one more.
        for wrong in [-1_i8, 1] {
            let mut bytes = good.clone();
            bytes[head - 1] = bytes[head - 1].wrapping_add_signed(wrong);
            let Ok(Body::Compressed(compressed)) = Event::plain(&bytes).unwrap().parse(&MARIADB) else { continue };
            compressed.inflate(&mut out).unwrap_err();
        }
        // A stream that is cut off, one that goes on.
        for length in [good.len() - 5, good.len() + 1] {
            let mut bytes = good.clone();
            bytes.resize(length, 0);
            bytes[9..13].copy_from_slice(&(length as u32).to_le_bytes());
            let Body::Compressed(compressed) = parsed(&bytes, MARIADB) else { panic!("not compressed") };
            compressed.inflate(&mut out).unwrap_err();
        }
    });
    // A statement, and rows of each kind.
    assert_eq!(seen, 4);
    // No stream of ten bytes makes 16 MiB.
    let body = b"\x05\0\0\0\0\0\x01\0\x01\x01\x83\xff\xff\xff0123456789";
    refused(&event(EventType::MARIADB_WRITE_ROWS_COMPRESSED_V1, 0, body), MARIADB);
    refused(
        &event(EventType::MARIADB_WRITE_ROWS_COMPRESSED_V1, 0, b"\x05\0\0\0\0\0\x01\0\x01\x01\x93\0\0\x010"),
        MARIADB,
    );
}
