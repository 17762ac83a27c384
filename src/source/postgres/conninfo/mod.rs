//! Where and how to connect: libpq's connection strings, environment and password file.
//!
//! Invariants:
//! - What libpq accepts means here what it means to libpq: the URL and the keyword form, `PG*` variables, `.pgpass`,
//!   the six sslmodes and their defaults. What is not supported is refused by name, never ignored where that would weaken
//!   security.
//! - A password is a [`SecretString`]: it is in no `Debug`, no `Display` and no error, and no error quotes the input.
//! - Nothing here reads the process's environment by itself: it is a parameter, so that parsing is a function.
//!
//! Precedence: the connection string, then the environment, then the password file (passwords only), then defaults.

mod build;
mod passfile;
mod syntax;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use crate::error::Result;
use crate::source::tls::{Names, Plan, Verify};

pub use crate::source::socket::Keepalive;
pub use crate::source::tls::{ClientCert, RootCert};
pub use crate::source::url::{Environment, ProcessEnvironment};

/// Everything needed to open connections to one database.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// Tried in order; never empty.
    pub hosts: Vec<Endpoint>,
    pub user: String,
    pub database: String,
    pub application_name: String,
    /// The user's own `-c name=value` options; our pinned settings come after them and win.
    pub options: Option<String>,
    pub session: SessionAttrs,
    pub tls: TlsInfo,
    pub channel_binding: ChannelBinding,
    /// For one host: name, socket, TLS and login together. None waits as long as the operating system does.
    pub connect_timeout: Option<Duration>,
    pub keepalive: Keepalive,
    /// Try the hosts in random order.
    pub load_balance: bool,
}

/// One server to try.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub host: Host,
    pub port: u16,
    /// From the connection string, the environment or this host's line in the password file.
    pub password: Option<SecretString>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// `name` is what the certificate must say; `addr` (hostaddr) saves looking it up.
    Tcp { name: String, addr: Option<IpAddr> },
    /// The directory of the server's socket.
    Unix(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAttrs {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    /// A standby if there is one, else any.
    PreferStandby,
}

/// libpq's, in order of strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    Disable,
    /// Plain; encrypted if the server will not have it so.
    Allow,
    /// Encrypted; plain if that fails.
    Prefer,
    /// Encrypted; the certificate is verified only if there is a root certificate to verify it with.
    Require,
    /// The certificate must come from a known root.
    VerifyCa,
    /// … and be made out to the host's name.
    VerifyFull,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    pub mode: SslMode,
    pub root: Option<RootCert>,
    pub client: Option<ClientCert>,
    /// TLS from the first byte (PostgreSQL 17+), no SSLRequest.
    pub direct: bool,
    /// Send the host's name in the clear, as TLS does.
    pub sni: bool,
    /// Accept TLS 1.3 only.
    pub only_tls13: bool,
}

/// libpq's names.
static TLS_NAMES: Names = Names {
    root: "sslrootcert",
    cert: "sslcert",
    key: "sslkey",
    without_name: "sslmode=verify-ca",
    server_versions: "ssl_max_protocol_version",
};

impl TlsInfo {
    pub(super) fn plan(&self) -> Plan {
        let verify = match (self.mode, &self.root) {
            (SslMode::VerifyFull, _) => Verify::ChainAndName,
            (SslMode::VerifyCa, _) | (SslMode::Require, Some(_)) => Verify::Chain,
            // A root certificate counts from `require` on. (libpq verifies below that too, and where it fails goes on
            // without encryption: encrypted to whomever is not worse.)
            _ => Verify::Nothing,
        };
        Plan {
            verify,
            root: self.root.clone(),
            client: self.client.clone(),
            sni: self.sni,
            only_tls13: self.only_tls13,
            // A server refuses direct TLS without this name ("SSL Session Encryption").
            protocol: self.direct.then_some("postgresql"),
            names: &TLS_NAMES,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

impl ConnInfo {
    /// Reads a URL (`postgres://user@host:5432/db?sslmode=require`) or a keyword string (`host=… dbname=…`; the empty
    /// string takes everything from the environment).
    ///
    /// # Errors
    /// Config: a syntax error, an unknown or unsupported key, a value out of range, settings that contradict each other.
    pub fn parse(text: &str, environment: &dyn Environment) -> Result<ConnInfo> {
        build::build(syntax::parse(text)?, environment)
    }

    /// The same, from this process's environment.
    ///
    /// # Errors
    /// As [`ConnInfo::parse`].
    pub fn from_process(text: &str) -> Result<ConnInfo> {
        Self::parse(text, &ProcessEnvironment)
    }

    /// The same way to connect, to one of the hosts only: every connection to the server that was found first.
    pub fn at(&self, endpoint: &Endpoint) -> ConnInfo {
        ConnInfo { hosts: vec![endpoint.clone()], ..self.clone() }
    }
}

impl fmt::Display for ConnInfo {
    /// A URL without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgres://{}@", self.user)?;
        for (i, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if i == 0 { "" } else { "," })?;
        }
        write!(f, "/{}", self.database)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Tcp { name, .. } if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Host::Tcp { name, .. } => write!(f, "{name}:{}", self.port),
            Host::Unix(_) => write!(f, "{}", self.socket_path().unwrap_or_default().display()),
        }
    }
}

impl Endpoint {
    /// The file of a unix socket: `DIR/.s.PGSQL.PORT`.
    pub fn socket_path(&self) -> Option<PathBuf> {
        match &self.host {
            Host::Tcp { .. } => None,
            Host::Unix(directory) => Some(socket_in(directory, self.port)),
        }
    }
}

fn socket_in(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

#[cfg(test)]
mod tests;
