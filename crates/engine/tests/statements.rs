//! Ordinary statements, each either right or refused: the files in `statements/`.
//!
//! A file is in the sqllogictest format. For every `query` three answers are compared: the rows
//! written in the file, what DataFusion makes of the statement as a batch over the same rows, and
//! what a view of the statement holds once the same rows have passed through it. The last is done
//! with one and with two workers, and with the rows in one batch and one by one. Where a batch
//! engine needs other words (it has no windows) they stand above the statement as `# batch: ...`.
//! A `statement error` must be refused with exactly that SQLSTATE and message; one without a SQLSTATE
//! fails on the rows, and must fail as a batch too.
//!
//! `HEADWATER_BLESS=1 cargo test -p headwater --test statements` writes the answers anew, taken
//! from the batch engine, never from a view.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use headwater::{Db, Record as _, Timestamp};
use sqllogictest::{DefaultColumnType, ExpectedError, QueryExpect, Record, StatementExpect};

#[derive(Debug, Clone, headwater::Record)]
struct Trade {
    id: i64,
    symbol: Option<String>,
    price: Option<f64>,
    qty: Option<i64>,
    side: Option<String>,
    ok: Option<bool>,
    ts: Timestamp,
}

#[derive(Debug, Clone, headwater::Record)]
#[allow(non_snake_case)]
struct Quote {
    symbol: Option<String>,
    Bid: Option<f64>,
    ask: Option<f64>,
    ts: Timestamp,
}

const SOURCES: &str = "
    CREATE SOURCE trades (id BIGINT NOT NULL, symbol VARCHAR, price DOUBLE, qty BIGINT, side VARCHAR,
        ok BOOLEAN, ts TIMESTAMP NOT NULL, WATERMARK FOR ts AS ts - INTERVAL '1 second');
    CREATE SOURCE quotes (symbol VARCHAR, Bid DOUBLE, ask DOUBLE, ts TIMESTAMP NOT NULL,
        WATERMARK FOR ts AS ts);";

/// 2024-01-01 00:00:00, in microseconds since 1970.
const MIDNIGHT: i64 = 1_704_067_200_000_000;

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_micros(MIDNIGHT + (seconds * 1e6) as i64)
}

/// Rows with NULLs, a duplicate, an empty string, zero and less, and two out of order, yet not late.
/// Prices are sums of powers of two, so that no order of adding them changes the sum.
fn trades() -> Vec<Trade> {
    type Row = (
        Option<&'static str>,
        Option<f64>,
        Option<i64>,
        Option<&'static str>,
        Option<bool>,
        f64,
    );
    let rows: [Row; 12] = [
        (
            Some("A"),
            Some(10.5),
            Some(100),
            Some("buy"),
            Some(true),
            0.5,
        ),
        (
            Some("B"),
            Some(20.25),
            Some(50),
            Some("sell"),
            Some(false),
            1.0,
        ),
        (Some("A"), Some(11.0), None, Some("buy"), None, 1.5),
        (Some("C"), None, Some(10), None, Some(true), 0.875),
        (None, Some(5.0), Some(5), Some("sell"), Some(false), 2.25),
        (
            Some("B"),
            Some(19.75),
            Some(75),
            Some("buy"),
            Some(true),
            3.0,
        ),
        (
            Some("A"),
            Some(10.5),
            Some(100),
            Some("buy"),
            Some(true),
            3.5,
        ),
        (
            Some("C"),
            Some(-1.5),
            Some(-20),
            Some("sell"),
            Some(true),
            5.0,
        ),
        (
            Some("A"),
            Some(12.25),
            Some(30),
            Some("sell"),
            Some(false),
            7.75,
        ),
        (Some("B"), Some(0.0), Some(0), Some("buy"), None, 7.5),
        (Some(""), Some(3.5), Some(7), Some(""), Some(false), 10.0),
        (
            Some("A"),
            Some(9.75),
            Some(40),
            Some("buy"),
            Some(true),
            12.125,
        ),
    ];
    let trade = |(id, (symbol, price, qty, side, ok, second)): (i64, Row)| Trade {
        id,
        symbol: symbol.map(Into::into),
        price,
        qty,
        side: side.map(Into::into),
        ok,
        ts: at(second),
    };
    (1..).zip(rows).map(trade).collect()
}

