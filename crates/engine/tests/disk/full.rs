//! Full disks: the source pauses with a reason and continues when there is room; nothing is lost.
//!
//! Once on the lying disk, once on a small tmpfs where one can be mounted; elsewhere that test only
//! prints that it was skipped.

use std::path::Path;
use std::process::Command;

use headwater::Db;
use headwater::arrow::array::AsArray;
use headwater_log::lying::{Crash, LyingDisk};

use crate::script::{builder, numbers, open, push, source, trade, truth, views};
use crate::support::until;

/// The state of a source, and the reason for it.
fn state(db: &Db, name: &str) -> (String, Option<String>) {
    let sql = format!("SELECT state, reason FROM system.sources WHERE name = '{name}'");
    let rows = db.query(&sql).unwrap();
    let text = |column: usize| {
        let column = rows[0].column(column).as_string::<i32>();
        column.iter().next().flatten().map(str::to_owned)
    };
    (text(0).unwrap(), text(1))
}

/// Waits until the WAL writer, which retries by itself, has noticed that the disk has room again.
fn wait_for_room(db: &Db) {
    until("room on the disk", || db.flush().is_ok());
}

#[test]
fn a_full_disk_pauses_a_source_until_there_is_room() {
    let disk = LyingDisk::new(5);
    let db = open(&disk, 1).unwrap();
    db.execute(&source("trades", "")).unwrap();
    db.execute(&source("loose", "WITH (wal_mode = 'off')"))
        .unwrap();
    push(&db, "trades", 0..10);
    db.flush().unwrap();
    assert_eq!(state(&db, "trades"), ("running".to_owned(), None));

    disk.set_room(Some(disk.used()));
    push(&db, "trades", 10..20);
    let full = db.flush().unwrap_err().to_string();
    assert!(full.contains("/data/log/trades"), "{full}");
    let (paused, reason) = state(&db, "trades");
    assert_eq!((paused.as_str(), reason.is_some()), ("paused", true));
    // Pushes go on until the buffer is full; nothing of it is taken.
    let handle = db.source("trades").unwrap();
    (20..40).for_each(|number| handle.push(trade(number)).unwrap());
    assert!(db.settle().is_err(), "rows wait for the disk");
    assert!(db.checkpoint().is_err());
    let loose = db.source("loose").unwrap();
    (0..30).for_each(|number| loose.push(trade(number)).unwrap());
    assert!(db.settle().is_err());
    assert_eq!(
        views(&db, "loose"),
        truth(30),
        "a source without a log goes on"
    );
    assert_eq!(state(&db, "loose"), ("running".to_owned(), None));
    assert_eq!(views(&db, "trades"), truth(20));

    disk.set_room(None);
    wait_for_room(&db);
    assert_eq!(views(&db, "trades"), truth(40));
    assert_eq!(state(&db, "trades"), ("running".to_owned(), None));
    disk.crash(Crash::Everything);
    let again = open(&disk, 1).unwrap();
    assert_eq!(views(&again, "trades"), truth(40));
}

#[test]
fn checkpoints_that_fail_leave_no_litter_on_a_full_disk() {
    let disk = LyingDisk::new(6);
    let db = open(&disk, 1).unwrap();
    db.execute(&source("trades", "")).unwrap();
    push(&db, "trades", 0..50);
    db.flush().unwrap();
    let files = || {
        let mut paths = disk.paths();
        paths.retain(|path| path.starts_with("/data/checkpoints"));
        paths
    };
    let before = files();
    // Room for a part of a checkpoint.
    disk.set_room(Some(disk.used() + 1_000));
    for _ in 0..5 {
        assert!(db.checkpoint().is_err());
        assert_eq!(files(), before);
    }
    disk.set_room(None);
    db.checkpoint().unwrap();
    disk.crash(Crash::Everything);
    assert_eq!(views(&open(&disk, 1).unwrap(), "trades"), truth(50));
}

#[test]
fn a_database_closes_while_its_disk_is_full() {
    let disk = LyingDisk::new(7);
    let db = open(&disk, 1).unwrap();
    db.execute(&source("trades", "")).unwrap();
    push(&db, "trades", 0..10);
    db.flush().unwrap();
    disk.set_room(Some(disk.used()));
    push(&db, "trades", 10..20);
    assert!(db.flush().is_err());
    let handle = db.source("trades").unwrap();
    (20..40).for_each(|number| handle.push(trade(number)).unwrap());
    db.close();
    disk.set_room(None);
    assert_eq!(
        views(&open(&disk, 1).unwrap(), "trades"),
        truth(10),
        "what was flushed"
    );
}

/// A mounted tmpfs, unmounted at the end.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    /// `None` if this process may not mount.
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={size}");
        let mounting = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .output();
        let mounted = mounting.is_ok_and(|output| output.status.success());
        mounted.then(|| Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.path()).status();
        assert!(
            unmounted.is_ok_and(|status| status.success()),
            "cannot unmount"
        );
    }
}

#[test]
fn a_small_tmpfs_fills_up_and_is_given_room() {
    let Some(tmpfs) = Tmpfs::mount("2m") else {
        println!("skipped: this process may not mount a tmpfs");
        return;
    };
    let ballast = tmpfs.path().join("ballast");
    std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let db = builder(1)
        .segment_bytes(64 << 20)
        .open(tmpfs.path().join("data"))
        .unwrap();
    db.execute(&source("trades", "")).unwrap();
    let mut rows = 0;
    while db.flush().is_ok() {
        let more: Vec<_> = (rows..rows + 1_000).map(trade).collect();
        db.source("trades").unwrap().push_batch(&more).unwrap();
        rows += 1_000;
        assert!(rows < 10_000_000, "the disk is never full");
    }
    let (paused, reason) = state(&db, "trades");
    assert_eq!(paused, "paused");
    let reason = reason.unwrap();
    assert!(reason.contains("No space left"), "{reason}");
    println!("a disk of 1 MiB was full after {rows} rows: {reason}");
    std::fs::remove_file(&ballast).unwrap();
    wait_for_room(&db);
    let n = "SELECT CAST(SUM(n) AS BIGINT), CAST(SUM(qty) AS BIGINT) FROM trades_totals";
    let expected = vec![Some(rows), Some(rows * (rows - 1) / 2)];
    assert_eq!(numbers(&db, n), expected);
    drop(db);
    let db = Db::open(tmpfs.path().join("data")).unwrap();
    assert_eq!(numbers(&db, n), expected);
    drop(db);
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    for file in open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok()) {
        assert!(
            !file.starts_with(tmpfs.path()),
            "{} is still open",
            file.display()
        );
    }
}
