//! Which sessions of a key are open, by the rows that came so far: what decides whether a row behind the
//! frontier counts.
//!
//! The stage makes an index of all its clusters when such a row comes, and then adds row after row in the
//! order of the log, so that many such rows cost one sweep. A session here is made of the rows of one
//! source alone: between sources the log has no order.

use std::collections::HashMap;

use arrow::array::{ArrayRef, BooleanArray, Int64Array};
use datafusion::error::Result;

use crate::dataflow::groups::Grouping;
use crate::dataflow::key_numbers::KeyNumbers;
use crate::dataflow::stage_state::StageState;

/// The source of clusters that were saved without their source.
pub(super) const UNKNOWN_SOURCE: i64 = i64::MIN;

/// Rows that are indexed without one behind the frontier before the index is dropped, beside as many as
/// it was made of.
const UNUSED_ROWS_MAX: i64 = 65_536;

/// Rows that are indexed before the index is made again without the keys that are gone, beside four times
/// as many as it was made of.
const ROWS_MAX: i64 = 1 << 20;

/// How long an index is kept: a cost of the rows, so that a restored stage keeps it as long.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UseCount {
    /// Clusters that the index was made of.
    clusters: i64,
    rows: i64,
    /// Rows since the last one behind the frontier.
    unused_rows: i64,
}

impl UseCount {
    /// Whether the index is to be dropped.
    pub fn is_spent(&self) -> bool {
        self.unused_rows > UNUSED_ROWS_MAX + self.clusters
            || self.rows > ROWS_MAX + 4 * self.clusters
    }

    pub fn save(&self, state: &mut StageState) {
        state.set("index_clusters", self.clusters);
        state.set("index_rows", self.rows);
        state.set("index_unused_rows", self.unused_rows);
    }

    /// That of the state with the largest index, if one had an index.
    pub fn saved(states: &[StageState]) -> Option<Self> {
        let of = |state: &StageState| {
            Some(Self {
                clusters: state.get("index_clusters")?,
                rows: state.get("index_rows")?,
                unused_rows: state.get("index_unused_rows")?,
            })
        };
        states.iter().filter_map(of).max_by_key(|index| index.rows)
    }
}

/// First and last event time of a session's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: i64,
    last: i64,
}

pub(super) struct OpenSessions {
    gap: i64,
    keys: KeyNumbers,
    /// By source, then by the number of the key.
    sources: HashMap<i64, Vec<Vec<Span>>>,
    pub use_count: UseCount,
}

impl OpenSessions {
    pub fn new(grouping: &Grouping, gap: i64) -> Result<Self> {
        Ok(Self {
            gap,
            keys: KeyNumbers::new(grouping)?,
            sources: HashMap::new(),
            use_count: UseCount::default(),
        })
    }

    pub fn add_clusters(
        &mut self,
        source: i64,
        keys: &[ArrayRef],
        first: &Int64Array,
        last: &Int64Array,
    ) -> Result<()> {
        let numbers = self.keys.number(keys, first.len())?;
        let spans = spans_of(&mut self.sources, source, &self.keys);
        for ((&key, &first), &last) in numbers.iter().zip(first.values()).zip(last.values()) {
            add(&mut spans[key], Span { first, last }, self.gap);
        }
        self.use_count.clusters += first.len() as i64;
        Ok(())
    }

    /// Adds rows of which none is behind its frontier.
    pub fn add_rows(&mut self, source: i64, keys: &[ArrayRef], times: &Int64Array) -> Result<()> {
        let numbers = self.keys.number(keys, times.len())?;
        let spans = spans_of(&mut self.sources, source, &self.keys);
        for (&key, &time) in numbers.iter().zip(times.values()) {
            let row = Span {
                first: time,
                last: time,
            };
            add(&mut spans[key], row, self.gap);
        }
        self.use_count.rows += times.len() as i64;
        self.use_count.unused_rows += times.len() as i64;
        Ok(())
    }

    /// Decides for each row, in their order, whether it counts: one at or after the bound before it always,
    /// one behind it if it falls into a session that is open there, at or after its first row; one
    /// without a time never. Adds those that count. What ended at or before `closed` is forgotten.
    pub fn judge(
        &mut self,
        source: i64,
        keys: &[ArrayRef],
        times: &Int64Array,
        bounds: &[i64],
        closed: i64,
    ) -> Result<BooleanArray> {
        self.use_count.rows += times.len() as i64;
        self.use_count.unused_rows = 0;
        let numbers = self.keys.number(keys, times.len())?;
        let unknown = self.sources.remove(&UNKNOWN_SOURCE).unwrap_or_default();
        let spans = spans_of(&mut self.sources, source, &self.keys);
        let gap = self.gap;
        let rows = numbers.iter().zip(times).zip(bounds);
        let counts = rows.map(|((&key, time), &bound)| {
            let Some(time) = time else { return false };
            let known = &mut spans[key];
            known.retain(|span| span.last.saturating_add(gap) > closed);
            let is_open = |span: &Span| {
                span.first <= time
                    && time <= span.last.saturating_add(gap - 1)
                    && span.last.saturating_add(gap) > bound
            };
            let older = unknown.get(key).map_or(&[][..], Vec::as_slice);
            let counts = time >= bound || known.iter().chain(older).any(is_open);
            if counts {
                let row = Span {
                    first: time,
                    last: time,
                };
                add(known, row, gap);
            }
            counts
        });
        let counts = BooleanArray::from(counts.collect::<Vec<_>>());
        if !unknown.is_empty() {
            self.sources.insert(UNKNOWN_SOURCE, unknown);
        }
        Ok(counts)
    }
}

/// The spans of a source, one list for each key.
fn spans_of<'a>(
    sources: &'a mut HashMap<i64, Vec<Vec<Span>>>,
    source: i64,
    keys: &KeyNumbers,
) -> &'a mut Vec<Vec<Span>> {
    let spans = sources.entry(source).or_default();
    if spans.len() < keys.count() {
        spans.resize_with(keys.count(), Vec::new);
    }
    spans
}

/// Adds a span to the sessions of a key, and joins those that are less than `gap` apart.
fn add(sessions: &mut Vec<Span>, mut span: Span, gap: i64) {
    sessions.retain(|other| {
        let apart = other.first.saturating_sub(span.last) >= gap
            || span.first.saturating_sub(other.last) >= gap;
        if !apart {
            span.first = span.first.min(other.first);
            span.last = span.last.max(other.last);
        }
        apart
    });
    sessions.push(span);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: i64, last: i64) -> Span {
        Span { first, last }
    }

    #[test]
    fn spans_less_than_a_gap_apart_are_one_session() {
        let mut sessions = vec![span(0, 5), span(30, 31)];
        add(&mut sessions, span(15, 15), 10);
        assert_eq!(sessions, [span(0, 5), span(30, 31), span(15, 15)]);
        add(&mut sessions, span(24, 24), 10);
        assert_eq!(sessions, [span(0, 5), span(15, 31)]);
        add(&mut sessions, span(i64::MIN, i64::MIN), 10);
        add(&mut sessions, span(i64::MAX, i64::MAX), 10);
        assert_eq!(sessions.len(), 4);
    }
}
