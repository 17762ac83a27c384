//! The client's side of a consumer.

use std::sync::Arc;

use super::api::{Ended, Event};
use super::feed::Feed;
use crate::record::{Position, Seq};

/// One client's stream. Dropping it says that the client is gone.
pub struct Attachment {
    pub(super) feed: Arc<Feed>,
    pub(super) epoch: u64,
    pub(super) start: Option<Position>,
}

impl Attachment {
    /// 0 for an ephemeral consumer.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Where the stream begins; none where a snapshot comes first.
    pub fn start(&self) -> Option<&Position> {
        self.start.as_ref()
    }

    pub fn handle(&self) -> Handle {
        Handle(self.feed.clone())
    }

    /// The next event; waits while there is none, and while too many deliveries are not acknowledged. To be called while the
    /// client has credits. Cancel-safe.
    pub async fn next(&mut self) -> Result<Event, Ended> {
        loop {
            if let Some(next) = self.feed.poll() {
                return next;
            }
            // What comes between the look and the wait leaves its mark.
            self.feed.news.notified().await;
        }
    }

    /// The end alone, for as long as the client takes nothing. Cancel-safe.
    pub async fn ended(&mut self) -> Ended {
        loop {
            if let Some(ended) = self.feed.ended() {
                return ended;
            }
            self.feed.news.notified().await;
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.feed.end(Ended::Stopping);
    }
}

/// The other direction of an attachment, for another task; of no effect once that is gone.
#[derive(Clone)]
pub struct Handle(Arc<Feed>);

impl Handle {
    /// Everything up to this delivery is the client's to keep. False for one that was not made yet.
    pub fn ack(&self, upto: Seq) -> bool {
        self.0.ack(upto)
    }

    /// Whether the client has credits; true at the beginning. A client that has none for a while gives up its lane.
    pub fn reading(&self, reading: bool) {
        self.0.set_reading(reading);
    }
}
