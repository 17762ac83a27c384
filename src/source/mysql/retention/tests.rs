use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const B: &str = "00000000-0000-0000-0000-00000000000b";

fn lineage(kind: &str, system: &str) -> Lineage {
    let text = str::to_owned;
    Lineage { kind: text(kind), system: text(system), timeline: text(""), database: text(""), stream: text("") }
}

/// A position as it is stored after reading `system`'s log.
fn at(system: &str, text: &str) -> BinlogPosition {
    BinlogPosition { server: identity_number(system), file_created_unix_s: 1_000, ..text.parse().unwrap() }
}

fn observed(system: &str, tip: &str, gtids: Gtids) -> Observed {
    let file = |number: u64, bytes| LogFile { name: format!("binlog.{number:06}"), bytes };
    let kind = if matches!(gtids, Gtids::MariaDb { .. }) { "mariadb" } else { "mysql" };
    Observed {
        kind: kind.into(),
        system: system.into(),
        tip: at(system, tip),
        files: vec![file(4, 1_000), file(5, 2_000), file(6, 500)],
        file_created_unix_s: Some(1_000),
        gtids,
    }
}

fn mysql_gtids(executed: &str, purged: &str) -> Gtids {
    Gtids::MySql { executed: executed.parse().unwrap(), purged: purged.parse().unwrap() }
}

fn list(text: &str) -> Vec<MariaDbGtid> {
    text.split(',').filter(|gtid| !gtid.is_empty()).map(|gtid| gtid.parse().unwrap()).collect()
}

fn mariadb_gtids(state: &str, before_oldest: &str, applied: &str) -> Gtids {
    Gtids::MariaDb { state: list(state), before_oldest: list(before_oldest), applied: list(applied) }
}

fn lost(verdict: Verdict, parts: &[&str]) {
    let Verdict::Lost(gap) = &verdict else { panic!("not lost") };
    let text = verdict.to_string();
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} are not all in {text}");
    assert!(!gap.why.is_empty());
}

#[test]
fn gtids_that_are_all_there() {
    let stored = lineage("mysql", "one");
    let position = at("one", &format!("binlog.000005:1500/{A}:1-10:t:1-3"));
    for purged in [String::new(), format!("{A}:1-4"), format!("{A}:1-10:t:1-3")] {
        let gtids = mysql_gtids(&format!("{A}:1-20:t:1-3,{B}:1-5"), &purged);
        assert_eq!(verdict(&stored, &position, &observed("one", "binlog.000006:500", gtids.clone())), Verdict::Valid);
        // Another server that has them is as good; its files mean nothing.
        let elsewhere = Observed { files: vec![], file_created_unix_s: None, ..observed("two", "b.000001:4", gtids) };
        assert_eq!(verdict(&stored, &position, &elsewhere), Verdict::Valid);
    }
}

#[test]
fn purged_gtids_are_named() {
    let stored = lineage("mysql", "one");
    let position = at("one", &format!("binlog.000003:1500/{A}:1-10"));
    let now = observed("one", "binlog.000006:500", mysql_gtids(&format!("{A}:1-30,{B}:1"), &format!("{A}:1-15,{B}:1")));
    let verdict = verdict(&stored, &position, &now);
    lost(verdict.clone(), &[&format!("purged the log of {B}:1,{A}:11-15 (6 transactions)"), "to binlog.000004:4/"]);
    assert!(!verdict.to_string().contains("another server"));
}

#[test]
fn a_position_ahead_names_what_the_server_never_had() {
    let stored = lineage("mysql", "one");
    let position = at("one", &format!("binlog.000005:1500/{A}:1-10,{B}:1"));
    let behind = |system| observed(system, "binlog.000006:500", mysql_gtids(&format!("{A}:1-8"), ""));
    let unknown = format!("never executed {B}:1,{A}:9-10 (3 transactions)");
    lost(verdict(&stored, &position, &behind("one")), &["ahead of the server", &unknown, "restored"]);
    lost(verdict(&stored, &position, &behind("two")), &["another server: two instead of one", &unknown, "errant"]);
    let foreign = observed("two", "binlog.000006:500", mysql_gtids(&format!("{}:1-80", B.replace("0b", "0c")), ""));
    lost(verdict(&stored, &position, &foreign), &["shares no transaction", "another topology"]);
}

