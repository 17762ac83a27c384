//! A way to a server that breaks as a test wants it to: cut after so many bytes, standing still, a byte at a time.
//!
//! - What happens to a connection is decided when it is made, by its number alone: the same faults in every run, as far as
//!   connections are made in the same order.
//! - Bytes are counted from the server to the client, greeting and TLS included.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Its end, in both directions, once the server has said so many bytes.
    Cut(u64),
    /// Each byte is a packet of its own, in both directions.
    Drip,
}

/// What all connections share.
struct Shared {
    server: u16,
    plan: Box<dyn Fn(u64) -> Fault + Send + Sync>,
    ending: AtomicBool,
    /// All that are there stand still.
    stalled: Mutex<u64>,
    moving: Condvar,
    connections: AtomicU64,
    cut: AtomicU64,
    sockets: Mutex<Vec<TcpStream>>,
}

/// Dropping it ends all its connections.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

impl Proxy {
    /// In front of the server of a port of this machine.
    pub fn new(server: u16, plan: impl Fn(u64) -> Fault + Send + Sync + 'static) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port for the proxy");
        let port = listener.local_addr().expect("the proxy's address").port();
        let shared = Arc::new(Shared {
            server,
            plan: Box::new(plan),
            ending: AtomicBool::new(false),
            stalled: Mutex::new(0),
            moving: Condvar::new(),
            connections: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            sockets: Mutex::new(Vec::new()),
        });
        let accepting = shared.clone();
        let listener = std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.ending.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                // A server that is not there: the client is told by the end of its connection.
                let Ok(server) = TcpStream::connect(("127.0.0.1", accepting.server)) else { continue };
                accepting.serve(client, server);
            }
        });
        Proxy { port, shared, listener: Some(listener) }
    }

    /// What was written for the server, for this way to it.
    pub fn url(&self, url: &str) -> String {
        let (there, here) = (format!("127.0.0.1:{}/", self.shared.server), format!("127.0.0.1:{}/", self.port));
        assert!(url.contains(&there), "{url} is not of the server on port {}", self.shared.server);
        url.replace(&there, &here)
    }

    /// From now on nothing passes on the connections there are; later ones are not concerned.
    pub fn stall(&self) {
        *self.shared.stalled.lock().unwrap() = self.shared.connections.load(Ordering::SeqCst);
    }

    /// Connections that were made so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections that were cut.
    pub fn cut(&self) -> u64 {
        self.shared.cut.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        self.shared.moving.notify_all();
        for socket in self.shared.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        // Whoever waits for a connection gets one.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.listener.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn serve(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        let fault = (self.plan)(number);
        client.set_nodelay(true).expect("a socket of ours");
        server.set_nodelay(true).expect("a socket of ours");
        let copy = |socket: &TcpStream| socket.try_clone().expect("a socket of ours");
        self.sockets.lock().unwrap().extend([copy(&client), copy(&server)]);
        // How much the server may say before the fault; what the client says counts for nothing.
        let said = Arc::new(AtomicU64::new(0));
        for (from, to, counts) in [(copy(&client), copy(&server), false), (server, client, true)] {
            let (shared, said) = (self.clone(), said.clone());
            std::thread::spawn(move || shared.pass(number, fault, &from, &to, &said, counts));
        }
    }

    fn pass(
        &self,
        number: u64,
        fault: Fault,
        mut from: &TcpStream,
        mut to: &TcpStream,
        said: &AtomicU64,
        counts: bool,
    ) {
        let limit = match fault {
            Fault::Cut(limit) => limit,
            Fault::None | Fault::Drip => u64::MAX,
        };
        let mut bytes = [0; 16 * 1024];
        loop {
            let left = limit - said.load(Ordering::SeqCst).min(limit);
            let room = if counts { bytes.len().min(left.max(1) as usize) } else { bytes.len() };
            let Ok(read @ 1..) = from.read(&mut bytes[..room]) else { break };
            if said.load(Ordering::SeqCst) >= limit {
                self.cut.fetch_add(u64::from(counts), Ordering::SeqCst);
                break;
            }
            if number < *self.stalled.lock().unwrap() {
                self.stand_still();
            }
            if self.ending.load(Ordering::SeqCst) {
                break;
            }
            let step = if fault == Fault::Drip { 1 } else { read };
            if bytes[..read].chunks(step).any(|piece| to.write_all(piece).is_err()) {
                break;
            }
            if counts {
                said.fetch_add(read as u64, Ordering::SeqCst);
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Until the test is over.
    fn stand_still(&self) {
        let mut stalled = self.stalled.lock().unwrap();
        while !self.ending.load(Ordering::SeqCst) {
            stalled = self.moving.wait_timeout(stalled, std::time::Duration::from_millis(100)).unwrap().0;
        }
    }
}

/// The `at`-th number of the sequence that a seed begins, spread evenly over all 64 bits (SplitMix64).
pub fn scattered(seed: u64, at: u64) -> u64 {
    let mut z = seed.wrapping_add(at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
