//! From JSON frames to window results: MB/s and rows a second, beside decoding alone by `arrow-json`.
//!
//! 10 million trades as JSON objects lie in memory. A connector of this bench hands them in frame by
//! frame, as a websocket would; they are decoded and go through `symbol, SUM(price * qty), COUNT(*)`
//! by TUMBLE to a subscriber, on one worker. `arrow-json` decodes the same bytes as lines, in runs of
//! 8,192, and that is all it does. Rounds alternate and medians count.
//!
//! Run: `cargo bench -p headwater --bench json`; `HEADWATER_BENCH_ROWS` (default 10,000,000) and
//! `HEADWATER_BENCH_ROUNDS` (default 5) set its size.

mod trades;

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use headwater::arrow::array::cast::AsArray;
use headwater::arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use headwater::connect::formats::Frames;
use headwater::connect::options::{ByteSize, OptionSet, Options};
use headwater::connect::{Connector, Connectors, End, Output, Source, SourceArgs, SourceKind};
use headwater::{Db, Event};
use tokio_util::sync::CancellationToken;
use trades::{Dice, Keys, median, median_ratio, setting, trade};

const RUN: usize = 8_192;

/// What the connector hands in.
static RUNS: OnceLock<Vec<Frames>> = OnceLock::new();

const CONNECTOR: Connector = Connector {
    name: "frames",
    summary: "the frames of this bench",
    source: Some(SourceKind {
        options: OptionSet::of::<NoOptions>(),
        formats: &["json"],
        max_frame: ByteSize(1 << 20),
        columns: SourceKind::declared_columns,
        create: |_: SourceArgs<'_>| Ok(Box::new(InMemory)),
    }),
    sink: None,
};

#[derive(Debug, schemars::JsonSchema, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

impl Options for NoOptions {}

struct InMemory;

#[async_trait]
impl Source for InMemory {
    async fn validate(&self) -> headwater::connect::Result<()> {
        Ok(())
    }

    async fn run(
        &mut self,
        out: &mut Output,
        _stop: CancellationToken,
    ) -> headwater::connect::Result<End> {
        for run in RUNS.get().into_iter().flatten() {
            for frame in run.iter() {
                out.frame(frame).await?;
            }
        }
        Ok(End::Finished)
    }
}

fn frames(rows: usize) -> Vec<Frames> {
    let mut dice = Dice(42);
    let mut text = String::new();
    let starts = (0..rows).step_by(RUN);
    let runs = starts.map(|start| {
        let mut run = Frames::default();
        for row in start..rows.min(start + RUN) {
            let (key, price, qty, ts) = trade(row as u64, Keys::Even(100), &mut dice);
            text.clear();
            write!(
                text,
                r#"{{"symbol":"S{key:06}","price":{price:?},"qty":{qty},"ts":{}}}"#,
                ts / 1_000
            )
            .expect("a string takes what is written");
            run.push(text.as_bytes());
        }
        run
    });
    runs.collect()
}

fn engine(rows: usize) -> Duration {
    let mut connectors = Connectors::builtin();
    connectors.register(CONNECTOR).expect("a name not taken");
    let db = Db::builder().workers(1).connectors(connectors);
    let db = db.in_memory().expect("one thread");
    let start = Instant::now();
    db.execute(
        "CREATE SOURCE trades (symbol VARCHAR, price DOUBLE, qty BIGINT, ts TIMESTAMP(3),
             WATERMARK FOR ts AS ts - INTERVAL '20 milliseconds')
         WITH (connector = 'frames', format = 'json');
         CREATE VIEW answer AS SELECT symbol, SUM(price * qty) AS total, COUNT(*) AS n
         FROM trades GROUP BY TUMBLE(ts, INTERVAL '10 seconds'), symbol",
    )
    .expect("a source and a query");
    let mut results = db.subscribe_batches("answer").expect("its results");
    let mut seen = 0;
    while seen < rows as i64 {
        match results.next().expect("no end before the last row") {
            Ok(Event::Rows(rows)) => {
                let counts = rows.column(2).as_primitive::<Int64Type>();
                seen += counts.values().iter().sum::<i64>();
            }
            other => panic!("not rows: {other:?}"),
        }
    }
    let took = start.elapsed();
    assert_eq!(seen, rows as i64, "each row is counted once");
    took
}

fn arrow_json(lines: &[Vec<u8>], rows: usize) -> Duration {
    let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
    let schema = Schema::new(vec![
        Field::new("symbol", DataType::Utf8, true),
        Field::new("price", DataType::Float64, true),
        Field::new("qty", DataType::Int64, true),
        Field::new("ts", millis, true),
    ]);
    let mut decoder = arrow_json::ReaderBuilder::new(Arc::new(schema))
        .with_batch_size(RUN)
        .build_decoder()
        .expect("columns that can be decoded");
    let mut decoded = 0;
    let start = Instant::now();
    for run in lines {
        let mut rest = &run[..];
        while !rest.is_empty() {
            let read = decoder.decode(rest).expect("well-formed lines");
            rest = &rest[read..];
            if read == 0 || rest.is_empty() {
                let batch = decoder.flush().expect("lines that fit the columns");
                decoded += black_box(batch).map_or(0, |batch| batch.num_rows());
            }
        }
    }
    let took = start.elapsed();
    assert_eq!(decoded, rows);
    took
}

fn main() {
    let rows = setting("HEADWATER_BENCH_ROWS", 10_000_000);
    let rounds = setting("HEADWATER_BENCH_ROUNDS", 5);
    let runs = RUNS.get_or_init(|| frames(rows));
    let lines: Vec<Vec<u8>> = runs
        .iter()
        .map(|run| {
            let mut lines = Vec::new();
            run.write_lines(&mut lines);
            lines
        })
        .collect();
    let megabytes = runs.iter().map(|run| run.bytes.len()).sum::<usize>() as f64 / 1e6;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(1.0 / engine(rows).as_secs_f64());
        theirs.push(1.0 / arrow_json(&lines, rows).as_secs_f64());
    }
    println!("{rows} JSON frames, {megabytes:.0} MB, median of {rounds} rounds");
    let millions = rows as f64 / 1e6;
    for (name, speeds) in [
        ("headwater, decode and query", &ours),
        ("arrow-json, decode alone", &theirs),
    ] {
        let speed = median(speeds);
        println!(
            "  {name:<30} {:>7.0} MB/s {:>7.2} M rows/s",
            megabytes * speed,
            millions * speed
        );
    }
    println!(
        "  ratio {:.2} (goal: at least 1)",
        median_ratio(&ours, &theirs)
    );
}