/// After a RESET the same numbers are given to other transactions.
#[test]
fn a_file_that_was_begun_at_another_time_is_another_log() {
    let stored = lineage("mysql", "one");
    let position = at("one", &format!("binlog.000005:1500/{A}:1-10"));
    let now = observed("one", "binlog.000006:500", mysql_gtids(&format!("{A}:1-30"), ""));
    let reset = Observed { file_created_unix_s: Some(2_000), ..now.clone() };
    lost(verdict(&stored, &position, &reset), &["binlog.000005 is another file", "reset", "1970-01-01T00:16:40Z"]);
    // What was never known proves nothing.
    let typed = BinlogPosition { file_created_unix_s: 0, ..position.clone() };
    assert_eq!(verdict(&stored, &typed, &reset), Verdict::Valid);
    let shorter = at("one", &format!("binlog.000006:501/{A}:1-10"));
    lost(verdict(&stored, &shorter, &now), &["ends at 500", "(1 bytes)"]);
    let to_come = at("one", &format!("binlog.000007:4/{A}:1-10"));
    lost(verdict(&stored, &to_come, &now), &["newest file is binlog.000006"]);
    let purged_file = at("one", &format!("binlog.000002:4/{A}:1-10"));
    assert_eq!(verdict(&stored, &purged_file, &now), Verdict::Valid, "GTIDs say that nothing is missing");
    // Both reasons where there are two.
    let reset = Observed { gtids: mysql_gtids(&format!("{A}:1-3"), ""), ..reset };
    lost(verdict(&stored, &position, &reset), &["another file", &format!("never executed {A}:4-10")]);
}

#[test]
fn without_gtids_the_file_decides_on_its_own_server() {
    let stored = lineage("mysql", "one");
    let now = observed("one", "binlog.000006:500", Gtids::Off);
    for position in ["binlog.000004:4", "binlog.000005:2000", "binlog.000006:500"] {
        assert_eq!(verdict(&stored, &at("one", position), &now), Verdict::Valid, "{position}");
    }
    let purged =
        ["purged binlog.000001 to binlog.000003 (3 files)", "oldest file is binlog.000004", "to binlog.000004:4"];
    lost(verdict(&stored, &at("one", "binlog.000001:77"), &now), &purged);
    lost(verdict(&stored, &at("one", "binlog.000003:77"), &now), &["purged binlog.000003;"]);
    lost(verdict(&stored, &at("one", "binlog.000007:77"), &now), &["no file binlog.000007"]);
    lost(verdict(&stored, &at("one", "other.000005:77"), &now), &["no file other.000005"]);
    lost(verdict(&stored, &at("one", "binlog.000006:501"), &now), &["ends at 500"]);
    let reset = Observed { file_created_unix_s: Some(7), ..now.clone() };
    lost(verdict(&stored, &at("one", "binlog.000005:4"), &reset), &["another file"]);
    let none = Observed { files: Vec::new(), ..now.clone() };
    lost(verdict(&stored, &at("one", "binlog.000005:4"), &none), &["no binary logs"]);
    let elsewhere = observed("two", "binlog.000006:500", Gtids::Off);
    lost(verdict(&stored, &at("one", "binlog.000005:4"), &elsewhere), &["another server: two instead of one"]);
    // A sink that has not moved since a failover has a position of the old server under the new one's lineage.
    lost(verdict(&lineage("mysql", "two"), &at("one", "binlog.000005:4"), &elsewhere), &["another server"]);
    // What a person wrote is of the server the store knows.
    let typed: BinlogPosition = "binlog.000005:4".parse().unwrap();
    assert_eq!(verdict(&stored, &typed, &now), Verdict::Valid);
    lost(verdict(&stored, &typed, &elsewhere), &["another server"]);
}

