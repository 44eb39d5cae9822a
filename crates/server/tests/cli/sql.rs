//! `headwater sql`: statements from a pipe.

use crate::support::{Program, assert_fails, headwater, output, rows, with_input};
use crate::{TICKS, pipeline};

#[test]
fn the_shell_reads_a_pipe() {
    let sql = format!("{TICKS}\nSHOW SOURCES;\nDESCRIBE\n  ticks;\nSELECT 1 + 1 AS two;");
    let shown = rows(with_input(&["sql"], &sql));
    let rows: Vec<&str> = shown.lines().collect();
    let source = r#"{"name":"ticks","connector":"generate""#;
    assert!(rows[0].starts_with(source), "{rows:?}");
    let column = r#"{"column":"at","type":"Timestamp(µs)","nullable":"yes","event_time":"yes"}"#;
    assert_eq!(rows[3..], [column, r#"{"two":2}"#]);
}

/// Rows of a source that is quick, a view on the next line, and an answer that has them all.
const COUNTED: &str = "CREATE VIEW v AS SELECT count(*) AS n FROM ticks;\nSELECT n FROM v;\n";

#[test]
fn a_script_misses_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.csv");
    let lines: String = (0..5_000).map(|number| format!("{number}\n")).collect();
    std::fs::write(&file, lines).unwrap();
    let file_source = format!(
        "CREATE SOURCE ticks (n BIGINT) WITH (connector = 'file', format = 'csv', follow = false, path = '{}');\n",
        file.display()
    );
    let process =
        "CREATE SOURCE ticks (line VARCHAR) WITH (connector = 'process', command = 'seq 5000');\n";
    let generate = "CREATE SOURCE ticks (n BIGINT) WITH (connector = 'generate', rows = 5000, rows_per_second = 0);\n";
    for source in [&file_source, process, generate] {
        for workers in ["1", "2"] {
            for _ in 0..20 {
                let shown = with_input(
                    &["sql", "--workers", workers],
                    &format!("{source}{COUNTED}"),
                );
                assert_eq!(rows(shown), "{\"n\":5000}\n", "{source}");
            }
        }
    }
}

#[test]
fn each_way_to_read_starts_a_source() {
    let ticks = TICKS.replace("rows = 25", "rows = 2500");
    let run = |rest: &str| rows(with_input(&["sql"], &format!("{ticks}{rest}")));
    let (_folder, file) = pipeline(&format!(
        "{ticks}CREATE STREAM s AS SELECT n FROM ticks; SUBSCRIBE TO s;"
    ));
    let mut subscribed = Program::start(&mut headwater(&["sql", &file]));
    let lines = subscribed.lines();
    for number in 0..2_500 {
        assert_eq!(lines.next("a row"), format!("{{\"n\":{number}}}"));
    }
    // A second view on the next line, a view of a view, and what the first SELECT does not read.
    let views =
        "CREATE VIEW v AS SELECT n FROM ticks;\nCREATE VIEW w AS SELECT n FROM v WHERE n < 5;\n";
    let more = ticks.replace("SOURCE ticks", "SOURCE more");
    let rest = format!(
        "{views}{more}SELECT count(*) AS n FROM w;\nCREATE VIEW u AS SELECT n FROM more;\nSELECT count(*) AS n FROM u;\n"
    );
    assert_eq!(run(&rest), "{\"n\":5}\n{\"n\":2500}\n");
    let waits = "SELECT state, reason FROM system.sources;\n";
    let reason =
        "it starts with the first SELECT or SUBSCRIBE that reads it, or at the end of the script";
    let expected = format!("{{\"state\":\"initial\",\"reason\":\"{reason}\"}}\n");
    assert_eq!(run(waits), expected);
}

#[test]
fn a_sink_has_all_rows_at_the_end_of_a_script() {
    for number in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out.ndjson");
        let data = folder.path().join("data").display().to_string();
        let arguments = ["sql", "--data", &data];
        // With a log and without.
        let arguments = &arguments[..if number % 2 == 0 { 3 } else { 1 }];
        let sql = format!(
            "{}CREATE STREAM s AS SELECT n FROM ticks WHERE n % 2 = 0;\n
             CREATE SINK o FROM s WITH (connector = 'file', path = '{}');\n",
            TICKS.replace("rows = 25", "rows = 5000"),
            out.display()
        );
        rows(with_input(arguments, &sql));
        assert_eq!(
            std::fs::read_to_string(&out).unwrap().lines().count(),
            2_500
        );
    }
}

#[test]
fn a_subscription_in_a_pipe_ends_with_its_sources() {
    let endless = TICKS.replace("rows = 25, rows_per_second = 0", "rows_per_second = 5");
    let endless = endless.replace("SOURCE ticks", "SOURCE others");
    let rest =
        "CREATE STREAM s AS SELECT n FROM ticks WHERE n < 2;\nSUBSCRIBE TO s;\nSELECT 7 AS n;\n";
    let shown = rows(with_input(&["sql"], &format!("{TICKS}{endless}{rest}")));
    assert_eq!(shown, "{\"n\":0}\n{\"n\":1}\n{\"n\":7}\n");
}

#[test]
fn an_input_without_an_end_is_not_awaited() {
    let endless = TICKS.replace("rows = 25, rows_per_second = 0", "rows_per_second = 5");
    let shown = rows(with_input(&["sql"], &format!("{endless}{COUNTED}")));
    assert!(shown.starts_with("{\"n\":"), "{shown}");
}

#[test]
fn a_file_is_a_script_too() {
    let (_folder, file) = pipeline(&format!("{TICKS}{COUNTED}"));
    let shown = rows(output(&mut headwater(&["sql", &file])));
    assert_eq!(shown, "{\"n\":25}\n");
    let (_folder, file) = pipeline(TICKS);
    let shown = rows(with_input(
        &["sql", &file],
        "CREATE VIEW w AS SELECT 1 AS one FROM ticks;",
    ));
    assert_eq!(shown, "");
}

#[test]
fn a_script_waits_with_a_data_folder_too() {
    for wal in ["async", "off"] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data").display().to_string();
        let ticks = TICKS.replace("rows = 25", &format!("rows = 5000, wal_mode = '{wal}'"));
        let shown = with_input(&["sql", "--data", &data], &format!("{ticks}{COUNTED}"));
        assert_eq!(rows(shown), "{\"n\":5000}\n", "{wal}");
        // What exists when the folder is opened has its readers.
        let again = with_input(&["sql", "--data", &data], "SELECT n FROM v;");
        assert_eq!(rows(again), "{\"n\":5000}\n", "{wal}");
    }
}

#[test]
fn results_before_an_error_are_shown() {
    for (sql, shown, error) in [
        (
            "SELECT 1 AS a;\nSELECT nope;\nSELECT 2;",
            "{\"a\":1}\n",
            "nope",
        ),
        (
            "SELECT 1 AS a; SELECT 2 AS b; SELECT nothing; SELECT 3 AS c;\n",
            "{\"a\":1}\n{\"b\":2}\n",
            "<stdin>:1:38",
        ),
        ("SELECT 1 AS a; SELEC 2;\n", "{\"a\":1}\n", "<stdin>:1:16"),
    ] {
        let ended = with_input(&["sql"], sql);
        assert_eq!(ended.1, shown);
        assert_fails(ended, 1, &[error]);
    }
    let (_folder, file) = pipeline("SELECT 1 AS a; SELECT nothing;");
    let (code, rows, _) = output(&mut headwater(&["sql", &file]));
    assert_eq!((code, rows.as_str()), (1, "{\"a\":1}\n"));
}
