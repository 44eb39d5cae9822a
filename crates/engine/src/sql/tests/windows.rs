//! Windows rewritten into expressions, and what is wrong with a window.

use super::{pointed_at, query};
use crate::sql::{SqlError, windows::rewrite};

fn rewritten(script: &str) -> String {
    let mut query = query(script);
    rewrite(&mut query).unwrap_or_else(|error| panic!("{script}: {error:?}"));
    let once = query.ast.to_string();
    rewrite(&mut query).unwrap();
    assert_eq!(query.ast.to_string(), once, "a second time changes nothing");
    once
}

fn failure(script: &str) -> (SqlError, String) {
    let mut query = query(script);
    match rewrite(&mut query) {
        Ok(()) => panic!("{script} was accepted: {}", query.ast),
        Err(error) => {
            let place = pointed_at(script, &error);
            (error, place)
        }
    }
}

#[test]
fn a_tumbling_window_becomes_two_expressions() {
    assert_eq!(
        rewritten(
            "SELECT symbol, window_start, SUM(qty) AS q FROM trades \
             GROUP BY TUMBLE(ts, INTERVAL '1 minute'), symbol"
        ),
        "SELECT symbol, __window_start(ts, 'tumble', 60000000, 60000000) AS \"window_start\", \
         SUM(qty) AS q FROM trades \
         GROUP BY __window_start(ts, 'tumble', 60000000, 60000000), \
         __window_end(ts, 'tumble', 60000000, 60000000), symbol"
    );
}

#[test]
fn a_hop_gives_its_slide_first_and_a_session_its_gap_twice() {
    assert_eq!(
        rewritten(
            "SELECT COUNT(*) FROM t GROUP BY hop(t.ts, INTERVAL '1 second', INTERVAL '1 minute')"
        ),
        "SELECT COUNT(*) FROM t GROUP BY __window_start(t.ts, 'hop', 60000000, 1000000), \
         __window_end(t.ts, 'hop', 60000000, 1000000)"
    );
    assert_eq!(
        rewritten("SELECT COUNT(*) FROM t GROUP BY k, Session(ts, '30 seconds')"),
        "SELECT COUNT(*) FROM t GROUP BY k, __window_start(ts, 'session', 30000000, 30000000), \
         __window_end(ts, 'session', 30000000, 30000000)"
    );
}

#[test]
fn an_offset_and_a_zone_follow() {
    let start = |window: &str| {
        let rewritten = rewritten(&format!("SELECT window_start FROM t GROUP BY {window}"));
        let (_, start) = rewritten.split_once("SELECT ").unwrap();
        start.split_once(" AS ").unwrap().0.to_owned()
    };
    for (window, arguments) in [
        (
            "TUMBLE(ts, INTERVAL '1 hour', INTERVAL '15 minutes')",
            "ts, 'tumble', 3600000000, 3600000000, 900000000",
        ),
        // By whole slides nothing moves.
        (
            "TUMBLE(ts, INTERVAL '1 hour', INTERVAL '-2 hours')",
            "ts, 'tumble', 3600000000, 3600000000",
        ),
        (
            "HOP(ts, INTERVAL '1 hour', INTERVAL '2 hours', INTERVAL '-15 minutes')",
            "ts, 'hop', 7200000000, 3600000000, 2700000000",
        ),
        (
            "TUMBLE(ts, INTERVAL '1 day', 'europe/berlin')",
            "ts, 'tumble', 86400000000, 86400000000, 0, 'Europe/Berlin'",
        ),
        (
            "HOP(ts, INTERVAL '1 day', INTERVAL '1 week', INTERVAL '8 days', 'UTC')",
            "ts, 'hop', 604800000000, 86400000000, 0, 'UTC'",
        ),
    ] {
        assert_eq!(start(window), format!("__window_start({arguments})"));
    }
}

#[test]
fn window_time_is_a_key_if_it_is_named() {
    let call = |name: &str| format!("__window_{name}(ts, 'tumble', 1000000, 1000000)");
    let (start, end, time) = (call("start"), call("end"), call("time"));
    assert_eq!(
        rewritten(
            "SELECT k, window_time FROM t GROUP BY TUMBLE(ts, INTERVAL '1 second'), k, window_time"
        ),
        format!("SELECT k, {time} AS \"window_time\" FROM t GROUP BY {start}, {end}, k, {time}")
    );
    assert_eq!(
        rewritten(
            "SELECT k FROM t GROUP BY TUMBLE(ts, INTERVAL '1 second'), k HAVING window_time > 1"
        ),
        format!("SELECT k FROM t GROUP BY {start}, {end}, k, {time} HAVING {time} > 1")
    );
}

