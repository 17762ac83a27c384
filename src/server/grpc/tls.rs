//! TLS of the server's side, with certificates of clients where they are wanted.
//!
//! Invariants:
//! - One provider, ring, given explicitly.
//! - Files that were renewed are taken at the next handshake. Files that cannot be used leave those before them in use.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::crypto::ring;
use rustls::server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};

use crate::error::{Context, Error, Result};
use crate::source::tls::{ClientCert, Names, certificates, identity};

/// Files in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Whose certificates clients must show; none asks for none.
    pub client_ca: Option<PathBuf>,
}

/// What errors call the settings.
const NAMES: Names = Names {
    root: "grpc.tls.client_ca",
    cert: "grpc.tls.certificate",
    key: "grpc.tls.key",
    without_name: "grpc.tls",
    server_versions: "grpc.tls",
};

/// The sizes and times of the files, by which a renewed one is known.
type Stamp = Vec<Option<(SystemTime, u64)>>;

pub struct Tls {
    files: TlsFiles,
    current: Mutex<(Stamp, Arc<ServerConfig>)>,
}

impl Tls {
    /// Errors: Config, for files that are missing, are no PEM or do not belong together.
    pub fn new(files: TlsFiles) -> Result<Tls> {
        let current = (stamp(&files), Arc::new(server_config(&files)?));
        Ok(Tls { files, current: Mutex::new(current) })
    }

    /// Whether clients must show a certificate.
    pub fn asks_clients(&self) -> bool {
        self.files.client_ca.is_some()
    }

    /// For the next handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        let found = stamp(&self.files);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 != found {
            match server_config(&self.files) {
                Ok(config) => {
                    tracing::info!("the certificate of the gRPC server was renewed");
                    current.1 = Arc::new(config);
                }
                Err(error) => {
                    tracing::warn!(?error, "the renewed files of grpc.tls cannot be used; the former ones stay")
                }
            }
            current.0 = found;
        }
        current.1.clone()
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    let of = |path: &Path| {
        let metadata = path.metadata().ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()]
        .into_iter()
        .flatten()
        .map(|p| of(p))
        .collect()
}

fn server_config(files: &TlsFiles) -> Result<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let clients: Arc<dyn ClientCertVerifier> = match &files.client_ca {
        None => Arc::new(NoClientAuth),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(path)?);
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .config(|| format!("reading the roots of clients in {}", path.display()))?
        }
    };
    let own = ClientCert { cert: files.certificate.clone(), key: files.key.clone() };
    let identity =
        identity(&own, &provider, &NAMES).map_err(|error| error.context("setting up TLS of the gRPC server"))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .map_err(|cause| Error::bug("choosing the versions of TLS").because(cause))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
