//! Which XA transactions are prepared, as the server lists them.

use std::collections::HashSet;
use std::sync::Once;

use super::ask::{Ask, TextRow, number, text};
use super::error;
use super::server::{Flavor, Server};
use super::xa::{XidKey, unhex};
use crate::error::{Error, Result};

/// "XAER_RMERR", MySQL's answer to XA RECOVER without the privilege XA_RECOVER_ADMIN.
const XA_RMERR: u16 = 1401;

/// Those that are prepared now; none, and a warning, where the account may not know.
///
/// # Errors
/// The server's.
pub async fn list<C: Ask + ?Sized>(ask: &mut C, server: &Server) -> Result<HashSet<XidKey>> {
    let sql = match server.flavor {
        Flavor::MySql => "XA RECOVER CONVERT XID",
        Flavor::MariaDb => "XA RECOVER FORMAT='SQL'",
    };
    match ask.rows(sql, "asking for prepared XA transactions").await {
        Ok(rows) => {
            let name = |row| xid(row).ok_or_else(|| Error::bug(format!("{sql} says {row:?}")));
            rows.iter().map(name).collect()
        }
        Err(error) if matches!(error::code(&error), Some(XA_RMERR | error::number::SPECIFIC_ACCESS_DENIED)) => {
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                tracing::warn!(
                    "whether XA transactions are prepared cannot be asked (GRANT XA_RECOVER_ADMIN ON *.* to this user): \
                     the rows of one that is prepared now are looked for in the log when it is committed"
                );
            });
            Ok(HashSet::new())
        }
        Err(error) => Err(error),
    }
}

/// ```text
/// formatID  gtrid_length  bqual_length  data
/// 7         2             2             0x676C6272            MySQL: both parts
/// 7         2             2             'gl','br',7           MariaDB, where all of both is printable; nothing is escaped
/// 1         2             0             X'00ff'               MariaDB else; without a branch and with format 1
/// ```
fn xid(row: &TextRow) -> Option<XidKey> {
    let format_id: i32 = text(row, 0).parse().ok()?;
    let (global, branch) = (number(row, 1)? as usize, number(row, 2)? as usize);
    let data = text(row, 3);
    if let Some(digits) = data.strip_prefix("0x") {
        let bytes = unhex(digits).filter(|bytes| bytes.len() == global + branch)?;
        return Some(XidKey::of(format_id, &bytes[..global], &bytes[global..]));
    }
    let (first, rest) = part(data, global)?;
    let second = match branch {
        0 => Vec::new(),
        _ => part(rest.strip_prefix(',')?, branch)?.0,
    };
    Some(XidKey::of(format_id, &first, &second))
}

/// A literal of so many bytes, and what follows it.
fn part(text: &str, bytes: usize) -> Option<(Vec<u8>, &str)> {
    let (value, rest) = match text.strip_prefix("X'") {
        Some(digits) => {
            let (digits, rest) = digits.split_at_checked(2 * bytes)?;
            (unhex(digits)?, rest)
        }
        None => {
            let (plain, rest) = text.strip_prefix('\'')?.split_at_checked(bytes)?;
            (plain.into(), rest)
        }
    };
    Some((value, rest.strip_prefix('\'')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_each_server_lists_them() {
        let read = |columns: [&str; 4]| xid(&columns.iter().map(|text| Some(text.to_string())).collect());
        let both = Some(XidKey::of(7, b"gl", b"br"));
        assert_eq!(read(["7", "2", "2", "0x676C6272"]), both);
        assert_eq!(read(["7", "2", "2", "'gl','br',7"]), both);
        assert_eq!(read(["7", "2", "2", "X'676c',X'6272',7"]), both);
        assert_eq!(read(["1", "2", "0", "X'00ff'"]), Some(XidKey::of(1, b"\0\xff", b"")));
        assert_eq!(read(["1", "3", "2", "'a',','',',1"]), Some(XidKey::of(1, b"a',", b"',")));
        assert_eq!(read(["-1", "1", "0", "0x61"]), Some(XidKey::of(-1, b"a", b"")));
        for wrong in [["1", "2", "0", "0x61"], ["1", "1", "1", "'a'"], ["x", "1", "0", "'a'"], ["1", "9", "0", "'ä'"]]
        {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
