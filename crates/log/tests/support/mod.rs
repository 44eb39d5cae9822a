//! A model of the log: what was appended, what was acknowledged, and the check that a log on a disk agrees with it.
//!
//! The check opens the log as a program would after a crash, reads all of it, and compares: it holds a run of what was
//! appended, without a hole; it reaches at least as far as was ever acknowledged as durable; it begins no later than
//! retention allows; and the report names each byte that was cut.

#![allow(dead_code)]

pub mod watchdog;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_log::lying::LyingDisk;
use headwater_log::{
    Append, LogConfig, LogRecord, LogScan, LogWriter, Needed, Position, Recovered, Result,
};

/// The folder of the log under test.
pub fn dir() -> &'static Path {
    Path::new("/data/log/trades")
}

/// Small segments and extents, so that a few records make many.
pub fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 600,
        extent_bytes: 200,
        id: 7,
        ..LogConfig::default()
    }
}

pub fn open(disk: &LyingDisk) -> Result<(LogWriter, Recovered)> {
    LogWriter::open(Arc::new(disk.clone()), dir(), small())
}

/// All rows from `offset` on are needed, and no step.
pub fn rows_from(offset: u64) -> Needed {
    Needed {
        offset,
        ..Needed::NOTHING
    }
}

/// An appended record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub first_offset: u64,
    pub rows: u32,
    pub times: Option<(i64, i64)>,
    pub sequence: u64,
    pub appended_us: i64,
    pub payload: Vec<u8>,
}

impl Kept {
    pub fn of(record: &LogRecord<'_>) -> Kept {
        Kept {
            first_offset: record.first_offset,
            rows: record.rows,
            times: record.times,
            sequence: record.sequence,
            appended_us: record.appended_us,
            payload: record.payload.to_vec(),
        }
    }
}

/// What was appended and what was acknowledged.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// All records since the log began, and the end of each.
    pub records: Vec<(Kept, Position)>,
    /// The record whose append failed last, if none succeeded since: the log may hold it.
    pub attempt: Option<Kept>,
    /// The furthest place acknowledged as durable.
    pub durable: Position,
    /// The greatest offset up to which retention was asked to remove.
    pub removable: u64,
    /// Number of records made, which makes payloads differ.
    pub made: u64,
}

impl Truth {
    pub fn end(&self) -> Position {
        self.records
            .last()
            .map_or(Position::default(), |(_, end)| *end)
    }

    /// Appends a record of this many rows and bytes to the log and to the model.
    pub fn append(&mut self, log: &mut LogWriter, rows: u32, bytes: usize) -> Result<()> {
        self.made += 1;
        let made = self.made;
        let payload: Vec<u8> = (0..bytes)
            .map(|n| (n as u64 * 7 + made * 13) as u8)
            .collect();
        let time = made as i64 * 10;
        let kept = Kept {
            first_offset: self.end().offset,
            rows,
            times: (rows > 0 && !made.is_multiple_of(5)).then_some((time, time + 5)),
            sequence: self.end().sequence + made % 2,
            appended_us: made as i64 * 1000,
            payload,
        };
        let (front, back) = kept.payload.split_at(bytes / 2);
        self.attempt = Some(kept.clone());
        let end = log.append(&Append {
            rows,
            times: kept.times,
            sequence: kept.sequence,
            appended_us: kept.appended_us,
            payload: &[front, &[], back],
        })?;
        assert_eq!(end.offset, kept.first_offset + u64::from(rows));
        self.attempt = None;
        self.records.push((kept, end));
        Ok(())
    }

    pub fn sync(&mut self, log: &LogWriter) -> Result<()> {
        self.durable = log.durability().sync()?;
        Ok(())
    }

    /// Opens the log again and checks all of it; the model then goes on from what the log holds.
    pub fn reopen(&mut self, disk: &LyingDisk) -> Result<LogWriter> {
        let before = contents(disk);
        let (log, report) = open(disk)?;
        check_cuts(&before, &contents(disk), &report);
        let found = read_all(&log)?;
        if let Some(attempt) = self.attempt.take() {
            self.records.push((attempt, log.end()));
        }
        let first = self.find_first(&found, &report);
        for (n, (kept, _)) in found.iter().zip(&self.records[first..]).enumerate() {
            assert!(
                *kept == self.records[first + n].0,
                "record {n} of {} differs",
                found.len()
            );
        }
        assert!(
            first + found.len() <= self.records.len(),
            "the log holds more records than were appended"
        );
        self.records.truncate(first + found.len());
        assert!(
            log.end().bytes >= self.durable.bytes,
            "acknowledged up to {:?}, found up to {:?}",
            self.durable,
            log.end()
        );
        let end = (self.end().offset, self.end().sequence);
        assert_eq!((report.end.offset, report.end.sequence), end);
        assert_eq!(report.end, log.end());
        assert_eq!(log.durability().durable(), log.end());
        self.durable = log.end();
        Ok(log)
    }

    fn find_first(&self, found: &[Kept], report: &Recovered) -> usize {
        assert!(
            report.first_offset <= self.removable,
            "rows below {} are gone",
            report.first_offset
        );
        match found.first() {
            Some(first) => self
                .records
                .iter()
                .position(|(kept, _)| kept == first)
                .expect("it was appended"),
            None if report.end.bytes == 64 => 0,
            None => self
                .records
                .iter()
                .take_while(|(_, end)| end.bytes < report.end.bytes)
                .count(),
        }
    }
}

pub fn read_all(log: &LogWriter) -> Result<Vec<Kept>> {
    read(&mut log.reader().read_from(log.first_offset())?)
}

/// Reads a scan to its end.
pub fn read(scan: &mut LogScan) -> Result<Vec<Kept>> {
    let mut found = Vec::new();
    while let Some(record) = scan.next()? {
        found.push(Kept::of(&record));
    }
    Ok(found)
}

/// The contents of all segments on the disk.
pub fn contents(disk: &LyingDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = disk
        .paths()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "log"));
    paths
        .map(|path| (path.clone(), disk.contents(&path).expect("it was listed")))
        .collect()
}

/// Checks that the report names exactly the bytes that are gone, and that nothing else has changed.
fn check_cuts(
    before: &BTreeMap<PathBuf, Vec<u8>>,
    after: &BTreeMap<PathBuf, Vec<u8>>,
    report: &Recovered,
) {
    assert!(report.damaged.is_empty());
    for (path, bytes) in before {
        let cut = report.cut.iter().find(|cut| cut.file == *path);
        match cut {
            None => assert!(
                after[path].starts_with(bytes),
                "{} was changed silently",
                path.display()
            ),
            Some(cut) => {
                assert_eq!(cut.position + cut.bytes, bytes.len() as u64, "{cut}");
                let kept = &bytes[..cut.position as usize];
                let now = after.get(path).map_or(&[][..], |now| &now[..]);
                assert!(cut.position == 0 || now == kept, "{cut}");
            }
        }
    }
    for cut in &report.cut {
        assert!(before.contains_key(&cut.file), "{cut}");
    }
}
