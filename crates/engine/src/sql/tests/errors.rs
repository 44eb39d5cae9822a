//! Every error: its SQLSTATE, its message, its position and its hint.

use super::failure;
use crate::sql::{parse_each, sqlstate};

/// Script, SQLSTATE, message, the text pointed at, and a part of the hint (empty: no hint).
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

#[track_caller]
fn check(cases: &[Case]) {
    for &(script, sqlstate, message, place, hint) in cases {
        let (error, at) = failure(script);
        assert_eq!(error.sqlstate, sqlstate, "{script}: {error:?}");
        assert_eq!(error.message, message, "{script}");
        assert_eq!(at, place, "{script}: {error:?}");
        let given = error.hint.clone().unwrap_or_default();
        assert!(
            given.contains(hint) && given.is_empty() == hint.is_empty(),
            "{script}: {error:?}"
        );
        assert_eq!(error.to_string().lines().count(), 1, "{script}");
    }
}

#[test]
fn a_misspelt_word_is_answered_with_the_right_one() {
    let syntax = sqlstate::SYNTAX_ERROR;
    check(&[
        (
            "CRAETE SOURCE s",
            syntax,
            "expected a statement, found CRAETE",
            "CRAETE",
            "Did you mean CREATE?",
        ),
        (
            "STRAT STREAM s",
            syntax,
            "expected a statement, found STRAT",
            "STRAT",
            "Did you mean START?",
        ),
        (
            "PAUSE STREM s",
            syntax,
            "expected STREAM, found STREM",
            "STREM",
            "Did you mean STREAM?",
        ),
        (
            "ATTACH SOURCE s STREAM x",
            syntax,
            "expected TO, found STREAM",
            "STREAM",
            "",
        ),
        (
            "CREATE STREAM s (a INT) AS SELECT 1 AS a",
            sqlstate::FEATURE_NOT_SUPPORTED,
            "a list of columns after the name of a stream with a query is not supported",
            "(a INT)",
            "SELECT x AS name",
        ),
        (
            "CREATE SOURC s",
            syntax,
            "expected SOURCE, STREAM, VIEW, SINK or MATERIALIZED, found SOURC",
            "SOURC",
            "Did you mean SOURCE?",
        ),
        (
            "SELCT 1",
            syntax,
            "expected a statement, found SELCT",
            "SELCT",
            "Did you mean SELECT?",
        ),
        (
            "SHOW SOURCE",
            syntax,
            "expected SOURCES, STREAMS, VIEWS, SINKS or CONNECTORS, found SOURCE",
            "SOURCE",
            "Did you mean SOURCES?",
        ),
        (
            "SHOW TABLES",
            syntax,
            "expected SOURCES, STREAMS, VIEWS, SINKS or CONNECTORS, found TABLES",
            "TABLES",
            "SOURCES, STREAMS and VIEWS",
        ),
        (
            "DROP STRAEM s",
            syntax,
            "expected SOURCE, STREAM, VIEW, SINK or MATERIALIZED, found STRAEM",
            "STRAEM",
            "Did you mean STREAM?",
        ),
        (
            "DROP VIEW v CASCDE",
            syntax,
            "expected CASCADE or the end of the statement, found CASCDE",
            "CASCDE",
            "Did you mean CASCADE?",
        ),
        (
            "CREATE SOURCE s WIHT (a = 1)",
            syntax,
            "expected the columns or WITH, found WIHT",
            "WIHT",
            "Did you mean WITH?",
        ),
        (
            "CREATE SINK s FORM t",
            syntax,
            "expected FROM, found FORM",
            "FORM",
            "Did you mean FROM?",
        ),
        (
            "CREATE STREAM s AS SELECT a FROM t GRUOP BY a",
            syntax,
            "expected the end of the query, found BY",
            "BY",
            "Did you mean GROUP?",
        ),
        (
            "SELECT a FROM t WHER a > 1",
            syntax,
            "expected the end of the query, found a",
            "a",
            "Did you mean WHERE?",
        ),
        (
            "CREATE STREAM s AS SELECT 1 EMIT ON UPDTE",
            syntax,
            "expected UPDATE or WINDOW CLOSE, found UPDTE",
            "UPDTE",
            "Did you mean UPDATE?",
        ),
        (
            "@sourc(type='a') CREATE STREAM s (a INT)",
            "0A000",
            "annotation @sourc is not supported",
            "@sourc",
            "Did you mean @source?",
        ),
        (
            "@source(type='a', @mpa(type='b')) CREATE STREAM s (a INT)",
            "0A000",
            "annotation @mpa is not supported",
            "@mpa",
            "@map",
        ),
        (
            "CREATE SOURCE s (a VARCHR)",
            "42704",
            "type VARCHR does not exist",
            "VARCHR",
            "Did you mean VARCHAR?",
        ),
        (
            "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR when_ AS when_)",
            "42703",
            "watermark column \"when_\" is not declared",
            "when_",
            "",
        ),
        (
            "CREATE SOURCE s (time TIMESTAMP, WATERMARK FOR tiem AS tiem)",
            "42703",
            "watermark column \"tiem\" is not declared",
            "tiem",
            "Did you mean time?",
        ),
    ]);
}

