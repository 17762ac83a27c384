//! Durable consumers in the store: what is kept of each, and the view of one that its own pipeline has.

use std::collections::BTreeMap;

use super::{Checkpoint, Continuity, OffsetStore, OffsetUpdate, Orders, Store, rules};
use crate::error::{Error, Result};
use crate::record::{Lineage, Position, SinkOffset, StateEntry};

/// As long as other systems' names of consumers; it is part of keys and of labels.
const NAME_BYTES: usize = 128;

/// A durable consumer as the store holds it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Consumer {
    /// Grows with every client that takes it.
    pub epoch: u64,
    pub standing: Standing,
    /// Behind its last acknowledgement; none while its snapshot is not complete.
    pub position: Option<Position>,
    /// What its namespace's state is of; none while it is live or its snapshot is not complete.
    pub base: Option<Position>,
    /// What an unfinished snapshot may still need of the log.
    pub snapshot_hold: Option<Position>,
    pub lag: Lag,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// A member of the main pipeline: no namespace.
    Live,
    #[default]
    Parked,
    /// Parked, and no client is let in.
    Paused,
    /// Parked, and nothing is held for it; why.
    Detached(String),
}

/// How far behind it was when this was written, so that a limit survives a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Bytes of log that the main stream had read behind its position.
    pub bytes: u64,
    /// When the main stream passed its position, in milliseconds since 1970-01-01 UTC; 0 where it had not.
    pub since_unix_ms: u64,
}

impl Consumer {
    /// What must not be confirmed to the server for its sake; none where nothing is held.
    pub fn hold(&self) -> Option<Position> {
        match self.standing {
            Standing::Detached(_) => None,
            Standing::Live => self.position.clone(),
            Standing::Parked | Standing::Paused => {
                let needed = [&self.position, &self.base].into_iter().flatten().cloned().reduce(Position::earlier);
                needed.filter(|_| self.position.is_some()).or_else(|| self.snapshot_hold.clone())
            }
        }
    }

    pub(super) fn offset(&self) -> SinkOffset {
        SinkOffset { position: self.position.clone(), token: None }
    }
}

/// Where a consumer is from an update on.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// With the main pipeline; its namespace goes, if it had one.
    Live(Position),
    Parked(Parked),
}

/// A namespace with a copy of the main state as it is stored before the update, and these entries after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Parked {
    pub position: Position,
    /// What the state is of with the entries.
    pub base: Position,
    pub entries: Vec<StateEntry>,
}

/// A change of one consumer that is no step of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum ConsumerChange {
    /// A client of a new epoch goes on where the last one was. Errors: `Bug` where the epoch does not grow.
    Attach {
        epoch: u64,
    },
    /// A consumer that is new, or begins elsewhere: a fresh namespace. Errors: as for `Attach`.
    Begin {
        epoch: u64,
        place: NewPlace,
    },
    /// The operator moves it; its namespace's state stays.
    Stand(Standing),
    Lag(Lag),
    /// Its server is another one of the line.
    Bind(Lineage),
    Drop,
}

#[derive(Clone, Debug, PartialEq)]
pub enum NewPlace {
    /// With a copy of the main state.
    At(Position),
    /// Without state; the log is needed from where the main state is at the earliest.
    Snapshot,
}

/// Letters, digits, `.`, `_` and `-`. Errors: `Config`.
pub fn check_name(name: &str) -> Result<()> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if plain && !name.is_empty() && name.len() <= NAME_BYTES {
        return Ok(());
    }
    Err(Error::config(format!("{name:?} is no name of a consumer"))
        .remedy(format!("up to {NAME_BYTES} letters, digits, `.`, `_` and `-`")))
}

pub(super) fn unknown(name: &str) -> Error {
    Error::config(format!("there is no consumer {name:?}"))
}

impl Consumer {
    /// What a change makes of a consumer, its namespace's state apart; none where it is dropped. `main`: what the main state
    /// is of.
    pub(super) fn changed(
        known: Option<&Consumer>,
        name: &str,
        change: &ConsumerChange,
        main: Option<&Position>,
    ) -> Result<Option<Consumer>> {
        let existing = || known.cloned().ok_or_else(|| unknown(name));
        let grows = |epoch: u64| match known {
            Some(known) if known.epoch >= epoch => {
                Err(Error::bug(format!("the epoch of consumer {name:?} would go back from {} to {epoch}", known.epoch)))
            }
            _ => Ok(()),
        };
        Ok(Some(match change {
            ConsumerChange::Attach { epoch } => {
                grows(*epoch)?;
                Consumer { epoch: *epoch, ..existing()? }
            }
            ConsumerChange::Begin { epoch, place } => {
                check_name(name)?;
                grows(*epoch)?;
                let fresh = Consumer { epoch: *epoch, ..Consumer::default() };
                match place {
                    NewPlace::At(position) => {
                        let base = main.map_or(position.clone(), |main| main.clone().earlier(position.clone()));
                        Consumer { position: Some(position.clone()), base: Some(base), ..fresh }
                    }
                    NewPlace::Snapshot => Consumer { snapshot_hold: main.cloned(), ..fresh },
                }
            }
            ConsumerChange::Stand(standing) => {
                let known = existing()?;
                if *standing == Standing::Live || known.standing == Standing::Live {
                    return Err(Error::bug(format!(
                        "consumer {name:?} is live, or would be, without a step of its stream"
                    )));
                }
                Consumer { standing: standing.clone(), ..known }
            }
            ConsumerChange::Lag(lag) => Consumer { lag: *lag, ..existing()? },
            ConsumerChange::Bind(_) => {
                let known = existing()?;
                if known.standing == Standing::Live {
                    return Err(Error::bug(format!("consumer {name:?} is live: its lineage is the main stream's")));
                }
                known
            }
            ConsumerChange::Drop => {
                existing()?;
                return Ok(None);
            }
        }))
    }

