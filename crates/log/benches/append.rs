//! What durability costs: appends beside a plain write of the same bytes, group commit, recovery, scanning.
//!
//! Run with `cargo bench -p headwater-log`. `HEADWATER_BENCH_DIR` is the folder (default: the system's temporary one;
//! it should be on a real disk), `HEADWATER_BENCH_MB` the size of a round in MiB (default 1024),
//! `HEADWATER_BENCH_ROUNDS` the number of times that appends and plain writes alternate (default 5); the median counts.
//!
//! Plain writes are `write` calls of the same sizes into one file, as an append is one `writev`; neither is synced
//! inside the timed part, so both go to the page cache. The ratio shows mostly the cost of the checksums.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_log::{Append, LogConfig, LogWriter, RealDisk, SyncMode, Syncer};

const ROWS: u32 = 8192;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n * 31 % 251) as u8).collect()
}

fn open(dir: &Path, mode: SyncMode) -> LogWriter {
    let config = LogConfig {
        mode,
        ..LogConfig::default()
    };
    LogWriter::open(Arc::new(RealDisk), dir, config)
        .expect("a fresh folder")
        .0
}

fn fresh(dir: &Path) {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).expect("a folder that can be written");
}

fn append(log: &mut LogWriter, n: usize, payload: &[u8]) {
    let n = n as i64;
    let (sequence, times) = (n as u64 + 1, Some((n * 1000, n * 1000 + 999)));
    let record = Append {
        rows: ROWS,
        times,
        sequence,
        appended_us: n,
        payload: &[payload],
    };
    log.append(&record).expect("room on the disk");
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Seconds to write `count` records, plainly and through a log, with nothing synced meanwhile.
fn beside_plain(dir: &Path, size: usize, count: usize, rounds: usize) -> (f64, f64) {
    let payload = payload(size);
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        fresh(dir);
        let mut file = File::create(dir.join("plain")).expect("a file");
        let start = Instant::now();
        (0..count).for_each(|_| file.write_all(&payload).expect("room on the disk"));
        plain.push(start.elapsed().as_secs_f64());
        file.sync_data().expect("a disk that syncs");
        fresh(dir);
        let mut log = open(dir, SyncMode::default());
        let start = Instant::now();
        (0..count).for_each(|n| append(&mut log, n, &payload));
        ours.push(start.elapsed().as_secs_f64());
        log.close().expect("a disk that syncs");
    }
    (median(plain), median(ours))
}

/// The same with the syncing thread at work, until all is durable, beside a plain write and one fsync.
fn until_durable(dir: &Path, size: usize, count: usize) -> (f64, f64) {
    let payload = payload(size);
    fresh(dir);
    let mut file = File::create(dir.join("plain")).expect("a file");
    let start = Instant::now();
    (0..count).for_each(|_| file.write_all(&payload).expect("room on the disk"));
    file.sync_data().expect("a disk that syncs");
    let plain = start.elapsed().as_secs_f64();
    fresh(dir);
    let syncer = Syncer::start().expect("a thread");
    let mut log = open(dir, SyncMode::default());
    syncer.serve(&log);
    let start = Instant::now();
    (0..count).for_each(|n| append(&mut log, n, &payload));
    log.close().expect("a disk that syncs");
    (plain, start.elapsed().as_secs_f64())
}

