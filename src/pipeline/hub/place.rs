//! Where a client begins: what it asked for, held against what is stored and what the server still has.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::Hub;
use super::api::{Attach, ConsumerStatus, Ended, From, HubOptions, Refused, State};
use super::attachment::Attachment;
use super::conductor::{Conductor, Membership};
use super::feed::Feed;
use super::registry::{Main, Registry, Seat, Up, not_up};
use crate::error::{Error, Result};
use crate::offset::{Consumer, ConsumerChange, NewPlace, Standing, Store, check_name};
use crate::record::Position;
use crate::record::owed::TableName;
use crate::source::{Gap, Lanes, Source, Verdict};

/// The longest a client waits to be let in for the stream to be up.
const UP_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest a question to the server may take: a connection, and a few round trips.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const EDGE_POLL: Duration = Duration::from_millis(10);

fn failed(error: Error) -> Refused {
    Refused::Failed(error)
}

fn unknown(name: &str) -> Error {
    Error::config(format!("there is no consumer {name:?}"))
}

impl Hub {
    /// To be given to [`crate::pipeline::Pipeline::serving`], before which nobody is let in.
    pub fn new(options: HubOptions, sources: Arc<dyn Lanes>) -> Self {
        Hub { registry: Registry::new(options, sources) }
    }

    /// Lets a client in. A durable consumer's new epoch and place are stored when this returns. Takes at most about twenty
    /// seconds. Dropped before it returns, it has let nobody in.
    pub async fn attach(&self, attach: Attach) -> Result<Attachment, Refused> {
        match &attach.consumer {
            Some(name) => {
                check_name(name).map_err(failed)?;
                let _gate = self.registry.gate(name).await;
                self.attach_durable(name, &attach).await
            }
            None => self.attach_ephemeral(&attach.from).await,
        }
    }

    async fn attach_durable(&self, name: &str, attach: &Attach) -> Result<Attachment, Refused> {
        let registry = &self.registry;
        let main = self.up().await?;
        match registry.seated(name) {
            Some(epoch) if !attach.takeover => return Err(Refused::AlreadyAttached { epoch }),
            Some(_) => registry.expel(name, Ended::TakenOver).await,
            None => {}
        }
        registry.parked(name).await.map_err(failed)?;
        let consumers = registry.store().map_err(failed)?.read(|store| store.consumers());
        let known = consumers.get(name);
        if known.is_some_and(|known| known.standing == Standing::Paused) {
            return Err(Refused::Paused);
        }
        let limit = registry.options.max_consumers;
        if known.is_none() && attach.from != From::Stored && consumers.len() >= limit {
            return Err(Refused::TooMany { limit });
        }
        let epoch = known.map_or(0, |known| known.epoch) + 1;
        let fresh = |place| ConsumerChange::Begin { epoch, place };
        let feed = self.feed(true);
        let mut member = None;
        let change = match (&attach.from, known) {
            (From::Stored, None) => return Err(Refused::Unknown),
            (From::Stored, Some(known)) => {
                if let Standing::Detached(_) = known.standing {
                    self.prove_again(&main, name, known).await?;
                }
                ConsumerChange::Attach { epoch }
            }
            // One that is not complete goes on.
            (From::Snapshot, Some(known)) if known.position.is_none() && known.standing == Standing::Parked => {
                ConsumerChange::Attach { epoch }
            }
            (From::Snapshot, _) => fresh(NewPlace::Snapshot),
            (From::At(position), _) => {
                self.prove(&main, name, position).await?;
                fresh(NewPlace::At(position.clone()))
            }
            (From::Earliest, _) => fresh(NewPlace::At(self.earliest().await?)),
            (From::Latest, _) => {
                let (joined, from) = self.join_latest(&main, Some(name), &feed).await?;
                member = Some(joined);
                fresh(NewPlace::At(from))
            }
        };
        let known = registry.change(name, &change).map_err(failed)?;
        registry.forget_error(name);
        let start = known.and_then(|known| known.position);
        Ok(self.seat(name, epoch, feed, member, start))
    }

    async fn attach_ephemeral(&self, from: &From) -> Result<Attachment, Refused> {
        let main = self.up().await?;
        let name = self.registry.next_ephemeral();
        let feed = self.feed(false);
        let (member, start) = match from {
            From::Stored => {
                let nothing = Error::config("nothing is stored of a consumer without a name");
                return Err(failed(nothing.remedy("name the consumer, or say where it begins")));
            }
            From::At(position) => {
                self.prove(&main, &name, position).await?;
                (None, Some(position.clone()))
            }
            From::Snapshot => (None, None),
            From::Earliest => (None, Some(self.earliest().await?)),
            From::Latest => {
                let (joined, from) = self.join_latest(&main, None, &feed).await?;
                (Some(joined), Some(from))
            }
        };
        Ok(self.seat(&name, 0, feed, member, start))
    }

