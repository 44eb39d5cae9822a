//! Reading a whole log without changing anything: every byte is checked, whatever its indexes say.
//!
//! Opening a log to write cuts a torn end, writes indexes and begins segments. [`inspect`] only judges: it reports what
//! an opening would cut, what is damaged, and gives each sound record to its caller.

use std::ops::Range;
use std::path::Path;

use crate::disk::Disk;
use crate::error::{Cut, Damage, Error, Result};
use crate::format::Position;
use crate::index::Extent;
use crate::reader::LogRecord;
use crate::recover::{Judge, read_first, read_mark, survey_all};
use crate::segment_reader::SegmentReader;
use crate::survey::{Survey, Trust};
use crate::writer::LogConfig;

/// What a log holds, read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Where the log begins.
    pub begin: Position,
    /// Where the log would go on.
    pub end: Position,
    /// Number of segments that would be kept.
    pub segments: usize,
    /// Total length of their files, bytes.
    pub bytes: u64,
    /// Torn ends that opening the log would cut; never anything that was acknowledged as durable.
    pub cut: Vec<Cut>,
    /// What was durable and cannot be read.
    pub damaged: Vec<InspectedDamage>,
}

/// Damage, and the event times around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedDamage {
    /// Where it is, and which rows are lost.
    pub damage: Damage,
    /// The greatest event time before it and the least behind it, microseconds, where there are any: the lost rows have
    /// about these times.
    pub times: (Option<i64>, Option<i64>),
}

/// Reads the log in `dir` whole, and hands each sound record to `each`, in order. Changes nothing.
///
/// # Errors
/// If a file cannot be read, a later version wrote it, or `each` fails. Damage is no error here.
pub fn inspect(
    disk: &dyn Disk,
    dir: &Path,
    config: &LogConfig,
    mut each: impl FnMut(LogRecord<'_>) -> Result<()>,
) -> Result<Inspection> {
    let mut surveys = survey_all(disk, dir, config, Trust::Nothing)?;
    let mark = read_mark(disk, dir, config)?;
    let first = read_first(disk, dir, config, &surveys)?;
    let mut judge = Judge::new(dir, &surveys, mark, first);
    let keep = judge.walk(&mut surveys);
    surveys.truncate(keep);
    for found in &surveys {
        for extent in &found.extents {
            records(found, extent, config, &mut each)?;
        }
    }
    let extents: Vec<&Extent> = surveys.iter().flat_map(|found| &found.extents).collect();
    let damaged = judge.damaged.into_iter().map(|damage| InspectedDamage {
        times: times_around(&extents, &damage.offsets),
        damage,
    });
    Ok(Inspection {
        begin: surveys.first().map_or(Position::default(), |it| Position {
            bytes: it.base,
            offset: it.header.first_offset,
            sequence: it.header.previous.sequence,
        }),
        end: judge.at,
        segments: surveys.len(),
        bytes: surveys.iter().map(|found| found.file_len).sum(),
        cut: judge.cut,
        damaged: damaged.collect(),
    })
}

/// The records of an extent, which the survey has found sound.
fn records(
    found: &Survey,
    extent: &Extent,
    config: &LogConfig,
    each: &mut impl FnMut(LogRecord<'_>) -> Result<()>,
) -> Result<()> {
    let reading = |error| Error::io("read", &found.path, error);
    let (start, end) = (extent.position, extent.end());
    let seed = config.seed().at(found.header.version);
    let mut reader = SegmentReader::new(found.file.clone(), found.base, seed, start, end);
    while let Ok(Some(header)) = reader.header().map_err(reading)? {
        if reader.check(&header).map_err(reading)?.is_err() {
            break;
        }
        each(LogRecord {
            first_offset: header.first_offset,
            rows: header.rows,
            times: header.times,
            sequence: header.sequence,
            appended_us: header.appended_us,
            payload: reader.take(&header),
        })?;
    }
    Ok(())
}

fn times_around(extents: &[&Extent], offsets: &Range<u64>) -> (Option<i64>, Option<i64>) {
    let before = extents.iter().rev();
    let mut before = before.filter(|extent| extent.end_offset <= offsets.start);
    let mut behind = extents
        .iter()
        .filter(|extent| extent.first_offset >= offsets.end);
    let before = before.find_map(|extent| extent.times);
    let behind = behind.find_map(|extent| extent.times);
    (before.map(|times| times.1), behind.map(|times| times.0))
}
