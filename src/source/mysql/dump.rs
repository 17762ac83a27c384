//! A dump of the binary log, as the server sends it to its replicas: events, found in place.
//!
//! Invariants:
//! - [`Dump::fill`], [`Dump::whole_event`] and [`Dump::event_part`] are cancel-safe.
//! - An event is handed out without the packets' headers, the OK byte and the bytes of semi-synchronous replication, from
//!   its own header to its checksum. Nothing in it has been looked at.
//! - The buffer never grows: an event that does not fit is joined into one of its own, or taken in parts.
//! - A server that says nothing for three heartbeats is gone.
//! - A dump ends with its connection: the protocol knows no other way.
//!
//! ```text
//! loop {
//!     match dump.next()? {
//!         Next::Event(event) => …                       offsets count from the beginning of the frame to come
//!         Next::Dry => { … dump.take_frame(); dump.fill().await?; }
//!         Next::Long(head) => { … dump.take_frame(); let event = dump.whole_event().await?; … }
//!     }
//! }
//! ```

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::connection::Connection;
use super::error::{MySqlError, number, server_error};
use super::place::FIRST_EVENT;
use super::replica::Replica;
use super::server::Flavor;
use super::transport::{Scanned, Transport, wire_error};
use crate::error::{Error, Result};
use crate::record::gtid::GtidSet;
use crate::wire::WireError;
use crate::wire::mysql::protocol::{answer, command, gtid_set};

/// The length of an event stands here in its header ("Binlog Event Header": timestamp 4, type 1, server_id 4).
const EVENT_LENGTH_AT: usize = 9;

/// How many heartbeats may be missed.
const SILENT_HEARTBEATS: u32 = 3;

/// Heartbeats are lost in a server that is starved; below this much silence it is not called gone.
const MIN_SILENCE: Duration = Duration::from_secs(10);

