//! `headwater check`: the errors that it finds, and what it requires.

use crate::TICKS;
use crate::support::with_input;

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
        let (code, out, errors) = with_input(&[command, "-"], &sql);
        assert_eq!((code, out.as_str()), (1, ""), "{errors}");
        for expected in [
            "[42704] Error: option \"sede\" is unknown",
            "Error: option \"rows\" must be a whole number, it is 'x'",
            "[42703] Error: no field named prise",
            "<stdin>:3:27",
            "──┬──",
        ] {
            assert!(errors.contains(expected), "{expected} in {errors}");
        }
        assert!(!errors.contains('\x1b'), "no colors in a pipe");
    }
    assert!(!touched.exists());
}

#[test]
fn check_reports_what_cannot_be_reached() {
    let absent =
        "CREATE SOURCE p (line VARCHAR) WITH (connector = 'process', command = 'no-such-program');";
    let (code, out, errors) = with_input(&["check", "-"], &format!("{TICKS}{absent}"));
    assert_eq!(code, 1);
    assert!(
        out.contains("ok     source ticks") && out.contains("ok     source p"),
        "{out}"
    );
    assert!(
        errors.starts_with("error: p: ") && errors.contains("no-such-program"),
        "{errors}"
    );
    let (code, out, errors) = with_input(&["check", "-"], TICKS);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(
        out.contains("ok     ticks: its external system can be reached"),
        "{out}"
    );
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
    for (path, why) in [
        (
            format!("{base}/nothing*"),
            "there is no such file".to_owned(),
        ),
        (
            pipe.display().to_string(),
            format!("{base}/pipe is a pipe, not a file"),
        ),
    ] {
        let sql = source(&path, ", follow = false");
        let why = format!("cannot reach {path}: {why}");
        let (code, _, errors) = with_input(&["check", "-"], &sql);
        assert_eq!(code, 1, "{errors}");
        assert!(errors.contains(&why), "{errors}");
        let (code, _, errors) = with_input(&["run", "-"], &sql);
        assert_eq!(code, 3, "{errors}");
        assert!(errors.contains(&why), "{errors}");
    }
    let sql = source(&format!("{base}/nothing*"), "");
    assert_eq!(with_input(&["check", "-"], &sql).0, 0);
}

#[test]
fn check_can_require_a_guarantee() {
    let file =
        "CREATE SOURCE f (n BIGINT) WITH (connector = 'file', path = '/tmp/in', format = 'json');
        CREATE SOURCE p (line VARCHAR) WITH (connector = 'process', command = 'cat');
        CREATE STREAM q AS SELECT n FROM f;";
    let sink =
        "CREATE SINK o FROM q WITH (connector = 'file', path = '/tmp/out', format = 'json');";
    let check =
        |required: &str, sql: String| with_input(&["check", "-", "--require", required], &sql);
    let without_p = file.replace(
        "CREATE SOURCE p (line VARCHAR) WITH (connector = 'process', command = 'cat');",
        "",
    );
    let (code, out, errors) = check("exactly-once", format!("{without_p}{sink}"));
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(out.ends_with("ok     o: exactly-once\n"), "{out}");
    let (code, out, errors) = check("at-least-once", format!("{file}{sink}"));
    assert_eq!(code, 1);
    assert!(out.ends_with("ok     o: exactly-once\n"), "{out}");
    let weakest = "error: p is at-most-once, not at-least-once; its weakest link is source p: process cannot go back";
    assert!(errors.starts_with(weakest), "{errors}");
    let stdout = "CREATE SINK o FROM q WITH (connector = 'stdout');";
    let (code, _, errors) = check("exactly-once", format!("{without_p}{stdout}"));
    assert_eq!(code, 1);
    assert!(
        errors.contains("o is at-least-once, not exactly-once; its weakest link is sink o: "),
        "{errors}"
    );
    assert_eq!(check("always", String::new()).0, 2);
}
