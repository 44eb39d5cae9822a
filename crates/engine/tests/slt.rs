//! SQL behaviour as data: runs every script in `slt/` with one worker and with two.
//!
//! A script is in the format of sqllogictest. Beside SQL, a record may be one of
//!
//! | record | what it does |
//! |---|---|
//! | `push NAME`, then lines of CSV | pushes the lines into the source, one step; `NULL` is NULL |
//! | `watermark NAME TIME` | says that nothing earlier will come |
//! | `close NAME` | ends the source, so that all windows close |
//! | `results NAME` | the net rows that a source, stream, view, `__late` or `__bad` has given since it was created |
//! | `continuously SELECT ...` | creates a view of the SELECT over the script's sources in a database of its own, pushes all rows that the script has pushed before, in steps of three, and reads the view |
//!
//! An answer of `continuously` must also be what DataFusion gives for the same rows in one batch;
//! TUMBLE is asked for as DATE_BIN there (unless within a subquery); other windows have only the rows
//! that the script lists.
//!
//! `HEADWATER_SLT_UPDATE=1` writes the answers into the scripts. Read the diff before you believe it.

mod batch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::csv::ReaderBuilder;
use arrow::datatypes::Schema;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use headwater::{Db, Event, Kind, Outcome, Subscription};
use sqllogictest::{DBOutput, DefaultColumnType, Runner};

use batch::{Rows, Table};

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Engine(#[from] headwater::Error),
    #[error("{0}")]
    Script(String),
}

impl From<String> for Failed {
    fn from(what: String) -> Self {
        Self::Script(what)
    }
}

type Answer = DBOutput<DefaultColumnType>;

/// What a source, a stream or a view has given.
struct Given {
    events: Subscription,
    batches: Vec<RecordBatch>,
}

struct Script {
    workers: usize,
    db: Db,
    /// The CREATE SOURCEs.
    sources: Vec<String>,
    /// What was pushed.
    tables: Vec<Table>,
    given: BTreeMap<String, Given>,
}

fn open(workers: usize) -> Db {
    Db::builder()
        .workers(workers)
        .in_memory()
        .expect("a database")
}

impl Script {
    fn new(workers: usize) -> Self {
        Self {
            workers,
            db: open(workers),
            sources: Vec::new(),
            tables: Vec::new(),
            given: BTreeMap::new(),
        }
    }

    fn directive(&mut self, sql: &str) -> Result<Answer, Failed> {
        let (word, rest) = sql.split_once(char::is_whitespace).unwrap_or((sql, ""));
        match word {
            "push" => self.push(rest),
            "watermark" => self.watermark(rest),
            "close" => {
                self.db.close_source(rest.trim())?;
                self.db.settle()?;
                Ok(DBOutput::StatementComplete(0))
            }
            "results" => self.results(rest.trim()),
            "continuously" => self.continuously(rest),
            _ => self.execute(sql),
        }
    }

    fn execute(&mut self, sql: &str) -> Result<Answer, Failed> {
        let mut answer = DBOutput::StatementComplete(0);
        for outcome in self.db.execute(sql)? {
            match outcome {
                Outcome::Created { kind, name } => self.created(kind, &name, sql)?,
                Outcome::Rows { schema, batches } => answer = shown(&schema, &batches)?,
                Outcome::Dropped { names } => self.given.retain(|name, _| !names.contains(name)),
                Outcome::Unchanged { .. }
                | Outcome::Altered { .. }
                | Outcome::Started { .. }
                | Outcome::Lifecycle { .. }
                | Outcome::Subscribed(_) => {}
            }
        }
        Ok(answer)
    }

    fn created(&mut self, kind: Kind, name: &str, sql: &str) -> Result<(), Failed> {
        if kind == Kind::Source {
            let schema = Arc::clone(self.db.source_untyped(name)?.schema());
            self.sources.push(sql.to_owned());
            self.tables.push(Table {
                name: name.to_owned(),
                schema,
                batches: Vec::new(),
            });
        }
        for name in [
            name.to_owned(),
            format!("{name}__late"),
            format!("{name}__bad"),
        ] {
            if let Ok(events) = self.db.subscribe_batches(&name) {
                self.given.insert(
                    name,
                    Given {
                        events,
                        batches: Vec::new(),
                    },
                );
            }
        }
        Ok(())
    }

