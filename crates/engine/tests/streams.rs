//! START, PAUSE, RESUME and STOP of streams, and the supervisor of their sources, which fail, panic and
//! block when the test orders it.

mod scripted;
mod support;

use headwater::{Db, Error, Event, LifecycleEvent, Record, StreamStatus, Subscription, Watched};
use scripted::{Script, builder};
use support::{integers, next_event, next_rows, until};

fn db() -> Db {
    builder().workers(1).in_memory().unwrap()
}

/// `CREATE SOURCE name` that obeys the script of the same name.
fn source(db: &Db, name: &str) -> Script {
    let script = Script::new(name);
    db.execute(&create(name)).unwrap();
    script
}

fn create(name: &str) -> String {
    format!("CREATE SOURCE {name} WITH (connector = 'scripted', script = '{name}');")
}

fn sqlstate(result: Result<impl std::fmt::Debug, Error>) -> &'static str {
    let error = result.expect_err("an error");
    error.sql_errors().first().expect("an SQL error").sqlstate
}

/// The next `count` numbers of a stream of one column.
fn numbers(rows: &mut Subscription, count: usize) -> Vec<i64> {
    integers(&next_rows(rows, count), 0)
}

/// The state of a source in SHOW SOURCES.
fn state(db: &Db, source: &str) -> String {
    use headwater::arrow::array::AsArray;
    let answer = db.execute("SHOW SOURCES").unwrap().remove(0);
    let headwater::Outcome::Rows { batches, .. } = answer else {
        panic!("SHOW gives rows");
    };
    let text = |column: &str| {
        batches[0]
            .column_by_name(column)
            .unwrap()
            .as_string::<i32>()
    };
    let row = text("name").iter().position(|name| name == Some(source));
    text("state").value(row.expect("the source")).to_owned()
}

#[test]
fn starting_a_stream_starts_its_sources() {
    let db = db();
    let streams = db.streams();
    streams.create("live").unwrap();
    assert_eq!(streams.status("live"), StreamStatus::Pending);
    let _a = source(&db, "start_a");
    let _b = source(&db, "start_b");
    streams.attach("start_a", "live").unwrap();
    streams.attach("start_b", "live").unwrap();
    assert_eq!(state(&db, "start_a"), "paused", "nothing needs it yet");
    assert_eq!(streams.stats().total_workers, 0);

    let mut started = streams.start("live").unwrap();
    started.sort();
    assert_eq!(started, ["start_a", "start_b"]);
    assert_eq!(streams.status("live"), StreamStatus::Active);
    assert_eq!(streams.list_active(), ["live"]);
    let stats = streams.stats();
    assert_eq!((stats.active_streams, stats.total_workers), (1, 2));
    assert_eq!(
        streams.start("live").unwrap(),
        Vec::<String>::new(),
        "as it is"
    );
    assert_eq!(streams.stats().total_workers, 2, "none is started twice");
}

#[test]
fn a_stream_without_sources_can_be_started() {
    let db = db();
    db.streams().create("empty").unwrap();
    assert_eq!(db.streams().start("empty").unwrap(), Vec::<String>::new());
    assert_eq!(db.streams().status("empty"), StreamStatus::Active);
}

#[test]
fn a_name_that_is_not_there_is_unknown() {
    let db = db();
    let streams = db.streams();
    assert_eq!(streams.status("nothing"), StreamStatus::Unknown);
    assert_eq!(sqlstate(streams.start("nothing")), "42P01");
    assert_eq!(sqlstate(streams.pause("nothing")), "42P01");
    assert_eq!(sqlstate(streams.stop("nothing")), "42P01");
    let _a = source(&db, "unknown_a");
    assert_eq!(sqlstate(streams.start("unknown_a")), "42809");
}

