//! Events that no server of the fixtures logs, by hand; and what the fixtures' say beside their rows.

use super::*;
use crate::wire::mysql::column::{ColumnType, Detail};
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
fn gtids_of_mysql() {
    let mut numbers = Vec::new();
    let mut tagged = Vec::new();
    walk(fixture("mysql-9.7/all"), |_, event, body| {
        if let Body::Gtid(gtid) = body {
            assert!(!gtid.anonymous);
            assert!(gtid.fields.transaction_bytes.is_some_and(|bytes| bytes > event.bytes().len() as u64));
            assert_eq!(gtid.fields.immediate_server_version, gtid.fields.original_server_version);
            assert!(gtid.fields.original_server_version.is_some_and(|version| (90_700..90_800).contains(&version)));
            let commit = gtid.fields.immediate_commit_unix_micros.unwrap();
            assert_eq!(gtid.fields.original_commit_unix_micros, Some(commit));
            assert!(commit / 1_000_000 - u64::from(event.header.unix_s) < 60);
            if gtid.tag.is_empty() { &mut numbers } else { &mut tagged }.push((gtid.tag.to_owned(), gtid.number));
        }
    });
    let counted: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers.iter().map(|(_, number)| *number).collect::<Vec<_>>(), counted);
    assert_eq!(tagged, [("tag_1".to_owned(), 1)]);

    let mut sets = Vec::new();
    let mut anonymous = 0;
    walk(fixture("mysql-9.7/previous"), |_, _, body| match body {
        Body::PreviousGtids(previous) => {
            assert!(!previous.is_empty());
            sets.extend(previous.sets().map(|set| (set.tag.to_owned(), set.intervals().collect::<Vec<_>>())));
        }
        Body::Gtid(gtid) => {
            assert!(gtid.anonymous && gtid.number == 0 && gtid.uuid == [0; 16]);
            anonymous += 1;
        }
        _ => {}
    });
    assert_eq!(anonymous, 1);
    let mut transactions = 0;
    walk(fixture("mysql-9.7/minimal"), |_, _, body| transactions += u64::from(matches!(body, Body::Gtid(_))));
    assert_eq!(sets, [(String::new(), vec![1..=transactions]), ("other".to_owned(), vec![1..=1])]);
}

#[test]
fn gtids_by_hand() {
    let mut body = vec![1];
    body.extend([0xab; 16]);
    body.extend(5_u64.to_le_bytes());
    // A server of 5.6: nothing more.
    let bytes = event(EventType::GTID, 0, &body);
    let Body::Gtid(gtid) = parsed(&bytes, MYSQL) else { panic!("no GTID") };
    assert_eq!((gtid.uuid, gtid.number, gtid.tag), ([0xab; 16], 5, ""));
    assert_eq!(gtid.fields, GtidFields { may_have_statements: true, ..GtidFields::default() });
    body.push(2);
    body.extend(7_u64.to_le_bytes());
    body.extend(8_u64.to_le_bytes());
    // From another server, at another time, of another version; and a ticket behind them.
    body.extend(&((1_u64 << 55) | 1000).to_le_bytes()[..7]);
    body.extend(&999_u64.to_le_bytes()[..7]);
    body.extend([252, 0, 4]);
    body.extend(((1_u32 << 31) | 90_704).to_le_bytes());
    body.extend(999_999_u32.to_le_bytes());
    body.extend([0; 8]);
    let bytes = event(EventType::GTID, 0, &body);
    let Body::Gtid(gtid) = parsed(&bytes, MYSQL) else { panic!("no GTID") };
    let expected = GtidFields {
        may_have_statements: true,
        last_committed: 7,
        sequence_number: 8,
        immediate_commit_unix_micros: Some(1000),
        original_commit_unix_micros: Some(999),
        transaction_bytes: Some(1024),
        immediate_server_version: Some(90_704),
        original_server_version: None,
    };
    assert_eq!(gtid.fields, expected);
    // No transaction has the number 0, and none above 2^63 - 1.
    for number in [0, u64::MAX] {
        body[17..25].copy_from_slice(&number.to_le_bytes());
        refused(&event(EventType::GTID, 0, &body), MYSQL);
    }
}

#[test]
fn tagged_gtids_by_hand() {
    let build = |fields: &[u8], last: u8| {
        let mut body = vec![2, 0, last << 1];
        body.extend(fields);
        body[1] = (body.len() as u8) << 1;
        event(EventType::GTID_TAGGED, 0, &body)
    };
    let uuid = |byte: &[u8]| [&[2][..], &byte.repeat(16)].concat();
    // 0xab takes two bytes; the number -1 - 5 would have its lowest bit set.
    let fields =
        [&[0, 1][..], &uuid(&[0xad, 0x02]), &[4, 5 << 2, 6, 3 << 1], b"abc", &[18, 0x03, 0, 0, 0x62, 0x01, 0]].concat();
    let bytes = build(&fields[..fields.len() - 7], 4);
    let Body::Gtid(gtid) = parsed(&bytes, MYSQL) else { panic!("no GTID") };
    assert_eq!((gtid.uuid, gtid.number, gtid.tag, gtid.anonymous), ([0xab; 16], 5, "abc", false));
    assert!(gtid.fields.may_have_statements);
    let without_number = [&[0, 1][..], &uuid(&[2])].concat();
    refused(&build(&without_number, 4), MYSQL);
    let negative = [&uuid(&[2])[..], &[4, (5 << 2) | 2]].concat();
    assert_eq!(refused(&build(&negative, 4), MYSQL).problem, "a negative number");
    let descending = [&[4, 4][..], &uuid(&[2])].concat();
    assert_eq!(refused(&build(&descending, 4), MYSQL).problem, "fields that do not ascend");
    // A field that we do not know: to be skipped, or not.
    let newer = [&uuid(&[2])[..], &[4, 4, 24, 99, 99]].concat();
    assert!(matches!(parsed(&build(&newer, 4), MYSQL), Body::Gtid(_)));
    refused(&build(&newer, 13), MYSQL);
}

