//! Numbers, family by family: integers that do not fit, casts, exact aggregates, floats in one order.
//!
//! Each case is a statement over a few rows. Its answer must be the same as a view with one worker and with
//! two, with the rows in one step and one by one, and as a SELECT over a view that has the rows. The expected answers
//! are PostgreSQL's, but for types that only Headwater has.

mod batch;

use arrow::array::{Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use headwater::{Db, Error};

/// Rows of a source `s`, and how they reach it.
struct Rows<'a> {
    columns: &'a str,
    csv: &'a str,
    /// Whether an answer after a part of the rows may be an error.
    whole: bool,
}

impl Rows<'_> {
    fn push(&self, db: &Db, at_once: bool) {
        let source = db.source_untyped("s").unwrap();
        for rows in batch::from_csv(source.schema(), self.csv).unwrap() {
            if at_once {
                source.push_arrow(rows).unwrap();
                db.settle().unwrap();
                continue;
            }
            for row in 0..rows.num_rows() {
                source.push_arrow(rows.slice(row, 1)).unwrap();
                db.settle().unwrap();
            }
        }
    }

    fn db(&self, workers: usize) -> Db {
        let db = Db::builder().workers(workers).in_memory().unwrap();
        let create = format!("CREATE SOURCE s ({})", self.columns);
        db.execute(&create).unwrap();
        db
    }

    /// The content of a view of the statement.
    fn view(&self, select: &str, workers: usize, at_once: bool) -> String {
        let db = self.db(workers);
        if let Err(error) = db.execute(&format!("CREATE VIEW v AS {select}")) {
            return failure(&error);
        }
        self.push(&db, at_once);
        answer(db.query("SELECT * FROM v"))
    }

    /// The answer to the statement as a SELECT.
    fn select(&self, select: &str) -> String {
        let db = self.db(1);
        db.execute("CREATE VIEW kept AS SELECT * FROM s").unwrap();
        self.push(&db, true);
        answer(db.query(&select.replace(" FROM s", " FROM kept AS s")))
    }

    fn check(&self, select: &str, expected: &str) {
        let mut given = vec![("SELECT".to_owned(), self.select(select))];
        for (workers, at_once) in [(1, true), (2, false)] {
            if at_once || !self.whole {
                let way = format!("{workers} workers, at once: {at_once}");
                given.push((way, self.view(select, workers, at_once)));
            }
        }
        for (way, given) in given {
            let as_expected = match expected.strip_prefix("error ") {
                Some(message) => given.starts_with(&format!("error {message}")),
                None => given == expected,
            };
            assert!(
                as_expected,
                "{way}: {select} over {}\n{given}\nexpected {expected}",
                self.csv
            );
        }
    }
}

fn answer(result: Result<Vec<RecordBatch>, Error>) -> String {
    match result {
        Ok(batches) => {
            let mut lines: Vec<String> = batches.iter().flat_map(lines).collect();
            lines.sort_unstable();
            lines.join("; ")
        }
        Err(error) => failure(&error),
    }
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let cell = |column: &dyn Array, row| {
        let cells = ArrayFormatter::try_new(column, &options).unwrap();
        cells.value(row).to_string()
    };
    let line = |row| {
        let cells = batch.columns().iter().map(|column| cell(column, row));
        cells.collect::<Vec<_>>().join(" ")
    };
    (0..batch.num_rows()).map(line).collect()
}

/// The error without what says that it is one of a query, whose SQLSTATE must be the right one.
fn failure(error: &Error) -> String {
    let text = error.to_string();
    let message = text.trim_start_matches("the query failed: ");
    if let [error] = error.sql_errors() {
        let state = match message {
            _ if message.contains("out of range") => "22003",
            _ if message.contains("division by zero") => "22012",
            _ => error.sqlstate,
        };
        assert_eq!(error.sqlstate, state, "{message}");
    }
    format!("error {message}")
}

fn check(columns: &str, csv: &str, select: &str, expected: &str) {
    let rows = Rows {
        columns,
        csv,
        whole: false,
    };
    rows.check(select, expected);
}

