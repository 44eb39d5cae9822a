//! The same logs, cut into steps in many ways, on 1, 2 and 4 workers: the same results, late rows
//! included.
//!
//! `HEADWATER_CUTS=1000` sets the number of cuts, `HEADWATER_CUTS_SEED` the seed of the first.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::array::{TimestampMicrosecondArray, types::Int8Type};
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::Event;
use crate::dataflow::{DIFF_COLUMN, FrontierEvent, FrontierMoves, LaneMarks, NO_LANE, Watermark};
use crate::db::Db;
use crate::durable::{Replayed, SourceStep, WalRecordCodec};
use crate::subscription::Subscription;
use crate::worker::WorkerCommand;

const SECOND: i64 = 1_000_000;
const DELAY_US: i64 = 3 * SECOND;
const SOURCES: usize = 3;

/// What each query reads is a `$` in front of the number of a source.
const QUERIES: [(&str, &str); 19] = [
    (
        "tumble",
        "SELECT k, window_start, COUNT(*) AS c, SUM(n) AS s, SUM(x) AS x, MIN(n) AS lo, MAX(x) AS hi, \
                MAX(k) AS mk, AVG(n) AS a FROM s0 GROUP BY k, TUMBLE(ts, INTERVAL '5 seconds')",
    ),
    (
        "hop",
        "SELECT k, window_start, window_end, COUNT(*) AS c, SUM(n) AS s, SUM(x) AS x, MIN(n) AS lo \
             FROM s0 GROUP BY k, HOP(ts, INTERVAL '2 seconds', INTERVAL '8 seconds')",
    ),
    (
        "sessions",
        "SELECT k, window_start, window_end, COUNT(*) AS c, SUM(n) AS s, SUM(x) AS x \
                  FROM s0 GROUP BY k, SESSION(ts, INTERVAL '4 seconds')",
    ),
    (
        "lists",
        "SELECT k, window_start, array_agg(n) AS a, first_value(n) AS f, last_value(x) AS l, \
                string_agg(CAST(n AS VARCHAR), ',') AS t FROM s0 GROUP BY k, TUMBLE(ts, INTERVAL '5 seconds')",
    ),
    (
        "hop_lists",
        "SELECT k, window_start, array_agg(n) AS a, last_value(x) AS l FROM s0 \
                GROUP BY k, HOP(ts, INTERVAL '2 seconds', INTERVAL '8 seconds')",
    ),
    ("kept", "SELECT k, n, x, ts FROM s0 WHERE n % 3 <> 0"),
    (
        "session_lists",
        "SELECT k, window_start, array_agg(n ORDER BY ts, n) AS a, \
                first_value(x ORDER BY ts, x) AS f FROM kept GROUP BY k, SESSION(ts, INTERVAL '4 seconds')",
    ),
    (
        "kept_hop",
        "SELECT k, window_end, COUNT(*) AS c, SUM(n) AS s \
                  FROM kept GROUP BY k, HOP(ts, INTERVAL '1 second', INTERVAL '3 seconds')",
    ),
    (
        "kept_sessions",
        "SELECT k, window_start, COUNT(*) AS c, SUM(n) AS s \
                       FROM kept WHERE x < 8 GROUP BY k, SESSION(ts, INTERVAL '3 seconds')",
    ),
    (
        "chained",
        "SELECT window_start, COUNT(*) AS c, SUM(c) AS s \
                 FROM tumble GROUP BY TUMBLE(window_start, INTERVAL '20 seconds')",
    ),
    (
        "chained_hop",
        "SELECT window_start, window_end, COUNT(*) AS c, SUM(s) AS s \
                     FROM hop GROUP BY TUMBLE(window_end, INTERVAL '10 seconds')",
    ),
    (
        "chained_sessions",
        "SELECT k, window_start, COUNT(*) AS c, SUM(s) AS s \
                          FROM tumble GROUP BY k, SESSION(window_start, INTERVAL '9 seconds')",
    ),
    (
        "chained_time",
        "SELECT window_start, window_time, COUNT(*) AS c, SUM(s) AS s FROM \
                      (SELECT window_time AS at, SUM(n) AS s FROM s0 GROUP BY k, TUMBLE(ts, INTERVAL '5 seconds')) AS w \
                      GROUP BY TUMBLE(at, INTERVAL '10 seconds')",
    ),
    (
        "moved_hop",
        "SELECT k, window_start, window_end, COUNT(*) AS c, SUM(n) AS s \
                   FROM s0 GROUP BY k, HOP(ts, INTERVAL '2 seconds', INTERVAL '8 seconds', INTERVAL '-700 milliseconds')",
    ),
    (
        "days",
        "SELECT k, window_start, COUNT(*) AS c, SUM(n) AS s FROM s0 GROUP BY k, TUMBLE(ts, INTERVAL '1 day', 'Europe/Berlin')",
    ),
    (
        "united",
        "SELECT k, n, x, ts FROM s0 UNION ALL SELECT k, n, x, ts FROM s1 WHERE n > 5 \
                UNION ALL SELECT k, n, x, ts FROM s2",
    ),
    (
        "united_tumble",
        "SELECT k, window_start, COUNT(*) AS c, SUM(n) AS s, SUM(x) AS x \
                       FROM united GROUP BY k, TUMBLE(ts, INTERVAL '5 seconds')",
    ),
    (
        "united_sessions",
        "SELECT k, window_start, window_end, COUNT(*) AS c, SUM(n) AS s \
                         FROM united GROUP BY k, SESSION(ts, INTERVAL '4 seconds')",
    ),
    (
        "totals",
        "SELECT k, COUNT(*) AS c, SUM(n) AS s, MAX(x) AS hi FROM united GROUP BY k",
    ),
];