fn quotes() -> Vec<Quote> {
    let rows = [
        (Some("A"), Some(10.0), Some(10.5), 0.25),
        (Some("B"), Some(20.0), Some(20.5), 1.25),
        (Some("C"), Some(1.0), Some(1.5), 4.0),
        (Some("A"), Some(11.0), Some(11.5), 6.0),
        (None, Some(2.0), None, 8.0),
    ];
    let quote = |(symbol, bid, ask, second): (Option<&str>, Option<f64>, Option<f64>, f64)| Quote {
        symbol: symbol.map(Into::into),
        Bid: bid,
        ask,
        ts: at(second),
    };
    rows.into_iter().map(quote).collect()
}

/// The types of an answer's columns, a letter each, and its rows as text, sorted.
#[derive(Debug, PartialEq)]
struct Answer {
    types: String,
    rows: Vec<String>,
}

impl Answer {
    fn new(schema: &SchemaRef, batches: &[RecordBatch]) -> Self {
        let types = schema
            .fields()
            .iter()
            .map(|field| letter(field.data_type()));
        let mut rows: Vec<String> = batches
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(|row| line(batch, row)))
            .collect();
        rows.sort_unstable();
        Self {
            types: types.collect(),
            rows,
        }
    }
}

fn letter(data_type: &DataType) -> char {
    match data_type {
        other if other.is_integer() => 'I',
        other if other.is_numeric() => 'R',
        DataType::Boolean => 'B',
        _ => 'T',
    }
}

fn line(batch: &RecordBatch, row: usize) -> String {
    let columns = batch.columns().iter();
    let values: Vec<String> = columns.map(|column| value(column.as_ref(), row)).collect();
    values.join(" | ")
}

/// A value as text. Floating point numbers to 12 digits: adding in another order may change more.
fn value(column: &dyn Array, row: usize) -> String {
    let number = match column.data_type() {
        _ if column.is_null(row) => return "NULL".into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row),
        DataType::Float32 => f64::from(column.as_primitive::<Float32Type>().value(row)),
        _ => {
            let options = FormatOptions::default();
            let text = ArrayFormatter::try_new(column, &options)
                .unwrap()
                .value(row)
                .to_string();
            return if text.is_empty() {
                "(empty)".into()
            } else {
                text
            };
        }
    };
    let rounded: f64 = format!("{number:.11e}").parse().unwrap_or(number);
    // 0 and -0 are one number.
    format!("{}", rounded + 0.0)
}

/// What DataFusion answers over all rows at once.
fn batch_answer(sql: &str) -> Result<Answer, String> {
    let mut config = SessionConfig::new().with_target_partitions(1);
    let parser = &mut config.options_mut().sql_parser;
    parser.enable_ident_normalization = false;
    parser.map_string_types_to_utf8view = false;
    let context = SessionContext::new_with_config(config);
    let tables = [
        ("trades", Trade::to_columns(&trades()).unwrap()),
        ("quotes", Quote::to_columns(&quotes()).unwrap()),
    ];
    for (name, batch) in tables {
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
        context.register_table(name, Arc::new(table)).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let frame = context.sql(sql).await.map_err(|error| error.to_string())?;
        let plan = frame
            .create_physical_plan()
            .await
            .map_err(|error| error.to_string())?;
        let (schema, task) = (plan.schema(), context.task_ctx());
        let batches = datafusion::physical_plan::collect(plan, task).await;
        Ok(Answer::new(
            &schema,
            &batches.map_err(|error| error.to_string())?,
        ))
    })
}

