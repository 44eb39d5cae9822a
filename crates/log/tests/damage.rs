//! Bytes that are wrong: one bit flipped anywhere in a small log, files of arbitrary bytes, lengths that lie.
//!
//! Each is detected or harmless. What is read is never wrong, opening never panics, and no allocation exceeds what the
//! file's length justifies. With `skip_damaged`, the rows returned and the rows reported as lost make up the whole log.

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use headwater_log::lying::{Crash, LyingDisk};
use headwater_log::{Defect, Error, LogConfig, LogScan, LogWriter, Recovered, Result};
use proptest::prelude::*;
use support::{Truth, dir, open, read, read_all, small};

fn a_log() -> (LyingDisk, Truth) {
    let disk = LyingDisk::new(3);
    let mut truth = Truth::default();
    let (mut log, _) = open(&disk).unwrap();
    for n in 0..12 {
        truth.append(&mut log, n % 4, 30 + n as usize * 11).unwrap();
        if n.is_multiple_of(3) {
            truth.sync(&log).unwrap();
        }
    }
    truth.durable = log.close().unwrap();
    (disk, truth)
}

fn open_skipping(disk: &LyingDisk) -> Result<(LogWriter, Recovered)> {
    let config = LogConfig {
        skip_damaged: true,
        ..small()
    };
    LogWriter::open(Arc::new(disk.clone()), dir(), config)
}

fn scan_skipping(log: &LogWriter) -> LogScan {
    let scan = log.reader().read_from(log.first_offset());
    scan.unwrap().skip_damaged()
}

