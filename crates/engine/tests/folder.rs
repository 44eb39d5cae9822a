//! A data folder whose parts vouch for each other: what does not belong together is refused, nothing is
//! overwritten, and what is good can be got out.

use std::fs;
use std::path::{Path, PathBuf};

use headwater::folder::{Finding, salvage, verify};
use headwater::{Db, Error, Record};

#[derive(Debug, Clone, Copy, Record)]
struct Number {
    n: i64,
}

const SOURCE: &str = "CREATE SOURCE s (n BIGINT NOT NULL)";
const VIEW: &str =
    "CREATE VIEW total AS SELECT n % 3 AS k, COUNT(*) AS c, SUM(n) AS s FROM s GROUP BY n % 3";

fn open(folder: &Path) -> headwater::Result<Db> {
    Db::builder().workers(1).segment_bytes(600).open(folder)
}

fn refusal(folder: &Path) -> String {
    match open(folder) {
        Ok(_) => panic!("it opens"),
        Err(Error::Data(why)) => why,
        Err(other) => panic!("{other}"),
    }
}

fn push(db: &Db, numbers: std::ops::Range<i64>) {
    let rows: Vec<Number> = numbers.map(|n| Number { n }).collect();
    db.source("s").unwrap().push_batch(&rows).unwrap();
    db.flush().unwrap();
}

/// Rows and sum of the view.
fn total(db: &Db) -> (i64, i64) {
    use headwater::arrow::array::AsArray;
    use headwater::arrow::datatypes::Int64Type;
    let sql = "SELECT CAST(COALESCE(SUM(c), 0) AS BIGINT), CAST(COALESCE(SUM(s), 0) AS BIGINT) FROM total";
    let rows = db.query(sql).unwrap();
    let value = |column: usize| rows[0].column(column).as_primitive::<Int64Type>().value(0);
    (value(0), value(1))
}

fn of_first(rows: i64) -> (i64, i64) {
    (rows, rows * (rows - 1) / 2)
}

/// A folder with a checkpoint of `covered` rows and `behind` more in the log.
fn filled(covered: i64, behind: i64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let killed = tempfile::tempdir().unwrap();
    let db = open(killed.path()).unwrap();
    db.execute(&format!("{SOURCE}; {VIEW};")).unwrap();
    for part in 0..covered / 10 {
        push(&db, part * 10..(part + 1) * 10);
    }
    db.checkpoint().unwrap();
    push(&db, covered..covered + behind);
    // As the process leaves it when it is killed.
    copy(killed.path(), folder.path());
    folder
}

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

/// All files with their contents, but for the lock.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(contents(&path)),
            false if path.ends_with("LOCK") => {}
            false => files.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    files.sort();
    files
}

fn with_ending(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let files = contents(folder).into_iter().map(|(path, _)| path);
    files
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect()
}

