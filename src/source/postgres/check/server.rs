//! The server's settings and the role's rights.

use std::collections::HashMap;

use tokio_postgres::Client;

use super::Wanted;
use crate::error::{Finding, Result};
use crate::source::postgres::error;
use crate::source::postgres::quote::ident;

/// The versions that are supported, by major number.
const OLDEST: u32 = 12;
const NEWEST: u32 = 18;

/// The first version whose standbys decode.
const STANDBY_SINCE: u32 = 16;

/// A slot that may hold less log than this is lost by an hour or two of rest on a busy server (1 GiB at 150 KiB/s is two
/// hours).
const KEEP_MIN_MIB: i64 = 1_024;

/// We answer at least every second; a server that gives up sooner than this does so over one slow disk.
const SENDER_TIMEOUT_MIN_MS: i64 = 5_000;

/// What one query says of the server, the database and the role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// As `server_version_num`.
    pub version: u32,
    pub version_text: String,
    pub database: String,
    pub encoding: String,
    pub in_recovery: bool,
    pub may_create: bool,
    pub role: String,
    pub superuser: bool,
    pub replication: bool,
    /// Of the roles that clouds hand out, those that exist here, and whether ours is a member.
    pub cloud_roles: HashMap<String, bool>,
    pub slots_used: i64,
    pub senders_used: i64,
    /// `pg_settings`: the number in its unit, or the text.
    pub settings: HashMap<String, (String, Option<String>)>,
}

const FACTS_SQL: &str = "
SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4, pg_catalog.current_setting('server_version'),
       d.datname::pg_catalog.text, pg_catalog.pg_encoding_to_char(d.encoding)::pg_catalog.text,
       pg_catalog.pg_is_in_recovery(), pg_catalog.has_database_privilege(d.oid, 'CREATE'),
       r.rolname::pg_catalog.text, r.rolsuper, r.rolreplication,
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots),
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication),
       ARRAY(SELECT c.rolname::pg_catalog.text FROM pg_catalog.pg_roles c
             WHERE c.rolname = ANY($1) AND pg_catalog.pg_has_role(c.oid, 'MEMBER')),
       ARRAY(SELECT c.rolname::pg_catalog.text FROM pg_catalog.pg_roles c
             WHERE c.rolname = ANY($1) AND NOT pg_catalog.pg_has_role(c.oid, 'MEMBER'))
FROM pg_catalog.pg_database d, pg_catalog.pg_roles r
WHERE d.datname = pg_catalog.current_database() AND r.rolname = current_user";

const CLOUD_ROLES: [&str; 6] =
    ["rds_replication", "rds_superuser", "cloudsqlsuperuser", "azure_pg_admin", "alloydbsuperuser", "supabase_admin"];

const SETTINGS: [&str; 6] = [
    "wal_level",
    "max_replication_slots",
    "max_wal_senders",
    "max_slot_wal_keep_size",
    "idle_replication_slot_timeout",
    "wal_sender_timeout",
];

impl Facts {
    pub(super) async fn read(client: &Client) -> Result<Facts> {
        let sql = |e| error::sql(e, "reading the server's settings");
        let row = client.query_one(FACTS_SQL, &[&CLOUD_ROLES.as_slice()]).await.map_err(sql)?;
        let settings = client
            .query(
                "SELECT name, setting, unit FROM pg_catalog.pg_settings WHERE name = ANY($1)",
                &[&SETTINGS.as_slice()],
            )
            .await
            .map_err(sql)?;
        let member: Vec<String> = row.get(11);
        let other: Vec<String> = row.get(12);
        Ok(Facts {
            version: row.get::<_, i32>(0).unsigned_abs(),
            version_text: row.get(1),
            database: row.get(2),
            encoding: row.get(3),
            in_recovery: row.get(4),
            may_create: row.get(5),
            role: row.get(6),
            superuser: row.get(7),
            replication: row.get(8),
            slots_used: row.get(9),
            senders_used: row.get(10),
            cloud_roles: member.into_iter().map(|r| (r, true)).chain(other.into_iter().map(|r| (r, false))).collect(),
            settings: settings.into_iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect(),
        })
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(|(value, _)| value.as_str())
    }
    fn number(&self, name: &str) -> Option<i64> {
        self.setting(name)?.parse().ok()
    }
    fn has_role(&self, name: &str) -> bool {
        self.cloud_roles.contains_key(name)
    }
    fn is_member(&self, name: &str) -> bool {
        self.cloud_roles.get(name) == Some(&true)
    }
    pub(super) fn major(&self) -> u32 {
        self.version / 10_000
    }
}

