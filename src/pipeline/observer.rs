//! Looks at the server beside the stream, where somebody watches.
//!
//! Invariants:
//! - It has a connection of its own and waits for nobody; nobody waits for it, and what goes wrong with it is no error of
//!   the pipeline.
//! - It ends with what started it, by Drop.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::flow::Progress;
use crate::source::{Observer, Source};

/// Often enough for a lag that is shown to be of this moment; a question of some tenths of a millisecond to the server.
const INTERVAL: Duration = Duration::from_secs(1);
/// A server that does not answer for so long is not to be asked on that connection any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// The task that looks.
pub struct Observing(Option<JoinHandle<()>>);

impl Observing {
    /// Does nothing where nobody watches.
    ///
    /// # Errors
    /// Bug: the source is not connected.
    pub fn start(source: &dyn Source, progress: &Arc<Progress>) -> Result<Observing> {
        let observer = if progress.is_watched() { source.observer()? } else { None };
        let Some(observer) = observer else { return Ok(Observing(None)) };
        progress.extent_is(observer.extent());
        Ok(Observing(Some(tokio::spawn(observe(observer, progress.clone())))))
    }
}

impl Drop for Observing {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

async fn observe(mut observer: Box<dyn Observer>, progress: Arc<Progress>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let error = match tokio::time::timeout(PATIENCE, observer.look()).await {
            Ok(Ok(observation)) => {
                progress.observed(observation);
                continue;
            }
            Ok(Err(error)) => error,
            Err(_) => Error::transient(format!("the server has not answered for {} s", PATIENCE.as_secs())),
        };
        let error = error.context("looking at the server beside the stream");
        tracing::debug!(?error, "the server cannot be asked how its log stands");
        progress.observer.add(&error);
        observer.disconnect();
    }
}
