//! Repair of a source: ALTER SOURCE, then REPROCESS of its bad rows.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use headwater::arrow::array::AsArray;
use headwater::arrow::datatypes::Int64Type;
use headwater::{Db, Outcome};

use super::{bad_second_line, crash, in_memory, numbers, open, shown, until, until_sources_end};

/// What REPROCESS answers.
fn reprocess(db: &Db) -> (i64, i64) {
    let outcome = db.execute("REPROCESS s__bad").unwrap().remove(0);
    let Outcome::Rows { batches, .. } = outcome else {
        panic!("{outcome:?}");
    };
    let count = |column| {
        batches[0]
            .column(column)
            .as_primitive::<Int64Type>()
            .value(0)
    };
    (count(0), count(1))
}

/// A source of records with `;` between the fields that believes they are separated by `,`.
fn mistaken(db: &Db, folder: &Path) -> PathBuf {
    let path = folder.join("in");
    std::fs::write(&path, "1;a\n2,b\nx;c\n3;d\n").unwrap();
    db.execute(&format!(
        "CREATE SOURCE s (n BIGINT NOT NULL, t VARCHAR NOT NULL)
             WITH (connector = 'file', path = '{}', format = 'csv');
         CREATE VIEW v AS SELECT n, COUNT(*) AS c FROM s GROUP BY n",
        path.display()
    ))
    .unwrap();
    until("bad rows", || {
        numbers(db, "SELECT bad FROM system.sources") == [3]
    });
    db.settle().unwrap();
    path
}

#[test]
fn bad_rows_are_decoded_again_after_the_format_was_repaired_and_only_once() {
    let input = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    let path = mistaken(&db, input.path());
    assert_eq!(numbers(&db, "SELECT n FROM v ORDER BY n"), [2]);
    assert_eq!(reprocess(&db), (0, 3), "nothing was repaired yet");

    let altered = db.execute("ALTER SOURCE S SET (delimiter = ';')").unwrap();
    assert!(matches!(&altered[0], Outcome::Altered { name, .. } if name == "s"));
    let before = crash(folder.path());
    assert_eq!(reprocess(&db), (2, 1));
    assert_eq!(numbers(&db, "SELECT n FROM v ORDER BY n"), [1, 2, 3]);
    assert_eq!(reprocess(&db), (0, 1));
    let after = crash(folder.path());

    // The connector has gone on with the new options, from where it was.
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    file.write_all(b"4;e\n").unwrap();
    until("the new line", || {
        numbers(&db, "SELECT n FROM v ORDER BY n") == [1, 2, 3, 4]
    });
    assert_eq!(
        numbers(&db, "SELECT c FROM v"),
        [1; 4],
        "nothing came twice"
    );
    db.close();

    for (left, answer) in [(before, (2, 1)), (after, (0, 1))] {
        let db = open(left.path());
        assert_eq!(reprocess(&db), answer);
        assert_eq!(reprocess(&db), (0, 1));
        until("the new line", || {
            numbers(&db, "SELECT n FROM v ORDER BY n") == [1, 2, 3, 4]
        });
        assert_eq!(
            numbers(&db, "SELECT c FROM v"),
            [1; 4],
            "nothing came twice"
        );
    }
    let db = open(folder.path());
    assert_eq!(reprocess(&db), (0, 1));
}

#[test]
fn a_row_whose_column_cannot_be_computed_stays_bad() {
    let input = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = input.path().join("in");
    std::fs::write(&path, "1\nx\n2\n").unwrap();
    let db = open(folder.path());
    db.execute(&format!(
        "CREATE SOURCE s (line VARCHAR, n BIGINT AS (CAST(line AS BIGINT)))
             WITH (connector = 'file', path = '{}', format = 'text');
         CREATE VIEW v AS SELECT n, COUNT(*) AS c FROM s GROUP BY n",
        path.display()
    ))
    .unwrap();
    until("the bad row", || {
        numbers(&db, "SELECT bad FROM system.sources") == [1]
    });
    assert_eq!(reprocess(&db), (0, 1));
    assert_eq!(reprocess(&db), (0, 1));
    assert_eq!(numbers(&db, "SELECT bad FROM system.sources"), [1]);
}

