//! What a writer meets: a full disk, a failing fsync, rotation, retention, the syncer, the folder's lock.

mod support;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use headwater_log::lying::{Crash, LyingDisk, Op};
use headwater_log::{
    Append, Error, LogConfig, LogWriter, Needed, Position, RealDisk, Retention, SyncMode, Syncer,
    lock,
};
use support::watchdog::watch;
use support::{Truth, contents, dir, open, read_all, rows_from, small};

#[test]
fn appends_go_on_when_a_full_disk_has_room_again() {
    for room in 0..900 {
        let disk = LyingDisk::new(room);
        disk.set_short(room.is_multiple_of(2));
        let mut truth = Truth::default();
        let mut log = open(&disk).unwrap().0;
        disk.set_room(Some(disk.used() + room));
        let mut waited = 0;
        for n in 0..12 {
            let before = log.end();
            while let Err(error) = truth.append(&mut log, n, 60 + 10 * n as usize) {
                assert!(error.is_full(), "{error}");
                assert_eq!(
                    (log.end().offset, log.end().sequence),
                    (before.offset, before.sequence)
                );
                assert_eq!(read_all(&log).unwrap().len(), truth.records.len());
                disk.set_room(Some(disk.used() + room + 100 * waited));
                waited += 1;
            }
        }
        assert!(waited > 0 || room > 800);
        truth.durable = log.durability().sync().unwrap();
        disk.crash(Crash::Everything);
        truth.reopen(&disk).unwrap();
    }
}

#[test]
fn the_bytes_of_a_failed_append_are_cut_before_the_next() {
    let disk = LyingDisk::new(1);
    let mut truth = Truth::default();
    let mut log = open(&disk).unwrap().0;
    truth.append(&mut log, 1, 50).unwrap();
    let before = disk.used();
    disk.set_room(Some(before + 70));
    disk.fail(Op::Truncate, 0, ErrorKind::Other);
    disk.fail(Op::Truncate, 1, ErrorKind::Other);
    truth.append(&mut log, 1, 200).unwrap_err();
    assert_eq!(disk.used(), before + 70, "the first cut failed");
    truth.append(&mut log, 1, 1).unwrap_err();
    truth
        .append(&mut log, 1, 1)
        .expect_err("there is too little room");
    assert_eq!(disk.used(), before);
    disk.set_room(None);
    truth.append(&mut log, 1, 1).unwrap();
    truth.sync(&log).unwrap();
    drop(log);
    truth.reopen(&disk).unwrap();
}

#[test]
fn after_a_failed_fsync_nothing_is_appended_until_the_log_is_opened_again() {
    let _watchdog = watch("the failed fsync had not ended the wait for it");
    let disk = LyingDisk::new(1);
    let mut truth = Truth::default();
    let mut log = open(&disk).unwrap().0;
    truth.append(&mut log, 3, 50).unwrap();
    truth.sync(&log).unwrap();
    truth.append(&mut log, 3, 50).unwrap();
    let woken = Arc::new(AtomicUsize::new(0));
    let waking = woken.clone();
    let durability = log.durability();
    durability.on_sync(move |_| {
        waking.fetch_add(1, Ordering::Relaxed);
    });
    disk.fail(Op::Sync, 0, ErrorKind::Other);
    let place = log.end();
    let waiting = std::thread::spawn({
        let durability = durability.clone();
        move || durability.wait(place)
    });
    let failed =
        |result: Result<Position, Error>| assert!(matches!(result, Err(Error::SyncFailed { .. })));
    failed(durability.sync());
    failed(waiting.join().unwrap().map(|()| place));
    failed(durability.sync());
    failed(truth.append(&mut log, 1, 1).map(|()| place));
    assert_eq!(
        (durability.durable(), woken.load(Ordering::Relaxed)),
        (truth.durable, 1)
    );
    truth.attempt = None;
    // The cache still shows the record that the fsync dropped. Unless opening writes it again, the crash loses it.
    let log = truth.reopen(&disk).unwrap();
    assert_eq!(truth.records.len(), 2);
    drop(log);
    disk.crash(Crash::Everything);
    truth.reopen(&disk).unwrap();
    assert_eq!(truth.records.len(), 2);
}

#[test]
fn a_lesser_sequence_inverted_times_and_a_huge_payload_are_refused() {
    let disk = LyingDisk::new(1);
    let mut log = open(&disk).unwrap().0;
    log.append(&Append {
        sequence: 5,
        ..Append::default()
    })
    .unwrap();
    let error = log
        .append(&Append {
            sequence: 4,
            ..Append::default()
        })
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "sequence 4 is less than 5, the last one appended"
    );
    let error = log
        .append(&Append {
            sequence: 5,
            times: Some((2, 1)),
            ..Append::default()
        })
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "an event time range ends at 1, before it begins at 2"
    );
    let huge = vec![0; 1 << 26];
    let parts = [&huge[..]; 17];
    let error = log
        .append(&Append {
            sequence: 5,
            payload: &parts,
            ..Append::default()
        })
        .unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { bytes, .. } if bytes == 17 << 26),
        "{error}"
    );
}

