//! What operators have ordered of a running process, and what a restart keeps.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::Position;

/// Orders that hold until they are taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Sinks that take nothing.
    pub paused: BTreeSet<String>,
    /// Tables that are wanted beside those of the configuration: schema and name, and from where on; none: from any position.
    pub added: BTreeMap<(String, String), Option<Position>>,
}

impl Orders {
    pub fn is_empty(&self) -> bool {
        self.paused.is_empty() && self.added.is_empty()
    }
}
