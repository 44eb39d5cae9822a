//! The types that a query names, where DataFusion would take others or ignore a length.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{CharacterLength, DataType as Sql};

use crate::sql::functions::external;
use crate::sql::types::arrow_type;
use crate::sql::{SqlError, sqlstate};

/// The key of the metadata of a type that has a length.
const LENGTH: &str = "length";

/// Finds the types of casts and typed literals.
#[derive(Debug)]
pub(in crate::sql) struct SqlTypes;

impl TypePlanner for SqlTypes {
    fn plan_type_field(&self, sql: &Sql) -> Result<Option<FieldRef>> {
        let found = match sql {
            // As the columns of a source.
            Sql::Timestamp(..) | Sql::Datetime(_) | Sql::TimestampNtz(_) => {
                arrow_type(sql).map_err(external)?
            }
            Sql::Varchar(Some(length))
            | Sql::Nvarchar(Some(length))
            | Sql::CharVarying(Some(length))
            | Sql::CharacterVarying(Some(length)) => return limited_text(*length).map(Some),
            Sql::Char(_) | Sql::Character(_) => {
                let error =
                    SqlError::not_built(format!("a cast to {sql}, which pads with blanks,"));
                return Err(external(error.hint("Write VARCHAR, or RPAD for blanks.")));
            }
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(Field::new("", found, true))))
    }
}

fn limited_text(length: CharacterLength) -> Result<FieldRef> {
    match length {
        CharacterLength::IntegerLength { length: 0, .. } => {
            let message = "length for type varchar must be at least 1";
            Err(external(SqlError::new(
                sqlstate::INVALID_PARAMETER,
                message,
            )))
        }
        CharacterLength::IntegerLength { length, .. } => Ok(text_of(length)),
        CharacterLength::Max => Ok(Arc::new(Field::new("", DataType::Utf8, true))),
    }
}

/// The type of a text of at most this many characters.
pub(super) fn text_of(length: u64) -> FieldRef {
    let length = HashMap::from([(LENGTH.to_owned(), length.to_string())]);
    Arc::new(Field::new("", DataType::Utf8, true).with_metadata(length))
}

/// The length of `VARCHAR(length)`, characters.
pub(in crate::sql) fn length_of(field: &Field) -> Option<usize> {
    field.metadata().get(LENGTH)?.parse().ok()
}
