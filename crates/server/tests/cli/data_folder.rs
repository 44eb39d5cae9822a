//! What a run leaves in its data folder, and what the next one does with it.

use std::io::Write;
use std::path::Path;

use rustix::process::Signal;

use crate::signals::Family;
use crate::support::{assert_fails, headwater, output, rows, with_input};
use crate::{TICKS, WINDOWS, pipeline};

/// A folder whose pipeline counts the rows of the file `in` in a view, and writes them to `out`.
fn durable_pipeline() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let sql = format!(
        "CREATE SOURCE numbers (n BIGINT) WITH (connector = 'file', path = '{}', follow = false, format = 'json');
         CREATE STREAM live;
         ATTACH SOURCE numbers TO STREAM live;
         START STREAM live;
         CREATE VIEW total AS SELECT COUNT(*) AS rows, SUM(n) AS sum FROM numbers;
         CREATE SINK out FROM (SELECT n FROM numbers) WITH (connector = 'file', path = '{}', format = 'json');
         SELECT rows, sum FROM total;",
        path("in"),
        path("out")
    );
    std::fs::write(folder.path().join("pipeline.sql"), sql).unwrap();
    std::fs::write(folder.path().join("in"), "{\"n\": 1}\n{\"n\": 2}\n").unwrap();
    folder
}

/// Runs `pipeline.sql` of a folder.
fn run_in(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let file = folder.join("pipeline.sql");
    output(headwater(&["run", file.to_str().unwrap()]).args(arguments))
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_pipeline_continues_where_it_stopped() {
    let folder = durable_pipeline();
    let first = (0, "{\"rows\":2,\"sum\":3}\n".to_owned(), String::new());
    assert_eq!(run_in(folder.path(), &[]), first);
    assert!(folder.path().join("headwater-data").is_dir());
    append(&folder.path().join("in"), "{\"n\": 4}\n");
    let second = (0, "{\"rows\":3,\"sum\":7}\n".to_owned(), String::new());
    assert_eq!(run_in(folder.path(), &["--workers", "2"]), second);
    let out = std::fs::read_to_string(folder.path().join("out")).unwrap();
    assert_eq!(out, "{\"n\":1}\n{\"n\":2}\n{\"n\":4}\n", "each row once");
    // Another folder starts without state.
    let other = folder.path().join("other");
    let fresh = run_in(folder.path(), &["--data", other.to_str().unwrap()]);
    assert_eq!(fresh, second);
    let out = std::fs::read_to_string(folder.path().join("out")).unwrap();
    assert_eq!(out.lines().count(), 6);
}

#[test]
fn in_memory_nothing_is_saved() {
    let folder = durable_pipeline();
    for _ in 0..2 {
        let shown = rows(run_in(folder.path(), &["--in-memory"]));
        assert_eq!(shown, "{\"rows\":2,\"sum\":3}\n");
    }
    assert!(!folder.path().join("headwater-data").exists());
    let both = run_in(folder.path(), &["--in-memory", "--data", "x"]);
    assert_eq!(both.0, 2);
}

#[test]
fn what_the_file_no_longer_names_goes_on_with_a_warning() {
    let folder = durable_pipeline();
    let data = folder.path().join("headwater-data");
    rows(run_in(folder.path(), &[]));
    let file = folder.path().join("pipeline.sql");
    let sql = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, sql.split("CREATE VIEW").next().unwrap()).unwrap();
    let (code, _, errors) = run_in(folder.path(), &[]);
    assert_eq!(code, 0, "{errors}");
    let (name, data) = (file.display(), data.display().to_string());
    assert_eq!(
        errors,
        format!(
            "warning: sink out is not in {name} and goes on running; DROP SINK out in `headwater sql --data {data}` ends it\n\
             warning: view total is not in {name} and goes on running; DROP VIEW total in `headwater sql --data {data}` ends it\n"
        )
    );
    let drop = "DROP SINK out; DROP VIEW total;";
    rows(with_input(&["sql", "--data", &data], drop));
    rows(run_in(folder.path(), &[]));
}

#[test]
fn a_dead_letter_stream_that_an_option_names_belongs_to_the_file() {
    let sql =
        "CREATE SOURCE p (n BIGINT) WITH (connector = 'process', command = 'echo x', mode = 'once',
             format = 'json', error.strategy = 'dlq', error.dlq.stream = 'dead');";
    for sql in [
        sql.to_owned(),
        sql.replace("error.dlq", "process.error.dlq"),
    ] {
        let (_folder, file) = pipeline(&sql);
        rows(output(&mut headwater(&["run", &file])));
    }
}

#[test]
fn one_program_at_a_time_opens_a_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let family = Family::start(folder.path(), "echo $$; echo $$; sleep 1000");
    let data = folder.path().join("headwater-data").display().to_string();
    let second = with_input(&["sql", "--data", &data], "SELECT 1;");
    assert_fails(second, 3, &["error: ", &data]);
    family.signal(Signal::TERM);
}

#[test]
fn a_replay_gives_the_results_of_the_run() {
    let (_folder, file) = pipeline(&format!("{TICKS}{WINDOWS}"));
    let replay = |stream| output(&mut headwater(&["replay", &file, "ticks", stream]));
    assert_fails(replay("w"), 1, &["--data"]);
    let live = rows(output(&mut headwater(&["run", &file])));
    assert_eq!(rows(replay("w")), live);
    assert_fails(replay("nothing"), 1, &["nothing"]);
}
