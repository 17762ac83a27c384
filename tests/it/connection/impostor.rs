//! Servers that lie, stall or are no servers: a script of bytes behind a socket.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use walbrook::error::{Class, Error};
use walbrook::source::postgres::connection::{Connection, Role};
use walbrook::source::postgres::error::code;
use walbrook::source::postgres::sql::Sql;

use super::{parse, told};
use crate::support::Server;

/// One turn of a script.
#[derive(Clone, Copy)]
enum Turn {
    /// Waits for what the client sends.
    Hear,
    Say(&'static [u8]),
    /// Keeps the socket open and does nothing more.
    Stall,
}

use Turn::{Hear, Say, Stall};

/// One backend message.
fn message(tag: u8, body: &[u8]) -> Turn {
    let mut bytes = vec![tag];
    bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend(body);
    Say(bytes.leak())
}

/// A port behind which `script` is played to everybody who comes.
async fn stage(script: Vec<Turn>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let script: &'static [Turn] = script.leak();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(act(socket, script));
        }
    });
    port
}

/// What our own connection says of it; `tokio_postgres` must class it alike.
async fn play(script: Vec<Turn>, more: &str) -> (Error, String) {
    let (ours, theirs) = play_both(script, more).await;
    assert_eq!(ours.0.class(), theirs.0.class(), "{}\n{}", ours.1, theirs.1);
    ours
}

async fn play_both(script: Vec<Turn>, more: &str) -> ((Error, String), (Error, String)) {
    let port = stage(script).await;
    let info = parse(&format!("host=127.0.0.1 port={port} user=u password=hidden dbname=d {more}"));
    let ours = told(Connection::connect(&info, Role::Replication).await);
    let theirs = told(Sql::connect(&info).await);
    assert!(!ours.1.contains("hidden") && !theirs.1.contains("hidden"));
    (ours, theirs)
}

async fn act(mut socket: TcpStream, script: &[Turn]) {
    let mut heard = [0; 4096];
    for turn in script {
        match turn {
            Hear => {
                let _ = socket.read(&mut heard).await;
            }
            Say(bytes) => {
                let _ = socket.write_all(bytes).await;
            }
            Stall => std::future::pending().await,
        }
    }
}

/// An ErrorResponse with a code that would mean much if it were believed.
const FALSE_ERROR: &[u8] = b"SFATAL\0VFATAL\0C28P01\0Mbelieve me\0\0";

#[tokio::test]
async fn nothing_unencrypted_is_believed_behind_the_answer_to_ssl_request() {
    // CVE-2021-23222: bytes in the clear behind the S.
    let (_, text) = play(vec![Hear, Say(b"S"), message(b'E', FALSE_ERROR), Hear], "sslmode=require").await;
    assert!(text.contains("TLS handshake") && !text.contains("believe me"), "{text}");
    // CVE-2024-10977: an error in the clear instead of an answer.
    let (error, text) = play(vec![Hear, message(b'E', FALSE_ERROR)], "sslmode=require").await;
    assert!(error.is_transient() && !text.contains("believe me"), "{text}");
    assert_eq!(code(&error), None);
    let (error, text) = play(vec![Hear, Say(b"N"), Hear], "sslmode=require").await;
    assert_eq!(error.class(), Class::Config);
    assert!(text.contains("does not offer TLS"), "{text}");
    // The same message where it may be believed.
    let (error, text) = play(vec![Hear, message(b'E', FALSE_ERROR)], "sslmode=disable").await;
    assert_eq!(code(&error), Some("28P01"), "{text}");
}

#[tokio::test]
async fn a_server_that_does_not_prove_itself() {
    let offer = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    // "Ok" in the middle of SCRAM.
    let ((_, ours), (_, theirs)) =
        play_both(vec![Hear, offer, Hear, message(b'R', &[0; 4]), Stall], "sslmode=disable").await;
    assert!(ours.contains("out of turn"), "{ours}");
    assert!(theirs.contains("unexpected message"), "{theirs}");
    // A challenge with a nonce that is not ours.
    let challenge = message(b'R', b"\0\0\0\x0br=abc,s=AAAA,i=4096");
    let (error, text) = play(vec![Hear, offer, Hear, challenge, Hear], "sslmode=disable").await;
    assert_eq!(error.class(), Class::Config, "{text}");
    assert!(text.contains("nonce"), "{text}");
}

#[tokio::test]
async fn methods_that_are_not_built_in() {
    for (request, name) in [(7, "GSSAPI"), (9, "SSPI"), (2, "Kerberos")] {
        let (error, text) = play(vec![Hear, message(b'R', &[0, 0, 0, request]), Hear], "sslmode=disable").await;
        assert_eq!(error.class(), Class::Config);
        assert!(text.contains(name) && text.contains("pg_hba.conf"), "{text}");
    }
}

#[tokio::test]
async fn a_pooler_that_refuses_a_parameter() {
    let refused = message(b'E', b"SFATAL\0C08P01\0Munsupported startup parameter: replication\0\0");
    let (error, text) = play(vec![Hear, refused], "sslmode=disable").await;
    assert_eq!((error.class(), code(&error)), (Class::Config, Some("08P01")));
    assert!(text.contains("pooler is in the way"), "{text}");
}

#[tokio::test]
async fn rubbish_and_silence() {
    for bytes in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"R\0\0\0\x03", b"R\xff\xff\xff\xff", b"R\0\0\0\x06\0\0", b""]
    {
        let port = stage(vec![Hear, Say(bytes)]).await;
        let info = parse(&format!("host=127.0.0.1 port={port} user=u sslmode=disable"));
        let (error, text) = told(Connection::connect(&info, Role::Sql).await);
        assert!(error.is_transient(), "{text}");
    }
    let (error, text) = play(vec![Hear, Stall], "sslmode=disable connect_timeout=2").await;
    assert!(error.is_transient() && text.contains("connect_timeout"), "{text}");
}

/// A pooler answers the login itself and names a process that is not the one behind it.
#[tokio::test]
async fn a_pooler_is_noticed() {
    let Some(server) = Server::all().next() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let upstream = server.port();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let behind = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
        let (mut from_server, mut to_server) = behind.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
        let mut bytes = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
            let read = &mut bytes[..length];
            // BackendKeyData: the last byte of the process's number.
            if let Some(at) = read.windows(5).position(|window| window == b"K\0\0\0\x0c") {
                read[at + 8] ^= 1;
            }
            to_client.write_all(read).await.unwrap();
        }
    });
    let info = parse(&format!("postgres://postgres:secret@127.0.0.1:{port}/postgres?sslmode=disable"));
    assert!(Connection::connect(&info, Role::Sql).await.unwrap().is_behind_pooler());
}
