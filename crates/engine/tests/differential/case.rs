//! One case: sources, the order in which their rows come, and queries; all from one seed.

use std::fmt;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::aggregate::care_of;
use crate::batch::{Table, answer};
use crate::data::{Care, Column, Source};
use crate::query::{Grammar, Query, Relation, is_usable};
use crate::windows;

/// What happens to the sources.
#[derive(Debug, Clone)]
pub enum Event {
    Push {
        source: usize,
        rows: RecordBatch,
    },
    /// All that was pushed is processed before what comes next.
    Settle,
}

#[derive(Debug, Clone)]
pub struct Case {
    pub seed: u64,
    pub workers: usize,
    pub sources: Vec<Source>,
    pub queries: Vec<Query>,
    pub events: Vec<Event>,
    /// Whether each push is a step of its own, without a [`Event::Settle`].
    pub stepwise: bool,
}

impl Case {
    pub fn random(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let rng = &mut rng;
        let count = if rng.random_bool(0.3) { 2 } else { 1 };
        let (mut time, mut shape) = Source::shape(rng);
        let mut sources = Vec::new();
        for number in 0..count {
            if rng.random_bool(0.2) {
                (time, shape) = Source::shape(rng);
            }
            sources.push(Source::random(&format!("s{number}"), &time, &shape, rng));
        }
        let stepwise = rng.random_bool(0.5);
        let queries = queries(&sources, stepwise, rng);
        let events = events(&sources, stepwise, rng);
        let workers = rng.random_range(1..=2);
        Self {
            seed,
            workers,
            sources,
            queries,
            events,
            stepwise,
        }
    }

    /// The rows of each source, whatever the cuts.
    pub fn tables(&self) -> Vec<Table> {
        let tables = self.sources.iter().enumerate().map(|(number, source)| {
            let pushed = self.events.iter().filter_map(|event| match event {
                Event::Push { source, rows } if *source == number => Some(rows.clone()),
                _ => None,
            });
            Table {
                name: source.name.clone(),
                schema: source.schema(),
                batches: pushed.collect(),
            }
        });
        tables.collect()
    }
}

fn relation(source: &Source) -> Relation {
    Relation {
        name: source.name.clone(),
        columns: source.columns.clone(),
        time: Some("ts".into()),
        has_id: true,
        changes: false,
        orderly: !source.disorder,
    }
}

fn queries(sources: &[Source], stepwise: bool, rng: &mut StdRng) -> Vec<Query> {
    let mut relations: Vec<_> = sources.iter().map(relation).collect();
    let mut tables: Vec<_> = sources
        .iter()
        .map(|it| Table {
            name: it.name.clone(),
            schema: it.schema(),
            batches: Vec::new(),
        })
        .collect();
    let mut queries = Vec::new();
    for number in 0..rng.random_range(2..6) {
        let grammar = &mut Grammar {
            relations: &relations,
            stepwise,
            rng,
        };
        let query = grammar.query(&format!("q{number}"));
        if let Some(relation) = as_relation(&query, &mut tables) {
            relations.push(relation);
        }
        queries.push(query);
    }
    queries
}

/// The columns that later queries can read of this one, with the types that DataFusion gives them.
fn as_relation(query: &Query, tables: &mut Vec<Table>) -> Option<Relation> {
    if let Some(window) = &query.window {
        tables.push(windows::table(
            query.windows_table(),
            &[],
            &window.time_type,
        ));
    }
    let schema = answer(tables, &query.batch).ok()?.schema;
    let columns = schema
        .fields()
        .iter()
        .zip(&query.cares)
        .map(|(field, care)| Column {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            nullable: field.is_nullable(),
            care: care.unwrap_or_else(|| care_of(field.data_type())),
        });
    let columns: Vec<Column> = columns.filter(|it| is_usable(&it.data_type)).collect();
    let name = query.name.clone();
    tables.push(Table {
        name,
        schema,
        batches: Vec::new(),
    });
    let usable = columns.iter().any(|it| it.care != Care::Noisy);
    usable.then(|| Relation {
        name: query.name.clone(),
        columns,
        time: query.time.clone(),
        has_id: query.has_id,
        changes: query.changes,
        orderly: query.orderly,
    })
}

fn events(sources: &[Source], stepwise: bool, rng: &mut StdRng) -> Vec<Event> {
    let mut left: Vec<RecordBatch> = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        let most = if rng.random_bool(0.05) { 3_000 } else { 120 };
        let count = if rng.random_bool(0.05) {
            0
        } else {
            rng.random_range(1..most)
        };
        left.push(source.rows(number as i64 * 10_000, count, rng));
    }
    let longest = if rng.random_bool(0.5) { 8 } else { 200 };
    let mut events = Vec::new();
    while left.iter().any(|rows| rows.num_rows() > 0) {
        let source = rng.random_range(0..sources.len());
        let rows = &left[source];
        let cut = rng.random_range(0..=longest).min(rows.num_rows());
        events.push(Event::Push {
            source,
            rows: rows.slice(0, cut),
        });
        left[source] = rows.slice(cut, rows.num_rows() - cut);
        if !stepwise && rng.random_bool(0.3) {
            events.push(Event::Settle);
        }
    }
    events
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} worker(s)", self.seed, self.workers)?;
        for source in &self.sources {
            writeln!(f, "{};", source.create)?;
        }
        for query in &self.queries {
            writeln!(f, "{};", query.create())?;
        }
        for event in &self.events {
            match event {
                Event::Settle => writeln!(f, "-- settle")?,
                Event::Push { source, rows } => {
                    let table = pretty_format_batches(std::slice::from_ref(rows));
                    let table =
                        table.map_or_else(|_| format!("{rows:?}"), |table| table.to_string());
                    writeln!(f, "-- push into {}\n{table}", self.sources[*source].name)?;
                }
            }
        }
        Ok(())
    }
}
