//! The servers of the other tests are what those take them for.

use std::process::Stdio;

use crate::support::walbrook;

mod mysql;
mod postgres;

#[test]
fn the_program_is_built() {
    let status = walbrook().arg("--version").stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
}
