//! `headwater run`: what a pipeline prints and how it ends.

use std::process::Stdio;

use crate::support::{assert_fails, headwater, output, output_bytes, rows, with_input};
use crate::{ABSENT, TICKS, WINDOWS, pipeline};

#[test]
fn a_pipeline_ends_with_its_input() {
    let shown = rows(with_input(&["run", "-"], &format!("{TICKS}{WINDOWS}")));
    let rows: Vec<&str> = shown.lines().collect();
    // Without a rate the ticks are 10,000 a second in event time; the end closes the last window.
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert_eq!(rows[0], r#"{"window_start":"2026-01-01T00:00:00Z","n":10}"#);
    assert!(rows[2].ends_with(r#""n":5}"#), "{}", rows[2]);
}

#[test]
fn the_file_chooses_what_is_shown() {
    let views = format!(
        "{TICKS} CREATE VIEW v AS SELECT k, count(*) AS n FROM ticks GROUP BY k;
         CREATE STREAM even AS SELECT n FROM ticks WHERE n % 12 = 0;"
    );
    let run = |rest: &str| rows(with_input(&["run", "-"], &format!("{views}{rest}")));
    let even = "{\"n\":0}\n{\"n\":12}\n{\"n\":24}\n";
    assert_eq!(run(""), even);
    let select = run("SELECT count(*) AS keys, sum(n) AS rows FROM v;");
    assert_eq!(select, "{\"keys\":10,\"rows\":25}\n");
    let two = run("SUBSCRIBE TO even; SUBSCRIBE TO v;");
    assert_eq!(two.matches(r#"{"_stream":"even","n":"#).count(), 3);
    let sum: i64 = two
        .lines()
        .map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap())
        .filter(|row| row["_stream"] == "v")
        .map(|row| row["n"].as_i64().unwrap() * row["_diff"].as_i64().unwrap())
        .sum();
    assert_eq!(sum, 25, "changes add up to the result");
    let sink = run("CREATE SINK out FROM even WITH (connector = 'stdout');");
    assert_eq!(sink, even, "printed once, by the sink");
    assert!(run("SHOW STREAMS; SUBSCRIBE TO even;").starts_with("{\"name\":\"even\","));
}

#[test]
fn a_source_that_fails_for_good_is_a_failure() {
    let expected = ["error: source p failed: ", "no-such-program"];
    assert_fails(with_input(&["run", "-"], ABSENT), 3, &expected);
}

#[test]
fn wrong_files_and_command_lines_are_refused() {
    let run = |arguments: &[&str]| output(headwater(&["run"]).args(arguments));
    let unreadable = "error: cannot read no-such-file.sql: ";
    assert_fails(run(&["no-such-file.sql"]), 1, &[unreadable]);
    assert_eq!(run(&[]).0, 2);
    assert_eq!(run(&["x", "--workers", "0"]).0, 2);
    assert_eq!(run(&["x", "--log", "lo=ud"]).0, 2);
    let mut command = headwater(&["run", "-"]);
    let (code, _, errors) = output_bytes(command.stdin(Stdio::piped()), b"SELECT '\xff'");
    assert_eq!(code, 1);
    assert_eq!(errors, b"error: <stdin> is not UTF-8 from byte 8 on\n");
}

#[test]
fn a_file_may_begin_with_a_byte_order_mark() {
    let (_folder, file) = pipeline(&format!("\u{feff}{TICKS}"));
    for command in ["check", "run", "sql"] {
        rows(output(&mut headwater(&[command, &file])));
    }
}

#[test]
fn dropped_lines_are_counted_and_logged_once() {
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
    let reason = "a line is longer than max_frame, 20 bytes";
    assert!(errors.contains(reason), "{errors}");
}

#[test]
fn bad_rows_are_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.csv"), "1\nx\n3\n").unwrap();
    let sql = format!(
        "CREATE SOURCE t (a INT) WITH (connector = 'file', format = 'csv', follow = false, path = '{}');
         CREATE VIEW n AS SELECT COUNT(*) AS n FROM t; SUBSCRIBE TO n;",
        folder.path().join("in.csv").display()
    );
    let (_folder, file) = pipeline(&sql);
    let run = || output(&mut headwater(&["run", &file]));
    let (code, _, errors) = run();
    let warning = "warning: 1 rows of t could not be decoded: they are in t__bad\n";
    assert_eq!((code, errors.as_str()), (0, warning));
    // The first run has reported them.
    rows(run());
}