#[test]
fn the_names_are_replaced_in_every_clause_behind_grouping() {
    let start = "__window_start(ts, 'tumble', 1000000, 1000000)";
    let end = "__window_end(ts, 'tumble', 1000000, 1000000)";
    assert_eq!(
        rewritten(
            "SELECT WINDOW_END, window_start AS ws, to_char(window_end, 'x') FROM t WHERE window_start > 1 \
             GROUP BY TUMBLE(ts, INTERVAL '1 second'), window_start, window_end, k \
             HAVING max(x) > window_start ORDER BY window_end DESC, \"window_start\", \"WINDOW_START\" LIMIT 3"
        ),
        format!(
            "SELECT {end} AS \"window_end\", {start} AS ws, \
             to_char({end}, 'x') AS \"to_char(window_end, 'x')\" \
             FROM t WHERE window_start > 1 GROUP BY {start}, {end}, k HAVING max(x) > {start} \
             ORDER BY {end} DESC, {start}, \"WINDOW_START\" LIMIT 3"
        )
    );
}

#[test]
fn each_select_has_its_own_window() {
    let start =
        |of: &str, micros: u32| format!("__window_start({of}, 'tumble', {micros}, {micros})");
    let end = |of: &str, micros: u32| format!("__window_end({of}, 'tumble', {micros}, {micros})");
    // A window over a window: the inner names are columns of the inner result.
    assert_eq!(
        rewritten(
            "WITH a AS (SELECT window_end, COUNT(*) AS n FROM t GROUP BY TUMBLE(ts, INTERVAL '1 second')) \
             SELECT window_start, SUM(n) FROM a GROUP BY TUMBLE(window_end, INTERVAL '2 seconds')"
        ),
        format!(
            "WITH a AS (SELECT {} AS \"window_end\", COUNT(*) AS n FROM t GROUP BY {}, {}) \
             SELECT {} AS \"window_start\", SUM(n) FROM a GROUP BY {}, {}",
            end("ts", 1_000_000),
            start("ts", 1_000_000),
            end("ts", 1_000_000),
            start("window_end", 2_000_000),
            start("window_end", 2_000_000),
            end("window_end", 2_000_000),
        )
    );
    // The arms of a union, and a query inside an expression.
    assert_eq!(
        rewritten(
            "SELECT window_start FROM t GROUP BY TUMBLE(ts, INTERVAL '1 second') \
             UNION ALL SELECT window_start FROM v"
        ),
        format!(
            "SELECT {0} AS \"window_start\" FROM t GROUP BY {0}, {1} UNION ALL SELECT window_start FROM v",
            start("ts", 1_000_000),
            end("ts", 1_000_000)
        )
    );
    assert_eq!(
        rewritten(
            "SELECT COUNT(*) FROM t GROUP BY TUMBLE(ts, INTERVAL '1 second') \
             HAVING COUNT(*) > (SELECT MAX(window_start) FROM v)"
        ),
        format!(
            "SELECT COUNT(*) FROM t GROUP BY {}, {} HAVING COUNT(*) > (SELECT MAX(window_start) FROM v)",
            start("ts", 1_000_000),
            end("ts", 1_000_000)
        )
    );
}

#[test]
fn without_a_window_the_names_are_columns() {
    for script in [
        "SELECT window_start, v.window_end FROM v ORDER BY window_start",
        "SELECT window_start, COUNT(*) FROM v GROUP BY window_start",
        "SELECT 1 FROM v GROUP BY ALL",
    ] {
        assert_eq!(rewritten(script), script);
    }
}

