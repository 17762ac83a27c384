//! An offset store that forgets with the process: `tail` without a state directory, and the model for tests.

use super::{Checkpoint, Continuity, OffsetStore, OffsetUpdate, rules};
use crate::error::Result;
use crate::record::{Lineage, SinkOffset};

#[derive(Debug, Default)]
pub struct MemoryStore(Checkpoint);

impl OffsetStore for MemoryStore {
    fn load(&self) -> Result<Checkpoint> {
        Ok(self.0.clone())
    }

    fn bind(&mut self, lineage: &Lineage, continuity: Continuity) -> Result<()> {
        rules::may_bind(self.0.lineage.as_ref(), lineage, continuity)?;
        self.0.lineage = Some(lineage.clone());
        Ok(())
    }

    fn commit(&mut self, update: &OffsetUpdate) -> Result<()> {
        rules::may_commit(self.0.lineage.as_ref(), &self.0.sinks, update)?;
        self.0.sinks.extend(update.sinks.clone());
        for entry in &update.state {
            match &entry.value {
                Some(value) => self.0.state.insert(entry.key.clone(), value.clone()),
                None => self.0.state.remove(&entry.key),
            };
        }
        Ok(())
    }

    fn retain_sinks(&mut self, keep: &dyn Fn(&str) -> bool) -> Result<()> {
        self.0.sinks.retain(|name, _| keep(name));
        Ok(())
    }

    fn set(&mut self, sink: &str, offset: &SinkOffset) -> Result<()> {
        rules::may_set(self.0.lineage.as_ref(), sink)?;
        self.0.sinks.insert(sink.to_owned(), offset.clone());
        Ok(())
    }

    fn reset(&mut self) -> Result<()> {
        self.0 = Checkpoint::default();
        Ok(())
    }
}
