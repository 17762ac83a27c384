//! This test program, run again as a child process: to be killed, or to live on a disk that fills.

use std::path::Path;
use std::process::{Command, Stdio};

/// The child runs one ignored test, with the folder it works in as `WALBROOK_TEST_DIR`. `wrapper`: a command before it.
pub fn child(wrapper: &[&str], test: &str, dir: &Path) -> Command {
    let mut command = wrapped(wrapper, std::env::current_exe().unwrap().to_str().unwrap());
    command.args(["--exact", test, "--nocapture", "--ignored", "--test-threads", "1"]).env("WALBROOK_TEST_DIR", dir);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn wrapped(wrapper: &[&str], program: &str) -> Command {
    let Some((first, rest)) = wrapper.split_first() else { return Command::new(program) };
    let mut command = Command::new(first);
    command.args(rest).arg(program);
    command
}

/// The folder, in a child; none when its test is run by hand.
pub fn dir() -> Option<std::path::PathBuf> {
    std::env::var_os("WALBROOK_TEST_DIR").map(Into::into)
}

/// The wrapper that gives a child a file system of 2 MiB for its folder, in a mount namespace of its own; none where
/// that is not permitted.
pub fn small_disk() -> Option<Vec<&'static str>> {
    let script = "mount -t tmpfs -o size=2m none \"$WALBROOK_TEST_DIR\" && exec \"$0\" \"$@\"";
    let wrappers = [vec!["unshare", "-m", "sh", "-c", script], vec!["unshare", "-rm", "sh", "-c", script]];
    let found = wrappers.into_iter().find(|wrapper| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = wrapped(wrapper, "true");
        command.env("WALBROOK_TEST_DIR", dir.path()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    });
    if found.is_none() {
        eprintln!("no mount namespace can be had here: a full disk is not tested");
    }
    found
}
