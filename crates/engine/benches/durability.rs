//! The cost of durability, and the time of recovery.
//!
//! ```text
//!   cost       rows/s of a tumbling query with wal_mode off, async and sync, in turn
//!   latency    of a filter, with and without a checkpoint every second of 200,000 groups beside it
//!   disk       MB/s into the log beside a plain write; a log and a checkpoint opened again; history
//! ```
//!
//! Everything is in a folder of its own below `HEADWATER_BENCH_FOLDER` (default: the system's folder for
//! temporary files), on the real disk; files that are read again come from the page cache. Counts are
//! compared each time, so no figure is of a wrong answer.
//!
//! Run: `cargo bench -p headwater --bench durability [-- cost|latency|disk]`; `HEADWATER_BENCH_ROWS`
//! (default 10,000,000), `HEADWATER_BENCH_ROUNDS` (3), `HEADWATER_BENCH_SECONDS` (20),
//! `HEADWATER_BENCH_GROUPS` (200,000), `HEADWATER_BENCH_MB` (1,024: of the log that is opened again) and
//! `HEADWATER_BENCH_KEYS` (1,000,000: of the checkpoint) set its size.

mod durable;
mod trades;

use trades::setting;

/// How large it all is.
struct Sizes {
    rows: usize,
    rounds: usize,
    seconds: usize,
    groups: usize,
    log_mb: usize,
    keys: usize,
}

fn main() {
    let sizes = Sizes {
        rows: setting("HEADWATER_BENCH_ROWS", 10_000_000),
        rounds: setting("HEADWATER_BENCH_ROUNDS", 3),
        seconds: setting("HEADWATER_BENCH_SECONDS", 20),
        groups: setting("HEADWATER_BENCH_GROUPS", 200_000),
        log_mb: setting("HEADWATER_BENCH_MB", 1_024),
        keys: setting("HEADWATER_BENCH_KEYS", 1_000_000),
    };
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let is_wanted = |name: &str| wanted.as_deref().is_none_or(|wanted| name.contains(wanted));
    println!("in {}", durable::parent().display());
    if is_wanted("cost") {
        durable::cost::measure(&sizes);
    }
    if is_wanted("latency") {
        durable::latency::measure(&sizes);
    }
    if is_wanted("disk") {
        durable::disk::measure(&sizes);
    }
}
