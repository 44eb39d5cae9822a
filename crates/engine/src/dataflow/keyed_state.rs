//! The current row of each group, in immutable runs.
//!
//! ```text
//!   run 1: a b c d      run 2: b e      run 3: a b        current: c d (1), e (2), a b (3)
//! ```
//!
//! New rows of groups come as a run and replace the rows that these groups had; those are **garbage**
//! from then on. In the order of the runs the last row of a group is its current one, so the runs are
//! the whole state. After each addition [`KeyedState::put`] moves some current rows into a new run, and drops
//! runs without current rows: rows of the run with the most garbage while there is more
//! garbage than [`MAX_GARBAGE`] and one row a group, and rows of the smallest runs while there are
//! too many. What is moved in a step is bounded by what came in it and [`PAGE`], so no step waits
//! until all groups are copied; and what is moved stays few times what comes.

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use datafusion::error::Result;

use super::stage_state::Run;

/// Garbage that is kept beyond one row a group, rows.
const MAX_GARBAGE: usize = 65_536;

/// Size of a compacted run, rows, about.
const PAGE: usize = 8_192;

/// The number of small runs that may exist.
const MAX_SMALL: usize = 64;

/// The number of runs merged into one, at most.
const MAX_JOINED: usize = 32;

/// The location of the current row of a group.
#[derive(Debug, Clone, Copy)]
struct RowAddress {
    /// The index of the run in `runs`; `NOWHERE` before the first row.
    run: u32,
    row: u32,
}

const NOWHERE: RowAddress = RowAddress {
    run: u32::MAX,
    row: 0,
};

struct KeyedRun {
    run: Run,
    /// Lower for the older of two runs.
    age: u64,
    /// The group of each row.
    groups: Vec<u32>,
    /// The number of rows that are the current ones of their groups; never 0.
    current: usize,
}

impl KeyedRun {
    fn garbage(&self) -> usize {
        self.groups.len() - self.current
    }
}

/// The current rows of groups, which are numbered from 0.
#[derive(Default)]
pub(super) struct KeyedState {
    addresses: Vec<RowAddress>,
    /// A dropped run leaves a hole, whose index is in `holes`.
    runs: Vec<Option<KeyedRun>>,
    holes: Vec<u32>,
    /// Rows of all runs, garbage too.
    rows: usize,
    next: u64,
}

impl KeyedState {
    /// The number of groups that have a row.
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// The rows of `groups`, in their order.
    pub fn rows_of(&self, groups: &[usize]) -> Result<RecordBatch> {
        let mut numbers = vec![u32::MAX; self.runs.len()];
        let mut runs = Vec::new();
        let addresses = groups.iter().map(|&group| {
            let address = self.addresses[group];
            let number = &mut numbers[address.run as usize];
            if *number == u32::MAX {
                *number = runs.len() as u32;
                runs.extend(
                    self.runs[address.run as usize]
                        .as_ref()
                        .map(|it| &it.run.rows),
                );
            }
            (*number as usize, address.row as usize)
        });
        let addresses: Vec<_> = addresses.collect();
        Ok(interleave_record_batch(&runs, &addresses)?)
    }

    /// Adds one new row for each of `groups`. Groups that had none must all come in one call.
    pub fn put(&mut self, groups: &[usize], rows: RecordBatch) -> Result<()> {
        self.add(groups, Run::new(0, rows));
        self.tidy(PAGE + 2 * groups.len())
    }

    /// Adds a run that was saved, whose rows belong to `groups`. In the order in which they were saved.
    pub fn restore(&mut self, groups: &[usize], run: Run) {
        self.add(groups, run);
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<&KeyedRun> = self.runs.iter().flatten().collect();
        runs.sort_unstable_by_key(|keyed| keyed.age);
        runs.iter().map(|keyed| keyed.run.clone()).collect()
    }

    fn add(&mut self, groups: &[usize], run: Run) {
        if groups.is_empty() {
            return;
        }
        let known = groups.iter().max().map_or(0, |last| last + 1);
        self.addresses
            .resize(known.max(self.addresses.len()), NOWHERE);
        let number = match self.holes.pop() {
            Some(hole) => hole,
            None => {
                self.runs.push(None);
                self.runs.len() as u32 - 1
            }
        };
        for (row, &group) in (0u32..).zip(groups) {
            let address = RowAddress { run: number, row };
            let before = std::mem::replace(&mut self.addresses[group], address);
            self.forget(before);
        }
        self.rows += groups.len();
        self.runs[number as usize] = Some(KeyedRun {
            run,
            age: self.next,
            groups: groups.iter().map(|&group| group as u32).collect(),
            current: groups.len(),
        });
        self.next += 1;
    }

