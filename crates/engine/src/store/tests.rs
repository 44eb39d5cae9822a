//! Views that are saved and restored beside the same rows counted by hand.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{AsArray, Int8Array};
use arrow::datatypes::Int64Type;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, false),
        Field::new("b", DataType::Utf8, true),
    ]))
}

fn columns(rows: &[i64]) -> Vec<ArrayRef> {
    let texts = rows
        .iter()
        .map(|row| (row % 3 != 0).then(|| row.to_string()));
    vec![
        Arc::new(Int64Array::from(rows.to_vec())),
        Arc::new(texts.collect::<arrow::array::StringArray>()),
    ]
}

fn appearing(rows: &[i64]) -> RecordBatch {
    RecordBatch::try_new(schema(), columns(rows)).unwrap()
}

fn changing(rows: &[(i64, i8)]) -> RecordBatch {
    let (rows, diffs): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
    let mut columns = columns(&rows);
    columns.push(Arc::new(Int8Array::from(diffs)));
    RecordBatch::try_new(crate::dataflow::with_diff(&schema()), columns).unwrap()
}

/// The rows of a view, in their order.
fn held(store: &Store) -> Vec<i64> {
    let batches = store.snapshot().unwrap();
    let batches = batches.iter();
    batches
        .flat_map(|batch| {
            batch
                .column(0)
                .as_primitive::<Int64Type>()
                .values()
                .to_vec()
        })
        .collect()
}

fn sorted(mut rows: Vec<i64>) -> Vec<i64> {
    rows.sort_unstable();
    rows
}

fn count(runs: &[Run]) -> usize {
    runs.iter().map(|run| run.rows.num_rows()).sum()
}

/// Counts the rows of the runs that were not there before.
#[derive(Default)]
struct Disk {
    written: HashSet<u64>,
    rows: usize,
}

impl Disk {
    fn write(&mut self, runs: &[Run]) {
        for run in runs {
            if self.written.insert(run.id) {
                self.rows += run.rows.num_rows();
            }
        }
    }
}

/// A store restored from what was saved.
fn restored(runs: &[Run], changes: bool) -> Store {
    let mut store = Store::new(schema(), changes).unwrap();
    store.restore(runs).unwrap();
    store
}

fn ids(runs: &[Run]) -> Vec<u64> {
    runs.iter().map(|run| run.id).collect()
}

#[test]
fn rows_that_only_appear_are_written_a_few_times() {
    let mut store = Store::new(schema(), false).unwrap();
    let mut disk = Disk::default();
    let mut random = StdRng::seed_from_u64(1);
    let mut all = Vec::new();
    for step in 0..20_000 {
        let most = if step % 1_000 == 0 { 2 * FULL } else { 9 };
        let rows: Vec<i64> = (0..random.random_range(1..=most))
            .map(|_| random.random_range(0..99))
            .collect();
        store.apply(&appearing(&rows)).unwrap();
        all.extend(rows);
        if step % 10 == 0 {
            disk.write(&store.save().unwrap());
        }
    }
    let runs = store.save().unwrap();
    assert_eq!(held(&store), all);
    assert_eq!(held(&restored(&runs, false)), all);
    assert_eq!(ids(&restored(&runs, false).save().unwrap()), ids(&runs));
    assert!(
        disk.rows < 6 * all.len(),
        "{} rows written for {}",
        disk.rows,
        all.len()
    );
    assert!(runs.len() < 100, "{} runs", runs.len());
}

/// Applies random changes to about 500 rows, saves now and then, and returns the expected rows and the
/// number of changes.
fn churn(store: &mut Store, steps: usize, disk: &mut Disk) -> (Vec<i64>, usize) {
    let mut random = StdRng::seed_from_u64(2);
    let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
    let mut changes = 0;
    for step in 0..steps {
        let mut rows = Vec::new();
        for _ in 0..random.random_range(1..200) {
            let row = random.random_range(0..500);
            let count = counts.entry(row).or_default();
            let diff = if *count > 0 && random.random_bool(0.6) {
                -1
            } else {
                1
            };
            *count += i64::from(diff);
            rows.push((row, diff));
        }
        changes += rows.len();
        store.apply(&changing(&rows)).unwrap();
        if step % 10 == 0 {
            disk.write(&store.save().unwrap());
        }
    }
    let rows = counts.into_iter();
    let rows = rows.flat_map(|(row, count)| std::iter::repeat_n(row, count as usize));
    (rows.collect(), changes)
}

