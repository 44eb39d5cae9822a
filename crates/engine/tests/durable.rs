//! A database with a data folder continues where it stopped, also after a crash.
//!
//! A crash is a copy of the data folder, see `killed`, which is opened instead of the original.

mod killed;
mod support;

use std::path::Path;
use std::time::Duration;

use headwater::arrow::array::{AsArray, RecordBatch};
use headwater::arrow::datatypes::Int64Type;
use headwater::{Db, Error, Event, Outcome, Record, SourceConfig, Timestamp, WalMode};
use killed::crash;
use support::{shown, until_sources_end};

#[derive(Debug, Clone, PartialEq, Record)]
struct Trade {
    symbol: String,
    qty: i64,
    ts: Timestamp,
}

const SOURCE: &str =
    "CREATE SOURCE trades (symbol VARCHAR NOT NULL, qty BIGINT NOT NULL, ts TIMESTAMP NOT NULL,
    WATERMARK FOR ts AS ts - INTERVAL '0 seconds')";
const QUERIES: &str = "CREATE VIEW totals AS SELECT symbol, COUNT(*) AS n, SUM(qty) AS qty FROM trades GROUP BY symbol;
    CREATE VIEW minutes AS SELECT symbol, window_start, SUM(qty) AS qty FROM trades
        GROUP BY TUMBLE(ts, INTERVAL '1 minute'), symbol";

fn trade(number: i64) -> Trade {
    Trade {
        symbol: format!("s{}", number % 3),
        qty: number,
        ts: Timestamp::from_micros(number * 1_000_000),
    }
}

fn open(folder: &Path, workers: usize) -> Db {
    Db::builder().workers(workers).open(folder).unwrap()
}

fn push(db: &Db, numbers: std::ops::Range<i64>) {
    let source = db.source::<Trade>("trades").unwrap();
    for number in numbers {
        source.push(trade(number)).unwrap();
    }
    db.settle().unwrap();
}

fn rows(batches: &[RecordBatch]) -> Vec<(String, i64)> {
    let mut rows = Vec::new();
    for batch in batches {
        let names = batch.column(0).as_string::<i32>();
        let numbers = batch.column(1).as_primitive::<Int64Type>();
        rows.extend(
            (0..batch.num_rows()).map(|row| (names.value(row).to_owned(), numbers.value(row))),
        );
    }
    rows.sort();
    rows
}

fn totals(db: &Db) -> Vec<(String, i64)> {
    rows(&db.query("SELECT symbol, qty FROM totals").unwrap())
}

fn minutes(db: &Db) -> Vec<(String, i64)> {
    rows(
        &db.query("SELECT symbol || ' ' || CAST(window_start AS VARCHAR), qty FROM minutes")
            .unwrap(),
    )
}

/// Names and numbers.
type Rows = Vec<(String, i64)>;

/// What a database that was never stopped holds after the same rows.
fn truth(numbers: std::ops::Range<i64>) -> (Rows, Rows) {
    let db = Db::in_memory().unwrap();
    db.execute(&format!("{SOURCE}; {QUERIES}")).unwrap();
    push(&db, numbers);
    (totals(&db), minutes(&db))
}

#[test]
fn a_closed_database_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), 1);
    db.execute(&format!("{SOURCE}; {QUERIES}")).unwrap();
    push(&db, 0..100);
    db.close();

    let db = open(folder.path(), 1);
    assert_eq!((totals(&db), minutes(&db)), truth(0..100));
    push(&db, 100..1_000);
    assert_eq!((totals(&db), minutes(&db)), truth(0..1_000));
}

#[test]
fn after_a_crash_the_log_is_fed_again() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), 1);
    db.execute(&format!("{SOURCE}; {QUERIES}")).unwrap();
    let mut left = Vec::new();
    for part in 0..5 {
        push(&db, part * 50..(part + 1) * 50);
        if part == 2 {
            db.checkpoint().unwrap();
        }
        db.flush().unwrap();
        left.push(((part + 1) * 50, crash(folder.path())));
    }
    for (until, copy) in left {
        for workers in [1, 2] {
            let copy = crash(copy.path());
            let db = open(copy.path(), workers);
            assert_eq!(
                (totals(&db), minutes(&db)),
                truth(0..until),
                "{until} {workers}"
            );
            push(&db, until..500);
            assert_eq!(
                (totals(&db), minutes(&db)),
                truth(0..500),
                "{until} {workers}"
            );
        }
    }
}

