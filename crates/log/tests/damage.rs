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

/// A segment's header with matching checksums, as `FORMAT.md` draws it.
fn segment_header() -> Vec<u8> {
    let mut bytes = b"HWLOG\x1a\r\n".to_vec();
    bytes.extend(1u32.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), &[0; 48]);
    bytes.extend(crc.to_le_bytes());
    bytes.extend([0; 48]);
    bytes
}

/// A record's header with matching checksums for place 64.
fn record_header(len: u32, first_offset: u64, rows: u32) -> Vec<u8> {
    let mut body = len.to_le_bytes().to_vec();
    body.extend(0u32.to_le_bytes());
    body.extend(first_offset.to_le_bytes());
    body.extend([0; 40]);
    body.extend(rows.to_le_bytes());
    body.extend(0u32.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&64u64.to_le_bytes()), &body);
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
    let lying = [segment_header(), record_header(1 << 30, 0, 1), vec![7; 100]].concat();
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
    let sound = [segment_header(), record_header(0, 0, 9)].concat();
    let (log, report) = open(&planted(&sound)).unwrap();
    assert_eq!((report.cut, log.end().offset), (vec![], 9));
    let overflowing = [segment_header(), record_header(0, u64::MAX, 9)].concat();
    assert_eq!(
        open(&planted(&overflowing)).unwrap().1.cut[0].why,
        Defect::Header
    );
    let mut later = segment_header();
    later[8] = 3;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&later[..12]), &later[16..]);
    later[12..16].copy_from_slice(&crc.to_le_bytes());
    let error = open(&planted(&later)).expect_err("a later version");
    assert!(
        matches!(
            error,
            Error::Version {
                found: 3,
                known: 2,
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
        let bytes = if headed { [segment_header(), bytes].concat() } else { bytes };
        let disk = planted(&bytes);
        disk.plant(&dir().join("durable"), &mark);
        let used = allocation_counter::measure(|| survive(&disk));
        prop_assert!(used.bytes_max < 8 << 20, "{used:?}");
    }

    #[test]
    fn sound_headers_with_any_numbers_are_survived(len: u32, first: u64, rows: u32, tail in prop::collection::vec(any::<u8>(), 0..200)) {
        survive(&planted(&[segment_header(), record_header(len, first, rows), tail].concat()));
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
