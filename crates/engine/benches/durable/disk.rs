//! Writing and reading the log: append, recovery after a crash, a large checkpoint, history.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use headwater::Db;
use headwater::arrow::array::RecordBatch;
use headwater::arrow::array::cast::AsArray;
use headwater::arrow::datatypes::Int64Type;

use super::killed::crash;
use super::{bytes_below, files_below, folder, source};
use crate::Sizes;
use crate::trades::{Keys, SPACING_US, Trade, batches};

const BATCH: usize = 8_192;
/// Never, for a bench.
const SELDOM: &str = "checkpoint_interval = '1 hour'";

fn open(folder: &Path) -> Db {
    Db::builder().workers(1).open(folder).expect("a database")
}

fn count(db: &Db, sql: &str) -> i64 {
    let answer = db.query(sql).expect("an answer");
    let rows = answer
        .iter()
        .find(|rows| rows.num_rows() > 0)
        .expect("a row");
    rows.column(0).as_primitive::<Int64Type>().value(0)
}

fn push_all(db: &Db, batches: &[RecordBatch]) {
    let source = db.source::<Trade>("trades").expect("its columns");
    for batch in batches {
        source.push_arrow(batch.clone()).expect("an open source");
    }
    db.flush().expect("a disk with room");
}

/// Pushes the batches in a circle until the log has this size, bytes; returns the number of rows.
fn fill(db: &Db, batches: &[RecordBatch], log: &Path, bytes: u64) -> usize {
    let mut rows = 0;
    // A piece at a time, so that it does not become much larger.
    for piece in batches.chunks(128).cycle() {
        if bytes_below(log) >= bytes {
            break;
        }
        push_all(db, piece);
        rows += piece.iter().map(RecordBatch::num_rows).sum::<usize>();
    }
    rows
}

/// Writes this number of bytes to a file and syncs it; returns the seconds it took.
fn plain_write(bytes: u64) -> f64 {
    let folder = folder();
    let block: Vec<u8> = (0..1 << 20)
        .map(|n: u32| n.wrapping_mul(2_654_435_761) as u8)
        .collect();
    let start = Instant::now();
    let mut file = File::create(folder.path().join("plain")).expect("a file");
    let mut left = bytes as usize;
    while left > 0 {
        let some = left.min(block.len());
        file.write_all(&block[..some]).expect("room");
        left -= some;
    }
    file.sync_all().expect("a disk");
    start.elapsed().as_secs_f64()
}

fn plain_read(folder: &Path) -> f64 {
    let start = Instant::now();
    let mut block = vec![0; 1 << 20];
    for path in files_below(folder) {
        let mut file = File::open(path).expect("a file");
        while file.read(&mut block).expect("a disk") > 0 {}
    }
    start.elapsed().as_secs_f64()
}

fn append_and_scan(sizes: &Sizes, batches: &[RecordBatch]) {
    let folder = folder();
    let (db, log) = (open(folder.path()), folder.path().join("log"));
    db.execute(&source(SELDOM)).expect("a source");
    let start = Instant::now();
    push_all(&db, batches);
    let took = start.elapsed().as_secs_f64();
    let bytes = bytes_below(&log);
    let (ours, theirs) = (
        bytes as f64 / 1e6 / took,
        bytes as f64 / 1e6 / plain_write(bytes),
    );
    let rows = sizes.rows as f64 / 1e6 / took;
    let each = bytes as f64 / sizes.rows as f64;
    println!(
        "  append   {ours:>8.0} MB/s to disk ({rows:.2} M rows/s, {each:.0} bytes each); plain write and fsync {theirs:.0} MB/s"
    );
    let start = Instant::now();
    let all = count(&db, "SELECT COUNT(*), SUM(qty) FROM trades");
    let took = start.elapsed().as_secs_f64();
    assert_eq!(all, sizes.rows as i64);
    let (ours, theirs) = (
        bytes as f64 / 1e9 / took,
        bytes as f64 / 1e9 / plain_read(&log),
    );
    println!(
        "  history  {ours:>8.2} GB/s, {:.1} M rows/s; plain read {theirs:.2} GB/s",
        all as f64 / 1e6 / took
    );
    let at = 1_700_000_000_000_000 + sizes.rows as i64 / 2 * SPACING_US;
    let to = at + sizes.rows as i64 / 100 * SPACING_US;
    let hundredth = format!(
        "SELECT COUNT(*), SUM(qty) FROM trades WHERE ts >= to_timestamp_micros({at}) AND ts < to_timestamp_micros({to})"
    );
    let start = Instant::now();
    let some = count(&db, &hundredth);
    println!(
        "  of a hundredth by time ({some} rows) {:>8.1} ms, of all {:.1} ms",
        start.elapsed().as_secs_f64() * 1e3,
        took * 1e3
    );
}

fn recovery(sizes: &Sizes, batches: &[RecordBatch]) {
    let first = folder();
    let (db, log) = (open(first.path()), first.path().join("log"));
    let view = "CREATE VIEW totals AS SELECT symbol, COUNT(*) AS n FROM trades GROUP BY symbol";
    db.execute(&format!("{}; {view}", source(SELDOM)))
        .expect("a script");
    let rows = fill(&db, batches, &log, (sizes.log_mb as u64) << 20);
    let left = crash(first.path());
    drop(db);
    let bytes = bytes_below(&left.path().join("log"));
    let start = Instant::now();
    let db = open(left.path());
    let took = start.elapsed().as_secs_f64();
    assert_eq!(
        count(&db, "SELECT CAST(SUM(n) AS BIGINT) FROM totals"),
        rows as i64
    );
    let (mb, rate) = (bytes as f64 / 1e6, rows as f64 / 1e6 / took);
    println!(
        "  recovery of a log of {mb:.0} MB through a GROUP BY: {took:.2} s, {rate:.1} M rows/s"
    );
}

fn checkpoint(sizes: &Sizes) {
    let first = folder();
    let db = open(first.path());
    let view =
        "CREATE VIEW totals AS SELECT id, COUNT(*) AS n, SUM(qty) AS qty FROM trades GROUP BY id";
    db.execute(&format!("{}; {view}", source(SELDOM)))
        .expect("a script");
    push_all(&db, &batches(sizes.keys, BATCH, Keys::Even(100)));
    let start = Instant::now();
    db.checkpoint().expect("a disk with room");
    let saved = start.elapsed().as_secs_f64();
    let mb = bytes_below(&first.path().join("checkpoints")) as f64 / 1e6;
    drop(db);
    let start = Instant::now();
    let db = open(first.path());
    let took = start.elapsed().as_secs_f64();
    assert_eq!(count(&db, "SELECT COUNT(*) FROM totals"), sizes.keys as i64);
    println!(
        "  checkpoint of {} groups: {mb:.0} MB, saved in {saved:.2} s, opened in {took:.2} s",
        sizes.keys
    );
}

pub(crate) fn measure(sizes: &Sizes) {
    println!("disk, {} rows in batches of {BATCH}", sizes.rows);
    let batches = batches(sizes.rows, BATCH, Keys::Even(100));
    append_and_scan(sizes, &batches);
    recovery(sizes, &batches);
    checkpoint(sizes);
}
