//! Durable consumers: `consumer/<name>/meta`, and of one that is not live `consumer/<name>/lineage` and
//! `consumer/<name>/state/<key>`. A name holds no slash.

use std::collections::BTreeMap;

use rocksdb::{DB, Direction, IteratorMode};

use super::{RocksStore, STATE_PREFIX, Step, classify};
use crate::error::Result;
use crate::offset::codec::{self, corrupt, unseal};
use crate::offset::consumer::{Consumer, ConsumerChange, NewPlace, Parked, Place, Standing, check_name, unknown};
use crate::offset::{Checkpoint, OffsetUpdate};
use crate::record::{StateEntry, owed};

pub(super) const PREFIX: &[u8] = b"consumer/";
const META: &[u8] = b"/meta";
const LINEAGE: &[u8] = b"/lineage";
const STATE: &[u8] = b"/state/";

fn key(name: &str, what: &[u8]) -> Vec<u8> {
    [PREFIX, name.as_bytes(), what].concat()
}

/// Reads an entry of a consumer, whose key is `rest` behind the prefix.
pub(super) fn read_entry(checkpoint: &mut Checkpoint, key: &[u8], rest: &[u8], payload: &[u8]) -> Result<()> {
    let slash = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    let (name, what) = rest.split_at(slash);
    let name = str::from_utf8(name).ok().filter(|name| check_name(name).is_ok());
    let name = name.ok_or_else(|| corrupt(key, "it names no consumer"))?;
    if what == META {
        let consumer = codec::decode_consumer(payload).ok_or_else(|| corrupt(key, "it is not a consumer"))?;
        checkpoint.consumers.insert(name.to_owned(), consumer);
    } else if what == LINEAGE {
        codec::decode_lineage(payload).ok_or_else(|| corrupt(key, "it is not a lineage"))?;
    } else if !what.starts_with(STATE) {
        return Err(corrupt(key, "no such key belongs to a consumer"));
    }
    Ok(())
}

impl RocksStore {
    /// The entries below a prefix, unsealed; keys without the prefix.
    fn below(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let db: &DB = self.db()?;
        let mut found = Vec::new();
        for item in db.iterator(IteratorMode::From(prefix, Direction::Forward)) {
            let (key, value) = item.map_err(|error| classify(error, "reading", &self.folder))?;
            let Some(rest) = key.strip_prefix(prefix) else { break };
            found.push((rest.to_vec(), unseal(&key, &value)?.to_vec()));
        }
        Ok(found)
    }

    /// A namespace with a copy of the main state, but for what is of the sinks alone, and entries behind it.
    fn fill(&self, step: &mut Step, name: &str, entries: &[StateEntry]) -> Result<()> {
        let shared = self.below(STATE_PREFIX)?.into_iter().filter(|(key, _)| !owed::is_readers_own(key));
        let mut state: BTreeMap<Vec<u8>, Vec<u8>> = shared.collect();
        for entry in entries {
            match &entry.value {
                Some(value) => state.insert(entry.key.clone(), value.clone()),
                None => state.remove(&entry.key),
            };
        }
        for (state_key, value) in state {
            step.put(key(name, &[STATE, &state_key].concat()), &value)?;
        }
        self.put_lineage(step, name)
    }

    fn put_lineage(&self, step: &mut Step, name: &str) -> Result<()> {
        match &self.lineage {
            Some(lineage) => step.put(key(name, LINEAGE), &codec::encode_lineage(lineage)),
            None => Ok(()),
        }
    }

    /// Everything of a consumer but what the store knows by its meta key.
    fn clear(&self, step: &mut Step, name: &str) {
        let below = key(name, b"/");
        let keys = self.entries.checksums.range(below.clone()..).map(|(key, _)| key);
        for old in keys.take_while(|key| key.starts_with(&below)) {
            if !old.ends_with(META) || old.len() != below.len() - 1 + META.len() {
                step.delete(old.clone());
            }
        }
    }

