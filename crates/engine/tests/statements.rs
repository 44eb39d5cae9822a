//! Ordinary statements, each either right or refused: the files in `statements/`.
//!
//! A file is in the sqllogictest format. For every `query` three answers are compared: the rows
//! in the file, DataFusion's answer to the statement as a batch over the same rows, and the content of
//! a view of the statement after the same rows have passed through it. The view is checked with one
//! and with two workers, and with the rows in one batch, one by one and by threes. Where a batch engine
//! needs another statement (it has no windows), `# batch: ...` above the statement has it. A
//! `statement error` must be refused with exactly that SQLSTATE and message; one without a SQLSTATE
//! fails on the rows, and must fail as a batch too. The sources and their rows are in
//! `statements/data/`.
//!
//! `HEADWATER_BLESS=1 cargo test -p headwater --test statements` writes the answers into the files,
//! taken from the batch engine, never from a view.

mod batch;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use batch::Table;
use headwater::Db;
use sqllogictest::{DefaultColumnType, ExpectedError, QueryExpect, Record, StatementExpect};

fn path(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/statements");
    folder.join(name)
}

/// The sources that the statements of a file read, and their rows.
struct Data {
    sources: Vec<String>,
    /// One batch each.
    tables: Vec<Table>,
}

impl Data {
    fn read(name: &str) -> Self {
        let db = Db::in_memory().unwrap();
        let (mut sources, mut tables) = (Vec::new(), Vec::new());
        for record in sqllogictest::parse_file::<DefaultColumnType>(path(name)).unwrap() {
            let Record::Statement { sql, .. } = record else {
                continue;
            };
            let Some(push) = sql.strip_prefix("push ") else {
                db.execute(&sql).unwrap();
                sources.push(sql);
                continue;
            };
            let (name, lines) = push.split_once('\n').unwrap();
            let schema = Arc::clone(db.source_untyped(name).unwrap().schema());
            let rows = batch::from_csv(&schema, lines).unwrap();
            tables.push(Table {
                name: name.to_owned(),
                batches: vec![concat_batches(&schema, &rows).unwrap()],
                schema,
            });
        }
        Self { sources, tables }
    }
}

/// The types of an answer's columns, a letter each, and its rows as text, sorted.
#[derive(Debug)]
struct Answer {
    types: String,
    rows: Vec<String>,
    /// The exact types; `None` in a file.
    schema: Option<SchemaRef>,
}

impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        self.types == other.types && self.rows == other.rows
    }
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
            schema: Some(Arc::clone(schema)),
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

/// DataFusion's answer over all rows at once.
fn batch_answer(data: &Data, sql: &str) -> Result<Answer, String> {
    let answer = batch::answer(&data.tables, sql)?;
    Ok(Answer::new(&answer.schema, &answer.batches))
}

/// How the rows reach a view.
#[derive(Debug, Clone, Copy)]
struct Way {
    workers: usize,
    rows_per_step: usize,
}

const ALL: usize = usize::MAX;

const WAYS: [Way; 4] = {
    const fn way(workers: usize, rows_per_step: usize) -> Way {
        Way {
            workers,
            rows_per_step,
        }
    }
    [way(1, ALL), way(1, 1), way(2, ALL), way(2, 3)]
};

/// The content of a view of the statement after all rows, or `SQLSTATE: message`.
fn continuous_answer(data: &Data, sql: &str, way: Way) -> Result<Answer, String> {
    let db = Db::builder().workers(way.workers).in_memory().unwrap();
    for source in &data.sources {
        db.execute(source).unwrap();
    }
    db.execute(&format!("CREATE VIEW v AS {sql}"))
        .map_err(|error| {
            let [error] = error.sql_errors() else {
                return error.to_string();
            };
            assert!(error.position.is_some(), "no position: {error:?}");
            format!("{}: {}", error.sqlstate, error.message)
        })?;
    let sources = data.tables.iter().map(|table| {
        let source = db.source_untyped(&table.name).unwrap();
        (source, &table.batches[0])
    });
    let sources: Vec<_> = sources.collect();
    let most = sources.iter().map(|(_, rows)| rows.num_rows()).max();
    for from in (0..most.unwrap_or(0)).step_by(way.rows_per_step) {
        for (source, rows) in &sources {
            let left = rows.num_rows().saturating_sub(from);
            if left > 0 {
                let rows = rows.slice(from, left.min(way.rows_per_step));
                source.push_arrow(rows).unwrap();
            }
        }
        db.settle().unwrap();
    }
    for table in &data.tables {
        db.close_source(&table.name).unwrap();
    }
    db.settle().unwrap();
    let batches = db
        .query("SELECT * FROM v")
        .map_err(|error| error.to_string())?;
    let schema = batches.first().map_or_else(
        || without_diff(db.subscribe_batches("v").unwrap().schema()),
        RecordBatch::schema,
    );
    Ok(Answer::new(&schema, &batches))
}

fn without_diff(schema: &SchemaRef) -> SchemaRef {
    let columns = schema.fields().iter().filter(|it| it.name() != "_diff");
    Arc::new(Schema::new(columns.cloned().collect::<Vec<_>>()))
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
                            schema: None,
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
            other => panic!("{other:?} has no meaning here"),
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

fn write(path: &Path, data: &Data, parts: &[Part]) {
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
                match answer_to_bless(data, case) {
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
fn answer_to_bless(data: &Data, case: &Case) -> Result<Answer, String> {
    continuous_answer(data, &case.sql, WAYS[0])?;
    let batch = case.batch.as_ref().unwrap_or(&case.sql);
    Ok(batch_answer(data, batch).unwrap_or_else(|why| panic!("{batch}: {why}")))
}

/// What is wrong with a case, if anything is.
fn check(data: &Data, case: &Case) -> Vec<String> {
    let mut wrong = Vec::new();
    let batch = case.batch.as_ref().unwrap_or(&case.sql);
    let batch_answer = match &case.expected {
        Err(why) if is_refusal(why) => None,
        _ => Some(batch_answer(data, batch)),
    };
    let agrees = match (&batch_answer, &case.expected) {
        (Some(Ok(answer)), Ok(expected)) => answer == expected,
        (Some(answer), expected) => answer.is_err() && expected.is_err(),
        (None, _) => true,
    };
    if !agrees {
        wrong.push(format!("batch: {batch_answer:#?}"));
    }
    for way in WAYS {
        let answer = continuous_answer(data, &case.sql, way);
        if answer != case.expected {
            wrong.push(format!("{way:?}: {answer:#?}"));
        } else if let (Ok(stream), Some(Ok(batch)), None) = (&answer, &batch_answer, &case.batch)
            && let (Some(stream), Some(batch)) = (&stream.schema, &batch.schema)
        {
            wrong.extend(batch::type_difference(stream, batch));
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

/// Runs one file, which must have at least `least` statements, over a data set.
fn run(name: &str, data: &str, least: usize) {
    let (path, data) = (path(name), Data::read(data));
    let parts = read(&path);
    if std::env::var_os("HEADWATER_BLESS").is_some() {
        write(&path, &data, &parts);
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
        for wrong in check(&data, case) {
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
    run("ordinary.slt", "data/sparse.slt", 280);
}

#[test]
fn windowed_statements() {
    run("windows.slt", "data/sparse.slt", 30);
}

#[test]
fn statements_over_fees() {
    run("fees.slt", "data/fees.slt", 200);
}

#[test]
fn statements_over_values_that_hurt() {
    run("values.slt", "data/values.slt", 45);
}
