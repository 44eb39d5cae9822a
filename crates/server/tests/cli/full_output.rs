//! A standard output that takes nothing: full, or closed.

use std::process::Stdio;

use crate::support::{assert_fails, headwater, output, rows};
use crate::{TICKS, pipeline};

fn full() -> std::fs::File {
    let file = std::fs::OpenOptions::new().write(true).open("/dev/full");
    file.unwrap()
}

#[test]
fn a_full_output_is_an_error_and_a_closed_one_is_not() {
    let (_folder, file) = pipeline(&format!("{TICKS} SHOW SOURCES;"));
    let file = file.as_str();
    for arguments in [
        &["connectors"][..],
        &["connectors", "file"],
        &["check", file],
        &["sql", file],
        &["run", "--in-memory", file],
    ] {
        let run = |out: Stdio| output(headwater(arguments).stdout(out));
        assert_fails(run(full().into()), 3, &["error: cannot show the results: "]);
        let (reader, closed) = std::io::pipe().unwrap();
        drop(reader);
        rows(run(closed.into()));
    }
    for (arguments, expected) in [
        (&["connectors", "fiel", "--log", "trace"][..], 1),
        (&["run", "--in-memory", file, "--log", "trace"], 0),
    ] {
        let mut command = headwater(arguments);
        assert_eq!(output(command.stderr(full())).0, expected);
    }
}
