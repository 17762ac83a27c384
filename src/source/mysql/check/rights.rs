//! What an account may do, as SHOW GRANTS prints it.

use std::collections::BTreeSet;

use super::super::server::{Flavor, Server};
use crate::error::Finding;

/// The rights on everything (`*.*`), and where they matter on less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    /// As the server prints it: `` `cdc`@`%` ``.
    account: String,
    global: BTreeSet<String>,
    /// LOCK TABLES on one database at least.
    locks_a_database: bool,
}

impl Rights {
    /// `lines`: of SHOW GRANTS, of the account and its active roles. `account`: CURRENT_USER().
    ///
    /// ```text
    /// GRANT right, right, … ON *.* TO `user`@`host` [IDENTIFIED BY …] [WITH GRANT OPTION]
    /// ```
    pub(super) fn read<'a>(account: &str, lines: impl Iterator<Item = &'a str>) -> Rights {
        let (mut global, mut locks_a_database) = (BTreeSet::new(), false);
        for line in lines {
            let Some(rest) = line.strip_prefix("GRANT ") else { continue };
            match rest.split_once(" ON *.* TO ") {
                Some((rights, _)) => global.extend(rights.split(',').map(|right| right.trim().to_ascii_uppercase())),
                None => {
                    let rights = rest.split(" ON ").next().unwrap_or_default();
                    locks_a_database |=
                        rights.split(", ").any(|right| ["LOCK TABLES", "ALL PRIVILEGES"].contains(&right));
                }
            }
        }
        let (user, host) = account.rsplit_once('@').unwrap_or((account, "%"));
        Rights {
            account: format!("'{}'@'{}'", user.replace('\'', "''"), host.replace('\'', "''")),
            global,
            locks_a_database,
        }
    }

    /// Whether one of the names is granted, or everything.
    fn has(&self, names: &[&str]) -> bool {
        self.global.contains("ALL PRIVILEGES") || names.iter().any(|name| self.global.contains(*name))
    }

    /// `'user'@'host'`.
    pub(super) fn account(&self) -> &str {
        &self.account
    }

    fn grant(&self, right: &str) -> String {
        format!("GRANT {right} ON *.* TO {}", self.account)
    }
}

/// `snapshot`: whether one will be taken. What locks a snapshot can have is [`lock`]'s.
pub(super) fn findings(rights: &Rights, server: &Server, snapshot: bool) -> Vec<Finding> {
    let account = rights.account();
    let mut findings = Vec::new();
    let mut needs = |subject: &str, names: &[&str], right: &str, for_what: &str| {
        findings.push(match rights.has(names) {
            true => Finding::ok(subject, format!("{account} has it")),
            false => {
                Finding::problem(subject, format!("{account} does not have it, and {for_what}"), rights.grant(right))
            }
        });
    };
    needs("REPLICATION SLAVE right", &["REPLICATION SLAVE"], "REPLICATION SLAVE", "the log is sent to nobody without");
    match server.flavor {
        Flavor::MySql => needs(
            "REPLICATION CLIENT right",
            &["REPLICATION CLIENT", "SUPER"],
            "REPLICATION CLIENT",
            "the log's files and its end are shown to nobody without",
        ),
        // Its name since 10.5; the old one is still understood.
        Flavor::MariaDb => needs(
            "BINLOG MONITOR right",
            &["BINLOG MONITOR", "REPLICATION CLIENT", "SUPER"],
            "BINLOG MONITOR",
            "the log's files and its end are shown to nobody without",
        ),
    }
    if server.flavor == Flavor::MySql && server.version >= XA_RECOVER_ADMIN_SINCE {
        findings.push(prepared(rights));
    }
    if snapshot {
        findings.push(lock(rights, server));
    }
    findings
}

/// The first version in which XA RECOVER takes a right.
const XA_RECOVER_ADMIN_SINCE: (u32, u32, u32) = (8, 0, 0);

/// XA transactions that are prepared where a stream begins have their rows in the log before.
fn prepared(rights: &Rights) -> Finding {
    let (subject, account) = ("XA_RECOVER_ADMIN right", rights.account());
    match rights.has(&["XA_RECOVER_ADMIN"]) {
        true => Finding::ok(subject, format!("{account} has it")),
        false => Finding::warning(
            subject,
            format!(
                "{account} does not have it, so that XA transactions that are prepared at the beginning are not seen: \
                 their rows are looked for in the log when they are committed, and where its files are gone by then the \
                 position is lost"
            ),
            rights.grant("XA_RECOVER_ADMIN"),
        ),
    }
}

