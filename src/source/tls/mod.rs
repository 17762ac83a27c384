//! TLS to a server, whatever the one who connects calls its modes; and the PEM files of whoever uses TLS.
//!
//! Invariants:
//! - One provider, ring, given explicitly: nothing depends on a process-wide default.
//! - The handshake's signature is verified under every mode: the server holds the key of the certificate it shows. Whether
//!   that certificate is believed is the mode's matter ([`verify`]).
//! - [`Stream`] is the only socket type above this file.

mod verify;
mod version1;

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::{Context, Error, Result};
use verify::{Trust, Verifier};

/// A private key is a few KiB, a bundle of all public roots about 200 KiB; what is larger is no PEM file of ours.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// How a connection is to be encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub verify: Verify,
    /// What certificates are verified with; needed for every [`Verify`] but `Nothing`.
    pub root: Option<RootCert>,
    pub client: Option<ClientCert>,
    /// Send the host's name in the clear, as TLS does.
    pub sni: bool,
    /// Accept TLS 1.3 only.
    pub only_tls13: bool,
    /// The protocol that follows, for servers that ask for its name (ALPN).
    pub protocol: Option<&'static str>,
    pub names: &'static Names,
}

/// What of the server's certificate must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Encrypted, to whomever.
    Nothing,
    /// It comes from a known root.
    Chain,
    /// … and is made out to the host's name.
    ChainAndName,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCert {
    File(PathBuf),
    /// The operating system's.
    System,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// What a source calls its settings, for errors that name them.
#[derive(Debug, PartialEq, Eq)]
pub struct Names {
    /// `sslrootcert`
    pub root: &'static str,
    /// `sslcert`
    pub cert: &'static str,
    /// `sslkey`
    pub key: &'static str,
    /// The setting that leaves the name out: `sslmode=verify-ca`.
    pub without_name: &'static str,
    /// The server's own setting of TLS versions.
    pub server_versions: &'static str,
}

/// The files are read once for each attempt to connect, so that a renewed certificate is picked up.
pub struct Tls {
    config: Arc<ClientConfig>,
    verifies_name: bool,
    names: &'static Names,
}

impl Tls {
    /// Reads the roots and the client certificate.
    ///
    /// # Errors
    /// Config: a file that is missing, is no PEM, holds no certificate or a key we cannot use.
    pub fn new(plan: &Plan) -> Result<Tls> {
        let names = plan.names;
        let provider = Arc::new(ring::default_provider());
        let trust = match (plan.verify, &plan.root) {
            (Verify::Nothing, _) => Trust::Anything,
            (Verify::Chain, Some(root)) => Trust::Chain(roots(root, names)?),
            (Verify::ChainAndName, Some(root)) => Trust::ChainAndName(roots(root, names)?),
            (_, None) => return Err(Error::bug("certificates are to be verified without a root certificate")),
        };
        let verifies_name = matches!(trust, Trust::ChainAndName(_));
        let versions = if plan.only_tls13 { &[&rustls::version::TLS13][..] } else { rustls::DEFAULT_VERSIONS };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .config(|| "setting up TLS".into())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::new(trust, &provider)));
        let mut config = match &plan.client {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let identity = identity(files, &provider, names)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
            }
        };
        config.enable_sni = plan.sni;
        config.alpn_protocols = plan.protocol.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Tls { config: Arc::new(config), verifies_name, names })
    }

    /// The handshake. `host` is the name that the certificate must have where names are verified.
    ///
    /// # Errors
    /// Config: a certificate that is not believed, no common version or cipher. Transient: the socket broke.
    pub async fn handshake(&self, socket: TcpStream, host: &str) -> Result<Stream> {
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            // No name that TLS knows; without a need to verify it there is just no SNI, as for an address.
            Err(_) if !self.verifies_name => ServerName::from(std::net::IpAddr::from([0, 0, 0, 0])),
            Err(_) => {
                return Err(Error::config(format!("\"{host}\" cannot be the name in a certificate"))
                    .remedy(format!("use {}, or the server's DNS name", self.names.without_name)));
            }
        };
        let stream = TlsConnector::from(Arc::clone(&self.config)).connect(name, socket).await;
        stream.map(|stream| Stream::Tls(Box::new(stream))).map_err(|error| handshake_error(error, host, self.names))
    }
}