/// For an answer that changes, and does not fit after every row.
fn check_at_once(columns: &str, csv: &str, select: &str, expected: &str) {
    let rows = Rows {
        columns,
        csv,
        whole: true,
    };
    rows.check(select, expected);
}

/// Each integer type with its name in errors, its least and its greatest value.
const INTEGERS: [(&str, &str, i128, i128); 8] = [
    ("TINYINT", "tinyint", i8::MIN as i128, i8::MAX as i128),
    ("SMALLINT", "smallint", i16::MIN as i128, i16::MAX as i128),
    ("INT", "integer", i32::MIN as i128, i32::MAX as i128),
    ("BIGINT", "bigint", i64::MIN as i128, i64::MAX as i128),
    ("TINYINT UNSIGNED", "tinyint unsigned", 0, u8::MAX as i128),
    (
        "SMALLINT UNSIGNED",
        "smallint unsigned",
        0,
        u16::MAX as i128,
    ),
    ("INT UNSIGNED", "integer unsigned", 0, u32::MAX as i128),
    ("BIGINT UNSIGNED", "bigint unsigned", 0, u64::MAX as i128),
];

#[test]
fn integer_arithmetic_is_right_or_an_error() {
    for (sql, name, least, greatest) in INTEGERS {
        let columns = format!("a {sql}, b {sql}");
        let out = format!("error {name} out of range in ");
        let case = |a: i128, b: i128, expression: &str, expected: &str| {
            let select = format!("SELECT {expression} AS r FROM s");
            check(&columns, &format!("{a},{b}\n"), &select, expected);
        };
        case(greatest, 0, "a + b", &greatest.to_string());
        case(
            greatest,
            1,
            "a + b",
            &format!("{out}s.a + s.b: {greatest} + 1"),
        );
        case(greatest, 1, "a - b", &(greatest - 1).to_string());
        case(least, 1, "a - b", &format!("{out}s.a - s.b: {least} - 1"));
        case(greatest, 2, "a * b", &out);
        case(greatest, 1, "a * b", &greatest.to_string());
        case(greatest, 0, "a / b", "error division by zero in s.a / s.b");
        case(greatest, 0, "a % b", "error division by zero in s.a % s.b");
        case(7, 2, "a / b", "3");
        case(7, 2, "a % b", "1");
        if least < 0 {
            case(least, -1, "a / b", &out);
            case(least, -1, "a % b", "0");
            case(least, 0, "-a", &format!("{out}-s.a: {least}"));
            case(greatest, 0, "-a", &(-greatest).to_string());
            case(least, 0, "ABS(a)", &out);
            case(least + 1, 0, "ABS(a)", &greatest.to_string());
        }
    }
    // The value below a NULL does not count, and an error is that of the first row.
    let nulls = "NULL,2147483647\n2147483647,NULL\n1,2\n";
    check(
        "a INT, b INT",
        nulls,
        "SELECT a + b AS r FROM s",
        "3; NULL; NULL",
    );
    check(
        "a INT, b INT",
        "1,1\n2147483647,3\n",
        "SELECT a * b AS r FROM s WHERE a > 5",
        "error integer out of range",
    );
    check(
        "a BIGINT",
        "9223372036854775807\n",
        "SELECT a + 1 AS r FROM s",
        "error bigint out of range in s.a + 1: 9223372036854775807 + 1",
    );
    check(
        "a BIGINT UNSIGNED, b BIGINT UNSIGNED",
        "5,6\n",
        "SELECT a - b AS r FROM s",
        "error bigint unsigned out of range",
    );
    check(
        "a INT",
        "65536\n",
        "SELECT COUNT(*) AS n FROM s GROUP BY a * a",
        "error integer out of range",
    );
}

#[test]
fn constants_are_folded_right_or_are_errors() {
    let case = |expression: &str, expected: &str| {
        check(
            "a INT",
            "1\n",
            &format!("SELECT {expression} AS r FROM s"),
            expected,
        );
    };
    case("9223372036854775806 + 1", "9223372036854775807");
    case("9223372036854775807 + 1", "error bigint out of range");
    case("-(-9223372036854775808)", "error bigint out of range");
    case("-9223372036854775808 / -1", "error bigint out of range");
    case("1 / 0", "error division by zero");
    case(
        "CAST(300 AS TINYINT)",
        "error tinyint out of range in CAST(300 AS tinyint): 300",
    );
    case(
        "CAST(9223372036854775807 AS INT)",
        "error integer out of range",
    );
    case("CASE WHEN a = 1 THEN 5 ELSE 1 / 0 END", "5");
    case("0.0 / -1", "0.0");
}

