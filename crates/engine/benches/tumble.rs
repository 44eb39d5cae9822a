//! Rows a second of windowed GROUP BYs over trades in memory, beside DataFusion's batch query.
//!
//! `symbol, SUM(price * qty), COUNT(*)` by TUMBLE of 10 s, HOP of 10 s in 10 panes, and SESSION;
//! one worker, batches of 8,192 and 1,024 rows. The time runs from the first push until the
//! subscriber has the last row. DataFusion runs over the same batches (`MemTable`, one partition):
//! the same answer as a batch query, and where that needs more than the windows do, the plain GROUP BY
//! symbol too. Counts are compared each time, so no figure is of a wrong answer.
//!
//! Run: `cargo bench -p headwater --bench tumble [-- NAME]`; `HEADWATER_BENCH_ROWS` (default
//! 10,000,000) and `HEADWATER_BENCH_ROUNDS` (default 5) set its size; with
//! `HEADWATER_BENCH_ALONE=1` the rivals stay away, for a profiler.

mod trades;

use std::time::{Duration, Instant};

use headwater::arrow::array::RecordBatch;
use headwater::arrow::array::cast::AsArray;
use headwater::arrow::datatypes::Int64Type;
use headwater::{Db, Event};
use trades::{Keys, TRADES, Trade, batches, median, median_ratio, setting};

/// One line of the table.
struct Case {
    name: &'static str,
    keys: Keys,
    batch: usize,
    query: &'static str,
    rivals: &'static [(&'static str, &'static str)],
    /// Millions of rows a second.
    goal: Option<f64>,
}

const TUMBLE: &str = "SELECT symbol, SUM(price * qty) AS total, COUNT(*) AS n FROM trades
    GROUP BY TUMBLE(ts, INTERVAL '10 seconds'), symbol";
const HOP: &str = "SELECT symbol, SUM(price * qty) AS total, COUNT(*) AS n FROM trades
    GROUP BY HOP(ts, INTERVAL '1 second', INTERVAL '10 seconds'), symbol";
const SESSION: &str = "SELECT symbol, SUM(price * qty) AS total, COUNT(*) AS n FROM trades
    GROUP BY SESSION(ts, INTERVAL '500 milliseconds'), symbol";

const BY_WINDOW: (&str, &str) = (
    "same answer",
    "SELECT symbol, SUM(price * qty) AS total, COUNT(*) AS n FROM trades
     GROUP BY date_bin(INTERVAL '10 seconds', ts, TIMESTAMP '1970-01-01'), symbol",
);
const BY_SYMBOL: (&str, &str) = (
    "GROUP BY symbol",
    "SELECT symbol, SUM(price * qty) AS total, COUNT(*) AS n FROM trades GROUP BY symbol",
);
/// Panes first, then each pane into its ten windows.
const BY_PANE: (&str, &str) = (
    "same answer",
    "SELECT symbol, SUM(total) AS total, SUM(n) AS n FROM (
       SELECT date_bin(INTERVAL '1 second', ts, TIMESTAMP '1970-01-01') AS pane, symbol,
              SUM(price * qty) AS total, COUNT(*) AS n FROM trades GROUP BY pane, symbol)
     CROSS JOIN (VALUES
       (INTERVAL '0 seconds'), (INTERVAL '1 seconds'), (INTERVAL '2 seconds'),
       (INTERVAL '3 seconds'), (INTERVAL '4 seconds'), (INTERVAL '5 seconds'),
       (INTERVAL '6 seconds'), (INTERVAL '7 seconds'), (INTERVAL '8 seconds'),
       (INTERVAL '9 seconds')) AS earlier(by)
     GROUP BY pane - by, symbol",
);
const BY_GAP: (&str, &str) = (
    "same answer",
    "SELECT symbol, SUM(price * qty) AS total, COUNT(*) AS n FROM (
       SELECT symbol, price, qty, SUM(begins) OVER (PARTITION BY symbol ORDER BY ts) AS session
       FROM (SELECT symbol, price, qty, ts, CASE WHEN ts - LAG(ts) OVER
               (PARTITION BY symbol ORDER BY ts) < INTERVAL '500 milliseconds' THEN 0 ELSE 1 END
               AS begins FROM trades))
     GROUP BY symbol, session",
);

