//! Proving who we are: trust, password, md5, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS; a client certificate is TLS's matter.
//!
//! Invariants:
//! - SCRAM proves the server to us as well: the login is done only when its signature is verified.
//! - The GS2 flag tells the truth (RFC 5802, section 6): `p` with a binding; `y` where we could bind and the server does
//!   not offer it, so that a man in the middle who struck out the offer is found out; `n` where we could not.
//! - Under `channel_binding=require` nothing but SCRAM-SHA-256-PLUS counts as a login, a server's "Ok" included.

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::frontend;
use secrecy::{ExposeSecret, SecretString};

use super::conninfo::ChannelBinding;
use super::error::PgError;
use super::transport::Transport;
use crate::error::{Context, Error, Result};
use crate::wire::pg::frame::tag;

/// What a login is made of.
pub(super) struct Credentials<'a> {
    pub user: &'a str,
    pub password: Option<&'a SecretString>,
    pub channel_binding: ChannelBinding,
}

/// One message of the server's half, by the Int32 behind the length ("Message Formats", Authentication…).
enum Request<'a> {
    Ok,
    CleartextPassword,
    Md5Password([u8; 4]),
    Sasl(Vec<&'a str>),
    SaslContinue(&'a [u8]),
    SaslFinal(&'a [u8]),
    Unsupported(&'static str),
}

/// From behind the startup message to AuthenticationOk.
///
/// # Errors
/// Config: no password, a wrong one, a method we have not, a binding that is required and not offered.
pub(super) async fn login(transport: &mut Transport, credentials: &Credentials<'_>) -> Result<()> {
    let body = authentication(transport).await?;
    match parse(&body)? {
        Request::Ok => return unbound(credentials),
        Request::CleartextPassword => {
            unbound(credentials)?;
            let password = password(credentials)?;
            send(transport, |out| frontend::password_message(password.as_bytes(), out)).await?;
        }
        Request::Md5Password(salt) => {
            unbound(credentials)?;
            let hash = md5_hash(credentials.user.as_bytes(), password(credentials)?.as_bytes(), salt);
            send(transport, |out| frontend::password_message(hash.as_bytes(), out)).await?;
        }
        Request::Sasl(mechanisms) => scram(transport, credentials, &mechanisms).await?,
        Request::Unsupported(method) => {
            return Err(Error::config(format!("the server wants to authenticate by {method}, which is not built in"))
                .remedy("give this user scram-sha-256 (or cert) in pg_hba.conf"));
        }
        Request::SaslContinue(_) | Request::SaslFinal(_) => return Err(out_of_turn()),
    }
    match parse(&authentication(transport).await?)? {
        Request::Ok => Ok(()),
        _ => Err(out_of_turn()),
    }
}

async fn scram(transport: &mut Transport, credentials: &Credentials<'_>, offered: &[&str]) -> Result<()> {
    let binding = match credentials.channel_binding {
        ChannelBinding::Disable => None,
        ChannelBinding::Prefer | ChannelBinding::Require => transport.server_end_point(),
    };
    let (mechanism, binding) = match binding {
        Some(data) if offered.contains(&SCRAM_SHA_256_PLUS) => {
            (SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(data))
        }
        Some(_) => (SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
        None => (SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
    };
    if !offered.contains(&mechanism) {
        return Err(Error::config(format!("the server offers {} only, which is not built in", offered.join(", ")))
            .remedy("give this user scram-sha-256 in pg_hba.conf"));
    }
    if mechanism != SCRAM_SHA_256_PLUS {
        unbound(credentials)?;
    }
    let mut scram = ScramSha256::new(password(credentials)?.as_bytes(), binding);
    send(transport, |out| frontend::sasl_initial_response(mechanism, scram.message(), out)).await?;

    let body = authentication(transport).await?;
    let Request::SaslContinue(data) = parse(&body)? else { return Err(out_of_turn()) };
    scram.update(data).config(|| "reading the server's SCRAM challenge".into())?;
    send(transport, |out| frontend::sasl_response(scram.message(), out)).await?;

    let body = authentication(transport).await?;
    let Request::SaslFinal(data) = parse(&body)? else { return Err(out_of_turn()) };
    scram.finish(data).map_err(|cause| {
        Error::config("the server cannot prove that it knows the password: it may not be the server")
            .remedy("check the host, and use sslmode=verify-full")
            .because(cause)
    })
}

/// A login without a channel binding: fine unless it is required.
fn unbound(credentials: &Credentials<'_>) -> Result<()> {
    if credentials.channel_binding == ChannelBinding::Require {
        return Err(not_bound());
    }
    Ok(())
}

pub(super) fn not_bound() -> Error {
    Error::config("channel_binding=require, but the login is not bound to the TLS connection")
        .remedy("the server must use TLS and scram-sha-256 for this user; or use channel_binding=prefer")
}

fn password<'a>(credentials: &Credentials<'a>) -> Result<&'a str> {
    credentials.password.map(ExposeSecret::expose_secret).ok_or_else(|| no_password(credentials.user))
}

pub(super) fn no_password(user: &str) -> Error {
    Error::config(format!("the server wants a password for user {user}, and none is given"))
        .remedy("put it in the URL, in PGPASSWORD or in ~/.pgpass (mode 0600)")
}

fn out_of_turn() -> Error {
    Error::transient("the server's authentication messages are out of turn")
}

async fn send(transport: &mut Transport, message: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Result<()> {
    // A zero byte in the password, or a message above 2 GiB.
    message(transport.output()).config(|| "sending the credentials".into())?;
    transport.flush().await
}

/// The body of the next Authentication message.
async fn authentication(transport: &mut Transport) -> Result<bytes::Bytes> {
    loop {
        let message = transport.message().await?;
        match message.tag {
            tag::AUTHENTICATION => return Ok(message.body),
            tag::ERROR_RESPONSE => {
                return Err(PgError::parse(&message.body).transient(reading)?.into_error("logging in"));
            }
            // The server is newer or older than our startup message in something optional: it says so and goes on.
            tag::NEGOTIATE_PROTOCOL_VERSION | tag::NOTICE_RESPONSE => {}
            _ => return Err(out_of_turn()),
        }
    }
}

fn reading() -> String {
    "reading the server's answer to the login".into()
}

fn parse(body: &[u8]) -> Result<Request<'_>> {
    let malformed = || Error::transient("malformed authentication message");
    let (kind, rest) = body.split_first_chunk().ok_or_else(malformed)?;
    let exactly = |request| if rest.is_empty() { Ok(request) } else { Err(malformed()) };
    match u32::from_be_bytes(*kind) {
        0 => exactly(Request::Ok),
        3 => exactly(Request::CleartextPassword),
        5 => Ok(Request::Md5Password(rest.try_into().map_err(|_| malformed())?)),
        // Names, each with a zero byte, and one more zero byte.
        10 => {
            let names = rest.strip_suffix(b"\0\0").ok_or_else(malformed)?;
            let names: Option<_> = names.split(|&byte| byte == 0).map(|name| std::str::from_utf8(name).ok()).collect();
            Ok(Request::Sasl(names.ok_or_else(malformed)?))
        }
        11 => Ok(Request::SaslContinue(rest)),
        12 => Ok(Request::SaslFinal(rest)),
        2 => Ok(Request::Unsupported("Kerberos V5")),
        6 => Ok(Request::Unsupported("SCM credentials")),
        7 | 8 => Ok(Request::Unsupported("GSSAPI")),
        9 => Ok(Request::Unsupported("SSPI")),
        _ => Ok(Request::Unsupported("a method that is not known here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_requests() {
        assert!(matches!(parse(&[0, 0, 0, 0]).unwrap(), Request::Ok));
        assert!(parse(&[0, 0, 0, 0, 1]).is_err());
        assert!(matches!(parse(&[0, 0, 0, 5, 1, 2, 3, 4]).unwrap(), Request::Md5Password([1, 2, 3, 4])));
        assert!(parse(&[0, 0, 0, 5, 1, 2, 3]).is_err());
        let Request::Sasl(names) = parse(b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0").unwrap() else {
            panic!("not SASL")
        };
        assert_eq!(names, [SCRAM_SHA_256_PLUS, SCRAM_SHA_256]);
        assert!(matches!(parse(&[0, 0, 0, 7]).unwrap(), Request::Unsupported("GSSAPI")));
        assert!(parse(&[0, 0, 0]).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&body);
        }
    }
}