#[test]
fn gtids_switched_off_or_on_since() {
    let stored = lineage("mysql", "one");
    let off = observed("one", "binlog.000006:500", Gtids::Off);
    let position = format!("binlog.000005:1500/{A}:1-10");
    assert_eq!(verdict(&stored, &at("one", &position), &off), Verdict::Valid, "the file is still there");
    lost(verdict(&stored, &at("one", &position.replace("05", "02")), &off), &["purged"]);
    lost(verdict(&stored, &at("one", &format!("{A}:1-10")), &off), &["GTIDs are switched off"]);
    let elsewhere = Observed { system: "two".into(), ..off };
    lost(verdict(&stored, &at("one", &position), &elsewhere), &["GTIDs are switched off", "two instead of one"]);
    let on = observed("one", "binlog.000006:500", mysql_gtids(&format!("{A}:1-3"), ""));
    assert_eq!(verdict(&stored, &at("one", "binlog.000005:1500"), &on), Verdict::Valid);
    let elsewhere = Observed { system: "two".into(), ..on };
    lost(verdict(&stored, &at("one", "binlog.000005:1500"), &elsewhere), &["another server"]);
}

#[test]
fn another_kind_of_server() {
    let now = observed("one", "binlog.000006:500", mariadb_gtids("0-1-5", "", ""));
    lost(verdict(&lineage("mysql", "one"), &at("one", "binlog.000005:4"), &now), &["mariadb instead of mysql"]);
    lost(verdict(&lineage("mariadb", "one"), &at("one", &format!("{A}:1-3")), &now), &["GTIDs are MySQL's"]);
}

#[test]
fn mariadb_domains() {
    let stored = lineage("mariadb", "one");
    let at = |text: &str| at("one", &format!("binlog.000005:1500/{text}"));
    let now = |state: &str, before: &str, applied: &str| {
        observed("one", "binlog.000006:500", mariadb_gtids(state, before, applied))
    };
    for (position, state, before, applied) in [
        ("0-1-5", "0-1-9", "", ""),
        ("0-1-5", "0-1-9", "0-1-5", ""),
        ("0-1-5,1-2-3", "0-1-9,1-2-3", "0-1-4,1-2-2", ""),
        // A domain that began later, and is there from its beginning.
        ("0-1-5", "0-1-9,7-1-3", "0-1-5", ""),
        // Failed over: the new server goes on in the domain.
        ("0-1-5", "0-1-5,0-2-9", "0-1-2", ""),
        // Not logged there, but it is exactly where the new server began to log itself.
        ("0-1-5", "0-2-8", "", "0-1-5"),
        // Numbers may go back between servers: the list says which came last.
        ("0-2-3", "0-1-9,0-2-4", "0-1-9,0-2-3", ""),
    ] {
        let verdict = verdict(&stored, &at(position), &now(state, before, applied));
        assert_eq!(verdict, Verdict::Valid, "{position} against {state} behind {before}");
    }
    for (position, state, before, applied, parts) in [
        ("0-1-5", "0-1-4", "", "", &["ahead", "has not 0-1-5", "0-1-4 as the last"][..]),
        ("0-1-5", "1-1-9", "", "", &["of domain 0 nothing"]),
        ("0-1-5", "0-2-9", "", "", &["has not 0-1-5", "0-2-9"]),
        ("0-1-5", "0-2-9", "", "0-1-7", &["without logging it"]),
        ("0-1-5", "0-1-9", "0-1-6", "", &["purged the log of domain 0 behind 0-1-5 up to 0-1-6"]),
        ("0-1-5", "0-1-5,0-2-9", "0-1-5,0-2-7", "", &["behind 0-1-5 up to 0-2-7"]),
        ("0-1-5", "0-1-9,7-1-3", "0-1-5,7-1-1", "", &["domain 7 up to 7-1-1"]),
        ("0-1-5", "0-2-8", "0-2-6", "0-1-5", &["domain 0 up to 0-2-6"]),
    ] {
        lost(verdict(&stored, &at(position), &now(state, before, applied)), parts);
    }
    let reset = Observed { file_created_unix_s: Some(5), ..now("0-1-9", "", "") };
    lost(verdict(&stored, &at("0-1-5"), &reset), &["another file"]);
    let elsewhere = Observed { system: "two".into(), file_created_unix_s: Some(5), ..now("0-1-9", "", "") };
    assert_eq!(verdict(&stored, &at("0-1-5"), &elsewhere), Verdict::Valid);
}

