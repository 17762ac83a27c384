//! The offset stores: one conformance suite for both, then what only the one on disk can suffer.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use walbrook::error::{Class, Error, Result};
use walbrook::offset::{Checkpoint, Continuity, MemoryStore, OffsetStore, OffsetUpdate, RocksStore};
use walbrook::record::{Lineage, Lsn, Position, SinkOffset, StateEntry};

use crate::child;

fn lineage() -> Lineage {
    Lineage {
        kind: "postgres".into(),
        system: "7306372036854775807".into(),
        timeline: "3".into(),
        database: "shop".into(),
        stream: "walbrook".into(),
    }
}

fn at(lsn: u64) -> SinkOffset {
    SinkOffset { position: Some(Position::Postgres(Lsn(lsn))), token: Some(format!("length {lsn}").into_bytes()) }
}

fn sinks(offsets: &[(&str, SinkOffset)]) -> OffsetUpdate {
    let sinks = offsets.iter().map(|(name, offset)| ((*name).to_owned(), offset.clone())).collect();
    OffsetUpdate { sinks, ..OffsetUpdate::default() }
}

fn state(entries: &[(&str, Option<&str>)]) -> OffsetUpdate {
    let state = entries
        .iter()
        .map(|(key, value)| StateEntry {
            key: key.as_bytes().to_vec(),
            value: value.map(|text| text.as_bytes().to_vec()),
        })
        .collect();
    OffsetUpdate { state, ..OffsetUpdate::default() }
}

fn open(dir: &Path) -> RocksStore {
    RocksStore::open(dir).unwrap()
}

/// The error of an open that must fail; it has to name a remedy.
fn refused(opened: Result<RocksStore>) -> Error {
    let error = opened.err().expect("a store that must not open");
    assert!(error.remedy_text().is_some(), "{error:?}");
    error
}

fn bound(dir: &Path) -> RocksStore {
    let mut store = open(dir);
    store.bind(&lineage(), Continuity::Unproven).unwrap();
    store
}

/// Every file below a folder with its content; RocksDB's LOCK is empty, its LOG is not data.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(contents(&entry));
        } else {
            found.insert(entry.clone(), fs::read(&entry).unwrap());
        }
    }
    found
}