    fn push(&mut self, text: &str) -> Result<Answer, Failed> {
        let (name, lines) = text.split_once('\n').unwrap_or((text, ""));
        let source = self.db.source_untyped(name.trim())?;
        let null = "^NULL$".parse().expect("a pattern");
        let reader = ReaderBuilder::new(Arc::clone(source.schema()))
            .with_null_regex(null)
            .build(lines.as_bytes());
        let reader = reader.map_err(|error| error.to_string())?;
        let mut pushed = 0;
        for rows in reader {
            let rows = rows.map_err(|error| error.to_string())?;
            pushed += rows.num_rows();
            let table = self.tables.iter_mut().find(|it| it.name == source.name());
            table
                .ok_or("not created here".to_owned())?
                .batches
                .push(rows.clone());
            source.push_arrow(rows).map_err(|error| error.to_string())?;
        }
        self.db.settle()?;
        Ok(DBOutput::StatementComplete(pushed as u64))
    }

    fn watermark(&mut self, text: &str) -> Result<Answer, Failed> {
        let (name, at) = text
            .trim()
            .split_once(' ')
            .ok_or("watermark NAME TIME".to_owned())?;
        let at = arrow::compute::kernels::cast_utils::string_to_timestamp_nanos(at.trim());
        let at = at.map_err(|error| error.to_string())?;
        self.db.source_untyped(name)?.watermark(at / 1_000);
        self.db.settle()?;
        Ok(DBOutput::StatementComplete(0))
    }

    fn results(&mut self, name: &str) -> Result<Answer, Failed> {
        // A subscription begins between steps.
        self.db.settle()?;
        let given = self
            .given
            .get_mut(name)
            .ok_or(format!("nothing is called {name}"))?;
        while let Some(event) = given.events.try_next()? {
            match event {
                Event::Rows(rows) => given.batches.push(rows),
                Event::Missed { rows } => return Err(format!("{rows} rows missed").into()),
                Event::Gap { reason, .. } => return Err(reason.into()),
            }
        }
        let schema = given.events.schema();
        let changes = schema
            .fields()
            .last()
            .is_some_and(|it| it.name() == "_diff");
        if changes {
            let rows = Rows::net(&given.batches).lines();
            return Ok(DBOutput::Rows {
                types: types(schema.fields().len() - 1),
                rows,
            });
        }
        shown(schema, &given.batches)
    }

    fn continuously(&mut self, select: &str) -> Result<Answer, Failed> {
        let db = open(self.workers);
        for source in &self.sources {
            db.execute(source)?;
        }
        db.execute(&format!("CREATE VIEW answer AS {select}"))?;
        for table in &self.tables {
            let source = db.source_untyped(&table.name)?;
            for rows in &table.batches {
                for from in (0..rows.num_rows()).step_by(3) {
                    let rows = rows.slice(from, 3.min(rows.num_rows() - from));
                    source.push_arrow(rows).map_err(|error| error.to_string())?;
                    db.settle()?;
                }
            }
        }
        for table in &self.tables {
            db.close_source(&table.name)?;
        }
        db.settle()?;
        let answer = db.query("SELECT * FROM answer");
        if let Some(select) = in_batch(select) {
            self.compare(&answer, &select)?;
        }
        let answer = answer?;
        let schema = db.subscribe_batches("answer")?.schema().clone();
        let columns = schema
            .fields()
            .iter()
            .filter(|it| it.name() != "_diff")
            .cloned();
        shown(&Schema::new(columns.collect::<Vec<_>>()), &answer)
    }

    fn compare(
        &self,
        answer: &Result<Vec<RecordBatch>, headwater::Error>,
        select: &str,
    ) -> Result<(), Failed> {
        match (answer, batch::answer(&self.tables, select)) {
            (Err(_), Err(_)) => Ok(()),
            (Ok(_), Err(error)) => Err(format!("only the batch fails: {error}").into()),
            (Err(error), Ok(_)) => Err(format!("only the stream fails: {error}").into()),
            (Ok(rows), Ok(expected)) => {
                let difference = Rows::of(rows).difference(Rows::of(&expected.batches));
                let types = rows
                    .first()
                    .and_then(|rows| batch::type_difference(rows.schema_ref(), &expected.schema));
                match difference.or(types) {
                    Some(difference) => Err(format!("not the batch answer:\n{difference}").into()),
                    None => Ok(()),
                }
            }
        }
    }
}