#[test]
fn casts_that_narrow_fit_or_are_errors() {
    for (sql, name, least, greatest) in INTEGERS {
        for (from, all) in [
            ("BIGINT", false),
            ("DECIMAL(38, 0)", true),
            ("DECIMAL(76, 0)", true),
        ] {
            let (below, above) = (least - 1, greatest + 1);
            let fits = |it: i128| all || i64::try_from(it).is_ok();
            let select = format!("SELECT CAST(a AS {sql}) AS r FROM s");
            let columns = format!("a {from}");
            for value in [least, greatest].into_iter().filter(|it| fits(*it)) {
                check(&columns, &format!("{value}\n"), &select, &value.to_string());
            }
            for value in [below, above].into_iter().filter(|it| fits(*it)) {
                let error = format!("error {name} out of range in CAST(s.a AS {name}): {value}");
                check(&columns, &format!("{value}\n"), &select, &error);
                let or_null = select.replace("CAST", "TRY_CAST");
                check(&columns, &format!("{value}\n"), &or_null, "NULL");
            }
        }
        for value in [
            "1e30",
            "-1e30",
            "NaN",
            "inf",
            "-inf",
            "18446744073709551616",
        ] {
            let select = format!("SELECT CAST(a AS {sql}) AS r FROM s");
            let error = format!("error {name} out of range");
            check("a DOUBLE", &format!("{value}\n"), &select, &error);
            check("a REAL", &format!("{value}\n"), &select, &error);
        }
    }
    let nearest = "0.5\n1.5\n2.5\n-0.5\n-1.5\n-2.5\nNULL\n";
    let select = "SELECT a, CAST(a AS INT) AS r FROM s";
    check(
        "a DOUBLE",
        nearest,
        select,
        "-0.5 0; -1.5 -2; -2.5 -2; 0.5 0; 1.5 2; 2.5 2; NULL NULL",
    );
    check(
        "a DECIMAL(3, 1)",
        nearest,
        select,
        "-0.5 -1; -1.5 -2; -2.5 -3; 0.5 1; 1.5 2; 2.5 3; NULL NULL",
    );
    check(
        "a DOUBLE",
        "1e39\n",
        "SELECT CAST(a AS REAL) AS r FROM s",
        "error real out of range",
    );
    check(
        "a DOUBLE",
        "1e-60\n",
        "SELECT CAST(a AS REAL) AS r FROM s",
        "error real out of range",
    );
    check(
        "a DOUBLE",
        "99.996\n",
        "SELECT CAST(a AS DECIMAL(4, 2)) AS r FROM s",
        "error decimal(4, 2) out of range",
    );
    check(
        "a INT",
        "100\n",
        "SELECT CAST(a AS DECIMAL(4, 2)) AS r FROM s",
        "error decimal(4, 2) out of range",
    );
    check(
        "a DECIMAL(9, 3)",
        "99.994\n",
        "SELECT CAST(a AS DECIMAL(4, 2)) AS r FROM s",
        "99.99",
    );
    check(
        "a DECIMAL(9, 3)",
        "99.996\n",
        "SELECT CAST(a AS DECIMAL(4, 2)) AS r FROM s",
        "error decimal(4, 2) out of range",
    );
}

