//! A file of the log that ends inside an event, because the server crashed while it wrote it.
//!
//! Invariants:
//! - MySQL cuts such a transaction off when it recovers, so that its dump meets whole ones alone. MariaDB leaves the file as
//!   it is, counts the transaction's GTID as logged and begins another file: a dump reads up to the cut and ends there with
//!   error 1236, whoever asks and however often.
//! - The stream goes on with the next file only where nothing that was logged can lie in between: the server has sent every
//!   whole event of the file, and the next one says that nothing was logged before it but what was seen and, at most, the
//!   transaction that is cut. That one has no end in the log, which is by what the server's recovery rolled it back.
//! - All else is an error that names the file and the offset, and is not tried again.

use std::sync::Arc;

use super::ask::Ask;
use super::retention::LogFile;
use super::server::{Flavor, Server};
use super::status;
use crate::error::{Error, Result};
use crate::record::Seen;
use crate::record::gtid::{Gtid, GtidSet};

/// What a stream knows where its dump ended.
#[derive(Clone, Debug)]
pub struct Stalled {
    pub file: Arc<str>,
    /// The end of the last whole event.
    pub offset: u64,
    /// The transaction that has not ended: where it begins, and its GTID.
    pub open: Option<(u64, Option<Gtid>)>,
    /// Everything that has ended; none where the stream's position says nothing in GTIDs.
    pub executed: Option<Arc<GtidSet>>,
}

/// How the stream goes on.
#[derive(Debug, PartialEq, Eq)]
pub struct Passage {
    /// The next file, from its beginning.
    pub file: String,
    /// The server counts the cut transaction as logged.
    pub counts_cut: bool,
}

/// Looks for the proof that nothing is missed by going on with the next file.
///
/// # Errors
/// Lost: there is none. Data: the file is the server's last. Those of a query.
pub async fn passage(ask: &mut dyn Ask, server: &Server, stalled: &Stalled) -> Result<Passage> {
    let files = status::files(ask, server).await?;
    let next = following(&files, stalled)?;
    let before = match server.flavor {
        Flavor::MySql if !server.uses_gtids() => None,
        _ => status::logged_before(ask, server, next).await?,
    };
    let executed = match (&stalled.executed, server.flavor) {
        (Some(executed), _) => Some(executed.clone()),
        (None, Flavor::MySql) => None,
        (None, Flavor::MariaDb) => {
            let end = stalled.open.as_ref().map_or(stalled.offset, |(start, _)| *start);
            match status::executed_at(ask, &stalled.file, end).await? {
                Seen::Executed(executed) => Some(executed),
                Seen::Nothing | Seen::Transaction(_) => None,
            }
        }
    };
    let (Some(before), Some(executed)) = (before, executed) else {
        return Err(unproven(
            stalled,
            next,
            "without GTIDs nobody can say whether more was logged before it".to_owned(),
        ));
    };
    // MySQL's recovery does not count what it cuts off.
    let cut = stalled.open.as_ref().and_then(|(_, gtid)| gtid.as_ref()).filter(|_| server.flavor == Flavor::MariaDb);
    match counts(&before, &executed, cut) {
        Some(counts_cut) => Ok(Passage { file: next.to_owned(), counts_cut }),
        None => Err(unproven(stalled, next, format!("{before} was logged before it, of which {executed} was read"))),
    }
}

/// The file behind the one that is cut.
fn following<'f>(files: &'f [LogFile], stalled: &Stalled) -> Result<&'f str> {
    let at = files.iter().position(|file| *file.name == *stalled.file);
    match at.map(|at| files.get(at + 1)) {
        Some(Some(next)) => Ok(&next.name),
        Some(None) => Err(Error::data(format!("{}, and it is the server's last", ends(stalled))).remedy(
            "see to the server's disk; FLUSH BINARY LOGS begins another file, behind which walbrook goes on where nothing \
             is missing",
        )),
        None => Err(Error::lost(format!("{}, and the server has it no longer", ends(stalled)))),
    }
}

/// Whether `before` is what was executed, and perhaps the transaction that is cut: `Some(true)` with it. None: there is more.
fn counts(before: &GtidSet, executed: &GtidSet, cut: Option<&Gtid>) -> Option<bool> {
    if executed.contains_all(before) {
        return Some(false);
    }
    let mut with_cut = executed.clone();
    with_cut.insert(cut?);
    with_cut.contains_all(before).then_some(true)
}

fn ends(stalled: &Stalled) -> String {
    format!("{} ends inside the event at {}, as the server says", stalled.file, stalled.offset)
}

fn unproven(stalled: &Stalled, next: &str, why: String) -> Error {
    Error::lost(format!("{}; the log goes on in {next}, and {why}", ends(stalled))).remedy(format!(
        "what is missing cannot be told: read the tables anew (on_lost_position: resnapshot, or `walbrook offsets reset` \
         and a start); or, where it is known that nothing is, `walbrook offsets set {next}:4`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;

    fn set(text: &str) -> GtidSet {
        text.parse().unwrap()
    }

    #[test]
    fn the_next_file_says_whether_something_is_missing() {
        let cut: Gtid = "0-1-4".parse().unwrap();
        assert_eq!(counts(&set("0-1-3"), &set("0-1-3"), None), Some(false));
        assert_eq!(counts(&set("0-1-4"), &set("0-1-3"), Some(&cut)), Some(true));
        assert_eq!(counts(&set("0-1-3"), &set("0-1-3"), Some(&cut)), Some(false), "it was cut in its first event");
        assert_eq!(counts(&set("0-1-4"), &set("0-1-3"), None), None);
        assert_eq!(counts(&set("0-1-5"), &set("0-1-3"), Some(&cut)), None, "one behind it is missing");
        assert_eq!(counts(&set("0-1-4,1-1-1"), &set("0-1-3"), Some(&cut)), None, "and one of another domain");
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        assert_eq!(counts(&set(&format!("{uuid}:1-4")), &set(&format!("{uuid}:1-4")), None), Some(false));
        assert_eq!(counts(&set(&format!("{uuid}:1-5")), &set(&format!("{uuid}:1-4")), None), None);
    }

    #[test]
    fn the_file_behind_it() {
        let files = ["b.000001", "b.000002"].map(|name| LogFile { name: name.to_owned(), bytes: 9 });
        let at = |file: &str| Stalled { file: file.into(), offset: 1259, open: None, executed: None };
        assert_eq!(following(&files, &at("b.000001")).unwrap(), "b.000002");
        let last = following(&files, &at("b.000002")).unwrap_err();
        assert_eq!(last.class(), Class::Data);
        assert!(last.to_string().contains("b.000002 ends inside the event at 1259"), "{last}");
        assert_eq!(following(&files, &at("b.000000")).unwrap_err().class(), Class::Lost);
    }
}
