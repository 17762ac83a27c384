//! What every source's socket needs: addresses, keepalive, and whose fault a broken one is.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};

use crate::error::{Class, Error, Result};

/// When a silent peer counts as gone; None leaves a number to the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    pub enabled: bool,
    pub idle: Option<Duration>,
    pub interval: Option<Duration>,
    pub count: Option<u32>,
    pub user_timeout: Option<Duration>,
}

/// A server whose machine vanished is noticed after 60 + 6 * 10 s = 2 minutes; the operating system's own 2 hours would
/// keep a dead stream looking alive.
pub const DEFAULT_KEEPALIVE: Keepalive = Keepalive {
    enabled: true,
    idle: Some(Duration::from_secs(60)),
    interval: Some(Duration::from_secs(10)),
    count: Some(6),
    user_timeout: None,
};

/// One host has this long to answer; the operating system would wait two minutes for a lost SYN, which is too long where
/// other hosts wait behind it. 30 s outlasts four lost SYNs (1 + 2 + 4 + 8 s).
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The addresses of a host, in the resolver's order.
///
/// # Errors
/// Transient: the name is not known, or nobody answers who knows it.
pub async fn lookup(name: &str, port: u16) -> Result<Vec<SocketAddr>> {
    match lookup_host((name, port)).await {
        Ok(found) => Ok(found.collect()),
        Err(error) => Err(Error::transient(format!("looking up the host \"{name}\""))
            .remedy("check the host's name in the URL")
            .because(error)),
    }
}

pub fn tune(socket: &TcpStream, keepalive: &Keepalive) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    if keepalive.enabled {
        let mut tcp = TcpKeepalive::new();
        if let Some(idle) = keepalive.idle {
            tcp = tcp.with_time(idle);
        }
        if let Some(interval) = keepalive.interval {
            tcp = tcp.with_interval(interval);
        }
        if let Some(count) = keepalive.count {
            tcp = tcp.with_retries(count);
        }
        socket.set_tcp_keepalive(&tcp)?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(keepalive.user_timeout)?;
    Ok(())
}

/// Who has to act on a socket's error: a socket that may not be opened needs the operator, and so does a server that does
/// not like our certificate (under TLS 1.3 it says so when we think that the handshake is done). All else may pass.
pub fn io_class(error: &std::io::Error) -> Class {
    use rustls::AlertDescription as Alert;
    let alert = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
        _ => None,
    };
    if let Some(
        Alert::CertificateRequired
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied,
    ) = alert
    {
        return Class::Config;
    }
    match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::InvalidInput => Class::Config,
        _ => Class::Transient,
    }
}

/// An error and its causes in one line.
pub fn chain(error: &Error) -> String {
    let mut out = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        out.push_str(": ");
        out.push_str(&error.to_string());
        cause = error.source();
    }
    out
}