#[test]
fn another_number_of_workers_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut from = 0;
    for workers in [2, 3, 1, 4] {
        let db = open(folder.path(), workers);
        if from == 0 {
            db.execute(&format!("{SOURCE}; {QUERIES}")).unwrap();
        }
        push(&db, from..from + 130);
        from += 130;
        assert_eq!((totals(&db), minutes(&db)), truth(0..from), "{workers}");
        db.close();
    }
}

#[test]
fn a_script_that_creates_what_exists_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("{SOURCE}; {QUERIES}");
    let db = open(folder.path(), 1);
    db.execute(&script).unwrap();
    push(&db, 0..10);
    db.close();

    let db = open(folder.path(), 1);
    let outcomes = db.execute(&script).unwrap();
    assert!(
        outcomes
            .iter()
            .all(|it| matches!(it, Outcome::Unchanged { .. })),
        "{outcomes:?}"
    );
    assert_eq!((totals(&db), minutes(&db)), truth(0..10));
    let other = db
        .execute("CREATE VIEW totals AS SELECT symbol FROM trades")
        .unwrap_err();
    assert!(other.to_string().contains("already exists"), "{other}");
}

/// The prefix of the engine's errors about the folder is not in the log's, too.
#[test]
fn a_folder_in_use_is_named_once() {
    let folder = tempfile::tempdir().unwrap();
    let _db = open(folder.path(), 1);
    let error = Db::open(folder.path()).unwrap_err().to_string();
    let (path, process) = (folder.path().display(), std::process::id());
    let expected = format!("the data folder: {path} is in use by process {process}");
    assert_eq!(error, expected);
}

#[test]
fn what_was_dropped_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), 1);
    db.execute(&format!("{SOURCE}; {QUERIES}")).unwrap();
    push(&db, 0..10);
    db.execute("DROP VIEW minutes").unwrap();
    db.execute("DROP SOURCE trades CASCADE").unwrap();
    assert_eq!(
        std::fs::read_dir(folder.path().join("log/trades")).map_or(0, Iterator::count),
        0
    );
    db.close();
    let left = folder.path().join("log/left");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("segment"), "what a crash has left").unwrap();

    let db = open(folder.path(), 1);
    assert!(db.source::<Trade>("trades").is_err());
    let errors = shown(&db, "SELECT name, error FROM system.errors");
    assert!(
        errors.contains("log/left") && errors.contains("no source"),
        "{errors}"
    );
    assert!(!errors.contains("log/trades"), "{errors}");
    db.execute(&format!("{SOURCE}; {QUERIES}")).unwrap();
    assert_eq!(totals(&db), [], "a new source of the same name is empty");
}

#[test]
fn a_start_that_fails_leaves_everything_as_it_was() {
    let (folder, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let db = open(folder.path(), 1);
    db.execute(&format!("{SOURCE}; {QUERIES}")).unwrap();
    push(&db, 0..10);
    db.close();
    let (log, kept) = (folder.path().join("log/trades"), away.path().join("trades"));
    std::fs::rename(&log, &kept).unwrap();
    for _ in 0..3 {
        let refused = Db::open(folder.path()).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("trades"), "{refused}");
    }
    let _ = std::fs::remove_dir_all(&log);
    std::fs::rename(&kept, &log).unwrap();
    let db = open(folder.path(), 1);
    assert_eq!((totals(&db), minutes(&db)), truth(0..10));
}

#[test]
fn a_set_without_columns_of_its_own_is_there_for_its_readers_again() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), 1);
    db.execute(&format!(
        "CREATE STREAM live; {SOURCE}; CREATE SOURCE other (id BIGINT NOT NULL);
         ATTACH SOURCE trades TO STREAM live; START STREAM live;
         CREATE VIEW v AS SELECT COUNT(*) AS n FROM live;
         CREATE STREAM names AS SELECT symbol FROM live;"
    ))
    .unwrap();
    push(&db, 0..10);
    db.close();
    let db = open(folder.path(), 2);
    push(&db, 10..12);
    let n = shown(&db, "SELECT n FROM v");
    assert!(n.contains("| 12 |"), "{n}");
}

