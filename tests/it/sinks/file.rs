//! The file sink: cutting back, rotation, compression, kills, a full disk.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::child;

/// The rotated files in order, then the active one.
fn files(path: &Path) -> Vec<PathBuf> {
    let prefix = format!("{}.0", path.file_name().unwrap().to_str().unwrap());
    let names = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let rotated = |file: &PathBuf| {
        let name = file.file_name().unwrap().to_str().unwrap();
        name.starts_with(&prefix) && !name.ends_with(".tmp")
    };
    let mut files: Vec<_> = names.filter(rotated).collect();
    files.sort();
    // Just compressed, a file may be there twice.
    files.dedup_by_key(|file| file.to_str().unwrap().trim_end_matches(".zst").to_owned());
    files.push(path.to_owned());
    files
}

fn read(file: &Path) -> Vec<u8> {
    let bytes = fs::read(file).unwrap_or_default();
    if file.extension().is_some_and(|ending| ending == "zst") { zstd::decode_all(&bytes[..]).unwrap() } else { bytes }
}

/// The keys of all lines, rotated files first.
pub(super) fn keys_in(path: &Path) -> Vec<Key> {
    files(path).iter().flat_map(|file| keys_of_lines(&read(file))).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// What happens to a sink: some transactions of so many rows each; then their flush is stored, or not; or a crash that
/// leaves so much of what was not stored.
#[derive(Clone, Debug)]
enum Event {
    Write(Vec<usize>),
    Store,
    Crash { keep_per_mille: u64 },
    Fail,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => prop::collection::vec(0usize..6, 0..4).prop_map(Event::Write),
        2 => Just(Event::Store),
        1 => (0u64..=1000).prop_map(|keep_per_mille| Event::Crash { keep_per_mille }),
        1 => Just(Event::Fail),
    ];
    prop::collection::vec(event, 1..40)
}

