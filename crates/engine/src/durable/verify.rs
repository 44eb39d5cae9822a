//! Reads everything in a data folder, and says what each damaged thing would cost.
//!
//! ```text
//!   manifests ─► the data files and runs of each ─► which one a start would use
//!   logs of the newest manifest ─► every record ─► lost offsets, and who reads them
//! ```
//!
//! It changes nothing but the lock.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::temporal_conversions::timestamp_us_to_datetime;
use headwater_log::{Disk, InspectedDamage, Inspection, LogConfig, RealDisk, inspect, lock};

use super::checkpoint::{Checkpoint, LogEnd, SourceCheckpoint};
use super::checkpoint_error::CheckpointError;
use super::checkpoints::Checkpoints;
use super::folder::{log_path, logs};
use super::identity::LogIdentity;
use super::manifest::Manifest;
use super::run_file::RunLocation;
use crate::error::{Error, Result};

/// What a data folder holds, and what in it is damaged.
#[derive(Debug, Default)]
pub struct FolderReport {
    /// What is damaged; empty if the folder is whole.
    pub findings: Vec<Finding>,
    /// Logs that no source has. They are no damage.
    pub strange: Vec<String>,
    /// The number of the checkpoint that a start would use.
    pub checkpoint: Option<u64>,
    /// The number of logs, and of the rows in them.
    pub logs: (usize, u64),
}

/// A damaged part of a data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file or folder.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
    /// What is lost by that, and what a start does.
    pub cost: String,
}

/// Reads the data folder whole. Blocks.
///
/// # Errors
/// If there is none, a program uses it, or the disk fails.
pub fn verify(folder: &Path) -> Result<FolderReport> {
    verify_on(Arc::new(RealDisk), folder)
}

pub(super) fn verify_on(disk: Arc<dyn Disk>, folder: &Path) -> Result<FolderReport> {
    check_exists(&*disk, folder)?;
    let _lock = lock(&*disk, folder).map_err(Error::data)?;
    let mut report = FolderReport::default();
    let checked = checked_manifests(&disk, folder)?;
    let is_whole = |it: &&CheckedManifest| it.problems.is_empty();
    report.checkpoint = checked.iter().rev().find(is_whole).map(|it| it.number);
    for it in &checked {
        for (problem, of) in &it.problems {
            report.findings.push(Finding {
                file: manifest_path(folder, problem, it.number),
                problem: problem.to_string(),
                cost: cost_of_checkpoint(it.number, report.checkpoint, of),
            });
        }
    }
    if checked.is_empty() {
        report.findings.push(Finding {
            file: folder.join("checkpoints").display().to_string(),
            problem: "there is no manifest".to_owned(),
            cost: "the folder does not open: no definition is left, and no state of a view or sink"
                .to_owned(),
        });
    }
    let newest = checked.iter().rev().find_map(|it| it.manifest.as_ref());
    check_logs(&*disk, folder, newest, &mut report)?;
    Ok(report)
}

/// An error unless there is such a folder.
pub(super) fn check_exists(disk: &dyn Disk, folder: &Path) -> Result<()> {
    match disk.list(folder) {
        Ok(files) if !files.is_empty() => Ok(()),
        Ok(_) => Err(Error::Data(format!("{} is empty", folder.display()))),
        Err(error) => Err(Error::Data(format!("{}: {error}", folder.display()))),
    }
}

/// A manifest with what is wrong with it and its files, each with what that was of.
pub(super) struct CheckedManifest {
    pub number: u64,
    pub manifest: Option<Manifest>,
    pub problems: Vec<(CheckpointError, String)>,
}

/// All manifests, oldest first.
pub(super) fn checked_manifests(
    disk: &Arc<dyn Disk>,
    folder: &Path,
) -> Result<Vec<CheckedManifest>> {
    let path = folder.join("checkpoints");
    if disk.list(&path).is_err() {
        return Ok(Vec::new());
    }
    let mut checkpoints = Checkpoints::new(Arc::clone(disk), path);
    let numbers = checkpoints.find().map_err(Error::data)?;
    let check = |number| match checkpoints.read_manifest(number) {
        Err(error) => CheckedManifest {
            number,
            manifest: None,
            problems: vec![(error, "everything".to_owned())],
        },
        Ok(manifest) => {
            let mut problems = wrong_runs(&checkpoints, &manifest);
            if problems.is_empty() {
                let whole = checkpoints
                    .check_files(&manifest)
                    .and_then(|()| checkpoints.check_sums(&manifest));
                problems.extend(
                    whole
                        .err()
                        .map(|error| (error, "nothing that is used".to_owned())),
                );
            }
            CheckedManifest {
                number,
                manifest: Some(manifest),
                problems,
            }
        }
    };
    Ok(numbers.into_iter().map(check).collect())
}

