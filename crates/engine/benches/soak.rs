//! A database on disk under steady load: memory, threads and open files must not grow.
//!
//! A source with a log, a window, a keyed view and a file sink, checkpoints every second, and a log of
//! which all but the last 256 MB goes. First the top rate is found, then rows come at half of it. Each
//! second the process is looked at: memory, threads, open files. The first and the last minute (or
//! fifth) must be alike: memory within 5 %, threads and files no more. It ends with 1 if they are not.
//!
//! Run: `just soak [SECONDS]`; `HEADWATER_SOAK_SECONDS` (default 600) sets its length, and
//! `HEADWATER_SOAK_RATE` the rows a second, instead of half the top rate.

mod trades;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater::arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use headwater::{Db, Source};
use trades::{Keys, SPACING_US, TRADES, Trade, batches, median, setting};

/// Rows of a batch; at most 16 of them wait.
const BATCH: usize = 8_192;
/// Seconds in which the top rate is found; the caches become warm, too.
const WARM: u64 = 10;
const EVENT_TIME: usize = 4;
/// Lines of the table.
const LINES: usize = 30;
const MEMORY_PERCENT: f64 = 5.0;

/// Batches of trades without an end: the same columns again, with later times.
struct Endless {
    batches: Vec<RecordBatch>,
    next: usize,
}

impl Endless {
    fn next(&mut self) -> RecordBatch {
        let batch = &self.batches[self.next % self.batches.len()];
        let first = (self.next * BATCH) as i64;
        self.next += 1;
        let times =
            (first..first + BATCH as i64).map(|row| 1_700_000_000_000_000 + row * SPACING_US);
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        columns[EVENT_TIME] = Arc::new(TimestampMicrosecondArray::from_iter_values(times));
        RecordBatch::try_new(batch.schema(), columns).expect("the same columns")
    }
}

/// The process at one moment.
#[derive(Clone, Copy)]
struct Sample {
    second: u64,
    rows: u64,
    memory_mb: f64,
    threads: f64,
    files: f64,
}

fn sample(second: u64, rows: u64) -> Sample {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let number = |key: &str| -> f64 {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let word = line.and_then(|line| line.split_whitespace().next());
        word.and_then(|word| word.parse().ok()).expect("a number")
    };
    Sample {
        second,
        rows,
        memory_mb: number("VmRSS:") / 1024.0,
        threads: number("Threads:"),
        files: std::fs::read_dir("/proc/self/fd").expect("Linux").count() as f64,
    }
}

fn open(folder: &std::path::Path) -> Db {
    let db = Db::builder()
        .workers(1)
        .open(folder.join("data"))
        .expect("a database");
    let out = folder.join("windows.ndjson");
    let script = format!(
        "{TRADES} WITH (buffer_size = 16, checkpoint_interval = '1 second', retention_bytes = '256MB');
         CREATE VIEW totals AS SELECT symbol, COUNT(*) AS n, SUM(price * qty) AS total FROM trades GROUP BY symbol;
         CREATE STREAM windows AS SELECT symbol, COUNT(*) AS n, SUM(price * qty) AS total
            FROM trades WHERE symbol < 'S000100' GROUP BY TUMBLE(ts, INTERVAL '10 seconds'), symbol;
         CREATE SINK out FROM windows WITH (connector = 'file', path = '{}')",
        out.display()
    );
    db.execute(&script).expect("a script");
    db
}

/// The most rows a second that it takes.
fn top_rate(source: &Source<Trade>, endless: &mut Endless, db: &Db) -> f64 {
    let (start, before) = (Instant::now(), endless.next);
    while start.elapsed() < Duration::from_secs(WARM) {
        source.push_arrow(endless.next()).expect("an open source");
    }
    db.settle().expect("a disk with room");
    ((endless.next - before) * BATCH) as f64 / start.elapsed().as_secs_f64()
}

/// Pushes at this rate, and looks at the process each second.
fn soak(source: &Source<Trade>, endless: &mut Endless, rate: f64, seconds: u64) -> Vec<Sample> {
    let (start, before) = (Instant::now(), endless.next);
    let mut samples = Vec::new();
    while (samples.len() as u64) < seconds {
        let pushed = ((endless.next - before) * BATCH) as f64;
        let due = start + Duration::from_secs_f64(pushed / rate);
        let second = start + Duration::from_secs(samples.len() as u64 + 1);
        let now = Instant::now();
        if now >= second {
            samples.push(sample(samples.len() as u64 + 1, pushed as u64));
        } else if now >= due {
            source.push_arrow(endless.next()).expect("an open source");
        } else {
            std::thread::sleep(due.min(second) - now);
        }
    }
    samples
}

/// A line of the table: the median of some seconds.
fn line(name: &str, samples: &[Sample]) -> [f64; 3] {
    let of = |value: fn(&Sample) -> f64| median(&samples.iter().map(value).collect::<Vec<_>>());
    let [memory, threads, files] = [
        of(|it| it.memory_mb),
        of(|it| it.threads),
        of(|it| it.files),
    ];
    let rows = samples.last().map_or(0, |last| last.rows);
    println!("{name:>8} {rows:>14} {memory:>10.1} {threads:>8.0} {files:>6.0}");
    [memory, threads, files]
}

fn judge(samples: &[Sample]) -> bool {
    println!("  second           rows     RSS MB  threads  files");
    for some in samples.chunks(samples.len().div_ceil(LINES)) {
        line(&some[some.len() - 1].second.to_string(), some);
    }
    let part = (samples.len() / 5).clamp(1, 60);
    let first = line("first", &samples[..part]);
    let last = line("last", &samples[samples.len() - part..]);
    let grown = (last[0] / first[0] - 1.0) * 100.0;
    let flat = grown.abs() <= MEMORY_PERCENT;
    let steady = last[1] <= first[1] && last[2] <= first[2];
    println!(
        "memory {grown:+.1} % (goal: within {MEMORY_PERCENT} %), threads {:+}, files {:+} (goal: no more)",
        last[1] - first[1],
        last[2] - first[2]
    );
    flat && steady
}

fn main() -> ExitCode {
    let seconds = setting("HEADWATER_SOAK_SECONDS", 600).max(5) as u64;
    let folder = tempfile::tempdir().expect("a folder");
    let db = open(folder.path());
    let source = db.source::<Trade>("trades").expect("its columns");
    let mut endless = Endless {
        batches: batches(64 * BATCH, BATCH, Keys::Even(10_000)),
        next: 0,
    };
    let top = top_rate(&source, &mut endless, &db);
    let rate = setting("HEADWATER_SOAK_RATE", (top / 2.0) as usize) as f64;
    println!(
        "top {:.2} M rows/s; {:.2} M rows/s for {seconds} s",
        top / 1e6,
        rate / 1e6
    );
    let samples = soak(&source, &mut endless, rate, seconds);
    db.settle().expect("a disk with room");
    let n = db
        .query("SELECT CAST(SUM(n) AS BIGINT) FROM totals")
        .expect("an answer");
    let n = headwater::arrow::array::cast::AsArray::as_primitive::<
        headwater::arrow::datatypes::Int64Type,
    >(n[0].column(0))
    .value(0);
    assert_eq!(n as usize, endless.next * BATCH, "rows were lost");
    match judge(&samples) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