#[derive(Debug, Clone)]
struct Row {
    k: Option<String>,
    n: i64,
    x: f64,
    ts: Option<i64>,
}

/// An entry of a source's log.
#[derive(Debug, Clone)]
enum Entry {
    Row(u32, Row),
    Moved(FrontierEvent),
}

/// The logs of all sources in one order: the number of the source, and its entry.
type Log = Vec<(usize, Entry)>;

fn log(random: &mut StdRng) -> Log {
    let mut log = Log::new();
    let sources = random.random_range(1..=SOURCES);
    let mut lanes: Vec<Vec<u32>> = vec![Vec::new(); sources];
    let mut base = [0; SOURCES];
    for _ in 0..random.random_range(60..220) {
        let source = random.random_range(0..sources);
        let lanes = &mut lanes[source];
        let lane = |random: &mut StdRng, lanes: &[u32]| lanes[random.random_range(0..lanes.len())];
        let entry = match random.random_range(0..100) {
            _ if lanes.is_empty() => join(lanes),
            0..4 if lanes.len() < 4 => join(lanes),
            4..7 => Entry::Moved(FrontierEvent::Idle(lane(random, lanes))),
            7..9 if lanes.len() > 1 => {
                let ended = lanes.remove(random.random_range(0..lanes.len()));
                Entry::Moved(FrontierEvent::Ended(ended))
            }
            9..10 => Entry::Moved(FrontierEvent::AtLeast(base[source] - 5 * SECOND)),
            10..12 => Entry::Row(NO_LANE, row(random, base[source])),
            _ => {
                base[source] += match random.random_range(0..40) {
                    0 => 15 * SECOND,
                    _ => random.random_range(0..SECOND),
                };
                Entry::Row(lane(random, lanes), row(random, base[source]))
            }
        };
        log.push((source, entry));
    }
    log
}

fn join(lanes: &mut Vec<u32>) -> Entry {
    // When the lane of the greatest number has ended, the next that joins gets its number.
    let lane = lanes.iter().max().map_or(0, |last| last + 1);
    lanes.push(lane);
    Entry::Moved(FrontierEvent::Joined(lane))
}

fn row(random: &mut StdRng, base: i64) -> Row {
    let behind = match random.random_range(0..4) {
        0 => random.random_range(0..12 * SECOND),
        _ => random.random_range(0..2 * SECOND),
    };
    let key = random.random_range(0..5);
    Row {
        k: (key > 0).then(|| "ab".repeat(key)),
        n: random.random_range(-20..20),
        // Sums of quarters are exact.
        x: f64::from(random.random_range(-40..40)) / 4.0,
        ts: (random.random_range(0..30) > 0).then_some(base - behind),
    }
}

/// The state of a source while its log is cut.
#[derive(Clone, Default)]
struct Source {
    marks: LaneMarks,
    watermark: Option<Watermark>,
    rows: u64,
}

impl Source {
    fn is_idle(&self) -> bool {
        !self.marks.lanes.is_empty() && self.marks.lanes.iter().all(|mark| mark.idle)
    }

    fn pass(&mut self, entry: &Entry) {
        match entry {
            Entry::Row(lane, row) => {
                let event = FrontierEvent::Rows {
                    lane: *lane,
                    count: 1,
                };
                self.marks.pass(event, row.ts.map(|ts| ts - DELAY_US));
            }
            Entry::Moved(event) => self.marks.pass(*event, None),
        }
    }
}

/// The places at which every cut has an end of a step: a source becomes idle behind all others' rows before
/// that, and comes back before all later ones.
fn fixed_cuts(log: &Log) -> Vec<bool> {
    let mut cut_before = vec![false; log.len() + 1];
    let mut sources = vec![Source::default(); SOURCES];
    for (at, (source, entry)) in log.iter().enumerate() {
        let was_idle = sources[*source].is_idle();
        sources[*source].pass(entry);
        match (was_idle, sources[*source].is_idle()) {
            (true, false) => cut_before[at] = true,
            (false, true) => cut_before[at + 1] = true,
            _ => {}
        }
    }
    cut_before
}

