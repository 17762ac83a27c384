//! From the parts of a URL, the environment and the defaults to a [`ConnInfo`].

use std::path::PathBuf;
use std::time::Duration;

use super::syntax::Parts;
use super::{ConnInfo, Endpoint, Environment, Host, SslMode, TlsInfo};
use crate::error::{Error, Result};
use crate::source::mysql::auth::ServerKey;
use crate::source::socket::{DEFAULT_CONNECT_TIMEOUT, DEFAULT_KEEPALIVE};
use crate::source::tls::{ClientCert, RootCert};
use crate::suggest::nearest;

const DEFAULT_PORT: u16 = 3306;

/// Where servers put their socket: Debian's and Oracle's packages, MySQL's own default.
const SOCKETS: [&str; 4] =
    ["/run/mysqld/mysqld.sock", "/var/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock"];

const OPTIONS: [&str; 17] = [
    "host",
    "port",
    "socket",
    "user",
    "password",
    "database",
    "ssl-mode",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "tls-version",
    "connect-timeout",
    "get-server-public-key",
    "server-public-key-path",
    "enable-cleartext-plugin",
    "server-id",
    "semi-sync",
];

/// The client's other options that matter to a connection: leaving them out silently would be wrong.
const UNSUPPORTED: [&str; 18] = [
    "ssl",
    "ssl-verify-server-cert",
    "ssl-capath",
    "ssl-cipher",
    "ssl-crl",
    "ssl-crlpath",
    "ssl-fips-mode",
    "ssl-fp",
    "tls-ciphersuites",
    "tls-sni-servername",
    "protocol",
    "compress",
    "compression-algorithms",
    "default-auth",
    "plugin-dir",
    "init-command",
    "defaults-file",
    "login-path",
];

struct Options<'a> {
    given: Vec<(String, String)>,
    environment: &'a dyn Environment,
}

pub(super) fn build(parts: Parts, environment: &dyn Environment) -> Result<ConnInfo> {
    for (name, _) in &parts.options {
        if !OPTIONS.contains(&name.as_str()) {
            return Err(unknown(name));
        }
    }
    let Parts { user, password, hosts, database, options } = parts;
    let options = Options { given: options, environment };
    let user = match options.get("user").or(user).or_else(|| environment.os_user()) {
        Some(user) => user,
        None => {
            return Err(Error::config("no user is given and the operating system does not tell its own")
                .remedy("mysql://USER@host"));
        }
    };
    let password = options.get("password").map(Into::into).or(password);
    Ok(ConnInfo {
        hosts: options.hosts(hosts)?,
        user,
        // An empty one in the URL means: none.
        password: password.or_else(|| environment.var("MYSQL_PWD").map(Into::into)),
        database: options.get("database").or(database),
        tls: options.tls()?,
        server_key: options.server_key()?,
        allow_clear: options.switch("enable-cleartext-plugin", false)?,
        connect_timeout: options.connect_timeout()?,
        keepalive: DEFAULT_KEEPALIVE,
        server_id: options.server_id()?,
        semi_sync: options.switch("semi-sync", false)?,
    })
}