/// How the readers of a snapshot come to one point of the log: see the module `snapshot::open`.
fn lock(rights: &Rights, server: &Server) -> Finding {
    let subject = "snapshot lock";
    let account = rights.account();
    let mariadb = server.flavor == Flavor::MariaDb;
    let everything = rights.has(if mariadb { &["RELOAD"] } else { &["RELOAD", "FLUSH_TABLES"] });
    let tables = rights.locks_a_database || rights.has(&["LOCK TABLES"]);
    let process = rights.has(&["PROCESS"]);
    let mut ways = Vec::new();
    if everything && mariadb {
        ways.push("BACKUP STAGE BLOCK_COMMIT");
    }
    if tables {
        ways.push("LOCK TABLES … READ");
    }
    if everything {
        ways.push("FLUSH TABLES WITH READ LOCK");
    }
    let mut lacks = Vec::new();
    if !tables {
        lacks.push("LOCK TABLES");
    }
    if !everything {
        lacks.push("RELOAD");
    }
    // Only the last way asks whether a query runs for long, behind which everybody would wait.
    if !process {
        lacks.push("PROCESS");
    }
    if ways.is_empty() {
        return Finding::warning(
            subject,
            format!(
                "{account} may not lock, so that the readers begin without one and begin again until nothing was \
                 committed meanwhile: that may take many attempts on a busy server{}",
                if mariadb || server.uses_gtids() { "" } else { ", and is not possible while gtid_mode is not ON" }
            ),
            rights.grant(&lacks.join(", ")),
        );
    }
    let ways = ways.join(", then ");
    if everything && !process {
        return Finding::warning(
            subject,
            format!(
                "{account} may lock for the moment in which the readers begin ({ways}), but without PROCESS it does not \
                 see the long queries of others, behind which FLUSH TABLES WITH READ LOCK makes writers wait"
            ),
            rights.grant("PROCESS"),
        );
    }
    Finding::ok(subject, format!("{account} may lock for the moment in which the readers begin: {ways}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Level;

    fn server(version: &str) -> Server {
        Server::from_rows([("version".to_owned(), version.to_owned())]).unwrap()
    }

    fn levels(grants: &[&str], version: &str) -> Vec<(String, Level)> {
        let rights = Rights::read("cdc@%", grants.iter().copied());
        let findings = findings(&rights, &server(version), true);
        findings.into_iter().map(|finding| (finding.subject, finding.level)).collect()
    }

    #[test]
    fn rights_are_read_as_each_server_prints_them() {
        let all = [
            "GRANT SELECT, RELOAD, PROCESS, LOCK TABLES, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `cdc`@`%`",
            "GRANT XA_RECOVER_ADMIN ON *.* TO `cdc`@`%`",
        ];
        assert!(levels(&all, "9.7.4").iter().all(|(_, level)| *level == Level::Ok));
        let maria = "GRANT SELECT, RELOAD, PROCESS, REPLICATION SLAVE, BINLOG MONITOR ON *.* TO `cdc`@`%` IDENTIFIED BY PASSWORD '*1'";
        assert!(levels(&[maria], "10.11.18-MariaDB").iter().all(|(_, level)| *level == Level::Ok));
        let root = "GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION";
        assert!(levels(&[root], "11.8.6-MariaDB").iter().all(|(_, level)| *level == Level::Ok));
    }

    #[test]
    fn what_is_missing_is_granted_by_its_remedy() {
        let rights = Rights::read(
            "it's@10.%",
            ["GRANT USAGE ON *.* TO `it's`@`10.%`", "GRANT ALL PRIVILEGES ON `x`.* TO `it's`@`10.%`"].into_iter(),
        );
        let found = findings(&rights, &server("8.4.0"), false);
        assert_eq!(
            found.iter().map(|finding| (finding.level, finding.remedy.as_deref().unwrap())).collect::<Vec<_>>(),
            [
                (Level::Problem, "GRANT REPLICATION SLAVE ON *.* TO 'it''s'@'10.%'"),
                (Level::Problem, "GRANT REPLICATION CLIENT ON *.* TO 'it''s'@'10.%'"),
                (Level::Warning, "GRANT XA_RECOVER_ADMIN ON *.* TO 'it''s'@'10.%'"),
            ]
        );
        assert_eq!(findings(&rights, &server("5.7.44"), false).len(), 2, "nobody is asked for what is not there");
        let maria = findings(&rights, &server("11.8.6-MariaDB"), true);
        assert_eq!(maria.len(), 3);
        let maria = findings(&rights, &server("11.8.6-MariaDB"), false);
        assert!(maria[1].remedy.as_deref().unwrap().starts_with("GRANT BINLOG MONITOR"));
    }

    #[test]
    fn each_lock_has_its_right() {
        let of = |grants: &str, version: &str| {
            let lines = grants.split(';').map(|grant| format!("GRANT {grant} TO `cdc`@`%`")).collect::<Vec<_>>();
            let finding = lock(&Rights::read("cdc@%", lines.iter().map(String::as_str)), &server(version));
            (finding.level, finding.message, finding.remedy.unwrap_or_default())
        };
        let (mysql, mariadb) = ("9.7.4", "10.11.18-MariaDB");
        let (level, message, remedy) = of("USAGE ON *.*", mysql);
        assert!(level == Level::Warning && message.contains("gtid_mode"), "{message}");
        assert_eq!(remedy, "GRANT LOCK TABLES, RELOAD, PROCESS ON *.* TO 'cdc'@'%'");
        assert!(!of("USAGE ON *.*", mariadb).1.contains("gtid_mode"));
        let (level, message, _) = of("USAGE ON *.*;SELECT, LOCK TABLES ON `shop`.*", mysql);
        assert!(level == Level::Ok && message.ends_with(": LOCK TABLES … READ"), "{message}");
        let (level, _, remedy) = of("FLUSH_TABLES ON *.*", mysql);
        assert_eq!((level, &*remedy), (Level::Warning, "GRANT PROCESS ON *.* TO 'cdc'@'%'"));
        let (level, message, _) = of("RELOAD, PROCESS ON *.*", mariadb);
        assert!(level == Level::Ok && message.contains("BACKUP STAGE"), "{message}");
    }
}
