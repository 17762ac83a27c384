//! TLS to a Postgres server, with libpq's sslmodes.
//!
//! Invariants:
//! - One provider, ring, given explicitly: nothing depends on a process-wide default.
//! - The handshake's signature is verified under every mode: the server holds the key of the certificate it shows. Whether
//!   that certificate is believed is the mode's matter ([`verify`]).
//! - [`Stream`] is the only socket type above this file.

mod binding;
mod verify;
mod version1;

use std::io;
use std::path::Path;
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

use super::conninfo::{ClientCert, RootCert, SslMode, TlsInfo};
use crate::error::{Context, Error, Result};
use verify::{Trust, Verifier};

/// A private key is a few KiB, a bundle of all public roots about 200 KiB; what is larger is no PEM file of ours.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// How to encrypt: the files are read once for each attempt to connect, so that a renewed certificate is picked up.
pub struct Tls {
    config: Arc<ClientConfig>,
    verifies_name: bool,
    direct: bool,
}

impl Tls {
    /// Reads the roots and the client certificate.
    ///
    /// # Errors
    /// Config: a file that is missing, is no PEM, holds no certificate or a key we cannot use.
    pub fn new(info: &TlsInfo) -> Result<Tls> {
        let provider = Arc::new(ring::default_provider());
        let trust = match (info.mode, &info.root) {
            (SslMode::VerifyFull, Some(root)) => Trust::ChainAndName(roots(root)?),
            (SslMode::VerifyCa | SslMode::Require, Some(root)) => Trust::Chain(roots(root)?),
            (SslMode::VerifyFull | SslMode::VerifyCa, None) => {
                return Err(Error::bug("a verifying sslmode without a root certificate"));
            }
            // A root certificate counts from `require` on. (libpq verifies below that too, and where it fails goes on
            // without encryption: encrypted to whomever is not worse.)
            _ => Trust::Anything,
        };
        let verifies_name = matches!(trust, Trust::ChainAndName(_));
        let versions = if info.only_tls13 { &[&rustls::version::TLS13][..] } else { rustls::DEFAULT_VERSIONS };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .config(|| "setting up TLS".into())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::new(trust, &provider)));
        let mut config = match &info.client {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let identity = client_cert(files, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
            }
        };
        config.enable_sni = info.sni;
        if info.direct {
            // A server refuses direct TLS without this name ("SSL Session Encryption").
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(Tls { config: Arc::new(config), verifies_name, direct: info.direct })
    }

    /// Whether the first byte on the socket is TLS's, without an SSLRequest.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// The handshake. `host` is the name that the certificate must have under `verify-full`.
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
                    .remedy("use sslmode=verify-ca, or the server's DNS name"));
            }
        };
        let stream = TlsConnector::from(Arc::clone(&self.config)).connect(name, socket).await;
        stream.map(|stream| Stream::Tls(Box::new(stream))).map_err(|error| handshake_error(error, host))
    }
}

fn handshake_error(error: io::Error, host: &str) -> Error {
    let doing = format!("TLS handshake with {host}");
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return Error::transient(doing).because(error);
    };
    let remedy = match tls {
        rustls::Error::InvalidCertificate(problem) => Some(verify::remedy(problem)),
        rustls::Error::AlertReceived(_) => Some(
            "the server refused: it may want a client certificate (sslcert, sslkey) or another TLS version".to_owned(),
        ),
        rustls::Error::PeerIncompatible(_) => {
            Some("the server must offer TLS 1.2 or 1.3 (ssl_max_protocol_version)".into())
        }
        _ => None,
    };
    let out = Error::config(doing).because(error);
    match remedy {
        Some(remedy) => out.remedy(remedy),
        None => out,
    }
}

fn roots(root: &RootCert) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = match root {
        RootCert::File(path) => certificates(path)?,
        RootCert::System => {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "a root certificate of the system cannot be read");
            }
            if found.certs.is_empty() {
                return Err(Error::config("sslrootcert=system, but the system has no root certificates")
                    .remedy("install ca-certificates, or set SSL_CERT_FILE"));
            }
            found.certs
        }
    };
    Ok(certificates)
}

/// Not by rustls' own `with_client_auth_cert`: it parses the certificate by webpki, which knows no version 1, and
/// version 1 is what `openssl x509 -req` makes of a client's request where it is told no extensions.
fn client_cert(files: &ClientCert, provider: &CryptoProvider) -> Result<CertifiedKey> {
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
            "the client certificate {} is not that of the private key {}",
            files.cert.display(),
            files.key.display()
        ))
        .remedy("set sslcert and sslkey to files that belong together"));
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

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
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

    /// The `tls-server-end-point` binding (RFC 5929): the hash of the server's certificate; None without TLS and for
    /// certificates whose signature has no hash of its own (Ed25519).
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        match self {
            Stream::Tls(stream) => {
                let (_, session) = stream.get_ref();
                binding::tls_server_end_point(session.peer_certificates()?.first()?)
            }
            _ => None,
        }
    }

    /// The address at the other end, so that a second connection reaches the same server.
    pub(super) fn peer_addr(&self) -> Option<std::net::IpAddr> {
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
