//! Whether columns match the columns that are expected, with every difference.
//!
//! Columns are compared by name, type and nullability; metadata is ignored. The report is complete:
//! it names every difference, so that all of them can be fixed at once. Values are not compared; see
//! [`RecordError`](super::RecordError) for those.

use std::fmt;

use arrow::datatypes::{DataType, Field, Schema};

/// The differences between expected and actual columns; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// In the order of the expected columns, then the unexpected ones.
    pub differences: Vec<Difference>,
}

/// One column that differs from what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Difference {
    /// The column is expected and absent.
    #[error("column {column:?} of type {expected} is missing{}", did_you_mean(.similar))]
    Missing {
        /// The name of the column.
        column: String,
        /// The type that is expected.
        expected: DataType,
        /// An existing column whose name differs in case only.
        similar: Option<String>,
    },
    /// The column is there and not expected.
    #[error("column {column:?} is not expected")]
    Unexpected {
        /// The name of the column.
        column: String,
    },
    /// The column has another type.
    #[error("column {column:?} is {got} where {expected} is expected{}", zones(.expected, .got))]
    Type {
        /// The name of the column.
        column: String,
        /// The type that is expected.
        expected: DataType,
        /// The type that the column has.
        got: DataType,
    },
    /// The column can hold NULL, and NOT NULL is expected.
    #[error("column {column:?} may be NULL where NOT NULL is expected")]
    Nullable {
        /// The name of the column.
        column: String,
    },
    /// All columns are there, this one at another index.
    #[error("column {column:?} is number {got} where it is expected as number {expected}")]
    Moved {
        /// The name of the column.
        column: String,
        /// The expected number, counted from 1.
        expected: usize,
        /// The actual number, counted from 1.
        got: usize,
    },
}

/// Checks that rows of the schema `got` can be used where `expected` is declared.
///
/// Names, types and order must be the same. A NOT NULL column fits a nullable one, not the other
/// way round. If this is `Ok`, `RecordBatch::with_schema` changes the schema at no cost.
///
/// # Errors
///
/// Every column that differs.
pub fn matches(expected: &Schema, got: &Schema) -> Result<(), Mismatch> {
    if expected.fields() == got.fields() {
        return Ok(());
    }
    let mut differences = missing(expected, got);
    differences.extend(unexpected(expected, got));
    if differences.is_empty() {
        differences = moved(expected, got);
    }
    differences.extend(changed(expected, got));
    Mismatch::check(differences)
}

impl Mismatch {
    /// Fails if there is any difference.
    pub(super) fn check(differences: Vec<Difference>) -> Result<(), Self> {
        match differences.is_empty() {
            true => Ok(()),
            false => Err(Self { differences }),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, difference) in self.differences.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{difference}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mismatch {}

impl Difference {
    /// The column `name` is not among those of `got`.
    pub(super) fn missing(name: &str, expected: &DataType, got: &Schema) -> Self {
        let similar = |field: &&std::sync::Arc<Field>| field.name().eq_ignore_ascii_case(name);
        Self::Missing {
            column: name.to_owned(),
            expected: expected.clone(),
            similar: got.fields().iter().find(similar).map(|f| f.name().clone()),
        }
    }
}

fn did_you_mean(similar: &Option<String>) -> String {
    match similar {
        Some(name) => format!(", there is {name:?}"),
        None => String::new(),
    }
}

/// What to do where one of two timestamps has a zone.
fn zones(expected: &DataType, got: &DataType) -> &'static str {
    match (expected, got) {
        (DataType::Timestamp(_, None), DataType::Timestamp(_, Some(_)))
        | (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, None)) => {
            " (a field of a struct is a TIMESTAMP: declare the column as one, or push Arrow batches into the TIMESTAMPTZ)"
        }
        _ => "",
    }
}

fn missing(expected: &Schema, got: &Schema) -> Vec<Difference> {
    let absent = expected
        .fields()
        .iter()
        .filter(|f| got.index_of(f.name()).is_err());
    absent
        .map(|f| Difference::missing(f.name(), f.data_type(), got))
        .collect()
}

