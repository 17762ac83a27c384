//! What every integration test stands on: servers, databases, the program under test, skipping.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;

mod instance;
pub mod mysql;
mod postgres;
pub mod proxy;

pub use instance::free_port;
pub use postgres::{Database, Server, Version};

/// The program under test (another build of it, where `WALBROOK` names one), with nothing of the caller's environment that
/// would configure it.
pub fn walbrook() -> Command {
    let program = std::env::var_os("WALBROOK").unwrap_or_else(|| env!("CARGO_BIN_EXE_walbrook").into());
    without_settings(Command::new(program))
}

/// A file of the project, by its path below the top of the tree.
pub fn project(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Says loudly that something was not tested: on stderr, and in the file `$WALBROOK_SKIPS`, from which `tests/run`
/// counts. The caller returns afterwards.
pub fn skip(reason: &str) {
    let line = format!("SKIP: {reason}\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("WALBROOK_SKIPS") {
        let opened = OpenOptions::new().create(true).append(true).open(path);
        opened.and_then(|mut file| file.write_all(line.as_bytes())).expect("the file $WALBROOK_SKIPS takes a line");
    }
}

/// What ends somebody whom a scope waits for: done also where a test fails, which would never come to its end otherwise.
pub struct AtEnd<F: Fn()>(pub F);

impl<F: Fn()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let configures = ["PG", "MYSQL", "WALBROOK_", "SOURCE_", "SINK_"];
        if name.to_str().is_some_and(|name| configures.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command
}
