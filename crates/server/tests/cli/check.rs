//! `headwater check`: the errors that it finds, and what it requires.

use crate::support::{assert_fails, rows, with_input};
use crate::{ABSENT, TICKS};

#[test]
fn all_errors_are_drawn_and_nothing_starts() {
    let folder = tempfile::tempdir().unwrap();
    let touched = folder.path().join("touched");
    let sql = format!(
        "CREATE SOURCE p (line VARCHAR) WITH (connector = 'process', command = 'touch {}');
CREATE SOURCE s (a BIGINT) WITH (connector = 'generate', sede = 1, rows = 'x');
CREATE STREAM x AS SELECT prise FROM p;
",
        touched.display()
    );
    for command in ["run", "check"] {
        let checked = with_input(&[command, "-"], &sql);
        assert_eq!(checked.1, "");
        assert!(!checked.2.contains('\x1b'), "no colors in a pipe");
        let expected = [
            "[42704] Error: option \"sede\" is unknown",
            "Error: option \"rows\" must be a whole number, it is 'x'",
            "[42703] Error: no field named prise",
            "<stdin>:3:27",
            "──┬──",
        ];
        assert_fails(checked, 1, &expected);
    }
    assert!(!touched.exists());
}

#[test]
fn check_reports_what_cannot_be_reached() {
    let checked = with_input(&["check", "-"], &format!("{TICKS}{ABSENT}"));
    let right = "ok     source ticks\nok     source p\n";
    assert!(checked.1.starts_with(right), "{checked:?}");
    assert_fails(checked, 1, &["error: p: ", "no-such-program"]);
    let out = rows(with_input(&["check", "-"], TICKS));
    let reached = "ok     ticks: its external system can be reached\n";
    assert!(out.ends_with(reached), "{out}");
}

/// `check` refuses what `run` would refuse at once.
#[test]
fn a_pattern_that_matches_no_file_is_refused_unless_the_source_follows() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().display();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let source = |path: &str, more: &str| {
        format!("CREATE SOURCE f (line VARCHAR) WITH (connector = 'file', path = '{path}'{more});")
    };
    let nothing = format!("{base}/nothing*");
    for (path, why) in [
        (&nothing, "there is no such file".to_owned()),
        (
            &format!("{base}/pipe"),
            format!("{base}/pipe is a pipe, not a file"),
        ),
    ] {
        let sql = source(path, ", follow = false");
        let why = format!("cannot reach {path}: {why}");
        assert_fails(with_input(&["check", "-"], &sql), 1, &[&why]);
        assert_fails(with_input(&["run", "-"], &sql), 3, &[&why]);
    }
    rows(with_input(&["check", "-"], &source(&nothing, "")));
}

#[test]
fn check_can_require_a_guarantee() {
    let file = "CREATE SOURCE f (n BIGINT)
            WITH (connector = 'file', path = '/tmp/in', format = 'json');
        CREATE STREAM q AS SELECT n FROM f;";
    let process = "CREATE SOURCE p (line VARCHAR) WITH (connector = 'process', command = 'cat');";
    let sink =
        "CREATE SINK o FROM q WITH (connector = 'file', path = '/tmp/out', format = 'json');";
    let check = |required, sql: &[&str]| {
        let sql = sql.concat();
        with_input(&["check", "-", "--require", required], &sql)
    };
    let kept = "ok     o: exactly-once\n";
    let out = rows(check("exactly-once", &[file, sink]));
    assert!(out.ends_with(kept), "{out}");
    let checked = check("at-least-once", &[file, process, sink]);
    assert!(checked.1.ends_with(kept), "{checked:?}");
    let weakest = "error: p is at-most-once, not at-least-once; its weakest link is source p: process cannot go back";
    assert_fails(checked, 1, &[weakest]);
    let stdout = "CREATE SINK o FROM q WITH (connector = 'stdout');";
    let weakest = "o is at-least-once, not exactly-once; its weakest link is sink o: ";
    assert_fails(check("exactly-once", &[file, stdout]), 1, &[weakest]);
    assert_eq!(check("always", &[]).0, 2);
}
