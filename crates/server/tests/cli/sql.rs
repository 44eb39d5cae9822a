//! `headwater sql`: statements from a pipe.

use crate::TICKS;
use crate::support::{headwater, output, with_input};

#[test]
fn the_shell_reads_a_pipe() {
    let sql = format!("{TICKS}\nSHOW SOURCES;\nDESCRIBE\n  ticks;\nSELECT 1 + 1 AS two;");
    let (code, rows, errors) = with_input(&["sql"], &sql);
    assert_eq!((code, errors.as_str()), (0, ""));
    let rows: Vec<&str> = rows.lines().collect();
    assert!(
        rows[0].starts_with("{\"name\":\"ticks\",\"connector\":\"generate\""),
        "{rows:?}"
    );
    assert_eq!(
        rows[3],
        r#"{"column":"at","type":"Timestamp(µs)","nullable":"yes","event_time":"yes"}"#
    );
    assert_eq!(rows[4], r#"{"two":2}"#);
    let (code, rows, errors) = with_input(&["sql"], "SELECT 1 AS one;\nSELECT nope;\nSELECT 2;");
    assert_eq!((code, rows.as_str()), (1, "{\"one\":1}\n"));
    assert!(errors.contains("nope"), "{errors}");
}

#[test]
fn results_before_an_error_are_shown() {
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