#[test]
fn what_is_missing_is_named() {
    let syntax = sqlstate::SYNTAX_ERROR;
    check(&[
        (
            "CREATE",
            syntax,
            "expected SOURCE, STREAM, VIEW, SINK or MATERIALIZED, found the end of the statement",
            "",
            "",
        ),
        (
            "CREATE SOURCE",
            syntax,
            "expected the name of a source, found the end of the statement",
            "",
            "",
        ),
        (
            "CREATE SOURCE IF NOT s",
            syntax,
            "expected EXISTS, found s",
            "s",
            "",
        ),
        (
            "CREATE SOURCE s (",
            syntax,
            "parenthesis is never closed",
            "(",
            "",
        ),
        (
            "CREATE SOURCE s ()",
            syntax,
            "expected the name of a column, found )",
            ")",
            "",
        ),
        (
            "CREATE SOURCE s (a INT,)",
            syntax,
            "expected the name of a column, found )",
            ")",
            "",
        ),
        (
            "CREATE SOURCE s (a)",
            syntax,
            "expected the type of column \"a\", found )",
            ")",
            "",
        ),
        (
            "CREATE SOURCE s (a, b INT)",
            syntax,
            "expected the type of column \"a\", found ,",
            ",",
            "",
        ),
        (
            "CREATE SOURCE s (a INT) WITH",
            syntax,
            "expected (, found the end of the statement",
            "",
            "",
        ),
        (
            "CREATE SOURCE s WITH (a)",
            syntax,
            "expected =, found )",
            ")",
            "",
        ),
        (
            "CREATE SOURCE s WITH (a = )",
            syntax,
            "expected the value of an option, found )",
            ")",
            "",
        ),
        (
            "CREATE SOURCE s WITH (= 1)",
            syntax,
            "expected the name of an option, found =",
            "=",
            "",
        ),
        (
            "CREATE SOURCE s WITH (a = - 'x')",
            syntax,
            "expected a number, found 'x'",
            "'x'",
            "",
        ),
        (
            "CREATE SOURCE s WITH (a = 5 seconds)",
            syntax,
            "expected a comma or the closing parenthesis, found seconds",
            "seconds",
            "single quotes",
        ),
        (
            "CREATE STREAM s SELECT 1",
            syntax,
            "expected AS, found SELECT",
            "SELECT",
            "",
        ),
        (
            "CREATE STREAM s AS",
            syntax,
            "expected a query, found the end of the statement",
            "",
            "",
        ),
        (
            "CREATE STREAM s AS t",
            syntax,
            "expected a query, found t",
            "t",
            "",
        ),
        (
            "CREATE SINK s WITH (a = 1)",
            syntax,
            "expected FROM, found WITH",
            "WITH",
            "",
        ),
        (
            "CREATE SINK s FROM SELECT 1",
            syntax,
            "expected the name of a stream, found SELECT",
            "SELECT",
            "in parentheses",
        ),
        (
            "CREATE SINK s AS SELECT 1",
            syntax,
            "expected FROM, found AS",
            "AS",
            "FROM (SELECT ...)",
        ),
        (
            "CREATE SINK s FROM (SELECT ) WITH (a = 1)",
            syntax,
            "expected an expression, found )",
            ")",
            "",
        ),
        (
            "CREATE SOURCE s (a ARRAY)",
            syntax,
            "expected <, found )",
            ")",
            "",
        ),
        (
            "SUBSCRIBE vwap",
            syntax,
            "expected TO, found vwap",
            "vwap",
            "",
        ),
        (
            "SUBSCRIBE TO a b",
            syntax,
            "expected the end of the statement, found b",
            "b",
            "",
        ),
        (
            "INSERT INTO o",
            syntax,
            "expected a query, found the end of the statement",
            "",
            "",
        ),
        (
            "SELECT 1 +",
            syntax,
            "expected an expression, found the end of the statement",
            "",
            "",
        ),
        (
            "SELECT 'abc",
            syntax,
            "unterminated string literal",
            "'",
            "",
        ),
        (
            "DESCRIBE 5",
            syntax,
            "expected the name of a source, stream, view or sink, found 5",
            "5",
            "",
        ),
        (
            "DROP SOURCE @s",
            syntax,
            "expected the name of a source, found @s",
            "@s",
            "",
        ),
        (
            "CREATE SOURCE \"\"",
            syntax,
            "the name of a source is empty",
            "\"\"",
            "",
        ),
        (
            "@source(url='x') CREATE STREAM s (a INT)",
            syntax,
            "annotation @source has no type",
            "@source",
            "type='websocket'",
        ),
        (
            "@source(type='x') CREATE VIEW s (a INT)",
            syntax,
            "expected STREAM, found VIEW",
            "VIEW",
            "",
        ),
        (
            "@sink(type='x') CREATE STREAM s",
            syntax,
            "expected (, found the end of the statement",
            "",
            "",
        ),
    ]);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let syntax = sqlstate::SYNTAX_ERROR;
    check(&[
        (
            "CREATE SOURCE s (a INT, a BIGINT)",
            "42701",
            "column \"a\" is declared twice",
            "a",
            "",
        ),
        (
            "CREATE SOURCE s (a INT NULL NOT NULL)",
            syntax,
            "column \"a\" is both NULL and NOT NULL",
            "NOT",
            "",
        ),
        (
            "CREATE SOURCE s WITH (a = 1, b = 2, a = 3)",
            syntax,
            "option \"a\" is given twice",
            "a",
            "",
        ),
        (
            "@source(type='x', type='y') CREATE STREAM s (a INT)",
            syntax,
            "option \"connector\" is given twice",
            "type",
            "",
        ),
        (
            "CREATE SOURCE s (ts INT, WATERMARK FOR ts AS ts)",
            "42804",
            "watermark column \"ts\" is not a TIMESTAMP",
            "ts",
            "TIMESTAMP(3)",
        ),
        (
            "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS ts, WATERMARK FOR ts AS ts)",
            syntax,
            "a source has one watermark",
            "WATERMARK FOR ts AS ts",
            "",
        ),
        (
            "CREATE SOURCE s (ts TIMESTAMP, t2 TIMESTAMP, WATERMARK FOR ts AS t2)",
            syntax,
            "a watermark is its column, less an interval",
            "t2",
            "AS ts - INTERVAL",
        ),
        (
            "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS ts + INTERVAL '1 second')",
            syntax,
            "a watermark is its column, less an interval",
            "ts + INTERVAL '1 second'",
            "AS ts - INTERVAL",
        ),
        (
            "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 month')",
            "22023",
            "\"month\" has no fixed length; write it in days",
            "ts - INTERVAL '1 month'",
            "30 days",
        ),
        (
            "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '-1 second')",
            "22023",
            "watermark delay of -1000000 microseconds is less than zero",
            "ts - INTERVAL '-1 second'",
            "",
        ),
        (
            "CREATE SOURCE s (ts TIMESTAMP(4))",
            "22023",
            "type TIMESTAMP(4): precision is 0, 3, 6 or 9",
            "TIMESTAMP(4)",
            "milliseconds",
        ),
        (
            "CREATE SOURCE s (d DECIMAL(77, 2))",
            "22023",
            "type DECIMAL(77,2): precision is from 1 to 76",
            "DECIMAL(77, 2)",
            "",
        ),
        (
            "CREATE SOURCE s (d DECIMAL(5, 6))",
            "22023",
            "type DECIMAL(5,6): scale is from 0 to the precision",
            "DECIMAL(5, 6)",
            "",
        ),
        (
            "CREATE SOURCE s (d STRUCT<a INT, a INT>)",
            "42701",
            "field \"a\" is declared twice",
            "STRUCT<a INT, a INT>",
            "",
        ),
        (
            "@sink(type='x') CREATE STREAM s (ts TIMESTAMP, WATERMARK FOR ts AS ts)",
            syntax,
            "a sink has no watermark",
            "(",
            "",
        ),
        (
            "SELECT 1 EMIT ON UPDATE",
            syntax,
            "a query has no EMIT clause",
            "EMIT ON UPDATE",
            "CREATE STREAM",
        ),
        (
            "CREATE VIEW v AS SELECT 1 EMIT ON WINDOW CLOSE",
            syntax,
            "a view has no EMIT clause",
            "EMIT ON WINDOW CLOSE",
            "CREATE STREAM",
        ),
        (
            "CREATE STREAM s AS SELECT 1 EMIT CHANGES",
            syntax,
            "expected ON, found CHANGES",
            "CHANGES",
            "Leave EMIT out",
        ),
    ]);
}

