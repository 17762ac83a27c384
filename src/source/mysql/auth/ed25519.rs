//! MariaDB's `client_ed25519`: the password's SHA-512 is the key itself, not the seed of one as in RFC 8032.

use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use sha2::{Digest, Sha512};

/// `R + S` of Ed25519 over the server's nonce; empty without a password.
pub(super) fn sign(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let hash: [u8; 64] = Sha512::digest(password).into();
    let (key, prefix) = hash.split_at(32);
    let mut clamped = [0; 32];
    clamped.copy_from_slice(key);
    let secret = Scalar::from_bytes_mod_order(clamp_integer(clamped));
    let public = EdwardsPoint::mul_base(&secret).compress();
    let scalar = |parts: &[&[u8]]| Scalar::from_bytes_mod_order_wide(&Sha512::digest(parts.concat()).into());
    let random = scalar(&[prefix, nonce]);
    let commitment = EdwardsPoint::mul_base(&random).compress();
    let challenge = scalar(&[commitment.as_bytes(), public.as_bytes(), nonce]);
    [commitment.to_bytes(), (random + challenge * secret).to_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ED25519, UnparsedPublicKey};

    /// Anybody's Ed25519 verifies it with the public key that the server stores.
    #[test]
    fn signatures_verify() {
        for password in [&b"secret"[..], b"a", "gr\u{f6}\u{df}er".as_bytes()] {
            let hash: [u8; 64] = Sha512::digest(password).into();
            let secret = Scalar::from_bytes_mod_order(clamp_integer(hash[..32].try_into().unwrap()));
            let public = EdwardsPoint::mul_base(&secret).compress().to_bytes();
            let nonce = [7; 32];
            let signature = sign(password, &nonce);
            UnparsedPublicKey::new(&ED25519, public).verify(&nonce, &signature).unwrap();
            assert!(UnparsedPublicKey::new(&ED25519, public).verify(&[8; 32], &signature).is_err());
        }
        assert!(sign(b"", &[7; 32]).is_empty());
    }
}
