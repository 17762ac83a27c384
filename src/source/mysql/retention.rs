//! Whether the server's logs still cover a stored position: proven, or said what is missing.
//!
//! Invariants:
//! - [`verdict`] is pure. *Valid* means: this server has executed everything the stored position has seen, and its logs
//!   hold everything else it has executed. Whatever cannot be proven is *lost*.
//! - A file and an offset are looked up on the server they are of alone. Another server is as good where GTIDs prove it,
//!   and lost where there are none.
//! - A log that was reset has files of the same names and may have GTIDs of the same numbers: that the stored file is the
//!   same one is proven by when it was begun, whatever GTIDs say.

use crate::record::gtid::{GtidSet, MariaDbGtid, MariaDbGtids, MySqlGtids};
use crate::record::{BinlogPosition, Lineage, Position, Seen, file_number};
use crate::source::{Gap, Verdict};

use super::place::FIRST_EVENT;
use super::server::identity_number;

/// What the server says of itself and of its logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// `mysql` or `mariadb`.
    pub kind: String,
    /// What the server calls itself: [`Lineage::system`].
    pub system: String,
    /// The end of the log.
    pub tip: BinlogPosition,
    /// The files that are there, oldest first.
    pub files: Vec<LogFile>,
    /// When the stored position's file was begun; none where it is not there.
    pub file_created_unix_s: Option<u32>,
    pub gtids: Gtids,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub name: String,
    pub bytes: u64,
}

/// What the server says in GTIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gtids {
    /// `gtid_mode` is not ON.
    Off,
    MySql {
        /// `gtid_executed`.
        executed: MySqlGtids,
        /// `gtid_purged`: executed, and in no file.
        purged: MySqlGtids,
    },
    MariaDb {
        /// `gtid_binlog_state`: the last of every domain and server in the log; within a domain the last one logged is the
        /// last.
        state: Vec<MariaDbGtid>,
        /// What was logged before the oldest file: its GTID_LIST, in the same order.
        before_oldest: Vec<MariaDbGtid>,
        /// `gtid_slave_pos`: what it applied as a replica, logged or not.
        applied: Vec<MariaDbGtid>,
    },
}

/// Whether everything from `position` on, stored under `stored`, will still come from the server as observed.
pub fn verdict(stored: &Lineage, position: &BinlogPosition, observed: &Observed) -> Verdict {
    match missing(stored, position, observed) {
        None => Verdict::Valid,
        Some(Missing { to, bytes, why }) => {
            let at = |position: BinlogPosition| Position::MySql(position.into());
            Verdict::Lost(Gap { from: at(position.clone()), to: to.map(at), bytes, why })
        }
    }
}

struct Missing {
    to: Option<BinlogPosition>,
    bytes: Option<u64>,
    why: String,
}

impl Missing {
    fn why(why: String) -> Self {
        Missing { to: None, bytes: None, why }
    }
}

fn missing(stored: &Lineage, position: &BinlogPosition, observed: &Observed) -> Option<Missing> {
    if stored.kind != observed.kind {
        return Some(Missing::why(format!("another kind of server: {} instead of {}", observed.kind, stored.kind)));
    }
    // A position a person wrote says no server: it is of the one the store knows.
    let same_server = match position.server {
        0 => stored.system == observed.system,
        number => number == identity_number(&observed.system),
    };
    let in_files = || files(position, observed);
    let elsewhere = || {
        let Observed { system, .. } = observed;
        format!("another server: {system} instead of {}", stored.system)
    };
    match (&position.seen, &observed.gtids) {
        (Seen::Executed(set), Gtids::MySql { executed, purged }) => {
            let GtidSet::MySql(set) = &**set else {
                return Some(Missing::why("the stored GTIDs are MariaDB's, the server is MySQL".to_owned()));
            };
            let another = if same_server { String::new() } else { elsewhere() + "; " };
            let file = if same_server { replaced(position, observed) } else { None };
            both(file, mysql(set, executed, purged, observed, &another))
        }
        (Seen::Executed(set), Gtids::MariaDb { state, before_oldest, applied }) => {
            let GtidSet::MariaDb(set) = &**set else {
                return Some(Missing::why("the stored GTIDs are MySQL's, the server is MariaDB".to_owned()));
            };
            let another = if same_server { String::new() } else { elsewhere() + "; " };
            let file = if same_server { replaced(position, observed) } else { None };
            both(file, mariadb(set, state, before_oldest, applied, observed, &another))
        }
        // Without GTIDs on one of the sides only the file is left.
        _ if same_server && !position.file.is_empty() => in_files(),
        (Seen::Executed(_), Gtids::Off) => Some(Missing::why(format!(
            "{}GTIDs are switched off (gtid_mode): a position in GTIDs cannot be found",
            if same_server { String::new() } else { elsewhere() + ", and there " }
        ))),
        _ if same_server => Some(Missing::why("the stored position names neither a file nor GTIDs".to_owned())),
        _ => Some(Missing::why(format!("{}, and without GTIDs a position means nothing there", elsewhere()))),
    }
}

