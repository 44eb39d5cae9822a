//! `headwater run`: what a pipeline prints and how it ends.

use std::process::Stdio;

use crate::TICKS;
use crate::support::{headwater, output, output_bytes, with_input};

#[test]
fn a_pipeline_ends_with_its_input() {
    let sql = format!(
        "{TICKS} CREATE STREAM w AS SELECT window_start, count(*) AS n FROM ticks
         GROUP BY TUMBLE(at, INTERVAL '1 millisecond');"
    );
    let (code, rows, errors) = with_input(&["run", "-"], &sql);
    assert_eq!((code, errors.as_str()), (0, ""));
    let rows: Vec<&str> = rows.lines().collect();
    // 10,000 events a second when there is no rate: ten in a millisecond, the last window closed by the end.
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
    let run = |rest: &str| {
        let (code, rows, errors) = with_input(&["run", "-"], &format!("{views}{rest}"));
        assert_eq!((code, errors.as_str()), (0, ""), "{rest}");
        rows
    };
    assert_eq!(run(""), "{\"n\":0}\n{\"n\":12}\n{\"n\":24}\n");
    let answer = "{\"keys\":10,\"rows\":25}\n";
    assert_eq!(
        run("SELECT count(*) AS keys, sum(n) AS rows FROM v;"),
        answer
    );
    let two = run("SUBSCRIBE TO even; SUBSCRIBE TO v;");
    assert_eq!(
        two.lines()
            .filter(|row| row.starts_with(r#"{"_stream":"even","n":"#))
            .count(),
        3
    );
    let sum: i64 = two
        .lines()
        .map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap())
        .filter(|row| row["_stream"] == "v")
        .map(|row| row["n"].as_i64().unwrap() * row["_diff"].as_i64().unwrap())
        .sum();
    assert_eq!(sum, 25, "changes add up to the result");
    let sink = run("CREATE SINK out FROM even WITH (connector = 'stdout');");
    assert_eq!(
        sink, "{\"n\":0}\n{\"n\":12}\n{\"n\":24}\n",
        "printed once, by the sink"
    );
    assert!(run("SHOW STREAMS; SUBSCRIBE TO even;").starts_with("{\"name\":\"even\","));
}

#[test]
fn a_source_that_fails_for_good_is_a_failure() {
    let absent =
        "CREATE SOURCE p (line VARCHAR) WITH (connector = 'process', command = 'no-such-program');";
    let (code, _, errors) = with_input(&["run", "-"], absent);
    assert_eq!(code, 3, "{errors}");
    assert!(
        errors.contains("error: source p failed: ") && errors.contains("no-such-program"),
        "{errors}"
    );
}

#[test]
fn wrong_files_and_command_lines_are_refused() {
    let (code, _, errors) = output(&mut headwater(&["run", "no-such-file.sql"]));
    assert_eq!(code, 1);
    assert!(
        errors.starts_with("error: cannot read no-such-file.sql: "),
        "{errors}"
    );
    assert_eq!(output(&mut headwater(&["run"])).0, 2);
    assert_eq!(output(&mut headwater(&["run", "x", "--workers", "0"])).0, 2);
    assert_eq!(output(&mut headwater(&["run", "x", "--log", "lo=ud"])).0, 2);
    let mut command = headwater(&["run", "-"]);
    let (code, _, errors) = output_bytes(command.stdin(Stdio::piped()), b"SELECT '\xff'");
    assert_eq!(code, 1);
    assert_eq!(errors, b"error: <stdin> is not UTF-8 from byte 8 on\n");
}

#[test]
fn a_file_may_begin_with_a_byte_order_mark() {
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
    assert!(
        errors.contains("a line is longer than max_frame, 20 bytes"),
        "{errors}"
    );
}

#[test]
fn bad_rows_are_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.csv"), "1\nx\n3\n").unwrap();
    let file = folder.path().join("p.sql");
    let sql = format!(
        "CREATE SOURCE t (a INT) WITH (connector = 'file', format = 'csv', follow = false, path = '{}');
         CREATE VIEW n AS SELECT COUNT(*) AS n FROM t; SUBSCRIBE TO n;",
        folder.path().join("in.csv").display()
    );
    std::fs::write(&file, sql).unwrap();
    let run = || output(&mut headwater(&["run", file.to_str().unwrap()]));
    let (code, _, errors) = run();
    let warning = "warning: 1 rows of t could not be decoded: they are in t__bad\n";
    assert_eq!((code, errors.as_str()), (0, warning));
    let (code, _, errors) = run();
    assert_eq!(
        (code, errors.as_str()),
        (0, ""),
        "reported by the first run"
    );
}
