//! The first packets: the server's greeting and our answer.
//!
//! "Protocol::HandshakeV10":
//! ```text
//! int<1> 10   string<NUL> server_version   int<4> thread_id   string[8] auth_data_1   int<1> 0
//! int<2> capabilities, lower half   int<1> collation   int<2> status   int<2> capabilities, upper half
//! int<1> length of the auth data, or 0   string[10] reserved
//! string[max(13, length - 8)] auth_data_2   string<NUL> plugin_name
//! ```
//! "Protocol::SSLRequest" is the answer's first line alone; "Protocol::HandshakeResponse41":
//! ```text
//! int<4> capabilities   int<4> max_packet_size   int<1> collation   string[23] zero
//! string<NUL> user   string<lenenc> auth_response   [string<NUL> database]   string<NUL> plugin_name
//! int<lenenc> length of the attributes   (string<lenenc> key, string<lenenc> value)*
//! ```

use super::answer::{self, Err};
use super::read::write_length;
use crate::wire::WireError;
use crate::wire::mysql::reader::Reader;

/// "Capabilities Flags", those that matter here.
pub mod capability {
    pub const LONG_PASSWORD: u32 = 1;
    pub const LONG_FLAG: u32 = 1 << 2;
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    pub const PROTOCOL_41: u32 = 1 << 9;
    pub const SSL: u32 = 1 << 11;
    pub const TRANSACTIONS: u32 = 1 << 13;
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    pub const CONNECT_ATTRS: u32 = 1 << 20;
    pub const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
}

/// What a server must be able to do; MySQL 5.5 and MariaDB 5.5 are.
pub const NEEDED: u32 = capability::PROTOCOL_41 | capability::SECURE_CONNECTION | capability::PLUGIN_AUTH;

/// `utf8mb4_general_ci`: of all collations of utf8mb4 the one that every server has.
pub const COLLATION: u8 = 45;

/// What we say that we take: the protocol's own limit.
const MAX_PACKET_BYTES: u32 = 1 << 30;

/// Both parts of the nonce without its closing zero byte.
const NONCE_BYTES: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake<'a> {
    pub server_version: &'a [u8],
    pub thread_id: u32,
    pub capabilities: u32,
    /// What the login has to be made with: 20 bytes.
    pub nonce: Vec<u8>,
    /// The server's default plugin.
    pub plugin: &'a [u8],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting<'a> {
    Handshake(Handshake<'a>),
    /// It does not want to talk to us at all.
    Err(Err<'a>),
}

/// # Errors
/// No greeting of a MySQL server, or one of a server before 5.5.
pub fn parse(payload: &[u8]) -> Result<Greeting<'_>, WireError> {
    let mut reader = Reader::new("greeting", payload, 0);
    match reader.u8()? {
        10 => {}
        answer::ERR => return answer::parse_err(payload).map(Greeting::Err),
        byte => return Err(WireError::new("greeting", "no protocol version that is known", 0).found(byte)),
    }
    let server_version = reader.until_zero()?;
    let thread_id = reader.u32()?;
    let mut nonce = reader.take(8)?.to_vec();
    reader.u8()?;
    let lower = reader.u16()?;
    reader.u8()?;
    reader.u16()?;
    let capabilities = u32::from(lower) | u32::from(reader.u16()?) << 16;
    if capabilities & NEEDED != NEEDED {
        return Err(reader.wrong("the server cannot do what every server since 5.5 can"));
    }
    let length = usize::from(reader.u8()?);
    reader.take(10)?;
    nonce.extend_from_slice(reader.take(length.saturating_sub(8).max(13))?);
    nonce.truncate(NONCE_BYTES);
    // Some servers of 5.5 forget the zero byte.
    let plugin = match reader.clone().until_zero() {
        Ok(plugin) => plugin,
        Err(_) => reader.rest(),
    };
    Ok(Greeting::Handshake(Handshake { server_version, thread_id, capabilities, nonce, plugin }))
}

/// Our answer.
pub struct Response<'a> {
    pub capabilities: u32,
    pub user: &'a str,
    pub auth_response: &'a [u8],
    pub database: Option<&'a str>,
    pub plugin: &'a str,
    /// Shown in `performance_schema.session_connect_attrs`.
    pub attributes: &'a [(&'a str, &'a str)],
}

