//! `headwater sql --stopped`: a data folder in which nothing runs.

use crate::support::{assert_fails, headwater, output, rows, with_input};
use crate::{TICKS, pipeline};

#[test]
fn a_pipeline_is_looked_at_and_repaired_while_nothing_runs() {
    let views = "CREATE VIEW heavy AS SELECT n FROM ticks;
        CREATE VIEW light AS SELECT count(*) AS n FROM ticks; SELECT n FROM light;";
    let (folder, file) = pipeline(&format!("{TICKS}{views}"));
    let data = folder.path().join("headwater-data").display().to_string();
    rows(output(&mut headwater(&["run", &file])));
    let stopped = |sql: &str| with_input(&["sql", "--data", &data, "--stopped"], sql);
    let listed = rows(stopped(
        "SELECT name, rows FROM system.streams;\nSHOW SOURCES;\n",
    ));
    assert!(
        listed.contains("{\"name\":\"heavy\",\"rows\":25}"),
        "{listed}"
    );
    assert!(listed.contains("\"state\":\"initial\""), "{listed}");
    assert_fails(
        stopped("SELECT n FROM light;"),
        1,
        &["not loaded", "--stopped"],
    );
    assert_fails(
        stopped("CREATE VIEW v AS SELECT n FROM ticks;"),
        1,
        &["--stopped"],
    );
    rows(stopped("DROP VIEW heavy;"));
    let shown = with_input(
        &["sql", "--data", &data],
        "SELECT n FROM light; SHOW VIEWS;",
    );
    let shown = rows(shown);
    assert!(shown.starts_with("{\"n\":25}\n"), "{shown}");
    assert!(!shown.contains("heavy"), "{shown}");
    let none = with_input(
        &["sql", "--data", "/no/such/folder", "--stopped"],
        "SHOW VIEWS;",
    );
    assert_fails(none, 3, &["/no/such/folder"]);
    assert_eq!(with_input(&["sql", "--stopped"], "").0, 2);
}