/// What files say, and what GTIDs do.
fn both(file: Option<Missing>, gtids: Option<Missing>) -> Option<Missing> {
    match (file, gtids) {
        (Some(file), Some(gtids)) => Some(Missing { why: format!("{}; {}", file.why, gtids.why), ..file }),
        (file, gtids) => file.or(gtids),
    }
}

/// By the stored file alone, on the server it is of.
fn files(position: &BinlogPosition, observed: &Observed) -> Option<Missing> {
    let file = &*position.file;
    let (Some(oldest), Some(newest)) = (observed.files.first(), observed.files.last()) else {
        return Some(Missing::why("the server has no binary logs any more".to_owned()));
    };
    let listed = observed.files.iter().any(|there| there.name == file);
    if !listed && file_number(file) < file_number(&oldest.name) && base(file) == base(&oldest.name) {
        let count = file_number(&oldest.name) - file_number(file);
        let last = format!("{}.{:06}", base(file), file_number(&oldest.name) - 1);
        let names = if count == 1 { file.to_owned() } else { format!("{file} to {last} ({count} files)") };
        return Some(Missing {
            to: Some(start_of(oldest, observed)),
            bytes: None,
            why: format!("the server has purged {names}; its oldest file is {}", oldest.name),
        });
    }
    if !listed {
        let why = format!(
            "the server has no file {file}: its files are {} to {}, so its log was reset or it was restored",
            oldest.name, newest.name
        );
        return Some(Missing { to: Some(observed.tip.clone()), bytes: None, why });
    }
    replaced(position, observed)
}

/// The stored file is there, but it is another one, or shorter than it was.
fn replaced(position: &BinlogPosition, observed: &Observed) -> Option<Missing> {
    let file = &*position.file;
    let newest = observed.files.last()?;
    if file.is_empty() {
        return None;
    }
    let Some(there) = observed.files.iter().find(|there| there.name == file) else {
        // Purged files are none of GTIDs' business; one that is still to come is.
        let to_come = base(file) == base(&newest.name) && file_number(file) > file_number(&newest.name);
        return to_come.then(|| Missing {
            to: Some(observed.tip.clone()),
            bytes: None,
            why: format!(
                "the server's newest file is {}, before the stored {file}: its log was reset or it was restored",
                newest.name
            ),
        });
    };
    match observed.file_created_unix_s {
        Some(created) if created != position.file_created_unix_s && position.file_created_unix_s != 0 => {
            let time = |unix_s: u32| {
                jiff::Timestamp::from_second(unix_s.into()).map_or_else(|_| unix_s.to_string(), |time| time.to_string())
            };
            let why = format!(
                "{file} is another file than the one that was read: begun at {}, not at {}; the log was reset (RESET \
                 MASTER, RESET BINARY LOGS AND GTIDS) or the server was restored",
                time(created),
                time(position.file_created_unix_s)
            );
            Some(Missing { to: Some(observed.tip.clone()), bytes: None, why })
        }
        _ if position.offset > there.bytes => Some(Missing {
            to: Some(observed.tip.clone()),
            bytes: Some(position.offset - there.bytes),
            why: format!(
                "{file} ends at {}, before the stored offset {}: the server was restored, or lost the end of its log in a \
                 crash (sync_binlog)",
                there.bytes, position.offset
            ),
        }),
        _ => None,
    }
}

fn base(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(base, _)| base)
}

fn start_of(file: &LogFile, observed: &Observed) -> BinlogPosition {
    BinlogPosition {
        server: observed.tip.server,
        file: file.name.as_str().into(),
        offset: FIRST_EVENT,
        file_created_unix_s: 0,
        seen: Seen::Nothing,
    }
}

/// Where the server's oldest file begins, with what was executed before.
fn oldest(observed: &Observed, before: GtidSet) -> Option<BinlogPosition> {
    let start = start_of(observed.files.first()?, observed);
    Some(BinlogPosition { seen: Seen::Executed(before.into()), ..start })
}