#[test]
fn retention_removes_whole_segments_by_age_and_bytes_and_nothing_needed() {
    let disk = LyingDisk::new(1);
    let mut truth = Truth::default();
    let mut log = open(&disk).unwrap().0;
    (0..40).for_each(|_| truth.append(&mut log, 1, 100).unwrap());
    let by_bytes = |bytes| Retention {
        bytes: Some(bytes),
        age: None,
    };
    assert!(
        log.retain(0, &by_bytes(0), Needed::NOTHING)
            .unwrap()
            .is_empty(),
        "nothing is durable"
    );
    truth.sync(&log).unwrap();
    let total = || contents(&disk).len();
    let segments = total();
    let early = log.reader().read_from(0).unwrap();
    let age = Retention {
        age: Some(Duration::from_millis(10)),
        bytes: None,
    };
    assert!(
        log.retain(10_000, &age, Needed::NOTHING)
            .unwrap()
            .is_empty()
    );
    let removed = log.retain(25_000, &age, rows_from(9)).unwrap();
    assert!(
        removed
            .iter()
            .all(|gone| gone.appended_us.unwrap() < 15_000 && gone.offsets.end <= 9)
    );
    assert_eq!((removed.len(), total()), (2, segments - 2));
    assert_eq!(log.first_offset(), removed[1].offsets.end);
    let step = Needed {
        sequence: 4,
        ..Needed::NOTHING
    };
    assert!(log.retain(0, &by_bytes(0), step).unwrap().is_empty());
    let error = log.reader().read_from(0).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "offset 0 is no longer kept; the first kept offset is {}",
            log.first_offset()
        )
    );
    truth.removable = log.first_offset();
    let mut early = early;
    let error = loop {
        match early.next() {
            Ok(record) => assert!(
                record.is_some(),
                "the scan ends where retention has removed records"
            ),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Removed { first_kept, .. } if first_kept == log.first_offset()));
    log.retain(0, &by_bytes(0), Needed::NOTHING).unwrap();
    assert_eq!(
        total(),
        1,
        "retention keeps the segment that is being written"
    );
    truth.removable = log.first_offset();
    drop(log);
    truth.reopen(&disk).unwrap();
}

fn served(mode: SyncMode) -> (LyingDisk, Syncer, LogWriter) {
    let disk = LyingDisk::new(1);
    let config = LogConfig { mode, ..small() };
    let log = LogWriter::open(Arc::new(disk.clone()), dir(), config)
        .unwrap()
        .0;
    let syncer = Syncer::by_hand();
    syncer.serve(&log);
    (disk, syncer, log)
}

fn write(log: &mut LogWriter, bytes: usize) -> Position {
    log.append(&Append {
        rows: 1,
        payload: &[&vec![1; bytes]],
        ..Append::default()
    })
    .unwrap()
}

#[test]
fn an_async_log_is_synced_after_a_time_or_a_number_of_bytes_or_on_request() {
    let (every, ms) = (Duration::from_millis(100), Duration::from_millis);
    let (_disk, syncer, mut log) = served(SyncMode::Async { every, bytes: 1000 });
    let durability = log.durability();
    assert_eq!(syncer.turn(ms(0)), None);
    let first = write(&mut log, 10);
    assert_eq!(syncer.turn(ms(5)), Some(ms(105)));
    assert_eq!(syncer.turn(ms(104)), Some(ms(105)));
    assert!(durability.durable().bytes < first.bytes);
    assert_eq!(syncer.turn(ms(105)), None);
    assert_eq!(durability.durable(), first);
    let large = write(&mut log, 1000);
    assert_eq!((syncer.turn(ms(106)), durability.durable()), (None, large));
    let third = write(&mut log, 10);
    assert_eq!(syncer.turn(ms(107)), Some(ms(207)));
    durability.request();
    assert_eq!((syncer.turn(ms(108)), durability.durable()), (None, third));
    assert_eq!(durability.syncs(), 3);
}

#[test]
fn one_fsync_serves_all_appends_before_it() {
    let (disk, syncer, mut log) = served(SyncMode::Sync);
    let before = disk.count(Op::Sync);
    let end = (0..3).map(|_| write(&mut log, 10)).last().unwrap();
    syncer.turn(Duration::ZERO);
    log.durability().wait(end).unwrap();
    assert_eq!(
        (log.durability().syncs(), disk.count(Op::Sync) - before),
        (1, 1)
    );
}

