//! The replication slot: its state on the server, and the commands around it.
//!
//! Invariants:
//! - Nothing here talks on the replication connection: commands are texts, answers are values of their columns.
//! - A slot of another plugin, kind or database is never used and never dropped.

use tokio_postgres::Client;

use super::error;
use super::quote::{ident, literal};
use crate::error::{Error, Result};
use crate::record::Lsn;

pub const PLUGIN: &str = "pgoutput";

/// A row of `pg_replication_slots`; what the server's version does not have is `None` or false.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotState {
    pub name: String,
    /// None for a physical slot.
    pub plugin: Option<String>,
    /// `logical` or `physical`.
    pub slot_type: String,
    pub database: Option<String>,
    pub temporary: bool,
    pub active_pid: Option<i32>,
    pub restart_lsn: Option<Lsn>,
    pub confirmed_flush_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved`, `lost` (13+).
    pub wal_status: Option<String>,
    /// How much more can be written before the slot may be lost; none where that is not limited (13+).
    pub safe_wal_size_bytes: Option<i64>,
    /// Invalidated by a conflict with recovery on a standby (16+).
    pub conflicting: bool,
    /// `wal_removed`, `rows_removed`, `wal_level_insufficient`, `idle_timeout` (17+).
    pub invalidation_reason: Option<String>,
    pub failover: bool,
    /// Copied from a primary and not yet usable here (17+).
    pub synced: bool,
}

fn state_sql(version: u32) -> String {
    let since = |at: u32, column: &'static str, absent: &'static str| if version >= at { column } else { absent };
    format!(
        "SELECT s.slot_name::pg_catalog.text, s.plugin::pg_catalog.text, s.slot_type, s.database::pg_catalog.text,
                s.temporary, s.active_pid, s.restart_lsn::pg_catalog.text, s.confirmed_flush_lsn::pg_catalog.text,
                {}, {}, COALESCE({}, false), {}, {}, {}
         FROM pg_catalog.pg_replication_slots s",
        since(130_000, "s.wal_status", "NULL::pg_catalog.text"),
        since(130_000, "s.safe_wal_size", "NULL::pg_catalog.int8"),
        since(160_000, "s.conflicting", "false"),
        since(170_000, "s.invalidation_reason", "NULL::pg_catalog.text"),
        since(170_000, "s.failover", "false"),
        since(170_000, "s.synced", "false"),
    )
}

impl SlotState {
    /// Reads a slot's state; `None` where there is no slot of that name.
    ///
    /// # Errors
    /// Those of a query.
    pub async fn read(client: &Client, version: u32, name: &str) -> Result<Option<SlotState>> {
        let text = format!("{} WHERE s.slot_name = $1", state_sql(version));
        let row = client
            .query_opt(&text, &[&name])
            .await
            .map_err(|e| error::sql(e, format!("reading the state of replication slot {name:?}")))?;
        let Some(row) = row else { return Ok(None) };
        let lsn = |column| row.get::<_, Option<&str>>(column).map(str::parse::<Lsn>).transpose();
        Ok(Some(SlotState {
            name: row.get(0),
            plugin: row.get(1),
            slot_type: row.get(2),
            database: row.get(3),
            temporary: row.get(4),
            active_pid: row.get(5),
            restart_lsn: lsn(6)?,
            confirmed_flush_lsn: lsn(7)?,
            wal_status: row.get(8),
            safe_wal_size_bytes: row.get(9),
            conflicting: row.get(10),
            invalidation_reason: row.get(11),
            failover: row.get(12),
            synced: row.get(13),
        }))
    }

    /// Why this slot cannot be ours: another kind, plugin or database; `None` if it can.
    pub fn foreign(&self, database: &str) -> Option<String> {
        match (&self.plugin, &self.database) {
            _ if self.slot_type != "logical" => Some(format!("it is a {} slot", self.slot_type)),
            (Some(plugin), _) if plugin != PLUGIN => Some(format!("its plugin is {plugin}, not {PLUGIN}")),
            (_, Some(other)) if other != database => Some(format!("it belongs to database {other}, not {database}")),
            _ => None,
        }
    }

    /// Why the server no longer holds what this slot needs; `None` while it does.
    pub fn invalidated(&self) -> Option<String> {
        match (self.invalidation_reason.as_deref(), self.wal_status.as_deref()) {
            (Some("wal_removed"), _) => {
                Some("the slot was invalidated (wal_removed): the log outgrew max_slot_wal_keep_size".into())
            }
            (Some("rows_removed"), _) => Some(
                "the slot was invalidated (rows_removed): catalog rows it needs were vacuumed away on the primary"
                    .into(),
            ),
            (Some("wal_level_insufficient"), _) => {
                Some("the slot was invalidated (wal_level_insufficient): wal_level was lowered".into())
            }
            (Some("idle_timeout"), _) => Some(
                "the slot was invalidated (idle_timeout): it was unused for longer than idle_replication_slot_timeout"
                    .into(),
            ),
            (Some(other), _) => Some(format!("the slot was invalidated ({other})")),
            (None, Some("lost")) => {
                Some("the slot was invalidated (wal_status lost): log that it needs was removed".into())
            }
            (None, _) if self.conflicting => Some("the slot was invalidated by a conflict with recovery".into()),
            // Before 13 an invalidated slot does not exist; from 13 on it loses its restart_lsn.
            (None, Some(_))
                if self.restart_lsn.is_none() && self.slot_type == "logical" && self.active_pid.is_none() =>
            {
                Some("the slot was invalidated: it holds no log".into())
            }
            (None, _) => None,
        }
    }
}

/// What a slot is created with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateSlot<'a> {
    pub name: &'a str,
    /// Gone with its connection.
    pub temporary: bool,
    /// Whether a snapshot of the slot's point is exported; it lives until the next command on the connection.
    pub export_snapshot: bool,
    /// Copied to standbys that ask for it (17+; ignored before, and for temporary slots).
    pub failover: bool,
}

/// The replication command, as the server's version writes it.
///
/// ```text
/// 15+: CREATE_REPLICATION_SLOT name [TEMPORARY] LOGICAL plugin [(option [, ...])]
/// old: CREATE_REPLICATION_SLOT name [TEMPORARY] LOGICAL plugin [EXPORT_SNAPSHOT | NOEXPORT_SNAPSHOT | USE_SNAPSHOT]
/// ```
pub fn create_command(version: u32, slot: &CreateSlot<'_>) -> String {
    let temporary = if slot.temporary { " TEMPORARY" } else { "" };
    let head = format!("CREATE_REPLICATION_SLOT {}{temporary} LOGICAL {}", ident(slot.name), ident(PLUGIN));
    if version >= 150_000 {
        let snapshot = if slot.export_snapshot { "export" } else { "nothing" };
        let failover = if version >= 170_000 && slot.failover && !slot.temporary { ", FAILOVER true" } else { "" };
        format!("{head} (SNAPSHOT '{snapshot}'{failover})")
    } else {
        format!("{head} {}", if slot.export_snapshot { "EXPORT_SNAPSHOT" } else { "NOEXPORT_SNAPSHOT" })
    }
}

