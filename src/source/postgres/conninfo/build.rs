//! From pairs of key and value, the environment and the defaults to a [`ConnInfo`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::passfile::{self, Wanted};
use super::syntax::Pairs;
use super::{
    ChannelBinding, ClientCert, ConnInfo, Endpoint, Environment, Host, Keepalive, RootCert, SessionAttrs, SslMode,
    TlsInfo, socket_in,
};
use crate::error::{Error, Result};
use crate::source::socket::{DEFAULT_CONNECT_TIMEOUT, DEFAULT_KEEPALIVE};

const DEFAULT_PORT: u16 = 5432;

/// Where servers put their socket: Debian and Red Hat; Postgres' own default.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Every key we understand and its variable.
const KEYS: &[(&str, &str)] = &[
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("sslsni", "PGSSLSNI"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("application_name", "PGAPPNAME"),
    ("fallback_application_name", ""),
    ("options", "PGOPTIONS"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    ("keepalives", ""),
    ("keepalives_idle", ""),
    ("keepalives_interval", ""),
    ("keepalives_count", ""),
    ("tcp_user_timeout", ""),
    // Understood where they ask for what we do anyway, refused otherwise.
    ("client_encoding", ""),
    ("replication", ""),
    ("gssencmode", "PGGSSENCMODE"),
    ("sslcompression", "PGSSLCOMPRESSION"),
];

/// libpq's other keys: they restrict the connection, so leaving them out silently would be wrong.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("service", "PGSERVICE"),
    ("servicefile", "PGSERVICEFILE"),
    ("require_auth", "PGREQUIREAUTH"),
    ("requirepeer", "PGREQUIREPEER"),
    ("sslcrl", "PGSSLCRL"),
    ("sslcrldir", "PGSSLCRLDIR"),
    ("sslpassword", ""),
    ("sslcertmode", "PGSSLCERTMODE"),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    ("krbsrvname", ""),
    ("gsslib", ""),
    ("gssdelegation", ""),
    ("min_protocol_version", "PGMINPROTOCOLVERSION"),
    ("max_protocol_version", "PGMAXPROTOCOLVERSION"),
    ("scram_client_key", ""),
    ("scram_server_key", ""),
];

struct Settings<'a> {
    given: HashMap<String, String>,
    environment: &'a dyn Environment,
}

pub(super) fn build(pairs: Pairs, environment: &dyn Environment) -> Result<ConnInfo> {
    for (key, _) in &pairs {
        if !KEYS.iter().any(|(known, _)| known == key) {
            return Err(unknown(key));
        }
    }
    for (key, variable) in UNSUPPORTED {
        if !variable.is_empty() && environment.var(variable).is_some() {
            return Err(Error::config(format!("{variable} is set, but {key} is not supported"))
                .remedy(format!("unset {variable}")));
        }
    }
    let settings = Settings { given: pairs.into_iter().collect(), environment };
    settings.what_we_do_anyway()?;

    let user = match settings.get("user") {
        Some(user) => user,
        None => environment.os_user().ok_or_else(|| {
            Error::config("no user is given and the operating system does not tell its own")
                .remedy("set user or PGUSER")
        })?,
    };
    let database = settings.get("dbname").unwrap_or_else(|| user.clone());
    let tls = settings.tls()?;
    Ok(ConnInfo {
        hosts: settings.hosts(&database, &user)?,
        application_name: settings
            .get("application_name")
            .or_else(|| settings.get("fallback_application_name"))
            .unwrap_or_else(|| "walbrook".into()),
        options: settings.get("options"),
        session: settings.choice(
            "target_session_attrs",
            SessionAttrs::Any,
            &[
                ("any", SessionAttrs::Any),
                ("read-write", SessionAttrs::ReadWrite),
                ("read-only", SessionAttrs::ReadOnly),
                ("primary", SessionAttrs::Primary),
                ("standby", SessionAttrs::Standby),
                ("prefer-standby", SessionAttrs::PreferStandby),
            ],
        )?,
        channel_binding: settings.channel_binding(&tls)?,
        tls,
        connect_timeout: settings.connect_timeout()?,
        keepalive: settings.keepalive()?,
        load_balance: settings.choice("load_balance_hosts", false, &[("disable", false), ("random", true)])?,
        user,
        database,
    })
}

