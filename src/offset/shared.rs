//! One store for several tasks.
//!
//! Invariants:
//! - A synced write takes as long as the disk likes. Who writes, or waits for one that does, holds up its own task alone,
//!   and no other task of its thread.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use super::OffsetStore;

#[derive(Clone)]
pub struct Store(Arc<Mutex<Box<dyn OffsetStore>>>);

impl Store {
    pub fn new(store: Box<dyn OffsetStore>) -> Self {
        Store(Arc::new(Mutex::new(store)))
    }

    /// Looks at what is stored; nobody changes it meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&dyn OffsetStore) -> T) -> T {
        match self.0.try_lock() {
            Ok(store) => look(&**store),
            Err(TryLockError::Poisoned(poisoned)) => look(&**poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => self.write(|store| look(store)),
        }
    }

    /// Changes what is stored.
    pub fn write<T>(&self, change: impl FnOnce(&mut dyn OffsetStore) -> T) -> T {
        tokio::task::block_in_place(|| change(&mut **self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}
