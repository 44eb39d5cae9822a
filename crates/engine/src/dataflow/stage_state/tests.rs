//! Queries interrupted by checkpoints and crashes, compared with the same queries left alone.
//!
//! Each test runs a plan over random steps, as timely dataflows on several workers. What was saved
//! goes through Arrow IPC, as it would through a file. With as many workers as before, the output must
//! be the same step by step, down to the order of rows, wherever checkpoints are and whether the query
//! continues from one; with another number of workers, the same in all.

mod plans;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::ipc::{reader::StreamReader, writer::StreamWriter};
use arrow::util::pretty::pretty_format_batches;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::dataflow::key_group::{KEY_GROUPS, owner};
use crate::dataflow::panes::{PaneKey, Panes};
use crate::dataflow::{
    Built, OnError, OpenWindows, Plan, QueryErrors, QueryFailure, StreamElement, build,
};
use plans::{aggregates, grouping, input_schema, inputs, plans};

const SECOND: i64 = 1_000_000;

/// How long a worker sleeps, at most, while it waits for its peers.
const PEER_WAIT: Duration = Duration::from_micros(100);

/// The input of one step: batches for the workers in turn, and the watermark.
#[derive(Debug, Clone)]
struct InputStep {
    number: usize,
    /// By the number of the input.
    batches: Vec<Vec<RecordBatch>>,
    watermark: Watermark,
}

/// The states by worker and stage.
type States = Vec<Vec<StageState>>;

/// The output of one step, as lines of text.
type Lines = Vec<String>;

/// Up to 60 rows around `now`, some of them late. Prices are multiples of `unit`.
fn rows(random: &mut StdRng, now: i64, unit: f64) -> RecordBatch {
    let count = random.random_range(0..60);
    let mut name = Vec::new();
    let mut number = Vec::new();
    let mut value = Vec::new();
    let mut price = Vec::new();
    let mut ts = Vec::new();
    for _ in 0..count {
        name.push(
            random
                .random_bool(0.9)
                .then(|| format!("name {}", random.random_range(0..12))),
        );
        number.push(random.random_range(0..6));
        value.push(
            random
                .random_bool(0.8)
                .then(|| random.random_range(-50..50)),
        );
        price.push(f64::from(random.random_range(-20..20)) * unit);
        let most = if random.random_bool(0.1) { 20 } else { 3 };
        let behind = random.random_range(0..most) * SECOND;
        ts.push(random.random_bool(0.98).then_some(now - behind));
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(name)),
        Arc::new(Int64Array::from(number)),
        Arc::new(Int64Array::from(value)),
        Arc::new(Float64Array::from(price)),
        Arc::new(TimestampMicrosecondArray::from(ts)),
    ];
    RecordBatch::try_new(input_schema(), columns).unwrap()
}

/// Prices are halves, which add up to the same in any order.
fn steps(seed: u64, inputs: usize) -> Vec<InputStep> {
    steps_of(seed, inputs, 0.5)
}

fn steps_of(seed: u64, inputs: usize, unit: f64) -> Vec<InputStep> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut now = 0;
    let mut steps: Vec<InputStep> = (0..60)
        .map(|number| {
            now += random.random_range(0..2 * SECOND);
            let batches = |random: &mut StdRng| {
                let count = random.random_range(0..4);
                (0..count).map(|_| rows(random, now, unit)).collect()
            };
            InputStep {
                number,
                batches: (0..inputs).map(|_| batches(&mut random)).collect(),
                watermark: Watermark {
                    at_us: now - 2 * SECOND,
                    idle: random.random_bool(0.1),
                },
            }
        })
        .collect();
    steps.push(InputStep {
        number: steps.len(),
        batches: vec![Vec::new(); inputs],
        watermark: Watermark::END,
    });
    steps
}