/// Plays the events, delivering again what is not stored after each crash; the keys delivered, each once.
fn play(path: &Path, keys: &serde_json::Value, events: &[Event]) -> Vec<Key> {
    runtime().block_on(async {
        let mut batches = Batches::new();
        let (mut history, mut confirmed) = (Vec::<Arc<Batch>>::new(), 0);
        let mut stored = SinkOffset::default();
        let mut stored_length = 0;
        let mut sink = file_sink(path, keys.clone());
        // A new sink's own offset is stored before its first line.
        stored = open(&mut sink, &stored).await;
        for event in events.iter().chain([&Event::Store]) {
            match event {
                Event::Write(transactions) => {
                    let rows: Vec<Vec<&str>> = transactions.iter().map(|rows| vec!["some text"; *rows]).collect();
                    let batch = batches.of(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
                    let _ = sink.write(&Delivery::whole(batch.clone())).await.unwrap();
                    history.push(batch);
                }
                Event::Store => {
                    stored = deliver_nothing(&mut sink).await;
                    stored_length = fs::metadata(path).unwrap().len();
                    confirmed = history.len();
                }
                Event::Crash { keep_per_mille } => {
                    drop(sink);
                    // What the kernel had not written yet is lost, also in the middle of a line; what was synced is not.
                    let length = fs::metadata(path).unwrap().len();
                    let rotated = files(path).len() as u64 > generation(&stored);
                    let safe = if rotated { 0 } else { stored_length };
                    let kept = safe + (length - safe) * keep_per_mille / 1000;
                    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(kept).unwrap();
                    sink = file_sink(path, keys.clone());
                    replay(&mut sink, &stored, &history[confirmed..]).await;
                }
                Event::Fail => replay(&mut sink, &stored, &history[confirmed..]).await,
            }
        }
        sink.close().await.unwrap();
        history.iter().flat_map(|batch| super::keys(batch)).collect()
    })
}

fn generation(stored: &SinkOffset) -> u64 {
    stored.token.as_deref().map_or(1, |token| u64::from_be_bytes(token[1..9].try_into().unwrap()))
}

async fn deliver_nothing(sink: &mut Box<dyn Sink>) -> SinkOffset {
    let token = sink.token();
    let _ = sink.flush().await.unwrap();
    SinkOffset { position: None, token }
}

async fn replay(sink: &mut Box<dyn Sink>, stored: &SinkOffset, history: &[Arc<Batch>]) {
    let _ = open(sink, stored).await;
    for batch in history {
        let _ = sink.write(&Delivery::whole(batch.clone())).await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn without_rotation_every_line_stands_there_once(events in events()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let delivered = play(&path, &json!({}), &events);
        prop_assert_eq!(keys_in(&path), delivered);
    }

    #[test]
    fn with_rotation_nothing_is_missing_and_no_transaction_is_torn(events in events(), limit in 1u64..2000) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let delivered = play(&path, &json!({ "rotate": limit }), &events);
        let found = keys_in(&path);
        prop_assert_eq!(distinct(&found), delivered.clone());
        // A repeat starts with a transaction's first row and goes on without a gap.
        for pair in found.windows(2) {
            let next = delivered.iter().position(|key| *key == pair[0]).and_then(|at| delivered.get(at + 1));
            prop_assert!(next == Some(&pair[1]) || pair[1].1 == 1, "{:?} in {:?}", pair, found);
        }
        // No transaction of less than the limit stands in two files.
        for pair in files(&path).windows(2) {
            let (one, two) = (keys_of_lines(&read(&pair[0])), keys_of_lines(&read(&pair[1])));
            if let (Some(last), Some(first)) = (one.last(), two.first()) && last.0 == first.0 && first.1 > 1 {
                let own: usize = read(&pair[0]).split_inclusive(|byte| *byte == b'\n').rev()
                    .take_while(|line| keys_of_lines(line)[0].0 == last.0).map(<[u8]>::len).sum();
                prop_assert!(own as u64 >= limit, "{} bytes of a transaction, limit {}", own, limit);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn rotated_files_are_compressed_and_only_so_many_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("changes.ndjson");
    let mut sink = file_sink(&path, json!({ "rotate": "1KB", "compress": "zstd", "keep": 3 }));
    open(&mut sink, &SinkOffset::default()).await;
    let mut batches = Batches::new();
    let written: Vec<_> = (0..40).map(|_| batches.of(&[&["x"; 5]])).collect();
    deliver(&mut sink, &written).await;
    // The housekeeper works beside the sink: in the end, three compressed files.
    let mut names = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        names = files(&path).iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        if names.len() == 4 && names[..3].iter().all(|name| name.ends_with(".zst")) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(names.len() == 4 && names[..3].iter().all(|name| name.ends_with(".zst")), "{names:?}");
    sink.close().await.unwrap();
    let all: Vec<Key> = written.iter().flat_map(|batch| keys(batch)).collect();
    let found = keys_in(&path);
    assert!(all.ends_with(&found) && found.len() > 15, "{found:?}");

    // The number goes on where it was, also when somebody takes all rotated files away.
    let stored = {
        open(&mut sink, &SinkOffset::default()).await;
        deliver(&mut sink, &[batches.of(&[&["x"; 20]])]).await
    };
    drop(sink);
    let highest = generation(&stored);
    for file in files(&path).iter().filter(|file| **file != path) {
        fs::remove_file(file).unwrap();
    }
    let mut sink = file_sink(&path, json!({ "rotate": "1KB" }));
    open(&mut sink, &stored).await;
    deliver(&mut sink, &[batches.of(&[&["x"; 20], &["x"; 20]])]).await;
    let names: Vec<_> =
        files(&path).iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(names[0], format!("changes.ndjson.{highest:06}"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_file_rotates_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let mut sink = file_sink(&path, json!({ "rotate_every": "3s" }));
    open(&mut sink, &SinkOffset::default()).await;
    let mut batches = Batches::new();
    deliver(&mut sink, &[batches.of(&[&["a"]])]).await;
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    // Together they take far less.
    deliver(&mut sink, &[batches.of(&[&["b"]]), batches.of(&[&["c"]])]).await;
    let counts: Vec<_> = files(&path).iter().map(|file| keys_of_lines(&read(file)).len()).collect();
    assert_eq!(counts, [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn somebody_else_at_the_file_loses_nothing_of_his_and_nothing_new_of_ours() {
    let taken: fn(&Path) = |path| fs::remove_file(path).unwrap();
    let moved: fn(&Path) = |path| fs::rename(path, path.with_extension("moved")).unwrap();
    let cut: fn(&Path) = |path| fs::write(path, "{\"pos\":\"0/0\",\"ord\":7}\n{\"torn").unwrap();
    let replaced: fn(&Path) = |path| fs::write(path, "{\"pos\":\"0/0\",\"ord\":7}\n".repeat(1000)).unwrap();
    for (what, meddle, kept) in
        [("taken", taken, 0), ("moved", moved, 0), ("cut", cut, 1), ("replaced", replaced, 1000)]
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut batches = Batches::new();
        let mut sink = file_sink(&path, json!({}));
        open(&mut sink, &SinkOffset::default()).await;
        let stored = deliver(&mut sink, &[batches.of(&[&["a"; 10]])]).await;
        drop(sink);
        meddle(&path);
        let mut sink = file_sink(&path, json!({}));
        open(&mut sink, &stored).await;
        let next = batches.of(&[&["b"]]);
        let stored = deliver(&mut sink, std::slice::from_ref(&next)).await;
        let expected = [vec![(Lsn(0), 7); kept], keys(&next)].concat();
        assert_eq!(keys_in(&path), expected, "{what}");
        drop(sink);
        // From there on the file is known again.
        let mut sink = file_sink(&path, json!({}));
        open(&mut sink, &stored).await;
        assert_eq!(keys_in(&path), expected, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_file_moved_while_in_use_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let mut batches = Batches::new();
    let mut sink = file_sink(&path, json!({}));
    open(&mut sink, &SinkOffset::default()).await;
    let stored = deliver(&mut sink, &[batches.of(&[&["a"]])]).await;
    fs::rename(&path, dir.path().join("moved")).unwrap();
    let next = batches.of(&[&["b"]]);
    let _ = sink.write(&Delivery::whole(next.clone())).await.unwrap();
    assert_eq!(sink.flush().await.unwrap_err().class(), Class::Transient);
    open(&mut sink, &stored).await;
    deliver(&mut sink, std::slice::from_ref(&next)).await;
    assert_eq!(keys_in(&path), keys(&next));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_the_user_must_mend_is_a_config_error_and_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let mut first = file_sink(&path, json!({}));
    open(&mut first, &SinkOffset::default()).await;
    let mut second = file_sink(&path, json!({}));
    let error = second.open(&SinkOffset::default()).await.unwrap_err();
    assert!(error.class() == Class::Config && error.to_string().contains("another sink"), "{error:?}");

    fs::write(dir.path().join("notes"), "no newline").unwrap();
    let mut sink = file_sink(&dir.path().join("notes"), json!({}));
    assert_eq!(sink.open(&SinkOffset::default()).await.unwrap_err().class(), Class::Config);
    assert_eq!(fs::read(dir.path().join("notes")).unwrap(), b"no newline");

    let foreign = SinkOffset { position: None, token: Some(b"?".to_vec()) };
    let mut sink = file_sink(&dir.path().join("b"), json!({}));
    assert_eq!(sink.open(&foreign).await.unwrap_err().class(), Class::Config);

    for wrong in [dir.path().join("absent/a"), dir.path().to_owned(), PathBuf::from("/dev/null")] {
        let mut sink = file_sink(&wrong, json!({}));
        let findings = sink.check().await;
        assert!(findings[0].level == Level::Problem && findings[0].remedy.is_some(), "{wrong:?} {findings:?}");
        let error = sink.open(&SinkOffset::default()).await.unwrap_err();
        assert!(error.class() == Class::Config && error.remedy_text().is_some(), "{error:?}");
    }
    let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["a", "notes"], "a check leaves nothing behind");
}

/// Run only as a child: writes without end and says what is stored.
#[test]
#[ignore = "the child of a_kill_tears_nothing"]
fn child_writes_in_a_loop() {
    let Some(dir) = child::dir() else { return };
    let (keys, stored): (serde_json::Value, Option<Vec<u8>>) =
        serde_json::from_slice(&fs::read(dir.join("start")).unwrap()).unwrap();
    let from: u64 = fs::read_to_string(dir.join("from")).unwrap().parse().unwrap();
    runtime().block_on(async {
        let mut sink = file_sink(&dir.join("a"), keys);
        open(&mut sink, &SinkOffset { position: None, token: stored }).await;
        let mut batches = Batches::new();
        batches.lsn = from;
        loop {
            let stored = deliver(&mut sink, &[batches.of(&[&["x"; 7], &["y"; 300]]), batches.of(&[&["z"]])]).await;
            println!("stored {} {}", batches.lsn, serde_json::to_string(&stored.token).unwrap());
        }
    });
}

#[test]
fn a_kill_tears_nothing() {
    for (keys, exactly_once) in [(json!({}), true), (json!({ "rotate": "200KB", "compress": "zstd" }), false)] {
        let dir = tempfile::tempdir().unwrap();
        let (mut lsn, mut token) = (0u64, None::<Vec<u8>>);
        for round in 0..10u64 {
            fs::write(dir.path().join("start"), serde_json::to_vec(&(&keys, &token)).unwrap()).unwrap();
            fs::write(dir.path().join("from"), lsn.to_string()).unwrap();
            let mut child = child::child(&[], "sinks::file::child_writes_in_a_loop", dir.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut seen = 0;
            for line in lines.by_ref().map_while(Result::ok).filter(|line| line.starts_with("stored ")) {
                let (number, stored) = line["stored ".len()..].split_once(' ').unwrap();
                (lsn, token) = (number.parse().unwrap(), serde_json::from_str(stored).unwrap());
                seen += 1;
                if seen > round * 3 {
                    break;
                }
            }
            assert!(seen > 0, "the child stored nothing");
            // Somewhere within what comes next.
            std::thread::sleep(Duration::from_micros(round * 700));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let path = dir.path().join("a");
        runtime().block_on(async {
            let mut sink = file_sink(&path, keys.clone());
            open(&mut sink, &SinkOffset { position: None, token }).await;
            sink.close().await.unwrap();
        });
        let found = keys_in(&path);
        let expected = (1..=lsn).flat_map(|lsn| {
            let rows = [7, 300, 1][(lsn as usize - 1) % 3];
            (1..=rows).map(move |ordinal| (Lsn(lsn), ordinal))
        });
        let expected: Vec<Key> = expected.collect();
        if exactly_once {
            assert!(found == expected, "{} lines, {} expected", found.len(), expected.len());
        } else {
            let mut known = distinct(&found);
            known.sort();
            known.truncate(expected.len());
            assert!(known == expected, "{} lines, {} expected", known.len(), expected.len());
        }
    }
}

/// Run only as a child, on a disk that fills.
#[test]
#[ignore = "the child of a_full_disk_tears_nothing_and_goes_on"]
fn child_fills_the_disk() {
    let Some(dir) = child::dir() else { return };
    let filler = dir.join("filler");
    fs::File::create(&filler).unwrap().write_all(&vec![0; 1400 << 10]).unwrap();
    let path = dir.join("a");
    runtime().block_on(async {
        let mut sink = file_sink(&path, json!({}));
        let (mut stored, mut delivered) = (open(&mut sink, &SinkOffset::default()).await, Vec::new());
        let mut batches = Batches::new();
        let (batch, error) = loop {
            let batch = batches.of(&[&["some text"; 2000]]);
            if let Err(error) = sink.write(&Delivery::whole(batch.clone())).await {
                break (batch, error);
            }
            stored = deliver_nothing(&mut sink).await;
            delivered.extend(keys(&batch));
        };
        assert!(error.class() == Class::Transient && format!("{error:?}").contains("no space left"), "{error:?}");
        let _ = keys_in(&path); // panics at a torn line
        // As a worker does: again and again, and in vain.
        for _ in 0..2 {
            open(&mut sink, &stored).await;
            assert_eq!(keys_in(&path), delivered);
            assert!(sink.write(&Delivery::whole(batch.clone())).await.is_err());
        }
        fs::remove_file(&filler).unwrap();
        open(&mut sink, &stored).await;
        deliver(&mut sink, std::slice::from_ref(&batch)).await;
        delivered.extend(keys(&batch));
        assert_eq!(keys_in(&path), delivered);
    });
    println!("went on");
}

#[test]
fn a_full_disk_tears_nothing_and_goes_on() {
    let Some(wrapper) = child::small_disk() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut command = child::child(&wrapper, "sinks::file::child_fills_the_disk", dir.path());
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("went on"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