/// The steps of a log: for each source, what it takes.
fn steps(
    log: &Log,
    random: &mut StdRng,
    fixed: &[bool],
    schema: &SchemaRef,
) -> Vec<Vec<(usize, SourceStep)>> {
    let mut codec = WalRecordCodec::new(schema).unwrap();
    let chance = [0.01, 0.1, 0.5, 1.0][random.random_range(0..4)];
    let mut sources = vec![Source::default(); SOURCES];
    let (mut steps, mut from) = (Vec::new(), 0);
    for to in 1..=log.len() {
        if to < log.len() && !fixed[to] && !random.random_bool(chance) {
            continue;
        }
        let mut step = Vec::new();
        for (number, source) in sources.iter_mut().enumerate() {
            let entries = log[from..to].iter().filter(|(of, _)| *of == number);
            let entries: Vec<&Entry> = entries.map(|(_, entry)| entry).collect();
            if !entries.is_empty() {
                let taken = source.step(&entries, random, schema);
                let bytes = codec.encode(&taken).unwrap();
                let bytes = bytes.iter().flat_map(|part| part.iter().copied()).collect();
                let mut taken = codec.decode(bytes).unwrap();
                taken.locate(source.rows, 0);
                source.rows += taken.row_count() as u64;
                step.push((number, taken));
            }
        }
        steps.push(step);
        from = to;
    }
    steps
}

impl Source {
    fn step(&mut self, entries: &[&Entry], random: &mut StdRng, schema: &SchemaRef) -> SourceStep {
        let mut start = self.marks.clone();
        let (mut events, mut batches, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            self.pass(entry);
            match entry {
                Entry::Row(lane, row) => {
                    match events.last_mut() {
                        Some(FrontierEvent::Rows { lane: last, count }) if last == lane => {
                            *count += 1
                        }
                        _ => events.push(FrontierEvent::Rows {
                            lane: *lane,
                            count: 1,
                        }),
                    }
                    rows.push(row.clone());
                    if random.random_bool(0.2) {
                        batches.push(batch(&std::mem::take(&mut rows), schema));
                    }
                }
                Entry::Moved(event) => events.push(*event),
            }
        }
        if !rows.is_empty() {
            batches.push(batch(&rows, schema));
        }
        let watermark = Watermark {
            at_us: self.marks.at_us,
            idle: self.is_idle(),
        };
        let moved = self.watermark != Some(watermark);
        self.watermark = Some(watermark);
        start.narrow(&events);
        let moves = FrontierMoves {
            column: 3,
            delay_us: DELAY_US,
            start,
            events,
        };
        SourceStep {
            moves: (!batches.is_empty()).then(|| Arc::new(moves)),
            rows: batches,
            watermark: moved.then_some(watermark),
            ..SourceStep::default()
        }
    }
}

fn batch(rows: &[Row], schema: &SchemaRef) -> RecordBatch {
    let k: StringArray = rows.iter().map(|row| row.k.as_deref()).collect();
    let n: Int64Array = rows.iter().map(|row| Some(row.n)).collect();
    let x: Float64Array = rows.iter().map(|row| Some(row.x)).collect();
    let ts: TimestampMicrosecondArray = rows.iter().map(|row| row.ts).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(k), Arc::new(n), Arc::new(x), Arc::new(ts)];
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
}

/// The rows of a subscription without those that were taken back, in an order of their own.
struct Seen {
    rows: Subscription,
    net: BTreeMap<String, i64>,
}

impl Seen {
    fn take(&mut self) {
        while let Some(event) = self.rows.try_next().unwrap() {
            let Event::Rows(batch) = event else {
                panic!("{event:?}")
            };
            let options = FormatOptions::new().with_null("NULL");
            let fields = batch.schema();
            let shown = fields.fields().iter().zip(batch.columns());
            let shown = shown.filter(|(field, _)| field.name() != DIFF_COLUMN);
            let shown: Vec<_> = shown
                .map(|(_, column)| ArrayFormatter::try_new(column, &options).unwrap())
                .collect();
            let diffs = batch.column_by_name(DIFF_COLUMN);
            for row in 0..batch.num_rows() {
                let mut line = String::new();
                for column in &shown {
                    write!(line, "{}|", column.value(row)).unwrap();
                }
                let diff = diffs.map_or(1, |diffs| diffs.as_primitive::<Int8Type>().value(row));
                *self.net.entry(line).or_default() += i64::from(diff);
            }
        }
    }
}

type Results = BTreeMap<String, BTreeMap<String, i64>>;

