//! Servers that lie, stall or are no servers: a script of bytes behind a socket.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use walbrook::error::{Class, Error};

use super::{parse, told, who};

/// One turn of a script.
#[derive(Clone)]
enum Turn {
    /// Waits for what the client sends.
    Hear,
    Say(Vec<u8>),
    /// Keeps the socket open and does nothing more.
    Stall,
}

use Turn::{Hear, Say, Stall};

fn packet(sequence: u8, payload: &[u8]) -> Turn {
    let [a, b, c, _] = u32::try_from(payload.len()).unwrap().to_le_bytes();
    Say([&[a, b, c, sequence], payload].concat())
}

/// A greeting of a server that can log in by `plugin`, and no TLS.
fn greeting(plugin: &str) -> Turn {
    let mut payload = b"\x0a8.4.0\0\x07\0\0\0abcdefgh\0\x00\x82\x2d\x02\x00\x08\x00\x15".to_vec();
    payload.extend([0; 10]);
    payload.extend(b"ijklmnopqrst\0");
    payload.extend(plugin.as_bytes());
    payload.push(0);
    packet(0, &payload)
}

async fn act(mut socket: TcpStream, script: Vec<Turn>) {
    let mut heard = [0; 4096];
    for turn in script {
        match turn {
            Hear => drop(socket.read(&mut heard).await),
            Say(bytes) => drop(socket.write_all(&bytes).await),
            Stall => std::future::pending().await,
        }
    }
}

/// What is said of a server that plays `script` to everybody who comes.
async fn play(script: Vec<Turn>, options: &str) -> (Error, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(act(socket, script.clone()));
        }
    });
    told(who(&parse(&format!("mysql://u:secret@127.0.0.1:{port}/?{options}"))).await)
}

#[tokio::test]
async fn strangers() {
    for script in [
        vec![Say(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())],
        vec![Say(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()), Hear],
        vec![packet(0, b"\x09old server")],
        vec![packet(0, &[0xff; 2])],
        vec![packet(0, b"")],
        vec![],
        vec![Say(vec![0; 100])],
    ] {
        let (error, text) = play(script, "connect-timeout=2").await;
        assert!(error.is_transient(), "{text}");
    }
    let (error, text) = play(vec![packet(0, b"\xff\x10\x04Too many connections")], "").await;
    assert!(error.is_transient() && text.contains("max_connections"), "{text}");
    let (error, text) = play(vec![packet(0, b"\xff\x6a\x04Host '10.0.0.1' is not allowed to connect")], "").await;
    assert!(error.class() == Class::Config && text.contains("CREATE USER"), "{text}");
}

#[tokio::test]
async fn stalls_end_with_the_timeout() {
    for script in [vec![Stall], vec![greeting("mysql_native_password"), Stall]] {
        let (error, text) = play(script, "connect-timeout=1").await;
        assert!(error.is_transient() && text.contains("connect-timeout"), "{text}");
    }
}

#[tokio::test]
async fn logins_that_are_not_safe_or_not_known() {
    let login = |answer: &[u8]| vec![greeting("mysql_native_password"), Hear, packet(2, answer), Hear, Stall];
    for (answer, wanted) in [
        (&b"\xfemysql_clear_password\0"[..], "enable-cleartext-plugin=1"),
        (b"\xfe", "before version 4.1"),
        (b"\xfedialog\0", "dialog, which is not supported"),
        (b"\x02authentication_fido\0data", "a second proof"),
    ] {
        let (error, text) = play(login(answer), "connect-timeout=5").await;
        assert!(error.class() == Class::Config && text.contains(wanted), "{text}");
    }
    // Asked for, and still not over a line that anybody reads.
    let (error, text) = play(login(b"\xfemysql_clear_password\0"), "enable-cleartext-plugin=1").await;
    assert!(error.class() == Class::Config && text.contains("not encrypted"), "{text}");
    let (error, text) = play(login(b"\xff\x15\x04#28000Access denied"), "").await;
    assert!(error.class() == Class::Config && text.contains("1045"), "{text}");
    // A key that is none.
    let sha2 =
        vec![greeting("caching_sha2_password"), Hear, packet(2, b"\x01\x04"), Hear, packet(4, b"\x01garbage"), Stall];
    let (error, text) = play(sha2, "").await;
    assert!(error.is_transient() && text.contains("RSA key"), "{text}");
    let (error, text) = play(vec![greeting("x"), Stall], "ssl-mode=REQUIRED").await;
    assert!(error.class() == Class::Config && text.contains("does not offer TLS"), "{text}");
}

#[tokio::test]
async fn a_login_without_end() {
    let mut script = vec![greeting("mysql_native_password")];
    for turn in 0..40u8 {
        script.extend([Hear, packet(2 + 2 * turn, b"\xfemysql_native_password\x0012345678901234567890\0")]);
    }
    let (error, text) = play(script, "").await;
    assert!(error.is_transient() && text.contains("did not end"), "{text}");
}

#[tokio::test]
async fn a_server_that_asks_for_a_file() {
    let ok = b"\0\0\0\x02\0\0\0";
    let script =
        vec![greeting("mysql_native_password"), Hear, packet(2, ok), Hear, packet(1, b"\xfb/etc/passwd"), Stall];
    let (error, text) = play(script, "").await;
    assert!(error.class() == Class::Config && text.contains("asks for a file"), "{text}");
}