/// The runs that cannot be read, each with what it is of.
fn wrong_runs(checkpoints: &Checkpoints, manifest: &Manifest) -> Vec<(CheckpointError, String)> {
    let runs = runs(&manifest.state).into_iter();
    let wrong = runs.filter_map(|(of, run)| Some((checkpoints.read_run(run).err()?, of)));
    wrong.collect()
}

/// All runs of a checkpoint, each with what it is of.
fn runs(state: &Checkpoint<RunLocation>) -> Vec<(String, &RunLocation)> {
    let mut runs = Vec::new();
    for (name, topic) in &state.topics {
        runs.extend(
            topic
                .kept
                .iter()
                .map(|run| (format!("the rows of {name:?}"), run)),
        );
    }
    for (name, query) in &state.queries {
        let stages = query.workers.values().flatten();
        let held = query.held.values().flatten();
        let all = stages.flat_map(|stage| &stage.runs).chain(held);
        runs.extend(all.map(|run| (format!("the state of {name:?}"), run)));
    }
    for (name, sink) in &state.sinks {
        let waiting = sink.waiting.iter();
        runs.extend(waiting.map(|run| (format!("the rows that wait for sink {name:?}"), run)));
    }
    runs
}

fn manifest_path(folder: &Path, problem: &CheckpointError, number: u64) -> String {
    let file = match problem {
        CheckpointError::DataFile { file, .. }
        | CheckpointError::Run { file, .. }
        | CheckpointError::Disk { file, .. } => file.clone(),
        _ => super::manifest::manifest_name(number),
    };
    folder.join("checkpoints").join(file).display().to_string()
}

fn cost_of_checkpoint(number: u64, used: Option<u64>, of: &str) -> String {
    match used {
        Some(used) if used > number => format!("nothing: checkpoint {used} is newer and whole"),
        Some(used) => format!(
            "checkpoint {number} cannot be used; a start uses checkpoint {used} and replays more of the logs"
        ),
        None => format!(
            "{of} is lost, and no other checkpoint is whole: the folder does not open; \
             `headwater salvage` keeps the definitions and rebuilds the views from what the logs still have"
        ),
    }
}

/// Reads the logs of all sources.
fn check_logs(
    disk: &dyn Disk,
    folder: &Path,
    newest: Option<&Manifest>,
    report: &mut FolderReport,
) -> Result<()> {
    for log in all_logs(disk, folder, newest) {
        let found = match (&log.problem, &log.source) {
            (Some(problem), Some(source)) => {
                report.findings.push(Finding {
                    file: log.path.display().to_string(),
                    problem: problem.clone(),
                    cost: format!(
                        "the folder does not open: put the log of source {source:?} back, or all its rows are lost"
                    ),
                });
                continue;
            }
            _ => log.inspect(disk, |_| Ok(()))?,
        };
        if let (Some(problem), None) = (&log.problem, &log.source) {
            let path = log.path.display();
            report.strange.push(format!("{path}: {problem}"));
        }
        report.logs.0 += 1;
        report.logs.1 += found.end.offset.saturating_sub(found.begin.offset);
        for damage in &found.damaged {
            report.findings.push(Finding {
                file: damage.damage.file.display().to_string(),
                problem: damage.damage.to_string(),
                cost: cost_of_rows(damage, &log, newest),
            });
        }
    }
    Ok(())
}

/// A log in a data folder.
pub(super) struct FoundLog {
    /// The source, if its name is known.
    pub source: Option<String>,
    pub path: PathBuf,
    pub identity: Option<LogIdentity>,
    pub fed: Option<SourceCheckpoint>,
    /// Why it is not the log that the manifest names, or cannot be read.
    pub problem: Option<String>,
    end: Option<LogEnd>,
}

