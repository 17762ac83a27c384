//! The pipeline against a scripted server that fails over.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::error::Finding;
use crate::flow::BatchWriter;
use crate::offset::{Consumer, ConsumerChange, Continuity, MemoryStore, OffsetStore, Orders};
use crate::record::{Lsn, Origin, Txn};
use crate::sink::{Accepted, Batching, Capabilities, Delivery, Durable, Guarantee};
use crate::source::{Gap, Ready, Rows, State, Stored, StreamEnd};

fn at(lsn: u64) -> Position {
    Position::Postgres(Lsn(lsn))
}

fn transaction(writer: &mut BatchWriter, commit: u64) {
    writer.begin(Txn { commit: at(commit), id: None, commit_unix_micros: None });
}

/// On timeline 1 it delivers the transaction that commits at 20 (its end is 21) and the beginning of one at 50, and
/// breaks. Timeline 2 left it at 30: there a transaction at 40 comes, and the stream has reached its end. Between the
/// two it cannot be reached once.
#[derive(Default)]
struct FailsOver {
    timeline: u64,
    unreachable: bool,
    from: Arc<Mutex<Vec<Position>>>,
}

#[async_trait]
impl Source for FailsOver {
    async fn lineage(&mut self) -> Result<Lineage> {
        let text = |text: &str| text.to_owned();
        let timeline = (self.timeline + 1).to_string();
        Ok(Lineage { kind: text("k"), system: text("s"), timeline, database: text("d"), stream: text("slot") })
    }
    async fn retention(&mut self, stored: &Lineage, position: &Position) -> Result<Verdict> {
        if std::mem::take(&mut self.unreachable) {
            return Err(Error::transient("not reachable"));
        }
        let ours = stored.timeline == (self.timeline + 1).to_string();
        let lost = Gap { from: position.clone(), to: None, bytes: None, why: "another timeline".to_owned() };
        Ok(if ours || !position.covers(&at(30)) { Verdict::Valid } else { Verdict::Lost(lost) })
    }
    async fn prepare(&mut self, _: &State) -> Result<Ready> {
        Ok(Ready { position: at(10), state: Vec::new() })
    }
    async fn snapshot(&mut self, _: Rows, _: Option<Position>, _: &State, _: &Outlet) -> Result<Position> {
        Err(Error::bug("no snapshot was asked for"))
    }
    fn interrupted(&self, _: Rows, _: &State) -> Result<Option<Position>> {
        Ok(None)
    }
    async fn tip(&mut self) -> Result<Position> {
        Ok(at(100))
    }
    async fn earliest(&mut self) -> Result<Position> {
        Ok(at(0))
    }
    async fn stream(
        &mut self,
        from: Position,
        _: Option<Position>,
        outlet: &Outlet,
        _: watch::Receiver<Option<Position>>,
        _: watch::Receiver<bool>,
    ) -> Result<StreamEnd> {
        assert!(!self.unreachable, "streamed before the verdict");
        self.from.lock().unwrap().push(from);
        let mut writer = BatchWriter::new(outlet.clone(), Origin::Stream);
        transaction(&mut writer, if self.timeline == 0 { 20 } else { 40 });
        writer.commit(1, at(if self.timeline == 0 { 21 } else { 41 }));
        let permit = writer.permit().await;
        writer.send(permit);
        if self.timeline == 1 {
            return Ok(StreamEnd::Reached);
        }
        transaction(&mut writer, 50);
        let permit = writer.permit().await;
        writer.send(permit);
        (self.timeline, self.unreachable) = (1, true);
        Err(Error::transient("the primary is gone"))
    }
    async fn close(&mut self, _: Option<Position>) -> Result<()> {
        Ok(())
    }
    async fn check(&mut self, _: Option<Stored<'_>>) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }
    async fn discover(&mut self) -> Result<serde_json::Value> {
        Ok(serde_json::Value::Null)
    }
}

/// Holds the commit and ordinal of each record.
struct Holds {
    held: Arc<Mutex<Vec<(Position, u64)>>>,
    last: crate::record::Seq,
}

#[async_trait]
impl Sink for Holds {
    fn capabilities(&self) -> Capabilities {
        Capabilities { guarantee: Guarantee::AtLeastOnce }
    }
    fn batching(&self) -> Batching {
        Batching { max_records: 1, max_bytes: 1, max_delay_ms: 1, flush_when_idle: true }
    }
    async fn check(&mut self) -> Vec<Finding> {
        Vec::new()
    }
    async fn open(&mut self, _: &SinkOffset) -> Result<Option<SinkOffset>> {
        Ok(None)
    }
    async fn write(&mut self, delivery: &Delivery) -> Result<Accepted> {
        let keys = delivery.records().map(|record| (record.txn.commit.clone(), record.ordinal));
        self.held.lock().unwrap().extend(keys);
        self.last = delivery.batch.seq;
        Ok(Accepted(self.last))
    }
    async fn flush(&mut self) -> Result<Durable> {
        Ok(Durable(self.last))
    }
    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The store, still to be looked at when the pipeline is gone.
struct Shared(Arc<Mutex<MemoryStore>>);

impl OffsetStore for Shared {
    fn load(&self) -> Result<Checkpoint> {
        self.0.lock().unwrap().load()
    }
    fn bind(&mut self, lineage: &Lineage, continuity: Continuity) -> Result<()> {
        self.0.lock().unwrap().bind(lineage, continuity)
    }
    fn commit(&mut self, update: &OffsetUpdate) -> Result<()> {
        self.0.lock().unwrap().commit(update)
    }
    fn retain_sinks(&mut self, keep: &dyn Fn(&str) -> bool) -> Result<()> {
        self.0.lock().unwrap().retain_sinks(keep)
    }
    fn park_live(&mut self) -> Result<()> {
        self.0.lock().unwrap().park_live()
    }
    fn consumers(&self) -> BTreeMap<String, Consumer> {
        self.0.lock().unwrap().consumers()
    }
    fn consumer(&self, name: &str) -> Result<Checkpoint> {
        self.0.lock().unwrap().consumer(name)
    }
    fn change_consumer(&mut self, name: &str, change: &ConsumerChange) -> Result<()> {
        self.0.lock().unwrap().change_consumer(name, change)
    }
    fn commit_consumer(&mut self, name: &str, epoch: u64, update: &OffsetUpdate) -> Result<()> {
        self.0.lock().unwrap().commit_consumer(name, epoch, update)
    }
    fn set(&mut self, sink: &str, offset: &SinkOffset) -> Result<()> {
        self.0.lock().unwrap().set(sink, offset)
    }
    fn order(&mut self, orders: &Orders) -> Result<()> {
        self.0.lock().unwrap().order(orders)
    }
    fn reset(&mut self) -> Result<()> {
        self.0.lock().unwrap().reset()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_loses_nothing_and_is_stored() {
    let (held, from) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let store = Arc::new(Mutex::new(MemoryStore::default()));
    let sink = Box::new(Holds { held: held.clone(), last: Default::default() });
    let options = Options {
        snapshot: SnapshotMode::Never,
        on_lost_position: LostPolicy::Fail,
        budget_bytes: 1 << 20,
        until: None,
        limit: None,
        commit_interval: Duration::from_millis(1),
        drain_timeout: Duration::from_secs(5),
        wait_for_server: false,
    };
    let (_stop, stopped) = watch::channel(false);
    let source = Box::new(FailsOver { from: from.clone(), ..FailsOver::default() });
    let sinks = vec![SinkSpec { name: "a".to_owned(), sink, start: StartAt::Now }];
    let shared = Store::new(Box::new(Shared(store.clone())));
    let pipeline = Pipeline::new(source, shared, sinks, options, Arc::default(), stopped);
    assert_eq!(pipeline.run().await.unwrap(), Outcome::Reached);
    assert_eq!(*from.lock().unwrap(), [at(10), at(21)]);
    let wanted = [(20, 0), (20, 1), (50, 0), (40, 0), (40, 1)].map(|(commit, ordinal)| (at(commit), ordinal));
    assert_eq!(*held.lock().unwrap(), wanted, "the new branch's 40 comes though 50 was begun on the old one");
    let checkpoint = store.lock().unwrap().load().unwrap();
    assert_eq!(checkpoint.lineage.unwrap().timeline, "2");
    assert_eq!(checkpoint.sinks["a"].position, Some(at(41)));
}