impl Settings<'_> {
    /// The value of a key: what was given, else its variable. Given but empty means the default, as in libpq.
    fn get(&self, key: &str) -> Option<String> {
        if let Some(value) = self.given.get(key) {
            return Some(value.clone()).filter(|value| !value.is_empty());
        }
        let (_, variable) = KEYS.iter().find(|(known, _)| *known == key)?;
        self.environment.var(variable)
    }

    fn choice<T: Copy>(&self, key: &str, default: T, choices: &[(&str, T)]) -> Result<T> {
        let Some(value) = self.get(key) else { return Ok(default) };
        choices.iter().find(|(name, _)| *name == value).map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            Error::config(format!("{key}: \"{value}\" is not a value of it"))
                .remedy(format!("one of {}", names.join(", ")))
        })
    }

    fn number(&self, key: &str) -> Result<Option<i32>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match value.trim().parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Error::config(format!("{key}: \"{value}\" is not a whole number"))),
            },
        }
    }

    /// Seconds; 0 and below mean "the system's own".
    fn seconds(&self, key: &str, default: Option<Duration>) -> Result<Option<Duration>> {
        Ok(match self.number(key)? {
            None => default,
            Some(seconds) => u64::try_from(seconds).ok().filter(|&s| s > 0).map(Duration::from_secs),
        })
    }

    fn what_we_do_anyway(&self) -> Result<()> {
        let refuse = |key: &str, value: String, why: &str| {
            Err(Error::config(format!("{key}={value} is not supported: {why}")).remedy(format!("leave {key} out")))
        };
        match self.get("client_encoding") {
            Some(value) if !["auto", "utf8", "utf-8", "unicode"].contains(&value.to_ascii_lowercase().as_str()) => {
                return refuse("client_encoding", value, "text is always taken as UTF8");
            }
            _ => {}
        }
        match self.get("replication") {
            Some(value) if value != "database" => {
                return refuse("replication", value, "it is set where it is needed");
            }
            _ => {}
        }
        match self.get("gssencmode") {
            Some(value) if value == "require" => refuse("gssencmode", value, "GSSAPI encryption is not built in"),
            _ => Ok(()),
        }
    }

    fn hosts(&self, database: &str, user: &str) -> Result<Vec<Endpoint>> {
        let list = |key: &str| -> Vec<String> {
            self.get(key).map(|all| all.split(',').map(|one| one.trim().to_owned()).collect()).unwrap_or_default()
        };
        let (names, addrs, ports) = (list("host"), list("hostaddr"), list("port"));
        let count = names.len().max(addrs.len()).max(1);
        if !names.is_empty() && !addrs.is_empty() && names.len() != addrs.len() {
            return Err(Error::config(format!("{} hosts, but {} hostaddrs", names.len(), addrs.len())));
        }
        if ports.len() > 1 && ports.len() != count {
            return Err(Error::config(format!("{count} hosts, but {} ports", ports.len()))
                .remedy("give one port, or one for every host"));
        }
        let passwords = self.passwords();
        (0..count)
            .map(|i| {
                let port =
                    match ports.get(if ports.len() == 1 { 0 } else { i }).map_or("", String::as_str) {
                        "" => DEFAULT_PORT,
                        port => port.parse().ok().filter(|&port| port > 0).ok_or_else(|| {
                            Error::config(format!("port: \"{port}\" is not a number from 1 to 65535"))
                        })?,
                    };
                let host =
                    host(names.get(i).map_or("", String::as_str), addrs.get(i).map_or("", String::as_str), port)?;
                let password = passwords.of(&host, port, database, user);
                Ok(Endpoint { host, port, password })
            })
            .collect()
    }

    fn passwords(&self) -> Passwords {
        if let Some(password) = self.get("password") {
            return Passwords::Given(password.into());
        }
        let path = self.get("passfile").map(PathBuf::from).or_else(|| Some(self.home()?.join(".pgpass")));
        match path.and_then(|path| passfile::read(&path)) {
            Some(text) => Passwords::File(text),
            None => Passwords::None,
        }
    }

    fn home(&self) -> Option<PathBuf> {
        self.environment.var("HOME").map(PathBuf::from)
    }

    /// A file that libpq takes by itself when it is there.
    fn default_file(&self, name: &str) -> Option<PathBuf> {
        Some(self.home()?.join(".postgresql").join(name)).filter(|path| path.is_file())
    }

    fn tls(&self) -> Result<TlsInfo> {
        let explicit_root = self.get("sslrootcert");
        let system = explicit_root.as_deref() == Some("system");
        let mode = self.choice(
            "sslmode",
            if system { SslMode::VerifyFull } else { SslMode::Prefer },
            &[
                ("disable", SslMode::Disable),
                ("allow", SslMode::Allow),
                ("prefer", SslMode::Prefer),
                ("require", SslMode::Require),
                ("verify-ca", SslMode::VerifyCa),
                ("verify-full", SslMode::VerifyFull),
            ],
        )?;
        if system && mode != SslMode::VerifyFull {
            return Err(Error::config("sslrootcert=system with an sslmode weaker than verify-full")
                .remedy("use sslmode=verify-full: anybody can have a certificate from a public root"));
        }
        let root = match explicit_root {
            Some(_) if system => Some(RootCert::System),
            Some(path) => Some(RootCert::File(path.into())),
            None => self.default_file("root.crt").map(RootCert::File),
        };
        if mode >= SslMode::VerifyCa && root.is_none() {
            return Err(Error::config(
                "sslmode=verify-ca or verify-full, but there is no root certificate to verify with",
            )
            .remedy(
                "set sslrootcert to the file of the authority that signed the server's certificate, or to system",
            ));
        }
        let direct = self.choice("sslnegotiation", false, &[("postgres", false), ("direct", true)])?;
        if direct && mode < SslMode::Require {
            return Err(Error::config("sslnegotiation=direct with an sslmode weaker than require")
                .remedy("use sslmode=require, verify-ca or verify-full"));
        }
        Ok(TlsInfo {
            mode,
            root,
            client: self.client_cert()?,
            direct,
            sni: self.choice("sslsni", true, &[("0", false), ("1", true)])?,
            only_tls13: self.choice(
                "ssl_min_protocol_version",
                false,
                &[("TLSv1", false), ("TLSv1.1", false), ("TLSv1.2", false), ("TLSv1.3", true)],
            )?,
        })
    }

    fn client_cert(&self) -> Result<Option<ClientCert>> {
        let key = |cert: &Path| {
            let beside = self.get("sslkey").map(PathBuf::from);
            beside.or_else(|| self.default_file("postgresql.key")).ok_or_else(|| {
                Error::config(format!("there is a client certificate ({}), but no private key", cert.display()))
                    .remedy("set sslkey to the file of its key")
            })
        };
        let Some(cert) = self.get("sslcert").map(PathBuf::from).or_else(|| self.default_file("postgresql.crt")) else {
            return Ok(None);
        };
        Ok(Some(ClientCert { key: key(&cert)?, cert }))
    }

    fn channel_binding(&self, tls: &TlsInfo) -> Result<ChannelBinding> {
        let binding = self.choice(
            "channel_binding",
            ChannelBinding::Prefer,
            &[
                ("disable", ChannelBinding::Disable),
                ("prefer", ChannelBinding::Prefer),
                ("require", ChannelBinding::Require),
            ],
        )?;
        if binding == ChannelBinding::Require && tls.mode == SslMode::Disable {
            return Err(Error::config("channel_binding=require with sslmode=disable: there is no channel to bind to")
                .remedy("use sslmode=require or stronger"));
        }
        Ok(binding)
    }

    fn connect_timeout(&self) -> Result<Option<Duration>> {
        // As libpq, which takes 1 for 2: a second is too short for a name, a handshake and a login.
        let timeout = self.seconds("connect_timeout", Some(DEFAULT_CONNECT_TIMEOUT))?;
        Ok(timeout.map(|timeout| timeout.max(Duration::from_secs(2))))
    }

    fn keepalive(&self) -> Result<Keepalive> {
        let default = DEFAULT_KEEPALIVE;
        Ok(Keepalive {
            enabled: self.choice("keepalives", default.enabled, &[("0", false), ("1", true)])?,
            idle: self.seconds("keepalives_idle", default.idle)?,
            interval: self.seconds("keepalives_interval", default.interval)?,
            count: match self.number("keepalives_count")? {
                None => default.count,
                Some(count) => u32::try_from(count).ok().filter(|&count| count > 0),
            },
            user_timeout: match self.number("tcp_user_timeout")? {
                None => default.user_timeout,
                Some(ms) => u64::try_from(ms).ok().filter(|&ms| ms > 0).map(Duration::from_millis),
            },
        })
    }
}