#[test]
fn a_paused_stream_keeps_its_cursors_and_a_stopped_one_does_not() {
    let db = db();
    let a = source(&db, "pause_a");
    let streams = db.streams();
    streams.create("live").unwrap();
    streams.attach("pause_a", "live").unwrap();
    let mut rows = db.subscribe_batches("stream:live").unwrap();
    streams.start("live").unwrap();
    a.row(1);
    assert_eq!(numbers(&mut rows, 1), [1]);
    db.settle().unwrap();

    streams.pause("live").unwrap();
    assert_eq!(streams.status("live"), StreamStatus::Paused);
    assert_eq!(state(&db, "pause_a"), "paused");
    assert_eq!(streams.stats().paused_streams, 1);
    streams.pause("live").unwrap();
    assert!(!db.sources_ended(), "it will be started again");

    a.row(2);
    assert_eq!(streams.resume("live").unwrap(), ["pause_a"]);
    assert_eq!(numbers(&mut rows, 1), [2], "nothing is missed");
    assert_eq!(a.begun()[2..], [Some(1)], "from the cursor");
    assert_eq!(streams.resume("live").unwrap(), Vec::<String>::new());

    streams.stop("live").unwrap();
    assert_eq!(streams.status("live"), StreamStatus::Stopped);
    assert_eq!(state(&db, "pause_a"), "stopped");
    assert_eq!(sqlstate(streams.resume("live")), "55000");
    assert_eq!(sqlstate(streams.pause("live")), "55000");
    streams.stop("live").unwrap();
    assert_eq!(streams.start("live").unwrap(), ["pause_a"]);
    a.row(3);
    assert_eq!(numbers(&mut rows, 1), [3]);
    assert_eq!(a.begun().last(), Some(&None), "the cursor was forgotten");
}

#[test]
fn a_source_shared_with_an_active_stream_keeps_running() {
    let db = db();
    let a = source(&db, "shared_a");
    let streams = db.streams();
    for stream in ["one", "two"] {
        streams.create(stream).unwrap();
        streams.attach("shared_a", stream).unwrap();
        streams.start(stream).unwrap();
    }
    let mut one = db.subscribe_batches("one").unwrap();
    let mut two = db.subscribe_batches("two").unwrap();
    a.row(1);
    assert_eq!(
        (numbers(&mut one, 1), numbers(&mut two, 1)),
        (vec![1], vec![1])
    );
    streams.pause("one").unwrap();
    assert_eq!(state(&db, "shared_a"), "running");
    a.row(2);
    assert_eq!(numbers(&mut two, 1), [2]);
    db.settle().unwrap();
    assert_eq!(one.try_next().unwrap(), None, "it is paused");

    streams.resume("one").unwrap();
    a.row(3);
    let reason = "stream \"one\" was paused".to_owned();
    let gap = next_event(&mut one);
    assert_eq!(gap, Event::Gap { rows: 1, reason });
    assert_eq!(numbers(&mut one, 1), [3]);
    assert_eq!(numbers(&mut two, 1), [3]);

    streams.pause("one").unwrap();
    streams.stop("two").unwrap();
    assert_eq!(
        state(&db, "shared_a"),
        "paused",
        "no active stream reads it"
    );
    streams.resume("one").unwrap();
    a.row(4);
    assert_eq!(
        numbers(&mut one, 1),
        [4],
        "paused with the source, so nothing was missed"
    );
}

#[test]
fn what_a_pause_missed_is_a_gap() {
    let db = db();
    let a = source(&db, "gap_a");
    db.execute(
        "CREATE VIEW a AS SELECT n FROM gap_a;
         CREATE VIEW b AS SELECT n FROM gap_a;
         PAUSE STREAM a;",
    )
    .unwrap();
    let mut rows = db.subscribe_batches("b").unwrap();
    a.row(1);
    assert_eq!(numbers(&mut rows, 1), [1]);
    let gaps = "SELECT COUNT(*) FROM system.gaps WHERE source = 'gap_a' AND \"from\" < \"to\"
        AND reason = 'stream \"a\" was paused: 1 rows'";
    assert_eq!(count(&db.query(gaps).unwrap()), 0);
    db.execute("RESUME STREAM a").unwrap();
    assert_eq!(count(&db.query(gaps).unwrap()), 1);
    assert_eq!(count(&db.query("SELECT COUNT(*) FROM a").unwrap()), 0);
    assert_eq!(count(&db.query("SELECT COUNT(*) FROM b").unwrap()), 1);
    db.execute("PAUSE STREAM a; RESUME STREAM a").unwrap();
    let all = "SELECT COUNT(*) FROM system.gaps";
    assert_eq!(
        count(&db.query(all).unwrap()),
        1,
        "nothing was missed the second time"
    );
}