/// Opens and reads the log, skipping damage: all rows are returned or reported as lost, in order, and none is wrong.
fn check_skipping(disk: &LyingDisk, truth: &Truth, what: &str) {
    let (log, report) = open_skipping(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut scan = scan_skipping(&log);
    let mut covered = log.first_offset();
    for lost in report
        .damaged
        .iter()
        .take_while(|lost| lost.offsets.start < covered)
    {
        assert!(lost.offsets.end <= covered, "{what}: {lost}");
    }
    let found = read(&mut scan).unwrap_or_else(|error| panic!("{what}: {error}"));
    let lost: Vec<_> = std::iter::from_fn(|| scan.lost()).collect();
    let mut stretches: Vec<_> = lost.iter().map(|lost| lost.offsets.clone()).collect();
    for kept in &found {
        assert!(
            truth.records.iter().any(|(record, _)| record == kept),
            "{what}: wrong data"
        );
        stretches.push(kept.first_offset..kept.first_offset + u64::from(kept.rows));
    }
    stretches.sort_by_key(|stretch| (stretch.start, stretch.end));
    for stretch in stretches {
        assert_eq!(
            stretch.start, covered,
            "{what}: rows neither returned nor reported, {lost:?} {report:?}"
        );
        covered = stretch.end;
    }
    let tail = report
        .damaged
        .iter()
        .map(|lost| lost.offsets.end)
        .max()
        .unwrap_or_default();
    assert_eq!(
        covered.max(tail),
        truth.end().offset,
        "{what}: {lost:?} {report:?}"
    );
    assert_eq!(log.end().offset, truth.end().offset, "{what}");
}

#[test]
fn a_flipped_bit_is_detected_or_harmless() {
    let (sound, truth) = a_log();
    let (mut harmless, mut refused, mut found_reading) = (0, 0, 0);
    for path in sound.paths() {
        for byte in 0..sound.contents(&path).unwrap().len() as u64 {
            let disk = sound.fork();
            let bit = (byte * 7 % 8) as u8;
            assert!(disk.flip(&path, byte, bit));
            let what = format!("{} byte {byte} bit {bit}", path.display());
            match open(&disk.fork()).and_then(|(log, report)| Ok((read_all(&log)?, report))) {
                Ok((found, report)) => {
                    assert!(report.cut.is_empty(), "{what}: {:?}", report.cut);
                    let all: Vec<_> = truth.records.iter().map(|(kept, _)| kept.clone()).collect();
                    assert!(found == all, "{what}");
                    harmless += 1;
                }
                Err(Error::Damaged(damage)) => {
                    assert!(path == damage.file, "{what}: {damage}");
                    match open(&disk.fork()) {
                        Ok(_) => found_reading += 1,
                        Err(_) => refused += 1,
                    }
                    check_skipping(&disk, &truth, &what);
                    open(&disk)
                        .unwrap_or_else(|error| panic!("{what}: skipped once, and still {error}"));
                }
                Err(other) => panic!("{what}: {other}"),
            }
        }
    }
    println!(
        "{harmless} bits harmless, {refused} refused when opening, {found_reading} found when reading"
    );
    assert!(harmless > 100 && refused > 100 && found_reading > 100);
}

#[test]
fn a_missing_segment_is_reported() {
    let (sound, truth) = a_log();
    let segments: Vec<PathBuf> = support::contents(&sound).into_keys().collect();
    for (n, path) in segments.iter().enumerate().skip(1) {
        let disk = sound.fork();
        headwater_log::Disk::remove(&disk, path).unwrap();
        let error = open(&disk).expect_err("a segment is gone");
        let Error::Damaged(damage) = error else {
            panic!("{error}")
        };
        assert_eq!(
            (damage.file, damage.why),
            (segments[n - 1].clone(), Defect::Missing)
        );
        assert!(!damage.offsets.is_empty());
        let (log, report) = open_skipping(&disk).unwrap();
        assert!(!report.damaged.is_empty());
        assert_eq!(log.end().offset, truth.end().offset);
    }
}

#[test]
fn without_mark_and_indexes_the_records_still_show_what_was_durable() {
    let (disk, _) = a_log();
    let segments = support::contents(&disk);
    for path in disk.paths() {
        if !segments.contains_key(&path) {
            headwater_log::Disk::remove(&disk, &path).unwrap();
        }
    }
    let first = segments.keys().next().unwrap();
    assert!(
        disk.flip(first, 64 + 72, 0),
        "the payload of the first record"
    );
    let error = open(&disk).expect_err("it was durable when a later record was written");
    let Error::Damaged(damage) = error else {
        panic!("{error}")
    };
    assert_eq!(
        (&damage.file, damage.position, damage.why),
        (first, 64, Defect::Payload)
    );
}

#[test]
fn a_lost_fsync_is_reported() {
    for seed in 0..50 {
        let disk = LyingDisk::new(seed);
        let mut truth = Truth::default();
        let (mut log, _) = open(&disk).unwrap();
        (0..6).for_each(|_| truth.append(&mut log, 2, 50).unwrap());
        truth.sync(&log).unwrap();
        let good = truth.records.len();
        (0..3).for_each(|_| truth.append(&mut log, 2, 50).unwrap());
        disk.lose_all_syncs(true);
        truth.sync(&log).unwrap();
        disk.lose_all_syncs(false);
        disk.crash(Crash::Anything);
        match open(&disk) {
            Ok((log, report)) => {
                let found = read_all(&log).unwrap();
                assert!(found.len() >= good, "what was synced honestly is there");
                let reported = !report.cut.is_empty() || found.len() == truth.records.len();
                // Where neither the bytes nor the mark reached the disk, nothing is left that could show the loss.
                assert!(reported || report.end.bytes < truth.durable.bytes);
            }
            Err(Error::Damaged(damage)) => {
                assert!(damage.offsets.end <= truth.end().offset, "{damage}")
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// What the checksums of a version begin with.
fn seed(version: u32) -> u32 {
    match version {
        1 | 2 => 0,
        _ => crc32c::crc32c(&small().id.to_le_bytes()),
    }
}

/// A segment's header with matching checksums, as `FORMAT.md` draws it.
fn segment_header(version: u32) -> Vec<u8> {
    let mut bytes = b"HWLOG\x1a\r\n".to_vec();
    bytes.extend(version.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed(version), &bytes), &[0; 48]);
    bytes.extend(crc.to_le_bytes());
    bytes.extend([0; 48]);
    bytes
}

/// A record's header with matching checksums for place 64.
fn record_header(version: u32, len: u32, first_offset: u64, rows: u32) -> Vec<u8> {
    let mut body = len.to_le_bytes().to_vec();
    body.extend(0u32.to_le_bytes());
    body.extend(first_offset.to_le_bytes());
    body.extend([0; 40]);
    body.extend(rows.to_le_bytes());
    body.extend(0u32.to_le_bytes());
    let place = crc32c::crc32c_append(seed(version), &64u64.to_le_bytes());
    let crc = crc32c::crc32c_append(place, &body);
    [
        vec![0xf5, b'H', b'W', b'R'],
        crc.to_le_bytes().to_vec(),
        body,
    ]
    .concat()
}

fn planted(bytes: &[u8]) -> LyingDisk {
    let disk = LyingDisk::new(0);
    disk.plant(&dir().join("00000000000000000000.log"), bytes);
    disk
}

#[test]
fn a_corrupt_length_allocates_nothing() {
    let lying = [
        segment_header(3),
        record_header(3, 1 << 30, 0, 1),
        vec![7; 100],
    ]
    .concat();
    let disk = planted(&lying);
    let used = allocation_counter::measure(|| {
        let (_, report) = open(&disk).unwrap();
        assert_eq!(
            (report.cut[0].position, report.cut[0].why),
            (64, Defect::Torn)
        );
    });
    assert!(used.bytes_max < 3 << 20, "{used:?}");
}

#[test]
fn what_format_md_draws_is_what_is_read() {
    for version in [1, 2, 3] {
        let sound = [segment_header(version), record_header(version, 0, 0, 9)].concat();
        let (log, report) = open(&planted(&sound)).unwrap();
        assert_eq!((report.cut, log.end().offset), (vec![], 9));
    }
    let overflowing = [segment_header(3), record_header(3, 0, u64::MAX, 9)].concat();
    assert_eq!(
        open(&planted(&overflowing)).unwrap().1.cut[0].why,
        Defect::Header
    );
    let error = open(&planted(&segment_header(4))).expect_err("a later version");
    assert!(
        matches!(
            error,
            Error::Version {
                found: 4,
                known: 3,
                ..
            }
        ),
        "{error}"
    );
}

/// Opens and reads the log with and without skipping damage, and expects no panic.
fn survive(disk: &LyingDisk) {
    if let Ok((log, _)) = open(&disk.fork()) {
        let _ = read_all(&log);
    }
    if let Ok((mut log, _)) = open_skipping(disk) {
        read(&mut scan_skipping(&log)).unwrap();
        let _ = log.append(&headwater_log::Append {
            sequence: u64::MAX,
            ..Default::default()
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600), headed in any::<bool>(), mark in any::<[u8; 32]>()) {
        let bytes = if headed { [segment_header(3), bytes].concat() } else { bytes };
        let disk = planted(&bytes);
        disk.plant(&dir().join("durable"), &mark);
        let used = allocation_counter::measure(|| survive(&disk));
        prop_assert!(used.bytes_max < 8 << 20, "{used:?}");
    }

    #[test]
    fn sound_headers_with_any_numbers_are_survived(len: u32, first: u64, rows: u32, tail in prop::collection::vec(any::<u8>(), 0..200)) {
        survive(&planted(&[segment_header(3), record_header(3, len, first, rows), tail].concat()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_log_never_gives_wrong_data(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..5u8, any::<u8>()), 1..6)) {
        let (disk, truth) = a_log();
        for (file, at, kind, byte) in changes {
            let paths = disk.paths();
            let path = &paths[file.index(paths.len())];
            let mut bytes = disk.contents(path).unwrap();
            let place = at.index(bytes.len() + 1);
            match kind {
                0 => bytes.truncate(place),
                1 => bytes.insert(place, byte),
                2 => bytes.extend(vec![byte; place]),
                3 => bytes = bytes.split_off(place),
                _ => bytes.iter_mut().skip(place).take(20).for_each(|old| *old = byte),
            }
            disk.plant(path, &bytes);
        }
        for opened in [open(&disk.fork()), open_skipping(&disk)] {
            let Ok((log, _)) = opened else { continue };
            for kept in read(&mut scan_skipping(&log)).unwrap() {
                prop_assert!(truth.records.iter().any(|(record, _)| *record == kept), "wrong data");
            }
        }
    }
}

#[test]
fn a_missing_first_segment_is_reported_unless_retention_removed_it() {
    let (sound, _) = a_log();
    let segments: Vec<PathBuf> = support::contents(&sound).into_keys().collect();
    let disk = sound.fork();
    headwater_log::Disk::remove(&disk, &segments[0]).unwrap();
    let Err(Error::Damaged(damage)) = open(&disk) else {
        panic!("the first segment is gone");
    };
    assert_eq!(
        (damage.file, damage.why),
        (segments[1].clone(), Defect::Beginning)
    );
    assert!(damage.offsets.start == 0 && damage.offsets.end > 0);
    // With a note of retention of another segment it is noticed as well.
    let disk = sound.fork();
    let (mut log, _) = open(&disk).unwrap();
    let total: usize = support::contents(&disk)
        .values()
        .map(|file| file.len())
        .sum();
    let all = headwater_log::Retention {
        age: None,
        bytes: Some(total as u64 - 1),
    };
    let removed = log.retain(0, &all, headwater_log::Needed::NOTHING).unwrap();
    assert!(!removed.is_empty() && removed.len() + 1 < segments.len());
    drop(log);
    open(&disk).unwrap();
    headwater_log::Disk::remove(&disk, &segments[removed.len()]).unwrap();
    assert!(matches!(open(&disk), Err(Error::Damaged(_))));
    open_skipping(&disk).unwrap();
    open(&disk).unwrap();
}

#[test]
fn files_of_another_log_are_noticed() {
    let (sound, truth) = a_log();
    // The same records, in a log with another id.
    let other = LyingDisk::new(3);
    let config = LogConfig { id: 8, ..small() };
    let (mut log, _) = LogWriter::open(Arc::new(other.clone()), dir(), config).unwrap();
    let mut twin = Truth::default();
    for n in 0..12 {
        twin.append(&mut log, n % 4, 30 + n as usize * 11).unwrap();
        twin.sync(&log).unwrap();
    }
    log.close().unwrap();
    let mut exchanged = 0;
    for path in sound.paths() {
        let Some(bytes) = other.contents(&path) else {
            continue;
        };
        let disk = sound.fork();
        disk.plant(&path, &bytes);
        let is_segment = path.extension().is_some_and(|ending| ending == "log");
        match open(&disk).and_then(|(log, _)| read_all(&log)) {
            Err(Error::Damaged(damage)) => assert_eq!(damage.file, path),
            // The mark and the indexes are not needed.
            Ok(found) => {
                assert!(!is_segment, "{}", path.display());
                let all: Vec<_> = truth.records.iter().map(|(kept, _)| kept.clone()).collect();
                assert!(found == all, "{}", path.display());
            }
            Err(other) => panic!("{other}"),
        }
        exchanged += 1;
    }
    assert!(exchanged > 5);
}

#[test]
fn a_log_that_ends_before_a_known_place_is_damaged() {
    let (sound, truth) = a_log();
    let last = support::contents(&sound).into_keys().next_back().unwrap();
    let known = truth.durable;
    // An older copy of the log: its last segment is missing, and nothing else tells.
    let disk = sound.fork();
    disk.plant(&dir().join("durable"), &[]);
    headwater_log::Disk::remove(&disk, &last).unwrap();
    let config = LogConfig { known, ..small() };
    let error = LogWriter::open(Arc::new(disk.clone()), dir(), config).expect_err("shorter");
    let Error::Damaged(damage) = error else {
        panic!("{error}")
    };
    assert_eq!(
        (damage.why, damage.offsets.end),
        (Defect::Missing, known.offset)
    );
    let empty = LyingDisk::new(0);
    let config = LogConfig { known, ..small() };
    assert!(LogWriter::open(Arc::new(empty.clone()), dir(), config).is_err());
    assert!(empty.paths().is_empty(), "nothing was created");
}

#[test]
fn a_log_can_begin_at_an_offset() {
    let disk = LyingDisk::new(0);
    let known = headwater_log::Position {
        offset: 40,
        ..Default::default()
    };
    let config = LogConfig { known, ..small() };
    let (log, _) = LogWriter::open(Arc::new(disk), dir(), config).unwrap();
    assert_eq!((log.first_offset(), log.end().offset), (40, 40));
}

#[test]
fn an_inspection_changes_nothing_and_finds_what_an_opening_finds() {
    let (sound, truth) = a_log();
    let files = |disk: &LyingDisk| -> Vec<_> {
        let paths = disk.paths().into_iter();
        paths.map(|path| (disk.contents(&path), path)).collect()
    };
    for path in sound.paths() {
        let length = sound.contents(&path).unwrap().len() as u64;
        for byte in (0..length).step_by(5) {
            let disk = sound.fork();
            assert!(disk.flip(&path, byte, 1));
            let before = files(&disk);
            let mut rows = 0;
            let count = |record: headwater_log::LogRecord<'_>| {
                rows += u64::from(record.rows);
                Ok(())
            };
            let found = headwater_log::inspect(&disk, dir(), &small(), count).unwrap();
            assert_eq!(files(&disk), before);
            let lost: u64 = found
                .damaged
                .iter()
                .map(|it| it.damage.offsets.end - it.damage.offsets.start)
                .sum();
            assert_eq!(rows + lost, truth.end().offset, "{} {byte}", path.display());
            if path.extension().is_some_and(|ending| ending == "log") {
                assert_eq!(found.damaged.len(), 1, "{} {byte}", path.display());
            }
        }
    }
}
