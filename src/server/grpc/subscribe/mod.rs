//! `walbrook.v1.ChangeStream`: one consumer's stream by gRPC.
//!
//! Invariants:
//! - Nothing is done for a client before its Open was read and checked.
//! - There are never more calls than `max_consumers`, those of clients that went quiet included.
//! - A message is encoded by hand, once, and passed on as it is ([`codec`]).

mod codec;
mod encoder;
mod ledger;
mod open;
mod place;
mod refusal;
mod session;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use http::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Status, Streaming};
use tower_service::Service;

use super::listener::Peer;
use super::route::{ByWeb, REQUEST_MAX_BYTES};
use crate::flow::Progress;
use crate::pipeline::{Attachment, From, Hub, Refused};
use crate::proto::v1::{self, SubscribeRequest, subscribe_request};
use crate::record::Lineage;
use crate::source::tables::Names;
use codec::Passing;
use encoder::Encoder;
use ledger::Ledger;
use open::Opening;
use session::{Requests, Session};

pub use open::check_name;
pub use place::{from_wire, owner};

/// A client that has opened a call has its first request ready.
const OPEN: Duration = Duration::from_secs(10);

/// A client that ended a moment ago may still be on its way out, when the next of the same consumer comes; one that is
/// there stays longer.
const WAY_OUT: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Where the clients of durable consumers are, by the consumer's name.
#[derive(Default)]
pub struct Peers(Mutex<HashMap<String, (u64, SocketAddr)>>);

impl Peers {
    fn known(&self) -> MutexGuard<'_, HashMap<String, (u64, SocketAddr)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn of(&self, consumer: &str) -> Option<SocketAddr> {
        self.known().get(consumer).map(|(_, peer)| *peer)
    }

    fn came(&self, consumer: &str, epoch: u64, peer: SocketAddr) {
        self.known().insert(consumer.to_owned(), (epoch, peer));
    }

    /// Unless another client has come meanwhile.
    fn left(&self, consumer: &str, epoch: u64) {
        let mut known = self.known();
        if known.get(consumer).is_some_and(|(of, _)| *of == epoch) {
            known.remove(consumer);
        }
    }
}

#[derive(Clone)]
pub struct Subscriptions(Arc<Shared>);

struct Shared {
    hub: Hub,
    progress: Arc<Progress>,
    names: Names<'static>,
    max_unacked_batches: usize,
    max_consumers: usize,
    places: Arc<Semaphore>,
    peers: Arc<Peers>,
}

impl Subscriptions {
    /// `names`: how the source's names are written, for filters.
    pub fn new(
        hub: Hub,
        progress: Arc<Progress>,
        names: Names<'static>,
        max_unacked_batches: usize,
        max_consumers: usize,
    ) -> Self {
        let (places, peers) = (Arc::new(Semaphore::new(max_consumers)), Arc::default());
        Subscriptions(Arc::new(Shared { hub, progress, names, max_unacked_batches, max_consumers, places, peers }))
    }

    pub fn peers(&self) -> Arc<Peers> {
        self.0.peers.clone()
    }
}

impl NamedService for Subscriptions {
    const NAME: &'static str = "walbrook.v1.ChangeStream";
}

impl Service<Request<Body>> for Subscriptions {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let subscribe = Subscribe(self.0.clone());
        Box::pin(async move {
            if request.uri().path() != "/walbrook.v1.ChangeStream/Subscribe" {
                return Ok(Status::unimplemented("ChangeStream has one method, Subscribe").into_http());
            }
            let mut grpc = Grpc::new(Passing).max_decoding_message_size(REQUEST_MAX_BYTES);
            Ok(grpc.streaming(subscribe, request).await)
        })
    }
}

struct Subscribe(Arc<Shared>);

impl StreamingService<SubscribeRequest> for Subscribe {
    type Response = Bytes;
    type ResponseStream = Answer;
    type Future = std::future::Ready<Result<tonic::Response<Answer>, Status>>;