    fn feed(&self, durable: bool) -> Arc<Feed> {
        Feed::new(durable, self.registry.options.max_unacked_batches.max(1))
    }

    /// A place in the live stream, and where the client begins: where the stream is, or at the end of the server's log where
    /// the stream has not come so far. Up to there the client is given nothing.
    async fn join_latest(
        &self,
        main: &Arc<Main>,
        durable: Option<&str>,
        feed: &Feed,
    ) -> Result<(Membership, Position), Refused> {
        let tip = self.asked(|source| source.tip()).await.map_err(failed)?;
        let (joined, began) = self.join(main, durable, feed).await?;
        let from = if began.covers(&tip) { began } else { tip };
        Ok((joined, from))
    }

    /// A place in the live stream, and where it begins: behind that everything waits for the client.
    async fn join(
        &self,
        main: &Arc<Main>,
        durable: Option<&str>,
        feed: &Feed,
    ) -> Result<(Membership, Position), Refused> {
        let joined = Membership::new(&self.registry, main, durable, feed).ok_or_else(|| failed(not_up()))?;
        let began = tokio::time::timeout(UP_TIMEOUT, async {
            loop {
                if let Some(began) = main.fanout.began(joined.id) {
                    return began;
                }
                tokio::time::sleep(EDGE_POLL).await;
            }
        });
        let not_begun = "the stream has not begun, for its sinks' snapshot comes first; or a transaction does not end";
        let began = began.await.map_err(|_| failed(Error::transient(not_begun)))?;
        Ok((joined, began))
    }

    fn seat(
        &self,
        name: &str,
        epoch: u64,
        feed: Arc<Feed>,
        member: Option<Membership>,
        start: Option<Position>,
    ) -> Attachment {
        let registry = self.registry.clone();
        feed.begins_at(start.clone());
        let (state, seen) = watch::channel(State::Waiting);
        let (done, cleared) = watch::channel(());
        let durable = epoch > 0;
        registry.sit(name, Seat { feed: feed.clone(), epoch, durable, state: seen, done: cleared });
        let conductor = Conductor::new(registry, feed.clone(), name.to_owned(), epoch, member, state);
        tokio::spawn(conductor.run(done));
        Attachment { feed, epoch, start }
    }

    async fn up(&self) -> Result<Arc<Main>, Refused> {
        let up = tokio::time::timeout(UP_TIMEOUT, self.registry.main()).await;
        up.ok().flatten().ok_or_else(|| failed(not_up()))
    }

    /// A detached consumer is held again, if the server still has what it needs.
    async fn prove_again(&self, main: &Main, name: &str, known: &Consumer) -> Result<(), Refused> {
        let parked = Consumer { standing: Standing::Parked, ..known.clone() };
        if let Some(hold) = parked.hold() {
            self.prove(main, name, &hold).await?;
        }
        self.registry.forgive(main, name, &parked);
        self.registry.change(name, &ConsumerChange::Stand(Standing::Parked)).map(drop).map_err(failed)
    }

    /// Asks the server whether it covers a position.
    async fn prove(&self, main: &Main, name: &str, position: &Position) -> Result<(), Refused> {
        match self.verdict(main, name, position).await.map_err(failed)? {
            Some(gap) => Err(Refused::OutOfRange(gap)),
            None => Ok(()),
        }
    }

    async fn verdict(&self, main: &Main, name: &str, position: &Position) -> Result<Option<Gap>> {
        let stored = self.registry.store()?.read(|store| store.consumer(name));
        let stored = stored.ok().and_then(|namespace| namespace.lineage);
        let lineage = stored.unwrap_or_else(|| main.lineage.clone());
        let position = position.clone();
        let verdict = self.asked(|source| {
            Box::pin(async move {
                source.lineage().await?;
                source.retention(&lineage, &position).await
            })
        });
        match verdict.await? {
            Verdict::Valid => Ok(None),
            Verdict::Lost(gap) => Ok(Some(gap)),
        }
    }

    async fn earliest(&self) -> Result<Position, Refused> {
        self.asked(|source| source.earliest()).await.map_err(failed)
    }

