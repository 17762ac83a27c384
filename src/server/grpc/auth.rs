//! Who may call what.
//!
//! Invariants:
//! - A token is compared in a time that depends on neither its text nor its length, with every token there is.
//! - A token that was sent, right or wrong, is in no log and in no answer.
//! - Health and reflection are for everybody who can connect: they say nothing of the data.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tonic::Status;

/// What a caller may do; the later one may do what the earlier one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Subscribe, and ask how things are.
    Read,
    /// Also change offsets, pause, drop consumers, add tables, stop the process.
    Admin,
}

/// The tokens that are known, by their digests.
#[derive(Default)]
pub struct Tokens(Vec<([u8; 32], Role)>);

impl Tokens {
    /// Without any token everybody may do everything.
    pub fn new<'a>(tokens: impl IntoIterator<Item = (&'a str, Role)>) -> Tokens {
        let digested = tokens.into_iter().map(|(token, role)| (digest(token.as_bytes()), role));
        Tokens(digested.collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Errors: UNAUTHENTICATED without a known token, PERMISSION_DENIED where its role is too small.
    pub fn allow(&self, headers: &http::HeaderMap, wanted: Role) -> Result<(), Status> {
        if self.0.is_empty() {
            return Ok(());
        }
        let Some(header) = headers.get(http::header::AUTHORIZATION) else {
            return Err(Status::unauthenticated("no token: send the header `authorization: Bearer TOKEN`"));
        };
        let Some(token) = bearer(header.as_bytes()) else {
            return Err(Status::unauthenticated("the header `authorization` is not `Bearer TOKEN`"));
        };
        let sent = digest(token);
        let mut found = None;
        for (known, role) in &self.0 {
            if bool::from(known.ct_eq(&sent)) {
                found = found.max(Some(*role));
            }
        }
        match found {
            None => Err(Status::unauthenticated("the token is not one of `grpc.tokens`")),
            Some(role) if role < wanted => {
                Err(Status::permission_denied("this call wants a token whose role is admin; this one's is read"))
            }
            Some(_) => Ok(()),
        }
    }
}

/// The scheme's name is the same in any case.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = header.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn allowed(header: Option<&str>, wanted: Role) -> Result<(), Code> {
        let tokens = Tokens::new([("a-token-to-read", Role::Read), ("a-token-to-rule", Role::Admin)]);
        let mut headers = http::HeaderMap::new();
        if let Some(header) = header {
            headers.insert(http::header::AUTHORIZATION, header.parse().unwrap());
        }
        tokens.allow(&headers, wanted).map_err(|status| {
            assert!(!status.message().contains("a-token"), "{status:?}");
            status.code()
        })
    }

    #[test]
    fn a_known_token_of_a_sufficient_role_passes() {
        assert_eq!(allowed(Some("Bearer a-token-to-read"), Role::Read), Ok(()));
        assert_eq!(allowed(Some("bearer  a-token-to-rule"), Role::Read), Ok(()));
        assert_eq!(allowed(Some("Bearer a-token-to-rule"), Role::Admin), Ok(()));
        assert_eq!(allowed(Some("Bearer a-token-to-read"), Role::Admin), Err(Code::PermissionDenied));
        for wrong in [None, Some("Bearer a-token-to-rea"), Some("Basic a-token-to-read"), Some("Bearer "), Some("")] {
            assert_eq!(allowed(wrong, Role::Read), Err(Code::Unauthenticated), "{wrong:?}");
        }
    }

    #[test]
    fn without_tokens_nobody_is_asked() {
        assert!(Tokens::default().allow(&http::HeaderMap::new(), Role::Admin).is_ok());
    }
}