    /// Answers at once: what is wrong with the request comes as the status of the stream, whenever that is known.
    fn call(&mut self, request: tonic::Request<Streaming<SubscribeRequest>>) -> Self::Future {
        let shared = self.0.clone();
        let Ok(place) = shared.places.clone().try_acquire_owned() else {
            let text = format!(
                "there are {} subscriptions, as many as grpc.max_consumers allows; end one, or raise it",
                shared.max_consumers
            );
            return std::future::ready(Err(Status::resource_exhausted(text)));
        };
        let by_web = request.extensions().get::<ByWeb>().is_some();
        let peer = request.extensions().get::<Peer>().copied();
        // One message waits for the transport while the next is encoded.
        let (out, messages) = mpsc::channel(1);
        let (end, ended) = oneshot::channel();
        let requests = request.into_inner();
        tokio::spawn(async move {
            let status = subscription(&shared, requests, out, by_web, peer).await;
            // A client that is gone does not hear it.
            let _ = end.send(status);
        });
        std::future::ready(Ok(tonic::Response::new(Answer { messages, ended: Some(ended), _place: place })))
    }
}

/// The messages, and then the status.
pub struct Answer {
    messages: mpsc::Receiver<Bytes>,
    ended: Option<oneshot::Receiver<Status>>,
    _place: OwnedSemaphorePermit,
}

impl Stream for Answer {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(message) = std::task::ready!(self.messages.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(message)));
        }
        let Some(ended) = &mut self.ended else { return Poll::Ready(None) };
        let status = std::task::ready!(Pin::new(ended).poll(cx));
        self.ended = None;
        match status {
            Ok(status) if status.code() == tonic::Code::Ok => Poll::Ready(None),
            Ok(status) => Poll::Ready(Some(Err(status))),
            Err(_) => Poll::Ready(Some(Err(Status::internal("the task of this subscription panicked")))),
        }
    }
}

/// From the first request to the end.
async fn subscription(
    shared: &Shared,
    mut requests: Streaming<SubscribeRequest>,
    out: mpsc::Sender<Bytes>,
    by_web: bool,
    peer: Option<Peer>,
) -> Status {
    let opened = async {
        let open = first(&mut requests).await?;
        let Some(lineage) = shared.progress.lineage() else {
            return Err(Status::unavailable("the database's log is not being read yet; come back"));
        };
        let opening = Opening::new(open, &shared.names, &lineage, by_web)?;
        let attachment = attach(&shared.hub, &opening).await?;
        Ok((opening, attachment, lineage))
    };
    // The attachment's place is stored when it is there, whether the client waits for it or not.
    let (opening, attachment, lineage) = match opened.await {
        Ok(opened) => opened,
        Err(status) => return status,
    };
    let durable = opening.attach.consumer.is_some();
    let ledger = Ledger::new(durable.then_some(shared.max_unacked_batches), opening.credit);
    let encoder = Encoder::new(opening.options(owner(&lineage)));
    let start = attachment.start().cloned();
    let greeting = v1::Opened {
        epoch: attachment.epoch(),
        position: start.as_ref().map(|position| encoder.position(position)),
        server: Some(identity(&lineage)),
    };
    let (handle, epoch) = (attachment.handle(), attachment.epoch());
    if let (Some(name), Some(Peer(peer))) = (&opening.attach.consumer, peer) {
        shared.peers.came(name, epoch, peer);
    }
    let session = Session::new((attachment, handle), requests, out, encoder, ledger, (greeting, start), by_web);
    let status = session.run().await;
    if let Some(name) = &opening.attach.consumer {
        shared.peers.left(name, epoch);
    }
    status
}

async fn first(requests: &mut Streaming<SubscribeRequest>) -> Result<v1::Open, Status> {
    let first = tokio::time::timeout(OPEN, Requests::next(requests)).await;
    match first.map_err(|_| Status::deadline_exceeded("no Open came within 10 s"))?? {
        Some(SubscribeRequest { request: Some(subscribe_request::Request::Open(open)) }) => Ok(open),
        _ => Err(Status::invalid_argument("the first message of a call is Open")),
    }
}

async fn attach(hub: &Hub, opening: &Opening) -> Result<Attachment, Status> {
    let deadline = Instant::now() + WAY_OUT;
    let mut attach = opening.attach.clone();
    loop {
        match hub.attach(attach.clone()).await {
            Err(Refused::Unknown) if attach.from == From::Stored && opening.otherwise.is_some() => {
                attach.from = opening.otherwise.clone().unwrap_or(From::Stored);
            }
            Err(Refused::AlreadyAttached { .. }) if Instant::now() < deadline => tokio::time::sleep(LOOK_AGAIN).await,
            attached => return attached.map_err(refusal::refused),
        }
    }
}

/// Whose changes a stream has.
pub fn identity(lineage: &Lineage) -> v1::ServerIdentity {
    v1::ServerIdentity {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        source: lineage.kind.clone(),
        system: lineage.system.clone(),
        timeline: lineage.timeline.clone(),
        database: lineage.database.clone(),
    }
}