    /// After a step of its own pipeline.
    pub(super) fn stepped(&self, name: &str, epoch: u64, update: &OffsetUpdate) -> Result<Consumer> {
        if self.epoch != epoch {
            return Err(Error::config(format!(
                "the epoch of consumer {name:?} is {}: what a client of epoch {epoch} says is void",
                self.epoch
            )));
        }
        if self.standing == Standing::Live {
            return Err(Error::bug(format!("storing a step of consumer {name:?} apart, which is live")));
        }
        let mut stepped = self.clone();
        if let Some(offset) = update.sinks.get(name) {
            rules::may_move(name, self.position.as_ref(), offset.position.as_ref())?;
            stepped.position = offset.position.clone();
        }
        if update.base.is_some() {
            stepped.base = update.base.clone();
        }
        if stepped.position.is_some() {
            stepped.snapshot_hold = None;
        }
        Ok(stepped)
    }

    /// After a step of the main pipeline.
    pub(super) fn placed(&self, name: &str, place: &Place) -> Result<Consumer> {
        let mut placed = Consumer { lag: Lag::default(), ..self.clone() };
        match place {
            Place::Live(position) => {
                rules::may_move(name, self.position.as_ref(), Some(position))?;
                placed.standing = Standing::Live;
                (placed.position, placed.base, placed.snapshot_hold) = (Some(position.clone()), None, None);
            }
            Place::Parked(parked) => {
                rules::may_move(name, self.position.as_ref(), Some(&parked.position))?;
                placed.standing = Standing::Parked;
                (placed.position, placed.base) = (Some(parked.position.clone()), Some(parked.base.clone()));
            }
        }
        Ok(placed)
    }
}

/// The store as the pipeline of one consumer sees it: its namespace, as long as its epoch lasts.
pub struct Namespace {
    pub store: Store,
    pub name: String,
    pub epoch: u64,
}

impl Namespace {
    fn refused(&self) -> Error {
        Error::bug(format!("the pipeline of consumer {:?} changes nothing but its own namespace", self.name))
    }
}

impl OffsetStore for Namespace {
    fn load(&self) -> Result<Checkpoint> {
        self.store.read(|store| store.consumer(&self.name))
    }

    fn bind(&mut self, lineage: &Lineage, continuity: Continuity) -> Result<()> {
        self.store.write(|store| {
            let stored = store.consumer(&self.name)?.lineage;
            // Its source may read by a stream of its own.
            let stream = stored.as_ref().map_or(&lineage.stream, |stored| &stored.stream);
            let lineage = Lineage { stream: stream.clone(), ..lineage.clone() };
            rules::may_bind(stored.as_ref(), &lineage, continuity)?;
            if stored.as_ref() == Some(&lineage) {
                return Ok(());
            }
            store.change_consumer(&self.name, &ConsumerChange::Bind(lineage))
        })
    }

    fn commit(&mut self, update: &OffsetUpdate) -> Result<()> {
        self.store.write(|store| store.commit_consumer(&self.name, self.epoch, update))
    }

    fn retain_sinks(&mut self, _: &dyn Fn(&str) -> bool) -> Result<()> {
        Ok(())
    }

    fn park_live(&mut self) -> Result<()> {
        Ok(())
    }

    fn consumers(&self) -> BTreeMap<String, Consumer> {
        BTreeMap::new()
    }

    fn consumer(&self, _: &str) -> Result<Checkpoint> {
        Err(self.refused())
    }

    fn change_consumer(&mut self, _: &str, _: &ConsumerChange) -> Result<()> {
        Err(self.refused())
    }

    fn commit_consumer(&mut self, _: &str, _: u64, _: &OffsetUpdate) -> Result<()> {
        Err(self.refused())
    }

    fn set(&mut self, _: &str, _: &SinkOffset) -> Result<()> {
        Err(self.refused())
    }

    fn order(&mut self, _: &Orders) -> Result<()> {
        Err(self.refused())
    }

    fn reset(&mut self) -> Result<()> {
        Err(self.refused())
    }
}
