//! Where and how to connect: a URL, with the options of the `mysql` client by their names, and its environment.
//!
//! Invariants:
//! - An option means here what it means to the client. What is not supported is refused by name, never ignored.
//! - A password is a [`SecretString`]: it is in no `Debug`, no `Display` and no error, and no error quotes the input.
//! - Nothing here reads the process's environment by itself: it is a parameter, so that parsing is a function.
//!
//! Precedence: the URL, then the environment (`MYSQL_HOST`, `MYSQL_TCP_PORT`, `MYSQL_UNIX_PORT`, `MYSQL_PWD`), then
//! defaults.

mod build;
mod syntax;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::auth::ServerKey;
use crate::error::Result;
use crate::source::socket::Keepalive;
use crate::source::tls::{ClientCert, Names, Plan, RootCert, Verify};

pub use crate::source::url::{Environment, ProcessEnvironment};

/// Everything needed to open connections to one server.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// Tried in order; never empty.
    pub hosts: Vec<Endpoint>,
    pub user: String,
    pub password: Option<SecretString>,
    /// Only a default: names are always sent with their database.
    pub database: Option<String>,
    pub tls: TlsInfo,
    pub server_key: ServerKey,
    /// The password may go to the server as it is (`mysql_clear_password`), over TLS or a Unix socket.
    pub allow_clear: bool,
    /// For one host: name, socket, TLS and login together. None waits as long as the operating system does.
    pub connect_timeout: Option<Duration>,
    pub keepalive: Keepalive,
    /// Under which number the log is asked for; None for one that nobody else uses.
    pub server_id: Option<u32>,
    /// Acknowledge transactions as a semi-synchronous replica.
    pub semi_sync: bool,
}

/// One server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: Host,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// `name` is what the certificate must say; `addr` saves looking it up.
    Tcp { name: String, addr: Option<IpAddr> },
    /// The server's socket.
    Unix(PathBuf),
}

/// The client's `ssl-mode`, in order of strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    Disabled,
    /// Encrypted where the server can.
    Preferred,
    /// Encrypted; the certificate is verified only if there is a root certificate to verify it with.
    Required,
    /// The certificate must come from a known root.
    VerifyCa,
    /// … and be made out to the host's name.
    VerifyIdentity,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    pub mode: SslMode,
    pub root: Option<RootCert>,
    pub client: Option<ClientCert>,
    /// Accept TLS 1.3 only.
    pub only_tls13: bool,
}

static TLS_NAMES: Names = Names {
    root: "ssl-ca",
    cert: "ssl-cert",
    key: "ssl-key",
    without_name: "ssl-mode=VERIFY_CA",
    server_versions: "tls_version",
};

impl TlsInfo {
    pub(super) fn plan(&self) -> Plan {
        let verify = match (self.mode, &self.root) {
            (SslMode::VerifyIdentity, _) => Verify::ChainAndName,
            (SslMode::VerifyCa, _) | (SslMode::Required, Some(_)) => Verify::Chain,
            _ => Verify::Nothing,
        };
        Plan {
            verify,
            root: self.root.clone(),
            client: self.client.clone(),
            sni: true,
            only_tls13: self.only_tls13,
            protocol: None,
            names: &TLS_NAMES,
        }
    }
}

impl ConnInfo {
    /// Reads `mysql://user:password@host:3306,host2/database?option=value&…`, or `mariadb://…`.
    ///
    /// # Errors
    /// Config: a syntax error, an unknown or unsupported option, a value out of range, options that contradict each other.
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
        write!(f, "mysql://{}@", self.user)?;
        for (i, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if i == 0 { "" } else { "," })?;
        }
        match &self.database {
            Some(database) => write!(f, "/{database}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Tcp { name, .. } if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Host::Tcp { name, .. } => write!(f, "{name}:{}", self.port),
            Host::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests;
