//! The tables of the schema `system`: their names and columns, and a batch of their rows.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use headwater_connect::shown::without_url_secrets;

pub(crate) const SYSTEM_SCHEMA: &str = "system";

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
    pub name: &'static str,
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
                ("dead_letters", CellType::Count),
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
        let schema = self.schema();
        if rows.is_empty() {
            return RecordBatch::new_empty(schema);
        }
        let cells = |number: usize| rows.iter().map(move |row| row[number].scalar());
        let columns =
            (0..self.columns.len()).map(|number| ScalarValue::iter_to_array(cells(number)));
        let columns = columns.collect::<Result<Vec<_>, _>>();
        let columns = columns.expect("a column has cells of one type");
        RecordBatch::try_new(schema, columns).expect("the schema has the types of the cells")
    }
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Some(text.into()))
    }

    fn scalar(&self) -> ScalarValue {
        match self {
            // A reason may quote a URL, also one that a peer sent.
            Self::Text(text) => {
                let shown = text.as_deref().map(without_url_secrets);
                ScalarValue::Utf8(shown.map(Cow::into_owned))
            }
            Self::Count(count) => ScalarValue::Int64(Some((*count).try_into().unwrap_or(i64::MAX))),
            Self::Seconds(seconds) => ScalarValue::Float64(*seconds),
            Self::Time(us) => ScalarValue::TimestampMicrosecond(*us, None),
        }
    }
}