/// Appends for two seconds with `SyncMode::Sync`, with at most `ahead` records not yet durable.
fn group_commit(dir: &Path, ahead: usize) {
    fresh(dir);
    let syncer = Syncer::start().expect("a thread");
    let mut log = open(dir, SyncMode::Sync);
    syncer.serve(&log);
    let durability = log.durability();
    let (payload, start) = (payload(64 * 100), Instant::now());
    let mut ends = std::collections::VecDeque::new();
    let (mut n, syncs) = (0, durability.syncs());
    while start.elapsed() < Duration::from_secs(2) {
        let record = Append {
            rows: 100,
            sequence: n,
            appended_us: 0,
            times: None,
            payload: &[&payload],
        };
        ends.push_back(log.append(&record).expect("room on the disk"));
        n += 1;
        if ends.len() > ahead {
            let oldest = ends.pop_front().expect("it has more than `ahead`");
            durability.wait(oldest).expect("a disk that syncs");
        }
    }
    let (seconds, syncs) = (start.elapsed().as_secs_f64(), durability.syncs() - syncs);
    println!(
        "sync, {ahead:>4} records ahead: {:>8.0} fsyncs/s, {:>8.0} rows per fsync, {:>10.0} rows/s",
        syncs as f64 / seconds,
        n as f64 * 100.0 / syncs as f64,
        n as f64 * 100.0 / seconds
    );
}

fn reopen(dir: &Path, what: &str) -> LogWriter {
    let start = Instant::now();
    let (log, found) =
        LogWriter::open(Arc::new(RealDisk), dir, LogConfig::default()).expect("a sound log");
    let mb = found.scanned_bytes as f64 / 1e6;
    println!(
        "open, {what}: {:.1} ms, {mb:.0} MB scanned, {} segments",
        ms(start),
        found.segments
    );
    log
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn recovery_and_scan(dir: &Path, size: usize, count: usize) {
    let payload = payload(size);
    fresh(dir);
    let mut log = open(dir, SyncMode::default());
    (0..count).for_each(|n| append(&mut log, n, &payload));
    log.close().expect("a disk that syncs");
    drop(reopen(dir, "with its indexes"));
    for entry in fs::read_dir(dir).expect("the log's folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|ending| ending == "index") {
            fs::remove_file(path).expect("an index");
        }
    }
    let log = reopen(dir, "without any index");
    for turn in ["first", "second"] {
        let start = Instant::now();
        let (mut scan, mut bytes) = (log.reader().read_from(0).expect("all is kept"), 0);
        while let Some(record) = scan.next().expect("a sound log") {
            bytes += record.payload.len();
        }
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "scan, {turn}: {:.2} GB/s of {:.2} GB, checksums verified",
            bytes as f64 / seconds / 1e9,
            bytes as f64 / 1e9
        );
    }
    let middle = count as i64 * 500;
    let start = Instant::now();
    let (reader, mut records) = (log.reader(), 0);
    let mut extents = reader.extents();
    extents.retain(|extent| extent.overlaps(middle, middle + 100_000));
    for extent in extents {
        let mut scan = reader.scan_extent(&extent).expect("all is kept");
        while scan.next().expect("a sound log").is_some() {
            records += 1;
        }
    }
    println!(
        "extents between two times: {records} of {count} records in {:.2} ms",
        ms(start)
    );
}

fn main() {
    let base =
        std::env::var_os("HEADWATER_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("headwater-log-bench-{}", std::process::id()));
    let bytes = setting("HEADWATER_BENCH_MB", 1024) << 20;
    let rounds = setting("HEADWATER_BENCH_ROUNDS", 5);
    println!("in {}", dir.display());
    for size in [4 << 10, 64 << 10, 512 << 10] {
        let count = bytes / 4 / size;
        let (plain, ours) = beside_plain(&dir, size, count, rounds);
        let mb = (count * size) as f64 / 1e6;
        println!(
            "append of {:>3} KiB: {:>6.0} MB/s, plain write {:>6.0} MB/s, ratio {:.2}",
            size >> 10,
            mb / ours,
            mb / plain,
            ours / plain
        );
    }
    let (size, count) = (256 << 10, bytes / (256 << 10));
    let (plain, ours) = until_durable(&dir, size, count);
    let mb = (count * size) as f64 / 1e6;
    println!(
        "until durable, async: {:.0} MB/s, plain write and one fsync {:.0} MB/s",
        mb / ours,
        mb / plain
    );
    [1, 16, 256]
        .into_iter()
        .for_each(|ahead| group_commit(&dir, ahead));
    recovery_and_scan(&dir, size, count);
    fs::remove_dir_all(&dir).expect("our own folder");
}
