//! The byte budget that all batches of a pipeline share.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The semaphore counts in these, because it hands out at most `u32::MAX` permits at once.
const UNIT_BYTES: usize = 1024;

#[derive(Clone)]
pub struct Budget {
    free: Arc<Semaphore>,
    total_units: u32,
}

/// A share of the budget, given back by Drop.
pub type Permit = OwnedSemaphorePermit;

impl Budget {
    pub fn new(bytes: usize) -> Self {
        let total_units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        Budget { free: Arc::new(Semaphore::new(total_units as usize)), total_units }
    }

    pub fn total_bytes(&self) -> usize {
        self.total_units as usize * UNIT_BYTES
    }

    /// How many batches there can be at once, as each takes at least one unit.
    pub fn max_batches(&self) -> usize {
        self.total_units as usize
    }

    pub fn used_bytes(&self) -> usize {
        (self.total_units as usize).saturating_sub(self.free.available_permits()) * UNIT_BYTES
    }

    /// Waits until `bytes` are free. More than the whole budget waits for all of it: one row above the budget passes
    /// alone. Cancel-safe.
    pub async fn take(&self, bytes: usize) -> Permit {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.total_units);
        match self.free.clone().acquire_many_owned(units).await {
            Ok(permit) => permit,
            Err(_) => unreachable!("nobody closes the budget"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_than_the_budget_waits_for_all_of_it() {
        let budget = Budget::new(10 * UNIT_BYTES);
        let small = budget.take(1).await;
        assert_eq!(budget.used_bytes(), UNIT_BYTES);
        let mut large = Box::pin(budget.take(1000 * UNIT_BYTES));
        let early = tokio::time::timeout(std::time::Duration::from_millis(20), &mut large).await;
        assert!(early.is_err(), "taken while a share was out");
        drop(small);
        let large = large.await;
        assert_eq!(budget.used_bytes(), budget.total_bytes());
        drop(large);
        assert_eq!(budget.used_bytes(), 0);
    }
}