#[test]
fn sources_come_and_go_while_the_stream_is_paused() {
    let db = db();
    let [a, b] = ["rest_a", "rest_b"].map(|name| source(&db, name));
    let mut all_a = db.subscribe_batches("rest_a").unwrap();
    let streams = db.streams();
    db.execute("CREATE VIEW other AS SELECT n FROM rest_a")
        .unwrap();
    streams.create("live").unwrap();
    streams.attach("rest_a", "live").unwrap();
    streams.start("live").unwrap();
    let mut rows = db.subscribe_batches("live").unwrap();
    streams.pause("live").unwrap();
    a.row(1);
    assert_eq!(numbers(&mut all_a, 1), [1]);
    streams.attach("rest_b", "live").unwrap();
    assert_eq!(state(&db, "rest_b"), "paused");
    a.row(2);
    assert_eq!(numbers(&mut all_a, 1), [2]);
    db.settle().unwrap();
    assert_eq!(rows.try_next().unwrap(), None);
    b.row(3);
    assert_eq!(streams.resume("live").unwrap(), ["rest_b"]);
    let reason = "stream \"live\" was paused".to_owned();
    let gap = next_event(&mut rows);
    assert_eq!(gap, Event::Gap { rows: 2, reason });
    assert_eq!(numbers(&mut rows, 1), [3]);
}

#[test]
fn one_worker_that_fails_panics_or_blocks_does_not_affect_the_others() {
    let db = db();
    let [fails, panics, blocks, works] =
        ["iso_fails", "iso_panics", "iso_blocks", "iso_works"].map(|name| source(&db, name));
    let streams = db.streams();
    streams.create("live").unwrap();
    for name in ["iso_fails", "iso_panics", "iso_blocks", "iso_works"] {
        streams.attach(name, "live").unwrap();
    }
    let mut events = db.events();
    streams.start("live").unwrap();
    assert_eq!(streams.stats().total_workers, 4);
    let mut rows = db.subscribe_batches("live").unwrap();
    fails.fail();
    panics.panic();
    blocks.block();
    let mut dead = Vec::new();
    while dead.len() < 2 {
        if let Some(Watched::Event(LifecycleEvent::WorkerDied {
            source,
            reason,
            given_up,
        })) = events.next()
        {
            assert!(!given_up, "{source}: {reason}");
            dead.push(source);
        }
    }
    dead.sort();
    assert_eq!(dead, ["iso_fails", "iso_panics"]);
    works.row(1);
    assert_eq!(numbers(&mut rows, 1), [1]);
    assert_eq!(streams.status("live"), StreamStatus::Active);
    assert_eq!(
        streams.stats().total_workers,
        4,
        "all are still looked after"
    );

    fails.row(2);
    panics.row(3);
    let mut restarted = numbers(&mut rows, 2);
    restarted.sort_unstable();
    assert_eq!(restarted, [2, 3], "both were started again");
    assert_eq!(streams.stats().restarts, 2);

    streams.pause("live").unwrap();
    assert_eq!(
        streams.stats().total_workers,
        0,
        "the one that blocks was dropped"
    );
    streams.resume("live").unwrap();
    blocks.row(4);
    assert_eq!(numbers(&mut rows, 1), [4]);
}

#[test]
fn a_source_that_was_given_up_is_left_alone_until_its_stream_is_started_again() {
    let db = db();
    let a = source(&db, "given_up_a");
    let streams = db.streams();
    streams.create("live").unwrap();
    streams.attach("given_up_a", "live").unwrap();
    streams.start("live").unwrap();
    let mut rows = db.subscribe_batches("live").unwrap();
    a.give_up();
    until("given up", || streams.stats().failed_workers == 1);
    assert_eq!(db.failures().len(), 1);
    a.row(1);
    assert_eq!(streams.start("live").unwrap(), ["given_up_a"]);
    assert_eq!(numbers(&mut rows, 1), [1]);
    assert_eq!(streams.stats().failed_workers, 0);
}