/// Runs `steps` on `workers`, from `states` if there are some, and saves after the steps for which
/// `saves` is true. Returns the output of each step, and the states at the end.
fn run(
    plan: &Plan,
    workers: usize,
    steps: &[InputStep],
    states: Option<&States>,
    saves: fn(usize) -> bool,
) -> (Vec<Lines>, States) {
    let (plan, steps, states) = (plan.clone(), steps.to_vec(), states.cloned());
    // The last worker, so that home differs from the first.
    let home = workers - 1;
    let out = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&out);
    let config = match workers {
        1 => timely::Config::thread(),
        several => timely::Config::process(several),
    };
    let guards = timely::execute(config, move |timely| {
        let share = Share {
            index: timely.index(),
            peers: timely.peers(),
        };
        let failure = QueryFailure::default();
        let errors = QueryErrors::new(failure.clone(), OnError::Fail, |_| "XX000");
        let inputs = inputs(&plan);
        let built = timely
            .dataflow::<u64, _, _>(|scope| {
                build(scope, &plan, inputs, home, &errors, &OpenWindows::default())
            })
            .unwrap();
        let mut running = built;
        if let Some(states) = &states {
            for (number, stage) in running.stages.iter().enumerate() {
                let of: Vec<_> = states.iter().map(|of| of[number].clone()).collect();
                stage.restore(&of, share).unwrap();
            }
        }
        for (epoch, step) in steps.iter().enumerate() {
            feed(&mut running, step, epoch as u64, share);
            while running.probe.less_equal(&(epoch as u64)) {
                timely.step_or_park(Some(PEER_WAIT));
            }
            assert_eq!(failure.until(epoch as u64), None);
            let lines = lines(running.outlet.take(epoch as u64));
            if share.index == home {
                collected.lock().unwrap().push(lines);
            }
            if saves(step.number) {
                running
                    .stages
                    .iter()
                    .for_each(|stage| drop(stage.save().unwrap()));
            }
        }
        let state = running.stages.iter().map(|stage| stage.save().unwrap());
        let state: Vec<StageState> = state.collect();
        drop(running);
        while timely.has_dataflows() {
            timely.step();
        }
        state
    });
    let states = guards
        .unwrap()
        .join()
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let out = std::mem::take(&mut *out.lock().unwrap());
    (out, states)
}

fn feed(built: &mut Built, step: &InputStep, epoch: u64, share: Share) {
    for (number, input) in built.inputs.iter_mut().enumerate() {
        for (turn, batch) in step.batches[number].iter().enumerate() {
            if (step.number + turn) % share.peers == share.index {
                input.send(StreamElement::rows(batch.clone()));
            }
        }
        // Not every input has a watermark in every step.
        let has_watermark =
            !(step.number + number).is_multiple_of(3) || step.watermark == Watermark::END;
        if share.index == number % share.peers && has_watermark {
            let watermark = match step.watermark {
                Watermark::END => Watermark::END,
                Watermark { at_us, idle } => Watermark {
                    at_us: at_us - 2 * SECOND * number as i64,
                    idle: idle && number == 1,
                },
            };
            input.send(StreamElement::Watermark(watermark));
        }
        input.advance_to(epoch + 1);
    }
}

/// The rows of elements; late ones are marked. And the watermarks.
fn lines(elements: Vec<StreamElement>) -> Lines {
    let mut lines = Vec::new();
    for element in elements {
        let (mark, rows) = match element {
            StreamElement::Rows(rows, _) => ("", rows),
            StreamElement::Late { rows, .. } => ("late", rows),
            StreamElement::Watermark(watermark) => {
                lines.push(format!("{watermark:?}"));
                continue;
            }
            StreamElement::Partial { .. } | StreamElement::Failed(_) | StreamElement::From(_) => {
                continue;
            }
        };
        let table = pretty_format_batches(&[rows]).unwrap().to_string();
        let rows = table.lines().filter(|line| line.starts_with('|')).skip(1);
        lines.extend(rows.map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            format!("{mark}{}", cells.join("|"))
        }));
    }
    lines
}

/// The lines of all rows, sorted, with the lists in them sorted too.
fn in_all(steps: &[Lines]) -> Lines {
    let sorted = |line: &String| match line.split_once('[') {
        Some((before, list)) => {
            let (list, after) = list.split_once(']').unwrap();
            let mut list: Vec<&str> = list.split(", ").collect();
            list.sort_unstable();
            format!("{before}{}{after}", list.join(" "))
        }
        None => line.clone(),
    };
    let rows = steps
        .iter()
        .flatten()
        .filter(|line| !line.starts_with("Watermark"));
    let mut lines: Lines = rows.map(sorted).collect();
    lines.sort();
    lines
}

/// The states after a round trip through Arrow IPC, as through a file.
fn through_ipc(states: &States) -> States {
    let run = |run: &Run| {
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, run.rows.schema_ref()).unwrap();
        writer.write(&run.rows).unwrap();
        writer.finish().unwrap();
        let mut reader = StreamReader::try_new(bytes.as_slice(), None).unwrap();
        run.with_rows(reader.next().unwrap().unwrap())
    };
    let state = |state: &StageState| StageState {
        facts: state.facts.clone(),
        runs: state.runs.iter().map(run).collect(),
    };
    let worker = |worker: &Vec<StageState>| worker.iter().map(state).collect();
    states.iter().map(worker).collect()
}

