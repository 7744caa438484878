//! How much a client may ask again. Servers that have too much to do are not helped by hearing everything twice.

use std::sync::atomic::{AtomicU32, Ordering};

/// Retries that a client may make at once when all has been well.
pub const RETRY_BUDGET_MAX: u32 = 128;

/// Calls that must succeed for one more retry.
pub const RETRY_BUDGET_CALLS: u32 = 10;

const FULL: u32 = RETRY_BUDGET_MAX * RETRY_BUDGET_CALLS;

/// Retries left, in parts of one.
#[derive(Debug)]
pub(super) struct Budget(AtomicU32);

impl Budget {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(FULL))
    }

    /// A call has succeeded.
    pub(super) fn deposit(&self) {
        let _full = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left < FULL).then_some(left + 1));
    }

    /// Takes one retry, if there is one.
    pub(super) fn withdraw(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(RETRY_BUDGET_CALLS)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_run_out_and_come_back_with_success() {
        let budget = Budget::new();
        assert_eq!((0..).take_while(|_| budget.withdraw()).count(), RETRY_BUDGET_MAX as usize);
        (1..RETRY_BUDGET_CALLS).for_each(|_| budget.deposit());
        assert!(!budget.withdraw());
        budget.deposit();
        assert!(budget.withdraw());
    }

    #[test]
    fn success_saves_up_no_more_than_the_maximum() {
        let budget = Budget::new();
        (0..10 * FULL).for_each(|_| budget.deposit());
        assert_eq!((0..).take_while(|_| budget.withdraw()).count(), RETRY_BUDGET_MAX as usize);
    }
}