#[test]
fn gtids_of_mariadb() {
    for name in ["mariadb-10.5/all", "mariadb-10.11/all", "mariadb-11.8/all"] {
        let mut last = [0; 4];
        let (mut ddl, mut prepared, mut completed, mut lists, mut threads) = (0, Vec::new(), Vec::new(), 0, 0);
        walk(fixture(name), |_, _, body| match body {
            Body::MariaGtid(gtid) => {
                let domain = gtid.id.domain as usize;
                assert_eq!((gtid.id.server, gtid.id.number), (1, last[domain] + 1), "{name}");
                last[domain] += 1;
                ddl += usize::from(gtid.flags.ddl());
                assert!(!gtid.flags.ddl() || gtid.flags.standalone());
                assert_eq!(gtid.xid.is_some(), gtid.flags.prepared_xa() || gtid.flags.completed_xa());
                let names = if gtid.flags.prepared_xa() { &mut prepared } else { &mut completed };
                names.extend(gtid.xid.map(|xid| (xid.format_id, xid.global.to_vec(), xid.branch.to_vec())));
                threads += usize::from(gtid.extra.thread_id.is_some());
            }
            Body::MariaGtidList(list) => {
                assert_eq!(list.ids().len(), 0);
                lists += 1;
            }
            Body::BinlogCheckpoint(checkpoint) => assert_eq!(checkpoint.file, "binlog.000001"),
            _ => {}
        });
        let xid = |format_id, global: &str, branch: &str| (format_id, global.into(), branch.into());
        assert_eq!(prepared, [xid(7, "global", "branch"), xid(1, "undone", "")], "{name}");
        assert_eq!(completed, prepared, "{name}");
        assert!(ddl > 10 && lists == 1 && last[3] == 1, "{name}");
        // From 11 on every transaction says which connection it came from.
        assert_eq!(threads > 0, name.starts_with("mariadb-11"), "{name}");
    }
    let mut ids = Vec::new();
    walk(fixture("mariadb-11.8/previous"), |_, _, body| {
        if let Body::MariaGtidList(list) = body {
            ids.extend(list.ids());
        }
    });
    assert!(matches!(ids[..], [MariaGtidId { domain: 0, server: 1, number: 2.. }]), "{ids:?}");
}

#[test]
fn maria_gtids_by_hand() {
    let body = |flags: u8, rest: &[u8]| [&9_u64.to_le_bytes()[..], &[2, 0, 0, 0, flags], rest].concat();
    let gtid = |flags, rest: &[u8]| parsed(event(EventType::MARIADB_GTID, 0, &body(flags, rest)).leak(), MARIADB);
    let Body::MariaGtid(filled) = gtid(0x0c, &[0; 6]) else { panic!("no GTID") };
    assert_eq!(filled.id, MariaGtidId { domain: 2, server: 7, number: 9 });
    assert!(filled.flags.transactional() && !filled.flags.standalone() && filled.commit_id.is_none());
    let Body::MariaGtid(grouped) = gtid(0x06, &77_u64.to_le_bytes()) else { panic!("no GTID") };
    assert_eq!(grouped.commit_id, Some(77));
    // The second half of a two-phase ALTER.
    let Body::MariaGtid(alter) = gtid(0x29, &[4, 5, 0, 0, 0, 0, 0, 0, 0]) else { panic!("no GTID") };
    assert!(alter.extra.commit_alter && !alter.extra.start_alter);
    assert_eq!(alter.extra.alter_number, Some(5));
    // A flag of a newer server, and what it brings.
    assert!(matches!(gtid(0x0c, &[0x20, 1, 2, 3, 4, 5, 6, 7]), Body::MariaGtid(_)));
    refused(&event(EventType::MARIADB_GTID, 0, &body(0x0c, &[0, 1, 0, 0, 0, 0])), MARIADB);
    refused(&event(EventType::MARIADB_GTID, 0, &body(0x4c, b"\x01\0\0\0\x41\0")), MARIADB);
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
    });
    description("mariadb-11.8/all", "special", |_, description| {
        let types: Vec<ColumnType> = description.columns[2..7].iter().map(|column| column.kind).collect();
        let string = ColumnType::String;
        assert_eq!(types, [string, string, string, ColumnType::BlobCompressed, ColumnType::VarcharCompressed]);
        assert_eq!(description.columns[7].unsigned, Some(true));
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
