//! The server's settings.

use super::super::server::{Flavor, Server};
use crate::error::Finding;

/// What is found where the end of the log is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    /// Binlog_Do_DB and Binlog_Ignore_DB of SHOW BINARY LOG STATUS.
    pub do_db: String,
    pub ignore_db: String,
    /// The `server_id`s of the replicas that are connected and have registered.
    pub replicas: Vec<u64>,
    pub is_replica: bool,
}

/// Less log than a day's is lost by a weekend, or by a night in which nobody looks.
const KEEP_MIN_S: u64 = 86_400;

/// The versions that are supported: the first, and the last that is known.
const MYSQL_VERSIONS: [(u32, u32); 2] = [(8, 0), (9, 7)];
const MARIADB_VERSIONS: [(u32, u32); 2] = [(10, 5), (11, 8)];

pub(super) fn findings(server: &Server, log: &Log, own_id: Option<u32>) -> Vec<Finding> {
    let mut findings = vec![version(server)];
    if !server.is_on("log_bin") {
        findings.push(Finding::problem(
            "log_bin",
            "the server writes no binary log",
            "set log_bin = binlog and server_id below [mysqld] in its configuration, and restart it",
        ));
        return findings;
    }
    findings.push(Finding::ok("log_bin", "ON"));
    findings.push(format(server));
    findings.push(row_image(server));
    findings.push(row_metadata(server));
    findings.extend(partial_json(server));
    findings.push(gtids(server));
    findings.push(expiry(server));
    findings.extend(size_limit(server));
    findings.push(server_id(server, log, own_id));
    findings.extend(replica(server, log));
    findings.extend(filters(log));
    findings.extend(compressed(server));
    findings.extend(encrypted(server));
    findings
}

/// `SET PERSIST` outlives a restart on MySQL; MariaDB has the file alone.
fn set_global(server: &Server, assignment: &str) -> String {
    match server.flavor {
        Flavor::MySql => format!("SET PERSIST {assignment}"),
        Flavor::MariaDb => format!("SET GLOBAL {assignment}, and the same below [mysqld] in the configuration file"),
    }
}

fn version(server: &Server) -> Finding {
    let subject = "server version";
    let message = format!("{} {}", server.flavor, server.version_text());
    let [(oldest_major, oldest_minor), newest] = match server.flavor {
        Flavor::MySql => MYSQL_VERSIONS,
        Flavor::MariaDb => MARIADB_VERSIONS,
    };
    let (major, minor, _) = server.version;
    if (major, minor) < (oldest_major, oldest_minor) {
        let remedy = format!("upgrade the server to {oldest_major}.{oldest_minor} or newer");
        Finding::problem(subject, format!("{message} is too old"), remedy)
    } else if (major, minor) > newest {
        let message = format!("{message} is newer than what this walbrook knows (up to {}.{})", newest.0, newest.1);
        Finding::warning(subject, message, "look for a newer walbrook")
    } else {
        Finding::ok(subject, message)
    }
}

fn format(server: &Server) -> Finding {
    let subject = "binlog_format";
    match server.variable("binlog_format") {
        // The variable is to go: then rows are all there is.
        None | Some("ROW") => Finding::ok(subject, "ROW"),
        Some(other) => Finding::problem(
            subject,
            format!("it is {other}: the log has statements instead of rows, or both"),
            format!(
                "{}; then let clients connect anew: a session keeps the format it began with",
                set_global(server, "binlog_format = 'ROW'")
            ),
        ),
    }
}

fn row_image(server: &Server) -> Finding {
    let subject = "binlog_row_image";
    let full = || set_global(server, "binlog_row_image = 'FULL'");
    match server.variable("binlog_row_image").unwrap_or("FULL") {
        image @ ("FULL" | "FULL_NODUP") => Finding::ok(subject, image),
        "NOBLOB" => Finding::warning(
            subject,
            "it is NOBLOB: an update that leaves a BLOB, TEXT, JSON or GEOMETRY column as it is says nothing of it; such a \
             column is in `unchanged`",
            full(),
        ),
        "MINIMAL" => Finding::warning(
            subject,
            "it is MINIMAL: an update says only what it changed and the key before; the other columns are in `unchanged`, \
             and of a deleted row there is the key alone",
            full(),
        ),
        other => Finding::warning(
            subject,
            format!("it is {other}, which this walbrook does not know; columns that are not logged are in `unchanged`"),
            full(),
        ),
    }
}

fn row_metadata(server: &Server) -> Finding {
    let subject = "binlog_row_metadata";
    match server.variable("binlog_row_metadata") {
        Some("FULL") => Finding::ok(subject, "FULL"),
        Some(_) => Finding::warning(
            subject,
            "the log does not say the columns' names: they come from information_schema and the DDL in the log, and a table \
             whose events do not fit them is stopped",
            set_global(server, "binlog_row_metadata = 'FULL'"),
        ),
        None => Finding::ok(
            subject,
            "this version has none: the columns' names come from information_schema and the DDL in the log",
        ),
    }
}

