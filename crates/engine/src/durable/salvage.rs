//! Copies what is good in a data folder into a new one, and leaves the old one as it is.
//!
//! ```text
//!   newest checkpoint that is whole ─► all of it, with the logs cut where they are damaged
//!   none is whole ─► the definitions of the newest manifest; views are rebuilt from the logs
//!   no manifest ─► the logs, for CREATE SOURCE .. WITH (log = 'adopt')
//! ```
//!
//! A new log has the sound records of the old one in their order, with their steps. Behind a gap, rows have
//! lower offsets than before: a log has no holes. Without a whole checkpoint sinks are left out, for they
//! would write every row again.

use std::path::Path;
use std::sync::Arc;

use headwater_log::{Append, Disk, LogConfig, LogWriter, Position, RealDisk, lock};

use super::checkpoint::{Checkpoint, Definition, LogEnd, SourceCheckpoint};
use super::checkpoints::Checkpoints;
use super::identity::{Id, LogIdentity};
use super::manifest::Manifest;
use super::verify::{FoundLog, all_logs, check_exists, checked_manifests};
use crate::dataflow::Run;
use crate::error::{Error, Result};
use crate::sql::{Statement, parse};

/// What was got out of a data folder.
#[derive(Debug, Default)]
pub struct Salvage {
    /// The number of the checkpoint whose state was copied; `None` if none is whole.
    pub checkpoint: Option<u64>,
    /// What became of each log.
    pub logs: Vec<SalvagedLog>,
    /// Statements that were left out, as they were written.
    pub left_out: Vec<String>,
}

/// What was got out of a log.
#[derive(Debug)]
pub struct SalvagedLog {
    /// The source, or the folder of a log that no source has.
    pub name: String,
    /// The number of rows copied.
    pub rows: u64,
    /// The rows that cannot be read.
    pub lost: u64,
    /// What is to be said of it: each gap, and how to use a log that no source has.
    pub notes: Vec<String>,
}

/// Copies what is good in the data folder `from` into `to`, which must not exist or be empty. Blocks.
///
/// # Errors
/// If a program uses `from`, `to` holds something, or the disk fails.
pub fn salvage(from: &Path, to: &Path) -> Result<Salvage> {
    salvage_on(Arc::new(RealDisk), from, to)
}

pub(super) fn salvage_on(disk: Arc<dyn Disk>, from: &Path, to: &Path) -> Result<Salvage> {
    check_exists(&*disk, from)?;
    if disk.list(to).is_ok_and(|files| !files.is_empty()) {
        return Err(Error::Data(format!(
            "{} is not empty: name a new folder",
            to.display()
        )));
    }
    let _from = lock(&*disk, from).map_err(Error::data)?;
    let _to = lock(&*disk, to).map_err(Error::data)?;
    let checked = checked_manifests(&disk, from)?;
    let whole = checked.iter().rev().find(|it| it.problems.is_empty());
    let newest = checked.iter().rev().find_map(|it| it.manifest.as_ref());
    let mut salvaged = Salvage {
        checkpoint: whole.map(|it| it.number),
        ..Salvage::default()
    };
    let (source, mut state) = match (whole, newest) {
        (Some(whole), _) => {
            let mut checkpoints = Checkpoints::new(Arc::clone(&disk), from.join("checkpoints"));
            let state = checkpoints.restore(whole.number).map_err(Error::data)?;
            (whole.manifest.as_ref(), state)
        }
        (None, Some(newest)) => (Some(newest), definitions_of(newest, &mut salvaged.left_out)),
        (None, None) => (None, Checkpoint::default()),
    };
    state.dropped.clear();
    let opened = Checkpoints::open(Arc::clone(&disk), to.join("checkpoints"), None);
    let mut checkpoints = opened.map_err(Error::data)?.checkpoints;
    for log in all_logs(&*disk, from, source) {
        let copy = LogCopy {
            disk: &disk,
            folder: checkpoints.id(),
            since: checkpoints.number(),
        };
        let fed = log
            .source
            .as_ref()
            .and_then(|name| state.sources.get_mut(name));
        salvaged.logs.push(copy.copy(&log, to, fed)?);
    }
    checkpoints.write(state).map_err(Error::data)?;
    Ok(salvaged)
}

