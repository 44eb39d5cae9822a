//! The answers of EXPLAIN GUARANTEES, as a table: the options of a pipeline, and its guarantees.

use headwater::connect::Guarantee::{self, AtLeastOnce, AtMostOnce, ExactlyOnce};
use headwater::{Db, Guarantees, Outcome};

/// A database that counts as one with a data folder, and starts no connector.
fn trial() -> Db {
    let builder = Db::builder().workers(1).start_connectors(false).trial();
    builder.in_memory().unwrap()
}

fn in_memory() -> Db {
    let builder = Db::builder().workers(1).start_connectors(false);
    builder.in_memory().unwrap()
}

/// A source `s` with these options, a stream, and a sink with those.
fn pipeline(source: &str, sink: &str) -> String {
    let with = match source {
        "" => String::new(),
        options => format!("WITH ({options})"),
    };
    format!(
        "CREATE SOURCE s (a BIGINT) {with};
         CREATE STREAM q AS SELECT a FROM s WHERE a > 0;
         CREATE SINK o FROM q WITH ({sink});"
    )
}

const FILE: &str = "connector = 'file', path = 'in', format = 'json'";
const GENERATE: &str = "connector = 'generate'";
const PROCESS: &str = "connector = 'process', command = 'cat', format = 'json'";
const WEBSOCKET: &str = "connector = 'websocket', url = 'ws://localhost:1/', format = 'json'";
const OUT: &str = "connector = 'file', path = 'out', format = 'json'";

fn asked(db: &Db, source: &str, sink: &str) -> Guarantees {
    db.execute(&pipeline(source, sink)).unwrap();
    db.guarantees("o").unwrap()
}

#[test]
fn a_chain_is_as_good_as_its_weakest_link() {
    let cases: &[(&str, &str, Guarantee, &str, &str)] = &[
        (FILE, OUT, ExactlyOnce, "", ""),
        (GENERATE, OUT, ExactlyOnce, "", ""),
        ("wal_mode = 'sync'", OUT, ExactlyOnce, "", ""),
        (
            "wal_mode = 'sync', backpressure = 'reject'",
            OUT,
            ExactlyOnce,
            "",
            "",
        ),
        (
            &format!("{FILE}, wal_mode = 'off'"),
            OUT,
            ExactlyOnce,
            "",
            "",
        ),
        (FILE, WEBSOCKET, AtLeastOnce, "o", "are sent again"),
        (
            FILE,
            WEBSOCKET,
            AtLeastOnce,
            "o",
            "reach the server's websocket library, whose pong confirms them",
        ),
        (
            FILE,
            &format!("{WEBSOCKET}, \"ack.match\" = 'a'"),
            AtLeastOnce,
            "o",
            "the server's program acknowledges rows (ack.match)",
        ),
        (PROCESS, OUT, AtMostOnce, "s", "process cannot go back"),
        (WEBSOCKET, OUT, AtMostOnce, "s", "websocket cannot go back"),
        (
            WEBSOCKET,
            WEBSOCKET,
            AtMostOnce,
            "s",
            "websocket cannot go back",
        ),
        ("", OUT, AtMostOnce, "s", "up to 100 ms or 8 MiB"),
        (
            "wal_mode = 'off'",
            OUT,
            AtMostOnce,
            "s",
            "no log (wal_mode = 'off')",
        ),
        (
            &format!("{PROCESS}, wal_mode = 'off'"),
            OUT,
            AtMostOnce,
            "s",
            "no log (wal_mode = 'off'), and process cannot go back",
        ),
        (
            &format!("{FILE}, backpressure = 'drop_oldest'"),
            OUT,
            AtMostOnce,
            "s",
            "backpressure = 'drop_oldest'",
        ),
        (
            &format!("{FILE}, backpressure = 'reject'"),
            OUT,
            AtMostOnce,
            "s",
            "backpressure = 'reject'",
        ),
        (
            &format!("{FILE}, error.strategy = 'drop'"),
            OUT,
            AtMostOnce,
            "s",
            "error.strategy = 'drop': a row that cannot be read",
        ),
        (
            FILE,
            &format!("{OUT}, error.strategy = 'drop'"),
            AtMostOnce,
            "o",
            "error.strategy = 'drop': a row that cannot be written",
        ),
    ];
    for (source, sink, overall, weakest, why) in cases {
        let found = asked(&trial(), source, sink);
        assert_eq!(found.overall(), *overall, "{source} | {sink}: {found:?}");
        let link = found.weakest();
        assert_eq!(
            link.map_or("", |it| &it.name),
            *weakest,
            "{source} | {sink}"
        );
        assert!(link.is_none_or(|it| it.why.contains(why)), "{link:?}");
        let names: Vec<&str> = found.links.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["s", "q", "o"]);
    }
}

