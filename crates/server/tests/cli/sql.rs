//! `headwater sql`: statements from a pipe.

use crate::support::{assert_fails, headwater, output, rows, with_input};
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
            "<stdin>:1:31",
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
