//! What a checkpoint costs the worker: the time to save stages of 200,000 groups, and the steps around it.
//!
//! One worker runs a GROUP BY of `COUNT(*)` and `SUM(v)`: TUMBLE and HOP of 10 s, SESSION with a gap
//! of 2 s, and without a window; a number as the key, and a text. 25 seconds of event time pass in
//! steps of 1,000 rows, 500 steps a second, and each row is of any of the groups. Once without
//! checkpoints, once with one for each second of event time; nothing is written.
//!
//! A line has the time of saving (median and worst), the time of steps (median, the 99th and 99.9th of
//! 100, worst) and the average number of rows that a checkpoint writes. The steps that
//! close a window are among the worst, with checkpoints or without.
//!
//! Run: `cargo bench -p headwater --bench checkpoint_stage [-- NAME]`; `HEADWATER_BENCH_GROUPS`
//! (default 200,000) and `HEADWATER_BENCH_SECONDS` (default 25) set its size.

// The stages have no public door, so the bench is built from their source; it uses some of it. Cargo
// builds it with `cfg(test)`: nothing but tests may hang on that.
#[allow(dead_code, unused_imports)]
#[path = "../src/batch_bytes.rs"]
mod batch_bytes;
#[allow(dead_code, unused_imports)]
#[path = "../src/dataflow/mod.rs"]
mod dataflow;
#[allow(dead_code)]
#[path = "../src/time_zone/mod.rs"]
mod time_zone;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use dataflow::{
    Aggregate, Built, EventTime, Grouping, KeyedSpec, OnError, OpenWindows, OutputColumn, Plan,
    PlanNode, QueryErrors, QueryFailure, SessionSpec, StreamElement, Watermark, WindowSlots,
    WindowSpec, build,
};
use datafusion::functions_aggregate::{count, min_max, sum};
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::col;

const SECOND: i64 = 1_000_000;
const STEPS_A_SECOND: i64 = 500;
const ROWS_A_STEP: usize = 1_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn schema(key: &DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", key.clone(), false),
        Field::new("v", DataType::Int64, false),
        Field::new("ts", time_type(), false),
    ]))
}

fn aggregate(function: Arc<AggregateUDF>, column: &str, schema: &SchemaRef) -> Aggregate {
    let argument = col(column, schema).expect("a column");
    let builder = AggregateExprBuilder::new(function, vec![argument]);
    let builder = builder.schema(Arc::clone(schema)).alias(column);
    Aggregate {
        function: Arc::new(builder.build().expect("an aggregate")),
        filter: None,
    }
}

/// `k, COUNT(*), SUM(v)`, and for sessions the first and last event time.
fn grouping(schema: &SchemaRef, session: bool) -> Arc<Grouping> {
    let mut aggregates = vec![
        aggregate(count::count_udaf(), "v", schema),
        aggregate(sum::sum_udaf(), "v", schema),
    ];
    if session {
        aggregates.push(aggregate(min_max::min_udaf(), "ts", schema));
        aggregates.push(aggregate(min_max::max_udaf(), "ts", schema));
    }
    let keys = vec![col("k", schema).expect("a column")];
    let fields = vec![Arc::new(schema.field(0).clone())];
    Grouping::new(schema, keys, fields, aggregates).expect("a grouping")
}

fn plan(name: &str, key: &DataType) -> Plan {
    let schema = schema(key);
    let from = Box::new(PlanNode::Input { input: 0 });
    let grouping = grouping(&schema, name == "session");
    let output = vec![
        OutputColumn::Key(0),
        OutputColumn::Aggregate(0),
        OutputColumn::Aggregate(1),
    ];
    let result = Arc::new(Schema::new(vec![
        schema.field(0).clone(),
        Field::new("n", DataType::Int64, true),
        Field::new("total", DataType::Int64, true),
    ]));
    let time = EventTime {
        expr: col("ts", &schema).expect("a column"),
        data_type: time_type(),
        lag_us: 0,
    };
    let root = match name {
        "keyed" => PlanNode::Keyed {
            from,
            spec: Arc::new(KeyedSpec {
                grouping,
                output,
                schema: Arc::clone(&result),
                total: None,
            }),
        },
        "session" => PlanNode::Session {
            from,
            spec: Arc::new(SessionSpec {
                stage: 0,
                time,
                gap: 2 * SECOND,
                grouping,
                output,
                schema: Arc::clone(&result),
            }),
        },
        name => PlanNode::Window {
            from,
            spec: Arc::new(WindowSpec {
                stage: 0,
                time,
                slots: WindowSlots {
                    size: 10 * SECOND,
                    slide: if name == "hop" { 2 } else { 10 } * SECOND,
                    offset: 0,
                    days: None,
                },
                grouping,
                output,
                schema: Arc::clone(&result),
            }),
        },
    };
    Plan {
        metadata_columns: Vec::new(),
        root,
        schema: result,
        changes: name == "keyed",
        late: vec![schema],
    }
}