/// The SELECT as a batch query; `None` if it has windows that have no name there.
fn in_batch(select: &str) -> Option<String> {
    let upper = select.to_uppercase();
    if upper.contains("HOP(") || upper.contains("SESSION(") {
        return None;
    }
    let Some(at) = upper.find("TUMBLE(") else {
        return Some(select.to_owned());
    };
    if upper[..at].contains("(SELECT") {
        return None;
    }
    let inside = &select[at + "TUMBLE(".len()..];
    let inside = &inside[..inside.find(')')?];
    let (time, length) = inside.split_once(',')?;
    let start = format!("DATE_BIN({length}, {time})");
    let end = format!("({start} + {length})");
    let select = select.replace(&format!("TUMBLE({inside})"), &format!("{start}, {end}"));
    let named = |select: String, name: &str, expression: &str| {
        // In the SELECT list it keeps its name, elsewhere it is the expression.
        let select = select.replace(&format!("{name},"), &format!("{expression} AS {name},"));
        select.replace(&format!("{name} "), &format!("{expression} "))
    };
    Some(named(
        named(select, "window_start", &start),
        "window_end",
        &end,
    ))
}

fn types(count: usize) -> Vec<DefaultColumnType> {
    vec![DefaultColumnType::Text; count]
}

fn shown(schema: &Schema, batches: &[RecordBatch]) -> Result<Answer, Failed> {
    let options = FormatOptions::default();
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| {
                if column.is_null(row) {
                    return Ok("NULL".to_owned());
                }
                let cell = ArrayFormatter::try_new(column, &options)?;
                let cell = cell.value(row).try_to_string()?;
                Ok(if cell.is_empty() {
                    "(empty)".to_owned()
                } else {
                    cell
                })
            });
            let cells = cells.collect::<Result<Vec<_>, arrow::error::ArrowError>>();
            rows.push(cells.map_err(|error| error.to_string())?);
        }
    }
    Ok(DBOutput::Rows {
        types: types(schema.fields().len()),
        rows,
    })
}

impl sqllogictest::DB for Script {
    type Error = Failed;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, sql: &str) -> Result<Answer, Failed> {
        self.directive(sql)
    }

    fn error_sql_state(error: &Failed) -> Option<String> {
        match error {
            Failed::Engine(error) => Some(error.sql_errors().first()?.sqlstate.to_owned()),
            Failed::Script(_) => None,
        }
    }

    fn shutdown(&mut self) {
        self.db.close();
    }
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let entries = std::fs::read_dir(folder).expect("the folder is part of the crate");
    let mut files: Vec<_> = entries.map(|it| it.expect("readable").path()).collect();
    files.retain(|it| it.extension().is_some_and(|it| it == "slt"));
    files.sort();
    files
}

#[test]
fn scripts_say_what_happens() {
    let only = std::env::var("HEADWATER_SLT_ONLY").unwrap_or_default();
    let update = std::env::var_os("HEADWATER_SLT_UPDATE").is_some();
    let mut wrong = Vec::new();
    for file in scripts()
        .iter()
        .filter(|it| it.to_string_lossy().contains(&only))
    {
        for workers in [1, 2] {
            let mut runner = Runner::new(|| async { Ok(Script::new(workers)) });
            if update && workers == 1 {
                let updated = futures_util::FutureExt::now_or_never(runner.update_test_file(
                    file,
                    " ",
                    sqllogictest::default_validator,
                    sqllogictest::default_normalizer,
                    sqllogictest::default_column_validator,
                ));
                updated.expect("nothing to wait for").expect("written");
                continue;
            }
            if let Err(error) = runner.run_file(file) {
                wrong.push(format!("with {workers} worker(s): {error}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What `statements.slt` promises: at least 200 statements, each answered or refused.
#[test]
fn two_hundred_ordinary_statements_are_answered_or_refused() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt/statements.slt");
    let text = std::fs::read_to_string(file).expect("the file is part of the crate");
    let refused = text.matches("\nquery error").count();
    let answered = text.matches("\nquery ").count() - refused;
    println!("{answered} answered, {refused} refused");
    assert!(answered + refused >= 200);
    assert!(answered > refused);
}