fn partial_json(server: &Server) -> Option<Finding> {
    server.variable("binlog_row_value_options")?.contains("PARTIAL_JSON").then(|| {
        Finding::warning(
            "binlog_row_value_options",
            "it is PARTIAL_JSON: an update of a JSON column may be logged as a difference to the old value, which is \
             applied where the log has the old value (binlog_row_image FULL)",
            set_global(server, "binlog_row_value_options = ''"),
        )
    })
}

fn gtids(server: &Server) -> Finding {
    if server.flavor == Flavor::MariaDb {
        let strict = if server.is_on("gtid_strict_mode") { ", strict" } else { "" };
        return Finding::ok("GTIDs", format!("always on in MariaDB{strict}"));
    }
    let mode = server.variable("gtid_mode").unwrap_or("OFF");
    if mode == "ON" {
        return Finding::ok("gtid_mode", "ON");
    }
    let consistency = match server.variable("enforce_gtid_consistency") {
        Some("ON") => "",
        _ => "SET PERSIST enforce_gtid_consistency = ON; ",
    };
    let steps = ["OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"];
    let from = steps.iter().position(|step| *step == mode).unwrap_or(0);
    let set: Vec<String> = steps[from + 1..].iter().map(|step| format!("SET PERSIST gtid_mode = {step}")).collect();
    Finding::warning(
        "gtid_mode",
        format!(
            "it is {mode}: positions are files and offsets, which mean something on this server alone; after a failover \
             everything has to be read anew"
        ),
        format!("{consistency}{}", set.join("; ")),
    )
}

/// How long the server keeps its log, in seconds; none: until somebody purges it.
pub(super) fn keeps_s(server: &Server) -> Option<u64> {
    let seconds = server.number("binlog_expire_logs_seconds").filter(|seconds| *seconds > 0);
    seconds.or_else(|| server.number("expire_logs_days").filter(|days| *days > 0).map(|days| days * 86_400))
}

fn expiry(server: &Server) -> Finding {
    let subject = "binlog_expire_logs_seconds";
    match keeps_s(server) {
        None => Finding::ok(subject, "the server keeps its log until somebody purges it"),
        Some(seconds) if seconds < KEEP_MIN_S => Finding::warning(
            subject,
            format!(
                "the server removes files of its log after {}: a stop as long as that loses the position",
                span(seconds)
            ),
            set_global(server, "binlog_expire_logs_seconds = 604800"),
        ),
        Some(seconds) => Finding::ok(subject, format!("the server keeps its log for {}", span(seconds))),
    }
}

/// MariaDB since 11.4: the oldest file goes when all together are too large.
fn size_limit(server: &Server) -> Option<Finding> {
    let bytes = server.number("max_binlog_total_size").filter(|bytes| *bytes > 0)?;
    Some(Finding::warning(
        "max_binlog_total_size",
        format!("the server removes the oldest files of its log when all have {bytes} bytes, read or not"),
        "SET GLOBAL max_binlog_total_size = 0, or large enough for the longest stop",
    ))
}

fn server_id(server: &Server, log: &Log, own: Option<u32>) -> Finding {
    let subject = "server_id";
    let theirs = server.number("server_id").unwrap_or(0);
    if theirs == 0 {
        return Finding::problem(
            subject,
            "the server's is 0: it sends its log to nobody",
            set_global(server, "server_id = 1"),
        );
    }
    match own.map(u64::from) {
        None => Finding::ok(subject, format!("the server's is {theirs}; ours will be one that nobody has")),
        Some(own) if own == theirs => Finding::problem(
            subject,
            format!("{own} is the server's own"),
            "choose another `server_id`, or leave it out",
        ),
        Some(own) if log.replicas.contains(&own) => Finding::problem(
            subject,
            format!("{own} is that of a replica of the server: the two would end each other's connections"),
            "choose another `server_id`, or leave it out",
        ),
        Some(own) => Finding::ok(subject, format!("{own}; no replica of the server has it")),
    }
}

fn replica(server: &Server, log: &Log) -> Option<Finding> {
    let (old, new) = ("log_slave_updates", "log_replica_updates");
    let logs = server.is_on(new) || server.is_on(old);
    let name = if server.variable(new).is_some() { new } else { old };
    (log.is_replica && !logs).then(|| {
        Finding::problem(
            name,
            "the server is a replica that does not log what it replicates: those changes would not be seen",
            format!("set {name} = ON below [mysqld] in its configuration and restart it, or connect to its source"),
        )
    })
}

fn filters(log: &Log) -> Option<Finding> {
    let (names, which) = match (log.do_db.is_empty(), log.ignore_db.is_empty()) {
        (true, true) => return None,
        (false, _) => (&log.do_db, "the server logs changes of these databases alone"),
        (true, false) => (&log.ignore_db, "the server does not log changes of these databases"),
    };
    Some(Finding::warning(
        "binlog_do_db, binlog_ignore_db",
        format!("{which}: {names}"),
        "take binlog_do_db and binlog_ignore_db out of the server's configuration and restart it, or leave such tables out",
    ))
}