/// What every store must do. `again` is the same store as a new process finds it, or itself where it has none.
fn conforms<S: OffsetStore>(mut store: S, again: impl Fn(S) -> S) {
    assert_eq!(store.load().unwrap(), Checkpoint::default(), "a new store is empty");
    assert_eq!(store.commit(&sinks(&[("a", at(1))])).unwrap_err().class(), Class::Bug, "not bound");
    assert_eq!(store.set("a", &at(1)).unwrap_err().class(), Class::Config, "not bound");

    store.bind(&lineage(), Continuity::Unproven).unwrap();
    store.bind(&lineage(), Continuity::Unproven).unwrap();
    store.commit(&sinks(&[("a", at(5)), ("b", SinkOffset::default())])).unwrap();
    store.commit(&state(&[("chunk/1", Some("done")), ("chunk/2", Some("half"))])).unwrap();
    store.commit(&OffsetUpdate::default()).unwrap();

    let mut store = again(store);
    let found = store.load().unwrap();
    assert_eq!(found.lineage, Some(lineage()));
    assert_eq!(found.sinks, BTreeMap::from([("a".to_owned(), at(5)), ("b".to_owned(), SinkOffset::default())]));
    assert_eq!(found.state[&b"chunk/1"[..]], b"done");

    // In order, a later entry wins; a value of none removes; one update is sinks and state together.
    let mut both = state(&[("chunk/1", None), ("chunk/3", Some("old")), ("chunk/3", Some("new")), ("absent", None)]);
    both.sinks.insert("a".into(), at(6));
    store.commit(&both).unwrap();
    let mut store = again(store);
    let found = store.load().unwrap();
    assert_eq!(found.sinks["a"], at(6));
    let state: Vec<_> = found.state.into_iter().collect();
    assert_eq!(state, [(b"chunk/2".to_vec(), b"half".to_vec()), (b"chunk/3".to_vec(), b"new".to_vec())]);

    // The same position again is no step back (a token may move alone); an earlier one or none is, and changes nothing.
    let token = SinkOffset { token: Some(b"other".to_vec()), ..at(6) };
    store.commit(&sinks(&[("a", token.clone())])).unwrap();
    for back in [at(5), SinkOffset::default()] {
        let mut update = sinks(&[("a", back), ("b", at(9))]);
        update.state.push(StateEntry { key: b"chunk/4".to_vec(), value: Some(Vec::new()) });
        let error = store.commit(&update).unwrap_err();
        assert_eq!(error.class(), Class::Bug);
        assert!(error.to_string().contains("\"a\"") && error.to_string().contains("0/6"), "{error}");
    }
    let found = store.load().unwrap();
    assert_eq!((&found.sinks["a"], &found.sinks["b"], found.state.len()), (&token, &SinkOffset::default(), 2));

    store.set("a", &at(2)).unwrap();
    store.commit(&sinks(&[("a", at(3))])).unwrap();

    // Another stream is refused, field by field; only the timeline moves, and only forward.
    for (field, other) in [
        ("kind", Lineage { kind: "mysql".into(), ..lineage() }),
        ("system", Lineage { system: "1".into(), ..lineage() }),
        ("database", Lineage { database: "other".into(), ..lineage() }),
        ("stream", Lineage { stream: "other".into(), ..lineage() }),
        ("timeline", Lineage { timeline: "2".into(), ..lineage() }),
    ] {
        let error = store.bind(&other, Continuity::Unproven).unwrap_err();
        assert_eq!(error.class(), Class::Lost);
        assert!(error.to_string().contains(field) && error.remedy_text().is_some(), "{error:?}");
    }
    // Proven continuity is about the server alone.
    for other in [Lineage { kind: "mysql".into(), ..lineage() }, Lineage { stream: "other".into(), ..lineage() }] {
        assert!(store.bind(&other, Continuity::Proven).is_err());
    }
    let elsewhere = Lineage { system: "1".into(), ..lineage() };
    store.bind(&elsewhere, Continuity::Proven).unwrap();
    let mut store = again(store);
    assert_eq!(store.load().unwrap().lineage, Some(elsewhere));
    store.bind(&lineage(), Continuity::Proven).unwrap();
    let promoted = Lineage { timeline: "10".into(), ..lineage() };
    store.bind(&promoted, Continuity::Unproven).unwrap();
    let mut store = again(store);
    assert_eq!(store.load().unwrap().lineage, Some(promoted));

    store.retain_sinks(&|name| name == "a").unwrap();
    let mut store = again(store);
    assert_eq!(store.load().unwrap().sinks, BTreeMap::from([("a".to_owned(), at(3))]));

    store.reset().unwrap();
    let mut store = again(store);
    assert_eq!(store.load().unwrap(), Checkpoint::default());
    store.bind(&Lineage { system: "1".into(), ..lineage() }, Continuity::Unproven).unwrap();
}

#[test]
fn the_memory_store_conforms() {
    conforms(MemoryStore::default(), |store| store);
}

#[test]
fn the_rocksdb_store_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conforms(open(dir.path()), |store| {
        drop(store);
        open(dir.path())
    });
}

