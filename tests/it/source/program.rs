//! The program under test, running, and what it has printed.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Subject;
use crate::support::walbrook;

/// Far more than anything here takes, also on a machine that is four times slower and does much else.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A running walbrook whose lines are collected. Dropping it kills it.
pub struct Program {
    child: Child,
    lines: Arc<Collected>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Collected {
    text: Mutex<Text>,
    more: Condvar,
}

#[derive(Default)]
struct Text {
    records: Vec<Value>,
    log: String,
}

/// How a program ended, and all it has said.
pub struct Ended {
    pub status: ExitStatus,
    pub records: Vec<Value>,
    pub log: String,
}

impl Ended {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The records of a run that went well.
    #[track_caller]
    pub fn ok(self) -> Vec<Value> {
        assert_eq!(self.code(), Some(0), "{}\n{:#?}", self.log, brief(&self.records));
        self.records
    }

    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code(), Some(code), "{}\n{:#?}", self.log, brief(&self.records));
        self.log
    }
}

impl Program {
    pub fn start(command: Command) -> Program {
        let (read, gate) = mpsc::channel();
        read.send(()).expect("the gate is there");
        Self::start_unread(command, gate)
    }

    /// Its output is not read before `gate` has received something (or has no sender any more).
    pub fn start_unread(mut command: Command, gate: mpsc::Receiver<()>) -> Program {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let lines = Arc::new(Collected::default());
        let (stdout, mut stderr) = (child.stdout.take().expect("stdout"), child.stderr.take().expect("stderr"));
        let (out, err) = (lines.clone(), lines.clone());
        let read_records = std::thread::spawn(move || {
            let _ = gate.recv();
            for line in BufReader::new(stdout).split(b'\n') {
                let line = line.expect("its stdout");
                let record = serde_json::from_slice(&line);
                let record =
                    record.unwrap_or_else(|e| Value::String(format!("{e}: {}", String::from_utf8_lossy(&line))));
                out.text.lock().unwrap().records.push(record);
                out.more.notify_all();
            }
        });
        let read_log = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut bytes) {
                err.text.lock().unwrap().log.push_str(&String::from_utf8_lossy(&bytes[..count]));
                err.more.notify_all();
            }
        });
        Program { child, lines, readers: vec![read_records, read_log] }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has had, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("a process that runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a high-water mark");
        peak.trim().trim_end_matches("kB").trim().parse().expect("a number")
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.lines.text.lock().unwrap().log.clone()
    }

    /// Waits until enough has been said; gives what has been said.
    #[track_caller]
    fn wait_until(&self, what: &str, mut enough: impl FnMut(&[Value], &str) -> bool) -> MutexGuard<'_, Text> {
        let deadline = Instant::now() + PATIENCE;
        let mut text = self.lines.text.lock().unwrap();
        while !enough(&text.records, &text.log) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {what} in {PATIENCE:?}: {:#?}\n{}", brief(&text.records), text.log);
            text = self.lines.more.wait_timeout(text, left).unwrap().0;
        }
        text
    }

    /// Gives the records so far, all of them: not to be asked again and again.
    #[track_caller]
    pub fn wait_for(&self, records: usize) -> Vec<Value> {
        self.wait_until(&format!("{records} records"), |found, _| found.len() >= records).records.clone()
    }

    /// Takes every record there is and will be, each once, until one of them is enough.
    #[track_caller]
    pub fn wait_until_one(&self, what: &str, mut enough: impl FnMut(&Value) -> bool) {
        let mut seen = 0;
        drop(self.wait_until(what, |found, _| {
            let new = &found[seen..];
            seen = found.len();
            new.iter().any(&mut enough)
        }));
    }

    /// Waits for a record by what [`brief`] says of it.
    #[track_caller]
    pub fn wait_for_row(&self, row: &str) {
        self.wait_until_one(row, |record| brief(std::slice::from_ref(record))[0] == row);
    }

    /// Waits until the log says this.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        drop(self.wait_until(&format!("log of {text:?}"), |_, log| log.contains(text)));
    }

    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits for the end.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("its status") {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    let _ = self.child.kill();
                    let text = self.lines.text.lock().unwrap();
                    panic!("it did not end in {PATIENCE:?}: {:#?}\n{}", brief(&text.records), text.log);
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        for reader in self.readers.drain(..) {
            reader.join().expect("its output is read");
        }
        let text = std::mem::take(&mut *self.lines.text.lock().unwrap());
        Ended { status, records: text.records, log: text.log }
    }

    /// Asks it to stop as soon as it listens to that, and waits for the end.
    #[track_caller]
    pub fn stop(self) -> Ended {
        eventually("it listens to signals", || self.listens());
        self.signal("TERM");
        self.end()
    }

    /// Whether it catches SIGTERM, or has ended already.
    fn listens(&self) -> bool {
        const TERM: u32 = 15;
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("a process");
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).expect("a field").trim();
        let caught = u64::from_str_radix(field("SigCgt:"), 16).expect("a set of signals");
        caught >> (TERM - 1) & 1 == 1 || field("State:").starts_with('Z')
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &process.to_string()]).status().expect("kill runs");
    assert!(sent.success(), "no process {process} to send {name} to");
}

