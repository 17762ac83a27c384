//! What a start asks of the log that it does not stream.
//!
//! Invariants:
//! - The rows of an XA transaction that is prepared at a start's position are in the log before it: they are found there, or
//!   the start fails and names the transaction. The server holds the tables of such a transaction against DDL, so that the
//!   definitions of the position are those of its rows; events that say otherwise make the start fail too.
//! - A wanted table of which nothing is known (the account could not see it when its history began) has today's definition
//!   back to the position only where no statement in between is about it. Where one is, it is not known before, and stops
//!   at its first row that does not name its columns.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::super::decoder::Search;
use super::super::place::FIRST_EVENT;
use super::super::relation::Relations;
use super::super::status;
use super::super::xa::{Xa, XidKey};
use super::reading::Run;
use super::{MySqlSource, Prepared, Sql};
use crate::error::{Error, Result};
use crate::flow::{Budget, Deliver, Draft, Outlet};
use crate::record::{BinlogPosition, Origin, Seen, Seq, StateEntry};
use crate::source::{State, StreamEnd};

/// Nothing is delivered: for the empty batches that carry positions.
const SEARCH_BUDGET_BYTES: usize = 64 * 1024;

/// Of the transactions that a message names; more are counted.
const NAMED_MAX: usize = 8;

/// Takes what a search has to deliver, which is nothing but positions.
struct Nowhere(Notify, watch::Sender<Seq>);

impl Deliver for Nowhere {
    fn deliver(&self, _draft: Draft) -> Seq {
        Seq(0)
    }
    fn stored(&self) -> watch::Receiver<Seq> {
        self.1.subscribe()
    }
    fn is_idle(&self) -> bool {
        true
    }
    fn idle(&self) -> &Notify {
        &self.0
    }
}

impl MySqlSource {
    /// Reads the log from one position up to another for a search alone.
    async fn search(
        &mut self,
        from: BinlogPosition,
        until: &Arc<BinlogPosition>,
        relations: Relations,
        search: Search,
    ) -> Result<(Relations, Xa, Search)> {
        let nowhere = Nowhere(Notify::new(), watch::channel(Seq(0)).0);
        let outlet = Outlet::new(Budget::new(SEARCH_BUDGET_BYTES), Arc::new(nowhere), Arc::default());
        let run = Run { search: Some(search), ..Run::alone(&outlet, Origin::CatchUp, until.clone()) };
        let from = Arc::new(from);
        let log = self.dump(&from).await?;
        let xa = Xa::restore(&State::new(), self.settings.xa_limit_bytes)?;
        match self.read(log, &from, run, (relations, xa)).await {
            (Ok(StreamEnd::Reached), mut decoder) => {
                let search = decoder.search.take().ok_or_else(|| Error::bug("a search without its findings"))?;
                let (mut relations, xa) = decoder.into_parts();
                relations.forget_maps();
                Ok((relations, xa, search))
            }
            (Ok(end), _) => Err(Error::transient(format!("a search of the log ended before {until}: {end:?}"))),
            (Err(error), _) => Err(error),
        }
    }

    /// Finds the rows of transactions that are prepared at a position, as far as `xa` has not got them, and adds what stores
    /// them to `entries`. `relations`: as of the position; they come back as they were.
    ///
    /// # Errors
    /// Config: the rows of one are in no file of the log, or more than is to be kept.
    pub(super) async fn find_prepared(
        &mut self,
        at: &Arc<BinlogPosition>,
        unseen: HashSet<XidKey>,
        mut relations: Relations,
        mut xa: Xa,
        entries: &mut Vec<StateEntry>,
    ) -> Result<(Relations, Xa)> {
        let mut wanted: HashSet<XidKey> = unseen.into_iter().filter(|xid| !xa.knows(xid)).collect();
        if !wanted.is_empty() {
            (relations, *entries) =
                self.search_back(at, &mut wanted, relations, &mut xa, std::mem::take(entries)).await?;
        }
        if wanted.is_empty() {
            return Ok((relations, xa));
        }
        // Listed a moment later than the position was, it may have been prepared behind it: the stream meets it.
        let Sql { connection, server } = self.sql().await?;
        let tip = Arc::new(status::tip(connection, server).await?);
        let search = Search { wanted: wanted.clone(), ..Search::default() };
        let from = place(at.server, &at.file, at.offset);
        let (relations, found, search) = self.search(from, &tip, relations, search).await?;
        wanted.retain(|xid| !found.knows(xid) && !search.ended.contains(xid));
        if wanted.is_empty() { Ok((relations, xa)) } else { Err(nowhere_in_the_log(&wanted)) }
    }