fn remove_manifests(folder: &Path) {
    for path in with_ending(folder, "json") {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_folder_without_a_manifest_is_refused_and_stays_as_it_is() {
    let folder = filled(40, 7);
    remove_manifests(folder.path());
    let before = contents(folder.path());
    let why = refusal(folder.path());
    assert!(
        why.contains("no manifest") && why.contains("log/s") && why.contains("salvage"),
        "{why}"
    );
    assert_eq!(contents(folder.path()), before);
    // Also if there is no log.
    fs::remove_dir_all(folder.path().join("log")).unwrap();
    let why = refusal(folder.path());
    assert!(why.contains(".data"), "{why}");
}

#[test]
fn a_log_without_a_statement_is_adopted_or_left_alone() {
    let old = filled(40, 7);
    let new = tempfile::tempdir().unwrap();
    open(new.path()).unwrap().close();
    copy(&old.path().join("log"), &new.path().join("log"));
    let before = contents(&new.path().join("log"));

    let db = open(new.path()).unwrap();
    let errors = db
        .query("SELECT error FROM system.errors WHERE kind = 'log'")
        .unwrap();
    assert_eq!(
        errors.iter().map(|batch| batch.num_rows()).sum::<usize>(),
        1
    );
    for (statement, named) in [
        (SOURCE.to_owned(), "another data folder"),
        (format!("{SOURCE} WITH (log = 'keep')"), "adopt"),
        (
            "CREATE SOURCE s (n INT NOT NULL) WITH (log = 'adopt')".to_owned(),
            "\"n\" Int64 NOT NULL is declared as \"n\" Int32 NOT NULL",
        ),
        (
            "CREATE SOURCE s (n BIGINT NOT NULL, m INT) WITH (log = 'adopt')".to_owned(),
            "no column \"m\" Int32",
        ),
        (
            "CREATE SOURCE other (n BIGINT NOT NULL) WITH (log = 'adopt')".to_owned(),
            "no log to adopt",
        ),
    ] {
        let why = db.execute(&statement).unwrap_err().to_string();
        assert!(why.contains(named), "{why}");
        assert_eq!(contents(&new.path().join("log")), before, "{statement}");
    }
    db.execute(&format!("{SOURCE} WITH (log = 'adopt'); {VIEW}"))
        .unwrap();
    assert_eq!(total(&db), of_first(47));
    push(&db, 47..60);
    assert_eq!(total(&db), of_first(60));
    drop(db);
    let db = open(new.path()).unwrap();
    assert_eq!(total(&db), of_first(60));
    push(&db, 60..61);
    assert_eq!(total(&db), of_first(61));
    db.close();
    assert!(verify(new.path()).unwrap().findings.is_empty());
}

#[test]
fn a_log_in_memory_cannot_be_adopted() {
    let db = Db::in_memory().unwrap();
    let why = db
        .execute(&format!("{SOURCE} WITH (log = 'adopt')"))
        .unwrap_err();
    assert!(why.to_string().contains("data folder"), "{why}");
}

#[test]
fn the_log_of_a_dropped_source_is_not_that_of_a_new_one_of_its_name() {
    let folder = filled(40, 7);
    let old = tempfile::tempdir().unwrap();
    copy(&folder.path().join("log/s"), old.path());
    let db = open(folder.path()).unwrap();
    db.execute(&format!(
        "DROP VIEW total; DROP SOURCE s; {SOURCE}; {VIEW};"
    ))
    .unwrap();
    push(&db, 0..5);
    assert_eq!(total(&db), of_first(5));
    drop(db);
    assert_eq!(total(&open(folder.path()).unwrap()), of_first(5));

    fs::remove_dir_all(folder.path().join("log/s")).unwrap();
    copy(old.path(), &folder.path().join("log/s"));
    let before = contents(folder.path());
    let why = refusal(folder.path());
    assert!(
        why.contains("is not the one of the checkpoint") && why.contains("log/s"),
        "{why}"
    );
    assert_eq!(contents(folder.path()), before);
    // Nor is it with the other identity.
    let fresh = filled(0, 5);
    fs::copy(
        old.path().join("identity"),
        fresh.path().join("log/s/identity"),
    )
    .unwrap();
    refusal(fresh.path());
}

#[test]
fn an_older_copy_of_a_log_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path()).unwrap();
    db.execute(&format!("{SOURCE}; {VIEW};")).unwrap();
    push(&db, 0..30);
    let old = tempfile::tempdir().unwrap();
    copy(&folder.path().join("log/s"), old.path());
    push(&db, 30..60);
    drop(db);
    fs::remove_dir_all(folder.path().join("log/s")).unwrap();
    copy(old.path(), &folder.path().join("log/s"));
    let before = contents(folder.path());
    let why = refusal(folder.path());
    assert!(
        why.contains("known to be durable") && why.contains("30 up to 60"),
        "{why}"
    );
    assert_eq!(contents(folder.path()), before);
    let report = verify(folder.path()).unwrap();
    assert_eq!(report.findings.len(), 1, "{report:?}");
    let cost = &report.findings[0].cost;
    assert!(
        cost.contains("30 rows of source \"s\", offsets 30 to 60") && cost.contains("total"),
        "{cost}"
    );
}

#[test]
fn exchanged_data_files_are_not_believed() {
    let folder = filled(40, 0);
    let db = open(folder.path()).unwrap();
    push(&db, 40..50);
    db.checkpoint().unwrap();
    let killed = tempfile::tempdir().unwrap();
    copy(folder.path(), killed.path());
    drop(db);
    let files = with_ending(killed.path(), "data");
    assert!(files.len() > 1, "{files:?}");
    for (from, to) in [(0, 1), (1, 0)] {
        let damaged = tempfile::tempdir().unwrap();
        copy(killed.path(), damaged.path());
        let name = |number: usize| {
            damaged
                .path()
                .join("checkpoints")
                .join(files[number].file_name().unwrap())
        };
        fs::copy(name(from), name(to)).unwrap();
        match open(damaged.path()) {
            Ok(db) => assert_eq!(total(&db), of_first(50)),
            Err(why) => assert!(why.to_string().contains(".data"), "{why}"),
        }
        let report = verify(damaged.path()).unwrap_or_default();
        assert!(!report.findings.is_empty() || open(damaged.path()).is_ok());
    }
}