fn compressed(server: &Server) -> Option<Finding> {
    let name = ["binlog_transaction_compression", "log_bin_compress"].into_iter().find(|name| server.is_on(name))?;
    Some(Finding::ok(name, "ON; what is compressed is unpacked as it arrives"))
}

fn encrypted(server: &Server) -> Option<Finding> {
    let name = ["binlog_encryption", "encrypt_binlog"].into_iter().find(|name| server.is_on(name))?;
    Some(Finding::ok(name, "ON; the server sends its log decrypted, so protect the connection by ssl-mode"))
}

/// `2 h`, `30 days`.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Level;

    fn server(pairs: &[(&str, &str)]) -> Server {
        let base = [("version", "9.7.4"), ("log_bin", "ON"), ("binlog_format", "ROW"), ("binlog_row_image", "FULL")];
        let more = [("binlog_row_metadata", "FULL"), ("gtid_mode", "ON"), ("server_id", "1")];
        let all = base.iter().chain(&more).chain(pairs);
        Server::from_rows(all.map(|(name, value)| (name.to_string(), value.to_string()))).unwrap()
    }

    fn found(pairs: &[(&str, &str)], log: &Log, own: Option<u32>) -> Vec<Finding> {
        findings(&server(pairs), log, own).into_iter().filter(|finding| finding.level != Level::Ok).collect()
    }

    #[test]
    fn a_server_as_it_should_be() {
        assert_eq!(found(&[], &Log::default(), Some(7)), []);
        assert_eq!(found(&[("version", "11.8.6-MariaDB"), ("gtid_mode", "")], &Log::default(), None), []);
        // A server without the variable logs rows alone.
        let names: Vec<String> = findings(&server(&[]), &Log::default(), None).into_iter().map(|f| f.subject).collect();
        assert_eq!(names[..3], ["server version", "log_bin", "binlog_format"]);
    }

    #[test]
    fn each_lack_comes_with_what_mends_it() {
        let none = Log::default();
        let one = |pairs: &[(&str, &str)], level, remedy: &str| {
            let found = found(pairs, &none, None);
            assert_eq!(found.len(), 1, "{pairs:?}: {found:?}");
            assert_eq!(found[0].level, level, "{:?}", found[0]);
            assert!(found[0].remedy.as_deref().unwrap().contains(remedy), "{:?}", found[0]);
        };
        one(&[("log_bin", "OFF")], Level::Problem, "log_bin");
        one(&[("binlog_format", "MIXED")], Level::Problem, "SET PERSIST binlog_format = 'ROW'");
        one(
            &[("version", "10.6.1-MariaDB"), ("binlog_format", "STATEMENT")],
            Level::Problem,
            "SET GLOBAL binlog_format",
        );
        one(&[("binlog_row_image", "MINIMAL")], Level::Warning, "binlog_row_image = 'FULL'");
        one(&[("binlog_row_image", "NOBLOB")], Level::Warning, "binlog_row_image = 'FULL'");
        one(&[("binlog_row_metadata", "MINIMAL")], Level::Warning, "binlog_row_metadata = 'FULL'");
        one(&[("binlog_row_value_options", "PARTIAL_JSON")], Level::Warning, "binlog_row_value_options = ''");
        one(
            &[("gtid_mode", "OFF_PERMISSIVE"), ("enforce_gtid_consistency", "WARN")],
            Level::Warning,
            "SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = ON_PERMISSIVE; SET PERSIST gtid_mode = ON",
        );
        one(&[("binlog_expire_logs_seconds", "3600")], Level::Warning, "binlog_expire_logs_seconds");
        one(&[("max_binlog_total_size", "1000")], Level::Warning, "max_binlog_total_size");
        one(&[("server_id", "0")], Level::Problem, "server_id = 1");
        one(&[("version", "5.7.44")], Level::Problem, "8.0");
        one(&[("version", "10.4.1-MariaDB")], Level::Problem, "10.5");
        one(&[("version", "12.1.2-MariaDB")], Level::Warning, "newer");
    }

    #[test]
    fn others_of_the_same_number_filters_and_replicas() {
        let log = Log { replicas: vec![7], is_replica: true, do_db: "a,b".into(), ignore_db: String::new() };
        let found = found(&[("log_replica_updates", "OFF")], &log, Some(7));
        let subjects: Vec<&str> = found.iter().map(|finding| finding.subject.as_str()).collect();
        assert_eq!(subjects, ["server_id", "log_replica_updates", "binlog_do_db, binlog_ignore_db"]);
        assert!(super::findings(&server(&[]), &log, Some(1)).iter().any(|f| f.message.contains("the server's own")));
        assert!(found[2].message.contains("alone: a,b"));
    }

    #[test]
    fn how_long_the_log_is_kept() {
        assert_eq!(
            keeps_s(&server(&[("binlog_expire_logs_seconds", "0"), ("expire_logs_days", "2.000000")])),
            Some(172_800)
        );
        assert_eq!(keeps_s(&server(&[("binlog_expire_logs_seconds", "0")])), None);
        assert_eq!([90, 7_100, 10_000, 2_592_000].map(span), ["90 s", "118 min", "2 h", "30 days"]);
    }
}
