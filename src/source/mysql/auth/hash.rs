//! Proofs that are hashes of the password and the server's nonce.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

/// `mysql_native_password`: `SHA1(password) XOR SHA1(nonce + SHA1(SHA1(password)))`; empty without a password.
pub(super) fn native(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let once = sha1(password);
    let twice = sha1(once.as_ref());
    xor(once.as_ref(), sha1(&[nonce, twice.as_ref()].concat()).as_ref())
}

/// `caching_sha2_password`: `SHA256(password) XOR SHA256(SHA256(SHA256(password)) + nonce)`; empty without a password.
pub(super) fn caching_sha2(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let sha256 = |bytes: &[u8]| digest(&SHA256, bytes);
    let once = sha256(password);
    let twice = sha256(once.as_ref());
    xor(once.as_ref(), sha256(&[twice.as_ref(), nonce].concat()).as_ref())
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a server verifies: what it stores is `SHA1(SHA1(password))`.
    #[test]
    fn a_server_would_take_the_native_proof() {
        let nonce = b"01234567890123456789";
        let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
        let stored = sha1(sha1(b"secret").as_ref());
        let proof = native(b"secret", nonce);
        let once = xor(&proof, sha1(&[&nonce[..], stored.as_ref()].concat()).as_ref());
        assert_eq!(sha1(&once).as_ref(), stored.as_ref());
        assert!(native(b"", nonce).is_empty());
    }

    #[test]
    fn a_server_would_take_the_sha2_proof() {
        let nonce = b"01234567890123456789";
        let sha256 = |bytes: &[u8]| digest(&SHA256, bytes);
        let stored = sha256(sha256(b"secret").as_ref());
        let proof = caching_sha2(b"secret", nonce);
        let once = xor(&proof, sha256(&[stored.as_ref(), &nonce[..]].concat()).as_ref());
        assert_eq!(sha256(&once).as_ref(), stored.as_ref());
        assert!(caching_sha2(b"", nonce).is_empty());
    }
}
