//! What operators order of a running pipeline.
//!
//! Invariants:
//! - An order that is to outlive the process is in the store before it takes effect.
//! - A sink's position is changed between two attempts alone, when nothing is in flight; where it goes on from there is
//!   proven by the next start, as ever.
//! - One order at a time; one whose caller has gone before it was taken is not carried out.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot, watch};

use crate::error::{Error, Result};
use crate::flow::{Phase, Progress, Role};
use crate::offset::{OffsetStore, OffsetUpdate, Orders, Standing, Store};
use crate::record::owed::{self, TableName};
use crate::record::{Position, SinkOffset};
use crate::source::State;
use crate::source::tables::Added;

/// How long a sink may take to make durable what it was given: some writes.
const HOLD_POLL: Duration = Duration::from_millis(10);
const HOLD_POLLS: u32 = 500;

/// An operator's hand on a pipeline.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

struct Inner {
    /// By name, whether it is paused.
    sinks: BTreeMap<String, watch::Sender<bool>>,
    pipeline: OnceLock<(Store, Arc<Progress>)>,
    orders: mpsc::Sender<Order>,
    taken: Mutex<mpsc::Receiver<Order>>,
    /// Whoever has it gives orders.
    turn: Mutex<()>,
    added: Added,
}

/// What the pipeline has to stop for.
pub struct Order {
    pub what: What,
    told: oneshot::Sender<Result<Option<Position>>>,
}

pub enum What {
    /// A sink goes on elsewhere.
    Place(NewOffset),
    Add(NewTable),
    /// A table that was added is streamed no more.
    Remove(TableName),
}

/// A table that is streamed too.
#[derive(Clone)]
pub struct NewTable {
    pub called: TableName,
    /// Where the server has begun to send it, at the latest.
    pub from: Position,
    /// Whether its present rows come first.
    pub takes_rows: bool,
}

/// A table that was added, as it is stored.
pub struct AddedTable {
    pub called: TableName,
    pub from: Option<Position>,
    /// Who is still to be given its rows.
    pub owed_to: Vec<(Role, String)>,
}

/// Where a sink goes on.
pub struct NewOffset {
    pub sink: String,
    /// What must be stored of it.
    pub expected: Option<Position>,
    /// None: it begins as configured.
    pub position: Option<Position>,
}

impl Order {
    /// Says how it ended, and from where on it holds, where that is known.
    pub fn tell(self, result: Result<Option<Position>>) {
        // Whoever asked may have gone.
        let _ = self.told.send(result);
    }

    /// The same order, now that more is known of it.
    pub fn with(self, what: What) -> Order {
        Order { what, ..self }
    }

    pub fn is_wanted(&self) -> bool {
        !self.told.is_closed()
    }
}

impl Control {
    /// `sinks`: the names of the pipeline's. `added`: what its source, and those beside it, want too.
    pub fn new(sinks: impl IntoIterator<Item = String>, added: Added) -> Control {
        let (orders, taken) = mpsc::channel(1);
        Control(Arc::new(Inner {
            sinks: sinks.into_iter().map(|name| (name, watch::channel(false).0)).collect(),
            pipeline: OnceLock::new(),
            orders,
            taken: Mutex::new(taken),
            turn: Mutex::new(()),
            added,
        }))
    }

    pub(super) fn serve(&self, store: Store, progress: Arc<Progress>) {
        if self.0.pipeline.set((store, progress)).is_err() {
            tracing::error!("a control is of one pipeline, and was given to another");
        }
    }