#[test]
fn dead_letters_may_come_twice() {
    let db = trial();
    let source = format!("{FILE}, error.strategy = 'dlq', error.dlq.stream = 'letters'");
    assert_eq!(asked(&db, &source, OUT).overall(), ExactlyOnce);
    assert_eq!(db.guarantees("letters").unwrap().overall(), AtLeastOnce);
}

#[test]
fn in_memory_nothing_is_promised() {
    let found = asked(&in_memory(), FILE, OUT);
    assert!(found.links.iter().all(|it| it.guarantee == AtMostOnce));
    assert!(
        found
            .weakest()
            .unwrap()
            .why
            .starts_with("no log (a database in memory)")
    );
}

#[test]
fn a_data_folder_makes_it_so() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Db::builder().workers(1).start_connectors(false);
    let db = builder.open(folder.path()).unwrap();
    assert_eq!(asked(&db, GENERATE, OUT).overall(), ExactlyOnce);
    db.close();
    let db = Db::builder().workers(1).start_connectors(false);
    let db = db.open(folder.path()).unwrap();
    assert_eq!(db.guarantees("o").unwrap().overall(), ExactlyOnce);
}

#[test]
fn each_source_is_a_link_once() {
    let db = trial();
    db.execute(&format!(
        "CREATE SOURCE good (a BIGINT) WITH ({FILE});
         CREATE SOURCE bad (a BIGINT) WITH ({PROCESS});
         CREATE STREAM both AS SELECT a FROM good UNION ALL SELECT a FROM bad;
         CREATE VIEW more AS SELECT a FROM both UNION ALL SELECT a FROM good;"
    ))
    .unwrap();
    let found = db.guarantees("MORE").unwrap();
    let names: Vec<&str> = found.links.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(names[2..], ["both", "more"]);
    assert_eq!(found.weakest().unwrap().name, "bad");
    assert_eq!(db.guarantees("good").unwrap().overall(), ExactlyOnce);
    assert_eq!(db.guarantees("good__bad").unwrap().name, "good");
    assert!(db.guarantees("nothing").is_err());
}

/// The rows of an EXPLAIN, a line each.
fn explained(db: &Db, target: &str) -> Vec<String> {
    use headwater::arrow::array::{Array, AsArray};
    let outcomes = db.execute(&format!("EXPLAIN GUARANTEES {target}")).unwrap();
    let [Outcome::Rows { batches, .. }] = outcomes.as_slice() else {
        panic!("{outcomes:?}");
    };
    let column = |number: usize| batches[0].column(number).as_string::<i32>();
    let (link, what, guarantee) = (column(0), column(1), column(2));
    let lines = (0..link.len()).map(|row| {
        let (link, what) = (link.value(row), what.value(row));
        format!("{link} {what} {}", guarantee.value(row))
    });
    lines.collect()
}

#[test]
fn what_does_not_exist_yet_can_be_asked_about() {
    let db = trial();
    db.execute(&pipeline(FILE, OUT)).unwrap();
    assert_eq!(
        explained(&db, "SELECT a FROM q"),
        [
            "source s exactly-once",
            "stream q exactly-once",
            "stream query exactly-once",
            "weakest query exactly-once",
        ]
    );
    let why = format!("{:?}", db.execute("EXPLAIN GUARANTEES SELECT a FROM q"));
    assert!(why.contains("every link is exactly-once"), "{why}");
    let sink = format!("CREATE SINK w FROM q WITH ({WEBSOCKET})");
    assert_eq!(
        explained(&db, &sink),
        [
            "source s exactly-once",
            "stream q exactly-once",
            "sink w at-least-once",
            "weakest w at-least-once",
        ]
    );
    assert!(db.guarantees("w").is_err(), "nothing was created");
}
