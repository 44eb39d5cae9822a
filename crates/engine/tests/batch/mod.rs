//! DataFusion's batch answer to a query over rows in memory, and whether a stream gave the same.
//!
//! Answers are compared as multisets of rows: order does not count, nor does the order within a
//! list (`array_agg`), nor the last digits of a float, which depend on the order of addition. Types
//! count, and so does everything else.

#![allow(dead_code)] // Each test program uses some of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::csv::ReaderBuilder;
use datafusion::arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int64Type, SchemaRef,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use headwater::sql::functions;
use headwater::sql::numbers::with_exact_numbers;

/// How far floats may differ, as a part of the greater one; below 1, absolutely.
const TOLERANCE: f64 = 1e-9;

/// Rows of a name.
#[derive(Debug, Clone)]
pub struct Table {
    pub name: String,
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

/// What a query gave.
#[derive(Debug, Clone)]
pub struct Answer {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

/// Lines of CSV as rows; `NULL` is NULL.
pub fn from_csv(schema: &SchemaRef, lines: &str) -> Result<Vec<RecordBatch>, String> {
    let null = "^NULL$".parse().expect("a pattern");
    let reader = ReaderBuilder::new(Arc::clone(schema))
        .with_null_regex(null)
        .build(lines.as_bytes());
    let rows = reader.and_then(Iterator::collect);
    rows.map_err(|error| error.to_string())
}

/// A batch session that reads SQL as the engine does: names as declared, text as Utf8.
fn session(tables: &[Table]) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(1);
    let parser = &mut config.options_mut().sql_parser;
    parser.enable_ident_normalization = false;
    parser.map_string_types_to_utf8view = false;
    let builder = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features();
    // Numbers are not DataFusion's own here, or a sum that wraps would be the right answer.
    let mut session = SessionContext::new_with_state(with_exact_numbers(builder).build());
    functions::register(&mut session);
    // It sums sums, and so gives decimals more digits than SUM has by itself.
    session.remove_optimizer_rule("single_distinct_aggregation_to_group_by");
    for table in tables {
        let rows = vec![table.batches.iter().map(canonical).collect()];
        let rows = MemTable::try_new(Arc::clone(&table.schema), rows).expect("rows of the schema");
        let name = datafusion::common::TableReference::bare(table.name.clone());
        session
            .register_table(name, Arc::new(rows))
            .expect("a name of its own");
    }
    session
}

/// The rows as a source takes them: with one NaN and without -0.0.
fn canonical(rows: &RecordBatch) -> RecordBatch {
    let columns = rows.columns().iter().map(|column| -> ArrayRef {
        let one = |float: f64| {
            if float.is_nan() {
                f64::NAN
            } else {
                float + 0.0
            }
        };
        match column.data_type() {
            DataType::Float64 => {
                let floats: Float64Array = column.as_primitive::<Float64Type>().unary(one);
                Arc::new(floats)
            }
            DataType::Float32 => {
                let floats: Float32Array = column
                    .as_primitive::<Float32Type>()
                    .unary(|float| one(f64::from(float)) as f32);
                Arc::new(floats)
            }
            _ => Arc::clone(column),
        }
    });
    RecordBatch::try_new(rows.schema(), columns.collect()).expect("the same types")
}

/// The batch answer, or DataFusion's error.
pub fn answer(tables: &[Table], sql: &str) -> Result<Answer, String> {
    let run = async {
        let frame = session(tables).sql(sql).await?;
        let context = Arc::new(frame.task_ctx());
        // The types are known once they have been coerced.
        let plan = frame.create_physical_plan().await?;
        let schema = plan.schema();
        let batches = datafusion::physical_plan::collect(plan, context).await?;
        Ok::<_, datafusion::error::DataFusionError>(Answer { schema, batches })
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without I/O");
    runtime
        .block_on(run)
        .map_err(|error| error.strip_backtrace())
}

/// One value, ready to be compared.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Float(f64),
    Exact(String),
    List(Vec<Cell>),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Exact(text) => f.write_str(text),
            Self::List(cells) => {
                let cells: Vec<_> = cells.iter().map(Cell::to_string).collect();
                write!(f, "[{}]", cells.join(", "))
            }
        }
    }
}

