//! The fingerprints of many queries: by them a later build finds the state that an earlier one has saved.
//!
//! `fingerprints.txt` has them. If one changes, views are refused after an upgrade: keep it, or read the old
//! one too. The test writes the file when it fails.

use std::collections::BTreeSet;
use std::path::Path;

use crate::dataflow::{Fingerprint, Plan};
use crate::db::Db;
use crate::db::catalog::StreamDefinition;

const SOURCES: &str = "
    CREATE SOURCE s (k VARCHAR, n BIGINT, x DOUBLE, d DECIMAL(9, 2), b BOOLEAN, ts TIMESTAMP(3),
        WATERMARK FOR ts AS ts - INTERVAL '1 second');
    CREATE SOURCE t (k VARCHAR, n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts);
    CREATE VIEW v AS SELECT k, COUNT(*) AS c FROM s GROUP BY k;";

/// Each has another fingerprint.
const QUERIES: [&str; 30] = [
    "SELECT k, COUNT(*) AS c FROM s GROUP BY k",
    "SELECT k, COUNT(n) AS c FROM s GROUP BY k",
    "SELECT k, COUNT(*) AS c FROM t GROUP BY k",
    "SELECT k, COUNT(*) AS c FROM s WHERE n > 3 GROUP BY k",
    "SELECT k, COUNT(*) AS c FROM s WHERE n > 4 GROUP BY k",
    "SELECT k, COUNT(*) AS c FROM s WHERE n IN (1, 2, 3, 4, 5) GROUP BY k",
    "SELECT k, COUNT(*) AS c FROM s WHERE k LIKE 'a%' GROUP BY k",
    "SELECT k, COUNT(*) AS c FROM s WHERE k NOT LIKE 'a%' GROUP BY k",
    "SELECT k, COUNT(*) AS c FROM s WHERE k IS NULL GROUP BY k",
    "SELECT k, COUNT(*) AS c FROM s WHERE NOT b GROUP BY k",
    "SELECT k, COUNT(*) AS c FROM s WHERE b AND n / 2 > 1 GROUP BY k",
    "SELECT k, COUNT(*) AS c FROM s WHERE b OR n / 2 > 1 GROUP BY k",
    "SELECT k, SUM(n) AS c FROM s GROUP BY k",
    "SELECT k, SUM(x) AS c FROM s GROUP BY k",
    "SELECT k, SUM(-n) AS c FROM s GROUP BY k",
    "SELECT k, SUM(d) AS c FROM s GROUP BY k",
    "SELECT k, SUM(n) FILTER (WHERE x > 0.5) AS c FROM s GROUP BY k",
    "SELECT k, MIN(n) AS c, MAX(x) AS m, AVG(n) AS a FROM s GROUP BY k",
    "SELECT CASE WHEN n > 0 THEN 'p' ELSE 'n' END AS g, COUNT(*) AS c FROM s GROUP BY 1",
    "SELECT UPPER(k) AS u, COUNT(*) AS c FROM s GROUP BY 1",
    "SELECT CAST(x AS BIGINT) AS i, COUNT(*) AS c FROM s GROUP BY 1",
    "SELECT SUM(n) AS c FROM s",
    "SELECT k, window_start, COUNT(*) AS c FROM s GROUP BY k, TUMBLE(ts, INTERVAL '5 seconds')",
    "SELECT k, window_start, COUNT(*) AS c FROM s GROUP BY k, TUMBLE(ts, INTERVAL '6 seconds')",
    "SELECT k, window_start, COUNT(*) AS c FROM s
         GROUP BY k, HOP(ts, INTERVAL '5 seconds', INTERVAL '10 seconds')",
    "SELECT k, window_start, COUNT(*) AS c FROM s GROUP BY k, SESSION(ts, INTERVAL '5 seconds')",
    "SELECT k, window_start, first_value(n) AS f FROM s GROUP BY k, TUMBLE(ts, INTERVAL '5 seconds')",
    "SELECT k, n FROM s UNION ALL SELECT k, n FROM t",
    "SELECT k, SUM(n) AS c FROM (SELECT k, n FROM s UNION ALL SELECT k, n FROM t) GROUP BY k",
    "SELECT k, window_start, array_agg(n) AS l FROM s GROUP BY k, TUMBLE(ts, INTERVAL '5 seconds')",
];

fn plan(db: &Db, query: &str) -> (Plan, Vec<String>) {
    db.execute(&format!("CREATE STREAM q AS {query}")).unwrap();
    let catalog = db.engine.catalog();
    let entry = catalog.query("q").unwrap();
    let StreamDefinition::Query(plan) = &entry.lifecycle.definition else {
        panic!("{query} is no query");
    };
    let found = (plan.clone(), entry.inputs.clone());
    drop(catalog);
    db.execute("DROP STREAM q").unwrap();
    found
}

fn fingerprints(db: &Db, query: &str) -> Vec<Fingerprint> {
    let (plan, inputs) = plan(db, query);
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    plan.fingerprints(&inputs)
}

#[test]
fn fingerprints_stay_what_they_are() {
    let db = Db::builder().workers(1).in_memory().unwrap();
    db.execute(SOURCES).unwrap();
    let (mut text, mut last) = (String::new(), BTreeSet::new());
    for query in QUERIES {
        let stages = fingerprints(&db, query);
        text.push_str(&format!(
            "{}\n",
            query.split_whitespace().collect::<Vec<_>>().join(" ")
        ));
        for stage in &stages {
            text.push_str(&format!("    {stage}\n"));
        }
        let stage = stages.last().expect("each query has a stage").to_string();
        let hash = stage.rsplit_once(' ').unwrap().1.to_owned();
        assert!(
            last.insert(hash),
            "{query} has the fingerprint of another query"
        );
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/db/tests/fingerprints.txt");
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    if known != text {
        std::fs::write(&file, &text).unwrap();
        panic!(
            "{} has been written again: review what changed",
            file.display()
        );
    }
}

#[test]
fn names_of_results_and_the_number_of_workers_do_not_count() {
    let one = Db::builder().workers(1).in_memory().unwrap();
    let two = Db::builder().workers(2).in_memory().unwrap();
    for db in [&one, &two] {
        db.execute(SOURCES).unwrap();
    }
    let of = |db, query| fingerprints(db, query);
    let first = of(&one, "SELECT k, SUM(n) AS a FROM s GROUP BY k");
    assert_eq!(first, of(&two, "SELECT k, SUM(n) AS a FROM s GROUP BY k"));
    assert_eq!(
        first,
        of(&one, "select s.k as other, sum(n) as b from s group by s.k")
    );
    assert_ne!(
        first,
        of(&one, "SELECT k, SUM(n + 1) AS a FROM s GROUP BY k")
    );
}
