//! The gRPC server's part of the configuration.
//!
//! Invariants:
//! - What is not encrypted is reached from this machine alone, unless `insecure` says otherwise.
//! - A token is in no message, no `Debug` and no `walbrook spec`.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use super::{ByteSize, Span};

/// Programs in any language subscribe to the changes by gRPC (`walbrook.v1.ChangeStream`).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Grpc")]
pub struct RawGrpc {
    /// Where clients connect: `ADDRESS:PORT`. An address that other machines reach wants `tls`, or `insecure: true`.
    pub listen: String,
    /// The server's certificate. Without it nothing is encrypted.
    pub tls: Option<RawTls>,
    /// Who may do what, by a bearer token (`authorization: Bearer …`). Without any, everybody who can connect may do
    /// everything.
    #[schemars(extend("default" = []))]
    pub tokens: Vec<RawToken>,
    /// Whether an address that other machines reach may go without `tls`: behind a proxy or in a mesh that encrypts.
    pub insecure: bool,
    /// Web pages that may call (`https://console.example.org`), by gRPC-Web. A call from any other page is refused.
    pub web_origins: Vec<String>,
    /// How much may wait for one consumer at the live edge. One that is further behind is caught up from the log.
    pub buffer: ByteSize,
    /// How many batches a consumer may have got and not acknowledged.
    #[schemars(range(min = 1, max = 1000000))]
    pub max_unacked_batches: u32,
    /// How much log a durable consumer may hold back. One that is further behind is detached: the server's log is let go,
    /// and it is told so when it comes back.
    pub max_lag_bytes: ByteSize,
    /// How old that log may be.
    pub max_lag_time: Span,
    /// How many consumers are caught up at once, each by a connection to the database of its own; the others wait.
    #[schemars(range(min = 1, max = 64))]
    pub max_lanes: u16,
    /// How many consumers there may be: those that are connected, and durable ones that are not.
    #[schemars(range(min = 1, max = 10000))]
    pub max_consumers: u16,
    /// How many connections there may be; more are refused. The process raises its limit of open files to what they need.
    #[schemars(range(min = 1, max = 100000))]
    pub max_connections: u32,
    /// After how long a connection from which nothing comes is asked whether it is there, and after how long without an
    /// answer it is closed.
    pub keepalive: Span,
}