#[derive(Clone, Debug)]
enum Step {
    Commit(OffsetUpdate),
    Set(String, SinkOffset),
    Retain(String),
    Reopen,
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || prop_oneof![Just(String::new()), "[a-c/]{1,2}", Just("naïve/sink".to_owned())];
    let offset = || {
        (any::<Option<u16>>(), any::<Option<Vec<u8>>>()).prop_map(|(lsn, token)| SinkOffset {
            position: lsn.map(|lsn| Position::Postgres(Lsn(u64::from(lsn)))),
            token,
        })
    };
    let entry = (prop::collection::vec(0u8..4, 0..3), any::<Option<Vec<u8>>>())
        .prop_map(|(key, value)| StateEntry { key, value });
    let update = (prop::collection::btree_map(name(), offset(), 0..3), prop::collection::vec(entry, 0..4))
        .prop_map(|(sinks, state)| OffsetUpdate { sinks, state, ..OffsetUpdate::default() });
    let step = prop_oneof![
        8 => update.prop_map(Step::Commit),
        2 => (name(), offset()).prop_map(|(name, offset)| Step::Set(name, offset)),
        1 => name().prop_map(Step::Retain),
        2 => Just(Step::Reopen),
        1 => Just(Step::Reset),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The model is two maps and one rule.
    #[test]
    fn any_steps_leave_what_the_model_says(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = bound(dir.path());
        let mut model = Checkpoint { lineage: Some(lineage()), ..Checkpoint::default() };
        for step in steps {
            match step {
                Step::Commit(update) => {
                    let back = update.sinks.iter().any(|(name, new)| {
                        let lsn = |offset: &SinkOffset| offset.position.as_ref().map(|position| position.lsn().unwrap());
                        model.sinks.get(name).and_then(lsn) > lsn(new)
                    });
                    prop_assert_eq!(store.commit(&update).is_err(), back);
                    if !back {
                        model.sinks.extend(update.sinks);
                        for StateEntry { key, value } in update.state {
                            match value {
                                Some(value) => { model.state.insert(key, value); }
                                None => { model.state.remove(&key); }
                            }
                        }
                    }
                }
                Step::Set(name, offset) => {
                    store.set(&name, &offset).unwrap();
                    model.sinks.insert(name, offset);
                }
                Step::Retain(name) => {
                    store.retain_sinks(&|sink| sink != name).unwrap();
                    model.sinks.remove(&name);
                }
                Step::Reopen => {
                    drop(store);
                    store = open(dir.path());
                }
                Step::Reset => {
                    store.reset().unwrap();
                    store.bind(&lineage(), Continuity::Unproven).unwrap();
                    model = Checkpoint { lineage: Some(lineage()), ..Checkpoint::default() };
                }
            }
            prop_assert_eq!(&store.load().unwrap(), &model);
        }
    }
}

/// Run only as a child: commits without end and says what it has committed.
#[test]
#[ignore = "the child of a_kill_loses_nothing_committed"]
fn child_commits_in_a_loop() {
    let Some(dir) = child::dir() else { return };
    let mut store = bound(&dir);
    let start = match store.load().unwrap().sinks.get("a").and_then(|offset| offset.position.clone()) {
        Some(position) => position.lsn().unwrap().0 + 1,
        None => 1,
    };
    for lsn in start.. {
        let mut update = sinks(&[("a", at(lsn)), ("b", at(lsn))]);
        // Large enough that the write buffer fills, so that kills also meet flushes and compactions.
        update.state = vec![StateEntry { key: b"s".to_vec(), value: Some(format!("{lsn:0>3000}").into_bytes()) }];
        store.commit(&update).unwrap();
        println!("committed {lsn}");
    }
}

#[test]
fn a_kill_loses_nothing_committed() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..12u64 {
        let mut child =
            child::child(&[], "offsets::child_commits_in_a_loop", dir.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // A different number of commits each time, then dead in the middle of whatever it does.
        let wanted = 1 + round * round * 5;
        let started = Instant::now();
        let mut seen = 0;
        for line in lines.by_ref().map_while(std::result::Result::ok) {
            let Some(lsn) = line.strip_prefix("committed ") else { continue };
            last = lsn.parse().unwrap();
            seen += 1;
            if seen >= wanted || started.elapsed() > Duration::from_secs(3) {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen > 0, "the child committed nothing");
        for line in lines.map_while(std::result::Result::ok) {
            // A line cut in the middle by the kill is shorter, so its number is smaller: it proves less, never more.
            let committed = line.strip_prefix("committed ").and_then(|lsn| lsn.parse().ok());
            last = committed.unwrap_or(last).max(last);
        }
        let found = open(dir.path()).load().unwrap();
        let Some(Position::Postgres(Lsn(stored))) = found.sinks["a"].position else { panic!("no position") };
        assert!(stored >= last, "round {round}: {last} was committed, {stored} is stored");
        assert_eq!(found.sinks["a"], found.sinks["b"], "half a commit");
        assert_eq!(found.state[&b"s"[..]], format!("{stored:0>3000}").into_bytes(), "half a commit");
    }
}

#[test]
fn a_second_process_is_told_which_lock_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let mut child =
        child::child(&[], "offsets::child_commits_in_a_loop", dir.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("committed")));
    let error = refused(RocksStore::open(dir.path()));
    assert_eq!(error.class(), Class::Config);
    assert!(error.to_string().contains(dir.path().join("offsets/LOCK").to_str().unwrap()), "{error:?}");

