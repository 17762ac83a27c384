//! Who we are to the server: a replica among its others.
//!
//! Invariants:
//! - Two replicas of one number end each other's dumps, again and again: a number is looked for among the server's
//!   replicas first, as far as they can be seen: MariaDB shows them only to REPLICATION MASTER ADMIN, and replicas of
//!   other servers of the same topology are seen by nobody.
//! - The UUID stays the same for as long as the process runs: a server that sees it again ends the dump of a connection
//!   that we have lost and it has not.

use super::connection::Connection;
use super::error::{code, number};
use super::rows::Rows;
use super::server::Flavor;
use crate::error::{Error, Result};

/// Where a number is taken from unless one is given: ten digits from 15 to 19, which nobody gives by hand. Of 500 million
/// numbers one is taken with a chance of 1 in 5 million where a topology has a hundred servers.
pub const SERVER_IDS: std::ops::Range<u32> = 1_500_000_000..2_000_000_000;

/// How often a number is drawn anew because it is taken.
const DRAWS: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    pub server_id: u32,
    /// Lower-case hexadecimal with hyphens, version 4.
    pub uuid: String,
}

impl Replica {
    /// Takes the given number, or draws one, and asks the server whether it is free.
    ///
    /// # Errors
    /// Config: the number is the server's own or another replica's; the privilege to ask is missing.
    pub async fn choose(connection: &mut Connection, wanted: Option<u32>) -> Result<Replica> {
        let taken = taken(connection).await?;
        let uuid = uuid(rand::random());
        if let Some(server_id) = wanted {
            return match taken.iter().find(|(id, _)| *id == server_id) {
                None => Ok(Replica { server_id, uuid }),
                Some((_, who)) => Err(Error::config(format!("the server id {server_id} is taken by {who}"))
                    .remedy("give another server-id, or leave it out to have a free one chosen")),
            };
        }
        for _ in 0..DRAWS {
            let server_id = rand::random_range(SERVER_IDS);
            if !taken.iter().any(|(id, _)| *id == server_id) {
                return Ok(Replica { server_id, uuid });
            }
        }
        Err(Error::transient("no free server id was found"))
    }

    /// Whether the number is still free but for ourselves, after a connection was lost.
    ///
    /// # Errors
    /// As [`Self::choose`].
    pub async fn check(&self, connection: &mut Connection) -> Result<()> {
        match taken(connection).await?.iter().find(|(id, who)| *id == self.server_id && !who.contains(&self.uuid)) {
            None => Ok(()),
            Some((_, who)) => Err(Error::config(format!("the server id {} is taken by {who}", self.server_id))
                .remedy("give another server-id, or leave it out to have a free one chosen")),
        }
    }
}

/// The server's own number and those of its replicas, and whose each is.
async fn taken(connection: &mut Connection) -> Result<Vec<(u32, String)>> {
    let own = connection.query("SELECT @@GLOBAL.server_id AS id").await?;
    let mut taken: Vec<(u32, String)> =
        own.number(0, "id")?.map(|id| (id, "the server itself".into())).into_iter().collect();
    let renamed = match connection.server().flavor {
        Flavor::MySql => connection.server().is_mysql_since((8, 0, 22)),
        Flavor::MariaDb => connection.server().is_mariadb_since((10, 5, 1)),
    };
    let list = match (renamed, connection.server().flavor) {
        (false, _) => "SHOW SLAVE HOSTS",
        (true, Flavor::MySql) => "SHOW REPLICAS",
        (true, Flavor::MariaDb) => "SHOW REPLICA HOSTS",
    };
    let rows = match connection.query(list).await {
        Ok(rows) => rows,
        // MariaDB shows them only to who may administer replication, which a reader of its log need not: where the number
        // is taken after all, the server ends the dump that was there first.
        Err(error) if connection.server().is_mariadb() && code(&error) == Some(number::SPECIFIC_ACCESS_DENIED) => {
            tracing::debug!(?error, "whether the server id is another replica's cannot be seen");
            return Ok(taken);
        }
        Err(error) => return Err(error),
    };
    for row in 0..rows.len() {
        if let Some(id) = rows.number(row, "Server_id")? {
            taken.push((id, whose(&rows, row)?));
        }
    }
    Ok(taken)
}

fn whose(rows: &Rows, row: usize) -> Result<String> {
    let host = rows.text(row, "Host")?.filter(|host| !host.is_empty()).unwrap_or("an unnamed host");
    let uuid = ["Replica_UUID", "Slave_UUID"].into_iter().find(|column| rows.has_column(column));
    Ok(match uuid.map(|column| rows.text(row, column)).transpose()?.flatten() {
        Some(uuid) => format!("the replica {uuid} on {host}"),
        None => format!("a replica on {host}"),
    })
}

/// A UUID of version 4 (RFC 9562).
fn uuid(random: [u8; 16]) -> String {
    let mut bytes = random;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.into_iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_says_its_version() {
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
    }
}
