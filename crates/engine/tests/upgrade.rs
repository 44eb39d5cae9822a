//! A data folder that an earlier version wrote: opened, nothing lost, and refused by that version from
//! then on.
//!
//! `fixtures/version_1` was written by a build with logs of version 1 and killed 200 rows behind its last
//! checkpoint; `version_1.txt` is what that build answered when it opened it again.

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

/// The rows of all views, a line each.
fn answers(db: &Db) -> Vec<String> {
    let mut lines = Vec::new();
    for view in ["totals", "tumbles", "hops", "sessions"] {
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

#[test]
fn a_folder_of_the_first_version_opens_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    copy(&Path::new(FIXTURES).join("version_1"), folder.path());
    let expected = fs::read_to_string(Path::new(FIXTURES).join("version_1.txt")).unwrap();
    let expected: Vec<_> = expected.lines().map(str::to_owned).collect();
    for _ in 0..2 {
        let db = open(folder.path()).unwrap();
        assert_eq!(answers(&db), expected);
        db.close();
    }
    // A build that knows only version 1 refuses a segment of version 2.
    let log = fs::read_dir(folder.path().join("log/s")).unwrap();
    let segments = log.map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = segments
        .filter(|path| path.extension().is_some_and(|it| it == "log"))
        .collect();
    segments.sort();
    let versions: Vec<u8> = segments
        .iter()
        .map(|path| fs::read(path).unwrap()[8])
        .collect();
    assert_eq!(versions, [1, 2]);
}