#[test]
fn the_thread_serves_many_logs_and_wakes_waiters() {
    let _watchdog = watch("a waiter of one of the logs was not woken");
    let folder = tempfile::tempdir().unwrap();
    let syncer = Syncer::start().unwrap();
    let mut logs: Vec<LogWriter> = ["a", "b", "c"]
        .map(|name| {
            let config = LogConfig {
                mode: SyncMode::Sync,
                ..small()
            };
            let log = LogWriter::open(
                Arc::new(RealDisk),
                &folder.path().join("log").join(name),
                config,
            )
            .unwrap()
            .0;
            syncer.serve(&log);
            log
        })
        .into();
    let woken = Arc::new(AtomicUsize::new(0));
    for log in &mut logs {
        let waking = woken.clone();
        log.durability().on_sync(move |_| {
            waking.fetch_add(1, Ordering::Relaxed);
        });
        for n in 0..50 {
            let end = write(log, n * 20);
            log.durability().wait(end).unwrap();
        }
    }
    // A waiter may go on a moment before the callbacks have run.
    while woken.load(Ordering::Relaxed) < 150 {
        std::thread::yield_now();
    }
    let ends: Vec<Position> = logs.iter_mut().map(|log| write(log, 5)).collect();
    drop(syncer);
    for (log, end) in logs.iter().zip(ends) {
        assert_eq!(
            log.durability().durable(),
            end,
            "dropping the syncer syncs all logs"
        );
        assert_eq!(read_all(log).unwrap().len(), 51);
    }
}

#[test]
fn a_reader_on_another_thread_sees_whole_records_only() {
    let _watchdog = watch("the reader had not seen all records");
    let folder = tempfile::tempdir().unwrap();
    let mut log = LogWriter::open(Arc::new(RealDisk), folder.path(), small())
        .unwrap()
        .0;
    let mut scan = log.reader().read_from(0).unwrap();
    let reading = std::thread::spawn(move || {
        let mut seen = 0;
        while seen < 3000 {
            match scan.next().unwrap() {
                Some(record) => {
                    assert_eq!(
                        (record.first_offset, record.payload.len() as u64),
                        (seen, seen % 300)
                    );
                    seen += 1;
                }
                None => std::thread::yield_now(),
            }
        }
    });
    for n in 0..3000 {
        write(&mut log, n % 300);
    }
    reading.join().unwrap();
}

#[test]
fn an_opened_log_reads_only_its_last_segment() {
    let disk = LyingDisk::new(1);
    let mut truth = Truth::default();
    let mut log = open(&disk).unwrap().0;
    (0..60).for_each(|_| truth.append(&mut log, 1, 100).unwrap());
    log.close().unwrap();
    let (log, report) = open(&disk).unwrap();
    assert!(
        report.segments > 10 && report.scanned_bytes <= 800,
        "{report:?}"
    );
    drop(log);
    let indexes = disk
        .paths()
        .into_iter()
        .filter(|path| path.extension().unwrap_or_default() == "index");
    indexes.for_each(|path| headwater_log::Disk::remove(&disk, &path).unwrap());
    let (log, report) = open(&disk).unwrap();
    assert!(report.scanned_bytes > 8000);
    drop(log);
    assert!(
        open(&disk).unwrap().1.scanned_bytes <= 800,
        "the indexes were written again"
    );
    truth.reopen(&disk).unwrap();
}

#[test]
#[cfg(unix)]
fn only_its_owner_may_access_a_created_folder() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("data").join("log");
    headwater_log::Disk::create_dir(&RealDisk, &below).unwrap();
    for folder in [below.parent().unwrap(), &below] {
        let mode = std::fs::metadata(folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
    }
}

#[test]
fn a_second_lock_of_a_folder_names_the_process_that_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let held = lock(&RealDisk, folder.path()).unwrap();
    let error = lock(&RealDisk, folder.path()).unwrap_err();
    let expected = format!(
        "{} is in use by process {}",
        folder.path().display(),
        std::process::id()
    );
    assert_eq!(error.to_string(), expected);
    drop(held);
    lock(&RealDisk, folder.path()).unwrap();
    let disk = LyingDisk::new(1);
    let _held = lock(&disk, Path::new("/data")).unwrap();
    assert!(matches!(
        lock(&disk, Path::new("/data")),
        Err(Error::Locked { .. })
    ));
    disk.crash(Crash::Process);
    lock(&disk, Path::new("/data")).unwrap();
}

/// The test below runs this in a process of its own: it holds the lock until its standard input ends.
#[test]
fn hold_the_lock_for_another_process() {
    let Some(folder) = std::env::var_os("HEADWATER_TEST_LOCK") else {
        return;
    };
    let _held = lock(&RealDisk, Path::new(&folder)).unwrap();
    println!("held");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

#[test]
fn a_folder_is_locked_between_processes() {
    let _watchdog = watch("the child process had not taken the lock");
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "hold_the_lock_for_another_process",
            "--nocapture",
        ])
        .env("HEADWATER_TEST_LOCK", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap().contains("held")),
        "the child takes the lock"
    );
    let error = lock(&RealDisk, folder.path()).unwrap_err();
    assert!(
        matches!(error, Error::Locked { pid, .. } if pid == Some(child.id())),
        "{error}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    lock(&RealDisk, folder.path()).expect("the lock ends with its process");
}