#[test]
fn the_error_of_a_wrong_window_has_its_position() {
    let grouped = |window: &str| failure(&format!("SELECT 1 FROM t GROUP BY k, {window}"));
    for (window, sqlstate, message, place) in [
        (
            "TUMBLE(ts, INTERVAL '0 seconds')",
            "22023",
            "INTERVAL '0 seconds' is too short for TUMBLE: at least a microsecond",
            "'0 seconds'",
        ),
        (
            "TUMBLE(ts, INTERVAL '-1 second')",
            "22023",
            "INTERVAL '-1 second' is too short for TUMBLE: at least a microsecond",
            "'-1 second'",
        ),
        (
            "TUMBLE(ts, INTERVAL '1 month')",
            "22023",
            "\"month\" has no fixed length; write it in days",
            "'1 month'",
        ),
        ("TUMBLE(ts, 60)", "22023", "60 is not an interval", "60"),
        (
            "TUMBLE(INTERVAL '1 second', ts)",
            "22023",
            "ts is not an interval",
            "ts",
        ),
        (
            "TUMBLE(ts)",
            "42883",
            "TUMBLE(ts) is not a valid call of TUMBLE",
            "TUMBLE",
        ),
        (
            "TUMBLE(*, INTERVAL '1 second')",
            "42883",
            "TUMBLE(*, INTERVAL '1 second') is not a valid call of TUMBLE",
            "TUMBLE",
        ),
        (
            "SESSION(ts, INTERVAL '1 second', INTERVAL '1 second')",
            "42883",
            "SESSION(ts, INTERVAL '1 second', INTERVAL '1 second') is not a valid call of SESSION",
            "SESSION",
        ),
        (
            "HOP(ts, INTERVAL '7 seconds', INTERVAL '1 minute')",
            "22023",
            "HOP size of 60000000 microseconds is not a multiple of its slide of 7000000",
            "HOP",
        ),
        (
            "HOP(ts, INTERVAL '1 minute', INTERVAL '1 second')",
            "22023",
            "HOP size of 1000000 microseconds is not a multiple of its slide of 60000000",
            "HOP",
        ),
        (
            "TUMBLE(ts, INTERVAL '1 hour', 'Europe/Berlin')",
            "22023",
            "INTERVAL '1 hour' is no whole number of days, as TUMBLE with a time zone needs",
            "'1 hour'",
        ),
        (
            "HOP(ts, INTERVAL '12 hours', INTERVAL '1 day', 'Europe/Berlin')",
            "22023",
            "INTERVAL '12 hours' is no whole number of days, as HOP with a time zone needs",
            "'12 hours'",
        ),
        (
            "TUMBLE(ts, INTERVAL '1 day', INTERVAL '4 hours', 'Europe/Berlin')",
            "22023",
            "INTERVAL '4 hours' is no whole number of days, as TUMBLE with a time zone needs",
            "'4 hours'",
        ),
        (
            "TUMBLE(ts, INTERVAL '1 day', 'Europe/Berln')",
            "22023",
            "time zone \"Europe/Berln\" is unknown",
            "'Europe/Berln'",
        ),
        (
            "TUMBLE(ts, INTERVAL '1 day', 'Europe/Berlin', INTERVAL '1 day')",
            "42883",
            "TUMBLE(ts, INTERVAL '1 day', 'Europe/Berlin', INTERVAL '1 day') is not a valid call of TUMBLE",
            "TUMBLE",
        ),
        (
            "TUMBLE(ts, INTERVAL '1 hour', 5)",
            "22023",
            "5 is not an interval",
            "5",
        ),
        (
            "TUMBLE(ts, INTERVAL '1 day') OVER ()",
            "42883",
            "TUMBLE(ts, INTERVAL '1 day') OVER () is not a valid call of TUMBLE",
            "TUMBLE",
        ),
        (
            "TUMBEL(ts, INTERVAL '1 day')",
            "42883",
            "function TUMBEL does not exist",
            "TUMBEL",
        ),
        (
            "TUMBLE(ts, INTERVAL '1 day'), HOP(ts, INTERVAL '1 day', INTERVAL '2 days')",
            "42803",
            "GROUP BY has two windows, at most one",
            "HOP(ts, INTERVAL '1 day', INTERVAL '2 days'",
        ),
        (
            "ROLLUP (TUMBLE(ts, INTERVAL '1 day'), a)",
            "42803",
            "TUMBLE is used outside of GROUP BY",
            "TUMBLE",
        ),
    ] {
        let (error, at) = grouped(window);
        assert_eq!(
            (error.sqlstate, error.message.as_str()),
            (sqlstate, message),
            "{window}"
        );
        assert!(
            at.starts_with(place) || place.starts_with(&at),
            "{window}: {at}"
        );
    }
    let (error, _) = grouped("HOP(ts, INTERVAL '1 minute', INTERVAL '1 second')");
    assert_eq!(
        error.hint.unwrap(),
        "The slide comes first: HOP(ts, slide, size)."
    );
    let (error, _) = grouped("TUMBEL(ts, INTERVAL '1 day')");
    assert_eq!(error.hint.unwrap(), "Did you mean TUMBLE?");
}

#[test]
fn a_window_anywhere_else_is_refused() {
    for (script, sqlstate, place) in [
        (
            "SELECT TUMBLE(ts, INTERVAL '1 day') FROM t",
            "42803",
            "TUMBLE",
        ),
        (
            "SELECT 1 FROM t WHERE Session(ts, INTERVAL '1 day') > 1",
            "42803",
            "Session",
        ),
        (
            "SELECT TUMBLE_START(ts, INTERVAL '1 day') FROM t",
            "0A000",
            "TUMBLE_START",
        ),
        (
            "SELECT * FROM TUMBLE(t, ts, INTERVAL '1 day')",
            "0A000",
            "TUMBLE",
        ),
        (
            "SELECT * FROM TABLE(HOP(t, ts, INTERVAL '1 day'))",
            "0A000",
            "HOP",
        ),
    ] {
        let (error, at) = failure(script);
        assert_eq!(error.sqlstate, sqlstate, "{script}");
        assert_eq!(at, place, "{script}");
        assert!(error.hint.is_some(), "{script}");
    }
}

#[test]
fn an_error_points_into_the_whole_script() {
    let script = "SHOW SINKS;\n\nCREATE STREAM s AS\n SELECT 1 FROM t\n GROUP BY TUMBLE(ts, INTERVAL '1 year')";
    let mut statements = crate::sql::parse(script).unwrap();
    let crate::sql::Statement::CreateQuery(stream) = &mut statements[1].node else {
        panic!()
    };
    let error = rewrite(&mut stream.query).unwrap_err();
    assert!(
        pointed_at(script, &error).starts_with("'1 year'"),
        "{error:?}"
    );
}
