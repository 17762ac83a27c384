//! What is compiled once per version of a table's shape.
//!
//! Invariants:
//! - A version is known by its address, which cannot be another's: it is held as long as what was compiled for it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::record::TableSchema;

/// A plan of 20 columns takes less than a KiB, so all take 1 MiB at most. A database with more changing tables at once
/// compiles some of them again.
const MAX_VERSIONS: usize = 1024;

pub(super) struct Versions<P> {
    plans: Vec<(Arc<TableSchema>, P)>,
    by_address: HashMap<usize, usize>,
    /// Most records are of the same version as the one before.
    last: usize,
}

impl<P> Default for Versions<P> {
    fn default() -> Self {
        Versions { plans: Vec::new(), by_address: HashMap::new(), last: 0 }
    }
}

impl<P> Versions<P> {
    /// The plan of a version, compiled where there is none.
    #[inline]
    pub(super) fn of(&mut self, version: &Arc<TableSchema>, compile: impl FnOnce() -> P) -> &mut P {
        if !self.plans.get(self.last).is_some_and(|(held, _)| Arc::ptr_eq(held, version)) {
            self.last = self.find(version, compile);
        }
        &mut self.plans[self.last].1
    }

    fn find(&mut self, version: &Arc<TableSchema>, compile: impl FnOnce() -> P) -> usize {
        let address = Arc::as_ptr(version) as usize;
        if let Some(&index) = self.by_address.get(&address) {
            return index;
        }
        if self.plans.len() == MAX_VERSIONS {
            self.clear();
        }
        let index = self.plans.len();
        self.plans.push((version.clone(), compile()));
        self.by_address.insert(address, index);
        index
    }

    pub(super) fn clear(&mut self) {
        self.plans.clear();
        self.by_address.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.plans.len()
    }
}
