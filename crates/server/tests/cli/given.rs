//! What the program makes of files, outputs, options and names that are not as they should be.

use crate::{TICKS, headwater, output, with_input};

#[test]
fn a_file_of_sql_may_begin_with_a_mark() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.sql");
    std::fs::write(&file, format!("\u{feff}{TICKS}")).unwrap();
    let file = file.to_str().unwrap();
    for command in ["check", "run", "sql"] {
        let (code, _, errors) = output(&mut headwater(&[command, file]));
        assert_eq!((code, errors.as_str()), (0, ""), "{command}");
    }
}

#[test]
fn lines_that_are_left_out_are_counted_and_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let long = "x".repeat(100);
    std::fs::write(&file, format!("a\n{long}\n{long}{long}\nb\n")).unwrap();
    let sql = format!(
        "CREATE SOURCE f (line VARCHAR) WITH (connector = 'file', path = '{}', follow = false,
             max_frame = '20 B', overlong = 'drop');
         CREATE VIEW v AS SELECT count(*) AS n FROM f;
         SELECT n FROM v; SELECT dropped FROM system.sources;",
        file.display()
    );
    let (code, rows, errors) = with_input(&["run", "-"], &sql);
    assert_eq!((code, rows.as_str()), (0, "{\"n\":2}\n{\"dropped\":2}\n"));
    assert_eq!(errors.matches("WARN").count(), 1, "{errors}");
    assert!(
        errors.contains("a line is longer than max_frame, 20 bytes"),
        "{errors}"
    );
}

/// What `run` would refuse at once, `check` refuses.
#[test]
fn a_pattern_without_a_file_is_refused_unless_it_may_come() {
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
fn a_stream_of_dead_letters_that_the_file_names_is_of_the_file() {
    let sql =
        "CREATE SOURCE p (n BIGINT) WITH (connector = 'process', command = 'echo x', mode = 'once',
             format = 'json', error.strategy = 'dlq', error.dlq.stream = 'dead');";
    for sql in [
        sql.to_owned(),
        sql.replace("error.dlq", "process.error.dlq"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.sql");
        std::fs::write(&file, sql).unwrap();
        let (code, _, errors) = output(&mut headwater(&["run", file.to_str().unwrap()]));
        assert_eq!((code, errors.as_str()), (0, ""));
    }
}

/// Runs with a standard output that refuses every byte, or that nobody reads.
fn unread(arguments: &[&str], is_full: bool) -> (i32, String) {
    let mut command = headwater(arguments);
    match is_full {
        true => {
            let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
            command.stdout(full.unwrap());
        }
        false => {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            command.stdout(writer);
        }
    }
    let ended = command.output().unwrap();
    let errors = String::from_utf8(ended.stderr).unwrap();
    (ended.status.code().unwrap(), errors)
}

#[test]
fn an_output_that_is_full_is_told_and_one_that_is_closed_is_no_trouble() {
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
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full");
    let mut command = headwater(&["connectors", "fiel", "--log", "trace"]);
    let ended = command.stderr(full().unwrap()).output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let mut command = headwater(&["run", "--in-memory", file, "--log", "trace"]);
    let ended = command.stderr(full().unwrap()).output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
}

#[test]
fn what_ran_before_an_error_is_shown() {
    let sql = "SELECT 1 AS a; SELECT 2 AS b; SELECT nothing; SELECT 3 AS c;\n";
    let (code, rows, errors) = with_input(&["sql"], sql);
    assert_eq!((code, rows.as_str()), (1, "{\"a\":1}\n{\"b\":2}\n"));
    assert!(errors.contains("<stdin>:1:31"), "{errors}");
    let sql = "SELECT 1 AS a; SELEC 2;\n";
    let (code, rows, errors) = with_input(&["sql"], sql);
    assert_eq!((code, rows.as_str()), (1, "{\"a\":1}\n"));
    assert!(errors.contains("<stdin>:1:16"), "{errors}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.sql");
    std::fs::write(&file, "SELECT 1 AS a; SELECT nothing;").unwrap();
    let (code, rows, _) = output(&mut headwater(&["sql", file.to_str().unwrap()]));
    assert_eq!((code, rows.as_str()), (1, "{\"a\":1}\n"));
}

#[test]
fn names_are_told_as_they_are_meant() {
    let (code, out, _) = output(&mut headwater(&["--version"]));
    let expected = format!("headwater {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((code, out), (0, expected));
    let (code, _, errors) = output(&mut headwater(&["connectors", "fiel"]));
    assert_eq!(code, 1);
    assert_eq!(
        errors,
        "error: there is no connector \"fiel\"; did you mean \"file\"?\n"
    );
    let sql = "CREATE SOURCE s (a INT) WITH (connector = 'fiel', path = 'x');
        CREATE SOURCE t WITH (connector = 'file', path = 'x', max_frame = '0 B');";
    let (code, _, errors) = with_input(&["check", "-"], sql);
    assert_eq!(code, 1);
    for expected in [
        "did you mean \"file\"?",
        "option \"max_frame\" is wrong: it must be at least 1 B",
    ] {
        assert!(errors.contains(expected), "{expected} in {errors}");
    }
}