enum Passwords {
    Given(SecretString),
    File(SecretString),
    None,
}

impl Passwords {
    fn of(&self, host: &Host, port: u16, database: &str, user: &str) -> Option<SecretString> {
        match self {
            Passwords::Given(password) => Some(password.clone()),
            Passwords::None => None,
            Passwords::File(text) => {
                let name = match host {
                    Host::Tcp { name, .. } => name.as_str().into(),
                    Host::Unix(path) if SOCKET_DIRECTORIES.iter().any(|dir| path == Path::new(dir)) => {
                        "localhost".into()
                    }
                    Host::Unix(path) => path.to_string_lossy(),
                };
                passfile::find(text.expose_secret(), Wanted { host: &name, port, database, user })
            }
        }
    }
}

fn host(name: &str, addr: &str, port: u16) -> Result<Host> {
    let addr: Option<IpAddr> = match addr {
        "" => None,
        addr => Some(addr.parse().map_err(|_| Error::config(format!("hostaddr: \"{addr}\" is not an IP address")))?),
    };
    Ok(match (name, addr) {
        ("", None) => {
            // As libpq: the local server's socket. Where there is none, a sidecar's server is next door by TCP.
            let socket = SOCKET_DIRECTORIES.iter().find(|dir| socket_in(Path::new(dir), port).exists());
            match socket {
                Some(directory) => Host::Unix(directory.into()),
                None => Host::Tcp { name: "localhost".into(), addr: None },
            }
        }
        ("", Some(addr)) => Host::Tcp { name: addr.to_string(), addr: Some(addr) },
        (path, None) if path.starts_with('/') => Host::Unix(path.into()),
        (name, _) if name.starts_with(['/', '@']) => {
            return Err(Error::config(
                "host: a socket in the abstract namespace, or with a hostaddr, is not supported",
            ));
        }
        (name, addr) => Host::Tcp { name: name.into(), addr },
    })
}

fn unknown(key: &str) -> Error {
    if UNSUPPORTED.iter().any(|(known, _)| *known == key) {
        return Error::config(format!("connection string: {key} is not supported")).remedy(format!("leave {key} out"));
    }
    let closest = KEYS.iter().map(|(known, _)| (distance(key, known), *known)).min();
    let error = Error::config(format!("connection string: unknown key \"{key}\""));
    match closest {
        // Half of it right, and no more than three letters wrong.
        Some((distance, known)) if distance <= 3 && distance * 2 <= known.len() => {
            error.remedy(format!("did you mean {known}?"))
        }
        _ => {
            let names: Vec<&str> = KEYS.iter().map(|(known, _)| *known).collect();
            error.remedy(format!("the keys are {}", names.join(", ")))
        }
    }
}

/// Levenshtein's edit distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