    /// What is ordered; for the pipeline alone.
    pub(super) async fn orders(&self) -> MutexGuard<'_, mpsc::Receiver<Order>> {
        self.0.taken.lock().await
    }

    /// Takes up what earlier runs have stored.
    pub(super) fn recall(&self, orders: &Orders) {
        self.0.added.set(&orders.added);
        for (name, paused) in &self.0.sinks {
            self.set_paused(name, paused, orders.paused.contains(name));
        }
    }

    fn set_paused(&self, name: &str, sink: &watch::Sender<bool>, paused: bool) {
        if let Some((_, progress)) = self.0.pipeline.get() {
            progress.member(Role::Sink, name).pause(paused);
        }
        sink.send_replace(paused);
    }

    /// Whether a sink is paused; of an unknown one never.
    pub(super) fn paused(&self, sink: &str) -> watch::Receiver<bool> {
        self.0.sinks.get(sink).map_or_else(|| watch::channel(false).1, watch::Sender::subscribe)
    }

    fn pipeline(&self) -> Result<&(Store, Arc<Progress>)> {
        self.0.pipeline.get().ok_or_else(|| Error::transient("the pipeline is not up").remedy("come back in a moment"))
    }

    /// Lets a sink take nothing, or go on, also behind a restart; what it was given is durable when this returns. Errors:
    /// `Config`, where there is none of the name; `Transient`, where it does not finish what it is writing; those of the
    /// store.
    pub async fn pause(&self, sink: &str, paused: bool) -> Result<()> {
        let _turn = self.0.turn.lock().await;
        let (store, progress) = self.pipeline()?;
        let known = self.0.sinks.get(sink).ok_or_else(|| Error::config(format!("there is no sink {sink:?}")))?;
        change_orders(store, |orders| {
            match paused {
                true => orders.paused.insert(sink.to_owned()),
                false => orders.paused.remove(sink),
            };
            Ok(())
        })?;
        self.set_paused(sink, known, paused);
        tracing::info!(sink, "{}", if paused { "paused by an operator" } else { "resumed by an operator" });
        let member = progress.member(Role::Sink, sink);
        // While there is no stream the sink takes nothing either.
        let runs = || matches!(progress.phase(), Phase::Snapshot | Phase::Stream);
        for _ in 0..HOLD_POLLS {
            if !paused || member.is_held() || !runs() {
                return Ok(());
            }
            tokio::time::sleep(HOLD_POLL).await;
        }
        Err(Error::transient(format!("sink {sink:?} is paused once it has finished what it is writing"))
            .remedy("GetStatus tells how it is; Pause it again to wait for it"))
    }

    /// Lets a paused sink go on elsewhere: the pipeline begins anew from what is stored then. Returns when that is stored;
    /// the caller has asked the server whether it covers the position. Errors: `Config`, where something else is stored
    /// than is expected, the sink is not paused, or another one fails, which would not end in time; `Transient`, where the
    /// stream ends.
    pub async fn place(&self, offset: NewOffset) -> Result<()> {
        let _turn = self.0.turn.lock().await;
        let sink = &offset.sink;
        if !self.0.sinks.get(sink).is_some_and(|paused| *paused.borrow()) {
            return Err(Error::config(format!("sink {sink:?} is not paused")).remedy("Pause it first"));
        }
        self.others_end()?;
        self.order(What::Place(offset)).await.map(drop)
    }

    /// Errors: `Config`, where a sink would not end when it is asked to.
    fn others_end(&self) -> Result<()> {
        let (_, progress) = self.pipeline()?;
        let failing = progress
            .members()
            .into_iter()
            .find(|member| member.role == Role::Sink && !member.is_paused() && member.failures.current().is_some());
        failing.map_or(Ok(()), |failing| {
            Err(Error::config(format!("sink {:?} fails, and the stream cannot begin anew without it", failing.name))
                .remedy("see to that sink, or Pause it"))
        })
    }

    /// Streams a table too, also behind a restart; the source has admitted it. Says from where on. With its rows the pipeline
    /// begins anew from what is stored, and every reader there is gets them before it goes on. Errors: `Transient`, where
    /// the source fails, or the stream ends, in this moment: the table is not added then; those of the store. With its rows
    /// also `Config`, where a sink is paused, or fails, for which the rows would wait.
    pub async fn add(&self, table: NewTable) -> Result<Position> {
        let _turn = self.0.turn.lock().await;
        self.pipeline()?;
        if table.takes_rows {
            if let Some((name, _)) = self.0.sinks.iter().find(|(_, paused)| *paused.borrow()) {
                return Err(Error::config(format!("sink {name:?} is paused, and the rows would wait for it"))
                    .remedy("Resume it first, or add the table without its rows"));
            }
            self.others_end()?;
        }
        let from = self.order(What::Add(table)).await?;
        from.ok_or_else(|| Error::bug("a table was added nowhere"))
    }

    /// Streams a table that was added no more, to anybody. Errors: `Config`, where it was not added; `Transient`, where the
    /// stream ends in this moment; those of the store.
    pub async fn remove(&self, table: TableName) -> Result<()> {
        let _turn = self.0.turn.lock().await;
        self.pipeline()?;
        self.order(What::Remove(table)).await.map(drop)
    }

    /// Wants a table no more, and owes its rows to nobody.
    pub(super) fn take_back(&self, store: &Store, table: &TableName) -> Result<()> {
        let (namespace, name) = table;
        let orders = change_orders(store, |orders| match orders.added.remove(table) {
            Some(_) => Ok(()),
            None => Err(Error::config(format!("{namespace}.{name} was not added while the stream ran"))
                .remedy("what the configuration names is left out by source.exclude_tables")),
        })?;
        store.write(|store| settle(store, table))?;
        tracing::info!(table = %format_args!("{namespace}.{name}"), "a table is taken back by an operator");
        self.0.added.set(&orders.added);
        Ok(())
    }

    /// What was added, by name. Errors: those of the store.
    pub fn added(&self) -> Result<Vec<AddedTable>> {
        let (store, _) = self.pipeline()?;
        if self.0.added.is_empty() {
            return Ok(Vec::new());
        }
        store.read(|store| {
            let stored = store.load()?;
            let of_sinks = owed::owed(&stored.state);
            let sinks = stored.sinks.into_keys().map(|name| (Role::Sink, name, of_sinks.clone()));
            let mut owed: Vec<_> = sinks.collect();
            for (name, _) in stored.consumers.into_iter().filter(|(_, known)| known.standing != Standing::Live) {
                let of_consumer = owed::owed(&store.consumer(&name)?.state);
                owed.push((Role::Consumer, name, of_consumer));
            }
            let added = stored.orders.added.into_iter().map(|(called, from)| {
                let members = owed.iter().filter(|(.., tables)| tables.contains(&called));
                let owed_to = members.map(|(role, name, _)| (*role, name.clone())).collect();
                AddedTable { called, from, owed_to }
            });
            Ok(added.collect())
        })
    }

    /// Wants a table from a place on that the stream has not passed.
    pub(super) fn take_up(&self, store: &Store, table: &NewTable) -> Result<()> {
        let NewTable { called: name, from, .. } = table.clone();
        tracing::info!(table = %format_args!("{}.{}", name.0, name.1), %from, "a table is added by an operator");
        let orders = change_orders(store, |orders| {
            orders.added.insert(name, Some(from));
            Ok(())
        })?;
        self.0.added.set(&orders.added);
        Ok(())
    }

    /// Where a stream that is at `at` has to be asked for anew, since another table is wanted there.
    pub(super) fn next_behind(&self, at: &Position) -> Option<Position> {
        self.0.added.next_behind(at)
    }

    /// What the store holds of the source's state. Errors: those of the store.
    pub fn state(&self) -> Result<State> {
        let (store, _) = self.pipeline()?;
        Ok(store.read(|store| store.load())?.state)
    }

    async fn order(&self, what: What) -> Result<Option<Position>> {
        let (told, hears) = oneshot::channel();
        let over = || Error::transient("the stream has ended").remedy("come back when it is up");
        self.0.orders.send(Order { what, told }).await.map_err(|_| over())?;
        hears.await.unwrap_or_else(|_| Err(over()))
    }
}