/// Numbers that look random and are the same each time (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % sides
    }
}

fn rows(dice: &mut Dice, key: &DataType, groups: u64, at: i64) -> RecordBatch {
    let keys = (0..ROWS_A_STEP).map(|_| dice.roll(groups));
    let keys: ArrayRef = match key {
        DataType::Utf8 => Arc::new(StringArray::from_iter_values(
            keys.map(|key| format!("group number {key}")),
        )),
        _ => Arc::new(Int64Array::from_iter_values(keys.map(|key| key as i64))),
    };
    let values = Int64Array::from_iter_values(0..ROWS_A_STEP as i64);
    let times = TimestampMicrosecondArray::from_value(at, ROWS_A_STEP);
    let columns: Vec<ArrayRef> = vec![keys, Arc::new(values), Arc::new(times)];
    RecordBatch::try_new(schema(key), columns).expect("columns of the schema")
}

/// How long each step and each save took, and how many rows saves had to write.
#[derive(Default)]
struct Times {
    steps: Vec<Duration>,
    saves: Vec<Duration>,
    written: usize,
}

fn measure(name: &'static str, key: DataType, groups: u64, seconds: u64, save: bool) -> Times {
    timely::execute_directly(move |timely| {
        let (plan, failure) = (plan(name, &key), QueryFailure::default());
        let errors = QueryErrors::new(failure.clone(), OnError::Fail, |_| "XX000");
        let mut built = timely
            .dataflow::<u64, _, _>(|scope| {
                build(scope, &plan, 1, 0, &errors, &OpenWindows::default())
            })
            .expect("a dataflow");
        let (mut times, mut dice, mut written) = (Times::default(), Dice(7), HashSet::new());
        for step in 0..seconds as i64 * STEPS_A_SECOND {
            let at_us = step * SECOND / STEPS_A_SECOND;
            let rows = rows(&mut dice, &key, groups, at_us);
            let start = Instant::now();
            run(timely, &mut built, rows, at_us, step as u64);
            times.steps.push(start.elapsed());
            if save && step % STEPS_A_SECOND == STEPS_A_SECOND - 1 {
                let start = Instant::now();
                let saved = built
                    .stages
                    .iter()
                    .map(|stage| stage.save().expect("a state"));
                let saved: Vec<_> = saved.collect();
                times.saves.push(start.elapsed());
                let runs = saved.iter().flat_map(|stage| &stage.runs);
                let new = runs.filter(|run| written.insert(run.id));
                times.written += new.map(|run| run.rows.num_rows()).sum::<usize>();
            }
        }
        assert_eq!(failure.until(u64::MAX - 1), None);
        times
    })
}

fn run(
    timely: &mut timely::worker::Worker,
    built: &mut Built,
    rows: RecordBatch,
    at_us: i64,
    epoch: u64,
) {
    let idle = false;
    built.inputs[0].send(StreamElement::rows(rows));
    built.inputs[0].send(StreamElement::Watermark(Watermark { at_us, idle }));
    built.inputs[0].advance_to(epoch + 1);
    while built.probe.less_equal(&epoch) {
        timely.step();
    }
    built.outlet.take(epoch);
}

/// The least of the times that `share` of all do not exceed, in milliseconds.
fn part(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let at = (times.len() as f64 * share) as usize;
    let time = times.get(at.min(times.len().saturating_sub(1)));
    time.map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

fn main() {
    let groups = setting("HEADWATER_BENCH_GROUPS", 200_000);
    let seconds = setting("HEADWATER_BENCH_SECONDS", 25);
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    println!("{groups} groups; ms");
    println!(
        "{:<26} {:>7} {:>7} | {:>7} {:>7} {:>7} {:>7} | {:>9}",
        "", "save", "worst", "step", "99", "99.9", "worst", "rows"
    );
    for name in ["tumble", "hop", "session", "keyed"] {
        if wanted
            .as_ref()
            .is_some_and(|wanted| !name.contains(wanted.as_str()))
        {
            continue;
        }
        for key in [DataType::Int64, DataType::Utf8] {
            for save in [false, true] {
                let mut times = measure(name, key.clone(), groups, seconds, save);
                let title = format!("{name}, {key}{}", if save { ", saved" } else { "" });
                let written = times.written / times.saves.len().max(1);
                let saves = [0.5, 1.0].map(|share| part(&mut times.saves, share));
                let steps = [0.5, 0.99, 0.999, 1.0].map(|share| part(&mut times.steps, share));
                println!(
                    "{title:<26} {:>7.2} {:>7.2} | {:>7.2} {:>7.2} {:>7.2} {:>7.2} | {written:>9}",
                    saves[0], saves[1], steps[0], steps[1], steps[2], steps[3]
                );
            }
        }
    }
}