#[test]
fn a_source_that_ends_is_not_started_again() {
    let db = db();
    let a = source(&db, "ends_a");
    let streams = db.streams();
    streams.create("live").unwrap();
    streams.attach("ends_a", "live").unwrap();
    streams.start("live").unwrap();
    a.row(1);
    a.finish();
    until("ended", || db.sources_ended());
    streams.pause("live").unwrap();
    assert_eq!(streams.resume("live").unwrap(), Vec::<String>::new());
    assert_eq!(state(&db, "ends_a"), "stopped");
}

#[test]
fn sources_come_and_go_while_the_stream_runs() {
    for workers in [1, 2] {
        let db = builder().workers(workers).in_memory().unwrap();
        let names = [format!("go_a{workers}"), format!("go_b{workers}")];
        let [a, b] = [source(&db, &names[0]), source(&db, &names[1])];
        let streams = db.streams();
        streams.create("live").unwrap();
        streams.attach(&names[0], "live").unwrap();
        streams.start("live").unwrap();
        db.execute("CREATE VIEW seen AS SELECT n FROM live")
            .unwrap();
        let mut rows = db.subscribe_batches("live").unwrap();
        a.row(1);
        assert_eq!(numbers(&mut rows, 1), [1]);
        streams.attach(&names[1], "live").unwrap();
        streams.attach(&names[1], "live").unwrap();
        b.row(2);
        assert_eq!(numbers(&mut rows, 1), [2]);
        streams.detach(&names[0], "live").unwrap();
        assert_eq!(sqlstate(streams.detach(&names[0], "live")), "42704");
        a.row(3);
        b.row(4);
        assert_eq!(numbers(&mut rows, 1), [4]);
        let held = db
            .query("SELECT COUNT(*) FROM seen WHERE n IN (1, 2, 4)")
            .unwrap();
        assert_eq!(count(&held), 3);
    }
}

fn count(answer: &[headwater::arrow::array::RecordBatch]) -> i64 {
    integers(answer, 0)[0]
}

#[derive(Record, Debug, Clone, PartialEq)]
struct Sale {
    item: String,
    ts: headwater::Timestamp,
}

fn sale(item: &str, seconds: i64) -> Sale {
    Sale {
        item: item.to_owned(),
        ts: headwater::Timestamp::from_micros(seconds * 1_000_000),
    }
}

const SALES: &str = "
    CREATE SOURCE sales (item VARCHAR NOT NULL, ts TIMESTAMP NOT NULL, WATERMARK FOR ts AS ts);
    CREATE VIEW per_minute AS SELECT window_start, COUNT(*) AS n FROM sales
        GROUP BY TUMBLE(ts, INTERVAL '1 minute');
    CREATE VIEW per_item AS SELECT item, COUNT(*) AS n FROM sales GROUP BY item;
    CREATE VIEW often AS SELECT item FROM per_item WHERE n > 1;";

#[test]
fn a_pause_keeps_windows_and_a_stop_drops_them() {
    for workers in [1, 2] {
        let db = builder().workers(workers).in_memory().unwrap();
        db.execute(SALES).unwrap();
        let sales = db.source::<Sale>("sales").unwrap();
        sales.push(sale("a", 1)).unwrap();
        db.execute("PAUSE STREAM per_minute").unwrap();
        sales.push(sale("a", 2)).unwrap();
        db.execute("RESUME STREAM per_minute").unwrap();
        sales.push(sale("a", 3)).unwrap();
        sales.push(sale("a", 61)).unwrap();
        let n = "SELECT n FROM per_minute";
        assert_eq!(
            count(&db.query(n).unwrap()),
            2,
            "the one before and the one after"
        );

        sales.push(sale("a", 62)).unwrap();
        db.execute("STOP STREAM per_minute").unwrap();
        assert_eq!(
            count(&db.query("SELECT COUNT(*) FROM per_minute").unwrap()),
            0
        );
        db.execute("START STREAM per_minute").unwrap();
        sales.push(sale("a", 63)).unwrap();
        sales.push(sale("a", 121)).unwrap();
        assert_eq!(count(&db.query(n).unwrap()), 1, "started again");
    }
}

