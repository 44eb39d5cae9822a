//! The metadata columns, which every query over a source can name: `_source`, `_offset`, `_arrival` and
//! `_origin`. They are the same live, from the log and after a restart.

mod killed;
mod support;
mod ticks;

use std::path::Path;

use headwater::Db;
use killed::crash;
use support::{shown, until_sources_end};
use ticks::{SOURCE, push};

fn in_memory(workers: usize) -> Db {
    let db = Db::builder().workers(workers).in_memory().unwrap();
    db.execute(SOURCE).unwrap();
    db
}

fn open(folder: &Path, workers: usize) -> Db {
    Db::builder().workers(workers).open(folder).unwrap()
}

/// The header and the rows of an answer, sorted, without the frame.
fn answer(db: &Db, sql: &str) -> Vec<String> {
    let table = shown(db, sql);
    let lines = table.lines().filter(|line| line.starts_with('|'));
    let cells = |line: &str| -> String {
        let cells = line.trim_matches('|').split('|').map(str::trim);
        cells.collect::<Vec<_>>().join(" ").trim_end().to_owned()
    };
    let mut lines: Vec<String> = lines.map(cells).collect();
    lines[1..].sort();
    lines
}

#[test]
fn a_query_that_names_them_has_them_and_no_other() {
    for workers in [1, 2] {
        let db = in_memory(workers);
        db.execute(
            "CREATE VIEW named AS SELECT n, _offset, _source, _origin FROM ticks WHERE _OFFSET > 2;
             CREATE VIEW everything AS SELECT * FROM ticks;
             CREATE VIEW more AS SELECT *, t._offset + 1 AS place FROM ticks AS t WHERE t._offset < 2;
             CREATE VIEW inner_ones AS SELECT * FROM (SELECT n, _offset FROM ticks) WHERE n = 4;
             CREATE VIEW both AS SELECT * FROM ticks WHERE n = 1 UNION ALL SELECT n, ts FROM ticks WHERE _offset = 2;
             CREATE VIEW windows AS SELECT MIN(_offset) AS a, MAX(_offset) AS b, MIN(_arrival) > TIMESTAMP '2020-01-01' AS late
                 FROM ticks GROUP BY TUMBLE(ts, INTERVAL '3 seconds');
             CREATE VIEW grouped AS SELECT _source, COUNT(*) AS c FROM ticks GROUP BY _source",
        )
        .unwrap();
        push(&db, 0..7);
        let named = [
            "n _offset _source _origin",
            "3 3 ticks",
            "4 4 ticks",
            "5 5 ticks",
            "6 6 ticks",
        ];
        assert_eq!(answer(&db, "SELECT * FROM named"), named);
        assert_eq!(answer(&db, "SELECT * FROM everything")[0], "n ts");
        let more = answer(&db, "SELECT * FROM more");
        assert_eq!(more[0], "n ts place");
        assert!(
            more[2].starts_with("1 ") && more[2].ends_with(" 2"),
            "{more:?}"
        );
        assert_eq!(
            answer(&db, "SELECT * FROM inner_ones"),
            ["n _offset", "4 4"]
        );
        assert_eq!(answer(&db, "SELECT n FROM both"), ["n", "1", "2"]);
        assert_eq!(
            answer(&db, "SELECT * FROM windows"),
            ["a b late", "0 2 true", "3 5 true"]
        );
        assert_eq!(
            answer(&db, "SELECT * FROM grouped"),
            ["_source c", "ticks 7"]
        );
    }
}

#[test]
fn a_declared_column_hides_a_metadata_column_and_only_sources_have_them() {
    let db = in_memory(1);
    db.execute("CREATE SOURCE own (_offset VARCHAR NOT NULL); CREATE VIEW v AS SELECT _offset, _source FROM own")
        .unwrap();
    let own = db.source_untyped("own").unwrap();
    let text = headwater::arrow::array::StringArray::from(vec!["mine"]);
    let rows = headwater::arrow::array::RecordBatch::try_new(
        own.schema().clone(),
        vec![std::sync::Arc::new(text)],
    );
    own.push_arrow(rows.unwrap()).unwrap();
    db.settle().unwrap();
    assert_eq!(
        answer(&db, "SELECT * FROM v"),
        ["_offset _source", "mine own"]
    );
    for refused in [
        "CREATE VIEW w AS SELECT _arrival FROM v",
        "CREATE VIEW w AS SELECT _origins FROM ticks",
        "CREATE VIEW w AS SELECT \"_OFFSET\" FROM ticks",
        "CREATE VIEW w AS SELECT bytes, _offset FROM ticks__bad",
    ] {
        let error = db.execute(refused).unwrap_err();
        assert_eq!(error.sql_errors()[0].sqlstate, "42703", "{error}");
    }
}

const ALL: &str = "SELECT n, _source, _offset, _arrival, _origin FROM ticks";

#[test]
fn the_log_has_the_same_metadata_as_the_live_rows() {
    for workers in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path(), workers);
        db.execute(&format!("{SOURCE}; CREATE VIEW live AS {ALL}"))
            .unwrap();
        push(&db, 0..20);
        let live = answer(&db, "SELECT * FROM live");
        assert_eq!(live.len(), 21);
        assert_eq!(answer(&db, ALL), live, "out of the log");
        db.execute(&format!(
            "CREATE VIEW later AS {ALL};
             CREATE VIEW part WITH (start = '1970-01-01 00:00:10') AS {ALL}"
        ))
        .unwrap();
        assert_eq!(answer(&db, "SELECT * FROM later"), live);
        let part = answer(&db, "SELECT * FROM live WHERE n >= 10");
        assert_eq!(answer(&db, "SELECT * FROM part"), part);

        db.execute("PAUSE STREAM later").unwrap();
        push(&db, 20..30);
        db.execute("RESUME STREAM later").unwrap();
        let live = answer(&db, "SELECT * FROM live");
        assert_eq!(answer(&db, "SELECT * FROM later"), live);

        let left = crash(folder.path());
        db.close();
        for folder in [left.path(), folder.path()] {
            let db = open(folder, 3 - workers);
            assert_eq!(answer(&db, "SELECT * FROM live"), live);
            push(&db, 30..31);
            assert_eq!(answer(&db, ALL), answer(&db, "SELECT * FROM live"));
            let last = answer(&db, "SELECT _offset FROM live WHERE n = 30");
            assert_eq!(last, ["_offset", "30"]);
        }
    }
}

#[test]
fn a_connector_sets_the_origin_of_its_rows() {
    let (folder, input) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (name, text) in [("a.log", "one\ntwo\n"), ("b.log", "three\n")] {
        std::fs::write(input.path().join(name), text).unwrap();
    }
    let db = open(folder.path(), 1);
    db.execute(&format!(
        "CREATE SOURCE lines WITH (connector = 'file', path = '{}/*.log', format = 'text', follow = false);
         CREATE VIEW live AS SELECT line, _origin, _arrival FROM lines",
        input.path().display()
    ))
    .unwrap();
    until_sources_end(&db);
    let live = answer(&db, "SELECT * FROM live");
    assert_eq!(live.len(), 4);
    assert!(
        live[1].starts_with("one") && live[1].contains("a.log"),
        "{live:?}"
    );
    assert!(
        live[2].starts_with("three") && live[2].contains("b.log"),
        "{live:?}"
    );
    let logged = "SELECT line, _origin, _arrival FROM lines";
    assert_eq!(answer(&db, logged), live);
    db.close();
    let db = open(folder.path(), 1);
    assert_eq!(answer(&db, "SELECT * FROM live"), live);
    assert_eq!(answer(&db, logged), live);
}
