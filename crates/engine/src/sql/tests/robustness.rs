//! Text that is not SQL, nearly SQL, or too deep: it gives statements or an error, never a panic.
//!
//! A test thread has a small stack (2 MiB), so these also show that the limits on nesting hold
//! where the stack is no larger than that of a worker.

use proptest::prelude::*;

use crate::sql::{SqlQuery, Statement, TableLookup, parse_each, resolve_identifiers, windows};

/// Statements of every kind, to be cut and mixed.
const STATEMENTS: &[&str] = &[
    "CREATE SOURCE trades (symbol VARCHAR NOT NULL, price DOUBLE, ts TIMESTAMP(3), \
     WATERMARK FOR ts AS ts - INTERVAL '100 milliseconds') WITH (connector = 'websocket', a.b.c-d = -1.5e3)",
    "CREATE STREAM vwap WITH (start = 'now') AS SELECT symbol, window_start, SUM(price * qty) / SUM(qty) AS v \
     FROM trades GROUP BY TUMBLE(ts, INTERVAL '1 minute'), symbol HAVING COUNT(*) > 1 EMIT ON WINDOW CLOSE",
    "CREATE MATERIALIZED VIEW v AS WITH a AS (SELECT * FROM trades) SELECT a.symbol FROM a JOIN b USING (symbol)",
    "CREATE SINK out FROM (SELECT CASE WHEN x[1] THEN 1 ELSE CAST(y AS BIGINT) END FROM t) WITH (connector = 'x')",
    "@source(type='websocket', websocket.url='wss://x/y@trade', @map(type='json')) CREATE STREAM R (e STRING, T BIGINT)",
    "INSERT INTO o (a, b) SELECT HOP(ts, INTERVAL '1' SECOND, INTERVAL 5 MINUTE), 'é' FROM t UNION ALL VALUES (1, 2)",
    "EXPLAIN GUARANTEES SELECT DISTINCT ON (a) a::int, b FROM t WHERE a BETWEEN 1 AND 2 AND b IN (SELECT 1) ORDER BY 1",
    "DROP VIEW IF EXISTS v CASCADE; SHOW SOURCES; DESCRIBE x; SUBSCRIBE TO x; START STREAM y",
    "CREATE SOURCE s (a ARRAY<STRUCT<x INT, y MAP(STRING, ARRAY<INT>)>>, b DECIMAL(10, 2)[], c INT8 UNSIGNED)",
];

/// Knows one table, whose names differ by case.
struct Some2;

impl TableLookup for Some2 {
    fn names(&self) -> Vec<String> {
        vec!["t".into(), "Trades".into(), "a".into(), "A".into()]
    }

    fn columns(&self, _table: &str) -> Option<Vec<String>> {
        Some(vec!["a".into(), "A".into(), "Symbol".into(), "ts".into()])
    }
}

/// Reads a script and rewrites its queries; every error must have its position in the text.
fn digest(script: &str) {
    for found in parse_each(script) {
        let error = match found {
            Err(error) => error,
            Ok(mut statement) => {
                assert!(script.get(statement.span.clone()).is_some(), "{script:?}");
                let Some(query) = query_of(&mut statement.node) else {
                    continue;
                };
                assert_eq!(script.get(query.span.clone()), Some(query.text.as_str()));
                match windows::rewrite(query).and_then(|()| resolve_identifiers(query, &Some2)) {
                    Ok(_) => continue,
                    Err(error) => error,
                }
            }
        };
        if let Some(place) = &error.position {
            assert!(script.get(place.clone()).is_some(), "{script:?}: {error:?}");
        }
        assert!(!error.message.contains('\n'), "{error:?}");
    }
}

fn query_of(statement: &mut Statement) -> Option<&mut SqlQuery> {
    match statement {
        Statement::CreateQuery(create) => Some(&mut create.query),
        Statement::Query(query) | Statement::InsertInto { query, .. } => Some(query),
        _ => None,
    }
}

/// A piece of a statement: a word, a number, a string, a sign, or space.
fn piece() -> impl Strategy<Value = String> {
    let known: Vec<String> = STATEMENTS
        .iter()
        .flat_map(|statement| statement.split_inclusive([' ', '(', ')', ',', '\'', '.', '<', '>']))
        .map(str::to_owned)
        .collect();
    prop_oneof![
        8 => prop::sample::select(known),
        1 => prop::sample::select(vec!["(", ")", ";", "'", "\"", "--", "/*", "*/", "$$", "`", "[", "]", "\n", "@", "\0"])
            .prop_map(str::to_owned),
        1 => "\\PC{0,3}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_text_gives_an_answer(script in "\\PC{0,80}") {
        digest(&script);
    }

    #[test]
    fn pieces_of_statements_in_any_order_give_an_answer(pieces in prop::collection::vec(piece(), 0..40)) {
        digest(&pieces.concat());
    }

    #[test]
    fn a_statement_with_a_hole_or_a_graft_gives_an_answer(
        index in 0..STATEMENTS.len(), from in 0.0..1.0, length in 0.0..0.3, graft in piece(),
    ) {
        let chars: Vec<char> = STATEMENTS[index].chars().collect();
        let cut = (chars.len() as f64 * from) as usize;
        let end = (cut + (chars.len() as f64 * length) as usize).min(chars.len());
        let before: String = chars[..cut].iter().collect();
        let after: String = chars[end..].iter().collect();
        digest(&format!("{before}{graft}{after}"));
        digest(&format!("{before}{after}"));
    }
}

