//! Counts what was left out, by its reason.
//!
//! Reasons are sentences with values in them, so there may be any number. The first 32 are counted by
//! themselves and logged once each, all others together: memory is bounded, and nothing goes uncounted.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// So many reasons are told apart.
const REASONS_MAX: usize = 32;

/// The reason that stands for those beyond the first.
pub const OTHER_REASONS: &str = "other reasons";

/// Rows that were left out, by their reason. Thread-safe; counts only grow.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    /// Counts `rows` that were left out, and logs a reason that was not seen before; says whether it is
    /// such a one.
    pub fn add(&self, reason: &str, rows: u64) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(reason) {
            *count += rows;
            return false;
        }
        let room = counts.len() < REASONS_MAX;
        let reason = if room { reason } else { OTHER_REASONS };
        let first = !counts.contains_key(reason);
        *counts.entry(reason.to_owned()).or_default() += rows;
        drop(counts);
        if first {
            tracing::warn!(
                reason,
                rows,
                "rows are dropped; further ones are only counted"
            );
        }
        first
    }

    /// Each reason and its count, in the order of the reasons.
    pub fn counts(&self) -> Vec<(String, u64)> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.clone().into_iter().collect()
    }

    /// All together.
    pub fn total(&self) -> u64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_bounded_and_rows_are_not() {
        let tally = Tally::default();
        for number in 0..100 {
            tally.add(&format!("value {number}"), 2);
        }
        tally.add("value 0", 1);
        assert_eq!(tally.total(), 201);
        let counts = tally.counts();
        assert_eq!(counts.len(), REASONS_MAX + 1);
        assert!(counts.contains(&("value 0".to_owned(), 3)));
        assert!(counts.contains(&(OTHER_REASONS.to_owned(), 136)));
    }
}
