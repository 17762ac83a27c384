//! An offset store that forgets with the process: `tail` without a state directory, and the model for tests.

use std::collections::BTreeMap;

use super::consumer::{self, Consumer, ConsumerChange, NewPlace, Parked, Place, Standing};
use super::{Checkpoint, Continuity, OffsetStore, OffsetUpdate, Orders, rules};
use crate::error::Result;
use crate::record::{Lineage, SinkOffset, StateEntry, owed};

#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    main: Checkpoint,
    /// Lineage and state of each consumer that is not live; the rest is in the main checkpoint.
    namespaces: BTreeMap<String, Own>,
}

#[derive(Clone, Debug, Default)]
struct Own {
    lineage: Option<Lineage>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl MemoryStore {
    /// As if it had been stored.
    pub fn holding(checkpoint: Checkpoint) -> Self {
        MemoryStore { main: checkpoint, namespaces: BTreeMap::new() }
    }

    fn own(&self) -> Own {
        let shared = self.main.state.iter().filter(|(key, _)| !owed::is_readers_own(key));
        let state = shared.map(|(key, value)| (key.clone(), value.clone())).collect();
        Own { lineage: self.main.lineage.clone(), state }
    }
}

fn apply(state: &mut BTreeMap<Vec<u8>, Vec<u8>>, entries: &[StateEntry]) {
    for entry in entries {
        match &entry.value {
            Some(value) => state.insert(entry.key.clone(), value.clone()),
            None => state.remove(&entry.key),
        };
    }
}

impl OffsetStore for MemoryStore {
    fn load(&self) -> Result<Checkpoint> {
        Ok(self.main.clone())
    }

    fn bind(&mut self, lineage: &Lineage, continuity: Continuity) -> Result<()> {
        rules::may_bind(self.main.lineage.as_ref(), lineage, continuity)?;
        self.main.lineage = Some(lineage.clone());
        Ok(())
    }

    fn commit(&mut self, update: &OffsetUpdate) -> Result<()> {
        rules::may_commit(self.main.lineage.as_ref(), &self.main.sinks, update)?;
        let mut placed = Vec::new();
        for (name, place) in &update.consumers {
            let Some(known) = self.main.consumers.get(name) else { continue };
            placed.push((name.clone(), known.placed(name, place)?, place));
        }
        for (name, consumer, place) in placed {
            match place {
                Place::Live(_) => drop(self.namespaces.remove(&name)),
                Place::Parked(Parked { entries, .. }) => {
                    let mut own = self.own();
                    apply(&mut own.state, entries);
                    self.namespaces.insert(name.clone(), own);
                }
            }
            self.main.consumers.insert(name, consumer);
        }
        self.main.sinks.extend(update.sinks.clone());
        apply(&mut self.main.state, &update.state);
        if update.base.is_some() {
            self.main.base = update.base.clone();
        }
        Ok(())
    }

    fn retain_sinks(&mut self, keep: &dyn Fn(&str) -> bool) -> Result<()> {
        self.main.sinks.retain(|name, _| keep(name));
        Ok(())
    }

    fn park_live(&mut self) -> Result<()> {
        let own = self.own();
        for (name, consumer) in self.main.consumers.iter_mut().filter(|(_, known)| known.standing == Standing::Live) {
            consumer.standing = Standing::Parked;
            consumer.base = self.main.base.clone().or_else(|| consumer.position.clone());
            self.namespaces.insert(name.clone(), own.clone());
        }
        Ok(())
    }

    fn consumers(&self) -> BTreeMap<String, Consumer> {
        self.main.consumers.clone()
    }

    fn consumer(&self, name: &str) -> Result<Checkpoint> {
        let (Some(known), Some(own)) = (self.main.consumers.get(name), self.namespaces.get(name)) else {
            return Err(consumer::unknown(name));
        };
        Ok(Checkpoint {
            lineage: own.lineage.clone(),
            base: known.base.clone(),
            sinks: [(name.to_owned(), known.offset())].into(),
            state: own.state.clone(),
            ..Checkpoint::default()
        })
    }

    fn change_consumer(&mut self, name: &str, change: &ConsumerChange) -> Result<()> {
        let changed = Consumer::changed(self.main.consumers.get(name), name, change, self.main.base.as_ref())?;
        match change {
            ConsumerChange::Begin { place: NewPlace::At(_), .. } => {
                self.namespaces.insert(name.to_owned(), self.own());
            }
            ConsumerChange::Begin { place: NewPlace::Snapshot, .. } => {
                let own = Own { lineage: self.main.lineage.clone(), state: BTreeMap::new() };
                self.namespaces.insert(name.to_owned(), own);
            }
            ConsumerChange::Bind(lineage) => {
                self.namespaces.entry(name.to_owned()).or_default().lineage = Some(lineage.clone());
            }
            ConsumerChange::Attach { .. } | ConsumerChange::Stand(_) | ConsumerChange::Lag(_) => {}
            ConsumerChange::Drop => drop(self.namespaces.remove(name)),
        }
        match changed {
            Some(changed) => self.main.consumers.insert(name.to_owned(), changed),
            None => self.main.consumers.remove(name),
        };
        Ok(())
    }

    fn commit_consumer(&mut self, name: &str, epoch: u64, update: &OffsetUpdate) -> Result<()> {
        let known = self.main.consumers.get(name).ok_or_else(|| consumer::unknown(name))?;
        let stepped = known.stepped(name, epoch, update)?;
        apply(&mut self.namespaces.entry(name.to_owned()).or_default().state, &update.state);
        self.main.consumers.insert(name.to_owned(), stepped);
        Ok(())
    }

    fn set(&mut self, sink: &str, offset: &SinkOffset) -> Result<()> {
        rules::may_set(self.main.lineage.as_ref(), sink)?;
        self.main.sinks.insert(sink.to_owned(), offset.clone());
        Ok(())
    }

    fn order(&mut self, orders: &Orders) -> Result<()> {
        self.main.orders = orders.clone();
        Ok(())
    }

    fn reset(&mut self) -> Result<()> {
        *self = MemoryStore::default();
        Ok(())
    }
}