/// How the rows reach a view.
#[derive(Debug, Clone, Copy)]
struct Way {
    workers: usize,
    one_by_one: bool,
}

const WAYS: [Way; 3] = [
    Way {
        workers: 1,
        one_by_one: false,
    },
    Way {
        workers: 1,
        one_by_one: true,
    },
    Way {
        workers: 2,
        one_by_one: false,
    },
];

/// What a view of the statement holds when all rows have passed, or `SQLSTATE: message`.
fn continuous_answer(sql: &str, way: Way) -> Result<Answer, String> {
    let db = Db::builder().workers(way.workers).in_memory().unwrap();
    db.execute(SOURCES).unwrap();
    db.execute(&format!("CREATE VIEW v AS {sql}"))
        .map_err(|error| {
            let [error] = error.sql_errors() else {
                return error.to_string();
            };
            assert!(error.position.is_some(), "no place: {error:?}");
            format!("{}: {}", error.sqlstate, error.message)
        })?;
    let (to_trades, to_quotes) = (db.source("trades").unwrap(), db.source("quotes").unwrap());
    let (mut trades, mut quotes) = (trades().into_iter(), quotes().into_iter());
    loop {
        let (trade, quote) = (trades.next(), quotes.next());
        if trade.is_none() && quote.is_none() {
            break;
        }
        trade
            .into_iter()
            .for_each(|trade| to_trades.push(trade).unwrap());
        quote
            .into_iter()
            .for_each(|quote| to_quotes.push(quote).unwrap());
        if way.one_by_one {
            db.settle().unwrap();
        }
    }
    db.close_source("trades").unwrap();
    db.close_source("quotes").unwrap();
    db.settle().unwrap();
    let batches = db
        .query("SELECT * FROM v")
        .map_err(|error| error.to_string())?;
    let schema = batches.first().map_or_else(
        || Arc::clone(db.subscribe_batches("v").unwrap().schema()),
        RecordBatch::schema,
    );
    Ok(Answer::new(&schema, &batches))
}

/// One statement of a file.
struct Case {
    line: u32,
    sql: String,
    /// The same for a batch engine, where it needs other words.
    batch: Option<String>,
    expected: Result<Answer, String>,
}

/// A file as it is read and as it can be written again.
enum Part {
    Case(Case),
    Comment(Vec<String>),
}

fn read(path: &Path) -> Vec<Part> {
    const BATCH: &str = " batch: ";
    let mut batch: Option<String> = None;
    let mut parts = Vec::new();
    for record in sqllogictest::parse_file::<DefaultColumnType>(path).unwrap() {
        let (loc, sql, expected) = match record {
            Record::Comment(lines) if lines.iter().any(|line| line.starts_with(BATCH)) => {
                let words: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
                batch = Some(words.join(" ").trim_start_matches("batch: ").to_owned());
                continue;
            }
            Record::Comment(lines) => {
                parts.push(Part::Comment(lines));
                continue;
            }
            Record::Query {
                loc, sql, expected, ..
            } => match expected {
                QueryExpect::Results { types, results, .. } => {
                    let types = types.iter().map(|column| match column {
                        DefaultColumnType::Text => 'T',
                        DefaultColumnType::Integer => 'I',
                        DefaultColumnType::FloatingPoint => 'R',
                        DefaultColumnType::Any => 'B',
                    });
                    let mut rows = results;
                    rows.sort_unstable();
                    (
                        loc,
                        sql,
                        Ok(Answer {
                            types: types.collect(),
                            rows,
                        }),
                    )
                }
                QueryExpect::Error(error) => panic!("{loc}: write statement error: {error:?}"),
            },
            Record::Statement {
                loc, sql, expected, ..
            } => match expected {
                StatementExpect::Error(ExpectedError::Multiline(text)) => {
                    (loc, sql, Err(text.trim().to_owned()))
                }
                other => panic!("{loc}: {other:?}"),
            },
            Record::Newline => continue,
            other => panic!("{other:?} stands for nothing here"),
        };
        let batch = batch.take();
        parts.push(Part::Case(Case {
            line: loc.line(),
            sql,
            batch,
            expected,
        }));
    }
    parts
}

