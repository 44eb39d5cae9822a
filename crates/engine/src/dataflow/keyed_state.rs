//! The latest row of each group, in immutable runs.
//!
//! ```text
//!   run 1: a b c d      run 2: b e      run 3: a b        latest: c d (1), e (2), a b (3)
//! ```
//!
//! New rows of groups come as a run and take the place of the rows that these groups had; those are
//! **garbage** from then on. In the order of the runs the last row of a group is its latest, so the
//! runs say all. After each addition [`KeyedState::put`] moves some latest rows into a new run, and a
//! run without latest rows is dropped: rows of the run with the most garbage while there is more
//! garbage than [`MAX_GARBAGE`] and one row a group, and rows of the smallest runs while there are
//! too many. What is moved in a step is bounded by what came in it and [`PAGE`], so no step waits
//! until all groups are copied; and what is moved stays few times what comes.

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use datafusion::error::Result;

use super::saved::Run;

/// Garbage is kept until there is this much more of it than groups, in rows.
const MAX_GARBAGE: usize = 65_536;

/// About how many rows are put together into one run.
const PAGE: usize = 8_192;

/// How many small runs there may be.
const MAX_SMALL: usize = 64;

/// How many runs at most are put together into one.
const MAX_JOINED: usize = 32;

/// Where the latest row of a group is.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The place of the run among `parts`; `NOWHERE` before the first row.
    part: u32,
    row: u32,
}

const NOWHERE: Place = Place {
    part: u32::MAX,
    row: 0,
};

struct Part {
    run: Run,
    /// Which came first of two runs.
    age: u64,
    /// The group of each row.
    groups: Vec<u32>,
    /// How many rows are the latest of their groups; never 0.
    latest: usize,
}

impl Part {
    fn garbage(&self) -> usize {
        self.groups.len() - self.latest
    }
}

/// The latest rows of groups that are numbered from 0.
#[derive(Default)]
pub(super) struct KeyedState {
    places: Vec<Place>,
    /// A dropped run leaves a hole, which is listed in `holes`.
    parts: Vec<Option<Part>>,
    holes: Vec<u32>,
    /// Rows of all runs.
    rows: usize,
    /// The age of the next run.
    next: u64,
}

impl KeyedState {
    /// How many groups have a row.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The rows of `groups`, in their order.
    pub fn rows_of(&self, groups: &[usize]) -> Result<RecordBatch> {
        let mut numbers = vec![u32::MAX; self.parts.len()];
        let mut runs = Vec::new();
        let places = groups.iter().map(|&group| {
            let place = self.places[group];
            let number = &mut numbers[place.part as usize];
            if *number == u32::MAX {
                *number = runs.len() as u32;
                runs.extend(
                    self.parts[place.part as usize]
                        .as_ref()
                        .map(|it| &it.run.rows),
                );
            }
            (*number as usize, place.row as usize)
        });
        let places: Vec<_> = places.collect();
        Ok(interleave_record_batch(&runs, &places)?)
    }

    /// Adds one new row for each of `groups`. Groups that had none must all come in one call.
    pub fn put(&mut self, groups: &[usize], rows: RecordBatch) -> Result<()> {
        self.add(groups, Run::new(0, rows));
        self.tidy(PAGE + 2 * groups.len())
    }

    /// Adds a run that was saved, `groups` being the groups of its rows. In the order in which they
    /// were saved.
    pub fn restore(&mut self, groups: &[usize], run: Run) {
        self.add(groups, run);
    }

    /// All runs, in their order.
    pub fn runs(&self) -> Vec<Run> {
        let mut parts: Vec<&Part> = self.parts.iter().flatten().collect();
        parts.sort_unstable_by_key(|part| part.age);
        parts.iter().map(|part| part.run.clone()).collect()
    }

    fn add(&mut self, groups: &[usize], run: Run) {
        if groups.is_empty() {
            return;
        }
        let known = groups.iter().max().map_or(0, |last| last + 1);
        self.places.resize(known.max(self.places.len()), NOWHERE);
        let part = match self.holes.pop() {
            Some(hole) => hole,
            None => {
                self.parts.push(None);
                self.parts.len() as u32 - 1
            }
        };
        for (row, &group) in (0u32..).zip(groups) {
            let place = Place { part, row };
            let before = std::mem::replace(&mut self.places[group], place);
            self.forget(before);
        }
        self.rows += groups.len();
        self.parts[part as usize] = Some(Part {
            run,
            age: self.next,
            groups: groups.iter().map(|&group| group as u32).collect(),
            latest: groups.len(),
        });
        self.next += 1;
    }

    /// A row is garbage now.
    fn forget(&mut self, place: Place) {
        let Some(slot) = self.parts.get_mut(place.part as usize) else {
            return;
        };
        let Some(part) = slot else { return };
        part.latest -= 1;
        if part.latest == 0 {
            self.rows -= part.groups.len();
            *slot = None;
            self.holes.push(place.part);
        }
    }

    /// Moves rows while there is need, about `rows` of them at most.
    fn tidy(&mut self, rows: usize) -> Result<()> {
        let mut left = rows;
        while left > 0 {
            let from = if self.rows > 2 * self.places.len() + MAX_GARBAGE {
                self.dirtiest()
            } else if self.parts.len() - self.holes.len() > MAX_SMALL + 2 * self.rows / PAGE {
                self.smallest()
            } else {
                return Ok(());
            };
            let groups = self.some_groups(&from);
            let rows = self.rows_of(&groups)?;
            self.add(&groups, Run::new(0, rows));
            left = left.saturating_sub(groups.len());
        }
        Ok(())
    }