/// Columns of `got` whose name is not expected or is that of an earlier column.
fn unexpected(expected: &Schema, got: &Schema) -> Vec<Difference> {
    let is_first = |i: usize, f: &Field| got.index_of(f.name()).is_ok_and(|first| first == i);
    let fields = got.fields().iter().enumerate();
    fields
        .filter(|(i, f)| expected.index_of(f.name()).is_err() || !is_first(*i, f))
        .map(|(_, f)| Difference::Unexpected {
            column: f.name().clone(),
        })
        .collect()
}

fn moved(expected: &Schema, got: &Schema) -> Vec<Difference> {
    let columns = expected.fields().iter().enumerate();
    columns
        .filter_map(|(i, f)| Some((i, f, got.index_of(f.name()).ok()?)))
        .filter(|(i, _, index)| i != index)
        .map(|(i, f, index)| Difference::Moved {
            column: f.name().clone(),
            expected: i + 1,
            got: index + 1,
        })
        .collect()
}

/// Columns with the same name and another type or nullability.
fn changed(expected: &Schema, got: &Schema) -> Vec<Difference> {
    let mut differences = Vec::new();
    for want in expected.fields() {
        let Ok(have) = got.field_with_name(want.name()) else {
            continue;
        };
        let column = want.name().clone();
        if want.data_type() != have.data_type() {
            differences.push(Difference::Type {
                column,
                expected: want.data_type().clone(),
                got: have.data_type().clone(),
            });
        } else if have.is_nullable() && !want.is_nullable() {
            differences.push(Difference::Nullable { column });
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    fn schema(columns: &[(&str, DataType, bool)]) -> Schema {
        let field = |(name, data_type, nullable): &(&str, DataType, bool)| {
            Field::new(*name, data_type.clone(), *nullable)
        };
        Schema::new(columns.iter().map(field).collect::<Vec<_>>())
    }

    fn mismatch(expected: &Schema, got: &Schema) -> String {
        let Err(mismatch) = matches(expected, got) else {
            return String::new();
        };
        mismatch.to_string()
    }

    #[test]
    fn schemas_match_up_to_stricter_columns() {
        use DataType::{Float64, Int64, Utf8};
        let strict = schema(&[("a", Int64, false), ("b", Utf8, false)]);
        let loose = schema(&[("a", Int64, true), ("b", Utf8, false)]);
        assert_eq!(mismatch(&strict, &strict), "");
        assert_eq!(mismatch(&loose, &strict), "");
        assert_eq!(
            mismatch(&strict, &loose),
            "column \"a\" may be NULL where NOT NULL is expected"
        );

        let other = schema(&[
            ("A", Int64, false),
            ("b", Float64, true),
            ("b", Utf8, false),
        ]);
        let expected = Mismatch {
            differences: vec![
                Difference::Missing {
                    column: "a".into(),
                    expected: Int64,
                    similar: Some("A".into()),
                },
                Difference::Unexpected { column: "A".into() },
                Difference::Unexpected { column: "b".into() },
                Difference::Type {
                    column: "b".into(),
                    expected: Utf8,
                    got: Float64,
                },
            ],
        };
        assert_eq!(matches(&strict, &other), Err(expected));
        let time = |zone: Option<&str>| {
            let zone = zone.map(Into::into);
            schema(&[("t", DataType::Timestamp(TimeUnit::Microsecond, zone), false)])
        };
        let zoned = mismatch(&time(Some("+00:00")), &time(None));
        assert!(zoned.contains("push Arrow batches"), "{zoned}");
        let turned = schema(&[("b", Utf8, false), ("a", Int64, false)]);
        let expected = "column \"a\" is number 2 where it is expected as number 1; \
                    column \"b\" is number 1 where it is expected as number 2";
        assert_eq!(mismatch(&strict, &turned), expected);
    }
}
