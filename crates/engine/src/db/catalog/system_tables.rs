//! The tables of the schema `system`: their names and columns, and a batch of their rows.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

pub(crate) const SYSTEM_SCHEMA: &str = "system";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CellType {
    Text,
    Count,
    Seconds,
    Time,
}

/// One value of a system table; its variant is the type of its column.
pub(crate) enum Cell {
    Text(Option<String>),
    Count(u64),
    Seconds(Option<f64>),
    Time(Option<i64>),
}

/// One table: its name, and its columns in order.
pub(crate) struct SystemTable {
    name: &'static str,
    columns: &'static [(&'static str, CellType)],
}

impl SystemTable {
    pub const ALL: &[Self] = &[
        Self {
            name: "sources",
            columns: &[
                ("name", CellType::Text),
                ("connector", CellType::Text),
                ("state", CellType::Text),
                ("reason", CellType::Text),
                ("since", CellType::Time),
                ("restarts", CellType::Count),
                ("last_error", CellType::Text),
                ("rows", CellType::Count),
                ("bytes", CellType::Count),
                ("bad", CellType::Count),
                ("dropped", CellType::Count),
                ("dead_letters", CellType::Count),
                ("gaps", CellType::Count),
                ("producers", CellType::Count),
                ("last_row_at", CellType::Time),
                ("watermark", CellType::Time),
                ("lag_seconds", CellType::Seconds),
            ],
        },
        Self {
            name: "streams",
            columns: &[
                ("name", CellType::Text),
                ("kind", CellType::Text),
                ("state", CellType::Text),
                ("reason", CellType::Text),
                ("since", CellType::Time),
                ("inputs", CellType::Text),
                ("rows", CellType::Count),
                ("late", CellType::Count),
                ("watermark", CellType::Time),
                ("lag_seconds", CellType::Seconds),
                ("description", CellType::Text),
                ("query", CellType::Text),
            ],
        },
        Self {
            name: "sinks",
            columns: &[
                ("name", CellType::Text),
                ("connector", CellType::Text),
                ("input", CellType::Text),
                ("state", CellType::Text),
                ("reason", CellType::Text),
                ("last_error", CellType::Text),
                ("rows", CellType::Count),
                ("dropped", CellType::Count),
                ("dead_letters", CellType::Count),
                ("overflowed", CellType::Count),
            ],
        },
        Self {
            name: "gaps",
            columns: &[
                ("source", CellType::Text),
                ("reason", CellType::Text),
                ("from", CellType::Text),
                ("to", CellType::Text),
                ("at", CellType::Time),
            ],
        },
        Self {
            name: "errors",
            columns: &[
                ("at", CellType::Time),
                ("kind", CellType::Text),
                ("name", CellType::Text),
                ("error", CellType::Text),
            ],
        },
        Self {
            name: "connectors",
            columns: &[
                ("name", CellType::Text),
                ("source", CellType::Text),
                ("sink", CellType::Text),
                ("summary", CellType::Text),
            ],
        },
    ];

    /// The table of this name, with its schema in front: `system.sources`.
    pub fn find(name: &str) -> Option<&'static Self> {
        let (schema, name) = name.split_once('.')?;
        let found = Self::ALL.iter().find(|table| table.name == name);
        found.filter(|_| schema == SYSTEM_SCHEMA)
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn full_name(&self) -> String {
        format!("{SYSTEM_SCHEMA}.{}", self.name)
    }

    pub fn column_names(&self) -> Vec<String> {
        let names = self.columns.iter().map(|(name, _)| (*name).to_owned());
        names.collect()
    }

    fn schema(&self) -> SchemaRef {
        let fields = self.columns.iter().map(|(name, of)| match of {
            CellType::Text => Field::new(*name, DataType::Utf8, true),
            CellType::Count => Field::new(*name, DataType::Int64, false),
            CellType::Seconds => Field::new(*name, DataType::Float64, true),
            CellType::Time => Field::new(
                *name,
                DataType::Timestamp(TimeUnit::Microsecond, None),
                true,
            ),
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    pub fn batch(&self, rows: &[Vec<Cell>]) -> RecordBatch {
        let columns = self.columns.iter().enumerate();
        let columns = columns.map(|(number, (_, of))| column(*of, rows, number));
        RecordBatch::try_new(self.schema(), columns.collect())
            .expect("each row has one value for each column")
    }
}

fn column(of: CellType, rows: &[Vec<Cell>], number: usize) -> ArrayRef {
    let cells = rows.iter().map(|row| &row[number]);
    match of {
        CellType::Text => Arc::new(StringArray::from_iter(cells.map(|cell| match cell {
            Cell::Text(text) => text.as_deref(),
            _ => None,
        }))),
        CellType::Count => Arc::new(Int64Array::from_iter_values(cells.map(|cell| match cell {
            Cell::Count(count) => i64::try_from(*count).unwrap_or(i64::MAX),
            _ => 0,
        }))),
        CellType::Seconds => Arc::new(Float64Array::from_iter(cells.map(|cell| match cell {
            Cell::Seconds(seconds) => *seconds,
            _ => None,
        }))),
        CellType::Time => Arc::new(TimestampMicrosecondArray::from_iter(cells.map(
            |cell| match cell {
                Cell::Time(us) => *us,
                _ => None,
            },
        ))),
    }
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Some(text.into()))
    }
}
