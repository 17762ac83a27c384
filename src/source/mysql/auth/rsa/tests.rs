use super::*;

const PEM: &[u8] = b"-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA11QxpARfXJkZFe+iBxae
HcYuSea7nGufV7o6LU8h8J7vPZYK/1yFJTxCUwtcLWT8DE4b1odIuhcrxQjlui8o
+ceri9rlY9ftJNiU/bUsCrVtUaYfg7vLCLBPIBFATlpqbHdOfmOaHQtQPJQ3qSJb
etTRHhumiz8h0E05fdkZwZwjivqsXTPheAgfOU1nSVCBkChYeZesb/lv7ULI2Irk
EcHE+MMdgxABeENDfApRUv+Zn7RYpVuDIEDdExtlbu3h5TGrDqkm3uU0wqx0fLXE
zo2BVv4qYGTulxylNkJ9AyzH7orNNm7AuhGQgBcczNzWhcQzZOKY9M+Ocu4XE4zi
kQIDAQAB
-----END PUBLIC KEY-----
";

/// The private exponent that belongs to it.
const PRIVATE: &[u8] = b"04acdd8edb76d8cb4cc9161809f875ff4fffce31114373088f1b50ab27e0a5062bff5292a0417975337617cbccff6852\
a7a9244c7e2f91e8cb958b43760d5ffb6f31c2fa75621522f8da9531f8036856b73478fb74b038ca5f279fdade6f1eaf258fa697b2d407721c3053bb\
b97370def0b97b08d25bbeee04785b2cc149ed398b63e27d495e4b7102c3009c081abd1b8b764153e093bf6f3ef81319e0b9df5475bd22d2ad28704b\
5a69a99b28f843dd366d5f196d0f9e2d9b2f054c6d09521a900b6cefa906dd3e6c8418b6506d0573c264561daeaa9579c09fe80321ef2a22fdd9524e\
caefc896e4b91346815ddc1ff3b91c80aba9f2c2f3106bf762e62f25";

const SHORT: &[u8] = b"-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAL/MS733e4/1DBHxhJGeb9jUUOTMnVH0
gKE4MYIqWujR98Zh5oGOVOG1e0J1vc7nYqgeKQZ9gcCzLj4HqxoDjkUCAwEAAQ==
-----END PUBLIC KEY-----
";

/// Takes the padding off again, by RFC 8017, section 7.1.2.
fn decrypt(key: &PublicKey, cipher: &[u8]) -> Vec<u8> {
    let private = BigUint::parse_bytes(PRIVATE, 16).unwrap();
    let plain = BigUint::from_bytes_be(cipher).modpow(&private, &key.modulus).to_bytes_be();
    let mut block = vec![0; key.bytes - plain.len()];
    block.extend(plain);
    assert_eq!(block[0], 0);
    let (seed, data) = block[1..].split_at_mut(HASH_BYTES);
    mask(seed, data);
    mask(data, seed);
    let message = data.strip_prefix(digest(&SHA1_FOR_LEGACY_USE_ONLY, b"").as_ref()).unwrap();
    let start = message.iter().position(|&byte| byte != 0).unwrap();
    assert_eq!(message[start], 1);
    message[start + 1..].to_vec()
}

#[test]
fn the_owner_of_the_key_reads_the_password() {
    let key = PublicKey::from_pem(PEM).unwrap();
    assert_eq!(key.bytes, 256);
    let nonce = b"01234567890123456789";
    for password in ["", "secret", &"x".repeat(213)] {
        let cipher = key.encrypt(password.as_bytes(), nonce).unwrap();
        assert_eq!(cipher.len(), 256);
        let mixed = decrypt(&key, &cipher);
        let plain: Vec<u8> = mixed.iter().zip(nonce.iter().cycle()).map(|(a, b)| a ^ b).collect();
        assert_eq!(plain, [password.as_bytes(), &[0]].concat());
        assert_ne!(key.encrypt(password.as_bytes(), nonce).unwrap(), cipher, "each time another");
    }
    let error = key.encrypt("x".repeat(214).as_bytes(), nonce).unwrap_err();
    assert!(format!("{error:?}").contains("too long") && !format!("{error:?}").contains("xxx"));
    assert!(key.encrypt(b"secret", b"").is_err());
}

#[test]
fn keys_that_are_none() {
    let garbage = b"-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJB\n-----END PUBLIC KEY-----\n";
    for pem in [&b""[..], b"no key", SHORT, garbage] {
        assert!(PublicKey::from_pem(pem).is_err());
    }
}
