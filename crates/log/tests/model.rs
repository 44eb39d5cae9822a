//! The log against a list: random appends, syncs, rotations, retention, reads, reopenings and crashes, on the disk that
//! lies.
//!
//! After each reopening the whole log is compared with the list (`support::Truth`), and each read by offset, by step or
//! by extent with the same filter on the list. A scan that was opened early follows the log and misses nothing.

mod support;

use headwater_log::lying::{Crash, LyingDisk};
use headwater_log::{Error, Extent, LogReader, LogScan, LogWriter, Result, Retention};
use proptest::prelude::*;
use support::{Kept, Truth, open, rows_from};

#[derive(Debug, Clone)]
enum Act {
    Append { rows: u32, bytes: usize },
    Sync,
    Retain { bytes: u64, keep: u64 },
    Reopen,
    Crash(Crash),
    ReadFrom(u64),
    FromSequence(u64),
    Between(i64, i64),
    Extents,
}

fn act() -> impl Strategy<Value = Act> {
    let crash = prop_oneof![
        Just(Crash::Process),
        Just(Crash::Everything),
        Just(Crash::Anything)
    ];
    prop_oneof![
        12 => (0..6u32, 0..300usize).prop_map(|(rows, bytes)| Act::Append { rows, bytes }),
        3 => Just(Act::Sync),
        1 => (0..3000u64, 0..40u64).prop_map(|(bytes, keep)| Act::Retain { bytes, keep }),
        1 => Just(Act::Reopen),
        1 => crash.prop_map(Act::Crash),
        2 => (0..200u64).prop_map(Act::ReadFrom),
        1 => (0..60u64).prop_map(Act::FromSequence),
        2 => (0..800i64, 0..100i64).prop_map(|(from, len)| Act::Between(from, from + len)),
        1 => Just(Act::Extents),
    ]
}

fn all(mut scan: LogScan) -> Vec<Kept> {
    support::read(&mut scan).expect("no damage")
}

/// The records of the extents that `wanted` selects.
fn all_of(reader: &LogReader, wanted: impl Fn(&Extent) -> bool) -> Vec<Kept> {
    let extents = reader.extents().into_iter().filter(wanted);
    extents
        .flat_map(|extent| all(reader.scan_extent(&extent).expect("it is kept")))
        .collect()
}

/// The list from the first record that the log keeps.
fn kept(truth: &Truth, log: &LogWriter) -> Vec<Kept> {
    let first = log
        .reader()
        .extents()
        .first()
        .map(|extent| (extent.first_offset, extent.first_sequence));
    let from = first.map_or(truth.records.len(), |_| {
        let found = support::read_all(log).expect("no damage");
        truth
            .records
            .iter()
            .position(|(kept, _)| *kept == found[0])
            .expect("it was appended")
    });
    truth.records[from..]
        .iter()
        .map(|(kept, _)| kept.clone())
        .collect()
}

fn same(found: Result<LogScan>, expected: Vec<Kept>) {
    assert_eq!(all(found.expect("it is kept")), expected);
}

fn reaches(kept: &Kept, min: i64, max: i64) -> bool {
    kept.rows > 0
        && kept
            .times
            .is_none_or(|(least, greatest)| least <= max && min <= greatest)
}

fn read(truth: &Truth, log: &LogWriter, act: &Act) {
    let (reader, mut list) = (log.reader(), kept(truth, log));
    match *act {
        Act::ReadFrom(offset) if offset < reader.first_offset() => {
            let error = reader.read_from(offset).expect_err("it is removed");
            assert!(
                matches!(error, Error::Removed { first_kept, .. } if first_kept == reader.first_offset())
            );
        }
        Act::ReadFrom(offset) => {
            list.retain(|kept| {
                kept.first_offset >= offset || kept.first_offset + u64::from(kept.rows) > offset
            });
            same(reader.read_from(offset), list);
        }
        Act::FromSequence(sequence) => match reader.from_sequence(sequence) {
            Err(Error::Removed { .. }) => assert!(
                truth
                    .records
                    .iter()
                    .any(|(kept, _)| { kept.sequence >= sequence && !list.contains(kept) })
            ),
            scan => {
                list.retain(|kept| kept.sequence >= sequence);
                same(scan, list);
            }
        },
        Act::Between(min, max) => {
            let found = all_of(&reader, |extent| extent.overlaps(min, max));
            list.retain(|kept| reaches(kept, min, max));
            assert!(list.iter().all(|kept| found.contains(kept)));
        }
        _ => assert_eq!(all_of(&reader, |_| true), list),
    }
}

fn run(seed: u64, acts: &[Act]) {
    let disk = LyingDisk::new(seed);
    disk.set_short(seed.is_multiple_of(2));
    let mut truth = Truth::default();
    let mut log = open(&disk).expect("an empty disk").0;
    let mut followed = (log.reader().read_from(0).expect("an empty log"), 0);
    for act in acts {
        match act {
            Act::Append { rows, bytes } => truth
                .append(&mut log, *rows, *bytes)
                .expect("a disk that works"),
            Act::Sync => truth.sync(&log).expect("a disk that works"),
            Act::Retain { bytes, keep } => {
                let offset = truth.end().offset.saturating_sub(*keep);
                truth.removable = truth.removable.max(offset);
                let retention = Retention {
                    bytes: Some(*bytes),
                    age: None,
                };
                let removed = log.retain(0, &retention, rows_from(offset));
                assert!(
                    removed
                        .expect("a disk that works")
                        .iter()
                        .all(|gone| gone.offsets.end <= offset)
                );
            }
            Act::Reopen | Act::Crash(_) => {
                drop(log);
                if let Act::Crash(crash) = act {
                    disk.crash(*crash);
                }
                log = truth.reopen(&disk).expect("no damage");
                let offset = log.first_offset();
                let behind = truth.records.len() - kept(&truth, &log).len();
                followed = (
                    log.reader().read_from(offset).expect("it begins there"),
                    behind,
                );
            }
            reading => read(&truth, &log, reading),
        }
        follow(&mut followed, &truth);
    }
}

/// Reads to the end of the log and compares each record with the list.
fn follow((scan, seen): &mut (LogScan, usize), truth: &Truth) {
    loop {
        match scan.next() {
            Ok(None) => return assert_eq!(*seen, truth.records.len()),
            Ok(Some(record)) => assert_eq!(Kept::of(&record), truth.records[*seen].0),
            Err(error) => panic!("a scan that keeps up meets {error}"),
        }
        *seen += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_keeps_to_the_list(seed: u64, acts in prop::collection::vec(act(), 1..120)) {
        run(seed, &acts);
    }
}