#[test]
fn a_failed_query_can_be_started_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), 1);
    db.execute(&format!(
        "{SOURCE}; CREATE STREAM broken AS SELECT CAST(symbol AS INT) AS n FROM trades;
         CREATE VIEW reads_it AS SELECT COUNT(*) AS n FROM broken"
    ))
    .unwrap();
    push(&db, 0..3);
    assert_eq!(db.failures().len(), 2);
    db.close();
    let db = open(folder.path(), 1);
    assert_eq!(db.failures().len(), 2, "they are as they were");
    // The log still has the rows that failed.
    assert!(db.execute("START STREAM broken").is_err());
    db.execute("ALTER STREAM broken SET (on_error = 'dead_letter'); START STREAM broken")
        .unwrap();
    assert_eq!(db.failures(), []);
}

#[test]
fn one_process_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let _db = open(folder.path(), 1);
    let Err(Error::Data(refused)) = Db::open(folder.path()) else {
        panic!("a second one got in");
    };
    assert!(
        refused.contains(&folder.path().display().to_string()),
        "{refused}"
    );
}

#[test]
fn a_push_that_returned_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), 1);
    db.execute(&format!("{SOURCE} WITH (wal_mode = 'sync'); {QUERIES}"))
        .unwrap();
    let source = db.source::<Trade>("trades").unwrap();
    for number in 0..5 {
        source.push(trade(number)).unwrap();
        let copy = crash(folder.path());
        let again = open(copy.path(), 1);
        assert_eq!(totals(&again), truth(0..number + 1).0);
    }
}

/// Five hours apart, over the change of the clocks on 2024-03-31.
fn push_hours(db: &Db, numbers: std::ops::Range<i64>) {
    let source = db.source::<Trade>("trades").unwrap();
    for number in numbers {
        let ts = Timestamp::from_micros(1_711_584_000_000_000 + number * 5 * 3_600_000_000);
        source
            .push(Trade {
                ts,
                ..trade(number)
            })
            .unwrap();
    }
    db.settle().unwrap();
}

#[test]
fn days_of_a_zone_are_the_same_after_a_crash_and_replayed() {
    let days = "CREATE VIEW days AS SELECT CAST(window_start AS VARCHAR) AS day, SUM(qty) AS qty FROM trades
        GROUP BY HOP(ts, INTERVAL '1 day', INTERVAL '2 days', 'Europe/Berlin')";
    let found = |db: &Db| rows(&db.query("SELECT * FROM days").unwrap());
    let truth = Db::in_memory().unwrap();
    truth.execute(&format!("{SOURCE}; {days}")).unwrap();
    push_hours(&truth, 0..60);
    assert!(found(&truth).len() > 10);

    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), 1);
    db.execute(&format!("{SOURCE}; {days}")).unwrap();
    push_hours(&db, 0..20);
    db.checkpoint().unwrap();
    push_hours(&db, 20..35);
    db.flush().unwrap();
    for workers in [1, 2] {
        let copy = crash(folder.path());
        let db = open(copy.path(), workers);
        push_hours(&db, 35..60);
        assert_eq!(found(&db), found(&truth), "{workers} worker(s)");
        let replayed = db.replay("trades", None, None, None, "days").unwrap();
        let batches = replayed.map(|event| match event.unwrap() {
            Event::Rows(rows) => rows,
            other => panic!("{other:?}"),
        });
        let replayed = rows(&batches.collect::<Vec<_>>());
        let closed = found(&db);
        assert!(
            closed.iter().all(|day| replayed.contains(day)),
            "{replayed:?}"
        );
    }
}

#[test]
fn one_handle_may_wait_where_others_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), 1);
    db.execute(&format!("{SOURCE}; {QUERIES}")).unwrap();
    let config = SourceConfig {
        wal_mode: Some(WalMode::Sync),
        checkpoint_interval: Some(Duration::from_secs(1)),
        ..SourceConfig::default()
    };
    let source = db.source_with_config::<Trade>("trades", config).unwrap();
    source
        .push_batch(&(0..20).map(trade).collect::<Vec<_>>())
        .unwrap();
    let again = open(crash(folder.path()).path(), 1);
    assert_eq!(totals(&again), truth(0..20).0);
}