#[test]
fn a_paused_reader_of_a_changing_view_misses_nothing() {
    for workers in [1, 2] {
        let db = builder().workers(workers).in_memory().unwrap();
        db.execute(SALES).unwrap();
        let sales = db.source::<Sale>("sales").unwrap();
        for item in ["a", "a", "b"] {
            sales.push(sale(item, 1)).unwrap();
        }
        let often = "SELECT COUNT(*) FROM often WHERE item IN ('a', 'b')";
        assert_eq!(count(&db.query(often).unwrap()), 1);
        db.execute("PAUSE STREAM often").unwrap();
        for item in ["b", "c"] {
            sales.push(sale(item, 2)).unwrap();
        }
        assert_eq!(count(&db.query(often).unwrap()), 1, "as it was");
        db.execute("RESUME STREAM often").unwrap();
        assert_eq!(count(&db.query(often).unwrap()), 2);
        assert_eq!(count(&db.query("SELECT COUNT(*) FROM often").unwrap()), 2);

        db.execute("STOP STREAM per_item").unwrap();
        assert_eq!(
            count(&db.query("SELECT COUNT(*) FROM often").unwrap()),
            0,
            "it follows"
        );
        db.execute("START STREAM per_item").unwrap();
        for item in ["c", "c", "d"] {
            sales.push(sale(item, 3)).unwrap();
        }
        assert_eq!(count(&db.query("SELECT COUNT(*) FROM often").unwrap()), 1);
    }
}

#[test]
fn what_a_stream_takes_is_said_by_its_columns() {
    let db = db();
    db.execute(
        "CREATE SOURCE sales (item VARCHAR NOT NULL, qty INT, ts TIMESTAMP NOT NULL);
         CREATE SOURCE timed (item VARCHAR NOT NULL, ts TIMESTAMP NOT NULL, WATERMARK FOR ts AS ts);
         CREATE STREAM all_sales (item VARCHAR NOT NULL, ts TIMESTAMP, WATERMARK FOR ts AS ts)
             WITH (description = 'what is sold anywhere');
         ATTACH SOURCE timed TO STREAM all_sales;
         CREATE VIEW per_minute AS SELECT window_start, COUNT(*) AS n FROM all_sales
             GROUP BY TUMBLE(ts, INTERVAL '1 minute');
         START STREAM all_sales;",
    )
    .unwrap();
    let script = "ATTACH SOURCE sales TO STREAM all_sales";
    let error = db.execute(script).unwrap_err();
    let error = &error.sql_errors()[0];
    assert_eq!(error.detail.as_deref(), Some("its \"ts\" has no WATERMARK"));
    assert_eq!(error.position, Some(14..19), "it points at the source");
    let timed = db.source::<Sale>("timed").unwrap();
    timed.push(sale("a", 1)).unwrap();
    timed.push(sale("a", 61)).unwrap();
    assert_eq!(count(&db.query("SELECT n FROM per_minute").unwrap()), 1);

    db.execute("CREATE STREAM strict (item INT, qty BIGINT, price DOUBLE)")
        .unwrap();
    let error = db
        .execute("ATTACH SOURCE sales TO STREAM strict")
        .unwrap_err();
    let detail = error.sql_errors()[0].detail.clone().unwrap();
    assert_eq!(
        detail,
        "its \"item\" is Utf8, not Int32; its \"qty\" is Int32, not Int64; it has no column \"price\""
    );
    assert_eq!(
        sqlstate(db.execute("ATTACH SOURCE sales TO STREAM per_minute")),
        "42809"
    );
    assert_eq!(
        sqlstate(db.execute("ATTACH SOURCE nothing TO STREAM strict")),
        "42P01"
    );
    assert_eq!(
        sqlstate(db.execute("CREATE STREAM x WITH (descripton = 'x')")),
        "42704"
    );
    let error = db.subscribe_batches("x").expect_err("there is no x");
    assert_eq!(
        error.to_string(),
        "there is no source, stream or view \"x\""
    );
    db.streams().create("x").unwrap();
    let error = db.subscribe_batches("x").expect_err("x has no columns");
    assert!(error.to_string().contains("no columns yet"), "{error}");
}

