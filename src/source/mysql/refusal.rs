//! What a server says of a log that it cannot read, or not read on: error 1236.
//!
//! Invariants:
//! - The number says nothing but that; why, is in its text, which is not translated. What nobody knows is tried again.

use super::error::{number, server_error};
use crate::error::Error;
use crate::record::BinlogPosition;

/// The text of such an error, in lower case.
fn said(error: &Error) -> Option<String> {
    let answer = server_error(error).filter(|answer| answer.code == number::FATAL_ERROR_READING_BINLOG)?;
    Some(answer.message.to_ascii_lowercase())
}

/// Whether a dump's end says that the file is cut.
pub fn is_cut(error: &Error) -> bool {
    said(error).is_some_and(|text| text.contains("truncated in the middle of event"))
}

/// What ended a dump, or refused one from there on, for people.
pub fn explained(error: Error, from: &BinlogPosition) -> Error {
    let Some(text) = said(&error) else { return error };
    let has = |part: &str| text.contains(part);
    if has("same server_uuid") || has("same server_id") || has("same server-id") || has("same server id") {
        return Error::transient("another replica with our server id or UUID has asked for the log")
            .because(error)
            .remedy("give every consumer a server_id of its own, or leave it out to have a free one chosen");
    }
    // "…purged required binary logs…", "could not find first log file…", "…purged gtids…", "not in the master's binlog".
    if has("purged") || has("could not find first log") || has("not in the master's binlog") || has("not found in") {
        return Error::lost(format!("the server has purged its log behind {from}"))
            .because(error)
            .remedy("keep logs longer (binlog_expire_logs_seconds), and on_lost_position: resnapshot starts over");
    }
    if has("position > file size") || has("impossible position") {
        return Error::lost(format!("{from} is behind the end of the server's log: it was restored, or lost its end"))
            .because(error);
    }
    if has("could not open log file")
        || has("could not find next log")
        || has("the replica has more gtids")
        || has("slave has more gtids")
    {
        return Error::lost(format!("the server's log no longer continues {from}: it was reset or restored"))
            .because(error);
    }
    if has("max_allowed_packet") {
        return Error::config(format!("the server's log holds an event behind {from} that is too long to be sent"))
            .because(error)
            .remedy("SET GLOBAL max_allowed_packet = 1073741824");
    }
    if has("bogus data") || has("crc check") || has("decryption") {
        return Error::data(format!("the server's log is damaged behind {from}")).because(error).remedy(
            "see what mysqlbinlog --verify-binlog-checksum says of the file; what is missing cannot be told: read the \
             tables anew (on_lost_position: resnapshot, or `walbrook offsets reset` and a start)",
        );
    }
    // A log that is written over while it is read, a file at its end: the next connection sees more.
    Error::transient(format!("the server cannot read its log on from {from}")).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;
    use crate::source::mysql::error::MySqlError;

    fn error(code: u16, message: &str) -> Error {
        MySqlError { code, state: String::new(), message: message.to_owned() }.into_error("reading")
    }

    #[test]
    fn only_one_message_says_that_a_file_is_cut() {
        assert!(is_cut(&error(
            1236,
            "binlog truncated in the middle of event; consider out of disk space on master; the"
        )));
        assert!(!is_cut(&error(1236, "bogus data in log event")));
        assert!(!is_cut(&error(1045, "truncated in the middle of event")));
    }

    #[test]
    fn each_text_has_its_class() {
        let from: BinlogPosition = "b.000001:4".parse().unwrap();
        for (text, class) in [
            ("A replica with the same server_uuid/server_id as this replica has connected", Class::Transient),
            ("Could not find first log file name in binary log index file", Class::Lost),
            ("Client requested source to start replication from position > file size", Class::Lost),
            ("Slave has more GTIDs than the master has", Class::Lost),
            ("log event entry exceeded max_allowed_packet; Increase max_allowed_packet on source", Class::Config),
            ("bogus data in log event", Class::Data),
            ("event read from binlog did not pass crc check", Class::Data),
            ("something new", Class::Transient),
        ] {
            let explained = explained(error(1236, text), &from);
            assert_eq!(explained.class(), class, "{text}");
            assert!(format!("{explained:?}").contains(text), "{explained:?}");
        }
        assert_eq!(explained(error(1045, "purged"), &from).class(), Class::Config, "it is another error");
    }
}