/// Polls until it is so.
#[track_caller]
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `walbrook tail` without a state directory.
pub fn tail(subject: &dyn Subject, arguments: &[&str]) -> Program {
    let mut command = walbrook();
    command.arg("tail").arg(subject.url()).args(arguments);
    if !arguments.contains(&"--tables") {
        command.args(subject.all_tables());
    }
    Program::start(command)
}

/// `walbrook run` to stdout, which goes on from where the folder says. `source` and `top`: further keys of the
/// configuration, with commas and line by line.
pub fn run(subject: &dyn Subject, url: &str, dir: &Path, source: &str, top: &str) -> Program {
    let mut keys = vec![format!("url: '{url}'")];
    let named = subject.stream_arguments();
    keys.extend(named.chunks(2).map(|pair| format!("{}: '{}'", pair[0].trim_start_matches("--"), pair[1])));
    keys.extend(subject.all_tables().chunks(2).map(|pair| format!("tables: ['{}']", pair[1])));
    keys.extend((!source.is_empty()).then(|| source.to_owned()));
    let yaml = format!(
        "source: {{ {} }}\nstate_dir: {}\n{top}\nsinks: [ {{ name: out, type: stdout }} ]\n",
        keys.join(", "),
        dir.join("state").display()
    );
    let config = dir.join("walbrook.yaml");
    std::fs::write(&config, yaml).expect("a file for the configuration");
    let mut command = walbrook();
    command.args(["run", "--config", config.to_str().expect("UTF-8")]);
    Program::start(command)
}

/// A stream that goes on from run to run: `walbrook tail` with a state directory.
pub struct Stream<'s> {
    subject: &'s dyn Subject,
    arguments: Vec<String>,
    state: tempfile::TempDir,
}

impl<'s> Stream<'s> {
    /// Starts from now on: what is there already is not delivered.
    pub fn new(subject: &'s dyn Subject, arguments: &[&str]) -> Self {
        let stream = Self::unstarted(subject, arguments);
        let first = stream.run(&["--snapshot", "never", "--until", "current"]).ok();
        assert!(first.is_empty(), "{first:#?}");
        stream
    }

    /// Nothing has run yet: the first run begins with a snapshot, unless its arguments say otherwise.
    pub fn unstarted(subject: &'s dyn Subject, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder for its state");
        let mut all = vec!["--state-dir".to_owned(), dir.path().join("state").to_str().expect("UTF-8").to_owned()];
        all.extend(subject.stream_arguments());
        if !arguments.contains(&"--tables") {
            all.extend(subject.all_tables());
        }
        all.extend(arguments.iter().map(|argument| argument.to_string()));
        Stream { subject, arguments: all, state: dir }
    }

