//! Matches patterns against the folders of this machine.
//!
//! A pattern is a path in which every part may be a glob, and `**` is any number of folders. Only
//! folders that a pattern can match are read. Links are followed, but not below a `**`, where they could
//! form a cycle. A file is known by device and inode: under two names it is found once. What cannot be
//! read is reported beside what was found, and does not end the search.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

use super::identity::{FileId, file_id};
use super::kind::other_than_file;
use crate::shown::excerpt;

/// Paths in which every part may be a glob, and those to be left out.
#[derive(Debug, Clone)]
pub(super) struct Patterns {
    include: Vec<Pattern>,
    /// Matched against the whole path and against the name.
    exclude: GlobSet,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// The folder that contains every match.
    base: PathBuf,
    parts: Vec<PatternPart>,
}

#[derive(Debug, Clone)]
enum PatternPart {
    Literal(String),
    Glob(GlobMatcher),
    /// Zero or more folders.
    Folders,
}

#[derive(Debug, Default)]
pub(super) struct FoundFiles {
    /// Files, each under the least of its paths.
    pub files: BTreeMap<FileId, PathBuf>,
    /// The folders that files may appear in.
    pub folders: BTreeSet<PathBuf>,
    /// What could not be read, and why.
    pub failures: Failures,
    /// The first path that a pattern matches and that is not read, and why.
    passed_over: Option<String>,
}

/// What could not be read, and why: the first few by name, all counted. A million files that cannot be opened are no
/// message of 100 MB.
#[derive(Debug, Default)]
pub(super) struct Failures {
    first: Vec<String>,
    count: usize,
}

/// How much of a name that cannot be used is shown, bytes.
const NAME_SHOWN_MAX: usize = 200;

/// The number of failures that are kept by name.
const FAILURES_MAX: usize = 8;

