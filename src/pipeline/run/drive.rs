//! From the first row to the end of the stream, with what comes in between: broken connections, failovers, operators.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::{BARRIER_POLL, Outcome, Pipeline, Running, Start};
use crate::error::{Error, Result};
use crate::flow::{Outlet, Phase};
use crate::pipeline::backoff::Backoff;
use crate::pipeline::control::{NewTable, Order, What};
use crate::pipeline::fanout::Fanout;
use crate::pipeline::warm_start::{Begin, SnapshotMode};
use crate::record::{Lineage, Position};
use crate::source::{Rows, StreamEnd};

impl Pipeline {
    /// Snapshot where one is due, then the stream; until it ends, fails for good, or is asked to stop.
    pub(super) async fn drive(&mut self, running: &Running) -> Result<Outcome> {
        let Running { start, fanout, outlet, confirmed } = running;
        let offsets = start.offsets.iter().filter_map(|offset| offset.position.clone());
        let mut from = offsets.chain(start.base.clone()).reduce(Position::earlier);
        if start.plan.begin.iter().any(|begin| matches!(begin, Begin::Snapshot(_))) {
            let Some(point) = self.snapshot(Rows::All, start, None, fanout, outlet).await? else {
                return Ok(Outcome::Stopped);
            };
            from = Some(from.map_or(point.clone(), |from| from.earlier(point)));
            if start.owes {
                self.anew = Some("the rows of added tables come next");
                return Ok(Outcome::Stopped);
            }
        } else if start.owes {
            fanout.rows_for_all_sinks();
            let Some(point) = self.snapshot(Rows::Owed, start, from, fanout, outlet).await? else {
                return Ok(Outcome::Stopped);
            };
            // One sink may hold the end that others do not: none goes on before it is stored that all do.
            while self.remote.is_none() && !fanout.is_drained() {
                if stopped_within(&self.stop, BARRIER_POLL).await {
                    return Ok(Outcome::Stopped);
                }
            }
            from = Some(point);
        }
        if self.options.snapshot == SnapshotMode::Only {
            return Ok(Outcome::Reached);
        }
        self.progress.enter(Phase::Stream);
        let mut from = from.ok_or_else(|| Error::bug("a pipeline without a sink has no position"))?;
        let mut backoff = Backoff::default();
        fanout.begins_at(&from);
        let control = self.control.clone();
        let mut orders = control.orders().await;
        loop {
            let boundary = control.next_behind(&from);
            let until = start.until.iter().chain(&boundary).cloned().reduce(Position::earlier);
            let stop = self.stop.clone();
            let (halt, halted) = watch::channel(false);
            self.progress.reader.turn();
            let streaming = self.source.stream(from.clone(), until.clone(), outlet, confirmed.clone(), halted);
            let (ended, order) = until_ordered(streaming, stop, &mut orders, halt).await;
            self.progress.reader.rest();
            let delivered = fanout.delivered().filter(|delivered| delivered.covers(&from));
            if let Some(order) = order {
                match &order.what {
                    What::Add(table) if !table.takes_rows => {
                        let added = self.add(table).await;
                        order.tell(added);
                    }
                    What::Remove(table) => {
                        let removed = self.control.take_back(&self.store, table);
                        order.tell(removed.map(|()| None));
                    }
                    // A stream that failed in this moment begins anew too.
                    What::Place(_) if ended.is_ok() || ended.as_ref().is_err_and(Error::is_transient) => {
                        self.anew = Some("an operator moves a sink");
                        self.ordered = Some(order);
                        return Ok(Outcome::Stopped);
                    }
                    What::Add(table) if ended.is_ok() || ended.as_ref().is_err_and(Error::is_transient) => {
                        match self.unread(table).await {
                            Ok(table) => {
                                self.anew = Some("a table is added whose rows come first");
                                self.ordered = Some(order.with(What::Add(table)));
                                return Ok(Outcome::Stopped);
                            }
                            Err(error) => order.tell(Err(error)),
                        }
                    }
                    What::Place(_) | What::Add(_) => {}
                }
            }
            let error = match ended {
                Ok(StreamEnd::Reached) if until != start.until => {
                    from = delivered.into_iter().chain(until).reduce(later).unwrap_or(from);
                    continue;
                }
                Ok(StreamEnd::Reached) => return Ok(Outcome::Reached),
                // For an order.
                Ok(StreamEnd::Stopped) if !*self.stop.borrow() => {
                    from = delivered.unwrap_or(from);
                    continue;
                }
                Ok(StreamEnd::Stopped) => return Ok(Outcome::Stopped),
                Ok(StreamEnd::Retracted) => {
                    self.anew = Some(
                        "a transaction that was delivered in part never ended in the server's log, or was rolled back",
                    );
                    return Ok(Outcome::Stopped);
                }
                Ok(StreamEnd::Unprepared) => {
                    self.anew = Some("tables were added that the source has to look for in the log");
                    return Ok(Outcome::Stopped);
                }
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(self.given_up(error)),
            };
            if let Some(delivered) = delivered {
                backoff.reset();
                from = delivered;
            }
            if !self.meets_again(error, &start.lineage, Some(&from), &mut backoff).await? {
                return Ok(Outcome::Stopped);
            }
        }
    }