impl Cell {
    fn read(column: &ArrayRef, row: usize) -> Self {
        if column.is_null(row) {
            return Self::Null;
        }
        match column.data_type() {
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                let float = cast(&column.slice(row, 1), &DataType::Float64).expect("a float");
                Self::Float(float.as_primitive::<Float64Type>().value(0))
            }
            DataType::List(_) => {
                let list = column.as_list::<i32>().value(row);
                let mut cells: Vec<_> = (0..list.len()).map(|at| Self::read(&list, at)).collect();
                cells.sort_by_key(Self::to_string);
                Self::List(cells)
            }
            _ => {
                let options = FormatOptions::default();
                let text = ArrayFormatter::try_new(column, &options).expect("a known type");
                // A time outside of the calendar cannot be written; its number can.
                let written = text.value(row).try_to_string();
                Self::Exact(written.unwrap_or_else(|_| Self::number(column, row)))
            }
        }
    }

    fn number(column: &ArrayRef, row: usize) -> String {
        let number = cast(&column.slice(row, 1), &DataType::Int64);
        number.map_or("?".into(), |number| {
            number.as_primitive::<Int64Type>().value(0).to_string()
        })
    }

    /// Equal in all but the last digits of floats.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => {
                let close = (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0);
                a == b || (a.is_finite() && b.is_finite() && close) || (a.is_nan() && b.is_nan())
            }
            (Self::List(a), Self::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_like(b))
            }
            (a, b) => a == b,
        }
    }

    /// What rows that are alike have in common.
    fn outline(&self) -> String {
        match self {
            Self::Null => "\u{0}".into(),
            Self::Float(_) => "~".into(),
            Self::Exact(text) => text.clone(),
            Self::List(cells) => cells
                .iter()
                .map(Self::outline)
                .collect::<Vec<_>>()
                .join(","),
        }
    }
}

type Row = Vec<Cell>;

fn show(row: &[Cell]) -> String {
    let cells: Vec<_> = row.iter().map(Cell::to_string).collect();
    cells.join(" | ")
}

/// Rows with how often each is there.
#[derive(Debug, Default)]
pub struct Rows(HashMap<String, Vec<(Row, i64)>>);

impl Rows {
    /// The rows of batches.
    pub fn of(batches: &[RecordBatch]) -> Self {
        let mut rows = Self::default();
        for batch in batches {
            (0..batch.num_rows()).for_each(|row| rows.add(read(batch.columns(), row), 1));
        }
        rows
    }

    /// The net rows of batches whose last column is the diff.
    pub fn net(batches: &[RecordBatch]) -> Self {
        let mut rows = Self::default();
        for batch in batches {
            let (diff, columns) = batch.columns().split_last().expect("a diff");
            let diff = diff.as_primitive::<Int8Type>();
            for row in 0..batch.num_rows() {
                rows.add(read(columns, row), i64::from(diff.value(row)));
            }
        }
        rows
    }

    fn add(&mut self, row: Row, times: i64) {
        let outline = row.iter().map(Cell::outline).collect::<Vec<_>>().join("|");
        let alike = self.0.entry(outline).or_default();
        let like = |known: &[Cell]| known.iter().zip(&row).all(|(a, b)| a.is_like(b));
        match alike.iter_mut().find(|(known, _)| like(known)) {
            Some((_, count)) => *count += times,
            None => alike.push((row, times)),
        }
    }

    /// The rows as text, each as often as it is there.
    pub fn lines(self) -> Vec<Vec<String>> {
        let rows = self.0.into_values().flatten();
        let rows = rows.flat_map(|(row, count)| {
            let cells: Vec<_> = row.iter().map(Cell::to_string).collect();
            std::iter::repeat_n(cells, usize::try_from(count).unwrap_or(0))
        });
        rows.collect()
    }

    /// What is in one and not in the other, line by line; `None` if nothing is.
    pub fn difference(self, expected: Self) -> Option<String> {
        let mut both = self;
        for (row, count) in expected.0.into_values().flatten() {
            both.add(row, -count);
        }
        let mut lines: Vec<_> = both
            .0
            .into_values()
            .flatten()
            .filter(|(_, n)| *n != 0)
            .collect();
        lines.sort_by_key(|(row, _)| show(row));
        let lines: Vec<_> = lines
            .iter()
            .map(|(row, count)| match count {
                0.. => format!("  only the stream has {count} of  {}", show(row)),
                _ => format!("  only the batch has  {} of  {}", -count, show(row)),
            })
            .collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

fn read(columns: &[ArrayRef], row: usize) -> Row {
    columns
        .iter()
        .map(|column| Cell::read(column, row))
        .collect()
}

/// Where the types of two answers differ.
pub fn type_difference(stream: &SchemaRef, batch: &SchemaRef) -> Option<String> {
    let types = |schema: &SchemaRef| -> Vec<DataType> {
        let fields = schema.fields().iter();
        fields.map(|field| field.data_type().clone()).collect()
    };
    let (stream, batch) = (types(stream), types(batch));
    (stream != batch).then(|| format!("  the stream has {stream:?}\n  the batch has  {batch:?}"))
}