impl Failures {
    pub(super) fn push(&mut self, what: String) {
        self.count += 1;
        if self.first.len() < FAILURES_MAX {
            self.first.push(what);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The failures as a sentence, and `more` behind them; `None` if there is nothing to say.
    pub(super) fn shown(&self, more: Option<&str>) -> Option<String> {
        let further = self.count - self.first.len();
        let further = (further > 0).then(|| format!("and {further} more"));
        let first = self.first.iter().map(String::as_str);
        let all = first.chain(further.as_deref()).chain(more);
        let all = all.collect::<Vec<_>>().join("; ");
        Some(all).filter(|all| !all.is_empty())
    }
}

impl FoundFiles {
    /// Why no file was found.
    pub(super) fn why_nothing(&self) -> String {
        let known = self.failures.first.first().or(self.passed_over.as_ref());
        known
            .map_or("there is no such file", String::as_str)
            .to_owned()
    }

    fn pass_over(&mut self, path: &Path, why: &str) {
        let what = || format!("{} {why}", path.display());
        self.passed_over.get_or_insert_with(what);
    }
}

impl Patterns {
    /// Fails if one of them is not a pattern.
    pub(super) fn new(include: &[String], exclude: &[String]) -> Result<Self, String> {
        let include = include
            .iter()
            .map(|text| Pattern::new(text))
            .collect::<Result<_, _>>()?;
        let mut set = GlobSetBuilder::new();
        for text in exclude {
            let glob = GlobBuilder::new(text).build();
            set.add(glob.map_err(|error| error.to_string())?);
        }
        let exclude = set.build().map_err(|error| error.to_string())?;
        Ok(Self { include, exclude })
    }

    /// The folders that must exist for anything to be found.
    pub(super) fn bases(&self) -> impl Iterator<Item = &Path> {
        self.include.iter().map(|pattern| &*pattern.base)
    }

    /// Finds all files. Blocks while folders are read.
    pub(super) fn find(&self) -> FoundFiles {
        let mut found = FoundFiles::default();
        for pattern in &self.include {
            self.descend(&pattern.base, &pattern.parts, &mut found);
        }
        found
    }

    fn descend(&self, folder: &Path, parts: &[PatternPart], found: &mut FoundFiles) {
        match parts {
            [] => {}
            [PatternPart::Literal(name), rest @ ..] => {
                found.folders.insert(folder.to_owned());
                self.enter(&folder.join(name), rest, found);
            }
            [PatternPart::Glob(glob), rest @ ..] => {
                for name in names(folder, found) {
                    if glob.is_match(&name) {
                        self.enter(&folder.join(&name), rest, found);
                    }
                }
            }
            [PatternPart::Folders, rest @ ..] => {
                self.descend(folder, rest, found);
                for name in names(folder, found) {
                    let path = folder.join(&name);
                    if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                        self.descend(&path, parts, found);
                    }
                }
            }
        }
    }

    /// Enters `path`, which matched so far: a file at the end of the pattern, a folder before it.
    fn enter(&self, path: &Path, rest: &[PatternPart], found: &mut FoundFiles) {
        // A file that disappeared since its name was read does not exist.
        let Ok(metadata) = fs::metadata(path) else {
            return;
        };
        if !rest.is_empty() {
            if metadata.is_dir() {
                self.descend(path, rest, found);
            }
        } else if let Some(why) = why_not_read(metadata.file_type()) {
            found.pass_over(path, &why);
        } else if self.excludes(path) {
            found.pass_over(path, "is left out by 'exclude'");
        } else if path.to_str().is_none() {
            // It could not be in a cursor, so one such file would end the source.
            let name = excerpt(path.as_os_str().as_encoded_bytes(), NAME_SHOWN_MAX);
            found
                .failures
                .push(format!("{name} is not read: its name is not UTF-8"));
        } else {
            let known = found.files.entry(file_id(&metadata));
            let known = known.or_insert_with(|| path.to_owned());
            if path < known.as_path() {
                *known = path.to_owned();
            }
        }
    }

    fn excludes(&self, path: &Path) -> bool {
        let name = path.file_name().map(Path::new);
        self.exclude.is_match(path) || name.is_some_and(|name| self.exclude.is_match(name))
    }
}

/// Why a path of this type, which cannot be read again from a position, is not read.
fn why_not_read(kind: fs::FileType) -> Option<String> {
    let what = other_than_file(kind)?;
    Some(match what {
        "a folder" => "is a folder; add /* to read the files in it".to_owned(),
        "a socket" => "is a socket, not a file".to_owned(),
        _ => format!("is {what}, not a file; the connector 'process' reads it with 'cat'"),
    })
}

fn names(folder: &Path, found: &mut FoundFiles) -> Vec<std::ffi::OsString> {
    found.folders.insert(folder.to_owned());
    match fs::read_dir(folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.file_name()).collect(),
        Err(error) => {
            found.failures.push(format!(
                "cannot read the folder {}: {error}",
                folder.display()
            ));
            Vec::new()
        }
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Self, String> {
        let (root, relative) = match text.strip_prefix('/') {
            Some(relative) => ("/", relative),
            None => (".", text),
        };
        let parts = relative
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".");
        let mut parts = parts.map(PatternPart::new).collect::<Result<Vec<_>, _>>()?;
        if parts.is_empty()
            || text.ends_with('/')
            || matches!(parts.last(), Some(PatternPart::Folders))
        {
            return Err(format!("{text:?} names no file"));
        }
        let is_literal = |part: &&PatternPart| matches!(part, PatternPart::Literal(_));
        let literals = parts.iter().take_while(is_literal).count();
        let mut base = PathBuf::from(root);
        for part in parts.drain(..literals.min(parts.len() - 1)) {
            if let PatternPart::Literal(name) = part {
                base.push(name);
            }
        }
        Ok(Self { base, parts })
    }
}