/// A checkpoint with the definitions of a manifest and nothing else; sinks are left out.
fn definitions_of(manifest: &Manifest, left_out: &mut Vec<String>) -> Checkpoint<Run> {
    let state = &manifest.state;
    let is_sink = |definition: &Definition| {
        parse(&definition.text).is_ok_and(|statements| {
            let mut statements = statements.iter();
            statements.any(|it| {
                matches!(
                    it.node,
                    Statement::CreateSink(_) | Statement::InsertInto { .. }
                )
            })
        })
    };
    let (sinks, kept): (Vec<_>, Vec<_>) = state.definitions.iter().cloned().partition(is_sink);
    left_out.extend(sinks.into_iter().map(|sink| sink.text));
    Checkpoint {
        sequence: state.sequence,
        definitions: kept,
        streams: state.streams.clone(),
        sources: state
            .sources
            .keys()
            .map(|name| (name.clone(), SourceCheckpoint::default()))
            .collect(),
        ..Checkpoint::default()
    }
}

/// How logs are copied into a new data folder.
struct LogCopy<'a> {
    disk: &'a Arc<dyn Disk>,
    folder: Id,
    since: u64,
}

impl LogCopy<'_> {
    /// Copies the sound records of a log; `fed` is what the new checkpoint has of its source.
    fn copy(
        &self,
        log: &FoundLog,
        to: &Path,
        fed: Option<&mut SourceCheckpoint>,
    ) -> Result<SalvagedLog> {
        let name = log.path.file_name().unwrap_or_default();
        let path = to.join("log").join(name);
        let id = Id::fresh();
        self.identify(log, &path, id)?;
        let found = log.inspect(&**self.disk, |_| Ok(()))?;
        let config = LogConfig {
            id: id.number(),
            known: Position {
                offset: found.begin.offset,
                ..Position::default()
            },
            ..LogConfig::default()
        };
        let opened = LogWriter::open(Arc::clone(self.disk), &path, config);
        let (mut writer, _) = opened.map_err(Error::data)?;
        let covered = fed.as_ref().map_or(0, |fed| fed.sequence);
        // The offset behind the rows that the checkpoint covers.
        let mut offset = found.begin.offset;
        log.inspect(&**self.disk, |record| {
            let end = writer.append(&Append {
                rows: record.rows,
                times: record.times,
                sequence: record.sequence,
                appended_us: record.appended_us,
                payload: &[record.payload],
            })?;
            if record.sequence <= covered {
                offset = end.offset;
            }
            Ok(())
        })?;
        let rows = writer.end().offset - found.begin.offset;
        let begin = writer.reader().begin();
        let end = writer.close().map_err(Error::data)?;
        if let Some(fed) = fed {
            fed.offset = offset;
            fed.log = Some(LogEnd::at(id, begin, end));
        }
        let lost = found.damaged.iter().map(|it| it.damage.offsets.clone());
        let folder = || name.to_string_lossy().into_owned();
        Ok(SalvagedLog {
            name: log.source.clone().unwrap_or_else(folder),
            rows,
            lost: lost.map(|offsets| offsets.end - offsets.start).sum(),
            notes: notes(log, &found.damaged),
        })
    }

    /// Writes the identity of the copy, if that of the log is known; else the next start does it.
    fn identify(&self, log: &FoundLog, path: &Path, id: Id) -> Result<()> {
        let Some(known) = &log.identity else {
            return Ok(());
        };
        let identity = LogIdentity {
            folder: self.folder,
            log: id,
            since: self.since,
            ..known.clone()
        };
        let written = identity.write(&**self.disk, path);
        written.map_err(|error| Error::Data(format!("{}: {error}", path.display())))
    }
}

fn notes(log: &FoundLog, damaged: &[headwater_log::InspectedDamage]) -> Vec<String> {
    let mut notes: Vec<String> = damaged.iter().map(|it| it.damage.to_string()).collect();
    notes.extend(log.problem.clone());
    if log.source.is_none() {
        let how = match &log.identity {
            Some(_) => "CREATE SOURCE .. WITH (log = 'adopt') takes it over",
            None => "without its identity no statement can take it over",
        };
        notes.push(how.to_owned());
    }
    notes
}