#[test]
fn sums_of_integers_are_checked_at_the_end() {
    for (sql, _, least, greatest) in INTEGERS {
        let signed = least < 0;
        let (name, most) = match signed {
            true => ("bigint", i128::from(i64::MAX)),
            false => ("bigint unsigned", i128::from(u64::MAX)),
        };
        let columns = format!("a {sql}");
        let sum = "SELECT SUM(a) AS r FROM s";
        let two = (greatest * 2).to_string();
        if greatest < most {
            check(&columns, &format!("{greatest}\n{greatest}\n"), sum, &two);
            continue;
        }
        let out = format!("error {name} out of range in sum(");
        for rows in [[greatest, 1], [1, greatest]] {
            check_at_once(&columns, &format!("{}\n{}\n", rows[0], rows[1]), sum, &out);
        }
        check_at_once(
            &columns,
            &format!("{greatest}\n1\n"),
            "SELECT SUM(DISTINCT a) AS r FROM s",
            &out,
        );
        check(
            &columns,
            &format!("{greatest}\n{greatest}\n"),
            "SELECT SUM(DISTINCT a) AS r FROM s",
            &greatest.to_string(),
        );
        if signed {
            let back = "9223372036854775807\n1\n-1\n";
            check_at_once(&columns, back, sum, &greatest.to_string());
            check_at_once(
                &columns,
                back,
                "SELECT SUM(DISTINCT a) AS r FROM s",
                &greatest.to_string(),
            );
            let filtered = "SELECT SUM(a) FILTER (WHERE a <> 1) AS r FROM s";
            check(&columns, back, filtered, "9223372036854775806");
        }
    }
    let products = "SELECT SUM(a * b) AS r FROM s";
    check(
        "a INT, b INT",
        "65536,65536\n",
        products,
        "error integer out of range in s.a * s.b",
    );
    check(
        "a INT, b INT",
        "2147483647,1\n2147483647,1\n",
        products,
        "4294967294",
    );
    check(
        "a BIGINT",
        "NULL\nNULL\n",
        "SELECT SUM(a) AS r, AVG(a) AS m FROM s",
        "NULL NULL",
    );
    check(
        "k INT, a BIGINT",
        "1,NULL\n1,5\n2,NULL\n",
        "SELECT k, SUM(a) AS r, AVG(a) AS m FROM s GROUP BY k",
        "1 5 5.0; 2 NULL NULL",
    );
}

#[test]
fn sums_of_decimals_are_checked_at_the_end() {
    for digits in [38, 76] {
        let columns = format!("d DECIMAL({digits}, 2)");
        let greatest = format!("{}.99", "9".repeat(digits - 2));
        let out = format!("error decimal({digits}, 2) out of range in sum(");
        let twice = format!("{greatest}\n{greatest}\n");
        for sum in [
            "SELECT SUM(d) AS r FROM s",
            "SELECT SUM(d) AS r FROM s GROUP BY d IS NULL",
        ] {
            check_at_once(&columns, &twice, sum, &out);
            // On the way there the total has more digits than the type, and more bits.
            let back = format!("{twice}-{greatest}\n0.01\n-0.01\n");
            check_at_once(&columns, &back, sum, &greatest);
        }
        let distinct = "SELECT SUM(DISTINCT d) AS r FROM s";
        check(&columns, &twice, distinct, &greatest);
    }
    let thirds = "1.00\n0.00\n0.00\nNULL\n";
    for (csv, average) in [(thirds, "0.333333"), ("-0.01\n-0.01\n0.00\n", "-0.006667")] {
        check("d DECIMAL(9, 2)", csv, "SELECT AVG(d) AS r FROM s", average);
        let by_key = "SELECT AVG(d) AS r FROM s GROUP BY 1 = 1";
        check_at_once("d DECIMAL(9, 2)", csv, by_key, average);
    }
}

#[test]
fn averages_of_integers_are_rounded_once() {
    let average = "SELECT AVG(a) AS r, AVG(DISTINCT a) AS d FROM s";
    check(
        "a BIGINT",
        "9007199254740992\n-9007199254740993\n",
        average,
        "-0.5 -0.5",
    );
    check(
        "a BIGINT",
        "9223372036854775807\n9223372036854775807\n",
        average,
        "9.223372036854776e18 9.223372036854776e18",
    );
    check(
        "a BIGINT UNSIGNED",
        "18446744073709551615\n0\n",
        average,
        "9.223372036854776e18 9.223372036854776e18",
    );
    for (sql, ..) in INTEGERS {
        check(
            &format!("a {sql}"),
            "1\n2\n2\n",
            "SELECT AVG(a) AS r FROM s",
            "1.6666666666666667",
        );
        check(
            &format!("a {sql}"),
            "1\n2\n2\n",
            "SELECT AVG(DISTINCT a) AS r FROM s",
            "1.5",
        );
    }
}