#[test]
fn what_is_not_built_is_refused_by_its_name() {
    let cases = [
        (
            "ALTER SINK a SET (x = 1)",
            "ALTER SINK is not supported",
            "ALTER SINK",
        ),
        ("UPDATE t SET a = 1", "UPDATE is not supported", "UPDATE"),
        ("DELETE FROM t", "DELETE is not supported", "DELETE"),
        ("BEGIN", "BEGIN is not supported", "BEGIN"),
        ("SET x = 1", "SET is not supported", "SET"),
        ("COPY t FROM 'x'", "COPY is not supported", "COPY"),
        (
            "CREATE TABLE t (a INT)",
            "CREATE TABLE is not supported",
            "CREATE TABLE",
        ),
        (
            "CREATE OR REPLACE VIEW v AS SELECT 1",
            "CREATE OR REPLACE is not supported",
            "CREATE OR REPLACE",
        ),
        (
            "CREATE UNIQUE INDEX i ON t (a)",
            "CREATE UNIQUE INDEX is not supported",
            "CREATE UNIQUE",
        ),
        ("DROP TABLE t", "DROP TABLE is not supported", "DROP TABLE"),
        (
            "DROP VIEW a, b",
            "DROP of several names at once is not supported",
            ",",
        ),
        (
            "INSERT INTO t VALUES (1)",
            "INSERT INTO ... VALUES is not supported",
            "VALUES",
        ),
        (
            "CREATE SOURCE a.b (x INT)",
            "a schema in a name is not supported",
            "a.",
        ),
        (
            "CREATE VIEW v (a) AS SELECT 1",
            "a list of columns after the name of a view is not supported",
            "(",
        ),
        (
            "EXPLAIN ANALYZE SELECT 1",
            "ANALYZE is not supported",
            "ANALYZE",
        ),
        (
            "EXPLAIN (VERBOSE) SELECT 1",
            "EXPLAIN with options is not supported",
            "(",
        ),
        (
            "EXPLAIN DROP VIEW v",
            "EXPLAIN DROP is not supported",
            "DROP",
        ),
        (
            "@source(type='a') @sink(type='b') CREATE STREAM s (a INT)",
            "more than one annotation of a stream is not supported",
            "@sink",
        ),
        (
            "@sink(type='a') CREATE STREAM s AS SELECT 1",
            "an annotation of a stream with a query is not supported",
            "AS",
        ),
        (
            "@info(name='q') SELECT 1",
            "annotation @info is not supported",
            "@info",
        ),
        (
            "CREATE SOURCE s (a INT PRIMARY KEY)",
            "PRIMARY KEY is not supported",
            "PRIMARY",
        ),
        (
            "CREATE SOURCE s (a INT, PRIMARY KEY (a))",
            "PRIMARY KEY is not supported",
            "PRIMARY",
        ),
        (
            "CREATE SOURCE s (a INT, CONSTRAINT c CHECK (a > 1))",
            "a constraint is not supported",
            "CONSTRAINT",
        ),
        (
            "CREATE SOURCE s (a INT DEFAULT 5)",
            "DEFAULT is not supported",
            "DEFAULT",
        ),
        (
            "CREATE SOURCE s (a VARCHAR(20))",
            "type VARCHAR(20) is not supported",
            "VARCHAR(20)",
        ),
        (
            "CREATE SOURCE s (a ENUM('x'))",
            "type ENUM('x') is not supported",
            "ENUM('x')",
        ),
    ];
    for (script, message, place) in cases {
        let (error, at) = failure(script);
        assert_eq!(
            (error.sqlstate, error.message.as_str()),
            ("0A000", message),
            "{script}"
        );
        assert_eq!(at, place, "{script}");
    }
}

