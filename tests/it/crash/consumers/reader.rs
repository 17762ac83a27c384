//! A consumer: `walbrook subscribe`, whose lines are checked as they come.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::stamped::Seen;
use crate::crash::ended_within;
use crate::source::PATIENCE;
use crate::support::walbrook;

/// What is read and who reads it, over all processes that were this consumer.
pub struct Reader {
    pub name: &'static str,
    /// Whether it takes its place back from a process that the sidecar does not know to be dead.
    takes_over: bool,
    from: &'static str,
    address: String,
    dir: PathBuf,
    checked: Arc<Mutex<Checked>>,
    /// The last transaction that it has whole.
    pub whole: Arc<AtomicI64>,
    /// While it is so nothing of its lines is read: it cannot write, and reads no further.
    stopped: Arc<AtomicBool>,
    process: Option<(Child, JoinHandle<()>)>,
    started: u32,
    pub kills: u32,
}

#[derive(Default)]
struct Checked {
    seen: Seen,
    wrong: Option<String>,
}

fn locked(checked: &Mutex<Checked>) -> MutexGuard<'_, Checked> {
    checked.lock().expect("no reader panics")
}

impl Reader {
    pub fn start(name: &'static str, from: &'static str, address: &str, dir: &Path) -> Reader {
        let mut reader = Reader {
            name,
            takes_over: name.len().is_multiple_of(2),
            from,
            address: address.to_owned(),
            dir: dir.to_owned(),
            checked: Arc::default(),
            whole: Arc::default(),
            stopped: Arc::default(),
            process: None,
            started: 0,
            kills: 0,
        };
        reader.start_again();
        reader
    }

    pub fn start_again(&mut self) {
        self.started += 1;
        let log = File::create(self.log_file()).expect("a log");
        let mut command = walbrook();
        command.args(["subscribe", "--wait", &self.address, "--consumer", self.name, "--from", self.from]);
        command.args(self.takes_over.then_some("--takeover"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("walbrook starts");
        let mut lines = BufReader::with_capacity(1 << 16, child.stdout.take().expect("stdout"));
        let (checked, whole, stopped) = (self.checked.clone(), self.whole.clone(), self.stopped.clone());
        let reading = std::thread::spawn(move || {
            let mut line = String::new();
            // Half a line at the end of what a killed process has written is no line.
            while lines.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
                while stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                let mut checked = locked(&checked);
                if checked.wrong.is_none()
                    && let Err(error) = checked.seen.line(line.trim_end())
                {
                    checked.wrong = Some(format!("{error}\nin {line}"));
                }
                whole.store(checked.seen.whole, Ordering::Relaxed);
                line.clear();
            }
        });
        self.process = Some((child, reading));
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join(format!("{}.{}.log", self.name, self.started))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Panics where a line was wrong, or the process has ended by itself.
    pub fn alive(&mut self) {
        self.right();
        if let Some((child, _)) = &mut self.process
            && let Some(status) = child.try_wait().expect("a status")
        {
            panic!("{} ended by itself with {status}:\n{}", self.name, self.log());
        }
    }

    pub fn right(&self) {
        if let Some(wrong) = &locked(&self.checked).wrong {
            panic!("{}: {wrong}\n{}", self.name, self.log());
        }
    }

    /// SIGKILL; what it had written before is read.
    pub fn kill(&mut self) {
        self.kills += 1;
        self.end();
    }

    fn end(&mut self) {
        self.reads(true);
        if let Some((mut child, reading)) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
            let _ = reading.join();
        }
    }

    /// Whether its lines are read: one whose are not stays connected, and alive.
    pub fn reads(&self, reads: bool) {
        self.stopped.store(!reads, Ordering::Relaxed);
    }

    /// Waits for an end of its own accord.
    pub fn ended(&mut self) -> ExitStatus {
        let (mut child, reading) = self.process.take().expect("a process");
        let Some(status) = ended_within(&mut child, PATIENCE) else {
            let _ = child.kill();
            panic!("{} does not end:\n{}", self.name, self.log());
        };
        reading.join().expect("its lines are read");
        self.right();
        status
    }

    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&locked(&self.checked).seen)
    }

    /// The last transaction that it has whole.
    pub fn whole(&self) -> i64 {
        self.whole.load(Ordering::Relaxed)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.end();
    }
}
