//! A store in memory that outlives the pipelines on it, and that can die.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};

use tokio::sync::watch;

use super::script::{Event, Journal, number};
use walbrook::error::{Error, Result};
use walbrook::offset::{
    Checkpoint, Consumer, ConsumerChange, Continuity, MemoryStore, OffsetStore, OffsetUpdate, Orders, Place, Standing,
};
use walbrook::record::{Lineage, SinkOffset};

/// A memory store that several runs share, and that says what it has stored.
#[derive(Clone)]
pub struct SharedStore {
    inner: Arc<Mutex<MemoryStore>>,
    journal: Journal,
    crash: watch::Sender<Crash>,
    disk: Arc<Disk>,
}

/// A disk that may take any time for a write.
#[derive(Default)]
struct Disk {
    state: Mutex<DiskState>,
    changed: Condvar,
}

#[derive(Default)]
struct DiskState {
    hangs: bool,
    /// Whether a write waits for it.
    waited_for: bool,
}

/// When nothing is written any more, as of a process that was killed.
#[derive(Clone, Copy, Debug, Default)]
struct Crash {
    /// The write of a consumer's place that it comes at, counted down, and whether that is still done.
    at: Option<(u32, bool)>,
    over: bool,
}

impl SharedStore {
    pub fn new(journal: &Journal) -> Self {
        let crash = watch::channel(Crash::default()).0;
        SharedStore { inner: Arc::default(), journal: journal.clone(), crash, disk: Arc::default() }
    }
    /// The stored position of each sink.
    pub fn positions(&self) -> BTreeMap<String, Option<u64>> {
        let checkpoint = self.inner.lock().unwrap().load().unwrap();
        checkpoint.sinks.into_iter().map(|(name, offset)| (name, offset.position.as_ref().map(number))).collect()
    }
    /// What the stored state is of.
    pub fn base(&self) -> Option<u64> {
        self.inner.lock().unwrap().load().unwrap().base.as_ref().map(number)
    }
    pub fn durable_consumer(&self, name: &str) -> Option<Consumer> {
        self.inner.lock().unwrap().consumers().remove(name)
    }
    /// Lets no commit return, or lets them go on.
    pub fn hang(&self, hangs: bool) {
        self.disk.state.lock().unwrap().hangs = hangs;
        self.disk.changed.notify_all();
    }
    /// Whether a commit waits for the disk.
    pub fn is_waited_for(&self) -> bool {
        self.disk.state.lock().unwrap().waited_for
    }
    /// Dies at the `nth` write that changes where a consumer is, before or behind it.
    pub fn crash_at(&self, nth: u32, applied: bool) {
        self.crash.send_replace(Crash { at: Some((nth, applied)), over: false });
    }
    /// Returns when it has died.
    pub async fn crashed(&self) {
        let mut crash = self.crash.subscribe();
        crash.wait_for(|crash| crash.over).await.unwrap();
    }
    /// Whether it had died.
    pub fn revive(&self) -> bool {
        self.crash.send_replace(Crash::default()).over
    }

    fn write(&self, places: bool, write: impl FnOnce(&mut MemoryStore) -> Result<()>) -> Result<()> {
        let mut inner = self.inner.lock().unwrap();
        let mut crash = *self.crash.borrow();
        let mut applies = !crash.over;
        if let (Some((left, applied)), true) = (&mut crash.at, places && !crash.over) {
            *left -= 1;
            if *left == 0 {
                (crash.over, applies) = (true, *applied);
            }
        }
        let written = if applies { write(&mut inner) } else { Ok(()) };
        let over = crash.over;
        self.crash.send_replace(crash);
        if over { Err(Error::bug("the process is dead")) } else { written }
    }
}

impl OffsetStore for SharedStore {
    fn load(&self) -> Result<Checkpoint> {
        self.inner.lock().unwrap().load()
    }
    fn bind(&mut self, lineage: &Lineage, continuity: Continuity) -> Result<()> {
        self.write(false, |inner| inner.bind(lineage, continuity))
    }
    fn commit(&mut self, update: &OffsetUpdate) -> Result<()> {
        let mut disk = self.disk.state.lock().unwrap();
        while disk.hangs {
            disk.waited_for = true;
            disk = self.disk.changed.wait(disk).unwrap();
        }
        disk.waited_for = false;
        drop(disk);
        let known = self.inner.lock().unwrap().consumers();
        let places = update.consumers.iter().any(|(name, place)| match place {
            Place::Live(_) => known.get(name).is_some_and(|known| known.standing != Standing::Live),
            Place::Parked(_) => true,
        });
        self.write(places, |inner| inner.commit(update))?;
        self.journal.add(Event::Stored(self.positions()));
        Ok(())
    }
    fn retain_sinks(&mut self, keep: &dyn Fn(&str) -> bool) -> Result<()> {
        self.write(false, |inner| inner.retain_sinks(keep))
    }
    fn park_live(&mut self) -> Result<()> {
        self.write(false, |inner| inner.park_live())
    }
    fn consumers(&self) -> BTreeMap<String, Consumer> {
        self.inner.lock().unwrap().consumers()
    }
    fn consumer(&self, name: &str) -> Result<Checkpoint> {
        self.inner.lock().unwrap().consumer(name)
    }
    fn change_consumer(&mut self, name: &str, change: &ConsumerChange) -> Result<()> {
        self.write(true, |inner| inner.change_consumer(name, change))
    }
    fn commit_consumer(&mut self, name: &str, epoch: u64, update: &OffsetUpdate) -> Result<()> {
        self.write(false, |inner| inner.commit_consumer(name, epoch, update))
    }
    fn set(&mut self, sink: &str, offset: &SinkOffset) -> Result<()> {
        self.write(false, |inner| inner.set(sink, offset))
    }
    fn order(&mut self, orders: &Orders) -> Result<()> {
        self.write(false, |inner| inner.order(orders))
    }
    fn reset(&mut self) -> Result<()> {
        self.write(false, |inner| inner.reset())
    }
}
