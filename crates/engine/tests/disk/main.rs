//! The whole engine on a disk that lies.
//!
//! ```text
//!   script: create, push, flush, checkpoint, rotate, drop, retain, close
//!              │ the machine stops in the middle of operation k of the disk
//!              ▼
//!   what survived ──► open (on every third point the machine stops again in here) ──► checks ──► go on
//! ```
//!
//! The checks: every row whose `flush` or sync push had returned is there, nothing is there twice, and
//! views and windows are those of a database that was only ever given the rows that are there. Then the
//! database goes on, and must again be like one that was never stopped. The script runs with threads,
//! so a point is not the same operation each time; each is checked all the same.
//!
//! By default some points are visited, `HEADWATER_DISK_ALL=1` visits every one, `HEADWATER_DISK_SEED`
//! makes other crashes of them; `--nocapture` prints how many. `damage.rs` has disks that lose, refuse and change bytes;
//! `random.rs` folders with random damages; `full.rs` disks that are full.

mod damage;
mod full;
mod random;
mod script;
#[path = "../support/mod.rs"]
mod support;

use headwater_log::lying::{Crash, LyingDisk};
use script::{check, drive, open};

/// Points that are visited by default.
const POINTS: u64 = 40;

fn setting(name: &str) -> u64 {
    std::env::var(name).map_or(0, |value| value.parse().expect("a number"))
}

/// The point of the script at which a check failed.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

/// How many operations the script takes when nothing happens.
fn operations() -> u64 {
    let disk = LyingDisk::new(1);
    let progress = drive(&disk, 1);
    assert!(progress.finished(), "{:?}", progress.error());
    let operations = disk.operations();
    check(&open(&disk, 1).unwrap(), &progress);
    operations
}

#[test]
fn whatever_the_moment_at_which_the_machine_stops_nothing_is_lost() {
    let total = operations();
    let step = if setting("HEADWATER_DISK_ALL") > 0 {
        1
    } else {
        (total / POINTS).max(1)
    };
    let (mut visited, mut opening) = (0, 0);
    for k in (0..total).step_by(usize::try_from(step).unwrap()) {
        let crash = match k / step % 3 {
            0 => Crash::Everything,
            _ => Crash::Anything,
        };
        let workers = 1 + (k % 2) as usize;
        let disk = LyingDisk::new(k + 1_000 * setting("HEADWATER_DISK_SEED"));
        disk.crash_at(k);
        let progress = drive(&disk, workers);
        visited += u64::from(disk.is_down());
        disk.crash(crash);
        if k / step % 3 == 2 {
            disk.crash_at(disk.operations() + k % 37);
            drop(open(&disk, workers));
            opening += u64::from(disk.is_down());
            disk.crash(crash);
        }
        let db = open(&disk, 3 - workers).unwrap_or_else(|error| panic!("point {k}: {error}"));
        let _told = Told(format!(
            "point {k}, {crash:?}, {workers} workers, {progress:?}"
        ));
        check(&db, &progress);
    }
    println!("{visited} points of about {total} visited, {opening} more while opening");
}