#[test]
fn bad_rows_of_a_source_that_has_ended_still_count_where_no_window_has_closed() {
    let input = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = input.path().join("in");
    std::fs::write(&path, "1970-01-01T00:00:01Z,a\n1970-01-01T00:00:02Z;b\n").unwrap();
    let db = open(folder.path());
    db.execute(&format!(
        "CREATE SOURCE s (ts TIMESTAMP NOT NULL, t VARCHAR NOT NULL, WATERMARK FOR ts AS ts)
             WITH (connector = 'file', path = '{}', format = 'csv', follow = false);
         CREATE VIEW v AS SELECT COUNT(*) AS n FROM s;
         CREATE VIEW w AS SELECT window_start, COUNT(*) AS n FROM s
             GROUP BY TUMBLE(ts, INTERVAL '1 second');
         CREATE VIEW late AS SELECT COUNT(*) AS n FROM w__late",
        path.display()
    ))
    .unwrap();
    until_sources_end(&db);
    db.execute("ALTER SOURCE s SET (delimiter = ';')").unwrap();
    assert_eq!(reprocess(&db), (1, 0));
    let counts = "SELECT v.n * 100 + (SELECT COUNT(*) FROM w) * 10 + late.n FROM v, late";
    assert_eq!(numbers(&db, counts), [211]);
    let left = crash(folder.path());
    db.close();
    for folder in [left.path(), folder.path()] {
        let db = open(folder);
        assert_eq!(reprocess(&db), (0, 0));
        assert_eq!(numbers(&db, counts), [211]);
    }
}

#[test]
fn bad_rows_can_be_looked_at_and_are_counted_after_a_restart() {
    let (folder, input) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let db = open(folder.path());
    mistaken(&db, input.path());
    let bad = "SELECT CAST(bytes AS VARCHAR), reason, arrival FROM s__bad WHERE reason <> ''";
    let before = shown(&db, bad);
    assert_eq!(before.lines().count(), 3 + 4, "{before}");
    db.close();
    let db = open(folder.path());
    assert_eq!(shown(&db, bad), before);
    assert_eq!(numbers(&db, "SELECT bad FROM system.sources"), [3]);
}

#[test]
fn later_changes_go_before_earlier_ones() {
    let input = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    mistaken(&db, input.path());
    db.execute("ALTER SOURCE s SET (file.delimiter = '|', max_frame = '1KiB')")
        .unwrap();
    db.execute("ALTER SOURCE s SET (Delimiter = ';')").unwrap();
    db.close();
    let db = open(folder.path());
    assert_eq!(reprocess(&db), (2, 1));
}

#[test]
fn a_failed_source_continues_after_its_repair() {
    let folder = tempfile::tempdir().unwrap();
    let db = in_memory(1);
    let path = folder.path().join("in");
    std::fs::write(&path, "1;a\n2;b\n").unwrap();
    db.execute(&format!(
        "CREATE SOURCE s (n BIGINT NOT NULL, t VARCHAR NOT NULL)
             WITH (connector = 'file', path = '{}', format = 'csv', error.strategy = 'fail');
         CREATE VIEW v AS SELECT n, COUNT(*) AS c FROM s GROUP BY n",
        path.display()
    ))
    .unwrap();
    until("the failure", || !db.failures().is_empty());
    db.execute("ALTER SOURCE s SET (delimiter = ';')").unwrap();
    until("rows", || {
        numbers(&db, "SELECT n FROM v ORDER BY n") == [1, 2]
    });
    assert!(db.failures().is_empty());
}

#[test]
fn what_cannot_be_altered_or_reprocessed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = in_memory(1);
    db.execute("CREATE SOURCE p (n BIGINT); CREATE VIEW q AS SELECT COUNT(*) AS n FROM p")
        .unwrap();
    bad_second_line(&db, folder.path(), "max_frame = '1KiB'");
    let cases = [
        (
            "ALTER SOURCE s SET (buffer_size = 8)",
            "changing the option \"buffer_size\" of a source",
            "buffer_size = 8",
        ),
        (
            "ALTER SOURCE s SET (connector = 'generate')",
            "changing the option \"connector\"",
            "connector = 'generate'",
        ),
        (
            "ALTER SOURCE s SET (delimiter = ';')",
            "\"delimiter\" is unknown",
            "delimiter = ';'",
        ),
        (
            "ALTER SOURCE s SET (format = 'text')",
            "",
            "ALTER SOURCE s SET (format = 'text')",
        ),
        (
            "ALTER SOURCE p SET (format = 'text')",
            "has no connector",
            "p",
        ),
        (
            "ALTER SOURCE q SET (format = 'text')",
            "\"q\" is a view, not a source",
            "q",
        ),
        (
            "ALTER SOURCE x SET (format = 'text')",
            "there is no \"x\"",
            "x",
        ),
        ("REPROCESS s", "\"s\" are not the bad rows of a source", "s"),
        ("REPROCESS x__bad", "there is no \"x__bad\"", "x__bad"),
        ("REPROCESS p__bad", "has no format", "p__bad"),
        (
            "REPROCESS s__bad",
            "has no log, so its bad rows were not kept",
            "s__bad",
        ),
    ];
    for (sql, message, place) in cases {
        let error = db.execute(sql).unwrap_err();
        assert!(error.to_string().contains(message), "{sql}: {error}");
        if let Some(found) = error.sql_errors().first().filter(|_| !message.is_empty()) {
            assert_eq!(
                &sql[found.position.clone().unwrap()],
                place,
                "{sql}: {error}"
            );
        }
    }
    db.execute("ALTER SOURCE s SET (max_frame = '2KiB')")
        .unwrap();
}
