use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use prost::Message as _;
use tokio::sync::mpsc::{Receiver, Sender};

use super::*;
use crate::encode::proto::{Filter, Format, ProtoOptions, TARGET_BYTES};
use crate::record::{BatchBuilder, Cell, Lsn, Mark, Origin, Txn};
use crate::sink::Delivery;

/// A hub that says what it is told to, and keeps what it hears.
#[derive(Default)]
struct Script {
    events: VecDeque<Event>,
    heard: Arc<Mutex<Heard>>,
    end: Option<tokio::sync::oneshot::Receiver<Ended>>,
}

#[derive(Debug, Default)]
struct Heard {
    acks: Vec<u64>,
    reading: Vec<bool>,
}

impl Changes for Script {
    async fn next(&mut self) -> Result<Event, Ended> {
        match self.events.pop_front() {
            Some(event) => Ok(event),
            None => Err(self.ended().await),
        }
    }
    async fn ended(&mut self) -> Ended {
        match &mut self.end {
            Some(end) => match end.await {
                Ok(ended) => ended,
                Err(_) => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }
    fn ack(&self, upto: Seq) {
        self.heard.lock().unwrap().acks.push(upto.0);
    }
    fn reading(&self, reading: bool) {
        self.heard.lock().unwrap().reading.push(reading);
    }
}

struct Said(Receiver<v1::SubscribeRequest>);

impl Requests for Said {
    async fn next(&mut self) -> Result<Option<v1::SubscribeRequest>, Status> {
        Ok(self.0.recv().await)
    }
}

/// So many messages of so many bytes in a transaction.
fn delivery(seq: u64, messages: usize, bytes: usize) -> Event {
    let mut batch = BatchBuilder::new(Origin::Stream);
    let position = Position::Postgres(Lsn(seq * 100));
    batch.txn(Txn { commit: position, id: Some(seq), commit_unix_micros: Some(1) });
    batch.begin();
    let frame = [&b"p"[..], &vec![b'x'; bytes]].concat();
    for ordinal in 0..messages {
        let cells = batch.cells_start();
        batch.cells_mut().extend([Cell::at(0, 1), Cell::at(1, bytes)]);
        batch.message(cells, true, ordinal as u64 + 1);
    }
    batch.commit(messages as u64 + 1);
    batch.frame(frame.into());
    let mark = Mark { position: Some(Position::Postgres(Lsn(seq * 100 + 1))), state: Vec::new() };
    // The batch's own number means nothing to a call.
    Event::Batch { seq: Seq(seq), delivery: Delivery::whole(Arc::new(batch.build(Seq(seq + 7), mark, None))) }
}

struct Call {
    messages: Receiver<Bytes>,
    says: Option<Sender<v1::SubscribeRequest>>,
    heard: Arc<Mutex<Heard>>,
    task: tokio::task::JoinHandle<Status>,
}

impl Call {
    fn open(script: Script, ledger: Ledger, filter: Filter, max_message_bytes: usize) -> Call {
        let (out, messages) = mpsc::channel(1);
        let (says, said) = mpsc::channel(8);
        let heard = script.heard.clone();
        let target_bytes = TARGET_BYTES.min(max_message_bytes);
        let options = ProtoOptions { format: Format::Json, filter, lineage: 1, target_bytes, max_message_bytes };
        let opened = v1::Opened { epoch: 3, ..v1::Opened::default() };
        let encoder = Encoder::new(options);
        let session = Session::new(script, Said(said), out, encoder, ledger, (opened, None), false);
        Call { messages, says: Some(says), heard, task: tokio::spawn(session.run()) }
    }

    async fn next(&mut self) -> Option<subscribe_response::Response> {
        let message = tokio::time::timeout(Duration::from_secs(60), self.messages.recv()).await.expect("a message");
        v1::SubscribeResponse::decode(message?).expect("a message").response
    }

    async fn opened(&mut self) {
        assert!(matches!(self.next().await, Some(subscribe_response::Response::Opened(v1::Opened { epoch: 3, .. }))));
    }

    async fn batch(&mut self) -> v1::Batch {
        match self.next().await {
            Some(subscribe_response::Response::Batch(batch)) => batch,
            other => panic!("{other:?}"),
        }
    }

    async fn say(&self, request: subscribe_request::Request) {
        let request = v1::SubscribeRequest { request: Some(request) };
        self.says.as_ref().expect("not closed").send(request).await.expect("a call that listens");
    }

    async fn ack(&self, number: u64) {
        self.say(subscribe_request::Request::Ack(v1::Ack { number })).await;
    }

    async fn credit(&self, bytes: u64, batches: u32) {
        self.say(subscribe_request::Request::Credit(v1::Credit { bytes, batches })).await;
    }

    async fn heard(&self, what: impl Fn(&Heard) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            while !what(&self.heard.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{:?}", self.heard.lock().unwrap()));
    }

    /// The client closes its side.
    async fn end(mut self) -> Status {
        self.says = None;
        self.ended().await
    }

    /// What the server makes the end.
    async fn ended(mut self) -> Status {
        while self.messages.recv().await.is_some() {}
        self.task.await.expect("no panic")
    }
}

fn script(events: impl IntoIterator<Item = Event>) -> Script {
    Script { events: events.into_iter().collect(), ..Script::default() }
}

#[tokio::test]
async fn what_is_there_goes_into_one_batch_and_is_acknowledged_as_one() {
    let deliveries = (1..=3).map(|seq| delivery(seq, 2, 10));
    let mut call = Call::open(script(deliveries), Ledger::new(Some(10), None), Filter::default(), 1 << 20);
    call.opened().await;
    let batch = call.batch().await;
    assert_eq!((batch.number, batch.changes, batch.resume.unwrap().text.as_str()), (1, 6, "0/12D"));
    assert_eq!(batch.lines.iter().filter(|byte| **byte == b'\n').count(), 6);
    assert!(call.heard.lock().unwrap().acks.is_empty());
    call.ack(1).await;
    call.heard(|heard| heard.acks == [3]).await;
    assert_eq!(call.end().await.code(), Code::Ok, "the client closed its side");
}

#[tokio::test]
async fn a_large_delivery_is_several_batches_and_done_with_the_last() {
    let mut call =
        Call::open(script([delivery(1, 10, 100_000)]), Ledger::new(Some(10), None), Filter::default(), 1 << 20);
    call.opened().await;
    let mut batches = vec![call.batch().await];
    while batches.last().unwrap().resume.is_none() {
        batches.push(call.batch().await);
    }
    assert!(batches.len() > 2, "{}", batches.len());
    assert_eq!(batches.iter().map(|batch| batch.changes).sum::<u32>(), 10);
    let numbers: Vec<u64> = batches.iter().map(|batch| batch.number).collect();
    assert_eq!(numbers, (1..=batches.len() as u64).collect::<Vec<_>>());
    call.ack(numbers.len() as u64 - 1).await;
    call.ack(numbers.len() as u64).await;
    call.heard(|heard| heard.acks == [1]).await;
}

#[tokio::test]
async fn without_credit_nothing_is_sent_and_the_hub_is_told() {
    let events = [delivery(1, 1, 10), delivery(2, 1, 300_000), delivery(3, 1, 10)];
    let mut call = Call::open(script(events), Ledger::new(Some(10), Some((1 << 20, 1))), Filter::default(), 1 << 20);
    call.opened().await;
    assert_eq!(call.batch().await.number, 1);
    call.heard(|heard| heard.reading.last() == Some(&false)).await;
    call.credit(0, 1).await;
    assert_eq!(call.batch().await.number, 2);
    call.heard(|heard| heard.reading.starts_with(&[false, true])).await;
    call.ack(5).await;
    let status = call.ended().await;
    assert_eq!((status.code(), status.message().contains("batch 5")), (Code::InvalidArgument, true), "{status:?}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_hears_the_end_when_it_reads_again() {
    let (end, ended) = tokio::sync::oneshot::channel();
    let mut events = script((1..=50).map(|seq| delivery(seq, 3, 100_000)));
    events.end = Some(ended);
    let mut call = Call::open(events, Ledger::new(None, None), Filter::default(), 1 << 20);
    // Nothing is read for so long that the hub is told.
    call.heard(|heard| heard.reading == [false]).await;
    end.send(Ended::Detached("behind by more than grpc.max_lag_bytes".to_owned())).expect("a session that listens");
    call.opened().await;
    let status = call.ended().await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("grpc.max_lag_bytes"), "{status:?}");
}

#[tokio::test]
async fn what_is_not_wanted_is_acknowledged_and_told_by_a_heartbeat() {
    let filter = v1::Filter { operations: vec![v1::Operation::Delete.into()], ..v1::Filter::default() };
    let operations = crate::encode::proto::Operations::of_request(&filter).unwrap();
    let filter = Filter { operations, ..Filter::default() };
    let deliveries = (1..=200).map(|seq| delivery(seq, 1, 10));
    let mut call = Call::open(script(deliveries), Ledger::new(Some(10), None), filter, 1 << 20);
    call.opened().await;
    let Some(subscribe_response::Response::Heartbeat(heartbeat)) = call.next().await else { panic!("a heartbeat") };
    assert_eq!(heartbeat.position.unwrap().text, "0/4E21");
    call.heard(|heard| heard.acks.last() == Some(&200)).await;
}

#[tokio::test]
async fn a_row_too_large_ends_the_call_behind_what_came_before() {
    let events = [delivery(1, 1, 10), delivery(2, 1, 200_000)];
    let mut call = Call::open(script(events), Ledger::new(Some(10), None), Filter::default(), 64 << 10);
    call.opened().await;
    assert_eq!(call.batch().await.number, 1);
    let status = call.ended().await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
}

#[tokio::test]
async fn a_rewind_comes_in_its_place_and_makes_acknowledgements_void() {
    let rewind = Event::Rewind(Some(Position::Postgres(Lsn(100))));
    let events = [delivery(1, 1, 10), rewind, delivery(2, 1, 10)];
    let mut call = Call::open(script(events), Ledger::new(Some(1), None), Filter::default(), 1 << 20);
    call.opened().await;
    assert_eq!(call.batch().await.number, 1);
    let Some(subscribe_response::Response::Rewind(rewind)) = call.next().await else { panic!("a rewind") };
    assert_eq!(rewind.position.unwrap().text, "0/64");
    let batch = call.batch().await;
    assert_eq!(batch.number, 2, "though only one may be unacknowledged");
    call.ack(1).await;
    call.ack(2).await;
    call.heard(|heard| heard.acks == [2]).await;
}

#[tokio::test]
async fn what_a_client_may_not_say_ends_the_call() {
    let open = subscribe_request::Request::Open(v1::Open::default());
    let credit = subscribe_request::Request::Credit(v1::Credit { bytes: 1, batches: 1 });
    for (wrong, part) in [(open, "first message"), (credit, "counts no credits")] {
        let mut call = Call::open(script([]), Ledger::new(Some(1), None), Filter::default(), 1 << 20);
        call.opened().await;
        call.say(wrong).await;
        let status = call.ended().await;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(part), "{status:?}");
    }
}
