//! Queries as deep as are accepted are planned and run, from a thread with a small stack.
//!
//! The parser, which has tests of its own, refuses what is deeper. These tests run the deepest accepted
//! queries through the planner, the optimizer, the operators and SELECT. A build without optimization
//! needs the most stack, so this is the hardest case.

use headwater::{Db, Record, Timestamp};

#[derive(Debug, Clone, Record)]
struct Row {
    a: i64,
    ts: Timestamp,
}

/// Makes a view of `query` over rows with `a` from 0 to 9, and returns its number of rows.
fn rows_of(query: &str) -> usize {
    let db = Db::builder().workers(1).in_memory().unwrap();
    db.execute(
        "CREATE SOURCE t (a BIGINT NOT NULL, ts TIMESTAMP NOT NULL, WATERMARK FOR ts AS ts)",
    )
    .unwrap();
    db.execute(&format!("CREATE VIEW v AS {query}")).unwrap();
    db.execute("CREATE VIEW kept AS SELECT a, MAX(ts) AS ts FROM t GROUP BY a")
        .unwrap();
    let source = db.source::<Row>("t").unwrap();
    for a in 0..10 {
        let ts = Timestamp::from_micros(a);
        source.push(Row { a, ts }).unwrap();
    }
    db.settle().unwrap();
    let count = |query: &str| {
        let batches = db.query(query).unwrap();
        batches.iter().map(|batch| batch.num_rows()).sum::<usize>()
    };
    let continuous = count("SELECT * FROM v");
    let once = count(&query.replace("FROM t", "FROM kept"));
    assert_eq!(continuous, once, "{query}");
    continuous
}

/// Runs on the 2 MiB that a thread gets unless it asks for more.
fn on_a_small_stack(query: String) -> usize {
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let running = thread.spawn(move || rows_of(&query)).unwrap();
    running.join().unwrap()
}

#[test]
fn long_chains_run() {
    let plus = " + a".repeat(120);
    assert_eq!(on_a_small_stack(format!("SELECT a{plus} AS x FROM t")), 10);
    let or = " OR a * 2 > 7".repeat(120);
    assert_eq!(
        on_a_small_stack(format!("SELECT a FROM t WHERE a = 1{or}")),
        7
    );
    let union = " UNION ALL SELECT a FROM t".repeat(60);
    assert_eq!(on_a_small_stack(format!("SELECT a FROM t{union}")), 610);
}

#[test]
fn deep_nesting_runs() {
    for (open, close) in [
        ("abs(", ")"),
        ("(1 + ", ")"),
        ("CASE WHEN a > 1 THEN ", " ELSE 0 END"),
    ] {
        let (open, close) = (open.repeat(28), close.repeat(28));
        assert_eq!(
            on_a_small_stack(format!("SELECT {open}a{close} AS x FROM t")),
            10
        );
    }
    let (open, close) = ("(SELECT a FROM ".repeat(28), ") AS x".repeat(28));
    assert_eq!(
        on_a_small_stack(format!("SELECT a FROM {open}t{close}")),
        10
    );
}
