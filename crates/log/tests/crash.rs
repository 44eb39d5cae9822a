//! A crash at every operation of a script that appends, rotates, syncs, retains and reopens.
//!
//! The script is run to its end once to count the disk's operations. Then it is run again for each of them: the machine
//! stops there, the disk keeps nothing, everything or a random part of what was not synced, and the log is opened and
//! compared with the model. Then it goes on: more is appended and synced, everything unsynced is lost, and the log must
//! hold all that was synced.
//! `cargo test -p headwater-log --test crash -- --nocapture` prints how many points were visited.

mod support;

use headwater_log::lying::{Crash, LyingDisk, Op};
use headwater_log::{LogWriter, Result, Retention};
use support::{Truth, open, rows_from};

/// Keeps 1500 bytes, that is more than two segments, and the last ten durable rows.
fn retain(truth: &mut Truth, log: &mut LogWriter) -> Result<()> {
    let offset = truth.durable.offset.saturating_sub(10);
    truth.removable = truth.removable.max(offset);
    let keep = Retention {
        bytes: Some(1500),
        age: None,
    };
    log.retain(0, &keep, rows_from(offset)).map(drop)
}

fn script(disk: &LyingDisk, truth: &mut Truth) -> Result<()> {
    let (mut log, _) = open(disk)?;
    for round in 0..5 {
        for n in 0..9 {
            truth.append(&mut log, (n * 3) % 7, 40 + 31 * n as usize)?;
            if n % 4 == 3 {
                truth.sync(&log)?;
            }
        }
        if round % 2 == 1 {
            truth.append(&mut log, 1, 6000)?;
            log.close()?;
            truth.durable = truth.end();
            log = truth.reopen(disk)?;
        }
        if round > 1 {
            retain(truth, &mut log)?;
        }
    }
    truth.append(&mut log, 0, 0)?;
    truth.sync(&log)
}

/// Opens after a crash, goes on, and crashes again.
fn go_on(disk: &LyingDisk, truth: &mut Truth) {
    let mut log = truth.reopen(disk).expect("a crash is no damage");
    for n in 0..6 {
        truth.append(&mut log, n, 90).expect("a disk that works");
    }
    truth.sync(&log).expect("a disk that works");
    truth.append(&mut log, 1, 100).expect("a disk that works");
    disk.crash(Crash::Anything);
    let log = truth.reopen(disk).expect("a crash is no damage");
    drop(log);
    disk.crash(Crash::Everything);
    truth.reopen(disk).expect("what was opened once is durable");
}

#[test]
fn a_crash_at_every_operation_loses_nothing_acknowledged() {
    let whole = LyingDisk::new(1);
    let mut truth = Truth::default();
    script(&whole, &mut truth).expect("a disk that works");
    assert!(truth.removable > 0 && truth.records.len() > 45);
    assert!(
        whole.count(Op::Remove) > 4,
        "retention has removed segments and their indexes"
    );
    let mut visited = 0;
    for k in 0..whole.operations() {
        for (seed, crash) in crashes() {
            let disk = LyingDisk::new(seed);
            disk.set_short(seed % 2 == 1);
            disk.crash_at(k);
            let mut truth = Truth::default();
            // The last operation may be a write of a mark or an index, whose failure does not fail the script.
            let _ = script(&disk, &mut truth);
            assert!(disk.is_down());
            disk.crash(crash);
            go_on(&disk, &mut truth);
            visited += 1;
        }
    }
    println!(
        "{} operations, {visited} crashes visited, nothing acknowledged was lost",
        whole.operations()
    );
    assert!(visited > 2000, "only {visited}");
}

fn crashes() -> impl Iterator<Item = (u64, Crash)> {
    let any = (0..10).map(|seed| (seed, Crash::Anything));
    any.chain([(100, Crash::Process), (101, Crash::Everything)])
}

#[test]
fn a_crash_at_every_operation_of_the_recovery_loses_nothing_acknowledged() {
    let mut visited = 0;
    for seed in 0..40 {
        let torn = LyingDisk::new(seed);
        let mut truth = Truth::default();
        torn.crash_at(60 + seed * 3);
        script(&torn, &mut truth).expect_err("it stops in the middle");
        torn.crash(Crash::Anything);
        let whole = torn.fork();
        open(&whole).expect("a crash is no damage");
        for k in 0..whole.operations() {
            let disk = torn.fork();
            disk.crash_at(k);
            let _ = open(&disk);
            assert!(disk.is_down());
            disk.crash(Crash::Anything);
            go_on(&disk, &mut truth.clone());
            visited += 1;
        }
    }
    println!("{visited} crashes of the recovery visited");
    assert!(visited > 500, "only {visited}");
}

#[test]
fn cut_bytes_do_not_come_back_behind_later_appends() {
    let mut cut = 0;
    for seed in 0..600 {
        let disk = LyingDisk::new(seed);
        let mut truth = Truth::default();
        let mut log = open(&disk).expect("an empty disk").0;
        truth.append(&mut log, 1, 50).expect("a disk that works");
        truth.sync(&log).expect("a disk that works");
        truth.append(&mut log, 1, 50).expect("a disk that works");
        truth.append(&mut log, 1, 50).expect("a disk that works");
        disk.crash(Crash::Anything);
        let mut log = truth.reopen(&disk).expect("a crash is no damage");
        if truth.records.len() > 1 {
            continue;
        }
        // As long as the one that was cut, so that the sound bytes of the last one would follow it exactly.
        truth.append(&mut log, 1, 50).expect("a disk that works");
        disk.crash(Crash::Anything);
        truth.reopen(&disk).expect("a crash is no damage");
        cut += 1;
    }
    assert!(cut > 200, "only {cut}");
}
