//! The password encrypted with the server's RSA key: OAEP with SHA-1 (RFC 8017, section 7.1.1), as the server expects it.

use num_bigint::BigUint;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use x509_cert::der::asn1::UintRef;
use x509_cert::der::{Decode, Reader, SliceReader};
use x509_cert::spki::SubjectPublicKeyInfoRef;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Of SHA-1.
const HASH_BYTES: usize = 20;

/// MySQL makes 2048 bits. Below 1024 the password would be as good as told; above 16384 no tool makes keys, and an attacker
/// would keep us busy.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 128..=2048;

pub(super) struct PublicKey {
    modulus: BigUint,
    exponent: BigUint,
    /// How many bytes the modulus has, and so the cipher text.
    bytes: usize,
}

/// Why a key cannot be used.
#[derive(Debug)]
pub(super) struct NoKey(&'static str);

impl std::fmt::Display for NoKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NoKey {}

impl PublicKey {
    /// Reads `-----BEGIN PUBLIC KEY-----`.
    pub fn from_pem(pem: &[u8]) -> Result<PublicKey, NoKey> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| NoKey("it is no public key in PEM"))?;
        let info = SubjectPublicKeyInfoRef::from_der(&der).map_err(|_| NoKey("its DER is torn"))?;
        if info.algorithm.oid.to_string() != "1.2.840.113549.1.1.1" {
            return Err(NoKey("it is no RSA key"));
        }
        let key = info.subject_public_key.as_bytes().ok_or(NoKey("its bits are no bytes"))?;
        // RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER }
        let parts = SliceReader::new(key)
            .and_then(|mut reader| {
                let parts = reader.sequence(|reader| {
                    Ok([UintRef::decode(reader)?.as_bytes().to_vec(), UintRef::decode(reader)?.as_bytes().to_vec()])
                })?;
                reader.finish(parts)
            })
            .map_err(|_: x509_cert::der::Error| NoKey("its numbers are torn"))?;
        let [modulus, exponent] = parts.map(|part| BigUint::from_bytes_be(&part));
        let bytes = modulus.bits().div_ceil(8) as usize;
        if !KEY_BYTES.contains(&bytes) {
            return Err(NoKey("it has less than 1024 bits or more than 16384"));
        }
        // Anything small and odd is what tools make; an even modulus would be nobody's.
        if exponent.bits() > 32 || !exponent.bit(0) || !modulus.bit(0) || exponent == BigUint::from(1u8) {
            return Err(NoKey("its numbers are none of a key"));
        }
        Ok(PublicKey { modulus, exponent, bytes })
    }

    /// What the server wants: the password with its closing zero byte, each byte mixed with the nonce, encrypted.
    pub fn encrypt(&self, password: &[u8], nonce: &[u8]) -> Result<Vec<u8>> {
        if nonce.is_empty() {
            return Err(Error::transient("the server's nonce is empty"));
        }
        let mixed: Zeroizing<Vec<u8>> =
            Zeroizing::new(password.iter().chain(&[0]).zip(nonce.iter().cycle()).map(|(a, b)| a ^ b).collect());
        let mut seed = [0; HASH_BYTES];
        SystemRandom::new().fill(&mut seed).map_err(|_| Error::transient("there is no randomness"))?;
        let padded = self.pad(&mixed, seed).ok_or_else(|| {
            Error::config(format!("the password is too long for the server's RSA key of {} bits", self.bytes * 8))
                .remedy("use ssl-mode=REQUIRED or stronger")
        })?;
        let cipher = BigUint::from_bytes_be(&padded).modpow(&self.exponent, &self.modulus).to_bytes_be();
        let mut out = vec![0; self.bytes - cipher.len()];
        out.extend(cipher);
        Ok(out)
    }

    /// `0x00 | seed masked | (hash of the empty label | zeros | 0x01 | message) masked`; None if it does not fit.
    fn pad(&self, message: &[u8], seed: [u8; HASH_BYTES]) -> Option<Zeroizing<Vec<u8>>> {
        let zeros = self.bytes.checked_sub(message.len() + 2 * HASH_BYTES + 2)?;
        let mut block = Zeroizing::new(Vec::with_capacity(self.bytes));
        block.push(0);
        block.extend(seed);
        block.extend_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, b"").as_ref());
        let filled = block.len() + zeros;
        block.resize(filled, 0);
        block.push(1);
        block.extend_from_slice(message);
        let (masked_seed, data) = block[1..].split_at_mut(HASH_BYTES);
        mask(data, masked_seed);
        mask(masked_seed, data);
        Some(block)
    }
}

/// XORs with MGF1 of `seed`.
fn mask(bytes: &mut [u8], seed: &[u8]) {
    for (counter, part) in (0u32..).zip(bytes.chunks_mut(HASH_BYTES)) {
        let stream = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[seed, &counter.to_be_bytes()].concat());
        for (byte, mask) in part.iter_mut().zip(stream.as_ref()) {
            *byte ^= mask;
        }
    }
}

#[cfg(test)]
#[path = "rsa/tests.rs"]
mod tests;
