//! Who is there: the main stream, the clients' seats, and what is known of consumers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::api::{ConsumerStatus, Ended, HubOptions, State};
use super::feed::Feed;
use super::lag::Ring;
use crate::error::{Error, Result};
use crate::flow::{Progress, Role};
use crate::offset::{Consumer, ConsumerChange, Lag, Standing, Store};
use crate::pipeline::fanout::Fanout;
use crate::record::{Lineage, Position};
use crate::source::Lanes;

/// The main stream, for one of its attempts.
pub struct Main {
    pub fanout: Arc<Fanout>,
    pub lineage: Lineage,
    pub progress: Arc<Progress>,
    /// What all its batches may take, in bytes.
    pub budget_bytes: usize,
}

#[derive(Clone, Default)]
enum Stream {
    /// Not yet, or between two attempts.
    #[default]
    Down,
    Up(Arc<Main>),
    /// For good.
    Over,
}

/// A client that is there.
pub struct Seat {
    pub feed: Arc<Feed>,
    pub epoch: u64,
    pub durable: bool,
    pub state: watch::Receiver<State>,
    /// Its sender is gone when everything of the client is cleared away.
    pub done: watch::Receiver<()>,
}

pub struct Registry {
    pub options: HubOptions,
    pub sources: Arc<dyn Lanes>,
    pub lanes: Arc<Semaphore>,
    store: OnceLock<(Store, Duration)>,
    main: watch::Sender<Stream>,
    seats: Mutex<BTreeMap<String, Seat>>,
    ring: Mutex<Ring>,
    /// What failed last, by consumer.
    errors: Mutex<BTreeMap<String, String>>,
    /// By consumer that came back from beyond its limits: how far behind it was then, and when that was. As long as it is
    /// catching up, its limits count from there.
    forgiven: Mutex<BTreeMap<String, Lag>>,
    /// One client at a time is let in under a name, or one order of an operator carried out.
    gates: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    ephemeral: AtomicU64,
}

/// How often the main stream's place is looked at and limits are held against it.
const TICK: Duration = Duration::from_millis(250);
/// Of the ticks, those that store how far behind the consumers are: at most so much is forgotten by a crash.
const STORE_TICKS: u32 = 240;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

pub fn now_unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// While it lives, the main stream is up.
pub struct Up {
    registry: Arc<Registry>,
    watching: JoinHandle<()>,
}

impl Drop for Up {
    fn drop(&mut self) {
        self.watching.abort();
        self.registry.main.send_if_modified(|stream| {
            let up = matches!(stream, Stream::Up(_));
            if up {
                *stream = Stream::Down;
            }
            up
        });
    }
}

impl Registry {
    pub fn new(options: HubOptions, sources: Arc<dyn Lanes>) -> Arc<Self> {
        Arc::new(Registry {
            lanes: Arc::new(Semaphore::new(options.max_lanes.max(1))),
            options,
            sources,
            store: OnceLock::new(),
            main: watch::channel(Stream::Down).0,
            seats: Mutex::default(),
            ring: Mutex::new(Ring::new()),
            errors: Mutex::default(),
            forgiven: Mutex::default(),
            gates: Mutex::default(),
            ephemeral: AtomicU64::new(0),
        })
    }

    /// Of the main pipeline. Once.
    pub fn serve(&self, store: Store, commit_interval: Duration) {
        if self.store.set((store, commit_interval)).is_err() {
            tracing::error!("a hub serves one pipeline, and was given to another");
        }
    }

    /// Errors: `Transient` before there is a pipeline.
    pub fn store(&self) -> Result<&Store> {
        self.store.get().map(|(store, _)| store).ok_or_else(not_up)
    }

    pub fn commit_interval(&self) -> Duration {
        self.store.get().map_or(Duration::from_secs(1), |(_, interval)| *interval)
    }

    pub fn known(&self, name: &str) -> Result<Option<Consumer>> {
        Ok(self.store()?.read(|store| store.consumers()).remove(name))
    }