#[test]
fn floats_compute_as_in_postgresql() {
    for sql in ["DOUBLE", "REAL"] {
        let columns = format!("a {sql}, b {sql}");
        let (big, small) = match sql {
            "DOUBLE" => ("1e308", "1e-308"),
            _ => ("3e38", "1e-38"),
        };
        let name = sql.to_lowercase();
        let out = format!("error {name} out of range");
        let case = |a: &str, b: &str, expression: &str, expected: &str| {
            let select = format!("SELECT {expression} AS r FROM s");
            check(&columns, &format!("{a},{b}\n"), &select, expected);
        };
        case("1", "0", "a / b", "error division by zero");
        case("1", "-0.0", "a / b", "error division by zero");
        case("0", "0", "a / b", "error division by zero");
        case("NaN", "0", "a / b", "NaN");
        case(big, big, "a + b", &out);
        case(big, &format!("-{big}"), "b - a", &out);
        case(big, big, "a * b", &out);
        case(big, small, "a / b", &out);
        case(small, small, "a * b", &out);
        case(small, big, "a / b", &out);
        case(small, "0", "a * b", "0.0");
        case("inf", "inf", "a - b", "NaN");
        case("inf", "1", "a / b", "inf");
        case("1", "-inf", "a / b", "0.0");
        case("0", "-1", "a * b", "0.0");
        case("0", "0", "-a", "0.0");
        case("NaN", "0", "-a", "NaN");
    }
}

#[test]
fn every_zero_is_one_and_every_nan_is_one() {
    let case = |csv: &str, select: &str, expected: &str| {
        for sql in ["DOUBLE", "REAL"] {
            check(&format!("id INT, a {sql}, b {sql}"), csv, select, expected);
        }
    };
    let zeros = "1,-0.0,0.0\n2,0.0,-0.0\n";
    let nans = "1,NaN,NaN\n";
    let compared = "SELECT a = b AS e, a <> b AS n, a < b AS l, a >= b AS g, a BETWEEN b AND b AS w, \
                    NULLIF(a, b) AS u, CASE a WHEN b THEN 1 ELSE 0 END AS c, a IN (b, 5) AS i, \
                    a IS DISTINCT FROM b AS d FROM s";
    case(
        "1,-0.0,0.0\n",
        compared,
        "true false false true true NULL 1 true false",
    );
    case(
        "1,0.0,-0.0\n",
        compared,
        "true false false true true NULL 1 true false",
    );
    case(
        nans,
        compared,
        "true false false true true NULL 1 true false",
    );
    case(
        "1,inf,NaN\n",
        "SELECT a < b AS l, b > a AS g, a = b AS e FROM s",
        "true true false",
    );
    // Computed as they are grouped, compared and counted.
    for expression in [
        "a",
        "-a",
        "a * -1",
        "b",
        "ROUND(a)",
        "CEIL(a)",
        "a - b",
        "TRUNC(a)",
        "0 / (a - 1)",
    ] {
        let count = format!("SELECT {expression} AS x, COUNT(*) AS n FROM s GROUP BY {expression}");
        case(zeros, &count, "0.0 2");
        case(
            zeros,
            &format!("SELECT COUNT(DISTINCT {expression}) AS n FROM s"),
            "1",
        );
        case(
            zeros,
            &format!("SELECT DISTINCT {expression} AS x FROM s"),
            "0.0",
        );
        case(
            zeros,
            &format!("SELECT {expression} = 0 AS e, {expression} < 0 AS l FROM s"),
            "true false; true false",
        );
        case(
            zeros,
            &format!("SELECT {expression} IN (0, 7) AS i FROM s"),
            "true; true",
        );
    }
    case(
        "1,-0.4,0\n2,0.4,0\n",
        "SELECT ROUND(a) AS x, COUNT(*) AS n FROM s GROUP BY ROUND(a)",
        "0.0 2",
    );
    case(
        "1,-0.4,0\n2,0,0\n",
        "SELECT CEIL(a) AS x, COUNT(*) AS n FROM s GROUP BY CEIL(a)",
        "0.0 2",
    );
    case(
        "1,inf,inf\n2,NaN,1\n",
        "SELECT a - b AS x, COUNT(*) AS n FROM s GROUP BY a - b",
        "NaN 2",
    );
    case(
        "1,inf,inf\n2,-inf,-inf\n",
        "SELECT COUNT(DISTINCT b - a) AS n FROM s",
        "1",
    );
    case(nans, "SELECT -a = a AS x, -a > 5 AS y FROM s", "true true");
    case(
        "1,-0.0,1\n",
        "SELECT a AS x, -0.0 = a AS y FROM s",
        "0.0 true",
    );
    check(
        "a VARCHAR",
        "-0\n0\n",
        "SELECT CAST(a AS DOUBLE) AS x, COUNT(*) AS n FROM s GROUP BY CAST(a AS DOUBLE)",
        "0.0 2",
    );
    check(
        "a VARCHAR",
        "-NaN\nnan\n",
        "SELECT CAST(a AS DOUBLE) AS x, COUNT(*) AS n FROM s GROUP BY CAST(a AS DOUBLE)",
        "NaN 2",
    );
}