fn results(log: &Log, seed: u64, workers: usize, fixed: &[bool]) -> Results {
    let random = &mut StdRng::seed_from_u64(seed);
    let db = Db::builder().workers(workers).in_memory().unwrap();
    for source in 0..SOURCES {
        let columns = "k VARCHAR, n BIGINT, x DOUBLE, ts TIMESTAMP";
        let time = "WATERMARK FOR ts AS ts - INTERVAL '3 seconds'";
        db.execute(&format!("CREATE SOURCE s{source} ({columns}, {time})"))
            .unwrap();
    }
    let mut seen = BTreeMap::new();
    for (name, query) in QUERIES {
        db.execute(&format!("CREATE STREAM {name} AS {query}"))
            .unwrap();
        for name in [name.to_owned(), format!("{name}__late")] {
            if let Ok(rows) = db.subscribe_batches(&name) {
                let net = BTreeMap::new();
                seen.insert(name, Seen { rows, net });
            }
        }
    }
    let topics: Vec<_> = (0..SOURCES)
        .map(|source| {
            Arc::clone(
                &db.engine
                    .catalog()
                    .source(&format!("s{source}"))
                    .unwrap()
                    .topic,
            )
        })
        .collect();
    let all = steps(log, random, fixed, &topics[0].relation.schema);
    let end = |source| {
        let watermark = Some(Watermark::END);
        (
            source,
            SourceStep {
                watermark,
                ..SourceStep::default()
            },
        )
    };
    let end: Vec<_> = (0..SOURCES).map(end).collect();
    for (number, step) in all.into_iter().chain([end]).enumerate() {
        let step = step.into_iter().map(|(source, taken)| Replayed {
            source: topics[source].id,
            taken,
            end: 0,
            sequence: number as u64 + 1,
        });
        let step = WorkerCommand::Replay(step.collect());
        db.engine.workers.command(step);
        if number % 64 == 63 {
            db.engine.workers.finish_turns().unwrap();
            seen.values_mut().for_each(Seen::take);
        }
    }
    db.engine.workers.finish_turns().unwrap();
    let net = seen.into_iter().map(|(name, mut seen)| {
        seen.take();
        seen.net.retain(|_, count| *count != 0);
        (name, seen.net)
    });
    net.collect()
}

fn number(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |set| set.parse().expect("a number"))
}

#[test]
fn results_do_not_depend_on_the_cut_of_the_log() {
    let (cuts, first) = (
        number("HEADWATER_CUTS", 24),
        number("HEADWATER_CUTS_SEED", 1),
    );
    let (mut rows, mut late) = (0, 0);
    for seed in (first..).take(cuts.div_ceil(8) as usize) {
        let log = log(&mut StdRng::seed_from_u64(seed));
        let fixed = fixed_cuts(&log);
        let every = vec![true; log.len() + 1];
        let expected = results(&log, seed, 1, &every);
        rows += expected["tumble"].len();
        late += expected
            .iter()
            .filter(|(name, _)| name.ends_with("__late"))
            .map(|(_, it)| it.len())
            .sum::<usize>();
        for cut in 0..8.min(cuts) {
            let workers = [1, 2, 4][((seed + cut) % 3) as usize];
            let found = results(&log, seed * 1_000 + cut, workers, &fixed);
            for (name, expected) in &expected {
                let found = &found[name];
                assert!(
                    found == expected,
                    "{name} with seed {seed}, cut {cut}, {workers} workers:\n{}",
                    difference(expected, found),
                );
            }
        }
    }
    println!("{cuts} cuts: different results 0; {rows} rows of tumble, {late} late rows");
    assert!(rows > 0 && late > 0);
}

fn difference(expected: &BTreeMap<String, i64>, found: &BTreeMap<String, i64>) -> String {
    let mut text = String::new();
    for (sign, one, other) in [("-", expected, found), ("+", found, expected)] {
        for (line, count) in one
            .iter()
            .filter(|(line, count)| other.get(*line) != Some(count))
        {
            writeln!(text, "{sign} {count} x {line}").unwrap();
        }
    }
    text
}

#[test]
fn rows_are_counted_or_late() {
    let log = log(&mut StdRng::seed_from_u64(99));
    let found = results(&log, 1, 2, &fixed_cuts(&log));
    let rows = log
        .iter()
        .filter(|(source, entry)| *source == 0 && matches!(entry, Entry::Row(..)));
    let count = |line: &str, column: usize| -> i64 {
        let text = line.split('|').nth(column).unwrap();
        text.parse().unwrap()
    };
    let counted: i64 = found["tumble"]
        .iter()
        .map(|(line, times)| count(line, 2) * times)
        .sum();
    let late: i64 = found["tumble__late"].values().sum();
    assert_eq!(counted + late, rows.count() as i64);
    assert!(late > 0);
}