/// Where a dump begins.
#[derive(Clone, Copy, Debug)]
pub enum DumpFrom<'a> {
    /// With the event that begins at this byte of the file; the protocol has no more bits for it.
    File { file: &'a str, offset: u32 },
    /// With the first transaction that is not in the set.
    Gtids(&'a GtidSet),
}

impl<'a> DumpFrom<'a> {
    /// With a file's first event.
    pub fn beginning(file: &'a str) -> Self {
        DumpFrom::File { file, offset: FIRST_EVENT as u32 }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct DumpOptions {
    /// How often the server is to say that it is there when there is nothing else to say.
    pub heartbeat: Duration,
    /// Have the server wait for our acknowledgements, where it can.
    pub semi_sync: bool,
}

pub struct Dump {
    transport: Transport,
    connection_id: u32,
    silence: Duration,
    /// Each event has two more bytes before it.
    semi_sync: bool,
    /// The long event's bytes before its header are taken off.
    skipped_bytes: usize,
    expected_bytes: usize,
}

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    Event(RawEvent<'a>),
    /// Nothing complete is left: take the frame, then fill.
    Dry,
    /// An event that does not fit the read buffer: take the frame, then ask for the whole event or for its parts.
    Long(LongEvent<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEvent<'a> {
    /// From its header to its checksum.
    pub bytes: &'a [u8],
    /// Where it begins in the frame to come.
    pub offset: usize,
    /// The server waits until it is acknowledged.
    pub wants_ack: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongEvent<'a> {
    /// Its beginning, at least the header.
    pub head: &'a [u8],
    pub wants_ack: bool,
}

impl Dump {
    /// Tells the server who we are and what we understand, and asks for the log. That it refuses comes with the first
    /// [`Dump::next`].
    ///
    /// # Errors
    /// Config: missing privileges. Transient: the socket broke. Bug: GTIDs of the other kind of server.
    pub async fn start(
        mut connection: Connection,
        replica: &Replica,
        from: DumpFrom<'_>,
        options: &DumpOptions,
    ) -> Result<Dump> {
        let semi_sync = options.semi_sync && semi_sync(&mut connection).await?;
        for statement in settings(connection.server().flavor, replica, options, semi_sync) {
            connection.execute(&statement).await?;
        }
        let command = request(&mut connection, replica.server_id, from).await?;
        // The name that SHOW REPLICAS lists; the server does not connect to it.
        connection.begin(&command::register_replica(replica.server_id, "walbrook", 0)).await?;
        let payload = connection.transport.payload().await?;
        connection.answer(&payload, "registering as a replica").map_err(not_a_replica)?;
        let connection_id = connection.thread_id();
        let mut transport = connection.transport;
        transport.command(&command).await?;
        if semi_sync {
            transport.ignore_sequence();
        }
        let silence = (options.heartbeat * SILENT_HEARTBEATS).max(MIN_SILENCE);
        Ok(Dump { transport, connection_id, silence, semi_sync, skipped_bytes: 0, expected_bytes: 0 })
    }

    /// The server's number of this connection, for KILL.
    pub fn connection_id(&self) -> u32 {
        self.connection_id
    }

    /// Bytes read so far: while they grow the server is there, however long its event.
    pub fn received_bytes(&self) -> u64 {
        self.transport.received_bytes()
    }

    /// Whether the server wants its events acknowledged.
    pub fn is_semi_sync(&self) -> bool {
        self.semi_sync
    }

    /// Looks at what stands behind the events so far.
    ///
    /// # Errors
    /// The server's, with its number ([`super::error::code`]): 1236 for a log that cannot be read from there on.
    /// Transient: the server ended the dump; torn packets.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "it lends, which no Iterator can")]
    pub fn next(&mut self) -> Result<Next<'_>> {
        if self.transport.in_long() {
            return Err(Error::bug("the next event was asked for within a long one"));
        }
        let (at, long) = match self.transport.scan()? {
            Scanned::Dry => return Ok(Next::Dry),
            Scanned::Payload(at) => (at, false),
            Scanned::Long(at) => (at, true),
        };
        let payload = &self.transport.input()[at.clone()];
        let (before, wants_ack) = match (self.semi_sync, payload) {
            (false, [answer::OK, ..]) => (1, false),
            (true, [answer::OK, command::SEMI_SYNC, wish, ..]) => (3, *wish != 0),
            _ => return Err(ended(payload)),
        };
        let bytes = &payload[before..];
        if long {
            self.skipped_bytes = before;
            self.expected_bytes = declared_length(bytes);
            return Ok(Next::Long(LongEvent { head: bytes, wants_ack }));
        }
        Ok(Next::Event(RawEvent { bytes, offset: at.start + before, wants_ack }))
    }

    /// All events since the last frame, with the packets' headers between them.
    #[inline]
    pub fn take_frame(&mut self) -> Bytes {
        self.transport.take_frame()
    }

    /// One read from the socket. Returns the bytes it gave, at least one.
    ///
    /// # Errors
    /// Transient: the socket broke, or the server has been silent for three heartbeats.
    pub async fn fill(&mut self) -> Result<usize> {
        let silence = self.silence;
        timeout(silence, self.transport.fill()).await.unwrap_or_else(|_| Err(silent(silence)))
    }

    /// After [`Next::Long`]: the event, joined.
    ///
    /// # Errors
    /// As [`Self::fill`]; Data: above 1 GiB.
    pub async fn whole_event(&mut self) -> Result<Bytes> {
        self.transport.whole(self.skipped_bytes, self.expected_bytes).await
    }

    /// After [`Next::Long`]: the event's next part, of any length above 0; None behind the last. Once begun, the event is
    /// taken to its end.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub async fn event_part(&mut self) -> Result<Option<Bytes>> {
        let silence = self.silence;
        timeout(silence, self.transport.part(self.skipped_bytes)).await.unwrap_or_else(|_| Err(silent(silence)))
    }

    /// Tells the server that we hold the log up to the end of a transaction for which it asked.
    ///
    /// # Errors
    /// Transient: the socket broke. Bug: the server did not ask for any.
    pub async fn acknowledge(&mut self, file: &str, end_offset: u64) -> Result<()> {
        if !self.semi_sync {
            return Err(Error::bug("an acknowledgement that no server waits for"));
        }
        self.transport.aside(&command::semi_sync_reply(file, end_offset)).await
    }

    /// Closes the socket; the server's thread ends with its next write.
    pub async fn close(mut self) {
        self.transport.shutdown().await;
    }
}

/// MySQL says of the missing privilege what it says of a wrong password.
fn not_a_replica(error: Error) -> Error {
    let grant = match server_error(&error) {
        Some(answer) if answer.code == number::ACCESS_DENIED => {
            format!("GRANT REPLICATION SLAVE ON *.* TO {}", answer.user())
        }
        _ => return error,
    };
    error.remedy(grant)
}

/// An event's own idea of its length; it is believed only as a hint.
fn declared_length(event: &[u8]) -> usize {
    event.get(EVENT_LENGTH_AT..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
}

#[cold]
fn ended(payload: &[u8]) -> Error {
    match payload.first() {
        Some(&answer::ERR) => match answer::parse_err(payload) {
            Ok(err) => MySqlError::from(err).into_error("reading the binary log"),
            Err(error) => wire_error(error),
        },
        Some(_) if answer::is_eof(payload) => Error::transient("the server ended the dump: it is shutting down"),
        _ => wire_error(WireError::new("packet of a dump", "it is no event", 0)),
    }
}

fn silent(silence: Duration) -> Error {
    Error::transient(format!("the server has said nothing for {} s, not even a heartbeat", silence.as_secs()))
}

/// Whether the server's half of semi-synchronous replication is on.
async fn semi_sync(connection: &mut Connection) -> Result<bool> {
    let rows = connection
        .query(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('rpl_semi_sync_master_enabled', \
             'rpl_semi_sync_source_enabled')",
        )
        .await?;
    if rows.is_empty() || rows.text(0, "Value")? != Some("ON") {
        tracing::warn!("semi-sync is asked for, but the server has it switched off");
        return Ok(false);
    }
    Ok(true)
}

/// What a replica sets before it asks. Variables that a server does not know are just its session's: the names of before
/// and since 8.0.26 are both set.
fn settings(flavor: Flavor, replica: &Replica, options: &DumpOptions, semi_sync: bool) -> Vec<String> {
    let heartbeat_ns = options.heartbeat.as_nanos();
    let mut set = format!(
        "SET @master_heartbeat_period = {heartbeat_ns}, @source_heartbeat_period = {heartbeat_ns}, \
         @master_binlog_checksum = @@GLOBAL.binlog_checksum, @source_binlog_checksum = @@GLOBAL.binlog_checksum, \
         @slave_uuid = '{0}', @replica_uuid = '{0}'",
        replica.uuid
    );
    if flavor == Flavor::MariaDb {
        // All events as they are: GTIDs, compressed ones, and those of which a replica knows nothing.
        set.push_str(", @mariadb_slave_capability = 4");
    }
    if semi_sync {
        set.push_str(", @rpl_semi_sync_slave = 1, @rpl_semi_sync_replica = 1");
    }
    vec![set]
}

/// The dump's command; on MariaDB GTIDs go into session variables instead.
async fn request(connection: &mut Connection, server_id: u32, from: DumpFrom<'_>) -> Result<Vec<u8>> {
    match (connection.server().flavor, from) {
        (_, DumpFrom::File { file, offset }) => Ok(command::binlog_dump(server_id, file, offset)),
        (Flavor::MySql, DumpFrom::Gtids(GtidSet::MySql(set))) => {
            Ok(command::binlog_dump_gtid(server_id, &gtid_set::encode(set)))
        }
        (Flavor::MariaDb, DumpFrom::Gtids(GtidSet::MariaDb(set))) => {
            let position: Vec<String> = set.iter().map(|gtid| gtid.to_string()).collect();
            connection
                .execute(&format!(
                    "SET @slave_connect_state = '{}', @slave_gtid_strict_mode = 0, @slave_gtid_ignore_duplicates = 0",
                    position.join(",")
                ))
                .await?;
            Ok(command::binlog_dump(server_id, "", FIRST_EVENT as u32))
        }
        (_, DumpFrom::Gtids(set)) => Err(Error::bug(format!("{} is asked for the GTIDs {set}", connection.server()))),
    }
}

#[cfg(test)]
#[path = "dump/tests.rs"]
mod tests;
