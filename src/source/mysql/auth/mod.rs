//! The login: whatever plugin the server asks for, as far as it is safe.
//!
//! Invariants:
//! - A password goes out as it is only over TLS or a Unix socket; else encrypted with the server's RSA key, or never.
//! - `mysql_clear_password` is used only where the operator asked for it, and over TLS or a Unix socket.
//! - The login before 4.1, and a second factor, are refused by name.
//! - A login takes at most [`MAX_TURNS`] packets of the server: a hostile one does not keep us busy.

mod ed25519;
mod hash;
mod parsec;
mod rsa;

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::error::MySqlError;
use super::transport::{Transport, wire_error};
use crate::error::{Context, Error, Result};
use crate::wire::mysql::protocol::auth::{self, Turn};

/// The longest login takes seven: a switch, a salt or a verdict, a key, and the end, twice over.
const MAX_TURNS: usize = 16;

/// `caching_sha2_password`: the server knows this proof from its cache.
const FAST_AUTH_SUCCESS: u8 = 3;
/// `caching_sha2_password`: it needs the password itself.
const FULL_AUTHENTICATION: u8 = 4;
/// Asks for the server's RSA key.
const CACHING_SHA2_KEY: u8 = 2;
const SHA256_KEY: u8 = 1;

/// Of MySQL's own plugins: letters and digits, with a zero byte behind them.
const NONCE_BYTES: usize = 20;
/// Of MariaDB's plugins that sign: any bytes, nothing behind them.
const ED25519_NONCE_BYTES: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plugin {
    CachingSha2,
    Sha256,
    Native,
    Ed25519,
    Parsec,
    Clear,
}

const PLUGINS: [(&str, Plugin); 6] = [
    ("caching_sha2_password", Plugin::CachingSha2),
    ("sha256_password", Plugin::Sha256),
    ("mysql_native_password", Plugin::Native),
    ("client_ed25519", Plugin::Ed25519),
    ("parsec", Plugin::Parsec),
    ("mysql_clear_password", Plugin::Clear),
];

/// What the RSA key of a server comes from, on connections that are not encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerKey {
    /// Whoever answers is asked for it.
    Ask,
    File(PathBuf),
    Refuse,
}

pub(super) struct Credentials<'a> {
    pub user: &'a str,
    pub password: Option<&'a SecretString>,
    pub server_key: &'a ServerKey,
    pub allow_clear: bool,
}

/// The first proof, sent with our answer to the greeting, and the name of its plugin.
pub(super) struct Opening {
    plugin: Option<Plugin>,
    pub name: &'static str,
    pub proof: Zeroizing<Vec<u8>>,
    nonce: Vec<u8>,
}

impl Opening {
    /// `plugin` is the server's default one; where we do not know it, the server will name the user's own.
    pub fn new(plugin: &[u8], nonce: Vec<u8>, credentials: &Credentials<'_>) -> Opening {
        let known = PLUGINS.iter().find(|(name, _)| name.as_bytes() == plugin);
        let (name, plugin) = match known {
            Some((name, plugin @ (Plugin::CachingSha2 | Plugin::Native))) => (*name, *plugin),
            // Nothing is given away to a plugin that may not be this user's.
            _ => ("mysql_native_password", Plugin::Native),
        };
        let proof = match plugin {
            Plugin::CachingSha2 => hash::caching_sha2(credentials.secret(), &nonce),
            _ => hash::native(credentials.secret(), &nonce),
        };
        Opening { plugin: Some(plugin), name, proof: Zeroizing::new(proof), nonce }
    }
}

impl Credentials<'_> {
    fn secret(&self) -> &[u8] {
        self.password.map(ExposeSecret::expose_secret).unwrap_or_default().as_bytes()
    }
}

/// From our answer to the greeting to the server's OK.
///
/// # Errors
/// Config: refused; a plugin that is not supported or not safe here.
pub(super) async fn login(transport: &mut Transport, opening: Opening, credentials: &Credentials<'_>) -> Result<()> {
    let mut state = State { transport, credentials, plugin: opening.plugin, nonce: opening.nonce };
    for _ in 0..MAX_TURNS {
        let payload = state.transport.payload().await?;
        match auth::parse(&payload).map_err(wire_error)? {
            Turn::Ok => return Ok(()),
            Turn::Err(err) => return Err(refused(err.into(), credentials)),
            Turn::Switch { plugin, data } => state.switch(plugin, data).await?,
            Turn::MoreData(data) | Turn::Plugin(data) => state.more(data).await?,
            Turn::Old => {
                return Err(Error::config(format!(
                    "the server wants user {} to log in as before version 4.1",
                    credentials.user
                ))
                .remedy("ALTER USER … IDENTIFIED BY … gives the user a password of today's kind"));
            }
            Turn::NextFactor { plugin } => {
                return Err(Error::config(format!(
                    "the server wants a second proof of user {} ({}), which is not supported",
                    credentials.user,
                    String::from_utf8_lossy(plugin)
                ))
                .remedy("use a user with one factor"));
            }
        }
    }
    Err(Error::transient(format!("the login did not end within {MAX_TURNS} packets")))
}

fn refused(error: MySqlError, credentials: &Credentials<'_>) -> Error {
    let doing = match credentials.password {
        Some(_) => format!("logging in as {}", credentials.user),
        None => format!("logging in as {} without a password", credentials.user),
    };
    error.into_error(doing)
}