/// Makes a temporary slot that begins where another one stands (12+). SQL, for the connection that the copy is to live on.
pub fn copy_command(of: &str, copy: &str) -> String {
    format!("SELECT pg_catalog.pg_copy_logical_replication_slot({}, {}, true)", literal(of), literal(copy))
}

/// The command that drops a slot of ours and waits until nobody uses it.
pub fn drop_command(name: &str) -> String {
    format!("DROP_REPLICATION_SLOT {} WAIT", ident(name))
}

/// The server's answer to [`create_command`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The stream starts here, and the exported snapshot shows what was committed before.
    pub consistent_point: Lsn,
    /// For `SET TRANSACTION SNAPSHOT`.
    pub snapshot: Option<String>,
}

impl Created {
    /// From the answer's columns of these names.
    ///
    /// # Errors
    /// Bug: no consistent point, or one that is no LSN.
    pub fn from_columns(consistent_point: Option<&str>, snapshot_name: Option<&str>) -> Result<Created> {
        let doing = || Error::bug("reading the answer to CREATE_REPLICATION_SLOT");
        let text = consistent_point.ok_or_else(|| doing().because("it has no consistent_point"))?;
        let consistent_point = text.parse().map_err(|cause: Error| doing().because(cause))?;
        Ok(Created { consistent_point, snapshot: snapshot_name.filter(|name| !name.is_empty()).map(str::to_owned) })
    }
}

