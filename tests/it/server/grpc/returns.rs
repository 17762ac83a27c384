//! A durable consumer that leaves again and again inside its snapshot, with everything acknowledged that it got.

use std::collections::BTreeSet;

use tokio::sync::mpsc;
use tonic::transport::Channel;
use walbrook::proto::v1::change_stream_client::ChangeStreamClient;
use walbrook::proto::v1::subscribe_request::Request;
use walbrook::proto::v1::subscribe_response::Response;
use walbrook::proto::v1::value::Kind;
use walbrook::proto::v1::{self, Origin, Start};

use super::{Db, Sidecar, on_each};

/// Rows of the snapshot, some 1.5 MB: one chunk of it, and several messages.
const ROWS: i64 = 5000;
/// Transactions behind it: as large that each ends a batch (64 KiB), and that two go into a message.
const TRANSACTIONS: i64 = 12;
const ROWS_EACH: i64 = 260;
const ROW_BYTES: i64 = 300;

fn insert(db: &Db, ids: std::ops::Range<i64>) {
    let rows: Vec<String> = ids.map(|id| format!("({id}, repeat('x', {ROW_BYTES}))")).collect();
    db.sql(&format!("insert into t values {}", rows.join(", ")));
}

/// What one call gave: its batches, each acknowledged; so many, or until nothing is missing.
async fn visit(channel: Channel, start: Start, batches: u32, mut missing: BTreeSet<i64>) -> Vec<v1::Batch> {
    let (says, mut said) = mpsc::channel(64);
    let say = |request| v1::SubscribeRequest { request: Some(request) };
    let credit = Some(v1::Credit { bytes: 1 << 40, batches });
    let open = v1::Open { consumer: "guest".to_owned(), start: start.into(), credit, ..v1::Open::default() };
    says.send(say(Request::Open(open))).await.expect("room");
    let requests = futures_util::stream::poll_fn(move |cx| said.poll_recv(cx));
    let mut answers = ChangeStreamClient::new(channel).subscribe(requests).await.expect("a call").into_inner();
    let mut came = Vec::new();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(120);
    while came.len() < batches as usize && !missing.is_empty() {
        let answer = tokio::time::timeout_at(deadline, answers.message()).await.expect("in time");
        let Some(Response::Batch(batch)) = answer.expect("no error").expect("no end").response else { continue };
        says.send(say(Request::Ack(v1::Ack { number: batch.number }))).await.expect("room");
        for id in ids(&batch) {
            missing.remove(&id);
        }
        came.push(batch);
    }
    drop(says);
    while answers.message().await.expect("a clean end").is_some() {}
    came
}

/// The ids of the new rows in a batch.
fn ids(batch: &v1::Batch) -> Vec<i64> {
    let changes = batch.transactions.iter().flat_map(|transaction| &transaction.changes);
    let rows = changes.filter_map(|change| change.after.as_ref());
    let id = |row: &v1::Row| match &row.values.first().expect("an id").kind {
        Some(Kind::Integer(id)) => *id,
        other => panic!("{other:?}"),
    };
    rows.map(id).collect()
}

#[test]
fn changes_that_were_acknowledged_while_a_snapshot_goes_on_do_not_come_again() {
    on_each("returns", |db| {
        db.sql("create table t (id int primary key, v text)");
        insert(db, 0..ROWS);
        let sidecar = Sidecar::start(db, &[]);
        let (runtime, channel) = sidecar.connect();
        let wanted: BTreeSet<i64> = (0..ROWS).chain(10_000..10_000 + TRANSACTIONS * ROWS_EACH).collect();
        let visit = |start, batches, missing| runtime.block_on(visit(channel.clone(), start, batches, missing));
        let mut came = visit(Start::Snapshot, 1, wanted.clone());
        assert_eq!(came[0].origin(), Origin::Snapshot);
        for transaction in 0..TRANSACTIONS {
            let first = 10_000 + transaction * ROWS_EACH;
            insert(db, first..first + ROWS_EACH);
        }
        for round in 0..4 {
            let more = visit(Start::Stored, 1, wanted.clone());
            assert_eq!(more[0].origin(), Origin::CatchUp, "in round {round}");
            came.extend(more);
        }
        let missing = wanted.iter().filter(|id| !came.iter().any(|batch| ids(batch).contains(id))).copied().collect();
        came.extend(visit(Start::Stored, u32::MAX, missing));
        let (mut keys, mut seen) = (BTreeSet::new(), BTreeSet::new());
        for batch in &came {
            seen.extend(ids(batch));
            if batch.origin() == Origin::Snapshot {
                continue;
            }
            for transaction in &batch.transactions {
                for change in &transaction.changes {
                    let key = (transaction.order.clone(), change.ordinal);
                    assert!(keys.insert(key), "{}, {} came twice", transaction.position, change.ordinal);
                }
            }
        }
        assert!(seen == wanted, "other rows");
    });
}