fn numbers() -> impl Strategy<Value = BTreeSet<u64>> {
    proptest::collection::btree_set(1..30_u64, 0..20)
}

fn set_of(numbers: &BTreeSet<u64>) -> MySqlGtids {
    let mut set = MySqlGtids::default();
    for number in numbers {
        set.insert(&format!("{A}:{number}").parse().unwrap());
    }
    set
}

proptest! {
    /// What a model of single transactions says.
    #[test]
    fn mysql_verdicts_agree_with_sets_of_numbers(stored in numbers(), executed in numbers(), purged in numbers()) {
        let purged: BTreeSet<u64> = purged.intersection(&executed).copied().collect();
        let position = BinlogPosition {
            seen: Seen::Executed(GtidSet::MySql(set_of(&stored)).into()),
            ..at("one", "binlog.000005:1500")
        };
        let gtids = Gtids::MySql { executed: set_of(&executed), purged: set_of(&purged) };
        let verdict = verdict(&lineage("mysql", "one"), &position, &observed("one", "binlog.000006:500", gtids));
        let sound = stored.is_subset(&executed) && purged.is_subset(&stored);
        prop_assert_eq!(verdict == Verdict::Valid, sound);
        if let Verdict::Lost(gap) = verdict {
            let ahead: BTreeSet<u64> = stored.difference(&executed).copied().collect();
            let gone: BTreeSet<u64> = purged.difference(&stored).copied().collect();
            let named = set_of(if ahead.is_empty() { &gone } else { &ahead }).to_string();
            prop_assert!(gap.why.contains(&named), "{} is not in {}", named, gap.why);
        }
    }

    /// A log of two servers that take turns in two domains, read up to somewhere and purged up to somewhere: valid is
    /// exactly what has everything behind the position.
    #[test]
    fn mariadb_verdicts_agree_with_a_log(
        servers in proptest::collection::vec((0..2_u32, 1..3_u32), 0..30), read in 0..30_usize, purged in 0..30_usize,
    ) {
        let mut counters = [0_u64; 2];
        let log: Vec<MariaDbGtid> = servers.iter().map(|&(domain, server)| {
            counters[domain as usize] += 1;
            MariaDbGtid { domain, server, sequence: counters[domain as usize] }
        }).collect();
        let (read, purged) = (read.min(log.len()), purged.min(log.len()));
        // As gtid_binlog_state is printed: by domain, in it the last logged is the last.
        let state_of = |log: &[MariaDbGtid]| {
            let mut state: Vec<MariaDbGtid> = Vec::new();
            for gtid in log {
                state.retain(|there| (there.domain, there.server) != (gtid.domain, gtid.server));
                state.push(*gtid);
            }
            state.sort_by_key(|gtid| gtid.domain);
            state
        };
        let mut seen = MariaDbGtids::default();
        log[..read].iter().for_each(|gtid| seen.insert(*gtid));
        let position = BinlogPosition {
            seen: Seen::Executed(GtidSet::MariaDb(seen).into()),
            ..at("one", "binlog.000005:1500")
        };
        let gtids = Gtids::MariaDb {
            state: state_of(&log),
            before_oldest: state_of(&log[..purged]),
            applied: Vec::new(),
        };
        let verdict = verdict(&lineage("mariadb", "one"), &position, &observed("one", "binlog.000006:500", gtids));
        prop_assert_eq!(verdict == Verdict::Valid, purged <= read, "read {} purged {} of {:?}", read, purged, log);
    }
}
