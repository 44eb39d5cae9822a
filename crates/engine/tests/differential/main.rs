//! Streaming equals batch: random sources, rows and queries, in the engine, DataFusion and PostgreSQL.
//!
//! ```text
//!   seed -> case: sources, queries, rows and how they are cut into steps
//!             |                                   |
//!           engine: net result             DataFusion: batch answer over the rows that were not late
//!             ├────────────── equal as multisets ─┘
//!             └────────────── equal as multisets ─── PostgreSQL: its answer over the same rows
//! ```
//!
//! A query that the engine refuses with 0A000 is counted; one that it accepts must be right. A
//! failure prints the seed and a case as small as could be found that still fails.
//!
//! PostgreSQL needs a server, so the tests that ask it are ignored unless `.ci/postgres` runs them.
//! They print what differs on purpose (`postgres/notes.rs`), and how often it was met. Others ask
//! about statements that are written down, `expressions.txt` and `ordinary.rs`, and about the days of time zones, `zones.rs`.
//!
//! `HEADWATER_DIFF_CASES` is how many cases run (default 200), `HEADWATER_DIFF_SEED` the first seed;
//! `HEADWATER_DIFF_KEEP_GOING` goes on after a failure, `HEADWATER_DIFF_REFUSED` prints what was refused.

mod aggregate;
#[path = "../batch/mod.rs"]
mod batch;
mod case;
mod data;
mod expression;
mod expressions;
mod ordinary;
mod postgres;
mod query;
mod run;
mod shrink;
mod windows;
mod zones;

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use case::Case;
use postgres::Postgres;
use postgres::second::Second;
use run::{Tally, Wrong};

fn setting<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")),
        Err(_) => default,
    }
}

/// Time after which a case counts as one that never ends.
const CASE_TIMEOUT: Duration = Duration::from_secs(120);

fn run_in_time(case: &Case, second: &Second) -> Result<Tally, Wrong> {
    let (done, waiting) = mpsc::channel();
    let (running, asked) = (case.clone(), second.clone());
    // If it never ends, neither does the thread; the process does.
    thread::spawn(move || done.send(run::run(&running, &asked)));
    match waiting.recv_timeout(CASE_TIMEOUT) {
        Ok(result) => result,
        Err(error) => panic!("{error}: no result in {CASE_TIMEOUT:?}\n{case}"),
    }
}

/// Smaller cases of one that is counted do not count.
fn uncounted<T>(second: &Second, run: impl FnOnce() -> T) -> T {
    let lock = || {
        second
            .as_ref()
            .map(|it| it.lock().unwrap_or_else(PoisonError::into_inner))
    };
    let before = lock().map(|it| it.counts.clone());
    let result = run();
    if let (Some(mut postgres), Some(before)) = (lock(), before) {
        postgres.counts = before;
    }
    result
}

/// Runs the cases of this run, and fails with the seeds of those that are wrong.
fn run_cases(second: &Second) {
    let first: u64 = setting("HEADWATER_DIFF_SEED", 1);
    let cases: u64 = setting("HEADWATER_DIFF_CASES", 200);
    let keep_going = std::env::var_os("HEADWATER_DIFF_KEEP_GOING").is_some();
    let mut tally = Tally::default();
    let mut wrong = Vec::new();
    for seed in first..first + cases {
        let case = Case::random(seed);
        match run_in_time(&case, second) {
            Ok(counts) => tally.add(counts),
            Err(found) => {
                let (case, found) = uncounted(second, || shrink::shrink(case, found, second));
                let text = format!("query {} is wrong:\n{}\n\n{case}", found.query, found.what);
                println!("{text}");
                wrong.push(seed);
                if !keep_going {
                    break;
                }
            }
        }
    }
    println!("{cases} cases from seed {first}: {tally:?}");
    assert!(
        wrong.is_empty(),
        "HEADWATER_DIFF_SEED={wrong:?} HEADWATER_DIFF_CASES=1"
    );
    assert!(
        cases < 100 || tally.right > tally.refused,
        "most queries are refused: {tally:?}"
    );
}

#[test]
fn a_stream_gives_what_a_batch_gives() {
    run_cases(&None);
}

#[test]
#[ignore = "asks PostgreSQL: .ci/postgres cargo test -p headwater --test differential -- --ignored"]
fn a_stream_gives_what_postgresql_gives() {
    let postgres = Arc::new(Mutex::new(Postgres::connect()));
    let cases = std::panic::catch_unwind(|| run_cases(&Some(Arc::clone(&postgres))));
    let counts = &postgres
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .counts;
    println!("{counts}");
    if let Err(wrong) = cases {
        std::panic::resume_unwind(wrong);
    }
}
