//! Server certificates of X.509 version 1, which webpki does not take and OpenSSL does: `openssl x509 -req` makes them
//! where it is told no extensions, and that is the recipe of Postgres' own manual ("Creating Certificates").
//!
//! Invariants:
//! - The certificate is signed by a certificate of the root file itself; there are no intermediates.
//! - That root may sign certificates: it says so (basicConstraints, keyUsage), or it is of version 1 and cannot say.
//! - Both are valid now, and the signature is one that webpki would take: SHA-256 or better.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use x509_cert::Version;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::{Encode, Reader, SliceReader};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages};
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::verify::{parse, verify_validity};

/// Whether a certificate is of version 1.
pub(super) fn is(certificate: &[u8]) -> bool {
    parse(certificate).is_ok_and(|certificate| certificate.tbs_certificate.version == Version::V1)
}

/// Verifies a certificate of version 1 by one of `roots`.
pub(super) fn verify(
    der: &CertificateDer<'_>,
    roots: &[CertificateDer<'static>],
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Error> {
    let certificate = parse(der)?;
    verify_validity(der, now)?;
    let signed = signed_part(der).ok_or(CertificateError::BadEncoding)?;
    let mut problem = CertificateError::UnknownIssuer;
    for root_der in roots {
        let Ok(root) = parse(root_der) else { continue };
        if root.tbs_certificate.subject != certificate.tbs_certificate.issuer || !may_sign(&root) {
            continue;
        }
        if verify_validity(root_der, now).is_err() {
            problem = CertificateError::Expired;
        } else if is_signed_by(&certificate, signed, &root, algorithms.all) {
            return Ok(());
        } else {
            problem = CertificateError::BadSignature;
        }
    }
    Err(problem.into())
}

/// The bytes that the signature is of: `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature }`.
fn signed_part(der: &[u8]) -> Option<&[u8]> {
    let mut reader = SliceReader::new(der).ok()?;
    let parts = reader.sequence(|reader| Ok([reader.tlv_bytes()?, reader.tlv_bytes()?, reader.tlv_bytes()?])).ok()?;
    Some(parts[0])
}

fn may_sign(root: &CertificateInner<Raw>) -> bool {
    let tbs = &root.tbs_certificate;
    if tbs.version == Version::V1 {
        return true;
    }
    let authority = matches!(tbs.get::<BasicConstraints>(), Ok(Some((_, BasicConstraints { ca: true, .. }))));
    let signs = match tbs.get::<KeyUsage>() {
        Ok(Some((_, usage))) => usage.0.contains(KeyUsages::KeyCertSign),
        Ok(None) => true,
        Err(_) => false,
    };
    authority && signs
}

fn is_signed_by(
    certificate: &CertificateInner<Raw>,
    signed: &[u8],
    root: &CertificateInner<Raw>,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> bool {
    let key = &root.tbs_certificate.subject_public_key_info;
    let (Some(key_kind), Some(signature_kind)) =
        (identifier(&key.algorithm), identifier(&certificate.signature_algorithm))
    else {
        return false;
    };
    // The algorithm stands twice, signed and unsigned, and must be the same (RFC 5280, 4.1.1.2).
    if certificate.tbs_certificate.signature != certificate.signature_algorithm {
        return false;
    }
    let (Some(key), Some(signature)) = (key.subject_public_key.as_bytes(), certificate.signature.as_bytes()) else {
        return false;
    };
    algorithms.iter().any(|algorithm| {
        algorithm.public_key_alg_id().as_ref() == key_kind
            && algorithm.signature_alg_id().as_ref() == signature_kind
            && algorithm.verify_signature(key, signed, signature).is_ok()
    })
}

/// An AlgorithmIdentifier as rustls compares it: the contents of its SEQUENCE.
fn identifier(algorithm: &AlgorithmIdentifierOwned) -> Option<Vec<u8>> {
    let mut contents = algorithm.oid.to_der().ok()?;
    if let Some(parameters) = &algorithm.parameters {
        contents.extend(parameters.to_der().ok()?);
    }
    Some(contents)
}