fn mysql(
    set: &MySqlGtids,
    executed: &MySqlGtids,
    purged: &MySqlGtids,
    observed: &Observed,
    another: &str,
) -> Option<Missing> {
    let unknown = set.without(executed);
    if !unknown.is_empty() {
        let shared = set.without(&unknown);
        let how = if shared.is_empty() {
            "it shares no transaction with the stored position: its log was reset, or it is of another topology"
        } else {
            "it was restored from an older state, or failed over to one that never got them (errant transactions)"
        };
        let why = format!(
            "{another}the position is ahead of the server, which never executed {} ({}): {how}",
            shortened(&unknown.to_string()),
            transactions(unknown.count())
        );
        return Some(Missing { to: Some(observed.tip.clone()), bytes: None, why });
    }
    let gone = purged.without(set);
    if !gone.is_empty() {
        let why = format!(
            "{another}the server has purged the log of {} ({}), which the stored position has not seen",
            shortened(&gone.to_string()),
            transactions(gone.count())
        );
        return Some(Missing { to: oldest(observed, GtidSet::MySql(purged.clone())), bytes: None, why });
    }
    None
}

/// As the server itself decides when a replica asks for a position in a log that is not strict: that of each domain must be
/// known to it, and no file that was purged may have held anything behind it.
fn mariadb(
    set: &MariaDbGtids,
    state: &[MariaDbGtid],
    before_oldest: &[MariaDbGtid],
    applied: &[MariaDbGtid],
    observed: &Observed,
    another: &str,
) -> Option<Missing> {
    // Domains that the server has only as a replica: it sends all it has logged of them.
    let mut from_beginning = Vec::new();
    for gtid in set.iter() {
        let logged = |there: &&MariaDbGtid| there.domain == gtid.domain && there.server == gtid.server;
        if state.iter().find(logged).is_some_and(|there| there.sequence >= gtid.sequence) {
            continue;
        }
        if applied.contains(&gtid) {
            from_beginning.push(gtid.domain);
            continue;
        }
        let last = state.iter().rfind(|there| there.domain == gtid.domain);
        let has = last.map_or("nothing".to_owned(), |last| format!("{last} as the last"));
        let beyond = applied.iter().any(|a| a.domain == gtid.domain && a.sequence >= gtid.sequence);
        let how = if beyond {
            "it applied that as a replica without logging it (log_slave_updates)"
        } else if last.is_none() {
            "its log was reset, it never had that domain, or has forgotten it (FLUSH BINARY LOGS DELETE_DOMAIN_ID)"
        } else {
            "its log was reset, it was restored from an older state, or failed over to one that never got it"
        };
        let domain = gtid.domain;
        let why = format!(
            "{another}the position is ahead of the server's log, which has not {gtid}, and of domain {domain} {has}: {how}"
        );
        return Some(Missing { to: Some(observed.tip.clone()), bytes: None, why });
    }
    let known = |domain| set.last_of(domain).filter(|_| !from_beginning.contains(&domain));
    let mut gone = Vec::new();
    for (at, before) in before_oldest.iter().enumerate() {
        let is_last = before_oldest.get(at + 1).is_none_or(|next| next.domain != before.domain);
        match known(before.domain) {
            None if is_last => gone.push(format!("domain {} up to {before}", before.domain)),
            None => {}
            Some(seen) if seen.server != before.server || seen.sequence > before.sequence => {}
            // The very last of its domain in the purged files: nothing of it is missing.
            Some(seen) if seen.sequence == before.sequence && is_last => {}
            Some(seen) => {
                let last = before_oldest.iter().rfind(|last| last.domain == before.domain).unwrap_or(before);
                gone.push(format!("domain {} behind {seen} up to {last}", before.domain));
            }
        }
    }
    if gone.is_empty() {
        return None;
    }
    gone.dedup();
    let mut before = MariaDbGtids::default();
    before_oldest.iter().for_each(|gtid| before.insert(*gtid));
    let why = format!("{another}the server has purged the log of {}", shortened(&gone.join(", ")));
    Some(Missing { to: oldest(observed, GtidSet::MariaDb(before)), bytes: None, why })
}

fn transactions(count: u64) -> String {
    if count == 1 { "1 transaction".to_owned() } else { format!("{count} transactions") }
}

/// A set of thousands of intervals is no message: this is about ten lines.
const SET_SHOWN_CHARS: usize = 1_000;

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SET_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
