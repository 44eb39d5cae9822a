//! Asks PostgreSQL about one query of a case, and compares its answer with the engine's.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};

use super::dialect::{Asked, Columns, translate, windows};
use super::notes::Key;
use super::{Postgres, Refusal, values};
use crate::batch::{Rows, Table};
use crate::query::{Query, Windows};

/// The second oracle, if there is one.
pub type Second = Option<Arc<Mutex<Postgres>>>;

/// What the engine gave in the end.
pub struct Outcome<'a> {
    /// With `_diff` as the last column if `changes`.
    pub rows: Result<&'a [RecordBatch], &'a Failure>,
    pub schema: &'a SchemaRef,
    pub changes: bool,
}

/// Why a query of ours failed.
#[derive(Debug, Clone)]
pub struct Failure {
    pub sqlstate: Option<String>,
    pub reason: String,
}

/// PostgreSQL with the tables of one case.
pub struct Asking<'a> {
    postgres: MutexGuard<'a, Postgres>,
    /// What was uploaded, with the columns that cannot be asked about.
    loaded: HashMap<String, Columns>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        for table in self.loaded.keys() {
            let _ = self.postgres.run(&format!("DROP TABLE {table};"));
        }
    }
}

impl<'a> Asking<'a> {
    pub fn new(second: &'a Mutex<Postgres>) -> Self {
        // A case that has failed leaves it as it was.
        let postgres = second
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Self {
            postgres,
            loaded: HashMap::new(),
        }
    }

    /// What is wrong with the engine's answer, if PostgreSQL can be asked.
    pub fn check(
        &mut self,
        tables: &[Table],
        query: &Query,
        late: &[i64],
        given: &Outcome<'_>,
    ) -> Result<(), String> {
        let asked = match self.words(tables, query, late) {
            Ok(asked) => asked,
            Err(reasons) => {
                self.postgres.counts.not_asked += 1;
                let counts = &mut self.postgres.counts;
                reasons.into_iter().for_each(|key| counts.meet(key));
                return Ok(());
            }
        };
        let answer = self.postgres.ask(&asked.sql);
        let width = given.schema.fields().len() - usize::from(given.changes);
        let all = asked.kept.len() == width;
        let counts = &mut self.postgres.counts;
        match (given.rows, answer) {
            (_, Err(refusal)) if refusal.is_static() => {
                counts.not_asked += 1;
                counts.refuse(&refusal.message);
                Ok(())
            }
            (Err(_), _) if !all => {
                counts.not_asked += 1;
                Ok(())
            }
            (Err(ours), Err(theirs)) => {
                counts.failed_both += 1;
                same_state(ours, &theirs)
            }
            (Err(ours), Ok(_)) => Err(format!(
                "  only the stream fails: {}\n{}",
                ours.reason,
                described(&asked)
            )),
            (Ok(_), Err(theirs)) => Err(format!(
                "  only PostgreSQL fails: {} {}\n{}",
                theirs.sqlstate,
                theirs.message,
                described(&asked)
            )),
            (Ok(batches), Ok(rows)) => {
                let (schema, ours) = projected(given, batches, &asked.kept);
                let theirs = values::read(&rows, &schema)
                    .map_err(|what| format!("{what}\n{}", described(&asked)))?;
                compare(&schema, &ours, &theirs, given.changes, &asked)?;
                counts.agreed += 1;
                if values::has_more_digits(&rows, &schema) {
                    counts.meet("scale");
                }
                counts.columns_left_out += width - asked.kept.len();
                Ok(())
            }
        }
    }

    fn words(
        &mut self,
        tables: &[Table],
        query: &Query,
        late: &[i64],
    ) -> Result<Asked, BTreeSet<Key>> {
        for table in tables.iter().filter(|it| query.reads.contains(&it.name)) {
            if !self.loaded.contains_key(&table.name) {
                let (upload, columns) = values::upload(table);
                let done = self.postgres.run(&upload);
                assert!(done.is_ok(), "{done:?}\n{upload}");
                self.loaded.insert(table.name.clone(), columns);
            }
        }
        let mut columns = Columns::default();
        for read in &query.reads {
            columns.extend(self.loaded[read].clone());
        }
        let counts = &mut self.postgres.counts;
        let mut asked = translate(&query.batch, &columns, counts)?;
        if let Some(window) = &query.window {
            let time = columns
                .blocked
                .iter()
                .find(|(name, _)| *name == window.time);
            if let Some((_, key)) = time {
                return Err([*key].into());
            }
            if matches!(window.windows, Windows::Hop { .. }) && !window.orderly {
                return Err(["partly late"].into());
            }
            if !late.is_empty() {
                counts.meet("late");
            }
            let rows = match window.windows {
                Windows::Session { .. } => translate(&window.rows, &columns, counts)?.sql,
                _ => String::new(),
            };
            let join = format!("JOIN {} ON id = __id", query.windows_table());
            assert!(asked.sql.contains(&join), "{}", asked.sql);
            asked.sql = asked.sql.replace(&join, &windows(window, &rows, late));
        }
        Ok(asked)
    }
}

fn described(asked: &Asked) -> String {
    format!("  PostgreSQL was asked: {}", asked.sql)
}

/// Both fail; where both say why, it is the same.
fn same_state(ours: &Failure, theirs: &Refusal) -> Result<(), String> {
    match &ours.sqlstate {
        Some(state) if *state != theirs.sqlstate => Err(format!(
            "  the stream fails with {state}: {}\n  PostgreSQL fails with {}: {}",
            ours.reason, theirs.sqlstate, theirs.message
        )),
        _ => Ok(()),
    }
}

fn projected(
    given: &Outcome<'_>,
    batches: &[RecordBatch],
    kept: &[usize],
) -> (SchemaRef, Vec<RecordBatch>) {
    let schema = given.schema.project(kept).expect("columns of the result");
    let mut columns = kept.to_vec();
    columns.extend(given.changes.then(|| given.schema.fields().len() - 1));
    let ours = batches
        .iter()
        .map(|it| it.project(&columns).expect("columns of the result"));
    (schema.into(), ours.collect())
}

fn compare(
    schema: &SchemaRef,
    ours: &[RecordBatch],
    theirs: &RecordBatch,
    changes: bool,
    asked: &Asked,
) -> Result<(), String> {
    let rows = |batches: &[RecordBatch]| match changes {
        true => Rows::net(batches),
        false => Rows::of(batches),
    };
    let Some(difference) = rows(ours).difference(Rows::of(std::slice::from_ref(theirs))) else {
        return Ok(());
    };
    let single = (0..asked.kept.len()).filter(|&at| {
        let columns = if changes {
            vec![at, asked.kept.len()]
        } else {
            vec![at]
        };
        let ours: Vec<_> = ours
            .iter()
            .map(|it| it.project(&columns).expect("two columns"))
            .collect();
        let theirs = theirs.project(&[at]).expect("a column");
        rows(&ours).difference(Rows::of(&[theirs])).is_some()
    });
    let single = single.map(|at| {
        let (item, field): (_, &DataType) = (&asked.items[at], schema.field(at).data_type());
        format!("  differs: {item} ({field})")
    });
    let single = single.collect::<Vec<_>>().join("\n");
    let difference = difference.replace("the batch", "PostgreSQL");
    Err(format!("{difference}\n{single}\n{}", described(asked)))
}