    // Reading goes on beside the writer, and sees it move.
    let position = || RocksStore::open_read_only(dir.path()).unwrap().load().unwrap().sinks["a"].position.clone();
    let first = position().unwrap();
    let moved = (0..200).any(|_| position().unwrap().covers(&first));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(moved, "a reader sees what was committed since");

    // So is a second opener in the same process.
    let _held = open(dir.path());
    let error = refused(RocksStore::open(dir.path()));
    assert!(error.to_string().contains("LOCK"), "{error:?}");
}

#[test]
fn a_reader_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(refused(RocksStore::open_read_only(dir.path())).class(), Class::Config);
    assert!(contents(dir.path()).is_empty());
    bound(dir.path()).commit(&sinks(&[("a", at(7))])).unwrap();
    let before = contents(dir.path());
    let mut reader = RocksStore::open_read_only(dir.path()).unwrap();
    assert_eq!(reader.load().unwrap().sinks["a"], at(7));
    assert_eq!(reader.commit(&sinks(&[("a", at(8))])).unwrap_err().class(), Class::Bug);
    assert!(reader.reset().is_err() && reader.set("a", &at(1)).is_err());
    drop(reader);
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_folder_that_is_not_ours_stays_as_it_is() {
    let foreign_db = |dir: &Path| {
        let db = rocksdb::DB::open_default(dir).unwrap();
        db.put(b"meta/format", b"SOMETHING ELSE").unwrap();
    };
    type Make<'m> = &'m dyn Fn(&Path);
    let cases: [(&str, Make<'_>); 6] = [
        ("another program's database as the state directory", &|dir| foreign_db(dir)),
        ("another program's database in our folder", &|dir| foreign_db(&dir.join("offsets"))),
        ("a folder of other things", &|dir| {
            fs::create_dir(dir.join("offsets")).unwrap();
            fs::write(dir.join("offsets/notes.txt"), "mine").unwrap();
        }),
        ("an empty folder in the store's place", &|dir| fs::create_dir(dir.join("offsets")).unwrap()),
        ("a file in the store's place", &|dir| fs::write(dir.join("offsets"), "mine").unwrap()),
        ("a database with another order of keys", &|dir| {
            let mut options = rocksdb::Options::default();
            options.create_if_missing(true);
            options.set_comparator("backwards", Box::new(|a: &[u8], b: &[u8]| b.cmp(a)));
            rocksdb::DB::open(&options, dir.join("offsets")).unwrap().put(b"k", b"v").unwrap();
        }),
    ];
    for (what, make) in cases {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        let before = contents(dir.path());
        let error = refused(RocksStore::open(dir.path()));
        assert_eq!(error.class(), Class::Config, "{what}: {error:?}");
        assert!(error.to_string().contains("is not an offset store"), "{what}: {error:?}");
        assert_eq!(contents(dir.path()), before, "{what}");
    }
}

#[test]
fn a_newer_format_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    drop(bound(dir.path()));
    rocksdb::DB::open_default(dir.path().join("offsets")).unwrap().put(b"meta/format", b"WALBROOK\0\0\0\x03").unwrap();
    let before = contents(dir.path());
    for error in [refused(RocksStore::open(dir.path())), refused(RocksStore::open_read_only(dir.path()))] {
        assert!(error.to_string().contains("format 3") && error.to_string().contains("format 2"), "{error:?}");
    }
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_store_of_format_1_is_read_and_is_of_format_2_from_the_first_write_on() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("offsets");
    let format = || {
        let db = rocksdb::DB::open_for_read_only(&rocksdb::Options::default(), &folder, false).unwrap();
        db.get(b"meta/format").unwrap().unwrap()
    };
    // What format 1 could hold looks the same in format 2.
    let mut store = bound(dir.path());
    store.commit(&sinks(&[("a", at(7)), ("b", at(9))])).unwrap();
    store.commit(&state(&[("chunk", Some("3"))])).unwrap();
    let stored = store.load().unwrap();
    drop(store);
    assert_eq!(format(), b"WALBROOK\0\0\0\x02");
    rocksdb::DB::open_default(&folder).unwrap().put(b"meta/format", b"WALBROOK\0\0\0\x01").unwrap();
    let before = contents(dir.path());
    assert_eq!(RocksStore::open_read_only(dir.path()).unwrap().load().unwrap(), stored);
    assert_eq!(contents(dir.path()), before);
    // Who only looks, or writes what is there already, leaves it to the program that made it.
    let mut store = bound(dir.path());
    assert_eq!(store.load().unwrap(), stored);
    store.commit(&OffsetUpdate::default()).unwrap();
    drop(store);
    assert_eq!(format(), b"WALBROOK\0\0\0\x01");
    let mut store = open(dir.path());
    store.commit(&OffsetUpdate { base: at(9).position, ..OffsetUpdate::default() }).unwrap();
    store.set("b", &at(11)).unwrap();
    drop(store);
    assert_eq!(format(), b"WALBROOK\0\0\0\x02");
    let mut expected = Checkpoint { base: at(9).position, ..stored };
    expected.sinks.insert("b".to_owned(), at(11));
    assert_eq!(open(dir.path()).load().unwrap(), expected);
}

