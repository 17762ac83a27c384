//! Stores what has become durable, then lets the source confirm it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use super::fanout::Fanout;
use crate::error::Result;
use crate::fault;
use crate::offset::OffsetStore;
use crate::record::Position;

/// The store is written by the committer while the pipeline runs, and read when an interrupted snapshot goes on.
pub type Store = Arc<Mutex<Box<dyn OffsetStore>>>;

pub fn lock(store: &Store) -> MutexGuard<'_, Box<dyn OffsetStore>> {
    store.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

pub struct Committer {
    pub store: Store,
    pub fanout: Arc<Fanout>,
    /// What the server may be told; a value is sent only after it was stored.
    pub confirmed: watch::Sender<Option<Position>>,
    /// At most one synced write in this time, so that many small batches cost one.
    pub interval: Duration,
}

impl Committer {
    /// Runs until `stop`, then stores what is left.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<()> {
        let mut stopping = false;
        while !stopping {
            tokio::select! {
                biased;
                () = self.fanout.acked() => {}
                _ = stop.wait_for(|stop| *stop) => stopping = true,
            }
            if let Err(error) = self.commit() {
                self.fanout.store_failed();
                return Err(error);
            }
            if !stopping {
                tokio::select! {
                    () = tokio::time::sleep(self.interval) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            }
        }
        Ok(())
    }

    fn commit(&self) -> Result<()> {
        let storable = self.fanout.take();
        if !storable.update.is_empty() {
            fault::point("before_store_commit");
            // A synced write: short, but it must not hold up the tasks of this thread.
            tokio::task::block_in_place(|| lock(&self.store).commit(&storable.update))
                .map_err(|error| error.context("storing offsets"))?;
            fault::point("after_store_commit");
        }
        self.fanout.stored(&storable);
        let confirmable = storable.confirmable;
        self.confirmed.send_if_modified(|confirmed| {
            let changed = *confirmed != confirmable;
            *confirmed = confirmable;
            changed
        });
        Ok(())
    }
}