/// `slot_exists`: the permanent slot that is wanted.
pub(super) fn findings(facts: &Facts, wanted: &Wanted<'_>, slot_exists: bool) -> Vec<Finding> {
    let mut findings = vec![version(facts), wal_level(facts)];
    findings.extend(recovery(facts));
    findings.push(right_to_replicate(facts));
    findings.extend(free_places(facts, wanted, slot_exists));
    if wanted.slot.is_some() {
        findings.push(kept_log(facts));
        findings.extend(idle_timeout(facts));
    }
    findings.push(sender_timeout(facts));
    findings.push(encoding(facts));
    findings
}

fn version(facts: &Facts) -> Finding {
    let message = format!("PostgreSQL {}", facts.version_text);
    match facts.major() {
        OLDEST..=NEWEST => Finding::ok("server version", message),
        major if major > NEWEST => Finding::warning(
            "server version",
            format!("{message} is newer than what this walbrook was tested with ({OLDEST} to {NEWEST})"),
            "look for a newer walbrook",
        ),
        _ => Finding::problem(
            "server version",
            format!("{message} is too old"),
            format!("upgrade the server to {OLDEST} or newer"),
        ),
    }
}

fn wal_level(facts: &Facts) -> Finding {
    let level = facts.setting("wal_level").unwrap_or_default();
    if level == "logical" {
        return Finding::ok("wal_level", "logical");
    }
    let remedy = if facts.has_role("rds_superuser") {
        "set rds.logical_replication = 1 in the parameter group and reboot the instance"
    } else if facts.has_role("cloudsqlsuperuser") {
        "set the flag cloudsql.logical_decoding = on; the instance restarts"
    } else if facts.has_role("alloydbsuperuser") {
        "set the flag alloydb.logical_decoding = on; the instance restarts"
    } else if facts.has_role("azure_pg_admin") {
        "set the server parameter wal_level = LOGICAL and restart the server"
    } else {
        "ALTER SYSTEM SET wal_level = logical; then restart the server"
    };
    Finding::problem("wal_level", format!("it is {level}, not logical"), remedy)
}

fn recovery(facts: &Facts) -> Option<Finding> {
    match (facts.in_recovery, facts.major() >= STANDBY_SINCE) {
        (false, _) => None,
        (true, false) => Some(Finding::problem(
            "standby",
            format!("the server is a standby, and standbys decode from version {STANDBY_SINCE} on only"),
            "connect to the primary: give all hosts in the URL with target_session_attrs=read-write",
        )),
        (true, true) => Some(Finding::warning(
            "standby",
            "the server is a standby: nothing can be created here but the slot, and that waits for the primary's activity",
            "create the publication on the primary; on the standby ALTER SYSTEM SET hot_standby_feedback = on, or a \
             conflict with recovery invalidates the slot",
        )),
    }
}

fn right_to_replicate(facts: &Facts) -> Finding {
    let role = &facts.role;
    let subject = "REPLICATION privilege";
    if facts.superuser || facts.replication || facts.is_member("rds_replication") {
        return Finding::ok(subject, format!("role {role} has it"));
    }
    let remedy = if facts.has_role("rds_replication") {
        format!("GRANT rds_replication TO {}", ident(role))
    } else {
        format!("ALTER ROLE {} REPLICATION", ident(role))
    };
    Finding::problem(subject, format!("role {role} does not have it"), remedy)
}

