//! Which server certificates are believed.
//!
//! Invariants:
//! - `Chain` (verify-ca, VERIFY_CA) is the whole of webpki's check but the name; `ChainAndName` (verify-full, VERIFY_IDENTITY) adds the name.
//! - A certificate that is itself in the root file is believed while it is valid: that is how self-signed server
//!   certificates are used with libpq, and webpki refuses them as "CA used as end entity".
//! - Certificates of version 1, which webpki does not parse, have a check of their own ([`super::version1`]).
//! - The common name counts only where the certificate has no alternative name of the wanted kind (RFC 6125, as libpq).

use std::fmt;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature_with_raw_key,
};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef};
use x509_cert::der::{Decode, Encode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::{Names, version1};

/// What makes a certificate good enough.
pub(super) enum Trust {
    Anything,
    Chain(Vec<CertificateDer<'static>>),
    ChainAndName(Vec<CertificateDer<'static>>),
}

pub(super) struct Verifier {
    trust: Trust,
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("roots", &self.roots.len()).finish_non_exhaustive()
    }
}

impl Verifier {
    pub(super) fn new(trust: Trust, provider: &CryptoProvider) -> Verifier {
        let mut roots = RootCertStore::empty();
        if let Trust::Chain(certificates) | Trust::ChainAndName(certificates) = &trust {
            // One that webpki cannot use as a root (version 1) can still be the server's own.
            roots.add_parsable_certificates(certificates.iter().cloned());
        }
        Verifier { trust, roots, algorithms: provider.signature_verification_algorithms }
    }

    fn verify_chain(
        &self,
        known: &[CertificateDer<'static>],
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if known.iter().any(|root| root == end_entity) {
            return verify_validity(end_entity, now);
        }
        if version1::is(end_entity) {
            return version1::verify(end_entity, known, now, &self.algorithms);
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, self.algorithms.all)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Anything => {}
            Trust::Chain(known) => self.verify_chain(known, end_entity, intermediates, now)?,
            Trust::ChainAndName(known) => {
                self.verify_chain(known, end_entity, intermediates, now)?;
                verify_name(end_entity, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    /// By the bare public key: webpki does not parse version 1 certificates, which `openssl x509 -req` makes where it is
    /// told no extensions, as in Postgres' own manual.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(message, &public_key(certificate)?, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn bad_encoding() -> Error {
    CertificateError::BadEncoding.into()
}

/// The Raw profile: serial numbers that RFC 5280 forbids are in use.
pub(super) fn parse(certificate: &[u8]) -> Result<CertificateInner<Raw>, Error> {
    CertificateInner::<Raw>::from_der(certificate).map_err(|_| bad_encoding())
}

/// The public key of a certificate of any version.
pub(super) fn public_key(certificate: &[u8]) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let key = parse(certificate)?.tbs_certificate.subject_public_key_info.to_der().map_err(|_| bad_encoding())?;
    Ok(SubjectPublicKeyInfoDer::from(key))
}

pub(super) fn verify_validity(certificate: &[u8], now: UnixTime) -> Result<(), Error> {
    let validity = parse(certificate)?.tbs_certificate.validity;
    if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

fn verify_name(end_entity: &CertificateDer<'_>, wanted: &ServerName<'_>) -> Result<(), Error> {
    let by_alternative_name = match ParsedCertificate::try_from(end_entity) {
        Ok(certificate) => verify_server_name(&certificate, wanted),
        // Version 1, which has no alternative names.
        Err(_) => Err(CertificateError::NotValidForName.into()),
    };
    if by_alternative_name.is_ok() {
        return Ok(());
    }
    match common_name(&parse(end_entity)?, wanted) {
        Some(name) if fits(&name, &wanted.to_str()) => Ok(()),
        _ => by_alternative_name,
    }
}

/// The subject's last common name, if there is no alternative name of the wanted kind.
fn common_name(certificate: &CertificateInner<Raw>, wanted: &ServerName<'_>) -> Option<String> {
    let by_address = matches!(wanted, ServerName::IpAddress(_));
    if let Some((_, SubjectAltName(names))) = certificate.tbs_certificate.get::<SubjectAltName>().ok()? {
        let same_kind = |name: &GeneralName| match name {
            GeneralName::DnsName(_) => !by_address,
            GeneralName::IpAddress(_) => by_address,
            _ => false,
        };
        if names.iter().any(same_kind) {
            return None;
        }
    }
    let mut attributes = certificate.tbs_certificate.subject.0.iter().rev().flat_map(|relative| relative.0.iter());
    let value = &attributes.find(|attribute| attribute.oid.to_string() == "2.5.4.3")?.value;
    let text = match value.tag() {
        Tag::Utf8String => Utf8StringRef::try_from(value).ok()?.as_str().to_owned(),
        Tag::PrintableString => PrintableStringRef::try_from(value).ok()?.as_str().to_owned(),
        Tag::Ia5String => Ia5StringRef::try_from(value).ok()?.as_str().to_owned(),
        _ => return None,
    };
    // A zero byte in a name is an attack (CVE-2009-4034).
    (!text.contains('\0')).then_some(text)
}

/// Equal without regard to case, or `*.` for exactly one label.
fn fits(pattern: &str, name: &str) -> bool {
    if pattern.eq_ignore_ascii_case(name) {
        return true;
    }
    match (pattern.strip_prefix("*."), name.split_once('.')) {
        (Some(rest), Some((label, behind))) => {
            !label.is_empty() && rest.contains('.') && rest.eq_ignore_ascii_case(behind)
        }
        _ => false,
    }
}

/// What the operator can do about a certificate that is not believed.
pub(super) fn remedy(problem: &CertificateError, names: &Names) -> String {
    match problem {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "{} must hold the authority that signed the server's certificate (and the server send the certificates in \
             between)",
            names.root
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "connect by a name the certificate is made out to, or use {} to leave the name out",
            names.without_name
        ),
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "renew the server's certificate, or mend a clock".into(),
        _ => format!("give the server a certificate signed with SHA-256 or better by the authority in {}", names.root),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_one_label() {
        for (pattern, name, expected) in [
            ("db.example.com", "DB.example.COM", true),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "a.db.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.com", "example.com", false),
            ("*", "localhost", false),
            ("d*.example.com", "db.example.com", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