const CASES: &[Case] = &[
    Case {
        name: "tumble, 100 keys, batches of 8,192",
        keys: Keys::Even(100),
        batch: 8_192,
        query: TUMBLE,
        rivals: &[BY_WINDOW, BY_SYMBOL],
        goal: None,
    },
    Case {
        name: "tumble, 100 keys, batches of 1,024",
        keys: Keys::Even(100),
        batch: 1_024,
        query: TUMBLE,
        rivals: &[BY_WINDOW, BY_SYMBOL],
        goal: None,
    },
    Case {
        name: "tumble, 10,000 keys",
        keys: Keys::Even(10_000),
        batch: 8_192,
        query: TUMBLE,
        rivals: &[BY_WINDOW, BY_SYMBOL],
        goal: Some(15.0),
    },
    Case {
        name: "tumble, 1,000,000 keys",
        keys: Keys::Even(1_000_000),
        batch: 8_192,
        query: TUMBLE,
        rivals: &[BY_WINDOW, BY_SYMBOL],
        goal: Some(5.0),
    },
    Case {
        name: "hop of 10 panes, 100 keys",
        keys: Keys::Even(100),
        batch: 8_192,
        query: HOP,
        rivals: &[BY_PANE],
        goal: Some(15.0),
    },
    Case {
        name: "hop of 10 panes, 10,000 keys",
        keys: Keys::Even(10_000),
        batch: 8_192,
        query: HOP,
        rivals: &[BY_PANE],
        goal: None,
    },
    Case {
        name: "session, 10,000 keys",
        keys: Keys::Bursts(10_000),
        batch: 8_192,
        query: SESSION,
        rivals: &[BY_GAP],
        goal: Some(10.0),
    },
];

/// Result rows, and the sum of their counts.
type Answer = (usize, i64);

fn count(answer: &mut Answer, batch: &RecordBatch) {
    let n = batch.column(2).as_primitive::<Int64Type>();
    answer.0 += batch.num_rows();
    answer.1 += n.values().iter().sum::<i64>();
}

fn engine(query: &str, batches: &[RecordBatch]) -> (Duration, Answer) {
    let db = Db::builder().workers(1).in_memory().expect("one thread");
    db.execute(TRADES).expect("a source");
    db.execute(&format!("CREATE STREAM answer AS {query}"))
        .expect("a query");
    let results = db.subscribe_batches("answer").expect("its results");
    let source = db
        .source::<Trade>("trades")
        .expect("the columns of a trade");
    let start = Instant::now();
    for batch in batches {
        source.push_arrow(batch.clone()).expect("an open source");
    }
    source.close();
    let settled = std::thread::spawn(move || db.close());
    let (mut answer, mut took) = ((0, 0), Duration::ZERO);
    for event in results {
        match event.expect("results") {
            Event::Rows(rows) => {
                count(&mut answer, &rows);
                took = start.elapsed();
            }
            Event::Gap { reason, .. } => panic!("{reason}"),
            Event::Missed { rows } => panic!("the subscriber missed {rows} rows"),
        }
    }
    settled.join().expect("a database that closes");
    (took, answer)
}

fn datafusion(query: &str, batches: &[RecordBatch]) -> (Duration, Answer) {
    use datafusion::prelude::{SessionConfig, SessionContext};
    let config = SessionConfig::new().with_target_partitions(1);
    let context = SessionContext::new_with_config(config);
    let table =
        datafusion::datasource::MemTable::try_new(batches[0].schema(), vec![batches.to_vec()]);
    let table = std::sync::Arc::new(table.expect("batches of one schema"));
    context.register_table("trades", table).expect("a table");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let start = Instant::now();
    let frame = runtime.block_on(context.sql(query)).expect("a query");
    let rows = runtime.block_on(frame.collect()).expect("its results");
    let took = start.elapsed();
    let mut answer = (0, 0);
    rows.iter().for_each(|rows| count(&mut answer, rows));
    (took, answer)
}

fn main() {
    let rows = setting("HEADWATER_BENCH_ROWS", 10_000_000);
    let rounds = setting("HEADWATER_BENCH_ROUNDS", 5);
    let alone = setting("HEADWATER_BENCH_ALONE", 0) > 0;
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    println!("{rows} rows, median of {rounds} rounds; M rows/s, and ours / DataFusion's");
    for case in CASES {
        if wanted
            .as_ref()
            .is_none_or(|wanted| case.name.contains(wanted.as_str()))
        {
            measure(case, rows, rounds, alone);
        }
    }
}

fn measure(case: &Case, rows: usize, rounds: usize, alone: bool) {
    let batches = batches(rows, case.batch, case.keys);
    let rivals = if alone { &[] } else { case.rivals };
    let speed = |took: Duration| rows as f64 / 1e6 / took.as_secs_f64();
    let mut ours = Vec::new();
    let mut theirs = vec![Vec::new(); rivals.len()];
    for _ in 0..rounds {
        let (took, answer) = engine(case.query, &batches);
        ours.push(speed(took));
        for ((name, query), speeds) in rivals.iter().zip(&mut theirs) {
            let (took, expected) = datafusion(query, &batches);
            speeds.push(speed(took));
            assert!(
                *name != "same answer" || answer == expected,
                "{}: {answer:?}, but DataFusion has {expected:?}",
                case.name
            );
        }
    }
    let goal = case
        .goal
        .map_or(String::new(), |goal| format!("  (goal {goal})"));
    println!("{:<38} {:>7.1}{goal}", case.name, median(&ours));
    for ((name, _), theirs) in rivals.iter().zip(&theirs) {
        let (median, ratio) = (median(theirs), median_ratio(&ours, theirs));
        println!(
            "  {:<36} {median:>7.1}  ratio {ratio:.2}",
            format!("DataFusion, {name}")
        );
    }
}