/// The capabilities of a connection: what we need, and what of the rest the server has.
pub fn capabilities(server: u32, encrypted: bool, database: bool) -> u32 {
    let wished = capability::LONG_PASSWORD
        | capability::LONG_FLAG
        | capability::TRANSACTIONS
        | capability::CONNECT_ATTRS
        | capability::PLUGIN_AUTH_LENENC;
    NEEDED
        | wished & server
        | if encrypted { capability::SSL } else { 0 }
        | if database { capability::CONNECT_WITH_DB } else { 0 }
}

/// The payload of SSLRequest.
pub fn ssl_request(capabilities: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    out.extend(capabilities.to_le_bytes());
    out.extend(MAX_PACKET_BYTES.to_le_bytes());
    out.push(COLLATION);
    out.extend([0; 23]);
    out
}

impl Response<'_> {
    /// The payload. Neither user, database nor plugin holds a zero byte.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = ssl_request(self.capabilities);
        out.extend_from_slice(self.user.as_bytes());
        out.push(0);
        if self.capabilities & capability::PLUGIN_AUTH_LENENC != 0 {
            write_length(self.auth_response.len() as u64, &mut out);
        } else {
            // The proofs are 0, 20 or 32 bytes long.
            out.push(self.auth_response.len() as u8);
        }
        out.extend_from_slice(self.auth_response);
        if self.capabilities & capability::CONNECT_WITH_DB != 0 {
            out.extend_from_slice(self.database.unwrap_or_default().as_bytes());
            out.push(0);
        }
        out.extend_from_slice(self.plugin.as_bytes());
        out.push(0);
        if self.capabilities & capability::CONNECT_ATTRS != 0 {
            let mut attributes = Vec::new();
            for text in self.attributes.iter().flat_map(|(key, value)| [key, value]) {
                write_length(text.len() as u64, &mut attributes);
                attributes.extend_from_slice(text.as_bytes());
            }
            write_length(attributes.len() as u64, &mut out);
            out.extend(attributes);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn greeting(plugin: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x0a8.4.6\0\x07\0\0\0".to_vec();
        bytes.extend(b"12345678\0");
        bytes.extend((NEEDED as u16).to_le_bytes());
        bytes.extend([255, 2, 0]);
        bytes.extend(((NEEDED >> 16) as u16).to_le_bytes());
        bytes.push(21);
        bytes.extend([0; 10]);
        bytes.extend(b"901234567890\0");
        bytes.extend(plugin);
        bytes
    }

    #[test]
    fn reads_a_greeting() {
        for plugin in [&b"caching_sha2_password\0"[..], b"caching_sha2_password"] {
            let bytes = greeting(plugin);
            let Ok(Greeting::Handshake(found)) = parse(&bytes) else { panic!("{:?}", parse(&bytes)) };
            assert_eq!((found.server_version, found.thread_id), (&b"8.4.6"[..], 7));
            assert_eq!(
                (found.nonce.as_slice(), found.plugin),
                (&b"12345678901234567890"[..], &b"caching_sha2_password"[..])
            );
        }
        assert!(matches!(parse(b"\xff\x10\x04Too many"), Ok(Greeting::Err(Err { code: 1040, .. }))));
        assert!(parse(b"HTTP/1.1 400 Bad Request").is_err());
        assert!(parse(b"\x09old").is_err());
        let whole = greeting(b"");
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn the_answer_begins_with_the_request_for_tls() {
        let capabilities = capabilities(u32::MAX, true, true);
        let response = Response {
            capabilities,
            user: "me",
            auth_response: b"\x01\x02",
            database: Some("db"),
            plugin: "plug",
            attributes: &[("k", "v")],
        };
        let bytes = response.encode();
        assert!(bytes.starts_with(&ssl_request(capabilities)));
        assert_eq!(&bytes[32..], b"me\0\x02\x01\x02db\0plug\0\x04\x01k\x01v");
        assert_eq!(capabilities & capability::SSL, capability::SSL);
    }

    proptest! {
        #[test]
        fn never_panics(payload in prop::collection::vec(any::<u8>(), 0..80), start in any::<bool>()) {
            let mut payload = payload;
            if start {
                payload.insert(0, 10);
            }
            let _ = parse(&payload);
        }
    }
}
