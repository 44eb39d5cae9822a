//! Disks that lose an fsync, fail an operation, or change a bit.
//!
//! A disk that fails once is not a crash: the database continues, or reports the error, and loses nothing
//! that it confirmed. A disk that lies can lose what it confirmed; then the database opens with the rows
//! of an earlier moment, or refuses with the file's name. It never has wrong rows.

use std::io::ErrorKind;
use std::path::Path;

use headwater::Error;
use headwater_log::lying::{Crash, LyingDisk, Op};

use crate::script::{Progress, check, check_lied, drive, open, push, source, truth, views};
use crate::setting;

/// Bytes of each file that are changed in turn, when all is visited.
const BYTES: u64 = 40;

/// Every `step`th of what could be done, or every one.
fn step(of: u64, points: u64) -> usize {
    let few = (of / points).max(1);
    let step = if setting("HEADWATER_DISK_ALL") > 0 {
        1
    } else {
        few
    };
    usize::try_from(step).unwrap()
}

/// The disk after the script has run to its end, and how far that is.
fn finished() -> (LyingDisk, std::sync::Arc<Progress>) {
    let disk = LyingDisk::new(3);
    let progress = drive(&disk, 1);
    assert!(progress.finished(), "{:?}", progress.error());
    (disk, progress)
}

#[test]
fn an_operation_that_fails_once_loses_nothing() {
    let (disk, _) = finished();
    let mut visited = 0;
    for op in [
        Op::Open,
        Op::Create,
        Op::Write,
        Op::Truncate,
        Op::Sync,
        Op::SyncDir,
        Op::Rename,
        Op::Remove,
    ] {
        let count = disk.count(op);
        for nth in (0..count).step_by(step(count, 4)) {
            let failing = LyingDisk::new(nth);
            failing.fail(op, nth, ErrorKind::Other);
            let progress = drive(&failing, 1);
            failing.crash(Crash::Everything);
            // How many operations a run takes depends on the threads: after a run of fewer, it is the
            // opening that fails, and the next one does not.
            let to_come = failing.count(op) <= nth;
            let opened = match open(&failing, 1) {
                Err(_) if to_come => open(&failing, 1),
                opened => opened,
            };
            let db = opened.unwrap_or_else(|error| panic!("{op:?} {nth}: {error}"));
            check(&db, &progress);
            visited += 1;
        }
    }
    println!("{visited} failing operations visited");
}

#[test]
fn a_disk_that_loses_an_fsync_gives_an_earlier_moment_or_an_error() {
    let (disk, _) = finished();
    let (syncs, operations) = (disk.count(Op::Sync), disk.operations());
    let (mut opened, mut refused) = (0, 0);
    for nth in (0..syncs).step_by(step(syncs, 20)) {
        let lying = LyingDisk::new(nth);
        match nth % 2 {
            0 => lying.lose_sync(nth),
            _ => lying.lose_all_syncs(true),
        }
        lying.crash_at(operations * (nth + 1) / (syncs + 1) + nth % 9);
        let progress = drive(&lying, 1);
        lying.crash(Crash::Anything);
        match open(&lying, 1) {
            Ok(db) => {
                check_lied(&db, &progress);
                opened += 1;
            }
            Err(Error::Data(what)) => {
                assert!(what.contains("/data/"), "{nth}: {what}");
                refused += 1;
            }
            Err(other) => panic!("{nth}: {other}"),
        }
    }
    println!("{opened} lost fsyncs did no harm, {refused} were reported");
}

/// The files of the newest checkpoint, the manifest last.
fn newest(disk: &LyingDisk, ending: &str) -> std::path::PathBuf {
    let mut paths = disk.paths();
    paths.retain(|path| path.extension().is_some_and(|found| found == ending));
    paths.pop().unwrap()
}

#[test]
fn a_changed_bit_is_reported_or_repaired() {
    let (disk, progress) = finished();
    let (mut good, mut reported) = (0, 0);
    for path in disk.paths() {
        if path == Path::new("/data/LOCK") {
            continue;
        }
        let bytes = disk.contents(&path).unwrap().len() as u64;
        let points = if setting("HEADWATER_DISK_ALL") > 0 {
            BYTES
        } else {
            4
        };
        let step = usize::try_from((bytes / points).max(1)).unwrap();
        for byte in (0..bytes).step_by(step) {
            let damaged = disk.fork();
            damaged.flip(&path, byte, (byte % 8) as u8);
            match open(&damaged, 1) {
                Ok(db) => {
                    crate::script::check_views(&db, &progress);
                    good += 1;
                }
                Err(Error::Data(what)) => {
                    assert!(
                        what.contains("/data/") || what.contains(".json"),
                        "{}: {what}",
                        path.display()
                    );
                    reported += 1;
                }
                Err(other) => panic!("{}: {other}", path.display()),
            }
        }
    }
    println!("{good} bits made no difference, {reported} were reported");
}

#[test]
fn retention_leaves_what_the_checkpoint_before_needs() {
    let disk = LyingDisk::new(4);
    let db = open(&disk, 1).unwrap();
    db.execute(&source("trades", "WITH (retention_bytes = '3KB')"))
        .unwrap();
    // Many more rows between two checkpoints than retention would keep.
    for part in 0..40 {
        push(&db, "trades", part * 10..(part + 1) * 10);
        if part == 9 {
            db.checkpoint().unwrap();
        }
    }
    db.checkpoint().unwrap();
    // The WAL writer deletes expired segments before it writes the next record.
    for part in 40..42 {
        push(&db, "trades", part * 10..(part + 1) * 10);
        db.flush().unwrap();
    }
    // As the process leaves it when it is killed.
    let disk = disk.fork();
    let mut manifests = disk.paths();
    manifests.retain(|path| path.extension().is_some_and(|found| found == "json"));
    assert_eq!(manifests.len(), 2, "{manifests:?}");
    assert!(disk.flip(&manifests[1], 30, 1));
    let db = open(&disk, 1).unwrap();
    assert_eq!(views(&db, "trades"), truth(420));
}

#[test]
fn the_checkpoint_before_makes_good_a_damaged_one() {
    let (disk, progress) = finished();
    for ending in ["json", "data"] {
        let damaged = disk.fork();
        let path = newest(&damaged, ending);
        let middle = damaged.contents(&path).unwrap().len() as u64 / 2;
        assert!(damaged.flip(&path, middle, 3));
        let db = open(&damaged, 1).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        check(&db, &progress);
        db.close();
        // And that damage is gone with the next checkpoint.
        drop(open(&damaged, 1).unwrap());
    }
}