    /// Changes a consumer in the store, and what is held for it.
    pub fn change(&self, name: &str, change: &ConsumerChange) -> Result<Option<Consumer>> {
        self.store()?.write(|store| {
            store.change_consumer(name, change)?;
            let known = store.consumers().remove(name);
            if let Stream::Up(main) = &*self.main.borrow() {
                let held = known.as_ref().filter(|known| known.standing != Standing::Live);
                main.fanout.hold(name, held.and_then(Consumer::hold));
            }
            Ok(known)
        })
    }

    pub fn up(self: &Arc<Self>, main: Main) -> Up {
        let main = Arc::new(main);
        let publish = || drop(self.main.send_replace(Stream::Up(main.clone())));
        match self.store() {
            Ok(store) => store.read(|store| {
                hold_all(&main.fanout, &store.consumers());
                publish();
            }),
            Err(_) => publish(),
        }
        let registry = self.clone();
        Up { registry: self.clone(), watching: tokio::spawn(async move { registry.watch(&main).await }) }
    }

    /// The main stream will not come back.
    pub fn over(&self) {
        self.main.send_replace(Stream::Over);
    }

    /// Waits until nobody is there any more.
    pub async fn emptied(&self) {
        loop {
            let done = locked(&self.seats).values().next().map(|seat| seat.done.clone());
            let Some(mut done) = done else { return };
            while done.changed().await.is_ok() {}
        }
    }

    /// The main stream, as soon as it is up; none when it is over. Cancel-safe.
    pub async fn main(&self) -> Option<Arc<Main>> {
        let mut stream = self.main.subscribe();
        let found = stream.wait_for(|stream| !matches!(stream, Stream::Down)).await.ok()?;
        match &*found {
            Stream::Up(main) => Some(main.clone()),
            Stream::Down | Stream::Over => None,
        }
    }

    /// The main stream, if it is up.
    pub fn main_now(&self) -> Option<Arc<Main>> {
        match &*self.main.borrow() {
            Stream::Up(main) => Some(main.clone()),
            Stream::Down | Stream::Over => None,
        }
    }

    pub fn is_over(&self) -> bool {
        matches!(&*self.main.borrow(), Stream::Over)
    }

    pub async fn gate(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let gate = {
            let mut gates = locked(&self.gates);
            // Nobody else can take one here: those that only the map has are free.
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
            gates.entry(name.to_owned()).or_default().clone()
        };
        gate.lock_owned().await
    }

