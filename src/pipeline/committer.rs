//! Stores what has become durable, then lets the source confirm it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::backoff::Backoff;
use super::fanout::Fanout;
use crate::error::Result;
use crate::fault;
use crate::flow::Progress;
use crate::offset::{OffsetUpdate, Store};
use crate::record::Position;

pub struct Committer {
    pub store: Store,
    pub fanout: Arc<Fanout>,
    /// What the server may be told; a value is sent only after it was stored.
    pub confirmed: watch::Sender<Option<Position>>,
    /// At most one synced write in this time, so that many small batches cost one.
    pub interval: Duration,
    pub progress: Arc<Progress>,
}

impl Committer {
    /// Runs until `stop`, then stores what is left. A store that cannot be written now (no space) is tried again until then.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<()> {
        let mut stopping = false;
        while !stopping {
            tokio::select! {
                biased;
                () = self.fanout.acked() => {}
                _ = stop.wait_for(|stop| *stop) => stopping = true,
            }
            let storable = self.fanout.take();
            let (mut backoff, mut last) = (Backoff::default(), false);
            while let Err(error) = self.store(&storable.update) {
                self.progress.store.add(&error);
                if stopping || last || !error.is_transient() {
                    self.fanout.store_failed();
                    return Err(error);
                }
                let delay = backoff.next();
                let delay_ms = delay.as_millis() as u64;
                tracing::warn!(?error, delay_ms, "trying again; until then nothing is confirmed");
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    _ = stop.wait_for(|stop| *stop) => last = true,
                }
            }
            self.progress.store.recovered();
            self.fanout.stored(&storable);
            let confirmable = storable.confirmable;
            self.confirmed.send_if_modified(|confirmed| {
                // A consumer may come that needs what was confirmed before: that is not taken back.
                let back = match (&*confirmed, &confirmable) {
                    (Some(confirmed), Some(confirmable)) => confirmed.covers(confirmable),
                    (Some(_), None) => true,
                    (None, _) => false,
                };
                let changed = !back && *confirmed != confirmable;
                if changed {
                    *confirmed = confirmable;
                }
                changed
            });
            if !stopping {
                tokio::select! {
                    () = tokio::time::sleep(self.interval) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            }
        }
        self.fanout.store_failed();
        Ok(())
    }

    fn store(&self, update: &OffsetUpdate) -> Result<()> {
        if update.is_empty() {
            return Ok(());
        }
        fault::point("before_store_commit");
        self.progress.storing.turn();
        let stored = self.store.write(|store| store.commit(update));
        self.progress.storing.rest();
        stored.map_err(|error| error.context("storing offsets"))?;
        fault::point("after_store_commit");
        Ok(())
    }
}
