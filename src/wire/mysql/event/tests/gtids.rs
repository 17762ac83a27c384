//! GTIDs of both servers.

use super::*;

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