    /// The row at this address becomes garbage.
    fn forget(&mut self, address: RowAddress) {
        let Some(slot) = self.runs.get_mut(address.run as usize) else {
            return;
        };
        let Some(keyed) = slot else { return };
        keyed.current -= 1;
        if keyed.current == 0 {
            self.rows -= keyed.groups.len();
            *slot = None;
            self.holes.push(address.run);
        }
    }

    /// Compacts runs while there is need, but moves only about `rows` rows.
    fn tidy(&mut self, rows: usize) -> Result<()> {
        let mut left = rows;
        while left > 0 {
            let from = if self.rows > 2 * self.addresses.len() + MAX_GARBAGE {
                self.dirtiest()
            } else if self.runs.len() - self.holes.len() > MAX_SMALL + 2 * self.rows / PAGE {
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

    /// The run with the largest share of garbage.
    fn dirtiest(&self) -> Vec<usize> {
        let share = |keyed: &KeyedRun| keyed.garbage() as f64 / keyed.groups.len() as f64;
        let runs = self.runs.iter().enumerate();
        let runs = runs.filter_map(|(at, keyed)| Some((at, share(keyed.as_ref()?))));
        let most = runs.max_by(|a, b| a.1.total_cmp(&b.1));
        most.map(|(at, _)| at).into_iter().collect()
    }

    /// The runs with the fewest current rows: together at most [`PAGE`], but two at least.
    fn smallest(&self) -> Vec<usize> {
        let runs = self.runs.iter().enumerate();
        let runs = runs.filter_map(|(at, keyed)| Some((keyed.as_ref()?.current, at)));
        let mut runs: Vec<_> = runs.collect();
        runs.sort_unstable();
        let mut sum = 0;
        let small = runs.iter().take(MAX_JOINED).take_while(|(current, _)| {
            sum += current;
            sum <= PAGE
        });
        let small = small.count().max(2);
        runs.iter().take(small).map(|(_, at)| *at).collect()
    }

    /// Up to [`PAGE`] groups whose current rows are in these runs; at least one.
    fn some_groups(&self, runs: &[usize]) -> Vec<usize> {
        let mut groups = Vec::new();
        for &at in runs {
            let Some(keyed) = &self.runs[at] else {
                continue;
            };
            let rows = (0u32..).zip(&keyed.groups);
            let current = rows.filter(|(row, group)| {
                let address = self.addresses[**group as usize];
                (address.run, address.row) == (at as u32, *row)
            });
            let current = current.map(|(_, group)| *group as usize);
            groups.extend(current.take(PAGE - groups.len()));
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

    /// Rows with their group and the step in which they came.
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
        let mut state = KeyedState::default();
        let mut known = HashMap::new();
        state
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
                state.runs().iter().map(|it| it.id).collect();
            state.put(&groups, rows(&groups, step)).unwrap();
            let runs = state.runs();
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
        assert_eq!(pairs(&state.rows_of(&everything).unwrap()), expected);
        state
    }

    #[test]
    fn the_runs_in_order_say_all() {
        let state = churn(3_000, 50, 3_000);
        let mut last = HashMap::new();
        for run in state.runs() {
            last.extend(pairs(&run.rows));
        }
        let groups: Vec<usize> = (0..3_000).collect();
        let expected: HashMap<_, _> = pairs(&state.rows_of(&groups).unwrap())
            .into_iter()
            .collect();
        assert_eq!(last, expected);
    }

    #[test]
    fn runs_and_garbage_stay_few() {
        for (all, most, steps) in [(10, 5, 1_000), (3_000, 3, 3_000), (60_000, 20_000, 60)] {
            let state = churn(all, most, steps);
            let kept: usize = state.runs().iter().map(|run| run.rows.num_rows()).sum();
            assert_eq!(kept, state.rows);
            assert!(
                kept <= 2 * all + MAX_GARBAGE + 2 * most,
                "{kept} rows of {all} groups"
            );
            let runs = state.runs().len();
            assert!(runs <= MAX_SMALL + 2 * kept / PAGE + 1, "{runs} runs");
        }
    }

    #[test]
    fn saved_runs_make_the_same_again() {
        let state = churn(1_000, 100, 500);
        let mut restored = KeyedState::default();
        for run in state.runs() {
            let groups: Vec<usize> = pairs(&run.rows).iter().map(|it| it.0 as usize).collect();
            restored.restore(&groups, run);
        }
        let ids = |it: &KeyedState| it.runs().iter().map(|run| run.id).collect::<Vec<_>>();
        assert_eq!(ids(&restored), ids(&state));
        let groups: Vec<usize> = (0..1_000).collect();
        assert_eq!(
            restored.rows_of(&groups).unwrap(),
            state.rows_of(&groups).unwrap()
        );
    }
}
