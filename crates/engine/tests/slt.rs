//! SQL behaviour as data: runs every script in `slt/` with one worker and with two.
//!
//! A script is in the format of sqllogictest. Beside SQL, a record may be one of
//!
//! | record | what it does |
//! |---|---|
//! | `push NAME`, then lines of CSV | pushes the lines into the source, one step; `NULL` is NULL |
//! | `watermark NAME TIME` | sets the watermark of the source |
//! | `close NAME` | ends the source, so that all windows close |
//! | `results NAME` | the net rows that a source, stream, view, `__late`, `__bad` or `__dead` has given since it was created |
//!
//! `HEADWATER_SLT_UPDATE=1` writes the answers into the scripts; check the diff. Statements whose
//! answers a batch engine knows too are in `statements/`.

mod batch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::Schema;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use headwater::{Db, Event, Outcome, Subscription};
use sqllogictest::{DBOutput, DefaultColumnType, Runner};

use batch::Rows;

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
    db: Db,
    given: BTreeMap<String, Given>,
}

impl Script {
    fn new(workers: usize) -> Self {
        Self {
            db: Db::builder()
                .workers(workers)
                .in_memory()
                .expect("a database"),
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
            _ => self.execute(sql),
        }
    }

    fn execute(&mut self, sql: &str) -> Result<Answer, Failed> {
        let mut answer = DBOutput::StatementComplete(0);
        for outcome in self.db.execute(sql)? {
            match outcome {
                Outcome::Created { name, .. } => self.created(&name),
                Outcome::Rows {
                    schema, batches, ..
                } => answer = shown(&schema, &batches)?,
                Outcome::Dropped { names } => self.given.retain(|name, _| !names.contains(name)),
                Outcome::Unchanged { .. }
                | Outcome::Altered { .. }
                | Outcome::Started { .. }
                | Outcome::Lifecycle { .. }
                | Outcome::Subscribed { .. }
                | Outcome::Replayed(_) => {}
            }
        }
        Ok(answer)
    }

    /// Subscribes to what was created, and to its late and bad rows.
    fn created(&mut self, name: &str) {
        for name in ["", "__late", "__bad", "__dead"].map(|suffix| format!("{name}{suffix}")) {
            if let Ok(events) = self.db.subscribe_batches(&name) {
                let batches = Vec::new();
                self.given.insert(name, Given { events, batches });
            }
        }
    }

    fn push(&mut self, text: &str) -> Result<Answer, Failed> {
        let (name, lines) = text.split_once('\n').unwrap_or((text, ""));
        let source = self.db.source_untyped(name.trim())?;
        let mut pushed = 0;
        for rows in batch::from_csv(source.schema(), lines)? {
            pushed += rows.num_rows();
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