    /// The run of which the largest part is garbage.
    fn dirtiest(&self) -> Vec<usize> {
        let share = |part: &Part| part.garbage() as f64 / part.groups.len() as f64;
        let parts = self.parts.iter().enumerate();
        let parts = parts.filter_map(|(at, part)| Some((at, share(part.as_ref()?))));
        let most = parts.max_by(|a, b| a.1.total_cmp(&b.1));
        most.map(|(at, _)| at).into_iter().collect()
    }

    /// The runs with the fewest latest rows: together at most [`PAGE`], but two at least.
    fn smallest(&self) -> Vec<usize> {
        let parts = self.parts.iter().enumerate();
        let parts = parts.filter_map(|(at, part)| Some((part.as_ref()?.latest, at)));
        let mut parts: Vec<_> = parts.collect();
        parts.sort_unstable();
        let mut sum = 0;
        let small = parts.iter().take(MAX_JOINED).take_while(|(latest, _)| {
            sum += latest;
            sum <= PAGE
        });
        let small = small.count().max(2);
        parts.iter().take(small).map(|(_, at)| *at).collect()
    }

    /// Up to [`PAGE`] groups whose latest rows are in these runs; at least one.
    fn some_groups(&self, parts: &[usize]) -> Vec<usize> {
        let mut groups = Vec::new();
        for &at in parts {
            let Some(part) = &self.parts[at] else {
                continue;
            };
            let rows = (0u32..).zip(&part.groups);
            let latest = rows.filter(|(row, group)| {
                let place = self.places[**group as usize];
                (place.part, place.row) == (at as u32, *row)
            });
            let latest = latest.map(|(_, group)| *group as usize);
            groups.extend(latest.take(PAGE - groups.len()));
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Rows that tell their group and the step in which they came.
    fn rows(groups: &[usize], step: usize) -> RecordBatch {
        let group = Int64Array::from_iter_values(groups.iter().map(|it| *it as i64));
        let step = Int64Array::from_value(step as i64, groups.len());
        let columns: [(_, ArrayRef); 2] = [("group", Arc::new(group)), ("step", Arc::new(step))];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn pairs(rows: &RecordBatch) -> Vec<(i64, i64)> {
        let [group, step] = [0, 1].map(|it| rows.column(it).as_primitive::<Int64Type>());
        group
            .values()
            .iter()
            .copied()
            .zip(step.values().iter().copied())
            .collect()
    }

    /// Puts random groups in steps of up to `most`, of `all` groups, and checks after each.
    fn churn(all: usize, most: usize, steps: usize) -> KeyedState {
        let mut random = StdRng::seed_from_u64(7);
        let mut latest = KeyedState::default();
        let mut known = HashMap::new();
        latest
            .put(
                &(0..all).collect::<Vec<_>>(),
                rows(&(0..all).collect::<Vec<_>>(), 0),
            )
            .unwrap();
        for step in 1..=steps {
            let mut groups: Vec<usize> = (0..random.random_range(1..=most))
                .map(|_| random.random_range(0..all))
                .collect();
            groups.sort_unstable();
            groups.dedup();
            known.extend(groups.iter().map(|group| (*group as i64, step as i64)));
            let kept: std::collections::HashSet<u64> =
                latest.runs().iter().map(|it| it.id).collect();
            latest.put(&groups, rows(&groups, step)).unwrap();
            let runs = latest.runs();
            let written = runs.iter().filter(|run| !kept.contains(&run.id));
            let written: usize = written.map(|run| run.rows.num_rows()).sum();
            assert!(
                written <= 2 * PAGE + 4 * groups.len(),
                "{written} rows in step {step}"
            );
        }
        let everything: Vec<usize> = (0..all).collect();
        let expected: Vec<_> = (0..all as i64)
            .map(|it| (it, known.get(&it).copied().unwrap_or(0)))
            .collect();
        assert_eq!(pairs(&latest.rows_of(&everything).unwrap()), expected);
        latest
    }

    #[test]
    fn the_runs_in_order_say_all() {
        let latest = churn(3_000, 50, 3_000);
        let mut last = HashMap::new();
        for run in latest.runs() {
            last.extend(pairs(&run.rows));
        }
        let groups: Vec<usize> = (0..3_000).collect();
        let expected: HashMap<_, _> = pairs(&latest.rows_of(&groups).unwrap())
            .into_iter()
            .collect();
        assert_eq!(last, expected);
    }

    #[test]
    fn runs_and_garbage_stay_few() {
        for (all, most, steps) in [(10, 5, 1_000), (3_000, 3, 3_000), (60_000, 20_000, 60)] {
            let latest = churn(all, most, steps);
            let kept: usize = latest.runs().iter().map(|run| run.rows.num_rows()).sum();
            assert_eq!(kept, latest.rows);
            assert!(
                kept <= 2 * all + MAX_GARBAGE + 2 * most,
                "{kept} rows of {all} groups"
            );
            let runs = latest.runs().len();
            assert!(runs <= MAX_SMALL + 2 * kept / PAGE + 1, "{runs} runs");
        }
    }

    #[test]
    fn saved_runs_make_the_same_again() {
        let latest = churn(1_000, 100, 500);
        let mut again = KeyedState::default();
        for run in latest.runs() {
            let groups: Vec<usize> = pairs(&run.rows).iter().map(|it| it.0 as usize).collect();
            again.restore(&groups, run);
        }
        let ids = |it: &KeyedState| it.runs().iter().map(|run| run.id).collect::<Vec<_>>();
        assert_eq!(ids(&again), ids(&latest));
        let groups: Vec<usize> = (0..1_000).collect();
        assert_eq!(
            again.rows_of(&groups).unwrap(),
            latest.rows_of(&groups).unwrap()
        );
    }
}
