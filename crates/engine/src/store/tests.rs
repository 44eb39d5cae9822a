//! Views beside the same rows counted by hand.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{Array, AsArray, Int8Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::dataflow::DIFF_COLUMN;

/// The key, which may be NULL, and a number.
type Row = (Option<i64>, i64);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, true),
        Field::new("n", DataType::Int64, false),
    ]))
}

/// The rows: the number, its text unless it divides by 3, and a value that follows from it.
fn columns(rows: &[Row]) -> Vec<ArrayRef> {
    let texts = rows.iter().map(|(key, _)| {
        let key = key.filter(|key| key % 3 != 0);
        key.map(|key| key.to_string())
    });
    vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
        Arc::new(texts.collect::<StringArray>()),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
    ]
}

fn plain(keys: &[i64]) -> Vec<Row> {
    keys.iter().map(|key| (Some(*key), 0)).collect()
}

fn appended(rows: &[Row]) -> RecordBatch {
    RecordBatch::try_new(schema(), columns(rows)).unwrap()
}

fn changing(rows: &[(Row, i8)]) -> RecordBatch {
    let (rows, diffs): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
    let mut columns = columns(&rows);
    columns.push(Arc::new(Int8Array::from(diffs)));
    RecordBatch::try_new(with_diff(&schema()), columns).unwrap()
}

fn rows_of(version: &ViewVersion) -> Vec<Row> {
    let batches = version.published().unwrap();
    let rows = batches.iter().flat_map(|batch| {
        let key = batch.column(0).as_primitive::<Int64Type>();
        let text = batch.column(1).as_string::<i32>();
        let number = batch.column(2).as_primitive::<Int64Type>();
        for (row, key) in key.iter().enumerate() {
            let expected = key.filter(|key| key % 3 != 0).map(|key| key.to_string());
            assert_eq!(
                text.is_valid(row).then(|| text.value(row).to_owned()),
                expected
            );
        }
        key.iter().zip(number.values().to_vec()).collect::<Vec<_>>()
    });
    rows.collect()
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_unstable();
    rows
}

fn held(store: &Store) -> Vec<Row> {
    sorted(rows_of(&store.version()))
}

fn save(store: &Store) -> Vec<Run> {
    store.version().to_runs().unwrap()
}

/// The number of rows in pages, those that are not alive too.
fn kept(version: &ViewVersion) -> usize {
    version.pages().map(Page::len).sum()
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

const KEY: Option<&[usize]> = Some(&[0]);

fn restored(runs: &[Run], changes: bool, key: Option<&[usize]>) -> Store {
    let mut store = Store::new(schema(), changes, key).unwrap();
    store.restore(runs).unwrap();
    store
}

fn ids(runs: &[Run]) -> Vec<u64> {
    runs.iter().map(|run| run.id).collect()
}

#[test]
fn rows_that_only_appear_are_written_a_few_times() {
    let mut store = Store::new(schema(), false, None).unwrap();
    let mut disk = Disk::default();
    let mut random = StdRng::seed_from_u64(1);
    let mut all = Vec::new();
    for step in 0..10_000 {
        let most = if step % 1_000 == 0 { 2 * FULL } else { 9 };
        let rows: Vec<Row> = (0..random.random_range(1..=most))
            .map(|_| (Some(random.random_range(0..99)), step))
            .collect();
        store.apply(&[appended(&rows)]).unwrap();
        all.extend(rows);
        if step % 10 == 0 {
            disk.write(&save(&store));
        }
    }
    let runs = save(&store);
    assert_eq!(rows_of(&store.version()), all, "in their order");
    let mut reopened = restored(&runs, false, None);
    assert_eq!(rows_of(&reopened.version()), all);
    assert_eq!(ids(&save(&reopened)), ids(&runs));
    reopened.apply(&[appended(&plain(&[7]))]).unwrap();
    assert_eq!(rows_of(&reopened.version()).len(), all.len() + 1);
    assert!(
        disk.rows < 6 * all.len(),
        "{} rows for {}",
        disk.rows,
        all.len()
    );
    assert!(runs.len() < 100, "{} runs", runs.len());
}

#[test]
fn pages_are_bounded_in_bytes() {
    let text = "x".repeat(1 << 20);
    let schema = Arc::new(Schema::new(vec![Field::new("b", DataType::Utf8, true)]));
    let columns =
        || -> Vec<ArrayRef> { vec![Arc::new(StringArray::from(vec![text.as_str(); 20]))] };
    let mut store = Store::new(Arc::clone(&schema), false, None).unwrap();
    for _ in 0..20 {
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns()).unwrap();
        store.apply(&[batch]).unwrap();
    }
    assert_eq!(store.version().pages().count(), 20);
    let mut store = Store::new(Arc::clone(&schema), true, None).unwrap();
    for _ in 0..20 {
        let mut columns = columns();
        columns.push(Arc::new(Int8Array::from(vec![1; 20])));
        let batch = RecordBatch::try_new(with_diff(&schema), columns).unwrap();
        store.apply(&[batch]).unwrap();
    }
    assert!(
        store
            .version()
            .pages()
            .all(|page| page.bytes() <= 2 * FULL_BYTES)
    );
    assert_eq!(store.version().published().unwrap()[0].num_rows(), 400);
}

