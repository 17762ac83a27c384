//! Memory that only the start needed, given back.
//!
//! Most of what an idle process has in memory is code: the kernel maps the 64 KiB around every page of a program that is
//! used once, so that reading the arguments and the configuration, opening the store and connecting leave nearly all of
//! the program mapped (11 of 13 MiB), and what goes on afterwards uses half of that. What is let go of here and used again
//! comes back by a page fault, from the page cache: some hundred of them at some microseconds each.
//!
//! Invariants:
//! - Only pages that are what their file holds are let go of: code, which nothing writes to.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::flow::{Phase, Progress};

/// How often it is looked whether the start is over: it takes some hundred milliseconds, and nothing waits for this.
const LOOK: Duration = Duration::from_millis(100);

/// Lets go of all code; what is used next is mapped again.
#[cfg(target_os = "linux")]
fn give_back() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for code in code(&maps) {
        // SAFETY: `code` gives mappings of files that are private, executable and not writable. Nothing was written to them,
        // so that the next access to a page that is let go of, by any thread at any time, finds the same bytes as before.
        // Where the kernel refuses (memory that is locked) they stay.
        unsafe { libc::madvise(code.start as *mut libc::c_void, code.len(), libc::MADV_DONTNEED) };
    }
}

#[cfg(not(target_os = "linux"))]
fn give_back() {}

/// Gives back what only the start needed, once it is over.
pub async fn after_start(progress: Arc<Progress>) {
    while matches!(progress.phase(), Phase::Starting | Phase::Snapshot) {
        tokio::time::sleep(LOOK).await;
    }
    give_back();
}

/// The mappings that are code of files, of lines `START-END r-xp OFFSET DEVICE INODE PATH`.
fn code(maps: &str) -> impl Iterator<Item = Range<usize>> {
    maps.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let (permissions, path) = (words.next()?, words.nth(3)?);
        // A file in memory may have been written by this process.
        if permissions != "r-xp" || !path.starts_with('/') || path.starts_with("/memfd:") {
            return None;
        }
        Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_is_executable_private_and_of_a_file() {
        let maps = "\
55d0c0a00000-55d0c0b00000 r--p 00000000 fe:00 131 /usr/local/bin/walbrook
55d0c0b00000-55d0c1800000 r-xp 00100000 fe:00 131 /usr/local/bin/walbrook
55d0c1800000-55d0c1880000 rw-p 00e00000 fe:00 131 /usr/local/bin/walbrook
55d0c2000000-55d0c2100000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000001000 rwxp 00000000 fe:00 9 /tmp/written
7f0000001000-7f0000002000 r-xp 00000000 00:01 5 /memfd:jit (deleted)
7f0000002000-7f0000003000 r-xs 00000000 fe:00 7 /tmp/shared
7f0000003000-7f0000004000 r-xp 00000000 00:00 0
7f0000028000-7f0000200000 r-xp 00028000 fe:00 77 /usr/lib/x86_64-linux-gnu/libc.so.6
7ffd1c5f0000-7ffd1c5f2000 r-xp 00000000 00:00 0 [vdso]
";
        let found: Vec<_> = code(maps).collect();
        assert_eq!(found, [0x55d0c0b00000..0x55d0c1800000, 0x7f0000028000..0x7f0000200000]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_was_given_back_is_there_when_it_is_used() {
        let here = what_was_given_back_is_there_when_it_is_used as fn() as usize;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(code(&maps).any(|code| code.contains(&here)), "{maps}");
        give_back();
        assert_eq!("17".parse::<u8>(), Ok(17));
    }
}