#[test]
fn a_source_attached_is_not_dropped_before_the_stream() {
    let db = db();
    let _a = source(&db, "drop_a");
    db.streams().create("live").unwrap();
    db.streams().attach("drop_a", "live").unwrap();
    assert_eq!(sqlstate(db.execute("DROP SOURCE drop_a")), "2BP01");
    assert_eq!(state(&db, "drop_a"), "paused");
    db.execute("DROP STREAM live").unwrap();
    until("running", || state(&db, "drop_a") == "running");
    db.execute("DROP SOURCE drop_a").unwrap();
}

#[test]
fn a_watcher_gets_every_change_of_a_stream() {
    let db = db();
    let _a = source(&db, "watch_a");
    let streams = db.streams();
    let mut live = streams.watch("live");
    for stream in ["live", "other"] {
        streams.create(stream).unwrap();
        streams.attach("watch_a", stream).unwrap();
        streams.start(stream).unwrap();
    }
    streams.pause("live").unwrap();
    streams.resume("live").unwrap();
    streams.stop("live").unwrap();
    let stream = || "live".to_owned();
    let source = || "watch_a".to_owned();
    let seen: Vec<_> = std::iter::from_fn(|| live.try_next()).collect();
    let events = [
        LifecycleEvent::SourceAttached {
            source: source(),
            stream: stream(),
        },
        LifecycleEvent::StreamStarted {
            stream: stream(),
            sources: 1,
        },
        LifecycleEvent::StreamPaused { stream: stream() },
        LifecycleEvent::StreamStarted {
            stream: stream(),
            sources: 1,
        },
        LifecycleEvent::StreamStopped { stream: stream() },
    ];
    assert_eq!(seen, events.map(Watched::Event));
    db.close();
    assert_eq!(live.next(), None);
    assert_eq!(db.events().next(), None);
}

#[test]
fn the_status_of_streams_can_be_saved_and_restored() {
    let script = format!(
        "{}{}CREATE STREAM live; CREATE STREAM idle; CREATE VIEW n AS SELECT COUNT(*) AS n FROM save_b;
         CREATE VIEW m AS SELECT n FROM save_b",
        create("save_a"),
        create("save_b")
    );
    let open = || {
        let (a, b) = (Script::new("save_a"), Script::new("save_b"));
        let db = builder()
            .workers(1)
            .start_connectors(false)
            .in_memory()
            .unwrap();
        db.execute(&script).unwrap();
        (db, a, b)
    };
    let (db, _a, _b) = open();
    db.streams().attach("save_a", "live").unwrap();
    db.execute("START STREAM live; PAUSE STREAM live; STOP STREAM n; PAUSE STREAM m")
        .unwrap();
    let state = serde_json::to_string(&db.lifecycle_state()).unwrap();
    assert_eq!(db.streams().stats().total_workers, 0, "they start by hand");

    let (db, a, _b) = open();
    db.restore_lifecycle(&serde_json::from_str(&state).unwrap())
        .unwrap();
    assert_eq!(serde_json::to_string(&db.lifecycle_state()).unwrap(), state);
    let status = |name| db.streams().status(name);
    assert_eq!(status("live"), StreamStatus::Paused);
    assert_eq!(status("idle"), StreamStatus::Pending);
    assert_eq!(status("n"), StreamStatus::Stopped);
    assert_eq!(status("m"), StreamStatus::Paused);
    db.start_connectors().unwrap();
    assert_eq!(
        db.streams().stats().total_workers,
        0,
        "all that reads them rests"
    );
    let mut rows = db.subscribe_batches("live").unwrap();
    assert_eq!(db.streams().resume("live").unwrap(), ["save_a"]);
    a.row(1);
    assert_eq!(numbers(&mut rows, 1), [1]);
}