/// A view that is changed at random, and what it must have.
struct Model {
    store: Store,
    random: StdRng,
    /// Of each row how often it is there; with a key, that is once.
    counts: BTreeMap<Row, i64>,
    key: Option<&'static [usize]>,
    changes: usize,
}

impl Model {
    fn new(seed: u64, key: Option<&'static [usize]>) -> Self {
        Self {
            store: Store::new(schema(), true, key).unwrap(),
            random: StdRng::seed_from_u64(seed),
            counts: BTreeMap::new(),
            key,
            changes: 0,
        }
    }

    /// A step that changes up to `most` of `all` keys, in batches of any order.
    fn step(&mut self, all: i64, most: usize) {
        let mut rows: Vec<(Row, i8)> = Vec::new();
        let mut touched = HashSet::new();
        for _ in 0..self.random.random_range(1..=most) {
            let key = Some(self.random.random_range(0..all)).filter(|key| *key > 0);
            let value = self.random.random_range(0..4);
            if self.key.is_none() {
                self.add((key, value), &mut rows);
            } else if touched.insert(key) {
                let known = self.counts.range((key, i64::MIN)..=(key, i64::MAX)).next();
                let known = known.map(|(row, _)| *row);
                rows.extend(known.map(|row| (row, -1)));
                if let Some(row) = known {
                    self.counts.remove(&row);
                }
                if known.is_none() || self.random.random_bool(0.8) {
                    self.counts.insert((key, value), 1);
                    rows.push(((key, value), 1));
                }
            }
        }
        self.changes += rows.len();
        for row in 1..rows.len() {
            rows.swap(row, self.random.random_range(0..=row));
        }
        let batches: Vec<_> = rows
            .chunks(rows.len().div_ceil(3).max(1))
            .map(changing)
            .collect();
        self.store.apply(&batches).unwrap();
    }

    fn add(&mut self, row: Row, rows: &mut Vec<(Row, i8)>) {
        let count = self.counts.entry(row).or_default();
        let diff = if *count > 0 && self.random.random_bool(0.6) {
            -1
        } else {
            1
        };
        *count += i64::from(diff);
        rows.push((row, diff));
    }

    fn expected(&self) -> Vec<Row> {
        let rows = self.counts.iter();
        let rows = rows.flat_map(|(row, count)| std::iter::repeat_n(*row, *count as usize));
        rows.collect()
    }

    fn check(&self) {
        let version = self.store.version();
        assert_eq!(held(&self.store), self.expected());
        let live: usize = version.pages().map(Page::live).sum();
        assert_eq!(live, version.len());
        let (pages, rows) = (version.pages().count(), kept(&version));
        assert!(rows <= 2 * live + 65_536 + 20_000, "{rows} rows of {live}");
        assert!(
            pages <= 64 + 2 * live / (FULL / 2) + 32,
            "{pages} pages of {live} rows"
        );
    }
}

#[test]
fn a_view_is_what_was_added_and_not_removed() {
    for (seed, key) in [(2, KEY), (3, None)] {
        for (all, most, steps) in [(1, 3, 200), (500, 200, 300), (30_000, 10_000, 12)] {
            let mut model = Model::new(seed, key);
            for step in 0..steps {
                model.step(all, most);
                if step % 50 == 0 {
                    model.check();
                }
            }
            model.check();
        }
    }
}

#[test]
fn a_version_stays_as_it_was() {
    for key in [KEY, None] {
        let mut model = Model::new(4, key);
        let mut versions = Vec::new();
        for step in 0..400 {
            model.step(3_000, 300);
            if step % 40 == 0 {
                versions.push((model.store.version(), model.expected()));
            }
        }
        for (version, expected) in versions {
            assert_eq!(sorted(rows_of(&version)), expected);
        }
    }
}

#[test]
fn a_view_that_nobody_reads_is_changed_in_place() {
    let mut model = Model::new(5, KEY);
    model.step(20_000, 20_000);
    let address = Arc::as_ptr(&model.store.version());
    for _ in 0..10 {
        model.step(20_000, 100);
    }
    assert_eq!(Arc::as_ptr(&model.store.version()), address);
}

#[test]
fn a_step_writes_about_what_it_changes() {
    for (all, most, steps) in [(3_000, 3, 1_000), (30_000, 1_000, 60)] {
        let mut model = Model::new(6, KEY);
        model.step(all, 2 * all as usize);
        let mut before: HashSet<u64> = ids(&save(&model.store)).into_iter().collect();
        let (mut written, begun) = (0, model.changes);
        for _ in 0..steps {
            let changes = model.changes;
            model.step(all, most);
            let changes = model.changes - changes;
            let version = model.store.version();
            let new = version
                .pages()
                .filter(|page| !before.contains(&page.run().id));
            let new: usize = new.map(Page::len).sum();
            assert!(
                new <= 2 * FULL + 4 * changes,
                "{new} rows for {changes} changes"
            );
            written += new;
            before = version.pages().map(|page| page.run().id).collect();
        }
        let changes = model.changes - begun;
        assert!(
            written <= 40 * changes,
            "{written} rows for {changes} changes"
        );
        model.check();
    }
}