fn write(path: &Path, parts: &[Part]) {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Comment(lines) => {
                for line in lines {
                    writeln!(text, "#{line}").unwrap();
                }
                writeln!(text).unwrap();
            }
            Part::Case(case) => {
                if let Some(batch) = &case.batch {
                    writeln!(text, "# batch: {batch}").unwrap();
                }
                match answer_to_bless(case) {
                    Ok(answer) => {
                        let types = answer.types.replace('B', "?");
                        let rows: String =
                            answer.rows.iter().map(|row| format!("{row}\n")).collect();
                        writeln!(text, "query {types} rowsort\n{}\n----\n{rows}", case.sql)
                            .unwrap();
                    }
                    Err(why) => {
                        writeln!(text, "statement error\n{}\n----\n{why}\n\n", case.sql).unwrap();
                    }
                }
            }
        }
    }
    std::fs::write(path, text).unwrap();
}

/// The batch engine's answer to what is accepted; else why it is refused.
fn answer_to_bless(case: &Case) -> Result<Answer, String> {
    continuous_answer(&case.sql, WAYS[0])?;
    let batch = case.batch.as_ref().unwrap_or(&case.sql);
    Ok(batch_answer(batch).unwrap_or_else(|why| panic!("{batch}: {why}")))
}

/// What is wrong with a case, if anything is.
fn check(case: &Case) -> Vec<String> {
    let mut wrong = Vec::new();
    let batch = case.batch.as_ref().unwrap_or(&case.sql);
    let answer = match &case.expected {
        Ok(_) => Some(batch_answer(batch)),
        Err(why) if is_refusal(why) => None,
        Err(_) => Some(batch_answer(batch)),
    };
    let agrees = match (&answer, &case.expected) {
        (Some(Ok(answer)), Ok(expected)) => answer == expected,
        (Some(answer), expected) => answer.is_err() && expected.is_err(),
        (None, _) => true,
    };
    if !agrees {
        wrong.push(format!("batch: {answer:#?}"));
    }
    for way in WAYS {
        let answer = continuous_answer(&case.sql, way);
        if answer != case.expected {
            wrong.push(format!("{way:?}: {answer:#?}"));
        }
        if answer.as_ref().is_err_and(|why| is_refusal(why)) {
            break;
        }
    }
    wrong
}

/// Whether an error is `SQLSTATE: message`.
fn is_refusal(why: &str) -> bool {
    let is_code = |code: &str| code.len() == 5 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    why.split_once(": ").is_some_and(|(code, _)| is_code(code))
}

/// Runs one file, which must have at least so many statements.
fn run(name: &str, least: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/statements")
        .join(name);
    let parts = read(&path);
    if std::env::var_os("HEADWATER_BLESS").is_some() {
        write(&path, &parts);
        return;
    }
    let cases: Vec<&Case> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Case(case) => Some(case),
            Part::Comment(_) => None,
        })
        .collect();
    assert!(
        cases.len() >= least,
        "{name} has only {} statements",
        cases.len()
    );
    let mut failed = 0;
    for case in &cases {
        for wrong in check(case) {
            failed += 1;
            println!(
                "{name}:{}: {}\nexpected {:#?}\n{wrong}\n",
                case.line, case.sql, case.expected
            );
        }
    }
    assert_eq!(failed, 0, "{failed} answers in {name} are not as written");
}

#[test]
fn analytical_statements() {
    run("ordinary.slt", 200);
}

#[test]
fn windowed_statements() {
    run("windows.slt", 30);
}