impl FoundLog {
    /// Reads it whole, and hands each sound record to `each`.
    pub fn inspect(
        &self,
        disk: &dyn Disk,
        each: impl FnMut(headwater_log::LogRecord<'_>) -> headwater_log::Result<()>,
    ) -> Result<Inspection> {
        let own = self.identity.as_ref().map(|identity| identity.log);
        let id = self.end.map(|end| end.id).or(own);
        let config = LogConfig {
            id: id.map_or(0, |id| id.number()),
            known: self.end.map(|end| end.position()).unwrap_or_default(),
            known_first: self.end.map(|end| end.begin()),
            ..LogConfig::default()
        };
        inspect(disk, &self.path, &config, each).map_err(Error::data)
    }
}

/// The logs that the manifest names, and those in the folder that it does not name.
pub(super) fn all_logs(disk: &dyn Disk, folder: &Path, newest: Option<&Manifest>) -> Vec<FoundLog> {
    let mut left = logs(disk, folder);
    let mut found = Vec::new();
    for (name, fed) in newest.iter().flat_map(|it| &it.state.sources) {
        let path = log_path(folder, name);
        let is_there = left.contains(&path);
        left.retain(|other| *other != path);
        // Without a log: wal_mode = 'off'.
        if !is_there && fed.log.is_none() {
            continue;
        }
        let identity = LogIdentity::read(disk, &path).ok();
        let other = identity.as_ref().zip(fed.log);
        let problem = other.filter(|(identity, end)| identity.log != end.id);
        let problem = problem.map(|(identity, _)| {
            format!(
                "it is the log {} of source {:?}, not that of the checkpoint",
                identity.log, identity.source
            )
        });
        found.push(FoundLog {
            source: Some(name.clone()),
            path,
            identity,
            problem,
            end: fed.log,
            fed: Some(fed.clone()),
        });
    }
    let dropped = newest.map(|it| &it.state.dropped);
    for path in left {
        let identity = LogIdentity::read(disk, &path);
        let is_dropped =
            |it: &LogIdentity| dropped.is_some_and(|all| all.values().any(|id| *id == it.log));
        if identity.as_ref().is_ok_and(is_dropped) {
            continue;
        }
        let problem = match &identity {
            Ok(it) => format!("no source has this log; it is of source {:?}", it.source),
            Err(why) => format!("no source has this log, and its identity: {why}"),
        };
        found.push(FoundLog {
            source: None,
            path,
            identity: identity.ok(),
            problem: Some(problem),
            end: None,
            fed: None,
        });
    }
    found
}

/// What it costs that these rows cannot be read.
fn cost_of_rows(damage: &InspectedDamage, log: &FoundLog, newest: Option<&Manifest>) -> String {
    let (from, to) = (damage.damage.offsets.start, damage.damage.offsets.end);
    let Some(source) = &log.source else {
        return format!(
            "{} rows of a log that no source has, offsets {from} to {to}",
            to - from
        );
    };
    let readers = newest
        .map(|it| readers(&it.state, source))
        .unwrap_or_default();
    let readers = match readers.is_empty() {
        true => "nothing reads the source".to_owned(),
        false => format!("read by {}", readers.join(", ")),
    };
    let covered = log.fed.as_ref().map_or(0, |fed| fed.offset);
    let effect = match (to <= covered, from >= covered) {
        (true, _) => {
            "the checkpoint covers them: results stay, but a new view or a replay misses them"
        }
        (_, true) => "no checkpoint covers them: results lose them",
        _ => "the checkpoint covers some of them: results lose the others",
    };
    let times = match damage.times {
        (None, None) => String::new(),
        (before, behind) => format!(
            " with event times of about {} to {}",
            instant(before),
            instant(behind)
        ),
    };
    format!(
        "the folder does not open; {} rows of source {source:?}, offsets {from} to {to}{times}: {effect}; {readers}",
        to - from
    )
}

fn instant(us: Option<i64>) -> String {
    let time = us.and_then(timestamp_us_to_datetime);
    time.map_or("?".to_owned(), |time| {
        time.format("%Y-%m-%d %H:%M:%S").to_string()
    })
}

/// The queries that read a source, directly or not.
fn readers(state: &Checkpoint<RunLocation>, source: &str) -> Vec<String> {
    let mut known = vec![source.to_owned()];
    let mut next = 0;
    while let Some(input) = known.get(next).cloned() {
        next += 1;
        for (name, query) in &state.queries {
            if query.inputs.contains(&input) && !known.contains(name) {
                known.push(name.clone());
            }
        }
    }
    known.split_off(1)
}