struct State<'a> {
    transport: &'a mut Transport,
    credentials: &'a Credentials<'a>,
    plugin: Option<Plugin>,
    nonce: Vec<u8>,
}

impl State<'_> {
    async fn switch(&mut self, name: &[u8], data: &[u8]) -> Result<()> {
        let known = PLUGINS.iter().find(|(known, _)| known.as_bytes() == name);
        let Some((_, plugin)) = known else {
            let names: Vec<&str> = PLUGINS.iter().map(|(name, _)| *name).collect();
            return Err(Error::config(format!(
                "the server wants user {} to log in by {}, which is not supported",
                self.credentials.user,
                String::from_utf8_lossy(name)
            ))
            .remedy(format!("use a user with one of {}", names.join(", "))));
        };
        let nonce_bytes = match plugin {
            Plugin::CachingSha2 | Plugin::Sha256 | Plugin::Native => NONCE_BYTES,
            Plugin::Ed25519 | Plugin::Parsec => ED25519_NONCE_BYTES,
            Plugin::Clear => 0,
        };
        let data = &data[..data.len().min(nonce_bytes)];
        self.plugin = Some(*plugin);
        self.nonce = data.to_vec();
        let secret = self.credentials.secret();
        let proof = match plugin {
            Plugin::CachingSha2 => hash::caching_sha2(secret, data),
            Plugin::Native => hash::native(secret, data),
            Plugin::Ed25519 => ed25519::sign(secret, data),
            // Its salt is asked for first.
            Plugin::Parsec => Vec::new(),
            Plugin::Sha256 if secret.is_empty() => vec![0],
            Plugin::Sha256 if self.transport.is_encrypted() => zero_ended(secret).to_vec(),
            Plugin::Sha256 => match self.key_at_hand()? {
                Some(key) => key.encrypt(secret, data)?,
                None => vec![SHA256_KEY],
            },
            Plugin::Clear => self.clear()?.to_vec(),
        };
        self.send(Zeroizing::new(proof)).await
    }

    async fn more(&mut self, data: &[u8]) -> Result<()> {
        let secret = self.credentials.secret();
        let answer = match (self.plugin, data) {
            (Some(Plugin::CachingSha2), [FAST_AUTH_SUCCESS]) => return Ok(()),
            (Some(Plugin::CachingSha2), [FULL_AUTHENTICATION]) if self.is_private() => zero_ended(secret),
            (Some(Plugin::CachingSha2), [FULL_AUTHENTICATION]) => match self.key_at_hand()? {
                Some(key) => Zeroizing::new(key.encrypt(secret, &self.nonce)?),
                None => Zeroizing::new(vec![CACHING_SHA2_KEY]),
            },
            (Some(Plugin::CachingSha2 | Plugin::Sha256), pem)
                if !self.is_private() && *self.credentials.server_key == ServerKey::Ask =>
            {
                let key = rsa::PublicKey::from_pem(pem).transient(|| "reading the server's RSA key".into())?;
                Zeroizing::new(key.encrypt(secret, &self.nonce)?)
            }
            (Some(Plugin::Parsec), salt) => Zeroizing::new(parsec::answer(secret, salt, &self.nonce)?),
            _ => return Err(Error::transient("the server's packets of the login are out of turn")),
        };
        self.send(answer).await
    }

    async fn send(&mut self, proof: Zeroizing<Vec<u8>>) -> Result<()> {
        self.transport.answer(&proof).await
    }

    /// Nobody else reads what goes over it.
    fn is_private(&self) -> bool {
        self.transport.is_encrypted() || self.transport.is_unix()
    }

    /// The key of the file; None where the server is to be asked for its own.
    fn key_at_hand(&self) -> Result<Option<rsa::PublicKey>> {
        match self.credentials.server_key {
            ServerKey::Ask => Ok(None),
            ServerKey::File(path) => {
                let doing = || format!("reading the server's RSA key {}", path.display());
                let pem = std::fs::read(path).config(doing)?;
                rsa::PublicKey::from_pem(&pem).config(doing).map(Some)
            }
            ServerKey::Refuse => Err(Error::config(format!(
                "the server wants the password of user {} itself, and the connection is not encrypted",
                self.credentials.user
            ))
            .remedy("use ssl-mode=REQUIRED or stronger, or server-public-key-path, or get-server-public-key=1")),
        }
    }

    fn clear(&self) -> Result<Zeroizing<Vec<u8>>> {
        let user = self.credentials.user;
        if !self.credentials.allow_clear {
            return Err(Error::config(format!("the server wants the password of user {user} as it is"))
                .remedy("if it may have it: enable-cleartext-plugin=1, with ssl-mode=VERIFY_CA or stronger"));
        }
        if !self.is_private() {
            return Err(Error::config(format!(
                "the server wants the password of user {user} as it is, and the connection is not encrypted"
            ))
            .remedy("use ssl-mode=REQUIRED or stronger"));
        }
        Ok(zero_ended(self.credentials.secret()))
    }
}

fn zero_ended(secret: &[u8]) -> Zeroizing<Vec<u8>> {
    // Of the right size from the start: a vector that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(secret.len() + 1));
    text.extend_from_slice(secret);
    text.push(0);
    text
}