/// Files in PEM. They are read at the start.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "GrpcTls")]
pub struct RawTls {
    /// The server's certificate, and those between it and the root.
    pub certificate: PathBuf,
    /// Its private key, not encrypted; nobody else may read it.
    pub key: PathBuf,
    /// Whose certificates clients must show (mutual TLS). Without it, none are asked for.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "GrpcToken")]
pub struct RawToken {
    /// At least 16 characters: `openssl rand -hex 32` makes one.
    #[schemars(extend("writeOnly" = true))]
    pub token: Token,
    /// What its owner may do.
    #[serde(default)]
    pub role: Role,
}

/// A bearer token.
#[derive(Clone, JsonSchema)]
#[schemars(transparent)]
pub struct Token(#[schemars(with = "String")] SecretString);

impl Token {
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Token(text.into()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Subscribes, and asks how things are.
    #[default]
    Read,
    /// Also changes offsets, pauses, drops consumers, adds tables, and stops the process.
    Admin,
}

impl Default for RawGrpc {
    fn default() -> Self {
        RawGrpc {
            listen: "127.0.0.1:50051".to_owned(),
            tls: None,
            tokens: Vec::new(),
            insecure: false,
            web_origins: Vec::new(),
            // At the live edge a consumer lags by some milliseconds: at 50 MiB/s this is 160 ms.
            buffer: ByteSize::mib(8),
            // A thousand batches a second, and a client that stores every four seconds.
            max_unacked_batches: 4096,
            max_lag_bytes: ByteSize::mib(4096),
            max_lag_time: Span::from_millis(24 * 3_600_000),
            // Each reads the log once more on the server.
            max_lanes: 4,
            max_consumers: 64,
            max_connections: 1000,
            // Proxies and NATs forget what is silent for a minute or more.
            keepalive: Span::from_millis(20_000),
        }
    }
}

/// A gRPC server that can be started.
#[derive(Clone, Debug)]
pub struct Grpc {
    /// What the name or address in `listen` stands for; at least one.
    pub listen: Vec<SocketAddr>,
    pub tls: Option<RawTls>,
    pub tokens: Vec<RawToken>,
    pub web_origins: Vec<String>,
    pub buffer_bytes: usize,
    pub max_unacked_batches: usize,
    pub max_lag_bytes: u64,
    pub max_lag_time: Duration,
    pub max_lanes: usize,
    pub max_consumers: usize,
    pub max_connections: usize,
    pub keepalive: Duration,
}

/// 16 characters are 64 bits in hexadecimal digits: more than can be tried over a network.
const TOKEN_MIN_CHARS: usize = 16;
/// As long as a header of ours may be.
const TOKEN_MAX_CHARS: usize = 1024;
/// Each is compared at every call.
const TOKENS_MAX: usize = 64;
/// Less than one message to a client, and no consumer would ever be at the live edge.
const BUFFER_MIN_BYTES: u64 = 256 << 10;
/// A lag that every restart of a client has.
const MAX_LAG_MIN_BYTES: u64 = 16 << 20;
const MAX_LAG_MIN_MS: u64 = 1_000;
/// A busy client, or a way around the world, may take longer than less to answer.
const KEEPALIVE_MIN_MS: u64 = 1_000;

impl RawGrpc {
    /// What the schema cannot say; `fail` gets the key and what is wrong with it.
    pub(super) fn check(self, fail: &mut impl FnMut(&str, String)) -> Option<Grpc> {
        let mut well = true;
        let mut fail = |key: &str, message: String| {
            well = false;
            fail(&format!("grpc.{key}"), message);
        };
        // A name is looked up, as a listener would: `localhost:50051`.
        let listen: Vec<SocketAddr> = match self.listen.to_socket_addrs() {
            Ok(found) => found.collect(),
            Err(error) => {
                fail("listen", format!("{:?} is not ADDRESS:PORT: {error}", self.listen));
                Vec::new()
            }
        };
        if let Some(reached) = listen.iter().find(|address| !is_of_this_machine(address.ip()))
            && self.tls.is_none()
            && !self.insecure
        {
            let message = format!(
                "other machines reach {reached}, and nothing is encrypted: set grpc.tls, or listen on 127.0.0.1, or set \
                 grpc.insecure to true where something else encrypts"
            );
            fail("listen", message);
        }
        if self.tokens.len() > TOKENS_MAX {
            fail("tokens", format!("{} are more than {TOKENS_MAX}", self.tokens.len()));
        }
        for (index, RawToken { token, .. }) in self.tokens.iter().enumerate() {
            let text = token.expose();
            if !(TOKEN_MIN_CHARS..=TOKEN_MAX_CHARS).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic())
            {
                let message = format!(
                    "a token has {TOKEN_MIN_CHARS} to {TOKEN_MAX_CHARS} printable ASCII characters without spaces; \
                     `openssl rand -hex 32` makes one"
                );
                fail(&format!("tokens[{index}].token"), message);
            }
        }
        for (index, origin) in self.web_origins.iter().enumerate() {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            if host.is_none_or(|host| host.is_empty() || !host.bytes().all(|b| b.is_ascii_graphic() && b != b'/')) {
                fail(
                    &format!("web_origins[{index}]"),
                    format!("{origin:?} is no origin: https://HOST or https://HOST:PORT"),
                );
            }
        }
        if self.buffer.bytes() < BUFFER_MIN_BYTES {
            fail("buffer", format!("{} is less than 256KiB", self.buffer));
        }
        if self.max_lag_bytes.bytes() < MAX_LAG_MIN_BYTES {
            fail("max_lag_bytes", format!("{} is less than 16MiB", self.max_lag_bytes));
        }
        if self.max_lag_time.as_millis() < MAX_LAG_MIN_MS {
            fail("max_lag_time", format!("{} is less than 1s", self.max_lag_time));
        }
        if self.keepalive.as_millis() < KEEPALIVE_MIN_MS {
            fail("keepalive", format!("{} is less than 1s", self.keepalive));
        }
        well.then(|| Grpc {
            listen,
            tls: self.tls,
            tokens: self.tokens,
            web_origins: self.web_origins,
            buffer_bytes: usize::try_from(self.buffer.bytes()).unwrap_or(usize::MAX),
            max_unacked_batches: self.max_unacked_batches as usize,
            max_lag_bytes: self.max_lag_bytes.bytes(),
            max_lag_time: self.max_lag_time.duration(),
            max_lanes: self.max_lanes.into(),
            max_consumers: self.max_consumers.into(),
            max_connections: self.max_connections as usize,
            keepalive: self.keepalive.duration(),
        })
    }
}

fn is_of_this_machine(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => address.is_loopback() || address.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: RawGrpc) -> Result<Grpc, Vec<String>> {
        let mut wrong = Vec::new();
        let checked = raw.check(&mut |key: &str, message| wrong.push(format!("{key}: {message}")));
        checked.ok_or(wrong)
    }

    #[test]
    fn what_others_reach_is_encrypted_or_said_to_be_insecure() {
        let at = |listen: &str| RawGrpc { listen: listen.to_owned(), ..RawGrpc::default() };
        for here in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(check(at(here)).is_ok(), "{here}");
        }
        for reached in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            let wrong = check(at(reached)).unwrap_err();
            assert!(wrong.len() == 1 && wrong[0].starts_with("grpc.listen: other machines reach"), "{wrong:?}");
            assert!(check(RawGrpc { insecure: true, ..at(reached) }).is_ok());
            let tls = RawTls { certificate: "c".into(), key: "k".into(), client_ca: None };
            assert!(check(RawGrpc { tls: Some(tls), ..at(reached) }).is_ok());
        }
        for nowhere in ["", "127.0.0.1", "127.0.0.1:99999", "50051"] {
            assert!(check(at(nowhere)).unwrap_err()[0].contains("is not ADDRESS:PORT"), "{nowhere}");
        }
    }

    #[test]
    fn tokens_are_long_and_in_no_message() {
        let token = |text: &str| RawToken { token: Token(text.to_owned().into()), role: Role::Read };
        let with = |text: &str| RawGrpc { tokens: vec![token(text)], ..RawGrpc::default() };
        assert!(check(with("0123456789abcdef")).is_ok());
        for wrong in ["tooshort", "0123456789 abcdef", "0123456789abcdé0"] {
            let said = check(with(wrong)).unwrap_err();
            assert!(said[0].starts_with("grpc.tokens[0].token:") && !said[0].contains(wrong), "{said:?}");
        }
        assert!(!format!("{:?}", with("0123456789abcdef")).contains("0123"));
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        let with = |origin: &str| RawGrpc { web_origins: vec![origin.to_owned()], ..RawGrpc::default() };
        assert!(check(with("https://console.example.org")).is_ok() && check(with("http://localhost:8080")).is_ok());
        for wrong in ["*", "console.example.org", "https://", "https://a/b"] {
            assert!(check(with(wrong)).unwrap_err()[0].starts_with("grpc.web_origins[0]"), "{wrong}");
        }
    }
}