/// Names are shorter than this (NAMEDATALEN).
const NAME_BYTES_MAX: usize = 63;

/// Errors: Config, when the server would not take it as a slot's name.
pub fn check_name(name: &str) -> Result<()> {
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if plain && !name.is_empty() && name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(Error::config(format!("{name:?} is not a name for a replication slot"))
        .remedy("use 1 to 63 lower case letters, digits and underscores"))
}

/// A name that nobody else has, for a temporary slot and its publication.
pub fn temporary_name() -> String {
    format!("walbrook_tmp_{:016x}", rand::random::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_by_version() {
        let slot = CreateSlot { name: "wal\"b", temporary: false, export_snapshot: true, failover: true };
        let temporary = CreateSlot { temporary: true, export_snapshot: false, ..slot };
        for (version, slot, command) in [
            (120_000, slot, r#"CREATE_REPLICATION_SLOT "wal""b" LOGICAL "pgoutput" EXPORT_SNAPSHOT"#),
            (140_000, temporary, r#"CREATE_REPLICATION_SLOT "wal""b" TEMPORARY LOGICAL "pgoutput" NOEXPORT_SNAPSHOT"#),
            (150_000, slot, r#"CREATE_REPLICATION_SLOT "wal""b" LOGICAL "pgoutput" (SNAPSHOT 'export')"#),
            (
                170_000,
                slot,
                r#"CREATE_REPLICATION_SLOT "wal""b" LOGICAL "pgoutput" (SNAPSHOT 'export', FAILOVER true)"#,
            ),
            (
                180_000,
                temporary,
                r#"CREATE_REPLICATION_SLOT "wal""b" TEMPORARY LOGICAL "pgoutput" (SNAPSHOT 'nothing')"#,
            ),
        ] {
            assert_eq!(create_command(version, &slot), command);
        }
        assert_eq!(
            copy_command("of", "copy"),
            "SELECT pg_catalog.pg_copy_logical_replication_slot('of', 'copy', true)"
        );
        assert_eq!(drop_command("a"), r#"DROP_REPLICATION_SLOT "a" WAIT"#);
    }

    #[test]
    fn answers() {
        let created = Created::from_columns(Some("0/1573178"), Some("00000003-00000002-1")).unwrap();
        assert_eq!(created.consistent_point, Lsn(0x157_3178));
        assert_eq!(created.snapshot.as_deref(), Some("00000003-00000002-1"));
        assert_eq!(Created::from_columns(Some("0/1"), None).unwrap().snapshot, None);
        assert!(Created::from_columns(None, None).is_err());
        assert!(Created::from_columns(Some("x"), None).is_err());
    }

    #[test]
    fn names() {
        assert!(check_name("walbrook_1").is_ok() && check_name(&temporary_name()).is_ok());
        for name in ["", "Walbrook", "a-b", "a b", "ä", &"x".repeat(64)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_slot_of_somebody_else() {
        let ours = SlotState {
            plugin: Some("pgoutput".into()),
            slot_type: "logical".into(),
            database: Some("shop".into()),
            restart_lsn: Some(Lsn(1)),
            ..SlotState::default()
        };
        assert_eq!(ours.foreign("shop"), None);
        assert!(ours.foreign("other").unwrap().contains("database shop"));
        let decoding = SlotState { plugin: Some("test_decoding".into()), ..ours.clone() };
        assert!(decoding.foreign("shop").unwrap().contains("test_decoding"));
        let physical = SlotState { plugin: None, slot_type: "physical".into(), database: None, ..ours.clone() };
        assert!(physical.foreign("shop").unwrap().contains("physical"));
        assert_eq!(ours.invalidated(), None);
        let lost = SlotState { wal_status: Some("lost".into()), ..ours };
        assert!(lost.invalidated().unwrap().contains("wal_status lost"));
    }
}
