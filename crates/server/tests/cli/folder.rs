//! `headwater verify` and `headwater salvage`: what they print, and that a damaged folder stays as it is.

use std::fs;
use std::path::Path;

use crate::support::{assert_fails, headwater, output, rows};
use crate::{TICKS, pipeline};

const VIEW: &str = "CREATE VIEW v AS SELECT k, count(*) AS n FROM ticks GROUP BY k;\n";

/// The data folder of a pipeline that has ended.
fn run() -> (tempfile::TempDir, String) {
    let (folder, file) = pipeline(&format!("{TICKS}{VIEW}"));
    rows(output(&mut headwater(&["run", &file])));
    let data = folder.path().join("headwater-data").display().to_string();
    (folder, data)
}

fn verify(data: &str) -> (i32, String, String) {
    output(&mut headwater(&["verify", data]))
}

/// Flips a bit in the middle of the only file with this ending.
fn damage(folder: &Path, ending: &str) {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files = files.filter(|path| path.extension().is_some_and(|it| it == ending));
    let file = files.next().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_whole_folder_is_said_to_be_whole() {
    let (_folder, data) = run();
    let said = rows(verify(&data));
    assert!(
        said.starts_with(&format!("ok     {data}: checkpoint ")),
        "{said}"
    );
    assert!(said.ends_with("logs: 1, rows in them: 25\n"), "{said}");
}

#[test]
fn a_damaged_log_is_told_and_the_rest_can_be_salvaged() {
    let (folder, data) = run();
    damage(&Path::new(&data).join("log/ticks"), "log");
    let (code, told, errors) = verify(&data);
    assert_eq!(code, 3, "{errors}");
    assert!(
        errors.starts_with(&format!("error: {data} is damaged, findings: 1;")),
        "{errors}"
    );
    for part in [
        "\"file\":",
        "\"problem\":",
        "\"cost\":",
        "source \\\"ticks\\\"",
        "read by v",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let new = folder.path().join("rescued").display().to_string();
    let (code, told, errors) = output(&mut headwater(&["salvage", &data, "--to", &new]));
    assert_eq!(code, 0, "{errors}");
    assert!(told.contains("ok     log ticks: "), "{told}");
    assert!(errors.contains("rows are lost"), "{errors}");
    rows(verify(&new));
    assert_eq!(verify(&data).0, 3, "it stays as it is");
    assert_fails(
        output(&mut headwater(&["salvage", &data, "--to", &new])),
        3,
        &["not empty"],
    );
}

#[test]
fn a_folder_that_lost_its_manifests_is_refused_and_named() {
    let (folder, data) = run();
    let file = folder.path().join("pipeline.sql").display().to_string();
    let checkpoints = Path::new(&data).join("checkpoints");
    for entry in fs::read_dir(&checkpoints).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "json") {
            fs::remove_file(path).unwrap();
        }
    }
    let parts = ["no manifest", "log/ticks", "headwater salvage"];
    assert_fails(output(&mut headwater(&["run", &file])), 3, &parts);
    assert_fails(verify(&data), 3, &["no checkpoint is whole"]);
    assert_fails(verify(&format!("{data}-not")), 3, &["No such file"]);
}