#[test]
fn a_crash_while_the_store_is_made_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("offsets.new")).unwrap();
    fs::write(dir.path().join("offsets.new/CURRENT"), "MANI").unwrap();
    drop(bound(dir.path()));
    assert!(!dir.path().join("offsets.new").exists());
    assert_eq!(open(dir.path()).load().unwrap().lineage, Some(lineage()));
}

#[test]
fn a_corrupt_value_is_named() {
    for (key, value) in [
        (&b"sink/audit"[..], &b"\0\0\0\x02\0\0\x12\x34\x56\x78"[..]),
        (b"sink/audit", b""),
        (b"meta/lineage", b"\0\0\0\0"),
        (b"state/chunk/1", b"no checksum"),
        (b"other", b"\0"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        bound(dir.path()).commit(&sinks(&[("audit", at(4))])).unwrap();
        rocksdb::DB::open_default(dir.path().join("offsets")).unwrap().put(key, value).unwrap();
        let error = refused(RocksStore::open(dir.path()));
        assert_eq!(error.class(), Class::Config);
        let text = format!("{error:?}");
        assert!(text.contains(str::from_utf8(key).unwrap()) && text.contains("corrupt"), "{text}");
    }
}

#[test]
fn a_flipped_byte_is_an_error_or_an_earlier_state_and_never_a_misread() {
    let origin = tempfile::tempdir().unwrap();
    let mut states = Vec::new();
    {
        let mut store = bound(origin.path());
        states.push(store.load().unwrap());
        for lsn in 1..=3 {
            store.commit(&sinks(&[("a", at(lsn)), ("b", at(lsn))])).unwrap();
            states.push(store.load().unwrap());
        }
        drop(store);
        // Opening flushes the log into a table; what follows stands in a new log.
        let mut store = open(origin.path());
        for lsn in 4..=6 {
            store.commit(&sinks(&[("a", at(lsn))])).unwrap();
            states.push(store.load().unwrap());
        }
    }
    let files = contents(origin.path());
    let (mut refusals, mut kinds) = (0, BTreeMap::<&str, u32>::new());
    for (path, bytes) in &files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let kind = match name {
            "CURRENT" => "CURRENT",
            _ if name.starts_with("MANIFEST") => "MANIFEST",
            _ if name.ends_with(".sst") => "table",
            _ if name.ends_with(".log") && !bytes.is_empty() => "log",
            _ => continue,
        };
        // About 60 places a file, and every byte of the small one.
        for offset in (0..bytes.len()).step_by((bytes.len() / 60).max(1)) {
            let dir = tempfile::tempdir().unwrap();
            for (file, bytes) in &files {
                let target = dir.path().join(file.strip_prefix(origin.path()).unwrap());
                fs::create_dir_all(target.parent().unwrap()).unwrap();
                fs::write(target, bytes).unwrap();
            }
            let mut flipped = bytes.clone();
            flipped[offset] ^= 0x55;
            fs::write(dir.path().join(path.strip_prefix(origin.path()).unwrap()), flipped).unwrap();
            match RocksStore::open(dir.path()) {
                Err(error) => {
                    refusals += 1;
                    *kinds.entry(kind).or_default() += 1;
                    assert_eq!(error.class(), Class::Config, "{kind} at {offset}: {error:?}");
                    assert!(error.remedy_text().is_some(), "{kind} at {offset}: {error:?}");
                }
                Ok(store) => {
                    let found = store.load().unwrap();
                    let known = states.iter().position(|state| *state == found);
                    let allowed = if kind == "log" { known.is_some() } else { known == Some(states.len() - 1) };
                    assert!(allowed, "{kind} at {offset} of {}: {found:?}", bytes.len());
                }
            }
        }
    }
    for kind in ["CURRENT", "MANIFEST", "table", "log"] {
        assert!(kinds.get(kind).is_some_and(|count| *count > 0), "no flip of {kind} was noticed: {kinds:?}");
    }
    assert!(refusals > 100, "{kinds:?}");
}