fn never(_step: usize) -> bool {
    false
}

fn now_and_then(step: usize) -> bool {
    step % 7 == 3 || step % 11 < 2
}

fn always(_step: usize) -> bool {
    true
}

fn ids(states: &States) -> Vec<Vec<u64>> {
    let stages = states.iter().flatten();
    let ids = stages.map(|stage| stage.runs.iter().map(|run| run.id).collect());
    ids.collect()
}

#[test]
fn saving_changes_nothing() {
    for (name, plan) in plans() {
        for workers in [1, 2] {
            let steps = steps(1, inputs(&plan));
            let (alone, _) = run(&plan, workers, &steps, None, never);
            assert!(
                in_all(&alone).len() > 100 || name.ends_with("no key"),
                "{name}"
            );
            for saves in [now_and_then, always] {
                let (saved, _) = run(&plan, workers, &steps, None, saves);
                for (step, (alone, saved)) in alone.iter().zip(&saved).enumerate() {
                    assert_eq!(alone, saved, "{name}, {workers} workers, step {step}");
                }
            }
        }
    }
}

#[test]
fn a_run_goes_on_where_another_ended() {
    for (name, plan) in plans() {
        for (workers, seed) in [(1, 2), (2, 3), (3, 4)] {
            let steps = steps(seed, inputs(&plan));
            let (alone, _) = run(&plan, workers, &steps, None, never);
            for end in [1, 20, 45] {
                let (before, states) = run(&plan, workers, &steps[..end], None, now_and_then);
                assert_eq!(alone[..end], before, "{name}, {workers} workers");
                let states = through_ipc(&states);
                let (after, _) = run(&plan, workers, &steps[end..], Some(&states), now_and_then);
                for (step, (alone, after)) in alone[end..].iter().zip(&after).enumerate() {
                    assert_eq!(
                        alone, after,
                        "{name}, {workers} workers, step {step} after {end}"
                    );
                }
            }
        }
    }
}

/// Tenths do not: to the last bit the same comes out if checkpoints cut the rows alike.
#[test]
fn doubles_add_up_to_the_same_after_the_same_checkpoints() {
    for (name, plan) in plans() {
        for workers in [1, 2] {
            let steps = steps_of(7, inputs(&plan), 0.1);
            let (alone, _) = run(&plan, workers, &steps, None, now_and_then);
            for last in [10, 24, 45] {
                assert!(now_and_then(last));
                let (before, after) = steps.split_at(last + 1);
                let (mut out, states) = run(&plan, workers, before, None, now_and_then);
                let states = through_ipc(&states);
                out.extend(run(&plan, workers, after, Some(&states), now_and_then).0);
                assert_eq!(alone, out, "{name}, {workers} workers, after {last}");
            }
        }
    }
}

#[test]
fn the_number_of_workers_may_change() {
    for (name, plan) in plans() {
        let steps = steps(5, inputs(&plan));
        let (alone, _) = run(&plan, 1, &steps, None, never);
        for [first, second] in [[1, 2], [2, 1], [3, 2], [2, 3]] {
            let (mut out, states) = run(&plan, first, &steps[..25], None, now_and_then);
            let states = through_ipc(&states);
            let (after, states) = run(&plan, second, &steps[25..40], Some(&states), now_and_then);
            out.extend(after);
            let states = through_ipc(&states);
            let (after, _) = run(&plan, first, &steps[40..], Some(&states), never);
            out.extend(after);
            assert_eq!(
                in_all(&alone),
                in_all(&out),
                "{name}, {first} to {second} workers"
            );
        }
    }
}

#[test]
fn what_was_saved_keeps_its_ids() {
    for (name, plan) in plans() {
        for workers in [1, 2] {
            let steps = steps(6, inputs(&plan));
            let (_, states) = run(&plan, workers, &steps[..30], None, now_and_then);
            assert!(
                states.iter().flatten().any(|stage| !stage.runs.is_empty()),
                "{name}"
            );
            let (_, again) = run(&plan, workers, &[], Some(&states), never);
            assert_eq!(ids(&states), ids(&again), "{name}, {workers} workers");
        }
    }
}