/// Changes what is stored of orders, and says what is stored now. Errors: those of the change, and of the store.
fn change_orders(store: &Store, change: impl FnOnce(&mut Orders) -> Result<()>) -> Result<Orders> {
    store.write(|store| {
        let stored = store.load()?.orders;
        let mut orders = stored.clone();
        change(&mut orders)?;
        if orders != stored {
            store.order(&orders)?;
        }
        Ok(orders)
    })
}

/// Owes a table's rows to the sinks, if there are any, and to every consumer that has a position: one without has them still
/// to come. Nobody may be live. Errors: those of the store.
pub(super) fn owe(store: &mut dyn OffsetStore, table: &TableName, to_sinks: bool) -> Result<()> {
    store.park_live()?;
    if to_sinks {
        let state = owed::owe(&store.load()?.state, table);
        store.commit(&OffsetUpdate { state, ..OffsetUpdate::default() })?;
    }
    for (name, known) in store.consumers() {
        if known.position.is_some() {
            let state = owed::owe(&store.consumer(&name)?.state, table);
            store.commit_consumer(&name, known.epoch, &OffsetUpdate { state, ..OffsetUpdate::default() })?;
        }
    }
    Ok(())
}

/// Takes back [`owe`]. Errors: those of the store.
fn settle(store: &mut dyn OffsetStore, table: &TableName) -> Result<()> {
    let update = OffsetUpdate { state: vec![owed::settle(table)], ..OffsetUpdate::default() };
    if owed::owed(&store.load()?.state).contains(table) {
        store.commit(&update)?;
    }
    // One that is live is owed nothing.
    for (name, known) in store.consumers().into_iter().filter(|(_, known)| known.standing != Standing::Live) {
        if owed::owed(&store.consumer(&name)?.state).contains(table) {
            store.commit_consumer(&name, known.epoch, &update)?;
        }
    }
    Ok(())
}

/// Puts a sink elsewhere in the store. Errors: `Config`, where something else is stored than is expected.
pub(super) fn apply(store: &mut dyn OffsetStore, offset: &NewOffset) -> Result<()> {
    let NewOffset { sink, expected, position } = offset;
    let stored = store.load()?;
    let found = stored.sinks.get(sink).and_then(|offset| offset.position.clone());
    if found != *expected {
        let shown = |position: &Option<Position>| position.as_ref().map_or("nothing".to_owned(), ToString::to_string);
        return Err(Error::config(format!(
            "{} is expected to be stored of sink {sink:?}, and {} is",
            shown(expected),
            shown(&found)
        ))
        .remedy("look at GetOffsets again"));
    }
    match position {
        // The sink's own mark belongs to the old position.
        Some(position) => store.set(sink, &SinkOffset { position: Some(position.clone()), token: None }),
        None => {
            store.retain_sinks(&|name| name != sink)?;
            let mut orders = stored.orders;
            // The others would wait for its snapshot, and it for somebody to resume it.
            orders.paused.remove(sink);
            store.order(&orders)
        }
    }
}