/// Each of these DataFusion's planner would pass over and answer something else.
#[test]
fn a_clause_that_the_planner_passes_over_is_refused() {
    for (clause, what) in [
        ("SELECT a FROM t FOR UPDATE", "FOR UPDATE"),
        ("SELECT a FROM t TABLESAMPLE BERNOULLI (10)", "TABLESAMPLE"),
        (
            "SELECT a FROM (SELECT a FROM t) TABLESAMPLE (10)",
            "TABLESAMPLE",
        ),
        (
            "SELECT a FROM t GROUP BY a WITH ROLLUP",
            "WITH ROLLUP, CUBE or TOTALS",
        ),
        ("SELECT a FROM t PREWHERE a > 1", "PREWHERE"),
        (
            "SELECT a FROM t START WITH a = 1 CONNECT BY PRIOR a = b",
            "CONNECT BY",
        ),
        ("SELECT a INTO b FROM t", "SELECT ... INTO"),
        ("SELECT a FROM t SETTINGS x = 1", "SETTINGS"),
        ("SELECT a FROM t FORMAT JSON", "FORMAT"),
        ("SELECT a FROM t FETCH FIRST 3 ROWS ONLY", "FETCH"),
        ("SELECT a FROM t ORDER BY a WITH FILL", "WITH FILL"),
        ("SELECT a FROM t DISTRIBUTE BY a", "DISTRIBUTE BY"),
        ("SELECT a FROM t WITH (nolock)", "a hint of a table"),
        ("SELECT a FROM t PARTITION (p)", "PARTITION of a table"),
        ("FROM t", "FROM without SELECT"),
        ("SELECT a FROM t |> WHERE a > 1", "the pipe operator |>"),
        ("SELECT a FROM t WHERE a = $1", "a parameter"),
        (
            "SELECT quantile(0.5)(a) FROM t",
            "a second list of arguments",
        ),
        (
            "WITH x AS (SELECT 1) INSERT INTO t SELECT 1",
            "a query that writes",
        ),
    ] {
        for script in [clause.to_owned(), format!("CREATE VIEW v AS {clause}")] {
            let (error, _) = failure(&script);
            assert_eq!(
                error.message,
                format!("{what} is not supported"),
                "{script}"
            );
            assert_eq!(error.sqlstate, "0A000", "{script}");
        }
    }
    let (_, place) = failure("SELECT 1 FROM a, (SELECT b FROM t TABLESAMPLE (10)) AS c");
    assert_eq!(place, "t");
}

#[test]
fn every_wrong_statement_of_a_script_is_reported() {
    let script = "SHOW SINKS; CREATE SORUCE a; SELECT 1; DROP TABLE b";
    let found = parse_each(script);
    let wrong: Vec<_> = found.iter().map(Result::is_err).collect();
    assert_eq!(wrong, [false, true, false, true]);
    let error = found[3].clone().unwrap_err();
    assert_eq!(&script[error.position.unwrap()], "DROP TABLE");
}
