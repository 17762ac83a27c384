//! What the configuration asks of a MySQL or MariaDB source.

use std::time::Duration;

use crate::source::SnapshotSettings;
use crate::source::tables::Selection;

/// How often a server says in a quiet log that it is there, unless told otherwise. Three of them are half of the minute
/// after which a server's own replicas give up (`replica_net_timeout`).
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(10);

pub struct Settings {
    /// How to connect, as the operator wrote it.
    pub url: secrecy::SecretString,
    pub selection: Selection,
    /// The number under which the log is asked for. None: one that nobody else uses, chosen at each connection.
    pub server_id: Option<u32>,
    /// Whether transactions are acknowledged as a semi-synchronous replica does.
    pub semi_sync: bool,
    /// How much of prepared XA transactions may be kept.
    pub xa_limit_bytes: u64,
    /// How often the server is to say that it is there; silent for three times as long it is left.
    pub heartbeat: Duration,
    /// Whether the rows that are there already are read.
    pub takes_snapshot: bool,
    pub snapshot: SnapshotSettings,
}