/// An older version saved sums of integers in fewer bits.
#[test]
fn a_state_of_narrower_columns_is_widened() {
    let grouping = grouping(&["name"], aggregates(&input_schema()));
    let mut panes = Panes::new(&grouping, false);
    let rows = rows(&mut StdRng::seed_from_u64(4), 0, 0.5);
    panes
        .at(PaneKey::whole(0))
        .unwrap()
        .live
        .update(&rows)
        .unwrap();
    let run = panes
        .at(PaneKey::whole(0))
        .unwrap()
        .whole(&grouping)
        .unwrap()
        .unwrap()
        .clone();
    assert_eq!(grouping.upgraded(&run).unwrap().id, run.id);
    let narrow = |column: &ArrayRef| match column.data_type() {
        DataType::Int64 => cast(column, &DataType::Int16).unwrap(),
        _ => Arc::clone(column),
    };
    let columns: Vec<ArrayRef> = run.rows.columns().iter().map(narrow).collect();
    let names = (0..columns.len()).map(|number| number.to_string());
    let old = RecordBatch::try_from_iter(names.zip(columns)).unwrap();
    assert_ne!(old.columns(), run.rows.columns());
    let restored = Share { index: 0, peers: 1 }.cut_all(&[Run::new(0, old.clone())], &grouping);
    assert_eq!(restored.unwrap()[0].rows, run.rows);
    let fewer = Run::new(0, old.project(&[0]).unwrap());
    assert!(grouping.upgraded(&fewer).is_err());
}

/// To the last bit and in the same order, whether the runs of a pane are folded early, a few rows at
/// a time, or all at the end.
#[test]
fn how_far_a_fold_has_come_does_not_show() {
    let grouping = grouping(&["name", "number"], aggregates(&input_schema()));
    for ends_as_groups in [true, false] {
        let mut random = StdRng::seed_from_u64(8);
        let mut early = Panes::new(&grouping, ends_as_groups);
        let mut late = Panes::new(&grouping, ends_as_groups);
        let mut fewer = 0;
        for _ in 0..200 {
            let rows = rows(&mut random, 0, 0.1);
            let saves = random.random_bool(0.3);
            let mut runs = [0; 2];
            for (panes, runs) in [&mut early, &mut late].into_iter().zip(&mut runs) {
                panes
                    .at(PaneKey::whole(0))
                    .unwrap()
                    .live
                    .update(&rows)
                    .unwrap();
                if saves {
                    let mut state = StageState::default();
                    panes.save(&mut state).unwrap();
                    *runs = state.runs.len();
                }
            }
            early.fold(random.random_range(0..120)).unwrap();
            fewer += usize::from(runs[0] < runs[1]);
        }
        assert!(fewer > 0, "no run was put in the place of others");
        let all = |mut panes: Panes| {
            let mut pane = panes.remove(PaneKey::whole(0)).unwrap();
            if ends_as_groups {
                pane.into_groups(&grouping).unwrap().take_run().unwrap()
            } else {
                pane.whole(&grouping).unwrap().unwrap().rows.clone()
            }
        };
        assert_eq!(all(early), all(late));
    }
}

#[test]
fn key_groups_are_dealt_out_evenly() {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10_000));
    for peers in [1, 2, 3, 7, 256, 300] {
        assert_eq!(owner(0, peers), 0);
        assert!(owner(KEY_GROUPS - 1, peers) < peers);
        let mut rows = vec![0usize; peers];
        for owner in owners(std::slice::from_ref(&keys), 10_000, peers).unwrap() {
            rows[owner] += 1;
        }
        if peers < 8 {
            let fair = 10_000 / peers;
            assert!(
                rows.iter().all(|rows| rows.abs_diff(fair) < fair / 5),
                "{rows:?}"
            );
        }
    }
}

#[test]
fn a_cut_is_made_only_where_it_must() {
    let rows = rows(&mut StdRng::seed_from_u64(9), 0, 1.0);
    let run = Run::new(5, rows);
    let keys = [Arc::clone(run.rows.column(1))];
    let all = Share { index: 0, peers: 1 }
        .cut(&run, &keys)
        .unwrap()
        .unwrap();
    assert_eq!((all.id, all.slot), (run.id, 5));
    let parts = [0, 1].map(|index| Share { index, peers: 2 }.cut(&run, &keys).unwrap());
    let parts: Vec<Run> = parts.into_iter().flatten().collect();
    assert_eq!(
        parts.iter().map(|it| it.rows.num_rows()).sum::<usize>(),
        run.rows.num_rows()
    );
    assert!(parts.len() == 2 && parts.iter().all(|part| part.id != run.id && part.slot == 5));
}