    /// Adds to a step of the main stream what it does to consumers, and says what they are then.
    pub(super) fn place(&self, step: &mut Step, update: &OffsetUpdate) -> Result<Vec<(String, Consumer)>> {
        let mut placed = Vec::new();
        for (name, place) in &update.consumers {
            let Some(known) = self.consumers.get(name) else { continue };
            let consumer = known.placed(name, place)?;
            match place {
                Place::Live(_) if known.standing == Standing::Live => {}
                Place::Live(_) => self.clear(step, name),
                Place::Parked(Parked { entries, .. }) => {
                    self.clear(step, name);
                    self.fill(step, name, entries)?;
                }
            }
            step.put(key(name, META), &codec::encode_consumer(&consumer))?;
            placed.push((name.clone(), consumer));
        }
        Ok(placed)
    }

    pub(super) fn park_all_live(&mut self) -> Result<()> {
        let live = self.consumers.iter().filter(|(_, known)| known.standing == Standing::Live);
        let mut parked: Vec<(String, Consumer)> = live.map(|(name, known)| (name.clone(), known.clone())).collect();
        if parked.is_empty() {
            return Ok(());
        }
        let mut step = Step::default();
        for (name, consumer) in &mut parked {
            consumer.standing = Standing::Parked;
            consumer.base = self.base.clone().or_else(|| consumer.position.clone());
            self.fill(&mut step, name, &[])?;
            step.put(key(name, META), &codec::encode_consumer(consumer))?;
        }
        self.write(step)?;
        self.consumers.extend(parked);
        Ok(())
    }

    pub(super) fn namespace(&self, name: &str) -> Result<Checkpoint> {
        let known = self.consumers.get(name).filter(|known| known.standing != Standing::Live);
        let known = known.ok_or_else(|| unknown(name))?;
        let lineage = match self.below(&key(name, LINEAGE))?.first() {
            Some((_, payload)) => codec::decode_lineage(payload),
            None => None,
        };
        Ok(Checkpoint {
            lineage,
            base: known.base.clone(),
            sinks: [(name.to_owned(), known.offset())].into(),
            state: self.below(&key(name, STATE))?.into_iter().collect(),
            ..Checkpoint::default()
        })
    }

    pub(super) fn change(&mut self, name: &str, change: &ConsumerChange) -> Result<()> {
        let changed = Consumer::changed(self.consumers.get(name), name, change, self.base.as_ref())?;
        let mut step = Step::default();
        match change {
            ConsumerChange::Begin { place, .. } => {
                self.clear(&mut step, name);
                match place {
                    NewPlace::At(_) => self.fill(&mut step, name, &[])?,
                    NewPlace::Snapshot => self.put_lineage(&mut step, name)?,
                }
            }
            ConsumerChange::Bind(lineage) => step.put(key(name, LINEAGE), &codec::encode_lineage(lineage))?,
            ConsumerChange::Attach { .. } | ConsumerChange::Stand(_) | ConsumerChange::Lag(_) => {}
            ConsumerChange::Drop => self.clear(&mut step, name),
        }
        match &changed {
            Some(changed) => step.put(key(name, META), &codec::encode_consumer(changed))?,
            None => step.delete(key(name, META)),
        }
        self.write(step)?;
        match changed {
            Some(changed) => self.consumers.insert(name.to_owned(), changed),
            None => self.consumers.remove(name),
        };
        Ok(())
    }

    pub(super) fn step_consumer(&mut self, name: &str, epoch: u64, update: &OffsetUpdate) -> Result<()> {
        let known = self.consumers.get(name).ok_or_else(|| unknown(name))?;
        let stepped = known.stepped(name, epoch, update)?;
        let mut step = Step::default();
        for entry in &update.state {
            let key = key(name, &[STATE, &entry.key].concat());
            match &entry.value {
                Some(value) => step.put(key, value)?,
                None => step.delete(key),
            }
        }
        step.put(key(name, META), &codec::encode_consumer(&stepped))?;
        self.write(step)?;
        self.consumers.insert(name.to_owned(), stepped);
        Ok(())
    }
}