fn free_places(facts: &Facts, wanted: &Wanted<'_>, slot_exists: bool) -> [Finding; 2] {
    // The stream's own slot, and a temporary one for the snapshot while that is taken.
    let must = i64::from(!slot_exists);
    let also = i64::from(wanted.snapshot && wanted.slot.is_some());
    [
        places("replication slots", "max_replication_slots", facts, facts.slots_used, must, also),
        places("wal senders", "max_wal_senders", facts, facts.senders_used, 1, also),
    ]
}

fn places(subject: &str, setting: &str, facts: &Facts, used: i64, must: i64, also: i64) -> Finding {
    let max = facts.number(setting).unwrap_or(0);
    let free = max - used;
    let message = format!("{used} of {max} in use");
    let remedy = format!("ALTER SYSTEM SET {setting} = {}; then restart the server, or free one", max + must + also);
    if free < must {
        Finding::problem(subject, format!("{message}: none is free"), remedy)
    } else if free < must + also {
        Finding::warning(subject, format!("{message}: resuming an interrupted snapshot takes one more"), remedy)
    } else {
        Finding::ok(subject, message)
    }
}

fn kept_log(facts: &Facts) -> Finding {
    const NAME: &str = "max_slot_wal_keep_size";
    let set = |to: &str| format!("ALTER SYSTEM SET {NAME} = '{to}'; SELECT pg_reload_conf()");
    match facts.number(NAME) {
        None => Finding::warning(
            NAME,
            "this version has no limit: while walbrook is stopped the server keeps all log, and its disk can fill",
            "watch pg_replication_slots, and drop the slot if walbrook is gone for good",
        ),
        Some(-1) => Finding::warning(
            NAME,
            "-1 (no limit): while walbrook is stopped the server keeps all log, and its disk can fill",
            set("50GB"),
        ),
        Some(mib) if mib < KEEP_MIN_MIB => Finding::warning(
            NAME,
            format!("{mib} MB: a short stop of walbrook, or one large transaction, and the slot is lost"),
            set("50GB"),
        ),
        Some(mib) => Finding::ok(NAME, format!("{mib} MB")),
    }
}

fn idle_timeout(facts: &Facts) -> Option<Finding> {
    const NAME: &str = "idle_replication_slot_timeout";
    let (value, unit) = facts.settings.get(NAME)?;
    if value == "0" {
        return None;
    }
    Some(Finding::warning(
        NAME,
        format!(
            "{value} {}: a walbrook that is stopped for longer loses its slot",
            unit.as_deref().unwrap_or_default()
        ),
        format!("ALTER SYSTEM SET {NAME} = 0; SELECT pg_reload_conf()"),
    ))
}

fn sender_timeout(facts: &Facts) -> Finding {
    const NAME: &str = "wal_sender_timeout";
    match facts.number(NAME).unwrap_or(0) {
        0 => Finding::warning(
            NAME,
            "0: the server never notices that a client is gone, and its slot stays in use",
            format!("ALTER SYSTEM SET {NAME} = '60s'; SELECT pg_reload_conf()"),
        ),
        ms if ms < SENDER_TIMEOUT_MIN_MS => Finding::warning(
            NAME,
            format!("{ms} ms: a short stall ends the stream, which then starts again"),
            format!("ALTER SYSTEM SET {NAME} = '60s'; SELECT pg_reload_conf()"),
        ),
        ms => Finding::ok(NAME, format!("{ms} ms")),
    }
}