    /// Where its positions are stored.
    pub fn state_dir(&self) -> PathBuf {
        self.state.path().join("state")
    }

    pub fn command(&self, url: &str, arguments: &[&str]) -> Command {
        let mut command = walbrook();
        command.arg("tail").arg(url).args(&self.arguments).args(arguments);
        command
    }

    pub fn start(&self, arguments: &[&str]) -> Program {
        Program::start(self.command(&self.subject.url(), arguments))
    }

    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).end()
    }

    /// Everything committed since the last run.
    #[track_caller]
    pub fn changes(&self) -> Vec<Value> {
        let records = self.run(&["--until", "current"]).ok();
        assert_in_order(&records);
        records
    }
}

/// Transactions in commit order, records of each in log order, none twice.
#[track_caller]
pub fn assert_in_order(records: &[Value]) {
    let key = |record: &Value| (place(&record["pos"]), record["ord"].as_u64().expect("an ordinal"));
    for pair in records.windows(2) {
        let (before, after) = (key(&pair[0]), key(&pair[1]));
        // A schema change carries the ordinal of the record it stands before.
        let in_order = if pair[0]["op"] == "s" { before <= after } else { before < after };
        assert!(in_order, "{before:?} before {after:?}:\n{}\n{}", pair[0], pair[1]);
    }
}

/// Where a position is in the log: a Postgres LSN as a number (`0/16B3748`), or the number of a MySQL file and the offset
/// in it (`binlog.000003:1234`, with what was executed behind a slash, or its own GTID behind a #).
#[track_caller]
pub fn place(text: &Value) -> (u64, u64) {
    let Some((file, behind)) = text.as_str().and_then(|text| text.split_once(':')) else { return (0, lsn(text)) };
    let number = file.rsplit_once('.').expect("a file's number").1;
    let offset = behind.split_once(['/', '#']).map_or(behind, |(offset, _)| offset);
    (number.parse().expect("a file's number"), offset.parse().expect("an offset"))
}

/// A position as a number.
#[track_caller]
pub fn lsn(text: &Value) -> u64 {
    let text = text.as_str().unwrap_or_else(|| panic!("no position: {text}"));
    let (high, low) = text.split_once('/').expect("an LSN");
    u64::from_str_radix(high, 16).expect("hex") << 32 | u64::from_str_radix(low, 16).expect("hex")
}

/// Each record in short: `c t {"id":1}`, `u t {"id":1} -> {"id":2}`, `d t {"id":2}`, `t t`.
pub fn brief(records: &[Value]) -> Vec<String> {
    let part = |record: &Value, field: &str| match &record[field] {
        Value::Null => String::new(),
        value => value.to_string().chars().take(200).collect(),
    };
    let one = |record: &Value| {
        let op = record["op"].as_str().unwrap_or("?");
        let table = record["table"].as_str().unwrap_or_default();
        let unchanged = match &record["unchanged"] {
            Value::Null => String::new(),
            names => format!(" unchanged {names}"),
        };
        match op {
            "b" | "e" => op.to_owned(),
            "c" | "r" => format!("{op} {table} {}", part(record, "after")),
            "u" if record["before"].is_null() => format!("u {table} {}{unchanged}", part(record, "after")),
            "u" => format!("u {table} {} -> {}{unchanged}", part(record, "before"), part(record, "after")),
            "d" => format!("d {table} {}", part(record, "before")),
            "t" => format!("t {table}"),
            "s" => {
                let columns = record["columns"].as_array().into_iter().flatten();
                let columns: Vec<_> = columns
                    .map(|c| format!("{} {}", c["name"].as_str().unwrap(), c["type"].as_str().unwrap()))
                    .collect();
                format!("s {table} v{} ({})", record["version"], columns.join(", "))
            }
            "m" => format!(
                "m {} {} {}",
                record["prefix"].as_str().unwrap(),
                part(record, "content"),
                record["transactional"]
            ),
            _ => record.to_string(),
        }
    };
    records.iter().map(one).collect()
}
