//! Rows that come live through several lanes, and the same log replayed: the same results, late rows included.
//!
//! `HEADWATER_REPLAYS=200` sets the number of histories, `HEADWATER_REPLAYS_SEED` the seed of the first.

use std::path::Path;
use std::sync::Arc;

use headwater::arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use headwater::arrow::record_batch::RecordBatch;
use headwater::{ArrowSource, Db};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

mod support;

const SECOND: i64 = 1_000_000;
const SOURCES: usize = 2;

/// Each stream, and its columns without those of `__late`.
const STREAMS: [(&str, &str, &str); 6] = [
    (
        "tumble",
        "k, window_start, c, s",
        "SELECT k, window_start, COUNT(*) AS c, SUM(n) AS s FROM s0 GROUP BY k, TUMBLE(ts, INTERVAL '5 seconds')",
    ),
    (
        "hop",
        "k, window_start, c, s",
        "SELECT k, window_start, COUNT(*) AS c, SUM(n) AS s FROM s0
         GROUP BY k, HOP(ts, INTERVAL '2 seconds', INTERVAL '8 seconds')",
    ),
    (
        "sessions",
        "k, window_start, window_end, c, s",
        "SELECT k, window_start, window_end, COUNT(*) AS c, SUM(n) AS s FROM s0
         GROUP BY k, SESSION(ts, INTERVAL '3 seconds')",
    ),
    (
        "chained",
        "window_start, c, s",
        "SELECT window_start, COUNT(*) AS c, SUM(s) AS s FROM tumble
         GROUP BY TUMBLE(window_start, INTERVAL '20 seconds')",
    ),
    (
        "united",
        "k, n, ts",
        "SELECT k, n, ts FROM s0 WHERE n % 3 <> 0 UNION ALL SELECT k, n, ts FROM s1",
    ),
    (
        "united_hop",
        "k, window_end, c",
        "SELECT k, window_end, COUNT(*) AS c FROM united
         GROUP BY k, HOP(ts, INTERVAL '1 second', INTERVAL '3 seconds')",
    ),
];

/// The streams that have late rows, and a column of those.
const LATE: [&str; 4] = ["tumble", "hop", "sessions", "united_hop"];

fn create(db: &Db) {
    for source in 0..SOURCES {
        db.execute(&format!(
            "CREATE SOURCE s{source} (k VARCHAR, n BIGINT, ts TIMESTAMP,
                 WATERMARK FOR ts AS ts - INTERVAL '1 second')"
        ))
        .unwrap();
    }
    for (name, columns, query) in STREAMS {
        db.execute(&format!(
            "CREATE STREAM {name} AS {query};
             CREATE VIEW {name}_rows AS SELECT {columns}, COUNT(*) AS times FROM {name} GROUP BY {columns}"
        ))
        .unwrap();
    }
    for name in LATE {
        let columns = "k, n, ts, _counted, _missed_until";
        db.execute(&format!(
            "CREATE VIEW {name}_missed AS SELECT {columns}, COUNT(*) AS times FROM {name}__late GROUP BY {columns}"
        ))
        .unwrap();
    }
}

/// Ends all sources, and reads all views.
fn results(db: &Db) -> Vec<(String, Vec<String>)> {
    for source in 0..SOURCES {
        db.close_source(&format!("s{source}")).unwrap();
    }
    support::until_sources_end(db);
    let streams = STREAMS.iter().map(|(name, ..)| format!("{name}_rows"));
    let views = streams.chain(LATE.iter().map(|name| format!("{name}_missed")));
    let lines = |view: String| {
        let shown = support::shown(db, &format!("SELECT * FROM {view}"));
        let mut lines: Vec<String> = shown.lines().map(str::to_owned).collect();
        lines.sort();
        (view, lines)
    };
    views.map(lines).collect()
}

fn rows(random: &mut StdRng, base: i64) -> RecordBatch {
    let count = random.random_range(1..6);
    let (mut k, mut n, mut ts) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        k.push(["", "a", "b", "ccc"][random.random_range(0..4)]);
        n.push(random.random_range(-20..20));
        let behind = random.random_range(0..3 * SECOND);
        ts.push((random.random_range(0..30) > 0).then_some(base - behind));
    }
    let columns: [(&str, ArrayRef); 3] = [
        ("k", Arc::new(StringArray::from(k))),
        ("n", Arc::new(Int64Array::from(n))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(ts))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
        .unwrap()
}

/// Pushes rows through lanes that come and go, with steps and checkpoints in between.
fn live(db: &Db, random: &mut StdRng) {
    let mut base = [0; SOURCES];
    let mut lanes: Vec<(usize, ArrowSource)> = Vec::new();
    for _ in 0..random.random_range(40..120) {
        match random.random_range(0..40) {
            0..3 if lanes.len() < 6 => {
                let source = random.random_range(0..SOURCES);
                lanes.push((source, db.source_untyped(&format!("s{source}")).unwrap()));
            }
            3..5 if !lanes.is_empty() => {
                lanes.remove(random.random_range(0..lanes.len()));
            }
            5 => db.checkpoint().unwrap(),
            6 => {
                if let Some((source, lane)) = lanes.first() {
                    lane.watermark(base[*source] - 2 * SECOND);
                }
            }
            7..14 => db.settle().unwrap(),
            _ if lanes.is_empty() => {}
            _ => {
                let (source, lane) = &lanes[random.random_range(0..lanes.len())];
                base[*source] += random.random_range(0..SECOND);
                lane.push_arrow(rows(random, base[*source])).unwrap();
            }
        }
    }
    db.settle().unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |set| set.parse().expect("a number"))
}

#[test]
fn a_replay_gives_what_live_rows_gave() {
    let (histories, first) = (
        number("HEADWATER_REPLAYS", 6),
        number("HEADWATER_REPLAYS_SEED", 1),
    );
    let (mut found, mut late) = (0, 0);
    for seed in (first..).take(histories as usize) {
        let random = &mut StdRng::seed_from_u64(seed);
        let folder = tempfile::tempdir().unwrap();
        let workers = [1, 2, 4][random.random_range(0..3)];
        let open = |path: &Path, workers| Db::builder().workers(workers).open(path).unwrap();
        let db = open(&folder.path().join("live"), workers);
        create(&db);
        live(&db, random);
        db.flush().unwrap();
        // What a crash leaves: the log, and a checkpoint of some moment before its end.
        copy(&folder.path().join("live"), &folder.path().join("replayed"));
        let expected = results(&db);
        db.close();
        let again = [1, 2, 4][random.random_range(0..3)];
        let db = open(&folder.path().join("replayed"), again);
        for (found, expected) in results(&db).into_iter().zip(&expected) {
            assert_eq!(
                &found, expected,
                "seed {seed}, {workers} then {again} workers"
            );
        }
        let lines = |part: &str| {
            let views = expected.iter().filter(|(name, _)| name.ends_with(part));
            views
                .map(|(_, lines)| lines.len().saturating_sub(4))
                .sum::<usize>()
        };
        found += lines("_rows");
        late += lines("_missed");
    }
    assert!(found > 0 && late > 0);
    println!("{histories} histories: {found} rows, {late} late");
}