#[test]
fn the_statements_that_are_cut_are_right_when_whole() {
    for statement in STATEMENTS {
        digest(statement);
    }
    assert!(parse_each(STATEMENTS[1]).iter().all(Result::is_ok));
}

#[test]
fn what_is_nested_too_deep_is_refused() {
    for (before, inner, after) in [("(", "SELECT 1", ")"), ("SELECT ", "1", "")] {
        digest(&format!(
            "{}{inner}{}",
            before.repeat(5_000),
            after.repeat(5_000)
        ));
    }
    for (before, middle, after) in [
        ("SELECT ", "(", ")"),
        ("SELECT ", "abs(", ")"),
        ("SELECT ", "[", "]"),
        ("SELECT ", "CASE WHEN a THEN ", " END"),
        ("SELECT ", "CASE WHEN a THEN 1 ELSE ", " END"),
        ("SELECT a FROM ", "(SELECT a FROM ", ")"),
        (
            "SELECT a FROM t WHERE ",
            "a IN (SELECT a FROM t WHERE ",
            ")",
        ),
        ("WITH x AS ", "(WITH x AS ", ")"),
        ("CREATE SOURCE s (a ", "ARRAY<", ">"),
        ("CREATE SOURCE s (a ", "STRUCT<a ", ">"),
        ("CREATE SOURCE s WITH (a = ", "(", ")"),
    ] {
        let script = format!("{before}{}1{}", middle.repeat(3_000), after.repeat(3_000));
        let error = parse_each(&script).remove(0).unwrap_err();
        assert_eq!(error.sqlstate, "54001", "{before}{middle}: {error:?}");
        assert!(error.hint.is_some() && error.position.is_some());
    }
}

#[test]
fn what_is_chained_too_long_is_refused() {
    for (first, rest) in [
        ("SELECT 1", " + 1"),
        ("SELECT a FROM t WHERE a = 1", " OR a = 1"),
        ("SELECT 1", " UNION ALL SELECT 1, 2"),
        ("SELECT 1 FROM a", " JOIN b ON TRUE"),
        ("SELECT a", "::int"),
        ("SELECT (a", " + 1), (a"),
        ("SELECT a", " IS NULL"),
        ("SELECT", " NOT"),
        ("SELECT", " -"),
        ("SELECT", " INTERVAL"),
        ("SELECT", " CASE WHEN"),
        ("EXPLAIN", " EXPLAIN"),
        ("SELECT a", "[1]"),
        ("SELECT a", ".b"),
        ("CREATE SOURCE s (a BIGINT", "[]"),
        ("SELECT CAST(1 AS BIGINT", "[]"),
    ] {
        let script = format!("{first}{}", rest.repeat(20_000));
        digest(&script);
    }
    let arrays = format!("CREATE SOURCE s (a BIGINT{})", "[]".repeat(20_000));
    let error = parse_each(&arrays).remove(0).unwrap_err();
    assert_eq!(error.sqlstate, "54001", "{}", error.message);
    let long = format!("SELECT 1{}", " + 1".repeat(20_000));
    let error = parse_each(&long).remove(0).unwrap_err();
    assert_eq!(error.sqlstate, "54001");
    assert!(
        error
            .message
            .ends_with("operators chained 129 deep, at most 128"),
        "{}",
        error.message
    );
    let ctes: Vec<String> = (1..2_000)
        .map(|n| format!("c{n} AS (SELECT * FROM c{})", n - 1))
        .collect();
    let chained = format!("WITH c0 AS (SELECT 1), {} SELECT 1", ctes.join(", "));
    let error = parse_each(&chained).remove(0).unwrap_err();
    assert_eq!(error.sqlstate, "54001", "{}", error.message);
}

#[test]
fn what_is_wide_is_not_deep() {
    let list = vec!["a + b * 2"; 5_000].join(", ");
    let cases = vec!["WHEN a = 1 AND b = 2 THEN a + 1"; 1_000].join(" ");
    let inserted = vec!["(1, -2)"; 5_000].join(", ");
    let columns: Vec<String> = (0..3_000).map(|n| format!("c{n} DECIMAL(10, 2)")).collect();
    for script in [
        format!("SELECT {list} FROM t WHERE a IN ({list})"),
        format!("SELECT CASE {cases} ELSE 0 END FROM t"),
        format!("VALUES {inserted}"),
        format!("CREATE SOURCE s ({})", columns.join(", ")),
        format!("SELECT a FROM t WHERE a = 1{}", " OR a = 1".repeat(120)),
        "SELECT 1;".repeat(5_000),
    ] {
        let found = parse_each(&script);
        assert!(
            found.iter().all(Result::is_ok),
            "{:?}",
            found.iter().find(|one| one.is_err())
        );
        digest(&script);
    }
}

/// `sqlparser` alone would try each of these in more ways than could ever be tried.
#[test]
fn a_mistake_within_deep_nesting_does_not_make_the_parser_backtrack() {
    for (nested, end) in [
        ("CASE WHEN a THEN ", " END"),
        ("ARRAY[", "]"),
        ("CEIL(", ")"),
        ("INTERVAL - ", ""),
        ("a. ", ""),
    ] {
        let script = format!("SELECT {}1 1{}", nested.repeat(30), end.repeat(30));
        assert!(parse_each(&script).remove(0).is_err(), "{nested}");
        let right = format!("SELECT {}1{}", nested.repeat(12), end.repeat(12));
        digest(&right);
    }
}