    /// Asks the server by a connection beside the stream.
    async fn asked<T>(
        &self,
        question: impl for<'s> FnOnce(&'s mut (dyn Source + 'static)) -> BoxFuture<'s, Result<T>>,
    ) -> Result<T> {
        let mut source = self.registry.sources.open(false)?;
        let answer = tokio::time::timeout(ASK_TIMEOUT, question(&mut *source)).await;
        leave(&mut *source).await;
        answer.unwrap_or_else(|_| Err(unanswered()))
    }

    /// Where the main stream is: behind the last whole transaction that was read. None before that is known.
    pub fn read_up_to(&self) -> Option<Position> {
        self.registry.main_now().and_then(|main| main.fanout.edge())
    }

    /// By name; ephemeral ones last.
    pub fn consumers(&self) -> Vec<ConsumerStatus> {
        self.registry.statuses()
    }

    /// Ends the client and waits until the consumer is parked. The gate is the caller's.
    async fn expel(&self, name: &str, what: &str) -> Result<()> {
        self.registry.known(name)?.ok_or_else(|| unknown(name))?;
        self.registry.expel(name, Ended::ByOperator(format!("consumer {name:?} was {what} by an operator"))).await;
        self.registry.parked(name).await
    }

    /// Ends its client and lets none in until [`Self::resume`]; what it needs is held within the limits. Errors: `Config`
    /// where there is none of this name.
    pub async fn pause(&self, name: &str) -> Result<()> {
        let _gate = self.registry.gate(name).await;
        self.expel(name, "paused").await?;
        self.registry.change(name, &ConsumerChange::Stand(Standing::Paused)).map(drop)
    }

    /// Errors: as for [`Self::pause`].
    pub async fn resume(&self, name: &str) -> Result<()> {
        let _gate = self.registry.gate(name).await;
        match self.registry.known(name)?.ok_or_else(|| unknown(name))?.standing {
            Standing::Paused => self.registry.change(name, &ConsumerChange::Stand(Standing::Parked)).map(drop),
            Standing::Live | Standing::Parked | Standing::Detached(_) => Ok(()),
        }
    }

    /// Ends its client and holds nothing for it any more; its position is kept. Errors: as for [`Self::pause`].
    pub async fn detach(&self, name: &str) -> Result<()> {
        let _gate = self.registry.gate(name).await;
        self.registry.known(name)?.ok_or_else(|| unknown(name))?;
        self.registry.detach(name, format!("consumer {name:?} was detached by an operator")).await
    }

    /// Ends its client and forgets it. Errors: as for [`Self::pause`].
    pub async fn drop_consumer(&self, name: &str) -> Result<()> {
        let _gate = self.registry.gate(name).await;
        self.expel(name, "dropped").await?;
        self.registry.forget_error(name);
        self.registry.change(name, &ConsumerChange::Drop).map(drop)
    }

    /// Puts it where the operator says; its client is ended. The server is asked whether it covers the position. Errors:
    /// as for [`Self::pause`]; `Lost`.
    pub async fn set(&self, name: &str, position: Position) -> Result<()> {
        let _gate = self.registry.gate(name).await;
        let main = self.registry.main_now().ok_or_else(not_up)?;
        self.registry.known(name)?.ok_or_else(|| unknown(name))?;
        if let Some(gap) = self.verdict(&main, name, &position).await? {
            return Err(Error::lost(format!("putting consumer {name:?} at {position}: {gap}")));
        }
        self.expel(name, "moved").await?;
        let known = self.registry.known(name)?.ok_or_else(|| unknown(name))?;
        let begin = ConsumerChange::Begin { epoch: known.epoch + 1, place: NewPlace::At(position) };
        self.registry.change(name, &begin)?;
        if known.standing == Standing::Paused {
            self.registry.change(name, &ConsumerChange::Stand(Standing::Paused))?;
        }
        Ok(())
    }

    /// Of the main pipeline: its store, and at most one synced write in what time.
    pub(in crate::pipeline) fn serve(&self, store: Store, commit_interval: Duration) {
        self.registry.serve(store, commit_interval);
    }

    /// Owes the rows of a table that was added to the ephemeral consumers that are there. The main stream is down.
    pub(in crate::pipeline) fn owe(&self, table: &TableName) {
        self.registry.feeds().iter().for_each(|feed| feed.owe(table));
    }

    /// An attempt of the main stream begins; it lasts as long as what is returned.
    pub(in crate::pipeline) fn up_with(&self, main: Main) -> Up {
        self.registry.up(main)
    }

    /// The main stream ends for good with what is returned.
    pub(in crate::pipeline) fn while_serving(&self) -> Serving {
        Serving(self.clone())
    }

    /// Waits until the clients of an ended stream are cleared away.
    pub(in crate::pipeline) async fn cleared(&self) {
        if tokio::time::timeout(CLOSE_TIMEOUT, self.registry.emptied()).await.is_err() {
            tracing::warn!("consumers were not cleared away within {CLOSE_TIMEOUT:?}");
        }
    }

    /// Clients are to be ended, as the process stops.
    pub(in crate::pipeline) fn stopping(&self) {
        self.registry.over();
    }
}

/// While it lives, the main stream may come up.
pub struct Serving(Hub);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.stopping();
    }
}

fn unanswered() -> Error {
    Error::transient(format!("the server has not answered for {} s", ASK_TIMEOUT.as_secs()))
}

async fn leave(source: &mut dyn Source) {
    match tokio::time::timeout(CLOSE_TIMEOUT, source.close(None)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(?error, "leaving the source"),
        Err(_) => tracing::debug!("leaving the source took longer than {CLOSE_TIMEOUT:?}"),
    }
}