#[test]
fn without_a_data_folder_there_is_no_log() {
    let db = Db::in_memory().unwrap();
    let refused = db
        .execute(&format!("{SOURCE} WITH (wal_mode = 'sync')"))
        .unwrap_err();
    assert!(
        refused.to_string().contains("needs a data folder"),
        "{refused}"
    );
    db.execute(&format!("{SOURCE} WITH (wal_mode = 'off')"))
        .unwrap();
}

/// A process cannot repeat the output that was missed; a file can be read again.
#[test]
fn what_may_have_been_missed_while_it_was_closed_is_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in");
    std::fs::write(&file, "one\n").unwrap();
    let db = open(&folder.path().join("data"), 1);
    db.execute(&format!(
        "CREATE SOURCE f (line VARCHAR) WITH (connector = 'file', path = '{}', follow = false);
         CREATE SOURCE p (line VARCHAR) WITH (connector = 'process', mode = 'once', command = 'echo one')",
        file.display()
    ))
    .unwrap();
    let gaps = |db: &Db| {
        let rows = db.query(
            "SELECT source || ': ' || reason || ' ' || (\"from\" < \"to\"), 1 FROM system.gaps",
        );
        rows_of_gaps(&rows.unwrap())
    };
    until_sources_end(&db);
    assert_eq!(gaps(&db), [""; 0]);
    db.close();
    let db = open(&folder.path().join("data"), 1);
    db.settle().unwrap();
    assert_eq!(gaps(&db), ["p: the database was not open true"]);
    db.close();
    // Each time is a gap of its own; a crash forgets none, whether a checkpoint has it or only the log.
    let mut crashed = open(&folder.path().join("data"), 1);
    for number in 2..12 {
        crashed.settle().unwrap();
        let all = gaps(&crashed);
        assert_eq!(all, vec!["p: the database was not open true"; number]);
        if number % 3 == 0 {
            crashed.checkpoint().unwrap();
        }
        crashed.flush().unwrap();
        let copy = crash(&folder.path().join("data"));
        drop(crashed);
        std::fs::remove_dir_all(folder.path().join("data")).unwrap();
        std::fs::rename(copy.path(), folder.path().join("data")).unwrap();
        crashed = open(&folder.path().join("data"), 1);
    }
    let shown = |db: &Db| {
        let rows = db.query("SELECT CAST(gaps AS VARCHAR), 1 FROM system.sources WHERE name = 'p'");
        rows_of_gaps(&rows.unwrap())
    };
    crashed.settle().unwrap();
    assert_eq!(shown(&crashed), ["12"]);
    crashed.execute("DROP SOURCE p").unwrap();
    assert_eq!(gaps(&crashed), [""; 0]);
}

fn rows_of_gaps(batches: &[RecordBatch]) -> Vec<String> {
    let columns = batches
        .iter()
        .map(|batch| batch.column(0).as_string::<i32>());
    let texts = columns.flat_map(|column| column.iter().flatten().map(str::to_owned));
    texts.collect()
}

/// The statements that recovery executes may make a step. What it takes from a source then, here that the
/// source is no longer idle, has no number that follows those in its log.
#[test]
fn a_source_takes_nothing_before_its_log_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), 1);
    db.execute(&format!(
        "{SOURCE} WITH (idle_timeout = '1 second'); {QUERIES};
         CREATE STREAM paused AS SELECT symbol FROM trades; PAUSE STREAM paused"
    ))
    .unwrap();
    for number in 0..100 {
        push(&db, number..number + 1);
    }
    let idle = db.source::<Trade>("trades").unwrap();
    idle.push(trade(100)).unwrap();
    std::thread::sleep(Duration::from_millis(1_500)); // Longer than the idle timeout.
    db.checkpoint().unwrap();
    let copy = crash(folder.path());
    drop((idle, db));
    let db = open(copy.path(), 1);
    push(&db, 101..102);
    db.flush().unwrap();
}
