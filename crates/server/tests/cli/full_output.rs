//! A standard output that takes nothing: full, or closed.

use crate::TICKS;
use crate::support::{headwater, output};

fn full() -> std::fs::File {
    let file = std::fs::OpenOptions::new().write(true).open("/dev/full");
    file.unwrap()
}

/// Runs with a standard output that is full, or whose reader is gone.
fn unread(arguments: &[&str], is_full: bool) -> (i32, String) {
    let mut command = headwater(arguments);
    match is_full {
        true => command.stdout(full()),
        false => command.stdout(std::io::pipe().unwrap().1),
    };
    let (code, _, errors) = output(&mut command);
    (code, errors)
}

#[test]
fn a_full_output_is_an_error_and_a_closed_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.sql");
    std::fs::write(&file, format!("{TICKS} SHOW SOURCES;")).unwrap();
    let file = file.to_str().unwrap();
    for arguments in [
        &["connectors"][..],
        &["connectors", "file"],
        &["check", file],
        &["sql", file],
        &["run", "--in-memory", file],
    ] {
        let (code, errors) = unread(arguments, true);
        assert_eq!(code, 3, "{arguments:?}: {errors}");
        assert!(
            errors.starts_with("error: cannot show the results: "),
            "{errors}"
        );
        let (code, errors) = unread(arguments, false);
        assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?}");
    }
    for (arguments, expected) in [
        (&["connectors", "fiel", "--log", "trace"][..], 1),
        (&["run", "--in-memory", file, "--log", "trace"], 0),
    ] {
        let mut command = headwater(arguments);
        assert_eq!(output(command.stderr(full())).0, expected);
    }
}