/// Waits until a compaction that runs has finished.
fn settle(store: &mut Store) {
    let Store::Changing(changing) = store else {
        return;
    };
    let finished = |changing: &Changing| {
        let compaction = changing.change_log.as_ref()?.compaction.as_ref()?;
        Some(compaction.sum.is_finished())
    };
    while finished(changing) == Some(false) {
        std::thread::yield_now();
    }
}

#[test]
fn changes_are_saved_as_they_come() {
    let mut store = Store::new(schema(), true).unwrap();
    assert!(store.save().unwrap().is_empty());
    let mut disk = Disk::default();
    let (expected, changes) = churn(&mut store, 100, &mut disk);
    let runs = store.save().unwrap();
    assert_eq!(sorted(held(&store)), expected);
    assert_eq!(sorted(held(&restored(&runs, true))), expected);
    assert_eq!(ids(&store.save().unwrap()), ids(&runs));
    assert_eq!(ids(&restored(&runs, true).save().unwrap()), ids(&runs));
    assert!(
        disk.rows < 4 * changes,
        "{} rows written for {changes}",
        disk.rows
    );
}

#[test]
fn a_long_change_log_is_compacted() {
    let mut store = Store::new(schema(), true).unwrap();
    store.save().unwrap();
    let (expected, changes) = churn(&mut store, 4_000, &mut Disk::default());
    assert!(changes > 2 * MAX_CHANGE_LOG);
    // The first save starts a compaction if none runs, the second finishes it.
    for _ in 0..2 {
        store.save().unwrap();
        settle(&mut store);
    }
    let runs = store.save().unwrap();
    assert!(
        count(&runs) <= MAX_CHANGE_LOG + 2 * 500,
        "{} rows",
        count(&runs)
    );
    assert_eq!(sorted(held(&store)), expected);
    let mut reopened = restored(&runs, true);
    assert_eq!(sorted(held(&reopened)), expected);
    reopened.apply(&changing(&[(1_000, 1)])).unwrap();
    assert_eq!(sorted(held(&reopened)).last(), Some(&1_000));
}

#[test]
fn a_change_log_is_bounded_between_two_saves() {
    let mut store = Store::new(schema(), true).unwrap();
    store.save().unwrap();
    let change: Vec<_> = (0..10_000).flat_map(|row| [(row, -1), (row, 1)]).collect();
    let change = changing(&change);
    store
        .apply(&changing(
            &(0..10_000).map(|row| (row, 1)).collect::<Vec<_>>(),
        ))
        .unwrap();
    let most = MAX_BEHIND * (2 * 10_000 + MAX_CHANGE_LOG) + change.num_rows();
    for _ in 0..200 {
        store.apply(&change).unwrap();
        let Store::Changing(changing) = &store else {
            unreachable!("it was made so")
        };
        let change_log = changing.change_log.as_ref().unwrap();
        let length: usize = change_log.batches.rows().map(RecordBatch::num_rows).sum();
        assert_eq!(length, change_log.length);
        assert!(length <= most, "{length} rows");
    }
    let reopened = restored(&store.save().unwrap(), true);
    assert_eq!(sorted(held(&reopened)), (0..10_000).collect::<Vec<_>>());
}

#[test]
fn changes_during_a_compaction_are_kept() {
    let mut store = Store::new(schema(), true).unwrap();
    store.save().unwrap();
    let back_and_forth: Vec<_> = (0..MAX_CHANGE_LOG as i64)
        .flat_map(|row| [(row, 1), (row, -1)])
        .collect();
    store.apply(&changing(&back_and_forth)).unwrap();
    store.save().unwrap();
    for row in 0..100 {
        store.apply(&changing(&[(row, 1)])).unwrap();
    }
    settle(&mut store);
    let runs = store.save().unwrap();
    assert_eq!(
        count(&runs),
        100,
        "the sum of what came and went is nothing"
    );
    assert_eq!(
        sorted(held(&restored(&runs, true))),
        (0..100).collect::<Vec<_>>()
    );
}

#[test]
fn a_view_that_was_never_saved_is_saved_whole() {
    let mut store = Store::new(schema(), true).unwrap();
    store
        .apply(&changing(&[(1, 1), (2, 1), (2, 1), (3, 1), (3, -1)]))
        .unwrap();
    let runs = store.save().unwrap();
    assert_eq!(count(&runs), 2, "each row with its count");
    assert_eq!(sorted(held(&restored(&runs, true))), [1, 2, 2]);
}