#[test]
fn a_missing_file_is_corruption() {
    for ending in ["sst", "MANIFEST"] {
        let dir = tempfile::tempdir().unwrap();
        bound(dir.path()).commit(&sinks(&[("a", at(1))])).unwrap();
        drop(open(dir.path()));
        let files = contents(&dir.path().join("offsets"));
        let lost = files.keys().find(|path| path.to_str().unwrap().contains(ending)).unwrap();
        fs::remove_file(lost).unwrap();
        let error = refused(RocksStore::open(dir.path()));
        assert!(error.to_string().contains("corrupt"), "{ending}: {error:?}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(refused(RocksStore::open(&file.join("state"))).class(), Class::Config);
    // Root may write anywhere but where the kernel lets nobody.
    assert_eq!(refused(RocksStore::open(Path::new("/proc/walbrook"))).class(), Class::Config);
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(closed.join("probe"), "").is_err() {
        let error = refused(RocksStore::open(&closed));
        assert!(format!("{error:?}").contains("Permission denied"), "{error:?}");
    }
}

/// Run only as a child, on a disk that fills.
#[test]
#[ignore = "the child of a_full_disk_loses_nothing_committed"]
fn child_commits_on_a_full_disk() {
    let Some(dir) = child::dir() else { return };
    let mut store = bound(&dir);
    store.commit(&sinks(&[("a", at(1))])).unwrap();
    let filler = dir.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let update = |lsn: u64| OffsetUpdate {
        state: vec![StateEntry { key: b"s".to_vec(), value: Some(format!("{lsn:0>9000}").into_bytes()) }],
        ..sinks(&[("a", at(lsn))])
    };
    let (mut lsn, mut errors) = (2, 0);
    for _ in 0..200 {
        match store.commit(&update(lsn)) {
            Ok(()) => lsn += 1,
            Err(error) => {
                assert!(error.class() == Class::Transient && error.remedy_text().is_some(), "{error:?}");
                errors += 1;
            }
        }
    }
    assert!(errors > 0, "the disk was never full");
    drop(file);
    fs::remove_file(&filler).unwrap();
    store.commit(&update(lsn)).unwrap();
    drop(store);
    assert_eq!(open(&dir).load().unwrap().sinks["a"], at(lsn));
    println!("went on");
}

#[test]
fn a_full_disk_loses_nothing_committed() {
    let Some(wrapper) = child::small_disk() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut command = child::child(&wrapper, "offsets::child_commits_on_a_full_disk", dir.path());
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("went on"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// Memory that belongs to this process alone, in KiB.
fn anonymous_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Run only as a child, so that nothing else counts.
#[test]
#[ignore = "the child of an_open_store_is_small"]
fn child_measures_itself() {
    let Some(dir) = child::dir() else { return };
    let before = anonymous_kib();
    let mut store = bound(&dir);
    let opened = anonymous_kib();
    let started = Instant::now();
    for lsn in 1..=2000 {
        store.commit(&sinks(&[("a", at(lsn)), ("b", at(lsn))])).unwrap();
    }
    let micros = started.elapsed().as_micros() / 2000;
    println!("\nmeasured {before} {opened} {} KiB, {micros} us a commit", anonymous_kib());
}

#[test]
fn an_open_store_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let output = child::child(&[], "offsets::child_measures_itself", dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find_map(|line| line.strip_prefix("measured ")).expect("no measurement");
    let kib: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // Two write buffers, two threads, the tables' indexes and what malloc keeps: far below the 15 MiB of the process.
    assert!(kib[2] - kib[0] < 6 * 1024, "{line}");
    let files = contents(dir.path());
    let bytes: usize = files.values().map(Vec::len).sum();
    assert!(bytes < 2 << 20 && files.len() < 20, "{} files of {bytes} bytes after 2000 commits", files.len());
}