#[test]
fn a_changed_view_is_saved_as_what_has_changed() {
    for key in [KEY, None] {
        let mut model = Model::new(7, key);
        assert!(save(&model.store).is_empty());
        let mut disk = Disk::default();
        for _ in 0..30 {
            model.step(20_000, 2_000);
            disk.write(&save(&model.store));
        }
        let runs = save(&model.store);
        assert_eq!(ids(&save(&model.store)), ids(&runs), "nothing has changed");
        let saved = disk.rows;
        assert!(
            saved < 4 * model.changes,
            "{saved} rows for {}",
            model.changes
        );
        let reopened = restored(&runs, true, key);
        assert_eq!(held(&reopened), model.expected());
        assert_eq!(ids(&save(&reopened)), ids(&runs));
        model.store = reopened;
        for _ in 0..30 {
            model.step(20_000, 2_000);
        }
        model.check();
    }
}

#[test]
fn a_log_of_changes_of_an_older_build_is_restored() {
    let counts = [3, 1, 1, -1, -2, 1];
    let keys = [1, 2, 3, 2, 1, 2];
    let mut columns = columns(&plain(&keys));
    columns.push(Arc::new(Int64Array::from_iter_values(counts)));
    let mut fields = schema().fields().to_vec();
    fields.push(Arc::new(Field::new(DIFF_COLUMN, DataType::Int64, false)));
    let log = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let runs = [Run::new(0, log.slice(0, 2)), Run::new(0, log.slice(2, 4))];
    for key in [KEY, None] {
        let mut store = restored(&runs, true, key);
        assert_eq!(held(&store), plain(&[1, 2, 3]));
        store.apply(&[changing(&[((Some(2), 0), -1)])]).unwrap();
        assert_eq!(held(&restored(&save(&store), true, key)), plain(&[1, 3]));
    }
}

#[test]
fn runs_of_another_view_are_refused() {
    let mut model = Model::new(8, KEY);
    model.step(100, 100);
    model.step(100, 100);
    let runs = save(&model.store);
    let mut other = Store::new(Arc::new(schema().project(&[0]).unwrap()), true, None).unwrap();
    assert!(other.restore(&runs).is_err());
    let mut same = Store::new(schema(), true, KEY).unwrap();
    let (bitmaps, pages) = runs.split_last().unwrap();
    assert!(bitmaps.rows.num_rows() > 0);
    assert!(
        same.restore(&[&pages[1..], std::slice::from_ref(bitmaps)].concat())
            .is_err()
    );
}

#[test]
fn a_row_that_is_not_there_cannot_disappear() {
    for key in [KEY, None] {
        let mut store = Store::new(schema(), true, key).unwrap();
        store.apply(&[changing(&[((Some(1), 0), 1)])]).unwrap();
        let wrong = changing(&[((Some(1), 0), -1), ((Some(5), 0), 1), ((Some(2), 0), -1)]);
        let error = store.apply(&[wrong]).unwrap_err();
        assert!(
            error.strip_backtrace().contains("has 0 rows changes by -1"),
            "{error}"
        );
        assert_eq!(held(&store), plain(&[1]), "as before the step");
        store.apply(&[changing(&[((Some(1), 0), -1)])]).unwrap();
        assert!(held(&store).is_empty());
    }
}

#[test]
fn a_view_without_key_columns_has_one_row() {
    let mut store = Store::new(schema(), true, Some(&[])).unwrap();
    for step in 0..100 {
        let gone = (step > 0).then_some(((Some(1), step - 1), -1));
        let rows: Vec<_> = gone.into_iter().chain([((Some(1), step), 1)]).collect();
        store.apply(&[changing(&rows)]).unwrap();
        assert_eq!(held(&store), [(Some(1), step)]);
        assert_eq!(rows_of(&store.look_up(&[]).unwrap()), [(Some(1), step)]);
    }
    assert!(kept(&store.version()) <= 64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn looking_up_keys_is_scanning_for_them(
        seed in any::<u64>(),
        all in 1..400_i64,
        wanted in prop::collection::vec(prop::option::of(-3..400_i64), 0..20),
    ) {
        let mut model = Model::new(seed, KEY);
        for _ in 0..20 {
            model.step(all, 100);
        }
        let keys: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(wanted.clone()))];
        let found = rows_of(&model.store.look_up(&keys).unwrap());
        let mut expected = held(&model.store);
        expected.retain(|row| wanted.contains(&row.0));
        prop_assert_eq!(sorted(found), expected);
    }
}
