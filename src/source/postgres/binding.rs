//! Channel binding `tls-server-end-point` (RFC 5929, section 4.1): the hash of the server's certificate.
//!
//! "If the certificate's signatureAlgorithm uses a single hash function, and that hash function is either MD5 or SHA-1,
//! then use SHA-256; if it uses a single hash function [and that is another], then use the hash function associated with
//! the certificate's signatureAlgorithm; if it uses no hash functions or multiple, this channel binding type's channel
//! bindings are undefined."

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::source::tls::Stream;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// The hash a signature is made with, MD5 and SHA-1 raised to SHA-256. RFC 3279, 4055, 5758 and 8017 name the numbers.
const SIGNATURES: [(&str, Hash); 14] = [
    ("1.2.840.113549.1.1.4", Hash::Sha256),  // md5WithRSAEncryption
    ("1.2.840.113549.1.1.5", Hash::Sha256),  // sha1WithRSAEncryption
    ("1.2.840.113549.1.1.11", Hash::Sha256), // sha256WithRSAEncryption
    ("1.2.840.113549.1.1.12", Hash::Sha384),
    ("1.2.840.113549.1.1.13", Hash::Sha512),
    ("1.2.840.113549.1.1.14", Hash::Sha224),
    ("1.2.840.10045.4.1", Hash::Sha256), // ecdsa-with-SHA1
    ("1.2.840.10045.4.3.1", Hash::Sha224),
    ("1.2.840.10045.4.3.2", Hash::Sha256),
    ("1.2.840.10045.4.3.3", Hash::Sha384),
    ("1.2.840.10045.4.3.4", Hash::Sha512),
    ("1.2.840.10040.4.3", Hash::Sha256), // dsa-with-sha1
    ("2.16.840.1.101.3.4.3.1", Hash::Sha224),
    ("2.16.840.1.101.3.4.3.2", Hash::Sha256),
];

const RSASSA_PSS: &str = "1.2.840.113549.1.1.10";

/// The hashes RSASSA-PSS names in its parameters.
const HASHES: [(&str, Hash); 5] = [
    ("1.3.14.3.2.26", Hash::Sha256), // SHA-1
    ("2.16.840.1.101.3.4.2.1", Hash::Sha256),
    ("2.16.840.1.101.3.4.2.2", Hash::Sha384),
    ("2.16.840.1.101.3.4.2.3", Hash::Sha512),
    ("2.16.840.1.101.3.4.2.4", Hash::Sha224),
];

/// The binding data of a socket; None without TLS and for certificates whose signature has no hash of its own (Ed25519).
pub(super) fn server_end_point(stream: &Stream) -> Option<Vec<u8>> {
    tls_server_end_point(stream.peer_certificate()?)
}

/// The binding data, or None where the RFC leaves it undefined.
fn tls_server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let parsed = CertificateInner::<Raw>::from_der(certificate).ok()?;
    Some(match signature_hash(&parsed.signature_algorithm)? {
        Hash::Sha224 => Sha224::digest(certificate).to_vec(),
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

fn signature_hash(algorithm: &AlgorithmIdentifierOwned) -> Option<Hash> {
    let find = |table: &[(&str, Hash)], oid: ObjectIdentifier| {
        let oid = oid.to_string();
        table.iter().find(|(known, _)| *known == oid).map(|(_, hash)| *hash)
    };
    if algorithm.oid.to_string() != RSASSA_PSS {
        return find(&SIGNATURES, algorithm.oid);
    }
    // RSASSA-PSS-params ::= SEQUENCE { hashAlgorithm [0] EXPLICIT AlgorithmIdentifier DEFAULT sha1, … }
    let parameters = algorithm.parameters.as_ref()?.to_der().ok()?;
    let content = contents(&parameters, 0x30)?;
    match contents(content, 0xa0) {
        None => Some(Hash::Sha256),
        Some(explicit) => find(&HASHES, ObjectIdentifier::from_bytes(contents(contents(explicit, 0x30)?, 0x06)?).ok()?),
    }
}

/// The contents of the first DER element, if it has this tag and a length below 128, as all of these have.
fn contents(der: &[u8], tag: u8) -> Option<&[u8]> {
    match der {
        [found, length, rest @ ..] if *found == tag && *length < 0x80 => rest.get(..usize::from(*length)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_cert::der::Any;

    fn algorithm(oid: &str, parameters: Option<&[u8]>) -> AlgorithmIdentifierOwned {
        AlgorithmIdentifierOwned {
            oid: ObjectIdentifier::new(oid).unwrap(),
            parameters: parameters.map(|der| Any::from_der(der).unwrap()),
        }
    }

    #[test]
    fn old_hashes_are_raised_and_no_hash_is_undefined() {
        assert_eq!(signature_hash(&algorithm("1.2.840.113549.1.1.5", None)), Some(Hash::Sha256));
        assert_eq!(signature_hash(&algorithm("1.2.840.10045.4.3.3", None)), Some(Hash::Sha384));
        assert_eq!(signature_hash(&algorithm("1.3.101.112", None)), None, "Ed25519");
    }

    #[test]
    fn pss_names_its_hash_in_the_parameters() {
        assert_eq!(signature_hash(&algorithm(RSASSA_PSS, Some(&[0x30, 0]))), Some(Hash::Sha256));
        // [0] { SEQUENCE { OID sha512, NULL } }
        let sha512 = [0x30, 17, 0xa0, 15, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3, 5, 0];
        assert_eq!(signature_hash(&algorithm(RSASSA_PSS, Some(&sha512))), Some(Hash::Sha512));
        assert_eq!(signature_hash(&algorithm(RSASSA_PSS, None)), None);
    }

    #[test]
    fn rubbish_is_no_binding() {
        assert_eq!(tls_server_end_point(b""), None);
        assert_eq!(tls_server_end_point(&[0x30, 0x82, 0xff]), None);
    }
}