fn handshake_error(error: io::Error, host: &str, names: &Names) -> Error {
    let doing = format!("TLS handshake with {host}");
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return Error::transient(doing).because(error);
    };
    let remedy = match tls {
        rustls::Error::InvalidCertificate(problem) => Some(verify::remedy(problem, names)),
        rustls::Error::AlertReceived(_) => Some(format!(
            "the server refused: it may want a client certificate ({}, {}) or another TLS version",
            names.cert, names.key
        )),
        rustls::Error::PeerIncompatible(_) => {
            Some(format!("the server must offer TLS 1.2 or 1.3 ({})", names.server_versions))
        }
        _ => None,
    };
    let out = Error::config(doing).because(error);
    match remedy {
        Some(remedy) => out.remedy(remedy),
        None => out,
    }
}

fn roots(root: &RootCert, names: &Names) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = match root {
        RootCert::File(path) => certificates(path)?,
        RootCert::System => {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "a root certificate of the system cannot be read");
            }
            if found.certs.is_empty() {
                return Err(Error::config(format!("{}=system, but the system has no root certificates", names.root))
                    .remedy("install ca-certificates, or set SSL_CERT_FILE"));
            }
            found.certs
        }
    };
    Ok(certificates)
}

/// A certificate and its key, of a client or of a server of ours.
///
/// Not by rustls' own `with_client_auth_cert`: it parses the certificate by webpki, which knows no version 1, and
/// version 1 is what `openssl x509 -req` makes of a client's request where it is told no extensions.
///
/// # Errors
/// Config: a file that is missing, is no PEM, may be read by others, or does not belong to the other.
pub fn identity(files: &ClientCert, provider: &CryptoProvider, names: &Names) -> Result<CertifiedKey> {
    let chain = certificates(&files.cert)?;
    check_key_permissions(&files.key)?;
    let text = read_pem(&files.key)?;
    // PKCS#8, PKCS#1 or SEC1, whichever comes first; "EC PARAMETERS" before it is skipped.
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let out = Error::config(format!("reading the private key {}", files.key.display()));
        match error {
            pem::Error::NoItemsFound => out
                .because("there is no unencrypted private key in it")
                .remedy("openssl pkey -in KEY -out PLAIN takes the passphrase off"),
            error => out.because(error),
        }
    })?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .config(|| format!("the private key {} is of no kind that TLS can use", files.key.display()))?;
    if let Some(public) = key.public_key()
        && verify::public_key(&chain[0]).is_ok_and(|certified| certified != public)
    {
        return Err(Error::config(format!(
            "the certificate {} is not that of the private key {}",
            files.cert.display(),
            files.key.display()
        ))
        .remedy(format!("set {} and {} to files that belong together", names.cert, names.key)));
    }
    Ok(CertifiedKey::new(chain, key))
}

/// As libpq: a key that others may read is not used.
fn check_key_permissions(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let metadata = std::fs::metadata(path).config(|| format!("reading the private key {}", path.display()))?;
        let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
        if metadata.permissions().mode() & forbidden != 0 {
            return Err(Error::config(format!("the private key {} may be read by others", path.display()))
                .remedy("chmod 0600 it (0640 if it belongs to root)"));
        }
    }
    Ok(())
}

/// At least one. Errors: Config.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = read_pem(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<std::result::Result<_, _>>()
        .config(|| format!("reading the certificates in {}", path.display()))?;
    if found.is_empty() {
        return Err(Error::config(format!("there is no certificate in {}", path.display()))
            .remedy("it must be PEM: -----BEGIN CERTIFICATE-----"));
    }
    Ok(found)
}

fn read_pem(path: &Path) -> Result<Vec<u8>> {
    let doing = || format!("reading {}", path.display());
    let length = std::fs::metadata(path).config(doing)?.len();
    if length > MAX_PEM_BYTES {
        return Err(Error::config(format!("{} is {length} bytes long: that is no PEM file", path.display())));
    }
    std::fs::read(path).config(doing)
}

/// The socket, encrypted or not.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// What the server showed in the handshake; None without TLS.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        match self {
            Stream::Tls(stream) => stream.get_ref().1.peer_certificates()?.first(),
            _ => None,
        }
    }

    /// The address at the other end, so that a second connection reaches the same server.
    pub fn peer_addr(&self) -> Option<std::net::IpAddr> {
        let socket = match self {
            Stream::Tcp(socket) => socket,
            Stream::Tls(stream) => stream.get_ref().0,
            Stream::Unix(_) => return None,
        };
        socket.peer_addr().ok().map(|address| address.ip())
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