fn encoding(facts: &Facts) -> Finding {
    match facts.encoding.as_str() {
        "SQL_ASCII" => Finding::warning(
            "encoding",
            "SQL_ASCII: the server does not know what its bytes mean; text that is not UTF-8 stops the stream",
            "recreate the database with ENCODING 'UTF8'",
        ),
        encoding => Finding::ok("encoding", encoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Level;
    use crate::source::tables::Selection;

    fn facts(settings: &[(&str, &str)]) -> Facts {
        let defaults = [
            ("wal_level", "logical"),
            ("max_replication_slots", "10"),
            ("max_wal_senders", "10"),
            ("max_slot_wal_keep_size", "51200"),
            ("wal_sender_timeout", "60000"),
        ];
        Facts {
            version: 170_002,
            version_text: "17.2".into(),
            encoding: "UTF8".into(),
            role: "wal \"brook\"".into(),
            replication: true,
            settings: defaults.iter().chain(settings).map(|(n, v)| ((*n).into(), ((*v).into(), None))).collect(),
            ..Facts::default()
        }
    }

    fn bad(facts: &Facts) -> Vec<(Level, String)> {
        let selection = Selection::default();
        let wanted = Wanted { selection: &selection, slot: Some("walbrook"), publication: None, snapshot: true };
        let findings = findings(facts, &wanted, false).into_iter().filter(|f| f.level != Level::Ok);
        findings
            .map(|f| {
                assert!(f.remedy.is_some_and(|remedy| !remedy.is_empty()));
                (f.level, f.subject)
            })
            .collect()
    }

    #[test]
    fn a_good_server_has_nothing_to_mend() {
        assert_eq!(bad(&facts(&[])), []);
    }

    #[test]
    fn every_setting_is_looked_at() {
        let problem = |subject: &str| vec![(Level::Problem, subject.to_owned())];
        let warning = |subject: &str| vec![(Level::Warning, subject.to_owned())];
        assert_eq!(bad(&facts(&[("wal_level", "replica")])), problem("wal_level"));
        assert_eq!(bad(&Facts { version: 110_000, ..facts(&[]) }), problem("server version"));
        assert_eq!(bad(&Facts { version: 190_000, ..facts(&[]) }), warning("server version"));
        assert_eq!(bad(&Facts { in_recovery: true, version: 150_000, ..facts(&[]) }), problem("standby"));
        assert_eq!(bad(&Facts { in_recovery: true, ..facts(&[]) }), warning("standby"));
        assert_eq!(bad(&Facts { replication: false, ..facts(&[]) }), problem("REPLICATION privilege"));
        assert_eq!(bad(&Facts { replication: false, superuser: true, ..facts(&[]) }), []);
        assert_eq!(bad(&Facts { slots_used: 10, ..facts(&[]) }), problem("replication slots"));
        assert_eq!(bad(&Facts { slots_used: 9, ..facts(&[]) }), warning("replication slots"));
        assert_eq!(bad(&Facts { senders_used: 10, ..facts(&[]) }), problem("wal senders"));
        assert_eq!(bad(&facts(&[("max_slot_wal_keep_size", "-1")])), warning("max_slot_wal_keep_size"));
        assert_eq!(bad(&facts(&[("max_slot_wal_keep_size", "64")])), warning("max_slot_wal_keep_size"));
        assert_eq!(bad(&facts(&[("idle_replication_slot_timeout", "60")])), warning("idle_replication_slot_timeout"));
        assert_eq!(bad(&facts(&[("idle_replication_slot_timeout", "0")])), []);
        assert_eq!(bad(&facts(&[("wal_sender_timeout", "0")])), warning("wal_sender_timeout"));
        assert_eq!(bad(&facts(&[("wal_sender_timeout", "1000")])), warning("wal_sender_timeout"));
        assert_eq!(bad(&Facts { encoding: "SQL_ASCII".into(), ..facts(&[]) }), warning("encoding"));
    }

    #[test]
    fn clouds_have_ways_of_their_own() {
        let rds = |member| Facts {
            replication: false,
            cloud_roles: HashMap::from([("rds_replication".into(), member), ("rds_superuser".into(), false)]),
            ..facts(&[("wal_level", "replica")])
        };
        assert_eq!(right_to_replicate(&rds(true)).level, Level::Ok);
        assert_eq!(right_to_replicate(&rds(false)).remedy.unwrap(), r#"GRANT rds_replication TO "wal ""brook""""#);
        assert!(wal_level(&rds(true)).remedy.unwrap().contains("rds.logical_replication"));
    }
}