    /// Finds the rows of a transaction whose XA COMMIT the stream has met at `at`, which was the error `lost`, for the next
    /// stream. Returns the error that asks for that one, or `lost`.
    pub(super) async fn find_ended(&mut self, xid: XidKey, at: &Arc<BinlogPosition>, lost: Error) -> Result<Error> {
        let Some((relations, xa)) = self.prepared()?.known.take() else { return Ok(lost) };
        let mut wanted = HashSet::from([xid.clone()]);
        let mut found = Xa::restore(&State::new(), self.settings.xa_limit_bytes)?;
        let (relations, _) = self.search_back(at, &mut wanted, relations, &mut found, Vec::new()).await?;
        let is_found = found.knows(&xid);
        let prepared = self.prepared()?;
        prepared.known = Some((relations, xa));
        if !is_found {
            return Ok(lost);
        }
        prepared.found = Some(found);
        Ok(Error::transient(format!(
            "XA COMMIT {xid} at {at} ends a transaction that was prepared before the stream began: its rows were found in \
             the log"
        )))
    }

    /// Searches the log back from a position for transactions that are prepared there. What is found of them, rows or that
    /// they were ended, is taken out of `wanted`.
    async fn search_back(
        &mut self,
        at: &Arc<BinlogPosition>,
        wanted: &mut HashSet<XidKey>,
        mut relations: Relations,
        xa: &mut Xa,
        mut entries: Vec<StateEntry>,
    ) -> Result<(Relations, Vec<StateEntry>)> {
        tracing::info!(position = %at, count = wanted.len(), "looking in the log for rows of prepared XA transactions");
        let Sql { connection, server } = self.sql().await?;
        let files = status::files(connection, server).await?;
        let behind = files.iter().position(|file| *file.name == *at.file).map_or(0, |last| last + 1);
        let known = relations.measure();
        let mut until = at.clone();
        // The last file first: where a name was used more than once, its last use counts.
        for file in files[..behind].iter().rev() {
            let from = place(at.server, &file.name, FIRST_EVENT);
            let search = Search { wanted: wanted.clone(), ..Search::default() };
            let (back, found, search) = self.search(from.clone(), &until, relations, search).await?;
            relations = back;
            wanted.retain(|xid| !found.knows(xid) && !search.ended.contains(xid));
            entries.extend(xa.adopt(found)?);
            if relations.measure() != known {
                return Err(Error::config(
                    "rows of a prepared XA transaction are of a table that was altered since, so that they cannot be read",
                )
                .remedy("XA RECOVER lists them; XA COMMIT or XA ROLLBACK the oldest, and read the tables anew"));
            }
            if wanted.is_empty() {
                break;
            }
            until = Arc::new(from);
        }
        Ok((relations, entries))
    }

    /// What earlier runs stored, as it stood at a position, and what can be known of wanted tables that it does not have.
    ///
    /// # Errors
    /// Config: what is stored cannot be read; those of reading the log.
    pub(super) async fn restored(&mut self, from: &Arc<BinlogPosition>) -> Result<Relations> {
        let Prepared { selection, host, state, newest, .. } = self.prepared()?;
        let tip = newest.tip.clone();
        let mut relations = Relations::restore(selection.clone(), host.clone(), state, from)?;
        let mut newcomers = relations.newcomers(&newest.wanted);
        if newcomers.is_empty() {
            return Ok(relations);
        }
        if !from.covers(&tip) {
            let names: Vec<String> = newcomers.iter().map(|newcomer| newcomer.table.to_string()).collect();
            tracing::info!(
                tables = names.join(", "), %from, until = %tip,
                "tables that were not known before: looking in the log whether they were altered"
            );
            let search = Search { newcomers, ..Search::default() };
            let (back, _, search) = self.search(BinlogPosition::clone(from), &tip, relations, search).await?;
            (relations, newcomers) = (back, search.newcomers);
        }
        relations.meet(newcomers, from);
        Ok(relations)
    }
}

/// A place of a server's log.
fn place(server: u64, file: &str, offset: u64) -> BinlogPosition {
    BinlogPosition { server, file: file.into(), offset, file_created_unix_s: 0, seen: Seen::Nothing }
}

fn nowhere_in_the_log(missing: &HashSet<XidKey>) -> Error {
    let mut names: Vec<String> = missing.iter().map(ToString::to_string).collect();
    names.sort();
    let more = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    let others = if more > 0 { format!(" and {more} others") } else { String::new() };
    Error::config(format!(
        "XA transactions are prepared whose rows are in no file of the server's log any more: {}{others}",
        names.join("; ")
    ))
    .remedy("XA COMMIT or XA ROLLBACK them, and start again: what is committed by then is read by the snapshot")
}
