//! A private server of one of the scripts below `tests/env`.
//!
//! It never outlives the test process, however that ends: a watchdog holds the read end of a pipe whose only write end
//! is ours, and stops the server and removes its folder when the pipe closes.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{project, without_settings};

/// One running (or stopped) server; dropping it stops it and removes its folder.
pub struct Instance {
    kind: Kind,
    version: &'static str,
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    settings: Vec<String>,
    watchdog: Child,
}

/// What a script starts.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Below the top of the tree.
    pub script: &'static str,
    /// The script's word for an end as in a crash.
    pub crash: &'static str,
}

impl Instance {
    /// `Err` where the version cannot be had; a version that can be had but does not start is a failed test.
    pub fn create(kind: Kind, version: &'static str, settings: &[&str]) -> Result<Instance, String> {
        let bin = run(kind.script, &["bindir", version])?;
        Ok(Self::launch(kind, version, bin.into(), folder(), settings))
    }

    /// Another one of the same programs, from what is in the folder.
    pub fn beside(&self, dir: PathBuf, settings: &[&str]) -> Instance {
        Self::launch(self.kind, self.version, self.bin.clone(), dir, settings)
    }

    /// Another one of the same programs, new.
    pub fn another(&self, settings: &[&str]) -> Instance {
        self.beside(folder(), settings)
    }

    /// Starts what there is in the folder, or what is made there.
    fn launch(kind: Kind, version: &'static str, bin: PathBuf, dir: PathBuf, settings: &[&str]) -> Instance {
        // In a process group of its own: Ctrl-C on a terminal ends the tests and must not end the watchdog.
        let watchdog = Command::new("bash")
            .args(["-c", r#"cat; "$0" stop "$1" "$2" "$3"; rm -rf "$2""#])
            .args([project(kind.script).as_os_str(), version.as_ref(), dir.as_os_str(), kind.crash.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("bash starts");
        let settings = settings.iter().map(|setting| setting.to_string()).collect();
        let mut instance = Instance { kind, version, bin, dir, port: 0, settings, watchdog };
        // Whoever takes the port between our look and the server's start makes the start fail: look again.
        for attempt in 1.. {
            instance.port = free_port();
            match instance.try_start() {
                Ok(()) => break,
                Err(reason) if attempt == 5 => panic!("{reason}"),
                Err(_) => {}
            }
        }
        instance
    }

    fn try_start(&self) -> Result<(), String> {
        let port = self.port.to_string();
        let mut arguments = vec!["start", self.version, self.dir.to_str().expect("a plain path"), &port];
        arguments.extend(self.settings.iter().map(String::as_str));
        run(self.kind.script, &arguments).map(drop)
    }

    /// Starts a stopped server again, on the same port.
    pub fn start(&self) {
        self.try_start().unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// Stops the server; `mode` is the script's.
    pub fn stop(&self, mode: &str) {
        let dir = self.dir.to_str().expect("a plain path");
        let stopped = run(self.kind.script, &["stop", self.version, dir, mode]);
        stopped.unwrap_or_else(|reason| panic!("{reason}"));
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A file of the server's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// One of the server's own programs.
    pub fn program(&self, name: &str) -> Command {
        without_settings(Command::new(self.bin.join(name)))
    }

    /// The folder of the server's programs.
    pub fn bin(&self) -> &Path {
        &self.bin
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// A new folder for a server. Whoever starts one there removes it.
pub fn folder() -> PathBuf {
    tempfile::Builder::new().prefix("walbrook-db").tempdir().expect("a folder for a server").keep()
}

/// Runs a script; gives what it prints, or the one line that says why not.
fn run(script: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(project(script)).args(arguments).stdin(Stdio::null()).output().expect("the script runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A port nobody listens on, below the range (32768 and up) from which clients' ports are given.
pub fn free_port() -> u16 {
    loop {
        let port = rand::random_range(20_000..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// What a program says of SQL on its standard input: its output without the last line's end, or its errors.
pub fn answer(mut program: Command, sql: &str) -> Result<String, String> {
    use std::io::Write;
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().expect("the client starts");
    let mut stdin = child.stdin.take().expect("the client's stdin");
    let output = std::thread::scope(|scope| {
        // Beside the reading, or a long script and a long answer wait for each other. The client may also end early.
        scope.spawn(move || stdin.write_all(sql.as_bytes()));
        child.wait_with_output().expect("the client ends")
    });
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim_end().to_string());
    }
    let mut text = String::from_utf8(output.stdout).expect("the client answers in UTF-8");
    text.truncate(text.trim_end_matches('\n').len());
    Ok(text)
}