    /// Takes up a table, while nothing is read.
    async fn add(&mut self, table: &NewTable) -> Result<Option<Position>> {
        let table = self.unread(table).await?;
        self.control.take_up(&self.store, &table)?;
        Ok(Some(table.from))
    }

    /// A table from where on its changes have not been read yet.
    async fn unread(&mut self, table: &NewTable) -> Result<NewTable> {
        let tip = self.source.tip().await?;
        Ok(NewTable { from: later(table.from.clone(), tip), ..table.clone() })
    }

    /// The point the stream goes on from; none when asked to stop. `from`: what the state is of, where rows are owed.
    async fn snapshot(
        &mut self,
        rows: Rows,
        start: &Start,
        from: Option<Position>,
        fanout: &Fanout,
        outlet: &Outlet,
    ) -> Result<Option<Position>> {
        self.progress.enter(Phase::Snapshot);
        let mut backoff = Backoff::default();
        let stored = self.store.read(|store| store.load())?.state;
        let mut resume = match rows {
            Rows::All => start.plan.resume_snapshot.clone(),
            Rows::Owed => self.source.interrupted(rows, &stored)?.or_else(|| from.clone()),
        };
        loop {
            let before = self.store.read(|store| store.load())?.state;
            let mut stop = self.stop.clone();
            let error = tokio::select! {
                result = self.source.snapshot(rows, resume, &before, outlet) => match result {
                    Ok(point) => return Ok(Some(point)),
                    Err(error) if error.is_transient() => error,
                    Err(error) => return Err(self.given_up(error)),
                },
                _ = stop.wait_for(|stop| *stop) => return Ok(None),
            };
            // The next attempt goes on behind what is stored, so everything delivered has to be.
            while !fanout.is_drained() {
                if stopped_within(&self.stop, BARRIER_POLL).await {
                    return Ok(None);
                }
            }
            let checkpoint = self.store.read(|store| store.load())?;
            resume = self.source.interrupted(rows, &checkpoint.state)?.or_else(|| from.clone());
            if checkpoint.state != before {
                backoff.reset();
            }
            let needed = resume.iter().chain(&start.plan.needed).cloned().reduce(Position::earlier);
            if !self.meets_again(error, &start.lineage, needed.as_ref(), &mut backoff).await? {
                return Ok(None);
            }
        }
    }

    /// After a failure: waits until the server can be asked again, and asks for the verdict on what is needed of it. False
    /// when it is not to be gone on from here: asked to stop, or the server has failed over. What was delivered of a
    /// transaction that was never finished may not be part of the new branch, and order keys of two branches do not
    /// compare: workers begin anew where their sinks are stored, and the store learns the new branch.
    async fn meets_again(
        &mut self,
        failed: Error,
        known: &Lineage,
        needed: Option<&Position>,
        backoff: &mut Backoff,
    ) -> Result<bool> {
        let mut failed = failed;
        loop {
            let delay = backoff.next();
            self.progress.source.add(&failed);
            self.progress.tries_again(&self.progress.source, &failed);
            tracing::warn!(
                error = ?failed,
                delay_ms = delay.as_millis() as u64,
                "the source failed, trying again"
            );
            if stopped_within(&self.stop, delay).await {
                return Ok(false);
            }
            let verdict = match needed {
                Some(position) => self.verify(known, position).await,
                None => Ok(()),
            };
            let found = match verdict {
                Ok(()) => self.source.lineage().await,
                Err(error) => Err(error),
            };
            match found {
                Ok(found) => {
                    let other = "the server is another one of its line (failover)";
                    self.anew = (found != *known).then_some(other);
                    return Ok(self.anew.is_none());
                }
                // No stream without a verdict: whoever answers next may be another server.
                Err(error) if error.is_transient() => failed = error,
                Err(error) => return Err(self.given_up(error)),
            }
        }
    }
}

/// A stream until it ends: by itself, or because it is to stop, or for an order.
async fn until_ordered(
    streaming: impl Future<Output = Result<StreamEnd>>,
    mut stop: watch::Receiver<bool>,
    orders: &mut mpsc::Receiver<Order>,
    halt: watch::Sender<bool>,
) -> (Result<StreamEnd>, Option<Order>) {
    let mut streaming = std::pin::pin!(streaming);
    let ordered = tokio::select! {
        biased;
        ended = &mut streaming => return (ended, None),
        Ok(_) = stop.wait_for(|stop| *stop) => None,
        Some(order) = orders.recv() => Some(order),
    };
    halt.send_replace(true);
    (streaming.await, ordered)
}

/// The one that is not before the other, where they compare.
fn later(one: Position, other: Position) -> Position {
    if one.covers(&other) { one } else { other }
}

/// Sleeps, unless asked to stop meanwhile.
pub(super) async fn stopped_within(stop: &watch::Receiver<bool>, delay: Duration) -> bool {
    let mut stop = stop.clone();
    tokio::time::timeout(delay, stop.wait_for(|stop| *stop)).await.is_ok()
}