#[test]
fn nothing_but_its_own_files_goes_from_the_checkpoints() {
    let folder = filled(40, 7);
    let note = folder.path().join("checkpoints/000000000001.json.bak");
    fs::write(&note, "mine").unwrap();
    let db = open(folder.path()).unwrap();
    db.checkpoint().unwrap();
    db.close();
    assert_eq!(fs::read_to_string(note).unwrap(), "mine");
}

#[test]
fn verify_says_what_is_damaged_and_salvage_gets_the_rest() {
    let folder = filled(200, 7);
    let report = verify(folder.path()).unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
    assert_eq!(report.logs, (1, 207));
    // A record in the middle of the log.
    let segments = with_ending(folder.path(), "log");
    assert!(segments.len() > 4);
    let middle = &segments[segments.len() / 2];
    let mut bytes = fs::read(middle).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(middle, bytes).unwrap();
    let before = contents(folder.path());
    let report = verify(folder.path()).unwrap();
    assert_eq!(report.findings.len(), 1, "{report:?}");
    let Finding { file, cost, .. } = &report.findings[0];
    assert_eq!(file, &middle.display().to_string());
    assert!(
        cost.contains("the checkpoint covers them") && cost.contains("read by total"),
        "{cost}"
    );

    let new = tempfile::tempdir().unwrap();
    let salvaged = salvage(folder.path(), new.path()).unwrap();
    assert_eq!(contents(folder.path()), before);
    let (rows, lost) = (salvaged.logs[0].rows, salvaged.logs[0].lost);
    assert!(
        salvaged.checkpoint.is_some() && lost > 0 && rows + lost == 207,
        "{salvaged:?}"
    );
    assert!(verify(new.path()).unwrap().findings.is_empty());
    let db = open(new.path()).unwrap();
    assert_eq!(
        total(&db),
        of_first(207),
        "the checkpoint had counted the lost rows"
    );
    push(&db, 207..210);
    drop(db);
    assert_eq!(total(&open(new.path()).unwrap()), of_first(210));
}

#[test]
fn without_a_whole_checkpoint_views_are_rebuilt_and_sinks_left_out() {
    let folder = filled(40, 7);
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("out");
    let db = open(folder.path()).unwrap();
    let sink = format!(
        "CREATE SINK out FROM s WITH (connector = 'file', path = '{}', format = 'json')",
        out.display()
    );
    db.execute(&sink).unwrap();
    db.close();
    for file in with_ending(folder.path(), "data") {
        fs::write(file, "").unwrap();
    }
    assert!(refusal(folder.path()).contains(".data"));
    let report = verify(folder.path()).unwrap();
    assert!(report.checkpoint.is_none() && !report.findings.is_empty());
    assert!(report.findings[0].cost.contains("total"), "{report:?}");
    let new = tempfile::tempdir().unwrap();
    let salvaged = salvage(folder.path(), new.path()).unwrap();
    assert_eq!(salvaged.left_out, [sink]);
    assert_eq!(total(&open(new.path()).unwrap()), of_first(47));
    let why = salvage(folder.path(), new.path()).unwrap_err().to_string();
    assert!(why.contains("not empty"), "{why}");
}

#[test]
fn without_a_manifest_the_logs_can_be_salvaged_and_adopted() {
    let folder = filled(40, 7);
    remove_manifests(folder.path());
    let new = tempfile::tempdir().unwrap();
    let salvaged = salvage(folder.path(), new.path()).unwrap();
    assert_eq!((salvaged.checkpoint, salvaged.logs[0].rows), (None, 47));
    let db = open(new.path()).unwrap();
    db.execute(&format!("{SOURCE} WITH (log = 'adopt'); {VIEW}"))
        .unwrap();
    assert_eq!(total(&db), of_first(47));
}
