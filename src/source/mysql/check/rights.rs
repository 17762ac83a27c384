//! What an account may do, as SHOW GRANTS prints it.

use std::collections::BTreeSet;

use super::super::server::{Flavor, Server};
use crate::error::Finding;

/// The rights on everything (`*.*`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    /// As the server prints it: `` `cdc`@`%` ``.
    account: String,
    global: BTreeSet<String>,
}

impl Rights {
    /// `lines`: of SHOW GRANTS, of the account and its active roles. `account`: CURRENT_USER().
    ///
    /// ```text
    /// GRANT right, right, … ON *.* TO `user`@`host` [IDENTIFIED BY …] [WITH GRANT OPTION]
    /// ```
    pub(super) fn read<'a>(account: &str, lines: impl Iterator<Item = &'a str>) -> Rights {
        let mut global = BTreeSet::new();
        for line in lines {
            let Some(rest) = line.strip_prefix("GRANT ") else { continue };
            let Some((rights, _)) = rest.split_once(" ON *.* TO ") else { continue };
            global.extend(rights.split(',').map(|right| right.trim().to_ascii_uppercase()));
        }
        let (user, host) = account.rsplit_once('@').unwrap_or((account, "%"));
        Rights { account: format!("'{}'@'{}'", user.replace('\'', "''"), host.replace('\'', "''")), global }
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
    if snapshot {
        findings.push(lock(rights, server));
    }
    findings
}

/// How the readers of a snapshot come to one point of the log.
fn lock(rights: &Rights, server: &Server) -> Finding {
    let subject = "snapshot lock";
    let reload = rights.has(&["RELOAD", "FLUSH_TABLES"]);
    let backup = match server.flavor {
        Flavor::MySql => rights.has(&["BACKUP_ADMIN"]),
        Flavor::MariaDb => rights.has(&["RELOAD"]),
    };
    let account = rights.account();
    match (reload, backup) {
        (true, true) => Finding::ok(subject, format!("{account} may lock for the moment in which the readers begin")),
        (true, false) => Finding::ok(
            subject,
            format!("{account} may FLUSH TABLES WITH READ LOCK for the moment in which the readers begin"),
        ),
        (false, _) => Finding::warning(
            subject,
            format!(
                "{account} may not lock, so that the readers begin without one and begin again until nothing was \
                 committed meanwhile: that may take many attempts on a busy server"
            ),
            match server.flavor {
                Flavor::MySql => rights.grant("RELOAD, BACKUP_ADMIN"),
                Flavor::MariaDb => rights.grant("RELOAD"),
            },
        ),
    }
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
            "GRANT SELECT, RELOAD, LOCK TABLES, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `cdc`@`%`",
            "GRANT BACKUP_ADMIN ON *.* TO `cdc`@`%`",
        ];
        assert!(levels(&all, "9.7.4").iter().all(|(_, level)| *level == Level::Ok));
        let maria =
            "GRANT SELECT, RELOAD, REPLICATION SLAVE, BINLOG MONITOR ON *.* TO `cdc`@`%` IDENTIFIED BY PASSWORD '*1'";
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
        let found = findings(&rights, &server("8.4.0"), true);
        assert_eq!(
            found.iter().map(|finding| (finding.level, finding.remedy.as_deref().unwrap())).collect::<Vec<_>>(),
            [
                (Level::Problem, "GRANT REPLICATION SLAVE ON *.* TO 'it''s'@'10.%'"),
                (Level::Problem, "GRANT REPLICATION CLIENT ON *.* TO 'it''s'@'10.%'"),
                (Level::Warning, "GRANT RELOAD, BACKUP_ADMIN ON *.* TO 'it''s'@'10.%'"),
            ]
        );
        assert_eq!(findings(&rights, &server("8.4.0"), false).len(), 2);
        let maria = findings(&rights, &server("11.8.6-MariaDB"), false);
        assert!(maria[1].remedy.as_deref().unwrap().starts_with("GRANT BINLOG MONITOR"));
    }
}