impl PatternPart {
    fn new(text: &str) -> Result<Self, String> {
        if text == "**" {
            return Ok(Self::Folders);
        }
        if !text.contains(['*', '?', '[', '{']) {
            return Ok(Self::Literal(text.to_owned()));
        }
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        glob.map(|glob| Self::Glob(glob.compile_matcher()))
            .map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(folder: &Path, include: &[&str], exclude: &[&str]) -> Vec<String> {
        let include: Vec<_> = include
            .iter()
            .map(|path| format!("{}/{path}", folder.display()))
            .collect();
        let exclude: Vec<_> = exclude.iter().map(|text| (*text).to_owned()).collect();
        let found = Patterns::new(&include, &exclude).unwrap().find();
        let relative = |path: &PathBuf| path.strip_prefix(folder).unwrap().display().to_string();
        let mut files: Vec<_> = found.files.values().map(relative).collect();
        files.sort();
        files
    }

    #[test]
    fn globs_lead_to_files() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for path in [
            "a.log",
            "b.log",
            "b.txt",
            "d/a.log",
            "d/e/c.log",
            "d/e/f/c.log",
            "x/e/c.log",
        ] {
            fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
            fs::write(folder.join(path), "").unwrap();
        }
        assert_eq!(found(folder, &["a.log"], &[]), ["a.log"]);
        assert_eq!(found(folder, &["*.log"], &[]), ["a.log", "b.log"]);
        assert_eq!(found(folder, &["?.{log,txt}"], &["a*"]), ["b.log", "b.txt"]);
        assert_eq!(
            found(folder, &["*/e/*.log"], &[]),
            ["d/e/c.log", "x/e/c.log"]
        );
        assert_eq!(
            found(folder, &["**/*.log"], &["**/f/*"]),
            ["a.log", "b.log", "d/a.log", "d/e/c.log", "x/e/c.log"]
        );
        assert_eq!(
            found(folder, &["d/**/c.log"], &[]),
            ["d/e/c.log", "d/e/f/c.log"]
        );
        assert_eq!(
            found(folder, &["*.log", "a.*", "nothing", "no/*"], &[]),
            ["a.log", "b.log"]
        );
    }

    #[test]
    fn a_file_under_two_names_is_found_once_and_cycles_end() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::write(folder.join("b"), "").unwrap();
        fs::hard_link(folder.join("b"), folder.join("a")).unwrap();
        std::os::unix::fs::symlink(folder.join("b"), folder.join("c")).unwrap();
        std::os::unix::fs::symlink(folder, folder.join("circle")).unwrap();
        assert_eq!(found(folder, &["*"], &[]), ["a"]);
        assert_eq!(found(folder, &["**/*"], &[]), ["a"]);
        assert_eq!(found(folder, &["circle/b"], &[]), ["circle/b"]);
    }

    #[test]
    fn the_reason_why_nothing_is_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.log"), "").unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        let base = folder.path().display().to_string();
        let why = |path: &str, exclude: &[String]| {
            let found = Patterns::new(&[path.to_owned()], exclude).unwrap().find();
            assert!(found.files.is_empty(), "{path}");
            found.why_nothing().replace(&base, "")
        };
        assert_eq!(why(&format!("{base}/no*"), &[]), "there is no such file");
        let excluded = why(&format!("{base}/*.log"), &["a*".to_owned()]);
        assert_eq!(excluded, "/a.log is left out by 'exclude'");
        assert!(why(&format!("{base}/d"), &[]).starts_with("/d is a folder; "));
        assert!(why("/dev/null", &[]).starts_with("/dev/null is a device, not a file; "));
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
        assert_eq!(why(&format!("{base}/s"), &[]), "/s is a socket, not a file");
    }

    #[test]
    fn a_name_that_is_not_utf_8_is_reported_and_read_by_nobody() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        for name in [&b"a.log"[..], b"b\xff\x1b[2J.log"] {
            fs::write(folder.path().join(std::ffi::OsStr::from_bytes(name)), "").unwrap();
        }
        let pattern = format!("{}/*.log", folder.path().display());
        let found = Patterns::new(&[pattern], &[]).unwrap().find();
        assert_eq!(found.files.len(), 1);
        let said = found.failures.shown(None).unwrap();
        let expected = "b\u{fffd}\u{fffd}[2J.log is not read: its name is not UTF-8";
        assert!(said.ends_with(expected), "{said}");
    }

    #[test]
    fn failures_beyond_the_first_few_are_counted() {
        let mut failures = Failures::default();
        (0..1_000).for_each(|number| failures.push(format!("cannot open {number}")));
        let said = failures.shown(Some("no file matches yet")).unwrap();
        assert!(said.starts_with("cannot open 0; cannot open 1; "), "{said}");
        assert!(
            said.ends_with("; and 992 more; no file matches yet"),
            "{said}"
        );
        assert_eq!(Failures::default().shown(None), None);
    }

    #[test]
    fn what_cannot_be_read_is_reported() {
        let patterns = Patterns::new(&["/no such folder/*".to_owned()], &[]).unwrap();
        let found = patterns.find();
        assert!(found.failures.first[0].starts_with("cannot read the folder /no such folder: "));
        for text in ["", "/", "a/", "a/**", "[", "{a"] {
            assert!(Patterns::new(&[text.to_owned()], &[]).is_err(), "{text:?}");
        }
        assert!(Patterns::new(&[], &["[".to_owned()]).is_err());
    }
}
