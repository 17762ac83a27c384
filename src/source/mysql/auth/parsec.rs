//! MariaDB's `parsec`: the password, stretched, is the seed of an Ed25519 key.
//!
//! ```text
//! server: nonce (32)          client: nothing
//! server: 'P' factor salt     client: its own nonce (32), signature of both nonces (64)
//! ```
//! The seed is PBKDF2-HMAC-SHA512 of the password over `1024 << factor` rounds.

use std::num::NonZeroU32;

use ring::pbkdf2::{PBKDF2_HMAC_SHA512, derive};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::Ed25519KeyPair;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

const NONCE_BYTES: usize = 32;

/// 2^20 rounds take about half a second: a server that asks for more wants to keep us busy. MariaDB's own limit is 3.
const MAX_FACTOR: u8 = 10;

/// Our answer to the salt.
///
/// # Errors
/// Transient: a salt of no known form. Config: too many rounds.
pub(super) fn answer(password: &[u8], salt: &[u8], server_nonce: &[u8]) -> Result<Vec<u8>> {
    let [b'P', factor, salt @ ..] = salt else {
        return Err(Error::transient("the server's salt of the login (parsec) is of no known form"));
    };
    if *factor > MAX_FACTOR {
        return Err(Error::config(format!("the server asks for 2^{} rounds of the password's hash", factor + 10)));
    }
    let mut client_nonce = [0; NONCE_BYTES];
    SystemRandom::new().fill(&mut client_nonce).map_err(|_| Error::transient("there is no randomness"))?;
    let key = key(password, salt, *factor)?;
    let signature = key.sign(&[server_nonce, &client_nonce].concat());
    Ok([&client_nonce[..], signature.as_ref()].concat())
}

fn key(password: &[u8], salt: &[u8], factor: u8) -> Result<Ed25519KeyPair> {
    let rounds = NonZeroU32::MIN.saturating_mul(NonZeroU32::new(1024 << factor).unwrap_or(NonZeroU32::MAX));
    let mut seed = Zeroizing::new([0; 32]);
    derive(PBKDF2_HMAC_SHA512, rounds, salt, password, &mut *seed);
    Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| Error::bug("32 bytes are no seed of a key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ED25519, KeyPair, UnparsedPublicKey};

    #[test]
    fn signatures_verify() {
        let salt = [&b"P\x00"[..], &[9; 18]].concat();
        let answer = answer(b"secret", &salt, &[1; 32]).unwrap();
        let (client_nonce, signature) = answer.split_at(32);
        let public = key(b"secret", &[9; 18], 0).unwrap();
        let message = [&[1; 32][..], client_nonce].concat();
        UnparsedPublicKey::new(&ED25519, public.public_key()).verify(&message, signature).unwrap();
    }

    #[test]
    fn unknown_salts_are_refused() {
        for salt in [&b""[..], b"Q\x00salt", b"P", b"P\x20salt"] {
            assert!(answer(b"secret", salt, &[1; 32]).is_err(), "{salt:?}");
        }
    }
}
