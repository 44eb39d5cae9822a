//! The program as its users meet it: what it prints, how it ends, and what it leaves behind.

mod check;
mod connectors;
mod data_folder;
mod folder;
mod full_output;
mod large_rows;
mod limits;
mod run;
mod secrets;
mod signals;
mod sql;
mod stopped;
#[path = "../support/mod.rs"]
mod support;
mod tap;

const TICKS: &str =
    "CREATE SOURCE ticks (n BIGINT, k VARCHAR, at TIMESTAMP, WATERMARK FOR at AS at)
    WITH (connector = 'generate', rows = 25, rows_per_second = 0);\n";

/// Counts the ticks of each window, ten except in the last.
const WINDOWS: &str = "CREATE STREAM w AS SELECT window_start, count(*) AS n FROM ticks
    GROUP BY TUMBLE(at, INTERVAL '1 millisecond');\n";

/// A source whose command does not exist.
const ABSENT: &str = "CREATE SOURCE p (line VARCHAR)
    WITH (connector = 'process', command = 'no-such-program');\n";

/// A folder with `pipeline.sql`, and the path of that file.
fn pipeline(sql: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.sql");
    std::fs::write(&file, sql).unwrap();
    (folder, file.display().to_string())
}