impl Options<'_> {
    /// The last value given; an empty one means the default.
    fn get(&self, name: &str) -> Option<String> {
        let (_, value) = self.given.iter().rev().find(|(given, _)| given == name)?;
        Some(value.clone()).filter(|value| !value.is_empty())
    }

    fn switch(&self, name: &str, default: bool) -> Result<bool> {
        match self.get(name).map(|value| value.to_ascii_lowercase()).as_deref() {
            None => Ok(default),
            Some("1" | "on" | "true") => Ok(true),
            Some("0" | "off" | "false") => Ok(false),
            Some(_) => Err(Error::config(format!("connection URL: {name} is neither 0 nor 1"))),
        }
    }

    fn number<T: std::str::FromStr>(&self, name: &str, range: &str) -> Result<Option<T>> {
        match self.get(name).map(|value| value.parse()) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(Error::config(format!("connection URL: {name} is not a number {range}"))),
        }
    }

    fn hosts(&self, given: Vec<(String, String)>) -> Result<Vec<Endpoint>> {
        let default_port = match self.number::<u16>("port", "from 1 to 65535")? {
            Some(port) => port,
            None => match self.environment.var("MYSQL_TCP_PORT") {
                None => DEFAULT_PORT,
                Some(text) => text.parse().map_err(|_| Error::config("MYSQL_TCP_PORT is not a number of a port"))?,
            },
        };
        if let Some(path) = self.get("socket") {
            let elsewhere = given.iter().any(|(name, _)| !name.is_empty() && name != "localhost");
            if elsewhere || given.len() > 1 {
                return Err(Error::config("connection URL: a socket, and another host than localhost")
                    .remedy("write mysql://user@localhost/?socket=PATH"));
            }
            return Ok(vec![Endpoint { host: Host::Unix(path.into()), port: default_port }]);
        }
        let given = match self.get("host") {
            Some(_) if !given.is_empty() => {
                return Err(Error::config("connection URL: hosts before the / and behind the ?"));
            }
            Some(hosts) => hosts.split(',').map(|host| (host.trim().to_owned(), String::new())).collect(),
            None => given,
        };
        if given.iter().all(|(name, port)| name.is_empty() && port.is_empty()) {
            return Ok(vec![self.default_host(default_port)]);
        }
        given
            .into_iter()
            .map(|(name, port)| {
                let port = match port.as_str() {
                    "" => default_port,
                    text => text.parse().ok().filter(|&port| port > 0).ok_or_else(|| {
                        Error::config(format!("connection URL: \"{text}\" is not a port from 1 to 65535"))
                    })?,
                };
                let name = if name.is_empty() { "localhost".to_owned() } else { name };
                let host = match name.starts_with('/') {
                    true => Host::Unix(name.into()),
                    false => Host::Tcp { name, addr: None },
                };
                Ok(Endpoint { host, port })
            })
            .collect()
    }

    /// As the client: the local server's socket. Where there is none, a sidecar's server is next door by TCP.
    fn default_host(&self, port: u16) -> Endpoint {
        let name = self.environment.var("MYSQL_HOST");
        let socket = self.environment.var("MYSQL_UNIX_PORT").map(PathBuf::from);
        let socket = socket.or_else(|| SOCKETS.iter().map(PathBuf::from).find(|path| path.exists()));
        let host = match (name, socket) {
            (Some(name), _) => Host::Tcp { name, addr: None },
            (None, Some(path)) => Host::Unix(path),
            (None, None) => Host::Tcp { name: "localhost".into(), addr: None },
        };
        Endpoint { host, port }
    }

    fn tls(&self) -> Result<TlsInfo> {
        let root = self.get("ssl-ca").map(|text| match text.as_str() {
            "system" => RootCert::System,
            _ => RootCert::File(text.into()),
        });
        // As the client: a root certificate without a mode is there to verify with.
        let default = if root.is_some() { SslMode::VerifyCa } else { SslMode::Preferred };
        let mode = match self.get("ssl-mode").map(|mode| mode.to_ascii_uppercase()).as_deref() {
            None => default,
            Some("DISABLED") => SslMode::Disabled,
            Some("PREFERRED") => SslMode::Preferred,
            Some("REQUIRED") => SslMode::Required,
            Some("VERIFY_CA") => SslMode::VerifyCa,
            Some("VERIFY_IDENTITY") => SslMode::VerifyIdentity,
            Some(_) => {
                return Err(Error::config("connection URL: ssl-mode has a value that is not known")
                    .remedy("one of DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY"));
            }
        };
        if mode >= SslMode::VerifyCa && root.is_none() {
            return Err(Error::config(
                "ssl-mode=VERIFY_CA or VERIFY_IDENTITY, but there is no root certificate to verify with",
            )
            .remedy("set ssl-ca to the file of the authority that signed the server's certificate, or to system"));
        }
        if root == Some(RootCert::System) && mode != SslMode::VerifyIdentity {
            return Err(Error::config("ssl-ca=system with an ssl-mode weaker than VERIFY_IDENTITY")
                .remedy("use ssl-mode=VERIFY_IDENTITY: anybody can have a certificate from a public root"));
        }
        let client = match (self.get("ssl-cert"), self.get("ssl-key")) {
            (Some(cert), Some(key)) => Some(ClientCert { cert: cert.into(), key: key.into() }),
            (None, None) => None,
            _ => {
                return Err(Error::config("connection URL: ssl-cert and ssl-key belong together, and one is missing"));
            }
        };
        let only_tls13 = match self.get("tls-version").as_deref() {
            None | Some("TLSv1.2,TLSv1.3") => false,
            Some("TLSv1.3") => true,
            Some(_) => {
                return Err(Error::config("connection URL: tls-version has a value that is not supported")
                    .remedy("TLSv1.3, or TLSv1.2,TLSv1.3, which is the default"));
            }
        };
        Ok(TlsInfo { mode, root, client, only_tls13 })
    }

    fn server_key(&self) -> Result<ServerKey> {
        if let Some(path) = self.get("server-public-key-path") {
            return Ok(ServerKey::File(path.into()));
        }
        Ok(match self.switch("get-server-public-key", true)? {
            true => ServerKey::Ask,
            false => ServerKey::Refuse,
        })
    }

    fn connect_timeout(&self) -> Result<Option<Duration>> {
        Ok(match self.number::<u32>("connect-timeout", "of seconds")? {
            None => Some(DEFAULT_CONNECT_TIMEOUT),
            Some(0) => None,
            Some(seconds) => Some(Duration::from_secs(seconds.into())),
        })
    }

    fn server_id(&self) -> Result<Option<u32>> {
        let range = "from 1 to 4294967295";
        match self.number::<u32>("server-id", range)? {
            Some(0) => Err(Error::config(format!("connection URL: server-id is not a number {range}"))),
            id => Ok(id),
        }
    }
}

fn unknown(name: &str) -> Error {
    if UNSUPPORTED.contains(&name) {
        return Error::config(format!("connection URL: {name} is not supported")).remedy(match name {
            "ssl" | "ssl-verify-server-cert" => "use ssl-mode".into(),
            _ => format!("leave {name} out"),
        });
    }
    let error = Error::config(format!("connection URL: unknown option \"{name}\""));
    match nearest(name, OPTIONS) {
        Some(near) => error.remedy(format!("did you mean {near}?")),
        None => error.remedy(format!("the options are {}", OPTIONS.join(", "))),
    }
}