    pub fn next_ephemeral(&self) -> String {
        format!("~{}", self.ephemeral.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub fn sit(&self, name: &str, seat: Seat) {
        locked(&self.seats).insert(name.to_owned(), seat);
    }

    /// Of all clients that are there.
    pub fn feeds(&self) -> Vec<Arc<Feed>> {
        locked(&self.seats).values().map(|seat| seat.feed.clone()).collect()
    }

    /// The epoch of the client that has the consumer.
    pub fn seated(&self, name: &str) -> Option<u64> {
        locked(&self.seats).get(name).map(|seat| seat.epoch)
    }

    pub fn unseat(&self, name: &str, feed: &Arc<Feed>) {
        let mut seats = locked(&self.seats);
        if seats.get(name).is_some_and(|seat| Arc::ptr_eq(&seat.feed, feed)) {
            seats.remove(name);
        }
    }

    /// Ends the client that has the consumer, if one has, and waits until everything of it is cleared away.
    pub async fn expel(&self, name: &str, why: Ended) {
        let seat = locked(&self.seats).get(name).map(|seat| (seat.feed.clone(), seat.done.clone()));
        if let Some((feed, mut done)) = seat {
            feed.end(why);
            while done.changed().await.is_ok() {}
        }
    }

    pub fn failed(&self, name: &str, error: &Error) {
        locked(&self.errors).insert(name.to_owned(), format!("{error:?}"));
    }

    pub fn forget_error(&self, name: &str) {
        locked(&self.errors).remove(name);
    }

    /// Where the main stream was about so long ago.
    pub fn edge_before(&self, ago: Duration) -> Option<Position> {
        let then = now_unix_ms().saturating_sub(ago.as_millis() as u64);
        locked(&self.ring).position_at(then).cloned()
    }

    /// Looks at the main stream until it is aborted.
    async fn watch(self: Arc<Self>, main: &Main) {
        let mut ticks = 0;
        loop {
            self.sample(main);
            ticks += 1;
            self.look(main, ticks % STORE_TICKS == 0);
            tokio::time::sleep(TICK).await;
        }
    }

    fn sample(&self, main: &Main) {
        if let Some(edge) = main.fanout.edge() {
            let read = Some(main.progress.read_end_bytes.get()).filter(|read| *read > 0);
            locked(&self.ring).sample(&edge, main.progress.bytes_of(&edge), read, now_unix_ms());
        }
    }

    /// How far behind the main stream a position is; `main`: none while it is down.
    fn lag(&self, main: Option<&Main>, position: &Position, stored: Lag) -> Lag {
        let at_bytes = main.and_then(|main| main.progress.bytes_of(position));
        locked(&self.ring).lag(position, at_bytes, stored)
    }

    /// What a consumer has not acknowledged of the log, from where on it is needed.
    fn needed(&self, main: &Main, name: &str, known: &Consumer) -> Option<Position> {
        let live = (known.standing == Standing::Live).then(|| main.fanout.position_of(name)).flatten();
        live.or_else(|| known.position.clone()).or_else(|| known.snapshot_hold.clone())
    }

    /// Moves what is held for consumers forward, and holds the limits against how far they are behind.
    fn look(self: &Arc<Self>, main: &Main, stores_lag: bool) {
        let Ok(store) = self.store() else { return };
        let consumers = store.read(|store| {
            let consumers = store.consumers();
            for (name, known) in consumers.iter().filter(|(_, known)| known.standing != Standing::Live) {
                if let Some(hold) = known.hold() {
                    main.fanout.advance_hold(name, hold);
                }
            }
            consumers
        });
        for member in main.progress.members() {
            if member.role == Role::Consumer && !consumers.contains_key(&member.name) {
                main.progress.leaves(&member);
            }
        }
        for (name, known) in consumers {
            if matches!(known.standing, Standing::Detached(_)) {
                continue;
            }
            let Some(needed) = self.needed(main, &name, &known) else { continue };
            let member = main.progress.member(Role::Consumer, &name);
            member.stands_at(needed.clone());
            member.pause(known.standing == Standing::Paused);
            let lag = self.lag(Some(main), &needed, known.lag);
            if let Some(why) = self.beyond_limit(&name, lag, now_unix_ms()) {
                let registry = self.clone();
                tokio::spawn(async move {
                    let _gate = registry.gate(&name).await;
                    if let Err(error) = registry.detach(&name, why).await {
                        tracing::error!(name, ?error, "detaching a consumer");
                    }
                });
            } else if stores_lag && known.standing != Standing::Live && lag != known.lag {
                let stored = self.change(&name, &ConsumerChange::Lag(lag));
                if let Err(error) = stored {
                    tracing::warn!(name, ?error, "storing how far a consumer is behind");
                }
            }
        }
    }

    /// A detached consumer is let in again, and may catch up.
    pub fn forgive(&self, main: &Main, name: &str, known: &Consumer) {
        let Some(needed) = self.needed(main, name, known) else { return };
        let Lag { bytes, .. } = self.lag(Some(main), &needed, known.lag);
        locked(&self.forgiven).insert(name.to_owned(), Lag { bytes, since_unix_ms: now_unix_ms() });
    }

    /// Why it is to be detached.
    fn beyond_limit(&self, name: &str, lag: Lag, now: u64) -> Option<String> {
        let mut forgiven = locked(&self.forgiven);
        let Some(why) = self.exceeded(name, lag, now) else {
            forgiven.remove(name);
            return None;
        };
        let Some(then) = forgiven.get(name) else { return Some(why) };
        let bytes = lag.bytes.saturating_sub(then.bytes);
        let why = self.exceeded(name, Lag { bytes, since_unix_ms: lag.since_unix_ms.max(then.since_unix_ms) }, now);
        if why.is_some() {
            forgiven.remove(name);
        }
        why
    }

    fn exceeded(&self, name: &str, lag: Lag, now: u64) -> Option<String> {
        let HubOptions { max_lag_bytes, max_lag_time, .. } = &self.options;
        if lag.bytes > *max_lag_bytes {
            return Some(format!(
                "consumer {name:?} is {} bytes of log behind, and max_lag_bytes is {max_lag_bytes}",
                lag.bytes
            ));
        }
        let late_ms = if lag.since_unix_ms == 0 { 0 } else { now.saturating_sub(lag.since_unix_ms) };
        (u128::from(late_ms) > max_lag_time.as_millis()).then(|| {
            format!(
                "consumer {name:?} is {} s behind, and max_lag_time is {} s",
                late_ms / 1000,
                max_lag_time.as_secs()
            )
        })
    }

    /// Lets go of what is held for a consumer. Its gate is the caller's.
    pub async fn detach(&self, name: &str, why: String) -> Result<()> {
        if matches!(self.known(name)?.map(|known| known.standing), Some(Standing::Detached(_)) | None) {
            return Ok(());
        }
        tracing::warn!(name, "a consumer is detached: {why}");
        self.expel(name, Ended::Detached(why.clone())).await;
        self.parked(name).await?;
        self.change(name, &ConsumerChange::Stand(Standing::Detached(why))).map(drop)
    }

    /// Waits until a consumer without a client is parked. Errors: `Transient`, where the stream ends meanwhile.
    pub async fn parked(&self, name: &str) -> Result<()> {
        for _ in 0..PARKED_POLLS {
            if self.known(name)?.is_none_or(|known| known.standing != Standing::Live) {
                return Ok(());
            }
            tokio::time::sleep(PARKED_POLL).await;
        }
        Err(not_up())
    }

    /// Of all consumers, durable ones by name, then the others.
    pub fn statuses(&self) -> Vec<ConsumerStatus> {
        let consumers = self.store().map(|store| store.read(|store| store.consumers())).unwrap_or_default();
        let main = self.main_now();
        let (seats, errors) = (locked(&self.seats), locked(&self.errors));
        let now = now_unix_ms();
        let status = |name: &str, known: Option<&Consumer>| {
            let seat = seats.get(name);
            let (position, needed) = match (known, &main) {
                (Some(known), Some(main)) => {
                    let needed = self.needed(main, name, known);
                    (needed.clone().filter(|_| known.position.is_some()), needed)
                }
                (Some(known), None) => (known.position.clone(), known.position.clone()),
                (None, _) => {
                    let position = seat.and_then(|seat| seat.feed.position());
                    (position.clone(), position)
                }
            };
            let stored = known.map(|known| known.lag).unwrap_or_default();
            let lag = needed.map(|needed| self.lag(main.as_deref(), &needed, stored)).unwrap_or_default();
            let state = match (known.map(|known| &known.standing), seat) {
                (Some(Standing::Detached(_)), _) => State::Detached,
                (Some(Standing::Paused), _) => State::Paused,
                (_, Some(seat)) => *seat.state.borrow(),
                (_, None) => State::Parked,
            };
            let detached = match known.map(|known| &known.standing) {
                Some(Standing::Detached(why)) => Some(why.clone()),
                _ => None,
            };
            ConsumerStatus {
                name: name.to_owned(),
                durable: known.is_some(),
                attached: seat.is_some(),
                state,
                position,
                lag_bytes: lag.bytes,
                lag_ms: if lag.since_unix_ms == 0 { 0 } else { now.saturating_sub(lag.since_unix_ms) },
                queue_bytes: seat.map_or(0, |seat| seat.feed.queue_bytes()),
                unacked: seat.map_or(0, |seat| seat.feed.unacked()),
                epoch: known.map_or(0, |known| known.epoch),
                last_error: detached.or_else(|| errors.get(name).cloned()),
            }
        };
        let durable = consumers.iter().map(|(name, known)| status(name, Some(known)));
        let ephemeral = seats.iter().filter(|(_, seat)| !seat.durable).map(|(name, _)| status(name, None));
        durable.chain(ephemeral).collect()
    }
}

/// Holds what consumers need that are no members.
pub fn hold_all(fanout: &Fanout, consumers: &BTreeMap<String, Consumer>) {
    for (name, known) in consumers.iter().filter(|(_, known)| known.standing != Standing::Live) {
        fanout.hold(name, known.hold());
    }
}

/// A parked consumer is stored with the next commit: at most its interval, and a synced write.
const PARKED_POLL: Duration = Duration::from_millis(10);
const PARKED_POLLS: u32 = 1000;

pub fn not_up() -> Error {
    Error::transient("the stream is not up").remedy("come back when the source is reached")
}