#[test]
fn the_greatest_float_is_nan() {
    let case = |csv: &str, select: &str, expected: &str| {
        for sql in ["DOUBLE", "REAL"] {
            check(&format!("a {sql}"), csv, select, expected);
        }
    };
    let extremes = "SELECT MIN(a) AS l, MAX(a) AS g FROM s";
    for rows in ["1\n9\nNaN\n4\n", "NaN\n4\n9\n1\n", "4\n1\n9\nNaN\n"] {
        case(rows, extremes, "1.0 NaN");
    }
    case("NaN\n", extremes, "NaN NaN");
    case("inf\ninf\n", extremes, "inf inf");
    case("-inf\n-inf\n", extremes, "-inf -inf");
    case("NULL\ninf\n-inf\n", extremes, "-inf inf");
    case("NULL\n", extremes, "NULL NULL");
    case("-0.0\n0.0\n", extremes, "0.0 0.0");
    case(
        "1\nNaN\n",
        "SELECT MIN(-a) AS l, MAX(-a) AS g FROM s",
        "-1.0 NaN",
    );
    case(
        "inf\n-inf\n",
        "SELECT SUM(a) = MAX(a * 0) AS same FROM s",
        "true",
    );
    case(
        "inf\n-inf\n",
        "SELECT SUM(a) AS s, AVG(a) AS m FROM s",
        "NaN NaN",
    );
}

#[test]
fn a_condition_guards_what_stands_behind_it() {
    let rows = "1,0\n5,2\n6,3\n7,1\n8,NULL\n";
    for sql in ["INT", "BIGINT UNSIGNED", "DOUBLE", "REAL"] {
        let columns = format!("a {sql}, b {sql}");
        let count = |condition: &str, expected: &str| {
            let select = format!("SELECT COUNT(*) AS n FROM s WHERE {condition}");
            check(&columns, rows, &select, expected);
            let select = format!("SELECT COUNT(*) FILTER (WHERE {condition}) AS n FROM s");
            let rows = Rows {
                columns: &columns,
                csv: rows,
                whole: false,
            };
            assert_eq!(rows.view(&select, 1, true), expected, "{select}");
        };
        count("b <> 0 AND a / b >= 2", "3");
        count("b = 0 OR a / b >= 2", "4");
        count("b > 0 AND a / b > 1 AND a / b < 3", "2");
        count("CASE WHEN b = 0 THEN FALSE ELSE a / b >= 2 END", "3");
        count("NOT (b = 0 OR a / b < 2)", "3");
    }
    let select = "SELECT a, b <> 0 AND a / b >= 2 AS r FROM s";
    check(
        "a INT, b INT",
        rows,
        select,
        "1 false; 5 true; 6 true; 7 true; 8 NULL",
    );
    let select = "SELECT COUNT(*) AS n FROM s WHERE a <> 'x' AND CAST(a AS INT) > 1";
    check("a VARCHAR", "x\n1\n2\n3\n4\n", select, "3");
}
