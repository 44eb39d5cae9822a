//! The drop counter: counts dropped rows by reason.
//!
//! Reasons are sentences with values in them, so there may be any number. The first 32 are counted by
//! themselves and logged once each, all others together: memory is bounded, and every row is counted.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::locked::locked;

/// The number of reasons that are counted separately.
const REASONS_MAX: usize = 32;

/// The reason under which those beyond the first 32 are counted.
pub const OTHER_REASONS: &str = "other reasons";

/// Dropped rows by their reason. Thread-safe; counts only grow.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    /// Counts `rows` that were dropped, and logs a reason that was not seen before. Returns whether it was
    /// new.
    pub fn add(&self, reason: &str, rows: u64) -> bool {
        let mut counts = locked(&self.counts);
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
        locked(&self.counts).clone().into_iter().collect()
    }

    /// The number of dropped rows, over all reasons.
    pub fn total(&self) -> u64 {
        locked(&self.counts).values().sum()
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
