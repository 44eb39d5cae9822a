//! A data folder that an earlier version wrote: opened, nothing lost, and refused by that version from
//! then on.
//!
//! `fixtures/version_1` was written by a build with logs of version 1 and killed 200 rows behind its last
//! checkpoint; `version_1.txt` is what that build answered when it opened it again. `version_2` likewise by one
//! with logs of version 2, with two workers, 300 rows behind. Both have manifests of format 1.

use std::fs;
use std::path::Path;

use headwater::Db;
use headwater::arrow::util::display::{ArrayFormatter, FormatOptions};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => fs::copy(entry.path(), to).map(drop).unwrap(),
        }
    }
}

fn open(folder: &Path) -> headwater::Result<Db> {
    Db::builder().start_connectors(false).open(folder)
}

const VIEWS: [&str; 6] = ["totals", "tumbles", "hops", "sessions", "both", "chained"];

/// The rows of these views, a line each.
fn answers(db: &Db, views: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    for view in views {
        for batch in db
            .query(&format!("SELECT '{view}' AS v, * FROM {view}"))
            .unwrap()
        {
            let options = FormatOptions::new();
            let columns = batch.columns().iter();
            let columns: Vec<_> = columns
                .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
                .collect();
            lines.extend((0..batch.num_rows()).map(|row| {
                let values = columns.iter().map(|column| column.value(row).to_string());
                values.collect::<Vec<_>>().join("|")
            }));
        }
    }
    lines.sort();
    lines
}

/// A copy of a fixture, and what its views hold.
fn fixture(name: &str) -> (tempfile::TempDir, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    copy(&Path::new(FIXTURES).join(name), folder.path());
    let expected = fs::read_to_string(Path::new(FIXTURES).join(format!("{name}.txt"))).unwrap();
    (folder, expected.lines().map(str::to_owned).collect())
}

/// The versions of the segments of a log, in their order.
fn versions(log: &Path) -> Vec<u8> {
    let files = fs::read_dir(log).unwrap();
    let segments = files.map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = segments
        .filter(|path| path.extension().is_some_and(|it| it == "log"))
        .collect();
    segments.sort();
    let version = |path: &std::path::PathBuf| fs::read(path).unwrap()[8];
    segments.iter().map(version).collect()
}

#[test]
fn a_folder_of_an_earlier_version_opens_and_loses_nothing() {
    for (name, views, logs) in [
        ("version_1", &VIEWS[..4], &[("s", [1, 3])][..]),
        ("version_2", &VIEWS[..], &[("s", [2, 3]), ("t", [2, 3])][..]),
    ] {
        for workers in [1, 2, 3] {
            let (folder, expected) = fixture(name);
            for _ in 0..3 {
                let builder = Db::builder().start_connectors(false).workers(workers);
                let db = builder.open(folder.path()).unwrap();
                assert_eq!(answers(&db, views), expected, "{name}");
                db.close();
            }
            // A build that knows only earlier versions refuses the segments of this one.
            for (log, expected) in logs {
                assert_eq!(versions(&folder.path().join("log").join(log)), expected);
            }
        }
    }
}

#[test]
fn a_build_of_the_first_format_refuses_the_manifest() {
    let (folder, _) = fixture("version_2");
    open(folder.path()).unwrap().close();
    let manifests = fs::read_dir(folder.path().join("checkpoints")).unwrap();
    let mut found = 0;
    for path in manifests.map(|entry| entry.unwrap().path()) {
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let manifest = fs::read_to_string(&path).unwrap();
        // It reads the checksum, then a number behind the first name.
        let (_, json) = manifest.split_once('\n').unwrap();
        assert!(
            json.starts_with("{\"sequence\":\"this folder has format 2"),
            "{json}"
        );
        found += 1;
    }
    assert_eq!(found, 1, "no manifest of the earlier format is left");
}

#[test]
fn a_manifest_of_a_later_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).unwrap().close();
    let checkpoints = folder.path().join("checkpoints");
    for entry in fs::read_dir(&checkpoints).unwrap() {
        let path = entry.unwrap().path();
        let manifest = fs::read_to_string(&path).unwrap();
        let (_, json) = manifest.split_once('\n').unwrap();
        let json = json.replace("\"format\":2", "\"format\":3");
        let sum = crc32c::crc32c(json.as_bytes());
        fs::write(&path, format!("{sum:08x}\n{json}")).unwrap();
    }
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("format 3") && error.contains("later version"),
        "{error}"
    );
}
